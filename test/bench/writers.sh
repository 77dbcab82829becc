# writers.sh - what an attached table costs those who write to it, in the smallest transaction
#
# Each session updates one row by primary key; no two sessions the same row. The tables are equal,
# and A is attached. With synchronous_commit off nothing hides the work of the triggers.

[ -n "$(sql "SELECT to_regclass('accounts')")" ] ||
	for table in accounts accounts_plain; do
		sql "CREATE TABLE $table (id int PRIMARY KEY, branch int, balance int, filler char(84))
				WITH (fillfactor = 50);
			INSERT INTO $table SELECT i, i % 10, 0, '' FROM generate_series(1, $sessions * 10000) i"
		sql "VACUUM ANALYZE $table"
	done
sql "SELECT cachekit.attach('accounts')" >/dev/null

side write_cached "attached" '\set id :client_id * 10000 + random(1, 10000)
UPDATE accounts SET balance = balance + 1 WHERE id = :id;'
side write_plain "not attached" '\set id :client_id * 10000 + random(1, 10000)
UPDATE accounts_plain SET balance = balance + 1 WHERE id = :id;'

for mode in on off; do
	PGOPTIONS="-c synchronous_commit=$mode"
	export PGOPTIONS
	printf 'attached, sync commit %s\n' "$mode" >"$run/bench/write_cached.label"
	sql "CHECKPOINT"
	compare writers write_cached write_plain
done
unset PGOPTIONS
