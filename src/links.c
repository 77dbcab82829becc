/*-------------------------------------------------------------------------
 *
 * links.c
 *	  Which keys do changed rows lead to by way of other tables?
 *
 * A row of a base that has a `via` names no key: other tables do.  While this
 * transaction changes a product, another may add that product to an order.  The
 * other one's row is not visible here, and this one's price not there.  So the
 * keys are looked for at PRE_COMMIT, after the links stripe of the entity has
 * been raised, and in the latest snapshot.  Whoever loads the order later than
 * that cannot store it before this transaction has ended; whoever stored it
 * before had a link that the latest snapshot sees, too.
 *
 * This must neither fail nor delay a COMMIT for long: it runs in a
 * subtransaction, read-only, with a deadline of its own.  If it does not
 * succeed, the whole entity is invalidated.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/timeout.h"

#include "change_set.h"
#include "debug.h"
#include "guc.h"
#include "links.h"
#include "pin.h"
#include "subtransaction.h"
#include "via.h"

static volatile sig_atomic_t deadline_passed = false;
static volatile sig_atomic_t cancel_is_ours = false;	/* nobody else had asked for it */
static TimeoutId deadline = MAX_TIMEOUTS;	/* not registered yet */

/* In a signal handler: as if the user had cancelled. */
static void
on_deadline(void)
{
	deadline_passed = true;
	cancel_is_ours = !QueryCancelPending;
	InterruptPending = true;
	QueryCancelPending = true;
	SetLatch(MyLatch);
}

static void
add_found(Entity *entity, const Datum *values)
{
	KeyText		key;

	key_text(&entity->shape, values, &key);
	changes_add_key(entity, &key);
}

/* All `via` queries of a row's base; false: they cannot be run. */
static bool
resolve_row(Entity *entity, const ChangedRow *row)
{
	bool		found = false;

	for (int i = 0; i < entity->nsources; i++)
	{
		EntitySource *source = &entity->sources[i];

		if (source->base != row->base || source->via == NULL)
			continue;
		if (source->via->problem)
			return false;
		via_run(entity, row->base, source->via, row->row, add_found);
		found = true;
	}
	return found;
}

/* The rows of one entity; false: they lead nobody knows where. */
static bool
resolve_entity(ChangedEntity *changed)
{
	Entity	   *entity = entity_find(changed->relid);
	Pin			pin;
	bool		done = true;

	if (entity == NULL || entity->shape.n == 0)
		return false;
	pin_begin(&pin, entity->owner);
	SPI_connect();
	pin_set("transaction_read_only", "on");
	/* a COMMIT does not wait for tables that somebody has locked: he may wait for it */
	for (int i = 0; i < entity->nsources && done; i++)
	{
		Via		   *via = entity->sources[i].via;

		if (via && !via->problem)
			done = via_lock(via);
	}
	for (int i = 0; i < change_set.nrows && done && !changed->whole; i++)
	{
		if (change_set.row[i].entity == changed)
			done = resolve_row(entity, &change_set.row[i]);
	}
	SPI_finish();
	pin_end(&pin);
	return done;
}

static void
tell(const ChangedEntity *changed, const char *why)
{
	static Oid	told = InvalidOid;	/* once for each entity, nearly */

	if (told == changed->relid)
		return;
	told = changed->relid;
	ereport(LOG,
			(errmsg("cachekit invalidates all documents of entity %u, because it could not find those that a change concerns: %s",
					changed->relid, why)));
}

/* Was it this that ended the query, and not the user? */
static bool
was_deadline(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_QUERY_CANCELED && deadline_passed && cancel_is_ours &&
		!get_timeout_indicator(STATEMENT_TIMEOUT, false);
}

static void
stop_deadline(void)
{
	disable_timeout(deadline, false);
	if (deadline_passed && cancel_is_ours)
		QueryCancelPending = false; /* it came too late to be noticed */
}

/* resolve_entity() with its errors caught; NULL: done, else why not. */
static char *
resolve_guarded(ChangedEntity *changed)
{
	Subtransaction sub;
	char	   *volatile why = NULL;

	subtransaction_begin(&sub);
	PG_TRY();
	{
		if (!resolve_entity(changed))
			why = "a \"via\" query cannot be run now";
		subtransaction_commit(&sub);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(sub.context);
		error = CopyErrorData();
		FlushErrorState();
		subtransaction_rollback(&sub);
		if (error->sqlerrcode == ERRCODE_QUERY_CANCELED && !was_deadline(error))
			ReThrowError(error);
		why = was_deadline(error) ? "cachekit.dependency_timeout" : error->message;
	}
	PG_END_TRY();
	return why;
}

/* Nobody knows which keys it is: all of them. */
static void
give_up(ChangedEntity *changed)
{
	int			slot = slot_find(MyDatabaseId, changed->relid);

	change_set_make_whole(changed);
	changed->overflowed = true;
	if (slot != NO_SLOT)
		stats_count(&slot_get(slot)->stats, STAT_LINKS_UNRESOLVED, 1);
}

/* One after the other, all in the time that one COMMIT has. */
static void
resolve_all(void)
{
	for (ChangedEntity *entity = change_set.entities; entity; entity = entity->next)
	{
		char	   *why;

		if (entity->rows == 0 || entity->whole)
			continue;
		/* its predicate locks would come after the check of its conflicts */
		if (IsolationIsSerializable())
		{
			change_set_make_whole(entity);
			continue;
		}
		why = deadline_passed ? "cachekit.dependency_timeout" : resolve_guarded(entity);
		if (why == NULL)
			continue;
		give_up(entity);
		HOLD_INTERRUPTS();		/* the deadline may pass now, too */
		tell(entity, why);
		RESUME_INTERRUPTS();
	}
}

void
links_resolve(void)
{
	if (deadline == MAX_TIMEOUTS)
		deadline = RegisterTimeout(USER_TIMEOUT, on_deadline);
	deadline_passed = cancel_is_ours = false;
	enable_timeout_after(deadline, Max(1, ck_dependency_timeout));
	PG_TRY();
	{
		resolve_all();
	}
	PG_FINALLY();
	{
		stop_deadline();
	}
	PG_END_TRY();
	CK_STOP("links-resolved");
}
