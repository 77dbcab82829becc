/*
 * judge_test.h
 *		What the two parts of the judge's test share.
 */
#ifndef JUDGE_TEST_H
#define JUDGE_TEST_H

#include "history.h"

typedef enum Spoil
{
	SPOIL_NOTHING,
	SPOIL_READ,
	SPOIL_ORDER
} Spoil;

/* ---------- judge_test.c ---------- */

extern void ok(bool good, const char *name);

/* Has the judge found nothing since the last call? */
extern bool no_violation(void);

/* so many registers that nobody has used, in a row: the first one */
extern int	new_keys(int n);

/* an answer; version 0 is no row */
extern Seen document(int key, Version version);

/* ---------- judge_random.c ---------- */

/*
 * With one register the judge must agree with the search.  With more, what it
 * refuses must be wrong; what is wrong by a chain of operations that no single
 * set shows, it may miss.
 */
extern void random_histories(int registers, Spoil spoil, int histories, uint64_t seed,
							 const char *name);

#endif							/* JUDGE_TEST_H */
