# CacheProcess.pm - a cache server that a TAP test starts as a process of its own
#
# A base class: what the test does to the process, whichever kind of server it is. An object has
# its host, port and pid (undef while it does not run), and says remember() once; then it does not
# outlive the test.
package CacheProcess;

use strict;
use warnings FATAL => 'all';

my @remembered;

sub remember { push @remembered, $_[0]; return; }

sub port { return $_[0]{port}; }
sub pid { return $_[0]{pid}; }

# As in the option "hosts".
sub address { return "$_[0]{host}:$_[0]{port}"; }

sub signal
{
	my ($self, $signal) = @_;

	kill($signal, $self->{pid}) == 1 or die 'could not signal ' . ref $self;
	return;
}

# End it without a chance to save anything.
sub kill9
{
	my ($self) = @_;

	return if !$self->{pid};
	kill('KILL', $self->{pid});
	waitpid($self->{pid}, 0);
	$self->{pid} = undef;
	return;
}

END
{
	local $?;    # the exit status is the test's

	foreach my $process (@remembered)
	{
		next if !$process->{pid};
		kill('CONT', $process->{pid});
		$process->kill9;
	}
}

1;
