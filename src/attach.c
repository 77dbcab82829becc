/*-------------------------------------------------------------------------
 *
 * attach.c
 *	  attach() and detach(): making an entity of a relation, and undoing it.
 *
 * Both take ShareRowExclusiveLock on every member: it waits for the writers
 * that are under way, whose rows no trigger has seen, and conflicts with
 * itself.  Both count as a change of the entity and of its settings, whose
 * fences are lowered after the relcache invalidation messages are out, so a
 * session that goes by the old settings can neither store nor be answered.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <math.h>

#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/catalog.h"
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "attach.h"
#include "attach_check.h"
#include "catalog.h"
#include "changes.h"
#include "debug.h"
#include "entity.h"
#include "members.h"
#include "sources.h"
#include "ttl.h"

PG_FUNCTION_INFO_V1(ck_attach);
PG_FUNCTION_INFO_V1(ck_detach);

/* The arguments of attach(), in their order. */
enum
{
	ARG_RELATION, ARG_KEY, ARG_NAME, ARG_SERVERS, ARG_TTL, ARG_NEGATIVE_TTL,
	ARG_ON_CHANGE, ARG_LOCAL, ARG_COLUMNS, ARG_MANY, ARG_ALLOW_UNTRACKED, ARG_REFRESH_ABSENT,
	ARG_TTL_JITTER, ARG_MAX_VALUE_SIZE, ARG_EARLY_REFRESH
};

/* The strings of a name[] argument; an error for NULLs and repetitions. */
List *
attach_names_argument(Datum array, const char *argument)
{
	Datum	   *elems;
	bool	   *nulls;
	int			n;
	List	   *names = NIL;

	deconstruct_array(DatumGetArrayTypeP(array), NAMEOID, NAMEDATALEN, false, TYPALIGN_CHAR,
					  &elems, &nulls, &n);
	for (int i = 0; i < n; i++)
	{
		ListCell   *cell;

		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("\"%s\" must not contain NULL", argument)));
		foreach(cell, names)
		{
			if (strcmp(lfirst(cell), NameStr(*DatumGetName(elems[i]))) == 0)
				ereport(ERROR,
						(errcode(ERRCODE_DUPLICATE_COLUMN),
						 errmsg("\"%s\" names \"%s\" twice", argument, (char *) lfirst(cell))));
		}
		names = lappend(names, pstrdup(NameStr(*DatumGetName(elems[i]))));
	}
	return names;
}

/* A number of attach()'s, which must be one of these. */
static double
in_range(double value, double low, double high, const char *argument)
{
	if (isnan(value) || value < low || value > high)
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("\"%s\" must be between %.0f and %.0f", argument, low, high)));
	return value;
}

/* A later attach() of an attached relation keeps what is not given. */
static void
take_arguments(FunctionCallInfo fcinfo, Relation rel, bool attached, EntityRow *row)
{
	if (!attached)
	{
		memset(row, 0, sizeof(*row));
		row->relid = RelationGetRelid(rel);
		row->name = pstrdup(RelationGetRelationName(rel));
		row->on_change = "invalidate";
		row->local = true;
		row->ttl_jitter = row->max_value_size = -1;
	}
	if (!PG_ARGISNULL(ARG_KEY))
	{
		row->key = attach_names_argument(PG_GETARG_DATUM(ARG_KEY), "key");
		if (row->key == NIL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("\"key\" must name a column")));
	}
	else if (!attached)
		row->key = attach_primary_key(rel);
	if (!PG_ARGISNULL(ARG_NAME))
		row->name = text_to_cstring(PG_GETARG_TEXT_PP(ARG_NAME));
	if (!PG_ARGISNULL(ARG_SERVERS))
		row->servers = attach_names_argument(PG_GETARG_DATUM(ARG_SERVERS), "servers");
	if (!PG_ARGISNULL(ARG_TTL))
	{
		row->ttl = PG_GETARG_INTERVAL_P(ARG_TTL);
		ttl_check(row->ttl, "ttl");
	}
	if (!PG_ARGISNULL(ARG_NEGATIVE_TTL))
	{
		row->negative_ttl = PG_GETARG_INTERVAL_P(ARG_NEGATIVE_TTL);
		if (row->negative_ttl->time == 0 && row->negative_ttl->day == 0 &&
			row->negative_ttl->month == 0)
			row->negative_ttl = NULL;	/* absent rows are not cached */
		else
			ttl_check(row->negative_ttl, "negative_ttl");
	}
	if (!PG_ARGISNULL(ARG_ON_CHANGE))
		row->on_change = text_to_cstring(PG_GETARG_TEXT_PP(ARG_ON_CHANGE));
	if (!PG_ARGISNULL(ARG_LOCAL))
		row->local = PG_GETARG_BOOL(ARG_LOCAL);
	if (!PG_ARGISNULL(ARG_COLUMNS))
		row->columns = attach_names_argument(PG_GETARG_DATUM(ARG_COLUMNS), "columns");
	if (!PG_ARGISNULL(ARG_MANY))
		row->many = PG_GETARG_BOOL(ARG_MANY);
	if (!PG_ARGISNULL(ARG_ALLOW_UNTRACKED))
		row->allow_untracked = PG_GETARG_BOOL(ARG_ALLOW_UNTRACKED);
	if (!PG_ARGISNULL(ARG_REFRESH_ABSENT))
		row->refresh_absent = PG_GETARG_BOOL(ARG_REFRESH_ABSENT);
	if (!PG_ARGISNULL(ARG_TTL_JITTER))
		row->ttl_jitter = in_range(PG_GETARG_INT32(ARG_TTL_JITTER), -1, 100, "ttl_jitter");
	if (!PG_ARGISNULL(ARG_MAX_VALUE_SIZE))
		row->max_value_size = in_range(PG_GETARG_INT32(ARG_MAX_VALUE_SIZE), -1, MaxAllocSize / 4,
									   "max_value_size");
	if (!PG_ARGISNULL(ARG_EARLY_REFRESH))
		row->early_refresh = in_range(PG_GETARG_FLOAT8(ARG_EARLY_REFRESH), 0, 1000,
									  "early_refresh");
}

/* For attach and detach; before the lock, because nobody may lock what is not his. */
Relation
attach_open_owned(Oid relid)
{
	Relation	rel;

	if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relid)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", relid)));
	/* before the lock: nobody may lock what is not his */
	if (!compat_owns_relation(relid, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, get_relkind_objtype(get_rel_relkind(relid)),
					   get_rel_name(relid));
	rel = relation_open(relid, ShareRowExclusiveLock);
	if (!compat_owns_relation(relid, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, get_relkind_objtype(get_rel_relkind(relid)),
					   get_rel_name(relid));
	return rel;
}

/* Sessions that know the entity, or that it is none, must look again. */
void
attach_invalidate(List *members)
{
	ListCell   *cell;

	foreach(cell, members)
		CacheInvalidateRelcacheByRelid(lfirst_oid(cell));
}

/* Remove an entity's triggers from all that it is made of; returns that. */
static List *
uninstall_all(Oid relid, const char *name)
{
	List	   *members = list_make1_oid(relid);
	ListCell   *cell;

	foreach(cell, sources_bases(relid))
	{
		members = list_concat_unique_oid(members, members_lock(lfirst_oid(cell)));
		members_uninstall(lfirst_oid(cell), name);
	}
	return members;
}

/* attach(relation, key, name, servers, ttl, …): in the order of the enum above */
Datum
ck_attach(PG_FUNCTION_ARGS)
{
	Oid			relid;
	Relation	rel;
	List	   *members;
	ListCell   *cell;
	EntityRow	row;
	char	   *old_name = NULL;
	bool		attached;
	bool		is_view;

	if (PG_ARGISNULL(ARG_RELATION))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the relation to attach must not be NULL")));
	PreventCommandDuringRecovery("cachekit.attach()");
	relid = PG_GETARG_OID(ARG_RELATION);
	rel = attach_open_owned(relid);
	attach_check_relation(rel);
	is_view = rel->rd_rel->relkind == RELKIND_VIEW;
	members = is_view ? list_make1_oid(relid) : members_of(relid, ShareRowExclusiveLock);
	for (int i = 0; i < list_length(members) && !is_view; i++)
	{
		Relation	member = table_open(list_nth_oid(members, i), NoLock);

		attach_check_member(member);
		table_close(member, NoLock);
	}

	attached = catalog_read(relid, &row);
	if (attached)
	{
		old_name = pstrdup(row.name);
		/* what is cached under the old name, and on servers that it leaves */
		changes_add_entity(relid, true);
	}
	take_arguments(fcinfo, rel, attached, &row);
	attach_check_key(rel, row.key);
	attach_check_name(row.name, relid);
	attach_check_servers(row.servers);
	attach_check_on_change(row.on_change);
	foreach(cell, row.columns)
		(void) attach_column(rel, lfirst(cell), "columns");
	if (!is_view && !row.many && !attach_key_is_unique(rel, row.key))
		ereport(NOTICE,
				(errmsg("no unique index makes sure that a key of \"%s\" has one row only",
						RelationGetRelationName(rel)),
				 errdetail("A fetch that finds two rows is an error, and every fetch from the table may scan it.")));
	relation_close(rel, NoLock);

	if (attached && strcmp(old_name, row.name) != 0)
		uninstall_all(relid, old_name);
	row.redefined = false;
	catalog_write(&row);
	if (is_view)
		attach_derive(&row, GetUserId(), true);
	else
		members_install(relid, row.name);
	changes_add_entity(relid, true);
	attach_invalidate(members);
	CommandCounterIncrement();	/* what follows in the same command knows of it */
	if (is_view)
		attach_tell_dependencies(relid);
	PG_RETURN_VOID();
}

/* detach(relation) */
Datum
ck_detach(PG_FUNCTION_ARGS)
{
	Oid			relid = PG_GETARG_OID(0);
	Relation	rel;
	List	   *members;
	EntityRow	row;

	PreventCommandDuringRecovery("cachekit.detach()");
	rel = attach_open_owned(relid);
	if (!catalog_read(relid, &row))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("relation \"%s\" is not attached to cachekit",
						RelationGetRelationName(rel)),
				 errhint("SELECT * FROM cachekit.entities lists what is.")));
	relation_close(rel, NoLock);
	members = uninstall_all(relid, row.name);
	catalog_delete(relid);
	changes_forget_entity(relid);
	attach_invalidate(members);
	PG_RETURN_VOID();
}
