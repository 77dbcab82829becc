/*-------------------------------------------------------------------------
 *
 * cachekit.c
 *	  The library's entry point, and a table of its contents.
 *
 * src/README.md is the map.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "changes.h"
#include "ddl.h"
#include "entity.h"
#include "guc.h"
#include "launcher.h"
#include "shmem.h"

PG_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

void
_PG_init(void)
{
	guc_define();				/* settings */
	if (process_shared_preload_libraries_in_progress)
	{
		shmem_install_hooks();	/* fence, slots, local tier, flights */
		ddl_install_hooks();	/* commands that no row trigger sees */
		launcher_register();	/* background workers */
	}
	entity_install_callbacks(); /* when a session's copies get old */
	changes_install_callbacks();	/* change set: commit, abort, savepoints */
}
