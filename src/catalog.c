/*-------------------------------------------------------------------------
 *
 * catalog.c
 *	  The table cachekit.entity: what is attached, and how.
 *
 * The table is found by name each time, because DROP and CREATE EXTENSION
 * give it another OID; only the extension's own schema is looked into.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "foreign/foreign.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "catalog.h"
#include "dependency.h"

/* Columns of cachekit.entity, in the order of the extension's script. */
enum
{
	COL_RELATION = 1, COL_NAME, COL_KEY, COL_SERVERS, COL_TTL, COL_NEGATIVE_TTL,
	COL_ON_CHANGE, COL_LOCAL, COL_COLUMNS, COL_MANY, COL_ALLOW_UNTRACKED,
	COL_REFRESH_ABSENT, COL_TTL_JITTER, COL_MAX_VALUE_SIZE, COL_EARLY_REFRESH,
	COL_REDEFINED,
	COLUMNS = COL_REDEFINED
};

/*
 * Open a table of the extension; NULL when it is not (yet) there, or has fewer
 * columns than are known here: half of it may be gone while DROP EXTENSION is
 * under way.  A later version may have more, which this one leaves alone.
 */
Relation
catalog_open(const char *name, int columns, LOCKMODE mode)
{
	Oid			schema = get_namespace_oid("cachekit", true);
	Oid			table;
	Relation	rel;

	if (!OidIsValid(schema) ||
		!OidIsValid(table = get_relname_relid(name, schema)) ||
		!OidIsValid(get_extension_oid("cachekit", true)))
		return NULL;
	rel = try_relation_open(table, mode);
	if (rel != NULL && (RelationGetNumberOfAttributes(rel) < columns ||
						!OidIsValid(compat_primary_key_index(rel))))
	{
		relation_close(rel, mode);
		return NULL;
	}
	return rel;
}

/* The same to write to it; an error when it is not there. */
Relation
catalog_open_for_write(const char *name, int columns)
{
	Relation	rel = catalog_open(name, columns, RowExclusiveLock);

	if (rel == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the extension \"cachekit\" is not installed in this database"),
				 errhint("CREATE EXTENSION cachekit.")));
	return rel;
}

static Relation
open_catalog(LOCKMODE mode)
{
	return catalog_open("entity", COLUMNS, mode);
}

bool
catalog_exists(void)
{
	Relation	rel = open_catalog(AccessShareLock);

	if (rel == NULL)
		return false;
	relation_close(rel, AccessShareLock);
	return true;
}

int
catalog_server_oids(List *names, Oid *oids, int max)
{
	int			n = 0;
	ListCell   *cell;

	foreach(cell, names)
	{
		Oid			server = get_foreign_server_oid(lfirst(cell), true);

		if (OidIsValid(server) && n < max)
			oids[n++] = server;
	}
	return n;
}

/* Is a name among a row's names? */
bool
catalog_names_have(List *names, const char *name)
{
	ListCell   *cell;

	foreach(cell, names)
	{
		if (strcmp(lfirst(cell), name) == 0)
			return true;
	}
	return false;
}

/* Are two lists of names equal? */
bool
catalog_same_names(List *a, List *b)
{
	ListCell   *x;
	ListCell   *y;

	if (list_length(a) != list_length(b))
		return false;
	forboth(x, a, y, b)
	{
		if (strcmp(lfirst(x), lfirst(y)) != 0)
			return false;
	}
	return true;
}

List *
catalog_names_from_array(Datum array)
{
	ArrayType  *a = DatumGetArrayTypeP(array);
	Datum	   *elems;
	bool	   *nulls;
	int			n;
	List	   *names = NIL;

	deconstruct_array(a, NAMEOID, NAMEDATALEN, false, TYPALIGN_CHAR, &elems, &nulls, &n);
	for (int i = 0; i < n; i++)
	{
		if (!nulls[i])
			names = lappend(names, pstrdup(NameStr(*DatumGetName(elems[i]))));
	}
	return names;
}

Datum
catalog_array_from_names(List *names)
{
	Datum	   *elems = palloc(sizeof(Datum) * Max(1, list_length(names)));
	ListCell   *cell;
	int			n = 0;

	foreach(cell, names)
	{
		Name		name = palloc0(NAMEDATALEN);

		namestrcpy(name, lfirst(cell));
		elems[n++] = NameGetDatum(name);
	}
	return PointerGetDatum(construct_array(elems, n, NAMEOID, NAMEDATALEN, false,
										   TYPALIGN_CHAR));
}

static Interval *
interval_or_null(Datum value, bool isnull)
{
	Interval   *copy;

	if (isnull)
		return NULL;
	copy = palloc(sizeof(Interval));
	memcpy(copy, DatumGetIntervalP(value), sizeof(Interval));
	return copy;
}

static void
row_from_tuple(HeapTuple tuple, TupleDesc desc, EntityRow *row)
{
	Datum	   *v = palloc(sizeof(Datum) * desc->natts);
	bool	   *isnull = palloc(sizeof(bool) * desc->natts);

	heap_deform_tuple(tuple, desc, v, isnull);
	row->relid = DatumGetObjectId(v[COL_RELATION - 1]);
	row->name = TextDatumGetCString(v[COL_NAME - 1]);
	row->key = catalog_names_from_array(v[COL_KEY - 1]);
	row->servers = catalog_names_from_array(v[COL_SERVERS - 1]);
	row->ttl = interval_or_null(v[COL_TTL - 1], isnull[COL_TTL - 1]);
	row->negative_ttl = interval_or_null(v[COL_NEGATIVE_TTL - 1], isnull[COL_NEGATIVE_TTL - 1]);
	row->on_change = TextDatumGetCString(v[COL_ON_CHANGE - 1]);
	row->local = DatumGetBool(v[COL_LOCAL - 1]);
	row->columns = isnull[COL_COLUMNS - 1] ? NIL : catalog_names_from_array(v[COL_COLUMNS - 1]);
	row->many = DatumGetBool(v[COL_MANY - 1]);
	row->allow_untracked = DatumGetBool(v[COL_ALLOW_UNTRACKED - 1]);
	row->refresh_absent = DatumGetBool(v[COL_REFRESH_ABSENT - 1]);
	row->ttl_jitter = isnull[COL_TTL_JITTER - 1] ? -1 : DatumGetInt32(v[COL_TTL_JITTER - 1]);
	row->max_value_size = isnull[COL_MAX_VALUE_SIZE - 1] ? -1 :
		DatumGetInt32(v[COL_MAX_VALUE_SIZE - 1]);
	row->redefined = DatumGetBool(v[COL_REDEFINED - 1]);
	row->early_refresh = DatumGetFloat8(v[COL_EARLY_REFRESH - 1]);
}

/* Find the row of a relation; the caller ends the scan. */
static HeapTuple
scan_relation(Relation rel, Oid relid, SysScanDesc *scan)
{
	ScanKeyData key;

	ScanKeyInit(&key, COL_RELATION, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
	*scan = systable_beginscan(rel, compat_primary_key_index(rel), true, NULL, 1, &key);
	return systable_getnext(*scan);
}

/* Read the settings of a relation; false when it is not attached. */
bool
catalog_read(Oid relid, EntityRow *row)
{
	Relation	rel = open_catalog(AccessShareLock);
	SysScanDesc scan;
	HeapTuple	tuple;

	if (rel == NULL)
		return false;
	tuple = scan_relation(rel, relid, &scan);
	if (HeapTupleIsValid(tuple))
		row_from_tuple(tuple, RelationGetDescr(rel), row);
	systable_endscan(scan);
	relation_close(rel, AccessShareLock);
	return HeapTupleIsValid(tuple);
}

/* The unique index on the names, or InvalidOid. */
static Oid
name_index(Relation rel)
{
	ListCell   *cell;

	foreach(cell, RelationGetIndexList(rel))
	{
		HeapTuple	tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(lfirst_oid(cell)));
		bool		found;

		if (!HeapTupleIsValid(tuple))
			continue;
		found = ((Form_pg_index) GETSTRUCT(tuple))->indkey.values[0] == COL_NAME;
		ReleaseSysCache(tuple);
		if (found)
			return lfirst_oid(cell);
	}
	return InvalidOid;
}

/* The relation attached under a name, or InvalidOid. */
Oid
catalog_relation_of(const char *name)
{
	Relation	rel = open_catalog(AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	Oid			index;
	Oid			relid = InvalidOid;

	if (rel == NULL)
		return InvalidOid;
	ScanKeyEntryInitialize(&key, 0, COL_NAME, BTEqualStrategyNumber, TEXTOID, C_COLLATION_OID,
						   F_TEXTEQ, CStringGetTextDatum(name));
	index = name_index(rel);
	scan = systable_beginscan(rel, index, OidIsValid(index), NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		bool		isnull;

		relid = DatumGetObjectId(heap_getattr(tuple, COL_RELATION, RelationGetDescr(rel),
											  &isnull));
	}
	systable_endscan(scan);
	relation_close(rel, AccessShareLock);
	return relid;
}

/* All attached relations, as a list of OIDs. */
List *
catalog_relations(void)
{
	Relation	rel = open_catalog(AccessShareLock);
	SysScanDesc scan;
	HeapTuple	tuple;
	List	   *relids = NIL;

	if (rel == NULL)
		return NIL;
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool		isnull;

		relids = lappend_oid(relids,
							 DatumGetObjectId(heap_getattr(tuple, COL_RELATION,
														   RelationGetDescr(rel), &isnull)));
	}
	systable_endscan(scan);
	relation_close(rel, AccessShareLock);
	return relids;
}

/* Does any entity have a cache server? */
bool
catalog_has_servers(void)
{
	ListCell   *cell;

	foreach(cell, catalog_relations())
	{
		EntityRow	row;

		if (catalog_read(lfirst_oid(cell), &row) && row.servers != NIL)
			return true;
	}
	return false;
}

/*
 * Write a relation's row, new or not.  The caller holds a lock on the relation
 * that conflicts with itself, so that two attach() cannot meet here; a name
 * that is taken is an error from the unique index at the latest.
 */
void
catalog_write(const EntityRow *row)
{
	Relation	rel = catalog_open_for_write("entity", COLUMNS);
	SysScanDesc scan;
	HeapTuple	old;
	HeapTuple	tuple;
	Datum	   *v;
	bool	   *isnull;
	bool	   *replace;

	v = palloc0(sizeof(Datum) * RelationGetNumberOfAttributes(rel));
	isnull = palloc(sizeof(bool) * RelationGetNumberOfAttributes(rel));
	replace = palloc0(sizeof(bool) * RelationGetNumberOfAttributes(rel));
	memset(isnull, true, RelationGetNumberOfAttributes(rel));
	memset(isnull, false, COLUMNS);
	memset(replace, true, COLUMNS);
	v[COL_RELATION - 1] = ObjectIdGetDatum(row->relid);
	v[COL_NAME - 1] = CStringGetTextDatum(row->name);
	v[COL_KEY - 1] = catalog_array_from_names(row->key);
	v[COL_SERVERS - 1] = catalog_array_from_names(row->servers);
	v[COL_TTL - 1] = IntervalPGetDatum(row->ttl);
	isnull[COL_TTL - 1] = row->ttl == NULL;
	v[COL_NEGATIVE_TTL - 1] = IntervalPGetDatum(row->negative_ttl);
	isnull[COL_NEGATIVE_TTL - 1] = row->negative_ttl == NULL;
	v[COL_ON_CHANGE - 1] = CStringGetTextDatum(row->on_change);
	v[COL_LOCAL - 1] = BoolGetDatum(row->local);
	isnull[COL_COLUMNS - 1] = row->columns == NIL;
	v[COL_COLUMNS - 1] = row->columns == NIL ? (Datum) 0 : catalog_array_from_names(row->columns);
	v[COL_MANY - 1] = BoolGetDatum(row->many);
	v[COL_ALLOW_UNTRACKED - 1] = BoolGetDatum(row->allow_untracked);
	v[COL_REFRESH_ABSENT - 1] = BoolGetDatum(row->refresh_absent);
	isnull[COL_TTL_JITTER - 1] = row->ttl_jitter < 0;
	v[COL_TTL_JITTER - 1] = Int32GetDatum(row->ttl_jitter);
	isnull[COL_MAX_VALUE_SIZE - 1] = row->max_value_size < 0;
	v[COL_MAX_VALUE_SIZE - 1] = Int32GetDatum(row->max_value_size);
	v[COL_REDEFINED - 1] = BoolGetDatum(row->redefined);
	v[COL_EARLY_REFRESH - 1] = Float8GetDatum(row->early_refresh);

	old = scan_relation(rel, row->relid, &scan);
	if (HeapTupleIsValid(old))
	{
		tuple = heap_modify_tuple(old, RelationGetDescr(rel), v, isnull, replace);
		CatalogTupleUpdate(rel, &old->t_self, tuple);
	}
	else
	{
		tuple = heap_form_tuple(RelationGetDescr(rel), v, isnull);
		CatalogTupleInsert(rel, tuple);
	}
	systable_endscan(scan);
	relation_close(rel, RowExclusiveLock);
	CommandCounterIncrement();
}

/* Delete a relation's row, and its dependencies; false when there is none. */
bool
catalog_delete(Oid relid)
{
	Relation	rel = open_catalog(RowExclusiveLock);
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		found;

	if (rel == NULL)
		return false;
	tuple = scan_relation(rel, relid, &scan);
	found = HeapTupleIsValid(tuple);
	if (found)
		CatalogTupleDelete(rel, &tuple->t_self);
	systable_endscan(scan);
	relation_close(rel, RowExclusiveLock);
	if (found)
		CommandCounterIncrement();
	(void) dependency_delete(relid, InvalidOid, false);
	return found;
}
