/*-------------------------------------------------------------------------
 *
 * fetch.h
 *	  Documents, from the nearest tier that may answer.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_FETCH_H
#define CACHEKIT_FETCH_H

#include "portability/instr_time.h"
#include "utils/jsonb.h"

#include "entity.h"
#include "load.h"
#include "tiers.h"

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

typedef struct FetchedRow
{
	char	   *canonical;		/* the key's canonical text; NULL for a NULL key */
	Jsonb	   *document;		/* shared by rows of the same key; or NULL */
} FetchedRow;

/*
 * The documents of n keys in one pass, rows[i] being that of keys[i].  As of
 * one moment, however many they are, if `consistent`; what takes a cache to
 * have it (FETCH_FRESH) is then all NULL when that moment cannot be told.
 */
extern void fetch_documents(Oid relid, const FetchKey *keys, const bool *nulls, int n,
							FetchStrategy strategy, bool consistent, instr_time began,
							FetchedRow *rows);

/*
 * Load n keys by one query and store them in all tiers; false when the entity
 * has changed, and the caller begins again with entity_find().  *missed is how
 * many documents a server did not get.
 */
extern bool fetch_and_store(Entity *entity, const LoadKey *keys, int n, TiersOffer offer,
							uint64 *missed);

#endif							/* CACHEKIT_FETCH_H */
