/*
 * direct.c
 *		What the sessions do that ask Memcached themselves, as a program would.
 *
 * Such a program may see what was before the last COMMIT: a deletion takes its
 * time.  So its reads are held to deliveries.  A session asks again and again,
 * by wait_for_delivery, until all that was committed has arrived; from then on
 * nothing older may ever be read, whatever arrives late.  And at no time may
 * there be what was never committed.
 *
 * Every host is asked for any key, so that it is noticed, too, when one is
 * where no program would look for it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client.h"
#include "document.h"
#include "memcached.h"
#include "report.h"
#include "work.h"

#define KEYS_PER_GET	10
#define TIMEOUT_MS		500		/* then the host is asked again later */
#define PAUSE_MS		1		/* between two questions, to leave something to others */
#define DELIVERY_MS		20		/* between two deliveries */

/* One connection to each host for each thread. */
static _Thread_local Client clients[MAX_MEMCACHED];
static _Thread_local bool clients_made;

static Client *
client_of(int host)
{
	Client	   *client = &clients[host];

	for (int i = 0; !clients_made && i < MAX_MEMCACHED; i++)
		clients[i].fd = -1;
	clients_made = true;
	if (client->fd < 0)
		(void) client_open(client, memcached_path(host), TIMEOUT_MS);
	return client;
}

/* The key of a document's name, and its place among those that were asked for. */
static int
place_of(const Session *s, const Bound *bounds, const char *name)
{
	char		expected[80];

	for (int i = 0; i < KEYS_PER_GET; i++)
	{
		snprintf(expected, sizeof(expected), NAMESPACE ":%s:%d", tables[s->table].name,
				 bounds[i].key);
		if (strcmp(name, expected) == 0)
			return i;
	}
	report_fatal("Memcached returned a key that nobody asked for: %s", name);
}

void
direct_work(Session *s)
{
	int			host = (int) (session_random(s) % (uint32_t) options.memcached);
	Client	   *client = client_of(host);
	Bound		bounds[KEYS_PER_GET];
	char		get[KEYS_PER_GET * 80];
	char		name[80];
	char		how[80];
	char	   *value;
	size_t		length = (size_t) snprintf(get, sizeof(get), "get");

	for (int i = 0; i < KEYS_PER_GET; i++)
	{
		history_bound_delivered(key_to_read(s), &bounds[i]);
		length += (size_t) snprintf(get + length, sizeof(get) - length, " " NAMESPACE ":%s:%d",
									tables[s->table].name, bounds[i].key);
	}
	snprintf(get + length, sizeof(get) - length, "\r\n");
	snprintf(how, sizeof(how), "a get from host %d of Memcached", host);
	if (client_send(client, get))
	{
		count_up(s, COUNT_DIRECT_ASKED, KEYS_PER_GET);
		while (client_value(client, name, sizeof(name), &value))
		{
			const Bound *bound = &bounds[place_of(s, bounds, name)];
			Seen		seen;

			if (value[0] == '\0')	/* the place for a document */
				continue;
			if (!document_parse(value, &seen))
				report_violation("torn", "key %d, %s by session %d returned \"%s\"",
								 bound->key, how, s->number, value);
			else
				(void) history_judge(bound, &seen, READ_MAY_MISS, how, s->number);
			count_up(s, COUNT_DIRECT, 1);
		}
	}
	pause_ms(PAUSE_MS);
}

/* The session to whose deliveries they are held. */
void
delivery_work(Session *s)
{
	uint64_t	life = history_delivery_begins();
	PGresult   *res = session_query(s, "SELECT cachekit.wait_for_delivery('1 s')");

	if (res != NULL && strcmp(PQgetvalue(res, 0, 0), "t") == 0)
	{
		history_delivered(life);
		count_up(s, COUNT_DELIVERIES, 1);
	}
	else if (s->failure == FAILED_ERROR)
		report_violation("error", "wait_for_delivery() failed: %s", s->message);
	PQclear(res);
	if (!session_lost(s))
		pause_ms(DELIVERY_MS);
}
