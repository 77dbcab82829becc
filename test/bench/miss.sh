# miss.sh - what a fetch costs that has to read the table
#
# The strategy "bypass" does not look into the cache; it reads the table under the fence, as the
# relation's owner with pinned settings, and stores what it read. B is the same read without that.

users
side bypass "fetch (bypass)" '\set id random(1, 10000)
SELECT cachekit.fetch('\''users'\'', :id, '\''bypass'\'');'
side miss_select "SELECT to_jsonb(u)" '\set id random(1, 10000)
SELECT to_jsonb(u) FROM users u WHERE id = :id;'

compare miss bypass miss_select
