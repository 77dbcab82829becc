/*-------------------------------------------------------------------------
 *
 * feed_work.h
 *	  What transactions have changed, as far as the feed remembers it.
 *
 * Change records are kept by the xid that wrote them, until a commit or an
 * abort settles it; what has committed becomes one FeedTransaction, which is
 * remembered until it is freed.  The memory that all of them take is bounded:
 * beyond that "everything changed" stands for the rest (feed.c says why that
 * is right).
 *
 * Used by feed.c only, which keeps the lists of what has committed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_FEED_WORK_H
#define CACHEKIT_FEED_WORK_H

#include "utils/hsearch.h"

#include "feed.h"

typedef struct FeedWork
{
	MemoryContext context;		/* of all transactions; reset by feed_work_reset() */
	HTAB	   *open;			/* transactions that have not ended, by xid */
	pairingheap *by_first;		/* all that are remembered: the oldest record first */
	Size		bytes;			/* of all transactions */
	Size		collected;		/* since the caller has set it to 0 */
} FeedWork;

extern void feed_work_init(FeedWork *work, MemoryContext parent);
extern void feed_work_reset(FeedWork *work);

/* The transaction of an xid, whose record begins at `first`; NULL when there is no room for another. */
extern FeedTransaction *feed_work_obtain(FeedWork *work, TransactionId xid, XLogRecPtr first);

/* One that has no record of its own, always. */
extern FeedTransaction *feed_work_new(FeedWork *work, TransactionId xid, XLogRecPtr first);
extern void feed_work_free(FeedWork *work, FeedTransaction *transaction);

/* Add what a change record says to a server about the transaction. */
extern void feed_work_collect(FeedWork *work, FeedTransaction *transaction, Oid serverid,
							  const char *record, Size len);
extern void feed_work_add_key(FeedWork *work, FeedTransaction *transaction,
							  const char *named, int len);

/* What it has changed is not needed any more; the transaction itself is. */
extern void feed_work_forget_items(FeedWork *work, FeedTransaction *transaction);

/* A commit: what it and its subtransactions have changed, as one; NULL: nothing. */
extern FeedTransaction *feed_work_commit(FeedWork *work, TransactionId xid, int nsubxacts,
										 const TransactionId *subxacts);
extern void feed_work_abort(FeedWork *work, TransactionId xid, int nsubxacts,
							const TransactionId *subxacts);
extern void feed_work_abort_all(FeedWork *work);

/* Where the oldest record of all that are remembered begins; 0: there is none. */
extern XLogRecPtr feed_work_oldest(const FeedWork *work);

#endif							/* CACHEKIT_FEED_WORK_H */
