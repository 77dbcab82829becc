# Forked.pm - what serves in a process of its own, and ends with the test
#
# A base class. The process has nothing of the test's but its standard files, the handles that it
# is given, and one end of a socket whose other end the test has: when that closes, the test is
# gone.
package Forked;

use strict;
use warnings FATAL => 'all';

use IO::Handle;
use POSIX ();
use Socket;

my @running;

# Run the code, with its end of the socket, until it returns or stop() is called.
sub run_apart
{
	my ($self, $code, @handles) = @_;

	socketpair(my $ours, my $theirs, AF_UNIX, SOCK_STREAM, PF_UNSPEC)
	  or die "could not make a pair of sockets: $!";
	defined($self->{pid} = fork()) or die "could not fork: $!";
	if ($self->{pid} == 0)
	{
		put_away_all_but(map { fileno($_) } $theirs, @handles);
		$SIG{PIPE} = 'IGNORE';
		$SIG{$_} = 'DEFAULT' foreach 'INT', 'TERM', 'ALRM';
		eval { $code->($theirs); };
		POSIX::write(2, "$0: $@", length "$0: $@") if $@;
		POSIX::_exit(0);    # without what the test does at its end
	}
	close($theirs);
	$ours->autoflush(1);
	$self->{control} = $ours;
	push @running, $self;
	return $self;
}

# A pipe of the test's that stayed open here would never end for its reader. What takes its place
# keeps its number from being used again: Perl counts the handles of each, and would not close it.
sub put_away_all_but
{
	my %keep = map { $_ => 1 } @_;
	my $nothing = POSIX::open('/dev/null', POSIX::O_RDWR());

	foreach my $n (grep { !$keep{$_} && $_ != $nothing } 3 .. 1023)
	{
		my $copy = POSIX::dup($n) // next;    # not open

		POSIX::close($copy);
		POSIX::dup2($nothing, $n);
	}
	return;
}

sub pid { return $_[0]{pid}; }

# End it at once; what is connected to it sees its connections close.
sub stop
{
	my ($self) = @_;

	return if !$self->{pid};
	kill('KILL', $self->{pid});
	waitpid($self->{pid}, 0);
	close($self->{control});
	$self->{pid} = undef;
	@running = grep { $_ != $self } @running;
	return;
}

END
{
	local $?;    # the exit status is the test's

	$_->stop foreach @running;
}

1;
