/*
 * target_replies.c
 *		Replies of cache servers, through the drivers and real sockets.
 *
 * The input says which commands are sent, and what "the server" answers,
 * whatever has been asked.  It is sent twice: in pieces of which the input says
 * how long they are, and at once; both must end in the same way.  Each command
 * must be told once how it ended, and it may be told that it was done only
 * where the bytes that came say so, as far as a look at them from here can
 * tell: it must not depend on what the driver's own parser thinks.
 */
#include "fuzz.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "driver.h"

#define MAX_COMMANDS	6
#define MAX_KEYS		4
#define MAX_PIECES		8
#define MAX_TURNS		2000
#define OWNER_KEY		"ns:cachekit:owner"
#define MARKER_KEY		"ns:cachekit:marker"

typedef enum CommandKind
{
	COMMAND_DEL, COMMAND_GET, COMMAND_EXISTS, COMMAND_PUT, COMMAND_PUT_IF_OWNER,
	COMMAND_PUT_MARKER, COMMAND_HELLO, COMMAND_FLUSH, COMMANDS
} CommandKind;

typedef struct Value
{
	char	   *bytes;			/* NULL: absent */
	Size		len;
} Value;

typedef struct Command
{
	CommandKind kind;
	int			n;				/* keys, or traces */
	bool		flag;
	/* how it ended */
	int			told;
	LinkStatus	status;
	int			nvalues;
	Value		value[MAX_KEYS];
} Command;

typedef struct Talk
{
	const Driver *driver;
	FlushMethod flush_method;
	int			ncommands;
	Command		command[MAX_COMMANDS];
	char	   *reply;
	size_t		len;
} Talk;

static const char *const key_names[MAX_KEYS] = {"ns:e:1", "ns:e:2", "ns:e:33", "ns:other:%20"};

/* ---------- the server's side ---------- */

static int	listener = -1;
static const char *socket_path;

static void
listen_once(void)
{
	struct sockaddr_un address;

	if (listener >= 0)
		return;
	socket_path = getenv("FUZZ_SOCKET");
	expect(socket_path != NULL && socket_path[0] == '/', "FUZZ_SOCKET is no path");
	unlink(socket_path);
	memset(&address, 0, sizeof(address));
	address.sun_family = AF_UNIX;
	strlcpy(address.sun_path, socket_path, sizeof(address.sun_path));
	listener = socket(AF_UNIX, SOCK_STREAM, 0);
	if (listener < 0 || bind(listener, (struct sockaddr *) &address, sizeof(address)) != 0 ||
		listen(listener, 16) != 0 || fcntl(listener, F_SETFL, O_NONBLOCK) != 0)
	{
		perror(socket_path);
		exit(2);
	}
}

static int
accept_one(void)
{
	int			fd = accept(listener, NULL, NULL);

	if (fd >= 0)
		(void) fcntl(fd, F_SETFL, O_NONBLOCK);
	return fd;
}

/* Nobody reads what was asked. */
static void
drain(int fd)
{
	char		buffer[65536];

	while (fd >= 0 && recv(fd, buffer, sizeof(buffer), 0) > 0)
		;
}

/* ---------- our side ---------- */

static void
told(void *arg, LinkStatus status, const LinkValue *values, int n, const char *text)
{
	Command    *command = arg;

	expect(text != NULL && strlen(text) < 10000, "no text");
	command->told++;
	command->status = status;
	command->nvalues = n;
	expect(status == LINK_OK || n == 0, "values of status %d", status);
	expect(n <= MAX_KEYS || command->kind == COMMAND_GET || command->kind == COMMAND_EXISTS,
		   "%d values", n);
	for (int i = 0; i < n; i++)
	{
		Value		value = {NULL, values[i].len};

		if (values[i].bytes)
		{
			/* all of it is touched */
			value.bytes = palloc(values[i].len + 1);
			memcpy(value.bytes, values[i].bytes, values[i].len);
		}
		if (i < MAX_KEYS)
			command->value[i] = value;
	}
}

static void
send_command(const Driver *driver, Link *link, Command *command)
{
	static const LinkTrace traces[] = {{"ns:cachekit:trace:0", 5}, {"ns:cachekit:trace:1", 7}};
	LinkTerms	terms = {OWNER_KEY, "nonce", MARKER_KEY, command->n % 2};
	Size		lens[MAX_KEYS];

	for (int i = 0; i < MAX_KEYS; i++)
		lens[i] = strlen(key_names[i]);
	switch (command->kind)
	{
		case COMMAND_DEL:
			driver->del(link, key_names, lens, command->n, told, command);
			break;
		case COMMAND_GET:
			driver->get(link, key_names, lens, command->n, told, command);
			break;
		case COMMAND_EXISTS:
			driver->exists(link, key_names, lens, command->n, told, command);
			break;
		case COMMAND_PUT:
			driver->put(link, key_names[0], "value", told, command);
			break;
		case COMMAND_PUT_IF_OWNER:
			driver->put_if_owner(link, key_names[0], &terms, "{\"id\": 1}", 9, 60000,
								 command->flag, told, command);
			break;
		case COMMAND_PUT_MARKER:
			driver->put_marker(link, MARKER_KEY, OWNER_KEY, "nonce", command->flag ? "" : "1 old",
							   "1 new", traces, command->n % 3, told, command);
			break;
		case COMMAND_HELLO:
			driver->hello(link, told, command);
			break;
		default:
			driver->flush(link, "ns:e:", command->flag ? OWNER_KEY : NULL, told, command);
	}
}

/* Give the link its turns until nothing happens any more. */
static void
take_turns(const Driver *driver, Link *link, int fd, int *dump)
{
	for (int i = 0; i < MAX_TURNS && driver->error(link) == NULL; i++)
	{
		struct pollfd ready = {driver->socket(link), POLLIN, 0};
		bool		readable = poll(&ready, 1, 0) > 0 && (ready.revents & (POLLIN | POLLHUP));

		if (*dump < 0)
			*dump = accept_one();
		if (!readable && !driver->wants_write(link))
			return;
		driver->handle(link, readable, true);
		drain(fd);
		drain(*dump);
	}
}

static void
feed(const Driver *driver, Link *link, int fd, int *dump, const char *bytes, size_t len)
{
	while (len > 0 && driver->error(link) == NULL)
	{
		ssize_t		n = send(fd, bytes, Min(len, 32768), MSG_NOSIGNAL);

		if (n > 0)
		{
			bytes += n;
			len -= n;
		}
		take_turns(driver, link, fd, dump);
		if (n <= 0)
			return;
	}
}

/* Send the commands, and the reply in these pieces. */
static void
talk(Talk *t, const size_t *piece, int npieces, bool to_dump)
{
	ServerConfig config;
	char		error[256];
	Link	   *link;
	int			fd;
	int			dump = -1;
	size_t		at = 0;

	memset(&config, 0, sizeof(config));
	strlcpy(config.host, socket_path, sizeof(config.host));
	config.connect_timeout = 1000;
	config.flush_method = t->flush_method;
	config.max_value = 100000;
	link = t->driver->open(&config, error, sizeof(error));
	expect(link != NULL, "%s", error);
	fd = accept_one();
	expect(fd >= 0, "accept: %m");
	t->driver->handle(link, false, true);
	expect(t->driver->is_connected(link), "it is not connected");
	for (int i = 0; i < t->ncommands; i++)
	{
		memset(&t->command[i].told, 0, sizeof(Command) - offsetof(Command, told));
		send_command(t->driver, link, &t->command[i]);
	}
	take_turns(t->driver, link, fd, &dump);
	for (int i = 0; i < npieces && at < t->len; i++)
	{
		size_t		n = i == npieces - 1 ? t->len - at : Min(piece[i], t->len - at);

		feed(t->driver, link, fd, &dump, t->reply + at, n);
		at += n;
	}
	if (to_dump && dump >= 0)
	{
		(void) !send(dump, t->reply, Min(t->len, 32768), MSG_NOSIGNAL);
		take_turns(t->driver, link, fd, &dump);
	}
	t->driver->close(link);
	close(fd);
	if (dump >= 0)
		close(dump);
	while ((dump = accept_one()) >= 0)
		close(dump);
}

/* ---------- what the bytes say ---------- */

static bool
has(const Talk *t, const char *text)
{
	return memmem(t->reply, t->len, text, strlen(text)) != NULL;
}

/* Does the reply begin with n lines that acknowledge a deletion in Memcached? */
static bool
begins_with_deletions(const Talk *t, int n)
{
	const char *at = t->reply;
	const char *end = t->reply + t->len;

	for (; n > 0; n--)
	{
		static const char *const lines[] = {"DELETED\r\n", "NOT_FOUND\r\n"};
		int			which = end - at >= 9 && memcmp(at, lines[0], 9) == 0 ? 0 :
			end - at >= 11 && memcmp(at, lines[1], 11) == 0 ? 1 : -1;

		if (which < 0)
			return false;
		at += strlen(lines[which]);
	}
	return true;
}

/* Is there a VALUE of this key with these bytes? */
static bool
has_value(const Talk *t, const char *key, const Value *value)
{
	char	   *head = psprintf("VALUE %s ", key);
	const char *at = t->reply;
	const char *end = t->reply + t->len;

	while ((at = memmem(at, end - at, head, strlen(head))) != NULL)
	{
		const char *line_end = memmem(at, end - at, "\r\n", 2);

		if (line_end == NULL)
			return false;
		if ((Size) (end - line_end) >= value->len + 4 &&
			memcmp(line_end + 2, value->bytes, value->len) == 0 &&
			memcmp(line_end + 2 + value->len, "\r\n", 2) == 0)
			return true;
		at++;
	}
	return false;
}

static bool
has_bulk(const Talk *t, const Value *value)
{
	char	   *head = psprintf("%zu\r\n", value->len);
	const char *at = t->reply;
	const char *end = t->reply + t->len;

	while ((at = memmem(at, end - at, head, strlen(head))) != NULL)
	{
		const char *body = at + strlen(head);

		if ((Size) (end - body) >= value->len && memcmp(body, value->bytes, value->len) == 0)
			return true;
		at++;
	}
	return false;
}

static void
expect_told_by_memcached(const Talk *t, const Command *command, bool first)
{
	switch (command->kind)
	{
		case COMMAND_DEL:
			if (first && command->n > 0)
				expect((command->status == LINK_OK) == begins_with_deletions(t, command->n),
					   "a deletion of %d keys ended with status %d", command->n, command->status);
			break;
		case COMMAND_GET:
			expect(command->status != LINK_OK || command->nvalues == command->n, "%d values",
				   command->nvalues);
			for (int i = 0; i < command->nvalues; i++)
				expect(command->value[i].bytes == NULL ||
					   has_value(t, key_names[i], &command->value[i]), "value %d", i);
			break;
		case COMMAND_EXISTS:
			for (int i = 0; i < command->nvalues; i++)
				expect(command->value[i].bytes == NULL || has(t, "HD"), "key %d is there", i);
			break;
		case COMMAND_PUT:
			expect(command->status != LINK_OK || has(t, "STORED\r\n"), "it was stored");
			break;
		case COMMAND_PUT_IF_OWNER:
		case COMMAND_PUT_MARKER:
			if (command->status == LINK_OK && command->value[0].bytes[0] == '1')
				expect(has(t, "VALUE " OWNER_KEY " ") && has(t, "nonce\r\n"), "of another owner");
			if (command->status == LINK_OK && command->value[0].bytes[0] == '1' &&
				command->kind == COMMAND_PUT_MARKER)
				expect(has(t, "STORED\r\n"), "it was stored");
			break;
		case COMMAND_HELLO:
			expect(command->status != LINK_OK || (has(t, "VERSION ") && has(t, "END\r\n")),
				   "it has introduced itself");
			break;
		default:
			expect(command->status != LINK_OK ||
				   has(t, t->flush_method == FLUSH_METHOD_ALL ? "OK\r\n" : "N"), "it was flushed");
	}
}

static void
expect_told_by_redis(const Talk *t, const Command *command, bool first)
{
	bool		good = command->status == LINK_OK;

	switch (command->kind)
	{
		case COMMAND_DEL:
		case COMMAND_PUT_IF_OWNER:
		case COMMAND_PUT_MARKER:
			if (first && good)
				expect(t->reply[0] == ':' && has(t, "\r\n"), "an acknowledgement");
			expect(!good || has(t, ":"), "a number");
			break;
		case COMMAND_GET:
			for (int i = 0; i < command->nvalues && i < MAX_KEYS; i++)
				expect(command->value[i].bytes == NULL || has_bulk(t, &command->value[i]),
					   "value %d", i);
			break;
		case COMMAND_EXISTS:
			expect(!good || has(t, "*"), "an array");
			break;
		case COMMAND_PUT:
		case COMMAND_HELLO:
			expect(!good || (first ? t->reply[0] == '+' : has(t, "+")), "a status");
			break;
		default:
			expect(!good || has(t, "*2\r\n"), "it was scanned");
	}
}

static void
expect_same_end(const Command *a, const Command *b)
{
	expect(a->status == b->status, "it ended with status %d in pieces, %d at once", a->status,
		   b->status);
	expect(a->nvalues == b->nvalues, "%d values in pieces, %d at once", a->nvalues, b->nvalues);
	for (int i = 0; i < a->nvalues && i < MAX_KEYS; i++)
		expect((a->value[i].bytes == NULL) == (b->value[i].bytes == NULL) &&
			   a->value[i].len == b->value[i].len &&
			   (a->value[i].bytes == NULL ||
				memcmp(a->value[i].bytes, b->value[i].bytes, a->value[i].len) == 0),
			   "value %d is another", i);
}

static void
converse(const uint8 *bytes, size_t len, const Driver *driver)
{
	Input		input = {bytes, len};
	Talk		t = {.driver = driver};
	Command		before[MAX_COMMANDS];
	uint8		mode = input_byte(&input);
	size_t		piece[MAX_PIECES];
	int			npieces = 1 + input_byte(&input) % MAX_PIECES;
	bool		scans = false;

	listen_once();
	t.flush_method = mode & 1 ? FLUSH_METHOD_SCAN : FLUSH_METHOD_ALL;
	t.ncommands = 1 + (mode >> 1) % MAX_COMMANDS;
	for (int i = 0; i < t.ncommands; i++)
	{
		uint8		what = input_byte(&input);

		t.command[i].kind = what % COMMANDS;
		t.command[i].n = 1 + (what / COMMANDS) % MAX_KEYS;
		t.command[i].flag = what & 128;
		scans |= t.command[i].kind == COMMAND_FLUSH && t.flush_method == FLUSH_METHOD_SCAN;
	}
	for (int i = 0; i < npieces; i++)
		piece[i] = 1 + input_byte(&input);
	t.reply = input_rest(&input, &t.len);

	talk(&t, piece, npieces, true);
	memcpy(before, t.command, sizeof(before));
	/* the dump of a scan is read when it comes, so there the order of events is open */
	if (!scans || driver == &redis_driver)
		talk(&t, piece, 1, true);
	for (int i = 0; i < t.ncommands; i++)
	{
		expect(t.command[i].told == 1 && before[i].told == 1, "command %d was told %d times", i,
			   before[i].told);
		expect_same_end(&before[i], &t.command[i]);
		if (driver == &redis_driver)
			expect_told_by_redis(&t, &t.command[i], i == 0);
		else
			expect_told_by_memcached(&t, &t.command[i], i == 0);
	}
}

/* Does an array announce ten millions of elements?  hiredis makes room for so many. */
static bool
is_monstrous(const uint8 *bytes, size_t len)
{
	for (size_t i = 0; i + 9 < len; i++)
	{
		if (bytes[i] == '*' &&
			strspn((const char *) memcpy((char[10]) {0}, bytes + i + 1, 9), "0123456789") >= 8)
			return true;
	}
	return false;
}

void
fuzz_redis(const uint8 *bytes, size_t len)
{
	if (!is_monstrous(bytes, len))
		converse(bytes, len, &redis_driver);
}

void
fuzz_memcached(const uint8 *bytes, size_t len)
{
	converse(bytes, len, &memcached_driver);
}
