# audit() finds what is wrong in each tier, nothing else, and says what it could not compare.

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use CacheKit;
use CacheServer;
use MemcachedServer;
use RedisServer;

my $keys = 1200;
my $redis = RedisServer->new('main')->start;
my $memcached = MemcachedServer->new('main')->start;
my $node = new_node('main', allows_streaming => 1);
$node->append_conf('postgresql.conf', "cachekit.fetch_timeout = '60s'");
$node->start;
$node->safe_psql(
	'postgres', qq{
	CREATE EXTENSION cachekit;
	CREATE TABLE t (id int PRIMARY KEY, v text);
	INSERT INTO t SELECT g, 'v' FROM generate_series(1, $keys) AS g;
	CREATE SERVER hot FOREIGN DATA WRAPPER cachekit OPTIONS (} . $redis->server_options . q{);
	CREATE SERVER mem FOREIGN DATA WRAPPER cachekit OPTIONS (} . $memcached->server_options . q{);
	SELECT cachekit.attach('t', servers => '{hot,mem}', negative_ttl => '1 h')});
ok(wait_until_ready($node, $_), "$_ is ready") foreach 'hot', 'mem';

# The differences, and the NOTICE.
sub audit
{
	my ($sample) = @_;
	my ($out, $err);

	$node->psql('postgres', "SELECT * FROM cachekit.audit('t', $sample) ORDER BY tier, key",
		stdout => \$out, stderr => \$err, on_error_die => 1);
	return ($out, $err =~ /NOTICE:\s+(.*)/ ? $1 : $err);
}

sub is_right
{
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($out, $notice) = audit('NULL');

	is($out, '', $what);
	is($notice, qq{audited $keys keys of "t": 0 differences (documents of local: $keys compared; hot: $keys compared; mem: $keys compared)},
		'and all has been compared');
	return;
}

sub all_cached
{
	foreach my $cache ($redis, $memcached)
	{
		foreach my $attempt (1 .. 50 * $PostgreSQL::Test::Utils::timeout_default)
		{
			last if $keys == grep { /:t:/ } $cache->keys_like('postgres:t:*');
			$node->safe_psql('postgres', q{CALL cachekit.warm('t', restart => true)}) if $attempt % 50 == 0;
			select(undef, undef, undef, 0.02);
		}
	}
	return;
}

$node->safe_psql('postgres', q{CALL cachekit.warm('t', restart => true)});
all_cached();
is_right('all is right');

# --- what somebody else has written ---

$redis->set('postgres:t:7', '{"id": 7, "v": "another"}');
$redis->set('postgres:t:8', 'nonsense');
$memcached->set('postgres:t:9', '{"id": 9, "v": 1.50}');
my ($found, $notice) = audit('NULL');
is($found, <<'END' =~ s/\n$//r, 'documents that a stranger has written are found');
7|hot|differs|{"v": "another", "id": 7}|{"v": "v", "id": 7}
8|hot|not a document||{"v": "v", "id": 8}
9|mem|differs|{"v": 1.50, "id": 9}|{"v": "v", "id": 9}
END
like($notice, qr/: 3 differences /, 'and counted');
$node->safe_psql('postgres', q{SELECT cachekit.invalidate('t', id) FROM t WHERE id IN (7, 8, 9)});
ok(delivered($node, $_), "$_ has been told") foreach 'hot', 'mem';
($found) = audit('NULL');
is($found, '', 'invalidating them mends it');

# --- what a fault of ours would leave ---

$node->safe_psql('postgres', q{SELECT cachekit.fetch('t', 10); SELECT cachekit.fetch('t', 5000);});
$node->safe_psql('postgres', q{
	SET cachekit.debug_disable = 'visible-removal';
	UPDATE t SET v = 'new' WHERE id = 10;
	INSERT INTO t VALUES (5000, 'new')});
($found) = audit('NULL');
is($found, <<'END' =~ s/\n$//r, 'what stays in the local tier is found');
10|local|differs|{"v": "v", "id": 10}|{"v": "new", "id": 10}
5000|local|cached as absent||{"v": "new", "id": 5000}
END
$node->safe_psql('postgres', q{DELETE FROM t WHERE id = 5000; SELECT cachekit.flush('t')});
ok(delivered($node, $_), "$_ has been told") foreach 'hot', 'mem';
($found) = audit('NULL');
is($found, '', 'a flush mends it');

# --- a sample, and a server that does not answer ---

$node->safe_psql('postgres', q{CALL cachekit.warm('t', restart => true)});
all_cached();
(undef, $notice) = audit(5);
is($notice, 'audited 5 keys of "t": 0 differences (documents of local: 5 compared; hot: 5 compared; mem: 5 compared)', 'a sample');
$redis->signal('STOP');
$node->safe_psql('postgres', q{ALTER SYSTEM SET cachekit.fetch_timeout = '20ms'; SELECT pg_reload_conf()});
(undef, $notice) = audit(5);
is($notice, 'audited 5 keys of "t": 0 differences (documents of local: 5 compared; hot: 0 compared, 5 could not be; mem: 5 compared)',
	'a server that does not answer');
$redis->signal('CONT');
$node->safe_psql('postgres', q{ALTER SYSTEM RESET cachekit.fetch_timeout; SELECT pg_reload_conf()});

# --- while everything changes ---

my $writer = session($node);
send_query($writer, q{
	DO $$ BEGIN FOR i IN 1 .. 100 LOOP UPDATE t SET v = i; COMMIT; PERFORM cachekit.fetch_many('t', ARRAY(SELECT id FROM t)); COMMIT; END LOOP; END $$});
my $wrong = '';
foreach my $time (1 .. 10)
{
	my ($out) = audit('NULL');

	$wrong .= $out;
}
is($wrong, '', 'nothing is wrong while all rows change again and again');
result($writer);
is(scalar(() = audit('NULL')), 2, 'and it answers afterwards');

$node->stop;
done_testing();
