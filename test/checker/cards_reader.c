/*
 * cards_reader.c
 *		What a reader does: one card, between two looks at the tables.
 *
 * The three statements are transactions of their own that are sent at once, so
 * that as little as possible happens between them.  The first look says what
 * the card must show at least: what it saw was visible before the fetch began.
 * The second says what it may show at most: of what the fetch saw, nothing can
 * be invisible later.  One look in eight is at the view itself: when both say
 * the same, then nothing has changed, and the fetch must have said it, too.
 *
 * As in document.c, a field is found by its name: no two fields of a card have
 * the same, and no value contains one.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cards.h"
#include "report.h"

#define MAX_TELLERS		(MAX_BRANCHES * TELLERS)
#define SHOWN			1500	/* bytes of a document in a line of a violation */

#define FILLERS(table, key) \
	"(SELECT string_agg(filler::text, ' ' ORDER BY " key ") FROM pgbench_" table ")"

/* Statements are prepared under their numbers: fetches, looks, looks at views. */
static const char *const fetches[CARDS] = {
	[CARD_ACCOUNT] = "SELECT cachekit.fetch('account_card', $1::int, $2::text)",
	[CARD_BRANCH] = "SELECT cachekit.fetch('branch_card', $1::int, $2::text)",
	[CARD_MEMBER] = "SELECT cachekit.fetch('member_card', $1::int, $2::text)",
};

static const char *const looks[CARDS] = {
	[CARD_ACCOUNT] = "SELECT (SELECT count(*) FROM pgbench_history WHERE aid = $1::int), "
	FILLERS("branches", "bid") ", " FILLERS("tellers", "tid") ", filler::text "
	"FROM pgbench_accounts WHERE aid = $1::int",
	[CARD_BRANCH] = "SELECT (SELECT count(*) FROM pgbench_history WHERE bid = $1::int), "
	FILLERS("branches", "bid"),
};

/* with a number that no change leaves as it is, where the card has none */
static const char *const views[CARDS] = {
	[CARD_ACCOUNT] = "SELECT to_jsonb(c) FROM account_card AS c WHERE c.aid = $1::int",
	[CARD_BRANCH] = "SELECT to_jsonb(c) FROM branch_card AS c WHERE c.bid = $1::int",
	[CARD_MEMBER] = "SELECT to_jsonb(c), (SELECT sum(filler::text::int) FROM pgbench_accounts) "
	"FROM member_card AS c WHERE c.bid = $1::int",
};

enum
{
	KIND_FETCH, KIND_LOOK, KIND_VIEW
};

/* What a look has found. */
typedef struct Bound
{
	int64_t		entries;
	int64_t		moves;
	int64_t		branch[MAX_BRANCHES];
	int64_t		teller[MAX_TELLERS];
} Bound;

/* A read, for those who judge it. */
typedef struct Read
{
	const CardReader *reader;
	Card		card;
	int			key;
	const char *strategy;
	const char *document;
} Read;

static void
prepare(CardReader *r, int kind, const char *const *statements)
{
	for (Card card = 0; card < CARDS; card++)
	{
		char		name[16];
		PGresult   *res;

		if (statements[card] == NULL)
			continue;
		snprintf(name, sizeof(name), "%d.%d", kind, (int) card);
		res = PQprepare(r->session.conn, name, statements[card], 0, NULL);
		if (PQresultStatus(res) != PGRES_COMMAND_OK)
			report_fatal("could not prepare \"%s\": %s", statements[card],
						 PQerrorMessage(r->session.conn));
		PQclear(res);
	}
}

void
cards_reader_open(CardReader *r)
{
	if (!session_open(&r->session))
		report_fatal("%s", r->session.message);
	prepare(r, KIND_FETCH, fetches);
	prepare(r, KIND_LOOK, looks);
	prepare(r, KIND_VIEW, views);
	if (PQenterPipelineMode(r->session.conn) != 1)
		report_fatal("could not enter pipeline mode");
}

void
cards_reader_close(CardReader *r)
{
	session_close(&r->session);
}

/* ---------- taking cards apart ---------- */

/* The digits after a field's name, from there on; false if there is none. */
static bool
field(const char **at, const char *name, int64_t *value)
{
	const char *found = strstr(*at, name);
	char	   *end;

	if (found == NULL)
		return false;
	found += strlen(name);
	*value = strtoll(found, &end, 10);
	*at = end;
	return end != found;
}

static void
numbers(const char *text, int64_t *values, int n)
{
	char	   *end;

	for (int i = 0; i < n; i++)
	{
		values[i] = strtoll(text, &end, 10);
		if (end == text)
			report_fatal("a table of pgbench has lost a row: %d of %d", i, n);
		text = end;
	}
}

static void
take_bound(Card card, const PGresult *res, Bound *bound)
{
	if (PQntuples(res) != 1)
		report_fatal("a table of pgbench has lost a row");
	bound->entries = strtoll(PQgetvalue(res, 0, 0), NULL, 10);
	numbers(PQgetvalue(res, 0, 1), bound->branch, card_options.branches);
	if (card != CARD_ACCOUNT)
		return;
	numbers(PQgetvalue(res, 0, 2), bound->teller, card_options.branches * TELLERS);
	bound->moves = strtoll(PQgetvalue(res, 0, 3), NULL, 10);
}

/* ---------- judging ---------- */

static void
wrong(const Read *read, const char *kind, const char *what)
{
	report_violation(kind, "%s %d, \"%s\" by reader %d: %s; %.*s", card_views[read->card].name,
					 read->key, read->strategy, read->reader->number, what, SHOWN,
					 read->document);
}

static void
within(const Read *read, const char *what, int64_t shown, int64_t before, int64_t after)
{
	char		text[200];

	if (shown >= before && shown <= after)
		return;
	snprintf(text, sizeof(text), "%s %lld, just before it was %lld, just after it %lld", what,
			 (long long) shown, (long long) before, (long long) after);
	wrong(read, shown < before ? "stale" : "uncommitted", text);
}

static void
equal(const Read *read, const char *what, int64_t one, int64_t other)
{
	char		text[200];

	if (one == other)
		return;
	snprintf(text, sizeof(text), "%s: %lld and %lld", what, (long long) one, (long long) other);
	wrong(read, "torn", text);
}

/* Fields in the order in which jsonb has them: by length, then by name. */
static void
judge_account(const Read *read, const Bound *before, const Bound *after)
{
	const char *document = read->document;
	const char *at;
	int64_t		aid, moves, total, branch, balance, entries, version;
	int			tellers = 0;

	if ((at = document, !field(&at, "\"aid\": ", &aid)) ||
		(at = document, !field(&at, "\"moves\": \"", &moves)) ||
		(at = document, !field(&at, "\"total\": ", &total)) ||
		(at = document, !field(&at, "\"branch\": ", &branch)) ||
		(at = document, !field(&at, "\"balance\": ", &balance)) ||
		(at = document, !field(&at, "\"entries\": ", &entries)) ||
		(at = document, !field(&at, "\"branch_version\": \"", &version)) ||
		branch < 1 || branch > card_options.branches)
	{
		wrong(read, "torn", "no card of an account");
		return;
	}
	equal(read, "the key asked for and the one of the card", read->key, aid);
	equal(read, "the balance and the sum of the history", balance, total);
	if (before)
	{
		within(read, "entries", entries, before->entries, after->entries);
		within(read, "moves", moves, before->moves, after->moves);
		within(read, "version of the branch", version, before->branch[branch - 1],
			   after->branch[branch - 1]);
	}
	for (at = document; strstr(at, "\"of\": ") != NULL; tellers++)
	{
		int64_t		of, teller;

		if (!field(&at, "\"of\": ", &of) || !field(&at, "\"teller\": ", &teller) ||
			!field(&at, "\"version\": \"", &version) ||
			teller < 1 || teller > card_options.branches * TELLERS)
		{
			wrong(read, "torn", "no teller of an account");
			return;
		}
		equal(read, "the branch of a teller", of, (teller - 1) / TELLERS + 1);
		if (before)
			within(read, "version of a teller", version, before->teller[teller - 1],
				   after->teller[teller - 1]);
	}
	if ((entries == 0) != (tellers == 0) || tellers > entries)
		wrong(read, "torn", "tellers without history, or history without tellers");
}

static void
judge_branch(const Read *read, const Bound *before, const Bound *after)
{
	const char *document = read->document;
	const char *at;
	int64_t		bid, total, balance, entries, tellers, version;

	if ((at = document, !field(&at, "\"bid\": ", &bid)) ||
		(at = document, !field(&at, "\"total\": ", &total)) ||
		(at = document, !field(&at, "\"balance\": ", &balance)) ||
		(at = document, !field(&at, "\"entries\": ", &entries)) ||
		(at = document, !field(&at, "\"tellers\": ", &tellers)) ||
		(at = document, !field(&at, "\"branch_version\": \"", &version)))
	{
		wrong(read, "torn", "no card of a branch");
		return;
	}
	equal(read, "the key asked for and the one of the card", read->key, bid);
	equal(read, "the balance and the sum of the history", balance, total);
	equal(read, "the balance and the sum of the tellers'", balance, tellers);
	if (before)
	{
		within(read, "entries", entries, before->entries, after->entries);
		within(read, "version of the branch", version, before->branch[read->key - 1],
			   after->branch[read->key - 1]);
	}
}

/* Did both looks see the same?  Then nothing was changed and changed back, either. */
static bool
same_look(const PGresult *before, const PGresult *after)
{
	if (PQntuples(before) != 1 || PQntuples(after) != 1)
		report_fatal("a view has lost a row");
	for (int column = 0; column < PQnfields(before); column++)
		if (strcmp(PQgetvalue(before, 0, column), PQgetvalue(after, 0, column)) != 0)
			return false;
	return true;
}

static void
judge(CardReader *r, Read *read, int kind)
{
	Bound		before, after;

	if (PQgetisnull(r->fetched, 0, 0))
	{
		read->document = "nothing";
		if (strcmp(read->strategy, "fresh") == 0)
			r->misses++;
		else
			wrong(read, "torn", "there is no such card");
		return;
	}
	read->document = PQgetvalue(r->fetched, 0, 0);
	if (kind == KIND_LOOK)
	{
		take_bound(read->card, r->before, &before);
		take_bound(read->card, r->after, &after);
	}
	else if (same_look(r->before, r->after))
	{
		if (strcmp(PQgetvalue(r->before, 0, 0), read->document) != 0)
		{
			char		text[SHOWN + 100];

			snprintf(text, sizeof(text), "before and after the view was %.*s", SHOWN,
					 PQgetvalue(r->before, 0, 0));
			wrong(read, "differs", text);
		}
		r->exact++;
	}
	if (read->card == CARD_ACCOUNT)
		judge_account(read, kind == KIND_LOOK ? &before : NULL, &after);
	else if (read->card == CARD_BRANCH)
		judge_branch(read, kind == KIND_LOOK ? &before : NULL, &after);
	r->reads++;
}

/* ---------- reading ---------- */

static void
send_statement(CardReader *r, int kind, Card card, const char *key, const char *strategy)
{
	const char *params[] = {key, strategy};
	char		name[16];

	snprintf(name, sizeof(name), "%d.%d", kind, (int) card);
	if (PQsendQueryPrepared(r->session.conn, name, strategy == NULL ? 1 : 2, params, NULL, NULL,
							0) != 1 ||
		PQpipelineSync(r->session.conn) != 1)
		report_fatal("could not send a statement: %s", PQerrorMessage(r->session.conn));
}

/* The result of one statement, and the end of its transaction. */
static PGresult *
take_result(CardReader *r)
{
	PGresult   *result = PQgetResult(r->session.conn);
	PGresult   *more;

	if (result == NULL || PQstatus(r->session.conn) != CONNECTION_OK)
		report_fatal("lost the connection: %s", PQerrorMessage(r->session.conn));
	if (PQresultStatus(result) != PGRES_TUPLES_OK)
		report_violation("error", "reader %d: %s", r->number, PQresultErrorMessage(result));
	while ((more = PQgetResult(r->session.conn)) != NULL)
		PQclear(more);
	more = PQgetResult(r->session.conn);
	if (PQresultStatus(more) != PGRES_PIPELINE_SYNC)
		report_fatal("the end of a transaction did not come: %s",
					 PQerrorMessage(r->session.conn));
	PQclear(more);
	return result;
}

static Card
some_card(Session *s)
{
	uint32_t	choice = session_random(s) % 100;

	return choice < 90 ? CARD_ACCOUNT : choice < 95 ? CARD_BRANCH : CARD_MEMBER;
}

/* Two reads in five ask for an account that pgbench changes often. */
static int
some_key(Session *s, Card card)
{
	if (card == CARD_ACCOUNT && card_options.accounts > 16 && session_chance(s, 40))
		return 1 + (int) (session_random(s) % 16);
	return 1 + (int) (session_random(s) % (uint32_t) CARD_KEYS(card));
}

static const char *
some_strategy(Session *s)
{
	uint32_t	choice = session_random(s) % 1000;

	return choice < 960 ? "refresh" : choice < 975 ? "bypass" : choice < 990 ? "invalidate" : "fresh";
}

void
cards_read(CardReader *r)
{
	Session    *s = &r->session;
	Read		read = {.reader = r, .card = some_card(s)};
	int			kind = looks[read.card] == NULL || session_chance(s, 12) ? KIND_VIEW : KIND_LOOK;
	char		key[12];

	read.key = some_key(s, read.card);
	read.strategy = some_strategy(s);
	snprintf(key, sizeof(key), "%d", read.key);

	send_statement(r, kind, read.card, key, NULL);
	send_statement(r, KIND_FETCH, read.card, key, read.strategy);
	send_statement(r, kind, read.card, key, NULL);
	r->before = take_result(r);
	r->fetched = take_result(r);
	r->after = take_result(r);
	if (PQresultStatus(r->before) == PGRES_TUPLES_OK &&
		PQresultStatus(r->fetched) == PGRES_TUPLES_OK &&
		PQresultStatus(r->after) == PGRES_TUPLES_OK)
		judge(r, &read, kind);
	PQclear(r->before);
	PQclear(r->fetched);
	PQclear(r->after);
}
