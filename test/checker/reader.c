/*
 * reader.c
 *		What a reader does.
 *
 * Two reads in five ask for the key that was in a COMMIT last, because that is
 * where a wrong answer would be.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "document.h"
#include "report.h"
#include "work.h"

#define MAX_MANY		20
#define HOT_PERCENT		40

int
key_to_read(Session *s)
{
	return session_chance(s, HOT_PERCENT) ? history_hot_key(s->table) : some_key(s);
}

/*
 * A fetch never fails, unless the table is not attached (misuse), or the
 * session was chosen to end a deadlock.
 */
void
reader_failed(Session *s, const Bound *bound, const char *how)
{
	switch (s->failure)
	{
		case FAILED_RETRY:
			count_up(s, COUNT_RETRIES, 1);
			break;
		case FAILED_ERROR:
			if (history_in_window(bound))
				count_up(s, COUNT_REFUSED, 1);
			else
				report_violation("error", "key %d, %s by session %d failed: %s",
								 bound->key, how, s->number, s->message);
			break;
		default:
			break;
	}
}

static bool
judge_text(Session *s, const Bound *bound, const char *text, ReadRule rule, const char *how,
		   Seen *seen)
{
	bool		parsed = document_parse(text, seen);

	if (!parsed)
		report_violation("torn", "key %d, %s by session %d returned \"%s\"",
						 bound->key, how, s->number, text);
	count_up(s, COUNT_READS, 1);
	return parsed && history_judge(bound, seen, rule, how, s->number);
}

/* NULL for SQL NULL */
static const char *
text_of(const PGresult *res, int row, int column)
{
	return PQgetisnull(res, row, column) ? NULL : PQgetvalue(res, row, column);
}

void
reader_fetch(Session *s, int key, Statement st, ReadRule rule, const char *how)
{
	int64_t		param = key;
	Bound		bound;
	Seen		seen;
	PGresult   *res;

	history_bound(key, &bound);
	res = session_run_ints(s, st, 1, &param);
	if (res == NULL)
		reader_failed(s, &bound, how);
	else
		(void) judge_text(s, &bound, text_of(res, 0, 0), rule, how, &seen);
	PQclear(res);
}

/*
 * Many at once; with "set", of one moment, which is judged on top of what each
 * of them is.
 */
static void
fetch_many(Session *s, bool set)
{
	const char *how = set ? "fetch_many of one moment" : "fetch_many";
	int			n = 2 + (int) (session_random(s) % (MAX_MANY - 1));
	int64_t		keys[MAX_MANY];
	Bound		bounds[MAX_MANY];
	Seen		seen[MAX_MANY];
	int			good = 0;
	char	   *array;
	PGresult   *res;

	for (int i = 0; i < n; i++)
	{
		keys[i] = key_to_read(s);
		history_bound((int) keys[i], &bounds[i]);
	}
	array = session_array(keys, n);
	res = session_run(s, set ? ST_FETCH_SET : ST_FETCH_MANY, 1, (const char *const *) &array);
	free(array);
	if (res == NULL)
	{
		reader_failed(s, &bounds[0], how);
		return;
	}
	if (PQntuples(res) != n)
		report_violation("fetch_many", "session %d asked for %d keys, got %d rows",
						 s->number, n, PQntuples(res));
	for (int i = 0; i < n && i < PQntuples(res); i++)
	{
		if (atoi(PQgetvalue(res, i, 0)) != keys[i])
			report_violation("fetch_many", "session %d: row %d should be key %d, is \"%s\"",
							 s->number, i + 1, (int) keys[i], PQgetvalue(res, i, 0));
		good += judge_text(s, &bounds[i], text_of(res, i, 1), READ_STRICT, how, &seen[i]);
		count_up(s, set ? COUNT_SET_READS : COUNT_MANY, 1);
	}
	if (set && good == n)
	{
		(void) history_judge_set(bounds, seen, n, how, s->number);
		count_up(s, COUNT_SETS, 1);
	}
	PQclear(res);
}

/* Each statement of a READ COMMITTED transaction is judged by itself. */
static void
fetch_in_transaction(Session *s)
{
	int			n = 1 + (int) (session_random(s) % 4);

	if (!session_do(s, "BEGIN"))
		return;
	for (int i = 0; i < n; i++)
	{
		reader_fetch(s, key_to_read(s), ST_FETCH, READ_STRICT, "fetch in a transaction");
		if (s->failure != FAILED_NOT)
			break;
	}
	if (!session_lost(s))
		(void) session_do(s, "COMMIT");
}

/*
 * In REPEATABLE READ a fetch must say what a SELECT of the same transaction
 * says, whichever comes first, and the snapshot gives the bounds.
 */
static void
fetch_in_snapshot(Session *s)
{
	int64_t		keys[3];
	Bound		bounds[3];
	int			n = 1 + (int) (session_random(s) % 3);

	if (!session_do(s, "BEGIN ISOLATION LEVEL REPEATABLE READ"))
		return;
	for (int i = 0; i < n; i++)
	{
		keys[i] = key_to_read(s);
		history_bound((int) keys[i], &bounds[i]);
	}
	for (int i = 0; i < n; i++)
	{
		bool		fetch_first = session_chance(s, 50);
		PGresult   *first = session_run_ints(s, fetch_first ? ST_FETCH : ST_SELECT, 1, &keys[i]);
		PGresult   *second = first == NULL ? NULL :
			session_run_ints(s, fetch_first ? ST_SELECT : ST_FETCH, 1, &keys[i]);
		const char *fetched;
		const char *selected;
		Seen		seen;

		if (second == NULL)
		{
			PQclear(first);
			reader_failed(s, &bounds[i], "fetch in REPEATABLE READ");
			break;
		}
		fetched = text_of(fetch_first ? first : second, 0, 0);
		selected = PQntuples(fetch_first ? second : first) == 0 ? NULL :
			text_of(fetch_first ? second : first, 0, 0);
		if ((fetched == NULL) != (selected == NULL) ||
			(fetched != NULL && strcmp(fetched, selected) != 0))
			report_violation("snapshot", "key %d, session %d, REPEATABLE READ: fetch says %s, "
							 "SELECT says %s", (int) keys[i], s->number,
							 fetched != NULL ? fetched : "no row",
							 selected != NULL ? selected : "no row");
		count_up(s, COUNT_SNAPSHOT, 1);
		(void) judge_text(s, &bounds[i], fetched, READ_SNAPSHOT, "fetch in REPEATABLE READ", &seen);
		PQclear(first);
		PQclear(second);
	}
	if (!session_lost(s))
		(void) session_do(s, "COMMIT");
}

void
reader_work(Session *s)
{
	uint32_t	choice = session_random(s) % 1000;

	if (choice < 860)
		reader_fetch(s, key_to_read(s), ST_FETCH, READ_STRICT, "fetch");
	else if (choice < 890)
		fetch_many(s, false);
	else if (choice < 920)
		fetch_many(s, true);
	else if (choice < 940)
		fetch_in_transaction(s);
	else if (choice < 960)
		fetch_in_snapshot(s);
	else if (choice < 980)
		reader_fetch(s, key_to_read(s), ST_FETCH_BYPASS, READ_STRICT, "fetch, bypass");
	else if (choice < 990)
		reader_fetch(s, key_to_read(s), ST_FETCH_INVALIDATE, READ_STRICT, "fetch, invalidate");
	else
		reader_fetch(s, key_to_read(s), ST_FETCH_FRESH, READ_MAY_MISS, "fetch, fresh");
}
