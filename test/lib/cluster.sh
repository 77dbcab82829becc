# cluster.sh - throw-away PostgreSQL clusters, and free ports for other servers
#
# Sourced by test/check and test/demo, after common.sh.

# start_cluster DIR CONF: makes a cluster in the new folder DIR, which must be below $run, with the
# settings in CONF, and starts it. It listens on a socket in DIR only. The environment then leads
# every client there, as the superuser "postgres". close_workshop ends it, if nobody did before.
start_cluster()
{
	as_user mkdir -p "$1" &&
		as_user initdb -N -A trust -U postgres -E UTF8 --no-locale -D "$1/data" \
			>"$logs/initdb-${1##*/}" &&
		as_user sh -c 'printf "%s\n" "$2" >>"$1/data/postgresql.conf"' sh "$1" "include '$2'
listen_addresses = ''
unix_socket_directories = '$1'" &&
		as_user pg_ctl start -s -w -D "$1/data" -l "$1/log" || {
			[ ! -f "$1/log" ] || tail -n 20 "$1/log"
			return 1
		}
	export PGHOST="$1" PGPORT=5432 PGUSER=postgres PGDATABASE=postgres
}

# stop_cluster DIR
stop_cluster()
{
	as_user pg_ctl stop -s -w -m fast -D "$1/data"
}

# free_port: prints a TCP port of the loopback interface that nobody listens on now.
free_port()
{
	/usr/bin/python3 -c '
import socket
with socket.socket() as s:
    s.bind(("127.0.0.1", 0))
    print(s.getsockname()[1])'
}
