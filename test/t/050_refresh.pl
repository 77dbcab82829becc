# on_change => 'refresh': a changed document is loaded again after the commit and takes the place of
# the old one, in caches of both kinds. A program that reads the cache by itself sees no gap; what
# cannot be loaded or stored is deleted, so that nothing old stays. Then what a refresher must not
# be in the way of, and what an operator is told when there is none.

use strict;
use warnings FATAL => 'all';

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use CacheKit;
use CacheServer;
use DirectReader;
use MemcachedServer;
use RedisServer;

my %cache = (
	redis => RedisServer->new('main')->start,
	memcached => MemcachedServer->new('main')->start);
my $node = new_node('main', allows_streaming => 1);
my ($kind, $cache);

$node->append_conf('postgresql.conf', q{
max_worker_processes = 20
restart_after_crash = on
autovacuum = off
cachekit.max_changed_keys = 100000
});
$node->start;

sub sql { return $node->safe_psql($_[1] // 'postgres', $_[0]); }
sub stat_of { return server_stat($node, 'hot', $_[0]); }

sub wait_stat
{
	my ($condition) = @_;

	wait_for_server($node, 'hot', $condition) or die "$kind: timed out waiting for $condition";
	return;
}

sub all_delivered
{
	delivered($node, 'hot') or die "$kind: not everything was delivered";
	return;
}

# What the cache has for a row: its "v", or "" when there is nothing.
sub cached
{
	my ($id, $entity) = @_;
	my $value = $cache->get("postgres:" . ($entity // 't') . ":$id") // '';

	return $value =~ /"v": "?([^",}]*)/ ? $1 : '';
}

sub fill
{
	foreach my $id (@_)
	{
		filled($node, $cache, 't', $id) or die "$kind: $id was not filled";
	}
	return;
}

# A change, and what it did to some of the counters of server and entity.
sub changed_by
{
	my ($change) = @_;
	my @before = counters();
	my @after;

	sql($change);
	all_delivered();
	@after = counters();
	return join(' ', map { $after[$_] - $before[$_] } 0 .. $#after);
}

sub counters
{
	return split(/\|/, sql(q{
		SELECT refreshes, refreshes_fallen_back, loads
		  FROM cachekit.stat_servers AS s, cachekit.stat_entities AS e
		 WHERE s.name = 'hot' AND e.name = 't'}));
}

sub refresher_pid
{
	my ($db) = @_;

	$db //= 'postgres';
	return sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'cachekit refresher' AND datname = '$db'");
}

# The refresher runs, and has just loaded something.
sub wake_refresher
{
	foreach my $attempt (1 .. 100)
	{
		my $before = stat_of('refreshes');

		fill(1);
		sql(q{UPDATE t SET v = v + 1 WHERE id = 1});
		all_delivered();
		return if stat_of('refreshes') > $before;
	}
	die "$kind: nothing is refreshed";
}

# How long a changed document may take to be loaded; then it is deleted.
sub set_refresh_timeout
{
	my ($timeout) = @_;

	sql("ALTER SYSTEM SET cachekit.refresh_timeout = '$timeout'");
	$node->reload;
	$node->poll_query_until('postgres', "SELECT current_setting('cachekit.refresh_timeout') = '$timeout'")
	  or die 'the setting did not arrive';
	return;
}

sub attach_again
{
	my ($arguments) = @_;

	sql("SELECT cachekit.attach('t', $arguments)");
	all_delivered();
	return;
}

# --- the scenarios ---

sub what_is_cached
{
	fill(1, 2);
	wake_refresher();
	is(changed_by('UPDATE t SET v = 100 WHERE id IN (1, 2, 3)'), '2 0 2', "$kind: two of three are refreshed");
	is(cached(1) . ' ' . cached(2) . ' ' . cached(3), '100 100 ', "$kind: they are there, and the third is not");
	is(sql(q{SELECT cachekit.fetch('t', 1)->>'v'}), 100, "$kind: fetch returns it");
	is(changed_by('BEGIN; UPDATE t SET v = 101 WHERE id = 1; ROLLBACK'), '0 0 0', "$kind: ROLLBACK changes nothing");
	is(cached(1), 100, "$kind: nor is anything deleted");
	is(changed_by('DELETE FROM t WHERE id = 1'), '0 1 1', "$kind: there is no such row any more");
	is($cache->get('postgres:t:1'), undef, "$kind: nor a document");
	sql('INSERT INTO t VALUES (1, 1)');

	attach_again('refresh_absent => true');
	is(changed_by('UPDATE t SET v = 102 WHERE id IN (4, 5)'), '2 0 2', "$kind: refresh_absent loads what is not there");
	is(cached(4), 102, "$kind: it is there now");
	is(changed_by('INSERT INTO t VALUES (100000, 7)'), '1 0 1', "$kind: also a new row");
	is(changed_by('UPDATE t SET v = 103 WHERE id = 4'), '1 0 1', "$kind: and replaces what is");
	is(cached(4), 103, "$kind: by the new one");
	attach_again('refresh_absent => false');

	attach_again(q{ttl => '1000 s'});
	fill(6);
	sql('UPDATE t SET v = 104 WHERE id = 6');
	all_delivered();
	is(cached(6), 104, "$kind: refreshed with a TTL");
	cmp_ok($cache->ttl_of('postgres:t:6'), '>', 800, "$kind: it is the entity's");
	attach_again(q{ttl => '1 h'});
	return;
}

sub no_gap
{
	my ($n, $reader, %seen, $refreshes) = (2000);

	fill(1);
	sql('UPDATE t SET v = 0 WHERE id = 1');
	all_delivered();
	fill(1);
	$refreshes = stat_of('refreshes');
	$reader = DirectReader->new($cache, 'postgres:t:1')->start;
	sql(join('', map { "UPDATE t SET v = $_ WHERE id = 1;\n" } 1 .. $n));
	all_delivered();
	%seen = $reader->result;
	note("$kind: " . join(' ', %seen) . ', refreshes: ' . (stat_of('refreshes') - $refreshes));
	is($seen{absent}, 0, "$kind: no gap in $seen{reads} reads");
	is($seen{back}, 0, "$kind: and it never went back");
	is(cached(1), $n, "$kind: the last one is there");
	cmp_ok($seen{values}, '>', 10, "$kind: it has followed");
	cmp_ok(stat_of('refreshes') - $refreshes, '<', $n, "$kind: with fewer loads than changes");
	return;
}

sub delivery_covers_it
{
	my $wrong = '';

	fill(1 .. 5);
	foreach my $v (1 .. 30)
	{
		sql("UPDATE t SET v = $v WHERE id < 6; SELECT cachekit.wait_for_delivery('60s')");
		foreach my $id (1 .. 5)
		{
			my $cached = cached($id);

			$wrong .= "$cached for $v\n" if $cached ne '' && $cached != $v;
		}
	}
	is($wrong, '', "$kind: after wait_for_delivery() nothing old is there");
	fill(1);
	$wrong = '';
	foreach my $v (1 .. 30)
	{
		my $cached;

		sql("SET cachekit.synchronous_invalidation = on; SET cachekit.synchronous_timeout = '60s';
			UPDATE t SET v = $v WHERE id = 1");
		$cached = cached(1);
		$wrong .= "$cached for $v\n" if $cached ne '' && $cached != $v;
	}
	is($wrong, '', "$kind: nor after a synchronous COMMIT");
	is(cached(1), 30, "$kind: but the new one is");
	return;
}

sub changed_while_loading
{
	my ($holder, $end);

	fill(1);
	sql(q{ALTER SYSTEM SET cachekit.debug_stop = 'refresh-loaded'});
	$node->reload;
	$holder = hold($node, 'refresh-loaded');
	sql('UPDATE t SET v = 200 WHERE id = 1');
	wait_at_step($node, 'refresh-loaded');
	is(sql(q{SELECT cachekit.fetch('t', 1)->>'v'}), 200, "$kind: while it is loaded, fetch returns the new one");
	is(sql(q{SELECT cachekit.wait_for_delivery('1ms')}), 'f', "$kind: and it is not delivered");
	is(stat_of('refreshes_pending'), 1, "$kind: it is pending");
	$end = sql('UPDATE t SET v = 201 WHERE id = 1; SELECT pg_current_wal_insert_lsn()');
	wait_stat("position >= '$end'");
	$holder->quit;
	all_delivered();
	is(cached(1), 201, "$kind: changed while it was loaded");
	is(stat_of('refreshes_pending'), 0, "$kind: nothing is pending");

	# the whole entity while it is loaded
	$holder = hold($node, 'refresh-loaded');
	sql('UPDATE t SET v = 202 WHERE id = 1');
	wait_at_step($node, 'refresh-loaded');
	$end = sql(q{SELECT cachekit.flush('t'); SELECT pg_current_wal_insert_lsn()});
	$end =~ s/^\s+//;
	wait_stat("position >= '$end'");
	$holder->quit;
	all_delivered();
	is(cached(1), '', "$kind: flushed while it was loaded");
	sql('ALTER SYSTEM RESET cachekit.debug_stop');
	$node->reload;
	return;
}

sub what_cannot_be_loaded
{
	my ($locker, $pid);

	# a lock that somebody else has
	fill(1);
	wake_refresher();
	fill(1);
	$pid = sql(q{SELECT pid FROM cachekit.server_states()});
	kill('STOP', $pid);
	sql('UPDATE t SET v = 300 WHERE id = 1');
	$locker = session($node, 'postgres');
	$locker->query_safe('BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE');
	kill('CONT', $pid);
	ok($cache->poll_value('postgres:t:1', undef), "$kind: locked: it is deleted");
	is(sql(q{SELECT cachekit.wait_for_delivery('60s')}), 't', "$kind: which counts as delivered");
	$locker->query_safe('COMMIT');
	$locker->quit;

	# too large
	fill(1);
	attach_again('max_value_size => 1000');
	fill(1);
	is(changed_by(q{UPDATE t SET v = 301, pad = repeat('x', 2000) WHERE id = 1}) =~ s/ \d+$//r, '0 1',
		"$kind: too large for the entity");
	is(cached(1), '', "$kind: it is deleted");
	sql(q{UPDATE t SET pad = NULL});
	attach_again(q{max_value_size => 1000000});

	# a digest for a key
	sql(q{
		CREATE TABLE long (id text PRIMARY KEY, v int);
		INSERT INTO long VALUES (repeat('long', 100), 1);
		SELECT cachekit.attach('long', servers => '{hot}', local => false, on_change => 'refresh')});
	all_delivered();
	filled($node, $cache, 'long', 'long' x 100);
	sql('UPDATE long SET v = 2');
	all_delivered();
	is($cache->get(sql(q{SELECT cachekit.key('long', repeat('long', 100))})), undef,
		"$kind: nobody knows whose digest it is: deleted");
	sql('DROP TABLE long');

	# so many at once
	fill(1, 2, 3);
	sql('UPDATE t SET v = v + 1');
	all_delivered();
	all_right($node, $cache, 't', "$kind, many at once");
	fill(1, 2, 3);
	sql(q{BEGIN; SET LOCAL cachekit.max_changed_keys = 100; UPDATE t SET v = v + 1; COMMIT});
	all_delivered();
	is(cached(1), '', "$kind: too many for a transaction to remember: flushed");

	# switched off
	set_refresh_timeout('0');
	ok(poll(sub { fill(1); return changed_by('UPDATE t SET v = v + 1 WHERE id = 1') eq '0 1 0'; }),
		"$kind: no time for it: deleted");
	set_refresh_timeout('500ms');
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
	return 0;
}

# Redis keeps the old value when it has no room for the new one.
sub no_room
{
	my ($before);

	fill(1);
	wake_refresher();
	fill(1);
	$before = stat_of('refreshes_fallen_back');
	$cache->cli('CONFIG', 'SET', 'maxmemory', 1);
	sql('UPDATE t SET v = 400 WHERE id = 1');
	ok($cache->poll_value('postgres:t:1', undef), "$kind: -OOM: it is deleted");
	wait_stat("refreshes_fallen_back > $before");
	$cache->cli('CONFIG', 'SET', 'maxmemory', 0);
	all_delivered();
	all_right($node, $cache, 't', "$kind, after -OOM");
	return;
}

# Keys of every type find back to their rows.
sub key_types
{
	my %key = (
		int2 => '7', int8 => '-9000000000', oid => '4000000000', bool => 't',
		text => 'a:b%#é "x"', 'varchar(20)' => '', 'char(5)' => 'ab', name => 'a_b',
		uuid => 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', date => '0044-03-15 BC', time => '12:00:00.5',
		timestamp => '2024-02-29 12:34:56.789', timestamptz => '2024-02-29 12:34:56+05:30', numeric => '-12.5000',
		bytea => '\x00ff3a', inet => '10.0.0.1/8', cidr => 'fe80::/64', macaddr => '08:00:2b:01:02:03', mood => 'so: so');
	my ($missing, $n, $before) = ('', 0);

	sql(q{CREATE TYPE mood AS ENUM ('so: so', 'well')});
	foreach my $type (sort keys %key)
	{
		my $table = 'k' . ++$n;

		sql(qq{
			CREATE TABLE $table (id $type PRIMARY KEY, v int);
			INSERT INTO $table VALUES ('$key{$type}', 1);
			SELECT cachekit.attach('$table', servers => '{hot}', local => false, on_change => 'refresh', refresh_absent => true)});
	}
	sql(q{
		CREATE TABLE kk (a int, b text, c timestamptz, v int, PRIMARY KEY (a, b, c));
		INSERT INTO kk VALUES (1, 'x:y', '2024-01-01', 1);
		SELECT cachekit.attach('kk', servers => '{hot}', local => false, on_change => 'refresh', refresh_absent => true)});
	all_delivered();
	sql(join(';', map { "UPDATE $_ SET v = 2" } 'kk', map { "k$_" } 1 .. $n));
	all_delivered();
	foreach my $table ('kk', map { "k$_" } 1 .. $n)
	{
		my $key = sql($table eq 'kk' ? q{SELECT cachekit.key('kk', (a, b, c)) FROM kk} : "SELECT cachekit.key('$table', id) FROM $table");

		$missing .= "$table: $key\n" if ($cache->get($key) // '') !~ /"v": 2/;
	}
	sql("DROP TABLE $_") foreach 'kk', map { "k$_" } 1 .. $n;
	sql('DROP TYPE mood');
	is($missing, '', "$kind: keys of every type are read back");
	return;
}

# The refresher, the sender, the cache and the whole server go, while sessions write.
sub outages
{
	my $script = $node->basedir . '/load.sql';
	my ($load, $out, $pid) = (undef, '');

	unlink($script);
	append_to_file($script, q{
\set id random(1, 50)
UPDATE t SET v = v + 1 WHERE id BETWEEN :id AND :id + 3;
SELECT count(cachekit.fetch('t', g)) FROM generate_series(1, 20) AS g;
SELECT v AS before FROM t WHERE id = :id \gset
SELECT 1 / ((cachekit.fetch('t', :id)->>'v')::int >= :before)::int;
});
	foreach my $what ('refresher terminated', 'sender terminated', 'cache killed', 'refresher killed')
	{
		fill(1);
		wake_refresher();
		$out = '';
		$load = IPC::Run::start(
			[ 'pgbench', '-n', '-c', '3', '-T', '600', '-f', $script, '-h', $node->host, '-p', $node->port,
				'postgres' ], '>&', \$out);
		my $before = stat_of('refreshes');
		wait_stat("refreshes > $before + 100");
		for my $times (1 .. 3)
		{
			if ($what eq 'refresher terminated')
			{
				sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'cachekit refresher'});
			}
			elsif ($what eq 'sender terminated')
			{
				sql(q{SELECT pg_terminate_backend(pid) FROM cachekit.server_states()});
			}
			elsif ($what eq 'cache killed')
			{
				$cache->kill9;
				$cache->start;
			}
			else
			{
				$pid = refresher_pid();
				kill('KILL', $pid) if $pid;
				last;
			}
			$before = stat_of('refreshes');
			wait_stat("refreshes > $before + 100");
		}
		if ($what eq 'refresher killed')
		{
			eval { $load->finish; };
			poll(sub { my ($status) = $node->psql('postgres', 'SELECT 1'); return $status == 0; }) or die 'no restart';
		}
		else
		{
			$load->signal('INT');
			eval { $load->finish; };
			is(join("\n", grep { /error|aborted|fatal/i } split(/\n/, $out)), '', "$kind, $what: no fetch was wrong");
			$node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'pgbench'});
		}
		all_delivered();
		all_right($node, $cache, 't', "$kind, $what");
		wake_refresher();
	}
	return;
}

# --- both kinds ---

foreach my $this ('redis', 'memcached')
{
	($kind, $cache) = ($this, $cache{$this});
	set_refresh_timeout('1min');    # on a slow machine, too, nothing is deleted for want of time
	sql(sprintf q{
		CREATE EXTENSION cachekit;
		CREATE TABLE t (id int PRIMARY KEY, v int, pad text);
		INSERT INTO t SELECT g, 1 FROM generate_series(1, 5000) AS g;
		CREATE SERVER hot FOREIGN DATA WRAPPER cachekit OPTIONS (%s, breaker_reset '50ms');
		SELECT cachekit.attach('t', servers => '{hot}', local => false, ttl => '1 h', on_change => 'refresh')},
		$cache->server_options);
	all_delivered();
	what_is_cached();
	no_gap();
	delivery_covers_it();
	changed_while_loading();
	key_types();
	set_refresh_timeout('500ms');
	what_cannot_be_loaded();
	no_room() if $kind eq 'redis';
	outages();

	# what takes the extension away, while a refresher is there
	wake_refresher();
	isnt(refresher_pid(), '', "$kind: a refresher is there");
	sql('DROP EXTENSION cachekit CASCADE; DROP TABLE t');
	pass("$kind: DROP EXTENSION");
}

# --- commands that need the database for themselves ---

($kind, $cache) = ('redis', $cache{redis});
$cache->flush_all;

sub make_database
{
	my ($db) = @_;

	sql(sprintf(q{
		CREATE EXTENSION cachekit;
		CREATE TABLE t (id int PRIMARY KEY, v int);
		INSERT INTO t SELECT g, 1 FROM generate_series(1, 100) AS g;
		CREATE SERVER hot FOREIGN DATA WRAPPER cachekit OPTIONS (%s, namespace 'ns');
		SELECT cachekit.attach('t', servers => '{hot}', local => false, on_change => 'refresh', refresh_absent => true)},
			$cache->server_options), $db);
	delivered($node, 'hot', $db) or die 'not delivered';
	return;
}

# A refresher is connected to the database.
sub use_refresher
{
	my ($db) = @_;

	foreach my $attempt (1 .. 1000)
	{
		sql(q{UPDATE t SET v = v + 1; SELECT cachekit.wait_for_delivery('60s')}, $db);
		return if refresher_pid($db) ne '';
		select(undef, undef, undef, 0.05);
	}
	die 'no refresher';
}

sub goes_at_once
{
	my ($db, $command) = @_;
	my $began;

	use_refresher($db);
	$began = time();
	is(error_of($node, $command), '', $command);
	cmp_ok(time() - $began, '<', 4, '... at once');
	return;
}

sql('CREATE DATABASE two');
make_database('two');
goes_at_once('two', 'CREATE DATABASE copy TEMPLATE two');
sql('DROP DATABASE copy');
goes_at_once('two', 'ALTER DATABASE two RENAME TO three');
goes_at_once('three', 'DROP DATABASE three');

# --- nobody to load ---

$node->stop;
my $poor = new_node('poor', allows_streaming => 1);
$cache->flush_all;
$poor->append_conf('postgresql.conf', q{
max_worker_processes = 2
max_logical_replication_workers = 0
});
$poor->start;
$node = $poor;
make_database('postgres');
sql(q{UPDATE t SET v = v + 1});
ok($node->poll_query_until('postgres', q{
	SELECT EXISTS (SELECT FROM cachekit.health() WHERE subject = 'refresher' AND hint LIKE '%max_worker_processes (now 2)%')}),
	'health() tells that there is no worker');
sql(q{SELECT cachekit.wait_for_delivery('60s'); UPDATE t SET v = 2 WHERE id = 1; SELECT cachekit.wait_for_delivery('60s')});
is($cache->get('ns:t:1'), undef, 'and what was to be loaded is deleted');
like(log_lines($node, qr/no background worker could be started/), qr/^[^\n]+$/, 'the log has one line');
$node->stop;
done_testing();
