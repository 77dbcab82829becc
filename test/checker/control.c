/*
 * control.c
 *		What the control session does: the tables, the truth, the end.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control.h"
#include "history.h"
#include "report.h"

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

/*
 * The first writes have the numbers of their keys, so that one INSERT can make
 * their versions.
 */
bool
control_setup(Session *c)
{
	WriteId    *ids = malloc((size_t) options.keys * sizeof(WriteId));
	char		sql[256];
	PGresult   *res;

	if (ids == NULL)
		report_fatal("out of memory");
	res = query(c, "SELECT 1 FROM pg_namespace WHERE nspname = 'cachekit'");
	if (res == NULL)
		return false;
	if (PQntuples(res) == 0 && !command(c, "CREATE EXTENSION cachekit"))
		return false;
	PQclear(res);

	if (!command(c, "DROP TABLE IF EXISTS ck_register, ck_tomb") ||
		!command(c, "CREATE TABLE ck_register (id int PRIMARY KEY, version bigint NOT NULL, "
				 "writer int, pad text)") ||
		!command(c, "CREATE TABLE ck_tomb (id int PRIMARY KEY, version bigint NOT NULL)") ||
		!command(c, "SELECT cachekit.attach('ck_register', negative_ttl => '1 hour')"))
		return false;

	for (int key = 1; key <= options.keys; key++)
	{
		ids[key - 1] = history_write(key, 0);
		if (ids[key - 1] != (WriteId) key)
			report_fatal("the history is not new");
		history_version(ids[key - 1], VERSION_UNIT + key, false);
	}
	history_sent(ids, options.keys);
	snprintf(sql, sizeof(sql), "INSERT INTO ck_register SELECT k, %lld + k, 0, (%lld + k)::text "
			 "FROM generate_series(1, %d) k",
			 (long long) VERSION_UNIT, (long long) VERSION_UNIT, options.keys);
	if (!command(c, sql))
		return false;
	snprintf(sql, sizeof(sql), "INSERT INTO ck_tomb SELECT k, 0 FROM generate_series(1, %d) k",
			 options.keys);
	if (!command(c, sql))
		return false;
	history_done(ids, options.keys);
	free(ids);
	return true;
}

/* A server that has just been started may still have sessions of its own. */
bool
control_wait_alone(Session *c)
{
	for (;;)
	{
		PGresult   *res = query(c, "SELECT 1 FROM pg_stat_activity WHERE application_name = '"
								APPLICATION_NAME "' AND pid <> pg_backend_pid()");
		bool		alone = res != NULL && PQntuples(res) == 0;

		PQclear(res);
		if (res == NULL || alone)
			return res != NULL;
	}
}

bool
control_truth(Session *c)
{
	PGresult   *res;

	/* the DDL session may have been stopped between two steps */
	if (!command(c, "ALTER TABLE ck_register ENABLE TRIGGER ALL") ||
		!command(c, "SELECT cachekit.attach('ck_register', negative_ttl => '1 hour')"))
		return false;
	history_window_moves(false);

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
	history_truth_end();

	res = query(c, "SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_attribute a "
				"JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum "
				"WHERE a.attrelid = 'ck_register'::regclass AND a.attname = 'shape'");
	if (res == NULL)
		return false;
	history_shape_truth(PQntuples(res) == 1 ? atoi(PQgetvalue(res, 0, 0)) : 0);
	PQclear(res);
	return true;
}

bool
control_at_rest(Session *c)
{
	char		sql[256];

	snprintf(sql, sizeof(sql), "SELECT k, cachekit.fetch('ck_register', k), "
			 "(SELECT to_jsonb(r) FROM ck_register r WHERE r.id = k) "
			 "FROM generate_series(1, %d) k", options.keys);
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
control_hits(Session *c, int64_t *hits)
{
	static int	known = -1;		/* is there such a view? */
	PGresult   *res;

	*hits = -1;
	if (known < 0)
	{
		res = query(c, "SELECT to_regclass('cachekit.stat_entities')");
		if (res == NULL)
			return false;
		known = !PQgetisnull(res, 0, 0);
		PQclear(res);
	}
	if (known == 0)
		return true;
	res = query(c, "SELECT coalesce(sum(local_hits + negative_hits), 0)::bigint "
				"FROM cachekit.stat_entities WHERE name = 'ck_register'");
	if (res == NULL)
		return false;
	*hits = strtoll(PQgetvalue(res, 0, 0), NULL, 10);
	PQclear(res);
	return true;
}
