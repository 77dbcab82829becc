# server-hits.sh - one row of eight columns out of Redis or Memcached, 10,000 rows, every fetch a hit
#
# The entity has no local tier, so each fetch goes through the sender: a session asks it by shared
# memory, and it asks the server for all that sessions want at that moment. The GETs are those of a
# client that asks by itself, with as many connections as there are sessions.

side served_to_jsonb "SELECT to_jsonb(u)" '\set id random(1, 10000)
SELECT to_jsonb(u) FROM served_users u WHERE id = :id;'

measure_hits()
{
	served_users "$1"
	side server_fetch "fetch (hit in $title)" '\set id random(1, 10000)
SELECT cachekit.fetch('\''served_users'\'', :id);'
	program raw_get "get, $sessions connections" "$run/bench/raw" "$kind" 127.0.0.1 "$port" \
		get postgres:served_users: 10000 "$sessions"
	count_hits
	compare server-hits server_fetch served_to_jsonb raw_get >"$run/bench/lines"
	check_hits >>"$run/bench/lines"
	cat "$run/bench/lines"
}

for k in $kinds; do
	measure_hits "$k"
done
