/*-------------------------------------------------------------------------
 *
 * sender.c
 *	  The sender: one background worker per place, and its loop.
 *
 * The worker has no database: then nobody's DROP DATABASE or CREATE DATABASE …
 * TEMPLATE has to wait for it.  It needs a connection to shared catalogs all
 * the same, and a snapshot now and then: without, TransactionIdIsInProgress()
 * would go by a horizon that never moves.
 *
 * An ERROR ends the process; the launcher starts another.  That is the cure
 * for what is wrong with the WAL or with memory; what is wrong with the cache
 * server is a fault, which ends the epoch only.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "common/hashfn.h"
#include "common/pg_prng.h"
#include "libpq/pqsignal.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "debug.h"
#include "guc.h"
#include "hosts.h"
#include "refresh.h"
#include "requests.h"
#include "retention.h"
#include "sender.h"
#include "sync_wait.h"

#define IDLE_MS			1000	/* an idle sender looks at its cache this often */
#define NAP_MS			1
#define REFRESH_MS		5		/* refreshes have deadlines, and are asked for again */
#define BACKOFF_MIN_MS	20
#define ROBBED_MAX_MS	60000	/* longest pause when somebody else owns the namespace, */
#define CHANGED_MAX_MS	1000	/* or when the cache has changed in another way */

static Sender *current = NULL;
static uint32 wait_event = 0;	/* while it backs off */

/* ---------- what its parts share ---------- */

/* Note a fault; the epoch ends when the loop comes round.  Cannot fail. */
void
sender_fault(Sender *sender, const char *format,...)
{
	va_list		args;

	if (sender->faulted)
		return;
	sender->faulted = true;
	va_start(args, format);
	vsnprintf(sender->fault, sizeof(sender->fault), format, args);
	va_end(args);
	server_clean(sender->fault);
}

/* The marker or the owner is not what it should be: it is not only us who are here. */
void
sender_fault_changed(Sender *sender)
{
	if (!sender->faulted)
		sender->robbed = true;
	sender_fault(sender, "the cache is not as we left it (another writer, or old data)");
}

/* <namespace>:<suffix> */
void
sender_named(const Sender *sender, const char *suffix, char *to, Size size)
{
	snprintf(to, size, "%s:%s", sender->config.namespace, suffix);
}

/* The link of a key: always the same, so that commands for it keep their order. */
int
sender_link_of(const Sender *sender, const char *named_key, int len)
{
	return hash_bytes((const unsigned char *) named_key, len) % sender->links;
}

/*
 * Does this host of the server have the key?  If memory for the answer is out,
 * the epoch ends: what is not known must not count as delivered.
 */
bool
sender_has_key(Sender *sender, const char *key, int len)
{
	int			host = hosts_of_key(&sender->config, key, len);

	if (host < 0)
		sender_fault(sender, "out of memory");
	return host == sender->config.host_index;
}

/* ---------- the loop ---------- */

/* Flush what asynchronous commits have asked to be sent. */
static void
flush_wanted(Sender *sender)
{
	XLogRecPtr	wanted = servers_wanted();

	sender->has_flushed = wanted != InvalidXLogRecPtr && wanted > GetFlushRecPtr(NULL);
	if (sender->has_flushed)
		XLogFlush(wanted);
}

static bool
should_run(const Sender *sender)
{
	return !ShutdownRequestPending && server_should_run(sender->server);
}

/*
 * Exponential, with jitter, up to breaker_reset; and beyond it while somebody
 * else takes the namespace again and again, lest the two of us do nothing else.
 */
static long
backoff_ms(const Sender *sender)
{
	long		limit = Max(BACKOFF_MIN_MS, sender->config.breaker_reset);
	long		ms = sender->failures == 0 ? 1 :
		Min(limit, (long) BACKOFF_MIN_MS << Min(sender->failures, 12));

	if (sender->robberies > FLAPPING)
		ms = Min(sender->foreign ? ROBBED_MAX_MS : CHANGED_MAX_MS,
				 1000L << Min(sender->robberies - FLAPPING, 8));
	else if (pg_atomic_read_u32(&sender->server->breaker) == BREAKER_OPEN)
		ms = Max(ms, sender->config.breaker_reset);
	return ms / 2 + (long) (pg_prng_double(&pg_global_prng_state) * (ms / 2 + 1));
}

/* Pause before the next epoch; whoever wakes us meanwhile does not shorten it. */
static void
back_off(Sender *sender)
{
	TimestampTz until = GetCurrentTimestamp() + 1000 * backoff_ms(sender);

	while (should_run(sender) && sender->config_version == sender->server->config_version)
	{
		long		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until);

		if (left <= 0 || left > ROBBED_MAX_MS)
			break;				/* the clock was set back */
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, left,
						 wait_event);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		request_fail_all(sender->place);
		(void) retention_advance(InvalidXLogRecPtr);
	}
}

/* How long may the loop sleep? */
static long
timeout_of(Sender *sender)
{
	if ((sender->phase == PHASE_RUN && sender->behind) || sender->phase == PHASE_JUDGE ||
		sender->phase == PHASE_EMPTY || sender->phase == PHASE_FLUSHED)
		return 0;
	if (sender->phase != PHASE_RUN)
		return 10;
	if (feed_has_waiting(sender->feed) || sender->nap_until != 0 || ShutdownRequestPending)
		return NAP_MS;
	if (!refresh_is_idle(sender))
		return REFRESH_MS;
	if (sender->fills != NIL)
		return 50;
	return sender->changing || pool_unanswered(sender) > 0 ? 50 : IDLE_MS;
}

/*
 * Time to end?  Not wanted any more: at once.  Asked to by SIGTERM: when all is
 * sent, or after shutdown_timeout; the rest is in the WAL.
 */
static bool
may_end(Sender *sender)
{
	if (!server_should_run(sender->server))
		return true;
	if (!ShutdownRequestPending)
		return false;
	if (sender->asked_to_end == 0)
		sender->asked_to_end = GetCurrentTimestamp();
	return sender->phase != PHASE_RUN ||
		(deliver_is_idle(sender) && !sender->marker_in_flight &&
		 feed_read_to(sender->feed) >= servers_wanted()) ||
		sender_elapsed(sender->asked_to_end) > ck_shutdown_timeout * INT64CONST(1000);
}

/* The WAL from where on is needed?  0: that is not known. */
static XLogRecPtr
needed_wal(const Sender *sender)
{
	const FeedMark *mark = feed_mark(sender->feed);
	XLogRecPtr	restart = feed_restart(sender->feed);

	if (sender->phase == PHASE_RUN)
		return mark->start == InvalidXLogRecPtr ? restart : Min(restart, mark->start);
	/* a flush is to be followed by what has happened since it began */
	return sender->phase == PHASE_FLUSH ? sender->floor_start : InvalidXLogRecPtr;
}

static void
run_epoch(Sender *sender)
{
	MemoryContext loop = AllocSetContextCreate(TopMemoryContext, "cachekit sender loop",
											   ALLOCSET_DEFAULT_SIZES);

	epoch_begin(sender);
	while (!sender->faulted && !may_end(sender))
	{
		bool		more;

		MemoryContextReset(loop);
		MemoryContextSwitchTo(loop);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		if (sync_wait_is_awaited(sender->place))
			sender->nap_until = 0;	/* nor is a nap begun */
		if (sender->nap_until == 0 || sender->nap_until - GetCurrentTimestamp() <= 0)
			flush_wanted(sender);
		epoch_run(sender);
		if (!retention_advance(needed_wal(sender)))
			sender_fault(sender, "it held back more WAL than max_wal_retention (%d MB)",
						 ck_max_wal_retention);
		if (sender->faulted)
			break;

		/* sleep only if nothing came in since the WAL was looked at */
		pg_atomic_write_u32(&sender->server->idle, sender->nap_until == 0);
		pg_memory_barrier();
		more = sender->phase == PHASE_RUN && sender->nap_until == 0 &&
			deliver_has_room(sender) && feed_read_to(sender->feed) < servers_wanted();
		pool_wait(sender, more ? 0 : timeout_of(sender));
		pg_atomic_write_u32(&sender->server->idle, 0);
	}
	MemoryContextSwitchTo(TopMemoryContext);
	MemoryContextDelete(loop);
	epoch_end(sender);
}

static void
sender_exit(int code, Datum arg)
{
	CacheServer *server = current->server;

	pg_atomic_write_u32(&server->readable, 0);
	pg_atomic_write_u32(&server->idle, 0);
	pg_atomic_write_u32(&server->state, SERVER_STOPPED);
	pg_atomic_write_u64(&server->ready_at, InvalidXLogRecPtr);
	server->ended_well = (code == 0);
	current->faulted = true;
	pool_close(current); /* sessions that wait are told */
	fill_end(current);
	refresh_end(current);
	request_fail_all(current->place);
	server_release(current->place);
	sync_wait_wake_all(current->place);
	servers_wake_launcher();
}

/* Everything that an ERROR ends, and the next sender begins anew. */
static void
serve(Sender *sender)
{
	sender->feed = feed_create(TopMemoryContext, sender->server->dboid,
							   sender->server->serverid);
	while (should_run(sender))
	{
		run_epoch(sender);
		back_off(sender);
	}
}

/* An ERROR: say so, and let the next sender not try the same again. */
static void
give_up(Sender *sender)
{
	ErrorData  *error;

	MemoryContextSwitchTo(TopMemoryContext);
	error = CopyErrorData();
	server_fault(sender->server, error->message);
	if (sender->phase == PHASE_RUN)
		pg_atomic_write_u32(&sender->server->wal_lost, 1);
}

void
ck_sender_main(Datum arg)
{
	Sender	   *sender;
	int			place = DatumGetInt32(arg);

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);

	if (!server_claim(place))
		proc_exit(0);
	sender = MemoryContextAllocZero(TopMemoryContext, sizeof(Sender));
	current = sender;
	sender->place = place;
	sender->server = server_at(place);
	wait_event = compat_wait_event("CachekitSender");
	sender->epoch_context = AllocSetContextCreate(TopMemoryContext, "cachekit epoch",
												  ALLOCSET_DEFAULT_SIZES);
	before_shmem_exit(sender_exit, (Datum) 0);
	server_label(place, sender->label, sizeof(sender->label));
	pgstat_report_appname(psprintf("cachekit sender %s", sender->label));

	PG_TRY();
	{
		serve(sender);
	}
	PG_CATCH();
	{
		give_up(sender);
		PG_RE_THROW();
	}
	PG_END_TRY();
	proc_exit(0);
}
