# suites.sh - how each suite of test/check is run and counted
#
# Sourced by test/check, after the other files here; the working folder is $work/tree. A job is a
# part of a suite that can run beside others: the suite itself, or one TAP file ("tap/001_name").
# run_job runs one and leaves, below $work/results,
#
#   JOB.counts    "PASSED FAILED"
#   JOB.details   what to look at, when something failed
#
# A job that could not run, was ended after $job_limit seconds, skipped tests or ran none counts
# as a failed test: a missing server or package must not look like success.

job_limit=600
# The sanitizers come with our library into a server that was built without them: they see what it
# does to its globals and to what it has from malloc (the drivers' buffers), and its arithmetic, not
# what it does to palloc's memory or to the stack. That is what "fuzz" and "valgrind" are for.
export ASAN_OPTIONS=verify_asan_link_order=0:detect_leaks=0:abort_on_error=1
export UBSAN_OPTIONS=print_stacktrace=1
# TAP files that the suite "sanitize" runs: what reads replies and records, and who is lied to.
sanitized_tests="020_redis 022_redis_liar 028_redis_hostile 040_conformance 041_memcached
	044_memcached_liar 050_refresh 051_fetch_many"
pgxs=$("$PG_CONFIG" --pgxs)
pg_test=${pgxs%/src/makefiles/pgxs.mk}/src/test

# names FOLDER SUFFIX: the files there, sorted, without folder and suffix.
names()
{
	for file in "$1"/*"$2"; do
		[ -e "$file" ] || continue
		file=${file##*/}
		printf '%s\n' "${file%"$2"}"
	done
}

# jobs_of SUITE: prints its jobs. Longest first is best, because two run at a time.
jobs_of()
{
	case $1 in
		tap) names test/t .pl | sed 's,^,tap/,' ;;
		mutants) [ ! -x test/mutants ] || echo mutants ;;
		model) [ -z "$(names test/model .pml)" ] || echo model ;;
		drivers) [ -z "$(names test/drivers .py)" ] || echo drivers ;;
		regress | release) [ -z "$(names sql .sql)" ] || echo "$1" ;;
		sanitize) echo sanitize sanitize/isolation; printf 'sanitize/%s\n' $sanitized_tests ;;
		fuzz | valgrind) echo "$1" ;;
		*/*) echo "$1" ;;
		isolation) [ -z "$(names test/specs .spec)" ] || echo isolation ;;
		pgtap) [ -z "$(names test/pgtap .sql)" ] || echo pgtap ;;
	esac
}

# flavour_of SUITE: the build that it tests, if any.
flavour_of()
{
	case $1 in
		model) ;;
		release | sanitize) echo "$1" ;;
		fuzz) ;;					# builds for itself
		*) echo debug ;;
	esac
}

# run_job JOB: as said above; false when a test failed. The server's settings are chosen so that
# it loads the right build.
run_job()
{
	job=$1
	dir=$run/$(printf '%s' "$job" | tr / -)
	log=$logs/${dir##*/}
	build=$(flavour_of "${job%%/*}")
	conf=$work/$build-server.conf
	details=$work/results/$job.details
	mkdir -p "${details%/*}"

	case $job in
		regress | release | sanitize) job_regress "$job" ;;
		isolation | sanitize/isolation) job_isolation ;;
		sanitize/*) job_tap "test/t/${job#sanitize/}.pl" ;;
		fuzz) job_fuzz ;;
		valgrind) job_valgrind $(names sql .sql) ;;
		valgrind/*) job_valgrind "${job#valgrind/}" ;;
		tap/*) job_tap "test/t/${job#tap/}.pl" ;;
		pgtap) job_pgtap ;;
		drivers) job_drivers ;;
		mutants) job_mutants ;;
		model) job_model ;;
	esac
	status=$?

	case $job in
		regress | release | sanitize | isolation | sanitize/isolation | valgrind*)
			counts=$(count_regress "$log") ;;
		*) counts=$(count_tap "$log") ;;
	esac
	case $job in
		sanitize*) findings "$dir" ;;
		valgrind*) memcheck_findings "$dir/memcheck" ;;
		*) false ;;
	esac >>"$details" && counts="${counts% *} $((${counts#* } + 1))"
	if [ "$status" = 124 ] || [ "$status" = 137 ]; then
		say "ended after $job_limit seconds" >>"$details"
	fi
	case $counts in
		"0 0") say "ran no test (status $status)" >>"$details"; counts="0 1" ;;
		*" 0") [ "$status" = 0 ] || {
				say "ended with status $status" >>"$details"
				counts="${counts% 0} 1"
			} ;;
	esac
	say "$counts" >"$work/results/$job.counts"
	[ "${counts#* }" = 0 ] || { explain >>"$details"; return 1; }
}

# limited COMMAND...: as the test user, for a limited time.
limited()
{
	as_user timeout -k 30 "$job_limit" "$@"
}

# count_regress LOG: counts the cases in the output of pg_regress, of 15 or, as TAP, of later ones.
count_regress()
{
	awk '/ \.\.\. ok / || /^ok /					{ passed++ }
		/ \.\.\. (FAILED|failed)/ || /^not ok /		{ failed++ }
		END { print passed + 0, failed + 0 }' "$1"
}

# count_tap LOG: counts the tests in TAP; of subtests, the whole.
count_tap()
{
	awk 'tolower($0) ~ /^ok.*# *skip/ || /^1\.\.0/	{ failed++; next }
		/^ok ./											{ passed++ }
		/^not ok/ && tolower($0) !~ /# *todo/			{ failed++ }
		END { print passed + 0, failed + 0 }' "$1"
}

# explain: prints what helps to find the cause of the failure of the current job.
explain()
{
	for file in "$dir/regression.diffs" "$dir"/*/regression.diffs; do
		[ ! -s "$file" ] || { say "--- ${file##*/}"; head -n 150 "$file"; }
	done
	say "--- end of ${log##*/}"
	grep -viE '^ok([^#]|$)*$' "$log" | tail -n 30	# a skipped test is worth a line
	[ ! -s "$log.err" ] || { say "--- end of its stderr"; tail -n 60 "$log.err"; }
	for file in "$dir"/tmp_check/log/regress_log_*; do
		[ ! -s "$file" ] || { say "--- end of ${file##*/}"; tail -n 15 "$file"; }
	done
	grep -rhE 'PANIC:|TRAP:|terminated by signal' "$dir" --include='*log*' | sort -u | head -n 20
	findings "$dir"
}

# findings DIR: prints what the sanitizers have found; false when that is nothing. A server that
# was ended by one may have come back before the test noticed.
findings()
{
	grep -rhE 'AddressSanitizer|runtime error:' "$1" --include='*log*' | sort -u | head -n 20 |
		grep .
}

# --- the suites; each returns the status of its program ---

# regress_options: prepares for pg_regress and pg_isolation_regress, whose servers listen on a
# socket in a private folder only, and sets $options.
regress_options()
{
	as_user mkdir -p "$dir/s" || return
	PG_REGRESS_SOCK_DIR=$dir/s
	export PG_REGRESS_SOCK_DIR
	options="--outputdir=$dir --temp-instance=$dir/instance --temp-config=$conf --bindir=$pg_bin
		--no-locale --encoding=UTF8"
	# Since 16, the folder of the expected files is an option of its own.
	if "$pg_test/regress/pg_regress" --help | grep -q expecteddir; then
		options="$options --expecteddir=$1"
	fi
}

job_regress()
{
	[ "$1" != release ] || conf=$work/tree/test/cachekit.conf	# what is installed
	regress_options . || return
	limited "$pg_test/regress/pg_regress" --inputdir=. --dbname=contrib_regression $options \
		$(names sql .sql) >"$log" 2>"$log.err"
}

job_isolation()
{
	regress_options test || return
	limited "$pg_test/isolation/pg_isolation_regress" --inputdir=test \
		--dbname=isolation_regression $options $(names test/specs .spec) >"$log" 2>"$log.err"
}

# prove_here ARGUMENT...: prove, with what PostgreSQL's own TAP modules expect to be told.
prove_here()
{
	as_user mkdir -p "$dir" "$run/ports" || return
	limited env TESTDIR="$dir" TESTDATADIR="$dir/data" TESTLOGDIR="$dir/log" \
		PG_REGRESS="$pg_test/regress/pg_regress" PG_TEST_PORT_DIR="$run/ports" \
		TEMP_CONFIG="$work/$build.conf" \
		PERL5LIB="$work/tree/test/perl:$pg_test/perl" \
		prove --norc --verbose --nocolor "$@" >>"$log" 2>>"$log.err"
}

# The schema that one of them loads comes from a package that is not installed.
job_tap()
{
	CACHEKIT_LEDGERSMB=
	if [ "$1" = test/t/053_real_schema.pl ]; then
		CACHEKIT_LEDGERSMB=$run/ledgersmb
		: >"$log"
		unpack_package ledgersmb "$CACHEKIT_LEDGERSMB" 2>"$log.err" || return
	fi
	export CACHEKIT_LEDGERSMB
	prove_here "$1"
}

# The fuzz targets are built by the suite itself, from the tree.
job_fuzz()
{
	prove_here --exec sh test/fuzz/check
}

# job_valgrind NAME...: these of regress, with every process of the server under memcheck. A server that was built with
# -DUSE_VALGRIND (README.md) tells it of palloc's chunks; another one, of malloc's blocks only.
job_valgrind()
{
	as_user mkdir -p "$dir/bin" "$dir/memcheck" &&
		as_user ln -s "$pg_bin"/* "$dir/bin/" &&
		as_user rm "$dir/bin/postgres" || return
	cat >"$dir/bin/postgres" <<-END
		#!/bin/sh
		exec valgrind --quiet --log-file=$dir/memcheck/%p --fullpath-after= --num-callers=30 \\
			--suppressions=$work/tree/test/lib/valgrind.supp \\
			"$pg_bin/postgres" "\$@"
	END
	chmod 755 "$dir/bin/postgres"
	# Outputs may differ where a test has time limits; what counts is what memcheck finds.
	(
		job_limit=7200
		pg_bin=$dir/bin
		regress_options . &&
			limited env PGCTLTIMEOUT=600 "$pg_test/regress/pg_regress" --inputdir=. \
				--dbname=contrib_regression $options "$@" >"$log" 2>"$log.err"
	)
}

# memcheck_findings DIR: prints the errors that have a frame of ours; false when there is none.
# Processes without a log were not watched, so there must be one.
memcheck_findings()
{
	[ -n "$(ls "$1")" ] || { say "memcheck has written nothing"; return; }
	cat "$1"/* | sed 's/^==[0-9]*== *//' |
		awk -v RS= -v ours="$work/build/" 'index($0, ours) { print $0 "\n" }' |
		head -n 200 | grep .
}

# The mutants run other suites with a guard switched off. Besides what a TAP test is told, they
# need what job_regress and job_isolation know: settings of a server, programs, a socket's folder.
# With arguments: only those guards.
job_mutants()
{
	CACHEKIT_CONF=$conf
	PG_ISOLATION_REGRESS=$pg_test/isolation/pg_isolation_regress
	PG_REGRESS_SOCK_DIR=$dir
	export CACHEKIT_CONF PG_ISOLATION_REGRESS PG_REGRESS_SOCK_DIR
	if [ $# -gt 0 ]; then set -- :: "$@"; fi
	prove_here --exec env test/mutants "$@"
}

job_model()
{
	as_user mkdir -p "$dir" || return
	limited env TESTDIR="$dir" sh test/model/run >"$log" 2>"$log.err"
}

# Each file in a database of its own, which has both extensions.
job_pgtap()
{
	start_cluster "$dir" "$conf" >>"$log.err" 2>&1 || return
	result=0
	for name in $(names test/pgtap .sql); do
		as_user psql -XqAt -v ON_ERROR_STOP=1 -c "CREATE DATABASE \"$name\"" &&
			as_user psql -XqAt -v ON_ERROR_STOP=1 -d "$name" \
				-c 'CREATE EXTENSION pgtap' -c 'CREATE EXTENSION cachekit' || {
				result=1
				continue
			}
		limited pg_prove --norc --verbose --nocolor -d "$name" "test/pgtap/$name.sql" || result=$?
	done >>"$log" 2>>"$log.err"
	stop_cluster "$dir" >>"$log.err" 2>&1 || result=1
	return "$result"
}

# In a database of their own; libpq's variables lead there.
job_drivers()
{
	start_cluster "$dir" "$conf" >>"$log.err" 2>&1 || return
	as_user psql -XqAt -v ON_ERROR_STOP=1 -c 'CREATE DATABASE drivers' >>"$log.err" 2>&1 || return
	export PGDATABASE=drivers
	as_user psql -XqAt -v ON_ERROR_STOP=1 -c 'CREATE EXTENSION cachekit' >>"$log.err" 2>&1 || return
	result=0
	limited prove --norc --verbose --nocolor --exec /usr/bin/python3 test/drivers/*.py \
		>>"$log" 2>>"$log.err" || result=$?
	stop_cluster "$dir" >>"$log.err" 2>&1 || result=1
	return "$result"
}
