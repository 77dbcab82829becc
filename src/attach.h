/*-------------------------------------------------------------------------
 *
 * attach.h
 *	  What attach() shares with add_dependency(), and with DDL on views.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_ATTACH_H
#define CACHEKIT_ATTACH_H

#include "utils/rel.h"

#include "catalog.h"

/* Open a relation that the caller must own, in a mode that excludes writers. */
extern Relation attach_open_owned(Oid relid);

/* The strings of a name[] argument; an error for NULLs and repetitions. */
extern List *attach_names_argument(Datum array, const char *argument);

/* Sessions that know the entity, or that it is none, must look again. */
extern void attach_invalidate(List *relids);

/*
 * Bring the derived dependencies of a view in line with its definition, and
 * with them the triggers; `role` must own a base for that.  Errors are thrown.
 * Only attach() mends the triggers of bases that it has depended on before: a
 * view that is restored is replaced before its triggers are restored.
 */
extern void attach_derive(const EntityRow *row, Oid role, bool attach);

/* Tell the user in a NOTICE what was derived, and what is missing. */
extern void attach_tell_dependencies(Oid relid);

#endif							/* CACHEKIT_ATTACH_H */
