/*
 * outage.h
 *		What happens when the server goes away under the load.
 *
 * One lost connection stops all: every session closes its connection and
 * waits, so that no transaction of the load is alive.  The control session
 * waits for the server and for the last old backend to be gone, learns from
 * the table what was committed, and lets the sessions open new connections.
 */
#ifndef OUTAGE_H
#define OUTAGE_H

#include "session.h"

/* for the sessions */
extern void outage_notice(Session *s);
extern bool outage_noticed(void);
extern void outage_wait(Session *s);	/* until it is over; opens the session */
extern void outage_leave(void);	/* the session ends for good */

/* for the control session; a rest is an outage in which the server stays */
extern void outage_rest(void);
extern void outage_recover(Session *control, int sessions, bool (*in_quiet) (void));
extern int	outages(void);

/* the end of the load */
extern void load_stop(void);
extern bool load_stopped(void);

/* waits for "ms", or until an outage is noticed or the load stopped */
extern void load_wait(int64_t ms);

#endif							/* OUTAGE_H */
