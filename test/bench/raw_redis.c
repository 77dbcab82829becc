/*
 * raw_redis.c
 *		How raw.c talks to Redis: with hiredis.
 */
#include <string.h>

#include "client.h"
#include "raw.h"

#define BATCH		500			/* keys in one command, as a sender does it */

static const char *const words[] = {
	[RAW_GET] = "GET", [RAW_SET] = "SET", [RAW_DEL] = "DEL", [RAW_EXISTS] = "EXISTS"
};

static void *
open_redis(const char *host, int port)
{
	return redis_open(host, port);
}

static void
send_command(void *conn, RawCommand command, char (*keys)[KEY_SIZE], int n, const char *value)
{
	const char *argv[BATCH + 2] = {words[command]};
	size_t		lens[BATCH + 2] = {strlen(words[command])};
	int			argc = 1;

	for (int i = 0; i < n; i++)
	{
		lens[argc] = strlen(keys[i]);
		argv[argc++] = keys[i];
	}
	if (value)
	{
		lens[argc] = strlen(value);
		argv[argc++] = value;
	}
	if (redisAppendCommandArgv(conn, argc, argv, lens) != REDIS_OK)
		give_up("could not send to Redis: %s", ((redisContext *) conn)->errstr);
}

/* A number says it; a document or a status is one. */
static int64_t
take_answer(void *conn)
{
	redisReply *reply = redis_reply(conn);
	int64_t		n = reply->type == REDIS_REPLY_INTEGER ? reply->integer :
		reply->type != REDIS_REPLY_NIL;

	freeReplyObject(reply);
	return n;
}

static void
close_redis(void *conn)
{
	redisFree(conn);
}

const RawKind raw_redis = {
	"Redis", BATCH, 1, 64, open_redis, send_command, take_answer, close_redis
};
