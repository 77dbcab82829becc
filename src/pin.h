/*-------------------------------------------------------------------------
 *
 * pin.h
 *	  The pinned context: a document must not depend on who loads it.
 *
 * Between pin_begin() and pin_end() queries run as a given role, in a
 * security-restricted operation, with search_path and every setting that
 * changes how values are printed at fixed values.  It is no sandbox: functions
 * that a query calls run as they do when a materialized view is refreshed.
 *
 * Pins may nest.  After an error nothing needs to be done: the abort of the
 * (sub)transaction restores role and settings.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_PIN_H
#define CACHEKIT_PIN_H

typedef struct Pin
{
	Oid			userid;			/* role and context to return to */
	int			sec_context;
	int			nest_level;		/* of settings */
} Pin;

extern void pin_begin(Pin *pin, Oid role);
extern void pin_end(Pin *pin);
/* A further setting, until the pin (or whatever level of settings is open) ends. */
extern void pin_set(const char *name, const char *value);

#endif							/* CACHEKIT_PIN_H */
