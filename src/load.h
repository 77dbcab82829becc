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
 * context; NULL when there is no such row.  Of an entity with many rows for a
 * key it is the array of them.  load_prepare() came before.
 */
extern Jsonb *load_document(Entity *entity, const Datum *values);

/* The values of a key's columns. */
typedef struct LoadKey
{
	Datum		values[KEY_MAX_COLUMNS];
} LoadKey;

/*
 * The same for n keys at once, in one query and one snapshot: documents[i]
 * is that of keys[i], or NULL.  Of a key that is there twice it is the same
 * one, loaded once.
 */
extern void load_documents(Entity *entity, const LoadKey *keys, int n, Jsonb **documents);

#endif							/* CACHEKIT_LOAD_H */
