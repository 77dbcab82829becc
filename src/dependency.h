/*-------------------------------------------------------------------------
 *
 * dependency.h
 *	  The table cachekit.dependency: how rows of base tables map to keys.
 *
 * Read and written directly, as cachekit.entity is (catalog.h).
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_DEPENDENCY_H
#define CACHEKIT_DEPENDENCY_H

#include "nodes/pg_list.h"

/* One row; strings and lists are palloc'd in the reader's memory context. */
typedef struct DependencyRow
{
	Oid			entity;
	Oid			base;
	int			number;			/* among those of this entity and base, from 1 */
	List	   *key;			/* of char *: columns of the base; NIL with `via` */
	char	   *via;			/* query; NULL with `key` */
	char	   *query;			/* the same with all names qualified, as it is run */
	char	   *owner;			/* role that owned the entity then: it runs as nobody else */
	bool		derived;		/* found by attach(), not given by the user */
} DependencyRow;

/* Of an entity, in the order of base and number; of a base, in any order. */
extern List *dependencies_of(Oid entity);
extern List *dependencies_on(Oid base);

/* Is one on this base, with this key, among them? */
extern bool dependencies_have(List *dependencies, Oid base, List *key);

extern void dependency_insert(DependencyRow *row);	/* sets the number */
extern void dependency_set_key(const DependencyRow *row);
/* Delete those of an entity, on one base or (InvalidOid) all; how many were there? */
extern int	dependency_delete(Oid entity, Oid base, bool derived_only);

#endif							/* CACHEKIT_DEPENDENCY_H */
