/*
 * orders.c
 *		Orders that come by stdin, with --orders.
 *
 * Only the main thread reads them, and only while there is no outage: an order
 * that is given in one is executed when it is over.
 */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "history.h"
#include "orders.h"
#include "report.h"

/* Roles that can be held; an order for "direct" is not one for "delivery". */
static const char *const roles[] = {"ddl", "direct", "delivery"};

#define ROLES	((int) (sizeof(roles) / sizeof(roles[0])))

static atomic_bool held[ROLES];
static atomic_int busy[ROLES];	/* sessions in a round of work */

static char input[1000];		/* what has come and is no whole line yet */
static size_t length;

static int
role_number(const char *name)
{
	for (int i = 0; i < ROLES; i++)
		if (strcmp(roles[i], name) == 0)
			return i;
	return -1;
}

/*
 * A session counts itself before it looks, and who holds its role sets that
 * before he counts: one of them sees the other.
 */
bool
orders_begin_work(const Session *s)
{
	int			role = role_number(s->role);

	if (role < 0)
		return true;
	atomic_fetch_add(&busy[role], 1);
	if (!atomic_load(&held[role]))
		return true;
	atomic_fetch_sub(&busy[role], 1);
	return false;
}

void
orders_end_work(const Session *s)
{
	int			role = role_number(s->role);

	if (role >= 0)
		atomic_fetch_sub(&busy[role], 1);
}

/* Returns when no session of that role is at work any more. */
static void
hold(const char *name, bool hold)
{
	int			role = role_number(name);

	if (role < 0)
		report_fatal("no role \"%s\" can be held", name);
	atomic_store(&held[role], hold);
	while (hold && atomic_load(&busy[role]) > 0)
		nanosleep(&(struct timespec) {.tv_nsec = 1000000}, NULL);
	orders_done("%s %s", hold ? "hold" : "release", name);
}

/* The next line of stdin, without its end; NULL: there is none yet. */
static const char *
next_line(void)
{
	static char line[sizeof(input)];
	struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
	char	   *end = memchr(input, '\n', length);

	if (end == NULL && poll(&in, 1, 0) > 0)
	{
		ssize_t		n = read(STDIN_FILENO, input + length, sizeof(input) - length);

		if (n == 0)
			return "end";
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			report_fatal("could not read an order: %s", strerror(errno));
		length += n > 0 ? (size_t) n : 0;
		end = memchr(input, '\n', length);
	}
	if (end == NULL && length == sizeof(input))
		report_fatal("an order is too long");
	if (end == NULL)
		return NULL;
	*end = '\0';
	strcpy(line, input);
	length -= (size_t) (end + 1 - input);
	memmove(input, end + 1, length);
	return line;
}

Order
orders_next(void)
{
	const char *line = next_line();

	if (line == NULL)
		return ORDER_NONE;
	if (strcmp(line, "status") == 0)
		return ORDER_STATUS;
	if (strcmp(line, "rest") == 0)
		return ORDER_REST;
	if (strcmp(line, "end") == 0)
		return ORDER_END;
	if (strcmp(line, "lossy") == 0)
	{
		history_may_lose();
		orders_done("lossy");
	}
	else if (strcmp(line, "back") == 0)
	{
		history_goes_back(CACHE_REDIS);
		orders_done("back");
	}
	else if (strncmp(line, "hold ", 5) == 0)
		hold(line + 5, true);
	else if (strncmp(line, "release ", 8) == 0)
		hold(line + 8, false);
	else
		report_fatal("there is no order \"%s\"", line);
	return ORDER_NONE;
}

void
orders_done(const char *format,...)
{
	va_list		args;

	flockfile(stdout);
	printf("done: ");
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
	fflush(stdout);
	funlockfile(stdout);
}
