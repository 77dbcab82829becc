/*-------------------------------------------------------------------------
 *
 * sync_wait.c
 *	  cachekit.synchronous_invalidation: COMMIT waits for cache servers.
 *
 * A waiter publishes its location and its places, and looks again before it
 * sleeps; a sender writes how far it has come, and then looks who waits.  With
 * a full barrier between the two on either side, one of them sees the other.
 * What no sender tells of (a server that is dropped, a sender that was killed)
 * is found out by looking every RECHECK_MS.
 *
 * A session's slot belongs to its number as a backend.  The counts beside the
 * slots spare senders to visit them all when nobody waits.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "port/atomics.h"
#include "portability/instr_time.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/shmem.h"
#include "tcop/dest.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"

#include "debug.h"
#include "guc.h"
#include "servers.h"
#include "shmem.h"
#include "sync_wait.h"

#define RECHECK_MS		100
#define REASON_SIZE		64		/* what is said of one server, without its name */

StaticAssertDecl(MAX_SERVERS <= 64, "places of servers must fit into a slot's bits");

typedef struct WaitSlot
{
	pg_atomic_uint64 places;	/* bits of the servers that it waits for; 0: it does not */
	pg_atomic_uint64 end;		/* of its commit */
	PGPROC	   *proc;			/* whose latch wakes it */
} WaitSlot;

typedef struct SyncWaitShared
{
	pg_atomic_uint32 waiters[MAX_SERVERS];	/* how many slots have the server's bit */
	int			slots;			/* backends */
	WaitSlot	slot[FLEXIBLE_ARRAY_MEMBER];
} SyncWaitShared;

typedef enum WaitResult
{
	WAIT_OVER,					/* all have acknowledged, or are away */
	WAIT_TIMED_OUT,
	WAIT_CANCELED,
	WAIT_TERMINATED
} WaitResult;

static SyncWaitShared *shared = NULL;
static uint32 wait_event = 0;

/* The transaction at hand. */
static ServerSet noted;			/* for whom it wrote its record */
static XLogRecPtr noted_end = InvalidXLogRecPtr;	/* of its commit */

Size
sync_wait_shmem_size(void)
{
	return add_size(offsetof(SyncWaitShared, slot), mul_size(sizeof(WaitSlot), MaxBackends));
}

void
sync_wait_shmem_init(void)
{
	bool		found;

	shared = ShmemInitStruct("cachekit synchronous waits", sync_wait_shmem_size(), &found);
	if (found)
		return;
	for (int i = 0; i < MAX_SERVERS; i++)
		pg_atomic_init_u32(&shared->waiters[i], 0);
	shared->slots = MaxBackends;
	for (int i = 0; i < shared->slots; i++)
	{
		pg_atomic_init_u64(&shared->slot[i].places, 0);
		pg_atomic_init_u64(&shared->slot[i].end, InvalidXLogRecPtr);
		shared->slot[i].proc = NULL;
	}
}

/* ---------- slots ---------- */

/* This backend's slot; NULL for processes that have none: they look every RECHECK_MS. */
static WaitSlot *
my_slot(void)
{
	int			n = compat_backend_index();

	return n >= 0 && n < shared->slots ? &shared->slot[n] : NULL;
}

/* Wait for these places from now on; a full barrier when there are more than before. */
static void
publish(uint64 places)
{
	WaitSlot   *slot = my_slot();
	uint64		before;

	if (slot == NULL)
		return;
	before = pg_atomic_read_u64(&slot->places);
	slot->proc = MyProc;
	pg_atomic_write_u64(&slot->end, noted_end);
	pg_write_barrier();
	pg_atomic_write_u64(&slot->places, places);
	for (int i = 0; i < MAX_SERVERS; i++)
	{
		uint64		bit = UINT64CONST(1) << i;

		if ((places & ~before & bit) != 0)
			(void) pg_atomic_fetch_add_u32(&shared->waiters[i], 1);
		else if ((before & ~places & bit) != 0)
			(void) pg_atomic_fetch_sub_u32(&shared->waiters[i], 1);
	}
}

static void
leave_at_exit(int code, Datum arg)
{
	publish(0);
}

/* ---------- the session: noting ---------- */

/* What may fail in preparing for the wait, while it still may. */
static void
prepare(void)
{
	static bool registered = false;

	if (registered || !shmem_ready())
		return;
	wait_event = compat_wait_event("CachekitSynchronous");
	before_shmem_exit(leave_at_exit, (Datum) 0);
	registered = true;
}

void
sync_wait_note_all(void)
{
	if (!ck_synchronous_invalidation)
		return;
	prepare();
	noted.all = true;
}

void
sync_wait_note(const Oid *servers, int nservers)
{
	if (!ck_synchronous_invalidation)
		return;
	prepare();
	for (int i = 0; i < nservers; i++)
	{
		if (server_set_has(&noted, servers[i]))
			continue;
		if (noted.n == MAX_SERVERS)
			noted.all = true;
		else
			noted.serverid[noted.n++] = servers[i];
	}
}

void
sync_wait_forget(void)
{
	noted.all = false;
	noted.n = 0;
	noted_end = InvalidXLogRecPtr;
}

void
sync_wait_committed(XLogRecPtr end)
{
	noted_end = end;
	if (end == InvalidXLogRecPtr)
		sync_wait_forget();
}

/* ---------- the session: the WARNING ---------- */

typedef struct Report
{
	int			n;				/* servers that have not acknowledged */
	char		names[MAX_SERVERS * (NAMEDATALEN + 4)];
	char		details[MAX_SERVERS * (NAMEDATALEN + REASON_SIZE)];
} Report;

/* Several places may be one server: it is named once, with the first reason. */
static void
report_server(Report *report, const ServersBehind *behind, int place, const char *reason)
{
	const char *name = NameStr(behind->name[place]);
	Size		names_len = strlen(report->names);
	Size		details_len = strlen(report->details);

	for (int i = 0; i < place; i++)
	{
		if (server_behind(behind, i) && strcmp(NameStr(behind->name[i]), name) == 0)
			return;
	}
	snprintf(report->names + names_len, sizeof(report->names) - names_len, "%s\"%s\"",
			 report->n == 0 ? "" : ", ", name);
	snprintf(report->details + details_len, sizeof(report->details) - details_len,
			 "%s\"%s\" %s", report->n == 0 ? "" : ", ", name, reason);
	report->n++;
}

/* Whatever PostgreSQL's log should know of an outage, the sender has told it once. */
static void
warn_of(const ServersBehind *behind)
{
	Report		report = {0};
	char		timed_out[REASON_SIZE];

	snprintf(timed_out, sizeof(timed_out), "did not answer within %d ms",
			 ck_synchronous_timeout);
	for (int i = 0; i < MAX_SERVERS; i++)
	{
		uint64		bit = UINT64CONST(1) << i;

		if ((behind->pending & bit) != 0)
			report_server(&report, behind, i, timed_out);
		else if ((behind->away & bit) != 0)
			report_server(&report, behind, i, "is not connected");
		else if ((behind->stopped & bit) != 0)
			report_server(&report, behind, i, "has no sender");
		else if ((behind->refused & bit) != 0)
			report_server(&report, behind, i, "is refused");
	}
	if (report.n > 0)
		ereport(WARNING_CLIENT_ONLY,
				(errmsg_plural("cache server %s has not acknowledged the commit",
							   "cache servers %s have not acknowledged the commit",
							   report.n, report.names),
				 errdetail("%s. The transaction has committed; its changes are in the WAL and will be sent.",
						   report.details)));
	else if (behind->left_out)
		ereport(WARNING_CLIENT_ONLY,
				(errmsg("cache servers have not acknowledged the commit"),
				 errdetail("There is no room for all of them. The transaction has committed; its changes are in the WAL."),
				 errhint("There can be %d cache servers in all databases; each host of a Memcached server counts.",
						 MAX_SERVERS)));
	else
		ereport(WARNING_CLIENT_ONLY,
				(errmsg("cache servers have not acknowledged the commit"),
				 errdetail("They are not known yet. The transaction has committed; its changes are in the WAL and will be sent.")));
}

/* When what warn_of() says cannot be said in the client's encoding. */
static void
warn_in_plain_words(void)
{
	ereport(WARNING_CLIENT_ONLY,
			(errmsg_internal("cache servers have not acknowledged the commit"),
			 errdetail_internal("The transaction has committed; its changes are in the WAL and will be sent.")));
}

static void
warn_of_no_senders(void)
{
	ereport(WARNING_CLIENT_ONLY,
			(errmsg("cache servers have not acknowledged the commit"),
			 errdetail("There are no senders: cachekit is not in shared_preload_libraries.")));
}

static void
warn(WaitResult result, const ServersBehind *behind)
{
	switch (result)
	{
		case WAIT_OVER:
			if ((behind->away | behind->stopped | behind->refused) != 0 || behind->left_out)
				warn_of(behind);
			break;
		case WAIT_TIMED_OUT:
			warn_of(behind);
			break;
		case WAIT_CANCELED:
			ereport(WARNING,
					(errmsg("canceling wait for cache servers due to user request"),
					 errdetail("The transaction has committed; its changes are in the WAL and will be sent.")));
			break;
		case WAIT_TERMINATED:
			ereport(WARNING,
					(errcode(ERRCODE_ADMIN_SHUTDOWN),
					 errmsg("canceling wait for cache servers and terminating connection due to administrator command"),
					 errdetail("The transaction has committed; its changes are in the WAL and will be sent.")));
			break;
	}
}

/*
 * Run one of the above.  The names in a message may have no form in the
 * client's encoding, and callbacks may add context to it that fails: an ERROR
 * that escaped after the commit would be a PANIC.  False if there was one.
 */
static bool
warn_without_error(WaitResult result, const ServersBehind *behind, bool plain)
{
	MemoryContext context = CurrentMemoryContext;
	uint32		interrupts = InterruptHoldoffCount;
	uint32		cancels = QueryCancelHoldoffCount;
	volatile bool good = true;

	PG_TRY();
	{
		error_context_stack = NULL;
		if (plain)
			warn_in_plain_words();
		else if (behind)
			warn(result, behind);
		else
			warn_of_no_senders();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		FlushErrorState();
		InterruptHoldoffCount = interrupts;
		QueryCancelHoldoffCount = cancels;
		good = false;
	}
	PG_END_TRY();
	return good;
}

static void
warn_safely(WaitResult result, const ServersBehind *behind)
{
	if (!warn_without_error(result, behind, false))
		(void) warn_without_error(result, behind, true);
}

/* ---------- the session: waiting ---------- */

/* Wait for these places; their senders are to act at once. */
static void
begin_waiting_for(uint64 places, uint64 before)
{
	publish(places);
	for (int i = 0; i < MAX_SERVERS; i++)
	{
		if ((places & ~before & (UINT64CONST(1) << i)) != 0)
			server_wake(server_at(i));
	}
}

static long
ms_left(instr_time start)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, start);
	return ck_synchronous_timeout - (long) INSTR_TIME_GET_MILLISEC(now);
}

/*
 * The catalog has yet to be looked at: there may be new servers, and old ones
 * with other options.
 */
static bool
scan_is_due(uint64 scans)
{
	return servers_scanned() < scans || servers_is_scan_queued(MyDatabaseId);
}

static WaitResult
wait_for_servers(ServersBehind *behind)
{
	uint64		scans = servers_scans_requested();
	uint64		published = 0;
	instr_time	start;

	INSTR_TIME_SET_CURRENT(start);
	for (;;)
	{
		long		left;

		ResetLatch(MyLatch);
		servers_look(&noted, noted_end, behind);
		if (behind->pending == 0 && !scan_is_due(scans))
			return WAIT_OVER;
		if (ProcDiePending)
			return WAIT_TERMINATED;
		if (QueryCancelPending)
		{
			QueryCancelPending = false;
			return WAIT_CANCELED;
		}
		left = ms_left(start);
		if (left <= 0)
			return WAIT_TIMED_OUT;
		if (behind->pending != published)
		{
			begin_waiting_for(behind->pending, published);
			published = behind->pending;
			continue;			/* it may have come meanwhile */
		}
		if ((WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_POSTMASTER_DEATH,
					   Min(left, RECHECK_MS), wait_event) & WL_POSTMASTER_DEATH) != 0)
		{
			/* the session ends at the first opportunity, without a word */
			ProcDiePending = true;
			whereToSendOutput = DestNone;
			return WAIT_TERMINATED;
		}
	}
}

void
sync_wait(void)
{
	ServersBehind behind;
	WaitResult	result;

	if (noted_end == InvalidXLogRecPtr)
		return;
	if ((noted.all || noted.n > 0) && CK_GUARD("synchronous-wait"))
	{
		if (shmem_ready())
		{
			result = wait_for_servers(&behind);
			publish(0);
			warn_safely(result, &behind);
		}
		else
			warn_safely(WAIT_OVER, NULL);
	}
	sync_wait_forget();
}

/* ---------- the sender ---------- */

bool
sync_wait_is_awaited(int place)
{
	return pg_atomic_read_u32(&shared->waiters[place]) != 0;
}

void
sync_wait_wake(int place, XLogRecPtr settled)
{
	uint64		bit = UINT64CONST(1) << place;

	pg_memory_barrier();
	if (!sync_wait_is_awaited(place))
		return;
	for (int i = 0; i < shared->slots; i++)
	{
		WaitSlot   *slot = &shared->slot[i];

		if ((pg_atomic_read_u64(&slot->places) & bit) == 0)
			continue;
		pg_read_barrier();
		if (pg_atomic_read_u64(&slot->end) <= settled)
			SetLatch(&slot->proc->procLatch);
	}
}

void
sync_wait_wake_all(int place)
{
	sync_wait_wake(place, PG_UINT64_MAX);
}
