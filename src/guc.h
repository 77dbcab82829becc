/*-------------------------------------------------------------------------
 *
 * guc.h
 *	  The settings, all named cachekit.*.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_GUC_H
#define CACHEKIT_GUC_H

extern bool ck_enabled;			/* off: every fetch reads its table */
extern int	ck_local_memory;	/* kB of documents in the local tier */
extern int	ck_max_entities;	/* slots in shared memory */
extern int	ck_fence_stripes;	/* a power of two */
extern int	ck_default_ttl;		/* s; -1: none */
extern int	ck_ttl_jitter;		/* percent of the TTL */
extern int	ck_fetch_timeout;	/* ms that one call may wait for others */
extern int	ck_max_changed_keys;
extern int	ck_dependency_timeout;	/* of an entity, in one transaction */
extern int	ck_max_value_size;	/* bytes of a cached document */
extern int	ck_fill_queue_memory;	/* kB of documents on their way */
extern int	ck_wal_keep;		/* MB of WAL kept behind what is acknowledged */
extern int	ck_max_wal_retention;	/* MB of WAL that a server may hold back */
extern int	ck_refresh_timeout; /* ms that a changed document may take to be loaded again */
extern int	ck_shutdown_timeout;	/* ms that senders may take to end */
extern bool ck_synchronous_invalidation;	/* COMMIT waits for cache servers, */
extern int	ck_synchronous_timeout; /* ms at most */

extern void guc_define(void);

#endif							/* CACHEKIT_GUC_H */
