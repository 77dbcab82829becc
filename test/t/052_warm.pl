# warm(): all documents of an entity into its caches, in batches; what it says on its way, and that
# it goes on where it was interrupted, by whatever.

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use CacheKit;
use CacheServer;
use RedisServer;

my $redis = RedisServer->new('main')->start;
my $node = new_node('main', allows_streaming => 1);
$node->append_conf('postgresql.conf', "default_transaction_isolation = 'read committed'");
$node->start;
$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION cachekit;
	CREATE TABLE t (id int PRIMARY KEY, v text);
	INSERT INTO t SELECT g, 'value ' || g FROM generate_series(1, 20000) AS g;
	CREATE TABLE line (n int, item text, at timestamptz, v int, PRIMARY KEY (n, item, at));
	INSERT INTO line SELECT g % 7, 'item, "' || g % 11, '2024-01-01 UTC'::timestamptz + g * interval '1 s', g
	  FROM generate_series(1, 500) AS g;
	CREATE TABLE loose (k text, v int);
	INSERT INTO loose SELECT nullif('key ' || g / 3, 'key 7'), g FROM generate_series(1, 60) AS g;
	CREATE TYPE level AS ENUM ('low', 'high', 'middle');
	CREATE TABLE levels (l level PRIMARY KEY, v int);
	INSERT INTO levels VALUES ('low', 1), ('high', 2), ('middle', 3);
	CREATE SERVER hot FOREIGN DATA WRAPPER cachekit OPTIONS (} . $redis->server_options . q{, command_timeout '60 s');
	SET client_min_messages = warning;
	SELECT cachekit.attach('t', servers => '{hot}');
	SELECT cachekit.attach('line');
	SELECT cachekit.attach('loose', key => '{k}', many => true);
	SELECT cachekit.attach('levels', columns => '{v}')});
ok(wait_until_ready($node, 'hot'), 'the server is ready');

# What a statement says, and how it ends.
sub said
{
	my ($sql, $settings) = @_;
	my ($status, $out, $err) = $node->psql('postgres', $sql);

	return $err;
}

sub progress
{
	my ($entity, $columns) = @_;

	return $node->safe_psql('postgres',
		"SELECT $columns FROM cachekit.warm_progress WHERE name = '$entity'");
}

sub in_redis
{
	my @keys = $redis->keys_like('postgres:t:*');

	return scalar @keys;
}

# --- all of it ---

my $err = said(q{CALL cachekit.warm('t')});
like($err, qr/NOTICE:  warmed 10000 of 20000 t, \d+\/s, \d+ s left/, 'it says how far it is');
like($err, qr/NOTICE:  warmed 20000 of 20000 t, \d+\/s, finished/, 'and that it has finished');
unlike($err, qr/WARNING|ERROR/, 'and nothing else');
is(progress('t', 'done, total, rate > 0, time_left, finished, updated_at >= started_at'),
	'20000|20000|t|00:00:00|t|t', 'warm_progress');
foreach my $attempt (1 .. 600)
{
	last if in_redis() == 20000;
	select(undef, undef, undef, 0.05);
}
is(in_redis(), 20000, 'all documents are in Redis');
all_right($node, $redis, 't', 'after warming');
is(counter($node, 't', 'loads'), 20000, 'each was loaded once, and no fetch had to');
is(counter($node, 't', 'fills'), 20000, 'all are in the local tier');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_xmin IS NOT NULL
	AND backend_type = 'client backend' AND pid <> pg_backend_pid()}), 0, 'no snapshot is left');

# --- keys of all sorts ---

foreach my $case (
	[ 'line', '500', q{SELECT count(*) FROM line WHERE cachekit.fetch('line', (n, item, at), 'fresh') = to_jsonb(line)} ],
	[ 'loose', '20', q{SELECT 3 * count(*) - 1 FROM (SELECT k, jsonb_agg(to_jsonb(loose)) AS d FROM loose GROUP BY k) AS g
		WHERE jsonb_array_length(cachekit.fetch('loose', k, 'fresh')) = jsonb_array_length(d)} ],
	[ 'levels', '3', q{SELECT count(*) FROM levels WHERE cachekit.fetch('levels', l, 'fresh') = jsonb_build_object('v', v)} ])
{
	my ($entity, $keys, $check) = @$case;

	foreach my $batch (1000, 7, 1)
	{
		$node->safe_psql('postgres', "SELECT cachekit.flush('$entity')");
		$err = said("CALL cachekit.warm('$entity', batch => $batch)");
		like($err, qr/warmed $keys of $keys $entity,.*finished/, "$entity: by $batch");
		is($node->safe_psql('postgres', $check), $entity eq 'loose' ? 3 * 20 - 1 : $keys, "$entity: they are cached");
	}
}

# --- a query ---

$node->safe_psql('postgres', q{SELECT cachekit.flush('line')});
like(said(q{CALL cachekit.warm('line', $$SELECT n, item, at FROM line WHERE n = 3 UNION ALL SELECT 3, 'none', now(); $$)}),
	qr/warmed (\d+) of \1 line/, 'the keys of a query');
is($node->safe_psql('postgres', q{SELECT bool_and((cachekit.fetch('line', (n, item, at), 'fresh') IS NOT NULL) = (n = 3)) FROM line}),
	't', 'these, and no others');
foreach my $bad (
	[ q{$$SELECT 1$$}, qr/must be one SELECT of 3 column/ ],
	[ q{$$SELECT 1, 2, 3, 4$$}, qr/must be one SELECT of 3 column/ ],
	[ q{$$DELETE FROM line RETURNING n, item, at$$}, qr/must be one SELECT of 3 column/ ],
	[ q{$$SELECT 1, 'a', now(); SELECT 1, 'b', now()$$}, qr/must be one SELECT of 3 column/ ],
	[ q{$$SELECT 'x', 'a', now()$$}, qr/invalid input syntax for type integer/ ],
	[ q{''}, qr/must be one SELECT of 3 column/ ],
	[ q{NULL, 0}, qr/"batch" must be between 1 and/ ])
{
	my ($query, $message) = @$bad;

	like(said("CALL cachekit.warm('line', $query)"), $message, "refused: $query");
}

# --- going on ---

# Somebody who fetches in the midst of it, and a call that is cancelled.
sub interrupt
{
	my ($what, $how) = @_;
	my $loads = counter($node, 't', 'loads');
	my $session = session($node);
	my $pid = pid_of($session);
	my ($started, $done);

	send_query($session, "CALL cachekit.warm('t', batch => 20)");
	$node->poll_query_until('postgres',
		q{SELECT done > 0 AND NOT finished FROM cachekit.warm_progress WHERE name = 't'})
	  or die 'it did not begin';
	$how->($pid);
	$how eq \&crash ? lost($session) : eval { result($session); $session->quit };
	($started, $done) = split(/\|/, progress('t', 'started_at, done'));
	is(progress('t', 'finished'), 'f', "$what: it is not finished");
	cmp_ok($done, '<', 20000, "$what: nor is all done");
	like(said(q{CALL cachekit.warm('t')}), qr/warmed 20000 of 20000 t,.*finished/, "$what: it goes on");
	is(progress('t', 'started_at, done, total, finished'), "$started|20000|20000|t", "$what: it is one run");
	cmp_ok(counter($node, 't', 'loads'), '<=', 20000 + 2 * 20 + ($how eq \&crash ? 0 : $loads),
		"$what: what was done was not done again");
	return;
}

sub cancel { return $node->safe_psql('postgres', "SELECT pg_cancel_backend($_[0])"); }

sub terminate
{
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($_[0])");
	return wait_until_gone($node, $_[0]);
}

interrupt('cancelled', \&cancel);
interrupt('terminated', \&terminate);

sub crash
{
	$node->stop('immediate');
	$node->start;
	return wait_until_ready($node, 'hot');
}

interrupt('a crash', \&crash);

# The same query goes on, another one and "restart" begin anew, and so does one that is finished.
sub start_and_cancel
{
	my ($arguments) = @_;
	my $before = progress('t', 'updated_at');
	my $session = session($node);
	my $pid = pid_of($session);
	my $err;

	send_query($session, "CALL cachekit.warm('t'$arguments, batch => 1)");
	$node->poll_query_until('postgres', qq{
		SELECT done > 0 AND NOT finished AND updated_at > '$before'
		  FROM cachekit.warm_progress WHERE name = 't'})
	  or die 'it did not begin';
	cancel($pid);
	(undef, $err) = result($session);
	$session->quit;
	return $err;
}
my $query = q{, $$SELECT id FROM t WHERE id > 10000$$};
like(start_and_cancel($query), qr/canceling statement/, 'a query is interrupted');
my $first = progress('t', 'started_at, total');
like($first, qr/\|10000$/, 'it was of so many');
like(start_and_cancel($query), qr/canceling statement/, 'again');
is(progress('t', 'started_at, total'), $first, 'that was the same run');
like(start_and_cancel("$query, restart => true"), qr/canceling statement/, 'from the beginning');
isnt(progress('t', 'started_at, total'), $first, 'that is another one');
like(said(q{CALL cachekit.warm('t')}), qr/warmed 20000 of 20000 t,.*finished/, 'another query');
$first = progress('t', 'started_at');
like(said(q{CALL cachekit.warm('t', $$SELECT 5$$)}), qr/warmed 1 of 1 t,.*finished/, 'one that is finished');
isnt(progress('t', 'started_at'), $first, 'begins anew');

# Changes in the midst of it are not overtaken.
{
	my $session = session($node);

	send_query($session, q{CALL cachekit.warm('t', batch => 50)});
	foreach my $round (1 .. 20)
	{
		$node->safe_psql('postgres', "UPDATE t SET v = v || '!' WHERE id % 20 = $round - 1");
	}
	result($session);
	$session->quit;
	ok(delivered($node, 'hot'), 'changes while it runs: delivered');
	all_right($node, $redis, 't', 'changes while it runs');
}

# --- a server that takes nothing ---

{
	my $sender = $node->safe_psql('postgres', 'SELECT pid FROM cachekit.server_states()');

	kill('STOP', $sender);
	$err = said(q{CALL cachekit.warm('t', restart => true)});
	kill('CONT', $sender);
	like($err, qr/WARNING:  \d+ documents of "t" were not taken by a cache server/, 'a sender that stands still');
	like($err, qr/warmed 20000 of 20000/, 'does not keep it from finishing');
}

# --- who may, and what may be warmed ---

$node->safe_psql('postgres', q{
	CREATE ROLE reader; CREATE ROLE stranger;
	GRANT SELECT ON t TO reader});
like(said(q{SET ROLE reader; CALL cachekit.warm('t')}), qr/warmed 20000 of 20000/, 'who may SELECT may warm');
like(said(q{SET ROLE stranger; CALL cachekit.warm('t')}), qr/permission denied for table t/, 'others may not');
like(said(q{SET ROLE reader; UPDATE cachekit.warm_state SET done = 0}), qr/permission denied/,
	'nobody writes the progress');
like(said(q{BEGIN; CALL cachekit.warm('t')}), qr/cannot run inside a transaction block.*HINT:  It commits/s,
	'in a transaction block');
like(said(q{CALL cachekit.warm('pg_class')}), qr/is not attached/, 'what is not attached');
like(said(q{CALL cachekit.warm(NULL)}), qr/must not be NULL/, 'NULL');
like(said(q{SET cachekit.enabled = off; CALL cachekit.warm('t')}), qr/cachekit.enabled is off/, 'disabled');
like(said(q{SET default_transaction_isolation = serializable; CALL cachekit.warm('t')}),
	qr/REPEATABLE READ and SERIALIZABLE/, 'isolation');
like(said(q{SELECT cachekit.attach('levels', local => false); CALL cachekit.warm('levels')}),
	qr/it uses no cache/, 'no cache');
like(said(q{ALTER TABLE line DISABLE TRIGGER ALL; CALL cachekit.warm('line')}),
	qr/cannot warm "line": it is not cached, because/, 'unsound');
$node->safe_psql('postgres', q{ALTER TABLE line ENABLE TRIGGER ALL; CALL cachekit.warm('line')});

# A search path with everything that a query could mean.
$node->safe_psql('postgres', q{
	CREATE SCHEMA evil;
	CREATE FUNCTION evil.trap() RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
	CREATE FUNCTION evil.trap(a int, b int) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
	CREATE FUNCTION evil.trap(a text, b text) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
	CREATE FUNCTION evil.trap(a timestamptz, b timestamptz) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
	CREATE OPERATOR evil.= (FUNCTION = evil.trap, LEFTARG = int, RIGHTARG = int);
	CREATE OPERATOR evil.> (FUNCTION = evil.trap, LEFTARG = int, RIGHTARG = int);
	CREATE OPERATOR evil.= (FUNCTION = evil.trap, LEFTARG = text, RIGHTARG = text);
	CREATE OPERATOR evil.> (FUNCTION = evil.trap, LEFTARG = text, RIGHTARG = text);
	CREATE OPERATOR evil.> (FUNCTION = evil.trap, LEFTARG = timestamptz, RIGHTARG = timestamptz);
	CREATE FUNCTION evil.count() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
	CREATE FUNCTION evil.unnest(int[]) RETURNS SETOF int LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$});
foreach my $entity ('line', 't')
{
	$err = said(qq{SET search_path = evil, pg_catalog, public; CALL cachekit.warm('public.$entity', restart => true)});
	like($err, qr/warmed (\d+) of \1 $entity,.*finished/, "$entity: a hostile search path");
	unlike($err, qr/trapped/, "$entity: does no harm");
}

# --- what is left of it ---

$node->safe_psql('postgres', q{SELECT cachekit.detach('line')});
is(progress('line', 'done'), '', 'what is detached has no progress');
unlike($node->safe_psql('postgres', q{SELECT extconfig::regclass[]::text FROM pg_extension WHERE extname = 'cachekit'}),
	qr/warm_state/, 'pg_dump does not dump the progress');
$node->stop;
is(log_lines($node, qr/PANIC:|TRAP:/), '', 'no assertion failed');
done_testing();
