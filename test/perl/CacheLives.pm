# CacheLives.pm - several lives of one cluster, and one Redis
#
# Each scenario runs clusters of its own, copies of one that has an entity "t" on a server "hot",
# with a Redis that has nothing at its beginning.
package CacheLives;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use CacheKit;
use CacheServer;
use RedisServer;

our @EXPORT = qw(
  $rows $redis
  begin_lives cluster_from first_life another_life
  hold_redis release_redis hold_commits release_commits
  warm change_all wrong_fetches no_wrong_fetch right_again flushed_because
  insert_lsn new_sender
  run_scenarios
);

our $rows = 100;
our $redis;
my $base;
my @lives;    # of the scenario that runs

# The cluster that all are copies of, stopped.
sub begin_lives
{
	$redis = RedisServer->new('main')->start;
	$base = new_node('base', allows_streaming => 1);
	# what would write WAL by itself is off: places in it are computed
	$base->append_conf('postgresql.conf', q{
autovacuum = off
restart_after_crash = on
cachekit.shutdown_timeout = '1s'
});
	$base->start;
	$base->safe_psql(
		'postgres', sprintf q{
		CREATE EXTENSION cachekit;
		CREATE TABLE t (id int PRIMARY KEY, v int);
		INSERT INTO t SELECT g, 0 FROM generate_series(1, %d) AS g;
		CREATE TABLE filler (v text);
		CREATE SERVER hot FOREIGN DATA WRAPPER cachekit
			OPTIONS (%s, command_timeout '200ms', breaker_reset '50ms');
		SELECT cachekit.attach('t', servers => '{hot}', local => false, ttl => 'infinity');
		VACUUM FREEZE}, $rows, $redis->server_options);
	$base->stop;
	$base->backup_fs_cold('cold');
	return;
}

# A cluster from a backup, not started.
sub cluster_from
{
	my ($root, $backup, $name, %params) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init_from_backup($root, $backup, %params);
	push @lives, $node;
	return $node;
}

# A cluster as all of them begin, running, and a Redis that has nothing.
sub first_life
{
	my ($name) = @_;
	my $node = another_life($name);

	$redis->cli('FLUSHALL');
	$node->start;
	return $node;
}

# The same, not started, and Redis has what it has.
sub another_life { return cluster_from($base, 'cold', $_[0]); }

# Redis answers reads, and lets all that writes wait: a sender gets nowhere, but a fetch that
# asked would be answered.
sub hold_redis { $redis->cli('CLIENT', 'PAUSE', 600_000, 'WRITE'); return; }
sub release_redis { $redis->cli('CLIENT', 'UNPAUSE'); return; }

# Every document is in Redis, the table's.
sub warm
{
	my ($node, $what) = @_;

	delivered($node, 'hot') or die "$what: the server is not ready";
	$node->poll_query_until('postgres', q{
		SELECT bool_and(x.present) FROM t, LATERAL (SELECT cachekit.fetch('t', t.id)) AS f,
			LATERAL (SELECT present FROM cachekit.inspect('t', t.id)) AS x(present)})
	  or die "$what: the cache could not be filled";
	return;
}

sub change_all
{
	my ($node, $by) = @_;

	$node->safe_psql('postgres', 'UPDATE t SET v = v + ' . ($by // 1));
	return;
}

# Whatever the state of the server is.
sub wrong_fetches
{
	return output_of($_[0], q{
		SELECT count(*) FROM t WHERE cachekit.fetch('t', t.id) IS DISTINCT FROM to_jsonb(t)});
}

sub no_wrong_fetch
{
	my ($node, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return is(wrong_fetches($node), 0, "$what: every fetch is the table's");
}

# Ready, all delivered, and everything is compared; returns the number of documents.
sub right_again
{
	my ($node, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $n;

	ok(delivered($node, 'hot'), "$what: ready, and all is delivered");
	$n = all_right($node, $redis, 't', $what);
	ok(filled($node, $redis, 't', 1), "$what: it is filled again");
	return $n;
}

# Why the server was flushed since this offset of the log.
sub flushed_because
{
	my ($node, $offset, $reason, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return like(log_lines($node, qr/flushing namespace/, $offset), $reason,
		"$what: flushed, because of the marker");
}

sub insert_lsn { return $_[0]->safe_psql('postgres', 'SELECT pg_current_wal_insert_lsn()'); }

# A new sender in place of the one that runs.
sub new_sender
{
	my ($node) = @_;
	my $pid;

	$node->poll_query_until('postgres', 'SELECT pid <> 0 FROM cachekit.server_states()')
	  or die 'there is no sender';
	$pid = $node->safe_psql('postgres', 'SELECT pid FROM cachekit.server_states()');
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
	$node->poll_query_until('postgres',
		"SELECT pid NOT IN (0, $pid) FROM cachekit.server_states()")
	  or die 'there is no new sender';
	return;
}

# Commits are in the WAL, and not visible as long as they wait for a standby that there is not.
sub hold_commits
{
	my ($node) = @_;

	$node->safe_psql('postgres', q{ALTER SYSTEM SET synchronous_standby_names = 'nobody'});
	$node->reload;
	$node->poll_query_until('postgres', q{SHOW synchronous_standby_names}, 'nobody')
	  or die 'the setting did not arrive';
	return;
}

sub release_commits
{
	my ($node) = @_;

	$node->safe_psql('postgres', q{ALTER SYSTEM RESET synchronous_standby_names});
	$node->reload;
	return;
}

# Scenarios by name, one after the other; what one dies of does not keep the others from running,
# and its clusters do not take part in them.
sub run_scenarios
{
	my (%scenario) = @_;

	foreach my $name (sort keys %scenario)
	{
		eval { $scenario{$name}->() };
		is($@, '', "$name: ran to its end");
		$_->stop('immediate', fail_ok => 1) foreach splice(@lives);
		release_redis();
	}
	foreach my $log (glob("$PostgreSQL::Test::Utils::log_path/*.log"))
	{
		is(join("\n", grep { /PANIC:|TRAP:|terminated by signal/ } split(/\n/, slurp_file($log))),
			'', 'nobody crashed: ' . $log =~ s/.*\///r);
	}
	return;
}

1;
