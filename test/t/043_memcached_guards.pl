# The guards of the way to Memcached, each switched off to see that it matters.
#
# Every scenario runs twice: with its guard on, where fetch must return what the table has (or the
# cache must not hold what it must not), and with it off, where that goes wrong. Between cachekit
# and memcached is a proxy, which keeps back what has been sent, and leads to another memcached.

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use CacheKit;
use CacheServer;
use MemcachedServer;
use Proxy;

my $cache = MemcachedServer->new('one')->start;
my $spare = MemcachedServer->new('other')->start;
my $proxy = Proxy->new($cache->port)->start;
my $node = new_node('guards', allows_streaming => 1);
my $epochs = 0;
my $wal_end = 'SELECT pg_current_wal_insert_lsn()';

# what would write WAL by itself, and so move the marker, is off
$node->append_conf('postgresql.conf', q{
autovacuum = off
cachekit.fetch_timeout = '60s'
});
$node->start;
$node->safe_psql('postgres', sprintf q{
	CREATE EXTENSION cachekit;
	CREATE TABLE item (id int PRIMARY KEY, v text, filler text);
	CREATE SERVER hot FOREIGN DATA WRAPPER cachekit
		OPTIONS (kind 'memcached', host '127.0.0.1', port '%d', command_timeout '60s',
			connect_timeout '5s', breaker_reset '50ms', flush_method 'flush_all', connections '4');
	SELECT cachekit.attach('item', servers => '{hot}', local => false, ttl => '1 h')}, $proxy->port);

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

# The document of a key is in the cache.
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

# A fetch that does not wait for the cache, so that it loads, and hands on what it has loaded.
sub load
{
	my ($id) = @_;

	$node->safe_psql('postgres', "SET cachekit.fetch_timeout = 1; SELECT cachekit.fetch('item', $id)");
	return;
}

sub sender_pid
{
	return $node->safe_psql('postgres', 'SELECT pid FROM cachekit.server_states()');
}

# A new epoch, with these options.
sub options
{
	my ($options) = @_;
	my $reconnects = stat_of('reconnects');

	# another each time
	$options = sprintf("SET connect_timeout '%dms'", 5000 + ++$epochs) . ($options // '');
	$node->safe_psql('postgres', "ALTER SERVER hot OPTIONS ($options)");
	wait_stat("state = 'ready' AND reconnects > $reconnects");
	return;
}

# Begin anew: rows 1 to 9, an empty cache, a sender that has begun anew with all guards on.
sub begin
{
	my ($options) = @_;

	disable($node, '');
	options(q{, SET command_timeout '60s', SET flush_method 'flush_all'});
	$node->safe_psql('postgres', q{
		TRUNCATE item;
		INSERT INTO item SELECT i, 'old', repeat('x', 1000) FROM generate_series(1, 9) AS i});
	all_delivered();
	options($options) if $options;
	return;
}

# The other one takes its place, below the living connections.
sub switch
{
	$proxy->switch_to($spare->port);
	($cache, $spare) = ($spare, $cache);
	return;
}

# Requests that the proxy has kept have gone to memcached, and have been executed.
sub release
{
	my $kept = $proxy->release_requests;

	foreach my $attempt (1 .. 50 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return $kept if $proxy->kept == 0;
		select(undef, undef, undef, 0.02);
	}
	die 'the proxy cannot get rid of what it kept';
}

# A fill, or the beginning of one, is on its way on connections from which nothing comes any more.
# The sender learns that by command_timeout, and begins anew on others.
sub hold_a_fill
{
	my ($id) = @_;

	foreach my $attempt (1 .. 20)
	{
		my ($fills, $reconnects) = map { stat_of($_) } 'fills_sent', 'reconnects';

		all_delivered();
		$proxy->hold_requests;
		load($id);
		wait_stat("fills_sent > $fills OR reconnects > $reconnects");
		# else it was learning that just then, by another command
		if (stat_of("fills_sent > $fills AND reconnects = $reconnects") eq 't')
		{
			wait_stat("state = 'ready' AND reconnects > $reconnects");
			return;
		}
		release();
	}
	die 'no fill could be held';
}

# What makes all documents old.
my %change = (
	'UPDATE' => q{UPDATE item SET v = 'new'},
	'TRUNCATE' => q{BEGIN; TRUNCATE item;
		INSERT INTO item SELECT i, 'new', repeat('x', 1000) FROM generate_series(1, 9) AS i; COMMIT},
	'flush' => q{UPDATE item SET v = 'new'; SELECT cachekit.flush('item')});

# --- the scenarios; each returns true when the guard has done its work ---

my %scenario = (

	# row 6 and 13: a fill that arrives after the change, from a connection that is no more
	'owner-nonce' => sub {
		my ($also, $change, $method) = @_;
		my $value;

		options(qq{, SET flush_method '$method', SET command_timeout '300ms'});
		fill(2);
		hold_a_fill(1);
		$node->safe_psql('postgres', $change{$change});
		all_delivered();
		unlike($cache->get('postgres:item:1') // '', qr/old/, "$change, $method: nothing old is there yet");
		release();
		fill(2);
		$value = value_of(1);
		is($value, $also eq '' ? 'new' : 'old', "$change, $method: what fetch returns")
		  or diag($cache->get('postgres:item:1'));
		return $value eq 'new';
	},

	# row 13: a fill that is still on its way when the entity is flushed
	'flush-barrier' => sub {
		my ($also) = @_;
		my ($fills, $flushes) = (stat_of('fills_sent'), stat_of('flushes'));
		my $end;

		options(q{, SET flush_method 'scan'});
		# the dump of keys has a connection of its own, which is not held
		$proxy->hold_requests;
		load(1);
		wait_stat("fills_sent > $fills");
		$end = $node->safe_psql('postgres', "$change{TRUNCATE}; $wal_end");
		wait_stat("position >= '$end'");
		wait_stat("flushes > $flushes") if $also ne '';
		release();
		all_delivered();
		marked($node, $cache);
		return value_of(1) eq 'new';
	},

	# row 9: a marker of another cluster: what is in the cache is none of ours
	'marker-check' => sub {
		fill(1);
		$node->stop;
		my $marker = $cache->get('postgres:cachekit');
		$marker =~ s/^1 (\w+)/'1 ' . ($1 eq 'abc' ? 'abd' : 'abc')/e;
		$cache->set('postgres:cachekit', $marker);
		$cache->set('postgres:item:1', '{"id": 1, "v": "stranger"}');
		$node->start;
		wait_stat(q{state = 'ready'});
		return value_of(1) eq 'old';
	},

	# row 10: data go back under a living connection
	'read-marker' => sub {
		my ($also) = @_;
		my $value;

		fill(1);
		marked($node, $cache);
		copy_all($cache, $spare);
		$node->safe_psql('postgres', q{
			UPDATE item SET v = 'new' WHERE id = 1; SELECT cachekit.wait_for_delivery('60 s')});
		fill(2);
		marked($node, $cache);
		# it is the read that has to find out, and not the next marker
		disable($node, "marker-write$also");
		switch();
		like($cache->get('postgres:item:1'), qr/old/, 'the old document is there');
		$value = value_of(1);
		disable($node, '');
		# a marker is due, which finds out what reads do not
		$node->safe_psql('postgres', q{SELECT pg_logical_emit_message(true, 'other', 'x')});
		marked($node, $cache);
		all_delivered();
		all_right($node, $cache, 'item', 'the other memcached');
		return $value eq 'new';
	},

	# row 10: data go back by less than from one marker to the next
	'marker-trace' => sub {
		my ($also) = @_;

		$node->safe_psql('postgres', q{
			UPDATE item SET v = v WHERE id > 2; SELECT cachekit.wait_for_delivery('60 s')});
		fill(1);
		marked($node, $cache);
		disable($node, "marker-write$also");
		copy_all($cache, $spare);
		$node->safe_psql('postgres', q{
			UPDATE item SET v = 'new' WHERE id = 1; SELECT cachekit.wait_for_delivery('60 s')});
		switch();
		like($cache->get('postgres:item:1'), qr/old/, 'the old document is there');
		disable($node, $also eq '' ? '' : substr($also, 2));
		$node->safe_psql('postgres', q{SELECT pg_logical_emit_message(true, 'other', 'x')});
		marked($node, $cache);
		return value_of(1) eq 'new';
	},

	# a change between a load and the sending of its document
	'fill-token' => sub {
		my $pid = sender_pid();
		kill('STOP', $pid);
		load(1);
		$node->safe_psql('postgres', "UPDATE item SET v = 'new' WHERE id = 1");
		kill('CONT', $pid);
		all_delivered();
		fill(2);
		return value_of(1) eq 'new';
	},

	# row 4: a document is not stored before the marker covers the changes that it shows
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
		fill($also eq '' ? 3 : 1);
		return ($cache->get('postgres:item:1') // '') eq '';
	},

	# rows 4 and 10: data go back under a living connection, and a document is stored there before that
	# is noticed
	'fill-position' => sub {
		my ($also) = @_;
		my ($marker, $holder, $faults, $stored);

		marked($node, $cache);
		$marker = $cache->get('postgres:cachekit');
		$node->safe_psql('postgres', q{
			UPDATE item SET v = 'new' WHERE id = 1; SELECT cachekit.wait_for_delivery('60 s')});
		marked($node, $cache);
		# neither a read nor the next marker notices; who does is held before it begins anew
		disable($node, "marker-write, read-marker$also");
		stop_at($node, 'marker-read');
		$holder = hold($node, 'marker-read');
		# the sender has gone by these settings when it has sent another change
		$node->safe_psql('postgres', q{
			UPDATE item SET v = 'new' WHERE id = 2; SELECT cachekit.wait_for_delivery('60 s')});
		$faults = stat_of('reconnects');
		$cache->set('postgres:cachekit', $marker);
		$node->poll_query_until('postgres',
			"SELECT cachekit.fetch('item', 1) IS NOT NULL AND (SELECT reconnects > $faults FROM cachekit.stat_servers)")
		  or die 'nothing was noticed'
		  if $also eq '';
		fill(1) if $also ne '';
		$stored = ($cache->get('postgres:item:1') // '') ne '';
		stop_at($node, '');
		$holder->quit;
		return !$stored;
	},

	# row 5: a record that is in the WAL before the marker's position, and commits after it
	'restart-point' => sub {
		my ($holder, $writer);

		fill(1);
		$holder = hold($node, 'recorded');
		$writer = session($node, 'postgres', "cachekit.debug_stop = 'recorded'");
		send_query($writer, "UPDATE item SET v = 'new' WHERE id = 1");
		wait_at_step($node, 'recorded');
		$node->safe_psql('postgres', "UPDATE item SET v = 'new' WHERE id = 2");
		marked($node, $cache);
		options();
		$holder->quit;
		result($writer);
		$writer->quit;
		all_delivered();
		marked($node, $cache);
		return value_of(1) eq 'new';
	},

	# row 11: a server that has not come as far as the last change
	'read-position' => sub {
		my ($also) = @_;

		fill(1);
		disable($node, "feed-read$also");
		$node->safe_psql('postgres', "UPDATE item SET v = 'new' WHERE id = 1");
		return value_of(1) eq 'new';
	},

	# row 16: after a crash, and before the sender has sent what the cache lacks
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

	# row 26: a flush that takes its time does not hold up the position, and so other entities' reads
	'flush-beside' => sub {
		my ($also) = @_;
		my ($end, $passed);

		fill(1);
		$cache->signal('STOP');
		$end = $node->safe_psql('postgres', "SELECT cachekit.flush('item'); $wal_end");
		$end =~ s/^\s+//;
		wait_stat($also eq '' ? "position >= '$end'" : 'oldest_unacknowledged IS NOT NULL');
		$passed = stat_of("position >= '$end'") eq 't';
		$cache->signal('CONT');
		all_delivered();
		return $passed;
	},
);

# Guards that a scenario switches off itself, together with others.
my %itself = map { $_ => 1 } qw(fill-marker fill-position marker-trace read-marker read-position readable);

# With these arguments, each a run of its own.
my %variants = (
	'owner-nonce' => [
		[ 'UPDATE', 'flush_all' ], [ 'TRUNCATE', 'flush_all' ], [ 'TRUNCATE', 'scan' ],
		[ 'flush', 'flush_all' ], [ 'flush', 'scan' ] ]);

foreach my $guard (guards_to_try(keys %scenario))
{
	foreach my $variant (@{ $variants{$guard} // [ [] ] })
	{
		my $name = join(', ', $guard, @$variant);

		begin();
		ok($scenario{$guard}->('', @$variant), "$name, on: all is right");
		begin();
		disable($node, $guard) if !$itself{$guard};
		ok(!$scenario{$guard}->(", $guard", @$variant), "$name, off, is caught");
	}
}

# --- row 6: what a lease is for: a cas that is late by one deletion is refused ---

begin();
options(q{, SET command_timeout '500ms'});
foreach my $attempt (1 .. 20)
{
	my ($fills, $reconnects, $kept) = map { stat_of($_) } 'fills_sent', 'reconnects';

	# the lease is asked for, and granted when what follows it is kept
	all_delivered();
	$cache->signal('STOP');
	load(1);
	wait_stat("fills_sent > $fills OR reconnects > $reconnects");
	$proxy->hold_requests;
	$cache->signal('CONT');
	wait_stat("reconnects > $reconnects");
	$kept = $proxy->kept;
	$node->safe_psql('postgres', "UPDATE item SET v = 'new' WHERE id = 1");
	wait_stat("state = 'ready'");
	all_delivered();
	release();
	is(value_of(1), 'new', 'a cas that comes after the deletion: fetch is right');
	unlike($cache->get('postgres:item:1') // '', qr/old/, 'a cas that comes after the deletion: nothing old is there');
	# the document was on its way
	last if $kept > 1000;
	note("attempt $attempt: $kept bytes were kept");
	fail('a cas could not be held') if $attempt == 20;
	begin();
	options(q{, SET command_timeout '500ms'});
}

disable($node, '');
$node->stop;
unlike(slurp_file($node->logfile), qr/PANIC:|TRAP:|terminated by signal/, 'nobody crashed');
done_testing();
