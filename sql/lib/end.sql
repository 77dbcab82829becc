-- end.sql - leaves the database as begin.sql found it

RESET SESSION AUTHORIZATION;
RESET ROLE;
SET client_min_messages = warning;
DROP SCHEMA s, t CASCADE;
DROP EXTENSION cachekit;
RESET client_min_messages;
