-- What can be attached, what cannot, and what attach() remembers.
\set ECHO none
\getenv top PG_ABS_SRCDIR
\set begin :top '/sql/lib/begin.sql'
\set end :top '/sql/lib/end.sql'
\i :begin
\set ECHO all

CREATE TABLE users (id int PRIMARY KEY, name text NOT NULL, email text UNIQUE);
INSERT INTO users VALUES (1, 'Ada', 'ada@example.org'), (2, 'Bob', NULL);

--
-- A table with a primary key
--
SELECT cachekit.attach('users');
SELECT * FROM cachekit.entities;
SELECT tgname, tgenabled, tgfoid::regproc, tgargs FROM pg_trigger
WHERE tgrelid = 'users'::regclass AND NOT tgisinternal ORDER BY tgname;
SELECT t.check('users');
SELECT t.counted('users');

-- again: nothing changes
SELECT cachekit.attach('users');
SELECT * FROM cachekit.entities;
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'users'::regclass AND NOT tgisinternal;
SELECT t.check('users');

-- what is not given keeps its setting
SELECT cachekit.attach('users', ttl => '10 minutes', negative_ttl => '5 seconds', local => false);
SELECT cachekit.attach('users', columns => '{name,id}');
SELECT cachekit.attach('users', name => 'people');
SELECT * FROM cachekit.entities;
SELECT cachekit.fetch('users', 1);
SELECT tgname, tgenabled, tgargs FROM pg_trigger
WHERE tgrelid = 'users'::regclass AND NOT tgisinternal ORDER BY tgname;
SELECT t.check('users');
UPDATE users SET name = 'Augusta' WHERE id = 1;
SELECT t.check('users');

-- and what is given changes, '{}' and 0 to nothing
SELECT cachekit.attach('users', ttl => 'infinity', negative_ttl => '0', local => true, columns => '{}');
SELECT * FROM cachekit.entities;
SELECT t.check('users');

-- other key columns: what was cached under the old ones is gone
SELECT cachekit.attach('users', key => '{email}');
SELECT key, sound FROM cachekit.entities;
SELECT cachekit.fetch('users', 'ada@example.org');
SELECT cachekit.fetch('users', '1');
UPDATE users SET email = 'bob@example.org' WHERE id = 2;
SELECT cachekit.fetch('users', 'bob@example.org');
SELECT cachekit.attach('users', key => '{id}');
SELECT t.check('users');

-- rolled back: as before
BEGIN;
SELECT cachekit.attach('users', columns => '{id}');
SELECT cachekit.fetch('users', 1);
ROLLBACK;
SELECT cachekit.fetch('users', 1);
SELECT columns FROM cachekit.entities;

-- detach
SELECT cachekit.detach('users');
SELECT * FROM cachekit.entities;
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'users'::regclass AND NOT tgisinternal;
SELECT cachekit.fetch('users', 1);
SELECT cachekit.detach('users');
SELECT cachekit.invalidate('users', 1);
SELECT cachekit.flush('users');
SELECT cachekit.key('users', 1);
SELECT * FROM cachekit.inspect('users', 1);
SELECT * FROM cachekit.fetch_many('users', ARRAY[1]);
SELECT cachekit.fetch_row(NULL::users, 1);

-- while it is not attached, changes are not seen: nothing may remain from before
SELECT cachekit.attach('users');
SELECT t.check('users');
SELECT cachekit.detach('users');
UPDATE users SET name = name || '!';
SELECT cachekit.attach('users');
SELECT t.check('users');
BEGIN;
SELECT cachekit.detach('users');
UPDATE users SET name = name || '?';
SELECT cachekit.attach('users');
COMMIT;
SELECT t.check('users');

-- attach in the transaction that makes the table
BEGIN;
CREATE TABLE fresh_table (id int PRIMARY KEY, v int);
SELECT cachekit.attach('fresh_table');
INSERT INTO fresh_table VALUES (1, 1);
SELECT cachekit.fetch('fresh_table', 1);
COMMIT;
SELECT t.check('fresh_table');
UPDATE fresh_table SET v = 2;
SELECT t.check('fresh_table');
BEGIN;
CREATE TABLE never (id int PRIMARY KEY);
SELECT cachekit.attach('never');
ROLLBACK;
SELECT name FROM cachekit.entities ORDER BY name;

--
-- Keys without a primary key
--
CREATE TABLE no_key (a int, b int, c text);
SELECT cachekit.attach('no_key');
SELECT cachekit.attach('no_key', key => '{a}');
INSERT INTO no_key VALUES (1, 1, 'one'), (2, 1, 'two'), (2, 2, 'two too');
SELECT cachekit.fetch('no_key', 1);
SELECT cachekit.fetch('no_key', 2);
CREATE UNIQUE INDEX ON no_key (b, a);
SELECT cachekit.attach('no_key', key => '{a,b}');
SELECT t.check('no_key');
-- a unique index on some of the rows makes nothing unique; one on part of the key does
CREATE TABLE some_unique (a int, b int UNIQUE);
CREATE UNIQUE INDEX ON some_unique (a) WHERE b > 0;
SELECT cachekit.attach('some_unique', key => '{a}');
SELECT cachekit.attach('some_unique', key => '{b,a}');
CREATE TABLE included (id int, extra text, PRIMARY KEY (id) INCLUDE (extra));
SELECT cachekit.attach('included');
SELECT key FROM cachekit.entities WHERE name = 'included';
CREATE TABLE deferrable_key (id int PRIMARY KEY DEFERRABLE, v int);
SELECT cachekit.attach('deferrable_key', key => '{id}');
INSERT INTO deferrable_key VALUES (1, 1), (2, 2);
SELECT t.check('deferrable_key');
UPDATE deferrable_key SET id = 3 - id;
SELECT t.check('deferrable_key');

--
-- What is refused
--
CREATE TEMP TABLE a_temp (id int PRIMARY KEY);
SELECT cachekit.attach('a_temp');
CREATE UNLOGGED TABLE an_unlogged (id int PRIMARY KEY);
SELECT cachekit.attach('an_unlogged');
CREATE FOREIGN DATA WRAPPER a_wrapper;
CREATE SERVER a_server FOREIGN DATA WRAPPER a_wrapper;
CREATE FOREIGN TABLE a_foreign_table (id int) SERVER a_server;
SELECT cachekit.attach('a_foreign_table', key => '{id}');
CREATE VIEW a_view AS SELECT id, name FROM users;
SELECT cachekit.attach('a_view', key => '{id}');
CREATE MATERIALIZED VIEW a_matview AS SELECT id, name FROM users;
SELECT cachekit.attach('a_matview', key => '{id}');
CREATE SEQUENCE a_sequence;
SELECT cachekit.attach('a_sequence', key => '{last_value}');
SELECT cachekit.attach('users_pkey', key => '{id}');
CREATE TYPE a_composite AS (id int);
SELECT cachekit.attach('a_composite', key => '{id}');
CREATE TABLE a_parent (id int PRIMARY KEY);
CREATE TABLE a_child () INHERITS (a_parent);
SELECT cachekit.attach('a_parent');
SELECT cachekit.attach('a_child', key => '{id}');	-- it has no children
CREATE TABLE with_rls (id int PRIMARY KEY);
ALTER TABLE with_rls ENABLE ROW LEVEL SECURITY;
SELECT cachekit.attach('with_rls');
SELECT cachekit.attach('pg_class', key => '{oid}');
SELECT cachekit.attach('pg_catalog.pg_database', key => '{oid}');
SELECT cachekit.attach('information_schema.sql_features', key => '{feature_id}');
SELECT cachekit.attach('cachekit.entity');

-- also where only a partition is
CREATE TABLE parted (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE UNLOGGED TABLE parted_1 PARTITION OF parted FOR VALUES FROM (1) TO (10);
SELECT cachekit.attach('parted');
ALTER TABLE parted_1 SET LOGGED;
ALTER TABLE parted_1 ENABLE ROW LEVEL SECURITY;
SELECT cachekit.attach('parted');
ALTER TABLE parted_1 DISABLE ROW LEVEL SECURITY;
SELECT cachekit.attach('parted');
CREATE TABLE parted_bad (id int) PARTITION BY RANGE (id);
CREATE FOREIGN TABLE parted_bad_1 PARTITION OF parted_bad FOR VALUES FROM (1) TO (10) SERVER a_server;
SELECT cachekit.attach('parted_bad', key => '{id}');

-- arguments
SELECT cachekit.attach(NULL);
SELECT cachekit.attach('nothing');
SELECT cachekit.attach(4294967295::oid::regclass);
CREATE TABLE other (id int PRIMARY KEY, name text);
SELECT cachekit.attach('other', key => '{nothing}');
SELECT cachekit.attach('other', key => '{id,id}');
SELECT cachekit.attach('other', key => '{ctid}');
SELECT cachekit.attach('other', key => ARRAY['id', NULL]::name[]);
SELECT cachekit.attach('other', columns => '{nothing}');
SELECT cachekit.attach('other', columns => '{id,name,id}');
SELECT cachekit.attach('other', columns => '{xmin}');
SELECT cachekit.attach('other', columns => ARRAY[NULL]::name[]);
SELECT cachekit.attach('other', name => 'users');
SELECT cachekit.attach('other', name => 'cachekit');
SELECT cachekit.attach('other', name => '');
SELECT cachekit.attach('other', name => repeat('x', 120));
SELECT cachekit.attach('other', name => repeat('x', 121));
SELECT cachekit.attach('other', name => repeat('/', 40));
SELECT cachekit.attach('other', name => repeat('/', 41));
SELECT cachekit.detach('other');
SELECT cachekit.attach('other', ttl => '0');
SELECT cachekit.attach('other', ttl => '-1 second');
SELECT cachekit.attach('other', ttl => 'soon');
SELECT cachekit.attach('other', negative_ttl => '-1 hour');
SELECT cachekit.attach('other', on_change => 'rejoice');
SELECT cachekit.attach('other', on_change => '');
SELECT cachekit.attach('other', servers => '{nothing}');
SELECT cachekit.attach('other', servers => '{a_server}');
SELECT cachekit.attach('other', servers => '{a_server,a_server}');
SELECT cachekit.detach(NULL);
SELECT name FROM cachekit.entities WHERE name = 'other';

-- without key columns: an error that does not deny the primary key
DO $$
BEGIN
	PERFORM cachekit.attach('other', key => '{}');
EXCEPTION WHEN OTHERS THEN
	RAISE NOTICE 'denies the primary key: %', SQLERRM LIKE '%no primary key%';
END
$$;
-- a deferrable primary key has to be named
CREATE TABLE deferrable_2 (id int PRIMARY KEY DEFERRABLE);
SELECT cachekit.attach('deferrable_2');
SELECT cachekit.attach('deferrable_2', key => '{id}');

-- ttl takes an interval, too
SELECT cachekit.attach('other', ttl => interval '1 hour', negative_ttl => interval '1 minute');
SELECT name, ttl, negative_ttl FROM cachekit.entities WHERE name = 'other';
SELECT ttl > interval '59 minutes', ttl::interval FROM cachekit.entities WHERE name = 'other';
SELECT 'infinity'::cachekit.ttl, 'INFINITY'::cachekit.ttl, '1 day 2 hours'::cachekit.ttl;

-- the old name of a renamed table stays taken until it is given up
ALTER TABLE other RENAME TO another;
CREATE TABLE other (id int PRIMARY KEY);
SELECT cachekit.attach('other');
SELECT cachekit.attach('another', name => 'another');
SELECT cachekit.attach('other');
SELECT name, relation FROM cachekit.entities WHERE name ~ 'other' ORDER BY name;

-- two tables of one name
CREATE SCHEMA s2;
CREATE TABLE s2.users (id int PRIMARY KEY, name text);
INSERT INTO s2.users VALUES (1, 'another Ada');
SELECT cachekit.attach('s2.users');
SELECT cachekit.attach('s2.users', name => 's2.users');
SELECT cachekit.fetch('s2.users', 1);
SELECT cachekit.key('s2.users', 1), cachekit.key('users', 1);
DROP SCHEMA s2 CASCADE;
SELECT count(*) FROM cachekit.entities WHERE name = 's2.users';

-- only the owner
CREATE ROLE regress_cachekit_owner;
CREATE ROLE regress_cachekit_other;
GRANT ALL ON SCHEMA s TO regress_cachekit_owner, regress_cachekit_other;
CREATE TABLE owned (id int PRIMARY KEY, v text);
ALTER TABLE owned OWNER TO regress_cachekit_owner;
GRANT ALL ON owned TO regress_cachekit_other;
SET ROLE regress_cachekit_other;
SELECT cachekit.attach('owned');
SET ROLE regress_cachekit_owner;
SELECT cachekit.attach('owned');
SET ROLE regress_cachekit_other;
SELECT cachekit.attach('owned', ttl => '1 second');
SELECT cachekit.detach('owned');
SELECT cachekit.flush('owned');
INSERT INTO owned VALUES (1, 'one');
SELECT cachekit.fetch('owned', 1);
UPDATE owned SET v = 'uno';
SELECT cachekit.fetch('owned', 1);
RESET ROLE;
SELECT cachekit.fetch('owned', 1);
SET ROLE regress_cachekit_owner;
SELECT cachekit.flush('owned');
SELECT cachekit.detach('owned');
RESET ROLE;
DROP TABLE owned;
REVOKE ALL ON SCHEMA s FROM regress_cachekit_owner, regress_cachekit_other;
DROP ROLE regress_cachekit_owner, regress_cachekit_other;

DROP FOREIGN DATA WRAPPER a_wrapper CASCADE;
\set ECHO none
\i :end
