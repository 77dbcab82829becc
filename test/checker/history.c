/*
 * history.c
 *		The model of the registers: what was written, what a read may return.
 *
 * Judging is done while the load runs: a read takes its bounds with it when it
 * is sent, and is compared with them when its answer is there, so that reads
 * need no memory.  Writes are kept for ever, found by their number.
 */
#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "history.h"
#include "report.h"

#define CHUNK_WRITES	65536
#define MAX_CHUNKS		8192

typedef enum WriteState
{
	WRITE_OPEN,					/* its COMMIT has not been sent */
	WRITE_SENT,					/* its COMMIT is on the way, or its answer is lost */
	WRITE_DONE,					/* its COMMIT was answered */
	WRITE_DEAD					/* rolled back, overwritten before COMMIT, matched
								 * no row, or lost in a crash */
} WriteState;

typedef struct Write
{
	Version		version;		/* 0 until the server has said it */
	int64_t		sent_at;		/* COMMIT sent */
	int64_t		done_at;		/* COMMIT answered, or known to be dead */
	int			key;
	WriteId		older_absence;	/* the deletion of this key before this one */
	uint16_t	writer;
	uint8_t		state;			/* WriteState */
	bool		absent;			/* a deletion */
} Write;

typedef struct Key
{
	Version		committed;		/* newest version whose COMMIT was answered */
	int64_t		committed_at;
	Version		returned;		/* newest version that a read has returned */
	int64_t		returned_at;
	Version		leaving;		/* "committed" when the last delivery began */
	Version		delivered;		/* newest version that all caches have heard of */
	int64_t		delivered_at;
	Version		truth;			/* version in the table after an outage */
	WriteId		newest_absence; /* its deletions, newest first */
} Key;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static Key *keys;				/* by number, [0] is not used */
static Write *chunks[MAX_CHUNKS];
static WriteId nwrites;			/* [0] is not used */

static struct
{
	int			shape_sent;		/* newest shape whose ALTER TABLE was sent */
	int			shape_known;	/* newest shape whose ALTER TABLE was answered,
								 * or that was seen */
	uint64_t	window;			/* odd: fetch() may refuse to work */
	atomic_int	hot_key;		/* the key that was last in a COMMIT */
}			states[MAX_TABLES];
static uint64_t life;			/* outages so far */
static int	gone_back;			/* keys, over all outages, that lost a commit */

static Write *
write_of(WriteId id)
{
	return &chunks[id / CHUNK_WRITES][id % CHUNK_WRITES];
}

void
history_init(void)
{
	keys = calloc((size_t) (ntables * options.keys) + 1, sizeof(Key));
	if (keys == NULL)
		report_fatal("out of memory");
	for (int t = 0; t < ntables; t++)
		states[t].hot_key = FIRST_KEY(t);
}

/*
 * A new write of a key, in a transaction that is open.  Its number goes into
 * the version that the server makes.
 */
WriteId
history_write(int key, int writer)
{
	WriteId		id;
	Write	   *w;

	pthread_mutex_lock(&mutex);
	id = ++nwrites;
	if (id / CHUNK_WRITES >= MAX_CHUNKS)
		report_fatal("too many writes for one run");
	if (chunks[id / CHUNK_WRITES] == NULL)
	{
		chunks[id / CHUNK_WRITES] = calloc(CHUNK_WRITES, sizeof(Write));
		if (chunks[id / CHUNK_WRITES] == NULL)
			report_fatal("out of memory");
	}
	w = write_of(id);
	w->key = key;
	w->writer = writer;
	w->state = WRITE_OPEN;
	pthread_mutex_unlock(&mutex);
	return id;
}

/*
 * The version of a write.  For a deletion this must be called while the lock
 * on the key's row in ck_tomb is held: the list is in the order of the calls.
 */
void
history_version(WriteId id, Version version, bool absent)
{
	Write	   *w;

	pthread_mutex_lock(&mutex);
	w = write_of(id);
	w->version = version;
	if (absent)
	{
		w->absent = true;
		w->older_absence = keys[w->key].newest_absence;
		keys[w->key].newest_absence = id;
	}
	pthread_mutex_unlock(&mutex);
}

static void
set_hot_key(int key)
{
	atomic_store_explicit(&states[TABLE_OF(key)].hot_key, key, memory_order_relaxed);
}

/* Must be called before the COMMIT is sent. */
void
history_sent(const WriteId *ids, int n)
{
	int64_t		now;

	pthread_mutex_lock(&mutex);
	now = now_ns();
	for (int i = 0; i < n; i++)
	{
		Write	   *w = write_of(ids[i]);

		w->state = WRITE_SENT;
		w->sent_at = now;
		if (i == n - 1)
			set_hot_key(w->key);
	}
	pthread_mutex_unlock(&mutex);
}

/* Must be called after the COMMIT was answered, and with versions known. */
void
history_done(const WriteId *ids, int n)
{
	int64_t		now;

	pthread_mutex_lock(&mutex);
	now = now_ns();
	for (int i = 0; i < n; i++)
	{
		Write	   *w = write_of(ids[i]);
		Key		   *k = &keys[w->key];

		assert(w->version != 0);
		w->state = WRITE_DONE;
		w->done_at = now;
		if (w->version > k->committed)
		{
			k->committed = w->version;
			k->committed_at = now;
		}
		if (i == n - 1)
			set_hot_key(w->key);
	}
	pthread_mutex_unlock(&mutex);
}

/* A write that will never be committed. */
void
history_dead(WriteId id)
{
	Write	   *w;

	pthread_mutex_lock(&mutex);
	w = write_of(id);
	w->state = WRITE_DEAD;
	w->done_at = now_ns();
	pthread_mutex_unlock(&mutex);
}

int
history_hot_key(int table)
{
	return atomic_load_explicit(&states[table].hot_key, memory_order_relaxed);
}

/* Must be called before the read is sent. */
void
history_bound(int key, Bound *bound)
{
	Key		   *k = &keys[key];

	pthread_mutex_lock(&mutex);
	bound->key = key;
	bound->delivered = false;
	bound->committed = k->committed;
	bound->committed_at = k->committed_at;
	bound->returned = k->returned;
	bound->returned_at = k->returned_at;
	bound->shape = states[TABLE_OF(key)].shape_known;
	bound->window = states[TABLE_OF(key)].window;
	bound->sent_at = now_ns();
	pthread_mutex_unlock(&mutex);
}

/*
 * The same for a read that goes to a cache server by itself.  What was
 * committed is delivered when COMMIT waits for that.
 */
void
history_bound_delivered(int key, Bound *bound)
{
	Key		   *k = &keys[key];

	pthread_mutex_lock(&mutex);
	*bound = (Bound) {
		.key = key, .delivered = !options.synchronous,
		.committed = options.synchronous ? k->committed : k->delivered,
		.committed_at = options.synchronous ? k->committed_at : k->delivered_at
	};
	bound->sent_at = now_ns();
	pthread_mutex_unlock(&mutex);
}

uint64_t
history_delivery_begins(void)
{
	uint64_t	result;

	pthread_mutex_lock(&mutex);
	for (int key = 1; key <= ntables * options.keys; key++)
		keys[key].leaving = keys[key].committed;
	result = life;
	pthread_mutex_unlock(&mutex);
	return result;
}

void
history_delivered(uint64_t begun_in)
{
	int64_t		now;

	pthread_mutex_lock(&mutex);
	now = now_ns();
	for (int key = 1; key <= ntables * options.keys && begun_in == life; key++)
		if (keys[key].leaving > keys[key].delivered)
		{
			keys[key].delivered = keys[key].leaving;
			keys[key].delivered_at = now;
		}
	pthread_mutex_unlock(&mutex);
}

/* One line about a read that broke a rule. */
static void
complain(const char *kind, const Bound *b, const char *how, int session,
		 const char *saw, const char *but)
{
	report_violation(kind, "key %d, %s by session %d saw %s, but %s; "
					 "read sent at %.3f ms, answered at %.3f ms",
					 b->key, how, session, saw, but,
					 MS(b->sent_at), MS(now_ns()));
}

static const char *
describe_bound(const Bound *b, bool by_commit, char *buffer, size_t size)
{
	Version		v = by_commit ? b->committed : b->returned;

	snprintf(buffer, size, "version %lld.%u%s %s at %.3f ms",
			 (long long) VERSION_COUNT(v), VERSION_WRITE(v),
			 VERSION_WRITE(v) != 0 && write_of(VERSION_WRITE(v))->absent ?
			 " (a deletion)" : "",
			 !by_commit ? "had been returned by another read" :
			 b->delivered ? "had been delivered" : "was committed",
			 MS(by_commit ? b->committed_at : b->returned_at));
	return buffer;
}

/*
 * An absent row is right if some deletion of the key was on its way to being
 * committed and is not older than the bounds.  What later reads are held to
 * is the oldest such deletion, because this read may have seen that one.
 */
static bool
judge_absent(const Bound *b, const char *how, int session)
{
	Key		   *k = &keys[b->key];
	Version		bound = b->committed > b->returned ? b->committed : b->returned;
	Write	   *fits = NULL;
	char		but[160];

	for (WriteId id = k->newest_absence; id != 0; id = write_of(id)->older_absence)
	{
		Write	   *w = write_of(id);

		if (w->version < bound)
			break;
		if (w->state == WRITE_SENT || w->state == WRITE_DONE)
			fits = w;
	}
	if (fits == NULL)
	{
		complain(b->committed >= b->returned ? "stale" : "backwards", b, how, session,
				 "no row",
				 describe_bound(b, b->committed >= b->returned, but, sizeof(but)));
		return false;
	}
	if (fits->version > k->returned)
	{
		k->returned = fits->version;
		k->returned_at = now_ns();
	}
	return true;
}

static bool
judge_shape(const Bound *b, const Seen *seen, const char *how, int session)
{
	int			shape_sent = states[TABLE_OF(b->key)].shape_sent;
	int		   *shape_known = &states[TABLE_OF(b->key)].shape_known;
	char		saw[80];
	char		but[80];
	bool		good;

	if (seen->shape != 0)
		good = seen->shape % 2 == 1 &&
			seen->shape >= b->shape && seen->shape <= shape_sent;
	else						/* any even number in the range will do */
		good = shape_sent > b->shape || shape_sent % 2 == 0;
	if (good)
	{
		int			known = seen->shape != 0 ? seen->shape : (b->shape + 1) / 2 * 2;

		if (known > *shape_known)
			*shape_known = known;
		return true;
	}
	if (seen->shape != 0)
		snprintf(saw, sizeof(saw), "column shape = %d", seen->shape);
	else
		snprintf(saw, sizeof(saw), "no column shape");
	snprintf(but, sizeof(but), "the table had shape %d, and later at most %d",
			 b->shape, shape_sent);
	complain("shape", b, how, session, saw, but);
	return false;
}

static bool
judge_present(const Bound *b, const Seen *seen, const char *how, int session)
{
	Key		   *k = &keys[b->key];
	WriteId		id = VERSION_WRITE(seen->version);
	Write	   *w = id != 0 && id <= nwrites ? write_of(id) : NULL;
	char		saw[200];
	char		but[200];
	const char *kind = NULL;

	snprintf(saw, sizeof(saw), "version %lld.%u",
			 (long long) VERSION_COUNT(seen->version), id);
	if (seen->id != b->key)
	{
		kind = "wrong key";
		snprintf(but, sizeof(but), "the document is that of key %d", seen->id);
	}
	else if (seen->pad != seen->version)
	{
		kind = "torn";
		snprintf(but, sizeof(but), "its filler is that of version %lld",
				 (long long) seen->pad);
	}
	else if (w == NULL || w->key != b->key || w->absent ||
			 (w->version != 0 && w->version != seen->version))
	{
		kind = "unknown value";
		snprintf(but, sizeof(but), "nobody wrote that");
	}
	else if (w->state == WRITE_OPEN)
	{
		kind = "uncommitted";
		snprintf(but, sizeof(but), "writer %d has not sent its COMMIT", w->writer);
	}
	else if (w->state == WRITE_DEAD)
	{
		kind = "rolled back";
		snprintf(but, sizeof(but), "writer %d never committed it (known at %.3f ms)",
				 w->writer, MS(w->done_at));
	}
	else if (seen->version < b->committed)
	{
		kind = "stale";
		describe_bound(b, true, but, sizeof(but));
	}
	else if (seen->version < b->returned)
	{
		kind = "backwards";
		describe_bound(b, false, but, sizeof(but));
	}
	if (kind != NULL)
	{
		if (w != NULL && w->state == WRITE_DONE)
			snprintf(saw + strlen(saw), sizeof(saw) - strlen(saw),
					 " (of writer %d, committed at %.3f ms)",
					 w->writer, MS(w->done_at));
		complain(kind, b, how, session, saw, but);
		return false;
	}
	if (seen->version > k->returned)
	{
		k->returned = seen->version;
		k->returned_at = now_ns();
	}
	return judge_shape(b, seen, how, session);
}

/*
 * Judges one read by the bounds that it took along, and raises what later
 * reads are held to.  False, and a line in the report, if a rule is broken.
 */
bool
history_judge(const Bound *bound, const Seen *seen, ReadRule rule,
			  const char *how, int session)
{
	bool		good;

	pthread_mutex_lock(&mutex);
	if (!seen->absent)
		good = judge_present(bound, seen, how, session);
	else if (rule == READ_STRICT)
		good = judge_absent(bound, how, session);
	else
		good = true;
	pthread_mutex_unlock(&mutex);
	return good;
}

/* The next shape, about to be sent. */
int
history_shape_next(int table)
{
	int			shape;

	pthread_mutex_lock(&mutex);
	shape = ++states[table].shape_sent;
	pthread_mutex_unlock(&mutex);
	return shape;
}

void
history_shape_done(int table, int shape)
{
	pthread_mutex_lock(&mutex);
	if (shape > states[table].shape_known)
		states[table].shape_known = shape;
	pthread_mutex_unlock(&mutex);
}

/*
 * The shape after an outage; 0 for a table without the column.  Numbers are
 * not used again, so the next one that fits the parity is as good.
 */
void
history_shape_truth(int table, int shape)
{
	pthread_mutex_lock(&mutex);
	if (shape != 0)
		states[table].shape_known = shape;
	else
	{
		states[table].shape_sent += states[table].shape_sent % 2;
		states[table].shape_known = states[table].shape_sent;
	}
	pthread_mutex_unlock(&mutex);
}

void
history_window_moves(int table, bool open)
{
	pthread_mutex_lock(&mutex);
	if (open != (states[table].window % 2 == 1))
		states[table].window++;
	pthread_mutex_unlock(&mutex);
}

/* Might a read with this bound have met a table that is not attached? */
bool
history_in_window(const Bound *bound)
{
	bool		result;

	pthread_mutex_lock(&mutex);
	result = bound->window % 2 == 1 ||
		states[TABLE_OF(bound->key)].window != bound->window;
	pthread_mutex_unlock(&mutex);
	return result;
}

/*
 * After an outage: what the table says.  With synchronous_commit on, nothing
 * that was answered or seen may be missing; with it off, the last moments may.
 */
void
history_truth(int key, Version version, bool absent)
{
	Key		   *k = &keys[key];

	pthread_mutex_lock(&mutex);
	if (options.async == 0 && version < k->committed)
		report_violation("lost", "key %d: version %lld.%u was committed at %.3f ms, but "
						 "after the outage the table has %s %lld.%u", key,
						 (long long) VERSION_COUNT(k->committed),
						 VERSION_WRITE(k->committed), MS(k->committed_at),
						 absent ? "a deletion" : "version",
						 (long long) VERSION_COUNT(version), VERSION_WRITE(version));
	if (version < k->committed)
		gone_back++;
	k->truth = version;
	k->committed = k->returned = version;
	k->committed_at = k->returned_at = now_ns();
	k->delivered = 0;			/* it may have been lost */
	pthread_mutex_unlock(&mutex);
}

/*
 * After the truth of all keys: settle every write whose fate was open.  A
 * write that the table does not show, and that is not older than what it
 * shows, is lost, and its value must never be seen again.
 */
void
history_truth_end(void)
{
	pthread_mutex_lock(&mutex);
	life++;
	for (WriteId id = 1; id <= nwrites; id++)
	{
		Write	   *w = write_of(id);
		Version		truth = keys[w->key].truth;

		if (w->state == WRITE_DEAD)
			continue;
		if (id == VERSION_WRITE(truth))
		{
			w->version = truth;
			w->state = WRITE_DONE;
		}
		else if (w->state == WRITE_OPEN || w->version == 0 || w->version > truth)
			w->state = WRITE_DEAD;
		else
			w->state = WRITE_DONE;
	}
	pthread_mutex_unlock(&mutex);
}

/* To be asked at the end. */
int
history_gone_back(void)
{
	return gone_back;
}
