# fetch_many in one pass: all keys that no local tier has are asked for at once, within one
# fetch_timeout, and what is left is loaded by one query. Nothing is left behind by calls that are
# cancelled or whose session ends, late answers reach nobody, and a set of one moment is one.

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);
use CacheKit;
use CacheServer;
use RedisServer;

my $redis = RedisServer->new('main')->start;
my $node = new_node('main', allows_streaming => 1);
# a busy machine must not make a call go to the table: those that are to time out say so
$node->append_conf('postgresql.conf', "max_connections = 60\ncachekit.fetch_timeout = '60s'");
$node->start;
$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION cachekit;
	CREATE TABLE t (id int PRIMARY KEY, v text);
	INSERT INTO t SELECT g, 'value ' || g FROM generate_series(1, 3000) AS g;
	CREATE SERVER hot FOREIGN DATA WRAPPER cachekit OPTIONS (} . $redis->server_options . q{, command_timeout '60 s');
	SELECT cachekit.attach('t', servers => '{hot}', local => false, ttl => '1 h');
	CREATE TABLE account (id int PRIMARY KEY, v int);
	INSERT INTO account SELECT g, 0 FROM generate_series(1, 8) AS g;
	SELECT cachekit.attach('account');
	CREATE TABLE far_account (id int PRIMARY KEY, v int);
	INSERT INTO far_account SELECT g, 0 FROM generate_series(1, 8) AS g;
	SELECT cachekit.attach('far_account', servers => '{hot}')});
ok(wait_until_ready($node, 'hot'), 'the server is ready');

# How many of these documents are not what the table has.
sub wrong
{
	my ($from, $to, $settings) = @_;

	return output_of($node, ($settings // '') . qq{
		SELECT count(*) FILTER (WHERE f.value IS DISTINCT FROM to_jsonb(t)) + abs(count(*) - ($to - $from + 1))
		  FROM cachekit.fetch_many('t', ARRAY(SELECT generate_series($from, $to))) AS f
		  LEFT JOIN t ON t.id::text = f.key});
}

# All of these are in Redis.
sub fill_all
{
	my ($from, $to) = @_;

	foreach my $attempt (1 .. 50)
	{
		$node->safe_psql('postgres', qq{SELECT count(*) FROM cachekit.fetch_many('t',
			ARRAY(SELECT generate_series($from, $to)))});
		foreach my $look (1 .. 20)
		{
			my @keys = $redis->keys_like('postgres:t:*');

			return 1 if @keys >= $to - $from + 1;
			select(undef, undef, undef, 0.05);
		}
	}
	return 0;
}

# --- one pass ---

is(wrong(1, 2500), 0, 'what is nowhere comes from the table');
is(counter($node, 't', 'loads'), 2500, 'each was loaded once');
ok(fill_all(1, 2500), 'and is in Redis');
$node->safe_psql('postgres', 'SELECT cachekit.stat_reset()');
is(wrong(1, 2500), 0, 'all of them come from Redis');
is(counter($node, 't', 'server_hits'), 2500, 'as hits');
is(counter($node, 't', 'loads'), 0, 'without a load');
is(wrong(2401, 2600), 0, 'some are there, and some are not');
is(counter($node, 't', 'loads'), 100, 'those that are not are loaded');

# --- one budget ---

# Calls that wait for a Redis that does not answer: how many reads are under way at once.
sub reads_at_once
{
	my $before = server_stat($node, 'hot', 'reads');
	my $session = session($node, 'postgres', "cachekit.fetch_timeout = '1h'");
	my ($out, $reads);

	$redis->signal('STOP');
	send_query($session, q{SELECT count(value) FROM cachekit.fetch_many('t', ARRAY(SELECT generate_series(1, 256)))});
	$node->poll_query_until('postgres', qq{SELECT reads - $before >= 256 FROM cachekit.stat_servers})
	  or diag('they did not come');
	$reads = server_stat($node, 'hot', 'reads') - $before;
	$redis->signal('CONT');
	$out = result($session);
	$session->quit;
	return $out == 256 ? $reads : "wrong: $out";
}

is(reads_at_once(), 256, '256 reads are under way before the first answer');

$redis->signal('STOP');
my $begun = time();
is(wrong(1, 1000, "SET cachekit.fetch_timeout = '300ms'; "), 0, 'no answer in time: the table');
cmp_ok(time() - $begun, '<', 5, 'all keys have one budget');

# --- nothing is left behind ---

my $read = q{SELECT count(*) FROM cachekit.fetch_many('t', ARRAY(SELECT generate_series(1, 256)))};
foreach my $round (1 .. 6)
{
	like(error_of($node, "SET cachekit.fetch_timeout = '1h'; SET statement_timeout = '20ms'; $read"),
		qr/canceling statement due to statement timeout/, "a wait is cancelled ($round)");
}
foreach my $round (1 .. 5)
{
	my $session = session($node, 'postgres', "cachekit.fetch_timeout = '1h'");
	my $pid = pid_of($session);

	send_query($session, $read);
	wait_for_pids($node, "wait_event_type = 'Extension'", $pid);
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
	wait_until_gone($node, $pid);
	lost($session);
}
# one session, again and again, with errors that are caught
is(output_of($node, q{SET cachekit.fetch_timeout = '1h'; SET statement_timeout = '20ms';}
		. q{DO $$ BEGIN
			PERFORM cachekit.fetch_many('t', ARRAY(SELECT generate_series(1, 256)));
		EXCEPTION WHEN query_canceled THEN NULL;
		END $$;} x 6
		. 'SELECT 1'), 1, 'waits that are cancelled in subtransactions');
# what Redis answers now was asked for by nobody who is still there
$redis->signal('CONT');
is(wrong(500, 2500), 0, 'late answers reach nobody');
is(reads_at_once(), 256, 'all places have been given back');

# --- many at once ---

$node->safe_psql('postgres', 'SELECT cachekit.stat_reset()');
$node->pgbench(
	'-n -c 24 -j 2 -t 40',
	0,
	[qr{actually processed: 960/960}, qr{number of failed transactions: 0 }],
	[qr{^$}],
	'more readers than there are places, and writers',
	{
		'051_read@9' => q{
			\set from random(1, 2000)
			SELECT 1 / (count(*) = 200 AND bool_and(value->>'id' = key))::int
			  FROM cachekit.fetch_many('t', ARRAY(SELECT generate_series(:from, :from + 199)));
		},
		'051_write@1' => q{
			\set id random(1, 2000)
			UPDATE t SET v = v || 'x' WHERE id = :id;
		}
	});
ok(delivered($node, 'hot'), 'delivered');
is(wrong(1, 3000), 0, 'after that, all are right');

# --- a set of one moment ---

my %scenario = (
	# a transfer between the key that is cached and the one that is not, in the midst of a call
	'consistent-set' => sub {
		my $holder = hold($node, 'load-token');
		my $reader = session($node, 'postgres', "cachekit.debug_stop = 'load-token'");
		my $sum;

		$node->safe_psql('postgres', "UPDATE account SET v = 0; SELECT cachekit.fetch('account', 1)");
		send_query($reader, q{
			SELECT sum((value->>'v')::int) FROM cachekit.fetch_many('account', ARRAY[1, 2], consistent => true)});
		wait_at_step($node, 'load-token');
		$node->safe_psql('postgres', 'UPDATE account SET v = v + CASE id WHEN 1 THEN 10 ELSE -10 END WHERE id <= 2');
		$holder->quit;
		$sum = result($reader);
		$reader->quit;
		return $sum eq '0';
	},
);

foreach my $guard (guards_to_try(keys %scenario))
{
	ok($scenario{$guard}->(), "$guard on: all is right");
	disable($node, $guard);
	ok(!$scenario{$guard}->(), "$guard off is caught");
	disable($node, '');
}

# Without "consistent" each is current, and no more is promised.
$node->safe_psql('postgres', q{SELECT cachekit.stat_reset(); SELECT cachekit.flush('account')});
is(output_of($node, q{
	SELECT count(*) FROM cachekit.fetch_many('account', ARRAY[1, 2, 3, 4, 5, 6, 7, 8], consistent => true);
	SELECT count(*) FROM cachekit.fetch_many('account', ARRAY[1, 2, 3, 4, 5, 6, 7, 8], consistent => true);
	SELECT count(value) FROM cachekit.fetch_many('account', ARRAY[1, 2, 3, 4, 5, 6, 7, 8], 'fresh', true);}),
	"8\n8\n8", 'sets of one moment');
is(counter($node, 'account', 'loads'), 8, 'they are answered by the cache, too');
is(output_of($node, q{
	SELECT count(*), count(DISTINCT value->>'id') FROM cachekit.fetch_many('t',
		ARRAY(SELECT generate_series(1, 3000)), consistent => true)}), '3000|3000', 'a large one');
{
	my $writer = session($node);

	# in flight: not even the words can be read
	my $holder = hold($node, 'committed');
	$writer->query_safe("SET cachekit.debug_stop = 'committed'");
	send_query($writer, 'UPDATE account SET v = v + 1 WHERE id = 1; UPDATE account SET v = v - 1 WHERE id = 2');
	wait_at_step($node, 'committed');
	is(output_of($node, q{
		SELECT sum((value->>'v')::int) FROM cachekit.fetch_many('account', ARRAY[1, 2], consistent => true);
		SELECT count(value) FROM cachekit.fetch_many('account', ARRAY[1, 2], 'fresh', consistent => true)}),
		"1\n0", 'a change that is being committed');
	$holder->quit;
	result($writer);
	$writer->quit;
}
is(output_of($node, q{
	BEGIN;
	SELECT cachekit.invalidate('account', 1);
	SELECT sum((value->>'v')::int) FROM cachekit.fetch_many('account', ARRAY[1, 2], consistent => true);
	UPDATE account SET v = v + 5 WHERE id = 1;
	SELECT sum((value->>'v')::int) FROM cachekit.fetch_many('account', ARRAY[1, 2], consistent => true);
	ROLLBACK}) =~ s/^\s+//r, "0\n5", 'own changes are in it');

foreach my $table ('account', 'far_account')
{
	$node->safe_psql('postgres', "UPDATE $table SET v = 0");
	$node->pgbench(
		'-n -c 8 -j 2 -t 250',
		0,
		[qr{number of failed transactions: 0 }],
		[qr{^$}],
		"$table: transfers, and sums of sets of one moment",
		{
			"051_sum_$table\@4" => qq{
				SELECT 1 / (sum((value->>'v')::int) = 0 AND count(*) = 8)::int
				  FROM cachekit.fetch_many('$table', '{1,2,3,4,5,6,7,8}', consistent => true);
			},
			"051_transfer_$table\@1" => qq{
				\\set from random(1, 7)
				BEGIN;
				UPDATE $table SET v = v - 1 WHERE id = :from;
				UPDATE $table SET v = v + 1 WHERE id = :from + 1;
				COMMIT;
			}
		});
	cmp_ok(counter($node, $table, 'local_hits'), '>', 0, "$table: some came from the cache");
}

$node->stop;
is(log_lines($node, qr/PANIC:|TRAP:/), '', 'no assertion failed');
done_testing();
