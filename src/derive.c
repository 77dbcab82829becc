/*-------------------------------------------------------------------------
 *
 * derive.c
 *	  Which columns of what a query reads must equal its key.
 *
 * A column of an occurrence of a relation (or of a subquery, or of a CTE) in
 * a query is *pinned* when what the query gives for a key k is the same
 * whether or not the occurrence has rows whose column is NULL or not equal to
 * k.  So of all changes of the relation's rows, those that concern k have k in
 * that column, before or after.  Too many pins mean documents that stay old
 * unnoticed, too few only that the user has to say more: when in doubt, a
 * column is not pinned.
 *
 * Pins come from outside to inside.  Each rule below is proved in one way:
 * where X.c is pinned, take all rows with another X.c out of X, which by
 * definition changes nothing for k; then look at what is left.  From there on
 * X.c is k in every row, or NULL where an outer join has added it.
 *
 * - The query's key column, being X.c.  What matters are output rows where it
 *	 is k.  Joins, WHERE, GROUP BY and DISTINCT make those from rows of X where
 *	 it is k: joining adds rows with X.c NULL at most; a plain column beside
 *	 GROUP BY is a grouping column or depends on one.  Not so what lets rows of
 *	 different X.c interact: LIMIT, window functions that are not partitioned
 *	 by X.c, DISTINCT ON without it.  Grouping sets are left out as well.
 *
 * - X.c = Y.d in WHERE, or ON of an inner join, wherever that stands.  What
 *	 passes has X.c = k, so it has Y.d = k.  Rows of Y with another Y.d never
 *	 pass, nor do those that an outer join below makes up for them when they
 *	 are missing: there Y.d is NULL.
 *
 * - X.c = Y.d in ON of an outer join, Y on the nullable side: rows of Y with
 *	 another Y.d match nothing, and what matches nothing there disappears.
 *	 Where X is does not matter.  On the other side, or in a FULL JOIN, what
 *	 matches nothing is kept: no pin.
 *
 * - X of an outer level, as in sublinks and LATERAL: every evaluation that is
 *	 left has X.c = k or NULL, so the last two rules hold inside it, too.  That
 *	 comes before LIMIT, grouping and windows of the inner level, and wherever
 *	 the sublink itself stands: target list, WHERE, any ON, HAVING.  The reverse
 *	 way, from inside to outside, does not exist.
 *
 * - The output of a subquery, a view, a CTE, a branch of a set operation: a
 *	 pinned output column is what the key column is for the whole.
 *
 * Each occurrence is looked at with the others unchanged.  When a table has
 * several, its change is one change after the other.  The columns of a key are
 * independent, too: a row whose n columns are not all those of k differs in
 * one, and does not matter because of that.
 *
 * "Equal" must mean the same text as a key: see plain_var() and equality().
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/transam.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parse_clause.h"
#include "parser/parse_relation.h"
#include "parser/parsetree.h"
#include "utils/lsyscache.h"

#include "derive.h"

/* CTEs that refer to each other twice double with each step: stop somewhere. */
#define MAX_LEVELS	10000

typedef struct Derivation
{
	const DeriveKey *keys;
	int			nkeys;
	DeriveReport report;
	void	   *context;
	int			levels;			/* that have been visited */
} Derivation;

/* A query that is being visited. */
typedef struct Level
{
	Derivation *all;
	Query	   *query;
	struct Level *up;			/* what varlevelsup = 1 means */
	bool		barren;			/* nothing is pinned here, nor below */
	Bitmapset **pins;			/* attnums, of each key column and each range table entry */
	List	   *edges;			/* of Edge *: within this level */
} Level;

/* A column within a level. */
typedef struct Column
{
	Level	   *level;
	int			varno;
	AttrNumber	attnum;
	Oid			type;
	KeyKind		kind;
} Column;

/* When `from` is pinned, `to` is. */
typedef struct Edge
{
	Column		from;
	Column		to;
} Edge;

static void visit(Derivation *all, Query *query, Level *up, bool barren, Bitmapset **outputs);

static Bitmapset **
pins_of(Level *level, int key, int varno)
{
	return &level->pins[key * list_length(level->query->rtable) + varno - 1];
}

static bool
is_pinned(const Column *column, int key)
{
	return bms_is_member(column->attnum, *pins_of(column->level, key, column->varno));
}

static void
pin_column(const Column *column, int key)
{
	Bitmapset **pins = pins_of(column->level, key, column->varno);

	*pins = bms_add_member(*pins, column->attnum);
}

static KeyKind
kind_of(Oid type, Oid collation)
{
	return key_kind(getBaseType(type), collation);
}

/*
 * An expression that is no more than a Var.  A RelabelType keeps the bits, but
 * may change what is equal and how it is printed (text as bpchar, integer as
 * oid): not through such.
 */
static Var *
plain_var(Node *expr)
{
	Node	   *node = expr;
	Var		   *var;

	while (node && IsA(node, RelabelType))
		node = (Node *) ((RelabelType *) node)->arg;
	if (node == NULL || !IsA(node, Var))
		return NULL;
	var = (Var *) node;
	if (!key_kinds_match(kind_of(var->vartype, var->varcollid), var->vartype,
						 kind_of(exprType(expr), exprCollation(expr)), exprType(expr)))
		return NULL;
	return var;
}

/*
 * Which column is an expression?  Columns of joins (and, since 18, of GROUP BY)
 * are followed to what they stand for; a merged column of a FULL JOIN is none.
 */
static bool
locate(Level *level, Node *expr, Column *column)
{
	for (;;)
	{
		Var		   *var = plain_var(expr);
		RangeTblEntry *rte;
		List	   *aliases;

		if (var == NULL || var->varattno <= 0)
			return false;
		for (Index up = var->varlevelsup; up > 0 && level; up--)
			level = level->up;
		if (level == NULL || var->varno < 1 || var->varno > list_length(level->query->rtable))
			return false;
		rte = rt_fetch(var->varno, level->query->rtable);
		aliases = rte->rtekind == RTE_JOIN ? rte->joinaliasvars : compat_group_columns(rte);
		if (aliases == NIL)
		{
			column->level = level;
			column->varno = var->varno;
			column->attnum = var->varattno;
			column->type = var->vartype;
			column->kind = kind_of(var->vartype, var->varcollid);
			return rte->rtekind != RTE_JOIN;
		}
		if (var->varattno > list_length(aliases))
			return false;
		expr = list_nth(aliases, var->varattno - 1);
	}
}

/* Does one input of an equality operator compare values as the column's kind does? */
static bool
compares_as(Oid input, const Column *column)
{
	if (column->kind == KEY_ENUM)
		return input == ANYENUMOID;
	return key_kinds_match(kind_of(input, InvalidOid), input, column->kind, column->type);
}

/* Is this `a = b` of two columns, which is true only if they are the same key? */
static bool
equality(Level *level, Node *qual, Column *a, Column *b)
{
	OpExpr	   *op = (OpExpr *) qual;
	Oid			left;
	Oid			right;

	/* those of the server that are good for merge joins are equalities of a btree, and strict */
	if (!IsA(qual, OpExpr) || list_length(op->args) != 2 || op->opno >= FirstNormalObjectId ||
		!op_mergejoinable(op->opno, exprType(linitial(op->args))))
		return false;
	if (OidIsValid(op->inputcollid) && !get_collation_isdeterministic(op->inputcollid))
		return false;
	op_input_types(op->opno, &left, &right);
	return locate(level, linitial(op->args), a) && locate(level, lsecond(op->args), b) &&
		key_kinds_match(a->kind, a->type, b->kind, b->type) &&
		compares_as(left, a) && compares_as(right, b);
}

/* From one side of an equality to the other, if that may be pinned by it. */
static void
add_edge(Level *level, const Column *from, const Column *to, Bitmapset *targets)
{
	if (to->level != level || !bms_is_member(to->varno, targets))
		return;
	if (from->level == level)
	{
		Edge	   *edge = palloc(sizeof(Edge));

		edge->from = *from;
		edge->to = *to;
		level->edges = lappend(level->edges, edge);
		return;
	}
	/* pins of outer levels are complete */
	for (int key = 0; key < level->all->nkeys; key++)
	{
		if (is_pinned(from, key))
			pin_column(to, key);
	}
}

/* Quals that must all be true, and the range table entries that they may pin. */
static void
add_quals(Level *level, Node *quals, Bitmapset *targets)
{
	ListCell   *cell;
	Column		a;
	Column		b;

	if (quals == NULL)
		return;
	check_stack_depth();
	if (IsA(quals, List) || is_andclause(quals))
	{
		foreach(cell, IsA(quals, List) ? (List *) quals : ((BoolExpr *) quals)->args)
			add_quals(level, lfirst(cell), targets);
	}
	else if (equality(level, quals, &a, &b))
	{
		add_edge(level, &a, &b, targets);
		add_edge(level, &b, &a, targets);
	}
}

/* The equalities of a join tree; returns the range table entries below the node. */
static Bitmapset *
add_jointree(Level *level, Node *node)
{
	Bitmapset  *below = NULL;

	check_stack_depth();
	if (node == NULL)
		return NULL;
	if (IsA(node, RangeTblRef))
		return bms_make_singleton(((RangeTblRef *) node)->rtindex);
	if (IsA(node, FromExpr))
	{
		FromExpr   *from = (FromExpr *) node;
		ListCell   *cell;

		foreach(cell, from->fromlist)
			below = bms_add_members(below, add_jointree(level, lfirst(cell)));
		add_quals(level, from->quals, below);
	}
	else
	{
		JoinExpr   *join = castNode(JoinExpr, node);
		Bitmapset  *left = add_jointree(level, join->larg);
		Bitmapset  *right = add_jointree(level, join->rarg);

		below = bms_union(left, right);
		if (join->jointype == JOIN_INNER)
			add_quals(level, join->quals, below);
		else if (join->jointype == JOIN_LEFT)
			add_quals(level, join->quals, right);
		else if (join->jointype == JOIN_RIGHT)
			add_quals(level, join->quals, left);
	}
	return below;
}

/* Do rows that differ in this output column leave each other alone? */
static bool
keeps_apart(Query *query, TargetEntry *tle)
{
	ListCell   *cell;

	if (query->hasDistinctOn && !targetIsInSortList(tle, InvalidOid, query->distinctClause))
		return false;
	if (query->hasWindowFuncs)
	{
		foreach(cell, query->windowClause)
		{
			WindowClause *window = lfirst(cell);

			if (!targetIsInSortList(tle, InvalidOid, window->partitionClause))
				return false;
		}
	}
	return true;
}

/*
 * An output column of a set operation: it is pinned in each branch, if its
 * type is the same kind of key at every step on the way, and rows that are
 * put together as equal are equal as keys.
 */
static void
pin_branches(Level *level, Node *node, TargetEntry *tle, int key)
{
	Oid			type = exprType((Node *) tle->expr);
	Oid			collation = exprCollation((Node *) tle->expr);
	Oid			branch_type;
	Oid			branch_collation;

	check_stack_depth();
	if (IsA(node, SetOperationStmt))
	{
		SetOperationStmt *op = (SetOperationStmt *) node;

		if (tle->resno > list_length(op->colTypes))
			return;
		branch_type = list_nth_oid(op->colTypes, tle->resno - 1);
		branch_collation = list_nth_oid(op->colCollations, tle->resno - 1);
		if (!key_kinds_match(kind_of(branch_type, branch_collation), branch_type,
							 kind_of(type, collation), type))
			return;
		pin_branches(level, op->larg, tle, key);
		pin_branches(level, op->rarg, tle, key);
	}
	else
	{
		int			varno = castNode(RangeTblRef, node)->rtindex;
		RangeTblEntry *rte = rt_fetch(varno, level->query->rtable);
		TargetEntry *column;

		if (rte->rtekind != RTE_SUBQUERY)
			return;
		column = get_tle_by_resno(rte->subquery->targetList, tle->resno);
		if (column == NULL || column->resjunk)
			return;
		branch_type = exprType((Node *) column->expr);
		branch_collation = exprCollation((Node *) column->expr);
		if (key_kinds_match(kind_of(branch_type, branch_collation), branch_type,
							kind_of(type, collation), type))
			*pins_of(level, key, varno) = bms_add_member(*pins_of(level, key, varno), tle->resno);
	}
}

/* What the pinned columns of a level's output pin within the level. */
static void
pin_outputs(Level *level, Bitmapset **outputs)
{
	Query	   *query = level->query;
	ListCell   *cell;

	if (query->limitCount || query->limitOffset || query->groupingSets)
		return;
	foreach(cell, query->targetList)
	{
		TargetEntry *tle = lfirst(cell);

		for (int key = 0; key < level->all->nkeys; key++)
		{
			Column		column;

			if (tle->resjunk || !bms_is_member(tle->resno, outputs[key]))
				continue;
			if (query->setOperations)
				pin_branches(level, query->setOperations, tle, key);
			else if (keeps_apart(query, tle) &&
					 locate(level, (Node *) tle->expr, &column) && column.level == level)
				pin_column(&column, key);
		}
	}
}

/* Follow the equalities until nothing is added. */
static void
pin_equals(Level *level)
{
	bool		more = true;
	ListCell   *cell;

	while (more)
	{
		more = false;
		foreach(cell, level->edges)
		{
			Edge	   *edge = lfirst(cell);

			for (int key = 0; key < level->all->nkeys; key++)
			{
				if (is_pinned(&edge->from, key) && !is_pinned(&edge->to, key))
				{
					pin_column(&edge->to, key);
					more = true;
				}
			}
		}
	}
}

/* An occurrence of a relation. */
static void
report_relation(Level *level, RangeTblEntry *rte, int varno)
{
	Derivation *all = level->all;
	List	   *columns = NIL;

	for (int key = 0; key < all->nkeys; key++)
	{
		int			attnum = -1;
		Bitmapset  *pins = *pins_of(level, key, varno);

		while ((attnum = bms_next_member(pins, attnum)) >= 0)
		{
			Oid			type;
			int32		typmod;
			Oid			collation;

			if (!OidIsValid(get_atttype(rte->relid, (AttrNumber) attnum)))
				continue;		/* dropped meanwhile */
			get_atttypetypmodcoll(rte->relid, (AttrNumber) attnum, &type, &typmod, &collation);
			if (key_kinds_match(kind_of(type, collation), type,
								all->keys[key].kind, all->keys[key].type))
				break;
		}
		if (attnum < 0 || rte->tablesample)
		{
			all->report(all->context, rte, NIL);
			return;
		}
		columns = lappend_int(columns, attnum);
	}
	all->report(all->context, rte, columns);
}

/* A reference to a CTE: as if its query stood here, but seen from where it is defined. */
static void
visit_cte(Level *level, RangeTblEntry *rte, Bitmapset **outputs)
{
	Level	   *owner = level;
	ListCell   *cell;

	if (rte->self_reference)
		return;
	for (Index up = rte->ctelevelsup; up > 0 && owner; up--)
		owner = owner->up;
	if (owner == NULL)
		return;
	foreach(cell, owner->query->cteList)
	{
		CommonTableExpr *cte = lfirst(cell);

		/* rows of a recursive CTE make others: nothing is known of its columns */
		if (strcmp(cte->ctename, rte->ctename) == 0)
			visit(level->all, castNode(Query, cte->ctequery), owner,
				  level->barren || cte->cterecursive, outputs);
	}
}

/* Queries within expressions are those of sublinks: only what they refer to can pin. */
static bool
visit_sublinks(Node *node, Level *level)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		visit(level->all, (Query *) node, level, level->barren, NULL);
		return false;
	}
	return expression_tree_walker(node, visit_sublinks, level);
}

/*
 * Visit a query and all below it.  `outputs` are its pinned output columns
 * for each key column; NULL: none.
 */
static void
visit(Derivation *all, Query *query, Level *up, bool barren, Bitmapset **outputs)
{
	Level		level = {.all = all, .query = query, .up = up};
	int			varno = 0;
	ListCell   *cell;

	check_stack_depth();
	CHECK_FOR_INTERRUPTS();
	if (++all->levels > MAX_LEVELS)
		return;
	level.barren = barren || query->commandType != CMD_SELECT;
	level.pins = palloc0(sizeof(Bitmapset *) * all->nkeys * (list_length(query->rtable) + 1));
	if (!level.barren)
	{
		if (outputs)
			pin_outputs(&level, outputs);
		(void) add_jointree(&level, (Node *) query->jointree);
		pin_equals(&level);
	}

	foreach(cell, query->rtable)
	{
		RangeTblEntry *rte = lfirst(cell);
		Bitmapset **pins = palloc(sizeof(Bitmapset *) * all->nkeys);

		varno++;
		for (int key = 0; key < all->nkeys; key++)
			pins[key] = *pins_of(&level, key, varno);
		if (rte->rtekind == RTE_RELATION)
			report_relation(&level, rte, varno);
		else if (rte->rtekind == RTE_SUBQUERY)
			visit(all, rte->subquery, &level, level.barren, pins);
		else if (rte->rtekind == RTE_CTE)
			visit_cte(&level, rte, pins);
	}
	foreach(cell, query->cteList)
	{
		CommonTableExpr *cte = lfirst(cell);

		if (cte->cterefcount == 0)
			visit(all, castNode(Query, cte->ctequery), &level, true, NULL);
	}
	(void) query_tree_walker(query, visit_sublinks, &level,
							 QTW_IGNORE_RC_SUBQUERIES | QTW_IGNORE_JOINALIASES);
}

bool
derive(Query *query, const DeriveKey *keys, int nkeys, DeriveReport report, void *context)
{
	Derivation	all = {keys, nkeys, report, context, 0};
	Bitmapset **outputs = palloc0(sizeof(Bitmapset *) * nkeys);

	for (int key = 0; key < nkeys; key++)
	{
		TargetEntry *tle = get_tle_by_resno(query->targetList, keys[key].column);

		if (tle && !tle->resjunk &&
			key_kinds_match(kind_of(exprType((Node *) tle->expr), exprCollation((Node *) tle->expr)),
							exprType((Node *) tle->expr), keys[key].kind, keys[key].type))
			outputs[key] = bms_make_singleton(keys[key].column);
	}
	visit(&all, query, NULL, false, outputs);
	return all.levels <= MAX_LEVELS;
}
