/*-------------------------------------------------------------------------
 *
 * attach_check.h
 *	  What attach() and add_dependency() refuse: errors with a hint.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_ATTACH_CHECK_H
#define CACHEKIT_ATTACH_CHECK_H

#include "nodes/pg_list.h"
#include "utils/rel.h"

/* A relation to attach; a member of it; a base of a view, or a member of one. */
extern void attach_check_relation(Relation rel);
extern void attach_check_member(Relation rel);
extern void attach_check_base(Relation rel);

/* A column that a user has named as part of an argument. */
extern AttrNumber attach_column(Relation rel, const char *name, const char *argument);

/* Names are of char *. */
extern void attach_check_key(Relation rel, List *key);
extern void attach_check_name(const char *name, Oid relid);
extern void attach_check_servers(List *servers);
extern void attach_check_on_change(const char *on_change);

/* The columns of the primary key, in its order; NIL: there is none. */
extern List *attach_primary_key(Relation rel);
/* Does a unique index make sure that a key has one row at most? */
extern bool attach_key_is_unique(Relation rel, List *key);

#endif							/* CACHEKIT_ATTACH_CHECK_H */
