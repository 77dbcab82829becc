/*-------------------------------------------------------------------------
 *
 * requests.h
 *	  What sessions ask of a server's sender: reads, which they wait for, and
 *	  fills, which they do not.
 *
 * Each backend has one place for a read; whoever asks for many at once takes
 * more from a pool, and gives them back when the call ends, however that is.
 * A place's whole state is one word, {generation, state, chain}, so that an
 * answer that comes too late cannot reach a later request: the sender's
 * compare-and-swap fails, and it frees the answer.  Fills are chains of blocks in a bounded queue; when it is full,
 * the fill is dropped.
 *
 * Locks: each server has one LWLock for its two queues.  No other lock is
 * taken while it is held.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_REQUESTS_H
#define CACHEKIT_REQUESTS_H

#include "access/xlogdefs.h"
#include "portability/instr_time.h"
#include "storage/lwlock.h"

#include "fence.h"
#include "key.h"
#include "servers.h"

#define NAMED_KEY_SIZE	(KEY_MAX_NAMED + 1)

/* Who sends a fill: a session of its own accord, or the refresher as an answer (refresh.h). */
typedef enum FillKind
{
	FILL_SESSION,
	FILL_REFRESH,				/* the changed document */
	FILL_REFRESH_AGAIN,			/* it could not be loaded now: ask again */
	FILL_REFRESH_FAILED			/* there is none, or none that can be stored */
} FillKind;

/* A fill's head, at the start of its chain; the document follows, if there is one. */
typedef struct FillHead
{
	FillKind	kind;
	uint64		request;		/* which the refresher answers */
	XLogRecPtr	shown;			/* of its documents: no commit behind this is in it */
	Oid			serverid;		/* whom it is for: the place may be another's by now */
	uint64		hash;			/* of the key; its stripes follow from it */
	int32		slot;			/* the entity's slot in shared memory */
	Oid			relid;			/* whose it must still be */
	FenceToken	token;
	int64		ttl_ms;			/* 0: for ever */
	uint16		len;
	char		named_key[NAMED_KEY_SIZE];	/* <entity>:<key> */
} FillHead;

/* A read as the sender takes it. */
typedef struct ReadTicket
{
	int			place;			/* of the read */
	Oid			dboid;			/* whom it asks */
	Oid			serverid;
	uint64		word;			/* its word when taken */
	XLogRecPtr	needed;			/* position that the server must have reached */
	uint16		len;
	char		named_key[NAMED_KEY_SIZE];
} ReadTicket;

typedef enum ReadResult
{
	READ_HIT,					/* the document, as JSON text */
	READ_MISS,					/* not there */
	READ_FAILED					/* not asked, or no answer in time */
} ReadResult;

/* *text is palloc'd on READ_HIT; its bytes are whatever the cache has. */

/* One of many reads. */
typedef struct ManyRead
{
	int			server;			/* which place is asked, and whose it must be */
	Oid			serverid;
	XLogRecPtr	needed;			/* as in request_read() */
	int			len;
	char		named_key[NAMED_KEY_SIZE];
	ReadResult	result;			/* what came of it */
	char	   *text;
	Size		bytes;
} ManyRead;

extern Size requests_shmem_size(void);
extern void requests_shmem_init(LWLockPadded *locks);

/* ---------- sessions ---------- */

extern ReadResult request_read(int server, Oid serverid, const char *named_key, int len,
							   XLogRecPtr needed, long timeout_ms, char **text, Size *bytes);
/*
 * The same for many documents: all of them are asked for before the first
 * answer is waited for, as far as there are places.
 */
extern void request_read_many(ManyRead *reads, int n, instr_time began, long timeout_ms);
extern bool request_fill(int server, const FillHead *head, const char *json, Size len);

/* Are there so many fills that one more could keep a session's out? */
extern bool request_fills_are_many(int server);

/* ---------- the server's sender ---------- */

typedef enum RequestAnswer
{
	REQUEST_FOUND,				/* with the document */
	REQUEST_ABSENT,
	REQUEST_FAILED				/* not asked, or no answer that counts */
} RequestAnswer;

extern bool request_take_read(int server, ReadTicket *ticket);
/* False: the session has given up, or there was no room for the document. */
extern bool request_answer(const ReadTicket *ticket, RequestAnswer answer,
						   const char *bytes, Size len);
extern uint32 request_take_fill(int server);
extern void request_fail_all(int server);

/* Reads that are under way, places of the pool that are held, fills that wait: for tests. */
extern void requests_in_use(int *reads, int *held_places, int *fills);

#endif							/* CACHEKIT_REQUESTS_H */
