-- A change that is rolled back.

\echo
\echo '=== 5. A change that is rolled back leaves no trace'

\set other 'psql -X -q -A -t -c "SELECT cachekit.fetch(''countries'', ''NZ'') ->> ''name''"'

SELECT cachekit.fetch('countries', 'NZ') ->> 'name' AS before \gset
\echo 'Before:               ' :before

\set ECHO queries
BEGIN;
UPDATE countries SET name = 'Atlantis' WHERE code = 'NZ';
\set ECHO none
SELECT cachekit.fetch('countries', 'NZ') ->> 'name' AS inside \gset
\set outside `:other`
\echo 'This session sees:    ' :inside
\echo 'Another session sees: ' :outside
\set ECHO queries
ROLLBACK;
\set ECHO none

SELECT cachekit.fetch('countries', 'NZ') ->> 'name' AS after \gset
\set outside_after `:other`
\echo 'After, this session:  ' :after
\echo 'After, the other:     ' :outside_after

SELECT demo.expect('the name before', :'before', name) AS ok FROM countries WHERE code = 'NZ' \gset
SELECT demo.expect('its own change', :'inside', 'Atlantis') AS ok,
	demo.expect('the other session, meanwhile', :'outside', :'before') AS ok_2,
	demo.expect('after the rollback', :'after', :'before') AS ok_3,
	demo.expect('the other session, after it', :'outside_after', :'before') AS ok_4 \gset
