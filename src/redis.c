/*-------------------------------------------------------------------------
 *
 * redis.c
 *	  The driver for Redis: what its commands and replies mean.
 *
 * What a script sets "if owner" cannot be set by a command that outlived its
 * connection: the owner key names the connection epoch that may.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "redis_link.h"

#define MAX_TEXTS			(8 + 2 * MAX_LINKS) /* arguments of one command */
#define SCAN_COUNT			"1000"

/* A flush: one SCAN at a time, and the UNLINKs of what it has found. */
typedef struct Flush
{
	LinkCallback done;
	void	   *arg;
	char		pattern[512];
	char		except[512];
	char		cursor[32];		/* the next one to ask for */
	int			commands;		/* without a reply */
	bool		scanned;		/* the cursor has come round */
	LinkStatus	status;
	char		text[128];
} Flush;

/* ---------- commands ---------- */

/* The same, of texts that end in a zero byte. */
static void
send_texts(Link *link, ReplyHandler handler, LinkCallback done, void *arg, int argc,
		   const char **argv)
{
	size_t		lens[MAX_TEXTS];

	Assert(argc <= MAX_TEXTS);
	for (int i = 0; i < argc; i++)
		lens[i] = strlen(argv[i]);
	redis_send(link, handler, done, arg, argc, argv, lens);
}

/* What an error reply means. */
static LinkStatus
refusal(const redisReply *reply, const char **text)
{
	*text = "unexpected reply";
	if (reply->type != REDIS_REPLY_ERROR)
		return LINK_REFUSED;
	*text = reply->str;
	/* said by the server itself, or, before 7.0, by a script of ours */
	return strncmp(reply->str, "OOM ", 4) == 0 || strstr(reply->str, "-OOM ") != NULL ?
		LINK_FULL : LINK_REFUSED;
}

/* Tell a call how it ended if that was badly; true if it was. */
static bool
told_bad_end(Link *link, Call *call, const redisReply *reply, bool good)
{
	const char *text = link->message;
	LinkStatus	status = LINK_LOST;

	if (reply && good)
		return false;
	if (reply)
		status = refusal(reply, &text);
	call->done(call->arg, status, NULL, 0, text);
	return true;
}

/* Replies of which nothing but success matters. */
static void
on_status(Link *link, Call *call, const redisReply *reply)
{
	if (!told_bad_end(link, call, reply, reply && reply->type == REDIS_REPLY_STATUS))
		call->done(call->arg, LINK_OK, NULL, 0, "");
}

/* Only a number acknowledges a deletion, and a conditional set: 1 done, 0 not the owner. */
static void
on_number(Link *link, Call *call, const redisReply *reply)
{
	if (!told_bad_end(link, call, reply, reply && reply->type == REDIS_REPLY_INTEGER))
	{
		LinkValue	value = {reply->integer ? "1" : "0", 1};

		call->done(call->arg, LINK_OK, &value, 1, "");
	}
}

/* Integers, of which those that are not 0 are told as values. */
static void
on_numbers(Link *link, Call *call, const redisReply *reply)
{
	LinkValue  *values = NULL;

	if (told_bad_end(link, call, reply, reply && reply->type == REDIS_REPLY_ARRAY &&
					 (values = calloc(reply->elements + 1, sizeof(LinkValue))) != NULL))
		return;
	for (size_t i = 0; i < reply->elements; i++)
	{
		if (reply->element[i]->type == REDIS_REPLY_INTEGER && reply->element[i]->integer != 0)
			values[i] = (LinkValue) {"1", 1};
	}
	call->done(call->arg, LINK_OK, values, (int) reply->elements, "");
	free(values);
}

static void
on_values(Link *link, Call *call, const redisReply *reply)
{
	LinkValue  *values = NULL;

	if (told_bad_end(link, call, reply, reply && reply->type == REDIS_REPLY_ARRAY &&
					 (values = calloc(reply->elements + 1, sizeof(LinkValue))) != NULL))
		return;
	for (size_t i = 0; i < reply->elements; i++)
	{
		redisReply *element = reply->element[i];

		if (element->type == REDIS_REPLY_STRING)
		{
			values[i].bytes = element->str;
			values[i].len = element->len;
		}
	}
	call->done(call->arg, LINK_OK, values, (int) reply->elements, "");
	free(values);
}

/* The credentials' reply counts only when it is an error. */
static void
on_credentials(Link *link, Call *call, const redisReply *reply)
{
	if (reply && reply->type == REDIS_REPLY_ERROR)
		redis_fail(link, reply->str);
}

/* SELECT's reply ends the greeting; why the credentials were refused says more than it. */
static void
on_selected(Link *link, Call *call, const redisReply *reply)
{
	if (link->failed)
		call->done(call->arg, LINK_REFUSED, NULL, 0, link->message);
	else
		on_status(link, call, reply);
}

static void
redis_hello(Link *link, LinkCallback done, void *arg)
{
	const ServerConfig *config = &link->config;
	const char *with_user[3] = {"AUTH", config->user, config->password};
	const char *without_user[2] = {"AUTH", config->password};
	const char *select[2] = {"SELECT", NULL};
	char		number[16];

	if (config->password[0] && config->user[0])
		send_texts(link, on_credentials, NULL, NULL, 3, with_user);
	else if (config->password[0])
		send_texts(link, on_credentials, NULL, NULL, 2, without_user);
	snprintf(number, sizeof(number), "%d", config->database);
	select[1] = number;
	send_texts(link, on_selected, done, arg, 2, select);
}

static void
redis_put(Link *link, const char *key, const char *value, LinkCallback done, void *arg)
{
	const char *argv[3] = {"SET", key, value};

	send_texts(link, on_status, done, arg, 3, argv);
}

static void
redis_put_if_owner(Link *link, const char *key, const LinkTerms *terms, const char *value,
				   Size len, int64 ttl_ms, bool replace, LinkCallback done, void *arg)
{
	/* the marker's position: see marker_format() */
	static const char script[] =
		"if redis.call('GET',KEYS[2])~=ARGV[1] then return 0 end "
		"local at=string.match(redis.call('GET',KEYS[3]) or '',"
		"'^1 %x+ %x+ %x+ %x+ %x+ (%x+) ') or '0' "
		"if tonumber(at,16)<tonumber(ARGV[4],16) then return 0 end "
		"if ARGV[3]=='0' then redis.call('SET',KEYS[1],ARGV[2]) "
		"else redis.call('SET',KEYS[1],ARGV[2],'PX',ARGV[3]) end return 1";
	static const char unconditional[] =
		"redis.call('SET',KEYS[1],ARGV[2],'PX',ARGV[3]) return 1";
	char		ttl[24];
	char		position[24];
	const char *argv[10] = {"EVAL", script, "3", key, terms->owner_key, terms->marker_key,
		terms->owner, value, ttl, position};
	size_t		lens[10];

	if (terms->owner == NULL)
	{
		argv[1] = unconditional;
		argv[6] = "";
	}
	snprintf(ttl, sizeof(ttl), INT64_FORMAT, ttl_ms);
	snprintf(position, sizeof(position), "%" INT64_MODIFIER "x", terms->position);
	for (int i = 0; i < 10; i++)
		lens[i] = i == 7 ? len : strlen(argv[i]);
	redis_send(link, on_number, done, arg, 10, argv, lens);
}

static void
redis_put_marker(Link *link, const char *key, const char *owner_key, const char *owner,
				 const char *previous, const char *value, const LinkTrace *traces,
				 int ntraces, LinkCallback done, void *arg)
{
	static const char script[] =
		"if redis.call('GET',KEYS[2])~=ARGV[1] then return 0 end "
		"local now=redis.call('GET',KEYS[1]) or '' "
		"if now~=ARGV[3] then return 0 end "
		"for i=3,#KEYS do "
		"if tonumber(redis.call('GET',KEYS[i]) or '-1')<tonumber(ARGV[i+1]) then return 0 end end "
		"redis.call('SET',KEYS[1],ARGV[2]) return 1";
	const char *argv[MAX_TEXTS] = {"EVAL", script};
	char		number[MAX_LINKS][24];
	char		keys[8];
	int			argc = 2;

	snprintf(keys, sizeof(keys), "%d", 2 + ntraces);
	argv[argc++] = keys;
	argv[argc++] = key;
	argv[argc++] = owner_key;
	for (int i = 0; i < ntraces; i++)
		argv[argc++] = traces[i].key;
	argv[argc++] = owner;
	argv[argc++] = value;
	argv[argc++] = previous;
	for (int i = 0; i < ntraces; i++)
	{
		snprintf(number[i], sizeof(number[i]), UINT64_FORMAT, traces[i].least);
		argv[argc++] = number[i];
	}
	send_texts(link, on_number, done, arg, argc, argv);
}

/* A command of some words with a list of keys. */
static void
send_words_and_keys(Link *link, const char *const *words, int nwords, const char *const *keys,
					const Size *lens, int n, ReplyHandler handler, LinkCallback done, void *arg)
{
	const char **argv = malloc(sizeof(char *) * (nwords + n));
	size_t	   *argl = malloc(sizeof(size_t) * (nwords + n));

	if (argv && argl)
	{
		for (int i = 0; i < nwords; i++)
		{
			argv[i] = words[i];
			argl[i] = strlen(words[i]);
		}
		memcpy(argv + nwords, keys, sizeof(char *) * n);
		memcpy(argl + nwords, lens, sizeof(size_t) * n);
		redis_send(link, handler, done, arg, nwords + n, argv, argl);
	}
	else
	{
		redis_fail(link, "out of memory");
		done(arg, LINK_LOST, NULL, 0, "out of memory");
	}
	free(argv);
	free(argl);
}

static void
send_keys(Link *link, const char *command, const char *const *keys, const Size *lens, int n,
		  ReplyHandler handler, LinkCallback done, void *arg)
{
	send_words_and_keys(link, &command, 1, keys, lens, n, handler, done, arg);
}

/* EXISTS tells how many of its keys there are, not which. */
static void
redis_exists(Link *link, const char *const *keys, const Size *lens, int n, LinkCallback done,
			 void *arg)
{
	static const char script[] =
		"local r={} for i=1,#KEYS do r[i]=redis.call('EXISTS',KEYS[i]) end return r";
	const char *words[3] = {"EVAL", script, NULL};
	char		number[16];

	snprintf(number, sizeof(number), "%d", n);
	words[2] = number;
	send_words_and_keys(link, words, 3, keys, lens, n, on_numbers, done, arg);
}

static void
redis_get(Link *link, const char *const *keys, const Size *lens, int n, LinkCallback done,
		  void *arg)
{
	send_keys(link, "MGET", keys, lens, n, on_values, done, arg);
}

static void
redis_del(Link *link, const char *const *keys, const Size *lens, int n, LinkCallback done,
		  void *arg)
{
	send_keys(link, "DEL", keys, lens, n, on_number, done, arg);
}

/* ---------- flush: SCAN and UNLINK until the cursor has come round ---------- */

static void scan_on(Link *link, Flush *flush);

static void
flush_went_wrong(Flush *flush, LinkStatus status, const char *text)
{
	if (flush->status == LINK_OK)
		strlcpy(flush->text, text, sizeof(flush->text));
	flush->status = Max(flush->status, status);
}

/* A reply to one of its commands has been dealt with: was it the last? */
static void
flush_command_ended(Link *link, Flush *flush)
{
	if (--flush->commands > 0)
		return;
	if (!flush->scanned && flush->status == LINK_OK)
	{
		scan_on(link, flush);
		return;
	}
	flush->done(flush->arg, flush->status, NULL, 0, flush->text);
	free(flush);
}

/* LINK_LOST without a reply, LINK_REFUSED with a wrong one. */
static void
flush_reply_was_bad(Link *link, Flush *flush, const redisReply *reply)
{
	const char *text = link->message;

	if (reply)
		(void) refusal(reply, &text);
	flush_went_wrong(flush, reply ? LINK_REFUSED : LINK_LOST, text);
}

static void
on_unlinked(Link *link, Call *call, const redisReply *reply)
{
	Flush	   *flush = call->arg;

	if (reply == NULL || reply->type != REDIS_REPLY_INTEGER)
		flush_reply_was_bad(link, flush, reply);
	flush_command_ended(link, flush);
}

static void
unlink_keys(Link *link, Flush *flush, const redisReply *keys)
{
	const char **argv = malloc(sizeof(char *) * (keys->elements + 1));
	size_t	   *lens = malloc(sizeof(size_t) * (keys->elements + 1));
	int			n = 1;

	if (argv && lens)
	{
		argv[0] = "UNLINK";
		lens[0] = 6;
		for (size_t i = 0; i < keys->elements; i++)
		{
			redisReply *key = keys->element[i];

			if (key->type != REDIS_REPLY_STRING || strcmp(key->str, flush->except) == 0)
				continue;
			argv[n] = key->str;
			lens[n++] = key->len;
		}
		if (n > 1)
		{
			flush->commands++;
			redis_send(link, on_unlinked, NULL, flush, n, argv, lens);
		}
	}
	else
		flush_went_wrong(flush, LINK_LOST, "out of memory");
	free(argv);
	free(lens);
}

static void
on_scanned(Link *link, Call *call, const redisReply *reply)
{
	Flush	   *flush = call->arg;

	if (reply == NULL || reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 ||
		reply->element[0]->type != REDIS_REPLY_STRING ||
		(Size) reply->element[0]->len >= sizeof(flush->cursor) ||
		reply->element[1]->type != REDIS_REPLY_ARRAY)
		flush_reply_was_bad(link, flush, reply);
	else
	{
		strlcpy(flush->cursor, reply->element[0]->str, sizeof(flush->cursor));
		flush->scanned = strcmp(flush->cursor, "0") == 0;
		unlink_keys(link, flush, reply->element[1]);
	}
	flush_command_ended(link, flush);
}

static void
scan_on(Link *link, Flush *flush)
{
	const char *argv[6] = {"SCAN", flush->cursor, "MATCH", flush->pattern, "COUNT", SCAN_COUNT};

	flush->commands++;
	send_texts(link, on_scanned, NULL, flush, 6, argv);
}

static void
redis_flush(Link *link, const char *prefix, const char *except, LinkCallback done, void *arg)
{
	Flush	   *flush = calloc(1, sizeof(Flush));

	if (flush == NULL)
	{
		redis_fail(link, "out of memory");
		done(arg, LINK_LOST, NULL, 0, "out of memory");
		return;
	}
	flush->done = done;
	flush->arg = arg;
	flush->status = LINK_OK;
	snprintf(flush->pattern, sizeof(flush->pattern), "%s*", prefix);
	strlcpy(flush->except, except ? except : "", sizeof(flush->except));
	strcpy(flush->cursor, "0");
	scan_on(link, flush);
}

const Driver redis_driver = {
	.open = redis_open,
	.close = redis_close,
	.socket = redis_socket,
	.wants_write = redis_wants_write,
	.handle = redis_handle,
	.is_connected = redis_is_connected,
	.error = redis_error,
	.unanswered = redis_unanswered,
	.answered = redis_answered,
	.hello = redis_hello,
	.put = redis_put,
	.put_if_owner = redis_put_if_owner,
	.put_marker = redis_put_marker,
	.get = redis_get,
	.exists = redis_exists,
	.del = redis_del,
	.flush = redis_flush,
};
