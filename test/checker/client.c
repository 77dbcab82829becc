/*
 * client.c
 *		A small client of Memcached's text protocol, over a Unix socket.
 */
#include <errno.h>
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

bool
client_open(Client *c, const char *path, int timeout_ms)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct timeval timeout = {timeout_ms / 1000, timeout_ms % 1000 * 1000};

	c->at = c->len = 0;
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		report_fatal("could not make a socket: %s", strerror(errno));
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	if (setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) != 0 ||
		setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) != 0 ||
		connect(c->fd, (struct sockaddr *) &address, sizeof(address)) != 0)
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
