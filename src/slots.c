/*-------------------------------------------------------------------------
 *
 * slots.c
 *	  Shared memory of each entity: its two fence stripes and its counters.
 *
 * See slots.h for who may rely on what.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "storage/shmem.h"
#include "utils/hsearch.h"
#include "utils/syscache.h"

#include "guc.h"
#include "slots.h"

typedef struct SlotKey
{
	Oid			dboid;
	Oid			relid;
} SlotKey;

typedef struct SlotEntry
{
	SlotKey		key;			/* hash key (must be first) */
	int			slot;			/* index into the array of slots */
} SlotEntry;

typedef struct SlotsShared
{
	int			in_use;			/* slots assigned; protected by the lock */
	int			next_fresh;		/* slots from here on were never assigned */
	EntitySlot	slot[FLEXIBLE_ARRAY_MEMBER];
} SlotsShared;

static SlotsShared *slots = NULL;
static HTAB *slots_hash = NULL; /* SlotKey to SlotEntry */
static LWLock *slots_lock = NULL;

Size
slots_shmem_size(void)
{
	Size		size = offsetof(SlotsShared, slot);

	size = add_size(size, mul_size(sizeof(EntitySlot), ck_max_entities));
	return add_size(size, hash_estimate_size(ck_max_entities, sizeof(SlotEntry)));
}

void
slots_shmem_init(LWLock *lock)
{
	HASHCTL		ctl;
	bool		found;

	slots_lock = lock;
	slots = ShmemInitStruct("cachekit entities",
							add_size(offsetof(SlotsShared, slot),
									 mul_size(sizeof(EntitySlot), ck_max_entities)),
							&found);
	if (!found)
	{
		slots->in_use = 0;
		slots->next_fresh = 0;
		for (int i = 0; i < ck_max_entities; i++)
		{
			EntitySlot *slot = &slots->slot[i];

			slot->dboid = slot->relid = InvalidOid;
			fence_init(&slot->entity);
			fence_init(&slot->settings);
			fence_init(&slot->links);
			stats_init(&slot->stats);
		}
	}
	memset(&ctl, 0, sizeof(ctl));
	ctl.keysize = sizeof(SlotKey);
	ctl.entrysize = sizeof(SlotEntry);
	slots_hash = ShmemInitHash("cachekit entity hash", ck_max_entities, ck_max_entities,
							   &ctl, HASH_ELEM | HASH_BLOBS);
}

static int
find_locked(Oid dboid, Oid relid)
{
	SlotKey		key = {dboid, relid};
	SlotEntry  *entry = hash_search(slots_hash, &key, HASH_FIND, NULL);

	return entry ? entry->slot : NO_SLOT;
}

/* The slot of an entity, or NO_SLOT. */
int
slot_find(Oid dboid, Oid relid)
{
	int			slot;

	LWLockAcquire(slots_lock, LW_SHARED);
	slot = find_locked(dboid, relid);
	LWLockRelease(slots_lock);
	return slot;
}

/* An unassigned slot, or NO_SLOT; the caller holds the lock exclusively. */
static int
unassigned_slot(void)
{
	if (slots->in_use >= ck_max_entities)
		return NO_SLOT;
	if (slots->next_fresh < ck_max_entities)
		return slots->next_fresh++;
	for (int i = 0; i < ck_max_entities; i++)
	{
		if (!OidIsValid(slots->slot[i].dboid))
			return i;
	}
	return NO_SLOT;
}

/*
 * The slot of an entity, NO_SLOT if all are taken.  It is assigned now if the
 * entity had none yet, and *assigned says so.
 */
int
slot_obtain(Oid dboid, Oid relid, bool *assigned)
{
	SlotKey		key = {dboid, relid};
	int			slot = slot_find(dboid, relid);

	*assigned = false;
	if (slot != NO_SLOT)
		return slot;
	LWLockAcquire(slots_lock, LW_EXCLUSIVE);
	slot = find_locked(dboid, relid);
	if (slot == NO_SLOT && (slot = unassigned_slot()) != NO_SLOT)
	{
		SlotEntry  *entry = hash_search(slots_hash, &key, HASH_ENTER_NULL, NULL);

		if (entry == NULL)
			slot = NO_SLOT;
		else
		{
			entry->slot = slot;
			stats_reset(&slots->slot[slot].stats);
			slots->slot[slot].relid = relid;
			slots->slot[slot].dboid = dboid;
			slots->in_use++;
			*assigned = true;
		}
	}
	LWLockRelease(slots_lock);
	return slot;
}

/*
 * Does the slot still belong to this entity?  Without the lock: a caller that
 * read a token before it called, and gets true, has a token of this entity.
 */
bool
slot_is(int slot, Oid dboid, Oid relid)
{
	EntitySlot *s = &slots->slot[slot];

	pg_read_barrier();
	return s->dboid == dboid && s->relid == relid;
}

void
slot_scope(int slot, Oid dboid, uint64 hash, FenceScope *scope)
{
	scope->part[FENCE_KEY] = fence_key_stripe(hash);
	scope->part[FENCE_ENTITY] = &slot_get(slot)->entity;
	scope->part[FENCE_SETTINGS] = &slot_get(slot)->settings;
	scope->part[FENCE_DATABASE] = fence_database_stripe(dboid);
	scope->part[FENCE_LINKS] = &slot_get(slot)->links;
}

EntitySlot *
slot_get(int slot)
{
	return &slots->slot[slot];
}

/*
 * Raise some of an entity's stripes; the slot stays assigned until they are lowered.
 * NULL when no slot is to be had: the caller raises the database's instead,
 * because somebody else may find a free slot in the meantime.
 */
EntitySlot *
slot_raise(Oid dboid, Oid relid, int which)
{
	EntitySlot *result = NULL;

	for (int tries = 0; tries < 2 && result == NULL; tries++)
	{
		int			slot;
		bool		assigned;

		if (tries > 0 && slot_obtain(dboid, relid, &assigned) == NO_SLOT)
			return NULL;
		LWLockAcquire(slots_lock, LW_SHARED);
		slot = find_locked(dboid, relid);
		if (slot != NO_SLOT)
		{
			result = &slots->slot[slot];
			if (which & SLOT_ENTITY)
				fence_raise(&result->entity);
			if (which & SLOT_SETTINGS)
				fence_raise(&result->settings);
			if (which & SLOT_LINKS)
				fence_raise(&result->links);
		}
		LWLockRelease(slots_lock);
	}
	return result;
}

/* The lock is held exclusively, and nothing is in flight. */
static void
free_locked(int slot)
{
	EntitySlot *s = &slots->slot[slot];
	SlotKey		key = {s->dboid, s->relid};

	/* no token and no cached document may outlive the assignment */
	(void) pg_atomic_fetch_add_u64(&s->entity.word, FENCE_GENERATION_ONE);
	(void) pg_atomic_fetch_add_u64(&s->settings.word, FENCE_GENERATION_ONE);
	(void) pg_atomic_fetch_add_u64(&s->links.word, FENCE_GENERATION_ONE);
	s->dboid = s->relid = InvalidOid;
	(void) hash_search(slots_hash, &key, HASH_REMOVE, NULL);
	slots->in_use--;
}

static bool
slot_busy(const EntitySlot *s)
{
	return ((pg_atomic_read_u64(unconstify(pg_atomic_uint64 *, &s->entity.word)) |
			 pg_atomic_read_u64(unconstify(pg_atomic_uint64 *, &s->settings.word)) |
			 pg_atomic_read_u64(unconstify(pg_atomic_uint64 *, &s->links.word)))
			& FENCE_IN_FLIGHT_MASK) != 0;
}

/*
 * Give up an entity's slot, unless another transaction has it raised.  May be
 * called after commit: hash_search() on a shared table cannot fail to remove.
 */
void
slot_free(Oid dboid, Oid relid)
{
	int			slot;

	LWLockAcquire(slots_lock, LW_EXCLUSIVE);
	slot = find_locked(dboid, relid);
	if (slot != NO_SLOT && !slot_busy(&slots->slot[slot]))
		free_locked(slot);
	LWLockRelease(slots_lock);
}

int
slots_in_use(void)
{
	int			n;

	LWLockAcquire(slots_lock, LW_SHARED);
	n = slots->in_use;
	LWLockRelease(slots_lock);
	return n;
}

/* The relations of a database that have slots, in a palloc'd array. */
int
slots_list(Oid dboid, Oid **relids)
{
	int			n = 0;

	*relids = palloc(sizeof(Oid) * ck_max_entities);
	LWLockAcquire(slots_lock, LW_SHARED);
	for (int i = 0; i < slots->next_fresh; i++)
	{
		if (slots->slot[i].dboid == dboid)
			(*relids)[n++] = slots->slot[i].relid;
	}
	LWLockRelease(slots_lock);
	return n;
}

/* Clear the counters of all entities of a database. */
void
slots_reset_stats(Oid dboid)
{
	LWLockAcquire(slots_lock, LW_SHARED);
	for (int i = 0; i < slots->next_fresh; i++)
	{
		if (slots->slot[i].dboid == dboid)
			stats_reset(&slots->slot[i].stats);
	}
	LWLockRelease(slots_lock);
}

/* Free the slots of databases that have been dropped; needs a transaction. */
void
slots_free_missing_databases(void)
{
	Oid		   *dboids = palloc(sizeof(Oid) * ck_max_entities);
	int			n = 0;

	LWLockAcquire(slots_lock, LW_SHARED);
	for (int i = 0; i < slots->next_fresh; i++)
		dboids[n++] = slots->slot[i].dboid;
	LWLockRelease(slots_lock);

	for (int i = 0; i < n; i++)
	{
		if (!OidIsValid(dboids[i]) || dboids[i] == MyDatabaseId ||
			SearchSysCacheExists1(DATABASEOID, ObjectIdGetDatum(dboids[i])))
			continue;
		LWLockAcquire(slots_lock, LW_EXCLUSIVE);
		if (slots->slot[i].dboid == dboids[i] && !slot_busy(&slots->slot[i]))
			free_locked(i);
		LWLockRelease(slots_lock);
	}
	pfree(dboids);
}

/* Free the slots of a database that nobody else has raised.  Cannot fail. */
void
slots_free_database(Oid dboid)
{
	LWLockAcquire(slots_lock, LW_EXCLUSIVE);
	for (int i = 0; i < slots->next_fresh; i++)
	{
		if (slots->slot[i].dboid == dboid && !slot_busy(&slots->slot[i]))
			free_locked(i);
	}
	LWLockRelease(slots_lock);
}
