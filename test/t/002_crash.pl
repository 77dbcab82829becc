# Restarts, crashes, and sessions that end at the worst moment: the cache is empty after a restart,
# a fetch is right, and nobody leaves a raised fence or a flight behind.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use CacheKit;

my $node = new_node('main');
$node->append_conf('postgresql.conf', 'restart_after_crash = on');
$node->start;
$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION cachekit;
	CREATE TABLE t (id int PRIMARY KEY, v int);
	INSERT INTO t SELECT g, 0 FROM generate_series(1, 20) AS g;
	SELECT cachekit.attach('t');
	});

# Values are counted up; each test says what it expects key 1 to be.
my $value = 0;

sub fetch_is
{
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return is(output_of($node, "SELECT cachekit.fetch('t', 1)->>'v'"), $value, "$what: fetch is right");
}

# Empty: a document that is cached before, and gone after.
sub warm
{
	$node->safe_psql('postgres', "SELECT cachekit.fetch('t', 1), cachekit.fetch('t', 2)");
	is(inspect($node, 't', 1) . inspect($node, 't', 2), 't|ft|f', 'both documents are cached');
	return;
}

sub empty_and_right
{
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is(inspect($node, 't', 1), 'f|f', "$what: the cache is empty");
	is(inspect($node, 't', 2), 'f|f', "$what: the cache is empty of what did not change");
	fetch_is($what);
	is(inspect($node, 't', 1), 't|f', "$what: it is filled again");
	is(counter($node, 't', 'local_hits'), 0, "$what: the counters are new");
	return;
}

# --- restarts ---

warm();
$node->restart;
empty_and_right('restart');

warm();
my $writer = session($node);
$writer->query_safe('BEGIN; UPDATE t SET v = v + 1 WHERE id = 1');
$node->stop('immediate');
lost($writer);
$node->start;
empty_and_right('immediate stop, with an uncommitted change');

warm();
$node->safe_psql('postgres', 'UPDATE t SET v = v + 1 WHERE id = 1');
$value++;
$node->stop('immediate');
$node->start;
empty_and_right('immediate stop, after a change');

# --- one process killed, upon which the server restarts by itself ---

# Kill a process with signal 9 and wait until the server is back.
sub crash
{
	my ($pid) = @_;
	my $offset = -s $node->logfile;

	kill('KILL', $pid) == 1 or die "could not kill $pid";
	$node->wait_for_log(qr/ready to accept connections/, $offset);
	$node->poll_query_until('postgres', 'SELECT true') or die "the server is not back";
	return;
}

foreach my $step (
	[ 'pre-commit', 0 ],
	[ 'raised', 0 ],
	[ 'committed', 1 ],
	[ 'lowered', 1 ])
{
	my ($name, $committed) = @$step;
	my $holder = hold($node, $name);
	my $pid;

	warm();
	$writer = session($node, 'postgres', "cachekit.debug_stop = '$name'");
	$pid = pid_of($writer);
	send_query($writer, 'UPDATE t SET v = v + 1 WHERE id = 1');
	wait_at_step($node, $name);

	$value += $committed;
	fetch_is("a writer stands at $name");
	is(inspect($node, 't', 1), {
			'pre-commit' => 't|f', 'raised' => 't|t', 'committed' => 't|t', 'lowered' => 't|f' }
		->{$name}, "a writer stands at $name: the cache") if $name ne 'committed';
	crash($pid);
	lost($writer);
	lost($holder);
	empty_and_right("crash of a writer at $name");
}

{
	my $holder = hold($node, 'load-done');
	my $loader = session($node, 'postgres', "cachekit.debug_stop = 'load-done'");
	my $pid = pid_of($loader);

	send_query($loader, "SELECT cachekit.fetch('t', 3)");
	wait_at_step($node, 'load-done');
	warm();
	crash($pid);
	lost($loader);
	lost($holder);
	empty_and_right('crash of a loader');
	is(output_of($node, q{SET cachekit.fetch_timeout = '1h'; SELECT cachekit.fetch('t', 3)->>'id'}),
		3, 'crash of a loader: nobody waits for it');
}

# --- one session terminated or cancelled while it holds raised fences ---

foreach my $end ('pg_terminate_backend', 'pg_cancel_backend')
{
	my $holder = hold($node, 'raised');
	my ($pid, $fenced);

	warm();
	$writer = session($node, 'postgres', "cachekit.debug_stop = 'raised'");
	$pid = pid_of($writer);
	send_query($writer, q{BEGIN; UPDATE t SET v = v + 1 WHERE id = 1;
		SAVEPOINT s; SELECT cachekit.flush('t'); UPDATE t SET v = 0 WHERE id = 2; COMMIT});
	wait_at_step($node, 'raised');
	like(inspect($node, 't', 1), qr/\|t$/, "$end: the document is fenced");
	like(inspect($node, 't', 2), qr/\|t$/, "$end: so is another one");
	$fenced = counter($node, 't', 'bypass_fenced');
	fetch_is("$end: while it is fenced");
	cmp_ok(counter($node, 't', 'bypass_fenced'), '>', $fenced, "$end: that was read from the table");

	$node->safe_psql('postgres', "SELECT $end($pid)");
	if ($end eq 'pg_terminate_backend')
	{
		wait_until_gone($node, $pid);
		lost($writer);
	}
	else
	{
		my ($out, $err) = result($writer);

		like($err, qr/canceling statement due to user request/, "$end: COMMIT is an error");
		is(result($writer, 'SELECT 7'), 7, "$end: the session goes on");
		$writer->quit;
	}
	$holder->quit;
	is(inspect($node, 't', 1) . inspect($node, 't', 2), 't|ft|f',
		"$end: the fences are lowered, and nothing was invalidated");
	my $hits = counter($node, 't', 'local_hits');
	fetch_is("$end: after it");
	is(counter($node, 't', 'local_hits'), $hits + 1, "$end: from the cache");
}

# Terminated after its commit: interrupts are held until all is lowered.
{
	my $holder = hold($node, 'committed');
	my $pid;

	warm();
	$writer = session($node, 'postgres', "cachekit.debug_stop = 'committed'");
	$pid = pid_of($writer);
	send_query($writer, 'UPDATE t SET v = v + 1 WHERE id = 1');
	wait_at_step($node, 'committed');
	$value++;
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
	fetch_is('terminated after commit: while it is fenced');
	wait_at_step($node, 'committed');
	$holder->quit;
	wait_until_gone($node, $pid);
	lost($writer);
	is(inspect($node, 't', 1), 'f|f', 'terminated after commit: invalidated and lowered');
	fetch_is('terminated after commit');
	is(inspect($node, 't', 1), 't|f', 'terminated after commit: cached again');
}

# A client that goes away in the midst of a transaction.
{
	my $pid;

	warm();
	$writer = session($node);
	$pid = pid_of($writer);
	$writer->query_safe("BEGIN; UPDATE t SET v = v + 1 WHERE id = 1; SELECT cachekit.fetch('t', 1)");
	$writer->quit;
	wait_until_gone($node, $pid);
	is(inspect($node, 't', 1), 't|f', 'a client goes away: nothing is fenced or invalidated');
	fetch_is('a client goes away');
}

# --- one session terminated while it loads, or waits for another that does ---

foreach my $end ('pg_terminate_backend', 'pg_cancel_backend')
{
	my $holder = hold($node, 'load-done');
	my $loader = session($node, 'postgres', "cachekit.debug_stop = 'load-done'");
	my $waiter = session($node, 'postgres', "cachekit.fetch_timeout = '1h'");
	my $doomed = session($node, 'postgres', "cachekit.fetch_timeout = '1h'");
	my ($loader_pid, $waiter_pid, $doomed_pid) =
	  (pid_of($loader), pid_of($waiter), pid_of($doomed));
	my $loads;

	$node->safe_psql('postgres', "SELECT cachekit.invalidate('t', 1)");
	send_query($loader, "SELECT cachekit.fetch('t', 1)->>'v'");
	wait_at_step($node, 'load-done');
	$loads = counter($node, 't', 'loads');
	send_query($waiter, "SELECT cachekit.fetch('t', 1)->>'v'");
	send_query($doomed, "SELECT cachekit.fetch('t', 1)->>'v'");
	wait_for_pids($node, "wait_event_type = 'Extension'", $waiter_pid, $doomed_pid);

	$node->safe_psql('postgres', "SELECT $end($doomed_pid)");
	if ($end eq 'pg_terminate_backend')
	{
		wait_until_gone($node, $doomed_pid);
		lost($doomed);
	}
	else
	{
		my ($out, $err) = result($doomed);

		like($err, qr/canceling statement due to user request/, "$end of a waiter");
		is(result($doomed, "SELECT cachekit.fetch('t', 2)->>'id'"), 2,
			"$end of a waiter: the session goes on");
		$doomed->quit;
	}
	wait_for_pids($node, "wait_event_type = 'Extension'", $waiter_pid);
	is(counter($node, 't', 'loads'), $loads, "$end of a waiter: the other one waits on");

	$node->safe_psql('postgres', "SELECT $end($loader_pid)");
	is(result($waiter), $value, "$end of a loader: who waits loads by himself");
	if ($end eq 'pg_terminate_backend')
	{
		wait_until_gone($node, $loader_pid);
		lost($loader);
	}
	else
	{
		my ($out, $err) = result($loader);

		like($err, qr/canceling statement due to user request/, "$end of a loader");
		$loader->quit;
	}
	is(counter($node, 't', 'loads'), $loads + 1, "$end of a loader: one more load");
	is(inspect($node, 't', 1), 't|f', "$end of a loader: the waiter's is cached");
	is(result($waiter, "SELECT cachekit.invalidate('t', 1)"), '', "$end of a loader: invalidate");
	is(result($waiter, "SELECT cachekit.fetch('t', 1)->>'v'"), $value,
		"$end of a loader: the flight is free");
	$waiter->quit;
	$holder->quit;
}

$node->stop;
is(log_lines($node, qr/PANIC:|TRAP:/), '', 'no assertion failed');
done_testing();
