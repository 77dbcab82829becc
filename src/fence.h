/*-------------------------------------------------------------------------
 *
 * fence.h
 *	  The shared clock that keeps stale values out of the caches.
 *
 * A stripe is one 64-bit word {generation:44, in_flight:20}.  A transaction
 * that changed something raises the stripes of what it changed before it
 * commits (in_flight + 1), and lowers them when its commit is visible
 * (generation + 1 and in_flight - 1 in one addition) or when it aborted
 * (in_flight - 1).  One word, because two words can be read between two
 * lowerings: with "in flight" and "last change" apart, a reader can combine
 * the state before one commit with the stamp of another.
 *
 * A document is guarded by five stripes, its *scope*: its key's (shared with
 * other keys: a collision costs a table read), its entity's for changes of
 * the whole entity, its entity's for settings and definition, its database's,
 * and its entity's for *links*.  A *token* is a copy of the five words, taken
 * before the snapshot that loads the document.
 *
 * Links: a transaction that changed a base whose rows lead to keys only by way
 * of other tables (`via`) raises this stripe before it looks for the keys, and
 * lowers it with the others.  Whoever adds a link that it cannot see is seen by
 * no load that can be stored meanwhile.  What had been stored before is
 * found by the transaction, and goes by its key; so links stop stores, and do
 * not stop answers.
 *
 *	  load:    token, accept invalidations, snapshot, read
 *	  store:   only while the words equal the token, and nothing in flight
 *	  return:  only while nothing but links is in flight
 *
 * Store and return are checked under the lock of the local tier's partition
 * that holds the key; a commit removes its keys under the same lock before
 * it lowers.  The functions here take no lock, cannot fail, and may be called
 * from transaction callbacks.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_FENCE_H
#define CACHEKIT_FENCE_H

#include "access/xlogdefs.h"
#include "port/atomics.h"

#define FENCE_IN_FLIGHT_BITS	20
#define FENCE_IN_FLIGHT_MASK	((UINT64CONST(1) << FENCE_IN_FLIGHT_BITS) - 1)
#define FENCE_GENERATION_ONE	(UINT64CONST(1) << FENCE_IN_FLIGHT_BITS)

typedef struct FenceStripe
{
	pg_atomic_uint64 word;		/* {generation:44, in_flight:20} */
	pg_atomic_uint64 last_change;	/* end of the last commit with a change record */
} FenceStripe;

typedef enum FencePart
{
	FENCE_KEY,					/* stripe of the key's hash */
	FENCE_ENTITY,				/* the entity as a whole */
	FENCE_SETTINGS,				/* the entity's settings and definition */
	FENCE_DATABASE,				/* everything in the database */
	FENCE_LINKS					/* changes whose keys other tables tell */
} FencePart;

#define FENCE_PARTS			5
#define FENCE_ANSWER_PARTS	4	/* of them, the first: those that answers go by */

typedef struct FenceScope
{
	FenceStripe *part[FENCE_PARTS];
} FenceScope;

typedef struct FenceToken
{
	uint64		word[FENCE_PARTS];
} FenceToken;

/*
 * last_change is for cache servers: a server may answer for a key, or be filled
 * with it, only when it has come as far as the last commit that changed it.  It
 * is set before the lowering addition, and only by a transaction that wrote a
 * change record: no sender would come as far as another's commit.
 */

extern Size fence_shmem_size(void);
extern void fence_shmem_init(void);

extern uint64 fence_hash(Oid dboid, Oid relid, const char *text, int len);
extern uint32 fence_key_index(uint64 hash);
extern FenceStripe *fence_key_stripe(uint64 hash);
extern FenceStripe *fence_database_stripe(Oid dboid);

extern void fence_raise(FenceStripe *stripe);
extern void fence_count(FenceStripe *stripe);
extern void fence_lower(FenceStripe *stripe, bool committed, XLogRecPtr end);

extern bool fence_read(const FenceScope *scope, FenceToken *token);
extern bool fence_token_answers(const FenceToken *token);
extern bool fence_in_flight(const FenceScope *scope);
extern bool fence_holds(const FenceScope *scope, const FenceToken *token);
extern bool fence_holds_for_key(const FenceScope *scope, const FenceToken *token);
extern XLogRecPtr fence_last_change(const FenceScope *scope);
extern XLogRecPtr fence_last_shown(const FenceScope *scope);
extern void fence_init(FenceStripe *stripe);
extern bool fence_moved(const FenceScope *scope, const FenceToken *token, FencePart part);

#endif							/* CACHEKIT_FENCE_H */
