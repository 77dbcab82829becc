# The history checker with a ring of three Memcacheds, and with a Redis and a Memcached at once, to
# which something happens every second: every read must be right, those of sessions that ask
# Memcached themselves included, and so must every document that is there at the end. What a read
# must be, and what happens to the servers, is said in test/checker/README.md.

use strict;
use warnings FATAL => 'all';

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

# The servers listen on sockets below $TMPDIR, whose name must be short.
local $ENV{TMPDIR} = PostgreSQL::Test::Utils::tempdir_short;

# A run, which must find no fault; its numbers by their names.
sub check
{
	my ($what, @options) = @_;
	my $out = '';
	my $right = IPC::Run::run(
		[ "$build/checker", '--conninfo', $node->connstr('checked'), '--progress', 0, '--async=50',
			@options ],
		'>', \$out, '2>&1', IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	my %number = $out =~ /^(\S.*?) +(\d+)(?:  \(.*)?$/mg;

	ok($right, "$what: the checker finds no fault") or diag($out);
	is($number{violations}, 0, "$what: no violation");
	cmp_ok($number{'reads checked'}, '>', 1000, "$what: many reads were checked");
	cmp_ok($number{'answered by Memcached'}, '>', 20, "$what: some were answered by Memcached");
	cmp_ok($number{'read from Memcached'}, '>', 100, "$what: documents were read from there");
	cmp_ok($number{'documents in Memcached'}, '>', 0, "$what: there were documents to compare");
	diag(sprintf("$what, seed %s: %s", $out =~ /^seed (\d+)/, join ', ',
			map { "$_ " . ($number{$_} // 'none') } 'reads checked', 'answered by Redis',
			'answered by Memcached', 'read from Memcached', 'faults of Memcached'));
	return %number;
}

my %ring = check('a ring', '--seconds', 8, '--memcached=3', '--memcached-faults', 1, '--no-local');
cmp_ok($ring{'faults of Memcached'}, '>', 1, 'a ring: something happened to it');

my %both = check('both kinds', '--seconds', 8, '--memcached', '--redis', '--memcached-faults', 2,
	'--redis-faults', 2);
cmp_ok($both{'answered by Redis'}, '>', 20, 'both kinds: some reads were answered by Redis');
cmp_ok($both{'documents in Redis'}, '>', 0, 'both kinds: there were documents to compare');

$node->stop;
is(log_lines($node, qr/PANIC:|TRAP:|signal (6|7|8|11):/), '', 'nobody crashed');
done_testing();
