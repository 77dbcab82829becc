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

#include "access/xact.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "catalog.h"
#include "debug.h"
#include "entity.h"
#include "record.h"
#include "sources.h"
#include "volatility.h"
#include "ttl.h"

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
columns_problem(Oid relid, List *columns, bool is_view)
{
	List	   *problems = NIL;

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
		/* functions behind a table's columns are believed; README says so */
		if (is_view && !att.attisdropped &&
			(columns == NIL || catalog_names_have(columns, NameStr(att.attname))))
			volatility_check_output(att.atttypid, &problems);
		if (problems != NIL)
			return psprintf("column \"%s\" cannot be cached: %s", NameStr(att.attname),
							(char *) linitial(problems));
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
	entity->many = row.many;
	entity->refresh = strcmp(row.on_change, "refresh") == 0;
	entity->refresh_absent = row.refresh_absent;
	entity->ttl_jitter = row.ttl_jitter;
	entity->max_value_size = row.max_value_size;
	entity->early_refresh = row.early_refresh;
	entity->encoded_name = key_percent_encode(row.name, strlen(row.name));
	entity->servers = palloc(sizeof(Oid) * (list_length(row.servers) + 1));
	entity->nservers = catalog_server_oids(row.servers, entity->servers, RECORD_MAX_SERVERS);
	entity->owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	entity->schema = ((Form_pg_class) GETSTRUCT(tuple))->relnamespace;
	entity->schema_hash = GetSysCacheHashValue1(NAMESPACEOID, ObjectIdGetDatum(entity->schema));
	entity->is_view = ((Form_pg_class) GETSTRUCT(tuple))->relkind == RELKIND_VIEW;
	entity->partitioned = ((Form_pg_class) GETSTRUCT(tuple))->relkind == RELKIND_PARTITIONED_TABLE;
	ReleaseSysCache(tuple);
	entity->slot = slot;
	entity->settings_word = settings_word;
	entity->problem = sources_shape(entity, relid, row.key, &entity->shape);
	if (entity->problem)
	{
		entity->shape.n = 0;	/* it cannot even be asked for */
		(void) sources_build(entity, &row);
	}
	else
	{
		entity->problem = sources_build(entity, &row);
		if (entity->problem == NULL)
			entity->problem = columns_problem(relid, row.columns, entity->is_view);
		if (!CK_GUARD("soundness"))
			entity->problem = NULL;
	}
	entity->sound = (entity->problem == NULL);
	/* what came in meanwhile found nothing to mark: look again next time */
	entity->valid = (entity_messages() == messages_before);
	entity->statement = GetCurrentStatementStartTimestamp();
	MemoryContextSwitchTo(old);
	return entity;
}
