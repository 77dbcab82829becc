-- A miss and a hit.

\echo
\echo '=== 3. The first fetch of a key reads the table, the second is served by the cache'

\set ECHO queries
SELECT jsonb_pretty(cachekit.fetch('countries', 'IS')) AS iceland;
\set ECHO none

\echo 'By the counters of the entity, and timed inside of the server:'
\echo

-- So that neither this session's first use of a function nor its plans are what is measured.
SELECT served_by FROM demo.timed_fetch('subdivisions', 'IS-1') \gset

SELECT * FROM demo.timed_fetch('subdivisions', 'FR-971') \gset first_
SELECT * FROM demo.timed_fetch('subdivisions', 'FR-971') \gset second_

SELECT * FROM (VALUES
	('first', :'first_served_by', :first_microseconds, :'first_document'::jsonb ->> 'name'),
	('second', :'second_served_by', :second_microseconds, :'second_document'::jsonb ->> 'name'))
	AS fetches(attempt, served_by, microseconds, name);

SELECT demo.expect('the fetched document is the row',
	cachekit.fetch('countries', 'IS') ->> 'name', name) AS ok
FROM countries WHERE code = 'IS' \gset
SELECT demo.expect('the first fetch is a miss', :'first_served_by', 'table') AS ok,
	demo.expect('the second is a hit', :'second_served_by', 'cache') AS ok_2,
	demo.expect('a hit returns the same document', :'second_document', :'first_document') AS ok_3
\gset
