/*
 * report.c
 *		Violations and the last words of a run.
 *
 * All output goes to stdout, a line at a time, so that a script can follow it.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ages.h"
#include "faults.h"
#include "report.h"

#define MAX_KINDS		32
#define LEAST_PERCENT	5		/* of the reads that Redis should answer */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static uint64_t violations;
static struct
{
	const char *kind;			/* a literal, compared by content */
	uint64_t	count;
}			kinds[MAX_KINDS];

void
report_violation(const char *kind, const char *format,...)
{
	int			i;

	pthread_mutex_lock(&mutex);
	for (i = 0; i < MAX_KINDS - 1 && kinds[i].kind != NULL; i++)
		if (strcmp(kinds[i].kind, kind) == 0)
			break;
	if (kinds[i].kind == NULL)
		kinds[i].kind = kind;
	kinds[i].count++;
	if (violations++ < (uint64_t) options.show)
	{
		va_list		args;

		printf("VIOLATION %s: ", kind);
		va_start(args, format);
		vprintf(format, args);
		va_end(args);
		putchar('\n');
		if (violations == (uint64_t) options.show)
			printf("(further violations are only counted)\n");
		fflush(stdout);
	}
	pthread_mutex_unlock(&mutex);
}

uint64_t
report_violations(void)
{
	uint64_t	result;

	pthread_mutex_lock(&mutex);
	result = violations;
	pthread_mutex_unlock(&mutex);
	return result;
}

void
report_kinds(void)
{
	printf("violations             %12" PRIu64 "\n", report_violations());
	for (int i = 0; i < MAX_KINDS && kinds[i].kind != NULL; i++)
		printf("  %-20s %12" PRIu64 "\n", kinds[i].kind, kinds[i].count);
}

void
report_result(uint64_t reads, uint64_t direct_redis, uint64_t direct_memcached,
			  uint64_t documents)
{
	uint64_t	n = reads + direct_redis + direct_memcached;
	uint64_t	wrong = report_violations();
	char		bound[32] = "none";

	if (wrong == 0 && n > 0)
		snprintf(bound, sizeof(bound), "%.3e", 3.0 / (double) n);
	printf("result: reads=%" PRIu64 " direct_redis=%" PRIu64 " direct_memcached=%" PRIu64
		   " documents=%" PRIu64 " violations=%" PRIu64 " bound=%s\n", reads, direct_redis,
		   direct_memcached, documents, wrong, bound);
	fflush(stdout);
}

void
report_fatal(const char *format,...)
{
	va_list		args;

	fflush(stdout);
	fprintf(stderr, "checker: ");
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	_Exit(2);
}

uint64_t
report_checked(const uint64_t *totals)
{
	return totals[COUNT_READS] + totals[COUNT_OWN] + totals[COUNT_SNAPSHOT];
}

void
report_progress(const uint64_t *totals, double seconds)
{
	printf("progress: %.0f s, %" PRIu64 " reads, %" PRIu64 " commits, "
		   "%" PRIu64 " rollbacks, %" PRIu64 " violations\n",
		   seconds, totals[COUNT_READS], totals[COUNT_COMMITTED],
		   totals[COUNT_ROLLED_BACK], report_violations());
	fflush(stdout);
}

static uint64_t
direct_reads(const uint64_t *totals, Cache cache)
{
	return totals[cache == CACHE_REDIS ? COUNT_DIRECT_REDIS : COUNT_DIRECT_MEMCACHED];
}

/*
 * The lines about a cache server; a run in which it hardly ever answered
 * proves little.  Of two servers the second one is asked only when the first
 * cannot answer.
 */
static void
report_cache(Cache cache, const uint64_t *totals, const Summary *summary)
{
	const char *title = caches[cache].title;
	int64_t		answered = summary->hits.answered[cache];
	double		percent = totals[COUNT_READS] == 0 ? 0 :
		(double) answered * 100 / (double) totals[COUNT_READS];
	int			pad = (int) strlen(title);

	printf("answered by %s%*s %12" PRId64 "  (%.1f %% of the reads by the bounds)\n",
		   title, 10 - pad, "", answered, percent);
	printf("%s ready%*s %12d  (of %d looks)\n", title, 16 - pad, "", summary->ready[cache],
		   summary->looks);
	printf("documents in %s%*s %12" PRIu64 "  (each compared with its row at the end)\n",
		   title, 9 - pad, "", summary->documents[cache]);
	printf("read from %s%*s %12" PRIu64 "  (of %" PRIu64 " keys that it was asked "
		   "for directly; held to %" PRIu64 " %s)\n", title, 12 - pad, "", direct_reads(totals, cache),
		   totals[cache == CACHE_REDIS ? COUNT_ASKED_REDIS : COUNT_ASKED_MEMCACHED],
		   options.synchronous ? totals[COUNT_COMMITTED] : totals[COUNT_DELIVERIES],
		   options.synchronous ? "COMMITs" : "deliveries");
	ages_report(cache);
	faults_report(cache);
	if (options.redis_faults == 0 && options.memcached_faults == 0 && !options.orders &&
		percent < LEAST_PERCENT)
		printf("FINDING: %s answered fewer than %d %% of the reads, without any fault\n",
			   title, LEAST_PERCENT);
}

void
report_end(const uint64_t *totals, const Summary *summary)
{
	uint64_t	checked = report_checked(totals);

	printf("\n");
	printf("reads checked          %12" PRIu64 "  (%.0f a minute)\n",
		   checked, (double) checked * 60 / summary->seconds);
	printf("  by the bounds        %12" PRIu64 "\n", totals[COUNT_READS]);
	printf("    fetch_many         %12" PRIu64 "\n", totals[COUNT_MANY]);
	printf("    of one moment      %12" PRIu64 "  (in %" PRIu64 " sets)\n",
		   totals[COUNT_SET_READS], totals[COUNT_SETS]);
	printf("  own changes          %12" PRIu64 "\n", totals[COUNT_OWN]);
	printf("  against a SELECT     %12" PRIu64 "\n", totals[COUNT_SNAPSHOT]);
	printf("served from the cache  %12" PRId64 "%s\n",
		   summary->hits.local + summary->hits.server,
		   summary->outages > 0 ? "  (at least: the server forgets in an outage)" : "");
	for (Cache cache = 0; cache < CACHES; cache++)
		if (CACHE_USED(cache))
			report_cache(cache, totals, summary);
	printf("transactions committed %12" PRIu64 "  (%" PRIu64 " row versions)\n",
		   totals[COUNT_COMMITTED], totals[COUNT_VERSIONS]);
	printf("  rolled back          %12" PRIu64 "\n", totals[COUNT_ROLLED_BACK]);
	printf("  fate unknown         %12" PRIu64 "\n", totals[COUNT_UNKNOWN]);
	printf("  deadlocks and such   %12" PRIu64 "\n", totals[COUNT_RETRIES]);
	printf("DDL steps              %12" PRIu64 "\n", totals[COUNT_DDL]);
	printf("fetches while detached %12" PRIu64 "  (refused, as documented)\n",
		   totals[COUNT_REFUSED]);
	printf("outages survived       %12d  (%d keys lost a commit)\n", summary->outages,
		   summary->gone_back);
	report_kinds();
	if (report_violations() == 0 && checked > 0)
		printf("with 95 %% confidence fewer than %.1e of all such reads are wrong (3/N)\n",
			   3.0 / (double) checked);
	report_result(checked, direct_reads(totals, CACHE_REDIS), direct_reads(totals, CACHE_MEMCACHED),
				  summary->documents[CACHE_REDIS] + summary->documents[CACHE_MEMCACHED]);
}
