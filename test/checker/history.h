/*
 * history.h
 *		The model of the registers: what was written, what a read may return.
 *
 * A version is a number that says two things.  Its upper part counts the
 * committed values of its key, so that versions of one key grow in commit
 * order (the row lock, or the lock on the key's row of ck_tomb, sees to that).
 * Its lower part is the number of the write, which is never used twice, so
 * that a value of a rolled-back transaction is known when it is seen.
 *
 * A deletion is a write too, and has a version; but a read of an absent row
 * does not say which deletion it saw, so that any deletion that fits will do.
 *
 * All functions take the model's one mutex and may be called by any thread.
 * Whatever happened before (an answer that arrived) is entered before anything
 * that comes after (a request that is sent) asks for its bounds.  So the order
 * in which the mutex is taken is an order that the clock would confirm.
 */
#ifndef HISTORY_H
#define HISTORY_H

#include "checker.h"

typedef int64_t Version;
typedef uint32_t WriteId;		/* 0 is none */

#define VERSION_UNIT	INT64_C(1000000000)
#define VERSION_NEXT(v, id)	(((v) / VERSION_UNIT + 1) * VERSION_UNIT + (id))
#define VERSION_WRITE(v)	((WriteId) ((v) % VERSION_UNIT))
#define VERSION_COUNT(v)	((v) / VERSION_UNIT)

/* a document as it was read */
typedef struct Seen
{
	bool		absent;			/* no row: the rest is not set */
	int			id;
	Version		version;
	Version		pad;			/* the version as the filler repeats it */
	int			shape;			/* value of the column that DDL makes, 0: none */
} Seen;

/* what must hold for a read, taken just before it is sent */
typedef struct Bound
{
	int			key;
	int64_t		sent_at;
	Version		committed;		/* newest version whose COMMIT was answered */
	int64_t		committed_at;
	Version		returned;		/* newest version that a read has returned */
	int64_t		returned_at;
	bool		direct;			/* a direct read: "committed" has also been
								 * delivered, "returned" is not set */
	Version		newest;			/* of a direct read: what others call "committed" */
	int			shape;			/* newest known shape of the table */
	uint64_t	window;			/* of the table, see history_window_moves */
} Bound;

/* how strictly a read is judged */
typedef enum ReadRule
{
	READ_STRICT,				/* G1 */
	READ_SNAPSHOT,				/* old snapshot: TRUNCATE may hide a row from it */
	READ_MAY_MISS,				/* "not here" is always a right answer */
	READ_DIRECT					/* the same, and what is shown has to be durable */
} ReadRule;

extern void history_init(void);

/* writes */
extern WriteId history_write(int key, int writer);
extern void history_version(WriteId id, Version version, bool absent);
extern void history_sent(const WriteId *ids, int n);
extern void history_done(const WriteId *ids, int n, bool delivered);
extern void history_dead(WriteId id);

/* reads */
extern void history_bound(int key, Bound *bound);
extern void history_bound_direct(int key, Cache cache, Bound *bound);
extern bool history_judge(const Bound *bound, const Seen *seen, ReadRule rule,
						  const char *how, int session);
extern int	history_hot_key(int table);

/* Were these documents, each of which was right, all there at one moment? */
extern bool history_judge_set(const Bound *bounds, const Seen *seen, int n,
							  const char *how, int session);

/* how long a direct read's document had been old when it was asked for; 0: it was not */
extern int64_t history_age(const Bound *bound, const Seen *seen);

/*
 * Deliveries: what was committed when one begins has arrived on all cache
 * servers when it is entered, unless it began before an outage.  One session
 * only may call these two.
 */
typedef struct Delivery
{
	uint64_t	life;
	int64_t		begun_at;
} Delivery;

extern Delivery history_delivery_begins(void);
extern void history_delivered(Delivery delivery);

/*
 * The data of a cache server go back to what they were.  That it is noticed
 * takes a moment; until then no delivery to it counts.  To be called before
 * and after that.
 */
extern void history_goes_back(Cache cache);

/* the shape of a table's documents: odd numbers have a column, even ones none */
extern int	history_shape_next(int table);
extern void history_shape_done(int table, int shape);
extern void history_shape_truth(int table, int shape);

/* a stretch of time in which fetch() may refuse to work on a table */
extern void history_window_moves(int table, bool open);
extern bool history_in_window(const Bound *bound);

/* The next outage may lose what was committed: another server takes over, or a backup. */
extern void history_may_lose(void);

/*
 * After an outage, with no other session alive.  On another timeline commits
 * may be missing that a cache has shown.
 */
extern void history_timeline(uint32_t timeline);
extern void history_truth(int key, Version version, bool absent);
extern void history_truth_end(void);
extern int	history_gone_back(void);	/* keys that lost a commit by it */

#endif							/* HISTORY_H */
