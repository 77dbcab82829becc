/*
 * faults.h
 *		What happens to the private Redis, and to its sender, under the load.
 */
#ifndef FAULTS_H
#define FAULTS_H

#include "session.h"

/* when the next one is due; never without --redis-faults */
extern int64_t faults_due(void);

/* one of them, at random; returns when it is over, a second or two later */
extern void faults_do(Session *control);

/* a line for each kind */
extern void faults_report(void);

#endif							/* FAULTS_H */
