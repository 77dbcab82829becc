/*-------------------------------------------------------------------------
 *
 * driver.h
 *	  What a kind of cache server can do, as a table of functions.
 *
 * A link is one connection.  Calls never block: they queue a command, and the
 * callback is told how it ended, once for each call, at the latest when the
 * link is closed.  Callbacks must not raise errors, nor close the link.  A
 * driver knows bytes and sockets, and nothing of PostgreSQL but its
 * configuration; nothing else knows how a kind of server is spoken to.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_DRIVER_H
#define CACHEKIT_DRIVER_H

#include "options.h"

typedef struct Link Link;

typedef enum LinkStatus
{
	LINK_OK,					/* done, and acknowledged as such */
	LINK_FULL,					/* refused for want of memory; deletions work all the same */
	LINK_REFUSED,				/* the server answered with an error or nonsense */
	LINK_LOST					/* no answer: the link is gone */
} LinkStatus;

typedef struct LinkValue
{
	const char *bytes;			/* NULL: absent */
	Size		len;
} LinkValue;

/* values are good during the call only; text, never NULL, says why it was not done. */
typedef void (*LinkCallback) (void *arg, LinkStatus status, const LinkValue *values, int n,
							  const char *text);

#define MAX_LINKS	16

/* A key whose value, a number, has been acknowledged to be at least this. */
typedef struct LinkTrace
{
	char		key[96];
	uint64		least;
} LinkTrace;

/* What must be in the cache beside a document for it to be stored. */
typedef struct LinkTerms
{
	const char *owner_key;
	const char *owner;			/* its value; NULL: whatever it is, for tests */
	const char *marker_key;
	uint64		position;		/* which the marker must have reached; 0: none */
} LinkTerms;

typedef struct Driver
{
	/* Begin to connect; NULL with a message when that fails at once. */
	Link	   *(*open) (const ServerConfig *config, char *error, Size error_size);
	void		(*close) (Link *link);

	/* For the event loop. */
	int			(*socket) (Link *link);
	bool		(*wants_write) (Link *link);
	void		(*handle) (Link *link, bool readable, bool writable);
	bool		(*is_connected) (Link *link);
	const char *(*error) (Link *link);	/* NULL: none so far */
	/* Commands without a reply, and replies so far: that they grow is progress. */
	int			(*unanswered) (Link *link);
	uint64		(*answered) (Link *link);

	/* Introduce ourselves: credentials, database. */
	void		(*hello) (Link *link, LinkCallback done, void *arg);
	/* Set a value unconditionally. */
	void		(*put) (Link *link, const char *key, const char *value, LinkCallback done,
						void *arg);
	/*
	 * Set a value for a time (0: for ever) on these terms; the one value that is
	 * returned is "1", or "0" when they are not met.  One that is there already
	 * may be left as it is, unless it is to be replaced.
	 */
	void		(*put_if_owner) (Link *link, const char *key, const LinkTerms *terms,
								 const char *value, Size len, int64 ttl_ms, bool replace,
								 LinkCallback done, void *arg);
	/*
	 * Set the marker if the owner key has this value, the marker still is the
	 * previous one ("": absent) and each trace has at least its value: data that
	 * have gone back must not be certified as new.
	 */
	void		(*put_marker) (Link *link, const char *key, const char *owner_key,
							   const char *owner, const char *previous, const char *value,
							   const LinkTrace *traces, int ntraces,
							   LinkCallback done, void *arg);
	/* Read many values, in this order: the last ones last, or all at one moment. */
	void		(*get) (Link *link, const char *const *keys, const Size *lens, int n,
						LinkCallback done, void *arg);
	/* Which of these keys have a value?  The others' are returned as absent. */
	void		(*exists) (Link *link, const char *const *keys, const Size *lens, int n,
						   LinkCallback done, void *arg);
	/* Delete many keys. */
	void		(*del) (Link *link, const char *const *keys, const Size *lens, int n,
						LinkCallback done, void *arg);
	/*
	 * Delete every key that begins with the prefix, except one (NULL: none); with
	 * FLUSH_METHOD_ALL, all others that the host has, too.
	 */
	void		(*flush) (Link *link, const char *prefix, const char *except,
						  LinkCallback done, void *arg);
} Driver;

extern const Driver redis_driver;
extern const Driver memcached_driver;

#endif							/* CACHEKIT_DRIVER_H */
