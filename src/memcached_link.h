/*-------------------------------------------------------------------------
 *
 * memcached_link.h
 *	  One connection to Memcached: commands in, replies to their handlers.
 *
 * A command is appended to link->wire, and what is to come back is then told
 * by one of the calls below: that is what keeps the replies apart.  Used by
 * the Memcached driver only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_MEMCACHED_LINK_H
#define CACHEKIT_MEMCACHED_LINK_H

#include "memcached_wire.h"

typedef struct Call Call;
typedef struct Scan Scan;

struct Link
{
	Wire		wire;
	Size		needed;			/* bytes from in_at on, before parsing makes sense */
	Call	   *first;			/* without a reply, in the order they were sent */
	Call	   *last;
	int			calls;
	uint64		replies;		/* lines and values */
	uint64		received;		/* bytes */
	Size		item_size;		/* what the server's items may have; 0: not known */
	Scan	   *scans;			/* flushes that wait or walk: memcached_flush.c */
	ServerConfig config;
};

/* Answers of one line, as bits, so that a set of them can be expected. */
typedef enum Word
{
	WORD_OK = 1, WORD_STORED = 2, WORD_NOT_STORED = 4, WORD_EXISTS = 8,
	WORD_NOT_FOUND = 16, WORD_DELETED = 32, WORD_END = 64, WORD_STAT = 128, WORD_VERSION = 256,
	WORD_VALUES = 512,			/* of a get: all of them have come */
	WORD_ERROR = 1024,			/* SERVER_ERROR: the server could not */
	WORD_HIT = 2048,			/* HD, of an mg: with its flags */
	WORD_MISS = 4096,			/* EN, the same */
	WORD_UNKNOWN = 8192,		/* ERROR: there is no such command */
	WORD_NONE = 16384			/* anything else */
} Word;

typedef struct Reply
{
	Word		word;
	const char *line;			/* ends in a zero byte */
	Size		len;
	const LinkValue *values;	/* of a get: as many as were asked for */
	int			n;
	const uint64 *uniques;		/* of those that are present, if they were asked for */
} Reply;

/*
 * Called for each line of a reply, and once with all values of a get; `left`
 * tells how many lines are to come.  NULL, once, tells that none will.
 */
typedef void (*ReplyHandler) (Link *link, Call *call, const Reply *reply);

struct Call
{
	Call	   *next;
	ReplyHandler handler;
	LinkCallback done;
	void	   *arg;
	int			left;			/* lines to come; of a get, commands */
	bool		is_list;		/* STAT lines do not count, what ends them does */
	int			lines;			/* of a list, so far */
	struct Asked *asked;		/* the keys of a get; NULL: none */
};

extern bool memcached_start(Link *link, const ServerConfig *config, char *error, Size error_size);
/* Tell all calls that wait that no reply will come. */
extern void memcached_lose_calls(Link *link);
extern void memcached_turn(Link *link, bool readable, bool writable);

/* Can this be sent as a key?  Else it would be a piece of another command. */
extern bool memcached_is_key(const char *key, Size len);
extern void memcached_append_text(Link *link, const char *text);
extern void memcached_append_delete(Link *link, const char *key, Size len);
/* add or set; or cas, if nobody has touched the item with this number. */
extern void memcached_append_storage(Link *link, const char *command, const char *key,
									 int64 exptime, const char *value, Size len,
									 const uint64 *unique);

/* Queue a call for `lines` lines; its handler is called in any case. */
extern void memcached_expect(Link *link, ReplyHandler handler, LinkCallback done, void *arg,
							 int lines);
extern void memcached_expect_list(Link *link, ReplyHandler handler, LinkCallback done, void *arg);
/* Read keys in this order, with the numbers that cas goes by if wanted; 0 keys are none. */
extern void memcached_get_keys(Link *link, bool uniques, const char *const *keys,
							   const Size *lens, int n, ReplyHandler handler,
							   LinkCallback done, void *arg);

/*
 * What a reply means where these words are expected.  Others fail the link,
 * and the stream cannot be trusted any more.
 */
extern LinkStatus memcached_judge(Link *link, const Reply *reply, int expected,
								  const char **text);

/* memcached.c: how calls end. */
extern void memcached_tell_number(LinkCallback done, void *arg, bool number);
/* One that cannot even be queued. */
extern void memcached_tell_out_of_memory(Link *link, LinkCallback done, void *arg);
/* A key that cannot be sent is told to be so; keys of ours never are such. */
extern bool memcached_told_bad_keys(const char *const *keys, const Size *lens, int n,
									LinkCallback done, void *arg);

/* memcached_lease.c */
extern void memcached_put_if_owner(Link *link, const char *key, const LinkTerms *terms,
								   const char *value, Size len, int64 ttl_ms, bool replace,
								   LinkCallback done, void *arg);
extern void memcached_put_marker(Link *link, const char *key, const char *owner_key,
								 const char *owner, const char *previous, const char *value,
								 const LinkTrace *traces, int ntraces, LinkCallback done,
								 void *arg);

/* memcached_flush.c */
extern void memcached_flush(Link *link, const char *prefix, const char *except,
							LinkCallback done, void *arg);
extern int	memcached_scans(const Link *link);
extern bool memcached_scan_wants_turn(Link *link);
extern void memcached_scan_turn(Link *link, bool may_wait);
extern void memcached_lose_scans(Link *link);

#endif							/* CACHEKIT_MEMCACHED_LINK_H */
