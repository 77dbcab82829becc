# The connections of a sender, of both kinds of server: replaced when they have lived long enough,
# closed when nobody uses them and opened again, limited in what is in flight, and with options that
# change. While sessions write and fetch; afterwards every document in the cache and every fetch is
# the table's, and unless options have changed, the sender has never had to begin anew.
use strict;
use warnings FATAL => 'all';

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use CacheKit;
use CacheServer;
use MemcachedServer;
use RedisServer;

my $node = new_node('main', allows_streaming => 1);
my $script = $node->basedir . '/load.sql';
my ($what, $cache, $load, $load_out);

append_to_file($script, q{
\set id random(1, 500)
\set n random(1, 20)
UPDATE t SET v = v + 1 WHERE id BETWEEN :id AND :id + :n;
SELECT count(cachekit.fetch('t', g)) FROM generate_series(1, 40) AS g;
SELECT v AS before FROM t WHERE id = :id \gset
SELECT 1 / ((cachekit.fetch('t', :id)->>'v')::int >= :before)::int;
});

sub start_load
{
	$load_out = '';
	$load = IPC::Run::start(
		[ 'pgbench', '-n', '-c', '3', '-T', '600', '-f', $script, '-h', $node->host, '-p', $node->port,
			'postgres' ], '>&', \$load_out);
	return;
}

# It goes on for so many rows.
sub load_goes_on
{
	my ($for) = @_;
	my $count = q{SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 't'};
	my $before = $node->safe_psql('postgres', $count);

	$node->poll_query_until('postgres', $count =~ s/n_tup_upd/n_tup_upd > $before + $for/r)
	  or die "$what: sessions do not go on";
	return;
}

sub stop_load
{
	$load->signal('INT');
	eval { $load->finish };
	unlike($load_out, qr/ERROR|aborted/, "$what: no statement failed, and no fetch was wrong");
	return;
}

# Options of the server; the sender runs with them.
sub options
{
	my ($options) = @_;

	$node->safe_psql('postgres', "ALTER SERVER hot OPTIONS ($options)");
	delivered($node, 'hot') or die "$what: not ready with $options";
	return;
}

# All is the table's, and there is something in the cache.
sub right
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	delivered($node, 'hot') or die "$what, $name: not delivered";
	all_right($node, $cache, 't', "$what, $name");
	ok(filled($node, $cache, 't', 1), "$what, $name: it is filled");
	return;
}

# --- the scenarios, on a server "hot" that has default options, under load ---

# Connections live for a moment only.
sub short_lives
{
	options(q{SET connections '4', ADD max_lifetime '100ms'});
	return server_stat($node, 'hot', 'reconnects');
}

my %scenario = (
	'1 lifetime' => sub {
		my $reconnects = short_lives();
		my $replacements = server_stat($node, 'hot', 'replacements');

		ok(wait_for_server($node, 'hot', "replacements >= $replacements + 20"),
			"$what: connections are replaced");
		is(server_stat($node, 'hot', 'reconnects'), $reconnects,
			"$what: not one deletion, fill or read notices");
		options(q{DROP max_lifetime});
	},
	'pool-drain' => sub {
		disable($node, 'pool-drain');
		my $reconnects = short_lives();

		ok(wait_for_server($node, 'hot', "reconnects > $reconnects"),
			"$what: pool-drain off is caught: the sender has to begin anew");
		disable($node, '');
		options(q{DROP max_lifetime});
	},
	'3 idle' => sub {
		my $reconnects;

		options(q{SET connections '4', ADD idle_timeout '200ms'});
		wait_for_server($node, 'hot', 'connections = 4');
		stop_load();
		$reconnects = server_stat($node, 'hot', 'reconnects');
		ok(wait_for_server($node, 'hot', 'connections = 1'), "$what: idle ones are closed");
		right('idle');
		start_load();
		ok(wait_for_server($node, 'hot', 'connections = 4'), "$what: and opened again");
		load_goes_on(2000);
		is(server_stat($node, 'hot', 'reconnects'), $reconnects, "$what: the sender goes on");
		options(q{DROP idle_timeout});
	},
	'4 max_inflight' => sub {
		options(q{ADD max_inflight '1'});
		load_goes_on(5000);
		stop_load();
		right('one command at a time');
		start_load();
		options(q{SET max_inflight '2'});
		load_goes_on(2000);
		options(q{DROP max_inflight});
	},
	'5 options' => sub {
		my @changes = (
			q{SET connections '1'}, q{SET connections '8'}, q{SET connections '2'},
			q{ADD connect_timeout '2s'}, q{ADD command_timeout '3s'}, q{ADD idle_timeout '1s'},
			q{ADD max_lifetime '1s'}, q{ADD max_inflight '10'}, q{ADD breaker_threshold '2'},
			q{ADD breaker_reset '200ms'}, q{ADD namespace 'other'}, q{SET namespace 'third'},
			q{DROP namespace},
			q{DROP connect_timeout, DROP command_timeout, DROP idle_timeout, DROP max_lifetime,
				DROP max_inflight, DROP breaker_threshold, DROP breaker_reset});

		foreach my $change (@changes)
		{
			options($change);
			load_goes_on(500);
		}
		stop_load();
		right('many options later');
		start_load();
	});

$node->start;
foreach my $class ('RedisServer', 'MemcachedServer')
{
	$what = $class;
	$cache = $class->new('pool')->start;
	$node->safe_psql(
		'postgres', sprintf q{
		CREATE EXTENSION cachekit;
		CREATE TABLE t (id int PRIMARY KEY, v int);
		INSERT INTO t SELECT g, 0 FROM generate_series(1, 500) AS g;
		CREATE SERVER hot FOREIGN DATA WRAPPER cachekit OPTIONS (%s, connections '2');
		SELECT cachekit.attach('t', servers => '{hot}', local => false, ttl => 'infinity');
		}, $cache->server_options);
	wait_until_ready($node, 'hot') or die 'not ready';
	start_load();
	foreach my $name (sort keys %scenario)
	{
		$what = "$class, $name";
		$scenario{$name}->();
	}
	stop_load();
	right('at the end');
	$node->safe_psql('postgres', q{
		DROP TABLE t; DROP EXTENSION cachekit CASCADE});
	$cache->kill9;
}
$node->stop;
unlike(slurp_file($node->logfile), qr/PANIC:|TRAP:|terminated by signal/, 'nobody crashed');
done_testing();
