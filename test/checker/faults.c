/*
 * faults.c
 *		What happens to the cache servers, and to their senders, under the load.
 *
 * Done by the main thread between two looks at the load, so never two at a
 * time.  Each fault is printed with the time, by which a violation can be laid
 * beside it.
 */
#include <inttypes.h>
#include <stdio.h>

#include "faults.h"
#include "report.h"
#include "work.h"

static const FaultSet *const sets[CACHES] = {
	[CACHE_REDIS] = &redis_faults,
	[CACHE_MEMCACHED] = &memcached_faults,
};

static uint64_t counts[CACHES][MAX_FAULTS];
static int64_t due[CACHES];		/* 0: not chosen yet */

static int64_t
interval(Cache cache)
{
	return (cache == CACHE_REDIS ? options.redis_faults : options.memcached_faults) *
		INT64_C(1000000000);
}

/* The cache server whose turn is next; CACHES if there is to be none. */
static Cache
next_cache(void)
{
	Cache		next = CACHES;

	for (Cache cache = 0; cache < CACHES; cache++)
	{
		if (interval(cache) == 0)
			continue;
		if (due[cache] == 0)
			due[cache] = now_ns() + interval(cache);
		if (next == CACHES || due[cache] < due[next])
			next = cache;
	}
	return next;
}

int64_t
faults_due(void)
{
	Cache		next = next_cache();

	return next == CACHES ? INT64_MAX : due[next];
}

void
faults_do(Session *control)
{
	Cache		cache = next_cache();
	int64_t		begin = now_ns();
	int			fault = sets[cache]->cause(control);

	counts[cache][fault]++;
	printf("fault: %s%s, from %.3f ms to %.3f ms\n", cache == CACHE_REDIS ? "" : "Memcached, ",
		   sets[cache]->names[fault], MS(begin), MS(now_ns()));
	/* between half and one and a half of the interval */
	due[cache] = now_ns() + interval(cache) / 2 +
		(int64_t) (session_random(control) % 1001) * (interval(cache) / 1000);
}

void
faults_report(Cache cache)
{
	uint64_t	sum = 0;

	for (int i = 0; i < MAX_FAULTS; i++)
		sum += counts[cache][i];
	printf("faults of %-12s %12" PRIu64 "\n", caches[cache].title, sum);
	for (int i = 0; sets[cache]->names[i] != NULL && sum > 0; i++)
		printf("  %-20s %12" PRIu64 "\n", sets[cache]->names[i], counts[cache][i]);
}

/* ---------- faults that all kinds can have ---------- */

/* A lost connection of the control session's is noticed by the next statement. */
void
faults_terminate(Session *control, Cache cache)
{
	char		sql[240];

	snprintf(sql, sizeof(sql), "SELECT pg_terminate_backend(t.pid) FROM cachekit.server_states() t "
			 "JOIN pg_foreign_server s ON s.oid = t.serverid WHERE s.srvname = '%s' AND t.pid > 0",
			 caches[cache].server);
	(void) session_do(control, sql);
}

/* Another pool of connections; what it was is not put back. */
void
faults_alter(Session *control, Cache cache)
{
	static const char *const changes[] = {
		"connections '1'", "connections '2'", "connections '8'",
		"max_lifetime '30ms'", "max_lifetime '1s'", "max_lifetime '30min'",
		"idle_timeout '20ms'", "idle_timeout '1s'", "idle_timeout '10min'",
		"max_inflight '1'", "max_inflight '10'", "max_inflight '640'"
	};
	char		sql[120];

	snprintf(sql, sizeof(sql), "ALTER SERVER %s OPTIONS (SET %s)", caches[cache].server,
			 changes[session_random(control) % (sizeof(changes) / sizeof(changes[0]))]);
	if (!session_do(control, sql) && control->failure == FAILED_ERROR)
		report_fatal("\"%s\" failed: %s", sql, control->message);
}
