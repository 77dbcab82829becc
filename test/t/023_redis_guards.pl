# The guards of the way to Redis, each switched off to see that it matters.
#
# Every scenario runs twice: with its guard on, where fetch must return what the table has (or the
# cache must not hold what it must not), and with it off, where that goes wrong. A sender that is
# to stand still is stopped by SIGSTOP; what it then does first is the order of its loop.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use CacheKit;
use CacheServer;
use RedisServer;

my $redis = RedisServer->new('guards')->start;
my $node = new_node('guards', allows_streaming => 1);
$node->append_conf('postgresql.conf', "cachekit.fetch_timeout = '60s'");
$node->start;
$node->safe_psql('postgres', q{
	CREATE EXTENSION cachekit;
	CREATE TABLE item (id int PRIMARY KEY, v text);
	CREATE SERVER hot FOREIGN DATA WRAPPER cachekit OPTIONS (} . $redis->server_options . q{, command_timeout '60 s');
	SELECT cachekit.attach('item', servers => '{hot}', local => false, ttl => '1 h')});

my $ready = "SELECT state = 'ready' FROM cachekit.stat_servers";

sub wait_ready
{
	$node->poll_query_until('postgres', $ready) or die 'the server did not get ready';
	return;
}

# The document of a key is in the cache, and the sender has nothing left to do.
sub fill
{
	my ($id) = @_;

	$node->poll_query_until('postgres',
		"SELECT cachekit.fetch('item', $id) IS NOT NULL
			AND (SELECT present FROM cachekit.inspect('item', $id) WHERE tier = 'hot')")
	  or die "item $id was not filled";
	return;
}

sub value_of
{
	my ($id) = @_;

	return $node->safe_psql('postgres', "SELECT cachekit.fetch('item', $id)->>'v'");
}

sub sender_pid
{
	return $node->safe_psql('postgres', 'SELECT pid FROM cachekit.server_states()');
}

# Begin anew: rows 1 to 9, an empty cache, a sender that has begun anew with all guards on.
sub begin
{
	my $faults;

	disable($node, '');
	wait_ready();
	$faults = stat_of('reconnects');
	$redis->cli('CLIENT', 'KILL', 'TYPE', 'normal');
	wait_stat("reconnects > $faults");
	$node->safe_psql('postgres', q{
		TRUNCATE item; INSERT INTO item SELECT i, 'old' FROM generate_series(1, 9) AS i});
	wait_ready();
	$node->safe_psql('postgres', q{SELECT cachekit.wait_for_delivery('60 s')});
	return;
}

# Whatever holds for the row of stat_servers, wait for it.
sub wait_stat
{
	my ($condition) = @_;

	$node->poll_query_until('postgres', "SELECT $condition FROM cachekit.stat_servers")
	  or die "timed out waiting for $condition";
	return;
}

sub stat_of
{
	my ($column) = @_;

	return $node->safe_psql('postgres', "SELECT $column FROM cachekit.stat_servers");
}

# --- the scenarios; each returns true when the guard has done its work ---

my %scenario = (

	# a marker of another cluster: what is in the cache is none of ours
	'marker-check' => sub {
		fill(1);
		$node->stop;
		my $marker = $redis->cli('GET', 'postgres:cachekit');
		$marker =~ s/^1 (\w+)/'1 ' . ($1 eq 'abc' ? 'abd' : 'abc')/e;
		$redis->cli('SET', 'postgres:cachekit', $marker);
		$redis->cli('SET', 'postgres:item:1', '{"id": 1, "v": "stranger"}');
		$node->start;
		wait_ready();
		return value_of(1) eq 'old';
	},

	# data go back under a living connection
	'read-marker' => sub {
		fill(1);
		$node->poll_query_until('postgres', "SELECT lag_bytes = 0 FROM cachekit.stat_servers");
		$redis->cli('COPY', $_, "$_:before") foreach ('postgres:item:1', 'postgres:cachekit');
		$node->safe_psql('postgres', q{
			UPDATE item SET v = 'new' WHERE id = 1; SELECT cachekit.wait_for_delivery('60 s')});
		fill(2);
		# both at once, as a snapshot that is restored
		$redis->cli('EVAL', q{redis.call('COPY', KEYS[1], KEYS[2], 'REPLACE')
			return redis.call('COPY', KEYS[3], KEYS[4], 'REPLACE')}, 4,
			'postgres:item:1:before', 'postgres:item:1',
			'postgres:cachekit:before', 'postgres:cachekit');
		my $value = value_of(1);
		$redis->cli('DEL', 'postgres:item:1:before', 'postgres:cachekit:before');
		return $value eq 'new';
	},

	# data go back by less than from one marker to the next
	'marker-trace' => sub {
		my ($also) = @_;
		my @keys;

		# reads that look at the traces would find it out as well
		$also .= ', refresh-trace' if $also ne '';

		fill(1);
		$node->safe_psql('postgres', q{
			UPDATE item SET v = v WHERE id > 2; SELECT cachekit.wait_for_delivery('60 s')});
		fill(1);
		marked($node, $redis);
		disable($node, "marker-write$also");
		@keys = map { "postgres:$_" } ('item:1', 'cachekit:0', 'cachekit:1');
		$redis->cli('COPY', $_, "$_:before") foreach @keys;
		$node->safe_psql('postgres', q{
			UPDATE item SET v = 'new' WHERE id = 1; SELECT cachekit.wait_for_delivery('60 s')});
		$redis->cli('EVAL', q{for i=1,3 do redis.call('COPY',KEYS[i]..':before',KEYS[i],'REPLACE') end}, 3, @keys);
		disable($node, $also eq '' ? '' : substr($also, 2));
		$node->safe_psql('postgres', q{SELECT pg_logical_emit_message(true, 'other', 'x')});
		marked($node, $redis);
		my $value = value_of(1);
		$redis->cli('DEL', map { "$_:before" } @keys);
		return $value eq 'new';
	},

	# another writer has taken the namespace: nothing of ours is set any more
	'owner-nonce' => sub {
		fill(1);
		my $pid = sender_pid();
		kill('STOP', $pid);
		$redis->cli('SET', 'postgres:cachekit:owner', 'somebody else');
		$node->safe_psql('postgres', "SET cachekit.fetch_timeout = 1; SELECT cachekit.fetch('item', 2)");
		my $faults = $node->safe_psql('postgres', 'SELECT reconnects FROM cachekit.stat_servers');
		kill('CONT', $pid);
		$node->poll_query_until('postgres',
			"SELECT reconnects > $faults FROM cachekit.stat_servers") or die 'nothing was noticed';
		wait_ready();
		return $redis->cli('EXISTS', 'postgres:item:2') eq '0';
	},

	# a change between a load and the sending of its document
	'fill-token' => sub {
		my $pid = sender_pid();
		kill('STOP', $pid);
		$node->safe_psql('postgres',
			"SET cachekit.fetch_timeout = 1; SELECT cachekit.fetch('item', 1)");
		$node->safe_psql('postgres', "UPDATE item SET v = 'new' WHERE id = 1");
		kill('CONT', $pid);
		$node->safe_psql('postgres', q{SELECT cachekit.wait_for_delivery('60 s')});
		fill(2);
		return value_of(1) eq 'new';
	},

	# a document is not stored before the marker covers the changes that it shows
	'fill-marker' => sub {
		my ($also) = @_;

		# what is sent too early would not be stored
		$also .= ', fill-position' if $also ne '';

		disable($node, "marker-write$also");
		$node->safe_psql('postgres', q{
			UPDATE item SET v = 'new' WHERE id = 1; SELECT cachekit.wait_for_delivery('60 s')});
		value_of(1);
		value_of(1);
		# the sender has had its turn when a row that nobody has changed since is there
		$node->safe_psql('postgres', "SELECT cachekit.fetch('item', 3)");
		$redis->poll('1', 'EXISTS', $also eq '' ? 'postgres:item:3' : 'postgres:item:1');
		return $redis->cli('EXISTS', 'postgres:item:1') eq '0';
	},

	# data go back under a living connection, and a document is stored there before that is noticed
	'fill-position' => sub {
		my ($also) = @_;
		my ($marker, $holder, $faults, $stored);

		marked($node, $redis);
		$marker = $redis->cli('GET', 'postgres:cachekit');
		$node->safe_psql('postgres', q{
			UPDATE item SET v = 'new' WHERE id = 1; SELECT cachekit.wait_for_delivery('60 s')});
		marked($node, $redis);
		# neither a read nor the next marker notices; who does is held before it begins anew
		disable($node, "marker-write, read-marker$also");
		stop_at($node, 'marker-read');
		$holder = hold($node, 'marker-read');
		# the sender has gone by these settings when it has sent another change
		$node->safe_psql('postgres', q{
			UPDATE item SET v = 'new' WHERE id = 2; SELECT cachekit.wait_for_delivery('60 s')});
		$faults = stat_of('reconnects');
		$redis->cli('SET', 'postgres:cachekit', $marker);
		$node->poll_query_until('postgres',
			"SELECT cachekit.fetch('item', 1) IS NOT NULL AND (SELECT reconnects > $faults FROM cachekit.stat_servers)")
		  or die 'nothing was noticed'
		  if $also eq '';
		fill(1) if $also ne '';
		$stored = $redis->cli('EXISTS', 'postgres:item:1');
		stop_at($node, '');
		$holder->quit;
		return $stored eq '0';
	},

	# a server that has not come as far as the last change
	'read-position' => sub {
		my ($also) = @_;

		fill(1);
		disable($node, "feed-read$also");
		$node->safe_psql('postgres', "UPDATE item SET v = 'new' WHERE id = 1");
		return value_of(1) eq 'new';
	},

	# a commit that is in the WAL, and not visible yet
	'visibility-wait' => sub {
		my ($also) = @_;
		my $held;
		my $writer;

		fill(1);
		fill(2);
		disable($node, substr($also, 2)) if $also ne '';
		$node->safe_psql('postgres',
			"ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
		$node->reload;
		$node->poll_query_until('postgres',
			"SELECT current_setting('synchronous_standby_names') = 'nobody'");
		$writer = session($node, 'postgres');
		send_query($writer, "UPDATE item SET v = 'new' WHERE id = 1");
		$node->poll_query_until('postgres',
			"SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'");
		# one behind it in the WAL, which waits for nobody
		$node->safe_psql('postgres', q{
			SET synchronous_commit = local; UPDATE item SET v = 'new' WHERE id = 2});
		$redis->poll('0', 'EXISTS', 'postgres:item:2');
		$held = $redis->cli('EXISTS', 'postgres:item:1') eq '1';
		$node->safe_psql('postgres', 'ALTER SYSTEM RESET synchronous_standby_names');
		$node->reload;
		result($writer);
		$writer->quit;
		return $held;
	},

	# a record that is in the WAL before the marker's position, and commits after it
	'restart-point' => sub {
		my ($holder, $writer, $faults);

		fill(1);
		$holder = hold($node, 'recorded');
		$writer = session($node, 'postgres', "cachekit.debug_stop = 'recorded'");
		send_query($writer, "UPDATE item SET v = 'new' WHERE id = 1");
		wait_at_step($node, 'recorded');
		$node->safe_psql('postgres', "UPDATE item SET v = 'new' WHERE id = 2");
		marked($node, $redis);
		$faults = stat_of('reconnects');
		$redis->cli('CLIENT', 'KILL', 'TYPE', 'normal');
		wait_stat("reconnects > $faults AND state = 'ready'");
		$holder->quit;
		result($writer);
		$writer->quit;
		$node->safe_psql('postgres', q{SELECT cachekit.wait_for_delivery('60 s')});
		marked($node, $redis);
		return value_of(1) eq 'new';
	},

	# a fill that is still on its way when the entity is flushed
	'flush-barrier' => sub {
		my ($also) = @_;
		my ($fills, $flushes) = (stat_of('fills_sent'), stat_of('flushes'));
		my $end;

		$redis->cli('CLIENT', 'PAUSE', 600000, 'WRITE');
		$node->safe_psql('postgres', "SELECT cachekit.fetch('item', 1)");
		wait_stat("fills_sent > $fills");
		$end = $node->safe_psql('postgres', q{
			BEGIN; TRUNCATE item; INSERT INTO item SELECT i, 'new' FROM generate_series(1, 9) AS i; COMMIT;
			SELECT pg_current_wal_insert_lsn()});
		wait_stat("position >= '$end'");
		wait_stat("flushes > $flushes") if $also ne '';
		$redis->cli('CLIENT', 'UNPAUSE');
		$node->safe_psql('postgres', q{SELECT cachekit.wait_for_delivery('60 s')});
		marked($node, $redis);
		return value_of(1) eq 'new';
	},

	# a flush that takes its time does not hold up the position, and so other entities' reads
	'flush-beside' => sub {
		my ($also) = @_;
		my ($end, $passed);

		fill(1);
		$redis->cli('CLIENT', 'PAUSE', 600000, 'WRITE');
		$end = $node->safe_psql('postgres', q{
			SELECT cachekit.flush('item'); SELECT pg_current_wal_insert_lsn()});
		$end =~ s/^\s+//;
		wait_stat($also eq '' ? "position >= '$end'" : 'oldest_unacknowledged IS NOT NULL');
		$passed = stat_of("position >= '$end'") eq 't';
		$redis->cli('CLIENT', 'UNPAUSE');
		$node->safe_psql('postgres', q{SELECT cachekit.wait_for_delivery('60 s')});
		return $passed;
	},

	# after a crash, and before the sender has sent what the cache lacks
	'readable' => sub {
		my ($also) = @_;

		fill(1);
		disable($node, "feed-read, read-marker$also");
		$node->safe_psql('postgres', "UPDATE item SET v = 'new' WHERE id = 1");
		$node->stop('immediate');
		$node->start;
		wait_stat("state = 'replaying'");
		return value_of(1) eq 'new';
	},

	# a record that was written inside a savepoint
	'subxacts' => sub {
		my $server = $node->safe_psql('postgres', 'SELECT oid FROM pg_foreign_server');
		my $record = unpack('H*', 'CK' . pack('CCCLC/aLC/a', 1, 1, 1, $server, 'item', 1, '1'));

		fill(1);
		fill(2);
		$node->safe_psql('postgres', qq{
			BEGIN; SAVEPOINT a;
			SELECT pg_logical_emit_message(true, 'cachekit', '\\x$record'::bytea);
			RELEASE a; COMMIT;
			UPDATE item SET v = 'new' WHERE id = 2});
		$redis->poll('0', 'EXISTS', 'postgres:item:2');
		return $redis->cli('EXISTS', 'postgres:item:1') eq '0';
	},
);

try_scenarios($node, \&begin, \%scenario,
	'fill-marker', 'fill-position', 'marker-trace', 'read-position', 'readable', 'visibility-wait');
$node->stop;
done_testing();
