# A Redis of our own: the same documents for every client, gone when their row changes.

redis_port=$(free_port)
redis_dir=$run/redis
as_user mkdir -p "$redis_dir"

start_redis()
{
	as_user redis-server --port "$redis_port" --bind 127.0.0.1 --dir "$redis_dir" --save '' \
		--daemonize yes --pidfile "$redis_dir/pid" --logfile "$redis_dir/log" >/dev/null
}

redis() { as_user redis-cli -p "$redis_port" --raw "$@"; }

sql() { as_user psql -X -q -At -v ON_ERROR_STOP=1 -c "$1"; }

# until_is WANTED COMMAND...: asks until it answers that; false after a minute.
until_is()
{
	wanted=$1
	shift
	tries=0
	until [ "$("$@" 2>/dev/null)" = "$wanted" ]; do
		tries=$((tries + 1))
		[ "$tries" -lt 3000 ] || { say "the demo is wrong: expected $wanted of: $*" >&2; return 1; }
		sleep 0.02
	done
}

state="SELECT state FROM cachekit.stat_servers"

say
say "=== 7. A Redis: the same documents, for programs that do not speak SQL"
start_redis
say "CREATE SERVER hot FOREIGN DATA WRAPPER cachekit OPTIONS (kind 'redis', host '127.0.0.1', port …);"
sql "CREATE SERVER hot FOREIGN DATA WRAPPER cachekit
	OPTIONS (kind 'redis', host '127.0.0.1', port '$redis_port')" || return 1
say "SELECT cachekit.attach('countries', servers => '{hot}');"
sql "SELECT cachekit.attach('countries', servers => '{hot}')" >/dev/null || return 1
until_is ready sql "$state" || return 1

sql "SELECT cachekit.fetch('countries', 'IT')" >/dev/null
key=$(sql "SELECT cachekit.key('countries', 'IT')")
until_is 1 redis EXISTS "$key" || return 1
say
say "\$ redis-cli GET $key"
redis GET "$key"
[ "$(redis GET "$key")" = "$(sql "SELECT cachekit.fetch('countries', 'IT')")" ] || {
	say 'the demo is wrong: Redis has another document' >&2
	return 1
}

say
say "UPDATE countries SET name = 'Italia' WHERE code = 'IT'; after the commit:"
sql "UPDATE countries SET name = 'Italia' WHERE code = 'IT'" || return 1
[ "$(sql "SELECT cachekit.wait_for_delivery('1 min')")" = t ] || return 1
say "\$ redis-cli EXISTS $key"
redis EXISTS "$key"
until_is 0 redis EXISTS "$key" || return 1

say
say "=== 8. Redis goes away: nobody waits for it, and nothing is lost"
sql "SELECT cachekit.fetch('countries', 'ES')" >/dev/null
until_is 1 redis EXISTS "$(sql "SELECT cachekit.key('countries', 'ES')")" || return 1
redis SHUTDOWN NOSAVE
until_is connecting sql "$state" || return 1
say "With Redis stopped:    UPDATE countries SET name = 'España' WHERE code = 'ES'"
sql "UPDATE countries SET name = 'España' WHERE code = 'ES'" || return 1
say "The next fetch:        $(sql "SELECT cachekit.fetch('countries', 'ES')->>'name'")"
until_is España sql "SELECT cachekit.fetch('countries', 'ES')->>'name'" || return 1
start_redis
until_is ready sql "$state" || return 1
sql "SELECT cachekit.invalidate('countries', 'ES')" >/dev/null
sql "SELECT cachekit.wait_for_delivery('1 min')" >/dev/null
sql "SELECT cachekit.fetch('countries', 'ES')" >/dev/null
key=$(sql "SELECT cachekit.key('countries', 'ES')")
until_is 1 redis EXISTS "$key" || return 1
say "Redis is back, and has: $(redis GET "$key" | jq -r .name)"
[ "$(redis GET "$key" | jq -r .name)" = España ] || return 1

say
say "SELECT name, state, sent, acknowledged, fills_sent, flushes, reconnects FROM cachekit.stat_servers;"
as_user psql -X -q -P pager=off -P footer=off -c "SELECT name, state, sent, acknowledged, fills_sent,
	flushes, reconnects FROM cachekit.stat_servers"
redis SHUTDOWN NOSAVE
