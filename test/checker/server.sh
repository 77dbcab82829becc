# server.sh - the private server of the history checker and of the benchmarks
#
# Sourced by test/checker/run, test/checker/crash, test/torture/run and test/bench/run, which set
# $top (the checkout) and source test/lib/common.sh before.

# prepare_build FLAVOUR WHERE: makes the private folder. WHERE is a file with the settings by which a
# server finds a build of cachekit; when it is empty, the checkout is built in the private folder,
# and $where becomes the file of that build.
prepare_build()
{
	flavour=$1
	where=$2
	if [ -n "$where" ]; then
		[ -r "$where" ] || fail "could not read $where"
		open_workshop
	else
		. "$top/test/lib/packages.sh"
		. "$top/test/lib/build.sh"
		install_packages
		open_workshop
		copy_tree
		build_flavour "$flavour" || {
			tail -n 40 "$logs/build-$flavour" >&2
			fail "could not build cachekit"
		}
		where=$work/$flavour.conf
	fi
}

# prepare_server FLAVOUR WHERE [SETTING...]: the same, and starts a throw-away cluster that preloads
# cachekit. The environment then leads every client there.
prepare_server()
{
	prepare_build "$1" "$2"
	shift 2
	. "$top/test/lib/cluster.sh"
	{
		cat "$where"
		printf '%s\n' "shared_preload_libraries = 'cachekit'" "timezone = 'UTC'" \
			"max_connections = 200" "log_line_prefix = '%m [%p] %q%a '" "$@"
	} >"$work/server.conf"
	chmod 644 "$work/server.conf"
	cd "$work" || fail "could not use the private folder"
	start_cluster "$run/pg" "$work/server.conf" || fail "could not start the server"
}

# build_checker [PROGRAM]: makes $run/checker/PROGRAM (the checker), as the test user.
build_checker()
{
	as_user mkdir "$run/checker" &&
		cp "$top"/test/checker/*.[ch] "$top/test/checker/Makefile" "$run/checker" &&
		as_user make -s -C "$run/checker" PG_CONFIG="$PG_CONFIG" "${1:-checker}" >"$logs/build-checker" 2>&1 || {
			cat "$logs/build-checker" >&2
			fail "could not build the history checker"
		}
}

# faults: prints what the server's log says of crashes that nobody asked for.
faults()
{
	grep -E 'PANIC:|TRAP:|AddressSanitizer|runtime error:|signal (6|7|8|11):' "$run/pg/log"
}
