/*-------------------------------------------------------------------------
 *
 * entity.h
 *	  An entity as a session knows it: settings, key columns, soundness.
 *
 * Built from the catalogs when first needed, and again after an invalidation
 * message of one of its relations or a change of its settings word in shared
 * memory.  Pointers stay good until the end of the transaction, even when the
 * entity has been built again meanwhile; `valid` says whether that is so.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_ENTITY_H
#define CACHEKIT_ENTITY_H

#include "executor/spi.h"
#include "nodes/bitmapset.h"
#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

#include "key.h"
#include "local.h"
#include "slots.h"

#define TTL_INFINITE	(-1)	/* never expires */
#define TTL_DEFAULT		(-2)	/* cachekit.default_ttl */

/*
 * How a row of a base relation maps to keys of the entity: by columns of its
 * own, or by a query.  A table has one source, itself.
 */
typedef struct EntitySource
{
	Oid			base;
	List	   *members;		/* OIDs: the base, and its partitions */
	KeyShape	shape;			/* the base's columns, in the key's order; none with `via` */
	Bitmapset  *columns;		/* of the base whose changes count, by attnum; NULL: all */
	struct Via *via;			/* query for the keys; NULL: by columns */
} EntitySource;

typedef struct Entity
{
	Oid			relid;			/* hash key (must be first) */
	bool		valid;			/* cleared by invalidation callbacks */
	MemoryContext context;		/* of all that belongs to it */
	char	   *name;
	KeyShape	shape;			/* its key columns */
	int64		ttl;			/* us, or TTL_* */
	int64		negative_ttl;	/* us; 0: absent rows are not cached */
	bool		local;			/* uses the local tier */
	char	   *encoded_name;	/* as in cache keys */
	int			nservers;		/* cache servers, the first usable one is read */
	Oid		   *servers;
	List	   *columns;		/* of char *: of the document; NIL: all */
	bool		is_view;
	bool		many;			/* a document is the array of all rows of a key */
	bool		refresh;		/* on_change: senders load changed keys anew */
	bool		refresh_absent; /* also those that are not cached */
	int			ttl_jitter;		/* percent; -1: cachekit.ttl_jitter */
	int			max_value_size; /* bytes; -1: cachekit.max_value_size */
	double		early_refresh;	/* beta of XFetch; 0: off */
	int			nsources;		/* base relations, and how their rows map to keys */
	EntitySource *sources;
	List	   *members;		/* OIDs of all relations that have its triggers */
	List	   *reads;			/* OIDs of all relations whose definition it depends on */
	char	   *untracked;		/* what it reads that nobody tells of; NULL: nothing, or allowed */
	Oid			owner;			/* loads run as this role */
	Oid			schema;
	uint32		schema_hash;	/* of its catalog cache entry */
	bool		partitioned;
	bool		passing;		/* it is not sound for a reason that may pass: look again */
	TimestampTz statement;		/* that it was built in; then, in the next one */
	bool		sound;			/* every change of it will be seen */
	char	   *problem;		/* why it is not */
	bool		row_security;	/* rows depend on who asks: load as the caller */
	bool		warned;			/* this session has been told */
	int			slot;			/* in shared memory, or NO_SLOT */
	uint64		settings_word;	/* of the slot, before the catalogs were read */
	SPIPlanPtr	plan;			/* load.c's; NULL until first used */
	SPIPlanPtr	set_plan;		/* the same, for many keys at once */
} Entity;

extern void entity_install_callbacks(void);
extern Entity *entity_find(Oid relid);
extern Entity *entity_get(Oid relid);
extern Entity *entity_by_name(const char *name);
extern uint64 entity_epoch(void);
extern uint64 entity_messages(void);

/* entity_build.c: a new copy, or NULL: not attached.  Not valid if messages came in. */
extern Entity *entity_build(Oid relid, int slot, uint64 settings_word);

extern void entity_end_transaction(bool committed);

extern bool entity_has_member(const Entity *entity, Oid relid);
extern bool entity_tier_key(const Entity *entity, const KeyText *text, TierKey *key);
extern void entity_check_select(const Entity *entity);
extern void entity_count(const Entity *entity, StatCounter which, uint64 n);

/* reach.c: the attached relations that a relation is part of, or of whose definition it is. */
extern List *entities_of_relation(Oid relid);

#endif							/* CACHEKIT_ENTITY_H */
