/*-------------------------------------------------------------------------
 *
 * mend.h
 *	  After DDL: putting the catalog and the triggers of entities right.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_MEND_H
#define CACHEKIT_MEND_H

#include "nodes/nodes.h"

/* The utility hook calls mend_after(), so the event triggers need not. */
extern void mend_by_hooks(void);

/* While a command runs: what it drops. */
extern void mend_remember_drop(Oid relid);
extern void mend_remember_server_drop(void);

/* After the command. */
extern void mend_after(Node *stmt);

#endif							/* CACHEKIT_MEND_H */
