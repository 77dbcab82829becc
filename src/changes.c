/*-------------------------------------------------------------------------
 *
 * changes.c
 *	  The change set: what the current transaction has changed.
 *
 * The set is an array in order of arrival, with a hash index once it is no
 * longer small.  Each element carries the subtransaction that added it;
 * subtransaction numbers grow, so what ROLLBACK TO undoes is always a tail of
 * the array: the elements whose number is not below the aborted one's.
 *
 * What was raised is remembered stripe by stripe, in memory that outlives the
 * transaction's contexts, because the abort callback runs when those may be
 * gone.  An element of that array is written before the stripe is raised and
 * counted after, and nothing in between can fail, so what is lowered is
 * exactly what was raised.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "catalog.h"
#include "changes.h"
#include "debug.h"
#include "fence.h"
#include "flight.h"
#include "guc.h"
#include "shmem.h"

#define SMALL_SET	16			/* elements that are searched without an index */

typedef struct ChangedEntity
{
	Oid			relid;
	int			keys;			/* keys in the set */
	bool		whole;			/* the entity as a whole */
	bool		settings;		/* its settings or definition, too */
	bool		forget;			/* its slot is to be freed */
	bool		overflowed;		/* whole because of too many keys: for good */
	SubTransactionId whole_since;	/* subtransaction that made it whole */
	struct ChangedEntity *next;
} ChangedEntity;

typedef struct ChangedKey
{
	ChangedEntity *entity;
	SubTransactionId subid;
	uint64		hash;			/* fence_hash(), where shared memory is there */
	uint16		len;
	char		text[FLEXIBLE_ARRAY_MEMBER];
} ChangedKey;

typedef struct KeyIndexEntry
{
	ChangedKey *key;
	uint32		status;			/* for simplehash */
} KeyIndexEntry;

static bool
same_key(const ChangedKey *a, const ChangedKey *b)
{
	return a->hash == b->hash && a->entity == b->entity && a->len == b->len &&
		memcmp(a->text, b->text, a->len) == 0;
}

#define SH_PREFIX		key_index
#define SH_ELEMENT_TYPE KeyIndexEntry
#define SH_KEY_TYPE		ChangedKey *
#define SH_KEY			key
#define SH_HASH_KEY(tb, k)	((uint32) (k)->hash)
#define SH_EQUAL(tb, a, b)	same_key(a, b)
#define SH_SCOPE		static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

static struct
{
	MemoryContext context;		/* of all below; reset at the end */
	ChangedEntity *entities;
	ChangedKey **key;			/* in order of arrival */
	int			nkeys;
	int			room;
	key_index_hash *index;		/* NULL while the set is small */
	bool		database;		/* everything in the database */
	bool		forget_database;	/* the extension goes: free the database's slots */
	Oid			dropped_database;	/* by DROP DATABASE */
	bool		late;			/* lower when the locks are released */
	bool		raised;			/* PRE_COMMIT has passed */
	bool		committed;		/* waiting for the locks' release */
	bool		prepared;		/* PRE_PREPARE has passed: nothing may be added */
} set;

/* Raised stripes; the array outlives transactions. */
static FenceStripe **raised = NULL;
static int	nraised = 0;
static int	raised_room = 0;

static bool
set_is_empty(void)
{
	return set.entities == NULL && !set.database && !OidIsValid(set.dropped_database);
}

static void
set_reset(void)
{
	if (set.context)
		MemoryContextReset(set.context);
	set.entities = NULL;
	set.key = NULL;
	set.nkeys = set.room = 0;
	set.index = NULL;
	set.forget_database = false;
	set.dropped_database = InvalidOid;
	set.database = set.late = set.raised = set.committed = set.prepared = false;
}

/* ---------- raising and lowering ---------- */

static void
raised_reserve(int more)
{
	Size		room;

	if (nraised + more <= raised_room)
		return;
	/* the room is what there is, also if the allocation fails */
	room = Max(64, (nraised + more) * 2);
	raised = raised ? repalloc_huge(raised, sizeof(FenceStripe *) * room) :
		MemoryContextAllocHuge(TopMemoryContext, sizeof(FenceStripe *) * room);
	raised_room = room;
}

static void
raise_stripe(FenceStripe *stripe)
{
	raised_reserve(1);
	raised[nraised] = stripe;
	fence_raise(stripe);
	nraised++;
}

static void
raise_entity(ChangedEntity *entity)
{
	EntitySlot *slot;

	raised_reserve(2);
	slot = slot_raise(MyDatabaseId, entity->relid, entity->settings);
	if (slot == NULL)
	{
		raise_stripe(fence_database_stripe(MyDatabaseId));
		return;
	}
	raised[nraised++] = &slot->entity;
	if (entity->settings)
		raised[nraised++] = &slot->settings;
}

/*
 * Raise the stripes of all keys, each once: the count in a stripe's word has 20
 * bits.  A bitmap of the stripes tells which have been raised; it is smaller
 * and quicker than a sorted array of what may be 100,000 keys.
 */
static void
raise_keys(void)
{
	uint8	   *seen;

	if (set.nkeys == 1 && !set.key[0]->entity->whole)
		raise_stripe(fence_key_stripe(set.key[0]->hash));
	if (set.nkeys <= 1)
		return;
	seen = MemoryContextAllocZero(set.context, ck_fence_stripes / 8 + 1);
	raised_reserve(Min(set.nkeys, ck_fence_stripes));
	for (int i = 0; i < set.nkeys; i++)
	{
		uint32		stripe = fence_key_index(set.key[i]->hash);

		if (set.key[i]->entity->whole || (seen[stripe / 8] & (1 << (stripe % 8))) != 0)
			continue;
		seen[stripe / 8] |= 1 << (stripe % 8);
		raise_stripe(fence_key_stripe(set.key[i]->hash));
	}
}

/* PRE_COMMIT: the last step that may fail. */
static void
raise_all(void)
{
	if (set.raised)
		return;
	if (set_is_empty())
	{
		set.raised = true;		/* what comes now comes late */
		return;
	}
	CK_STOP("pre-commit");
	if (shmem_ready() && CK_GUARD("change-raise"))
	{
		raise_keys();
		for (ChangedEntity *entity = set.entities; entity; entity = entity->next)
		{
			if (entity->whole)
				raise_entity(entity);
		}
		if (set.database)
			raise_stripe(fence_database_stripe(MyDatabaseId));
		if (OidIsValid(set.dropped_database))
			raise_stripe(fence_database_stripe(set.dropped_database));
	}
	set.raised = true;
	CK_STOP("raised");
}

static void
lower_all(bool committed)
{
	while (nraised > 0)
		fence_lower(raised[--nraised], committed);
}

/* Counters of what this commit invalidates. */
static void
count_invalidations(void)
{
	for (ChangedEntity *entity = set.entities; entity; entity = entity->next)
	{
		int			slot = slot_find(MyDatabaseId, entity->relid);

		if (slot == NO_SLOT)
			continue;
		if (entity->whole)
			stats_count(&slot_get(slot)->stats, STAT_FLUSHES, 1);
		else
			stats_count(&slot_get(slot)->stats, STAT_INVALIDATIONS, entity->keys);
	}
}

/* COMMIT: visible, and nothing here can fail. */
static void
remove_committed(void)
{
	CK_STOP("committed");
	if (!CK_GUARD("visible-removal"))
		return;
	for (int i = 0; i < set.nkeys; i++)
	{
		ChangedKey *key = set.key[i];

		if (!key->entity->whole)
			local_remove(MyDatabaseId, key->entity->relid, key->hash, key->text, key->len);
	}
}

static void
finish_commit(void)
{
	lower_all(true);
	for (ChangedEntity *entity = set.entities; entity; entity = entity->next)
	{
		if (entity->forget && entity->whole)
			slot_free(MyDatabaseId, entity->relid);
	}
	if (set.forget_database)
		slots_free_database(MyDatabaseId);
	if (OidIsValid(set.dropped_database))
		slots_free_database(set.dropped_database);
	set_reset();
	CK_STOP("lowered");
}

/* ---------- collecting ---------- */

static MemoryContext
set_context(void)
{
	if (set.context == NULL)
		set.context = AllocSetContextCreate(TopMemoryContext, "cachekit change set",
											ALLOCSET_DEFAULT_SIZES);
	return set.context;
}

static ChangedEntity *
find_entity(Oid relid)
{
	for (ChangedEntity *entity = set.entities; entity; entity = entity->next)
	{
		if (entity->relid == relid)
			return entity;
	}
	return NULL;
}

static ChangedEntity *
obtain_entity(Oid relid)
{
	ChangedEntity *entity = find_entity(relid);

	if (entity == NULL)
	{
		entity = MemoryContextAllocZero(set_context(), sizeof(ChangedEntity));
		entity->relid = relid;
		entity->next = set.entities;
		set.entities = entity;
	}
	return entity;
}

static ChangedKey *
find_key(const ChangedKey *key)
{
	if (set.index)
	{
		KeyIndexEntry *entry = key_index_lookup(set.index, unconstify(ChangedKey *, key));

		return entry ? entry->key : NULL;
	}
	for (int i = 0; i < set.nkeys; i++)
	{
		if (same_key(set.key[i], key))
			return set.key[i];
	}
	return NULL;
}

static void
index_key(ChangedKey *key)
{
	bool		found;

	(void) key_index_insert(set.index, key, &found);
}

static void
append_key(ChangedKey *key)
{
	if (set.nkeys == set.room)
	{
		int			room = Max(SMALL_SET, set.room * 2);

		set.key = set.key ? repalloc_huge(set.key, sizeof(ChangedKey *) * room)
			: MemoryContextAlloc(set_context(), sizeof(ChangedKey *) * room);
		set.room = room;
	}
	set.key[set.nkeys++] = key;
	key->entity->keys++;
	if (set.index == NULL && set.nkeys > SMALL_SET)
	{
		set.index = key_index_create(set_context(), 256, NULL);
		for (int i = 0; i < set.nkeys; i++)
			index_key(set.key[i]);
	}
	else if (set.index)
		index_key(key);
}

static void
make_whole(ChangedEntity *entity)
{
	if (entity->whole)
		return;
	entity->whole = true;
	entity->whole_since = GetCurrentSubTransactionId();
}

static void
refuse_prepare(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("cannot PREPARE a transaction that has changed an entity of cachekit"),
			 errdetail("DDL that may change the documents of entities counts as a change."),
			 errhint("COMMIT it, or leave the attached tables out of two-phase transactions.")));
}

/* A change after PRE_COMMIT is raised as it comes. */
static bool
is_late_change(void)
{
	return set.raised && shmem_ready() && CK_GUARD("late-change");
}

void
changes_add_key(Entity *entity, const KeyText *key)
{
	ChangedEntity *changed = find_entity(entity->relid);
	ChangedKey *new;
	char		buffer[offsetof(ChangedKey, text) + KEY_MAX_NAMED + 1];
	Size		size = offsetof(ChangedKey, text) + key->len;

	if (set.prepared)
		refuse_prepare();
	if (changed && changed->whole)
		return;
	if (changed == NULL)
		changed = obtain_entity(entity->relid);
	new = (ChangedKey *) buffer;
	new->entity = changed;
	new->subid = GetCurrentSubTransactionId();
	new->hash = shmem_ready() ?
		fence_hash(MyDatabaseId, entity->relid, key->text, key->len) :
		hash_bytes_extended((const unsigned char *) key->text, key->len, entity->relid);
	new->len = key->len;
	memcpy(new->text, key->text, key->len);
	if (find_key(new))
		return;

	if (changed->keys >= ck_max_changed_keys)
	{
		/* cannot be undone by ROLLBACK TO: the keys are no longer collected */
		make_whole(changed);
		changed->overflowed = true;
		if (is_late_change())
			raise_entity(changed);
		return;
	}
	append_key(memcpy(MemoryContextAlloc(set_context(), size), new, size));
	if (is_late_change())
		raise_stripe(fence_key_stripe(new->hash));
}

void
changes_add_entity(Oid relid, bool settings)
{
	ChangedEntity *entity = obtain_entity(relid);
	bool		more = !entity->whole || (settings && !entity->settings);

	if (set.prepared)
		refuse_prepare();
	make_whole(entity);
	entity->settings |= settings;
	set.late |= settings;
	if (more && is_late_change())
		raise_entity(entity);
}

void
changes_add_database(void)
{
	bool		more = !set.database;

	if (set.prepared)
		refuse_prepare();
	set.database = true;
	set.late = true;
	if (more && is_late_change())
		raise_stripe(fence_database_stripe(MyDatabaseId));
}

void
changes_forget_database(void)
{
	changes_add_database();
	set.forget_database = true;
}

void
changes_drop_database(Oid dboid)
{
	set.dropped_database = dboid;
}

void
changes_forget_entity(Oid relid)
{
	changes_add_entity(relid, true);
	find_entity(relid)->forget = true;
}

bool
changes_include(Oid relid, uint64 hash, const KeyText *key)
{
	ChangedEntity *entity = find_entity(relid);
	char		buffer[offsetof(ChangedKey, text) + KEY_MAX_NAMED + 1];
	ChangedKey *probe = (ChangedKey *) buffer;

	if (set.database)
		return true;
	if (entity == NULL)
		return false;
	if (entity->whole)
		return true;
	probe->entity = entity;
	probe->hash = hash;
	probe->len = key->len;
	memcpy(probe->text, key->text, key->len);
	return find_key(probe) != NULL;
}

bool
changes_include_entity(Oid relid)
{
	ChangedEntity *entity = find_entity(relid);

	return entity != NULL && entity->whole;
}

/* ---------- the transaction's end ---------- */

/*
 * ROLLBACK TO: forget what the aborted subtransaction and its children added.
 * DDL, and an overflow, stay: more is invalidated than need be.
 */
static void
undo_subtransaction(SubTransactionId subid)
{
	if (!CK_GUARD("subxact-abort"))
		return;
	while (set.nkeys > 0 && set.key[set.nkeys - 1]->subid >= subid)
	{
		ChangedKey *key = set.key[--set.nkeys];

		if (set.index)
			key_index_delete(set.index, key);
		key->entity->keys--;
		pfree(key);
	}
	for (ChangedEntity *entity = set.entities; entity; entity = entity->next)
	{
		if (entity->whole && entity->whole_since >= subid &&
			!entity->settings && !entity->overflowed)
			entity->whole = false;
	}
}

static void
subtransaction_callback(SubXactEvent event, SubTransactionId subid,
						SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB && !set_is_empty() && !set.raised)
		undo_subtransaction(subid);
}

/* Is there anything that a PREPARE would lose?  Not DDL where nothing is attached. */
static bool
something_changed(void)
{
	if (set.nkeys > 0 || OidIsValid(set.dropped_database))
		return true;
	for (ChangedEntity *entity = set.entities; entity; entity = entity->next)
	{
		if (entity->whole)
			return true;
	}
	return set.database && catalog_relations() != NIL;
}

static void
transaction_callback(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			raise_all();
			break;
		case XACT_EVENT_COMMIT:
			if (!set_is_empty())
			{
				if (shmem_ready())
				{
					remove_committed();
					count_invalidations();
				}
				if (set.late && CK_GUARD("late-lower"))
				{
					/* locks are released before: who waited for one sees a change */
					for (int i = 0; i < nraised; i++)
						fence_count(raised[i]);
					set.committed = true;	/* release_callback() goes on */
				}
				else
					finish_commit();
			}
			else
				set_reset();
			flight_end();
			entity_end_transaction(true);
			break;
		case XACT_EVENT_ABORT:
			lower_all(false);
			set_reset();
			flight_end();
			entity_end_transaction(false);
			break;
		case XACT_EVENT_PRE_PREPARE:
			if (something_changed())
				refuse_prepare();
			set.prepared = true;
			break;
		case XACT_EVENT_PREPARE:
			set_reset();
			flight_end();
			entity_end_transaction(true);
			break;
		default:
			break;
	}
}

/* The transaction's locks, and before them its invalidation messages, are out. */
static void
release_callback(ResourceReleasePhase phase, bool is_commit, bool is_top_level, void *arg)
{
	if (phase == RESOURCE_RELEASE_AFTER_LOCKS && is_top_level && is_commit && set.committed)
	{
		CK_STOP("unlocked");
		finish_commit();
	}
}

void
changes_install_callbacks(void)
{
	RegisterXactCallback(transaction_callback, NULL);
	RegisterSubXactCallback(subtransaction_callback, NULL);
	RegisterResourceReleaseCallback(release_callback, NULL);
}
