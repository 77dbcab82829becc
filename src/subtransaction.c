/*-------------------------------------------------------------------------
 *
 * subtransaction.c
 *	  A subtransaction whose errors are caught, also while COMMIT runs.
 *
 * `via` queries run, and entities may be built, when the transaction block has
 * already been told to COMMIT: at PRE_COMMIT, and in deferred triggers before
 * it.  PostgreSQL lets a subtransaction begin there, and what it does to roll
 * one back there is right; but RollbackAndReleaseCurrentSubTransaction() asserts
 * that the parent is a subtransaction, or a transaction that goes on.  So, where
 * the parent might be one that is being committed, there is one more
 * subtransaction between the two, which is always released.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/xact.h"

#include "subtransaction.h"

/* The level of the one that is rolled back. */
static int
inner_level(const Subtransaction *sub)
{
	return sub->nest_level > 1 ? sub->nest_level + 1 : sub->nest_level + 2;
}

static void
leave(const Subtransaction *sub)
{
	if (GetCurrentTransactionNestLevel() > sub->nest_level)
		ReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(sub->context);
	CurrentResourceOwner = sub->owner;
}

void
subtransaction_begin(Subtransaction *sub)
{
	sub->context = CurrentMemoryContext;
	sub->owner = CurrentResourceOwner;
	sub->nest_level = GetCurrentTransactionNestLevel();
	while (GetCurrentTransactionNestLevel() < inner_level(sub))
		BeginInternalSubTransaction(NULL);
}

void
subtransaction_commit(Subtransaction *sub)
{
	ReleaseCurrentSubTransaction();
	leave(sub);
}

void
subtransaction_rollback(Subtransaction *sub)
{
	while (GetCurrentTransactionNestLevel() >= inner_level(sub))
		RollbackAndReleaseCurrentSubTransaction();
	leave(sub);
}
