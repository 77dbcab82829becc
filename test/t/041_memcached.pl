# Memcached: the options of its servers, several hosts that are one server, of which one dies,
# freezes, comes back with old data, is added or taken away; what a flush takes with it; hosts that
# will not do; and the end of servers with several hosts. After each, every document on every host
# is the table's, and so is every fetch.

use strict;
use warnings FATAL => 'all';

use IO::Socket::UNIX;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use CacheKit;
use CacheServer;
use Forked;
use MemcachedRing;
use MemcachedServer;

my $rows = 300;
my $node = new_node('main', allows_streaming => 1);
$node->append_conf('postgresql.conf', q{
max_worker_processes = 20
max_replication_slots = 20
cachekit.fetch_timeout = '2s'
cachekit.shutdown_timeout = '1s'
});
$node->start;
$node->safe_psql('postgres', q{CREATE EXTENSION cachekit});

sub sql
{
	my ($sql, $db) = @_;

	return output_of($node, "SET client_min_messages = warning; $sql", $db);
}

sub make_tables
{
	my ($db) = @_;

	sql(join(';', map { "
		CREATE TABLE $_ (id int PRIMARY KEY, v int);
		INSERT INTO $_ SELECT g, 0 FROM generate_series(1, $rows) AS g" } 't', 'u'), $db);
	return;
}

sub create_server
{
	my ($name, $options, $db) = @_;

	sql("CREATE SERVER $name FOREIGN DATA WRAPPER cachekit OPTIONS ($options)", $db);
	return;
}

sub attach
{
	my ($table, $server, $db) = @_;

	sql("SELECT cachekit.attach('$table', servers => '{$server}', local => false, ttl => 'infinity')", $db);
	return;
}

# --- options ---

my $many = join(',', map { "h$_" } 1 .. 17);

foreach my $bad (
	[ q{kind 'memcached', hosts ''}, qr/invalid value "" for option "hosts".*1 to 16 different hosts.*'host:port,host:port'.*11211/s ],
	[ qq{kind 'memcached', hosts '$many'}, qr/for option "hosts".*1 to 16 different hosts/s ],
	[ q{kind 'memcached', hosts 'a,b,a'}, qr/option "hosts".*different/s ],
	[ q{kind 'memcached', hosts 'a:11211,b,a'}, qr/option "hosts".*different/s ],
	[ q{kind 'memcached', hosts '[::1]:1,[::1]:1'}, qr/option "hosts".*different/s ],
	[ q{kind 'memcached', hosts 'a,'}, qr/option "hosts"/ ],
	[ q{kind 'memcached', hosts 'a,,b'}, qr/option "hosts"/ ],
	[ q{kind 'memcached', hosts 'a:0'}, qr/option "hosts"/ ],
	[ q{kind 'memcached', hosts 'a:65536'}, qr/option "hosts"/ ],
	[ q{kind 'memcached', hosts 'a:x'}, qr/option "hosts"/ ],
	[ q{kind 'memcached', hosts 'a:'}, qr/option "hosts"/ ],
	[ q{kind 'memcached', hosts 'a b'}, qr/option "hosts"/ ],
	[ q{kind 'memcached', hosts '[::1'}, qr/option "hosts"/ ],
	[ sprintf(q{kind 'memcached', hosts '%s'}, join(',', map { "$_" . 'x' x 240 } 'a' .. 'i')), qr/option "hosts".*less than/s ],
	[ q{kind 'memcached', host 'a', hosts 'b,c'}, qr/option "hosts" cannot be combined with "host" or "port".*with their ports, in "hosts"/s ],
	[ q{kind 'memcached', port '1', hosts 'b,c'}, qr/option "hosts" cannot be combined/ ],
	[ q{kind 'memcached', database '1'}, qr/invalid option "database".*kind "memcached" do not have it/s ],
	[ q{kind 'memcached', tls 'off'}, qr/invalid option "tls".*kind "memcached" do not have it/s ],
	[ q{kind 'memcached', tls_ca '/x'}, qr/invalid option "tls_ca".*kind "memcached"/s ],
	[ q{kind 'redis', hosts 'a,b'}, qr/invalid option "hosts".*kind "redis" do not have it/s ],
	[ q{hosts 'a,b', kind 'redis'}, qr/invalid option "hosts".*kind "redis" do not have it/s ],
	[ q{kind 'redis', distribution 'ketama'}, qr/invalid option "distribution".*kind "redis"/s ],
	[ q{kind 'redis', flush_method 'scan'}, qr/invalid option "flush_method".*kind "redis"/s ],
	[ q{kind 'memcached', distribution 'modula'}, qr/invalid value "modula" for option "distribution".*"ketama", "ketama_weighted"/s ],
	[ q{kind 'memcached', flush_method 'all'}, qr/invalid value "all" for option "flush_method".*"flush_all", "scan"/s ],
	[ q{kind 'Memcached'}, qr/invalid value "Memcached" for option "kind"/ ],
	[ q{kind 'memcached', user 'u'}, qr/invalid option "user".*option of user mappings/s ],
	[ q{kind 'memcached', password 'p'}, qr/invalid option "password".*option of user mappings/s ],
	[ sprintf(q{kind 'memcached', namespace '%s'}, 'n' x 61), qr/namespace.*61 bytes/s ],
	[ q{hosts 'a,b'}, qr/option "kind" is missing/ ])
{
	my ($options, $message) = @$bad;

	like(error_of($node, "CREATE SERVER bad FOREIGN DATA WRAPPER cachekit OPTIONS ($options)"),
		$message, 'CREATE SERVER with ' . substr($options, 0, 60));
}
is(sql(q{SELECT count(*) FROM pg_foreign_server}), 0, 'options: no server is there');

# User mappings have nothing to say to Memcached. With the library in every session, and without.
sub mappings
{
	my ($what) = @_;
	my $refused = qr/server "\w+" cannot have a user mapping.*no authentication.*without a user mapping/s;

	create_server('one', q{kind 'memcached', host 'cache.invalid'});
	create_server('two', q{kind 'redis', host 'cache.invalid'});
	like(error_of($node, "CREATE USER MAPPING FOR PUBLIC SERVER one$_"), $refused,
		"$what: a user mapping" . ($_ ? ', with a password' : ''))
	  foreach '', q{ OPTIONS (user 'u', password 'p')};
	sql(q{CREATE USER MAPPING FOR PUBLIC SERVER two OPTIONS (password 'p')});
	like(error_of($node, q{ALTER SERVER two OPTIONS (SET kind 'memcached')}), $refused,
		"$what: another kind, with a user mapping");
	is(sql(q{SELECT srvoptions[1] FROM pg_foreign_server WHERE srvname = 'two'}), 'kind=redis',
		"$what: the kind stays");
	sql(q{DROP USER MAPPING FOR PUBLIC SERVER two; ALTER SERVER two OPTIONS (SET kind 'memcached')});
	like(error_of($node, q{ALTER SERVER two OPTIONS (ADD hosts 'a,b')}), qr/cannot be combined/,
		"$what: hosts besides a host");
	like(error_of($node, q{ALTER SERVER two OPTIONS (DROP host, ADD database '1')}),
		qr/invalid option "database"/, "$what: another kind's option");
	sql(q{DROP SERVER one, two});
	return;
}

mappings('preloaded');

# The port that it has by default; who has this name is nobody.
create_server('named', q{kind 'memcached', host 'cache.invalid'});
create_server('list', q{kind 'memcached', hosts ' one.invalid , two.invalid:11311,[::1]:1 ,/no/such/path'});
ok($node->poll_query_until('postgres', q{SELECT count(*) = 5 FROM cachekit.stat_hosts}), 'hosts: there are five');
is(sql(q{SELECT name, string_agg(host, ' ' ORDER BY host COLLATE "C") FROM cachekit.stat_hosts GROUP BY name ORDER BY name}),
	"list|/no/such/path [::1]:1 one.invalid:11211 two.invalid:11311\nnamed|cache.invalid:11211",
	'hosts: their names and ports');
sql(q{DROP SERVER named, list});
ok($node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM cachekit.stat_hosts}), 'hosts: all are dropped');

make_tables();

# --- IPv6, and a Unix socket ---

{
	my $six = MemcachedServer->new('six', '-l', '::1')->start;
	my $folder = PostgreSQL::Test::Utils::tempdir_short();
	my $unix = bless {}, 'Forked';
	my $value = '';
	my $socket;

	$unix->run_apart(sub { exec('memcached', '-s', "$folder/m", '-m', '8') or die "no memcached: $!"; });
	create_server('six', sprintf q{kind 'memcached', host '::1', port '%d', command_timeout '10s'}, $six->port);
	create_server('path', qq{kind 'memcached', host '$folder/m', command_timeout '10s'});
	attach('t', 'six');
	attach('u', 'path');
	ok(delivered($node, 'six'), 'IPv6: ready');
	ok(filled($node, $six, 't', 1), 'IPv6: filled');
	all_right($node, $six, 't', 'IPv6');
	ok(delivered($node, 'path'), 'a Unix socket: ready');
	ok($node->poll_query_until('postgres', q{SELECT cachekit.fetch('u', 1) IS NOT NULL AND
		(SELECT present FROM cachekit.inspect('u', 1))}), 'a Unix socket: filled');
	$socket = IO::Socket::UNIX->new("$folder/m") or die "could not connect to $folder/m: $!";
	print $socket "get postgres:u:1\r\nquit\r\n";
	$socket->flush;
	$value .= $_ while <$socket>;
	like($value, qr/^VALUE postgres:u:1 0 \d+\r\n\Q{"v": 0, "id": 1}\E\r\nEND/, 'a Unix socket: the document');
	is(sql(q{SELECT host FROM cachekit.stat_hosts WHERE name = 'path'}), "$folder/m", 'a Unix socket: its name');
	sql(q{DROP SERVER six, path CASCADE});
	$unix->stop;
	$six->kill9;
}

# --- three hosts ---

my $ring = MemcachedRing->new('ring', 4, '-m', '64', '-e', 'memory');
my @all = $ring->hosts;
my $options = q{command_timeout '2s', breaker_reset '50ms', breaker_threshold '2'};
my ($what, %place);

# Those of them that the server has.
sub use_hosts
{
	my @hosts = @all[@_];

	$ring = bless { host => [@hosts] }, 'MemcachedRing';
	return $ring->address;
}

sub host_stat
{
	my ($host, $column) = @_;

	return sql(sprintf q{SELECT %s FROM cachekit.stat_hosts WHERE name = 'hot' AND host = '%s'}, $column,
		$host->address);
}

sub wait_for_host
{
	my ($host, $condition) = @_;

	return 1 if $node->poll_query_until('postgres', sprintf(
		q{SELECT bool_and(%s) FROM cachekit.stat_hosts WHERE name = 'hot' AND host = '%s'}, $condition,
		$host->address));
	diag(sql(q{SELECT * FROM cachekit.stat_hosts}));
	return 0;
}

sub change_all { sql('UPDATE t SET v = v + 1'); return; }

# For each row the numbers of the hosts that have its document.
sub places
{
	my %places = map { $_ => '' } 1 .. $rows;

	foreach my $n (grep { $ring->host($_)->pid } 0 .. $ring->hosts - 1)
	{
		my @values = $ring->host($n)->values_of(map { "postgres:t:$_" } 1 .. $rows);

		$places{$_} .= $n foreach grep { $values[ $_ - 1 ] ne '' } 1 .. $rows;
	}
	return %places;
}

# Fetch all until those that have a place have their document there.
sub fill_all
{
	my ($count) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my %places;
	my $found;

	foreach my $attempt (1 .. 5 * $PostgreSQL::Test::Utils::timeout_default)
	{
		sql(q{SELECT count(cachekit.fetch('t', id)) FROM t});
		%places = places();
		$found = grep { $_ ne '' } values %places;
		last if $found >= ($count // $rows);
	}
	is($found, $count // $rows, "$what: filled");
	is(join(' ', grep { length > 1 } values %places), '', "$what: no document is on two hosts");
	return %places;
}

sub no_wrong_fetch
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return is(sql(q{SELECT count(*) FROM t WHERE cachekit.fetch('t', id) IS DISTINCT FROM to_jsonb(t)}), 0,
		"$what: every fetch is the table's");
}

# Ready, all delivered, all compared, all filled again.
sub right_again
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	ok(delivered($node, 'hot'), "$what: ready, and all is delivered");
	all_right($node, $ring, 't', $what);
	my %now = fill_all();
	all_right($node, $ring, 't', "$what, filled");
	return %now;
}

sub keys_of { my ($n) = @_; return grep { $place{$_} eq $n } 1 .. $rows; }

# As many slots and as many senders as there are hosts.
sub left
{
	my ($n) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	foreach my $count (
		[ 'slots', q{pg_replication_slots WHERE slot_name LIKE 'cachekit%'} ],
		[ 'senders', q{pg_stat_activity WHERE backend_type = 'cachekit sender'} ])
	{
		ok($node->poll_query_until('postgres', "SELECT count(*) = $n FROM $count->[1]"),
			"$what: $n $count->[0]");
	}
	return;
}

$what = 'three hosts';
$ring->start;
create_server('hot', sprintf q{kind 'memcached', hosts '%s', %s}, use_hosts(0, 1, 2), $options);
attach('t', 'hot');
ok(delivered($node, 'hot'), "$what: ready");
left(3);
is(sql(q{SELECT count(*) FROM cachekit.stat_hosts}) . sql(q{SELECT count(*) FROM cachekit.stat_servers})
	  . sql(q{SELECT count(*) FROM cachekit.servers}), '311', "$what: rows of the views");
is(sql(q{SELECT host, state, breaker FROM cachekit.stat_hosts ORDER BY host}),
	join("\n", map { $_->address . '|ready|closed' } sort { $a->port <=> $b->port } $ring->hosts),
	"$what: stat_hosts");
%place = fill_all();
cmp_ok(scalar keys_of($_), '>', $rows / 10, "$what: a part of them on host $_") foreach 0 .. 2;
all_right($node, $ring, 't', $what);
is(sql(q{SELECT tier, present FROM cachekit.inspect('t', 1)}), 'hot|t', "$what: inspect");
is(sql(q{SELECT * FROM cachekit.health()}), '', "$what: health has nothing to say");
{
	my @hits = map { host_stat($_, 'read_hits') } $ring->hosts;
	my ($hits, $total) = map { server_stat($node, 'hot', $_) } 'read_hits', 'acknowledged';

	sql(q{SELECT count(cachekit.fetch('t', id)) FROM t});
	is(host_stat($ring->host($_), 'read_hits') - $hits[$_], scalar keys_of($_), "$what: host $_ is asked for its keys")
	  foreach 0 .. 2;
	is(server_stat($node, 'hot', 'read_hits') - $hits, $rows, "$what: stat_servers is their sum");
	change_all();
	ok(delivered($node, 'hot'), "$what: delivered");
	is(server_stat($node, 'hot', 'acknowledged') - $total, $rows, "$what: each key is deleted once");
	is(join('', values %{ { places() } }), '', "$what: no document is left");
}

# --- one of them dies, or freezes ---

foreach my $way ('killed', 'frozen')
{
	my $n = $way eq 'killed' ? 1 : 2;
	my $host = $ring->host($n);
	my @others = grep { $_ != $n } 0 .. 2;
	my (@hits, @reconnects);

	$what = $way;
	right_again();
	@reconnects = map { host_stat($ring->host($_), 'reconnects') } @others;
	$way eq 'killed' ? $host->kill9 : $host->signal('STOP');
	change_all();
	no_wrong_fetch();
	ok(wait_for_host($host, q{state <> 'ready' AND breaker <> 'closed' AND last_error IS NOT NULL}),
		"$what: its breaker is open");
	is(join(' ', map { host_stat($ring->host($_), q{state || breaker}) } @others), 'readyclosed readyclosed',
		"$what: the others are ready");
	like(server_stat($node, 'hot', q{breaker || ' ' || state}), qr/^(open|half-open) connecting$/,
		"$what: stat_servers says the worst");
	is(sql(q{SELECT count(*) FROM cachekit.health()}), 1, "$what: one row of health()");
	like(sql(q{SELECT severity || ': ' || subject || ': ' || problem FROM cachekit.health()}),
		qr/^warning: server hot \(\Q@{[ $host->address ]}\E\): it is not used: state connecting, /, "$what: it names the host");
	is(sql(q{SELECT cachekit.wait_for_delivery('1ms')}), 'f', "$what: nothing is delivered there");
	{
		my $three = $ring;

		# a frozen one cannot be asked
		$ring = bless { host => [ map { $three->host($_) } @others ] }, 'MemcachedRing';

		ok(wait_for_host($_, 'lag_bytes = 0'), "$what: the others get the changes") foreach $ring->hosts;
		fill_all($rows - keys_of($n));
		@hits = map { host_stat($_, 'read_hits') } $ring->hosts;
		is(sql(q{SELECT count(cachekit.fetch('t', id)) FROM t}), $rows, "$what: all is fetched");
		is(join(' ', map { host_stat($ring->host($_), 'read_hits') - $hits[$_] } 0, 1),
			join(' ', map { scalar keys_of($_) } @others), "$what: the others are read");
		is(join(' ', map { $ring->hosts_of("postgres:t:$_") } keys_of($n)), '',
			"$what: the others have none of its keys");
		all_right($node, $ring, 't', "$what, on the others");
		change_all();
		ok(wait_for_host($_, 'lag_bytes = 0'), "$what: and further changes") foreach $ring->hosts;
		all_right($node, $ring, 't', "$what, on the others after further changes");
		$ring = $three;
	}
	$way eq 'killed' ? $host->start : $host->signal('CONT');
	is_deeply({ right_again() }, \%place, "$what: each document is on the host where it was");
	is(join(' ', map { host_stat($ring->host($_), 'reconnects') } @others), "@reconnects",
		"$what: the others have not noticed");
}

# --- one comes back with what it had ---

foreach my $how ('resumes', 'flushes')
{
	my $host = $ring->host(0);
	my ($count, $offset);

	$what = "old data, $how";
	right_again();
	$host->stop;
	$host->keep_memory('old');
	$host->start;
	right_again();
	change_all();
	right_again();
	$host->stop;
	change_all();
	if ($how eq 'flushes')
	{
		sql(q{ALTER SYSTEM SET cachekit.max_wal_retention = '1MB'});
		$node->reload;
		sql(q{CREATE TABLE filler AS SELECT repeat('x', 1000) FROM generate_series(1, 5000); DROP TABLE filler});
	}
	$host->restore_memory('old');
	$count = host_stat($host, $how);
	$offset = -s $node->logfile;
	$host->start;
	is(scalar(grep { $_ ne '' } $host->values_of('postgres:cachekit')), 1, "$what: it has a marker")
	  if $how eq 'resumes';
	ok(wait_for_host($host, "state = 'ready' AND $how > $count"), "$what: that is what becomes of it");
	is_deeply({ right_again() }, \%place, "$what: each document is on the host where it was");
	if ($how eq 'flushes')
	{
		like(log_lines($node, qr/flushing namespace/, $offset), qr/max_wal_retention|no longer there/, "$what: why");
		sql(q{ALTER SYSTEM RESET cachekit.max_wal_retention});
		$node->reload;
	}
}

# --- other hosts ---

# The hosts of the server from now on.
sub set_hosts
{
	my (@numbers) = @_;

	sql(sprintf q{ALTER SERVER hot OPTIONS (SET hosts '%s')}, use_hosts(@numbers));
	return right_again();
}

$what = 'a host more';
%place = set_hosts(0 .. 3);
cmp_ok(scalar keys_of(3), '>', $rows / 10, "$what: it has its part");
left(4);
$what = 'a host less';
set_hosts(0, 2, 3);
left(3);
ok($all[1]->get('postgres:t:' . (keys_of(1))[0]), "$what: it still has documents");
change_all();
right_again();
change_all();
$what = 'the host again';
is_deeply({ set_hosts(0 .. 3) }, \%place, "$what: each document is where it was");
left(4);
$what = 'another order of hosts';
set_hosts(3, 1, 2, 0);
$what = 'another distribution';
sql(q{ALTER SERVER hot OPTIONS (ADD distribution 'ketama_weighted')});
right_again();
change_all();
right_again();
change_all();
$what = 'and back';
sql(q{ALTER SERVER hot OPTIONS (DROP distribution)});
is_deeply({ set_hosts(0 .. 3) }, \%place, "$what: each document is where it was");
$what = 'one host';
set_hosts(2);
left(1);
change_all();
right_again();
set_hosts(0 .. 2);
left(3);

# --- TTLs ---

sql(q{SELECT cachekit.attach('t', ttl => '100 s')});
ok(delivered($node, 'hot') && filled($node, $ring, 't', 1), 'ttl: filled');
{
	my $ttl = $ring->ttl_of('postgres:t:1');

	ok($ttl > 0 && $ttl <= 101, "ttl: $ttl is within it");
}
sql(q{SELECT cachekit.attach('t', ttl => 'infinity')});
ok(delivered($node, 'hot') && filled($node, $ring, 't', 1), 'ttl infinity: filled');
is($ring->ttl_of('postgres:t:1'), -1, 'ttl infinity: none');

# --- what a flush takes with it, on one host ---

my $alone = MemcachedServer->new('alone')->start;

create_server('alone', $alone->server_options . q{, flush_method 'scan', command_timeout '10s'});
$alone->set('stranger', 'mine');
$alone->set('postgresql:t:1', 'mine');
foreach my $method ('scan', 'flush_all')
{
	my $stays = $method eq 'scan' ? 'mine mine' : '';

	$what = $method;
	attach($_, 'alone') foreach 't', 'u';
	ok(delivered($node, 'alone'), "$what: ready");
	foreach my $flush (
		[ q{SELECT cachekit.flush('t')}, 'flush' ],
		[ qq{BEGIN; TRUNCATE t; INSERT INTO t SELECT g, -1 FROM generate_series(1, $rows) AS g; COMMIT}, 'TRUNCATE' ],
		[ q{ALTER TABLE t ADD COLUMN w int DEFAULT 7}, 'ALTER TABLE' ],
		[ q{ALTER TABLE t DROP COLUMN w}, 'ALTER TABLE again' ],
		[ q{SELECT cachekit.detach('t')}, 'detach' ])
	{
		my ($sql, $name) = @$flush;

		ok(filled($node, $alone, 't', 1) && filled($node, $alone, 'u', 2), "$what, $name: filled");
		sql($sql);
		ok(delivered($node, 'alone'), "$what, $name: delivered");
		is($alone->get('postgres:t:1'), undef, "$what, $name: the document goes");
		is(defined $alone->get('postgres:u:2') ? 'stays' : 'goes', $method eq 'scan' ? 'stays' : 'goes',
			"$what, $name: what becomes of another entity's");
		is(join(' ', grep { $_ ne '' } $alone->values_of('stranger', 'postgresql:t:1')), $stays,
			"$what, $name: what becomes of a stranger's");
		all_right($node, $alone, 'u', "$what, $name");
		ok(filled($node, $alone, 'u', 3), "$what, $name: and filled");
	}
	sql(q{ALTER SERVER alone OPTIONS (DROP flush_method)}) if $method eq 'scan';
}
is(sql(q{SELECT srvoptions FROM pg_foreign_server WHERE srvname = 'alone'}) =~ /flush_method/ ? 1 : 0, 0,
	'flush_all is the default');

# --- two servers at one host ---

$what = 'two at one host';
create_server('second', $alone->server_options . q{, namespace 'second'});
ok(wait_for_server($node, 'second', q{state = 'refused'}), "$what: the second is refused");
is(server_stat($node, 'alone', 'state'), 'ready', "$what: the first is ready");
like(sql(q{SELECT subject || ': ' || problem || ' ' || hint FROM cachekit.health()}),
	qr/^server second: it is not used: state refused, server "alone" of this database has the same host there.*flush_method ''?scan/,
	"$what: health");
is(sql(q{SELECT cachekit.wait_for_delivery('60s')}), 'f', "$what: nothing is delivered to it");
sql(q{ALTER SERVER second OPTIONS (ADD flush_method 'scan')});
ok(wait_for_server($node, 'second', q{state = 'refused'}), "$what: one that scans is not enough");
sql(q{ALTER SERVER alone OPTIONS (ADD flush_method 'scan')});
ok(delivered($node, 'second') && delivered($node, 'alone'), "$what: both scan, both are ready");
attach('t', 'second');
ok(delivered($node, 'second'), "$what: delivered");
ok(filled($node, $alone, 't', 1) && filled($node, $alone, 'u', 1), "$what: both are filled");
sql(q{SELECT cachekit.flush('t')});
ok(delivered($node, 'second'), "$what: a flush");
is(join(' ', map { $alone->exists($_) ? 1 : 0 } 'second:t:1', 'postgres:u:1'), '0 1', "$what: it is one's own");
all_right($node, $alone, $_, $what) foreach 't', 'u';
sql(q{ALTER SERVER second OPTIONS (SET namespace 'postgres')});
ok(wait_for_server($node, 'second', q{state = 'refused'}), "$what: one namespace is refused");
like(sql(q{SELECT problem FROM cachekit.health()}), qr/same namespace/, "$what: one namespace: health");
# a host that is one of several
sql(sprintf q{ALTER SERVER second OPTIONS (DROP host, DROP port, ADD hosts '%s', SET namespace 'second', DROP flush_method)},
	join(',', $all[3]->address, $alone->address));
ok(wait_for_server($node, 'second', q{state = 'refused'}), "$what: one of several hosts is refused");
sql(q{DROP SERVER second CASCADE; DROP SERVER alone CASCADE});

# --- hosts that will not do ---

foreach my $bad ([ '-C', 'CAS', 0 ], [ '-F', 'flush_all', 1 ])
{
	my ($option, $word, $can_scan) = @$bad;
	my $host = MemcachedServer->new("without_$word", $option)->start;

	$what = "without $word";
	create_server('bad', $host->server_options);
	attach('u', 'bad');
	ok(wait_for_server($node, 'bad', "last_error LIKE '%$word%switched off ($option)'"), "$what: last_error")
	  or diag(server_stat($node, 'bad', 'last_error'));
	like(sql(q{SELECT problem FROM cachekit.health() WHERE subject = 'server bad'}), qr/\($option\)$/, "$what: health");
	is(sql(q{SELECT count(*) FROM u WHERE cachekit.fetch('u', id) IS DISTINCT FROM to_jsonb(u)}), 0,
		"$what: every fetch is the table's");
	is(join(' ', $host->keys_like('postgres:*')), '', "$what: nothing is put there");
	if ($can_scan)
	{
		sql(q{ALTER SERVER bad OPTIONS (ADD flush_method 'scan')});
		ok(delivered($node, 'bad') && filled($node, $host, 'u', 1), "$what: it can be scanned");
	}
	sql(q{DROP SERVER bad CASCADE});
	$host->kill9;
}

# --- the end of servers with three hosts, while they are busy ---

my $script = $node->basedir . '/busy.sql';
append_to_file($script, qq{
\\set id random(1, $rows)
UPDATE t SET v = v + 1 WHERE id BETWEEN :id AND :id + 5;
SELECT count(cachekit.fetch('t', g)) FROM generate_series(1, 20) AS g;
});

sub start_load
{
	my ($db) = @_;
	my $out = '';
	my $load = IPC::Run::start([ 'pgbench', '-n', '-c', '2', '-T', '600', '-f', $script, '-h', $node->host, '-p', $node->port,
			$db ], '>&', \$out);

	wait_for_server($node, 'hot', 'sent > 500', $db) or die "$what: nobody is busy";
	return $load;
}

foreach my $end ('DROP SERVER hot CASCADE', 'DROP EXTENSION cachekit CASCADE', 'DROP DATABASE shop WITH (FORCE)')
{
	my $db = $end =~ /shop/ ? 'shop' : 'postgres';
	my $load;

	$what = $end;
	if ($db eq 'shop')
	{
		sql('CREATE DATABASE shop');
		sql('CREATE EXTENSION cachekit', $db);
		make_tables($db);
	}
	create_server('hot', sprintf(q{kind 'memcached', hosts '%s', %s}, use_hosts(0 .. 2), $options), $db)
	  if $end !~ /SERVER/;
	attach('t', 'hot', $db);
	sql('SELECT cachekit.stat_reset()', $db);
	ok(delivered($node, 'hot', $db), "$what: ready before");
	left(3);
	$load = start_load($db);
	sql($end);
	left(0);
	$load->kill_kill;
}

# --- without the library ---

$node->append_conf('postgresql.conf', q{shared_preload_libraries = ''});
$node->restart;
sql(q{CREATE EXTENSION cachekit});
mappings('not preloaded');
$node->stop;
is(log_lines($node, qr/PANIC:|TRAP:|terminated by signal/), '', 'nobody crashed');
done_testing();
