/*-------------------------------------------------------------------------
 *
 * attach_check.c
 *	  What attach() and add_dependency() refuse, and why.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "catalog/catalog.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_inherits.h"
#include "foreign/foreign.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "attach_check.h"
#include "catalog.h"
#include "debug.h"
#include "key.h"
#include "options.h"

/* `verb`: what cannot be done with it. */
static void
refuse(Relation rel, const char *verb, const char *why, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_WRONG_OBJECT_TYPE),
			 errmsg("cannot %s \"%s\": %s", verb, RelationGetRelationName(rel), why),
			 hint ? errhint("%s", hint) : 0));
}

/* What no entity can be made of, or its changes would go unseen. */
static void
check_member(Relation rel, const char *verb)
{
	Form_pg_class form = rel->rd_rel;

	if (form->relkind == RELKIND_FOREIGN_TABLE)
		refuse(rel, verb, "it is a foreign table", "Changes on the other side fire no trigger here.");
	if (form->relkind == RELKIND_VIEW)
		refuse(rel, verb, "it is a view", "A dependency is on a table that the view reads.");
	if (form->relkind == RELKIND_MATVIEW)
		refuse(rel, verb, "it is a materialized view",
			   "Its refresh fires no trigger. Use a table, or a view of the tables below it.");
	if (form->relkind != RELKIND_RELATION && form->relkind != RELKIND_PARTITIONED_TABLE)
		refuse(rel, verb, "it is not a table", "Use a table, a partitioned table or a view.");
	if (!CK_GUARD("attach-refusals"))
		return;
	if (form->relpersistence == RELPERSISTENCE_TEMP)
		refuse(rel, verb, "it is a temporary table", "Only its own session could read it.");
	if (form->relpersistence == RELPERSISTENCE_UNLOGGED)
		refuse(rel, verb, "it is an unlogged table",
			   "A crash empties it without a trace. ALTER TABLE ... SET LOGGED first.");
	if (form->relrowsecurity)
		refuse(rel, verb, "it has row security",
			   "Who may see a row cannot be told from a cached document.");
	if (form->relkind == RELKIND_RELATION && form->relhassubclass &&
		find_inheritance_children(RelationGetRelid(rel), NoLock) != NIL)
		refuse(rel, verb, "it has child tables by plain inheritance",
			   "Changes of child tables fire no trigger on it. Use a partitioned table, or attach the child tables.");
}

static void
check_relation(Relation rel, const char *verb)
{
	Oid			schema = RelationGetNamespace(rel);

	if (IsCatalogRelation(rel) || IsToastRelation(rel) ||
		RelationGetRelid(rel) < FirstNormalObjectId)
		refuse(rel, verb, "it is a system catalog", NULL);
	if (strcmp(get_namespace_name(schema), "cachekit") == 0)
		refuse(rel, verb, "it belongs to cachekit itself", NULL);
	if (rel->rd_rel->relkind == RELKIND_VIEW && rel->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
		refuse(rel, verb, "it is a temporary view", "Only its own session could read it.");
	if (rel->rd_rel->relkind != RELKIND_VIEW)
		check_member(rel, verb);
}

void
attach_check_relation(Relation rel)
{
	check_relation(rel, "attach");
}

void
attach_check_member(Relation rel)
{
	check_member(rel, "attach");
}

void
attach_check_base(Relation rel)
{
	check_relation(rel, "depend on");
	check_member(rel, "depend on");
}

/* The columns of the primary key, in its order; NIL: there is none. */
List *
attach_primary_key(Relation rel)
{
	Oid			index = compat_primary_key_index(rel);
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
bool
attach_key_is_unique(Relation rel, List *key)
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

AttrNumber
attach_column(Relation rel, const char *name, const char *argument)
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

void
attach_check_key(Relation rel, List *key)
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
		AttrNumber	attnum = attach_column(rel, lfirst(cell), "key");
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

void
attach_check_name(const char *name, Oid relid)
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

void
attach_check_servers(List *servers)
{
	ListCell   *cell;

	foreach(cell, servers)
	{
		ForeignServer *server = options_server(lfirst(cell));

		if (!compat_server_usage(server->serverid, GetUserId()))
			aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FOREIGN_SERVER, server->servername);
	}
}

void
attach_check_on_change(const char *on_change)
{
	if (strcmp(on_change, "invalidate") != 0 && strcmp(on_change, "refresh") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown on_change \"%s\"", on_change),
				 errhint("on_change is 'invalidate' or 'refresh'.")));
}
