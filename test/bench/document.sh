# document.sh - a document of 50 rows
#
# A is a fetch of a row that carries the whole document, out of the local tier; B is the query that
# makes such a document from its 50 rows. So this measures what a cached document of many rows
# saves its readers; it does not measure how such documents are kept right.

sql "CREATE TABLE orders (id int PRIMARY KEY, customer text NOT NULL, ordered_at timestamptz);
	CREATE TABLE order_items (order_id int, line int, product text NOT NULL, quantity int,
		price numeric, note text, PRIMARY KEY (order_id, line));
	CREATE TABLE order_docs (id int PRIMARY KEY, doc jsonb NOT NULL);
	INSERT INTO orders SELECT i, 'customer ' || i % 50, '2024-01-01 UTC'
		FROM generate_series(1, 1000) i;
	INSERT INTO order_items SELECT o, l, 'product ' || (o * l) % 700, l % 9 + 1, l * 1.25, 'none'
		FROM generate_series(1, 1000) o, generate_series(1, 50) l;
	INSERT INTO order_docs SELECT o.id, jsonb_build_object('id', o.id, 'customer', o.customer,
			'items', (SELECT jsonb_agg(to_jsonb(i) ORDER BY i.line)
					  FROM order_items i WHERE i.order_id = o.id))
		FROM orders o;
	SELECT cachekit.attach('order_docs')" >/dev/null
sql "VACUUM ANALYZE"
sql "SELECT count(cachekit.fetch('order_docs', id)) FROM order_docs" >/dev/null

side doc_fetch "fetch (local hit), 50 rows" '\set id random(1, 1000)
SELECT cachekit.fetch('\''order_docs'\'', :id);'
side doc_query "jsonb_agg of 50 rows" '\set id random(1, 1000)
SELECT jsonb_build_object('\''id'\'', o.id, '\''customer'\'', o.customer,
	'\''items'\'', (SELECT jsonb_agg(to_jsonb(i) ORDER BY i.line)
		FROM order_items i WHERE i.order_id = o.id))
FROM orders o WHERE o.id = :id;'

compare document doc_fetch doc_query
