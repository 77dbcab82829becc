/*
 * client.c
 *		A small client of Memcached's text protocol, over a Unix socket or TCP.
 */
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "client.h"
#include "report.h"

#define PIECE	65536

/* A socket that is connected to HOST:PORT, or to a path; -1 if there is nobody. */
static int
connect_to(const char *place, const struct timeval *timeout)
{
	struct sockaddr_un path = {.sun_family = AF_UNIX};
	struct addrinfo local = {
		.ai_family = AF_UNIX, .ai_socktype = SOCK_STREAM,
		.ai_addr = (struct sockaddr *) &path, .ai_addrlen = sizeof(path)
	};
	struct addrinfo *found = NULL;
	struct addrinfo *address = &local;
	int			fd;

	if (strchr(place, '/') == NULL)
	{
		const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
		const char *colon = strrchr(place, ':');
		char		host[256];

		snprintf(host, sizeof(host), "%.*s", colon != NULL ? (int) (colon - place) : 0, place);
		if (colon == NULL || getaddrinfo(host, colon + 1, &hints, &found) != 0)
			report_fatal("\"%s\" is neither a path nor HOST:PORT", place);
		address = found;
	}
	else
		snprintf(path.sun_path, sizeof(path.sun_path), "%s", place);
	fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		report_fatal("could not make a socket: %s", strerror(errno));
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, timeout, sizeof(*timeout)) != 0 ||
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, timeout, sizeof(*timeout)) != 0 ||
		connect(fd, address->ai_addr, address->ai_addrlen) != 0)
	{
		close(fd);
		fd = -1;
	}
	if (found != NULL)
		freeaddrinfo(found);
	return fd;
}

bool
client_open(Client *c, const char *place, int timeout_ms)
{
	struct timeval timeout = {timeout_ms / 1000, timeout_ms % 1000 * 1000};

	c->at = c->len = 0;
	c->fd = connect_to(place, &timeout);
	if (c->fd < 0)
		client_close(c);
	return c->fd >= 0;
}

void
client_close(Client *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	free(c->buffer);
	c->buffer = NULL;
	c->size = 0;
}

bool
client_send(Client *c, const char *bytes)
{
	size_t		left = strlen(bytes);

	while (c->fd >= 0 && left > 0)
	{
		ssize_t		n = send(c->fd, bytes, left, MSG_NOSIGNAL);

		if (n <= 0)
			client_close(c);
		else
		{
			bytes += n;
			left -= (size_t) n;
		}
	}
	return c->fd >= 0;
}

/* More of an answer; what was taken makes room for it. */
static bool
receive(Client *c)
{
	ssize_t		n;

	if (c->fd < 0)
		return false;
	memmove(c->buffer, c->buffer + c->at, c->len - c->at);
	c->len -= c->at;
	c->at = 0;
	if (c->size - c->len < PIECE)
	{
		c->size = 2 * c->size + PIECE;
		c->buffer = realloc(c->buffer, c->size);
		if (c->buffer == NULL)
			report_fatal("out of memory");
	}
	n = recv(c->fd, c->buffer + c->len, c->size - c->len, 0);
	if (n <= 0)
		client_close(c);
	else
		c->len += (size_t) n;
	return n > 0;
}

char *
client_line(Client *c)
{
	for (;;)
	{
		char	   *line = c->buffer + c->at;
		char	   *end = c->len > c->at ? memchr(line, '\n', c->len - c->at) : NULL;

		if (end != NULL)
		{
			c->at = (size_t) (end + 1 - c->buffer);
			*end = '\0';
			if (end > line && end[-1] == '\r')
				end[-1] = '\0';
			return line;
		}
		if (!receive(c))
			return NULL;
	}
}

char *
client_ask(Client *c, const char *command)
{
	return client_send(c, command) && client_send(c, "\r\n") ? client_line(c) : NULL;
}

bool
client_value(Client *c, char *name, size_t size, char **value)
{
	char	   *line = client_line(c);
	char		format[32];
	size_t		bytes;

	if (line == NULL || strcmp(line, "END") == 0)
		return false;
	snprintf(format, sizeof(format), "VALUE %%%zus %%*u %%zu", size - 1);
	if (sscanf(line, format, name, &bytes) != 2)
		report_fatal("Memcached answered \"%s\" to a \"get\"", line);
	while (c->fd >= 0 && c->len - c->at < bytes + 2)
		(void) receive(c);
	if (c->fd < 0)
		return false;
	*value = c->buffer + c->at;
	(*value)[bytes] = '\0';
	c->at += bytes + 2;
	return true;
}
