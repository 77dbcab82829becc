# Corner cases of servers, hosts, connections and waits: names that the client cannot show, more
# hosts than there is room for, connections that are closed while an answer is to come, options that
# change just before a COMMIT that waits, flushes that follow each other closely, a full Redis that
# is given room again.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use CacheKit;
use CacheServer;
use MemcachedServer;
use Proxy;
use RedisServer;

my $node = new_node('main', allows_streaming => 1);
$node->append_conf('postgresql.conf', 'max_worker_processes = 80');
$node->start;
my $redis = RedisServer->new('main')->start;
my $memcached = MemcachedServer->new('main')->start;
my $on = 'cachekit.synchronous_invalidation = on';
my $what;

sub sql { return output_of($node, $_[0]); }

# An entity "t" with 20 rows on a server "hot" with these options, and nothing else.
sub begin
{
	my ($name, $options) = @_;

	$what = $name;
	$node->safe_psql('postgres', qq{
		SET client_min_messages = error;
		DROP EXTENSION IF EXISTS cachekit CASCADE;
		DROP TABLE IF EXISTS t, u;
		CREATE EXTENSION cachekit;
		CREATE TABLE t (id int PRIMARY KEY, v int);
		INSERT INTO t SELECT g, 0 FROM generate_series(1, 20) AS g;
		CREATE TABLE u (LIKE t INCLUDING ALL);
		INSERT INTO u SELECT * FROM t;
		CREATE SERVER hot FOREIGN DATA WRAPPER cachekit OPTIONS ($options);
		SELECT cachekit.attach('t', servers => '{hot}', local => false, ttl => 'infinity')});
	return;
}

# --- a warning after the commit is never an error ---

begin('a name that the client cannot show', $redis->server_options);
$node->safe_psql('postgres', q{
	CREATE SERVER "кэш" FOREIGN DATA WRAPPER cachekit
		OPTIONS (kind 'redis', port '1', breaker_threshold '1', breaker_reset '600s');
	SELECT cachekit.attach('u', servers => '{кэш}', local => false)});
wait_for_server($node, 'кэш', q{breaker <> 'closed'}) or die 'the breaker is closed';
like(error_of($node, "SET $on; UPDATE u SET v = 1"), qr/"кэш" has not acknowledged/, "$what: in UTF-8 it is named");
my $said = error_of($node, "SET client_encoding = 'LATIN1'; SET $on; UPDATE u SET v = 2");
like($said, qr/^[^"]*WARNING:  cache servers have not acknowledged the commit/, "$what: without the name");
unlike($said, qr/ERROR|PANIC|terminating|lost/, "$what: and no error");
is(sql('SELECT DISTINCT v FROM u'), 2, "$what: it has committed");
$said = error_of($node, q{
	SET client_encoding = 'LATIN1'; SET cachekit.synchronous_invalidation = on;
	DO $$ BEGIN UPDATE u SET v = 3; COMMIT; UPDATE u SET v = 4; COMMIT; PERFORM 'кэш'; END $$} =~ s/PERFORM '.*?';//r);
unlike($said, qr/ERROR|PANIC|terminating|lost/, "$what: nor in a procedure");
is(sql('SELECT DISTINCT v FROM u'), 4, "$what: which has committed twice");

# --- more hosts than places ---

begin('no room', $redis->server_options);
delivered($node, 'hot') or die 'not delivered';
for my $n (1 .. 5)
{
	my $hosts = join(',', map { "127.0.0.$n:$_" } 1 .. 16);

	sql("CREATE SERVER wide$n FOREIGN DATA WRAPPER cachekit OPTIONS (kind 'memcached', hosts '$hosts', breaker_threshold '1', breaker_reset '600s')");
}
$node->poll_query_until('postgres', q{
	SELECT count(*) = 64 AND count(DISTINCT name) = 5 FROM cachekit.stat_hosts}) or die 'not 64 places';
like(sql(q{SELECT problem FROM cachekit.health() WHERE subject = 'server wide4'}), qr/1 of its 16 hosts are not used: there is no room/,
	"$what: health() tells of a host without a place");
like(sql(q{SELECT hint FROM cachekit.health() WHERE subject = 'server wide5'}), qr/there can be 64 cache servers/,
	"$what: and of a server without any");
ok(wait_until_ready($node, 'hot'), "$what: who has a place keeps it");
sql(q{ALTER SERVER hot OPTIONS (ADD command_timeout '2s')});
ok(wait_until_ready($node, 'hot'), "$what: also when its options change");
is(sql(q{SELECT cachekit.wait_for_delivery('100ms')}), 'f', "$what: wait_for_delivery() cannot say that all have it");
sql(q{SELECT cachekit.attach('u', servers => '{wide5}', local => false)});
like(error_of($node, "SET $on; UPDATE u SET v = 1"), qr/WARNING:  cache servers have not acknowledged.*no room for all/s,
	"$what: nor does a COMMIT that waits");
is(error_of($node, "SET $on; UPDATE t SET v = 1"), '', "$what: others are not concerned");
sql(q{DROP SERVER wide1; DROP SERVER wide2; DROP SERVER wide3; DROP SERVER wide4; DROP SERVER wide5 CASCADE});
ok(delivered($node, 'hot'), "$what: and when there is room, all is well");

# --- connections that are closed ---

my $proxy = Proxy->new($redis->port)->start;
begin('idle, and an answer is to come',
	"kind 'redis', host '127.0.0.1', port '" . $proxy->port . q{', connections '4', idle_timeout '100ms', command_timeout '60s'});
wait_for_server($node, 'hot', q{state = 'ready' AND connections = 1}) or die 'not idle';
sql(q{SELECT count(cachekit.fetch('t', id)) FROM t});
wait_for_server($node, 'hot', q{connections = 4}) or die 'not opened';
$proxy->hold_requests;
sql(q{SET cachekit.fetch_timeout = 0; SELECT count(cachekit.fetch('t', id, 'bypass')) FROM t});
$node->poll_query_until('postgres', q{SELECT fills_sent >= 40 FROM cachekit.stat_servers}) or die 'no fills';
my $since = sql('SELECT clock_timestamp()');
$node->poll_query_until('postgres', qq{
	SELECT connections = 1 OR clock_timestamp() > '$since'::timestamptz + '1 s' FROM cachekit.stat_servers});
is(sql('SELECT connections FROM cachekit.stat_servers'), 4, "$what: none is closed before it has come");
sql('UPDATE t SET v = v + 1');
$proxy->release_requests;
ok(delivered($node, 'hot'), "$what: delivered");
all_right($node, $redis, 't', $what);
ok(wait_for_server($node, 'hot', 'connections = 1'), "$what: then they are closed");
$proxy->stop;

# --- a COMMIT just after ALTER SERVER ---

my $other = RedisServer->new('other')->start;
begin('COMMIT after ALTER SERVER', $redis->server_options);
my $wrong = 0;
foreach my $try (1 .. 20)
{
	my $at = $try % 2 ? $other : $redis;

	$at->set("postgres:t:$try", 'old');
	$wrong += error_of($node, sprintf(q{
		ALTER SERVER hot OPTIONS (SET port '%d');
		SET cachekit.synchronous_timeout = '60s'; SET %s;
		UPDATE t SET v = v + 1 WHERE id = %d}, $at->port, $on, $try)) ne '';
	$wrong += $at->exists("postgres:t:$try");
}
is($wrong, 0, "$what: it waits for the new one");

# the launcher, which has the catalog read, stands still: nobody knows of the new options yet
my $launcher = sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'cachekit launcher'});
my $writer = session($node, 'postgres', $on, q{cachekit.synchronous_timeout = '600s'});
my $writer_pid = pid_of($writer);
kill('STOP', $launcher) == 1 or die 'could not stop the launcher';
sql(sprintf q{ALTER SERVER hot OPTIONS (SET port '%d')}, $other->port);
$other->set('postgres:t:1', 'old');
send_query($writer, 'UPDATE t SET v = v + 1 WHERE id = 1');
wait_for_pids($node, q{query LIKE 'UPDATE t%' AND (state = 'idle' OR wait_event_type = 'Extension')}, $writer_pid);
is(sql("SELECT state FROM pg_stat_activity WHERE pid = $writer_pid"), 'active', "$what: it waits until the options are known");
kill('CONT', $launcher);
result($writer);
ok(!$other->exists('postgres:t:1'), "$what: and then for the server");
$writer->quit;

# --- flushes that follow each other ---

begin('flush after flush', $memcached->server_options);
sql(q{SELECT cachekit.attach('u', servers => '{hot}', local => false)});
delivered($node, 'hot') or die 'not delivered';
my $reconnects = server_stat($node, 'hot', 'reconnects');
sql(q{SELECT cachekit.flush(CASE g % 2 WHEN 0 THEN 't' ELSE 'u' END::regclass) FROM generate_series(1, 2) AS g})
  foreach 1 .. 50;
$node->safe_psql('postgres', join(";\n", map { "SELECT cachekit.flush('" . ($_ % 2 ? 't' : 'u') . "')" } 1 .. 200));
delivered($node, 'hot') or die 'not delivered';
is(server_stat($node, 'hot', 'reconnects'), $reconnects, "$what: they do not disturb each other");
ok(filled($node, $memcached, 't', 1), "$what: filled again");

# --- a Redis that is full, and then is not ---

begin('room again', $redis->server_options . q{, breaker_reset '50ms'});
wait_until_ready($node, 'hot') or die 'not ready';
$redis->cli('CONFIG', 'SET', 'maxmemory', 1);
$redis->cli('CLIENT', 'KILL', 'TYPE', 'normal');
ok(wait_for_server($node, 'hot', q{last_error LIKE '%owner could not be written: OOM%'}), "$what: no room for the nonce");
$redis->cli('CONFIG', 'SET', 'maxmemory', 0);
ok(delivered($node, 'hot'), "$what: when there is room, it is ready");
ok(filled($node, $redis, 't', 1), "$what: and filled");

$node->stop;
unlike(slurp_file($node->logfile), qr/PANIC:|TRAP:|terminated by signal/, 'nobody crashed');
done_testing();
