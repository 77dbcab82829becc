/*
 * gone.c
 *		How long after COMMIT has returned a client of Redis still finds the key.
 *
 * Usage: gone HOST PORT ENTITY KEYS RATE SECONDS [refreshed]; libpq's variables
 * lead to the server.  ENTITY is an attached table of (id, n) with the ids 1 to KEYS, whose
 * cache keys are <database>:ENTITY:<id>.
 *
 * One round: SET the key by hand; GET it, which is timed as the probe's own
 * cost; UPDATE its row by a prepared statement, which is a transaction; from
 * the moment at which libpq has the result on, GET until it is absent.  So a
 * time is too long by one GET at most, and never too short.  Rounds are due at
 * a fixed rate; one that is due while another runs follows at once.
 *
 * With "refreshed" the entity has on_change => 'refresh': then GET until the
 * document shows the new n, and a key that is absent meanwhile counts as one
 * that was not refreshed.
 *
 * Prints one line: p50 and p99 until it is gone, p50 and p99 of the probe, all
 * in ms; rounds a second; the share of rounds in which the first look found the
 * key gone; the share of those in which it was absent before the document came.
 */
#include <libpq-fe.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client.h"

#define GIVE_UP_NS	5000000000	/* a key that is still there is there for good */

typedef struct Times
{
	int64_t    *ns;
	int			n;
} Times;

static bool refreshed = false;	/* wait for the new document */

static PGconn *
connect_server(const char *entity)
{
	PGconn	   *conn = PQconnectdb("");
	PGresult   *result;
	char		update[256];

	if (PQstatus(conn) != CONNECTION_OK)
		give_up("could not connect: %s", PQerrorMessage(conn));
	snprintf(update, sizeof(update), "UPDATE %s SET n = n + 1 WHERE id = $1 RETURNING n", entity);
	result = PQprepare(conn, "update", update, 0, NULL);
	if (PQresultStatus(result) != PGRES_COMMAND_OK)
		give_up("could not prepare: %s", PQerrorMessage(conn));
	PQclear(result);
	return conn;
}

/* Returns the new n. */
static int
update_row(PGconn *conn, const char *id)
{
	int			n;

	PGresult   *result = PQexecPrepared(conn, "update", 1, &id, NULL, NULL, 0);

	if (PQresultStatus(result) != PGRES_TUPLES_OK || PQntuples(result) != 1)
		give_up("could not update row %s: %s", id, PQerrorMessage(conn));
	n = atoi(PQgetvalue(result, 0, 0));
	PQclear(result);
	return n;
}

static void
set_key(redisContext *redis, const char *key)
{
	redis_send(redis, "SET", key, "by hand");
	freeReplyObject(redis_reply(redis));
}

static bool
is_there(redisContext *redis, const char *key)
{
	redisReply *reply;
	bool		there;

	redis_send(redis, "GET", key, NULL);
	reply = redis_reply(redis);
	there = reply->type == REDIS_REPLY_STRING;
	freeReplyObject(reply);
	return there;
}

/* Is it the document that shows n?  Not there at all counts as a gap. */
static bool
shows(redisContext *redis, const char *key, int n, bool *gap)
{
	redisReply *reply;
	char		member[32];
	bool		found = false;

	snprintf(member, sizeof(member), "\"n\": %d,", n);	/* jsonb puts the shorter name first */
	redis_send(redis, "GET", key, NULL);
	reply = redis_reply(redis);
	if (reply->type == REDIS_REPLY_STRING)
		found = strstr(reply->str, member) != NULL;
	else
		*gap = true;
	freeReplyObject(reply);
	return found;
}

/* Returns the number of looks until it was gone, or refreshed; negative: with a gap. */
static int
one_round(PGconn *conn, redisContext *redis, const char *entity, int id, Times *gone,
		  Times *probe)
{
	char		number[16];
	char		key[256];
	int64_t		start;
	int			looks = 1;
	int			n;
	bool		gap = false;

	snprintf(number, sizeof(number), "%d", id);
	snprintf(key, sizeof(key), "%s:%s:%d", PQdb(conn), entity, id);
	set_key(redis, key);
	start = now_ns();
	if (!is_there(redis, key))
		give_up("%s is gone before its row has changed", key);
	probe->ns[probe->n++] = now_ns() - start;

	n = update_row(conn, number);
	start = now_ns();
	for (; refreshed ? !shows(redis, key, n, &gap) && !gap : is_there(redis, key); looks++)
	{
		if (now_ns() - start > GIVE_UP_NS)
			give_up("%s is still what it was after 5 s", key);
	}
	gone->ns[gone->n++] = now_ns() - start;
	return gap ? -looks : looks;
}

static int
by_time(const void *a, const void *b)
{
	int64_t		x = *(const int64_t *) a;
	int64_t		y = *(const int64_t *) b;

	return (x > y) - (x < y);
}

/* Of times that have been sorted, in ms. */
static double
percentile(const Times *times, double share)
{
	return times->ns[(int) ((times->n - 1) * share)] / 1e6;
}

static void
wait_until(int64_t due)
{
	struct timespec t = {due / 1000000000, due % 1000000000};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) != 0)
		;
}

int
main(int argc, char **argv)
{
	if (argc != 7 && !(argc == 8 && strcmp(argv[7], "refreshed") == 0))
		give_up("usage: gone HOST PORT ENTITY KEYS RATE SECONDS [refreshed]");
	refreshed = (argc == 8);

	redisContext *redis = redis_open(argv[1], number_argument(argv[2]));
	const char *entity = argv[3];
	int			keys = number_argument(argv[4]);
	int			rate = number_argument(argv[5]);
	int			rounds = rate * number_argument(argv[6]);
	PGconn	   *conn = connect_server(entity);
	Times		gone = {calloc(rounds, sizeof(int64_t)), 0};
	Times		probe = {calloc(rounds, sizeof(int64_t)), 0};
	int			at_first_look = 0;
	int			gaps = 0;
	int64_t		start = now_ns();
	double		seconds;

	if (gone.ns == NULL || probe.ns == NULL)
		give_up("out of memory");
	for (int i = 0; i < rounds; i++)
	{
		wait_until(start + (int64_t) i * 1000000000 / rate);
		int			looks = one_round(conn, redis, entity, 1 + i % keys, &gone, &probe);

		at_first_look += (looks == 1);
		gaps += (looks < 0);
	}
	wait_until(start + (int64_t) rounds * 1000000000 / rate);
	seconds = (now_ns() - start) / 1e9;

	qsort(gone.ns, gone.n, sizeof(int64_t), by_time);
	qsort(probe.ns, probe.n, sizeof(int64_t), by_time);
	printf("%.4f %.4f %.4f %.4f %.1f %.3f %.4f\n", percentile(&gone, 0.50), percentile(&gone, 0.99),
		   percentile(&probe, 0.50), percentile(&probe, 0.99), rounds / seconds,
		   (double) at_first_look / rounds, (double) gaps / rounds);
	PQfinish(conn);
	redisFree(redis);
	return 0;
}
