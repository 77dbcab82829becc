# servers.sh - a private Redis and a private Memcached, a cache server that leads to one of them, and
# the programs that ask them
#
# Sourced by test/bench/run, before the benchmarks. Each is started by the first benchmark that calls
# "cache_server" for it, and serves all of them: it listens on a free port of the loopback interface,
# saves nothing, and ends with the private folder.
#
# There is one cache server at a time, "hot", so that no second sender works on the same processors:
# $kind is its kind, $title its name for people, $port and $cache_pid are those of its process. A
# benchmark for both kinds is called once for each of $kinds.
#
# What a benchmark says of itself is worth nothing when its set-up went wrong: each checks by the
# counters and in the cache that it measured what it says, and stops when it did not.

kinds="redis memcached"
kind=
redis_port= redis_pid= memcached_port= memcached_pid=

# cache_server KIND: "hot" leads to a Redis or a Memcached, and nothing is attached to another one.
cache_server()
{
	[ "$kind" != "$1" ] || return 0
	build_programs
	if [ -n "$kind" ]; then
		sql "SELECT cachekit.detach(relation) FROM cachekit.entities WHERE servers <> '{}'" >/dev/null
		sql "DROP SERVER hot"
	fi
	kind=$1
	case $kind in
		redis) title=Redis; start_redis; port=$redis_port cache_pid=$redis_pid ;;
		memcached) title=Memcached; start_memcached; port=$memcached_port cache_pid=$memcached_pid ;;
	esac
	sql "CREATE SERVER hot FOREIGN DATA WRAPPER cachekit
		OPTIONS (kind '$kind', host '127.0.0.1', port '$port')"
	wait_until server_is ready || fail "the cache server did not become ready: $(sql \
		"SELECT last_error FROM cachekit.stat_servers")"
}

start_redis()
{
	[ -z "$redis_port" ] || return 0
	redis_port=$(free_port)
	as_user mkdir "$run/redis"
	as_user redis-server --port "$redis_port" --bind 127.0.0.1 --dir "$run/redis" --save '' \
		--daemonize yes --pidfile "$run/redis/pid" --logfile "$run/redis/log" >/dev/null
	wait_until redis_answers || {
		cat "$run/redis/log" >&2
		fail "Redis did not start"
	}
	redis_pid=$(redis INFO server | sed -n 's/^process_id:\([0-9]*\).*/\1/p')
}

# With room for a million keys.
start_memcached()
{
	[ -z "$memcached_port" ] || return 0
	memcached_port=$(free_port)
	as_user mkdir "$run/memcached"
	as_user memcached -d -l 127.0.0.1 -p "$memcached_port" -U 0 -m 1024 \
		-P "$run/memcached/pid" || fail "Memcached did not start"
	wait_until memcached_answers || fail "Memcached did not start"
	memcached_pid=$(cat "$run/memcached/pid")
}

# build_programs: makes $run/bench/raw and $run/bench/gone, as the test user.
build_programs()
{
	[ ! -x "$run/bench/raw" ] || return 0
	cp "$top"/test/bench/*.[ch] "$top/test/bench/Makefile" "$run/bench" &&
		chmod 644 "$run/bench"/*.[ch] "$run/bench/Makefile" &&
		as_user make -s -C "$run/bench" PG_CONFIG="$PG_CONFIG" >"$logs/build-bench" 2>&1 || {
			cat "$logs/build-bench" >&2
			fail "could not build the programs that ask cache servers"
		}
}

redis() { as_user redis-cli -p "$redis_port" --raw "$@"; }

redis_answers() { [ "$(redis PING 2>/dev/null)" = PONG ]; }

# It is there, with its process id, when it answers for a key that it has not.
memcached_answers()
{
	[ -s "$run/memcached/pid" ] &&
		[ "$(as_user "$run/bench/raw" memcached 127.0.0.1 "$memcached_port" exists no 1 \
			2>/dev/null)" = 0 ]
}

# raw WHAT PREFIX KEYS...: see raw.c.
raw()
{
	as_user "$run/bench/raw" "$kind" 127.0.0.1 "$port" "$@" || fail "failed: raw $*"
}

# wait_until COMMAND...: asks until it is true; false after a minute.
wait_until()
{
	tries=0
	until "$@"; do
		tries=$((tries + 1))
		[ "$tries" -lt 1200 ] || return 1
		sleep 0.05
	done
}

# server_is STATE
server_is()
{
	[ "$(sql "SELECT state FROM cachekit.stat_servers WHERE name = 'hot'")" = "$1" ]
}

# server_counter NAME, entity_counter ENTITY NAME
server_counter() { sql "SELECT $1 FROM cachekit.stat_servers WHERE name = 'hot'"; }
entity_counter() { sql "SELECT $2 FROM cachekit.stat_entities WHERE name = '$1'"; }

# delivered: waits until the senders have sent all that was committed.
delivered()
{
	[ "$(sql "SELECT cachekit.wait_for_delivery('2 min')")" = t ] ||
		fail "not delivered within two minutes: $(server_counter last_error)"
}

# filled ENTITY KEYS: has the cache all documents of the ids 1 to KEYS? Fetches them, if it has not.
filled()
{
	[ "$(raw exists "postgres:$1:" "$2")" = "$2" ] || {
		sql "SELECT count(cachekit.fetch('$1', i)) FROM generate_series(1, $2) i" >/dev/null
		false
	}
}

# served_users KIND: a table like "users", attached to a cache server of that kind and to no other
# tier, with all of its documents there.
served_users()
{
	cache_server "$1"
	[ -n "$(sql "SELECT to_regclass('served_users')")" ] || make_users served_users
	sql "SELECT cachekit.attach('served_users', servers => '{hot}', local => false)" >/dev/null
	wait_until filled served_users 10000 || fail "the documents were not filled"
}

# count_hits, check_hits: between the two, nearly all fetches of "served_users" must have been hits.
count_hits()
{
	hits_before=$(entity_counter served_users server_hits)
	loads_before=$(entity_counter served_users loads)
}

check_hits()
{
	server_hits=$(($(entity_counter served_users server_hits) - hits_before))
	loads=$(($(entity_counter served_users loads) - loads_before))
	[ "$server_hits" -gt $((99 * loads)) ] ||
		fail "$server_hits hits in $title, but $loads loads: these numbers say nothing"
	say "                $server_hits hits in $title, $loads loads"
}
