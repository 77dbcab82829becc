-- shop.sql - a shop in LedgerSMB's schema: its data, and the views that its pages are made of
--
-- Run by test/t/053_real_schema.pl in a database that has the schema and nothing else. Each kind of
-- row has ids of its own range, so that no key is right by accident.

-- ---------- data ----------

INSERT INTO account_heading (id, accno, description, category) VALUES (1, '1000', 'assets', 'A');
INSERT INTO account (id, accno, description, category, heading) VALUES (1, '1200', 'receivable', 'A', 1);

INSERT INTO partsgroup (id, partsgroup, parent)
SELECT 100 + g, 'group ' || g, CASE WHEN g > 4 THEN 100 + g / 4 END FROM generate_series(1, 20) AS g;
INSERT INTO parts (id, partnumber, description, unit, sellprice, lastcost, weight, onhand, partsgroup_id, obsolete)
SELECT 1000 + g, 'P-' || g, 'part ' || g, 'pc', g + 0.95, g * 0.6, 0.1 * g, g % 40, 101 + g % 20, g % 50 = 49
  FROM generate_series(1, 300) AS g;
INSERT INTO makemodel (parts_id, make, model, barcode)
SELECT 1001 + g % 300, 'make ' || g % 7, 'model ' || g, g::text FROM generate_series(1, 400) AS g;
INSERT INTO parts_translation (trans_id, language_code, description)
SELECT 1000 + g, l, 'part ' || g || ' in ' || l FROM generate_series(1, 300) AS g, unnest('{de,fr_CA}'::text[]) AS l;
INSERT INTO assembly (id, parts_id, qty)
SELECT 1000 + g, 1000 + g + d, d FROM generate_series(1, 290, 4) AS g, generate_series(1, 3) AS d;

INSERT INTO entity (id, name, entity_class, control_code, country_id)
SELECT 5000 + g, 'entity ' || g, 2, 'E-' || g, 1 + g % 200 FROM generate_series(1, 150) AS g
UNION ALL
SELECT 6000 + g, 'employee ' || g, 3, 'S-' || g, 1 FROM generate_series(1, 8) AS g;
INSERT INTO company (id, entity_id, legal_name)
SELECT 300 + g, 5000 + g, 'company ' || g FROM generate_series(1, 150) AS g WHERE g % 3 = 1;
INSERT INTO person (id, entity_id, salutation_id, first_name, last_name)
SELECT 600 + g, 5000 + g, 1 + g % 6, 'Jo' || g, 'Doe' || g FROM generate_series(3, 150, 3) AS g
UNION ALL
SELECT 800 + g, 6000 + g, 1 + g % 6, 'Al' || g, 'Clerk' || g FROM generate_series(1, 8) AS g;
INSERT INTO business (id, description, discount)
SELECT 40 + g, 'business ' || g, g * 0.01 FROM generate_series(1, 5) AS g;
INSERT INTO pricegroup (id, pricegroup) SELECT 60 + g, 'prices ' || g FROM generate_series(1, 4) AS g;
INSERT INTO entity_credit_account (id, entity_id, entity_class, meta_number, creditlimit, business_id,
	pricegroup_id, curr, ar_ap_account_id, language_code)
SELECT 2000 + g, 5000 + g, 2, 'C-' || g, g * 100, 40 + g % 6, 61 + g % 4, 'EUR', 1, 'de'
  FROM generate_series(1, 150) AS g WHERE g % 6 > 0
UNION ALL
SELECT 2000 + g, 5000 + g, 2, 'C-' || g, g * 100, NULL, NULL, 'USD', 1, NULL
  FROM generate_series(6, 150, 6) AS g;
INSERT INTO location (id, line_one, city, country_id, mail_code)
SELECT 7000 + g, g || ' High Street', 'city ' || g % 30, 1 + g % 200, '1' || g FROM generate_series(1, 250) AS g;
INSERT INTO eca_to_location (location_id, location_class, credit_id)
SELECT 7000 + g, 1 + g % 3, 2001 + g % 150 FROM generate_series(1, 250) AS g
    ON CONFLICT DO NOTHING;
INSERT INTO eca_to_contact (credit_id, contact_class_id, contact, description)
SELECT 2001 + g % 150, 1 + g % 12, 'contact ' || g, 'd' FROM generate_series(1, 200) AS g;
INSERT INTO entity_to_contact (entity_id, contact_class_id, contact)
SELECT 5001 + g % 150, 1 + g % 12, 'own ' || g FROM generate_series(1, 150) AS g;
INSERT INTO eca_note (id, note_class, note, ref_key, created)
SELECT 900 + g, 3, 'note ' || g, 2001 + g % 150, '2024-05-01' FROM generate_series(1, 200) AS g;
INSERT INTO payment (id, reference, payment_class, payment_date, entity_credit_id, currency)
SELECT 400 + g, 'R-' || g, 1, '2024-06-01'::date + g, 2001 + g % 150, 'EUR' FROM generate_series(1, 120) AS g;

INSERT INTO partscustomer (entry_id, parts_id, credit_id, pricegroup_id, pricebreak, sellprice, curr)
SELECT 3000 + g, 1001 + g % 250, CASE WHEN g % 4 > 0 THEN 2001 + g % 150 END,
       CASE WHEN g % 4 = 0 THEN 61 + g % 3 END, g % 5, g * 0.5, 'EUR' FROM generate_series(1, 900) AS g;
-- whoever books is an employee, or the audit trail refuses it
INSERT INTO users (id, username, entity_id) VALUES (1, session_user, 6001);
INSERT INTO gl (id, reference, transdate) SELECT 90000 + g, 'J-' || g, '2024-03-01' FROM generate_series(1, 20) AS g;
INSERT INTO ar (id, invnumber, transdate, entity_credit_account)
SELECT 91000 + g, 'I-' || g, '2024-03-02', 2100 + g FROM generate_series(1, 20) AS g;
INSERT INTO ap (id, invnumber, transdate, entity_credit_account)
SELECT 92000 + g, 'B-' || g, '2024-03-03', 2100 + g FROM generate_series(1, 20) AS g;

INSERT INTO oe (id, ordnumber, transdate, entity_credit_account, person_id, closed, oe_class_id, curr)
SELECT 10000 + g, 'O-' || g, '2024-01-01'::date + g % 300, 2001 + g % 150, 801 + g % 8, g % 3 = 0, 1 + g % 4, 'EUR'
  FROM generate_series(1, 1000) AS g;
INSERT INTO orderitems (id, trans_id, parts_id, description, qty, sellprice, unit)
SELECT 20000 + g, 10001 + g % 1000, 1001 + (g * 7) % 300, CASE WHEN g % 5 = 0 THEN 'special ' || g END,
       1 + g % 9, g % 50 + 0.5, 'pc' FROM generate_series(1, 3000) AS g;
INSERT INTO warehouse_inventory (entry_id, parts_id, trans_id, qty, shippingdate)
SELECT 500 + g, 1001 + g % 300, 10001 + g % 1000, -1, '2024-07-01' FROM generate_series(1, 500) AS g;

CREATE INDEX ON orderitems (parts_id);
CREATE INDEX ON oe (entity_credit_account);
CREATE INDEX ON partscustomer (parts_id, credit_id);
CREATE INDEX ON partscustomer (credit_id);
CREATE INDEX ON parts (partsgroup_id);
CREATE INDEX ON partsgroup (parent);
CREATE INDEX ON entity_credit_account (business_id);
CREATE INDEX ON eca_to_location (credit_id);
CREATE INDEX ON eca_note (ref_key);
CREATE INDEX ON payment (entity_credit_id);
CREATE INDEX ON warehouse_inventory (trans_id);
ANALYZE;

-- ---------- what the pages show ----------

CREATE SCHEMA shop;

CREATE VIEW shop.customer AS
SELECT a.id, a.meta_number AS number, entity_id, e.control_code AS code, a.creditlimit, a.curr, a.business_id, a.pricegroup_id,
       a.language_code,
       CASE WHEN c.legal_name IS NOT NULL THEN c.legal_name
            WHEN p.id IS NOT NULL THEN concat_ws(' ', s.salutation, p.first_name, p.last_name)
            ELSE e.name END AS name
  FROM entity_credit_account AS a
  JOIN entity AS e ON e.id = a.entity_id
  LEFT JOIN LATERAL (SELECT legal_name FROM company WHERE company.entity_id = e.id ORDER BY id LIMIT 1) AS c ON true
  LEFT JOIN person AS p USING (entity_id)
  LEFT JOIN salutation AS s ON s.id = p.salutation_id
 WHERE a.entity_class = 2;

CREATE VIEW shop.order_card AS
SELECT o.id, o.ordnumber, o.transdate, k.oe_class AS kind,
       CASE WHEN o.closed THEN 'closed' WHEN o.quotation THEN 'quotation' ELSE 'open' END AS state,
       jsonb_build_object('number', c.number, 'code', c.code, 'name', c.name) AS customer,
       p.last_name || ', ' || p.first_name AS clerk,
       sum(i.qty * i.sellprice) AS total,
       coalesce(jsonb_agg(jsonb_build_object('part', a.partnumber, 'text', coalesce(i.description, a.description),
                                             'group', g.partsgroup, 'qty', i.qty, 'price', i.sellprice,
                                             'weight', i.qty * a.weight) ORDER BY i.id)
                FILTER (WHERE i.id IS NOT NULL), '[]') AS items,
       (SELECT sum(-w.qty) FROM warehouse_inventory AS w WHERE w.trans_id = o.id) AS shipped
  FROM oe AS o
  JOIN shop.customer AS c ON c.id = o.entity_credit_account
  LEFT JOIN oe_class AS k ON k.id = o.oe_class_id
  LEFT JOIN person AS p ON p.id = o.person_id
  LEFT JOIN orderitems AS i ON i.trans_id = o.id
  LEFT JOIN parts AS a ON a.id = i.parts_id
  LEFT JOIN partsgroup AS g ON g.id = a.partsgroup_id
 WHERE o.oe_class_id IN (1, 3)
 GROUP BY o.id, k.oe_class, c.number, c.code, c.name, p.last_name, p.first_name;

CREATE VIEW shop.product_card AS
WITH ordered AS (
	SELECT i.parts_id, sum(i.qty) AS qty, count(DISTINCT o.id) AS orders
	  FROM orderitems AS i JOIN oe AS o ON o.id = i.trans_id
	 WHERE NOT o.closed
	 GROUP BY i.parts_id)
SELECT p.id, p.partnumber, p.description, p.sellprice, p.onhand - coalesce(d.qty, 0) AS available,
       d.orders, g.partsgroup AS "group", u.partsgroup AS supergroup,
       (SELECT jsonb_agg(jsonb_build_object('make', m.make, 'model', m.model, 'barcode', m.barcode) ORDER BY make, model)
          FROM makemodel AS m WHERE m.parts_id = p.id) AS models,
       (SELECT jsonb_object_agg(t.language_code, t.description) FROM parts_translation AS t
         WHERE t.trans_id = p.id) AS translations,
       (SELECT jsonb_agg(jsonb_build_object('customer', c.name, 'code', c.code, 'prices', r.pricegroup, 'from', x.pricebreak,
                                            'price', x.sellprice) ORDER BY x.entry_id)
          FROM partscustomer AS x
          LEFT JOIN shop.customer AS c ON c.id = x.credit_id
          LEFT JOIN pricegroup AS r ON r.id = x.pricegroup_id
         WHERE x.parts_id = p.id) AS prices,
       (SELECT jsonb_agg(b.partnumber || ' x ' || s.qty ORDER BY b.partnumber)
          FROM assembly AS s JOIN parts AS b ON b.id = s.parts_id WHERE s.id = p.id) AS components
  FROM parts AS p
  LEFT JOIN partsgroup AS g ON g.id = p.partsgroup_id
  LEFT JOIN partsgroup AS u ON u.id = g.parent
  LEFT JOIN ordered AS d ON d.parts_id = p.id
 WHERE p.obsolete IS NOT TRUE;

CREATE VIEW shop.customer_card AS
SELECT c.id, c.number, c.code, c.name, c.creditlimit, b.description AS business, b.discount, r.pricegroup,
       l.description AS language,
       (SELECT jsonb_agg(jsonb_build_object('use', k.class, 'street', a.line_one, 'city', a.city,
                                            'country', n.name) ORDER BY k.id, a.id)
          FROM eca_to_location AS x
          JOIN location AS a ON a.id = x.location_id
          JOIN location_class AS k ON k.id = x.location_class
          JOIN country AS n ON n.id = a.country_id
         WHERE x.credit_id = c.id AND a.active) AS addresses,
       (SELECT jsonb_agg(k.class || ': ' || x.contact ORDER BY k.id, x.contact)
          FROM (SELECT contact_class_id, contact FROM eca_to_contact WHERE credit_id = c.id
                UNION
                SELECT contact_class_id, contact FROM entity_to_contact WHERE entity_id = c.entity_id) AS x
          JOIN contact_class AS k ON k.id = x.contact_class_id) AS contacts,
       (SELECT count(*) FROM oe WHERE oe.entity_credit_account = c.id AND NOT oe.closed) AS open_orders,
       (SELECT jsonb_agg(p.reference ORDER BY p.payment_date, p.id) FROM payment AS p
         WHERE p.entity_credit_id = c.id) AS payments,
       (SELECT as_array(n.note ORDER BY n.id) FROM eca_note AS n WHERE n.ref_key = c.id) AS notes
  FROM shop.customer AS c
  LEFT JOIN business AS b ON b.id = c.business_id
  LEFT JOIN pricegroup AS r ON r.id = c.pricegroup_id
  LEFT JOIN language AS l ON l.code = c.language_code;

-- two key columns
CREATE VIEW shop.price_card AS
SELECT x.parts_id, x.credit_id, p.partnumber, p.sellprice AS list_price,
       jsonb_agg(jsonb_build_object('from', x.pricebreak, 'price', x.sellprice) ORDER BY x.entry_id) AS prices,
       rank() OVER (PARTITION BY x.parts_id ORDER BY min(x.sellprice)) AS place
  FROM partscustomer AS x JOIN parts AS p ON p.id = x.parts_id
 GROUP BY x.parts_id, x.credit_id, p.id;

-- a path through a tree
CREATE VIEW shop.group_card AS
WITH RECURSIVE path AS (
	SELECT id AS start, id, parent, partsgroup, 1 AS step FROM partsgroup
	UNION ALL
	SELECT path.start, g.id, g.parent, g.partsgroup, path.step + 1
	  FROM path JOIN partsgroup AS g ON g.id = path.parent WHERE path.step < 10)
SELECT g.id, g.partsgroup AS name,
       (SELECT string_agg(path.partsgroup, ' > ' ORDER BY path.step DESC) FROM path WHERE path.start = g.id) AS path,
       (SELECT count(*) FROM parts WHERE parts.partsgroup_id = g.id AND obsolete IS NOT TRUE) AS products
  FROM partsgroup AS g;

-- what cannot be cached as it is
CREATE VIEW shop.offer_card AS
SELECT p.id, p.partnumber,
       (SELECT min(x.sellprice) FROM partscustomer AS x
         WHERE x.parts_id = p.id AND (x.validto IS NULL OR x.validto >= current_date)) AS offer
  FROM parts AS p;
CREATE VIEW shop.margin_card AS
SELECT p.id, p.partnumber, p.sellprice - avgcost(p.id) AS margin, to_timestamp(p.id) < now() AS old FROM parts AS p;
