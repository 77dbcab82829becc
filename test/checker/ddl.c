/*
 * ddl.c
 *		What the DDL session does, with --ddl.
 *
 * Documents have to follow the shape of their table, too: each ALTER TABLE
 * makes the column `shape` with its own number as the default, or drops it,
 * and every document is judged by the shapes that are known (history.h).
 */
#include <stdio.h>

#include "control.h"
#include "document.h"
#include "report.h"
#include "work.h"

/* A table has at most 1,600 columns in all its life. */
#define MAX_SHAPES		1200
#define UNDONE_SHAPE	1000001

static void
ddl_do(Session *s, const char *sql)
{
	if (session_do(s, sql))
		count_up(s, COUNT_DDL, 1);
	else if (s->failure == FAILED_RETRY)
		count_up(s, COUNT_RETRIES, 1);
	else if (s->failure == FAILED_ERROR)
		report_violation("error", "\"%s\" failed: %s", sql, s->message);
}

static void
alter_shape(Session *s)
{
	int			shape = history_shape_next(s->table);
	char		sql[160];

	if (shape % 2 == 1)
		snprintf(sql, sizeof(sql), "ALTER TABLE ck_register DROP COLUMN IF EXISTS shape, "
				 "ADD COLUMN shape int NOT NULL DEFAULT %d", shape);
	else
		snprintf(sql, sizeof(sql), "ALTER TABLE ck_register DROP COLUMN IF EXISTS shape");

	/* a shape that was not made is made again until it is */
	do
		ddl_do(s, sql);
	while (s->failure == FAILED_RETRY);
	if (s->failure == FAILED_NOT)
		history_shape_done(s->table, shape);
}

/* The transaction sees its own shape; then nobody ever does. */
static void
alter_and_roll_back(Session *s)
{
	int64_t		key = some_key(s);
	PGresult   *res;
	Seen		seen;
	char		sql[160];

	snprintf(sql, sizeof(sql), "ALTER TABLE ck_register DROP COLUMN IF EXISTS shape, "
			 "ADD COLUMN shape int NOT NULL DEFAULT %d", UNDONE_SHAPE);
	if (!session_do(s, "BEGIN"))
		return;
	ddl_do(s, sql);
	if (s->failure == FAILED_NOT)
	{
		res = session_run_ints(s, ST_FETCH, 1, &key);
		if (res != NULL &&
			(!document_parse(PQgetisnull(res, 0, 0) ? NULL : PQgetvalue(res, 0, 0), &seen) ||
			 (!seen.absent && seen.shape != UNDONE_SHAPE)))
			report_violation("own change", "key %d: after an ALTER TABLE in the same "
							 "transaction session %d fetched %s", (int) key, s->number,
							 PQgetvalue(res, 0, 0));
		else if (res == NULL && s->failure == FAILED_ERROR)
			report_violation("error", "fetch after ALTER TABLE failed: %s", s->message);
		PQclear(res);
	}
	if (!session_lost(s))
		(void) session_do(s, "ROLLBACK");
}

static void
triggers_off_and_on(Session *s)
{
	ddl_do(s, "ALTER TABLE ck_register DISABLE TRIGGER ALL");
	if (session_lost(s))
		return;
	pause_ms(20);
	do
		ddl_do(s, "ALTER TABLE ck_register ENABLE TRIGGER ALL");
	while (s->failure == FAILED_RETRY);
}

static void
detach_and_attach(Session *s, bool one_transaction)
{
	char		attach[240];
	char		both[320];

	control_attach_sql(s->table, attach, sizeof(attach));
	history_window_moves(s->table, true);
	if (one_transaction)
	{
		snprintf(both, sizeof(both), "BEGIN; SELECT cachekit.detach('ck_register'); "
				 "%s; COMMIT", attach);
		ddl_do(s, both);
	}
	else
	{
		ddl_do(s, "SELECT cachekit.detach('ck_register')");
		if (!session_lost(s))
			pause_ms(20);
	}
	if (!session_lost(s) && s->failure != FAILED_NOT && one_transaction)
		(void) session_do(s, "ROLLBACK");
	else
		while (!session_lost(s) && !one_transaction)
		{
			ddl_do(s, attach);
			if (s->failure != FAILED_RETRY)
				break;
		}
	if (!session_lost(s))
		history_window_moves(s->table, false);
}

void
ddl_work(Session *s)
{
	static int	made[MAX_TABLES];
	int		   *shapes = &made[s->table];	/* nobody else changes this table */
	uint32_t	step;

	pause_ms(options.ddl_ms / 2 + (int) (session_random(s) % (uint32_t) options.ddl_ms));
	step = session_random(s) % 10;
	/* what nobody captures, no COMMIT can wait for */
	if (options.synchronous && step >= 4 && step <= 6)
		step = 0;
	switch (step)
	{
		case 0:
		case 1:
		case 2:
			if ((*shapes)++ < MAX_SHAPES)
				alter_shape(s);
			break;
		case 3:
			if ((*shapes)++ < MAX_SHAPES)
				alter_and_roll_back(s);
			break;
		case 4:
			triggers_off_and_on(s);
			break;
		case 5:
			detach_and_attach(s, false);
			break;
		case 6:
			detach_and_attach(s, true);
			break;
		case 7:
			ddl_do(s, session_chance(s, 50) ?
				   "SELECT cachekit.attach('ck_register', ttl => '1 second')" :
				   "SELECT cachekit.attach('ck_register', ttl => '1 hour')");
			break;
		case 8:
			ddl_do(s, "SELECT cachekit.flush('ck_register')");
			break;
		default:
			ddl_do(s, "VACUUM (ANALYZE) ck_register");
			break;
	}
}
