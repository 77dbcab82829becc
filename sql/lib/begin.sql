-- begin.sql - what the regression tests share; each begins with it and ends with end.sql
--
-- Makes the extension, the schema s for the tables of the test, and the schema t:
--
--   t.check(relation)   fetches every key of the relation that it can find, now or in an earlier
--                       call, twice, and compares with what the table has. So it fills the cache
--                       before a change, and after it a stale document is a line of output.
--   t.counted(entity)   what the entity's counters counted since the last call.

SET client_min_messages = warning;
CREATE EXTENSION cachekit;
CREATE SCHEMA s;
CREATE SCHEMA t;

CREATE TABLE t.known (relation oid, parts text[], PRIMARY KEY (relation, parts));

CREATE FUNCTION t.check(rel regclass) RETURNS text LANGUAGE plpgsql
SET TimeZone = 'UTC' SET DateStyle = 'ISO, YMD' SET IntervalStyle = 'postgres'
SET bytea_output = 'hex' SET extra_float_digits = 1 SET lc_monetary = 'C'
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	entity record;
	types text[];
	parts_of text;			-- expression: the key of the row k as text[]
	is_key text;			-- condition: the row k has the key $1
	document text;			-- expression: the document of the row k
	parts text[];
	key text;
	truth jsonb;
	found jsonb;
	n int := 0;
	wrong text[] := '{}';
	new_keys text[][];
BEGIN
	SELECT * INTO STRICT entity FROM cachekit.entities AS e WHERE e.relation = rel;
	SELECT array_agg(pg_catalog.format_type(a.atttypid, NULL) ORDER BY c.n),
		'ARRAY[' || string_agg(format('k.%I::text', c.name), ', ' ORDER BY c.n) || ']',
		string_agg(format('k.%I = ($1)[%s]::%s', c.name, c.n,
			pg_catalog.format_type(a.atttypid, NULL)), ' AND ' ORDER BY c.n)
	INTO types, parts_of, is_key
	FROM unnest(entity.key) WITH ORDINALITY AS c(name, n)
	JOIN pg_attribute AS a ON a.attrelid = rel AND a.attname = c.name;
	IF entity.columns IS NULL THEN
		document := 'to_jsonb(k.*)';
	ELSE
		SELECT 'jsonb_build_object(' || string_agg(format('%L, k.%I', name, name), ', ') || ')'
		INTO document FROM unnest(entity.columns) AS c(name);
	END IF;

	FOR parts IN EXECUTE format('SELECT %s FROM %s AS k UNION SELECT parts FROM t.known '
		'WHERE relation = %L::oid ORDER BY 1', parts_of, rel, rel::oid)
	LOOP
		CONTINUE WHEN array_position(parts, NULL) IS NOT NULL;
		n := n + 1;
		key := parts[1];
		IF cardinality(parts) > 1 THEN
			SELECT '(' || string_agg('"' || replace(replace(p, '\', '\\'), '"', '\"') || '"', ','
				ORDER BY o) || ')'
			INTO key FROM unnest(parts) WITH ORDINALITY AS u(p, o);
		END IF;
		FOR i IN 1..2 LOOP
			found := cachekit.fetch(rel, key);
			truth := NULL;
			EXECUTE format('SELECT %s FROM %s AS k WHERE %s', document, rel, is_key)
			INTO truth USING parts;
			-- as text: as jsonb, 1.0 and 1.00 are equal
			IF found::text IS DISTINCT FROM truth::text THEN
				wrong := wrong || format('fetch %s of key %s gave %s, the table has %s', i, key,
					coalesce(found::text, 'nothing'), coalesce(truth::text, 'nothing'));
			END IF;
		END LOOP;
	END LOOP;

	-- only where there is something new: writing is what keeps a transaction from the cache
	EXECUTE format('INSERT INTO t.known SELECT DISTINCT %L::oid, %s FROM %s AS k '
		'WHERE (k.*) IS DISTINCT FROM NULL AND array_position(%2$s, NULL) IS NULL '
		'AND NOT EXISTS (SELECT FROM t.known AS o WHERE o.relation = %1$L::oid AND o.parts = %2$s)',
		rel::oid, parts_of, rel);
	IF wrong <> '{}' THEN
		RETURN 'WRONG: ' || array_to_string(wrong, '; ');
	END IF;
	RETURN format('%s right', n);
END
$$;

CREATE FUNCTION t.counted(entity text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	SELECT string_agg(c.key || '=' || c.value, ' ' ORDER BY c.ordinality) INTO result
	FROM cachekit.stat_entities AS s,
		json_each_text(row_to_json(s)) WITH ORDINALITY AS c
	WHERE s.name = entity AND c.key NOT IN ('name', 'latency_histogram') AND c.value <> '0';
	PERFORM cachekit.stat_reset();
	RETURN coalesce(result, 'nothing');
END
$$;

SET search_path = s, public;
RESET client_min_messages;
