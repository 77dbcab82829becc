/*
 * session.h
 *		One connection to the server, and the thread that uses it.
 *
 * Every statement that the load uses often is prepared under a number when the
 * connection is opened.  A statement that fails says how in `failure`:
 *
 *	FAILED_LOST		the connection is gone; what was in flight has an unknown fate
 *	FAILED_RETRY	deadlock or serialization failure; the transaction is aborted
 *	FAILED_ERROR	any other error, in `message`; the transaction is aborted
 */
#ifndef SESSION_H
#define SESSION_H

#include <libpq-fe.h>

#include "checker.h"

typedef enum Failure
{
	FAILED_NOT,
	FAILED_LOST,
	FAILED_RETRY,
	FAILED_ERROR
} Failure;

typedef enum Statement
{
	ST_FETCH,					/* $1 key */
	ST_FETCH_BYPASS,
	ST_FETCH_INVALIDATE,
	ST_FETCH_FRESH,
	ST_FETCH_MANY,				/* $1 keys */
	ST_FETCH_SET,				/* the same, of one moment */
	ST_SELECT,					/* $1 key: the same document, from the table */
	ST_UPDATE,					/* $1 key, $2 write, $3 writer, $4 pad */
	ST_UPDATE_FETCH,			/* the same, with a fetch in RETURNING */
	ST_INSERT,					/* the same, for a key that is absent */
	ST_UPSERT,					/* the same, for any key */
	ST_MOVE,					/* $1 key, $2 new key, $3 version, $4 writer */
	ST_DELETE,					/* $1 key */
	ST_LOCK_KEYS,				/* $1 keys: their rows in ck_tomb */
	ST_LOCK_ROWS,				/* $1 keys: their rows in ck_register */
	ST_BASES,					/* all keys: newest version, absent? */
	ST_TOMBS,					/* $1 keys, $2 versions of their deletions */
	ST_INVALIDATE,				/* $1 key */
	STATEMENTS
} Statement;

typedef struct Session
{
	int			number;			/* from 1; 0 is the control session */
	int			table;			/* where its registers are */
	Cache		cache;			/* whom it asks directly */
	const char *role;			/* "writer", "reader", ... */
	void		(*work) (struct Session *);	/* one round of its work */
	PGconn	   *conn;			/* NULL when closed */
	Failure		failure;		/* of the last statement */
	char		message[256];	/* of the last FAILED_ERROR, one line */
	uint64_t	random;			/* state of session_random */
	bool		async;			/* does synchronous_commit stand at off? */
	bool		warned;			/* there was a WARNING; whoever cares sets it back */
	Counts		counts;
} Session;

#define APPLICATION_NAME	"cachekit checker"

extern bool session_open(Session *s);
extern void session_close(Session *s);
extern bool session_lost(const Session *s);

/* NULL on failure; else the result, which the caller clears */
extern PGresult *session_run(Session *s, Statement st, int nparams,
							 const char *const *params);
extern PGresult *session_run_ints(Session *s, Statement st, int nparams,
								  const int64_t *params);
extern PGresult *session_query(Session *s, const char *sql);

/* for what returns nothing of interest */
extern bool session_do(Session *s, const char *sql);

/* COPY ... FROM STDIN with the given lines */
extern bool session_copy(Session *s, const char *sql, const char *lines);

extern uint32_t session_random(Session *s);
extern bool session_chance(Session *s, int percent);

/* "{1,2,3}", malloc'ed */
extern char *session_array(const int64_t *values, int n);

#define count_up(s, counter, n) \
	((void) atomic_fetch_add_explicit(&(s)->counts[counter], (n), memory_order_relaxed))

#endif							/* SESSION_H */
