/*-------------------------------------------------------------------------
 *
 * redis_link.h
 *	  One connection to Redis: commands in, replies to their handlers.
 *
 * hiredis encodes commands, moves bytes and parses replies; which command a
 * reply belongs to is kept here, in a queue.  Used by redis.c only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_REDIS_LINK_H
#define CACHEKIT_REDIS_LINK_H

#include <hiredis/hiredis.h>

#include "driver.h"

typedef struct Call Call;

struct Link
{
	redisContext *redis;
	bool		connected;
	bool		unsent;			/* bytes wait for the socket */
	bool		failed;
	char		message[200];	/* why */
	Call	   *first;			/* without a reply, in the order they were sent */
	Call	   *last;
	int			calls;
	uint64		replies;
	ServerConfig config;
};

/* A command that waits for its reply; NULL tells that none will come. */
typedef void (*ReplyHandler) (Link *link, Call *call, const redisReply *reply);

struct Call
{
	Call	   *next;
	ReplyHandler handler;
	LinkCallback done;
	void	   *arg;
};

extern Link *redis_open(const ServerConfig *config, char *error, Size error_size);
extern void redis_close(Link *link);
extern int	redis_socket(Link *link);
extern bool redis_wants_write(Link *link);
extern void redis_handle(Link *link, bool readable, bool writable);
extern bool redis_is_connected(Link *link);
extern const char *redis_error(Link *link);
extern int	redis_unanswered(Link *link);
extern uint64 redis_answered(Link *link);

/* The link cannot be used any more; the first reason counts. */
extern void redis_fail(Link *link, const char *message);

/* Queue a command; its handler is called in any case, once. */
extern void redis_send(Link *link, ReplyHandler handler, LinkCallback done, void *arg,
					   int argc, const char **argv, const size_t *lens);

#endif							/* CACHEKIT_REDIS_LINK_H */
