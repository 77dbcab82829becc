/*
 * raw.c
 *		A cache server without cachekit: what the same machine gives to a plain
 *		client.
 *
 * Usage: raw redis|memcached HOST PORT get PREFIX KEYS CONNECTIONS SECONDS
 *		  raw redis|memcached HOST PORT set|del|exists PREFIX KEYS
 *
 * The keys are PREFIX followed by 1 to KEYS.
 *
 *	  get		GETs of keys at random, one at a time on each connection, each of
 *				which has a thread of its own; prints how many a second
 *	  set		sets all keys to 100 bytes
 *	  del		deletes them, 500 at a time, as a sender does; prints how many
 *				keys a second
 *	  exists	prints how many there are
 *
 * The last three send ahead on one connection, so that the server need not
 * wait.  A GET that finds nothing ends the program, and so does a DEL.  How it
 * is said is in raw_redis.c and raw_memcached.c.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client.h"
#include "raw.h"

static const RawKind *kind;
static const char *host;
static int	port;
static const char *prefix;
static int	keys;
static atomic_bool stopped;

/* ---------- all keys ---------- */

/* Send a command with keys from "first" on, and a value if it takes one. */
static void
send_keys(void *conn, RawCommand command, int first, int n, const char *value)
{
	char		names[n][KEY_SIZE];

	for (int i = 0; i < n; i++)
		snprintf(names[i], KEY_SIZE, "%s%d", prefix, first + i);
	kind->send(conn, command, names, n, value);
}

/* The command for all keys; how many of them there were, or have been set. */
static int64_t
all_keys(RawCommand command, const char *value)
{
	void	   *conn = kind->open(host, port);
	int			batch = value ? kind->set_batch : kind->batch;
	int64_t		sum = 0;
	int			waiting = 0;

	for (int first = 1; first <= keys; first += batch)
	{
		send_keys(conn, command, first, keys - first + 1 < batch ? keys - first + 1 : batch,
				  value);
		if (++waiting < kind->ahead)
			continue;
		sum += kind->answer(conn);
		waiting--;
	}
	for (; waiting > 0; waiting--)
		sum += kind->answer(conn);
	kind->close(conn);
	return sum;
}

static void
set_keys(void)
{
	char		value[101];

	memset(value, 'x', 100);
	value[100] = '\0';
	if (all_keys(RAW_SET, value) != keys)
		give_up("not all of %d keys were set", keys);
}

static void
delete_keys(void)
{
	int64_t		start = now_ns();
	int64_t		deleted = all_keys(RAW_DEL, NULL);

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
	void	   *conn = kind->open(host, port);
	char		key[1][KEY_SIZE];

	while (!atomic_load(&stopped))
	{
		snprintf(key[0], KEY_SIZE, "%s%d", prefix, 1 + rand_r(&reader->seed) % keys);
		kind->send(conn, RAW_GET, key, 1, NULL);
		if (kind->answer(conn) != 1)
			give_up("%s is not there", key[0]);
		reader->gets++;
	}
	kind->close(conn);
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
	const char *what = argc > 4 ? argv[4] : "";
	bool		get = strcmp(what, "get") == 0;

	if (argc != (get ? 9 : 7))
		give_up("usage: raw redis|memcached HOST PORT get PREFIX KEYS CONNECTIONS SECONDS\n"
				"       raw redis|memcached HOST PORT set|del|exists PREFIX KEYS");
	if (strcmp(argv[1], "redis") != 0 && strcmp(argv[1], "memcached") != 0)
		give_up("there is no kind \"%s\"", argv[1]);
	kind = argv[1][0] == 'r' ? &raw_redis : &raw_memcached;
	host = argv[2];
	port = number_argument(argv[3]);
	prefix = argv[5];
	keys = number_argument(argv[6]);
	if (get)
		get_keys(number_argument(argv[7]), number_argument(argv[8]));
	else if (strcmp(what, "set") == 0)
		set_keys();
	else if (strcmp(what, "del") == 0)
		delete_keys();
	else if (strcmp(what, "exists") == 0)
		printf("%lld\n", (long long) all_keys(RAW_EXISTS, NULL));
	else
		give_up("what is \"%s\"?", what);
	return 0;
}
