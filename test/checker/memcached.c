/*
 * memcached.c
 *		The private Memcached of a run: one host, or a ring of several.
 *
 * Host N listens on the socket "N" of the folder.  When there are to be
 * faults, cachekit is led to a proxy on "N.proxy", which can cut connections
 * in ways that Memcached has no command for.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "client.h"
#include "memcached.h"
#include "process.h"
#include "proxy.h"
#include "report.h"

#define BUSY_PAUSE_NS	20000000	/* while another dump is under way */

typedef struct Host
{
	pid_t		pid;			/* 0 when it is not running */
	char		path[100];		/* where it listens */
	char		front[108];		/* where cachekit connects */
} Host;

static Host hosts[MAX_MEMCACHED];
static char folder[80];
static char log_file[100];
static char address[MAX_MEMCACHED * 108 + 16];	/* options of CREATE SERVER */

const char *
memcached_path(int host)
{
	return hosts[host].path;
}

const char *
memcached_address(void)
{
	return address;
}

void
memcached_start(int host)
{
	/* it does not run as root, unless told to */
	const char *const words[] = {"memcached", "-v", "-s", hosts[host].path, "-m", "64",
		"-t", "2", geteuid() == 0 ? "-u" : NULL, "root", NULL};
	int64_t		give_up = now_ns() + ANSWER_SECONDS * INT64_C(1000000000);
	Client		client = {.fd = -1};

	hosts[host].pid = process_start(words, log_file);
	while (!client_open(&client, hosts[host].path, 1000) ||
		   client_ask(&client, "version") == NULL)
	{
		if (process_ended(hosts[host].pid) || now_ns() > give_up)
			report_fatal("could not start memcached; see %s", log_file);
		nanosleep(&(struct timespec) {.tv_nsec = 5000000}, NULL);
	}
	client_close(&client);
}

/* Those that run already. */
static void
use_given(void)
{
	const char *at = options.memcached_at;

	for (int i = 0; i < options.memcached; i++)
	{
		int			length = (int) strcspn(at, ",");

		if (length >= (int) sizeof(hosts[i].path))
			report_fatal("\"%s\" is too long", at);
		snprintf(hosts[i].path, sizeof(hosts[i].path), "%.*s", length, at);
		at += length + 1;
	}
	snprintf(address, sizeof(address), "hosts '%s'", options.memcached_at);
	snprintf(log_file, sizeof(log_file), "its log");
}

void
memcached_open(void)
{
	if (options.memcached_at != NULL)
	{
		use_given();
		return;
	}
	process_folder(folder, sizeof(folder));
	snprintf(log_file, sizeof(log_file), "%s/log", folder);
	strcat(address, "hosts '");
	for (int i = 0; i < options.memcached; i++)
	{
		Host	   *host = &hosts[i];

		snprintf(host->path, sizeof(host->path), "%s/%d", folder, i);
		snprintf(host->front, sizeof(host->front), "%s/%d%s", folder, i,
				 options.memcached_faults > 0 ? ".proxy" : "");
		memcached_start(i);
		if (options.memcached_faults > 0)
			proxy_open(host->front, host->path);
		if (i > 0)
			strcat(address, ",");
		strcat(address, host->front);
	}
	strcat(address, "'");
}

void
memcached_kill(int host)
{
	process_kill(hosts[host].pid);
	hosts[host].pid = 0;
}

void
memcached_close(bool keep)
{
	if (options.memcached_at != NULL)
		return;
	for (int i = 0; i < options.memcached; i++)
	{
		memcached_kill(i);
		if (!keep)
		{
			(void) unlink(hosts[i].path);
			(void) unlink(hosts[i].front);
		}
	}
	if (keep)
		return;
	(void) unlink(log_file);
	(void) rmdir(folder);
}

void
memcached_freeze(int host)
{
	process_signal(hosts[host].pid, SIGSTOP);
}

void
memcached_thaw(int host)
{
	process_signal(hosts[host].pid, SIGCONT);
}

static void
ask_of(Client *client, int host)
{
	client->fd = -1;
	client->buffer = NULL;
	client->size = 0;
	if (!client_open(client, hosts[host].path, ANSWER_SECONDS * 1000))
		report_fatal("could not connect to memcached; see %s", log_file);
}

void
memcached_flush_all(int host)
{
	Client		client;
	const char *answer;

	ask_of(&client, host);
	answer = client_ask(&client, "flush_all");
	if (answer == NULL || strcmp(answer, "OK") != 0)
		report_fatal("memcached did not execute flush_all");
	client_close(&client);
}

/* ---------- all documents ---------- */

/* Dumps have %3A for a colon, and so on. */
static void
decode(char *name)
{
	char	   *to = name;

	for (char *from = name; *from != '\0'; to++)
	{
		unsigned int byte;

		if (*from == '%' && sscanf(from + 1, "%2x", &byte) == 1)
		{
			*to = (char) byte;
			from += 3;
		}
		else
			*to = *from++;
	}
	*to = '\0';
}

/* The names of the keys that a host has. */
static char **
dump_names(int host, size_t *n)
{
	char	  **names = NULL;
	Client		client;
	char	   *line;

	ask_of(&client, host);
	*n = 0;
	while ((line = client_ask(&client, "lru_crawler metadump hash")) != NULL &&
		   strncmp(line, "BUSY", 4) == 0)
		nanosleep(&(struct timespec) {.tv_nsec = BUSY_PAUSE_NS}, NULL);
	for (; line != NULL && strcmp(line, "END") != 0; line = client_line(&client))
	{
		char		name[3 * 250 + 1];

		if (sscanf(line, "key=%750s", name) != 1)
			report_fatal("memcached answered \"%s\" to metadump", line);
		decode(name);
		names = realloc(names, (*n + 1) * sizeof(char *));
		if (names == NULL || (names[(*n)++] = strdup(name)) == NULL)
			report_fatal("out of memory");
	}
	if (line == NULL)
		report_fatal("memcached did not list its keys; see %s", log_file);
	client_close(&client);
	return names;
}

/* An empty value is the place for a document. */
void
memcached_documents(EachDocument each, void *arg)
{
	static const char prefix[] = NAMESPACE ":";
	static const char own[] = NAMESPACE ":cachekit";

	for (int host = 0; host < options.memcached; host++)
	{
		size_t		n;
		char	  **names = dump_names(host, &n);
		Client		client;

		ask_of(&client, host);
		for (size_t i = 0; i < n; i++)
		{
			char		get[300];
			char		name[252];
			char	   *document;

			snprintf(get, sizeof(get), "get %s\r\n", names[i]);
			if (strncmp(names[i], prefix, strlen(prefix)) == 0 &&
				strncmp(names[i], own, strlen(own)) != 0)
			{
				(void) client_send(&client, get);
				while (client_value(&client, name, sizeof(name), &document))
					if (document[0] != '\0')
						each(arg, host, name + strlen(prefix), document);
				if (client.fd < 0)
					report_fatal("memcached did not answer a \"get\"; see %s", log_file);
			}
			free(names[i]);
		}
		free(names);
		client_close(&client);
	}
}
