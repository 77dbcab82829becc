-- DDL of attached tables: documents and settings follow, whatever the command.
\set ECHO none
\getenv top PG_ABS_SRCDIR
\set begin :top '/sql/lib/begin.sql'
\set end :top '/sql/lib/end.sql'
\i :begin
\set ECHO all

CREATE TABLE users (id int PRIMARY KEY, name text, amount int);
INSERT INTO users VALUES (1, 'Ada', 10), (2, 'Bob', 20);
SELECT cachekit.attach('users', negative_ttl => '1 hour');
SELECT t.check('users');

-- columns
ALTER TABLE users ADD COLUMN email text;
SELECT t.check('users');
ALTER TABLE users ADD COLUMN score int NOT NULL DEFAULT 7;
SELECT t.check('users');
ALTER TABLE users ADD COLUMN stamp text DEFAULT md5(random()::text);
SELECT t.check('users');
ALTER TABLE users RENAME COLUMN score TO points;
SELECT t.check('users');
ALTER TABLE users ALTER COLUMN points TYPE numeric(5,1);
SELECT t.check('users');
ALTER TABLE users ALTER COLUMN points TYPE text USING 'p' || points;
SELECT t.check('users');
ALTER TABLE users DROP COLUMN points, DROP COLUMN stamp;
SELECT t.check('users');
UPDATE users SET amount = amount + 1;
SELECT t.check('users');
ALTER TABLE users ALTER COLUMN amount SET DEFAULT 5, ALTER COLUMN amount SET NOT NULL, ALTER COLUMN name SET STORAGE EXTERNAL;
SELECT t.check('users');
SELECT sound FROM cachekit.entities;
BEGIN;
ALTER TABLE users ADD COLUMN never int DEFAULT 1;
SELECT cachekit.fetch('users', 1);
ROLLBACK;
SELECT t.check('users');
BEGIN;
SAVEPOINT a;
ALTER TABLE users ADD COLUMN never int DEFAULT 1;
ROLLBACK TO a;
SELECT cachekit.fetch('users', 1);
COMMIT;
SELECT t.check('users');

-- the key's columns
ALTER TABLE users RENAME COLUMN id TO user_id;
SELECT key FROM cachekit.entities;
SELECT t.check('users');
UPDATE users SET name = 'renamed' WHERE user_id = 1;
SELECT t.check('users');
ALTER TABLE users ALTER COLUMN user_id TYPE bigint;
SELECT t.check('users');
INSERT INTO users VALUES (10000000000, 'big', 0);
SELECT t.check('users');
DELETE FROM users WHERE user_id > 2;
DELETE FROM t.known;
ALTER TABLE users ALTER COLUMN user_id TYPE text;
SELECT t.check('users');
SELECT cachekit.fetch('users', '1') IS NOT NULL AS there, cachekit.fetch('users', '01') IS NOT NULL AS there;
UPDATE users SET name = 'text' WHERE user_id = '1';
SELECT t.check('users');
ALTER TABLE users DROP COLUMN user_id;
ALTER TABLE users DROP COLUMN user_id CASCADE;
-- to a type that is none for keys: no document, until it is one again
ALTER TABLE users ALTER COLUMN user_id TYPE float8 USING user_id::float8;
SELECT name, sound FROM cachekit.entities;
SELECT cachekit.fetch('users', 1);
SELECT cachekit.key('users', 1);
SELECT cachekit.invalidate('users', 1);
SELECT problem FROM cachekit.health();
UPDATE users SET name = 'unreachable';
ALTER TABLE users ALTER COLUMN user_id TYPE int;
SELECT sound FROM cachekit.entities;
SELECT t.check('users');
-- two names change places
ALTER TABLE users RENAME user_id TO id;
CREATE TABLE swapped (a int PRIMARY KEY, b int);
INSERT INTO swapped VALUES (1, 10), (10, 1);
SELECT cachekit.attach('swapped', columns => '{a}');
SELECT cachekit.fetch('swapped', 1);
BEGIN;
ALTER TABLE swapped RENAME a TO c;
ALTER TABLE swapped RENAME b TO a;
ALTER TABLE swapped RENAME c TO b;
COMMIT;
SELECT key, columns FROM cachekit.entities WHERE name = 'swapped';
SELECT t.check('swapped');
SELECT cachekit.fetch('swapped', 1);
-- a column of the document
ALTER TABLE swapped DROP COLUMN b;
SELECT cachekit.attach('swapped', key => '{a}', columns => '{a}');
ALTER TABLE swapped DROP COLUMN b;
SELECT t.check('swapped');
-- the same names elsewhere are no concern
CREATE TABLE unrelated (id int, name text);
ALTER TABLE unrelated RENAME id TO user_id;
ALTER TABLE unrelated DROP COLUMN name;
SELECT name, key, columns FROM cachekit.entities ORDER BY name;

-- names and schemas
ALTER TABLE users RENAME TO customers;
SELECT name, relation FROM cachekit.entities WHERE name = 'users';
SELECT cachekit.key('customers', 1);
SELECT t.check('customers');
UPDATE customers SET name = 'customer';
SELECT t.check('customers');
CREATE SCHEMA s2;
ALTER TABLE customers SET SCHEMA s2;
SELECT t.check('s2.customers');
UPDATE s2.customers SET name = 'in s2';
SELECT t.check('s2.customers');
ALTER SCHEMA s2 RENAME TO s3;
SELECT t.check('s3.customers');
UPDATE s3.customers SET name = 'in s3';
SELECT t.check('s3.customers');
ALTER TABLE s3.customers SET SCHEMA s;
DROP SCHEMA s3;
ALTER TABLE customers RENAME TO users;
-- two tables change places
CREATE TABLE spare (id int PRIMARY KEY, name text, amount int, email text);
INSERT INTO spare VALUES (1, 'spare', 0, NULL);
SELECT t.check('users');
BEGIN;
ALTER TABLE users RENAME TO old_users;
ALTER TABLE spare RENAME TO users;
COMMIT;
SELECT cachekit.fetch('users', 1);
SELECT t.check('old_users');
BEGIN;
ALTER TABLE users RENAME TO spare;
ALTER TABLE old_users RENAME TO users;
COMMIT;
SELECT t.check('users');

-- triggers and constraints renamed, indexes gone
ALTER TRIGGER cachekit_row_users ON users RENAME TO something;
SELECT sound FROM cachekit.entities WHERE name = 'users';
UPDATE users SET name = 'by another trigger';
SELECT t.check('users');
ALTER TABLE users DROP CONSTRAINT users_pkey;
UPDATE users SET name = 'without index' WHERE id = 1;
SELECT t.check('users');
INSERT INTO users VALUES (1, 'second', 0);
SELECT cachekit.fetch('users', 1);
DELETE FROM users WHERE name = 'second';
SELECT t.check('users');
ALTER TABLE users ADD PRIMARY KEY (id);
CREATE INDEX CONCURRENTLY users_name ON users (name);
DROP INDEX CONCURRENTLY users_name;
REINDEX TABLE CONCURRENTLY users;
VACUUM FULL users;
CLUSTER users USING users_pkey;
ANALYZE users;
SELECT t.check('users');
ALTER TABLE users REPLICA IDENTITY FULL;
ALTER TABLE users SET (fillfactor = 50);
SELECT t.check('users');
SELECT sound FROM cachekit.entities WHERE name = 'users';

-- owners
CREATE ROLE regress_cachekit_owner;
CREATE ROLE regress_cachekit_owner_2;
GRANT USAGE ON SCHEMA s TO regress_cachekit_owner, regress_cachekit_owner_2;
ALTER TABLE users OWNER TO regress_cachekit_owner;
SELECT t.check('users');
UPDATE users SET name = 'owned';
SELECT t.check('users');
REASSIGN OWNED BY regress_cachekit_owner TO regress_cachekit_owner_2;
SELECT t.check('users');
UPDATE users SET name = 'reassigned';
SELECT t.check('users');
ALTER TABLE users OWNER TO CURRENT_USER;

-- types
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE TYPE place AS (street text, city text);
CREATE DOMAIN grade AS int CHECK (VALUE < 10);
CREATE TABLE other_table (a int, b int);
CREATE TABLE typed (m mood PRIMARY KEY, p place, ps place[], g grade, o other_table, os other_table[]);
INSERT INTO typed VALUES ('ok', ('Main St', 'X'), ARRAY[('Side St', 'Y')::place], 5, (1, 2), ARRAY[(3, 4)::other_table]);
SELECT cachekit.attach('typed', negative_ttl => '1 hour');
SELECT t.check('typed');
ALTER TYPE mood RENAME VALUE 'ok' TO 'fine';
DELETE FROM t.known;	-- what was no label is no key
SELECT t.check('typed');
SELECT cachekit.key('typed', 'fine'), cachekit.fetch('typed', 'fine') ->> 'm' AS m;
SELECT cachekit.fetch('typed', 'ok');
UPDATE typed SET g = 6;
SELECT t.check('typed');
ALTER TYPE mood ADD VALUE 'happy';
SELECT cachekit.fetch('typed', 'happy');
INSERT INTO typed VALUES ('happy');
SELECT t.check('typed');
ALTER TYPE mood RENAME TO temper;
SELECT t.check('typed');
ALTER TYPE place ADD ATTRIBUTE zip text;
SELECT t.check('typed');
ALTER TYPE place RENAME ATTRIBUTE city TO town;
SELECT t.check('typed');
ALTER TYPE place DROP ATTRIBUTE zip;
SELECT t.check('typed');
ALTER TABLE other_table ADD COLUMN c int;
SELECT t.check('typed');
ALTER TABLE other_table RENAME b TO bb;
SELECT t.check('typed');
ALTER TABLE other_table DROP COLUMN a;
SELECT t.check('typed');
ALTER DOMAIN grade DROP CONSTRAINT grade_check;
ALTER TABLE typed ALTER COLUMN g TYPE text;
SELECT t.check('typed');
DROP TYPE place;
DROP TYPE place CASCADE;
SELECT t.check('typed');
DROP TYPE temper CASCADE;	-- the key's
SELECT t.check('typed');
-- a cast to json changes how a type looks in a document
CREATE TYPE shown AS (a int);
CREATE TABLE shows (id int PRIMARY KEY, v shown);
INSERT INTO shows VALUES (1, ROW(5));
SELECT cachekit.attach('shows');
SELECT t.check('shows');
CREATE FUNCTION shown_json(v shown) RETURNS json IMMUTABLE LANGUAGE sql AS $$ SELECT json_build_array(v.a) $$;
CREATE CAST (shown AS json) WITH FUNCTION shown_json(shown);
SELECT t.check('shows');
DROP CAST (shown AS json);
SELECT t.check('shows');
CREATE TYPE hue AS ENUM ('red');
CREATE TABLE hues (id int PRIMARY KEY, v hue);
INSERT INTO hues VALUES (1, 'red');
SELECT cachekit.attach('hues');
SELECT t.check('hues');
CREATE FUNCTION hue_json(v hue) RETURNS json IMMUTABLE LANGUAGE sql AS $$ SELECT '"a hue"'::json $$;
CREATE CAST (hue AS json) WITH FUNCTION hue_json(hue);
SELECT t.check('hues');
CREATE OR REPLACE FUNCTION hue_json(v hue) RETURNS json IMMUTABLE LANGUAGE sql AS $$ SELECT '"another hue"'::json $$;
SELECT t.check('hues');
DROP FUNCTION hue_json CASCADE;
SELECT t.check('hues');
-- names of other objects in a document
CREATE TABLE named (id int PRIMARY KEY, a_class regclass, a_type regtype, a_proc regproc, a_role regrole, a_schema regnamespace);
CREATE TABLE target (id int);
CREATE FUNCTION target_function() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE TYPE target_type AS ENUM ('x');
CREATE SCHEMA target_schema;
INSERT INTO named VALUES (1, 'target', 'target_type', 'target_function', 'regress_cachekit_owner', 'target_schema');
SELECT cachekit.attach('named');
-- the table as fetch reads it: nothing but pg_catalog is in the path
CREATE FUNCTION named_check() RETURNS text LANGUAGE sql SET search_path = pg_catalog AS $$
	SELECT CASE WHEN cachekit.fetch('s.named', 1) = to_jsonb(n) THEN 'right'
		ELSE format('WRONG: fetched %s, the table has %s', cachekit.fetch('s.named', 1), to_jsonb(n)) END
	FROM s.named AS n
$$;
SELECT named_check();
ALTER TABLE target RENAME TO target_2;
SELECT named_check();
ALTER TABLE target_2 SET SCHEMA target_schema;
SELECT named_check();
ALTER TYPE target_type RENAME TO target_type_2;
SELECT named_check();
ALTER FUNCTION target_function RENAME TO target_function_2;
SELECT named_check();
ALTER SCHEMA target_schema RENAME TO target_schema_2;
SELECT named_check();
ALTER ROLE regress_cachekit_owner RENAME TO regress_cachekit_owner_3;
SELECT named_check();
DROP FUNCTION target_function_2;
SELECT named_check() ~ '^right' AS right;
DROP SCHEMA target_schema_2 CASCADE;
SELECT named_check() ~ '^right' AS right;
DROP TABLE named;

-- what a table's end takes along
SELECT cachekit.slots_in_use() AS before \gset
CREATE TABLE gone (id int PRIMARY KEY, v int);
INSERT INTO gone VALUES (1, 1);
SELECT cachekit.attach('gone');
SELECT t.check('gone');
BEGIN;
DROP TABLE gone;
SELECT count(*) FROM cachekit.entities WHERE name = 'gone';
ROLLBACK;
SELECT t.check('gone');
SELECT count(*) FROM cachekit.entities WHERE name = 'gone';
DROP TABLE gone;
SELECT count(*) FROM cachekit.entities WHERE name = 'gone';
CREATE TABLE gone (id int PRIMARY KEY, v int);
INSERT INTO gone VALUES (1, 1001);
SELECT cachekit.fetch('gone', 1);
SELECT cachekit.attach('gone');
SELECT t.check('gone');
SELECT cachekit.detach('gone');
SELECT cachekit.slots_in_use() - :before AS slots;
-- with its schema, its type, its owner
CREATE SCHEMA s4;
CREATE TYPE s4.color AS ENUM ('red', 'green');
CREATE TABLE s4.colored (c s4.color PRIMARY KEY, v int);
CREATE TABLE s4.plain (id int PRIMARY KEY);
SELECT cachekit.attach('s4.colored'), cachekit.attach('s4.plain');
INSERT INTO s4.colored VALUES ('red', 1);
SELECT t.check('s4.colored');
SET client_min_messages = warning;
DROP SCHEMA s4 CASCADE;
RESET client_min_messages;
SELECT count(*) FROM cachekit.entities WHERE name IN ('colored', 'plain');
CREATE TABLE owned (id int PRIMARY KEY);
ALTER TABLE owned OWNER TO regress_cachekit_owner_2;
SELECT cachekit.attach('owned');
DROP OWNED BY regress_cachekit_owner_2;
SELECT count(*) FROM cachekit.entities WHERE name = 'owned';
SELECT cachekit.slots_in_use() - :before AS slots;
REVOKE USAGE ON SCHEMA s FROM regress_cachekit_owner_3, regress_cachekit_owner_2;
DROP ROLE regress_cachekit_owner_3, regress_cachekit_owner_2;

-- one is dropped, and one made in its place
SELECT t.check('users');
BEGIN;
DROP TABLE users;
CREATE TABLE users (id int PRIMARY KEY, name text);
INSERT INTO users VALUES (1, 'from scratch');
SELECT cachekit.attach('users');
COMMIT;
SELECT t.check('users');
SELECT cachekit.fetch('users', 1);

-- session without a search path, as in pg_dump
SELECT pg_catalog.set_config('search_path', '', false);
SELECT cachekit.fetch('s.users', 1);
UPDATE s.users SET name = 'qualified';
SELECT cachekit.fetch('s.users', 1);
SET search_path = s, public;
-- a schema in front of everything, with traps in it
CREATE SCHEMA traps;
CREATE FUNCTION traps.to_jsonb(anyelement) RETURNS jsonb LANGUAGE sql AS $$ SELECT '"trapped"'::jsonb $$;
CREATE FUNCTION traps.always(int, int) RETURNS boolean LANGUAGE sql AS $$ SELECT true $$;
CREATE OPERATOR traps.= (LEFTARG = int, RIGHTARG = int, FUNCTION = traps.always);
CREATE TABLE traps.users (id int PRIMARY KEY, name text);
SET search_path = traps, s, pg_catalog;
SELECT cachekit.flush('s.users');
SELECT cachekit.fetch('s.users', 1);
SELECT cachekit.fetch('s.users', 2);
SET search_path = s, public;
DROP SCHEMA traps CASCADE;
SELECT cachekit.fetch('users', 1);

\set ECHO none
\i :end
