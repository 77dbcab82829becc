/*-------------------------------------------------------------------------
 *
 * keys_query.h
 *	  The keys of an entity, by SQL.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_KEYS_QUERY_H
#define CACHEKIT_KEYS_QUERY_H

#include "lib/stringinfo.h"

#include "entity.h"
#include "load.h"

/* Ways to name the columns of a key. */
typedef enum KeysForm
{
	KEYS_COLUMNS,				/* c1, c2 */
	KEYS_PARAMETERS				/* $1, $2 */
} KeysForm;

extern void keys_append_columns(StringInfo sql, const Entity *entity, KeysForm form);

/*
 * A SELECT of keys, which ends in a WHERE clause: its columns are c1, c2, …, of the
 * types of the entity's key, and none is NULL.  All keys of the relation, each
 * once, or those of a query that has as many columns.
 */
extern void keys_append_query(StringInfo sql, const Entity *entity, const char *query);

/* Run it, in SPI and read-only; the rows are in SPI_tuptable. */
extern void keys_select(const Entity *entity, const char *sql, int nargs, Oid *types,
						Datum *values);

/* A key of SPI_tuptable, and a key's values, copied into the current memory context. */
extern void keys_row(const Entity *entity, uint64 row, LoadKey *to);
extern void keys_copy(const KeyShape *shape, const Datum *values, LoadKey *to);

#endif							/* CACHEKIT_KEYS_QUERY_H */
