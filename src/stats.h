/*-------------------------------------------------------------------------
 *
 * stats.h
 *	  Counters of each entity, so that a user sees why a call did what it did.
 *
 * Counters live in the entity's slot in shared memory and are monotonic until
 * cachekit.stat_reset().  They are striped by backend, because sessions that
 * hit the same entity would otherwise fight for one cache line; the views add
 * the stripes up.  Counting takes no lock and cannot fail.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_STATS_H
#define CACHEKIT_STATS_H

#include "port/atomics.h"
#include "portability/instr_time.h"

/* In the order of the columns of cachekit.stat_entities. */
typedef enum StatCounter
{
	STAT_LOCAL_HITS,			/* answered by the local tier */
	STAT_SERVER_HITS,			/* answered by a cache server */
	STAT_NEGATIVE_HITS,			/* answered "no such row" by the local tier */
	STAT_MISSES,				/* looked for and not found in any tier */
	STAT_LOADS,					/* reads of the table, for whatever reason */
	STAT_WAITS,					/* waits for another session's load */
	STAT_BYPASS_OWN_CHANGE,		/* this transaction changed or invalidated it */
	STAT_BYPASS_TRANSACTION,	/* this transaction has written something */
	STAT_BYPASS_ISOLATION,		/* REPEATABLE READ or SERIALIZABLE */
	STAT_BYPASS_FENCED,			/* a change of it is being committed */
	STAT_BYPASS_RECOVERY,		/* on a standby, or in a parallel worker */
	STAT_BYPASS_DISABLED,		/* cachekit.enabled = off, or not preloaded */
	STAT_BYPASS_UNSOUND,		/* changes of it might go unseen */
	STAT_FILLS,					/* documents stored in a tier */
	STAT_FILLS_REFUSED,			/* not stored: changed meanwhile, too large, no room */
	STAT_INVALIDATIONS,			/* keys invalidated by commits */
	STAT_FLUSHES,				/* commits that invalidated the whole entity */
	STAT_ERRORS,				/* loads that raised an error */
	STAT_LINKS_UNRESOLVED,		/* commits that could not find the keys they concern */
	STAT_EARLY_REFRESHES,		/* documents loaded anew before they expired */
	STAT_COUNTERS
} StatCounter;

/*
 * Latency of fetch: bucket i counts the calls that took less than 2^i
 * microseconds and not less than 2^(i-1); the last one has no upper bound.
 */
#define STAT_LATENCY_BUCKETS	24
#define STAT_STRIPES			4

typedef struct StatStripe
{
	pg_atomic_uint64 counter[STAT_COUNTERS];
	pg_atomic_uint64 latency[STAT_LATENCY_BUCKETS];
	char		pad[PG_CACHE_LINE_SIZE];	/* keep the stripes' lines apart */
} StatStripe;

typedef struct EntityStats
{
	StatStripe	stripe[STAT_STRIPES];
} EntityStats;

extern void stats_init(EntityStats *stats);
extern void stats_reset(EntityStats *stats);
extern void stats_count(EntityStats *stats, StatCounter which, uint64 n);
extern void stats_latency_bucket(pg_atomic_uint64 *buckets, instr_time start, uint64 n);
extern void stats_latency(EntityStats *stats, instr_time start);
/* n fetches that took the time since start together. */
extern void stats_latency_of_many(EntityStats *stats, instr_time start, uint64 n);
extern int64 stats_elapsed(instr_time start);

#endif							/* CACHEKIT_STATS_H */
