/*
 * orders.h
 *		Orders that come by stdin, with --orders.
 *
 * So a program that injects faults can say what is going to happen, and learn
 * what has been checked meanwhile.  An order is a line; each is answered by a
 * line "done: ORDER ..." when it has been executed, also those that are not for
 * the main thread.  The end of stdin is the order "end".
 */
#ifndef ORDERS_H
#define ORDERS_H

#include "session.h"

/* what is left to the main thread */
typedef enum Order
{
	ORDER_NONE,
	ORDER_STATUS,				/* say how far we are */
	ORDER_REST,					/* stop the load, compare everything, go on */
	ORDER_END					/* the end of the load */
} Order;

/* the next order; never waits for one */
extern Order orders_next(void);

/* the answer to it */
extern void orders_done(const char *format,...)
			__attribute__((format(printf, 1, 2)));

/*
 * Around each round of a session's work.  Sessions of a role that is held
 * (order "hold ROLE", until "release ROLE") do not begin one.
 */
extern bool orders_begin_work(const Session *s);
extern void orders_end_work(const Session *s);

#endif							/* ORDERS_H */
