/*-------------------------------------------------------------------------
 *
 * blocks.c
 *	  Shared memory for documents on their way to and from servers.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "storage/shmem.h"

#include "blocks.h"
#include "guc.h"

#define BLOCK_BYTES		1024

typedef struct Block
{
	uint32		next;			/* in the chain or the free list */
	uint32		length;			/* of the whole chain, in its first block */
	char		data[BLOCK_BYTES - 2 * sizeof(uint32)];
} Block;

#define BLOCK_ROOM	sizeof(((Block *) 0)->data)

typedef struct BlocksShared
{
	uint32		free;			/* head of the free list */
	uint32		unused;			/* its length */
	Block		block[FLEXIBLE_ARRAY_MEMBER];
} BlocksShared;

static BlocksShared *blocks = NULL;
static LWLock *blocks_lock = NULL;

static uint32
block_count(void)
{
	return (uint32) Max(4096, (uint64) ck_fill_queue_memory * 1024 / BLOCK_BYTES);
}

Size
blocks_shmem_size(void)
{
	return add_size(offsetof(BlocksShared, block), mul_size(block_count(), sizeof(Block)));
}

void
blocks_shmem_init(LWLock *lock)
{
	bool		found;
	uint32		n = block_count();

	blocks_lock = lock;
	blocks = ShmemInitStruct("cachekit blocks", blocks_shmem_size(), &found);
	if (found)
		return;
	blocks->free = 0;
	blocks->unused = n;
	for (uint32 i = 0; i < n; i++)
		blocks->block[i].next = i + 1 < n ? i + 1 : NO_CHAIN;
}

/* Take n blocks, chained; NO_CHAIN when there are not that many. */
static uint32
take_blocks(uint32 n)
{
	uint32		first = NO_CHAIN;

	LWLockAcquire(blocks_lock, LW_EXCLUSIVE);
	if (blocks->unused >= n)
	{
		uint32		last = blocks->free;

		first = last;
		for (uint32 i = 1; i < n; i++)
			last = blocks->block[last].next;
		blocks->free = blocks->block[last].next;
		blocks->block[last].next = NO_CHAIN;
		blocks->unused -= n;
	}
	LWLockRelease(blocks_lock);
	return first;
}

uint32
blocks_put(const void *head, Size head_len, const void *body, Size body_len)
{
	Size		len = head_len + body_len;
	uint32		first = take_blocks(Max(1, (len + BLOCK_ROOM - 1) / BLOCK_ROOM));
	uint32		at = first;
	Size		used = 0;

	if (first == NO_CHAIN)
		return NO_CHAIN;
	blocks->block[first].length = len;
	for (int part = 0; part < 2; part++)
	{
		const char *from = part == 0 ? head : body;
		Size		left = part == 0 ? head_len : body_len;

		while (left > 0)
		{
			Size		n;

			if (used == BLOCK_ROOM)
			{
				at = blocks->block[at].next;
				used = 0;
			}
			n = Min(left, BLOCK_ROOM - used);
			memcpy(blocks->block[at].data + used, from, n);
			from += n;
			left -= n;
			used += n;
		}
	}
	return first;
}

bool
blocks_are_scarce(void)
{
	return blocks->unused < block_count() / 2;
}

int
blocks_in_use(void)
{
	return (int) (block_count() - blocks->unused);
}

Size
blocks_length(uint32 chain)
{
	return blocks->block[chain].length;
}

void
blocks_get(uint32 chain, Size offset, void *to, Size len)
{
	char	   *out = to;

	while (offset >= BLOCK_ROOM)
	{
		chain = blocks->block[chain].next;
		offset -= BLOCK_ROOM;
	}
	while (len > 0)
	{
		Size		n = Min(len, BLOCK_ROOM - offset);

		memcpy(out, blocks->block[chain].data + offset, n);
		out += n;
		len -= n;
		offset = 0;
		chain = blocks->block[chain].next;
	}
}

void
blocks_free(uint32 chain)
{
	uint32		last = chain;
	uint32		n = 1;

	if (chain == NO_CHAIN)
		return;
	for (; blocks->block[last].next != NO_CHAIN; last = blocks->block[last].next)
		n++;
	LWLockAcquire(blocks_lock, LW_EXCLUSIVE);
	blocks->block[last].next = blocks->free;
	blocks->free = chain;
	blocks->unused += n;
	LWLockRelease(blocks_lock);
}
