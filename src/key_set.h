/*-------------------------------------------------------------------------
 *
 * key_set.h
 *	  Which of many keys are the same.
 *
 * Numbers different keys from 0, in the order in which they come.  The texts
 * are the caller's and must outlive the set; everything else is palloc'd in
 * the memory context in which it was created, and goes with that.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_KEY_SET_H
#define CACHEKIT_KEY_SET_H

#include "key.h"

typedef struct KeySet
{
	int			n;				/* different keys */
	uint32		mask;			/* number of places - 1 */
	int		   *place;			/* hash table: the key's number, or -1 */
	const KeyText **text;		/* by number */
} KeySet;

/* A set for at most `room` different keys. */
extern KeySet *key_set_create(int room);

/* The number of a key, which is new when it is the set's last one. */
extern int	key_set_add(KeySet *set, const KeyText *text);

/* The same, or -1. */
extern int	key_set_find(const KeySet *set, const KeyText *text);

#endif							/* CACHEKIT_KEY_SET_H */
