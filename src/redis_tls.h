/*-------------------------------------------------------------------------
 *
 * redis_tls.h
 *	  TLS for connections to Redis, where hiredis has it.
 *
 * hiredis has TLS since 1.0, in a library of its own; the Makefile links it,
 * and defines HAVE_HIREDIS_SSL, where it is there.  Without, CREATE SERVER
 * refuses the option.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_REDIS_TLS_H
#define CACHEKIT_REDIS_TLS_H

#include "options.h"

struct redisContext;

/* Can this build do it? */
extern bool redis_has_tls(void);

/* What it was built with, for messages. */
extern const char *redis_library(void);

/*
 * Begin TLS on a socket that is connected; the handshake goes on as bytes are
 * read and written.  NULL, or what is wrong.
 */
extern const char *redis_start_tls(struct redisContext *redis, const ServerConfig *config);

#endif							/* CACHEKIT_REDIS_TLS_H */
