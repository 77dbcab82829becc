/*-------------------------------------------------------------------------
 *
 * flight.c
 *	  Single flight: of many sessions that miss one key, one loads it.
 *
 * A fixed number of places, chosen by the hash of the key.  A place holds the
 * hash of the key being loaded, or 0; it is claimed by compare-and-swap, so
 * there is no lock.  Two keys with one hash would wait for each other once and
 * then load on their own: a matter of time, not of correctness.  A place that
 * is taken by another key is not waited for.
 *
 * A loader that dies by kill -9 takes the server down with it, shared memory
 * included; every other end of a session passes through transaction abort,
 * which calls flight_end().
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "port/atomics.h"
#include "portability/instr_time.h"
#include "storage/condition_variable.h"
#include "storage/shmem.h"

#include "debug.h"
#include "flight.h"

#define FLIGHT_PLACES	1024

typedef struct FlightPlace
{
	pg_atomic_uint64 hash;		/* of the key in flight; 0: none */
	pg_atomic_uint64 awaited;	/* hash of the key that somebody has waited for */
	ConditionVariable landed;	/* broadcast when hash returns to 0 */
} FlightPlace;

static FlightPlace *places = NULL;
static FlightPlace *my_place = NULL;	/* the one this session flies in */
static uint32 wait_event = 0;

Size
flight_shmem_size(void)
{
	return mul_size(sizeof(FlightPlace), FLIGHT_PLACES);
}

void
flight_shmem_init(void)
{
	bool		found;

	places = ShmemInitStruct("cachekit flights", flight_shmem_size(), &found);
	if (found)
		return;
	for (int i = 0; i < FLIGHT_PLACES; i++)
	{
		pg_atomic_init_u64(&places[i].hash, 0);
		pg_atomic_init_u64(&places[i].awaited, 0);
		ConditionVariableInit(&places[i].landed);
	}
}

/*
 * Ask to load the key with this hash.  Waits for another loader for at most
 * timeout_ms; the wait can be cancelled.
 */
FlightResult
flight_begin(uint64 hash, long timeout_ms)
{
	FlightPlace *place = &places[hash % FLIGHT_PLACES];
	uint64		seen = 0;
	instr_time	start;
	bool		in_time = true;

	hash |= 1;					/* 0 means none */
	if (my_place != NULL || !CK_GUARD("single-flight"))
		return FLIGHT_ALONE;
	if (pg_atomic_compare_exchange_u64(&place->hash, &seen, hash))
	{
		my_place = place;
		return FLIGHT_LOADER;
	}
	if (seen != hash || timeout_ms <= 0)
		return FLIGHT_ALONE;

	/*
	 * Not a count, which a wait that is cancelled would have to give back: if
	 * this comes too late, the next loader takes somebody to wait for it.
	 */
	pg_atomic_write_u64(&place->awaited, hash);
	pg_memory_barrier();
	CK_STOP("flight-wait");
	if (wait_event == 0)
		wait_event = compat_wait_event("CachekitLoad");
	INSTR_TIME_SET_CURRENT(start);
	ConditionVariablePrepareToSleep(&place->landed);
	while (in_time && pg_atomic_read_u64(&place->hash) == hash)
	{
		instr_time	now;
		long		left;

		INSTR_TIME_SET_CURRENT(now);
		INSTR_TIME_SUBTRACT(now, start);
		left = timeout_ms - (long) INSTR_TIME_GET_MILLISEC(now);
		if (left <= 0 ||
			ConditionVariableTimedSleep(&place->landed, left, wait_event))
			in_time = false;
	}
	ConditionVariableCancelSleep();
	return in_time ? FLIGHT_LANDED : FLIGHT_ALONE;
}

/* Does anybody wait for this session's flight, or has done so? */
bool
flight_is_awaited(void)
{
	pg_memory_barrier();
	return my_place != NULL &&
		pg_atomic_read_u64(&my_place->awaited) == pg_atomic_read_u64(&my_place->hash);
}

/* End this session's flight, if it has one, and wake who waits.  Cannot fail. */
void
flight_end(void)
{
	FlightPlace *place = my_place;

	if (place == NULL)
		return;
	my_place = NULL;
	pg_atomic_write_u64(&place->awaited, 0);
	pg_memory_barrier();
	pg_atomic_write_u64(&place->hash, 0);
	pg_memory_barrier();
	ConditionVariableBroadcast(&place->landed);
}
