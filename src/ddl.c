/*-------------------------------------------------------------------------
 *
 * ddl.c
 *	  Commands that change what an entity is, or how its documents look.
 *
 * A row trigger does not see ALTER TABLE, ATTACH PARTITION or ALTER TYPE.  Two
 * hooks do.  The utility hook looks at a command *before* it runs, because
 * some commands commit on the way (DETACH PARTITION CONCURRENTLY) and may be
 * cancelled half-way; it adds the entities concerned to the change set.  The
 * object access hook sees what no command names: cascades, DROP OWNED, DROP
 * EXTENSION, and the relation that a name really meant.
 *
 * What is not known to be harmless invalidates everything in the database:
 * such commands are rare, and too much is cheap.
 *
 * After the command mend.c puts the catalog and the triggers right.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_cast.h"
#include "catalog/pg_database.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "foreign/foreign.h"
#include "nodes/makefuncs.h"
#include "nodes/parsenodes.h"
#include "parser/parse_type.h"
#include "storage/lmgr.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "catalog.h"
#include "changes.h"
#include "ddl.h"
#include "dependency.h"
#include "debug.h"
#include "entity.h"
#include "mend.h"
#include "refresh_queue.h"
#include "via.h"

static ProcessUtility_hook_type previous_utility = NULL;
static object_access_hook_type previous_access = NULL;
static bool dropping_cascade = false;	/* the command says CASCADE, or implies it */

/* ---------- what a command reaches ---------- */

/* Does some other relation have a column of this relation's row type? */
static bool
row_type_is_used(Oid relid)
{
	Oid			types[2];
	bool		used = false;
	Relation	depend;

	types[0] = get_rel_type_id(relid);
	if (!OidIsValid(types[0]))
		return false;
	types[1] = get_array_type(types[0]);
	depend = table_open(DependRelationId, AccessShareLock);
	for (int i = 0; i < 2 && !used; i++)
	{
		ScanKeyData key[2];
		SysScanDesc scan;
		HeapTuple	tuple;

		ScanKeyInit(&key[0], Anum_pg_depend_refclassid, BTEqualStrategyNumber, F_OIDEQ,
					ObjectIdGetDatum(TypeRelationId));
		ScanKeyInit(&key[1], Anum_pg_depend_refobjid, BTEqualStrategyNumber, F_OIDEQ,
					ObjectIdGetDatum(types[i]));
		scan = systable_beginscan(depend, DependReferenceIndexId, true, NULL, 2, key);
		while (!used && HeapTupleIsValid(tuple = systable_getnext(scan)))
		{
			Form_pg_depend form = (Form_pg_depend) GETSTRUCT(tuple);

			used = (form->classid == RelationRelationId && form->objid != relid) ||
				(form->classid == TypeRelationId && form->objid != types[1]);
		}
		systable_endscan(scan);
	}
	table_close(depend, AccessShareLock);
	return used;
}

/* A relation's definition changes: so do the entities that it belongs to. */
static void
note_relation(Oid relid)
{
	ListCell   *cell;

	if (!OidIsValid(relid) || relid < FirstNormalObjectId)
		return;
	foreach(cell, entities_of_relation(relid))
		changes_add_entity(lfirst_oid(cell), true);
}

/* The same for a relation that is named; it may not exist. */
static void
note_named(RangeVar *name)
{
	if (name != NULL)
		note_relation(RangeVarGetRelid(name, NoLock, true));
}

static void
note_alter_table(AlterTableStmt *stmt)
{
	Oid			relid = RangeVarGetRelid(stmt->relation, NoLock, true);
	ListCell   *cell;

	/* composite types, and tables whose row type is a column's elsewhere */
	if (stmt->objtype == OBJECT_TYPE || (OidIsValid(relid) && row_type_is_used(relid)))
		changes_add_database();
	note_relation(relid);
	foreach(cell, stmt->cmds)
	{
		AlterTableCmd *cmd = lfirst_node(AlterTableCmd, cell);

		if (cmd->subtype == AT_AttachPartition || cmd->subtype == AT_DetachPartition ||
			cmd->subtype == AT_DetachPartitionFinalize)
			note_named(((PartitionCmd *) cmd->def)->name);
		else if (cmd->subtype == AT_AddInherit || cmd->subtype == AT_DropInherit)
			note_named((RangeVar *) cmd->def);
	}
}

static void
note_rename(RenameStmt *stmt)
{
	switch (stmt->renameType)
	{
		case OBJECT_INDEX:
		case OBJECT_TRIGGER:
		case OBJECT_TABCONSTRAINT:
		case OBJECT_POLICY:
		case OBJECT_RULE:
			note_named(stmt->relation);
			break;
		case OBJECT_FOREIGN_SERVER:
		case OBJECT_FDW:
			changes_add_servers();
			break;
		case OBJECT_DATABASE:
			break;
		default:

			/*
			 * Names are in documents (of columns of row types, regclass, enums),
			 * and in the queries that load them.
			 */
			note_named(stmt->relation);
			changes_add_database();
	}
}

/* Something is created anew, or replaced, or lives in the session's own schema? */
static bool
is_replacement(bool replace, List *name)
{
	return replace && !(list_length(name) > 1 && strcmp(strVal(linitial(name)), "pg_temp") == 0);
}

/* Commands of the DDL class that change no document of a table. */
static bool
is_harmless(Node *stmt)
{
	switch (nodeTag(stmt))
	{
		case T_CreateTableAsStmt:
		case T_CreateSchemaStmt:
		case T_CreateSeqStmt:
		case T_AlterSeqStmt:
		case T_CreateStatsStmt:
		case T_AlterStatsStmt:
		case T_CreateEnumStmt:
		case T_CreateRangeStmt:
		case T_CompositeTypeStmt:
		case T_CreateDomainStmt:
		case T_CreateExtensionStmt:
		case T_CreatePolicyStmt:
		case T_AlterPolicyStmt:
		case T_CreateEventTrigStmt:
		case T_AlterEventTrigStmt:
		case T_CreateFdwStmt:
		case T_AlterFdwStmt:
		case T_CreateForeignServerStmt:
		case T_AlterForeignServerStmt:
		case T_CreateForeignTableStmt:
		case T_CreateUserMappingStmt:
		case T_AlterUserMappingStmt:
		case T_DropUserMappingStmt:
		case T_ImportForeignSchemaStmt:
		case T_CreatePublicationStmt:
		case T_AlterPublicationStmt:
		case T_CreateSubscriptionStmt:
		case T_AlterSubscriptionStmt:
		case T_DropSubscriptionStmt:
		case T_CreateRoleStmt:
		case T_AlterRoleStmt:
		case T_AlterRoleSetStmt:
		case T_DropRoleStmt:
		case T_GrantStmt:
		case T_GrantRoleStmt:
		case T_AlterDefaultPrivilegesStmt:
		case T_CreatedbStmt:
		case T_AlterDatabaseStmt:
		case T_AlterDatabaseSetStmt:
		case T_DropdbStmt:
		case T_CreateTableSpaceStmt:
		case T_AlterTableSpaceOptionsStmt:
		case T_DropTableSpaceStmt:
		case T_AlterSystemStmt:
		case T_CommentStmt:
		case T_SecLabelStmt:
		case T_IndexStmt:
		case T_ReindexStmt:
		case T_ClusterStmt:
		case T_RefreshMatViewStmt:
		case T_DropStmt:		/* the object access hook sees what goes */
		case T_AlterObjectDependsStmt:
			return true;
		default:
			return false;
	}
}

/*
 * A value of an enum is renamed: keys of that type get other texts.  Writers
 * that have noted the old text are waited for, because no row changes.
 */
static void
lock_enum_keys(List *type_name)
{
	Oid			type = LookupTypeNameOid(NULL, makeTypeNameFromNameList(type_name), true);
	ListCell   *cell;

	/* not for somebody who may not do it */
	if (!OidIsValid(type) || !compat_owns_type(type, GetUserId()) || !CK_GUARD("enum-rename"))
		return;
	foreach(cell, catalog_relations())
	{
		Entity	   *entity = entity_find(lfirst_oid(cell));
		ListCell   *member;

		for (int i = 0; entity && i < entity->shape.n; i++)
		{
			if (entity->shape.column[i].type != type)
				continue;
			foreach(member, list_copy(entity->members))
				LockRelationOid(lfirst_oid(member), ShareRowExclusiveLock);
			break;
		}
	}
}

/* Before a command: what it may change. */
static void
note_command(Node *stmt)
{
	ListCell   *cell;

	switch (nodeTag(stmt))
	{
		case T_AlterTableStmt:
			note_alter_table((AlterTableStmt *) stmt);
			break;
		case T_RenameStmt:
			note_rename((RenameStmt *) stmt);
			break;
		case T_CreateStmt:
			foreach(cell, ((CreateStmt *) stmt)->inhRelations)
				note_named(lfirst_node(RangeVar, cell));
			break;
		case T_CreateForeignServerStmt:
		case T_AlterForeignServerStmt:
		case T_CreateUserMappingStmt:
		case T_AlterUserMappingStmt:
		case T_DropUserMappingStmt:
			changes_add_servers();
			break;
		case T_AlterEnumStmt:
			if (((AlterEnumStmt *) stmt)->oldVal)
				lock_enum_keys(((AlterEnumStmt *) stmt)->typeName);
			changes_add_database();
			break;
		case T_AlterOwnerStmt:
			changes_add_servers();
			if (((AlterOwnerStmt *) stmt)->objectType != OBJECT_FOREIGN_SERVER)
				changes_add_database();
			break;
		case T_ReassignOwnedStmt:
			changes_add_servers();
			changes_add_database();
			break;
		case T_DropOwnedStmt:	/* the object access hook sees what else goes */
			changes_add_servers();
			break;
		case T_ViewStmt:		/* OR REPLACE */
			note_named(((ViewStmt *) stmt)->view);
			break;
		case T_RuleStmt:		/* the definition of a view is one */
			note_named(((RuleStmt *) stmt)->relation);
			break;
		case T_CreateTrigStmt:	/* OR REPLACE may replace one of ours */
			note_named(((CreateTrigStmt *) stmt)->relation);
			break;
		case T_CreateFunctionStmt:
			if (is_replacement(((CreateFunctionStmt *) stmt)->replace,
							   ((CreateFunctionStmt *) stmt)->funcname))
				changes_add_database();
			break;
		case T_DefineStmt:
			if (is_replacement(((DefineStmt *) stmt)->replace, ((DefineStmt *) stmt)->defnames))
				changes_add_database();
			break;
		default:
			if (!is_harmless(stmt))
				changes_add_database();
	}
}

/* ---------- hooks ---------- */

/* Commands that are looked at at all, in databases that have the extension. */
static bool
is_ddl(Node *stmt)
{
	return !IsBinaryUpgrade && IsTransactionState() &&
		GetCommandLogLevel(stmt) == LOGSTMT_DDL && catalog_exists();
}

static bool
is_about_databases(Node *stmt)
{
	return IsA(stmt, CreatedbStmt) || IsA(stmt, AlterDatabaseStmt) || IsA(stmt, DropdbStmt) ||
		(IsA(stmt, RenameStmt) && ((RenameStmt *) stmt)->renameType == OBJECT_DATABASE);
}

static void
utility_hook(PlannedStmt *pstmt, const char *query, bool read_only_tree,
			 ProcessUtilityContext context, ParamListInfo params,
			 QueryEnvironment *environment, DestReceiver *dest, QueryCompletion *completion)
{
	Node	   *stmt = pstmt->utilityStmt;
	bool		ddl = CK_GUARD("ddl-hooks") && is_ddl(stmt);

	/* whatever this database has, others may have cache servers */
	if (is_about_databases(stmt) && IsTransactionState())
	{
		changes_add_databases();
		refreshers_make_way(stmt);
	}
	if (ddl)
	{
		/* the command may change its own parse tree */
		stmt = copyObject(stmt);
		note_command(stmt);
		dropping_cascade = !IsA(stmt, DropStmt) ||
			((DropStmt *) stmt)->behavior == DROP_CASCADE ||
			((DropStmt *) stmt)->removeType == OBJECT_EXTENSION;
	}
	if (previous_utility)
		previous_utility(pstmt, query, read_only_tree, context, params, environment, dest,
						 completion);
	else
		standard_ProcessUtility(pstmt, query, read_only_tree, context, params, environment,
								dest, completion);
	if (ddl && IsTransactionState())
		mend_after(stmt);
}

/* The relation of one of our triggers, or InvalidOid. */
static Oid
relation_of_trigger(Oid trigger)
{
	Relation	rel = table_open(TriggerRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	Oid			relid = InvalidOid;

	ScanKeyInit(&key, Anum_pg_trigger_oid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(trigger));
	scan = systable_beginscan(rel, TriggerOidIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		Form_pg_trigger form = (Form_pg_trigger) GETSTRUCT(tuple);
		char	   *schema = get_namespace_name(get_func_namespace(form->tgfoid));

		if (schema && strcmp(schema, "cachekit") == 0)
			relid = form->tgrelid;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return relid;
}

/* Does a `via` query of the entity read a column, or take it from the changed row? */
static bool
via_uses_column(const Entity *entity, Oid relid, AttrNumber attnum)
{
	for (int i = 0; entity && i < entity->nsources; i++)
	{
		const EntitySource *source = &entity->sources[i];
		const Via  *via = source->via;
		ListCell   *cell;

		if (via == NULL || via->problem)
			continue;
		if (source->base == relid && bms_is_member(attnum, via->fields))
			return true;
		foreach(cell, via->analysis->reads)
		{
			ViewRead   *read = lfirst(cell);

			if (read->relid == relid && bms_is_member(attnum, read->columns))
				return true;
		}
	}
	return false;
}

/* A column that a dependency goes by cannot just go. */
static void
check_dependency_column(Oid relid, AttrNumber attnum, const char *column)
{
	ListCell   *cell;

	foreach(cell, dependencies_on(relid))
	{
		DependencyRow *dependency = lfirst(cell);
		Entity	   *entity = entity_find(dependency->entity);

		/* an entity that goes by the same command needs it no more */
		if (entity == NULL || (!catalog_names_have(dependency->key, column) &&
							   !via_uses_column(entity, relid, attnum)))
			continue;
		ereport(ERROR,
				(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				 errmsg("cannot drop column \"%s\" of \"%s\" because a dependency of cachekit entity \"%s\" uses it",
						column, get_rel_name(relid), entity->name),
				 errhint("Drop the dependency with cachekit.drop_dependency(), or detach the entity, first.")));
	}
}

/* A column that a key or a document is made of cannot just go. */
static void
check_column_drop(Oid relid, AttrNumber attnum)
{
	char	   *column = get_attname(relid, attnum, true);
	EntityRow	row;

	if (column == NULL)
		return;
	if (catalog_read(relid, &row) &&
		(catalog_names_have(row.key, column) || catalog_names_have(row.columns, column)))
		ereport(ERROR,
				(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				 errmsg("cannot drop column \"%s\" of \"%s\" because cachekit entity \"%s\" uses it",
						column, get_rel_name(relid), row.name),
				 errhint("Attach the relation with other columns, or detach it, first.")));
	check_dependency_column(relid, attnum, column);
}

/* A server that entities use goes only by CASCADE; then they go on without it. */
static void
note_server_drop(Oid serverid)
{
	char	   *name = GetForeignServer(serverid)->servername;
	ListCell   *cell;

	changes_add_servers();
	foreach(cell, catalog_relations())
	{
		EntityRow	row;

		if (!catalog_read(lfirst_oid(cell), &row) || !catalog_names_have(row.servers, name))
			continue;
		if (!dropping_cascade)
			ereport(ERROR,
					(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
					 errmsg("cannot drop server \"%s\" because cachekit entity \"%s\" uses it",
							name, row.name),
					 errhint("Use DROP ... CASCADE to drop it and leave the entities without it, or change them with cachekit.attach(..., servers => ...).")));
		changes_add_entity(row.relid, true);
		mend_remember_server_drop();
	}
}

static void
note_drop(Oid class, Oid object, int column)
{
	if (class == RelationRelationId)
	{
		if (column > 0)
			check_column_drop(object, column);
		note_relation(object);
		if (column == 0)
		{
			EntityRow	row;

			if (catalog_read(object, &row))
			{
				mend_remember_drop(object);
				changes_forget_entity(object);
			}
			else if (dependencies_on(object) != NIL)
				mend_remember_drop(object);
		}
	}
	else if (class == ForeignServerRelationId)
		note_server_drop(object);
	else if (class == TriggerRelationId)
		note_relation(relation_of_trigger(object));
	else if (class == CastRelationId)
		changes_add_database();
}

static void
access_hook(ObjectAccessType access, Oid class, Oid object, int column, void *arg)
{
	if (previous_access)
		previous_access(access, class, object, column, arg);
	if (IsBinaryUpgrade || !IsTransactionState() || !CK_GUARD("ddl-hooks"))
		return;

	/* a database that is made with this one's OID is another */
	if (access == OAT_DROP && class == DatabaseRelationId)
		changes_drop_database(object);

	/* the extension goes: its triggers with it, and nobody tells us any more */
	else if (access == OAT_DROP && class == ExtensionRelationId)
	{
		char	   *name = get_extension_name(object);

		if (name && strcmp(name, "cachekit") == 0)
		{
			changes_forget_database();
			changes_add_servers();
		}
	}
	else if (access == OAT_DROP &&
			 (class == RelationRelationId || class == TriggerRelationId ||
			  class == CastRelationId || class == ForeignServerRelationId))
	{
		if (catalog_exists())
			note_drop(class, object, column);
	}
	else if (class == RelationRelationId &&
			 (access == OAT_POST_ALTER || (access == OAT_POST_CREATE && column > 0)))
	{
		if (object >= FirstNormalObjectId && catalog_exists())
		{
			note_relation(object);
			if (row_type_is_used(object))
				changes_add_database();
		}
	}
}

void
ddl_install_hooks(void)
{
	previous_utility = ProcessUtility_hook;
	ProcessUtility_hook = utility_hook;
	previous_access = object_access_hook;
	object_access_hook = access_hook;
	mend_by_hooks();
}
