/*
 * sender.pml - the WAL, the sender, its marker, and a cache that may do anything
 *
 * Everything that can be ended at any step (a backend, the sender, all of PostgreSQL) keeps its
 * place in a global variable, and each of its steps is one iteration of a loop: a crash sets the
 * variables back. Comments name the function of src/ that a step stands for.
 *
 * A location in the WAL is the number of the last record before it, so "position 3" means that
 * records 1 to 3 have been dealt with, and reading begins again with the record after the restart
 * point. Transaction t writes the value t + 1 to its key; 0 is what was there before.
 *
 * README.md tells what is left out. The parts are in sender/; sizes and budgets of faults come from
 * the command line:
 */
#ifndef TXS
#define TXS			2			/* transactions, each of which may commit once, or abort */
#endif
#ifndef KEYS
#define KEYS		1
#endif
#ifndef KEY_BITS
#define KEY_BITS	0			/* bit t: the key of transaction t */
#endif
#ifndef ASYNC_BITS
#define ASYNC_BITS	0			/* bit t: its commit does not wait for the flush of the WAL */
#endif
#ifndef STUCK_BITS
#define STUCK_BITS	0			/* bit t: it goes on for ever, and ends with PostgreSQL only */
#endif
#ifndef SESSION_KEYS
#define SESSION_KEYS KEYS		/* that are fetched: the first ones */
#endif
#ifdef WHEN_STORED
/* to find what comes of a new value in the cache: no fault, and no fetch, before there is one */
#define MOMENT		(cache.value[0] == 1)
#define LOAD_MOMENT	(table[0] == 1)
#else
#define MOMENT		true
#define LOAD_MOMENT	true
#endif
#ifdef MARKER_MOVED
/* data go back past a marker only */
#define BACK_MOMENT	(!SAME_MARKER(cache.marker, saved.marker))
#else
#define BACK_MOMENT	true
#endif
#ifndef ABORTS
#define ABORTS		0
#endif
#ifndef DROPS
#define DROPS		0			/* lost connections, or ends of the sender alone */
#endif
#ifndef OWNERS
#define OWNERS		0			/* the same while a nonce is written, which arrives late */
#endif
#ifndef LOSSES
#define LOSSES		0			/* the cache is empty: FLUSHALL, a restart without its data */
#endif
#ifndef BACKS
#define BACKS		0			/* the cache is what it was at an earlier moment */
#endif
#ifndef FORGETS
#define FORGETS		1			/* the cache forgets keys, as often as it likes */
#endif
#ifndef EVICTIONS
#define EVICTIONS	0			/* of the sender's own keys; those of values cost nothing */
#endif
#ifndef CRASHES
#define CRASHES		0			/* of PostgreSQL, which recovers from its WAL */
#endif
#ifndef FAILOVERS
#define FAILOVERS	0			/* to a standby that may lack the last commits */
#endif
#ifndef DISKS
#define DISKS		0			/* the disk goes back to an earlier moment, on the same timeline */
#endif

#define KEY(t)		((KEY_BITS >> (t)) & 1)
#define ASYNC(t)	((ASYNC_BITS >> (t)) & 1)
#define STUCK(t)	((STUCK_BITS >> (t)) & 1)
#define EPOCHS		(1 + DROPS + 2 * OWNERS + LOSSES + BACKS + EVICTIONS + CRASHES + FAILOVERS + DISKS)
#define WAL_MAX		(2 * TXS + EPOCHS + CRASHES + FAILOVERS + DISKS)
/* where no WAL can be lost, all of it may count as flushed */
#define LOSES_WAL	(CRASHES + FAILOVERS + DISKS > 0)
#define LIVES		(1 + CRASHES + FAILOVERS + DISKS)

#define ABSENT		15			/* no such key in the cache */

#include "sender/state.pml"
#include "sender/sessions.pml"
#include "sender/rules.pml"
#include "sender/steps.pml"
#include "sender/world.pml"

init
{
	byte i;
	atomic {
		for (i : 0 .. KEYS - 1) {
			cache.value[i] = ABSENT
		}
		for (i : 0 .. TXS - 1) {
			run Committer(i)
		}
		i = 0;
#ifndef NO_SESSION
		run Session();
#endif
		run Sender();
		run World();
		run Observer()
	}
}
