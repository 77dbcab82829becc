/*
 * rules.pml - the sender's rules: how an epoch begins and ends, how far it has come, what it may do
 *
 * Each rule is a macro, or an inline, that sender/steps.pml uses; what has a guard can be switched
 * off (-DNO_...).
 */

/* feed_restart: nothing that has not ended is behind it */
#define FIRST(t, least)	\
	(feed[t] != UNREAD && recorded[t] - 1 < least -> recorded[t] - 1 : least)
#ifdef NO_RESTART_POINT
#define RESTART	position
#elif TXS == 1
#define RESTART	FIRST(0, position)
#elif TXS == 2
#define RESTART	FIRST(1, FIRST(0, position))
#else
#define RESTART	FIRST(2, FIRST(1, FIRST(0, position)))
#endif

/* epoch_end: the one cure for any fault. What was on its way becomes a zombie. */
inline end_epoch()
{
	readable = false;
	marked = 0;
	marker_acked = 0;
	marker_sent = 0;
	trace_acked = 0;
	traces = 0;
	putting = false;
	CLEAR_MARKER(coming);
	CLEAR_MARKER(stands);
	FORGET_REQUEST;
	/* the network remembers the commands of one epoch only */
	do
	:: zombie?_, _, _ -> skip
	:: empty(zombie) -> break
	od;
	zombie_owner = false;
	zombie_nonce = 0;
	do
	:: wire?FILL, a, b, c -> zombie!a, b, c; zombie_nonce = nonce
	:: wire?DEL, a, b, _ -> skip	/* late, it takes away what may be taken away at any time */
	:: empty(wire) -> break
	od;
	a = 0; b = 0; c = 0;
#ifdef NO_REWIND
	believed = (phase == RUN -> RESTART : believed);
#endif
	phase = DOWN;
	for (a : 0 .. TXS - 1) {
		feed[a] = UNREAD
	}
	a = 0;
	read_to = 0;
	position = 0;
	mark = 0;
	ready_at = 0;
	seen = 0;
	floor = 0
}

/* take_now */
inline take_now()
{
	write_wal(NOW);
	wal_flushed = wal_end;
	floor = wal_end
}

/* start_running */
inline start_running(where, least)
{
	read_to = where;
	position = read_to;
	ready_at = least;
	ready_at = (ready_at < floor -> floor : ready_at);
	phase = RUN
}

/* marker_verdict: may sending resume where the marker says? */
#ifdef NO_TIMELINE_CHECK
#define TIMELINE_FITS	true
#else
#define TIMELINE_FITS	\
	(stands.timeline == timeline || stands.position <= branched[stands.timeline])
#endif
#ifdef NO_MARKER_RECORD
#define RECORD_FITS		true
#else
#define RECORD_FITS		(life[stands.mark] == stands.life)
#endif
#ifdef NO_MARKER_CHECK
#define MARKER_FITS		(stands.position != 0)
#else
#define MARKER_FITS		(stands.position != 0 && stands.position < floor && \
						 TIMELINE_FITS && RECORD_FITS)
#endif
#define RESUME_AT		(stands.mark < stands.restart -> stands.mark : stands.restart)

/* advance_position, feed_done: what is done is popped in the order of commits */
inline advance()
{
	a = 255;
	for (b : 0 .. TXS - 1) {
		if
		:: (feed[b] == WAITING || feed[b] == SENT) && committed[b] < a -> a = committed[b]
		:: else
		fi
	}
	for (b : 0 .. TXS - 1) {
		if
		:: feed[b] == DONE && committed[b] < a ->
			position = (position < committed[b] -> committed[b] : position);
			mark = position;
			feed[b] = UNREAD
		:: else
		fi
	}
	if
	:: a == 255 ->
		position = read_to;
#ifndef NO_MARK_ANY_COMMIT
		mark = (mark < seen -> seen : mark)
#endif
	:: else
	fi;
	if
	:: floor <= position && floor > mark && read_to >= floor -> mark = floor
	:: else
	fi;
	a = 0; b = 0
}

/* is_our_cache */
#ifdef NO_READ_MARKER
#define OUR_CACHE(acked)	true
#else
#define OUR_CACHE(acked)	\
	(cache.owner == nonce && cache.marker.position != 0 && \
	 cache.marker.incarnation == this_life && \
	 cache.marker.position >= acked && cache.marker.position <= marker_sent)
#endif
#if defined(NO_READ_POSITION) || defined(NO_READ_MARKER)
#define REPLY_COVERS	true
#else
#define REPLY_COVERS	(cache.marker.position >= session_token)
#endif

/* fate_of: may the fill be sent? */
#ifdef NO_FILL_TOKEN
#define TOKEN_HOLDS		true
#else
#define TOKEN_HOLDS		(in_flight[fill_key] == 0 && generation[fill_key] == fill_token)
#endif
#ifdef NO_FILL_MARKER
#define MARKER_COVERS	true
#else
#define MARKER_COVERS	\
	(last_change[fill_key] <= marker_acked && ready_at <= marker_acked)
#endif

/* put_marker's conditions, besides the nonce */
#ifdef NO_MARKER_PREVIOUS
#define IN_ITS_PLACE	true
#else
#define IN_ITS_PLACE	SAME_MARKER(cache.marker, stands)
#endif
#ifdef NO_MARKER_TRACE
#define TRACES_STAND	true
#else
#define TRACES_STAND	(cache.tracked >= trace_acked)
#endif

/* answer_reads: may the cache be asked? */
#ifdef NO_READABLE
#define IS_READABLE		true
#else
#define IS_READABLE		(readable && marker_acked != 0)
#endif
#ifdef NO_READ_POSITION
#define HAS_COME_SO_FAR	true
#else
#define HAS_COME_SO_FAR	(position >= session_token)
#endif

#ifdef NO_FLUSHED_ONLY
#define READABLE_WAL	wal_end
#else
#define READABLE_WAL	wal_flushed
#endif

/* put_if_owner's condition */
#ifdef NO_OWNER_NONCE
#define OWNED_BY(n)		true
#else
#define OWNED_BY(n)		(cache.owner == n)
#endif
/* put_if_owner's other condition, the marker's position: in a large instance only, see README.md */
#ifdef FILL_POSITION
#define FILL_NEEDS		\
	(last_change[fill_key] < ready_at -> ready_at : last_change[fill_key])
#else
#define FILL_NEEDS		0
#endif
#define STILL_MARKED(needs)	(cache.marker.position >= needs)

/* feed_next_visible: TransactionIdIsInProgress() */
#ifdef NO_VISIBILITY_WAIT
#define IS_VISIBLE(t)	true
#else
#define IS_VISIBLE(t)	(tx[t] >= VISIBLE)
#endif

#ifdef NO_READABLE
/* each read of a cache without a marker would be one more epoch, for ever */
#define MAY_CONNECT		(nonces < EPOCHS)
#else
#define MAY_CONNECT		true
#endif
#define CAN_SEND(t)		(feed[t] == WAITING && IS_VISIBLE(t))
