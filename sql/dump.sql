-- What pg_dump writes can be restored, and is attached as it was.
\set ECHO none
\getenv top PG_ABS_SRCDIR
\set begin :top '/sql/lib/begin.sql'
\set end :top '/sql/lib/end.sql'
\i :begin
\set ECHO all

CREATE TABLE users (id int PRIMARY KEY, name text, secret text);
INSERT INTO users VALUES (1, 'Ada', 'x'), (2, 'Bob', 'y');
SELECT cachekit.attach('users', name => 'the "users" of it''s', ttl => 'infinity', negative_ttl => '5 minutes', columns => '{name}');
CREATE TABLE "Lines" (a int, "B" int, v int, PRIMARY KEY (a, "B"));
INSERT INTO "Lines" VALUES (1, 1, 1);
SELECT cachekit.attach('"Lines"');
CREATE TABLE parted (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (1) TO (10);
CREATE TABLE parted_2 (v int, id int PRIMARY KEY);
ALTER TABLE parted ATTACH PARTITION parted_2 FOR VALUES FROM (10) TO (20);
INSERT INTO parted VALUES (1, 1), (11, 11);
SELECT cachekit.attach('parted');
SELECT t.check('users'), t.check('"Lines"'), t.check('parted');
SELECT * FROM cachekit.entities ORDER BY name;

-- restored into an empty database, without an error
\set database :DBNAME
\setenv DATABASE :DBNAME
CREATE DATABASE regress_cachekit_restored TEMPLATE template0;
\! pg_dump "$DATABASE" | psql -Xq -v ON_ERROR_STOP=1 -o /dev/null -d regress_cachekit_restored 2>&1
\c regress_cachekit_restored
DELETE FROM t.known;	-- of relations of the other database
SET search_path = s, public;
SELECT * FROM cachekit.entities ORDER BY name;
SELECT tgrelid::regclass, tgname, tgenabled FROM pg_trigger WHERE tgname ~ '^cachekit' ORDER BY tgrelid::regclass::text, tgname;
SELECT * FROM cachekit.health();
SELECT t.check('users'), t.check('"Lines"'), t.check('parted');
UPDATE users SET name = 'restored';
UPDATE "Lines" SET "B" = 2, v = 2;
UPDATE parted SET v = 2;
SELECT t.check('users'), t.check('"Lines"'), t.check('parted');
TRUNCATE parted_2;
SELECT t.check('parted');
CREATE TABLE parted_3 PARTITION OF parted FOR VALUES FROM (20) TO (30);
INSERT INTO parted VALUES (21, 21);
SELECT t.check('parted');
TRUNCATE parted_3;
SELECT t.check('parted');
DROP EXTENSION cachekit;
SELECT tgrelid::regclass, tgname FROM pg_trigger WHERE tgname ~ '^cachekit';
\c :database
SET search_path = s, public;
DROP DATABASE regress_cachekit_restored;

-- the data alone, into tables that are there and cached
SELECT t.check('users'), t.check('"Lines"'), t.check('parted');
\! pg_dump -a --disable-triggers -n s "$DATABASE" >"${TMPDIR:-/tmp}/regress_cachekit.$PPID"
DELETE FROM users;
UPDATE "Lines" SET v = -1;
TRUNCATE "Lines", parted;
SELECT t.check('users'), t.check('"Lines"'), t.check('parted');
\! psql -Xq -v ON_ERROR_STOP=1 -o /dev/null -d "$DATABASE" -f "${TMPDIR:-/tmp}/regress_cachekit.$PPID" 2>&1; rm -f "${TMPDIR:-/tmp}/regress_cachekit.$PPID"
SELECT t.check('users'), t.check('"Lines"'), t.check('parted');
SELECT name, sound FROM cachekit.entities ORDER BY name;
UPDATE users SET name = 'after';
UPDATE "Lines" SET v = 3;
UPDATE parted SET v = 3;
SELECT t.check('users'), t.check('"Lines"'), t.check('parted');

\set ECHO none
\i :end
