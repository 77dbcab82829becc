/*-------------------------------------------------------------------------
 *
 * guc.c
 *	  The settings, all named cachekit.*.
 *
 * What sizes shared memory is PGC_POSTMASTER and defined only while the
 * library is being preloaded.  What decides about documents that other
 * sessions will be served (TTL, size) is for superusers; what concerns only
 * the session itself is for everybody.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <limits.h>

#include "utils/guc.h"
#include "utils/memutils.h"

#include "debug.h"
#include "guc.h"

bool		ck_enabled = true;
int			ck_local_memory = 64 * 1024;
int			ck_max_entities = 1000;
int			ck_fence_stripes = 65536;
int			ck_default_ttl = 3600;
int			ck_ttl_jitter = 10;
int			ck_fetch_timeout = 50;
int			ck_max_changed_keys = 100000;
int			ck_dependency_timeout = 200;
int			ck_max_value_size = 1024 * 1024;
int			ck_fill_queue_memory = 16 * 1024;
int			ck_wal_keep = 64;
int			ck_max_wal_retention = 1024;
int			ck_refresh_timeout = 500;
int			ck_shutdown_timeout = 5000;
bool		ck_synchronous_invalidation = false;
int			ck_synchronous_timeout = 1000;

static bool
check_power_of_two(int *newval, void **extra, GucSource source)
{
	if ((*newval & (*newval - 1)) == 0)
		return true;
	GUC_check_errdetail("The number of stripes must be a power of two.");
	return false;
}

static void
define_shared_memory_settings(void)
{
	DefineCustomIntVariable("cachekit.local_memory",
							"Shared memory for documents cached by the server itself.",
							"It is taken at server start and never grows.",
							&ck_local_memory, 64 * 1024, 1024, INT_MAX,
							PGC_POSTMASTER, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomIntVariable("cachekit.max_entities",
							"Number of entities, in all databases, that can be cached.",
							"An entity beyond it reads its table; cachekit.health() says so.",
							&ck_max_entities, 1000, 1, 1000000,
							PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("cachekit.fill_queue_memory",
							"Shared memory for documents on their way to and from cache servers.",
							"When it is exhausted, documents are not sent; nobody waits for it.",
							&ck_fill_queue_memory, 16 * 1024, 1024, INT_MAX,
							PGC_POSTMASTER, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomIntVariable("cachekit.fence_stripes",
							"Number of stripes that tell which keys are being changed.",
							"A power of two. Keys that share a stripe cost each other a table read now and then, never a wrong answer.",
							&ck_fence_stripes, 65536, 1, 1 << 24,
							PGC_POSTMASTER, 0, check_power_of_two, NULL, NULL);
}

void
guc_define(void)
{
	if (process_shared_preload_libraries_in_progress)
		define_shared_memory_settings();

	DefineCustomBoolVariable("cachekit.enabled",
							 "Lets fetch use the caches.",
							 "When off, every fetch reads its table. Changes are captured all the same.",
							 &ck_enabled, true, PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("cachekit.default_ttl",
							"Time to live of cached documents of entities without a TTL of their own.",
							"-1 means that they do not expire.",
							&ck_default_ttl, 3600, -1, INT_MAX,
							PGC_SUSET, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("cachekit.ttl_jitter",
							"Percentage by which a document's time to live is shortened at random.",
							"Documents that were cached together then expire one by one.",
							&ck_ttl_jitter, 10, 0, 100,
							PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("cachekit.fetch_timeout",
							"Time that one fetch may wait for a cache or for another session's load.",
							"After that it reads the table.",
							&ck_fetch_timeout, 50, 0, INT_MAX,
							PGC_USERSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("cachekit.max_changed_keys",
							"Number of keys of one entity that a transaction remembers.",
							"A transaction that changes more of them invalidates the whole entity.",
							&ck_max_changed_keys, 100000, 0, 10000000,
							PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("cachekit.dependency_timeout",
							"Time that COMMIT may look for the documents that a changed row concerns by way of other tables.",
							"After that the whole entity is invalidated. It bounds all \"via\" queries of one COMMIT.",
							&ck_dependency_timeout, 200, 1, INT_MAX,
							PGC_SUSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("cachekit.max_value_size",
							"Size of the largest document that is cached.",
							"Larger ones are read from the table each time.",
							&ck_max_value_size, 1024 * 1024, 0, MaxAllocSize / 4,
							PGC_SUSET, GUC_UNIT_BYTE, NULL, NULL, NULL);
	DefineCustomIntVariable("cachekit.wal_keep",
							"WAL that is kept behind what a cache server has acknowledged.",
							"A cache that comes back with data no older than that goes on from there; an older one is flushed.",
							&ck_wal_keep, 64, 0, INT_MAX / 2,
							PGC_SIGHUP, GUC_UNIT_MB, NULL, NULL, NULL);
	DefineCustomIntVariable("cachekit.max_wal_retention",
							"WAL that a cache server can hold back while it is away.",
							"Beyond it the WAL is let go, and the server is flushed when it comes back.",
							&ck_max_wal_retention, 1024, 1, INT_MAX / 2,
							PGC_SIGHUP, GUC_UNIT_MB, NULL, NULL, NULL);
	DefineCustomIntVariable("cachekit.refresh_timeout",
							"Time that a changed document of an entity with on_change 'refresh' may take to be loaded again.",
							"After that it is deleted from the cache server. 0 means that it is deleted at once.",
							&ck_refresh_timeout, 500, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("cachekit.shutdown_timeout",
							"Time that senders may take to send what is left when the server shuts down.",
							"What is left after that is in the WAL, and is sent after the next start.",
							&ck_shutdown_timeout, 5000, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomBoolVariable("cachekit.synchronous_invalidation",
							 "Makes COMMIT wait until cache servers have acknowledged what it invalidates.",
							 "After COMMIT nobody reads an old document from them. A server that is away is not waited for, with a warning.",
							 &ck_synchronous_invalidation, false, PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("cachekit.synchronous_timeout",
							"Time that COMMIT may wait for cache servers.",
							"Then it returns with a warning. 0 means that it does not wait, and only warns.",
							&ck_synchronous_timeout, 1000, 0, INT_MAX,
							PGC_USERSET, GUC_UNIT_MS, NULL, NULL, NULL);
	debug_define_settings();
	/* otherwise the settings above, in postgresql.conf, would be unknown ones */
	if (process_shared_preload_libraries_in_progress)
		MarkGUCPrefixReserved("cachekit");
}
