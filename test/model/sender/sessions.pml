/*
 * sessions.pml - what backends do: transactions, and fetches that load, hand over and ask
 */

/* ---------- the WAL ---------- */

inline write_wal(what)
{
	out_of_bounds = (wal_end >= WAL_MAX);
	assert(!out_of_bounds);
	wal_end++;
	wal[wal_end] = what;
	life[wal_end] = this_life;
#if !LOSES_WAL
	wal_flushed = wal_end;
#endif
}

/* ---------- committers: changes.c, xact.c ---------- */

#define ROW_IS_FREE(t)	\
	(TXS < 2 || t == 1 || KEY(1) != KEY(t) || tx[1] == IDLE || tx[1] >= VISIBLE) && \
	(t == 0 || KEY(0) != KEY(t) || tx[0] == IDLE || tx[0] >= VISIBLE) && \
	(TXS < 3 || t == 2 || KEY(2) != KEY(t) || tx[TXS - 1] == IDLE || tx[TXS - 1] >= VISIBLE)

#ifdef PROGRAM
/* while a namespace is emptied, nothing guards what a program sets by itself */
#define MAY_BEGIN(t)	(ROW_IS_FREE(t) && cache.marker.position != 0)
#else
#define MAY_BEGIN(t)	(ROW_IS_FREE(t))
#endif

#ifdef NO_CHANGE_RAISE
#define RAISE(t)	skip
#define LOWER(t)	skip
#else
#define RAISE(t)	in_flight[KEY(t)]++
#define LOWER(t)	in_flight[KEY(t)]--
#endif

proctype Committer(byte t)
{
end:
	do
#ifndef NO_RAISE_FIRST
	:: atomic { tx[t] == IDLE && MAY_BEGIN(t) ->		/* raise_all */
		RAISE(t);
		tx[t] = RAISED;
		printf("T%d: raises the fence of key %d\n", t, KEY(t)) }
	:: atomic { tx[t] == RAISED ->						/* change_record_write */
		write_wal(RECORD(t));
		recorded[t] = wal_end;
		tx[t] = RECORDED;
		printf("T%d: writes its change record at %d\n", t, wal_end) }
#else
	:: atomic { tx[t] == IDLE && MAY_BEGIN(t) ->
		write_wal(RECORD(t));
		recorded[t] = wal_end;
		tx[t] = RAISED;
		printf("T%d: writes its change record at %d\n", t, wal_end) }
	:: atomic { tx[t] == RAISED ->
		RAISE(t);
		tx[t] = RECORDED;
		printf("T%d: raises the fence of key %d\n", t, KEY(t)) }
#endif
	:: atomic { tx[t] == RECORDED && !STUCK(t) ->		/* RecordTransactionCommit */
		write_wal(COMMIT(t));
		committed[t] = wal_end;
		tx[t] = (ASYNC(t) || !LOSES_WAL -> DURABLE : LOGGED);
		printf("T%d: writes its commit record at %d\n", t, wal_end) }
#if ABORTS > 0
	:: atomic { aborts > 0 && tx[t] == RECORDED ->		/* AbortTransaction */
		aborts--;
		write_wal(ABORT(t));
		LOWER(t);
		tx[t] = ABORTED;
		printf("T%d: aborts\n", t) }
#endif
	:: atomic { tx[t] == LOGGED ->						/* XLogFlush */
		wal_flushed = (wal_flushed < committed[t] -> committed[t] : wal_flushed);
		tx[t] = DURABLE;
		printf("T%d: flushes the WAL to %d\n", t, wal_flushed) }
	:: atomic { tx[t] == DURABLE ->						/* ProcArrayEndTransaction */
		table[KEY(t)] = t + 1;
		tx[t] = VISIBLE;
		printf("T%d: is visible: key %d is v%d\n", t, KEY(t), t + 1) }
	:: atomic { tx[t] == VISIBLE ->						/* lower_all; locks, COMMIT returns */
		last_change[KEY(t)] = (last_change[KEY(t)] < committed[t] ->
							   committed[t] : last_change[KEY(t)]);
#ifndef NO_LOWER_GENERATION
		generation[KEY(t)]++;
#endif
		LOWER(t);
		tx[t] = RETURNED;
		printf("T%d: lowers the fence, returns\n", t) }
	od
}

/* ---------- the session: fetch.c ---------- */

inline choose_key(key)
{
	key = 0;
	do
	:: key < SESSION_KEYS - 1 -> key++
	:: break
	od
}

#define MAY_LOAD(key)	(in_flight[key] == 0 && LOAD_MOMENT)
#ifdef NO_READABLE
#define SEEMS_READABLE	(phase == RUN)
#else
#define SEEMS_READABLE	readable
#endif
#ifdef NO_READ_POSITION
#define HAS_MARKED(key)	true
#else
#define HAS_MARKED(key)	(marked >= last_change[key])
#endif

proctype Session()
{
	byte k;
end:
	do
	:: atomic { session == IDLE ->						/* load(): fence_read */
		choose_key(k);
		if
		:: MAY_LOAD(k) ->
			session_key = k;
			session_token = generation[k];
			session = TOKEN;
			printf("session: has a token for key %d\n", k)
		:: else
		fi;
		k = 0 }
	:: atomic { session == TOKEN ->						/* load_document */
		session_value = table[session_key];
		session = LOADED;
		printf("session: loads key %d: v%d\n", session_key, session_value) }
	:: d_step { session == LOADED ->					/* tiers_fill */
		if
		:: readable && !filling ->
			filling = true;
			fill_key = session_key;
			fill_value = session_value;
			fill_token = session_token;
			printf("session: hands v%d over to the sender\n", fill_value)
		:: else
		fi;
		session_value = 0;
		session_token = 0;
		session_key = 0;
		session = IDLE }

	/* answer_by_server(), tiers_may_ask() */
	:: atomic { session == IDLE && SEEMS_READABLE ->
		choose_key(k);
		if
		:: in_flight[k] == 0 && HAS_MARKED(k) ->
			session_key = k;
			session_value = table[k];
			session_token = last_change[k];
			session = QUEUED;
			printf("session: asks for key %d, of which v%d is visible\n", k, session_value)
		:: else
		fi;
		k = 0 }
	od
}

#define FORGET_REQUEST	\
	if \
	:: session == QUEUED || session == ASKED -> \
		session = IDLE; session_key = 0; session_value = 0; session_token = 0; \
		session_acked = 0 \
	:: else \
	fi
