# Entities on a Redis server: what redis-cli finds there, when it goes, and what becomes of it when
# the server, its options, its user mapping or its database change.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use CacheKit;
use CacheServer;
use RedisServer;

my $redis = RedisServer->new('main')->start;
my $other = RedisServer->new('other')->start;
my $node = new_node('main', allows_streaming => 1);
$node->start;
$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION cachekit;
	CREATE TABLE t (id int PRIMARY KEY, v text);
	CREATE TABLE u (id int PRIMARY KEY, v text);
	INSERT INTO t SELECT g, 'old' FROM generate_series(1, 20) AS g;
	INSERT INTO u SELECT g, 'old' FROM generate_series(1, 20) AS g;
	});

sub sql
{
	my ($sql, $db) = @_;

	return output_of($node, $sql, $db);
}

# Both documents 1 are in Redis.
sub fill_both
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return ok(filled($node, $redis, 't', 1) && filled($node, $redis, 'u', 1), $_[0]);
}

# --- options ---

foreach my $bad (
	[ q{host 'h'}, qr/option "kind" is missing.*kind of a cache server is "redis" or "memcached"/s ],
	[ q{kind 'mongo'}, qr/invalid value "mongo" for option "kind".*"redis", "memcached"/s ],
	[ q{kind 'redis', port '0'}, qr/invalid value "0" for option "port".*from 1 to 65535/s ],
	[ q{kind 'redis', port 'x'}, qr/invalid value "x" for option "port".*whole number/s ],
	[ q{kind 'redis', connections '17'}, qr/"17" for option "connections".*from 1 to 16/s ],
	[ q{kind 'redis', database '-1'}, qr/"-1" for option "database".*from 0 to/s ],
	[ q{kind 'redis', command_timeout '2 parsecs'}, qr/option "command_timeout".*'500ms' or '2s'/s ],
	[ q{kind 'redis', breaker_threshold '0'}, qr/option "breaker_threshold".*from 1 to/s ],
	[ q{kind 'redis', host ''}, qr/invalid value for option "host".*1 to 255 bytes/s ],
	[ q{kind 'redis', namespace ''}, qr/namespace.*1 to 60/s ],
	[ sprintf(q{kind 'redis', namespace '%s'}, 'n' x 61), qr/namespace.*61 bytes.*1 to 60.*shorter/s ],
	[ q{kind 'redis', hots 'h'}, qr/invalid option "hots".*Options of servers are "kind", "host"/s ],
	[ q{kind 'redis', password 'secret'}, qr/invalid option "password".*option of user mappings/s ])
{
	my ($options, $message) = @$bad;

	like(error_of($node, "CREATE SERVER bad FOREIGN DATA WRAPPER cachekit OPTIONS ($options)"),
		$message, "CREATE SERVER with $options");
}
sql(sprintf q{CREATE SERVER hot FOREIGN DATA WRAPPER cachekit OPTIONS (%s)}, $redis->server_options);
like(error_of($node, q{CREATE USER MAPPING FOR PUBLIC SERVER hot OPTIONS (host 'h')}),
	qr/invalid option "host".*option of servers/s, 'an option of servers for a user mapping');
like(error_of($node, q{SELECT cachekit.attach('t', servers => '{cold}')}),
	qr/server "cold" does not exist/, 'attach with a server that there is not');

# --- fill and read ---

sql(q{SELECT cachekit.attach('t', servers => '{hot}', local => false, ttl => '100 s');
	SELECT cachekit.attach('u', servers => '{hot}', local => false, ttl => 'infinity')});
ok(wait_until_ready($node, 'hot'), 'the server becomes ready');
is(sql(q{SELECT cachekit.key('t', 1), cachekit.key('t', 1, 'hot'), cachekit.key('u', '2')}),
	'postgres:t:1|postgres:t:1|postgres:u:2', 'key()');
fill_both('documents are filled');
is($redis->cli('GET', 'postgres:t:1'), sql(q{SELECT cachekit.fetch('t', 1)::text}),
	'Redis has the document as text');
{
	my $hits = counter($node, 't', 'server_hits');
	my $loads = counter($node, 't', 'loads');

	is(sql(q{SELECT cachekit.fetch('t', 1)->>'v'}), 'old', 'fetch');
	is(counter($node, 't', 'server_hits'), $hits + 1, 'fetch: a server hit');
	is(counter($node, 't', 'loads'), $loads, 'fetch: no load');
}
is(sql(q{SELECT tier, present, bytes, fenced FROM cachekit.inspect('t', 1)}),
	'hot|t|' . length($redis->cli('GET', 'postgres:t:1')) . '|f', 'inspect: present');
is(sql(q{SELECT tier, present, bytes, fenced FROM cachekit.inspect('t', 19)}), 'hot|f||f',
	'inspect: absent');
{
	my $ttl = $redis->cli('PTTL', 'postgres:t:1');

	ok($ttl > 0 && $ttl <= 100_000, "PTTL $ttl is within the TTL");
	is($redis->cli('PTTL', 'postgres:u:1'), -1, 'ttl infinity: none in Redis');
}
is(sql(q{SELECT cachekit.fetch('t', 99)}), '', 'fetch of what there is not');
is($redis->cli('EXISTS', 'postgres:t:99'), 0, 'it is not in Redis');

# What somebody else writes there is wrong, but not an error.
$redis->cli('SET', 'postgres:u:7', 'no json {');
is(error_of($node, q{SELECT cachekit.fetch('u', 7)}), '', 'nonsense under a key of ours is no error');
$redis->cli('SET', 'postgres:u:8', "\xff\xfe");
is(error_of($node, q{SELECT cachekit.fetch('u', 8)}), '', 'bytes that are no text are no error');
$redis->cli('DEL', 'postgres:u:9');
$redis->cli('LPUSH', 'postgres:u:9', 'a');
is(error_of($node, q{SELECT cachekit.fetch('u', 9)}), '', 'a list under a key of ours is no error');
$redis->cli('DEL', 'postgres:u:7', 'postgres:u:8', 'postgres:u:9');

# --- changes ---

fill_both('before a change');
my $writer = session($node);
$writer->query_safe(q{BEGIN; UPDATE t SET v = 'new' WHERE id = 1});
is($redis->cli('EXISTS', 'postgres:t:1'), 1, 'an uncommitted change deletes nothing');
is(result($writer, q{SELECT cachekit.fetch('t', 1)->>'v'}), 'new', 'who made it sees it');
is(sql(q{SELECT cachekit.fetch('t', 1)->>'v'}), 'old', 'others do not');
$writer->query_safe('ROLLBACK');
ok(delivered($node, 'hot'), 'rollback');
is($redis->cli('GET', 'postgres:t:1'), sql(q{SELECT cachekit.fetch('t', 1)::text}),
	'rollback changes nothing');
$writer->query_safe(q{UPDATE t SET v = 'new' WHERE id = 1});
ok($redis->poll(0, 'EXISTS', 'postgres:t:1'), 'commit: the document goes');
is(sql(q{SELECT cachekit.fetch('t', 1)->>'v'}), 'new', 'commit: fetch');
ok(filled($node, $redis, 't', 1), 'commit: it is filled again');
is($redis->cli('GET', 'postgres:t:1'), sql(q{SELECT cachekit.fetch('t', 1)::text}), 'commit: the new one');
is($redis->cli('EXISTS', 'postgres:u:1'), 1, 'commit: others stay');
$writer->quit;
{
	my $sent = server_stat($node, 'hot', 'sent');

	ok(filled($node, $redis, 't', $_), "before a change of many: $_") foreach 1, 5, 20;
	sql(q{BEGIN; UPDATE t SET v = 'many'; SAVEPOINT s; UPDATE u SET v = 'none'; ROLLBACK TO s; COMMIT});
	is(sql(q{SELECT cachekit.wait_for_delivery('60s')}), 't', 'a change of many: delivered');
	is(join(' ', $redis->keys_like('postgres:t:*')), '', 'a change of many: all are gone');
	is($redis->cli('EXISTS', 'postgres:u:1'), 1, 'a change that was rolled back in it: stays');
	is(server_stat($node, 'hot', 'sent'), $sent + 20, 'sent');
	is(server_stat($node, 'hot', 'acknowledged'), $sent + 20, 'acknowledged');
}

foreach my $flush (
	[ q{SELECT cachekit.invalidate('t', 1)}, 'invalidate' ],
	[ q{SELECT cachekit.flush('t')}, 'flush' ],
	[ q{BEGIN; TRUNCATE t; INSERT INTO t SELECT g, 'again' FROM generate_series(1, 20) AS g; COMMIT},
		'TRUNCATE' ],
	[ q{ALTER TABLE t ADD COLUMN w int}, 'ALTER TABLE' ],
	[ q{SELECT cachekit.attach('t', ttl => '50 s')}, 'attach' ],
	[ q{SELECT cachekit.detach('t')}, 'detach' ])
{
	my ($sql, $what) = @$flush;

	fill_both("$what: before");
	sql($sql);
	is(sql(q{SELECT cachekit.wait_for_delivery('60s')}), 't', "$what: delivered");
	is(join(' ', $redis->keys_like('postgres:t:*')), '', "$what: the document goes");
	is($redis->cli('EXISTS', 'postgres:u:1'), 1, "$what: that of another entity stays");
}
sql(q{SELECT cachekit.attach('t', servers => '{hot}', local => false)});

# --- views ---

is(sql(q{SELECT name, servers FROM cachekit.entities ORDER BY name}), "t|{hot}\nu|{hot}", 'entities');
is(sql(q{SELECT name, namespace, state, readable FROM cachekit.servers}), 'hot|postgres|ready|t',
	'servers');
is(sql(q{SELECT name, state, breaker, position > '0/0', lag_bytes, oldest_unacknowledged IS NULL,
		sent >= acknowledged, fills_sent > 0, reads >= read_hits, read_hits > 0, flushes > 0
	 FROM cachekit.stat_servers}), 'hot|ready|closed|t|0|t|t|t|t|t|t', 'stat_servers');
is(sql(q{SELECT * FROM cachekit.health()}), '', 'health: nothing to say');

ok($node->safe_psql('postgres', q{SELECT bool_or(sent > 0) FROM cachekit.stat_servers}) eq 't'
	  && $node->safe_psql('postgres', q{SELECT cachekit.stat_reset(); SELECT max(sent + fills_sent) FROM cachekit.stat_servers})
	  =~ /^\s*0$/, 'stat_reset() clears the counters of servers');

# --- options that change while it runs ---

fill_both('before a new namespace');
sql(q{ALTER SERVER hot OPTIONS (ADD namespace 'my app')});
is(sql(q{SELECT cachekit.key('t', 1)}), 'my%20app:t:1', 'a new namespace: key()');
ok(wait_for_server($node, 'hot', q{state = 'ready' AND EXISTS (
		SELECT FROM cachekit.servers AS s WHERE s.name = 'hot' AND s.namespace = 'my%20app')}),
	'a new namespace: ready');
fill_both('a new namespace: filled');
all_right($node, $redis, 't', 'a new namespace');
sql(q{UPDATE t SET v = 'namespace'});
ok(delivered($node, 'hot'), 'a new namespace: delivered');
is(join(' ', $redis->keys_like('my%20app:t:*')), '', 'a new namespace: a change arrives');

sql(sprintf q{ALTER SERVER hot OPTIONS (SET port '%d')}, $other->port);
ok($other->poll(1, 'EXISTS', 'my%20app:cachekit'), 'a new port: the marker is there');
ok(delivered($node, 'hot'), 'a new port: ready');
ok(filled($node, $other, 't', 1), 'a new port: filled');
sql(q{UPDATE t SET v = 'port'});
ok(delivered($node, 'hot'), 'a new port: delivered');
is($other->cli('EXISTS', 'my%20app:t:1'), 0, 'a new port: a change arrives');

# Back again: Redis may still have what has changed meanwhile.
sql(sprintf q{ALTER SERVER hot OPTIONS (SET port '%d', DROP namespace)}, $redis->port);
ok(wait_for_server($node, 'hot', q{state = 'ready' AND EXISTS (
		SELECT FROM cachekit.servers AS s WHERE s.name = 'hot' AND s.namespace = 'postgres')}),
	'back again: ready');
ok(delivered($node, 'hot'), 'back again: delivered');
all_right($node, $redis, $_, 'back again') foreach 't', 'u';

fill_both('before a new name');
sql(q{ALTER SERVER hot RENAME TO warm});
is(sql(q{SELECT DISTINCT servers FROM cachekit.entities}), '{warm}', 'a new name: in the entities');
ok(delivered($node, 'warm'), 'a new name: ready');
sql(q{UPDATE t SET v = 'renamed'});
ok(delivered($node, 'warm'), 'a new name: delivered');
is($redis->cli('EXISTS', 'postgres:t:1'), 0, 'a new name: a change arrives');
ok(filled($node, $redis, 't', 1), 'a new name: filled');

# --- credentials ---

$redis->cli('ACL', 'SETUSER', 'cache', 'on', '>secret', '~*', '&*', '+@all');
$redis->cli('ACL', 'SETUSER', 'admin', 'on', '>admin', '~*', '&*', '+@all');
$redis->use_cli('--user', 'admin', '--pass', 'admin');
$redis->cli('ACL', 'SETUSER', 'default', 'off');
$redis->cli('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
ok(wait_for_server($node, 'warm', q{last_error LIKE '%NOAUTH%'}), 'no password: last_error');
sql(q{CREATE USER MAPPING FOR PUBLIC SERVER warm OPTIONS (user 'cache', password 'wrong')});
ok(wait_for_server($node, 'warm', q{last_error LIKE '%WRONGPASS%'}), 'wrong password: last_error');
is(sql(q{SELECT cachekit.fetch('t', 1) = to_jsonb(t) FROM t WHERE id = 1}), 't', 'wrong password: fetch');
sql(q{UPDATE t SET v = 'locked out'});
is(sql(q{SELECT cachekit.fetch('t', 1) = to_jsonb(t) FROM t WHERE id = 1}), 't',
	'wrong password: fetch after a change');
like(sql(q{SELECT severity, subject, problem FROM cachekit.health()}),
	qr/^warning\|server warm\|it is not used: state connecting, .*WRONGPASS/m, 'wrong password: health');
like(sql(q{SELECT hint FROM cachekit.health()}), qr/user mapping/, 'wrong password: the hint');
unlike(sql(q{SELECT * FROM cachekit.health()}) . slurp_file($node->logfile), qr/server warm.*secret/,
	'no password in messages');
sql(q{ALTER USER MAPPING FOR PUBLIC SERVER warm OPTIONS (SET password 'secret')});
ok(delivered($node, 'warm'), 'the right password: ready');
all_right($node, $redis, $_, 'the right password') foreach 't', 'u';
is(sql(q{SELECT * FROM cachekit.health()}), '', 'the right password: health');
fill_both('the right password: filled');

# Rights that do not suffice are a fault as well, and no error.
$redis->cli('ACL', 'SETUSER', 'cache', '-del');
sql(q{UPDATE t SET v = 'no right'});
ok(wait_for_server($node, 'warm', q{last_error LIKE '%NOPERM%'}), 'no right to DEL: last_error');
is(sql(q{SELECT cachekit.fetch('t', 1) = to_jsonb(t) FROM t WHERE id = 1}), 't', 'no right to DEL: fetch');
$redis->cli('ACL', 'SETUSER', 'cache', '+del');
ok(delivered($node, 'warm'), 'the right again: delivered');
all_right($node, $redis, 't', 'the right again');

# --- databases ---

sub slots
{
	my ($db) = @_;

	return qq{SELECT count(*) FROM pg_replication_slots AS s JOIN pg_database AS d
		ON s.slot_name LIKE 'cachekit\\_' || d.oid || '\\_%' WHERE d.datname = '$db'};
}

sql(q{CREATE DATABASE shop});
sql(sprintf(q{CREATE EXTENSION cachekit;
	CREATE TABLE t (id int PRIMARY KEY, v text);
	INSERT INTO t SELECT g, 'shop' FROM generate_series(1, 20) AS g;
	CREATE SERVER hot FOREIGN DATA WRAPPER cachekit OPTIONS (%s);
	CREATE USER MAPPING FOR PUBLIC SERVER hot OPTIONS (user 'cache', password 'secret');
	SELECT cachekit.attach('t', servers => '{hot}', local => false)}, $redis->server_options), 'shop');
ok(delivered($node, 'hot', 'shop'), 'another database: ready');
ok(filled($node, $redis, 't', 1, 'shop'), 'another database: filled');
is($redis->cli('GET', 'shop:t:1'), sql(q{SELECT to_jsonb(t) FROM t WHERE id = 1}, 'shop'),
	'another database: its namespace');
is(sql(slots('shop')), 1, 'another database: a replication slot');

sql(q{CREATE DATABASE shop2 TEMPLATE shop});
ok(delivered($node, 'hot', 'shop2'), 'a database made from it: ready');
ok(filled($node, $redis, 't', 2, 'shop2'), 'a database made from it: filled');
is($redis->cli('EXISTS', 'shop2:t:2'), 1, 'a database made from it: its own namespace');
ok(delivered($node, 'hot', 'shop'), 'the database that it is made from: ready');

sql(q{ALTER DATABASE shop2 RENAME TO store});
is(sql(q{SELECT cachekit.key('t', 1)}, 'store'), 'store:t:1', 'a renamed database: key()');
ok(wait_for_server($node, 'hot', q{state = 'ready' AND EXISTS (
		SELECT FROM cachekit.servers AS s WHERE s.name = 'hot' AND s.namespace = 'store')}, 'store'),
	'a renamed database: ready in its new namespace');
ok(filled($node, $redis, 't', 2, 'store'), 'a renamed database: filled');
all_right($node, $redis, 't', 'a renamed database', 'store');

my $store = sql(q{SELECT oid FROM pg_database WHERE datname = 'store'});
sql(q{DROP DATABASE store});
ok($node->poll_query_until('postgres', qq{SELECT count(*) = 0 FROM pg_replication_slots
		WHERE slot_name LIKE 'cachekit\\_$store\\_%'}), 'a dropped database: its slot goes');
ok(delivered($node, 'hot', 'shop'), 'a dropped database: the others go on');

# --- the end of servers ---

sql(q{DROP USER MAPPING FOR PUBLIC SERVER hot}, 'shop');
{
	my ($status, $out, $err) = $node->psql('shop', 'DROP SERVER hot');

	like($err, qr/cannot drop server "hot".*entity "t" uses it.*CASCADE/s, 'DROP SERVER: refused, with a hint');
}
sql(q{SET client_min_messages = warning; DROP SERVER hot CASCADE}, 'shop');
is(sql(q{SELECT name, servers FROM cachekit.entities}, 'shop'), 't|{}', 'DROP SERVER CASCADE: the entity stays');
is(sql(q{SELECT cachekit.fetch('t', 1)->>'v'}, 'shop'), 'shop', 'DROP SERVER CASCADE: fetch');
ok($node->poll_query_until('shop', slots('shop') =~ s/count\(\*\)/count(*) = 0/r),
	'DROP SERVER CASCADE: its slot goes');

ok(delivered($node, 'warm'), 'before DROP EXTENSION');
sql(q{SET client_min_messages = warning; DROP EXTENSION cachekit CASCADE});
ok($node->poll_query_until('postgres', slots('postgres') =~ s/count\(\*\)/count(*) = 0/r),
	'DROP EXTENSION CASCADE: the slot goes');
is(sql(q{UPDATE t SET v = 'alone'; SELECT count(*) FROM t WHERE v = 'alone'}), 20,
	'DROP EXTENSION CASCADE: the table goes on');

# Two servers in one namespace would flush each other without end.
sql(q{SET client_min_messages = warning; CREATE EXTENSION cachekit});
sql(sprintf q{
	CREATE SERVER one FOREIGN DATA WRAPPER cachekit OPTIONS (%s, namespace 'same');
	CREATE USER MAPPING FOR PUBLIC SERVER one OPTIONS (user 'cache', password 'secret');
	SELECT cachekit.attach('t', servers => '{one}', local => false)}, $redis->server_options);
ok(delivered($node, 'one'), 'one namespace: the first is ready');
sql(sprintf q{
	CREATE SERVER two FOREIGN DATA WRAPPER cachekit OPTIONS (%s, namespace 'same');
	CREATE USER MAPPING FOR PUBLIC SERVER two OPTIONS (user 'cache', password 'secret')},
	$redis->server_options);
ok(wait_for_server($node, 'two', 'last_error IS NOT NULL'), 'one namespace: the second has an error');
{
	my $flushes = q{SELECT sum(flushes) FROM cachekit.stat_servers};
	my $before = sql($flushes);

	like(sql(q{SELECT problem || hint FROM cachekit.health()}), qr/namespace/, 'one namespace: health');
	foreach (1 .. 20)
	{
		sql(q{UPDATE t SET v = v || 'x'; SELECT count(cachekit.fetch('t', id)) FROM t});
	}
	is(sql($flushes), $before, 'one namespace: they do not flush each other');
}
sql(q{SET client_min_messages = warning; DROP EXTENSION cachekit CASCADE});
ok($node->poll_query_until('postgres', slots('postgres') =~ s/count\(\*\)/count(*) = 0/r),
	'one namespace: both slots go');

# And again from the beginning, where Redis has old documents.
sql(sprintf q{CREATE EXTENSION cachekit;
	CREATE SERVER hot FOREIGN DATA WRAPPER cachekit OPTIONS (%s);
	CREATE USER MAPPING FOR PUBLIC SERVER hot OPTIONS (user 'cache', password 'secret');
	SELECT cachekit.attach('t', servers => '{hot}', local => false)}, $redis->server_options);
ok(delivered($node, 'hot'), 'created again: ready');
ok(filled($node, $redis, 't', 3), 'created again: filled');
all_right($node, $redis, 't', 'created again');

$node->stop;
is(log_lines($node, qr/PANIC:|TRAP:|terminated by signal/), '', 'nobody crashed');
done_testing();
