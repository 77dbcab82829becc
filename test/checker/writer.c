/*
 * writer.c
 *		What a writer does.
 *
 * More than half are the smallest possible UPDATEs; the others are what an
 * application, a migration or an operator may do to a row, each of which has
 * its own way to leave a cache wrong.
 */
#include <stdlib.h>

#include "transaction.h"
#include "work.h"

#define MAX_KEYS_PER_TXN	5
#define ROLLBACK_PERCENT	30
#define FETCH_PERCENT	30

static _Atomic int64_t next_truncate;

int
some_key(Session *s)
{
	uint32_t	n = (uint32_t) options.keys;

	if (n >= 10 && session_chance(s, 50))
		n /= 10;
	return FIRST_KEY(s->table) + (int) (session_random(s) % n);
}

static int
compare_keys(const void *a, const void *b)
{
	int64_t		x = *(const int64_t *) a;
	int64_t		y = *(const int64_t *) b;

	return (x > y) - (x < y);
}

/* Up to "n" different keys, ascending, as the order of locks wants it. */
static int
some_keys(Session *s, int64_t *keys, int n)
{
	int			m = 0;

	for (int i = 0; i < n; i++)
		keys[i] = some_key(s);
	qsort(keys, (size_t) n, sizeof(int64_t), compare_keys);
	for (int i = 0; i < n; i++)
		if (m == 0 || keys[m - 1] != keys[i])
			keys[m++] = keys[i];
	return m;
}

static void
finish(Txn *t, bool good, int rollback_percent)
{
	if (!good)
		txn_fail(t);
	else if (session_chance(t->session, rollback_percent))
		txn_rollback(t);
	else
		txn_commit(t);
}

/* Several rows, some of them under a savepoint that may be undone. */
static void
update_many(Session *s)
{
	int64_t		keys[MAX_KEYS_PER_TXN];
	int			n = some_keys(s, keys, 1 + (int) (session_random(s) % MAX_KEYS_PER_TXN));
	int			savepoint_at = session_chance(s, 40) ? (int) (session_random(s) % (uint32_t) n) : -1;
	bool		undo = session_chance(s, 60);
	int			mark = 0;
	Txn			t;
	bool		good = txn_begin(&t, s);

	for (int i = 0; i < n && good; i++)
	{
		if (i == savepoint_at)
			good = txn_update(&t, (int) keys[i], false) && txn_savepoint(&t, &mark);
		good = good && txn_update(&t, (int) keys[i], false);
		if (good && session_chance(s, FETCH_PERCENT))
			good = txn_fetch(&t, session_chance(s, 70) ? (int) keys[i] : some_key(s));
	}
	if (good && savepoint_at >= 0 && undo)
		good = txn_rollback_to(&t, mark) && txn_fetch(&t, (int) keys[savepoint_at]);
	finish(&t, good, ROLLBACK_PERCENT);
}

/* Rows that come and go. */
static void
insert_delete(Session *s)
{
	int64_t		keys[3];
	int			n = some_keys(s, keys, 1 + (int) (session_random(s) % 3));
	Txn			t;
	bool		good = txn_begin(&t, s) && txn_lock_keys(&t, keys, n);

	for (int i = 0; i < n && good; i++)
	{
		int			key = (int) keys[i];

		switch (session_random(s) % 7)
		{
			case 0:
				good = txn_delete(&t, key);
				break;
			case 1:
			case 2:
				good = txn_insert(&t, key);
				break;
			case 3:
				good = txn_upsert(&t, key);
				break;
			case 4:
				good = txn_delete(&t, key) && txn_insert(&t, key);
				break;
			case 5:
				good = txn_upsert(&t, key) && txn_delete(&t, key);
				break;
			default:
				good = txn_delete(&t, key) && txn_fetch(&t, key) &&
					txn_upsert(&t, key) && txn_update(&t, key, false);
				break;
		}
		if (good && session_chance(s, FETCH_PERCENT))
			good = txn_fetch(&t, key);
	}
	finish(&t, good, ROLLBACK_PERCENT);
}

/* Primary keys that change. */
static void
swap(Session *s)
{
	int64_t		keys[2];
	int			n = some_keys(s, keys, 2);
	Txn			t;
	bool		good;

	if (n < 2)
		return;
	good = txn_begin(&t, s) && txn_lock_keys(&t, keys, n) &&
		txn_swap(&t, (int) keys[0], (int) keys[1]);
	if (good && session_chance(s, FETCH_PERCENT))
		good = txn_fetch(&t, (int) keys[0]) && txn_fetch(&t, (int) keys[1]);
	finish(&t, good, ROLLBACK_PERCENT);
}

/* A fetch in RETURNING sees the new row before any AFTER trigger has fired. */
static void
update_returning_fetch(Session *s)
{
	int			key = some_key(s);
	Txn			t;

	finish(&t, txn_begin(&t, s) && txn_update(&t, key, true), 60);
	if (!session_lost(s))
		reader_fetch(s, key, ST_FETCH, READ_STRICT, "fetch");
}

static void
truncate_all(Session *s)
{
	int64_t    *keys = malloc((size_t) options.keys * sizeof(int64_t));
	Txn			t;
	bool		good;

	if (keys == NULL)
		return;
	for (int i = 0; i < options.keys; i++)
		keys[i] = FIRST_KEY(s->table) + i;
	good = txn_begin(&t, s) && txn_lock_keys(&t, keys, options.keys) &&
		txn_truncate(&t, 90);
	for (int i = 0; i < 3 && good; i++)
		good = txn_fetch(&t, some_key(s));
	finish(&t, good, ROLLBACK_PERCENT);
	free(keys);
}

static void
invalidate_by_hand(Session *s)
{
	int64_t		key = some_key(s);
	Bound		bound;
	PGresult   *res;

	history_bound((int) key, &bound);
	res = session_run_ints(s, ST_INVALIDATE, 1, &key);
	if (res == NULL)
		reader_failed(s, &bound, "invalidate");
	PQclear(res);
}

/*
 * Now and then a writer chooses anew whether its commits are asynchronous, so
 * that commits of both kinds follow each other in one session, too.
 */
static bool
choose_commit(Session *s)
{
	bool		async;

	if (!session_chance(s, 20))
		return true;
	async = session_chance(s, options.async);
	if (async == s->async)
		return true;
	if (!session_do(s, async ? "SET synchronous_commit = off" : "SET synchronous_commit = on"))
		return false;
	s->async = async;
	return true;
}

void
writer_work(Session *s)
{
	uint32_t	choice = session_random(s) % 100;
	int64_t		due = next_truncate;

	if (options.async % 100 != 0 && !choose_commit(s))
		return;
	if (options.truncate_ms > 0 && now_ns() >= due &&
		atomic_compare_exchange_strong(&next_truncate, &due,
									   now_ns() + options.truncate_ms * INT64_C(1000000)))
	{
		if (due != 0)			/* not at the very start */
			truncate_all(s);
	}
	else if (choice < 55)
		txn_single_update(s, some_key(s));
	else if (choice < 75)
		update_many(s);
	else if (choice < 90)
		insert_delete(s);
	else if (choice < 95)
		swap(s);
	else if (choice < 99)
		update_returning_fetch(s);
	else
		invalidate_by_hand(s);

	/* what it has just written is what it is least allowed to miss */
	if (!session_lost(s) && session_chance(s, 15))
		reader_fetch(s, history_hot_key(s->table), ST_FETCH, READ_STRICT, "fetch");
}
