# drain.sh - a backlog of changed keys that waits for Redis, or for Memcached
#
# The server is stopped by SIGSTOP, with all keys in it. Then their rows are changed, in large
# transactions or each in its own, and the server goes on. A is how fast the keys are deleted, from the
# moment at which the sender has read the marker and begins to send until wait_for_delivery() says
# that all is done; so pauses between attempts to connect are not in it, the reading of the WAL is.
# B deletes the same keys with a plain client, which knows them beforehand: with Redis 500 in a
# command, with Memcached 500 commands in a write, and several of these ahead of the answers.

drained_rows=1000000

[ -n "$(sql "SELECT to_regclass('drained')")" ] || {
	sql "CREATE TABLE drained (id int PRIMARY KEY, n int) WITH (fillfactor = 50);
		INSERT INTO drained SELECT i, 0 FROM generate_series(1, $drained_rows) i"
	sql "VACUUM ANALYZE drained"
}

# Waits for the sender; says how many seconds it took until it began, how many from then on until
# all was delivered, and how often it was disconnected meanwhile.
sql "CREATE OR REPLACE FUNCTION watch_drain(OUT waited float8, OUT drained float8, OUT faults int8)
LANGUAGE plpgsql AS \$\$
DECLARE
	started CONSTANT timestamptz := clock_timestamp();
	began timestamptz;
BEGIN
	WHILE (SELECT state NOT IN ('replaying', 'ready') FROM cachekit.stat_servers) LOOP
		PERFORM pg_sleep(0.001);
	END LOOP;
	began := clock_timestamp();
	faults := (SELECT reconnects FROM cachekit.stat_servers);
	IF NOT cachekit.wait_for_delivery('5 min') THEN
		RAISE 'not delivered within five minutes';
	END IF;
	waited := extract(epoch FROM began - started);
	drained := extract(epoch FROM clock_timestamp() - began);
	faults := (SELECT reconnects FROM cachekit.stat_servers) - faults;
END \$\$"

watch_has_begun()
{
	[ "$(sql "SELECT count(*) FROM pg_stat_activity
		WHERE query LIKE '%FROM watch_drain()' AND wait_event = 'PgSleep'")" = 1 ]
}

# keys_left KEYS WANTED: stops the measurement when another number of them is in Redis.
keys_left()
{
	left=$(raw exists postgres:drained: "$1") || exit 1
	[ "$left" = "$2" ] || fail "$left keys are in $title instead of $2: these numbers say nothing"
}

# put_keys KEYS: all of them are in Redis.
put_keys()
{
	raw set postgres:drained: "$1"
	keys_left "$1" "$1"
}

# change_keys KEYS EACH: changes their rows, EACH of them a transaction; prints the MB of WAL.
change_keys()
{
	begun=$(sql "SELECT pg_current_wal_insert_lsn()")
	PGOPTIONS="-c synchronous_commit=off" sql "DO \$\$
		BEGIN
			FOR low IN 0..$(($1 - 1)) BY $2 LOOP
				UPDATE drained SET n = n + 1 WHERE id > low AND id <= low + $2;
				COMMIT;
			END LOOP;
		END \$\$"
	sql "SELECT round((pg_current_wal_insert_lsn() - '$begun') / 1024 / 1024)"
}

# drain_once KEYS EACH: prints what watch_drain() says, and the MB of WAL.
drain_once()
{
	delivered					# attach() flushes the entity
	put_keys "$1"
	acknowledged=$(server_counter acknowledged)
	flushes=$(server_counter flushes)
	kill -STOP "$cache_pid"
	wait_until server_is connecting || fail "the sender did not notice that $title has stopped"
	wal=$(change_keys "$1" "$2")
	sql "SELECT waited || ' ' || drained || ' ' || faults FROM watch_drain()" >"$run/bench/watch" &
	watcher=$!
	wait_until watch_has_begun || fail "the drain could not be watched"
	kill -CONT "$cache_pid"
	wait "$watcher" || fail "the backlog was not drained"
	keys_left "$1" 0
	[ "$(server_counter flushes)" = "$flushes" ] ||
		fail "the cache was flushed, not drained: $(server_counter last_error)"
	[ $(($(server_counter acknowledged) - acknowledged)) -ge "$1" ] ||
		fail "fewer than $1 deletions: these numbers say nothing"
	say "$(cat "$run/bench/watch") $wal"
}

# measure_drain KEYS EACH LABEL
measure_drain()
{
	side drain "$title, $3" ""
	side raw_del "deletes by a plain client" ""
	round=0
	while [ "$round" -lt "$rounds" ]; do
		round=$((round + 1))
		drain_once "$1" "$2" >>"$run/bench/drain.notes"
		put_keys "$1"
		raw del postgres:drained: "$1" >>"$run/bench/raw_del.rounds"
		keys_left "$1" 0
	done
	awk -v n="$1" '{ print n / $2 }' "$run/bench/drain.notes" >"$run/bench/drain.rounds"
	row drain 1 drain raw_del "keys per second" 0
	say "                $(median_of 4 "$run/bench/drain.notes") MB of WAL; the sender began" \
		"$(median_of 1 "$run/bench/drain.notes") s after $title, and was disconnected" \
		"$(cut -d' ' -f3 "$run/bench/drain.notes" | sort -n | tail -n 1) times in a drain at most"
}

for k in $kinds; do
	cache_server "$k"
	sql "SELECT cachekit.attach('drained', servers => '{hot}', local => false)" >/dev/null
	measure_drain "$drained_rows" 1000 "1,000 a transaction"
	measure_drain $((drained_rows / 10)) 1 "1 a transaction"
done
