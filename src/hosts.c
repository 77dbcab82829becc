/*-------------------------------------------------------------------------
 *
 * hosts.c
 *	  The hosts of a Memcached server: their list, and which of them has a key.
 *
 * libmemcached is used for this computation only, and never connects.  It must
 * not talk to servers for us: as Debian builds it, it has assertions that an
 * unexpected reply violates, which would end the worker and with it restart the
 * cluster; it copies a key from a reply without looking at its length; and it
 * connects again by itself in the middle of what was to be one batch.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <libmemcached/memcached.h>

#include "hosts.h"

#define RINGS	32				/* that a process keeps: servers have two hosts at least */

/* ---------- the list ---------- */

/*
 * Take the next host off the list.  False if what is there is none, or if
 * nothing follows a comma.
 */
static bool
take_host(const char **list, char *host, int *port)
{
	const char *at = *list + strspn(*list, " ");
	bool		bracketed = (*at == '[');
	const char *begin = at + bracketed;
	Size		len = strcspn(begin, bracketed ? "]," : *at == '/' ? ", " : ":, ");

	at = begin + len;
	if (len == 0 || len >= SERVER_HOST_SIZE || (*begin == '/' && len > MAX_SOCKET_PATH) ||
		(bracketed && *at++ != ']'))
		return false;
	memcpy(host, begin, len);
	host[len] = '\0';
	*port = host[0] == '/' ? 0 : MEMCACHED_PORT;
	if (*at == ':')
	{
		char	   *end;
		long		number = at[1] >= '0' && at[1] <= '9' ? strtol(at + 1, &end, 10) : 0;

		if (number < 1 || number > 65535)
			return false;
		*port = (int) number;
		at = end;
	}
	at += strspn(at, " ");
	*list = at + (*at == ',');
	return *at == '\0' || (*at == ',' && **list != '\0');
}

/* Is the host among the first n of the list? */
static bool
has_host(const char *list, int n, const char *host, int port)
{
	char		other[SERVER_HOST_SIZE];
	int			other_port;

	for (int i = 0; i < n && take_host(&list, other, &other_port); i++)
	{
		if (strcmp(host, other) == 0 && port == other_port)
			return true;
	}
	return false;
}

int
hosts_count(const char *list)
{
	const char *rest = list;
	char		host[SERVER_HOST_SIZE];
	int			port;
	int			n = 0;

	do
	{
		if (n == MAX_HOSTS || !take_host(&rest, host, &port) || has_host(list, n, host, port))
			return 0;
		n++;
	} while (*rest != '\0');
	return n;
}

void
hosts_use(ServerConfig *config, int index)
{
	const char *rest = config->hosts;

	config->host_index = index;
	for (int i = 0; i <= index && *rest != '\0'; i++)
	{
		if (!take_host(&rest, config->host, &config->port))
			elog(ERROR, "there is no host number %d in \"%s\"", index, config->hosts);
	}
}

/* ---------- the ring ---------- */

typedef struct Ring
{
	char		hosts[SERVER_HOSTS_SIZE];
	int			distribution;
	memcached_st *memcached;	/* NULL: none yet */
} Ring;

static memcached_st *
make_ring(const ServerConfig *config)
{
	memcached_st *memcached = memcached_create(NULL);
	memcached_behavior_t behavior = config->distribution == DISTRIBUTION_KETAMA_WEIGHTED ?
		MEMCACHED_BEHAVIOR_KETAMA_WEIGHTED : MEMCACHED_BEHAVIOR_KETAMA;
	bool		good = memcached != NULL &&
		memcached_behavior_set(memcached, behavior, 1) == MEMCACHED_SUCCESS;

	for (int i = 0; i < config->nhosts && good; i++)
	{
		ServerConfig host = *config;

		hosts_use(&host, i);
		good = (host.host[0] == '/' ?
				memcached_server_add_unix_socket(memcached, host.host) :
				memcached_server_add(memcached, host.host, host.port)) == MEMCACHED_SUCCESS;
	}
	if (good)
		return memcached;
	if (memcached)
		memcached_free(memcached);
	return NULL;
}

/* The ring of these hosts; those of the last few servers are kept. */
static memcached_st *
ring_of(const ServerConfig *config)
{
	static Ring rings[RINGS];
	static int	next = 0;
	Ring	   *ring;

	for (int i = 0; i < RINGS; i++)
	{
		if (rings[i].memcached && rings[i].distribution == config->distribution &&
			strcmp(rings[i].hosts, config->hosts) == 0)
			return rings[i].memcached;
	}
	ring = &rings[next++ % RINGS];
	if (ring->memcached)
		memcached_free(ring->memcached);
	strcpy(ring->hosts, config->hosts);
	ring->distribution = config->distribution;
	ring->memcached = make_ring(config);
	return ring->memcached;
}

int
hosts_of_key(const ServerConfig *config, const char *key, Size len)
{
	memcached_st *ring;
	int			host = 0;

	if (config->nhosts > 1)
	{
		ring = ring_of(config);
		host = ring ? (int) memcached_generate_hash(ring, key, len) : -1;
	}
	return host < config->nhosts ? host : -1;
}
