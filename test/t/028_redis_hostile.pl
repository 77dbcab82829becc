# Change records by users who have no business with them: everybody may write a message with our
# prefix into the WAL. Whatever it says, the sender goes on as the process that it is and in bounded
# memory, changes are delivered, and every document and every fetch is the table's; at worst,
# documents are deleted.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use CacheKit;
use CacheServer;
use RedisServer;

my $rows = 50;
my $redis = RedisServer->new('main')->start;
my $node = new_node('main', allows_streaming => 1);
$node->append_conf('postgresql.conf', q{
max_wal_size = '4GB'
cachekit.fetch_timeout = '60s'
});
$node->start;
$node->safe_psql(
	'postgres', sprintf q{
	CREATE EXTENSION cachekit;
	CREATE ROLE stranger LOGIN;
	CREATE TABLE t (id int PRIMARY KEY, v int);
	CREATE TABLE u (id int PRIMARY KEY, v int);
	INSERT INTO t SELECT g, 0 FROM generate_series(1, %1$d) AS g;
	INSERT INTO u SELECT g, 0 FROM generate_series(1, %1$d) AS g;
	CREATE SERVER hot FOREIGN DATA WRAPPER cachekit OPTIONS (%2$s);
	SELECT cachekit.attach('t', servers => '{hot}', local => false, ttl => 'infinity');
	SELECT cachekit.attach('u', servers => '{hot}', local => false, ttl => 'infinity');
	CREATE DATABASE other}, $rows, $redis->server_options);
my $server = $node->safe_psql('postgres', 'SELECT oid FROM pg_foreign_server');
ok(wait_until_ready($node, 'hot'), 'the server becomes ready');
my $sender = $node->safe_psql('postgres', 'SELECT pid FROM cachekit.server_states()');

# --- records, as in record.h ---

sub head { return 'CK' . pack('C', 1); }

sub section
{
	my ($kind, $servers, $name, @keys) = @_;

	return pack('CC', $kind, scalar @$servers) . pack('L*', @$servers) . pack('C/a', $name)
	  . ($kind == 1 ? pack('L', scalar @keys) . join('', map { pack('C/a', $_) } @keys) : '');
}

# A record for our server.
sub record { return head() . section($_[0], [$server], @_[ 1 .. $#_ ]); }

sub bytea { return sprintf(q{'\x%s'::bytea}, unpack('H*', $_[0])); }

# The statement that writes it.
sub message { return sprintf(q{SELECT pg_logical_emit_message(true, 'cachekit', %s);}, bytea($_[0])); }

# Statements of somebody who may do nothing but that.
sub by_stranger
{
	my ($sql, $db) = @_;

	$node->safe_psql($db // 'postgres', $sql, extra_params => [ '-U', 'stranger' ]);
	return;
}

# --- what must hold ---

# All documents are in Redis.
sub warm
{
	my ($what) = @_;

	foreach my $entity ('t', 'u')
	{
		$node->poll_query_until('postgres', qq{
			SELECT bool_and(x.present) FROM $entity AS t, LATERAL (SELECT cachekit.fetch('$entity', t.id)) AS f,
				LATERAL (SELECT present FROM cachekit.inspect('$entity', t.id)) AS x(present)})
		  or die "$what: the cache could not be filled";
	}
	return;
}

sub no_wrong_fetch
{
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return is(output_of($node, q{
			SELECT (SELECT count(*) FROM t WHERE cachekit.fetch('t', t.id) IS DISTINCT FROM to_jsonb(t)) +
				(SELECT count(*) FROM u WHERE cachekit.fetch('u', u.id) IS DISTINCT FROM to_jsonb(u))}),
		0, "$what: every fetch is the table's");
}

# What the sender has read until now is done, by a change of row 1 of both.
sub all_delivered
{
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	$node->safe_psql('postgres', q{
		UPDATE t SET v = v + 1 WHERE id = 1; UPDATE u SET v = v + 1 WHERE id = 1});
	ok(delivered($node, 'hot'), "$what: a change after it is delivered")
	  or die "$what: nothing is delivered any more";
	return;
}

sub survived
{
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	no_wrong_fetch($what);
	all_delivered($what);
	is($node->safe_psql('postgres', 'SELECT pid FROM cachekit.server_states()'), $sender,
		"$what: the sender is the one that it was");
	is(kill(0, $sender), 1, "$what: it lives");
	is(log_lines($node, qr/PANIC:|TRAP:|terminated by signal|crash/), '', "$what: nobody crashed");
	all_right($node, $redis, $_, "$what, $_") foreach 't', 'u';
	return;
}

# The documents that are in Redis, of those that nobody changes: "t" and the ids, "u" and the ids.
sub remaining
{
	return join(' ', map { my $entity = $_;
		($entity, sort { $a <=> $b } grep { $_ != 1 }
			  map { /(\d+)$/ } $redis->keys_like("postgres:$entity:*")) } ('t', 'u'));
}

sub all_but
{
	my %gone = map { $_ => 1 } @_;

	return join(' ', map { my $entity = $_; ($entity, grep { !$gone{"$entity:$_"} } 2 .. $rows) } ('t', 'u'));
}

# What the messages do to a full cache, and that it does no harm.
sub leaves
{
	my ($what, $expected, $sql, $db) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	warm($what);
	by_stranger($sql, $db);
	all_delivered($what);
	is(remaining(), $expected, "$what: what it leaves in the cache");
	survived($what);
	return;
}

# Messages that may delete whatever they like.
sub does_no_harm
{
	my ($what, $sql) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	warm($what);
	by_stranger($sql);
	survived($what);
	return;
}

my $all = all_but();
my @entity_t = map { "t:$_" } 2 .. $rows;
my @entity_u = map { "u:$_" } 2 .. $rows;
my $none = all_but(@entity_t, @entity_u);
my @others = map { $server + $_ } 1 .. 254;
my $valid = record(1, 't', '2', '3') . section(2, [ $others[0] ], 'u')
  . section(1, [ $others[1], $server ], 'u', '4');

# --- well-formed ones: they delete what they name ---

leaves('a key', all_but('t:2'), message(record(1, 't', '2')));
leaves('two keys, and others\' sections', all_but('t:2', 't:3', 'u:4'), message($valid));
leaves('an entity', all_but(@entity_t), message(record(2, 't')));
leaves('everything', $none, message(head() . section(3, [], '')));
leaves('255 servers', all_but('t:2'), message(head() . section(1, [ @others, $server ], 't', '2')));
leaves('254 other servers', $all, message(head() . section(1, \@others, 't', '2') . section(2, \@others, 't')));
leaves('no server', $all, message(head() . section(1, [], 't', '2') . section(2, [], 't')));
leaves('no keys', $all, message(record(1, 't')));
leaves('keys and entities that there are not', $all, message(
		record(1, 't', '777', 'x' x 187, '%zz', '%', '::', '') . section(2, [$server], 'n' x 120)
		  . section(2, [$server], 'T') . section(1, [$server], 'public.t', '2') . section(2, [$server], ':')
		  . section(2, [$server], '%2A')));

# --- what is no record ---

my @malformed;

foreach my $case (
	[ 'nothing', '' ],
	[ '1 byte', 'C' ],
	[ 'another magic', 'KC' . substr($valid, 2) ],
	[ 'another version', 'CK' . pack('C', 2) . substr($valid, 3) ],
	[ 'version 0', 'CK' . pack('C', 0) . substr($valid, 3) ],
	[ 'a name of 121 bytes', record(2, 'n' x 121) ],
	[ 'a name of 255 bytes', record(1, 'n' x 255, '1') ],
	[ 'no name', record(1, '', '2') ],
	[ 'no name of an entity', record(2, '') ],
	[ 'a key that is too long for its name', record(1, 't', 'k' x 188) ],
	[ 'a key of 255 bytes', record(1, 't', 'k' x 255) ],
	[ 'a long name with a long key', record(1, 'n' x 120, 'k' x 69) ],
	[ 'kind 0', record(0, 't') ],
	[ 'kind 4', record(4, 't') ],
	[ 'kind 255', record(255, 't') ],
	[ '2^32-1 keys', head() . pack('CCLC/aL', 1, 1, $server, 't', 4294967295) . pack('C/a', '2') ],
	[ '2^32-1 keys, with bytes for some', head() . pack('CCLC/aL', 1, 1, $server, 't', 4294967295) . "\0" x 10_000 ],
	[ 'bytes behind it', $valid . "\0" ],
	map { [ sprintf('a key with the byte %02x', ord $_), record(1, 't', "2$_") ],
		[ sprintf('a name with the byte %02x', ord $_), record(2, "t$_") ] }
	("\0", "\n", "\r", ' ', '*', '?', '[', '\\', '"', '$', '{', "\x7f", "\x80", "\xe4", "\xff"))
{
	my ($what, $bytes) = @$case;

	# it may mean anything
	if ($what =~ /^(nothing|another version|kind 4)$/)
	{
		leaves($what, $none, message($bytes));
	}
	else
	{
		push @malformed, $bytes;
	}
}
does_no_harm('malformed records', join("\n", map { message($_) } @malformed));
does_no_harm('a record that ends early, at every byte',
	join("\n", map { message(substr($valid, 0, $_)) } 0 .. length($valid) - 1));
does_no_harm('the same within one transaction, after what is well-formed',
	join("\n", 'BEGIN;', (map { message($valid), message(substr($valid, 0, $_)) } 0 .. length($valid) - 1), 'COMMIT;'));

# --- what is not for us ---

leaves('another prefix', $all, join("\n", map {
	sprintf(q{SELECT pg_logical_emit_message(true, '%s', %s);}, $_, bytea(head() . section(3, [], ''))) }
	('', 'cachekit2', 'cachekit ', 'cachek', 'CACHEKIT', 'x' x 1_000_000)));
leaves('not transactional', $all, join("\n", map {
	sprintf(q{SELECT pg_logical_emit_message(false, 'cachekit', %s);}, bytea($_)) }
	($valid, 'garbage', head() . section(3, [], ''))));
leaves('rolled back', $all, join("\n", 'BEGIN;', message($valid), message('garbage'), 'ROLLBACK;',
	'BEGIN; SAVEPOINT a;', message($valid), message('garbage'), 'ROLLBACK TO a; COMMIT;'));
leaves('another database', $all, join("\n", message($valid), message('garbage'),
	message(head() . section(3, [], ''))), 'other');

# --- many, and large ones ---

does_no_harm('1 MB of keys without a byte', sprintf(
	q{SELECT pg_logical_emit_message(true, 'cachekit', %s || decode(repeat('00', 1000000), 'hex'));},
	bytea(head() . pack('CCLC/aL', 1, 1, $server, 't', 1_000_000))));
foreach my $n (65, 1000, 1001, 5000)
{
	leaves("$n entities in a transaction", $n > 64 ? $none : $all, sprintf(
		q{SELECT pg_logical_emit_message(true, 'cachekit', %s || string_agg(%s || convert_to(to_char(i, 'FM00000'), 'UTF8'), ''::bytea))
			FROM generate_series(1, %d) AS i;},
		bytea(head()), bytea(pack('CCLC', 2, 1, $server, 5)), $n));
}
leaves('64 entities in a transaction', all_but(@entity_t),
	message(head() . join('', map { section(2, [$server], $_ == 50 ? 't' : "e$_") } 1 .. 64)));
does_no_harm('3,000 transactions of garbage', join("\n", (message('garbage')) x 3000));
does_no_harm('3,000 transactions that flush an entity each', join("\n",
	map { message(record(2, $_ % 3 == 0 ? 't' : $_ % 3 == 1 ? 'u' : "e$_")) } 1 .. 3000));

# Each in a subtransaction of its own; every other one is rolled back.
sub in_subtransactions
{
	my ($n, $bytes, $fill) = @_;

	return sprintf(q{
		DO $$
		DECLARE message bytea := %s || convert_to(repeat('%s', %d), 'UTF8');
		BEGIN
			FOR i IN 1 .. %d LOOP
				BEGIN
					PERFORM pg_logical_emit_message(true, 'cachekit', message);
					IF i %% 2 = 0 THEN RAISE EXCEPTION 'no'; END IF;
				EXCEPTION WHEN raise_exception THEN NULL;
				END;
			END LOOP;
		END$$;}, bytea($bytes), $fill // '', $fill ? 1 : 0, $n);
}

leaves('20,000 subtransactions with a key each', all_but('t:2'),
	in_subtransactions(20_000, record(1, 't', '2')));
leaves('20,000 subtransactions of garbage', $none, in_subtransactions(20_000, 'garbage'));
# more than may be remembered at a time, before the transaction ends
leaves('20,000 subtransactions with 6 KB of keys each', $none,
	in_subtransactions(20_000, record(1, 't', ('k' x 100) x 60)));

# So many MB of keys in one transaction.
sub megabytes
{
	my ($mb, $for) = @_;

	return sprintf(q{
		DO $$
		DECLARE message bytea := %s || decode(repeat('%s', 10000), 'hex');
		BEGIN
			FOR i IN 1 .. %d LOOP
				PERFORM pg_logical_emit_message(true, 'cachekit', message);
			END LOOP;
		END$$;}, bytea(head() . pack('CCLC/aL', 1, 1, $for, 't', 10_000)),
		unpack('H*', pack('C/a', 'k' x 99)), $mb);
}

leaves('50 MB of keys for another server', $all, megabytes(50, $others[0]));
# as much as is remembered, key by key, and what is too much
leaves('25 MB of keys', $all, megabytes(25, $server));
leaves('200 MB of keys', $none, megabytes(200, $server));

# --- transactions that stay open ---

# One with a message holds the restart point, not the delivery of others.
sub one_open
{
	my $what = 'an open transaction';
	my $stranger = session($node, 'postgres', 'SESSION AUTHORIZATION stranger');

	warm($what);
	$stranger->query_safe('BEGIN');
	result($stranger, message(record(1, 't', '2')));
	survived($what);
	result($stranger, 'ROLLBACK');
	$stranger->quit;
	survived("$what, rolled back");
	return;
}

# More than is remembered of all together.
sub many_open
{
	my $what = 'open transactions';
	my @strangers = map { session($node, 'postgres', 'SESSION AUTHORIZATION stranger') } 1 .. 4;
	my @pids = map { pid_of($_) } @strangers;

	warm($what);
	foreach my $stranger (@strangers)
	{
		$stranger->query_safe('BEGIN');
		result($stranger, megabytes(20, $server));
		result($stranger, message(record(1, 't', '2')));
	}
	survived($what);
	result($strangers[0], 'ROLLBACK');
	survived("$what, one rolled back");
	result($strangers[1], 'COMMIT');
	survived("$what, one committed");
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($pids[2])");
	wait_until_gone($node, $pids[2]);
	lost($strangers[2]);
	survived("$what, one terminated");
	result($strangers[3], 'COMMIT');
	$_->quit foreach @strangers[ 0, 1, 3 ];
	survived("$what, all have ended");
	return;
}

foreach my $scenario ([ 'an open transaction', \&one_open ], [ 'open transactions', \&many_open ])
{
	eval { $scenario->[1]->() };
	is($@, '', "$scenario->[0]: ran to its end");
	$node->safe_psql('postgres',
		q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction'});
}

# --- names of the sender's own keys ---

# No entity is called so; a record can be. The last one deletes what says who owns the cache, and it
# is read again in each epoch that begins before it is done.
foreach my $case (
	[ 'an entity named as the marker', record(2, 'cachekit') ],
	[ 'an entity named as the owner', record(2, 'cachekit:owner') ],
	[ "a key like the owner's", record(1, 'cachekit:owner', '') ],
	[ "the owner's key", record(1, 'cachekit', 'owner') ])
{
	eval { does_no_harm($case->[0], message($case->[1])); };
	is($@, '', "$case->[0]: ran to its end");
}

# --- the end ---

my ($memory) = slurp_file("/proc/$sender/status") =~ /^VmHWM:\s+(\d+) kB/m;
note("the sender's memory was at most $memory kB");
cmp_ok($memory, '<', 400 * 1024, "the sender's memory is bounded");
ok(filled($node, $redis, $_, 1), "$_ is filled again") foreach 't', 'u';
is(server_stat($node, 'hot', 'state'), 'ready', 'the server is ready');

$node->stop;
is(log_lines($node, qr/PANIC:|TRAP:|terminated by signal/), '', 'nobody crashed');
done_testing();
