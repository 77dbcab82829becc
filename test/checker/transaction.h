/*
 * transaction.h
 *		The changes that a writer makes, one transaction at a time, entered in
 *		the history as they are made.
 *
 * Locks are taken in one order, so that deadlocks are rare: rows of ck_tomb by
 * key, then rows of ck_register by key.  Whatever may insert or delete a key
 * must have locked its row of ck_tomb with txn_lock_keys first.
 *
 * A function that returns false has met an error: the caller must go to
 * txn_fail, which rolls back and settles what the transaction wrote.
 */
#ifndef TRANSACTION_H
#define TRANSACTION_H

#include "history.h"
#include "session.h"

typedef struct TxnWrite
{
	WriteId		id;
	int			key;
	Version		version;
	bool		absent;
} TxnWrite;

typedef struct Txn
{
	Session    *session;
	TxnWrite   *writes;			/* malloc'ed, in the order they were made */
	int			nwrites;
	int			size;
	Bound		start;			/* for history_in_window */
} Txn;

/* one statement, its own transaction */
extern void txn_single_update(Session *s, int key);

extern bool txn_begin(Txn *t, Session *s);
extern bool txn_lock_keys(Txn *t, const int64_t *keys, int n);
extern bool txn_update(Txn *t, int key, bool with_fetch);
extern bool txn_insert(Txn *t, int key);
extern bool txn_upsert(Txn *t, int key);
extern bool txn_delete(Txn *t, int key);
extern bool txn_swap(Txn *t, int key1, int key2);
extern bool txn_truncate(Txn *t, int keep_percent);

/* a fetch in the middle of it: the caller's own changes must be seen */
extern bool txn_fetch(Txn *t, int key);

extern bool txn_savepoint(Txn *t, int *mark);
extern bool txn_rollback_to(Txn *t, int mark);

/* the end: these free what the transaction holds */
extern void txn_commit(Txn *t);
extern void txn_rollback(Txn *t);
extern void txn_fail(Txn *t);

#endif							/* TRANSACTION_H */
