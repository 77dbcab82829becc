/*-------------------------------------------------------------------------
 *
 * entity_build.c
 *	  Building a session's copy of an entity from the catalogs.
 *
 * Nothing is locked: a trigger must not wait for, or hold, more than its
 * statement does.  So invalidation messages that come in while a copy is being
 * built make it old at once.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "catalog/pg_attribute.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "catalog.h"
#include "debug.h"
#include "entity.h"
#include "members.h"
#include "record.h"
#include "ttl.h"

/* Fill in the key's columns; NULL, or what is wrong with them. */
static char *
build_shape(Entity *entity, List *names)
{
	Oid			relid = entity->relid;
	KeyShape   *shape = &entity->shape;
	TupleDesc	row;
	ListCell   *cell;
	int			n = 0;
	char	   *encoded = key_percent_encode(entity->name, strlen(entity->name));

	shape->entity = entity->name;
	shape->encoded_len = strlen(encoded);
	shape->n = list_length(names);
	shape->column = palloc0(sizeof(KeyColumn) * shape->n);
	row = CreateTemplateTupleDesc(shape->n);
	foreach(cell, names)
	{
		KeyColumn  *column = &shape->column[n++];
		HeapTuple	tuple = SearchSysCacheAttName(relid, lfirst(cell));
		Oid			type;
		Oid			collation;
		Oid			input;

		if (!HeapTupleIsValid(tuple))
			return psprintf("it has no column \"%s\"", (char *) lfirst(cell));
		column->attnum = ((Form_pg_attribute) GETSTRUCT(tuple))->attnum;
		type = ((Form_pg_attribute) GETSTRUCT(tuple))->atttypid;
		collation = ((Form_pg_attribute) GETSTRUCT(tuple))->attcollation;
		ReleaseSysCache(tuple);
		namestrcpy(&column->name, lfirst(cell));
		column->type = getBaseType(type);
		column->kind = key_kind(column->type, collation);
		if (column->kind == KEY_UNSUPPORTED && CK_GUARD("key-types"))
			return psprintf("its key column \"%s\" is of type %s, which is no key type",
							(char *) lfirst(cell), format_type_be(type));
		if (column->kind == KEY_UNSUPPORTED)
			column->kind = KEY_TEXT;	/* only with the guard off */
		getTypeInputInfo(column->type, &input, &column->ioparam);
		fmgr_info_cxt(input, &column->input, entity->context);
		TupleDescInitEntry(row, (AttrNumber) n, lfirst(cell), column->type, -1, 0);
	}
	if (shape->n > 1)
		shape->row_typmod = BlessTupleDesc(row)->tdtypmod;
	return NULL;
}

/*
 * Does the text of a type's values depend on what other objects are called?
 * Renaming these changes no row of ours, and a role may even be renamed from
 * another database.
 */
static bool
type_names_objects(Oid type)
{
	Oid			element;

	check_stack_depth();
	type = getBaseType(type);
	switch (type)
	{
		case REGPROCOID:
		case REGPROCEDUREOID:
		case REGOPEROID:
		case REGOPERATOROID:
		case REGCLASSOID:
		case REGCOLLATIONOID:
		case REGTYPEOID:
		case REGROLEOID:
		case REGNAMESPACEOID:
		case REGCONFIGOID:
		case REGDICTIONARYOID:
		case ACLITEMOID:
			return true;
	}
	element = get_element_type(type);
	if (OidIsValid(element))
		return type_names_objects(element);
	if (get_typtype(type) == TYPTYPE_RANGE)
		return type_names_objects(get_range_subtype(type));
	if (get_typtype(type) == TYPTYPE_COMPOSITE)
	{
		TupleDesc	desc = lookup_rowtype_tupdesc_copy(type, -1);

		for (int i = 0; i < desc->natts; i++)
		{
			if (!TupleDescAttr(desc, i)->attisdropped &&
				type_names_objects(TupleDescAttr(desc, i)->atttypid))
				return true;
		}
	}
	return false;
}

/* Is there a column in the document that may change without a change of the row? */
static char *
columns_problem(Oid relid, List *columns)
{
	for (AttrNumber attnum = 1;; attnum++)
	{
		HeapTuple	tuple = SearchSysCache2(ATTNUM, ObjectIdGetDatum(relid),
											Int16GetDatum(attnum));
		FormData_pg_attribute att;

		if (!HeapTupleIsValid(tuple))
			return NULL;
		att = *(Form_pg_attribute) GETSTRUCT(tuple);
		ReleaseSysCache(tuple);
		if (!att.attisdropped && (columns == NIL || catalog_names_have(columns, NameStr(att.attname))) &&
			type_names_objects(att.atttypid))
			return psprintf("column \"%s\" shows names of objects, which change without a change of the row",
							NameStr(att.attname));
	}
}

Entity *
entity_build(Oid relid, int slot, uint64 settings_word)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "cachekit entity",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	Entity	   *entity = palloc0(sizeof(Entity));
	uint64		messages_before = entity_messages();
	EntityRow	row;
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));

	if (!HeapTupleIsValid(tuple) || !catalog_read(relid, &row))
	{
		if (HeapTupleIsValid(tuple))
			ReleaseSysCache(tuple);
		MemoryContextSwitchTo(old);
		MemoryContextDelete(context);
		return NULL;
	}
	entity->relid = relid;
	entity->context = context;
	entity->name = row.name;
	entity->ttl = ttl_microseconds(row.ttl, TTL_DEFAULT);
	entity->negative_ttl = ttl_microseconds(row.negative_ttl, 0);
	entity->local = row.local;
	entity->columns = row.columns;
	entity->encoded_name = key_percent_encode(row.name, strlen(row.name));
	entity->servers = palloc(sizeof(Oid) * (list_length(row.servers) + 1));
	entity->nservers = catalog_server_oids(row.servers, entity->servers, RECORD_MAX_SERVERS);
	entity->owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	entity->schema = ((Form_pg_class) GETSTRUCT(tuple))->relnamespace;
	entity->schema_hash = GetSysCacheHashValue1(NAMESPACEOID, ObjectIdGetDatum(entity->schema));
	entity->partitioned = ((Form_pg_class) GETSTRUCT(tuple))->relkind == RELKIND_PARTITIONED_TABLE;
	ReleaseSysCache(tuple);
	entity->slot = slot;
	entity->settings_word = settings_word;
	entity->members = members_of(relid, NoLock);
	entity->problem = build_shape(entity, row.key);
	if (entity->problem)
		entity->shape.n = 0;	/* it cannot even be asked for */
	else
	{
		entity->problem = members_problem(row.name, entity->members, &entity->row_security);
		if (entity->problem == NULL)
			entity->problem = columns_problem(relid, row.columns);
		if (!CK_GUARD("soundness"))
			entity->problem = NULL;
	}
	entity->sound = (entity->problem == NULL);
	/* what came in meanwhile found nothing to mark: look again next time */
	entity->valid = (entity_messages() == messages_before);
	MemoryContextSwitchTo(old);
	return entity;
}
