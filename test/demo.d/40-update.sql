-- A change by another session, which knows nothing of caches.

\echo
\echo '=== 4. Another session changes a row: whoever fetches after its commit sees the change'

SELECT cachekit.fetch('countries', 'DE') ->> 'name' AS name \gset
SELECT served_by FROM demo.timed_fetch('countries', 'DE') \gset
\echo 'In the cache:         ' :name
SELECT demo.expect('the document is cached before the change', :'served_by', 'cache') AS ok,
	demo.expect('its name', :'name', name) AS ok_too
FROM countries WHERE code = 'DE' \gset

\echo 'Another session runs:  UPDATE countries SET name = ''Allemagne'' WHERE code = ''DE'''
\! psql -X -q -c "UPDATE countries SET name = 'Allemagne' WHERE code = 'DE'"

SELECT served_by, document ->> 'name' AS name FROM demo.timed_fetch('countries', 'DE') \gset
\echo 'The next fetch:       ' :name '(from the' :served_by')'
SELECT demo.expect('the read after the change', :'name', 'Allemagne') AS ok,
	demo.expect('where it came from', :'served_by', 'table') AS ok_too \gset

SELECT served_by, document ->> 'name' AS name FROM demo.timed_fetch('countries', 'DE') \gset
\echo 'And the one after it: ' :name '(from the' :served_by')'
SELECT demo.expect('the second read after the change', :'name', 'Allemagne') AS ok,
	demo.expect('where it came from', :'served_by', 'cache') AS ok_too \gset
