/*-------------------------------------------------------------------------
 *
 * fetch.c
 *	  One document, from the nearest tier that may answer.
 *
 * The order of a call: accept invalidation messages (a revoked privilege and a
 * disabled trigger arrive by them), check the privilege, see whether a cache
 * may be used at all, look into the local tier, fly single, load, store.
 *
 * A transaction that has a transaction ID may have written something that is
 * not in its change set yet (its triggers have not fired), so it reads its
 * table and stores nothing; that is asked before the load and again after it,
 * because a function in the load may have written.  REPEATABLE READ and
 * SERIALIZABLE transactions read in their own snapshot, and standbys and
 * parallel workers have no fence to go by.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "utils/inval.h"
#include "utils/timestamp.h"

#include "changes.h"
#include "debug.h"
#include "document.h"
#include "fetch.h"
#include "flight.h"
#include "guc.h"
#include "load.h"
#include "requests.h"
#include "servers.h"
#include "shmem.h"
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

/* Say once per session why nothing is cached. */
static void
warn_not_preloaded(void)
{
	static bool warned = false;

	if (warned || shmem_ready())
		return;
	warned = true;
	ereport(WARNING,
			(errmsg("cachekit was not preloaded, so every fetch reads its table"),
			 errhint("Add cachekit to shared_preload_libraries and restart the server.")));
}

static void
warn_unsound(Entity *entity)
{
	if (entity->warned)
		return;
	entity->warned = true;
	ereport(WARNING,
			(errmsg("entity \"%s\" is not cached: %s", entity->name, entity->problem),
			 errhint("SELECT * FROM cachekit.health() tells what to do.")));
}

/*
 * May this call use a cache?  False, with the reason counted, if it must read
 * the table and store nothing.
 */
static bool
may_use_cache(Fetch *fetch)
{
	Entity	   *entity = fetch->entity;
	StatCounter reason;

	if (!ck_enabled || !fetch->has_slot)
	{
		warn_not_preloaded();
		reason = STAT_BYPASS_DISABLED;
	}
	else if (RecoveryInProgress() || IsParallelWorker())
		reason = STAT_BYPASS_RECOVERY;
	else if (!entity->sound)
	{
		warn_unsound(entity);
		reason = STAT_BYPASS_UNSOUND;
	}
	else if (changes_include(entity->relid, fetch->tier.hash, &fetch->text) &&
			 CK_GUARD("own-change"))
		reason = STAT_BYPASS_OWN_CHANGE;
	else if (TransactionIdIsValid(GetTopTransactionIdIfAny()) && CK_GUARD("own-xid"))
		reason = STAT_BYPASS_TRANSACTION;
	else if (IsolationUsesXactSnapshot() && CK_GUARD("isolation"))
		reason = STAT_BYPASS_ISOLATION;
	else
		return true;
	entity_count(entity, reason, 1);
	return false;
}

/* Look into the local tier; true when that was the answer. */
static bool
answer_locally(Fetch *fetch, LocalResult *result)
{
	*result = LOCAL_MISS;
	if (fetch->entity->local)
		*result = local_lookup(&fetch->tier, GetCurrentTimestamp(), &fetch->document);
	if (*result == LOCAL_HIT)
		entity_count(fetch->entity, STAT_LOCAL_HITS, 1);
	else if (*result == LOCAL_NEGATIVE)
		entity_count(fetch->entity, STAT_NEGATIVE_HITS, 1);
	return *result == LOCAL_HIT || *result == LOCAL_NEGATIVE;
}

/* Store what was loaded under the token, if it may be stored. */
static void
store(Fetch *fetch, const FenceToken *token)
{
	Entity	   *entity = fetch->entity;
	int64		ttl = fetch->document ? entity->ttl : entity->negative_ttl;
	bool		stored;

	if (!entity->local || ttl == 0)
		return;
	stored = (fetch->document == NULL || VARSIZE(fetch->document) <= ck_max_value_size) &&
		!(TransactionIdIsValid(GetTopTransactionIdIfAny()) && CK_GUARD("own-xid")) &&
		local_store(&fetch->tier, token, fetch->document,
					ttl_expiry(ttl, GetCurrentTimestamp()));
	entity_count(entity, stored ? STAT_FILLS : STAT_FILLS_REFUSED, 1);
}

/* Hand what was loaded under the token to the entity's servers. */
static void
fill_servers(Fetch *fetch, const FenceToken *token)
{
	Entity	   *entity = fetch->entity;
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz expiry = ttl_expiry(entity->ttl, now);
	FillHead	head;
	char	   *json;

	if (fetch->document == NULL || VARSIZE(fetch->document) > ck_max_value_size ||
		(TransactionIdIsValid(GetTopTransactionIdIfAny()) && CK_GUARD("own-xid")))
		return;
	head.hash = fetch->tier.hash;
	head.slot = fetch->tier.slot;
	head.relid = entity->relid;
	head.token = *token;
	head.ttl_ms = expiry == DT_NOEND ? 0 : Max(1, (expiry - now) / 1000);
	head.len = snprintf(head.named_key, sizeof(head.named_key), "%s:%s", entity->encoded_name,
						fetch->text.text);
	json = document_to_text(fetch->document);
	if (json == NULL)
		entity_count(entity, STAT_FILLS_REFUSED, 1);
	for (int i = 0; json && i < entity->nservers; i++)
	{
		int			place = server_find(entity->servers[i], head.named_key);

		head.serverid = entity->servers[i];
		if (place != NO_SERVER && server_is_readable(server_at(place)) &&
			!request_fill(place, &head, json, strlen(json)))
			server_count(server_at(place), SERVER_FILLS_DROPPED, 1);
	}
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

	if (entity->nservers == 0 || !fence_read(&fetch->tier.scope, &token))
		return false;
	snprintf(named, sizeof(named), "%s:%s", entity->encoded_name, fetch->text.text);
	for (int i = 0; i < entity->nservers; i++)
	{
		int			place = server_find(entity->servers[i], named);
		XLogRecPtr	needed = fence_last_change(&fetch->tier.scope);
		char	   *text;
		Size		bytes;
		ReadResult	result;

		if (place == NO_SERVER || !server_is_readable(server_at(place)))
			continue;
		if (pg_atomic_read_u64(&server_at(place)->marked) < needed && CK_GUARD("read-position"))
		{
			pg_atomic_write_u32(&server_at(place)->marker_wanted, 1);
			continue;
		}
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
							   ttl_expiry(entity->ttl, GetCurrentTimestamp()));
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

	for (int tries = 0; tries < LOAD_TRIES; tries++)
	{
		bool		clear = fetch->has_slot && fence_read(&fetch->tier.scope, &token);

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
		fetch->document = load_document(fetch->entity, fetch->values);
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
		store(fetch, &token);
		if (fetch->entity->nservers > 0)
			fill_servers(fetch, &token);
	}
	return OUTCOME_DONE;
}

/* load(), announced to other sessions that miss the same key. */
static Outcome
load_once(Fetch *fetch)
{
	Outcome		outcome;
	LocalResult found;
	volatile FlightResult flight = FLIGHT_ALONE;

	if (fetch->entity->local)
		flight = flight_begin(fetch->tier.hash, time_left(fetch));
	if (flight == FLIGHT_LANDED)
	{
		entity_count(fetch->entity, STAT_WAITS, 1);
		if (answer_locally(fetch, &found))
			return OUTCOME_DONE;
	}
	PG_TRY();
	{
		outcome = load(fetch, true);
	}
	PG_CATCH();
	{
		if (flight == FLIGHT_LOADER)
			flight_end();
		entity_count(fetch->entity, STAT_ERRORS, 1);
		PG_RE_THROW();
	}
	PG_END_TRY();
	/* a load within another's load has not announced itself */
	if (flight == FLIGHT_LOADER)
		flight_end();
	return outcome;
}

static Outcome
attempt(Fetch *fetch)
{
	Entity	   *entity = fetch->entity;
	LocalResult found;

	key_text(&entity->shape, fetch->values, &fetch->text);
	fetch->has_slot = entity_tier_key(entity, &fetch->text, &fetch->tier);
	if (!may_use_cache(fetch))
		return fetch->strategy == FETCH_FRESH ? OUTCOME_DONE : load(fetch, false);

	switch (fetch->strategy)
	{
		case FETCH_REFRESH:
		case FETCH_FRESH:
			if (answer_locally(fetch, &found))
				return OUTCOME_DONE;
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
