/*-------------------------------------------------------------------------
 *
 * reach.c
 *	  Which entities a relation belongs to.
 *
 * Itself, if it is attached; the partitioned tables above it; entities that
 * have a dependency on one of these; and views that read one of them, however
 * many views lie between.  The last are found by the server's own
 * dependencies: the rule of a view depends on each relation that it reads.
 *
 * This is asked for by DDL, and says more rather than less.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/genam.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/partition.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_rewrite.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "catalog.h"
#include "dependency.h"
#include "entity.h"

/* The view that a rule belongs to, or InvalidOid. */
static Oid
view_of_rule(Oid rule)
{
	Relation	rel = table_open(RewriteRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	Oid			view = InvalidOid;

	ScanKeyInit(&key, Anum_pg_rewrite_oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(rule));
	scan = systable_beginscan(rel, RewriteOidIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		view = ((Form_pg_rewrite) GETSTRUCT(tuple))->ev_class;
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return OidIsValid(view) && get_rel_relkind(view) == RELKIND_VIEW ? view : InvalidOid;
}

/* Add the views that read a relation, once each. */
static List *
add_views_on(List *views, Oid relid)
{
	Relation	rel = table_open(DependRelationId, AccessShareLock);
	ScanKeyData key[2];
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key[0], Anum_pg_depend_refclassid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(RelationRelationId));
	ScanKeyInit(&key[1], Anum_pg_depend_refobjid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	scan = systable_beginscan(rel, DependReferenceIndexId, true, NULL, 2, key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend form = (Form_pg_depend) GETSTRUCT(tuple);
		Oid			view;

		if (form->classid != RewriteRelationId)
			continue;
		view = view_of_rule(form->objid);
		if (OidIsValid(view))
			views = list_append_unique_oid(views, view);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return views;
}

List *
entities_of_relation(Oid relid)
{
	List	   *result = NIL;
	List	   *reached = lcons_oid(relid, get_partition_ancestors(relid));
	EntityRow	row;

	/* the list grows as it is gone through */
	for (int i = 0; i < list_length(reached); i++)
		reached = add_views_on(reached, list_nth_oid(reached, i));
	for (int i = 0; i < list_length(reached); i++)
	{
		Oid			oid = list_nth_oid(reached, i);
		ListCell   *cell;

		if (catalog_read(oid, &row))
			result = list_append_unique_oid(result, oid);
		foreach(cell, dependencies_on(oid))
			result = list_append_unique_oid(result, ((DependencyRow *) lfirst(cell))->entity);
	}
	return result;
}
