/*-------------------------------------------------------------------------
 *
 * feed.c
 *	  Committed changes, read from the WAL, in the order of their commits.
 *
 * What was in progress when the server went down can no longer commit: it is
 * dropped when a shutdown checkpoint or the end of recovery has been read.
 *
 * What a transaction may take is bounded, and what all of them take together
 * (feed_work.c): beyond that, "everything changed" stands for the rest.  One that
 * cannot even be remembered counts as one that has committed and has changed
 * everything.  That is early, but it is enough for fetch: such a transaction
 * has raised its fences before it wrote its record, so no document that it
 * makes old can be stored from then on until it has become visible.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/rmgr.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "access/xlogreader.h"
#include "access/xlogutils.h"
#include "catalog/pg_control.h"
#include "replication/message.h"
#include "storage/procarray.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "debug.h"
#include "feed.h"
#include "feed_work.h"
#include "record.h"

#define FEED_RECORDS_PER_READ	4000	/* WAL records in one call */
#define FEED_BYTES_PER_READ		(1024 * 1024)	/* collected in one call */

struct Feed
{
	MemoryContext context;
	FeedWork	work;			/* all transactions that are remembered */
	Oid			dboid;
	Oid			serverid;
	XLogReaderState *reader;
	ReadLocalXLogPageNoWaitPrivate page;
	dlist_head	committed;		/* in the order of commits, until done */
	dlist_head	held;			/* done, but not yet to be forgotten */
	dlist_head	waiting;		/* of the committed, those not yet visible */
	XLogRecPtr	ended_at;		/* flushed WAL ended here when all was read; 0: it was not */
	XLogRecPtr	read_to;		/* end of the last record read */
	XLogRecPtr	position;		/* see feed.h */
	FeedMark	mark;			/* at or before the position */
	FeedMark	commit;			/* the last commit read, of whomever; end 0: none */
	FeedMark	now;			/* the last message of ours; end 0: it has not been read */
};

static void
forget_all(Feed *feed)
{
	feed_work_reset(&feed->work);
	dlist_init(&feed->committed);
	dlist_init(&feed->held);
	dlist_init(&feed->waiting);
	feed->ended_at = InvalidXLogRecPtr;
}

Feed *
feed_create(MemoryContext parent, Oid dboid, Oid serverid)
{
	MemoryContext context = AllocSetContextCreate(parent, "cachekit feed", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	Feed	   *feed = palloc0(sizeof(Feed));

	feed->context = context;
	feed_work_init(&feed->work, context);
	feed->dboid = dboid;
	feed->serverid = serverid;
	feed->reader = XLogReaderAllocate(wal_segment_size, NULL,
									  XL_ROUTINE(.page_read = &read_local_xlog_page_no_wait,
												 .segment_open = &wal_segment_open,
												 .segment_close = &wal_segment_close),
									  &feed->page);
	if (feed->reader == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory"),
				 errdetail("Failed while allocating a WAL reading processor.")));
	forget_all(feed);
	MemoryContextSwitchTo(old);
	return feed;
}

void
feed_begin_at(XLogReaderState *reader, XLogRecPtr at)
{
	if (at % XLOG_BLCKSZ == 0)
		at += XLogSegmentOffset(at, wal_segment_size) == 0 ? SizeOfXLogLongPHD :
			SizeOfXLogShortPHD;
	XLogBeginRead(reader, at);
}

void
feed_begin(Feed *feed, XLogRecPtr start, const FeedMark *mark)
{
	forget_all(feed);
	feed_begin_at(feed->reader, start);
	feed->read_to = feed->position = start;
	feed->mark = *mark;
	memset(&feed->commit, 0, sizeof(FeedMark));
	memset(&feed->now, 0, sizeof(FeedMark));
}

void
feed_expect(Feed *feed, XLogRecPtr now)
{
	feed->now.start = now;
	feed->now.end = InvalidXLogRecPtr;
}

/* ---------- reading ---------- */

/* A commit that has changed something waits until it is visible. */
static void
add_committed(Feed *feed, FeedTransaction *transaction)
{
	transaction->read_at = GetCurrentTimestamp();
	transaction->end = feed->reader->EndRecPtr;
	dlist_push_tail(&feed->committed, &transaction->node);
	dlist_push_tail(&feed->waiting, &transaction->waiting);
}

/* A transaction that cannot be remembered: as if it had committed here. */
static void
commit_unremembered(Feed *feed)
{
	FeedTransaction *last = dlist_is_empty(&feed->committed) ? NULL :
		dlist_tail_element(FeedTransaction, node, &feed->committed);

	if (last == NULL || last->visible || TransactionIdIsValid(last->xid))
	{
		last = feed_work_new(&feed->work, InvalidTransactionId, feed->reader->ReadRecPtr);
		last->database = true;
		add_committed(feed, last);
	}
	last->end = feed->reader->EndRecPtr;
}

static void
read_message(Feed *feed)
{
	xl_logical_message *message = (xl_logical_message *) XLogRecGetData(feed->reader);
	Size		len = XLogRecGetDataLen(feed->reader);
	TransactionId xid = XLogRecGetXid(feed->reader);
	FeedTransaction *transaction;

	if (len < SizeOfLogicalMessage || !message->transactional ||
		message->dbId != feed->dboid || !TransactionIdIsValid(xid) ||
		message->prefix_size != sizeof(RECORD_PREFIX) ||
		message->message_size > len - SizeOfLogicalMessage - message->prefix_size ||
		memcmp(message->message, RECORD_PREFIX, sizeof(RECORD_PREFIX)) != 0)
		return;
	transaction = feed_work_obtain(&feed->work, xid, feed->reader->ReadRecPtr);
	if (transaction)
		feed_work_collect(&feed->work, transaction, feed->serverid,
						  message->message + message->prefix_size, message->message_size);
	else
		commit_unremembered(feed);
}

static void
read_commit(Feed *feed, TransactionId xid, int nsubxacts, const TransactionId *subxacts)
{
	FeedTransaction *transaction = feed_work_commit(&feed->work, xid, nsubxacts, subxacts);

	if (transaction == NULL)
		return;
	transaction->commit_start = feed->reader->ReadRecPtr;
	transaction->commit_crc = feed->reader->record->header.xl_crc;
	add_committed(feed, transaction);
}

static void
read_transaction_end(Feed *feed)
{
	uint8		info = XLogRecGetInfo(feed->reader);
	uint8		kind = info & XLOG_XACT_OPMASK;

	if (kind == XLOG_XACT_COMMIT || kind == XLOG_XACT_COMMIT_PREPARED)
	{
		feed->commit.start = feed->reader->ReadRecPtr;
		feed->commit.end = feed->reader->EndRecPtr;
		feed->commit.crc = feed->reader->record->header.xl_crc;
	}
	if (hash_get_num_entries(feed->work.open) == 0)
		return;
	if (kind == XLOG_XACT_COMMIT || kind == XLOG_XACT_COMMIT_PREPARED)
	{
		xl_xact_parsed_commit parsed;

		ParseCommitRecord(info, (xl_xact_commit *) XLogRecGetData(feed->reader), &parsed);
		read_commit(feed, TransactionIdIsValid(parsed.twophase_xid) ? parsed.twophase_xid :
					XLogRecGetXid(feed->reader), parsed.nsubxacts, parsed.subxacts);
	}
	else if (kind == XLOG_XACT_ABORT || kind == XLOG_XACT_ABORT_PREPARED)
	{
		xl_xact_parsed_abort parsed;

		ParseAbortRecord(info, (xl_xact_abort *) XLogRecGetData(feed->reader), &parsed);
		feed_work_abort(&feed->work, TransactionIdIsValid(parsed.twophase_xid) ?
						parsed.twophase_xid : XLogRecGetXid(feed->reader),
						parsed.nsubxacts, parsed.subxacts);
	}
}

/*
 * The mark follows commits that are not in the feed, too: one whose record came
 * before a flush of everything began is passed by the position, and what is
 * stored then may show it.
 */
static void
advance_position(Feed *feed)
{
	if (dlist_is_empty(&feed->committed))
	{
		feed->position = feed->read_to;
		if (feed->commit.end > feed->mark.end && CK_GUARD("mark-any-commit"))
			feed->mark = feed->commit;
	}
	if (feed->now.end != InvalidXLogRecPtr && feed->now.end <= feed->position &&
		feed->now.end > feed->mark.end)
		feed->mark = feed->now;
}

bool
feed_read(Feed *feed)
{
	/* the reader keeps what it allocates: not in the context of the transactions */
	MemoryContext old;
	XLogRecPtr	flushed = GetFlushRecPtr(NULL);
	bool		more = true;

	if (flushed == feed->ended_at)
		return false;
	feed->ended_at = InvalidXLogRecPtr;
	feed->work.collected = 0;
	old = MemoryContextSwitchTo(feed->context);
	for (int n = 0; n < FEED_RECORDS_PER_READ && feed->work.collected < FEED_BYTES_PER_READ; n++)
	{
		char	   *error = NULL;
		XLogRecord *record = XLogReadRecord(feed->reader, &error);

		if (record == NULL)
		{
			if (feed->page.end_of_wal)
			{
				/* what is there of the next record is read again later */
				feed->page.end_of_wal = false;
				feed_begin_at(feed->reader, feed->read_to);
				feed->ended_at = flushed;
				more = false;
				break;
			}
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not read WAL at %X/%X: %s",
							LSN_FORMAT_ARGS(feed->reader->EndRecPtr),
							error ? error : "no further record")));
		}
		switch (XLogRecGetRmid(feed->reader))
		{
			case RM_LOGICALMSG_ID:
				read_message(feed);
				break;
			case RM_XACT_ID:
				read_transaction_end(feed);
				break;
			case RM_XLOG_ID:
				{
					uint8		info = XLogRecGetInfo(feed->reader) & ~XLR_INFO_MASK;

					if (info == XLOG_CHECKPOINT_SHUTDOWN || info == XLOG_END_OF_RECOVERY)
						feed_work_abort_all(&feed->work);
					break;
				}
		}
		feed->read_to = feed->reader->EndRecPtr;
		if (feed->reader->ReadRecPtr == feed->now.start)
		{
			feed->now.end = feed->read_to;
			feed->now.crc = record->xl_crc;
		}
	}
	MemoryContextSwitchTo(old);
	advance_position(feed);
	return more;
}

FeedTransaction *
feed_next_visible(Feed *feed)
{
	dlist_iter	iter;

	dlist_foreach(iter, &feed->waiting)
	{
		FeedTransaction *transaction = dlist_container(FeedTransaction, waiting, iter.cur);

		if (TransactionIdIsValid(transaction->xid) &&
			TransactionIdIsInProgress(transaction->xid) && CK_GUARD("visibility-wait"))
			continue;
		transaction->visible = true;
		dlist_delete(&transaction->waiting);
		return transaction;
	}
	return NULL;
}

void
feed_add_key(Feed *feed, FeedTransaction *transaction, const char *named, int len)
{
	feed_work_add_key(&feed->work, transaction, named, len);
}

bool
feed_has_waiting(const Feed *feed)
{
	return !dlist_is_empty(unconstify(dlist_head *, &feed->waiting));
}

/* A transaction's changes have been acknowledged. */
void
feed_done(Feed *feed, FeedTransaction *transaction)
{
	transaction->done = true;
	while (!dlist_is_empty(&feed->committed))
	{
		FeedTransaction *first = dlist_head_element(FeedTransaction, node, &feed->committed);

		if (!first->done)
			break;
		feed->position = first->end;
		if (first->commit_start != InvalidXLogRecPtr)
		{
			feed->mark.start = first->commit_start;
			feed->mark.end = first->end;
			feed->mark.crc = first->commit_crc;
		}
		dlist_delete(&first->node);
		if (first->held)
		{
			feed_work_forget_items(&feed->work, first);	/* all of it has been sent */
			dlist_push_tail(&feed->held, &first->node);
		}
		else
			feed_work_free(&feed->work, first);
	}
	advance_position(feed);
}

/* A transaction that was held may be forgotten now. */
void
feed_release(Feed *feed, FeedTransaction *transaction)
{
	transaction->held = false;
	if (transaction->end <= feed->position && transaction->done)
	{
		dlist_delete(&transaction->node);
		feed_work_free(&feed->work, transaction);
	}
}

TimestampTz
feed_oldest(const Feed *feed)
{
	if (dlist_is_empty(unconstify(dlist_head *, &feed->committed)))
		return 0;
	return dlist_head_element(FeedTransaction, node,
							  unconstify(dlist_head *, &feed->committed))->read_at;
}

XLogRecPtr
feed_position(const Feed *feed)
{
	return feed->position;
}

XLogRecPtr
feed_read_to(const Feed *feed)
{
	return feed->read_to;
}

XLogRecPtr
feed_restart(const Feed *feed)
{
	XLogRecPtr	oldest = feed_work_oldest(&feed->work);

	if (oldest == InvalidXLogRecPtr || !CK_GUARD("restart-point"))
		return feed->position;
	return Min(feed->position, oldest);
}

XLogRecPtr
feed_settled(const Feed *feed)
{
	XLogRecPtr	settled = feed->position;
	dlist_iter	iter;

	dlist_foreach(iter, unconstify(dlist_head *, &feed->held))
		settled = Min(settled, dlist_container(FeedTransaction, node, iter.cur)->first);
	return settled;
}

const FeedMark *
feed_mark(const Feed *feed)
{
	return &feed->mark;
}
