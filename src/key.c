/*-------------------------------------------------------------------------
 *
 * key.c
 *	  Keys: from a value to the one text that names it everywhere.
 *
 * Rendering must not depend on settings, so dates and times are encoded in
 * ISO style by hand instead of by the types' output functions.  It must not
 * fail either where a trigger calls it: a text that has no UTF-8 form is
 * rendered in its own bytes, by triggers and by fetch alike.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "catalog/pg_conversion.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/inet.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/pg_locale.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "key.h"

#define KEY_DIGEST_DIGITS	32	/* hex digits of a long key's SHA-256 */

/*
 * The kind of a key column's type, with domains resolved by the caller.  The
 * collation is that of the column; only one whose equality is identity of
 * bytes will do.
 */
KeyKind
key_kind(Oid type, Oid collation)
{
	switch (type)
	{
		case BOOLOID:
			return KEY_BOOL;
		case INT2OID:
			return KEY_INT2;
		case INT4OID:
			return KEY_INT4;
		case INT8OID:
			return KEY_INT8;
		case OIDOID:
			return KEY_OID;
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
			if (OidIsValid(collation) && !get_collation_isdeterministic(collation))
				return KEY_UNSUPPORTED;
			return type == BPCHAROID ? KEY_BPCHAR : KEY_TEXT;
		case NAMEOID:
			return KEY_NAME;
		case UUIDOID:
			return KEY_UUID;
		case DATEOID:
			return KEY_DATE;
		case TIMEOID:
			return KEY_TIME;
		case TIMESTAMPOID:
			return KEY_TIMESTAMP;
		case TIMESTAMPTZOID:
			return KEY_TIMESTAMPTZ;
		case NUMERICOID:
			return KEY_NUMERIC;
		case BYTEAOID:
			return KEY_BYTEA;
		case INETOID:
			return KEY_INET;
		case CIDROID:
			return KEY_CIDR;
		case MACADDROID:
			return KEY_MACADDR;
		default:
			return get_typtype(type) == TYPTYPE_ENUM ? KEY_ENUM : KEY_UNSUPPORTED;
	}
}

/*
 * Do equal values of two kinds have the same text, so that a value of one can
 * be a key of the other?  The types, which only enums need, may be domains.
 */
bool
key_kinds_match(KeyKind a, Oid type_a, KeyKind b, Oid type_b)
{
	switch (a)
	{
		case KEY_UNSUPPORTED:
			return false;
		case KEY_INT2:
		case KEY_INT4:
		case KEY_INT8:
			return b == KEY_INT2 || b == KEY_INT4 || b == KEY_INT8;
		case KEY_TEXT:
		case KEY_NAME:
			return b == KEY_TEXT || b == KEY_NAME;
		case KEY_ENUM:
			return b == KEY_ENUM && getBaseType(type_a) == getBaseType(type_b);
		default:
			return a == b;
	}
}

/* For hints. */
const char *
key_accepted_types(void)
{
	return "boolean, smallint, integer, bigint, oid, text, varchar, char, name, uuid, "
		"date, time, timestamp, timestamptz, numeric, bytea, inet, cidr, macaddr, enums, "
		"and domains over these; text types with a deterministic collation";
}

/*
 * Append text in UTF-8.  Where it has no UTF-8 form, it is appended as it is
 * behind a zero byte, which no text contains: else it could be the UTF-8 form
 * of another.  The server's own conversion is used, whatever search_path says.
 */
static void
append_utf8(StringInfo buf, const char *s, int len)
{
	int			encoding = GetDatabaseEncoding();
	Oid			proc;
	int			done;

	if (encoding == PG_UTF8 || encoding == PG_SQL_ASCII)
	{
		appendBinaryStringInfo(buf, s, len);
		return;
	}
	for (done = 0; done < len && !IS_HIGHBIT_SET(s[done]); done++)
		;
	if (done < len &&
		OidIsValid(proc = FindDefaultConversion(PG_CATALOG_NAMESPACE, encoding, PG_UTF8)))
	{
		Size		room = (Size) len * MAX_CONVERSION_GROWTH + 1;
		unsigned char *utf8 = palloc(room);

		done = pg_do_encoding_conversion_buf(proc, encoding, PG_UTF8,
											 unconstify(unsigned char *, (const unsigned char *) s),
											 len, utf8, (int) Min(room, INT_MAX), true);
		if (done == len)
		{
			appendStringInfoString(buf, (char *) utf8);
			pfree(utf8);
			return;
		}
		pfree(utf8);
		appendStringInfoChar(buf, '\0');
	}
	appendBinaryStringInfo(buf, s, len);
}

static void
append_timestamp(StringInfo buf, Timestamp value, bool with_zone)
{
	struct pg_tm tm;
	fsec_t		fsec;
	char		text[MAXDATELEN + 1];

	if (TIMESTAMP_NOT_FINITE(value))
		EncodeSpecialTimestamp(value, text);
	else if (timestamp2tm(value, NULL, &tm, &fsec, NULL, NULL) == 0)
	{
		tm.tm_isdst = 0;		/* unknown, the zone would not be printed */
		EncodeDateTime(&tm, fsec, with_zone, 0, NULL, USE_ISO_DATES, text);
	}
	else
		snprintf(text, sizeof(text), INT64_FORMAT, (int64) value);
	appendStringInfoString(buf, text);
}

static void
append_date(StringInfo buf, DateADT value)
{
	struct pg_tm tm;
	char		text[MAXDATELEN + 1];

	if (DATE_NOT_FINITE(value))
		EncodeSpecialDate(value, text);
	else
	{
		j2date(value + POSTGRES_EPOCH_JDATE, &tm.tm_year, &tm.tm_mon, &tm.tm_mday);
		EncodeDateOnly(&tm, USE_ISO_DATES, text);
	}
	appendStringInfoString(buf, text);
}

static void
append_time(StringInfo buf, TimeADT value)
{
	struct pg_tm tm;
	fsec_t		fsec;
	char		text[MAXDATELEN + 1];

	time2tm(value, &tm, &fsec);
	EncodeTimeOnly(&tm, fsec, false, 0, USE_ISO_DATES, text);
	appendStringInfoString(buf, text);
}

static void
append_bytea(StringInfo buf, const bytea *value)
{
	Size		len = VARSIZE_ANY_EXHDR(value);

	appendStringInfoString(buf, "\\x");
	enlargeStringInfo(buf, len * 2);
	buf->len += hex_encode(VARDATA_ANY(value), len, buf->data + buf->len);
	buf->data[buf->len] = '\0';
}

/* In UTF-8 for cache keys, in the database's encoding for SQL. */
typedef enum TextForm
{
	FORM_CACHE, FORM_SQL
} TextForm;

static void
append_text(StringInfo buf, const char *s, int len, TextForm form)
{
	if (form == FORM_CACHE)
		append_utf8(buf, s, len);
	else
		appendBinaryStringInfo(buf, s, len);
}

/* Append the canonical text of one column's value. */
static void
append_value(StringInfo buf, KeyKind kind, Datum value, TextForm form)
{
	switch (kind)
	{
		case KEY_BOOL:
			appendStringInfoChar(buf, DatumGetBool(value) ? 't' : 'f');
			break;
		case KEY_INT2:
			appendStringInfo(buf, "%d", DatumGetInt16(value));
			break;
		case KEY_INT4:
			appendStringInfo(buf, "%d", DatumGetInt32(value));
			break;
		case KEY_INT8:
			appendStringInfo(buf, INT64_FORMAT, DatumGetInt64(value));
			break;
		case KEY_OID:
			appendStringInfo(buf, "%u", DatumGetObjectId(value));
			break;
		case KEY_TEXT:
		case KEY_BPCHAR:
			{
				text	   *t = DatumGetTextPP(value);
				int			len = VARSIZE_ANY_EXHDR(t);

				if (kind == KEY_BPCHAR)
					len = bpchartruelen(VARDATA_ANY(t), len);
				append_text(buf, VARDATA_ANY(t), len, form);
				break;
			}
		case KEY_NAME:
			append_text(buf, NameStr(*DatumGetName(value)),
						strlen(NameStr(*DatumGetName(value))), form);
			break;
		case KEY_UUID:
			appendStringInfoString(buf, DatumGetCString(DirectFunctionCall1(uuid_out, value)));
			break;
		case KEY_DATE:
			append_date(buf, DatumGetDateADT(value));
			break;
		case KEY_TIME:
			append_time(buf, DatumGetTimeADT(value));
			break;
		case KEY_TIMESTAMP:
			append_timestamp(buf, DatumGetTimestamp(value), false);
			break;
		case KEY_TIMESTAMPTZ:
			append_timestamp(buf, DatumGetTimestampTz(value), true);
			break;
		case KEY_NUMERIC:
			appendStringInfoString(buf, numeric_normalize(DatumGetNumeric(value)));
			break;
		case KEY_BYTEA:
			append_bytea(buf, DatumGetByteaPP(value));
			break;
		case KEY_INET:
			appendStringInfoString(buf, DatumGetCString(DirectFunctionCall1(inet_out, value)));
			break;
		case KEY_CIDR:
			appendStringInfoString(buf, DatumGetCString(DirectFunctionCall1(cidr_out, value)));
			break;
		case KEY_MACADDR:
			appendStringInfoString(buf, DatumGetCString(DirectFunctionCall1(macaddr_out, value)));
			break;
		case KEY_ENUM:
			{
				char	   *label = DatumGetCString(DirectFunctionCall1(enum_out, value));

				append_text(buf, label, strlen(label), form);
				break;
			}
		case KEY_UNSUPPORTED:
			elog(ERROR, "cachekit key of an unsupported type");
	}
}

/* Append bytes with every byte outside [A-Za-z0-9._-] as %XX. */
static void
append_encoded(StringInfo buf, const char *bytes, Size len)
{
	static const char hex[] = "0123456789ABCDEF";

	for (Size i = 0; i < len; i++)
	{
		unsigned char c = (unsigned char) bytes[i];

		if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
			c == '.' || c == '_' || c == '-')
			appendStringInfoChar(buf, (char) c);
		else
		{
			appendStringInfoChar(buf, '%');
			appendStringInfoChar(buf, hex[c >> 4]);
			appendStringInfoChar(buf, hex[c & 15]);
		}
	}
}

/* A name in the form it has within cache keys, palloc'd. */
char *
key_percent_encode(const char *bytes, Size len)
{
	StringInfoData utf8;
	StringInfoData buf;

	initStringInfo(&utf8);
	initStringInfo(&buf);
	append_utf8(&utf8, bytes, len);
	append_encoded(&buf, utf8.data, utf8.len);
	pfree(utf8.data);
	return buf.data;
}

/* '#' and the first hex digits of the SHA-256 of a long key. */
static void
digest_key(const char *encoded, int len, KeyText *out)
{
	bytea	   *digest = DatumGetByteaPP(DirectFunctionCall1(sha256_bytea,
															 PointerGetDatum(cstring_to_text_with_len(encoded, len))));

	out->text[0] = '#';
	hex_encode(VARDATA_ANY(digest), KEY_DIGEST_DIGITS / 2, out->text + 1);
	out->len = 1 + KEY_DIGEST_DIGITS;
	out->text[out->len] = '\0';
}

/*
 * The key text of non-NULL values.  Short-lived allocations are made in the
 * current memory context.
 */
void
key_text(const KeyShape *shape, const Datum *values, KeyText *out)
{
	StringInfoData encoded;
	StringInfoData part;

	/* integers, by far the most frequent keys, need no encoding */
	if (shape->n == 1 &&
		(shape->column[0].kind == KEY_INT4 || shape->column[0].kind == KEY_INT8))
	{
		out->len = pg_lltoa(shape->column[0].kind == KEY_INT4 ?
							(int64) DatumGetInt32(values[0]) : DatumGetInt64(values[0]),
							out->text);
		return;
	}

	initStringInfo(&encoded);
	initStringInfo(&part);
	for (int i = 0; i < shape->n; i++)
	{
		resetStringInfo(&part);
		append_value(&part, shape->column[i].kind, values[i], FORM_CACHE);
		if (i > 0)
			appendStringInfoChar(&encoded, ':');
		append_encoded(&encoded, part.data, part.len);
	}
	if (shape->encoded_len + 1 + encoded.len > KEY_MAX_NAMED)
		digest_key(encoded.data, encoded.len, out);
	else
	{
		memcpy(out->text, encoded.data, encoded.len + 1);
		out->len = encoded.len;
	}
	pfree(encoded.data);
	pfree(part.data);
}

/* The text that users see: of one column as it is, of several as a row literal. */
char *
key_canonical(const KeyShape *shape, const Datum *values)
{
	StringInfoData buf;

	initStringInfo(&buf);
	if (shape->n == 1)
	{
		append_value(&buf, shape->column[0].kind, values[0], FORM_SQL);
		return buf.data;
	}
	for (int i = 0; i < shape->n; i++)
	{
		StringInfoData part;
		bool		quote;

		initStringInfo(&part);
		append_value(&part, shape->column[i].kind, values[i], FORM_SQL);
		appendStringInfoChar(&buf, i == 0 ? '(' : ',');
		/* quoted as record_out() quotes */
		quote = part.len == 0 || strpbrk(part.data, "\"\\(), \t\n\r\v\f") != NULL;
		if (quote)
			appendStringInfoChar(&buf, '"');
		for (const char *p = part.data; *p; p++)
		{
			if (*p == '"' || *p == '\\')
				appendStringInfoChar(&buf, *p);
			appendStringInfoChar(&buf, *p);
		}
		if (quote)
			appendStringInfoChar(&buf, '"');
		pfree(part.data);
	}
	appendStringInfoChar(&buf, ')');
	return buf.data;
}
