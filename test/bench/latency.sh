# latency.sh - how long a reader waits, when 64 sessions together ask 10,000 times a second
#
# An A/B below 1 is better for A.

users
side late_fetch "fetch (local hit)" '\set id random(1, 10000)
SELECT cachekit.fetch('\''users'\'', :id);'
side late_select "SELECT to_jsonb(u)" '\set id random(1, 10000)
SELECT to_jsonb(u) FROM users u WHERE id = :id;'

compare_latency latency 10000 late_fetch late_select
