/*
 * base.c
 *		What the checker and the load of cards share besides sessions: time,
 *		options that are numbers, the names of the cache servers.
 */
#include <stdlib.h>
#include <time.h>

#include "report.h"

const CacheNames caches[CACHES] = {
	[CACHE_REDIS] = {"Redis", "ck_redis"},
	[CACHE_MEMCACHED] = {"Memcached", "ck_memcached"},
};

int64_t
now_ns(void)
{
	static int64_t start;
	struct timespec ts;
	int64_t		now;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	now = ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
	if (start == 0)				/* main() calls first, alone */
		start = now;
	return now - start;
}

int64_t
option_number(const char *text, int64_t least, int64_t most)
{
	char	   *end;
	long long	n = strtoll(text, &end, 10);

	if (*end != '\0' || end == text || n < least || n > most)
		report_fatal("\"%s\" is not a number from %lld to %lld", text,
					 (long long) least, (long long) most);
	return n;
}
