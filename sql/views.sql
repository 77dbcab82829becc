-- What a view reads, which columns of that equal its key, and what no trigger tells of.
\set ECHO none
\getenv top PG_ABS_SRCDIR
\set begin :top '/sql/lib/begin.sql'
\set end :top '/sql/lib/end.sql'
\i :begin

CREATE TABLE a (id int PRIMARY KEY, x int, y int, name text);
CREATE TABLE b (id int PRIMARY KEY, a_id int, c_id bigint, name text, n int);
CREATE TABLE c (id bigint PRIMARY KEY, a_id int, name varchar(20), n int);

CREATE VIEW v AS SELECT 1 AS k;

-- Makes a view of a query and shows what is known of it; the view stays until the next.
CREATE FUNCTION t.reads(query text, VARIADIC key name[] DEFAULT '{k}') RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	r record;
BEGIN
	DROP VIEW s.v CASCADE;
	EXECUTE 'CREATE VIEW s.v AS ' || query;
	FOR r IN SELECT * FROM cachekit.view_reads('s.v', key) LOOP
		RETURN NEXT replace(r.relation, 's.', '') || ' [' || r.columns || '] '
			|| COALESCE(r.derived, '-') || CASE WHEN r.complete THEN '' ELSE ', incomplete' END;
	END LOOP;
END
$$;
CREATE FUNCTION t.problems(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	DROP VIEW s.v CASCADE;
	EXECUTE format('CREATE VIEW s.v AS SELECT 1 AS k FROM (%s) AS q', query);
	RETURN QUERY SELECT cachekit.view_problems('s.v');
END
$$;
\pset tuples_only on
\pset format unaligned
\set ECHO all

--
-- One level: the key, and what equals it
--
SELECT t.reads('SELECT id AS k, name FROM a');
SELECT t.reads('SELECT id + 0 AS k, name FROM a');
SELECT t.reads('SELECT a.id AS k, b.name FROM a JOIN b ON b.a_id = a.id');
SELECT t.reads('SELECT a.id AS k, b.name FROM a, b WHERE a.id = b.a_id AND b.n > 0');
SELECT t.reads('SELECT a.id AS k, b.name FROM a JOIN b ON b.a_id = a.id AND a.x = b.n');
SELECT t.reads('SELECT a.id AS k, b.name FROM a, b WHERE a.id = b.a_id OR b.n > 0');
SELECT t.reads('SELECT a.id AS k, b.name FROM a, b WHERE a.id < b.a_id');
SELECT t.reads('SELECT a.id AS k, b.name FROM a, b WHERE a.id = b.a_id + 0');
SELECT t.reads('SELECT a.id AS k, b.name FROM a, b WHERE a.id IS NOT DISTINCT FROM b.a_id');
-- by way of another table
SELECT t.reads('SELECT a.id AS k, c.name FROM a JOIN b ON b.a_id = a.id JOIN c ON c.a_id = b.a_id');
SELECT t.reads('SELECT a.id AS k, c.name FROM a JOIN b ON b.a_id = a.id JOIN c ON c.id = b.c_id');
-- USING
SELECT t.reads('SELECT a_id AS k, b.name, c.name AS cname FROM b JOIN c USING (a_id)');
SELECT t.reads('SELECT a_id AS k, b.name, c.name AS cname FROM b LEFT JOIN c USING (a_id)');
SELECT t.reads('SELECT a_id AS k, b.name, c.name AS cname FROM b RIGHT JOIN c USING (a_id)');
SELECT t.reads('SELECT a_id AS k, b.name, c.name AS cname FROM b FULL JOIN c USING (a_id)');
SELECT t.reads('SELECT j.k, j.bname FROM (b JOIN c USING (a_id)) AS j(k, b_id, c_id, bname)');

--
-- Outer joins: from the side that is kept to the one that is not, never back
--
SELECT t.reads('SELECT a.id AS k, b.name FROM a LEFT JOIN b ON b.a_id = a.id');
SELECT t.reads('SELECT a.id AS k, b.name FROM b RIGHT JOIN a ON b.a_id = a.id');
SELECT t.reads('SELECT b.a_id AS k, a.name FROM a LEFT JOIN b ON b.a_id = a.id');
SELECT t.reads('SELECT b.a_id AS k, a.name FROM b RIGHT JOIN a ON b.a_id = a.id');
SELECT t.reads('SELECT a.id AS k, b.name FROM a FULL JOIN b ON b.a_id = a.id');
SELECT t.reads('SELECT a.id AS k, b.name FROM a FULL JOIN b ON b.a_id = a.id WHERE b.a_id = a.id');
SELECT t.reads('SELECT a.id AS k, b.name FROM a LEFT JOIN b ON true WHERE b.a_id = a.id');
SELECT t.reads('SELECT a.id AS k, b.name FROM a LEFT JOIN b ON b.a_id = a.id LEFT JOIN c ON c.a_id = b.a_id');
SELECT t.reads('SELECT a.id AS k, b.name FROM a LEFT JOIN (b JOIN c ON c.a_id = b.a_id) ON b.a_id = a.id');
-- c is kept; a row of it with another a_id is joined to a with NULLs for b
SELECT t.reads('SELECT a.id AS k, c.name FROM (a CROSS JOIN c) LEFT JOIN b ON b.a_id = a.id AND b.a_id = c.a_id');
SELECT t.reads('SELECT a.id AS k, c.name FROM (a CROSS JOIN c) JOIN b ON b.a_id = a.id AND b.a_id = c.a_id');
SELECT t.reads('SELECT a.id AS k, c.name FROM a LEFT JOIN (c LEFT JOIN b ON b.a_id = c.a_id) ON b.a_id = a.id');
SELECT t.reads('SELECT a.id AS k, c.name FROM a LEFT JOIN (c FULL JOIN b ON b.a_id = c.a_id) ON c.a_id = a.id');

--
-- Groups, windows, LIMIT, DISTINCT
--
SELECT t.reads('SELECT a.id AS k, count(b.id) FROM a LEFT JOIN b ON b.a_id = a.id GROUP BY a.id HAVING count(*) > 0');
SELECT t.reads('SELECT a.id AS k, a.name, sum(b.n) FROM a JOIN b ON b.a_id = a.id GROUP BY a.id');
SELECT t.reads('SELECT max(id) AS k FROM a');
SELECT t.reads('SELECT id AS k, name FROM a GROUP BY ROLLUP (id, name)');
SELECT t.reads('SELECT id AS k, row_number() OVER (ORDER BY name) FROM a');
SELECT t.reads('SELECT a_id AS k, row_number() OVER (PARTITION BY a_id ORDER BY id) FROM b');
SELECT t.reads('SELECT a_id AS k, row_number() OVER (PARTITION BY a_id ORDER BY id), rank() OVER (PARTITION BY n ORDER BY id) FROM b');
SELECT t.reads('SELECT id AS k FROM a LIMIT 5');
SELECT t.reads('SELECT id AS k FROM a ORDER BY id OFFSET 5');
SELECT t.reads('SELECT id AS k FROM a ORDER BY id FETCH FIRST 5 ROWS WITH TIES');
SELECT t.reads('SELECT DISTINCT a_id AS k, name FROM b');
SELECT t.reads('SELECT DISTINCT ON (a_id) a_id AS k, name FROM b ORDER BY a_id, id');
SELECT t.reads('SELECT DISTINCT ON (name) a_id AS k, name FROM b ORDER BY name, id');
SELECT t.reads('SELECT id AS k, generate_series(1, x) FROM a');

--
-- Subqueries, CTEs, set operations
--
SELECT t.reads('SELECT q.k, q.name FROM (SELECT id AS k, name FROM a) AS q');
SELECT t.reads('SELECT a.id AS k, q.n FROM a LEFT JOIN (SELECT a_id, count(*) AS n FROM b GROUP BY a_id) AS q ON q.a_id = a.id');
SELECT t.reads('SELECT a.id AS k, q.n FROM a LEFT JOIN (SELECT a_id, n FROM b LIMIT 9) AS q ON q.a_id = a.id');
SELECT t.reads('SELECT a.id AS k, q.n FROM a LEFT JOIN (SELECT a_id, n, row_number() OVER (ORDER BY n) FROM b) AS q ON q.a_id = a.id');
SELECT t.reads('WITH q AS (SELECT a_id, name FROM b) SELECT a.id AS k, q.name FROM a JOIN q ON q.a_id = a.id');
SELECT t.reads('WITH q AS MATERIALIZED (SELECT a_id, name FROM b) SELECT q.a_id AS k, r.name FROM q, q AS r WHERE q.name = r.name');
SELECT t.reads('WITH q AS (SELECT a_id, id, name FROM b) SELECT q.a_id AS k, r.name FROM q, q AS r WHERE q.a_id = r.id');
SELECT t.reads('WITH q AS (SELECT a_id FROM b), r AS (SELECT a_id FROM q UNION SELECT a_id FROM c) SELECT a_id AS k FROM r');
SELECT t.reads('WITH unused AS (SELECT * FROM b) SELECT id AS k FROM a');
SELECT t.reads('WITH RECURSIVE q AS (SELECT id, x FROM a UNION ALL SELECT a.id, q.x FROM a JOIN q ON a.x = q.id) SELECT id AS k, x FROM q');
SELECT t.reads('WITH RECURSIVE q AS (SELECT id, x FROM a UNION ALL SELECT a.id, q.x FROM a JOIN q ON a.x = q.id) SELECT b.id AS k FROM b JOIN q ON q.id = b.id');
SELECT t.reads('SELECT id AS k, name FROM a UNION SELECT a_id, name FROM b');
SELECT t.reads('SELECT id AS k, name FROM a UNION ALL SELECT n, name FROM b UNION ALL SELECT a_id + 1, name FROM c');
SELECT t.reads('SELECT id AS k FROM a EXCEPT (SELECT a_id FROM b INTERSECT ALL SELECT a_id FROM c)');
SELECT t.reads('SELECT id AS k FROM a UNION SELECT id FROM c');
SELECT t.reads('SELECT id AS k FROM a UNION SELECT a_id FROM b ORDER BY 1 LIMIT 3');
SELECT t.reads('SELECT id AS k FROM a UNION ALL (SELECT a_id FROM b LIMIT 3)');
SELECT t.reads('SELECT name AS k FROM a UNION ALL SELECT name::char(8) FROM b');

--
-- Sublinks and LATERAL
--
SELECT t.reads('SELECT id AS k, (SELECT count(*) FROM b WHERE b.a_id = a.id) FROM a');
SELECT t.reads('SELECT id AS k, ARRAY(SELECT b.name FROM b WHERE b.a_id = a.id ORDER BY b.id LIMIT 3) FROM a');
SELECT t.reads('SELECT id AS k, (SELECT count(*) FROM b WHERE b.a_id < a.id) FROM a');
SELECT t.reads('SELECT id AS k, (SELECT count(*) FROM b WHERE b.a_id = a.x) FROM a');
SELECT t.reads('SELECT id AS k, (SELECT count(*) FROM b HAVING max(b.a_id) = a.id) FROM a');
SELECT t.reads('SELECT id AS k, (SELECT count(*) FROM b LEFT JOIN c ON c.a_id = a.id AND b.a_id = a.id) FROM a');
SELECT t.reads('SELECT id AS k FROM a WHERE EXISTS (SELECT FROM b WHERE b.a_id = a.id)');
SELECT t.reads('SELECT id AS k FROM a WHERE NOT EXISTS (SELECT FROM b JOIN c ON c.id = b.c_id AND c.a_id = a.id WHERE b.a_id = a.id)');
SELECT t.reads('SELECT id AS k FROM a WHERE id IN (SELECT a_id FROM b)');
SELECT t.reads('SELECT id AS k FROM a WHERE x NOT IN (SELECT n FROM b WHERE b.a_id = a.id)');
SELECT t.reads('SELECT a.id AS k, b.name FROM a LEFT JOIN b ON b.n = (SELECT max(c.n) FROM c WHERE c.a_id = a.id)');
SELECT t.reads('SELECT a.id AS k, b.name FROM a LEFT JOIN b ON b.a_id = a.id AND EXISTS (SELECT FROM c WHERE c.a_id = b.a_id)');
SELECT t.reads('SELECT a.id AS k, b.name FROM a FULL JOIN b ON b.n = a.x WHERE EXISTS (SELECT FROM c WHERE c.id = a.id)');
SELECT t.reads('SELECT id AS k, count(*) FROM a GROUP BY id ORDER BY (SELECT max(n) FROM b WHERE a_id = a.id)');
SELECT t.reads('SELECT a.id AS k, q.name FROM a CROSS JOIN LATERAL (SELECT name FROM b WHERE b.a_id = a.id ORDER BY n LIMIT 1) AS q');
SELECT t.reads('SELECT a.id AS k, q.name FROM a LEFT JOIN LATERAL (SELECT name FROM b WHERE b.n = a.x ORDER BY n LIMIT 1) AS q ON true');
SELECT t.reads('SELECT q.a_id AS k, q.name FROM a CROSS JOIN LATERAL (SELECT a_id, name FROM b WHERE b.a_id = a.id) AS q');
SELECT t.reads('SELECT id AS k, g FROM a, generate_series(1, (SELECT count(*) FROM b WHERE b.a_id = a.id)) AS g');
SELECT t.reads('SELECT id AS k, (SELECT (SELECT max(c.n) FROM c WHERE c.a_id = a.id AND c.id = b.c_id) FROM b WHERE b.id = 1) FROM a');
SELECT t.reads('SELECT id AS k, (WITH q AS (SELECT n FROM b WHERE a_id = a.id) SELECT max(n) FROM q) FROM a');

--
-- Several occurrences, several columns
--
SELECT t.reads('SELECT p.id AS k, q.name FROM a AS p JOIN a AS q ON q.x = p.id');
SELECT t.reads('SELECT p.id AS k, q.name FROM a AS p JOIN a AS q ON q.x = p.y');
SELECT t.reads('SELECT a_id AS k1, n AS k2, name FROM b', 'k1', 'k2');
SELECT t.reads('SELECT a_id AS k1, n AS k2, name FROM b', 'k2', 'k1');
SELECT t.reads('SELECT b.a_id AS k1, c.n AS k2 FROM b JOIN c ON c.a_id = b.a_id AND c.n = b.n', 'k1', 'k2');
SELECT t.reads('SELECT b.a_id AS k1, c.n AS k2 FROM b JOIN c ON c.a_id = b.a_id', 'k1', 'k2');
SELECT t.reads('SELECT id AS k FROM a', 'k', 'none');
SELECT * FROM cachekit.view_reads('s.v', NULL);

--
-- Views in views; renamed columns
--
CREATE VIEW inner_view AS SELECT a_id AS k, count(*) AS n FROM b GROUP BY a_id;
CREATE VIEW limited_view AS SELECT a_id AS k FROM b ORDER BY a_id LIMIT 3;
SELECT t.reads('SELECT a.id AS k, i.n FROM a LEFT JOIN inner_view AS i ON i.k = a.id');
SELECT t.reads('SELECT a.id AS k FROM a LEFT JOIN limited_view AS i ON i.k = a.id');
SELECT t.reads('SELECT i.k FROM inner_view AS i JOIN limited_view AS l ON l.k = i.k');
ALTER VIEW v RENAME COLUMN k TO renamed;
SELECT * FROM cachekit.view_reads('v', '{renamed}');
CREATE VIEW circle AS SELECT 1 AS k;
CREATE VIEW circle_2 AS SELECT k FROM circle;
CREATE OR REPLACE VIEW circle AS SELECT k FROM circle_2;
SELECT * FROM cachekit.view_reads('circle', '{k}');
SELECT * FROM cachekit.view_problems('circle');
DROP VIEW circle, circle_2 CASCADE;
-- too many queries to go through
SELECT t.reads('WITH q0 AS (SELECT id FROM a)' ||
	string_agg(format(', q%s AS (SELECT l.id FROM q%s AS l JOIN q%s AS r ON l.id = r.id)', i, i - 1, i - 1), '' ORDER BY i) ||
	' SELECT id AS k FROM q14') FROM generate_series(1, 14) AS i;

--
-- Types: equal values must be equal keys
--
CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TYPE color AS ENUM ('red', 'green');
CREATE TYPE mood AS ENUM ('red', 'blue');
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TABLE p (i2 int2, i4 int4, i8 int8, o oid, t text, v varchar, c char(8), n name, d date, ts timestamp,
	tz timestamptz, e color, num numeric, dom positive, ci text COLLATE nocase, net inet, cid cidr, u uuid, by bytea, f float8);
CREATE TABLE q (i2 int2, i4 int4, i8 int8, o oid, t text, v varchar, c char(8), n name, d date, ts timestamp,
	tz timestamptz, e color, m mood, num numeric, dom positive, ci text COLLATE nocase, net inet, cid cidr, u uuid, by bytea, f float8);
SELECT x.a || ' = ' || x.b || ': ' || r
FROM (VALUES ('p.i2', 'q.i8'), ('p.i8', 'q.i4'), ('p.i4', 'q.dom'), ('p.i4', 'q.o::int4'), ('p.o', 'q.o'), ('p.i4', 'q.num'), ('p.i4', 'q.f'),
	('p.t', 'q.v'), ('p.v', 'q.v'), ('p.t', 'q.n'), ('p.n', 'q.n'), ('p.c', 'q.c'), ('p.t', 'q.c'), ('p.t::bpchar', 'q.t::bpchar'),
	('p.t', 'q.ci'), ('p.t', 'q.t COLLATE nocase'), ('p.t', 'q.t COLLATE "C"'),
	('p.d', 'q.d'), ('p.d', 'q.ts'), ('p.ts', 'q.tz'), ('p.tz', 'q.tz'), ('p.e', 'q.e'), ('p.e::text', 'q.m::text'),
	('p.num', 'q.num'), ('p.net', 'q.net'), ('p.net', 'q.cid'), ('p.cid', 'q.cid'), ('p.u', 'q.u'), ('p.by', 'q.by'), ('p.f', 'q.f')) AS x(a, b),
	LATERAL (SELECT string_agg(r, '; ') FROM t.reads(format('SELECT p.%s AS k FROM p JOIN q ON %s = %s',
		split_part(split_part(x.a, '.', 2), ':', 1), x.a, x.b)) AS r) AS reads(r);
SELECT t.reads('SELECT ci AS k FROM p');
SELECT t.reads('SELECT t COLLATE nocase AS k FROM p');
SELECT t.reads('SELECT t::bpchar AS k FROM p');
SELECT t.reads('SELECT v::text AS k FROM p');
SELECT t.reads('SELECT o::int4 AS k FROM p');
SELECT t.reads('SELECT p.t AS k FROM p JOIN (SELECT DISTINCT t COLLATE nocase AS t FROM q) AS q ON q.t COLLATE "C" = p.t');

--
-- What is read: partitions, whole rows
--
CREATE TABLE parted (gone int, id int, what text) PARTITION BY RANGE (id);
ALTER TABLE parted DROP COLUMN gone;
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (1) TO (10);
SELECT t.reads('SELECT id AS k, what FROM parted');
SELECT t.reads('SELECT id AS k, to_jsonb(p) FROM parted_1 AS p');
SELECT t.reads('SELECT a.id AS k, row_to_json(j) FROM (a JOIN b ON a.id = b.a_id) AS j(k, x, y, name, b_id), a WHERE a.id = j.k');
SELECT t.problems('SELECT id AS k, what FROM parted');

--
-- Problems
--
CREATE EXTENSION postgres_fdw;
CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw;
CREATE FOREIGN TABLE foreign_table (id int) SERVER far;
CREATE FOREIGN TABLE parted_2 PARTITION OF parted FOR VALUES FROM (10) TO (20) SERVER far;
CREATE UNLOGGED TABLE unlogged_table (id int);
CREATE TEMP TABLE temp_table (id int);
CREATE TABLE parent (id int);
CREATE TABLE child () INHERITS (parent);
CREATE MATERIALIZED VIEW stored AS SELECT id FROM a;
CREATE SEQUENCE numbers;
CREATE FUNCTION stable_function(int) RETURNS int LANGUAGE sql STABLE AS 'SELECT $1';
CREATE FUNCTION volatile_function(int) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT $1';
CREATE FUNCTION immutable_function(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';
CREATE FUNCTION step(int, int) RETURNS int LANGUAGE sql STABLE AS 'SELECT $1 + $2';
CREATE AGGREGATE total(int) (SFUNC = step, STYPE = int, INITCOND = 0);
SELECT t.problems('SELECT id AS k FROM foreign_table');
SELECT t.problems('SELECT id AS k FROM parted');
SELECT t.problems('SELECT id AS k FROM unlogged_table');
CREATE TEMP VIEW temp_view AS SELECT id AS k FROM temp_table;
SELECT cachekit.view_problems('temp_view') ~ '^table pg_temp_[0-9]+.temp_table is temporary$';
SELECT t.problems('SELECT id AS k FROM parent');
SELECT t.problems('SELECT id AS k FROM ONLY parent');
SELECT t.problems('SELECT id AS k FROM child');
SELECT t.problems('SELECT id AS k FROM stored');
SELECT t.problems('SELECT last_value AS k FROM numbers');
SELECT t.problems('SELECT oid AS k, (SELECT count(*) FROM information_schema.tables) FROM pg_class');
SELECT t.problems('SELECT name AS k FROM cachekit.entity');
SELECT t.problems('SELECT id AS k FROM a TABLESAMPLE system (50)');
SELECT t.reads('SELECT id AS k FROM a TABLESAMPLE system (50)');
SELECT t.problems('SELECT id AS k FROM a FOR SHARE');
SELECT t.problems('SELECT id AS k, ctid, xmin FROM a');
SELECT t.problems('SELECT id AS k, tableoid FROM a');
-- functions, wherever they are
SELECT t.problems('SELECT id AS k, now(), now() FROM a WHERE x < random()');
SELECT t.problems('SELECT id AS k, current_date, localtimestamp(2), current_user, session_user, current_schema FROM a');
SELECT t.problems('SELECT id AS k, age(d), age(d, d), nextval(''numbers''), current_setting(''x'') FROM a, p');
SELECT t.problems('SELECT id AS k, immutable_function(x), stable_function(x), volatile_function(x) FROM a');
SELECT t.problems('SELECT id AS k FROM a JOIN stable_function(3) AS f ON f = x');
SELECT t.problems('SELECT id AS k FROM a GROUP BY id HAVING count(*) > (SELECT stable_function(1))');
SELECT t.problems('SELECT id AS k, f FROM a, (VALUES (stable_function(2))) AS f');
SELECT t.problems('WITH q AS (SELECT stable_function(2)) SELECT id AS k FROM a ORDER BY stable_function(x)');
SELECT t.problems('SELECT total(id) AS k, total(id) OVER (ORDER BY 1) FROM a GROUP BY id');
SELECT t.problems('SELECT id AS k, has_table_privilege(''s.a'', ''SELECT'') FROM a');
SELECT t.problems('SELECT id AS k, ''a''::text::regclass FROM a, to_regclass(name) AS t');
-- the text of values, and values from text
SELECT t.problems('SELECT name::date AS k, name::timestamptz, name::int, name::color, name::date[], name::interval, name::positive FROM a');
SELECT t.problems('SELECT d::text AS k, tz::text, num::text, e::text, p::text, o::regclass::text, p.* FROM p');
SELECT t.problems('SELECT o::regclass || ''x'' AS k, to_json(o::regtype), ROW(o::regrole)::text FROM p');
SELECT t.problems('SELECT row_to_json(r) AS k FROM (SELECT o, o::regclass FROM p) AS r');
SELECT t.problems('WITH r AS (SELECT o, o::regclass FROM p) SELECT json_agg(r) AS k FROM r');
SELECT t.problems('SELECT row_to_json(r) AS k FROM (SELECT o, tz FROM p) AS r');
SELECT t.problems('SELECT r.* FROM a, json_to_record(to_json(a)) AS r(k int, d text)');
SELECT t.problems('SELECT r.* FROM a, json_to_recordset(to_json(a)) AS r(k int, d date)');
SELECT t.problems('SELECT jsonb_populate_record(NULL::a, ''{}'') AS k, jsonb_populate_record(NULL::p, ''{}'') FROM a');
-- what obeys settings only
SELECT t.problems($$ SELECT id AS k, concat(a), concat_ws('-', d, tz), format('%s', ts), to_char(tz, 'YYYY'), to_date(name, 'YYYY'), extract(year FROM tz),
	date_trunc('day', tz), tz AT TIME ZONE 'UTC', tz::date, d::timestamptz, tz + interval '1 day', d < tz, array_to_string(ARRAY[tz], ','),
	jsonb_agg(tz) OVER (), json_object_agg(id, e) OVER (), to_tsvector(name), ts_headline(name, plainto_tsquery(name)), xmlelement(name x, tz),
	enum_range(e), name || tz, quote_literal(id), tz::time, money(3)::numeric, convert_to(name, 'UTF8') FROM a, p $$);

--
-- Who asks decides what is read
--
ALTER TABLE c ENABLE ROW LEVEL SECURITY;
SELECT t.problems('SELECT id AS k FROM c');
ALTER TABLE c DISABLE ROW LEVEL SECURITY;
CREATE VIEW invoker WITH (security_invoker) AS SELECT id FROM a;
CREATE VIEW barrier WITH (security_barrier) AS SELECT id FROM a;
SELECT t.problems('SELECT id AS k FROM invoker');
SELECT t.problems('SELECT id AS k FROM barrier');

--
-- The functions are for the owners of views
--
CREATE ROLE regress_stranger;
GRANT USAGE ON SCHEMA s TO regress_stranger;
SET ROLE regress_stranger;
SELECT * FROM cachekit.view_reads('s.v', '{k}');
SELECT cachekit.view_problems('s.v');
RESET ROLE;
SELECT cachekit.view_problems('s.a');
SELECT * FROM cachekit.view_reads('s.a', '{k}');

\set ECHO none
DROP VIEW temp_view;
DROP TABLE temp_table;
REVOKE USAGE ON SCHEMA s FROM regress_stranger;
DROP ROLE regress_stranger;
SET client_min_messages = warning;
DROP EXTENSION postgres_fdw CASCADE;
\i :end
