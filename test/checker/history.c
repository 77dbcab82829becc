/*
 * history.c
 *		The model of the registers: what was written, what a read is held to.
 *
 * A read takes its bounds with it when it is sent, and is compared with them
 * when its answer is there (judge.c), so that reads need no memory.  Writes
 * are kept for ever, found by their number.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "history_model.h"
#include "report.h"

#define CHUNK_WRITES	65536
#define MAX_CHUNKS		8192

/*
 * Data that go back under a living connection are noticed by the sender's next
 * look at its marker, which an idle one takes once a second.
 */
#define NOTICED_NS		INT64_C(5000000000)

pthread_mutex_t model_mutex = PTHREAD_MUTEX_INITIALIZER;
Key		   *model_keys;
WriteId		model_writes;
TableState	model_tables[MAX_TABLES];

static Write *chunks[MAX_CHUNKS];
static uint64_t life;			/* outages so far */
static uint32_t timeline;		/* of the database, 0 before the first outage */
static bool same_timeline;		/* as before the last outage */
static int	gone_back;			/* keys, over all outages, that lost a commit */
static int64_t noticed_at[CACHES];	/* a delivery that begins earlier does not count */
static bool may_lose;			/* in the next outage, whatever synchronous_commit is */

Write *
model_write(WriteId id)
{
	return &chunks[id / CHUNK_WRITES][id % CHUNK_WRITES];
}

void
history_init(void)
{
	model_keys = calloc((size_t) (ntables * options.keys) + 1, sizeof(Key));
	if (model_keys == NULL)
		report_fatal("out of memory");
	for (int t = 0; t < ntables; t++)
		model_tables[t].hot_key = FIRST_KEY(t);
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

	pthread_mutex_lock(&model_mutex);
	id = ++model_writes;
	if (id / CHUNK_WRITES >= MAX_CHUNKS)
		report_fatal("too many writes for one run");
	if (chunks[id / CHUNK_WRITES] == NULL)
	{
		chunks[id / CHUNK_WRITES] = calloc(CHUNK_WRITES, sizeof(Write));
		if (chunks[id / CHUNK_WRITES] == NULL)
			report_fatal("out of memory");
	}
	w = model_write(id);
	w->key = key;
	w->writer = writer;
	w->state = WRITE_OPEN;
	pthread_mutex_unlock(&model_mutex);
	return id;
}

/* The version of a write, as soon as it is known. */
void
history_version(WriteId id, Version version, bool absent)
{
	Write	   *w;

	pthread_mutex_lock(&model_mutex);
	w = model_write(id);
	if (w->version != 0 && w->version != version)
		report_violation("unknown value", "key %d: a read returned version %lld.%u, which the "
						 "server says is %lld", w->key, (long long) VERSION_COUNT(w->version),
						 id, (long long) VERSION_COUNT(version));
	w->version = version;
	if (absent)
	{
		WriteId    *at = &model_keys[w->key].newest_absence;

		while (*at != 0 && model_write(*at)->version > version)
			at = &model_write(*at)->older_absence;
		w->absent = true;
		w->older_absence = *at;
		*at = id;
	}
	pthread_mutex_unlock(&model_mutex);
}

static void
set_hot_key(int key)
{
	atomic_store_explicit(&model_tables[TABLE_OF(key)].hot_key, key, memory_order_relaxed);
}

/* Must be called before the COMMIT is sent, with all writes of the transaction. */
void
history_sent(const WriteId *ids, int n)
{
	int64_t		now;

	pthread_mutex_lock(&model_mutex);
	now = now_ns();
	for (int i = 0; i < n; i++)
	{
		Write	   *w = model_write(ids[i]);
		Key		   *k = &model_keys[w->key];

		w->state = WRITE_SENT;
		w->sent_at = now;
		w->least = k->committed > k->returned ? k->committed : k->returned;
		w->same_commit = n == 1 ? 0 : ids[(i + 1) % n];
		if (i == n - 1)
			set_hot_key(w->key);
	}
	pthread_mutex_unlock(&model_mutex);
}

/* Enters a write among those of its key that are committed. */
static void
link_done(Key *k, WriteId id)
{
	WriteId    *at = &k->newest_done;

	while (*at != 0 && model_write(*at)->version > model_write(id)->version)
		at = &model_write(*at)->older_done;
	model_write(id)->older_done = *at;
	*at = id;
}

/*
 * Must be called after the COMMIT was answered, and with versions known.
 * "delivered": it has waited for the cache servers.
 */
void
history_done(const WriteId *ids, int n, bool delivered)
{
	int64_t		now;

	pthread_mutex_lock(&model_mutex);
	now = now_ns();
	for (int i = 0; i < n; i++)
	{
		Write	   *w = model_write(ids[i]);
		Key		   *k = &model_keys[w->key];

		assert(w->version != 0);
		w->state = WRITE_DONE;
		w->done_at = now;
		if (w->version <= w->least)
			report_violation("order", "key %d: version %lld.%u, whose COMMIT was sent at %.3f ms, "
							 "is not newer than %lld.%u, which was known by then", w->key,
							 (long long) VERSION_COUNT(w->version), ids[i], MS(w->sent_at),
							 (long long) VERSION_COUNT(w->least), VERSION_WRITE(w->least));
		link_done(k, ids[i]);
		if (w->version > k->committed)
		{
			k->committed = w->version;
			k->committed_at = now;
		}
		for (Cache cache = 0; cache < CACHES && delivered; cache++)
			if (w->version > k->delivered[cache])
			{
				k->delivered[cache] = w->version;
				k->delivered_at[cache] = now;
			}
		if (w->seen)
			judge_settled(w);
		if (i == n - 1)
			set_hot_key(w->key);
	}
	pthread_mutex_unlock(&model_mutex);
}

/* A write that will never be committed. */
void
history_dead(WriteId id)
{
	Write	   *w;

	pthread_mutex_lock(&model_mutex);
	w = model_write(id);
	w->state = WRITE_DEAD;
	w->done_at = now_ns();
	if (w->seen)
		judge_settled(w);
	pthread_mutex_unlock(&model_mutex);
}

int64_t
model_old_since(const Key *key, Version version)
{
	int64_t		since = INT64_MAX;

	for (WriteId id = key->newest_done; id != 0; id = model_write(id)->older_done)
	{
		Write	   *w = model_write(id);

		if (w->version <= version)
			break;
		if (w->state == WRITE_DONE && w->done_at < since)
			since = w->done_at;
	}
	return since;
}

int64_t
history_age(const Bound *bound, const Seen *seen)
{
	int64_t		since = INT64_MAX;

	if (seen->version >= bound->newest)
		return 0;
	pthread_mutex_lock(&model_mutex);
	since = model_old_since(&model_keys[bound->key], seen->version);
	pthread_mutex_unlock(&model_mutex);
	return since < bound->sent_at ? bound->sent_at - since : 0;
}

int
history_hot_key(int table)
{
	return atomic_load_explicit(&model_tables[table].hot_key, memory_order_relaxed);
}

/* Must be called before the read is sent. */
void
history_bound(int key, Bound *bound)
{
	Key		   *k = &model_keys[key];

	pthread_mutex_lock(&model_mutex);
	bound->key = key;
	bound->direct = false;
	bound->committed = k->committed;
	bound->committed_at = k->committed_at;
	bound->returned = k->returned;
	bound->returned_at = k->returned_at;
	bound->shape = model_tables[TABLE_OF(key)].shape_known;
	bound->window = model_tables[TABLE_OF(key)].window;
	bound->sent_at = now_ns();
	pthread_mutex_unlock(&model_mutex);
}

/*
 * The same for a read that goes to a cache server by itself.  What a COMMIT
 * has waited for is delivered with its answer.
 */
void
history_bound_direct(int key, Cache cache, Bound *bound)
{
	Key		   *k = &model_keys[key];

	pthread_mutex_lock(&model_mutex);
	*bound = (Bound) {
		.key = key, .direct = true, .newest = k->committed,
		.committed = k->delivered[cache], .committed_at = k->delivered_at[cache]
	};
	bound->sent_at = now_ns();
	pthread_mutex_unlock(&model_mutex);
}

Delivery
history_delivery_begins(void)
{
	Delivery	result;

	pthread_mutex_lock(&model_mutex);
	for (int key = 1; key <= ntables * options.keys; key++)
		model_keys[key].leaving = model_keys[key].committed;
	result = (Delivery) {.life = life, .begun_at = now_ns()};
	pthread_mutex_unlock(&model_mutex);
	return result;
}

void
history_delivered(Delivery delivery)
{
	int64_t		now;

	pthread_mutex_lock(&model_mutex);
	now = now_ns();
	for (Cache cache = 0; cache < CACHES; cache++)
	{
		if (delivery.life != life || delivery.begun_at < noticed_at[cache])
			continue;
		for (int key = 1; key <= ntables * options.keys; key++)
		{
			Key		   *k = &model_keys[key];

			if (k->leaving > k->delivered[cache])
			{
				k->delivered[cache] = k->leaving;
				k->delivered_at[cache] = now;
			}
		}
	}
	pthread_mutex_unlock(&model_mutex);
}

void
history_goes_back(Cache cache)
{
	pthread_mutex_lock(&model_mutex);
	noticed_at[cache] = now_ns() + NOTICED_NS;
	for (int key = 1; key <= ntables * options.keys; key++)
		model_keys[key].delivered[cache] = 0;
	pthread_mutex_unlock(&model_mutex);
}

/* The next shape, about to be sent. */
int
history_shape_next(int table)
{
	int			shape;

	pthread_mutex_lock(&model_mutex);
	shape = ++model_tables[table].shape_sent;
	pthread_mutex_unlock(&model_mutex);
	return shape;
}

void
history_shape_done(int table, int shape)
{
	pthread_mutex_lock(&model_mutex);
	if (shape > model_tables[table].shape_known)
		model_tables[table].shape_known = shape;
	pthread_mutex_unlock(&model_mutex);
}

/*
 * The shape after an outage; 0 for a table without the column.  Numbers are
 * not used again, so the next one that fits the parity is as good.
 */
void
history_shape_truth(int table, int shape)
{
	pthread_mutex_lock(&model_mutex);
	if (shape != 0)
		model_tables[table].shape_known = shape;
	else
	{
		model_tables[table].shape_sent += model_tables[table].shape_sent % 2;
		model_tables[table].shape_known = model_tables[table].shape_sent;
	}
	pthread_mutex_unlock(&model_mutex);
}

void
history_window_moves(int table, bool open)
{
	pthread_mutex_lock(&model_mutex);
	if (open != (model_tables[table].window % 2 == 1))
		model_tables[table].window++;
	pthread_mutex_unlock(&model_mutex);
}

/* Might a read with this bound have met a table that is not attached? */
bool
history_in_window(const Bound *bound)
{
	bool		result;

	pthread_mutex_lock(&model_mutex);
	result = bound->window % 2 == 1 ||
		model_tables[TABLE_OF(bound->key)].window != bound->window;
	pthread_mutex_unlock(&model_mutex);
	return result;
}

void
history_timeline(uint32_t now)
{
	pthread_mutex_lock(&model_mutex);
	same_timeline = timeline == now;
	timeline = now;
	pthread_mutex_unlock(&model_mutex);
}

/* The table has gone back to before a version that must not be lost. */
static void
lost(const char *kind, const char *why, int key, Version version, int64_t at,
	 Version truth, bool absent)
{
	report_violation(kind, "key %d: version %lld.%u %s at %.3f ms, but after the outage the "
					 "table has %s %lld.%u", key, (long long) VERSION_COUNT(version),
					 VERSION_WRITE(version), why, MS(at), absent ? "a deletion" : "version",
					 (long long) VERSION_COUNT(truth), VERSION_WRITE(truth));
}

void
history_may_lose(void)
{
	pthread_mutex_lock(&model_mutex);
	may_lose = true;
	pthread_mutex_unlock(&model_mutex);
}

/*
 * After an outage: what the table says.  With synchronous_commit on, nothing
 * that was answered or seen may be missing; with it off, the last moments may,
 * but not what a cache server has shown: that was durable before.  And all may be
 * missing that a backup or another server lacks.
 */
void
history_truth(int key, Version version, bool absent)
{
	Key		   *k = &model_keys[key];

	pthread_mutex_lock(&model_mutex);
	if (options.async == 0 && !may_lose && version < k->committed)
		lost("lost", "was committed", key, k->committed, k->committed_at, version, absent);
	else if (options.async == 0 && !may_lose && version < k->returned)
		lost("lost", "had been returned by a read", key, k->returned, k->returned_at, version,
			 absent);
	else if (same_timeline && !may_lose && version < k->shown)
		lost("ghost", "had been read from a cache server", key, k->shown, k->shown_at, version,
			 absent);
	if (version < k->committed)
		gone_back++;
	k->truth = version;
	k->committed = k->returned = version;
	k->committed_at = k->returned_at = now_ns();
	k->shown = 0;
	memset(k->delivered, 0, sizeof(k->delivered));	/* it may have been lost */
	free(k->replays);
	k->replays = NULL;
	k->nreplays = 0;
	k->ncorrections = 0;
	pthread_mutex_unlock(&model_mutex);
}

/*
 * After the truth of all keys: settle every write whose fate was open.  A
 * write that the table does not show, and that is not older than what it
 * shows, is lost, and its value must never be seen again.
 */
void
history_truth_end(void)
{
	pthread_mutex_lock(&model_mutex);
	life++;
	may_lose = false;
	for (WriteId id = 1; id <= model_writes; id++)
	{
		Write	   *w = model_write(id);
		Key		   *k = &model_keys[w->key];
		bool		open = w->state == WRITE_OPEN || w->state == WRITE_SENT;

		if (w->state == WRITE_DEAD)
			continue;
		if (id == VERSION_WRITE(k->truth))
			w->version = k->truth;
		else if (w->state == WRITE_OPEN || w->version == 0 || w->version > k->truth)
		{
			w->state = WRITE_DEAD;
			w->done_at = now_ns();
			continue;
		}
		w->state = WRITE_DONE;
		if (open)
		{
			w->done_at = now_ns();
			link_done(k, id);
		}
	}
	pthread_mutex_unlock(&model_mutex);
}

/* To be asked at the end. */
int
history_gone_back(void)
{
	return gone_back;
}
