/*-------------------------------------------------------------------------
 *
 * refresh.h
 *	  Refresh on change: changed documents are loaded again after the commit and
 *	  put in the place of the old ones, so that whoever reads the cache by
 *	  himself finds no gap.
 *
 * A changed key of an entity with on_change 'refresh' becomes a job here, if its
 * cache has the document at all (or the entity has refresh_absent):
 *
 *	  probe -> ask the refresher -> store -> trace -> done
 *							  \-> delete, with a trace -> done
 *
 * Whatever goes wrong on the way leads to the deletion that any other change
 * would have been.  Three things keep the old document, which stays meanwhile,
 * from being taken for a new one:
 *
 *	  - The position passes the transaction at once; the restart point and
 *		`settled` are held until all of its jobs have ended, as with a flush
 *		beside the stream.  So a new epoch begins the job again.
 *	  - While there is a job, its key is not read for sessions.
 *	  - What was stored is followed by the trace of its link, as a deletion is,
 *		and reads look at the traces, too: data that have gone back to before the
 *		store may have the same marker.
 *
 * A document covers the changes whose job was asked for before: they were
 * visible then.  Changes that come while it is loaded are covered, too, if its
 * token still holds; else the job begins again after it.  So a key that changes
 * all the time is stored again and again, and never starves.  (One of an entity
 * whose links move all the time does: then it is deleted.)
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_REFRESH_H
#define CACHEKIT_REFRESH_H

#include "requests.h"
#include "sender.h"

typedef struct RefreshJob RefreshJob;

extern void refresh_begin(Sender *sender);
extern void refresh_end(Sender *sender);

/* ---------- deliver.c ---------- */

/*
 * See to the keys of a transaction that are to be loaded again, and hold it until
 * that is done.  Those for which it cannot be done join its keys to be deleted.
 */
extern void refresh_add(Sender *sender, FeedTransaction *transaction);

/* The same for a key that is to be deleted; false unless there is a job for it. */
extern bool refresh_join(Sender *sender, FeedTransaction *transaction, const char *named,
						 int len);

/* An entity, or everything (""), will be flushed: what is being loaded may be too old. */
extern void refresh_flushed(Sender *sender, const char *entity);

/* ---------- fill.c ---------- */

/* The job whose document this is; NULL: it has been dealt with, or nobody waits for it. */
extern RefreshJob *refresh_answered(Sender *sender, const FillHead *head);
/* It cannot be stored as it is: load it again, or give up. */
extern void refresh_refused(Sender *sender, RefreshJob *job);
extern void refresh_failed(Sender *sender, RefreshJob *job);
/* It has been sent; `covers_all`: every change that is known. */
extern void refresh_sent(Sender *sender, RefreshJob *job, bool covers_all);
extern void refresh_stored(Sender *sender, RefreshJob *job);

/* ---------- all ---------- */

/* Is there a job for this key? */
extern bool refresh_is_pending(const Sender *sender, const char *named_key);
extern bool refresh_is_idle(const Sender *sender);

/* Send what is to be sent; give up what has taken too long. */
extern void refresh_run(Sender *sender);

#endif							/* CACHEKIT_REFRESH_H */
