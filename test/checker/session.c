/*
 * session.c
 *		One connection to the server, and the thread that uses it.
 *
 * Calls are synchronous: a session is a thread, and what a session waits for
 * is what it checks.  The arithmetic on versions is that of history.h; it is
 * done by the server where the row's lock has to be held meanwhile.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report.h"
#include "session.h"

#define NEXT(v)	"((" v ") / 1000000000 + 1) * 1000000000 + $2::bigint"
#define PAD		"rpad(v::text, $4::int, 'x')"

static const char *const statements[STATEMENTS] = {
	[ST_FETCH] = "SELECT cachekit.fetch('ck_register', $1::int)",
	[ST_FETCH_BYPASS] = "SELECT cachekit.fetch('ck_register', $1::int, 'bypass')",
	[ST_FETCH_INVALIDATE] = "SELECT cachekit.fetch('ck_register', $1::int, 'invalidate')",
	[ST_FETCH_FRESH] = "SELECT cachekit.fetch('ck_register', $1::int, 'fresh')",
	[ST_FETCH_MANY] = "SELECT key, value FROM cachekit.fetch_many('ck_register', $1::int[])",
	[ST_FETCH_SET] = "SELECT key, value FROM cachekit.fetch_many('ck_register', $1::int[], "
	"consistent => true)",
	[ST_SELECT] = "SELECT to_jsonb(r) FROM ck_register r WHERE r.id = $1::int",
	[ST_UPDATE] = "UPDATE ck_register SET version = " NEXT("version") ", writer = $3::int, "
	"pad = rpad((" NEXT("version") ")::text, $4::int, 'x') "
	"WHERE id = $1::int RETURNING version",
	[ST_UPDATE_FETCH] = "UPDATE ck_register SET version = " NEXT("version") ", writer = $3::int, "
	"pad = rpad((" NEXT("version") ")::text, $4::int, 'x') "
	"WHERE id = $1::int RETURNING version, cachekit.fetch('ck_register', id)",
	[ST_INSERT] = "INSERT INTO ck_register (id, version, writer, pad) "
	"SELECT $1::int, v, $3::int, " PAD " FROM "
	"(SELECT " NEXT("version") " AS v FROM ck_tomb WHERE id = $1::int) t "
	"ON CONFLICT DO NOTHING RETURNING version",
	[ST_UPSERT] = "INSERT INTO ck_register AS r (id, version, writer, pad) "
	"SELECT $1::int, v, $3::int, " PAD " FROM "
	"(SELECT " NEXT("version") " AS v FROM ck_tomb WHERE id = $1::int) t "
	"ON CONFLICT (id) DO UPDATE SET version = " NEXT("r.version") ", writer = $3::int, "
	"pad = rpad((" NEXT("r.version") ")::text, $4::int, 'x') RETURNING version",
	[ST_MOVE] = "UPDATE ck_register SET id = $2::int, version = $3::bigint, writer = $4::int, "
	"pad = $3::bigint::text WHERE id = $1::int",
	[ST_DELETE] = "DELETE FROM ck_register WHERE id = $1::int RETURNING version",
	[ST_LOCK_KEYS] = "SELECT id, version FROM ck_tomb WHERE id = ANY ($1::int[]) "
	"ORDER BY id FOR UPDATE",
	[ST_LOCK_ROWS] = "SELECT id, version FROM ck_register WHERE id = ANY ($1::int[]) "
	"ORDER BY id FOR UPDATE",
	[ST_BASES] = "SELECT t.id, coalesce(r.version, t.version), r.id IS NULL "
	"FROM ck_tomb t LEFT JOIN ck_register r ON r.id = t.id ORDER BY t.id",
	[ST_TOMBS] = "UPDATE ck_tomb t SET version = n.version "
	"FROM unnest($1::int[], $2::bigint[]) n(id, version) WHERE t.id = n.id",
	[ST_INVALIDATE] = "SELECT cachekit.invalidate('ck_register', $1::int)",
};

#define MAX_PARAMS	4

/* Decides what a failed result means, and clears it. */
static void
failed(Session *s, PGresult *res)
{
	const char *state = res != NULL ? PQresultErrorField(res, PG_DIAG_SQLSTATE) : NULL;

	if (PQstatus(s->conn) == CONNECTION_BAD || state == NULL ||
		strncmp(state, "57P", 3) == 0)
		s->failure = FAILED_LOST;
	else if (strcmp(state, "40P01") == 0 || strcmp(state, "40001") == 0)
		s->failure = FAILED_RETRY;
	else
		s->failure = FAILED_ERROR;
	snprintf(s->message, sizeof(s->message), "%s: %s", state != NULL ? state : "-----",
			 res != NULL ? PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY) != NULL ?
			 PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY) : "connection lost" :
			 "connection lost");
	PQclear(res);
}

static PGresult *
settle(Session *s, PGresult *res)
{
	switch (PQresultStatus(res))
	{
		case PGRES_TUPLES_OK:
		case PGRES_COMMAND_OK:
		case PGRES_COPY_IN:
			s->failure = FAILED_NOT;
			return res;
		default:
			failed(s, res);
			return NULL;
	}
}

/* Notices are not shown; a COMMIT that did not wait for a cache server has a WARNING. */
static void
take_notice(void *arg, const PGresult *res)
{
	const char *severity = PQresultErrorField(res, PG_DIAG_SEVERITY_NONLOCALIZED);

	if (severity != NULL && strcmp(severity, "WARNING") == 0)
		((Session *) arg)->warned = true;
}

/* False if the server is not there (yet); what is worse than that is fatal. */
bool
session_open(Session *s)
{
	char		settings[200];
	const char *keys[] = {"dbname", "application_name", "options", "client_encoding", NULL};
	const char *values[] = {options.conninfo, APPLICATION_NAME, settings, "UTF8", NULL};

	s->async = options.async == 100;
	snprintf(settings, sizeof(settings), "-c search_path=%s -c synchronous_commit=%s%s",
			 tables[s->table].name, s->async ? "off" : "on", !options.synchronous ? "" :
			 " -c cachekit.synchronous_invalidation=on -c cachekit.synchronous_timeout=30s");
	s->conn = PQconnectdbParams(keys, values, 1);
	if (PQstatus(s->conn) != CONNECTION_OK)
	{
		snprintf(s->message, sizeof(s->message), "%s", PQerrorMessage(s->conn));
		session_close(s);
		return false;
	}
	s->failure = FAILED_NOT;
	PQsetNoticeReceiver(s->conn, take_notice, s);
	for (int i = 0; s->number > 0 && i < STATEMENTS; i++)
	{
		char		name[16];
		PGresult   *res;

		snprintf(name, sizeof(name), "s%d", i);
		res = settle(s, PQprepare(s->conn, name, statements[i], 0, NULL));
		if (res == NULL && s->failure == FAILED_ERROR)
			report_fatal("could not prepare \"%s\": %s", statements[i], s->message);
		if (res == NULL)
		{
			session_close(s);
			return false;
		}
		PQclear(res);
	}
	return true;
}

void
session_close(Session *s)
{
	if (s->conn != NULL)
		PQfinish(s->conn);
	s->conn = NULL;
}

bool
session_lost(const Session *s)
{
	return s->conn == NULL || s->failure == FAILED_LOST;
}

PGresult *
session_run(Session *s, Statement st, int nparams, const char *const *params)
{
	char		name[16];

	snprintf(name, sizeof(name), "s%d", (int) st);
	return settle(s, PQexecPrepared(s->conn, name, nparams, params, NULL, NULL, 0));
}

PGresult *
session_run_ints(Session *s, Statement st, int nparams, const int64_t *params)
{
	char		buffers[MAX_PARAMS][24];
	const char *texts[MAX_PARAMS];

	for (int i = 0; i < nparams; i++)
	{
		snprintf(buffers[i], sizeof(buffers[i]), "%lld", (long long) params[i]);
		texts[i] = buffers[i];
	}
	return session_run(s, st, nparams, texts);
}

PGresult *
session_query(Session *s, const char *sql)
{
	return settle(s, PQexec(s->conn, sql));
}

bool
session_do(Session *s, const char *sql)
{
	PGresult   *res = session_query(s, sql);

	PQclear(res);
	return res != NULL;
}

bool
session_copy(Session *s, const char *sql, const char *lines)
{
	PGresult   *res = session_query(s, sql);
	bool		good;

	if (res == NULL)
		return false;
	PQclear(res);
	if (PQputCopyData(s->conn, lines, (int) strlen(lines)) != 1 ||
		PQputCopyEnd(s->conn, NULL) != 1)
	{
		failed(s, NULL);
		return false;
	}
	res = settle(s, PQgetResult(s->conn));
	good = res != NULL;
	PQclear(res);
	while ((res = PQgetResult(s->conn)) != NULL)
		PQclear(res);
	return good;
}

/* xorshift64*: a run with one seed makes the same choices in each session */
uint32_t
session_random(Session *s)
{
	uint64_t	x = s->random;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	s->random = x;
	return (uint32_t) ((x * UINT64_C(2685821657736338717)) >> 32);
}

bool
session_chance(Session *s, int percent)
{
	return session_random(s) % 100 < (uint32_t) percent;
}

char *
session_array(const int64_t *values, int n)
{
	size_t		size = (size_t) n * 21 + 3;
	char	   *result = malloc(size);
	size_t		length = 0;

	if (result == NULL)
		report_fatal("out of memory");
	result[length++] = '{';
	for (int i = 0; i < n; i++)
		length += (size_t) snprintf(result + length, size - length, "%s%lld",
									i > 0 ? "," : "", (long long) values[i]);
	snprintf(result + length, size - length, "}");
	return result;
}
