/*
 * world.pml - what others do to PostgreSQL, the cache and the network; and how things are at rest
 */

/* ---------- what others do, and what goes wrong ---------- */

inline look_again()
{
	looked = false
}

/*
 * PostgreSQL ends, and begins again with the first `at` records of its WAL. What of them had
 * committed is what there is.
 */
inline recover(at)
{
	b = wal_end;
	do
	:: b > at -> wal[b] = 0; life[b] = 0; b--
	:: else -> break
	od;
	wal_end = at;
	this_life++;
	for (b : 0 .. KEYS - 1) {
		table[b] = 0;
		in_flight[b] = 0;
		generation[b] = 0;
		last_change[b] = 0
	}
	for (b : 0 .. TXS - 1) {
		if
		:: recorded[b] > wal_end -> recorded[b] = 0
		:: else
		fi;
		if
		:: committed[b] > wal_end ->
			printf("reached: lost commit\n");
			committed[b] = 0
		:: else
		fi;
		if
		:: tx[b] == IDLE
		:: tx[b] != IDLE && committed[b] == 0 -> tx[b] = ABORTED
		:: committed[b] != 0 ->
			tx[b] = RETURNED;
			if
			:: committed[b] > BORN(table[KEY(b)]) -> table[KEY(b)] = b + 1
			:: else
			fi
		fi
	}
	b = 0;
	write_wal(RECOVERED);
	wal_flushed = wal_end;
	filling = false; fill_key = 0; fill_value = 0; fill_token = 0;
	session = IDLE; session_key = 0; session_value = 0; session_token = 0; session_acked = 0;
	end_epoch()
#ifdef NO_REWIND
	; believed = 0
#endif
}

proctype World()
{
	byte a, b, c;
end:
	do
	/* the WAL writer, flush_wanted(), or whoever needs a page written */
	:: d_step { wal_flushed < wal_end ->
		wal_flushed = wal_end;
		printf("PostgreSQL: the WAL is flushed to %d\n", wal_end) }

	/* the cache forgets what it likes */
#if FORGETS
	:: d_step { cache.value[0] != ABSENT ->
		cache.value[0] = ABSENT;
		printf("cache: forgets key 0\n") }
	:: d_step { KEYS > 1 && cache.value[KEYS - 1] != ABSENT ->
		cache.value[KEYS - 1] = ABSENT;
		printf("cache: forgets key %d\n", KEYS - 1) }
#endif

#ifdef PROGRAM
	/* a program that finds nothing reads the table and sets the key: as if in no time */
	:: d_step { cache.value[0] == ABSENT ->
		cache.value[0] = table[0];
		printf("program: finds no key 0, reads v%d, sets it\n", table[0]) }
#endif

	/* what comes late on a connection that is no more */
	:: atomic { nempty(zombie) ->
		zombie?a, b, c;
		printf("reached: late fill\n");
		if
		:: OWNED_BY(zombie_nonce) && STILL_MARKED(c) ->
			cache.value[a] = b;
			printf("network: a late fill of n%d: key %d is v%d\n", zombie_nonce, a, b)
		:: else -> skip
		fi;
		a = 0; b = 0; c = 0 }
	:: d_step { zombie_owner ->
		cache.owner = zombie_nonce;
		zombie_owner = false;
		zombie_nonce = 0;
		look_again();
		printf("network: the nonce of an earlier connection arrives late\n") }

#if DROPS > 0
	:: atomic { drops > 0 && phase > DOWN && MOMENT ->
		drops--;
		printf("network: the connection is lost\n");
		end_epoch() }
#endif
#if OWNERS > 0
	:: d_step { owners > 0 && phase == DOWN && empty(zombie) ->
		owners--;
		nonces++;
		zombie_nonce = nonces;
		zombie_owner = true;
		printf("network: the connection is lost while the nonce n%d is written\n", nonces) }
#endif
#if LOSSES > 0
	:: d_step { losses > 0 ->
		losses--;
		for (a : 0 .. KEYS - 1) {
			cache.value[a] = ABSENT
		}
		a = 0;
		cache.owner = 0;
		cache.tracked = 0;
		CLEAR_MARKER(cache.marker);
		look_again();
		printf("cache: loses everything\n") }
#endif
#if EVICTIONS > 0
	:: d_step { evictions > 0 && cache.owner != 0 ->
		evictions--;
		cache.owner = 0;
		look_again();
		printf("cache: forgets the nonce\n") }
	:: d_step { evictions > 0 && cache.tracked != 0 ->
		evictions--;
		cache.tracked = 0;
		look_again();
		printf("cache: forgets the trace\n") }
	:: d_step { evictions > 0 && cache.marker.position != 0 ->
		evictions--;
		CLEAR_MARKER(cache.marker);
		look_again();
		printf("cache: forgets the marker\n") }
#endif
#if BACKS > 0
	:: d_step { backs > 0 && !is_saved ->
		is_saved = true;
		for (a : 0 .. KEYS - 1) {
			saved.value[a] = cache.value[a]
		}
		a = 0;
		saved.owner = cache.owner;
		saved.tracked = cache.tracked;
		ASSIGN_MARKER(saved.marker, cache.marker);
		printf("cache: this moment will come back\n") }
	:: d_step { backs > 0 && is_saved && BACK_MOMENT ->
		backs--;
		is_saved = false;
		for (a : 0 .. KEYS - 1) {
			cache.value[a] = saved.value[a];
			saved.value[a] = 0
		}
		a = 0;
		cache.owner = saved.owner;
		cache.tracked = saved.tracked;
		ASSIGN_MARKER(cache.marker, saved.marker);
		saved.owner = 0;
		saved.tracked = 0;
		CLEAR_MARKER(saved.marker);
		look_again();
		printf("cache: goes back to that moment\n") }
#endif
#if CRASHES > 0
	:: atomic { crashes > 0 ->
		crashes--;
		printf("PostgreSQL: crashes, and recovers up to %d\n", wal_flushed);
		recover(wal_flushed) }
#endif
#if FAILOVERS > 0
	:: atomic { failovers > 0 && wal_flushed > 0 && MOMENT ->
		failovers--;
		a = wal_flushed;
		do
		:: a > 0 -> a--
		:: break
		od;
		printf("PostgreSQL: a standby that has the WAL up to %d is promoted\n", a);
		branched[timeline] = a;
		timeline++;
		recover(a) }
#endif
#if DISKS > 0
	:: atomic { disks > 0 && wal_flushed > 0 ->
		disks--;
		a = wal_flushed;
		do
		:: a > 0 -> a--
		:: break
		od;
		printf("PostgreSQL: the disk goes back to when the WAL ended at %d\n", a);
		recover(a) }
#endif
	od
}

/* ---------- at rest ---------- */

#define TX_RESTS(t)	((tx[t] == IDLE || tx[t] >= RETURNED) && feed[t] == UNREAD)
#define AT_REST	\
	(phase == RUN && readable && looked && !filling && !putting && empty(wire) && \
	 read_to == wal_end && position == wal_end && wal_flushed == wal_end && \
	 marker_acked == position && TX_RESTS(0) && TX_RESTS(TXS - 1) && (TXS < 3 || TX_RESTS(1)))

proctype Observer()
{
	byte k;
end:
	do
	:: d_step { AT_REST ->
		for (k : 0 .. KEYS - 1) {
			if
			:: cache.value[k] != ABSENT && cache.value[k] != table[k] ->
				wrong_at_rest = true;
				printf("at rest: key %d is v%d in the cache, v%d in the table\n",
					   k, cache.value[k], table[k])
			:: else
			fi
		}
		k = 0;
		assert(!wrong_at_rest) }
	:: atomic { AT_REST && tx[0] == RETURNED && cache.value[0] == table[0] ->
		printf("reached: rest\n") }
	od
}
