/*-------------------------------------------------------------------------
 *
 * key.h
 *	  Keys: from a value to the one text that names it everywhere.
 *
 * Two key values that are equal must have one text, in every session, or the
 * same row would be cached twice and invalidated once.  So key types are a
 * list (key_kind()), and one renderer serves triggers and fetch alike,
 * independent of any setting.
 *
 * There are two texts.  The *canonical text* is what users see: 42, a
 * timestamptz in UTC, a row literal (7,2) for a key of several columns.  The
 * *key text* (KeyText) is the part of the cache key after the entity's name:
 * the canonical text of each column with every byte outside [A-Za-z0-9._-]
 * percent-encoded, joined by ':', and replaced by '#' and the first 32 hex
 * digits of its SHA-256 where <entity>:<key> would exceed 189 bytes.  The key
 * text is also a key's identity in change sets and in the local tier.
 *
 * Values given by a user are cast to the key columns' types, field by field;
 * what cannot be cast is an error whose context names the column.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_KEY_H
#define CACHEKIT_KEY_H

#include "access/attnum.h"
#include "fmgr.h"
#include "lib/stringinfo.h"

#define KEY_MAX_COLUMNS			INDEX_MAX_KEYS
#define KEY_MAX_NAMED			189 /* bytes of <entity>:<key> */
#define KEY_MAX_ENTITY_NAME		120 /* bytes of an encoded entity name */
#define KEY_MAX_NAMESPACE		60	/* bytes of an encoded namespace */

typedef enum KeyKind
{
	KEY_UNSUPPORTED,
	KEY_BOOL, KEY_INT2, KEY_INT4, KEY_INT8, KEY_OID,
	KEY_TEXT,					/* text and varchar */
	KEY_BPCHAR, KEY_NAME, KEY_UUID,
	KEY_DATE, KEY_TIME, KEY_TIMESTAMP, KEY_TIMESTAMPTZ,
	KEY_NUMERIC, KEY_BYTEA, KEY_INET, KEY_CIDR, KEY_MACADDR, KEY_ENUM
} KeyKind;

/* How a value of another type becomes one of the key column's. */
typedef enum KeyCast
{
	KEY_CAST_NONE,				/* it is one already */
	KEY_CAST_FUNCTION,			/* by a cast function */
	KEY_CAST_TEXT,				/* through its text form */
	KEY_CAST_NUMBER				/* a number with a fraction, to an integer */
} KeyCast;

typedef struct KeyColumn
{
	NameData	name;
	AttrNumber	attnum;			/* in the entity's relation */
	Oid			type;			/* of the column, domains resolved */
	KeyKind		kind;
	FmgrInfo	input;			/* the type's input function */
	Oid			ioparam;
	Oid			cast_from;		/* type that `how` is for; InvalidOid: none yet */
	KeyCast		how;
	FmgrInfo	cast;			/* cast or output function of cast_from */
} KeyColumn;

/* A key: identity, and, for loads, the values of the columns. */
typedef struct KeyText
{
	int			len;
	char		text[KEY_MAX_NAMED + 1];	/* terminated */
} KeyText;

/* What a set of key columns belongs to, for errors and for lengths. */
typedef struct KeyShape
{
	const char *entity;			/* the entity's name */
	int			encoded_len;	/* of its name when encoded */
	int			n;				/* number of columns */
	KeyColumn  *column;
	int32		row_typmod;		/* of the anonymous row type of the columns */
} KeyShape;

extern KeyKind key_kind(Oid type, Oid collation);
extern bool key_kinds_match(KeyKind a, Oid type_a, KeyKind b, Oid type_b);
extern const char *key_accepted_types(void);

extern char *key_percent_encode(const char *bytes, Size len);
extern void key_text(const KeyShape *shape, const Datum *values, KeyText *out);
extern char *key_canonical(const KeyShape *shape, const Datum *values);

extern bool key_from_datum(const KeyShape *shape, Oid type, Datum value,
						   MemoryContext long_lived, Datum *values);
extern bool key_from_text(const KeyShape *shape, const char *text, Datum *values);

/*
 * From a key text back to values; false if it is a digest, or of no key of this
 * shape.  Called with pinned settings (pin.h); what no value has may be an error.
 */
extern bool key_from_key_text(const KeyShape *shape, const char *text, int len, Datum *values);

#endif							/* CACHEKIT_KEY_H */
