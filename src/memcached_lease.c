/*-------------------------------------------------------------------------
 *
 * memcached_lease.c
 *	  What is put into Memcached on conditions: documents, and the marker.
 *
 * Memcached has no scripts, so what is to be set on conditions is read first,
 * together with what these are about, and set by a cas, which fails if anything
 * has happened to the key meanwhile.  The owner is read last: whoever has taken
 * over before that is seen, and whoever does so later deletes or replaces
 * what the cas goes by.  A key that is absent gets an empty placeholder first,
 * a lease: a deletion breaks it.  Readers take an empty value for absent.  A
 * document that is there is left alone, or replaced by a cas that goes by it:
 * it stays until then, and whatever happens to it meanwhile breaks the cas.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <time.h>

#include "marker.h"
#include "memcached_link.h"

#define LEASE_SECONDS		10 	/* life of a placeholder */
#define ITEM_OVERHEAD		128 /* bytes; 59 and the key in 1.6 */
#define RELATIVE_SECONDS	(30 * 24 * 60 * 60) /* a longer time is a date */

/* A document that is being put under a lease. */
typedef struct Fill
{
	LinkCallback done;
	void	   *arg;
	char		key[256];
	char		owner[64];
	uint64		position;		/* which the marker must have reached */
	int64		ttl_ms;
	bool		replace;		/* a document that is there */
	Size		len;
	LinkStatus	status;			/* if there is no placeholder, why */
	char		text[128];
	char		value[FLEXIBLE_ARRAY_MEMBER];
} Fill;

/* A marker that is being replaced. */
typedef struct MarkerPut
{
	LinkCallback done;
	void	   *arg;
	char	   *key;			/* these follow the struct */
	char	   *owner;
	char	   *previous;
	char	   *value;
	uint64		least[MAX_LINKS];
	int			ntraces;
} MarkerPut;

static bool
is_text(const LinkValue *value, const char *text)
{
	return value->bytes != NULL && value->len == strlen(text) &&
		memcmp(value->bytes, text, value->len) == 0;
}

/* ---------- a document under a lease ---------- */

static void
end_fill(Fill *fill, LinkStatus status, const char *text)
{
	fill->done(fill->arg, status, NULL, 0, text);
	free(fill);
}

static void
end_fill_well(Fill *fill, bool on_terms)
{
	memcached_tell_number(fill->done, fill->arg, on_terms);
	free(fill);
}

/* Is what was found beside the key what the fill needs? */
static bool
terms_are_met(const Fill *fill, const LinkValue *marker, const LinkValue *owner)
{
	Marker		found;

	if (!is_text(owner, fill->owner))
		return false;
	return fill->position == 0 ||
		(marker->bytes != NULL && marker_parse(marker->bytes, marker->len, &found) &&
		 found.position >= fill->position);
}

/* As Memcached wants to be told of a time: rounded up, and a long one as a date. */
static int64
expiry(int64 ttl_ms)
{
	int64		seconds = ttl_ms / 1000 + (ttl_ms % 1000 != 0);

	if (seconds > RELATIVE_SECONDS)
		seconds = Min(seconds, PG_INT32_MAX) + (int64) time(NULL);
	return Min(seconds, PG_INT32_MAX);
}

static void
on_swallowed(Link *link, Call *call, const Reply *reply)
{
	const char *text;

	(void) memcached_judge(link, reply, WORD_DELETED | WORD_NOT_FOUND, &text);
}

static void
on_filled(Link *link, Call *call, const Reply *reply)
{
	Fill	   *fill = call->arg;
	const char *text;
	LinkStatus	status = memcached_judge(link, reply, WORD_STORED | WORD_NOT_STORED |
										 WORD_EXISTS | WORD_NOT_FOUND, &text);

	if (status == LINK_OK && reply->word == WORD_STORED)
		end_fill_well(fill, true);
	else if (status == LINK_OK)
		end_fill(fill, LINK_REFUSED, "the lease was broken by a deletion");
	else
	{
		if (status != LINK_LOST && !link->wire.failed)
		{
			/* no need for the placeholder any more */
			memcached_append_delete(link, fill->key, strlen(fill->key));
			memcached_expect(link, on_swallowed, NULL, NULL, 1);
		}
		end_fill(fill, status, text);
	}
}

static void
on_fill_checked(Link *link, Call *call, const Reply *reply)
{
	Fill	   *fill = call->arg;
	const char *text;
	LinkStatus	status = memcached_judge(link, reply, WORD_VALUES, &text);

	if (status != LINK_OK)
		end_fill(fill, status, text);
	else if (!terms_are_met(fill, &reply->values[1], &reply->values[2]))
		end_fill_well(fill, false);
	else if (reply->values[0].bytes == NULL && fill->status != LINK_OK)
		end_fill(fill, fill->status, fill->text);
	else if (reply->values[0].bytes == NULL)
		end_fill(fill, LINK_REFUSED, "the lease was broken");
	else if (reply->values[0].len > 0 && !fill->replace)
		end_fill_well(fill, true);	/* somebody else has been faster */
	else
	{
		memcached_append_storage(link, "cas", fill->key, expiry(fill->ttl_ms), fill->value,
								 fill->len, &reply->uniques[0]);
		memcached_expect(link, on_filled, NULL, fill, 1);
	}
}

/* What went wrong here matters only if the key is found to be absent. */
static void
on_leased(Link *link, Call *call, const Reply *reply)
{
	Fill	   *fill = call->arg;
	const char *text;

	if (reply == NULL)
		return;					/* the next call tells, or has told */
	fill->status = memcached_judge(link, reply, WORD_STORED | WORD_NOT_STORED, &text);
	strlcpy(fill->text, text, sizeof(fill->text));
}

static void
on_put_anyhow(Link *link, Call *call, const Reply *reply)
{
	const char *text;
	LinkStatus	status = memcached_judge(link, reply, WORD_STORED, &text);

	if (status == LINK_OK)
		end_fill_well(call->arg, true);
	else
		end_fill(call->arg, status, text);
}

static void
on_removed(Link *link, Call *call, const Reply *reply)
{
	const char *text;
	LinkStatus	status = memcached_judge(link, reply, WORD_DELETED | WORD_NOT_FOUND, &text);

	if (status == LINK_OK)
		text = "it is larger than the server's item size";
	end_fill(call->arg, status == LINK_LOST ? LINK_LOST : LINK_REFUSED, text);
}

void
memcached_put_if_owner(Link *link, const char *key, const LinkTerms *terms, const char *value,
					   Size len, int64 ttl_ms, bool replace, LinkCallback done, void *arg)
{
	const char *keys[3] = {key, terms->marker_key, terms->owner_key};
	Size		lens[3] = {strlen(key), strlen(terms->marker_key), strlen(terms->owner_key)};
	const char *owner = terms->owner;
	Fill	   *fill;

	if (memcached_told_bad_keys(keys, lens, 3, done, arg))
		return;
	fill = malloc(offsetof(Fill, value) + len);
	if (fill == NULL)
	{
		memcached_tell_out_of_memory(link, done, arg);
		return;
	}
	fill->done = done;
	fill->arg = arg;
	strlcpy(fill->key, key, sizeof(fill->key));
	Assert(owner == NULL || strlen(owner) < sizeof(fill->owner));
	strlcpy(fill->owner, owner ? owner : "", sizeof(fill->owner));
	fill->position = terms->position;
	fill->ttl_ms = ttl_ms;
	fill->replace = replace;
	fill->len = len;
	fill->status = LINK_OK;
	memcpy(fill->value, value, len);
	if (link->item_size > 0 && len + lens[0] + ITEM_OVERHEAD > link->item_size)
	{
		/* what is there would be older */
		memcached_append_delete(link, key, lens[0]);
		memcached_expect(link, on_removed, NULL, fill, 1);
	}
	else if (owner == NULL)
	{
		memcached_append_storage(link, "set", key, expiry(ttl_ms), value, len, NULL);
		memcached_expect(link, on_put_anyhow, NULL, fill, 1);
	}
	else
	{
		memcached_append_storage(link, "add", key, LEASE_SECONDS, "", 0, NULL);
		memcached_expect(link, on_leased, NULL, fill, 1);
		memcached_get_keys(link, true, keys, lens, 3, on_fill_checked, NULL, fill);
	}
}

/* ---------- the marker ---------- */

static void
on_marker_put(Link *link, Call *call, const Reply *reply)
{
	const char *text;
	LinkStatus	status = memcached_judge(link, reply, WORD_STORED | WORD_NOT_STORED |
										 WORD_EXISTS | WORD_NOT_FOUND, &text);

	if (status == LINK_OK)
		memcached_tell_number(call->done, call->arg, reply->word == WORD_STORED);
	else
		call->done(call->arg, status, NULL, 0, text);
}

/* Is this a decimal number, and at least that? */
static bool
is_at_least(const LinkValue *value, uint64 least)
{
	uint64		number = 0;

	if (value->bytes == NULL || value->len == 0)
		return false;
	for (Size i = 0; i < value->len; i++)
	{
		int			digit = value->bytes[i] - '0';

		if (digit < 0 || digit > 9 || number > (PG_UINT64_MAX - digit) / 10)
			return false;
		number = number * 10 + digit;
	}
	return number >= least;
}

/* May the marker be replaced, as far as these values tell?  The owner is the last. */
static bool
may_put_marker(const MarkerPut *put, const LinkValue *values)
{
	bool		absent = values[0].bytes == NULL || values[0].len == 0;

	if (!is_text(&values[put->ntraces + 1], put->owner) ||
		!(put->previous[0] ? is_text(&values[0], put->previous) : absent))
		return false;
	for (int i = 0; i < put->ntraces; i++)
	{
		if (!is_at_least(&values[i + 1], put->least[i]))
			return false;
	}
	return true;
}

static void
on_marker_checked(Link *link, Call *call, const Reply *reply)
{
	MarkerPut  *put = call->arg;
	const char *text;
	LinkStatus	status = memcached_judge(link, reply, WORD_VALUES, &text);

	if (status != LINK_OK)
		put->done(put->arg, status, NULL, 0, text);
	else if (!may_put_marker(put, reply->values))
		memcached_tell_number(put->done, put->arg, false);
	else
	{
		bool		absent = reply->values[0].bytes == NULL;

		memcached_append_storage(link, absent ? "add" : "cas", put->key, 0, put->value,
								 strlen(put->value), absent ? NULL : &reply->uniques[0]);
		memcached_expect(link, on_marker_put, put->done, put->arg, 1);
	}
	free(put);
}

/* Copy a text behind a struct. */
static char *
copy_text(char **room, const char *text)
{
	char	   *copy = *room;

	strcpy(copy, text);
	*room += strlen(text) + 1;
	return copy;
}

void
memcached_put_marker(Link *link, const char *key, const char *owner_key, const char *owner,
					 const char *previous, const char *value, const LinkTrace *traces,
					 int ntraces, LinkCallback done, void *arg)
{
	const char *keys[MAX_LINKS + 2];
	Size		lens[MAX_LINKS + 2];
	MarkerPut  *put;
	char	   *room;

	Assert(ntraces <= MAX_LINKS);
	keys[0] = key;
	for (int i = 0; i < ntraces; i++)
		keys[i + 1] = traces[i].key;
	keys[ntraces + 1] = owner_key;
	for (int i = 0; i < ntraces + 2; i++)
		lens[i] = strlen(keys[i]);
	if (memcached_told_bad_keys(keys, lens, ntraces + 2, done, arg))
		return;
	put = malloc(sizeof(MarkerPut) + strlen(key) + strlen(owner) + strlen(previous) +
				 strlen(value) + 4);
	if (put == NULL)
	{
		memcached_tell_out_of_memory(link, done, arg);
		return;
	}
	room = (char *) (put + 1);
	put->done = done;
	put->arg = arg;
	put->key = copy_text(&room, key);
	put->owner = copy_text(&room, owner);
	put->previous = copy_text(&room, previous);
	put->value = copy_text(&room, value);
	put->ntraces = ntraces;
	for (int i = 0; i < ntraces; i++)
		put->least[i] = traces[i].least;
	memcached_get_keys(link, true, keys, lens, ntraces + 2, on_marker_checked, NULL, put);
}
