/*-------------------------------------------------------------------------
 *
 * answer.c
 *	  What a sender reads from its cache for sessions, and the marker, by which
 *	  it is seen that the cache is as we have left it.
 *
 * Data can go back under a living connection (a proxy that switches, REPLICAOF,
 * SWAPDB, a restored snapshot), and another cluster can write to the same
 * keys.  So every batch of reads asks for marker and owner, too, at the same
 * moment and last; and once a second they are asked for together with the
 * traces, which keeps a cache that evicts what nobody reads from evicting these.
 * A document counts only if the marker beside it has passed the last change
 * that the session knows of.  Where documents have been replaced (refresh.h)
 * that does not tell enough, because the marker has passed such a change before
 * the document is replaced: then the traces are asked for and looked at, too.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/xlog.h"
#include "portability/instr_time.h"
#include "postmaster/interrupt.h"

#include "debug.h"
#include "refresh.h"
#include "requests.h"
#include "sender.h"

#define READ_BATCH			128
#define MAX_READS			64	/* commands in flight */
#define CHECK_US			USECS_PER_SEC
#define MARKER_RETRY_US		(USECS_PER_SEC / 5)
#define MARKER_PAUSE_US		(USECS_PER_SEC / 100)	/* between markers that nobody waits for */

typedef struct ReadCall
{
	Sender	   *sender;
	int			n;
	int			traces;			/* keys between these and the marker, */
	int			trace_link[MAX_LINKS];	/* whose they are, */
	uint64		trace[MAX_LINKS];	/* and what they were when it was sent */
	XLogRecPtr	marker_acked;	/* when it was sent */
	instr_time	start;
	ReadTicket	ticket[FLEXIBLE_ARRAY_MEMBER];
} ReadCall;

/* ---------- the marker ---------- */

typedef struct MarkerCall
{
	Sender	   *sender;
	XLogRecPtr	position;
} MarkerCall;

static void
on_marker(void *arg, LinkStatus status, const LinkValue *values, int n, const char *text)
{
	MarkerCall *call = arg;
	Sender	   *sender = call->sender;

	sender->marker_in_flight = false;
	if (status == LINK_OK && values[0].bytes[0] == '1')
	{
		sender->marker_acked = call->position;
		sender->marker_refused = 0;
		strcpy(sender->marker_text, sender->marker_next);
		CK_STOP("marker-acknowledged");
		pg_atomic_write_u64(&sender->server->marked, call->position);
	}
	else if (status == LINK_OK)
		sender_fault_changed(sender);
	else if (status == LINK_FULL)
	{
		char		message[SERVER_ERROR_SIZE];

		/* deletions go on; it is tried again */
		snprintf(message, sizeof(message), "the cache server is out of memory: %s", text);
		server_fault(sender->server, message);
		sender->marker_refused = GetCurrentTimestamp();
		sender->marker_sent = sender->marker_acked;
	}
	else
		sender_fault(sender, "the marker could not be written: %s", text);
	pfree(call);
}

/*
 * Does anybody wait for the marker: fills, reads, or the server to be ready?
 * Else it need not follow every position, as long as it follows soon.
 */
static bool
marker_is_due(Sender *sender)
{
	if (sender->fills != NIL || !refresh_is_idle(sender) || sender->ready_since == 0 ||
		sender->nap_until == 0 || ShutdownRequestPending || pg_atomic_read_u32(&sender->server->marker_wanted) != 0)
		return true;
	return sender_elapsed(sender->marker_at) >= MARKER_PAUSE_US;
}

/* Write the marker when the position has moved on, or a flush no longer holds the restart point. */
void
answer_write_marker(Sender *sender)
{
	XLogRecPtr	position = feed_position(sender->feed);
	XLogRecPtr	restart = feed_restart(sender->feed);
	const FeedMark *mark;
	Marker		marker;
	MarkerCall *call;
	LinkTrace	traces[MAX_LINKS];
	int			ntraces = 0;

	if (!CK_GUARD("marker-write") && sender->marker_acked != InvalidXLogRecPtr)
		return;
	if (sender->marker_in_flight || sender->faulted || sender->holding ||
		(position == sender->marker_sent && restart == sender->marker_restart) ||
		flush_is_pending(sender, "") || !marker_is_due(sender) ||
		(sender->marker_refused != 0 &&
		 sender_elapsed(sender->marker_refused) < MARKER_RETRY_US))
		return;
	mark = feed_mark(sender->feed);
	if (mark->start == InvalidXLogRecPtr || mark->end > position)
		return;					/* nothing that could be named has been read yet */
	CK_STOP("marker-due");
	marker.identity = sender->identity;
	(void) GetFlushRecPtr(&marker.timeline);
	marker.position = position;
	marker.restart = restart;
	marker.record = mark->start;
	marker.record_end = mark->end;
	marker.crc = mark->crc;
	marker_format(&marker, sender->marker_next);
	for (int i = 0; i < MAX_LINKS && CK_GUARD("marker-trace"); i++)
	{
		if (sender->trace_acked[i] == 0)
			continue;
		strlcpy(traces[ntraces].key, sender->trace_key[i], sizeof(traces[ntraces].key));
		traces[ntraces++].least = sender->trace_acked[i];
	}
	call = MemoryContextAlloc(sender->epoch_context, sizeof(MarkerCall));
	call->sender = sender;
	call->position = marker.position;
	sender->marker_at = GetCurrentTimestamp();
	pg_atomic_write_u32(&sender->server->marker_wanted, 0);
	sender->marker_sent = marker.position;
	sender->marker_restart = restart;
	sender->marker_in_flight = true;
	sender->driver->put_marker(sender->link[0], sender->marker_key, sender->owner_key,
							   sender->nonce, sender->marker_text, sender->marker_next,
							   traces, ntraces, on_marker, call);
}

/* ---------- reads ---------- */

/* Another nonce than ours: say whose, if its marker tells. */
static void
note_robbery(Sender *sender, const LinkValue *marker)
{
	Marker		found;

	sender->robbed = sender->foreign = true;
	if (marker->bytes != NULL && marker_parse(marker->bytes, marker->len, &found) &&
		!marker_is_ours(&found, &sender->identity, true))
		sender_fault(sender, "another writer (server %u of database %u in system " UINT64_FORMAT ") has taken over our namespace",
					 found.identity.server, found.identity.database, found.identity.system);
	else
		sender_fault(sender, "another writer has taken over our namespace");
}

/*
 * Is what a batch of reads found beside its values what we have written?  Then
 * *position is how far these data have come.
 */
static bool
is_our_cache(Sender *sender, const ReadCall *call, const LinkValue *marker,
			 const LinkValue *owner, XLogRecPtr *position)
{
	Marker		found;

	*position = PG_UINT64_MAX;
	if (!CK_GUARD("read-marker"))
		return true;
	if (!epoch_is_our_nonce(sender, owner))
	{
		if (owner->bytes != NULL)
			note_robbery(sender, marker);
		return false;
	}
	if (marker->bytes == NULL || !marker_parse(marker->bytes, marker->len, &found))
		return false;
	*position = found.position;
	return marker_is_ours(&found, &sender->identity, true) &&
		found.position >= call->marker_acked && found.position <= sender->marker_sent;
}

/* The number in a value; 0 if it is none. */
static uint64
number_in(const LinkValue *value)
{
	char		text[24];

	if (value->bytes == NULL || value->len >= sizeof(text))
		return 0;
	memcpy(text, value->bytes, value->len);
	text[value->len] = '\0';
	if (strspn(text, "0123456789") != value->len)
		return 0;
	return strtoull(text, NULL, 10);
}

/* Have the data gone back to before a trace, and with it a document that was stored? */
static bool
has_lost_trace(Sender *sender, const ReadCall *call, const LinkValue *traces)
{
	if (!sender->traces_tell || !CK_GUARD("refresh-trace"))
		return false;
	for (int i = 0; i < call->traces; i++)
	{
		/* unless it may have gone otherwise since */
		if (call->trace[i] > sender->trace_void[call->trace_link[i]] &&
			number_in(&traces[i]) < call->trace[i])
			return true;
	}
	return false;
}

static void
on_read(void *arg, LinkStatus status, const LinkValue *values, int n, const char *text)
{
	ReadCall   *call = arg;
	Sender	   *sender = call->sender;
	int			marker = call->n + call->traces;
	bool		good = (status == LINK_OK && n == marker + 2);
	XLogRecPtr	position = InvalidXLogRecPtr;
	int			hits = 0;

	sender->reads_in_flight--;
	if (call->n > 0)
	{
		CK_STOP("read-answered");
		stats_latency_bucket(sender->server->latency, call->start, call->n);
	}
	if (good && (!is_our_cache(sender, call, &values[marker], &values[marker + 1], &position) ||
				 has_lost_trace(sender, call, &values[call->n])))
	{
		sender_fault_changed(sender);
		good = false;
	}
	else if (!good && status != LINK_LOST)
		sender_fault(sender, "a read failed: %s", status == LINK_OK ? "unexpected reply" : text);
	for (int i = 0; i < call->n; i++)
	{
		const ReadTicket *ticket = &call->ticket[i];

		if (!good || (position < ticket->needed && CK_GUARD("read-position")))
			request_answer(ticket, REQUEST_FAILED, NULL, 0);
		else if (values[i].bytes == NULL || values[i].len == 0)
			request_answer(ticket, REQUEST_ABSENT, NULL, 0);
		else
			hits += request_answer(ticket, REQUEST_FOUND, values[i].bytes, values[i].len);
	}
	server_count(sender->server, SERVER_READ_HITS, hits);
	pfree(call);
}

static void
send_reads(Sender *sender, ReadCall *call)
{
	static uint32 next_link = 0;
	const char *keys[READ_BATCH + MAX_LINKS + 2];
	Size		lens[READ_BATCH + MAX_LINKS + 2];
	int			n;

	for (int i = 0; i < call->n; i++)
	{
		char	   *key = palloc(256);

		sender_named(sender, call->ticket[i].named_key, key, 256);
		keys[i] = key;
	}
	n = call->n;
	call->traces = 0;
	for (int i = 0; i < MAX_LINKS && (call->n == 0 || sender->traces_tell); i++)
	{
		if (sender->trace_acked[i] == 0)
			continue;
		call->trace_link[call->traces] = i;
		call->trace[call->traces++] = sender->trace_acked[i];
		keys[n++] = sender->trace_key[i];
	}
	keys[n++] = sender->marker_key;
	keys[n++] = sender->owner_key;
	for (int i = 0; i < n; i++)
		lens[i] = strlen(keys[i]);
	call->marker_acked = sender->marker_acked;
	server_count(sender->server, SERVER_READS, call->n);
	sender->reads_in_flight++;
	sender->driver->get(sender->link[next_link++ % (uint32) sender->links], keys, lens, n, on_read, call);
}

static ReadCall *
new_call(Sender *sender)
{
	ReadCall   *call = MemoryContextAlloc(sender->epoch_context,
										  offsetof(ReadCall, ticket) +
										  sizeof(ReadTicket) * READ_BATCH);

	call->sender = sender;
	call->n = 0;
	INSTR_TIME_SET_CURRENT(call->start);
	return call;
}

/* See now and then that the cache still is as we left it. */
static void
check_cache(Sender *sender)
{
	if (pg_atomic_read_u32(&sender->server->readable) == 0 || sender->faulted ||
		sender->marker_acked == InvalidXLogRecPtr || flush_is_pending(sender, "") ||
		sender->holding || sender_elapsed(sender->checked) < CHECK_US)
		return;
	sender->checked = GetCurrentTimestamp();
	send_reads(sender, new_call(sender));
}

/* May requests be taken?  Those that cannot be answered now are told so, too. */
static bool
may_take(Sender *sender)
{
	return !sender->faulted && (pool_has_room(sender) || !server_is_readable(sender->server));
}

/*
 * Is the request for us?  Since the session chose the place, it may have become
 * another server's, even of another database, or its hosts may have changed.
 */
static bool
is_for_us(Sender *sender, const ReadTicket *ticket)
{
	char		key[256];

	if (!CK_GUARD("for-us"))
		return true;
	if (ticket->dboid != sender->server->dboid || ticket->serverid != sender->server->serverid)
		return false;
	if (sender->config.nhosts == 1)
		return true;
	sender_named(sender, ticket->named_key, key, sizeof(key));
	return sender_has_key(sender, key, strlen(key));
}

void
answer_reads(Sender *sender)
{
	ReadTicket	ticket;
	ReadCall   *call = NULL;

	while (may_take(sender) && request_take_read(sender->place, &ticket))
	{
		if (!server_is_readable(sender->server) ||
			(feed_position(sender->feed) < ticket.needed && CK_GUARD("read-position")) ||
			flush_is_pending(sender, ticket.named_key) ||
			(refresh_is_pending(sender, ticket.named_key) && CK_GUARD("refresh-read")) ||
			!is_for_us(sender, &ticket) || sender->reads_in_flight >= MAX_READS ||
			(sender->marker_acked == InvalidXLogRecPtr && CK_GUARD("readable")))
		{
			request_answer(&ticket, REQUEST_FAILED, NULL, 0);
			continue;
		}
		if (call == NULL)
			call = new_call(sender);
		call->ticket[call->n++] = ticket;
		if (call->n == READ_BATCH)
		{
			send_reads(sender, call);
			call = NULL;
		}
	}
	if (call)
		send_reads(sender, call);
	check_cache(sender);
}
