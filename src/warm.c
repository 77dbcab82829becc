/*-------------------------------------------------------------------------
 *
 * warm.c
 *	  warm(): loading all keys of an entity into its caches.
 *
 * A procedure that commits after each batch: no snapshot stays open for long,
 * and what is done is done.  It goes through the keys in their order, and how
 * far it has come stands in cachekit.warm_state, written by a transaction of
 * its own after the batch's (one that writes fills no cache).  A later call
 * goes on after the last key that was finished.
 *
 * Keys are read some batches ahead, so that a query that has to be evaluated
 * as a whole each time is evaluated less often.  A batch is loaded by one query
 * and stored under the fence, as by fetch_many(); a key that has gone meanwhile
 * has no document, and one that has come meanwhile is not missed by anybody.
 *
 * It waits while half of what servers can take is under way, so that it keeps
 * nobody else's fills and reads out.
 *
 * Keys are read as the caller, who may be anybody with SELECT; the table of the
 * progress is nobody's to write, so that is done as
 * the bootstrap superuser, once the caller has been seen to have SELECT.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "tcop/pquery.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/timestamp.h"

#include "fetch.h"
#include "guc.h"
#include "keys_query.h"
#include "servers.h"
#include "warm.h"

#define KEYS_AHEAD		50000
#define MAX_BATCH		100000
#define BATCH_TRIES		10		/* of one batch while its entity changes */
#define NOTICE_US		(10 * USECS_PER_SEC)
#define PATIENCE_US		(5 * USECS_PER_SEC)	/* with a server that takes nothing */
#define PAUSE_MS		2

PG_FUNCTION_INFO_V1(ck_warm);

typedef struct Warm
{
	Oid			relid;
	char	   *query;			/* for the keys; NULL: all of the relation's */
	int			batch;
	WarmState	state;			/* how far it has come */
	int			n;				/* columns of the key, which must stay what they are */
	Oid			type[KEY_MAX_COLUMNS];
	bool		has_last;
	LoadKey		last;			/* the last key that was read */
	MemoryContext last_context; /* of that */
	MemoryContext chunk;		/* of the keys that have been read ahead */
	TimestampTz told_at;		/* the last NOTICE */
	int64		told_tenth;
} Warm;

/* Since when a server has taken nothing; 0: it takes what it gets. */
static TimestampTz refused_since[MAX_SERVERS];

/* ---------- what may be warmed ---------- */

static void
refuse(Entity *entity, const char *why, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("cannot warm \"%s\": %s", entity->name, why),
			 errhint("%s", hint)));
}

/* The entity as it is now, if the caller may read it and it can be cached. */
static Entity *
current_entity(Warm *warm)
{
	Entity	   *entity;

	EnsurePortalSnapshotExists();
	AcceptInvalidationMessages();
	entity = entity_get(warm->relid);
	entity_check_select(entity);
	tiers_require(entity, "warm");
	for (int i = 0; i < entity->shape.n && warm->n > 0; i++)
	{
		if (entity->shape.n != warm->n || entity->shape.column[i].type != warm->type[i])
			refuse(entity, "its key has been changed meanwhile", "Call cachekit.warm() again.");
	}
	return entity;
}

/* ---------- keys ---------- */

/* A query for keys must be one SELECT with as many columns as the key has. */
static void
check_query(const Warm *warm, const Entity *entity)
{
	SPIPlanPtr	plan = SPI_prepare(warm->query, 0, NULL);
	List	   *sources = plan ? SPI_plan_get_plan_sources(plan) : NIL;
	CachedPlanSource *source = list_length(sources) == 1 ? linitial(sources) : NULL;

	if (source == NULL || source->commandTag != CMDTAG_SELECT || source->resultDesc == NULL ||
		source->resultDesc->natts != entity->shape.n)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the query for keys of entity \"%s\" must be one SELECT of %d column(s)",
						entity->name, entity->shape.n),
				 errhint("Its columns are those of the key, in their order.")));
	SPI_freeplan(plan);
}

static int64
count_keys(const Warm *warm, const Entity *entity)
{
	StringInfoData sql;
	bool		isnull;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT pg_catalog.count(*) FROM (");
	keys_append_query(&sql, entity, warm->query);
	appendStringInfoString(&sql, ") AS k");
	keys_select(entity, sql.data, 0, NULL, NULL);
	return DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
}

static void
remember_last(Warm *warm, const KeyShape *shape, const Datum *values)
{
	MemoryContext old = MemoryContextSwitchTo(warm->last_context);

	keys_copy(shape, values, &warm->last);
	warm->has_last = true;
	MemoryContextSwitchTo(old);
}

/* Read the next keys, in their order, `ahead` at most; how many there are. */
static int
read_keys(Warm *warm, LoadKey **keys, int ahead)
{
	Entity	   *entity = current_entity(warm);
	StringInfoData sql;
	int			n;
	MemoryContext old;

	LockRelationOid(entity->relid, AccessShareLock);
	initStringInfo(&sql);
	keys_append_query(&sql, entity, warm->query);
	if (warm->has_last)
	{
		appendStringInfoString(&sql, " AND ROW(");
		keys_append_columns(&sql, entity, KEYS_COLUMNS);
		appendStringInfoString(&sql, ") OPERATOR(pg_catalog.>) ROW(");
		keys_append_columns(&sql, entity, KEYS_PARAMETERS);
		appendStringInfoChar(&sql, ')');
	}
	appendStringInfoString(&sql, " ORDER BY ");
	keys_append_columns(&sql, entity, KEYS_COLUMNS);
	appendStringInfo(&sql, " LIMIT %d", ahead);
	keys_select(entity, sql.data, warm->has_last ? entity->shape.n : 0, warm->type,
				warm->last.values);

	n = (int) SPI_processed;
	MemoryContextReset(warm->chunk);
	old = MemoryContextSwitchTo(warm->chunk);
	*keys = palloc(sizeof(LoadKey) * Max(n, 1));
	for (int row = 0; row < n; row++)
		keys_row(entity, row, &(*keys)[row]);
	MemoryContextSwitchTo(old);
	SPI_freetuptable(SPI_tuptable);
	pfree(sql.data);
	if (n > 0)
	{
		MemoryContextReset(warm->last_context);
		remember_last(warm, &entity->shape, (*keys)[n - 1].values);
	}
	return n;
}

/* ---------- a batch ---------- */

/* request_fill(), with patience. */
static bool
offer_patiently(int server, const FillHead *head, const char *json, Size len)
{
	static uint32 wait_event = 0;

	if (wait_event == 0)
		wait_event = compat_wait_event("CachekitWarm");
	for (;;)
	{
		TimestampTz now;

		if (!request_fills_are_many(server) && request_fill(server, head, json, len))
		{
			refused_since[server] = 0;
			return true;
		}
		now = GetCurrentTimestamp();
		if (refused_since[server] == 0)
			refused_since[server] = now;
		if (!server_is_readable(server_at(server)) ||
			now - refused_since[server] > PATIENCE_US || now < refused_since[server])
			return false;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, PAUSE_MS,
						 wait_event);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/* Load a batch and store it; the canonical text of its last key. */
static char *
load_batch(Warm *warm, const LoadKey *keys, int n)
{
	for (int tries = 0;; tries++)
	{
		Entity	   *entity = current_entity(warm);
		uint64		missed;

		if (fetch_and_store(entity, keys, n, offer_patiently, &missed))
		{
			warm->state.missed += missed;
			return key_canonical(&entity->shape, keys[n - 1].values);
		}
		if (tries == BATCH_TRIES)
			refuse(entity, "it is being changed all the time", "Try again later.");
		CHECK_FOR_INTERRUPTS();
	}
}

/* ---------- saying so ---------- */

static void
tell(Warm *warm, const char *name, bool finished)
{
	const WarmState *state = &warm->state;
	TimestampTz now = GetCurrentTimestamp();
	double		seconds = (now - state->resumed_at) / (double) USECS_PER_SEC;
	double		rate = (state->done - state->resumed_done) / Max(seconds, 0.001);
	int64		total = Max(state->total, state->done);
	int64		tenth = total > 0 ? 10 * state->done / total : 10;

	if (!finished && (state->done >= total || (tenth == warm->told_tenth &&
											   now - warm->told_at < NOTICE_US)))
		return;
	warm->told_at = now;
	warm->told_tenth = tenth;
	if (finished)
		ereport(NOTICE,
				(errmsg("warmed " INT64_FORMAT " of " INT64_FORMAT " %s, %.0f/s, finished",
						state->done, state->done, name, rate)));
	else
		ereport(NOTICE,
				(errmsg("warmed " INT64_FORMAT " of " INT64_FORMAT " %s, %.0f/s, %.0f s left",
						state->done, total, name, rate, (total - state->done) / Max(rate, 1.0))));
	if (finished && state->missed > 0)
		ereport(WARNING,
				(errmsg(INT64_FORMAT " documents of \"%s\" were not taken by a cache server",
						state->missed, name),
				 errhint("SELECT * FROM cachekit.stat_servers tells how the servers are. What is not there is filled when it is fetched.")));
}

/* ---------- the procedure ---------- */

/* Where to go on, or where to begin. */
static void
begin(Warm *warm, bool restart)
{
	Entity	   *entity = current_entity(warm);
	MemoryContext context = CurrentMemoryContext;

	LockRelationOid(entity->relid, AccessShareLock);
	for (int i = 0; i < entity->shape.n; i++)
		warm->type[i] = entity->shape.column[i].type;
	warm->n = entity->shape.n;
	if (warm->query)
		check_query(warm, entity);
	if (restart || !warm_state_find(warm->relid, warm->query, &warm->state))
	{
		memset(&warm->state, 0, sizeof(WarmState));
		warm->state.total = count_keys(warm, entity);
	}
	else if (warm->state.last_key)
	{
		LoadKey		last;

		if (key_from_text(&entity->shape, warm->state.last_key, last.values))
			remember_last(warm, &entity->shape, last.values);
	}
	MemoryContextSwitchTo(context);
	warm->state.resumed_at = GetCurrentTimestamp();
	warm->state.resumed_done = warm->state.done;
	warm->told_at = warm->state.resumed_at;
	warm->told_tenth = warm->state.total > 0 ? 10 * warm->state.done / warm->state.total : 10;
	warm_state_begin(warm->relid, warm->query, &warm->state);
	SPI_commit();
}

static void
run(Warm *warm)
{
	int			ahead = Max(KEYS_AHEAD, warm->batch);
	MemoryContext each = AllocSetContextCreate(CurrentMemoryContext, "cachekit warm batch",
											   ALLOCSET_DEFAULT_SIZES);
	MemoryContext old;
	LoadKey    *keys;
	int			n;

	do
	{
		n = read_keys(warm, &keys, ahead);
		SPI_commit();
		for (int at = 0; at < n; at += warm->batch)
		{
			int			count = Min(warm->batch, n - at);

			MemoryContextReset(each);
			old = MemoryContextSwitchTo(each);
			warm->state.last_key = load_batch(warm, keys + at, count);
			warm->state.done += count;
			tell(warm, current_entity(warm)->name, false);
			SPI_commit();
			EnsurePortalSnapshotExists();
			warm_state_write(warm->relid, &warm->state, false);
			SPI_commit();
			MemoryContextSwitchTo(old);
			CHECK_FOR_INTERRUPTS();
		}
	} while (n == ahead);
	warm->state.last_key = NULL;
	tell(warm, current_entity(warm)->name, true);
	warm_state_write(warm->relid, &warm->state, true);
	SPI_commit();
}

/* warm(entity, query, batch, restart) */
Datum
ck_warm(PG_FUNCTION_ARGS)
{
	Warm	   *warm;
	Oid			relid;
	char	   *query;
	int			batch;
	bool		restart;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the entity to warm must not be NULL")));
	if (fcinfo->context == NULL || !IsA(fcinfo->context, CallContext) ||
		castNode(CallContext, fcinfo->context)->atomic)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
				 errmsg("cachekit.warm() cannot run inside a transaction block or a function"),
				 errhint("It commits after each batch: CALL it by itself.")));
	PreventCommandDuringRecovery("cachekit.warm()");
	relid = PG_GETARG_OID(0);
	query = PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1));
	batch = PG_ARGISNULL(2) ? 1000 : PG_GETARG_INT32(2);
	restart = !PG_ARGISNULL(3) && PG_GETARG_BOOL(3);
	if (batch < 1 || batch > MAX_BATCH)
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("\"batch\" must be between 1 and %d", MAX_BATCH)));

	/* from here on, memory is that of the portal, which outlives transactions */
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	warm = palloc0(sizeof(Warm));
	warm->relid = relid;
	warm->batch = batch;
	if (query)
	{
		warm->query = pstrdup(query);
		/* as people end statements */
		for (char *end = warm->query + strlen(warm->query);
			 end > warm->query && strchr("; \t\r\n", end[-1]) != NULL;)
			*--end = '\0';
	}
	warm->chunk = AllocSetContextCreate(CurrentMemoryContext, "cachekit warm keys",
										ALLOCSET_DEFAULT_SIZES);
	warm->last_context = AllocSetContextCreate(CurrentMemoryContext, "cachekit warm last key",
											   ALLOCSET_SMALL_SIZES);
	memset(refused_since, 0, sizeof(refused_since));
	begin(warm, restart);
	run(warm);
	SPI_finish();
	PG_RETURN_VOID();
}
