/*
 * ages.c
 *		How old the documents were that direct reads have returned.
 *
 * Two histograms with buckets that grow by a factor: a coarse one, which is
 * printed, and a fine one, from which the percentiles are taken, as the upper
 * ends of their buckets: never too small, and by at most 1/16 too large.
 */
#include <inttypes.h>
#include <stdio.h>

#include "ages.h"

#define FINE_BITS	4			/* 16 buckets to a power of two */
#define FINE		(64 << FINE_BITS)

/* in ms; the last bucket has no end */
static const double coarse_ends[] = {
	0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000
};

#define COARSE		((int) (sizeof(coarse_ends) / sizeof(coarse_ends[0])))

static struct
{
	_Atomic uint64_t fresh;		/* not old */
	_Atomic uint64_t coarse[COARSE + 1];
	_Atomic uint64_t fine[FINE];
	_Atomic int64_t oldest;
}			ages[CACHES];

/* Bucket and upper end of an age: the highest bits of it. */
static int
fine_bucket(int64_t age)
{
	int			shift = 0;

	while (age >> shift >= 2 << FINE_BITS)
		shift++;
	return (shift << FINE_BITS) + (int) (age >> shift);
}

static int64_t
fine_end(int bucket)
{
	int			shift = bucket < 2 << FINE_BITS ? 0 : (bucket >> FINE_BITS) - 1;

	return (((int64_t) (bucket - (shift << FINE_BITS)) + 1) << shift) - 1;
}

void
ages_add(Cache cache, int64_t age)
{
	int			bucket = 0;
	int64_t		oldest = ages[cache].oldest;

	if (age <= 0)
	{
		ages[cache].fresh++;
		return;
	}
	while (bucket < COARSE && MS(age) > coarse_ends[bucket])
		bucket++;
	ages[cache].coarse[bucket]++;
	ages[cache].fine[fine_bucket(age)]++;
	while (age > oldest && !atomic_compare_exchange_weak(&ages[cache].oldest, &oldest, age))
		;
}

/* The age that so many of a thousand reads do not exceed. */
static double
per_mille(Cache cache, uint64_t reads, uint64_t n)
{
	uint64_t	sum = ages[cache].fresh;
	int64_t		end = 0;

	for (int i = 0; i < FINE && sum * 1000 < reads * n; i++)
	{
		sum += ages[cache].fine[i];
		end = fine_end(i);
	}
	return MS(end < ages[cache].oldest ? end : ages[cache].oldest);
}

void
ages_report(Cache cache)
{
	uint64_t	fresh = ages[cache].fresh;
	uint64_t	reads = fresh;
	uint64_t	sum = fresh;

	for (int i = 0; i <= COARSE; i++)
		reads += ages[cache].coarse[i];
	if (reads == 0)
		return;
	printf("  %-20s %12" PRIu64 "  (%.4f %%)\n", "not old", fresh,
		   100.0 * (double) fresh / (double) reads);
	for (int i = 0; i <= COARSE; i++)
	{
		char		title[40];

		if (sum == reads)
			break;
		sum += ages[cache].coarse[i];
		if (i < COARSE)
			snprintf(title, sizeof(title), "at most %g ms", coarse_ends[i]);
		else
			snprintf(title, sizeof(title), "older");
		printf("  %-20s %12" PRIu64 "  (%.4f %% so far)\n", title, (uint64_t) ages[cache].coarse[i],
			   100.0 * (double) sum / (double) reads);
	}
	printf("ages of %s: reads=%" PRIu64 " old=%" PRIu64 " share=%.3e p50_ms=%.3f p99_ms=%.3f "
		   "p999_ms=%.3f max_ms=%.3f\n", caches[cache].title, reads, reads - fresh,
		   (double) (reads - fresh) / (double) reads, per_mille(cache, reads, 500),
		   per_mille(cache, reads, 990), per_mille(cache, reads, 999), MS(ages[cache].oldest));
}
