# Settings of one entity: jitter, the largest document, and loading anew before the end.

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use CacheKit;
use CacheServer;
use RedisServer;

my $redis = RedisServer->new('main')->start;
my $node = new_node('main', allows_streaming => 1);
$node->start;
$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION cachekit;
	CREATE TABLE t (id int PRIMARY KEY, v text);
	CREATE TABLE u (id int PRIMARY KEY, v text);
	INSERT INTO t SELECT g, repeat('x', 100 * g) FROM generate_series(1, 50) AS g;
	INSERT INTO u SELECT * FROM t;
	CREATE SERVER hot FOREIGN DATA WRAPPER cachekit OPTIONS (} . $redis->server_options . q{);
	SELECT cachekit.attach('t', servers => '{hot}', local => false, ttl => '300 ms', ttl_jitter => 0);
	SELECT cachekit.attach('u', servers => '{hot}', ttl => 'infinity')});
ok(wait_until_ready($node, 'hot'), 'the server is ready');

# --- times to live ---

# The TTL that Redis has just after a fill; a sender may take some time, so the most of several.
my $most = 0;
foreach my $id (1 .. 5)
{
	ok(filled($node, $redis, 't', $id), "document $id is there") if $id == 1;
	foreach my $attempt (1 .. 8)
	{
		my $ttl;

		$node->safe_psql('postgres', "SELECT cachekit.fetch('t', $id, 'bypass')");
		$ttl = $redis->cli('PTTL', "postgres:t:$id");
		$most = $ttl if $ttl > $most;
		fail("a TTL of $ttl ms") if $ttl > 300;
	}
}
cmp_ok($most, '>', 250, 'less than a second, to the millisecond');
cmp_ok($most, '<=', 300, 'and no more than it should be');
foreach my $attempt (1 .. 200)
{
	last if !$redis->exists('postgres:t:1');
	select(undef, undef, undef, 0.05);
}
ok(!$redis->exists('postgres:t:1'), 'it goes');
ok(filled($node, $redis, 'u', 1), 'a document without an end is there');
is($redis->cli('PTTL', 'postgres:u:1'), -1, 'it has none');

# In the local tier: how many of 50 have as much left as they had.
my $left = q{
	SELECT cachekit.fetch('u', 50, 'bypass') IS NULL FROM cachekit.fetch_many('u', ARRAY(SELECT generate_series(1, 50)), 'bypass') OFFSET 50;
	SELECT count(*) FROM generate_series(1, 50) AS g, cachekit.inspect('u', g) AS i
	 WHERE i.tier = 'local' AND i.ttl <= '1 hour' AND i.ttl > '59 minutes 50 seconds'};
$node->safe_psql('postgres', q{SELECT cachekit.attach('u', ttl => '1 hour', ttl_jitter => 0)});
is(output_of($node, $left), 50, 'jitter 0: exact');
$node->safe_psql('postgres', q{SELECT cachekit.attach('u', ttl => '1 hour', ttl_jitter => 100)});
cmp_ok(output_of($node, $left), '<', 25, 'jitter 100: anything');
is(output_of($node, q{SET cachekit.ttl_jitter = 100; SELECT cachekit.attach('u', ttl_jitter => 0);} . $left) =~ s/^\s+//r,
	50, 'that of the entity counts, not that of the server');

# --- the largest document ---

$node->safe_psql('postgres', q{
	SELECT cachekit.attach('t', ttl => '1 h', local => true, max_value_size => 1000);
	SELECT cachekit.attach('u', ttl => '1 h', max_value_size => 1000000);
	SELECT cachekit.stat_reset()});
is(output_of($node, q{
	SELECT count(value) FROM cachekit.fetch_many('t', ARRAY(SELECT generate_series(1, 50)));
	SELECT count(value) FROM cachekit.fetch_many('u', ARRAY(SELECT generate_series(1, 50)))}), "50\n50",
	'documents of all sizes are served');
is(counter($node, 't', 'fills'), 9, 'no larger ones than that are cached');
is(counter($node, 't', 'fills_refused'), 41, 'the others are refused');
is(counter($node, 'u', 'fills_refused'), 0, 'another entity has another limit');
is(output_of($node, q{SET cachekit.max_value_size = 10; SELECT cachekit.fetch('u', 50, 'bypass') IS NOT NULL;
	SELECT fills_refused FROM cachekit.stat_entities WHERE name = 'u'}), "t\n0", 'which is not that of the server');
ok(filled($node, $redis, 'u', 50), 'a large one is in Redis');
is($redis->cli('EXISTS', 'postgres:t:50'), 0, 'one that is too large is not');

# A setting that is changed flushes.
$node->safe_psql('postgres', q{SELECT cachekit.attach('u', max_value_size => 2000)});
ok(delivered($node, 'hot'), 'a setting is changed: delivered');
is($redis->cli('EXISTS', 'postgres:u:50'), 0, 'a setting is changed: flushed');
is(output_of($node, q{SELECT count(value) FROM cachekit.fetch_many('u', ARRAY(SELECT generate_series(1, 50)), 'fresh')}),
	0, 'a setting is changed: in the local tier, too');
$node->safe_psql('postgres', q{SELECT cachekit.attach('t', local => false)});
$node->safe_psql('postgres', q{SELECT cachekit.stat_reset(); SELECT cachekit.fetch('t', 50)});
is(counter($node, 't', 'fills_refused'), 1, 'without a local tier it is counted as well');

# --- loading anew before the end ---

sub early
{
	my ($settings, $attach, $fetches) = @_;

	$node->safe_psql('postgres', qq{
		SELECT cachekit.attach('u', servers => '{}', ttl => '1 hour', max_value_size => 1000000, $attach);
		SELECT cachekit.fetch('u', 1); SELECT cachekit.stat_reset()});
	is(output_of($node, "$settings SELECT count(cachekit.fetch('u', 1)) FROM generate_series(1, $fetches)") =~ s/^\s+//r,
		$fetches, 'answers');
	return $node->safe_psql('postgres',
		q{SELECT early_refreshes, loads, local_hits, misses FROM cachekit.stat_entities WHERE name = 'u'});
}

# every load seems to take an hour
my $slow = "SET cachekit.debug_disable = 'short-loads';";
is(early('', 'early_refresh => 0', 100), '0|0|100|0', 'off: none');
is(early($slow, 'early_refresh => 0', 100), '0|0|100|0', 'off: none, however long a load takes');
is(early('', 'early_refresh => 1', 100), '0|0|100|0', 'on: none for a load of a moment, an hour before the end');
like(early($slow, 'early_refresh => 1000', 100), qr/^(9[0-9]|100)\|\1\|100\|0$/, 'on: nearly always for a load of an hour');
{
	my ($n) = split(/\|/, early($slow, 'early_refresh => 1', 400));

	# P(-ln(random) >= 3600 / 4295) is 0.43
	ok($n > 100 && $n < 250, "on: as often as the paper says ($n of 400)");
}
$node->safe_psql('postgres', q{
	SELECT cachekit.attach('u', ttl => 'infinity', negative_ttl => '1 hour', early_refresh => 1000);
	SELECT cachekit.fetch('u', 1), cachekit.fetch('u', 1000);
	SELECT cachekit.stat_reset()});
output_of($node, "$slow SELECT count(cachekit.fetch('u', 1)), count(cachekit.fetch('u', 1000)) FROM generate_series(1, 100)");
is(counter($node, 'u', 'early_refreshes'), 0, 'never what has no end, nor what is not there');
is(counter($node, 'u', 'local_hits') . '|' . counter($node, 'u', 'negative_hits'), '100|100', 'these are answered as ever');

# One loads, and others are answered meanwhile; nobody waits.
{
	my $holder = hold($node, 'load-done');
	my $loader = session($node, 'postgres', "cachekit.debug_stop = 'load-done'", "cachekit.debug_disable = 'short-loads'");

	$node->safe_psql('postgres', q{
		SELECT cachekit.attach('u', ttl => '1 hour', early_refresh => 1000);
		SELECT cachekit.fetch('u', 1); SELECT cachekit.stat_reset()});
	# one in a thousand is not early
	send_query($loader, q{SELECT count(cachekit.fetch('u', 1)) FROM generate_series(1, 10)});
	wait_at_step($node, 'load-done');
	$node->safe_psql('postgres', q{SELECT cachekit.stat_reset()});
	is(output_of($node, "$slow SELECT count(cachekit.fetch('u', 1)) FROM generate_series(1, 20)"), 20,
		'others are answered meanwhile');
	is($node->safe_psql('postgres', q{SELECT local_hits, loads, early_refreshes, waits FROM cachekit.stat_entities WHERE name = 'u'}),
		'20|0|0|0', 'from the cache');
	is(output_of($node, "$slow SELECT count(value) FROM cachekit.fetch_many('u', ARRAY[1])"), 1, 'by fetch_many as well');
	$holder->quit;
	is(result($loader), 10, 'the loader has its answer');
	$loader->quit;
}
$node->safe_psql('postgres', q{SELECT cachekit.stat_reset()});
is(output_of($node, "$slow SELECT count(value) FROM generate_series(1, 20), cachekit.fetch_many('u', ARRAY[1, 1])"), 40,
	'fetch_many loads early');
cmp_ok(counter($node, 'u', 'early_refreshes'), '>=', 1, 'it does');
is(output_of($node, "$slow SELECT cachekit.fetch('u', 1, 'fresh') IS NOT NULL; SELECT cachekit.stat_reset();
	SELECT count(cachekit.fetch('u', 1, 'fresh')) FROM generate_series(1, 20)") =~ s/\s+/ /gr, 't 20', 'strategy fresh');
is(counter($node, 'u', 'early_refreshes'), 0, 'never loads');

$node->stop;
is(log_lines($node, qr/PANIC:|TRAP:/), '', 'no assertion failed');
done_testing();
