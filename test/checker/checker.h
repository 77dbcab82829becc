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
	int			keys;			/* registers of each table */
	int			pad;			/* longest filler of a row, in bytes */
	int			truncate_ms;	/* one TRUNCATE per so many ms, 0: none */
	int			ddl_ms;			/* one DDL step per so many ms, 0: none */
	int			progress;		/* seconds between progress lines, 0: none */
	int			show;			/* violations that are printed in full */
	bool		first;			/* the first violation ends the load */
	uint64_t	seed;			/* of all random choices */
	bool		survive;		/* wait for a server that goes away */
	int			async;			/* percentage of asynchronous commits */
	bool		redis;			/* cache in a Redis, too */
	int			memcached;		/* and on so many hosts of Memcached, 0: not there */
	int			direct;			/* sessions that ask a cache server themselves, of each kind */
	bool		synchronous;	/* COMMIT waits for the cache servers */
	bool		refresh;		/* changed documents are loaded again, */
	bool		refresh_absent; /* also those that are not cached */
	bool		without_local;	/* only on these servers */
	int			redis_faults;	/* one fault of it per so many seconds, 0: none */
	int			memcached_faults;	/* the same */
	const char *redis_at;		/* HOST:PORT of one that runs already, NULL: a private one */
	const char *memcached_at;	/* the same, with commas between several */
	bool		orders;			/* obey what comes by stdin, until it says "end" */
} Options;

/* The cache servers that a run can have. */
typedef enum Cache
{
	CACHE_REDIS,
	CACHE_MEMCACHED,
	CACHES
} Cache;

typedef struct CacheNames
{
	const char *title;			/* for people */
	const char *server;			/* for SQL */
} CacheNames;

extern const CacheNames caches[CACHES];

#define CACHE_USED(cache) \
	((cache) == CACHE_REDIS ? options.redis : options.memcached > 0)

#define NAMESPACE	"ck"		/* on every cache server */

/*
 * Takes one document of a cache server; the name is given without the
 * namespace, the hosts are numbered from 0.
 */
typedef void (*EachDocument) (void *arg, int host, const char *name, const char *document);

/*
 * A table of registers.  Each has a schema of its own, so that one statement
 * serves for all of them: it is a session's search_path that decides.  No key
 * is in two tables.
 */
typedef struct Table
{
	const char *name;			/* of its schema and of its entity */
	bool		local;			/* cached in the server's shared memory */
	const char *servers;		/* cached there, too, the first one to be asked first */
} Table;

#define MAX_TABLES	3

extern Table tables[MAX_TABLES];
extern int	ntables;

#define FIRST_KEY(table)	((table) * options.keys + 1)
#define TABLE_OF(key)		(((key) - 1) / options.keys)

/* What a session counts; only its own thread adds. */
typedef enum Counter
{
	COUNT_READS,				/* documents judged by the bounds */
	COUNT_MANY,					/* of them, those of fetch_many */
	COUNT_SET_READS,			/* and those that were of one moment */
	COUNT_SETS,					/* such sets */
	COUNT_DIRECT_REDIS,			/* documents that Redis returned, asked by us */
	COUNT_DIRECT_MEMCACHED,		/* the same of Memcached */
	COUNT_ASKED_REDIS,			/* keys that it was asked for */
	COUNT_ASKED_MEMCACHED,
	COUNT_DELIVERIES,			/* that direct reads were held to */
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

/* an option that is a number; any other is fatal */
extern int64_t option_number(const char *text, int64_t least, int64_t most);

#define MS(ns)	((double) (ns) / 1e6)

#endif							/* CHECKER_H */
