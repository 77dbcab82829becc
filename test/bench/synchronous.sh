# synchronous.sh - what it costs a writer to wait until caches have heard of his change
#
# Each session updates one row by primary key; no two sessions the same row, all of one table, which
# is attached to a cache server and to no local tier. A commits with
# cachekit.synchronous_invalidation on, B with it off. With one session the wait is all there is;
# with several, one answer of the server serves many commits. The sender and the server work on the
# same processors.

setting=cachekit.synchronous_invalidation
[ "$(sql "SELECT count(*) FROM pg_settings WHERE name = '$setting'")" = 1 ] ||
	fail "synchronous: this build of cachekit has no setting $setting"

[ -n "$(sql "SELECT to_regclass('waited_for')")" ] || {
	sql "CREATE TABLE waited_for (id int PRIMARY KEY, branch int, balance int, filler char(84))
			WITH (fillfactor = 50);
		INSERT INTO waited_for SELECT i, i % 10, 0, '' FROM generate_series(1, $sessions * 10000) i"
	sql "VACUUM ANALYZE waited_for"
}
waiting_update='\set id :client_id * 10000 + random(1, 10000)
UPDATE waited_for SET balance = balance + 1 WHERE id = :id;'

# A round must not work off what the one before has left.
after_round() { delivered; }

# measure_waiting SESSIONS: one line.
measure_waiting()
{
	side waiting "$title, $1 sessions, on" "$waiting_update"
	side not_waiting "off" "$waiting_update"
	printf '%s\n' "-c $setting=on" >"$run/bench/waiting.options"
	printf '%s\n' "-c $setting=off" >"$run/bench/not_waiting.options"
	before=$(server_counter acknowledged)
	changed=$(entity_counter waited_for invalidations)
	reconnects=$(server_counter reconnects)
	sql "CHECKPOINT"
	all_sessions=$sessions sessions=$1
	compare synchronous waiting not_waiting >"$run/bench/lines"
	sessions=$all_sessions
	acknowledged=$(($(server_counter acknowledged) - before))
	changed=$(($(entity_counter waited_for invalidations) - changed))
	[ "$acknowledged" -ge "$changed" ] && [ "$changed" -gt 0 ] ||
		fail "$changed changes, but $acknowledged deletions: these numbers say nothing"
	[ "$(server_counter reconnects)" = "$reconnects" ] ||
		fail "the server was away: $(server_counter last_error): these numbers say nothing"
	cat "$run/bench/lines"
}

for k in $kinds; do
	cache_server "$k"
	sql "SELECT cachekit.attach('waited_for', servers => '{hot}', local => false)" >/dev/null
	delivered
	measure_waiting 1
	measure_waiting "$sessions"
done
after_round() { :; }
