/*-------------------------------------------------------------------------
 *
 * triggers.c
 *	  The trigger functions: from a changed row to the change set.
 *
 * cachekit.on_row_change(entity) is an AFTER ROW trigger, cachekit.on_truncate
 * (entity) an AFTER TRUNCATE one.  They stay executable by PUBLIC, because an
 * owner's CREATE TABLE … PARTITION OF and ATTACH PARTITION need that; so a
 * trigger on a relation that is not a member of the entity it names does
 * nothing, or anybody could flush a stranger's entity.
 *
 * Key columns are found by name in the row's own relation: a partition may
 * order its columns differently.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "catalog/partition.h"
#include "commands/trigger.h"
#include "executor/tuptable.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "catalog.h"
#include "changes.h"
#include "debug.h"
#include "entity.h"
#include "shmem.h"

PG_FUNCTION_INFO_V1(ck_on_row_change);
PG_FUNCTION_INFO_V1(ck_on_truncate);

/* What a statement's trigger calls have in common, kept in fn_extra. */
typedef struct TriggerState
{
	uint64		epoch;			/* entity_epoch() when this was made */
	Oid			relid;			/* the row's relation */
	Entity	   *entity;			/* NULL: not a member of what it names */
	bool		unknown;		/* there is no entity of that name */
	bool		by_key;			/* false: any change is one of the whole entity */
	AttrNumber	key[KEY_MAX_COLUMNS];	/* key columns in the row's relation */
	bool	   *in_document;	/* by attribute - 1: a change of it counts */
} TriggerState;

/* Which columns' changes change the document? */
static void
find_document_columns(TriggerState *state, Relation rel, MemoryContext context)
{
	TupleDesc	desc = RelationGetDescr(rel);
	ListCell   *cell;
	bool		all = (state->entity->columns == NIL);

	state->in_document = MemoryContextAllocZero(context, desc->natts);
	foreach(cell, state->entity->columns)
	{
		AttrNumber	attnum = get_attnum(RelationGetRelid(rel), lfirst(cell));

		/* a column that is computed from others, or not there: all count */
		if (attnum <= 0 || compat_is_virtual(TupleDescAttr(desc, attnum - 1)))
			all = true;
		else
			state->in_document[attnum - 1] = true;
	}
	for (int i = 0; i < state->entity->shape.n; i++)
		state->in_document[state->key[i] - 1] = true;
	if (all)
		memset(state->in_document, true, desc->natts);
}

/*
 * A trigger of ours that names an entity which cannot be found: the catalog is
 * unreadable, or out of step.  Whatever its relation may be cached as changes;
 * a stranger's relation is cached as nothing.
 */
static void
add_unknown(Oid relid)
{
	ListCell   *cell;

	if (!catalog_exists())
	{
		changes_add_database();
		return;
	}
	if (!shmem_ready())
		return;
	foreach(cell, lcons_oid(relid, get_partition_ancestors(relid)))
	{
		if (slot_find(MyDatabaseId, lfirst_oid(cell)) != NO_SLOT)
			changes_add_entity(lfirst_oid(cell), false);
	}
}

static TriggerState *
trigger_state(FunctionCallInfo fcinfo, TriggerData *trigdata)
{
	TriggerState *state = fcinfo->flinfo->fn_extra;
	Relation	rel = trigdata->tg_relation;
	MemoryContext context = fcinfo->flinfo->fn_mcxt;

	if (state && state->epoch == entity_epoch() && state->relid == RelationGetRelid(rel))
		return state;

	if (state == NULL)
		state = fcinfo->flinfo->fn_extra = MemoryContextAllocZero(context, sizeof(TriggerState));
	state->relid = RelationGetRelid(rel);
	state->entity = entity_by_name(trigdata->tg_trigger->tgargs[0]);
	state->by_key = false;
	state->unknown = (state->entity == NULL);
	if (state->entity && !entity_has_member(state->entity, state->relid) &&
		CK_GUARD("trigger-base"))
		state->entity = NULL;
	if (state->entity && state->entity->shape.n > 0)
	{
		state->by_key = true;
		for (int i = 0; i < state->entity->shape.n; i++)
		{
			state->key[i] = get_attnum(state->relid,
									   NameStr(state->entity->shape.column[i].name));
			if (state->key[i] <= 0)
				state->by_key = false;
		}
		if (state->by_key)
			find_document_columns(state, rel, context);
	}
	state->epoch = entity_epoch();
	return state;
}

/* Two values with one image, without detoasting what is one stored value. */
static bool
same_image(Datum a, Datum b, Form_pg_attribute att)
{
	if (att->attlen == -1 && VARATT_IS_EXTERNAL(DatumGetPointer(a)) &&
		VARATT_IS_EXTERNAL(DatumGetPointer(b)) &&
		VARSIZE_EXTERNAL(DatumGetPointer(a)) == VARSIZE_EXTERNAL(DatumGetPointer(b)) &&
		memcmp(DatumGetPointer(a), DatumGetPointer(b), VARSIZE_EXTERNAL(DatumGetPointer(a))) == 0)
		return true;
	return datum_image_eq(a, b, att->attbyval, att->attlen);
}

/* Does an UPDATE leave the document as it was, to the byte? */
static bool
same_document(const TriggerState *state, TupleTableSlot *old, TupleTableSlot *new)
{
	TupleDesc	desc = old->tts_tupleDescriptor;

	slot_getallattrs(old);
	slot_getallattrs(new);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (!state->in_document[i] || att->attisdropped)
			continue;
		if (old->tts_isnull[i] != new->tts_isnull[i])
			return false;
		if (!old->tts_isnull[i] && !same_image(old->tts_values[i], new->tts_values[i], att))
			return false;
	}
	return true;
}

/* The key of a row; false when a column of it is NULL: nobody can fetch it. */
static bool
row_key(const TriggerState *state, TupleTableSlot *row, KeyText *key)
{
	Datum		values[KEY_MAX_COLUMNS];

	for (int i = 0; i < state->entity->shape.n; i++)
	{
		bool		isnull;

		values[i] = slot_getattr(row, state->key[i], &isnull);
		if (isnull)
			return false;
	}
	key_text(&state->entity->shape, values, key);
	return true;
}

/* Both keys of an updated row: nearly always they are one. */
static void
add_update(const TriggerState *state, TupleTableSlot *old, TupleTableSlot *new)
{
	KeyText		old_key;
	KeyText		new_key;
	bool		has_old = row_key(state, old, &old_key) && CK_GUARD("old-key");
	bool		has_new = row_key(state, new, &new_key);

	if (has_old)
		changes_add_key(state->entity, &old_key);
	if (has_new && !(has_old && old_key.len == new_key.len &&
					 memcmp(old_key.text, new_key.text, new_key.len) == 0))
		changes_add_key(state->entity, &new_key);
}

static void
add_row(const TriggerState *state, TupleTableSlot *row)
{
	KeyText		key;

	if (row_key(state, row, &key))
		changes_add_key(state->entity, &key);
}

Datum
ck_on_row_change(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	TriggerState *state;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(trigdata->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigdata->tg_event) || trigdata->tg_trigger->tgnargs != 1)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("cachekit.on_row_change must be an AFTER ROW trigger with the name of an entity as its argument"),
				 errhint("SELECT cachekit.attach(...) makes such triggers.")));

	state = trigger_state(fcinfo, trigdata);
	if (state->unknown)
		add_unknown(state->relid);
	if (state->entity == NULL || changes_include_entity(state->entity->relid))
		return PointerGetDatum(NULL);
	if (!state->by_key)
		changes_add_entity(state->entity->relid, false);
	else if (!TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event))
		add_row(state, trigdata->tg_trigslot);
	else if (!same_document(state, trigdata->tg_trigslot, trigdata->tg_newslot))
		add_update(state, trigdata->tg_trigslot, trigdata->tg_newslot);
	return PointerGetDatum(NULL);
}

Datum
ck_on_truncate(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	Entity	   *entity;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BY_TRUNCATE(trigdata->tg_event) ||
		trigdata->tg_trigger->tgnargs != 1)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("cachekit.on_truncate must be a TRUNCATE trigger with the name of an entity as its argument"),
				 errhint("SELECT cachekit.attach(...) makes such triggers.")));

	entity = entity_by_name(trigdata->tg_trigger->tgargs[0]);
	if (entity == NULL)
		add_unknown(RelationGetRelid(trigdata->tg_relation));
	else if (entity_has_member(entity, RelationGetRelid(trigdata->tg_relation)) ||
			 !CK_GUARD("trigger-base"))
		changes_add_entity(entity->relid, false);
	return PointerGetDatum(NULL);
}
