/*
 * transaction.c
 *		The changes that a writer makes, one transaction at a time, entered in
 *		the history as they are made.
 *
 * The history must know of a write before the server does, and of a COMMIT
 * before it is sent; of its success only when the answer is there.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "document.h"
#include "report.h"
#include "transaction.h"

static TxnWrite *
add_write(Txn *t, int key)
{
	TxnWrite   *w;

	if (t->nwrites == t->size)
	{
		t->size = t->size == 0 ? 16 : t->size * 2;
		t->writes = realloc(t->writes, (size_t) t->size * sizeof(TxnWrite));
		if (t->writes == NULL)
			report_fatal("out of memory");
	}
	w = &t->writes[t->nwrites++];
	w->id = history_write(key, t->session->number);
	w->key = key;
	w->version = 0;
	w->absent = false;
	return w;
}

static void
set_version(TxnWrite *w, Version version, bool absent)
{
	w->version = version;
	w->absent = absent;
	history_version(w->id, version, absent);
}

/* A write whose version is made here, as the successor of "base". */
static TxnWrite
add_successor(Txn *t, int key, Version base, bool absent)
{
	TxnWrite   *w = add_write(t, key);

	set_version(w, VERSION_NEXT(base, w->id), absent);
	return *w;
}

/* The last write did not happen after all. */
static void
drop_write(Txn *t)
{
	history_dead(t->writes[--t->nwrites].id);
}

static int64_t
random_pad(Session *s)
{
	return 24 + session_random(s) % (uint32_t) (options.pad - 23);
}

void
txn_single_update(Session *s, int key)
{
	WriteId		id = history_write(key, s->number);
	int64_t		params[] = {key, id, s->number, random_pad(s)};
	PGresult   *res;

	history_sent(&id, 1);
	s->warned = false;
	res = session_run_ints(s, ST_UPDATE, 4, params);
	if (res == NULL)
	{
		if (s->failure == FAILED_LOST)
			count_up(s, COUNT_UNKNOWN, 1);
		else
		{
			history_dead(id);
			if (s->failure == FAILED_RETRY)
				count_up(s, COUNT_RETRIES, 1);
			else
				report_violation("error", "UPDATE by session %d failed: %s",
								 s->number, s->message);
		}
		return;
	}
	if (PQntuples(res) == 1)
	{
		history_version(id, strtoll(PQgetvalue(res, 0, 0), NULL, 10), false);
		history_done(&id, 1, options.synchronous && !s->warned);
		count_up(s, COUNT_COMMITTED, 1);
		count_up(s, COUNT_VERSIONS, 1);
	}
	else
		history_dead(id);
	PQclear(res);
}

bool
txn_begin(Txn *t, Session *s)
{
	memset(t, 0, sizeof(*t));
	t->session = s;
	history_bound(FIRST_KEY(s->table), &t->start);
	return session_do(s, "BEGIN");
}

bool
txn_lock_keys(Txn *t, const int64_t *keys, int n)
{
	char	   *array = session_array(keys, n);
	const char *params[] = {array};
	PGresult   *res = session_run(t->session, ST_LOCK_KEYS, 1, params);

	free(array);
	PQclear(res);
	return res != NULL;
}

/* UPDATE, INSERT or UPSERT of one row; that it matches none is no error */
static bool
write_row(Txn *t, Statement st, int key)
{
	TxnWrite   *w = add_write(t, key);
	int64_t		params[] = {key, w->id, t->session->number, random_pad(t->session)};
	PGresult   *res = session_run_ints(t->session, st, 4, params);

	if (res == NULL)
		return false;
	if (PQntuples(res) == 1)
		set_version(w, strtoll(PQgetvalue(res, 0, 0), NULL, 10), false);
	else
		drop_write(t);
	PQclear(res);
	return true;
}

/*
 * With a fetch in RETURNING, the row is loaded before any AFTER trigger has
 * fired; what that fetch says is not judged, but it must leave no trace.
 */
bool
txn_update(Txn *t, int key, bool with_fetch)
{
	return write_row(t, with_fetch ? ST_UPDATE_FETCH : ST_UPDATE, key);
}

bool
txn_insert(Txn *t, int key)
{
	return write_row(t, ST_INSERT, key);
}

bool
txn_upsert(Txn *t, int key)
{
	return write_row(t, ST_UPSERT, key);
}

/* Enters deletions in ck_tomb, where the next INSERT finds the version. */
static bool
bury(Txn *t, const TxnWrite *tombs, int n)
{
	int64_t    *keys = malloc((size_t) n * sizeof(int64_t));
	int64_t    *versions = malloc((size_t) n * sizeof(int64_t));
	char	   *arrays[2];
	PGresult   *res;

	if (keys == NULL || versions == NULL)
		report_fatal("out of memory");
	for (int i = 0; i < n; i++)
	{
		keys[i] = tombs[i].key;
		versions[i] = tombs[i].version;
	}
	arrays[0] = session_array(keys, n);
	arrays[1] = session_array(versions, n);
	res = session_run(t->session, ST_TOMBS, 2, (const char *const *) arrays);
	free(arrays[0]);
	free(arrays[1]);
	free(keys);
	free(versions);
	PQclear(res);
	return res != NULL;
}

bool
txn_delete(Txn *t, int key)
{
	int64_t		param = key;
	PGresult   *res = session_run_ints(t->session, ST_DELETE, 1, &param);
	TxnWrite	w;
	Version		old;

	if (res == NULL)
		return false;
	if (PQntuples(res) == 0)
	{
		PQclear(res);
		return true;
	}
	old = strtoll(PQgetvalue(res, 0, 0), NULL, 10);
	PQclear(res);
	w = add_successor(t, key, old, true);
	return bury(t, &w, 1);
}

static bool
move_row(Txn *t, int from, int to, Version version)
{
	int64_t		params[] = {from, to, version, t->session->number};
	PGresult   *res = session_run_ints(t->session, ST_MOVE, 4, params);
	bool		one = res != NULL && strcmp(PQcmdTuples(res), "1") == 0;

	if (res != NULL && !one)
		report_fatal("a locked row was not there: key %d", from);
	PQclear(res);
	return one;
}

/*
 * Changes the primary keys of two rows, by way of a third key that nobody
 * asks for.  Needs both keys locked.  If only one of the rows is there, it
 * moves to the other key.
 */
bool
txn_swap(Txn *t, int key1, int key2)
{
	int64_t		keys[] = {key1 < key2 ? key1 : key2, key1 < key2 ? key2 : key1};
	Version		newest = 0;
	char	   *array = session_array(keys, 2);
	const char *params[] = {array};
	PGresult   *res = session_run(t->session, ST_LOCK_ROWS, 1, params);
	TxnWrite	w1;
	TxnWrite	w2;

	free(array);
	if (res == NULL)
		return false;
	if (PQntuples(res) == 2)
	{
		for (int i = 0; i < 2; i++)
		{
			Version		v = strtoll(PQgetvalue(res, i, 1), NULL, 10);

			if (v > newest)
				newest = v;
		}
		PQclear(res);
		w1 = add_successor(t, key1, newest, false);
		w2 = add_successor(t, key2, newest, false);
		return move_row(t, key1, -key1, w2.version) &&
			move_row(t, key2, key1, w1.version) &&
			move_row(t, -key1, key2, w2.version);
	}
	if (PQntuples(res) == 1)
	{
		int			from = atoi(PQgetvalue(res, 0, 0));
		int			to = from == key1 ? key2 : key1;
		Version		old = strtoll(PQgetvalue(res, 0, 1), NULL, 10);

		/* the base of the absent key is in ck_tomb */
		PQclear(res);
		res = session_run(t->session, ST_BASES, 0, NULL);
		if (res == NULL)
			return false;
		newest = old;
		if (strtoll(PQgetvalue(res, to - FIRST_KEY(t->session->table), 1), NULL, 10) > newest)
			newest = strtoll(PQgetvalue(res, to - FIRST_KEY(t->session->table), 1), NULL, 10);
		PQclear(res);
		w1 = add_successor(t, to, newest, false);
		w2 = add_successor(t, from, old, true);
		return move_row(t, from, to, w1.version) && bury(t, &w2, 1);
	}
	PQclear(res);
	return true;
}

/*
 * TRUNCATE, and most rows come back by COPY, in one transaction.  The caller
 * has locked all keys.
 */
bool
txn_truncate(Txn *t, int keep_percent)
{
	Session    *s = t->session;
	PGresult   *res;
	char	   *lines;
	size_t		line = (size_t) options.pad + 64;
	size_t		length = 0;
	int			first_tomb;
	bool		good;

	if (!session_do(s, "LOCK TABLE ck_register IN ACCESS EXCLUSIVE MODE") ||
		(res = session_run(s, ST_BASES, 0, NULL)) == NULL)
		return false;
	lines = malloc((size_t) options.keys * line + 1);
	if (lines == NULL)
		report_fatal("out of memory");
	lines[0] = '\0';

	/* the rows that come back, then the deletions */
	for (int i = 0; i < PQntuples(res); i++)
	{
		TxnWrite	w;
		char		pad[24];
		int			width = (int) random_pad(s);

		if (!session_chance(s, keep_percent))
			continue;
		w = add_successor(t, atoi(PQgetvalue(res, i, 0)),
						  strtoll(PQgetvalue(res, i, 1), NULL, 10), false);
		snprintf(pad, sizeof(pad), "%lld", (long long) w.version);
		length += (size_t) snprintf(lines + length, line, "%d\t%s\t%d\t%s",
									w.key, pad, s->number, pad);
		for (int n = (int) strlen(pad); n < width; n++)
			lines[length++] = 'x';
		lines[length++] = '\n';
		lines[length] = '\0';
	}
	first_tomb = t->nwrites;
	for (int i = 0, back = 0; i < PQntuples(res); i++)
	{
		int			key = atoi(PQgetvalue(res, i, 0));

		while (back < first_tomb && t->writes[back].key < key)
			back++;
		if (back < first_tomb && t->writes[back].key == key)
			continue;
		if (strcmp(PQgetvalue(res, i, 2), "t") == 0)
			continue;			/* was absent before */
		(void) add_successor(t, key, strtoll(PQgetvalue(res, i, 1), NULL, 10), true);
	}
	PQclear(res);

	good = session_do(s, "TRUNCATE ck_register") &&
		session_copy(s, "COPY ck_register (id, version, writer, pad) FROM STDIN", lines) &&
		(t->nwrites == first_tomb ||
		 bury(t, t->writes + first_tomb, t->nwrites - first_tomb));
	free(lines);
	return good;
}

/*
 * What the transaction itself wrote must be seen by itself, exactly: the row
 * is locked.  Any other key is a read like that of any reader.
 */
bool
txn_fetch(Txn *t, int key)
{
	Session    *s = t->session;
	int64_t		param = key;
	const TxnWrite *w = NULL;
	const char *text;
	PGresult   *res;
	Bound		bound;
	Seen		seen;
	bool		parsed;

	for (int i = t->nwrites - 1; i >= 0 && w == NULL; i--)
		if (t->writes[i].key == key)
			w = &t->writes[i];
	history_bound(key, &bound);
	res = session_run_ints(s, ST_FETCH, 1, &param);
	if (res == NULL)
		return false;
	text = PQgetisnull(res, 0, 0) ? NULL : PQgetvalue(res, 0, 0);
	parsed = document_parse(text, &seen);
	if (w == NULL && parsed)
	{
		(void) history_judge(&bound, &seen, READ_STRICT, "fetch beside changes", s->number);
		count_up(s, COUNT_READS, 1);
	}
	else if (w == NULL)
		report_violation("torn", "key %d, fetch beside changes by session %d returned \"%s\"",
						 key, s->number, text);
	else
	{
		if (!parsed || seen.absent != w->absent ||
			(!seen.absent && (seen.version != w->version || seen.pad != w->version ||
							  seen.id != key)))
			report_violation("own change", "key %d: session %d wrote %s %lld.%u and in the same "
							 "transaction fetched %s", key, s->number,
							 w->absent ? "a deletion" : "version",
							 (long long) VERSION_COUNT(w->version), w->id,
							 text != NULL ? text : "no row");
		count_up(s, COUNT_OWN, 1);
	}
	PQclear(res);
	return true;
}

bool
txn_savepoint(Txn *t, int *mark)
{
	*mark = t->nwrites;
	return session_do(t->session, "SAVEPOINT s");
}

bool
txn_rollback_to(Txn *t, int mark)
{
	if (!session_do(t->session, "ROLLBACK TO SAVEPOINT s"))
		return false;
	while (t->nwrites > mark)
		drop_write(t);
	return true;
}

static void
end(Txn *t)
{
	free(t->writes);
	memset(t, 0, sizeof(*t));
}

/* Only the last write of a key will be seen; the others are dead. */
static int
live_writes(Txn *t, WriteId *ids)
{
	int			n = 0;

	for (int i = 0; i < t->nwrites; i++)
	{
		bool		overwritten = false;

		/* a TRUNCATE writes each key once, so that it need not be searched */
		for (int j = i + 1; t->nwrites < 64 && j < t->nwrites && !overwritten; j++)
			overwritten = t->writes[j].key == t->writes[i].key;
		if (overwritten)
			history_dead(t->writes[i].id);
		else
			ids[n++] = t->writes[i].id;
	}
	return n;
}

void
txn_commit(Txn *t)
{
	Session    *s = t->session;
	WriteId    *ids = malloc(((size_t) t->nwrites + 1) * sizeof(WriteId));
	int			n;
	PGresult   *res;

	if (ids == NULL)
		report_fatal("out of memory");
	n = live_writes(t, ids);
	history_sent(ids, n);
	s->warned = false;
	res = session_query(s, "COMMIT");
	if (res != NULL && strcmp(PQcmdStatus(res), "COMMIT") == 0)
	{
		history_done(ids, n, options.synchronous && !s->warned);
		count_up(s, COUNT_COMMITTED, 1);
		count_up(s, COUNT_VERSIONS, (uint64_t) n);
		end(t);
	}
	else if (res == NULL && s->failure == FAILED_LOST)
	{
		count_up(s, COUNT_UNKNOWN, 1);	/* the truth comes after the outage */
		end(t);
	}
	else
		txn_fail(t);
	PQclear(res);
	free(ids);
}

void
txn_rollback(Txn *t)
{
	Session    *s = t->session;

	for (int i = 0; i < t->nwrites; i++)
		history_dead(t->writes[i].id);
	if (session_do(s, "ROLLBACK"))
		count_up(s, COUNT_ROLLED_BACK, 1);
	end(t);
}

/*
 * After an error.  No COMMIT was sent, or it was answered with an error, so
 * that nothing of this transaction will ever be committed.
 */
void
txn_fail(Txn *t)
{
	Session    *s = t->session;

	for (int i = 0; i < t->nwrites; i++)
		history_dead(t->writes[i].id);
	if (s->failure == FAILED_RETRY)
		count_up(s, COUNT_RETRIES, 1);
	else if (s->failure == FAILED_ERROR)
	{
		if (history_in_window(&t->start))
			count_up(s, COUNT_REFUSED, 1);
		else
			report_violation("error", "a transaction of session %d failed: %s",
							 s->number, s->message);
	}
	if (s->failure != FAILED_LOST)
		(void) session_do(s, "ROLLBACK");
	end(t);
}
