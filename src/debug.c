/*-------------------------------------------------------------------------
 *
 * debug.c
 *	  Switching guards off and standing between steps, in debug builds.
 *
 * The lists are parsed in the check hook, because some guards are asked in
 * places where nothing may fail (a COMMIT callback): asking is a comparison
 * of strings and no more.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#ifdef CACHEKIT_DEBUG

#include "common/hashfn.h"
#include "storage/lock.h"
#include "utils/guc.h"

#include "debug.h"

static char *debug_disable = NULL;
static char *debug_stops = NULL;

/* The names that tests may use; an unknown one is an error, not a no-op. */
static const char *const guard_names[] = {
	"accept-invalidations",		/* between token and snapshot (row 14) */
	"attach-refusals",			/* unlogged, inherited, … (row 8) */
	"change-raise",				/* raise before commit */
	"consistent-set",			/* fetch_many of one moment looks at the words again */
	"enum-rename",				/* RENAME VALUE waits for writers of keys (row 3) */
	"feed-read",				/* not a guard: a sender that is behind */
	"short-loads",				/* not a guard: every load seems to take an hour */
	"marker-write",				/* not a guard: a marker that is not acknowledged */
	"fill-marker",				/* fill under an acknowledged marker (row 4) */
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
	"soundness",				/* an entity without triggers is no entity */
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
	NULL
};

static const char *const step_names[] = {
	"load-token",				/* token read, no snapshot yet */
	"load-snapshot",			/* snapshot taken, nothing read yet */
	"refresh-loaded",			/* the refresher has loaded, and not answered */
	"load-done",				/* document loaded, not stored */
	"pre-commit",				/* changes known, fences not raised */
	"links-raised",				/* links raised, keys not looked for yet */
	"links-resolved",			/* keys found, their fences not raised */
	"raised",					/* fences raised, no record yet */
	"recorded",					/* record written, not committed */
	"committed",				/* visible, fences still raised */
	"lowered",					/* fences lowered */
	"unlocked",					/* locks released, DDL not lowered yet */
	"flight-wait",				/* about to wait for another loader */
	NULL
};

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
check_stop(char **newval, void **extra, GucSource source)
{
	return check_names(*newval, step_names, "step");
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
							   "Steps at which the session waits (debug builds, for tests).",
							   "A comma-separated list of step names; the session waits for the advisory lock hashtext('cachekit.' || step).",
							   &debug_stops, "", PGC_USERSET, GUC_NOT_IN_SAMPLE,
							   check_stop, NULL, NULL);
}

/* True while the guard is on. */
bool
debug_guard(const char *name)
{
	return !list_has(debug_disable, name);
}

/*
 * Wait while somebody holds the step's advisory lock exclusively.  The lock
 * is taken as a session lock, because a COMMIT callback has no resource
 * owner that it could be remembered in.
 */
void
debug_stop(const char *step)
{
	char		name[64];
	LOCKTAG		tag;
	int64		key;

	if (!list_has(debug_stops, step))
		return;
	snprintf(name, sizeof(name), "cachekit.%s", step);
	key = (int32) DatumGetUInt32(hash_any((unsigned char *) name, strlen(name)));
	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) (key >> 32), (uint32) key, 1);
	(void) LockAcquire(&tag, ShareLock, true, false);
	LockRelease(&tag, ShareLock, true);
}

#endif							/* CACHEKIT_DEBUG */
