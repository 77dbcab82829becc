# Logical replication: what an apply worker changes in an attached table is invalidated there, in
# plain tables and partitions, in streamed transactions too. Two-phase transactions are refused,
# and health() says which subscription will meet that.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use CacheKit;

# The publisher knows nothing of cachekit.
my $publisher = PostgreSQL::Test::Cluster->new('publisher');
$publisher->init(allows_streaming => 'logical', extra => [ '--no-locale', '--encoding=UTF8' ]);
$publisher->append_conf(
	'postgresql.conf', q{
	logical_decoding_work_mem = 64kB
	max_prepared_transactions = 10
	});
$publisher->start;

my $subscriber = new_node('subscriber', allows_streaming => 'logical');
$subscriber->append_conf(
	'postgresql.conf', q{
	max_prepared_transactions = 10
	wal_retrieve_retry_interval = 100ms
	});
$subscriber->start;

my $tables = q{
	CREATE TABLE t (id int PRIMARY KEY, v text);
	CREATE TABLE parts (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
	CREATE TABLE parts_low PARTITION OF parts FOR VALUES FROM (0) TO (100);
	CREATE TABLE parts_high PARTITION OF parts FOR VALUES FROM (100) TO (200);
	CREATE TABLE prepared (id int PRIMARY KEY, v text);
};
$publisher->safe_psql('postgres', $tables . q{
	CREATE TABLE routed (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
	CREATE TABLE routed_all PARTITION OF routed DEFAULT;
	INSERT INTO t VALUES (1, 'one'), (2, 'two'), (3, 'three');
	INSERT INTO parts VALUES (1, 'low'), (2, 'low'), (101, 'high');
	INSERT INTO routed VALUES (1, 'low'), (101, 'high');
	CREATE PUBLICATION plain FOR TABLE t, parts;
	CREATE PUBLICATION by_root FOR TABLE routed WITH (publish_via_partition_root = true);
	CREATE PUBLICATION in_two_phases FOR TABLE prepared;
	});

# Partitioned in another way, with the columns in another order.
$subscriber->safe_psql('postgres', $tables . q{
	CREATE TABLE routed (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
	CREATE TABLE routed_low (v text, id int NOT NULL);
	ALTER TABLE routed ATTACH PARTITION routed_low FOR VALUES FROM (0) TO (100);
	CREATE TABLE routed_high PARTITION OF routed FOR VALUES FROM (100) TO (200);
	CREATE EXTENSION cachekit;
	SELECT cachekit.attach(r, negative_ttl => '1 hour') FROM unnest('{t,parts,routed,prepared}'::regclass[]) AS r;
	});

# All documents that the test knows, twice: after this they are cached, the absent ones as such.
my $everything = q{
	SELECT entity, key, value->>'v'
	  FROM unnest('{t,parts,routed}'::regclass[]) AS entity,
	       cachekit.fetch_many(entity, '{1,2,3,4,101,102}'::int[])
	 ORDER BY entity::text, key::int};
my $truth = q{
	SELECT entity, key, v
	  FROM unnest('{t,parts,routed}'::text[]) AS entity
	 CROSS JOIN unnest('{1,2,3,4,101,102}'::int[]) AS key
	  LEFT JOIN (SELECT 't' AS r, * FROM t UNION ALL SELECT 'parts', id, v FROM parts
	             UNION ALL SELECT 'routed', id, v FROM routed) AS rows ON r = entity AND id = key
	 ORDER BY entity, key};

# After a change on the publisher, every fetch on the subscriber says what its tables say, and the
# changes did arrive there: $expected is what one query on its tables must return.
sub right_after
{
	my ($what, $sql, $query, $expected) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	$subscriber->safe_psql('postgres', $everything) for (1 .. 2);
	$publisher->safe_psql('postgres', $sql);
	$publisher->wait_for_catchup($_) foreach ('plain', 'by_root');
	is($subscriber->safe_psql('postgres', $query), $expected, "$what: applied");
	is($subscriber->safe_psql('postgres', $everything),
		$subscriber->safe_psql('postgres', $truth), "$what: every fetch is right");
	return;
}

# --- the first copy, into tables that are cached as empty ---

$subscriber->safe_psql('postgres', $everything) for (1 .. 2);
is(counter($subscriber, 't', 'negative_hits'), 6, 'absence is cached');
foreach my $name ('plain', 'by_root')
{
	$subscriber->safe_psql('postgres',
		"CREATE SUBSCRIPTION $name CONNECTION '"
		  . $publisher->connstr . " dbname=postgres' PUBLICATION $name WITH (streaming = on)");
}
$subscriber->wait_for_subscription_sync($publisher, $_) foreach ('plain', 'by_root');
is($subscriber->safe_psql('postgres', $everything), $subscriber->safe_psql('postgres', $truth),
	'first copy: every fetch is right');
is($subscriber->safe_psql('postgres', "SELECT cachekit.fetch('routed', 101)->>'v'"), 'high',
	'first copy: it has arrived');

# --- changes by the apply worker ---

right_after('UPDATE', q{
	UPDATE t SET v = 'uno' WHERE id = 1;
	UPDATE parts SET v = 'basso' WHERE id = 1;
	UPDATE routed SET v = 'alto' WHERE id = 101;},
	'SELECT v FROM t WHERE id = 1', 'uno');
right_after('INSERT', q{
	INSERT INTO t VALUES (4, 'four');
	INSERT INTO parts VALUES (102, 'high');
	INSERT INTO routed VALUES (2, 'low'), (102, 'high');},
	'SELECT count(*) FROM routed', 4);
right_after('changed keys', q{
	UPDATE t SET id = 102 WHERE id = 4;
	UPDATE parts SET id = 3 WHERE id = 102;
	UPDATE routed SET id = 3 WHERE id = 102;},
	'SELECT count(*) FROM parts_low', 3);
right_after('DELETE', q{
	DELETE FROM t WHERE id = 1;
	DELETE FROM parts WHERE id = 101;
	DELETE FROM routed WHERE id = 2;},
	'SELECT count(*) FROM parts_high', 0);
right_after('rollback', q{BEGIN; UPDATE t SET v = 'never'; ROLLBACK; UPDATE t SET v = 'due' WHERE id = 2},
	'SELECT v FROM t WHERE id = 2', 'due');
right_after('TRUNCATE of a leaf', 'TRUNCATE parts_low', 'SELECT count(*) FROM parts', 0);
right_after('TRUNCATE', 'TRUNCATE t, routed', 'SELECT count(*) FROM t', 0);

# A transaction so large that it is streamed before its commit, with a part that is undone.
right_after('streamed transaction', q{
	BEGIN;
	INSERT INTO t SELECT g, repeat('x', 100) FROM generate_series(1, 3000) AS g;
	SAVEPOINT s;
	UPDATE t SET v = 'undone';
	ROLLBACK TO s;
	UPDATE t SET v = 'streamed' WHERE id <= 4;
	INSERT INTO parts SELECT g, 'new' FROM generate_series(1, 150) AS g;
	COMMIT;},
	'SELECT count(*), min(v) FROM t WHERE id <= 4', '4|streamed');
cmp_ok($publisher->safe_psql('postgres',
		"SELECT stream_txns FROM pg_stat_replication_slots WHERE slot_name = 'plain'"),
	'>', 0, 'it was streamed');
cmp_ok(counter($subscriber, 't', 'local_hits'), '>', 0, 'documents came from the cache');
is($subscriber->safe_psql('postgres', 'SELECT * FROM cachekit.health()'), '',
	'health() has nothing to say');

# --- two-phase transactions ---

like(error_of($subscriber, "BEGIN; INSERT INTO prepared VALUES (1, 'x'); PREPARE TRANSACTION 'mine'"),
	qr/cannot PREPARE a transaction that has changed an entity of cachekit/,
	'PREPARE TRANSACTION is refused');
is($subscriber->safe_psql('postgres', 'SELECT count(*) FROM pg_prepared_xacts'), 0,
	'nothing is prepared');
is(output_of($subscriber, q{
	CREATE TABLE stranger (id int);
	BEGIN;
	INSERT INTO stranger VALUES (1);
	SELECT cachekit.fetch('t', 1)->>'v';
	PREPARE TRANSACTION 'of a stranger';
	COMMIT PREPARED 'of a stranger';
	SELECT * FROM stranger;}),
	"streamed\n1", 'a transaction that changed no entity can be prepared');

$subscriber->safe_psql('postgres',
	"CREATE SUBSCRIPTION in_two_phases CONNECTION '"
	  . $publisher->connstr . " dbname=postgres' PUBLICATION in_two_phases WITH (two_phase = true)");
$subscriber->wait_for_subscription_sync($publisher, 'in_two_phases');
$subscriber->poll_query_until('postgres',
	"SELECT subtwophasestate = 'e' FROM pg_subscription WHERE subname = 'in_two_phases'")
  or die 'two_phase was not enabled';
like($subscriber->safe_psql('postgres', 'SELECT * FROM cachekit.health()'),
	qr/^warning\|subscription in_two_phases\|[^\n]*\bprepared\b[^\n]*\|[^\n]*two_phase = false[^\n]*$/,
	'health() tells of the two_phase subscription');

my $offset = -s $subscriber->logfile;
$publisher->safe_psql('postgres',
	"BEGIN; INSERT INTO prepared VALUES (1, 'one'); PREPARE TRANSACTION 'x'");
$subscriber->wait_for_log(qr/ERROR: .*cannot PREPARE a transaction that has changed an entity/, $offset);
is($subscriber->safe_psql('postgres', "SELECT cachekit.fetch('prepared', 1)"), '',
	'what could not be prepared is not there');
right_after('beside it', "UPDATE t SET v = 'beside' WHERE id = 1",
	'SELECT v FROM t WHERE id = 1', 'beside');

# As health() advises: without the entity it goes through.
is(output_of($subscriber, "SELECT cachekit.detach('prepared')"), '', 'the entity is detached');
is($subscriber->safe_psql('postgres', 'SELECT * FROM cachekit.health()'), '',
	'health() has nothing to say again');
$publisher->wait_for_catchup('in_two_phases');
$publisher->safe_psql('postgres', "COMMIT PREPARED 'x'");
$publisher->wait_for_catchup('in_two_phases');
is($subscriber->safe_psql('postgres', 'SELECT * FROM prepared'), '1|one', 'the row has arrived');

$subscriber->stop;
$publisher->stop;
done_testing();
