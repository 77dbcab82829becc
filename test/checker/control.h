/*
 * control.h
 *		What the control session does: the tables, the truth, the end.
 *
 * Functions that return bool return false if the connection was lost; any
 * other error is fatal.
 */
#ifndef CONTROL_H
#define CONTROL_H

#include "session.h"

extern bool control_setup(Session *c);

/* until no other session of this program is connected */
extern bool control_wait_alone(Session *c);

/* after an outage: enters what the table says, puts the table in order */
extern bool control_truth(Session *c);

/* with nobody else at work: every document equals its row, fetched twice */
extern bool control_at_rest(Session *c);

/* reads that were served from the cache, so far; -1 if the server cannot tell */
extern bool control_hits(Session *c, int64_t *hits);

#endif							/* CONTROL_H */
