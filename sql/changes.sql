-- Changes of rows: whoever fetches after a change sees it, however it was made.
\set ECHO none
\getenv top PG_ABS_SRCDIR
\set begin :top '/sql/lib/begin.sql'
\set end :top '/sql/lib/end.sql'
\i :begin
\set ECHO all

CREATE TABLE users (id int PRIMARY KEY, name text, amount numeric, note text);
SELECT cachekit.attach('users', negative_ttl => '1 hour');
-- rows that are not there are known, too
SELECT cachekit.fetch('users', i) FROM generate_series(1, 2) AS i;
SELECT cachekit.fetch('users', i) FROM generate_series(1, 2) AS i;
SELECT t.counted('users');

-- INSERT
INSERT INTO users VALUES (1, 'Ada', 1.0, NULL);
SELECT t.counted('users');
SELECT t.check('users');
INSERT INTO users SELECT i, 'user ' || i, i, NULL FROM generate_series(2, 5) AS i;
SELECT t.check('users');
INSERT INTO users VALUES (6, 'six', 6, NULL) ON CONFLICT DO NOTHING;
INSERT INTO users VALUES (6, 'again', 6, NULL) ON CONFLICT DO NOTHING;
SELECT t.check('users');
SELECT t.counted('users');

-- UPDATE
UPDATE users SET name = 'Augusta' WHERE id = 1;
SELECT t.check('users');
SELECT t.counted('users');
UPDATE users SET name = name || '!';
SELECT t.check('users');
SELECT t.counted('users');
UPDATE users AS u SET name = f.name FROM (VALUES (2, 'Bob'), (3, 'Cy')) AS f(id, name) WHERE u.id = f.id RETURNING u.id;
SELECT t.check('users');

-- nothing changed: nothing is invalidated
SELECT cachekit.stat_reset();
UPDATE users SET name = name, amount = amount, id = id;
UPDATE users SET name = 'nobody' WHERE false;
SELECT t.check('users');
SELECT t.counted('users');
-- equal is not the same: 1.0 is not 1.00
UPDATE users SET amount = 1.00 WHERE id = 1;
SELECT t.counted('users');
SELECT cachekit.fetch('users', 1);
SELECT t.check('users');
UPDATE users SET amount = NULL WHERE id = 1;
SELECT t.check('users');
UPDATE users SET note = '' WHERE id = 1;
SELECT t.check('users');
UPDATE users SET note = NULL WHERE id = 1;
SELECT t.check('users');
SELECT t.counted('users');
-- a value that is stored out of line, changed and not
UPDATE users SET note = (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 1000) AS i) WHERE id = 2;
SELECT t.check('users');
SELECT cachekit.stat_reset();
UPDATE users SET note = note WHERE id = 2;
SELECT t.counted('users');
UPDATE users SET name = 'Robert' WHERE id = 2;
SELECT t.check('users');
UPDATE users SET note = note || 'x' WHERE id = 2;
SELECT t.check('users');

-- the key itself: both the old and the new one
UPDATE users SET id = 100 WHERE id = 1;
SELECT t.check('users');
UPDATE users SET id = -id;
SELECT t.check('users');
UPDATE users SET id = -id;
SELECT t.check('users');
BEGIN;
UPDATE users SET id = 101 WHERE id = 100;
UPDATE users SET id = 102 WHERE id = 101;
UPDATE users SET id = 1 WHERE id = 102;
COMMIT;
SELECT t.check('users');

-- DELETE
DELETE FROM users WHERE id = 5;
SELECT t.check('users');
DELETE FROM users USING (VALUES (4)) AS d(id) WHERE users.id = d.id;
SELECT t.check('users');
BEGIN;
DELETE FROM users WHERE id = 3;
INSERT INTO users VALUES (3, 'three', 3, 'again');
COMMIT;
SELECT t.check('users');

-- upsert
INSERT INTO users VALUES (1, 'Ada', 0, NULL), (7, 'seven', 7, NULL)
ON CONFLICT (id) DO UPDATE SET name = excluded.name || ' (upsert)';
SELECT t.check('users');
INSERT INTO users VALUES (1, 'nobody', 0, NULL) ON CONFLICT (id) DO UPDATE SET name = 'nobody' WHERE users.name = 'no such name';
SELECT t.check('users');

-- MERGE
MERGE INTO users AS u
USING (VALUES (1, 'merged'), (2, NULL), (8, 'eight'), (6, 'same')) AS m(id, name) ON u.id = m.id
WHEN MATCHED AND m.name IS NULL THEN DELETE
WHEN MATCHED AND m.name = 'same' THEN DO NOTHING
WHEN MATCHED THEN UPDATE SET name = m.name
WHEN NOT MATCHED THEN INSERT VALUES (m.id, m.name, 0, NULL);
SELECT t.check('users');

-- COPY
COPY users (id, name) FROM stdin;
9	nine
10	ten
\.
SELECT t.check('users');
BEGIN;
TRUNCATE users;
COPY users (id, name) FROM stdin;
1	one
2	two
\.
COMMIT;
SELECT t.check('users');

-- through a writable view, a CTE, a rule and a function
CREATE VIEW users_view AS SELECT id, name FROM users;
UPDATE users_view SET name = 'by view' WHERE id = 1;
SELECT t.check('users');
WITH moved AS (DELETE FROM users WHERE id = 1 RETURNING *) INSERT INTO users SELECT id + 20, name, amount, note FROM moved;
SELECT t.check('users');
CREATE RULE instead AS ON DELETE TO users_view DO INSTEAD UPDATE users SET name = 'gone' WHERE id = old.id;
DELETE FROM users_view WHERE id = 21;
SELECT t.check('users');
CREATE FUNCTION rename_user(k int, n text) RETURNS void LANGUAGE sql AS $$ UPDATE users SET name = n WHERE id = k $$;
SELECT rename_user(21, 'by function');
SELECT t.check('users');

-- a BEFORE trigger has the last word
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF new.note = 'skip' THEN RETURN NULL; END IF;
	new.note := coalesce(new.note, '') || '+';
	RETURN new;
END
$$;
CREATE TRIGGER stamp BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION stamp();
SELECT cachekit.stat_reset();
UPDATE users SET name = name;
SELECT t.counted('users');
SELECT t.check('users');
UPDATE users SET note = 'skip', name = 'never';
SELECT t.check('users');
DROP TRIGGER stamp ON users;
-- an AFTER trigger that changes another row, and one that fetches
CREATE FUNCTION echo() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF new.id = 2 AND new.name <> 'by function' THEN
		UPDATE users SET note = new.name WHERE id <> 2;
	END IF;
	RAISE NOTICE '%: %', new.id, cachekit.fetch('users', new.id) ->> 'name';
	RETURN NULL;
END
$$;
CREATE TRIGGER a_first AFTER UPDATE ON users FOR EACH ROW EXECUTE FUNCTION echo();
UPDATE users SET name = 'echo' WHERE id = 2;
SELECT t.check('users');
DROP TRIGGER a_first ON users;
CREATE CONSTRAINT TRIGGER at_commit AFTER UPDATE ON users DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION echo();
BEGIN;
UPDATE users SET name = 'deferred' WHERE id = 2;
COMMIT;
SELECT t.check('users');
DROP TRIGGER at_commit ON users;

-- TRUNCATE
SELECT t.check('users');
SELECT cachekit.stat_reset();
TRUNCATE users;
SELECT t.counted('users');
SELECT t.check('users');
INSERT INTO users VALUES (1, 'one', 1, NULL);
SELECT t.check('users');
BEGIN;
TRUNCATE users;
INSERT INTO users VALUES (1, 'uno', 1, NULL);
SELECT cachekit.fetch('users', 1);
COMMIT;
SELECT t.check('users');
BEGIN;
TRUNCATE users;
SELECT cachekit.fetch('users', 1);
ROLLBACK;
SELECT t.check('users');
SELECT t.counted('users');

-- replicas fire the triggers, too
SET session_replication_role = replica;
UPDATE users SET name = 'replica';
SELECT t.check('users');
INSERT INTO users VALUES (2, 'replica', 2, NULL);
SELECT t.check('users');
TRUNCATE users;
SELECT t.check('users');
SET session_replication_role = local;
INSERT INTO users VALUES (1, 'local', 1, NULL);
SELECT t.check('users');
RESET session_replication_role;

--
-- Foreign keys
--
CREATE TABLE posts (
	id int PRIMARY KEY,
	author int DEFAULT 1 REFERENCES users ON UPDATE CASCADE ON DELETE CASCADE,
	editor int REFERENCES users ON UPDATE SET NULL ON DELETE SET NULL,
	reader int DEFAULT 3 REFERENCES users ON UPDATE SET DEFAULT ON DELETE SET DEFAULT);
INSERT INTO users VALUES (2, 'two', 2, NULL), (3, 'three', 3, NULL), (4, 'four', 4, NULL);
INSERT INTO posts VALUES (1, 1, 2, 2), (2, 2, 1, 1), (3, 4, 4, 4), (4, 4, NULL, NULL);
SELECT cachekit.attach('posts');
SELECT t.check('users'), t.check('posts');
UPDATE users SET id = 5 WHERE id = 1;
SELECT t.check('users'), t.check('posts');
DELETE FROM users WHERE id = 2;
SELECT t.check('users'), t.check('posts');
DELETE FROM users WHERE id = 4;
SELECT t.check('users'), t.check('posts');
-- TRUNCATE … CASCADE
TRUNCATE users CASCADE;
SELECT t.check('users'), t.check('posts');
SELECT t.counted('posts');
-- a cascade into the key itself
CREATE TABLE profiles (user_id int PRIMARY KEY REFERENCES users ON UPDATE CASCADE ON DELETE CASCADE, v int);
INSERT INTO users VALUES (1, 'one', 1, NULL), (2, 'two', 2, NULL);
INSERT INTO profiles VALUES (1, 1), (2, 2);
SELECT cachekit.attach('profiles');
SELECT t.check('profiles');
UPDATE users SET id = id + 10;
SELECT t.check('profiles');
DELETE FROM users WHERE id = 11;
SELECT t.check('profiles'), t.check('users');

--
-- Only some columns are in the document
--
CREATE TABLE people (id int PRIMARY KEY, name text, seen int, secret text);
INSERT INTO people VALUES (1, 'Ada', 0, 'x'), (2, 'Bob', 0, 'y');
SELECT cachekit.attach('people', columns => '{name,seen}');
SELECT cachekit.fetch('people', 1);
SELECT t.check('people');
SELECT cachekit.stat_reset();
UPDATE people SET secret = 'z';
SELECT t.counted('people');
SELECT t.check('people');
SELECT t.counted('people');
UPDATE people SET seen = 1 WHERE id = 1;
SELECT t.check('people');
-- the key is not in the document, but it decides which one it is
UPDATE people SET id = 3 WHERE id = 2;
SELECT t.check('people');
SELECT t.counted('people');
DELETE FROM people WHERE id = 1;
SELECT t.check('people');

--
-- Generated and identity columns
--
CREATE TABLE computed (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a int, b int GENERATED ALWAYS AS (a * 2) STORED);
INSERT INTO computed (a) VALUES (1), (2);
SELECT cachekit.attach('computed', columns => '{b}');
SELECT t.check('computed');
SELECT cachekit.stat_reset();
UPDATE computed SET a = 10 WHERE id = 1;
SELECT t.counted('computed');
SELECT t.check('computed');
UPDATE computed SET id = DEFAULT WHERE id = 2;
SELECT t.check('computed');

--
-- Rows without a key: nobody can fetch them
--
CREATE TABLE nullable (k int UNIQUE, v int);
SELECT cachekit.attach('nullable', key => '{k}');
INSERT INTO nullable VALUES (NULL, 1), (NULL, 2), (3, 3);
SELECT t.check('nullable');
UPDATE nullable SET k = 1 WHERE v = 1;
SELECT t.check('nullable');
UPDATE nullable SET k = NULL WHERE v = 3;
SELECT t.check('nullable');
SELECT cachekit.fetch('nullable', NULL);

\set ECHO none
\i :end
