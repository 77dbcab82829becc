# Sizes: a cache that is much too small, documents that are much too large, transactions that
# change very many rows, keys of very many columns. Memory is bounded, and answers are right.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use CacheKit;

my $node = new_node('main');
$node->append_conf(
	'postgresql.conf', q{
	cachekit.local_memory = 1MB
	max_wal_size = 4GB
	shared_buffers = 256MB
	autovacuum = off
	});
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION cachekit');

# --- many documents in a small cache ---

$node->safe_psql(
	'postgres', q{
	CREATE TABLE small (id int PRIMARY KEY, v text);
	INSERT INTO small SELECT g, md5(g::text) FROM generate_series(1, 20000) AS g;
	SELECT cachekit.attach('small');
	CREATE TABLE big (id int PRIMARY KEY, v text);
	INSERT INTO big SELECT g, repeat(md5(g::text), 2000) FROM generate_series(1, 100) AS g;
	SELECT cachekit.attach('big');
	});

# All documents, through the cache, against the table.
sub wrong_documents
{
	my ($table) = @_;

	return output_of($node, qq{
		SELECT count(*)
		  FROM $table AS t
		  JOIN cachekit.fetch_many('$table', ARRAY(SELECT id FROM $table ORDER BY id)) AS f ON f.key = t.id::text
		 WHERE f.value IS DISTINCT FROM to_jsonb(t)});
}

sub cached
{
	my ($table, $what) = @_;

	return $node->safe_psql('postgres', qq{
		SELECT coalesce(sum($what), 0) FROM $table AS t, cachekit.inspect('$table', t.id) WHERE present});
}

is(wrong_documents('small'), 0, '20,000 small documents through 1 MB: all are right');
cmp_ok(cached('small', 'bytes'), '<', 1024 * 1024, 'no more than fits is kept');
cmp_ok(cached('small', 1), '>', 1000, 'but a good part of them');
cmp_ok(counter($node, 'small', 'fills'), '>', 15000, 'most were stored once');
is(wrong_documents('small'), 0, 'and again');

# What is asked for again and again stays, whatever passes by: 100 documents, each asked for after
# every 200 others.
$node->safe_psql('postgres', q{
	SELECT cachekit.flush('small');
	SELECT cachekit.stat_reset()});
$node->safe_psql('postgres', q{
	SELECT count(*) FROM generate_series(0, 99) AS round,
	       cachekit.fetch_many('small', ARRAY(SELECT generate_series(1, 100)) ||
	           ARRAY(SELECT generate_series(101 + round * 190, 300 + round * 190)))});
cmp_ok(counter($node, 'small', 'local_hits'), '>', 9000, 'a scan does not push out what is in use');

# Documents of 64,000 bytes.
is(wrong_documents('big'), 0, 'large documents through 1 MB: all are right');
cmp_ok(cached('big', 'bytes'), '<', 1024 * 1024, 'no more than fits is kept');
is(wrong_documents('big'), 0, 'and again');
is(wrong_documents('small'), 0, 'small ones among them');
$node->safe_psql('postgres', q{UPDATE big SET v = v || 'x'; UPDATE small SET v = 'x' || v});
is(wrong_documents('big') + wrong_documents('small'), 0, 'after a change of all of them');

# Larger than the cache, and larger than cachekit.max_value_size.
$node->safe_psql('postgres', q{
	INSERT INTO big VALUES (1001, repeat('x', 1000000)), (1002, repeat('y', 2000000));
	SELECT cachekit.stat_reset()});
foreach my $id (1001, 1002)
{
	is($node->safe_psql('postgres', qq{
		SELECT length(cachekit.fetch('big', $id)->>'v'), length(cachekit.fetch('big', $id)->>'v')}),
		$id == 1001 ? '1000000|1000000' : '2000000|2000000', "document $id is right");
}
is(inspect($node, 'big', 1002), 'f|f', 'a document larger than max_value_size is not cached');
cmp_ok(counter($node, 'big', 'fills_refused'), '>=', 2, 'that is counted');
is(output_of($node, qq{
	SET cachekit.max_value_size = '200MB';
	SELECT length(cachekit.fetch('big', 1002)->>'v')}), 2000000, 'nor one larger than the cache');
is(inspect($node, 'big', 1002), 'f|f', 'it is not there');
is(wrong_documents('big'), 0, 'the others are right');

# Hundreds of megabytes.
$node->safe_psql('postgres', q{
	CREATE TABLE huge (id int PRIMARY KEY, n int, v text);
	ALTER TABLE huge ALTER v SET COMPRESSION pglz;
	INSERT INTO huge VALUES (1, 1, repeat('x', 200000000)), (2, 1, repeat('x', 300000000));
	SELECT cachekit.attach('huge')});
is(output_of($node, q{SELECT length(cachekit.fetch('huge', 1)->>'v')}), 200000000, '200 MB are served');
is(inspect($node, 'huge', 1), 'f|f', '200 MB are not cached');
# PostgreSQL's own jsonb ends at 256 MB: the same error as that of a SELECT.
is(sqlstate_of($node, q{SELECT length(cachekit.fetch('huge', 2)->>'v')}),
	sqlstate_of($node, q{SELECT length(to_jsonb(h)->>'v') FROM huge AS h WHERE id = 2}),
	'300 MB are an error that says so');
like(error_of($node, q{SELECT length(cachekit.fetch('huge', 2)->>'v')}),
	qr/ERROR:  string too long to represent as jsonb string/, 'in these words');
is(counter($node, 'huge', 'errors'), 2, 'which is counted');
is(output_of($node, q{
	UPDATE huge SET n = 2 WHERE id = 2;
	UPDATE huge SET n = 2 WHERE id = 1;
	SELECT cachekit.fetch('huge', 1)->>'n';
	UPDATE huge SET v = 'short' WHERE id = 2;
	SELECT cachekit.fetch('huge', 2);
	SELECT cachekit.fetch('huge', 2)}), qq(2\n{"n": 2, "v": "short", "id": 2}\n{"n": 2, "v": "short", "id": 2}),
	'such rows can be changed');
is(inspect($node, 'huge', 2), 't|f', 'and cached when they are short');

# --- a key of very many columns ---

my @columns = map { "k$_" } (1 .. 16);
my $types = join(', ', map { "$_ " . ('int', 'text', 'date', 'numeric')[ substr($_, 1) % 4 ] } @columns);
my $values = join(', ', map { ($_, "'key, \"$_\"'", "'2024-01-0" . ($_ % 9 + 1) . "'::date", "$_.50")[ $_ % 4 ] }
	  (1 .. 16));
$node->safe_psql('postgres', sprintf(q{
	CREATE TABLE wide (%s, v int, more int, PRIMARY KEY (%s));
	INSERT INTO wide VALUES (%s, 0, 0);
	SELECT cachekit.attach('wide', negative_ttl => '1 hour')}, $types, join(', ', @columns), $values));
my $fetch_wide = "SELECT cachekit.fetch('wide', ($values))->>'v'";
is(output_of($node, "$fetch_wide; $fetch_wide"), "0\n0", 'a key of 16 columns');
is(counter($node, 'wide', 'local_hits'), 1, 'it is cached');
is(output_of($node, "SELECT cachekit.fetch('wide', ROW($values)::text)->>'v'"), 0, 'as text too');
foreach my $column ('k2', 'k8', 'k15', 'k16')
{
	is(output_of($node, qq{
		UPDATE wide SET v = v + 1;
		$fetch_wide;
		UPDATE wide SET $column = $column + 1;
		$fetch_wide;
		UPDATE wide SET $column = $column - 1;
		$fetch_wide;
		UPDATE wide SET v = v - 1;
		$fetch_wide}), "1\n\n1\n0", "changes of $column are seen");
}
$node->safe_psql('postgres', 'CREATE TABLE wider (' . join(', ', map { "k$_ int" } (1 .. 33)) . ')');
like(error_of($node, q{
	SELECT cachekit.attach('wider', key => ARRAY(SELECT 'k' || g FROM generate_series(1, 33) AS g)::name[])}),
	qr/ERROR:  a key can have at most 32 columns/, 'a key of 33 columns is refused');

# --- a transaction that changes a million rows ---

$node->safe_psql(
	'postgres', q{
	CREATE TABLE million (id int PRIMARY KEY, v int) WITH (fillfactor = 50);
	INSERT INTO million SELECT g, 0 FROM generate_series(1, 1000000) AS g;
	SELECT cachekit.attach('million', negative_ttl => '1 hour');
	SELECT count(*) FROM cachekit.fetch_many('million', '{1,500000,1000000,1000001}'::int[]);
	});
my $change_set = q{
	SELECT sum(total_bytes) FROM pg_backend_memory_contexts
	 WHERE name = 'cachekit change set'
	    OR parent = 'cachekit change set'};
my $some = q{
	SELECT string_agg(coalesce(value->>'v', 'none'), ',')
	  FROM cachekit.fetch_many('million', '{1,500000,1000000,1000001}'::int[])};
my $session = session($node);

is($session->query_safe("BEGIN; UPDATE million SET v = 1; $some"), '1,1,1,none', 'the writer sees his changes');
my $bytes = $session->query_safe($change_set);
note("change set: $bytes bytes");
cmp_ok($bytes, '<', 32 * 1024 * 1024, 'a million changed rows take a bounded amount of memory');
is(output_of($node, $some), '0,0,0,none', 'nobody else sees them');
my $flushes = counter($node, 'million', 'flushes');
$session->query_safe('COMMIT');
is(output_of($node, $some), '1,1,1,none', 'until the commit');
is(counter($node, 'million', 'flushes'), $flushes + 1, 'which invalidates the whole entity');
cmp_ok($session->query_safe($change_set), '<', 64 * 1024, 'the memory is given back');

# Savepoints, and the order of the two limits, do not matter.
is($session->query_safe(qq{
	BEGIN;
	SAVEPOINT s;
	UPDATE million SET v = 2 WHERE id <= 150000;
	ROLLBACK TO s;
	UPDATE million SET v = 3 WHERE id = 500000;
	INSERT INTO million VALUES (1000001, 3);
	COMMIT;
	$some}), '1,3,1,3', 'a large part is undone');
is(output_of($node, $some), '1,3,1,3', 'others see what is left');

# Few keys are remembered, and more than that are the whole entity.
is($session->query_safe(qq{
	SET cachekit.max_changed_keys = 0;
	UPDATE million SET v = 4 WHERE id = 1;
	$some;
	SET cachekit.max_changed_keys = 2;
	UPDATE million SET v = 5 WHERE id IN (1, 500000);
	$some;
	UPDATE million SET v = 6 WHERE id IN (1, 500000, 1000000);
	$some}), "4,3,1,3\n5,5,1,3\n6,6,6,3", 'cachekit.max_changed_keys');
is(output_of($node, $some), '6,6,6,3', 'seen by others');
is(counter($node, 'million', 'flushes'), $flushes + 4, 'three of them flushed');

$session->quit;
$node->stop;
is(log_lines($node, qr/PANIC:|TRAP:/), '', 'no assertion failed');
done_testing();
