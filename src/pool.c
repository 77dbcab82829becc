/*-------------------------------------------------------------------------
 *
 * pool.c
 *	  The connections of a sender: opened together, watched, replaced one by one.
 *
 * A key always takes the same connection, so that its fills and deletions keep
 * their order.  When a connection is replaced (max_lifetime), or their number
 * changes (idle_timeout), new commands are held back until all that were sent
 * are answered: whatever follows, on whichever connection, comes later.  The
 * new ones are opened and greeted before that, so this takes the time of one
 * answer.  They must lead to the same data, which our nonce there tells; so
 * the epoch, and the nonce, stay.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "common/pg_prng.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/memutils.h"

#include "debug.h"
#include "sender.h"

#define RETRY_US		USECS_PER_SEC	/* after new connections could not be opened */
#define NEVER			PG_INT64_MAX

static uint32 wait_event = 0;

/* ---------- opening and closing ---------- */

/* Up to a tenth less than the option says: connections are not to end together. */
static TimestampTz
end_of_life(const Sender *sender)
{
	int64		us = sender->config.max_lifetime * INT64CONST(1000);

	if (us == 0)
		return NEVER;
	return GetCurrentTimestamp() + us -
		(int64) (pg_prng_double(&pg_global_prng_state) * (us / 10));
}

static void
note_connections(Sender *sender)
{
	pg_atomic_write_u32(&sender->server->connections, sender->links);
}

void
pool_open(Sender *sender)
{
	char		error[200];

	sender->links = Min(sender->config.connections, MAX_LINKS);
	sender->changing = sender->holding = false;
	sender->change_after = 0;
	sender->used_at = GetCurrentTimestamp();
	for (int i = 0; i < sender->links; i++)
	{
		sender->link[i] = sender->driver->open(&sender->config, error, sizeof(error));
		if (sender->link[i] == NULL)
		{
			sender->links = i;
			sender_fault(sender, "could not connect: %s", error);
			break;
		}
		sender->link_until[i] = end_of_life(sender);
	}
	note_connections(sender);
}

static void
close_link(Sender *sender, Link **link)
{
	Link	   *old = *link;

	*link = NULL;
	/* another one may come to the same place in memory */
	for (int i = 0; i < sender->sockets; i++)
	{
		if (sender->socket[i].link == old)
			sender->socket[i].link = NULL;
	}
	if (old)
		sender->driver->close(old);
}

/* All calls that wait are told so. */
void
pool_close(Sender *sender)
{
	for (int i = 0; i < MAX_LINKS; i++)
	{
		close_link(sender, &sender->link[i]);
		close_link(sender, &sender->fresh[i].link);
	}
	sender->links = 0;
	sender->changing = sender->holding = false;
	pool_unwatch(sender);
	note_connections(sender);
}

/* ---------- waiting ---------- */

/* Wait for a socket, too; how long it has been silent is known from before. */
static void
watch_link(Sender *sender, Link *link, FreshLink *fresh, const PoolSocket *before, int nbefore)
{
	PoolSocket *socket = &sender->socket[sender->sockets];

	if (link == NULL)
		return;
	sender->sockets++;
	memset(socket, 0, sizeof(*socket));
	for (int i = 0; i < nbefore; i++)
	{
		if (before[i].link == link)
			*socket = before[i];
	}
	socket->link = link;
	socket->fresh = fresh;
	socket->mask = WL_SOCKET_READABLE | WL_SOCKET_WRITEABLE;
	socket->event_at = AddWaitEventToSet(sender->events, socket->mask,
										 sender->driver->socket(link), NULL, socket);
}

/* Wait for these sockets from now on; called again when one is replaced. */
static void
watch(Sender *sender)
{
	PoolSocket	before[2 * MAX_LINKS];
	int			nbefore = sender->sockets;

	memcpy(before, sender->socket, sizeof(before));
	pool_unwatch(sender);
	sender->sockets = 0;
	sender->events = compat_create_wait_event_set(2 * MAX_LINKS + 2);
	AddWaitEventToSet(sender->events, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(sender->events, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	for (int i = 0; i < MAX_LINKS; i++)
	{
		watch_link(sender, sender->link[i], NULL, before, nbefore);
		watch_link(sender, sender->fresh[i].link, &sender->fresh[i], before, nbefore);
	}
}

void
pool_unwatch(Sender *sender)
{
	if (sender->events)
		FreeWaitEventSet(sender->events);
	sender->events = NULL;
}

/*
 * While changes are gathered, and nobody waits for an answer, replies are
 * gathered, too.
 */
static bool
may_nap(const Sender *sender)
{
	return sender->phase == PHASE_RUN && sender->nap_until != 0 &&
		sender->reads_in_flight == 0 && sender->fills_in_flight == 0;
}

/* Write what can be written at once, which is most of it, and wait for the rest. */
static void
update_mask(Sender *sender, PoolSocket *socket)
{
	const Driver *driver = sender->driver;
	uint32		mask;

	if (driver->wants_write(socket->link) && driver->is_connected(socket->link))
		driver->handle(socket->link, false, true);
	mask = WL_SOCKET_READABLE | (driver->wants_write(socket->link) ? WL_SOCKET_WRITEABLE : 0);
	if (mask != socket->mask && driver->socket(socket->link) >= 0)
	{
		ModifyWaitEvent(sender->events, socket->event_at, mask, NULL);
		socket->mask = mask;
	}
}

/*
 * The deadline of commands: no reply to any in command_timeout.  Only the time
 * counts that we have listened for, not what our own work has taken.
 */
static void
count_silence(Sender *sender, int64 listened)
{
	for (int i = 0; i < sender->sockets; i++)
	{
		PoolSocket *socket = &sender->socket[i];
		uint64		answered = sender->driver->answered(socket->link);

		if (sender->driver->unanswered(socket->link) == 0 || answered != socket->answered)
			socket->silence = 0;
		else
			socket->silence += listened;
		socket->answered = answered;
		if (socket->silence <= sender->config.command_timeout * INT64CONST(1000))
			continue;
		if (socket->fresh)
			socket->fresh->state = FRESH_FAILED;
		else
			sender_fault(sender, "no answer within command_timeout (%d ms)",
						 sender->config.command_timeout);
	}
}

/* What has been written to the sockets, and not been answered. */
static void
stop_where_sent(const Sender *sender)
{
	if (sender->deletes_in_flight > 0)
		CK_STOP("sent");
	if (sender->marker_in_flight)
		CK_STOP("marker-sent");
	if (sender->flushes_running > 0)
		CK_STOP("flush-sent");
	if (sender->fills_in_flight > 0)
		CK_STOP("fill-sent");
	if (sender->reads_in_flight > 0)
		CK_STOP("read-sent");
}

/* Wait for sockets, the latch, or the time; then let the driver handle them. */
void
pool_wait(Sender *sender, long timeout_ms)
{
	WaitEvent	events[2 * MAX_LINKS + 2];
	TimestampTz began;
	TimestampTz ended;
	int			n;

	if (sender->events == NULL)
		watch(sender);
	for (int i = 0; i < sender->sockets; i++)
		update_mask(sender, &sender->socket[i]);
	stop_where_sent(sender);
	if (wait_event == 0)
		wait_event = compat_wait_event("CachekitSender");
	began = GetCurrentTimestamp();
	if (may_nap(sender))
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 Min(10, TimestampDifferenceMilliseconds(began, sender->nap_until)),
						 wait_event);
		timeout_ms = 0;
	}
	n = WaitEventSetWait(sender->events, timeout_ms, events, lengthof(events), wait_event);
	ended = GetCurrentTimestamp();
	for (int i = 0; i < n; i++)
	{
		PoolSocket *socket = events[i].user_data;

		if (events[i].events & WL_LATCH_SET)
			ResetLatch(MyLatch);
		else if (socket)
			sender->driver->handle(socket->link, (events[i].events & WL_SOCKET_READABLE) != 0,
								   (events[i].events & WL_SOCKET_WRITEABLE) != 0);
	}
	count_silence(sender, ended - began);
}

/* How many connections are there?  Notes what is wrong with one. */
int
pool_check(Sender *sender)
{
	int			connected = 0;

	for (int i = 0; i < sender->links; i++)
	{
		const char *error = sender->driver->error(sender->link[i]);

		if (error)
			sender_fault(sender, "%s", error);
		connected += sender->driver->is_connected(sender->link[i]);
	}
	return connected;
}

int
pool_unanswered(const Sender *sender)
{
	int			unanswered = 0;

	for (int i = 0; i < MAX_LINKS; i++)
	{
		if (sender->link[i])
			unanswered += sender->driver->unanswered(sender->link[i]);
		if (sender->fresh[i].link)
			unanswered += sender->driver->unanswered(sender->fresh[i].link);
	}
	return unanswered;
}

bool
pool_has_room(const Sender *sender)
{
	return !sender->holding &&
		sender->deletes_in_flight + sender->fills_in_flight + sender->reads_in_flight <
		sender->config.max_inflight;
}

/* ---------- changes ---------- */

static bool
is_in_use(Sender *sender)
{
	static const ServerCounter uses[] = {
		SERVER_SENT, SERVER_FILLS_SENT, SERVER_READS, SERVER_FLUSHES, SERVER_REFRESHES
	};
	uint64		now = 0;

	for (int i = 0; i < lengthof(uses); i++)
		now += pg_atomic_read_u64(&sender->server->counter[uses[i]]);
	if (now != sender->used)
		sender->used_at = GetCurrentTimestamp();
	sender->used = now;
	return sender->config.idle_timeout == 0 ||
		sender_elapsed(sender->used_at) < sender->config.idle_timeout * INT64CONST(1000);
}

static void
abandon_change(Sender *sender, const char *reason)
{
	char		message[SERVER_ERROR_SIZE];

	snprintf(message, sizeof(message), "a connection could not be replaced: %s", reason);
	server_fault(sender->server, message);
	sender->changing = sender->holding = false;
	sender->change_after = GetCurrentTimestamp() + RETRY_US;
	for (int i = 0; i < MAX_LINKS; i++)
		close_link(sender, &sender->fresh[i].link);
	pool_unwatch(sender);
}

static void
open_fresh(Sender *sender, int i)
{
	FreshLink  *fresh = &sender->fresh[i];
	char		error[200];

	fresh->sender = sender;
	strcpy(fresh->reason, "no answer within command_timeout");
	fresh->state = FRESH_CONNECTING;
	fresh->link = sender->driver->open(&sender->config, error, sizeof(error));
	if (fresh->link == NULL)
		abandon_change(sender, error);
}

/* Is there anything to change?  Opens what is needed for it. */
static void
begin_change(Sender *sender)
{
	TimestampTz now = GetCurrentTimestamp();
	int			wanted = is_in_use(sender) ? Min(sender->config.connections, MAX_LINKS) : 1;
	int			old = wanted == sender->links ? 0 : sender->links;

	if (sender->ready_since == 0 || !flush_has_none(sender) ||
		(sender->change_after > now && sender->change_after - now <= RETRY_US))
		return;
	while (wanted == sender->links && old < sender->links && sender->link_until[old] > now)
		old++;					/* none has to be replaced */
	if (wanted == sender->links && old == sender->links)
		return;
	sender->changing = true;
	sender->change_since = now;
	sender->links_wanted = wanted;
	if (wanted == sender->links)
		open_fresh(sender, old);
	for (int i = sender->links; i < wanted && sender->changing; i++)
		open_fresh(sender, i);
	pool_unwatch(sender);
}

/* The data that a new connection leads to: are they those of this epoch? */
static void
on_fresh_owner(void *arg, LinkStatus status, const LinkValue *values, int n, const char *text)
{
	FreshLink  *fresh = arg;

	if (status == LINK_OK && n == 1 && epoch_is_our_nonce(fresh->sender, &values[0]))
		fresh->state = FRESH_READY;
	else
	{
		fresh->state = FRESH_FAILED;
		strlcpy(fresh->reason, text, sizeof(fresh->reason));
		if (status == LINK_OK)
			sender_fault(fresh->sender, "a new connection leads to another cache");
	}
}

static void
on_fresh_hello(void *arg, LinkStatus status, const LinkValue *values, int n, const char *text)
{
	FreshLink  *fresh = arg;
	Sender	   *sender = fresh->sender;
	const char *key = sender->owner_key;
	Size		len = strlen(key);

	if (status == LINK_OK && !sender->faulted)
		sender->driver->get(fresh->link, &key, &len, 1, on_fresh_owner, fresh);
	else
	{
		fresh->state = FRESH_FAILED;
		strlcpy(fresh->reason, text, sizeof(fresh->reason));
	}
}

/* Bring the new connections on; true when all of them are ready. */
static bool
all_are_ready(Sender *sender)
{
	bool		ready = true;

	for (int i = 0; i < MAX_LINKS; i++)
	{
		FreshLink  *fresh = &sender->fresh[i];
		const char *error;

		if (fresh->link == NULL)
			continue;
		error = sender->driver->error(fresh->link);
		if (error || fresh->state == FRESH_FAILED)
		{
			abandon_change(sender, error ? error : fresh->reason);
			return false;
		}
		if (fresh->state == FRESH_CONNECTING && sender->driver->is_connected(fresh->link))
		{
			fresh->state = FRESH_GREETED;
			sender->driver->hello(fresh->link, on_fresh_hello, fresh);
		}
		ready &= (fresh->state == FRESH_READY);
	}
	return ready;
}

/* Nothing is in flight: the new connections take the places of the old ones. */
static void
apply_change(Sender *sender)
{
	CK_STOP("replacing");
	for (int i = 0; i < MAX_LINKS; i++)
	{
		if (sender->fresh[i].link == NULL && i < sender->links_wanted)
			continue;
		close_link(sender, &sender->link[i]);
		if (sender->fresh[i].link == NULL)
			continue;
		sender->link[i] = sender->fresh[i].link;
		sender->fresh[i].link = NULL;
		sender->link_until[i] = end_of_life(sender);
		server_count(sender->server, SERVER_REPLACEMENTS, 1);
	}
	sender->links = sender->links_wanted;
	sender->changing = sender->holding = false;
	pool_unwatch(sender);
	note_connections(sender);
}

/*
 * Replace connections that have come to their end, close those that are idle,
 * and open them again.  While a flush runs, it has its connection.
 */
void
pool_maintain(Sender *sender)
{
	if (!sender->changing)
		begin_change(sender);
	if (!sender->changing || sender->faulted)
		return;
	if (!all_are_ready(sender))
	{
		if (sender->changing && sender_elapsed(sender->change_since) >
			sender->config.connect_timeout * INT64CONST(1000))
			abandon_change(sender, "connect_timeout has passed");
		return;
	}
	sender->holding = CK_GUARD("pool-drain") && flush_has_none(sender);
	if ((sender->holding && pool_unanswered(sender) == 0) || !CK_GUARD("pool-drain"))
		apply_change(sender);
}
