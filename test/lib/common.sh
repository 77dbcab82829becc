# common.sh - the private folder of a run, its unprivileged user, and its end
#
# Sourced by test/check and test/demo, which set $top (the checkout). PostgreSQL refuses to run as
# root and the checkout may be unreadable to anybody else, so everything runs in a private folder:
#
#   $work        made by open_workshop; belongs to the caller, others may pass through it
#   $work/run    belongs to the test user: instances, sockets, results, its home and its TMPDIR
#   $work/logs   one file or more for each step
#
# Whatever happens, close_workshop ends the servers that were started, and only them, and removes
# the folder. It runs from the EXIT trap; signals end the script through it.

# Nothing of the caller's environment may reach a test: its PostgreSQL settings, its "make", its
# Perl or Python. Only Debian's own programs are on the path.
PG_MAJOR=${PG_MAJOR:-15}
pg_bin=${PG_BIN:-/usr/lib/postgresql/$PG_MAJOR/bin}
PG_CONFIG=$pg_bin/pg_config
PATH=$pg_bin:/usr/sbin:/usr/bin:/sbin:/bin
for name in $(env | sed -n 's/^\(PG[A-Z]*\|PERL[0-9A-Z_]*\|PYTHON[A-Z]*\|LC_[A-Z]*\)=.*/\1/p')
do
	unset "$name"
done
unset LANGUAGE MAKEFLAGS MAKELEVEL MFLAGS MAKEOVERRIDES CFLAGS CPPFLAGS LDFLAGS COPT TEMP_CONFIG
export PG_MAJOR PATH LANG=C.UTF-8
umask 022

work=
lanes=			# process ids of background shells of ours, to be ended first
keep=			# not empty: close_workshop leaves the folder
if [ "$(id -u)" = 0 ]; then SUDO=; else SUDO=sudo; fi

say() { printf '%s\n' "$*"; }

# Redefined by a script that has more to say at its end.
fail() { say "$*" >&2; exit 1; }

# need_root WHAT: explains what cannot be done when there is no way to become root.
need_root()
{
	[ -z "$SUDO" ] || command -v sudo >/dev/null ||
		fail "$1 needs root: run this as root, or install sudo"
}

# open_workshop: makes the private folder, chooses the test user and arms the traps. The packages
# must be there already: the user "postgres" comes with them.
open_workshop()
{
	trap close_workshop EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM
	# Not $TMPDIR: others might not reach it, and socket paths must be short.
	work=$(mktemp -d /tmp/cachekit.XXXXXX) || fail "could not make a folder in /tmp"
	chmod 711 "$work"
	run=$work/run
	logs=$work/logs
	mkdir "$run" "$logs" "$run/home" "$run/tmp"

	if [ -n "$SUDO" ]; then
		test_user=$(id -un)
	elif id -u postgres >/dev/null 2>&1; then
		test_user=postgres
	else
		test_user=nobody
	fi
	test_uid=$(id -u "$test_user")
	test_gid=$(id -g "$test_user")
	chown -R "$test_uid:$test_gid" "$run"
	chmod 700 "$run"
}

# as_user COMMAND...: runs it as the test user. Shells start background jobs with SIGINT ignored,
# which programs inherit and some obey; "env" gives it back.
as_user()
{
	if [ -n "$SUDO" ]; then
		env --default-signal=INT,QUIT HOME="$run/home" TMPDIR="$run/tmp" \
			CACHEKIT_WORK="$work" "$@"
	else
		env --default-signal=INT,QUIT HOME="$run/home" TMPDIR="$run/tmp" \
			CACHEKIT_WORK="$work" USER="$test_user" LOGNAME="$test_user" \
			setpriv --reuid="$test_uid" --regid="$test_gid" --clear-groups -- "$@"
	fi
}

# ours: prints the ids of the processes that came from as_user: what carries our folder's name in
# its environment (unset while a PostgreSQL process shows its status there), or works below it.
ours()
{
	{
		grep -lzx "CACHEKIT_WORK=$work" /proc/[0-9]*/environ
		find /proc/[0-9]*/cwd -maxdepth 0 -lname "$work/*"
	} 2>/dev/null | cut -d/ -f3 | sort -u
}

# end_ours SIGNAL: sends it to all of them and waits for their end, ten seconds for each at most.
end_ours()
{
	pids=$(ours)
	for pid in $pids; do
		kill -s "$1" "$pid" 2>/dev/null
	done
	for pid in $pids; do
		timeout 10 tail -s 0.1 -f /dev/null --pid="$pid"
	done
}

close_workshop()
{
	status=$?
	trap '' HUP INT TERM
	trap - EXIT
	cd /
	for pid in $lanes; do
		kill "$pid" 2>/dev/null
	done
	if [ -n "$work" ] && [ -d "$work" ]; then
		# First PostgreSQL, in its own way: killed, it would leave shared memory behind.
		find "$work" -name postmaster.pid 2>/dev/null | while read -r file; do
			as_user "$pg_bin/pg_ctl" stop -s -m immediate -t 20 -D "${file%/*}"
		done >/dev/null 2>&1
		end_ours TERM
		end_ours KILL
		if [ -n "$keep" ]; then say "kept: $work"; else rm -rf "$work"; fi
	fi
	exit "$status"
}
