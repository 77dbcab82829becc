# A Memcached that lies: it never answers, answers nonsense, half a reply, two, or one that never
# ends, announces what is not there, or refuses what it is told; about all commands or one of them.
# Sessions and commits go on, no fetch is wrong, the fault is named and logged once an outage, and
# what the liar was not told is told to the memcached that comes after it.
#
# Several lie at the same time, each to a server and an entity of its own.

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use CacheKit;
use CacheServer;
use LyingMemcached;
use MemcachedServer;
use RedisServer;

my $places = 12;
my $no_answer = qr/no answer within command_timeout/;
my $nonsense = qr/unexpected reply|nobody had asked|no answer within command_timeout/;
my $closed = qr/the connection was closed|Connection reset/;
my $not_ours = qr/the cache is not as we left it/;
my $full = 'SERVER_ERROR out of memory storing object';

# What is said, and what last_error says then. A third: it is no outage, and this holds; a fourth:
# it is about the flush_method "scan".
my @lies = (
	[ 'mute', $no_answer ],
	[ 'mute version', qr/it did not tell a version of Memcached: unexpected reply/ ],
	[ 'garbage', qr/it did not tell a version of Memcached: unexpected reply: "HTTP/ ],
	[ 'garbage version', qr/it did not tell a version of Memcached: unexpected reply: "HTTP/ ],
	[ 'twice', qr/unexpected reply: "VERSION/ ],
	[ 'twice version', qr/unexpected reply: "VERSION/ ],
	[ 'endless', qr/a line is too long to be one/ ],
	[ 'no_cas', qr/unexpected reply: "VALUE postgres:cachekit/ ],
	[ 'version ERROR', qr/it did not tell a version of Memcached: unexpected reply: "ERROR"/ ],
	[ 'version SERVER_ERROR busy', qr/it did not tell a version of Memcached: SERVER_ERROR busy/ ],
	[ 'stats ERROR', qr/unexpected reply: "ERROR"/ ],
	[ 'stats SERVER_ERROR busy', qr/refused us: SERVER_ERROR busy/ ],
	[ 'stats STAT cas_enabled no', $no_answer ],
	[ 'stats END of it', qr/unexpected reply: "END of it"/ ],
	[ 'set SERVER_ERROR busy', qr/owner could not be written: SERVER_ERROR busy/ ],
	[ 'set CLIENT_ERROR bad data chunk', qr/unexpected reply: "CLIENT_ERROR bad data chunk"/ ],
	[ 'set NOT_STORED', qr/unexpected reply: "NOT_STORED"/ ],
	[ 'get SERVER_ERROR busy', qr/(marker|owner) could not be read: SERVER_ERROR busy/ ],
	[ 'get ERROR', qr/unexpected reply: "ERROR"/ ],
	[ 'get DELETED', qr/unexpected reply: "DELETED"/ ],
	# nothing is there, not even what was just written
	[ 'get END', qr/$not_ours|connections lead to different caches/ ],
	[ 'gets SERVER_ERROR busy', qr/marker could not be written: SERVER_ERROR busy/ ],
	[ 'gets ERROR', qr/unexpected reply: "ERROR"/ ],
	[ 'gets END', $not_ours ],
	[ "add $full", qr/could not be flushed: \Q$full/ ],
	[ 'add NOT_STORED', $not_ours ],
	[ 'add EXISTS', qr/unexpected reply: "EXISTS"/ ],
	[ "cas $full", qr/the cache server is out of memory: \Q$full/, 'acknowledged' ],
	[ 'cas SERVER_ERROR object too large for cache', qr/marker could not be written: SERVER_ERROR object/ ],
	[ 'cas NOT_FOUND', $not_ours ],
	[ 'cas EXISTS', $not_ours ],
	[ 'cas ERROR', qr/unexpected reply: "ERROR"/ ],
	[ "delete $full", qr/a deletion failed: \Q$full/ ],
	[ 'delete SERVER_ERROR busy', qr/a deletion failed: SERVER_ERROR busy/ ],
	[ 'delete ERROR', qr/unexpected reply: "ERROR"/ ],
	[ 'delete CLIENT_ERROR bad command line format', qr/unexpected reply: "CLIENT_ERROR bad/ ],
	[ 'delete OK', qr/unexpected reply: "OK"/ ],
	[ 'flush_all ERROR', qr/unexpected reply: "ERROR"/ ],
	[ 'flush_all SERVER_ERROR busy', qr/could not be flushed: SERVER_ERROR busy/ ],
	[ 'flush_all CLIENT_ERROR flush_all not allowed', qr/"CLIENT_ERROR flush_all not allowed"/ ],
	(map { [ "mute $_", qr/$nonsense|$not_ours/ ] } qw(stats set get gets add cas delete flush_all)),
	(map { [ "garbage $_", qr/unexpected reply: "HTTP/ ] } qw(stats set get gets add cas delete flush_all)),
	(map { [ "twice $_", $nonsense ] } qw(stats set get gets add cas delete flush_all)),
	(map { [ "endless $_", qr/a line is too long to be one/ ] }
		  qw(version stats set get gets add cas delete flush_all)),
	(map { [ "half $_", $closed ] } qw(get gets)),
	(map { [ "huge $_", qr/a reply is too large to be one/ ] } qw(get gets)),
	(map { [ "negative $_", qr/unexpected reply: "VALUE \S+ 0 -1/ ] } qw(get gets)),
	(map { [ "not_a_number $_", qr/unexpected reply: "VALUE \S+ 0 many/ ] } qw(get gets)),
	(map { [ "long_key $_", qr/a line is too long to be one/ ] } qw(get gets)),
	(map { [ "other_key $_", qr/unexpected reply: "VALUE other_/ ] } qw(get gets)),
	(map { [ "short $_", $nonsense ] } qw(get gets stats)),
	(map { [ "wrong $_", $nonsense ] } qw(set add cas delete flush_all)),
	# no room even for the owner: the namespace is emptied
	[ "set $full", qr/the cache server is out of memory|owner could not be written: \Q$full/ ],
	(map { [ "$_ lru_crawler", qr/dumped|the dump of keys failed|$no_answer/, undef, 'scan' ] }
		  qw(mute garbage endless short)),
	[ 'twice lru_crawler', qr/./, 'acknowledged', 'scan' ],
	[ 'lru_crawler ERROR', qr/keys could not be dumped: "ERROR"/, undef, 'scan' ],
	[ 'lru_crawler BADCLASS invalid class id', qr/keys could not be dumped/, undef, 'scan' ],
	[ 'lru_crawler key=', qr/keys could not be dumped/, undef, 'scan' ],
	[ 'lru_crawler key=%zz exp=-1', qr/keys could not be dumped/, undef, 'scan' ],
	[ 'lru_crawler BUSY currently processing', qr/./, 'flushing', 'scan' ]);

my $node = new_node('main', allows_streaming => 1);
my @cache = map { MemcachedServer->new($_) } 0 .. $places - 1;
my ($session, $offset);

$node->append_conf('postgresql.conf', q{
restart_after_crash = on
max_worker_processes = 40
max_replication_slots = 40
});
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION cachekit');
foreach my $i (0 .. $places - 1)
{
	$cache[$i]->start;
	$node->safe_psql(
		'postgres', sprintf q{
		CREATE TABLE t%1$d (id int PRIMARY KEY, v int);
		INSERT INTO t%1$d SELECT g, 0 FROM generate_series(1, 10) AS g;
		CREATE SERVER s%1$d FOREIGN DATA WRAPPER cachekit
			OPTIONS (%2$s, command_timeout '200ms', breaker_reset '50ms', flush_method 'flush_all');
		SELECT cachekit.attach('t%1$d', servers => '{s%1$d}', local => false)},
		$i, $cache[$i]->server_options);
}
$session = session($node, 'postgres');

sub ask { return $session->query_safe($_[0]); }

sub stat_of { return ask("SELECT $_[1] FROM cachekit.stat_servers WHERE name = 's$_[0]'"); }

# Ask until the code is content with each of these places; those with which it is not.
sub poll_places
{
	my ($code, @left) = @_;
	my $until = time() + $PostgreSQL::Test::Utils::timeout_default;

	while ((@left = grep { !$code->($_) } @left) && time() < $until)
	{
		select(undef, undef, undef, 0.02);
	}
	return @left;
}

# The first document, "" when there is none.
sub cached { return ($cache[ $_[0] ]->values_of("postgres:t$_[0]:1"))[0]; }

# A change, with the fetches before and after it.
sub write_and_read
{
	my ($i, $id) = @_;

	return ask(qq{
		SELECT cachekit.fetch('t$i', $id) IS NOT DISTINCT FROM to_jsonb(t) FROM t$i AS t WHERE id = $id;
		UPDATE t$i SET v = v + 1 WHERE id = $id;
		SELECT cachekit.fetch('t$i', $id) IS NOT DISTINCT FROM to_jsonb(t) FROM t$i AS t WHERE id = $id;
		}) eq "t\nt";
}

# Faults that the log tells of after one from which the server was not back yet. That there is one
# at all is told by last_error.
sub told_again
{
	my ($i) = @_;
	my $is_out = 0;
	my $again = 0;

	foreach my $line (split(/\n/, log_lines($node, qr/cachekit server "s$i"/, $offset)))
	{
		next if $line =~ /flushing namespace/;
		$again++ if $is_out && $line !~ /is back/;
		$is_out = $line !~ /is back/;
	}
	return $again;
}

# All of these lies at once.
sub lie
{
	my (@group) = @_;
	my @all = 0 .. $#group;
	my (@liar, @before, %left);
	my $is_named = sub { stat_of($_[0], 'last_error') =~ $group[ $_[0] ][1]; };
	my $goes_on = sub {
		my ($i) = @_;
		my $way = $group[$i][2] // 'reconnects';

		return $way eq 'flushing' ? stat_of($i, 'state') eq 'flushing' : stat_of($i, $way) >= $before[$i] + 3;
	};

	poll_places(sub { ask("SELECT cachekit.fetch('t$_[0]', 1)") && cached($_[0]) ne ''; }, @all)
	  and die 'no document is cached before';
	$offset = -s $node->logfile;
	foreach my $i (@all)
	{
		$cache[$i]->kill9;
		$liar[$i] = LyingMemcached->start($cache[$i]->port, $group[$i][0]);
		ok(write_and_read($i, 1), "$group[$i][0]: fetches and a commit at once");
	}
	# some are found out when they are told of a change
	%left = map { $_ => 1 } poll_places(
		sub { $is_named->($_[0]) || (ask("UPDATE t$_[0] SET v = v + 1 WHERE id = 2") && 0); }, @all);
	ok(!$left{$_}, "$group[$_][0]: last_error says it")
	  or diag(stat_of($_, 'last_error')) foreach @all;
	@before = map { my $way = $group[$_][2] // 'reconnects'; $way eq 'flushing' ? 0 : stat_of($_, $way) } @all;
	foreach my $i (@all)
	{
		ok(write_and_read($i, $_), "$group[$i][0]: fetches and a commit, key $_") foreach 1 .. 3;
	}
	%left = map { $_ => 1 } poll_places($goes_on, @all);
	foreach my $i (@all)
	{
		my $mode = $group[$i][0];

		ok(!$left{$i}, "$mode: " . ($group[$i][2] // 'it is tried again'))
		  or diag(ask("SELECT * FROM cachekit.stat_servers WHERE name = 's$i'"));
		is(told_again($i), 0, "$mode: one line in the log")
		  or diag(log_lines($node, qr/cachekit server "s$i"/, $offset) =~ s/^((?:.*\n){12}).*/$1/sr);
	}
	$_->stop foreach @liar;
	$cache[$_]->start foreach @all;
	return;
}

foreach my $method ('flush_all', 'scan')
{
	my @rest = grep { ($_->[3] // 'flush_all') eq $method } @lies;

	$node->safe_psql('postgres', join(';',
			map { "ALTER SERVER s$_ OPTIONS (SET flush_method '$method')" } 0 .. $places - 1));
	while (my @group = splice(@rest, 0, $places))
	{
		$node->safe_psql('postgres', q{SELECT cachekit.wait_for_delivery('60s')});
		lie(@group);
		is($node->safe_psql('postgres', q{SELECT cachekit.wait_for_delivery('60s')}), 't',
			'afterwards, with memcached, all is delivered');
		is(join(' ', poll_places(sub { stat_of($_[0], 'state') eq 'ready'; }, 0 .. $#group)), '',
			'afterwards, all are ready again');
		foreach my $i (0 .. $#group)
		{
			all_right($node, $cache[$i], "t$i", $group[$i][0]);
		}
	}
}

# --- a server of the other kind ---

my $redis = RedisServer->new('other')->start;

$offset = -s $node->logfile;
$cache[1]->kill9;
$node->safe_psql('postgres', sprintf q{
	ALTER SERVER s0 OPTIONS (SET port '%d');
	CREATE TABLE r (id int PRIMARY KEY, v int);
	INSERT INTO r VALUES (1, 0), (2, 0), (3, 0);
	CREATE SERVER r FOREIGN DATA WRAPPER cachekit
		OPTIONS (kind 'redis', host '127.0.0.1', port '%d', command_timeout '200ms', breaker_reset '50ms');
	SELECT cachekit.attach('r', servers => '{r}', local => false)}, $redis->port, $cache[2]->port);
ok(wait_for_server($node, 's0', q{last_error LIKE '%it did not tell a version of Memcached: unexpected reply: "-ERR unknown command%'}),
	'a Redis in the place of a Memcached: last_error says it');
ok(wait_for_server($node, 'r', q{last_error ~* 'protocol error'}),
	'a Memcached in the place of a Redis: last_error says it');
note(server_stat($node, $_, 'last_error')) foreach 's0', 'r';
ok(write_and_read(0, 1), 'a Redis in the place of a Memcached: sessions go on');
is(told_again(0), 0, 'a Redis in the place of a Memcached: one line in the log');
$node->safe_psql('postgres', sprintf q{
	ALTER SERVER s0 OPTIONS (SET port '%d'); ALTER SERVER r OPTIONS (SET port '%d')},
	$cache[0]->port, $redis->port);
$cache[1]->start;
ok(delivered($node, $_), "the right server in its place: $_ is ready") foreach 's0', 'r';
all_right($node, $cache[0], 't0', 'the right server in its place');
all_right($node, $redis, 'r', 'the right server in its place');

$session->quit;
$node->stop;
unlike(slurp_file($node->logfile), qr/PANIC:|TRAP:|terminated by signal/, 'nobody crashed');
done_testing();
