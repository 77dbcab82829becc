/*-------------------------------------------------------------------------
 *
 * early.h
 *	  Loading a document anew before it expires, so that nobody waits for it.
 *
 * XFetch, of A. Vattani, F. Chierichetti and K. Lowenstein, "Optimal
 * Probabilistic Cache Stampede Prevention", PVLDB 8(8), 2015: who is answered
 * at the time `now` by a document that expires at `expiry` and whose load took
 * `delta` loads it anew if
 *
 *	  now - delta * beta * ln(random()) >= expiry
 *
 * with random() in (0, 1].  The nearer the expiry, the longer the load and the
 * more there are who ask, the likelier it is that one of them does; beta (1 in
 * the paper) moves that forth and back.  Sessions need not agree on anything.
 *
 * It is about the local tier, which knows how long a load took, and only about
 * what was loaded there: not about what came from a server, nor about absent
 * rows and documents that do not expire.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_EARLY_H
#define CACHEKIT_EARLY_H

#include "entity.h"

/* Is it this session's turn, now that it has been answered from the tier? */
extern bool early_is_due(const Entity *entity, const LocalTimes *times);

#endif							/* CACHEKIT_EARLY_H */
