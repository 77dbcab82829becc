# Three Memcached hosts of our own: any client of libmemcached finds the documents, and COMMIT waits for them.

memcached_ports="$(free_port) $(free_port) $(free_port)"
memcached_dir=$run/memcached
as_user mkdir -p "$memcached_dir"

start_memcached()
{
	as_user memcached -d -U 0 -l 127.0.0.1 -p "$1" -P "$memcached_dir/$1"
}

stop_memcached() { kill "$(cat "$memcached_dir/$1")"; }

# memcached_get PORT KEY: what a host has; nothing if it does not have the key.
memcached_get()
{
	as_user perl -MIO::Socket::INET -e '
		my $host = IO::Socket::INET->new(PeerAddr => "127.0.0.1", PeerPort => $ARGV[0]) or exit;
		print $host "get $ARGV[1]\r\n";
		my $head = <$host>;
		if ($head =~ /^VALUE \S+ \d+ (\d+)/) { read($host, my $value, $1); print "$value\n"; }' "$1" "$2"
}

# get_anywhere KEY: asks all hosts, as nobody would.
get_anywhere()
{
	for port in $memcached_ports; do
		memcached_get "$port" "$1"
	done
}

say
say "=== 9. Memcached: three hosts, and a COMMIT that waits until they know"
for port in $memcached_ports; do
	start_memcached "$port"
done
memcached_hosts=$(printf '127.0.0.1:%s,' $memcached_ports)
sql "DROP SERVER hot CASCADE" 2>/dev/null || return 1
say "CREATE SERVER cold FOREIGN DATA WRAPPER cachekit OPTIONS (kind 'memcached', hosts '127.0.0.1:…,127.0.0.1:…,127.0.0.1:…');"
sql "CREATE SERVER cold FOREIGN DATA WRAPPER cachekit
	OPTIONS (kind 'memcached', hosts '${memcached_hosts%,}')" || return 1
say "SELECT cachekit.attach('countries', servers => '{cold}');"
sql "SELECT cachekit.attach('countries', servers => '{cold}')" >/dev/null || return 1
until_is ready sql "$state" || return 1
sql "SELECT cachekit.wait_for_delivery('1 min')" >/dev/null
sql "SELECT count(cachekit.fetch('countries', code)) FROM countries" >/dev/null
sql "SELECT cachekit.fetch('countries', 'FR')" >/dev/null

key=$(sql "SELECT cachekit.key('countries', 'FR')")
document=$(sql "SELECT cachekit.fetch('countries', 'FR')")
until_is "$document" get_anywhere "$key" || return 1
say
say "One of the hosts has:  $(get_anywhere "$key")"
say "Fills by host:"
as_user psql -X -q -P pager=off -P footer=off -c "SELECT name, state, fills_sent > 0 AS has_documents
	FROM cachekit.stat_hosts ORDER BY host"

say "SET cachekit.synchronous_invalidation = on; UPDATE countries SET name = 'République' WHERE code = 'FR';"
as_user psql -X -q -v ON_ERROR_STOP=1 -c "SET cachekit.synchronous_invalidation = on" \
	-c "UPDATE countries SET name = 'République' WHERE code = 'FR'" || return 1
[ -z "$(get_anywhere "$key")" ] || { say 'the demo is wrong: the old document is still there' >&2; return 1; }
say "When COMMIT has returned, no host has the old document."

say
say "=== 10. One of the hosts dies: the other two go on"
dead=${memcached_ports%% *}
stop_memcached "$dead"
until_is 1 sql "SELECT count(*) FROM cachekit.stat_hosts WHERE state = 'connecting'" || return 1
as_user psql -X -q -P pager=off -P footer=off -c "SELECT name, state, count(*) AS hosts
	FROM cachekit.stat_hosts GROUP BY name, state ORDER BY state"
sql "UPDATE countries SET name = 'France' WHERE code = 'FR'" || return 1
until_is France sql "SELECT cachekit.fetch('countries', 'FR')->>'name'" || return 1
start_memcached "$dead"
until_is ready sql "$state" || return 1
say "It is back:            $(sql "SELECT count(*) FROM cachekit.stat_hosts WHERE state = 'ready'") of 3 hosts are ready," \
	"and every document is right: $(sql "SELECT bool_and(cachekit.fetch('countries', code) = to_jsonb(c)) FROM countries c")"
[ "$(sql "SELECT bool_and(cachekit.fetch('countries', code) = to_jsonb(c)) FROM countries c")" = t ] || return 1
for port in $memcached_ports; do
	stop_memcached "$port"
done
