/*-------------------------------------------------------------------------
 *
 * change_set.h
 *	  The change set as a data structure; for changes.c alone.
 *
 * What a transaction has changed, collected until it ends.  Everything in it
 * lives in one memory context, which is reset then.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_CHANGE_SET_H
#define CACHEKIT_CHANGE_SET_H

#include "access/htup.h"
#include "access/xlogdefs.h"

#include "changes.h"
#include "record.h"

/* Under what name, and on which servers, an entity's documents are. */
typedef struct ChangedTarget
{
	char	   *name;			/* encoded */
	RecordKind	kind;			/* what is to become of its keys there */
	int			nservers;
	Oid		   *servers;
	struct ChangedTarget *next;
} ChangedTarget;

typedef struct ChangedEntity
{
	Oid			relid;
	ChangedTarget *targets;		/* the newest first; none without servers */
	int			keys;			/* keys in the set */
	int			rows;			/* rows in the set */
	bool		whole;			/* the entity as a whole */
	bool		settings;		/* its settings or definition, too */
	bool		forget;			/* its slot is to be freed */
	bool		overflowed;		/* whole because of too many keys: for good */
	SubTransactionId whole_since;	/* subtransaction that made it whole */
	struct ChangedEntity *next;
} ChangedEntity;

typedef struct ChangedKey
{
	ChangedEntity *entity;
	SubTransactionId subid;
	uint64		hash;			/* fence_hash(), where shared memory is there */
	uint16		len;
	char		text[FLEXIBLE_ARRAY_MEMBER];
} ChangedKey;

/* A changed row of a base that has a `via`; what it needs of the row. */
typedef struct ChangedRow
{
	ChangedEntity *entity;
	Oid			base;
	SubTransactionId subid;
	HeapTupleHeader row;		/* of the base's row type */
} ChangedRow;

typedef struct ChangeSet
{
	MemoryContext context;		/* of all below; reset at the end */
	ChangedEntity *entities;
	ChangedKey **key;			/* in order of arrival */
	int			nkeys;
	int			room;
	struct key_index_hash *index;		/* NULL while the set is small */
	ChangedRow *row;			/* in order of arrival */
	int			nrows;
	int			rows_room;
	Size		row_bytes;		/* of all rows */
	bool		database;		/* everything in the database */
	bool		forget_database;	/* the extension goes: free the database's slots */
	Oid			dropped_database;	/* by DROP DATABASE */
	bool		late;			/* lower when the locks are released */
	bool		raised;			/* PRE_COMMIT has passed */
	bool		committed;		/* waiting for the locks' release */
	bool		recorded;		/* a change record has been written */
	bool		servers;		/* servers may have changed: scan the database */
	bool		databases;		/* databases may have: scan all */
	XLogRecPtr	end;			/* of the commit, if there is a record */
	bool		prepared;		/* PRE_PREPARE has passed: nothing may be added */
} ChangeSet;

extern ChangeSet change_set;

extern bool change_set_is_empty(void);
extern void change_set_reset(void);
extern MemoryContext change_set_context(void);

/* The element of an entity: if there is one; made if there is none. */
extern ChangedEntity *change_set_find(Oid relid);
extern ChangedEntity *change_set_obtain(Oid relid);

extern void change_set_make_whole(ChangedEntity *entity);
extern void change_set_add_target(ChangedEntity *changed, const char *name, RecordKind kind,
								  const Oid *servers, int nservers);
extern ChangedKey *change_set_find_key(const ChangedKey *key);
extern void change_set_append(ChangedKey *key);
extern void change_set_append_row(ChangedEntity *entity, Oid base, HeapTupleHeader row);
extern void change_set_undo(SubTransactionId subid);

/*
 * change_record.c: write what senders have to know, nothing if no server is
 * concerned; and a record for a single change after PRE_COMMIT (key NULL: of
 * the whole entity).
 */
extern void change_record_write(void);
extern void change_record_late(ChangedEntity *entity, ChangedKey *key);
extern void change_record_late_database(void);

#endif							/* CACHEKIT_CHANGE_SET_H */
