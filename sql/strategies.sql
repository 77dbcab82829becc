-- fetch, fetch_row and fetch_many, their strategies, and what is done by hand.
\set ECHO none
\getenv top PG_ABS_SRCDIR
\set begin :top '/sql/lib/begin.sql'
\set end :top '/sql/lib/end.sql'
\i :begin
\set ECHO all

CREATE TABLE users (id int PRIMARY KEY, name text, email text);
INSERT INTO users SELECT i, 'user ' || i, NULL FROM generate_series(1, 9) AS i;
SELECT cachekit.attach('users');
SELECT cachekit.stat_reset();

--
-- refresh, the default: the cache, else the table, then it is cached
--
SELECT cachekit.fetch('users', 1);
SELECT t.counted('users');
SELECT cachekit.fetch('users', 1);
SELECT t.counted('users');
SELECT cachekit.fetch('users', 1, 'refresh'), cachekit.fetch('users', 1, strategy => 'refresh'), cachekit.fetch('users', 1, NULL),
	cachekit.fetch(entity => 'users', key => 1);
SELECT t.counted('users');
-- what is not there is not cached
SELECT cachekit.fetch('users', 100), cachekit.fetch('users', 100);
SELECT t.counted('users');

--
-- fresh: the cache only
--
SELECT cachekit.fetch('users', 2, 'fresh');
SELECT t.counted('users');
SELECT cachekit.fetch('users', 2) IS NOT NULL AS loaded;
SELECT cachekit.fetch('users', 2, 'fresh');
SELECT t.counted('users');
UPDATE users SET name = 'two' WHERE id = 2;
SELECT cachekit.fetch('users', 2, 'fresh');
SELECT t.counted('users');
-- it never reads the table, also where the cache may not be used
SELECT cachekit.fetch('users', 2) IS NOT NULL AS loaded;
BEGIN;
UPDATE users SET name = 'three' WHERE id = 3;
SELECT cachekit.fetch('users', 2, 'fresh'), cachekit.fetch('users', 3, 'fresh');
ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT cachekit.fetch('users', 2, 'fresh');
COMMIT;
SET cachekit.enabled = off;
SELECT cachekit.fetch('users', 2, 'fresh');
RESET cachekit.enabled;
SELECT cachekit.fetch('users', 2, 'fresh') IS NOT NULL AS still_there;
SELECT t.counted('users');

--
-- invalidate: drops the local copy at once, reads the table, caches
--
SELECT cachekit.fetch('users', 1, 'invalidate');
SELECT t.counted('users');
SELECT cachekit.fetch('users', 1, 'fresh') IS NOT NULL AS cached;
SELECT cachekit.fetch('users', 100, 'invalidate');
-- in a transaction that reads only it is at once, too
BEGIN READ ONLY;
SELECT cachekit.fetch('users', 1, 'invalidate') IS NOT NULL AS there;
SELECT cachekit.fetch('users', 1) IS NOT NULL AS there;
ROLLBACK;
SELECT t.counted('users');

--
-- bypass: reads the table without looking, caches
--
SELECT cachekit.fetch('users', 4, 'bypass');
SELECT t.counted('users');
SELECT cachekit.fetch('users', 4, 'bypass') IS NOT NULL AS there;
SELECT t.counted('users');
SELECT cachekit.fetch('users', 4, 'fresh') IS NOT NULL AS cached;
SELECT t.counted('users');

-- others
SELECT cachekit.fetch('users', 1, 'stale');
SELECT cachekit.fetch('users', 1, '');
SELECT cachekit.fetch('users', 1, 'Refresh');
SELECT cachekit.fetch(NULL, 1, 'stale');
SELECT * FROM cachekit.fetch_many('users', ARRAY[1], 'stale');
SELECT cachekit.fetch_row(NULL::users, 1, 'stale');

--
-- NULLs
--
SELECT cachekit.fetch(NULL, 1), cachekit.fetch('users', NULL), cachekit.fetch(NULL, NULL),
	cachekit.fetch('users', NULL::bigint), cachekit.key(NULL, 1), cachekit.key('users', NULL),
	cachekit.fetch_row(NULL::users, NULL), cachekit.invalidate(NULL, 1), cachekit.invalidate('users', NULL), cachekit.flush(NULL);
SELECT * FROM cachekit.inspect('users', NULL);
SELECT * FROM cachekit.inspect(NULL, 1);
SELECT * FROM cachekit.fetch_many('users', NULL);
SELECT * FROM cachekit.fetch_many('users', NULL::int[]);
SELECT * FROM cachekit.fetch_many(NULL, ARRAY[1]);
SELECT t.counted('users');

--
-- fetch_row
--
SELECT cachekit.fetch_row(NULL::users, 1);
SELECT (cachekit.fetch_row(NULL::users, '1')).name;
SELECT r.* FROM cachekit.fetch_row(NULL::users, 2) AS r;
SELECT cachekit.fetch_row(NULL::users, 100), (cachekit.fetch_row(NULL::users, 100)).id;
SELECT cachekit.fetch_row(u, 2) FROM users AS u WHERE id = 1;	-- only its type counts
SELECT cachekit.fetch_row(NULL::users, 1, 'fresh'), cachekit.fetch_row(NULL::users, 9, 'fresh'),
	cachekit.fetch_row(NULL::users, 9, 'bypass'), cachekit.fetch_row(NULL::users, 9, 'invalidate');
SELECT cachekit.fetch_row(NULL::users, id) = u AS same FROM users AS u WHERE id < 4;
SELECT cachekit.fetch_row(42, 1);
SELECT cachekit.fetch_row(NULL::text, 1);
SELECT cachekit.fetch_row(ROW(1, 'a'), 1);
SELECT cachekit.fetch_row(NULL, 1);
CREATE TYPE not_a_table AS (id int);
SELECT cachekit.fetch_row(NULL::not_a_table, 1);
CREATE DOMAIN user_row AS users CHECK ((VALUE).id > 0);
SELECT cachekit.fetch_row(NULL::user_row, 1);
-- several types in one query
CREATE TABLE others (id int PRIMARY KEY, v int);
INSERT INTO others VALUES (1, 10), (2, 20);
SELECT cachekit.attach('others');
SELECT cachekit.fetch_row(NULL::users, i), cachekit.fetch_row(NULL::others, i) FROM generate_series(1, 2) AS i;

--
-- fetch_many: in the order asked, misses as NULL, twice where asked twice
--
SELECT cachekit.stat_reset();
SELECT * FROM cachekit.fetch_many('users', ARRAY[3, 1, 100, 2]);
SELECT t.counted('users');
SELECT * FROM cachekit.fetch_many('users', ARRAY[5, NULL, 5, 1]);
SELECT t.counted('users');
SELECT * FROM cachekit.fetch_many('users', '{3,01,NULL," 2"}');
SELECT * FROM cachekit.fetch_many('users', ARRAY['3', '1']);
SELECT * FROM cachekit.fetch_many('users', ARRAY[3, 1]::bigint[]), cachekit.fetch_many('users', '{1}'::smallint[]) AS again;
SELECT * FROM cachekit.fetch_many('users', '{{1,2},{3,4}}'::int[]);
SELECT * FROM cachekit.fetch_many('users', '{}');
SELECT * FROM cachekit.fetch_many('users', ARRAY[]::int[]);
SELECT key, value IS NOT NULL AS there FROM cachekit.fetch_many('users', ARRAY[1, 8], 'fresh');
SELECT key, value IS NOT NULL AS there FROM cachekit.fetch_many('users', ARRAY[1, 8], 'bypass');
SELECT key, value IS NOT NULL AS there FROM cachekit.fetch_many('users', ARRAY[1, 8], 'invalidate');
SELECT key, value IS NOT NULL AS there FROM cachekit.fetch_many('users', ARRAY[1, 8], 'fresh');
SELECT * FROM cachekit.fetch_many('users', '1');
SELECT * FROM cachekit.fetch_many('users', '{1');
SELECT * FROM cachekit.fetch_many('users', '{1,x}');
SELECT * FROM cachekit.fetch_many('users', 1);
SELECT count(value), count(DISTINCT value ->> 'id') FROM cachekit.fetch_many('users', (SELECT array_agg(i % 9 + 1) FROM generate_series(1, 1000) AS i));

--
-- From functions, prepared statements and joins
--
SELECT u.id, cachekit.fetch('users', u.id) ->> 'name' AS name FROM users AS u WHERE id < 4 ORDER BY id;
CREATE FUNCTION name_of(k int) RETURNS text STABLE LANGUAGE plpgsql AS $$ BEGIN RETURN cachekit.fetch('users', k) ->> 'name'; END $$;
SELECT name_of(1), name_of(2);
UPDATE users SET name = 'one' WHERE id = 1;
SELECT name_of(1), name_of(2);
PREPARE by_id (int) AS SELECT cachekit.fetch('users', $1) ->> 'name' AS name;
EXECUTE by_id(1);
UPDATE users SET name = 'uno' WHERE id = 1;
EXECUTE by_id(1);
EXECUTE by_id(NULL);
DEALLOCATE by_id;
DECLARE c CURSOR WITH HOLD FOR SELECT cachekit.fetch('users', id) ->> 'name' FROM generate_series(1, 2) AS id;
FETCH ALL FROM c;
CLOSE c;

--
-- invalidate: as a change of the row, at commit
--
SELECT cachekit.stat_reset();
SELECT cachekit.fetch('users', 1, 'fresh') IS NOT NULL AS cached;
SELECT cachekit.invalidate('users', 1);
SELECT cachekit.fetch('users', 1, 'fresh') IS NOT NULL AS cached;
SELECT cachekit.fetch('users', 1) IS NOT NULL AS there;
BEGIN;
SELECT cachekit.invalidate('users', '1');
SELECT cachekit.fetch('users', 1) IS NOT NULL AS there;	-- from the table
ROLLBACK;
SELECT cachekit.fetch('users', 1, 'fresh') IS NOT NULL AS cached;
BEGIN READ ONLY;
SELECT cachekit.invalidate('users', 1::bigint);
COMMIT;
SELECT cachekit.fetch('users', 1, 'fresh') IS NOT NULL AS cached;
SELECT cachekit.invalidate('users', 100);	-- there need not be such a row
SELECT t.counted('users');

--
-- flush
--
SELECT t.check('users'), t.check('others');
SELECT t.counted('users');
SELECT cachekit.flush('users');
SELECT count(value) FROM cachekit.fetch_many('users', ARRAY[1, 2, 3, 4], 'fresh');
SELECT count(value) FROM cachekit.fetch_many('others', ARRAY[1, 2], 'fresh');
SELECT t.counted('users');
SELECT t.check('users');
BEGIN;
SELECT cachekit.flush('users');
SELECT count(value) FROM cachekit.fetch_many('users', ARRAY[1, 2, 3, 4]);
ROLLBACK;
SELECT count(value) FROM cachekit.fetch_many('users', ARRAY[1, 2, 3, 4], 'fresh');
SELECT cachekit.flush();
SELECT count(value) FROM cachekit.fetch_many('users', ARRAY[1, 2, 3, 4], 'fresh');
SELECT count(value) FROM cachekit.fetch_many('others', ARRAY[1, 2], 'fresh');
SELECT t.check('users'), t.check('others');
-- all that the caller owns
CREATE ROLE regress_cachekit_owner;
ALTER TABLE others OWNER TO regress_cachekit_owner;
GRANT SELECT ON users TO regress_cachekit_owner;
GRANT USAGE ON SCHEMA s TO regress_cachekit_owner;
SELECT t.check('others');
SET ROLE regress_cachekit_owner;
SELECT cachekit.flush();
SELECT count(value) FROM cachekit.fetch_many('users', ARRAY[1, 2, 3, 4], 'fresh');
SELECT count(value) FROM cachekit.fetch_many('others', ARRAY[1, 2], 'fresh');
RESET ROLE;
ALTER TABLE others OWNER TO CURRENT_USER;
REVOKE ALL ON users FROM regress_cachekit_owner;
REVOKE ALL ON SCHEMA s FROM regress_cachekit_owner;
DROP ROLE regress_cachekit_owner;

--
-- inspect
--
SELECT cachekit.flush('users');
SELECT tier, present, bytes, ttl, fenced FROM cachekit.inspect('users', 7);
SELECT t.check('users');
SELECT tier, present, bytes > 20 AS bytes, ttl BETWEEN '50 minutes' AND '1 hour' AS ttl, fenced FROM cachekit.inspect('users', 7);
SELECT tier, present, bytes > 20 AS bytes FROM cachekit.inspect('users', '07');
SELECT * FROM cachekit.inspect('users', 100);
SELECT cachekit.attach('users', ttl => 'infinity', negative_ttl => '10 minutes');
SELECT * FROM cachekit.inspect('users', 7);
SELECT cachekit.fetch('users', 7) IS NOT NULL AS there, cachekit.fetch('users', 100) IS NOT NULL AS there;
SELECT tier, present, bytes > 20 AS bytes, ttl, fenced FROM cachekit.inspect('users', 7);
SELECT tier, present, bytes, ttl BETWEEN '9 minutes' AND '10 minutes' AS ttl, fenced FROM cachekit.inspect('users', 100);
BEGIN;
UPDATE users SET name = 'seven' WHERE id = 7;
SELECT present, fenced FROM cachekit.inspect('users', 7);
COMMIT;
SELECT present, fenced FROM cachekit.inspect('users', 7);
SELECT cachekit.attach('users', local => false);
SELECT * FROM cachekit.inspect('users', 7);

--
-- Statistics
--
SELECT cachekit.stat_reset();
SELECT t.check('users');
SELECT t.counted('users');	-- without the local tier, there is no cache yet
SELECT cachekit.attach('users', local => true);
SELECT cachekit.stat_reset();
SELECT count(cachekit.fetch('users', i % 3 + 1)) FROM generate_series(1, 300) AS i;
SELECT name, local_hits, misses, loads, fills,
	array_length(latency_histogram, 1) AS buckets, (SELECT sum(n) FROM unnest(latency_histogram) AS n) AS fetches
FROM cachekit.stat_entities ORDER BY name;
SELECT cachekit.stat_reset();
SELECT name, local_hits, misses, loads, fills, (SELECT sum(n) FROM unnest(latency_histogram) AS n) AS fetches
FROM cachekit.stat_entities ORDER BY name;
SELECT * FROM cachekit.health();
SELECT cachekit.is_preloaded();

\set ECHO none
\i :end
