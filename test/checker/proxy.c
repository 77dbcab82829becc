/*
 * proxy.c
 *		A proxy between cachekit and the hosts of Memcached, which can cut
 *		connections.
 *
 * A connection that is cut late is closed at cachekit's end only.  What had
 * been sent through it, also what nobody had read yet, is kept, and goes to
 * the host when its time has come, while its successor is already at work:
 * the network may do the same.  So that there is something to be late, reading
 * from cachekit stops some milliseconds before such a cut.
 *
 * All but the order to cut belongs to the one thread.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "memcached.h"
#include "proxy.h"
#include "report.h"

#define MAX_PAIRS		256
#define BUFFER_SIZE		(256 * 1024)
#define TURN_MS			5		/* a cut is noticed so late */
#define HOLD_MS			20		/* nothing is read for so long before a late cut */

enum
{
	CLIENT, HOST				/* the ends of a pair */
};

/* Bytes that came from one end, for the other one. */
typedef struct Flow
{
	char	   *bytes;			/* BUFFER_SIZE */
	size_t		at;				/* passed on so far */
	size_t		len;
} Flow;

typedef struct Pair
{
	int			fd[2];			/* of both ends; [CLIENT] is -1 after a late cut */
	Flow		from[2];
	int64_t		held_until;		/* then it is cut; 0: it is not held */
	int64_t		late_until;		/* then the rest goes to the host */
} Pair;

static struct
{
	int			fd;
	const char *back;
}			fronts[MAX_MEMCACHED];
static atomic_int nfronts;
static Pair *pairs[MAX_PAIRS];
static int	npairs;
static _Atomic int64_t cut_order;	/* 0: none, 1: now, else now, and so many ms late */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static int
new_socket(const char *path, struct sockaddr_un *address, int flags)
{
	int			fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);

	if (fd < 0)
		report_fatal("could not make a socket: %s", strerror(errno));
	*address = (struct sockaddr_un) {.sun_family = AF_UNIX};
	snprintf(address->sun_path, sizeof(address->sun_path), "%s", path);
	return fd;
}

static void
accept_one(int front)
{
	struct sockaddr_un address;
	Pair	   *pair;
	int			client = accept4(fronts[front].fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	int			host;

	if (client < 0)
		return;
	/* a host that is frozen must not hold up the others: no answer is an answer */
	host = new_socket(fronts[front].back, &address, SOCK_NONBLOCK);
	if (npairs == MAX_PAIRS ||
		connect(host, (struct sockaddr *) &address, sizeof(address)) != 0)
	{
		close(client);
		close(host);
		return;
	}
	pair = calloc(1, sizeof(Pair));
	if (pair == NULL ||
		(pair->from[CLIENT].bytes = malloc(BUFFER_SIZE)) == NULL ||
		(pair->from[HOST].bytes = malloc(BUFFER_SIZE)) == NULL)
		report_fatal("out of memory");
	pair->fd[CLIENT] = client;
	pair->fd[HOST] = host;
	pairs[npairs++] = pair;
}

static void
close_pair(int i)
{
	Pair	   *pair = pairs[i];

	for (int end = CLIENT; end <= HOST; end++)
	{
		if (pair->fd[end] >= 0)
			close(pair->fd[end]);
		free(pair->from[end].bytes);
	}
	free(pair);
	pairs[i] = pairs[--npairs];
}

/* More from one end; false when it has closed, or nobody can know. */
static bool
take(Pair *pair, int end)
{
	Flow	   *flow = &pair->from[end];
	ssize_t		n;

	if (flow->len == BUFFER_SIZE)
		return true;
	n = recv(pair->fd[end], flow->bytes + flow->len, BUFFER_SIZE - flow->len, 0);
	if (n > 0)
		flow->len += (size_t) n;
	return n > 0 || (n < 0 && errno == EAGAIN);
}

/* What came from one end goes to the other one, if that takes it. */
static bool
pass_on(Pair *pair, int end)
{
	Flow	   *flow = &pair->from[end];
	ssize_t		n;

	if (flow->at == flow->len)
		return true;
	n = send(pair->fd[1 - end], flow->bytes + flow->at, flow->len - flow->at, MSG_NOSIGNAL);
	if (n > 0)
		flow->at += (size_t) n;
	if (flow->at == flow->len)
		flow->at = flow->len = 0;
	return n > 0 || errno == EAGAIN;
}

/* The end of a pair that is held; what cachekit has sent so far is kept. */
static void
cut_late(Pair *pair)
{
	while (pair->from[CLIENT].len < BUFFER_SIZE)
	{
		size_t		before = pair->from[CLIENT].len;

		if (!take(pair, CLIENT) || pair->from[CLIENT].len == before)
			break;
	}
	close(pair->fd[CLIENT]);
	pair->fd[CLIENT] = -1;
	pair->held_until = 0;
}

/* False when it is over. */
static bool
serve_late(Pair *pair, int64_t now)
{
	Flow	   *flow = &pair->from[CLIENT];

	if (now < pair->late_until)
		return true;
	if (!pass_on(pair, CLIENT))
		return false;
	/* a moment, for the host to read it */
	return flow->len > 0 || now < pair->late_until + INT64_C(100000000);
}

static bool
serve(Pair *pair, const struct pollfd *polled, int64_t now)
{
	if (pair->fd[CLIENT] < 0)
		return serve_late(pair, now);
	if (pair->held_until != 0)
	{
		if (now >= pair->held_until)
			cut_late(pair);
		return true;
	}
	for (int end = CLIENT; end <= HOST; end++)
	{
		if ((polled[end].revents & (POLLIN | POLLHUP | POLLERR)) && !take(pair, end))
			return false;
		if (!pass_on(pair, end))
			return false;
	}
	return true;
}

static void
obey(int64_t order)
{
	for (int i = npairs - 1; i >= 0; i--)
	{
		if (pairs[i]->fd[CLIENT] < 0)
			continue;
		if (order == 1)
			close_pair(i);
		else
		{
			pairs[i]->held_until = now_ns() + HOLD_MS * INT64_C(1000000);
			pairs[i]->late_until = pairs[i]->held_until + order * INT64_C(1000000);
		}
	}
}

static void *
proxy_main(void *arg)
{
	static struct pollfd polled[MAX_MEMCACHED + 2 * MAX_PAIRS];

	(void) arg;
	for (;;)
	{
		int			n = nfronts;
		int			served = npairs;
		int64_t		order = atomic_exchange(&cut_order, 0);
		int64_t		now;

		if (order != 0)
		{
			obey(order);
			served = npairs;
		}
		for (int i = 0; i < n; i++)
			polled[i] = (struct pollfd) {.fd = fronts[i].fd, .events = POLLIN};
		for (int i = 0; i < served; i++)
			for (int end = CLIENT; end <= HOST; end++)
			{
				Pair	   *pair = pairs[i];
				bool		idle = pair->fd[CLIENT] < 0 || pair->held_until != 0;
				short		events = 0;

				if (pair->from[end].len < BUFFER_SIZE)
					events |= POLLIN;
				if (pair->from[1 - end].len > pair->from[1 - end].at)
					events |= POLLOUT;
				polled[n + 2 * i + end] = (struct pollfd) {
					.fd = idle ? -1 : pair->fd[end], .events = events
				};
			}
		(void) poll(polled, (nfds_t) (n + 2 * served), TURN_MS);
		now = now_ns();
		for (int i = served - 1; i >= 0; i--)
			if (!serve(pairs[i], &polled[n + 2 * i], now))
				close_pair(i);
		for (int i = 0; i < n; i++)
			if (polled[i].revents & POLLIN)
				accept_one(i);
	}
	return NULL;
}

static void
start_thread(void)
{
	pthread_t	thread;

	if (pthread_create(&thread, NULL, proxy_main, NULL) != 0)
		report_fatal("could not start a thread");
	pthread_detach(thread);
}

void
proxy_open(const char *front, const char *back)
{
	struct sockaddr_un address;
	int			fd = new_socket(front, &address, SOCK_NONBLOCK);

	if (bind(fd, (struct sockaddr *) &address, sizeof(address)) != 0 || listen(fd, 64) != 0)
		report_fatal("could not listen on %s: %s", front, strerror(errno));
	fronts[nfronts].fd = fd;
	fronts[nfronts].back = back;
	nfronts++;
	pthread_once(&once, start_thread);
}

void
proxy_cut(int late_ms)
{
	atomic_store(&cut_order, late_ms > 1 ? late_ms : 1);
}
