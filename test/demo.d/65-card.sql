-- A view over several tables as one document, kept right by changes of each of them.

\echo
\echo '=== 6b. A card: a country and all of its subdivisions as one document'

\set ECHO queries
CREATE VIEW country_card AS
SELECT c.code, c.name, c.flag,
	COALESCE(jsonb_agg(jsonb_build_object('code', s.code, 'name', s.name) ORDER BY s.code)
			 FILTER (WHERE s.code IS NOT NULL), '[]') AS subdivisions
FROM countries AS c LEFT JOIN subdivisions AS s ON s.country = c.code
GROUP BY c.code;
\set ECHO none

-- In another session, so that what it says can be shown and checked.
\set attach 'SELECT cachekit.attach(''country_card'', key => ''{code}'')'
\set said `psql -X -q -A -t -c :'attach' 2>&1 | grep .`
\echo :attach;
\echo :said
\echo
\echo 'So a change of a country concerns the card of its code, and one of a subdivision that of its'
\echo 'country. Nothing else has to be said.'
\echo

SELECT demo.expect('what was derived', :'said', 'NOTICE:  derived the dependencies of '
	'"country_card": public.countries (code), public.subdivisions (country)') AS ok,
	demo.expect('nothing is missing', sound::text, 'true') AS ok_2
FROM cachekit.entities WHERE name = 'country_card' \gset

\set ECHO queries
SELECT jsonb_pretty(cachekit.fetch('country_card', 'DK')) AS denmark;
SELECT cachekit.fetch('country_card', 'GI') AS gibraltar_has_none;
\set ECHO none
SELECT demo.expect('a card is the row of the view', cachekit.fetch('country_card', code)::text,
	to_jsonb(c)::text) AS ok
FROM country_card AS c WHERE code = 'DK' \gset
SELECT demo.expect('a country without subdivisions',
	cachekit.fetch('country_card', 'GI') ->> 'subdivisions', '[]') AS ok \gset

-- Norway has not been asked for yet.
SELECT * FROM demo.timed_fetch('country_card', 'NO') \gset first_
SELECT * FROM demo.timed_fetch('country_card', 'NO') \gset second_
\echo 'Norway, fetched twice: from the' :first_served_by', and from the' :second_served_by
SELECT demo.expect('the first fetch', :'first_served_by', 'table') AS ok,
	demo.expect('the second', :'second_served_by', 'cache') AS ok_2,
	demo.expect('they are the same', :'second_document', :'first_document') AS ok_3 \gset

\echo
\echo '--- A change of a subdivision makes the card of its country go, and no other'

SELECT array_agg(code) AS codes, count(cachekit.fetch('country_card', code)) AS fetched
FROM countries \gset
SELECT demo.not_cached('country_card', :'codes') AS missing,
	cachekit.fetch('country_card', 'DK') #>> '{subdivisions,3}' AS region \gset
\echo 'All' :fetched 'fetched; not in the cache:' :missing
SELECT demo.expect('the number of cards', :'fetched', count(*)::text) AS ok,
	demo.expect('all are cached', :'missing', 'none') AS ok_2,
	demo.expect('the region that will change', :'region'::jsonb ->> 'code', 'DK-84') AS ok_3
FROM countries \gset

\echo 'Another session runs:  UPDATE subdivisions SET name = ''Capital Region'' WHERE code = ''DK-84'''
\! psql -X -q -c "UPDATE subdivisions SET name = 'Capital Region' WHERE code = 'DK-84'"
SELECT demo.not_cached('country_card', :'codes') AS missing \gset
SELECT served_by, document #>> '{subdivisions,3}' AS region
FROM demo.timed_fetch('country_card', 'DK') \gset
\echo 'Not in the cache:     ' :missing
\echo 'The next fetch:       ' :region '(from the' :served_by')'
SELECT demo.expect('the one card that went', :'missing', 'DK') AS ok,
	demo.expect('the change', :'region'::jsonb ->> 'name', 'Capital Region') AS ok_2,
	demo.expect('where it came from', :'served_by', 'table') AS ok_3 \gset

\echo
\echo '--- A rollback leaves all of them'

\set ECHO queries
BEGIN;
UPDATE subdivisions SET name = 'Atlantis' WHERE country = 'DK';
ROLLBACK;
\set ECHO none
SELECT demo.not_cached('country_card', :'codes') AS missing \gset
SELECT served_by, document #>> '{subdivisions,3}' AS after
FROM demo.timed_fetch('country_card', 'DK') \gset
\echo 'Not in the cache:     ' :missing
\echo 'The next fetch:       ' :after '(from the' :served_by')'
SELECT demo.expect('the cards that went', :'missing', 'none') AS ok,
	demo.expect('the card', :'after', :'region') AS ok_2,
	demo.expect('where it came from', :'served_by', 'cache') AS ok_3 \gset

\echo
\echo '--- A subdivision that moves changes the card that it leaves and the one that it comes to'

SELECT jsonb_array_length(cachekit.fetch('country_card', 'SE') -> 'subdivisions') AS sweden,
	jsonb_array_length(cachekit.fetch('country_card', 'DK') -> 'subdivisions') AS denmark \gset
\echo 'In the cache:          Sweden with' :sweden', Denmark with' :denmark
\echo 'As it was until 1658:  UPDATE subdivisions SET country = ''DK'' WHERE code = ''SE-M'''
\! psql -X -q -c "UPDATE subdivisions SET country = 'DK' WHERE code = 'SE-M'"
SELECT demo.not_cached('country_card', :'codes') AS missing \gset
SELECT jsonb_array_length(cachekit.fetch('country_card', 'SE') -> 'subdivisions') AS sweden_after,
	jsonb_array_length(cachekit.fetch('country_card', 'DK') -> 'subdivisions') AS denmark_after \gset
\echo 'Not in the cache:     ' :missing
\echo 'The next fetches:      Sweden with' :sweden_after', Denmark with' :denmark_after
SELECT demo.expect('the two cards that went', :'missing', 'DK SE') AS ok,
	demo.expect('what Sweden has', :'sweden_after', (:sweden - 1)::text) AS ok_2,
	demo.expect('what Denmark has', :'denmark_after', (:denmark + 1)::text) AS ok_3 \gset
\! psql -X -q -c "UPDATE subdivisions SET country = 'SE' WHERE code = 'SE-M'"

\echo
\echo '--- Where a row does not say which cards it concerns, you do: a subdivision, what it is part of'
\echo '--- and its country'

\set ECHO queries
CREATE VIEW subdivision_card AS
SELECT s.code, s.name, whole.name AS part_of, c.name AS country
FROM subdivisions AS s
JOIN countries AS c ON c.code = s.country
LEFT JOIN subdivisions AS whole ON whole.code = s.country || '-' || s.parent;
\set ECHO none

\set attach 'SELECT cachekit.attach(''subdivision_card'', key => ''{code}'')'
\set said `psql -X -q -A -t -c :'attach' 2>&1 | grep .`
\echo :attach;
\echo :said
\set fetch 'SELECT cachekit.fetch(''subdivision_card'', ''BE-WLG'')'
\set refused `psql -X -q -A -t -c :'fetch' 2>&1 | grep .`
\echo :fetch;
\echo :refused
\echo
SELECT demo.expect('the card is refused', (:'refused' LIKE 'ERROR: % cannot be fetched: %')::text,
	'true') AS ok,
	demo.expect('it says for which tables', array_agg(DISTINCT missing[1] ORDER BY missing[1])::text,
	'{public.countries,public.subdivisions}') AS ok_2
FROM regexp_matches(:'refused', '([a-z]+[.][a-z]+) (?:is read in several places, and )?has no dependency', 'g') AS missing \gset
SELECT demo.expect('attach() has said the same', array_agg(DISTINCT missing[1] ORDER BY missing[1])::text,
	'{public.countries,public.subdivisions}') AS ok
FROM regexp_matches(:'said', '([a-z]+[.][a-z]+) (?:is read in several places, and )?has no dependency', 'g') AS missing \gset

\o /dev/null
\set ECHO queries
SELECT cachekit.add_dependency('subdivision_card', 'countries',
	via => $$SELECT code FROM subdivisions WHERE country = ($1).code$$);
SELECT cachekit.add_dependency('subdivision_card', 'subdivisions',
	via => $$SELECT code FROM subdivisions WHERE country || '-' || parent = ($1).code$$);
\o
SELECT cachekit.fetch('subdivision_card', 'BE-WLG');
\set ECHO none

-- However busy this machine is, these queries are waited for.
SELECT format('ALTER DATABASE %I SET cachekit.dependency_timeout = ''30s''', current_database())
\gexec

-- The cards of two countries, to see which of them go.
SELECT array_agg(code) AS codes, count(cachekit.fetch('subdivision_card', code)) AS fetched
FROM subdivisions WHERE country IN ('BE', 'LU') \gset
SELECT demo.not_cached('subdivision_card', :'codes') AS missing \gset
SELECT demo.expect('all are cached', :'missing', 'none') AS ok \gset
\echo 'All' :fetched 'cards of Belgium and Luxembourg are cached.'
\echo 'Another session runs:  UPDATE subdivisions SET name = ''Wallonie'' WHERE code = ''BE-WAL'''
\! psql -X -q -c "UPDATE subdivisions SET name = 'Wallonie' WHERE code = 'BE-WAL'"
SELECT demo.not_cached('subdivision_card', :'codes') AS missing \gset
SELECT cachekit.fetch('subdivision_card', 'BE-WLG') ->> 'part_of' AS part_of \gset
\echo 'Not in the cache:     ' :missing
\echo 'Liège is part of:     ' :part_of
SELECT demo.expect('it and its parts', :'missing', string_agg(code, ' ' ORDER BY code)) AS ok,
	demo.expect('the name on a card', :'part_of', 'Wallonie') AS ok_2
FROM subdivisions WHERE code = 'BE-WAL' OR country = 'BE' AND parent = 'WAL' \gset

SELECT count(cachekit.fetch('subdivision_card', code)) AS fetched
FROM unnest(:'codes'::text[]) AS code \gset
\echo 'Another session runs:  UPDATE countries SET name = ''Lëtzebuerg'' WHERE code = ''LU'''
\! psql -X -q -c "UPDATE countries SET name = 'Lëtzebuerg' WHERE code = 'LU'"
SELECT demo.not_cached('subdivision_card', :'codes') AS missing \gset
SELECT cachekit.fetch('subdivision_card', 'LU-CA') ->> 'country' AS country \gset
\echo 'Not in the cache:     ' :missing
\echo 'Capellen is in:       ' :country
SELECT demo.expect('all of that country', :'missing', string_agg(code, ' ' ORDER BY code)) AS ok,
	demo.expect('the country on a card', :'country', 'Lëtzebuerg') AS ok_2
FROM subdivisions WHERE country = 'LU' \gset

\echo
\set ECHO queries
SELECT name, local_hits, misses, loads, invalidations, links_unresolved
FROM cachekit.stat_entities WHERE name LIKE '%card' ORDER BY name;
\set ECHO none

SELECT demo.expect('there were hits of each', bool_and(local_hits > 0)::text, 'true') AS ok,
	demo.expect('and misses', bool_and(misses > 0)::text, 'true') AS ok_2,
	-- Denmark, both ways of Skåne, Belgium and Luxembourg; six and twelve subdivisions
	demo.expect('the cards that went', string_agg(invalidations::text, ' ' ORDER BY name), '7 18')
		AS ok_3,
	demo.expect('all queries could be run', sum(links_unresolved)::text, '0') AS ok_4
FROM cachekit.stat_entities WHERE name LIKE '%card' \gset

-- In the end everything is what the views say, whether it comes from the cache or not.
SELECT demo.expect('every card of a country', bool_and(
	cachekit.fetch('country_card', code) = to_jsonb(c))::text, 'true') AS ok
FROM country_card AS c \gset
SELECT demo.expect('every card of a subdivision', bool_and(
	cachekit.fetch('subdivision_card', code) = to_jsonb(c))::text, 'true') AS ok
FROM subdivision_card AS c \gset
