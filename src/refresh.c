/*-------------------------------------------------------------------------
 *
 * refresh.c
 *	  Refresh on change, on the sender's side: a job for each changed key.
 *
 * See refresh.h for the rules.  Why a document that shows a commit which its
 * token does not know of may be stored: the token was clear, so a change that
 * is not in the document has raised its stripe after that, and written its
 * record after that; so it is still to be handed out, or has joined the job, or
 * has become a flush, which ends jobs that have not stored yet.  What the
 * document does show is before the location that the refresher took after its
 * snapshot, and the cache's marker covers that before it is sent (fill.c).
 *
 * Jobs are here; what is sent for them is in refresh_send.c.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "postmaster/interrupt.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "debug.h"
#include "guc.h"
#include "refresh_jobs.h"
#include "refresh_queue.h"

#define MAX_JOBS		2048	/* then changed keys are deleted at once */

void
refresh_begin(Sender *sender)
{
	HASHCTL		ctl = {0};
	Refresh    *refresh = MemoryContextAllocZero(sender->epoch_context, sizeof(Refresh));

	ctl.keysize = NAMED_KEY_SIZE;
	ctl.entrysize = sizeof(RefreshJob);
	ctl.hcxt = sender->epoch_context;
	refresh->jobs = hash_create("cachekit refreshes", 64, &ctl,
								HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	for (int i = 0; i < REFRESH_STATES; i++)
		dlist_init(&refresh->list[i]);
	/* answers to an earlier epoch are none to this one */
	if (!pg_strong_random(&refresh->request, sizeof(refresh->request)))
		elog(ERROR, "could not generate a random number");
	sender->refresh = refresh;
	sender->traces_tell = false;
	refresh_queue_clear(sender->place);
}

/* The epoch, or the sender, is over: the feed will bring all of it again. */
void
refresh_end(Sender *sender)
{
	sender->refresh = NULL;
	refresh_queue_clear(sender->place);
	pg_atomic_write_u32(&sender->server->refreshes_pending, 0);
}

/* ---------- jobs ---------- */

static RefreshJob *
find_job(const Sender *sender, const char *named_key)
{
	if (refresh_is_idle(sender))
		return NULL;
	return hash_search(sender->refresh->jobs, named_key, HASH_FIND, NULL);
}

void
refresh_move(Sender *sender, RefreshJob *job, RefreshState state)
{
	dlist_delete(&job->node);
	job->state = state;
	dlist_push_tail(&sender->refresh->list[state], &job->node);
}

static TimestampTz
deadline(void)
{
	return GetCurrentTimestamp() + ck_refresh_timeout * INT64CONST(1000);
}

/* It is to be deleted: at once, or when what is in flight has been answered. */
static void
doom(Sender *sender, RefreshJob *job)
{
	if (job->state == REFRESH_UNPROBED || job->state == REFRESH_UNASKED ||
		job->state == REFRESH_LOADING)
		refresh_move(sender, job, REFRESH_DOOMED);
	else if (job->state != REFRESH_DOOMED)
		job->doomed = true;
}

void
refresh_fall_back(Sender *sender, RefreshJob *job)
{
	server_count(sender->server, SERVER_REFRESHES_FALLEN_BACK, 1);
	refresh_move(sender, job, REFRESH_DOOMED);
}

/* All changes that have come so far end with what is done now. */
void
refresh_cover_all(RefreshJob *job)
{
	if (job->covered == NIL)
		job->covered = job->waiting;
	else
	{
		job->covered = list_concat(job->covered, job->waiting);
		list_free(job->waiting);
	}
	job->waiting = NIL;
	job->again = false;
}

static void
release(Sender *sender, List **transactions)
{
	ListCell   *cell;

	foreach(cell, *transactions)
	{
		FeedTransaction *transaction = lfirst(cell);

		if (--transaction->beside == 0)
			feed_release(sender->feed, transaction);
	}
	list_free(*transactions);
	*transactions = NIL;
}

/* Stored or deleted, and traced. */
void
refresh_end_job(Sender *sender, RefreshJob *job, bool stored)
{
	release(sender, &job->covered);
	if (job->again && CK_GUARD("refresh-again"))
	{
		job->again = false;
		job->until = job->again_until;
		job->ask_at = 0;
		if (job->doomed)
			refresh_move(sender, job, REFRESH_DOOMED);
		else
			refresh_move(sender, job, stored || job->absent ? REFRESH_UNASKED : REFRESH_UNPROBED);
		return;
	}
	release(sender, &job->waiting);
	dlist_delete(&job->node);
	(void) hash_search(sender->refresh->jobs, job->named_key, HASH_REMOVE, NULL);
}

/* ---------- changes ---------- */

static void
join(Sender *sender, RefreshJob *job, FeedTransaction *transaction)
{
	MemoryContext old;

	if (job->state != REFRESH_UNPROBED && job->state != REFRESH_PROBING &&
		job->state != REFRESH_UNASKED && job->state != REFRESH_DOOMED && !job->again)
	{
		job->again = true;
		job->again_until = deadline();
	}
	if (!CK_GUARD("refresh-hold") ||
		(job->waiting != NIL && llast(job->waiting) == transaction))
		return;
	old = MemoryContextSwitchTo(sender->epoch_context);
	job->waiting = lappend(job->waiting, transaction);
	MemoryContextSwitchTo(old);
	transaction->held = true;
	transaction->beside++;
}

static bool
copy_key(char *to, const char *named, int len)
{
	if (len >= NAMED_KEY_SIZE)
		return false;
	memcpy(to, named, len);
	to[len] = '\0';
	return true;
}

/* Long keys are digests (key.h): nobody can tell which row they are of. */
static bool
is_digest(const char *named_key)
{
	const char *key = strchr(named_key, ':');

	return key == NULL || key[1] == '#';
}

static RefreshJob *
new_job(Sender *sender, const char *named_key, Oid relid, bool absent)
{
	Refresh    *refresh = sender->refresh;
	RefreshJob *job = hash_search(refresh->jobs, named_key, HASH_ENTER, NULL);

	memset((char *) job + NAMED_KEY_SIZE, 0, sizeof(RefreshJob) - NAMED_KEY_SIZE);
	job->relid = relid;
	job->absent = absent;
	job->until = deadline();
	job->state = absent ? REFRESH_UNASKED : REFRESH_UNPROBED;
	dlist_push_tail(&refresh->list[job->state], &job->node);
	return job;
}

/* False: it has to be deleted like any other. */
static bool
add_key(Sender *sender, FeedTransaction *transaction, Oid relid, bool absent,
		const char *named, int len)
{
	char		named_key[NAMED_KEY_SIZE];
	char		key[256];
	RefreshJob *job;

	if (!copy_key(named_key, named, len))
		return false;
	job = find_job(sender, named_key);
	if (job == NULL)
	{
		sender_named(sender, named_key, key, sizeof(key));
		if (!sender_has_key(sender, key, strlen(key)))
			return false;		/* another host's: nor will it be deleted here */
		if (hash_get_num_entries(sender->refresh->jobs) >= MAX_JOBS ||
			ShutdownRequestPending || sender->ready_since == 0 || ck_refresh_timeout == 0 ||
			is_digest(named_key) || flush_is_pending(sender, named_key))
		{
			server_count(sender->server, SERVER_REFRESHES_FALLEN_BACK, 1);
			return false;
		}
		job = new_job(sender, named_key, relid, absent);
	}
	else if (job->relid != relid)
	{
		/* the name has passed to another relation: whose document would it be? */
		job->relid = relid;
		doom(sender, job);
	}
	join(sender, job, transaction);
	return true;
}

void
refresh_add(Sender *sender, FeedTransaction *transaction)
{
	const char *at = transaction->refreshes.data;
	const char *end = at + transaction->refreshes.len;

	while (at < end)
	{
		Oid			relid;
		bool		absent = at[sizeof(Oid)] != 0;
		const char *named = at + sizeof(Oid) + 2;
		int			len = (uint8) named[-1];

		memcpy(&relid, at, sizeof(Oid));
		if (!add_key(sender, transaction, relid, absent, named, len))
			feed_add_key(sender->feed, transaction, named, len);
		at = named + len;
	}
}

bool
refresh_join(Sender *sender, FeedTransaction *transaction, const char *named, int len)
{
	char		named_key[NAMED_KEY_SIZE];
	RefreshJob *job;

	if (refresh_is_idle(sender) || !copy_key(named_key, named, len) ||
		(job = find_job(sender, named_key)) == NULL)
		return false;
	doom(sender, job);
	join(sender, job, transaction);
	return true;
}

void
refresh_flushed(Sender *sender, const char *entity)
{
	static const RefreshState states[] = {
		REFRESH_UNPROBED, REFRESH_PROBING, REFRESH_UNASKED, REFRESH_LOADING
	};
	Size		len = strlen(entity);
	dlist_mutable_iter iter;

	if (refresh_is_idle(sender) || !CK_GUARD("refresh-flush"))
		return;
	for (int i = 0; i < lengthof(states); i++)
	{
		dlist_foreach_modify(iter, &sender->refresh->list[states[i]])
		{
			RefreshJob *job = dlist_container(RefreshJob, node, iter.cur);

			if (len == 0 ||
				(strncmp(job->named_key, entity, len) == 0 && job->named_key[len] == ':'))
				doom(sender, job);
		}
	}
}

bool
refresh_is_pending(const Sender *sender, const char *named_key)
{
	return find_job(sender, named_key) != NULL;
}

bool
refresh_is_idle(const Sender *sender)
{
	return sender->refresh == NULL || hash_get_num_entries(sender->refresh->jobs) == 0;
}

/* ---------- the document ---------- */

RefreshJob *
refresh_answered(Sender *sender, const FillHead *head)
{
	RefreshJob *job = find_job(sender, head->named_key);

	if (job == NULL || job->state != REFRESH_LOADING || job->request != head->request)
		return NULL;
	if (head->kind == FILL_REFRESH && head->relid == job->relid)
		return job;
	if (head->kind == FILL_REFRESH_AGAIN)
		refresh_refused(sender, job);
	else
		refresh_fall_back(sender, job);
	return NULL;
}

void
refresh_refused(Sender *sender, RefreshJob *job)
{
	job->ask_at = GetCurrentTimestamp() + ASK_AGAIN_US;
	if (job->ask_at >= job->until)
		refresh_fall_back(sender, job);
	else
		refresh_move(sender, job, REFRESH_UNASKED);
}

void
refresh_failed(Sender *sender, RefreshJob *job)
{
	refresh_fall_back(sender, job);
}

void
refresh_sent(Sender *sender, RefreshJob *job, bool covers_all)
{
	if (covers_all)
		refresh_cover_all(job);
	refresh_move(sender, job, REFRESH_STORING);
}

/* From now on the traces tell whether the data have gone back. */
void
refresh_stored(Sender *sender, RefreshJob *job)
{
	CK_STOP("refresh-stored");
	server_count(sender->server, SERVER_REFRESHES, 1);
	sender->traces_tell = true;
	refresh_move(sender, job, REFRESH_STORED);
}
