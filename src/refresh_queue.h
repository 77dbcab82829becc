/*-------------------------------------------------------------------------
 *
 * refresh_queue.h
 *	  What senders ask of refreshers, and which refreshers there are.
 *
 * Each server has a bounded queue of requests; the refresher of its database
 * takes from all of them, and answers by fills (requests.h).  A request that
 * cannot be queued is refused at once, and one that nobody answers is forgotten
 * by its sender at its deadline: either way the key is deleted instead.
 *
 * A refresher is wanted when something is queued and none runs; the launcher
 * starts it.  It stays away for a while when a command needs its database for
 * itself, when it has failed, or when there was no worker for it; meanwhile
 * requests are refused.
 *
 * Lock: one LWLock, held for moments; blocks_free() and the like come after it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_REFRESH_QUEUE_H
#define CACHEKIT_REFRESH_QUEUE_H

#include "nodes/nodes.h"
#include "storage/lwlock.h"
#include "utils/timestamp.h"

#include "requests.h"

#define MAX_REFRESHERS	MAX_SERVERS /* one for each database that has servers */

typedef struct RefreshRequest
{
	int			place;			/* of the server that asks */
	Oid			dboid;
	Oid			serverid;
	Oid			relid;			/* of the entity, as the change record says */
	uint64		request;		/* for the answer */
	TimestampTz until;			/* then nobody waits for it any more */
	uint16		len;
	char		named_key[NAMED_KEY_SIZE];
} RefreshRequest;

extern Size refresh_queue_shmem_size(void);
extern void refresh_queue_shmem_init(LWLock *lock);

/* ---------- senders ---------- */

/* False: nobody will answer.  When all is asked, tell. */
extern bool refresh_queue_ask(const RefreshRequest *request);
extern void refresh_queue_tell(Oid dboid);

/* Forget what this server has asked. */
extern void refresh_queue_clear(int place);

/* How many requests wait: for tests. */
extern int	refresh_queue_length(void);

/* ---------- the refresher of a database ---------- */

/* False: there is one already, or it must stay away. */
extern bool refresher_claim(Oid dboid);
extern void refresher_release(Oid dboid, bool well);
extern bool refresher_must_leave(Oid dboid);
extern int	refresh_queue_take(Oid dboid, RefreshRequest *requests, int room);

/* ---------- the launcher ---------- */

/* Should one be started?  Each database that ever had one has a number. */
extern bool refresher_is_wanted(int number, Oid *dboid);
extern bool refresher_ended_well(int number);
extern void refresher_delay(int number, long ms, bool no_worker);

/* ---------- commands ---------- */

/* Before a command that needs a database for itself: its refresher gets out of the way. */
extern void refreshers_make_way(Node *stmt);

#endif							/* CACHEKIT_REFRESH_QUEUE_H */
