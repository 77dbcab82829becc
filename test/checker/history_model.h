/*
 * history_model.h
 *		Inside of the model of the registers: what history.c enters and judge.c
 *		looks at.  Nobody else includes this.
 *
 * All of it belongs to whoever holds `model_mutex`.  Times are taken while it
 * is held, so that their order is the order of the entries.
 */
#ifndef HISTORY_MODEL_H
#define HISTORY_MODEL_H

#include <pthread.h>

#include "history.h"

typedef enum WriteState
{
	WRITE_OPEN,					/* its COMMIT has not been sent */
	WRITE_SENT,					/* its COMMIT is on the way, or its answer is lost */
	WRITE_DONE,					/* its COMMIT was answered */
	WRITE_DEAD					/* rolled back, overwritten before COMMIT, matched
								 * no row, or lost in a crash */
} WriteState;

typedef struct Write
{
	Version		version;		/* 0 until the server has said it, or a read has */
	Version		least;			/* what it has to be newer than: all that was known of
								 * its key when its COMMIT was sent */
	int64_t		sent_at;		/* COMMIT sent */
	int64_t		done_at;		/* COMMIT answered, or known to be dead */
	int			key;
	WriteId		older_absence;	/* the deletion of this key before this one */
	WriteId		older_done;		/* what was committed before this one, by version */
	WriteId		same_commit;	/* another one of its transaction, in a ring; 0: none */
	uint16_t	writer;
	uint8_t		state;			/* WriteState */
	bool		absent;			/* a deletion */
	bool		seen;			/* a read has been explained by it */
} Write;

/* A read that is judged again when the deletion dies by which it was explained. */
typedef struct Replay
{
	Bound		bound;
	int64_t		answered_at;
	Version		version;		/* what it returned; of a deletion, the oldest that fits */
	bool		absent;
	int			session;
	char		how[40];
} Replay;

/* What judging again has found out: by then, a read had returned this. */
typedef struct Correction
{
	int64_t		answered_at;
	Version		version;
} Correction;

typedef struct Key
{
	Version		committed;		/* newest version whose COMMIT was answered */
	int64_t		committed_at;
	Version		returned;		/* newest version that a read has returned */
	int64_t		returned_at;
	Version		shown;			/* newest version that a direct read has returned */
	int64_t		shown_at;
	Version		leaving;		/* "committed" when the last delivery began */
	Version		delivered[CACHES];	/* newest version that this cache has heard of */
	int64_t		delivered_at[CACHES];
	Version		truth;			/* version in the table after an outage */
	WriteId		newest_absence; /* its deletions, newest version first */
	WriteId		newest_done;	/* its committed writes, newest version first */
	Replay	   *replays;		/* malloc'ed: reads since the first one that a deletion
								 * explains whose fate is open */
	int			nreplays;
	Correction *corrections;	/* malloc'ed; hardly ever any */
	int			ncorrections;
} Key;

typedef struct TableState
{
	int			shape_sent;		/* newest shape whose ALTER TABLE was sent */
	int			shape_known;	/* newest shape whose ALTER TABLE was answered,
								 * or that was seen */
	uint64_t	window;			/* odd: fetch() may refuse to work */
	atomic_int	hot_key;		/* the key that was last in a COMMIT */
} TableState;

extern pthread_mutex_t model_mutex;
extern Key *model_keys;			/* by number, [0] is not used */
extern WriteId model_writes;	/* how many there are; [0] is not used */
extern TableState model_tables[MAX_TABLES];

extern Write *model_write(WriteId id);

/*
 * When a version became old: the time of the first answer to a COMMIT of a
 * newer one.  INT64_MAX if there was none.
 */
extern int64_t model_old_since(const Key *key, Version version);

/* judge.c: a write that a read was explained by is settled */
extern void judge_settled(const Write *write);

#endif							/* HISTORY_MODEL_H */
