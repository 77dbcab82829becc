-- Entities made of views: which keys a row of a base table concerns.
\set ECHO none
\getenv top PG_ABS_SRCDIR
\set begin :top '/sql/lib/begin.sql'
\set end :top '/sql/lib/end.sql'
\i :begin
\set ECHO all
SET client_min_messages = notice;

CREATE TABLE customers (id int PRIMARY KEY, name text);
CREATE TABLE orders (id int PRIMARY KEY, customer int REFERENCES customers, note text);
CREATE TABLE products (id int PRIMARY KEY, name text, price numeric, stock int);
CREATE TABLE order_items (order_id bigint, product_id int REFERENCES products, quantity int,
						  PRIMARY KEY (order_id, product_id));
INSERT INTO customers VALUES (1, 'Ann'), (2, 'Bob');
INSERT INTO orders VALUES (1, 1), (2, 2), (3, 1);
INSERT INTO products VALUES (1, 'pen', 2.50, 10), (2, 'ink', 8, 10), (3, 'cap', 0.10, 10);
INSERT INTO order_items VALUES (1, 1, 1), (1, 2, 1), (2, 2, 5);

CREATE VIEW order_card AS
SELECT o.id, c.name AS customer,
       jsonb_agg(jsonb_build_object('product', p.name, 'price', p.price, 'quantity', i.quantity)
                 ORDER BY p.id) AS items
  FROM orders AS o
  JOIN customers AS c ON c.id = o.customer
  JOIN order_items AS i ON i.order_id = o.id
  JOIN products AS p ON p.id = i.product_id
 GROUP BY o.id, c.name;

-- a view has no primary key
SELECT cachekit.attach('order_card');
SELECT cachekit.attach('order_card', key => '{nothing}');
-- what can be derived is, the rest is named
SELECT cachekit.attach('order_card', key => '{id}');
SELECT base, key, via, derived FROM cachekit.dependencies ORDER BY base::text;
SELECT cachekit.fetch('order_card', 1);
SELECT sound FROM cachekit.entities;
SELECT severity, subject, problem, hint FROM cachekit.health() WHERE subject LIKE 'entity%';

-- what add_dependency() refuses
SELECT cachekit.add_dependency('order_card', 'products');
SELECT cachekit.add_dependency('order_card', 'products', key => '{id}', via => 'SELECT 1');
SELECT cachekit.add_dependency(NULL, 'products', key => '{id}');
SELECT cachekit.add_dependency('orders', 'products', key => '{id}');
SELECT cachekit.add_dependency('order_card', 'products', key => '{nothing}');
SELECT cachekit.add_dependency('order_card', 'products', key => '{id,stock}');
SELECT cachekit.add_dependency('order_card', 'products', key => '{name}');
SELECT cachekit.add_dependency('order_card', 'order_card', key => '{id}');
SELECT cachekit.add_dependency('order_card', 'pg_class', key => '{oid}');
SELECT cachekit.add_dependency('order_card', 'products', via => 'SELECT');
SELECT cachekit.add_dependency('order_card', 'products', via => 'SELECT nothing FROM order_items');
SELECT cachekit.add_dependency('order_card', 'products', via => 'SELECT 1; SELECT 2');
SELECT cachekit.add_dependency('order_card', 'products', via => 'SELECT order_id, product_id FROM order_items');
SELECT cachekit.add_dependency('order_card', 'products', via => 'SELECT ($1).nothing');
SELECT cachekit.add_dependency('order_card', 'products', via => 'SELECT $2');
SELECT cachekit.add_dependency('order_card', 'products',
	via => 'WITH d AS (DELETE FROM order_items RETURNING order_id) SELECT order_id FROM d');
SELECT cachekit.add_dependency('order_card', 'products', via => 'SELECT (random() * 10)::int');
SELECT cachekit.add_dependency('order_card', 'products',
	via => 'SELECT order_id FROM order_items WHERE now() > ''2000-01-01''');
SELECT cachekit.drop_dependency('order_card', 'products');
ALTER TABLE products ENABLE ROW LEVEL SECURITY;
SELECT cachekit.add_dependency('order_card', 'products', via => 'SELECT 1');
ALTER TABLE products DISABLE ROW LEVEL SECURITY;

-- what is missing
SELECT cachekit.add_dependency('order_card', 'customers', via => 'SELECT id FROM orders WHERE customer = ($1).id');
SELECT cachekit.add_dependency('order_card', 'products', via => 'SELECT order_id FROM order_items WHERE product_id = ($1).id');
SELECT base, key, query, derived FROM cachekit.dependencies ORDER BY base::text;
SELECT sound FROM cachekit.entities;
-- twice is once
SELECT cachekit.add_dependency('order_card', 'products', via => 'SELECT order_id FROM order_items WHERE product_id = ($1).id');
SELECT count(*) FROM cachekit.dependencies;

-- every change is seen: what is cached is what the view says
CREATE FUNCTION differences() RETURNS TABLE (id int, cached jsonb, is jsonb) LANGUAGE sql AS $$
	SELECT o.id, cachekit.fetch('order_card', o.id), to_jsonb(c)
	  FROM generate_series(1, 4) AS o(id) LEFT JOIN order_card AS c ON c.id = o.id
	 WHERE cachekit.fetch('order_card', o.id) IS DISTINCT FROM to_jsonb(c)
$$;
-- which of the orders are in the cache now
CREATE FUNCTION cached() RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(o.id::text, ' ' ORDER BY o.id)
	  FROM generate_series(1, 4) AS o(id), cachekit.inspect('order_card', o.id) AS i WHERE i.present
$$;
SELECT * FROM differences();
SELECT cached();
UPDATE products SET price = 3 WHERE id = 1;
SELECT cached();
SELECT * FROM differences();
UPDATE products SET stock = 5;			-- no document shows it
SELECT cached();
UPDATE products SET price = price;
SELECT cached();
UPDATE customers SET name = 'Anna' WHERE id = 1;
SELECT cached();
SELECT * FROM differences();
UPDATE order_items SET order_id = 2 WHERE order_id = 1 AND product_id = 1;
SELECT cached();
SELECT * FROM differences();
INSERT INTO order_items VALUES (3, 3, 7);
SELECT cached();
SELECT * FROM differences();
DELETE FROM order_items WHERE order_id = 3;
SELECT * FROM differences();
UPDATE orders SET id = 4 WHERE id = 2;
UPDATE order_items SET order_id = 4 WHERE order_id = 2;
SELECT * FROM differences();
BEGIN;
UPDATE products SET price = 4;
SELECT cachekit.fetch('order_card', 1) #>> '{items,0,price}' AS own_change;
SAVEPOINT a;
UPDATE customers SET name = 'Zoe';
ROLLBACK TO a;
COMMIT;
SELECT * FROM differences();
BEGIN;
UPDATE products SET price = 5;
ROLLBACK;
SELECT cached();
SELECT * FROM differences();
TRUNCATE order_items;
SELECT cached() IS NULL AS nothing;
SELECT * FROM differences();
INSERT INTO order_items VALUES (1, 1, 1), (1, 2, 1), (2, 2, 5), (3, 3, 3);
SELECT * FROM differences();
-- a transaction that changes the link and what it leads to
BEGIN;
INSERT INTO order_items VALUES (3, 2, 1);
UPDATE products SET price = 9 WHERE id = 2;
DELETE FROM order_items WHERE order_id = 1 AND product_id = 2;
COMMIT;
SELECT * FROM differences();

-- a "via" query that cannot answer costs the whole entity, and no error
SELECT links_unresolved FROM cachekit.stat_entities;
BEGIN ISOLATION LEVEL REPEATABLE READ;
UPDATE products SET price = 10 WHERE id = 2;
COMMIT;
SELECT cached();
SELECT * FROM differences();
BEGIN ISOLATION LEVEL SERIALIZABLE;
UPDATE products SET price = 11 WHERE id = 2;
COMMIT;
SELECT cached() IS NULL AS all_of_them;
SELECT * FROM differences();
SELECT cachekit.add_dependency('order_card', 'products', via => 'SELECT 1 / (($1).stock - 5)');
SELECT cached() IS NULL AS all_of_them;
SELECT * FROM differences();
UPDATE products SET price = 12 WHERE id = 1;
SELECT cached() IS NULL AS all_of_them;
SELECT * FROM differences();
-- nor at the end of a transaction block
BEGIN;
UPDATE products SET price = 12.50 WHERE id = 1;
COMMIT;
SELECT cached() IS NULL AS all_of_them;
-- nor for a deferred trigger there, in a session that knows nothing of the entity
CREATE TABLE ticks (n int);
CREATE FUNCTION tick() RETURNS trigger LANGUAGE plpgsql AS
	$$ BEGIN UPDATE products SET price = 12.75 WHERE id = 1; RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER tick AFTER INSERT ON ticks DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW EXECUTE FUNCTION tick();
SELECT * FROM differences();
SELECT cached();
\c -
SET search_path = s, public;
BEGIN;
INSERT INTO ticks VALUES (1);
COMMIT;
SELECT cached() IS NULL AS all_of_them;
SELECT * FROM differences();
DROP TABLE ticks;
SELECT links_unresolved FROM cachekit.stat_entities;
SELECT cachekit.drop_dependency('order_card', 'products');
SELECT cachekit.fetch('order_card', 1);
-- too long
SET cachekit.dependency_timeout = '20ms';
SELECT cachekit.add_dependency('order_card', 'products', via =>
	'SELECT order_id FROM order_items WHERE product_id = ($1).id AND
	 (($1).price IS NULL OR (SELECT count(*) FROM generate_series(1, 100000000)) > 0)');
SELECT * FROM differences();
UPDATE products SET price = 13 WHERE id = 1;
SELECT cached() IS NULL AS all_of_them;
SELECT links_unresolved FROM cachekit.stat_entities;
RESET cachekit.dependency_timeout;
SELECT cachekit.drop_dependency('order_card', 'products');
SELECT cachekit.add_dependency('order_card', 'products', via => 'SELECT order_id FROM order_items WHERE product_id = ($1).id');
-- too many
SET cachekit.max_changed_keys = 1;
SELECT * FROM differences();
UPDATE products SET price = price + 1;
SELECT cached() IS NULL AS all_of_them;
RESET cachekit.max_changed_keys;
SELECT * FROM differences();
-- PREPARE TRANSACTION is refused, as for tables
BEGIN;
UPDATE products SET price = 14;
PREPARE TRANSACTION 'p';

-- DDL
ALTER TABLE order_items DROP COLUMN order_id;
ALTER TABLE orders ADD COLUMN x int;
ALTER TABLE orders RENAME COLUMN id TO number;
SELECT key, derived FROM cachekit.dependencies WHERE base = 'orders'::regclass;
UPDATE orders SET note = 'n' WHERE number = 1;
SELECT cachekit.entity_problem('order_card');
ALTER TABLE orders RENAME COLUMN number TO id;
SELECT cachekit.entity_problem('order_card');
ALTER TABLE products DISABLE TRIGGER ALL;
SELECT * FROM differences();
ALTER TABLE products ENABLE TRIGGER ALL;
SELECT cachekit.entity_problem('order_card');
CREATE TABLE links (product_id int, order_id int, extra int);
SELECT cachekit.add_dependency('order_card', 'links', key => '{order_id}');
SELECT cachekit.add_dependency('order_card', 'products', via => 'SELECT order_id FROM links WHERE product_id = ($1).id');
ALTER TABLE links DROP COLUMN extra;
ALTER TABLE links DROP COLUMN product_id;
ALTER TABLE links DROP COLUMN order_id;
DROP TABLE links;
SELECT cachekit.entity_problem('order_card');
SELECT * FROM differences();
SELECT cachekit.drop_dependency('order_card', 'products');
SELECT cachekit.add_dependency('order_card', 'products', via => 'SELECT order_id FROM order_items WHERE product_id = ($1).id');
SELECT * FROM differences();

-- CREATE OR REPLACE VIEW flushes, and derives again
CREATE TABLE notes (order_id int, line int, body text, PRIMARY KEY (order_id, line));
CREATE OR REPLACE VIEW order_card AS
SELECT o.id, c.name AS customer,
       jsonb_agg(jsonb_build_object('product', p.name, 'quantity', i.quantity) ORDER BY p.id) AS items,
       (SELECT jsonb_agg(n.body ORDER BY n.line) FROM notes AS n WHERE n.order_id = o.id) AS notes
  FROM orders AS o
  JOIN customers AS c ON c.id = o.customer
  JOIN order_items AS i ON i.order_id = o.id
  JOIN products AS p ON p.id = i.product_id
 GROUP BY o.id, c.name;
SELECT cached() IS NULL AS all_of_them;
SELECT base, key, via, derived FROM cachekit.dependencies ORDER BY base::text, via;
SELECT * FROM differences();
INSERT INTO notes VALUES (1, 1, 'fragile');
SELECT cached();
SELECT * FROM differences();

-- a nested view
CREATE VIEW priced AS SELECT p.id, p.name, p.price FROM products AS p;
CREATE VIEW product_card AS SELECT p.id, p.name, p.price * 2 AS dear FROM priced AS p;
SELECT cachekit.attach('product_card', key => '{id}');
SELECT cachekit.fetch('product_card', 1);
UPDATE products SET price = 100 WHERE id = 1;
SELECT cachekit.fetch('product_card', 1);
CREATE OR REPLACE VIEW priced AS SELECT p.id, upper(p.name) AS name, p.price FROM products AS p;
SELECT cachekit.fetch('product_card', 1);
CREATE OR REPLACE VIEW priced AS SELECT p.id, p.name, p.price FROM products AS p WHERE now() > '2000-01-01';
SELECT cachekit.fetch('product_card', 1);
SELECT cachekit.attach('product_card', allow_untracked => true);
SELECT cachekit.fetch('product_card', 1);
SELECT cachekit.attach('product_card', allow_untracked => false);

-- many rows for a key
CREATE VIEW item_list AS SELECT i.order_id, i.product_id, i.quantity FROM order_items AS i ORDER BY i.product_id;
SELECT cachekit.attach('item_list', key => '{order_id}', negative_ttl => '1 hour');
SELECT cachekit.fetch('item_list', 1);
INSERT INTO order_items VALUES (1, 3, 1);
SELECT cachekit.fetch('item_list', 1);
SELECT cachekit.attach('item_list', many => true);
SELECT cachekit.fetch('item_list', 1);
SELECT cachekit.fetch('item_list', 77), cachekit.fetch('item_list', 77);
SELECT negative_hits FROM cachekit.stat_entities WHERE name = 'item_list';
INSERT INTO order_items VALUES (77, 1, 1);
SELECT cachekit.fetch('item_list', 77);

-- a key of two columns, and a base with partitions
CREATE TABLE stock (shop int, product int, n int, PRIMARY KEY (shop, product)) PARTITION BY RANGE (shop);
CREATE TABLE stock_1 PARTITION OF stock FOR VALUES FROM (0) TO (10);
CREATE TABLE stock_2 (n int, product int NOT NULL, shop int NOT NULL);
CREATE VIEW stock_card AS SELECT s.shop, s.product, s.n, p.name FROM stock AS s JOIN products AS p ON p.id = s.product;
SELECT cachekit.attach('stock_card', key => '{shop,product}');
SELECT cachekit.add_dependency('stock_card', 'products', via => 'SELECT shop, product FROM stock WHERE product = ($1).id');
INSERT INTO stock VALUES (1, 1, 5);
SELECT cachekit.fetch('stock_card', (1, 1));
UPDATE stock_1 SET n = 6;
SELECT cachekit.fetch('stock_card', (1, 1));
UPDATE products SET name = 'quill' WHERE id = 1;
SELECT cachekit.fetch('stock_card', (1, 1));
INSERT INTO stock_2 VALUES (3, 2, 11);
SELECT cachekit.fetch('stock_card', (11, 2));
ALTER TABLE stock ATTACH PARTITION stock_2 FOR VALUES FROM (10) TO (20);
SELECT cachekit.fetch('stock_card', (11, 2));
UPDATE stock_2 SET n = 4;
SELECT cachekit.fetch('stock_card', (11, 2));
TRUNCATE stock_2;
SELECT cachekit.fetch('stock_card', (11, 2)) IS NULL AS gone;
ALTER TABLE stock DETACH PARTITION stock_1;
SELECT cachekit.fetch('stock_card', (1, 1)) IS NULL AS gone;
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'stock_1'::regclass AND tgname LIKE 'cachekit%';

-- the owner of the view loses what it reads: nothing is served any longer
CREATE VIEW name_card AS SELECT id, name FROM products;
SELECT cachekit.attach('name_card', key => '{id}');
CREATE ROLE regress_cachekit_owner;
GRANT USAGE ON SCHEMA s TO regress_cachekit_owner;
GRANT SELECT (id, name) ON products TO regress_cachekit_owner;
ALTER VIEW name_card OWNER TO regress_cachekit_owner;
SELECT cachekit.fetch('name_card', 3);
REVOKE SELECT (name) ON products FROM regress_cachekit_owner;
SELECT cachekit.fetch('name_card', 3);
GRANT SELECT (name) ON products TO regress_cachekit_owner;
SELECT cachekit.fetch('name_card', 3);
-- who owns the view alone, or the table alone, adds nothing
SET ROLE regress_cachekit_owner;
SELECT cachekit.add_dependency('name_card', 'products', key => '{id}');
SELECT cachekit.add_dependency('product_card', 'products', key => '{id}');
SELECT cachekit.drop_dependency('name_card', 'orders');
SELECT cachekit.drop_dependency('product_card', 'products');
RESET ROLE;
DROP VIEW name_card;
-- a query runs as nobody but the one who has given it
ALTER VIEW order_card OWNER TO regress_cachekit_owner;
SELECT cachekit.entity_problem('order_card');
ALTER VIEW order_card OWNER TO CURRENT_USER;
SELECT cachekit.entity_problem('order_card');
-- a view below is replaced by somebody who does not own the entity
GRANT CREATE ON SCHEMA s TO regress_cachekit_owner;
CREATE VIEW below AS SELECT id, name FROM products;
CREATE VIEW above AS SELECT * FROM below;
SELECT cachekit.attach('above', key => '{id}');
GRANT SELECT ON products TO regress_cachekit_owner;
ALTER VIEW below OWNER TO regress_cachekit_owner;
SELECT cachekit.entity_problem('above');
SET ROLE regress_cachekit_owner;
CREATE OR REPLACE VIEW below AS SELECT id, upper(name) AS name FROM products;
RESET ROLE;
SELECT cachekit.entity_problem('above');
SELECT cachekit.attach('above');
SELECT cachekit.entity_problem('above'), cachekit.fetch('above', 3);
DROP VIEW above, below;
REVOKE ALL ON products FROM regress_cachekit_owner;
REVOKE ALL ON SCHEMA s FROM regress_cachekit_owner;
DROP ROLE regress_cachekit_owner;
-- a table read in several places: a key that was derived already does not do
CREATE TABLE parts (id int PRIMARY KEY, name text, whole int);
CREATE VIEW part_card AS SELECT p.id, p.name, (SELECT jsonb_agg(q.name ORDER BY q.id) FROM parts AS q WHERE q.whole = p.id) AS parts,
	(SELECT w.name FROM parts AS w WHERE w.id = p.whole) AS whole FROM parts AS p;
SELECT cachekit.attach('part_card', key => '{id}');
SELECT cachekit.add_dependency('part_card', 'parts', key => '{id}');
SELECT cachekit.fetch('part_card', 1);
SELECT cachekit.add_dependency('part_card', 'parts', via => 'SELECT q.id FROM parts q WHERE q.whole = ($1).id');
SELECT cachekit.fetch('part_card', 1);
DROP VIEW part_card;
-- a function that is no longer what it was
CREATE FUNCTION dear(numeric) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT $1 > 10';
CREATE VIEW dear_card AS SELECT id, dear(price) FROM products;
SELECT cachekit.attach('dear_card', key => '{id}');
SELECT cachekit.fetch('dear_card', 1);
ALTER FUNCTION dear(numeric) VOLATILE;
SELECT cachekit.fetch('dear_card', 1);
DROP VIEW dear_card;

-- renaming, detaching, dropping: no triggers are left
SELECT cachekit.attach('order_card', name => 'card');
SELECT tgrelid::regclass, tgname FROM pg_trigger WHERE tgname LIKE 'cachekit%card%' AND tgrelid = 'products'::regclass ORDER BY 2;
SELECT cachekit.detach('order_card');
DROP VIEW product_card, priced;
DROP VIEW item_list, stock_card;
SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'cachekit%';
SELECT count(*) FROM cachekit.dependencies;
SELECT count(*) FROM cachekit.dependency;
\set ECHO none
\i :end
