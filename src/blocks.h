/*-------------------------------------------------------------------------
 *
 * blocks.h
 *	  Shared memory for documents on their way to and from servers.
 *
 * A fixed pool of equal blocks; a document is a chain of them, named by the
 * index of its first.  Whoever holds the index owns the chain.  Taking may be
 * refused when the pool is exhausted, and then the document is not cached or
 * not read: nobody waits for memory.  One LWLock, held for moments.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_BLOCKS_H
#define CACHEKIT_BLOCKS_H

#include "storage/lwlock.h"

#define NO_CHAIN	PG_UINT32_MAX

extern Size blocks_shmem_size(void);
extern void blocks_shmem_init(LWLock *lock);

/* A chain with a copy of head and body, or NO_CHAIN. */
extern uint32 blocks_put(const void *head, Size head_len, const void *body, Size body_len);

/* Is less than half of them free? */
extern bool blocks_are_scarce(void);

/* The number of bytes in a chain. */
extern Size blocks_length(uint32 chain);

/* Copy bytes out, from an offset. */
extern void blocks_get(uint32 chain, Size offset, void *to, Size len);

extern void blocks_free(uint32 chain);

/* How many are taken: for tests. */
extern int	blocks_in_use(void);

#endif							/* CACHEKIT_BLOCKS_H */
