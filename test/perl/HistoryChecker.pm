# HistoryChecker.pm - runs the history checker (test/checker) and takes its report apart
#
#   my $checker = HistoryChecker->new($node);          # built; with a database of its own
#   my %number = $checker->finds_nothing('what', @options);
#   $checker->finds('what', qr/stale/, @options);      # with a guard off
#
# The numbers of a report have the names of its lines, as "reads checked"; those of its last line
# are beside them, as "direct_redis".
package HistoryChecker;

use strict;
use warnings FATAL => 'all';

use File::Copy;
use FindBin;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

sub new
{
	my ($class, $node) = @_;
	my $source = "$FindBin::RealBin/../checker";
	my $build = PostgreSQL::Test::Utils::tempdir;

	copy($_, $build) or die "could not copy $_: $!"
	  foreach (glob("$source/*.[ch]"), "$source/Makefile");
	system_or_bail('make', '-s', '-C', $build);
	$node->safe_psql('postgres', 'CREATE DATABASE checked');
	return bless { program => "$build/checker", node => $node }, $class;
}

# Started; the output comes line by line into {out}.
sub start
{
	my ($self, @options) = @_;
	my %run = (out => '', timer => IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));

	$run{run} = IPC::Run::start(
		[ $self->{program}, '--conninfo', $self->{node}->connstr('checked'), @options ],
		'>', \$run{out}, '2>&1', $run{timer});
	return \%run;
}

# The numbers of a report.
sub numbers
{
	my ($out) = @_;
	my %number = $out =~ /^ *(\S.*?) +(\d+)(?:  \(.*)?$/mg;

	%number = (%number, $1 =~ /(\w+)=(\S+)/g) if $out =~ /^result: (.*)/m;
	$number{max_ms} = { $out =~ /^ages of (\w+): .* max_ms=(\S+)$/mg };
	return %number;
}

# A run that has been started must find no fault; its numbers.
sub found_nothing
{
	my ($self, $run, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $right = $run->{run}->finish;
	my %number = numbers($run->{out});

	ok($right, "$what: the checker finds no fault") or diag($run->{out});
	is($number{violations}, 0, "$what: no violation");
	like($number{bound} // '', qr/^\d/, "$what: the bound is known");
	diag(sprintf("$what, seed %s: %s", $run->{out} =~ /^(?:.*\n)*?seed (\d+)/,
			join ', ', map { "$_ " . ($number{$_} // 'none') } 'reads checked',
			'of one moment', 'served from the cache', 'answered by Redis', 'answered by Memcached',
			'direct_redis', 'direct_memcached', 'transactions committed'));
	diag("$what: $_") foreach $run->{out} =~ /^(ages of .*)/mg;
	return %number;
}

sub finds_nothing
{
	my ($self, $what, @options) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return $self->found_nothing($self->start('--progress', 0, @options), $what);
}

# A run that must find a violation of some kind, and then ends.
sub finds
{
	my ($self, $what, $kind, @options) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $run = $self->start('--progress', 0, '--show', 1000, '--seconds', 40, '--first', @options);

	$run->{run}->finish;
	is($run->{run}->full_result, 1 << 8, "$what: the checker says that there is a fault");
	like($run->{out}, qr/^VIOLATION (?:$kind)/m, "$what: that is found");
	diag("$what: $1") if $run->{out} =~ /^(VIOLATION (?:$kind).*)/m;
	return;
}

1;
