/*
 * client.h
 *		A small client of Memcached's text protocol, over a Unix socket or TCP.
 *
 * It shares nothing with cachekit's, nor with a library, and asks the host
 * that it is told to: where a key is, is not its business.  When anything goes
 * wrong, or takes too long, the connection is closed and fd is -1.
 */
#ifndef CLIENT_H
#define CLIENT_H

#include <stdbool.h>
#include <stddef.h>

typedef struct Client
{
	int			fd;				/* -1 when closed */
	char	   *buffer;			/* malloc'ed; what has come and was not taken */
	size_t		size;
	size_t		at;				/* taken so far */
	size_t		len;			/* come so far */
} Client;

/* *c is new, or closed; the place is the path of a socket, or HOST:PORT */
extern bool client_open(Client *c, const char *place, int timeout_ms);
extern void client_close(Client *c);

extern bool client_send(Client *c, const char *bytes);

/* the next line without its end; good until the next call */
extern char *client_line(Client *c);

/* one line that is answered by one line */
extern char *client_ask(Client *c, const char *command);

/*
 * The next value of the answer to a "get".  False after the last one, and when
 * the connection is lost.
 */
extern bool client_value(Client *c, char *name, size_t size, char **value);

#endif							/* CLIENT_H */
