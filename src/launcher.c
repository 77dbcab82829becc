/*-------------------------------------------------------------------------
 *
 * launcher.c
 *	  The launcher: knows every database's servers, keeps their senders alive.
 *
 * Workers are BGW_NEVER_RESTART: the launcher starts them anew, with a pause
 * that grows, and knows which are gone for good.  A sender ends by itself when
 * its server is no longer wanted; then the launcher drops its replication slot
 * and frees the place.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/reloptions.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_database.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_user_mapping.h"
#include "commands/dbcommands.h"
#include "foreign/foreign.h"
#include "libpq/pqsignal.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "catalog.h"
#include "debug.h"
#include "hosts.h"
#include "launcher.h"
#include "options.h"
#include "refresh_queue.h"
#include "retention.h"
#include "servers.h"

#define ROUND_MS			1000	/* between rounds when nothing wakes us */
#define SCAN_LIMIT_MS		10000	/* a scanner that takes longer is ended, and tried again */
#define RESTART_MIN_MS		50
#define RESTART_MAX_MS		10000
#define NO_WORKER_MS		5000	/* before a refresher is tried again */

/* A worker that is kept alive: a sender or a refresher. */
typedef struct WorkerWatch
{
	BackgroundWorkerHandle *handle; /* NULL: none started */
	TimestampTz started;
	int			failures;		/* starts that did not last */
} WorkerWatch;

static WorkerWatch watch[MAX_SERVERS];
static WorkerWatch refresher_watch[MAX_REFRESHERS];
static uint32 wait_event = 0;
static bool scanner_missing = false;	/* no worker could be started; the log knows */
static bool refresher_missing = false;	/* the same */

static void
describe_worker(BackgroundWorker *worker, const char *name, const char *function, Datum arg)
{
	memset(worker, 0, sizeof(*worker));
	strlcpy(worker->bgw_name, name, BGW_MAXLEN);
	strlcpy(worker->bgw_type, name, BGW_MAXLEN);
	strlcpy(worker->bgw_library_name, "cachekit", sizeof(worker->bgw_library_name));
	strlcpy(worker->bgw_function_name, function, sizeof(worker->bgw_function_name));
	worker->bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker->bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker->bgw_restart_time = BGW_NEVER_RESTART;
	worker->bgw_main_arg = arg;
}

void
launcher_register(void)
{
	BackgroundWorker worker;

	if (IsBinaryUpgrade)
		return;
	describe_worker(&worker, "cachekit launcher", "ck_launcher_main", (Datum) 0);
	worker.bgw_restart_time = 1;
	RegisterBackgroundWorker(&worker);
}

static void
log_missing_worker(bool *told)
{
	if (!*told)
		ereport(LOG,
				(errmsg("cachekit: no background worker could be started"),
				 errhint("Raise max_worker_processes.")));
	*told = true;
}

/* ---------- the scanner ---------- */

/* The options of the mapping for everybody, or else for the server's owner. */
static List *
mapping_options(ForeignServer *server)
{
	Oid			users[2] = {InvalidOid, server->owner};

	for (int i = 0; i < 2; i++)
	{
		HeapTuple	tuple = SearchSysCache2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(users[i]),
											ObjectIdGetDatum(server->serverid));
		bool		isnull;
		Datum		options;
		List	   *list = NIL;

		if (!HeapTupleIsValid(tuple))
			continue;
		options = SysCacheGetAttr(USERMAPPINGUSERSERVER, tuple, Anum_pg_user_mapping_umoptions,
								  &isnull);
		if (!isnull)
			list = untransformRelOptions(options);
		ReleaseSysCache(tuple);
		return list;
	}
	return NIL;
}

/*
 * Read a server's options; false if they cannot be used: a database may have
 * been renamed to what is too long for a namespace.
 */
static bool
read_config(ForeignServer *server, const char *database, ServerConfig *config)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool good = true;

	PG_TRY();
	{
		options_read(server->options, mapping_options(server), database, config);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		ereport(LOG,
				(errmsg("cachekit server \"%s\" cannot be used: %s", server->servername,
						error->message)));
		good = false;
	}
	PG_END_TRY();
	return good;
}

typedef struct ServerList
{
	ServerDefinition *definition;
	int			n;
	int			room;
} ServerList;

/* Add a definition for each host of the server. */
static void
define_server(ForeignServer *server, const char *database, ServerList *list)
{
	ServerConfig config;

	if (!read_config(server, database, &config))
		return;
	for (int host = 0; host < config.nhosts; host++)
	{
		ServerDefinition *definition;

		if (list->n == list->room)
		{
			list->room *= 2;
			list->definition = repalloc_huge(list->definition,
											 sizeof(ServerDefinition) * list->room);
		}
		definition = &list->definition[list->n++];
		definition->serverid = server->serverid;
		namestrcpy(&definition->name, server->servername);
		definition->config = config;
		hosts_use(&definition->config, host);
	}
}

/* Publish the servers of the database that this process is connected to. */
static void
scan_database(void)
{
	ServerList	list = {palloc(sizeof(ServerDefinition) * MAX_SERVERS), 0, MAX_SERVERS};
	Oid			fdw = catalog_exists() ? get_foreign_data_wrapper_oid("cachekit", true) : InvalidOid;
	char	   *database = get_database_name(MyDatabaseId);

	if (OidIsValid(fdw))
	{
		Relation	rel = table_open(ForeignServerRelationId, AccessShareLock);
		SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
		HeapTuple	tuple;

		while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		{
			Form_pg_foreign_server form = (Form_pg_foreign_server) GETSTRUCT(tuple);

			if (form->srvfdw == fdw)
				define_server(GetForeignServer(form->oid), database, &list);
		}
		systable_endscan(scan);
		table_close(rel, AccessShareLock);
	}
	CK_STOP("scanned");
	if (servers_publish(MyDatabaseId, list.definition, list.n) > 0)
		ereport(LOG,
				(errmsg("cachekit: database \"%s\" has cache servers for which there is no room",
						database),
				 errdetail("There can be %d in all databases; each host of a Memcached server counts.",
						   MAX_SERVERS)));
}

void
ck_scanner_main(Datum arg)
{
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(arg), InvalidOid, 0);
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	scan_database();
	PopActiveSnapshot();
	CommitTransactionCommand();
	proc_exit(0);
}

/* ---------- the launcher ---------- */

/*
 * Look at one database by a worker that connects to it, and wait for that; false
 * if it could not.  It may have to wait for locks, but senders must not.
 */
static bool
run_scanner(Oid dboid)
{
	BackgroundWorker worker;
	BackgroundWorkerHandle *handle;
	uint64		publications = servers_publications();
	TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), SCAN_LIMIT_MS);
	pid_t		pid;

	describe_worker(&worker, "cachekit scanner", "ck_scanner_main", ObjectIdGetDatum(dboid));
	worker.bgw_notify_pid = MyProcPid;
	if (!RegisterDynamicBackgroundWorker(&worker, &handle))
	{
		log_missing_worker(&scanner_missing);
		return false;
	}
	scanner_missing = false;
	while (GetBackgroundWorkerPid(handle, &pid) != BGWH_STOPPED)
	{
		if (GetCurrentTimestamp() > until)
			TerminateBackgroundWorker(handle);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 100,
						 wait_event);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	pfree(handle);
	return servers_publications() != publications;
}

/* The databases that can be connected to; templates have no servers. */
static List *
connectable_databases(MemoryContext result_context)
{
	List	   *dboids = NIL;
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);
		MemoryContext old;

		/* -2: what an interrupted DROP DATABASE has left */
		if (!form->datallowconn || form->datistemplate || form->datconnlimit == -2)
			continue;
		old = MemoryContextSwitchTo(result_context);
		dboids = lappend_oid(dboids, form->oid);
		MemoryContextSwitchTo(old);
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
	return dboids;
}

static bool
is_published(Oid dboid, Oid serverid, int host)
{
	for (int i = 0; i < MAX_SERVERS; i++)
	{
		if (server_at(i)->dboid == dboid && server_at(i)->serverid == serverid &&
			server_at(i)->host == host)
			return true;
	}
	return false;
}

/* Look at all databases; adds those that could not be looked at to the list. */
static List *
scan_all(List *dboids, List *failed)
{
	ListCell   *cell;

	foreach(cell, dboids)
	{
		if (!run_scanner(lfirst_oid(cell)))
			failed = list_append_unique_oid(failed, lfirst_oid(cell));
	}
	/* and those that are no more */
	for (int i = 0; i < MAX_SERVERS; i++)
	{
		Oid			gone = server_at(i)->dboid;

		if (OidIsValid(gone) && !list_member_oid(dboids, gone))
			servers_publish(gone, NULL, 0);
	}
	if (failed == NIL)
		retention_drop_orphans(is_published);
	return failed;
}

/*
 * Do the scans that are requested.  One that fails, because no worker could be
 * started, or the database has gone meanwhile, is tried again in the next round.
 */
static void
run_scans(MemoryContext round)
{
	uint64		requested = servers_scans_requested();
	List	   *failed = NIL;
	ListCell   *cell;
	Oid			dboid;

	if (requested == servers_scanned())
		return;
	while (servers_take_scan(&dboid))
	{
		List	   *dboids;

		CHECK_FOR_INTERRUPTS();
		dboids = connectable_databases(round);
		MemoryContextSwitchTo(round);
		if (!OidIsValid(dboid))
			failed = scan_all(dboids, failed);
		else if (!list_member_oid(dboids, dboid))
			servers_publish(dboid, NULL, 0);
		else if (!run_scanner(dboid))
			failed = list_append_unique_oid(failed, dboid);
	}
	foreach(cell, failed)
		servers_request_scan(lfirst_oid(cell));
	servers_set_scanned(requested);
	if (failed != NIL)
		ResetLatch(MyLatch);	/* not at once */
}

/* Has the worker that we have started ended since we looked last? */
static bool
has_ended(WorkerWatch *w)
{
	pid_t		pid;

	if (w->handle == NULL || GetBackgroundWorkerPid(w->handle, &pid) != BGWH_STOPPED)
		return false;
	pfree(w->handle);
	w->handle = NULL;
	return true;
}

static bool
is_running(WorkerWatch *w, const CacheServer *server)
{
	bool		ours = w->handle != NULL;

	if (has_ended(w) && server->ended_well)
		w->failures = 0;
	/* or one that an earlier launcher has started */
	return ours ? w->handle != NULL : server->pid != 0;
}

/* With a pause that grows with every failure. */
static long
restart_ms(const WorkerWatch *w)
{
	return Min(RESTART_MAX_MS, RESTART_MIN_MS << Min(w->failures, 10));
}

static void
start_sender(int place)
{
	WorkerWatch *w = &watch[place];
	BackgroundWorker worker;
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

	CK_SERVE(server_at(place)->dboid, NameStr(server_at(place)->name));
	CK_STOP("starting");
	describe_worker(&worker, "cachekit sender", "ck_sender_main", Int32GetDatum(place));
	worker.bgw_notify_pid = MyProcPid;
	w->started = GetCurrentTimestamp();
	if (!RegisterDynamicBackgroundWorker(&worker, &w->handle))
	{
		w->handle = NULL;
		server_fault(server_at(place), "no background worker could be started: raise max_worker_processes");
	}
	MemoryContextSwitchTo(old);
}

/* A server that is no more: its slot goes, then its place. */
static void
forget_server(int place)
{
	CacheServer *server = server_at(place);

	if (!retention_drop(server->dboid, server->serverid, server->host))
		return;					/* somebody holds it: later */
	server_free(place);
	watch[place].failures = 0;
}

static void
look_after_senders(void)
{
	TimestampTz now = GetCurrentTimestamp();

	for (int i = 0; i < MAX_SERVERS; i++)
	{
		CacheServer *server = server_at(i);
		WorkerWatch *w = &watch[i];

		if (!OidIsValid(server->dboid))
			continue;
		if (is_running(w, server))
		{
			if (!server_should_run(server))
				server_wake(server);
			else if (now - w->started > RESTART_MAX_MS * INT64CONST(1000))
				w->failures = 0;
			continue;
		}
		if (!server->wanted)
		{
			forget_server(i);
			continue;
		}
		retention_cap(server->dboid, server->serverid, server->host);
		if (server_should_run(server) && now - w->started >= restart_ms(w) * INT64CONST(1000))
		{
			w->failures++;
			start_sender(i);
		}
	}
}

/* ---------- refreshers ---------- */

static void
start_refresher(int number, Oid dboid)
{
	WorkerWatch *w = &refresher_watch[number];
	BackgroundWorker worker;
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

	describe_worker(&worker, "cachekit refresher", "ck_refresher_main", ObjectIdGetDatum(dboid));
	worker.bgw_notify_pid = MyProcPid;
	if (RegisterDynamicBackgroundWorker(&worker, &w->handle))
		refresher_missing = false;
	else
	{
		w->handle = NULL;
		log_missing_worker(&refresher_missing);
		refresher_delay(number, NO_WORKER_MS, true);
	}
	MemoryContextSwitchTo(old);
}

/* Start those that are wanted.  They end by themselves when there is nothing to do. */
static void
look_after_refreshers(void)
{
	for (int i = 0; i < MAX_REFRESHERS; i++)
	{
		WorkerWatch *w = &refresher_watch[i];
		Oid			dboid;

		if (has_ended(w))
		{
			w->failures = refresher_ended_well(i) ? 0 : w->failures + 1;
			if (w->failures > 0)
				refresher_delay(i, restart_ms(w), false);
		}
		if (w->handle == NULL && refresher_is_wanted(i, &dboid))
			start_refresher(i, dboid);
	}
}

static void
launcher_exit(int code, Datum arg)
{
	servers_set_launcher(NULL);
}

void
ck_launcher_main(Datum arg)
{
	MemoryContext round;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	before_shmem_exit(launcher_exit, (Datum) 0);
	servers_set_launcher(MyProc);
	servers_request_scan(InvalidOid);
	wait_event = compat_wait_event("CachekitLauncher");
	round = AllocSetContextCreate(TopMemoryContext, "cachekit launcher round",
								  ALLOCSET_DEFAULT_SIZES);
	for (;;)
	{
		MemoryContextReset(round);
		MemoryContextSwitchTo(round);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		run_scans(round);
		MemoryContextSwitchTo(round);
		look_after_senders();
		look_after_refreshers();
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ROUND_MS,
						 wait_event);
		ResetLatch(MyLatch);
	}
}
