/*-------------------------------------------------------------------------
 *
 * retention.h
 *	  The WAL that is kept for a server: its replication slot.
 *
 * A physical slot, cachekit_<database oid>_<server oid>, and for further hosts
 * of a server with _<number> behind that, keeps the WAL from cachekit.wal_keep before what the cache has acknowledged, but never more
 * than cachekit.max_wal_retention.  Moving it never moves the position: a cache
 * whose marker lies before it is flushed.  Without a slot, because there are
 * none left or wal_level is minimal, a sender works all the same; then a cache
 * that was away may find its WAL gone, and is flushed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_RETENTION_H
#define CACHEKIT_RETENTION_H

#include "access/xlogdefs.h"

/* ---------- the sender, for its own server ---------- */

/* Take the slot, or make one; false: it goes without. */
extern bool retention_begin(Oid dboid, Oid serverid, int host);

/* Keep the WAL from a location on, if it is not kept anyway. */
extern void retention_hold(XLogRecPtr restart);

/* Nothing before a location is of use any more. */
extern void retention_forget(XLogRecPtr before);

/*
 * Let go of what is not needed for a restart there (0: not known).  False when
 * that was more than may be held back, and some of it is given up.
 */
extern bool retention_advance(XLogRecPtr restart);

/* ---------- the launcher ---------- */

/* False: somebody holds the slot. */
extern bool retention_drop(Oid dboid, Oid serverid, int host);

/* The same cap, for a server whose sender does not run. */
extern void retention_cap(Oid dboid, Oid serverid, int host);

/* Drop slots of ours for whose server the function returns false. */
extern void retention_drop_orphans(bool (*is_known) (Oid dboid, Oid serverid, int host));

#endif							/* CACHEKIT_RETENTION_H */
