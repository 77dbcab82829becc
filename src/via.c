/*-------------------------------------------------------------------------
 *
 * via.c
 *	  A `via` query: from a changed row ($1) to the keys of an entity.
 *
 * The query is run inside another, which casts its columns to the key's types;
 * so a value has the key's one text form, whatever type the query returns.  It
 * is run as the owner of the entity, in the pinned context.
 *
 * What its names mean is settled when it is given: the server itself prints it
 * again with every table, function and operator qualified, because a table or
 * operator that somebody makes later, in a schema that comes first, must not
 * take the place of what was meant.
 *
 * It is analysed each time a session builds its copy of the entity, because
 * tables are renamed and views replaced.  That is done in a subtransaction
 * which is always rolled back: a writer must not keep locks on tables that it
 * does not write, nor wait for them.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/analyze.h"
#include "parser/parser.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/ruleutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "debug.h"
#include "members.h"
#include "pin.h"
#include "subtransaction.h"
#include "via.h"

/* The type's name with its schema, and without the typmod that some names imply. */
char *
via_qualified_type(Oid type)
{
	HeapTuple	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	Form_pg_type form;
	char	   *name;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for type %u", type);
	form = (Form_pg_type) GETSTRUCT(tuple);
	name = quote_qualified_identifier(get_namespace_name(form->typnamespace),
									  NameStr(form->typname));
	ReleaseSysCache(tuple);
	return name;
}

/* SELECT v.k1::type, … FROM (the query) AS v(k1, …) */
static char *
wrapped(const Entity *entity, const char *query)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT ");
	for (int i = 0; i < entity->shape.n; i++)
		appendStringInfo(&sql, "%sv.k%d::%s", i ? ", " : "", i + 1,
						 via_qualified_type(entity->shape.column[i].type));
	appendStringInfo(&sql, " FROM (%s\n) AS v(", query);
	for (int i = 0; i < entity->shape.n; i++)
		appendStringInfo(&sql, "%sk%d", i ? ", " : "", i + 1);
	appendStringInfoString(&sql, ")");
	return sql.data;
}

/* ---------- analysis ---------- */

/* What of $1 is used: some of its columns, or all. */
static bool
find_fields(Node *node, Via *via)
{
	if (node == NULL)
		return false;
	if (IsA(node, FieldSelect) && IsA(((FieldSelect *) node)->arg, Param))
	{
		via->fields = bms_add_member(via->fields, ((FieldSelect *) node)->fieldnum);
		return false;
	}
	if (IsA(node, Param) && ((Param *) node)->paramkind == PARAM_EXTERN)
		via->whole_row = true;
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, find_fields, via, 0);
	return expression_tree_walker(node, find_fields, via);
}

static void
check_query(const Entity *entity, Query *query)
{
	RangeTblEntry *inner = linitial_node(RangeTblEntry, query->rtable);
	int			columns = 0;
	ListCell   *cell;

	foreach(cell, inner->subquery->targetList)
		columns += !lfirst_node(TargetEntry, cell)->resjunk;
	if (columns != entity->shape.n)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("the \"via\" query must return the key of entity \"%s\", which has %d column(s); it returns %d",
						entity->name, entity->shape.n, columns)));
	if (query->hasModifyingCTE || inner->subquery->hasModifyingCTE)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("the \"via\" query of entity \"%s\" must not write", entity->name)));
}

/* An error of the query is shown in it, not in the command that gave it. */
static void
show_query(void *arg)
{
	int			position = geterrposition();

	if (position > 0)
	{
		errposition(0);
		internalerrposition(position);
		internalerrquery(arg);
	}
}

/* Parse and analyse; errors are thrown. */
static void
analyse(const Entity *entity, Oid base, Via *via)
{
	ErrorContextCallback context = {error_context_stack, show_query, NULL};
	Oid			type = get_rel_type_id(base);
	char	   *text = wrapped(entity, via->query);
	List	   *parsed;
	Query	   *query;

	context.arg = text;
	error_context_stack = &context;
	parsed = raw_parser(text, RAW_PARSE_DEFAULT);
	if (list_length(parsed) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("the \"via\" query must be one SELECT, without a semicolon")));
	query = parse_analyze_fixedparams(linitial_node(RawStmt, parsed), text, &type, 1, NULL);
	if (query->commandType != CMD_SELECT || query->utilityStmt != NULL ||
		list_length(query->rtable) < 1 ||
		linitial_node(RangeTblEntry, query->rtable)->rtekind != RTE_SUBQUERY)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("the \"via\" query must be one SELECT")));
	check_query(entity, query);
	(void) find_fields((Node *) query, via);
	error_context_stack = context.previous;
	via->analysis = query_analyse(query);
}

char *
via_qualify(const Entity *entity, Oid base, const char *query)
{
	Oid			type = get_rel_type_id(base);
	Via		   *via = palloc0(sizeof(Via));
	Query	   *analysed;
	char	   *text;
	int			nest_level;

	/* inside the other query: it is one, and returns what it must */
	via->query = pstrdup(query);
	analyse(entity, base, via);
	if (!CK_GUARD("via-names"))
		return via->query;

	analysed = parse_analyze_fixedparams(linitial_node(RawStmt, raw_parser(query, RAW_PARSE_DEFAULT)),
										 query, &type, 1, NULL);
	nest_level = NewGUCNestLevel();
	pin_set("search_path", "pg_catalog, pg_temp");
	text = pg_get_querydef(analysed, false);
	AtEOXact_GUC(false, nest_level);
	return text + strspn(text, " \n");
}

/* For add_dependency(): it runs, and returns nothing for a row of NULLs, or something. */
static void
try_run(Entity *entity, Oid base, Via *via)
{
	TupleDesc	desc = lookup_rowtype_tupdesc_copy(get_rel_type_id(base), -1);
	Datum	   *values = palloc0(sizeof(Datum) * desc->natts);
	bool	   *nulls = palloc(sizeof(bool) * desc->natts);
	HeapTuple	row;

	memset(nulls, true, sizeof(bool) * desc->natts);
	row = heap_form_tuple(desc, values, nulls);
	SPI_connect();
	PG_TRY();
	{
		via_run(entity, base, via, DatumGetHeapTupleHeader(heap_copy_tuple_as_datum(row, desc)),
				NULL);
	}
	PG_FINALLY();
	{
		if (via->plan)
			SPI_freeplan(via->plan);
		via->plan = NULL;
	}
	PG_END_TRY();
	SPI_finish();
}

/* analyse() as the owner, with its errors as a problem; nothing stays locked. */
static void
analyse_guarded(const Entity *entity, Oid base, Via *via)
{
	ErrorData  *volatile error = NULL;
	Subtransaction sub;
	Pin			pin;

	subtransaction_begin(&sub);
	MemoryContextSwitchTo(sub.context);
	PG_TRY();
	{
		pin_begin(&pin, entity->owner);
		pin_set("lock_timeout", "1");	/* writers do not wait for DDL on other tables */
		analyse(entity, base, via);
		pin_end(&pin);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(sub.context);
		error = CopyErrorData();
		FlushErrorState();
	}
	PG_END_TRY();
	subtransaction_rollback(&sub);
	if (error == NULL)
		return;
	if (error->sqlerrcode == ERRCODE_QUERY_CANCELED)
		ReThrowError(error);
	via->passing = error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ||
		error->sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED ||
		ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_INSUFFICIENT_RESOURCES;
	via->problem = psprintf("its \"via\" query for %s fails: %s",
							get_rel_name(base) ? get_rel_name(base) : "a table that is gone",
							error->message);
}

Via *
via_make(const Entity *entity, Oid base, const char *query, bool must)
{
	Via		   *via = palloc0(sizeof(Via));
	Pin			pin;

	via->query = pstrdup(query);
	if (must)
	{
		pin_begin(&pin, entity->owner);
		analyse(entity, base, via);
		try_run(unconstify(Entity *, entity), base, via);
		pin_end(&pin);
	}
	else if (IsInParallelMode())
	{
		via->passing = true;
		via->problem = "its \"via\" queries cannot be analysed in a parallel query";
	}
	else
		analyse_guarded(entity, base, via);
	return via;
}

/* ---------- running ---------- */

static void
prepare(Entity *entity, Oid base, Via *via)
{
	Oid			type = get_rel_type_id(base);

	via->plan = SPI_prepare(wrapped(entity, via->query), 1, &type);
	if (via->plan == NULL)
		elog(ERROR, "could not prepare the \"via\" query of entity \"%s\": %s", entity->name,
			 SPI_result_code_string(SPI_result));
	SPI_keepplan(via->plan);
}

bool
via_lock(const Via *via)
{
	List	   *relids = list_copy(via->analysis->views);
	ListCell   *cell;

	foreach(cell, via->analysis->reads)
	{
		Oid			relid = ((ViewRead *) lfirst(cell))->relid;

		relids = list_concat(relids, members_of(relid, NoLock));
	}
	foreach(cell, relids)
	{
		if (!ConditionalLockRelationOid(lfirst_oid(cell), AccessShareLock))
			return false;
	}
	list_free(relids);
	return true;
}

void
via_run(Entity *entity, Oid base, Via *via, HeapTupleHeader row, ViaVisitor visit)
{
	Datum		arg = HeapTupleHeaderGetDatum(row);
	int			result;
	Snapshot	snapshot;

	if (via->plan == NULL)
		prepare(entity, base, via);
	CommandCounterIncrement();
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	result = SPI_execute_snapshot(via->plan, &arg, NULL, snapshot, InvalidSnapshot, true, false,
								  0);
	UnregisterSnapshot(snapshot);
	if (result != SPI_OK_SELECT)
		elog(ERROR, "could not run the \"via\" query of entity \"%s\": %s", entity->name,
			 SPI_result_code_string(result));
	for (uint64 i = 0; visit && i < SPI_processed; i++)
	{
		Datum		values[KEY_MAX_COLUMNS];
		bool		isnull = false;

		for (int column = 0; column < entity->shape.n && !isnull; column++)
			values[column] = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc,
										   column + 1, &isnull);
		if (!isnull)
			visit(entity, values);
	}
	SPI_freetuptable(SPI_tuptable);
}
