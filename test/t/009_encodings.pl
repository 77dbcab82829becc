# Databases in other encodings than UTF-8: documents and keys are right, cache keys are in UTF-8,
# and a text that has no form in UTF-8 is a key like any other.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use CacheKit;

my $node = new_node('main');
$node->start;

# What psql sends and shows is ASCII throughout. False when the database cannot have the extension.
sub create_database
{
	my ($encoding) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $db = lc($encoding);

	$node->safe_psql('postgres',
		"CREATE DATABASE $db ENCODING '$encoding' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'");
	is(error_of($node, 'CREATE EXTENSION cachekit', $db), '', "$encoding: CREATE EXTENSION") or return;
	$node->safe_psql(
		$db, q{
		CREATE TABLE t (k text PRIMARY KEY, v text);
		CREATE TABLE pair (a text, b name, v text, PRIMARY KEY (a, b));
		SELECT cachekit.attach('t', negative_ttl => '1 hour');
		SELECT cachekit.attach('pair');});
	return $db;
}

# A text as the bytes it has in the database, in SQL.
sub bytes
{
	my ($hex) = @_;

	return "convert_from('\\x$hex', getdatabaseencoding())";
}

# A row with this key is fetched, served from the cache, changed, fetched, deleted, fetched; its
# cache key ends in $cache_key.
sub key_works
{
	my ($db, $hex, $cache_key) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $key = bytes($hex);
	my $hits = counter($node, 't', 'local_hits', $db);

	is($node->safe_psql($db, "SELECT cachekit.key('t', $key)"), "$db:t:$cache_key",
		"$db: cache key of $hex");
	is(output_of($node, qq{
		SELECT cachekit.fetch('t', $key);
		INSERT INTO t VALUES ($key, 'v' || $key);
		SELECT cachekit.fetch('t', $key) = jsonb_build_object('k', $key, 'v', 'v' || $key);
		SELECT cachekit.fetch('t', $key)->>'k' = $key;
		SELECT key = $key AND value->>'k' = $key FROM cachekit.fetch_many('t', ARRAY[$key]);
		SELECT key = $key AND value->>'k' = $key FROM cachekit.fetch_many('t', ARRAY[$key]::text);
		SELECT (cachekit.fetch_row(NULL::t, $key)).v = 'v' || $key;
		UPDATE t SET v = 'changed' WHERE k = $key;
		SELECT cachekit.fetch('t', $key)->>'v';
		DELETE FROM t WHERE k = $key;
		SELECT cachekit.fetch('t', $key);
		INSERT INTO pair VALUES ($key, $key, 'x');
		SELECT cachekit.fetch('pair', ($key, ${key}::name))->>'v', cachekit.fetch('pair', ROW($key, $key)::text)->>'v';
		DELETE FROM pair;
		SELECT cachekit.fetch('pair', ($key, ${key}::name))}, $db),
		"\nt\nt\nt\nt\nt\nchanged\n\nx|x\n", "$db: fetch of $hex");
	cmp_ok(counter($node, 't', 'local_hits', $db), '>', $hits + 1, "$db: $hex is cached");
	return;
}

# --- LATIN1: every byte has a form in UTF-8 ---

my $db = create_database('LATIN1');
key_works($db, '636166e9', 'caf%C3%A9');
key_works($db, 'e9', '%C3%A9');
key_works($db, 'c3a9', '%C3%83%C2%A9');
key_works($db, '85ff', '%C2%85%C3%BF');
key_works($db, '6120626127253a', 'a%20ba%27%25%3A');
is($node->safe_psql($db, q{
	CREATE TYPE mood AS ENUM (U&'fr\00f6hlich', 'sad');
	CREATE TABLE moods (m mood PRIMARY KEY, v text);
	INSERT INTO moods VALUES (U&'fr\00f6hlich', U&'\00e4');
	SELECT cachekit.attach('moods', name => U&'M\00f6ods');
	SELECT cachekit.key('moods', U&'fr\00f6hlich'::mood);
	SELECT cachekit.fetch('moods', U&'fr\00f6hlich')->>'v' = U&'\00e4';
	UPDATE moods SET v = U&'\00e5';
	SELECT cachekit.fetch('moods', U&'fr\00f6hlich'::mood)->>'v' = U&'\00e5';
	SELECT problem = '' FROM cachekit.health();}),
	"\nlatin1:M%C3%B6ods:fr%C3%B6hlich\nt\nt", "$db: names of enums and entities");

# The same text is the same cache key in every encoding.
$node->safe_psql('postgres', q{
	CREATE EXTENSION cachekit;
	CREATE TABLE t (k text PRIMARY KEY);
	SELECT cachekit.attach('t')});
is($node->safe_psql('postgres', q{SELECT cachekit.key('t', U&'caf\00e9')}), 'postgres:t:caf%C3%A9',
	'UTF8: cache key');

# A database whose own name is not ASCII; names of databases are in whatever encoding they came.
$node->safe_psql('postgres', q{CREATE DATABASE U&"b\00e4r" TEMPLATE template0});
is($node->safe_psql("b\xc3\xa4r", q{
	CREATE EXTENSION cachekit;
	CREATE TABLE t (k text PRIMARY KEY);
	SELECT cachekit.attach('t');
	SELECT cachekit.key('t', 'x')}), "\nb%C3%A4r:t:x", 'a name of a database as the namespace');

# --- SQL_ASCII: bytes are bytes ---

$db = create_database('SQL_ASCII');
key_works($db, '636166c3a9', 'caf%C3%A9');
key_works($db, '636166e9', 'caf%E9');
key_works($db, 'ff', '%FF');
key_works($db, 'c3', '%C3');
is(output_of($node, q{
	INSERT INTO t VALUES (E'\xe9', 'one'), (E'\xc3\xa9', 'two');
	SELECT cachekit.fetch('t', E'\xe9')->>'v', cachekit.fetch('t', E'\xc3\xa9')->>'v';
	SELECT cachekit.fetch('t', E'\xe9')->>'v', cachekit.fetch('t', E'\xc3\xa9')->>'v'}, $db),
	"one|two\none|two", "$db: two keys that look alike");

# --- WIN1252: five bytes have no form in UTF-8, and rows may have them all the same ---

$db = create_database('WIN1252');
key_works($db, '80', '%E2%82%AC');
key_works($db, '636166e9', 'caf%C3%A9');
{
	# chr() accepts every byte of a one-byte encoding. 0xCD is a letter that is C3 8D in UTF-8; the
	# bytes C3 8D are a letter and a byte that has no form in UTF-8.
	my ($letter, $bytes) = ('chr(205)', 'chr(195) || chr(141)');

	is(output_of($node, qq{
		INSERT INTO t VALUES ($letter, 'letter'), ($bytes, 'bytes');
		SELECT cachekit.key('t', $letter) <> cachekit.key('t', $bytes);
		SELECT cachekit.fetch('t', $letter)->>'v', cachekit.fetch('t', $bytes)->>'v';
		SELECT cachekit.fetch('t', $letter)->>'v', cachekit.fetch('t', $bytes)->>'v';
		UPDATE t SET v = 'new ' || v;
		SELECT cachekit.fetch('t', $bytes)->>'v', cachekit.fetch('t', $letter)->>'v';
		DELETE FROM t WHERE k = $bytes;
		SELECT cachekit.fetch('t', $bytes)->>'v', cachekit.fetch('t', $letter)->>'v'}, $db),
		"t\nletter|bytes\nletter|bytes\nnew bytes|new letter\n|new letter",
		"$db: different keys have different cache keys");
}

# --- EUC_JP: characters of several bytes ---

if ($db = create_database('EUC_JP'))
{
	key_works($db, 'c6fccbdc', '%E6%97%A5%E6%9C%AC');

	# Hints must have a form in every encoding.
	$node->safe_psql($db, 'CREATE TABLE no_key (id int)');
	like(error_of($node, "SELECT cachekit.attach('no_key')", $db),
		qr/HINT:  Name the key columns: [ -~]+$/, "$db: a hint");
}

$node->stop;
done_testing();
