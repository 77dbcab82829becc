-- later.sql - what a later version of the extension might do, for test/t/055_dump_views.pl: it
-- adds a function, and a column to each table of the catalog, which this library does not know.

CREATE FUNCTION cachekit.later() RETURNS int LANGUAGE sql AS 'SELECT 1';
ALTER TABLE cachekit.entity ADD COLUMN later int;
ALTER TABLE cachekit.dependency ADD COLUMN later text DEFAULT 'x';
