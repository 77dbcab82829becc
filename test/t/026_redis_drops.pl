# Servers, the extension and databases that go while sessions write: nobody waits for a sender, no
# call fails, and neither a replication slot nor a process stays. Databases that are copied or
# renamed; two that claim one namespace. Then clusters in which a sender lacks what it needs.

use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use CacheKit;
use CacheServer;
use RedisServer;

my $rows = 100;
my $redis = RedisServer->new('main')->start;
my $node;

sub sql
{
	my ($sql, $db) = @_;

	return output_of($node, "SET client_min_messages = warning; $sql", $db);
}

# The entity "t" of a database, on the server "hot".
sub make_entity
{
	my ($db, $options) = @_;

	sql(sprintf(q{
		CREATE EXTENSION cachekit;
		CREATE TABLE t (id int PRIMARY KEY, v int);
		INSERT INTO t SELECT g, 0 FROM generate_series(1, %d) AS g;
		CREATE SERVER hot FOREIGN DATA WRAPPER cachekit
			OPTIONS (%s, command_timeout '200ms', breaker_reset '50ms' %s);
		SELECT cachekit.attach('t', servers => '{hot}', local => false, ttl => 'infinity')},
		$rows, $redis->server_options, $options // ''), $db);
	return;
}

sub make_database
{
	my ($db, $options) = @_;

	sql("CREATE DATABASE $db");
	make_entity($db, $options);
	return;
}

# Ready, all delivered, and everything is compared.
sub all_well
{
	my ($db, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	ok(delivered($node, 'hot', $db), "$what: ready in $db");
	all_right($node, $redis, 't', "$what, $db", $db);
	ok(filled($node, $redis, 't', 1, $db), "$what: filled in $db");
	return;
}

# As many slots and as many senders as there are servers.
sub nothing_left
{
	my ($what, $servers) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	ok($node->poll_query_until('postgres', qq{
		SELECT count(*) = $servers FROM pg_replication_slots WHERE slot_name LIKE 'cachekit%'}),
		"$what: no replication slot stays")
	  or diag(sql('SELECT slot_name, active FROM pg_replication_slots'));
	ok($node->poll_query_until('postgres', qq{
		SELECT count(*) = $servers FROM pg_stat_activity WHERE backend_type = 'cachekit sender'}),
		"$what: no process stays")
	  or diag(sql(q{SELECT pid, backend_type, application_name, state, wait_event
		FROM pg_stat_activity WHERE backend_type LIKE 'cachekit%'}));
	return;
}

# --- the load: sessions that write, in a database ---

my %load;

sub start_load
{
	my ($db) = @_;
	my $script = $node->basedir . '/load.sql';
	my $out = '';

	open(my $file, '>', $script) or die "could not write $script: $!";
	print $file q{
\set id random(1, } . $rows . q{)
UPDATE t SET v = v + 1 WHERE id = :id;
BEGIN;
UPDATE t SET v = v + 1 WHERE id = :id;
SAVEPOINT s;
DELETE FROM t WHERE id = :id;
ROLLBACK TO s;
COMMIT;
};
	close $file;
	$load{$db} = { out => \$out };
	$load{$db}{run} = IPC::Run::start(
		[ 'pgbench', '-n', '-c', '2', '-T', '600', '--rate', '100', '-f', $script,
			'-h', $node->host, '-p', $node->port, $db ], '>&', \$out);
	load_goes_on($db, 'begun');
	return;
}

# It goes on for some transactions.
sub load_goes_on
{
	my ($db, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $before = sql('SELECT sum(v) FROM t', $db);

	return ok($node->poll_query_until($db, "SELECT sum(v) > $before + 10 FROM t"),
		"$what: sessions write in $db");
}

# It has had no error, and ends.
sub stop_load
{
	my ($db, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $load = delete $load{$db};

	$load->{run}->kill_kill;
	is(join("\n", grep { /error|aborted|fatal/i } split(/\n/, ${ $load->{out} })), '',
		"$what: no call failed in $db");
	$node->poll_query_until('postgres',
		"SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = '$db' AND application_name = 'pgbench'")
	  or die 'sessions of pgbench stay';
	return;
}

# The cluster of the first scenarios. "postgres" has a server that stays.
sub start_main
{
	$node = new_node('main', allows_streaming => 1);
	$node->append_conf('postgresql.conf', q{
restart_after_crash = on
max_connections = 30
});
	$node->start;
	make_entity('postgres');
	return;
}

# --- DROP SERVER ---

sub drop_server
{
	my $what = 'DROP SERVER';

	all_well('postgres', $what);
	start_load('postgres');
	foreach my $time (1, 2)
	{
		sql(sprintf q{CREATE SERVER extra FOREIGN DATA WRAPPER cachekit OPTIONS (%s, namespace 'extra');
			SELECT cachekit.attach('t', servers => '{hot,extra}')}, $redis->server_options);
		ok(wait_until_ready($node, 'extra'), "$what: another is ready, $time");
		nothing_left("$what, before", 2);
		load_goes_on('postgres', "$what, before, $time");
		sql('DROP SERVER extra CASCADE');
		load_goes_on('postgres', "$what, $time");
		nothing_left("$what, $time", 1);
		is(sql('SELECT servers FROM cachekit.entities'), '{hot}', "$what: the entity keeps the other");
	}

	# a sender that cannot talk to its cache ends as well
	sql(sprintf q{CREATE SERVER extra FOREIGN DATA WRAPPER cachekit OPTIONS (%s, namespace 'extra');
		SELECT cachekit.attach('t', servers => '{hot,extra}')}, $redis->server_options);
	ok(wait_until_ready($node, 'extra'), "$what: another is ready");
	$redis->signal('STOP');
	load_goes_on('postgres', "$what, frozen");
	sql('DROP SERVER extra CASCADE');
	nothing_left("$what, frozen", 1);
	$redis->signal('CONT');
	stop_load('postgres', $what);
	all_well('postgres', $what);
	return;
}

# --- DROP EXTENSION ---

sub drop_extension
{
	my $what = 'DROP EXTENSION';

	make_database('shop');
	all_well('shop', $what);
	nothing_left("$what, before", 2);
	start_load($_) foreach 'shop', 'postgres';
	sql('DROP EXTENSION cachekit CASCADE', 'shop');
	load_goes_on($_, $what) foreach 'shop', 'postgres';
	nothing_left($what, 1);
	stop_load('shop', $what);
	stop_load('postgres', $what);
	all_well('postgres', $what);

	# what Redis still has in this namespace, of before, is nobody's
	$redis->cli('SET', 'shop:t:5', '{"v": -1, "id": 5}');
	sql('DROP TABLE t', 'shop');
	make_entity('shop');
	all_well('shop', "$what, created again");
	nothing_left("$what, created again", 2);
	sql('DROP DATABASE shop');
	nothing_left("$what, and its database", 1);
	return;
}

# --- DROP DATABASE ---

sub drop_database
{
	my $what = 'DROP DATABASE';

	start_load('postgres');
	make_database('shop');
	all_well('shop', $what);
	sql('DROP DATABASE shop');
	nothing_left($what, 1);

	$what = 'DROP DATABASE, frozen';
	make_database('shop');
	all_well('shop', $what);
	$redis->signal('STOP');
	sql('UPDATE t SET v = v + 1', 'shop');
	sql('DROP DATABASE shop');
	nothing_left($what, 1);
	$redis->signal('CONT');

	# at once, while somebody may be looking for its servers
	$what = 'DROP DATABASE, at once';
	foreach (1 .. 3)
	{
		make_database('shop');
		sql('DROP DATABASE shop');
	}
	nothing_left($what, 1);

	$what = 'DROP DATABASE with FORCE';
	make_database('shop');
	all_well('shop', $what);
	sql('DROP DATABASE shop WITH (FORCE)');
	nothing_left($what, 1);
	stop_load('postgres', $what);
	all_well('postgres', $what);
	is(sql('SELECT * FROM cachekit.health()'), '', "$what: health");
	return;
}

# --- CREATE DATABASE ... TEMPLATE, and RENAME ---

sub copy_database
{
	my $what = 'CREATE DATABASE ... TEMPLATE';

	start_load('postgres');
	make_database('shop');
	all_well('shop', $what);
	sql('CREATE DATABASE copy TEMPLATE shop');
	sql('UPDATE t SET v = v + 1000', 'copy');
	all_well($_, $what) foreach 'copy', 'shop';
	nothing_left($what, 3);
	sql('UPDATE t SET v = v + 1', 'shop');
	all_well($_, "$what, changed") foreach 'copy', 'shop';

	$what = 'ALTER DATABASE ... RENAME';
	sql('ALTER DATABASE copy RENAME TO store');
	sql('UPDATE t SET v = v + 1', 'store');
	is(sql(q{SELECT count(*) FROM t WHERE cachekit.fetch('t', id) IS DISTINCT FROM to_jsonb(t)}, 'store'),
		0, "$what: fetches are right at once");
	ok(wait_for_server($node, 'hot', q{state = 'ready' AND EXISTS (
			SELECT FROM cachekit.servers AS s WHERE s.name = 'hot' AND s.namespace = 'store')}, 'store'),
		"$what: ready in its new namespace");
	all_well($_, $what) foreach 'store', 'shop';
	nothing_left($what, 3);

	# the names change places: each finds the other's documents in its namespace
	$what = 'names that change places';
	sql("ALTER DATABASE $_->[0] RENAME TO $_->[1]")
	  foreach [ 'store', 'between' ], [ 'shop', 'store' ], [ 'between', 'shop' ];
	foreach my $db ('store', 'shop')
	{
		is(sql(q{SELECT count(*) FROM t WHERE cachekit.fetch('t', id) IS DISTINCT FROM to_jsonb(t)}, $db),
			0, "$what: fetches are right at once in $db");
		ok(wait_for_server($node, 'hot', qq{state = 'ready' AND EXISTS (
				SELECT FROM cachekit.servers AS s WHERE s.name = 'hot' AND s.namespace = '$db')}, $db),
			"$what: $db is ready in its new namespace");
		all_well($db, $what);
	}
	sql("DROP DATABASE $_") foreach 'store', 'shop';
	nothing_left($what, 1);
	stop_load('postgres', $what);
	all_well('postgres', $what);
	return;
}

# --- two databases in one namespace ---

sub same_namespace
{
	my $what = 'one namespace';
	my $flushes = 'SELECT sum(flushes) FROM cachekit.stat_servers';
	my (%before, $told);

	make_database('shop', q{, namespace 'same'});
	all_well('shop', $what);
	sql('CREATE DATABASE copy TEMPLATE shop');
	sql('UPDATE t SET v = 1000', 'copy');
	foreach my $attempt (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		$told = join("\n", map { sql(q{SELECT subject || ': ' || problem || ': ' || hint FROM cachekit.health()}, $_) }
			  'shop', 'copy');
		last if $told =~ /namespace/;
		select(undef, undef, undef, 0.1);
	}
	like($told, qr/^server hot: .*namespace/m, "$what: health() of one of them says so");
	$before{$_} = sql($flushes, $_) foreach 'shop', 'copy';
	foreach my $n (1 .. 20)
	{
		foreach my $db ('shop', 'copy')
		{
			sql('UPDATE t SET v = v + 1', $db);
			is(sql(q{SELECT count(*) FROM t WHERE cachekit.fetch('t', id) IS DISTINCT FROM to_jsonb(t)}, $db),
				0, "$what: fetches in $db are its own table's") if $n % 10 == 0;
		}
	}
	is(join(' ', map { sql($flushes, $_) - $before{$_} } 'shop', 'copy'), '0 0',
		"$what: they do not flush each other");

	# the one that goes leaves it to the other
	sql('DROP DATABASE shop');
	nothing_left($what, 2);
	all_well('copy', "$what, alone");
	is(sql('SELECT count(*) FROM cachekit.health()', 'copy'), 0, "$what, alone: health");
	sql('DROP DATABASE copy');
	nothing_left($what, 1);
	return;
}

# --- clusters that lack something ---

sub start_bare
{
	my ($name, $settings, $before) = @_;

	$node = new_node($name, allows_streaming => 1);
	$node->append_conf('postgresql.conf', $settings);
	$node->start;
	sql($before) if defined $before;
	make_entity('postgres');
	return;
}

# The server works, or health() names the setting; and sessions do their work in any case.
sub works_or_says
{
	my ($setting, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	ok($node->poll_query_until('postgres', qq{
			SELECT EXISTS (SELECT FROM cachekit.stat_servers WHERE name = 'hot' AND state = 'ready')
			    OR EXISTS (SELECT FROM cachekit.health() WHERE hint LIKE '%$setting%')}),
		"$what: it works, or health() says what to set")
	  or diag(sql('SELECT * FROM cachekit.health(); SELECT * FROM cachekit.servers'));
	foreach (1 .. 3)
	{
		sql('UPDATE t SET v = v + 1');
		is(sql(q{SELECT count(*) FROM t WHERE cachekit.fetch('t', id) IS DISTINCT FROM to_jsonb(t)}), 0,
			"$what: fetches are right");
	}
	all_well('postgres', $what) if sql('SELECT count(*) FROM cachekit.health()') eq '0';
	return;
}

sub no_slots
{
	my $what = 'max_replication_slots = 0';

	start_bare('noslots', q{max_replication_slots = 0});
	works_or_says('max_replication_slots', $what);
	$node->stop;

	$what = 'no replication slot is left';
	start_bare('oneslot', 'max_replication_slots = 1',
		q{SELECT pg_create_physical_replication_slot('other')});
	works_or_says('max_replication_slots', $what);
	sql(q{SELECT pg_drop_replication_slot('other')});
	all_well('postgres', "$what, until there is one");
	ok($node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM cachekit.health()'),
		"$what, until there is one: health");
	$node->stop;
	return;
}

sub no_workers
{
	# PostgreSQL itself takes one; launcher, the process that looks into a database, sender
	foreach my $n (1, 2, 3)
	{
		my $what = "max_worker_processes = $n";

		start_bare("workers$n", "max_worker_processes = $n");
		works_or_says('max_worker_processes', $what);
		if ($n == 3)
		{
			sql(sprintf q{CREATE SERVER extra FOREIGN DATA WRAPPER cachekit OPTIONS (%s, namespace 'extra')},
				$redis->server_options);
			ok($node->poll_query_until('postgres', q{SELECT EXISTS (
					SELECT FROM cachekit.health() WHERE hint LIKE '%max_worker_processes%')}),
				"$what: health() says it of a second server");
			sql('UPDATE t SET v = v + 1');
			is(sql(q{SELECT count(*) FROM t WHERE cachekit.fetch('t', id) IS DISTINCT FROM to_jsonb(t)}), 0,
				"$what: fetches are right with a second server that has none");
			is(sql(q{SELECT cachekit.wait_for_delivery('10ms')}), 'f',
				"$what: nothing is delivered to a server that nobody serves");
		}
		$node->stop;
		# told once in a while, not all the time
		cmp_ok(-s $node->logfile, '<', 1_000_000, "$what: the log is not flooded");
	}
	return;
}

sub wal_level
{
	my $what = 'wal_level = minimal';

	start_bare('minimal', "wal_level = minimal\nmax_wal_senders = 0");
	ok($node->poll_query_until('postgres', q{SELECT EXISTS (
			SELECT FROM cachekit.health() WHERE problem LIKE 'no replication slot%' AND hint LIKE '%wal_level%')}),
		"$what: health() says it");
	all_well('postgres', $what);
	$node->append_conf('postgresql.conf', 'wal_level = replica');
	$node->restart;
	all_well('postgres', "$what, until it is replica");
	is(sql('SELECT * FROM cachekit.health()'), '', "$what, until it is replica: health");
	$node->stop;
	return;
}

# Sessions without the library: nothing is cached, and everything works.
sub not_preloaded
{
	my $what = 'not preloaded';

	start_bare('notpreloaded', q{shared_preload_libraries = ''});
	foreach my $sql ('UPDATE t SET v = v + 1', 'DELETE FROM t WHERE id = 1', 'TRUNCATE t',
		'INSERT INTO t VALUES (1, 1)', q{SELECT cachekit.invalidate('t', 1)},
		q{SELECT cachekit.flush('t')}, 'ALTER TABLE t ADD w int',
		q{SELECT cachekit.fetch('t', 1)}, q{SELECT cachekit.fetch_many('t', '{1,2}'::int[])},
		q{SELECT * FROM cachekit.inspect('t', 1)}, 'SELECT * FROM cachekit.stat_servers',
		q{SELECT cachekit.wait_for_delivery('1s')}, q{ALTER SERVER hot OPTIONS (ADD connections '1')},
		q{SELECT cachekit.attach('t', servers => '{}')}, 'DROP SERVER hot CASCADE')
	{
		is(error_of($node, "SET client_min_messages = error; $sql"), '', "$what: $sql");
	}
	$node->stop;
	return;
}

# One after the other; what one dies of does not keep the others from running.
foreach my $scenario (
	[ 'start', \&start_main ],
	[ 'drop server', \&drop_server ],
	[ 'drop extension', \&drop_extension ],
	[ 'drop database', \&drop_database ],
	[ 'copy and rename', \&copy_database ],
	[ 'same namespace', \&same_namespace ],
	[ 'stop', sub { $node->stop } ],
	[ 'no slots', \&no_slots ],
	[ 'no workers', \&no_workers ],
	[ 'wal_level', \&wal_level ],
	[ 'not preloaded', \&not_preloaded ])
{
	my ($name, $run) = @$scenario;

	eval { $run->() };
	is($@, '', "$name: ran to its end");
	$redis->signal('CONT');
	(delete $load{$_})->{run}->kill_kill foreach keys %load;
}

foreach my $log (glob("$PostgreSQL::Test::Utils::log_path/*.log"))
{
	is(join("\n", grep { /PANIC:|TRAP:|terminated by signal/ } split(/\n/, slurp_file($log))), '',
		'nobody crashed: ' . $log =~ s/.*\///r);
}
done_testing();
