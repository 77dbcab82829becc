# server-hits.sh - one row of eight columns out of Redis, 10,000 rows, every fetch a hit there
#
# The entity has no local tier, so each fetch goes through the sender: a session asks it by shared
# memory, and it asks Redis for all that sessions want at that moment. The GETs are those of a
# client that asks Redis itself, with as many connections as there are sessions.

served_users
side server_fetch "fetch (hit in Redis)" '\set id random(1, 10000)
SELECT cachekit.fetch('\''served_users'\'', :id);'
side served_to_jsonb "SELECT to_jsonb(u)" '\set id random(1, 10000)
SELECT to_jsonb(u) FROM served_users u WHERE id = :id;'
program raw_get "GET, $sessions connections" "$run/bench/raw" 127.0.0.1 "$redis_port" \
	get postgres:served_users: 10000 "$sessions"

count_hits
compare server-hits server_fetch served_to_jsonb raw_get >"$run/bench/lines"
check_hits >>"$run/bench/lines"
cat "$run/bench/lines"
