# cachekit.synchronous_invalidation: after COMMIT nobody reads an old document from a cache server.
# Whatever keeps a server from acknowledging, COMMIT returns, says so, and what it has changed is
# delivered later; and nobody waits for a session that waits.

use strict;
use warnings;

use IO::Socket::INET;
use IO::Socket::UNIX;
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);
use CacheKit;
use CacheServer;
use MemcachedServer;
use RedisServer;

my $redis = RedisServer->new('main')->start;
my $other = RedisServer->new('other')->start;
my $memcached = MemcachedServer->new('main')->start;
my $node = new_node('main', allows_streaming => 1);
$node->append_conf('postgresql.conf', q{cachekit.shutdown_timeout = '200ms'});
$node->start;
# the servers never give up by themselves, except "brittle", which does so at once
$node->safe_psql('postgres', sprintf(q{
	CREATE EXTENSION cachekit;
	CREATE TABLE t (id int PRIMARY KEY, v text);
	INSERT INTO t SELECT g, 'old' FROM generate_series(1, 100) AS g;
	CREATE TABLE u (id int PRIMARY KEY, v text);
	INSERT INTO u SELECT g, 'old' FROM generate_series(1, 100) AS g;
	CREATE TABLE m (id int PRIMARY KEY, v text);
	INSERT INTO m SELECT g, 'old' FROM generate_series(1, 100) AS g;
	CREATE TYPE pair AS (a int);
	CREATE TABLE alone (id int PRIMARY KEY, v text);
	INSERT INTO alone VALUES (1, 'old');
	CREATE SERVER hot FOREIGN DATA WRAPPER cachekit
		OPTIONS (%s, command_timeout '600s', breaker_reset '50ms');
	CREATE SERVER brittle FOREIGN DATA WRAPPER cachekit
		OPTIONS (%s, command_timeout '600s', breaker_threshold '1', breaker_reset '600s');
	CREATE SERVER cold FOREIGN DATA WRAPPER cachekit OPTIONS (%s, command_timeout '600s');
	SELECT cachekit.attach('t', servers => '{hot}', local => false, ttl => 'infinity');
	SELECT cachekit.attach('m', servers => '{cold}', local => false, ttl => 'infinity');
	SELECT cachekit.attach('u', servers => '{hot,brittle}', local => false, ttl => 'infinity');
	SELECT cachekit.attach('alone', servers => '{}')},
	$redis->server_options, $other->server_options, $memcached->server_options));

my $on = 'cachekit.synchronous_invalidation = on';
my $long = q{cachekit.synchronous_timeout = '600s'};
my $waiting = q{state = 'active' AND wait_event_type = 'Extension'};
my $unacknowledged = 'has not acknowledged the commit\s+DETAIL: ';
my $committed = qr/DETAIL:  .*The transaction has committed; its changes are in the WAL and will be sent\./;
my $timed_out = qr/WARNING:  cache server "hot" $unacknowledged "hot" did not answer within/;

sub sql { return output_of($node, $_[0]); }

# A value is in Redis under the key of a row, as a program of somebody else may see it.
sub put_old
{
	my ($server, @keys) = @_;

	$server->cli('SET', "postgres:$_", 'old') foreach @keys;
	return;
}

# Redis takes no writes, but can be read; or does so again.
sub pause { $_[0]->cli('CLIENT', 'PAUSE', 6000000, 'WRITE'); return; }
sub unpause { $_[0]->cli('CLIENT', 'UNPAUSE'); return; }

sub is_gone { return $_[0]->cli('EXISTS', "postgres:$_[1]") eq '0'; }

sub both_ready
{
	delivered($node, $_) or die "$_ is not ready" foreach 'hot', 'brittle';
	return;
}

both_ready();

# --- clients that cost little: 10,000 tries ---

# PostgreSQL's protocol, as far as it takes to run a statement that must succeed.
sub connect_server
{
	my $socket = IO::Socket::UNIX->new($node->host . '/.s.PGSQL.' . $node->port)
	  or die "could not connect: $!";
	my $startup = pack('N Z* Z* Z* Z* x', 196608, 'user', scalar getpwuid($<), 'database', 'postgres');

	print $socket pack('N', 4 + length $startup) . $startup;
	$socket->flush;
	until_ready($socket);
	return $socket;
}

sub until_ready
{
	my ($socket) = @_;

	while (1)
	{
		my ($head, $body) = ('', '');
		my ($type, $len);

		read($socket, $head, 5) == 5 or die 'the server has closed the connection';
		($type, $len) = unpack('aN', $head);
		read($socket, $body, $len - 4) == $len - 4 or die 'the server has closed the connection';
		die "the server says: $body" if $type eq 'E' || $type eq 'N';
		return if $type eq 'Z';
	}
}

sub run_statement
{
	my ($socket, $statement) = @_;

	print $socket pack('aNZ*', 'Q', 5 + length $statement, $statement);
	$socket->flush;
	until_ready($socket);
	return;
}

# What Redis answers to SET and GET; undef: there is no such key.
sub ask_redis
{
	my ($socket, @command) = @_;
	my ($line, $value);

	print $socket '*' . @command . "\r\n" . join('', map { '$' . length($_) . "\r\n$_\r\n" } @command);
	$socket->flush;
	$line = <$socket> // die 'Redis has closed the connection';
	$line =~ s/\r\n$//;
	return $line if $line =~ /^\+/;
	$line =~ /^\$(-?\d+)$/ or die "Redis says: $line";
	return undef if $1 < 0;
	read($socket, $value, $1 + 2) == $1 + 2 or die 'Redis has closed the connection';
	return substr($value, 0, $1);
}

# The same for Memcached.
sub ask_memcached
{
	my ($socket, $command, $key, $value) = @_;
	my $line;

	print $socket $command eq 'SET' ? "set $key 0 0 " . length($value) . "\r\n$value\r\n" : "get $key\r\n";
	$socket->flush;
	$line = <$socket> // die 'Memcached has closed the connection';
	return undef if $line eq "END\r\n";
	return $line if $line eq "STORED\r\n";
	$line =~ /^VALUE \S+ \d+ (\d+)\r\n$/ or die "Memcached says: $line";
	read($socket, $value, $1 + 7) == $1 + 7 or die 'Memcached has closed the connection';
	return substr($value, 0, $1);
}

my %cache_of = (t => [ $redis, \&ask_redis ], m => [ $memcached, \&ask_memcached ]);

# Tries with a row of its own, in a process of its own, which says how many it has made, and how
# often there was an old document.
sub start_trying
{
	my ($table, $id, $tries, @settings) = @_;
	my ($where, $ask) = @{ $cache_of{$table} };

	pipe(my $from, my $to) or die "pipe: $!";
	defined(my $pid = fork()) or die "fork: $!";
	if ($pid == 0)
	{
		my $old = 0;

		eval {
			my $server = connect_server();
			my $cache = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $where->port)
			  or die "could not connect: $!";
			my $key = "postgres:$table:$id";

			run_statement($server, "SET $_") foreach @settings;
			foreach my $try (1 .. $tries)
			{
				$ask->($cache, 'SET', $key, 'old');
				run_statement($server, "UPDATE $table SET v = 'try $try' WHERE id = $id");
				$old++ if defined $ask->($cache, 'GET', $key);
			}
			syswrite($to, "$tries tries, $old old");
		};
		syswrite($to, $@) if $@;
		POSIX::_exit(0);
	}
	close($to);
	return [ $pid, $from ];
}

sub end_trying
{
	my ($pid, $from) = @{ $_[0] };
	my $said = do { local $/; <$from> };

	waitpid($pid, 0);
	return $said;
}

my $what;
foreach my $table ('t', 'm')
{
	my $start = time;
	my @clients = map { start_trying($table, $_, 2500, $on, $long) } 1 .. 4;

	$what = '10,000 tries, ' . ref $cache_of{$table}[0];
	is(join("\n", map { end_trying($_) } @clients), join("\n", ('2500 tries, 0 old') x 4),
		"$what: never an old document after COMMIT");
	# were they not woken, they would look only every 100 ms: that takes 250 s
	cmp_ok(time - $start, '<', 150, "$what: those who wait are woken");
	note(sprintf('%s took %.1f s', $what, time - $start));
	@clients = map { start_trying($table, $_, 500) } 1 .. 4;
	note('not synchronous: ' . join('; ', map { end_trying($_) } @clients));
	@clients = map { start_trying($table, $_, 500, $on, $long, 'synchronous_commit = off') } 1 .. 4;
	is(join("\n", map { end_trying($_) } @clients), join("\n", ('500 tries, 0 old') x 4),
		"$what: nor after an asynchronous COMMIT");
}
delivered($node, 'hot') or die 'not delivered';

# --- the guard ---

# True unless COMMIT has returned while the old document could still be read.
my $writer = session($node, 'postgres', $on, $long);
my $writer_pid = pid_of($writer);
my %scenario = (
	'synchronous-wait' => sub {
		my ($also) = @_;
		my $early;

		put_old($redis, 't:1');
		pause($redis);
		send_query($writer, "UPDATE t SET v = 'guard$also' WHERE id = 1");
		wait_for_pids($node, qq{query LIKE '%''guard$also''%' AND (state = 'idle' OR $waiting)}, $writer_pid);
		$early = $node->safe_psql('postgres',
			"SELECT state = 'idle' FROM pg_stat_activity WHERE pid = $writer_pid") eq 't'
		  && $redis->cli('GET', 'postgres:t:1') eq 'old';
		unpause($redis);
		result($writer);
		return !$early;
	});

foreach my $guard (guards_to_try(keys %scenario))
{
	ok($scenario{$guard}->(''), "$guard on: all is right");
	ok(is_gone($redis, 't:1'), "$guard on: after COMMIT the document has gone");
	$writer->query_safe("SET cachekit.debug_disable = '$guard'");
	ok(!$scenario{$guard}->(", $guard"), "$guard off is caught");
	$writer->query_safe('RESET cachekit.debug_disable');
}

# --- who waits, and for what ---

sub is_waiting
{
	my ($what, $session, $statement) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	send_query($session, $statement);
	wait_for_pids($node, $waiting, pid_of_writer($session));
	return pass("$what: COMMIT waits");
}

my %pid = ($writer => $writer_pid);
sub pid_of_writer { return $pid{ $_[0] } //= die 'unknown session'; }

# It waits while Redis takes no writes, and when it returns the document has gone.
sub waits
{
	my ($what, $statement, $key, @settings) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $session = session($node, 'postgres', $on, $long, @settings);
	my @returned;

	$pid{$session} = pid_of($session);
	put_old($redis, $key);
	pause($redis);
	is_waiting($what, $session, $statement);
	is($redis->cli('GET', "postgres:$key"), 'old', "$what: the old document is still there");
	unpause($redis);
	@returned = result($session);
	is($returned[1], '', "$what: no warning");
	ok(is_gone($redis, $key), "$what: after COMMIT it has gone");
	$session->quit;
	return;
}

# It returns although Redis takes no writes; if it had waited, it would say so.
sub does_not_wait
{
	my ($what, $statement, @settings) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	pause($redis);
	is(error_of($node, join('; ', (map { "SET $_" } @settings), $statement)), '', "$what: COMMIT does not wait");
	unpause($redis);
	delivered($node, 'hot') or die "$what: not delivered";
	return;
}

waits('SET LOCAL', qq{BEGIN; SET LOCAL $on; UPDATE t SET v = 'local' WHERE id = 2; COMMIT}, 't:2',
	'cachekit.synchronous_invalidation = off');
waits('a savepoint',
	q{BEGIN; SAVEPOINT s; UPDATE t SET v = 'savepoint' WHERE id = 3; RELEASE s; COMMIT}, 't:3');
waits('invalidate()', q{SELECT cachekit.invalidate('t', 4)}, 't:4');
waits('flush()', q{SELECT cachekit.flush('t')}, 't:5');
waits('TRUNCATE', q{
	BEGIN; TRUNCATE t; INSERT INTO t SELECT g, 'again' FROM generate_series(1, 100) AS g; COMMIT}, 't:6');
waits('ALTER TABLE', q{ALTER TABLE t ADD COLUMN w int}, 't:7');
waits('DDL whose reach is not known', q{ALTER TYPE pair ADD ATTRIBUTE b int}, 't:8');
waits('many keys', q{UPDATE t SET v = 'many'}, 't:100');
does_not_wait('the default', q{UPDATE t SET v = 'default'});
does_not_wait('SET LOCAL off', q{
	BEGIN; SET LOCAL cachekit.synchronous_invalidation = off; UPDATE t SET v = 'off'; COMMIT}, $on);
does_not_wait('ROLLBACK', q{BEGIN; UPDATE t SET v = 'rollback'; ROLLBACK}, $on);
does_not_wait('a rolled back savepoint', q{BEGIN; SAVEPOINT s; UPDATE t SET v = 'rollback'; ROLLBACK TO s; COMMIT},
	$on);
does_not_wait('an entity without servers', q{UPDATE alone SET v = 'new'}, $on);
does_not_wait('a query', q{SELECT cachekit.fetch('t', 1) IS NULL}, $on, q{cachekit.fetch_timeout = 1});

$what = 'a procedure';
{
	$node->safe_psql('postgres', q{
		CREATE PROCEDURE two_commits() LANGUAGE plpgsql AS $$
		BEGIN
			UPDATE t SET v = 'first' WHERE id = 10;
			COMMIT;
			UPDATE t SET v = 'second' WHERE id = 11;
			COMMIT;
		END$$});
	put_old($redis, 't:10', 't:11');
	pause($redis);
	is_waiting("$what, first", $writer, 'CALL two_commits()');
	is(sql(q{SELECT v FROM t WHERE id = 10}), 'first', "$what: the first has committed");
	isnt(sql(q{SELECT v FROM t WHERE id = 11}), 'second', "$what: the second has not");
	$node->safe_psql('postgres', "SELECT pg_cancel_backend($writer_pid)");
	wait_for_pids($node, qq{$waiting AND (SELECT v = 'second' FROM t WHERE id = 11)}, $writer_pid);
	pass("$what, second: COMMIT waits");
	unpause($redis);
	is(() = (result($writer))[1] =~ /WARNING/g, 1, "$what: only the first was canceled");
	ok(is_gone($redis, 't:11'), "$what: after the second COMMIT its document has gone");
}

# --- nobody waits for whoever waits ---

$what = 'locks';
pause($redis);
is_waiting($what, $writer, q{UPDATE t SET v = 'held?' WHERE id = 12});
is(sql(q{UPDATE t SET v = v || '!' WHERE id = 12; SELECT v FROM t WHERE id = 12}), 'held?!',
	"$what: another session changes the same row meanwhile");
is(sql(q{SELECT cachekit.fetch('t', 12)->>'v'}), 'held?!', "$what: and fetches it");
is(sql(qq{SELECT count(*) FROM pg_locks WHERE pid = $writer_pid}), 0, "$what: it holds none");
is(sql(qq{SELECT backend_xid, backend_xmin FROM pg_stat_activity WHERE pid = $writer_pid}), '|',
	"$what: nor does it hold up VACUUM");
unpause($redis);
is(result($writer), '', "$what: then it returns");

# --- a frozen Redis ---

$what = 'a frozen Redis';
{
	my $start = time;
	my $err;

	put_old($redis, 't:13');
	$redis->signal('STOP');
	$err = error_of($node, qq{
		SET $on; SET cachekit.synchronous_timeout = '300ms'; UPDATE t SET v = 'frozen' WHERE id = 13});
	like($err, qr/$timed_out 300 ms\./, "$what: a warning");
	like($err, $committed, "$what: that says what has become of it");
	cmp_ok(time - $start, '<', 10.3, "$what: within the bound");
	note(sprintf('%.3f s', time - $start));
	like(error_of($node, qq{
			SET $on; SET cachekit.synchronous_timeout = 0; UPDATE t SET v = 'more' WHERE id = 14}),
		qr/$timed_out 0 ms\./, "$what: synchronous_timeout = 0 warns");
	is(sql(q{SELECT v FROM t WHERE id IN (13, 14) ORDER BY id}), "frozen\nmore", "$what: both have committed");
	is(log_lines($node, qr/has not acknowledged the commit/), '', "$what: not a line in the log for each commit");
	$redis->signal('CONT');
	ok(delivered($node, 'hot'), "$what: then it is delivered");
	ok(is_gone($redis, 't:13'), "$what: and the document has gone");
}

# --- whoever waits can be interrupted ---

$what = 'pg_cancel_backend';
put_old($redis, 't:15');
pause($redis);
is_waiting($what, $writer, q{UPDATE t SET v = 'canceled' WHERE id = 15});
$node->safe_psql('postgres', "SELECT pg_cancel_backend($writer_pid)");
{
	my ($out, $err) = result($writer);

	like($err, qr/WARNING:  canceling wait for cache servers due to user request\s+$committed/, "$what: a warning");
	unlike($err, qr/ERROR/, "$what: no error");
	is(result($writer, q{SELECT v FROM t WHERE id = 15}), 'canceled',
		"$what: the session goes on, the row is committed");
	is($redis->cli('GET', 'postgres:t:15'), 'old', "$what: Redis does not know yet");
	unpause($redis);
	ok(delivered($node, 'hot') && is_gone($redis, 't:15'), "$what: then it is delivered");
}

$what = 'pg_terminate_backend';
{
	my $session = session($node, 'postgres', $on, $long);

	$pid{$session} = pid_of($session);
	put_old($redis, 't:16');
	pause($redis);
	is_waiting($what, $session, q{UPDATE t SET v = 'terminated' WHERE id = 16});
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid{$session})");
	wait_until_gone($node, $pid{$session});
	pass("$what: the session ends");
	lost($session);
	like(log_lines($node, qr/canceling wait for cache servers and terminating connection/), qr/WARNING/,
		"$what: a warning");
	is(sql(q{SELECT v FROM t WHERE id = 16}), 'terminated', "$what: the row is committed");
	unpause($redis);
	ok(delivered($node, 'hot') && is_gone($redis, 't:16'), "$what: then it is delivered");
}

# The place in shared memory is another's now, and nobody waits in it.
is(join('', map { error_of($node, "SET $on; UPDATE t SET v = 'heir $_' WHERE id = 17") } 1 .. 5), '',
	"$what: others go on waiting and being woken");

# --- servers that are away are not waited for ---

# The reason that is given tells that there was no wait.
$what = 'a dead server beside a living one';
put_old($redis, 'u:1');
$other->kill9;
ok(wait_for_server($node, 'brittle', q{breaker = 'open'}), "$what: its breaker is open");
like(error_of($node, "SET $on; UPDATE u SET v = 'one' WHERE id = 1"),
	qr/WARNING:  cache server "brittle" $unacknowledged "brittle" is not connected\./,
	"$what: a warning, and no wait");
ok(is_gone($redis, 'u:1'), "$what: the living one has acknowledged");
waits_for_the_other('with a living one that takes its time');
is(error_of($node, "SET $on; UPDATE t SET v = 'one' WHERE id = 1"), '',
	"$what: no warning for an entity that is not there");

sub waits_for_the_other
{
	my ($what) = @_;

	put_old($redis, 'u:2');
	pause($redis);
	is_waiting($what, $writer, q{UPDATE u SET v = 'two' WHERE id = 2});
	unpause($redis);
	like((result($writer))[1], qr/cache server "brittle" has not acknowledged/, "$what: one warning, for the dead one");
	ok(is_gone($redis, 'u:2'), "$what: after COMMIT the document has gone");
	return;
}

# Both at once, of which one is still hoped for.
$redis->signal('STOP');
{
	my $err = error_of($node, qq{
		SET $on; SET cachekit.synchronous_timeout = '100ms'; UPDATE u SET v = 'three' WHERE id = 3});

	like($err, qr/WARNING:  cache servers "\w+", "\w+" have not acknowledged the commit\n/, "$what: one warning");
	like($err, qr/DETAIL:  .*"hot" did not answer within 100 ms/, "$what: the living one was waited for");
	like($err, qr/DETAIL:  .*"brittle" is not connected/, "$what: the dead one is named, too");
}
$redis->signal('CONT');

$what = 'a server that dies meanwhile';
$other->start;
$node->safe_psql('postgres', q{ALTER SERVER brittle OPTIONS (SET breaker_reset '500s')});
both_ready();
pause($other);
is_waiting($what, $writer, q{UPDATE u SET v = 'four' WHERE id = 4});
$other->kill9;
like((result($writer))[1], qr/WARNING:  cache server "brittle" $unacknowledged "brittle" is not connected/,
	"$what: COMMIT returns");
$other->start;
$node->safe_psql('postgres', q{ALTER SERVER brittle OPTIONS (SET breaker_reset '600s')});
both_ready();

$what = 'a server that is refused';
$node->safe_psql('postgres', sprintf(q{
	CREATE TABLE twins (id int PRIMARY KEY);
	CREATE SERVER twin FOREIGN DATA WRAPPER cachekit OPTIONS (%s);
	SELECT cachekit.attach('twins', servers => '{hot,twin}')}, $redis->server_options));
ok(wait_for_server($node, 'twin', q{state = 'refused'}), "$what: it is");
like(error_of($node, "SET $on; INSERT INTO twins VALUES (1)"),
	qr/WARNING:  cache server "twin" $unacknowledged "twin" is refused\./,
	"$what: a warning, and no wait");
$node->safe_psql('postgres', q{DROP TABLE twins; DROP SERVER twin});

$what = 'a server without a sender';
{
	my $launcher = sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'cachekit launcher'});
	my $sender = sql(q{SELECT pid FROM cachekit.stat_servers AS s JOIN pg_stat_activity AS a
		ON a.application_name = 'cachekit sender ' || s.name WHERE s.name = 'hot'});

	kill('STOP', $launcher);
	sql("SELECT pg_terminate_backend($sender)");
	wait_until_gone($node, $sender);
	like(error_of($node, "SET $on; UPDATE t SET v = 'nobody' WHERE id = 1"),
		qr/WARNING:  cache server "hot" $unacknowledged "hot" has no sender\./,
		"$what: a warning, and no wait");
	kill('CONT', $launcher);
	both_ready();
}

# --- servers that change meanwhile ---

$what = 'ALTER SERVER meanwhile';
{
	my $third = RedisServer->new('third')->start;

	put_old($third, 't:20');
	pause($redis);
	is_waiting($what, $writer, q{UPDATE t SET v = 'altered' WHERE id = 20});
	$node->safe_psql('postgres', sprintf(q{ALTER SERVER hot OPTIONS (SET port '%d')}, $third->port));
	is((result($writer))[1], '', "$what: COMMIT returns");
	ok(is_gone($third, 't:20'), "$what: the document has gone from the new one");
	unpause($redis);
	put_old($redis, 't:20');
	$writer->query_safe(sprintf(q{ALTER SERVER hot OPTIONS (SET port '%d')}, $redis->port));
	both_ready();
	ok(is_gone($redis, 't:20'), "$what: and from the first, when that is back");
}

$what = 'DROP SERVER meanwhile';
both_ready();
pause($other);
is_waiting($what, $writer, q{UPDATE u SET v = 'six' WHERE id = 6});
$node->safe_psql('postgres', q{SET client_min_messages = warning; DROP SERVER brittle CASCADE});
is((result($writer))[1], '', "$what: COMMIT returns");
unpause($other);

$what = 'a new server';
$node->safe_psql('postgres', sprintf(q{
	CREATE SERVER brittle FOREIGN DATA WRAPPER cachekit OPTIONS (%s);
	SELECT cachekit.attach('u', servers => '{hot,brittle}')}, $other->server_options));
both_ready();
is(error_of($node, "SET $on; UPDATE u SET v = 'seven' WHERE id = 7"), '', "$what: COMMIT waits for it as well");

# --- a shutdown ---

$what = 'a fast shutdown';
$writer->quit;
{
	my $session = session($node, 'postgres', $on, $long);
	local $ENV{PGCTLTIMEOUT} = 30;

	$pid{$session} = pid_of($session);
	put_old($redis, 't:18');
	pause($redis);
	is_waiting($what, $session, q{UPDATE t SET v = 'shutdown' WHERE id = 18});
	is($node->stop('fast', fail_ok => 1), 1, "$what: it ends");
	lost($session);
	is($redis->cli('GET', 'postgres:t:18'), 'old', "$what: Redis does not know yet");
	unpause($redis);
	$node->start;
	is(sql(q{SELECT v FROM t WHERE id = 18}), 'shutdown', "$what: the row is committed");
	ok(delivered($node, 'hot') && is_gone($redis, 't:18'), "$what: after the next start it is delivered");
}

# --- without shared memory ---

$what = 'not preloaded';
$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', undef);
$node->restart;
like(error_of($node, "LOAD 'cachekit'; SET $on; UPDATE t SET v = 'alone' WHERE id = 19"),
	qr/WARNING:.*not acknowledged the commit\s+DETAIL:.*not in shared_preload_libraries/, "$what: a warning, and no wait");
is(error_of($node, "LOAD 'cachekit'; SET $on; UPDATE alone SET v = 'not preloaded'"), '',
	"$what: none for an entity without servers");

$node->stop;
is(log_lines($node, qr/PANIC:|TRAP:|terminated by signal/), '', 'nobody crashed');
done_testing();
