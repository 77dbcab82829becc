/*
 * target_record.c
 *		Change records: hostile ones, and our own there and back.
 */
#include "fuzz.h"

#include "lib/stringinfo.h"
#include "replication/message.h"

#include "key.h"
#include "record.h"

#define SERVER		16400		/* the one that is asked for */
#define STRANGER	16401

typedef struct Entry
{
	RecordKind	kind;
	Oid			relid;
	char	   *name;
	char	   *key;			/* NULL: none */
} Entry;

typedef struct Entries
{
	int			n;
	int			room;
	int			stop_at;		/* the visitor ends the parse there; -1: nowhere */
	Entry	   *item;
	const char *bytes;			/* of the record */
	Size		len;
} Entries;

/* What has been written to the WAL, in place of it. */
static StringInfoData written[1024];
static int	nwritten = 0;

XLogRecPtr
LogLogicalMessage(const char *prefix, const char *message, size_t size, bool transactional)
{
	expect(strcmp(prefix, RECORD_PREFIX) == 0 && transactional, "\"%s\"", prefix);
	expect(size <= RECORD_MAX_BYTES, "%zu bytes", size);
	expect(nwritten < (int) lengthof(written), "more records than keys can fill");
	initStringInfo(&written[nwritten]);
	appendBinaryStringInfo(&written[nwritten], message, size);
	return (XLogRecPtr) ++nwritten;
}

static void
add_item(Entries *items, RecordKind kind, Oid relid, const char *name, int name_len,
		 const char *key, int key_len)
{
	Entry	   *item;

	if (items->n == items->room)
	{
		items->room = Max(16, items->room * 2);
		items->item = items->item ? repalloc(items->item, items->room * sizeof(Entry)) :
			palloc(items->room * sizeof(Entry));
	}
	item = &items->item[items->n++];
	item->kind = kind;
	item->relid = kind == RECORD_REFRESH || kind == RECORD_REFRESH_ABSENT ? relid : InvalidOid;
	item->name = pnstrdup(name, name_len);
	item->key = key ? pnstrdup(key, key_len) : NULL;
}

static void
expect_clean(const char *bytes, int len)
{
	for (int i = 0; i < len; i++)
		expect(isalnum((unsigned char) bytes[i]) || strchr("._-%:#", bytes[i]) != NULL,
			   "byte %d is %d", i, bytes[i]);
	expect(memchr(bytes, '\0', len) == NULL, "a zero byte");
}

static void
expect_inside(const Entries *items, const char *bytes, int len)
{
	expect(len >= 0 && bytes >= items->bytes && bytes + len <= items->bytes + items->len,
		   "%d bytes outside of the record", len);
}

static bool
visit(const RecordItem *item, void *arg)
{
	Entries	   *items = arg;

	expect_inside(items, item->name, item->name_len);
	expect_clean(item->name, item->name_len);
	expect(item->name_len <= KEY_MAX_ENTITY_NAME, "a name of %d bytes", item->name_len);
	expect(item->name_len != 8 || memcmp(item->name, "cachekit", 8) != 0, "our own name");
	switch (item->kind)
	{
		case RECORD_KEYS:
		case RECORD_REFRESH:
		case RECORD_REFRESH_ABSENT:
			expect(item->name_len > 0, "no name");
			expect_inside(items, item->key, item->key_len);
			expect_clean(item->key, item->key_len);
			expect(item->name_len + 1 + item->key_len <= KEY_MAX_NAMED, "a key of %d bytes",
				   item->key_len);
			break;
		case RECORD_ENTITY:
			expect(item->name_len > 0, "no name");
			break;
		case RECORD_DATABASE:
			break;
		default:
			expect(false, "kind %d", item->kind);
	}
	if (items->n == items->stop_at)
		return false;
	add_item(items, item->kind, item->relid, item->name, item->name_len,
			 record_has_keys(item->kind) ? item->key : NULL, item->key_len);
	return true;
}

static bool
parse(const char *bytes, Size len, Oid server, int stop_at, Entries *items)
{
	items->bytes = bytes;
	items->len = len;
	items->stop_at = stop_at;
	return record_parse(bytes, len, server, visit, items);
}

static void
expect_same(const Entries *a, const Entries *b)
{
	expect(a->n == b->n, "%d items, and %d", a->n, b->n);
	for (int i = 0; i < a->n; i++)
	{
		const Entry *one = &a->item[i];
		const Entry *two = &b->item[i];

		expect(one->kind == two->kind && one->relid == two->relid &&
			   strcmp(one->name, two->name) == 0 && (one->key == NULL) == (two->key == NULL) &&
			   (one->key == NULL || strcmp(one->key, two->key) == 0),
			   "item %d: \"%s\" \"%s\", and \"%s\" \"%s\"", i, one->name,
			   one->key ? one->key : "", two->name, two->key ? two->key : "");
	}
}

/* Write these items, for some servers; sections end where anything but the key changes. */
static void
write_items(const Entries *items, const Oid *servers, int nservers)
{
	RecordWriter writer;

	nwritten = 0;
	record_begin(&writer);
	for (int i = 0; i < items->n; i++)
	{
		const Entry *item = &items->item[i];
		const Entry *before = i > 0 ? item - 1 : NULL;

		if (before == NULL || item->key == NULL || item->kind != before->kind ||
			item->relid != before->relid || strcmp(item->name, before->name) != 0)
			record_section(&writer, item->kind, servers, nservers, item->relid, item->name);
		if (item->key)
			record_key(&writer, item->key, strlen(item->key));
	}
	expect(record_end(&writer) == (XLogRecPtr) nwritten, "the end of %d records", nwritten);
	expect((nwritten > 0) == (items->n > 0), "%d records of %d items", nwritten, items->n);
}

/* What is written is what is read, by each of its servers, and by no other. */
static void
expect_returns(const Entries *items, const Oid *servers, int nservers)
{
	Entries		back = {0};
	Entries		strangers = {0};

	write_items(items, servers, nservers);
	for (int i = 0; i < nwritten; i++)
	{
		expect(parse(written[i].data, written[i].len, SERVER, -1, &back), "our own record %d", i);
		expect(parse(written[i].data, written[i].len, STRANGER, -1, &strangers),
			   "our own record %d for another", i);
	}
	for (int i = 0; i < strangers.n; i++)
		expect(strangers.item[i].kind == RECORD_DATABASE, "an item for a server that is not named");
	expect_same(items, &back);
}

/* The input is a record that somebody has written. */
static void
try_hostile(Input *input)
{
	size_t		len;
	char	   *bytes = input_rest(input, &len);
	char	   *exact = palloc(len);
	Entries		items = {0};
	Entries		first = {0};
	Oid			servers[] = {7, SERVER};
	bool		good;

	/* without the zero byte behind it */
	memcpy(exact, bytes, len);
	good = parse(exact, len, SERVER, -1, &items);
	if (items.n > 0)
	{
		/* a visitor that has seen enough ends it */
		expect(!parse(exact, len, SERVER, items.n - 1, &first), "it went on");
		expect(first.n == items.n - 1, "it went on to item %d", first.n);
	}
	/* each beginning of a record has the same items as far as it goes, and none that are new */
	if (good && len > 3 && len < 200)
	{
		for (size_t cut = 0; cut < len; cut++)
		{
			char	   *part = palloc(cut);
			Entries		fewer = {0};

			memcpy(part, exact, cut);
			(void) parse(part, cut, SERVER, -1, &fewer);
			expect(fewer.n <= items.n, "%d items in a part, %d in the whole", fewer.n, items.n);
			items.n -= items.n - fewer.n;
			expect_same(&fewer, &items);
			items.n = 0;
			good = parse(exact, len, SERVER, -1, &items);
		}
	}
	if (good && items.n < 1000)
		expect_returns(&items, servers, lengthof(servers));
}

/* The input says what a transaction of ours changes. */
static void
try_own(Input *input)
{
	static const char clean[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-%:#";
	Entries		items = {0};
	int			nservers = 1 + input_byte(input) % RECORD_MAX_SERVERS;
	Oid		   *servers = palloc(nservers * sizeof(Oid));

	for (int i = 0; i < nservers; i++)
		servers[i] = i == nservers / 2 ? SERVER : 20000 + i;
	while (input->left > 0)
	{
		RecordKind	kind = 1 + input_byte(input) % 5;
		Oid			relid = 16384 + input_byte(input);
		size_t		name_len;
		char	   *name = input_bytes(input, &name_len);
		int			keys = record_has_keys(kind) ? 1 + input_byte(input) % 8 : 1;

		name_len = Min(name_len, KEY_MAX_ENTITY_NAME);
		for (size_t i = 0; i < name_len; i++)
			name[i] = clean[(uint8) name[i] % (lengthof(clean) - 1)];
		if (kind == RECORD_DATABASE)
			name_len = 0;
		else if (name_len == 0 || (name_len == 8 && memcmp(name, "cachekit", 8) == 0))
			continue;
		for (int k = 0; k < keys; k++)
		{
			size_t		key_len;
			char	   *key = input_bytes(input, &key_len);

			key_len = Min(key_len, KEY_MAX_NAMED - 1 - name_len);
			for (size_t i = 0; i < key_len; i++)
				key[i] = clean[(uint8) key[i] % (lengthof(clean) - 1)];
			add_item(&items, kind, relid, name, name_len, record_has_keys(kind) ? key : NULL,
					 key_len);
		}
	}
	expect_returns(&items, servers, nservers);
}

void
fuzz_record(const uint8 *bytes, size_t len)
{
	Input		input = {bytes, len};

	if (input_byte(&input) % 4 == 3)
		try_own(&input);
	else
		try_hostile(&input);
}
