/*
 * cards_tables.c
 *		pgbench's tables, the views over them, and what they must be in the end.
 *
 * What changes is counted in the row itself: the fillers of accounts, tellers
 * and branches, which pgbench does not use, hold a number that only grows, and
 * pgbench_history gets rows and loses none.  So a reader can tell which of two
 * states of a card is the later one.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cards.h"
#include "control.h"
#include "memcached.h"
#include "redis.h"
#include "report.h"

const CardView card_views[CARDS] = {
	[CARD_ACCOUNT] = {"account_card", "aid"},
	[CARD_BRANCH] = {"branch_card", "bid"},
	[CARD_MEMBER] = {"member_card", "bid"},
};

/* An account: the history leads to it, its branch and its tellers do by "via". */
static const char account_view[] =
"CREATE VIEW account_card AS "
"SELECT a.aid, a.abalance AS balance, a.filler AS moves, b.bid AS branch, "
"       b.filler AS branch_version, "
"       (SELECT COALESCE(jsonb_agg(jsonb_build_object('teller', t.tid, 'of', t.bid, "
"                                                     'version', t.filler) ORDER BY t.tid), '[]') "
"          FROM pgbench_tellers AS t "
"         WHERE t.tid IN (SELECT h.tid FROM pgbench_history AS h WHERE h.aid = a.aid)) AS tellers, "
"       (SELECT count(*) FROM pgbench_history AS h WHERE h.aid = a.aid) AS entries, "
"       (SELECT COALESCE(sum(h.delta), 0) FROM pgbench_history AS h WHERE h.aid = a.aid) AS total, "
"       (SELECT COALESCE(jsonb_agg(l.delta), '[]') "
"          FROM (SELECT h.delta FROM pgbench_history AS h WHERE h.aid = a.aid "
"                 ORDER BY h.mtime DESC, h.delta, h.tid LIMIT 3) AS l) AS last "
"  FROM pgbench_accounts AS a JOIN pgbench_branches AS b ON b.bid = a.bid";

/* A branch: three sums that are one number. */
static const char branch_view[] =
"CREATE VIEW branch_card AS "
"SELECT b.bid, b.bbalance AS balance, b.filler AS branch_version, "
"       (SELECT sum(t.tbalance) FROM pgbench_tellers AS t WHERE t.bid = b.bid) AS tellers, "
"       (SELECT COALESCE(sum(h.delta), 0) FROM pgbench_history AS h WHERE h.bid = b.bid) AS total, "
"       (SELECT count(*) FROM pgbench_history AS h WHERE h.bid = b.bid) AS entries "
"  FROM pgbench_branches AS b";

/* The accounts of a branch: one that moves changes two documents. */
static const char member_view[] =
"CREATE VIEW member_card AS "
"SELECT b.bid, count(a.aid) AS accounts, COALESCE(sum(a.aid), 0) AS aids "
"  FROM pgbench_branches AS b LEFT JOIN pgbench_accounts AS a ON a.bid = b.bid GROUP BY b.bid";

static PGresult *
query(Session *c, const char *sql)
{
	PGresult   *res = session_query(c, sql);

	if (res == NULL)
		report_fatal("\"%s\" failed: %s", sql, c->message);
	return res;
}

static void
command(Session *c, const char *sql)
{
	PQclear(query(c, sql));
}

/* Servers in the order in which they are asked. */
static const char *
server_list(int round)
{
	if (!options.redis || options.memcached == 0)
		return options.redis ? "ck_redis" : options.memcached > 0 ? "ck_memcached" : "";
	return round % 2 == 0 ? "ck_redis,ck_memcached" : "ck_memcached,ck_redis";
}

static void
attach(Session *c, Card card, int round)
{
	char		sql[300];

	snprintf(sql, sizeof(sql), "SELECT cachekit.attach('%s', key => '{%s}', servers => '{%s}', "
			 "local => %s, on_change => '%s')", card_views[card].name, card_views[card].key,
			 server_list(round), options.without_local ? "false" : "true",
			 card_options.on_change);
	command(c, sql);
}

/* A load on entities that are never cached would find no fault. */
static void
must_be_sound(Session *c)
{
	PGresult   *res = query(c, "SELECT name, cachekit.entity_problem(relation) FROM cachekit.entities "
							"WHERE relation IN ('account_card'::regclass, 'branch_card', 'member_card')"
							" AND cachekit.entity_problem(relation) IS NOT NULL");

	if (PQntuples(res) > 0)
		report_fatal("entity %s is not cached: %s", PQgetvalue(res, 0, 0), PQgetvalue(res, 0, 1));
	PQclear(res);
}

/* Of what "pgbench -i" puts into the tables, the accounts that are asked for. */
static void
fill_tables(Session *c)
{
	char		sql[600];

	snprintf(sql, sizeof(sql),
			 "INSERT INTO pgbench_branches SELECT b, 0, '0' FROM generate_series(1, %d) AS b; "
			 "INSERT INTO pgbench_tellers SELECT t, (t - 1) / %d + 1, 0, '0' "
			 "FROM generate_series(1, %d) AS t; "
			 "INSERT INTO pgbench_accounts SELECT a, (a - 1) %% %d + 1, 0, '0' "
			 "FROM generate_series(1, %d) AS a; "
			 "CREATE INDEX ON pgbench_accounts (bid); "
			 "CREATE INDEX ON pgbench_history (aid); "
			 "CREATE INDEX ON pgbench_history (tid); "
			 "CREATE INDEX ON pgbench_history (bid); "
			 "ANALYZE",
			 card_options.branches, TELLERS, card_options.branches * TELLERS,
			 card_options.branches, card_options.accounts);
	command(c, sql);
}

void
cards_setup(Session *c)
{
	PGresult   *res = query(c, "SELECT 1 FROM pg_namespace WHERE nspname = 'cachekit'");

	if (PQntuples(res) == 0)
		command(c, "CREATE EXTENSION cachekit");
	PQclear(res);
	command(c, "DROP SCHEMA IF EXISTS " SCHEMA " CASCADE");
	command(c, "DROP SERVER IF EXISTS ck_redis, ck_memcached CASCADE");
	command(c, "CREATE SCHEMA " SCHEMA);
	for (Cache cache = 0; cache < CACHES; cache++)
		if (CACHE_USED(cache) && !control_make_server(c, cache))
			report_fatal("lost the connection during setup");

	cards_make_pgbench();
	fill_tables(c);
	command(c, account_view);
	command(c, branch_view);
	command(c, member_view);
	for (Card card = 0; card < CARDS; card++)
		attach(c, card, 0);
	command(c, "SELECT cachekit.add_dependency('account_card', 'pgbench_branches', "
			"via => 'SELECT aid FROM pgbench_accounts WHERE bid = ($1).bid')");
	command(c, "SELECT cachekit.add_dependency('account_card', 'pgbench_tellers', "
			"via => 'SELECT aid FROM pgbench_history WHERE tid = ($1).tid')");
	must_be_sound(c);
	if (!control_delivered(c) || report_violations() > 0)
		report_fatal("the cache server cannot be used; see cachekit.health()");
	command(c, "SELECT cachekit.stat_reset()");
}

void
cards_begin_round(Session *c, int round)
{
	if (round == 0)
		return;
	command(c, "BEGIN; TRUNCATE pgbench_history; "
			"UPDATE pgbench_accounts SET abalance = 0 WHERE abalance <> 0; "
			"UPDATE pgbench_tellers SET tbalance = 0; "
			"UPDATE pgbench_branches SET bbalance = 0; COMMIT");
	command(c, "VACUUM ANALYZE pgbench_accounts, pgbench_tellers, pgbench_branches");
	for (Card card = 0; card < CARDS; card++)
		attach(c, card, round);
	must_be_sound(c);
}

/* ---------- the end ---------- */

typedef struct Comparison
{
	Cache		cache;
	PGresult   *rows[CARDS];	/* (key, document), every key in order */
	uint64_t	compared;
} Comparison;

static void
compare_document(void *arg, int host, const char *name, const char *document)
{
	Comparison *comparison = arg;
	const char *title = caches[comparison->cache].title;

	comparison->compared++;
	for (Card card = 0; card < CARDS; card++)
	{
		size_t		length = strlen(card_views[card].name);
		PGresult   *rows = comparison->rows[card];
		int			row;

		if (strncmp(name, card_views[card].name, length) != 0 || name[length] != ':')
			continue;
		row = atoi(name + length + 1) - 1;
		if (row < 0 || row >= PQntuples(rows) ||
			strcmp(PQgetvalue(rows, row, 0), name + length + 1) != 0)
			break;				/* there was never such a key */
		if (strcmp(PQgetvalue(rows, row, 1), document) != 0)
			report_violation("document", "key %s in %s (host %d): %s, the view: %s", name, title,
							 host, document, PQgetvalue(rows, row, 1));
		return;
	}
	report_violation("document", "key %s should not be in %s: %s", name, title, document);
}

static void
compare_documents(Session *c, Cache cache, CardCounts *counts)
{
	Comparison	comparison = {.cache = cache};

	for (Card card = 0; card < CARDS; card++)
	{
		char		sql[200];

		snprintf(sql, sizeof(sql), "SELECT c.%s, to_jsonb(c) FROM %s AS c ORDER BY 1",
				 card_views[card].key, card_views[card].name);
		comparison.rows[card] = query(c, sql);
		if (PQntuples(comparison.rows[card]) != CARD_KEYS(card))
			report_fatal("%s has %d rows instead of %d", card_views[card].name,
						 PQntuples(comparison.rows[card]), CARD_KEYS(card));
	}
	if (cache == CACHE_REDIS)
		redis_documents(compare_document, &comparison);
	else
		memcached_documents(compare_document, &comparison);
	for (Card card = 0; card < CARDS; card++)
		PQclear(comparison.rows[card]);
	counts->documents[cache] += comparison.compared;
}

/* Every card, fetched and asked of the view in one statement. */
static void
compare_fetched(Session *c, Card card, const char *when, CardCounts *counts)
{
	char		sql[300];
	PGresult   *res;

	snprintf(sql, sizeof(sql), "SELECT c.%s, cachekit.fetch('%s', c.%s), to_jsonb(c) FROM %s AS c",
			 card_views[card].key, card_views[card].name, card_views[card].key,
			 card_views[card].name);
	res = query(c, sql);
	for (int i = 0; i < PQntuples(res); i++)
		if (PQgetisnull(res, i, 1) ||
			strcmp(PQgetvalue(res, i, 1), PQgetvalue(res, i, 2)) != 0)
			report_violation("at rest", "%s %s, %s: fetch says %s, the view %s",
							 card_views[card].name, PQgetvalue(res, i, 0), when,
							 PQgetisnull(res, i, 1) ? "nothing" : PQgetvalue(res, i, 1),
							 PQgetvalue(res, i, 2));
	counts->at_rest += (uint64_t) PQntuples(res);
	PQclear(res);
}

/*
 * What the load has left on the cache servers comes first, then what is
 * fetched, then what the fetches have put there.
 */
void
cards_compare(Session *c, CardCounts *counts)
{
	if (!control_delivered(c))
		report_fatal("lost the connection");
	for (Cache cache = 0; cache < CACHES; cache++)
		if (CACHE_USED(cache))
			compare_documents(c, cache, counts);
	for (Card card = 0; card < CARDS; card++)
	{
		compare_fetched(c, card, "after the load", counts);
		compare_fetched(c, card, "again", counts);
	}
	for (Cache cache = 0; cache < CACHES; cache++)
		if (CACHE_USED(cache))
			compare_documents(c, cache, counts);
}

void
cards_report_entities(Session *c)
{
	PGresult   *res = query(c, "SELECT name, local_hits, server_hits, misses, loads, invalidations, "
							"flushes, links_unresolved, bypass_fenced, fills_refused "
							"FROM cachekit.stat_entities WHERE name IN "
							"('account_card', 'branch_card', 'member_card') ORDER BY name");

	for (int i = 0; i < PQntuples(res); i++)
		for (int column = 1; column < PQnfields(res); column++)
		{
			char		title[80];

			snprintf(title, sizeof(title), "%s %s", PQgetvalue(res, i, 0), PQfname(res, column));
			printf("%-30s %12s\n", title, PQgetvalue(res, i, column));
		}
	PQclear(res);
}
