/*
 * direct_redis.c
 *		Asks Redis for documents: GET for one key, MGET for several.
 */
#include <stddef.h>

#include "direct.h"
#include "redis.h"
#include "report.h"

/* One connection for each thread. */
static _Thread_local redisContext *context;

static bool
connected(void)
{
	struct timeval timeout = {DIRECT_TIMEOUT_MS / 1000, DIRECT_TIMEOUT_MS % 1000 * 1000};

	if (context == NULL)
	{
		context = redis_connect(timeout);
		if (context == NULL)
			report_fatal("out of memory");
		(void) redisSetTimeout(context, timeout);
	}
	return context->err == 0;
}

bool
direct_redis(Question *q)
{
	const char *argv[DIRECT_KEYS + 1] = {q->n == 1 ? "GET" : "MGET"};
	redisReply *reply = NULL;
	bool		answered;

	for (int i = 0; i < q->n; i++)
		argv[i + 1] = q->names[i];
	if (connected())
		reply = redisCommandArgv(context, q->n + 1, argv, NULL);
	if (reply == NULL)
	{
		redisFree(context);
		context = NULL;
		return false;
	}
	/* it answers with an error while it loads its data */
	answered = reply->type != REDIS_REPLY_ERROR;
	if (reply->type == REDIS_REPLY_STRING)
		direct_answer(q, 0, reply->str, "a GET from Redis");
	for (size_t i = 0; reply->type == REDIS_REPLY_ARRAY && i < reply->elements; i++)
		if (reply->element[i]->type == REDIS_REPLY_STRING)
			direct_answer(q, (int) i, reply->element[i]->str, "an MGET from Redis");
	freeReplyObject(reply);
	return answered;
}
