# The history checker against a server of our own: first with DDL under the load, then with a
# server that is killed again and again. Every read must be right, and enough of them must come from
# the cache, or little was tested. What a read must be is said in test/checker/README.md.

use strict;
use warnings;

use Cwd qw(realpath);
use File::Copy;
use FindBin;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);
use CacheKit;

# --- the program, built where we may write ---

my $source = "$FindBin::RealBin/../checker";
my $build = PostgreSQL::Test::Utils::tempdir;

copy($_, $build) or die "could not copy $_: $!" foreach (glob("$source/*.[ch]"), "$source/Makefile");
system_or_bail('make', '-s', '-C', $build);

my $node = new_node('main');
$node->append_conf(
	'postgresql.conf', q{
	max_connections = 60
	restart_after_crash = on
	deadlock_timeout = 100ms
	});
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE checked');

# The checker on that server, started; its output comes line by line.
sub start_checker
{
	my (@options) = @_;
	my %checker = (out => '', timer => IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));

	$checker{run} = IPC::Run::start(
		[ "$build/checker", '--conninfo', $node->connstr('checked'), @options ],
		'>', \$checker{out}, '2>&1', $checker{timer});
	return \%checker;
}

# A number from the checker's report; without that line, there is no report.
sub reported
{
	my ($checker, $line) = @_;

	return $checker->{out} =~ /^\Q$line\E +(\d+)/m ? $1 : -1;
}

# The end of a checker: all was right, and enough of it was tested.
sub judge
{
	my ($checker, $what, $least) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $right = $checker->{run}->finish;
	my ($reads, $hits) = map { reported($checker, $_) } ('reads checked', 'served from the cache');

	ok($right, "$what: the checker finds no fault") or diag($checker->{out});
	is(reported($checker, 'violations'), 0, "$what: no violation");
	diag("$what: $reads reads checked, $hits served from the cache, "
		  . reported($checker, 'transactions committed') . ' transactions committed');
	cmp_ok($reads, '>', $least, "$what: many reads were checked");
	cmp_ok($hits, '>', $reads / 20, "$what: many of them were served from the cache");
	return;
}

# --- DDL under the load ---

my $checker = start_checker('--seconds', 15, '--ddl', 200, '--progress', 0);
judge($checker, 'DDL', 10000);
cmp_ok(reported($checker, 'DDL steps'), '>', 10, 'DDL: there was some');

# --- a server that is killed again and again ---

# Kill the postmaster. Its children end by themselves; until the last is gone, it cannot be started.
sub kill_postmaster
{
	my $data = realpath($node->data_dir);
	my ($postmaster) = slurp_file("$data/postmaster.pid") =~ /^(\d+)/;

	$node->kill9;
	while (kill(0, $postmaster) || grep { (readlink($_) // '') eq $data } glob('/proc/[0-9]*/cwd'))
	{
		die 'the processes of a killed server do not end' if $checker->{timer}->is_expired;
		usleep(10_000);
	}
	$node->start;
	return;
}

# Kill one of its children, whichever, upon which it restarts by itself.
sub kill_child
{
	my $pid;

	$node->poll_query_until('postgres', 'SELECT true') or die 'the server is not there';
	$pid = $node->safe_psql('postgres',
		'SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid() ORDER BY random() LIMIT 1');
	kill('KILL', $pid);
	return;
}

# After every third second of work, by turns.
$checker = start_checker('--seconds', 20, '--survive', '--progress', 1);
my $kills = 0;
while ($checker->{run}->pumpable)
{
	my $seconds = () = $checker->{out} =~ /^progress:/mg;

	if ($seconds >= 3 * ($kills + 1))
	{
		$kills++;
		$kills % 2 ? kill_postmaster() : kill_child();
	}
	$checker->{run}->pump;
}
judge($checker, 'crashes', 5000);
cmp_ok(reported($checker, 'outages survived'), '>=', 3, 'crashes: there were some');

$node->poll_query_until('postgres', 'SELECT true') or die 'the server is not there';
$node->stop;
is(log_lines($node, qr/PANIC:|TRAP:|signal (6|7|8|11):/), '', 'no process ended in another way');
done_testing();
