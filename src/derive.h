/*-------------------------------------------------------------------------
 *
 * derive.h
 *	  Which columns of what a query reads must equal its key.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_DERIVE_H
#define CACHEKIT_DERIVE_H

#include "access/attnum.h"
#include "nodes/parsenodes.h"

#include "key.h"

typedef struct DeriveKey
{
	AttrNumber	column;			/* of the query's output */
	Oid			type;
	KeyKind		kind;
} DeriveKey;

/*
 * Called for each occurrence of a relation; one that stands in a CTE, for each
 * reference to that.  The columns are attnums in the order of the key, NIL
 * when there is a key column without one.
 */
typedef void (*DeriveReport) (void *context, RangeTblEntry *occurrence, List *columns);

/*
 * The query must have its views expanded.  False: it is too large to go
 * through, and what was reported does not count.
 */
extern bool derive(Query *query, const DeriveKey *keys, int nkeys,
				   DeriveReport report, void *context);

#endif							/* CACHEKIT_DERIVE_H */
