# pgbench's load on views that are cached as documents: cards of accounts and of branches, whose
# rows come from all of its tables. Every read must be right, and so must every document that a
# cache has at the end; and with a guard switched off, the same load must find faults. What a read
# must be is said in test/checker/README.md.

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
system_or_bail('make', '-s', '-C', $build, 'cards');

my $node = new_node('main', allows_streaming => 1);
$node->append_conf(
	'postgresql.conf', q{
	max_connections = 60
	deadlock_timeout = 100ms
	fsync = on
	log_statement = none
	});
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE cards');

# The servers listen on sockets below $TMPDIR, whose name must be short.
local $ENV{TMPDIR} = PostgreSQL::Test::Utils::tempdir_short;

# A run: its success, its output, and its numbers by their names.
sub run_cards
{
	my (@options) = @_;
	my $out = '';
	my $right = IPC::Run::run(
		[ "$build/cards", '--conninfo', $node->connstr('cards'), '--rate', 400, @options ],
		'>', \$out, '2>&1', IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	my %number = $out =~ /^ *(\S.*?) +(\d+)(?:  \(.*)?$/mg;

	return ($right, $out, %number);
}

# One that must find no fault, and in which enough has happened: the numbers that are given. On a slow
# machine that takes longer.
sub check
{
	my ($what, $enough, @options) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($right, $out, %number);
	my %least = ('reads checked' => 200, 'transactions of pgbench' => 50, %$enough);

	foreach my $seconds (2, 8, 32)
	{
		($right, $out, %number) = run_cards('--seconds', $seconds, '--round', $seconds > 2 ? 4 : 1, @options);
		last if !$right || !grep { ($number{$_} // 0) <= $least{$_} } keys %least;
	}
	ok($right, "$what: every read was right") or diag($out);
	is($number{violations}, 0, "$what: no violation");
	cmp_ok($number{$_}, '>', $least{$_}, "$what: $_") foreach sort keys %least;
	diag(sprintf("$what, seed %s: %s", $out =~ /^seed (\d+)/,
			join ', ', map { "$_ " . ($number{$_} // 'none') } 'reads checked',
			'transactions of pgbench', 'account_card local_hits', 'account_card server_hits',
			'account_card flushes', 'documents in Redis', 'documents in Memcached'));
	return %number;
}

my @servers = ('--redis', '--memcached');

foreach my $kind ('invalidate', 'refresh')
{
	my @options = ('--on-change', $kind);
	my %number = check("$kind, shared memory", {}, @options);

	cmp_ok($number{'account_card local_hits'}, '>', $number{'reads checked'} / 20,
		"$kind, shared memory: many reads were answered by it");

	foreach my $local (0, 1)
	{
		my $what = $kind . ', ' . ($local ? 'shared memory and servers' : 'servers only');
		my %least = map { ("documents in $_" => 100, $local ? () : ("answered by $_" => 50)) }
		  ('Redis', 'Memcached');

		%number = check($what, \%least, @options, @servers, $local ? () : '--no-local');
		cmp_ok($number{'account_card local_hits'}, '>', $number{'reads checked'} / 20,
			"$what: many reads were answered by the memory") if $local;
	}
}

# Who changes a branch has more keys than he may remember, and invalidates all of them.
check('whole entities', { 'account_card flushes' => 10 }, '--whole', '--on-change', 'refresh', @servers);

# Links that come while what they lead to is being changed: few documents can be stored meanwhile.
my @links = ('--links', '--accounts', 100, '--clients', 12);
check('links', { 'account_card local_hits' => 50 }, @links);

# The load finds what it should find, and then ends.
my %options = (
	'store-token' => [],
	'lower-generation' => [],
	'visible-removal' => [],
	'old-key' => [],
	'links' => [@links]);

foreach my $guard (sort keys %options)
{
	disable($node, $guard);
	my ($right, $out, %number) = run_cards('--seconds', 120, '--first', @{ $options{$guard} });

	ok(!$right && ($number{violations} // 0) > 0, "$guard off: that is found") or diag($out);
	diag("$guard off: " . ($number{'reads checked'} // 'no') . ' reads; '
		  . ($out =~ /^(VIOLATION .*?); \{/m ? $1 : $out));
}
disable($node, '');

$node->stop;
is(log_lines($node, qr/PANIC:|TRAP:|signal (6|7|8|11):/), '', 'nobody crashed');
done_testing();
