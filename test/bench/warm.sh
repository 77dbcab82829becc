# warm.sh - a million rows by cachekit.warm(), into the local tier and into Redis
#
# Documents a second, as warm_progress has them: with an entity that has only a local tier, one that
# has only Redis, and one that has both.

warm_round()
{
	sql "SELECT cachekit.attach('warmed', servers => '$1', local => $2)" >/dev/null
	sql "CALL cachekit.warm('warmed', restart => true)" 2>"$run/bench/warm.said"
	! grep -E 'WARNING|ERROR' "$run/bench/warm.said" >&2 || fail "it was not all stored"
	sql "SELECT pg_catalog.round(rate) FROM cachekit.warm_progress WHERE name = 'warmed'"
}

cache_server redis
sql "CREATE TABLE warmed (id int PRIMARY KEY, name text NOT NULL, score int);
	INSERT INTO warmed SELECT i, 'name ' || i, i % 100 FROM generate_series(1, 1000000) AS i" ||
	fail "could not make the table"
sql "VACUUM ANALYZE warmed"
sql "SELECT cachekit.attach('warmed')" >/dev/null
for where in '{}:true:local tier' '{hot}:false:Redis' '{hot}:true:local tier and Redis'; do
	round=0
	rm -f "$run/bench/warm.rounds"
	while [ "$round" -lt "$rounds" ]; do
		round=$((round + 1))
		warm_round "${where%%:*}" "$(echo "$where" | cut -d: -f2)" >>"$run/bench/warm.rounds"
	done
	printf '%-14s  %-61s %10.0f documents a second\n' warm "1,000,000 rows, ${where##*:}" \
		"$(median_of 1 "$run/bench/warm.rounds")"
done
sql "SELECT cachekit.detach('warmed'); DROP TABLE warmed" >/dev/null
