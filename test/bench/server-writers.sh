# server-writers.sh - what a cache server costs those who write, in the smallest transaction
#
# Each session updates one row by primary key; no two sessions the same row. The tables are equal;
# A is attached to a cache server, without and with a local tier. The sender and Redis work on the
# same processors meanwhile. A round of the one side does not begin before all changes of the other
# have arrived in Redis; how far the sender was behind at the end of a round is said below the line.

cache_server redis
for table in served_accounts served_accounts_local served_accounts_plain; do
	[ -z "$(sql "SELECT to_regclass('$table')")" ] || continue
	sql "CREATE TABLE $table (id int PRIMARY KEY, branch int, balance int, filler char(84))
			WITH (fillfactor = 50);
		INSERT INTO $table SELECT i, i % 10, 0, '' FROM generate_series(1, $sessions * 10000) i"
	sql "VACUUM ANALYZE $table"
done
sql "SELECT cachekit.attach('served_accounts', servers => '{hot}', local => false)" >/dev/null
sql "SELECT cachekit.attach('served_accounts_local', servers => '{hot}')" >/dev/null

# update_of TABLE: the script of a side.
update_of()
{
	printf '%s\n' '\set id :client_id * 10000 + random(1, 10000)' \
		"UPDATE $1 SET balance = balance + 1 WHERE id = :id;"
}

side served_plain "not attached" "$(update_of served_accounts_plain)"

# Waits for the sender; says how many kB of WAL it had before it, and how many ms they took.
sql "CREATE OR REPLACE FUNCTION catch_up(OUT kb int8, OUT ms float8) LANGUAGE plpgsql AS \$\$
DECLARE
	begun CONSTANT timestamptz := clock_timestamp();
BEGIN
	kb := (SELECT lag_bytes / 1024 FROM cachekit.stat_servers);
	IF NOT cachekit.wait_for_delivery('2 min') THEN
		RAISE 'not delivered within two minutes';
	END IF;
	ms := 1000 * extract(epoch FROM clock_timestamp() - begun);
END \$\$"

after_round()
{
	[ "$1" = served_plain ] || sql "SELECT kb || ' ' || ms FROM catch_up()" >>"$run/bench/behind"
}

# measure_writers TABLE LABEL: both modes of synchronous_commit.
measure_writers()
{
	for mode in on off; do
		side served_write "$2, sync commit $mode" "$(update_of "$1")"
		: >"$run/bench/behind"
		before=$(server_counter acknowledged)
		changed=$(entity_counter "$1" invalidations)
		sql "CHECKPOINT"
		PGOPTIONS="-c synchronous_commit=$mode"
		export PGOPTIONS
		compare server-writers served_write served_plain >"$run/bench/lines"
		unset PGOPTIONS
		acknowledged=$(($(server_counter acknowledged) - before))
		changed=$(($(entity_counter "$1" invalidations) - changed))
		[ "$acknowledged" -ge "$changed" ] && [ "$changed" -gt 0 ] ||
			fail "$changed changes, but $acknowledged deletions: these numbers say nothing"
		cat "$run/bench/lines"
		say "                $acknowledged deletions; at the end of a round" \
			"$(median_of 1 "$run/bench/behind") kB and $(median_of 2 "$run/bench/behind") ms behind"
	done
}

measure_writers served_accounts "no local tier"
measure_writers served_accounts_local "local tier"
after_round() { :; }
