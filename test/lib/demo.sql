-- demo.sql - what the acts of the demo share
--
-- An act prints what it does and then checks that it happened, by demo.expect(): the demo fails
-- where its text is not true.

CREATE SCHEMA demo;

-- Raises an error unless both are the same. Use: SELECT demo.expect(…) AS ok \gset
CREATE FUNCTION demo.expect(what text, actual text, wanted text) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
	IF actual IS DISTINCT FROM wanted THEN
		RAISE 'the demo is wrong: %', what
			USING DETAIL = pg_catalog.format('Found %L, expected %L.', actual, wanted);
	END IF;
	RETURN true;
END
$$;

-- One fetch, the time that it took, and where the document came from: by the counters of the
-- entity, not by the time.
CREATE FUNCTION demo.timed_fetch(entity regclass, key text,
	OUT served_by text, OUT microseconds numeric, OUT document jsonb)
LANGUAGE plpgsql AS $$
DECLARE
	counters CONSTANT text :=
		'SELECT local_hits, misses FROM cachekit.stat_entities WHERE name = $1';
	before record;
	after record;
	begun timestamptz;
BEGIN
	EXECUTE counters INTO before USING entity::text;
	begun := pg_catalog.clock_timestamp();
	document := cachekit.fetch(entity, key);
	microseconds :=
		pg_catalog.round(1e6 * extract(epoch FROM pg_catalog.clock_timestamp() - begun));
	EXECUTE counters INTO after USING entity::text;
	served_by := CASE
		WHEN after.local_hits = before.local_hits + 1 THEN 'cache'
		WHEN after.misses = before.misses + 1 THEN 'table'
		ELSE 'unknown' END;
END
$$;

-- Which of these keys have no document in the server's shared memory now.
CREATE FUNCTION demo.not_cached(entity regclass, keys text[], OUT missing text)
LANGUAGE plpgsql AS $$
BEGIN
	SELECT coalesce(pg_catalog.string_agg(key, ' ' ORDER BY key), 'none') INTO missing
	FROM pg_catalog.unnest(keys) AS key, cachekit.inspect(entity, key) AS tier
	WHERE tier.tier = 'local' AND NOT tier.present;
END
$$;
