/*
 * control.c
 *		What the control session does: the tables, the truth, the end.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control.h"
#include "history.h"
#include "memcached.h"
#include "redis.h"
#include "report.h"
#include "work.h"

/* What is not delivered after so long will not arrive. */
#define DELIVERY_SECONDS	60

/* A statement that must succeed, unless the connection is lost. */
static PGresult *
query(Session *c, const char *sql)
{
	PGresult   *res = session_query(c, sql);

	if (res == NULL && c->failure != FAILED_LOST)
		report_fatal("\"%s\" failed: %s", sql, c->message);
	return res;
}

static bool
command(Session *c, const char *sql)
{
	PGresult   *res = query(c, sql);

	PQclear(res);
	return res != NULL;
}

/* From now on the registers are those of this table. */
static bool
use_table(Session *c, int table)
{
	char		sql[80];

	snprintf(sql, sizeof(sql), "SET search_path = %s", tables[table].name);
	c->table = table;
	return command(c, sql);
}

void
control_attach_sql(int table, char *buffer, size_t size)
{
	snprintf(buffer, size, "SELECT cachekit.attach('ck_register', name => '%s', servers => '{%s}', "
			 "local => %s, negative_ttl => '1 hour'%s%s)", tables[table].name,
			 tables[table].servers, tables[table].local ? "true" : "false",
			 options.refresh ? ", on_change => 'refresh'" : "",
			 options.refresh_absent ? ", refresh_absent => true" : "");
}

static bool
attach(Session *c, int table)
{
	char		sql[240];

	control_attach_sql(table, sql, sizeof(sql));
	return command(c, sql);
}

/*
 * Everything that is altered later is set, so that it can be.
 */
bool
control_make_server(Session *c, Cache cache)
{
	char		sql[1600];

	snprintf(sql, sizeof(sql), "CREATE SERVER %s FOREIGN DATA WRAPPER cachekit OPTIONS "
			 "(kind '%s', %s, namespace '" NAMESPACE "', command_timeout '300ms', "
			 "breaker_reset '200ms', connections '2', max_inflight '640', "
			 "max_lifetime '30min', idle_timeout '10min')", caches[cache].server,
			 cache == CACHE_REDIS ? "redis" : "memcached",
			 cache == CACHE_REDIS ? redis_address() : memcached_address());
	return command(c, sql);
}

/*
 * The first writes have the numbers of their keys, so that one INSERT can make
 * their versions.
 */
static bool
make_table(Session *c, int table)
{
	WriteId    *ids = malloc((size_t) options.keys * sizeof(WriteId));
	int			first = FIRST_KEY(table);
	char		sql[256];

	if (ids == NULL)
		report_fatal("out of memory");
	snprintf(sql, sizeof(sql), "CREATE SCHEMA %s", tables[table].name);
	if (!command(c, sql) ||
		!use_table(c, table) ||
		!command(c, "CREATE TABLE ck_register (id int PRIMARY KEY, version bigint NOT NULL, "
				 "writer int, pad text)") ||
		!command(c, "CREATE TABLE ck_tomb (id int PRIMARY KEY, version bigint NOT NULL)") ||
		!attach(c, table))
		return false;

	for (int i = 0; i < options.keys; i++)
	{
		ids[i] = history_write(first + i, 0);
		if (ids[i] != (WriteId) (first + i))
			report_fatal("the history is not new");
		history_version(ids[i], VERSION_UNIT + ids[i], false);
	}
	history_sent(ids, options.keys);
	snprintf(sql, sizeof(sql), "INSERT INTO ck_register SELECT k, %lld + k, 0, (%lld + k)::text "
			 "FROM generate_series(%d, %d) k",
			 (long long) VERSION_UNIT, (long long) VERSION_UNIT,
			 first, first + options.keys - 1);
	if (!command(c, sql))
		return false;
	snprintf(sql, sizeof(sql), "INSERT INTO ck_tomb SELECT k, 0 FROM generate_series(%d, %d) k",
			 first, first + options.keys - 1);
	if (!command(c, sql))
		return false;
	history_done(ids, options.keys, false);
	free(ids);
	return true;
}

static bool
take_timeline(Session *c)
{
	PGresult   *res = query(c, "SELECT ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))"
							"::bit(32)::int");

	if (res == NULL)
		return false;
	history_timeline((uint32_t) strtoul(PQgetvalue(res, 0, 0), NULL, 10));
	PQclear(res);
	return true;
}

bool
control_setup(Session *c)
{
	PGresult   *res;

	res = query(c, "SELECT 1 FROM pg_namespace WHERE nspname = 'cachekit'");
	if (res == NULL)
		return false;
	if (PQntuples(res) == 0 && !command(c, "CREATE EXTENSION cachekit"))
		return false;
	PQclear(res);

	if (!command(c, "DROP SCHEMA IF EXISTS ck_local, ck_redis, ck_memcached CASCADE") ||
		!command(c, "DROP SERVER IF EXISTS ck_redis, ck_memcached CASCADE"))
		return false;
	for (Cache cache = 0; cache < CACHES; cache++)
		if (CACHE_USED(cache) && !control_make_server(c, cache))
			return false;
	for (int t = 0; t < ntables; t++)
		if (!make_table(c, t))
			return false;
	if (!take_timeline(c) || !control_delivered(c))
		return false;
	if (report_violations() > 0)
		report_fatal("the cache server cannot be used; see cachekit.health()");
	return true;
}

/*
 * A server that has just been started may still have sessions of its own, and
 * one that is to take over may still be a standby.
 */
bool
control_wait_alone(Session *c)
{
	for (;;)
	{
		PGresult   *res = query(c, "SELECT 1 FROM pg_stat_activity WHERE application_name = '"
								APPLICATION_NAME "' AND pid <> pg_backend_pid() "
								"UNION ALL SELECT 1 WHERE pg_is_in_recovery()");
		bool		alone = res != NULL && PQntuples(res) == 0;

		PQclear(res);
		if (res == NULL || alone)
			return res != NULL;
	}
}

static bool
truth_of_table(Session *c, int table)
{
	PGresult   *res;

	/* the DDL session may have been stopped between two steps */
	if (!use_table(c, table) ||
		!command(c, "ALTER TABLE ck_register ENABLE TRIGGER ALL") ||
		!attach(c, table))
		return false;
	history_window_moves(table, false);

	res = query(c, "SELECT t.id, coalesce(r.version, t.version), r.id IS NULL "
				"FROM ck_tomb t LEFT JOIN ck_register r ON r.id = t.id ORDER BY t.id");
	if (res == NULL)
		return false;
	if (PQntuples(res) != options.keys)
		report_fatal("table ck_tomb has %d rows instead of %d", PQntuples(res), options.keys);
	for (int i = 0; i < PQntuples(res); i++)
		history_truth(atoi(PQgetvalue(res, i, 0)),
					  strtoll(PQgetvalue(res, i, 1), NULL, 10),
					  strcmp(PQgetvalue(res, i, 2), "t") == 0);
	PQclear(res);

	res = query(c, "SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_attribute a "
				"JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum "
				"WHERE a.attrelid = 'ck_register'::regclass AND a.attname = 'shape'");
	if (res == NULL)
		return false;
	history_shape_truth(table, PQntuples(res) == 1 ? atoi(PQgetvalue(res, 0, 0)) : 0);
	PQclear(res);
	return true;
}

bool
control_truth(Session *c)
{
	if (!take_timeline(c))
		return false;
	for (int t = 0; t < ntables; t++)
		if (!truth_of_table(c, t))
			return false;
	history_truth_end();
	return true;
}

static bool
table_at_rest(Session *c, int table)
{
	char		sql[256];

	if (!use_table(c, table))
		return false;
	snprintf(sql, sizeof(sql), "SELECT k, cachekit.fetch('ck_register', k), "
			 "(SELECT to_jsonb(r) FROM ck_register r WHERE r.id = k) "
			 "FROM generate_series(%d, %d) k",
			 FIRST_KEY(table), FIRST_KEY(table) + options.keys - 1);
	for (int pass = 1; pass <= 2; pass++)
	{
		PGresult   *res = query(c, sql);

		if (res == NULL)
			return false;
		for (int i = 0; i < PQntuples(res); i++)
			if (PQgetisnull(res, i, 1) != PQgetisnull(res, i, 2) ||
				strcmp(PQgetvalue(res, i, 1), PQgetvalue(res, i, 2)) != 0)
				report_violation("at rest", "key %s: fetch (pass %d) says %s, the table %s",
								 PQgetvalue(res, i, 0), pass,
								 PQgetisnull(res, i, 1) ? "no row" : PQgetvalue(res, i, 1),
								 PQgetisnull(res, i, 2) ? "no row" : PQgetvalue(res, i, 2));
		count_up(c, COUNT_SNAPSHOT, (uint64_t) PQntuples(res));
		PQclear(res);
	}
	return true;
}

bool
control_at_rest(Session *c)
{
	for (int t = 0; t < ntables; t++)
		if (!table_at_rest(c, t))
			return false;
	return true;
}

/* While a sender starts, it may not know yet what it has to deliver. */
bool
control_delivered(Session *c)
{
	int64_t		give_up = now_ns() + DELIVERY_SECONDS * INT64_C(1000000000);
	bool		delivered = !options.redis && options.memcached == 0;
	char		sql[120];

	snprintf(sql, sizeof(sql), "SELECT count(*) = %d FROM cachekit.stat_servers "
			 "WHERE name IN ('ck_redis', 'ck_memcached') AND state = 'ready'",
			 options.redis + (options.memcached > 0));

	while (!delivered && now_ns() < give_up)
	{
		PGresult   *res = query(c, sql);

		if (res == NULL)
			return false;
		if (strcmp(PQgetvalue(res, 0, 0), "t") == 0)
		{
			PQclear(res);
			res = query(c, "SELECT cachekit.wait_for_delivery('1 s')");
			if (res == NULL)
				return false;
			delivered = strcmp(PQgetvalue(res, 0, 0), "t") == 0;
		}
		else
			pause_ms(20);
		PQclear(res);
	}
	if (!delivered)
		report_violation("delivery", "not all that was committed had arrived after %d s",
						 DELIVERY_SECONDS);
	return true;
}

typedef struct Comparison
{
	Cache		cache;
	PGresult   *rows[MAX_TABLES];	/* (key, document), every key */
	int		   *hosts[MAX_TABLES];	/* that have them, from 1; 0: none so far */
	uint64_t	compared;
} Comparison;

static void
compare_document(void *arg, int host, const char *name, const char *document)
{
	Comparison *comparison = arg;
	const char *title = caches[comparison->cache].title;

	comparison->compared++;
	for (int t = 0; t < ntables; t++)
	{
		size_t		length = strlen(tables[t].name);
		PGresult   *rows = comparison->rows[t];
		int			row;

		if (strncmp(name, tables[t].name, length) != 0 || name[length] != ':')
			continue;
		row = atoi(name + length + 1) - FIRST_KEY(t);
		if (row < 0 || row >= PQntuples(rows) ||
			strcmp(PQgetvalue(rows, row, 0), name + length + 1) != 0)
			break;				/* nobody ever committed such a key */
		if (PQgetisnull(rows, row, 1) || strcmp(PQgetvalue(rows, row, 1), document) != 0)
			report_violation("document", "key %s in %s: %s, the table: %s", name, title, document,
							 PQgetisnull(rows, row, 1) ? "no row" : PQgetvalue(rows, row, 1));
		if (comparison->hosts[t][row] != 0)
			report_violation("document", "key %s is on hosts %d and %d of %s", name,
							 comparison->hosts[t][row] - 1, host, title);
		comparison->hosts[t][row] = host + 1;
		return;
	}
	report_violation("document", "key %s should not be in %s: %s", name, title, document);
}

bool
control_documents(Session *c, Cache cache, uint64_t *compared)
{
	Comparison	comparison = {.cache = cache};

	for (int t = 0; t < ntables; t++)
	{
		char		sql[256];

		snprintf(sql, sizeof(sql), "SELECT k, (SELECT to_jsonb(r) FROM ck_register r "
				 "WHERE r.id = k) FROM generate_series(%d, %d) k",
				 FIRST_KEY(t), FIRST_KEY(t) + options.keys - 1);
		if (use_table(c, t))
			comparison.rows[t] = query(c, sql);
		if (comparison.rows[t] == NULL)
			return false;
		comparison.hosts[t] = calloc((size_t) options.keys, sizeof(int));
		if (comparison.hosts[t] == NULL)
			report_fatal("out of memory");
	}
	if (cache == CACHE_REDIS)
		redis_documents(compare_document, &comparison);
	else
		memcached_documents(compare_document, &comparison);
	for (int t = 0; t < ntables; t++)
	{
		PQclear(comparison.rows[t]);
		free(comparison.hosts[t]);
	}
	*compared = comparison.compared;
	return true;
}

bool
control_hits(Session *c, Hits *hits)
{
	PGresult   *res = query(c, "SELECT sum(local_hits + negative_hits)::bigint, "
							"sum(server_hits)::bigint FROM cachekit.stat_entities "
							"WHERE name IN ('ck_local', 'ck_redis', 'ck_memcached')");

	memset(hits, 0, sizeof(*hits));
	if (res == NULL)
		return false;
	hits->local = strtoll(PQgetvalue(res, 0, 0), NULL, 10);
	hits->server = strtoll(PQgetvalue(res, 0, 1), NULL, 10);
	PQclear(res);
	res = query(c, "SELECT name, read_hits, state = 'ready' FROM cachekit.stat_servers");
	if (res == NULL)
		return false;
	for (int i = 0; i < PQntuples(res); i++)
		for (Cache cache = 0; cache < CACHES; cache++)
			if (strcmp(PQgetvalue(res, i, 0), caches[cache].server) == 0)
			{
				hits->answered[cache] = strtoll(PQgetvalue(res, i, 1), NULL, 10);
				hits->ready[cache] = strcmp(PQgetvalue(res, i, 2), "t") == 0;
			}
	PQclear(res);
	return true;
}

bool
control_print_senders(Session *c)
{
	PGresult   *res = query(c, "SELECT format('%s, %s reconnects, %s resumes, %s flushes, %s fills, "
							"%s fills dropped, %s refreshes, %s fallen back, last error: %s', "
							"state, reconnects, resumes, flushes, fills_sent, fills_dropped, "
							"refreshes, refreshes_fallen_back, coalesce(last_error, 'none')), "
							"name, host "
							"FROM cachekit.stat_hosts WHERE name IN ('ck_redis', 'ck_memcached') "
							"ORDER BY name DESC, host");

	if (res == NULL)
		return false;
	for (int i = 0; i < PQntuples(res); i++)
		if (strcmp(PQgetvalue(res, i, 1), caches[CACHE_REDIS].server) == 0)
			printf("sender: %s\n", PQgetvalue(res, i, 0));
		else
			printf("sender to %s: %s\n", PQgetvalue(res, i, 2), PQgetvalue(res, i, 0));
	PQclear(res);
	return true;
}
