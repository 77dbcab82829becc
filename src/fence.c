/*-------------------------------------------------------------------------
 *
 * fence.c
 *	  The shared clock that keeps stale values out of the caches.
 *
 * See fence.h for the rules.  Shared memory is made at server start and
 * emptied by any restart, together with the local tier that it guards.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "common/hashfn.h"
#include "storage/shmem.h"

#include "debug.h"
#include "fence.h"
#include "guc.h"

#define FENCE_DATABASE_STRIPES	64

typedef struct FenceShared
{
	uint64		seed;			/* secret, so that nobody can aim at stripes */
	uint32		mask;			/* number of key stripes - 1 */
	FenceStripe database[FENCE_DATABASE_STRIPES];
	FenceStripe key[FLEXIBLE_ARRAY_MEMBER];
} FenceShared;

static FenceShared *fence = NULL;

Size
fence_shmem_size(void)
{
	return add_size(offsetof(FenceShared, key),
					mul_size(sizeof(FenceStripe), ck_fence_stripes));
}

/* Called once in the postmaster (and by EXEC_BACKEND children). */
void
fence_shmem_init(void)
{
	bool		found;

	fence = ShmemInitStruct("cachekit fence", fence_shmem_size(), &found);
	if (found)
		return;
	if (!pg_strong_random(&fence->seed, sizeof(fence->seed)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate a random seed for cachekit")));
	fence->mask = ck_fence_stripes - 1;
	for (int i = 0; i < FENCE_DATABASE_STRIPES; i++)
		fence_init(&fence->database[i]);
	for (int i = 0; i < ck_fence_stripes; i++)
		fence_init(&fence->key[i]);
}

/* The hash of a key; it places the key in a stripe and in the local tier. */
uint64
fence_hash(Oid dboid, Oid relid, const char *text, int len)
{
	uint64		where = ((uint64) dboid << 32) | relid;

	return hash_bytes_extended((const unsigned char *) text, len,
							   fence->seed ^ (where * UINT64CONST(0x9E3779B97F4A7C15)));
}

/* Which of the cachekit.fence_stripes stripes a key has. */
uint32
fence_key_index(uint64 hash)
{
	return (uint32) (hash & fence->mask);
}

FenceStripe *
fence_key_stripe(uint64 hash)
{
	return &fence->key[fence_key_index(hash)];
}

FenceStripe *
fence_database_stripe(Oid dboid)
{
	return &fence->database[murmurhash32(dboid) % FENCE_DATABASE_STRIPES];
}

void
fence_init(FenceStripe *stripe)
{
	pg_atomic_init_u64(&stripe->word, 0);
	pg_atomic_init_u64(&stripe->last_change, 0);
}

void
fence_raise(FenceStripe *stripe)
{
	(void) pg_atomic_fetch_add_u64(&stripe->word, 1);
}

/*
 * Lower a stripe that this transaction raised.  A commit counts a generation
 * in the same addition; an abort leaves the word as it was before, so that a
 * load that overlapped it may still be stored: nothing has changed.  `end` is
 * the end of the commit record, or 0 if there was no change record.
 */
void
fence_lower(FenceStripe *stripe, bool committed, XLogRecPtr end)
{
	if (committed && end != InvalidXLogRecPtr)
	{
		uint64		seen = pg_atomic_read_u64(&stripe->last_change);

		while (seen < end &&
			   !pg_atomic_compare_exchange_u64(&stripe->last_change, &seen, end))
			;
	}
	if (committed && CK_GUARD("lower-generation"))
		(void) pg_atomic_fetch_add_u64(&stripe->word, FENCE_GENERATION_ONE - 1);
	else
		(void) pg_atomic_fetch_sub_u64(&stripe->word, 1);
}

/* Count a generation of a stripe that stays raised. */
void
fence_count(FenceStripe *stripe)
{
	(void) pg_atomic_fetch_add_u64(&stripe->word, FENCE_GENERATION_ONE);
}

/*
 * Take a token.  False when something is in flight: then there is no token,
 * and what is loaded may not be stored.  The caller takes its snapshot after
 * this call.
 */
bool
fence_read(const FenceScope *scope, FenceToken *token)
{
	uint64		in_flight = 0;

	for (int i = 0; i < FENCE_PARTS; i++)
	{
		token->word[i] = pg_atomic_read_u64(&scope->part[i]->word);
		if (i != FENCE_LINKS || CK_GUARD("links"))
			in_flight |= token->word[i] & FENCE_IN_FLIGHT_MASK;
	}
	pg_memory_barrier();
	return in_flight == 0;
}

/* Was nothing in flight that would stop an answer?  Links stop stores only. */
bool
fence_token_answers(const FenceToken *token)
{
	for (int i = 0; i < FENCE_ANSWER_PARTS; i++)
	{
		if (token->word[i] & FENCE_IN_FLIGHT_MASK)
			return false;
	}
	return true;
}

bool
fence_in_flight(const FenceScope *scope)
{
	for (int i = 0; i < FENCE_ANSWER_PARTS; i++)
	{
		if (pg_atomic_read_u64(&scope->part[i]->word) & FENCE_IN_FLIGHT_MASK)
			return true;
	}
	return false;
}

static bool
holds_from(const FenceScope *scope, const FenceToken *token, int first)
{
	for (int i = first; i < FENCE_PARTS; i++)
	{
		uint64		now = pg_atomic_read_u64(&scope->part[i]->word);
		uint64		then = token->word[i];

		if (i == FENCE_LINKS && !CK_GUARD("links"))
			continue;
		/* the two-word clock that row 2 is about: in flight, but no count */
		if (!CK_GUARD("one-word"))
		{
			now &= FENCE_IN_FLIGHT_MASK;
			then &= FENCE_IN_FLIGHT_MASK;
		}
		if (now != then || (i == FENCE_LINKS && (then & FENCE_IN_FLIGHT_MASK) != 0))
			return false;
	}
	return true;
}

/* May a document that was loaded under the token be stored now? */
bool
fence_holds(const FenceScope *scope, const FenceToken *token)
{
	return holds_from(scope, token, 0);
}

/* The same, but the key's own stripe may have moved: the caller sees those changes otherwise. */
bool
fence_holds_for_key(const FenceScope *scope, const FenceToken *token)
{
	return holds_from(scope, token, FENCE_KEY + 1);
}

/* Has one of the words changed since they were read, token or not? */
bool
fence_moved(const FenceScope *scope, const FenceToken *token, FencePart part)
{
	return pg_atomic_read_u64(&scope->part[part]->word) != token->word[part];
}

static XLogRecPtr
last_change(const FenceScope *scope, int parts)
{
	XLogRecPtr	last = InvalidXLogRecPtr;

	for (int i = 0; i < parts; i++)
		last = Max(last, pg_atomic_read_u64(&scope->part[i]->last_change));
	return last;
}

/* The location that a server must have come to, to know of every change in the scope. */
XLogRecPtr
fence_last_change(const FenceScope *scope)
{
	return last_change(scope, FENCE_ANSWER_PARTS);
}

/*
 * The location of the last commit that a document loaded now may show.  That
 * is more: a change that came by links is not in the stripe of a key whose
 * link was added when it had looked.
 */
XLogRecPtr
fence_last_shown(const FenceScope *scope)
{
	return last_change(scope, FENCE_PARTS);
}
