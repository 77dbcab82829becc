/*
 * redis_faults.c
 *		What happens to the private Redis, and to its sender, under the load.
 */
#include "faults.h"
#include "history.h"
#include "redis.h"
#include "work.h"

enum
{
	FAULT_EMPTY,
	FAULT_FREEZE,
	FAULT_FLUSHALL,
	FAULT_SWAPDB,
	FAULT_COPY,
	FAULT_OLD,
	FAULT_CLIENTS,
	FAULT_SENDER,
	FAULT_POOL,
	FAULTS
};

static const char *const names[FAULTS + 1] = {
	[FAULT_EMPTY] = "killed, started empty",
	[FAULT_FREEZE] = "frozen",
	[FAULT_FLUSHALL] = "FLUSHALL",
	[FAULT_SWAPDB] = "SWAPDB, and back",
	[FAULT_COPY] = "a copy put away",	/* no fault, but what the next one needs */
	[FAULT_OLD] = "killed, started old",
	[FAULT_CLIENTS] = "connections cut",
	[FAULT_SENDER] = "sender terminated",
	[FAULT_POOL] = "another pool",
};

/* Stays dead for a moment, which may be shorter than a pause of the sender's. */
static void
restart(Session *control, bool with_copy)
{
	redis_kill();
	pause_ms((int) (session_random(control) % 1000));
	redis_start(with_copy);
}

static int
cause(Session *control)
{
	int			fault = (int) (session_random(control) % FAULTS);

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
			history_goes_back(CACHE_REDIS);
			redis_do("SWAPDB 0 1");
			pause_ms((int) (session_random(control) % 2000));
			redis_do("SWAPDB 0 1");
			history_goes_back(CACHE_REDIS);
			break;
		case FAULT_COPY:
			redis_copy();
			break;
		case FAULT_OLD:
			history_goes_back(CACHE_REDIS);
			restart(control, true);
			history_goes_back(CACHE_REDIS);
			break;
		case FAULT_CLIENTS:
			redis_do("CLIENT KILL TYPE normal");
			break;
		case FAULT_SENDER:
			faults_terminate(control, CACHE_REDIS);
			break;
		case FAULT_POOL:
			faults_alter(control, CACHE_REDIS);
			break;
	}
	return fault;
}

const FaultSet redis_faults = {names, cause};
