/*
 * redis.c
 *		The private Redis of a run.
 *
 * Each command has a connection of its own, so that none is surprised by what
 * happened to Redis since the last one.  In its folder are
 *
 *		socket, log
 *		dump.rdb		what it loads when it starts, and what SAVE writes
 *		copy.rdb		a dump that was put away
 */
#include <errno.h>
#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "redis.h"
#include "report.h"

#define ANSWER_SECONDS	10		/* the longest wait for a start or a command */

static char folder[200];
static char files[4][220];		/* paths of the four files */
static const char *const names[4] = {"socket", "log", "dump.rdb", "copy.rdb"};
static pid_t redis_pid;			/* 0 when it is not running */

enum
{
	FILE_SOCKET, FILE_LOG, FILE_DUMP, FILE_COPY
};

const char *
redis_socket(void)
{
	return files[FILE_SOCKET];
}

/* NULL if it does not answer, or only with an error. */
static redisReply *
try_command(int argc, const char **argv)
{
	struct timeval timeout = {ANSWER_SECONDS, 0};
	redisContext *context = redisConnectUnixWithTimeout(files[FILE_SOCKET], timeout);
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
		report_fatal("Redis did not execute %s; see %s", argv[0], files[FILE_LOG]);
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

static void
exec_redis(void)
{
	int			null = open("/dev/null", O_RDWR);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	dup2(null, STDERR_FILENO);
	execlp("redis-server", "redis-server", "--port", "0", "--unixsocket", files[FILE_SOCKET],
		   "--dir", folder, "--logfile", files[FILE_LOG], "--save", "", "--appendonly", "no",
		   "--databases", "2", "--daemonize", "no", (char *) NULL);
	_exit(127);
}

void
redis_start(bool with_copy)
{
	const char *ping[] = {"PING"};
	int64_t		give_up = now_ns() + ANSWER_SECONDS * INT64_C(1000000000);
	redisReply *reply;

	if (unlink(files[FILE_DUMP]) != 0 && errno != ENOENT)
		report_fatal("could not remove %s: %s", files[FILE_DUMP], strerror(errno));
	if (with_copy && link(files[FILE_COPY], files[FILE_DUMP]) != 0)
		report_fatal("could not put back %s: %s", files[FILE_COPY], strerror(errno));
	redis_pid = fork();
	if (redis_pid < 0)
		report_fatal("could not fork: %s", strerror(errno));
	if (redis_pid == 0)
		exec_redis();
	while ((reply = try_command(1, ping)) == NULL)
	{
		if (waitpid(redis_pid, NULL, WNOHANG) == redis_pid || now_ns() > give_up)
			report_fatal("could not start redis-server; see %s", files[FILE_LOG]);
		nanosleep(&(struct timespec) {.tv_nsec = 5000000}, NULL);
	}
	freeReplyObject(reply);
}

void
redis_open(void)
{
	const char *parent = getenv("TMPDIR");

	snprintf(folder, sizeof(folder), "%s/checker.XXXXXX", parent != NULL ? parent : "/tmp");
	if (mkdtemp(folder) == NULL)
		report_fatal("could not make the folder %s: %s", folder, strerror(errno));
	for (int i = 0; i < 4; i++)
		snprintf(files[i], sizeof(files[i]), "%s/%s", folder, names[i]);
	redis_start(false);
}

void
redis_kill(void)
{
	if (kill(redis_pid, SIGKILL) != 0 || waitpid(redis_pid, NULL, 0) != redis_pid)
		report_fatal("could not kill redis-server: %s", strerror(errno));
	redis_pid = 0;
}

void
redis_close(bool keep)
{
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
	if (kill(redis_pid, SIGSTOP) != 0)
		report_fatal("could not stop redis-server: %s", strerror(errno));
}

void
redis_thaw(void)
{
	if (kill(redis_pid, SIGCONT) != 0)
		report_fatal("could not continue redis-server: %s", strerror(errno));
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
redis_documents(void (*each) (void *arg, const char *name, const char *document), void *arg)
{
	static const char prefix[] = REDIS_NAMESPACE ":";
	static const char own[] = REDIS_NAMESPACE ":cachekit";
	const char *keys[] = {"KEYS", REDIS_NAMESPACE ":*"};
	redisReply *found = command(2, keys);

	for (size_t i = 0; i < found->elements; i++)
	{
		const char *get[] = {"GET", found->element[i]->str};
		redisReply *document;

		if (strncmp(get[1], own, strlen(own)) == 0)
			continue;
		document = command(2, get);
		if (document->type == REDIS_REPLY_STRING)	/* else it has expired meanwhile */
			each(arg, get[1] + strlen(prefix), document->str);
		freeReplyObject(document);
	}
	freeReplyObject(found);
}
