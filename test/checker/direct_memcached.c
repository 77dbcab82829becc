/*
 * direct_memcached.c
 *		Asks a host of Memcached for documents.
 *
 * Every host is asked for any key, so that it is noticed, too, when one is
 * where no program would look for it.
 */
#include <stdio.h>
#include <string.h>

#include "client.h"
#include "direct.h"
#include "memcached.h"
#include "report.h"

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
		(void) client_open(client, memcached_path(host), DIRECT_TIMEOUT_MS);
	return client;
}

static int
place_of(const Question *q, const char *name)
{
	for (int i = 0; i < q->n; i++)
		if (strcmp(name, q->names[i]) == 0)
			return i;
	report_fatal("Memcached returned a key that nobody asked for: %s", name);
}

bool
direct_memcached(Question *q)
{
	int			host = (int) (session_random(q->session) % (uint32_t) options.memcached);
	Client	   *client = client_of(host);
	char		get[DIRECT_KEYS * DIRECT_NAME];
	char		name[DIRECT_NAME];
	char		how[40];
	char	   *value;
	size_t		length = (size_t) snprintf(get, sizeof(get), "get");

	for (int i = 0; i < q->n; i++)
		length += (size_t) snprintf(get + length, sizeof(get) - length, " %s", q->names[i]);
	snprintf(get + length, sizeof(get) - length, "\r\n");
	snprintf(how, sizeof(how), "a get from host %d of Memcached", host);
	if (!client_send(client, get))
		return false;
	while (client_value(client, name, sizeof(name), &value))
		if (value[0] != '\0')	/* else it is the place for a document */
			direct_answer(q, place_of(q, name), value, how);
	return true;
}
