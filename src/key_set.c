/*-------------------------------------------------------------------------
 *
 * key_set.c
 *	  Which of many keys are the same.
 *
 * A hash table with open addressing that is at most half full.  Keys are
 * compared as a whole, so whoever aims at its hash gets slow answers only.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "common/hashfn.h"
#include "utils/memutils.h"

#include "key_set.h"

KeySet *
key_set_create(int room)
{
	KeySet	   *set = palloc(sizeof(KeySet));
	Size		places = 16;

	while (places < 2 * (Size) room)
		places *= 2;
	set->n = 0;
	set->mask = (uint32) (places - 1);
	set->place = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(int) * places);
	memset(set->place, 0xFF, sizeof(int) * places);
	set->text = MemoryContextAllocHuge(CurrentMemoryContext,
									   sizeof(KeyText *) * Max(room, 1));
	return set;
}

/* Where a key is, or would be. */
static int *
place_of(const KeySet *set, const KeyText *text)
{
	uint32		at = hash_bytes((const unsigned char *) text->text, text->len);

	for (;; at++)
	{
		int		   *place = &set->place[at & set->mask];

		if (*place < 0 ||
			(set->text[*place]->len == text->len &&
			 memcmp(set->text[*place]->text, text->text, text->len) == 0))
			return place;
	}
}

int
key_set_add(KeySet *set, const KeyText *text)
{
	int		   *place = place_of(set, text);

	if (*place < 0)
	{
		set->text[set->n] = text;
		*place = set->n++;
	}
	return *place;
}

int
key_set_find(const KeySet *set, const KeyText *text)
{
	return *place_of(set, text);
}
