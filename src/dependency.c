/*-------------------------------------------------------------------------
 *
 * dependency.c
 *	  The table cachekit.dependency: how rows of base tables map to keys.
 *
 * A few rows for each entity that is a view.  They are found by the primary
 * key's index where the entity is known, and by a scan where the base is,
 * which only DDL asks for.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/relation.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"

#include "catalog.h"
#include "dependency.h"

/* Columns of cachekit.dependency, in the order of the extension's script. */
enum
{
	COL_ENTITY = 1, COL_BASE, COL_NUMBER, COL_KEY, COL_VIA, COL_QUERY, COL_OWNER, COL_DERIVED,
	COLUMNS = COL_DERIVED
};

static Relation
open_table(LOCKMODE mode)
{
	return catalog_open("dependency", COLUMNS, mode);
}

static DependencyRow *
row_from_tuple(HeapTuple tuple, TupleDesc desc)
{
	DependencyRow *row = palloc0(sizeof(DependencyRow));
	bool		isnull;
	Datum		value;

	row->entity = DatumGetObjectId(heap_getattr(tuple, COL_ENTITY, desc, &isnull));
	row->base = DatumGetObjectId(heap_getattr(tuple, COL_BASE, desc, &isnull));
	row->number = DatumGetInt32(heap_getattr(tuple, COL_NUMBER, desc, &isnull));
	value = heap_getattr(tuple, COL_KEY, desc, &isnull);
	row->key = isnull ? NIL : catalog_names_from_array(value);
	value = heap_getattr(tuple, COL_VIA, desc, &isnull);
	row->via = isnull ? NULL : TextDatumGetCString(value);
	value = heap_getattr(tuple, COL_QUERY, desc, &isnull);
	row->query = isnull ? NULL : TextDatumGetCString(value);
	value = heap_getattr(tuple, COL_OWNER, desc, &isnull);
	row->owner = isnull ? NULL : pstrdup(NameStr(*DatumGetName(value)));
	row->derived = DatumGetBool(heap_getattr(tuple, COL_DERIVED, desc, &isnull));
	return row;
}

static int
by_base_and_number(const ListCell *a, const ListCell *b)
{
	const DependencyRow *x = lfirst(a);
	const DependencyRow *y = lfirst(b);

	if (x->base != y->base)
		return x->base < y->base ? -1 : 1;
	return x->number - y->number;
}

/* The rows whose column (COL_ENTITY or COL_BASE) is the relation. */
static List *
read_rows(int column, Oid relid)
{
	Relation	rel = open_table(AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	List	   *rows = NIL;

	if (rel == NULL)
		return NIL;
	ScanKeyInit(&key, column, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(rel, compat_primary_key_index(rel), column == COL_ENTITY, NULL,
							  1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		rows = lappend(rows, row_from_tuple(tuple, RelationGetDescr(rel)));
	systable_endscan(scan);
	relation_close(rel, AccessShareLock);
	list_sort(rows, by_base_and_number);
	return rows;
}

List *
dependencies_of(Oid entity)
{
	return read_rows(COL_ENTITY, entity);
}

List *
dependencies_on(Oid base)
{
	return read_rows(COL_BASE, base);
}

bool
dependencies_have(List *dependencies, Oid base, List *key)
{
	ListCell   *cell;

	foreach(cell, dependencies)
	{
		DependencyRow *row = lfirst(cell);

		if (row->base == base && row->via == NULL && catalog_same_names(row->key, key))
			return true;
	}
	return false;
}

/* The caller holds a lock on the entity's relation that conflicts with itself. */
void
dependency_insert(DependencyRow *row)
{
	Relation	rel = catalog_open_for_write("dependency", COLUMNS);
	int			natts = RelationGetNumberOfAttributes(rel);
	Datum	   *v = palloc0(sizeof(Datum) * natts);
	bool	   *isnull = palloc(sizeof(bool) * natts);
	ListCell   *cell;

	row->number = 1;
	foreach(cell, dependencies_of(row->entity))
	{
		DependencyRow *other = lfirst(cell);

		if (other->base == row->base)
			row->number = Max(row->number, other->number + 1);
	}
	memset(isnull, true, natts);
	memset(isnull, false, COLUMNS);
	v[COL_ENTITY - 1] = ObjectIdGetDatum(row->entity);
	v[COL_BASE - 1] = ObjectIdGetDatum(row->base);
	v[COL_NUMBER - 1] = Int32GetDatum(row->number);
	isnull[COL_KEY - 1] = row->key == NIL;
	v[COL_KEY - 1] = row->key == NIL ? (Datum) 0 : catalog_array_from_names(row->key);
	isnull[COL_VIA - 1] = row->via == NULL;
	v[COL_VIA - 1] = row->via == NULL ? (Datum) 0 : CStringGetTextDatum(row->via);
	isnull[COL_QUERY - 1] = row->query == NULL;
	v[COL_QUERY - 1] = row->query == NULL ? (Datum) 0 : CStringGetTextDatum(row->query);
	isnull[COL_OWNER - 1] = row->owner == NULL;
	v[COL_OWNER - 1] = row->owner == NULL ? (Datum) 0 :
		DirectFunctionCall1(namein, CStringGetDatum(row->owner));
	v[COL_DERIVED - 1] = BoolGetDatum(row->derived);
	CatalogTupleInsert(rel, heap_form_tuple(RelationGetDescr(rel), v, isnull));
	relation_close(rel, RowExclusiveLock);
	CommandCounterIncrement();
}

/* Write the key columns anew: they have been renamed. */
void
dependency_set_key(const DependencyRow *row)
{
	Relation	rel = catalog_open_for_write("dependency", COLUMNS);
	ScanKeyData key[3];
	SysScanDesc scan;
	HeapTuple	old;

	ScanKeyInit(&key[0], COL_ENTITY, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(row->entity));
	ScanKeyInit(&key[1], COL_BASE, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(row->base));
	ScanKeyInit(&key[2], COL_NUMBER, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(row->number));
	scan = systable_beginscan(rel, compat_primary_key_index(rel), true, NULL, 3, key);
	if (HeapTupleIsValid(old = systable_getnext(scan)))
	{
		int			natts = RelationGetNumberOfAttributes(rel);
		Datum	   *v = palloc0(sizeof(Datum) * natts);
		bool	   *isnull = palloc0(sizeof(bool) * natts);
		bool	   *replace = palloc0(sizeof(bool) * natts);

		v[COL_KEY - 1] = catalog_array_from_names(row->key);
		replace[COL_KEY - 1] = true;
		CatalogTupleUpdate(rel, &old->t_self,
						   heap_modify_tuple(old, RelationGetDescr(rel), v, isnull, replace));
	}
	systable_endscan(scan);
	relation_close(rel, RowExclusiveLock);
	CommandCounterIncrement();
}

int
dependency_delete(Oid entity, Oid base, bool derived_only)
{
	Relation	rel = open_table(RowExclusiveLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	int			n = 0;

	if (rel == NULL)
		return 0;
	ScanKeyInit(&key, COL_ENTITY, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(entity));
	scan = systable_beginscan(rel, compat_primary_key_index(rel), true, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		DependencyRow *row = row_from_tuple(tuple, RelationGetDescr(rel));

		if ((OidIsValid(base) && row->base != base) || (derived_only && !row->derived))
			continue;
		CatalogTupleDelete(rel, &tuple->t_self);
		n++;
	}
	systable_endscan(scan);
	relation_close(rel, RowExclusiveLock);
	if (n > 0)
		CommandCounterIncrement();
	return n;
}
