# commit-to-gone.sh - from the return of COMMIT until a client of Redis finds no key
#
# One session, 200 transactions a second, each of which updates one row; gone.c says how it is
# measured. A is the time until the key is gone, B the same client's GET of a key that is there:
# A cannot be less than one GET. The client asks without a pause, on the same processors.

cache_server redis
[ -n "$(sql "SELECT to_regclass('watched')")" ] || {
	sql "CREATE TABLE watched (id int PRIMARY KEY, n int) WITH (fillfactor = 50);
		INSERT INTO watched SELECT i, 0 FROM generate_series(1, 1000) i"
	sql "VACUUM ANALYZE watched"
}
sql "SELECT cachekit.attach('watched', servers => '{hot}', local => false)" >/dev/null

# watch SECONDS: what gone.c prints.
watch()
{
	as_user "$run/bench/gone" 127.0.0.1 "$port" watched 1000 200 "$1" ||
		fail "the time until a key is gone could not be measured"
}

for mode in on off; do
	side gone "gone, sync commit $mode" ""
	side probe "GET" ""
	: >"$run/bench/watched"
	before=$(server_counter acknowledged)
	PGOPTIONS="-c synchronous_commit=$mode"
	export PGOPTIONS
	watch 1 >/dev/null
	round=0
	while [ "$round" -lt "$rounds" ]; do
		round=$((round + 1))
		watch "$seconds" >>"$run/bench/watched"
	done
	unset PGOPTIONS
	delivered
	acknowledged=$(($(server_counter acknowledged) - before))
	[ "$acknowledged" -ge $((200 * (1 + rounds * seconds))) ] ||
		fail "only $acknowledged deletions: these numbers say nothing"
	cut -d' ' -f1,2 "$run/bench/watched" >"$run/bench/gone.rounds"
	cut -d' ' -f3,4 "$run/bench/watched" >"$run/bench/probe.rounds"
	row commit-to-gone 1 gone probe "ms, p50" 3
	row commit-to-gone 2 gone probe "ms, p99" 3
	say "                $(median_of 5 "$run/bench/watched") updates a second; gone at the first" \
		"look in $(median_of 6 "$run/bench/watched") of them"
done
