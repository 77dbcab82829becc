# pg_dump and restore of attached tables, plain and partitioned: entities come back with their
# settings and triggers, are sound, and serve what is right. DROP EXTENSION takes all of it away.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use CacheKit;

my $node = new_node('main');
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE source');
$node->safe_psql(
	'source', q{
	CREATE EXTENSION cachekit;

	CREATE TABLE users (id int PRIMARY KEY, name text, secret text);
	INSERT INTO users SELECT g, 'user ' || g, 'x' FROM generate_series(1, 10) AS g;
	SELECT cachekit.attach('users', name => 'Ein "Name"', ttl => '90 min', negative_ttl => '3 s',
		columns => '{id,name}');

	CREATE SCHEMA "Shop";
	CREATE TABLE "Shop"."Line" ("Order" int, pos text, v numeric, PRIMARY KEY ("Order", pos));
	INSERT INTO "Shop"."Line" VALUES (7, 'a b', 1.50);
	SELECT cachekit.attach('"Shop"."Line"', ttl => 'infinity');

	-- a tree: leaves with other orders of columns, a default partition, a partitioned partition
	CREATE TABLE events (day date, id int, v text, PRIMARY KEY (day, id)) PARTITION BY RANGE (day);
	CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2024-01-01') TO ('2024-02-01');
	CREATE TABLE events_2 (v text, id int NOT NULL, day date NOT NULL);
	ALTER TABLE events ATTACH PARTITION events_2 FOR VALUES FROM ('2024-02-01') TO ('2024-03-01');
	CREATE TABLE events_3 PARTITION OF events FOR VALUES FROM ('2024-03-01') TO ('2024-05-01')
		PARTITION BY RANGE (day);
	CREATE TABLE events_3a PARTITION OF events_3 FOR VALUES FROM ('2024-03-01') TO ('2024-04-01');
	CREATE TABLE events_3b PARTITION OF events_3 FOR VALUES FROM ('2024-04-01') TO ('2024-05-01');
	CREATE TABLE events_rest PARTITION OF events DEFAULT;
	INSERT INTO events SELECT '2024-01-10'::date + 30 * g, g, 'event ' || g FROM generate_series(0, 5) AS g;
	SELECT cachekit.attach('events', on_change => 'invalidate', local => true);

	CREATE TABLE quiet (id int PRIMARY KEY);
	INSERT INTO quiet VALUES (1);
	SELECT cachekit.attach('quiet', local => false);
	});

# What identifies the entities, their triggers and the state of these.
my $entities = q{SELECT * FROM cachekit.entities ORDER BY relation::text COLLATE "C"};
my $triggers = q{
	SELECT t.tgrelid::regclass, t.tgname, p.proname, t.tgenabled, encode(t.tgargs, 'escape'),
	       EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_trigger'::regclass AND objid = t.oid
	                  AND refclassid = 'pg_extension'::regclass AND deptype = 'x')
	  FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = t.tgfoid
	 WHERE p.pronamespace = 'cachekit'::regnamespace
	 ORDER BY t.tgrelid::regclass::text COLLATE "C", p.proname};
my $expected_entities = $node->safe_psql('source', $entities);
my $expected_triggers = $node->safe_psql('source', $triggers);

is(() = $expected_entities =~ /\|t\|f\|f\|f\|\|\|0$/mg, 4, 'all entities are sound before');
is(() = $expected_triggers =~ /^/mg, 3 * 2 + 7 * 2, 'triggers before');
unlike($expected_triggers, qr/\|[ODR]\|/, 'all of them are ALWAYS before');

# That fetch follows changes of each kind; ids are chosen so that it can be asked again.
sub works
{
	my ($db, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is(output_of($node, 'SELECT * FROM cachekit.health()', $db), '', "$what: health() has nothing to say");
	is($node->safe_psql($db, $entities), $expected_entities, "$what: the entities");
	is($node->safe_psql($db, $triggers), $expected_triggers, "$what: their triggers");
	is(output_of($node, q{
		SELECT cachekit.fetch('users', 1), cachekit.fetch('users', 1);
		UPDATE users SET name = 'changed' WHERE id = 1;
		SELECT cachekit.fetch('users', 1);
		UPDATE users SET name = 'user 1' WHERE id = 1;
		SELECT cachekit.fetch('"Shop"."Line"', '(7,"a b")')->>'v';
		UPDATE "Shop"."Line" SET v = 2.0;
		SELECT cachekit.fetch('"Shop"."Line"', '(7,"a b")')->>'v';
		UPDATE "Shop"."Line" SET v = 1.50;
		SELECT string_agg(value->>'v', ',') FROM cachekit.fetch_many('events',
			'{"(2024-01-10,0)","(2024-02-09,1)","(2024-03-10,2)","(2024-04-09,3)","(2024-05-09,4)"}'::text);
		UPDATE events SET v = v || '!';
		SELECT string_agg(value->>'v', ',') FROM cachekit.fetch_many('events',
			'{"(2024-01-10,0)","(2024-02-09,1)","(2024-03-10,2)","(2024-04-09,3)","(2024-05-09,4)"}'::text);
		UPDATE events SET v = rtrim(v, '!');
		BEGIN;
		CREATE TEMP TABLE kept AS SELECT * FROM events_3b;
		TRUNCATE events_3b;
		COMMIT;
		SELECT cachekit.fetch('events', '(2024-04-09,3)');
		INSERT INTO events SELECT * FROM kept;
		SELECT cachekit.fetch('events', '(2024-04-09,3)')->>'v';
		SELECT cachekit.fetch('quiet', 1);
		}, $db), q({"id": 1, "name": "user 1"}|{"id": 1, "name": "user 1"}
{"id": 1, "name": "changed"}
1.50
2.0
event 0,event 1,event 2,event 3,event 4
event 0!,event 1!,event 2!,event 3!,event 4!

event 3
{"id": 1}), "$what: fetch is right");
	cmp_ok($node->safe_psql($db, q{SELECT local_hits FROM cachekit.stat_entities WHERE name = 'Ein "Name"'}),
		'>', 0, "$what: and served from the cache");
	return;
}

works('source', 'the original');

# --- dump and restore ---

my $folder = PostgreSQL::Test::Utils::tempdir;

# Run a program that must say nothing; messages are the cause of a failure.
sub quietly
{
	my ($what, @command) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($out, $err) = ('', '');
	my $done = $node->run_log(\@command, '>', \$out, '2>', \$err);

	return ok($done && $err eq '', "$what succeeds without a word") || diag($err);
}

quietly('plain dump', 'pg_dump', '-f', "$folder/plain.sql", 'source');
quietly('custom dump', 'pg_dump', '-Fc', '-f', "$folder/custom", 'source');
$node->safe_psql('postgres', "CREATE DATABASE $_ TEMPLATE template0")
  foreach ('plain', 'transaction', 'custom', 'parallel');

# What works after a restore that succeeded; else there is nothing to look at.
sub restored
{
	my ($db, $what, @command) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	quietly($what, @command) && works($db, $what);
	return;
}

my @psql = ('psql', '-Xq', '-o', "$folder/out", '-v', 'ON_ERROR_STOP=1');

restored('plain', 'restore by psql', @psql, '-d', 'plain', '-f', "$folder/plain.sql");
restored('transaction', 'restore in one transaction', @psql, '-1', '-d', 'transaction',
	'-f', "$folder/plain.sql");
restored('custom', 'pg_restore', 'pg_restore', '--exit-on-error', '-d', 'custom', "$folder/custom");
restored('parallel', 'pg_restore -j', 'pg_restore', '--exit-on-error', '-j', '4', '-d', 'parallel',
	"$folder/custom");

# --- data only, with triggers disabled ---

quietly('dump of data only', 'pg_dump', '--data-only', '--disable-triggers', '-n', 'public',
	'-n', '"Shop"', '-f', "$folder/data.sql", 'source');
my $everything = q{
	SELECT cachekit.fetch('users', 2), cachekit.fetch('"Shop"."Line"', '(7,"a b")'),
	       cachekit.fetch('events', '(2024-01-10,0)'), cachekit.fetch('events', '(2024-04-09,3)')};
my $documents = $node->safe_psql('source', $everything);
is($node->safe_psql('source', "TRUNCATE users, \"Shop\".\"Line\", events, quiet; $everything"), '|||',
	'emptied');
quietly('restore of data only', @psql, '-d', 'source', '-f', "$folder/data.sql");
is(output_of($node, $everything, 'source'), $documents, 'data only: nothing is remembered as absent');
works('source', 'data only');

# --- without the extension, and again with it ---

my $session = session($node, 'source');
is($session->query_safe($everything), $documents, 'documents are cached');
is($session->query_safe($everything), $documents, 'and served');
is(output_of($node, 'DROP EXTENSION cachekit', 'source'), '', 'DROP EXTENSION needs no CASCADE');
is($node->safe_psql('source', q{
	SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'cachekit%';
	SELECT count(*) FROM pg_event_trigger;
	SELECT count(*) FROM pg_namespace WHERE nspname = 'cachekit';}), "0\n0\n0", 'nothing of it is left');
my ($out, $err) = result($session, $everything);
like($err, qr/ERROR: .*cachekit/, 'a session that used it gets an error');
is(output_of($node, q{
	UPDATE users SET name = 'unseen' WHERE id = 2;
	INSERT INTO users VALUES (50, 'fifty');
	TRUNCATE events;
	ALTER TABLE users RENAME COLUMN secret TO hidden;
	SELECT name FROM users WHERE id = 2}, 'source'), 'unseen', 'tables can be changed without it');

is(output_of($node, 'CREATE EXTENSION cachekit; SELECT count(*) FROM cachekit.entities', 'source'), 0,
	'CREATE EXTENSION begins with no entity');
($out, $err) = result($session, "SELECT cachekit.fetch('users', 2)");
like($err, qr/is not attached to cachekit/, 'nothing is attached');
is(output_of($node, q{
	SELECT cachekit.attach('users');
	SELECT cachekit.attach('"Shop"."Line"');
	SELECT cachekit.attach('events')}, 'source'), "\n\n", 'attached again');
is(result($session, q{SELECT cachekit.fetch('users', 2), cachekit.fetch('users', 50)->>'name',
	cachekit.fetch('events', '(2024-01-10,0)')}),
	'{"id": 2, "name": "unseen", "hidden": "x"}|fifty|', 'nothing from before is served');
is(output_of($node, 'SELECT * FROM cachekit.health()', 'source'), '', 'health() has nothing to say');
is(triggers_not_always($node, 'source'), '', 'all triggers are ALWAYS');

# In one transaction, or rolled back, with documents in the cache.
is($session->query_safe(q{
	SELECT cachekit.fetch('users', 2)->>'name';
	BEGIN; DROP EXTENSION cachekit; UPDATE users SET name = 'never' WHERE id = 2; ROLLBACK;
	SELECT cachekit.fetch('users', 2)->>'name';
	UPDATE users SET name = 'then' WHERE id = 2;
	SELECT cachekit.fetch('users', 2)->>'name';
	BEGIN; DROP EXTENSION cachekit; UPDATE users SET name = 'now' WHERE id = 2;
	CREATE EXTENSION cachekit; SELECT cachekit.attach('users'); COMMIT;
	SELECT cachekit.fetch('users', 2)->>'name'}), "unseen\nunseen\nthen\n\nnow",
	'DROP EXTENSION within a transaction');

$session->quit;
$node->stop;
done_testing();
