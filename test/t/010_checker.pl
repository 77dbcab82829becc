# The history checker against a server of our own: first with DDL under the load, then with guards
# switched off, which it must notice, then with a server that is killed again and again. Every read
# must be right, and enough of them must come from the cache, or little was tested. What a read must
# be is said in test/checker/README.md.

use strict;
use warnings;

use Cwd qw(realpath);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);
use CacheKit;
use HistoryChecker;

my $node = new_node('main');
$node->append_conf(
	'postgresql.conf', q{
	max_connections = 60
	restart_after_crash = on
	deadlock_timeout = 100ms
	});
$node->start;

my $checker = HistoryChecker->new($node);

# The end of a run: all was right, and enough of it was tested.
sub judge
{
	my ($run, $what, $least) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my %number = $checker->found_nothing($run, $what);
	my ($reads, $hits) = @number{ 'reads checked', 'served from the cache' };

	cmp_ok($reads, '>', $least, "$what: many reads were checked");
	cmp_ok($hits, '>', $reads / 20, "$what: many of them were served from the cache");
	cmp_ok($number{'of one moment'}, '>', $least / 50, "$what: some were of one moment");
	return %number;
}

# --- DDL under the load ---

my %ddl = judge($checker->start('--seconds', 12, '--ddl', 200, '--progress', 0), 'DDL', 8000);
cmp_ok($ddl{'DDL steps'}, '>', 10, 'DDL: there was some');

# --- what it should find ---

foreach my $guard ('store-token', 'lower-generation', 'own-xid', 'isolation')
{
	my %kind = ('own-xid' => qr/own change|rolled back|uncommitted|stale/, isolation => qr/snapshot/);

	disable($node, $guard);
	$checker->finds("$guard off", $kind{$guard} // qr/stale|backwards/);
}
disable($node, '');

# --- a server that is killed again and again ---

my $run;

# Kill the postmaster. Its children end by themselves; until the last is gone, it cannot be started.
sub kill_postmaster
{
	my $data = realpath($node->data_dir);
	my ($postmaster) = slurp_file("$data/postmaster.pid") =~ /^(\d+)/;

	$node->kill9;
	while (kill(0, $postmaster) || grep { (readlink($_) // '') eq $data } glob('/proc/[0-9]*/cwd'))
	{
		die 'the processes of a killed server do not end' if $run->{timer}->is_expired;
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
$run = $checker->start('--seconds', 20, '--survive', '--progress', 1);
my $kills = 0;
while ($run->{run}->pumpable)
{
	my $seconds = () = $run->{out} =~ /^progress:/mg;

	if ($seconds >= 3 * ($kills + 1))
	{
		$kills++;
		$kills % 2 ? kill_postmaster() : kill_child();
	}
	$run->{run}->pump;
}
my %crashes = judge($run, 'crashes', 5000);
cmp_ok($crashes{'outages survived'}, '>=', 3, 'crashes: there were some');

$node->poll_query_until('postgres', 'SELECT true') or die 'the server is not there';
$node->stop;
is(log_lines($node, qr/PANIC:|TRAP:|signal (6|7|8|11):/), '', 'no process ended in another way');
done_testing();
