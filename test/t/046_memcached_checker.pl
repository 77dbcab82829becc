# The history checker with a ring of three Memcacheds, and with a Redis and a Memcached at once, to
# which something happens every second: every read must be right, those of sessions that ask
# cache servers themselves included, and so must every document that is there at the end. A guard
# that is switched off must be noticed. What a read must be, and what happens to the servers, is said
# in test/checker/README.md.

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use CacheKit;
use HistoryChecker;

my $node = new_node('main', allows_streaming => 1);
$node->append_conf(
	'postgresql.conf', q{
	max_connections = 60
	deadlock_timeout = 100ms
	});
$node->start;
my $checker = HistoryChecker->new($node);

# The servers listen on sockets below $TMPDIR, whose name must be short.
local $ENV{TMPDIR} = PostgreSQL::Test::Utils::tempdir_short;

sub check
{
	my ($what, @options) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my %number = $checker->finds_nothing($what, '--async=50', @options);

	cmp_ok($number{'reads checked'}, '>', 1000, "$what: many reads were checked");
	cmp_ok($number{'answered by Memcached'}, '>', 20, "$what: some were answered by Memcached");
	cmp_ok($number{direct_memcached}, '>', 100, "$what: documents were read from there");
	cmp_ok($number{'documents in Memcached'}, '>', 0, "$what: there were documents to compare");
	return %number;
}

my %ring = check('a ring', '--seconds', 8, '--memcached=3', '--memcached-faults', 1, '--no-local');
cmp_ok($ring{'faults of Memcached'}, '>', 1, 'a ring: something happened to it');

my %both = check('both kinds', '--seconds', 8, '--memcached', '--redis', '--memcached-faults', 2,
	'--redis-faults', 2);
cmp_ok($both{'answered by Redis'}, '>', 20, 'both kinds: some reads were answered by Redis');
cmp_ok($both{'documents in Redis'}, '>', 0, 'both kinds: there were documents to compare');
cmp_ok($both{direct_redis}, '>', 100, 'both kinds: documents were read from Redis');

disable($node, 'fill-token');
$checker->finds('fill-token off', qr/stale: .*(?:a get from host|fetch)/, '--async=50', '--memcached',
	'--no-local');
disable($node, '');

$node->stop;
is(log_lines($node, qr/PANIC:|TRAP:|signal (6|7|8|11):/), '', 'nobody crashed');
done_testing();
