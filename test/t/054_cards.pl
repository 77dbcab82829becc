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

# One that must find no fault.
sub check
{
	my ($what, @options) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($right, $out, %number) = run_cards(@options);

	ok($right, "$what: every read was right") or diag($out);
	is($number{violations}, 0, "$what: no violation");
	cmp_ok($number{'reads checked'}, '>', 200, "$what: many reads were checked");
	cmp_ok($number{'transactions of pgbench'}, '>', 50, "$what: much was changed");
	diag(sprintf("$what, seed %s: %s", $out =~ /^seed (\d+)/,
			join ', ', map { "$_ " . ($number{$_} // 'none') } 'reads checked',
			'transactions of pgbench', 'account_card local_hits', 'account_card server_hits',
			'account_card flushes', 'documents in Redis', 'documents in Memcached'));
	return %number;
}

my @servers = ('--redis', '--memcached');
my @seconds = ('--seconds', 2, '--round', 1);

foreach my $kind ('invalidate', 'refresh')
{
	my @options = ('--on-change', $kind, @seconds);
	my %number = check("$kind, shared memory", @options);

	cmp_ok($number{'account_card local_hits'}, '>', $number{'reads checked'} / 20,
		"$kind, shared memory: many reads were answered by it");

	foreach my $local (0, 1)
	{
		my $what = $kind . ', ' . ($local ? 'shared memory and servers' : 'servers only');

		%number = check($what, @options, @servers, $local ? () : '--no-local');
		cmp_ok($number{"documents in $_"}, '>', 100, "$what: there were documents in $_")
		  foreach ('Redis', 'Memcached');
		if ($local)
		{
			cmp_ok($number{'account_card local_hits'}, '>', $number{'reads checked'} / 20,
				"$what: many reads were answered by the memory");
		}
		else
		{
			cmp_ok($number{"answered by $_"}, '>', 50, "$what: some reads were answered by $_")
			  foreach ('Redis', 'Memcached');
		}
	}
}

# Who changes a branch has more keys than he may remember.
my %whole = check('whole entities', '--whole', '--on-change', 'refresh', @seconds, @servers);
cmp_ok($whole{'account_card flushes'}, '>', 10, 'whole entities: they were invalidated as such');

# Links that come while what they lead to is being changed: few documents can be stored meanwhile.
my @links = ('--links', '--accounts', 100, '--clients', 12);
my %links = check('links', @links, '--seconds', 3);
cmp_ok($links{'account_card local_hits'}, '>', 50, 'links: some reads were answered by the memory');

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
	my ($right, $out, %number) = run_cards('--seconds', 30, '--first', @{ $options{$guard} });

	ok(!$right && ($number{violations} // 0) > 0, "$guard off: that is found") or diag($out);
	diag("$guard off: " . ($number{'reads checked'} // 'no') . ' reads; '
		  . ($out =~ /^(VIOLATION .*?); \{/m ? $1 : $out));
}
disable($node, '');

$node->stop;
is(log_lines($node, qr/PANIC:|TRAP:|signal (6|7|8|11):/), '', 'nobody crashed');
done_testing();
