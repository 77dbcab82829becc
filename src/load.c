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
 * partitions.  One for many keys returns the keys as well, and rows find their
 * keys by the text that names a key everywhere: the rows come in any order,
 * and what is equal for PostgreSQL has one text (key.h).  It names the relation, and a name can come to mean another
 * relation (or a view over it); so the relation is locked first, and the plan
 * is checked to be about it and nothing else.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/snapmgr.h"

#include "debug.h"
#include "key_set.h"
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

/* "t.column", cast where "=" takes no domains */
static void
append_column(StringInfo sql, const KeyColumn *column)
{
	appendStringInfo(sql, "t.%s", quote_identifier(NameStr(column->name)));
	if (column->kind == KEY_ENUM)
		appendStringInfo(sql, "::%s", format_type_be_qualified(column->type));
}

/* The relation as t; d: what the document is made of. */
static void
append_relation(StringInfo sql, const Entity *entity)
{
	ListCell   *cell;
	const char *separator = "";

	appendStringInfo(sql, "%s AS t",
					 quote_qualified_identifier(get_namespace_name(get_rel_namespace(entity->relid)),
												get_rel_name(entity->relid)));
	if (entity->columns == NIL)
		return;
	appendStringInfoString(sql, ", LATERAL (SELECT ");
	foreach(cell, entity->columns)
	{
		appendStringInfo(sql, "%st.%s", separator, quote_identifier(lfirst(cell)));
		separator = ", ";
	}
	appendStringInfoString(sql, ") AS d");
}

/* SELECT the document of the key $1, $2, … */
static char *
build_query(const Entity *entity)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "SELECT pg_catalog.to_jsonb(%s.*) FROM ",
					 entity->columns == NIL ? "t" : "d");
	append_relation(&sql, entity);
	for (int i = 0; i < entity->shape.n; i++)
	{
		appendStringInfoString(&sql, i == 0 ? " WHERE " : " AND ");
		append_column(&sql, &entity->shape.column[i]);
		appendStringInfo(&sql, " OPERATOR(pg_catalog.=) $%d", i + 1);
	}
	return sql.data;
}

/* SELECT keys and documents; $1, $2, … are arrays of the columns' values */
static char *
build_set_query(const Entity *entity)
{
	StringInfoData sql;
	const KeyShape *shape = &entity->shape;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT ");
	for (int i = 0; i < shape->n; i++)
		appendStringInfo(&sql, "t.%s, ", quote_identifier(NameStr(shape->column[i].name)));
	appendStringInfo(&sql, "pg_catalog.to_jsonb(%s.*) FROM ", entity->columns == NIL ? "t" : "d");
	if (shape->n == 1)
	{
		append_relation(&sql, entity);
		appendStringInfoString(&sql, " WHERE ");
		append_column(&sql, &shape->column[0]);
		appendStringInfoString(&sql, " OPERATOR(pg_catalog.=) ANY ($1)");
		return sql.data;
	}
	appendStringInfoString(&sql, "ROWS FROM (");
	for (int i = 0; i < shape->n; i++)
		appendStringInfo(&sql, "%spg_catalog.unnest($%d)", i ? ", " : "", i + 1);
	appendStringInfoString(&sql, ") AS k(");
	for (int i = 0; i < shape->n; i++)
		appendStringInfo(&sql, "%sc%d", i ? ", " : "", i + 1);
	appendStringInfoString(&sql, "), ");
	append_relation(&sql, entity);
	for (int i = 0; i < shape->n; i++)
	{
		appendStringInfoString(&sql, i == 0 ? " WHERE " : " AND ");
		append_column(&sql, &shape->column[i]);
		appendStringInfo(&sql, " OPERATOR(pg_catalog.=) k.c%d", i + 1);
	}
	return sql.data;
}

/*
 * Is the plan about the entity's relation, under whatever name?  What a view
 * reads, and what policies of row security do, comes after it.
 */
static void
check_plan(const Entity *entity, SPIPlanPtr plan)
{
	CachedPlanSource *source = linitial(SPI_plan_get_plan_sources(plan));
	bool		more = entity->is_view || entity->row_security;

	if (!list_member_oid(source->relationOids, entity->relid) ||
		(list_length(source->relationOids) > 1 && !more))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("the relation of cachekit entity \"%s\" was renamed while it was read",
						entity->name),
				 errhint("Try again.")));
}

static SPIPlanPtr
prepare_plan(const Entity *entity, char *query, const Oid *types)
{
	SPIPlanPtr	plan;

	plan = SPI_prepare_cursor(query, entity->shape.n, unconstify(Oid *, types),
							  entity->partitioned ? CURSOR_OPT_CUSTOM_PLAN :
							  CURSOR_OPT_GENERIC_PLAN);
	if (plan == NULL)
		elog(ERROR, "could not prepare the query of entity \"%s\": %s",
			 entity->name, SPI_result_code_string(SPI_result));
	check_plan(entity, plan);
	SPI_keepplan(plan);
	return plan;
}

static SPIPlanPtr
plan_of_one(Entity *entity)
{
	Oid			types[KEY_MAX_COLUMNS];

	if (entity->plan == NULL)
	{
		for (int i = 0; i < entity->shape.n; i++)
			types[i] = entity->shape.column[i].type;
		entity->plan = prepare_plan(entity, build_query(entity), types);
	}
	return entity->plan;
}

static SPIPlanPtr
plan_of_set(Entity *entity)
{
	Oid			types[KEY_MAX_COLUMNS];

	if (entity->set_plan == NULL)
	{
		for (int i = 0; i < entity->shape.n; i++)
			types[i] = get_array_type(entity->shape.column[i].type);
		entity->set_plan = prepare_plan(entity, build_set_query(entity), types);
	}
	return entity->set_plan;
}

static void
check_key(const Entity *entity)
{
	if (entity->shape.n == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("entity \"%s\" cannot be read: %s", entity->name, entity->problem),
				 errhint("Attach it again with other key columns, or detach it.")));
}

/*
 * Run a plan, which is about the entity, in a new snapshot.  The caller pops
 * it when he has read the result, where values may be kept out of line.
 */
static void
execute(Entity *entity, SPIPlanPtr plan, Datum *args, long limit)
{
	int			result;

	/* a volatile function sees what its own transaction has done so far */
	CommandCounterIncrement();
	PushActiveSnapshot(GetTransactionSnapshot());
	CK_STOP("load-snapshot");
	result = SPI_execute_plan(plan, args, NULL, true, limit);
	if (result != SPI_OK_SELECT)
		elog(ERROR, "could not read entity \"%s\": %s", entity->name,
			 SPI_result_code_string(result));
	check_plan(entity, plan);
}

static void
raise_ambiguous(const Entity *entity)
{
	ereport(ERROR,
			(errcode(ERRCODE_CARDINALITY_VIOLATION),
			 errmsg("more than one row of entity \"%s\" has the same key", entity->name),
			 errhint("A key must be unique: attach the relation with other key columns, or add a unique index.")));
}

/* The document in a column of a row of the result; NULL for NULL. */
static Jsonb *
document_of(uint64 row, int column)
{
	bool		isnull;
	Datum		value = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column,
									  &isnull);

	return isnull ? NULL : DatumGetJsonbP(value);
}

/* ---------- arrays of rows, as jsonb_agg() makes them ---------- */

static void
array_add(JsonbParseState **state, Jsonb *document)
{
	JsonbValue	value;

	if (*state == NULL)
		(void) pushJsonbValue(state, WJB_BEGIN_ARRAY, NULL);
	value.type = jbvNull;
	if (document != NULL)
	{
		value.type = jbvBinary;
		value.val.binary.data = &document->root;
		value.val.binary.len = VARSIZE(document) - VARHDRSZ;
	}
	(void) pushJsonbValue(state, WJB_ELEM, &value);
}

/* The array, in the memory context given; NULL if nothing was added. */
static Jsonb *
array_end(JsonbParseState **state, MemoryContext context)
{
	MemoryContext old;
	Jsonb	   *document;

	if (*state == NULL)
		return NULL;
	old = MemoryContextSwitchTo(context);
	document = JsonbValueToJsonb(pushJsonbValue(state, WJB_END_ARRAY, NULL));
	MemoryContextSwitchTo(old);
	return document;
}

static Jsonb *
copy_document(const Jsonb *document, MemoryContext context)
{
	if (document == NULL)
		return NULL;
	return memcpy(MemoryContextAlloc(context, VARSIZE(document)), document, VARSIZE(document));
}

/* ---------- one key, and many ---------- */

Jsonb *
load_document(Entity *entity, const Datum *values)
{
	MemoryContext caller = CurrentMemoryContext;
	Jsonb	   *document = NULL;
	Datum		args[KEY_MAX_COLUMNS];
	Pin			pin;

	check_key(entity);
	pin_begin(&pin, entity->row_security ? GetUserId() : entity->owner);
	SPI_connect();
	memcpy(args, values, sizeof(Datum) * entity->shape.n);
	execute(entity, plan_of_one(entity), args, entity->many ? 0 : 2);
	if (entity->many)
	{
		JsonbParseState *state = NULL;

		for (uint64 row = 0; row < SPI_processed; row++)
			array_add(&state, document_of(row, 1));
		document = array_end(&state, caller);
	}
	else if (SPI_processed > 1)
		raise_ambiguous(entity);
	else if (SPI_processed == 1)
		document = copy_document(document_of(0, 1), caller);
	PopActiveSnapshot();
	SPI_finish();
	pin_end(&pin);
	return document;
}

/* The arguments of the query: an array of the values of each column. */
static void
build_arrays(const Entity *entity, const LoadKey *const *keys, int n, Datum *args)
{
	Datum	   *column = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(Datum) * n);

	for (int c = 0; c < entity->shape.n; c++)
	{
		Oid			type = entity->shape.column[c].type;
		int16		len;
		bool		byval;
		char		align;

		get_typlenbyvalalign(type, &len, &byval, &align);
		for (int i = 0; i < n; i++)
			column[i] = keys[i]->values[c];
		args[c] = PointerGetDatum(construct_array(column, n, type, len, byval, align));
	}
	pfree(column);
}

/* The key of a row of the result, as a number in the set; -1: none that was asked for. */
static int
key_of_row(const Entity *entity, const KeySet *set, uint64 row)
{
	Datum		values[KEY_MAX_COLUMNS];
	KeyText		text;

	for (int c = 0; c < entity->shape.n; c++)
	{
		bool		isnull;

		values[c] = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, c + 1,
								  &isnull);
		if (isnull)
			return -1;
	}
	key_text(&entity->shape, values, &text);
	return key_set_find(set, &text);
}

void
load_documents(Entity *entity, const LoadKey *keys, int n, Jsonb **documents)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext work;
	KeyText    *texts;
	KeySet	   *set;
	int		   *number;			/* of each key, in the set */
	const LoadKey **different;	/* keys, by number */
	Jsonb	  **found;			/* documents, by number */
	JsonbParseState **state;	/* the same, of entities with many rows for a key */
	Datum		args[KEY_MAX_COLUMNS];
	Pin			pin;

	check_key(entity);
	if (n == 0)
		return;
	work = AllocSetContextCreate(caller, "cachekit load", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(work);
	texts = MemoryContextAllocHuge(work, sizeof(KeyText) * n);
	number = MemoryContextAllocHuge(work, sizeof(int) * n);
	different = MemoryContextAllocHuge(work, sizeof(LoadKey *) * n);
	found = MemoryContextAllocHuge(work, sizeof(Jsonb *) * n);
	state = MemoryContextAllocHuge(work, sizeof(JsonbParseState *) * n);
	set = key_set_create(n);
	for (int i = 0; i < n; i++)
	{
		key_text(&entity->shape, keys[i].values, &texts[i]);
		number[i] = key_set_add(set, &texts[i]);
		different[number[i]] = &keys[i];
		found[number[i]] = NULL;
		state[number[i]] = NULL;
	}
	build_arrays(entity, different, set->n, args);

	pin_begin(&pin, entity->row_security ? GetUserId() : entity->owner);
	SPI_connect();
	execute(entity, plan_of_set(entity), args, 0);
	for (uint64 row = 0; row < SPI_processed; row++)
	{
		int			i = key_of_row(entity, set, row);
		Jsonb	   *document;

		if (i < 0)
			continue;
		document = document_of(row, entity->shape.n + 1);
		if (entity->many)
			array_add(&state[i], document);
		else if (found[i] != NULL)
			raise_ambiguous(entity);
		else
			found[i] = copy_document(document, caller);
	}
	for (int i = 0; i < set->n && entity->many; i++)
		found[i] = array_end(&state[i], caller);
	PopActiveSnapshot();
	SPI_finish();
	pin_end(&pin);
	for (int i = 0; i < n; i++)
		documents[i] = found[number[i]];
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(work);
}
