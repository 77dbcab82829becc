-- Parameters without a type, as drivers send them.
\set ECHO none
\getenv top PG_ABS_SRCDIR
\set begin :top '/sql/lib/begin.sql'
\set end :top '/sql/lib/end.sql'
\i :begin
\set ECHO all

CREATE TABLE users (id int PRIMARY KEY, name text);
INSERT INTO users VALUES (1, 'Ada'), (42, 'Bob');
CREATE TABLE lines (a int, b int, v int, PRIMARY KEY (a, b));
INSERT INTO lines VALUES (7, 2, 1), (8, 3, 2);
SELECT cachekit.attach('users'), cachekit.attach('lines');

-- known to be text, which is what a driver then sends
PREPARE fetch_1 AS SELECT cachekit.fetch('users', $1);
PREPARE fetch_2 AS SELECT cachekit.fetch($1, $2);
PREPARE fetch_3 AS SELECT cachekit.fetch($1, $2, $3);
PREPARE fetch_row_1 AS SELECT cachekit.fetch_row(NULL::users, $1);
PREPARE fetch_row_2 AS SELECT cachekit.fetch_row(NULL::users, $1, $2);
PREPARE fetch_many_1 AS SELECT * FROM cachekit.fetch_many('users', $1);
PREPARE fetch_many_2 AS SELECT * FROM cachekit.fetch_many($1, $2, $3);
PREPARE key_1 AS SELECT cachekit.key('users', $1);
PREPARE key_2 AS SELECT cachekit.key($1, $2);
PREPARE inspect_1 AS SELECT tier, present FROM cachekit.inspect('users', $1);
PREPARE invalidate_1 AS SELECT cachekit.invalidate('users', $1);
PREPARE flush_1 AS SELECT cachekit.flush($1);
PREPARE attach_1 AS SELECT cachekit.attach($1, key => $2, ttl => $3, columns => $4);
PREPARE fetch_line AS SELECT cachekit.fetch('lines', $1);
PREPARE fetch_line_row AS SELECT cachekit.fetch('lines', ($1, $2));
PREPARE fetch_line_ints (int, int) AS SELECT cachekit.fetch('lines', ($1, $2));
SELECT name, parameter_types FROM pg_prepared_statements ORDER BY name;
EXECUTE fetch_1('42');
EXECUTE fetch_1('042');
EXECUTE fetch_1(42);
EXECUTE fetch_1(NULL);
EXECUTE fetch_1('x');
EXECUTE fetch_2('users', '1');
EXECUTE fetch_2('lines', '(7,2)');
EXECUTE fetch_3('users', '1', 'bypass');
EXECUTE fetch_row_1('42');
EXECUTE fetch_row_2('42', 'fresh');
EXECUTE fetch_many_1('{42,1,5}');
EXECUTE fetch_many_2('users', '{42}', 'refresh');
EXECUTE key_1('42');
EXECUTE key_2('lines', '(7,2)');
EXECUTE inspect_1('42');
EXECUTE invalidate_1('42');
EXECUTE inspect_1('42');
EXECUTE flush_1('users');
EXECUTE attach_1('users', '{id}', '1 hour', '{name}');
EXECUTE fetch_1('42');
EXECUTE fetch_line('(8,3)');
EXECUTE fetch_line_row('8', '3');
EXECUTE fetch_line_ints(8, 3);

-- typed ones
PREPARE typed_int (int) AS SELECT cachekit.fetch('users', $1);
PREPARE typed_bigint (bigint) AS SELECT cachekit.fetch('users', $1);
PREPARE typed_numeric (numeric) AS SELECT cachekit.fetch('users', $1);
PREPARE typed_text (text) AS SELECT cachekit.fetch('users', $1);
PREPARE typed_varchar (varchar) AS SELECT cachekit.fetch('users', $1);
PREPARE typed_unknown (unknown) AS SELECT cachekit.fetch('users', $1);
PREPARE typed_ints (int[]) AS SELECT * FROM cachekit.fetch_many('users', $1);
PREPARE typed_texts (text[]) AS SELECT * FROM cachekit.fetch_many('users', $1);
EXECUTE typed_int(42);
EXECUTE typed_bigint(42);
EXECUTE typed_numeric(42.0);
EXECUTE typed_numeric(42.5);
EXECUTE typed_text('42');
EXECUTE typed_varchar('42');
EXECUTE typed_unknown('42');
EXECUTE typed_ints('{42,NULL}');
EXECUTE typed_texts('{"042"}');
-- the same plan, for a key column that has another type meanwhile
ALTER TABLE users ALTER COLUMN id TYPE text;
EXECUTE typed_int(42);
EXECUTE typed_numeric(42.0);
EXECUTE typed_text('042');
EXECUTE fetch_1('42');
ALTER TABLE users ALTER COLUMN id TYPE bigint USING id::bigint;
EXECUTE typed_int(42);
EXECUTE typed_numeric(42.0);
EXECUTE typed_text('042');
EXECUTE fetch_1('42');
-- changes of the table are seen by all of them
UPDATE users SET name = 'changed';
EXECUTE typed_int(42);
EXECUTE fetch_1('42');
EXECUTE fetch_many_1('{42}');

-- PL/pgSQL
CREATE FUNCTION by_variable(k anyelement) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN cachekit.fetch('users', k); END $$;
SELECT by_variable(42), by_variable(42::bigint), by_variable('42'::text), by_variable(42.0);
CREATE FUNCTION by_dynamic(k text) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	r jsonb;
BEGIN
	EXECUTE 'SELECT cachekit.fetch($1, $2)' INTO r USING 'users'::regclass, k;
	RETURN r;
END
$$;
SELECT by_dynamic('42');
DO $$
DECLARE
	r users;
BEGIN
	r := cachekit.fetch_row(NULL::users, 42);
	RAISE NOTICE '%', r.name;
	FOR r IN SELECT (cachekit.fetch_row(NULL::users, k)).* FROM unnest(ARRAY[1, 42]) AS k LOOP
		RAISE NOTICE '%', r;
	END LOOP;
END
$$;
-- the key as a column, and as an expression without a type
SELECT cachekit.fetch('users', id) FROM users ORDER BY id;
SELECT cachekit.fetch('users', (SELECT '42')), cachekit.fetch('users', CASE WHEN true THEN '42' END);
SELECT cachekit.fetch(relation, '42') FROM cachekit.entities WHERE name = 'users';
SELECT cachekit.fetch('users'::text::regclass, 42), cachekit.fetch('s.users', 42);
SELECT cachekit.fetch('no_such_table', 42);

\set ECHO none
\i :end
