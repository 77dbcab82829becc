# A server that does not preload cachekit: everything reads its table and says so, nothing fails,
# and what is changed meanwhile, rows and definitions, is right once the library is preloaded.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use CacheKit;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(extra => [ '--no-locale', '--encoding=UTF8' ]);
$node->append_conf('postgresql.conf', 'max_prepared_transactions = 2');
$node->start;

$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION cachekit;
	CREATE TABLE users (id int PRIMARY KEY, name text);
	INSERT INTO users SELECT g, 'user ' || g FROM generate_series(1, 10) AS g;
	CREATE TABLE renamed (a int, b text, v text, PRIMARY KEY (a, b));
	INSERT INTO renamed VALUES (1, 'x', 'old');
	CREATE TABLE dropped (id int PRIMARY KEY);
	CREATE SCHEMA doomed;
	CREATE TABLE doomed.cascaded (id int PRIMARY KEY);
	CREATE TABLE measures (day date, id int, v int, PRIMARY KEY (day, id)) PARTITION BY RANGE (day);
	CREATE TABLE measures_1 PARTITION OF measures FOR VALUES FROM ('2024-01-01') TO ('2024-02-01');
	INSERT INTO measures VALUES ('2024-01-05', 1, 10);
	CREATE TABLE restored (id int PRIMARY KEY, v text);
	INSERT INTO restored VALUES (1, 'one');
	CREATE TABLE moved (id int PRIMARY KEY, v text);
	INSERT INTO moved VALUES (1, 'one');
	});

# --- it works, and says that it does not cache ---

is(output_of($node, q{
	SELECT cachekit.attach(r)
	  FROM unnest('{users,renamed,dropped,doomed.cascaded,measures,restored,moved}'::regclass[]) AS r}),
	"\n" x 6, 'attach works');

foreach my $session (1, 2)
{
	my ($status, $out, $err) = $node->psql('postgres', q{
		SELECT cachekit.fetch('users', 1);
		SELECT cachekit.fetch('users', 2);
		SELECT (cachekit.fetch_row(NULL::users, 3)).name;
		SELECT value FROM cachekit.fetch_many('users', '{4,99}'::int[])});
	is($status, 0, "session $session can fetch");
	is($out, q({"id": 1, "name": "user 1"}
{"id": 2, "name": "user 2"}
user 3
{"id": 4, "name": "user 4"}
),
		"session $session reads the table");
	is(() = $err =~ /WARNING:/g, 1, "session $session is warned once");
	like($err, qr/WARNING: .*not preloaded/, "session $session is told why");
	like($err, qr/HINT: .*shared_preload_libraries.*restart/, "session $session is told what to do");
}

like($node->safe_psql('postgres', 'SELECT * FROM cachekit.health()'),
	qr/^error\|server\|.*not preloaded.*\|Add cachekit to shared_preload_libraries/,
	'health() says so');
is($node->safe_psql('postgres', 'SELECT count(*) FROM cachekit.health()'), 1,
	'health() says nothing else');
is(output_of($node, q{
	SELECT cachekit.invalidate('users', 1);
	SELECT cachekit.flush('users');
	SELECT cachekit.flush();
	SELECT count(*) FROM cachekit.stat_entities;
	SELECT cachekit.stat_reset();
	SELECT count(*) FROM cachekit.entities;
	SELECT cachekit.key('users', 1);
	}), "\n\n\n7\n\n7\npostgres:users:1", 'functions and views work');

# Settings that only a preloaded library has are no reason to warn whoever changes a row.
$node->safe_psql('postgres', q{ALTER DATABASE postgres SET cachekit.local_memory = '32MB'});
is(error_of($node, 'UPDATE users SET name = name WHERE id = 1'), '',
	'a session that only writes is told nothing, though there are settings of cachekit');
$node->safe_psql('postgres', 'ALTER DATABASE postgres RESET cachekit.local_memory');

is($node->safe_psql('postgres', "SELECT count(*) FROM cachekit.inspect('users', 1) WHERE present"),
	0, 'nothing is cached');
like(error_of($node, "BEGIN; UPDATE users SET name = 'x' WHERE id = 1; PREPARE TRANSACTION 'x'"),
	qr/cannot PREPARE a transaction that has changed an entity/,
	'a prepared transaction is refused');

# --- changes without the hooks: the event triggers follow them ---

is(output_of($node, q{
	UPDATE users SET name = 'changed' WHERE id = 1;
	DELETE FROM users WHERE id = 2;

	ALTER TABLE renamed RENAME COLUMN b TO c;
	SELECT key FROM cachekit.entities WHERE name = 'renamed';

	DROP TABLE dropped;
	}), '{a,c}', 'rename of a key column is followed');
is(error_of($node, 'DROP SCHEMA doomed CASCADE'),
	'psql:<stdin>:1: NOTICE:  drop cascades to table doomed.cascaded', 'drop of a schema');
is($node->safe_psql('postgres', 'SELECT name FROM cachekit.entities ORDER BY 1'),
	"measures\nmoved\nrenamed\nrestored\nusers", 'entities of dropped tables are gone');

$node->safe_psql(
	'postgres', q{
	CREATE TABLE measures_2 PARTITION OF measures FOR VALUES FROM ('2024-02-01') TO ('2024-03-01');
	INSERT INTO measures VALUES ('2024-02-05', 2, 20);
	CREATE TABLE measures_3 (v int, id int NOT NULL, day date NOT NULL);
	ALTER TABLE measures ATTACH PARTITION measures_3 FOR VALUES FROM ('2024-03-01') TO ('2024-04-01');
	INSERT INTO measures VALUES ('2024-03-05', 3, 30);
	ALTER TABLE measures DETACH PARTITION measures_1;

	ALTER TABLE restored DISABLE TRIGGER ALL;
	ALTER TABLE restored ENABLE TRIGGER ALL;

	CREATE SCHEMA elsewhere;
	ALTER TABLE moved SET SCHEMA elsewhere;
	ALTER TABLE elsewhere.moved RENAME TO away;
	ALTER TABLE elsewhere.away ADD COLUMN more int DEFAULT 7;
	});

my $triggers = q{
	SELECT t.tgrelid::regclass, p.proname, t.tgenabled
	  FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = t.tgfoid
	 WHERE p.pronamespace = 'cachekit'::regnamespace AND t.tgrelid::regclass::text LIKE 'measures%'
	 ORDER BY t.tgrelid::regclass::text, 2};
is($node->safe_psql('postgres', $triggers), q{measures|on_row_change|A
measures|on_truncate|A
measures_2|on_row_change|A
measures_2|on_truncate|A
measures_3|on_row_change|A
measures_3|on_truncate|A}, 'new partitions have their triggers, a detached one has none');
is(triggers_not_always($node), '', 'all triggers are ENABLE ALWAYS');

# --- the same server, preloaded ---

$node->append_conf('postgresql.conf', "shared_preload_libraries = 'cachekit'");
$node->restart;

is(output_of($node, 'SELECT * FROM cachekit.health()'), '', 'preloaded: health() has nothing to say');
is($node->safe_psql('postgres', 'SELECT name FROM cachekit.entities WHERE NOT sound'), '',
	'preloaded: every entity is sound');

# Each document twice: from the table and, the second time, from the cache.
my %expected = (
	"'users', 1" => '{"id": 1, "name": "changed"}',
	"'users', 2" => '',
	"'users', 3" => '{"id": 3, "name": "user 3"}',
	"'renamed', (1, 'x'::text)" => '{"a": 1, "c": "x", "v": "old"}',
	"'measures', ('2024-01-05'::date, 1)" => '',
	"'measures', ('2024-02-05'::date, 2)" => '{"v": 20, "id": 2, "day": "2024-02-05"}',
	"'measures', ('2024-03-05'::date, 3)" => '{"v": 30, "id": 3, "day": "2024-03-05"}',
	"'restored', 1" => '{"v": "one", "id": 1}',
	"'elsewhere.away', 1" => '{"v": "one", "id": 1, "more": 7}');
foreach my $call (sort keys %expected)
{
	is(output_of($node, "SELECT cachekit.fetch($call); SELECT cachekit.fetch($call)"),
		"$expected{$call}\n$expected{$call}", "preloaded: fetch($call)");
}
is($node->safe_psql('postgres', 'SELECT sum(local_hits) FROM cachekit.stat_entities'), 7,
	'preloaded: documents come from the cache');

# Changes of all that was touched meanwhile are seen.
is(output_of($node, q{
	UPDATE users SET name = 'again' WHERE id = 1;
	SELECT cachekit.fetch('users', 1);
	UPDATE renamed SET v = 'new';
	SELECT cachekit.fetch('renamed', '(1,x)');
	TRUNCATE measures_2;
	SELECT cachekit.fetch('measures', '(2024-02-05,2)');
	UPDATE measures_3 SET v = 31;
	SELECT cachekit.fetch('measures', '(2024-03-05,3)');
	SET session_replication_role = replica;
	UPDATE restored SET v = 'two';
	SELECT cachekit.fetch('restored', 1);
	UPDATE elsewhere.away SET more = 8;
	SELECT cachekit.fetch('elsewhere.away', 1);
	}), q{{"id": 1, "name": "again"}
{"a": 1, "c": "x", "v": "new"}

{"v": 31, "id": 3, "day": "2024-03-05"}
{"v": "two", "id": 1}
{"v": "one", "id": 1, "more": 8}}, 'preloaded: changes are seen');

$node->stop;
done_testing();
