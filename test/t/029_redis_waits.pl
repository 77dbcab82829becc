# Whoever waits for Redis can be cancelled, and is never told what another has asked for; a Redis
# that is frozen holds up neither commits nor a shutdown. What somebody has put into Redis that is no
# document is none, whatever the encoding of the database.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);
use CacheKit;
use CacheServer;
use RedisServer;

my $rows = 100;
my $redis = RedisServer->new('main')->start;
my $node = new_node('main', allows_streaming => 1);
$node->append_conf('postgresql.conf', q{cachekit.shutdown_timeout = '200ms'});
$node->start;
$node->safe_psql('postgres', sprintf(q{
	CREATE EXTENSION cachekit;
	CREATE TABLE t (id int PRIMARY KEY, v text);
	INSERT INTO t SELECT g, 'table ' || g FROM generate_series(1, %d) AS g;
	CREATE SERVER hot FOREIGN DATA WRAPPER cachekit OPTIONS (%s, command_timeout '60s', breaker_reset '50ms');
	SELECT cachekit.attach('t', servers => '{hot}', local => false, ttl => 'infinity')},
	$rows, $redis->server_options));

my $long = q{cachekit.fetch_timeout = '60s'};

# All documents are in Redis, and say that they come from there.
sub warm
{
	my ($what) = @_;

	delivered($node, 'hot') or die "$what: the server is not ready";
	$node->poll_query_until('postgres', q{
		SELECT bool_and(x.present) FROM t, LATERAL (SELECT cachekit.fetch('t', t.id)) AS f,
			LATERAL (SELECT present FROM cachekit.inspect('t', t.id)) AS x(present)})
	  or die "$what: the cache could not be filled";
	$redis->cli('EVAL', q{
		for i = 1, tonumber(ARGV[1]) do
			redis.call('SET', 'postgres:t:' .. i, '{"v": "redis ' .. i .. '", "id": ' .. i .. '}')
		end
		return 1}, 0, $rows);
	return;
}

sub fetch { return sprintf(q{SELECT cachekit.fetch('t', %d)->>'v'}, $_[0]); }

# It is what waits for the answer, and not for anything else.
sub wait_until_asking
{
	my (@pids) = @_;

	wait_for_pids($node, q{state = 'active' AND wait_event_type = 'Extension'}, @pids);
	return;
}

# Changes of all rows take what was put there by hand away.
sub right_again
{
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	$node->safe_psql('postgres', q{UPDATE t SET v = v || '.'});
	ok(delivered($node, 'hot'), "$what: all is delivered");
	all_right($node, $redis, 't', $what);
	ok(filled($node, $redis, 't', 1), "$what: it is filled again");
	is($redis->cli('GET', 'postgres:t:1'), $node->safe_psql('postgres', q{SELECT to_jsonb(t) FROM t WHERE id = 1}),
		"$what: with the table's");
	return;
}

# --- waiting for a Redis that is frozen ---

my $what = 'statement_timeout';
my $session = session($node, 'postgres', $long);
my ($out, $err);

warm($what);
is(result($session, fetch(1)), 'redis 1', 'a fetch is answered by Redis');
$redis->signal('STOP');
$session->query_safe(q{SET statement_timeout = '100ms'});
$session->query_safe(q{\set VERBOSITY verbose});
foreach my $id (1 .. 10)
{
	($out, $err) = result($session, fetch($id));
	like($err, qr/ERROR:  57014: canceling statement due to statement timeout/, "$what: cancels, $id");
}
$session->query_safe(q{SET statement_timeout = 0});
is(result($session, 'SELECT 1'), 1, "$what: the session goes on");
$session->query_safe(q{SET cachekit.fetch_timeout = '50ms'});
is(result($session, fetch(90)), 'table 90', "$what: then the table answers");
$session->query_safe("SET $long");
# the answers to all of the above come before the one that it waits for
send_query($session, fetch(20));
wait_until_asking(my $pid = $node->safe_psql('postgres',
		q{SELECT pid FROM pg_stat_activity WHERE query LIKE '%fetch%20%' AND pid <> pg_backend_pid()}));
$redis->signal('CONT');
is(result($session), 'redis 20', "$what: no late answer for a later request");
is(result($session, fetch($_)), "redis $_", "$what: nor for any after it, $_") foreach 21 .. 25, 1 .. 5;

$what = 'pg_cancel_backend';
$redis->signal('STOP');
foreach my $id (1 .. 5)
{
	send_query($session, fetch($id));
	wait_until_asking($pid);
	$node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)");
	($out, $err) = result($session);
	like($err, qr/ERROR:  57014: canceling statement due to user request/, "$what: cancels, $id");
}
is(result($session, 'SELECT 1'), 1, "$what: the session goes on");
($out, $err) = result($session, q{BEGIN; SAVEPOINT s; SET LOCAL statement_timeout = '100ms'; } . fetch(1));
like($err, qr/ERROR:  57014: canceling statement due to statement timeout/, "$what: within a savepoint");
is(result($session, q{ROLLBACK TO s; SELECT 1}), 1, "$what: within a savepoint, the transaction goes on");
send_query($session, fetch(30));
wait_until_asking($pid);
$redis->signal('CONT');
is(result($session), 'redis 30', "$what: no late answer for a later request");
result($session, 'COMMIT');
is(result($session, fetch($_)), "redis $_", "$what: nor for any after it, $_") foreach 31 .. 35, 1 .. 5;

$what = 'a cancellation that is caught';
$node->safe_psql('postgres', q{
	CREATE FUNCTION caught() RETURNS text LANGUAGE plpgsql AS $$
	BEGIN
		BEGIN
			PERFORM cachekit.fetch('t', 70);
			RETURN 'not cancelled';
		EXCEPTION WHEN query_canceled THEN
			PERFORM set_config('application_name', 'caught', false);
		END;
		RETURN cachekit.fetch('t', 71)->>'v';
	END$$});
$redis->signal('STOP');
send_query($session, 'SELECT caught()');
wait_until_asking($pid);
$node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)");
wait_for_pids($node, q{application_name = 'caught' AND wait_event_type = 'Extension'}, $pid);
$redis->signal('CONT');
is(result($session), 'redis 71', "$what: no late answer for a later request of the same statement");

$what = 'a cancellation of fetch_many';
$redis->signal('STOP');
($out, $err) = result($session, qq{SET statement_timeout = '100ms';
	SELECT count(*) FROM cachekit.fetch_many('t', ARRAY(SELECT generate_series(1, $rows)));});
like($err, qr/ERROR:  57014: canceling statement due to statement timeout/, "$what: cancels");
$session->query_safe('SET statement_timeout = 0');
$redis->signal('CONT');
is(result($session, qq{
		SELECT count(*), bool_and(value->>'v' IN ('redis ' || key, 'table ' || key))
		  FROM cachekit.fetch_many('t', ARRAY(SELECT generate_series(1, $rows)))}), "$rows|t",
	"$what: then each key has its own document");

$what = 'pg_terminate_backend';
$redis->signal('STOP');
{
	my @sessions = map { session($node, 'postgres', $long) } 1 .. 5;
	my @pids = map { pid_of($_) } @sessions;
	my @heirs;

	send_query($sessions[$_], fetch(40 + $_)) foreach 0 .. 4;
	wait_until_asking(@pids);
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($_)") foreach @pids;
	wait_until_gone($node, $_) foreach @pids;
	pass("$what: ends them");
	lost($_) foreach @sessions;
	# these have the places of those in shared memory
	@heirs = map { session($node, 'postgres', $long) } 1 .. 5;
	@pids = map { pid_of($_) } @heirs;
	send_query($heirs[$_], fetch(50 + $_)) foreach 0 .. 4;
	wait_until_asking(@pids);
	$redis->signal('CONT');
	is(result($heirs[$_]), 'redis ' . (50 + $_), "$what: no late answer for another session, $_") foreach 0 .. 4;
	is(result($heirs[$_], fetch(60 + $_)), 'redis ' . (60 + $_),
		"$what: nor after it, $_") foreach 0 .. 4;
	$_->quit foreach @heirs;
}
right_again($what);

# --- fetch_timeout ---

$what = 'fetch_timeout';
warm($what);
$redis->signal('STOP');
$session->query_safe(q{SET cachekit.fetch_timeout = '50ms'});
is(result($session, fetch(1)), 'table 1.', "$what: then the table answers");
$session->query_safe(q{SET cachekit.fetch_timeout = '200ms'});
{
	my $start = time;

	is(result($session, qq{
			SELECT count(*), bool_and(m.key = t.id::text AND m.value = to_jsonb(t))
			  FROM cachekit.fetch_many('t', ARRAY(SELECT generate_series(1, $rows))) AS m
			  JOIN t ON t.id::text = m.key}), "$rows|t", "$what: fetch_many answers from the table");
	cmp_ok(time - $start, '<', 20, "$what: it is for the call, not for each key");
	note(sprintf('fetch_many took %.3f s', time - $start));
}
is(result($session, q{
		UPDATE t SET v = 'frozen' WHERE id <= 50; SELECT count(*) FROM t WHERE v = 'frozen'}), 50,
	"$what: commits go on");
is(result($session, fetch(1)), 'frozen', "$what: and are seen");
is($node->safe_psql('postgres', q{SELECT cachekit.wait_for_delivery('1ms')}), 'f', "$what: but not delivered");
$redis->signal('CONT');
right_again($what);
$session->quit;

# --- a shutdown ---

$what = 'a shutdown while Redis is frozen';
warm($what);
$session = session($node, 'postgres', $long);
$pid = pid_of($session);
$redis->signal('STOP');
send_query($session, fetch(100));
wait_until_asking($pid);
$node->safe_psql('postgres', q{UPDATE t SET v = v || ','});
is($node->safe_psql('postgres', q{SELECT cachekit.wait_for_delivery('1ms')}), 'f', "$what: there are changes to deliver");
{
	# less than the command_timeout, much more than the shutdown_timeout
	local $ENV{PGCTLTIMEOUT} = 20;

	is($node->stop('fast', fail_ok => 1), 1, "$what: it ends");
}
lost($session);
$node->start;
is(output_of($node, q{SELECT count(*) FROM t WHERE cachekit.fetch('t', id) IS DISTINCT FROM to_jsonb(t)}), 0,
	"$what: started again, every fetch is the table's");
is($node->safe_psql('postgres', q{SELECT cachekit.wait_for_delivery('1ms')}), 'f', "$what: started again, nothing is delivered");
$redis->signal('CONT');
ok(delivered($node, 'hot'), "$what: then it is");
is(join(' ', grep { $_ =~ /redis/ } $redis->values_of($redis->keys_like('postgres:t:*'))), '',
	"$what: what was changed has gone");
right_again($what);

# --- what is no document ---

# A script that makes it, in Redis.
my %contents = (
	'an empty string' => q!''!,
	'no JSON' => q!'no JSON'!,
	'the beginning of a document' => q!'{"id": 1, "v": "ta'!,
	'a document with bytes behind it' => q!'{"id": 1} x'!,
	'invalid UTF-8' => q!'{"id": 1, "v": "\228"}'!,
	'a surrogate in UTF-8' => q!'{"id": 1, "v": "\237\160\128"}'!,
	'UTF-8 beyond Unicode' => q!'{"id": 1, "v": "\244\144\128\128"}'!,
	'an overlong form' => q!'{"id": 1, "v": "\192\128"}'!,
	'UTF-8 that ends early' => q!'{"id": 1, "v": "x"}\226\130'!,
	'a NUL within' => q!'{"id": 1, "v": "a\0b"}'!,
	'a NUL behind it' => q!'{"id": 1, "v": "a"}\0'!,
	'a NUL and no more' => q!'\0'!,
	'100,000 open arrays' => q!string.rep('[', 100000)!,
	'100,000 nested arrays' => q!string.rep('[', 100000) .. string.rep(']', 100000)!,
	'100,000 nested objects' => q!string.rep('{"a":', 100000) .. '1' .. string.rep('}', 100000)!,
	'a number that is too large' => q!'{"id": 1e400000}'!,
	'a NUL as an escape' => q!'"\\\\u0000"'!,
	'half a surrogate as an escape' => q!'{"v": "\\\\ud800"}'!,
	'20 MB without a quote' => q!'"' .. string.rep('x', 20000000)!,
	'a string of 20 MB' => q!'"' .. string.rep('x', 20000000) .. '"'!,
	'1 MB of white space' => q!string.rep(' ', 1000000)!);

# Fetch a row: is it the table's, without a word; how many fetches Redis has answered then, and how
# many it has not.
sub fetched
{
	my ($db, $id) = @_;

	return split(/[|\n]/, output_of($node, qq{
		SET $long;
		SELECT cachekit.fetch('t', $id) = to_jsonb(t) FROM t WHERE id = $id;
		SELECT server_hits, misses + errors FROM cachekit.stat_entities WHERE name = 't'}, $db));
}

# Put it below a live key: the fetch of it is the table's, without a word, and Redis gets that again.
sub is_no_document
{
	my ($db, $name, $script) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $what = "$db: $name";
	my ($good, @before, @after);

	$redis->cli('EXISTS', "$db:t:1") eq '1' or filled($node, $redis, 't', 1, $db)
	  or die "$what: it was not filled";
	$good = $redis->cli('GET', "$db:t:1");
	@before = fetched($db, 1);
	$redis->cli('EVAL', "redis.call('SET', KEYS[1], $script) return 1", 1, "$db:t:1");
	@after = fetched($db, 1);
	is("$before[0] $after[0]", 't t', "$what: the fetch is the table's, before and after");
	is($after[1], $before[1], "$what: it is no hit");
	cmp_ok($after[2], '>', $before[2], "$what: it is counted");
	ok($redis->poll($good, 'GET', "$db:t:1"), "$what: the document is put in its place");
	@after = fetched($db, 1);
	is($after[1], $before[1] + 1, "$what: that is a hit");
	return;
}

# A database of this encoding, with an entity "t" whose rows have these texts, as bytes.
sub database
{
	my ($db, $encoding, @texts) = @_;

	$node->safe_psql('postgres', qq{CREATE DATABASE $db TEMPLATE template0 ENCODING '$encoding' LOCALE 'C'});
	$node->safe_psql($db, sprintf(q{
			CREATE EXTENSION cachekit;
			CREATE TABLE t (id int PRIMARY KEY, v text);
			INSERT INTO t SELECT n, convert_from(decode(x, 'hex'), getdatabaseencoding())
			  FROM unnest('{%s}'::text[]) WITH ORDINALITY AS a (x, n);
			CREATE SERVER hot FOREIGN DATA WRAPPER cachekit OPTIONS (%s, command_timeout '60s', breaker_reset '50ms');
			SELECT cachekit.attach('t', servers => '{hot}', local => false, ttl => 'infinity')},
			join(',', map { unpack('H*', $_) } @texts), $redis->server_options));
	delivered($node, 'hot', $db) or die "$db: the server is not ready";
	return;
}

# The row's document is in Redis, as UTF-8, and comes back from there.
sub round_trip
{
	my ($db, $id, $bytes) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my (@before, @after);

	ok(filled($node, $redis, 't', $id, $db), "$db: row $id is filled");
	like($redis->cli('GET', "$db:t:$id"), qr/"v": "\Q$bytes\E"/, "$db: row $id is UTF-8 in Redis");
	@before = fetched($db, $id);
	@after = fetched($db, $id);
	is("$before[0] $after[0]", 't t', "$db: row $id comes back");
	is($after[1], $before[1] + 1, "$db: row $id comes from Redis");
	return;
}

warm('what is no document');
right_again('what is no document');
is_no_document('postgres', $_, $contents{$_}) foreach sort keys %contents;
right_again('after what is no document');

database('latin1', 'LATIN1', 'plain', "\xe4\xf6\xfc", "\xa9 \xff");
round_trip('latin1', 1, 'plain');
round_trip('latin1', 2, "\xc3\xa4\xc3\xb6\xc3\xbc");
round_trip('latin1', 3, "\xc2\xa9 \xc3\xbf");
is_no_document('latin1', $_, $contents{$_}) foreach sort keys %contents;
is_no_document('latin1', 'a letter that it has not', q!'{"id": 1, "v": "\226\130\172"}'!);
is_no_document('latin1', 'an escape of one', q!'{"id": 1, "v": "\\\\u20ac"}'!);

# any bytes: only what happens to be UTF-8 is stored
database('sql_ascii', 'SQL_ASCII', 'plain', "\xc3\xa4", "\xe4", "\xff\xfe");
round_trip('sql_ascii', 1, 'plain');
round_trip('sql_ascii', 2, "\xc3\xa4");
is_no_document('sql_ascii', $_, $contents{$_}) foreach sort keys %contents;
foreach my $id (3, 4)
{
	my $refused = counter($node, 't', 'fills_refused', 'sql_ascii');

	is(output_of($node, qq{
			SET $long; SELECT cachekit.fetch('t', $id) = to_jsonb(t) FROM t, generate_series(1, 3) WHERE id = $id}, 'sql_ascii'),
		"t\nt\nt", "sql_ascii: row $id is the table's");
	cmp_ok(counter($node, 't', 'fills_refused', 'sql_ascii'), '>', $refused, "sql_ascii: row $id is not stored");
	is($redis->cli('EXISTS', "sql_ascii:t:$id"), 0, "sql_ascii: row $id is not in Redis");
}

$node->stop;
is(log_lines($node, qr/PANIC:|TRAP:|terminated by signal/), '', 'nobody crashed');
done_testing();
