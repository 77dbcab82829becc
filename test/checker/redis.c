/*
 * redis.c
 *		The Redis of a run.
 *
 * Each command has a connection of its own, so that none is surprised by what
 * happened to Redis since the last one.  In its folder are
 *
 *		socket, log
 *		dump.rdb		what it loads when it starts, and what SAVE writes
 *		copy.rdb		a dump that was put away
 */
#include <errno.h>
#include <hiredis/hiredis.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "process.h"
#include "redis.h"
#include "report.h"

static char folder[200];
static char files[4][220];		/* paths of the four files */
static const char *const names[4] = {"socket", "log", "dump.rdb", "copy.rdb"};
static pid_t redis_pid;			/* 0 when it is not running */

enum
{
	FILE_SOCKET, FILE_LOG, FILE_DUMP, FILE_COPY
};

static char address[240];		/* options of CREATE SERVER */
static char host[200];			/* of options.redis_at */
static int	port;

const char *
redis_address(void)
{
	return address;
}

redisContext *
redis_connect(struct timeval timeout)
{
	return port != 0 ? redisConnectWithTimeout(host, port, timeout) :
		redisConnectUnixWithTimeout(files[FILE_SOCKET], timeout);
}

/* NULL if it does not answer, or only with an error. */
static redisReply *
try_command(int argc, const char **argv)
{
	struct timeval timeout = {ANSWER_SECONDS, 0};
	redisContext *context = redis_connect(timeout);
	redisReply *reply = NULL;

	if (context != NULL && context->err == 0 &&
		redisSetTimeout(context, timeout) == REDIS_OK)
		reply = redisCommandArgv(context, argc, argv, NULL);
	if (context != NULL)
		redisFree(context);
	if (reply != NULL && reply->type == REDIS_REPLY_ERROR)
	{
		freeReplyObject(reply);
		reply = NULL;
	}
	return reply;
}

static redisReply *
command(int argc, const char **argv)
{
	redisReply *reply = try_command(argc, argv);

	if (reply == NULL)
		report_fatal("Redis did not execute %s; see %s", argv[0],
					 port != 0 ? "its log" : files[FILE_LOG]);
	return reply;
}

void
redis_do(const char *line)
{
	char		words[80];
	const char *argv[8];
	int			argc = 0;
	char	   *rest = NULL;

	snprintf(words, sizeof(words), "%s", line);
	for (char *word = strtok_r(words, " ", &rest); word != NULL && argc < 8;
		 word = strtok_r(NULL, " ", &rest))
		argv[argc++] = word;
	freeReplyObject(command(argc, argv));
}

void
redis_start(bool with_copy)
{
	const char *const words[] = {"redis-server", "--port", "0",
		"--unixsocket", files[FILE_SOCKET], "--dir", folder, "--save", "", "--appendonly", "no",
	"--databases", "2", "--daemonize", "no", NULL};
	const char *ping[] = {"PING"};
	int64_t		give_up = now_ns() + ANSWER_SECONDS * INT64_C(1000000000);
	redisReply *reply;

	if (unlink(files[FILE_DUMP]) != 0 && errno != ENOENT)
		report_fatal("could not remove %s: %s", files[FILE_DUMP], strerror(errno));
	if (with_copy && link(files[FILE_COPY], files[FILE_DUMP]) != 0)
		report_fatal("could not put back %s: %s", files[FILE_COPY], strerror(errno));
	redis_pid = process_start(words, files[FILE_LOG]);
	while ((reply = try_command(1, ping)) == NULL)
	{
		if (process_ended(redis_pid) || now_ns() > give_up)
			report_fatal("could not start redis-server; see %s", files[FILE_LOG]);
		nanosleep(&(struct timespec) {.tv_nsec = 5000000}, NULL);
	}
	freeReplyObject(reply);
}

void
redis_open(void)
{
	if (options.redis_at != NULL)
	{
		const char *colon = strrchr(options.redis_at, ':');

		if (colon == NULL || colon - options.redis_at >= (int) sizeof(host))
			report_fatal("\"%s\" is not HOST:PORT", options.redis_at);
		memcpy(host, options.redis_at, (size_t) (colon - options.redis_at));
		port = (int) option_number(colon + 1, 1, 65535);
		snprintf(address, sizeof(address), "host '%s', port '%d'", host, port);
		return;
	}
	process_folder(folder, sizeof(folder));
	for (int i = 0; i < 4; i++)
		snprintf(files[i], sizeof(files[i]), "%s/%s", folder, names[i]);
	snprintf(address, sizeof(address), "host '%s'", files[FILE_SOCKET]);
	redis_start(false);
}

void
redis_kill(void)
{
	process_kill(redis_pid);
	redis_pid = 0;
}

void
redis_close(bool keep)
{
	if (port != 0)
		return;
	redis_kill();
	if (keep)
		return;
	for (int i = 0; i < 4; i++)
		(void) unlink(files[i]);
	(void) rmdir(folder);
}

void
redis_freeze(void)
{
	process_signal(redis_pid, SIGSTOP);
}

void
redis_thaw(void)
{
	process_signal(redis_pid, SIGCONT);
}

/* SAVE replaces the dump, so that a copy that was put back is not changed. */
void
redis_copy(void)
{
	redis_do("SAVE");
	if (rename(files[FILE_DUMP], files[FILE_COPY]) != 0)
		report_fatal("could not put away %s: %s", files[FILE_DUMP], strerror(errno));
}

bool
redis_has_copy(void)
{
	return access(files[FILE_COPY], F_OK) == 0;
}

void
redis_documents(EachDocument each, void *arg)
{
	static const char prefix[] = NAMESPACE ":";
	static const char own[] = NAMESPACE ":cachekit";
	const char *keys[] = {"KEYS", NAMESPACE ":*"};
	redisReply *found = command(2, keys);

	for (size_t i = 0; i < found->elements; i++)
	{
		const char *get[] = {"GET", found->element[i]->str};
		redisReply *document;

		if (strncmp(get[1], own, strlen(own)) == 0)
			continue;
		document = command(2, get);
		if (document->type == REDIS_REPLY_STRING)	/* else it has expired meanwhile */
			each(arg, 0, get[1] + strlen(prefix), document->str);
		freeReplyObject(document);
	}
	freeReplyObject(found);
}
