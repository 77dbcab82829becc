-- fetch_many in one pass: keys of all sorts by one query, many rows for a key, sets of one moment.
\set ECHO none
\getenv top PG_ABS_SRCDIR
\set begin :top '/sql/lib/begin.sql'
\set end :top '/sql/lib/end.sql'
\i :begin
\set ECHO all

--
-- Key types: each key finds its row again, the first time in the table and then in the cache
--
CREATE DOMAIN code AS text CHECK (VALUE <> '');
CREATE TYPE level AS ENUM ('low', 'high', 'middle');
CREATE DOMAIN a_level AS level;
CREATE TABLE keys (b bool, i2 int2, i8 int8, o oid, t text, v varchar(20), c char(6), n name, u uuid, d date, ti time,
	ts timestamp, tz timestamptz, nu numeric, by bytea, ip inet, ci cidr, ma macaddr, e level, dc code, de a_level);
INSERT INTO keys SELECT i = 1, i, i * 10000000000, i, 'text, "' || i, 'v' || i, 'c' || i, 'n' || i, md5(i::text)::uuid, '2024-01-01'::date + i, '12:00'::time + i * interval '1 s',
	'2024-01-01'::timestamp + i * interval '1 ms', '2024-01-01 UTC'::timestamptz + i * interval '1 ms', i + 0.50, decode(md5(i::text), 'hex'),
	'10.0.0.0'::inet + i, ('10.0.' || i || '.0/24')::cidr, ('00:00:00:00:00:0' || i)::macaddr, (enum_range(NULL::level))[i], 'code ' || i, (enum_range(NULL::level))[i]
FROM generate_series(1, 2) AS i;
CREATE TABLE results (n int, name name, "right" text, counted text);
SET client_min_messages = warning;
SET TimeZone = 'UTC';
-- each attach() in a transaction of its own: one that has changed something uses no cache
DO $$
DECLARE
	c record;
	found text;
	counted text;
BEGIN
	FOR c IN SELECT attnum, attname FROM pg_attribute WHERE attrelid = 's.keys'::regclass AND attnum > 0 ORDER BY attnum LOOP
		PERFORM cachekit.attach('s.keys', key => ARRAY[c.attname]);
		COMMIT;
		PERFORM cachekit.stat_reset();
		EXECUTE format('SELECT concat_ws('' '', (SELECT count(*) FROM cachekit.fetch_many(''s.keys'', (SELECT array_agg(%1$I) FROM s.keys)) AS f JOIN s.keys AS k ON f.value = to_jsonb(k)),
			(SELECT count(*) FROM cachekit.fetch_many(''s.keys'', (SELECT array_agg(%1$I::text)::text FROM s.keys)) AS f JOIN s.keys AS k ON f.value = to_jsonb(k)))', c.attname) INTO found;
		counted := t.counted('keys');
		INSERT INTO s.results VALUES (c.attnum, c.attname, found, counted);
		COMMIT;
	END LOOP;
END
$$;
SELECT name, "right", counted FROM results ORDER BY n;
SELECT cachekit.attach('keys', key => '{tz,de,nu,c}');
SELECT cachekit.stat_reset();
SELECT f.key, f.value = to_jsonb(k) AS same FROM cachekit.fetch_many('keys', (SELECT array_agg((tz, de, nu, c)) FROM keys)) AS f
	JOIN keys AS k ON f.value ->> 'i2' = k.i2::text ORDER BY 1;
SELECT t.counted('keys');
SELECT f.value ->> 'i2' AS i2 FROM cachekit.fetch_many('keys', (SELECT array_agg((tz, de, nu, c)::text)::text FROM keys)) AS f;
SELECT * FROM cachekit.fetch_many('keys', ARRAY[(NULL, 'low', 1, 'x'), (now(), 'low', 1, 'x')]) AS f (key, value) WHERE key IS NULL;
SELECT t.counted('keys');
RESET client_min_messages;
RESET TimeZone;
DROP TABLE keys, results;

--
-- More than fit into one pass, with repetitions, from a partitioned table, and some of its columns
--
CREATE TABLE parts (id int, region text, v text, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
CREATE TABLE parts_a PARTITION OF parts FOR VALUES IN ('a');
CREATE TABLE parts_b PARTITION OF parts FOR VALUES IN ('b');
INSERT INTO parts SELECT i, CASE i % 2 WHEN 0 THEN 'a' ELSE 'b' END, 'v' || i FROM generate_series(1, 2500) AS i;
SELECT cachekit.attach('parts', columns => '{v,id}');
SELECT cachekit.stat_reset();
SELECT count(*), count(f.value), bool_and(f.value IS NOT DISTINCT FROM (SELECT jsonb_build_object('v', p.v, 'id', p.id) FROM parts AS p WHERE f.key = '(' || p.region || ',' || p.id || ')')) AS same
FROM cachekit.fetch_many('parts', (SELECT array_agg((r, i)) FROM generate_series(1, 2500) AS i, unnest('{a,b}'::text[]) AS r)) AS f;
SELECT t.counted('parts');
SELECT count(*), count(f.value) FROM cachekit.fetch_many('parts', (SELECT array_agg((r, i)) FROM generate_series(1, 2500) AS i, unnest('{a,b}'::text[]) AS r), consistent => true) AS f;
SELECT t.counted('parts');
SELECT f.key, f.ordinality AS n FROM cachekit.fetch_many('parts', ARRAY[('b', 9), ('a', 2), ('b', 9), ('b', 2)]) WITH ORDINALITY AS f;
UPDATE parts SET v = 'new' WHERE id = 9;
SELECT * FROM cachekit.fetch_many('parts', ARRAY[('b', 9), ('a', 2)]);
DROP TABLE parts;

--
-- Two rows for one key: an error, or an array of them
--
CREATE TABLE items (order_id int, n int, what text);
INSERT INTO items VALUES (1, 1, 'a'), (2, 1, 'b'), (1, 2, 'c'), (1, 3, 'd');
SELECT cachekit.attach('items', key => '{order_id}');
SELECT cachekit.fetch('items', 1);
SELECT * FROM cachekit.fetch_many('items', ARRAY[2, 1, 3]);
SELECT * FROM cachekit.fetch_many('items', ARRAY[2, 3]);
SELECT cachekit.attach('items', many => true, columns => '{n,what}');
SELECT cachekit.fetch('items', 1), cachekit.fetch('items', 2), cachekit.fetch('items', 3);
SELECT * FROM cachekit.fetch_many('items', ARRAY[3, 2, 1, 1], 'bypass');
SELECT * FROM cachekit.fetch_many('items', ARRAY[3, 2, 1], 'fresh');
DELETE FROM items WHERE n = 2;
INSERT INTO items VALUES (2, 2, 'e');
SELECT * FROM cachekit.fetch_many('items', ARRAY[3, 2, 1]);
SELECT cachekit.fetch('items', 1) = (SELECT jsonb_agg(jsonb_build_object('n', n, 'what', what)) FROM items WHERE order_id = 1) AS same;

--
-- Own changes are those of each key, as long as the transaction has written nothing
--
CREATE TABLE users (id int PRIMARY KEY, name text);
INSERT INTO users SELECT i, 'user ' || i FROM generate_series(1, 6) AS i;
SELECT cachekit.attach('users');
SELECT t.check('users');
SELECT cachekit.stat_reset();
BEGIN;
SELECT cachekit.invalidate('users', 2);
SELECT count(value) FROM cachekit.fetch_many('users', ARRAY[1, 2, 2, 3]);
COMMIT;
SELECT t.counted('users');
BEGIN;
UPDATE users SET name = 'own' WHERE id = 1;
SELECT * FROM cachekit.fetch_many('users', ARRAY[1, 2]);
SELECT * FROM cachekit.fetch_many('users', ARRAY[1, 2], consistent => true);
SELECT count(value) FROM cachekit.fetch_many('users', ARRAY[1, 2], 'fresh', true);
ROLLBACK;
SELECT t.counted('users');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(value) FROM cachekit.fetch_many('users', ARRAY[1, 2], consistent => true);
COMMIT;
SET cachekit.enabled = off;
SELECT count(value) FROM cachekit.fetch_many('users', ARRAY[1, 2, 2], consistent => true);
RESET cachekit.enabled;
SELECT t.counted('users');

--
-- Sets of one moment: the caches answer as long as nothing moves
--
SELECT count(value) FROM cachekit.fetch_many('users', ARRAY[1, 2, 3], consistent => true);
SELECT t.counted('users');
SELECT count(value) FROM cachekit.fetch_many('users', ARRAY[1, 2, 3, 3, NULL, 100], consistent => true);
SELECT t.counted('users');
SELECT * FROM cachekit.fetch_many('users', '{3,1}', 'fresh', true);
SELECT * FROM cachekit.fetch_many('users', '{3,1}', consistent => NULL);
SELECT count(value) FROM cachekit.fetch_many('users', ARRAY[1, 2, 3], 'bypass', true);
SELECT count(value) FROM cachekit.fetch_many('users', ARRAY[1, 2, 3], 'invalidate', true);
SELECT t.counted('users');
SELECT * FROM cachekit.fetch_many('users', '{}', consistent => true);

--
-- warm: what it is about cannot be seen in one transaction; see test/t
--
SET client_min_messages = warning;
CALL cachekit.warm('users');
SELECT t.counted('users');
SELECT name, done, total, time_left, finished FROM cachekit.warm_progress;
CALL cachekit.warm('users', 'SELECT 2 * i FROM generate_series(1, 3) AS i', 2);
SELECT t.counted('users');
SELECT name, done, total, time_left, finished FROM cachekit.warm_progress;
CALL cachekit.warm('users', 'SELECT 1, 2');
CALL cachekit.warm('users', batch => 0);
DO $$ BEGIN CALL cachekit.warm('users'); END $$;
BEGIN;
CALL cachekit.warm('users');
ROLLBACK;
CALL cachekit.warm('pg_class');
RESET client_min_messages;

\set ECHO none
\i :end
