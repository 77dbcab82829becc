/*-------------------------------------------------------------------------
 *
 * members.c
 *	  The relations that an entity is made of, and whether each of them tells.
 *
 * Triggers are recognised by function and argument (the entity's name), never
 * by their own name, because users may rename them.  All of them are ENABLE
 * ALWAYS, so that logical replication and session_replication_role = replica
 * fire them, and DEPEND ON EXTENSION, so that DROP EXTENSION needs no CASCADE.
 *
 * Members are judged by the catalogs alone, without opening or locking them: a
 * writer of one partition must not wait for whoever has locked another, nor
 * take a thousand locks.  What changes meanwhile sends invalidation messages,
 * and entity.c looks again.
 *
 * Commands that install or remove triggers run as the owner of the table they
 * are for, with search_path pinned, and lock what they change.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "parser/parse_func.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "catalog.h"
#include "debug.h"
#include "members.h"
#include "pin.h"
#include "subtransaction.h"

/* One of our triggers, as pg_trigger has it. */
typedef struct MemberTrigger
{
	bool		found;
	NameData	name;
	int16		type;			/* TRIGGER_TYPE_* */
	char		enabled;		/* TRIGGER_FIRES_* */
	bool		conditional;	/* has a WHEN or a list of columns */
} MemberTrigger;

/*
 * The members of an entity, its relation first, each locked in the mode until
 * the end of the transaction (NoLock: not at all).
 */
List *
members_of(Oid relid, LOCKMODE mode)
{
	if (get_rel_relkind(relid) != RELKIND_PARTITIONED_TABLE)
		return list_make1_oid(relid);
	return find_all_inheritors(relid, mode, NULL);
}

/* Exclude the writers of a table and of its partitions; the table comes first. */
List *
members_lock(Oid relid)
{
	LockRelationOid(relid, ShareRowExclusiveLock);
	return members_of(relid, ShareRowExclusiveLock);
}

/*
 * Find our trigger of this function for this entity on a relation; `own`: not
 * one that the server has cloned from the table that it is a partition of.
 */
static void
find_trigger(Oid relid, const char *function, const char *entity, bool own,
			 MemberTrigger *result)
{
	Oid			oid = LookupFuncName(list_make2(makeString("cachekit"),
												makeString(pstrdup(function))),
									 0, NULL, true);
	Relation	rel;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	memset(result, 0, sizeof(*result));
	if (!OidIsValid(oid))
		return;
	rel = table_open(TriggerRelationId, AccessShareLock);
	ScanKeyInit(&key, Anum_pg_trigger_tgrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	scan = systable_beginscan(rel, TriggerRelidNameIndexId, true, NULL, 1, &key);
	while (!result->found && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_trigger form = (Form_pg_trigger) GETSTRUCT(tuple);
		bool		isnull;
		Datum		args;

		if (form->tgfoid != oid || form->tgnargs != 1 || (own && OidIsValid(form->tgparentid)))
			continue;
		args = heap_getattr(tuple, Anum_pg_trigger_tgargs, RelationGetDescr(rel), &isnull);
		if (isnull || strcmp(VARDATA_ANY(DatumGetByteaPP(args)), entity) != 0)
			continue;
		result->found = true;
		result->name = form->tgname;
		result->type = form->tgtype;
		result->enabled = form->tgenabled;
		result->conditional = form->tgattr.dim1 > 0 ||
			!heap_attisnull(tuple, Anum_pg_trigger_tgqual, RelationGetDescr(rel));
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

static bool
trigger_is_as_declared(Oid relid, const char *function, const char *entity, int16 type)
{
	MemberTrigger trigger;

	find_trigger(relid, function, entity, false, &trigger);
	return trigger.found && trigger.type == type && !trigger.conditional &&
		trigger.enabled == TRIGGER_FIRES_ALWAYS;
}

static char *
qualified_name(Oid relid)
{
	char	   *schema = get_namespace_name(get_rel_namespace(relid));
	char	   *name = get_rel_name(relid);

	/* dropped meanwhile: the command that uses it will say so */
	return schema && name ? quote_qualified_identifier(schema, name) : psprintf("\"%u\"", relid);
}

/* What is wrong with one member; NULL: nothing. */
static char *
member_problem(Oid relid, const char *entity, bool *row_security)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	FormData_pg_class form;
	char	   *name;

	if (!HeapTupleIsValid(tuple))
		return psprintf("relation %u has been dropped", relid);
	form = *(Form_pg_class) GETSTRUCT(tuple);
	ReleaseSysCache(tuple);
	name = qualified_name(relid);

	if (form.relrowsecurity)
	{
		*row_security = true;
		return psprintf("%s has row security", name);
	}
	if (form.relkind != RELKIND_RELATION && form.relkind != RELKIND_PARTITIONED_TABLE)
		return psprintf("%s is not a table", name);
	if (form.relpersistence != RELPERSISTENCE_PERMANENT)
		return psprintf("%s is not a permanent, logged table", name);
	if (form.relkind == RELKIND_RELATION && form.relhassubclass &&
		find_inheritance_children(relid, NoLock) != NIL)
		return psprintf("%s has child tables by plain inheritance", name);
	if (!trigger_is_as_declared(relid, ROW_TRIGGER_FUNCTION, entity,
								TRIGGER_TYPE_ROW | TRIGGER_TYPE_INSERT |
								TRIGGER_TYPE_UPDATE | TRIGGER_TYPE_DELETE))
		return psprintf("the row trigger on %s is missing, disabled or altered", name);
	if (!trigger_is_as_declared(relid, TRUNCATE_TRIGGER_FUNCTION, entity,
								TRIGGER_TYPE_TRUNCATE) &&
		CK_GUARD("partition-truncate"))
		return psprintf("the TRUNCATE trigger on %s is missing, disabled or altered", name);
	return NULL;
}

/*
 * Is every member as it must be?  NULL: yes; else what is wrong with the
 * first that is not.
 */
char *
members_problem(const char *entity, List *members, bool *row_security)
{
	ListCell   *cell;

	*row_security = false;
	foreach(cell, members)
	{
		char	   *problem = member_problem(lfirst_oid(cell), entity, row_security);

		if (problem)
			return problem;
	}
	return NULL;
}

/* ---------- installing and removing triggers ---------- */

static void
execute_commands(List *commands, Oid role)
{
	ListCell   *cell;
	Pin			pin;

	pin_begin(&pin, role);
	SPI_connect();
	foreach(cell, commands)
	{
		int			result = SPI_execute(lfirst(cell), false, 0);

		if (result < 0)
			elog(ERROR, "could not execute \"%s\": %s", (char *) lfirst(cell),
				 SPI_result_code_string(result));
	}
	SPI_finish();
	pin_end(&pin);
}

/*
 * Run commands as a role, in the pinned context.  For attach and detach an
 * error is the caller's; after a user's DDL it must not be: then the entity
 * stays as it is, which is unsound, and a warning says why.
 */
static void
run_commands(List *commands, Oid role, bool must)
{
	Subtransaction sub;

	if (commands == NIL)
		return;
	if (must)
	{
		execute_commands(commands, role);
		return;
	}
	subtransaction_begin(&sub);
	PG_TRY();
	{
		execute_commands(commands, role);
		subtransaction_commit(&sub);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(sub.context);
		error = CopyErrorData();
		FlushErrorState();
		subtransaction_rollback(&sub);
		if (error->sqlerrcode == ERRCODE_QUERY_CANCELED)
			ReThrowError(error);
		ereport(WARNING,
				(errmsg("cachekit could not mend the triggers of an entity: %s", error->message),
				 errdetail("The command was: %s", (char *) linitial(commands)),
				 errhint("Attach it again; until then it is read from its table.")));
	}
	PG_END_TRY();
}

Oid
members_owner_of(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			owner = InvalidOid;

	if (HeapTupleIsValid(tuple))
	{
		owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
		ReleaseSysCache(tuple);
	}
	return owner;
}

/* A trigger name for an entity: unique for its name, however long that is. */
static const char *
trigger_name(const char *prefix, const char *entity)
{
	int			room = NAMEDATALEN - 1 - strlen(prefix);
	int			len = strlen(entity);

	if (len <= room)
		return quote_identifier(psprintf("%s%s", prefix, entity));
	return quote_identifier(psprintf("%s%.*s_%08x", prefix,
									 pg_mbcliplen(entity, len, room - 9), entity,
									 hash_bytes((const unsigned char *) entity, len)));
}

/* The commands that create a trigger in its declared state. */
static List *
creation(Oid relid, const char *entity, bool truncate)
{
	char	   *table = qualified_name(relid);

	/* bases may become partitions of each other: then clones must not have their names */
	const char *whose = catalog_relation_of(entity) == relid ? entity :
		psprintf("%s on %s", entity, table);
	const char *name = trigger_name(truncate ? "cachekit_truncate_" : "cachekit_row_",
									truncate ? entity : whose);
	char	   *argument = quote_literal_cstr(entity);

	return list_make3(truncate ?
					  psprintf("CREATE TRIGGER %s AFTER TRUNCATE ON %s FOR EACH STATEMENT"
							   " EXECUTE FUNCTION cachekit." TRUNCATE_TRIGGER_FUNCTION "(%s)",
							   name, table, argument) :
					  psprintf("CREATE TRIGGER %s AFTER INSERT OR UPDATE OR DELETE ON %s"
							   " FOR EACH ROW EXECUTE FUNCTION cachekit." ROW_TRIGGER_FUNCTION "(%s)",
							   name, table, argument),
					  psprintf("ALTER TABLE %s ENABLE ALWAYS TRIGGER %s", table, name),
					  psprintf("ALTER TRIGGER %s ON %s DEPENDS ON EXTENSION cachekit", name, table));
}

/*
 * Bring one trigger of a member to its declared state: create it if it is
 * missing and that is wanted; set ALWAYS where DISABLE and ENABLE left ORIGIN
 * (or, for attach, whatever it is, and create anew what was altered).
 */
static void
mend_trigger(Oid relid, const char *entity, bool truncate, bool create, bool attach)
{
	const char *function = truncate ? TRUNCATE_TRIGGER_FUNCTION : ROW_TRIGGER_FUNCTION;
	MemberTrigger trigger;
	List	   *commands = NIL;

	find_trigger(relid, function, entity, false, &trigger);
	if (trigger.found && attach && create &&
		(trigger.conditional ||
		 trigger.type != (truncate ? TRIGGER_TYPE_TRUNCATE :
						  TRIGGER_TYPE_ROW | TRIGGER_TYPE_INSERT | TRIGGER_TYPE_UPDATE |
						  TRIGGER_TYPE_DELETE)))
	{
		commands = list_make1(psprintf("DROP TRIGGER %s ON %s",
									   quote_identifier(NameStr(trigger.name)),
									   qualified_name(relid)));
		trigger.found = false;
	}
	if (!trigger.found && create)
		commands = list_concat(commands, creation(relid, entity, truncate));
	else if (trigger.found && trigger.enabled != TRIGGER_FIRES_ALWAYS &&
			 (attach || trigger.enabled == TRIGGER_FIRES_ON_ORIGIN))
		commands = list_make1(psprintf("ALTER TABLE ONLY %s ENABLE ALWAYS TRIGGER %s",
									   qualified_name(relid),
									   quote_identifier(NameStr(trigger.name))));
	run_commands(commands, members_owner_of(relid), attach);
}

/* For attach: every trigger exists and is enabled; the members are locked. */
void
members_install(Oid relid, const char *entity)
{
	ListCell   *cell;

	foreach(cell, members_of(relid, NoLock))
	{
		mend_trigger(lfirst_oid(cell), entity, false, lfirst_oid(cell) == relid, true);
		mend_trigger(lfirst_oid(cell), entity, true,
					 lfirst_oid(cell) == relid || CK_GUARD("partition-truncate"), true);
	}
}

/*
 * After DDL on a member: restore ALWAYS, and give new partitions the TRUNCATE
 * trigger that belongs to the row trigger which the server has cloned.  What a
 * user has dropped or disabled stays so; the entity is unsound then.
 */
void
members_repair(Oid member, const char *entity, bool new_partition)
{
	ListCell   *cell;

	foreach(cell, members_of(member, NoLock))
	{
		MemberTrigger row;

		mend_trigger(lfirst_oid(cell), entity, false, false, false);
		find_trigger(lfirst_oid(cell), ROW_TRIGGER_FUNCTION, entity, false, &row);
		mend_trigger(lfirst_oid(cell), entity, true,
					 new_partition && row.found && CK_GUARD("partition-truncate"), false);
	}
}

static void
drop_trigger(Oid relid, const char *entity, const char *function, bool must)
{
	MemberTrigger trigger;

	find_trigger(relid, function, entity, true, &trigger);
	if (trigger.found)
		run_commands(list_make1(psprintf("DROP TRIGGER %s ON %s",
										 quote_identifier(NameStr(trigger.name)),
										 qualified_name(relid))),
					 members_owner_of(relid), must);
}

/*
 * Remove the TRUNCATE triggers of an entity from a relation that is no member
 * any more, and from its partitions; the server itself removes cloned row
 * triggers when a partition is detached.
 */
void
members_drop_truncate_triggers(Oid relid, const char *entity)
{
	ListCell   *cell;

	foreach(cell, members_of(relid, NoLock))
		drop_trigger(lfirst_oid(cell), entity, TRUNCATE_TRIGGER_FUNCTION, false);
}

/* For detach: remove all triggers of an entity; the members are locked. */
void
members_uninstall(Oid relid, const char *entity)
{
	ListCell   *cell;

	foreach(cell, members_of(relid, NoLock))
		drop_trigger(lfirst_oid(cell), entity, TRUNCATE_TRIGGER_FUNCTION, true);
	drop_trigger(relid, entity, ROW_TRIGGER_FUNCTION, true);
}
