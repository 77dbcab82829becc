/*-------------------------------------------------------------------------
 *
 * warm.h
 *	  How far warm() has come: the table cachekit.warm_state.
 *
 * Written as the extension's owner, by SPI, after the caller has seen to it
 * that who calls warm() may read the entity.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_WARM_H
#define CACHEKIT_WARM_H

#include "datatype/timestamp.h"

typedef struct WarmState
{
	char	   *last_key;		/* canonical text of the last key that is done; NULL: none */
	int64		done;			/* keys */
	int64		total;			/* keys that there were when it began */
	int64		missed;			/* documents that a server did not take */
	TimestampTz resumed_at;		/* when this call began, */
	int64		resumed_done;	/* and what was done by then */
} WarmState;

/* Is there a run of that query, for the entity's key as it is, to go on with? */
extern bool warm_state_find(Oid relid, const char *query, WarmState *state);

/* A run begins, or goes on. */
extern void warm_state_begin(Oid relid, const char *query, const WarmState *state);

/* So far; in a transaction of its own, which does not wait for the disk. */
extern void warm_state_write(Oid relid, const WarmState *state, bool finished);

#endif							/* CACHEKIT_WARM_H */
