# The guards of refresh on change, each switched off to see that it matters.
#
# Every scenario runs with both kinds of server, twice: with its guard on, where fetch must return
# what the table has (or the cache must not hold what it must not), and with it off, where that goes
# wrong. The refresher stands where it has loaded, and has not answered, for as long as a scenario
# wants; between cachekit and the cache is a proxy, which can lead to another one.

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use CacheKit;
use CacheServer;
use MemcachedServer;
use Proxy;
use RedisServer;

my $node = new_node('guards', allows_streaming => 1);
my $wal_end = 'SELECT pg_current_wal_insert_lsn()';
my ($kind, $cache, $spare, $proxy);
my $epochs = 0;

# what would write WAL by itself, and so move the marker, is off
$node->append_conf('postgresql.conf', q{
autovacuum = off
max_worker_processes = 20
cachekit.fetch_timeout = '60s'
cachekit.refresh_timeout = '600s'
cachekit.debug_stop = 'refresh-loaded'
});
$node->start;

sub wait_stat
{
	my ($condition) = @_;

	wait_for_server($node, 'hot', $condition) or die "timed out waiting for $condition";
	return;
}

sub stat_of { return server_stat($node, 'hot', $_[0]); }

sub all_delivered
{
	delivered($node, 'hot') or die 'not everything was delivered';
	return;
}

sub fill
{
	my ($id) = @_;

	filled($node, $cache, 'item', $id) or die "item $id was not filled";
	return;
}

sub value_of
{
	my ($id) = @_;

	return $node->safe_psql('postgres', "SELECT cachekit.fetch('item', $id)->>'v'");
}

# A new epoch.
sub reconnect
{
	my $reconnects = stat_of('reconnects');

	# another each time
	$node->safe_psql('postgres', sprintf "ALTER SERVER hot OPTIONS (SET connect_timeout '%dms')", 5000 + ++$epochs);
	wait_stat("state = 'ready' AND reconnects > $reconnects");
	return;
}

# Begin anew: rows 1 to 9, a sender that has begun anew with all guards on, a refresher that runs.
sub begin
{
	disable($node, '');
	reconnect();
	$node->safe_psql('postgres', q{
		TRUNCATE item; INSERT INTO item SELECT i, 'old' FROM generate_series(1, 9) AS i});
	all_delivered();
	fill(9);
	$node->safe_psql('postgres', q{UPDATE item SET v = 'older' WHERE id = 9});
	all_delivered();
	fill(1);
	return;
}

# A change of the first row, whose refresh has been loaded, and stands there.
sub hold_a_refresh
{
	my ($value) = @_;
	my $holder = hold($node, 'refresh-loaded');

	$node->safe_psql('postgres', "UPDATE item SET v = '$value' WHERE id = 1");
	wait_at_step($node, 'refresh-loaded');
	return $holder;
}

# --- the scenarios; each returns true when the guard has done its work ---

my %scenario = (

	# the position has passed the change, and the old document is still there
	'refresh-read' => sub {
		my $holder = hold_a_refresh('new');
		my $value;

		marked($node, $cache);
		like($cache->get('postgres:item:1'), qr/old/, 'the old document is there');
		$value = value_of(1);
		$holder->quit;
		all_delivered();
		return $value eq 'new';
	},

	# changed again when it had been loaded
	'refresh-again' => sub {
		my $holder = hold_a_refresh('newer');
		my $end = $node->safe_psql('postgres', "UPDATE item SET v = 'new' WHERE id = 1; $wal_end");

		wait_stat("position >= '$end'");
		$holder->quit;
		all_delivered();
		marked($node, $cache);
		return value_of(1) eq 'new';
	},

	# changed again, by a transaction that is remembered as one that has changed everything
	'refresh-flush' => sub {
		my $holder = hold_a_refresh('newer');
		my $flushes = stat_of('flushes');

		$node->safe_psql('postgres', q{
			BEGIN;
			UPDATE item SET v = 'new' WHERE id = 1;
			SELECT pg_logical_emit_message(true, 'cachekit', 'what nobody understands');
			COMMIT});
		wait_stat("flushes > $flushes");
		$holder->quit;
		$node->safe_psql('postgres', q{SELECT pg_logical_emit_message(true, 'other', 'x')});
		all_delivered();
		marked($node, $cache);
		return value_of(1) eq 'new';
	},

	# the cache does not take it
	'refresh-fallback' => sub {
		my $holder = hold_a_refresh('new');
		my $fallen = stat_of('refreshes_fallen_back + refreshes');

		$cache->cli('CONFIG', 'SET', 'maxmemory', 1);
		$holder->quit;
		wait_stat("refreshes_fallen_back + refreshes > $fallen");
		$cache->cli('CONFIG', 'SET', 'maxmemory', 0);
		all_delivered();
		$node->safe_psql('postgres', q{SELECT pg_logical_emit_message(true, 'other', 'x')});
		marked($node, $cache);
		return value_of(1) eq 'new';
	},

	# a new epoch, while it is loaded
	'refresh-hold' => sub {
		my $holder = hold_a_refresh('new');

		marked($node, $cache);
		reconnect();
		$holder->quit;
		all_delivered();
		marked($node, $cache);
		return value_of(1) eq 'new';
	},

	# data go back to before it was stored, and no further
	'refresh-trace' => sub {
		my ($also) = @_;
		my $holder = hold_a_refresh('new');
		my $refreshes = stat_of('refreshes');
		my $value;

		marked($node, $cache);
		# it is the read that has to find out, and not the next marker
		disable($node, "marker-write$also");
		copy_all($cache, $spare);
		$holder->quit;
		wait_stat("refreshes > $refreshes");
		all_delivered();
		like($cache->get('postgres:item:1'), qr/new/, 'the new document is there');
		$proxy->switch_to($spare->port);
		($cache, $spare) = ($spare, $cache);
		like($cache->get('postgres:item:1'), qr/old/, 'the old document is there');
		$value = value_of(1);
		disable($node, '');
		return $value eq 'new';
	},

	# data go back to before a flush of the entity, which the position did not wait for
	'flush-trace' => sub {
		my ($also) = @_;
		my $value;

		marked($node, $cache);
		disable($node, "marker-write$also");
		copy_all($cache, $spare);
		$node->safe_psql('postgres', 'TRUNCATE item');
		all_delivered();
		is($cache->get('postgres:item:1') // '', '', 'the old document is gone');
		$proxy->switch_to($spare->port);
		($cache, $spare) = ($spare, $cache);
		like($cache->get('postgres:item:1'), qr/old/, 'and there again');
		# the next marker would certify it
		disable($node, $also eq '' ? '' : substr($also, 2));
		$node->safe_psql('postgres', q{SELECT pg_logical_emit_message(true, 'other', 'x')});
		marked($node, $cache);
		$value = value_of(1);
		disable($node, '');
		return $value eq '';
	},
);

# These need what only one kind of server does.
my %only = ('refresh-fallback' => 'redis', 'flush-trace' => 'redis');

# Guards that a scenario switches off itself, together with others.
my %itself = map { $_ => 1 } ('refresh-trace', 'flush-trace');

foreach my $this ('redis', 'memcached')
{
	my $class = $this eq 'redis' ? 'RedisServer' : 'MemcachedServer';

	$kind = $this;
	($cache, $spare) = map { $class->new("$kind-$_")->start } 'one', 'other';
	$proxy = Proxy->new($cache->port)->start;
	$node->safe_psql('postgres', sprintf q{
		CREATE EXTENSION cachekit;
		CREATE TABLE item (id int PRIMARY KEY, v text);
		CREATE SERVER hot FOREIGN DATA WRAPPER cachekit
			OPTIONS (kind '%s', host '127.0.0.1', port '%d', command_timeout '60s', connect_timeout '5s',
				breaker_reset '50ms', connections '4');
		SELECT cachekit.attach('item', servers => '{hot}', local => false, ttl => '1 h', on_change => 'refresh')},
		$kind, $proxy->port);
	wait_until_ready($node, 'hot') or die 'not ready';
	foreach my $guard (guards_to_try(keys %scenario))
	{
		next if ($only{$guard} // $kind) ne $kind;
		begin();
		ok($scenario{$guard}->(''), "$kind: $guard on: all is right");
		begin();
		disable($node, $guard) if !$itself{$guard};
		ok(!$scenario{$guard}->(", $guard"), "$kind: $guard off is caught");
	}
	disable($node, '');
	$node->safe_psql('postgres', 'DROP EXTENSION cachekit CASCADE; DROP TABLE item');
}

$node->stop;
done_testing();
