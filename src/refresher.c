/*-------------------------------------------------------------------------
 *
 * refresher.c
 *	  The refresher: loads changed documents for the senders of one database.
 *
 * It takes what is asked, and loads all that is of one entity in one query, in
 * a transaction of its own.  The order is that of a session's load (fetch.c):
 * tokens, then the invalidation messages, then the snapshot; and then the
 * location that no commit in that snapshot is behind.  An error ends the group,
 * and each of its requests is answered with a failure; so is what takes longer
 * than somebody waits for it, by a statement time-out that covers locks, too.
 *
 * A request comes from a change record, which anybody may have written: nothing
 * is loaded that the catalog does not say to be this entity's, on this server,
 * under this name.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_database.h"
#include "libpq/pqsignal.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "debug.h"
#include "document.h"
#include "guc.h"
#include "load.h"
#include "pin.h"
#include "refresh_queue.h"
#include "refresher.h"
#include "tiers.h"
#include "ttl.h"

#define BATCH			256		/* requests that are taken at once */
#define LOOK_MS			500		/* between looks whether the database is needed */
#define IDLE_US			(5 * USECS_PER_SEC) /* then it ends */

/* A request, and what is known of its key while its group is loaded. */
typedef struct WantedKey
{
	RefreshRequest *request;
	bool		answered;
	KeyText		key;			/* its part of the named key */
	TierKey		tier;
	FenceToken	token;
	int			loaded;			/* index of its document; -1: not asked for */
} WantedKey;

/* Requests for keys of one relation. */
typedef struct KeyGroup
{
	WantedKey  *wanted;
	int			n;
	TimestampTz until;			/* then nobody waits for any of them */
} KeyGroup;

static bool ended_well = false;

/* ---------- answers ---------- */

/*
 * Full queues and no room for the document come to the same as no answer: the
 * sender gives up at its deadline.
 */
static void
answer(WantedKey *wanted, FillKind kind, FillHead *head, const char *json)
{
	const RefreshRequest *request = wanted->request;

	head->kind = kind;
	head->request = request->request;
	head->serverid = request->serverid;
	head->relid = request->relid;
	head->len = request->len;
	memcpy(head->named_key, request->named_key, sizeof(head->named_key));
	(void) request_fill(request->place, head, json ? json : "", json ? strlen(json) : 0);
	wanted->answered = true;
}

static void
answer_without(WantedKey *wanted, FillKind kind)
{
	FillHead	head;

	memset(&head, 0, sizeof(head));
	if (!wanted->answered)
		answer(wanted, kind, &head, NULL);
}

static void
answer_rest(KeyGroup *group, FillKind kind)
{
	for (int i = 0; i < group->n; i++)
		answer_without(&group->wanted[i], kind);
}

/* ---------- a group ---------- */

static bool
has_server(const Entity *entity, Oid serverid)
{
	for (int i = 0; i < entity->nservers; i++)
	{
		if (entity->servers[i] == serverid)
			return true;
	}
	return false;
}

/* The entity of a relation, if its documents may be cached at all. */
static Entity *
cacheable_entity(Oid relid)
{
	Entity	   *entity = entity_find(relid);

	return entity && ck_enabled && entity->sound && entity->slot != NO_SLOT &&
		!entity->row_security && entity->untracked == NULL && entity->shape.n > 0 ? entity : NULL;
}

/* The key of a request; false if it is none of this entity. */
static bool
read_key(Entity *entity, WantedKey *wanted, LoadKey *key)
{
	const RefreshRequest *request = wanted->request;
	int			name = strlen(entity->encoded_name);

	if (!has_server(entity, request->serverid) ||
		strncmp(request->named_key, entity->encoded_name, name) != 0 ||
		request->named_key[name] != ':')
		return false;
	wanted->key.len = request->len - name - 1;
	memcpy(wanted->key.text, request->named_key + name + 1, wanted->key.len + 1);
	return key_from_key_text(&entity->shape, wanted->key.text, wanted->key.len, key->values);
}

/*
 * Keys and tokens of a group; returns how many documents are to be loaded.  A
 * key that is being changed just now has no token: its sender asks again.
 */
static int
read_keys(Entity *entity, KeyGroup *group, LoadKey *keys)
{
	Pin			pin;
	int			n = 0;

	pin_begin(&pin, entity->owner);
	for (int i = 0; i < group->n; i++)
	{
		WantedKey  *wanted = &group->wanted[i];
		WantedKey  *before = i > 0 ? wanted - 1 : NULL;

		wanted->loaded = -1;
		if (!read_key(entity, wanted, &keys[n]) ||
			!entity_tier_key(entity, &wanted->key, &wanted->tier))
			answer_without(wanted, FILL_REFRESH_FAILED);
		else if (before && before->loaded >= 0 &&
				 strcmp(before->request->named_key, wanted->request->named_key) == 0)
		{
			wanted->loaded = before->loaded;
			wanted->token = before->token;
		}
		else if (fence_read(&wanted->tier.scope, &wanted->token))
			wanted->loaded = n++;
		else
			answer_without(wanted, FILL_REFRESH_AGAIN);
	}
	pin_end(&pin);
	return n;
}

/* Hand a document to the sender that has asked for it; in the local tier it is as good. */
static void
answer_with(Entity *entity, WantedKey *wanted, Jsonb *document, XLogRecPtr shown)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz expiry = ttl_expiry(entity->ttl, entity->ttl_jitter, now);
	FillHead	head;
	char	   *json = NULL;

	if (document && !tiers_too_large(entity, document))
		json = document_to_text(document);
	if (json == NULL)
	{
		answer_without(wanted, FILL_REFRESH_FAILED);
		return;
	}
	if (entity->local)
		entity_count(entity, local_store(&wanted->tier, &wanted->token, document, expiry, 0) ?
					 STAT_FILLS : STAT_FILLS_REFUSED, 1);
	memset(&head, 0, sizeof(head));
	head.shown = shown;
	head.hash = wanted->tier.hash;
	head.slot = wanted->tier.slot;
	head.token = wanted->token;
	head.ttl_ms = expiry == DT_NOEND ? 0 : Max(1, (expiry - now) / 1000);
	answer(wanted, FILL_REFRESH, &head, json);
}

/* Has the entity been changed as a whole while it was read (fetch.c says why that counts)? */
static bool
was_overtaken(Entity *entity, KeyGroup *group)
{
	for (int i = 0; i < group->n; i++)
	{
		const WantedKey *wanted = &group->wanted[i];

		if (wanted->loaded >= 0)
			return fence_moved(&wanted->tier.scope, &wanted->token, FENCE_ENTITY);
	}
	return false;
}

static void
load_group(KeyGroup *group)
{
	Entity	   *entity = cacheable_entity(group->wanted[0].request->relid);
	LoadKey    *keys = palloc(sizeof(LoadKey) * group->n);
	Jsonb	  **documents = palloc0(sizeof(Jsonb *) * group->n);
	XLogRecPtr	shown;
	int			n;

	if (entity == NULL)
		return;
	n = read_keys(entity, group, keys);
	if (n == 0)
		return;
	if (!slot_is(entity->slot, MyDatabaseId, entity->relid) || !load_prepare(entity))
	{
		answer_rest(group, FILL_REFRESH_AGAIN);
		return;
	}
	entity_count(entity, STAT_LOADS, n);
	load_documents(entity, keys, n, documents);
	CK_STOP("refresh-loaded");
	AcceptInvalidationMessages();
	if (!entity->valid || was_overtaken(entity, group))
	{
		answer_rest(group, FILL_REFRESH_AGAIN);
		return;
	}
	/* a load that has written has not seen what others will see */
	if (TransactionIdIsValid(GetTopTransactionIdIfAny()))
		return;
	shown = GetXLogInsertRecPtr();
	for (int i = 0; i < group->n; i++)
	{
		WantedKey  *wanted = &group->wanted[i];

		if (wanted->loaded >= 0)
			answer_with(entity, wanted, documents[wanted->loaded], shown);
	}
}

static void
count_error(const KeyGroup *group)
{
	int			slot = slot_find(MyDatabaseId, group->wanted[0].request->relid);

	if (slot != NO_SLOT)
		stats_count(&slot_get(slot)->stats, STAT_ERRORS, 1);
}

/* Tell the log, once for each relation, nearly; that time was up says nothing of it. */
static void
report_error(const KeyGroup *group)
{
	static Oid	told = InvalidOid;
	Oid			relid = group->wanted[0].request->relid;

	if (relid == told || geterrcode() == ERRCODE_QUERY_CANCELED)
		return;
	told = relid;
	EmitErrorReport();
}

/* The same in a transaction, for as long as somebody waits for it. */
static void
try_group(KeyGroup *group)
{
	TimestampTz now = GetCurrentTimestamp();
	MemoryContext context = CurrentMemoryContext;

	if (now >= group->until || now < group->until - ck_refresh_timeout * INT64CONST(1000))
		return;
	PG_TRY();
	{
		SetCurrentStatementStartTimestamp();
		StartTransactionCommand();
		XactIsoLevel = XACT_READ_COMMITTED;
		PushActiveSnapshot(GetTransactionSnapshot());
		pgstat_report_activity(STATE_RUNNING, "loading changed documents");
		enable_timeout_after(STATEMENT_TIMEOUT, (int) Max(1, (group->until - now) / 1000));
		load_group(group);
		disable_timeout(STATEMENT_TIMEOUT, false);
		PopActiveSnapshot();
		CommitTransactionCommand();
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		disable_all_timeouts(false);
		QueryCancelPending = false;
		report_error(group);
		AbortCurrentTransaction();
		FlushErrorState();
		RESUME_INTERRUPTS();
		count_error(group);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	pgstat_report_activity(STATE_IDLE, NULL);
	pgstat_report_stat(false);
	answer_rest(group, FILL_REFRESH_FAILED);
}

/* ---------- the loop ---------- */

/* The same relation together; and the same key, which another server may want, too. */
static int
compare_wanted(const void *a, const void *b)
{
	const RefreshRequest *one = ((const WantedKey *) a)->request;
	const RefreshRequest *other = ((const WantedKey *) b)->request;

	if (one->relid != other->relid)
		return one->relid < other->relid ? -1 : 1;
	return strcmp(one->named_key, other->named_key);
}

static void
serve(RefreshRequest *requests, int n)
{
	WantedKey  *all = palloc0(sizeof(WantedKey) * n);

	for (int i = 0; i < n; i++)
		all[i].request = &requests[i];
	qsort(all, n, sizeof(WantedKey), compare_wanted);
	for (int from = 0; from < n;)
	{
		KeyGroup		group = {&all[from], 0, 0};

		for (; from < n && all[from].request->relid == group.wanted[0].request->relid; from++)
		{
			group.n++;
			group.until = Max(group.until, all[from].request->until);
		}
		CHECK_FOR_INTERRUPTS();
		try_group(&group);
	}
	pfree(all);
}

/*
 * Does a command need the database for itself, or wait for that?  The utility
 * hook tells us; but it may be one that has begun before we came.
 */
static bool
is_in_the_way(void)
{
	LOCKTAG		tag;
	bool		ours;

	if (refresher_must_leave(MyDatabaseId))
		return true;
	StartTransactionCommand();
	SET_LOCKTAG_OBJECT(tag, InvalidOid, DatabaseRelationId, MyDatabaseId, 0);
	ours = LockAcquire(&tag, RowExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL;
	CommitTransactionCommand();
	return !ours;
}

static void
refresher_exit(int code, Datum arg)
{
	refresher_release(DatumGetObjectId(arg), ended_well);
}

static void
run(RefreshRequest *requests)
{
	MemoryContext loop = AllocSetContextCreate(TopMemoryContext, "cachekit refresher loop",
											   ALLOCSET_DEFAULT_SIZES);
	uint32		wait_event = compat_wait_event("CachekitRefresher");
	TimestampTz busy = GetCurrentTimestamp();
	TimestampTz now;

	for (;;)
	{
		int			n;

		MemoryContextReset(loop);
		MemoryContextSwitchTo(loop);
		QueryCancelPending = false; /* nothing is to be cancelled */
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		if (is_in_the_way())
			return;
		MemoryContextSwitchTo(loop);
		n = refresh_queue_take(MyDatabaseId, requests, BATCH);
		now = GetCurrentTimestamp();
		if (n > 0)
		{
			busy = now;
			serve(requests, n);
			continue;
		}
		if (now - busy > IDLE_US || now < busy)
			return;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, LOOK_MS,
						 wait_event);
		ResetLatch(MyLatch);
	}
}

void
ck_refresher_main(Datum arg)
{
	Oid			dboid = DatumGetObjectId(arg);

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	if (!refresher_claim(dboid))
		proc_exit(0);
	before_shmem_exit(refresher_exit, arg);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(dboid, InvalidOid, 0);
	pgstat_report_appname("cachekit refresher");
	run(MemoryContextAlloc(TopMemoryContext, sizeof(RefreshRequest) * BATCH));
	ended_well = true;
	proc_exit(0);
}
