# Entities made of views, their dependencies and their cache servers, through pg_dump, pg_restore
# and ALTER EXTENSION UPDATE. A logical restore in another cluster begins with clean caches: what
# the old cluster left in Redis under the same namespace is flushed before anybody reads it.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use CacheKit;
use CacheServer;
use RedisServer;

my $redis = RedisServer->new('main')->start;
my $old = new_node('old', allows_streaming => 1);
$old->start;
$old->safe_psql('postgres', 'CREATE DATABASE shop');
$old->safe_psql(
	'shop', q{
	CREATE EXTENSION cachekit;
	CREATE SERVER hot FOREIGN DATA WRAPPER cachekit OPTIONS (} . $redis->server_options . q{);
	CREATE SCHEMA "My shop";
	SET search_path = "My shop";
	CREATE TABLE product (id int PRIMARY KEY, "Price" numeric);
	CREATE TABLE ordr (id int PRIMARY KEY, who text);
	CREATE TABLE item ("Order" int, product int, PRIMARY KEY ("Order", product)) PARTITION BY RANGE ("Order");
	CREATE TABLE item_1 PARTITION OF item FOR VALUES FROM (0) TO (5);
	CREATE TABLE item_2 PARTITION OF item FOR VALUES FROM (5) TO (100);
	INSERT INTO product SELECT i, i * 2 FROM generate_series(1, 5) i;
	INSERT INTO ordr SELECT i, 'who ' || i FROM generate_series(1, 9) i;
	INSERT INTO item SELECT o, p FROM generate_series(1, 9) o, generate_series(1, 3) p;
	CREATE VIEW priced AS SELECT id, "Price" AS price FROM product;
	CREATE VIEW "Card" AS SELECT o.id, o.who, jsonb_agg(p.price ORDER BY p.id) AS prices
	  FROM ordr o JOIN item i ON i."Order" = o.id JOIN priced p ON p.id = i.product GROUP BY o.id;
	SELECT cachekit.attach('"Card"', key => '{id}', servers => '{hot}', ttl => 'infinity',
		ttl_jitter => 5, max_value_size => 10000);
	SELECT cachekit.add_dependency('"Card"', 'product',
		via => 'SELECT "Order" FROM item WHERE product = ($1).id');
	CREATE VIEW all_items AS SELECT "Order", product FROM item;
	SELECT cachekit.attach('all_items', key => '{Order}', many => true, name => 'items',
		on_change => 'refresh', refresh_absent => true, early_refresh => 1);
	});

my $state = q{
	SELECT row_to_json(e)::text FROM cachekit.entities AS e
	UNION ALL SELECT row_to_json(d)::text FROM cachekit.dependencies AS d
	UNION ALL SELECT format('%s %s', srvname, (SELECT array_agg(o ORDER BY o) FROM unnest(srvoptions) AS o)) FROM pg_foreign_server
	UNION ALL SELECT format('%s %s %s', tgrelid::regclass, tgname, tgenabled) FROM pg_trigger WHERE tgname LIKE 'cachekit%'
	ORDER BY 1};
my $expected = $old->safe_psql('shop', $state);
is(() = $expected =~ /"sound":true/g, 2, 'both entities are sound before');

# All documents, of both entities, twice: loaded, and from a cache.
my $wrong = q{
	SET search_path = "My shop";
	SELECT count(*) FROM generate_series(1, 2) AS again, generate_series(1, 10) AS o(id)
	  LEFT JOIN "Card" AS c USING (id)
	  LEFT JOIN (SELECT "Order" AS id, jsonb_agg(to_jsonb(i)) AS doc FROM all_items AS i GROUP BY 1) AS i
		USING (id)
	 WHERE cachekit.fetch('"Card"', o.id) IS DISTINCT FROM to_jsonb(c)
		OR cachekit.fetch('all_items', o.id) IS DISTINCT FROM i.doc};

sub works
{
	my ($node, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is($node->safe_psql('shop', $wrong), 0, "$what: right");
	$node->safe_psql('shop', q{UPDATE "My shop".product SET "Price" = "Price" + 1 WHERE id = 2});
	is($node->safe_psql('shop', $wrong), 0, "$what: after a change by way of another table");
	$node->safe_psql('shop', q{UPDATE "My shop".item SET "Order" = 10 WHERE "Order" = 1 AND product = 1});
	is($node->safe_psql('shop', $wrong), 0, "$what: after a move between partitions");
	$node->safe_psql('shop', q{UPDATE "My shop".item SET "Order" = 1 WHERE "Order" = 10});
	is($node->safe_psql('shop', $wrong), 0, "$what: and back");
	cmp_ok(counter($node, 'Card', 'local_hits', 'shop'), '>', 0, "$what: from the cache");
	return;
}

works($old, 'the original');
ok($old->poll_query_until('shop', q{SELECT state = 'ready' FROM cachekit.servers}), 'Redis is ready');
ok($old->poll_query_until('shop', q{SELECT cachekit.fetch('"My shop"."Card"', 3, 'bypass') IS NOT NULL AND
	(SELECT bool_or(present) FROM cachekit.inspect('"My shop"."Card"', 3) WHERE tier = 'hot')}),
	'and has documents');
my $key = $old->safe_psql('shop', q{SELECT cachekit.key('"My shop"."Card"', 3)});
isnt($redis->cli('GET', $key), '', 'which anybody can read');

my $folder = PostgreSQL::Test::Utils::tempdir;
command_ok([ 'pg_dump', '-Fc', '-f', "$folder/dump", '-d', $old->connstr('shop') ], 'pg_dump');
$old->stop;
isnt($redis->cli('GET', $key), '', 'the document outlives the cluster');

# --- another cluster ---

my $new = new_node('new', allows_streaming => 1);
$new->start;
command_ok([ 'pg_restore', '--exit-on-error', '-C', '-d', $new->connstr('postgres'), "$folder/dump" ],
	'pg_restore');
is($new->safe_psql('shop', $state), $expected, 'entities, dependencies, servers and triggers are there');
$new->safe_psql('shop', q{UPDATE "My shop".ordr SET who = 'new'});
ok($new->poll_query_until('shop', q{SELECT state = 'ready' FROM cachekit.servers}), 'Redis is ready again');
is($redis->cli('GET', $key), '', 'and has been flushed');
works($new, 'restored');
is($new->safe_psql('shop', q{SELECT * FROM cachekit.health()}), '', 'health() has nothing to say');

# --- ALTER EXTENSION UPDATE ---

# test/lib/later.sql adds a function, and a column to each table of the catalog
$new->safe_psql('shop', q{ALTER EXTENSION cachekit UPDATE TO 'later'});
is($new->safe_psql('shop', 'SELECT cachekit.later()'), 1, 'ALTER EXTENSION UPDATE');
is($new->safe_psql('shop', $state), $expected, 'keeps all of it');
works($new, 'updated');
$new->safe_psql('shop', q{SELECT cachekit.attach('"My shop"."Card"', ttl => '1 hour')});
works($new, 'attached again by the older library');

$new->stop;
done_testing();
