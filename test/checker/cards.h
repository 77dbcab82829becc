/*
 * cards.h
 *		The load of cards: pgbench under views that are cached as documents.
 *
 * The options that both programs have are those of checker.h.
 */
#ifndef CARDS_H
#define CARDS_H

#include "session.h"

#define SCHEMA			"ck_cards"
#define TELLERS			10		/* of each branch, as pgbench has it */
#define MAX_BRANCHES	50

typedef struct CardOptions
{
	int			branches;		/* pgbench's scale */
	int			accounts;		/* in all branches */
	int			clients;		/* of pgbench */
	int			rate;			/* its transactions per second, 0: as many as it can */
	int			round;			/* seconds after which all is compared */
	const char *on_change;		/* of the entities */
	bool		whole;			/* writers remember few keys */
	bool		first;			/* the first violation ends the run */
	bool		links;			/* mostly changes by way of other tables */
} CardOptions;

extern CardOptions card_options;

/* The views, each with a key of one integer. */
typedef enum Card
{
	CARD_ACCOUNT,
	CARD_BRANCH,
	CARD_MEMBER,
	CARDS
} Card;

typedef struct CardView
{
	const char *name;
	const char *key;
} CardView;

extern const CardView card_views[CARDS];

/* the keys of a view are 1 to this */
#define CARD_KEYS(card) \
	((card) == CARD_ACCOUNT ? card_options.accounts : card_options.branches)

/* ---------- cards_tables.c: the control session ---------- */

/* Whatever fails is fatal. */
extern void cards_setup(Session *c);

/* an empty history and balances of 0, by TRUNCATE; which cache server is to be asked first */
extern void cards_begin_round(Session *c, int round);

/* with nobody else at work: every document, wherever it is, is the view's row */
typedef struct CardCounts
{
	uint64_t	documents[CACHES];	/* on cache servers, compared */
	uint64_t	at_rest;		/* fetched and compared */
} CardCounts;

extern void cards_compare(Session *c, CardCounts *counts);

/* the lines of the report that the server's counters are for */
extern void cards_report_entities(Session *c);

/* ---------- cards_load.c: pgbench ---------- */

/* makes pgbench's tables in our schema */
extern void cards_make_pgbench(void);

/* starts pgbench for so many seconds */
extern void cards_load_start(int seconds, uint64_t seed);

/* waits for its end, and says how many transactions there were; 0 when a violation ended it */
extern uint64_t cards_load_end(void);

extern void cards_load_close(bool keep);

/* ---------- cards_reader.c ---------- */

typedef struct CardReader
{
	Session		session;		/* its number is 0: it prepares its own statements */
	int			number;			/* from 1 */
	uint64_t	reads;			/* documents judged */
	uint64_t	exact;			/* of them, compared with the view as a whole */
	uint64_t	misses;			/* "fresh" found nothing */
	PGresult   *before;
	PGresult   *fetched;
	PGresult   *after;
} CardReader;

extern void cards_reader_open(CardReader *r);
extern void cards_reader_close(CardReader *r);

/* one read, judged */
extern void cards_read(CardReader *r);

#endif							/* CARDS_H */
