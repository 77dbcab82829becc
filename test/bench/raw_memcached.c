/*
 * raw_memcached.c
 *		How raw.c talks to Memcached: the text protocol, by hand.
 *
 * A batch is a command for each key, in one write.  So much is sent ahead that
 * Memcached need not wait, and so little that its answers fit into the buffers
 * between us while we write.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client.h"
#include "raw.h"

#define BATCH		500
#define AHEAD		8
#define IN_SIZE		65536

typedef struct Conn
{
	int			fd;
	int			counts[AHEAD];	/* lines that answer each batch, oldest first */
	int			batches;
	size_t		at;				/* of what has come, taken so far */
	size_t		len;
	char		in[IN_SIZE];
	char		out[BATCH * (KEY_SIZE + 140)];
} Conn;

static void *
open_memcached(const char *host, int port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t) port)};
	Conn	   *conn = calloc(1, sizeof(Conn));
	int			on = 1;

	if (conn == NULL)
		give_up("out of memory");
	conn->fd = socket(AF_INET, SOCK_STREAM, 0);
	if (conn->fd < 0 || inet_pton(AF_INET, host, &address.sin_addr) != 1 ||
		connect(conn->fd, (struct sockaddr *) &address, sizeof(address)) != 0 ||
		setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0)
		give_up("could not connect to Memcached at %s: %s", host, strerror(errno));
	return conn;
}

static void
send_command(void *arg, RawCommand command, char (*keys)[KEY_SIZE], int n, const char *value)
{
	Conn	   *conn = arg;
	size_t		len = 0;

	for (int i = 0; i < n; i++)
	{
		size_t		room = sizeof(conn->out) - len;
		int			added = 0;

		switch (command)
		{
			case RAW_GET:
				added = snprintf(conn->out + len, room, "get %s\r\n", keys[i]);
				break;
			case RAW_SET:
				added = snprintf(conn->out + len, room, "set %s 0 0 %zu\r\n%s\r\n", keys[i],
								 strlen(value), value);
				break;
			case RAW_DEL:
				added = snprintf(conn->out + len, room, "delete %s\r\n", keys[i]);
				break;
			case RAW_EXISTS:
				added = snprintf(conn->out + len, room, "mg %s\r\n", keys[i]);
				break;
		}
		len += (size_t) added;
		if (len >= sizeof(conn->out))
			give_up("a batch for Memcached is too large");
	}
	for (size_t sent = 0; sent < len;)
	{
		ssize_t		bytes = send(conn->fd, conn->out + sent, len - sent, MSG_NOSIGNAL);

		if (bytes <= 0)
			give_up("could not send to Memcached: %s", strerror(errno));
		sent += (size_t) bytes;
	}
	conn->counts[conn->batches++] = n;
}

static void
receive(Conn *conn)
{
	ssize_t		bytes;

	memmove(conn->in, conn->in + conn->at, conn->len - conn->at);
	conn->len -= conn->at;
	conn->at = 0;
	if (conn->len == IN_SIZE)
		give_up("an answer of Memcached is too long");
	bytes = recv(conn->fd, conn->in + conn->len, IN_SIZE - conn->len, 0);
	if (bytes <= 0)
		give_up("no answer from Memcached");
	conn->len += (size_t) bytes;
}

/* The next line without its end; good until the next call. */
static char *
next_line(Conn *conn)
{
	char	   *end;
	char	   *line;

	while ((end = memchr(conn->in + conn->at, '\n', conn->len - conn->at)) == NULL)
		receive(conn);
	*end = '\0';
	line = conn->in + conn->at;
	conn->at = (size_t) (end + 1 - conn->in);
	return line;
}

static bool
begins(const char *line, const char *with)
{
	return strncmp(line, with, strlen(with)) == 0;
}

/* The answer for one key: is it there, or has it been set? */
static bool
one_answer(Conn *conn)
{
	char	   *line = next_line(conn);
	size_t		bytes;

	if (sscanf(line, "VALUE %*s %*u %zu", &bytes) == 1)
	{
		while (conn->len - conn->at < bytes + 2)
			receive(conn);
		conn->at += bytes + 2;
		if (!begins(next_line(conn), "END"))
			give_up("Memcached sent more than was asked for");
		return true;
	}
	if (begins(line, "DELETED") || begins(line, "STORED") || begins(line, "HD"))
		return true;
	if (!begins(line, "NOT_FOUND") && !begins(line, "EN"))
		give_up("Memcached says: %s", line);
	return false;
}

static int64_t
take_answer(void *arg)
{
	Conn	   *conn = arg;
	int64_t		found = 0;

	for (int i = 0; i < conn->counts[0]; i++)
		found += one_answer(conn);
	memmove(conn->counts, conn->counts + 1, (size_t) --conn->batches * sizeof(int));
	return found;
}

static void
close_memcached(void *arg)
{
	Conn	   *conn = arg;

	close(conn->fd);
	free(conn);
}

const RawKind raw_memcached = {
	"Memcached", BATCH, BATCH, AHEAD, open_memcached, send_command, take_answer, close_memcached
};
