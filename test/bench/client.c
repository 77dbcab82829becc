/*
 * client.c
 *		What the programs of the measurements share.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client.h"

void
give_up(const char *format,...)
{
	va_list		args;

	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

int
number_argument(const char *text)
{
	char	   *end;
	long		n = strtol(text, &end, 10);

	if (*text == '\0' || *end != '\0' || n <= 0 || n > 1000000000)
		give_up("not a positive number: %s", text);
	return (int) n;
}

int64_t
now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t) t.tv_sec * 1000000000 + t.tv_nsec;
}

redisContext *
redis_open(const char *host, int port)
{
	redisContext *redis = host[0] == '/' ? redisConnectUnix(host) : redisConnect(host, port);

	if (redis == NULL || redis->err)
		give_up("could not connect to Redis: %s", redis ? redis->errstr : "out of memory");
	return redis;
}

void
redis_send(redisContext *redis, const char *command, const char *key, const char *value)
{
	const char *argv[3] = {command, key, value};
	size_t		lens[3] = {strlen(command), strlen(key), value ? strlen(value) : 0};

	if (redisAppendCommandArgv(redis, value ? 3 : 2, argv, lens) != REDIS_OK)
		give_up("could not send to Redis: %s", redis->errstr);
}

redisReply *
redis_reply(redisContext *redis)
{
	void	   *reply;

	if (redisGetReply(redis, &reply) != REDIS_OK)
		give_up("no answer from Redis: %s", redis->errstr);
	if (((redisReply *) reply)->type == REDIS_REPLY_ERROR)
		give_up("Redis says: %s", ((redisReply *) reply)->str);
	return reply;
}
