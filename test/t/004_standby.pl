# A hot standby reads its tables and refuses what would change an entity; once it is promoted, it
# caches, in sessions that were there before too.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use CacheKit;

my $primary = new_node('primary', allows_streaming => 1);
$primary->start;
$primary->safe_psql(
	'postgres', q{
	CREATE EXTENSION cachekit;
	CREATE TABLE t (id int PRIMARY KEY, v text);
	INSERT INTO t SELECT g, 'first' FROM generate_series(1, 10) AS g;
	SELECT cachekit.attach('t', negative_ttl => '1 hour');
	});
$primary->backup('backup');

my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;
$primary->wait_for_catchup($standby);

# --- in recovery ---

my $session = session($standby);
is($session->query_safe(q{
	SELECT cachekit.fetch('t', 1)->>'v';
	SELECT cachekit.fetch('t', 1)->>'v';
	SELECT count(*) FROM cachekit.fetch_many('t', '{2,3,99}'::int[]) WHERE value IS NOT NULL;
	SELECT cachekit.fetch('t', 4, 'bypass')->>'v';
	SELECT cachekit.fetch('t', 5, 'invalidate')->>'v';
	SELECT cachekit.fetch('t', 6, 'fresh') IS NULL;
	SELECT present FROM cachekit.inspect('t', 1);
	SELECT count(*) FROM cachekit.health();
	SELECT sound FROM cachekit.entities;
	SELECT cachekit.key('t', 1)}),
	"first\nfirst\n2\nfirst\nfirst\nt\nf\n0\nt\npostgres:t:1", 'fetch reads the table');
is($standby->safe_psql('postgres', q{
	SELECT bypass_recovery, loads, local_hits, negative_hits, fills FROM cachekit.stat_entities}),
	'8|7|0|0|0', 'that is counted as such');

foreach my $call ("attach('t', ttl => '1 s')", "detach('t')", "invalidate('t', 1)",
	"invalidate('t', '1')", "flush('t')", 'flush()')
{
	my ($name) = $call =~ /^(\w+)/;

	like(error_of($standby, "SELECT cachekit.$call"),
		qr/ERROR:  cannot execute cachekit\.$name\(\) during recovery/, "$call is refused");
	is(sqlstate_of($standby, "SELECT cachekit.$call"), '25006', "$call: its SQLSTATE");
}

$primary->safe_psql(
	'postgres', q{
	UPDATE t SET v = 'second' WHERE id = 1;
	INSERT INTO t VALUES (99, 'new');
	CREATE TABLE later (a int, b int, v text, PRIMARY KEY (a, b));
	INSERT INTO later VALUES (1, 2, 'later');
	SELECT cachekit.attach('later');
	});
$primary->wait_for_catchup($standby);
is($session->query_safe(q{
	SELECT cachekit.fetch('t', 1)->>'v', cachekit.fetch('t', 99)->>'v', cachekit.fetch('later', (1, 2))->>'v'}),
	'second|new|later', 'replayed changes are seen at once');

$primary->safe_psql('postgres', q{
	ALTER TABLE t ADD COLUMN w int DEFAULT 7;
	ALTER TABLE later RENAME COLUMN b TO c});
$primary->wait_for_catchup($standby);
is($session->query_safe(q{SELECT cachekit.fetch('t', 1)->>'w', cachekit.fetch('later', '(1,2)')->>'c'}),
	'7|2', 'replayed definitions too');

# --- promoted ---

my $transaction = session($standby);
is($transaction->query_safe("BEGIN; SELECT cachekit.fetch('t', 2)->>'v'"), 'first',
	'a transaction that begins in recovery');

$primary->stop;
$standby->promote;
is($session->query_safe(q{SELECT cachekit.fetch('t', 1)->>'v'}), 'second', 'promoted: fetch is right');
is($session->query_safe(q{SELECT cachekit.fetch('t', 1)->>'v'}), 'second', 'promoted: and again');
is(inspect($standby, 't', 1), 't|f', 'promoted: it is cached');
is(counter($standby, 't', 'local_hits'), 1, 'promoted: and served');

$standby->safe_psql('postgres', q{UPDATE t SET v = 'third' WHERE id <= 2; DELETE FROM t WHERE id = 3});
is($session->query_safe(q{SELECT cachekit.fetch('t', 1)->>'v'}), 'third', 'promoted: changes are seen');
is($transaction->query_safe(q{SELECT cachekit.fetch('t', 2)->>'v'; COMMIT}), 'third',
	'promoted: in the transaction from before too');
is($session->query_safe(q{SELECT cachekit.fetch('t', 3), cachekit.fetch('t', 3)}), '|',
	'promoted: a deleted row is absent');
is(counter($standby, 't', 'negative_hits'), 1, 'promoted: which is cached, too');
is(output_of($standby, q{
	SELECT cachekit.invalidate('t', 1);
	SELECT cachekit.flush('t');
	SELECT cachekit.attach('t', ttl => '1 h');
	INSERT INTO t VALUES (3, 'again');
	SELECT cachekit.fetch('t', 3)->>'v';
	SELECT cachekit.detach('later');
	SELECT count(*) FROM cachekit.health()}),
	"\n\n\nagain\n\n0", 'promoted: entities can be changed');

$_->quit foreach ($session, $transaction);
$standby->stop;
done_testing();
