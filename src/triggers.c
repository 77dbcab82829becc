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
#include "utils/typcache.h"

#include "catalog.h"
#include "changes.h"
#include "debug.h"
#include "entity.h"
#include "shmem.h"
#include "via.h"

PG_FUNCTION_INFO_V1(ck_on_row_change);
PG_FUNCTION_INFO_V1(ck_on_truncate);

/* How the rows of one relation lead to keys, by one source of the entity. */
typedef struct TriggerSource
{
	EntitySource *source;
	bool		by_key;			/* false: any change is one of the whole entity */
	AttrNumber	key[KEY_MAX_COLUMNS];	/* key columns in the row's relation */
	bool	   *in_document;	/* by attribute - 1: a change of it counts */
	TupleDesc	base;			/* `via`: the base's row type */
	AttrNumber *attribute;		/* of the row's relation, for each that the query uses of the base's */
} TriggerSource;

/* What a statement's trigger calls have in common, kept in fn_extra. */
typedef struct TriggerState
{
	uint64		epoch;			/* entity_epoch() when this was made */
	Oid			relid;			/* the row's relation */
	Entity	   *entity;			/* NULL: not a member of what it names */
	bool		unknown;		/* there is no entity of that name */
	int			n;
	TriggerSource *sources;
} TriggerState;

/* Which columns' changes change the document? */
static void
find_document_columns(TriggerSource *state, Relation rel, MemoryContext context)
{
	TupleDesc	desc = RelationGetDescr(rel);
	const Bitmapset *columns = state->source->columns;
	bool		all = (columns == NULL);
	int			attnum = -1;

	state->in_document = MemoryContextAllocZero(context, desc->natts);
	while (!all && (attnum = bms_next_member(columns, attnum)) >= 0)
	{
		char	   *name = attnum > 0 ? get_attname(state->source->base, attnum, true) : NULL;
		AttrNumber	here = name ? get_attnum(RelationGetRelid(rel), name) : InvalidAttrNumber;

		/* a column that is computed from others, or not there: all count */
		if (here <= 0 || compat_is_virtual(TupleDescAttr(desc, here - 1)))
			all = true;
		else
			state->in_document[here - 1] = true;
	}
	if (all)
		memset(state->in_document, true, desc->natts);
}

/* By columns of the row: where they are in this relation. */
static void
find_key_columns(TriggerSource *state, Relation rel)
{
	const KeyShape *shape = &state->source->shape;

	state->by_key = (shape->n > 0);
	for (int i = 0; i < shape->n; i++)
	{
		state->key[i] = get_attnum(RelationGetRelid(rel), NameStr(shape->column[i].name));
		if (state->key[i] <= 0)
			state->by_key = false;
	}
}

/* By a query: what it uses of the row, and where that is in this relation. */
static void
find_fields(TriggerSource *state, Relation rel, MemoryContext context)
{
	const Via  *via = state->source->via;
	MemoryContext old = MemoryContextSwitchTo(context);

	state->by_key = (via->problem == NULL);
	state->base = lookup_rowtype_tupdesc_copy(get_rel_type_id(state->source->base), -1);
	state->attribute = palloc0(sizeof(AttrNumber) * state->base->natts);
	for (int i = 0; i < state->base->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(state->base, i);

		if (att->attisdropped || !(via->whole_row || bms_is_member(i + 1, via->fields)))
			continue;
		state->attribute[i] = get_attnum(RelationGetRelid(rel), NameStr(att->attname));
		if (state->attribute[i] <= 0 ||
			compat_is_virtual(TupleDescAttr(RelationGetDescr(rel), state->attribute[i] - 1)))
			state->by_key = false;
	}
	MemoryContextSwitchTo(old);
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
	foreach(cell, entities_of_relation(relid))
		changes_add_entity(lfirst_oid(cell), false);
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
	state->unknown = (state->entity == NULL);
	if (state->entity && !entity_has_member(state->entity, state->relid) &&
		CK_GUARD("trigger-base"))
		state->entity = NULL;
	state->n = 0;
	state->sources = NULL;
	for (int i = 0; state->entity && i < state->entity->nsources; i++)
	{
		EntitySource *source = &state->entity->sources[i];
		TriggerSource *here;

		if (!list_member_oid(source->members, state->relid) && CK_GUARD("trigger-base"))
			continue;
		if (state->sources == NULL)
			state->sources = MemoryContextAllocZero(context, sizeof(TriggerSource) *
													state->entity->nsources);
		here = &state->sources[state->n++];
		here->source = source;
		if (source->via)
			find_fields(here, rel, context);
		else
			find_key_columns(here, rel);
		find_document_columns(here, rel, context);
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
same_document(const TriggerSource *state, TupleTableSlot *old, TupleTableSlot *new)
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
row_key(const TriggerSource *state, TupleTableSlot *row, KeyText *key)
{
	Datum		values[KEY_MAX_COLUMNS];

	for (int i = 0; i < state->source->shape.n; i++)
	{
		bool		isnull;

		values[i] = slot_getattr(row, state->key[i], &isnull);
		if (isnull)
			return false;
	}
	key_text(&state->source->shape, values, key);
	return true;
}

/* Both keys of an updated row: nearly always they are one. */
static void
add_update(Entity *entity, const TriggerSource *state, TupleTableSlot *old, TupleTableSlot *new)
{
	KeyText		old_key;
	KeyText		new_key;
	bool		has_old = row_key(state, old, &old_key) && CK_GUARD("old-key");
	bool		has_new = row_key(state, new, &new_key);

	if (has_old)
		changes_add_key(entity, &old_key);
	if (has_new && !(has_old && old_key.len == new_key.len &&
					 memcmp(old_key.text, new_key.text, new_key.len) == 0))
		changes_add_key(entity, &new_key);
}

/* A row whose keys a query tells: what that uses of it, the rest is NULL. */
static void
add_link(Entity *entity, const TriggerSource *state, TupleTableSlot *row)
{
	TupleDesc	desc = state->base;
	Datum	   *values = palloc0(sizeof(Datum) * desc->natts);
	bool	   *nulls = palloc(sizeof(bool) * desc->natts);
	HeapTuple	tuple;
	Datum		composite;

	for (int i = 0; i < desc->natts; i++)
	{
		nulls[i] = true;
		if (state->attribute[i] > 0)
			values[i] = slot_getattr(row, state->attribute[i], &nulls[i]);
	}
	tuple = heap_form_tuple(desc, values, nulls);
	composite = heap_copy_tuple_as_datum(tuple, desc);
	changes_add_row(entity, state->source->base, DatumGetHeapTupleHeader(composite));
	pfree(DatumGetPointer(composite));
	heap_freetuple(tuple);
	pfree(values);
	pfree(nulls);
}

/* What one source makes of an event. */
static void
add_event(Entity *entity, const TriggerSource *state, TriggerData *trigdata)
{
	TupleTableSlot *old = trigdata->tg_trigslot;
	TupleTableSlot *new = TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event) ? trigdata->tg_newslot : NULL;
	KeyText		key;

	if (new && same_document(state, old, new))
		return;
	if (!state->by_key)
		changes_add_entity(entity->relid, false);
	else if (state->source->via)
	{
		if (CK_GUARD("old-key") || new == NULL)
			add_link(entity, state, old);
		if (new)
			add_link(entity, state, new);
	}
	else if (new)
		add_update(entity, state, old, new);
	else if (row_key(state, old, &key))
		changes_add_key(entity, &key);
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
	if (state->n == 0)
		changes_add_entity(state->entity->relid, false);
	for (int i = 0; i < state->n; i++)
		add_event(state->entity, &state->sources[i], trigdata);
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
