/*-------------------------------------------------------------------------
 *
 * local.h
 *	  The local tier: documents in the server's own shared memory.
 *
 * A fixed area, divided into partitions by the hash of the key.  Each has its
 * LWLock, its hash buckets, its blocks of memory and its SIEVE queue, so one
 * lock covers whatever a call touches.  Looking up takes the lock in share
 * mode; storing and removing take it exclusively.
 *
 * The rules of the fence are checked under the partition's lock:
 *	  - local_store() stores only while the fence's words equal the token,
 *	  - local_lookup() returns only while nothing is in flight, and only what
 *		was stored under the same entity, settings and database words,
 *	  - local_remove() is what a commit calls before it lowers its stripes.
 *
 * local_remove() cannot fail and allocates nothing: it runs after commit.
 * No lock but the partition's is held by any function here, and none while
 * it waits for anything else.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_LOCAL_H
#define CACHEKIT_LOCAL_H

#include "datatype/timestamp.h"
#include "storage/lwlock.h"
#include "utils/jsonb.h"

#include "fence.h"

/* What a document is stored under; built by entity_tier_key(). */
typedef struct TierKey
{
	Oid			dboid;
	Oid			relid;
	int			slot;			/* the entity's slot in shared memory */
	uint64		hash;			/* fence_hash() of the text */
	const char *text;			/* the key part of the cache key */
	int			len;
	FenceScope	scope;			/* the stripes that guard it */
} TierKey;

typedef enum LocalResult
{
	LOCAL_MISS,					/* nothing there, or expired, or flushed */
	LOCAL_HIT,					/* a document */
	LOCAL_NEGATIVE,				/* known: there is no such row */
	LOCAL_FENCED				/* a change of it is being committed */
} LocalResult;

typedef struct LocalTimes		/* of a hit */
{
	TimestampTz expires_at;		/* DT_NOEND: never */
	int64		load_us;		/* how long its load took; 0: not known */
} LocalTimes;

typedef struct LocalInfo		/* for cachekit.inspect() */
{
	bool		present;
	int			bytes;
	TimestampTz expires_at;		/* DT_NOEND: never */
} LocalInfo;

extern int	local_partition_count(void);
extern Size local_shmem_size(void);
extern void local_shmem_init(LWLockPadded *locks);

extern LocalResult local_lookup(const TierKey *key, TimestampTz now, Jsonb **value,
								LocalTimes *times);
extern bool local_store(const TierKey *key, const FenceToken *token, const Jsonb *value,
						TimestampTz expires_at, int64 load_us);
extern void local_remove(Oid dboid, Oid relid, uint64 hash, const char *text, int len);
extern void local_inspect(const TierKey *key, TimestampTz now, LocalInfo *info);

#endif							/* CACHEKIT_LOCAL_H */
