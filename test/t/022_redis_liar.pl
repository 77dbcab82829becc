# A cache server that lies: it never answers, answers nonsense, half a reply, or two, or refuses
# what it is told. Sessions and commits go on, the fault is named and logged once, and what it was
# not told is told to the Redis that comes after it.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use CacheKit;
use CacheServer;
use LyingServer;
use RedisServer;

my $redis = RedisServer->new('main')->start;
my $node = new_node('main', allows_streaming => 1);
$node->append_conf('postgresql.conf', 'restart_after_crash = on');
$node->start;
$node->safe_psql(
	'postgres', sprintf q{
	CREATE EXTENSION cachekit;
	CREATE TABLE t (id int PRIMARY KEY, v int);
	INSERT INTO t SELECT g, 0 FROM generate_series(1, 20) AS g;
	CREATE SERVER hot FOREIGN DATA WRAPPER cachekit
		OPTIONS (%s, command_timeout '200ms', breaker_reset '50ms');
	SELECT cachekit.attach('t', servers => '{hot}', local => false);
	}, $redis->server_options);

# Faults that the log has from an offset on, beyond one for each outage that it says is over: some
# liars are found out only when they are in use.
sub faults_logged
{
	my ($offset) = @_;
	my @lines = split(/\n/, log_lines($node, qr/cachekit server "hot"/, $offset));

	return grep({ !/is back|flushing namespace/ } @lines) - grep({ /is back/ } @lines);
}

# A change, with the fetches before and after it.
sub write_and_read
{
	my ($id) = @_;

	return $node->safe_psql(
		'postgres', qq{
		SELECT cachekit.fetch('t', $id) IS NOT DISTINCT FROM to_jsonb(t) FROM t WHERE id = $id;
		UPDATE t SET v = v + 1 WHERE id = $id;
		SELECT cachekit.fetch('t', $id) IS NOT DISTINCT FROM to_jsonb(t) FROM t WHERE id = $id;
		}) eq "t\nt";
}

my ($offset, $liar) = (0);

sub lie_to
{
	my ($mode, $message, $is_no_outage) = @_;
	my ($epochs, $last);

	ok(delivered($node, 'hot'), "$mode: the server is ready before");
	ok(filled($node, $redis, 't', 1), "$mode: a document is cached before");
	$offset = -s $node->logfile;
	$redis->kill9;
	$liar = LyingServer->start($redis->port, $mode);

	ok(write_and_read(1), "$mode: fetches and a commit at once");
	# some are found out when they are told of a change only
	foreach my $attempt (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		$last = server_stat($node, 'hot', 'last_error');
		last if $last =~ $message;
		$node->safe_psql('postgres', 'UPDATE t SET v = v + 1 WHERE id = 2');
	}
	like($last, $message, "$mode: last_error says it");
	$epochs = server_stat($node, 'hot', $is_no_outage ? 'acknowledged' : 'reconnects') || 0;
	ok(write_and_read($_), "$mode: fetches and a commit, key $_") foreach 1 .. 3;
	ok(wait_for_server($node, 'hot', $is_no_outage ? "acknowledged >= $epochs + 3" :
			"reconnects > $epochs + 2"), "$mode: " . ($is_no_outage ? 'deletions go on' : 'it is tried again'));
	is(faults_logged($offset), 1, "$mode: one line in the log")
	  or diag(log_lines($node, qr/cachekit server/, $offset) =~ s/^((?:.*\n){12}).*/$1/sr);
	return;
}

sub tell_the_truth
{
	my ($mode) = @_;

	ok(delivered($node, 'hot'), "$mode: afterwards, with Redis, all is delivered");
	all_right($node, $redis, 't', $mode);
	return;
}

foreach my $lie (
	[ 'mute', qr/no answer within command_timeout/ ],
	[ 'garbage', qr/protocol error/i ],
	[ 'half', qr/closed|lost/ ],
	[ 'huge', qr/no answer within command_timeout|too large/ ],
	[ 'short', qr/could not be read/ ],
	[ 'DEL OOM command not allowed', qr/deletion failed: OOM/ ],
	[ 'DEL READONLY You cannot write', qr/deletion failed: READONLY/ ],
	[ 'DEL MISCONF Redis is configured', qr/deletion failed: MISCONF/ ],
	[ 'DEL NOPERM this user has no permissions', qr/deletion failed: NOPERM/ ],
	[ 'EVAL OOM command not allowed', qr/out of memory: OOM/, 'no outage' ],
	[ 'EVAL NOPERM this user has no permissions', qr/marker could not be written: NOPERM/ ],
	[ 'SET LOADING Redis is loading', qr/owner could not be written: LOADING/ ],
	[ 'MGET LOADING Redis is loading', qr/(marker|owner) could not be read: LOADING/ ],
	[ 'SCAN NOPERM this user has no permissions', qr/could not be flushed: NOPERM/ ],
	[ 'SELECT ERR DB index is out of range', qr/refused us: ERR DB index/ ],
	# last, because what it did once was to end every session
	[ 'twice', qr{unexpected|nobody had asked} ])
{
	my ($mode, $message, $is_no_outage) = @$lie;

	# whoever has been thrown out of a crashed server goes on with the next lie
	eval { lie_to($mode, $message, $is_no_outage) };
	is($@, '', "$mode: sessions live");
	$liar->stop if $liar;
	$redis->start if !$redis->pid;
	is(log_lines($node, qr/PANIC:|TRAP:|terminated by signal/, $offset), '', "$mode: nobody crashed");
	$node->poll_query_until('postgres', 'SELECT true') or die 'the server is not back';
	tell_the_truth($mode);
}

$node->stop;
done_testing();
