/*
 * direct.h
 *		Sessions that ask a cache server themselves, as a program would.
 *
 * How a kind of server is asked is in direct_redis.c and direct_memcached.c.
 */
#ifndef DIRECT_H
#define DIRECT_H

#include "work.h"

#define DIRECT_KEYS		10		/* at most, in one question */
#define DIRECT_NAME		80		/* the longest name of a key, with its end */
#define DIRECT_TIMEOUT_MS	500	/* then the host is asked again later */

/* One question: filled by the session, answered by the kind of server. */
typedef struct Question
{
	Session    *session;
	int			n;
	Bound		bounds[DIRECT_KEYS];
	char		names[DIRECT_KEYS][DIRECT_NAME];
} Question;

/* a document that has come for the key at this place */
extern void direct_answer(const Question *q, int place, const char *document, const char *how);

/* true if it could be asked; what does not come is not there */
extern bool direct_redis(Question *q);
extern bool direct_memcached(Question *q);

#endif							/* DIRECT_H */
