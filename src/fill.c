/*-------------------------------------------------------------------------
 *
 * fill.c
 *	  What a sender stores in its cache: documents that sessions have loaded.
 *
 * A fill is checked against the fence when it is sent, so a deletion of a
 * change that the fence knows nothing of yet comes after it on the same link;
 * and it is sent only under a marker that covers the last change of its key:
 * then a cluster that has lost that change finds a marker that it cannot
 * have written.  One that has to wait for the marker waits here.  When it is
 * stored, the marker beside it must still have come so far: the data may have
 * gone back meanwhile.
 *
 * A changed document that the refresher has loaded (refresh.h) is a fill, too,
 * with two differences: it replaces what is there, and it may be sent when its
 * key has changed since it was loaded, under a marker that covers whatever it
 * may show.  While one is awaited, sessions' fills of its key are dropped, lest
 * it replaces a newer one.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "utils/memutils.h"

#include "blocks.h"
#include "debug.h"
#include "refresh.h"
#include "requests.h"
#include "sender.h"
#include "slots.h"

#define MAX_FILLS			512 /* in flight */
#define MAX_FILL_BYTES		(8 * 1024 * 1024)	/* the same; one is sent in any case */
#define MAX_WAITING_FILLS	4096	/* that wait for the marker */
#define MAX_WAIT_US			USECS_PER_SEC	/* then all that wait are dropped */

typedef struct FillCall
{
	Sender	   *sender;
	Size		bytes;
	RefreshJob *job;			/* NULL: a session's */
} FillCall;

void
fill_begin(Sender *sender)
{
	sender->fills_in_flight = 0;
	sender->fill_bytes_in_flight = 0;
	sender->fills = NIL;
	sender->fills_judged = InvalidXLogRecPtr;
}

/* The epoch, or the sender, is over: fills that waited are dropped. */
void
fill_end(Sender *sender)
{
	ListCell   *cell;

	foreach(cell, sender->fills)
	{
		server_count(sender->server, SERVER_FILLS_DROPPED, 1);
		blocks_free((uint32) lfirst_int(cell));
	}
	sender->fills = NIL;
}

static void
on_filled(void *arg, LinkStatus status, const LinkValue *values, int n, const char *text)
{
	FillCall   *call = arg;
	Sender	   *sender = call->sender;

	sender->fills_in_flight--;
	sender->fill_bytes_in_flight -= call->bytes;
	if (status == LINK_OK)
		CK_STOP("filled");
	if (status == LINK_OK && values[0].bytes[0] == '0')
	{
		if (call->job == NULL)
			server_count(sender->server, SERVER_FILLS_DROPPED, 1);
		sender_fault_changed(sender);
	}
	else if (call->job && !sender->faulted && status != LINK_LOST)
	{
		/* what could not be replaced is the old one */
		if (status == LINK_OK || !CK_GUARD("refresh-fallback"))
			refresh_stored(sender, call->job);
		else
			refresh_failed(sender, call->job);
	}
	else if (status == LINK_FULL || status == LINK_REFUSED)
		server_count(sender->server, SERVER_FILLS_DROPPED, 1);
	pfree(call);
}

/* What becomes of a fill now. */
typedef enum FillFate
{
	FILL_SEND, FILL_WAIT, FILL_DROP
} FillFate;

/*
 * How far the marker must be for this document.  One whose token holds shows
 * no commit behind the last one of its scope.
 */
static XLogRecPtr
shown_by(const FillHead *head, const FenceScope *scope, bool holds)
{
	return holds ? fence_last_shown(scope) : head->shown;
}

/* *needed is where the marker must be for it to be sent. */
static FillFate
fate_of(Sender *sender, const FillHead *head, bool *holds, XLogRecPtr *needed)
{
	FenceScope	scope;
	bool		refresh = head->kind == FILL_REFRESH;

	slot_scope(head->slot, sender->server->dboid, head->hash, &scope);
	if (head->serverid != sender->server->serverid ||
		flush_is_pending(sender, head->named_key) ||
		!slot_is(head->slot, sender->server->dboid, head->relid))
		return FILL_DROP;
	if (!refresh && refresh_is_pending(sender, head->named_key))
		return FILL_DROP;
	*holds = fence_holds(&scope, &head->token);
	if (!*holds && !(refresh && fence_holds_for_key(&scope, &head->token)) &&
		CK_GUARD("fill-token"))
		return FILL_DROP;
	/* before an epoch is ready, changes from before the start count as well */
	*needed = Max(shown_by(head, &scope, *holds || !refresh), sender->ready_at);
	if (*needed > sender->marker_acked && CK_GUARD("fill-marker"))
		return sender->marker_refused != 0 ? FILL_DROP : FILL_WAIT;
	return FILL_SEND;
}

/* False: it is not for this host. */
static bool
send_one(Sender *sender, uint32 chain, const FillHead *head, RefreshJob *job, XLogRecPtr needed)
{
	LinkTerms	terms = {sender->owner_key, sender->nonce, sender->marker_key, needed};
	FillCall   *call;
	Link	   *link = sender->link[sender_link_of(sender, head->named_key, head->len)];
	Size		len = blocks_length(chain) - sizeof(FillHead);
	char	   *json;
	char		key[256];

	sender_named(sender, head->named_key, key, sizeof(key));
	if (!sender_has_key(sender, key, strlen(key)))
		return false;			/* the hosts have changed meanwhile, or memory is out */
	json = palloc(len);
	blocks_get(chain, sizeof(FillHead), json, len);
	call = MemoryContextAlloc(sender->epoch_context, sizeof(FillCall));
	call->sender = sender;
	call->bytes = len;
	call->job = job;
	sender->fills_in_flight++;
	sender->fill_bytes_in_flight += len;
	if (job == NULL)
		server_count(sender->server, SERVER_FILLS_SENT, 1);
	if (!CK_GUARD("owner-nonce"))
		terms.owner = NULL;
	if (!CK_GUARD("fill-position"))
		terms.position = 0;
	sender->driver->put_if_owner(link, key, &terms, json, len, head->ttl_ms, job != NULL,
								 on_filled, call);
	pfree(json);
	return true;
}

static void
handle_refresh(Sender *sender, uint32 chain, const FillHead *head, RefreshJob *job,
			   FillFate fate, bool holds, XLogRecPtr needed)
{
	if (fate == FILL_DROP && sender->marker_refused != 0)
		refresh_failed(sender, job);	/* the cache is full: asking again does not help */
	else if (fate == FILL_DROP)
		refresh_refused(sender, job);
	else
	{
		/* first: it may be answered at once, when the link is lost */
		refresh_sent(sender, job, holds);
		if (!send_one(sender, chain, head, job, needed))
			refresh_failed(sender, job);
	}
}

/* One fill: send, drop, or keep it for later; true when it is out of our hands. */
static bool
handle_fill(Sender *sender, uint32 chain)
{
	FillHead	head;
	FillFate	fate;
	RefreshJob *job = NULL;
	bool		holds = false;
	XLogRecPtr	needed = InvalidXLogRecPtr;

	blocks_get(chain, 0, &head, sizeof(head));
	if (head.kind != FILL_SESSION && (job = refresh_answered(sender, &head)) == NULL)
	{
		blocks_free(chain);
		return true;
	}
	fate = fate_of(sender, &head, &holds, &needed);
	if (fate == FILL_WAIT)
		return false;
	if (job)
		handle_refresh(sender, chain, &head, job, fate, holds, needed);
	else if (fate == FILL_DROP || !send_one(sender, chain, &head, NULL, needed))
		server_count(sender->server, SERVER_FILLS_DROPPED, 1);
	blocks_free(chain);
	return true;
}

static bool
has_room(const Sender *sender)
{
	return !sender->faulted && pool_has_room(sender) && sender->fills_in_flight < MAX_FILLS &&
		sender->fill_bytes_in_flight < MAX_FILL_BYTES;
}

void
fill_send(Sender *sender)
{
	uint32		chain;
	ListCell   *cell;

	if (flush_waits(sender))
		return;
	if (sender->fills != NIL && sender_elapsed(sender->fills_since) > MAX_WAIT_US)
		fill_end(sender);
	if (sender->fills_judged != sender->marker_acked || sender->marker_refused != 0)
	{
		foreach(cell, sender->fills)
		{
			if (!has_room(sender))
				return;
			if (handle_fill(sender, (uint32) lfirst_int(cell)))
				sender->fills = foreach_delete_current(sender->fills, cell);
		}
		sender->fills_judged = sender->marker_acked;
	}
	while (has_room(sender) && list_length(sender->fills) < MAX_WAITING_FILLS &&
		   (chain = request_take_fill(sender->place)) != NO_CHAIN)
	{
		if (!handle_fill(sender, chain))
		{
			MemoryContext old = MemoryContextSwitchTo(sender->epoch_context);

			if (sender->fills == NIL)
				sender->fills_since = GetCurrentTimestamp();
			sender->fills = lappend_int(sender->fills, (int) chain);
			MemoryContextSwitchTo(old);
		}
	}
}
