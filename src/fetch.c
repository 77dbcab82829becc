/*-------------------------------------------------------------------------
 *
 * fetch.c
 *	  One document, from the nearest tier that may answer.
 *
 * The order of a call: accept invalidation messages (a revoked privilege and a
 * disabled trigger arrive by them), check the privilege, see whether a cache
 * may be used at all, look into the local tier, fly single, load, store.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/xact.h"
#include "utils/inval.h"
#include "utils/timestamp.h"

#include "debug.h"
#include "document.h"
#include "early.h"
#include "fetch.h"
#include "flight.h"
#include "guc.h"
#include "load.h"
#include "requests.h"
#include "servers.h"
#include "tiers.h"
#include "ttl.h"

#define LOAD_TRIES	10			/* loads of one call while its entity changes */

/* How one attempt to answer ended. */
typedef enum Outcome
{
	OUTCOME_DONE,
	OUTCOME_ENTITY_CHANGED		/* begin again with the entity as it is now */
} Outcome;

typedef struct Fetch
{
	Entity	   *entity;
	Datum		values[KEY_MAX_COLUMNS];
	KeyText		text;
	TierKey		tier;
	bool		has_slot;		/* tier is filled in */
	FetchStrategy strategy;
	instr_time	began;			/* the SQL call, whose waits are bounded */
	bool		flying;			/* announced to other sessions that miss the key */
	LocalTimes	times;			/* of a local hit */
	Jsonb	   *document;		/* the answer; NULL: no such row */
} Fetch;

FetchStrategy
fetch_strategy(const char *name)
{
	static const char *const names[] = {"refresh", "fresh", "invalidate", "bypass"};

	for (int i = 0; i < (int) lengthof(names); i++)
	{
		if (strcmp(name, names[i]) == 0)
			return (FetchStrategy) i;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unknown strategy \"%s\"", name),
			 errhint("Strategies are \"refresh\", \"fresh\", \"invalidate\" and \"bypass\".")));
}

bool
fetch_key_values(Entity *entity, const FetchKey *key, Datum *values)
{
	if (entity->shape.n == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("entity \"%s\" cannot be read: %s", entity->name, entity->problem),
				 errhint("Attach it again with other key columns, or detach it.")));
	if (OidIsValid(key->type))
		return key_from_datum(&entity->shape, key->type, key->value, entity->context, values);
	return key_from_text(&entity->shape, key->text, values);
}

/*
 * Look into the local tier, also that of an entity that does not use it if
 * `landed`; true when that was the answer.
 */
static bool
answer_locally(Fetch *fetch, bool landed, LocalResult *result)
{
	*result = LOCAL_MISS;
	if (fetch->entity->local || landed)
		*result = local_lookup(&fetch->tier, GetCurrentTimestamp(), &fetch->document,
							   &fetch->times);
	if (*result == LOCAL_HIT)
		entity_count(fetch->entity, STAT_LOCAL_HITS, 1);
	else if (*result == LOCAL_NEGATIVE)
		entity_count(fetch->entity, STAT_NEGATIVE_HITS, 1);
	return *result == LOCAL_HIT || *result == LOCAL_NEGATIVE;
}

/* Milliseconds that this call may still wait for others. */
static long
time_left(const Fetch *fetch)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, fetch->began);
	return ck_fetch_timeout - (long) INSTR_TIME_GET_MILLISEC(now);
}

/*
 * Ask the first usable server of the entity; true when that was the answer.
 * A server is asked only while it is readable and nothing is in flight, and
 * only if the marker that it has is as far as the last change of the key.
 */
static bool
answer_by_server(Fetch *fetch)
{
	Entity	   *entity = fetch->entity;
	FenceToken	token;
	char		named[NAMED_KEY_SIZE];

	if (entity->nservers == 0)
		return false;
	(void) fence_read(&fetch->tier.scope, &token);
	if (!fence_token_answers(&token))
		return false;
	(void) tiers_named(entity, fetch->text.text, named);
	for (int i = 0; i < entity->nservers; i++)
	{
		int			place = server_find(entity->servers[i], named);
		XLogRecPtr	needed = fence_last_change(&fetch->tier.scope);
		char	   *text;
		Size		bytes;
		ReadResult	result;

		if (!tiers_may_ask(place, needed))
			continue;
		result = request_read(place, entity->servers[i], named, strlen(named), needed,
							  time_left(fetch), &text, &bytes);
		if (result == READ_FAILED)
			continue;			/* the next one, if there is time left */
		if (result == READ_MISS)
			return false;
		fetch->document = document_from_text(text, bytes);
		if (fetch->document == NULL)
		{
			entity_count(entity, STAT_ERRORS, 1);
			return false;
		}
		entity_count(entity, STAT_SERVER_HITS, 1);
		if (entity->local)
			(void) local_store(&fetch->tier, &token, fetch->document,
							   ttl_expiry(entity->ttl, entity->ttl_jitter,
										  GetCurrentTimestamp()), 0);
		return true;
	}
	return false;
}

/*
 * Read the table, and store the document if `strict` and nothing is in flight.
 * Not strict are transactions that read in a snapshot of their own, or their
 * own changes.  The token comes before the invalidation messages are accepted,
 * and these before the snapshot.
 *
 * A TRUNCATE empties a table even for snapshots that are older: a load that
 * waited for the lock of a partition would find nothing in it, which was never
 * true if the same transaction filled it again.  So a load during which the
 * whole entity changed is repeated.
 */
static Outcome
load(Fetch *fetch, bool strict)
{
	FenceToken	token;
	bool		has_token = false;
	bool		may_repeat = fetch->has_slot && !IsolationUsesXactSnapshot();
	int64		load_us = 0;

	for (int tries = 0; tries < LOAD_TRIES; tries++)
	{
		bool		clear = fetch->has_slot && fence_read(&fetch->tier.scope, &token);
		instr_time	start;

		if (strict)
		{
			has_token = clear &&
				slot_is(fetch->tier.slot, MyDatabaseId, fetch->entity->relid);
			if (!has_token)
				entity_count(fetch->entity, STAT_BYPASS_FENCED, 1);
			/* with the rule off, a store goes by a token that is none */
			has_token |= !CK_GUARD("store-token");
		}
		CK_STOP("load-token");
		if (!load_prepare(fetch->entity) && CK_GUARD("accept-invalidations"))
			return OUTCOME_ENTITY_CHANGED;
		entity_count(fetch->entity, STAT_LOADS, 1);
		INSTR_TIME_SET_CURRENT(start);
		fetch->document = load_document(fetch->entity, fetch->values);
		load_us = stats_elapsed(start);
		if (!may_repeat || !fence_moved(&fetch->tier.scope, &token, FENCE_ENTITY) ||
			!CK_GUARD("load-repeat"))
			break;
	}
	CK_STOP("load-done");
	if (has_token)
	{
		/* what the query's names mean may have changed under it */
		if (CK_GUARD("accept-invalidations"))
		{
			AcceptInvalidationMessages();
			if (!fetch->entity->valid)
				return OUTCOME_ENTITY_CHANGED;
		}
		(void) tiers_store(fetch->entity, &fetch->tier, &token, fetch->document, load_us);
		tiers_fill(fetch->entity, &fetch->tier, &token, fetch->document, request_fill);
		if (fetch->flying && !fetch->entity->local && flight_is_awaited())
			tiers_store_moment(fetch->entity, &fetch->tier, &token, fetch->document);
	}
	return OUTCOME_DONE;
}

/* load(), and the end of the flight if there is one. */
static Outcome
load_flying(Fetch *fetch)
{
	Outcome		outcome;

	PG_TRY();
	{
		outcome = load(fetch, true);
	}
	PG_CATCH();
	{
		if (fetch->flying)
			flight_end();
		entity_count(fetch->entity, STAT_ERRORS, 1);
		PG_RE_THROW();
	}
	PG_END_TRY();
	/* a load within another's load has not announced itself */
	if (fetch->flying)
		flight_end();
	return outcome;
}

/* load(), announced to other sessions that miss the same key. */
static Outcome
load_once(Fetch *fetch)
{
	LocalResult found;
	FlightResult flight = flight_begin(fetch->tier.hash, time_left(fetch));

	if (flight == FLIGHT_LANDED)
	{
		entity_count(fetch->entity, STAT_WAITS, 1);
		if (answer_locally(fetch, true, &found))
			return OUTCOME_DONE;
	}
	fetch->flying = (flight == FLIGHT_LOADER);
	return load_flying(fetch);
}

/*
 * A local hit whose turn it is to be loaded anew before it expires, if nobody
 * else is loading it; true when that has been done.  Others go on being
 * answered from the tier meanwhile.
 */
static bool
refresh_early(Fetch *fetch, Outcome *outcome)
{
	Jsonb	   *cached = fetch->document;

	if (!early_is_due(fetch->entity, &fetch->times) ||
		flight_begin(fetch->tier.hash, 0) != FLIGHT_LOADER)
		return false;
	entity_count(fetch->entity, STAT_EARLY_REFRESHES, 1);
	fetch->flying = true;
	*outcome = load_flying(fetch);
	pfree(cached);
	return true;
}

static Outcome
attempt(Fetch *fetch)
{
	Entity	   *entity = fetch->entity;
	LocalResult found;
	Outcome		outcome;

	key_text(&entity->shape, fetch->values, &fetch->text);
	fetch->has_slot = entity_tier_key(entity, &fetch->text, &fetch->tier);
	fetch->flying = false;
	if (!tiers_usable(entity, fetch->has_slot ? &fetch->tier : NULL, &fetch->text, 1))
		return fetch->strategy == FETCH_FRESH ? OUTCOME_DONE : load(fetch, false);

	switch (fetch->strategy)
	{
		case FETCH_REFRESH:
		case FETCH_FRESH:
			if (answer_locally(fetch, false, &found))
			{
				if (found == LOCAL_HIT && fetch->strategy == FETCH_REFRESH &&
					refresh_early(fetch, &outcome))
					return outcome;
				return OUTCOME_DONE;
			}
			if (found == LOCAL_MISS && answer_by_server(fetch))
				return OUTCOME_DONE;
			if (found == LOCAL_MISS)
				entity_count(entity, STAT_MISSES, 1);
			else if (fetch->strategy == FETCH_FRESH)
				entity_count(entity, STAT_BYPASS_FENCED, 1);	/* else load() counts it */
			if (fetch->strategy == FETCH_FRESH)
				return OUTCOME_DONE;
			return found == LOCAL_FENCED ? load(fetch, true) : load_once(fetch);
		case FETCH_INVALIDATE:
			local_remove(MyDatabaseId, entity->relid, fetch->tier.hash,
						 fetch->text.text, fetch->text.len);
			return load(fetch, true);
		case FETCH_BYPASS:
			return load(fetch, true);
	}
	pg_unreachable();
}

Jsonb *
fetch_document(Oid relid, const FetchKey *key, FetchStrategy strategy, instr_time began,
			   char **canonical)
{
	Fetch		fetch;
	instr_time	start;

	INSTR_TIME_SET_CURRENT(start);
	fetch.began = began;
	fetch.strategy = strategy;
	if (canonical)
		*canonical = NULL;
	for (;;)
	{
		if (CK_GUARD("privilege-refresh"))
			AcceptInvalidationMessages();
		fetch.entity = entity_get(relid);
		fetch.document = NULL;
		entity_check_select(fetch.entity);
		if (!fetch_key_values(fetch.entity, key, fetch.values))
			return NULL;
		if (attempt(&fetch) == OUTCOME_DONE)
			break;
		CHECK_FOR_INTERRUPTS();
	}
	if (canonical)
		*canonical = key_canonical(&fetch.entity->shape, fetch.values);
	if (fetch.entity->slot != NO_SLOT)
		stats_latency(&slot_get(fetch.entity->slot)->stats, start);
	return fetch.document;
}
