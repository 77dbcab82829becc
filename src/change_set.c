/*-------------------------------------------------------------------------
 *
 * change_set.c
 *	  The change set as a data structure.
 *
 * An array in order of arrival, with a hash index once it is no longer small.
 * Each element carries the subtransaction that added it; subtransaction
 * numbers grow, so what ROLLBACK TO undoes is always a tail of the array: the
 * elements whose number is not below the aborted one's.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "utils/memutils.h"

#include "change_set.h"
#include "debug.h"

#define SMALL_SET	16			/* elements that are searched without an index */

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

ChangeSet	change_set;

bool
change_set_is_empty(void)
{
	return change_set.entities == NULL && !change_set.database && !change_set.servers &&
		!change_set.databases &&
		!OidIsValid(change_set.dropped_database);
}

void
change_set_reset(void)
{
	if (change_set.context)
		MemoryContextReset(change_set.context);
	change_set.entities = NULL;
	change_set.key = NULL;
	change_set.nkeys = change_set.room = 0;
	change_set.index = NULL;
	change_set.row = NULL;
	change_set.nrows = change_set.rows_room = 0;
	change_set.row_bytes = 0;
	change_set.forget_database = false;
	change_set.dropped_database = InvalidOid;
	change_set.database = change_set.late = change_set.raised = change_set.committed = change_set.prepared = false;
	change_set.recorded = change_set.servers = change_set.databases = false;
	change_set.end = InvalidXLogRecPtr;
}

MemoryContext
change_set_context(void)
{
	if (change_set.context == NULL)
		change_set.context = AllocSetContextCreate(TopMemoryContext, "cachekit change set",
											ALLOCSET_DEFAULT_SIZES);
	return change_set.context;
}

ChangedEntity *
change_set_find(Oid relid)
{
	for (ChangedEntity *entity = change_set.entities; entity; entity = entity->next)
	{
		if (entity->relid == relid)
			return entity;
	}
	return NULL;
}

ChangedEntity *
change_set_obtain(Oid relid)
{
	ChangedEntity *entity = change_set_find(relid);

	if (entity == NULL)
	{
		entity = MemoryContextAllocZero(change_set_context(), sizeof(ChangedEntity));
		entity->relid = relid;
		entity->next = change_set.entities;
		change_set.entities = entity;
	}
	return entity;
}

void
change_set_add_target(ChangedEntity *changed, const char *name, RecordKind kind,
					  const Oid *servers, int nservers)
{
	ChangedTarget *target = changed->targets;

	if (nservers == 0 ||
		(target && strcmp(target->name, name) == 0 && target->kind == kind &&
		 target->nservers == nservers &&
		 memcmp(target->servers, servers, sizeof(Oid) * nservers) == 0))
		return;
	target = MemoryContextAlloc(change_set_context(), sizeof(ChangedTarget));
	target->name = MemoryContextStrdup(change_set_context(), name);
	target->kind = kind;
	target->nservers = nservers;
	target->servers = MemoryContextAlloc(change_set_context(), sizeof(Oid) * nservers);
	memcpy(target->servers, servers, sizeof(Oid) * nservers);
	target->next = CK_GUARD("old-name") ? changed->targets : NULL;
	changed->targets = target;
}

ChangedKey *
change_set_find_key(const ChangedKey *key)
{
	if (change_set.index)
	{
		KeyIndexEntry *entry = key_index_lookup(change_set.index, unconstify(ChangedKey *, key));

		return entry ? entry->key : NULL;
	}
	for (int i = 0; i < change_set.nkeys; i++)
	{
		if (same_key(change_set.key[i], key))
			return change_set.key[i];
	}
	return NULL;
}

static void
index_key(ChangedKey *key)
{
	bool		found;

	(void) key_index_insert(change_set.index, key, &found);
}

void
change_set_append(ChangedKey *key)
{
	if (change_set.nkeys == change_set.room)
	{
		int			room = Max(SMALL_SET, change_set.room * 2);

		change_set.key = change_set.key ? repalloc_huge(change_set.key, sizeof(ChangedKey *) * room)
			: MemoryContextAlloc(change_set_context(), sizeof(ChangedKey *) * room);
		change_set.room = room;
	}
	change_set.key[change_set.nkeys++] = key;
	key->entity->keys++;
	if (change_set.index == NULL && change_set.nkeys > SMALL_SET)
	{
		change_set.index = key_index_create(change_set_context(), 256, NULL);
		for (int i = 0; i < change_set.nkeys; i++)
			index_key(change_set.key[i]);
	}
	else if (change_set.index)
		index_key(key);
}

/* Append a row, unless it is what came last: an UPDATE often leaves it so. */
void
change_set_append_row(ChangedEntity *entity, Oid base, HeapTupleHeader row)
{
	ChangedRow *last = change_set.nrows > 0 ? &change_set.row[change_set.nrows - 1] : NULL;
	Size		size = HeapTupleHeaderGetDatumLength(row);

	if (last && last->entity == entity && last->base == base &&
		HeapTupleHeaderGetDatumLength(last->row) == size && memcmp(last->row, row, size) == 0)
		return;
	if (change_set.nrows == change_set.rows_room)
	{
		int			room = Max(SMALL_SET, change_set.rows_room * 2);

		change_set.row = change_set.row ? repalloc_huge(change_set.row, sizeof(ChangedRow) * room)
			: MemoryContextAlloc(change_set_context(), sizeof(ChangedRow) * room);
		change_set.rows_room = room;
	}
	last = &change_set.row[change_set.nrows++];
	last->entity = entity;
	last->base = base;
	last->subid = GetCurrentSubTransactionId();
	last->row = memcpy(MemoryContextAlloc(change_set_context(), size), row, size);
	entity->rows++;
	change_set.row_bytes += size;
}

void
change_set_make_whole(ChangedEntity *entity)
{
	if (entity->whole)
		return;
	entity->whole = true;
	entity->whole_since = GetCurrentSubTransactionId();
}

/*
 * ROLLBACK TO: forget what the aborted subtransaction and its children added.
 * DDL, and an overflow, stay: more is invalidated than need be.
 */
void
change_set_undo(SubTransactionId subid)
{
	if (!CK_GUARD("subxact-abort"))
		return;
	while (change_set.nkeys > 0 && change_set.key[change_set.nkeys - 1]->subid >= subid)
	{
		ChangedKey *key = change_set.key[--change_set.nkeys];

		if (change_set.index)
			key_index_delete(change_set.index, key);
		key->entity->keys--;
		pfree(key);
	}
	while (change_set.nrows > 0 && change_set.row[change_set.nrows - 1].subid >= subid)
	{
		ChangedRow *row = &change_set.row[--change_set.nrows];

		row->entity->rows--;
		change_set.row_bytes -= HeapTupleHeaderGetDatumLength(row->row);
		pfree(row->row);
	}
	for (ChangedEntity *entity = change_set.entities; entity; entity = entity->next)
	{
		if (entity->whole && entity->whole_since >= subid &&
			!entity->settings && !entity->overflowed)
			entity->whole = false;
	}
}

bool
changes_include(Oid relid, uint64 hash, const KeyText *key)
{
	ChangedEntity *entity = change_set_find(relid);
	char		buffer[offsetof(ChangedKey, text) + KEY_MAX_NAMED + 1];
	ChangedKey *probe = (ChangedKey *) buffer;

	if (change_set.database)
		return true;
	if (entity == NULL)
		return false;
	if (entity->whole || entity->rows > 0)	/* whose keys are not known yet */
		return true;
	probe->entity = entity;
	probe->hash = hash;
	probe->len = key->len;
	memcpy(probe->text, key->text, key->len);
	return change_set_find_key(probe) != NULL;
}

bool
changes_include_entity(Oid relid)
{
	ChangedEntity *entity = change_set_find(relid);

	return entity != NULL && entity->whole;
}
