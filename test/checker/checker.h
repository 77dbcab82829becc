/*
 * checker.h
 *		What all parts of the history checker share: options, time, counters.
 *
 * The map of the parts is in README.md.
 */
#ifndef CHECKER_H
#define CHECKER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct Options
{
	const char *conninfo;		/* libpq connection string, "" for the environment */
	int			writers;		/* sessions that write */
	int			readers;		/* sessions that read */
	int			seconds;		/* how long the load lasts */
	int			keys;			/* registers, numbered from 1 */
	int			pad;			/* longest filler of a row, in bytes */
	int			truncate_ms;	/* one TRUNCATE per so many ms, 0: none */
	int			ddl_ms;			/* one DDL step per so many ms, 0: none */
	int			progress;		/* seconds between progress lines, 0: none */
	int			show;			/* violations that are printed in full */
	uint64_t	seed;			/* of all random choices */
	bool		survive;		/* wait for a server that goes away */
	bool		synchronous;	/* synchronous_commit of the writers */
} Options;

/* What a session counts; only its own thread adds. */
typedef enum Counter
{
	COUNT_READS,				/* documents judged by the bounds */
	COUNT_OWN,					/* documents read back in the writer's own transaction */
	COUNT_SNAPSHOT,				/* documents compared with a SELECT, REPEATABLE READ */
	COUNT_COMMITTED,			/* transactions */
	COUNT_ROLLED_BACK,			/* transactions, rolled back on purpose */
	COUNT_VERSIONS,				/* row versions in committed transactions */
	COUNT_UNKNOWN,				/* COMMITs whose answer got lost */
	COUNT_RETRIES,				/* deadlocks and serialization failures */
	COUNT_REFUSED,				/* fetches refused while the table was detached */
	COUNT_DDL,					/* DDL steps */
	COUNTERS
} Counter;

typedef _Atomic uint64_t Counts[COUNTERS];

extern Options options;

/* nanoseconds since the checker started, CLOCK_MONOTONIC */
extern int64_t now_ns(void);

#define MS(ns)	((double) (ns) / 1e6)

#endif							/* CHECKER_H */
