/*-------------------------------------------------------------------------
 *
 * ttl.h
 *	  Times to live: the SQL type cachekit.ttl, and what it means.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_TTL_H
#define CACHEKIT_TTL_H

#include "utils/timestamp.h"

/* Microseconds of an interval; TTL_INFINITE (-1); if_null for NULL. */
extern int64 ttl_microseconds(const Interval *ttl, int64 if_null);

/* Error unless the interval is a possible TTL for the named argument. */
extern void ttl_check(const Interval *ttl, const char *argument);

/*
 * When a document stored now expires; DT_NOEND: never.  The jitter is in
 * percent; -1: cachekit.ttl_jitter.
 */
extern TimestampTz ttl_expiry(int64 ttl, int jitter, TimestampTz now);

#endif							/* CACHEKIT_TTL_H */
