/*-------------------------------------------------------------------------
 *
 * debug.c
 *	  Switching guards off and standing between steps, in debug builds.
 *
 * The lists are checked in the check hooks, because some guards are asked in
 * places where nothing may fail (a COMMIT callback): asking is a comparison
 * of strings and no more.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#ifdef CACHEKIT_DEBUG

#include <signal.h>

#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "utils/guc.h"

#include "blocks.h"
#include "debug.h"
#include "refresh_queue.h"
#include "requests.h"
#include "servers.h"
#include "shmem.h"

static char *debug_disable = NULL;
static char *debug_stops = NULL;
static char *debug_in_use = NULL;	/* shown, never set */

/* The names that tests may use; an unknown one is an error, not a no-op. */
static const char *const guard_names[] = {
	"accept-invalidations",		/* between token and snapshot (row 14) */
	"attach-refusals",			/* unlogged, inherited, … (row 8) */
	"audit-words",				/* audit() compares what has not changed meanwhile */
	"change-raise",				/* raise before commit */
	"consistent-set",			/* fetch_many of one moment looks at the words again */
	"enum-rename",				/* RENAME VALUE waits for writers of keys (row 3) */
	"feed-read",				/* not a guard: a sender that is behind */
	"short-loads",				/* not a guard: every load seems to take an hour */
	"marker-write",				/* not a guard: a marker that is not acknowledged */
	"fill-marker",				/* fill under an acknowledged marker (row 4) */
	"fill-position",			/* stored beside a marker that has come as far (rows 4, 10) */
	"fill-token",				/* a fill's words are checked when it is sent */
	"marker-trace",				/* a marker only where the last deletions are (row 10) */
	"marker-check",				/* flush unless the marker fits (row 9) */
	"owner-nonce",				/* another writer is a fault (rows 6, 10) */
	"pool-drain",				/* a connection is replaced when nothing is in flight */
	"read-marker",				/* reads check marker and owner (row 10) */
	"read-position",			/* a read's location is checked (row 11) */
	"visibility-wait",			/* send what is visible only */
	"ddl-hooks",				/* utility and object access hooks (row 24) */
	"isolation",				/* REPEATABLE READ reads its table */
	"key-types",				/* types with one text form only (row 3) */
	"links",					/* no store while links are in flight (row 17) */
	"late-change",				/* a change after PRE_COMMIT (row 15) */
	"late-lower",				/* DDL lowers after its messages (row 14) */
	"load-repeat",				/* a load that a TRUNCATE overtook */
	"lower-generation",			/* lowering counts the commit (row 2) */
	"old-key",					/* an UPDATE changes its old key, too */
	"one-word",					/* generation is part of the token (row 2) */
	"own-change",				/* fetch looks at its own change set */
	"own-xid",					/* a writer never fills (row 1) */
	"partition-truncate",		/* TRUNCATE triggers on leaves (row 7) */
	"privilege-refresh",		/* a hit accepts invalidations (row 18) */
	"return-in-flight",			/* a raised word returns nothing */
	"single-flight",			/* one load for many misses */
	"soundness",				/* an entity without triggers is no entity (row 14) */
	"store-token",				/* store only under the token */
	"subxact-abort",			/* ROLLBACK TO forgets its changes */
	"synchronous-wait",			/* a synchronous COMMIT waits for the servers */
	"untracked",				/* no fetch of what nobody tells of */
	"trigger-base",				/* triggers of strangers (row 25) */
	"visible-removal",			/* COMMIT removes from the local tier */
	"flush-barrier",			/* no fill in flight when a flush starts (row 13) */
	"flush-trace",				/* a flush ends with a trace (row 10) */
	"flush-beside",				/* the position passes a flush (row 26) */
	"horizon",					/* a recent xmin for the visibility wait (row 20) */
	"readable",					/* a server is read once it is ready (row 16) */
	"refresh-again",			/* a change during a load is loaded again */
	"refresh-fallback",			/* what cannot be stored is deleted */
	"refresh-flush",			/* a flush ends what is being loaded */
	"refresh-hold",				/* the restart point is held until it is stored */
	"refresh-read",				/* an old document that will be replaced is not read */
	"refresh-trace",			/* reads see that a stored document has gone */
	"redefinition",				/* a new definition waits for writers (row 14) */
	"restart-point",			/* held back by what is not finished (row 5) */
	"subxacts",					/* a commit settles its subtransactions (row 22) */
	"abort-lower",				/* an abort lowers what was raised */
	"acknowledgement",			/* a deletion that is refused is not acknowledged */
	"flush-hold",				/* the restart point is held until a flush ends (row 26) */
	"for-us",					/* a read that was meant for another server */
	"links-record",				/* a commit whose links have no keys has a record (row 17) */
	"mark-any-commit",			/* the marker's record follows all commits (row 4) */
	"message-end",				/* "now" is the end of a record (row 21) */
	"old-name",					/* a record has the names from before, too (row 12) */
	"pins",						/* settings that change documents are pinned */
	"prepare",					/* PREPARE of changes is refused (row 19) */
	"record-end",				/* a commit without a record moves no position (row 23) */
	"via-names",				/* names in a query are qualified when it is given */
	"void-traces",				/* a flush of everything takes the traces, too (row 10) */
	NULL
};

/* What may happen at a step. */
typedef enum StepKind
{
	STEP_EARLY,					/* of a transaction: it may still fail */
	STEP_LATE,					/* of one that has committed: it may not */
	STEP_WORKER					/* of a sender or the launcher: it has no transaction */
} StepKind;

typedef struct Step
{
	const char *name;
	StepKind	kind;
} Step;

static const Step steps[] = {
	/* a session: fetch */
	{"load-token", STEP_EARLY},	/* token read, no snapshot yet */
	{"load-snapshot", STEP_EARLY},	/* snapshot taken, nothing read yet */
	{"load-done", STEP_EARLY},	/* document loaded, not stored */
	{"asking", STEP_EARLY},		/* server chosen, nothing in its queue yet */
	{"flight-wait", STEP_EARLY},	/* about to wait for another loader */
	/* a session: audit() */
	{"audit-looked", STEP_EARLY}, /* tiers looked at, the table not read yet */
	/* a session: COMMIT */
	{"pre-commit", STEP_EARLY}, /* changes known, fences not raised */
	{"links-raised", STEP_EARLY},	/* links raised, keys not looked for yet */
	{"links-resolved", STEP_EARLY}, /* keys found, their fences not raised */
	{"raised", STEP_EARLY},		/* fences raised, no record yet */
	{"recorded", STEP_EARLY},	/* record written, not committed */
	{"committed", STEP_LATE},	/* visible, fences still raised */
	{"lowered", STEP_LATE},		/* fences lowered */
	{"unlocked", STEP_LATE},	/* locks released, DDL not lowered yet */
	/* the launcher, and the scanner of a database */
	{"scanned", STEP_EARLY},	/* catalog read, its servers not published */
	{"starting", STEP_WORKER},	/* server published, its sender not started */
	/* a sender: an epoch begins */
	{"owner-written", STEP_WORKER}, /* nonce acknowledged, marker not asked for */
	{"marker-read", STEP_WORKER},	/* not judged yet */
	{"resuming", STEP_WORKER},	/* the marker fits, nothing has been sent */
	{"emptying", STEP_WORKER},	/* it does not: "now" taken, namespace not emptied */
	{"emptied", STEP_WORKER},	/* namespace emptied, no marker yet */
	{"caught-up", STEP_WORKER}, /* not readable yet */
	{"replacing", STEP_WORKER}, /* new connections are ready, the old ones in use */
	/* a sender: deletions and the marker */
	{"collected", STEP_WORKER}, /* deletions packed, none has left the process */
	{"sent", STEP_WORKER},		/* with the cache, no answer read */
	{"acknowledged", STEP_WORKER},	/* answered, position not moved */
	{"marker-due", STEP_WORKER},	/* position moved, marker not sent */
	{"marker-sent", STEP_WORKER},	/* no answer read */
	{"marker-acknowledged", STEP_WORKER},	/* nothing has gone by it */
	/* a sender: flushes of entities */
	{"flush-sent", STEP_WORKER},	/* begun, no end read */
	{"flushed", STEP_WORKER},	/* ended, no trace of it yet */
	{"flush-ended", STEP_WORKER},	/* traced, restart point still held */
	/* a sender: fills, reads, refreshes */
	{"fill-sent", STEP_WORKER}, /* no answer read */
	{"filled", STEP_WORKER},	/* answered */
	{"read-sent", STEP_WORKER}, /* no answer read */
	{"read-answered", STEP_WORKER}, /* the session has not been told */
	{"refresh-asked", STEP_WORKER}, /* the refresher has a request */
	{"refresh-loaded", STEP_EARLY}, /* the refresher has loaded, and not answered */
	{"refresh-stored", STEP_WORKER},	/* the new document is there, no trace of it */
	{NULL}
};

/* What to do at a step. */
typedef enum StepAction
{
	ACTION_PAUSE, ACTION_ERROR, ACTION_EXIT, ACTION_CRASH, NO_ACTION
} StepAction;

static const char *const action_names[] = {"pause", "error", "exit", "crash"};

/* An element of the list: step[@server][:action] */
typedef struct Stop
{
	const char *step;
	int			step_len;
	const char *server;
	int			server_len;		/* 0: whichever */
	StepAction	action;
} Stop;

/* The server that a worker works for; a session has its database. */
static Oid	served_database = InvalidOid;
static char served_name[SERVER_LABEL_SIZE];

/* ---------- the lists ---------- */

/* Is name an element of the comma-separated list? */
static bool
list_has(const char *list, const char *name)
{
	size_t		len = strlen(name);
	const char *p = list;

	while (p && *p)
	{
		size_t		n = strcspn(p, ", ");

		if (n == len && strncmp(p, name, n) == 0)
			return true;
		p += n;
		p += strspn(p, ", ");
	}
	return false;
}

static bool
check_names(const char *list, const char *const *names, const char *what)
{
	const char *p = list;

	while (p && *p)
	{
		size_t		n = strcspn(p, ", ");
		bool		known = (n == 0);

		for (int i = 0; names[i] && !known; i++)
			known = strlen(names[i]) == n && strncmp(names[i], p, n) == 0;
		if (!known)
		{
			GUC_check_errdetail("There is no %s \"%.*s\".", what, (int) n, p);
			return false;
		}
		p += n;
		p += strspn(p, ", ");
	}
	return true;
}

static bool
check_disable(char **newval, void **extra, GucSource source)
{
	return check_names(*newval, guard_names, "guard");
}

static bool
is_text(const char *at, int len, const char *text)
{
	return strlen(text) == len && strncmp(at, text, len) == 0;
}

/* Parse the next element of the list; false at its end. */
static bool
next_stop(const char **list, Stop *stop)
{
	const char *at = *list + strspn(*list, ", ");
	const char *end = at + strcspn(at, ", ");
	const char *action = memchr(at, ':', end - at);
	const char *name_end = action ? action : end;
	const char *server = memchr(at, '@', name_end - at);

	*list = end;
	if (at == end)
		return false;
	stop->step = at;
	stop->step_len = (server ? server : name_end) - at;
	stop->server = server ? server + 1 : NULL;
	stop->server_len = server ? name_end - stop->server : 0;
	stop->action = action ? NO_ACTION : ACTION_PAUSE;
	for (int i = 0; action && i < lengthof(action_names); i++)
	{
		if (is_text(action + 1, end - action - 1, action_names[i]))
			stop->action = i;
	}
	return true;
}

static bool
is_allowed(StepKind kind, StepAction action)
{
	switch (action)
	{
		case ACTION_ERROR:
			return kind == STEP_EARLY;
		case ACTION_EXIT:
			return kind != STEP_LATE;
		case NO_ACTION:
			return false;
		default:
			return true;
	}
}

static bool
check_stop(char **newval, void **extra, GucSource source)
{
	const char *list = *newval;
	Stop		stop;

	while (next_stop(&list, &stop))
	{
		const Step *step = steps;

		while (step->name && !is_text(stop.step, stop.step_len, step->name))
			step++;
		if (step->name == NULL)
		{
			GUC_check_errdetail("There is no step \"%.*s\".", stop.step_len, stop.step);
			return false;
		}
		if (!is_allowed(step->kind, stop.action))
		{
			GUC_check_errdetail("At the step \"%s\" it can be %s.", step->name,
								step->kind == STEP_EARLY ? "\"pause\", \"error\", \"exit\" or \"crash\"" :
								step->kind == STEP_LATE ? "\"pause\" or \"crash\"" :
								"\"pause\", \"exit\" or \"crash\"");
			return false;
		}
	}
	return true;
}

/* What is taken of shared memory for a while, and must be given back. */
static const char *
show_in_use(void)
{
	static char text[128];
	int			reads = 0;
	int			places = 0;
	int			fills = 0;

	if (!shmem_ready())
		return "";
	requests_in_use(&reads, &places, &fills);
	snprintf(text, sizeof(text), "blocks %d, reads %d, places %d, fills %d, refreshes %d",
			 blocks_in_use(), reads, places, fills, refresh_queue_length());
	return text;
}

void
debug_define_settings(void)
{
	DefineCustomStringVariable("cachekit.debug_disable",
							   "Guards that are switched off (debug builds, for tests).",
							   "A comma-separated list of guard names.",
							   &debug_disable, "", PGC_SUSET, GUC_NOT_IN_SAMPLE,
							   check_disable, NULL, NULL);
	DefineCustomStringVariable("cachekit.debug_stop",
							   "Steps at which a process waits, fails or ends (debug builds, for tests).",
							   "A comma-separated list of step[@server][:action], with the actions pause, error, exit and crash; it happens while somebody holds the advisory lock hashtext('cachekit.' || step).",
							   &debug_stops, "", PGC_SUSET, GUC_NOT_IN_SAMPLE,
							   check_stop, NULL, NULL);
	DefineCustomStringVariable("cachekit.debug_in_use",
							   "Shared memory that is taken for a while (debug builds, for tests).",
							   "Counts, which are all 0 when nobody does anything.",
							   &debug_in_use, "", PGC_INTERNAL,
							   GUC_NOT_IN_SAMPLE | GUC_DISALLOW_IN_FILE, NULL, NULL,
							   show_in_use);
}

/* True while the guard is on. */
bool
debug_guard(const char *name)
{
	return !list_has(debug_disable, name);
}

void
debug_serve(Oid dboid, const char *name)
{
	served_database = dboid;
	strlcpy(served_name, name, sizeof(served_name));
}

/* Is the step in the list, for whom this process works for? */
static bool
find_stop(const char *step, Stop *stop)
{
	const char *list = debug_stops;

	while (list && next_stop(&list, stop))
	{
		if (is_text(stop->step, stop->step_len, step) &&
			(stop->server_len == 0 ||
			 is_text(stop->server, stop->server_len, served_name)))
			return true;
	}
	return false;
}

/*
 * Wait while somebody holds the step's advisory lock exclusively, or, while
 * somebody does, fail or end.  The lock is taken as a session lock, because a
 * COMMIT callback has no resource owner that it could be remembered in, and a
 * sender no transaction.  The end of the postmaster ends the wait, and so does
 * its shutdown, which first ends the session that holds the lock.
 */
void
debug_stop(const char *step)
{
	char		name[64];
	LOCKTAG		tag;
	int64		key;
	Stop		stop;

	if (!find_stop(step, &stop))
		return;
	snprintf(name, sizeof(name), "cachekit.%s", step);
	key = (int32) DatumGetUInt32(hash_any((unsigned char *) name, strlen(name)));
	SET_LOCKTAG_ADVISORY(tag, OidIsValid(MyDatabaseId) ? MyDatabaseId : served_database,
						 (uint32) (key >> 32), (uint32) key, 1);
	if (LockAcquire(&tag, ShareLock, true, true) != LOCKACQUIRE_NOT_AVAIL)
	{
		LockRelease(&tag, ShareLock, true);
		return;
	}
	if (stop.action == ACTION_PAUSE)
	{
		(void) LockAcquire(&tag, ShareLock, true, false);
		LockRelease(&tag, ShareLock, true);
		SetLatch(MyLatch);		/* the wait may have taken a wake-up that was for others */
		return;
	}
	if (stop.action == ACTION_CRASH)
	{
		kill(MyProcPid, SIGKILL);
		pg_usleep(USECS_PER_SEC);	/* it comes at once */
	}
	ereport(stop.action == ACTION_EXIT ? FATAL : ERROR,
			(errmsg("step \"%s\" of cachekit.debug_stop", step)));
}

#endif							/* CACHEKIT_DEBUG */
