/*-------------------------------------------------------------------------
 *
 * view.c
 *	  What a view, or a query, reads.
 *
 * Views are replaced by their queries first, as the rewriter does it; then
 * there is only one kind of query to look at, here and in derive.c.  This file
 * goes through everything that is written in it, executed or not; derive.c goes
 * through what is executed, and an occurrence of a relation that it does not
 * come by is not derived.
 *
 * A view is locked only while its query is copied.  What changes afterwards
 * sends invalidation messages, and whoever asked asks again.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/relation.h"
#include "access/sysattr.h"
#include "access/transam.h"
#include "catalog/catalog.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_relation.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteHandler.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "derive.h"
#include "members.h"
#include "view.h"
#include "volatility.h"

/* A relation that is read, with its occurrences. */
typedef struct Read
{
	ViewRead	public;			/* must be first */
	List	   *occurrences;	/* of RangeTblEntry * */
	List	   *visited;		/* those that derive() has come by */
} Read;

#define MAX_EXPANSIONS	1000	/* of views, in one */

typedef struct Collection
{
	ViewAnalysis *analysis;
	List	   *queries;		/* of Query *: the present one first, then those around it */
	List	   *open_views;		/* OIDs of the views that the present query is in */
	int			expanded;		/* views that have been replaced by their queries */
} Collection;

static void collect_query(Query *query, Collection *collection);

char *
view_relation_name(Oid relid)
{
	char	   *schema = get_namespace_name(get_rel_namespace(relid));
	char	   *name = get_rel_name(relid);

	return schema && name ? quote_qualified_identifier(schema, name) : psprintf("\"%u\"", relid);
}

static void
refuse(ViewAnalysis *analysis, char *reason)
{
	if (analysis->refusal == NULL)
		analysis->refusal = reason;
}

/* Does a schema belong to the server, or to cachekit? */
static bool
is_system_schema(Oid schema)
{
	char	   *name = get_namespace_name(schema);

	return IsCatalogNamespace(schema) || IsToastNamespace(schema) ||
		(name && (strcmp(name, "information_schema") == 0 || strcmp(name, "cachekit") == 0));
}

/* Why triggers on a relation do not tell of all its changes; NULL: they do. */
static char *
relation_problem(Oid relid, const FormData_pg_class *form, bool only)
{
	char	   *name = view_relation_name(relid);

	if (relid < FirstNormalObjectId || is_system_schema(form->relnamespace))
		return psprintf("table %s is a system table", name);
	switch (form->relkind)
	{
		case RELKIND_RELATION:
		case RELKIND_PARTITIONED_TABLE:
			break;
		case RELKIND_FOREIGN_TABLE:
			return psprintf("foreign table %s changes without a trigger", name);
		case RELKIND_MATVIEW:
			return psprintf("materialized view %s is refreshed without a trigger", name);
		case RELKIND_SEQUENCE:
			return psprintf("sequence %s advances without a trigger", name);
		default:
			return psprintf("relation %s is not a table", name);
	}
	if (form->relpersistence == RELPERSISTENCE_TEMP)
		return psprintf("table %s is temporary", name);
	if (form->relpersistence == RELPERSISTENCE_UNLOGGED)
		return psprintf("table %s is unlogged and empty after a crash", name);
	if (form->relkind == RELKIND_RELATION && form->relhassubclass && !only &&
		find_inheritance_children(relid, NoLock) != NIL)
		return psprintf("table %s has child tables by plain inheritance", name);
	return NULL;
}

static void
check_relation(ViewAnalysis *analysis, Oid relid, bool only, bool partition)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	FormData_pg_class form;
	char	   *problem;
	ListCell   *cell;

	if (!HeapTupleIsValid(tuple))
	{
		problems_add(&analysis->problems, psprintf("table %u has been dropped", relid));
		return;
	}
	form = *(Form_pg_class) GETSTRUCT(tuple);
	ReleaseSysCache(tuple);

	/* a partition is read by the policies of its parent */
	if (form.relrowsecurity && !partition)
		refuse(analysis, psprintf("table %s has row security", view_relation_name(relid)));
	problem = relation_problem(relid, &form, only);
	if (problem)
		problems_add(&analysis->problems, problem);
	else if (form.relkind == RELKIND_PARTITIONED_TABLE && !partition)
	{
		foreach(cell, find_all_inheritors(relid, NoLock, NULL))
		{
			if (lfirst_oid(cell) != relid)
				check_relation(analysis, lfirst_oid(cell), false, true);
		}
	}
}

static Read *
read_of(ViewAnalysis *analysis, Oid relid, bool create)
{
	ListCell   *cell;
	Read	   *read;

	foreach(cell, analysis->reads)
	{
		read = lfirst(cell);
		if (read->public.relid == relid)
			return read;
	}
	if (!create)
		return NULL;
	read = palloc0(sizeof(Read));
	read->public.relid = relid;
	analysis->reads = lappend(analysis->reads, read);
	return read;
}

/* A column whose value is not one that a row stores counts as the whole row. */
static void
add_column(ViewRead *read, int attnum)
{
	HeapTuple	tuple = NULL;

	if (attnum > 0)
		tuple = SearchSysCache2(ATTNUM, ObjectIdGetDatum(read->relid), Int16GetDatum(attnum));
	if (!HeapTupleIsValid(tuple))
		attnum = 0;
	else
	{
		Form_pg_attribute att = (Form_pg_attribute) GETSTRUCT(tuple);

		if (att->attisdropped || compat_is_virtual(att))
			read->columns = bms_add_member(read->columns, 0);
		ReleaseSysCache(tuple);
	}
	read->columns = bms_add_member(read->columns, attnum);
}

/*
 * May the owner of the view that names this relation read it?  Else the view is
 * an error for everybody, and its documents must not be served any longer.
 */
static void
check_reader(Query *query, RangeTblEntry *rte, Collection *collection)
{
	Bitmapset  *selected = compat_selected_columns(query, rte);
	int			member = -1;
	Oid			owner;
	bool		may;

	if (collection->open_views == NIL)
		return;
	owner = members_owner_of(linitial_oid(collection->open_views));
	if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(rte->relid)))
		return;					/* check_relation() says so */
	may = pg_class_aclcheck(rte->relid, owner, ACL_SELECT) == ACLCHECK_OK;
	if (!may && !bms_is_empty(selected))
	{
		may = true;
		while ((member = bms_next_member(selected, member)) >= 0)
		{
			AttrNumber	attnum = member + FirstLowInvalidHeapAttributeNumber;

			if (attnum == 0)
				may &= pg_attribute_aclcheck_all(rte->relid, owner, ACL_SELECT,
												 ACLMASK_ALL) == ACLCHECK_OK;
			else
				may &= pg_attribute_aclcheck(rte->relid, attnum, owner,
											 ACL_SELECT) == ACLCHECK_OK;
		}
	}
	if (!may && collection->analysis->forbidden == NULL)
		collection->analysis->forbidden =
			psprintf("the owner of view %s may not read %s",
					 view_relation_name(linitial_oid(collection->open_views)),
					 view_relation_name(rte->relid));
}

/* An occurrence of a relation that is no view. */
static void
collect_relation(Query *query, RangeTblEntry *rte, Collection *collection)
{
	ViewAnalysis *analysis = collection->analysis;
	Read	   *read = read_of(analysis, rte->relid, true);
	Bitmapset  *selected = compat_selected_columns(query, rte);
	int			member = -1;

	read->occurrences = lappend(read->occurrences, rte);
	while ((member = bms_next_member(selected, member)) >= 0)
		add_column(&read->public, member + FirstLowInvalidHeapAttributeNumber);
	check_relation(analysis, rte->relid, !rte->inh, false);
	if (rte->tablesample)
	{
		add_column(&read->public, 0);
		problems_add(&analysis->problems,
					 psprintf("TABLESAMPLE of table %s depends on where its rows are", view_relation_name(rte->relid)));
	}
}

/* Replace a view by its query. */
static void
expand_view(RangeTblEntry *rte, Collection *collection)
{
	ViewAnalysis *analysis = collection->analysis;
	Oid			view = rte->relid;
	Relation	rel;
	Query	   *query;
	bool		invoker;

	if (view < FirstNormalObjectId || is_system_schema(get_rel_namespace(view)))
	{
		problems_add(&analysis->problems, psprintf("view %s is a system view", view_relation_name(view)));
		return;
	}
	if (++collection->expanded > MAX_EXPANSIONS)
	{
		refuse(analysis, pstrdup("it reads views too many times over"));
		return;
	}
	if (list_member_oid(collection->open_views, view))
	{
		refuse(analysis, psprintf("view %s refers to itself", view_relation_name(view)));
		return;
	}
	/*
	 * Without a lock: a writer of a base must not wait for whoever has locked
	 * the view.  Nothing between here and the copy takes in invalidations.
	 */
	rel = RelationIdGetRelation(view);
	if (rel == NULL || rel->rd_rel->relkind != RELKIND_VIEW || rel->rd_rules == NULL)
	{
		if (rel)
			RelationClose(rel);
		problems_add(&analysis->problems, psprintf("view %u has been dropped", view));
		return;
	}
	query = copyObject(get_view_query(rel));
	invoker = RelationHasSecurityInvoker(rel);
	RelationClose(rel);
	analysis->views = list_append_unique_oid(analysis->views, view);
	if (invoker)
		refuse(analysis, psprintf("view %s is security_invoker", view_relation_name(view)));

	rte->rtekind = RTE_SUBQUERY;
	rte->subquery = query;
	rte->relid = InvalidOid;
	collection->open_views = lcons_oid(view, collection->open_views);
	collect_query(query, collection);
	collection->open_views = list_delete_first(collection->open_views);
}

/* Types of the columns of a whole row that has no type of its own. */
static void
check_row(Query *query, RangeTblEntry *rte, List **problems)
{
	ListCell   *cell;
	List	   *types = rte->coltypes;	/* of CTEs, VALUES, table functions */

	if (rte->rtekind == RTE_SUBQUERY)
	{
		foreach(cell, rte->subquery->targetList)
		{
			TargetEntry *tle = lfirst(cell);

			if (!tle->resjunk)
				volatility_check_output(exprType((Node *) tle->expr), problems);
		}
	}
	foreach(cell, types)
	{
		if (OidIsValid(lfirst_oid(cell)))
			volatility_check_output(lfirst_oid(cell), problems);
	}
}

/* A reference to a column: of what, and which? */
static void
collect_var(Var *var, int levels_up, Collection *collection)
{
	Query	   *query;
	RangeTblEntry *rte;
	ViewAnalysis *analysis = collection->analysis;

	check_stack_depth();
	levels_up += var->varlevelsup;
	if (levels_up >= list_length(collection->queries))
		return;
	query = list_nth(collection->queries, levels_up);
	if (var->varno < 1 || var->varno > list_length(query->rtable))
		return;
	rte = rt_fetch(var->varno, query->rtable);
	if (rte->rtekind == RTE_RELATION)
	{
		Read	   *read = read_of(analysis, rte->relid, false);

		if (read)
			add_column(&read->public, var->varattno);
		/* of the system columns, VACUUM and row locks change all but this one */
		if (var->varattno < 0 && var->varattno != TableOidAttributeNumber)
			problems_add(&analysis->problems,
						 psprintf("system columns of table %s change without a trigger", view_relation_name(rte->relid)));
	}
	else if (rte->rtekind == RTE_JOIN)
	{
		int			n = 0;
		ListCell   *cell;

		foreach(cell, rte->joinaliasvars)
		{
			ListCell   *inner;

			n++;
			if (lfirst(cell) == NULL || (var->varattno > 0 && var->varattno != n))
				continue;
			foreach(inner, pull_vars_of_level(lfirst(cell), 0))
				collect_var(lfirst(inner), levels_up, collection);
		}
	}
	if (var->varattno == 0 && var->vartype == RECORDOID)
		check_row(query, rte, &analysis->problems);
}

static bool
collect_walker(Node *node, Collection *collection)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		collect_query((Query *) node, collection);
		return false;
	}
	if (IsA(node, Var))
	{
		collect_var((Var *) node, 0, collection);
		return false;
	}
	volatility_check(node, &collection->analysis->problems);
	return expression_tree_walker(node, collect_walker, collection);
}

/* The relations that are joined; before 16, a view's query has OLD and NEW besides. */
static bool
find_joined(Node *node, Bitmapset **joined)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblRef))
		*joined = bms_add_member(*joined, ((RangeTblRef *) node)->rtindex);
	if (IsA(node, RangeTblRef) || IsA(node, SubLink))
		return false;
	return expression_tree_walker(node, find_joined, joined);
}

static void
collect_query(Query *query, Collection *collection)
{
	ViewAnalysis *analysis = collection->analysis;
	Bitmapset  *joined = NULL;
	int			varno = 0;
	ListCell   *cell;

	check_stack_depth();
	CHECK_FOR_INTERRUPTS();
	if (query->commandType != CMD_SELECT)
		problems_add(&analysis->problems, pstrdup("it has a command that is no SELECT"));
	if (query->rowMarks != NIL)
		problems_add(&analysis->problems, pstrdup("it locks rows (FOR UPDATE or SHARE)"));
	(void) find_joined((Node *) query->jointree, &joined);

	collection->queries = lcons(query, collection->queries);
	foreach(cell, query->rtable)
	{
		RangeTblEntry *rte = lfirst(cell);
		ListCell   *inner;

		varno++;
		switch (rte->rtekind)
		{
			case RTE_RELATION:
				if (bms_is_member(varno, joined))
					check_reader(query, rte, collection);
				if (get_rel_relkind(rte->relid) != RELKIND_VIEW)
					collect_relation(query, rte, collection);
				else if (bms_is_member(varno, joined))
					expand_view(rte, collection);
				break;
			case RTE_SUBQUERY:
				collect_query(rte->subquery, collection);
				break;
			case RTE_FUNCTION:
				/* json_to_record() and the like cast to the types of the column list */
				foreach(inner, rte->functions)
				{
					RangeTblFunction *function = lfirst(inner);
					ListCell   *type;

					if (!IsA(function->funcexpr, FuncExpr) ||
						((FuncExpr *) function->funcexpr)->funcid >= FirstNormalObjectId)
						continue;
					foreach(type, function->funccoltypes)
						volatility_check_input(lfirst_oid(type), &analysis->problems);
				}
				break;
			case RTE_TABLEFUNC:
				foreach(inner, rte->tablefunc->coltypes)
					volatility_check_input(lfirst_oid(inner), &analysis->problems);
				break;
			case RTE_NAMEDTUPLESTORE:
				problems_add(&analysis->problems, psprintf("%s is a transition table", rte->enrname));
				break;
			default:
				break;
		}
	}
	(void) query_tree_walker(query, collect_walker, collection,
							 QTW_IGNORE_RT_SUBQUERIES | QTW_IGNORE_JOINALIASES);
	collection->queries = list_delete_first(collection->queries);
}

/* derive() tells of an occurrence. */
static void
note_occurrence(void *context, RangeTblEntry *rte, List *columns)
{
	Read	   *read = read_of(context, rte->relid, false);
	List	   *names = NIL;
	ListCell   *cell;

	if (read == NULL)
		return;					/* a view that was not expanded */
	read->visited = list_append_unique_ptr(read->visited, rte);
	foreach(cell, columns)
	{
		char	   *name = get_attname(rte->relid, lfirst_int(cell), true);

		if (name == NULL)
			columns = NIL;		/* dropped meanwhile */
		names = lappend(names, makeString(name));
	}
	if (columns == NIL)
	{
		read->public.complete = false;
		return;
	}
	/* equal() compares them as they are, a list of String */
	if (!list_member(read->public.derived, names))
		read->public.derived = lappend(read->public.derived, names);
}

/* Find the columns of the reads that equal the key's. */
static void
derive_reads(ViewAnalysis *analysis, Query *query, Oid view, List *key)
{
	DeriveKey  *keys = palloc(sizeof(DeriveKey) * list_length(key));
	bool		known = true;
	int			n = 0;
	ListCell   *cell;

	foreach(cell, key)
	{
		HeapTuple	tuple = SearchSysCacheAttName(view, lfirst(cell));
		Form_pg_attribute att;

		if (!HeapTupleIsValid(tuple))
			return;
		att = (Form_pg_attribute) GETSTRUCT(tuple);
		keys[n].column = att->attnum;
		keys[n].type = getBaseType(att->atttypid);
		keys[n].kind = key_kind(keys[n].type, att->attcollation);
		n++;
		ReleaseSysCache(tuple);
	}
	foreach(cell, analysis->reads)
		((ViewRead *) lfirst(cell))->complete = true;
	known = derive(query, keys, n, note_occurrence, analysis);
	foreach(cell, analysis->reads)
	{
		Read	   *read = lfirst(cell);
		ListCell   *outer;

		if (!known || list_length(read->visited) != list_length(read->occurrences))
			read->public.complete = false;
		if (!known)
			read->public.derived = NIL;
		foreach(outer, read->public.derived)
		{
			ListCell   *inner;

			foreach(inner, (List *) lfirst(outer))
				lfirst(inner) = strVal(lfirst(inner));
		}
	}
}

ViewAnalysis *
view_analyse(Oid view, List *key)
{
	ViewAnalysis *analysis = palloc0(sizeof(ViewAnalysis));
	Collection	collection = {.analysis = analysis};
	RangeTblEntry *rte = makeNode(RangeTblEntry);

	if (get_rel_relkind(view) != RELKIND_VIEW)
	{
		analysis->refusal = psprintf("%s is not a view", view_relation_name(view));
		return analysis;
	}
	rte->rtekind = RTE_RELATION;
	rte->relid = view;
	expand_view(rte, &collection);
	if (key != NIL && rte->subquery)
		derive_reads(analysis, rte->subquery, view, key);
	return analysis;
}

ViewAnalysis *
query_analyse(Query *query)
{
	ViewAnalysis *analysis = palloc0(sizeof(ViewAnalysis));
	Collection	collection = {.analysis = analysis};

	collect_query(copyObject(query), &collection);
	return analysis;
}
