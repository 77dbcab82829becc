# fetch-many.sh - 100 rows of eight columns at once, against 100 fetches of one, every one a hit
#
# Out of the local tier, then out of Redis and Memcached. Both sides get the same documents, and
# send them to the client; the 100 fetches are 100 statements, prepared, each a transaction of its
# own, as a program sends them that knows no better.

# singles ENTITY: the script with 100 statements.
singles()
{
	printf '%s\n' '\set from random(1, 9900)'
	i=0
	while [ "$i" -lt 100 ]; do
		printf "SELECT cachekit.fetch('%s', :from + %d);\n" "$1" "$i"
		i=$((i + 1))
	done
}

many()
{
	printf '%s\n' '\set from random(1, 9900)' \
		"SELECT * FROM cachekit.fetch_many('$1', ARRAY(SELECT generate_series(:from, :from + 99)));"
}

users
side many_local "fetch_many(100), local tier" "$(many users)"
side single_local "100 fetches" "$(singles users)"
before=$(hits users)
compare fetch-many many_local single_local
say "                $(($(hits users) - before)) local hits"

for k in $kinds; do
	served_users "$k"
	side many_server "fetch_many(100), $title" "$(many served_users)"
	side single_server "100 fetches" "$(singles served_users)"
	count_hits
	compare fetch-many many_server single_server >"$run/bench/lines"
	check_hits >>"$run/bench/lines"
	cat "$run/bench/lines"
done
