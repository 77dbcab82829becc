/*-------------------------------------------------------------------------
 *
 * via.h
 *	  A `via` query: from a changed row ($1) to the keys of an entity.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_VIA_H
#define CACHEKIT_VIA_H

#include "executor/spi.h"
#include "nodes/bitmapset.h"

#include "entity.h"
#include "view.h"

typedef struct Via
{
	char	   *query;			/* with all names qualified */
	bool		whole_row;		/* it uses $1 as a whole */
	Bitmapset  *fields;			/* else: attnums of the columns of $1 that it uses */
	ViewAnalysis *analysis;		/* what it reads */
	char	   *problem;		/* it cannot be run; then the others are not set */
	bool		passing;		/* for a reason that may pass */
	SPIPlanPtr	plan;			/* NULL until first run */
} Via;

/*
 * The query that a user has given, with all names qualified as he sees them;
 * what is wrong with it is an error.
 */
extern char *via_qualify(const Entity *entity, Oid base, const char *query);

/*
 * Analyse a qualified query for a base and a key.  `must`: what is wrong with
 * it is an error, and one run with a row of NULLs shows that the owner may run
 * it; else it becomes `problem`.  Palloc'd in the current memory context.
 */
extern Via *via_make(const Entity *entity, Oid base, const char *query, bool must);

/* A type's name with its schema, and without the typmod that some names imply. */
extern char *via_qualified_type(Oid type);

/* Lock what it reads without waiting; false: somebody has locked that. */
extern bool via_lock(const Via *via);

/* Called with the values of a key, for each that a row leads to. */
typedef void (*ViaVisitor) (Entity *entity, const Datum *values);

/*
 * Run it for a row, in a new snapshot.  The caller has begun the pinned context
 * of the entity's owner, and SPI.
 */
extern void via_run(Entity *entity, Oid base, Via *via, HeapTupleHeader row, ViaVisitor visit);

#endif							/* CACHEKIT_VIA_H */
