/*-------------------------------------------------------------------------
 *
 * memcached_flush.c
 *	  Deleting all keys of a prefix from Memcached.
 *
 * With FLUSH_METHOD_ALL the host is ours alone, and flush_all takes it all.
 * What is to stay is read before and added again, unless somebody else has
 * put another there meanwhile.
 *
 * With FLUSH_METHOD_SCAN, the server's crawler dumps the names of all keys,
 * and those of the prefix are deleted on the link itself, in order with all
 * else.  Dumps have a connection of their own, as one would hold up the
 * replies to whatever follows it.  A dump may miss keys that move while it
 * walks, so it is repeated until one finds none.  It must be read without
 * waiting for anything else: while it cannot send, the crawler keeps a bucket
 * of the hash table locked, and a deletion there would wait for it, and we for
 * the deletion.  So if deletions do not keep up, keys are left to another dump.
 *
 * The event loop does not know the other connection.  So while a dump is
 * under way the link wants to write whenever there is something to be read of
 * it; a turn waits some milliseconds for more, lest the dump go on by the
 * loop's pauses only.  A server that is silent does not make the loop spin,
 * and the sender's clock counts its silence as ever.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <ctype.h>
#include <poll.h>

#include "portability/instr_time.h"

#include "memcached_link.h"

#define READS_PER_TURN	16
#define WAIT_MS			1		/* for more of a dump, */
#define WAITS_PER_TURN	4		/* so often, if it goes on coming */
#define MAX_UNSENT		(4 * 1024 * 1024)	/* bytes of deletions; then keys are left over */
#define MAX_PASSES		32
#define MAX_RETURNING	64		/* keys that may come again and again */
#define BUSY_PAUSE_MS	50
#define BUSY_LIMIT_MS	300000
#define DUMP_BYTES		(1024 * 1024)	/* of it that are kept, at most */
#define KEY_SIZE		256

/* ---------- flush_all ---------- */

typedef struct FlushAll
{
	LinkCallback done;
	void	   *arg;
	char		except[KEY_SIZE];	/* "": none */
	char	   *value;			/* of except, malloc'ed; NULL: it has none */
	Size		len;
} FlushAll;

static void
end_flush_all(FlushAll *flush, LinkStatus status, const char *text)
{
	flush->done(flush->arg, status, NULL, 0, text);
	free(flush->value);
	free(flush);
}

static void
on_put_back(Link *link, Call *call, const Reply *reply)
{
	const char *text;
	LinkStatus	status = memcached_judge(link, reply, WORD_STORED | WORD_NOT_STORED, &text);

	end_flush_all(call->arg, status, text);
}

static void
on_all_flushed(Link *link, Call *call, const Reply *reply)
{
	FlushAll   *flush = call->arg;
	const char *text;
	LinkStatus	status = memcached_judge(link, reply, WORD_OK, &text);

	if (status != LINK_OK || flush->value == NULL)
	{
		end_flush_all(flush, status, text);
		return;
	}
	memcached_append_storage(link, "add", flush->except, 0, flush->value, flush->len, NULL);
	memcached_expect(link, on_put_back, NULL, flush, 1);
}

static void
send_flush_all(Link *link, FlushAll *flush)
{
	memcached_append_text(link, "flush_all\r\n");
	memcached_expect(link, on_all_flushed, NULL, flush, 1);
}

static void
on_except_read(Link *link, Call *call, const Reply *reply)
{
	FlushAll   *flush = call->arg;
	const char *text;
	LinkStatus	status = memcached_judge(link, reply, WORD_VALUES, &text);

	if (status == LINK_OK && reply->values[0].bytes != NULL)
	{
		flush->len = reply->values[0].len;
		flush->value = malloc(flush->len + 1);
		if (flush->value == NULL)
		{
			wire_fail(&link->wire, "out of memory");
			status = LINK_LOST;
			text = link->wire.message;
		}
		else
			memcpy(flush->value, reply->values[0].bytes, flush->len);
	}
	if (status == LINK_OK)
		send_flush_all(link, flush);
	else
		end_flush_all(flush, status, text);
}

static void
begin_flush_all(Link *link, FlushAll *flush)
{
	const char *key = flush->except;
	Size		len = strlen(key);

	if (len > 0)
		memcached_get_keys(link, false, &key, &len, 1, on_except_read, NULL, flush);
	else
		send_flush_all(link, flush);
}

/* ---------- dump and delete ---------- */

typedef enum ScanPhase
{
	SCAN_WAITS,					/* for its turn, or for its next pass */
	SCAN_BUSY,					/* the crawler is; it is asked again after a pause */
	SCAN_DUMPS,					/* names are coming */
	SCAN_DELETES				/* all have; replies to deletions are to come */
} ScanPhase;

struct Scan
{
	Scan	   *next;
	LinkCallback done;
	void	   *arg;
	char		prefix[KEY_SIZE];
	char		except[KEY_SIZE];	/* "": none */
	ScanPhase	phase;
	Wire		dump;
	bool		is_open;		/* dump is */
	bool		by_lru;			/* the server cannot walk its hash table */
	int			passes;
	int			left_over;		/* keys of this pass that were there before the flush, perhaps */
	bool		skipped;		/* this pass has not deleted all that it has found */
	int			undeleted;		/* deletions without a reply */
	instr_time	busy_since;
	instr_time	busy_asked;
	LinkStatus	status;
	char		text[200];
	int			nfound;
	char		found[MAX_RETURNING][KEY_SIZE]; /* by passes after the first */
};

static double
elapsed_ms(instr_time since)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, since);
	return INSTR_TIME_GET_MILLISEC(now);
}

static void
close_dump(Scan *scan)
{
	if (scan->is_open)
		wire_close(&scan->dump);
	scan->is_open = false;
}

/* The first scan is over. */
static void
end_scan(Link *link, LinkStatus status, const char *text)
{
	Scan	   *scan = link->scans;

	link->scans = scan->next;
	scan->done(scan->arg, status, NULL, 0, text);
	close_dump(scan);
	free(scan);
}

static void
scan_went_wrong(Scan *scan, LinkStatus status, const char *text)
{
	if (scan->status == LINK_OK)
	{
		scan->status = status;
		strlcpy(scan->text, text, sizeof(scan->text));
	}
}

static void
fail_by_dump(Link *link, const char *reason)
{
	char		message[sizeof(link->wire.message)];

	snprintf(message, sizeof(message), "the dump of keys failed: %s", reason);
	wire_fail(&link->wire, message);
}

static void
on_found_deleted(Link *link, Call *call, const Reply *reply)
{
	Scan	   *scan = call->arg;
	const char *text;
	LinkStatus	status = memcached_judge(link, reply, WORD_DELETED | WORD_NOT_FOUND, &text);

	if (status == LINK_LOST)
		return;					/* and so is the scan */
	scan->undeleted--;
	if (status != LINK_OK)
		scan_went_wrong(scan, LINK_REFUSED, text);
}

/*
 * Ask for the names of all keys.  Each dump has a connection of its own, so
 * that nothing of one can be taken for the next.
 */
static void
ask_for_dump(Link *link, Scan *scan)
{
	char		error[200];
	const char *command = scan->by_lru ? "lru_crawler metadump all\r\n" :
		"lru_crawler metadump hash\r\n";

	close_dump(scan);
	/* not by name, which may mean several servers */
	if (!wire_open_beside(&scan->dump, &link->wire, error, sizeof(error)))
	{
		fail_by_dump(link, error);
		return;
	}
	scan->is_open = true;
	wire_append(&scan->dump, command, strlen(command));
	scan->phase = SCAN_DUMPS;
}

static void
begin_pass(Link *link, Scan *scan)
{
	if (!scan->skipped)
		scan->passes++;
	if (scan->passes > MAX_PASSES)
	{
		end_scan(link, LINK_REFUSED, "keys keep coming");
		return;
	}
	scan->left_over = 0;
	scan->skipped = false;
	INSTR_TIME_SET_CURRENT(scan->busy_since);
	ask_for_dump(link, scan);
}

/* Where a key begins that is dumped as key=... with %XX in it; false: not as it should be. */
static bool
decode_key(const char *line, Size len, char *key, Size *key_len)
{
	const char *end;
	const char *at = line + 4;

	if (len < 5 || memcmp(line, "key=", 4) != 0 ||
		(end = memchr(at, ' ', len - 4)) == NULL)
		return false;
	for (*key_len = 0; at < end; (*key_len)++)
	{
		int			byte = (unsigned char) *at++;

		if (*key_len >= KEY_SIZE - 1)
			return false;
		if (byte == '%')
		{
			char		hex[3] = {0};

			if (end - at < 2 || !isxdigit((unsigned char) at[0]) ||
				!isxdigit((unsigned char) at[1]))
				return false;
			memcpy(hex, at, 2);
			byte = (int) strtol(hex, NULL, 16);
			at += 2;
		}
		key[*key_len] = (char) byte;
	}
	key[*key_len] = '\0';
	return *key_len > 0;
}

/*
 * Note a key that is deleted now.  One that an earlier pass has deleted, too,
 * has been set since the flush began: by us, who go on meanwhile.
 */
static void
note_found(Scan *scan, const char *key)
{
	for (int i = 0; i < scan->nfound; i++)
	{
		if (strcmp(scan->found[i], key) == 0)
			return;
	}
	scan->left_over++;
	if (scan->passes > 1 && scan->nfound < MAX_RETURNING)
		strlcpy(scan->found[scan->nfound++], key, KEY_SIZE);
}

/* Queue the deletion of a dumped key if it is one to be deleted. */
static int
delete_if_ours(Link *link, Scan *scan, const char *key, Size len)
{
	if (strncmp(key, scan->prefix, strlen(scan->prefix)) != 0 ||
		strcmp(key, scan->except) == 0 || !memcached_is_key(key, len))
		return 0;
	if (link->wire.out_len - link->wire.out_sent > MAX_UNSENT)
	{
		scan->skipped = true;
		return 0;
	}
	note_found(scan, key);
	memcached_append_delete(link, key, len);
	return 1;
}

static bool
begins_with(const char *line, Size len, const char *word)
{
	return len >= strlen(word) && memcmp(line, word, strlen(word)) == 0;
}

/* A line of the dump that is not a key ends it. */
static void
end_dump(Link *link, Scan *scan, const char *line, Size len)
{
	scan->phase = SCAN_DELETES;
	if ((len == 3 && memcmp(line, "END", 3) == 0) || begins_with(line, len, "NOTSTARTED"))
		return;
	if (begins_with(line, len, "BUSY") && elapsed_ms(scan->busy_since) < BUSY_LIMIT_MS)
	{
		scan->phase = SCAN_BUSY;
		INSTR_TIME_SET_CURRENT(scan->busy_asked);
		return;
	}
	if (begins_with(line, len, "BADCLASS") && !scan->by_lru)
	{
		scan->by_lru = true;
		scan->phase = SCAN_BUSY;	/* and asked once more, at once */
		INSTR_TIME_SET_ZERO(scan->busy_asked);
		return;
	}
	wire_fail_quoting(&scan->dump, "keys could not be dumped", line, len);
	if (begins_with(line, len, "BUSY") || begins_with(line, len, "ERROR") ||
		begins_with(line, len, "CLIENT_ERROR") || begins_with(line, len, "SERVER_ERROR"))
		scan_went_wrong(scan, LINK_REFUSED, scan->dump.message);
	else
		wire_fail(&link->wire, scan->dump.message);
}

/* Take all lines of the dump that have come, and delete what they name. */
static void
take_dump(Link *link, Scan *scan)
{
	char	   *line;
	Size		len;
	int			n = 0;

	while (scan->phase == SCAN_DUMPS && !link->wire.failed &&
		   wire_take_line(&scan->dump, &line, &len))
	{
		char		key[KEY_SIZE];
		Size		key_len;

		link->replies++;
		if (decode_key(line, len, key, &key_len))
			n += delete_if_ours(link, scan, key, key_len);
		else
			end_dump(link, scan, line, len);
		scan->dump.in_kept = scan->dump.in_at;
	}
	if (n > 0)
	{
		scan->undeleted += n;
		memcached_expect(link, on_found_deleted, NULL, scan, n);
	}
}

/* Is there anything to be done on the dump's connection?  Wait so long for it. */
static bool
dump_is_ready(Scan *scan, int wait_ms)
{
	struct pollfd fd = {scan->dump.fd, POLLIN, 0};

	if (!scan->dump.connected || wire_has_unsent(&scan->dump))
		fd.events |= POLLOUT;
	return poll(&fd, 1, wait_ms) > 0;
}

static void
read_dump(Link *link, Scan *scan, int waits)
{
	Wire	   *dump = &scan->dump;

	for (int i = 0; i < READS_PER_TURN && scan->phase == SCAN_DUMPS && !link->wire.failed; i++)
	{
		if (!dump_is_ready(scan, waits > 0 ? WAIT_MS : 0))
			return;
		if (!dump->connected)
			wire_finish_connecting(dump);
		if (!dump->failed)
			wire_write(dump);
		if (wire_read(dump, DUMP_BYTES) < WIRE_READ_BYTES)
			waits--;
		take_dump(link, scan);
		if (dump->failed && scan->phase == SCAN_DUMPS)
			fail_by_dump(link, dump->message);
	}
}

/* A pass has ended, and all that it had found has been deleted. */
static void
end_pass(Link *link, Scan *scan)
{
	if (scan->status != LINK_OK)
		end_scan(link, scan->status, scan->text);
	else if (scan->left_over == 0 && !scan->skipped)
		end_scan(link, LINK_OK, "");
	else
		begin_pass(link, scan);
}

static bool
pause_is_over(const Scan *scan)
{
	return elapsed_ms(scan->busy_asked) >= BUSY_PAUSE_MS;
}

void
memcached_scan_turn(Link *link, bool may_wait)
{
	Scan	   *scan = link->scans;

	if (scan == NULL || link->wire.failed)
		return;
	if (scan->phase == SCAN_WAITS)
		begin_pass(link, scan);
	else if (scan->phase == SCAN_BUSY && pause_is_over(scan))
		ask_for_dump(link, scan);
	else if (scan->phase == SCAN_DUMPS)
		read_dump(link, scan, may_wait ? WAITS_PER_TURN : 0);
	else if (scan->phase == SCAN_DELETES && scan->undeleted == 0)
		end_pass(link, scan);
}

bool
memcached_scan_wants_turn(Link *link)
{
	Scan	   *scan = link->scans;

	if (scan == NULL)
		return false;
	return scan->phase == SCAN_WAITS ||
		(scan->phase == SCAN_BUSY && pause_is_over(scan)) ||
		(scan->phase == SCAN_DUMPS && dump_is_ready(scan, 0)) ||
		(scan->phase == SCAN_DELETES && scan->undeleted == 0);
}

int
memcached_scans(const Link *link)
{
	int			n = 0;

	for (const Scan *scan = link->scans; scan; scan = scan->next)
		n++;
	return n;
}

void
memcached_lose_scans(Link *link)
{
	while (link->scans)
		end_scan(link, LINK_LOST, link->wire.message);
}

/* Scans of one link take turns: the server has one crawler. */
static void
queue_scan(Link *link, Scan *scan)
{
	Scan	  **last = &link->scans;

	while (*last)
		last = &(*last)->next;
	*last = scan;
}

/* ---------- both ---------- */

void
memcached_flush(Link *link, const char *prefix, const char *except, LinkCallback done, void *arg)
{
	FlushAll   *all;
	Scan	   *scan;

	if (except == NULL)
		except = "";
	if (strlen(prefix) >= KEY_SIZE || (except[0] && !memcached_is_key(except, strlen(except))))
	{
		done(arg, LINK_REFUSED, NULL, 0, "this cannot be a key of Memcached");
		return;
	}
	if (link->config.flush_method != FLUSH_METHOD_SCAN)
	{
		all = calloc(1, sizeof(FlushAll));
		if (all == NULL)
		{
			memcached_tell_out_of_memory(link, done, arg);
			return;
		}
		all->done = done;
		all->arg = arg;
		strlcpy(all->except, except, sizeof(all->except));
		begin_flush_all(link, all);
		return;
	}
	scan = calloc(1, sizeof(Scan));
	if (scan == NULL || link->wire.failed)
	{
		free(scan);
		memcached_tell_out_of_memory(link, done, arg);
		return;
	}
	scan->done = done;
	scan->arg = arg;
	scan->status = LINK_OK;
	strlcpy(scan->prefix, prefix, sizeof(scan->prefix));
	strlcpy(scan->except, except, sizeof(scan->except));
	queue_scan(link, scan);
}
