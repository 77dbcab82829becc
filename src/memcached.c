/*-------------------------------------------------------------------------
 *
 * memcached.c
 *	  The driver for Memcached: what its commands and replies mean.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "memcached_link.h"

#define PROGRESS_BYTES		4096	/* so much of a large value is progress, too */

/* ---------- replies ---------- */

void
memcached_tell_number(LinkCallback done, void *arg, bool number)
{
	LinkValue	value = {number ? "1" : "0", 1};

	done(arg, LINK_OK, &value, 1, "");
}

/* A call that cannot even be queued. */
void
memcached_tell_out_of_memory(Link *link, LinkCallback done, void *arg)
{
	wire_fail(&link->wire, "out of memory");
	done(arg, LINK_LOST, NULL, 0, "out of memory");
}

static void
on_stored(Link *link, Call *call, const Reply *reply)
{
	const char *text;
	LinkStatus	status = memcached_judge(link, reply, WORD_STORED, &text);

	call->done(call->arg, status, NULL, 0, text);
}

static void
on_values(Link *link, Call *call, const Reply *reply)
{
	const char *text;
	LinkStatus	status = memcached_judge(link, reply, WORD_VALUES, &text);

	if (status == LINK_OK)
		call->done(call->arg, LINK_OK, reply->values, reply->n, "");
	else
		call->done(call->arg, status, NULL, 0, text);
}

/* A deletion's line: both answers acknowledge it.  What goes wrong is told once. */
static void
on_deleted(Link *link, Call *call, const Reply *reply)
{
	const char *text;
	LinkStatus	status = memcached_judge(link, reply, WORD_DELETED | WORD_NOT_FOUND, &text);

	if (call->done == NULL || (status == LINK_OK && call->left > 0))
		return;
	if (status == LINK_OK)
		memcached_tell_number(call->done, call->arg, true);
	else
		call->done(call->arg, status == LINK_LOST ? LINK_LOST : LINK_REFUSED, NULL, 0, text);
	call->done = NULL;
}

/* ---------- hello ---------- */

typedef struct Hello
{
	LinkCallback done;			/* NULL: it has been told */
	void	   *arg;
	const char *objection;		/* why this server will not do; NULL: none so far */
} Hello;

static void
end_hello(Hello *hello, LinkStatus status, const char *text)
{
	if (hello->done)
		hello->done(hello->arg, status, NULL, 0, text);
	hello->done = NULL;
}

static void
on_version(Link *link, Call *call, const Reply *reply)
{
	const char *text;
	char		message[256];

	if (reply == NULL)
		return;					/* the settings' handler tells, or has told */
	if (memcached_judge(link, reply, WORD_VERSION, &text) != LINK_OK)
	{
		snprintf(message, sizeof(message), "it did not tell a version of Memcached: %s", text);
		end_hello(call->arg, LINK_REFUSED, message);
	}
}

/* What a setting says against this server. */
static const char *
objection_to(const Link *link, const char *setting)
{
	bool		scan = link->config.flush_method == FLUSH_METHOD_SCAN;

	if (strcmp(setting, "STAT cas_enabled no") == 0)
		return "fills need CAS, which this server has switched off (-C)";
	if (!scan && strcmp(setting, "STAT flush_enabled no") == 0)
		return "flush_method is flush_all, which this server has switched off (-F)";
	if (scan && strcmp(setting, "STAT dump_enabled no") == 0)
		return "flush_method is scan, which needs dumps, switched off on this server (-X)";
	if (scan && strcmp(setting, "STAT lru_crawler no") == 0)
		return "flush_method is scan, which needs the LRU crawler, switched off on this server";
	return NULL;
}

/* A line of the settings; END ends the greeting. */
static void
on_setting(Link *link, Call *call, const Reply *reply)
{
	Hello	   *hello = call->arg;
	const char *text;
	LinkStatus	status = memcached_judge(link, reply, WORD_STAT | WORD_END, &text);

	if (status == LINK_OK && reply->word == WORD_STAT)
	{
		if (hello->objection == NULL)
			hello->objection = objection_to(link, reply->line);
		if (strncmp(reply->line, "STAT item_size_max ", 19) == 0)
			link->item_size = strtoul(reply->line + 19, NULL, 10);
		return;
	}
	if (status == LINK_OK && hello->objection)
		end_hello(hello, LINK_REFUSED, hello->objection);
	else
		end_hello(hello, status == LINK_FULL ? LINK_REFUSED : status, text);
	free(hello);
}

static void
memcached_hello(Link *link, LinkCallback done, void *arg)
{
	Hello	   *hello = calloc(1, sizeof(Hello));

	if (hello == NULL)
	{
		memcached_tell_out_of_memory(link, done, arg);
		return;
	}
	hello->done = done;
	hello->arg = arg;
	memcached_append_text(link, "version\r\nstats settings\r\n");
	memcached_expect(link, on_version, NULL, hello, 1);
	memcached_expect_list(link, on_setting, NULL, hello);
}

/* ---------- commands without a condition ---------- */

/* A key that cannot be sent would be told to be so; keys of ours never are such. */
bool
memcached_told_bad_keys(const char *const *keys, const Size *lens, int n, LinkCallback done, void *arg)
{
	for (int i = 0; i < n; i++)
	{
		if (!memcached_is_key(keys[i], lens[i]))
		{
			done(arg, LINK_REFUSED, NULL, 0, "this cannot be a key of Memcached");
			return true;
		}
	}
	return false;
}

static bool
told_bad_key(const char *key, LinkCallback done, void *arg)
{
	Size		len = strlen(key);

	return memcached_told_bad_keys(&key, &len, 1, done, arg);
}

static void
memcached_put(Link *link, const char *key, const char *value, LinkCallback done, void *arg)
{
	if (told_bad_key(key, done, arg))
		return;
	memcached_append_storage(link, "set", key, 0, value, strlen(value), NULL);
	memcached_expect(link, on_stored, done, arg, 1);
}

static void
memcached_get(Link *link, const char *const *keys, const Size *lens, int n, LinkCallback done,
			  void *arg)
{
	if (!memcached_told_bad_keys(keys, lens, n, done, arg))
		memcached_get_keys(link, false, keys, lens, n, on_values, done, arg);
}

/* Keys that are asked for one by one. */
typedef struct Probe
{
	LinkCallback done;
	void	   *arg;
	int			n;
	int			at;				/* replies so far */
	LinkValue	value[FLEXIBLE_ARRAY_MEMBER];
} Probe;

/* An empty value is a placeholder (memcached_lease.c): nothing is there yet. */
static void
on_probed(Link *link, Call *call, const Reply *reply)
{
	Probe	   *probe = call->arg;
	const char *text;
	LinkStatus	status = memcached_judge(link, reply, WORD_HIT | WORD_MISS | WORD_UNKNOWN, &text);

	if (probe->done && status != LINK_OK)
	{
		probe->done(probe->arg, status == LINK_LOST ? LINK_LOST : LINK_REFUSED, NULL, 0, text);
		probe->done = NULL;
	}
	if (reply != NULL && status == LINK_OK && reply->word == WORD_HIT &&
		strcmp(reply->line, "HD s0") != 0)
		probe->value[probe->at] = (LinkValue) {"1", 1};
	probe->at++;
	if (reply != NULL && call->left > 0)
		return;
	if (probe->done)
		probe->done(probe->arg, LINK_OK, probe->value, probe->n, "");
	free(probe);
}

/* A server that does not know "mg" is one that has nothing: its keys are deleted. */
static void
memcached_exists(Link *link, const char *const *keys, const Size *lens, int n, LinkCallback done,
				 void *arg)
{
	Probe	   *probe;

	if (memcached_told_bad_keys(keys, lens, n, done, arg))
		return;
	probe = calloc(1, offsetof(Probe, value) + n * sizeof(LinkValue));
	if (probe == NULL)
	{
		memcached_tell_out_of_memory(link, done, arg);
		return;
	}
	probe->done = done;
	probe->arg = arg;
	probe->n = n;
	for (int i = 0; i < n; i++)
	{
		memcached_append_text(link, "mg ");
		wire_append(&link->wire, keys[i], lens[i]);
		memcached_append_text(link, " s\r\n");
	}
	memcached_expect(link, on_probed, NULL, probe, n);
}

static void
memcached_del(Link *link, const char *const *keys, const Size *lens, int n, LinkCallback done,
			  void *arg)
{
	if (memcached_told_bad_keys(keys, lens, n, done, arg))
		return;
	if (n == 0)
		memcached_get_keys(link, false, NULL, NULL, 0, on_values, done, arg);
	for (int i = 0; i < n; i++)
		memcached_append_delete(link, keys[i], lens[i]);
	if (n > 0)
		memcached_expect(link, on_deleted, done, arg, n);
}

/* ---------- the link ---------- */

static Link *
memcached_open(const ServerConfig *config, char *error, Size error_size)
{
	Link	   *link = calloc(1, sizeof(Link));

	if (link == NULL)
		strlcpy(error, "out of memory", error_size);
	else if (!memcached_start(link, config, error, error_size))
	{
		free(link);
		link = NULL;
	}
	return link;
}

/* All calls that wait are told LINK_LOST from in here. */
static void
memcached_close(Link *link)
{
	wire_fail(&link->wire, "closed");
	memcached_lose_calls(link);
	memcached_lose_scans(link);
	wire_close(&link->wire);
	free(link);
}

static int
memcached_socket(Link *link)
{
	return link->wire.fd;
}

static bool
memcached_wants_write(Link *link)
{
	return !link->wire.failed &&
		(!link->wire.connected || wire_has_unsent(&link->wire) ||
		 memcached_scan_wants_turn(link));
}

static void
memcached_handle(Link *link, bool readable, bool writable)
{
	memcached_turn(link, readable, writable);
	if (link->wire.connected)
		memcached_scan_turn(link, !readable);
}

static bool
memcached_is_connected(Link *link)
{
	return link->wire.connected && !link->wire.failed;
}

static const char *
memcached_error(Link *link)
{
	return link->wire.failed ? link->wire.message : NULL;
}

static int
memcached_unanswered(Link *link)
{
	return link->calls + memcached_scans(link);
}

static uint64
memcached_answered(Link *link)
{
	return link->replies + link->received / PROGRESS_BYTES;
}

const Driver memcached_driver = {
	.open = memcached_open,
	.close = memcached_close,
	.socket = memcached_socket,
	.wants_write = memcached_wants_write,
	.handle = memcached_handle,
	.is_connected = memcached_is_connected,
	.error = memcached_error,
	.unanswered = memcached_unanswered,
	.answered = memcached_answered,
	.hello = memcached_hello,
	.put = memcached_put,
	.put_if_owner = memcached_put_if_owner,
	.put_marker = memcached_put_marker,
	.get = memcached_get,
	.exists = memcached_exists,
	.del = memcached_del,
	.flush = memcached_flush,
};
