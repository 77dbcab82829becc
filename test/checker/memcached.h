/*
 * memcached.h
 *		The private Memcached of a run: one host, or a ring of several.
 *
 * Only the main thread may call these functions, memcached_path excepted; what
 * does not work is fatal.  When the checker dies, Memcached dies with it.
 */
#ifndef MEMCACHED_H
#define MEMCACHED_H

#include "checker.h"

#define MAX_MEMCACHED	9		/* hosts: as many as the option "hosts" has room for */

/*
 * Makes a folder below $TMPDIR and starts options.memcached hosts there, on
 * sockets; or goes by options.memcached_at, and then what is below must not be
 * called for them, but for memcached_path and memcached_documents.
 */
extern void memcached_open(void);

/* the socket of a host, or its HOST:PORT */
extern const char *memcached_path(int host);

/* where they are, or the proxy before them, as options of CREATE SERVER */
extern const char *memcached_address(void);

/* kills all; removes the folder too, unless "keep" */
extern void memcached_close(bool keep);

extern void memcached_kill(int host);
extern void memcached_start(int host);	/* empty; waits until it answers */
extern void memcached_freeze(int host);
extern void memcached_thaw(int host);
extern void memcached_flush_all(int host);

/* every key of our namespace that holds a document, without those that are cachekit's own */
extern void memcached_documents(EachDocument each, void *arg);

#endif							/* MEMCACHED_H */
