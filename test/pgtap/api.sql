-- The SQL surface: every function, view, column and setting that users may rely on.
\set QUIET on
\pset format unaligned
\pset tuples_only on
SELECT no_plan();

-- functions: arguments with their names and defaults, and what they return
CREATE TEMP TABLE surface (signature text PRIMARY KEY, result text, executable boolean);
INSERT INTO surface VALUES
('attach(relation regclass, key name[] DEFAULT NULL::name[], name text DEFAULT NULL::text, servers name[] DEFAULT NULL::name[], ttl cachekit.ttl DEFAULT NULL::cachekit.ttl, negative_ttl cachekit.ttl DEFAULT NULL::cachekit.ttl, on_change text DEFAULT NULL::text, local boolean DEFAULT NULL::boolean, columns name[] DEFAULT NULL::name[], many boolean DEFAULT NULL::boolean, allow_untracked boolean DEFAULT NULL::boolean, refresh_absent boolean DEFAULT NULL::boolean, ttl_jitter integer DEFAULT NULL::integer, max_value_size integer DEFAULT NULL::integer, early_refresh double precision DEFAULT NULL::double precision)', 'void', true),
('add_dependency(entity regclass, base regclass, key name[] DEFAULT NULL::name[], via text DEFAULT NULL::text)', 'void', true),
('drop_dependency(entity regclass, base regclass)', 'void', true),
('detach(relation regclass)', 'void', true),
('fetch(entity regclass, key "any", strategy text DEFAULT ''refresh''::text)', 'jsonb', true),
('fetch(entity regclass, key text, strategy text DEFAULT ''refresh''::text)', 'jsonb', true),
('fetch_row("row" anyelement, key "any", strategy text DEFAULT ''refresh''::text)', 'anyelement', true),
('fetch_row("row" anyelement, key text, strategy text DEFAULT ''refresh''::text)', 'anyelement', true),
('fetch_many(entity regclass, keys anyarray, strategy text DEFAULT ''refresh''::text, consistent boolean DEFAULT false, OUT key text, OUT value jsonb)', 'SETOF record', true),
('fetch_many(entity regclass, keys text, strategy text DEFAULT ''refresh''::text, consistent boolean DEFAULT false, OUT key text, OUT value jsonb)', 'SETOF record', true),
('key(entity regclass, key "any", server name DEFAULT NULL::name)', 'text', true),
('key(entity regclass, key text, server name DEFAULT NULL::name)', 'text', true),
('audit(entity regclass, sample integer DEFAULT 1000, OUT key text, OUT tier text, OUT problem text, OUT cached jsonb, OUT current jsonb)', 'SETOF record', true),
('inspect(entity regclass, key "any", OUT tier text, OUT present boolean, OUT bytes integer, OUT ttl interval, OUT fenced boolean)', 'SETOF record', true),
('inspect(entity regclass, key text, OUT tier text, OUT present boolean, OUT bytes integer, OUT ttl interval, OUT fenced boolean)', 'SETOF record', true),
('invalidate(entity regclass, key "any")', 'void', true),
('invalidate(entity regclass, key text)', 'void', true),
('flush(entity regclass)', 'void', true),
('flush()', 'void', true),
('view_reads(view regclass, key name[], OUT relation text, OUT columns text, OUT derived text, OUT complete boolean)', 'SETOF record', true),
('view_problems(view regclass)', 'SETOF text', true),
('stat_reset()', 'void', false),
('health(OUT severity text, OUT subject text, OUT problem text, OUT hint text)', 'SETOF record', false),
-- triggers: without them an owner's CREATE TABLE … PARTITION OF would fail
('on_row_change()', 'trigger', true),
('on_truncate()', 'trigger', true);

CREATE TEMP VIEW functions AS
SELECT oid, proname || '(' || pg_get_function_arguments(oid) || ')' AS signature, pg_get_function_result(oid) AS result,
	proname, provolatile, proparallel, prosecdef, proconfig, prolang
FROM pg_proc WHERE pronamespace = 'cachekit'::regnamespace;

SELECT is(f.result, s.result, s.signature || ' returns ' || s.result)
FROM surface AS s LEFT JOIN functions AS f USING (signature) ORDER BY s.signature;
SELECT is(has_function_privilege('public', f.oid, 'EXECUTE'), s.executable,
	s.signature || CASE WHEN s.executable THEN ' is executable by PUBLIC' ELSE ' is not executable by PUBLIC' END)
FROM surface AS s JOIN functions AS f USING (signature) ORDER BY s.signature;

-- the one procedure
SELECT set_eq($$ SELECT signature FROM functions JOIN pg_proc USING (oid) WHERE prokind = 'p' $$,
	ARRAY['warm(IN entity regclass, IN query text DEFAULT NULL::text, IN batch integer DEFAULT 1000, IN restart boolean DEFAULT false)'], 'procedures');
SELECT ok(has_function_privilege('public', 'cachekit.warm(regclass, text, integer, boolean)', 'EXECUTE'), 'warm is executable by PUBLIC');

-- for functions of whatever purpose
SELECT ok(obj_description(oid, 'pg_proc') ~ '\w', oid::regprocedure || ' has a description') FROM functions ORDER BY oid::regprocedure::text;
SELECT is(provolatile, 'v', oid::regprocedure || ' is volatile') FROM functions
WHERE proname NOT IN ('ttl_in', 'ttl_out') ORDER BY oid::regprocedure::text;
SELECT is(proparallel, 'u', oid::regprocedure || ' is parallel unsafe') FROM functions
WHERE proname NOT IN ('ttl_in', 'ttl_out') ORDER BY oid::regprocedure::text;
SELECT is_empty($$ SELECT oid::regprocedure FROM functions WHERE prosecdef $$, 'no function runs as its owner');
SELECT is_empty($$ SELECT f.oid::regprocedure FROM functions AS f JOIN pg_language AS l ON l.oid = f.prolang
	WHERE l.lanname <> 'c' AND NOT coalesce(f.proconfig::text ~ 'search_path=pg_catalog, pg_temp', false) $$,
	'every function that is not in C has a search path of its own');
SELECT set_eq($$ SELECT DISTINCT proname::text FROM functions WHERE NOT has_function_privilege('public', oid, 'EXECUTE') $$,
	ARRAY['stat_reset', 'health'], 'what PUBLIC may not execute');

-- views
SELECT columns_are('cachekit', 'entities', ARRAY['name', 'relation', 'key', 'servers', 'ttl', 'negative_ttl', 'on_change', 'local', 'columns', 'sound',
	'many', 'allow_untracked', 'refresh_absent', 'ttl_jitter', 'max_value_size', 'early_refresh']);
SELECT columns_are('cachekit', 'dependencies', ARRAY['name', 'relation', 'base', 'key', 'via', 'query', 'derived']);
SELECT columns_are('cachekit', 'stat_entities', ARRAY['name', 'local_hits', 'server_hits', 'negative_hits', 'misses', 'loads', 'waits',
	'bypass_own_change', 'bypass_transaction', 'bypass_isolation', 'bypass_fenced', 'bypass_recovery', 'bypass_disabled', 'bypass_unsound',
	'fills', 'fills_refused', 'invalidations', 'flushes', 'errors', 'links_unresolved', 'early_refreshes', 'latency_histogram']);
SELECT col_type_is('cachekit', 'entities', c.name, c.type, 'entities.' || c.name || ' is ' || c.type)
FROM (VALUES ('name', 'text'), ('relation', 'regclass'), ('key', 'name[]'), ('servers', 'name[]'), ('ttl', 'cachekit.ttl'), ('negative_ttl', 'cachekit.ttl'),
	('on_change', 'text'), ('local', 'boolean'), ('columns', 'name[]'), ('sound', 'boolean')) AS c(name, type);
SELECT is(format_type(atttypid, atttypmod), CASE attname WHEN 'name' THEN 'text' WHEN 'latency_histogram' THEN 'bigint[]' ELSE 'bigint' END, 'type of stat_entities.' || attname)
FROM pg_attribute WHERE attrelid = 'cachekit.stat_entities'::regclass AND attnum > 0 ORDER BY attnum;
SELECT columns_are('cachekit', 'warm_progress', ARRAY['name', 'done', 'total', 'rate', 'time_left', 'started_at', 'updated_at', 'finished']);
SELECT ok(obj_description(c.oid, 'pg_class') ~ '\w', c.oid::regclass || ' has a description') FROM pg_class AS c
WHERE relnamespace = 'cachekit'::regnamespace AND relkind IN ('r', 'v') ORDER BY relname;
SELECT ok(col_description(attrelid, attnum) ~ '\w', 'stat_entities.' || attname || ' has a description')
FROM pg_attribute WHERE attrelid = 'cachekit.stat_entities'::regclass AND attnum > 1 ORDER BY attnum;
SELECT ok(has_table_privilege('public', 'cachekit.entities', 'SELECT'), 'PUBLIC reads entities');
SELECT ok(has_table_privilege('public', 'cachekit.stat_entities', 'SELECT'), 'PUBLIC reads stat_entities');
SELECT ok(has_table_privilege('public', 'cachekit.warm_progress', 'SELECT'), 'PUBLIC reads warm_progress');
SELECT is_empty($$ SELECT c.oid::regclass, p.privilege FROM pg_class AS c,
		unnest('{SELECT,INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}'::text[]) AS p(privilege)
	WHERE relnamespace = 'cachekit'::regnamespace AND relkind IN ('r', 'v') AND has_table_privilege('public', c.oid, p.privilege)
	AND NOT (relkind = 'v' AND p.privilege = 'SELECT') $$, 'PUBLIC has no other privilege on a relation');
SELECT ok(has_schema_privilege('public', 'cachekit', 'USAGE'), 'PUBLIC may use the schema');
SELECT ok(NOT has_schema_privilege('public', 'cachekit', 'CREATE'), 'PUBLIC may not create in it');

-- settings
SELECT set_has($$ SELECT name FROM pg_settings $$,
	$$ VALUES ('cachekit.enabled'), ('cachekit.local_memory'), ('cachekit.max_entities'), ('cachekit.default_ttl'), ('cachekit.ttl_jitter'),
		('cachekit.fetch_timeout'), ('cachekit.max_changed_keys'), ('cachekit.max_value_size') $$, 'the settings are there');
SELECT ok(short_desc ~ '^[A-Z].*\.$' AND extra_desc ~ '\.$', name || ' has a description') FROM pg_settings WHERE name LIKE 'cachekit.%' AND name NOT LIKE '%.debug%' ORDER BY name;
SELECT is(context, CASE WHEN name IN ('cachekit.enabled', 'cachekit.fetch_timeout') THEN 'user'
	WHEN name IN ('cachekit.local_memory', 'cachekit.max_entities', 'cachekit.fence_stripes') THEN 'postmaster' ELSE 'superuser' END, 'context of ' || name)
FROM pg_settings WHERE name IN ('cachekit.enabled', 'cachekit.fetch_timeout', 'cachekit.local_memory', 'cachekit.max_entities', 'cachekit.fence_stripes',
	'cachekit.default_ttl', 'cachekit.ttl_jitter', 'cachekit.max_changed_keys', 'cachekit.max_value_size') ORDER BY name;

-- the type of times to live
SELECT has_type('cachekit', 'ttl', 'there is a type of its own');
SELECT is('infinity'::cachekit.ttl::text, 'infinity', 'infinity in and out');
SELECT is('1 day'::interval::cachekit.ttl::text, '1 day', 'an interval is one');
SELECT is(('1 day'::cachekit.ttl + interval '1 hour')::text, '1 day 01:00:00', 'and it is an interval');
SELECT throws_ok($$ SELECT 'soon'::cachekit.ttl $$, '22007', NULL, 'but nothing else is');

-- errors have codes that a program can tell apart
CREATE SCHEMA s;
CREATE TABLE s.users (id int PRIMARY KEY, name text, f float8);
CREATE TABLE s.no_key (id int);
CREATE TEMP TABLE temporary (id int PRIMARY KEY);
CREATE VIEW s.a_view AS SELECT 1 AS id;
SELECT throws_ok($$ SELECT cachekit.fetch('s.users', 1) $$, '55000', 'relation "users" is not attached to cachekit');
SELECT throws_ok($$ SELECT cachekit.detach('s.users') $$, '55000', 'relation "users" is not attached to cachekit');
SELECT throws_ok($$ SELECT cachekit.attach('s.no_key') $$, '42P16', 'cannot attach "no_key": it has no primary key');
SELECT throws_ok($$ SELECT cachekit.attach('temporary') $$, '42809', 'cannot attach "temporary": it is a temporary table');
SELECT throws_ok($$ SELECT cachekit.attach('s.a_view') $$, '42P16', 'cannot attach "a_view": it has no primary key');
SELECT lives_ok($$ SELECT cachekit.attach('s.a_view', key => '{id}') $$, 'a view that reads nothing');
SELECT is(cachekit.fetch('s.a_view', 1), '{"id": 1}', 'is cached for good');
SELECT throws_ok($$ SELECT cachekit.drop_dependency('s.a_view', 's.no_key') $$, '42704', 'entity "a_view" has no dependency on "no_key"');
SELECT throws_ok($$ SELECT cachekit.attach('s.a_view', ttl_jitter => 101) $$, '22003', '"ttl_jitter" must be between -1 and 100');
SELECT throws_ok($$ SELECT cachekit.attach('s.a_view', max_value_size => -2) $$, '22003', NULL, 'a negative size');
SELECT throws_ok($$ SELECT cachekit.attach('s.a_view', early_refresh => 'NaN') $$, '22003', NULL, 'no number');
SELECT throws_ok($$ SELECT cachekit.attach('s.a_view', on_change => 'x') $$, '22023', 'unknown on_change "x"');
SELECT throws_ok($$ SELECT cachekit.attach('s.users', key => '{f}') $$, '0A000', 'column "f" of type double precision cannot be a key');
SELECT throws_ok($$ SELECT cachekit.attach('s.users', key => '{x}') $$, '42703', 'column "x" of relation "users" does not exist');
SELECT throws_ok($$ SELECT cachekit.attach('s.users', columns => '{x}') $$, '42703', 'column "x" of relation "users" does not exist');
SELECT throws_ok($$ SELECT cachekit.attach('s.users', key => '{id,id}') $$, '42701', NULL, 'a column twice');
SELECT throws_ok($$ SELECT cachekit.attach('s.users', ttl => '0') $$, '22023', '"ttl" must be greater than zero');
SELECT throws_ok($$ SELECT cachekit.attach('s.users', on_change => 'x') $$, '22023', 'unknown on_change "x"');
SELECT throws_ok($$ SELECT cachekit.attach('s.users', servers => '{x}') $$, '42704', 'server "x" does not exist');
SELECT throws_ok($$ SELECT cachekit.attach('s.users', name => 'cachekit') $$, '42939', NULL, 'a reserved name');
SELECT throws_ok($$ SELECT cachekit.attach('s.users', name => '') $$, '42602', NULL, 'no name');
SELECT throws_ok($$ SELECT cachekit.attach('s.users', name => repeat('x', 121)) $$, '42622', NULL, 'a long name');
SELECT throws_ok($$ SELECT cachekit.attach(NULL) $$, '22004', NULL, 'no relation');
SELECT lives_ok($$ SELECT cachekit.attach('s.users') $$, 'attach');
SELECT throws_ok($$ SELECT cachekit.fetch('s.users', 1, 'x') $$, '22023', 'unknown strategy "x"');
SELECT throws_ok($$ SELECT cachekit.fetch('s.users', 'x') $$, '22P02', 'invalid input syntax for type integer: "x"');
SELECT throws_ok($$ SELECT cachekit.fetch('s.users', (1, 2)) $$, '22023', NULL, 'too many columns');
SELECT throws_ok($$ SELECT cachekit.fetch('s.users', now()) $$, '42846', NULL, 'no cast');
SELECT throws_ok($$ SELECT cachekit.fetch_row(1, 1) $$, '42804', NULL, 'not a row type');
SELECT throws_ok($$ SELECT cachekit.key('s.users', 1, 'x') $$, '42704', NULL, 'no such server');
SELECT throws_ok($$ ALTER TABLE s.users DROP COLUMN id $$, '2BP01', NULL, 'a column of a key');
SELECT lives_ok($$ SELECT cachekit.detach('s.users') $$, 'detach');

SELECT * FROM finish();
