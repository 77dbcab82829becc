/*-------------------------------------------------------------------------
 *
 * slots.h
 *	  Shared memory of each entity: its three fence stripes and its counters.
 *
 * A slot belongs to one relation of one database for as long as it is in
 * use; `cachekit.max_entities` slots exist.  An entity that gets none reads
 * its table.  Backends keep slot numbers, and nothing tells them when a slot
 * passes to another entity: they must look again, in this order:
 *
 *	  - a reader takes its token first and checks slot_is() after: a slot that
 *		is freed later counts a generation, which the token does not survive;
 *	  - a writer raises with slot_raise(), which checks under the lock; a slot
 *		with something in flight is never freed.
 *
 * Lock: one LWLock for the table of slots; shared to look up and raise,
 * exclusive to assign and free.  No other lock is taken while it is held.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_SLOTS_H
#define CACHEKIT_SLOTS_H

#include "storage/lwlock.h"

#include "fence.h"
#include "stats.h"

typedef struct EntitySlot
{
	Oid			dboid;			/* owner of the slot; InvalidOid: free */
	Oid			relid;
	FenceStripe entity;			/* changes of the whole entity */
	FenceStripe settings;		/* changes of settings or definition */
	FenceStripe links;			/* changes whose keys other tables tell */
	EntityStats stats;			/* counters, see stats.h */
} EntitySlot;

#define NO_SLOT		(-1)

/* Which stripes slot_raise() raises. */
#define SLOT_ENTITY		(1 << FENCE_ENTITY)
#define SLOT_SETTINGS	(1 << FENCE_SETTINGS)
#define SLOT_LINKS		(1 << FENCE_LINKS)

extern Size slots_shmem_size(void);
extern void slots_shmem_init(LWLock *lock);

extern int	slot_find(Oid dboid, Oid relid);
extern int	slot_obtain(Oid dboid, Oid relid, bool *assigned);
extern bool slot_is(int slot, Oid dboid, Oid relid);
/* The five stripes that count for a key of the entity in this slot. */
extern void slot_scope(int slot, Oid dboid, uint64 hash, FenceScope *scope);
extern EntitySlot *slot_get(int slot);
extern EntitySlot *slot_raise(Oid dboid, Oid relid, int which);
extern void slot_free(Oid dboid, Oid relid);
extern int	slots_in_use(void);
extern void slots_reset_stats(Oid dboid);
extern int	slots_list(Oid dboid, Oid **relids);
extern void slots_free_missing_databases(void);
extern void slots_free_database(Oid dboid);

#endif							/* CACHEKIT_SLOTS_H */
