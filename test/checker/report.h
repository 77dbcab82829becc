/*
 * report.h
 *		Violations and the last words of a run.
 */
#ifndef REPORT_H
#define REPORT_H

#include "checker.h"

/*
 * Counts a violation and prints it, unless options.show have been printed.
 * The line is complete without a newline.  Any thread may call this.
 */
extern void report_violation(const char *kind, const char *format,...)
			__attribute__((format(printf, 2, 3)));
extern uint64_t report_violations(void);

/* a line with their number, and one for each kind that there was */
extern void report_kinds(void);

/*
 * The last line: reads in SQL, documents from direct reads, documents of cache
 * servers compared at rest, and the share of all reads that is wrong at most,
 * with 95 % confidence: 3/N when none of N was.
 */
extern void report_result(uint64_t reads, uint64_t direct_redis, uint64_t direct_memcached,
						  uint64_t documents);

/* The run cannot go on: says why, exits with 2. */
extern void report_fatal(const char *format,...)
			__attribute__((format(printf, 1, 2), noreturn));

/* fetches that a cache has answered */
typedef struct Hits
{
	int64_t		local;			/* the server's shared memory */
	int64_t		server;			/* any cache server */
	int64_t		answered[CACHES];	/* as their senders count */
	bool		ready[CACHES];	/* is it in use now? */
} Hits;

/* what report_end says, besides what the sessions count */
typedef struct Summary
{
	double		seconds;
	int			outages;
	int			gone_back;		/* keys that lost a commit in an outage */
	Hits		hits;
	int			looks;			/* at the state of the cache servers */
	int			ready[CACHES];	/* of them, those that found it ready */
	uint64_t	documents[CACHES];	/* there, compared with their rows */
} Summary;

/* all documents that were judged in one way or another */
extern uint64_t report_checked(const uint64_t *totals);

extern void report_progress(const uint64_t *totals, double seconds);
extern void report_end(const uint64_t *totals, const Summary *summary);

#endif							/* REPORT_H */
