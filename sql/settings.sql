-- Settings: of entities and of the server.
\set ECHO none
\getenv top PG_ABS_SRCDIR
\set begin :top '/sql/lib/begin.sql'
\set end :top '/sql/lib/end.sql'
\i :begin
\set ECHO all

SELECT name, context, unit, boot_val, short_desc IS NOT NULL AND short_desc <> '' AS described FROM pg_settings
WHERE name LIKE 'cachekit.%' AND name NOT LIKE 'cachekit.debug%' ORDER BY name;
SELECT name, short_desc, extra_desc FROM pg_settings
WHERE name LIKE 'cachekit.%' AND (short_desc IS NULL OR short_desc !~ '^[A-Z].*\.$' OR extra_desc !~ '^[A-Z0-9-].*\.$');
SET cachekit.nothing = 1;
SET cachekit.enabled = maybe;
SET cachekit.fetch_timeout = -1;
SET cachekit.ttl_jitter = 101;
SET cachekit.default_ttl = -2;
SET cachekit.max_changed_keys = -1;
SET cachekit.max_value_size = '3GB';
SET cachekit.local_memory = '1GB';
SET cachekit.max_entities = 5;
SET cachekit.fence_stripes = 5;
SET cachekit.fetch_timeout = '1s';
SHOW cachekit.fetch_timeout;
RESET cachekit.fetch_timeout;

CREATE TABLE users (id int PRIMARY KEY, name text);
INSERT INTO users SELECT i, 'user ' || i FROM generate_series(1, 20) AS i;
SELECT cachekit.attach('users');
SELECT t.check('users');
SELECT cachekit.stat_reset();

--
-- cachekit.enabled: reads the table, follows the changes
--
SET cachekit.enabled = off;
SELECT t.check('users');
SELECT t.counted('users');
UPDATE users SET name = 'changed while off' WHERE id = 1;
SELECT cachekit.fetch('users', 1), cachekit.fetch('users', 1, 'bypass'), cachekit.fetch('users', 1, 'invalidate');
SET cachekit.enabled = on;
SELECT t.check('users');
SELECT t.counted('users');
RESET cachekit.enabled;

--
-- cachekit.max_changed_keys: more of them are the whole entity
--
SET cachekit.max_changed_keys = 3;
UPDATE users SET name = 'three' WHERE id <= 3;
SELECT t.counted('users');
SELECT t.check('users');
SELECT t.counted('users');
UPDATE users SET name = 'four' WHERE id <= 4;
SELECT t.counted('users');
SELECT t.check('users');
SELECT t.counted('users');
-- what is rolled back to does not undo it: the keys are not known any more
BEGIN;
UPDATE users SET name = 'before' WHERE id <= 2;
SAVEPOINT a;
UPDATE users SET name = 'never' WHERE id <= 10;
ROLLBACK TO a;
UPDATE users SET name = 'after' WHERE id = 15;
COMMIT;
SELECT t.check('users');
SELECT t.counted('users');
-- rolled back altogether, it leaves no trace
BEGIN;
UPDATE users SET name = 'never';
ROLLBACK;
SELECT t.check('users');
SELECT t.counted('users');
SET cachekit.max_changed_keys = 0;
UPDATE users SET name = 'none' WHERE id = 1;
SELECT t.check('users');
SELECT t.counted('users');
RESET cachekit.max_changed_keys;
UPDATE users SET name = 'many';
SELECT t.check('users');
SELECT t.counted('users');

--
-- cachekit.max_value_size: larger documents are served, not cached
--
SET cachekit.max_value_size = '1kB';
UPDATE users SET name = repeat('x', 2000) WHERE id = 1;
SELECT length(cachekit.fetch('users', 1) ->> 'name'), length(cachekit.fetch('users', 1) ->> 'name');
SELECT t.counted('users');
UPDATE users SET name = repeat('x', 500) WHERE id = 1;
SELECT length(cachekit.fetch('users', 1) ->> 'name'), length(cachekit.fetch('users', 1) ->> 'name');
SELECT t.counted('users');
SET cachekit.max_value_size = 0;
SELECT cachekit.fetch('users', 2, 'bypass') IS NOT NULL AS there;
SELECT t.counted('users');
RESET cachekit.max_value_size;
UPDATE users SET name = repeat('x', 500000) WHERE id = 1;
SELECT length(cachekit.fetch('users', 1) ->> 'name'), length(cachekit.fetch('users', 1) ->> 'name');
SELECT t.counted('users');
UPDATE users SET name = repeat('x', 2000000) WHERE id = 1;
SELECT length(cachekit.fetch('users', 1) ->> 'name'), length(cachekit.fetch('users', 1) ->> 'name');
SELECT t.counted('users');
UPDATE users SET name = 'short' WHERE id = 1;
SELECT t.check('users');

--
-- Times to live.  A microsecond is over before the next statement begins.
--
SELECT cachekit.attach('users', ttl => '1 microsecond');
SELECT cachekit.stat_reset();
SELECT cachekit.fetch('users', 1) IS NOT NULL AS there;
SELECT cachekit.fetch('users', 1) IS NOT NULL AS there;
SELECT t.counted('users');
SELECT present FROM cachekit.inspect('users', 1);
SELECT cachekit.attach('users', ttl => 'infinity');
SELECT cachekit.stat_reset();
SELECT cachekit.fetch('users', 1) IS NOT NULL AS there;
SELECT cachekit.fetch('users', 1) IS NOT NULL AS there;
SELECT t.counted('users');
SELECT present, ttl FROM cachekit.inspect('users', 1);
-- months and years are as long as PostgreSQL has them; centuries are for ever
SELECT cachekit.attach('users', ttl => '1 month');
SELECT cachekit.fetch('users', 1) IS NOT NULL AS there;
SELECT present, ttl BETWEEN '26 days' AND '30 days' AS ttl FROM cachekit.inspect('users', 1);
SELECT cachekit.attach('users', ttl => '100000 years');
SELECT cachekit.fetch('users', 1) IS NOT NULL AS there;
SELECT present, ttl FROM cachekit.inspect('users', 1);
-- the default, for entities without one
CREATE TABLE others (id int PRIMARY KEY);
INSERT INTO others VALUES (1);
SELECT cachekit.attach('others');
SELECT cachekit.fetch('others', 1);
SELECT ttl BETWEEN '54 minutes' AND '1 hour' AS ttl FROM cachekit.inspect('others', 1);
SET cachekit.default_ttl = '10s';
SET cachekit.ttl_jitter = 0;
SELECT cachekit.fetch('others', 1, 'bypass');
SELECT ttl BETWEEN '1 second' AND '10 seconds' AS ttl FROM cachekit.inspect('others', 1);
SET cachekit.default_ttl = -1;
SELECT cachekit.fetch('others', 1, 'bypass');
SELECT present, ttl FROM cachekit.inspect('others', 1);
-- jitter only ever shortens it
SET cachekit.default_ttl = '1h';
SET cachekit.ttl_jitter = 50;
SELECT cachekit.attach('users', ttl => '1 hour');
SELECT count(cachekit.fetch('users', n)) FROM generate_series(1, 20) AS n;
SELECT count(DISTINCT i.ttl) > 10 AS differ, min(i.ttl) >= '29 minutes' AS at_least, max(i.ttl) <= '1 hour' AS at_most
FROM generate_series(1, 20) AS n, LATERAL cachekit.inspect('users', n) AS i;
RESET cachekit.default_ttl;
RESET cachekit.ttl_jitter;

--
-- negative_ttl: that there is no such row is known
--
SELECT cachekit.stat_reset();
SELECT cachekit.fetch('users', 100), cachekit.fetch('users', 100);
SELECT t.counted('users');
SELECT cachekit.attach('users', negative_ttl => '1 minute');
SELECT cachekit.stat_reset();
SELECT cachekit.fetch('users', 100);
SELECT cachekit.fetch('users', 100), cachekit.fetch('users', 100, 'fresh');
SELECT t.counted('users');
INSERT INTO users VALUES (100, 'hundred');
SELECT cachekit.fetch('users', 100);
DELETE FROM users WHERE id = 100;
SELECT cachekit.fetch('users', 100);
SELECT cachekit.fetch('users', 100);
SELECT t.counted('users');
BEGIN;
INSERT INTO users VALUES (100, 'never');
ROLLBACK;
SELECT cachekit.fetch('users', 100);
SELECT t.counted('users');
SELECT * FROM cachekit.fetch_many('users', ARRAY[100, 100]);
SELECT cachekit.fetch_row(NULL::users, 100);
SELECT t.counted('users');
SELECT cachekit.attach('users', negative_ttl => '1 microsecond');
SELECT cachekit.fetch('users', 100);
SELECT cachekit.stat_reset();
SELECT cachekit.fetch('users', 100);
SELECT t.counted('users');
SELECT cachekit.attach('users', negative_ttl => 'infinity');
SELECT cachekit.fetch('users', 100);
SELECT present, bytes, ttl FROM cachekit.inspect('users', 100);
SELECT cachekit.attach('users', negative_ttl => '0');
SELECT cachekit.stat_reset();
SELECT cachekit.fetch('users', 100), cachekit.fetch('users', 100);
SELECT t.counted('users');

--
-- local => false: not in the local tier
--
SELECT cachekit.attach('users', local => false);
SELECT cachekit.stat_reset();
SELECT cachekit.fetch('users', 1) IS NOT NULL AS there, cachekit.fetch('users', 1) IS NOT NULL AS there;
SELECT cachekit.fetch('users', 1, 'fresh') IS NOT NULL AS there;
SELECT t.counted('users');

\set ECHO none
\i :end
