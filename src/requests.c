/*-------------------------------------------------------------------------
 *
 * requests.c
 *	  What sessions ask of a server's sender: reads, which they wait for, and
 *	  fills, which they do not.
 *
 * The word of a read is {generation:28, state:4, chain:32}.  A session moves
 * it IDLE -> QUEUED and, whatever has happened, on to IDLE of the next
 * generation; the sender moves it QUEUED -> TAKEN -> DONE or FAILED.  What stands beside
 * the word is written by the session only, before QUEUED; the sender copies
 * it and then takes the request by the very word that it had read before.
 *
 * The first MaxBackends places are those of backends.  The others are a pool:
 * a list without a lock, whose head is {tag:32, place:32} so that a place that
 * was taken and given back meanwhile is not mistaken for one that was there all
 * the time.  A session remembers which it holds; they are given back, in any
 * state, when the call ends, by an error too, and before the session's exit.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "miscadmin.h"
#include "port/atomics.h"
#include "portability/instr_time.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/shmem.h"

#include "blocks.h"
#include "debug.h"
#include "guc.h"
#include "requests.h"

#define STATE_IDLE		0
#define STATE_QUEUED	1
#define STATE_TAKEN		2
#define STATE_DONE		3		/* chain: the document; NO_CHAIN: it is not there */
#define STATE_FAILED	4

#define WORD(generation, state, chain) \
	(((uint64) ((generation) & 0x0FFFFFFF) << 36) | ((uint64) (state) << 32) | (uint32) (chain))
#define WORD_GENERATION(word)	((uint32) ((word) >> 36))
#define WORD_STATE(word)		((int) (((word) >> 32) & 15))
#define WORD_CHAIN(word)		((uint32) (word))

#define FILL_QUEUE	8192		/* fills that wait for one server */
#define POOL_PLACES	1024		/* for sessions that read many at once, */
#define MAX_HELD	256			/* at most as many for one of them */
#define NO_PLACE	PG_UINT32_MAX

typedef struct ReadPlace
{
	pg_atomic_uint64 word;
	PGPROC	   *proc;			/* whose latch tells of the answer */
	Oid			dboid;			/* of the server that is asked */
	Oid			serverid;
	XLogRecPtr	needed;
	uint32		next;			/* in the pool's list */
	uint16		len;
	char		named_key[NAMED_KEY_SIZE];
} ReadPlace;

typedef struct QueuedRead
{
	int			place;
	uint32		generation;
} QueuedRead;

/* Rings; head and tail only grow. */
typedef struct ServerQueues
{
	LWLock	   *lock;
	uint64		read_head;
	uint64		read_tail;
	uint64		fill_head;
	uint64		fill_tail;
	uint32		fill[FILL_QUEUE];	/* chains */
} ServerQueues;

typedef struct RequestsShared
{
	int			backends;		/* so many places are theirs */
	pg_atomic_uint64 pool;		/* head of the list of the others that are free */
	ServerQueues queue[MAX_SERVERS];
} RequestsShared;

static RequestsShared *requests = NULL;
static ReadPlace *places = NULL;	/* of backends, then those of the pool */
static QueuedRead *read_rings = NULL;	/* servers x places x 2 */
static uint32 wait_event = 0;

/* Places of the pool that this session holds. */
static uint32 held[MAX_HELD];
static int	nheld = 0;

static int
place_count(void)
{
	return MaxBackends + POOL_PLACES;
}

static int
ring_size(void)
{
	return 2 * place_count();
}

Size
requests_shmem_size(void)
{
	Size		size = MAXALIGN(sizeof(RequestsShared));

	size = add_size(size, MAXALIGN(mul_size(sizeof(ReadPlace), place_count())));
	return add_size(size, mul_size(mul_size(sizeof(QueuedRead), ring_size()), MAX_SERVERS));
}

void
requests_shmem_init(LWLockPadded *locks)
{
	bool		found;

	requests = ShmemInitStruct("cachekit requests", requests_shmem_size(), &found);
	places = (ReadPlace *) ((char *) requests + MAXALIGN(sizeof(RequestsShared)));
	read_rings = (QueuedRead *) ((char *) places +
								 MAXALIGN(mul_size(sizeof(ReadPlace), place_count())));
	if (found)
		return;
	requests->backends = MaxBackends;
	for (int i = 0; i < place_count(); i++)
	{
		pg_atomic_init_u64(&places[i].word, WORD(0, STATE_IDLE, NO_CHAIN));
		places[i].proc = NULL;
		places[i].next = i + 1 < place_count() ? (uint32) i + 1 : NO_PLACE;
	}
	pg_atomic_init_u64(&requests->pool, requests->backends);
	for (int i = 0; i < MAX_SERVERS; i++)
	{
		ServerQueues *queue = &requests->queue[i];

		queue->lock = &locks[i].lock;
		queue->read_head = queue->read_tail = 0;
		queue->fill_head = queue->fill_tail = 0;
	}
}

/* ---------- sessions ---------- */

/* This backend's place; NULL for processes that have none. */
static ReadPlace *
my_place(void)
{
	int			n = compat_backend_index();

	return n >= 0 && n < requests->backends ? &places[n] : NULL;
}

/* Back to idle, whatever the sender has made of it; frees an answer. */
static void
abandon(ReadPlace *place)
{
	uint64		word = pg_atomic_read_u64(&place->word);
	uint64		idle;

	do
	{
		if (WORD_STATE(word) == STATE_IDLE)
			return;
		idle = WORD(WORD_GENERATION(word) + 1, STATE_IDLE, NO_CHAIN);
	} while (!pg_atomic_compare_exchange_u64(&place->word, &word, idle));
	if (WORD_STATE(word) == STATE_DONE)
		blocks_free(WORD_CHAIN(word));
}

/* Hold up to n places of the pool. */
static void
take_places(int n)
{
	uint64		head = pg_atomic_read_u64(&requests->pool);

	n = Min(n, MAX_HELD);
	while (nheld < n && (uint32) head != NO_PLACE)
	{
		uint32		place = (uint32) head;
		uint64		next = (((head >> 32) + 1) << 32) | places[place].next;

		if (pg_atomic_compare_exchange_u64(&requests->pool, &head, next))
		{
			held[nheld++] = place;
			head = next;
		}
	}
}

/* Give all of them back, whatever the senders have made of them. */
static void
give_places_back(void)
{
	while (nheld > 0)
	{
		uint32		place = held[nheld - 1];
		uint64		head = pg_atomic_read_u64(&requests->pool);

		abandon(&places[place]);
		do
		{
			places[place].next = (uint32) head;
			pg_write_barrier();
		} while (!pg_atomic_compare_exchange_u64(&requests->pool, &head,
												 (((head >> 32) + 1) << 32) | place));
		nheld--;
	}
}

static void
abandon_at_exit(int code, Datum arg)
{
	abandon(my_place());
	give_places_back();
}

static void
register_exit(void)
{
	static bool registered = false;

	if (!registered)
		before_shmem_exit(abandon_at_exit, (Datum) 0);
	registered = true;
}

/* Put a read into the queue, whose lock is held; false when that is full. */
static bool
append_read(int server, int place, uint32 generation)
{
	ServerQueues *queue = &requests->queue[server];
	QueuedRead *read = &read_rings[(Size) server * ring_size() +
								   queue->read_tail % ring_size()];

	if (queue->read_tail - queue->read_head >= (uint64) ring_size())
		return false;
	read->place = place;
	read->generation = generation;
	queue->read_tail++;
	return true;
}

static bool
push_read(int server, int place, uint32 generation)
{
	ServerQueues *queue = &requests->queue[server];
	bool		room;

	LWLockAcquire(queue->lock, LW_EXCLUSIVE);
	room = append_read(server, place, generation);
	LWLockRelease(queue->lock);
	return room;
}

/* Write what is wanted into a place and make it QUEUED; its generation. */
static uint32
prepare_read(ReadPlace *place, Oid serverid, const char *named_key, int len, XLogRecPtr needed)
{
	uint32		generation = WORD_GENERATION(pg_atomic_read_u64(&place->word));

	place->proc = MyProc;
	place->dboid = MyDatabaseId;
	place->serverid = serverid;
	place->needed = needed;
	place->len = len;
	memcpy(place->named_key, named_key, len);
	place->named_key[len] = '\0';
	pg_write_barrier();
	pg_atomic_write_u64(&place->word, WORD(generation, STATE_QUEUED, NO_CHAIN));
	return generation;
}

/* Wait until the sender has answered; false when the time is up. */
static bool
wait_for_answer(ReadPlace *place, long timeout_ms)
{
	instr_time	start;

	if (wait_event == 0)
		wait_event = compat_wait_event("CachekitRead");
	INSTR_TIME_SET_CURRENT(start);
	while (WORD_STATE(pg_atomic_read_u64(&place->word)) < STATE_DONE)
	{
		instr_time	now;
		long		left;

		INSTR_TIME_SET_CURRENT(now);
		INSTR_TIME_SUBTRACT(now, start);
		left = timeout_ms - (long) INSTR_TIME_GET_MILLISEC(now);
		if (left <= 0)
			return false;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, left,
						 wait_event);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	return true;
}

/* Wait, and leave nothing behind when the wait is cancelled. */
static bool
wait_or_abandon(ReadPlace *place, long timeout_ms)
{
	volatile bool answered = false;

	PG_TRY();
	{
		answered = wait_for_answer(place, timeout_ms);
	}
	PG_CATCH();
	{
		abandon(place);
		PG_RE_THROW();
	}
	PG_END_TRY();
	return answered;
}

/* Take the answer out of shared memory. */
static ReadResult
take_answer(ReadPlace *place, char **text, Size *bytes)
{
	uint64		word = pg_atomic_read_u64(&place->word);

	pg_read_barrier();
	if (WORD_STATE(word) != STATE_DONE)
		return READ_FAILED;
	if (WORD_CHAIN(word) == NO_CHAIN)
		return READ_MISS;
	*bytes = blocks_length(WORD_CHAIN(word));
	*text = MemoryContextAllocExtended(CurrentMemoryContext, *bytes + 1,
									   MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
	if (*text == NULL)
		return READ_FAILED;
	blocks_get(WORD_CHAIN(word), 0, *text, *bytes);
	(*text)[*bytes] = '\0';
	return READ_HIT;
}

/* Ask a server for a document.  Waits for at most timeout_ms, and can be cancelled. */
ReadResult
request_read(int server, Oid serverid, const char *named_key, int len, XLogRecPtr needed,
			 long timeout_ms, char **text, Size *bytes)
{
	ReadPlace  *place = my_place();
	ReadResult	result = READ_FAILED;
	uint32		generation;

	if (place == NULL || timeout_ms <= 0 || len >= NAMED_KEY_SIZE)
		return READ_FAILED;
	register_exit();
	CK_STOP("asking");
	generation = prepare_read(place, serverid, named_key, len, needed);
	if (push_read(server, place - places, generation))
	{
		server_wake(server_at(server));
		if (wait_or_abandon(place, timeout_ms))
			result = take_answer(place, text, bytes);
	}
	abandon(place);
	return result;
}

/*
 * Queue one read for each place that is held, and wake the senders once.  Those
 * that find no room in a queue stay where they are, and fail.
 */
static void
queue_held(const ManyRead *reads)
{
	uint64		woken = 0;
	int			locked = NO_SERVER;

	StaticAssertStmt(MAX_SERVERS <= 64, "a bit for each server");
	for (int i = 0; i < nheld; i++)
	{
		const ManyRead *read = &reads[i];
		ReadPlace  *place = &places[held[i]];
		uint32		generation = prepare_read(place, read->serverid, read->named_key,
											  read->len, read->needed);

		if (read->server != locked)
		{
			if (locked != NO_SERVER)
				LWLockRelease(requests->queue[locked].lock);
			locked = read->server;
			LWLockAcquire(requests->queue[locked].lock, LW_EXCLUSIVE);
		}
		if (append_read(locked, held[i], generation))
			woken |= UINT64CONST(1) << locked;
		else
			abandon(place);
	}
	if (locked != NO_SERVER)
		LWLockRelease(requests->queue[locked].lock);
	for (int i = 0; i < MAX_SERVERS; i++)
	{
		if (woken & (UINT64CONST(1) << i))
			server_wake(server_at(i));
	}
}

static long
time_left(instr_time began, long timeout_ms)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, began);
	return timeout_ms - (long) INSTR_TIME_GET_MILLISEC(now);
}

/*
 * Many reads, as many at once as there are places in the pool; with none, one
 * after the other in the backend's own.  timeout_ms counts from `began`.
 */
void
request_read_many(ManyRead *reads, int n, instr_time began, long timeout_ms)
{
	volatile int at = 0;

	for (int i = 0; i < n; i++)
		reads[i].result = READ_FAILED;
	register_exit();
	PG_TRY();
	{
		while (at < n && time_left(began, timeout_ms) > 0)
		{
			if (n - at > 1)
				take_places(n - at);
			if (nheld == 0)
			{
				ManyRead   *read = &reads[at++];

				read->result = request_read(read->server, read->serverid, read->named_key,
											read->len, read->needed,
											time_left(began, timeout_ms),
											&read->text, &read->bytes);
				continue;
			}
			queue_held(&reads[at]);
			/* whoever is not answered in time finds the time to be up, too */
			for (int i = 0; i < nheld; i++)
			{
				ReadPlace  *place = &places[held[i]];

				if (WORD_STATE(pg_atomic_read_u64(&place->word)) != STATE_IDLE &&
					wait_for_answer(place, time_left(began, timeout_ms)))
					reads[at + i].result = take_answer(place, &reads[at + i].text,
													   &reads[at + i].bytes);
			}
			at += nheld;
			give_places_back();
		}
	}
	PG_CATCH();
	{
		give_places_back();
		PG_RE_THROW();
	}
	PG_END_TRY();
}

/* Hand a document to a server's sender; false when it had to be dropped. */
bool
request_fill(int server, const FillHead *head, const char *json, Size len)
{
	ServerQueues *queue = &requests->queue[server];
	uint32		chain = blocks_put(head, sizeof(*head), json, len);
	bool		room;

	if (chain == NO_CHAIN)
		return false;
	LWLockAcquire(queue->lock, LW_EXCLUSIVE);
	room = queue->fill_tail - queue->fill_head < FILL_QUEUE;
	if (room)
		queue->fill[queue->fill_tail++ % FILL_QUEUE] = chain;
	LWLockRelease(queue->lock);
	if (!room)
	{
		blocks_free(chain);
		return false;
	}
	server_wake(server_at(server));
	return true;
}

bool
request_fills_are_many(int server)
{
	const ServerQueues *queue = &requests->queue[server];

	return queue->fill_tail - queue->fill_head > FILL_QUEUE / 2 || blocks_are_scarce();
}

/* ---------- the server's sender ---------- */

/* Take the next read that somebody still waits for; false: there is none. */
bool
request_take_read(int server, ReadTicket *ticket)
{
	ServerQueues *queue = &requests->queue[server];

	for (;;)
	{
		QueuedRead	read;
		ReadPlace  *place;
		uint64		word;

		if (queue->read_head == queue->read_tail)
			return false;
		LWLockAcquire(queue->lock, LW_EXCLUSIVE);
		if (queue->read_head == queue->read_tail)
		{
			LWLockRelease(queue->lock);
			return false;
		}
		read = read_rings[(Size) server * ring_size() + queue->read_head % ring_size()];
		queue->read_head++;
		LWLockRelease(queue->lock);

		place = &places[read.place];
		word = pg_atomic_read_u64(&place->word);
		if (WORD_STATE(word) != STATE_QUEUED || WORD_GENERATION(word) != read.generation)
			continue;			/* given up meanwhile */
		pg_read_barrier();
		ticket->place = read.place;
		ticket->dboid = place->dboid;
		ticket->serverid = place->serverid;
		ticket->needed = place->needed;
		ticket->len = Min(place->len, NAMED_KEY_SIZE - 1);
		memcpy(ticket->named_key, place->named_key, ticket->len);
		ticket->named_key[ticket->len] = '\0';
		ticket->word = WORD(read.generation, STATE_TAKEN, NO_CHAIN);
		if (pg_atomic_compare_exchange_u64(&place->word, &word, ticket->word))
			return true;
	}
}

bool
request_answer(const ReadTicket *ticket, RequestAnswer answer, const char *bytes, Size len)
{
	ReadPlace  *place = &places[ticket->place];
	uint64		word = ticket->word;
	PGPROC	   *proc = place->proc;
	uint32		chain = NO_CHAIN;
	int			state = answer == REQUEST_FAILED ? STATE_FAILED : STATE_DONE;

	if (answer == REQUEST_FOUND && (chain = blocks_put(bytes, len, NULL, 0)) == NO_CHAIN)
		state = STATE_FAILED;	/* no room */
	if (!pg_atomic_compare_exchange_u64(&place->word, &word,
										WORD(WORD_GENERATION(word), state, chain)))
	{
		blocks_free(chain);
		return false;
	}
	if (proc)
		SetLatch(&proc->procLatch);
	return state == STATE_DONE;
}

/* The next fill's chain, or NO_CHAIN. */
uint32
request_take_fill(int server)
{
	ServerQueues *queue = &requests->queue[server];
	uint32		chain = NO_CHAIN;

	if (queue->fill_head == queue->fill_tail)
		return NO_CHAIN;
	LWLockAcquire(queue->lock, LW_EXCLUSIVE);
	if (queue->fill_head != queue->fill_tail)
		chain = queue->fill[queue->fill_head++ % FILL_QUEUE];
	LWLockRelease(queue->lock);
	return chain;
}

/* A fault, or the end: whoever waits goes to the table, fills are dropped. */
void
request_fail_all(int server)
{
	ReadTicket	ticket;
	uint32		chain;

	while (request_take_read(server, &ticket))
		request_answer(&ticket, REQUEST_FAILED, NULL, 0);
	while ((chain = request_take_fill(server)) != NO_CHAIN)
	{
		server_count(server_at(server), SERVER_FILLS_DROPPED, 1);
		blocks_free(chain);
	}
}

/* ---------- tests ---------- */

void
requests_in_use(int *reads, int *held_places, int *fills)
{
	uint32		at = (uint32) pg_atomic_read_u64(&requests->pool);

	*reads = *fills = 0;
	*held_places = POOL_PLACES;
	for (int i = 0; i < place_count(); i++)
	{
		if (WORD_STATE(pg_atomic_read_u64(&places[i].word)) != STATE_IDLE)
			(*reads)++;
	}
	/* others may change the list under our feet, which no more than falsifies the number */
	for (; at < (uint32) place_count() && *held_places > 0; at = places[at].next)
		(*held_places)--;
	for (int i = 0; i < MAX_SERVERS; i++)
		*fills += (int) (requests->queue[i].fill_tail - requests->queue[i].fill_head);
}
