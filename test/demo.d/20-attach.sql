-- Both tables become cached entities.

\echo
\echo '=== 2. Attached, each row is a document in a cache that the database keeps right'

SET client_min_messages = warning;
\o /dev/null
\set ECHO queries
CREATE EXTENSION cachekit;
SELECT cachekit.attach('countries');
SELECT cachekit.attach('subdivisions');
\set ECHO none
\o
