/*-------------------------------------------------------------------------
 *
 * deliver.c
 *	  What a sender delivers while it runs: deletions.
 *
 * What has become visible since the last time is sent together: the keys of
 * many small transactions in one command, those of a large one in several, and
 * no more at a time than MAX_DELETES commands.  The same key always takes the
 * same link, so its fills and deletions keep their order.
 *
 * Flushes of whole entities run beside that (flush.c).
 * Keys that are to be loaded again are handed to refresh.c, beside the stream, too.
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
#include "refresh.h"
#include "sender.h"
#include "sync_wait.h"

#define DELETE_BATCH		500	/* keys in one command */
#define MAX_DELETES			64	/* commands in flight; then the WAL waits */
#define BUSY_US				2000	/* changes closer than this are sent together, */
#define NAP_US				2000	/* with such a pause, */
#define FLUSH_NAP_US		5000	/* or this one when each time costs an fsync */

/* Commands that were sent together, and the transactions they are parts of. */
typedef struct Parcel
{
	Sender	   *sender;
	List	   *transactions;
	int			commands;		/* without an answer, and one while it is being packed */
} Parcel;

typedef struct DeleteCall
{
	Sender	   *sender;
	DeliverCallback ended;		/* told when the trace has been answered */
	void	   *arg;
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
	flush_begin(sender);
}

/* ---------- deletions ---------- */

void
deliver_part_ended(Sender *sender, FeedTransaction *transaction)
{
	if (--transaction->parts == 0)
		feed_done(sender->feed, transaction);
}

static void
command_ended(void *arg)
{
	Parcel	   *parcel = arg;
	ListCell   *cell;

	/* after a fault, what was not sent must not count as done */
	if (--parcel->commands > 0 || parcel->sender->faulted)
		return;
	if (parcel->transactions != NIL)
		CK_STOP("acknowledged");
	foreach(cell, parcel->transactions)
		deliver_part_ended(parcel->sender, lfirst(cell));
	list_free(parcel->transactions);
	pfree(parcel);
}

static void
on_deleted(void *arg, LinkStatus status, const LinkValue *values, int n, const char *text)
{
	DeleteCall *call = arg;
	Sender	   *sender = call->sender;

	if (status == LINK_OK || (status == LINK_REFUSED && !CK_GUARD("acknowledgement")))
		server_count(sender->server, SERVER_ACKNOWLEDGED, call->keys);
	else
		sender_fault(sender, "a deletion failed: %s", text);
}

/* The reply to the trace follows that to its deletions, and ends them. */
static void
on_traced(void *arg, LinkStatus status, const LinkValue *values, int n, const char *text)
{
	DeleteCall *call = arg;
	Sender	   *sender = call->sender;

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
	if (!sender->faulted)
		call->ended(call->arg);
	pfree(call);
}

/*
 * Delete keys, if any, by this link, and leave its trace.  The callback, which
 * must not raise errors, is told when both are acknowledged; after a fault, never.
 */
void
deliver_delete(Sender *sender, int link, const char *const *keys, const Size *lens, int n,
			   DeliverCallback ended, void *arg)
{
	DeleteCall *call;
	char		trace[24];

	if (sender->faulted)
		return;
	call = MemoryContextAlloc(sender->epoch_context, sizeof(DeleteCall));
	call->sender = sender;
	call->ended = ended;
	call->arg = arg;
	call->keys = n;
	call->link = link;
	call->trace = ++sender->trace_sent[link];
	sender->deletes_in_flight++;
	server_count(sender->server, SERVER_SENT, n);
	if (n > 0)
		sender->driver->del(sender->link[link], keys, lens, n, on_deleted, call);
	snprintf(trace, sizeof(trace), UINT64_FORMAT, call->trace);
	sender->driver->put(sender->link[link], sender->trace_key[link], trace, on_traced, call);
}

static void
send_batch(Sender *sender, Parcel *parcel, int link, KeyBatch *batch)
{
	if (batch->n == 0)
		return;
	parcel->commands++;
	deliver_delete(sender, link, batch->key, batch->len, batch->n, command_ended, parcel);
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

/* ---------- transactions ---------- */

/* Begin with a transaction: what it asks for beside the stream. */
static void
begin_transaction(Sender *sender, FeedTransaction *transaction)
{
	const char *at = transaction->entities.data;
	const char *end = at + transaction->entities.len;

	sender->sending = transaction;
	sender->sending_at = 0;
	transaction->parts = 1;		/* until all is sent */
	if (transaction->database)
		flush_add(sender, transaction, "");
	for (; at < end; at += 1 + (uint8) *at)
	{
		char		entity[KEY_MAX_ENTITY_NAME + 1];

		memcpy(entity, at + 1, (uint8) *at);
		entity[(uint8) *at] = '\0';
		flush_add(sender, transaction, entity);
	}
	refresh_add(sender, transaction);
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
		if (!refresh_join(sender, transaction, keys + sender->sending_at + 1, len))
			add_to_batch(sender, parcel, batches, keys + sender->sending_at + 1, len);
		sender->sending_at += 1 + len;
	}
	sender->sending = NULL;
	deliver_part_ended(sender, transaction);
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
	if (sent > 0)
		CK_STOP("collected");
	flush_run(sender);
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
	return sender->deletes_in_flight == 0 && sender->sending == NULL && refresh_is_idle(sender) &&
		dlist_is_empty(unconstify(dlist_head *, &sender->flushes)) &&
		!feed_has_waiting(sender->feed);
}
