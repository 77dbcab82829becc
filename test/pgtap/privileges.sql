-- Who may do what: with what is cached as with what is not.
\set QUIET on
\pset format unaligned
\pset tuples_only on
SELECT no_plan();

CREATE ROLE regress_owner;
CREATE ROLE regress_member IN ROLE regress_owner;
CREATE ROLE regress_reader;
CREATE ROLE regress_all_columns;		-- SELECT on each column
CREATE ROLE regress_some_columns;		-- SELECT on id and name
CREATE ROLE regress_name_only;			-- SELECT on name, but not on the key
CREATE ROLE regress_writer;				-- everything but SELECT
CREATE ROLE regress_outside;			-- SELECT, but no USAGE of the schema
CREATE ROLE regress_stranger;			-- USAGE only
CREATE ROLE regress_reads_all IN ROLE pg_read_all_data;
CREATE ROLE regress_monitor IN ROLE pg_monitor;
CREATE ROLE regress_superuser SUPERUSER;

CREATE SCHEMA app AUTHORIZATION regress_owner;
SET ROLE regress_owner;
CREATE TABLE app.users (id int PRIMARY KEY, name text, secret text);
INSERT INTO app.users VALUES (1, 'Ada', 'x'), (2, 'Bob', 'y');
CREATE TABLE app.names (id int PRIMARY KEY, name text, secret text);
INSERT INTO app.names VALUES (1, 'Ada', 'x'), (2, 'Bob', 'y');
GRANT USAGE ON SCHEMA app TO regress_reader, regress_all_columns, regress_some_columns, regress_name_only, regress_writer, regress_stranger;
GRANT SELECT ON app.users, app.names TO regress_reader, regress_outside;
GRANT SELECT (id, name, secret) ON app.users TO regress_all_columns;
GRANT SELECT (id, name, secret) ON app.names TO regress_all_columns;
GRANT SELECT (id, name) ON app.users TO regress_some_columns;
GRANT SELECT (id, name) ON app.names TO regress_some_columns;
GRANT SELECT (name) ON app.users TO regress_name_only;
GRANT SELECT (name) ON app.names TO regress_name_only;
GRANT INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER ON app.users, app.names TO regress_writer;
SELECT lives_ok($$ SELECT cachekit.attach('app.users') $$, 'an owner who is no superuser attaches');
SELECT lives_ok($$ SELECT cachekit.attach('app.names', columns => '{name}') $$, 'and some columns');
RESET ROLE;

-- Runs a query as a role, and passes when it succeeds or fails as expected.
CREATE FUNCTION may(who text, query text, allowed boolean, what text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	outcome text := 'allowed';
BEGIN
	PERFORM set_config('role', who, false);
	BEGIN
		EXECUTE query;
	EXCEPTION WHEN OTHERS THEN
		outcome := SQLSTATE;
	END;
	PERFORM set_config('role', 'none', false);
	RETURN is(outcome, CASE WHEN allowed THEN 'allowed' ELSE '42501' END,
		format('%s %s %s', who, CASE WHEN allowed THEN 'may' ELSE 'may not' END, what));
END
$$;

CREATE TEMP TABLE readers (who text, whole boolean, columns boolean);
INSERT INTO readers VALUES
	('regress_owner', true, true), ('regress_member', true, true), ('regress_reader', true, true), ('regress_all_columns', true, true),
	('regress_some_columns', false, true), ('regress_name_only', false, false), ('regress_writer', false, false),
	('regress_outside', false, false), ('regress_stranger', false, false), ('regress_reads_all', true, true),
	('regress_monitor', false, false), ('regress_superuser', true, true);

--
-- What needs SELECT: the same with a document that is cached and with one that is not
--
CREATE TEMP TABLE reads (what text, query text);
INSERT INTO reads VALUES
	('fetch', $$ SELECT cachekit.fetch(%1$L, 1) $$),
	('fetch by text', $$ SELECT cachekit.fetch(%1$L, '1'::text) $$),
	('fetch what is not there', $$ SELECT cachekit.fetch(%1$L, 100) $$),
	('fetch by "fresh"', $$ SELECT cachekit.fetch(%1$L, 1, 'fresh') $$),
	('fetch by "bypass"', $$ SELECT cachekit.fetch(%1$L, 1, 'bypass') $$),
	('fetch by "invalidate"', $$ SELECT cachekit.fetch(%1$L, 1, 'invalidate') $$),
	('fetch a row', $$ SELECT cachekit.fetch_row(NULL::%1$s, 1) $$),
	('fetch many', $$ SELECT * FROM cachekit.fetch_many(%1$L, ARRAY[1, 2]) $$),
	('fetch many of one moment', $$ SELECT * FROM cachekit.fetch_many(%1$L, ARRAY[1, 2], consistent => true) $$),
	('fetch many by text', $$ SELECT * FROM cachekit.fetch_many(%1$L, '{1,2}') $$),
	('inspect', $$ SELECT * FROM cachekit.inspect(%1$L, 1) $$),
	('invalidate', $$ SELECT cachekit.invalidate(%1$L, 1) $$),
	('invalidate by text', $$ SELECT cachekit.invalidate(%1$L, '1'::text) $$);
SELECT cachekit.flush('app.users'), cachekit.flush('app.names') \g /dev/null
SELECT may(who, format(query, 'app.users'), whole, what || ' (all columns, not cached)') FROM readers, reads ORDER BY what, who;
SELECT may(who, format(query, 'app.names'), columns, what || ' (some columns, not cached)') FROM readers, reads ORDER BY what, who;
SELECT cachekit.fetch('app.users', 1), cachekit.fetch('app.names', 1) \g /dev/null
SELECT is(cachekit.fetch('app.users', 1, 'fresh') ->> 'name', 'Ada', 'the document is cached now');
SELECT may(who, format(query, 'app.users'), whole, what || ' (all columns, cached)') FROM readers, reads WHERE query !~ 'invalidate' ORDER BY what, who;
SELECT may(who, format(query, 'app.names'), columns, what || ' (some columns, cached)') FROM readers, reads WHERE query !~ 'invalidate' ORDER BY what, who;
SET cachekit.enabled = off;
SELECT may(who, format(query, 'app.users'), whole, what || ' (all columns, cache off)') FROM readers, reads ORDER BY what, who;
RESET cachekit.enabled;

-- the messages are those of PostgreSQL
SET ROLE regress_stranger;
SELECT throws_ok($$ SELECT cachekit.fetch('app.users', 1) $$, '42501', 'permission denied for table users');
SET ROLE regress_outside;
SELECT throws_ok($$ SELECT cachekit.fetch('app.users'::regclass, 1) $$, '42501', 'permission denied for schema app');
SET ROLE regress_stranger;
SELECT throws_ok($$ SELECT cachekit.attach('app.users') $$, '42501', 'must be owner of table users');
SELECT throws_ok($$ SELECT cachekit.flush('app.users') $$, '42501', 'must be owner of table users');
RESET ROLE;

-- revoked privileges count at once, also for what is cached; granted ones, too
SELECT cachekit.fetch('app.users', 1) \g /dev/null
SELECT may('regress_reader', $$ SELECT cachekit.fetch('app.users', 1) $$, true, 'fetch before REVOKE');
REVOKE SELECT ON app.users FROM regress_reader;
SELECT may('regress_reader', $$ SELECT cachekit.fetch('app.users', 1) $$, false, 'fetch after REVOKE');
GRANT SELECT ON app.users TO PUBLIC;
SELECT may('regress_reader', $$ SELECT cachekit.fetch('app.users', 1) $$, true, 'fetch after GRANT TO PUBLIC');
SELECT may('regress_outside', $$ SELECT cachekit.fetch('app.users', 1) $$, false, 'fetch without USAGE all the same');
REVOKE SELECT ON app.users FROM PUBLIC;
SELECT may('regress_reader', $$ SELECT cachekit.fetch('app.users', 1) $$, false, 'fetch after REVOKE FROM PUBLIC');
GRANT regress_owner TO regress_reader;
SELECT may('regress_reader', $$ SELECT cachekit.fetch('app.users', 1) $$, true, 'fetch as a member of the owner');
REVOKE regress_owner FROM regress_reader;
SELECT may('regress_reader', $$ SELECT cachekit.fetch('app.users', 1) $$, false, 'fetch as a member no more');
GRANT SELECT ON app.users TO regress_reader;
REVOKE USAGE ON SCHEMA app FROM regress_reader;
SELECT may('regress_reader', $$ SELECT cachekit.fetch('app.users', 1) $$, false, 'fetch after REVOKE USAGE');
GRANT USAGE ON SCHEMA app TO regress_reader;
SELECT may('regress_reader', $$ SELECT cachekit.fetch('app.users', 1) $$, true, 'fetch after GRANT USAGE');
REVOKE SELECT (secret) ON app.users FROM regress_all_columns;
SELECT may('regress_all_columns', $$ SELECT cachekit.fetch('app.users', 1) $$, false, 'fetch with one column less');
ALTER TABLE app.users ADD COLUMN more int;
GRANT SELECT (secret) ON app.users TO regress_all_columns;
SELECT may('regress_all_columns', $$ SELECT cachekit.fetch('app.users', 1) $$, false, 'fetch with a new column');
ALTER TABLE app.users DROP COLUMN more;
SELECT may('regress_all_columns', $$ SELECT cachekit.fetch('app.users', 1) $$, true, 'fetch when it is gone');
-- through a function of one who may
CREATE FUNCTION app.one(k int) RETURNS jsonb LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS $$ SELECT cachekit.fetch('app.users', k) $$;
ALTER FUNCTION app.one OWNER TO regress_owner;
SELECT may('regress_stranger', $$ SELECT app.one(1) $$, true, 'fetch through a function of the owner');
ALTER FUNCTION app.one OWNER TO regress_writer;
SELECT may('regress_superuser', $$ SELECT app.one(1) $$, false, 'fetch through a function of one who may not');
DROP FUNCTION app.one;

-- an answer tells nothing to those who may not ask: not even whether there is such a row
SET ROLE regress_stranger;
SELECT throws_ok(format('SELECT cachekit.fetch(''app.users'', %s)', k), '42501', 'permission denied for table users', 'one message for key ' || k)
FROM unnest('{1,100}'::int[]) AS k;
RESET ROLE;

--
-- What needs ownership
--
CREATE TEMP TABLE owns (what text, query text);
INSERT INTO owns VALUES
	('attach again', $$ SELECT cachekit.attach('app.users', ttl => '1 hour') $$),
	('attach with other columns', $$ SELECT cachekit.attach('app.users', columns => '{}') $$),
	('flush', $$ SELECT cachekit.flush('app.users') $$),
	('detach and attach', $$ SELECT cachekit.detach('app.users'); SELECT cachekit.attach('app.users') $$);
SELECT may(who, query, who IN ('regress_owner', 'regress_member', 'regress_superuser'), what) FROM readers, owns ORDER BY what, who;
-- flush() of all flushes what is one's own, and is no error for others
SELECT cachekit.fetch('app.users', 1) \g /dev/null
SELECT may('regress_stranger', $$ SELECT cachekit.flush() $$, true, 'flush all of nothing');
SELECT ok(cachekit.fetch('app.users', 1, 'fresh') IS NOT NULL, 'which leaves what is cached');
SELECT may('regress_member', $$ SELECT cachekit.flush() $$, true, 'flush all of the owner''s');
SELECT ok(cachekit.fetch('app.users', 1, 'fresh') IS NULL, 'which is cached no more');

--
-- What everybody may do, and what only some
--
SELECT may(who, $$ SELECT cachekit.key('app.users', 1) $$, true, 'ask for a cache key')
FROM readers WHERE who IN ('regress_owner', 'regress_reader', 'regress_stranger', 'regress_superuser') ORDER BY who;
SELECT may(who, $$ SELECT * FROM cachekit.entities $$, true, 'read entities') FROM readers ORDER BY who;
SELECT may(who, $$ SELECT * FROM cachekit.stat_entities $$, true, 'read stat_entities') FROM readers ORDER BY who;
SELECT may(who, $$ SELECT cachekit.stat_reset() $$, who = 'regress_superuser', 'reset the statistics') FROM readers ORDER BY who;
SELECT may(who, $$ SELECT * FROM cachekit.health() $$, who IN ('regress_monitor', 'regress_superuser'), 'read health()') FROM readers ORDER BY who;
SELECT may(who, $$ SELECT * FROM cachekit.entity $$, who IN ('regress_superuser', 'regress_reads_all'), 'read the catalog') FROM readers ORDER BY who;
SELECT may(who, $$ UPDATE cachekit.entity SET name = 'x' $$, false, 'write the catalog') FROM readers WHERE who <> 'regress_superuser' ORDER BY who;
SELECT may(who, $$ DELETE FROM cachekit.entity $$, false, 'delete from the catalog') FROM readers WHERE who <> 'regress_superuser' ORDER BY who;
SELECT may(who, $$ CREATE TABLE cachekit.x (y int) $$, false, 'create in the schema') FROM readers WHERE who <> 'regress_superuser' ORDER BY who;
SELECT may(who, $$ SET cachekit.enabled = on $$, true, 'switch the caches off for himself') FROM readers ORDER BY who;
SELECT may(who, $$ SET cachekit.max_value_size = '1MB' $$, who = 'regress_superuser', 'set max_value_size') FROM readers ORDER BY who;
SELECT may(who, $$ SET cachekit.default_ttl = '1h' $$, who = 'regress_superuser', 'set default_ttl') FROM readers ORDER BY who;
SELECT may(who, $$ SET cachekit.max_changed_keys = 1 $$, who = 'regress_superuser', 'set max_changed_keys') FROM readers ORDER BY who;
-- health() works for who may call it, whatever else he may do
ALTER TABLE app.names DISABLE TRIGGER ALL;
SET ROLE regress_monitor;
SELECT is((SELECT string_agg(subject, ',') FROM cachekit.health()), 'entity names', 'health() of one who monitors only');
SELECT is((SELECT string_agg(name, ',') FROM cachekit.entities WHERE NOT sound), 'names', 'and entities');
RESET ROLE;
ALTER TABLE app.names ENABLE TRIGGER ALL;

--
-- Writers need no privilege of cachekit's
--
SELECT cachekit.fetch('app.users', 1), cachekit.fetch('app.users', 2) \g /dev/null
SELECT may('regress_writer', $$ UPDATE app.users SET name = 'by a writer' $$, true, 'update');
SELECT is(cachekit.fetch('app.users', 1) ->> 'name', 'by a writer', 'and it is seen');
SELECT may('regress_writer', $$ INSERT INTO app.users VALUES (3, 'three', 'z') $$, true, 'insert');
SELECT is(cachekit.fetch('app.users', 3) ->> 'name', 'three', 'and it is seen');
SELECT may('regress_writer', $$ TRUNCATE app.users $$, true, 'truncate');
SELECT is(cachekit.fetch('app.users', 1), NULL, 'and it is seen');
SELECT may('regress_stranger', $$ UPDATE app.users SET name = 'x' $$, false, 'update without the privilege');
SELECT may('regress_stranger', $$ ALTER TABLE app.users DISABLE TRIGGER cachekit_row_users $$, false, 'disable a trigger');

--
-- Those who own nothing of it: their own tables, partitions and triggers
--
CREATE SCHEMA other AUTHORIZATION regress_stranger;
SELECT may('regress_stranger', $$ CREATE TABLE other.t (id int PRIMARY KEY, v int) $$, true, 'create a table');
SELECT may('regress_stranger', $$ ALTER TABLE other.t ADD COLUMN w int $$, true, 'alter it');
SELECT may('regress_stranger', $$ SELECT cachekit.attach('other.t') $$, true, 'attach it');
SELECT may('regress_stranger', $$ ALTER TABLE other.t RENAME v TO u; ALTER TABLE other.t DISABLE TRIGGER ALL; ALTER TABLE other.t ENABLE TRIGGER ALL $$, true, 'alter it when it is attached');
SELECT ok(sound, 'and it is sound') FROM cachekit.entities WHERE name = 't';
SELECT may('regress_stranger', $$ CREATE TRIGGER x AFTER INSERT ON other.t FOR EACH ROW EXECUTE FUNCTION cachekit.on_row_change('names') $$, true, 'make a trigger that names a stranger''s entity');
SELECT may('regress_stranger', $$ CREATE TRIGGER y AFTER TRUNCATE ON other.t EXECUTE FUNCTION cachekit.on_truncate('names') $$, true, 'and one for TRUNCATE');
SELECT cachekit.fetch('app.names', 1) \g /dev/null
SELECT may('regress_stranger', $$ INSERT INTO other.t VALUES (1, 1) $$, true, 'fire it');
SELECT may('regress_stranger', $$ TRUNCATE other.t $$, true, 'fire the other');
SELECT ok(cachekit.fetch('app.names', 1, 'fresh') IS NOT NULL, 'which flushes nothing of the other''s');
SELECT may('regress_stranger', $$ DROP TABLE other.t $$, true, 'drop it');
SELECT is_empty($$ SELECT FROM cachekit.entities WHERE name = 't' $$, 'and the entity is gone');
SELECT may('regress_stranger', $$ CREATE TABLE other.t (id int PRIMARY KEY) $$, true, 'take a name');
SELECT may('regress_stranger', $$ SELECT cachekit.attach('other.t', name => 'of a stranger') $$, true, 'attach under it');
SET ROLE regress_stranger;
SELECT throws_ok($$ SELECT cachekit.attach('other.t', name => 'users') $$, '42710', NULL, 'but not under a name that is taken');
RESET ROLE;

-- a partitioned table of an owner, and a partition that belongs to somebody else
SET ROLE regress_owner;
CREATE TABLE app.parted (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
CREATE TABLE app.parted_1 PARTITION OF app.parted FOR VALUES FROM (1) TO (10);
SELECT lives_ok($$ SELECT cachekit.attach('app.parted') $$, 'an owner attaches a partitioned table');
SELECT lives_ok($$ CREATE TABLE app.parted_2 PARTITION OF app.parted FOR VALUES FROM (10) TO (20) $$, 'adds a partition');
CREATE TABLE app.parted_3 (v int, id int PRIMARY KEY);
SELECT lives_ok($$ ALTER TABLE app.parted ATTACH PARTITION app.parted_3 FOR VALUES FROM (20) TO (30) $$, 'and attaches one');
INSERT INTO app.parted VALUES (1, 1), (11, 1), (21, 1);
SELECT is((SELECT string_agg(value ->> 'v', ',') FROM cachekit.fetch_many('app.parted', '{1,11,21}')), '1,1,1', 'all are fetched');
RESET ROLE;
GRANT CREATE, USAGE ON SCHEMA app TO regress_stranger;
ALTER TABLE app.parted_2 OWNER TO regress_stranger;
SELECT may('regress_stranger', $$ UPDATE app.parted_2 SET v = 2 $$, true, 'update the partition that he owns');
SELECT is(cachekit.fetch('app.parted', 11) ->> 'v', '2', 'which is seen');
SELECT may('regress_stranger', $$ SELECT cachekit.fetch('app.parted', 11) $$, false, 'fetch from the table that he does not own');
SELECT may('regress_stranger', $$ ALTER TABLE app.parted_2 DISABLE TRIGGER ALL; ALTER TABLE app.parted_2 ENABLE TRIGGER ALL $$, true, 'disable and enable its triggers');
SELECT ok(sound, 'which stay what they must be') FROM cachekit.entities WHERE name = 'parted';
SELECT may('regress_stranger', $$ UPDATE app.parted_2 SET v = 3 $$, true, 'update it again');
SELECT is(cachekit.fetch('app.parted', 11) ->> 'v', '3', 'which is seen');
SELECT may('regress_stranger', $$ TRUNCATE app.parted_2 $$, true, 'truncate it');
SELECT is(cachekit.fetch('app.parted', 11), NULL, 'which is seen');
SELECT may('regress_owner', $$ SELECT cachekit.attach('app.parted', ttl => '1 hour') $$, true, 'attach again when a partition is another''s');
SELECT may('regress_owner', $$ CREATE TABLE app.parted_4 PARTITION OF app.parted FOR VALUES FROM (30) TO (40) $$, true, 'add a partition when one is another''s');
SELECT ok(sound, 'and it is sound') FROM cachekit.entities WHERE name = 'parted';
SELECT may('regress_owner', $$ ALTER TABLE app.parted RENAME v TO w $$, false, 'rename a column when a partition is another''s, as without cachekit');
SELECT may('regress_stranger', $$ SELECT cachekit.attach('app.parted') $$, false, 'attach the table above his partition');
SELECT may('regress_stranger', $$ SELECT cachekit.attach('app.parted_2', name => 'leaf') $$, true, 'attach his partition');
SELECT may('regress_owner', $$ SELECT cachekit.detach('app.parted_2') $$, false, 'detach a partition that is another''s');
SELECT may('regress_owner', $$ SELECT cachekit.detach('app.parted') $$, true, 'detach when a partition is another''s');
SELECT may('regress_stranger', $$ SELECT cachekit.detach('app.parted_2') $$, true, 'detach his partition');
SELECT is_empty($$ SELECT tgrelid::regclass, tgname FROM pg_trigger WHERE tgname ~ '^cachekit' AND tgrelid::regclass::text ~ 'parted' $$, 'and no trigger is left');

SET client_min_messages = warning;
DROP SCHEMA app, other CASCADE;
DROP OWNED BY regress_owner, regress_reader, regress_all_columns, regress_some_columns, regress_name_only, regress_writer, regress_outside, regress_stranger;
DROP ROLE regress_owner, regress_member, regress_reader, regress_all_columns, regress_some_columns, regress_name_only, regress_writer,
	regress_outside, regress_stranger, regress_reads_all, regress_monitor, regress_superuser;
SELECT * FROM finish();
