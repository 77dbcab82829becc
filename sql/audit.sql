-- audit(): what it compares, and what it refuses. Differences are in test/t/058_audit.pl.
\set ECHO none
\getenv top PG_ABS_SRCDIR
\set begin :top '/sql/lib/begin.sql'
\set end :top '/sql/lib/end.sql'
\i :begin
\set ECHO all

CREATE TABLE item (a int, b text, v text, PRIMARY KEY (a, b));
INSERT INTO item SELECT i, 'key ' || i, 'v' FROM generate_series(1, 1200) AS i;
SELECT cachekit.attach('item', negative_ttl => '1 hour');
-- nothing is cached
SELECT * FROM cachekit.audit('item');
SELECT * FROM cachekit.audit('item', 10);
-- some documents are, and the knowledge that there is no such row
SELECT count(value) FROM cachekit.fetch_many('item', (SELECT array_agg((a, b)::text) FROM item WHERE a <= 700)::text);
SELECT cachekit.fetch('item', (5000, 'none'));
SELECT * FROM cachekit.audit('item', NULL);
UPDATE item SET v = 'w' WHERE a <= 100;
SELECT * FROM cachekit.audit('item', 1200);

-- many rows for a key
CREATE VIEW lines AS SELECT a % 10 AS k, v FROM item;
SELECT cachekit.attach('lines', key => '{k}', many => true);
SELECT cachekit.add_dependency('lines', 'item', via => 'SELECT ($1).a % 10');
SELECT count(value) FROM cachekit.fetch_many('lines', ARRAY[0,1,2,3,4,5,6,7,8,9]);
SELECT * FROM cachekit.audit('lines');

-- what is refused
SELECT * FROM cachekit.audit('item', 0);
SELECT * FROM cachekit.audit(NULL);
SELECT * FROM cachekit.audit('pg_class');
BEGIN;
UPDATE item SET v = 'x' WHERE a = 1;
SELECT * FROM cachekit.audit('item');
ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT * FROM cachekit.audit('item');
ROLLBACK;
SET cachekit.enabled = off;
SELECT * FROM cachekit.audit('item');
RESET cachekit.enabled;
SELECT cachekit.attach('item', local => false);
SELECT * FROM cachekit.audit('item');
ALTER TABLE item DISABLE TRIGGER ALL;
SELECT * FROM cachekit.audit('item');
ALTER TABLE item ENABLE TRIGGER ALL;

-- it shows documents: for those who may read them
SELECT cachekit.attach('item', local => true);
CREATE ROLE auditor;
GRANT USAGE ON SCHEMA cachekit, s TO auditor;
SET ROLE auditor;
SELECT * FROM cachekit.audit('item');
RESET ROLE;
GRANT SELECT ON item TO auditor;
SET ROLE auditor;
SELECT * FROM cachekit.audit('item', 5);
RESET ROLE;
DROP OWNED BY auditor;
DROP ROLE auditor;

\set ECHO none
\i :end
