/*-------------------------------------------------------------------------
 *
 * catalog.h
 *	  The table cachekit.entity: what is attached, and how.
 *
 * Rows are read and written directly, not through SQL: readers need no
 * privilege on the table and always see the newest committed row, and the
 * functions that write it check for themselves what the caller may do.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_CATALOG_H
#define CACHEKIT_CATALOG_H

#include "nodes/pg_list.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "key.h"

/* One row; strings and lists are palloc'd in the reader's memory context. */
typedef struct EntityRow
{
	Oid			relid;
	char	   *name;
	List	   *key;			/* of char *: names of the key columns */
	List	   *servers;		/* of char * */
	Interval   *ttl;			/* NULL: cachekit.default_ttl */
	Interval   *negative_ttl;	/* NULL: absent rows are not cached */
	char	   *on_change;		/* "invalidate" or "refresh" */
	bool		local;			/* cached in the local tier */
	List	   *columns;		/* of char *; NIL: all columns */
	bool		many;			/* a document is the array of all rows of a key */
	bool		allow_untracked;	/* cached although it reads what nobody tells of */
	bool		refresh_absent; /* on_change "refresh" loads keys that are not cached, too */
	int			ttl_jitter;		/* percent, or -1: cachekit.ttl_jitter */
	int			max_value_size; /* bytes, or -1: cachekit.max_value_size */
	double		early_refresh;	/* beta of XFetch; 0: off */
	bool		redefined;		/* by somebody else, through a view below: attach() mends it */
} EntityRow;

/* For dependency.c, too: open a table of the extension. */
extern Relation catalog_open(const char *name, int columns, LOCKMODE mode);
extern Relation catalog_open_for_write(const char *name, int columns);

extern bool catalog_exists(void);
/* The OIDs of cache servers by name, at most max; names that are no more are left out. */
extern int	catalog_server_oids(List *names, Oid *oids, int max);
/* name[] and lists of char *. */
extern List *catalog_names_from_array(Datum array);
extern Datum catalog_array_from_names(List *names);
extern bool catalog_same_names(List *a, List *b);
extern bool catalog_names_have(List *names, const char *name);
extern bool catalog_read(Oid relid, EntityRow *row);
extern Oid	catalog_relation_of(const char *name);
extern List *catalog_relations(void);
extern bool catalog_has_servers(void);
extern void catalog_write(const EntityRow *row);
/* With its dependencies. */
extern bool catalog_delete(Oid relid);

#endif							/* CACHEKIT_CATALOG_H */
