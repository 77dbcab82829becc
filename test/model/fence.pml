/*
 * fence.pml - readers, committers and the local tier
 *
 * Two transactions change a key each, and the keys share a stripe; or both change the same key,
 * one after the other (-DSAME_KEY). Readers fetch key 0 through the local tier, again and again.
 * One atomic step is one access to shared memory, or one critical section under the lock of the
 * tier's partition in which nothing but the fence is read without that lock.
 *
 * Transaction t writes the value t + 1 to its key; 0 is what was there before.
 */
#ifndef READERS
#define READERS		1
#endif
#ifndef TXS
#define TXS			2
#endif

#ifdef SAME_KEY
#define KEY(t)		0
#else
#define KEY(t)		(t == 0 -> 0 : 1)
#endif

#define ABSENT		15

/* a transaction's steps: changes.c */
#define IDLE		0
#define WRITTEN		1			/* the row is written; the transaction has an xid */
#define RAISED		2			/* PRE_COMMIT */
#define LOGGED		3			/* the commit record is written; not visible yet */
#define VISIBLE		4
#define REMOVED		5			/* the key has left the local tier */
#define STAMPED		6			/* two words only: last_change is set, in_flight not yet lowered */
#define RETURNED	7
#define ABORTED		8
byte tx[TXS];
byte order[TXS];				/* where its commit record is; 0: nowhere */
byte commits = 0;

byte table = 0;					/* what others see of key 0 */

/* the stripe: fence.h */
byte in_flight = 0;
byte generation = 0;
byte last_change = 0;

byte tier = ABSENT;				/* key 0 in the local tier: local.c */

bool stale_fetch = false;
bool uncommitted = false;

#define ORDER(value)	(value == 0 -> 0 : order[value - 1])
#define COMMITTED(value) (value == 0 || order[value - 1] != 0)

/* The row of a key has one writer at a time. */
#define ROW_IS_FREE(t)	\
	((t == 0 || KEY(0) != KEY(t) || tx[0] == IDLE || tx[0] >= VISIBLE) && \
	 (t == 1 || KEY(1) != KEY(t) || tx[1] == IDLE || tx[1] >= VISIBLE) && \
	 (TXS < 3 || t == 2 || KEY(TXS - 1) != KEY(t) || tx[TXS - 1] == IDLE || tx[TXS - 1] >= VISIBLE))

/* ---------- the fence: fence.c ---------- */

#ifdef NO_CHANGE_RAISE
#define RAISE(t)	skip
#define LOWER		skip
#else
#define RAISE(t)	in_flight++; printf("T%d: raises the stripe\n", t)
#define LOWER		in_flight--
#endif

/* What a token is, and whether it holds. */
#ifdef NO_ONE_WORD
/* the clock of two words: "nothing in flight", then "when was the last change" */
#define TOKEN		last_change
#else
#define TOKEN		generation
#endif
#ifdef NO_STORE_TOKEN
#define HOLDS(token) true
#else
#define HOLDS(token) (in_flight == 0 && TOKEN == token)
#endif

#ifdef NO_RETURN_IN_FLIGHT
#define ANSWERS		true
#else
#define ANSWERS		(in_flight == 0)
#endif

/* ---------- committers ---------- */

proctype Committer(byte t)
{
	byte value = 0;
end:
	do
	:: atomic { tx[t] == IDLE && ROW_IS_FREE(t) ->
		tx[t] = WRITTEN;
		printf("T%d: writes key %d\n", t, KEY(t)) }
#ifdef NO_OWN_XID
	/* a fetch by the transaction itself: it loads its own row, and nothing has been raised yet */
	:: atomic { tx[t] == WRITTEN && KEY(t) == 0 && in_flight == 0 ->
		tier = t + 1;
		printf("T%d: fetches key 0, stores v%d\n", t, t + 1) }
#endif
	:: atomic { tx[t] == WRITTEN ->
		tx[t] = ABORTED;
		printf("T%d: aborts\n", t) }
	:: atomic { tx[t] == WRITTEN ->						/* raise_all */
		RAISE(t);
		tx[t] = RAISED }
	:: atomic { tx[t] == RAISED ->
		LOWER;
		tx[t] = ABORTED;
		printf("T%d: aborts, lowers the stripe\n", t) }
	:: atomic { tx[t] == RAISED ->						/* RecordTransactionCommit */
		commits++;
		order[t] = commits;
		tx[t] = LOGGED;
		printf("T%d: writes its commit record at %d\n", t, commits) }
	:: atomic { tx[t] == LOGGED ->						/* ProcArrayEndTransaction */
		if
		:: KEY(t) == 0 -> table = t + 1
		:: else
		fi;
		tx[t] = VISIBLE;
		printf("T%d: commits, key %d is v%d for all\n", t, KEY(t), t + 1) }
	:: atomic { tx[t] == VISIBLE ->						/* local_remove */
#ifndef NO_VISIBLE_REMOVAL
		if
		:: KEY(t) == 0 -> tier = ABSENT
		:: else
		fi;
		printf("T%d: removes key %d from the local tier\n", t, KEY(t));
#endif
		tx[t] = REMOVED }
#ifdef NO_ONE_WORD
	:: atomic { tx[t] == REMOVED ->
		last_change = (last_change < order[t] -> order[t] : last_change);
		tx[t] = STAMPED;
		printf("T%d: last change is %d\n", t, last_change) }
	:: atomic { tx[t] == STAMPED ->
#else
	:: atomic { tx[t] == REMOVED ->						/* fence_lower */
#ifndef NO_LOWER_GENERATION
		generation++;
#endif
#endif
		LOWER;
		tx[t] = RETURNED;
		printf("T%d: lowers the stripe, returns\n", t) }
	od
}

/* ---------- readers: fetch.c, load.c, local.c ---------- */

proctype Reader(byte r)
{
	byte floor = 0;				/* what was visible when the fetch began */
	byte token = 0;
	byte value = 0;
end:
	do
	:: atomic {											/* the fetch begins */
		floor = table;
		printf("R%d: fetches; v%d is visible\n", r, floor) }
		if
		:: atomic { ANSWERS && tier != ABSENT ->			/* local_lookup, under the lock */
			printf("reached: hit\n");
			if
			:: tier != 0 -> printf("reached: new hit\n")
			:: else
			fi;
			printf("R%d: finds v%d\n", r, tier);
			uncommitted = !COMMITTED(tier);
			assert(!uncommitted);
			stale_fetch = ORDER(tier) < ORDER(floor);
			assert(!stale_fetch);
			floor = 0 }
		:: atomic { !ANSWERS || tier == ABSENT ->
			if
			:: !ANSWERS -> printf("reached: fenced\n")
			:: else
			fi }
#ifdef NO_TOKEN_FIRST
			atomic { value = table;						/* the snapshot, too early */
				printf("R%d: takes a snapshot and reads v%d\n", r, value) }
#endif
			if
			:: atomic { in_flight == 0 -> 				/* fence_read */
#ifdef NO_ONE_WORD
				printf("R%d: sees nothing in flight\n", r)
#else
				token = TOKEN;
				printf("R%d: takes a token\n", r)
#endif
				}
#ifdef NO_ONE_WORD
				atomic { token = TOKEN; printf("R%d: takes the token %d\n", r, token) }
#endif
#ifndef NO_TOKEN_FIRST
				atomic { value = table;					/* load_document */
					printf("R%d: takes a snapshot and reads v%d\n", r, value) }
#endif
				if
				:: atomic { HOLDS(token) ->				/* local_store, under the lock */
					printf("reached: store\n");
					tier = value;
					printf("R%d: stores v%d\n", r, value) }
				:: atomic { !HOLDS(token) -> printf("reached: refused store\n") }
				fi
			:: in_flight != 0							/* no token: the table's value is returned */
			fi;
			atomic { floor = 0; token = 0; value = 0 }
		fi
	:: atomic { tier != ABSENT ->						/* evicted, expired */
		tier = ABSENT;
		printf("local tier: key 0 is evicted\n") }
	od
}

/* ---------- at rest ---------- */

#define RESTS(t)	(tx[t] == IDLE || tx[t] >= RETURNED)

bool wrong_at_rest = false;

proctype Observer()
{
end:
	do
	:: atomic { RESTS(0) && RESTS(1) && RESTS(TXS - 1) && tier != ABSENT && tier != table ->
		printf("at rest: key 0 is v%d in the local tier, v%d in the table\n", tier, table);
		wrong_at_rest = true;
		assert(!wrong_at_rest) }
	od
}

init
{
	byte i;
	atomic {
		for (i : 0 .. TXS - 1) {
			run Committer(i)
		}
		for (i : 0 .. READERS - 1) {
			run Reader(i)
		}
		i = 0;
		run Observer()
	}
}
