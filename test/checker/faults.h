/*
 * faults.h
 *		What happens to the cache servers, and to their senders, under the load.
 */
#ifndef FAULTS_H
#define FAULTS_H

#include "session.h"

#define MAX_FAULTS		16
#define FREEZE_MS		1500	/* several times the sender's command_timeout */

/* The faults of one kind of cache server. */
typedef struct FaultSet
{
	const char *const *names;	/* NULL at the end */
	int			(*cause) (Session *control);	/* one of them, at random: which? */
} FaultSet;

extern const FaultSet redis_faults;
extern const FaultSet memcached_faults;

/* when the next one is due; never without --redis-faults or --memcached-faults */
extern int64_t faults_due(void);

/* that one; returns when it is over, some seconds later */
extern void faults_do(Session *control);

/* a line for each fault of a cache server */
extern void faults_report(Cache cache);

/* faults that all kinds can have */
extern void faults_terminate(Session *control, Cache cache);
extern void faults_alter(Session *control, Cache cache);

#endif							/* FAULTS_H */
