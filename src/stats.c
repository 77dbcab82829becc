/*-------------------------------------------------------------------------
 *
 * stats.c
 *	  Counters of each entity, and the SQL functions below the views.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "port/pg_bitutils.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "servers.h"
#include "shmem.h"
#include "slots.h"
#include "stats.h"

PG_FUNCTION_INFO_V1(ck_entity_counters);
PG_FUNCTION_INFO_V1(ck_stat_reset);

void
stats_init(EntityStats *stats)
{
	for (int s = 0; s < STAT_STRIPES; s++)
	{
		for (int c = 0; c < STAT_COUNTERS; c++)
			pg_atomic_init_u64(&stats->stripe[s].counter[c], 0);
		for (int b = 0; b < STAT_LATENCY_BUCKETS; b++)
			pg_atomic_init_u64(&stats->stripe[s].latency[b], 0);
	}
}

void
stats_reset(EntityStats *stats)
{
	for (int s = 0; s < STAT_STRIPES; s++)
	{
		for (int c = 0; c < STAT_COUNTERS; c++)
			pg_atomic_write_u64(&stats->stripe[s].counter[c], 0);
		for (int b = 0; b < STAT_LATENCY_BUCKETS; b++)
			pg_atomic_write_u64(&stats->stripe[s].latency[b], 0);
	}
}

static StatStripe *
my_stripe(EntityStats *stats)
{
	return &stats->stripe[compat_proc_number() % STAT_STRIPES];
}

void
stats_count(EntityStats *stats, StatCounter which, uint64 n)
{
	(void) pg_atomic_fetch_add_u64(&my_stripe(stats)->counter[which], n);
}

/* Microseconds since then. */
int64
stats_elapsed(instr_time start)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, start);
	return (int64) INSTR_TIME_GET_MICROSEC(now);
}

static void
count_latency(pg_atomic_uint64 *buckets, uint64 us, uint64 n)
{
	int			bucket = us == 0 ? 0 : pg_leftmost_one_pos64(us) + 1;

	bucket = Min(bucket, STAT_LATENCY_BUCKETS - 1);
	(void) pg_atomic_fetch_add_u64(&buckets[bucket], n);
}

/* Count n events that took the time since start in a histogram. */
void
stats_latency_bucket(pg_atomic_uint64 *buckets, instr_time start, uint64 n)
{
	count_latency(buckets, stats_elapsed(start), n);
}

void
stats_latency(EntityStats *stats, instr_time start)
{
	stats_latency_bucket(my_stripe(stats)->latency, start, 1);
}

/* Each of them counts with its share. */
void
stats_latency_of_many(EntityStats *stats, instr_time start, uint64 n)
{
	if (n > 0)
		count_latency(my_stripe(stats)->latency, stats_elapsed(start) / n, n);
}

static uint64
sum_counter(EntityStats *stats, int which)
{
	uint64		sum = 0;

	for (int s = 0; s < STAT_STRIPES; s++)
		sum += pg_atomic_read_u64(&stats->stripe[s].counter[which]);
	return sum;
}

static Datum
latency_array(EntityStats *stats)
{
	Datum		bucket[STAT_LATENCY_BUCKETS];

	for (int b = 0; b < STAT_LATENCY_BUCKETS; b++)
	{
		uint64		sum = 0;

		for (int s = 0; s < STAT_STRIPES; s++)
			sum += pg_atomic_read_u64(&stats->stripe[s].latency[b]);
		bucket[b] = Int64GetDatum((int64) sum);
	}
	return PointerGetDatum(construct_array(bucket, STAT_LATENCY_BUCKETS, INT8OID,
										   8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/*
 * entity_counters(): the counters of every entity of this database that has a
 * slot: its relation, the counters in the order of StatCounter, the latency
 * histogram.
 */
Datum
ck_entity_counters(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Oid		   *relids;
	int			n;

	InitMaterializedSRF(fcinfo, 0);
	if (!shmem_ready())
		PG_RETURN_VOID();
	n = slots_list(MyDatabaseId, &relids);
	for (int i = 0; i < n; i++)
	{
		Datum		values[STAT_COUNTERS + 2];
		bool		nulls[STAT_COUNTERS + 2] = {0};
		int			slot = slot_find(MyDatabaseId, relids[i]);

		if (slot == NO_SLOT)
			continue;
		values[0] = ObjectIdGetDatum(relids[i]);
		for (int c = 0; c < STAT_COUNTERS; c++)
			values[1 + c] = Int64GetDatum((int64) sum_counter(&slot_get(slot)->stats, c));
		values[1 + STAT_COUNTERS] = latency_array(&slot_get(slot)->stats);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	PG_RETURN_VOID();
}

/* stat_reset(): clear the counters of this database's entities and servers. */
Datum
ck_stat_reset(PG_FUNCTION_ARGS)
{
	if (shmem_ready())
	{
		slots_reset_stats(MyDatabaseId);
		servers_reset_stats(MyDatabaseId);
	}
	PG_RETURN_VOID();
}
