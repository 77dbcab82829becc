# bulk.sh - what an attached table costs those who change many rows in one transaction
#
# Each session updates 1,000 rows that lie together; no two sessions the same rows.

for table in stock stock_plain; do
	sql "CREATE TABLE $table (id int PRIMARY KEY, amount int, filler char(84)) WITH (fillfactor = 50);
		INSERT INTO $table SELECT i, 0, '' FROM generate_series(1, $sessions * 10000) i"
	sql "VACUUM ANALYZE $table"
done
sql "SELECT cachekit.attach('stock')" >/dev/null

side bulk_cached "attached, 1,000 rows" '\set low :client_id * 10000 + 1000 * random(0, 9)
UPDATE stock SET amount = amount + 1 WHERE id > :low AND id <= :low + 1000;'
side bulk_plain "not attached, 1,000 rows" '\set low :client_id * 10000 + 1000 * random(0, 9)
UPDATE stock_plain SET amount = amount + 1 WHERE id > :low AND id <= :low + 1000;'

sql "CHECKPOINT"
compare bulk bulk_cached bulk_plain
