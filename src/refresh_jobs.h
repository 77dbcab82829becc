/*-------------------------------------------------------------------------
 *
 * refresh_jobs.h
 *	  The jobs of refresh on change: for refresh.c and refresh_send.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_REFRESH_JOBS_H
#define CACHEKIT_REFRESH_JOBS_H

#include "lib/ilist.h"
#include "utils/hsearch.h"

#include "refresh.h"

#define ASK_AGAIN_US	2000	/* a change was under way: not before */

typedef enum RefreshState
{
	REFRESH_UNPROBED,			/* does the cache have it? */
	REFRESH_PROBING,
	REFRESH_UNASKED,			/* to be loaded */
	REFRESH_LOADING,
	REFRESH_STORING,
	REFRESH_STORED,				/* and the trace is to be sent */
	REFRESH_DOOMED,				/* to be deleted */
	REFRESH_ENDING,				/* the trace has been sent */
	REFRESH_STATES
} RefreshState;

struct RefreshJob
{
	char		named_key[NAMED_KEY_SIZE];	/* hash key (must be first) */
	dlist_node	node;			/* in the list of its state */
	RefreshState state;
	Oid			relid;
	bool		absent;			/* load it even if the cache does not have it */
	bool		doomed;			/* delete it as soon as that can be */
	bool		again;			/* changed since it was asked for, stored or deleted */
	uint64		request;		/* of the last question to the refresher */
	TimestampTz ask_at;			/* not before */
	TimestampTz until;			/* then it is given up */
	TimestampTz again_until;	/* the same, for the change that came since */
	List	   *covered;		/* transactions that end with it, */
	List	   *waiting;		/* and those that came since; of FeedTransaction * */
};

/* All of an epoch. */
typedef struct Refresh
{
	HTAB	   *jobs;
	dlist_head	list[REFRESH_STATES];
	uint64		request;		/* the last number */
	TimestampTz looked;			/* at deadlines */
} Refresh;

extern void refresh_move(Sender *sender, RefreshJob *job, RefreshState state);

/* It cannot be loaded or stored: it is to be deleted, and counted. */
extern void refresh_fall_back(Sender *sender, RefreshJob *job);

/* All changes that have come so far end with what is done now. */
extern void refresh_cover_all(RefreshJob *job);

/* Stored or deleted, and traced. */
extern void refresh_end_job(Sender *sender, RefreshJob *job, bool stored);

#endif							/* CACHEKIT_REFRESH_JOBS_H */
