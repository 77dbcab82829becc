# What can go wrong between cachekit and a cache server, of both kinds: it freezes, dies and comes
# back with nothing or with old data, is slow, is cut off, is exchanged for another, or replies in
# pieces; by a proxy between them, and while sessions write and fetch. After each, every document in
# the cache and every fetch is the table's, and the log has one line about the outage. Then the
# breaker, two servers for one entity, and how long a fetch waits at most.

use strict;
use warnings FATAL => 'all';

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use CacheKit;
use CacheServer;
use MemcachedServer;
use Proxy;
use RedisServer;

my $node = new_node('main', allows_streaming => 1);
my $script = $node->basedir . '/load.sql';
my ($what, $cache, $proxy, $load, $load_out);

# No fetch is older than a SELECT before it.
append_to_file($script, q{
\set id random(1, 200)
\set n random(1, 10)
UPDATE t SET v = v + 1 WHERE id BETWEEN :id AND :id + :n;
SELECT count(cachekit.fetch('t', g)) FROM generate_series(1, 20) AS g;
SELECT v AS before FROM t WHERE id = :id \gset
SELECT 1 / ((cachekit.fetch('t', :id)->>'v')::int >= :before)::int;
});

# --- the load ---

sub start_load
{
	local $ENV{PGOPTIONS} = '-c cachekit.fetch_timeout=10ms';

	$load_out = '';
	$load = IPC::Run::start(
		[ 'pgbench', '-n', '-c', '3', '-T', '600', '--rate', '100', '-f', $script, '-h', $node->host,
			'-p', $node->port, 'postgres' ], '>&', \$load_out);
	return;
}

# It goes on for so many rows.
sub load_goes_on
{
	my ($n) = @_;
	my $before = $node->safe_psql('postgres', 'SELECT sum(v) FROM t');

	$node->poll_query_until('postgres', "SELECT sum(v) > $before + $n FROM t")
	  or die "$what: sessions do not go on";
	return;
}

sub stop_load
{
	$load->signal('INT');
	eval { $load->finish };
	$node->poll_query_until('postgres',
		q{SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'pgbench'})
	  or die "$what: a session of the load does not end";
	is(join("\n", grep { /error|aborted|fatal/i } split(/\n/, $load_out)), '',
		"$what: no statement failed, and no fetch was wrong");
	return;
}

# --- what is looked at ---

sub stat_of { return server_stat($node, 'hot', $_[0]); }

sub wait_stat
{
	my ($condition) = @_;

	return wait_for_server($node, 'hot', $condition) || die "$what: timed out waiting for $condition";
}

# Ready again, all delivered: compare everything.
sub right_again
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	ok(delivered($node, 'hot'), "$what: ready, and all is delivered");
	all_right($node, $cache, 't', $what);
	ok(filled($node, $cache, 't', 1), "$what: it is filled again");
	return;
}

# One line when it goes, and one when it is back, since this offset of the log.
sub logged_once
{
	my ($offset, $outages) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $log = log_lines($node, qr/cachekit server "hot"/, $offset);
	my @lines = grep { !/flushing namespace/ } split(/\n/, $log);
	my $pairs = join('', map { /is back$/ ? '.' : '!' } @lines);

	like($pairs, $outages ? qr/^(?:!\.)+$/ : qr/^(?:!\.)*$/, "$what: one line in the log for an outage")
	  or diag($log);
	return;
}

sub poll
{
	my ($code) = @_;
	my $until = time() + $PostgreSQL::Test::Utils::timeout_default;

	while (time() < $until)
	{
		return 1 if $code->();
		select(undef, undef, undef, 0.02);
	}
	die "$what: timed out";
}

sub options
{
	my ($options) = @_;
	my $reconnects = stat_of('reconnects');

	$node->safe_psql('postgres', "ALTER SERVER hot OPTIONS ($options)");
	return wait_stat("state = 'ready' AND reconnects > $reconnects");
}

# --- a cache with the data of a moment ago ---

sub new_cache
{
	my ($class, $name) = @_;
	my @memory = $class eq 'MemcachedServer' ? ('-m', '64', '-e', 'memory') : ();

	return $class->new($name, @memory)->start;
}

sub keep_data
{
	if ($cache->isa('RedisServer'))
	{
		$cache->keep_dump('old.rdb');
		return;
	}
	$cache->stop;
	$cache->keep_memory('old');
	$cache->start;
	return;
}

sub start_with_old_data
{
	$cache->isa('RedisServer') ? $cache->restore_dump('old.rdb') : $cache->restore_memory('old');
	$cache->start;
	return;
}

# --- faults ---

# Under load: break something, wait for what comes of it, and heal it.
sub fault
{
	my ($name, %do) = @_;
	my ($reconnects, $offset);

	$what = ref($cache) . ", $name";
	delivered($node, 'hot') or die "$what: not ready";
	$offset = -s $node->logfile;
	start_load();
	load_goes_on(100);
	$do{before}->() if $do{before};
	$reconnects = stat_of('reconnects');
	$do{break}->();
	load_goes_on(100);
	wait_stat("reconnects > $reconnects") if $do{is_outage};
	$do{then}->() if $do{then};
	is(stat_of('reconnects'), $reconnects, "$what: the sender goes on") if $do{goes_on};
	load_goes_on(100);
	$do{heal}->() if $do{heal};
	load_goes_on(100);
	stop_load();
	right_again();
	logged_once($offset, $do{is_outage});
	return;
}

sub faults
{
	my ($class) = @_;
	my $other = new_cache($class, 'other');
	my ($count, $offset);

	fault('frozen', is_outage => 1,
		break => sub { $proxy->freeze; },
		then => sub {
			like(stat_of('last_error'), qr/no answer within command_timeout/, "$what: last_error says it");
			is($node->safe_psql('postgres', q{SELECT cachekit.wait_for_delivery('1ms')}), 'f',
				"$what: nothing is delivered");
		},
		heal => sub { $proxy->thaw; });

	fault('the server is frozen', is_outage => 1,
		break => sub { $cache->signal('STOP'); },
		heal => sub { $cache->signal('CONT'); });

	fault('killed, and empty again', is_outage => 1,
		break => sub { $cache->kill9; },
		heal => sub { $cache->start; });

	fault('old data', is_outage => 1,
		before => sub {
			keep_data();
			wait_stat(q{state = 'ready'});
			load_goes_on(500);
			wait_stat(q{state = 'ready'});
			($count, $offset) = (stat_of('resumes'), -s $node->logfile);
		},
		break => sub { $cache->kill9; },
		heal => sub {
			start_with_old_data();
			wait_stat("state = 'ready' AND resumes > $count");
			is(log_lines($node, qr/flushing namespace/, $offset), '', "$what: the marker fits");
		});

	fault('a slow link',
		break => sub { $proxy->slow(20000); },
		then => sub { load_goes_on(1000); },
		heal => sub { $proxy->slow(0); });

	fault('resets in the middle of replies', is_outage => 1,
		break => sub {
			# which connection it is, and where in a reply, differs
			foreach my $bytes (1, 10, 31, 100, 333)
			{
				my $resets = $proxy->resets;

				$proxy->reset_after($bytes, 2);
				poll(sub { $proxy->resets >= $resets + 2; });
			}
		},
		heal => sub { $proxy->reset_after; });

	fault('replies in pieces of a byte, under load',
		break => sub { $proxy->pieces(1); },
		then => sub { load_goes_on(1000); },
		heal => sub { $proxy->pieces(0); });

	$what = "$class, replies in pieces of a byte";
	$proxy->pieces(1);
	$node->safe_psql('postgres', 'UPDATE t SET v = v + 1 WHERE id < 5');
	right_again();
	$proxy->pieces(0);

	fault('cut off, and healed', is_outage => 1,
		break => sub { $proxy->cut; },
		heal => sub { $proxy->heal; });

	# connections live for a moment only, and there are no others
	options(q{ADD max_lifetime '100ms'});
	fault('no new connections', goes_on => 1,
		break => sub {
			$proxy->refuse;
			wait_stat(q{last_error LIKE 'a connection could not be replaced%'});
		},
		then => sub {
			$count = stat_of('replacements');
			load_goes_on(500);
			is(stat_of(q{state || ' ' || (replacements - } . "$count)"), 'ready 0',
				"$what: those that there are go on");
		},
		heal => sub {
			$proxy->accept;
			wait_stat("replacements > $count + 5");
		});
	options(q{DROP max_lifetime});

	fault('another in its place', is_outage => 1,
		break => sub {
			$proxy->switch_to($other->port, 0.002);
			($cache, $other) = ($other, $cache);
		});
	# and back: it has what it had then, and another's nonce
	fault('the old one in its place', is_outage => 1,
		break => sub {
			$proxy->switch_to($other->port, 0.002);
			($cache, $other) = ($other, $cache);
		});
	$other->kill9;
	return;
}

# --- the breaker ---

sub breaker
{
	my ($class) = @_;
	my ($reads, $reconnects, $accepted, $began, $probes, @seen, $session, $offset);

	$what = "$class, the breaker";
	options(q{SET connections '1', SET breaker_reset '1s', ADD breaker_threshold '3'});
	right_again();
	$node->safe_psql('postgres', q{SELECT count(cachekit.fetch('t', id)) FROM t});
	$session = session($node, 'postgres');
	$offset = -s $node->logfile;
	is(stat_of('breaker'), 'closed', "$what: closed");

	# requests get there, and the replies to them stay in the proxy
	$cache->signal('STOP');
	$node->safe_psql('postgres', 'UPDATE t SET v = v + 1 WHERE id <= 100');
	wait_stat('sent > acknowledged');
	$proxy->freeze;
	$cache->signal('CONT');
	wait_stat(q{breaker = 'open'});

	($reads, $reconnects, $accepted, $began) =
	  (stat_of('reads'), stat_of('reconnects'), $proxy->accepted, time());
	is($node->safe_psql('postgres', q{
			SELECT count(*) FROM t WHERE cachekit.fetch('t', id) IS DISTINCT FROM to_jsonb(t)}), 0,
		"$what: open, every fetch is the table's");
	is(stat_of('reads'), $reads, "$what: open, nobody asks");
	wait_stat("reconnects >= $reconnects + 3");
	$probes = $proxy->accepted - $accepted;
	cmp_ok($probes, '<=', 1 + stat_of('reconnects') - $reconnects, "$what: one connection a probe");
	# the pause is up to a half shorter, lest all probe at the same time
	cmp_ok($probes, '<=', 1 + (time() - $began) / 0.5, "$what: one probe in breaker_reset");
	$node->safe_psql('postgres', 'UPDATE t SET v = v + 1 WHERE id > 50');

	# the answers to calls that were given up come now, while it is open
	wait_stat(q{breaker = 'open'});
	$proxy->thaw;
	poll(sub {
		push @seen, $session->query_safe(q{SELECT breaker, state FROM cachekit.stat_servers WHERE name = 'hot'});
		return $seen[-1] eq 'closed|ready';
	});
	is(join(' ', grep { /^closed\|(?:connecting|flushing|stopped)/ } @seen), '',
		"$what: late answers do not close it, but an epoch that is ready does");
	$session->quit;
	ok(delivered($node, 'hot'), "$what: closed, what was changed meanwhile is delivered");
	is(stat_of('reads'), $reads, "$what: no read was repeated");
	right_again();
	cmp_ok(stat_of('reads'), '>', $reads, "$what: closed, it is asked again");
	logged_once($offset, 1);
	return;
}

# --- one kind after the other ---

$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION cachekit');
foreach my $class ('RedisServer', 'MemcachedServer')
{
	$cache = new_cache($class, 'main');
	$proxy = Proxy->new($cache->port)->start;
	$node->safe_psql(
		'postgres', sprintf q{
		CREATE TABLE t (id int PRIMARY KEY, v int);
		INSERT INTO t SELECT g, 0 FROM generate_series(1, 220) AS g;
		CREATE SERVER hot FOREIGN DATA WRAPPER cachekit
			OPTIONS (kind '%s', host '127.0.0.1', port '%d', connections '2',
				connect_timeout '500ms', command_timeout '300ms', breaker_reset '50ms');
		SELECT cachekit.attach('t', servers => '{hot}', local => false, ttl => 'infinity');
		}, $class eq 'RedisServer' ? 'redis' : 'memcached', $proxy->port);
	wait_until_ready($node, 'hot') or die 'not ready';
	faults($class);
	breaker($class);
	$node->safe_psql('postgres', 'DROP TABLE t; DROP SERVER hot');
	$proxy->stop;
	$cache->kill9;
}

# --- two servers for an entity ---

my %cache = (red => new_cache('RedisServer', 'red'), mem => new_cache('MemcachedServer', 'mem'));
my %proxy = map { $_ => Proxy->new($cache{$_}->port)->start } keys %cache;
my $rows = 50;

sub two_are_ready { return delivered($node, 'red') && delivered($node, 'mem') || die "$what: not ready"; }

sub change_all { $node->safe_psql('postgres', 'UPDATE u SET v = v + 1'); return; }

# Fetch all; how many are the table's.
sub fetch_all
{
	return output_of($node, q{SELECT count(*) FROM u WHERE cachekit.fetch('u', id) = to_jsonb(u)});
}

sub hits { return server_stat($node, $_[0], 'read_hits'); }

# Every document is in both, since a change.
sub warm_two
{
	two_are_ready();
	poll(sub {
		change_all();
		two_are_ready();
		fetch_all();
		foreach my $look (1 .. 20)
		{
			my @full = grep {
				$rows == grep { ($_ // '') ne '' } $cache{$_}->values_of(map { "postgres:u:$_" } 1 .. $rows)
			} keys %cache;

			return 1 if @full == 2;
			select(undef, undef, undef, 0.01);
		}
		return 0;
	});
	return;
}

sub both_right
{
	my ($when) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	two_are_ready();
	all_right($node, $cache{$_}, 'u', "$what: $when, $_") foreach sort keys %cache;
	return;
}

# The second answers for a first one that does not, and is not held up by it.
sub second_answers
{
	my ($first, $second, $when) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($before, $end);

	wait_for_server($node, $first, q{state <> 'ready'}) or die "$what: $when: nothing was noticed";
	change_all();
	$end = $node->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()');
	ok(wait_for_server($node, $second, "position >= '$end'"), "$what: $when: changes get to the other one");
	$before = hits($second);
	ok(poll(sub { fetch_all() == $rows || die "$what: $when: a fetch is wrong"; hits($second) > $before; }),
		"$what: $when: the other one answers");
	is(server_stat($node, $second, 'state'), 'ready', "$what: $when: the other one is ready");
	isnt(server_stat($node, $first, 'state'), 'ready', "$what: $when: all the time");
	return;
}

$node->safe_psql(
	'postgres', sprintf q{
	CREATE TABLE u (id int PRIMARY KEY, v int);
	INSERT INTO u SELECT g, 0 FROM generate_series(1, %d) AS g;
	CREATE SERVER red FOREIGN DATA WRAPPER cachekit
		OPTIONS (kind 'redis', host '127.0.0.1', port '%d', connect_timeout '500ms', command_timeout '300ms',
			breaker_reset '50ms');
	CREATE SERVER mem FOREIGN DATA WRAPPER cachekit
		OPTIONS (kind 'memcached', host '127.0.0.1', port '%d', connect_timeout '500ms', command_timeout '300ms',
			breaker_reset '50ms');
	SELECT cachekit.attach('u', servers => '{red, mem}', local => false, ttl => 'infinity')},
	$rows, map { $proxy{$_}->port } 'red', 'mem');

foreach my $order ([ 'red', 'mem' ], [ 'mem', 'red' ])
{
	my ($first, $second) = @$order;
	my @before;

	$what = "servers $first, $second";
	$node->safe_psql('postgres', qq{
		SELECT cachekit.detach('u');
		SELECT cachekit.attach('u', servers => '{$first, $second}', local => false, ttl => 'infinity')});
	warm_two();
	pass("$what: both have all documents");
	# a marker that is not there yet, or a fetch that has no more time, sends one on to the other
	ok(poll(sub {
		@before = (hits($first), hits($second));
		fetch_all() == $rows || die "$what: a fetch is wrong";
		return join(' ', hits($first) - $before[0], hits($second) - $before[1]) eq "$rows 0";
	}), "$what: the first answers");
	change_all();
	both_right('changed');

	warm_two();
	$proxy{$first}->freeze;
	second_answers($first, $second, 'frozen');
	$proxy{$first}->thaw;
	both_right('thawed');

	warm_two();
	$cache{$first}->kill9;
	second_answers($first, $second, 'dead');
	$cache{$first}->start;
	both_right('back');
}

# --- the longest wait ---

$what = 'both frozen';
$node->safe_psql('postgres', q{
	ALTER SERVER red OPTIONS (SET command_timeout '1s');
	ALTER SERVER mem OPTIONS (SET command_timeout '1s');
	CREATE FUNCTION waits(n int, OUT longest float8, OUT long_ones int) LANGUAGE plpgsql AS $$
	DECLARE
		began timestamptz;
		took float8;
	BEGIN
		longest := 0;
		long_ones := 0;
		FOR i IN 1 .. n LOOP
			began := clock_timestamp();
			PERFORM cachekit.fetch('u', 1 + i % 50);
			took := extract(epoch FROM clock_timestamp() - began) * 1000;
			longest := greatest(longest, took);
			long_ones := long_ones + (took > 25)::int;
		END LOOP;
	END$$});
{
	my $longest = 0;
	my $fetches = 2000;

	foreach my $round (1 .. 3)
	{
		my ($wait, $long_ones);

		warm_two();
		$_->freeze foreach values %proxy;
		($wait, $long_ones) = split(/\|/, output_of($node, qq{
			SET cachekit.fetch_timeout = '50ms'; SELECT longest, long_ones FROM waits($fetches)}));
		$_->thaw foreach values %proxy;
		note(sprintf('%d fetches while both are frozen: the longest took %.1f ms, %d of them more than 25 ms',
				$fetches, $wait, $long_ones));
		cmp_ok($long_ones, '>', 0, "$what: some have waited");
		$longest = $wait if $wait > $longest;
	}
	cmp_ok($longest, '<', 1000, "$what: no fetch waits for long");
	both_right('thawed');
}

$node->stop;
unlike(slurp_file($node->logfile), qr/PANIC:|TRAP:|terminated by signal/, 'nobody crashed');
done_testing();
