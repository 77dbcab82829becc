/*-------------------------------------------------------------------------
 *
 * shmem.c
 *	  Shared memory of all modules: requested and set up in one place.
 *
 * Each module says how much it needs and sets its part up; this file calls
 * them in a fixed order.  The named tranche "cachekit" holds the LWLocks: the
 * first is the table of slots', one more for each partition of the local tier.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#include "blocks.h"
#include "fence.h"
#include "flight.h"
#include "local.h"
#include "refresh_queue.h"
#include "requests.h"
#include "servers.h"
#include "shmem.h"
#include "slots.h"
#include "sync_wait.h"

#define TRANCHE				"cachekit"
#define LOCK_SLOTS			0
#define LOCK_SERVERS		1
#define LOCK_BLOCKS			2
#define LOCK_REFRESH		3
#define LOCK_REQUESTS		4	/* the first of MAX_SERVERS */
#define LOCK_PARTITIONS		(LOCK_REQUESTS + MAX_SERVERS)	/* the first of them */

static shmem_request_hook_type previous_request = NULL;
static shmem_startup_hook_type previous_startup = NULL;
static bool ready = false;

static void
request(void)
{
	if (previous_request)
		previous_request();
	RequestAddinShmemSpace(add_size(add_size(fence_shmem_size(), slots_shmem_size()),
									add_size(local_shmem_size(), flight_shmem_size())));
	RequestAddinShmemSpace(add_size(add_size(servers_shmem_size(), blocks_shmem_size()),
									add_size(requests_shmem_size(), sync_wait_shmem_size())));
	RequestAddinShmemSpace(refresh_queue_shmem_size());
	RequestNamedLWLockTranche(TRANCHE, LOCK_PARTITIONS + local_partition_count());
}

static void
startup(void)
{
	LWLockPadded *locks;

	if (previous_startup)
		previous_startup();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	locks = GetNamedLWLockTranche(TRANCHE);
	fence_shmem_init();
	slots_shmem_init(&locks[LOCK_SLOTS].lock);
	local_shmem_init(&locks[LOCK_PARTITIONS]);
	flight_shmem_init();
	servers_shmem_init(&locks[LOCK_SERVERS].lock);
	blocks_shmem_init(&locks[LOCK_BLOCKS].lock);
	requests_shmem_init(&locks[LOCK_REQUESTS]);
	refresh_queue_shmem_init(&locks[LOCK_REFRESH].lock);
	sync_wait_shmem_init();
	LWLockRelease(AddinShmemInitLock);
	ready = true;
}

void
shmem_install_hooks(void)
{
	previous_request = shmem_request_hook;
	shmem_request_hook = request;
	previous_startup = shmem_startup_hook;
	shmem_startup_hook = startup;
}

bool
shmem_ready(void)
{
	return ready;
}
