/*
 * memcached_faults.c
 *		What happens to the private Memcached, and to its senders, under the load.
 *
 * A fault meets one host, chosen anew; cut connections, terminated senders and
 * another pool meet all.
 */
#include "faults.h"
#include "memcached.h"
#include "proxy.h"
#include "work.h"

enum
{
	FAULT_EMPTY,
	FAULT_DEAD,
	FAULT_FREEZE,
	FAULT_FLUSH,
	FAULT_CUT,
	FAULT_LATE,
	FAULT_SENDER,
	FAULT_POOL,
	FAULTS
};

static const char *const names[FAULTS + 1] = {
	[FAULT_EMPTY] = "killed, started empty",
	[FAULT_DEAD] = "dead for a while",
	[FAULT_FREEZE] = "frozen",
	[FAULT_FLUSH] = "flush_all",
	[FAULT_CUT] = "connections cut",
	[FAULT_LATE] = "cut, the rest late",
	[FAULT_SENDER] = "sender terminated",
	[FAULT_POOL] = "another pool",
};

static int
cause(Session *control)
{
	int			host = (int) (session_random(control) % (uint32_t) options.memcached);
	int			fault = (int) (session_random(control) % FAULTS);
	int			ms = (int) (session_random(control) % 1000);

	switch (fault)
	{
		case FAULT_EMPTY:
			memcached_kill(host);
			pause_ms(ms);		/* it may be shorter than a pause of the sender's */
			memcached_start(host);
			break;
		case FAULT_DEAD:
			memcached_kill(host);
			pause_ms(2000 + ms);
			memcached_start(host);
			break;
		case FAULT_FREEZE:
			memcached_freeze(host);
			pause_ms(FREEZE_MS);
			memcached_thaw(host);
			break;
		case FAULT_FLUSH:
			memcached_flush_all(host);
			break;
		case FAULT_CUT:
			proxy_cut(0);
			break;
		case FAULT_LATE:
			proxy_cut(50 + ms);
			break;
		case FAULT_SENDER:
			faults_terminate(control, CACHE_MEMCACHED);
			break;
		case FAULT_POOL:
			faults_alter(control, CACHE_MEMCACHED);
			break;
	}
	return fault;
}

const FaultSet memcached_faults = {names, cause};
