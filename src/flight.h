/*-------------------------------------------------------------------------
 *
 * flight.h
 *	  Single flight: of many sessions that miss one key, one loads it.
 *
 * The name and the idea are those of Go's golang.org/x/sync/singleflight.  A
 * session that misses asks flight_begin(); the first becomes the loader, the
 * others wait until it has ended, or for as long as they are willing to, and
 * look into the cache again.  They never take a value from the loader itself:
 * what they find in the tier has passed the tier's own checks, so a waiter
 * can never get something that was loaded before its call began and changed
 * since.  A loader of an entity that does not use the local tier leaves its
 * document there for a moment if flight_is_awaited() when it has loaded;
 * waiters look for it there, and nobody else does.
 *
 * A session flies at most once at a time; a load within a load is not
 * announced.  The flight ends with flight_end(), with the transaction, or with
 * the session.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_FLIGHT_H
#define CACHEKIT_FLIGHT_H

typedef enum FlightResult
{
	FLIGHT_LOADER,				/* load it, then call flight_end() */
	FLIGHT_LANDED,				/* another session's load ended: look again */
	FLIGHT_ALONE				/* load it without announcing: no place, or no time left */
} FlightResult;

extern Size flight_shmem_size(void);
extern void flight_shmem_init(void);

extern FlightResult flight_begin(uint64 hash, long timeout_ms);
extern bool flight_is_awaited(void);
extern void flight_end(void);

#endif							/* CACHEKIT_FLIGHT_H */
