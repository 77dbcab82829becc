/*-------------------------------------------------------------------------
 *
 * redis_link.c
 *	  One connection to Redis: commands in, replies to their handlers.
 *
 * On hiredis' non-blocking contexts.  Its own asynchronous layer would keep
 * the queue, too, but 0.14 asserts that no reply comes which nobody has asked
 * for, and a server must not be able to abort us.  Time-outs are the sender's.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "redis_link.h"
#include "redis_tls.h"

#define READ_BYTES			(16 * 1024) /* what hiredis reads at once */
#define READS_PER_TURN		64	/* such reads before other links have their turn */

void
redis_fail(Link *link, const char *message)
{
	if (link->failed)
		return;
	link->failed = true;
	strlcpy(link->message, message && message[0] ? message : "connection lost",
			sizeof(link->message));
}

static void
fail_by_hiredis(Link *link)
{
	if (link->redis->err == REDIS_ERR_EOF)
		redis_fail(link, "the connection was closed");
	else if (link->config.tls && strcmp(link->redis->errstr, strerror(0)) == 0)
		redis_fail(link, "TLS failed (is the certificate one of tls_ca?)");
	else
		redis_fail(link, link->redis->errstr);
}

/* ---------- connecting ---------- */

Link *
redis_open(const ServerConfig *config, char *error, Size error_size)
{
	Link	   *link = calloc(1, sizeof(Link));
	redisContext *redis;

	if (link == NULL)
	{
		strlcpy(error, "out of memory", error_size);
		return NULL;
	}
	redis = config->host[0] == '/' ? redisConnectUnixNonBlock(config->host) :
		redisConnectNonBlock(config->host, config->port);
	if (redis == NULL || redis->err)
	{
		strlcpy(error, redis ? redis->errstr : "out of memory", error_size);
		if (redis)
			redisFree(redis);
		free(link);
		return NULL;
	}
	link->config = *config;
	link->redis = redis;
	return link;
}

/* The socket has become writable for the first time: connected, or refused. */
static void
finish_connecting(Link *link)
{
	int			error = 0;
	int			on = 1;
	socklen_t	len = sizeof(error);

	if (getsockopt(link->redis->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		error = errno;
	if (error != 0)
	{
		redis_fail(link, strerror(error));
		return;
	}
	/* small commands must not wait for each other's acknowledgements */
	if (link->config.host[0] != '/')
		(void) setsockopt(link->redis->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (link->config.tls)
	{
		const char *problem = redis_start_tls(link->redis, &link->config);

		if (problem)
		{
			redis_fail(link, problem);
			return;
		}
	}
	link->connected = true;
}

/* Take the first call out of the queue. */
static Call *
next_call(Link *link)
{
	Call	   *call = link->first;

	if (call)
	{
		link->first = call->next;
		if (link->first == NULL)
			link->last = NULL;
		link->calls--;
	}
	return call;
}

/* All calls that wait are told LINK_LOST from in here. */
void
redis_close(Link *link)
{
	Call	   *call;

	redis_fail(link, "closed");
	while ((call = next_call(link)) != NULL)
	{
		call->handler(link, call, NULL);
		free(call);
	}
	redisFree(link->redis);
	free(link);
}

/* ---------- the event loop's part ---------- */

int
redis_socket(Link *link)
{
	return link->redis->fd;
}

bool
redis_wants_write(Link *link)
{
	return !link->failed && (!link->connected || link->unsent);
}

static void
write_commands(Link *link)
{
	int			done = 0;

	if (redisBufferWrite(link->redis, &done) != REDIS_OK)
		fail_by_hiredis(link);
	link->unsent = !done;
}

/* Hand each reply that is complete to the call that it belongs to. */
static void
take_replies(Link *link)
{
	void	   *reply;

	while (!link->failed)
	{
		Call	   *call;

		if (redisGetReply(link->redis, &reply) != REDIS_OK)
		{
			fail_by_hiredis(link);
			return;
		}
		if (reply == NULL)
			return;
		call = next_call(link);
		if (call == NULL)
			redis_fail(link, "a reply came that nobody had asked for");
		else
		{
			link->replies++;
			call->handler(link, call, reply);
			free(call);
		}
		freeReplyObject(reply);
	}
}

/* Read what is there.  A server that never stops sending must not keep us here. */
static void
read_replies(Link *link)
{
	for (int i = 0; (i < READS_PER_TURN || link->config.tls) && !link->failed; i++)
	{
		size_t		before = link->redis->reader->len;

		if (redisBufferRead(link->redis) != REDIS_OK)
			fail_by_hiredis(link);
		else if (link->redis->reader->len > link->config.max_value)
			redis_fail(link, "a reply is too large to be one");
		else
		{
			size_t		got = link->redis->reader->len - before;

			take_replies(link);
			/* a short read has emptied the socket; TLS may have kept something */
			if (got == 0 || (got < READ_BYTES && !link->config.tls))
				return;
		}
	}
}

void
redis_handle(Link *link, bool readable, bool writable)
{
	if (writable && !link->failed && !link->connected)
		finish_connecting(link);
	if (!link->connected || link->failed)
		return;
	if (writable)
		write_commands(link);
	if (readable && !link->failed)
		read_replies(link);
}

bool
redis_is_connected(Link *link)
{
	return link->connected && !link->failed;
}

const char *
redis_error(Link *link)
{
	return link->failed ? link->message : NULL;
}

int
redis_unanswered(Link *link)
{
	return link->calls;
}

uint64
redis_answered(Link *link)
{
	return link->replies;
}

/* ---------- commands ---------- */

/* Queue a command; its handler is called in any case, once. */
void
redis_send(Link *link, ReplyHandler handler, LinkCallback done, void *arg, int argc,
			 const char **argv, const size_t *lens)
{
	Call	   *call = malloc(sizeof(Call));
	Call		unsent = {NULL, handler, done, arg};

	if (call == NULL || link->failed ||
		redisAppendCommandArgv(link->redis, argc, argv, lens) != REDIS_OK)
	{
		free(call);
		redis_fail(link, "a command could not be queued");
		handler(link, &unsent, NULL);
		return;
	}
	*call = unsent;
	if (link->last)
		link->last->next = call;
	else
		link->first = call;
	link->last = call;
	link->calls++;
	link->unsent = true;
}
