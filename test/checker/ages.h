/*
 * ages.h
 *		How old the documents were that direct reads have returned.
 *
 * A document is old from the moment when the COMMIT of the next version was
 * answered; its age is the time from then until it was asked for.
 */
#ifndef AGES_H
#define AGES_H

#include "checker.h"

/* nanoseconds, 0: it was not old.  Any thread may call this. */
extern void ages_add(Cache cache, int64_t age);

/* a histogram, and its summary in one line "ages of NAME: ..." */
extern void ages_report(Cache cache);

#endif							/* AGES_H */
