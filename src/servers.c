/*-------------------------------------------------------------------------
 *
 * servers.c
 *	  Cache servers in shared memory: configuration, state, counters.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "storage/shmem.h"
#include "utils/builtins.h"

#include "debug.h"
#include "hosts.h"
#include "servers.h"

#define SCAN_QUEUE	64			/* databases that wait to be looked at */

typedef struct ServersShared
{
	PGPROC	   *launcher;		/* under lock; NULL: none runs */
	Oid			scan[SCAN_QUEUE];	/* databases whose servers may have changed */
	int			scans;
	bool		scan_all;		/* the queue overflowed, or the server has started */
	uint64		scans_requested;	/* counts requests */
	uint64		scanned;		/* all requests up to this one are done */
	uint64		publications;	/* counts databases that have been published */
	bool		left_out;		/* there was no place for a server */
	pg_atomic_uint64 wanted;	/* end of the last commit with a change record */
	CacheServer server[MAX_SERVERS];
} ServersShared;

static ServersShared *servers = NULL;
static LWLock *servers_lock = NULL;

Size
servers_shmem_size(void)
{
	return sizeof(ServersShared);
}

static void
init_server(CacheServer *server)
{
	memset(server, 0, offsetof(CacheServer, state));
	server->rival = NO_SERVER;
	pg_atomic_init_u32(&server->state, SERVER_STOPPED);
	pg_atomic_init_u32(&server->idle, 0);
	pg_atomic_init_u32(&server->readable, 0);
	pg_atomic_init_u32(&server->breaker, BREAKER_CLOSED);
	pg_atomic_init_u32(&server->running_version, PG_UINT32_MAX);
	pg_atomic_init_u32(&server->connections, 0);
	pg_atomic_init_u32(&server->slotless, 0);
	pg_atomic_init_u32(&server->wal_lost, 0);
	pg_atomic_init_u64(&server->position, 0);
	pg_atomic_init_u64(&server->settled, 0);
	pg_atomic_init_u64(&server->marked, 0);
	pg_atomic_init_u32(&server->marker_wanted, 0);
	pg_atomic_init_u64(&server->ready_at, 0);
	pg_atomic_init_u64(&server->waiting_since, 0);
	for (int i = 0; i < SERVER_COUNTERS; i++)
		pg_atomic_init_u64(&server->counter[i], 0);
	for (int i = 0; i < STAT_LATENCY_BUCKETS; i++)
		pg_atomic_init_u64(&server->latency[i], 0);
	server->last_error[0] = '\0';
	server->last_error_at = 0;
}

void
servers_shmem_init(LWLock *lock)
{
	bool		found;

	servers_lock = lock;
	servers = ShmemInitStruct("cachekit servers", sizeof(ServersShared), &found);
	if (found)
		return;
	servers->launcher = NULL;
	servers->scans = 0;
	servers->scan_all = true;
	servers->scans_requested = 1;
	servers->scanned = servers->publications = 0;
	servers->left_out = false;
	pg_atomic_init_u64(&servers->wanted, 0);
	for (int i = 0; i < MAX_SERVERS; i++)
		init_server(&servers->server[i]);
}

CacheServer *
server_at(int place)
{
	return &servers->server[place];
}

/* The index of the host that has the key, of those that the place's server has. */
static int
host_of(const CacheServer *server, const char *named_key)
{
	char		key[KEY_MAX_NAMESPACE + 1 + KEY_MAX_NAMED + 1];
	int			len = snprintf(key, sizeof(key), "%s:%s", server->config.namespace, named_key);

	return hosts_of_key(&server->config, key, Min(len, sizeof(key) - 1));
}

int
server_find(Oid serverid, const char *named_key)
{
	int			place = NO_SERVER;
	int			host = -1;

	LWLockAcquire(servers_lock, LW_SHARED);
	for (int i = 0; i < MAX_SERVERS && place == NO_SERVER; i++)
	{
		CacheServer *server = &servers->server[i];

		if (server->dboid != MyDatabaseId || server->serverid != serverid || !server->wanted)
			continue;
		if (host < 0)
			host = host_of(server, named_key);
		if (server->host == host)
			place = i;
	}
	LWLockRelease(servers_lock);
	return place;
}

void
server_label(const CacheServer *server, char *label, Size size)
{
	const ServerConfig *config = &server->config;

	if (config->nhosts > 1)
		snprintf(label, size, "%s (%s:%d)", NameStr(server->name), config->host, config->port);
	else
		strlcpy(label, NameStr(server->name), size);
}

bool
server_is_readable(CacheServer *server)
{
	return pg_atomic_read_u32(&server->readable) != 0 || !CK_GUARD("readable");
}

bool
server_should_run(const CacheServer *server)
{
	return server->wanted && server->rival == NO_SERVER;
}

/*
 * A launcher that was started anew may not know of a sender that is about to
 * begin, and start another.  A sender that was killed leaves its claim only
 * together with all shared memory.
 */
bool
server_claim(int place)
{
	CacheServer *server = server_at(place);
	bool		claimed;

	LWLockAcquire(servers_lock, LW_EXCLUSIVE);
	claimed = server->pid == 0;
	if (claimed)
	{
		server->pid = MyProcPid;
		server->proc = MyProc;
	}
	LWLockRelease(servers_lock);
	return claimed;
}

/* The sender ends; no effect for one that has not claimed the place. */
void
server_release(int place)
{
	CacheServer *server = server_at(place);

	LWLockAcquire(servers_lock, LW_EXCLUSIVE);
	if (server->pid == MyProcPid)
	{
		server->proc = NULL;
		server->pid = 0;
	}
	LWLockRelease(servers_lock);
}

uint32
server_config(int place, ServerConfig *config)
{
	CacheServer *server = server_at(place);
	uint32		version;

	LWLockAcquire(servers_lock, LW_SHARED);
	*config = server->config;
	version = server->config_version;
	LWLockRelease(servers_lock);
	return version;
}

void
server_count(CacheServer *server, ServerCounter which, uint64 n)
{
	(void) pg_atomic_fetch_add_u64(&server->counter[which], n);
}

void
servers_reset_stats(Oid dboid)
{
	for (int i = 0; i < MAX_SERVERS; i++)
	{
		CacheServer *server = &servers->server[i];

		if (server->dboid != dboid)
			continue;
		for (int k = 0; k < SERVER_COUNTERS; k++)
			pg_atomic_write_u64(&server->counter[k], 0);
		for (int k = 0; k < STAT_LATENCY_BUCKETS; k++)
			pg_atomic_write_u64(&server->latency[k], 0);
	}
}

void
server_fault(CacheServer *server, const char *message)
{
	LWLockAcquire(servers_lock, LW_EXCLUSIVE);
	strlcpy(server->last_error, message, SERVER_ERROR_SIZE);
	server->last_error_at = GetCurrentTimestamp();
	LWLockRelease(servers_lock);
}

/* Wake a server's sender.  A latch that now belongs to somebody else does no harm. */
void
server_wake(CacheServer *server)
{
	PGPROC	   *proc = server->proc;

	if (proc != NULL)
		SetLatch(&proc->procLatch);
}

/* Senders have to come this far. */
void
servers_want(XLogRecPtr end)
{
	uint64		seen = pg_atomic_read_u64(&servers->wanted);

	while (seen < end && !pg_atomic_compare_exchange_u64(&servers->wanted, &seen, end))
		;
}

/*
 * A commit with a change record has become visible: note how far senders have
 * to come, and wake those that sleep.  Called after commit: cannot fail.
 */
void
servers_committed(XLogRecPtr end)
{
	servers_want(end);
	for (int i = 0; i < MAX_SERVERS; i++)
	{
		CacheServer *server = &servers->server[i];

		if (server->dboid == MyDatabaseId && pg_atomic_read_u32(&server->idle) != 0)
			server_wake(server);
	}
}

XLogRecPtr
servers_wanted(void)
{
	return pg_atomic_read_u64(&servers->wanted);
}

/*
 * A sender that begins an epoch sets `settled` back before the state says that
 * it sends again.  The version is compared before and after, because a whole
 * epoch may pass between two of these lines.
 */
bool
server_has_delivered(CacheServer *server, XLogRecPtr end)
{
	uint32		version = pg_atomic_read_u32(&server->running_version);
	XLogRecPtr	ready_at;
	XLogRecPtr	settled;

	pg_read_barrier();
	if (pg_atomic_read_u32(&server->state) < SERVER_REPLAYING)
		return false;
	pg_read_barrier();
	ready_at = pg_atomic_read_u64(&server->ready_at);
	settled = pg_atomic_read_u64(&server->settled);
	pg_read_barrier();
	return pg_atomic_read_u32(&server->running_version) == version &&
		server->config_version == version &&
		ready_at != InvalidXLogRecPtr && settled >= Max(end, ready_at);
}

bool
server_set_has(const ServerSet *set, Oid serverid)
{
	bool		has = set->all;

	for (int i = 0; i < set->n && !has; i++)
		has = set->serverid[i] == serverid;
	return has;
}

bool
server_behind(const ServersBehind *behind, int place)
{
	return ((behind->pending | behind->away | behind->stopped | behind->refused) &
			(UINT64CONST(1) << place)) != 0;
}

static bool
has_place(Oid serverid)
{
	bool		has = false;

	for (int i = 0; i < MAX_SERVERS && !has; i++)
		has = servers->server[i].dboid == MyDatabaseId &&
			servers->server[i].serverid == serverid && servers->server[i].wanted;
	return has;
}

void
servers_look(const ServerSet *set, XLogRecPtr end, ServersBehind *behind)
{
	behind->pending = behind->away = behind->stopped = behind->refused = 0;
	behind->unknown = set->all;
	LWLockAcquire(servers_lock, LW_SHARED);
	for (int i = 0; i < MAX_SERVERS; i++)
	{
		CacheServer *server = &servers->server[i];
		uint64		bit = UINT64CONST(1) << i;

		if (server->dboid != MyDatabaseId || !server->wanted ||
			!server_set_has(set, server->serverid) || server_has_delivered(server, end))
			continue;
		behind->name[i] = server->name;
		if (server->rival != NO_SERVER)
			behind->refused |= bit;
		else if (server->pid == 0)
			behind->stopped |= bit;
		else if (pg_atomic_read_u32(&server->breaker) != BREAKER_CLOSED)
			behind->away |= bit;
		else
			behind->pending |= bit;
	}
	for (int i = 0; i < set->n; i++)
		behind->unknown |= !has_place(set->serverid[i]);
	LWLockRelease(servers_lock);
}

/* ---------- the catalog's side ---------- */

static bool
is_place_of(const CacheServer *server, const ServerDefinition *definition)
{
	return server->serverid == definition->serverid &&
		server->host == definition->config.host_index;
}

static bool
is_defined(const CacheServer *server, const ServerDefinition *definitions, int n)
{
	for (int i = 0; i < n; i++)
	{
		if (is_place_of(server, &definitions[i]))
			return true;
	}
	return false;
}

static CacheServer *
place_for(Oid dboid, const ServerDefinition *definition)
{
	CacheServer *unused = NULL;

	for (int i = 0; i < MAX_SERVERS; i++)
	{
		CacheServer *server = &servers->server[i];

		if (server->dboid == dboid && is_place_of(server, definition))
			return server;
		if (!OidIsValid(server->dboid) && unused == NULL)
			unused = server;
	}
	if (unused)
		init_server(unused);
	return unused;
}

/* Another server that has this one's keys or host, as far as options tell; or NO_SERVER. */
static int
find_rival(const CacheServer *server)
{
	for (int i = 0; i < MAX_SERVERS; i++)
	{
		CacheServer *other = &servers->server[i];

		if (other != server && other->wanted && other->rival == NO_SERVER &&
			options_are_rivals(&server->config, &other->config))
			return i;
	}
	return NO_SERVER;
}

/*
 * Two servers in one namespace, or at a host that one of them empties, would
 * delete each other's documents for ever: whoever was there first has it.
 */
static void
settle_rivals(void)
{
	for (int i = 0; i < MAX_SERVERS; i++)
	{
		CacheServer *server = &servers->server[i];

		if (!server->wanted || server->rival == NO_SERVER)
			continue;
		server->rival = find_rival(server);
		if (server->rival == NO_SERVER)
			continue;
		snprintf(server->last_error, SERVER_ERROR_SIZE,
				 "server \"%s\" of %s has the same %s there",
				 NameStr(servers->server[server->rival].name),
				 servers->server[server->rival].dboid == server->dboid ? "this database" :
				 "another database",
				 strcmp(servers->server[server->rival].config.namespace,
						server->config.namespace) == 0 ? "namespace" : "host");
		server->last_error_at = GetCurrentTimestamp();
	}
}

/*
 * Make the places of a database agree with what its catalog says.  Returns the
 * number of servers for which there was no place.
 */
int
servers_publish(Oid dboid, const ServerDefinition *definitions, int n)
{
	int			left_out = 0;

	LWLockAcquire(servers_lock, LW_EXCLUSIVE);
	for (int i = 0; i < MAX_SERVERS; i++)
	{
		CacheServer *server = &servers->server[i];

		if (server->dboid == dboid && !is_defined(server, definitions, n))
			server->wanted = false;
	}
	for (int i = 0; i < n; i++)
	{
		CacheServer *server = place_for(dboid, &definitions[i]);
		bool		is_new;

		if (server == NULL)
		{
			left_out++;
			continue;
		}
		is_new = !server->wanted;
		server->name = definitions[i].name;
		if (is_new || memcmp(&server->config, &definitions[i].config, sizeof(ServerConfig)) != 0)
		{
			server->config = definitions[i].config;
			server->config_version++;
			is_new = true;
		}
		server->serverid = definitions[i].serverid;
		server->host = definitions[i].config.host_index;
		server->dboid = dboid;
		server->wanted = true;
		if (is_new)
			server->rival = find_rival(server);
	}
	settle_rivals();
	servers->publications++;
	servers->left_out |= (left_out > 0);
	LWLockRelease(servers_lock);
	for (int i = 0; i < MAX_SERVERS; i++)
		server_wake(&servers->server[i]);
	servers_wake_launcher();
	return left_out;
}

/* The place of a server that is no more can be given away. */
void
server_free(int place)
{
	bool		left_out;

	LWLockAcquire(servers_lock, LW_EXCLUSIVE);
	if (!servers->server[place].wanted)
		init_server(&servers->server[place]);
	left_out = servers->left_out;
	servers->left_out = false;
	LWLockRelease(servers_lock);
	if (left_out)
		servers_request_scan(InvalidOid);
}

/* A database's servers may have changed.  Called after commit: cannot fail. */
void
servers_request_scan(Oid dboid)
{
	bool		queued = false;

	LWLockAcquire(servers_lock, LW_EXCLUSIVE);
	servers->scans_requested++;
	for (int i = 0; i < servers->scans; i++)
		queued |= (servers->scan[i] == dboid);
	if (!queued && servers->scans < SCAN_QUEUE)
		servers->scan[servers->scans++] = dboid;
	else if (!queued)
		servers->scan_all = true;
	LWLockRelease(servers_lock);
	servers_wake_launcher();
}

/*
 * The next database to look at; InvalidOid with true means all of them.  False
 * when there is none.
 */
bool
servers_take_scan(Oid *dboid)
{
	bool		some = true;

	LWLockAcquire(servers_lock, LW_EXCLUSIVE);
	if (servers->scan_all)
	{
		*dboid = InvalidOid;
		servers->scan_all = false;
		servers->scans = 0;
	}
	else if (servers->scans > 0)
		*dboid = servers->scan[--servers->scans];
	else
		some = false;
	LWLockRelease(servers_lock);
	return some;
}

static uint64
read_locked(const uint64 *counter)
{
	uint64		value;

	LWLockAcquire(servers_lock, LW_SHARED);
	value = *counter;
	LWLockRelease(servers_lock);
	return value;
}

uint64
servers_scans_requested(void)
{
	return read_locked(&servers->scans_requested);
}

/* Is a scan of this database, or of all, to be done? */
bool
servers_is_scan_queued(Oid dboid)
{
	bool		queued;

	LWLockAcquire(servers_lock, LW_SHARED);
	queued = servers->scan_all;
	for (int i = 0; i < servers->scans; i++)
		queued |= (servers->scan[i] == dboid || !OidIsValid(servers->scan[i]));
	LWLockRelease(servers_lock);
	return queued;
}

uint64
servers_scanned(void)
{
	return read_locked(&servers->scanned);
}

void
servers_set_scanned(uint64 requested)
{
	LWLockAcquire(servers_lock, LW_EXCLUSIVE);
	servers->scanned = requested;
	LWLockRelease(servers_lock);
}

uint64
servers_publications(void)
{
	return read_locked(&servers->publications);
}

void
servers_set_launcher(PGPROC *proc)
{
	LWLockAcquire(servers_lock, LW_EXCLUSIVE);
	servers->launcher = proc;
	LWLockRelease(servers_lock);
}

void
servers_wake_launcher(void)
{
	PGPROC	   *proc = servers->launcher;

	if (proc != NULL)
		SetLatch(&proc->procLatch);
}
