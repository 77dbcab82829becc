/*-------------------------------------------------------------------------
 *
 * server_places.c
 *	  Places of cache servers: what the catalogs of all databases say.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "servers_shared.h"

/* ---------- places ---------- */

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

/* The place that a server has; NULL: none. */
static CacheServer *
find_place(Oid dboid, const ServerDefinition *definition)
{
	for (int i = 0; i < MAX_SERVERS; i++)
	{
		CacheServer *server = &servers->server[i];

		if (server->dboid == dboid && is_place_of(server, definition))
			return server;
	}
	return NULL;
}

static CacheServer *
new_place(void)
{
	for (int i = 0; i < MAX_SERVERS; i++)
	{
		CacheServer *server = &servers->server[i];

		if (!OidIsValid(server->dboid))
		{
			server_init(server);
			return server;
		}
	}
	return NULL;
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

bool
servers_is_left_out(Oid serverid)
{
	bool		found = servers->left_out_more;

	for (int i = 0; i < servers->left_outs && !found; i++)
		found = servers->left_out_db[i] == MyDatabaseId &&
			(!OidIsValid(serverid) || servers->left_out[i] == serverid);
	return found;
}

bool
servers_left_out(void)
{
	bool		found;

	LWLockAcquire(servers_lock, LW_SHARED);
	found = servers_is_left_out(InvalidOid);
	LWLockRelease(servers_lock);
	return found;
}

/* Nothing is left out of this database, for all that is known. */
static void
forget_left_out(Oid dboid)
{
	int			n = 0;

	for (int i = 0; i < servers->left_outs; i++)
	{
		if (servers->left_out_db[i] == dboid)
			continue;
		servers->left_out_db[n] = servers->left_out_db[i];
		servers->left_out[n++] = servers->left_out[i];
	}
	servers->left_outs = n;
}

static void
note_left_out(Oid dboid, Oid serverid)
{
	if (servers->left_outs < MAX_LEFT_OUT)
	{
		servers->left_out_db[servers->left_outs] = dboid;
		servers->left_out[servers->left_outs++] = serverid;
	}
	else
		servers->left_out_more = true;
}

/* A place is as the catalog says. */
static void
define_place(CacheServer *server, Oid dboid, const ServerDefinition *definition)
{
	bool		is_new = !server->wanted;

	server->name = definition->name;
	if (is_new || memcmp(&server->config, &definition->config, sizeof(ServerConfig)) != 0)
	{
		server->config = definition->config;
		server->config_version++;
		is_new = true;
	}
	server->serverid = definition->serverid;
	server->host = definition->config.host_index;
	server->dboid = dboid;
	server->wanted = true;
	if (is_new)
		server->rival = find_rival(server);
}

/*
 * Make the places of a database agree with what its catalog says.  Whoever has
 * a place keeps it.  Returns how many there was no place for.
 */
int
servers_publish(Oid dboid, const ServerDefinition *definitions, int n)
{
	int			left_out = 0;

	LWLockAcquire(servers_lock, LW_EXCLUSIVE);
	forget_left_out(dboid);
	for (int i = 0; i < MAX_SERVERS; i++)
	{
		CacheServer *server = &servers->server[i];

		if (server->dboid == dboid && !is_defined(server, definitions, n))
			server->wanted = false;
	}
	for (int i = 0; i < n; i++)
	{
		CacheServer *server = find_place(dboid, &definitions[i]);

		if (server == NULL)
			server = new_place();
		if (server == NULL)
		{
			note_left_out(dboid, definitions[i].serverid);
			left_out++;
		}
		else
			define_place(server, dboid, &definitions[i]);
	}
	settle_rivals();
	servers->publications++;
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
		server_init(&servers->server[place]);
	left_out = servers->left_outs > 0 || servers->left_out_more;
	LWLockRelease(servers_lock);
	if (left_out)
		servers_request_scan(InvalidOid);
}

/* ---------- scans ---------- */

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
		servers->left_out_more = false; /* it will be found out again */
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
