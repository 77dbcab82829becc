# Entities made of views over a schema that nobody made for cachekit: LedgerSMB's, an accounting
# program with 160 tables, triggers and inheritance of its own. test/lib/shop.sql has data, and views
# as a developer writes them. attach() says what it derived and what is missing, fetch is refused
# until that has been said, and then no change of any of the tables leaves an old document behind.
#
# The changes are random; CACHEKIT_SEED repeats a run, whose seed stands in the output.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use CacheKit;

my $schema = ($ENV{CACHEKIT_LEDGERSMB} // '') . '/usr/share/ledgersmb/sql/Pg-database.sql';
-f $schema or die "$schema is missing: CACHEKIT_LEDGERSMB must be the unpacked package \"ledgersmb\" (test/check sees to it)\n";

my $seed = $ENV{CACHEKIT_SEED} // (time ^ $$) & 0xffffff;
my $steps = $ENV{CACHEKIT_STEPS} // 2000;
srand($seed);
note("CACHEKIT_SEED=$seed");

my $node = new_node('main');
$node->append_conf('postgresql.conf', "cachekit.dependency_timeout = '60s'\nautovacuum = off");
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE shop');

my $folder = PostgreSQL::Test::Utils::tempdir;
my @psql = ('psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-F', "\t", '-o', "$folder/out");

# Run a program; what it writes to stderr.
sub run
{
	my (@command) = @_;
	my ($out, $err) = ('', '');

	return $node->run_log(\@command, '>', \$out, '2>', \$err) || $err ne '' ? substr($err, 0, 1000) : "@command failed";
}

is(run(@psql, '-d', 'shop', '-f', $schema), '', 'the schema is loaded without a word');
cmp_ok($node->safe_psql('shop', q{SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace}),
	'>', 150, 'and it is that of a real program');
is(run(@psql, '-d', 'shop', '-f', 'test/lib/shop.sql'), '', 'so are the data and the views');
$node->safe_psql('shop', 'CREATE EXTENSION cachekit');

# --- what attach() says ---

my $hint = q{HINT:  Say which keys a row of a table concerns: cachekit.add_dependency('%s', table, key => '{column}'), or via => 'SELECT key FROM ... WHERE column = ($1).id'. Or accept stale documents: cachekit.attach(..., allow_untracked => true).};

# Attach a view; what is derived, and what is missing or wrong.
sub attached
{
	my ($view, $key, $derived, @problems) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($schema, $name) = split /\./, $view;
	my $expected = '';

	$expected .= "NOTICE:  derived the dependencies of \"$name\": $derived\n" if $derived;
	$expected .= "NOTICE:  \"$name\" cannot be fetched yet: " . join('; ', @problems) . "\n" . sprintf($hint, $view)
	  if @problems;
	$expected =~ s/\n\z//;
	# psql names itself and the line
	(my $said = error_in('shop', "SELECT cachekit.attach('$view', key => '{$key}', negative_ttl => '1 h')")) =~
	  s/^psql:\S+ //mg;
	return is($said, $expected, "attach $view");
}

sub error_in
{
	my ($db, $sql) = @_;
	my ($status, $out, $err) = $node->psql($db, $sql);

	return $err;
}

sub missing { return map { "public.$_ has no dependency" } @_; }

# Read in several places, of which attach() knows some.
sub partly { return map { "public.$_ is read in several places, and has no dependency for some of them" } @_; }

attached('shop.order_card', 'id', 'public.oe (id), public.orderitems (trans_id), public.warehouse_inventory (trans_id)',
	missing(qw(entity_credit_account entity company person salutation oe_class parts partsgroup)));
# parts twice: as itself, which is derived, and as a component
attached('shop.product_card', 'id',
	'public.makemodel (parts_id), public.parts (id), public.assembly (id), public.orderitems (parts_id), public.partscustomer (parts_id), public.parts_translation (trans_id)',
	partly('parts'), missing(qw(partsgroup entity_credit_account entity company person salutation pricegroup oe)));
# an aggregate of the schema's own, which nobody has declared to be what it is
attached('shop.customer_card', 'id',
	'public.entity_credit_account (id), public.eca_to_contact (credit_id), public.eca_to_location (credit_id), public.eca_note (ref_key), public.oe (entity_credit_account), public.payment (entity_credit_id)',
	'function lsmb_array_append(anyarray,anyelement) is VOLATILE (declare it IMMUTABLE if it reads nothing but its arguments)',
	missing(qw(entity company person salutation business pricegroup language location location_class country
		  entity_to_contact contact_class)));
# a rank among the customers of a product depends on the others
attached('shop.price_card', 'parts_id,credit_id', '', missing(qw(partscustomer parts)));
attached('shop.group_card', 'id', 'public.parts (partsgroup_id), public.partsgroup (id)', partly('partsgroup'));
# the schema's own views
attached('public.tx_report', 'id', 'public.gl (id), public.ar (id), public.ap (id)');
attached('public.chart', 'id',
	'public.account_heading (id), public.account (id), public.account_link (account_id), public.account_translation (trans_id), public.account_heading_translation (trans_id)',
	'session_user depends on the session',
	'function concat_colon(text,text) is VOLATILE (declare it IMMUTABLE if it reads nothing but its arguments)',
	missing(qw(user_preference users)));
attached('public.cash_impact', 'id', 'public.gl (id), public.acc_trans (trans_id), public.ar (id), public.ap (id)',
	missing('account_link'));
attached('public.periods', 'id', '', 'function now() is not immutable',
	'text is cast to type date, which may depend on the time or the session');

# what can never be told of
attached('shop.offer_card', 'id', 'public.parts (id), public.partscustomer (parts_id)', 'current_date depends on the clock');
attached('shop.margin_card', 'id', 'public.parts (id)',
	'function avgcost(integer) is VOLATILE (declare it IMMUTABLE if it reads nothing but its arguments)',
	'function now() is not immutable');
like(error_in('shop', "SELECT cachekit.fetch('shop.offer_card', 1001)"),
	qr/ERROR:  entity "offer_card" cannot be fetched: current_date depends on the clock\nDETAIL:  Its documents would become stale and nobody would tell\.\nHINT:  .*cachekit\.add_dependency\(\), or accept stale documents with cachekit\.attach\(\.\.\., allow_untracked => true\)/,
	'fetch is refused, and says why');
is(output_of($node, q{
	SET client_min_messages = warning;
	SELECT cachekit.attach('shop.offer_card', allow_untracked => true);
	SELECT cachekit.fetch('shop.offer_card', 1002) = to_jsonb(v) FROM shop.offer_card AS v WHERE id = 1002;
	SELECT cachekit.detach(v::regclass) FROM unnest('{shop.offer_card,shop.margin_card,chart,cash_impact,periods}'::text[]) AS v},
	'shop'), "\nt\n\n\n\n\n", 'unless that is accepted');

# --- say what is missing ---

# For each card: what leads to its keys, table and query in turn. No query goes through the table
# that it is for: a row that has been deleted is not there any more.
my @said = (
	order_card => [
		entity_credit_account => 'SELECT id FROM oe WHERE entity_credit_account = ($1).id',
		entity => 'SELECT o.id FROM oe AS o JOIN entity_credit_account AS a ON a.id = o.entity_credit_account WHERE a.entity_id = ($1).id',
		company => 'SELECT o.id FROM oe AS o JOIN entity_credit_account AS a ON a.id = o.entity_credit_account WHERE a.entity_id = ($1).entity_id',
		person => 'SELECT o.id FROM oe AS o JOIN entity_credit_account AS a ON a.id = o.entity_credit_account WHERE a.entity_id = ($1).entity_id',
		person => 'SELECT id FROM oe WHERE person_id = ($1).id',
		salutation => 'SELECT o.id FROM oe AS o JOIN entity_credit_account AS a ON a.id = o.entity_credit_account JOIN person AS p ON p.entity_id = a.entity_id WHERE p.salutation_id = ($1).id',
		oe_class => 'SELECT id FROM oe WHERE oe_class_id = ($1).id',
		parts => 'SELECT trans_id FROM orderitems WHERE parts_id = ($1).id',
		partsgroup => 'SELECT i.trans_id FROM orderitems AS i JOIN parts AS a ON a.id = i.parts_id WHERE a.partsgroup_id = ($1).id',
	],
	product_card => [
		parts => 'SELECT id FROM assembly WHERE parts_id = ($1).id',
		partsgroup => 'SELECT id FROM parts WHERE partsgroup_id = ($1).id',
		partsgroup => 'SELECT p.id FROM parts AS p JOIN partsgroup AS g ON g.id = p.partsgroup_id WHERE g.parent = ($1).id',
		entity_credit_account => 'SELECT parts_id FROM partscustomer WHERE credit_id = ($1).id',
		entity => 'SELECT x.parts_id FROM partscustomer AS x JOIN entity_credit_account AS a ON a.id = x.credit_id WHERE a.entity_id = ($1).id',
		company => 'SELECT x.parts_id FROM partscustomer AS x JOIN entity_credit_account AS a ON a.id = x.credit_id WHERE a.entity_id = ($1).entity_id',
		person => 'SELECT x.parts_id FROM partscustomer AS x JOIN entity_credit_account AS a ON a.id = x.credit_id WHERE a.entity_id = ($1).entity_id',
		salutation => 'SELECT x.parts_id FROM partscustomer AS x JOIN entity_credit_account AS a ON a.id = x.credit_id JOIN person USING (entity_id) WHERE salutation_id = ($1).id',
		pricegroup => 'SELECT parts_id FROM partscustomer WHERE pricegroup_id = ($1).id',
		oe => 'SELECT parts_id FROM orderitems WHERE trans_id = ($1).id',
	],
	customer_card => [
		entity => 'SELECT id FROM entity_credit_account WHERE entity_id = ($1).id',
		company => 'SELECT id FROM entity_credit_account WHERE entity_id = ($1).entity_id',
		person => 'SELECT id FROM entity_credit_account WHERE entity_id = ($1).entity_id',
		salutation => 'SELECT a.id FROM entity_credit_account AS a JOIN person USING (entity_id) WHERE salutation_id = ($1).id',
		business => 'SELECT id FROM entity_credit_account WHERE business_id = ($1).id',
		pricegroup => 'SELECT id FROM entity_credit_account WHERE pricegroup_id = ($1).id',
		language => 'SELECT id FROM entity_credit_account WHERE language_code = ($1).code',
		location => 'SELECT credit_id FROM eca_to_location WHERE location_id = ($1).id',
		location_class => 'SELECT credit_id FROM eca_to_location WHERE location_class = ($1).id',
		country => 'SELECT x.credit_id FROM eca_to_location AS x JOIN location AS l ON l.id = x.location_id WHERE l.country_id = ($1).id',
		entity_to_contact => 'SELECT id FROM entity_credit_account WHERE entity_id = ($1).entity_id',
		contact_class => 'SELECT credit_id FROM eca_to_contact WHERE contact_class_id = ($1).id
			UNION ALL SELECT a.id FROM entity_credit_account AS a JOIN entity_to_contact AS x USING (entity_id) WHERE x.contact_class_id = ($1).id',
	],
	price_card => [
		partscustomer => '{parts_id,credit_id}',
		partscustomer => 'SELECT parts_id, credit_id FROM partscustomer WHERE parts_id = ($1).parts_id',
		parts => 'SELECT parts_id, credit_id FROM partscustomer WHERE parts_id = ($1).id',
	],
	group_card => [
		partsgroup => 'WITH RECURSIVE below AS (SELECT ($1).id UNION SELECT g.id FROM below JOIN partsgroup AS g ON g.parent = below.id)
			SELECT id FROM below',
	]);

# fetch names what is still missing, until nothing is.
sub say_all
{
	my ($card, @left) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my %seen;
	my @silent;

	while (my ($base, $how) = splice(@left, 0, 2))
	{
		my $argument = $how =~ /^\{/ ? 'key' : 'via';

		push @silent, $base
		  if !$seen{$base}++ && error_in('shop', "SELECT cachekit.fetch('shop.$card', '(1,1)'::text)") !~
		  /ERROR:  entity "$card" cannot be fetched: .*\bpublic\.$base (?:is read in several places, and )?has no dependency/;
		$node->safe_psql('shop', "SELECT cachekit.add_dependency('shop.$card', '$base', $argument => \$_\$$how\$_\$)");
	}
	is("@silent", '', "$card: fetch is refused until all has been said");
	return;
}

$node->safe_psql('shop', 'ALTER FUNCTION lsmb_array_append(anyarray, anyelement) IMMUTABLE');
while (my ($card, $dependencies) = splice(@said, 0, 2))
{
	say_all($card, @$dependencies);
}
is($node->safe_psql('shop', 'SELECT name FROM cachekit.entities WHERE NOT sound'), '', 'then all are cached');
is($node->safe_psql('shop', 'SELECT * FROM cachekit.health()'), '', 'and health() has nothing to say');

# --- compare ---

# Ids that most changes are about, and whose documents are looked at after each of them; rows move
# to ids further on. Besides them, all documents are looked at now and then.
my %hot = (
	order => [ map { 10000 + 2 * $_ } 1 .. 9 ],
	part => [ 1001 .. 1009 ],
	customer => [ 2001 .. 2008 ],
	group => [ 101 .. 108 ],
	journal => [ 90001 .. 90003, 91001 .. 91003, 92001 .. 92003 ]);
my %all = (order => [ 10001 .. 11000 ], part => [ 1001 .. 1300 ], customer => [ 2001 .. 2100 ], group => [ 101 .. 120 ]);
my %moved = (order => 5000, part => 500);

my @cards = qw(order_card product_card customer_card price_card group_card tx_report);
my %view = (map({ ($_ => "shop.$_") } @cards), tx_report => 'public.tx_report');

sub ids { return 'ARRAY[' . join(',', @_) . ']'; }

sub with_moved { my ($kind) = @_; return (@{ $hot{$kind} }, map { $_ + $moved{$kind} } @{ $hot{$kind} }); }

my @pairs = map { my $part = $_; map { "'($part,$_)'" } 2001 .. 2004, $part + 1000 } 1002 .. 1006;
my %hot_keys = (
	order_card => ids(with_moved('order')),
	product_card => ids(with_moved('part')),
	customer_card => ids(@{ $hot{customer} }),
	price_card => ids(@pairs),
	group_card => ids(@{ $hot{group} }, 121, 122),
	tx_report => ids(@{ $hot{journal} }));
my %all_keys = (
	order_card => 'ARRAY(SELECT id FROM oe)',
	product_card => 'ARRAY(SELECT id FROM parts)',
	customer_card => 'ARRAY(SELECT id FROM entity_credit_account)',
	price_card => q{ARRAY(SELECT DISTINCT format('(%s,%s)', parts_id, credit_id) FROM partscustomer WHERE credit_id IS NOT NULL)},
	group_card => 'ARRAY(SELECT id FROM partsgroup)',
	tx_report => 'ARRAY(SELECT id FROM transactions)');

# A prepared statement that returns a card, the number of its keys and of its documents, a sum of what
# the view says, and the keys whose documents differ from that. The view is asked for each key, or
# for all at once.
sub comparison
{
	my ($name, $card, $keys, $each) = @_;
	my ($key, $condition) = ('v.id::text', 'v.id = f.key::int');
	my $from = "cachekit.fetch_many('$view{$card}', $keys) AS f";

	($key, $condition) = (q{format('(%s,%s)', v.parts_id, v.credit_id)},
		q{v.parts_id = split_part(trim('()' FROM f.key), ',', 1)::int AND v.credit_id = split_part(trim('()' FROM f.key), ',', 2)::int})
	  if $card eq 'price_card';
	$from = $each
	  ? "(SELECT f.*, (SELECT to_jsonb(v) FROM $view{$card} AS v WHERE $condition) AS document FROM $from OFFSET 0) AS f"
	  : "$from LEFT JOIN (SELECT $key AS key, to_jsonb(v) AS document FROM $view{$card} AS v) AS v USING (key)";
	return qq{PREPARE ${name}_$card AS
		SELECT '$card', count(*), count(document), md5(string_agg(coalesce(document::text, '-'), ' ' ORDER BY f.key)),
		       string_agg(f.key, ' ' ORDER BY f.key) FILTER (WHERE f.value IS DISTINCT FROM document)
		  FROM $from;\n};
}

my $prepare = join('', "SET jit = off; SET plan_cache_mode = force_generic_plan;\n",
	map { comparison('hot', $_, $hot_keys{$_}, 1), comparison('all', $_, $all_keys{$_}, 0) } @cards);

sub compare { my ($name, @which) = @_; return join('', "\\echo $name\n", map { "EXECUTE ${name}_$_;\n" } @which); }

# Which tables each card reads, by what the server knows of views.
my %reads;
$reads{$_->[1]}{$_->[0]} = 1 foreach map { [ split /\|/ ] } split /\n/, $node->safe_psql('shop', q{
	WITH RECURSIVE used AS (
		SELECT v AS card, v::regclass::oid AS relid FROM unnest(ARRAY[} . join(',', map { "'$view{$_}'" } @cards) . q{]) AS v
		UNION
		SELECT used.card, d.refobjid FROM used JOIN pg_rewrite AS r ON r.ev_class = used.relid
		  JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass)
	SELECT split_part(card, '.', 2), relname FROM used JOIN pg_class ON oid = relid AND relkind = 'r'});

# The cards that a change can concern: all, if it goes on to other tables.
sub concerned
{
	my ($table, $sql) = @{ $_[0] };

	return @cards if !$reads{$table} || $sql =~ /DELETE|TRUNCATE/;
	return grep { $reads{$table}{$_} } @cards;
}

# --- random changes ---

# One change each, or several one after the other. {n} is a number, {t} a new text, {part} the id of
# a part and so on; {part:a} is the same each time.
my %changes = (
	parts => [
		q{UPDATE parts SET partnumber = 'P-{t}' WHERE id = {part}},
		q{UPDATE parts SET description = '{t}', weight = {n} WHERE id = {part}},
		q{UPDATE parts SET sellprice = {n}, onhand = {n} WHERE id = {part}},
		q{UPDATE parts SET partsgroup_id = {group} WHERE id = {part}},
		q{UPDATE parts SET obsolete = obsolete IS NOT TRUE WHERE id = {part}},
		q{UPDATE parts SET bin = '{t}' WHERE id = {part}},
		q{UPDATE parts SET weight = weight + 1, onhand = onhand - 1 WHERE partsgroup_id = {group}},
		q{UPDATE parts SET id = {part:a} + 500 WHERE id = {part:a} AND NOT EXISTS (SELECT FROM parts WHERE id = {part:a} + 500)
			AND NOT EXISTS (SELECT FROM assembly WHERE {part:a} IN (id, parts_id)) AND NOT EXISTS (SELECT FROM parts_translation WHERE trans_id = {part:a})},
		q{UPDATE parts SET id = {part:a} WHERE id = {part:a} + 500 AND NOT EXISTS (SELECT FROM parts WHERE id = {part:a})
			AND NOT EXISTS (SELECT FROM assembly WHERE {part:a} + 500 IN (id, parts_id)) AND NOT EXISTS (SELECT FROM parts_translation WHERE trans_id = {part:a} + 500)},
		q{DELETE FROM parts WHERE id = {part:a} AND NOT EXISTS (SELECT FROM assembly WHERE {part:a} IN (id, parts_id))
			AND NOT EXISTS (SELECT FROM parts_translation WHERE trans_id = {part:a})},
		(q{INSERT INTO parts (id, partnumber, description, sellprice, onhand, weight, partsgroup_id)
			VALUES ({part}, 'P-{t}', 'new {t}', {n}, {n}, {n}, {group}) ON CONFLICT DO NOTHING}) x 3,
	],
	partsgroup => [
		(q{UPDATE partsgroup SET partsgroup = 'group {t}' WHERE id = {group}}) x 2,
		q{UPDATE partsgroup SET parent = (SELECT max(id) FROM partsgroup WHERE id < {group:a} - {n} / 25) WHERE id = {group:a}},
		q{UPDATE partsgroup SET parent = NULL WHERE id = {group}},
		q{UPDATE partsgroup SET id = CASE id WHEN 121 THEN {group:a} ELSE 121 END WHERE id IN ({group:a}, 121)
			AND (SELECT count(*) FROM partsgroup WHERE id IN ({group:a}, 121)) = 1 AND NOT EXISTS (SELECT FROM partsgroup AS c WHERE c.parent IN ({group:a}, 121))},
		q{DELETE FROM partsgroup WHERE id = {group:a} AND NOT EXISTS (SELECT FROM partsgroup AS c WHERE c.parent = {group:a})},
		(q{INSERT INTO partsgroup (id, partsgroup, parent) VALUES ({group:a}, 'group {t}', (SELECT min(id) FROM partsgroup WHERE id < {group:a}))
			ON CONFLICT DO NOTHING}) x 2,
	],
	makemodel => [
		(q{INSERT INTO makemodel VALUES ({part}, '{n}', 'make {t}', 'model {t}')}) x 2,
		q{UPDATE makemodel SET model = '{t}' WHERE parts_id = {part}},
		q{UPDATE makemodel SET parts_id = {part} WHERE parts_id = {part:a} AND make = (SELECT min(make) FROM makemodel WHERE parts_id = {part:a})},
		q{DELETE FROM makemodel WHERE parts_id = {part}},
		q{DELETE FROM makemodel WHERE parts_id BETWEEN {part:a} AND {part:a} + 5},
		[ q{TRUNCATE makemodel}, q{INSERT INTO makemodel SELECT * FROM backup.makemodel} ],
	],
	parts_translation => [
		q{UPDATE parts_translation SET description = '{t}' WHERE trans_id = {part} AND language_code = 'de'},
		q{UPDATE translation SET description = 'by its parent {t}' WHERE trans_id = {part}},
		q{UPDATE parts_translation SET language_code = CASE language_code WHEN 'de' THEN 'fr_CA' ELSE 'de' END
			WHERE trans_id = {part:a} AND (SELECT count(*) FROM parts_translation WHERE trans_id = {part:a}) = 1},
		(q{DELETE FROM parts_translation WHERE trans_id = {part}}) x 2,
		q{DELETE FROM translation WHERE trans_id = {part} AND language_code = 'de'},
		(q{INSERT INTO parts_translation SELECT id, 'de', '{t}' FROM parts WHERE id = {part} ON CONFLICT DO NOTHING}) x 3,
	],
	assembly => [
		q{UPDATE assembly SET qty = {n} WHERE id = {part}},
		(q{DELETE FROM assembly WHERE {part} IN (id, parts_id)}) x 2,
		(q{INSERT INTO assembly (id, parts_id, qty) SELECT a.id, b.id, {n} FROM parts AS a, parts AS b WHERE a.id = {part} AND b.id = {part}
			ON CONFLICT DO NOTHING}) x 3,
	],
	partscustomer => [
		q{UPDATE partscustomer SET sellprice = {n} WHERE parts_id = {part}},
		q{UPDATE partscustomer SET sellprice = {n}, pricebreak = {n} WHERE parts_id = {part} AND credit_id = {customer}},
		q{UPDATE partscustomer SET parts_id = {part} WHERE entry_id = (SELECT min(entry_id) FROM partscustomer WHERE parts_id = {part})},
		q{UPDATE partscustomer SET credit_id = NULL WHERE credit_id = {customer} AND parts_id = {part}},
		q{UPDATE partscustomer SET pricegroup_id = (SELECT id FROM pricegroup ORDER BY id OFFSET {n} % 4 LIMIT 1) WHERE parts_id = {part}},
		q{DELETE FROM partscustomer WHERE parts_id = {part}},
		(q{INSERT INTO partscustomer (parts_id, credit_id, pricegroup_id, pricebreak, sellprice)
			SELECT {part}, id, (SELECT max(id) FROM pricegroup), {n}, {n} FROM entity_credit_account WHERE id = {customer}}) x 6,
		[ q{TRUNCATE partscustomer}, q{INSERT INTO partscustomer SELECT b.* FROM backup.partscustomer AS b
			WHERE (credit_id IS NULL OR credit_id IN (SELECT id FROM entity_credit_account))
			AND (pricegroup_id IS NULL OR pricegroup_id IN (SELECT id FROM pricegroup))} ],
	],
	pricegroup => [
		(q{UPDATE pricegroup SET pricegroup = 'prices {t}' WHERE id = 61 + {n} % 4}) x 3,
		q{DELETE FROM pricegroup AS g WHERE NOT EXISTS (SELECT FROM partscustomer WHERE pricegroup_id = g.id)
			AND NOT EXISTS (SELECT FROM entity_credit_account WHERE pricegroup_id = g.id)},
		q{INSERT INTO pricegroup (id, pricegroup) VALUES (61 + {n} % 4, '{t}') ON CONFLICT DO NOTHING},
	],
	orderitems => [
		q{UPDATE orderitems SET qty = {n} WHERE trans_id = {order}},
		q{UPDATE orderitems SET sellprice = {n}, description = NULL WHERE trans_id = {order}},
		q{UPDATE orderitems SET parts_id = {part} WHERE id = (SELECT min(id) FROM orderitems WHERE trans_id = {order})},
		q{UPDATE orderitems SET trans_id = {order} WHERE id = (SELECT max(id) FROM orderitems WHERE trans_id = {order})},
		q{UPDATE orderitems SET trans_id = NULL WHERE id = (SELECT max(id) FROM orderitems WHERE trans_id = {order})},
		q{UPDATE orderitems SET serialnumber = '{t}' WHERE trans_id = {order}},
		q{UPDATE orderitems SET qty = qty + 1 WHERE parts_id = {part}},
		q{DELETE FROM orderitems WHERE id = (SELECT min(id) FROM orderitems WHERE trans_id = {order})},
		q{DELETE FROM orderitems WHERE trans_id = {order}},
		(q{INSERT INTO orderitems (trans_id, parts_id, qty, sellprice) VALUES ({order}, {part}, {n}, {n})}) x 3,
		q{INSERT INTO orderitems (trans_id, parts_id, description, qty, sellprice) SELECT {order}, {part} + g, '{t}', g, {n} FROM generate_series(1, 3) AS g},
	],
	oe => [
		q{UPDATE oe SET closed = NOT closed WHERE id = {order}},
		q{UPDATE oe SET quotation = NOT quotation, ordnumber = '{t}' WHERE id = {order}},
		q{UPDATE oe SET oe_class_id = (ARRAY[1, 3, 1, 3, 2])[1 + {n} % 5] WHERE id = {order}},
		q{UPDATE oe SET entity_credit_account = coalesce((SELECT id FROM entity_credit_account WHERE id = {customer}), entity_credit_account) WHERE id = {order}},
		q{UPDATE oe SET person_id = CASE WHEN {n} > 10 THEN 801 + {n} % 4 END WHERE id = {order}},
		q{UPDATE oe SET notes = '{t}' WHERE id = {order}},
		q{UPDATE oe SET transdate = transdate + 1 WHERE entity_credit_account = {customer}},
		q{UPDATE oe SET id = CASE WHEN id < 15000 THEN id + 5000 ELSE id - 5000 END WHERE id IN ({order:a}, {order:a} + 5000)
			AND (SELECT count(*) FROM oe WHERE id IN ({order:a}, {order:a} + 5000)) = 1},
		q{DELETE FROM oe WHERE id = {order}},
		(q{INSERT INTO oe (id, ordnumber, entity_credit_account, person_id, closed, oe_class_id)
			SELECT {order}, '{t}', id, 801, false, 1 FROM entity_credit_account WHERE id = {customer} ON CONFLICT DO NOTHING}) x 3,
	],
	oe_class => [q{UPDATE oe_class SET oe_class = 'class {t}' WHERE id = 1 + {n} % 4}],
	warehouse_inventory => [
		(q{INSERT INTO warehouse_inventory (trans_id, parts_id, qty) VALUES ({order}, {part}, -{n})}) x 2,
		q{UPDATE warehouse_inventory SET qty = qty - 1 WHERE trans_id = {order}},
		q{UPDATE warehouse_inventory SET trans_id = {order} WHERE trans_id = {order}},
		q{DELETE FROM warehouse_inventory WHERE trans_id = {order}},
		[ q{TRUNCATE warehouse_inventory}, q{INSERT INTO warehouse_inventory SELECT * FROM backup.warehouse_inventory} ],
	],
	entity_credit_account => [
		q{UPDATE entity_credit_account SET creditlimit = {n} WHERE id = {customer}},
		q{UPDATE entity_credit_account SET meta_number = '{t}' WHERE id = {customer}},
		q{UPDATE entity_credit_account SET entity_class = CASE WHEN {n} > 25 THEN 2 ELSE 1 END WHERE id = {customer}},
		q{UPDATE entity_credit_account SET entity_id = coalesce((SELECT id FROM entity WHERE id = {customer} + 3000), entity_id), meta_number = '{t}' WHERE id = {customer}},
		q{UPDATE entity_credit_account SET business_id = 41 + {n} % 6, language_code = (ARRAY['de', 'fr_CA', 'bg', NULL])[1 + {n} % 4] WHERE id = {customer}},
		q{UPDATE entity_credit_account SET pricegroup_id = (SELECT max(id) FROM pricegroup WHERE id <= 61 + {n} % 4) WHERE id = {customer}},
		q{UPDATE entity_credit_account SET threshold = {n} WHERE id = {customer}},
		# with all that goes with it by ON DELETE CASCADE
		q{DELETE FROM entity_credit_account WHERE id = {customer:a} AND NOT EXISTS (SELECT FROM oe WHERE entity_credit_account = {customer:a})
			AND NOT EXISTS (SELECT FROM payment WHERE entity_credit_id = {customer:a})},
		(q{INSERT INTO entity_credit_account (id, entity_id, entity_class, meta_number, ar_ap_account_id)
			SELECT {customer:a}, id, 2, '{t}', 1 FROM entity WHERE id = {customer:a} + 3000 ON CONFLICT DO NOTHING}) x 2,
	],
	entity => [
		q{UPDATE entity SET name = 'entity {t}' WHERE id = {customer} + 3000},
		(q{UPDATE entity SET control_code = '{t}' WHERE id = {customer} + 3000}) x 3,
		(q{DELETE FROM entity AS e WHERE id = {customer:a} + 3000 AND NOT EXISTS (SELECT FROM company AS c WHERE c.entity_id = e.id)
			AND NOT EXISTS (SELECT FROM person AS p WHERE p.entity_id = e.id)
			AND NOT EXISTS (SELECT FROM oe JOIN entity_credit_account AS a ON a.id = oe.entity_credit_account WHERE a.entity_id = e.id)
			AND NOT EXISTS (SELECT FROM payment AS p JOIN entity_credit_account AS a ON a.id = p.entity_credit_id WHERE a.entity_id = e.id)}) x 2,
		(q{INSERT INTO entity (id, name, entity_class, control_code, country_id) VALUES ({customer:a} + 3000, 'new {t}', 2, '{t}', 1) ON CONFLICT DO NOTHING}) x 2,
	],
	company => [
		(q{UPDATE company SET legal_name = 'company {t} ' || id WHERE entity_id = {customer} + 3000}) x 3,
		q{UPDATE company SET tax_id = '{t}' WHERE entity_id = {customer} + 3000},
		q{UPDATE company SET entity_id = coalesce((SELECT id FROM entity WHERE id = {customer} + 3000), entity_id) WHERE entity_id = {customer} + 3000},
		q{DELETE FROM company WHERE entity_id = {customer} + 3000},
		(q{INSERT INTO company (entity_id, legal_name) SELECT id, 'company {t}' FROM entity WHERE id = {customer} + 3000}) x 2,
	],
	person => [
		q{UPDATE person SET last_name = 'Doe{t}' WHERE entity_id = {customer} + 3000},
		q{UPDATE person SET first_name = 'Al{t}' WHERE id = 801 + {n} % 8},
		q{UPDATE person SET salutation_id = 1 + {n} % 6 WHERE entity_id = {customer} + 3000},
		q{UPDATE person SET entity_id = e.id FROM entity AS e WHERE person.entity_id = {customer} + 3000 AND e.id = {customer} + 3000
			AND NOT EXISTS (SELECT FROM person AS o WHERE o.entity_id = e.id)},
		(q{DELETE FROM person WHERE entity_id = {customer} + 3000}) x 2,
		(q{INSERT INTO person (entity_id, salutation_id, first_name, last_name) SELECT id, 1 + {n} % 6, 'Jo{t}', 'New{t}' FROM entity WHERE id = {customer} + 3000
			ON CONFLICT DO NOTHING}) x 3,
	],
	salutation => [q{UPDATE salutation SET salutation = '{t}' WHERE id = 1 + {n} % 6}],
	business => [
		(q{UPDATE business SET description = '{t}', discount = {n} WHERE id = 41 + {n} % 6}) x 2,
		q{DELETE FROM business WHERE id = 41 + {n} % 6},
		q{INSERT INTO business (id, description) VALUES (41 + {n} % 6, '{t}') ON CONFLICT DO NOTHING},
	],
	language => [q{UPDATE language SET description = '{t}' WHERE code = (ARRAY['de', 'fr_CA', 'bg'])[1 + {n} % 3]}],
	eca_to_location => [
		(q{INSERT INTO eca_to_location SELECT 7001 + ({n} * {n}) % 250, 1 + {n} % 3, id FROM entity_credit_account WHERE id = {customer} ON CONFLICT DO NOTHING}) x 4,
		q{UPDATE eca_to_location AS x SET location_class = 2 + {n} % 4 WHERE credit_id = {customer:a} AND location_class <> 1
			AND (SELECT count(*) FROM eca_to_location AS y WHERE y.credit_id = {customer:a} AND y.location_id = x.location_id) = 1},
		q{UPDATE eca_to_location AS x SET credit_id = a.id FROM entity_credit_account AS a WHERE credit_id = {customer} AND a.id = {customer:b} AND location_class <> 1
			AND NOT EXISTS (SELECT FROM eca_to_location AS y WHERE y.credit_id = {customer:b} AND y.location_id = x.location_id)},
		q{DELETE FROM eca_to_location WHERE credit_id = {customer}},
	],
	location => [
		q{UPDATE location SET city = 'city {t}' WHERE id IN (SELECT location_id FROM eca_to_location WHERE credit_id = {customer})},
		q{UPDATE location SET active = NOT active WHERE id = (SELECT min(location_id) FROM eca_to_location WHERE credit_id = {customer})},
		q{UPDATE location SET country_id = 1 + {n} WHERE id = (SELECT max(location_id) FROM eca_to_location WHERE credit_id = {customer})},
		q{UPDATE location SET mail_code = '{t}' WHERE id = 7001 + {n}},
	],
	location_class => [q{UPDATE location_class SET class = 'class {t}' WHERE id = 1 + {n} % 5}],
	country => [
		(q{UPDATE country SET name = 'land {t}' WHERE id = (SELECT min(country_id) FROM location JOIN eca_to_location ON location_id = id WHERE credit_id = {customer})}) x 2,
		q{UPDATE country SET itu = '{t}' WHERE id = {n}},
	],
	eca_to_contact => [
		(q{INSERT INTO eca_to_contact SELECT id, 1 + {n} % 12, 'contact {t}' FROM entity_credit_account WHERE id = {customer}}) x 2,
		q{UPDATE eca_to_contact SET contact = 'contact {t}' WHERE credit_id = {customer} AND contact_class_id = 1 + {n} % 12 AND contact LIKE 'contact%'
			AND (SELECT count(*) FROM eca_to_contact AS o WHERE o.credit_id = eca_to_contact.credit_id AND o.contact_class_id = eca_to_contact.contact_class_id) = 1},
		q{UPDATE eca_to_contact SET description = '{t}' WHERE credit_id = {customer}},
		q{UPDATE eca_to_contact SET credit_id = a.id FROM entity_credit_account AS a WHERE credit_id = {customer} AND a.id = {customer}},
		q{DELETE FROM eca_to_contact WHERE credit_id = {customer}},
		[ q{TRUNCATE eca_to_contact}, q{INSERT INTO eca_to_contact SELECT * FROM backup.eca_to_contact WHERE credit_id IN (SELECT id FROM entity_credit_account)} ],
	],
	entity_to_contact => [
		(q{INSERT INTO entity_to_contact SELECT id, 1 + {n} % 12, 'own {t}' FROM entity WHERE id = {customer} + 3000}) x 2,
		q{UPDATE entity_to_contact SET contact = contact || '{n}' WHERE entity_id = {customer} + 3000},
		q{UPDATE entity_to_contact SET entity_id = e.id FROM entity AS e WHERE entity_id = {customer} + 3000 AND e.id = {customer} + 3000},
		q{DELETE FROM entity_to_contact WHERE entity_id = {customer} + 3000},
	],
	contact_class => [q{UPDATE contact_class SET class = 'class {t}' WHERE id = 1 + {n} % 12}],
	payment => [
		q{UPDATE payment SET reference = '{t}' WHERE entity_credit_id = {customer}},
		q{UPDATE payment SET payment_date = payment_date - {n} WHERE id = (SELECT max(id) FROM payment WHERE entity_credit_id = {customer})},
		q{UPDATE payment SET entity_credit_id = a.id FROM entity_credit_account AS a WHERE entity_credit_id = {customer} AND a.id = {customer}},
		(q{DELETE FROM payment WHERE entity_credit_id = {customer}}) x 2,
		(q{INSERT INTO payment (reference, payment_class, entity_credit_id) SELECT '{t}', 1, id FROM entity_credit_account WHERE id = {customer}}) x 2,
	],
	eca_note => [
		q{UPDATE eca_note SET note = '{t}' WHERE ref_key = {customer}},
		q{UPDATE note SET note = 'by its parent {t}' WHERE ref_key = {customer}},
		q{UPDATE eca_note SET ref_key = a.id FROM entity_credit_account AS a WHERE ref_key = {customer} AND a.id = {customer}},
		q{DELETE FROM eca_note WHERE ref_key = {customer}},
		(q{INSERT INTO eca_note (note_class, note, ref_key) SELECT 3, '{t}', id FROM entity_credit_account WHERE id = {customer}}) x 2,
		[ q{TRUNCATE note}, q{INSERT INTO eca_note SELECT * FROM backup.eca_note WHERE ref_key IN (SELECT id FROM entity_credit_account)} ],
	],
	gl => [
		q{UPDATE gl SET reference = '{t}' WHERE id = 90001 + {n} % 4},
		q{UPDATE gl SET notes = '{t}' WHERE id = 90001 + {n} % 4},
		q{UPDATE gl SET approved = NOT approved WHERE id = 90001 + {n} % 4},
		q{DELETE FROM gl WHERE id = 90001 + {n} % 4},
		[ q{DELETE FROM transactions AS t WHERE id BETWEEN 90001 AND 90004 AND NOT EXISTS (SELECT FROM gl WHERE gl.id = t.id)},
			q{INSERT INTO gl (id, reference) SELECT g, '{t}' FROM generate_series(90001, 90004) AS g WHERE NOT EXISTS (SELECT FROM transactions WHERE id = g)} ],
	],
	ar => [ q{UPDATE ar SET invnumber = '{t}' WHERE id = 91001 + {n} % 4},
		q{UPDATE ar SET entity_credit_account = 2100 + {n} % 50 WHERE id = 91001 + {n} % 4} ],
	ap => [ q{UPDATE ap SET invnumber = '{t}' WHERE id = 92001 + {n} % 4}, q{UPDATE ap SET approved = NOT approved WHERE id = 92001 + {n} % 4} ]);

my @tables = sort keys %changes;
my $texts = 0;

sub pick { return $_[ int(rand(@_)) ]; }

sub filled
{
	my ($sql) = @_;
	my %labelled;
	my $value = sub {
		my ($kind) = @_;

		return int(rand(99)) + 1 if $kind eq 'n';
		return sprintf('t%05d', ++$texts) if $kind eq 't';
		return pick(rand() < 0.85 ? @{ $hot{$kind} } : @{ $all{$kind} });
	};

	$sql =~ s/\{(\w+)(:\w+)?\}/defined $2 ? $labelled{"$1$2"} \/\/= $value->($1) : $value->($1)/ge;
	return $sql;
}

# Changes of one table, each as [table, statement].
sub some_change
{
	my ($table) = @_;
	my $change = pick(@{ $changes{$table} });

	return map { [ $table, filled($_) ] } ref $change ? @$change : $change;
}

# A transaction with several changes, some of them undone.
sub some_transaction
{
	my @body;

	foreach (1 .. 2 + int(rand(4)))
	{
		my $sql = join('; ', map { $_->[1] } some_change(pick(@tables)));

		push @body, rand() < 0.2 ? "SAVEPOINT s; $sql; ROLLBACK TO s" : $sql;
	}
	return [ '', join('; ', 'BEGIN', @body, rand() < 0.15 ? 'ROLLBACK' : 'COMMIT') ];
}

# Make changes, and compare after each; [card, number of keys, of documents, sum, differing keys] of
# each comparison, below the change that it came after.
sub compared
{
	my ($db, $every, @script) = @_;
	my $sql = $prepare . compare('hot', @cards) . compare('all', @cards);
	my @results;
	my $step = 0;

	foreach my $change (@script)
	{
		$step++;
		$sql .= "\\echo step $step\n$change->[1];\n" . compare('hot', $step % 20 ? concerned($change) : @cards);
		$sql .= compare('all', @cards) if $step % $every == 0 || $step == @script;
	}
	open my $file, '>', "$folder/script.sql" or die $!;
	print $file $sql;
	close $file;
	$node->run_log([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-F', "\t", '-d', $db, '-f', "$folder/script.sql" ],
		'>', \my $out, '2>', \my $err);
	$err eq '' or die "CACHEKIT_SEED=$seed: $err";
	my ($now, $kind) = (0, '');
	foreach (split /\n/, $out)
	{
		if (/^step (\d+)$/) { $now = $1; }
		elsif (/^(hot|all)$/) { $kind = $1; }
		else { push @{ $results[$now]{$kind} }, [ split(/\t/, $_, -1) ]; }
	}
	return @results;
}

# The differences, as "card (keys) after the change"; at most a few.
sub differences
{
	my ($script, @results) = @_;
	my @found;

	foreach my $step (0 .. $#results)
	{
		foreach my $result (map { @{ $results[$step]{$_} // [] } } 'hot', 'all')
		{
			push @found, "$result->[0] ($result->[4]) after step $step: " . ($step ? $script->[ $step - 1 ][1] : 'nothing')
			  if $result->[4] ne '';
		}
	}
	return @found;
}

$node->safe_psql('shop', q{
	CREATE SCHEMA backup;
	CREATE TABLE backup.makemodel AS TABLE makemodel;
	CREATE TABLE backup.partscustomer AS TABLE partscustomer;
	CREATE TABLE backup.warehouse_inventory AS TABLE warehouse_inventory;
	CREATE TABLE backup.eca_to_contact AS TABLE eca_to_contact;
	CREATE TABLE backup.eca_note AS TABLE eca_note;
	SELECT setval(s, 1000000) FROM unnest('{parts_id_seq,orderitems_id_seq,partscustomer_entry_id_seq,warehouse_inventory_entry_id_seq,person_id_seq,company_id_seq,payment_id_seq,note_id_seq}'::regclass[]) AS s});

# Which tables have changed documents of which card, by changes of them alone.
my %effective;
my $compared = 0;

sub count_effects
{
	my ($script, @results) = @_;
	my %before = map { ($_->[0] => $_->[3]) } @{ $results[0]{hot} };

	foreach my $step (1 .. $#results)
	{
		foreach (@{ $results[$step]{hot} })
		{
			my ($card, $keys, $documents, $sum) = @$_;

			$effective{"$card $script->[$step - 1][0]"}++ if $sum ne $before{$card};
			$before{$card} = $sum;
		}
		$compared += $_->[1] foreach map { @{ $results[$step]{$_} // [] } } 'hot', 'all';
	}
	return;
}

my @script;
push @script, rand() < 0.12 ? some_transaction() : some_change(pick(@tables)) while @script < $steps;
my $begin = time;
my @results = compared('shop', 100, @script);
my @differences = differences(\@script, @results);
is(scalar(@differences), 0, "no old document in $steps random changes")
  or diag("CACHEKIT_SEED=$seed\n" . join("\n", @differences[ 0 .. ($#differences < 9 ? $#differences : 9) ]));
count_effects(\@script, @results);
my $n = @{ $results[0]{all} };
is($n, scalar(@cards), 'all cards are compared');
cmp_ok($_->[2], '>=', { order_card => 400, product_card => 250, customer_card => 120, price_card => 500, group_card => 15, tx_report => 50 }->{ $_->[0] },
	"$_->[0]: there are many documents") foreach @{ $results[0]{all} };

# What has not been met by chance is given some more chances.
my @needed = sort map { my $table = $_; map { "$_ $table" } keys %{ $reads{$table} } } keys %reads;
is(join("\n", @needed), $node->safe_psql('shop', q{SELECT DISTINCT (name || ' ' || base) COLLATE "C" FROM cachekit.dependencies ORDER BY 1}),
	'dependencies are on the tables that the views read');
foreach (1 .. 10)
{
	my %again = map { ((split / /)[1] => 1) } grep { !$effective{$_} } @needed;
	my @more = map { my $table = $_; map { (some_change($table), some_change(pick(@tables))) } 1 .. 30 } sort keys %again;

	last if !@more;
	note('again: ' . join(' ', sort keys %again));
	@results = compared('shop', 1000, @more);
	push @differences, differences(\@more, @results);
	count_effects(\@more, @results);
}
is(join(', ', grep { !$effective{$_} } @needed), '', 'every table of every card has changed documents of it');
cmp_ok(scalar(@needed), '>=', 45, 'which are many');
is(scalar(@differences), 0, 'and none was old');
note("$compared comparisons in " . (time - $begin) . ' s');
note(join(', ', map { "$_: " . ($effective{$_} // 0) } @needed));

my $used = $node->safe_psql('shop', q{SELECT count(*) FILTER (WHERE local_hits < 2000), sum(local_hits), sum(bypass_unsound), sum(links_unresolved), sum(invalidations), sum(flushes), sum(negative_hits) FROM cachekit.stat_entities});
note("hits, unsound, unresolved, invalidations, flushes, negative hits: $used");
like($used, qr/^0\|\d+\|0\|0\|\d+\|\d+\|[1-9]/, 'documents came from the cache, those that do not exist as well');

# --- dump and restore ---

my $dependencies = q{SELECT * FROM cachekit.dependencies ORDER BY name, base::text, key, via};
my $entities = q{SELECT * FROM cachekit.entities ORDER BY name};
my $triggers = q{
	SELECT t.tgrelid::regclass, t.tgname, p.proname, t.tgenabled, encode(t.tgargs, 'escape')
	  FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = t.tgfoid
	 WHERE p.pronamespace = 'cachekit'::regnamespace ORDER BY t.tgrelid::regclass::text COLLATE "C", t.tgname};
$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE template0');
is(run('pg_dump', '-Fc', '-f', "$folder/dump", 'shop'), '', 'pg_dump succeeds without a word');
is(run('pg_restore', '-d', 'copy', "$folder/dump"), '', 'and pg_restore');
is($node->safe_psql('copy', $dependencies), $node->safe_psql('shop', $dependencies), 'the dependencies are there');
is($node->safe_psql('copy', $entities), $node->safe_psql('shop', $entities), 'the entities are there, and sound');
is($node->safe_psql('copy', $triggers), $node->safe_psql('shop', $triggers), 'the triggers are there');
is($node->safe_psql('copy', 'SELECT * FROM cachekit.health()'), '', 'health() has nothing to say');
@script = map { some_change($_) } (@tables) x 3;
@differences = differences(\@script, compared('copy', 30, @script));
is(scalar(@differences), 0, 'and what is fetched there is right') or diag("CACHEKIT_SEED=$seed\n@differences");

# --- this test can fail ---

# A "via" that leads nowhere.
$node->safe_psql('copy', q{
	SELECT cachekit.drop_dependency('shop.order_card', 'parts');
	SELECT cachekit.add_dependency('shop.order_card', 'parts', via => 'SELECT 1 WHERE false')});
@script = ([ 'parts', q{UPDATE parts SET partnumber = partnumber || '!', description = description || '!'} ]);
@differences = differences(\@script, compared('copy', 1, @script));
like("@differences", qr/^order_card \([\d ]+\) after step 1: UPDATE parts/, 'a wrong dependency is found out');
$node->safe_psql('copy', q{SELECT cachekit.add_dependency('shop.order_card', 'parts', via => 'SELECT trans_id FROM orderitems WHERE parts_id = ($1).id')});
@differences = differences(\@script, compared('copy', 1, @script));
is(scalar(@differences), 0, 'and a right one beside it makes up for it');

# A trigger that is gone, and nobody looks.
disable($node, 'soundness');
@script = (
	[ '', 'ALTER TABLE country DISABLE TRIGGER ALL' ],
	[ 'country', q{UPDATE country SET name = name || '!'} ],
	[ 'location', q{UPDATE location SET city = city || '!'} ]);
@differences = differences(\@script, compared('copy', 1, @script));
like("@differences", qr/^customer_card \([\d ]+\) after step 2: UPDATE country /, 'so are missing triggers, without the guard');
disable($node, '');
@script = ([ 'country', q{UPDATE country SET name = name || '?'} ]);
($n) = grep { /country/ } differences(\@script, compared('shop', 1, @script));
is($n, undef, 'where they are there is no difference');

$node->stop;
done_testing();
