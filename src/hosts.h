/*-------------------------------------------------------------------------
 *
 * hosts.h
 *	  The hosts of a Memcached server: their list, and which of them has a key.
 *
 * Keys are distributed as libmemcached does it, by libmemcached itself, so
 * other clients of it find them: pylibmc with {'ketama': True}, PHP with
 * OPT_LIBKETAMA_COMPATIBLE for the weighted form, pgmemcache.  Hosts must be
 * written the same way there, because it is their text that is hashed.  A key
 * never moves to another host because its own is away: a host that comes back
 * would have what was deleted elsewhere.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_HOSTS_H
#define CACHEKIT_HOSTS_H

#include "options.h"

#define MAX_HOSTS	16

/*
 * How many hosts a list has: "host:port,host,[address]:port,/path/of/socket".
 * 0 if it is not well-formed, names a host twice, or more than MAX_HOSTS.
 */
extern int	hosts_count(const char *list);

/* Fill in host and port of the host with this index. */
extern void hosts_use(ServerConfig *config, int index);

/* The index of the host that has a cache key; -1 if memory is out. */
extern int	hosts_of_key(const ServerConfig *config, const char *key, Size len);

#endif							/* CACHEKIT_HOSTS_H */
