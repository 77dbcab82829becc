/*-------------------------------------------------------------------------
 *
 * retention.c
 *	  The WAL that is kept for a server: its replication slot.
 *
 * A slot that PostgreSQL has invalidated (max_slot_wal_keep_size), or that has
 * no location for another reason, is dropped and made again.  PostgreSQL sends
 * SIGTERM to the process that holds a slot which it invalidates: the sender
 * ends then, and the next one comes here.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/xlog.h"
#include "replication/slot.h"

#include "guc.h"
#include "retention.h"

/* The server's slot, and its name; NULL: there is none. */
static ReplicationSlot *
find_slot(Oid dboid, Oid serverid, int host, char *name)
{
	snprintf(name, NAMEDATALEN, host == 0 ? "cachekit_%u_%u" : "cachekit_%u_%u_%d", dboid,
			 serverid, host);
	return max_replication_slots > 0 ? SearchNamedReplicationSlot(name, true) : NULL;
}

static XLogRecPtr
restart_of(ReplicationSlot *slot)
{
	XLogRecPtr	restart;

	SpinLockAcquire(&slot->mutex);
	restart = slot->data.restart_lsn;
	SpinLockRelease(&slot->mutex);
	return restart;
}

/* Is there room for one more?  Creating one where there is not is an ERROR. */
static bool
can_create(void)
{
	bool		room = false;

	if (wal_level < WAL_LEVEL_REPLICA)
		return false;
	LWLockAcquire(ReplicationSlotControlLock, LW_SHARED);
	for (int i = 0; i < max_replication_slots && !room; i++)
		room = !ReplicationSlotCtl->replication_slots[i].in_use;
	LWLockRelease(ReplicationSlotControlLock);
	return room;
}

bool
retention_begin(Oid dboid, Oid serverid, int host)
{
	char		name[NAMEDATALEN];
	ReplicationSlot *slot;

	if (MyReplicationSlot != NULL)
		return true;
	slot = find_slot(dboid, serverid, host, name);
	if (slot != NULL && restart_of(slot) != InvalidXLogRecPtr)
	{
		ReplicationSlotAcquire(name, true);
		return true;
	}
	if (slot != NULL)
		ReplicationSlotDrop(name, true);
	if (!can_create())
		return false;
	compat_create_physical_slot(name);
	ReplicationSlotReserveWal();
	ReplicationSlotMarkDirty();
	ReplicationSlotSave();
	return true;
}

static void
move_slot(XLogRecPtr to)
{
	SpinLockAcquire(&MyReplicationSlot->mutex);
	MyReplicationSlot->data.restart_lsn = to;
	SpinLockRelease(&MyReplicationSlot->mutex);
	ReplicationSlotMarkDirty();
	ReplicationSlotsComputeRequiredLSN();
}

static XLogRecPtr
megabytes(int n)
{
	return (XLogRecPtr) n * 1024 * 1024;
}

void
retention_hold(XLogRecPtr restart)
{
	if (MyReplicationSlot != NULL && restart < restart_of(MyReplicationSlot))
		move_slot(restart);
}

void
retention_forget(XLogRecPtr before)
{
	if (MyReplicationSlot != NULL)
		move_slot(before);
}

bool
retention_advance(XLogRecPtr restart)
{
	XLogRecPtr	cap = megabytes(ck_max_wal_retention);
	XLogRecPtr	keep = Min(megabytes(ck_wal_keep), cap / 2);
	XLogRecPtr	flushed = GetFlushRecPtr(NULL);
	XLogRecPtr	oldest;

	if (MyReplicationSlot == NULL)
		return true;
	oldest = restart_of(MyReplicationSlot);
	if (oldest == InvalidXLogRecPtr)
		return true;			/* invalidated: SIGTERM is under way */
	if (restart > keep && restart - keep > oldest + keep / 8)
		move_slot(restart - keep);
	else if (flushed > cap && flushed - cap > oldest)
	{
		move_slot(flushed);
		return restart == InvalidXLogRecPtr || restart >= flushed;
	}
	return true;
}

bool
retention_drop(Oid dboid, Oid serverid, int host)
{
	char		name[NAMEDATALEN];
	ReplicationSlot *slot = find_slot(dboid, serverid, host, name);

	if (slot == NULL)
		return true;
	if (slot->active_pid != 0)
		return false;
	ReplicationSlotDrop(name, true);
	return true;
}

void
retention_cap(Oid dboid, Oid serverid, int host)
{
	char		name[NAMEDATALEN];
	ReplicationSlot *slot = find_slot(dboid, serverid, host, name);

	if (slot == NULL || slot->active_pid != 0 || restart_of(slot) == InvalidXLogRecPtr)
		return;
	ReplicationSlotAcquire(name, true);
	(void) retention_advance(InvalidXLogRecPtr);
	ReplicationSlotRelease();
}

void
retention_drop_orphans(bool (*is_known) (Oid dboid, Oid serverid, int host))
{
	for (int i = 0; i < max_replication_slots; i++)
	{
		ReplicationSlot *slot = &ReplicationSlotCtl->replication_slots[i];
		char		name[NAMEDATALEN];
		unsigned int dboid;
		unsigned int serverid;
		unsigned int host = 0;
		int			end = 0;
		bool		idle;

		LWLockAcquire(ReplicationSlotControlLock, LW_SHARED);
		idle = slot->in_use && slot->active_pid == 0;
		strlcpy(name, NameStr(slot->data.name), NAMEDATALEN);
		LWLockRelease(ReplicationSlotControlLock);
		if (!idle || sscanf(name, "cachekit_%u_%u%n", &dboid, &serverid, &end) != 2)
			continue;
		if (name[end] == '_')
		{
			int			more = 0;

			if (sscanf(name + end, "_%u%n", &host, &more) == 1)
				end += more;
		}
		if (name[end] == '\0' && !is_known(dboid, serverid, (int) host))
			ReplicationSlotDrop(name, true);
	}
}
