/*-------------------------------------------------------------------------
 *
 * record.h
 *	  Change records: what one transaction changed, as it stands in the WAL.
 *
 * A record is a logical message with the prefix "cachekit".  It contains the
 * final text of each cache key after the namespace, so that it can be carried
 * out when the entity has been renamed, detached or dropped meanwhile, and the
 * servers that it is for, as OIDs.
 *
 *	  "CK" version:u8
 *	  { kind:u8 servers:u8 oid:u32… [relation:u32] name:u8 bytes…
 *		[keys:u32 { len:u8 bytes… }…] }…
 *
 * Numbers are in the machine's byte order, as the WAL is.  kind is one of
 * RecordKind; keys follow where it is about keys, and the relation's OID stands
 * only where they are to be loaded again.  Names are percent-encoded, keys are
 * key texts (key.h).  Anybody may write a message with our prefix, so a
 * record is parsed as hostile: what is wrong ends the parse, and the worst that
 * a well-formed one can do is to delete what it names, or to have it loaded as
 * what the catalog says it is.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_RECORD_H
#define CACHEKIT_RECORD_H

#include "access/xlogdefs.h"

#define RECORD_PREFIX		"cachekit"
#ifndef RECORD_MAX_BYTES		/* fuzzing makes do with less */
#define RECORD_MAX_BYTES	(1024 * 1024)	/* then another record is begun */
#endif
#define RECORD_MAX_SERVERS	255

typedef enum RecordKind
{
	RECORD_KEYS = 1,			/* keys of an entity */
	RECORD_ENTITY = 2,			/* the whole entity */
	RECORD_DATABASE = 3,		/* every entity of the database */
	RECORD_REFRESH = 4,			/* keys to be loaded again where they are cached, */
	RECORD_REFRESH_ABSENT = 5	/* or wherever they are */
} RecordKind;

/* Is it a list of keys? */
#define record_has_keys(kind) \
	((kind) == RECORD_KEYS || (kind) == RECORD_REFRESH || (kind) == RECORD_REFRESH_ABSENT)

/* ---------- writing; a RecordWriter is used within one call stack ---------- */

typedef struct RecordWriter
{
	struct StringInfoData *buf;
	int			keys_at;		/* offset of the open section's key count */
	uint32		keys;			/* keys in the open section */
	/* the open section, to go on with it in another record */
	RecordKind	kind;
	Oid			relid;
	const Oid  *servers;
	int			nservers;
	const char *name;
	XLogRecPtr	written;		/* end of the last record; 0: none yet */
} RecordWriter;

extern void record_begin(RecordWriter *writer);
/* The relation is written for those kinds only that have it. */
extern void record_section(RecordWriter *writer, RecordKind kind, const Oid *servers,
						   int nservers, Oid relid, const char *name);
extern void record_key(RecordWriter *writer, const char *text, int len);
extern XLogRecPtr record_end(RecordWriter *writer);

/* ---------- reading ---------- */

typedef struct RecordItem
{
	RecordKind	kind;
	const char *name;			/* encoded name of the entity */
	int			name_len;
	Oid			relid;			/* for RECORD_REFRESH and RECORD_REFRESH_ABSENT */
	const char *key;			/* key text, for lists of keys */
	int			key_len;
} RecordItem;

/* Called for each item that is for the server; false ends the parse. */
typedef bool (*RecordVisitor) (const RecordItem *item, void *arg);

/* Returns false when the bytes are not a well-formed record. */
extern bool record_parse(const char *bytes, Size len, Oid server,
						 RecordVisitor visit, void *arg);

#endif							/* CACHEKIT_RECORD_H */
