/*
 * raw.h
 *		What raw.c can do with a kind of cache server.
 */
#ifndef RAW_H
#define RAW_H

#include <stdint.h>

#define KEY_SIZE	256

typedef enum RawCommand
{
	RAW_GET,					/* one key */
	RAW_SET,
	RAW_DEL,
	RAW_EXISTS
} RawCommand;

/* A connection is whatever the kind makes of it. */
typedef struct RawKind
{
	const char *name;
	int			batch;			/* keys that are sent at a time, at most */
	int			set_batch;		/* the same, to be set */
	int			ahead;			/* batches without an answer */
	void	   *(*open) (const char *host, int port);

	/* queues or sends a command for these keys, all with the same value */
	void		(*send) (void *conn, RawCommand command, char (*keys)[KEY_SIZE], int n,
						 const char *value);

	/* waits for the answer to the first one without; how many keys there were, or have been set */
	int64_t		(*answer) (void *conn);
	void		(*close) (void *conn);
} RawKind;

extern const RawKind raw_redis;
extern const RawKind raw_memcached;

#endif							/* RAW_H */
