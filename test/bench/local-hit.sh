# local-hit.sh - one row of eight columns, by primary key, 10,000 rows, every fetch a hit
#
# On one host a cache hardly pays for this; the lines say what it costs or gives. The plain SELECT
# sends the columns as they are, the other makes the same JSON as the fetch.

users
side fetch "fetch (local hit)" '\set id random(1, 10000)
SELECT cachekit.fetch('\''users'\'', :id);'
side to_jsonb "SELECT to_jsonb(u)" '\set id random(1, 10000)
SELECT to_jsonb(u) FROM users u WHERE id = :id;'
side plain "SELECT *" '\set id random(1, 10000)
SELECT * FROM users WHERE id = :id;'

before=$(hits users)
compare local-hit fetch to_jsonb plain
after=$(hits users)
[ -z "$after" ] || say "                $((after - before)) local hits"
