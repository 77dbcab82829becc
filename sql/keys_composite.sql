-- Keys of several columns, as rows and as text.
\set ECHO none
\getenv top PG_ABS_SRCDIR
\set begin :top '/sql/lib/begin.sql'
\set end :top '/sql/lib/end.sql'
\i :begin
\set ECHO all

CREATE TABLE lines (
	order_id int,
	n smallint,
	what text,
	PRIMARY KEY (order_id, n));
INSERT INTO lines VALUES (7, 2, 'tea'), (7, 3, 'milk'), (8, 2, 'sugar');
SELECT cachekit.attach('lines');
SELECT key FROM cachekit.entities;

-- one key, one document
SELECT cachekit.fetch('lines', (7, 2));
SELECT cachekit.fetch('lines', ROW(7, 2)), cachekit.fetch('lines', '(7,2)'), cachekit.fetch('lines', ' ( 07, 2 ) ');
SELECT cachekit.fetch('lines', (7::bigint, 2.0)), cachekit.fetch('lines', ('7', '2'));
SELECT cachekit.fetch('lines', ('7'::text, '2'::varchar)), cachekit.fetch('lines', '(7,2)'::varchar),
	cachekit.fetch('lines', '("7","2")'::text);
CREATE TYPE line_key AS (a bigint, b bigint);
SELECT cachekit.fetch('lines', (7, 2)::line_key);
CREATE DOMAIN line_key_domain AS line_key;
SELECT cachekit.fetch('lines', (7, 2)::line_key::line_key_domain);
CREATE TABLE line_refs (a int, gone int, b int);
ALTER TABLE line_refs DROP COLUMN gone;
INSERT INTO line_refs VALUES (7, 2);
SELECT cachekit.fetch('lines', r) FROM line_refs AS r;
SELECT DISTINCT cachekit.key('lines', k) FROM unnest(ARRAY[(7, 2)::line_key, (7, 3)::line_key]) AS k ORDER BY 1;
SELECT t.counted('lines');

-- many
SELECT * FROM cachekit.fetch_many('lines', ARRAY[(8, 2), (7, 9), (7, 2)]);
SELECT * FROM cachekit.fetch_many('lines', ARRAY[(8, 2), NULL, (8, NULL), (8, 2)]::line_key[]);
SELECT * FROM cachekit.fetch_many('lines', '{"(8,2)","(7,9)",NULL,"(7,)"}');
SELECT * FROM cachekit.fetch_many('lines', ARRAY['(8,2)', '(7,2)']);
SELECT cachekit.fetch_row(NULL::lines, (7, 3)), (cachekit.fetch_row(NULL::lines, '(7,3)')).what;

-- no key
SELECT cachekit.fetch('lines', (7, NULL)), cachekit.fetch('lines', '(7,)'), cachekit.fetch('lines', '(,)'),
	cachekit.key('lines', (NULL, 2)), cachekit.fetch('lines', NULL::line_key);
-- the wrong number of columns
SELECT cachekit.fetch('lines', 7);
SELECT cachekit.fetch('lines', '7');
SELECT cachekit.fetch('lines', ROW(7));
SELECT cachekit.fetch('lines', (7, 2, 1));
SELECT cachekit.fetch('lines', ROW());
SELECT cachekit.fetch('lines', '(7)');
SELECT cachekit.fetch('lines', '(7,2,1)');
SELECT cachekit.fetch('lines', '');
SELECT cachekit.fetch('lines', '(7,2');
SELECT cachekit.fetch('lines', ARRAY[7, 2]);
SELECT cachekit.key('lines', 7);
SELECT * FROM cachekit.fetch_many('lines', ARRAY[7, 2]);
SELECT cachekit.invalidate('lines', (7, 2, 1));
-- a field that is none of its column's
SELECT cachekit.fetch('lines', (7, 2.5));
SELECT cachekit.fetch('lines', '(7,two)');
SELECT cachekit.fetch('lines', (7, date '2024-01-01'));
SELECT cachekit.fetch('lines', (7, 99999));

-- changes
SELECT t.check('lines');
UPDATE lines SET what = 'coffee' WHERE (order_id, n) = (7, 2);
SELECT t.check('lines');
UPDATE lines SET n = 4 WHERE (order_id, n) = (7, 3);
SELECT t.check('lines');
UPDATE lines SET order_id = 10 - order_id;
SELECT t.check('lines');
SELECT cachekit.invalidate('lines', (2, 2)), cachekit.invalidate('lines', '(2,4)');
SELECT t.counted('lines');
DELETE FROM lines;
SELECT t.check('lines');

-- parts that look like separators must not be confused with them
CREATE TABLE pairs (a text, b text, v int, PRIMARY KEY (b, a));
SELECT cachekit.attach('pairs');
SELECT key FROM cachekit.entities WHERE name = 'pairs';
SELECT cachekit.attach('pairs', key => '{a,b}');
INSERT INTO pairs VALUES ('x:y', 'z', 1), ('x', 'y:z', 2), ('', 'x:y:z', 3), ('x%3Ay', 'z', 4), ('x,y', 'z"', 5),
	('(', ')', 6), (' ', '\', 7), ('', '', 8), ('x', '', 9), ('', 'x', 10), (E'\n', E'\t', 11), ('{}', '"', 12), ('null', 'NULL', 13);
SELECT v, substr(cachekit.key('pairs', (a, b)), 26) AS key, f.key AS canonical, f.value ->> 'v' AS fetched
FROM pairs AS p, LATERAL cachekit.fetch_many('pairs', ARRAY[(a, b)]) AS f ORDER BY v;
SELECT count(DISTINCT cachekit.key('pairs', (a, b))) FROM pairs;
-- what is canonical is a key itself
SELECT v FROM pairs AS p, LATERAL cachekit.fetch_many('pairs', ARRAY[(a, b)]) AS f
WHERE cachekit.key('pairs', f.key) <> cachekit.key('pairs', (a, b));
SELECT cachekit.fetch('pairs', ('x', 'y:z')), cachekit.fetch('pairs', ('x:y', 'z'));
SELECT t.check('pairs');
UPDATE pairs SET v = -v;
SELECT t.check('pairs');

-- as many columns as an index can have, and no more
SELECT format('CREATE TABLE wide (%s, v int, PRIMARY KEY (%s))', string_agg(format('c%s int', i), ', '), string_agg(format('c%s', i), ', '))
FROM generate_series(1, 32) AS i
\gexec
SELECT cachekit.attach('wide');
SELECT format('INSERT INTO wide VALUES (%s, 1)', string_agg(i::text, ', ')) FROM generate_series(1, 32) AS i
\gexec
SELECT t.check('wide');
UPDATE wide SET v = 2, c32 = 0;
SELECT t.check('wide');
ALTER TABLE wide ADD COLUMN c33 int;
SELECT cachekit.attach('wide', key => (SELECT array_agg('c' || i ORDER BY i)::name[] FROM generate_series(1, 33) AS i));

-- key columns of other types, and in the middle of the row
CREATE TABLE mixed (
	v int,
	at timestamptz,
	amount numeric,
	gone int,
	code char(4),
	raw bytea,
	UNIQUE (at, amount, code, raw));
ALTER TABLE mixed DROP COLUMN gone;
INSERT INTO mixed VALUES (1, '2024-07-01 12:00+02', 1.50, 'ab', '\x00ff');
SELECT cachekit.attach('mixed', key => '{code,amount,raw,at}');
SET TimeZone = 'Europe/Berlin';
SET bytea_output = 'escape';
SELECT cachekit.key('mixed', ('ab'::text, 1.5, '\x00ff'::bytea, timestamptz '2024-07-01 12:00'));
SELECT cachekit.fetch('mixed', ('ab'::text, 1.5, '\x00ff'::bytea, timestamptz '2024-07-01 12:00'));
SELECT cachekit.fetch('mixed', '(ab,1.500,\\x00ff,"2024-07-01 12:00")');
SELECT cachekit.fetch('mixed', k.key) FROM cachekit.fetch_many('mixed', ARRAY['(ab,1.500,\\x00ff,"2024-07-01 12:00")']) AS k;
SET TimeZone = 'UTC';
SET bytea_output = 'hex';
UPDATE mixed SET v = 2;
SELECT cachekit.fetch('mixed', '(ab,1.500,\\x00ff,"2024-07-01 10:00")');
RESET TimeZone;
RESET bytea_output;

\set ECHO none
\i :end
