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
	char	   *on_change;		/* "invalidate" */
	bool		local;			/* cached in the local tier */
	List	   *columns;		/* of char *; NIL: all columns */
} EntityRow;

extern bool catalog_exists(void);
/* The OIDs of cache servers by name, at most max; names that are no more are left out. */
extern int	catalog_server_oids(List *names, Oid *oids, int max);
extern bool catalog_names_have(List *names, const char *name);
extern bool catalog_read(Oid relid, EntityRow *row);
extern Oid	catalog_relation_of(const char *name);
extern List *catalog_relations(void);
extern bool catalog_has_servers(void);
extern void catalog_write(const EntityRow *row);
extern bool catalog_delete(Oid relid);

#endif							/* CACHEKIT_CATALOG_H */
