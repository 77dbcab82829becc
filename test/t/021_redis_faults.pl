# A Redis that dies, freezes, comes back empty, with old data, or as another one; a sender and a
# PostgreSQL that are killed; a replication slot that is gone. While sessions write and fetch. After
# each, every document in Redis and every fetch is the table's.

use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use CacheKit;
use CacheServer;
use RedisServer;

my $redis = RedisServer->new('main')->start;
my $node = new_node('main', allows_streaming => 1);
$node->append_conf('postgresql.conf', q{
restart_after_crash = on
cachekit.shutdown_timeout = '1s'
});
$node->start;
$node->safe_psql(
	'postgres', sprintf q{
	CREATE EXTENSION cachekit;
	CREATE TABLE t (id int PRIMARY KEY, v int);
	INSERT INTO t SELECT g, 0 FROM generate_series(1, 200) AS g;
	CREATE TABLE filler (v text);
	CREATE SERVER hot FOREIGN DATA WRAPPER cachekit
		OPTIONS (%s, command_timeout '200ms', breaker_reset '50ms');
	SELECT cachekit.attach('t', servers => '{hot}', local => false, ttl => 'infinity');
	}, $redis->server_options);

# --- the load: sessions that write and fetch; no fetch is older than a SELECT before it ---

my $script = $node->basedir . '/load.sql';
append_to_file($script, q{
\set id random(1, 200)
\set n random(1, 10)
BEGIN;
UPDATE t SET v = v + 1 WHERE id BETWEEN :id AND :id + :n - 1 AND :n < 5;
\if :n = 1
ROLLBACK;
\else
COMMIT;
\endif
\if :n = 10
SELECT cachekit.flush('t');
\endif
SELECT count(cachekit.fetch('t', g)) FROM generate_series(1, 20) AS g;
SELECT v AS before FROM t WHERE id = :id \gset
SELECT 1 / ((cachekit.fetch('t', :id)->>'v')::int >= :before)::int;
});

my ($load, $load_out);

sub start_load
{
	$load_out = '';
	$load = IPC::Run::start(
		[ 'pgbench', '-n', '-c', '3', '-T', '600', '--rate', '150', '-f', $script, '-h', $node->host,
			'-p', $node->port, 'postgres' ], '>&', \$load_out);
	return;
}

# It goes on for so many transactions.
sub load_goes_on
{
	my ($what, $n) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $count = q{SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 't'};
	my $before = $node->safe_psql('postgres', $count);

	return ok($node->poll_query_until('postgres', $count =~ s/n_tup_upd/n_tup_upd > $before + $n/r),
		"$what: sessions go on");
}

# pgbench says nothing of transactions, unless one has failed.
sub stop_load
{
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	$load->kill_kill;
	is(join("\n", grep { /error|aborted|fatal/i } split(/\n/, $load_out)), '', "$what: no call failed");
	return;
}

# Ready again and all delivered: compare everything.
sub right_again
{
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $n;

	ok(delivered($node, 'hot'), "$what: ready, and all is delivered");
	$n = all_right($node, $redis, 't', $what);
	ok(filled($node, $redis, 't', 1), "$what: it is filled again");
	return $n;
}

# Every document is in Redis.
sub warm
{
	ok(delivered($node, 'hot'), "$_[0]: ready");
	$node->poll_query_until('postgres', q{
		SELECT bool_and(x.present) FROM t, LATERAL (SELECT cachekit.fetch('t', t.id)) AS f,
			LATERAL (SELECT present FROM cachekit.inspect('t', t.id)) AS x(present)})
	  or die 'the cache could not be filled';
	return;
}

sub change_all { $node->safe_psql('postgres', 'UPDATE t SET v = v + 1'); return; }

my ($count, $what);

# --- killed, and started again with nothing ---

$what = 'killed, and empty again';
warm($what);
start_load();
load_goes_on("$what, before", 20);
$redis->kill9;
load_goes_on("$what, without Redis", 20);
$redis->start;
load_goes_on("$what, with it", 20);
stop_load($what);
right_again($what);

# --- frozen for longer than command_timeout ---

$what = 'frozen';
warm($what);
$count = server_stat($node, 'hot', 'reconnects');
start_load();
load_goes_on("$what, before", 20);
$redis->signal('STOP');
load_goes_on($what, 20);
ok(wait_for_server($node, 'hot', "last_error LIKE '%command_timeout%' AND reconnects > $count"),
	"$what: last_error says it");
is($node->safe_psql('postgres', q{SELECT cachekit.wait_for_delivery('1ms')}), 'f',
	"$what: nothing is delivered");
load_goes_on("$what, and known to be", 20);
$redis->signal('CONT');
load_goes_on("$what, and thawed", 20);
stop_load($what);
right_again($what);

# --- with the data of a moment ago: the marker says how old they are ---

$what = 'an old dump';
warm($what);
$redis->keep_dump('old.rdb');
change_all();
warm("$what, after changes");
$count = server_stat($node, 'hot', 'resumes');
$redis->kill9;
change_all();
$redis->restore_dump('old.rdb');
$redis->start;
ok(wait_for_server($node, 'hot', "resumes > $count AND state = 'ready'"), "$what: resumed");
right_again($what);

$what = 'an old dump, under load';
start_load();
load_goes_on("$what, before", 20);
$redis->keep_dump('old.rdb');
load_goes_on("$what, since then", 50);
$redis->kill9;
$redis->restore_dump('old.rdb');
$redis->start;
load_goes_on($what, 50);
stop_load($what);
right_again($what);

# --- emptied, and exchanged, under a living connection ---

$what = 'FLUSHALL';
warm($what);
$redis->cli('FLUSHALL');
start_load();
load_goes_on($what, 20);
$redis->cli('FLUSHALL');
load_goes_on("$what again", 20);
stop_load($what);
right_again($what);

# Database 1 gets all that database 0 has now, and comes back later in its place.
$what = 'SWAPDB';
warm($what);
$redis->cli('COPY', $_, $_, 'DB', 1, 'REPLACE') foreach $redis->keys_like('postgres:*');
change_all();
warm("$what, after changes");
change_all();
ok(delivered($node, 'hot'), "$what: delivered");
$count = server_stat($node, 'hot', 'reconnects');
$redis->cli('SWAPDB', 0, 1);
# the position, and so the marker, moves on by what is no change of ours
$node->safe_psql('postgres', q{SELECT pg_logical_emit_message(true, 'other', 'x')});
ok($node->poll_query_until('postgres', sprintf(
			q{SELECT bool_and(position >= '%s') FROM cachekit.stat_servers},
			$node->safe_psql('postgres', 'SELECT pg_current_wal_lsn()'))),
	"$what: the position moves on");
is(output_of($node, q{SELECT count(*) FROM t WHERE cachekit.fetch('t', t.id) IS DISTINCT FROM to_jsonb(t)}),
	0, "$what: no fetch takes the old data for ours");
ok(wait_for_server($node, 'hot', "state = 'ready' AND reconnects > $count"),
	"$what: noticed while nobody writes or reads");
right_again($what);

# --- a replica that lacks the last writes takes over ---

{
	my $replica = RedisServer->new('replica')->start;
	my $old = $redis;

	$what = 'a lagging replica';
	warm($what);
	$replica->cli('REPLICAOF', '127.0.0.1', $redis->port);
	ok($replica->poll(1, 'EXISTS', 'postgres:t:1'), "$what: it has the documents");
	$replica->cli('REPLICAOF', 'NO', 'ONE');
	change_all();
	warm("$what, after changes");
	change_all();
	$count = server_stat($node, 'hot', 'reconnects');
	# under the living connection, the old one becomes what the replica is
	$redis->cli('REPLICAOF', '127.0.0.1', $replica->port);
	ok($redis->poll($replica->cli('GET', 'postgres:t:2'), 'GET', 'postgres:t:2'),
		"$what: it has the replica's documents");
	change_all();
	ok(wait_for_server($node, 'hot', "reconnects > $count AND last_error LIKE '%READONLY%'"),
		"$what: a replica is not written to");
	$redis->cli('REPLICAOF', 'NO', 'ONE');
	right_again($what);
	$replica->kill9;
}

# --- the sender, and PostgreSQL ---

sub sender_pid
{
	return $node->safe_psql('postgres',
		q{SELECT pid FROM cachekit.server_states()});
}

$what = 'the sender is killed';
warm($what);
{
	my $offset = -s $node->logfile;
	my $pid = sender_pid();

	change_all();
	kill('KILL', $pid) == 1 or die "could not kill $pid";
	$node->wait_for_log(qr/ready to accept connections/, $offset);
	$node->poll_query_until('postgres', 'SELECT true') or die 'the server is not back';
}
right_again($what);

# Changes that Redis does not get before PostgreSQL goes down.
foreach my $mode ('immediate', 'fast')
{
	$what = "$mode stop";
	warm($what);
	$redis->signal('STOP');
	change_all();
	$node->stop($mode);
	$node->start;
	is($node->safe_psql('postgres', q{SELECT cachekit.wait_for_delivery('1ms')}), 'f',
		"$what: what was committed before it is not delivered");
	$redis->signal('CONT');
	right_again($what);
}

$what = 'the sender is terminated';
warm($what);
$redis->signal('STOP');
change_all();
$count = sender_pid();
$node->safe_psql('postgres', "SELECT pg_terminate_backend($count)");
wait_until_gone($node, $count);
$redis->signal('CONT');
right_again($what);

# --- the replication slot ---

$what = 'the slot is dropped';
warm($what);
$count = $node->safe_psql('postgres', q{SELECT slot_name FROM pg_replication_slots});
$node->append_conf('postgresql.conf', q{shared_preload_libraries = ''});
$node->restart;
$node->safe_psql('postgres', "SELECT pg_drop_replication_slot('$count')");
$node->safe_psql('postgres', q{INSERT INTO filler SELECT repeat('x', 1000) FROM generate_series(1, 20000);
	CHECKPOINT; SELECT pg_switch_wal(); CHECKPOINT});
$node->append_conf('postgresql.conf', q{shared_preload_libraries = 'cachekit'});
{
	my $offset = -s $node->logfile;

	$node->restart;
	right_again($what);
	like(log_lines($node, qr/flushing namespace/, $offset), qr/no longer there/, "$what: flushed");
}

# Changes of sessions without the library, which know of no server's sender.
$what = 'changes without the library';
warm($what);
$node->append_conf('postgresql.conf', q{shared_preload_libraries = ''});
$node->restart;
change_all();
$node->append_conf('postgresql.conf', q{shared_preload_libraries = 'cachekit'});
$node->restart;
right_again($what);

$what = 'PostgreSQL invalidates the slot';
$node->safe_psql('postgres', q{ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'});
$node->safe_psql('postgres', q{SELECT pg_reload_conf()});
warm($what);
$redis->keep_dump('old.rdb');
$redis->kill9;
change_all();
foreach (1 .. 4)
{
	$node->safe_psql('postgres',
		q{INSERT INTO filler SELECT repeat('x', 1000) FROM generate_series(1, 20000); SELECT pg_switch_wal()});
	$node->safe_psql('postgres', 'CHECKPOINT');
}
$redis->restore_dump('old.rdb');
$redis->start;
right_again($what);
is($node->safe_psql('postgres', q{SELECT wal_status IN ('reserved', 'extended') FROM pg_replication_slots}), 't',
	"$what: there is one again");
$node->safe_psql('postgres', q{ALTER SYSTEM RESET max_slot_wal_keep_size});
$node->safe_psql('postgres', q{SELECT pg_reload_conf()});

# --- Redis is away for more WAL than may be kept for it ---

$what = 'max_wal_retention';
$node->safe_psql('postgres', q{ALTER SYSTEM SET cachekit.max_wal_retention = '1MB'});
$node->safe_psql('postgres', q{SELECT pg_reload_conf()});
warm($what);
$redis->keep_dump('old.rdb');
$count = $node->safe_psql('postgres', q{SELECT restart_lsn FROM pg_replication_slots});
{
	my $offset = -s $node->logfile;

	$redis->kill9;
	change_all();
	$node->safe_psql('postgres',
		q{INSERT INTO filler SELECT repeat('x', 1000) FROM generate_series(1, 5000)});
	ok($node->poll_query_until('postgres', qq{
		SELECT restart_lsn > '$count' AND pg_current_wal_lsn() - restart_lsn < 3000000
		  FROM pg_replication_slots}), "$what: the slot moves on");
	$redis->restore_dump('old.rdb');
	$redis->start;
	right_again($what);
	like(log_lines($node, qr/flushing namespace/, $offset), qr/further behind than max_wal_retention/,
		"$what: flushed");
}

$node->stop;
is(log_lines($node, qr/PANIC:|TRAP:|terminated by signal 6|terminated by signal 11/), '',
	'nobody crashed by itself');
done_testing();
