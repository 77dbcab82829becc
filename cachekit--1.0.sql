/* cachekit--1.0.sql */

\echo Use "CREATE EXTENSION cachekit" to load this file. \quit

-- The script makes the schema, so that DROP EXTENSION removes it.
CREATE SCHEMA cachekit;
COMMENT ON SCHEMA cachekit IS 'cachekit: caches that the database keeps right';

-- Owners of attached tables need the trigger functions for CREATE TABLE ... PARTITION OF and ATTACH.
GRANT USAGE ON SCHEMA cachekit TO PUBLIC;

-- ---------------------------------------------------------------------------
-- Times to live: an interval that can be 'infinity', on every version
-- ---------------------------------------------------------------------------

CREATE TYPE cachekit.ttl;

CREATE FUNCTION cachekit.ttl_in(cstring) RETURNS cachekit.ttl
AS 'MODULE_PATHNAME', 'ck_ttl_in' LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION cachekit.ttl_in(cstring) IS 'input of cachekit.ttl: an interval, or infinity';

CREATE FUNCTION cachekit.ttl_out(cachekit.ttl) RETURNS cstring
AS 'MODULE_PATHNAME', 'ck_ttl_out' LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION cachekit.ttl_out(cachekit.ttl) IS 'output of cachekit.ttl';

CREATE TYPE cachekit.ttl (INPUT = cachekit.ttl_in, OUTPUT = cachekit.ttl_out, LIKE = pg_catalog.interval);
COMMENT ON TYPE cachekit.ttl IS 'time to live of cached documents: an interval, or infinity for documents that do not expire';

CREATE CAST (pg_catalog.interval AS cachekit.ttl) WITHOUT FUNCTION AS IMPLICIT;
CREATE CAST (cachekit.ttl AS pg_catalog.interval) WITHOUT FUNCTION AS IMPLICIT;

-- ---------------------------------------------------------------------------
-- Cache servers
-- ---------------------------------------------------------------------------

CREATE FUNCTION cachekit.validator(pg_catalog.text[], pg_catalog.oid) RETURNS pg_catalog.void
AS 'MODULE_PATHNAME', 'ck_validator' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION cachekit.validator(pg_catalog.text[], pg_catalog.oid) IS 'checks the options of cache servers and their user mappings';

CREATE FOREIGN DATA WRAPPER cachekit NO HANDLER VALIDATOR cachekit.validator;
COMMENT ON FOREIGN DATA WRAPPER cachekit IS 'cache servers of cachekit';

-- ---------------------------------------------------------------------------
-- Catalog
-- ---------------------------------------------------------------------------

-- src/catalog.c knows the order of the columns.
CREATE TABLE cachekit.entity (
	relation     pg_catalog.regclass NOT NULL PRIMARY KEY,
	name         pg_catalog.text COLLATE "C" NOT NULL UNIQUE,
	key          pg_catalog.name[] NOT NULL,
	servers      pg_catalog.name[] NOT NULL,
	ttl          cachekit.ttl,
	negative_ttl cachekit.ttl,
	on_change    pg_catalog.text NOT NULL,
	local        pg_catalog.bool NOT NULL,
	columns      pg_catalog.name[],
	many         pg_catalog.bool NOT NULL,
	allow_untracked pg_catalog.bool NOT NULL,
	refresh_absent pg_catalog.bool NOT NULL,
	ttl_jitter   pg_catalog.int4,
	max_value_size pg_catalog.int4,
	early_refresh pg_catalog.float8 NOT NULL,
	redefined    pg_catalog.bool NOT NULL
);
COMMENT ON TABLE cachekit.entity IS 'what is attached, and how; changed by attach() and detach() only';
REVOKE ALL ON cachekit.entity FROM PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('cachekit.entity', '');

-- How the rows of base tables map to the keys of views; src/dependency.c knows the order of the columns.
CREATE TABLE cachekit.dependency (
	entity  pg_catalog.regclass NOT NULL,
	base    pg_catalog.regclass NOT NULL,
	number  pg_catalog.int4 NOT NULL,
	key     pg_catalog.name[],
	via     pg_catalog.text,
	query   pg_catalog.text,
	owner   pg_catalog.name,
	derived pg_catalog.bool NOT NULL,
	PRIMARY KEY (entity, base, number)
);
COMMENT ON TABLE cachekit.dependency IS 'which keys of an entity a row of a base table concerns; changed by attach(), add_dependency() and drop_dependency() only';
REVOKE ALL ON cachekit.dependency FROM PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('cachekit.dependency', '');

-- ---------------------------------------------------------------------------
-- Triggers: executable by PUBLIC (see above); they ignore a relation that is not
-- a member of the entity they name.
-- ---------------------------------------------------------------------------

CREATE FUNCTION cachekit.on_row_change() RETURNS pg_catalog.trigger
AS 'MODULE_PATHNAME', 'ck_on_row_change' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION cachekit.on_row_change() IS 'row trigger of attached relations; its argument is the name of the entity';

CREATE FUNCTION cachekit.on_truncate() RETURNS pg_catalog.trigger
AS 'MODULE_PATHNAME', 'ck_on_truncate' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION cachekit.on_truncate() IS 'TRUNCATE trigger of attached relations; its argument is the name of the entity';

CREATE FUNCTION cachekit.on_ddl_end() RETURNS pg_catalog.event_trigger
AS 'MODULE_PATHNAME', 'ck_on_ddl_end' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION cachekit.on_ddl_end() IS 'mends the triggers and settings of entities after DDL';

CREATE FUNCTION cachekit.on_drop() RETURNS pg_catalog.event_trigger
AS 'MODULE_PATHNAME', 'ck_on_drop' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION cachekit.on_drop() IS 'forgets entities whose relation has been dropped';

CREATE EVENT TRIGGER cachekit_ddl ON ddl_command_end EXECUTE FUNCTION cachekit.on_ddl_end();
ALTER EVENT TRIGGER cachekit_ddl ENABLE ALWAYS;
CREATE EVENT TRIGGER cachekit_drop ON sql_drop EXECUTE FUNCTION cachekit.on_drop();
ALTER EVENT TRIGGER cachekit_drop ENABLE ALWAYS;

-- ---------------------------------------------------------------------------
-- Entities
-- ---------------------------------------------------------------------------

CREATE FUNCTION cachekit.attach(
	relation     pg_catalog.regclass,
	key          pg_catalog.name[] DEFAULT NULL,
	name         pg_catalog.text DEFAULT NULL,
	servers      pg_catalog.name[] DEFAULT NULL,
	ttl          cachekit.ttl DEFAULT NULL,
	negative_ttl cachekit.ttl DEFAULT NULL,
	on_change    pg_catalog.text DEFAULT NULL,
	local        pg_catalog.bool DEFAULT NULL,
	columns      pg_catalog.name[] DEFAULT NULL,
	many         pg_catalog.bool DEFAULT NULL,
	allow_untracked pg_catalog.bool DEFAULT NULL,
	refresh_absent pg_catalog.bool DEFAULT NULL,
	ttl_jitter   pg_catalog.int4 DEFAULT NULL,
	max_value_size pg_catalog.int4 DEFAULT NULL,
	early_refresh pg_catalog.float8 DEFAULT NULL
) RETURNS pg_catalog.void
AS 'MODULE_PATHNAME', 'ck_attach' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION cachekit.attach(pg_catalog.regclass, pg_catalog.name[], pg_catalog.text, pg_catalog.name[],
	cachekit.ttl, cachekit.ttl, pg_catalog.text, pg_catalog.bool, pg_catalog.name[],
	pg_catalog.bool, pg_catalog.bool, pg_catalog.bool, pg_catalog.int4, pg_catalog.int4, pg_catalog.float8)
IS 'makes an entity of a table or view, or changes its settings; what is not given (NULL) keeps its setting';

CREATE FUNCTION cachekit.detach(relation pg_catalog.regclass) RETURNS pg_catalog.void
AS 'MODULE_PATHNAME', 'ck_detach' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION cachekit.detach(pg_catalog.regclass)
IS 'undoes attach(): removes the triggers and what is cached';

CREATE FUNCTION cachekit.add_dependency(
	entity pg_catalog.regclass,
	base   pg_catalog.regclass,
	key    pg_catalog.name[] DEFAULT NULL,
	via    pg_catalog.text DEFAULT NULL
) RETURNS pg_catalog.void
AS 'MODULE_PATHNAME', 'ck_add_dependency' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION cachekit.add_dependency(pg_catalog.regclass, pg_catalog.regclass, pg_catalog.name[], pg_catalog.text)
IS 'says which keys of a view''s entity a row of a base table concerns: by its columns, or by a query ($1 is the changed row); for who owns both';

CREATE FUNCTION cachekit.drop_dependency(entity pg_catalog.regclass, base pg_catalog.regclass) RETURNS pg_catalog.void
AS 'MODULE_PATHNAME', 'ck_drop_dependency' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION cachekit.drop_dependency(pg_catalog.regclass, pg_catalog.regclass)
IS 'forgets the dependencies of an entity on a base table, and removes its triggers there';

CREATE VIEW cachekit.dependencies AS
SELECT e.name, e.relation, d.base, d.key, d.via, d.query, d.derived
  FROM cachekit.dependency AS d
  JOIN cachekit.entity AS e ON e.relation OPERATOR(pg_catalog.=) d.entity;
COMMENT ON VIEW cachekit.dependencies IS 'which keys of an entity that is a view a row of a base table concerns; query: via with all names qualified, as it is run; derived: found by attach()';
GRANT SELECT ON cachekit.dependencies TO PUBLIC;

CREATE FUNCTION cachekit.entity_problem(relation pg_catalog.regclass) RETURNS pg_catalog.text
AS 'MODULE_PATHNAME', 'ck_entity_problem' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION cachekit.entity_problem(pg_catalog.regclass)
IS 'why an entity is not cached; NULL when it is';

CREATE VIEW cachekit.entities AS
SELECT e.name, e.relation, e.key, e.servers, e.ttl, e.negative_ttl, e.on_change, e.local, e.columns,
       cachekit.entity_problem(e.relation) IS NULL AS sound,
       e.many, e.allow_untracked, e.refresh_absent, e.ttl_jitter, e.max_value_size, e.early_refresh
  FROM cachekit.entity AS e;
COMMENT ON VIEW cachekit.entities IS 'what is attached, and how; sound: every change of it is seen, so it is cached';
GRANT SELECT ON cachekit.entities TO PUBLIC;

-- ---------------------------------------------------------------------------
-- Fetching.  Each function has a form that takes the key as "any" and one that
-- takes it as text: with the first alone, an untyped parameter would be an error.
-- ---------------------------------------------------------------------------

CREATE FUNCTION cachekit.fetch(entity pg_catalog.regclass, key "any", strategy pg_catalog.text DEFAULT 'refresh')
RETURNS pg_catalog.jsonb
AS 'MODULE_PATHNAME', 'ck_fetch' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION cachekit.fetch(pg_catalog.regclass, "any", pg_catalog.text)
IS 'the document of a key, from a cache or the table, never stale; NULL when there is no such row';

CREATE FUNCTION cachekit.fetch(entity pg_catalog.regclass, key pg_catalog.text, strategy pg_catalog.text DEFAULT 'refresh')
RETURNS pg_catalog.jsonb
AS 'MODULE_PATHNAME', 'ck_fetch_text' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION cachekit.fetch(pg_catalog.regclass, pg_catalog.text, pg_catalog.text)
IS 'the document of a key given as text; a key of several columns as a row literal, (7,2)';

CREATE FUNCTION cachekit.fetch_row("row" anyelement, key "any", strategy pg_catalog.text DEFAULT 'refresh')
RETURNS anyelement
AS 'MODULE_PATHNAME', 'ck_fetch_row' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION cachekit.fetch_row(anyelement, "any", pg_catalog.text)
IS 'fetch() as a row of the relation; the first argument says which: NULL::users';

CREATE FUNCTION cachekit.fetch_row("row" anyelement, key pg_catalog.text, strategy pg_catalog.text DEFAULT 'refresh')
RETURNS anyelement
AS 'MODULE_PATHNAME', 'ck_fetch_row_text' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION cachekit.fetch_row(anyelement, pg_catalog.text, pg_catalog.text)
IS 'fetch_row() with the key given as text';

CREATE FUNCTION cachekit.fetch_many(entity pg_catalog.regclass, keys anyarray, strategy pg_catalog.text DEFAULT 'refresh',
	consistent pg_catalog.bool DEFAULT false, OUT key pg_catalog.text, OUT value pg_catalog.jsonb)
RETURNS SETOF pg_catalog.record
AS 'MODULE_PATHNAME', 'ck_fetch_many' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION cachekit.fetch_many(pg_catalog.regclass, anyarray, pg_catalog.text, pg_catalog.bool)
IS 'the documents of many keys, in their order; value is NULL where there is no such row. Each is as fetch() gives it; consistent: all of them as of one moment (with strategy ''fresh'', all NULL if the caches cannot tell that)';

CREATE FUNCTION cachekit.fetch_many(entity pg_catalog.regclass, keys pg_catalog.text, strategy pg_catalog.text DEFAULT 'refresh',
	consistent pg_catalog.bool DEFAULT false, OUT key pg_catalog.text, OUT value pg_catalog.jsonb)
RETURNS SETOF pg_catalog.record
AS 'MODULE_PATHNAME', 'ck_fetch_many_text' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION cachekit.fetch_many(pg_catalog.regclass, pg_catalog.text, pg_catalog.text, pg_catalog.bool)
IS 'fetch_many() with the keys given as an array literal, {3,1,2}';

-- ---------------------------------------------------------------------------
-- Warming.  The procedure commits, so it can have no settings of its own; all names in its queries
-- are qualified.
-- ---------------------------------------------------------------------------

-- src/warm_state.c writes it; what a dump would hold would be about other caches.
CREATE TABLE cachekit.warm_state (
	entity       pg_catalog.regclass NOT NULL PRIMARY KEY,
	key          pg_catalog.name[] NOT NULL,
	query        pg_catalog.text,
	last_key     pg_catalog.text,
	done         pg_catalog.int8 NOT NULL,
	total        pg_catalog.int8 NOT NULL,
	missed       pg_catalog.int8 NOT NULL,
	started_at   pg_catalog.timestamptz NOT NULL,
	updated_at   pg_catalog.timestamptz NOT NULL,
	finished_at  pg_catalog.timestamptz,
	resumed_at   pg_catalog.timestamptz NOT NULL,
	resumed_done pg_catalog.int8 NOT NULL
);
COMMENT ON TABLE cachekit.warm_state IS 'how far warm() has come with each entity; written by warm() only';
REVOKE ALL ON cachekit.warm_state FROM PUBLIC;

CREATE VIEW cachekit.warm_progress AS
SELECT e.name, w.done, GREATEST(w.total, w.done) AS total, r.rate,
       CASE WHEN w.finished_at IS NOT NULL THEN '0'::pg_catalog.interval
            WHEN r.rate OPERATOR(pg_catalog.>) 0
            THEN pg_catalog.make_interval(secs => pg_catalog.round((GREATEST(w.total, w.done) OPERATOR(pg_catalog.-) w.done) OPERATOR(pg_catalog./) r.rate)) END AS time_left,
       w.started_at, w.updated_at, w.finished_at IS NOT NULL AS finished
  FROM cachekit.warm_state AS w
  JOIN cachekit.entity AS e ON e.relation OPERATOR(pg_catalog.=) w.entity
 CROSS JOIN LATERAL (SELECT (w.done OPERATOR(pg_catalog.-) w.resumed_done)::pg_catalog.float8
                            OPERATOR(pg_catalog./) NULLIF(pg_catalog.date_part('epoch', w.updated_at OPERATOR(pg_catalog.-) w.resumed_at), 0)) AS r(rate);
COMMENT ON VIEW cachekit.warm_progress IS 'how far warm() has come with each entity, or had when it ended; rate: documents a second';
GRANT SELECT ON cachekit.warm_progress TO PUBLIC;

CREATE PROCEDURE cachekit.warm(entity pg_catalog.regclass, query pg_catalog.text DEFAULT NULL,
	batch pg_catalog.int4 DEFAULT 1000, restart pg_catalog.bool DEFAULT false)
AS 'MODULE_PATHNAME', 'ck_warm' LANGUAGE C;
COMMENT ON PROCEDURE cachekit.warm(pg_catalog.regclass, pg_catalog.text, pg_catalog.int4, pg_catalog.bool)
IS 'loads all documents of an entity, or those whose keys the query returns, into its caches, in batches, each in a transaction of its own; goes on where an earlier call was interrupted, unless restart; for whoever may SELECT. See the view warm_progress';

-- ---------------------------------------------------------------------------
-- By hand
-- ---------------------------------------------------------------------------

CREATE FUNCTION cachekit.key(entity pg_catalog.regclass, key "any", server pg_catalog.name DEFAULT NULL)
RETURNS pg_catalog.text
AS 'MODULE_PATHNAME', 'ck_key' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION cachekit.key(pg_catalog.regclass, "any", pg_catalog.name)
IS 'the cache key of a document: <namespace>:<entity>:<key>';

CREATE FUNCTION cachekit.key(entity pg_catalog.regclass, key pg_catalog.text, server pg_catalog.name DEFAULT NULL)
RETURNS pg_catalog.text
AS 'MODULE_PATHNAME', 'ck_key_text' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION cachekit.key(pg_catalog.regclass, pg_catalog.text, pg_catalog.name)
IS 'the cache key of a document whose key is given as text';

CREATE FUNCTION cachekit.inspect(entity pg_catalog.regclass, key "any", OUT tier pg_catalog.text, OUT present pg_catalog.bool,
	OUT bytes pg_catalog.int4, OUT ttl pg_catalog.interval, OUT fenced pg_catalog.bool)
RETURNS SETOF pg_catalog.record
AS 'MODULE_PATHNAME', 'ck_inspect' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION cachekit.inspect(pg_catalog.regclass, "any")
IS 'what each tier holds for a key now; ttl: time left, NULL for ever; fenced: a change of it is being committed';

CREATE FUNCTION cachekit.inspect(entity pg_catalog.regclass, key pg_catalog.text, OUT tier pg_catalog.text, OUT present pg_catalog.bool,
	OUT bytes pg_catalog.int4, OUT ttl pg_catalog.interval, OUT fenced pg_catalog.bool)
RETURNS SETOF pg_catalog.record
AS 'MODULE_PATHNAME', 'ck_inspect_text' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION cachekit.inspect(pg_catalog.regclass, pg_catalog.text)
IS 'inspect() with the key given as text';

CREATE FUNCTION cachekit.audit(entity pg_catalog.regclass, sample pg_catalog.int4 DEFAULT 1000, OUT key pg_catalog.text,
	OUT tier pg_catalog.text, OUT problem pg_catalog.text, OUT cached pg_catalog.jsonb, OUT current pg_catalog.jsonb)
RETURNS SETOF pg_catalog.record
AS 'MODULE_PATHNAME', 'ck_audit' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION cachekit.audit(pg_catalog.regclass, pg_catalog.int4)
IS 'compares what each tier holds for a random sample of the keys (NULL: all) with the table, under the fence: a row for each difference; a NOTICE says how many documents were compared';

CREATE FUNCTION cachekit.invalidate(entity pg_catalog.regclass, key "any") RETURNS pg_catalog.void
AS 'MODULE_PATHNAME', 'ck_invalidate' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION cachekit.invalidate(pg_catalog.regclass, "any")
IS 'removes a document from all caches when the transaction commits, as a change of its row does';

CREATE FUNCTION cachekit.invalidate(entity pg_catalog.regclass, key pg_catalog.text) RETURNS pg_catalog.void
AS 'MODULE_PATHNAME', 'ck_invalidate_text' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION cachekit.invalidate(pg_catalog.regclass, pg_catalog.text)
IS 'invalidate() with the key given as text';

CREATE FUNCTION cachekit.flush(entity pg_catalog.regclass) RETURNS pg_catalog.void
AS 'MODULE_PATHNAME', 'ck_flush' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION cachekit.flush(pg_catalog.regclass)
IS 'removes all documents of an entity from all caches when the transaction commits; for its owner';

CREATE FUNCTION cachekit.flush() RETURNS pg_catalog.void
AS 'MODULE_PATHNAME', 'ck_flush_all' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION cachekit.flush()
IS 'flush() of every entity that the caller owns';

-- ---------------------------------------------------------------------------
-- Observing
-- ---------------------------------------------------------------------------

-- src/stats.h knows the order of the counters.
CREATE FUNCTION cachekit.entity_counters(
	OUT relation pg_catalog.oid,
	OUT local_hits pg_catalog.int8, OUT server_hits pg_catalog.int8, OUT negative_hits pg_catalog.int8,
	OUT misses pg_catalog.int8, OUT loads pg_catalog.int8, OUT waits pg_catalog.int8,
	OUT bypass_own_change pg_catalog.int8, OUT bypass_transaction pg_catalog.int8,
	OUT bypass_isolation pg_catalog.int8, OUT bypass_fenced pg_catalog.int8,
	OUT bypass_recovery pg_catalog.int8, OUT bypass_disabled pg_catalog.int8,
	OUT bypass_unsound pg_catalog.int8,
	OUT fills pg_catalog.int8, OUT fills_refused pg_catalog.int8,
	OUT invalidations pg_catalog.int8, OUT flushes pg_catalog.int8, OUT errors pg_catalog.int8,
	OUT links_unresolved pg_catalog.int8,
	OUT early_refreshes pg_catalog.int8,
	OUT latency_histogram pg_catalog.int8[])
RETURNS SETOF pg_catalog.record
AS 'MODULE_PATHNAME', 'ck_entity_counters' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION cachekit.entity_counters() IS 'counters of the entities of this database; see the view stat_entities';

CREATE VIEW cachekit.stat_entities AS
SELECT e.name,
       COALESCE(c.local_hits, 0) AS local_hits,
       COALESCE(c.server_hits, 0) AS server_hits,
       COALESCE(c.negative_hits, 0) AS negative_hits,
       COALESCE(c.misses, 0) AS misses,
       COALESCE(c.loads, 0) AS loads,
       COALESCE(c.waits, 0) AS waits,
       COALESCE(c.bypass_own_change, 0) AS bypass_own_change,
       COALESCE(c.bypass_transaction, 0) AS bypass_transaction,
       COALESCE(c.bypass_isolation, 0) AS bypass_isolation,
       COALESCE(c.bypass_fenced, 0) AS bypass_fenced,
       COALESCE(c.bypass_recovery, 0) AS bypass_recovery,
       COALESCE(c.bypass_disabled, 0) AS bypass_disabled,
       COALESCE(c.bypass_unsound, 0) AS bypass_unsound,
       COALESCE(c.fills, 0) AS fills,
       COALESCE(c.fills_refused, 0) AS fills_refused,
       COALESCE(c.invalidations, 0) AS invalidations,
       COALESCE(c.flushes, 0) AS flushes,
       COALESCE(c.errors, 0) AS errors,
       COALESCE(c.links_unresolved, 0) AS links_unresolved,
       COALESCE(c.early_refreshes, 0) AS early_refreshes,
       c.latency_histogram
  FROM cachekit.entity AS e
  LEFT JOIN cachekit.entity_counters() AS c ON c.relation OPERATOR(pg_catalog.=) e.relation;
COMMENT ON VIEW cachekit.stat_entities IS 'what fetches and commits of each entity did, since the server started or stat_reset()';
COMMENT ON COLUMN cachekit.stat_entities.local_hits IS 'fetches answered by the local tier';
COMMENT ON COLUMN cachekit.stat_entities.server_hits IS 'fetches answered by a cache server';
COMMENT ON COLUMN cachekit.stat_entities.negative_hits IS 'fetches answered by the knowledge that there is no such row';
COMMENT ON COLUMN cachekit.stat_entities.misses IS 'fetches that found nothing in a cache';
COMMENT ON COLUMN cachekit.stat_entities.loads IS 'reads of the table, for whatever reason';
COMMENT ON COLUMN cachekit.stat_entities.waits IS 'fetches that waited for another session to load the same document';
COMMENT ON COLUMN cachekit.stat_entities.bypass_own_change IS 'reads of the table because the transaction had changed the document';
COMMENT ON COLUMN cachekit.stat_entities.bypass_transaction IS 'reads of the table because the transaction had written something';
COMMENT ON COLUMN cachekit.stat_entities.bypass_isolation IS 'reads of the table in REPEATABLE READ or SERIALIZABLE transactions';
COMMENT ON COLUMN cachekit.stat_entities.bypass_fenced IS 'reads of the table because a change of the document (or of one that shares its stripe) was being committed';
COMMENT ON COLUMN cachekit.stat_entities.bypass_recovery IS 'reads of the table on a standby';
COMMENT ON COLUMN cachekit.stat_entities.bypass_disabled IS 'reads of the table because cachekit.enabled was off';
COMMENT ON COLUMN cachekit.stat_entities.bypass_unsound IS 'reads of the table because a change of the entity might go unseen';
COMMENT ON COLUMN cachekit.stat_entities.fills IS 'documents stored in a cache';
COMMENT ON COLUMN cachekit.stat_entities.fills_refused IS 'documents not stored: changed since they were loaded, too large, or no room';
COMMENT ON COLUMN cachekit.stat_entities.invalidations IS 'documents invalidated by commits';
COMMENT ON COLUMN cachekit.stat_entities.flushes IS 'commits that invalidated the whole entity';
COMMENT ON COLUMN cachekit.stat_entities.errors IS 'loads that ended in an error';
COMMENT ON COLUMN cachekit.stat_entities.links_unresolved IS 'commits that invalidated the whole entity because a "via" query failed or took longer than cachekit.dependency_timeout';
COMMENT ON COLUMN cachekit.stat_entities.early_refreshes IS 'documents loaded anew before they expired (early_refresh)';
COMMENT ON COLUMN cachekit.stat_entities.latency_histogram IS 'element i+1 counts the fetches that took less than 2^i microseconds and not less than 2^(i-1); the last has no bound';
GRANT SELECT ON cachekit.stat_entities TO PUBLIC;

CREATE FUNCTION cachekit.stat_reset() RETURNS pg_catalog.void
AS 'MODULE_PATHNAME', 'ck_stat_reset' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION cachekit.stat_reset() IS 'sets the counters of this database''s entities and cache servers to zero';
REVOKE ALL ON FUNCTION cachekit.stat_reset() FROM PUBLIC;

-- src/servers.h knows the order of the counters.
CREATE FUNCTION cachekit.server_states(
	OUT serverid pg_catalog.oid, OUT host_number pg_catalog.int4, OUT hosts pg_catalog.int4, OUT host pg_catalog.text,
	OUT namespace pg_catalog.text, OUT state pg_catalog.text, OUT readable pg_catalog.bool,
	OUT breaker pg_catalog.text, OUT "position" pg_catalog.pg_lsn, OUT lag_bytes pg_catalog.int8, OUT pid pg_catalog.int4, OUT keeps_wal pg_catalog.bool, OUT connections pg_catalog.int4,
	OUT sent pg_catalog.int8, OUT acknowledged pg_catalog.int8, OUT fills_sent pg_catalog.int8, OUT fills_dropped pg_catalog.int8, OUT reads pg_catalog.int8, OUT read_hits pg_catalog.int8, OUT reconnects pg_catalog.int8, OUT resumes pg_catalog.int8, OUT flushes pg_catalog.int8, OUT replacements pg_catalog.int8,
	OUT refreshes pg_catalog.int8, OUT refreshes_fallen_back pg_catalog.int8, OUT refreshes_pending pg_catalog.int4,
	OUT last_error pg_catalog.text, OUT last_error_at pg_catalog.timestamptz,
	OUT oldest_unacknowledged pg_catalog.timestamptz, OUT latency_histogram pg_catalog.int8[])
RETURNS SETOF pg_catalog.record
AS 'MODULE_PATHNAME', 'ck_server_states' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION cachekit.server_states() IS 'state and counters of the cache servers of this database, one row for each host; see the views servers, stat_servers and stat_hosts';

CREATE VIEW cachekit.stat_hosts AS
SELECT s.srvname AS name, t.host, t.state, t.breaker, t."position", t.lag_bytes, t.oldest_unacknowledged,
       t.sent, t.acknowledged, t.fills_sent, t.fills_dropped, t.reads, t.read_hits, t.reconnects, t.resumes, t.flushes, t.connections, t.replacements, t.refreshes, t.refreshes_fallen_back, t.refreshes_pending, t.last_error, t.last_error_at, t.latency_histogram
  FROM cachekit.server_states() AS t
  JOIN pg_catalog.pg_foreign_server AS s ON s.oid OPERATOR(pg_catalog.=) t.serverid;
COMMENT ON VIEW cachekit.stat_hosts IS 'what the sender of each host of each cache server did, since the server started or stat_reset()';
COMMENT ON COLUMN cachekit.stat_hosts.connections IS 'connections that keys are distributed to now';
COMMENT ON COLUMN cachekit.stat_hosts.replacements IS 'connections that took the place of one that reached max_lifetime or was closed by idle_timeout';
COMMENT ON COLUMN cachekit.stat_hosts.refreshes IS 'changed documents that were loaded again and took the place of the old ones';
COMMENT ON COLUMN cachekit.stat_hosts.refreshes_fallen_back IS 'changed documents that were to be loaded again, and were deleted instead: too late, too large, too many, refused, or there is no such row any more';
COMMENT ON COLUMN cachekit.stat_hosts.refreshes_pending IS 'changed documents that are being loaded again or stored now';
GRANT SELECT ON cachekit.stat_hosts TO PUBLIC;

-- A server with several hosts is as far as the host that is furthest behind.
CREATE VIEW cachekit.stat_servers AS
SELECT h.name,
       (pg_catalog.array_agg(h.state ORDER BY pg_catalog.array_position('{refused,stopped,connecting,flushing,replaying,ready}'::pg_catalog.text[], h.state)))[1] AS state,
       (pg_catalog.array_agg(h.breaker ORDER BY pg_catalog.array_position('{open,half-open,closed}'::pg_catalog.text[], h.breaker)))[1] AS breaker,
       (pg_catalog.array_agg(h."position" ORDER BY h."position" NULLS FIRST))[1] AS "position",
       pg_catalog.max(h.lag_bytes) AS lag_bytes, pg_catalog.min(h.oldest_unacknowledged) AS oldest_unacknowledged,
       pg_catalog.sum(h.sent)::pg_catalog.int8 AS sent, pg_catalog.sum(h.acknowledged)::pg_catalog.int8 AS acknowledged,
       pg_catalog.sum(h.fills_sent)::pg_catalog.int8 AS fills_sent, pg_catalog.sum(h.fills_dropped)::pg_catalog.int8 AS fills_dropped,
       pg_catalog.sum(h.reads)::pg_catalog.int8 AS reads, pg_catalog.sum(h.read_hits)::pg_catalog.int8 AS read_hits,
       pg_catalog.sum(h.reconnects)::pg_catalog.int8 AS reconnects, pg_catalog.sum(h.resumes)::pg_catalog.int8 AS resumes,
       pg_catalog.sum(h.flushes)::pg_catalog.int8 AS flushes,
       pg_catalog.sum(h.connections)::pg_catalog.int4 AS connections, pg_catalog.sum(h.replacements)::pg_catalog.int8 AS replacements,
       pg_catalog.sum(h.refreshes)::pg_catalog.int8 AS refreshes, pg_catalog.sum(h.refreshes_fallen_back)::pg_catalog.int8 AS refreshes_fallen_back,
       pg_catalog.sum(h.refreshes_pending)::pg_catalog.int4 AS refreshes_pending,
       (pg_catalog.array_agg(h.last_error ORDER BY h.last_error_at DESC NULLS LAST))[1] AS last_error,
       pg_catalog.max(h.last_error_at) AS last_error_at,
       (SELECT pg_catalog.array_agg(l.n ORDER BY l.i)
          FROM (SELECT pg_catalog.sum(u.n)::pg_catalog.int8 AS n, u.i
                  FROM cachekit.stat_hosts AS o, pg_catalog.unnest(o.latency_histogram) WITH ORDINALITY AS u(n, i)
                 WHERE o.name OPERATOR(pg_catalog.=) h.name GROUP BY u.i) AS l) AS latency_histogram
  FROM cachekit.stat_hosts AS h
 GROUP BY h.name;
COMMENT ON COLUMN cachekit.stat_servers.connections IS 'connections that keys are distributed to now';
COMMENT ON COLUMN cachekit.stat_servers.replacements IS 'connections that took the place of one that reached max_lifetime or was closed by idle_timeout';
COMMENT ON COLUMN cachekit.stat_servers.refreshes IS 'changed documents that were loaded again and took the place of the old ones';
COMMENT ON COLUMN cachekit.stat_servers.refreshes_fallen_back IS 'changed documents that were to be loaded again, and were deleted instead: too late, too large, too many, refused, or there is no such row any more';
COMMENT ON COLUMN cachekit.stat_servers.refreshes_pending IS 'changed documents that are being loaded again or stored now';
COMMENT ON VIEW cachekit.stat_servers IS 'what the sender of each cache server did, since the server started or stat_reset(); stat_hosts has its hosts one by one';
GRANT SELECT ON cachekit.stat_servers TO PUBLIC;

CREATE VIEW cachekit.servers AS
SELECT s.srvname AS name, COALESCE(t.namespace, '') AS namespace, COALESCE(t.state, 'unknown') AS state,
       COALESCE(t.readable, false) AS readable, s.srvoptions AS options
  FROM pg_catalog.pg_foreign_server AS s
  JOIN pg_catalog.pg_foreign_data_wrapper AS w ON w.oid OPERATOR(pg_catalog.=) s.srvfdw
  LEFT JOIN (SELECT h.serverid, pg_catalog.min(h.namespace) AS namespace, pg_catalog.bool_and(h.readable) AS readable,
                    (pg_catalog.array_agg(h.state ORDER BY pg_catalog.array_position('{refused,stopped,connecting,flushing,replaying,ready}'::pg_catalog.text[], h.state)))[1] AS state
               FROM cachekit.server_states() AS h GROUP BY h.serverid) AS t ON t.serverid OPERATOR(pg_catalog.=) s.oid
 WHERE w.fdwname OPERATOR(pg_catalog.=) 'cachekit';
COMMENT ON VIEW cachekit.servers IS 'cache servers, and what state they are in';
GRANT SELECT ON cachekit.servers TO PUBLIC;

CREATE FUNCTION cachekit.wait_for_delivery(timeout pg_catalog.interval DEFAULT NULL) RETURNS pg_catalog.bool
AS 'MODULE_PATHNAME', 'ck_wait_for_delivery' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION cachekit.wait_for_delivery(pg_catalog.interval)
IS 'waits until every cache server has acknowledged all that was committed before the call; false when the time is up, the namespace of a server is refused, or there is no room for one';

CREATE FUNCTION cachekit.view_reads(view pg_catalog.regclass, key pg_catalog.name[],
	OUT relation pg_catalog.text, OUT columns pg_catalog.text, OUT derived pg_catalog.text,
	OUT complete pg_catalog.bool)
RETURNS SETOF pg_catalog.record
AS 'MODULE_PATHNAME', 'ck_view_reads' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION cachekit.view_reads(pg_catalog.regclass, pg_catalog.name[])
IS 'what a view of yours reads: tables, their columns (* is whole rows), and which columns equal the given key of the view; complete if that is known for every occurrence of the table';

CREATE FUNCTION cachekit.view_problems(view pg_catalog.regclass) RETURNS SETOF pg_catalog.text
AS 'MODULE_PATHNAME', 'ck_view_problems' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION cachekit.view_problems(pg_catalog.regclass)
IS 'why documents of a view of yours could change without any trigger telling';

CREATE FUNCTION cachekit.is_preloaded() RETURNS pg_catalog.bool
AS 'MODULE_PATHNAME', 'ck_is_preloaded' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION cachekit.is_preloaded() IS 'is cachekit in shared_preload_libraries, so that it can cache?';

CREATE FUNCTION cachekit.slots_in_use() RETURNS pg_catalog.int4
AS 'MODULE_PATHNAME', 'ck_slots_in_use' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION cachekit.slots_in_use() IS 'how many of the cachekit.max_entities slots are taken, in all databases';

CREATE FUNCTION cachekit.refresher_missing() RETURNS pg_catalog.bool
AS 'MODULE_PATHNAME', 'ck_refresher_missing' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION cachekit.refresher_missing() IS 'was there, in the last two minutes, no background worker to load changed documents of this database again?';

CREATE FUNCTION cachekit.health(OUT severity pg_catalog.text, OUT subject pg_catalog.text,
	OUT problem pg_catalog.text, OUT hint pg_catalog.text)
RETURNS SETOF pg_catalog.record
LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
	SELECT 'error', 'server', 'cachekit was not preloaded, so nothing is cached',
	       'Add cachekit to shared_preload_libraries and restart the server.'
	 WHERE NOT cachekit.is_preloaded()
	UNION ALL
	SELECT 'warning', 'entity ' || e.name, 'it is not cached: ' || p.problem,
	       CASE WHEN p.problem LIKE 'all slots%'
	            THEN 'Raise cachekit.max_entities (now ' || current_setting('cachekit.max_entities') || ') and restart the server.'
	            WHEN p.problem LIKE '% is missing, disabled or altered'
	            THEN 'Attach it again: SELECT cachekit.attach(' || quote_literal(e.relation::regclass::text) || ').'
	            WHEN p.problem LIKE '%has no dependency%'
	            THEN 'Say which keys a row of that table concerns: cachekit.add_dependency(' || quote_literal(e.relation::regclass::text) || ', table, key => ...), or via => ''SELECT ...''.'
	            WHEN p.problem LIKE '%"via" query%'
	            THEN 'Give the query anew: cachekit.drop_dependency(), then cachekit.add_dependency().'
	            WHEN p.problem LIKE 'column %'
	            THEN 'Leave it out: SELECT cachekit.attach(' || quote_literal(e.relation::regclass::text) || ', columns => ...).'
	            ELSE 'Undo that, or detach it: SELECT cachekit.detach(' || quote_literal(e.relation::regclass::text) || ').' END
	  FROM cachekit.entities AS e, LATERAL (SELECT cachekit.entity_problem(e.relation)) AS p(problem)
	 WHERE p.problem IS NOT NULL
	UNION ALL
	SELECT 'warning', 'server ' || s.name || s.which,
	       CASE WHEN s.state = 'ready' THEN s.last_error
	            ELSE 'it is not used: state ' || s.state || COALESCE(', ' || s.last_error, '') END,
	       CASE WHEN s.last_error LIKE '%out of memory%' THEN 'Give the cache server more memory (Redis: maxmemory; Memcached: -m), or let it evict what has a TTL (Redis: volatile-lru; Memcached: not -M).'
	            WHEN s.last_error LIKE '%worker%' THEN 'Raise max_worker_processes and restart the server.'
	            WHEN s.state = 'refused' AND s.last_error LIKE '%same host%' THEN 'Give one of them a host of its own; or, for both, OPTIONS (flush_method ''scan'') and namespaces of their own.'
	            WHEN s.state = 'refused' THEN 'Give one of them a namespace of its own: ALTER SERVER ' || quote_ident(s.name) || ' OPTIONS (SET namespace ''...'').'
	            WHEN s.last_error LIKE '%another writer%' OR s.last_error LIKE '%as we left it%'
	            THEN 'See that no other database or cluster uses the same namespace there (or, with flush_method flush_all, the same host), and that the cache is not exchanged under us.'
	            ELSE 'See that the cache server runs, and that the options of the server and of its user mapping are right.' END
	  FROM (SELECT h.*, CASE WHEN count(*) OVER (PARTITION BY h.name) > 1 THEN ' (' || h.host || ')' ELSE '' END AS which
	          FROM cachekit.stat_hosts AS h) AS s
	 WHERE (s.state <> 'ready' AND (s.last_error IS NOT NULL OR s.state = 'stopped'))
	    OR ((s.last_error LIKE 'another writer%' OR s.last_error LIKE '%out of memory%') AND s.last_error_at > clock_timestamp() - interval '2 minutes')
	UNION ALL
	SELECT DISTINCT 'warning', 'server ' || s.srvname, 'no replication slot keeps WAL for it, so it may have to be flushed after an outage',
	       CASE WHEN current_setting('wal_level') = 'minimal' THEN 'Set wal_level to replica or logical and restart the server.'
	            ELSE 'Raise max_replication_slots (now ' || current_setting('max_replication_slots') || ') and restart the server.' END
	  FROM cachekit.server_states() AS t JOIN pg_foreign_server AS s ON s.oid = t.serverid
	 WHERE NOT t.keeps_wal
	UNION ALL
	SELECT 'warning', 'server ' || s.name, 'no sender is known for it',
	       'If that does not change in a few seconds: there can be 64 cache servers in all databases (each host of a Memcached server counts), and max_worker_processes (now ' || current_setting('max_worker_processes') || ') must allow one worker for each, one for the launcher and one more.'
	  FROM cachekit.servers AS s WHERE s.state = 'unknown' AND cachekit.is_preloaded() AND NOT pg_is_in_recovery()
	UNION ALL
	SELECT 'warning', 'server ' || s.srvname, (t.hosts - t.n) || ' of its ' || t.hosts || ' hosts are not used: there is no room for them',
	       'There can be 64 cache servers in all databases; each host of a Memcached server counts.'
	  FROM (SELECT serverid, max(hosts) AS hosts, count(*) AS n FROM cachekit.server_states() GROUP BY serverid) AS t
	  JOIN pg_foreign_server AS s ON s.oid = t.serverid
	 WHERE t.n < t.hosts
	UNION ALL
	SELECT 'warning', 'refresher', 'no background worker could be started, so changed documents of entities with on_change ''refresh'' are deleted',
	       'Raise max_worker_processes (now ' || current_setting('max_worker_processes') || ') and restart the server.'
	 WHERE cachekit.refresher_missing()
	UNION ALL
	SELECT 'warning', 'event trigger ' || t.name, 'it is missing or not ENABLE ALWAYS, so DDL of sessions without the library is not followed',
	       'ALTER EVENT TRIGGER ' || t.name || ' ENABLE ALWAYS.'
	  FROM (VALUES ('cachekit_ddl'), ('cachekit_drop')) AS t(name)
	 WHERE NOT EXISTS (SELECT FROM pg_event_trigger AS v WHERE v.evtname = t.name AND v.evtenabled = 'A')
	UNION ALL
	SELECT 'warning', 'subscription ' || s.subname,
	       'it is two_phase and replicates into ' || r.srrelid::regclass || ', whose prepared transactions are refused',
	       'Drop the subscription and create it with two_phase = false, or detach the table.'
	  FROM pg_subscription AS s
	  JOIN pg_subscription_rel AS r ON r.srsubid = s.oid
	 WHERE s.subtwophasestate <> 'd'
	   AND EXISTS (SELECT FROM pg_trigger AS t
	                WHERE t.tgrelid = r.srrelid AND t.tgfoid = 'cachekit.on_row_change()'::regprocedure)
$$;
COMMENT ON FUNCTION cachekit.health() IS 'one row for each thing that an operator should know; none when all is well';
REVOKE ALL ON FUNCTION cachekit.health() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cachekit.health() TO pg_monitor;
