# server-latency.sh - how long a reader waits for Redis, when 64 sessions together ask 10,000 times
# a second
#
# An A/B below 1 is better for A.

served_users redis
side late_server_fetch "fetch (hit in Redis)" '\set id random(1, 10000)
SELECT cachekit.fetch('\''served_users'\'', :id);'
side late_served_select "SELECT to_jsonb(u)" '\set id random(1, 10000)
SELECT to_jsonb(u) FROM served_users u WHERE id = :id;'

count_hits
compare_latency server-latency 10000 late_server_fetch late_served_select >"$run/bench/lines"
check_hits >>"$run/bench/lines"
cat "$run/bench/lines"
say "                $(median_of 3 "$run/bench/late_server_fetch.rounds") and" \
	"$(median_of 3 "$run/bench/late_served_select.rounds") of $((10000 * seconds)) in a round;" \
	"when they are fewer, they waited for processors"
