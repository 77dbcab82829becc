# measure.sh - rounds in turns, medians and ratios
#
# Sourced by test/bench/run, before the benchmarks, which are one file each. A benchmark makes its
# tables with "sql", its sides with "side" or "program", and calls "compare" or "compare_latency".
#
# A side is a pgbench script in $run/bench, or a command; what a round of it said is appended to a
# file of its own, a line a round, so that round N of one side is measured next to round N of the
# other.

sql()
{
	as_user psql -XqAt -v ON_ERROR_STOP=1 -c "$1" || fail "could not prepare a benchmark"
}

# side NAME LABEL SCRIPT: makes a side. What is then written to NAME.options is PGOPTIONS of its
# rounds.
side()
{
	rm -f "$run/bench/$1".*
	printf '%s\n' "$2" >"$run/bench/$1.label"
	printf '%s\n' "$3" >"$run/bench/$1.sql"
}

# program NAME LABEL COMMAND...: makes a side of a command, which gets the seconds as one argument
# more, and prints how many a second it has done.
program()
{
	rm -f "$run/bench/$1".*
	printf '%s\n' "$2" >"$run/bench/$1.label"
	name=$1
	shift 2
	printf '%s\n' "$*" >"$run/bench/$name.command"
}

label() { cat "$run/bench/$1.label"; }

# pgbench_round SIDE SECONDS OPTION...: prints what pgbench says.
pgbench_round()
{
	script=$run/bench/$1.sql
	shift
	length=$1
	shift
	as_user pgbench -n -M prepared -T "$length" -f "$script" "$@" 2>&1 ||
		fail "pgbench failed with $script"
}

tps() { sed -n 's/^tps = \([0-9.]*\).*/\1/p'; }

# per_second SIDE SECONDS: one round.
per_second()
{
	if [ -f "$run/bench/$1.command" ]; then
		as_user $(cat "$run/bench/$1.command") "$2" || fail "failed: $(cat "$run/bench/$1.command")"
	else
		options=${PGOPTIONS-}
		[ ! -f "$run/bench/$1.options" ] || options=$(cat "$run/bench/$1.options")
		threads=$((sessions < 2 ? sessions : 2))
		said=$(export PGOPTIONS="$options"
			pgbench_round "$1" "$2" -c "$sessions" -j "$threads") || {
			printf '%s\n' "$said" >&2
			exit 1
		}
		case $said in
			*WARNING:*) fail "a round of $1 was warned: $said" ;;
		esac
		printf '%s\n' "$said" | tps
	fi
}

# Called after each round of "compare"; a benchmark can have another one.
after_round() { :; }

# median_of COLUMN FILE: of the numbers in that column.
median_of()
{
	cut -d' ' -f"$1" "$2" | sort -g |
		awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

# ratios COLUMN FILE_A FILE_B: "median (least..most)" of the ratios A/B, round by round.
ratios()
{
	paste -d' ' "$2" "$3" | awk -v c="$1" '{ h = NF / 2; print $c / $(c + h) }' >"$run/bench/ratios"
	printf '%.2f (%.2f..%.2f)' "$(median_of 1 "$run/bench/ratios")" \
		"$(sort -g "$run/bench/ratios" | head -n 1)" "$(sort -g "$run/bench/ratios" | tail -n 1)"
}

heading()
{
	printf '\n%-14s  %-30s %-30s %10s %10s  %s\n' benchmark A B A B "A/B (least..most)"
}

# row NAME COLUMN SIDE_A SIDE_B UNIT DIGITS
row()
{
	printf '%-14s  %-30s %-30s %10.*f %10.*f  %s  %s\n' "$1" "$(label "$3")" "$(label "$4")" \
		"$6" "$(median_of "$2" "$run/bench/$3.rounds")" \
		"$6" "$(median_of "$2" "$run/bench/$4.rounds")" \
		"$(ratios "$2" "$run/bench/$3.rounds" "$run/bench/$4.rounds")" "$5"
}

# compare NAME SIDE_A SIDE_B...: transactions a second; a row for each B. PGOPTIONS of the caller
# reach pgbench.
compare()
{
	name=$1
	shift
	for s; do
		rm -f "$run/bench/$s.rounds"
		per_second "$s" 1 >/dev/null	# warms up
		after_round "$s"
	done
	round=0
	while [ "$round" -lt "$rounds" ]; do
		round=$((round + 1))
		for s; do
			per_second "$s" "$seconds" >>"$run/bench/$s.rounds"
			after_round "$s"
		done
	done
	first=$1
	shift
	for s; do
		row "$name" 1 "$first" "$s" "per second" 0
	done
}

# percentiles: prints p50 and p99, in ms, of pgbench's logs of one round, and the number of
# transactions. The times count from the moment at which a transaction was due, so that a slow one
# delays those behind it.
percentiles()
{
	cat "$run/bench/log."* | cut -d' ' -f3 | sort -g |
		awk '{ v[NR] = $1 }
			END {
				print v[int((NR - 1) * 0.50) + 1] / 1000, v[int((NR - 1) * 0.99) + 1] / 1000, NR
			}'
	rm -f "$run/bench/log."*
}

# compare_latency NAME RATE SIDE_A SIDE_B, with 64 sessions
compare_latency()
{
	name=$1
	rate=$2
	shift 2
	for s; do
		rm -f "$run/bench/$s.rounds"
		pgbench_round "$s" 1 -c 64 -j 2 >/dev/null
	done
	round=0
	while [ "$round" -lt "$rounds" ]; do
		round=$((round + 1))
		for s; do
			pgbench_round "$s" "$seconds" -c 64 -j 2 --rate "$rate" \
				--log --log-prefix="$run/bench/log" >/dev/null
			percentiles >>"$run/bench/$s.rounds"
		done
	done
	row "$name" 1 "$1" "$2" "ms, p50" 3
	row "$name" 2 "$1" "$2" "ms, p99" 3
}

# hits ENTITY: how many fetches it has served from the local tier so far; nothing if not known.
hits()
{
	as_user psql -XqAt -c "SELECT local_hits FROM cachekit.stat_entities WHERE name = '$1'" \
		2>/dev/null
}

# make_users NAME: a table with rows of eight columns, the ids 1 to 10,000.
make_users()
{
	sql "CREATE TABLE $1 (id int PRIMARY KEY, name text NOT NULL, email text NOT NULL,
			city text, created_at timestamptz NOT NULL, score numeric, active bool, bio text);
		INSERT INTO $1 SELECT i, 'user ' || i, 'user' || i || '@example.org',
			'city ' || i % 100, '2024-01-01 UTC'::timestamptz + i * interval '1 minute',
			i / 7.0, i % 3 = 0, repeat('word ' || i % 10 || ' ', 20)
			FROM generate_series(1, 10000) i"
	sql "VACUUM ANALYZE $1"
}

# users: the table that several benchmarks read, attached, with all of its rows in the local tier.
users()
{
	[ -z "$(sql "SELECT to_regclass('users')")" ] || return 0
	make_users users
	sql "SELECT cachekit.attach('users')" >/dev/null
	sql "SELECT count(cachekit.fetch('users', id)) FROM users" >/dev/null
}
