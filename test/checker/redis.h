/*
 * redis.h
 *		The Redis of a run: a private one, or that of --redis-at, which is only
 *		asked.
 *
 * It keeps nothing on disk but the copies that it is asked for.  Only the main
 * thread may call these functions, redis_connect() excepted; what does not work is
 * fatal.  When the checker dies, Redis dies with it.
 */
#ifndef REDIS_H
#define REDIS_H

#include <hiredis/hiredis.h>

#include "checker.h"

/* makes a folder below $TMPDIR and starts Redis there, on a socket */
extern void redis_open(void);

/* a connection to it, for whoever wants one of his own */
extern redisContext *redis_connect(struct timeval timeout);

/* where it is, as options of CREATE SERVER */
extern const char *redis_address(void);

/* kills it; removes the folder too, unless "keep" */
extern void redis_close(bool keep);

extern void redis_kill(void);
extern void redis_start(bool with_copy);	/* else empty; waits until it answers */
extern void redis_freeze(void);
extern void redis_thaw(void);

/* puts away a copy of all data, in place of the last one */
extern void redis_copy(void);
extern bool redis_has_copy(void);

/* a command without an answer of interest */
extern void redis_do(const char *command);

/*
 * Every key of our namespace that holds a document, without those that are
 * cachekit's own.
 */
extern void redis_documents(EachDocument each, void *arg);

#endif							/* REDIS_H */
