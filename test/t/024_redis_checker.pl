# The history checker with a Redis, to which something happens every second: every read must be
# right, and so must every document that Redis has at the end. What a read must be, and what happens
# to Redis, is said in test/checker/README.md.

use strict;
use warnings;

use File::Copy;
use FindBin;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use CacheKit;

my $source = "$FindBin::RealBin/../checker";
my $build = PostgreSQL::Test::Utils::tempdir;

copy($_, $build) or die "could not copy $_: $!"
  foreach (glob("$source/*.[ch]"), "$source/Makefile");
system_or_bail('make', '-s', '-C', $build);

my $node = new_node('main', allows_streaming => 1);
$node->append_conf(
	'postgresql.conf', q{
	max_connections = 60
	deadlock_timeout = 100ms
	});
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE checked');

# Redis listens on a socket below $TMPDIR, whose name must be short.
local $ENV{TMPDIR} = PostgreSQL::Test::Utils::tempdir_short;

my ($out, $right) = ('');
$right = IPC::Run::run(
	[ "$build/checker", '--conninfo', $node->connstr('checked'), '--seconds', 10, '--progress', 0,
		'--async=50', '--ddl', 500, '--redis', '--redis-faults', 1 ],
	'>', \$out, '2>&1', IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));

# A number from the report; without that line, there is no report.
sub reported
{
	my ($line) = @_;

	return $out =~ /^\Q$line\E +(\d+)/m ? $1 : -1;
}

ok($right, 'the checker finds no fault') or diag($out);
is(reported('violations'), 0, 'no violation');
cmp_ok(reported('reads checked'), '>', 5000, 'many reads were checked');
cmp_ok(reported('answered by Redis'), '>', 100, 'some were answered by Redis');
cmp_ok(reported('faults of Redis'), '>', 1, 'something happened to Redis');
cmp_ok(reported('documents in Redis'), '>', 0, 'there were documents to compare');
diag(sprintf('seed %s: %d reads checked, %d answered by Redis, %d faults', $out =~ /^seed (\d+)/,
		map { reported($_) } ('reads checked', 'answered by Redis', 'faults of Redis')));

$node->stop;
is(log_lines($node, qr/PANIC:|TRAP:|signal (6|7|8|11):/), '', 'nobody crashed');
done_testing();
