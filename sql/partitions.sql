-- Partitioned tables: rows, partitions and their columns move.
\set ECHO none
\getenv top PG_ABS_SRCDIR
\set begin :top '/sql/lib/begin.sql'
\set end :top '/sql/lib/end.sql'
\i :begin
\set ECHO all

CREATE TABLE events (id int, at date, what text, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (1) TO (100);
-- its columns are in another order, and it has dropped some
CREATE TABLE events_2 (gone int, what text, gone_2 text, id int PRIMARY KEY, at date);
ALTER TABLE events_2 DROP COLUMN gone, DROP COLUMN gone_2;
ALTER TABLE events ATTACH PARTITION events_2 FOR VALUES FROM (100) TO (200);
CREATE TABLE events_3 PARTITION OF events FOR VALUES FROM (200) TO (400) PARTITION BY RANGE (id);
CREATE TABLE events_3a PARTITION OF events_3 FOR VALUES FROM (200) TO (300);
INSERT INTO events VALUES (1, '2024-01-01', 'one'), (2, '2024-01-01', 'two'), (101, '2024-01-01', 'one hundred and one'), (201, '2024-01-01', 'two hundred and one');
SELECT cachekit.attach('events', negative_ttl => '1 hour');
CREATE VIEW triggers AS
SELECT tgrelid::regclass AS member, tgfoid::regproc AS function, tgenabled AS enabled
FROM pg_trigger WHERE tgfoid IN ('cachekit.on_row_change'::regproc, 'cachekit.on_truncate'::regproc);
SELECT * FROM triggers ORDER BY member::text, function::text;
SELECT t.check('events');
SELECT t.counted('events');

-- changes, of the table and of its partitions
UPDATE events SET what = what || '!';
SELECT t.check('events');
SELECT t.counted('events');
UPDATE events_1 SET what = 'uno' WHERE id = 1;
UPDATE events_2 SET what = 'ciento uno' WHERE id = 101;
UPDATE events_3 SET what = 'doscientos' WHERE id = 201;
SELECT t.check('events');
SELECT t.counted('events');
UPDATE events_3a SET what = 'doscientos uno' WHERE id = 201;
SELECT t.check('events');
INSERT INTO events_2 (id, what) VALUES (102, 'into the leaf');
SELECT t.check('events');
DELETE FROM events_2 WHERE id = 102;
SELECT t.check('events');
COPY events (id, what) FROM stdin;
103	copied
202	copied
\.
SELECT t.check('events');
INSERT INTO events VALUES (103, NULL, 'upserted') ON CONFLICT (id) DO UPDATE SET what = excluded.what;
SELECT t.check('events');
MERGE INTO events USING (VALUES (103), (104)) AS m(id) ON events.id = m.id
WHEN MATCHED THEN UPDATE SET what = 'merged' WHEN NOT MATCHED THEN INSERT VALUES (m.id, NULL, 'merged');
SELECT t.check('events');
SELECT cachekit.stat_reset();
UPDATE events SET what = what;
SELECT t.counted('events');

-- rows move from one partition to another
UPDATE events SET id = 110 WHERE id = 1;
SELECT t.check('events');
UPDATE events SET id = 210 WHERE id = 110;
SELECT t.check('events');
UPDATE events SET id = 1 WHERE id = 210;
SELECT t.check('events');
UPDATE events SET id = CASE WHEN id < 100 THEN id + 120 ELSE id END;
SELECT t.check('events');

-- also where the partition is not told by the key
CREATE TABLE tasks (id int, done boolean, v text) PARTITION BY LIST (done);
CREATE TABLE tasks_open PARTITION OF tasks FOR VALUES IN (false);
CREATE TABLE tasks_done PARTITION OF tasks FOR VALUES IN (true);
SELECT cachekit.attach('tasks', key => '{id}');
INSERT INTO tasks VALUES (1, false, 'one'), (2, false, 'two');
SELECT t.check('tasks');
SELECT cachekit.stat_reset();
UPDATE tasks SET done = true WHERE id = 1;
SELECT t.counted('tasks');
SELECT t.check('tasks');
BEGIN;
UPDATE tasks SET done = NOT done;
UPDATE tasks SET done = NOT done;
UPDATE tasks SET done = true;
COMMIT;
SELECT t.check('tasks');
DROP TABLE tasks;

-- TRUNCATE: all, a branch, a leaf
SELECT t.check('events');
TRUNCATE events_2;
SELECT t.check('events');
TRUNCATE events_3;
SELECT t.check('events');
INSERT INTO events VALUES (1, NULL, 'one'), (101, NULL, 'two'), (201, NULL, 'three');
SELECT t.check('events');
TRUNCATE events_3a;
SELECT t.check('events');
TRUNCATE ONLY events_1;
SELECT t.check('events');
TRUNCATE events;
SELECT t.check('events');
INSERT INTO events VALUES (1, NULL, 'one'), (101, NULL, 'two'), (201, NULL, 'three');
SELECT t.check('events');
SET session_replication_role = replica;
UPDATE events SET what = 'replica' WHERE id = 1;
SELECT t.check('events');
TRUNCATE events_1;
SELECT t.check('events');
RESET session_replication_role;

-- a new partition
CREATE TABLE events_4 PARTITION OF events FOR VALUES FROM (400) TO (500);
SELECT cachekit.fetch('events', 401);
INSERT INTO events VALUES (401, NULL, 'new partition');
SELECT t.check('events');
TRUNCATE events_4;
SELECT t.check('events');
CREATE TABLE events_3b PARTITION OF events_3 FOR VALUES FROM (300) TO (400);
INSERT INTO events VALUES (301, NULL, 'new leaf');
SELECT t.check('events');
TRUNCATE events_3b;
SELECT t.check('events');
SELECT sound FROM cachekit.entities;
SELECT * FROM triggers ORDER BY member::text, function::text;

-- a table with rows becomes a partition
CREATE TABLE events_5 (what text, at date, id int PRIMARY KEY);
INSERT INTO events_5 VALUES ('attached', NULL, 501), ('attached', NULL, 502);
SELECT cachekit.fetch('events', 501);
SELECT t.counted('events') IS NOT NULL AS reset;
ALTER TABLE events ATTACH PARTITION events_5 FOR VALUES FROM (500) TO (600);
SELECT t.check('events');
UPDATE events_5 SET what = 'changed';
SELECT t.check('events');
TRUNCATE events_5;
SELECT t.check('events');
INSERT INTO events VALUES (501, NULL, 'again');
SELECT t.check('events');
-- and a branch
CREATE TABLE events_6 (id int PRIMARY KEY, at date, what text) PARTITION BY RANGE (id);
CREATE TABLE events_6a PARTITION OF events_6 FOR VALUES FROM (600) TO (650);
INSERT INTO events_6 VALUES (601, NULL, 'branch');
ALTER TABLE events ATTACH PARTITION events_6 FOR VALUES FROM (600) TO (700);
SELECT t.check('events');
TRUNCATE events_6a;
SELECT t.check('events');
SELECT sound FROM cachekit.entities;

-- a partition becomes a table again: its rows are no more, and its changes no concern
INSERT INTO events VALUES (402, NULL, 'leaves'), (601, NULL, 'leaves');
SELECT t.check('events');
ALTER TABLE events DETACH PARTITION events_4;
SELECT t.check('events');
SELECT * FROM triggers WHERE member = 'events_4'::regclass;
SELECT cachekit.stat_reset();
UPDATE events_4 SET what = 'no concern';
TRUNCATE events_4;
SELECT t.counted('events');
ALTER TABLE events DETACH PARTITION events_6;
SELECT t.check('events');
SELECT * FROM triggers WHERE member::text LIKE 'events_6%';
DROP TABLE events_6;
ALTER TABLE events DETACH PARTITION events_5 CONCURRENTLY;
SELECT t.check('events');
SELECT * FROM triggers WHERE member = 'events_5'::regclass;
SELECT sound FROM cachekit.entities;
-- and an entity of its own
SELECT cachekit.attach('events_4');
INSERT INTO events_4 VALUES (403, NULL, 'own');
SELECT t.check('events_4');
-- which it stays when it returns: both are right
ALTER TABLE events ATTACH PARTITION events_4 FOR VALUES FROM (400) TO (500);
SELECT t.check('events'), t.check('events_4');
UPDATE events SET what = 'both' WHERE id = 403;
SELECT t.check('events'), t.check('events_4');
UPDATE events_4 SET what = 'both again';
SELECT t.check('events'), t.check('events_4');
UPDATE events SET id = 1 WHERE id = 403;
SELECT t.check('events'), t.check('events_4');
UPDATE events SET id = 403 WHERE id = 1;
SELECT t.check('events'), t.check('events_4');
TRUNCATE events_4;
SELECT t.check('events'), t.check('events_4');
SELECT * FROM triggers WHERE member = 'events_4'::regclass ORDER BY function::text;
SELECT name, sound FROM cachekit.entities ORDER BY name;
SELECT cachekit.detach('events_4');
SELECT t.check('events');

-- a partition is dropped
INSERT INTO events VALUES (405, NULL, 'dropped');
SELECT t.check('events');
DROP TABLE events_4;
SELECT t.check('events');
SELECT sound FROM cachekit.entities;

-- a default partition, and one that takes from it
CREATE TABLE events_rest PARTITION OF events DEFAULT;
INSERT INTO events VALUES (1000, NULL, 'rest');
SELECT t.check('events');
BEGIN;
ALTER TABLE events DETACH PARTITION events_rest;
CREATE TABLE events_1000 PARTITION OF events FOR VALUES FROM (1000) TO (2000);
WITH moved AS (DELETE FROM events_rest RETURNING *) INSERT INTO events SELECT id, at, 'moved' FROM moved;
ALTER TABLE events ATTACH PARTITION events_rest DEFAULT;
COMMIT;
SELECT t.check('events');
SELECT sound FROM cachekit.entities;

-- columns of the whole tree
ALTER TABLE events RENAME id TO key;
SELECT key, sound FROM cachekit.entities;
SELECT t.check('events');
UPDATE events SET what = 'renamed';
SELECT t.check('events');
ALTER TABLE events ADD COLUMN more int DEFAULT 1;
SELECT t.check('events');
ALTER TABLE events DROP COLUMN key;
ALTER TABLE events DROP COLUMN at;
SELECT t.check('events');
ALTER TABLE events ALTER COLUMN more TYPE numeric(10,2);
SELECT t.check('events');
UPDATE events SET more = 1;
SELECT t.check('events');

-- partitions that cannot be watched: the table is read, until they can be or are gone
ALTER TABLE events_2 SET UNLOGGED;
SELECT t.check('events');
UPDATE events SET what = 'unlogged';
SELECT t.check('events');
SELECT problem, hint FROM cachekit.health();
ALTER TABLE events_2 SET LOGGED;
SELECT t.check('events');
SELECT * FROM cachekit.health();
ALTER TABLE events_2 ENABLE ROW LEVEL SECURITY;
SELECT sound FROM cachekit.entities;
SELECT t.check('events');
ALTER TABLE events_2 DISABLE ROW LEVEL SECURITY;
SELECT sound FROM cachekit.entities;
CREATE UNLOGGED TABLE events_7 PARTITION OF events FOR VALUES FROM (700) TO (800);
SELECT sound FROM cachekit.entities;
SELECT t.check('events');
DROP TABLE events_7;
SELECT sound FROM cachekit.entities;
CREATE FOREIGN DATA WRAPPER a_wrapper;
CREATE SERVER a_server FOREIGN DATA WRAPPER a_wrapper;
CREATE TABLE no_index (id int, v int) PARTITION BY RANGE (id);
CREATE TABLE no_index_1 PARTITION OF no_index FOR VALUES FROM (1) TO (100);
SELECT cachekit.attach('no_index', key => '{id}');
INSERT INTO no_index VALUES (1, 1);
SELECT t.check('no_index');
-- a foreign table is no partition whose changes could be seen
CREATE FOREIGN TABLE no_index_2 PARTITION OF no_index FOR VALUES FROM (100) TO (200) SERVER a_server;
SELECT name, sound FROM cachekit.entities ORDER BY name;
DROP FOREIGN TABLE no_index_2;
SELECT t.check('no_index');
SELECT name, sound FROM cachekit.entities ORDER BY name;
DROP TABLE no_index;
DROP FOREIGN DATA WRAPPER a_wrapper CASCADE;

-- triggers of a leaf
ALTER TABLE events_1 DISABLE TRIGGER ALL;
SELECT sound FROM cachekit.entities;
INSERT INTO events VALUES (5, 'five');
SELECT t.check('events');
UPDATE events SET what = 'unseen' WHERE key = 5;
SELECT t.check('events');
ALTER TABLE events_1 ENABLE TRIGGER ALL;
SELECT sound FROM cachekit.entities;
SELECT t.check('events');
UPDATE events SET what = 'seen' WHERE key = 5;
SELECT t.check('events');
ALTER TABLE events DISABLE TRIGGER ALL;
ALTER TABLE events ENABLE TRIGGER ALL;
SELECT sound FROM cachekit.entities;
SELECT DISTINCT enabled FROM triggers;
UPDATE events SET what = 'seen again' WHERE key = 5;
SELECT t.check('events');
ALTER TABLE ONLY events DISABLE TRIGGER ALL;
ALTER TABLE ONLY events ENABLE TRIGGER ALL;
SELECT sound FROM cachekit.entities;
DROP TRIGGER cachekit_truncate_events ON events_1;
SELECT sound FROM cachekit.entities;
SELECT t.check('events');
SET client_min_messages = error;
TRUNCATE events_1;
SELECT t.check('events');
RESET client_min_messages;
SELECT cachekit.attach('events');
SELECT sound FROM cachekit.entities;
SELECT t.check('events');

-- keys of a partition only: the leaf as an entity of its own, the tree is none
SELECT cachekit.detach('events');
SELECT count(*) FROM triggers;
SELECT cachekit.attach('events_2');
INSERT INTO events VALUES (150, 'leaf');
SELECT t.check('events_2');
UPDATE events SET what = 'leaf entity';
SELECT t.check('events_2');
TRUNCATE events;
SELECT t.check('events_2');
SELECT cachekit.fetch('events', 150);
-- the tree goes
DROP TABLE events CASCADE;
SELECT * FROM cachekit.entities;

\set ECHO none
\i :end
