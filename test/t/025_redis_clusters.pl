# One Redis and more than one life of a cluster: promoted standbys, restored backups, clones, a
# disk that goes back, crash recovery. What another life has left there is never served.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use CacheKit;
use CacheLives;
use CacheServer;

begin_lives();

my %scenario;

# --- a standby that lacks the last commits is promoted, and one that lacks nothing ---

$scenario{promotion} = sub {
	my $what = 'a standby that lacks commits';
	my $primary = first_life('primary');
	my $offset;

	warm($primary, $what);
	$primary->backup('backup');
	my $standby = cluster_from($primary, 'backup', 'lacking', has_streaming => 1);
	$standby->start;
	$primary->wait_for_catchup($standby);
	$standby->stop;

	# v2 is in Redis, and on the disk of a machine that is gone
	change_all($primary);
	warm($primary, "$what, changed");
	$primary->stop('immediate');
	hold_redis();
	$standby->append_conf('postgresql.conf', q{primary_conninfo = ''});
	$standby->start;
	no_wrong_fetch($standby, "$what, in recovery");
	$offset = -s $standby->logfile;
	$standby->promote;
	no_wrong_fetch($standby, "$what, promoted");
	# the new primary's WAL gets longer than the old one's was: the marker is not ahead of it
	$standby->safe_psql('postgres',
		q{INSERT INTO filler SELECT repeat('x', 1000) FROM generate_series(1, 2000)});
	release_redis();
	no_wrong_fetch($standby, "$what, with Redis");
	right_again($standby, $what);
	flushed_because($standby, $offset, qr/beyond the point at which this timeline began/, $what);
	warm($standby, $what);
	change_all($standby);
	right_again($standby, "$what, changed again");

	$what = 'a standby that lacks nothing';
	$standby->backup('backup2');
	my $second = cluster_from($standby, 'backup2', 'complete', has_streaming => 1);
	$second->start;
	warm($standby, $what);
	change_all($standby, 2);
	warm($standby, "$what, changed");
	# a shutdown sends all that there is
	$standby->wait_for_catchup($second);
	$standby->stop;
	$second->promote;
	no_wrong_fetch($second, "$what, promoted");
	is(right_again($second, $what), $rows, "$what: all documents are still there");
	is(server_stat($second, 'hot', 'resumes > 0, flushes'), 't|0', "$what: resumed, not flushed");
	is(log_lines($second, qr/flushing namespace/), '', "$what: no flush in the log");
	$second->stop;
};

# --- a base backup takes the place of the cluster ---

$scenario{restore} = sub {
	my $what = 'a restored backup';
	my $node = first_life('origin');
	my $offset;

	warm($node, $what);
	$node->backup('backup');
	change_all($node);
	warm($node, "$what, changed");
	$node->stop;
	my $restored = cluster_from($node, 'backup', 'restored');
	$restored->start;
	no_wrong_fetch($restored, $what);
	right_again($restored, $what);
	flushed_because($restored, 0, qr/ahead of this cluster/, $what);
	change_all($restored, 2);
	warm($restored, "$what, changed again");
	$restored->stop;

	# the same on a timeline of its own, whose WAL has become longer than the old; then once more,
	# on a timeline of the same number
	foreach my $time (1, 2)
	{
		$what = "a restored backup, on a new timeline, $time";
		$restored = cluster_from($node, 'backup', "recovered$time", has_restoring => 1, standby => 0);
		hold_redis();
		$restored->start;
		$restored->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()') or die 'in recovery';
		$restored->safe_psql('postgres', "UPDATE t SET v = 100 * $time");
		no_wrong_fetch($restored, $what);
		$restored->safe_psql('postgres', sprintf
			q{INSERT INTO filler SELECT repeat('x', 1000) FROM generate_series(1, %d)}, 2000 * $time);
		release_redis();
		right_again($restored, $what);
		flushed_because($restored, 0, $time == 1 ? qr/beyond the point/ : qr/the WAL there is another/,
			$what);
		change_all($restored);
		warm($restored, "$what, changed");
		$restored->stop;
	}
};

# --- two that are the same run at the same time, with one Redis ---

$scenario{clone} = sub {
	my $what = 'a clone';
	my $one = another_life('one');
	my $two = another_life('two');
	my ($wrong, $told) = (0, '');
	my $told_of = q{SELECT problem || ': ' || hint FROM cachekit.health() WHERE subject LIKE 'server%'};

	$redis->cli('FLUSHALL');
	$one->start;
	warm($one, $what);
	$two->start;
	# not the same values, so whoever is served by the other is found out
	foreach my $n (1 .. 12)
	{
		$one->safe_psql('postgres', "UPDATE t SET v = 2 * $n");
		$wrong += wrong_fetches($one) + wrong_fetches($two);
		$two->safe_psql('postgres', "UPDATE t SET v = 2 * $n + 1");
		$wrong += wrong_fetches($_) foreach $one, $two, $one, $two;
	}
	is($wrong, 0, "$what: every fetch is its own table's");

	# whoever has lost the namespace says so; the loop is what gives them a reason to notice
	foreach my $attempt (1 .. 20 * $PostgreSQL::Test::Utils::timeout_default)
	{
		$wrong += wrong_fetches($_) foreach $one, $two;
		$told = join("\n", map { $_->safe_psql('postgres', $told_of) } $one, $two);
		last if $told =~ /namespace/;
		select(undef, undef, undef, 0.05);
	}
	like($told, qr/namespace/, "$what: health() of one of them says so");
	is($wrong, 0, "$what: every fetch still is its own table's");
	$two->stop;
	change_all($one);
	no_wrong_fetch($one, "$what is gone");
	right_again($one, "$what is gone");
	$one->stop;
};

# --- the disk goes back; then the WAL says other things at the same places ---

# A life on such a disk: changes, then two new senders at the beginning of a segment. What the
# second of them writes there is the same in each life; so are its place, and what is before it.
sub live
{
	my ($node, $value, $twin) = @_;

	$node->safe_psql('postgres', "UPDATE t SET v = $value");
	return if !$twin;
	$node->safe_psql('postgres', 'SELECT pg_switch_wal()');
	new_sender($node) foreach 1, 2;
	return;
}

foreach my $twin (0, 1)
{
	$scenario{ $twin ? 'disk_twin' : 'disk' } = sub {
		my $what = 'a disk that goes back' . ($twin ? ', to a record that is the same' : '');
		my $name = $twin ? 'twin' : 'life';
		my $node = first_life("${name}1");
		my ($position, $reached);

		delivered($node, 'hot') or die "$what: not ready";
		$node->stop;
		$node->backup_fs_cold('young');
		$node->start;
		delivered($node, 'hot') or die "$what: not ready again";
		live($node, 1, $twin);
		warm($node, $what);
		$position = server_stat($node, 'hot', 'position');
		$node->stop('immediate');

		# nothing is sent before this life's WAL is longer
		my $again = cluster_from($node, 'young', "${name}2");
		hold_redis();
		$again->start;
		live($again, 2, $twin);
		no_wrong_fetch($again, "$what, without Redis");
		$again->safe_psql('postgres',
			q{INSERT INTO filler SELECT repeat('x', 1000) FROM generate_series(1, 200)});
		$reached = insert_lsn($again);
		is($again->safe_psql('postgres', "SELECT '$reached'::pg_lsn > '$position'"), 't',
			"$what: its WAL goes beyond the marker ($position, now $reached)");
		release_redis();
		right_again($again, $what);
		flushed_because($again, 0, qr/the WAL there is another/, $what);
		$again->stop;
	};
}

# --- a marker that nobody could have written ---

# Fields: version, system, timeline, database, server, endpoint, position, restart, record, its end,
# its CRC, incarnation; all but the first in hexadecimal.
$scenario{marker} = sub {
	my $node = first_life('marker');
	my $field = sub {
		my ($i, $change) = @_;
		return sub {
			my @fields = split(/ /, $_[0]);
			no warnings 'portable';
			$fields[$i] = sprintf('%x', $change->(hex $fields[$i]));
			return join(' ', @fields);
		};
	};

	warm($node, 'a changed marker');
	foreach my $case (
		[ 'of timeline 0', $field->(2, sub { 0 }) ],
		[ 'of timeline 1000', $field->(2, sub { 1000 }) ],
		[ 'with another end of its record', $field->(9, sub { $_[0] - 8 }) ],
		[ 'with another CRC', $field->(10, sub { $_[0] ^ 1 }) ],
		[ 'with a position between records', $field->(6, sub { $_[0] - 8 }) ],
		[ 'with a record between records', $field->(8, sub { $_[0] - 8 }) ],
		[ 'with record 0', $field->(8, sub { 0 }) ],
		[ 'with record 1', $field->(8, sub { 1 }) ],
		[ 'that ends early', sub { $_[0] =~ s/ \w+$//r } ],
		[ 'that goes on', sub { "$_[0] 0" } ],
		[ 'that is long', sub { $_[0] . ' ' x 100_000 } ],
		[ 'that is empty', sub { '' } ],
		[ 'with a restart point between records', $field->(7, sub { $_[0] - 8 }) ],
		[ 'with a restart point that is no multiple of 8', $field->(7, sub { $_[0] - 3 }) ])
	{
		my ($what, $change) = @$case;
		my $epochs = server_stat($node, 'hot', 'reconnects');

		$what = "a marker $what";
		delivered($node, 'hot') or die "$what: not ready";
		$redis->cli('SET', 'postgres:cachekit', $change->($redis->cli('GET', 'postgres:cachekit')));
		$redis->cli('SET', 'postgres:t:1', '{"v": -1, "id": 1}');
		change_all($node);
		no_wrong_fetch($node, $what);
		ok(wait_for_server($node, 'hot', "reconnects > $epochs"), "$what: noticed");
		right_again($node, $what);
	}
	$node->stop;
};

# --- crash recovery, before the sender has seen the marker (row 16) ---

$scenario{recovery} = sub {
	my $what = 'crash recovery';
	my $node = first_life('recovery');

	warm($node, $what);
	hold_redis();
	change_all($node);
	$node->stop('immediate');
	$node->start;
	# each of these would be answered with what is old
	foreach my $attempt (1 .. 5)
	{
		no_wrong_fetch($node, "$what, time $attempt");
		wait_for_server($node, 'hot', "reconnects > $attempt") or die 'nobody tries';
	}
	is(server_stat($node, 'hot', 'reads, state'), '0|connecting', "$what: Redis is not asked");
	is($node->safe_psql('postgres', q{SELECT cachekit.wait_for_delivery('1ms')}), 'f',
		"$what: nothing is delivered");
	release_redis();
	no_wrong_fetch($node, "$what, with Redis");
	right_again($node, $what);
	is(server_stat($node, 'hot', 'resumes > 0, flushes'), 't|0', "$what: resumed, not flushed");
	$node->stop;
};

# --- a commit that the feed does not know (row 4) ---

# Scenarios that run with their guard on and off; true when it has done its work.
my %guarded = (

	# A transaction writes its record, the sender empties the namespace and begins behind that, the
	# transaction commits: what shows it is filled. Then a copy that lacks the commit goes on, on the
	# same timeline: a standby that is started as no standby any more.
	'mark-any-commit' => sub {
		my ($also) = @_;
		my $state = $also eq '' ? 'on' : 'off';
		my $what = "a commit that the feed does not know, $state";
		my $node = first_life("known$state");
		my ($lacking, $holder, $writer, $reconnects, $flushes, $position, $reached, $ghost);

		delivered($node, 'hot') or die "$what: not ready";
		disable($node, substr($also, 2)) if $also ne '';
		$node->backup('backup');
		$lacking = cluster_from($node, 'backup', "unknown$state", has_streaming => 1);
		$lacking->start;

		$holder = hold($node, 'recorded');
		$writer = session($node, 'postgres', q{cachekit.debug_stop = 'recorded'});
		send_query($writer, 'UPDATE t SET v = v + 100 WHERE id = 1');
		wait_at_step($node, 'recorded');
		($reconnects, $flushes) = map { server_stat($node, 'hot', $_) } 'reconnects', 'flushes';
		$redis->cli('FLUSHALL');
		wait_for_server($node, 'hot',
			"reconnects > $reconnects AND flushes > $flushes AND state = 'ready'")
		  or die "$what: it has not begun anew";
		marked($node, $redis);
		$node->wait_for_catchup($lacking);
		$lacking->stop;

		$holder->quit;
		result($writer);
		$writer->quit;
		marked($node, $redis);
		filled($node, $redis, 't', 1) or die "$what: it was not filled";
		is($redis->cli('GET', 'postgres:t:1'), '{"v": 100, "id": 1}', "$what: it is in Redis");
		$position = server_stat($node, 'hot', 'position');
		$node->stop('immediate');

		# nothing is sent before this one's WAL is longer
		hold_redis();
		unlink($lacking->data_dir . '/standby.signal') or die "could not unlink: $!";
		$lacking->start;
		$lacking->safe_psql('postgres',
			q{INSERT INTO filler SELECT repeat('x', 1000) FROM generate_series(1, 200)});
		$reached = insert_lsn($lacking);
		is($lacking->safe_psql('postgres', "SELECT '$reached'::pg_lsn > '$position'"), 't',
			"$what: the WAL goes beyond the marker ($position, now $reached)");
		release_redis();
		wait_until_ready($lacking, 'hot') or die "$what: not ready";
		is(server_stat($lacking, 'hot', 'resumes > 0, flushes > 0'), $also eq '' ? 'f|t' : 't|f',
			"$what: whether it is flushed");
		$ghost = wrong_fetches($lacking);
		if ($also eq '')
		{
			right_again($lacking, $what);
			flushed_because($lacking, 0, qr/the WAL there is another/, $what);
		}
		$lacking->stop;
		return $ghost eq '0';
	});

%scenario = () if defined $ENV{CACHEKIT_GUARD};
foreach my $guard (guards_to_try(keys %guarded))
{
	$scenario{$guard} = sub {
		ok($guarded{$guard}->(''), "$guard on: all is right");
		ok(!$guarded{$guard}->(", $guard"), "$guard off is caught");
	};
}

run_scenarios(%scenario);
done_testing();
