-- Documents do not depend on who loads them, nor with which settings.
\set ECHO none
\getenv top PG_ABS_SRCDIR
\set begin :top '/sql/lib/begin.sql'
\set end :top '/sql/lib/end.sql'
\i :begin
\set ECHO all

CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE TYPE place AS (street text, since timestamptz);
CREATE DOMAIN grade AS float8 CHECK (VALUE < 10);
CREATE TABLE everything (
	id int PRIMARY KEY, b boolean, i2 int2, i8 int8, n numeric, n2 numeric(10,4), f4 float4, f8 float8,
	t text, v varchar(10), c char(5), nm name, u uuid, by bytea, d date, tm time, tmz timetz,
	ts timestamp, tsz timestamptz, iv interval, m money, j json, jb jsonb, x xml, ip inet, bits bit(4),
	r int4range, tr tstzrange, a int[], a2 text[][], ta timestamptz[], p place, ps place[], e mood, g grade,
	pt point, tv tsvector);
INSERT INTO everything VALUES (1, true, -5, 9223372036854775807, 1.50, 2.5, 0.1, 0.1::float8 + 0.2,
	E'tab\t"quote" \\ \u20ac', 'v', 'c', 'n', 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', '\x00ff41', '2024-03-01', '12:34:56.5', '12:34:56+02',
	'2024-03-01 12:34:56.789', '2024-03-01 12:34:56.789+00', '1 year 2 mons 3 days 04:05:06', '1234.5', '{"b": 1,  "a":[1, 2 ]}', '{"b": 1, "a": 1.50}', '<a>1</a>', '10.0.0.1/8', B'1010',
	'[1,5)', '[2024-03-01 00:00+00,)', '{1,NULL,3}', '{{a,b},{c,"d e"}}', '{2024-07-01 00:00+00,infinity}', ('Main St', '2024-03-01 00:00+00'), ARRAY[('Side St', NULL)::place], 'ok', 1e-10,
	'(1,2.5)', 'a fat cat');
INSERT INTO everything (id, n, f4, f8, d, ts, tsz, t, by, a) VALUES
	(2, 'NaN', 'NaN', '-Infinity', 'infinity', '-infinity', 'infinity', '', '', '{}'),
	(3, 12345678901234567890.123456789, 3.4e38, 1e300, '0044-03-15 BC', '0044-03-15 12:00 BC', '0044-03-15 12:00+00 BC', repeat('ä', 3000), decode(repeat('ab', 5000), 'hex'), NULL);
INSERT INTO everything (id) VALUES (4);
SELECT cachekit.attach('everything');

-- the first session, with settings of its own, has the documents cached
SET TimeZone = 'America/New_York';
SET DateStyle = 'SQL, DMY';
SET IntervalStyle = 'iso_8601';
SET bytea_output = 'escape';
SET extra_float_digits = -10;
SET xmlbinary = 'hex';
SET default_text_search_config = 'pg_catalog.german';
SET quote_all_identifiers = on;
SET search_path = s, pg_temp;
SELECT cachekit.stat_reset();
CREATE TABLE t.first AS SELECT id, cachekit.fetch('everything', id)::text AS document FROM generate_series(1, 4) AS id;
SELECT jsonb_pretty(document::jsonb) FROM t.first WHERE id IN (1, 2) ORDER BY id;
-- and its settings are its own again
SHOW TimeZone;
SHOW DateStyle;
SHOW IntervalStyle;
SHOW extra_float_digits;
SHOW search_path;
SELECT current_user = session_user AS same_user;
-- also after an error in a load
CREATE TABLE twice (id int);
SELECT cachekit.attach('twice', key => '{id}');
INSERT INTO twice VALUES (1), (1);
SELECT cachekit.fetch('twice', 1);
SHOW TimeZone;
SHOW search_path;
BEGIN;
SAVEPOINT a;
SELECT cachekit.fetch('twice', 1);
ROLLBACK TO a;
SHOW TimeZone;
SHOW search_path;
COMMIT;

-- the second session gets them, and would have made the same ones
\c -
SET search_path = s;
SET TimeZone = 'Asia/Kathmandu';
SET DateStyle = 'German';
SET IntervalStyle = 'sql_standard';
SET extra_float_digits = 3;
SELECT id FROM t.first WHERE document <> cachekit.fetch('everything', id)::text;
SELECT id FROM t.first WHERE document <> cachekit.fetch('everything', id, 'bypass')::text;
SELECT id FROM t.first WHERE document <> cachekit.fetch('everything', id, 'invalidate')::text;
SELECT id FROM t.first AS f, cachekit.fetch_many('everything', '{1,2,3,4}') AS m WHERE m.key = f.id::text AND m.value::text <> f.document;
SET cachekit.enabled = off;
SELECT id FROM t.first WHERE document <> cachekit.fetch('everything', id)::text;
RESET cachekit.enabled;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT id FROM t.first WHERE document <> cachekit.fetch('everything', id)::text;
COMMIT;
BEGIN;
UPDATE everything SET t = t;
SELECT id FROM t.first WHERE document <> cachekit.fetch('everything', id)::text;
ROLLBACK;
SELECT t.check('everything');
-- the settings of a function
CREATE FUNCTION elsewhere(k int) RETURNS text LANGUAGE sql SET TimeZone = 'Australia/Perth' SET search_path = pg_catalog AS $$ SELECT cachekit.fetch('s.everything', k, 'bypass')::text $$;
SELECT id FROM t.first WHERE document <> elsewhere(id);

-- fetch_row gives the row back, whatever the session's settings
CREATE FUNCTION row_differs(k int) RETURNS boolean LANGUAGE sql AS $$
	SELECT NOT coalesce(to_jsonb(got) = to_jsonb(had), false)
		OR got.tsz IS DISTINCT FROM had.tsz OR got.ts IS DISTINCT FROM had.ts OR got.d IS DISTINCT FROM had.d OR got.tmz IS DISTINCT FROM had.tmz
		OR got.iv IS DISTINCT FROM had.iv OR got.by IS DISTINCT FROM had.by OR got.f8 IS DISTINCT FROM had.f8 OR got.f4 IS DISTINCT FROM had.f4
		OR got.n::text IS DISTINCT FROM had.n::text OR got.m IS DISTINCT FROM had.m OR got.tr IS DISTINCT FROM had.tr OR got.a IS DISTINCT FROM had.a
		OR got.ps IS DISTINCT FROM had.ps OR got.c IS DISTINCT FROM had.c OR got.bits IS DISTINCT FROM had.bits
	FROM s.everything AS had, LATERAL cachekit.fetch_row(NULL::s.everything, k) AS got WHERE had.id = k
$$;
SELECT id FROM everything WHERE row_differs(id) ORDER BY id;
SET DateStyle = 'SQL, DMY';
SET bytea_output = 'escape';
SET extra_float_digits = -15;
SET TimeZone = 'America/St_Johns';
SET search_path = pg_catalog;
SELECT id FROM s.everything WHERE s.row_differs(id) ORDER BY id;
RESET ALL;
SET search_path = s;

-- who asks makes no difference: a document is made as the owner of its table
CREATE ROLE regress_cachekit_owner;
CREATE ROLE regress_cachekit_reader;
GRANT USAGE ON SCHEMA s TO regress_cachekit_owner, regress_cachekit_reader;
CREATE TYPE who AS ENUM ('me');
CREATE FUNCTION who_json(w who) RETURNS json LANGUAGE sql STABLE AS $$ SELECT to_json(current_user || ' in ' || current_setting('search_path')) $$;
CREATE CAST (who AS json) WITH FUNCTION who_json(who);
CREATE TABLE asks (id int PRIMARY KEY, w who);
INSERT INTO asks VALUES (1, 'me');
ALTER TABLE asks OWNER TO regress_cachekit_owner;
GRANT SELECT ON asks TO regress_cachekit_reader;
SELECT cachekit.attach('asks');
SET ROLE regress_cachekit_reader;
SELECT cachekit.fetch('asks', 1);
SELECT cachekit.fetch('asks', 1, 'bypass');
RESET ROLE;
SELECT cachekit.fetch('asks', 1), cachekit.fetch('asks', 1, 'bypass');
SET cachekit.enabled = off;
SELECT cachekit.fetch('asks', 1);
RESET cachekit.enabled;
DROP TABLE asks;
-- and it can do nothing that would outlast it
CREATE FUNCTION who_sets(w who) RETURNS json LANGUAGE plpgsql VOLATILE AS $$
BEGIN
	PERFORM set_config('TimeZone', 'Europe/Rome', false);
	RETURN to_json(current_setting('TimeZone'));
END
$$;
DROP CAST (who AS json);
CREATE CAST (who AS json) WITH FUNCTION who_sets(who);
CREATE TABLE asks (id int PRIMARY KEY, w who);
INSERT INTO asks VALUES (1, 'me');
ALTER TABLE asks OWNER TO regress_cachekit_owner;
SELECT cachekit.attach('asks');
SET TimeZone = 'UTC';
SELECT cachekit.fetch('asks', 1);
SHOW TimeZone;
-- also where nothing had to be pinned, because the session has these settings itself
SET DateStyle = 'ISO, YMD';
SET IntervalStyle = 'postgres';
SET extra_float_digits = 1;
SET bytea_output = 'hex';
SET default_text_search_config = 'pg_catalog.simple';
SET search_path = pg_catalog, pg_temp;
SELECT cachekit.fetch('s.asks', 1, 'bypass');
SHOW TimeZone;
RESET ALL;
SET search_path = s;
CREATE OR REPLACE FUNCTION who_sets(w who) RETURNS json LANGUAGE plpgsql VOLATILE AS $$
BEGIN
	SET SESSION AUTHORIZATION DEFAULT;
	RETURN '1';
END
$$;
SELECT cachekit.fetch('asks', 1);
-- a function in a load that writes: its document is served, never cached
CREATE TABLE log (id int);
GRANT INSERT ON log TO regress_cachekit_owner;
CREATE OR REPLACE FUNCTION who_sets(w who) RETURNS json LANGUAGE plpgsql VOLATILE AS $$
BEGIN
	INSERT INTO s.log VALUES (1);
	RETURN '"logged"';
END
$$;
SELECT cachekit.stat_reset();
SELECT cachekit.fetch('asks', 1);
SELECT cachekit.fetch('asks', 1);
SELECT loads, fills, local_hits FROM cachekit.stat_entities WHERE name = 'asks';
SELECT count(*) FROM log;
-- one that fetches, itself or another
CREATE OR REPLACE FUNCTION who_sets(w who) RETURNS json LANGUAGE plpgsql VOLATILE AS $$
BEGIN
	RETURN to_json(cachekit.fetch('s.everything', 4, 'fresh') IS NULL);
END
$$;
GRANT SELECT ON everything TO regress_cachekit_owner;
SELECT cachekit.fetch('asks', 1);
CREATE OR REPLACE FUNCTION who_sets(w who) RETURNS json LANGUAGE plpgsql VOLATILE AS $$
BEGIN
	RETURN to_json(cachekit.fetch('s.everything', 1) ->> 't');
END
$$;
SELECT cachekit.fetch('asks', 1);
SELECT cachekit.fetch('asks', 1);

-- some columns, in the order of the table or not
SELECT cachekit.attach('everything', columns => '{t,id,tsz}');
SELECT id, cachekit.fetch('everything', id) FROM generate_series(1, 2) AS id;
SELECT t.check('everything');
SELECT (cachekit.fetch_row(NULL::everything, 1)).t, (cachekit.fetch_row(NULL::everything, 1)).b;
SELECT cachekit.attach('everything', columns => '{}');
SELECT t.check('everything');
SELECT t.check('everything');

-- large ones take several blocks, and none of them is mixed up with another
CREATE TABLE large (id int PRIMARY KEY, t text);
INSERT INTO large SELECT i, string_agg(md5((i * j)::text), '') FROM generate_series(1, 60) AS i, generate_series(1, 60) AS j WHERE j <= i GROUP BY i;
SELECT cachekit.attach('large');
SELECT t.check('large');
UPDATE large SET t = reverse(t) WHERE id % 2 = 0;
SELECT t.check('large');
UPDATE large SET t = left(t, id);
SELECT t.check('large');
SELECT loads, fills, fills_refused FROM cachekit.stat_entities WHERE name = 'large';

DROP TABLE asks, log;
REVOKE ALL ON everything FROM regress_cachekit_owner;
REVOKE USAGE ON SCHEMA s FROM regress_cachekit_owner, regress_cachekit_reader;
DROP ROLE regress_cachekit_owner, regress_cachekit_reader;

\set ECHO none
\i :end
