# card.sh - a card of 50 rows: a view over several tables
#
# A is a fetch of the view's document out of the local tier, kept right by its dependencies; B is
# the query of the view. What a client gets is the same text on both sides, and making that text
# costs the same; the second line leaves it out, to show what the cache itself saves.

sql "CREATE TABLE shoppers (id int PRIMARY KEY, name text NOT NULL);
	CREATE TABLE goods (id int PRIMARY KEY, name text NOT NULL, price numeric NOT NULL);
	CREATE TABLE baskets (id int PRIMARY KEY, shopper int NOT NULL, made_at timestamptz);
	CREATE TABLE basket_lines (basket int, line int, good int NOT NULL, quantity int NOT NULL,
		PRIMARY KEY (basket, line));
	CREATE INDEX ON basket_lines (good);
	CREATE INDEX ON baskets (shopper);
	INSERT INTO shoppers SELECT i, 'shopper ' || i FROM generate_series(1, 100) i;
	INSERT INTO goods SELECT i, 'good ' || i, i * 1.25 FROM generate_series(1, 700) i;
	INSERT INTO baskets SELECT i, i % 100 + 1, '2024-01-01 UTC' FROM generate_series(1, 1000) i;
	INSERT INTO basket_lines SELECT o, l, (o * l) % 700 + 1, l % 9 + 1
		FROM generate_series(1, 1000) o, generate_series(1, 50) l;
	CREATE VIEW basket_card AS
		SELECT b.id, b.made_at, s.name AS shopper,
			jsonb_agg(jsonb_build_object('line', l.line, 'good', g.name, 'price', g.price,
				'quantity', l.quantity) ORDER BY l.line) AS lines,
			sum(g.price * l.quantity) AS total
		FROM baskets b JOIN shoppers s ON s.id = b.shopper
			JOIN basket_lines l ON l.basket = b.id JOIN goods g ON g.id = l.good
		GROUP BY b.id, s.name;
	SET client_min_messages = warning;
	SELECT cachekit.attach('basket_card', key => '{id}');
	SELECT cachekit.add_dependency('basket_card', 'shoppers',
		via => 'SELECT id FROM baskets WHERE shopper = (\$1).id');
	SELECT cachekit.add_dependency('basket_card', 'goods',
		via => 'SELECT basket FROM basket_lines WHERE good = (\$1).id')" >/dev/null
sql "VACUUM ANALYZE"
sql "SELECT count(cachekit.fetch('basket_card', id)) FROM baskets" >/dev/null

side card_fetch "fetch (local hit), card of 50 rows" '\set id random(1, 1000)
SELECT cachekit.fetch('\''basket_card'\'', :id);'
side card_query "the view's query" '\set id random(1, 1000)
SELECT to_jsonb(c) FROM basket_card AS c WHERE c.id = :id;'
compare card card_fetch card_query

side card_fetch_quiet "fetch (local hit), text not made" '\set id random(1, 1000)
SELECT pg_column_size(cachekit.fetch('\''basket_card'\'', :id));'
side card_query_quiet "the view's query, text not made" '\set id random(1, 1000)
SELECT pg_column_size(to_jsonb(c)) FROM basket_card AS c WHERE c.id = :id;'
compare card-quiet card_fetch_quiet card_query_quiet
