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
 * Commands that install or remove triggers run as the owner of the table they
 * are for, with search_path pinned.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "parser/parse_func.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "debug.h"
#include "members.h"
#include "pin.h"

/*
 * The members of an entity, its relation first, each locked in the mode until
 * the end of the transaction.
 */
List *
members_of(Oid relid, LOCKMODE mode)
{
	if (get_rel_relkind(relid) != RELKIND_PARTITIONED_TABLE)
		return list_make1_oid(relid);
	return find_all_inheritors(relid, mode, NULL);
}

static Oid
trigger_function(const char *name)
{
	return LookupFuncName(list_make2(makeString("cachekit"), makeString(pstrdup(name))),
						  0, NULL, true);
}

/* Our trigger of this function for this entity on an open relation, or NULL. */
static Trigger *
find_trigger(Relation rel, const char *function, const char *entity)
{
	Oid			oid = trigger_function(function);

	if (rel->trigdesc == NULL || !OidIsValid(oid))
		return NULL;
	for (int i = 0; i < rel->trigdesc->numtriggers; i++)
	{
		Trigger    *trigger = &rel->trigdesc->triggers[i];

		if (trigger->tgfoid == oid && trigger->tgnargs == 1 &&
			strcmp(trigger->tgargs[0], entity) == 0)
			return trigger;
	}
	return NULL;
}

static bool
trigger_is_as_declared(const Trigger *trigger, int16 type)
{
	return trigger != NULL && trigger->tgtype == type &&
		trigger->tgenabled == TRIGGER_FIRES_ALWAYS &&
		trigger->tgnattr == 0 && trigger->tgqual == NULL;
}

/* What is wrong with one member; NULL: nothing. */
static char *
member_problem(Relation rel, const char *entity, bool *row_security)
{
	Form_pg_class form = rel->rd_rel;
	char	   *name = quote_qualified_identifier(get_namespace_name(form->relnamespace),
												  NameStr(form->relname));

	if (form->relrowsecurity)
	{
		*row_security = true;
		return psprintf("%s has row security", name);
	}
	if (form->relkind != RELKIND_RELATION && form->relkind != RELKIND_PARTITIONED_TABLE)
		return psprintf("%s is not a table", name);
	if (form->relpersistence != RELPERSISTENCE_PERMANENT)
		return psprintf("%s is not a permanent, logged table", name);
	if (form->relkind == RELKIND_RELATION && form->relhassubclass &&
		find_inheritance_children(RelationGetRelid(rel), NoLock) != NIL)
		return psprintf("%s has child tables by plain inheritance", name);
	if (!trigger_is_as_declared(find_trigger(rel, ROW_TRIGGER_FUNCTION, entity),
								TRIGGER_TYPE_ROW | TRIGGER_TYPE_INSERT |
								TRIGGER_TYPE_UPDATE | TRIGGER_TYPE_DELETE))
		return psprintf("the row trigger on %s is missing, disabled or altered", name);
	if (!trigger_is_as_declared(find_trigger(rel, TRUNCATE_TRIGGER_FUNCTION, entity),
								TRIGGER_TYPE_TRUNCATE) &&
		CK_GUARD("partition-truncate"))
		return psprintf("the TRUNCATE trigger on %s is missing, disabled or altered", name);
	return NULL;
}

/*
 * Is every member as it must be?  NULL: yes; else what is wrong with the
 * first that is not.  The caller holds locks on the members.
 */
char *
members_problem(Oid relid, const char *entity, List *members, bool *row_security)
{
	ListCell   *cell;

	*row_security = false;
	foreach(cell, members)
	{
		Relation	rel = table_open(lfirst_oid(cell), NoLock);
		char	   *problem = member_problem(rel, entity, row_security);

		table_close(rel, NoLock);
		if (problem)
			return problem;
	}
	return NULL;
}

/* ---------- installing and removing triggers ---------- */

/* Run commands as a role, in the pinned context; the relation is closed. */
static void
run_commands(List *commands, Oid role)
{
	ListCell   *cell;
	Pin			pin;

	if (commands == NIL)
		return;
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

static char *
qualified_name(Relation rel)
{
	return quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
									  RelationGetRelationName(rel));
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
creation(Relation rel, const char *entity, bool truncate)
{
	const char *name = trigger_name(truncate ? "cachekit_truncate_" : "cachekit_row_", entity);
	char	   *table = qualified_name(rel);
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
 * (or, by force, whatever it is).
 */
static void
mend_trigger(Oid member, const char *entity, bool truncate, bool create, bool force)
{
	Relation	rel = table_open(member, NoLock);
	Oid			owner = rel->rd_rel->relowner;
	Trigger    *trigger = find_trigger(rel, truncate ? TRUNCATE_TRIGGER_FUNCTION :
									   ROW_TRIGGER_FUNCTION, entity);
	List	   *commands = NIL;

	if (trigger == NULL && create)
		commands = creation(rel, entity, truncate);
	else if (trigger != NULL && trigger->tgenabled != TRIGGER_FIRES_ALWAYS &&
			 (force || trigger->tgenabled == TRIGGER_FIRES_ON_ORIGIN))
		commands = list_make1(psprintf("ALTER TABLE ONLY %s ENABLE ALWAYS TRIGGER %s",
									   qualified_name(rel), quote_identifier(trigger->tgname)));
	table_close(rel, NoLock);
	run_commands(commands, owner);
}

static void
mend_members(Oid relid, const char *entity, bool attach)
{
	List	   *members = members_of(relid, AccessShareLock);
	ListCell   *cell;

	foreach(cell, members)
	{
		bool		is_root = (lfirst_oid(cell) == relid);

		mend_trigger(lfirst_oid(cell), entity, false, is_root && attach, attach);
		mend_trigger(lfirst_oid(cell), entity, true,
					 is_root || CK_GUARD("partition-truncate"), attach);
	}
}

/*
 * For attach: every trigger exists and is enabled; the members are locked.
 * Elsewhere the commands lock what they change, and nothing else is locked.
 */
void
members_install(Oid relid, const char *entity)
{
	mend_members(relid, entity, true);
}

/*
 * After DDL: give new partitions their TRUNCATE trigger, and restore ALWAYS.
 * What a user has dropped or disabled stays so; the entity is unsound then.
 */
void
members_repair(Oid relid, const char *entity)
{
	mend_members(relid, entity, false);
}

static void
drop_trigger(Oid member, const char *entity, const char *function)
{
	Relation	rel = table_open(member, NoLock);
	Oid			owner = rel->rd_rel->relowner;
	Trigger    *trigger = find_trigger(rel, function, entity);
	List	   *commands = NIL;

	if (trigger != NULL)
		commands = list_make1(psprintf("DROP TRIGGER %s ON %s",
									   quote_identifier(trigger->tgname), qualified_name(rel)));
	table_close(rel, NoLock);
	run_commands(commands, owner);
}

/*
 * Remove the TRUNCATE triggers of an entity from a relation and its partitions;
 * the server itself removes cloned row triggers when a partition is detached.
 */
void
members_drop_truncate_triggers(Oid relid, const char *entity)
{
	List	   *members = members_of(relid, AccessShareLock);
	ListCell   *cell;

	foreach(cell, members)
		drop_trigger(lfirst_oid(cell), entity, TRUNCATE_TRIGGER_FUNCTION);
}

/* For detach: remove all triggers of an entity. */
void
members_uninstall(Oid relid, const char *entity)
{
	members_drop_truncate_triggers(relid, entity);
	drop_trigger(relid, entity, ROW_TRIGGER_FUNCTION);
}
