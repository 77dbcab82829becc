/*-------------------------------------------------------------------------
 *
 * memcached_wire.h
 *	  A non-blocking socket to Memcached, with its buffers: bytes and lines.
 *
 * Used by the Memcached driver only.  A wire that has failed stays so until it
 * is closed; the first reason counts.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_MEMCACHED_WIRE_H
#define CACHEKIT_MEMCACHED_WIRE_H

#include <sys/socket.h>

#include "driver.h"
#include "portability/instr_time.h"

#define WIRE_READ_BYTES		(64 * 1024) /* what is read at once, at most */
#define WIRE_MAX_LINE		2048	/* bytes of a line that is sent to us */

typedef struct Wire
{
	int			fd;
	bool		connected;
	bool		failed;
	bool		is_unix;
	struct sockaddr_storage peer;
	socklen_t	peer_len;
	int			address;		/* place in the list of addresses tried; -1: none */
	int			patience;		/* ms that connecting may take */
	instr_time	opened;
	char		message[200];	/* why it failed */
	char	   *out;			/* malloc'ed, as is in */
	Size		out_size;
	Size		out_len;
	Size		out_sent;
	char	   *in;
	Size		in_size;
	Size		in_len;
	Size		in_at;			/* the next byte to be looked at */
	Size		in_kept;		/* bytes before this are not needed any more */
} Wire;

/* Begin to connect; false with a message when that fails at once. */
extern bool wire_open(Wire *wire, const ServerConfig *config, char *error, Size error_size);
/* The same, to where another wire is connected. */
extern bool wire_open_beside(Wire *wire, const Wire *other, char *error, Size error_size);
extern void wire_close(Wire *wire);
extern void wire_fail(Wire *wire, const char *message);
/* The same, and quote what came. */
extern void wire_fail_quoting(Wire *wire, const char *message, const char *bytes, Size len);
/* It has become writable for the first time: connected, or refused. */
extern void wire_finish_connecting(Wire *wire);

/* Room for so many bytes to be sent, of which out_len is told; NULL: failed. */
extern char *wire_reserve(Wire *wire, Size len);
extern void wire_append(Wire *wire, const char *bytes, Size len);
extern bool wire_has_unsent(const Wire *wire);
extern void wire_write(Wire *wire);

/* Read once; returns how much came.  More than `limit` kept bytes are a failure. */
extern Size wire_read(Wire *wire, Size limit);
/* Take a line, which ends at *len with \r\n or \n; false when there is none yet. */
extern bool wire_take_line(Wire *wire, char **line, Size *len);

#endif							/* CACHEKIT_MEMCACHED_WIRE_H */
