# RedisServer.pm - a private Redis for a TAP test
#
# Listens on a free port of the loopback interface, keeps its data in a temporary folder, and ends
# with the test. It can be killed, stopped for a while, and started again with what it had saved
# before, on the same port; the test talks to it by redis-cli, so by nothing that cachekit uses.
#
#   my $redis = RedisServer->new('main');
#   $redis->start;
#   is($redis->cli('GET', $key), ...);
package RedisServer;

use strict;
use warnings FATAL => 'all';

use File::Copy qw(copy);
use IPC::Run;
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use parent 'CacheProcess';

# Not started. The options are lines of redis.conf, as "name value".
sub new
{
	my ($class, $name, @options) = @_;
	my $self = bless {
		name => $name,
		host => '127.0.0.1',
		port => PostgreSQL::Test::Cluster::get_free_port(),
		dir => PostgreSQL::Test::Utils::tempdir("redis_$name"),
		options => [@options],
		cli => []
	}, $class;

	$self->{log} = "$PostgreSQL::Test::Utils::log_path/redis_$name.log";
	$self->remember;
	return $self;
}

# Options of CREATE SERVER that lead here.
sub server_options
{
	my ($self) = @_;

	return "kind 'redis', host '$self->{host}', port '$self->{port}'";
}

# Start and wait until it answers. It has no data but those of a dump in its folder.
sub start
{
	my ($self) = @_;
	my @settings = map { my ($name, $value) = split(/ /, $_, 2); ("--$name", $value) }
	  ("port $self->{port}", "bind $self->{host}", "dir $self->{dir}", "logfile $self->{log}",
		'appendonly no', 'daemonize no', 'protected-mode no', 'databases 4', @{ $self->{options} });

	# a save in the background would write a dump that the test knows nothing of
	push @settings, '--save', '' if !grep { /^save / } @{ $self->{options} };
	defined(my $pid = fork()) or die "could not fork: $!";
	if ($pid == 0)
	{
		open(STDIN, '<', '/dev/null');
		open(STDOUT, '>>', $self->{log});
		open(STDERR, '>&', \*STDOUT);
		exec('redis-server', @settings) or POSIX::_exit(127);
	}
	$self->{pid} = $pid;
	foreach my $attempt (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		my ($out, $err) = ('', '');

		waitpid($pid, 1) == $pid and die "redis-server ended at once: see $self->{log}";
		IPC::Run::run([ 'redis-cli', '-h', $self->{host}, '-p', $self->{port}, 'PING' ],
			'>', \$out, '2>', \$err);
		return $self if $out =~ /PONG|NOAUTH|NOPERM/;
		select(undef, undef, undef, 0.02);
	}
	die "redis-server did not start: see $self->{log}";
}

# Arguments that redis-cli gets from now on: credentials, a database.
sub use_cli
{
	my ($self, @arguments) = @_;

	$self->{cli} = [@arguments];
	return;
}

# What a command answers; lists as lines. An error, or no answer, ends the test.
sub cli
{
	my ($self, @command) = @_;
	my ($out, $err) = ('', '');

	IPC::Run::run(
		[ 'redis-cli', '-h', $self->{host}, '-p', $self->{port}, '--no-auth-warning',
			@{ $self->{cli} }, '-e', @command ], '>', \$out, '2>', \$err)
	  or die "redis-cli @command: $out$err";
	chomp $out;
	return $out;
}

# The keys that match, in order.
sub keys_like
{
	my ($self, $pattern) = @_;
	my ($out, $err) = ('', '');

	IPC::Run::run(
		[ 'redis-cli', '-h', $self->{host}, '-p', $self->{port}, '--no-auth-warning',
			@{ $self->{cli} }, '--scan', '--pattern', $pattern ], '>', \$out, '2>', \$err)
	  or die "redis-cli --scan: $out$err";
	return sort split(/\n/, $out);
}

# The values of keys, asked for at one moment.
sub values_of
{
	my ($self, @keys) = @_;

	return () if @keys == 0;
	return split(/\n/, $self->cli('MGET', @keys), -1);
}

# Ask until the answer is the one that is waited for; true when it came.
sub poll
{
	my ($self, $expected, @command) = @_;

	foreach my $attempt (1 .. 50 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return 1 if $self->cli(@command) eq $expected;
		select(undef, undef, undef, 0.02);
	}
	diag("timed out waiting for \"@command\" to answer \"$expected\"");
	return 0;
}

# The dump that SAVE wrote, put away, and put back for the next start.
sub keep_dump
{
	my ($self, $as) = @_;

	$self->cli('SAVE');
	copy("$self->{dir}/dump.rdb", "$self->{dir}/$as") or die "could not copy the dump: $!";
	return;
}

sub restore_dump
{
	my ($self, $from) = @_;

	copy("$self->{dir}/$from", "$self->{dir}/dump.rdb") or die "could not copy the dump: $!";
	return;
}

# The next start has nothing.
sub forget_dump
{
	my ($self) = @_;

	unlink("$self->{dir}/dump.rdb") or $!{ENOENT} or die "could not remove the dump: $!";
	return;
}

# --- what MemcachedServer.pm has as well ---

# undef when there is none.
sub get
{
	my ($self, $key) = @_;
	my $value = $self->cli('GET', $key);

	return $value ne '' || $self->exists($key) ? $value : undef;
}

# With a TTL in seconds, or without one.
sub set
{
	my ($self, $key, $value, $ttl) = @_;
	my ($out, $err) = ('', '');

	# the value by stdin, because it may be long
	IPC::Run::run(
		[ 'redis-cli', '-h', $self->{host}, '-p', $self->{port}, '--no-auth-warning',
			@{ $self->{cli} }, '-e', '-x', defined $ttl ? ('SETEX', $key, $ttl) : ('SET', $key) ],
		'<', \$value, '>', \$out, '2>', \$err)
	  or die "redis-cli SET $key: $out$err";
	return 'OK';
}

# True when there was something to delete.
sub delete { return $_[0]->cli('DEL', $_[1]) eq '1'; }

sub exists { return $_[0]->cli('EXISTS', $_[1]) eq '1'; }

# What is left of the TTL, in milliseconds; -1 without one, undef when there is no such key.
sub ttl_ms
{
	my ($self, $key) = @_;
	my $ttl = $self->cli('PTTL', $key);

	return $ttl eq '-2' ? undef : $ttl;
}

# The same in seconds.
sub ttl_of
{
	my ($self, $key) = @_;
	my $ttl = $self->cli('TTL', $key);

	return $ttl eq '-2' ? undef : $ttl;
}

sub flush_all { return $_[0]->cli('FLUSHALL'); }

# Wait until the key has that value, or, with undef, is absent; true when it came to that.
sub poll_value
{
	my ($self, $key, $expected) = @_;

	foreach my $attempt (1 .. 50 * $PostgreSQL::Test::Utils::timeout_default)
	{
		my $value = $self->get($key);

		return 1 if defined $value ? defined $expected && $value eq $expected : !defined $expected;
		select(undef, undef, undef, 0.02);
	}
	diag("timed out waiting for \"$key\" to be " . ($expected // 'absent'));
	return 0;
}

1;
