/*-------------------------------------------------------------------------
 *
 * feed_work.c
 *	  What transactions have changed, as far as the feed remembers it.
 *
 * A record that was written inside a savepoint carries the subtransaction's
 * xid and no other, so a commit or abort settles its xid and all those that
 * it lists.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "lib/pairingheap.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "debug.h"
#include "feed_work.h"
#include "key.h"
#include "record.h"

#define MAX_TRANSACTION_BYTES	(32 * 1024 * 1024)	/* of one transaction */
#define MAX_ENTITIES			1000	/* whole entities of one transaction */
#define MAX_BYTES				(64 * 1024 * 1024)	/* of all */
#define OVERHEAD				(2 * sizeof(FeedTransaction))	/* of each */

typedef struct OpenTransaction
{
	TransactionId xid;			/* hash key (must be first) */
	FeedTransaction *transaction;
} OpenTransaction;

/* A heap's first is its greatest: the one with the lowest location. */
static int
compare_first(const pairingheap_node *a, const pairingheap_node *b, void *arg)
{
	XLogRecPtr	first_a = pairingheap_const_container(FeedTransaction, by_first, a)->first;
	XLogRecPtr	first_b = pairingheap_const_container(FeedTransaction, by_first, b)->first;

	return first_a < first_b ? 1 : first_a > first_b ? -1 : 0;
}

/* The caller's context is the one that `work` lives in. */
void
feed_work_init(FeedWork *work, MemoryContext parent)
{
	work->context = AllocSetContextCreate(parent, "cachekit feed transactions",
										  ALLOCSET_DEFAULT_SIZES);
	work->by_first = pairingheap_allocate(compare_first, NULL);
	feed_work_reset(work);
}

void
feed_work_reset(FeedWork *work)
{
	HASHCTL		ctl = {0};

	MemoryContextReset(work->context);
	pairingheap_reset(work->by_first);
	ctl.keysize = sizeof(TransactionId);
	ctl.entrysize = sizeof(OpenTransaction);
	ctl.hcxt = work->context;
	work->open = hash_create("cachekit open transactions", 256, &ctl,
							 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	work->bytes = 0;
	work->collected = 0;
}

/* ---------- transactions ---------- */

static void
count_bytes(FeedWork *work, FeedTransaction *transaction, Size bytes)
{
	transaction->bytes += bytes;
	work->bytes += bytes;
	work->collected += bytes;
}

FeedTransaction *
feed_work_new(FeedWork *work, TransactionId xid, XLogRecPtr first)
{
	FeedTransaction *transaction = MemoryContextAllocZero(work->context, sizeof(FeedTransaction));

	transaction->xid = xid;
	transaction->first = first;
	count_bytes(work, transaction, OVERHEAD);
	pairingheap_add(work->by_first, &transaction->by_first);
	return transaction;
}

FeedTransaction *
feed_work_obtain(FeedWork *work, TransactionId xid, XLogRecPtr first)
{
	OpenTransaction *entry = hash_search(work->open, &xid, HASH_FIND, NULL);
	FeedTransaction *transaction;

	if (entry)
		return entry->transaction;
	if (work->bytes >= MAX_BYTES)
		return NULL;
	transaction = feed_work_new(work, xid, first);
	entry = hash_search(work->open, &xid, HASH_ENTER, NULL);
	entry->transaction = transaction;
	return transaction;
}

void
feed_work_forget_items(FeedWork *work, FeedTransaction *transaction)
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
	work->bytes -= transaction->bytes - OVERHEAD;
	transaction->bytes = OVERHEAD;
}

void
feed_work_free(FeedWork *work, FeedTransaction *transaction)
{
	feed_work_forget_items(work, transaction);
	work->bytes -= transaction->bytes;
	pairingheap_remove(work->by_first, &transaction->by_first);
	pfree(transaction);
}

static void
everything_changed(FeedWork *work, FeedTransaction *transaction)
{
	transaction->database = true;
	feed_work_forget_items(work, transaction);
}

XLogRecPtr
feed_work_oldest(const FeedWork *work)
{
	if (pairingheap_is_empty(work->by_first))
		return InvalidXLogRecPtr;
	return pairingheap_container(FeedTransaction, by_first,
								 pairingheap_first(work->by_first))->first;
}

/* ---------- collecting ---------- */

static void
append_bytes(FeedWork *work, FeedTransaction *transaction, StringInfo buf,
			 const char *bytes, int len)
{
	if (len == 0)
		return;
	if (buf->data == NULL)
	{
		/* most have one key: far less than initStringInfo() takes */
		buf->maxlen = Max(64, len + 1);
		buf->data = MemoryContextAlloc(work->context, buf->maxlen);
		resetStringInfo(buf);
	}
	appendBinaryStringInfo(buf, bytes, len);
	count_bytes(work, transaction, len);
}

/* { len:u8 a[:b] } */
static void
append_text(FeedWork *work, FeedTransaction *transaction, StringInfo buf,
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
	append_bytes(work, transaction, buf, text, 1 + len);
}

/* { relation:u32 absent:u8 len:u8 <entity>:<key> } */
static void
append_refresh(FeedWork *work, FeedTransaction *transaction, const RecordItem *item)
{
	char		head[sizeof(Oid) + 1];

	memcpy(head, &item->relid, sizeof(Oid));
	head[sizeof(Oid)] = item->kind == RECORD_REFRESH_ABSENT;
	append_bytes(work, transaction, &transaction->refreshes, head, sizeof(head));
	append_text(work, transaction, &transaction->refreshes, item->name, item->name_len,
				item->key, item->key_len);
}

static bool
is_too_much(const FeedWork *work, const FeedTransaction *transaction)
{
	return transaction->bytes > MAX_TRANSACTION_BYTES ||
		transaction->nentities > MAX_ENTITIES || work->bytes > MAX_BYTES;
}

typedef struct Collector
{
	FeedWork   *work;
	FeedTransaction *transaction;
} Collector;

/* One item of a change record; false when the rest does not matter any more. */
static bool
collect(const RecordItem *item, void *arg)
{
	FeedWork   *work = ((Collector *) arg)->work;
	FeedTransaction *transaction = ((Collector *) arg)->transaction;

	if (item->kind == RECORD_ENTITY)
	{
		append_text(work, transaction, &transaction->entities, item->name, item->name_len,
					NULL, 0);
		transaction->nentities++;
	}
	else if (item->kind == RECORD_KEYS)
		append_text(work, transaction, &transaction->keys, item->name, item->name_len,
					item->key, item->key_len);
	else if (item->kind != RECORD_DATABASE)
		append_refresh(work, transaction, item);
	if (item->kind != RECORD_DATABASE && !is_too_much(work, transaction))
		return true;
	everything_changed(work, transaction);
	return false;
}

void
feed_work_collect(FeedWork *work, FeedTransaction *transaction, Oid serverid,
				  const char *record, Size len)
{
	Collector	collector = {work, transaction};

	if (transaction->database)
		return;
	/* what cannot be understood, of whatever version, may mean anything */
	if (!record_parse(record, len, serverid, collect, &collector))
		everything_changed(work, transaction);
}

void
feed_work_add_key(FeedWork *work, FeedTransaction *transaction, const char *named, int len)
{
	append_text(work, transaction, &transaction->keys, named, len, NULL, 0);
}

/* ---------- settling ---------- */

/* Add what one transaction has changed to another. */
static void
merge(FeedWork *work, FeedTransaction *into, FeedTransaction *from)
{
	if (into->bytes + from->bytes > MAX_TRANSACTION_BYTES ||
		into->nentities + from->nentities > MAX_ENTITIES || from->database)
		everything_changed(work, into);
	if (!into->database)
	{
		append_bytes(work, into, &into->keys, from->keys.data, from->keys.len);
		append_bytes(work, into, &into->entities, from->entities.data, from->entities.len);
		append_bytes(work, into, &into->refreshes, from->refreshes.data, from->refreshes.len);
		into->nentities += from->nentities;
	}
	if (from->first < into->first)
	{
		pairingheap_remove(work->by_first, &into->by_first);
		into->first = from->first;
		pairingheap_add(work->by_first, &into->by_first);
	}
	feed_work_free(work, from);
}

/* What an xid has changed, which is no longer open; NULL: nothing. */
static FeedTransaction *
take_open(FeedWork *work, TransactionId xid)
{
	OpenTransaction *entry = hash_search(work->open, &xid, HASH_REMOVE, NULL);

	return entry ? entry->transaction : NULL;
}

FeedTransaction *
feed_work_commit(FeedWork *work, TransactionId xid, int nsubxacts, const TransactionId *subxacts)
{
	FeedTransaction *transaction = take_open(work, xid);

	for (int i = 0; i < nsubxacts && CK_GUARD("subxacts"); i++)
	{
		FeedTransaction *from = take_open(work, subxacts[i]);

		if (transaction == NULL)
			transaction = from;
		else if (from)
			merge(work, transaction, from);
	}
	if (transaction)
		transaction->xid = xid;
	return transaction;
}

static void
abort_one(FeedWork *work, TransactionId xid)
{
	FeedTransaction *transaction = take_open(work, xid);

	if (transaction)
		feed_work_free(work, transaction);
}

void
feed_work_abort(FeedWork *work, TransactionId xid, int nsubxacts, const TransactionId *subxacts)
{
	abort_one(work, xid);
	for (int i = 0; i < nsubxacts && CK_GUARD("subxacts"); i++)
		abort_one(work, subxacts[i]);
}

void
feed_work_abort_all(FeedWork *work)
{
	HASH_SEQ_STATUS seq;
	OpenTransaction *entry;

	hash_seq_init(&seq, work->open);
	while ((entry = hash_seq_search(&seq)) != NULL)
	{
		feed_work_free(work, entry->transaction);
		hash_search(work->open, &entry->xid, HASH_REMOVE, NULL);
	}
}
