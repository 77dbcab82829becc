/*-------------------------------------------------------------------------
 *
 * refresh_send.c
 *	  Refresh on change: what a sender sends for its jobs.
 *
 * Probes, questions to the refresher, and what a job ends with: the trace of its
 * link, and before that, unless a document was stored, a deletion.  All of them
 * are sent for many jobs at a time.  The documents are sent by fill.c.
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

#define PROBE_BATCH		128
#define END_BATCH		500
#define LOOK_US			5000	/* between looks at deadlines */

/* ---------- probes ---------- */

typedef struct ProbeCall
{
	Sender	   *sender;
	int			n;
	RefreshJob *job[PROBE_BATCH];
} ProbeCall;

static void
on_probed(void *arg, LinkStatus status, const LinkValue *values, int n, const char *text)
{
	ProbeCall  *call = arg;
	Sender	   *sender = call->sender;

	sender->reads_in_flight--;
	for (int i = 0; i < call->n && !sender->faulted && status != LINK_LOST; i++)
	{
		RefreshJob *job = call->job[i];

		if (status != LINK_OK || n != call->n)
			refresh_fall_back(sender, job);
		else if (values[i].bytes == NULL || job->doomed)
		{
			/* as it always was; on Memcached it may break a lease */
			job->doomed = false;
			refresh_move(sender, job, REFRESH_DOOMED);
		}
		else
			refresh_move(sender, job, REFRESH_UNASKED);
	}
	pfree(call);
}

/* The full name of a job's key, in memory that lasts while the loop comes round. */
static char *
full_key(Sender *sender, const RefreshJob *job)
{
	char	   *key = palloc(256);

	sender_named(sender, job->named_key, key, 256);
	return key;
}

static int
link_of(Sender *sender, const RefreshJob *job)
{
	return sender_link_of(sender, job->named_key, strlen(job->named_key));
}

/* By the key's own link: after the fills that are on their way. */
static void
send_probe(Sender *sender, int link, ProbeCall *call)
{
	const char *keys[PROBE_BATCH];
	Size		lens[PROBE_BATCH];

	for (int i = 0; i < call->n; i++)
	{
		keys[i] = full_key(sender, call->job[i]);
		lens[i] = strlen(keys[i]);
		refresh_move(sender, call->job[i], REFRESH_PROBING);
	}
	sender->reads_in_flight++;
	sender->driver->exists(sender->link[link], keys, lens, call->n, on_probed, call);
}

static void
send_probes(Sender *sender)
{
	ProbeCall  *calls[MAX_LINKS] = {NULL};
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &sender->refresh->list[REFRESH_UNPROBED])
	{
		RefreshJob *job = dlist_container(RefreshJob, node, iter.cur);
		int			link = link_of(sender, job);
		ProbeCall **call = &calls[link];

		if (*call == NULL)
		{
			*call = MemoryContextAlloc(sender->epoch_context, sizeof(ProbeCall));
			(*call)->sender = sender;
			(*call)->n = 0;
		}
		if ((*call)->n < PROBE_BATCH)
			(*call)->job[(*call)->n++] = job;
	}
	for (int i = 0; i < sender->links; i++)
	{
		if (calls[i] && pool_has_room(sender) && !sender->faulted)
			send_probe(sender, i, calls[i]);
		else if (calls[i])
			pfree(calls[i]);
	}
}

/* ---------- questions to the refresher ---------- */

static bool
ask(Sender *sender, RefreshJob *job)
{
	RefreshRequest request;

	memset(&request, 0, sizeof(request));
	request.place = sender->place;
	request.dboid = sender->server->dboid;
	request.serverid = sender->server->serverid;
	request.relid = job->relid;
	request.request = job->request = ++sender->refresh->request;
	request.until = job->until;
	request.len = strlen(job->named_key);
	strcpy(request.named_key, job->named_key);
	return refresh_queue_ask(&request);
}

static void
send_questions(Sender *sender)
{
	TimestampTz now = GetCurrentTimestamp();
	dlist_mutable_iter iter;
	bool		asked = false;

	dlist_foreach_modify(iter, &sender->refresh->list[REFRESH_UNASKED])
	{
		RefreshJob *job = dlist_container(RefreshJob, node, iter.cur);

		if (job->ask_at > now && job->ask_at - now <= ASK_AGAIN_US)
			continue;
		/* what has come until now is visible to whoever is asked now */
		refresh_cover_all(job);
		if (job->until > now && ask(sender, job))
		{
			refresh_move(sender, job, REFRESH_LOADING);
			asked = true;
		}
		else
			refresh_fall_back(sender, job);
	}
	if (asked)
	{
		refresh_queue_tell(sender->server->dboid);
		CK_STOP("refresh-asked");
	}
}

/* Nobody has answered in time; or nobody will, because all of us are to end. */
static void
give_up_late(Sender *sender)
{
	static const RefreshState states[] = {REFRESH_UNPROBED, REFRESH_UNASKED, REFRESH_LOADING};
	Refresh    *refresh = sender->refresh;
	TimestampTz now = GetCurrentTimestamp();
	dlist_mutable_iter iter;

	if (sender_elapsed(refresh->looked) < LOOK_US)
		return;
	refresh->looked = now;
	for (int i = 0; i < lengthof(states); i++)
	{
		dlist_foreach_modify(iter, &refresh->list[states[i]])
		{
			RefreshJob *job = dlist_container(RefreshJob, node, iter.cur);

			if (job->until <= now || ShutdownRequestPending ||
				job->until - now > ck_refresh_timeout * INT64CONST(1000))
				refresh_fall_back(sender, job);
		}
	}
}

/* ---------- the end: traces, and with them deletions ---------- */

/* Jobs of one link that end together. */
typedef struct EndCall
{
	Sender	   *sender;
	int			n;
	int			deletions;
	RefreshJob *job[END_BATCH];
	bool		stored[END_BATCH];
	const char *key[END_BATCH]; /* of the deletions */
	Size		len[END_BATCH];
} EndCall;

static void
on_ended(void *arg)
{
	EndCall    *call = arg;

	call->sender->traces_tell = true;	/* a deletion that the position did not wait for needs it, too */
	for (int i = 0; i < call->n; i++)
		refresh_end_job(call->sender, call->job[i], call->stored[i]);
	pfree(call);
}

static void
add_to_end(Sender *sender, EndCall *call, RefreshJob *job)
{
	call->stored[call->n] = job->state == REFRESH_STORED;
	call->job[call->n++] = job;
	if (job->state == REFRESH_DOOMED)
	{
		call->key[call->deletions] = full_key(sender, job);
		call->len[call->deletions] = strlen(call->key[call->deletions]);
		call->deletions++;
		refresh_cover_all(job);
		job->doomed = false;
	}
	refresh_move(sender, job, REFRESH_ENDING);
}

static void
send_ends(Sender *sender)
{
	static const RefreshState states[] = {REFRESH_STORED, REFRESH_DOOMED};
	EndCall    *calls[MAX_LINKS] = {NULL};
	dlist_mutable_iter iter;

	if (!deliver_has_room(sender))
		return;
	for (int i = 0; i < lengthof(states); i++)
	{
		dlist_foreach_modify(iter, &sender->refresh->list[states[i]])
		{
			RefreshJob *job = dlist_container(RefreshJob, node, iter.cur);
			EndCall   **call = &calls[link_of(sender, job)];

			if (*call == NULL)
			{
				*call = MemoryContextAllocZero(sender->epoch_context, sizeof(EndCall));
				(*call)->sender = sender;
			}
			if ((*call)->n < END_BATCH)
				add_to_end(sender, *call, job);
		}
	}
	for (int i = 0; i < sender->links; i++)
	{
		if (calls[i])
			deliver_delete(sender, i, calls[i]->key, calls[i]->len, calls[i]->deletions,
						   on_ended, calls[i]);
	}
}

void
refresh_run(Sender *sender)
{
	if (!refresh_is_idle(sender) && !sender->faulted)
	{
		give_up_late(sender);
		if (!sender->holding)
		{
			send_probes(sender);
			send_questions(sender);
			send_ends(sender);
		}
	}
	pg_atomic_write_u32(&sender->server->refreshes_pending,
						(uint32) hash_get_num_entries(sender->refresh->jobs));
}
