/*-------------------------------------------------------------------------
 *
 * memcached_wire.c
 *	  A non-blocking socket to Memcached, with its buffers: bytes and lines.
 *
 * Memory is malloc'ed, and running out of it fails the wire: callbacks run
 * above us, so no error may be raised here.
 *
 * The event loop registers a socket once, so a wire keeps the one that it was
 * opened with.  An address that refuses at once, as local ones do, is followed
 * by the next; one that turns out to be bad later is remembered, and the next
 * wire begins with another.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "memcached_wire.h"

#define OUT_BYTES		(16 * 1024) /* to begin with */
#define SPARE_BYTES		(1024 * 1024)	/* an empty buffer of more than this is freed */
#define QUOTED_BYTES	80
#define MAX_ADDRESSES	64		/* of which is known whether they are bad */

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL	0
#endif

/* Addresses that were tried, and whether they failed after the first moment. */
typedef struct TriedAddress
{
	struct sockaddr_storage address;
	socklen_t	len;
	bool		bad;
} TriedAddress;

static TriedAddress tried[MAX_ADDRESSES];
static int	ntried = 0;
static unsigned next_tried = 0;

void
wire_fail(Wire *wire, const char *message)
{
	if (wire->failed)
		return;
	wire->failed = true;
	strlcpy(wire->message, message && message[0] ? message : "connection lost",
			sizeof(wire->message));
}

void
wire_fail_quoting(Wire *wire, const char *message, const char *bytes, Size len)
{
	char		quoted[QUOTED_BYTES + 1];
	char		text[sizeof(wire->message)];
	Size		n = Min(len, QUOTED_BYTES);

	for (Size i = 0; i < n; i++)
		quoted[i] = bytes[i] >= ' ' && bytes[i] <= '~' ? bytes[i] : '?';
	quoted[n] = '\0';
	snprintf(text, sizeof(text), "%s: \"%s\"", message, quoted);
	wire_fail(wire, text);
}

/* ---------- connecting ---------- */

/* The place of an address in the list; -1 when there is no room for it. */
static int
find_address(const struct sockaddr *address, socklen_t len)
{
	int			place;

	if (len > sizeof(tried[0].address))
		return -1;
	for (int i = 0; i < ntried; i++)
	{
		if (tried[i].len == len && memcmp(&tried[i].address, address, len) == 0)
			return i;
	}
	/* the oldest one is forgotten */
	place = next_tried++ % MAX_ADDRESSES;
	ntried = Max(ntried, place + 1);
	memcpy(&tried[place].address, address, len);
	tried[place].len = len;
	tried[place].bad = false;
	return place;
}

/* Begin to connect to an address; 0, or the errno of why that failed. */
static int
begin_connecting(Wire *wire, const struct sockaddr *address, socklen_t len)
{
	int			on = 1;
	int			error;
	int			fd = socket(address->sa_family, SOCK_STREAM, 0);

	if (fd < 0)
		return errno;
	if (len > sizeof(wire->peer))
		errno = EINVAL;
	else if (fcntl(fd, F_SETFD, FD_CLOEXEC) == 0 && fcntl(fd, F_SETFL, O_NONBLOCK) == 0)
	{
		/* small commands must not wait for each other's acknowledgements */
		if (!wire->is_unix)
			(void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		if (connect(fd, address, len) == 0 || errno == EINPROGRESS)
		{
			wire->fd = fd;
			memcpy(&wire->peer, address, len);
			wire->peer_len = len;
			return 0;
		}
	}
	error = errno;
	close(fd);
	return error;
}

static int
open_unix(Wire *wire, const char *path)
{
	struct sockaddr_un address;

	memset(&address, 0, sizeof(address));
	address.sun_family = AF_UNIX;
	if (strlcpy(address.sun_path, path, sizeof(address.sun_path)) >= sizeof(address.sun_path))
		return ENAMETOOLONG;
	return begin_connecting(wire, (struct sockaddr *) &address, sizeof(address));
}

/* Try those addresses that are not known to be bad, in turn. */
static int
try_addresses(Wire *wire, const struct addrinfo *addresses)
{
	int			error = EADDRNOTAVAIL;

	for (; addresses && wire->fd < 0; addresses = addresses->ai_next)
	{
		int			place = find_address(addresses->ai_addr, addresses->ai_addrlen);

		if (place >= 0 && tried[place].bad)
			continue;
		error = begin_connecting(wire, addresses->ai_addr, addresses->ai_addrlen);
		wire->address = place;
	}
	return error;
}

static int
open_one_of(Wire *wire, const struct addrinfo *addresses)
{
	int			error = try_addresses(wire, addresses);

	if (wire->fd >= 0)
		return error;
	/* each has had its turn: the round begins anew */
	for (const struct addrinfo *at = addresses; at; at = at->ai_next)
	{
		int			place = find_address(at->ai_addr, at->ai_addrlen);

		if (place >= 0)
			tried[place].bad = false;
	}
	return try_addresses(wire, addresses);
}

bool
wire_open(Wire *wire, const ServerConfig *config, char *error, Size error_size)
{
	struct addrinfo hints;
	struct addrinfo *addresses = NULL;
	char		port[16];
	int			problem;

	memset(wire, 0, sizeof(Wire));
	wire->fd = wire->address = -1;
	wire->patience = config->connect_timeout;
	INSTR_TIME_SET_CURRENT(wire->opened);
	wire->is_unix = config->host[0] == '/';
	if (wire->is_unix)
		problem = open_unix(wire, config->host);
	else
	{
		memset(&hints, 0, sizeof(hints));
		hints.ai_socktype = SOCK_STREAM;
		snprintf(port, sizeof(port), "%d", config->port);
		problem = getaddrinfo(config->host, port, &hints, &addresses);
		if (problem != 0)
		{
			strlcpy(error, problem == EAI_SYSTEM ? strerror(errno) : gai_strerror(problem),
					error_size);
			return false;
		}
		problem = open_one_of(wire, addresses);
		freeaddrinfo(addresses);
	}
	if (problem != 0)
		strlcpy(error, strerror(problem), error_size);
	return problem == 0;
}

bool
wire_open_beside(Wire *wire, const Wire *other, char *error, Size error_size)
{
	int			problem;

	memset(wire, 0, sizeof(Wire));
	wire->fd = wire->address = -1;
	wire->is_unix = other->is_unix;
	problem = begin_connecting(wire, (const struct sockaddr *) &other->peer, other->peer_len);
	if (problem != 0)
		strlcpy(error, strerror(problem), error_size);
	return problem == 0;
}

void
wire_finish_connecting(Wire *wire)
{
	int			error = 0;
	socklen_t	len = sizeof(error);

	if (getsockopt(wire->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		error = errno;
	if (error != 0)
		wire_fail(wire, strerror(error));
	else
		wire->connected = true;
	if (wire->connected && wire->address >= 0)
		tried[wire->address].bad = false;
}

/* Has connecting failed, or taken too long?  Others may have closed it, too. */
static bool
address_was_bad(const Wire *wire)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, wire->opened);
	return !wire->connected && wire->address >= 0 &&
		(wire->failed || INSTR_TIME_GET_MILLISEC(now) >= wire->patience);
}

void
wire_close(Wire *wire)
{
	if (address_was_bad(wire))
		tried[wire->address].bad = true;
	if (wire->fd >= 0)
		close(wire->fd);
	free(wire->out);
	free(wire->in);
	wire->fd = wire->address = -1;
	wire->out = wire->in = NULL;
}

/* ---------- bytes out ---------- */

char *
wire_reserve(Wire *wire, Size len)
{
	if (wire->failed)
		return NULL;
	if (wire->out_sent > 0 && wire->out_sent >= wire->out_len / 2)
	{
		memmove(wire->out, wire->out + wire->out_sent, wire->out_len - wire->out_sent);
		wire->out_len -= wire->out_sent;
		wire->out_sent = 0;
	}
	if (wire->out_size - wire->out_len < len)
	{
		Size		size = Max(Max(wire->out_size * 2, OUT_BYTES), wire->out_len + len);
		char	   *out = realloc(wire->out, size);

		if (out == NULL)
		{
			wire_fail(wire, "out of memory");
			return NULL;
		}
		wire->out = out;
		wire->out_size = size;
	}
	return wire->out + wire->out_len;
}

void
wire_append(Wire *wire, const char *bytes, Size len)
{
	char	   *to = wire_reserve(wire, len);

	if (to == NULL || len == 0)
		return;
	memcpy(to, bytes, len);
	wire->out_len += len;
}

bool
wire_has_unsent(const Wire *wire)
{
	return wire->out_sent < wire->out_len;
}

void
wire_write(Wire *wire)
{
	while (!wire->failed && wire_has_unsent(wire))
	{
		ssize_t		n = send(wire->fd, wire->out + wire->out_sent,
							 wire->out_len - wire->out_sent, MSG_NOSIGNAL);

		if (n >= 0)
			wire->out_sent += n;
		else if (errno == EAGAIN || errno == EWOULDBLOCK)
			return;
		else if (errno != EINTR)
			wire_fail(wire, strerror(errno));
	}
	if (wire->failed)
		return;
	wire->out_sent = wire->out_len = 0;
	if (wire->out_size > SPARE_BYTES)
	{
		free(wire->out);
		wire->out = NULL;
		wire->out_size = 0;
	}
}

/* ---------- bytes in ---------- */

/* Room for the next read. */
static bool
make_room(Wire *wire)
{
	Size		size = wire->in_size;
	char	   *in;

	if (wire->in_kept > 0)
	{
		memmove(wire->in, wire->in + wire->in_kept, wire->in_len - wire->in_kept);
		wire->in_len -= wire->in_kept;
		wire->in_at -= wire->in_kept;
		wire->in_kept = 0;
	}
	if (size > SPARE_BYTES && wire->in_len < SPARE_BYTES / 4)
		size = SPARE_BYTES;		/* a large reply has gone */
	if (size - wire->in_len < WIRE_READ_BYTES)
		size = Max(size * 2, WIRE_READ_BYTES * 2);
	if (size == wire->in_size)
		return true;
	in = realloc(wire->in, size);
	if (in == NULL)
	{
		wire_fail(wire, "out of memory");
		return false;
	}
	wire->in = in;
	wire->in_size = size;
	return true;
}

Size
wire_read(Wire *wire, Size limit)
{
	ssize_t		n;

	if (wire->failed || !make_room(wire))
		return 0;
	do
		n = recv(wire->fd, wire->in + wire->in_len, WIRE_READ_BYTES, 0);
	while (n < 0 && errno == EINTR);
	if (n > 0)
	{
		wire->in_len += n;
		if (wire->in_len > limit)
			wire_fail(wire, "a reply is too large to be one");
		return n;
	}
	if (n == 0)
		wire_fail(wire, "the connection was closed");
	else if (errno != EAGAIN && errno != EWOULDBLOCK)
		wire_fail(wire, strerror(errno));
	return 0;
}

bool
wire_take_line(Wire *wire, char **line, Size *len)
{
	Size		there = wire->in_len - wire->in_at;
	char	   *end;

	if (there == 0)
		return false;
	*line = wire->in + wire->in_at;
	end = memchr(*line, '\n', Min(there, WIRE_MAX_LINE));
	if (end == NULL)
	{
		if (there >= WIRE_MAX_LINE)
			wire_fail_quoting(wire, "a line is too long to be one", *line, there);
		return false;
	}
	wire->in_at += end + 1 - *line;
	*len = end - *line;
	if (*len > 0 && end[-1] == '\r')
		(*len)--;
	return true;
}
