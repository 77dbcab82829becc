/*-------------------------------------------------------------------------
 *
 * local.c
 *	  The local tier: documents in the server's own shared memory.
 *
 * Memory of a partition is an array of equal blocks.  A document is a chain
 * of blocks, the first of which starts with the entry's header, followed by
 * the key and the document.  Equal blocks cannot fragment: whoever gives up
 * enough entries gets the room, so the number of evictions that a store needs
 * is known, and a store that would need too many is given up.
 *
 * Which entry goes is decided by SIEVE (Zhang et al., "SIEVE is Simpler than
 * LRU", NSDI 2024): entries stand in the order of their arrival; a hit only
 * sets a bit, which needs no exclusive lock; a hand walks from the oldest to
 * the newest, clears bits, and evicts the first entry without one.  A scan of
 * a large table passes through without pushing out what is in use.
 *
 * A change of a whole entity does not visit its entries.  They carry the
 * fence's words of when they were stored, are misses from then on, and are
 * the first to go.
 *
 * An entry is compared by its whole key, so a collision of hashes costs time
 * and no more; and the length of a bucket's chain is bounded, so not much.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "storage/shmem.h"

#include "debug.h"
#include "guc.h"
#include "local.h"

#define LOCAL_BLOCK_SIZE		256
#define LOCAL_PARTITION_KB		4096	/* a partition has at least this much */
#define LOCAL_MAX_PARTITIONS	128
#define LOCAL_MAX_CHAIN			32	/* entries in a bucket */
#define LOCAL_EXTRA_EVICTIONS	64	/* beyond the number of blocks needed */
#define LOCAL_MAX_SIEVE_STEPS	256 /* then the hand takes what it points at */
#define NO_BLOCK				PG_UINT32_MAX

typedef struct LocalBlock
{
	uint32		next;			/* next block of the document or free list */
	char		data[LOCAL_BLOCK_SIZE - sizeof(uint32)];
} LocalBlock;

/* At the start of the first block of a document. */
typedef struct LocalEntry
{
	uint32		next_block;		/* LocalBlock.next of the first block */
	uint32		chain;			/* next entry in the hash bucket */
	uint32		newer;			/* next in the SIEVE queue, towards its head */
	uint32		older;
	uint64		hash;
	Oid			dboid;
	Oid			relid;
	uint64		entity_word;	/* fence words under which it was stored */
	uint64		settings_word;
	uint64		database_word;
	TimestampTz expires_at;		/* DT_NOEND: never */
	uint32		load_us;		/* how long the load took; 0: not known */
	int32		slot;			/* the entity's slot when it was stored */
	uint32		value_len;		/* 0: a negative entry */
	uint32		blocks;			/* length of the chain of blocks */
	uint16		key_len;
	bool		visited;		/* set by hits without the exclusive lock */
	char		data[FLEXIBLE_ARRAY_MEMBER];	/* key, then document */
} LocalEntry;

#define ENTRY_HEADER	offsetof(LocalEntry, data)
#define FIRST_ROOM		(LOCAL_BLOCK_SIZE - ENTRY_HEADER)
#define NEXT_ROOM		(LOCAL_BLOCK_SIZE - offsetof(LocalBlock, data))

typedef struct LocalPartition
{
	LWLock	   *lock;
	uint32		free;			/* head of the free list */
	uint32		free_blocks;	/* its length */
	uint32		newest;			/* ends of the SIEVE queue */
	uint32		oldest;
	uint32		hand;			/* next to be looked at, NO_BLOCK: the oldest */
} LocalPartition;

typedef struct LocalShared
{
	int			partitions;
	uint32		blocks;			/* in each partition */
	uint32		buckets;		/* in each partition, a power of two */
	LocalPartition partition[LOCAL_MAX_PARTITIONS];
} LocalShared;

static LocalShared *local = NULL;
static uint32 *local_buckets = NULL;	/* partitions x buckets */
static LocalBlock *local_blocks = NULL; /* partitions x blocks */

int
local_partition_count(void)
{
	return Min(LOCAL_MAX_PARTITIONS, Max(1, ck_local_memory / LOCAL_PARTITION_KB));
}

static uint32
blocks_per_partition(void)
{
	return (uint32) ((uint64) ck_local_memory * 1024 / LOCAL_BLOCK_SIZE /
					 local_partition_count());
}

static uint32
buckets_per_partition(void)
{
	uint32		n = 64;

	while (n < blocks_per_partition() / 2)
		n *= 2;
	return n;
}

static Size
array_size(uint32 per_partition, Size element)
{
	return mul_size(mul_size(per_partition, local_partition_count()), element);
}

Size
local_shmem_size(void)
{
	Size		size = MAXALIGN(sizeof(LocalShared));

	size = add_size(size, CACHELINEALIGN(array_size(buckets_per_partition(), sizeof(uint32))));
	size = add_size(size, array_size(blocks_per_partition(), sizeof(LocalBlock)));
	return add_size(size, 2 * PG_CACHE_LINE_SIZE);
}

static LocalBlock *
block_at(int partition, uint32 block)
{
	return &local_blocks[(Size) partition * local->blocks + block];
}

static LocalEntry *
entry_at(int partition, uint32 block)
{
	return (LocalEntry *) block_at(partition, block);
}

void
local_shmem_init(LWLockPadded *locks)
{
	bool		found;

	local = ShmemInitStruct("cachekit local tier", local_shmem_size(), &found);
	local_buckets = (uint32 *) CACHELINEALIGN((char *) local + sizeof(LocalShared));
	local_blocks = (LocalBlock *)
		CACHELINEALIGN((char *) local_buckets +
					   array_size(buckets_per_partition(), sizeof(uint32)));
	if (found)
		return;

	local->partitions = local_partition_count();
	local->blocks = blocks_per_partition();
	local->buckets = buckets_per_partition();
	memset(local_buckets, 0xFF, array_size(local->buckets, sizeof(uint32)));
	for (int p = 0; p < local->partitions; p++)
	{
		LocalPartition *part = &local->partition[p];

		part->lock = &locks[p].lock;
		part->newest = part->oldest = part->hand = NO_BLOCK;
		part->free = 0;
		part->free_blocks = local->blocks;
		for (uint32 b = 0; b < local->blocks; b++)
			block_at(p, b)->next = (b + 1 < local->blocks) ? b + 1 : NO_BLOCK;
	}
}

/* Partition and bucket use other bits of the hash than the fence's stripe. */
static int
partition_of(uint64 hash)
{
	return (int) ((hash >> 24) % local->partitions);
}

static uint32 *
bucket_of(int p, uint64 hash)
{
	return &local_buckets[(Size) p * local->buckets + ((hash >> 32) & (local->buckets - 1))];
}

/* Blocks that a key and a document of these lengths need. */
static uint32
blocks_needed(Size key_len, Size value_len)
{
	Size		len = key_len + value_len;

	if (len <= FIRST_ROOM)
		return 1;
	return 1 + (len - FIRST_ROOM + NEXT_ROOM - 1) / NEXT_ROOM;
}

/*
 * Walk the bytes of an entry from `offset` on, `len` of them, and either copy
 * them out, copy them in, or compare them; the three differ in one line.
 */
typedef enum WalkMode
{
	WALK_READ, WALK_WRITE, WALK_COMPARE
} WalkMode;

static bool
walk_bytes(int p, uint32 block, Size offset, char *bytes, Size len, WalkMode mode)
{
	Size		room = FIRST_ROOM;
	char	   *data = entry_at(p, block)->data;

	while (len > 0)
	{
		if (offset < room)
		{
			Size		n = Min(len, room - offset);

			if (mode == WALK_READ)
				memcpy(bytes, data + offset, n);
			else if (mode == WALK_WRITE)
				memcpy(data + offset, bytes, n);
			else if (memcmp(bytes, data + offset, n) != 0)
				return false;
			bytes += n;
			len -= n;
			offset += n;
			if (len == 0)
				break;
		}
		offset -= room;
		block = block_at(p, block)->next;
		data = block_at(p, block)->data;
		room = NEXT_ROOM;
	}
	return true;
}

/* Find an entry by its whole key; the lock is held in either mode. */
static uint32
find_entry(int p, Oid dboid, Oid relid, uint64 hash, const char *text, int len)
{
	uint32		block = *bucket_of(p, hash);

	while (block != NO_BLOCK)
	{
		LocalEntry *entry = entry_at(p, block);

		if (entry->hash == hash && entry->relid == relid && entry->dboid == dboid &&
			entry->key_len == len &&
			walk_bytes(p, block, 0, unconstify(char *, text), len, WALK_COMPARE))
			return block;
		block = entry->chain;
	}
	return NO_BLOCK;
}

/* Give an entry's blocks back; the lock is held exclusively. */
static void
delete_entry(int p, uint32 block)
{
	LocalPartition *part = &local->partition[p];
	LocalEntry *entry = entry_at(p, block);
	uint32	   *link = bucket_of(p, entry->hash);
	uint32		last = block;

	while (*link != block)
		link = &entry_at(p, *link)->chain;
	*link = entry->chain;

	if (part->hand == block)
		part->hand = entry->newer;
	if (entry->newer != NO_BLOCK)
		entry_at(p, entry->newer)->older = entry->older;
	else
		part->newest = entry->older;
	if (entry->older != NO_BLOCK)
		entry_at(p, entry->older)->newer = entry->newer;
	else
		part->oldest = entry->newer;

	part->free_blocks += entry->blocks;
	while (block_at(p, last)->next != NO_BLOCK)
		last = block_at(p, last)->next;
	block_at(p, last)->next = part->free;
	part->free = block;
}

/* Evict one entry by SIEVE; false when the partition is empty. */
static bool
evict_one(int p, TimestampTz now)
{
	LocalPartition *part = &local->partition[p];
	uint32		block = part->hand;

	for (int steps = 0;; steps++)
	{
		LocalEntry *entry;

		if (block == NO_BLOCK)
			block = part->oldest;
		if (block == NO_BLOCK)
			return false;
		entry = entry_at(p, block);
		if (!entry->visited || entry->expires_at <= now || steps >= LOCAL_MAX_SIEVE_STEPS)
			break;
		entry->visited = false;
		block = entry->newer;
	}
	part->hand = block;
	delete_entry(p, block);		/* moves the hand on */
	return true;
}

/* Was the entry stored under the words that are in force now? */
static bool
entry_is_current(const LocalEntry *entry, const TierKey *key)
{
	return entry->slot == key->slot &&
		entry->entity_word == pg_atomic_read_u64(&key->scope.part[FENCE_ENTITY]->word) &&
		entry->settings_word == pg_atomic_read_u64(&key->scope.part[FENCE_SETTINGS]->word) &&
		entry->database_word == pg_atomic_read_u64(&key->scope.part[FENCE_DATABASE]->word);
}

/*
 * Look a document up.  On LOCAL_HIT *value is a copy in the caller's memory
 * context, and *times, unless the pointer is NULL, is filled in.
 */
LocalResult
local_lookup(const TierKey *key, TimestampTz now, Jsonb **value, LocalTimes *times)
{
	int			p = partition_of(key->hash);
	LocalPartition *part = &local->partition[p];
	LocalResult result = LOCAL_MISS;
	uint32		block;

	LWLockAcquire(part->lock, LW_SHARED);
	if (fence_in_flight(&key->scope) && CK_GUARD("return-in-flight"))
	{
		LWLockRelease(part->lock);
		return LOCAL_FENCED;
	}
	block = find_entry(p, key->dboid, key->relid, key->hash, key->text, key->len);
	if (block != NO_BLOCK)
	{
		LocalEntry *entry = entry_at(p, block);

		if (entry->expires_at > now && entry_is_current(entry, key))
		{
			if (!entry->visited)
				entry->visited = true;
			result = LOCAL_NEGATIVE;
			if (entry->value_len > 0)
			{
				/* an error here (out of memory) releases the lock */
				*value = palloc(entry->value_len);
				walk_bytes(p, block, entry->key_len, (char *) *value,
						   entry->value_len, WALK_READ);
				result = LOCAL_HIT;
				if (times)
				{
					times->expires_at = entry->expires_at;
					times->load_us = entry->load_us;
				}
			}
		}
	}
	LWLockRelease(part->lock);
	return result;
}

/* Make room for a new entry, within bounds; the lock is held exclusively. */
static bool
make_room(int p, const TierKey *key, uint32 needed, TimestampTz now)
{
	LocalPartition *part = &local->partition[p];
	uint32		evictions = needed + LOCAL_EXTRA_EVICTIONS;
	uint32		length = 0;

	while (part->free_blocks < needed)
	{
		if (evictions-- == 0 || !evict_one(p, now))
			return false;
	}
	/* keep the bucket's chain short, whoever chose the keys in it */
	for (uint32 b = *bucket_of(p, key->hash); b != NO_BLOCK; b = entry_at(p, b)->chain)
	{
		if (++length >= LOCAL_MAX_CHAIN)
		{
			delete_entry(p, b);
			break;
		}
	}
	return true;
}

/*
 * Store a document (NULL: the knowledge that there is no such row) that was
 * loaded under the token.  False when it may not be stored, because something
 * changed since, or cannot be, because there is no room.
 */
bool
local_store(const TierKey *key, const FenceToken *token, const Jsonb *value,
			TimestampTz expires_at, int64 load_us)
{
	int			p = partition_of(key->hash);
	LocalPartition *part = &local->partition[p];
	Size		value_len = value ? VARSIZE(value) : 0;
	uint32		needed = blocks_needed(key->len, value_len);
	uint32		block;
	uint32		first;
	uint32		last;
	LocalEntry *entry;

	/* one document must not empty a partition */
	if (needed > local->blocks / 2)
		return false;

	LWLockAcquire(part->lock, LW_EXCLUSIVE);
	if (!fence_holds(&key->scope, token) && CK_GUARD("store-token"))
	{
		LWLockRelease(part->lock);
		return false;
	}
	block = find_entry(p, key->dboid, key->relid, key->hash, key->text, key->len);
	if (block != NO_BLOCK)
		delete_entry(p, block);
	if (!make_room(p, key, needed, GetCurrentTimestamp()))
	{
		LWLockRelease(part->lock);
		return false;
	}

	/* take the blocks from the free list, whose order is the chain's */
	first = last = part->free;
	for (uint32 i = 1; i < needed; i++)
		last = block_at(p, last)->next;
	part->free = block_at(p, last)->next;
	block_at(p, last)->next = NO_BLOCK;
	part->free_blocks -= needed;

	entry = entry_at(p, first);
	entry->hash = key->hash;
	entry->dboid = key->dboid;
	entry->relid = key->relid;
	entry->slot = key->slot;
	entry->entity_word = token->word[FENCE_ENTITY];
	entry->settings_word = token->word[FENCE_SETTINGS];
	entry->database_word = token->word[FENCE_DATABASE];
	entry->expires_at = expires_at;
	entry->load_us = (uint32) Min(Max(load_us, 0), PG_UINT32_MAX);
	entry->value_len = value_len;
	entry->blocks = needed;
	entry->key_len = key->len;
	entry->visited = false;
	walk_bytes(p, first, 0, unconstify(char *, key->text), key->len, WALK_WRITE);
	if (value)
		walk_bytes(p, first, key->len, (char *) unconstify(Jsonb *, value),
				   value_len, WALK_WRITE);

	entry->chain = *bucket_of(p, key->hash);
	*bucket_of(p, key->hash) = first;
	entry->newer = NO_BLOCK;
	entry->older = part->newest;
	if (part->newest != NO_BLOCK)
		entry_at(p, part->newest)->newer = first;
	else
		part->oldest = first;
	part->newest = first;
	LWLockRelease(part->lock);
	return true;
}

/* Forget a document.  Called after commit: it cannot fail. */
void
local_remove(Oid dboid, Oid relid, uint64 hash, const char *text, int len)
{
	int			p = partition_of(hash);
	LocalPartition *part = &local->partition[p];
	uint32		block;

	LWLockAcquire(part->lock, LW_EXCLUSIVE);
	block = find_entry(p, dboid, relid, hash, text, len);
	if (block != NO_BLOCK)
		delete_entry(p, block);
	LWLockRelease(part->lock);
}

/* What the tier holds for a key now. */
void
local_inspect(const TierKey *key, TimestampTz now, LocalInfo *info)
{
	int			p = partition_of(key->hash);
	LocalPartition *part = &local->partition[p];
	uint32		block;

	memset(info, 0, sizeof(*info));
	LWLockAcquire(part->lock, LW_SHARED);
	block = find_entry(p, key->dboid, key->relid, key->hash, key->text, key->len);
	if (block != NO_BLOCK)
	{
		LocalEntry *entry = entry_at(p, block);

		if (entry->expires_at > now && entry_is_current(entry, key))
		{
			info->present = true;
			info->bytes = entry->value_len;
			info->expires_at = entry->expires_at;
		}
	}
	LWLockRelease(part->lock);
}
