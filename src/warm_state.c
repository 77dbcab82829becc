/*-------------------------------------------------------------------------
 *
 * warm_state.c
 *	  How far warm() has come: the table cachekit.warm_state.
 *
 * Losing the last rows in a crash means that the keys since then are warmed
 * again, so nobody waits for the disk.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "warm.h"

#define MAX_ARGS	8

/* The arguments of a statement; the first one is always the entity. */
typedef struct StateArgs
{
	int			n;
	Oid			type[MAX_ARGS];
	Datum		value[MAX_ARGS];
	char		null[MAX_ARGS + 1];
} StateArgs;

static void
add(StateArgs *args, Oid type, Datum value, bool isnull)
{
	args->type[args->n] = type;
	args->value[args->n] = value;
	args->null[args->n++] = isnull ? 'n' : ' ';
}

static void
add_text(StateArgs *args, const char *text)
{
	add(args, TEXTOID, text ? CStringGetTextDatum(text) : (Datum) 0, text == NULL);
}

static void
execute(const char *sql, StateArgs *args, int expected)
{
	Oid			userid;
	int			sec_context;
	int			result;

	GetUserIdAndSecContext(&userid, &sec_context);
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID, sec_context |
						   SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	result = SPI_execute_with_args(sql, args->n, args->type, args->value, args->null, false, 0);
	SetUserIdAndSecContext(userid, sec_context);
	if (result != expected)
		elog(ERROR, "could not use cachekit.warm_state: %s", SPI_result_code_string(result));
}

static Datum
column(int number, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, number, isnull);
}

bool
warm_state_find(Oid relid, const char *query, WarmState *state)
{
	StateArgs	args = {0};
	Datum		last;
	bool		isnull;

	add(&args, REGCLASSOID, ObjectIdGetDatum(relid), false);
	add_text(&args, query);
	execute("SELECT w.last_key, w.done, w.total, w.missed"
			" FROM cachekit.warm_state AS w"
			" JOIN cachekit.entity AS e ON e.relation OPERATOR(pg_catalog.=) w.entity"
			" AND e.key OPERATOR(pg_catalog.=) w.key"
			" WHERE w.entity OPERATOR(pg_catalog.=) $1 AND w.finished_at IS NULL"
			" AND COALESCE(w.query OPERATOR(pg_catalog.=) $2, w.query IS NULL AND $2 IS NULL)",
			&args, SPI_OK_SELECT);
	if (SPI_processed == 0)
		return false;
	memset(state, 0, sizeof(*state));
	last = column(1, &isnull);
	if (!isnull)
		state->last_key = TextDatumGetCString(last);
	state->done = DatumGetInt64(column(2, &isnull));
	state->total = DatumGetInt64(column(3, &isnull));
	state->missed = DatumGetInt64(column(4, &isnull));
	return true;
}

void
warm_state_begin(Oid relid, const char *query, const WarmState *state)
{
	StateArgs	args = {0};

	/* of entities that are no more */
	execute("DELETE FROM cachekit.warm_state AS w WHERE NOT EXISTS"
			" (SELECT FROM cachekit.entity AS e WHERE e.relation OPERATOR(pg_catalog.=) w.entity)",
			&args, SPI_OK_DELETE);
	add(&args, REGCLASSOID, ObjectIdGetDatum(relid), false);
	add_text(&args, query);
	add_text(&args, state->last_key);
	add(&args, INT8OID, Int64GetDatum(state->done), false);
	add(&args, INT8OID, Int64GetDatum(state->total), false);
	add(&args, INT8OID, Int64GetDatum(state->missed), false);
	add(&args, TIMESTAMPTZOID, TimestampTzGetDatum(state->resumed_at), false);
	/* who goes on keeps when it began */
	execute("INSERT INTO cachekit.warm_state AS w"
			" (entity, key, query, last_key, done, total, missed, started_at, updated_at, resumed_at, resumed_done)"
			" SELECT e.relation, e.key, $2, $3, $4, $5, $6, $7, $7, $7, $4"
			" FROM cachekit.entity AS e WHERE e.relation OPERATOR(pg_catalog.=) $1"
			" ON CONFLICT (entity) DO UPDATE SET key = excluded.key, query = excluded.query,"
			" last_key = excluded.last_key, done = excluded.done, total = excluded.total,"
			" missed = excluded.missed, updated_at = excluded.updated_at, finished_at = NULL,"
			" started_at = CASE WHEN excluded.last_key IS NULL THEN excluded.started_at ELSE w.started_at END,"
			" resumed_at = excluded.resumed_at, resumed_done = excluded.resumed_done",
			&args, SPI_OK_INSERT);
}

void
warm_state_write(Oid relid, const WarmState *state, bool finished)
{
	StateArgs	args = {0};

	(void) set_config_option("synchronous_commit", "off", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_LOCAL, true, 0, false);
	add(&args, REGCLASSOID, ObjectIdGetDatum(relid), false);
	add_text(&args, state->last_key);
	add(&args, INT8OID, Int64GetDatum(state->done), false);
	add(&args, INT8OID, Int64GetDatum(state->missed), false);
	add(&args, TIMESTAMPTZOID, TimestampTzGetDatum(GetCurrentTimestamp()), false);
	add(&args, BOOLOID, BoolGetDatum(finished), false);
	add(&args, TIMESTAMPTZOID, TimestampTzGetDatum(state->resumed_at), false);
	execute("UPDATE cachekit.warm_state SET last_key = $2, done = $3, missed = $4, updated_at = $5,"
			" total = CASE WHEN $6 THEN $3 ELSE total END,"
			" finished_at = CASE WHEN $6 THEN $5 END"
			" WHERE entity OPERATOR(pg_catalog.=) $1 AND resumed_at OPERATOR(pg_catalog.=) $7",
			&args, SPI_OK_UPDATE);
	if (SPI_processed != 1)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("another session has begun to warm the same entity"),
				 errhint("SELECT * FROM cachekit.warm_progress.")));
}
