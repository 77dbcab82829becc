/*-------------------------------------------------------------------------
 *
 * flush.c
 *	  Flushes of whole entities, beside the stream of deletions.
 *
 * A flush starts when no fill is in flight (a SET could land behind the cursor);
 * from then on until it ends, the entity is neither read nor filled there.  The
 * position passes it, the restart point does not.  Many flushes at once become
 * one of everything.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "debug.h"
#include "key.h"
#include "refresh.h"
#include "sender.h"

#define MAX_FLUSHES			64	/* of single entities; then everything */
#define FLUSHES_AT_ONCE		2

/* A flush of an entity, or of all, beside the stream. */
typedef struct FlushJob
{
	dlist_node	node;
	char		entity[KEY_MAX_ENTITY_NAME + 1];	/* encoded; "": everything */
	bool		started;
	bool		finished;
	List	   *transactions;	/* of FeedTransaction *, held until it is finished */
} FlushJob;

void
flush_begin(Sender *sender)
{
	sender->flushes_running = 0;
	dlist_init(&sender->flushes);
}

static void
merge_transactions(Sender *sender, FlushJob *job, List *more)
{
	MemoryContext old = MemoryContextSwitchTo(sender->epoch_context);

	job->transactions = list_concat(job->transactions, more);
	MemoryContextSwitchTo(old);
}

static FlushJob *
new_job(Sender *sender, const char *entity)
{
	FlushJob   *job = MemoryContextAllocZero(sender->epoch_context, sizeof(FlushJob));

	strlcpy(job->entity, entity, sizeof(job->entity));
	dlist_push_tail(&sender->flushes, &job->node);
	return job;
}

/* One flush of everything takes the place of all that have not started. */
static FlushJob *
job_of_everything(Sender *sender)
{
	FlushJob   *everything = new_job(sender, "");
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &sender->flushes)
	{
		FlushJob   *job = dlist_container(FlushJob, node, iter.cur);

		if (job == everything || job->started)
			continue;
		merge_transactions(sender, everything, job->transactions);
		list_free(job->transactions);
		dlist_delete(&job->node);
		pfree(job);
	}
	return everything;
}

/* The flush that a change of this entity can wait for: one that has not started. */
static FlushJob *
obtain_job(Sender *sender, const char *entity)
{
	dlist_iter	iter;
	int			waiting = 0;

	dlist_foreach(iter, &sender->flushes)
	{
		FlushJob   *job = dlist_container(FlushJob, node, iter.cur);

		if (job->started)
			continue;
		if (job->entity[0] == '\0' || strcmp(job->entity, entity) == 0)
			return job;
		waiting++;
	}
	if (entity[0] == '\0' || waiting >= MAX_FLUSHES)
		return job_of_everything(sender);
	return new_job(sender, entity);
}

void
flush_add(Sender *sender, FeedTransaction *transaction, const char *entity)
{
	bool		all = sender->config.flush_method == FLUSH_METHOD_ALL;
	FlushJob   *job = obtain_job(sender, all ? "" : entity);

	refresh_flushed(sender, entity);
	if (job->transactions != NIL && llast(job->transactions) == transaction)
		return;					/* named twice, or many made one */
	if (!CK_GUARD("flush-beside"))
		transaction->parts++;
	if (!CK_GUARD("flush-hold"))
		return;
	transaction->held = true;
	transaction->beside++;
	merge_transactions(sender, job, list_make1(transaction));
}

bool
flush_is_pending(const Sender *sender, const char *named_key)
{
	dlist_iter	iter;

	dlist_foreach(iter, unconstify(dlist_head *, &sender->flushes))
	{
		FlushJob   *job = dlist_container(FlushJob, node, iter.cur);
		Size		len = strlen(job->entity);

		/* "" is answered by a flush of everything only */
		if (len == 0 || (strncmp(named_key, job->entity, len) == 0 && named_key[len] == ':'))
			return true;
	}
	return false;
}

/* A flush of everything runs alone: it takes away what another would keep. */
static bool
may_start(const Sender *sender, const FlushJob *job)
{
	return sender->flushes_running < (job->entity[0] == '\0' ? 1 : FLUSHES_AT_ONCE);
}

/* Must fills wait so that a flush can start? */
bool
flush_waits(const Sender *sender)
{
	dlist_iter	iter;

	dlist_foreach(iter, unconstify(dlist_head *, &sender->flushes))
	{
		const FlushJob *job = dlist_container(FlushJob, node, iter.cur);

		if (!job->started)
			return may_start(sender, job);
	}
	return false;
}

bool
flush_has_none(const Sender *sender)
{
	return dlist_is_empty(unconstify(dlist_head *, &sender->flushes));
}

typedef struct FlushCall
{
	Sender	   *sender;
	FlushJob   *job;
} FlushCall;

/* A flush of everything takes the traces with it: those that were sent until now. */
static void
void_traces(Sender *sender)
{
	for (int i = 0; i < MAX_LINKS && CK_GUARD("void-traces"); i++)
	{
		sender->trace_acked[i] = 0;
		sender->trace_void[i] = sender->trace_sent[i];
	}
}

/*
 * The position has passed the flush before, so the marker does not tell whether
 * the data have gone back to before it; from now on the traces do.
 */
static void
on_flush_traced(void *arg)
{
	((FlushJob *) arg)->finished = true;
}

static void
on_flushed(void *arg, LinkStatus status, const LinkValue *values, int n, const char *text)
{
	FlushCall  *call = arg;

	call->sender->flushes_running--;
	if (status == LINK_OK)
	{
		CK_STOP("flushed");
		if (call->job->entity[0] == '\0' || !CK_GUARD("flush-trace"))
		{
			call->job->finished = true;
			if (call->job->entity[0] == '\0')
				void_traces(call->sender);
		}
		else
		{
			call->sender->traces_tell = true;
			deliver_delete(call->sender, 0, NULL, NULL, 0, on_flush_traced, call->job);
		}
		server_count(call->sender->server, SERVER_FLUSHES, 1);
	}
	else
		sender_fault(call->sender, "a flush failed: %s", text);
	pfree(call);
}

static void
start_flush(Sender *sender, FlushJob *job)
{
	FlushCall  *call = MemoryContextAlloc(sender->epoch_context, sizeof(FlushCall));
	char		suffix[KEY_MAX_ENTITY_NAME + 2];
	char		prefix[256];

	call->sender = sender;
	call->job = job;
	job->started = true;
	sender->flushes_running++;
	/* a flush of everything takes the marker with it */
	if (job->entity[0] == '\0')
	{
		sender->marker_sent = sender->marker_acked = InvalidXLogRecPtr;
		pg_atomic_write_u64(&sender->server->marked, InvalidXLogRecPtr);
		sender->marker_text[0] = '\0';
		void_traces(sender);
	}
	snprintf(suffix, sizeof(suffix), "%s%s", job->entity, job->entity[0] ? ":" : "");
	sender_named(sender, suffix, prefix, sizeof(prefix));
	sender->driver->flush(sender->link[0], prefix, sender->owner_key, on_flushed, call);
}

static void
forget_flush(Sender *sender, FlushJob *job)
{
	ListCell   *cell;

	CK_STOP("flush-ended");
	foreach(cell, job->transactions)
	{
		FeedTransaction *transaction = lfirst(cell);

		if (--transaction->beside == 0)
			feed_release(sender->feed, transaction);
		if (!CK_GUARD("flush-beside"))
			deliver_part_ended(sender, transaction);
	}
	list_free(job->transactions);
	dlist_delete(&job->node);
	pfree(job);
}

/* Start flushes when no fill is in flight; forget those that have finished. */
void
flush_run(Sender *sender)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &sender->flushes)
	{
		FlushJob   *job = dlist_container(FlushJob, node, iter.cur);

		if (sender->faulted)
			return;
		if (!job->started && (sender->fills_in_flight == 0 || !CK_GUARD("flush-barrier")) &&
			may_start(sender, job) &&
			(job->entity[0] != '\0' ||
			 (!sender->marker_in_flight && sender->reads_in_flight == 0)))
			start_flush(sender, job);
		if (job->finished)
			forget_flush(sender, job);
	}
}
