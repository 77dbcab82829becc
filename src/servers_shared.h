/*-------------------------------------------------------------------------
 *
 * servers_shared.h
 *	  The shared memory of cache servers: for servers.c and server_places.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_SERVERS_SHARED_H
#define CACHEKIT_SERVERS_SHARED_H

#include "servers.h"

#define SCAN_QUEUE	64			/* databases that wait to be looked at */
#define MAX_LEFT_OUT 256

typedef struct ServersShared
{
	PGPROC	   *launcher;		/* under lock; NULL: none runs */
	Oid			scan[SCAN_QUEUE];	/* databases whose servers may have changed */
	int			scans;
	bool		scan_all;		/* the queue overflowed, or the server has started */
	uint64		scans_requested;	/* counts requests */
	uint64		scanned;		/* all requests up to this one are done */
	uint64		publications;	/* counts databases that have been published */
	int			left_outs;		/* servers, or hosts, for which there was no place */
	Oid			left_out_db[MAX_LEFT_OUT];
	Oid			left_out[MAX_LEFT_OUT];
	bool		left_out_more;	/* there were more than that, perhaps of any database */
	pg_atomic_uint64 wanted;	/* end of the last commit with a change record */
	CacheServer server[MAX_SERVERS];
} ServersShared;

extern ServersShared *servers;
extern LWLock *servers_lock;

extern void server_init(CacheServer *server);

/* Of this database; a server, or any (InvalidOid).  Called with the lock held. */
extern bool servers_is_left_out(Oid serverid);

#endif							/* CACHEKIT_SERVERS_SHARED_H */
