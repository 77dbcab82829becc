/*-------------------------------------------------------------------------
 *
 * volatility.h
 *	  Expressions whose value depends on more than their arguments.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_VOLATILITY_H
#define CACHEKIT_VOLATILITY_H

#include "nodes/pg_list.h"

/* Append a text, unless it is there already. */
extern void problems_add(List **problems, char *problem);

/* What is wrong with one node of an expression; those below it are not looked at. */
extern void volatility_check(Node *node, List **problems);

/* Do a type's text form, and the value of a text, depend on these alone?  If not, say so. */
extern void volatility_check_output(Oid type, List **problems);
extern void volatility_check_input(Oid type, List **problems);

#endif							/* CACHEKIT_VOLATILITY_H */
