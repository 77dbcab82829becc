/*-------------------------------------------------------------------------
 *
 * feed.h
 *	  Committed changes, read from the WAL, in the order of their commits.
 *
 * A feed reads flushed WAL from a location on.  It keeps change records by
 * transaction until the commit or abort record, and then the transaction
 * until it is visible to others (a commit is in the WAL before it is visible,
 * for as long as synchronous replication takes).  A transaction that is not
 * visible does not hold up those behind it.
 *
 * Two locations come out of it:
 *	  position	every commit before it is done (feed_done())
 *	  restart	where reading must begin again for nothing to be missed: held
 *				back by records whose transaction has not ended or is not done
 *
 * Memory is bounded, whatever stands in the WAL: a transaction that is too
 * large, or comes when too much is remembered, becomes "everything changed".
 *
 * Lives in one process and one memory context; errors of the WAL reader (a
 * segment that is gone) are raised as ERROR.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_FEED_H
#define CACHEKIT_FEED_H

#include "access/xlogdefs.h"
#include "lib/ilist.h"
#include "lib/pairingheap.h"
#include "lib/stringinfo.h"
#include "utils/timestamp.h"

typedef struct FeedTransaction
{
	dlist_node	node;			/* in the order of commits */
	dlist_node	waiting;		/* while it is not visible: in the same order */
	pairingheap_node by_first;	/* of all that are remembered */
	TransactionId xid;
	XLogRecPtr	first;			/* start of its first change record */
	XLogRecPtr	end;			/* end of its commit record */
	bool		visible;		/* handed out by feed_next_visible() */
	bool		done;			/* acknowledged, as far as the position goes */
	int			parts;			/* for whoever delivers it: what is not acknowledged */
	int			beside;			/* flushes and refreshes beside the stream that it waits for */
	bool		held;			/* keeps the restart point until feed_release() */
	XLogRecPtr	commit_start;	/* start and CRC of its commit record; 0: it is none */
	uint32		commit_crc;
	TimestampTz read_at;		/* when its commit was read */
	bool		database;		/* everything in the database changed */
	StringInfoData keys;		/* { len:u8 <entity>:<key> }…; data NULL: none */
	StringInfoData entities;	/* { len:u8 <entity> }…: whole entities; the same */
	StringInfoData refreshes;	/* { relation:u32 absent:u8 len:u8 <entity>:<key> }…; the same */
	int			nentities;
	Size		bytes;			/* that it counts for */
} FeedTransaction;

typedef struct Feed Feed;

extern Feed *feed_create(MemoryContext parent, Oid dboid, Oid serverid);

/* A WAL record, to be named in the marker. */
typedef struct FeedMark
{
	XLogRecPtr	start;			/* 0: none */
	XLogRecPtr	end;
	uint32		crc;
} FeedMark;

/*
 * Begin (again) at a location that is the start of a record.  `mark` is what
 * feed_mark() returns until another can be named.
 */
extern void feed_begin(Feed *feed, XLogRecPtr start, const FeedMark *mark);

/* There is a message of ours at this location, which is random, and can be the mark. */
extern void feed_expect(Feed *feed, XLogRecPtr now);

/* Read on; true when there may be more.  Reads a bounded amount per call. */
extern bool feed_read(Feed *feed);

/* The next transaction that has become visible and was not handed out; or NULL. */
extern FeedTransaction *feed_next_visible(Feed *feed);

/* Is a transaction waiting to become visible? */
extern bool feed_has_waiting(const Feed *feed);

/* A key of a transaction that was handed out is to be deleted, too. */
extern void feed_add_key(Feed *feed, FeedTransaction *transaction, const char *named, int len);

/*
 * Acknowledged.  One that is `held` (a flush or a refresh beside the stream goes
 * on for it) lets the position pass, and holds the restart point until it is
 * released.
 */
extern void feed_done(Feed *feed, FeedTransaction *transaction);
extern void feed_release(Feed *feed, FeedTransaction *transaction);

/* When the oldest change that is not done was read; 0: there is none. */
extern TimestampTz feed_oldest(const Feed *feed);

extern XLogRecPtr feed_position(const Feed *feed);
extern XLogRecPtr feed_restart(const Feed *feed);

/* The position, unless something beside the stream goes on: then where that began. */
extern XLogRecPtr feed_settled(const Feed *feed);
extern XLogRecPtr feed_read_to(const Feed *feed);

/*
 * Let a reader begin where a record ends.  If that is the end of a page, the
 * next record is behind the header of the next page.
 */
struct XLogReaderState;
extern void feed_begin_at(struct XLogReaderState *reader, XLogRecPtr at);

/* The last record up to the position that no other life of the cluster can have (marker.h). */
extern const FeedMark *feed_mark(const Feed *feed);

#endif							/* CACHEKIT_FEED_H */
