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

#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/catalog.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "foreign/foreign.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "catalog.h"
#include "changes.h"
#include "debug.h"
#include "entity.h"
#include "members.h"
#include "options.h"
#include "ttl.h"

PG_FUNCTION_INFO_V1(ck_attach);
PG_FUNCTION_INFO_V1(ck_detach);

/* The arguments of attach(), in their order. */
enum
{
	ARG_RELATION, ARG_KEY, ARG_NAME, ARG_SERVERS, ARG_TTL, ARG_NEGATIVE_TTL,
	ARG_ON_CHANGE, ARG_LOCAL, ARG_COLUMNS
};

static void
refuse(Relation rel, const char *why, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_WRONG_OBJECT_TYPE),
			 errmsg("cannot attach \"%s\": %s", RelationGetRelationName(rel), why),
			 hint ? errhint("%s", hint) : 0));
}

/* What no entity can be made of, or its changes would go unseen. */
static void
check_member(Relation rel)
{
	Form_pg_class form = rel->rd_rel;

	if (form->relkind == RELKIND_FOREIGN_TABLE)
		refuse(rel, "it is a foreign table", "Changes on the other side fire no trigger here.");
	if (form->relkind == RELKIND_VIEW)
		refuse(rel, "it is a view", "Attach the table; only tables and partitioned tables can be attached.");
	if (form->relkind == RELKIND_MATVIEW)
		refuse(rel, "it is a materialized view",
			   "Its refresh fires no trigger; only tables and partitioned tables can be attached.");
	if (form->relkind != RELKIND_RELATION && form->relkind != RELKIND_PARTITIONED_TABLE)
		refuse(rel, "it is not a table", "Only tables and partitioned tables can be attached.");
	if (!CK_GUARD("attach-refusals"))
		return;
	if (form->relpersistence == RELPERSISTENCE_TEMP)
		refuse(rel, "it is a temporary table", "Only its own session could read it.");
	if (form->relpersistence == RELPERSISTENCE_UNLOGGED)
		refuse(rel, "it is an unlogged table",
			   "A crash empties it without a trace. ALTER TABLE ... SET LOGGED first.");
	if (form->relrowsecurity)
		refuse(rel, "it has row security",
			   "Who may see a row cannot be told from a cached document.");
	if (form->relkind == RELKIND_RELATION && form->relhassubclass &&
		find_inheritance_children(RelationGetRelid(rel), NoLock) != NIL)
		refuse(rel, "it has child tables by plain inheritance",
			   "Changes of child tables fire no trigger on it. Use a partitioned table, or attach the child tables.");
}

static void
check_relation(Relation rel)
{
	Oid			schema = RelationGetNamespace(rel);

	if (IsCatalogRelation(rel) || IsToastRelation(rel) ||
		RelationGetRelid(rel) < FirstNormalObjectId)
		refuse(rel, "it is a system catalog", NULL);
	if (strcmp(get_namespace_name(schema), "cachekit") == 0)
		refuse(rel, "it belongs to cachekit itself", NULL);
	check_member(rel);
}

/* The strings of a name[] argument; an error for NULLs and repetitions. */
static List *
names_argument(Datum array, const char *argument)
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

/* The columns of the primary key, in its order; NIL: there is none. */
static List *
primary_key(Relation rel)
{
	Oid			index = RelationGetPrimaryKeyIndex(rel);
	HeapTuple	tuple;
	Form_pg_index form;
	List	   *names = NIL;

	if (!OidIsValid(index))
		return NIL;
	tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(index));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for index %u", index);
	form = (Form_pg_index) GETSTRUCT(tuple);
	for (int i = 0; i < form->indnkeyatts; i++)
		names = lappend(names, get_attname(RelationGetRelid(rel), form->indkey.values[i], false));
	ReleaseSysCache(tuple);
	return names;
}

/* Does a unique index make sure that a key has one row at most? */
static bool
key_is_unique(Relation rel, List *key)
{
	List	   *indexes = RelationGetIndexList(rel);
	ListCell   *cell;
	bool		unique = false;

	foreach(cell, indexes)
	{
		HeapTuple	tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(lfirst_oid(cell)));
		Form_pg_index form;
		bool		covers;

		if (!HeapTupleIsValid(tuple))
			continue;
		form = (Form_pg_index) GETSTRUCT(tuple);
		covers = form->indisunique && form->indisvalid &&
			heap_attisnull(tuple, Anum_pg_index_indpred, NULL);
		for (int i = 0; covers && i < form->indnkeyatts; i++)
		{
			char	   *column = get_attname(RelationGetRelid(rel), form->indkey.values[i], true);
			ListCell   *name;
			bool		found = false;

			foreach(name, key)
				found |= (column && strcmp(column, lfirst(name)) == 0);
			covers = found;
		}
		unique |= covers;
		ReleaseSysCache(tuple);
	}
	return unique;
}

static AttrNumber
user_column(Relation rel, const char *name, const char *argument)
{
	AttrNumber	attnum = get_attnum(RelationGetRelid(rel), name);

	if (attnum == InvalidAttrNumber)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("column \"%s\" of relation \"%s\" does not exist", name,
						RelationGetRelationName(rel)),
				 errdetail("\"%s\" takes names of columns of the relation.", argument)));
	if (attnum < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_COLUMN_REFERENCE),
				 errmsg("\"%s\" of \"%s\" cannot be the system column \"%s\"", argument,
						RelationGetRelationName(rel), name)));
	return attnum;
}

static void
check_key(Relation rel, List *key)
{
	ListCell   *cell;

	if (key == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TABLE_DEFINITION),
				 errmsg("cannot attach \"%s\": it has no primary key", RelationGetRelationName(rel)),
				 errhint("Name the key columns: cachekit.attach(..., key => '{column, ...}').")));
	if (list_length(key) > KEY_MAX_COLUMNS)
		ereport(ERROR,
				(errcode(ERRCODE_TOO_MANY_COLUMNS),
				 errmsg("a key can have at most %d columns", KEY_MAX_COLUMNS)));
	foreach(cell, key)
	{
		AttrNumber	attnum = user_column(rel, lfirst(cell), "key");
		Oid			type;
		int32		typmod;
		Oid			collation;

		get_atttypetypmodcoll(RelationGetRelid(rel), attnum, &type, &typmod, &collation);
		if (key_kind(getBaseType(type), collation) == KEY_UNSUPPORTED && CK_GUARD("key-types"))
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("column \"%s\" of type %s cannot be a key", (char *) lfirst(cell),
							format_type_be(type)),
					 errdetail("Equal values of a key must have one text form; those of this column may have several."),
					 errhint("Key types are %s.", key_accepted_types())));
	}
}

static void
check_name(const char *name, Oid relid)
{
	char	   *encoded = key_percent_encode(name, strlen(name));
	Oid			other = catalog_relation_of(name);

	if (name[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("the name of an entity must not be empty")));
	if (strcmp(name, "cachekit") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_RESERVED_NAME),
				 errmsg("the name \"%s\" is reserved for cachekit itself", name),
				 errhint("Give the entity another name: cachekit.attach(..., name => '...').")));
	if (strlen(encoded) > KEY_MAX_ENTITY_NAME)
		ereport(ERROR,
				(errcode(ERRCODE_NAME_TOO_LONG),
				 errmsg("the name of entity \"%s\" is too long", name),
				 errdetail("It takes %d bytes in a cache key; %d are allowed.",
						   (int) strlen(encoded), KEY_MAX_ENTITY_NAME),
				 errhint("Give the entity a shorter name: cachekit.attach(..., name => '...').")));
	if (OidIsValid(other) && get_rel_name(other) == NULL)
		catalog_delete(other);	/* dropped where nobody told us */
	else if (OidIsValid(other) && other != relid)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("the name \"%s\" is taken by another entity", name),
				 errdetail("It is the name of relation %s.",
						   quote_qualified_identifier(get_namespace_name(get_rel_namespace(other)),
													  get_rel_name(other))),
				 errhint("Give the entity another name: cachekit.attach(..., name => '...').")));
}

static void
check_servers(List *servers)
{
	ListCell   *cell;

	foreach(cell, servers)
	{
		ForeignServer *server = options_server(lfirst(cell));

		if (!compat_server_usage(server->serverid, GetUserId()))
			aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FOREIGN_SERVER, server->servername);
	}
}

static void
check_on_change(const char *on_change)
{
	if (strcmp(on_change, "invalidate") == 0)
		return;
	if (strcmp(on_change, "refresh") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("on_change => 'refresh' is not supported yet"),
				 errhint("Use on_change => 'invalidate'.")));
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unknown on_change \"%s\"", on_change),
			 errhint("Use on_change => 'invalidate'.")));
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
	}
	if (!PG_ARGISNULL(ARG_KEY))
	{
		row->key = names_argument(PG_GETARG_DATUM(ARG_KEY), "key");
		if (row->key == NIL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("\"key\" must name a column")));
	}
	else if (!attached)
		row->key = primary_key(rel);
	if (!PG_ARGISNULL(ARG_NAME))
		row->name = text_to_cstring(PG_GETARG_TEXT_PP(ARG_NAME));
	if (!PG_ARGISNULL(ARG_SERVERS))
		row->servers = names_argument(PG_GETARG_DATUM(ARG_SERVERS), "servers");
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
		row->columns = names_argument(PG_GETARG_DATUM(ARG_COLUMNS), "columns");
}

/* Open a relation for attach or detach: the caller must own it. */
static Relation
open_owned(Oid relid)
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
static void
invalidate_members(List *members)
{
	ListCell   *cell;

	foreach(cell, members)
		CacheInvalidateRelcacheByRelid(lfirst_oid(cell));
}

/* attach(relation, key, name, servers, ttl, negative_ttl, on_change, local, columns) */
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

	if (PG_ARGISNULL(ARG_RELATION))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the relation to attach must not be NULL")));
	PreventCommandDuringRecovery("cachekit.attach()");
	relid = PG_GETARG_OID(ARG_RELATION);
	rel = open_owned(relid);
	check_relation(rel);
	members = members_of(relid, ShareRowExclusiveLock);
	foreach(cell, members)
	{
		Relation	member = table_open(lfirst_oid(cell), NoLock);

		check_member(member);
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
	check_key(rel, row.key);
	check_name(row.name, relid);
	check_servers(row.servers);
	check_on_change(row.on_change);
	foreach(cell, row.columns)
		(void) user_column(rel, lfirst(cell), "columns");
	if (!key_is_unique(rel, row.key))
		ereport(NOTICE,
				(errmsg("no unique index makes sure that a key of \"%s\" has one row only",
						RelationGetRelationName(rel)),
				 errdetail("A fetch that finds two rows is an error, and every fetch from the table may scan it.")));
	relation_close(rel, NoLock);

	if (attached && strcmp(old_name, row.name) != 0)
		members_uninstall(relid, old_name);
	catalog_write(&row);
	members_install(relid, row.name);
	changes_add_entity(relid, true);
	invalidate_members(members);
	CommandCounterIncrement();	/* what follows in the same command knows of it */
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
	rel = open_owned(relid);
	if (!catalog_read(relid, &row))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("relation \"%s\" is not attached to cachekit",
						RelationGetRelationName(rel)),
				 errhint("SELECT * FROM cachekit.entities lists what is.")));
	relation_close(rel, NoLock);
	members = members_of(relid, ShareRowExclusiveLock);
	members_uninstall(relid, row.name);
	catalog_delete(relid);
	changes_forget_entity(relid);
	invalidate_members(members);
	PG_RETURN_VOID();
}
