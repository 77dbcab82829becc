/*-------------------------------------------------------------------------
 *
 * late_writer.c
 *	  A module for tests: writes when a transaction is about to end.
 *
 * Runs late_writer.command in the callback before COMMIT or PREPARE, as some
 * other extension might.  PostgreSQL calls callbacks in the reverse order of registration, so
 * this one comes after cachekit's when it stands before cachekit in
 * shared_preload_libraries.
 *
 * The command is meant to be set with SET LOCAL: the transaction of a plain
 * SET would run it, too.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"

PG_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

static char *command = NULL;

static void
run_command(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_PRE_COMMIT && event != XACT_EVENT_PRE_PREPARE)
		return;
	if (command == NULL || command[0] == '\0')
		return;
	PushActiveSnapshot(GetTransactionSnapshot());
	SPI_connect();
	if (SPI_execute(command, false, 0) < 0)
		elog(ERROR, "could not execute \"%s\"", command);
	SPI_finish();
	PopActiveSnapshot();
}

void
_PG_init(void)
{
	DefineCustomStringVariable("late_writer.command",
							   "SQL that is run when a transaction is about to end.",
							   NULL, &command, "", PGC_USERSET, 0, NULL, NULL, NULL);
	MarkGUCPrefixReserved("late_writer");
	RegisterXactCallback(run_command, NULL);
}
