# The history checker with a Redis, first to which something happens every second: every read must
# be right, those of sessions that ask Redis themselves included, and so must every document that it
# has at the end. Then COMMIT waits for it. Then guards are switched off, which must be noticed.
# What a read must be, and what happens to Redis, is said in test/checker/README.md.

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

# Redis listens on a socket below $TMPDIR, whose name must be short.
local $ENV{TMPDIR} = PostgreSQL::Test::Utils::tempdir_short;

my %faults = $checker->finds_nothing('faults', '--seconds', 10, '--async=50', '--ddl', 500,
	'--redis', '--redis-faults', 1);
cmp_ok($faults{'reads checked'}, '>', 5000, 'faults: many reads were checked');
cmp_ok($faults{'answered by Redis'}, '>', 100, 'faults: some were answered by Redis');
cmp_ok($faults{'direct_redis'}, '>', 500, 'faults: others were direct');
cmp_ok($faults{'faults of Redis'}, '>', 1, 'faults: there were some');
cmp_ok($faults{'documents in Redis'}, '>', 0, 'faults: there were documents to compare');

my %quiet = $checker->finds_nothing('quiet', '--seconds', 5, '--async=50', '--redis', '--no-local');
cmp_ok($quiet{'direct_redis'}, '>', 500, 'quiet: many reads were direct');
cmp_ok($quiet{'of one moment'}, '>', 100, 'quiet: some were of one moment');
cmp_ok($quiet{max_ms}{Redis} // -1, '>', 0, 'quiet: a direct read can be old');

my %waits = $checker->finds_nothing('COMMIT waits', '--seconds', 4, '--redis', '--no-local',
	'--synchronous');
cmp_ok($waits{'direct_redis'}, '>', 200, 'COMMIT waits: many reads were direct');

# Few keys, all of them in Redis only: between its answers there is time for a commit.
my @redis = ('--redis', '--no-local', '--async=50');

disable($node, 'fill-token');
$checker->finds('fill-token off, in SQL', qr/stale: .*fetch/, @redis, '--direct', 0);
$checker->finds('fill-token off, directly', qr/stale: .*GET from Redis/, @redis, '--readers', 2);
disable($node, 'consistent-set');
$checker->finds('consistent-set off', qr/torn set|two moments/, @redis, '--keys', 40);
disable($node, '');

$node->stop;
is(log_lines($node, qr/PANIC:|TRAP:|signal (6|7|8|11):/), '', 'nobody crashed');
done_testing();
