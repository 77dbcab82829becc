/*-------------------------------------------------------------------------
 *
 * mend.c
 *	  After DDL: putting the catalog and the triggers of entities right.
 *
 * Columns and servers that were renamed, relations and servers that are no
 * more, new partitions without a TRUNCATE trigger, detached ones with one,
 * triggers that DISABLE and ENABLE left at ORIGIN.  The utility hook calls
 * this after a command; where the library was not preloaded, event triggers
 * do, and nothing is cached then.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "catalog/namespace.h"
#include "commands/event_trigger.h"
#include "foreign/foreign.h"
#include "nodes/parsenodes.h"
#include "storage/lmgr.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "attach.h"
#include "catalog.h"
#include "debug.h"
#include "dependency.h"
#include "entity.h"
#include "members.h"
#include "mend.h"
#include "options.h"

PG_FUNCTION_INFO_V1(ck_on_ddl_end);
PG_FUNCTION_INFO_V1(ck_on_drop);

static bool hooks_installed = false;	/* the event triggers need do nothing */
static bool mending = false;	/* our own commands need no mending */
static List *dropped = NIL;		/* relations of entities that are being dropped */
static bool dropped_server = false; /* a server that entities use is being dropped */

void
mend_by_hooks(void)
{
	hooks_installed = true;
}

/* An entity's relation, or a base, is being dropped: rows go after the command. */
void
mend_remember_drop(Oid relid)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

	dropped = lappend_oid(dropped, relid);
	MemoryContextSwitchTo(old);
}

void
mend_remember_server_drop(void)
{
	dropped_server = true;
}

/* Restore the triggers of the entities that a relation belongs to, in its subtree. */
static void
mend_relation(RangeVar *name, bool new_partition)
{
	Oid			relid = name ? RangeVarGetRelid(name, NoLock, true) : InvalidOid;
	ListCell   *cell;

	if (!OidIsValid(relid))
		return;
	foreach(cell, entities_of_relation(relid))
	{
		EntityRow	row;

		if (catalog_read(lfirst_oid(cell), &row))
			members_repair(relid, row.name, new_partition);
	}
}

/* A partition that has left its tree keeps no TRUNCATE trigger of it. */
static void
mend_detached(RangeVar *parent, RangeVar *partition)
{
	Oid			parent_relid = RangeVarGetRelid(parent, NoLock, true);
	Oid			relid = RangeVarGetRelid(partition, NoLock, true);
	ListCell   *cell;

	if (!OidIsValid(parent_relid) || !OidIsValid(relid))
		return;
	foreach(cell, entities_of_relation(parent_relid))
	{
		EntityRow	row;

		if (catalog_read(lfirst_oid(cell), &row))
			members_drop_truncate_triggers(relid, row.name);
	}
}

static bool
replace_name(List *names, const char *old, const char *new)
{
	ListCell   *cell;
	bool		replaced = false;

	foreach(cell, names)
	{
		if (strcmp(lfirst(cell), old) == 0)
		{
			lfirst(cell) = pstrdup(new);
			replaced = true;
		}
	}
	return replaced;
}

/* Entities forget servers that exist no more. */
static void
mend_servers(void)
{
	ListCell   *cell;

	foreach(cell, catalog_relations())
	{
		EntityRow	row;
		List	   *left = NIL;
		ListCell   *name;

		if (!catalog_read(lfirst_oid(cell), &row))
			continue;
		foreach(name, row.servers)
		{
			if (OidIsValid(get_foreign_server_oid(lfirst(name), true)))
				left = lappend(left, lfirst(name));
		}
		if (list_length(left) == list_length(row.servers))
			continue;
		row.servers = left;
		catalog_write(&row);
		CacheInvalidateRelcacheByRelid(row.relid);
	}
}

static void
mend_server_name(const char *old, const char *new)
{
	ListCell   *cell;

	foreach(cell, catalog_relations())
	{
		EntityRow	row;

		if (catalog_read(lfirst_oid(cell), &row) && replace_name(row.servers, old, new))
			catalog_write(&row);
	}
}

/* Key columns of a view's dependencies, among those that were renamed. */
static void
mend_dependency_names(Oid entity, const char *old, const char *new)
{
	ListCell   *cell;

	foreach(cell, dependencies_of(entity))
	{
		DependencyRow *row = lfirst(cell);

		if (get_attnum(row->base, old) == InvalidAttrNumber &&
			get_attnum(row->base, new) != InvalidAttrNumber &&
			replace_name(row->key, old, new))
			dependency_set_key(row);
	}
}

/* Columns were renamed, in one relation or in a tree of partitions. */
static void
mend_column_names(const char *old, const char *new)
{
	ListCell   *cell;

	foreach(cell, catalog_relations())
	{
		EntityRow	row;

		mend_dependency_names(lfirst_oid(cell), old, new);
		if (!catalog_read(lfirst_oid(cell), &row) ||
			get_attnum(row.relid, old) != InvalidAttrNumber ||
			get_attnum(row.relid, new) == InvalidAttrNumber)
			continue;
		if (replace_name(row.key, old, new) | replace_name(row.columns, old, new))
			catalog_write(&row);
	}
}

static bool
relation_exists(Oid relid)
{
	return SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relid));
}

/* An entity's relation is no more: if it was a view, its bases keep no triggers of it. */
static void
forget_entity(Oid relid)
{
	EntityRow	row;
	ListCell   *cell;

	if (!catalog_read(relid, &row))
		return;
	foreach(cell, dependencies_of(relid))
	{
		Oid			base = ((DependencyRow *) lfirst(cell))->base;

		if (!relation_exists(base))
			continue;
		LockRelationOid(base, ShareRowExclusiveLock);
		if (relation_exists(base))
			members_uninstall(base, row.name);
	}
	(void) catalog_delete(relid);
}

/* A base is no more. */
static void
forget_base(Oid relid)
{
	ListCell   *cell;

	foreach(cell, dependencies_on(relid))
	{
		Oid			entity = ((DependencyRow *) lfirst(cell))->entity;

		if (dependency_delete(entity, relid, false) > 0 && relation_exists(entity))
			CacheInvalidateRelcacheByRelid(entity);
	}
}

/* Relations that exist no more, among those given. */
static void
mend_dropped(List *relids)
{
	ListCell   *cell;

	foreach(cell, relids)
	{
		if (relation_exists(lfirst_oid(cell)))
			continue;
		forget_entity(lfirst_oid(cell));
		forget_base(lfirst_oid(cell));
	}
}

/*
 * A view has been defined anew.  Its entity's dependencies are derived again, and
 * writers that are under way are waited for: they go by the old definition.
 * Somebody who does not own the entity cannot have its tables locked; then it is
 * not cached until its owner attaches it again.
 */
static void
mend_definition(EntityRow *row)
{
	if (compat_owns_relation(row->relid, GetUserId()))
	{
		attach_derive(row, GetUserId(), false);
		attach_tell_dependencies(row->relid);
	}
	else if (!row->redefined)
	{
		row->redefined = true;
		catalog_write(row);
	}
	CacheInvalidateRelcacheByRelid(row->relid);
}

static void
mend_view(RangeVar *name)
{
	Oid			relid = RangeVarGetRelid(name, NoLock, true);
	ListCell   *cell;

	if (!OidIsValid(relid) || get_rel_relkind(relid) != RELKIND_VIEW)
		return;
	foreach(cell, entities_of_relation(relid))
	{
		EntityRow	row;

		if (get_rel_relkind(lfirst_oid(cell)) == RELKIND_VIEW &&
			catalog_read(lfirst_oid(cell), &row))
			mend_definition(&row);
	}
}

static void
mend_alter_table(AlterTableStmt *stmt)
{
	ListCell   *cell;

	/* of all the forms only these leave something to mend */
	foreach(cell, stmt->cmds)
	{
		AlterTableCmd *cmd = lfirst_node(AlterTableCmd, cell);

		switch (cmd->subtype)
		{
			case AT_DetachPartition:
			case AT_DetachPartitionFinalize:
				mend_detached(stmt->relation, ((PartitionCmd *) cmd->def)->name);
				break;
			case AT_AttachPartition:
				mend_relation(((PartitionCmd *) cmd->def)->name, true);
				break;
			case AT_EnableTrig:
			case AT_EnableTrigAll:
			case AT_EnableTrigUser:
				mend_relation(stmt->relation, false);
				break;
			default:
				break;
		}
	}
}

static void
mend_command(Node *stmt)
{
	switch (nodeTag(stmt))
	{
		case T_AlterTableStmt:
			mend_alter_table((AlterTableStmt *) stmt);
			break;
		case T_CreateStmt:
			if (((CreateStmt *) stmt)->partbound)
				mend_relation(((CreateStmt *) stmt)->relation, true);
			break;
		case T_RenameStmt:
			/* attributes of a type are columns of the tables that are OF it */
			if (((RenameStmt *) stmt)->renameType == OBJECT_COLUMN ||
				((RenameStmt *) stmt)->renameType == OBJECT_ATTRIBUTE)
				mend_column_names(((RenameStmt *) stmt)->subname, ((RenameStmt *) stmt)->newname);
			else if (((RenameStmt *) stmt)->renameType == OBJECT_FOREIGN_SERVER)
				mend_server_name(strVal(((RenameStmt *) stmt)->object),
								 ((RenameStmt *) stmt)->newname);
			break;
		case T_ViewStmt:
			mend_view(((ViewStmt *) stmt)->view);
			break;
		case T_RuleStmt:
			mend_view(((RuleStmt *) stmt)->relation);
			break;
		case T_CreateUserMappingStmt:
			options_check_mappings(((CreateUserMappingStmt *) stmt)->servername);
			break;
		case T_AlterForeignServerStmt:
			options_check_mappings(((AlterForeignServerStmt *) stmt)->servername);
			break;
		default:
			break;
	}
	if (dropped_server)
	{
		dropped_server = false;
		mend_servers();
	}
	if (dropped)
	{
		List	   *relids = dropped;

		dropped = NIL;
		mend_dropped(relids);
		list_free(relids);
	}
}

/* Mend after a command, unless it is one that mending itself has issued. */
void
mend_after(Node *stmt)
{
	if (mending)
		return;
	mending = true;
	PG_TRY();
	{
		mend_command(stmt);
	}
	PG_FINALLY();
	{
		mending = false;
	}
	PG_END_TRY();
}

/* ---------- event triggers, for sessions without the hooks ---------- */

static EventTriggerData *
event_data(FunctionCallInfo fcinfo)
{
	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("this function of cachekit can only be called by its event triggers")));
	return (EventTriggerData *) fcinfo->context;
}

Datum
ck_on_ddl_end(PG_FUNCTION_ARGS)
{
	EventTriggerData *data = event_data(fcinfo);

	if (!hooks_installed || !CK_GUARD("ddl-hooks"))
		mend_after((Node *) data->parsetree);
	PG_RETURN_NULL();
}

Datum
ck_on_drop(PG_FUNCTION_ARGS)
{
	ListCell   *cell;

	(void) event_data(fcinfo);
	if (!hooks_installed || !CK_GUARD("ddl-hooks"))
	{
		List	   *relids = catalog_relations();

		foreach(cell, list_copy(relids))
		{
			ListCell   *row;

			foreach(row, dependencies_of(lfirst_oid(cell)))
				relids = list_append_unique_oid(relids, ((DependencyRow *) lfirst(row))->base);
		}
		mend_dropped(relids);
	}
	PG_RETURN_NULL();
}
