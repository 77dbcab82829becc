/*-------------------------------------------------------------------------
 *
 * view.h
 *	  What a view, or a query, reads, and which columns of that are its key.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_VIEW_H
#define CACHEKIT_VIEW_H

#include "nodes/bitmapset.h"
#include "nodes/parsenodes.h"

/* A relation that is no view, with all its occurrences in the view and in views below it. */
typedef struct ViewRead
{
	Oid			relid;
	Bitmapset  *columns;		/* attnums that are read; contains 0 for whole rows */
	List	   *derived;		/* of List of char *: the columns of an occurrence that equal the key's, in its order */
	bool		complete;		/* every occurrence has such columns */
} ViewRead;

typedef struct ViewAnalysis
{
	List	   *reads;			/* of ViewRead *, each relation once */
	List	   *views;			/* OIDs of the views, the analysed one first */
	List	   *problems;		/* of char *: what no trigger can tell of */
	char	   *forbidden;		/* what the owner of a view may not read (any more) */
	char	   *refusal;		/* why it cannot be cached in any case: who asks decides what is read */
} ViewAnalysis;

/* `key` are names of columns of the view; NIL: nothing is derived. */
extern ViewAnalysis *view_analyse(Oid view, List *key);

/*
 * The same for a query that is no view; nothing is derived.  It must be
 * analysed but not rewritten: in a rewritten one, views cannot be seen.
 */
extern ViewAnalysis *query_analyse(Query *query);

/* With its schema, quoted, for messages. */
extern char *view_relation_name(Oid relid);

#endif							/* CACHEKIT_VIEW_H */
