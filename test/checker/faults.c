/*
 * faults.c
 *		What happens to the private Redis, and to its sender, under the load.
 *
 * Done by the main thread between two looks at the load, so never two at a
 * time.  Each fault is printed with the time, by which a violation can be laid
 * beside it.
 */
#include <inttypes.h>
#include <stdio.h>

#include "faults.h"
#include "redis.h"
#include "work.h"

#define FREEZE_MS		1500	/* several times the sender's command_timeout */

typedef enum Fault
{
	FAULT_EMPTY,
	FAULT_FREEZE,
	FAULT_FLUSHALL,
	FAULT_SWAPDB,
	FAULT_COPY,
	FAULT_OLD,
	FAULT_CLIENTS,
	FAULT_SENDER,
	FAULTS
} Fault;

static const char *const names[FAULTS] = {
	[FAULT_EMPTY] = "killed, started empty",
	[FAULT_FREEZE] = "frozen",
	[FAULT_FLUSHALL] = "FLUSHALL",
	[FAULT_SWAPDB] = "SWAPDB, and back",
	[FAULT_COPY] = "a copy put away",	/* no fault, but what the next one needs */
	[FAULT_OLD] = "killed, started old",
	[FAULT_CLIENTS] = "connections cut",
	[FAULT_SENDER] = "sender terminated",
};

static uint64_t counts[FAULTS];
static int64_t due;				/* 0: not chosen yet */

int64_t
faults_due(void)
{
	if (options.redis_faults == 0)
		return INT64_MAX;
	if (due == 0)
		due = now_ns() + options.redis_faults * INT64_C(1000000000);
	return due;
}

/* Stays dead for a moment, which may be shorter than a pause of the sender's. */
static void
restart(Session *control, bool with_copy)
{
	redis_kill();
	pause_ms((int) (session_random(control) % 1000));
	redis_start(with_copy);
}

void
faults_do(Session *control)
{
	Fault		fault = (Fault) (session_random(control) % FAULTS);
	int64_t		begin = now_ns();
	int64_t		interval = options.redis_faults * INT64_C(1000000000);

	if (fault == FAULT_OLD && !redis_has_copy())
		fault = FAULT_COPY;
	switch (fault)
	{
		case FAULT_EMPTY:
			restart(control, false);
			break;
		case FAULT_FREEZE:
			redis_freeze();
			pause_ms(FREEZE_MS);
			redis_thaw();
			break;
		case FAULT_FLUSHALL:
			redis_do("FLUSHALL");
			break;
		case FAULT_SWAPDB:
			redis_do("SWAPDB 0 1");
			pause_ms((int) (session_random(control) % 2000));
			redis_do("SWAPDB 0 1");
			break;
		case FAULT_COPY:
			redis_copy();
			break;
		case FAULT_OLD:
			restart(control, true);
			break;
		case FAULT_CLIENTS:
			redis_do("CLIENT KILL TYPE normal");
			break;
		case FAULT_SENDER:
			/* a lost connection is noticed by the next statement */
			(void) session_do(control, "SELECT pg_terminate_backend(pid) "
							  "FROM cachekit.server_states() WHERE pid > 0");
			break;
		case FAULTS:
			break;
	}
	counts[fault]++;
	printf("fault: %s, from %.3f ms to %.3f ms\n", names[fault], MS(begin), MS(now_ns()));
	/* between half and one and a half of the interval */
	due = now_ns() + interval / 2 + (int64_t) (session_random(control) % 1001) * (interval / 1000);
}

void
faults_report(void)
{
	uint64_t	sum = 0;

	for (int i = 0; i < FAULTS; i++)
		sum += counts[i];
	printf("faults of Redis        %12" PRIu64 "\n", sum);
	for (int i = 0; i < FAULTS && sum > 0; i++)
		printf("  %-20s %12" PRIu64 "\n", names[i], counts[i]);
}
