/*-------------------------------------------------------------------------
 *
 * audit.c
 *	  audit(): what the caches hold, compared with the table.
 *
 * For users who want to see for themselves, in production, that their caches
 * are right.  A comparison is only worth something if nothing has changed
 * between the look at the cache and the look at the table.  The fence tells:
 * the words of a key's scope are read, and must be clear; then each tier is
 * asked as a fetch asks it, then the table is read in a new snapshot.  If the
 * words are the same after that, no change of the key became visible in
 * between, so what a tier had must be what the table has.  Keys whose words
 * have moved, and servers that cannot answer just now (they are behind, or
 * a refresh of the key is under way) are tried again a few times, and then
 * counted as not compared.
 *
 * The keys are a random sample of the relation's.  What a cache holds for keys
 * that the relation does not have is not seen.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "foreign/foreign.h"
#include "funcapi.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "debug.h"
#include "document.h"
#include "guc.h"
#include "keys_query.h"
#include "tiers.h"

#define BATCH		500			/* keys that are looked at between two looks at their words */
#define TRIES		20
#define PAUSE_MS	10

PG_FUNCTION_INFO_V1(ck_audit);

/* What a tier has said of a key. */
typedef enum HeldState
{
	HELD_UNKNOWN,				/* nothing yet: it could not answer */
	HELD_NOTHING,
	HELD_DOCUMENT,
	HELD_ABSENCE,				/* that there is no such row */
	HELD_NONSENSE				/* something that is no document */
} HeldState;

typedef struct Held
{
	bool		decided;		/* compared, or nothing to compare */
	HeldState	state;			/* of this try */
	Jsonb	   *document;
} Held;

typedef struct AuditKey
{
	KeyText		text;
	TierKey		tier;
	FenceToken	words;
	bool		clear;			/* nothing is in flight: this try may decide */
} AuditKey;

typedef struct AuditTier
{
	char	   *name;
	Oid			serverid;		/* InvalidOid: the local tier */
	int			documents;		/* that were compared, absences among them */
	int			undecided;		/* keys of which nothing can be said */
} AuditTier;

typedef struct Audit
{
	ReturnSetInfo *rsinfo;
	Entity	   *entity;
	int			ntiers;
	AuditTier  *tier;
	int			differences;

	/* the present batch */
	int			n;
	const LoadKey *load;
	AuditKey   *key;
	Held	   *held;			/* [tier][key] */
	Jsonb	  **current;		/* the table's documents */
} Audit;

static Held *
held_by(const Audit *audit, int tier, int key)
{
	return &audit->held[tier * audit->n + key];
}

/* ---------- what the tiers have ---------- */

static void
look_locally(Audit *audit, int tier)
{
	TimestampTz now = GetCurrentTimestamp();

	for (int i = 0; i < audit->n; i++)
	{
		Held	   *held = held_by(audit, tier, i);

		if (held->decided || !audit->key[i].clear)
			continue;
		switch (local_lookup(&audit->key[i].tier, now, &held->document, NULL))
		{
			case LOCAL_HIT:
				held->state = HELD_DOCUMENT;
				break;
			case LOCAL_NEGATIVE:
				held->state = HELD_ABSENCE;
				break;
			case LOCAL_MISS:
				held->state = HELD_NOTHING;
				break;
			case LOCAL_FENCED:
				held->state = HELD_UNKNOWN;
				break;
		}
	}
}

static void
take_answer(Held *held, const ManyRead *read)
{
	switch (read->result)
	{
		case READ_HIT:
			held->document = document_from_text(read->text, read->bytes);
			held->state = held->document ? HELD_DOCUMENT : HELD_NONSENSE;
			break;
		case READ_MISS:
			held->state = HELD_NOTHING;
			break;
		case READ_FAILED:
			held->state = HELD_UNKNOWN;
			break;
	}
}

static void
ask_server(Audit *audit, int tier)
{
	ManyRead   *reads = palloc(sizeof(ManyRead) * audit->n);
	Held	  **asked = palloc(sizeof(Held *) * audit->n);
	int			nreads = 0;
	instr_time	began;

	for (int i = 0; i < audit->n; i++)
	{
		Held	   *held = held_by(audit, tier, i);
		ManyRead   *read = &reads[nreads];

		if (held->decided || !audit->key[i].clear)
			continue;
		read->len = tiers_named(audit->entity, audit->key[i].text.text, read->named_key);
		read->serverid = audit->tier[tier].serverid;
		read->server = server_find(read->serverid, read->named_key);
		read->needed = fence_last_change(&audit->key[i].tier.scope);
		if (tiers_may_ask(read->server, read->needed))
			asked[nreads++] = held;
	}
	if (nreads > 0)
	{
		INSTR_TIME_SET_CURRENT(began);
		request_read_many(reads, nreads, began, ck_fetch_timeout);
	}
	for (int i = 0; i < nreads; i++)
		take_answer(asked[i], &reads[i]);
}

/* ---------- comparing ---------- */

static void
report(Audit *audit, const char *key, const AuditTier *tier, const char *problem,
	   Jsonb *cached, Jsonb *current)
{
	Datum		values[5] = {0};
	bool		nulls[5] = {0};

	values[0] = CStringGetTextDatum(key);
	values[1] = CStringGetTextDatum(tier->name);
	values[2] = CStringGetTextDatum(problem);
	values[3] = JsonbPGetDatum(cached);
	nulls[3] = (cached == NULL);
	values[4] = JsonbPGetDatum(current);
	nulls[4] = (current == NULL);
	tuplestore_putvalues(audit->rsinfo->setResult, audit->rsinfo->setDesc, values, nulls);
	audit->differences++;
}

/* As a reader would see them: 1.0 and 1.00 are equal numbers and different texts. */
static bool
same_text(Jsonb *a, Jsonb *b)
{
	return strcmp(JsonbToCString(NULL, &a->root, VARSIZE(a)),
				  JsonbToCString(NULL, &b->root, VARSIZE(b))) == 0;
}

static void
compare(Audit *audit, int tier, int i)
{
	Held	   *held = held_by(audit, tier, i);
	Jsonb	   *current = audit->current[i];
	const char *problem = NULL;

	held->decided = true;
	if (held->state == HELD_NOTHING)
		return;
	audit->tier[tier].documents++;
	if (held->state == HELD_NONSENSE)
		problem = "not a document";
	else if (held->state == HELD_ABSENCE)
		problem = current ? "cached as absent" : NULL;
	else if (current == NULL)
		problem = "no such row";
	else if (!same_text(held->document, current))
		problem = "differs";
	if (problem)
		report(audit, key_canonical(&audit->entity->shape, audit->load[i].values),
			   &audit->tier[tier], problem, held->document, current);
}

/* One look at all that is undecided; how much still is. */
static int
try_batch(Audit *audit)
{
	Entity	   *entity = audit->entity;
	int			undecided = 0;

	for (int i = 0; i < audit->n; i++)
		audit->key[i].clear = fence_read(&audit->key[i].tier.scope, &audit->key[i].words);
	if (!slot_is(entity->slot, MyDatabaseId, entity->relid) || !load_prepare(entity))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("entity \"%s\" has been changed while it was audited", entity->name),
				 errhint("Call cachekit.audit() again.")));
	for (int t = 0; t < audit->ntiers; t++)
	{
		for (int i = 0; i < audit->n; i++)
			held_by(audit, t, i)->state = HELD_UNKNOWN;
		if (OidIsValid(audit->tier[t].serverid))
			ask_server(audit, t);
		else
			look_locally(audit, t);
	}
	CK_STOP("audit-looked");
	load_documents(entity, audit->load, audit->n, audit->current);
	pg_memory_barrier();
	for (int i = 0; i < audit->n; i++)
	{
		bool		holds = audit->key[i].clear &&
			(fence_holds(&audit->key[i].tier.scope, &audit->key[i].words) ||
			 !CK_GUARD("audit-words"));

		for (int t = 0; t < audit->ntiers; t++)
		{
			Held	   *held = held_by(audit, t, i);

			if (!held->decided && holds && held->state != HELD_UNKNOWN)
				compare(audit, t, i);
			if (!held->decided)
				undecided++;
		}
	}
	return undecided;
}

static void
pause_between_tries(void)
{
	static uint32 wait_event = 0;

	if (wait_event == 0)
		wait_event = compat_wait_event("CachekitAudit");
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, PAUSE_MS,
					 wait_event);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

static void
audit_batch(Audit *audit, const LoadKey *keys, int n)
{
	Entity	   *entity = audit->entity;

	audit->n = n;
	audit->load = keys;
	audit->key = palloc(sizeof(AuditKey) * n);
	audit->held = palloc0(sizeof(Held) * n * audit->ntiers);
	audit->current = palloc(sizeof(Jsonb *) * n);
	for (int i = 0; i < n; i++)
	{
		key_text(&entity->shape, keys[i].values, &audit->key[i].text);
		(void) entity_tier_key(entity, &audit->key[i].text, &audit->key[i].tier);
	}
	for (int tries = 1; try_batch(audit) > 0 && tries < TRIES; tries++)
		pause_between_tries();
	for (int t = 0; t < audit->ntiers; t++)
	{
		for (int i = 0; i < n; i++)
			audit->tier[t].undecided += !held_by(audit, t, i)->decided;
	}
}

/* ---------- the function ---------- */

static void
list_tiers(Audit *audit)
{
	Entity	   *entity = audit->entity;

	audit->tier = palloc0(sizeof(AuditTier) * (entity->nservers + 1));
	if (entity->local)
		audit->tier[audit->ntiers++].name = "local";
	for (int i = 0; i < entity->nservers; i++)
	{
		AuditTier  *tier = &audit->tier[audit->ntiers++];

		tier->serverid = entity->servers[i];
		tier->name = GetForeignServer(tier->serverid)->servername;
	}
}

/* A sample of the keys, palloc'd in the current memory context. */
static LoadKey *
sample_keys(const Entity *entity, int sample, int *n)
{
	MemoryContext context = CurrentMemoryContext;
	MemoryContext old;
	StringInfoData sql;
	LoadKey    *keys;

	initStringInfo(&sql);
	keys_append_query(&sql, entity, NULL);
	SPI_connect();
	keys_select(entity, psprintf("SELECT * FROM (%s) AS k ORDER BY pg_catalog.random() LIMIT %d",
								 sql.data, sample), 0, NULL, NULL);
	*n = (int) SPI_processed;
	old = MemoryContextSwitchTo(context);
	keys = MemoryContextAllocHuge(context, sizeof(LoadKey) * (*n + 1));
	for (int i = 0; i < *n; i++)
		keys_row(entity, i, &keys[i]);
	MemoryContextSwitchTo(old);
	SPI_finish();
	return keys;
}

static void
tell(const Audit *audit, int keys)
{
	StringInfoData text;

	initStringInfo(&text);
	for (int t = 0; t < audit->ntiers; t++)
	{
		const AuditTier *tier = &audit->tier[t];

		appendStringInfo(&text, "%s%s: %d compared", t > 0 ? "; " : "", tier->name,
						 tier->documents);
		if (tier->undecided > 0)
			appendStringInfo(&text, ", %d could not be", tier->undecided);
	}
	ereport(NOTICE,
			(errmsg("audited %d keys of \"%s\": %d differences (documents of %s)",
					keys, audit->entity->name, audit->differences, text.data)));
}

/* audit(entity, sample): a row for each difference. */
Datum
ck_audit(PG_FUNCTION_ARGS)
{
	Audit		audit = {(ReturnSetInfo *) fcinfo->resultinfo};
	int			sample = PG_ARGISNULL(1) ? INT_MAX : PG_GETARG_INT32(1);
	MemoryContext context;
	MemoryContext old;
	LoadKey    *keys;
	int			n;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the entity to audit must not be NULL")));
	if (sample < 1)
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("\"sample\" must be at least 1"),
				 errhint("NULL means all keys.")));
	AcceptInvalidationMessages();
	audit.entity = entity_get(PG_GETARG_OID(0));
	entity_check_select(audit.entity);
	tiers_require(audit.entity, "audit");
	if (TransactionIdIsValid(GetTopTransactionIdIfAny()))
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("cannot audit \"%s\": this transaction has written", audit.entity->name),
				 errdetail("It sees changes that the caches must not show yet."),
				 errhint("COMMIT first.")));

	LockRelationOid(audit.entity->relid, AccessShareLock);
	list_tiers(&audit);
	keys = sample_keys(audit.entity, sample, &n);
	context = AllocSetContextCreate(CurrentMemoryContext, "cachekit audit batch",
									ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	for (int at = 0; at < n; at += BATCH)
	{
		MemoryContextReset(context);
		audit_batch(&audit, keys + at, Min(BATCH, n - at));
		CHECK_FOR_INTERRUPTS();
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	tell(&audit, n);
	PG_RETURN_VOID();
}
