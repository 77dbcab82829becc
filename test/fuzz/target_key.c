/*
 * target_key.c
 *		Keys: equal values have one text, others have another, whatever the
 *		session's settings; and from a key text comes the value again.
 */
#include "fuzz.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/bytea.h"
#include "utils/float.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "key.h"

#define COLUMNS		3

static const struct
{
	Oid			type;
	Oid			input;
	PGFunction	equal;
}			types[] =
{
	{BOOLOID, F_BOOLIN, booleq},
	{INT2OID, F_INT2IN, int2eq},
	{INT4OID, F_INT4IN, int4eq},
	{INT8OID, F_INT8IN, int8eq},
	{OIDOID, F_OIDIN, oideq},
	{TEXTOID, F_TEXTIN, texteq},
	{VARCHAROID, F_VARCHARIN, texteq},
	{BPCHAROID, F_BPCHARIN, bpchareq},
	{NAMEOID, F_NAMEIN, nameeq},
	{UUIDOID, F_UUID_IN, uuid_eq},
	{DATEOID, F_DATE_IN, date_eq},
	{TIMEOID, F_TIME_IN, time_eq},
	{TIMESTAMPOID, F_TIMESTAMP_IN, timestamp_eq},
	{TIMESTAMPTZOID, F_TIMESTAMPTZ_IN, timestamp_eq},
	{NUMERICOID, F_NUMERIC_IN, numeric_eq},
	{BYTEAOID, F_BYTEAIN, byteaeq},
	{INETOID, F_INET_IN, network_eq},
	{CIDROID, F_CIDR_IN, network_eq},
	{MACADDROID, F_MACADDR_IN, macaddr_eq}
};

typedef struct Key
{
	KeyShape	shape;
	KeyColumn	column[COLUMNS];
	int			which[COLUMNS]; /* in types */
	char	   *text[COLUMNS];
	Datum		value[COLUMNS];
	bool		accepted;
} Key;

/* ---------- settings of a session ---------- */

static void
choose_settings(uint8 number)
{
	static const char *const zones[] = {"GMT", "Asia/Kathmandu", "America/St_Johns"};
	static pg_tz *zone[lengthof(zones)];
	int			which = number % lengthof(zones);

	if (zone[which] == NULL)
		zone[which] = pg_tzset(zones[which]);
	expect(zone[which] != NULL, "there is no zone %s", zones[which]);
	session_timezone = zone[which];
	DateStyle = (number >> 2) % 4;
	DateOrder = (number >> 4) % 3;
	bytea_output = number & 64 ? BYTEA_OUTPUT_ESCAPE : BYTEA_OUTPUT_HEX;
	extra_float_digits = number & 128 ? -15 : 3;
}

/* Those of loads: pin.c. */
static void
pin_settings(void)
{
	choose_settings(USE_ISO_DATES << 2);
	DateOrder = DATEORDER_YMD;
}

/* ---------- from texts to values ---------- */

static void
read_one(Key *key, int i)
{
	KeyShape	single = {key->shape.entity, key->shape.encoded_len, 1, &key->column[i], -1};

	(void) key_from_text(&single, key->text[i], &key->value[i]);
}

static void
read_values(void *arg)
{
	Key		   *key = arg;

	for (int i = 0; i < key->shape.n; i++)
		read_one(key, i);
	key->accepted = true;
}

static void
make_key(Key *key, int n, const int *which, int encoded_len)
{
	memset(key, 0, sizeof(*key));
	key->shape = (KeyShape) {"entity", encoded_len, n, key->column, -1};
	for (int i = 0; i < n; i++)
	{
		KeyColumn  *column = &key->column[i];

		key->which[i] = which[i];
		snprintf(NameStr(column->name), NAMEDATALEN, "column%d", i);
		column->attnum = i + 1;
		column->type = types[which[i]].type;
		column->kind = key_kind(column->type, InvalidOid);
		expect(column->kind != KEY_UNSUPPORTED, "type %u", column->type);
		fmgr_info(types[which[i]].input, &column->input);
		column->ioparam = column->type;
	}
}

/* A client's text has been verified before a function sees it. */
static bool
is_sent_by_clients(const Key *key)
{
	for (int i = 0; i < key->shape.n; i++)
	{
		if (!pg_verify_mbstr(GetDatabaseEncoding(), key->text[i], strlen(key->text[i]), true))
			return false;
	}
	return true;
}

static bool
are_equal(const Key *a, const Key *b)
{
	for (int i = 0; i < a->shape.n; i++)
	{
		if (!DatumGetBool(DirectFunctionCall2Coll(types[a->which[i]].equal, C_COLLATION_OID,
												  a->value[i], b->value[i])))
			return false;
	}
	return true;
}

/* ---------- checks ---------- */

static void
expect_clean(const KeyShape *shape, const KeyText *text)
{
	expect(text->len == (int) strlen(text->text), "%d bytes of \"%s\"", text->len, text->text);
	expect(shape->encoded_len + 1 + text->len <= KEY_MAX_NAMED, "%d bytes", text->len);
	expect(strspn(text->text,
				  "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-%:#") ==
		   strlen(text->text), "\"%s\"", text->text);
}

typedef struct Decoded
{
	Key		   *key;
	const KeyText *text;
	Datum		value[COLUMNS];
	bool		found;
} Decoded;

static void
decode(void *arg)
{
	Decoded    *decoded = arg;
	char	   *exact = palloc(decoded->text->len);

	memcpy(exact, decoded->text->text, decoded->text->len);
	decoded->found = key_from_key_text(&decoded->key->shape, exact, decoded->text->len,
									   decoded->value);
}

/* The key text names this value, and the value can be had from it again. */
static void
expect_returns(Key *key, const KeyText *text)
{
	Decoded		decoded = {key, text};
	Key			back = *key;

	expect(fuzz_try(decode, &decoded), "an error from \"%s\"", text->text);
	expect(decoded.found == (text->text[0] != '#'), "\"%s\"", text->text);
	if (!decoded.found)
		return;
	memcpy(back.value, decoded.value, sizeof(back.value));
	expect(are_equal(key, &back), "\"%s\" is another", text->text);
}

/* What users see can be given as a key again. */
static void
expect_canonical(Key *key)
{
	Key			back = *key;

	if (key->shape.n != 1)
		return;					/* record_in() needs a catalog */
	back.text[0] = key_canonical(&key->shape, key->value);
	back.accepted = false;
	expect(fuzz_try(read_values, &back) && back.accepted, "\"%s\" is no key", back.text[0]);
	expect(are_equal(key, &back), "\"%s\" is another key", back.text[0]);
}

static void
try_values(Input *input)
{
	uint8		mode = input_byte(input);
	uint8		settings = input_byte(input);
	uint8		others = input_byte(input);
	int			n = 1 + mode % COLUMNS;
	int			encoded_len = 1 + input_byte(input) % KEY_MAX_ENTITY_NAME;
	int			which[COLUMNS];
	Key			a;
	Key			b;
	KeyText		text_a;
	KeyText		text_b;
	KeyText		again;
	char	   *canonical;

	for (int i = 0; i < n; i++)
		which[i] = input_byte(input) % lengthof(types);
	make_key(&a, n, which, encoded_len);
	make_key(&b, n, which, encoded_len);
	for (int i = 0; i < n; i++)
	{
		a.text[i] = input_text(input);
		b.text[i] = input_text(input);
	}
	SetDatabaseEncoding(mode & 128 ? PG_SQL_ASCII : PG_UTF8);
	choose_settings(settings);
	if (!is_sent_by_clients(&a) || !fuzz_try(read_values, &a))
		return;
	key_text(&a.shape, a.value, &text_a);
	canonical = key_canonical(&a.shape, a.value);
	expect_clean(&a.shape, &text_a);

	choose_settings(others);
	key_text(&a.shape, a.value, &again);
	expect(strcmp(text_a.text, again.text) == 0, "\"%s\" and, with other settings, \"%s\"",
		   text_a.text, again.text);
	expect(strcmp(canonical, key_canonical(&a.shape, a.value)) == 0, "\"%s\"", canonical);
	pin_settings();
	expect_returns(&a, &text_a);
	expect_canonical(&a);

	choose_settings(others);
	if (!is_sent_by_clients(&b) || !fuzz_try(read_values, &b))
		return;
	key_text(&b.shape, b.value, &text_b);
	expect((strcmp(text_a.text, text_b.text) == 0) == are_equal(&a, &b), "\"%s\" and \"%s\"",
		   text_a.text, text_b.text);
}

/* A key text that a record brings, of whatever shape. */
static void
try_hostile(Input *input)
{
	int			n = 1 + input_byte(input) % COLUMNS;
	int			which[COLUMNS];
	Key			key;
	KeyText		text;
	Decoded		decoded = {&key, &text};

	for (int i = 0; i < n; i++)
		which[i] = input_byte(input) % lengthof(types);
	make_key(&key, n, which, 1);
	SetDatabaseEncoding(input_byte(input) & 1 ? PG_SQL_ASCII : PG_UTF8);
	strlcpy(text.text, input_text(input), sizeof(text.text));
	text.len = strlen(text.text);
	pin_settings();
	if (fuzz_try(decode, &decoded) && decoded.found)
	{
		KeyText		again;

		key_text(&key.shape, decoded.value, &again);
		expect(strcmp(again.text, text.text) == 0, "\"%s\" was taken for \"%s\"", text.text,
			   again.text);
	}
}

/* Names: the encoding can be undone, so no two have one. */
static void
try_name(Input *input)
{
	char	   *name = input_text(input);
	size_t		len = strlen(name);
	char	   *encoded = key_percent_encode(name, len);
	size_t		n = 0;

	for (const char *at = encoded; *at; at++)
	{
		unsigned	byte = (unsigned char) *at;

		if (byte == '%')
		{
			expect(sscanf(at, "%%%2X", &byte) == 1, "\"%s\"", encoded);
			at += 2;
		}
		else
			expect(isalnum(byte) || strchr("._-", byte), "\"%s\"", encoded);
		expect(n < len && byte == (unsigned char) name[n], "byte %zu of \"%s\"", n, encoded);
		n++;
	}
	expect(n == len, "\"%s\" is of %zu bytes, not %zu", encoded, n, len);
}

void
fuzz_key(const uint8 *bytes, size_t len)
{
	Input		input = {bytes, len};
	uint8		what = input_byte(&input) % 8;

	if (what == 7)
		try_name(&input);
	else if (what == 6)
		try_hostile(&input);
	else
		try_values(&input);
	pin_settings();
	SetDatabaseEncoding(PG_UTF8);
}
