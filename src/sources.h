/*-------------------------------------------------------------------------
 *
 * sources.h
 *	  What an entity is made of, and how rows of that lead to keys.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_SOURCES_H
#define CACHEKIT_SOURCES_H

#include "catalog.h"
#include "entity.h"

/* Fill in a shape from columns of a relation; NULL, or what is wrong with them. */
extern char *sources_shape(const Entity *entity, Oid relid, List *names, KeyShape *shape);

/*
 * Fill in an entity's sources, members, reads and `untracked`; its name, key
 * shape, owner and is_view are there.  Returns NULL, or why not every change
 * of it will be seen.
 */
extern char *sources_build(Entity *entity, const EntityRow *row);

/* The relations that have an entity's triggers, partitions left out. */
extern List *sources_bases(Oid relid);

#endif							/* CACHEKIT_SOURCES_H */
