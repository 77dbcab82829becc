-- Key types: each value has one key text, whatever the session's settings.
\set ECHO none
\getenv top PG_ABS_SRCDIR
\set begin :top '/sql/lib/begin.sql'
\set end :top '/sql/lib/end.sql'
\i :begin
\set ECHO all

CREATE TYPE color AS ENUM ('red', 'light blue', 'grün');
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE DOMAIN small AS positive CHECK (VALUE < 1000);
CREATE DOMAIN code AS varchar(8);
CREATE DOMAIN shade AS color;

CREATE TABLE samples (n serial, name text, type text, val text);
INSERT INTO samples (name, type, val)
SELECT s.name, s.type, unnest(s.vals) FROM (VALUES
	('bool', 'bool', '{t,f}'::text[]),
	('int2', 'int2', '{0,-32768,32767}'),
	('int4', 'int4', '{0,-2147483648,2147483647}'),
	('int8', 'int8', '{0,-9223372036854775808,9223372036854775807}'),
	('oid', 'oid', '{0,4294967295}'),
	('text', 'text', '{"",a," a ",A,a:b,a%b,"a/b\\c",grün,"{\"x\":1}","(x,y)"}'),
	('varchar', 'varchar(10)', '{"",b," b "}'),
	('bpchar', 'char(5)', '{"",ab," ab"}'),
	('char1', 'char', '{x}'),
	('name', 'name', '{a name,""}'),
	('uuid', 'uuid', '{A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11}'),
	('date', 'date', '{2024-02-29,1999-12-31,infinity,-infinity,"0044-03-15 BC",5874897-12-31}'),
	('time', 'time', '{00:00:00,12:34:56.789,24:00:00}'),
	('timestamp', 'timestamp', '{2024-02-29 12:00:00.000001,infinity,-infinity,"0044-03-15 12:00:00 BC",294276-12-31 23:59:59}'),
	('timestamptz', 'timestamptz', '{2024-02-29 12:00:00+00,2024-07-01 00:00:00+02,infinity,-infinity,"0044-03-15 12:00:00+00 BC"}'),
	('numeric', 'numeric', '{0,1.0,-0.50,1e10,1e-10,100,NaN,Infinity,-Infinity,12345678901234567890.1230}'),
	('numeric2', 'numeric(10,2)', '{1,1.5,100}'),
	('bytea', 'bytea', '{"","\\x00ff20","\\x61"}'),
	('inet', 'inet', '{10.0.0.1,10.0.0.1/8,10.0.0.1/32,::1,fe80::1/64}'),
	('cidr', 'cidr', '{10.0.0.0/8,10.1.2.3/32,::/0}'),
	('macaddr', 'macaddr', '{08-00-2b-01-02-03}'),
	('enum', 'color', '{red,light blue,grün}'),
	('domain', 'positive', '{42}'),
	('domain2', 'small', '{42}'),
	('domain3', 'code', '{"a b"}')) AS s(name, type, vals);
-- equal values, once
DELETE FROM samples WHERE name = 'inet' AND val = '10.0.0.1/32';


-- Runs a command for each table, with its name and type.
CREATE PROCEDURE for_each(command text) LANGUAGE plpgsql AS $$
DECLARE
	s record;
BEGIN
	FOR s IN SELECT name, type FROM samples GROUP BY name, type ORDER BY min(n) LOOP
		EXECUTE format(command, s.name, s.type);
	END LOOP;
END
$$;
CALL for_each('CREATE TABLE k_%1$s (k %2$s PRIMARY KEY, v int DEFAULT 0)');
CALL for_each('INSERT INTO k_%1$s SELECT val::%2$s FROM samples WHERE name = %1$L');
CALL for_each('SELECT cachekit.attach(''k_%1$s'')');

-- The key text of a sample, given as a value of its type or as text; the canonical text.
CREATE FUNCTION key_texts(name text, type text, val text, OUT typed text, OUT as_text text,
	OUT canonical text, OUT document text)
LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('SELECT substr(cachekit.key(%L, %L::%s), %s)', 'k_' || name, val, type,
		length(current_database()) + length(name) + 5) INTO typed;
	EXECUTE format('SELECT substr(cachekit.key(%L, %L::text), %s)', 'k_' || name, val,
		length(current_database()) + length(name) + 5) INTO as_text;
	EXECUTE format('SELECT key, value ->> ''v'' FROM cachekit.fetch_many(%L, ARRAY[%L::%s])',
		'k_' || name, val, type) INTO canonical, document;
END
$$;

CREATE TABLE texts AS
SELECT n, s.name, val, k.* FROM samples AS s, LATERAL key_texts(s.name, s.type, s.val) AS k;
\pset format unaligned
SELECT name, val, typed, canonical FROM texts ORDER BY n;
\pset format aligned
SELECT name, val, typed, as_text FROM texts WHERE typed <> as_text ORDER BY n;
SELECT name, val FROM texts WHERE document IS DISTINCT FROM '0' ORDER BY n;

-- What is canonical is a key itself
SELECT t.name, t.canonical, k.typed FROM texts AS t JOIN samples AS s USING (n),
	LATERAL key_texts(s.name, s.type, t.canonical) AS k
WHERE k.typed <> t.typed OR k.canonical <> t.canonical ORDER BY n;

-- The same in other sessions, cached and changed by turns: rows come out only where something
-- differs.
\c -
SET search_path = s;
SET TimeZone = 'America/New_York';
SET DateStyle = 'SQL, DMY';
SET IntervalStyle = 'iso_8601';
SET bytea_output = 'escape';
SET extra_float_digits = -5;
SELECT t.name, t.val, k.* FROM texts AS t JOIN samples AS s USING (n),
	LATERAL key_texts(s.name, s.type, s.val) AS k
WHERE (k.typed, k.as_text, k.canonical, k.document) IS DISTINCT FROM (t.typed, t.as_text, t.canonical, '0') ORDER BY n;
SELECT cachekit.stat_reset();
CALL for_each('UPDATE k_%1$s SET v = 1');
\c -
SET search_path = s;
SET TimeZone = 'Asia/Kathmandu';
SET DateStyle = 'German';
SET bytea_output = 'hex';
SET extra_float_digits = 3;
SELECT t.name, t.val, k.* FROM texts AS t JOIN samples AS s USING (n),
	LATERAL key_texts(s.name, s.type, s.val) AS k
WHERE (k.typed, k.as_text, k.canonical, k.document) IS DISTINCT FROM (t.typed, t.as_text, t.canonical, '1') ORDER BY n;
-- each was invalidated, read once, and cached for who comes next
\c -
SET search_path = s;
SET TimeZone = 'UTC';
SET DateStyle = 'Postgres, MDY';
SELECT t.name, t.val, k.* FROM texts AS t JOIN samples AS s USING (n),
	LATERAL key_texts(s.name, s.type, s.val) AS k
WHERE (k.typed, k.as_text, k.canonical, k.document) IS DISTINCT FROM (t.typed, t.as_text, t.canonical, '1') ORDER BY n;
SELECT e.name, e.invalidations, e.misses, e.loads, e.fills, e.local_hits, s.keys
FROM cachekit.stat_entities AS e
JOIN (SELECT 'k_' || name AS name, count(*) AS keys FROM samples GROUP BY 1) AS s USING (name)
WHERE (e.invalidations, e.misses, e.loads, e.fills, e.local_hits)
	IS DISTINCT FROM (keys, keys, keys, keys, keys)
ORDER BY e.name;
CALL for_each('DELETE FROM k_%1$s');
SELECT t.name, t.val FROM texts AS t JOIN samples AS s USING (n),
	LATERAL key_texts(s.name, s.type, s.val) AS k WHERE k.document IS NOT NULL;

--
-- Equal values have one key, also where they are not the same to the eye
--
INSERT INTO k_numeric VALUES (1.0), (100), (0.0);
SELECT k, cachekit.key('k_numeric', k), cachekit.fetch('k_numeric', k)
FROM unnest('{1,1.0,1.00,0.1e1,100,1e2,100.00,0,0.000,-0}'::numeric[]) AS k;
SELECT cachekit.fetch('k_numeric', '1.000'), cachekit.fetch('k_numeric', 1), cachekit.fetch('k_numeric', 1::float8);
UPDATE k_numeric SET v = 5 WHERE k = 1;
SELECT cachekit.fetch('k_numeric', '1.000'), cachekit.fetch('k_numeric', 1), cachekit.fetch('k_numeric', 1::float8);
INSERT INTO k_bpchar VALUES ('ab');
SELECT cachekit.fetch('k_bpchar', 'ab'), cachekit.fetch('k_bpchar', 'ab   '), cachekit.fetch('k_bpchar', 'ab'::text),
	cachekit.fetch('k_bpchar', 'ab '::char(3));
UPDATE k_bpchar SET v = 6;
SELECT cachekit.fetch('k_bpchar', 'ab'), cachekit.fetch('k_bpchar', 'ab   '), cachekit.fetch('k_bpchar', 'ab'::text),
	cachekit.fetch('k_bpchar', 'ab '::char(3));
INSERT INTO k_text VALUES ('ab');
SELECT cachekit.fetch('k_text', 'ab'), cachekit.fetch('k_text', 'ab '), cachekit.fetch('k_text', 'AB'),
	cachekit.fetch('k_text', 'ab'::char(5));
INSERT INTO k_timestamptz VALUES ('2024-07-01 12:00+00');
SELECT cachekit.key('k_timestamptz', k), cachekit.fetch('k_timestamptz', k) -> 'v' AS v
FROM unnest('{2024-07-01 12:00+00,2024-07-01 14:00+02,2024-07-01 08:00 EDT}'::timestamptz[]) AS k;
SET TimeZone = 'Europe/Berlin';
SELECT cachekit.fetch('k_timestamptz', '2024-07-01 14:00'), cachekit.fetch('k_timestamptz', timestamp '2024-07-01 14:00') -> 'v' AS v;
SET TimeZone = 'UTC';
INSERT INTO k_inet VALUES ('10.0.0.1');
SELECT cachekit.fetch('k_inet', '10.0.0.1') -> 'v' AS bare, cachekit.fetch('k_inet', '10.0.0.1/32') -> 'v' AS with_mask,
	cachekit.fetch('k_inet', '10.0.0.1/31') -> 'v' AS another;
INSERT INTO k_uuid VALUES ('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11');
SELECT cachekit.fetch('k_uuid', '{A0EEBC999C0B4EF8BB6D6BB9BD380A11}') -> 'v' AS v;
INSERT INTO k_macaddr VALUES ('08:00:2b:01:02:03');
SELECT cachekit.fetch('k_macaddr', '0800.2b01.0203') -> 'v' AS v;

-- a domain over an enum, in the middle of a key as well
CREATE TABLE shades (k shade, n int, v int, PRIMARY KEY (k, n));
INSERT INTO shades VALUES ('red', 1, 1);
SELECT cachekit.attach('shades');
SELECT cachekit.fetch('shades', ('red'::shade, 1)), cachekit.fetch('shades', ('red'::color, 1)), cachekit.fetch('shades', '(red,1)');
UPDATE shades SET v = 2;
SELECT cachekit.fetch('shades', ('red'::shade, 1)), cachekit.fetch('shades', ('red'::color, 1)), cachekit.fetch('shades', '(red,1)');

--
-- Casts to the key's type
--
CREATE DOMAIN numerals AS text CHECK (VALUE ~ '^[0-9]+$');
CREATE TABLE users (id int PRIMARY KEY, name text);
INSERT INTO users VALUES (42, 'Ada'), (1, 'Bob');
SELECT cachekit.attach('users');
SELECT cachekit.fetch('users', 42);
SELECT t.counted('users');
-- one key, one document
SELECT cachekit.fetch('users', '42'), cachekit.fetch('users', '042'), cachekit.fetch('users', ' 42 ');
SELECT cachekit.fetch('users', 42::smallint), cachekit.fetch('users', 42::bigint), cachekit.fetch('users', 42::oid);
SELECT cachekit.fetch('users', 42.0), cachekit.fetch('users', 42::numeric), cachekit.fetch('users', 42.0::real),
	cachekit.fetch('users', 42.0::float8);
SELECT cachekit.fetch('users', '42'::text), cachekit.fetch('users', '42'::varchar), cachekit.fetch('users', '42'::char(5)),
	cachekit.fetch('users', '42'::name), cachekit.fetch('users', '42'::numerals), cachekit.fetch('users', 42::positive);
SELECT cachekit.fetch('users', ROW(42)), cachekit.fetch('users', ROW('042'::text));
SELECT cachekit.fetch('users', ROW('042'));
SELECT t.counted('users');
SELECT DISTINCT key FROM cachekit.fetch_many('users', ARRAY['42', '042', ' 42']);
-- another key
SELECT cachekit.fetch('users', true);
SELECT cachekit.fetch('users', -42);
-- no key
SELECT cachekit.fetch('users', NULL), cachekit.fetch('users', NULL::int), cachekit.fetch('users', NULL::text),
	cachekit.fetch('users', ROW(NULL)), cachekit.key('users', NULL), cachekit.key('users', NULL::int);
-- not a key
SELECT cachekit.fetch('users', 1.4);
SELECT cachekit.fetch('users', 1.4::float8);
SELECT cachekit.fetch('users', 1.4::real);
SELECT cachekit.fetch('users', '1.4');
SELECT cachekit.fetch('users', 'NaN'::numeric);
SELECT cachekit.fetch('users', 'Infinity'::float8);
SELECT cachekit.fetch('users', 'forty-two');
SELECT cachekit.fetch('users', '');
SELECT cachekit.fetch('users', 99999999999);
SELECT cachekit.fetch('users', 4e9);
SELECT cachekit.fetch('users', date '2024-01-01');
SELECT cachekit.fetch('users', ARRAY[42]);
SELECT cachekit.fetch('users', '{"a":1}'::jsonb);
SELECT cachekit.fetch('users', ROW(42, 1));
SELECT cachekit.fetch('users', '(42)');
SELECT cachekit.key('users', 1.4);
SELECT cachekit.invalidate('users', 1.4);
SELECT * FROM cachekit.inspect('users', 1.4);
SELECT * FROM cachekit.fetch_many('users', ARRAY[1, 1.4]);
SELECT cachekit.fetch_row(NULL::users, 1.4);
SELECT cachekit.fetch('k_bool', 'perhaps');
SELECT cachekit.fetch('k_bool', 1), cachekit.fetch('k_bool', 'yes');
SELECT cachekit.fetch('k_uuid', 'x');
SELECT cachekit.fetch('k_enum', 'purple');
SELECT cachekit.fetch('k_enum', 42);
SELECT cachekit.fetch('k_timestamptz', 'yesterday-ish');
SELECT cachekit.fetch('k_date', 20240101);
-- a number with a fraction is refused whatever the session prints of it
CREATE FUNCTION is_refused(k anyelement) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	PERFORM cachekit.fetch('users', k);
	RETURN false;
EXCEPTION WHEN OTHERS THEN
	RETURN true;
END
$$;
SET extra_float_digits = -15;
SELECT is_refused(1.4::float8), is_refused(1.4::real), is_refused(1.4::numeric), is_refused(1::float8);
RESET extra_float_digits;
-- and one without is a key however large it is
CREATE TABLE big (id bigint PRIMARY KEY);
INSERT INTO big VALUES (1e15), (9007199254740992);
SELECT cachekit.attach('big');
SELECT cachekit.fetch('big', 1e15::numeric), cachekit.fetch('big', 1e15::float8), cachekit.fetch('big', 9007199254740992::float8);
-- a cast that a session makes is the session's
SET TimeZone = 'Europe/Berlin';
SELECT cachekit.key('k_date', timestamptz '2024-07-01 22:30+00');
SET TimeZone = 'UTC';
SELECT cachekit.key('k_date', timestamptz '2024-07-01 22:30+00');

--
-- What cannot be a key: equal values with several texts
--
CREATE EXTENSION citext;
CREATE COLLATION nondeterministic (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE COLLATION deterministic (provider = icu, locale = 'und');
CREATE DOMAIN folded AS text COLLATE nondeterministic;
CREATE DOMAIN real_number AS float8;
CREATE TYPE pair AS (a int, b int);
CREATE TABLE refused (
	c_float4 float4, c_float8 float8, c_interval interval, c_timetz timetz, c_money money,
	c_json json, c_jsonb jsonb, c_citext citext, c_regclass regclass, c_regproc regproc,
	c_int_array int[], c_text_array text[], c_composite pair, c_bit bit(4), c_varbit varbit,
	c_xml xml, c_range int4range, c_tsvector tsvector, c_point point, c_macaddr8 macaddr8,
	c_pg_lsn pg_lsn, c_domain real_number, c_text text COLLATE nondeterministic,
	c_varchar varchar COLLATE nondeterministic, c_bpchar char(3) COLLATE nondeterministic,
	c_folded folded, c_good text COLLATE deterministic, c_good_2 text COLLATE "C");
SELECT cachekit.attach('refused', key => '{c_float4}');
\set VERBOSITY terse
SELECT format('SELECT cachekit.attach(''refused'', key => ''{%s}'')', attname)
FROM pg_attribute WHERE attrelid = 'refused'::regclass AND attnum > 0 ORDER BY attnum \gexec
\set VERBOSITY default
SELECT key FROM cachekit.entities WHERE name = 'refused';
DROP TABLE refused;

\set ECHO none
\i :end
