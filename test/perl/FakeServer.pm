# FakeServer.pm - the loop of a server that a test writes itself
#
# A subclass has two methods:
#
#   take_command(\$input)               takes one command off what a client has sent, as a list of
#                                       any kind; () when it is not there in full
#   answer($mode, \%store, @command)    what is sent for it, and what comes then: nothing,
#                                       "close", or "endless" (the same again, as long as it is
#                                       taken); the store begins empty and is all clients'
#
# Nobody has to read what is sent to him: the others are served meanwhile.
package FakeServer;

use strict;
use warnings FATAL => 'all';

use IO::Handle;
use IO::Socket::INET;
use parent 'Forked';

# Listen on the port, which must be free, until stop() or the end of the test.
sub start
{
	my ($class, $port, $mode) = @_;
	my $listener = IO::Socket::INET->new(
		LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 20, ReuseAddr => 1)
	  or die "could not listen on port $port: $!";
	my $self = bless { port => $port }, $class;

	$self->run_apart(sub { $self->serve($listener, $mode, @_); }, $listener);
	close($listener);
	return $self;
}

sub port { return $_[0]{port}; }

sub serve
{
	my ($self, $listener, $mode, $test) = @_;
	my (%client, %store);    # clients by file number

	$listener->blocking(0);
	while (1)
	{
		my ($reading, $writing) = ('', '');

		vec($reading, fileno($_), 1) = 1 foreach $listener, $test;
		foreach my $n (keys %client)
		{
			vec($reading, $n, 1) = 1 if $client{$n}{then} eq '';
			vec($writing, $n, 1) = 1 if $client{$n}{output} ne '';
		}
		next if select($reading, $writing, undef, undef) < 0;
		return if vec($reading, fileno($test), 1);
		foreach my $n (keys %client)
		{
			my $client = $client{$n};
			my $goes_on = 1;

			$goes_on = $self->hear($client, $mode, \%store) if vec($reading, $n, 1);
			$goes_on = send_to($client) if $goes_on && $client->{output} ne '';
			next if $goes_on;
			close($client->{socket});
			delete $client{$n};
		}
		if (vec($reading, fileno($listener), 1) && (my $socket = $listener->accept))
		{
			$socket->blocking(0);
			$client{ fileno($socket) } =
			  { socket => $socket, input => '', output => '', then => '' };
		}
	}
	return;
}

# Take what a client has sent, and answer what is complete; false when he is gone.
sub hear
{
	my ($self, $client, $mode, $store) = @_;
	my $n = sysread($client->{socket}, $client->{input}, 65536, length $client->{input});

	return $!{EAGAIN} if !defined $n;
	return 0 if $n == 0;
	while ($client->{then} eq '' && (my @command = $self->take_command(\$client->{input})))
	{
		my ($reply, $then) = $self->answer($mode, $store, @command);

		$client->{output} .= $reply;
		$client->{then} = $then // '';
		$client->{again} = $reply;
	}
	return $client->{then} ne 'close' || $client->{output} ne '';
}

# Send what he takes; false when he is gone, or has all that he gets.
sub send_to
{
	my ($client) = @_;
	my $n = syswrite($client->{socket}, $client->{output});

	return $!{EAGAIN} if !defined $n;
	substr($client->{output}, 0, $n, '');
	$client->{output} .= $client->{again}
	  if $client->{then} eq 'endless' && length $client->{output} < length $client->{again};
	return $client->{then} ne 'close' || $client->{output} ne '';
}

1;
