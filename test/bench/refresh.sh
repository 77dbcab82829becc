# refresh.sh - from the return of COMMIT until a client of Redis finds the new document
#
# An entity with on_change => 'refresh', all of whose documents are in Redis. In the first line one
# session changes rows, 200 a second, and the client looks for each change (gone.c); in the second
# pgbench changes others at 5,000 a second all the while. A is the time until the new document is
# there, B a GET. The last line says how many documents were refreshed, and how many deleted instead.

cache_server redis
[ -n "$(sql "SELECT to_regclass('refreshed')")" ] || {
	sql "CREATE TABLE refreshed (id int PRIMARY KEY, n int) WITH (fillfactor = 50);
		INSERT INTO refreshed SELECT i, 0 FROM generate_series(1, 11000) i"
	sql "VACUUM ANALYZE refreshed"
}
sql "SELECT cachekit.attach('refreshed', servers => '{hot}', local => false, on_change => 'refresh')" >/dev/null
sql "CALL cachekit.warm('refreshed', restart => true)" >/dev/null 2>&1
delivered

for rate in 0 5000; do
	side refreshed "refreshed, $rate changes/s" '\set id random(1001, 11000)
UPDATE refreshed SET n = n + 1 WHERE id = :id;'
	side probe "GET" ""
	: >"$run/bench/watched"
	fallen=$(server_counter refreshes_fallen_back) stored=$(server_counter refreshes)
	round=0
	while [ "$round" -lt "$rounds" ]; do
		round=$((round + 1))
		[ "$rate" = 0 ] || {
			pgbench_round refreshed $((seconds + 2)) -c 4 -j 1 -R "$rate" >"$run/bench/changes" & load=$!
		}
		as_user "$run/bench/gone" 127.0.0.1 "$port" refreshed 1000 200 "$seconds" refreshed \
			>>"$run/bench/watched" || fail "the time until a key is refreshed could not be measured"
		[ "$rate" = 0 ] || wait "$load"
	done
	delivered
	cut -d' ' -f1,2 "$run/bench/watched" >"$run/bench/refreshed.rounds"
	cut -d' ' -f3,4 "$run/bench/watched" >"$run/bench/probe.rounds"
	row refresh 1 refreshed probe "ms, p50" 3
	row refresh 2 refreshed probe "ms, p99" 3
	say "                $(($(server_counter refreshes) - stored)) refreshed," \
		"$(($(server_counter refreshes_fallen_back) - fallen)) deleted instead;" \
		"$([ "$rate" = 0 ] || printf '%s other changes a second; ' "$(tps <"$run/bench/changes")")" \
		"absent before it came in $(median_of 7 "$run/bench/watched") of those looked for"
done
