-- The extension itself: what it is made of, and that it goes and comes without a trace.
\set ECHO none
\getenv top PG_ABS_SRCDIR
\set begin :top '/sql/lib/begin.sql'
\set end :top '/sql/lib/end.sql'
\i :begin
\set ECHO all

-- everything has a description
SELECT p.oid::regprocedure FROM pg_proc AS p WHERE pronamespace = 'cachekit'::regnamespace AND obj_description(p.oid, 'pg_proc') IS NULL;
SELECT c.oid::regclass FROM pg_class AS c WHERE relnamespace = 'cachekit'::regnamespace AND relkind IN ('r', 'v') AND obj_description(c.oid, 'pg_class') IS NULL;
SELECT t.oid::regtype FROM pg_type AS t WHERE typnamespace = 'cachekit'::regnamespace AND typtype = 'b' AND typelem = 0 AND obj_description(t.oid, 'pg_type') IS NULL;
SELECT obj_description('cachekit'::regnamespace, 'pg_namespace') IS NOT NULL AS described;
-- every column of the statistics, too, but for the name
SELECT attname FROM pg_attribute
WHERE attrelid = 'cachekit.stat_entities'::regclass AND attnum > 0 AND col_description(attrelid, attnum) IS NULL;
-- all that it made belongs to it
SELECT p.oid::regprocedure FROM pg_proc AS p WHERE pronamespace = 'cachekit'::regnamespace
AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_proc'::regclass AND objid = p.oid AND deptype = 'e');
SELECT evtname, evtevent, evtenabled, evtfoid::regproc FROM pg_event_trigger ORDER BY evtname;
-- the settings of entities are dumped
SELECT unnest(extconfig)::regclass AS config, unnest(extcondition) AS condition FROM pg_extension WHERE extname = 'cachekit';
SELECT extrelocatable, extversion FROM pg_extension WHERE extname = 'cachekit';
DROP SCHEMA cachekit;
DROP SCHEMA cachekit CASCADE;
DROP EVENT TRIGGER cachekit_ddl;
DROP FUNCTION cachekit.on_row_change();

-- with nothing attached, it is in nobody's way
CREATE TABLE users (id int PRIMARY KEY, name text);
INSERT INTO users VALUES (1, 'Ada'), (2, 'Bob');
BEGIN;
CREATE FUNCTION something() RETURNS int LANGUAGE sql AS 'SELECT 1';
ALTER TABLE users ADD COLUMN more int;
PREPARE TRANSACTION 'regress_cachekit_ddl';
SELECT gid FROM pg_prepared_xacts;
COMMIT PREPARED 'regress_cachekit_ddl';

-- it goes without CASCADE, and the tables are as they were
SELECT cachekit.attach('users');
CREATE TABLE parted (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (1) TO (10);
INSERT INTO parted VALUES (1, 1);
SELECT cachekit.attach('parted');
SELECT t.check('users'), t.check('parted');
BEGIN;
DROP EXTENSION cachekit;
SELECT tgrelid::regclass, tgname FROM pg_trigger WHERE tgname ~ 'cachekit';
UPDATE users SET name = 'never';
ROLLBACK;
SELECT t.check('users'), t.check('parted');
UPDATE users SET name = 'still here';
SELECT t.check('users'), t.check('parted');
DROP EXTENSION cachekit;
SELECT tgrelid::regclass, tgname FROM pg_trigger WHERE tgname ~ 'cachekit';
SELECT * FROM pg_event_trigger WHERE evtname ~ 'cachekit';
SELECT nspname FROM pg_namespace WHERE nspname = 'cachekit';
UPDATE users SET name = 'unseen' WHERE id = 1;
DELETE FROM users WHERE id = 2;
UPDATE parted SET v = 2;
ALTER TABLE parted RENAME v TO w;
ALTER TABLE parted DROP COLUMN w;
DROP TABLE parted_1;
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (1) TO (10);
-- the settings are there as long as the library is
SHOW cachekit.enabled;

-- and comes again: nothing from before is attached, nothing cached
SET search_path = public, s;
CREATE EXTENSION cachekit;
SELECT * FROM cachekit.entities;
SELECT cachekit.fetch('users', 1);
SELECT cachekit.attach('users'), cachekit.attach('parted');
SELECT cachekit.fetch('users', 1, 'fresh'), cachekit.fetch('users', 2, 'fresh'), cachekit.fetch('parted', 1, 'fresh');
SELECT t.check('users'), t.check('parted');
UPDATE users SET name = 'seen';
SELECT t.check('users'), t.check('parted');
-- all in one transaction
BEGIN;
DROP EXTENSION cachekit;
UPDATE users SET name = 'in between';
CREATE EXTENSION cachekit;
SELECT cachekit.attach('users'), cachekit.attach('parted');
SELECT cachekit.fetch('users', 1);
COMMIT;
SELECT t.check('users'), t.check('parted');
-- a session that knows the old one
BEGIN;
DROP EXTENSION cachekit CASCADE;
COMMIT;
CREATE EXTENSION cachekit;
SELECT cachekit.attach('users', name => 'people');
UPDATE users SET name = 'anew';
SELECT t.check('users');
SELECT name, relation, sound FROM cachekit.entities;

-- only a superuser makes it, only its owner alters it
CREATE ROLE regress_cachekit_user;
SET ROLE regress_cachekit_user;
DROP EXTENSION cachekit;
RESET ROLE;
DROP EXTENSION cachekit;
SET ROLE regress_cachekit_user;
CREATE EXTENSION cachekit;
RESET ROLE;
DROP ROLE regress_cachekit_user;
-- it belongs to no schema that happens to be the first in the path
CREATE SCHEMA home;
SET search_path = home, public;
CREATE EXTENSION cachekit;
SET client_min_messages = warning;
DROP SCHEMA home CASCADE;
RESET client_min_messages;
SELECT extname FROM pg_extension WHERE extname = 'cachekit';
SET search_path = s, public;
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS cachekit;
RESET client_min_messages;
CREATE SCHEMA cachekit;
CREATE EXTENSION cachekit;
DROP SCHEMA cachekit;
SET search_path = public;
CREATE EXTENSION cachekit;
CREATE EXTENSION cachekit;
CREATE EXTENSION IF NOT EXISTS cachekit;

\set ECHO none
\i :end
