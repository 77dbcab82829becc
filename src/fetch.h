/*-------------------------------------------------------------------------
 *
 * fetch.h
 *	  One document, from the nearest tier that may answer.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_FETCH_H
#define CACHEKIT_FETCH_H

#include "portability/instr_time.h"
#include "utils/jsonb.h"

#include "entity.h"

typedef enum FetchStrategy
{
	FETCH_REFRESH,				/* cache, else table, then fill (the default) */
	FETCH_FRESH,				/* cache only */
	FETCH_INVALIDATE,			/* drop the local copy, read the table, fill */
	FETCH_BYPASS				/* read the table without looking, fill */
} FetchStrategy;

/* A key as the caller gave it; it is read anew when the entity changes. */
typedef struct FetchKey
{
	Oid			type;			/* InvalidOid: text, in `text` */
	Datum		value;
	const char *text;
} FetchKey;

extern FetchStrategy fetch_strategy(const char *name);

/* The key's column values; false when the key or a part of it is NULL. */
extern bool fetch_key_values(Entity *entity, const FetchKey *key, Datum *values);

/*
 * The document of a key, palloc'd, or NULL.  cachekit.fetch_timeout counts from
 * `began`, when the SQL call began: it is one budget for all its keys.
 * *canonical, unless the pointer is NULL, gets the key's canonical text, or NULL
 * for a NULL key.
 */
extern Jsonb *fetch_document(Oid relid, const FetchKey *key, FetchStrategy strategy,
							 instr_time began, char **canonical);

#endif							/* CACHEKIT_FETCH_H */
