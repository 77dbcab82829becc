/*
 * client.h
 *		What the programs of the measurements share: a connection to Redis, its
 *		replies, the time.
 *
 * Whatever goes wrong ends the program with a message: a measurement that is
 * half right is none.
 */
#ifndef CLIENT_H
#define CLIENT_H

#include <stddef.h>
#include <stdint.h>
#include <hiredis/hiredis.h>

/* says why and exits with 1 */
extern void give_up(const char *format,...) __attribute__((format(printf, 1, 2), noreturn));

/* a positive number, from the command line */
extern int	number_argument(const char *text);

extern int64_t now_ns(void);

/* a host that begins with "/" is a Unix socket */
extern redisContext *redis_open(const char *host, int port);

/* queues "command key", or "command key value" if value is not NULL */
extern void redis_send(redisContext *redis, const char *command, const char *key,
					   const char *value);

/* the next reply, which is not an error; the caller frees it */
extern redisReply *redis_reply(redisContext *redis);

#endif							/* CLIENT_H */
