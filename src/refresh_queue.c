/*-------------------------------------------------------------------------
 *
 * refresh_queue.c
 *	  What senders ask of refreshers, and which refreshers there are.
 *
 * DROP DATABASE and its like wait 5 s for the sessions of the database to go.
 * The utility hook tells the refresher before the command begins: by its latch,
 * and by SIGINT, which ends the query that it may be waiting in.  It stays away
 * for AWAY_MS; should the command take longer than that, a refresher that
 * starts waits for the command's lock on the database, which comes before it
 * counts as a session of it.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "catalog/pg_authid.h"
#include "utils/syscache.h"
#include <signal.h>

#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "nodes/parsenodes.h"
#include "storage/latch.h"
#include "storage/shmem.h"

#include "blocks.h"
#include "refresh_queue.h"
#include "shmem.h"

PG_FUNCTION_INFO_V1(ck_refresher_missing);

#define QUEUE_SIZE		2048	/* requests of one server */
#define AWAY_MS			10000
#define MISSING_MS		120000	/* so long health() says that there was no worker */

/* A database that has, or had, a refresher. */
typedef struct Refresher
{
	Oid			dboid;			/* InvalidOid: free */
	pid_t		pid;			/* 0: none runs */
	PGPROC	   *proc;			/* whose latch wakes it */
	bool		wanted;			/* something is queued, and none runs */
	bool		ended_well;		/* the last one */
	TimestampTz away_until;		/* none may run before */
	TimestampTz missing_since;	/* when there was no worker for it; 0: there was */
} Refresher;

/* A ring; head and tail only grow. */
typedef struct RefreshQueue
{
	uint64		head;
	uint64		tail;
	uint32		chain[QUEUE_SIZE];
} RefreshQueue;

typedef struct RefreshShared
{
	Refresher	refresher[MAX_REFRESHERS];
	RefreshQueue queue[MAX_SERVERS];
} RefreshShared;

static RefreshShared *shared = NULL;
static LWLock *shared_lock = NULL;

Size
refresh_queue_shmem_size(void)
{
	return sizeof(RefreshShared);
}

void
refresh_queue_shmem_init(LWLock *lock)
{
	bool		found;

	shared_lock = lock;
	shared = ShmemInitStruct("cachekit refreshers", sizeof(RefreshShared), &found);
	if (!found)
		memset(shared, 0, sizeof(RefreshShared));
}

/* ---------- under the lock ---------- */

static Refresher *
find_refresher(Oid dboid)
{
	for (int i = 0; i < MAX_REFRESHERS; i++)
	{
		if (shared->refresher[i].dboid == dboid)
			return &shared->refresher[i];
	}
	return NULL;
}

/* The clock may have been set back. */
static bool
is_away(const Refresher *refresher)
{
	TimestampTz now = GetCurrentTimestamp();

	return refresher->away_until > now &&
		refresher->away_until - now <= Max(AWAY_MS, MISSING_MS) * INT64CONST(1000);
}

/* That of this database; NULL: there is no room for another. */
static Refresher *
obtain_refresher(Oid dboid)
{
	Refresher  *refresher = find_refresher(dboid);

	/* one that nobody has had; else one that is of no use to its database now */
	for (int i = 0; i < MAX_REFRESHERS && refresher == NULL; i++)
	{
		if (!OidIsValid(shared->refresher[i].dboid))
			refresher = &shared->refresher[i];
	}
	for (int i = 0; i < MAX_REFRESHERS && refresher == NULL; i++)
	{
		Refresher  *old = &shared->refresher[i];

		if (old->pid == 0 && !old->wanted && !is_away(old))
			refresher = old;
	}
	if (refresher && refresher->dboid != dboid)
	{
		memset(refresher, 0, sizeof(Refresher));
		refresher->dboid = dboid;
	}
	return refresher;
}

static uint32
pop(int place)
{
	RefreshQueue *queue = &shared->queue[place];

	return queue->head == queue->tail ? NO_CHAIN : queue->chain[queue->head++ % QUEUE_SIZE];
}

/* ---------- senders ---------- */

bool
refresh_queue_ask(const RefreshRequest *request)
{
	RefreshQueue *queue = &shared->queue[request->place];
	uint32		chain = blocks_put(request, sizeof(*request), NULL, 0);
	Refresher  *refresher;
	bool		room = false;

	if (chain == NO_CHAIN)
		return false;
	LWLockAcquire(shared_lock, LW_EXCLUSIVE);
	refresher = obtain_refresher(request->dboid);
	if (refresher && !is_away(refresher) && queue->tail - queue->head < QUEUE_SIZE)
	{
		room = true;
		queue->chain[queue->tail++ % QUEUE_SIZE] = chain;
	}
	LWLockRelease(shared_lock);
	if (!room)
		blocks_free(chain);
	return room;
}

/* Something has been queued: wake the refresher, or have it started. */
void
refresh_queue_tell(Oid dboid)
{
	Refresher  *refresher;
	bool		wanted = false;

	LWLockAcquire(shared_lock, LW_EXCLUSIVE);
	refresher = obtain_refresher(dboid);
	if (refresher && refresher->proc)
		SetLatch(&refresher->proc->procLatch);
	else if (refresher)
		wanted = refresher->wanted = true;
	LWLockRelease(shared_lock);
	if (wanted)
		servers_wake_launcher();
}

void
refresh_queue_clear(int place)
{
	uint32		chain;

	do
	{
		LWLockAcquire(shared_lock, LW_EXCLUSIVE);
		chain = pop(place);
		LWLockRelease(shared_lock);
		blocks_free(chain);
	} while (chain != NO_CHAIN);
}

int
refresh_queue_length(void)
{
	int			length = 0;

	for (int i = 0; i < MAX_SERVERS; i++)
		length += (int) (shared->queue[i].tail - shared->queue[i].head);
	return length;
}

/* ---------- the refresher of a database ---------- */

bool
refresher_claim(Oid dboid)
{
	Refresher  *refresher;
	bool		claimed = false;

	LWLockAcquire(shared_lock, LW_EXCLUSIVE);
	refresher = obtain_refresher(dboid);
	if (refresher && refresher->pid == 0)
	{
		refresher->wanted = false;
		refresher->missing_since = 0;
		claimed = !is_away(refresher);
		refresher->ended_well = !claimed;
		refresher->pid = claimed ? MyProcPid : 0;
		refresher->proc = claimed ? MyProc : NULL;
	}
	LWLockRelease(shared_lock);
	return claimed;
}

/* The refresher ends.  What has been queued since it looked last wants another. */
void
refresher_release(Oid dboid, bool well)
{
	Refresher  *refresher;
	bool		wanted = false;

	LWLockAcquire(shared_lock, LW_EXCLUSIVE);
	refresher = find_refresher(dboid);
	if (refresher && refresher->pid == MyProcPid)
	{
		refresher->pid = 0;
		refresher->proc = NULL;
		refresher->ended_well = well;
		for (int i = 0; i < MAX_SERVERS && !wanted; i++)
			wanted = server_at(i)->dboid == dboid &&
				shared->queue[i].head != shared->queue[i].tail;
		refresher->wanted = wanted;
	}
	LWLockRelease(shared_lock);
	if (wanted)
		servers_wake_launcher();
}

bool
refresher_must_leave(Oid dboid)
{
	Refresher  *refresher;
	bool		leave;

	LWLockAcquire(shared_lock, LW_SHARED);
	refresher = find_refresher(dboid);
	leave = refresher == NULL || is_away(refresher);
	LWLockRelease(shared_lock);
	return leave;
}

/* Requests of all servers of the database that somebody still waits for. */
int
refresh_queue_take(Oid dboid, RefreshRequest *requests, int room)
{
	int			n = 0;

	for (int i = 0; i < MAX_SERVERS; i++)
	{
		while (n < room && server_at(i)->dboid == dboid)
		{
			uint32		chain;

			LWLockAcquire(shared_lock, LW_EXCLUSIVE);
			chain = pop(i);
			LWLockRelease(shared_lock);
			if (chain == NO_CHAIN)
				break;
			blocks_get(chain, 0, &requests[n], sizeof(RefreshRequest));
			blocks_free(chain);
			/* the place may have been another database's */
			if (requests[n].dboid == dboid && requests[n].until > GetCurrentTimestamp())
				n++;
		}
	}
	return n;
}

/* ---------- the launcher ---------- */

bool
refresher_is_wanted(int number, Oid *dboid)
{
	Refresher  *refresher = &shared->refresher[number];
	bool		wanted;

	LWLockAcquire(shared_lock, LW_SHARED);
	*dboid = refresher->dboid;
	wanted = OidIsValid(refresher->dboid) && refresher->wanted && refresher->pid == 0 &&
		!is_away(refresher);
	LWLockRelease(shared_lock);
	return wanted;
}

bool
refresher_ended_well(int number)
{
	return shared->refresher[number].ended_well;
}

/* None for a while: the last one failed, or none could be started. */
void
refresher_delay(int number, long ms, bool no_worker)
{
	Refresher  *refresher = &shared->refresher[number];
	TimestampTz now = GetCurrentTimestamp();

	LWLockAcquire(shared_lock, LW_EXCLUSIVE);
	refresher->wanted = false;
	refresher->away_until = Max(refresher->away_until, now + ms * INT64CONST(1000));
	if (no_worker)
		refresher->missing_since = now;
	LWLockRelease(shared_lock);
}

/* ---------- commands ---------- */

/* The database that a command needs for itself; NULL: none. */
static const char *
database_needed(Node *stmt)
{
	ListCell   *cell;

	switch (nodeTag(stmt))
	{
		case T_DropdbStmt:
			return ((DropdbStmt *) stmt)->dbname;
		case T_AlterDatabaseStmt:
			foreach(cell, ((AlterDatabaseStmt *) stmt)->options)
			{
				if (strcmp(lfirst_node(DefElem, cell)->defname, "tablespace") == 0)
					return ((AlterDatabaseStmt *) stmt)->dbname;
			}
			return NULL;
		case T_RenameStmt:
			return ((RenameStmt *) stmt)->renameType == OBJECT_DATABASE ?
				((RenameStmt *) stmt)->subname : NULL;
		case T_CreatedbStmt:
			foreach(cell, ((CreatedbStmt *) stmt)->options)
			{
				DefElem    *option = lfirst_node(DefElem, cell);

				if (strcmp(option->defname, "template") == 0 && option->arg)
					return defGetString(option);
			}
			return "template1";
		default:
			return NULL;
	}
}

/* The command itself asks later; nobody else may drive a refresher away. */
static bool
may_need(Node *stmt, Oid dboid)
{
	HeapTuple	tuple;
	bool		may = compat_owns_database(dboid, GetUserId());

	if (may || !IsA(stmt, CreatedbStmt))
		return may;
	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));
	if (HeapTupleIsValid(tuple))
	{
		may = ((Form_pg_authid) GETSTRUCT(tuple))->rolcreatedb;
		ReleaseSysCache(tuple);
	}
	return may;
}

void
refreshers_make_way(Node *stmt)
{
	const char *name = shmem_ready() ? database_needed(stmt) : NULL;
	Oid			dboid = name ? get_database_oid(name, true) : InvalidOid;
	Refresher  *refresher;

	if (!OidIsValid(dboid) || !may_need(stmt, dboid))
		return;
	LWLockAcquire(shared_lock, LW_EXCLUSIVE);
	refresher = find_refresher(dboid);
	if (refresher)
	{
		refresher->wanted = false;
		refresher->away_until = GetCurrentTimestamp() + AWAY_MS * INT64CONST(1000);
		if (refresher->pid != 0)
		{
			SetLatch(&refresher->proc->procLatch);
			/* the process takes itself out under this lock, so it is the one */
			(void) kill(refresher->pid, SIGINT);
		}
	}
	LWLockRelease(shared_lock);
}

/* refresher_missing(): was there no worker for this database's refresher lately? */
Datum
ck_refresher_missing(PG_FUNCTION_ARGS)
{
	Refresher  *refresher;
	bool		missing = false;

	if (!shmem_ready())
		PG_RETURN_BOOL(false);
	LWLockAcquire(shared_lock, LW_SHARED);
	refresher = find_refresher(MyDatabaseId);
	if (refresher && refresher->missing_since != 0)
		missing = GetCurrentTimestamp() - refresher->missing_since < MISSING_MS * INT64CONST(1000);
	LWLockRelease(shared_lock);
	PG_RETURN_BOOL(missing);
}
