# Single flight: of many sessions that miss one key at once, one loads. The others wait, can be
# cancelled, wait no longer than cachekit.fetch_timeout, and never get what is older than their call.

use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use CacheKit;
use CacheServer;
use RedisServer;

my $clients = 50;
my $redis = RedisServer->new('main')->start;
my $node = new_node('main', allows_streaming => 1);
$node->append_conf('postgresql.conf', 'max_connections = 80');
$node->start;
$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION cachekit;
	CREATE TABLE t (id int PRIMARY KEY, v text);
	INSERT INTO t SELECT g, 'old' FROM generate_series(1, 100) AS g;
	SELECT cachekit.attach('t', negative_ttl => '1 hour');
	CREATE SERVER hot FOREIGN DATA WRAPPER cachekit OPTIONS (} . $redis->server_options . q{);
	CREATE TABLE far (id int PRIMARY KEY, v text);
	CREATE TABLE near_and_far (id int PRIMARY KEY, v text);
	INSERT INTO far SELECT * FROM t;
	INSERT INTO near_and_far SELECT * FROM t;
	SELECT cachekit.attach('far', servers => '{hot}', local => false);
	SELECT cachekit.attach('near_and_far', servers => '{hot}', negative_ttl => '1 hour');
	});
ok(wait_until_ready($node, 'hot'), 'the server is ready');

# --- many at once ---

# Starts a pgbench whose clients fetch the key, each once, and stand where debug_stop says. They
# are all alike, so that it does not matter which one comes first.
sub start_pgbench
{
	my ($entity, $key) = @_;
	my $script = PostgreSQL::Test::Utils::tempdir() . "/fetch_$entity";
	my %bench = (out => '', err => '');

	append_to_file($script, "SELECT cachekit.fetch('$entity', $key);\n") if !-e $script;
	local $ENV{PGOPTIONS} = "-c cachekit.debug_stop=load-done -c cachekit.fetch_timeout=1h";
	$bench{run} = IPC::Run::start(
		[
			'pgbench', '-n', '-c', $clients, '-j', 4, '-t', 1, '-f', $script,
			'-h', $node->host, '-p', $node->port, 'postgres'
		],
		'>', \$bench{out}, '2>', \$bench{err});
	return \%bench;
}

sub wait_for_waiters
{
	my ($n) = @_;

	$node->poll_query_until('postgres',
		"SELECT count(*) = $n FROM pg_stat_activity WHERE wait_event_type = 'Extension'
		    AND backend_type = 'client backend'")
	  or die "there are not $n waiters";
	return;
}

# Wherever the entity is cached, one session loads after each invalidation.
foreach my $case ([ 't', 1 ], [ 't', 1000 ], [ 'far', 1 ], [ 'far', 1000 ], [ 'near_and_far', 1 ], [ 'near_and_far', 1000 ])
{
	my ($entity, $key) = @$case;
	my $what = "$entity, " . ($key == 1 ? 'a row' : 'no row');

	foreach my $round (1, 2)
	{
		my $holder = hold($node, 'load-done');
		my $bench;

		$node->safe_psql('postgres', "SELECT cachekit.invalidate('$entity', $key)");
		ok(delivered($node, 'hot'), "$what: delivered") if $entity ne 't';
		$node->safe_psql('postgres', 'SELECT cachekit.stat_reset()');
		$bench = start_pgbench($entity, $key);
		wait_at_step($node, 'load-done');
		wait_for_waiters($clients - 1);
		is(counter($node, $entity, 'loads'), 1, "$what: one session loads while the others wait");
		$holder->quit;
		ok($bench->{run}->finish, "$what: all are answered") or diag($bench->{err});
		is(counter($node, $entity, 'loads'), 1, "$what: there was one load");
		is(counter($node, $entity, 'misses'), $clients, "$what: all missed");
		is(counter($node, $entity, 'waits'), $clients - 1, "$what: all but one waited");
		is(counter($node, $entity, $key == 1 ? 'local_hits' : 'negative_hits'), $clients - 1,
			"$what: and were served from the cache");
	}
}

# What waiters find is there for a moment only, and for nobody else.
is($node->safe_psql('postgres', q{SELECT count(*) FROM cachekit.inspect('far', 1) WHERE tier = 'local'}), 0,
	'an entity without a local tier has none');
$node->safe_psql('postgres', q{SELECT cachekit.stat_reset()});
is(output_of($node, q{SELECT cachekit.fetch('far', 1)->>'v'}), 'old', 'a fetch of it');
is(counter($node, 'far', 'local_hits'), 0, 'does not look there');

# Different keys do not wait for each other.
{
	my $holder = hold($node, 'load-done');
	my $loader = session($node, 'postgres', "cachekit.debug_stop = 'load-done'");

	send_query($loader, "SELECT cachekit.fetch('t', 2)->>'v'");
	wait_at_step($node, 'load-done');
	is(output_of($node, q{SET cachekit.fetch_timeout = '1h';
		SELECT count(*) FROM cachekit.fetch_many('t', ARRAY(SELECT generate_series(3, 100)))}),
		98, 'loads of other keys go on');
	$holder->quit;
	is(result($loader), 'old', 'and so does this one, later');
	$loader->quit;
}

# Without anybody standing between the steps: what is read is right, whoever writes.
$node->safe_psql('postgres', 'CREATE TABLE counted (id int PRIMARY KEY, n int);
	INSERT INTO counted VALUES (1, 0);
	SELECT cachekit.attach($$counted$$)');
$node->pgbench(
	'-n -c 24 -j 2 -t 50',
	0,
	[qr{actually processed: 1200/1200}, qr{number of failed transactions: 0 }],
	[qr{^$}],
	'readers and writers of one key',
	{
		'006_write@1' => 'UPDATE counted SET n = n + 1 WHERE id = 1;',
		'006_read@9' => q{
			SELECT n AS before FROM counted \gset
			SELECT (cachekit.fetch('counted', 1)->>'n')::int AS fetched \gset
			SELECT n AS after FROM counted \gset
			SELECT 1 / (:before <= :fetched AND :fetched <= :after)::int;
		}
	});
cmp_ok(counter($node, 'counted', 'local_hits'), '>', 0, 'some were served from the cache');

# --- one waiter ---

my $holder = hold($node, 'load-done');
my $loader = session($node, 'postgres', "cachekit.debug_stop = 'load-done'");
my $waiter = session($node, 'postgres', "cachekit.fetch_timeout = '1h'");
my $waiter_pid = pid_of($waiter);
my ($out, $err);
my $fetch = "SELECT cachekit.fetch('t', 1)->>'v'";

sub start_loader
{
	$node->safe_psql('postgres', "SELECT cachekit.invalidate('t', 1)");
	send_query($loader, $fetch);
	wait_at_step($node, 'load-done');
	return;
}

sub let_loader_go
{
	$holder->quit;
	is(result($loader), 'old', 'the loader has its answer');
	$holder = hold($node, 'load-done');
	return;
}

start_loader();
send_query($waiter, $fetch);
wait_for_pids($node, "wait_event_type = 'Extension'", $waiter_pid);
is($node->safe_psql('postgres', "SELECT wait_event FROM pg_stat_activity WHERE pid = $waiter_pid"),
	$node->pg_version >= 17 ? 'CachekitLoad' : 'Extension', 'the wait has a wait event');
$node->safe_psql('postgres', "SELECT pg_cancel_backend($waiter_pid)");
($out, $err) = result($waiter);
like($err, qr/canceling statement due to user request/, 'a wait can be cancelled');

($out, $err) = result($waiter, "SET statement_timeout = '50ms'; $fetch");
like($err, qr/canceling statement due to statement timeout/, 'statement_timeout ends a wait');
$waiter->query_safe('RESET statement_timeout');

# An error that is caught leaves nothing behind.
is(result($waiter, q{
	SET statement_timeout = '50ms';
	DO $$ BEGIN PERFORM cachekit.fetch('t', 1); EXCEPTION WHEN query_canceled THEN NULL; END $$;
	RESET statement_timeout;
	SELECT cachekit.fetch('t', 5)->>'v'}), 'old', 'a cancelled wait in a subtransaction');

# Nobody waits longer than he is willing to; he loads, and what he loads is cached.
foreach my $timeout ('30ms', '0')
{
	$node->safe_psql('postgres', "SELECT cachekit.invalidate('t', 1)");
	is(output_of($node, "SET cachekit.fetch_timeout = '$timeout'; $fetch"), 'old',
		"fetch_timeout = $timeout ends a wait");
	is(inspect($node, 't', 1), 't|f', "fetch_timeout = $timeout: it is cached");
}
wait_at_step($node, 'load-done');
let_loader_go();

# The loader fails: who waits loads.
start_loader();
send_query($waiter, $fetch);
wait_for_pids($node, "wait_event_type = 'Extension'", $waiter_pid);
$node->safe_psql('postgres', 'SELECT pg_cancel_backend(' . pid_of_loader() . ')');
is(result($waiter), 'old', 'the loader fails: who waits loads');
result($loader);

sub pid_of_loader
{
	return $node->safe_psql('postgres',
		q{SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted});
}

# A change commits while the loader stands there with the old row: whoever calls after the commit
# gets the new one, though he waits for that loader.
start_loader();
$node->safe_psql('postgres', "UPDATE t SET v = 'new' WHERE id = 1");
send_query($waiter, $fetch);
wait_for_pids($node, "wait_event_type = 'Extension'", $waiter_pid);
let_loader_go();
is(result($waiter), 'new', 'a waiter never gets what is older than its call');
is(output_of($node, $fetch), 'new', 'nor does anybody later');

$_->quit foreach ($holder, $loader, $waiter);
$node->stop;
done_testing();
