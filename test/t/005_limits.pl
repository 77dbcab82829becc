# Limits that are set at start: slots for entities, stripes of the fence, and what a server says of
# settings that make no sense. An entity without a slot reads its table and is reported.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use CacheKit;

my $node = new_node('main');

# --- settings that are refused at start ---

# As PostgreSQL does it with settings of libraries: it warns, and goes by the default.
foreach my $case (
	[ 'fence_stripes', '1000', '65536', qr/must be a power of two/ ],
	[ 'fence_stripes', '0', '65536', qr/0 is outside the valid range/ ],
	[ 'max_entities', '0', '1000', qr/0 is outside the valid range/ ],
	[ 'local_memory', '1000kB', '64MB', qr/1000 kB is outside the valid range/ ],
	[ 'local_memory', "'much'", '64MB', qr/invalid value for parameter "cachekit.local_memory"/ ])
{
	my ($name, $value, $default, $message) = @$case;
	my $offset = -e $node->logfile ? -s $node->logfile : 0;

	$node->append_conf('postgresql.conf', "cachekit.$name = $value");
	$node->start;
	is($node->safe_psql('postgres', "SHOW cachekit.$name"), $default, "$name = $value is refused");
	like(slurp_file($node->logfile, $offset), $message, "$name = $value: the log says why");
	$node->stop;
	$node->adjust_conf('postgresql.conf', "cachekit.$name", undef);
}

# --- few slots, one stripe ---

$node->append_conf(
	'postgresql.conf', q{
	cachekit.max_entities = 2
	cachekit.fence_stripes = 1
	cachekit.local_memory = 1MB
	});
$node->start;

my $four_tables = q{
	CREATE EXTENSION cachekit;
	CREATE TABLE a (id int PRIMARY KEY, v int);
	CREATE TABLE b (id int PRIMARY KEY, v int);
	CREATE TABLE c (id int PRIMARY KEY, v int);
	CREATE TABLE d (id int PRIMARY KEY, v int);
	INSERT INTO a VALUES (1, 0), (2, 0);
	INSERT INTO b VALUES (1, 0);
	INSERT INTO c VALUES (1, 0);
	INSERT INTO d VALUES (1, 0);
	};
my $fetch_all = q{
	SELECT string_agg(cachekit.fetch(r, 1)->>'v', ',' ORDER BY r::text COLLATE "C")
	  FROM (SELECT relation FROM cachekit.entities) AS e(r)};
my $health = 'SELECT * FROM cachekit.health() ORDER BY subject';

$node->safe_psql('postgres', $four_tables);
is(output_of($node, q{
	SELECT cachekit.attach('a');
	SELECT cachekit.attach('b');
	SELECT cachekit.attach('c');
	SELECT cachekit.attach('d')}), "\n\n\n", 'more entities than slots can be attached');
is($node->safe_psql('postgres', 'SELECT cachekit.slots_in_use()'), 2, 'all slots are taken');
is($node->safe_psql('postgres', $health), join("\n", map {
		"warning|entity $_|it is not cached: all slots for entities are taken|"
		  . 'Raise cachekit.max_entities (now 2) and restart the server.' } ('c', 'd')),
	'health() says which have none, and what to do');

my $session = session($node);
is($session->query_safe($fetch_all), '0,0,0,0', 'without a slot, fetch reads the table');
is($session->query_safe($fetch_all), '0,0,0,0', 'and again');
is(join('', map { counter($node, $_, 'local_hits') } ('a', 'b', 'c', 'd')), '1100',
	'those with a slot are cached, the others are not');
is(output_of($node, join(';', (map { "UPDATE $_ SET v = 1" } ('a' .. 'd')), $fetch_all)),
	'1,1,1,1', 'changes are seen');
is($session->query_safe($fetch_all), '1,1,1,1', 'in other sessions too');
is(output_of($node, q{
	SELECT cachekit.flush('c');
	SELECT cachekit.invalidate('d', 1);
	TRUNCATE d;
	INSERT INTO d VALUES (1, 2);
	SELECT cachekit.attach('c', ttl => '1 min');
	ALTER TABLE d ADD COLUMN w int DEFAULT 5;
	SELECT cachekit.fetch('c', 1)->>'v', cachekit.fetch('d', 1)->>'w'}),
	"\n\n\n1|5", 'whatever is done to an entity without a slot');
is($session->query_safe("SELECT cachekit.fetch('d', 1)"), '{"v": 2, "w": 5, "id": 1}',
	'other sessions see that');
is($session->query_safe($fetch_all), '1,1,1,2', 'all is as it was said');

# One stripe: every change fences every key, and nothing else is wrong.
{
	my $holder = hold($node, 'raised');
	my $writer = session($node, 'postgres', "cachekit.debug_stop = 'raised'");
	my $hits = counter($node, 'b', 'local_hits');

	send_query($writer, 'UPDATE a SET v = 7 WHERE id = 2');
	wait_at_step($node, 'raised');
	is(inspect($node, 'b', 1), 't|t', 'one stripe: a stranger is fenced');
	is($session->query_safe($fetch_all), '1,1,1,2', 'one stripe: fetch is right meanwhile');
	is(counter($node, 'b', 'local_hits'), $hits, 'one stripe: from the table');
	$holder->quit;
	is(result($writer), '', 'one stripe: the writer is done');
	$writer->quit;
	is(inspect($node, 'b', 1), 't|f', 'one stripe: the stranger is still cached');
	is(output_of($node, "SELECT cachekit.fetch('a', 2)->>'v'"), 7, 'one stripe: the change is seen');
}

# --- slots are given back ---

# Each of these frees the slots of a and b in another way; then c and d can have them, in sessions
# too that asked in vain before.
sub slots_are_free
{
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is(output_of($node, $health), '', "$what: health() has nothing to say");
	foreach my $who ('a new session', 'a session that asked before')
	{
		my $sql = "SELECT cachekit.flush(); $fetch_all; SELECT cachekit.stat_reset(); $fetch_all";

		is($who eq 'a new session' ? output_of($node, $sql) : $session->query_safe($sql),
			"\n1,2\n\n1,2", "$what: fetch is right in $who");
		is(counter($node, 'c', 'local_hits') . counter($node, 'd', 'local_hits'), '11',
			"$what: and served from the cache in $who");
	}
	is($node->safe_psql('postgres', 'SELECT cachekit.slots_in_use()'), 2, "$what: two slots in use");
	return;
}

# Takes both slots for a and b again, with c and d attached but without.
sub take_slots
{
	my ($db) = @_;

	$node->safe_psql('postgres', q{SELECT cachekit.detach(relation) FROM cachekit.entities});
	$node->safe_psql($db, q{SELECT cachekit.attach('a'); SELECT cachekit.attach('b')});
	$node->safe_psql('postgres', q{SELECT cachekit.attach('c'); SELECT cachekit.attach('d')});
	$session->query_safe($fetch_all);
	return;
}

$node->safe_psql('postgres', q{SELECT cachekit.detach('a'); SELECT cachekit.detach('b')});
slots_are_free('detach');

take_slots('postgres');
$node->safe_psql('postgres', 'DROP TABLE a, b');
slots_are_free('DROP TABLE');

$node->safe_psql('postgres', 'CREATE DATABASE other');
$node->safe_psql('other', $four_tables);
take_slots('other');
$node->safe_psql('other', 'DROP EXTENSION cachekit');
slots_are_free('DROP EXTENSION in another database');

$node->safe_psql('other', 'CREATE EXTENSION cachekit');
take_slots('other');
is($node->safe_psql('postgres', 'SELECT count(*) FROM cachekit.health()'), 2,
	'another database has all slots');
is($node->safe_psql('other', "SELECT cachekit.fetch('a', 1)->>'v', cachekit.fetch('a', 1)->>'v'"), '0|0',
	'and documents in the cache');
$node->safe_psql('postgres', 'DROP DATABASE other');
slots_are_free('DROP DATABASE');

$node->safe_psql('postgres', q{
	CREATE TABLE e (id int PRIMARY KEY);
	SELECT cachekit.detach('c');
	BEGIN;
	SELECT cachekit.attach('e');
	ROLLBACK;
	SELECT cachekit.attach('c')});
slots_are_free('a rolled back attach()');

$session->quit;

# --- many entities ---

$node->append_conf(
	'postgresql.conf', q{
	cachekit.max_entities = 2500
	cachekit.fence_stripes = 65536
	cachekit.local_memory = 16MB
	});
$node->restart;
$node->safe_psql('postgres', q{
	DO $$
	BEGIN
		FOR i IN 1 .. 2000 LOOP
			EXECUTE format('CREATE TABLE many_%s (id int PRIMARY KEY, v int)', i);
			EXECUTE format('INSERT INTO many_%s VALUES (1, %s)', i, i);
			PERFORM cachekit.attach(format('many_%s', i)::regclass);
			IF i % 100 = 0 THEN
				COMMIT;
			END IF;
		END LOOP;
	END $$});
is($node->safe_psql('postgres', 'SELECT count(*) FROM cachekit.entities WHERE sound'), 2002,
	'2,000 entities: all are sound');
is(output_of($node, $health), '', '2,000 entities: health() has nothing to say');
my $sum = q{
	SELECT sum((cachekit.fetch(format('many_%s', i)::regclass, 1)->>'v')::int)
	  FROM generate_series(1, 2000) AS i};
is(output_of($node, "$sum; $sum"), "2001000\n2001000", '2,000 entities: fetch is right');
is($node->safe_psql('postgres', "SELECT sum(local_hits) FROM cachekit.stat_entities"), 2000,
	'2,000 entities: and served from the cache');
$node->safe_psql('postgres', q{
	DO $$ BEGIN
		FOR i IN 1 .. 2000 LOOP
			EXECUTE format('UPDATE many_%s SET v = v + 1', i);
		END LOOP;
	END $$});
is(output_of($node, $sum), '2003000', '2,000 entities: changed in one transaction');
is(output_of($node, 'SELECT cachekit.flush()'), '', '2,000 entities: flushed in one transaction');
is($node->safe_psql('postgres', 'SELECT sum(flushes) > 2000 FROM cachekit.stat_entities'), 't',
	'2,000 entities: that is counted');
is(output_of($node, $sum), '2003000', '2,000 entities: fetch is right after it');

$node->stop;
done_testing();
