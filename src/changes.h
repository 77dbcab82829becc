/*-------------------------------------------------------------------------
 *
 * changes.h
 *	  The change set: what the current transaction has changed.
 *
 * Triggers, DDL hooks and invalidate()/flush() add to it; the transaction's
 * end turns it into raised and lowered fences and removals from the local
 * tier.  The steps, and what may fail in them:
 *
 *	  collecting	may fail, and takes the statement with it
 *	  PRE_COMMIT	raises the fences; the last step that may fail
 *	  COMMIT		the commit is visible: removes the keys, lowers; cannot fail
 *	  ABORT			lowers what was raised, without counting a generation
 *
 * A change that is added after PRE_COMMIT (another extension's callback wrote
 * something) is raised at once.  A transaction with DDL lowers not in COMMIT
 * but when its locks are released, because its invalidation messages are sent
 * in between.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_CHANGES_H
#define CACHEKIT_CHANGES_H

#include "entity.h"

extern void changes_install_callbacks(void);

/* Add a key of an entity. */
extern void changes_add_key(Entity *entity, const KeyText *key);

/*
 * Add a row of a base that has a `via`: the keys are looked for at the end.
 * The row is of the base's row type.
 */
extern void changes_add_row(Entity *entity, Oid base, HeapTupleHeader row);

/*
 * Add a whole entity.  `settings`: its settings or definition, too, by DDL or
 * attach(); then the fences are lowered late.
 */
extern void changes_add_entity(Oid relid, bool settings);

/* Add everything in the database: DDL whose reach is not known. */
extern void changes_add_database(void);

/* Cache servers, or their options, have changed. */
extern void changes_add_servers(void);

/* Databases come, go, or are changed: their cache servers do, too. */
extern void changes_add_databases(void);

/* The entity is no more: give up its slot once this transaction commits. */
extern void changes_forget_entity(Oid relid);

/* The extension is dropped: nothing of this database is cached any more. */
extern void changes_forget_database(void);

/* Another database is dropped; one with its OID may come again. */
extern void changes_drop_database(Oid dboid);

/* Has this transaction changed this key? */
extern bool changes_include(Oid relid, uint64 hash, const KeyText *key);

/* Is the whole entity in the set already, so that its keys need not be? */
extern bool changes_include_entity(Oid relid);

#endif							/* CACHEKIT_CHANGES_H */
