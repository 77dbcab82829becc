/*-------------------------------------------------------------------------
 *
 * server_sql.c
 *	  SQL functions about cache servers: their state, and waiting for them.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "storage/latch.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/pg_lsn.h"
#include "utils/timestamp.h"

#include "servers.h"
#include "shmem.h"

PG_FUNCTION_INFO_V1(ck_server_states);
PG_FUNCTION_INFO_V1(ck_wait_for_delivery);

#define STATE_COLUMNS	(18 + SERVER_COUNTERS)

static const char *
state_name(const CacheServer *server)
{
	if (server->rival != NO_SERVER)
		return "refused";
	switch (pg_atomic_read_u32(&unconstify(CacheServer *, server)->state))
	{
		case SERVER_STOPPED:
			return "stopped";
		case SERVER_CONNECTING:
			return "connecting";
		case SERVER_FLUSHING:
			return "flushing";
		case SERVER_REPLAYING:
			return "replaying";
		case SERVER_READY:
			return "ready";
	}
	return "unknown";
}

static const char *
breaker_name(CacheServer *server)
{
	switch (pg_atomic_read_u32(&server->breaker))
	{
		case BREAKER_OPEN:
			return "open";
		case BREAKER_HALF_OPEN:
			return "half-open";
	}
	return "closed";
}

static Datum
latency_of(CacheServer *server)
{
	Datum		bucket[STAT_LATENCY_BUCKETS];

	for (int i = 0; i < STAT_LATENCY_BUCKETS; i++)
		bucket[i] = Int64GetDatum((int64) pg_atomic_read_u64(&server->latency[i]));
	return PointerGetDatum(construct_array(bucket, STAT_LATENCY_BUCKETS, INT8OID, 8,
										   FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

static Datum
address_of(const ServerConfig *config)
{
	char		address[SERVER_LABEL_SIZE];

	server_address(config, address, sizeof(address));
	return CStringGetTextDatum(address);
}

/*
 * server_states(): one row per server of this database that the launcher knows,
 * and per host of those that have several: its OID, namespace, state, breaker,
 * position, lag, counters, last error.
 */
Datum
ck_server_states(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	if (!shmem_ready())
		PG_RETURN_VOID();
	for (int i = 0; i < MAX_SERVERS; i++)
	{
		CacheServer *server = server_at(i);
		Datum		v[STATE_COLUMNS] = {0};
		bool		isnull[STATE_COLUMNS] = {0};
		XLogRecPtr	position = pg_atomic_read_u64(&server->position);
		XLogRecPtr	wanted = servers_wanted();
		int			c = 0;

		if (server->dboid != MyDatabaseId || !server->wanted)
			continue;
		v[c++] = ObjectIdGetDatum(server->serverid);
		v[c++] = Int32GetDatum(server->host);
		v[c++] = Int32GetDatum(server->config.nhosts);
		v[c++] = address_of(&server->config);
		v[c++] = CStringGetTextDatum(server->config.namespace);
		v[c++] = CStringGetTextDatum(state_name(server));
		v[c++] = BoolGetDatum(pg_atomic_read_u32(&server->readable) != 0);
		v[c++] = CStringGetTextDatum(breaker_name(server));
		isnull[c] = position == InvalidXLogRecPtr;
		v[c++] = LSNGetDatum(position);
		v[c++] = Int64GetDatum(wanted > position ? (int64) (wanted - position) : 0);
		v[c++] = Int32GetDatum(server->pid);
		v[c++] = BoolGetDatum(pg_atomic_read_u32(&server->slotless) == 0);
		v[c++] = Int32GetDatum((int32) pg_atomic_read_u32(&server->connections));
		for (int k = 0; k < SERVER_COUNTERS; k++)
			v[c++] = Int64GetDatum((int64) pg_atomic_read_u64(&server->counter[k]));
		v[c++] = Int32GetDatum((int32) pg_atomic_read_u32(&server->refreshes_pending));
		isnull[c] = server->last_error[0] == '\0';
		v[c] = isnull[c] ? (Datum) 0 : CStringGetTextDatum(server->last_error);
		c++;
		isnull[c] = server->last_error_at == 0;
		v[c++] = TimestampTzGetDatum(server->last_error_at);
		isnull[c] = pg_atomic_read_u64(&server->waiting_since) == 0;
		v[c++] = TimestampTzGetDatum((TimestampTz) pg_atomic_read_u64(&server->waiting_since));
		v[c] = latency_of(server);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, v, isnull);
	}
	PG_RETURN_VOID();
}

/*
 * Has every server of this database?  Those that the catalog had when scan
 * number `scans` was requested are known once it is done.
 */
static bool
delivered(XLogRecPtr end, uint64 scans)
{
	if (servers_scanned() < scans || servers_is_scan_queued(MyDatabaseId) || servers_left_out())
		return false;
	for (int i = 0; i < MAX_SERVERS; i++)
	{
		CacheServer *server = server_at(i);

		if (server->dboid == MyDatabaseId && server->wanted && !server_has_delivered(server, end))
			return false;
	}
	return true;
}

/*
 * A server whose namespace is another's gets nothing, however long one waits,
 * and one for which there is no place does not either.
 */
static bool
is_hopeless(uint64 scans)
{
	if (servers_left_out() && servers_scanned() >= scans &&
		!servers_is_scan_queued(MyDatabaseId))
		return true;
	for (int i = 0; i < MAX_SERVERS; i++)
	{
		CacheServer *server = server_at(i);

		if (server->dboid == MyDatabaseId && server->wanted && server->rival != NO_SERVER)
			return true;
	}
	return false;
}

/* Senders that sleep look at the WAL when they are woken. */
static void
wake_senders(void)
{
	for (int i = 0; i < MAX_SERVERS; i++)
	{
		if (server_at(i)->dboid == MyDatabaseId)
			server_wake(server_at(i));
	}
}

/*
 * wait_for_delivery(timeout): true when every server has acknowledged all that
 * was committed before the call; false when the time is up, or a server is
 * refused or has no place.  Waits by naps, which costs senders nothing.
 */
Datum
ck_wait_for_delivery(PG_FUNCTION_ARGS)
{
	Interval   *timeout = PG_ARGISNULL(0) ? NULL : PG_GETARG_INTERVAL_P(0);
	TimestampTz until = timeout == NULL ? DT_NOEND :
		DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
												TimestampTzGetDatum(GetCurrentTimestamp()),
												IntervalPGetDatum(timeout)));
	XLogRecPtr	end;
	uint64		scans;

	PreventCommandDuringRecovery("cachekit.wait_for_delivery()");
	if (!shmem_ready())
		PG_RETURN_BOOL(true);
	end = servers_wanted();
	scans = servers_scans_requested();
	for (int naps = 0; !delivered(end, scans); naps++)
	{
		if (GetCurrentTimestamp() >= until || is_hopeless(scans))
			PG_RETURN_BOOL(false);
		if (naps % 32 == 0)
			wake_senders();
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 1,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	PG_RETURN_BOOL(true);
}
