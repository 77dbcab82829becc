-- Transactions: own changes are seen, what is rolled back leaves no trace.
\set ECHO none
\getenv top PG_ABS_SRCDIR
\set begin :top '/sql/lib/begin.sql'
\set end :top '/sql/lib/end.sql'
\i :begin
\set ECHO all

CREATE TABLE users (id int PRIMARY KEY, name text);
INSERT INTO users SELECT i, 'user ' || i FROM generate_series(1, 30) AS i;
SELECT cachekit.attach('users', negative_ttl => '1 hour');
SELECT t.check('users');
SELECT cachekit.stat_reset();

-- own changes, of the key and of others
BEGIN;
SELECT cachekit.fetch('users', 1) ->> 'name' AS name;
UPDATE users SET name = 'one' WHERE id = 1;
SELECT cachekit.fetch('users', 1) ->> 'name' AS name, cachekit.fetch('users', 2) ->> 'name' AS name;
INSERT INTO users VALUES (100, 'hundred');
SELECT cachekit.fetch('users', 100) ->> 'name' AS name;
DELETE FROM users WHERE id = 3;
SELECT cachekit.fetch('users', 3) ->> 'name' AS name;
UPDATE users SET id = 104 WHERE id = 4;
SELECT cachekit.fetch('users', 4) ->> 'name' AS name, cachekit.fetch('users', 104) ->> 'name' AS name;
SELECT cachekit.fetch('users', 104, 'bypass') ->> 'name' AS name, cachekit.fetch('users', 104, 'invalidate') ->> 'name' AS name;
SELECT t.counted('users');
COMMIT;
SELECT t.check('users');
SELECT t.counted('users');

-- rolled back
BEGIN;
UPDATE users SET name = 'never';
SELECT cachekit.fetch('users', 1) ->> 'name' AS name, cachekit.fetch('users', 5) ->> 'name' AS name;
SELECT cachekit.fetch('users', 6, 'invalidate') ->> 'name' AS name;
ROLLBACK;
SELECT t.check('users');
SELECT t.counted('users');
BEGIN;
UPDATE users SET name = 'never';
SELECT 1 / 0;
SELECT cachekit.fetch('users', 1);
COMMIT;
SELECT t.check('users');
SELECT t.counted('users');
INSERT INTO users VALUES (1, 'a duplicate');
SELECT t.check('users');

-- savepoints: what is rolled back to is not invalidated, the rest is
BEGIN;
UPDATE users SET name = 'one' WHERE id = 1;
UPDATE users SET name = 'kept' WHERE id = 10;
SAVEPOINT a;
UPDATE users SET name = 'never' WHERE id = 11;
SELECT cachekit.fetch('users', 11) ->> 'name' AS name;
ROLLBACK TO a;
SELECT cachekit.fetch('users', 11) ->> 'name' AS name;
UPDATE users SET name = 'kept' WHERE id = 12;
SAVEPOINT b;
UPDATE users SET name = 'kept' WHERE id = 13;
RELEASE b;
SAVEPOINT c;
UPDATE users SET name = 'never' WHERE id = 14;
SAVEPOINT d;
UPDATE users SET name = 'never' WHERE id = 15;
RELEASE d;
UPDATE users SET name = 'never' WHERE id = 10;
ROLLBACK TO c;
RELEASE c;
SELECT cachekit.stat_reset();
COMMIT;
SELECT t.counted('users');
SELECT t.check('users');
SELECT t.counted('users');
-- the same key before and in the savepoint
BEGIN;
UPDATE users SET name = 'before' WHERE id = 1;
SAVEPOINT a;
UPDATE users SET name = 'never' WHERE id = 1;
ROLLBACK TO a;
COMMIT;
SELECT t.check('users');
-- many of them: the set has an index then
BEGIN;
UPDATE users SET name = 'many' WHERE id BETWEEN 1 AND 20;
SAVEPOINT a;
UPDATE users SET name = 'never' WHERE id BETWEEN 10 AND 30;
ROLLBACK TO a;
UPDATE users SET name = 'more' WHERE id BETWEEN 15 AND 25;
SELECT cachekit.stat_reset();
COMMIT;
SELECT t.counted('users');
SELECT t.check('users');
-- whole entities
BEGIN;
SAVEPOINT a;
TRUNCATE users;
SELECT cachekit.fetch('users', 1);
ROLLBACK TO a;
SELECT cachekit.fetch('users', 1) ->> 'name' AS name;
UPDATE users SET name = 'after the TRUNCATE that was not' WHERE id = 1;
COMMIT;
SELECT t.check('users');
BEGIN;
UPDATE users SET name = 'kept' WHERE id = 1;
SAVEPOINT a;
SELECT cachekit.flush('users');
UPDATE users SET name = 'never' WHERE id = 2;
ROLLBACK TO a;
UPDATE users SET name = 'kept' WHERE id = 3;
SELECT cachekit.stat_reset();
COMMIT;
SELECT t.counted('users');
SELECT t.check('users');
BEGIN;
SAVEPOINT a;
SELECT cachekit.flush('users');
RELEASE a;
SAVEPOINT b;
UPDATE users SET name = 'never' WHERE id = 2;
ROLLBACK TO b;
UPDATE users SET name = 'kept' WHERE id = 4;
COMMIT;
SELECT t.check('users');
-- exceptions are savepoints
DO $$
BEGIN
	UPDATE users SET name = 'kept' WHERE id = 5;
	BEGIN
		UPDATE users SET name = 'never' WHERE id = 6;
		PERFORM 1 / 0;
	EXCEPTION WHEN division_by_zero THEN
		RAISE NOTICE '%', cachekit.fetch('users', 6) ->> 'name';
	END;
END
$$;
SELECT t.check('users');
-- a fetch that fails in one
BEGIN;
SAVEPOINT a;
SELECT cachekit.fetch('users', 'x');
ROLLBACK TO a;
SELECT cachekit.fetch('users', 1) ->> 'name' AS name;
COMMIT;
-- transactions in a procedure
CREATE PROCEDURE steps() LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1..3 LOOP
		UPDATE users SET name = 'step ' || i WHERE id = 1;
		RAISE NOTICE 'inside: %', cachekit.fetch('users', 1) ->> 'name';
		IF i = 2 THEN ROLLBACK; ELSE COMMIT; END IF;
		RAISE NOTICE 'after: %', cachekit.fetch('users', 1) ->> 'name';
		RAISE NOTICE 'cached: %', cachekit.fetch('users', 1, 'fresh') ->> 'name';
	END LOOP;
END
$$;
CALL steps();
SELECT t.check('users');

-- snapshots: relative to the transaction's own
\setenv PGDATABASE :DBNAME
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT cachekit.fetch('users', 1) ->> 'name' AS name;
\! psql -Xqc "UPDATE s.users SET name = 'by another session' WHERE id = 1"
SELECT cachekit.fetch('users', 1) ->> 'name' AS name;
SELECT cachekit.fetch('users', 1, 'bypass') ->> 'name' AS name, cachekit.fetch('users', 1, 'invalidate') ->> 'name' AS name;
COMMIT;
SELECT cachekit.fetch('users', 1) ->> 'name' AS name;
SELECT t.check('users');
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT cachekit.fetch('users', 1) ->> 'name' AS name;
\! psql -Xqc "UPDATE s.users SET name = 'by a third session' WHERE id = 1"
SELECT cachekit.fetch('users', 1) ->> 'name' AS name;
COMMIT;
SELECT t.check('users');
SELECT cachekit.stat_reset();
-- the newest one otherwise
BEGIN;
SELECT cachekit.fetch('users', 1) ->> 'name' AS name;
\! psql -Xqc "UPDATE s.users SET name = 'by a fourth session' WHERE id = 1"
SELECT cachekit.fetch('users', 1) ->> 'name' AS name;
INSERT INTO users VALUES (200, 'own');
\! psql -Xqc "UPDATE s.users SET name = 'by a fifth session' WHERE id = 1"
SELECT cachekit.fetch('users', 1) ->> 'name' AS name;
COMMIT;
SELECT t.counted('users');
SELECT t.check('users');
-- others do not see what is not committed, and nothing that was not can be cached
BEGIN;
UPDATE users SET name = 'not committed' WHERE id = 2;
SELECT cachekit.fetch('users', 2) ->> 'name' AS name;
\! psql -XqAtc "SELECT cachekit.fetch('s.users', 2) ->> 'name'"
ROLLBACK;
SELECT cachekit.fetch('users', 2) ->> 'name' AS name;
\! psql -XqAtc "SELECT cachekit.fetch('s.users', 2) ->> 'name'"

-- two-phase transactions
BEGIN;
UPDATE users SET name = 'prepared' WHERE id = 1;
PREPARE TRANSACTION 'regress_cachekit';
SELECT t.check('users');
BEGIN;
SELECT cachekit.invalidate('users', 1);
PREPARE TRANSACTION 'regress_cachekit';
BEGIN;
SELECT cachekit.attach('users', ttl => '1 hour');
PREPARE TRANSACTION 'regress_cachekit';
SELECT * FROM pg_prepared_xacts;
-- which have nothing to do with an entity are prepared
CREATE TABLE elsewhere (v int);
BEGIN;
SELECT cachekit.fetch('users', 1) IS NOT NULL AS there;
INSERT INTO elsewhere VALUES (1);
SAVEPOINT a;
UPDATE users SET name = 'never' WHERE id = 1;
ROLLBACK TO a;
PREPARE TRANSACTION 'regress_cachekit';
SELECT gid FROM pg_prepared_xacts;
COMMIT PREPARED 'regress_cachekit';
SELECT t.check('users');

-- several entities in one transaction
CREATE TABLE others (id int PRIMARY KEY, v int);
INSERT INTO others VALUES (1, 1), (2, 2);
SELECT cachekit.attach('others');
SELECT t.check('users'), t.check('others');
BEGIN;
UPDATE users SET name = 'both' WHERE id = 1;
UPDATE others SET v = 10 WHERE id = 1;
SAVEPOINT a;
TRUNCATE others;
ROLLBACK TO a;
COMMIT;
SELECT t.check('users'), t.check('others');

-- a key that is written for: the transaction has changed something
CREATE FUNCTION audit(i int) RETURNS int VOLATILE LANGUAGE plpgsql AS $$ BEGIN INSERT INTO s.elsewhere VALUES (i); RETURN i; END $$;
SELECT cachekit.stat_reset();
SELECT cachekit.fetch('others', audit(1)) IS NOT NULL AS there;
SELECT t.counted('others');

\set ECHO none
\i :end
