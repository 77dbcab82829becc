/*
 * work.h
 *		What each kind of session does: one call is one round of work.
 *
 * A round ends with no transaction open, or with the connection lost.
 */
#ifndef WORK_H
#define WORK_H

#include "history.h"
#include "session.h"

extern void writer_work(Session *s);
extern void reader_work(Session *s);
extern void ddl_work(Session *s);
extern void direct_work(Session *s);
extern void delivery_work(Session *s);

/* a strict read of one key, judged */
extern void reader_fetch(Session *s, int key, Statement st, ReadRule rule, const char *how);

/* a statement with fetch() failed outside a transaction of a writer */
extern void reader_failed(Session *s, const Bound *bound, const char *how);

/* a key: some are asked for more often than others */
extern int	some_key(Session *s);

/* the same, or the key that was in a COMMIT last */
extern int	key_to_read(Session *s);

/* ends when "ms" have passed, or the load ends, or an outage is noticed */
extern void pause_ms(int ms);

#endif							/* WORK_H */
