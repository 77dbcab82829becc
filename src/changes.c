/*-------------------------------------------------------------------------
 *
 * changes.c
 *	  The change set: what the current transaction has changed.
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
#include "access/xlog.h"
#include "common/hashfn.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "catalog.h"
#include "change_set.h"
#include "debug.h"
#include "fence.h"
#include "flight.h"
#include "guc.h"
#include "links.h"
#include "servers.h"
#include "shmem.h"
#include "sync_wait.h"

#define MAX_ROW_BYTES	(32 * 1024 * 1024)	/* of rows whose keys are looked for at the end */

/* Raised stripes; the array outlives transactions. */
static FenceStripe **raised = NULL;
static int	nraised = 0;
static int	raised_room = 0;

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
	slot = slot_raise(MyDatabaseId, entity->relid,
					  SLOT_ENTITY | (entity->settings ? SLOT_SETTINGS : 0));
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
 * Entities with rows whose keys are still to be looked for.  From here on until
 * this transaction ends no load of theirs can be stored: it might be of a
 * document that the search cannot find yet (fence.h).
 */
static void
raise_links(void)
{
	if (!shmem_ready() || change_set.nrows == 0)
		return;
	for (ChangedEntity *entity = change_set.entities; entity; entity = entity->next)
	{
		EntitySlot *slot;

		if (entity->rows == 0 || entity->whole)
			continue;
		raised_reserve(1);
		slot = slot_raise(MyDatabaseId, entity->relid, SLOT_LINKS);
		if (slot)
			raised[nraised++] = &slot->links;
		else
			change_set_make_whole(entity);
	}
	CK_STOP("links-raised");
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

	if (change_set.nkeys == 1 && !change_set.key[0]->entity->whole)
		raise_stripe(fence_key_stripe(change_set.key[0]->hash));
	if (change_set.nkeys <= 1)
		return;
	seen = MemoryContextAllocZero(change_set.context, ck_fence_stripes / 8 + 1);
	raised_reserve(Min(change_set.nkeys, ck_fence_stripes));
	for (int i = 0; i < change_set.nkeys; i++)
	{
		uint32		stripe = fence_key_index(change_set.key[i]->hash);

		if (change_set.key[i]->entity->whole || (seen[stripe / 8] & (1 << (stripe % 8))) != 0)
			continue;
		seen[stripe / 8] |= 1 << (stripe % 8);
		raise_stripe(fence_key_stripe(change_set.key[i]->hash));
	}
}

/* ---------- the transaction's steps ---------- */

/* PRE_COMMIT: the last step that may fail. */
static void
raise_all(void)
{
	if (change_set.raised)
		return;
	if (change_set_is_empty())
	{
		change_set.raised = true;		/* what comes now comes late */
		return;
	}
	CK_STOP("pre-commit");
	raise_links();
	if (change_set.nrows > 0)
		links_resolve();
	if (shmem_ready() && CK_GUARD("change-raise"))
	{
		raise_keys();
		for (ChangedEntity *entity = change_set.entities; entity; entity = entity->next)
		{
			if (entity->whole)
				raise_entity(entity);
		}
		if (change_set.database)
			raise_stripe(fence_database_stripe(MyDatabaseId));
		if (OidIsValid(change_set.dropped_database))
			raise_stripe(fence_database_stripe(change_set.dropped_database));
	}
	change_set.raised = true;
	CK_STOP("raised");
	change_record_write();
	CK_STOP("recorded");
}

static void
lower_all(bool committed)
{
	if (!committed && !CK_GUARD("abort-lower"))
		nraised = 0;
	while (nraised > 0)
		fence_lower(raised[--nraised], committed, change_set.end);
}

/* Counters of what this commit invalidates. */
static void
count_invalidations(void)
{
	for (ChangedEntity *entity = change_set.entities; entity; entity = entity->next)
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
	for (int i = 0; i < change_set.nkeys; i++)
	{
		ChangedKey *key = change_set.key[i];

		if (!key->entity->whole)
			local_remove(MyDatabaseId, key->entity->relid, key->hash, key->text, key->len);
	}
}

static void
finish_commit(void)
{
	bool		servers_changed = change_set.servers;
	bool		databases_changed = change_set.databases;

	lower_all(true);
	if (change_set.end != InvalidXLogRecPtr && shmem_ready())
		servers_committed(change_set.end);
	for (ChangedEntity *entity = change_set.entities; entity; entity = entity->next)
	{
		if (entity->forget && entity->whole)
			slot_free(MyDatabaseId, entity->relid);
	}
	if (change_set.forget_database)
		slots_free_database(MyDatabaseId);
	if (OidIsValid(change_set.dropped_database))
		slots_free_database(change_set.dropped_database);
	change_set_reset();
	if (shmem_ready() && databases_changed)
		servers_request_scan(InvalidOid);
	else if (shmem_ready() && servers_changed)
		servers_request_scan(MyDatabaseId);
	CK_STOP("lowered");
}

/* ---------- collecting ---------- */

/* What is to become of the keys of an entity with these settings? */
static RecordKind
kind_of_change(bool refresh, bool refresh_absent)
{
	return !refresh ? RECORD_KEYS : refresh_absent ? RECORD_REFRESH_ABSENT : RECORD_REFRESH;
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
	return change_set.raised && shmem_ready() && CK_GUARD("late-change");
}

void
changes_add_key(Entity *entity, const KeyText *key)
{
	ChangedEntity *changed = change_set_find(entity->relid);
	ChangedKey *new;
	char		buffer[offsetof(ChangedKey, text) + KEY_MAX_NAMED + 1];
	Size		size = offsetof(ChangedKey, text) + key->len;

	if (change_set.prepared)
		refuse_prepare();
	if (changed && changed->whole)
		return;
	if (changed == NULL)
		changed = change_set_obtain(entity->relid);
	change_set_add_target(changed, entity->encoded_name,
						  kind_of_change(entity->refresh, entity->refresh_absent),
						  entity->servers, entity->nservers);
	new = (ChangedKey *) buffer;
	new->entity = changed;
	new->subid = GetCurrentSubTransactionId();
	new->hash = shmem_ready() ?
		fence_hash(MyDatabaseId, entity->relid, key->text, key->len) :
		hash_bytes_extended((const unsigned char *) key->text, key->len, entity->relid);
	new->len = key->len;
	memcpy(new->text, key->text, key->len);
	if (change_set_find_key(new))
		return;

	if (changed->keys >= ck_max_changed_keys)
	{
		/* cannot be undone by ROLLBACK TO: the keys are no longer collected */
		change_set_make_whole(changed);
		changed->overflowed = true;
		if (is_late_change())
		{
			raise_entity(changed);
			change_record_late(changed, NULL);
		}
		return;
	}
	change_set_append(memcpy(MemoryContextAlloc(change_set_context(), size), new, size));
	if (is_late_change())
	{
		raise_stripe(fence_key_stripe(new->hash));
		change_record_late(changed, new);
	}
}

void
changes_add_row(Entity *entity, Oid base, HeapTupleHeader row)
{
	ChangedEntity *changed = change_set_obtain(entity->relid);

	if (change_set.prepared)
		refuse_prepare();
	if (changed->whole)
		return;
	change_set_add_target(changed, entity->encoded_name,
						  kind_of_change(entity->refresh, entity->refresh_absent),
						  entity->servers, entity->nservers);
	if (changed->rows < ck_max_changed_keys && !is_late_change() &&
		change_set.row_bytes + HeapTupleHeaderGetDatumLength(row) <= MAX_ROW_BYTES)
	{
		change_set_append_row(changed, base, row);
		return;
	}
	change_set_make_whole(changed);
	changed->overflowed = true;
	if (is_late_change())
	{
		raise_entity(changed);
		change_record_late(changed, NULL);
	}
}

/* The name and the servers that the catalog has for an entity now. */
static void
add_catalog_target(ChangedEntity *changed)
{
	EntityRow	row;
	Oid			servers[RECORD_MAX_SERVERS];
	int			n;

	if (!catalog_read(changed->relid, &row))
		return;
	n = catalog_server_oids(row.servers, servers, RECORD_MAX_SERVERS);
	change_set_add_target(changed, key_percent_encode(row.name, strlen(row.name)),
						  kind_of_change(strcmp(row.on_change, "refresh") == 0,
										 row.refresh_absent), servers, n);
}

void
changes_add_entity(Oid relid, bool settings)
{
	ChangedEntity *entity = change_set_obtain(relid);
	bool		more = !entity->whole || (settings && !entity->settings);

	if (change_set.prepared)
		refuse_prepare();
	add_catalog_target(entity);
	change_set_make_whole(entity);
	entity->settings |= settings;
	change_set.late |= settings;
	if (more && is_late_change())
	{
		raise_entity(entity);
		change_record_late(entity, NULL);
	}
}

void
changes_add_database(void)
{
	bool		more = !change_set.database;

	if (change_set.prepared)
		refuse_prepare();
	change_set.database = true;
	change_set.late = true;
	if (more && is_late_change())
	{
		raise_stripe(fence_database_stripe(MyDatabaseId));
		change_record_late_database();
	}
}

void
changes_add_servers(void)
{
	change_set.servers = true;
}

void
changes_add_databases(void)
{
	change_set.databases = true;
}

void
changes_forget_database(void)
{
	changes_add_database();
	change_set.forget_database = true;
}

void
changes_drop_database(Oid dboid)
{
	change_set.dropped_database = dboid;
	change_set.databases = true;
}

void
changes_forget_entity(Oid relid)
{
	changes_add_entity(relid, true);
	change_set_find(relid)->forget = true;
}

/* ---------- the transaction's end ---------- */

static void
subtransaction_callback(SubXactEvent event, SubTransactionId subid,
						SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB && !change_set_is_empty() && !change_set.raised)
		change_set_undo(subid);
}

/* Is there anything that a PREPARE would lose?  Not DDL where nothing is attached. */
static bool
something_changed(void)
{
	if (change_set.nkeys > 0 || change_set.nrows > 0 || OidIsValid(change_set.dropped_database))
		return true;
	for (ChangedEntity *entity = change_set.entities; entity; entity = entity->next)
	{
		if (entity->whole)
			return true;
	}
	return change_set.database && catalog_relations() != NIL;
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
			if (!change_set_is_empty())
			{
				/* XactLastRecEnd is cleared by now; without a record no sender comes this far */
				change_set.end = change_set.recorded || !CK_GUARD("record-end") ?
					XactLastCommitEnd : InvalidXLogRecPtr;
				sync_wait_committed(change_set.end);
				if (shmem_ready())
				{
					/* before the locks go: who gets one may rely on wait_for_delivery() */
					servers_want(change_set.end);
					remove_committed();
					count_invalidations();
				}
				if (change_set.late && CK_GUARD("late-lower"))
				{
					/* locks are released before: who waited for one sees a change */
					for (int i = 0; i < nraised; i++)
						fence_count(raised[i]);
					change_set.committed = true;	/* release_callback() goes on */
				}
				else
					finish_commit();
			}
			else
				change_set_reset();
			flight_end();
			entity_end_transaction(true);
			break;
		case XACT_EVENT_ABORT:
			lower_all(false);
			change_set_reset();
			sync_wait_forget();
			flight_end();
			entity_end_transaction(false);
			break;
		case XACT_EVENT_PRE_PREPARE:
			if (something_changed() && CK_GUARD("prepare"))
				refuse_prepare();
			change_set.prepared = true;
			break;
		case XACT_EVENT_PREPARE:
			change_set_reset();
			flight_end();
			entity_end_transaction(true);
			break;
		default:
			break;
	}
}

/*
 * The transaction's locks, and before them its invalidation messages, are out.
 * Only now may a session wait for cache servers: nobody else waits for it.
 */
static void
release_callback(ResourceReleasePhase phase, bool is_commit, bool is_top_level, void *arg)
{
	if (phase != RESOURCE_RELEASE_AFTER_LOCKS || !is_top_level || !is_commit)
		return;
	if (change_set.committed)
	{
		CK_STOP("unlocked");
		finish_commit();
	}
	sync_wait();
}

void
changes_install_callbacks(void)
{
	RegisterXactCallback(transaction_callback, NULL);
	RegisterSubXactCallback(subtransaction_callback, NULL);
	RegisterResourceReleaseCallback(release_callback, NULL);
}
