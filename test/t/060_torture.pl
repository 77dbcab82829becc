# The history checker while faults are injected: each kind once, in an order that a fixed seed
# gives, so that a failure can be had again. Then a run with a guard switched off, in which it must
# find something. What the faults are is said in test/torture/README.md; longer runs are
# "make torture".

use strict;
use warnings FATAL => 'all';

use File::Copy;
use FindBin;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

my $source = "$FindBin::RealBin/../checker";
my $build = PostgreSQL::Test::Utils::tempdir;

copy($_, $build) or die "could not copy $_: $!"
  foreach (glob("$source/*.[ch]"), "$source/Makefile");
system_or_bail('make', '-s', '-C', $build);

# A run; its exit status, and what it has printed. Its clusters and its logs are beside ours.
sub torture
{
	my ($name, @options) = @_;
	my $out = '';
	local $ENV{TESTDIR} = "$PostgreSQL::Test::Utils::tmp_check/$name";
	local $ENV{TESTDATADIR} = "$ENV{TESTDIR}/data";
	local $ENV{TESTLOGDIR} = "$ENV{TESTDIR}/log";
	my $run;

	mkdir($_) foreach $ENV{TESTDIR}, $ENV{TESTDATADIR};
	$run = IPC::Run::start(
		[ $^X, "$FindBin::RealBin/../torture/torture.pl", '--checker', "$build/checker", @options ],
		'>', \$out, '2>&1', IPC::Run::timeout(3 * $PostgreSQL::Test::Utils::timeout_default));
	$run->finish;
	return ($run->full_result(0) >> 8, $out);
}

# A number of its report.
sub reported
{
	my ($out, $line) = @_;

	return $out =~ /^\Q$line\E +(\d+)/m ? $1 : -1;
}

my ($status, $list) = torture('list', '--list');
my @kinds = split(/\n/, $list);

cmp_ok(scalar @kinds, '>', 30, 'there are many kinds of faults');

# --- each kind once, one after the other ---

my ($verdict, $out) = torture('all', '--seed', 1, '--faults', scalar @kinds, '--double', 0,
	'--pause', 0.3, '--rest', 10);
my %runs = $out =~ /^\| ([a-z-]+) \| (\d+) \| \d+ \| \d+ \|$/mg;

is($verdict, 0, 'all faults: nothing was wrong') or diag($out);
is(join(' ', grep { !$runs{$_} } @kinds), '', 'all faults: each was injected');
like($out, qr/^summary: .* 0 violations$/m, 'all faults: no violation');
cmp_ok(reported($out, 'reads checked'), '>', 20000, 'all faults: many reads were checked');
cmp_ok(reported($out, 'outages survived'), '>', 5, 'all faults: PostgreSQL was away now and then');
cmp_ok(reported($out, 'answered by Redis'), '>', 1000, 'all faults: Redis answered reads');
cmp_ok(reported($out, 'answered by Memcached'), '>', 500, 'all faults: Memcached answered reads');
cmp_ok(reported($out, "documents in $_"), '>', 0, "all faults: there were documents in $_ to compare")
  foreach 'Redis', 'Memcached';
diag($out =~ /^(summary: .*)/m);

# --- it can fail: without the nonce, what a clone stores is taken for ours ---

($verdict, $out) = torture('mutant', '--seed', 1, '--faults', 2, '--only', 'clone',
	'--disable', 'owner-nonce', '--refresh', 'no', '--local', 'off');
is($verdict, 1, 'guard off: something was wrong') or diag($out);
like($out, qr/VIOLATION unknown value/, 'guard off: a read saw what nobody had written');
like($out, qr/^replay: .*--seed 1 .*--disable owner-nonce/m, 'guard off: it says how to replay it');

done_testing();
