# World.pm - all that can break: the cluster in its lives, the caches, the ways to them
#
# The checker knows four addresses, which never change: a socket that leads to the cluster of the
# moment, and a proxy before each cache server. What is behind them changes: another cluster takes
# over, another Redis.
package Torture::World;

use strict;
use warnings FATAL => 'all';

use Cwd qw(realpath);
use File::Path qw(rmtree);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(sleep time);
use MemcachedServer;
use Proxy;
use RedisServer;

my $patience = 120;    # seconds for anything that must come
my $hosts = 2;         # of Memcached
my $door_port = 5432;  # a name only: of the link to a socket

# Everything, started. The settings are lines for postgresql.conf.
sub new
{
	my ($class, @settings) = @_;
	my $self = bless { lives => 0, nodes => [], violations => [] }, $class;
	my $node = PostgreSQL::Test::Cluster->new('life1');

	# small segments, so that they end and go often; 1 of each is kept in a basebackup
	$node->init(allows_streaming => 1,
		extra => [ '--no-locale', '--encoding=UTF8', '--wal-segsize=1' ]);
	$node->append_conf('postgresql.conf', join("\n", q{
shared_preload_libraries = 'cachekit'
timezone = 'UTC'
max_connections = 80
max_worker_processes = 16
shared_buffers = 16MB
restart_after_crash = on
deadlock_timeout = 100ms
min_wal_size = 4MB
wal_keep_size = 256MB
wal_receiver_status_interval = 1s
wal_retrieve_retry_interval = 100ms
log_statement = none
cachekit.wal_keep = 16MB
cachekit.shutdown_timeout = 1s}, @settings));
	$node->start;
	$node->safe_psql('postgres', 'CREATE DATABASE checked');
	$self->{nodes} = [$node];
	$self->{lives} = 1;
	$self->{door} = PostgreSQL::Test::Utils::tempdir_short();
	$self->open_door($node);

	$self->{redis} = RedisServer->new('one')->start;
	$self->{spare_redis} = RedisServer->new('two');
	$self->{redis_link} = Proxy->new($self->{redis}->port)->start;
	$self->{memcached} = [ map { MemcachedServer->new($_, '-m', '64')->start } 1 .. $hosts ];
	$self->{memcached_links} = [ map { Proxy->new($_->port)->start } @{ $self->{memcached} } ];
	return $self;
}

# What the checker has to be told.
sub checker_options
{
	my ($self) = @_;

	return ('--conninfo', "host=$self->{door} port=$door_port dbname=checked",
		'--redis-at', $self->{redis_link}->address,
		'--memcached-at', join(',', map { $_->address } @{ $self->{memcached_links} }));
}

sub redis { return $_[0]{redis}; }
sub memcached { return @{ $_[0]{memcached} }; }

# Every process of a cache server.
sub caches { return ($_[0]{redis}, @{ $_[0]{memcached} }); }

# The ways to the cache servers, by name.
sub links
{
	my ($self) = @_;
	my %links = (redis => $self->{redis_link});

	$links{"memcached host $_"} = $self->{memcached_links}[$_] foreach 0 .. $hosts - 1;
	return %links;
}

# The Redis in use, and another one that runs and has nothing.
sub another_redis
{
	my ($self) = @_;

	$self->{spare_redis}->forget_dump;
	$self->{spare_redis}->start;
	return ($self->{redis}, $self->{spare_redis});
}

# From now on cachekit is led to that other one.
sub use_redis
{
	my ($self, $redis) = @_;

	$self->{redis_link}->switch_to($redis->port, 0.002);
	@$self{ 'redis', 'spare_redis' } = ($redis, $self->{redis});
	return;
}

# --- the checker ---

sub checker { return $_[0]{checker}; }
sub use_checker { my ($self, $checker) = @_; $self->{checker} = $checker; return; }

# Programs that ask a cache by themselves are promised nothing while another cluster writes there,
# or nobody deletes; they are asked again when all is well again.
sub hold_direct
{
	my ($self) = @_;

	return if $self->{direct_held};
	$self->{checker}->order("hold $_") foreach 'direct', 'delivery';
	$self->{direct_held} = 1;
	return;
}

sub release_direct
{
	my ($self) = @_;

	return if !$self->{direct_held};
	$self->poll(q{SELECT cachekit.wait_for_delivery('10s')});
	$self->{checker}->order("release $_") foreach 'delivery', 'direct';
	$self->{direct_held} = 0;
	return;
}

# The data of Redis go back, or are about to: for some seconds, until that is noticed, programs that ask
# it by themselves are promised nothing.
sub data_go_back
{
	my ($self) = @_;

	$self->{checker}->order('back');
	return;
}

# --- time ---

# What is to happen in the next meanwhile(), once; without it: nothing any more. True when something
# was left to happen.
sub next_meanwhile
{
	my ($self, $other) = @_;
	my $left = defined $self->{other};

	$self->{other} = $other;
	return $left;
}

# Let the load go on, with the fault in force. A fault that is to meet another one gets it here.
sub meanwhile
{
	my ($self, $seconds) = @_;
	my $other = delete $self->{other};

	sleep($seconds);
	if ($other)
	{
		$other->();
		sleep($seconds / 2);
	}
	return;
}

# Ask until the answer is true.
sub wait_for
{
	my ($self, $what, $question, $seconds) = @_;
	my $deadline = time() + ($seconds // $patience);

	until ($question->())
	{
		die "timed out waiting for $what\n" if time() > $deadline;
		sleep(0.02);
	}
	return;
}

# Something is wrong that the checker does not see.
sub violation { my ($self, $text) = @_; push @{ $self->{violations} }, $text; return; }
sub violations { return @{ $_[0]{violations} }; }

# --- the cluster ---

sub node { return $_[0]{nodes}[-1]; }

# A statement, again and again if the server goes away meanwhile; its output.
sub sql
{
	my ($self, $sql, $db, $node) = @_;
	my ($status, $out, $err);

	$self->wait_for(
		"an answer to \"$sql\"",
		sub {
			# a psql that cannot connect ends before it has read all that it is sent
			eval {
				($status, $out, $err) = ($node // $self->node)->psql($db // 'checked',
					"SET client_min_messages = warning; $sql", on_error_stop => 1);
				1;
			} or $@ =~ /Broken pipe/ ? return 0 : die $@;
			# 2: the connection was lost, or there was none
			return $status != 2;
		});
	die "\"$sql\" failed: $err\n" if $status != 0;
	return $out;
}

sub poll
{
	my ($self, $sql, $db, $node) = @_;

	$self->wait_for("\"$sql\"", sub { $self->sql($sql, $db, $node) eq 't' });
	return;
}

# Settings for all, in force when this returns; without a value: as they were.
sub set
{
	my ($self, %setting) = @_;

	foreach my $name (sort keys %setting)
	{
		my $value = $setting{$name};

		$self->sql(defined $value ? "ALTER SYSTEM SET $name = '$value'" : "ALTER SYSTEM RESET $name",
			'postgres');
	}
	$self->sql('SELECT pg_reload_conf()', 'postgres');
	return;
}

# Process ids by a condition on pg_stat_activity.
sub pids
{
	my ($self, $condition, $node) = @_;

	return split(/\n/, $self->sql("SELECT pid FROM pg_stat_activity WHERE $condition ORDER BY pid",
			'postgres', $node));
}

# One of the processes of that type; it may take a moment until there is one.
sub pid_of
{
	my ($self, $type, $chance) = @_;
	my @pids;

	$self->wait_for("a $type", sub { @pids = $self->pids("backend_type = '$type'"); });
	return $chance->one_of(@pids);
}

# Signal 9 for the postmaster, and a start. Its children end by themselves; until the last one is
# gone, the cluster cannot be started.
sub kill_postmaster
{
	my ($self) = @_;
	my $node = $self->node;
	my $data = realpath($node->data_dir);
	my ($postmaster) = slurp_file("$data/postmaster.pid") =~ /^(\d+)/;

	$node->kill9;
	$self->wait_for(
		'the end of a killed server',
		sub {
			!kill(0, $postmaster) && !grep { (readlink($_) // '') eq $data } glob('/proc/[0-9]*/cwd');
		});
	$node->start;
	return;
}

# --- lives ---

# A copy of the running cluster, as of now, not started. The parameters are those of
# init_from_backup.
sub copy_of_node
{
	my ($self, $name, %params) = @_;
	my $node = $self->node;
	my $copy = PostgreSQL::Test::Cluster->new($name . ++$self->{lives});
	my $backup = $copy->name;

	$node->backup($backup);
	$copy->init_from_backup($node, $backup, %params);
	rmtree($node->backup_dir . "/$backup");
	# what ALTER SYSTEM has set for a while is not for this one
	open(my $auto, '>', $copy->data_dir . '/postgresql.auto.conf') or die "could not write: $!";
	close($auto);
	push @{ $self->{copies} }, $copy;
	return $copy;
}

# A standby that has all that there was when this returns.
sub standby
{
	my ($self, $name) = @_;
	my $standby = $self->copy_of_node($name, has_streaming => 1);

	$standby->start;
	$self->caught_up($standby);
	return $standby;
}

sub caught_up
{
	my ($self, $standby) = @_;
	my $lsn = $self->sql('SELECT pg_current_wal_flush_lsn()', 'postgres');

	$self->poll("SELECT pg_last_wal_replay_lsn() >= '$lsn'", 'postgres', $standby);
	return;
}

# From now on the checker's address leads to this cluster.
sub open_door
{
	my ($self, $node) = @_;
	my $door = "$self->{door}/.s.PGSQL.$door_port";

	unlink("$door.new");
	symlink($node->host . '/.s.PGSQL.' . $node->port, "$door.new")
	  or die "could not make a link: $!";
	rename("$door.new", $door) or die "could not rename a link: $!";
	return;
}

# This cluster, which takes no part in recovery any more, has taken the place of the one before.
sub take_over
{
	my ($self, $node) = @_;
	my $before = $self->node;

	$self->poll('SELECT NOT pg_is_in_recovery()', 'postgres', $node);
	push @{ $self->{nodes} }, $node;
	$self->open_door($node);
	return $before;
}

# A cluster whose time is over; its log stays.
sub bury
{
	my ($self, $node) = @_;

	$node->stop('immediate', fail_ok => 1);
	rmtree($node->data_dir);
	return;
}

# --- the state of the cache servers ---

# All of them in use. A sender that does not come back is a violation.
sub wait_until_ready
{
	my ($self) = @_;

	return 1 if eval {
		$self->poll(q{SELECT count(*) > 1 AND bool_and(state = 'ready') FROM cachekit.stat_hosts});
		1;
	};
	$self->violation('not ready: the cache servers are not in use again: '
		  . $self->sql('SELECT name, host, state, last_error FROM cachekit.stat_hosts'));
	return 0;
}

# What the logs of all clusters say of crashes that nobody asked for.
sub crashes
{
	my ($self) = @_;

	return map { my $log = $_;
		map { "$log: $_" } grep { /PANIC:|TRAP:|AddressSanitizer|signal (?:6|7|8|11):/ }
		  split(/\n/, slurp_file($log)) } glob("$PostgreSQL::Test::Utils::log_path/*.log");
}

1;
