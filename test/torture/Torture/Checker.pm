# Checker.pm - the history checker as a process that obeys
#
# What it is told goes to its stdin, a line at a time, and each order is waited for (see "Orders" in
# test/checker/README.md). What else it prints is news: violations, outages, its report.
package Torture::Checker;

use strict;
use warnings FATAL => 'all';

use IPC::Run;
use Time::HiRes qw(sleep time);

my $patience = 300;    # seconds for one order: it may have to wait for the end of an outage

# The program, its options, and who is told each line that is no answer.
sub start
{
	my ($class, $program, $options, $news) = @_;
	my $self = bless { in => '', out => '', news => $news }, $class;

	$self->{run} = IPC::Run::start([ $program, '--orders', @$options ],
		'<', \$self->{in}, '>', \$self->{out}, '2>&1');
	return $self;
}

# Take what it has printed; the answer to an order, or undef.
sub listen
{
	my ($self) = @_;

	$self->{run}->pump_nb if $self->{run}->pumpable;
	while ($self->{out} =~ s/^(.*)\n//)
	{
		my $line = $1;

		return $1 if $line =~ /^done: (.*)/;
		$self->{news}->($line);
	}
	return;
}

# The answer to an order, as a hash of its numbers.
sub order
{
	my ($self, $order) = @_;
	my $deadline = time() + $patience;
	my $answer;

	$self->{in} .= "$order\n";
	while (!defined($answer = $self->listen))
	{
		die "the checker has ended\n" if !$self->{run}->pumpable && $self->{out} !~ /\n/;
		die "the checker did not execute \"$order\" in $patience s\n" if time() > $deadline;
		sleep(0.005);
	}
	$answer =~ /^\Q$order\E\b/ or die "the checker answered \"$answer\" to \"$order\"\n";
	return $answer =~ /(\w+)=(\d+)/g;
}

# The end of the load, the last comparison, the report; its exit status.
sub end
{
	my ($self) = @_;
	my $deadline = time() + $patience;

	$self->{in} .= "end\n";
	while ($self->{run}->pumpable)
	{
		$self->listen;
		die "the checker did not end in $patience s\n" if time() > $deadline;
		sleep(0.005);
	}
	$self->listen;
	$self->{run}->finish;
	return $self->{run}->full_result(0) >> 8;
}

sub kill { my ($self) = @_; $self->{run}->kill_kill; return; }

1;
