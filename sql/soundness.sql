-- What keeps an entity from being cached: nothing stale, nothing of others, and a way back.
\set ECHO none
\getenv top PG_ABS_SRCDIR
\set begin :top '/sql/lib/begin.sql'
\set end :top '/sql/lib/end.sql'
\i :begin
\set ECHO all

CREATE TABLE users (id int PRIMARY KEY, name text);
INSERT INTO users VALUES (1, 'Ada'), (2, 'Bob');
SELECT cachekit.attach('users');
SELECT t.check('users');
CREATE VIEW triggers AS
SELECT tgfoid::regproc AS function, tgenabled AS enabled FROM pg_trigger
WHERE tgrelid = 'users'::regclass AND tgfoid IN ('cachekit.on_row_change'::regproc, 'cachekit.on_truncate'::regproc);

--
-- Disabled and enabled again, as pg_dump --disable-triggers does: ALWAYS returns
--
ALTER TABLE users DISABLE TRIGGER ALL;
SELECT name, sound FROM cachekit.entities;
UPDATE users SET name = 'unseen';
ALTER TABLE users ENABLE TRIGGER ALL;
SELECT name, sound FROM cachekit.entities;
SELECT * FROM triggers ORDER BY function::text;
SELECT t.check('users');
UPDATE users SET name = 'seen';
SELECT t.check('users');
SET session_replication_role = replica;
UPDATE users SET name = 'seen as a replica';
SELECT t.check('users');
RESET session_replication_role;
BEGIN;
ALTER TABLE users DISABLE TRIGGER USER;
UPDATE users SET name = 'unseen again';
ALTER TABLE users ENABLE TRIGGER USER;
COMMIT;
SELECT * FROM triggers ORDER BY function::text;
SELECT t.check('users');
UPDATE users SET name = 'seen again';
SELECT t.check('users');
SELECT * FROM cachekit.health();

--
-- Disabled: one warning, the table is read, health() says why and what to do
--
ALTER TABLE users DISABLE TRIGGER cachekit_row_users;
SELECT name, sound FROM cachekit.entities;
SELECT cachekit.stat_reset();
SELECT cachekit.fetch('users', 1);
SELECT cachekit.fetch('users', 1);
SELECT t.counted('users');
SELECT cachekit.fetch('users', 1, 'fresh');
SELECT cachekit.fetch('users', 1, 'bypass');
SELECT t.counted('users');
UPDATE users SET name = 'unseen, once more';
SELECT t.check('users');
SELECT * FROM cachekit.health();
-- nothing is said twice in a session, whatever else happens to the table
ANALYZE users;
SELECT cachekit.fetch('users', 1);
CREATE INDEX ON users (name);
SELECT cachekit.fetch('users', 1);
-- but in another one
\c -
SET search_path = s, public;
SELECT cachekit.fetch('users', 1);
SELECT cachekit.fetch('users', 1);
-- as it was: by ENABLE, which is repaired to ALWAYS, or by attach()
ALTER TABLE users ENABLE TRIGGER cachekit_row_users;
SELECT * FROM triggers ORDER BY function::text;
SELECT name, sound FROM cachekit.entities;
SELECT t.check('users');
UPDATE users SET name = 'seen, once more';
SELECT t.check('users');
ALTER TABLE users DISABLE TRIGGER cachekit_row_users;
UPDATE users SET name = 'unseen before attach';
SELECT cachekit.attach('users');
SELECT * FROM triggers ORDER BY function::text;
SELECT name, sound FROM cachekit.entities;
SELECT t.check('users');
UPDATE users SET name = 'seen after attach';
SELECT t.check('users');
-- only for replicas, or only for others
ALTER TABLE users ENABLE REPLICA TRIGGER cachekit_row_users;
SELECT name, sound FROM cachekit.entities;
UPDATE users SET name = 'not a replica';
SET client_min_messages = error;
SELECT t.check('users');
RESET client_min_messages;
SELECT cachekit.attach('users');
SELECT t.check('users');
-- dropped
DROP TRIGGER cachekit_truncate_users ON users;
SELECT name, sound FROM cachekit.entities;
SELECT cachekit.fetch('users', 1) ->> 'name' AS name;
TRUNCATE users;
INSERT INTO users VALUES (1, 'after TRUNCATE'), (2, 'after TRUNCATE');
SET client_min_messages = error;
SELECT t.check('users');
RESET client_min_messages;
SELECT problem, hint FROM cachekit.health();
SELECT cachekit.attach('users');
SELECT t.check('users');
DROP TRIGGER cachekit_row_users ON users;
SELECT cachekit.fetch('users', 1) ->> 'name' AS name;
SELECT problem, hint FROM cachekit.health();
-- replaced by one that fires less often
CREATE TRIGGER cachekit_row_users AFTER INSERT OR UPDATE OR DELETE ON users FOR EACH ROW
WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION cachekit.on_row_change('users');
ALTER TABLE users ENABLE ALWAYS TRIGGER cachekit_row_users;
SELECT name, sound FROM cachekit.entities;
DROP TRIGGER cachekit_row_users ON users;
CREATE TRIGGER cachekit_row_users AFTER INSERT OR UPDATE OF name OR DELETE ON users FOR EACH ROW EXECUTE FUNCTION cachekit.on_row_change('users');
ALTER TABLE users ENABLE ALWAYS TRIGGER cachekit_row_users;
SELECT name, sound FROM cachekit.entities;
DROP TRIGGER cachekit_row_users ON users;
CREATE TRIGGER cachekit_row_users AFTER INSERT OR UPDATE ON users FOR EACH ROW EXECUTE FUNCTION cachekit.on_row_change('users');
ALTER TABLE users ENABLE ALWAYS TRIGGER cachekit_row_users;
SELECT name, sound FROM cachekit.entities;
DROP TRIGGER cachekit_row_users ON users;
CREATE CONSTRAINT TRIGGER cachekit_row_users AFTER INSERT OR UPDATE OR DELETE ON users DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION cachekit.on_row_change('users');
ALTER TABLE users ENABLE ALWAYS TRIGGER cachekit_row_users;
-- a deferred one comes too late for what its own transaction fetches, but not for others
BEGIN;
UPDATE users SET name = 'deferred';
SELECT cachekit.fetch('users', 1) ->> 'name' AS name;
COMMIT;
SELECT cachekit.fetch('users', 1) ->> 'name' AS name;
DROP TRIGGER cachekit_row_users ON users;
SELECT cachekit.attach('users');
SELECT name, sound FROM cachekit.entities;
SELECT t.check('users');

--
-- Trigger functions that are called otherwise
--
SELECT cachekit.on_row_change();
SELECT cachekit.on_truncate();
SELECT cachekit.on_ddl_end();
CREATE TABLE stranger (id int PRIMARY KEY);
CREATE TRIGGER a AFTER INSERT ON stranger FOR EACH STATEMENT EXECUTE FUNCTION cachekit.on_row_change('users');
INSERT INTO stranger VALUES (1);
DROP TRIGGER a ON stranger;
CREATE TRIGGER a BEFORE INSERT ON stranger FOR EACH ROW EXECUTE FUNCTION cachekit.on_row_change('users');
INSERT INTO stranger VALUES (1);
DROP TRIGGER a ON stranger;
CREATE TRIGGER a AFTER INSERT ON stranger FOR EACH ROW EXECUTE FUNCTION cachekit.on_row_change();
INSERT INTO stranger VALUES (1);
DROP TRIGGER a ON stranger;
CREATE TRIGGER a AFTER INSERT ON stranger FOR EACH ROW EXECUTE FUNCTION cachekit.on_truncate('users');
INSERT INTO stranger VALUES (1);
DROP TRIGGER a ON stranger;
-- on a relation that the entity is not made of: nothing
CREATE TRIGGER a AFTER INSERT ON stranger FOR EACH ROW EXECUTE FUNCTION cachekit.on_row_change('users');
CREATE TRIGGER b AFTER TRUNCATE ON stranger FOR EACH STATEMENT EXECUTE FUNCTION cachekit.on_truncate('users');
CREATE TRIGGER c AFTER INSERT ON stranger FOR EACH ROW EXECUTE FUNCTION cachekit.on_row_change('nothing');
CREATE TRIGGER d AFTER TRUNCATE ON stranger FOR EACH STATEMENT EXECUTE FUNCTION cachekit.on_truncate('nothing');
SELECT t.check('users');
SELECT cachekit.stat_reset();
INSERT INTO stranger VALUES (1), (2);
TRUNCATE stranger;
SELECT t.check('users');
SELECT t.counted('users');
DROP TABLE stranger;

--
-- Row security after attach: everybody sees his own rows, also of what was cached before
--
CREATE ROLE regress_cachekit_ada;
CREATE ROLE regress_cachekit_bob;
GRANT USAGE ON SCHEMA s, t TO PUBLIC;
CREATE TABLE notes (id int PRIMARY KEY, owner name, note text);
INSERT INTO notes VALUES (1, 'regress_cachekit_ada', 'of Ada'), (2, 'regress_cachekit_bob', 'of Bob');
GRANT SELECT ON notes TO PUBLIC;
SELECT cachekit.attach('notes', negative_ttl => '1 hour');
SELECT t.check('notes');
SET ROLE regress_cachekit_ada;
SELECT cachekit.fetch('notes', 1) ->> 'note' AS note_1, cachekit.fetch('notes', 2) ->> 'note' AS note_2;
RESET ROLE;
CREATE POLICY own ON notes USING (owner = current_user);
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
SELECT name, sound FROM cachekit.entities ORDER BY name;
SELECT problem, hint FROM cachekit.health();
SET ROLE regress_cachekit_ada;
SELECT cachekit.fetch('notes', 1) ->> 'note' AS note_1, cachekit.fetch('notes', 2) ->> 'note' AS note_2;
SELECT cachekit.fetch('notes', 2, 'fresh'), cachekit.fetch('notes', 2, 'bypass'), cachekit.fetch('notes', 2, 'invalidate'),
	cachekit.fetch_row(NULL::notes, 2);
SELECT * FROM cachekit.fetch_many('notes', ARRAY[1, 2]);
SELECT present FROM cachekit.inspect('notes', 2);
SET ROLE regress_cachekit_bob;
SELECT cachekit.fetch('notes', 1) ->> 'note' AS note_1, cachekit.fetch('notes', 2) ->> 'note' AS note_2;
SET row_security = off;
SELECT cachekit.fetch('notes', 1);
RESET row_security;
RESET ROLE;
SELECT cachekit.fetch('notes', 1) ->> 'note' AS note_1, cachekit.fetch('notes', 2) ->> 'note' AS note_2;
SELECT cachekit.attach('notes', ttl => '1 hour');
-- its owner, too, where it is forced
ALTER TABLE notes OWNER TO regress_cachekit_ada;
ALTER TABLE notes FORCE ROW LEVEL SECURITY;
SET ROLE regress_cachekit_ada;
SELECT cachekit.fetch('notes', 1) ->> 'note' AS note_1, cachekit.fetch('notes', 2) ->> 'note' AS note_2;
RESET ROLE;
ALTER TABLE notes DISABLE ROW LEVEL SECURITY;
SELECT name, sound FROM cachekit.entities ORDER BY name;
SET ROLE regress_cachekit_bob;
SELECT cachekit.fetch('notes', 1) ->> 'note' AS note_1, cachekit.fetch('notes', 2) ->> 'note' AS note_2;
RESET ROLE;
SELECT t.check('notes');
-- in the transaction that enables it
BEGIN;
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
SET LOCAL ROLE regress_cachekit_bob;
SELECT cachekit.fetch('notes', 1) ->> 'note' AS note_1, cachekit.fetch('notes', 2) ->> 'note' AS note_2;
ROLLBACK;
SET ROLE regress_cachekit_bob;
SELECT cachekit.fetch('notes', 1) ->> 'note' AS note_1, cachekit.fetch('notes', 2) ->> 'note' AS note_2;
RESET ROLE;
-- with some columns only
SELECT cachekit.attach('notes', columns => '{note}');
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
REVOKE SELECT ON notes FROM PUBLIC;
GRANT SELECT (id, note) ON notes TO regress_cachekit_bob;
SET ROLE regress_cachekit_bob;
SELECT cachekit.fetch('notes', 1), cachekit.fetch('notes', 2);
RESET ROLE;
DROP TABLE notes;

--
-- Unlogged after attach, and inheritance
--
ALTER TABLE users SET UNLOGGED;
SELECT name, sound FROM cachekit.entities;
SELECT t.check('users');
UPDATE users SET name = 'unlogged';
SELECT t.check('users');
SELECT problem, hint FROM cachekit.health();
SELECT cachekit.attach('users');
ALTER TABLE users SET LOGGED;
SELECT name, sound FROM cachekit.entities;
SELECT t.check('users');
CREATE TABLE users_child () INHERITS (users);
SELECT name, sound FROM cachekit.entities;
SELECT problem, hint FROM cachekit.health();
INSERT INTO users_child VALUES (3, 'of the child');
SELECT cachekit.fetch('users', 3);
UPDATE users_child SET name = 'changed in the child';
SELECT cachekit.fetch('users', 3);
SELECT cachekit.attach('users');
DROP TABLE users_child;
SELECT name, sound FROM cachekit.entities;
SELECT cachekit.fetch('users', 3);
SELECT t.check('users');
CREATE TABLE users_child (id int NOT NULL, name text);
INSERT INTO users_child VALUES (3, 'of the child');
ALTER TABLE users_child INHERIT users;
SELECT name, sound FROM cachekit.entities;
SELECT cachekit.fetch('users', 3);
ALTER TABLE users_child NO INHERIT users;
SELECT name, sound FROM cachekit.entities;
SELECT cachekit.fetch('users', 3);
SELECT t.check('users');
DROP TABLE users_child;

--
-- What health() says, for whom a hint would be wrong
--
CREATE TABLE my_triggers (id int PRIMARY KEY);
SELECT cachekit.attach('my_triggers');
ALTER TABLE my_triggers ENABLE ROW LEVEL SECURITY;
SELECT severity, subject, problem, hint FROM cachekit.health();
DROP TABLE my_triggers;
-- event triggers
ALTER EVENT TRIGGER cachekit_ddl DISABLE;
SELECT * FROM cachekit.health();
ALTER EVENT TRIGGER cachekit_ddl ENABLE ALWAYS;
SELECT * FROM cachekit.health();
-- why there is no document at all
SELECT cachekit.entity_problem('users');
CREATE TABLE not_attached (id int PRIMARY KEY);
SELECT cachekit.entity_problem('not_attached') LIKE '%not exist%' AS denies_that_it_exists;
SELECT cachekit.entity_problem(4294967295::oid::regclass);

REVOKE USAGE ON SCHEMA s, t FROM PUBLIC;
DROP ROLE regress_cachekit_ada, regress_cachekit_bob;

\set ECHO none
\i :end
