/*-------------------------------------------------------------------------
 *
 * deliver.c
 *	  What a sender delivers while it runs: deletions, and flushes of entities.
 *
 * What has become visible since the last time is sent together: the keys of
 * many small transactions in one command, those of a large one in several, and
 * no more at a time than MAX_DELETES commands.  The same key always takes the
 * same link, so its fills and deletions keep their order.
 *
 * A flush of a whole entity runs beside the stream.  It starts when no fill is
 * in flight (a SET could land behind the cursor); from then on until it ends,
 * the entity is neither read nor filled there.  The position passes it, the
 * restart point does not.  Many flushes at once become one of everything.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/transam.h"
#include "access/xact.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "debug.h"
#include "key.h"
#include "sender.h"
#include "sync_wait.h"

#define DELETE_BATCH		500	/* keys in one command */
#define MAX_DELETES			64	/* commands in flight; then the WAL waits */
#define MAX_FLUSHES			64	/* of single entities; then everything */
#define FLUSHES_AT_ONCE		2
#define BUSY_US				2000	/* changes closer than this are sent together, */
#define NAP_US				2000	/* with such a pause, */
#define FLUSH_NAP_US		5000	/* or this one when each time costs an fsync */

/* A flush of an entity, or of all, beside the stream. */
typedef struct FlushJob
{
	dlist_node	node;
	char		entity[KEY_MAX_ENTITY_NAME + 1];	/* encoded; "": everything */
	bool		started;
	bool		finished;
	List	   *transactions;	/* of FeedTransaction *, held until it is finished */
} FlushJob;

/* Commands that were sent together, and the transactions they are parts of. */
typedef struct Parcel
{
	Sender	   *sender;
	List	   *transactions;
	int			commands;		/* without an answer, and one while it is being packed */
} Parcel;

typedef struct DeleteCall
{
	Parcel	   *parcel;
	int			keys;
	int			link;
	uint64		trace;
} DeleteCall;

/* Keys of one link that are collected for a command. */
typedef struct KeyBatch
{
	const char *key[DELETE_BATCH];
	Size		len[DELETE_BATCH];
	int			n;
} KeyBatch;

void
deliver_begin(Sender *sender)
{
	sender->deletes_in_flight = 0;
	for (int i = 0; i < MAX_LINKS; i++)
	{
		char		suffix[32];

		/* greater than in any epoch before */
		sender->trace_sent[i] = (uint64) GetCurrentTimestamp();
		sender->trace_acked[i] = sender->trace_void[i] = 0;
		snprintf(suffix, sizeof(suffix), "cachekit:%d", i);
		sender_named(sender, suffix, sender->trace_key[i], sizeof(sender->trace_key[i]));
	}
	sender->sending = NULL;
	sender->nap_until = 0;
	sender->flushes_running = 0;
	dlist_init(&sender->flushes);
}

/* ---------- deletions ---------- */

static void
part_ended(Sender *sender, FeedTransaction *transaction)
{
	if (--transaction->parts == 0)
		feed_done(sender->feed, transaction);
}

static void
command_ended(Parcel *parcel)
{
	ListCell   *cell;

	/* after a fault, what was not sent must not count as done */
	if (--parcel->commands > 0 || parcel->sender->faulted)
		return;
	foreach(cell, parcel->transactions)
		part_ended(parcel->sender, lfirst(cell));
	list_free(parcel->transactions);
	pfree(parcel);
}

static void
on_deleted(void *arg, LinkStatus status, const LinkValue *values, int n, const char *text)
{
	DeleteCall *call = arg;
	Sender	   *sender = call->parcel->sender;

	if (status == LINK_OK)
		server_count(sender->server, SERVER_ACKNOWLEDGED, call->keys);
	else
		sender_fault(sender, "a deletion failed: %s", text);
}

/* The reply to the trace follows that to its deletions, and ends them. */
static void
on_traced(void *arg, LinkStatus status, const LinkValue *values, int n, const char *text)
{
	DeleteCall *call = arg;
	Sender	   *sender = call->parcel->sender;

	sender->deletes_in_flight--;
	if (status == LINK_OK && call->trace > sender->trace_void[call->link])
		sender->trace_acked[call->link] = call->trace;
	else if (status == LINK_FULL)
	{
		/* what stood there may have gone */
		sender->trace_acked[call->link] = 0;
		sender->trace_void[call->link] = call->trace;
	}
	else if (status != LINK_OK)
		sender_fault(sender, "a trace could not be written: %s", text);
	command_ended(call->parcel);
	pfree(call);
}

static void
send_batch(Sender *sender, Parcel *parcel, int link, KeyBatch *batch)
{
	DeleteCall *call;
	char		trace[24];

	if (batch->n == 0 || sender->faulted)
		return;
	call = MemoryContextAlloc(sender->epoch_context, sizeof(DeleteCall));
	call->parcel = parcel;
	call->keys = batch->n;
	call->link = link;
	call->trace = ++sender->trace_sent[link];
	parcel->commands++;
	sender->deletes_in_flight++;
	server_count(sender->server, SERVER_SENT, batch->n);
	sender->driver->del(sender->link[link], batch->key, batch->len, batch->n, on_deleted, call);
	snprintf(trace, sizeof(trace), UINT64_FORMAT, call->trace);
	sender->driver->put(sender->link[link], sender->trace_key[link], trace, on_traced, call);
	batch->n = 0;
}

/* The full name of a key, in memory that lasts while the loop comes round. */
static void
add_to_batch(Sender *sender, Parcel *parcel, KeyBatch *batches, const char *named, int len)
{
	int			link = sender_link_of(sender, named, len);
	KeyBatch   *batch = &batches[link];
	int			ns = strlen(sender->config.namespace);
	char	   *key = palloc(ns + 1 + len + 1);

	memcpy(key, sender->config.namespace, ns);
	key[ns] = ':';
	memcpy(key + ns + 1, named, len);
	key[ns + 1 + len] = '\0';
	if (!sender_has_key(sender, key, ns + 1 + len))
	{
		pfree(key);				/* another host's */
		return;
	}
	batch->key[batch->n] = key;
	batch->len[batch->n++] = ns + 1 + len;
	if (batch->n == DELETE_BATCH)
		send_batch(sender, parcel, link, batch);
}

static void
add_to_parcel(Sender *sender, Parcel *parcel, FeedTransaction *transaction)
{
	MemoryContext old = MemoryContextSwitchTo(sender->epoch_context);

	transaction->parts++;
	parcel->transactions = lappend(parcel->transactions, transaction);
	MemoryContextSwitchTo(old);
}

/* ---------- flushes ---------- */

static void
merge_transactions(Sender *sender, FlushJob *job, List *more)
{
	MemoryContext old = MemoryContextSwitchTo(sender->epoch_context);

	job->transactions = list_concat(job->transactions, more);
	MemoryContextSwitchTo(old);
}

static FlushJob *
new_job(Sender *sender, const char *entity)
{
	FlushJob   *job = MemoryContextAllocZero(sender->epoch_context, sizeof(FlushJob));

	strlcpy(job->entity, entity, sizeof(job->entity));
	dlist_push_tail(&sender->flushes, &job->node);
	return job;
}

/* One flush of everything takes the place of all that have not started. */
static FlushJob *
job_of_everything(Sender *sender)
{
	FlushJob   *everything = new_job(sender, "");
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &sender->flushes)
	{
		FlushJob   *job = dlist_container(FlushJob, node, iter.cur);

		if (job == everything || job->started)
			continue;
		merge_transactions(sender, everything, job->transactions);
		list_free(job->transactions);
		dlist_delete(&job->node);
		pfree(job);
	}
	return everything;
}

/* The flush that a change of this entity can wait for: one that has not started. */
static FlushJob *
obtain_job(Sender *sender, const char *entity)
{
	dlist_iter	iter;
	int			waiting = 0;

	dlist_foreach(iter, &sender->flushes)
	{
		FlushJob   *job = dlist_container(FlushJob, node, iter.cur);

		if (job->started)
			continue;
		if (job->entity[0] == '\0' || strcmp(job->entity, entity) == 0)
			return job;
		waiting++;
	}
	if (entity[0] == '\0' || waiting >= MAX_FLUSHES)
		return job_of_everything(sender);
	return new_job(sender, entity);
}

static void
add_flush(Sender *sender, FeedTransaction *transaction, const char *entity)
{
	bool		all = sender->config.flush_method == FLUSH_METHOD_ALL;
	FlushJob   *job = obtain_job(sender, all ? "" : entity);

	if (job->transactions != NIL && llast(job->transactions) == transaction)
		return;					/* named twice, or many made one */
	if (!CK_GUARD("flush-beside"))
		transaction->parts++;
	transaction->held = true;
	transaction->flushes++;
	merge_transactions(sender, job, list_make1(transaction));
}

bool
deliver_is_flushing(const Sender *sender, const char *named_key)
{
	dlist_iter	iter;

	dlist_foreach(iter, unconstify(dlist_head *, &sender->flushes))
	{
		FlushJob   *job = dlist_container(FlushJob, node, iter.cur);
		Size		len = strlen(job->entity);

		/* "" is answered by a flush of everything only */
		if (len == 0 || (strncmp(named_key, job->entity, len) == 0 && named_key[len] == ':'))
			return true;
	}
	return false;
}

/* A flush of everything runs alone: it takes away what another would keep. */
static bool
may_start(const Sender *sender, const FlushJob *job)
{
	return sender->flushes_running < (job->entity[0] == '\0' ? 1 : FLUSHES_AT_ONCE);
}

/* Must fills wait so that a flush can start? */
bool
deliver_flush_waits(const Sender *sender)
{
	dlist_iter	iter;

	dlist_foreach(iter, unconstify(dlist_head *, &sender->flushes))
	{
		const FlushJob *job = dlist_container(FlushJob, node, iter.cur);

		if (!job->started)
			return may_start(sender, job);
	}
	return false;
}

bool
deliver_has_no_flush(const Sender *sender)
{
	return dlist_is_empty(unconstify(dlist_head *, &sender->flushes));
}

typedef struct FlushCall
{
	Sender	   *sender;
	FlushJob   *job;
} FlushCall;

/* A flush of everything takes the traces with it: those that were sent until now. */
static void
void_traces(Sender *sender)
{
	for (int i = 0; i < MAX_LINKS; i++)
	{
		sender->trace_acked[i] = 0;
		sender->trace_void[i] = sender->trace_sent[i];
	}
}

static void
on_flushed(void *arg, LinkStatus status, const LinkValue *values, int n, const char *text)
{
	FlushCall  *call = arg;

	call->sender->flushes_running--;
	if (status == LINK_OK)
	{
		call->job->finished = true;
		if (call->job->entity[0] == '\0')
			void_traces(call->sender);
		server_count(call->sender->server, SERVER_FLUSHES, 1);
	}
	else
		sender_fault(call->sender, "a flush failed: %s", text);
	pfree(call);
}

static void
start_flush(Sender *sender, FlushJob *job)
{
	FlushCall  *call = MemoryContextAlloc(sender->epoch_context, sizeof(FlushCall));
	char		suffix[KEY_MAX_ENTITY_NAME + 2];
	char		prefix[256];

	call->sender = sender;
	call->job = job;
	job->started = true;
	sender->flushes_running++;
	/* a flush of everything takes the marker with it */
	if (job->entity[0] == '\0')
	{
		sender->marker_sent = sender->marker_acked = InvalidXLogRecPtr;
		pg_atomic_write_u64(&sender->server->marked, InvalidXLogRecPtr);
		sender->marker_text[0] = '\0';
		void_traces(sender);
	}
	snprintf(suffix, sizeof(suffix), "%s%s", job->entity, job->entity[0] ? ":" : "");
	sender_named(sender, suffix, prefix, sizeof(prefix));
	sender->driver->flush(sender->link[0], prefix, sender->owner_key, on_flushed, call);
}

static void
forget_flush(Sender *sender, FlushJob *job)
{
	ListCell   *cell;

	foreach(cell, job->transactions)
	{
		FeedTransaction *transaction = lfirst(cell);

		if (--transaction->flushes == 0)
			feed_release(sender->feed, transaction);
		if (!CK_GUARD("flush-beside"))
			part_ended(sender, transaction);
	}
	list_free(job->transactions);
	dlist_delete(&job->node);
	pfree(job);
}

/* Start flushes when no fill is in flight; forget those that have finished. */
static void
run_flushes(Sender *sender)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &sender->flushes)
	{
		FlushJob   *job = dlist_container(FlushJob, node, iter.cur);

		if (sender->faulted)
			return;
		if (!job->started && (sender->fills_in_flight == 0 || !CK_GUARD("flush-barrier")) &&
			may_start(sender, job) &&
			(job->entity[0] != '\0' ||
			 (!sender->marker_in_flight && sender->reads_in_flight == 0)))
			start_flush(sender, job);
		if (job->finished)
			forget_flush(sender, job);
	}
}

/* ---------- transactions ---------- */

/* Begin with a transaction: the flushes that it asks for. */
static void
begin_transaction(Sender *sender, FeedTransaction *transaction)
{
	const char *at = transaction->entities.data;
	const char *end = at + transaction->entities.len;

	sender->sending = transaction;
	sender->sending_at = 0;
	transaction->parts = 1;		/* until all is sent */
	if (transaction->database)
		add_flush(sender, transaction, "");
	for (; at < end; at += 1 + (uint8) *at)
	{
		char		entity[KEY_MAX_ENTITY_NAME + 1];

		memcpy(entity, at + 1, (uint8) *at);
		entity[(uint8) *at] = '\0';
		add_flush(sender, transaction, entity);
	}
}

/* Send what is left of the transaction at hand, or as much as may be in flight. */
static void
send_keys(Sender *sender, Parcel *parcel, KeyBatch *batches)
{
	FeedTransaction *transaction = sender->sending;
	const char *keys = transaction->keys.data;

	if (sender->sending_at < transaction->keys.len)
		add_to_parcel(sender, parcel, transaction);
	while (sender->sending_at < transaction->keys.len)
	{
		int			len = (uint8) keys[sender->sending_at];

		if (!deliver_has_room(sender))
			return;
		add_to_batch(sender, parcel, batches, keys + sender->sending_at + 1, len);
		sender->sending_at += 1 + len;
	}
	sender->sending = NULL;
	part_ended(sender, transaction);
}

/* Send what has become visible; returns how many transactions it was. */
static int
send_visible(Sender *sender)
{
	static KeyBatch batches[MAX_LINKS];
	Parcel	   *parcel = MemoryContextAllocZero(sender->epoch_context, sizeof(Parcel));
	int			sent = 0;

	parcel->sender = sender;
	parcel->commands = 1;
	for (int i = 0; i < sender->links; i++)
		batches[i].n = 0;
	while (!sender->faulted && deliver_has_room(sender))
	{
		if (sender->sending == NULL)
		{
			FeedTransaction *next = feed_next_visible(sender->feed);

			if (next == NULL)
				break;
			begin_transaction(sender, next);
		}
		sent++;
		send_keys(sender, parcel, batches);
	}
	for (int i = 0; i < sender->links; i++)
		send_batch(sender, parcel, i, &batches[i]);
	command_ended(parcel);
	return sent;
}

/*
 * Keep RecentXmin moving: TransactionIdIsInProgress() goes by it, and beyond
 * 2^31 transactions an old one would make it answer wrongly.  Taken after the
 * WAL has been read and before anybody asks whether a transaction is visible.
 */
static void
take_snapshot(void)
{
	MemoryContext old = CurrentMemoryContext;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	CommitTransactionCommand();
	if (!CK_GUARD("horizon"))
		TransactionXmin = RecentXmin = FirstNormalTransactionId;
	MemoryContextSwitchTo(old);
}

/*
 * Read the WAL on, and send what has become visible.  An idle sender acts at
 * once; under load, changes are gathered for a moment: a sender that wakes for
 * every commit costs the writers more than all else.  Whoever waits for this
 * server in COMMIT ends that.
 */
void
deliver_changes(Sender *sender)
{
	TimestampTz now = GetCurrentTimestamp();
	bool		napped = sender->nap_until != 0;
	int			sent;

	if (now < sender->nap_until && sender->nap_until - now <= FLUSH_NAP_US)
		return;					/* unless the clock was set back */
	if (sender->holding)
	{
		sender->behind = false; /* what is in flight first */
		sender->nap_until = 0;
		return;
	}
	sender->nap_until = 0;
	sender->behind = deliver_has_room(sender) && CK_GUARD("feed-read") &&
		feed_read(sender->feed);
	if (feed_has_waiting(sender->feed))
		take_snapshot();
	sent = send_visible(sender);
	run_flushes(sender);
	if (sent > 0 && !sender->behind)
	{
		if (!sync_wait_is_awaited(sender->place) &&
			(napped ? sent > 1 : sender_elapsed(sender->delivered_at) < BUSY_US))
			sender->nap_until = now + (sender->has_flushed ? FLUSH_NAP_US : NAP_US);
		sender->delivered_at = now;
	}
}

/* May more commands be sent?  Else the WAL waits for their answers. */
bool
deliver_has_room(const Sender *sender)
{
	return sender->deletes_in_flight < MAX_DELETES && pool_has_room(sender);
}

/* Nothing waits for an answer, nor to be visible. */
bool
deliver_is_idle(const Sender *sender)
{
	return sender->deletes_in_flight == 0 && sender->sending == NULL &&
		dlist_is_empty(unconstify(dlist_head *, &sender->flushes)) &&
		!feed_has_waiting(sender->feed);
}
