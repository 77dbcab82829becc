# A sender that ends alone, at each of its steps, while the rest of the cluster goes on: the next one
# takes up what it had not brought to its end, and what a writer had recorded before that and
# commits after it. Then what else ends a sender that stands somewhere: a shutdown, and the death of
# the postmaster; and a step of one server's sender, which another server's passes.

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
my @delivery = qw(collected sent acknowledged marker-due marker-sent marker-acknowledged);
my @begin = qw(owner-written marker-read resuming caught-up);

$node->append_conf('postgresql.conf', q{
autovacuum = off
cachekit.fetch_timeout = '60s'
});
$node->append_conf('postgresql.conf',
	q{cachekit.debug_stop = '} . join(', ', map { "$_\@hot:exit" } @delivery, @begin) . q{, sent@cold'});
$node->start;
$node->safe_psql('postgres', sprintf q{
	CREATE EXTENSION cachekit;
	CREATE TABLE item (id int PRIMARY KEY, v int);
	INSERT INTO item SELECT i, 0 FROM generate_series(1, 5) AS i;
	CREATE SERVER hot FOREIGN DATA WRAPPER cachekit
		OPTIONS (%s, command_timeout '60 s', breaker_reset '50 ms');
	SELECT cachekit.attach('item', servers => '{hot}', local => false, ttl => '1 h')},
	$redis->server_options);

sub sql { return $node->safe_psql('postgres', $_[0]); }

sub wait_stat
{
	my ($server, $condition) = @_;

	wait_for_server($node, $server, $condition) or die "timed out waiting for $condition";
	return;
}

sub warm
{
	delivered($node, 'hot') or die 'not everything was delivered';
	filled($node, $redis, 'item', $_) or die "item $_ was not filled" foreach 1, 2;
	delivered($node, 'hot') or die 'not everything was delivered';
	return;
}

# The sender ends at the step, after something has made it come there.
sub end_at
{
	my ($step, $sql) = @_;
	my $offset = -s $node->logfile;
	my $holder = hold($node, $step);

	sql($sql);
	$node->wait_for_log(qr/FATAL:  step "$step" of cachekit.debug_stop/, $offset);
	$holder->quit;
	return;
}

# --- each step, with a writer whose record is in the WAL already ---

# How many documents are old in the end.
sub old_after
{
	my ($step, $sql) = @_;
	my ($holder, $writer, $old);

	warm();
	$holder = hold($node, 'recorded');
	$writer = session($node, 'postgres', q{cachekit.debug_stop = 'recorded'});
	send_query($writer, 'UPDATE item SET v = v + 1 WHERE id = 1');
	wait_at_step($node, 'recorded');
	marked($node, $redis);    # so that the next marker is the one for what follows
	end_at($step, $sql);
	wait_stat('hot', q{state = 'ready'});
	$holder->quit;
	result($writer);
	$writer->quit;
	delivered($node, 'hot') or die 'not everything was delivered';
	marked($node, $redis);
	return sql(q{SELECT count(*) FROM item AS t WHERE cachekit.fetch('item', t.id) IS DISTINCT FROM to_jsonb(t)});
}

my $change = 'UPDATE item SET v = v + 1 WHERE id = 2';
my $options = 0;

is(old_after($_, $change), 0, "the sender ends at $_: nothing is lost") foreach @delivery;
foreach my $step (@begin)
{
	is(old_after($step, sprintf q{ALTER SERVER hot OPTIONS (%s connect_timeout '%d ms')}, $options ? 'SET' : 'ADD', 5000 + ++$options),
		0, "the sender ends at $step: nothing is lost");
}

disable($node, 'restart-point');
isnt(old_after('marker-acknowledged', $change), 0,
	'the sender ends at marker-acknowledged, without restart-point: caught');
disable($node, '');
sql(q{SELECT cachekit.flush('item')});
delivered($node, 'hot') or die 'not everything was delivered';

# --- of two servers, one stands ---

sql(sprintf q{
	CREATE TABLE other (id int PRIMARY KEY, v int);
	INSERT INTO other SELECT * FROM item;
	CREATE SERVER cold FOREIGN DATA WRAPPER cachekit
		OPTIONS (%s, namespace 'cold', command_timeout '60 s', breaker_reset '50 ms');
	SELECT cachekit.attach('other', servers => '{cold,hot}', local => false)}, $redis->server_options);

sub stand
{
	my $holder = hold($node, 'sent');
	my $end;

	wait_until_ready($node, $_) or die "$_ is not ready" foreach 'hot', 'cold';
	$end = sql('UPDATE other SET v = v + 1; SELECT pg_current_wal_insert_lsn()');
	wait_at_step($node, 'sent');
	return ($holder, $end);
}

# the other one ends where this one stands
sql(q{ALTER SYSTEM SET cachekit.debug_stop = 'sent@cold'});
$node->reload;
sql(q{SELECT cachekit.flush('item')});
delivered($node, 'hot') or die 'not everything was delivered';
my ($holder, $end) = stand();
wait_stat('hot', "position >= '$end'");
is(server_stat($node, 'cold', "position >= '$end'"), 'f', 'one server stands, the other one goes on');
$holder->quit;
delivered($node, 'cold') or die 'not everything was delivered';

# --- what ends a sender that stands ---

($holder) = stand();
$node->stop;    # dies if the server does not stop
lost($holder);
pass('a shutdown does not wait for a sender that stands');
$node->start;
delivered($node, 'cold') or die 'not everything was delivered';

($holder) = stand();
my $pid = sql(q{SELECT pid FROM cachekit.server_states() AS s WHERE EXISTS (
	SELECT FROM pg_locks AS l WHERE l.pid = s.pid AND NOT granted)});
$node->kill9;
lost($holder);
foreach my $attempt (1 .. 50 * $PostgreSQL::Test::Utils::timeout_default)
{
	last if !kill(0, $pid);
	select(undef, undef, undef, 0.02);
}
ok(!kill(0, $pid), 'a sender that stands ends with the postmaster');
$node->start;
delivered($node, $_) or die 'not everything was delivered' foreach 'hot', 'cold';
all_right($node, $redis, 'other', 'after that');
$node->stop;
done_testing();
