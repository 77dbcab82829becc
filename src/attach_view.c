/*-------------------------------------------------------------------------
 *
 * attach_view.c
 *	  The dependencies of views: derived by attach(), or given by the user.
 *
 * Both exclude the writers of a base while it gets its triggers, as attach()
 * does for a table, and count as a change of the entity and its settings.
 *
 * A `via` query runs as the owner of the entity, whenever somebody writes to
 * the base.  So whoever adds one must own the entity; and because it makes
 * others' writes slower, the base as well.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_inherits.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "attach.h"
#include "attach_check.h"
#include "changes.h"
#include "debug.h"
#include "dependency.h"
#include "entity.h"
#include "members.h"
#include "sources.h"
#include "via.h"
#include "view.h"

PG_FUNCTION_INFO_V1(ck_add_dependency);
PG_FUNCTION_INFO_V1(ck_drop_dependency);

/* The arguments of add_dependency(), in their order. */
enum
{
	ARG_ENTITY, ARG_BASE, ARG_KEY, ARG_VIA
};

/* Lock a base and its partitions, and see that their changes can be told of. */
static List *
lock_base(Oid base)
{
	List	   *members = members_lock(base);
	ListCell   *cell;

	foreach(cell, members)
	{
		Relation	member = table_open(lfirst_oid(cell), NoLock);

		attach_check_base(member);
		table_close(member, NoLock);
	}
	return members;
}

/* ---------- deriving ---------- */

/* Can a base have triggers of ours?  If not, the analysis has said why. */
static bool
can_derive(Oid base, Oid role)
{
	char		kind = get_rel_relkind(base);
	char		persistence = get_rel_persistence(base);

	if (base < FirstNormalObjectId || persistence != RELPERSISTENCE_PERMANENT ||
		(kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE))
		return false;
	if (kind == RELKIND_RELATION && find_inheritance_children(base, NoLock) != NIL)
		return false;
	return compat_owns_relation(base, role);
}

static void
insert_derived(Oid entity, const ViewRead *read)
{
	List	   *dependencies = dependencies_of(entity);
	ListCell   *cell;

	foreach(cell, read->derived)
	{
		DependencyRow row = {entity, read->relid, 0, lfirst(cell), NULL, NULL, NULL, true};

		if (!dependencies_have(dependencies, read->relid, row.key))
			dependency_insert(&row);
	}
}

/* Excludes the writers of all bases: they go by the columns that counted before. */
static void
lock_bases(Oid relid)
{
	ListCell   *cell;

	if (!CK_GUARD("redefinition"))
		return;
	foreach(cell, sources_bases(relid))
		attach_invalidate(members_lock(lfirst_oid(cell)));
}

void
attach_derive(const EntityRow *row, Oid role, bool attach)
{
	ViewAnalysis *analysis = view_analyse(row->relid, row->key);
	List	   *before = sources_bases(row->relid);
	List	   *after;
	ListCell   *cell;

	if (analysis->refusal && attach)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("cannot attach \"%s\": %s", get_rel_name(row->relid), analysis->refusal),
				 errhint("Who may see a row cannot be told from a cached document.")));
	lock_bases(row->relid);
	(void) dependency_delete(row->relid, InvalidOid, true);
	foreach(cell, analysis->reads)
	{
		ViewRead   *read = lfirst(cell);

		/* what somebody with more rights has derived stays */
		if (read->derived == NIL || !(can_derive(read->relid, role) ||
									  list_member_oid(before, read->relid)))
			continue;
		if (!list_member_oid(before, read->relid))
			lock_base(read->relid);
		insert_derived(row->relid, read);
	}
	after = sources_bases(row->relid);
	foreach(cell, list_difference_oid(before, after))
		members_uninstall(lfirst_oid(cell), row->name);
	foreach(cell, after)
	{
		if (!attach && list_member_oid(before, lfirst_oid(cell)))
			continue;
		attach_invalidate(lock_base(lfirst_oid(cell)));
		members_install(lfirst_oid(cell), row->name);
	}
}

/* orders (id), order_items (order_id) */
static char *
list_dependencies(Oid relid, bool derived)
{
	StringInfoData text;
	ListCell   *cell;

	initStringInfo(&text);
	foreach(cell, dependencies_of(relid))
	{
		DependencyRow *row = lfirst(cell);
		ListCell   *name;
		const char *separator = "";

		if (row->derived != derived)
			continue;
		appendStringInfo(&text, "%s%s (", text.len ? ", " : "", view_relation_name(row->base));
		foreach(name, row->key)
		{
			appendStringInfo(&text, "%s%s", separator, quote_identifier(lfirst(name)));
			separator = ", ";
		}
		appendStringInfoChar(&text, ')');
	}
	return text.data;
}

void
attach_tell_dependencies(Oid relid)
{
	char	   *derived = list_dependencies(relid, true);
	Entity	   *entity;

	if (derived[0] != '\0')
		ereport(NOTICE,
				(errmsg("derived the dependencies of \"%s\": %s", get_rel_name(relid), derived)));
	CommandCounterIncrement();
	AcceptInvalidationMessages();
	entity = entity_find(relid);
	if (entity && entity->untracked)
		ereport(NOTICE,
				(errmsg("\"%s\" cannot be fetched yet: %s", get_rel_name(relid), entity->untracked),
				 errhint("Say which keys a row of a table concerns: cachekit.add_dependency(%s, table, key => '{column}'), or via => 'SELECT key FROM ... WHERE column = ($1).id'. Or accept stale documents: cachekit.attach(..., allow_untracked => true).",
						 quote_literal_cstr(view_relation_name(relid)))));
	else if (entity && entity->problem)
		ereport(NOTICE,
				(errmsg("\"%s\" will not be cached: %s", get_rel_name(relid), entity->problem)));
}

/* ---------- add_dependency() and drop_dependency() ---------- */

static void
require_view(Oid relid, EntityRow *row)
{
	if (!catalog_read(relid, row))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("relation \"%s\" is not attached to cachekit", get_rel_name(relid)),
				 errhint("SELECT cachekit.attach(%s, key => ...) first.",
						 quote_literal_cstr(view_relation_name(relid)))));
	if (get_rel_relkind(relid) != RELKIND_VIEW)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("entity \"%s\" is a table, which depends on nothing but itself", row->name),
				 errhint("Only entities that are views have dependencies.")));
}

static void
check_key_columns(const Entity *entity, Relation base, List *key)
{
	KeyShape	shape;
	ListCell   *cell;
	char	   *problem;

	if (entity->shape.n == 0 || list_length(key) != entity->shape.n)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"key\" must name %d column(s) of \"%s\", in the order of the key of entity \"%s\"",
						entity->shape.n, RelationGetRelationName(base), entity->name)));
	foreach(cell, key)
		(void) attach_column(base, lfirst(cell), "key");
	problem = sources_shape(entity, RelationGetRelid(base), key, &shape);
	for (int i = 0; problem == NULL && i < shape.n; i++)
	{
		const KeyColumn *ours = &entity->shape.column[i];
		const KeyColumn *theirs = &shape.column[i];

		if (!key_kinds_match(ours->kind, ours->type, theirs->kind, theirs->type))
			problem = psprintf("column \"%s\" is of type %s, and the key's of type %s",
							   NameStr(theirs->name), format_type_be(theirs->type),
							   format_type_be(ours->type));
	}
	if (problem)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("cannot add a dependency of \"%s\" on \"%s\": %s", entity->name,
						RelationGetRelationName(base), problem),
				 errhint("Give a query that casts it: via => 'SELECT ...'.")));
}

static void
check_via(const Entity *entity, Oid base, const EntityRow *row, const char *query)
{
	Via		   *via = via_make(entity, base, query, true);
	char	   *problem = via->analysis->refusal;

	if (problem == NULL && via->analysis->problems != NIL && !row->allow_untracked)
		problem = linitial(via->analysis->problems);
	if (problem)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("the \"via\" query of entity \"%s\" cannot be relied on: %s", entity->name,
						problem)));
}

/* Is it there already?  One that was derived becomes the user's. */
static bool
is_there(const DependencyRow *new)
{
	ListCell   *cell;

	foreach(cell, dependencies_of(new->entity))
	{
		DependencyRow *row = lfirst(cell);

		if (row->base != new->base || row->derived || (row->via == NULL) != (new->via == NULL))
			continue;
		if (row->via ? strcmp(row->query, new->query) == 0 && strcmp(row->owner, new->owner) == 0
			: catalog_same_names(row->key, new->key))
			return true;
	}
	return false;
}

/* add_dependency(entity, base, key, via) */
Datum
ck_add_dependency(PG_FUNCTION_ARGS)
{
	DependencyRow new = {0};
	EntityRow	row;
	Entity	   *entity;
	Relation	rel;
	Relation	base;

	if (PG_ARGISNULL(ARG_ENTITY) || PG_ARGISNULL(ARG_BASE))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("entity and base must not be NULL")));
	if (PG_ARGISNULL(ARG_KEY) == PG_ARGISNULL(ARG_VIA))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("give either \"key\" or \"via\""),
				 errhint("key => '{column}' for a table that has the key, via => 'SELECT ...' for one that leads to it.")));
	PreventCommandDuringRecovery("cachekit.add_dependency()");
	new.entity = PG_GETARG_OID(ARG_ENTITY);
	new.base = PG_GETARG_OID(ARG_BASE);
	rel = attach_open_owned(new.entity);
	require_view(new.entity, &row);
	base = attach_open_owned(new.base);
	attach_check_base(base);
	attach_invalidate(lock_base(new.base));
	entity = entity_get(new.entity);
	if (!PG_ARGISNULL(ARG_KEY))
	{
		new.key = attach_names_argument(PG_GETARG_DATUM(ARG_KEY), "key");
		check_key_columns(entity, base, new.key);
	}
	else
	{
		new.via = text_to_cstring(PG_GETARG_TEXT_PP(ARG_VIA));
		new.query = via_qualify(entity, new.base, new.via);
		new.owner = GetUserNameFromId(entity->owner, false);
		check_via(entity, new.base, &row, new.query);
	}
	relation_close(base, NoLock);	/* ALTER TABLE wants it for itself */
	if (!is_there(&new))
		dependency_insert(&new);
	members_install(new.base, row.name);
	changes_add_entity(new.entity, true);
	attach_invalidate(list_make1_oid(new.entity));
	relation_close(rel, NoLock);
	CommandCounterIncrement();
	PG_RETURN_VOID();
}

/* drop_dependency(entity, base) */
Datum
ck_drop_dependency(PG_FUNCTION_ARGS)
{
	Oid			relid = PG_GETARG_OID(0);
	Oid			base = PG_GETARG_OID(1);
	Relation	rel;
	EntityRow	row;
	ListCell   *cell;

	PreventCommandDuringRecovery("cachekit.drop_dependency()");
	rel = attach_open_owned(relid);
	require_view(relid, &row);
	/* before the lock: nobody may lock what has nothing to do with him */
	if (!list_member_oid(sources_bases(relid), base))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("entity \"%s\" has no dependency on \"%s\"", row.name, get_rel_name(base)),
				 errhint("SELECT * FROM cachekit.dependencies lists what there is.")));
	attach_invalidate(members_lock(base));
	(void) dependency_delete(relid, base, false);
	members_uninstall(base, row.name);
	/* partitions may be bases of their own */
	foreach(cell, sources_bases(relid))
		members_install(lfirst_oid(cell), row.name);
	changes_add_entity(relid, true);
	attach_invalidate(list_make1_oid(relid));
	relation_close(rel, NoLock);
	CommandCounterIncrement();
	PG_RETURN_VOID();
}
