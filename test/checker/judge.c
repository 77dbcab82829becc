/*
 * judge.c
 *		Decides whether a read returned what it may, by the model.
 *
 * One key is a register whose versions are in a known order, that in which
 * they were committed.  What has to hold for such a history to be
 * linearizable is in README.md, with the proof; here each of these rules has
 * its place.  All but one case is decided when the answer of a read is there.
 *
 * The one case: a read has returned what a COMMIT on its way makes, and then
 * that COMMIT fails.  If the version was seen, nobody may have seen it.  If it
 * was a deletion, another one may explain the read, a newer one, and what
 * others saw must fit that.  So while such a read hangs on a deletion whose
 * fate is open, reads of its key are kept, and judged again if it dies.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "history_model.h"
#include "report.h"

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
			 VERSION_WRITE(v) != 0 && model_write(VERSION_WRITE(v))->absent ?
			 " (a deletion)" : "",
			 !by_commit ? "had been returned by another read" :
			 b->direct ? "had been delivered" : "was committed",
			 MS(by_commit ? b->committed_at : b->returned_at));
	return buffer;
}

static Version
least_of(const Bound *b)
{
	return b->committed > b->returned ? b->committed : b->returned;
}

/*
 * The oldest deletion that explains an absent row: not older than "least", and
 * on its way to being committed before the answer.  The oldest, because later
 * reads are held to it, and this read may have seen that one.
 */
static Write *
oldest_absence(const Key *k, Version least, int64_t answered_at)
{
	Write	   *fits = NULL;

	for (WriteId id = k->newest_absence; id != 0; id = model_write(id)->older_absence)
	{
		Write	   *w = model_write(id);

		if (w->version < least)
			break;
		if ((w->state == WRITE_SENT || w->state == WRITE_DONE) &&
			w->sent_at < answered_at && w->version > w->least)
			fits = w;
	}
	return fits;
}

static void
raise_returned(Key *k, Version version, int64_t at)
{
	if (version > k->returned)
	{
		k->returned = version;
		k->returned_at = at;
	}
}

/* ---------- reads that may have to be judged again ---------- */

static void
remember(Key *k, const Bound *b, Version version, bool absent, int64_t answered_at,
		 const char *how, int session)
{
	Replay	   *r;

	if ((k->nreplays & (k->nreplays - 1)) == 0)	/* full: a power of two, or none */
	{
		k->replays = realloc(k->replays, (size_t) (k->nreplays == 0 ? 1 : 2 * k->nreplays) *
							 sizeof(Replay));
		if (k->replays == NULL)
			report_fatal("out of memory");
	}
	r = &k->replays[k->nreplays++];
	*r = (Replay) {.bound = *b, .answered_at = answered_at, .version = version,
		.absent = absent, .session = session};
	snprintf(r->how, sizeof(r->how), "%s", how);
}

/* What a read returned is newer than reads that are under way took for granted. */
static void
correct(Key *k, int64_t answered_at, Version version)
{
	k->corrections = realloc(k->corrections, (size_t) (k->ncorrections + 1) * sizeof(Correction));
	if (k->corrections == NULL)
		report_fatal("out of memory");
	k->corrections[k->ncorrections++] = (Correction) {answered_at, version};
}

static void
take_correction(Bound *b, int64_t answered_at, Version version)
{
	if (!b->direct && answered_at < b->sent_at && version > b->returned)
	{
		b->returned = version;
		b->returned_at = answered_at;
	}
}

/* Forget the reads that are kept, unless one still hangs on an open fate. */
static void
forget_replays(Key *k)
{
	for (int i = 0; i < k->nreplays; i++)
		if (k->replays[i].absent &&
			model_write(VERSION_WRITE(k->replays[i].version))->state == WRITE_SENT)
			return;
	free(k->replays);
	k->replays = NULL;
	k->nreplays = 0;
}

/* What was committed, or is on its way, must be newer than what a read returned before. */
static void
check_writes_after(const Replay *r)
{
	for (WriteId id = 1; id <= model_writes; id++)
	{
		Write	   *w = model_write(id);

		if (w->key != r->bound.key || w->sent_at <= r->answered_at ||
			(w->state != WRITE_SENT && w->state != WRITE_DONE))
			continue;
		if (w->least < r->version)
			w->least = r->version;
		if (w->version != 0 && w->version <= r->version && (w->seen || w->state == WRITE_DONE))
			report_violation("order", "key %d: version %lld.%u, whose COMMIT was sent at %.3f ms, "
							 "is not newer than the deletion that a read by session %d must have "
							 "seen before", w->key, (long long) VERSION_COUNT(w->version), id,
							 MS(w->sent_at), r->session);
	}
}

/* A deletion has died that a read was explained by. */
static void
judge_again(Key *k)
{
	for (int i = 0; i < k->nreplays; i++)
	{
		Replay	   *r = &k->replays[i];
		Bound	   *b = &r->bound;
		char		saw[80];
		char		but[160];

		/* they are in the order of their answers */
		for (int j = 0; j < i; j++)
			take_correction(b, k->replays[j].answered_at, k->replays[j].version);
		if (r->absent)
		{
			Write	   *w = oldest_absence(k, least_of(b), r->answered_at);

			if (w == NULL)
			{
				complain("rolled back", b, r->how, r->session, "no row",
						 "the deletion that it may have seen was never committed");
				continue;
			}
			w->seen = true;
			if (w->version == r->version)
				continue;
			r->version = w->version;
			raise_returned(k, w->version, r->answered_at);
			correct(k, r->answered_at, w->version);
			check_writes_after(r);
		}
		else if (r->version < b->returned)
		{
			snprintf(saw, sizeof(saw), "version %lld.%u", (long long) VERSION_COUNT(r->version),
					 VERSION_WRITE(r->version));
			complain("backwards", b, r->how, r->session, saw,
					 describe_bound(b, false, but, sizeof(but)));
		}
	}
}

void
judge_settled(const Write *write)
{
	Key		   *k = &model_keys[write->key];

	if (write->state == WRITE_DEAD && !write->absent)
		report_violation("rolled back", "key %d: a read returned version %lld.%u before writer %d "
						 "was told, at %.3f ms, that it is not committed", write->key,
						 (long long) VERSION_COUNT(write->version), VERSION_WRITE(write->version),
						 write->writer, MS(write->done_at));
	else if (write->state == WRITE_DEAD)
		judge_again(k);
	forget_replays(k);
}

/* ---------- one read ---------- */

static bool
judge_absent(const Bound *b, const char *how, int session)
{
	Key		   *k = &model_keys[b->key];
	int64_t		now = now_ns();
	Write	   *fits = oldest_absence(k, least_of(b), now);
	char		but[160];

	if (fits == NULL)
	{
		complain(b->committed >= b->returned ? "stale" : "backwards", b, how, session,
				 "no row",
				 describe_bound(b, b->committed >= b->returned, but, sizeof(but)));
		return false;
	}
	fits->seen = true;
	if (k->nreplays > 0 || fits->state == WRITE_SENT)
		remember(k, b, fits->version, true, now, how, session);
	raise_returned(k, fits->version, now);
	return true;
}

static bool
judge_shape(const Bound *b, const Seen *seen, const char *how, int session)
{
	int			shape_sent = model_tables[TABLE_OF(b->key)].shape_sent;
	int		   *shape_known = &model_tables[TABLE_OF(b->key)].shape_known;
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

/* What is wrong with a document; NULL when nothing is.  "but" says why. */
static const char *
fault_of(const Bound *b, const Seen *seen, const Write *w, char *but, size_t size)
{
	if (seen->id != b->key)
	{
		snprintf(but, size, "the document is that of key %d", seen->id);
		return "wrong key";
	}
	if (seen->pad != seen->version)
	{
		snprintf(but, size, "its filler is that of version %lld", (long long) seen->pad);
		return "torn";
	}
	if (w == NULL || w->key != b->key || w->absent ||
		(w->version != 0 && w->version != seen->version))
	{
		snprintf(but, size, "nobody wrote that");
		return "unknown value";
	}
	if (w->state == WRITE_OPEN)
	{
		snprintf(but, size, "writer %d has not sent its COMMIT", w->writer);
		return "uncommitted";
	}
	if (w->state == WRITE_DEAD)
	{
		snprintf(but, size, "writer %d never committed it (known at %.3f ms)",
				 w->writer, MS(w->done_at));
		return "rolled back";
	}
	if (seen->version < b->committed)
	{
		describe_bound(b, true, but, size);
		return "stale";
	}
	if (seen->version < b->returned)
	{
		describe_bound(b, false, but, size);
		return "backwards";
	}
	if (seen->version <= w->least)
	{
		snprintf(but, size, "version %lld.%u was known when its COMMIT was sent",
				 (long long) VERSION_COUNT(w->least), VERSION_WRITE(w->least));
		return "order";
	}
	return NULL;
}

static bool
judge_present(const Bound *b, const Seen *seen, ReadRule rule, const char *how, int session)
{
	Key		   *k = &model_keys[b->key];
	WriteId		id = VERSION_WRITE(seen->version);
	Write	   *w = id != 0 && id <= model_writes ? model_write(id) : NULL;
	int64_t		now = now_ns();
	char		but[200];
	const char *kind = fault_of(b, seen, w, but, sizeof(but));

	if (kind != NULL)
	{
		char		saw[200];

		snprintf(saw, sizeof(saw), "version %lld.%u", (long long) VERSION_COUNT(seen->version),
				 id);
		if (w != NULL && w->state == WRITE_DONE)
			snprintf(saw + strlen(saw), sizeof(saw) - strlen(saw),
					 " (of writer %d, committed at %.3f ms)",
					 w->writer, MS(w->done_at));
		complain(kind, b, how, session, saw, but);
		return false;
	}
	w->seen = true;
	w->version = seen->version;
	if (k->nreplays > 0)
		remember(k, b, seen->version, false, now, how, session);
	raise_returned(k, seen->version, now);
	if (rule == READ_DIRECT && seen->version > k->shown)
	{
		k->shown = seen->version;
		k->shown_at = now;
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
	Bound		b = *bound;
	Key		   *k = &model_keys[b.key];
	bool		good;

	pthread_mutex_lock(&model_mutex);
	for (int i = 0; i < k->ncorrections; i++)
		take_correction(&b, k->corrections[i].answered_at, k->corrections[i].version);
	if (!seen->absent)
		good = judge_present(&b, seen, rule, how, session);
	else if (rule == READ_STRICT)
		good = judge_absent(&b, how, session);
	else
		good = true;
	pthread_mutex_unlock(&model_mutex);
	return good;
}

/* ---------- many documents of one moment ---------- */

/* Its place in a set; -1 if it is not in there. */
static int
place_of(const Bound *bounds, int n, int key)
{
	for (int i = 0; i < n; i++)
		if (bounds[i].key == key)
			return i;
	return -1;
}

/* Might an absent row be that of a deletion which is as new as "version"? */
static bool
absent_since(const Key *k, Version version)
{
	return oldest_absence(k, version, now_ns()) != NULL;
}

/*
 * The set shows a write of this transaction, or a newer one of its key: then
 * it must show, for each key of the set, what the transaction wrote there, or
 * what is newer.
 */
static bool
whole_commit(WriteId shown, const Bound *bounds, const Seen *seen, int n,
			 const char *how, int session)
{
	Write	   *first = model_write(shown);

	for (WriteId id = first->same_commit; id != 0 && id != shown; id = model_write(id)->same_commit)
	{
		Write	   *w = model_write(id);
		int			place = place_of(bounds, n, w->key);

		if (place < 0 || (seen[place].absent ? absent_since(&model_keys[w->key], w->version) :
						  seen[place].version >= w->version))
			continue;
		report_violation("torn set", "%s by session %d shows version %lld.%u of key %d, but of "
						 "key %d not what that transaction wrote, version %lld.%u; sent at %.3f ms",
						 how, session, (long long) VERSION_COUNT(first->version), shown,
						 first->key, w->key, (long long) VERSION_COUNT(w->version), id,
						 MS(bounds[0].sent_at));
		return false;
	}
	return true;
}

/*
 * The documents of a set, each of which was right, must have been there at one
 * moment: after the COMMITs of all that it shows were sent, before the answer
 * to any COMMIT that made one of them old; and no transaction may be shown by
 * half.  An absent row may be that of any deletion that fits, so that it only
 * counts where none does.
 */
bool
history_judge_set(const Bound *bounds, const Seen *seen, int n, const char *how, int session)
{
	int			youngest = -1;	/* the document that came last */
	int			oldest = -1;	/* that which was old first */
	int64_t		since = INT64_MAX;
	bool		good = true;

	pthread_mutex_lock(&model_mutex);
	for (int i = 0; i < n && good; i++)
	{
		WriteId		id = VERSION_WRITE(seen[i].version);
		Key		   *k = &model_keys[bounds[i].key];
		int64_t		old;

		if (seen[i].absent)
			continue;
		good = whole_commit(id, bounds, seen, n, how, session);

		/* with it, what came before; the bounds of each key are enough for what was answered */
		for (id = k->newest_done; id != 0 && good; id = model_write(id)->older_done)
		{
			Write	   *w = model_write(id);

			if (w->state != WRITE_DONE || w->version >= seen[i].version)
				continue;
			if (w->done_at < bounds[i].sent_at)
				break;
			good = whole_commit(id, bounds, seen, n, how, session);
		}

		if (youngest < 0 || model_write(VERSION_WRITE(seen[i].version))->sent_at >
			model_write(VERSION_WRITE(seen[youngest].version))->sent_at)
			youngest = i;
		old = model_old_since(k, seen[i].version);
		if (old < since)
		{
			since = old;
			oldest = i;
		}
	}
	if (good && oldest >= 0 &&
		since < model_write(VERSION_WRITE(seen[youngest].version))->sent_at)
	{
		Write	   *w = model_write(VERSION_WRITE(seen[youngest].version));

		report_violation("two moments", "%s by session %d shows version %lld.%u of key %d, whose "
						 "COMMIT was sent at %.3f ms, and version %lld.%u of key %d, which was old "
						 "at %.3f ms; sent at %.3f ms", how, session,
						 (long long) VERSION_COUNT(w->version), VERSION_WRITE(w->version), w->key,
						 MS(w->sent_at), (long long) VERSION_COUNT(seen[oldest].version),
						 VERSION_WRITE(seen[oldest].version), bounds[oldest].key, MS(since),
						 MS(bounds[0].sent_at));
		good = false;
	}
	pthread_mutex_unlock(&model_mutex);
	return good;
}
