# torture.pl - the history checker, and one fault after the other
#
# Started by "run", or by the TAP test of the same name, in the environment that PostgreSQL's TAP
# modules expect. README.md says what each fault is, and how a run is replayed.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin";
use Getopt::Long;
use POSIX qw(strftime);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use Torture::CacheFaults;
use Torture::Chance;
use Torture::Checker;
use Torture::ClusterFaults;
use Torture::LifeFaults;
use Torture::World;

my $usage = <<'END';
Usage: sh test/torture/run [-d] [-k] [-c FILE] [OPTION...]

  --seconds N      how long faults are injected (600)
  --faults N       so many faults in place of a time
  --seed N         repeats the faults, their order, their parameters, the modes (default: the clock)
  --only A,B       only these faults
  --list           says which there are
  --double N       percentage of faults during which another one comes (20)
  --rest N         a comparison of everything after so many faults (5)
  --pause S        seconds of load after each fault, when all is well again (1)
  --refresh X      what a change does to documents: no, yes, absent (by the seed)
  --local X        a table in shared memory, too: on, off (by the seed)
  --async N        percentage of asynchronous commits (by the seed: 0 or 50)
  --disable A,B    guards that are off, in a debug build (none)
  --checker FILE   the program of the history checker, built before

Exit status: 0 nothing was wrong, 1 a violation, 2 the run could not be finished.
END

# Those that cachekit survives by its cluster's means can come while a cache or the way to it is
# broken; what happens to the caches themselves in them is their own.
my %can_be_second = map { $_ => 1 }
  qw(postmaster-kill backend-kill sender-kill launcher-kill terminate-all restart checkpoint
  alter-server drop-server promote-complete);
my %can_be_first = map { $_ => 1 } grep { $_ ne 'memcached-full' } keys %Torture::CacheFaults::faults;
my %faults = (%Torture::CacheFaults::faults, %Torture::ClusterFaults::faults, %Torture::LifeFaults::faults);

my %option = (seconds => 600, seed => time(), double => 20, rest => 5, pause => 1, disable => '');
my $out = Test::More->builder->output;    # STDOUT goes to a log
my (@kinds, $world, $checker);
my %account = map { $_ => { runs => 0, reads => 0, violations => 0 } } keys %faults;
my @blamed;       # the faults that what is read now is entered for
my %before;       # the checker's numbers when they began
my $own = 0;      # violations that were not the checker's, at that time

sub say_line
{
	my ($text) = @_;

	print $out strftime('%H:%M:%S ', localtime) . "$text\n";
	return;
}

sub main
{
	my $status = eval { prepare(); run_faults(); finish(); };

	if ($@)
	{
		chomp(my $why = $@);
		say_line("the run could not be finished: $why");
		print $out replay();
		$checker->kill if $checker;
		$status = 2;
	}
	return $status;
}

sub replay
{
	my @chosen = map { "--$_ $option{$_}" } grep { defined $option{$_} && $option{$_} ne '' }
	  qw(seed faults only double rest pause refresh local async disable);

	unshift @chosen, '-d' if $option{disable} ne '';
	return "replay: sh test/torture/run @chosen"
	  . (defined $option{faults} ? '' : " --seconds $option{seconds}") . "\n";
}

# --- the beginning ---

sub read_options
{
	GetOptions(
		\%option, 'seconds=i', 'faults=i', 'seed=i', 'only=s', 'list', 'double=i', 'rest=i', 'pause=f',
		'refresh=s', 'local=s', 'async=i', 'disable=s', 'checker=s', 'help')
	  && @ARGV == 0
	  or do { print STDERR $usage; exit 2; };
	if ($option{help}) { print $out $usage; exit 0; }
	if ($option{list}) { print $out "$_\n" foreach sort keys %faults; exit 0; }
	$option{seed} = int($option{seed});
	@kinds = defined $option{only} ? split(/,/, $option{only}) : sort keys %faults;
	foreach my $unknown (grep { !$faults{$_} } @kinds)
	{
		print STDERR "there is no fault \"$unknown\"; --list says which there are\n";
		exit 2;
	}
	return;
}

sub prepare
{
	my $chance = Torture::Chance->new($option{seed}, 'modes');
	my %mode = (
		refresh => $chance->one_of('no', 'yes', 'absent'),
		local => $chance->one_of('on', 'off'),
		async => $chance->one_of(0, 50));

	$option{$_} //= $mode{$_} foreach keys %mode;
	print $out "seed $option{seed}: refresh $option{refresh}, local tier $option{local}, "
	  . "$option{async} % of commits asynchronous"
	  . ($option{disable} ne '' ? ", guards off: $option{disable}" : '') . "\n";
	$world = Torture::World->new(
		$option{disable} ne '' ? "cachekit.debug_disable = '$option{disable}'" : ());
	die "guards can be switched off in a debug build only: run -d\n"
	  if $option{disable} ne '' && $world->sql(
		q{SELECT count(*) FROM pg_settings WHERE name = 'cachekit.debug_disable'}, 'postgres') eq '0';
	$checker = Torture::Checker->start(
		$option{checker} // die("--checker is missing\n"),
		[
			$world->checker_options, '--survive', '--progress', 0, '--seed', $option{seed},
			"--async=$option{async}", '--writers', 3, '--readers', 4, '--direct', 1, '--ddl', 150,
			# what is old must have time to be found
			'--keys', 600, '--truncate', 10_000,
			$option{refresh} eq 'no' ? () : $option{refresh} eq 'yes' ? '--refresh' : '--refresh=absent',
			$option{local} eq 'off' ? '--no-local' : ()
		],
		\&news);
	$world->use_checker($checker);
	$checker->order('hold ddl');
	# alter-server changes them, so they must be there
	$world->sql(qq{ALTER SERVER $_ OPTIONS (ADD connect_timeout '1s', ADD breaker_threshold '5')})
	  foreach 'ck_redis', 'ck_memcached';
	$world->wait_until_ready;
	%before = $checker->order('status');
	return;
}

# What the checker says by itself.
my @report;

sub news
{
	my ($line) = @_;

	push @report, $line;
	say_line("checker: $line") if $line =~ /^(?:VIOLATION|checker:|\(further)/;
	return;
}

# --- the faults ---

# What has been read and found since the last time is entered for the faults of that time; then
# these take their place.
sub settle_account
{
	my (@faults) = @_;
	my %now = $checker->order('status');
	my $reads = $now{reads} - $before{reads};
	my $found = $now{violations} - $before{violations} + $world->violations - $own;

	foreach my $fault (@blamed)
	{
		$account{$fault}{reads} += $reads;
		$account{$fault}{violations} += $found;
	}
	say_line("  $reads reads, $found violations") if @blamed;
	%before = %now;
	$own = $world->violations;
	@blamed = @faults;
	return;
}

# A deck is all kinds in some order; it is used up before the next one begins.
my (@deck, $decks);

sub draw
{
	my ($fits) = @_;

	@deck = Torture::Chance->new($option{seed}, 'deck', $decks++)->shuffled(@kinds) if !@deck;
	foreach my $i (0 .. $#deck)
	{
		return splice(@deck, $i, 1) if !$fits || $fits->{ $deck[$i] };
	}
	return;
}

my $injected = 0;

sub inject
{
	my ($fault) = @_;
	my $number = ++$injected;
	my $chance = Torture::Chance->new($option{seed}, 'fault', $number, $fault);

	$account{$fault}{runs}++;
	$faults{$fault}->($world, $chance, sub { say_line("$number $fault: $_[0]"); });
	return;
}

sub run_faults
{
	my $begin = time();
	my $more = sub {
		return defined $option{faults} ? $injected < $option{faults} : time() - $begin < $option{seconds};
	};

	for (my $round = 1; $more->(); $round++)
	{
		my $chance = Torture::Chance->new($option{seed}, 'round', $round);
		my $first = draw();
		my $second = $can_be_first{$first} && $chance->percent($option{double})
		  && @deck ? draw(\%can_be_second) : undef;

		settle_account($first, $second // ());
		$world->next_meanwhile($second ? sub { inject($second); } : undef);
		inject($first);
		# it may have left no time for the other one
		inject($second) if $world->next_meanwhile;
		$world->wait_until_ready;
		$world->release_direct;
		sleep($option{pause});
		$checker->order('rest') if $option{rest} && $round % $option{rest} == 0;
	}
	return;
}

# --- the end ---

sub finish
{
	my $found;

	settle_account();
	my $status = $checker->end;
	my %number = map { /^ *(\S.*?) +(\d+)(?:  \(.*)?$/ ? ($1 => $2) : () } @report;

	$world->violation("crash: $_") foreach $world->crashes;
	$found = ($number{violations} // die("the checker has ended with status $status:\n"
			  . join("\n", @report) . "\n")) + $world->violations;
	say_line("violation: $_") foreach $world->violations;
	print $out "\n", map { "$_\n" } grep { /^\S.* +\d/ && !/^(?:seed|outage \d|sender|VIOLATION|checker:)/ } @report;
	print $out "\n| fault | runs | reads checked | violations |\n|---|---:|---:|---:|\n";
	foreach my $fault (grep { $account{$_}{runs} } sort keys %account)
	{
		print $out '| ', join(' | ', $fault, @{ $account{$fault} }{qw(runs reads violations)}), " |\n";
	}
	print $out "| all | $injected | $number{'reads checked'} | $found |\n\n";
	print $out "summary: seed $option{seed}, $injected faults of "
	  . (grep { $account{$_}{runs} } keys %account)
	  . " kinds, $number{'reads checked'} reads checked, $found violations\n";
	print $out replay() if $found;
	die "the checker has ended with status $status\n" if $status > 1;
	return $found ? 1 : 0;
}

read_options();
exit(main());
