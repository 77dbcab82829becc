/*-------------------------------------------------------------------------
 *
 * entity.c
 *	  An entity as a session knows it: settings, key columns, soundness.
 *
 * Two things tell a session that its copy is old.  Invalidation messages tell
 * of DDL on a member; a callback marks the copy, and whoever asks next builds
 * it anew.  The settings word in shared memory tells of attach() and detach():
 * it is read before the catalogs are, so a copy is never older than its word.
 *
 * A replaced copy is freed only after the transaction, because somebody
 * further up the stack may be using it (a load calls functions, which fetch).
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "catalog.h"
#include "debug.h"
#include "entity.h"
#include "guc.h"
#include "shmem.h"
#include "via.h"

typedef struct EntityEntry
{
	Oid			relid;			/* hash key (must be first) */
	Entity	   *entity;
} EntityEntry;

#define MAX_ASSIGNED	64		/* remembered; more are found when slots run out */

static HTAB *entities = NULL;
static List *retired = NIL;		/* of Entity *, replaced but perhaps in use */
static bool retired_unused = false; /* a transaction has ended since */
static uint64 epoch = 1;		/* counts what makes a copy old */
static uint64 messages = 0;		/* invalidations of whatever relation or schema */
static Oid	assigned[MAX_ASSIGNED];	/* entities that got a slot in this transaction */
static int	nassigned = 0;
static int	old_copies = 0;		/* entries that are not valid any more */

#define BUILD_TRIES		10		/* while messages keep coming in */
#define MAX_OLD_COPIES	64		/* then they are freed, used again or not */

/* ---------- invalidation ---------- */

static void
invalidate_if(Oid relid, bool all)
{
	HASH_SEQ_STATUS seq;
	EntityEntry *entry;

	if (entities == NULL)
		return;
	hash_seq_init(&seq, entities);
	while ((entry = hash_seq_search(&seq)) != NULL)
	{
		if (entry->entity->valid &&
			(all || list_member_oid(entry->entity->reads, relid)))
		{
			entry->entity->valid = false;
			old_copies++;
			epoch++;
		}
	}
}

/* Callbacks run in the midst of anything: they mark, and no more. */
static void
relcache_callback(Datum arg, Oid relid)
{
	messages++;
	invalidate_if(relid, !OidIsValid(relid));
	if (!OidIsValid(relid))
		epoch++;
}

/* A schema was renamed: queries name it.  New schemas concern nobody. */
static void
namespace_callback(Datum arg, int cacheid, uint32 hash)
{
	HASH_SEQ_STATUS seq;
	EntityEntry *entry;

	messages++;
	if (entities == NULL)
		return;
	hash_seq_init(&seq, entities);
	while ((entry = hash_seq_search(&seq)) != NULL)
	{
		if (entry->entity->valid && (hash == 0 || entry->entity->schema_hash == hash))
		{
			entry->entity->valid = false;
			old_copies++;
			epoch++;
		}
	}
}

/*
 * Servers come, go and are renamed, and entities know them by OID.  What a
 * function is said to be, or a cast, and what a role may read, decide whether
 * documents can be cached.
 */
static void
catalog_callback(Datum arg, int cacheid, uint32 hash)
{
	messages++;
	invalidate_if(InvalidOid, true);
}

void
entity_install_callbacks(void)
{
	CacheRegisterSyscacheCallback(PROCOID, catalog_callback, (Datum) 0);
	CacheRegisterSyscacheCallback(CASTSOURCETARGET, catalog_callback, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, catalog_callback, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHOID, catalog_callback, (Datum) 0);
	CacheRegisterRelcacheCallback(relcache_callback, (Datum) 0);
	CacheRegisterSyscacheCallback(NAMESPACEOID, namespace_callback, (Datum) 0);
	CacheRegisterSyscacheCallback(FOREIGNSERVEROID, catalog_callback, (Datum) 0);
}

/* Changes whenever any copy has become old; for what others derive from one. */
uint64
entity_epoch(void)
{
	return epoch;
}

/* Moves with every invalidation message that could concern an entity. */
uint64
entity_messages(void)
{
	return messages;
}

static void
free_entity(Entity *entity)
{
	if (entity->plan)
		SPI_freeplan(entity->plan);
	for (int i = 0; i < entity->nsources; i++)
	{
		if (entity->sources[i].via && entity->sources[i].via->plan)
			SPI_freeplan(entity->sources[i].via->plan);
	}
	if (entity->set_plan)
		SPI_freeplan(entity->set_plan);
	MemoryContextDelete(entity->context);
}

/*
 * Called at the end of each transaction: replaced copies are out of use.  The
 * slots that an aborted one has had assigned may be of entities that never
 * came to be; others get theirs again.  Cannot fail.
 */
void
entity_end_transaction(bool committed)
{
	retired_unused = (retired != NIL);
	for (int i = 0; i < nassigned && !committed; i++)
		slot_free(MyDatabaseId, assigned[i]);
	nassigned = 0;
}

static void
retire(Entity *entity)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

	retired = lappend(retired, entity);
	MemoryContextSwitchTo(old);
	epoch++;
}

/* Relations that are no more are never asked for again: let go of all that is old. */
static void
retire_old_copies(void)
{
	HASH_SEQ_STATUS seq;
	EntityEntry *entry;

	hash_seq_init(&seq, entities);
	while ((entry = hash_seq_search(&seq)) != NULL)
	{
		if (entry->entity->valid)
			continue;
		retire(entry->entity);
		hash_search(entities, &entry->relid, HASH_REMOVE, NULL);
	}
	old_copies = 0;
}

static void
free_retired(void)
{
	ListCell   *cell;

	foreach(cell, retired)
		free_entity(lfirst(cell));
	list_free(retired);
	retired = NIL;
	retired_unused = false;
}

/* ---------- finding ---------- */

static uint64
settings_word_of(int slot)
{
	return slot == NO_SLOT ? 0 : pg_atomic_read_u64(&slot_get(slot)->settings.word);
}

/* Is the copy as new as shared memory says? */
static bool
is_fresh(const Entity *entity)
{
	if (!entity->valid ||
		(entity->passing && entity->statement != GetCurrentStatementStartTimestamp()))
		return false;
	if (entity->slot == NO_SLOT)
		return !shmem_ready() ||
			(slots_in_use() >= ck_max_entities &&	/* else there is one for it now */
			 slot_find(MyDatabaseId, entity->relid) == NO_SLOT);	/* or it has got one */
	return settings_word_of(entity->slot) == entity->settings_word &&
		slot_is(entity->slot, MyDatabaseId, entity->relid);
}

/*
 * Free the slots of relations of this database that are not attached: of those
 * whose attach() was rolled back, or whose detach() met somebody's raised
 * stripes.  A session that still goes by such a slot notices (slot_is()).
 */
static void
free_unattached_slots(void)
{
	Oid		   *relids;
	int			n = slots_list(MyDatabaseId, &relids);

	for (int i = 0; i < n; i++)
	{
		EntityRow	row;

		if (!catalog_read(relids[i], &row))
			slot_free(MyDatabaseId, relids[i]);
	}
	pfree(relids);
}

static int
obtain_slot(Oid relid)
{
	int			slot;
	bool		is_new;

	if (!shmem_ready())
		return NO_SLOT;
	slot = slot_obtain(MyDatabaseId, relid, &is_new);
	if (slot == NO_SLOT)
	{
		slots_free_missing_databases();
		free_unattached_slots();
		slot = slot_obtain(MyDatabaseId, relid, &is_new);
	}
	if (is_new && nassigned < MAX_ASSIGNED)
		assigned[nassigned++] = relid;
	return slot;
}

/*
 * The entity of a relation, or NULL when it is not attached.  May read the
 * catalogs, but locks neither the relation nor its members.
 */
Entity *
entity_find(Oid relid)
{
	EntityEntry *entry;
	Entity	   *entity;
	bool		found;
	int			slot;
	char	   *warned_of = NULL;

	if (retired_unused)
		free_retired();
	if (old_copies > MAX_OLD_COPIES)
		retire_old_copies();
	if (entities == NULL)
	{
		HASHCTL		ctl = {0};

		ctl.keysize = sizeof(Oid);
		ctl.entrysize = sizeof(EntityEntry);
		entities = hash_create("cachekit entities", 64, &ctl, HASH_ELEM | HASH_BLOBS);
	}
	entry = hash_search(entities, &relid, HASH_FIND, NULL);
	if (entry && is_fresh(entry->entity))
		return entry->entity;

	if (entry)
	{
		if (entry->entity->warned && entry->entity->problem)
			warned_of = pstrdup(entry->entity->problem);
		retire(entry->entity);
		hash_search(entities, &relid, HASH_REMOVE, NULL);
	}

	/*
	 * The slot and its word come before the catalogs.  A relation that turns
	 * out not to be attached must not keep a slot.
	 */
	{
		EntityRow	row;

		if (!catalog_read(relid, &row))
			return NULL;
	}
	for (int tries = 0;; tries++)
	{
		slot = obtain_slot(relid);
		entity = entity_build(relid, slot, settings_word_of(slot));
		if (entity == NULL)
		{
			/* dropped since its row was read */
			if (slot != NO_SLOT)
				slot_free(MyDatabaseId, relid);
			return NULL;
		}
		if (entity->valid || tries == BUILD_TRIES)
			break;
		MemoryContextDelete(entity->context);
	}
	/* one warning per session and problem, however often it is built */
	entity->warned = warned_of && entity->problem && strcmp(warned_of, entity->problem) == 0;
	MemoryContextSetParent(entity->context, TopMemoryContext);
	entry = hash_search(entities, &relid, HASH_ENTER, &found);
	if (found)					/* built by an invalidation's nested call */
		retire(entry->entity);
	entry->entity = entity;
	epoch++;
	return entity;
}

/* As entity_find(), with an error for a relation that is not attached. */
Entity *
entity_get(Oid relid)
{
	Entity	   *entity = entity_find(relid);
	char	   *name;

	if (entity != NULL)
		return entity;
	name = get_rel_name(relid);
	if (name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", relid)));
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("relation \"%s\" is not attached to cachekit", name),
			 errhint("SELECT cachekit.attach(%s).",
					 quote_literal_cstr(quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
																   name)))));
}

/* The entity of a name, or NULL. */
Entity *
entity_by_name(const char *name)
{
	HASH_SEQ_STATUS seq;
	EntityEntry *entry;
	Oid			relid = InvalidOid;

	if (entities != NULL)
	{
		hash_seq_init(&seq, entities);
		while ((entry = hash_seq_search(&seq)) != NULL)
		{
			if (strcmp(entry->entity->name, name) == 0)
			{
				relid = entry->relid;
				hash_seq_term(&seq);
				break;
			}
		}
	}
	if (OidIsValid(relid))
	{
		Entity	   *entity = entity_find(relid);

		if (entity && strcmp(entity->name, name) == 0)
			return entity;
	}
	relid = catalog_relation_of(name);
	return OidIsValid(relid) ? entity_find(relid) : NULL;
}

/* ---------- questions ---------- */

bool
entity_has_member(const Entity *entity, Oid relid)
{
	return list_member_oid(entity->members, relid);
}

/* Where a key lives in shared memory; false when the entity has no slot. */
bool
entity_tier_key(const Entity *entity, const KeyText *text, TierKey *key)
{
	if (entity->slot == NO_SLOT)
		return false;
	key->dboid = MyDatabaseId;
	key->relid = entity->relid;
	key->slot = entity->slot;
	key->text = text->text;
	key->len = text->len;
	key->hash = fence_hash(MyDatabaseId, entity->relid, text->text, text->len);
	slot_scope(entity->slot, MyDatabaseId, key->hash, &key->scope);
	return true;
}

void
entity_count(const Entity *entity, StatCounter which, uint64 n)
{
	if (entity->slot != NO_SLOT)
		stats_count(&slot_get(entity->slot)->stats, which, n);
}

/* May the caller SELECT every column of the document?  The key's are part of it. */
static bool
may_select_columns(const Entity *entity)
{
	ListCell   *cell;

	if (entity->columns == NIL)
		return pg_attribute_aclcheck_all(entity->relid, GetUserId(), ACL_SELECT,
										 ACLMASK_ALL) == ACLCHECK_OK;
	foreach(cell, entity->columns)
	{
		AttrNumber	attnum = get_attnum(entity->relid, lfirst(cell));

		if (attnum == InvalidAttrNumber ||
			pg_attribute_aclcheck(entity->relid, attnum, GetUserId(), ACL_SELECT) != ACLCHECK_OK)
			return false;
	}
	for (int i = 0; i < entity->shape.n; i++)
	{
		if (pg_attribute_aclcheck(entity->relid, entity->shape.column[i].attnum, GetUserId(),
								  ACL_SELECT) != ACLCHECK_OK)
			return false;
	}
	return true;
}

/*
 * Error unless the caller could have read the document from the table, and
 * somebody tells of every change of what it is made of.
 */
void
entity_check_select(const Entity *entity)
{
	AclResult	result;

	if (!compat_schema_usage(entity->schema, GetUserId()))
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_SCHEMA, get_namespace_name(entity->schema));
	result = pg_class_aclcheck(entity->relid, GetUserId(), ACL_SELECT);
	if (result != ACLCHECK_OK && !may_select_columns(entity))
		aclcheck_error(result, get_relkind_objtype(get_rel_relkind(entity->relid)),
					   get_rel_name(entity->relid));
	if (entity->untracked && CK_GUARD("untracked"))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("entity \"%s\" cannot be fetched: %s", entity->name, entity->untracked),
				 errdetail("Its documents would become stale and nobody would tell."),
				 errhint("Add dependencies with cachekit.add_dependency(), or accept stale documents with cachekit.attach(..., allow_untracked => true).")));
}
