/*-------------------------------------------------------------------------
 *
 * servers.h
 *	  Cache servers in shared memory: configuration, state, counters.
 *
 * A place belongs to one foreign server of one database, or to one host of it:
 * hosts of a Memcached server have a place each, and with it a sender, a marker
 * and a position of their own, so that one that is away delays no other.  The
 * catalog is the source: a short-lived worker connects to the database and
 * writes what it finds (servers_publish), the launcher keeps a sender running
 * for each place, and sessions find the place for a key by the server's OID.
 *
 * Fields are written under `lock` (one LWLock for all places), except atomics
 * and what the comments say.  A sender reads its configuration once per
 * connection epoch; `config_version` tells it of a change.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_SERVERS_H
#define CACHEKIT_SERVERS_H

#include "access/xlogdefs.h"
#include "port/atomics.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "utils/timestamp.h"

#include "options.h"
#include "stats.h"

#define MAX_SERVERS			64	/* places, in all databases */
#define NO_SERVER			(-1)
#define SERVER_ERROR_SIZE	256
#define SERVER_LABEL_SIZE	(NAMEDATALEN + SERVER_HOST_SIZE + 16)

typedef enum ServerState
{
	SERVER_STOPPED,				/* no sender runs */
	SERVER_CONNECTING,			/* sockets are being opened, or backoff */
	SERVER_FLUSHING,			/* our namespace there is being emptied */
	SERVER_REPLAYING,			/* changes since its marker are being sent */
	SERVER_READY				/* read and filled */
} ServerState;

typedef enum BreakerState
{
	BREAKER_CLOSED,
	BREAKER_OPEN,				/* too many failures: nobody asks */
	BREAKER_HALF_OPEN			/* one epoch is being tried */
} BreakerState;

typedef enum ServerCounter
{
	SERVER_SENT,				/* keys sent for deletion */
	SERVER_ACKNOWLEDGED,		/* and acknowledged */
	SERVER_FILLS_SENT,
	SERVER_FILLS_DROPPED,		/* outdated, refused, or no room in the queue */
	SERVER_READS,
	SERVER_READ_HITS,
	SERVER_RECONNECTS,
	SERVER_RESUMES,
	SERVER_FLUSHES,
	SERVER_REPLACEMENTS,		/* connections that took the place of older or closed ones */
	SERVER_REFRESHES,			/* changed documents that took the place of old ones */
	SERVER_REFRESHES_FALLEN_BACK,	/* or could not, and were deleted */
	SERVER_COUNTERS
} ServerCounter;

typedef struct CacheServer
{
	/* who it is; under lock */
	Oid			dboid;			/* InvalidOid: the place is free */
	Oid			serverid;
	int			host;			/* index of the host of that server */
	NameData	name;
	bool		wanted;			/* false: its sender is to end, then the place is freed */
	int			rival;			/* place of a server that has the same keys or host; or NO_SERVER */
	uint32		config_version;
	ServerConfig config;

	/* its sender */
	pid_t		pid;			/* 0: none; under lock */
	PGPROC	   *proc;			/* whose latch wakes it; under lock */
	bool		ended_well;		/* the last one; written by it, read by the launcher after its end */
	pg_atomic_uint32 state;		/* ServerState */
	pg_atomic_uint32 idle;		/* it sleeps: a commit should wake it */
	pg_atomic_uint32 readable;	/* marker valid, floor and marker passed */
	pg_atomic_uint32 breaker;	/* BreakerState */
	pg_atomic_uint32 running_version;	/* config_version of the epoch */
	pg_atomic_uint32 connections;	/* open now */
	pg_atomic_uint32 refreshes_pending; /* changed documents that are being loaded or stored */
	pg_atomic_uint32 slotless;	/* no replication slot keeps its WAL */
	pg_atomic_uint32 wal_lost;	/* WAL that it needs could not be read: flush */
	pg_atomic_uint64 position;	/* every commit up to here is acknowledged */
	pg_atomic_uint64 settled;	/* and no flush of what was committed before goes on */
	pg_atomic_uint64 marked;	/* position in the marker that the cache has */
	pg_atomic_uint32 marker_wanted; /* somebody could not read for want of a newer marker */
	pg_atomic_uint64 ready_at;	/* what it has to reach before it is readable; 0: not known yet */
	pg_atomic_uint64 waiting_since; /* when the oldest unacknowledged change was read; 0: none */
	pg_atomic_uint64 counter[SERVER_COUNTERS];
	pg_atomic_uint64 latency[STAT_LATENCY_BUCKETS]; /* of reads */

	/* the last fault; under lock */
	char		last_error[SERVER_ERROR_SIZE];
	TimestampTz last_error_at;
} CacheServer;

extern Size servers_shmem_size(void);
extern void servers_shmem_init(LWLock *lock);

extern CacheServer *server_at(int place);

/* May sessions read it, and fill it? */
extern bool server_is_readable(CacheServer *server);

/* Should a sender run for it? */
extern bool server_should_run(const CacheServer *server);

/* This process is its sender; false: another one is. */
extern bool server_claim(int place);
extern void server_release(int place);

/* Its configuration at one moment, and the version of that. */
extern uint32 server_config(int place, ServerConfig *config);

/* The place for a key, "<entity>:<key>", on a server of this database; or NO_SERVER. */
extern int	server_find(Oid serverid, const char *named_key);

/* "host:port", "[address]:port", or the path of a socket. */
extern void server_address(const ServerConfig *config, char *address, Size size);

/* "name", or "name (host:port)" of one that has several hosts. */
extern void server_label(int place, char *label, Size size);

/* What a server has said may be anything: leave printable ASCII. */
extern void server_clean(char *text);

/* Has it acknowledged everything up to a location, with the options that it has now? */
extern bool server_has_delivered(CacheServer *server, XLogRecPtr end);

extern void server_count(CacheServer *server, ServerCounter which, uint64 n);
extern void servers_reset_stats(Oid dboid);
extern void server_fault(CacheServer *server, const char *message);
extern void server_wake(CacheServer *server);

/* ---------- commits: where every server has to come ---------- */

extern void servers_committed(XLogRecPtr end);
extern void servers_want(XLogRecPtr end);
extern XLogRecPtr servers_wanted(void);

/* Does a server of this database, or a host of one, have no place? */
extern bool servers_left_out(void);

/* Some servers of this database, or all. */
typedef struct ServerSet
{
	bool		all;
	int			n;
	Oid			serverid[MAX_SERVERS];
} ServerSet;

/* Those of a set that have not come as far as a location, as bits of their places. */
typedef struct ServersBehind
{
	uint64		pending;		/* these will */
	uint64		away;			/* the breaker is not closed */
	uint64		stopped;		/* no sender runs */
	uint64		refused;		/* the namespace is another's */
	bool		left_out;		/* there was no place for one of them, or a host of it */
	NameData	name[MAX_SERVERS];	/* of those with a bit */
} ServersBehind;

extern bool server_set_has(const ServerSet *set, Oid serverid);
extern bool server_behind(const ServersBehind *behind, int place);

/* Where do they stand?  Called after commit: cannot fail. */
extern void servers_look(const ServerSet *set, XLogRecPtr end, ServersBehind *behind);

/* ---------- the catalog's side ---------- */

/* A server, or a host of one: config says which. */
typedef struct ServerDefinition
{
	Oid			serverid;
	NameData	name;
	ServerConfig config;
} ServerDefinition;

extern int	servers_publish(Oid dboid, const ServerDefinition *definitions, int n);
extern void server_free(int place);
extern void servers_request_scan(Oid dboid);
extern bool servers_take_scan(Oid *dboid);

/*
 * Scans are numbered as they are requested; all up to servers_scanned() are
 * done, or are queued again because they failed.  A scanner that has published its database says so by
 * servers_publications(), which grows.
 */
extern uint64 servers_scans_requested(void);
extern uint64 servers_scanned(void);
extern bool servers_is_scan_queued(Oid dboid);
extern void servers_set_scanned(uint64 requested);
extern uint64 servers_publications(void);
extern void servers_set_launcher(PGPROC *proc);
extern void servers_wake_launcher(void);

#endif							/* CACHEKIT_SERVERS_H */
