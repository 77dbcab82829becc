/*-------------------------------------------------------------------------
 *
 * epoch.c
 *	  The life of an epoch: from connecting to the first fault.
 *
 * See sender.h for the phases.  Callbacks of the driver only note what came;
 * epoch_run() goes on from there, where errors may be raised.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "replication/message.h"
#include "utils/memutils.h"

#include "debug.h"
#include "guc.h"
#include "record.h"
#include "refresh.h"
#include "requests.h"
#include "retention.h"
#include "sender.h"
#include "sync_wait.h"

#define SLOT_RETRY_US	USECS_PER_SEC
#define RENEW_BYTES		(8 * 1024 * 1024)
#define STEADY_US		(5 * USECS_PER_SEC) /* ready for so long: the outage is over */

static void
set_state(Sender *sender, ServerState state)
{
	pg_atomic_write_u32(&sender->server->state, state);
}

/* ---------- an epoch: connect, greet, judge the marker ---------- */

static void
enter(Sender *sender, EpochPhase phase)
{
	sender->phase = phase;
	sender->phase_since = GetCurrentTimestamp();
}

/*
 * "Now": the end of a message of ours.  The insert pointer would not do: it is
 * not the end of a record, and an idle server never gets there.  The message
 * is random, so that the marker can name it (marker.h).
 */
static void
take_now(Sender *sender)
{
	MemoryContext old = CurrentMemoryContext;
	char		random[16];

	if (!pg_strong_random(random, sizeof(random)))
		elog(ERROR, "could not generate a random message");
	StartTransactionCommand();
	sender->floor = compat_log_message(RECORD_PREFIX, random, sizeof(random), false);
	sender->floor_start = ProcLastRecPtr;
	if (!CK_GUARD("message-end"))
		sender->floor = GetXLogInsertRecPtr();
	XLogFlush(sender->floor);
	CommitTransactionCommand();
	MemoryContextSwitchTo(old);
	servers_want(sender->floor);
}

/* Send changes from `start` on; readable from `ready_at` on, and not before our own "now". */
static void
start_running(Sender *sender, XLogRecPtr start, XLogRecPtr ready_at, const FeedMark *mark)
{
	CacheServer *server = sender->server;

	pg_atomic_write_u32(&server->wal_lost, 0);
	sender->emptied = false;
	feed_begin(sender->feed, start, mark);
	feed_expect(sender->feed, sender->floor_start);
	sender->ready_at = Max(ready_at, sender->floor);
	pg_atomic_write_u64(&server->marked, InvalidXLogRecPtr);
	pg_atomic_write_u64(&server->position, start);
	pg_atomic_write_u64(&server->settled, start);
	pg_atomic_write_u64(&server->ready_at, sender->ready_at);
	sender->marker_sent = sender->marker_acked = InvalidXLogRecPtr;
	sender->checked = GetCurrentTimestamp();
	enter(sender, PHASE_RUN);
	pg_write_barrier();			/* server_has_delivered() goes by the state */
	set_state(sender, SERVER_REPLAYING);
}

/*
 * While others write much and nothing of ours changes, the record that the
 * marker names falls behind, and with it where sending would resume: give it
 * another.
 */
static void
renew_mark(Sender *sender)
{
	XLogRecPtr	position = feed_position(sender->feed);

	if (position - Max(feed_mark(sender->feed)->end, sender->floor) < RENEW_BYTES ||
		position < sender->floor)
		return;
	take_now(sender);
	feed_expect(sender->feed, sender->floor_start);
}

static void
on_namespace_flushed(void *arg, LinkStatus status, const LinkValue *values, int n,
					 const char *text)
{
	Sender	   *sender = arg;

	if (status == LINK_OK)
		sender->phase = PHASE_FLUSHED;
	else
		sender_fault(sender, "the namespace could not be flushed: %s", text);
}

static void
on_marker_read(void *arg, LinkStatus status, const LinkValue *values, int n, const char *text)
{
	Sender	   *sender = arg;

	if (status != LINK_OK || n != 1)
	{
		sender_fault(sender, "the marker could not be read: %s",
					 status == LINK_OK ? "unexpected reply" : text);
		return;
	}
	sender->found_len = -1;
	if (values[0].bytes != NULL)
	{
		sender->found_len = Min(values[0].len, MARKER_SIZE);
		memcpy(sender->found, values[0].bytes, sender->found_len);
	}
	sender->phase = PHASE_JUDGE;
}

/* Why sending cannot go on where the marker says; NULL: it can. */
static const char *
verdict_on(Sender *sender, Marker *marker)
{
	if (pg_atomic_read_u32(&sender->server->wal_lost) != 0)
		return "WAL that it needs could not be read";
	if (sender->found_len < 0)
		return "there is no marker";
	if (!marker_parse(sender->found, sender->found_len, marker))
		return "the marker cannot be read";
	if (!CK_GUARD("marker-check"))
		return NULL;
	return marker_verdict(marker, &sender->identity, sender->floor_start);
}

/* Empty our namespace, except for a key.  "Now" has been taken: it will go on from there. */
static void
flush_namespace(Sender *sender, const char *except)
{
	char		prefix[128];

	retention_forget(sender->floor_start);
	enter(sender, PHASE_FLUSH);
	set_state(sender, SERVER_FLUSHING);
	CK_STOP("emptying");
	sender_named(sender, "", prefix, sizeof(prefix));
	sender->driver->flush(sender->link[0], prefix, except, on_namespace_flushed, sender);
}

/* The marker has been read: resume where it says, or flush and begin now. */
static void
judge_marker(Sender *sender)
{
	Marker		marker;
	const char *verdict;

	CK_STOP("marker-read");
	take_now(sender);
	verdict = verdict_on(sender, &marker);
	if (verdict == NULL)
	{
		FeedMark	mark = {marker.record, marker.record_end, marker.crc};

		CK_STOP("resuming");
		server_count(sender->server, SERVER_RESUMES, 1);
		memcpy(sender->marker_text, sender->found, sender->found_len);
		sender->marker_text[sender->found_len] = '\0';
		start_running(sender, marker_resume_at(&marker), marker.position, &mark);
		return;
	}
	if (sender->robberies <= FLAPPING && !sender->told_flush)
		ereport(LOG,
				(errmsg("cachekit server \"%s\": flushing namespace \"%s\": %s",
						sender->label, sender->config.namespace, verdict)));
	sender->told_flush = true;
	flush_namespace(sender, sender->owner_key);
}

static void
ask_for_marker(Sender *sender)
{
	const char *key = sender->marker_key;
	Size		len = strlen(key);

	sender->driver->get(sender->link[0], &key, &len, 1, on_marker_read, sender);
}

bool
epoch_is_our_nonce(const Sender *sender, const LinkValue *value)
{
	return value->bytes != NULL && value->len == strlen(sender->nonce) &&
		memcmp(value->bytes, sender->nonce, value->len) == 0;
}

/* Do all links lead to the same cache?  A proxy may give each another one. */
static void
on_owner_seen(void *arg, LinkStatus status, const LinkValue *values, int n, const char *text)
{
	Sender	   *sender = arg;

	if (status != LINK_OK || n != 1)
		sender_fault(sender, "the owner could not be read: %s",
					 status == LINK_OK ? "unexpected reply" : text);
	else if (!epoch_is_our_nonce(sender, &values[0]))
		sender_fault(sender, "connections lead to different caches, or another writer has taken over our namespace");
	else if (++sender->greeted == 2 * sender->links - 1)
		ask_for_marker(sender);
}

static void
on_owner_written(void *arg, LinkStatus status, const LinkValue *values, int n, const char *text)
{
	Sender	   *sender = arg;
	const char *key = sender->owner_key;
	Size		len = strlen(key);

	if (status == LINK_FULL && !sender->emptied)
		sender->phase = PHASE_EMPTY;	/* no room even for this: make some */
	else if (status != LINK_OK)
		sender_fault(sender, "the owner could not be written: %s", text);
	else
	{
		sender->emptied = false;	/* there is room again */
		CK_STOP("owner-written");
	}
	if (status == LINK_OK && sender->links == 1)
		ask_for_marker(sender);
	for (int i = 1; i < sender->links && status == LINK_OK && !sender->faulted; i++)
		sender->driver->get(sender->link[i], &key, &len, 1, on_owner_seen, sender);
}

/* All links have been greeted: from now on nobody else's commands count. */
static void
on_hello(void *arg, LinkStatus status, const LinkValue *values, int n, const char *text)
{
	Sender	   *sender = arg;

	if (status != LINK_OK)
	{
		sender_fault(sender, "the server refused us: %s", text);
		return;
	}
	if (++sender->greeted < sender->links)
		return;
	sender->driver->put(sender->link[0], sender->owner_key, sender->nonce, on_owner_written,
						sender);
}

/* Take the slot; where there is none, try now and then. */
static void
try_slot(Sender *sender)
{
	CacheServer *server = sender->server;

	if (sender_elapsed(sender->slot_tried) < SLOT_RETRY_US)
		return;
	sender->slot_tried = GetCurrentTimestamp();
	pg_atomic_write_u32(&server->slotless, !retention_begin(server->dboid, server->serverid, server->host));
}

void
epoch_begin(Sender *sender)
{
	CacheServer *server = sender->server;
	uint64		random[2];
	uint32		version;

	sender->faulted = sender->robbed = sender->foreign = false;
	sender->fault[0] = '\0';
	sender->greeted = 0;
	sender->ready_since = 0;
	version = server_config(sender->place, &sender->config);
	server_label(sender->place, sender->label, sizeof(sender->label));
	CK_SERVE(server->dboid, sender->label);
	if (version != sender->config_version)
		sender->emptied = false;	/* that was another namespace, perhaps */
	sender->config_version = version;
	/* an entity may have a larger limit, but what is filled has been in blocks.c's memory */
	sender->config.max_value = (Size) 64 * 1024 * 1024 +
		Max(4 * (Size) ck_max_value_size, (Size) ck_fill_queue_memory * 1024);
	sender->driver = sender->config.kind == SERVER_REDIS ? &redis_driver : &memcached_driver;
	if (!pg_strong_random(random, sizeof(random)))
		elog(ERROR, "could not generate a random nonce");
	snprintf(sender->nonce, sizeof(sender->nonce), "%016" INT64_MODIFIER "x%016" INT64_MODIFIER "x",
			 random[0], random[1]);
	sender_named(sender, "cachekit:owner", sender->owner_key, sizeof(sender->owner_key));
	sender_named(sender, "cachekit", sender->marker_key, sizeof(sender->marker_key));
	marker_identity(&sender->identity, server->dboid, server->serverid, &sender->config);
	try_slot(sender);
	pg_atomic_write_u32(&server->running_version, sender->config_version);
	if (pg_atomic_read_u32(&server->breaker) == BREAKER_OPEN)
		pg_atomic_write_u32(&server->breaker, BREAKER_HALF_OPEN);
	sender->marker_in_flight = false;
	sender->marker_refused = 0;
	sender->reads_in_flight = 0;
	deliver_begin(sender);
	fill_begin(sender);
	refresh_begin(sender);
	request_fail_all(sender->place);	/* what an earlier server of this place was asked */
	set_state(sender, SERVER_CONNECTING);
	enter(sender, PHASE_CONNECT);
	pool_open(sender);
}

/* Count a fault.  One line an outage: one that soon follows another belongs to it. */
static void
count_fault(Sender *sender)
{
	server_fault(sender->server, sender->fault);
	if (sender->ready_since != 0 && sender_elapsed(sender->ready_since) > STEADY_US)
	{
		sender->failures = sender->robberies = 0;
		sender->told = false;
	}
	sender->failures++;
	sender->robberies += sender->robbed;
	if (!sender->told && sender->robberies <= FLAPPING)
		ereport(LOG,
				(errmsg("cachekit server \"%s\": %s", sender->label, sender->fault)));
	sender->told = true;
	if (sender->failures >= sender->config.breaker_threshold ||
		pg_atomic_read_u32(&sender->server->breaker) == BREAKER_HALF_OPEN)
		pg_atomic_write_u32(&sender->server->breaker, BREAKER_OPEN);
}

/* The one cure for any fault. */
void
epoch_end(Sender *sender)
{
	CacheServer *server = sender->server;

	pg_atomic_write_u32(&server->readable, 0);
	pg_atomic_write_u64(&server->marked, InvalidXLogRecPtr);
	set_state(sender, SERVER_CONNECTING);
	sender->faulted = true;		/* whatever the links still tell counts no more */
	pool_close(sender);
	fill_end(sender);
	refresh_end(sender);
	sender->phase = PHASE_CONNECT;
	request_fail_all(sender->place);
	MemoryContextReset(sender->epoch_context);
	if (sender->fault[0])
		count_fault(sender);
	server_count(server, SERVER_RECONNECTS, 1);
	sync_wait_wake_all(sender->place);
}

static void
greet(Sender *sender)
{
	enter(sender, PHASE_GREET);
	for (int i = 0; i < sender->links && !sender->faulted; i++)
		sender->driver->hello(sender->link[i], on_hello, sender);
}

/* Caught up, and the cache says so itself. */
static void
become_ready(Sender *sender)
{
	CK_STOP("caught-up");
	if (sender->told && sender->robberies <= FLAPPING)
		ereport(LOG,
				(errmsg("cachekit server \"%s\" is back", sender->label)));
	sender->told = sender->told_flush = false;
	sender->ready_since = GetCurrentTimestamp();
	pg_atomic_write_u32(&sender->server->breaker, BREAKER_CLOSED);
	pg_atomic_write_u32(&sender->server->readable, 1);
	set_state(sender, SERVER_READY);
}

static void
run(Sender *sender)
{
	CacheServer *server = sender->server;

	pool_maintain(sender);
	if (sender->faulted)
		return;
	deliver_changes(sender);
	if (!sender->faulted)
		refresh_run(sender);
	if (sender->faulted)
		return;
	pg_atomic_write_u64(&server->settled, feed_settled(sender->feed));
	sync_wait_wake(sender->place, feed_settled(sender->feed));
	pg_atomic_write_u64(&server->position, feed_position(sender->feed));
	pg_atomic_write_u64(&server->waiting_since, feed_oldest(sender->feed));
	if (pg_atomic_read_u32(&server->slotless))
		try_slot(sender);
	renew_mark(sender);
	answer_write_marker(sender);
	if (sender->ready_since == 0 && !sender->faulted &&
		feed_position(sender->feed) >= sender->ready_at &&
		sender->marker_acked >= sender->ready_at)
		become_ready(sender);
	answer_reads(sender);
	fill_send(sender);
}

void
epoch_run(Sender *sender)
{
	int			connected = pool_check(sender);

	if (sender->config_version != sender->server->config_version)
		sender->faulted = true; /* no fault to be told of: new options, new epoch */
	if (sender->faulted)
		return;
	switch (sender->phase)
	{
		case PHASE_CONNECT:
			if (connected == sender->links)
				greet(sender);
			else if (sender_elapsed(sender->phase_since) >
					 sender->config.connect_timeout * INT64CONST(1000))
				sender_fault(sender, "could not connect within connect_timeout (%d ms)",
							 sender->config.connect_timeout);
			break;
		case PHASE_GREET:
		case PHASE_FLUSH:
			break;
		case PHASE_EMPTY:
			sender->emptied = true;
			take_now(sender);
			flush_namespace(sender, NULL);
			break;
		case PHASE_JUDGE:
			judge_marker(sender);
			break;
		case PHASE_FLUSHED:
			CK_STOP("emptied");
			server_count(sender->server, SERVER_FLUSHES, 1);
			if (sender->emptied)
			{
				/* the owner has gone with the rest: begin again */
				sender_fault(sender, "the cache server is out of memory");
				break;
			}
			sender->marker_text[0] = '\0';
			start_running(sender, sender->floor_start, sender->floor, &(FeedMark) {0});
			break;
		case PHASE_RUN:
			run(sender);
			break;
	}
}
