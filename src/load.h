/*-------------------------------------------------------------------------
 *
 * load.h
 *	  Loading a document from its table.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_LOAD_H
#define CACHEKIT_LOAD_H

#include "utils/jsonb.h"

#include "entity.h"

/*
 * Make ready to load: lock the relation and accept invalidation messages, so
 * that a load whose token was read before cannot see an old shape.  False when
 * the entity has changed: the caller starts again with entity_find().
 */
extern bool load_prepare(Entity *entity);

/*
 * The document of a key in a new snapshot, palloc'd in the current memory
 * context; NULL when there is no such row.  load_prepare() came before.
 */
extern Jsonb *load_document(Entity *entity, const Datum *values);

#endif							/* CACHEKIT_LOAD_H */
