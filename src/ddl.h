/*-------------------------------------------------------------------------
 *
 * ddl.h
 *	  Commands that change what an entity is, or how its documents look.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_DDL_H
#define CACHEKIT_DDL_H

/* Install the hooks; called while the library is being preloaded. */
extern void ddl_install_hooks(void);

#endif							/* CACHEKIT_DDL_H */
