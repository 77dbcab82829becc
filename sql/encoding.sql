-- Names and keys with bytes that could break a cache key; long names and long keys.
\set ECHO none
\getenv top PG_ABS_SRCDIR
\set begin :top '/sql/lib/begin.sql'
\set end :top '/sql/lib/end.sql'
\i :begin
\set ECHO all

CREATE FUNCTION good_key(key text) RETURNS boolean LANGUAGE sql AS $$
	SELECT key ~ '^[A-Za-z0-9._%-]+:[A-Za-z0-9._%-]+:(#[0-9a-f]{32}|[A-Za-z0-9._:%-]*)$' AND length(key) <= 250
$$;

--
-- Every character as a key
--
CREATE TABLE chars (k text PRIMARY KEY, v int);
INSERT INTO chars SELECT chr(i), i FROM generate_series(1, 255) AS i;
INSERT INTO chars SELECT 'a' || chr(i) || 'b', i FROM generate_series(1, 255) AS i;
INSERT INTO chars VALUES ('€', 8364), ('𝄞', 119070), ('a%20b', 0), (E'get x\r\nflush_all\r\n', 0), ('%', 1000), ('#0123', 0), ('*', 1001), ('#' || repeat('0', 32), 0)
ON CONFLICT DO NOTHING;
SELECT cachekit.attach('chars');
SELECT count(*), count(DISTINCT cachekit.key('chars', k)), bool_and(good_key(cachekit.key('chars', k))) FROM chars;
SELECT string_agg(k, '' ORDER BY k COLLATE "C") AS unencoded FROM chars
WHERE cachekit.key('chars', k) = current_database() || ':chars:' || k AND length(k) = 1;
SELECT DISTINCT cachekit.key('chars', k) FROM unnest('{€,𝄞,ß," ",%,#,"\"",'',\\,/,:,*,?}'::text[]) AS k ORDER BY 1;
SELECT cachekit.key('chars', E'get x\r\nflush_all\r\n');
SELECT t.check('chars');
SELECT t.counted('chars');
UPDATE chars SET v = v + 1;
SELECT t.check('chars');
SELECT t.counted('chars');
DELETE FROM chars;
SELECT t.check('chars');

--
-- Names with them
--
CREATE SCHEMA "S 2:""x""";
CREATE TABLE "S 2:""x"""."My Täble%s" ("Key ""Col'\" int PRIMARY KEY, "select" text, "%I" int);
INSERT INTO "S 2:""x"""."My Täble%s" VALUES (1, 'one', 1);
SELECT cachekit.attach('"S 2:""x"""."My Täble%s"');
SELECT name, relation, key FROM cachekit.entities WHERE name ~ 'My';
SELECT cachekit.key('"S 2:""x"""."My Täble%s"', 1);
SELECT t.check('"S 2:""x"""."My Täble%s"');
UPDATE "S 2:""x"""."My Täble%s" SET "select" = 'uno';
SELECT t.check('"S 2:""x"""."My Täble%s"');
SELECT cachekit.attach('"S 2:""x"""."My Täble%s"', columns => ARRAY['%I', E'Key "Col\'\\']::name[]);
SELECT t.check('"S 2:""x"""."My Täble%s"');
UPDATE "S 2:""x"""."My Täble%s" SET "%I" = 2;
SELECT t.check('"S 2:""x"""."My Täble%s"');
SELECT cachekit.fetch_row(NULL::"S 2:""x"""."My Täble%s", 1);
ALTER TABLE "S 2:""x"""."My Täble%s" RENAME "Key ""Col'\" TO "%L:";
SELECT key, columns FROM cachekit.entities WHERE name ~ 'My';
SELECT t.check('"S 2:""x"""."My Täble%s"');
ALTER TABLE "S 2:""x"""."My Täble%s" DISABLE TRIGGER "cachekit_row_My Täble%s";
SELECT * FROM cachekit.health();
DROP SCHEMA "S 2:""x""" CASCADE;
CREATE TABLE users (id int PRIMARY KEY, v int);
CREATE TABLE "Users" (id int PRIMARY KEY, v int);
INSERT INTO users VALUES (1, 1);
INSERT INTO "Users" VALUES (1, 1001);
SELECT cachekit.attach('users'), cachekit.attach('"Users"');
SELECT cachekit.key('users', 1), cachekit.key('"Users"', 1), cachekit.key('Users', 1);
SELECT cachekit.fetch('users', 1), cachekit.fetch('"Users"', 1), cachekit.fetch('Users', 1);
UPDATE users SET v = 2;
SELECT t.check('users'), t.check('"Users"');
UPDATE "Users" SET v = 1002;
SELECT t.check('users'), t.check('"Users"');
DROP TABLE "Users";

-- entities whose names hold every character, each renamed to the next: the triggers' argument and
-- the cache key both survive it
CREATE PROCEDURE rename_through() LANGUAGE plpgsql AS $$
DECLARE
	name text;
	n int := 0;
	bad text[] := '{}';
BEGIN
	FOR i IN 1..255 LOOP
		name := 'x' || chr(i) || 'y';
		PERFORM cachekit.attach('users', name => name);
		COMMIT;
		PERFORM cachekit.fetch('users', 1);
		UPDATE users SET v = i WHERE id = 1;
		COMMIT;
		IF cachekit.fetch('users', 1) ->> 'v' = i::text AND s.good_key(cachekit.key('users', 1)) THEN
			n := n + 1;
		ELSE
			bad := bad || i::text;
		END IF;
	END LOOP;
	RAISE NOTICE '% names, bad: %', n, bad;
END
$$;
CALL rename_through();
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'users'::regclass AND NOT tgisinternal;
SELECT cachekit.attach('users', name => E'a\\b''c"d\n%:$1');
SELECT cachekit.key('users', 1);
UPDATE users SET v = 7;
SELECT t.check('users');
SELECT cachekit.attach('users', name => 'users');

--
-- Long names: triggers are named after the entity, whose name can be longer than theirs
--
CREATE TABLE long_1 (id int PRIMARY KEY, v int);
CREATE TABLE long_2 (id int PRIMARY KEY, v int);
INSERT INTO long_1 VALUES (1, 1);
INSERT INTO long_2 VALUES (1, 1001);
SELECT cachekit.attach('long_1', name => repeat('n', 119) || '1'), cachekit.attach('long_2', name => repeat('n', 119) || '2');
SELECT t.check('long_1'), t.check('long_2');
UPDATE long_1 SET v = 2;
UPDATE long_2 SET v = 1002;
SELECT t.check('long_1'), t.check('long_2');
SELECT cachekit.attach('long_1', name => repeat('ü', 20));
SELECT t.check('long_1');
UPDATE long_1 SET v = 3;
SELECT t.check('long_1');
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'long_1'::regclass AND NOT tgisinternal;
SELECT cachekit.attach('long_1', name => repeat('ü', 21));
-- a table with the longest name
CREATE TABLE a23456789_123456789_123456789_123456789_123456789_123456789_123 (id int PRIMARY KEY, v int);
INSERT INTO a23456789_123456789_123456789_123456789_123456789_123456789_123 VALUES (1, 1);
SELECT cachekit.attach('a23456789_123456789_123456789_123456789_123456789_123456789_123');
SELECT t.check('a23456789_123456789_123456789_123456789_123456789_123456789_123');
UPDATE a23456789_123456789_123456789_123456789_123456789_123456789_123 SET v = 2;
SELECT t.check('a23456789_123456789_123456789_123456789_123456789_123456789_123');

--
-- Long keys: <entity>:<key> has 189 bytes at most
--
CREATE TABLE k (k text PRIMARY KEY, v int);
SELECT cachekit.attach('k');
CREATE FUNCTION digest_of(key text) RETURNS text LANGUAGE sql AS $$
	SELECT current_database() || ':k:#' || left(encode(sha256(convert_to(key, 'UTF8')), 'hex'), 32)
$$;
INSERT INTO k VALUES (repeat('x', 187), 187), (repeat('x', 188), 188), (repeat('x', 187) || 'y', 189), (repeat('x', 2000), 2000),
	(repeat('/', 62), 62), (repeat('/', 63), 63), (repeat('/', 62) || 'x', 64), (repeat('/', 62) || 'xy', 65);
SELECT length(k), left(k, 1), cachekit.key('k', k) = current_database() || ':k:' || k AS as_it_is,
	cachekit.key('k', k) = current_database() || ':k:' || replace(k, '/', '%2F') AS encoded,
	cachekit.key('k', k) = digest_of(replace(k, '/', '%2F')) AS digest,
	length(cachekit.key('k', k)) - length(current_database()) AS key_length
FROM k ORDER BY v;
SELECT t.check('k');
UPDATE k SET v = -v;
SELECT t.check('k');
-- the digest of a key is another key than its text
SELECT substr(cachekit.key('k', repeat('x', 188)), 22) AS digest \gset
INSERT INTO k VALUES (:'digest', 1000);
SELECT cachekit.key('k', :'digest'), cachekit.fetch('k', :'digest');
SELECT t.check('k');
-- with the longest name, 68 bytes are left for the key
SELECT cachekit.attach('k', name => repeat('k', 120));
SELECT length(cachekit.key('k', repeat('x', 68))) - length(current_database()) AS as_it_is,
	length(cachekit.key('k', repeat('x', 69))) - length(current_database()) AS digest;
SELECT t.check('k');
-- several columns together; a colon separates them before the digest is taken
CREATE TABLE k2 (a text, b text, v int, PRIMARY KEY (a, b));
SELECT cachekit.attach('k2');
INSERT INTO k2 VALUES (repeat('a', 93), repeat('b', 92), 1), (repeat('a', 93), repeat('b', 93), 2), (repeat('a', 93) || ':', repeat('b', 93), 3);
SELECT length(cachekit.key('k2', (a, b))) - length(current_database()),
	cachekit.key('k2', (a, b)) = current_database() || ':k2:#' ||
	left(encode(sha256(convert_to(replace(a, ':', '%3A') || ':' || b, 'UTF8')), 'hex'), 32) AS digest
FROM k2 ORDER BY v;
SELECT t.check('k2');
UPDATE k2 SET v = v + 10;
SELECT t.check('k2');

--
-- Other databases: names as long as they can be, and other encodings
--
\set database :DBNAME
CREATE DATABASE "regress cachekit/encoding" ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C';
\c "regress cachekit/encoding"
SET client_min_messages = warning;
CREATE EXTENSION cachekit;
CREATE TABLE bytes (k text PRIMARY KEY, v int);
INSERT INTO bytes SELECT chr(i), i FROM generate_series(1, 255) AS i;
SELECT cachekit.attach('bytes');
SELECT count(DISTINCT cachekit.key('bytes', k)), bool_and(cachekit.key('bytes', k) ~ '^regress%20cachekit%2Fencoding:bytes:[A-Za-z0-9._%-]+$') FROM bytes;
SELECT cachekit.key('bytes', chr(255)), cachekit.key('bytes', chr(128));
SELECT count(*) FROM bytes WHERE cachekit.fetch('bytes', k) ->> 'v' = v::text;
UPDATE bytes SET v = -v;
SELECT count(*) FROM bytes WHERE cachekit.fetch('bytes', k) ->> 'v' = v::text;
SELECT invalidations, misses, fills FROM cachekit.stat_entities;
\c :database
DROP DATABASE "regress cachekit/encoding";

CREATE DATABASE regress_cachekit_latin1 ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C';
\c regress_cachekit_latin1
SET client_min_messages = warning;
CREATE EXTENSION cachekit;
CREATE TABLE names (k text PRIMARY KEY, v int);
INSERT INTO names SELECT chr(i), i FROM generate_series(1, 255) AS i;
SELECT cachekit.attach('names', name => chr(252) || 'bung');
-- the cache key is in UTF-8, as in a database that is
SELECT cachekit.key('names', chr(252));
SELECT count(DISTINCT cachekit.key('names', k)), bool_and(cachekit.key('names', k) ~ '^regress_cachekit_latin1:%C3%BCbung:[A-Za-z0-9._%-]+$') FROM names;
SELECT count(*) FROM names WHERE cachekit.fetch('names', k) ->> 'v' = v::text;
UPDATE names SET v = -v;
SELECT count(*) FROM names WHERE cachekit.fetch('names', k) ->> 'v' = v::text;
SELECT invalidations, misses, fills FROM cachekit.stat_entities;
\c :database
DROP DATABASE regress_cachekit_latin1;

CREATE DATABASE regress_89_123456789_123456789_123456789_123456789_123456789 TEMPLATE template0;
\c regress_89_123456789_123456789_123456789_123456789_123456789
SET client_min_messages = warning;
CREATE EXTENSION cachekit;
CREATE TABLE k (k text PRIMARY KEY);
SELECT cachekit.attach('k', name => repeat('k', 120));
SELECT current_database(), length(cachekit.key('k', repeat('x', 68))), length(cachekit.key('k', repeat('x', 69)));
\c :database
ALTER DATABASE regress_89_123456789_123456789_123456789_123456789_123456789 RENAME TO regress_89_123456789_123456789_123456789_123456789_123456789_1;
\c regress_89_123456789_123456789_123456789_123456789_123456789_1
SELECT cachekit.key('k', 'x');
INSERT INTO k VALUES ('x');
SELECT cachekit.fetch('k', 'x');
\c :database
DROP DATABASE regress_89_123456789_123456789_123456789_123456789_123456789_1;

\set ECHO none
\i :end
