/*-------------------------------------------------------------------------
 *
 * sync_wait.h
 *	  cachekit.synchronous_invalidation: COMMIT waits for cache servers.
 *
 * A transaction notes the servers of its change record while it writes it, and
 * waits for them when its locks are released and its fences are lowered: until
 * each has acknowledged the commit's deletions and flushes, is known to be
 * away, or the time is up.  Then nobody reads an old document from them.
 *
 * Interrupts are held during the wait, and the transaction has committed:
 * nothing here may raise an error.  What could not be waited for is a WARNING.
 *
 * The places of servers that a session waits for stand in shared memory, as
 * bits, so that a sender knows whom to wake and that it must not nap.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_SYNC_WAIT_H
#define CACHEKIT_SYNC_WAIT_H

#include "access/xlogdefs.h"

extern Size sync_wait_shmem_size(void);
extern void sync_wait_shmem_init(void);

/* ---------- the session ---------- */

/*
 * The change record is for these servers, or for all of the database.  No
 * effect unless the transaction is to wait.  May fail.
 */
extern void sync_wait_note(const Oid *servers, int nservers);
extern void sync_wait_note_all(void);

/* It has committed, and its record with it; 0: without one there is nothing to wait for. */
extern void sync_wait_committed(XLogRecPtr end);

/* Its locks are released: wait. */
extern void sync_wait(void);

/* It has not committed. */
extern void sync_wait_forget(void);

/* ---------- the sender ---------- */

/* Does anybody wait for this server? */
extern bool sync_wait_is_awaited(int place);

/* It has come this far: wake those for whom that is enough. */
extern void sync_wait_wake(int place, XLogRecPtr settled);

/* It has failed or ends: let all look again. */
extern void sync_wait_wake_all(int place);

#endif							/* CACHEKIT_SYNC_WAIT_H */
