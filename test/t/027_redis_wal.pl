# What is in the WAL, and when a sender acts on it: transaction IDs beyond 2^31, commits that are not
# visible yet, records that end with their page, segments that end early, subtransactions.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use CacheKit;
use CacheLives;
use CacheServer;

begin_lives();

my %scenario;

# --- transaction IDs beyond 2^31 (row 20) ---

# Go on from this transaction ID: freeze all that is, then tell the control file.
sub jump_to_xid
{
	my ($node, $xid) = @_;
	my $segment = sprintf('%s/pg_xact/%04X', $node->data_dir, int($xid / (32 * 8192 * 4)));

	foreach my $db ('template0', 'template1', 'postgres')
	{
		$node->safe_psql('postgres', 'UPDATE pg_database SET datallowconn = true');
		$node->safe_psql($db, 'VACUUM FREEZE');
	}
	$node->stop;
	open(my $file, '>', $segment) or die "could not make $segment: $!";
	binmode $file;
	print $file "\0" x (32 * 8192);
	close $file;
	command_ok([ 'pg_resetwal', '-x', $xid, '-u', $xid - 1_000_000_000, '-D', $node->data_dir ],
		"pg_resetwal -x $xid");
	$node->start;
	return;
}

# A change of row 1 whose commit is in the WAL, and waits.
sub begin_invisible
{
	my ($node) = @_;
	my $writer = session($node);

	hold_commits($node);
	send_query($writer, 'UPDATE t SET v = v + 100 WHERE id = 1');
	$node->poll_query_until('postgres',
		q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'})
	  or die 'nobody waits for a standby';
	return $writer;
}

# Guards that matter beyond 2^31 only, each switched off to see that it does; true when it has done
# its work.
my %guarded = (

	# what is in progress is taken for visible when all before a low horizon is
	'horizon' => sub {
		my ($node) = @_;
		my $writer = begin_invisible($node);
		my $held;

		$node->safe_psql('postgres', q{
			SET synchronous_commit = local; UPDATE t SET v = v + 100 WHERE id = 2});
		$redis->poll(0, 'EXISTS', 'postgres:t:2') or die 'who is behind is not delivered';
		wait_for_server($node, 'hot', 'sent = acknowledged') or die 'a deletion has no answer';
		$held = $redis->cli('EXISTS', 'postgres:t:1') eq '1';
		release_commits($node);
		result($writer);
		$writer->quit;
		return $held;
	});

$scenario{xid} = sub {
	my $what = 'beyond transaction ID 2^31';
	my $node = first_life('xid');
	my ($writer, $count);

	warm($node, $what);
	jump_to_xid($node, 1_500_000_000);
	jump_to_xid($node, 2_500_000_000);
	no_wrong_fetch($node, $what);
	right_again($node, $what);
	change_all($node);
	warm($node, $what);
	is($node->safe_psql('postgres', 'SELECT txid_current() % 4294967296 > 2500000000'), 't',
		"$what: they are");

	# a commit that is in the WAL, and not visible as long as it waits for a standby
	$writer = begin_invisible($node);
	# those behind it in the WAL do not wait for it
	foreach my $id (2, 3)
	{
		$node->safe_psql('postgres', qq{
			BEGIN; SET LOCAL synchronous_commit = local;
			UPDATE t SET v = v + 100 WHERE id = $id; COMMIT});
		ok($redis->poll(0, 'EXISTS', "postgres:t:$id"), "$what: who is behind is delivered, $id");
		is($redis->cli('EXISTS', 'postgres:t:1'), 1, "$what: what is not visible is not, $id");
		no_wrong_fetch($node, "$what, in between, $id");
	}
	is($node->safe_psql('postgres', q{SELECT cachekit.fetch('t', 1)->>'v'}), '1',
		"$what: the old row is fetched");
	release_commits($node);
	result($writer);
	$writer->quit;
	ok($redis->poll(0, 'EXISTS', 'postgres:t:1'), "$what: then its document goes");
	is($node->safe_psql('postgres', q{SELECT cachekit.fetch('t', 1)->>'v'}), '101',
		"$what: then the new one is fetched");
	right_again($node, $what);

	foreach my $guard (guards_to_try(keys %guarded))
	{
		warm($node, "$guard on");
		ok($guarded{$guard}->($node), "$guard on: all is right");
		warm($node, "$guard off");
		disable($node, $guard);
		ok(!$guarded{$guard}->($node), "$guard off is caught");
		disable($node, '');
		right_again($node, "$guard on again");
	}
	$node->stop;
};

# --- where records end in the WAL (row 21) ---

# Run a statement with a %s, the size of some padding in it, so that the record that it writes last
# ends with its page. The insert pointer then is behind the header of the next one.
sub end_with_page
{
	my ($node, $sql) = @_;
	my $in_page = q{SELECT (pg_current_wal_insert_lsn() - '0/0') % 8192};
	my $cost = 400;

	foreach my $attempt (1 .. 30)
	{
		my $at = $node->safe_psql('postgres', $in_page);

		if ($at > 4000)
		{
			# to the beginning of the next one
			$node->safe_psql('postgres', sprintf
				q{SELECT pg_logical_emit_message(false, 'padding', repeat('x', %d))}, 8192 - $at);
			next;
		}
		$node->safe_psql('postgres', sprintf($sql, 8192 - $at - $cost));
		$at = $node->safe_psql('postgres', $in_page);
		return 1 if $at == 24;
		# what is beyond the end of the page begins with a header
		$cost += $at > 4000 ? $at - 8192 : $at - 24;
	}
	return 0;
}

# what becomes of a server when the WAL ends there, and whether document 1 was changed last
sub at_the_end
{
	my ($node, $what, $changed, $new_sender) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $reconnects = server_stat($node, 'hot', 'reconnects');
	my $flushes = server_stat($node, 'hot', 'flushes');

	is($node->safe_psql('postgres', q{SELECT cachekit.wait_for_delivery('60s')}), 't', "$what: delivered");
	is($redis->cli('EXISTS', 'postgres:t:1'), 0, "$what: the document has gone") if $changed;
	no_wrong_fetch($node, $what);
	# a new epoch begins there
	$redis->cli('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
	ok(wait_for_server($node, 'hot', "state = 'ready' AND reconnects > $reconnects"),
		"$what: ready again, though nobody writes");
	is($node->safe_psql('postgres', q{SELECT cachekit.wait_for_delivery('60s')}), 't',
		"$what: delivered, connected again");
	is(server_stat($node, 'hot', 'flushes'), $flushes, "$what: resumed");
	no_wrong_fetch($node, "$what, connected again");
	# a new sender begins there; the launcher takes its time with one that ends again and again
	if ($new_sender)
	{
		new_sender($node);
		ok(delivered($node, 'hot'), "$what: a new sender is ready");
	}
	all_right($node, $redis, 't', $what);
	return;
}

# With no other process that writes WAL: the background writer does every 15 seconds.
sub all_ends
{
	my ($node) = @_;
	my $padding = q{pg_logical_emit_message(false, 'padding', repeat('x', %d))};

	warm($node, 'a commit that ends with its page');
	ok(end_with_page($node, "BEGIN; UPDATE t SET v = v + 1 WHERE id = 1; SELECT $padding; COMMIT"),
		'a commit ends with its page');
	at_the_end($node, 'a commit that ends with its page', 1, 1);

	warm($node, 'a message that ends with its page');
	ok(end_with_page($node, "SELECT $padding"), 'a message ends with its page');
	at_the_end($node, 'a message that ends with its page', 0, 0);

	foreach my $sql ('SELECT pg_switch_wal()', 'CHECKPOINT')
	{
		warm($node, $sql);
		change_all($node);
		$node->safe_psql('postgres', $sql);
		at_the_end($node, "$sql after a change", 1, 0);
		warm($node, $sql);
		$node->safe_psql('postgres', $sql);
		at_the_end($node, "$sql, idle", 0, $sql =~ /switch/);
	}
	return;
}

$scenario{page} = sub {
	my $node = first_life('page');
	my $writer = $node->safe_psql('postgres',
		q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'background writer'});

	kill('STOP', $writer) == 1 or die 'could not stop the background writer';
	eval { all_ends($node) };
	kill('CONT', $writer);
	die $@ if $@;
	$node->stop;
};

# --- subtransactions (row 22) ---

$scenario{subxact} = sub {
	my $node = first_life('subxact');
	my @scripts = (
		[ 'released', q{SAVEPOINT a; UPDATE t SET v = v + 1 WHERE id = 1; RELEASE a}, 1 ],
		[ 'left open', q{SAVEPOINT a; UPDATE t SET v = v + 1 WHERE id = 1}, 1 ],
		[ 'rolled back', q{SAVEPOINT a; UPDATE t SET v = v + 1 WHERE id = 1; ROLLBACK TO a} ],
		[ 'rolled back, with one before and one after it', q{
			UPDATE t SET v = v + 1 WHERE id = 1; SAVEPOINT a; UPDATE t SET v = v + 1 WHERE id = 2;
			ROLLBACK TO a; UPDATE t SET v = v + 1 WHERE id = 3}, 1, 3 ],
		[ 'the same key outside and inside', q{
			UPDATE t SET v = v + 1 WHERE id = 1; SAVEPOINT a; UPDATE t SET v = v + 1 WHERE id = 1;
			ROLLBACK TO a}, 1 ],
		[ 'nested, all released', q{SAVEPOINT a; UPDATE t SET v = v + 1 WHERE id = 1;
			SAVEPOINT b; UPDATE t SET v = v + 1 WHERE id = 2; SAVEPOINT c;
			UPDATE t SET v = v + 1 WHERE id = 3; RELEASE c; RELEASE b; RELEASE a}, 1, 2, 3 ],
		[ 'nested, released within what is rolled back', q{SAVEPOINT a;
			UPDATE t SET v = v + 1 WHERE id = 1; SAVEPOINT b; UPDATE t SET v = v + 1 WHERE id = 2;
			RELEASE b; ROLLBACK TO a; UPDATE t SET v = v + 1 WHERE id = 4}, 4 ],
		[ 'nested, rolled back within what is released', q{SAVEPOINT a;
			UPDATE t SET v = v + 1 WHERE id = 1; SAVEPOINT b; UPDATE t SET v = v + 1 WHERE id = 2;
			ROLLBACK TO b; RELEASE a}, 1 ],
		[ 'an error that is handled', q{DO $$BEGIN UPDATE t SET v = v + 1 WHERE id = 1;
			BEGIN UPDATE t SET v = v + 1 WHERE id = 2; PERFORM 1 / 0;
			EXCEPTION WHEN division_by_zero THEN UPDATE t SET v = v + 1 WHERE id = 3; END; END$$},
			1, 3 ],
		[ 'a block with a handler that is not needed', q{DO $$BEGIN
			BEGIN UPDATE t SET v = v + 1 WHERE id = 2;
			EXCEPTION WHEN OTHERS THEN UPDATE t SET v = v + 1 WHERE id = 3; END; END$$}, 2 ],
		# more than a PGPROC has room for
		[ '100 of them', q{DO $$BEGIN FOR i IN 1 .. 100 LOOP
			BEGIN UPDATE t SET v = v + 1 WHERE id = i;
				IF i % 3 = 0 THEN RAISE EXCEPTION 'no'; END IF;
			EXCEPTION WHEN raise_exception THEN NULL; END; END LOOP; END$$},
			grep { $_ % 3 != 0 } 1 .. 100 ],
		# the record is written while a subtransaction is the current one
		[ 'a flush within one', q{SAVEPOINT a; SELECT cachekit.flush('t'); RELEASE a}, 1 .. $rows ],
		[ 'a flush that is rolled back', q{SAVEPOINT a; SELECT cachekit.flush('t'); ROLLBACK TO a} ],
		[ 'invalidate within one', q{SAVEPOINT a; SELECT cachekit.invalidate('t', 5)}, 5 ],
		[ 'all of it rolled back', q{SAVEPOINT a; UPDATE t SET v = v + 1 WHERE id = 1; RELEASE a;
			UPDATE t SET v = v + 1 WHERE id = 2; ROLLBACK AND CHAIN} ]);

	foreach my $script (@scripts)
	{
		my ($what, $sql, @changed) = @$script;
		my %changed = map { $_ => 1 } @changed;
		my @stay = grep { !$changed{$_} } 1 .. $rows;

		$what = "savepoint: $what";
		warm($node, $what);
		output_of($node, "BEGIN; SET LOCAL client_min_messages = error; $sql; COMMIT");
		ok(delivered($node, 'hot'), "$what: delivered");
		is(join(' ', sort { $a <=> $b } map { /(\d+)$/ } $redis->keys_like('postgres:t:*')),
			join(' ', @stay), "$what: what was changed goes, and nothing else");
		all_right($node, $redis, 't', $what);
	}

	# commits with subtransactions that are in the WAL and not visible
	my $what = 'savepoints of a commit that is not visible';
	warm($node, $what);
	hold_commits($node);
	my $writer = session($node);
	send_query($writer, q{BEGIN; SAVEPOINT a; UPDATE t SET v = v + 1 WHERE id IN (1, 2); RELEASE a;
		SAVEPOINT b; UPDATE t SET v = v + 1 WHERE id = 3; COMMIT});
	$node->poll_query_until('postgres',
		q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'})
	  or die 'nobody waits for a standby';
	$node->safe_psql('postgres', q{SET synchronous_commit = local;
		BEGIN; SAVEPOINT a; UPDATE t SET v = v + 1 WHERE id = 4; COMMIT});
	ok($redis->poll(0, 'EXISTS', 'postgres:t:4'), "$what: who is behind is delivered");
	is($redis->cli('EXISTS', map { "postgres:t:$_" } 1 .. 3), 3, "$what: they stay");
	release_commits($node);
	result($writer);
	$writer->quit;
	ok(delivered($node, 'hot'), "$what: delivered");
	is($redis->cli('EXISTS', map { "postgres:t:$_" } 1 .. 4), 0, "$what: they go");
	right_again($node, $what);
	$node->stop;
};

# the guards are in that of transaction IDs
delete @scenario{ 'page', 'subxact' } if defined $ENV{CACHEKIT_GUARD};
run_scenarios(%scenario);
done_testing();
