/*
 * control.h
 *		What the control session does: the tables, the truth, the end.
 *
 * Functions that return bool return false if the connection was lost; any
 * other error is fatal.
 */
#ifndef CONTROL_H
#define CONTROL_H

#include "report.h"
#include "session.h"

extern bool control_setup(Session *c);

/* CREATE SERVER for a cache that runs already */
extern bool control_make_server(Session *c, Cache cache);

/* a call of attach() for the registers of a table, with all settings */
extern void control_attach_sql(int table, char *buffer, size_t size);

/* until no other session of this program is connected */
extern bool control_wait_alone(Session *c);

/* after an outage: enters what the table says, puts the table in order */
extern bool control_truth(Session *c);

/* with nobody else at work: every document equals its row, fetched twice */
extern bool control_at_rest(Session *c);

/* until the cache servers have got all that was committed; else that is a violation */
extern bool control_delivered(Session *c);

/* with nobody else at work: every document on a cache server equals its row */
extern bool control_documents(Session *c, Cache cache, uint64_t *compared);

/* reads that a cache has answered, since the server started; the state of the cache servers */
extern bool control_hits(Session *c, Hits *hits);

/* a line about each sender */
extern bool control_print_senders(Session *c);

#endif							/* CONTROL_H */
