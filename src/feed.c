/*-------------------------------------------------------------------------
 *
 * feed.c
 *	  Committed changes, read from the WAL, in the order of their commits.
 *
 * A record that was written inside a savepoint carries the subtransaction's
 * xid and no other, so a commit or abort settles its xid and all those that
 * it lists.  What was in progress when the server went down can no longer
 * commit: it is dropped when a shutdown checkpoint or the end of recovery has
 * been read.
 *
 * What a transaction may take is bounded, and what all of them take together:
 * beyond that, "everything changed" stands for the rest.  A transaction that
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
#include "access/xlogreader.h"
#include "access/xlogutils.h"
#include "catalog/pg_control.h"
#include "replication/message.h"
#include "storage/procarray.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "debug.h"
#include "feed.h"
#include "key.h"
#include "record.h"

#define FEED_RECORDS_PER_READ	4000	/* WAL records in one call */
#define FEED_BYTES_PER_READ		(1024 * 1024)	/* collected in one call */
#define FEED_MAX_TRANSACTION	(32 * 1024 * 1024)	/* bytes of one transaction */
#define FEED_MAX_ENTITIES		1000	/* whole entities of one transaction */
#define FEED_MAX_BYTES			(64 * 1024 * 1024)	/* of all */
#define FEED_OVERHEAD			(2 * sizeof(FeedTransaction))	/* of each */

typedef struct FeedEntry
{
	TransactionId xid;			/* hash key (must be first) */
	FeedTransaction *transaction;
} FeedEntry;

struct Feed
{
	MemoryContext context;
	MemoryContext work;			/* of all transactions; reset by feed_begin() */
	Oid			dboid;
	Oid			serverid;
	XLogReaderState *reader;
	ReadLocalXLogPageNoWaitPrivate page;
	HTAB	   *open;			/* transactions that have not ended, by xid */
	dlist_head	committed;		/* in the order of commits, until done */
	dlist_head	held;			/* done, but not yet to be forgotten */
	pairingheap *by_first;		/* all of them and the open ones: the oldest record first */
	dlist_head	waiting;		/* of the committed, those not yet visible */
	Size		bytes;			/* of all transactions */
	Size		collected;		/* by this call of feed_read() */
	XLogRecPtr	ended_at;		/* flushed WAL ended here when all was read; 0: it was not */
	XLogRecPtr	read_to;		/* end of the last record read */
	XLogRecPtr	position;		/* see feed.h */
	FeedMark	mark;			/* at or before the position */
	FeedMark	now;			/* the last message of ours; end 0: it has not been read */
};

/* A heap's first is its greatest: the one with the lowest location. */
static int
compare_first(const pairingheap_node *a, const pairingheap_node *b, void *arg)
{
	XLogRecPtr	first_a = pairingheap_const_container(FeedTransaction, by_first, a)->first;
	XLogRecPtr	first_b = pairingheap_const_container(FeedTransaction, by_first, b)->first;

	return first_a < first_b ? 1 : first_a > first_b ? -1 : 0;
}

static void
reset_work(Feed *feed)
{
	HASHCTL		ctl = {0};

	MemoryContextReset(feed->work);
	pairingheap_reset(feed->by_first);
	ctl.keysize = sizeof(TransactionId);
	ctl.entrysize = sizeof(FeedEntry);
	ctl.hcxt = feed->work;
	feed->open = hash_create("cachekit open transactions", 256, &ctl,
							 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	dlist_init(&feed->committed);
	dlist_init(&feed->held);
	dlist_init(&feed->waiting);
	feed->bytes = 0;
	feed->ended_at = InvalidXLogRecPtr;
}

Feed *
feed_create(MemoryContext parent, Oid dboid, Oid serverid)
{
	MemoryContext context = AllocSetContextCreate(parent, "cachekit feed", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	Feed	   *feed = palloc0(sizeof(Feed));

	feed->context = context;
	feed->work = AllocSetContextCreate(context, "cachekit feed transactions",
									   ALLOCSET_DEFAULT_SIZES);
	feed->by_first = pairingheap_allocate(compare_first, NULL);
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
	reset_work(feed);
	MemoryContextSwitchTo(old);
	return feed;
}

void
feed_begin(Feed *feed, XLogRecPtr start, const FeedMark *mark)
{
	reset_work(feed);
	XLogBeginRead(feed->reader, start);
	feed->read_to = feed->position = start;
	feed->mark = *mark;
	memset(&feed->now, 0, sizeof(FeedMark));
}

void
feed_expect(Feed *feed, XLogRecPtr now)
{
	feed->now.start = now;
	feed->now.end = InvalidXLogRecPtr;
}

/* ---------- collecting ---------- */

static void
count_bytes(Feed *feed, FeedTransaction *transaction, Size bytes)
{
	transaction->bytes += bytes;
	feed->bytes += bytes;
	feed->collected += bytes;
}

static FeedTransaction *
new_transaction(Feed *feed, TransactionId xid)
{
	FeedTransaction *transaction = MemoryContextAllocZero(feed->work, sizeof(FeedTransaction));

	transaction->xid = xid;
	transaction->first = feed->reader->ReadRecPtr;
	count_bytes(feed, transaction, FEED_OVERHEAD);
	pairingheap_add(feed->by_first, &transaction->by_first);
	return transaction;
}

/* The transaction of an xid; NULL when there is no room for another. */
static FeedTransaction *
obtain_transaction(Feed *feed, TransactionId xid)
{
	FeedEntry  *entry = hash_search(feed->open, &xid, HASH_FIND, NULL);
	FeedTransaction *transaction;

	if (entry)
		return entry->transaction;
	if (feed->bytes >= FEED_MAX_BYTES)
		return NULL;
	transaction = new_transaction(feed, xid);
	entry = hash_search(feed->open, &xid, HASH_ENTER, NULL);
	entry->transaction = transaction;
	return transaction;
}

static void
forget_items(Feed *feed, FeedTransaction *transaction)
{
	if (transaction->keys.data)
		pfree(transaction->keys.data);
	if (transaction->entities.data)
		pfree(transaction->entities.data);
	if (transaction->refreshes.data)
		pfree(transaction->refreshes.data);
	memset(&transaction->keys, 0, sizeof(StringInfoData));
	memset(&transaction->entities, 0, sizeof(StringInfoData));
	memset(&transaction->refreshes, 0, sizeof(StringInfoData));
	feed->bytes -= transaction->bytes - FEED_OVERHEAD;
	transaction->bytes = FEED_OVERHEAD;
}

static void
free_transaction(Feed *feed, FeedTransaction *transaction)
{
	forget_items(feed, transaction);
	feed->bytes -= transaction->bytes;
	pairingheap_remove(feed->by_first, &transaction->by_first);
	pfree(transaction);
}

static void
everything_changed(Feed *feed, FeedTransaction *transaction)
{
	transaction->database = true;
	forget_items(feed, transaction);
}

static void
append_bytes(Feed *feed, FeedTransaction *transaction, StringInfo buf, const char *bytes, int len)
{
	if (len == 0)
		return;
	if (buf->data == NULL)
	{
		/* most have one key: far less than initStringInfo() takes */
		buf->maxlen = Max(64, len + 1);
		buf->data = MemoryContextAlloc(feed->work, buf->maxlen);
		resetStringInfo(buf);
	}
	appendBinaryStringInfo(buf, bytes, len);
	count_bytes(feed, transaction, len);
}

/* { len:u8 a[:b] } */
static void
append_text(Feed *feed, FeedTransaction *transaction, StringInfo buf,
			const char *a, int a_len, const char *b, int b_len)
{
	char		text[2 + KEY_MAX_NAMED];
	int			len = a_len;

	memcpy(text + 1, a, a_len);
	if (b)
	{
		text[1 + len++] = ':';
		memcpy(text + 1 + len, b, b_len);
		len += b_len;
	}
	text[0] = (char) (uint8) len;
	append_bytes(feed, transaction, buf, text, 1 + len);
}

/* { relation:u32 absent:u8 len:u8 <entity>:<key> } */
static void
append_refresh(Feed *feed, FeedTransaction *transaction, const RecordItem *item)
{
	char		head[sizeof(Oid) + 1];

	memcpy(head, &item->relid, sizeof(Oid));
	head[sizeof(Oid)] = item->kind == RECORD_REFRESH_ABSENT;
	append_bytes(feed, transaction, &transaction->refreshes, head, sizeof(head));
	append_text(feed, transaction, &transaction->refreshes, item->name, item->name_len,
				item->key, item->key_len);
}

static bool
is_too_much(const Feed *feed, const FeedTransaction *transaction)
{
	return transaction->bytes > FEED_MAX_TRANSACTION ||
		transaction->nentities > FEED_MAX_ENTITIES || feed->bytes > FEED_MAX_BYTES;
}

typedef struct Collector
{
	Feed	   *feed;
	FeedTransaction *transaction;
} Collector;

/* One item of a change record; false when the rest does not matter any more. */
static bool
collect(const RecordItem *item, void *arg)
{
	Feed	   *feed = ((Collector *) arg)->feed;
	FeedTransaction *transaction = ((Collector *) arg)->transaction;

	if (item->kind == RECORD_ENTITY)
	{
		append_text(feed, transaction, &transaction->entities, item->name, item->name_len,
					NULL, 0);
		transaction->nentities++;
	}
	else if (item->kind == RECORD_KEYS)
		append_text(feed, transaction, &transaction->keys, item->name, item->name_len,
					item->key, item->key_len);
	else if (item->kind != RECORD_DATABASE)
		append_refresh(feed, transaction, item);
	if (item->kind != RECORD_DATABASE && !is_too_much(feed, transaction))
		return true;
	everything_changed(feed, transaction);
	return false;
}

/* A transaction that cannot be remembered: as if it had committed here. */
static void
commit_unremembered(Feed *feed)
{
	FeedTransaction *last = dlist_is_empty(&feed->committed) ? NULL :
		dlist_tail_element(FeedTransaction, node, &feed->committed);

	if (last == NULL || last->visible || TransactionIdIsValid(last->xid))
	{
		last = new_transaction(feed, InvalidTransactionId);
		last->database = true;
		last->read_at = GetCurrentTimestamp();
		dlist_push_tail(&feed->committed, &last->node);
		dlist_push_tail(&feed->waiting, &last->waiting);
	}
	last->end = feed->reader->EndRecPtr;
}

static void
read_message(Feed *feed)
{
	xl_logical_message *message = (xl_logical_message *) XLogRecGetData(feed->reader);
	Size		len = XLogRecGetDataLen(feed->reader);
	TransactionId xid = XLogRecGetXid(feed->reader);
	Collector	collector = {feed, NULL};

	if (len < SizeOfLogicalMessage || !message->transactional ||
		message->dbId != feed->dboid || !TransactionIdIsValid(xid) ||
		message->prefix_size != sizeof(RECORD_PREFIX) ||
		message->message_size > len - SizeOfLogicalMessage - message->prefix_size ||
		memcmp(message->message, RECORD_PREFIX, sizeof(RECORD_PREFIX)) != 0)
		return;
	collector.transaction = obtain_transaction(feed, xid);
	if (collector.transaction == NULL)
		commit_unremembered(feed);
	else if (collector.transaction->database)
		return;
	/* what cannot be understood, of whatever version, may mean anything */
	else if (!record_parse(message->message + message->prefix_size, message->message_size,
						   feed->serverid, collect, &collector))
		everything_changed(feed, collector.transaction);
}

/* Move what one xid has changed into the transaction that commits it. */
static void
settle(Feed *feed, TransactionId xid, FeedTransaction **into)
{
	FeedEntry  *entry = hash_search(feed->open, &xid, HASH_REMOVE, NULL);
	FeedTransaction *from;

	if (entry == NULL)
		return;
	from = entry->transaction;
	if (into == NULL)
		free_transaction(feed, from);
	else if (*into == NULL)
		*into = from;
	else
	{
		if ((*into)->bytes + from->bytes > FEED_MAX_TRANSACTION ||
			(*into)->nentities + from->nentities > FEED_MAX_ENTITIES || from->database)
			everything_changed(feed, *into);
		if (!(*into)->database)
		{
			append_bytes(feed, *into, &(*into)->keys, from->keys.data, from->keys.len);
			append_bytes(feed, *into, &(*into)->entities, from->entities.data, from->entities.len);
			append_bytes(feed, *into, &(*into)->refreshes, from->refreshes.data,
						 from->refreshes.len);
			(*into)->nentities += from->nentities;
		}
		if (from->first < (*into)->first)
		{
			pairingheap_remove(feed->by_first, &(*into)->by_first);
			(*into)->first = from->first;
			pairingheap_add(feed->by_first, &(*into)->by_first);
		}
		free_transaction(feed, from);
	}
}

static void
settle_all(Feed *feed, TransactionId xid, int nsubxacts, TransactionId *subxacts, bool commit)
{
	FeedTransaction *transaction = NULL;

	settle(feed, xid, commit ? &transaction : NULL);
	for (int i = 0; i < nsubxacts && CK_GUARD("subxacts"); i++)
		settle(feed, subxacts[i], commit ? &transaction : NULL);
	if (transaction == NULL)
		return;
	transaction->xid = xid;
	transaction->read_at = GetCurrentTimestamp();
	transaction->end = feed->reader->EndRecPtr;
	transaction->commit_start = feed->reader->ReadRecPtr;
	transaction->commit_crc = feed->reader->record->header.xl_crc;
	dlist_push_tail(&feed->committed, &transaction->node);
	dlist_push_tail(&feed->waiting, &transaction->waiting);
}

static void
read_transaction_end(Feed *feed)
{
	uint8		info = XLogRecGetInfo(feed->reader);
	uint8		kind = info & XLOG_XACT_OPMASK;

	if (hash_get_num_entries(feed->open) == 0)
		return;
	if (kind == XLOG_XACT_COMMIT || kind == XLOG_XACT_COMMIT_PREPARED)
	{
		xl_xact_parsed_commit parsed;

		ParseCommitRecord(info, (xl_xact_commit *) XLogRecGetData(feed->reader), &parsed);
		settle_all(feed, TransactionIdIsValid(parsed.twophase_xid) ? parsed.twophase_xid :
				   XLogRecGetXid(feed->reader), parsed.nsubxacts, parsed.subxacts, true);
	}
	else if (kind == XLOG_XACT_ABORT || kind == XLOG_XACT_ABORT_PREPARED)
	{
		xl_xact_parsed_abort parsed;

		ParseAbortRecord(info, (xl_xact_abort *) XLogRecGetData(feed->reader), &parsed);
		settle_all(feed, TransactionIdIsValid(parsed.twophase_xid) ? parsed.twophase_xid :
				   XLogRecGetXid(feed->reader), parsed.nsubxacts, parsed.subxacts, false);
	}
}

/* After a restart, what was in progress before it can no longer commit. */
static void
drop_open(Feed *feed)
{
	HASH_SEQ_STATUS seq;
	FeedEntry  *entry;

	hash_seq_init(&seq, feed->open);
	while ((entry = hash_seq_search(&seq)) != NULL)
	{
		free_transaction(feed, entry->transaction);
		hash_search(feed->open, &entry->xid, HASH_REMOVE, NULL);
	}
}

/* ---------- reading ---------- */

static void
advance_position(Feed *feed)
{
	if (dlist_is_empty(&feed->committed))
		feed->position = feed->read_to;
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
	feed->collected = 0;
	old = MemoryContextSwitchTo(feed->context);
	for (int n = 0; n < FEED_RECORDS_PER_READ && feed->collected < FEED_BYTES_PER_READ; n++)
	{
		char	   *error = NULL;
		XLogRecord *record = XLogReadRecord(feed->reader, &error);

		if (record == NULL)
		{
			if (feed->page.end_of_wal)
			{
				/* what is there of the next record is read again later */
				feed->page.end_of_wal = false;
				XLogBeginRead(feed->reader, feed->read_to);
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
						drop_open(feed);
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
	append_text(feed, transaction, &transaction->keys, named, len, NULL, 0);
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
			forget_items(feed, first);	/* all of it has been sent */
			dlist_push_tail(&feed->held, &first->node);
		}
		else
			free_transaction(feed, first);
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
		free_transaction(feed, transaction);
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
	FeedTransaction *oldest;

	if (pairingheap_is_empty(feed->by_first) || !CK_GUARD("restart-point"))
		return feed->position;
	oldest = pairingheap_container(FeedTransaction, by_first, pairingheap_first(feed->by_first));
	return Min(feed->position, oldest->first);
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
