/*-------------------------------------------------------------------------
 *
 * fetch_many.c
 *	  Many documents, each from the nearest tier that may answer, in one pass.
 *
 * The order is that of fetch.c, each step for all keys before the next: accept
 * invalidation messages, check the privilege, see which keys may be answered
 * by a cache, look into the local tier, ask a server for all that is left at
 * once, and load what is left after that by one query.  Each key has its own
 * token, read before the snapshot, and is stored under it.
 *
 * A set of one moment (`consistent`): the words of all keys' scopes are read
 * first and must be clear.  Then the documents are gathered, what is missing
 * in one snapshot, and the words are read again.  A change of a key has raised
 * one of its words before it became visible and counts a generation after; so
 * if all words are what they were, no change of any of the keys became visible
 * in between, and every document was current all the time.  Otherwise all are
 * loaded anew, in one snapshot.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/xact.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "debug.h"
#include "document.h"
#include "early.h"
#include "fetch.h"
#include "flight.h"
#include "guc.h"
#include "key_set.h"
#include "load.h"
#include "requests.h"
#include "tiers.h"
#include "ttl.h"

#define LOAD_TRIES	10			/* loads of one call while its entity changes */
#define ASK_BATCH	1024		/* keys that are asked for in one go */

typedef enum ManyState
{
	MANY_BARRED,				/* no cache may be used: load, do not store */
	MANY_LOAD,					/* load and store */
	MANY_WANTED,				/* the same, unless a server has it */
	MANY_ANSWERED
} ManyState;

/* One of the different keys. */
typedef struct ManyKey
{
	ManyState	state;
	int			rows;			/* how often it was asked for */
	LoadKey		load;			/* its values */
	KeyText		text;
	TierKey		tier;			/* unless the entity has no slot */
	FenceToken	words;			/* when the call began, for sets of one moment */
	FenceToken	token;
	bool		has_token;		/* and it allows to store */
	Jsonb	   *document;		/* the answer; NULL: no such row */
} ManyKey;

typedef struct Many
{
	Entity	   *entity;
	FetchStrategy strategy;
	instr_time	began;			/* the SQL call, whose waits are bounded */
	bool		has_slot;
	bool		flying;			/* one of the keys is announced as being loaded */
	bool		loading;		/* errors are counted */
	TiersOffer	offer;			/* how servers get what was loaded */
	uint64		missed;			/* what servers did not get */
	int			n;
	ManyKey    *key;
} Many;

/* ---------- the local tier, and servers ---------- */

/* May this session load a document anew that will expire soon?  One key at a time. */
static bool
begin_early(Many *many, const ManyKey *key, const LocalTimes *times)
{
	if (many->strategy != FETCH_REFRESH || many->flying || !early_is_due(many->entity, times) ||
		flight_begin(key->tier.hash, 0) != FLIGHT_LOADER)
		return false;
	many->flying = true;
	entity_count(many->entity, STAT_EARLY_REFRESHES, 1);
	return true;
}

static void
look_locally(Many *many, ManyKey *key, TimestampTz now)
{
	LocalResult found = LOCAL_MISS;
	LocalTimes	times;

	if (many->entity->local)
		found = local_lookup(&key->tier, now, &key->document, &times);
	switch (found)
	{
		case LOCAL_HIT:
			entity_count(many->entity, STAT_LOCAL_HITS, key->rows);
			key->state = begin_early(many, key, &times) ? MANY_LOAD : MANY_ANSWERED;
			break;
		case LOCAL_NEGATIVE:
			entity_count(many->entity, STAT_NEGATIVE_HITS, key->rows);
			key->state = MANY_ANSWERED;
			break;
		case LOCAL_FENCED:
			key->state = MANY_LOAD;
			break;
		case LOCAL_MISS:
			key->state = MANY_WANTED;
			break;
	}
}

/* The rows of a key beyond the first find what this one has stored, if it has. */
static void
count_more_rows(const Many *many, const ManyKey *key, bool stored, StatCounter otherwise)
{
	StatCounter hit = key->document ? STAT_LOCAL_HITS : STAT_NEGATIVE_HITS;

	if (key->rows > 1)
		entity_count(many->entity, stored ? hit : otherwise, key->rows - 1);
}

/* A server has the document; nonsense is a miss. */
static void
take_from_server(Many *many, ManyKey *key, char *text, Size bytes)
{
	Entity	   *entity = many->entity;
	bool		stored;

	key->document = document_from_text(text, bytes);
	if (key->document == NULL)
	{
		entity_count(entity, STAT_ERRORS, 1);
		return;
	}
	entity_count(entity, STAT_SERVER_HITS, 1);
	stored = entity->local &&
		local_store(&key->tier, &key->token, key->document,
					ttl_expiry(entity->ttl, entity->ttl_jitter, GetCurrentTimestamp()), 0);
	count_more_rows(many, key, stored, STAT_SERVER_HITS);
	key->state = MANY_ANSWERED;
}

/*
 * Ask the entity's servers for these keys, all of them at once: the first one
 * that is usable, and the next one for what that did not answer in time.
 */
static void
ask_servers(Many *many, ManyKey **keys, int n)
{
	Entity	   *entity = many->entity;
	ManyRead   *reads = palloc(sizeof(ManyRead) * n);
	ManyKey   **asked = palloc(sizeof(ManyKey *) * n);

	for (int s = 0; s < entity->nservers && n > 0; s++)
	{
		int			nreads = 0;
		int			left = 0;

		for (int i = 0; i < n; i++)
		{
			ManyRead   *read = &reads[nreads];

			read->len = tiers_named(entity, keys[i]->text.text, read->named_key);
			read->serverid = entity->servers[s];
			read->server = server_find(read->serverid, read->named_key);
			read->needed = fence_last_change(&keys[i]->tier.scope);
			if (tiers_may_ask(read->server, read->needed))
				asked[nreads++] = keys[i];
			else
				keys[left++] = keys[i];
		}
		n = left;
		if (nreads == 0)
			continue;
		request_read_many(reads, nreads, many->began, ck_fetch_timeout);
		for (int i = 0; i < nreads; i++)
		{
			if (reads[i].result == READ_FAILED)
				keys[left++] = asked[i];
			else if (reads[i].result == READ_HIT)
			{
				take_from_server(many, asked[i], reads[i].text, reads[i].bytes);
				pfree(reads[i].text);
			}
		}
		n = left;
	}
	pfree(reads);
	pfree(asked);
}

static void
ask_for_wanted(Many *many)
{
	ManyKey    *keys[ASK_BATCH];
	int			n = 0;

	if (many->entity->nservers == 0)
		return;
	for (int i = 0; i < many->n; i++)
	{
		ManyKey    *key = &many->key[i];

		if (key->state == MANY_WANTED)
		{
			(void) fence_read(&key->tier.scope, &key->token);
			if (fence_token_answers(&key->token))
				keys[n++] = key;
		}
		if (n == ASK_BATCH || (n > 0 && i == many->n - 1))
		{
			ask_servers(many, keys, n);
			n = 0;
			CHECK_FOR_INTERRUPTS();
		}
	}
}

/* ---------- the table ---------- */

/* Read the tokens of what is going to be loaded; false if none allows to store. */
static bool
read_tokens(Many *many, ManyKey **keys, int n)
{
	bool		any = false;
	bool		is_ours;

	for (int i = 0; i < n; i++)
		keys[i]->has_token = many->has_slot &&
			fence_read(&keys[i]->tier.scope, &keys[i]->token);
	is_ours = many->has_slot && slot_is(many->entity->slot, MyDatabaseId, many->entity->relid);
	for (int i = 0; i < n; i++)
	{
		if (keys[i]->state == MANY_BARRED)
		{
			keys[i]->has_token = false;
			continue;
		}
		keys[i]->has_token &= is_ours;
		if (!keys[i]->has_token)
			entity_count(many->entity, STAT_BYPASS_FENCED, 1);
		/* with the rule off, a store goes by a token that is none */
		keys[i]->has_token |= !CK_GUARD("store-token");
		any |= keys[i]->has_token;
	}
	return any;
}

static void
store_loaded(Many *many, ManyKey **keys, int n, int64 load_us)
{
	for (int i = 0; i < n; i++)
	{
		ManyKey    *key = keys[i];
		bool		stored = false;

		if (key->has_token)
		{
			stored = tiers_store(many->entity, &key->tier, &key->token, key->document, load_us);
			many->missed += tiers_fill(many->entity, &key->tier, &key->token, key->document,
									   many->offer);
		}
		if (key->state == MANY_WANTED)
			count_more_rows(many, key, stored, STAT_MISSES);
	}
}

/*
 * Load all that has no answer by one query, and store what may be stored: as
 * load() of fetch.c does, for many.
 */
static bool
load_rest(Many *many)
{
	Entity	   *entity = many->entity;
	MemoryContext context = CurrentMemoryContext;
	ManyKey   **keys = MemoryContextAllocHuge(context, sizeof(ManyKey *) * many->n);
	LoadKey    *loads;
	Jsonb	  **documents;
	int			n = 0;
	bool		may_store = false;
	bool		may_repeat = many->has_slot && !IsolationUsesXactSnapshot();
	int64		load_us = 0;

	for (int i = 0; i < many->n; i++)
	{
		if (many->key[i].state != MANY_ANSWERED)
			keys[n++] = &many->key[i];
	}
	if (n == 0)
		return true;
	loads = MemoryContextAllocHuge(context, sizeof(LoadKey) * n);
	documents = MemoryContextAllocHuge(context, sizeof(Jsonb *) * n);
	for (int i = 0; i < n; i++)
		loads[i] = keys[i]->load;
	many->loading = true;
	for (int tries = 0; tries < LOAD_TRIES; tries++)
	{
		instr_time	start;

		may_store = read_tokens(many, keys, n);
		CK_STOP("load-token");
		if (!load_prepare(entity) && CK_GUARD("accept-invalidations"))
			return false;
		entity_count(entity, STAT_LOADS, n);
		INSTR_TIME_SET_CURRENT(start);
		load_documents(entity, loads, n, documents);
		load_us = stats_elapsed(start) / n;
		/* the first token is the oldest */
		if (!may_repeat ||
			!fence_moved(&keys[0]->tier.scope, &keys[0]->token, FENCE_ENTITY) ||
			!CK_GUARD("load-repeat"))
			break;
		CHECK_FOR_INTERRUPTS();
	}
	CK_STOP("load-done");
	for (int i = 0; i < n; i++)
		keys[i]->document = documents[i];
	if (may_store && CK_GUARD("accept-invalidations"))
	{
		/* what the query's names mean may have changed under it */
		AcceptInvalidationMessages();
		if (!entity->valid)
			return false;
	}
	store_loaded(many, keys, n, load_us);
	return true;
}

/* ---------- a call ---------- */

/* The strategies' first step: what becomes of each key that a cache may answer. */
static void
begin(Many *many)
{
	TimestampTz now = GetCurrentTimestamp();

	for (int i = 0; i < many->n; i++)
	{
		ManyKey    *key = &many->key[i];

		if (key->state == MANY_BARRED)
			continue;
		if (many->strategy == FETCH_REFRESH || many->strategy == FETCH_FRESH)
		{
			look_locally(many, key, now);
			continue;
		}
		if (many->strategy == FETCH_INVALIDATE)
			local_remove(MyDatabaseId, many->entity->relid, key->tier.hash, key->text.text,
						 key->text.len);
		key->state = MANY_LOAD;
	}
}

/* Count what was not found; false when the table is not to be read. */
static bool
count_misses(Many *many)
{
	bool		fresh = (many->strategy == FETCH_FRESH);

	for (int i = 0; i < many->n; i++)
	{
		ManyKey    *key = &many->key[i];

		if (key->state == MANY_WANTED)
			entity_count(many->entity, STAT_MISSES, fresh ? key->rows : 1);
		else if (key->state == MANY_LOAD && fresh)
			entity_count(many->entity, STAT_BYPASS_FENCED, key->rows);
	}
	return !fresh;
}

/* Answer all keys, each for itself; false when the entity has changed. */
static bool
gather(Many *many)
{
	begin(many);
	ask_for_wanted(many);
	return !count_misses(many) || load_rest(many);
}

/* Can what the caches have be of one moment?  Reads the words that must not move. */
static bool
read_words(Many *many)
{
	bool		clear = true;

	if (many->entity->slot == NO_SLOT)
		return false;
	for (int i = 0; i < many->n; i++)
		clear &= many->key[i].state != MANY_BARRED &&
			fence_read(&many->key[i].tier.scope, &many->key[i].words);
	return clear && slot_is(many->entity->slot, MyDatabaseId, many->entity->relid);
}

static bool
words_hold(const Many *many)
{
	pg_memory_barrier();
	/* who has written in a load has changes that no word tells of yet */
	if (TransactionIdIsValid(GetTopTransactionIdIfAny()))
		return false;
	for (int i = 0; i < many->n; i++)
	{
		if (!fence_holds(&many->key[i].tier.scope, &many->key[i].words))
			return false;
	}
	return true;
}

/* Answer all keys as of one moment; false when the entity has changed. */
static bool
gather_consistent(Many *many)
{
	bool		looks = (many->strategy == FETCH_REFRESH || many->strategy == FETCH_FRESH);

	if (looks && read_words(many))
	{
		if (!gather(many))
			return false;
		if (words_hold(many) || !CK_GUARD("consistent-set"))
			return true;
	}
	for (int i = 0; i < many->n; i++)
	{
		ManyKey    *key = &many->key[i];

		key->document = NULL;
		if (key->state == MANY_BARRED)
			continue;
		if (many->strategy == FETCH_INVALIDATE)
			local_remove(MyDatabaseId, many->entity->relid, key->tier.hash, key->text.text,
						 key->text.len);
		key->state = MANY_LOAD;
	}
	return many->strategy == FETCH_FRESH || load_rest(many);
}

static bool
attempt(Many *many, bool consistent)
{
	bool		done;

	many->flying = many->loading = false;
	PG_TRY();
	{
		done = consistent ? gather_consistent(many) : gather(many);
	}
	PG_CATCH();
	{
		if (many->flying)
			flight_end();
		if (many->loading)
			entity_count(many->entity, STAT_ERRORS, 1);
		PG_RE_THROW();
	}
	PG_END_TRY();
	if (many->flying)
		flight_end();
	return done;
}

/*
 * Take the keys: number[i] becomes the number of the i-th among the different
 * ones, or -1 for a NULL.
 */
static void
take_keys(Many *many, const FetchKey *keys, const bool *nulls, int n, int *number)
{
	Entity	   *entity = many->entity;
	KeySet	   *set = key_set_create(n);

	many->n = 0;
	many->has_slot = entity->slot != NO_SLOT;
	for (int i = 0; i < n; i++)
	{
		ManyKey    *key = &many->key[many->n];

		number[i] = -1;
		if (nulls[i] || !fetch_key_values(entity, &keys[i], key->load.values))
			continue;
		key_text(&entity->shape, key->load.values, &key->text);
		number[i] = key_set_add(set, &key->text);
		if (number[i] < many->n)
		{
			many->key[number[i]].rows++;
			continue;
		}
		many->n++;
		key->rows = 1;
		key->document = NULL;
		key->has_token = false;
		(void) entity_tier_key(entity, &key->text, &key->tier);
	}
	for (int i = 0; i < many->n; i++)
	{
		ManyKey    *key = &many->key[i];

		key->state = tiers_usable(entity, many->has_slot ? &key->tier : NULL, &key->text,
								  key->rows) ? MANY_WANTED : MANY_BARRED;
	}
}

void
fetch_documents(Oid relid, const FetchKey *keys, const bool *nulls, int n,
				FetchStrategy strategy, bool consistent, instr_time began, FetchedRow *rows)
{
	Many		many = {0};
	int		   *number = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(int) * Max(n, 1));
	int			counted = 0;
	instr_time	start;

	INSTR_TIME_SET_CURRENT(start);
	many.strategy = strategy;
	many.began = began;
	many.offer = request_fill;
	many.key = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(ManyKey) * (n + 1));
	for (;;)
	{
		if (CK_GUARD("privilege-refresh"))
			AcceptInvalidationMessages();
		many.entity = entity_get(relid);
		entity_check_select(many.entity);
		take_keys(&many, keys, nulls, n, number);
		if (attempt(&many, consistent))
			break;
		CHECK_FOR_INTERRUPTS();
	}
	for (int i = 0; i < n; i++)
	{
		const ManyKey *key = number[i] < 0 ? NULL : &many.key[number[i]];

		rows[i].canonical = key ? key_canonical(&many.entity->shape, key->load.values) : NULL;
		rows[i].document = key ? key->document : NULL;
		counted += (key != NULL);
	}
	if (many.has_slot)
		stats_latency_of_many(&slot_get(many.entity->slot)->stats, start, counted);
}

/* Load keys and store them in all tiers, without looking there first. */
bool
fetch_and_store(Entity *entity, const LoadKey *keys, int n, TiersOffer offer, uint64 *missed)
{
	Many		many;
	bool		done;

	many.entity = entity;
	many.strategy = FETCH_BYPASS;
	INSTR_TIME_SET_CURRENT(many.began);
	many.has_slot = entity->slot != NO_SLOT;
	many.offer = offer;
	many.missed = 0;
	many.n = n;
	many.key = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(ManyKey) * (n + 1));
	for (int i = 0; i < n; i++)
	{
		ManyKey    *key = &many.key[i];

		key->rows = 1;
		key->load = keys[i];
		key->document = NULL;
		key->has_token = false;
		key_text(&entity->shape, keys[i].values, &key->text);
		(void) entity_tier_key(entity, &key->text, &key->tier);
		key->state = tiers_usable(entity, many.has_slot ? &key->tier : NULL, &key->text, 1) ?
			MANY_LOAD : MANY_BARRED;
	}
	done = attempt(&many, false);
	*missed = many.missed;
	return done;
}
