/*-------------------------------------------------------------------------
 *
 * record.c
 *	  Change records: what one transaction changed, as it stands in the WAL.
 *
 * See record.h for the format.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "lib/stringinfo.h"
#include "replication/message.h"

#include "key.h"
#include "record.h"

#define RECORD_VERSION	1
#define SECTION_MAX_BYTES	(RECORD_MAX_SERVERS * sizeof(Oid) + KEY_MAX_ENTITY_NAME + 16)	/* without keys */

static bool
has_relation(int kind)
{
	return kind == RECORD_REFRESH || kind == RECORD_REFRESH_ABSENT;
}

static void
start_message(RecordWriter *writer)
{
	resetStringInfo(writer->buf);
	appendBinaryStringInfo(writer->buf, "CK", 2);
	appendStringInfoChar(writer->buf, RECORD_VERSION);
	writer->keys_at = -1;
	writer->keys = 0;
}

void
record_begin(RecordWriter *writer)
{
	memset(writer, 0, sizeof(*writer));
	writer->buf = makeStringInfo();
	start_message(writer);
}

static void
close_section(RecordWriter *writer)
{
	if (writer->keys_at >= 0)
		memcpy(writer->buf->data + writer->keys_at, &writer->keys, sizeof(uint32));
	writer->keys_at = -1;
}

static void
write_message(RecordWriter *writer)
{
	close_section(writer);
	writer->written = compat_log_message(RECORD_PREFIX, writer->buf->data,
										 writer->buf->len, true);
	start_message(writer);
}

/*
 * Begin a section, in another record if this one gets too long.  The arrays
 * must last until the record has ended.
 */
void
record_section(RecordWriter *writer, RecordKind kind, const Oid *servers, int nservers,
			   Oid relid, const char *name)
{
	uint8		count = Min(nservers, RECORD_MAX_SERVERS);
	uint8		name_len = strlen(name);

	if (writer->buf->len + SECTION_MAX_BYTES > RECORD_MAX_BYTES)
		write_message(writer);
	close_section(writer);
	appendStringInfoChar(writer->buf, (char) kind);
	appendStringInfoChar(writer->buf, (char) count);
	appendBinaryStringInfo(writer->buf, (const char *) servers, count * sizeof(Oid));
	if (has_relation(kind))
		appendBinaryStringInfo(writer->buf, (const char *) &relid, sizeof(Oid));
	appendStringInfoChar(writer->buf, (char) name_len);
	appendBinaryStringInfo(writer->buf, name, name_len);
	if (record_has_keys(kind))
	{
		writer->kind = kind;
		writer->relid = relid;
		writer->keys = 0;
		writer->keys_at = writer->buf->len;
		appendBinaryStringInfo(writer->buf, (const char *) &writer->keys, sizeof(uint32));
		writer->servers = servers;
		writer->nservers = nservers;
		writer->name = name;
	}
}

/* Add a key to the open section; a record that gets too long is written. */
void
record_key(RecordWriter *writer, const char *text, int len)
{
	if (writer->buf->len + 1 + len > RECORD_MAX_BYTES)
	{
		write_message(writer);
		record_section(writer, writer->kind, writer->servers, writer->nservers, writer->relid,
					   writer->name);
	}
	appendStringInfoChar(writer->buf, (char) (uint8) len);
	appendBinaryStringInfo(writer->buf, text, len);
	writer->keys++;
}

/* Write what is left; returns the end of the last record, or 0: there was nothing. */
XLogRecPtr
record_end(RecordWriter *writer)
{
	if (writer->buf->len > 3)
		write_message(writer);
	return writer->written;
}

/* ---------- reading ---------- */

typedef struct Cursor
{
	const char *at;
	Size		left;
} Cursor;

static bool
take(Cursor *cursor, void *to, Size n)
{
	if (cursor->left < n)
		return false;
	memcpy(to, cursor->at, n);
	cursor->at += n;
	cursor->left -= n;
	return true;
}

static bool
take_bytes(Cursor *cursor, const char **bytes, Size n)
{
	if (cursor->left < n)
		return false;
	*bytes = cursor->at;
	cursor->at += n;
	cursor->left -= n;
	return true;
}

/* Only bytes that an encoded name or key text has: nothing that a protocol or a pattern knows. */
static bool
is_clean(const char *bytes, int len)
{
	for (int i = 0; i < len; i++)
	{
		char		c = bytes[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
			  c == '.' || c == '_' || c == '-' || c == '%' || c == ':' || c == '#'))
			return false;
	}
	return true;
}

static bool
parse_keys(Cursor *cursor, RecordItem *item, bool wanted, RecordVisitor visit, void *arg)
{
	uint32		keys;

	if (!take(cursor, &keys, sizeof(keys)))
		return false;
	for (uint32 i = 0; i < keys; i++)
	{
		uint8		len;

		if (!take(cursor, &len, 1) || !take_bytes(cursor, &item->key, len) ||
			item->name_len + 1 + len > KEY_MAX_NAMED || !is_clean(item->key, len))
			return false;
		item->key_len = len;
		if (wanted && !visit(item, arg))
			return false;
	}
	return true;
}

bool
record_parse(const char *bytes, Size len, Oid server, RecordVisitor visit, void *arg)
{
	Cursor		cursor = {bytes, len};
	char		head[3];

	if (!take(&cursor, head, sizeof(head)) || head[0] != 'C' || head[1] != 'K' ||
		head[2] != RECORD_VERSION)
		return false;
	while (cursor.left > 0)
	{
		RecordItem	item = {0};
		uint8		kind;
		uint8		servers;
		uint8		name_len;
		bool		wanted = false;

		if (!take(&cursor, &kind, 1) || !take(&cursor, &servers, 1))
			return false;
		for (int i = 0; i < servers; i++)
		{
			Oid			oid;

			if (!take(&cursor, &oid, sizeof(oid)))
				return false;
			wanted |= (oid == server);
		}
		if (has_relation(kind) && !take(&cursor, &item.relid, sizeof(Oid)))
			return false;
		if (!take(&cursor, &name_len, 1) || name_len > KEY_MAX_ENTITY_NAME ||
			!take_bytes(&cursor, &item.name, name_len) || !is_clean(item.name, name_len))
			return false;
		/* the name of our own keys: no entity has it */
		if (name_len == strlen(RECORD_PREFIX) && memcmp(item.name, RECORD_PREFIX, name_len) == 0)
			return false;
		item.name_len = name_len;
		item.kind = kind;
		switch (kind)
		{
			case RECORD_KEYS:
			case RECORD_REFRESH:
			case RECORD_REFRESH_ABSENT:
				if (name_len == 0 || !parse_keys(&cursor, &item, wanted, visit, arg))
					return false;
				break;
			case RECORD_ENTITY:
				if (name_len == 0 || (wanted && !visit(&item, arg)))
					return false;
				break;
			case RECORD_DATABASE:
				if (!visit(&item, arg))
					return false;
				break;
			default:
				return false;
		}
	}
	return true;
}
