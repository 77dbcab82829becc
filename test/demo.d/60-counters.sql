-- What the database counted meanwhile.

\echo
\echo '=== 6. Where each fetch turned is counted'

\set ECHO queries
SELECT name, local_hits, misses, loads, bypass_own_change + bypass_transaction AS own_change,
	invalidations
FROM cachekit.stat_entities ORDER BY name;
\set ECHO none

\echo 'Hits and misses are of the cache; the fetch inside of the transaction that had changed the'
\echo 'row asked the table instead; the invalidation is that of the update that was committed.'

SELECT demo.expect('hits', bool_and(local_hits > 0)::text, 'true') AS ok,
	demo.expect('misses', bool_and(misses > 0)::text, 'true') AS ok_2,
	demo.expect('fetches after a change of their own',
		sum(bypass_own_change + bypass_transaction)::text, '1') AS ok_3,
	demo.expect('invalidations', sum(invalidations)::text, '1') AS ok_4
FROM cachekit.stat_entities \gset
