/*-------------------------------------------------------------------------
 *
 * load.c
 *	  Loading a document from its table.
 *
 * Every load runs as the relation's owner in the pinned context (pin.h), so
 * that what is cached does not depend on who asked first.  One case differs:
 * a relation that has been given row security is never cached, and is read as
 * the caller, whose rows are all that he may see.
 *
 * The query is planned once per entity and session, as a generic plan; that
 * of a partitioned table anew each time, because a generic plan locks all
 * partitions.  It names the relation, and a name can come to mean another
 * relation (or a view over it); so the relation is locked first, and the plan
 * is checked to be about it and nothing else.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/plancache.h"
#include "utils/snapmgr.h"

#include "debug.h"
#include "load.h"
#include "pin.h"

bool
load_prepare(Entity *entity)
{
	LockRelationOid(entity->relid, AccessShareLock);
	if (CK_GUARD("accept-invalidations"))
		AcceptInvalidationMessages();
	return entity->valid;
}

/* SELECT the document's columns of the row with the key $1, $2, … */
static char *
build_query(const Entity *entity)
{
	StringInfoData sql;
	ListCell   *cell;
	const char *separator = "";

	initStringInfo(&sql);
	if (entity->columns == NIL)
		appendStringInfoString(&sql, "SELECT pg_catalog.to_jsonb(t.*) FROM ");
	else
	{
		appendStringInfoString(&sql, "SELECT pg_catalog.to_jsonb(d.*) FROM (SELECT ");
		foreach(cell, entity->columns)
		{
			appendStringInfo(&sql, "%st.%s", separator, quote_identifier(lfirst(cell)));
			separator = ", ";
		}
		appendStringInfoString(&sql, " FROM ");
	}
	appendStringInfo(&sql, "%s AS t WHERE ",
					 quote_qualified_identifier(get_namespace_name(get_rel_namespace(entity->relid)),
												get_rel_name(entity->relid)));
	for (int i = 0; i < entity->shape.n; i++)
	{
		const KeyColumn *column = &entity->shape.column[i];
		bool		cast = (column->kind == KEY_ENUM);	/* "=" of enums takes no domains */

		appendStringInfo(&sql, "%st.%s%s%s OPERATOR(pg_catalog.=) $%d", i ? " AND " : "",
						 quote_identifier(NameStr(column->name)), cast ? "::" : "",
						 cast ? format_type_be_qualified(column->type) : "", i + 1);
	}
	if (entity->columns != NIL)
		appendStringInfoString(&sql, ") AS d");
	return sql.data;
}

/* Is the plan about the entity's relation, under whatever name? */
static void
check_plan(const Entity *entity, SPIPlanPtr plan)
{
	CachedPlanSource *source = linitial(SPI_plan_get_plan_sources(plan));

	if (list_length(source->relationOids) != 1 ||
		linitial_oid(source->relationOids) != entity->relid)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("the relation of cachekit entity \"%s\" was renamed while it was read",
						entity->name),
				 errhint("Try again.")));
}

static SPIPlanPtr
prepare_plan(const Entity *entity)
{
	Oid			types[KEY_MAX_COLUMNS];
	SPIPlanPtr	plan;

	for (int i = 0; i < entity->shape.n; i++)
		types[i] = entity->shape.column[i].type;
	plan = SPI_prepare_cursor(build_query(entity), entity->shape.n, types,
							  entity->partitioned ? CURSOR_OPT_CUSTOM_PLAN :
							  CURSOR_OPT_GENERIC_PLAN);
	if (plan == NULL)
		elog(ERROR, "could not prepare the query of entity \"%s\": %s",
			 entity->name, SPI_result_code_string(SPI_result));
	check_plan(entity, plan);
	SPI_keepplan(plan);
	return plan;
}

Jsonb *
load_document(Entity *entity, const Datum *values)
{
	MemoryContext caller = CurrentMemoryContext;
	Jsonb	   *document = NULL;
	Datum		args[KEY_MAX_COLUMNS];
	Pin			pin;
	int			result;

	if (entity->shape.n == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("entity \"%s\" cannot be read: %s", entity->name, entity->problem),
				 errhint("Attach it again with other key columns, or detach it.")));

	pin_begin(&pin, entity->row_security ? GetUserId() : entity->owner);
	SPI_connect();
	if (entity->plan == NULL)
		entity->plan = prepare_plan(entity);

	/* a volatile function sees what its own transaction has done so far */
	CommandCounterIncrement();
	PushActiveSnapshot(GetTransactionSnapshot());
	CK_STOP("load-snapshot");
	memcpy(args, values, sizeof(Datum) * entity->shape.n);
	result = SPI_execute_plan(entity->plan, args, NULL, true, 2);
	if (result != SPI_OK_SELECT)
		elog(ERROR, "could not read entity \"%s\": %s", entity->name,
			 SPI_result_code_string(result));
	check_plan(entity, entity->plan);
	if (SPI_processed > 1)
		ereport(ERROR,
				(errcode(ERRCODE_CARDINALITY_VIOLATION),
				 errmsg("more than one row of entity \"%s\" has the same key", entity->name),
				 errhint("A key must be unique: attach the relation with other key columns, or add a unique index.")));
	if (SPI_processed == 1)
	{
		bool		isnull;
		Datum		value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1,
										  &isnull);

		if (!isnull)
		{
			MemoryContext old = MemoryContextSwitchTo(caller);

			document = DatumGetJsonbPCopy(value);
			MemoryContextSwitchTo(old);
		}
	}
	PopActiveSnapshot();
	SPI_finish();
	pin_end(&pin);
	return document;
}
