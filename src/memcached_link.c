/*-------------------------------------------------------------------------
 *
 * memcached_link.c
 *	  One connection to Memcached: commands in, replies to their handlers.
 *
 * The text protocol is spoken here, and not by libmemcached: that blocks,
 * connects anew by itself in the middle of a batch, can report success for
 * what was never sent, and has assertions and copies of unchecked length that
 * a wrong server can reach; a crash here would restart the whole cluster.
 *
 * Every command has a reply, and replies come in the order of commands.  There
 * is no noreply: an error line of such a command would be taken for the reply
 * to another.  Speed comes from sending on without waiting.  A reply that does
 * not fit its command ends the connection, since whatever follows may belong
 * to something else.  Time-outs are the sender's.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "memcached_link.h"

#define READS_PER_TURN	16		/* before other links have their turn */
#define COMMAND_BYTES	(16 * 1024) /* a get of more keys is sent as several */
#define MAX_LIST		4096	/* lines */
#define MAX_KEY			250

/* A key that was asked for, and where in the reply its value is. */
typedef struct AskedKey
{
	const char *key;
	Size		key_len;
	Size		at;				/* offset from in_kept */
	Size		len;
	bool		present;
} AskedKey;

/* One get, which may have been sent as several commands. */
typedef struct Asked
{
	bool		with_uniques;
	bool		has_values;		/* the command at hand has had some */
	int			n;
	int			at;				/* the next key that may come */
	int			end;			/* of the command at hand */
	char		error[128];		/* "": none */
	AskedKey   *keys;
	LinkValue  *values;
	uint64	   *uniques;
} Asked;

bool
memcached_start(Link *link, const ServerConfig *config, char *error, Size error_size)
{
	link->config = *config;
	return wire_open(&link->wire, config, error, error_size);
}

/* ---------- the queue ---------- */

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

static void
free_call(Call *call)
{
	free(call->asked);
	free(call);
}

void
memcached_lose_calls(Link *link)
{
	Call	   *call;

	while ((call = next_call(link)) != NULL)
	{
		call->handler(link, call, NULL);
		free_call(call);
	}
}

/* Queue a copy of this call. */
static void
queue_call(Link *link, Call *model)
{
	Call	   *call = malloc(sizeof(Call));

	if (call == NULL || link->wire.failed)
	{
		free(call);
		wire_fail(&link->wire, "out of memory");
		model->handler(link, model, NULL);
		free(model->asked);
		return;
	}
	*call = *model;
	if (link->last)
		link->last->next = call;
	else
		link->first = call;
	link->last = call;
	link->calls++;
}

void
memcached_expect(Link *link, ReplyHandler handler, LinkCallback done, void *arg, int lines)
{
	Call		call = {.handler = handler, .done = done, .arg = arg, .left = lines};

	queue_call(link, &call);
}

void
memcached_expect_list(Link *link, ReplyHandler handler, LinkCallback done, void *arg)
{
	Call		call = {.handler = handler, .done = done, .arg = arg, .left = 1,
	.is_list = true};

	queue_call(link, &call);
}

/* ---------- keys ---------- */

bool
memcached_is_key(const char *key, Size len)
{
	for (Size i = 0; i < len; i++)
	{
		if ((unsigned char) key[i] <= ' ' || key[i] == 0x7f)
			return false;
	}
	return len > 0 && len <= MAX_KEY;
}

void
memcached_append_text(Link *link, const char *text)
{
	wire_append(&link->wire, text, strlen(text));
}

void
memcached_append_delete(Link *link, const char *key, Size len)
{
	char	   *to = wire_reserve(&link->wire, len + 9);

	if (to == NULL)
		return;
	memcpy(to, "delete ", 7);
	memcpy(to + 7, key, len);
	memcpy(to + 7 + len, "\r\n", 2);
	link->wire.out_len += len + 9;
}

void
memcached_append_storage(Link *link, const char *command, const char *key, int64 exptime,
						 const char *value, Size len, const uint64 *unique)
{
	char		line[400];

	snprintf(line, sizeof(line), "%s %s 0 " INT64_FORMAT " %zu", command, key, exptime, len);
	memcached_append_text(link, line);
	if (unique)
	{
		snprintf(line, sizeof(line), " " UINT64_FORMAT, *unique);
		memcached_append_text(link, line);
	}
	memcached_append_text(link, "\r\n");
	wire_append(&link->wire, value, len);
	memcached_append_text(link, "\r\n");
}

/* The first key after those that are sent with this one. */
static int
end_of_command(const Asked *asked, int from)
{
	Size		bytes = 0;
	int			end = from;

	while (end < asked->n && bytes + asked->keys[end].key_len < COMMAND_BYTES)
		bytes += asked->keys[end++].key_len + 1;
	return end;
}

/* All in one piece of memory: what was asked, and room for what comes. */
static Asked *
new_asked(bool uniques, const char *const *keys, const Size *lens, int n)
{
	Size		bytes = 0;
	Asked	   *asked;
	char	   *copy;

	for (int i = 0; i < n; i++)
		bytes += lens[i];
	asked = calloc(1, sizeof(Asked) + bytes +
				   n * (sizeof(AskedKey) + sizeof(LinkValue) + sizeof(uint64)));
	if (asked == NULL)
		return NULL;
	asked->with_uniques = uniques;
	asked->n = n;
	asked->keys = (AskedKey *) (asked + 1);
	asked->values = (LinkValue *) (asked->keys + n);
	asked->uniques = (uint64 *) (asked->values + n);
	copy = (char *) (asked->uniques + n);
	for (int i = 0; i < n; i++)
	{
		memcpy(copy, keys[i], lens[i]);
		asked->keys[i].key = copy;
		asked->keys[i].key_len = lens[i];
		copy += lens[i];
	}
	asked->end = end_of_command(asked, 0);
	return asked;
}

void
memcached_get_keys(Link *link, bool uniques, const char *const *keys, const Size *lens, int n,
				   ReplyHandler handler, LinkCallback done, void *arg)
{
	Call		call = {.handler = handler, .done = done, .arg = arg};

	call.asked = new_asked(uniques, keys, lens, n);
	if (call.asked == NULL)
		wire_fail(&link->wire, "out of memory");
	for (int at = 0; call.asked && at < n; call.left++)
	{
		int			end = end_of_command(call.asked, at);

		memcached_append_text(link, uniques ? "gets" : "get");
		for (; at < end; at++)
		{
			wire_append(&link->wire, " ", 1);
			wire_append(&link->wire, keys[at], lens[at]);
		}
		memcached_append_text(link, "\r\n");
	}
	if (n == 0)
	{
		/* something that answers, to keep the order */
		memcached_append_text(link, "version\r\n");
		call.left = 1;
	}
	queue_call(link, &call);
}

/* ---------- replies ---------- */

static Word
word_of(const char *line, Size len)
{
	static const struct
	{
		const char *text;
		Word		word;
	}			words[] =
	{
		{"DELETED", WORD_DELETED}, {"NOT_FOUND", WORD_NOT_FOUND}, {"STORED", WORD_STORED},
		{"NOT_STORED", WORD_NOT_STORED}, {"EXISTS", WORD_EXISTS}, {"OK", WORD_OK},
		{"END", WORD_END}, {"HD", WORD_HIT}, {"EN", WORD_MISS}, {"ERROR", WORD_UNKNOWN}
	};

	for (int i = 0; i < lengthof(words); i++)
	{
		if (len == strlen(words[i].text) && memcmp(line, words[i].text, len) == 0)
			return words[i].word;
	}
	if (len > 13 && memcmp(line, "SERVER_ERROR ", 13) == 0)
		return WORD_ERROR;
	if (len > 3 && memcmp(line, "HD ", 3) == 0)
		return WORD_HIT;
	if (len > 5 && memcmp(line, "STAT ", 5) == 0)
		return WORD_STAT;
	if (len > 8 && memcmp(line, "VERSION ", 8) == 0)
		return WORD_VERSION;
	return WORD_NONE;
}

LinkStatus
memcached_judge(Link *link, const Reply *reply, int expected, const char **text)
{
	*text = "";
	if (reply == NULL)
	{
		*text = link->wire.message;
		return LINK_LOST;
	}
	if (reply->word & expected)
		return LINK_OK;
	if (reply->word == WORD_ERROR)
	{
		*text = reply->line;
		return strncmp(reply->line, "SERVER_ERROR out of memory", 26) == 0 ? LINK_FULL :
			LINK_REFUSED;
	}
	wire_fail_quoting(&link->wire, "unexpected reply", reply->line, reply->len);
	*text = link->wire.message;
	return LINK_REFUSED;
}

/* Hand a line to the call that it belongs to. */
static void
tell_line(Link *link, Call *call, char *line, Size len)
{
	Reply		reply = {word_of(line, len), line, len};

	line[len] = '\0';			/* in the place of \r */
	if (memchr(line, '\0', len) != NULL)
		reply.word = WORD_NONE;
	if (!call->is_list || reply.word != WORD_STAT)
		call->left--;
	else if (++call->lines > MAX_LIST)
	{
		wire_fail(&link->wire, "a list is too long to be one");
		return;
	}
	if (call->left == 0)
		(void) next_call(link);
	call->handler(link, call, &reply);
	if (call->left == 0)
		free_call(call);
	link->wire.in_kept = link->wire.in_at;
}

/* All values of a get have come. */
static void
tell_values(Link *link, Call *call)
{
	Asked	   *asked = call->asked;
	Reply		reply = {WORD_VALUES, "", 0, asked->values, asked->n, asked->uniques};

	for (int i = 0; i < asked->n; i++)
	{
		if (!asked->keys[i].present)
			continue;
		asked->values[i].bytes = link->wire.in + link->wire.in_kept + asked->keys[i].at;
		asked->values[i].len = asked->keys[i].len;
	}
	if (asked->error[0])
		reply = (Reply) {WORD_ERROR, asked->error, strlen(asked->error)};
	(void) next_call(link);
	call->handler(link, call, &reply);
	free_call(call);
	link->wire.in_kept = link->wire.in_at;
}

/* A number and the space before it, from *at on. */
static bool
take_number(const char **at, const char *end, uint64 *number)
{
	const char *digit = *at;

	if (digit == end || *digit++ != ' ')
		return false;
	*number = 0;
	*at = digit;
	for (; digit < end && *digit >= '0' && *digit <= '9'; digit++)
	{
		if (*number > (PG_UINT64_MAX - (*digit - '0')) / 10)
			return false;
		*number = *number * 10 + (*digit - '0');
	}
	if (digit == *at)
		return false;
	*at = digit;
	return true;
}

/*
 * VALUE <key> <flags> <bytes> [<unique>], which must be of the next key that
 * is not absent; and the value itself, if it has come.  False: not yet.
 */
static bool
take_value(Link *link, Asked *asked, const char *line, Size line_len)
{
	Wire	   *wire = &link->wire;
	const char *end = line + line_len;
	const char *key = line + 6;
	const char *at = memchr(key, ' ', end - key);
	int			i = asked->at;
	uint64		flags;
	uint64		len;
	uint64		unique = 0;

	while (at && i < asked->end &&
		   (asked->keys[i].key_len != at - key || memcmp(asked->keys[i].key, key, at - key) != 0))
		i++;
	if (at == NULL || i == asked->end ||
		!take_number(&at, end, &flags) || !take_number(&at, end, &len) ||
		(asked->with_uniques && !take_number(&at, end, &unique)) || at != end)
	{
		wire_fail_quoting(wire, "unexpected reply", line, line_len);
		return true;
	}
	if (len > link->config.max_value)
	{
		wire_fail(wire, "a reply is too large to be one");
		return true;
	}
	if (wire->in_len - wire->in_at < len + 2)
	{
		/* the line will be read again */
		link->needed = line_len + 2 + len + 2;
		wire->in_at = line - wire->in;
		return false;
	}
	if (memcmp(wire->in + wire->in_at + len, "\r\n", 2) != 0)
	{
		wire_fail(wire, "a value is longer than it should be");
		return true;
	}
	asked->keys[i].present = true;
	asked->keys[i].at = wire->in_at - wire->in_kept;
	asked->keys[i].len = len;
	asked->uniques[i] = unique;
	asked->at = i + 1;
	asked->has_values = true;
	wire->in_at += len + 2;
	return true;
}

/* A line of the reply to a get; false when more must come before it can be taken. */
static bool
take_part_of_get(Link *link, Call *call, const char *line, Size len)
{
	Asked	   *asked = call->asked;
	Word		word = word_of(line, len);

	if (len > 6 && memcmp(line, "VALUE ", 6) == 0)
		return take_value(link, asked, line, len);
	if (word == WORD_ERROR && !asked->has_values)
	{
		Size		n = Min(len, sizeof(asked->error) - 1);

		memcpy(asked->error, line, n);
		asked->error[n] = '\0';
	}
	else if (word != (asked->n > 0 ? WORD_END : WORD_VERSION))
	{
		wire_fail_quoting(&link->wire, "unexpected reply", line, len);
		return true;
	}
	asked->has_values = false;
	asked->at = asked->end;
	asked->end = end_of_command(asked, asked->at);
	if (--call->left == 0)
		tell_values(link, call);
	return true;
}

/* Take all replies, or parts of them, that have come. */
static void
take_replies(Link *link)
{
	Wire	   *wire = &link->wire;

	while (!wire->failed && wire->in_len - wire->in_at >= Max(link->needed, 1))
	{
		char	   *line;
		Size		len;

		link->needed = 0;
		if (link->first == NULL)
		{
			wire_fail_quoting(wire, "a reply came that nobody had asked for",
							  wire->in + wire->in_at, wire->in_len - wire->in_at);
			return;
		}
		if (!wire_take_line(wire, &line, &len))
			return;
		if (line[len] != '\r')
			wire_fail_quoting(wire, "unexpected reply", line, len);
		else if (link->first->asked == NULL)
			tell_line(link, link->first, line, len);
		else if (!take_part_of_get(link, link->first, line, len))
			return;
		link->replies++;
	}
}

/* Read what is there.  A server that never stops sending must not keep us here. */
static void
read_replies(Link *link)
{
	for (int i = 0; i < READS_PER_TURN && !link->wire.failed; i++)
	{
		Size		n = wire_read(&link->wire, link->config.max_value +
								   (link->wire.in_at - link->wire.in_kept));

		if (link->wire.failed)
			return;
		link->received += n;
		take_replies(link);
		/* a short read has emptied the socket */
		if (n < WIRE_READ_BYTES)
			return;
	}
}

void
memcached_turn(Link *link, bool readable, bool writable)
{
	Wire	   *wire = &link->wire;

	if (writable && !wire->failed && !wire->connected)
		wire_finish_connecting(wire);
	if (!wire->connected || wire->failed)
		return;
	if (writable)
		wire_write(wire);
	if (readable && !wire->failed)
		read_replies(link);
}
