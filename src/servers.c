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
#include "servers_shared.h"

ServersShared *servers = NULL;
LWLock	   *servers_lock = NULL;

Size
servers_shmem_size(void)
{
	return sizeof(ServersShared);
}

void
server_init(CacheServer *server)
{
	memset(server, 0, offsetof(CacheServer, state));
	server->rival = NO_SERVER;
	pg_atomic_init_u32(&server->state, SERVER_STOPPED);
	pg_atomic_init_u32(&server->idle, 0);
	pg_atomic_init_u32(&server->readable, 0);
	pg_atomic_init_u32(&server->breaker, BREAKER_CLOSED);
	pg_atomic_init_u32(&server->running_version, PG_UINT32_MAX);
	pg_atomic_init_u32(&server->connections, 0);
	pg_atomic_init_u32(&server->refreshes_pending, 0);
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
	servers->left_outs = 0;
	servers->left_out_more = false;
	pg_atomic_init_u64(&servers->wanted, 0);
	for (int i = 0; i < MAX_SERVERS; i++)
		server_init(&servers->server[i]);
}

CacheServer *
server_at(int place)
{
	return &servers->server[place];
}

/* The place of a host of a server of this database. */
static int
find_host(Oid serverid, int host)
{
	int			place = NO_SERVER;

	LWLockAcquire(servers_lock, LW_SHARED);
	for (int i = 0; i < MAX_SERVERS && place == NO_SERVER; i++)
	{
		CacheServer *server = &servers->server[i];

		if (server->dboid == MyDatabaseId && server->serverid == serverid &&
			server->wanted && server->host == host)
			place = i;
	}
	LWLockRelease(servers_lock);
	return place;
}

int
server_find(Oid serverid, const char *named_key)
{
	int			place = NO_SERVER;
	ServerConfig config;
	char		key[KEY_MAX_NAMESPACE + 1 + KEY_MAX_NAMED + 1];
	int			len;

	config.nhosts = 0;
	LWLockAcquire(servers_lock, LW_SHARED);
	for (int i = 0; i < MAX_SERVERS && place == NO_SERVER; i++)
	{
		CacheServer *server = &servers->server[i];

		if (server->dboid != MyDatabaseId || server->serverid != serverid || !server->wanted)
			continue;
		place = i;
		if (server->config.nhosts > 1)
			config = server->config;
	}
	LWLockRelease(servers_lock);
	if (config.nhosts <= 1)
		return place;
	/* outside of the lock, because it may take a while the first time */
	len = snprintf(key, sizeof(key), "%s:%s", config.namespace, named_key);
	return find_host(serverid, hosts_of_key(&config, key, Min(len, sizeof(key) - 1)));
}

void
server_address(const ServerConfig *config, char *address, Size size)
{
	if (config->host[0] == '/')
		strlcpy(address, config->host, size);
	else
		snprintf(address, size, strchr(config->host, ':') ? "[%s]:%d" : "%s:%d", config->host,
				 config->port);
}

void
server_label(int place, char *label, Size size)
{
	CacheServer *server = server_at(place);
	char		address[SERVER_HOST_SIZE + 16];

	LWLockAcquire(servers_lock, LW_SHARED);
	server_address(&server->config, address, sizeof(address));
	if (server->config.nhosts > 1)
		snprintf(label, size, "%s (%s)", NameStr(server->name), address);
	else
		strlcpy(label, NameStr(server->name), size);
	LWLockRelease(servers_lock);
}

void
server_clean(char *text)
{
	for (; *text; text++)
	{
		if (*text < ' ' || *text > '~')
			*text = '?';
	}
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
	server_clean(server->last_error);
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

void
servers_look(const ServerSet *set, XLogRecPtr end, ServersBehind *behind)
{
	behind->pending = behind->away = behind->stopped = behind->refused = 0;
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
	behind->left_out = set->all && servers_is_left_out(InvalidOid);
	for (int i = 0; i < set->n; i++)
		behind->left_out |= servers_is_left_out(set->serverid[i]);
	LWLockRelease(servers_lock);
}
