/*
 * raw.c
 *		Redis without cachekit: what the same machine gives to a plain client.
 *
 * Usage: raw HOST PORT get PREFIX KEYS CONNECTIONS SECONDS
 *		  raw HOST PORT set|del|exists PREFIX KEYS
 *
 * The keys are PREFIX followed by 1 to KEYS.
 *
 *	  get		GETs of keys at random, one at a time on each connection, each of
 *				which has a thread of its own; prints how many a second
 *	  set		sets all keys to 100 bytes
 *	  del		deletes them, 500 in a command, as a sender does; prints how many
 *				keys a second
 *	  exists	prints how many there are
 *
 * The last three send ahead on one connection, so that Redis need not wait.  A
 * GET that finds nothing ends the program, and so does a DEL.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client.h"

#define BATCH		500			/* keys in one command */
#define AHEAD		64			/* commands without an answer */
#define KEY_SIZE	256

static const char *host;
static int	port;
static const char *prefix;
static int	keys;
static atomic_bool stopped;

/* ---------- all keys ---------- */

/* Send a command with keys from "first" on, and a value if it takes one. */
static void
send_keys(redisContext *redis, const char *command, int first, int n, const char *value)
{
	static char key[BATCH][KEY_SIZE];
	const char *argv[BATCH + 2] = {command};
	size_t		lens[BATCH + 2] = {strlen(command)};
	int			argc = 1;

	for (int i = 0; i < n; i++)
	{
		lens[argc] = snprintf(key[i], KEY_SIZE, "%s%d", prefix, first + i);
		argv[argc++] = key[i];
	}
	if (value)
	{
		lens[argc] = strlen(value);
		argv[argc++] = value;
	}
	if (redisAppendCommandArgv(redis, argc, argv, lens) != REDIS_OK)
		give_up("could not send to Redis: %s", redis->errstr);
}

/* The number that a reply is; a status counts as nothing. */
static int64_t
reply_number(redisContext *redis)
{
	redisReply *reply = redis_reply(redis);
	int64_t		n = reply->type == REDIS_REPLY_INTEGER ? reply->integer : 0;

	freeReplyObject(reply);
	return n;
}

/* The command for all keys, "batch" at a time; the sum of the numbers that it answers. */
static int64_t
all_keys(const char *command, int batch, const char *value)
{
	redisContext *redis = redis_open(host, port);
	int64_t		sum = 0;
	int			waiting = 0;

	for (int first = 1; first <= keys; first += batch)
	{
		send_keys(redis, command, first, keys - first + 1 < batch ? keys - first + 1 : batch,
				  value);
		if (++waiting < AHEAD)
			continue;
		sum += reply_number(redis);
		waiting--;
	}
	for (; waiting > 0; waiting--)
		sum += reply_number(redis);
	redisFree(redis);
	return sum;
}

static void
set_keys(void)
{
	char		value[101];

	memset(value, 'x', 100);
	value[100] = '\0';
	(void) all_keys("SET", 1, value);
}

static void
delete_keys(void)
{
	int64_t		start = now_ns();
	int64_t		deleted = all_keys("DEL", BATCH, NULL);

	if (deleted != keys)
		give_up("%lld of %d keys were there to be deleted", (long long) deleted, keys);
	printf("%.0f\n", keys / ((now_ns() - start) / 1e9));
}

/* ---------- GETs at random ---------- */

typedef struct Reader
{
	pthread_t	thread;
	unsigned int seed;
	int64_t		gets;
} Reader;

static void *
read_keys(void *arg)
{
	Reader	   *reader = arg;
	redisContext *redis = redis_open(host, port);
	char		key[KEY_SIZE];

	while (!atomic_load(&stopped))
	{
		redisReply *reply;

		snprintf(key, sizeof(key), "%s%d", prefix, 1 + rand_r(&reader->seed) % keys);
		redis_send(redis, "GET", key, NULL);
		reply = redis_reply(redis);
		if (reply->type != REDIS_REPLY_STRING)
			give_up("%s is not there", key);
		freeReplyObject(reply);
		reader->gets++;
	}
	redisFree(redis);
	return NULL;
}

static void
get_keys(int connections, int seconds)
{
	Reader	   *readers = calloc(connections, sizeof(Reader));
	int64_t		start = now_ns();
	int64_t		gets = 0;

	if (readers == NULL)
		give_up("out of memory");
	for (int i = 0; i < connections; i++)
	{
		readers[i].seed = i + 1;
		if (pthread_create(&readers[i].thread, NULL, read_keys, &readers[i]) != 0)
			give_up("could not start a thread");
	}
	sleep(seconds);
	atomic_store(&stopped, true);
	for (int i = 0; i < connections; i++)
	{
		pthread_join(readers[i].thread, NULL);
		gets += readers[i].gets;
	}
	printf("%.0f\n", gets / ((now_ns() - start) / 1e9));
	free(readers);
}

int
main(int argc, char **argv)
{
	const char *what = argc > 3 ? argv[3] : "";
	bool		get = strcmp(what, "get") == 0;

	if (argc != (get ? 8 : 6))
		give_up("usage: raw HOST PORT get PREFIX KEYS CONNECTIONS SECONDS\n"
				"       raw HOST PORT set|del|exists PREFIX KEYS");
	host = argv[1];
	port = number_argument(argv[2]);
	prefix = argv[4];
	keys = number_argument(argv[5]);
	if (get)
		get_keys(number_argument(argv[6]), number_argument(argv[7]));
	else if (strcmp(what, "set") == 0)
		set_keys();
	else if (strcmp(what, "del") == 0)
		delete_keys();
	else if (strcmp(what, "exists") == 0)
		printf("%lld\n", (long long) all_keys("EXISTS", BATCH, NULL));
	else
		give_up("what is \"%s\"?", what);
	return 0;
}
