/*
 * steps.pml - the sender: whatever it may do next, in any order
 */

proctype Sender()
{
	byte a, b, c;
end:
	do
	/* epoch.c: greet, on_hello: the nonce is written first */
	:: d_step { phase == DOWN && MAY_CONNECT ->
		nonces++;
		nonce = nonces;
		cache.owner = nonce;
		phase = GREETED;
		printf("sender: connects, writes nonce n%d\n", nonce) }
	/* on_marker_read */
	:: d_step { phase == GREETED ->
		ASSIGN_MARKER(stands, cache.marker);
		phase = JUDGE;
		printf("sender: reads the marker: position %d, restart %d\n", stands.position, stands.restart) }
	/* judge_marker */
	:: atomic { phase == JUDGE ->
		take_now();
		if
		:: MARKER_FITS ->
			printf("reached: resume\n");
			mark = stands.mark;
			b = stands.position;
			a = RESUME_AT;
#ifdef NO_REWIND
			a = (believed != 0 -> believed : a);
#endif
			start_running(a, b);
			a = 0; b = 0;
			printf("sender: now is %d; resumes after %d\n", floor, read_to)
		:: else ->
			printf("reached: flush\n");
			phase = FLUSH;
			printf("sender: now is %d; the marker does not fit\n", floor)
		fi }
	/* flush_namespace */
	:: d_step { phase == FLUSH ->
		for (a : 0 .. KEYS - 1) {
			cache.value[a] = ABSENT
		}
		a = 0;
		CLEAR_MARKER(cache.marker);
		CLEAR_MARKER(stands);
		cache.tracked = 0;
		mark = 0;
		start_running(floor - 1, floor);
		printf("sender: has emptied the namespace, begins after %d\n", read_to) }

	/* feed_read */
	:: d_step { phase == RUN && read_to < READABLE_WAL ->
		read_to++;
		for (a : 0 .. TXS - 1) {
			if
			:: wal[read_to] == RECORD(a) -> feed[a] = OPEN
			:: wal[read_to] == COMMIT(a) ->
				seen = read_to;
				feed[a] = (feed[a] == OPEN -> WAITING : feed[a])
			:: wal[read_to] == ABORT(a) -> feed[a] = UNREAD
			:: wal[read_to] == RECOVERED && feed[a] == OPEN -> feed[a] = UNREAD
			:: else
			fi
		}
		a = 0;
		advance();
		printf("sender: reads the WAL to %d; its position is %d\n", read_to, position) }
	/* send_visible */
	:: atomic { phase == RUN && nfull(wire) && (CAN_SEND(0) || CAN_SEND(TXS - 1) || CAN_SEND(TXS / 2)) ->
		a = 0;
		do
		:: a < TXS - 1 -> a++
		:: break
		od;
		if
		:: CAN_SEND(a) ->
			feed[a] = SENT;
			traces++;
			wire!DEL, a, traces, 0;
			printf("sender: sends the deletion of key %d for T%d\n", KEY(a), a);
#ifdef NO_ACKNOWLEDGEMENT
			feed[a] = DONE;
			advance();
#endif
		:: else
		fi;
		a = 0 }
	/* the cache runs it, on_deleted, on_traced, feed_done */
	:: d_step { phase == RUN && wire?[DEL, _, _, _] ->
		wire?DEL, a, b, _;
		cache.value[KEY(a)] = ABSENT;
		cache.tracked = b;
		trace_acked = b;
		feed[a] = (feed[a] == SENT -> DONE : feed[a]);
		printf("sender: the deletion of key %d for T%d is acknowledged\n", KEY(a), a);
		a = 0; b = 0;
		advance() }
	/* answer_write_marker */
	:: d_step { phase == RUN && !putting && mark != 0 && mark <= position &&
			!(position == marker_sent && RESTART == stands.restart) ->
		putting = true;
		coming.position = position;
		coming.restart = RESTART;
		coming.timeline = timeline;
		coming.mark = mark;
		coming.life = life[mark];
		coming.incarnation = this_life;
		marker_sent = coming.position;
		printf("sender: sends the marker: position %d, restart %d\n", position, coming.restart) }
	/* the script, on_marker */
	:: atomic { phase == RUN && putting ->
		putting = false;
		if
		:: cache.owner == nonce && IN_ITS_PLACE && TRACES_STAND ->
			ASSIGN_MARKER(cache.marker, coming);
			ASSIGN_MARKER(stands, coming);
			marker_acked = coming.position;
			marked = marker_acked;
			CLEAR_MARKER(coming);
			printf("sender: the marker is acknowledged\n")
		:: else ->
			printf("reached: refused marker\n");
			printf("sender: the marker is refused: the cache is not as we left it\n");
			end_epoch()
		fi }
	/* become_ready */
	:: d_step { phase == RUN && !readable && position >= ready_at && marker_acked >= ready_at ->
		readable = true;
		printf("sender: the server is readable\n") }
	/* answer_reads */
	:: atomic { phase == RUN && session == QUEUED ->
		if
		:: IS_READABLE && HAS_COME_SO_FAR ->
			session = ASKED;
			session_acked = marker_acked
		:: else ->
			FORGET_REQUEST
		fi }
	/* the cache answers, on_read */
	:: atomic { phase == RUN && session == ASKED ->
		if
		:: !OUR_CACHE(session_acked) ->
			printf("reached: foreign cache\n");
			printf("sender: a read finds another nonce or marker\n");
			end_epoch()
		:: OUR_CACHE(session_acked) && REPLY_COVERS && cache.value[session_key] != ABSENT ->
			printf("reached: hit\n");
			printf("session: is answered v%d\n", cache.value[session_key]);
			stale_fetch = !EXISTS(cache.value[session_key]) ||
				BORN(cache.value[session_key]) < BORN(session_value);
			assert(!stale_fetch);
			FORGET_REQUEST
		:: else ->
			FORGET_REQUEST
		fi }
	/* check_cache: once a second */
	:: atomic { phase == RUN && readable && (!looked || !OUR_CACHE(marker_acked)) ->
		if
		:: OUR_CACHE(marker_acked) -> looked = true
		:: else ->
			printf("sender: the idle check finds another nonce or marker\n");
			end_epoch()
		fi }
	/* fill_send */
	:: atomic { phase == RUN && filling && nfull(wire) && TOKEN_HOLDS && MARKER_COVERS ->
		filling = false;
		ghost = !EXISTS(fill_value) || BORN(fill_value) > wal_flushed;
		assert(!ghost);
		printf("reached: fill\n");
		wire!FILL, fill_key, fill_value, FILL_NEEDS;
		printf("sender: sends the fill of key %d with v%d\n", fill_key, fill_value);
		fill_key = 0; fill_value = 0; fill_token = 0 }
	/* a token that holds no more; or too long a wait for the marker */
	:: atomic { filling && !(TOKEN_HOLDS && MARKER_COVERS) ->
		printf("reached: refused fill\n");
		filling = false;
		fill_key = 0; fill_value = 0; fill_token = 0 }
	/* put_if_owner, on_filled */
	:: atomic { phase == RUN && wire?[FILL, _, _, _] ->
		wire?FILL, a, b, c;
		if
		:: OWNED_BY(nonce) && STILL_MARKED(c) ->
			cache.value[a] = b;
			printf("cache: the fill is stored: key %d is v%d\n", a, b);
			a = 0; b = 0; c = 0
		:: else ->
			printf("cache: the fill finds another nonce or marker\n");
			a = 0; b = 0; c = 0;
			end_epoch()
		fi }
	od
}
