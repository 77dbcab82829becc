/*-------------------------------------------------------------------------
 *
 * links.h
 *	  Which keys do changed rows lead to by way of other tables?
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_LINKS_H
#define CACHEKIT_LINKS_H

/*
 * At PRE_COMMIT, with the links of the entities concerned raised: run the `via`
 * queries for the rows in the change set, and add the keys that they return.
 * An entity whose keys cannot be found in time becomes whole.  An error is
 * one of the transaction's (a cancel, say), not of a query.
 */
extern void links_resolve(void);

#endif							/* CACHEKIT_LINKS_H */
