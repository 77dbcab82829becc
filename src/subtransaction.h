/*-------------------------------------------------------------------------
 *
 * subtransaction.h
 *	  A subtransaction whose errors are caught, also while COMMIT runs.
 *
 * subtransaction_begin() comes before PG_TRY(), and leaves the caller in the
 * memory context of the subtransaction.  Then one of the other two ends it: the
 * last one in PG_CATCH(), when the error has been copied and flushed, or to undo
 * what has succeeded.  Both give the caller back his memory context and his
 * resource owner.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_SUBTRANSACTION_H
#define CACHEKIT_SUBTRANSACTION_H

#include "utils/resowner.h"

typedef struct Subtransaction
{
	MemoryContext context;		/* of the caller */
	ResourceOwner owner;
	int			nest_level;
} Subtransaction;

extern void subtransaction_begin(Subtransaction *sub);
extern void subtransaction_commit(Subtransaction *sub);
/* Also ends what was begun in it and is still open. */
extern void subtransaction_rollback(Subtransaction *sub);

#endif							/* CACHEKIT_SUBTRANSACTION_H */
