/*-------------------------------------------------------------------------
 *
 * members.h
 *	  The relations that an entity is made of, and whether each of them tells.
 *
 * A table is its own only member; a partitioned table has its whole tree.
 * Row triggers are cloned to partitions by the server; TRUNCATE triggers are
 * not, and a TRUNCATE of a leaf fires nothing on its parent, so every member
 * has one of its own.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_MEMBERS_H
#define CACHEKIT_MEMBERS_H

#include "nodes/pg_list.h"
#include "utils/rel.h"

#define ROW_TRIGGER_FUNCTION		"on_row_change"
#define TRUNCATE_TRIGGER_FUNCTION	"on_truncate"

/* A relation's owner, or InvalidOid. */
extern Oid	members_owner_of(Oid relid);
extern List *members_of(Oid relid, LOCKMODE mode);
extern List *members_lock(Oid relid);
extern char *members_problem(const char *entity, List *members, bool *row_security);
extern void members_install(Oid relid, const char *entity);
extern void members_repair(Oid member, const char *entity, bool new_partition);
extern void members_uninstall(Oid relid, const char *entity);
extern void members_drop_truncate_triggers(Oid relid, const char *entity);

#endif							/* CACHEKIT_MEMBERS_H */
