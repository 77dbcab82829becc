/*-------------------------------------------------------------------------
 *
 * sender.h
 *	  The sender: one background worker per place, the life of an epoch.
 *
 * An epoch is the time between connecting and the first fault.  All sockets
 * of an epoch share a nonce, which stands in the cache under
 * <namespace>:cachekit:owner: no command of an earlier epoch, or of another
 * cluster, can set anything any more.
 *
 *	  connect -> hello, owner -> read marker -> resume or flush -> replay -> ready
 *
 * Any fault has one cure: readable is cleared, what is queued and in flight
 * fails, the sockets are closed, and after a pause a new epoch begins, which
 * reads the WAL again from where the marker says.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_SENDER_H
#define CACHEKIT_SENDER_H

#include "driver.h"
#include "feed.h"
#include "marker.h"
#include "servers.h"

#define FLAPPING		3		/* robberies in a row: the log knows, health() tells */

typedef enum EpochPhase
{
	PHASE_CONNECT,				/* sockets are connecting */
	PHASE_GREET,				/* hello on each, owner, then the marker is asked for */
	PHASE_EMPTY,				/* there was no room for the owner: flush all */
	PHASE_JUDGE,				/* the marker has been read */
	PHASE_FLUSH,				/* the namespace is being emptied */
	PHASE_FLUSHED,				/* it has been */
	PHASE_RUN					/* changes are sent; ready once replay has caught up */
} EpochPhase;

typedef struct Sender Sender;

/* A connection that is to take a place in the pool. */
typedef enum FreshState
{
	FRESH_CONNECTING,
	FRESH_GREETED,				/* hello, then the owner, have been asked for */
	FRESH_READY,
	FRESH_FAILED
} FreshState;

typedef struct FreshLink
{
	Sender	   *sender;
	Link	   *link;			/* NULL: none */
	FreshState	state;
	char		reason[128];	/* why it failed */
} FreshLink;

/* What is waited for: one for each connection. */
typedef struct PoolSocket
{
	Link	   *link;
	FreshLink  *fresh;			/* whose it is; NULL: it is in use */
	int			event_at;
	uint32		mask;
	int64		silence;		/* us that we have listened without a reply */
	uint64		answered;		/* replies when that was looked at */
} PoolSocket;

struct Sender
{
	int			place;
	CacheServer *server;
	char		label[SERVER_LABEL_SIZE];	/* for the log */
	const Driver *driver;
	ServerConfig config;
	uint32		config_version;
	MemoryContext epoch_context;	/* of all that ends with the epoch */
	Feed	   *feed;

	/* the epoch */
	EpochPhase	phase;
	int			greeted;
	TimestampTz phase_since;
	char		nonce[40];
	char		owner_key[128];
	char		marker_key[128];
	bool		faulted;
	char		fault[SERVER_ERROR_SIZE];

	/* connections: pool.c */
	Link	   *link[MAX_LINKS];
	TimestampTz link_until[MAX_LINKS];	/* end of its lifetime */
	int			links;			/* that keys are distributed to: the first of the array */
	FreshLink	fresh[MAX_LINKS];
	bool		changing;		/* fresh ones are being opened, or some are to be closed */
	int			links_wanted;	/* then */
	TimestampTz change_since;
	TimestampTz change_after;	/* the last change failed: not before */
	bool		holding;		/* nothing new is sent until all is answered */
	uint64		used;			/* sum of the counters when it was looked at last */
	TimestampTz used_at;		/* when it had grown */
	struct WaitEventSet *events;	/* NULL: to be made anew */
	PoolSocket	socket[2 * MAX_LINKS];
	int			sockets;

	/* outages */
	int			failures;		/* consecutive, for backoff and breaker */
	bool		told;			/* the log knows of the outage, */
	bool		told_flush;		/* and why the namespace is flushed */
	bool		robbed;			/* the fault: somebody else writes or empties there, perhaps */
	bool		foreign;		/* and has left a nonce there */
	int			robberies;		/* such faults in a row */
	bool		emptied;		/* the namespace is empty, and nobody owns it */
	TimestampTz ready_since;	/* 0: not ready */
	TimestampTz slot_tried;		/* when it was last tried to take the slot */
	TimestampTz asked_to_end;	/* when SIGTERM came; 0: it did not */

	/* the marker */
	char		found[MARKER_SIZE]; /* as it was read when the epoch began */
	int			found_len;		/* -1: there was none */
	MarkerIdentity identity;
	bool		marker_in_flight;
	XLogRecPtr	marker_sent;	/* position in the last one sent */
	XLogRecPtr	marker_restart; /* restart point in the last one sent */
	XLogRecPtr	marker_acked;	/* position in the last one acknowledged */
	char		marker_text[MARKER_SIZE];	/* what the cache has; "": none */
	char		marker_next[MARKER_SIZE];	/* what is in flight */
	TimestampTz marker_at;		/* when the last one was sent */
	TimestampTz marker_refused; /* when the cache had no room for it; 0: it had */
	TimestampTz checked;		/* when marker and owner were last asked for */
	XLogRecPtr	ready_at;		/* readable once the position is here */
	XLogRecPtr	floor;			/* end of our own message */
	XLogRecPtr	floor_start;

	/*
	 * Traces: after each command of deletions its link sets a key of its own
	 * to a number that grows.  If the data go back, so does that.
	 */
	char		trace_key[MAX_LINKS][96];
	uint64		trace_sent[MAX_LINKS];
	uint64		trace_acked[MAX_LINKS]; /* 0: none that counts */
	uint64		trace_void[MAX_LINKS];	/* up to here, a flush may have deleted it */

	/* deletions and flushes: deliver.c */
	int			deletes_in_flight;
	FeedTransaction *sending;	/* half sent; NULL: none */
	int			sending_at;		/* offset in its keys */
	dlist_head	flushes;
	int			flushes_running;
	TimestampTz delivered_at;	/* when something was sent last */
	bool		behind;			/* there is more WAL to be read */
	bool		has_flushed;	/* WAL, for the last ones: their commits were asynchronous */
	TimestampTz nap_until;		/* changes wait until then, to be sent together */

	/* changed keys that are loaded again: refresh.c */
	struct Refresh *refresh;	/* NULL: no epoch */
	bool		traces_tell;	/* what the position did not wait for has ended in this epoch */

	/* reads: answer.c; and questions whether keys are there */
	int			reads_in_flight;	/* commands */

	/* fills: fill.c */
	int			fills_in_flight;
	Size		fill_bytes_in_flight;
	List	   *fills;			/* chains that wait for the marker */
	TimestampTz fills_since;	/* when the first of them came */
	XLogRecPtr	fills_judged;	/* marker_acked when they were looked at last */
};

extern PGDLLEXPORT void ck_sender_main(Datum arg);

/* Microseconds since then; very many if the clock has been set back. */
static inline int64
sender_elapsed(TimestampTz since)
{
	int64		elapsed = GetCurrentTimestamp() - since;

	return elapsed < 0 ? PG_INT64_MAX : elapsed;
}

/* sender.c */
extern void sender_fault(Sender *sender, const char *format,...) pg_attribute_printf(2, 3);
extern void sender_fault_changed(Sender *sender);
extern void sender_named(const Sender *sender, const char *suffix, char *to, Size size);
extern int	sender_link_of(const Sender *sender, const char *named_key, int len);
extern bool sender_has_key(Sender *sender, const char *key, int len);

/* epoch.c */
extern void epoch_begin(Sender *sender);
extern void epoch_run(Sender *sender);
extern void epoch_end(Sender *sender);
extern bool epoch_is_our_nonce(const Sender *sender, const LinkValue *value);

/* pool.c */
extern void pool_open(Sender *sender);
extern void pool_close(Sender *sender);
extern void pool_unwatch(Sender *sender);
extern void pool_wait(Sender *sender, long timeout_ms);
extern int	pool_check(Sender *sender);
extern int	pool_unanswered(const Sender *sender);
/* May a deletion, fill or read be sent?  Else it waits where it is. */
extern bool pool_has_room(const Sender *sender);
extern void pool_maintain(Sender *sender);

/* deliver.c: deletions */
extern void deliver_begin(Sender *sender);
extern void deliver_changes(Sender *sender);
extern bool deliver_has_room(const Sender *sender);
extern bool deliver_is_idle(const Sender *sender);
typedef void (*DeliverCallback) (void *arg);
extern void deliver_delete(Sender *sender, int link, const char *const *keys, const Size *lens,
						   int n, DeliverCallback ended, void *arg);

extern void deliver_part_ended(Sender *sender, FeedTransaction *transaction);

/* flush.c: flushes of entities, or ("") of everything */
extern void flush_begin(Sender *sender);
extern void flush_add(Sender *sender, FeedTransaction *transaction, const char *entity);
extern void flush_run(Sender *sender);
extern bool flush_is_pending(const Sender *sender, const char *named_key);
extern bool flush_waits(const Sender *sender);
extern bool flush_has_none(const Sender *sender);

/* fill.c */
extern void fill_begin(Sender *sender);
extern void fill_send(Sender *sender);
extern void fill_end(Sender *sender);

/* answer.c: reads, and the marker that they are checked by */
extern void answer_reads(Sender *sender);
extern void answer_write_marker(Sender *sender);

#endif							/* CACHEKIT_SENDER_H */
