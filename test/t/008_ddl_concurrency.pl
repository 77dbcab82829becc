# DDL beside other sessions: a partition that is detached half-way, a table that is dropped under
# its readers, many sessions that attach one table, partitions that come and go under writers. No
# session gets a wrong document, an error that it would not get without cachekit, or a deadlock.

use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use CacheKit;

my $node = new_node('main');
$node->append_conf('postgresql.conf', 'deadlock_timeout = 100ms');
$node->append_conf('postgresql.conf', 'max_connections = 60');
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION cachekit');

my $triggers = q{
	SELECT t.tgrelid::regclass, p.proname, t.tgenabled
	  FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = t.tgfoid
	 WHERE p.pronamespace = 'cachekit'::regnamespace AND t.tgrelid::regclass::text LIKE '%s'
	 ORDER BY t.tgrelid::regclass::text COLLATE "C", p.proname};

# --- DETACH PARTITION CONCURRENTLY ---

$node->safe_psql(
	'postgres', q{
	CREATE TABLE p (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
	CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (100);
	CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (100) TO (200);
	INSERT INTO p VALUES (1, 'one'), (101, 'two');
	SELECT cachekit.attach('p', negative_ttl => '1 hour');
	});
my $both = q{SELECT cachekit.fetch('p', 1)->>'v', cachekit.fetch('p', 101)->>'v'};
my $reader = session($node);
my $repeatable = session($node);
my $blocker = session($node);
my $ddl = session($node);
my $ddl_pid = pid_of($ddl);

is($reader->query_safe("$both; $both"), "one|two\none|two", 'both partitions are cached');
$blocker->query_safe("BEGIN; SELECT v FROM p WHERE id = 1");
is($repeatable->query_safe("BEGIN ISOLATION LEVEL REPEATABLE READ; $both"), 'one|two',
	'a transaction with a snapshot from before');
send_query($ddl, 'ALTER TABLE p DETACH PARTITION p2 CONCURRENTLY');
$node->poll_query_until('postgres', q{SELECT inhdetachpending FROM pg_inherits WHERE inhrelid = 'p2'::regclass})
  or die 'it is not being detached';
wait_for_pids($node, "wait_event_type = 'Lock'", $ddl_pid);
is($reader->query_safe($both), 'one|', 'detached half-way: its rows are gone at once');
is($reader->query_safe($both), 'one|', 'detached half-way: and stay so');
is($repeatable->query_safe($both), $repeatable->query_safe(q{
	SELECT (SELECT v FROM p WHERE id = 1), (SELECT v FROM p WHERE id = 101)}),
	'detached half-way: as the older snapshot has it');

$node->safe_psql('postgres', "SELECT pg_cancel_backend($ddl_pid)");
my ($out, $err) = result($ddl);
like($err, qr/canceling statement due to user request/, 'it is cancelled half-way');
is($reader->query_safe("SELECT inhdetachpending FROM pg_inherits WHERE inhrelid = 'p2'::regclass; $both"),
	"t\none|", 'cancelled half-way: nothing comes back');
is(output_of($node, qq{
	$both;
	UPDATE p SET v = 'uno' WHERE id = 1;
	$both;
	UPDATE p2 SET v = 'due';
	INSERT INTO p2 VALUES (102, 'x');
	$both}), "one|\nuno|\nuno|", 'cancelled half-way: changes, in the pending partition too');
is($reader->query_safe($both), 'uno|', 'cancelled half-way: others see them');
$_->query_safe('COMMIT') foreach ($blocker, $repeatable);

is(output_of($node, 'ALTER TABLE p DETACH PARTITION p2 FINALIZE'), '', 'FINALIZE');
is($node->safe_psql('postgres', sprintf($triggers, 'p_')), "p1|on_row_change|A\np1|on_truncate|A",
	'the detached table has none of the triggers');
is($reader->query_safe($both), 'uno|', 'after FINALIZE');
is(output_of($node, qq{
	UPDATE p2 SET v = 'free';
	TRUNCATE p2;
	INSERT INTO p2 VALUES (101, 'back');
	ALTER TABLE p ATTACH PARTITION p2 FOR VALUES FROM (100) TO (200);
	$both}), 'uno|back', 'attached again');
is($reader->query_safe($both), 'uno|back', 'others see that');
is(output_of($node, "TRUNCATE p2; $both"), 'uno|', 'a TRUNCATE of it, too');
is($reader->query_safe("$both; $both"), "uno|\nuno|", 'in all sessions');
is(output_of($node, 'SELECT * FROM cachekit.health()'), '', 'health() has nothing to say');

# To its end, and with a crash of the session in the middle.
$node->safe_psql('postgres', "INSERT INTO p VALUES (101, 'two')");
is($reader->query_safe("$both; $both"), "uno|two\nuno|two", 'cached again');
$node->safe_psql('postgres', 'ALTER TABLE p DETACH PARTITION p2 CONCURRENTLY');
is($reader->query_safe($both), 'uno|', 'DETACH PARTITION CONCURRENTLY');
is($node->safe_psql('postgres', sprintf($triggers, 'p_')), "p1|on_row_change|A\np1|on_truncate|A",
	'its triggers are gone');
$node->safe_psql('postgres', 'ALTER TABLE p ATTACH PARTITION p2 FOR VALUES FROM (100) TO (200)');
is($reader->query_safe("$both; $both"), "uno|two\nuno|two", 'attached again, and cached');
$blocker->query_safe("BEGIN; SELECT v FROM p WHERE id = 1");
send_query($ddl, 'ALTER TABLE p DETACH PARTITION p2 CONCURRENTLY');
$node->poll_query_until('postgres', q{SELECT inhdetachpending FROM pg_inherits WHERE inhrelid = 'p2'::regclass})
  or die 'it is not being detached';
$node->safe_psql('postgres', "SELECT pg_terminate_backend($ddl_pid)");
wait_until_gone($node, $ddl_pid);
lost($ddl);
is($reader->query_safe($both), 'uno|', 'terminated half-way: its rows are gone');
is(inspect($node, 'p', 101), 't|f', 'terminated half-way: nothing is fenced');
$blocker->query_safe('COMMIT');
$_->quit foreach ($reader, $repeatable, $blocker);

# --- locks: nobody needs more of them because of cachekit ---

$node->safe_psql(
	'postgres', q{
	CREATE TABLE tree (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
	CREATE TABLE tree1 PARTITION OF tree FOR VALUES FROM (0) TO (100);
	CREATE TABLE tree2 PARTITION OF tree FOR VALUES FROM (100) TO (200);
	INSERT INTO tree VALUES (1, 'one'), (101, 'two');
	SELECT cachekit.attach('tree');
	});

# Two sessions, each with a leaf of its own that it has locked, and a statement for it. None knows
# the entity yet, so that they learn about it in the midst of that.
foreach my $statement (
	q{UPDATE %s SET v = 'changed'},
	'ALTER TABLE %s ALTER v SET STATISTICS 50',
	'TRUNCATE %s')
{
	my @sessions = (session($node), session($node));
	my @leaves = ('tree1', 'tree2');
	my $what = sprintf($statement, 'leaf');

	$sessions[$_]->query_safe("BEGIN; LOCK TABLE $leaves[$_]") foreach (0, 1);
	send_query($sessions[0], sprintf($statement, $leaves[0]));
	send_query($sessions[1], sprintf($statement, $leaves[1]));
	foreach my $i (0, 1)
	{
		# COMMIT is sent at once: a session that waits for the other one only is answered then
		($out, $err) = result($sessions[$i], 'COMMIT');
		is($err, '', "$what, with both leaves locked: session $i");
	}
	$_->quit foreach @sessions;
}

# A leaf that somebody holds does not stop a writer of another one.
{
	my $owner = session($node);
	my $writer = session($node, 'postgres', q{lock_timeout = '10s'});

	$owner->query_safe('BEGIN; LOCK TABLE tree1');
	foreach my $statement (
		q{INSERT INTO tree VALUES (150, 'new')},
		q{UPDATE tree SET v = 'newer' WHERE id = 150},
		'DELETE FROM tree2 WHERE id = 150')
	{
		($out, $err) = result($writer, $statement);
		is($err, '', "a locked leaf: $statement");
	}
	$_->quit foreach ($owner, $writer);
}

# --- a table that is dropped under its readers ---

# A table of this name always has one row, which says what its OID is. What a reader may get: that
# row, or that there is no such table or entity.
$node->safe_psql(
	'postgres', q{
	CREATE FUNCTION read_victim() RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		victim regclass := to_regclass('victim');
		document jsonb;
	BEGIN
		IF victim IS NULL THEN
			RETURN;
		END IF;
		document := cachekit.fetch(victim, 1);
		IF document->>'self' IS DISTINCT FROM victim::oid::text THEN
			RAISE EXCEPTION 'wrong document of %: %', victim::oid, document;
		END IF;
	EXCEPTION WHEN undefined_table OR object_not_in_prerequisite_state THEN
		RETURN;
	END $$;

	CREATE PROCEDURE replace_victim() LANGUAGE plpgsql AS $$
	BEGIN
		DROP TABLE IF EXISTS victim;
		COMMIT;
		CREATE TABLE victim (id int PRIMARY KEY, self oid);
		INSERT INTO victim VALUES (1, 'victim'::regclass);
		PERFORM cachekit.attach('victim');
		COMMIT;
		ALTER TABLE victim ADD COLUMN more int;
	END $$;
	});
$node->pgbench(
	'-n -c 6 -j 2 -t 300',
	0,
	[qr{actually processed: 1800/1800}, qr{number of failed transactions: 0 }],
	# who looks at a table that is just going may see it without its triggers
	[qr{^(?:WARNING:  entity "victim" is not cached: the row trigger .*\nHINT: .*\n)*$}],
	'a table is dropped and made again under its readers',
	{
		'008_read@19' => "SELECT read_victim();\n" x 5,
		'008_replace@1' => q{
			SELECT pg_try_advisory_lock(1) AS mine \gset
			\if :mine
			SET client_min_messages = error;
			CALL replace_victim();
			SELECT pg_advisory_unlock(1);
			\endif
		}
	});
cmp_ok($node->safe_psql('postgres', 'SELECT cachekit.slots_in_use()'), '<=', 3,
	'dropped tables leave no slots behind');

# --- many sessions attach one table ---

$node->safe_psql('postgres', q{
	CREATE TABLE wanted (id int PRIMARY KEY, v int);
	INSERT INTO wanted SELECT g, 0 FROM generate_series(1, 100) AS g});
$node->pgbench(
	'-n -c 20 -j 2 -t 5',
	0,
	[qr{actually processed: 100/100}, qr{number of failed transactions: 0 }],
	[qr{^$}],
	'many sessions attach one table under writers',
	{
		'008_attach' => q{
			\set id random(1, 100)
			\set ttl random(1, 100)
			SELECT cachekit.attach('wanted', ttl => (:ttl || ' min')::interval);
			SELECT cachekit.fetch('wanted', :id);
			UPDATE wanted SET v = v + 1 WHERE id = :id;
			SELECT 1 / ((cachekit.fetch('wanted', :id)->>'v')::int > 0)::int;
		}
	});
is($node->safe_psql('postgres', sprintf($triggers, 'wanted')), "wanted|on_row_change|A\nwanted|on_truncate|A",
	'it has its triggers once');
is($node->safe_psql('postgres', q{
	SELECT count(*) FROM wanted AS t WHERE cachekit.fetch('wanted', t.id) IS DISTINCT FROM to_jsonb(t)}), 0,
	'and its documents are right');

# --- partitions come and go under writers ---

$node->safe_psql(
	'postgres', q{
	CREATE TABLE log (part int, id int, v int, PRIMARY KEY (part, id)) PARTITION BY LIST (part);
	CREATE TABLE log_0 PARTITION OF log FOR VALUES IN (0);
	INSERT INTO log SELECT 0, g, 0 FROM generate_series(1, 100) AS g;
	SELECT cachekit.attach('log');

	CREATE PROCEDURE turn_over() LANGUAGE plpgsql AS $$
	BEGIN
		CREATE TABLE IF NOT EXISTS log_1 PARTITION OF log FOR VALUES IN (1);
		COMMIT;
		INSERT INTO log SELECT 1, g, 0 FROM generate_series(1, 10) AS g;
		COMMIT;
		TRUNCATE log_1;
		INSERT INTO log SELECT 1, g, 1 FROM generate_series(1, 10) AS g;
		COMMIT;
		ALTER TABLE log DETACH PARTITION log_1;
		COMMIT;
		ALTER TABLE log ATTACH PARTITION log_1 FOR VALUES IN (1);
		COMMIT;
		DROP TABLE log_1;
	END $$;
	});
$node->pgbench(
	'-n -c 8 -j 2 -t 250',
	0,
	[qr{actually processed: 2000/2000}, qr{number of failed transactions: 0 }],
	[qr{^$}],
	'partitions come and go under writers',
	{
		'008_write@28' => q{
			\set id random(1, 100)
			UPDATE log SET v = v + 1 WHERE part = 0 AND id = :id;
			SELECT v AS before FROM log WHERE part = 0 AND id = :id \gset
			SELECT (cachekit.fetch('log', (0, :id))->>'v')::int AS fetched \gset
			SELECT v AS after FROM log WHERE part = 0 AND id = :id \gset
			SELECT 1 / (:before <= :fetched AND :fetched <= :after)::int;
			SELECT cachekit.fetch('log', (1, 5));
		},
		'008_turn_over@1' => q{
			SELECT pg_try_advisory_lock(2) AS mine \gset
			\if :mine
			SET client_min_messages = error;
			CALL turn_over();
			SELECT pg_advisory_unlock(2);
			\endif
		}
	});
is($node->safe_psql('postgres', q{
	SELECT count(*) FROM log AS t WHERE cachekit.fetch('log', (t.part, t.id)) IS DISTINCT FROM to_jsonb(t)}), 0,
	'the documents are right');
is($node->safe_psql('postgres', q{SELECT cachekit.fetch('log', (1, 5))}), '', 'the last partition is gone');
is(output_of($node, 'SELECT * FROM cachekit.health()'), '', 'health() has nothing to say');
is(triggers_not_always($node), '', 'all triggers are ALWAYS');

$node->stop;
is(log_lines($node, qr/PANIC:|TRAP:/), '', 'no assertion failed');
is(log_lines($node, qr/deadlock detected/), '', 'there was no deadlock');
done_testing();
