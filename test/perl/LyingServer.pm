# LyingServer.pm - a server that speaks Redis' protocol, and lies
#
# It knows the commands that cachekit sends, and answers them as Redis would, except for what its
# mode says:
#
#   honest              nothing
#   mute                accepts and reads, and never answers
#   garbage             answers what is no reply at all
#   half                answers the beginning of a long reply, and closes
#   twice               answers each command twice
#   huge                announces a reply of a size that nobody has
#   short               leaves out elements of lists
#   COMMAND ERROR...    answers that command with that error
package LyingServer;

use strict;
use warnings FATAL => 'all';

use IO::Select;
use IO::Socket::INET;
use POSIX ();

my @running;

# Listen on the port, which must be free, until stop() or the end of the test.
sub start
{
	my ($class, $port, $mode) = @_;
	my $socket = IO::Socket::INET->new(
		LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 20, ReuseAddr => 1)
	  or die "could not listen on port $port: $!";
	my $self = bless { port => $port }, $class;

	defined($self->{pid} = fork()) or die "could not fork: $!";
	if ($self->{pid} == 0)
	{
		$SIG{PIPE} = 'IGNORE';
		eval { serve($socket, $mode) };
		warn $@ if $@;
		POSIX::_exit(0);    # without what the test does at its end
	}
	close($socket);
	push @running, $self;
	return $self;
}

sub stop
{
	my ($self) = @_;

	return if !$self->{pid};
	kill('KILL', $self->{pid});
	waitpid($self->{pid}, 0);
	$self->{pid} = undef;
	return;
}

sub serve
{
	my ($listener, $mode) = @_;
	my $select = IO::Select->new($listener);
	my (%input, %store);

	while (my @ready = $select->can_read)
	{
		foreach my $socket (@ready)
		{
			if ($socket == $listener)
			{
				my $client = $listener->accept or next;

				$select->add($client);
				$input{$client} = '';
				next;
			}
			if (!sysread($socket, $input{$socket}, 65536, length $input{$socket}))
			{
				$select->remove($socket);
				delete $input{$socket};
				close($socket);
				next;
			}
			while (my @command = take_command(\$input{$socket}))
			{
				my ($reply, $close) = answer($mode, \%store, @command);

				syswrite($socket, $reply) if $reply ne '';
				next if !$close;
				$select->remove($socket);
				delete $input{$socket};
				close($socket);
				last;
			}
		}
	}
	return;
}

# Take one command off the input; () when it is not there in full.
sub take_command
{
	my ($input) = @_;
	my @words;
	my $rest = $$input // return;

	$rest =~ s/^\*(\d+)\r\n// or return;
	for (1 .. $1)
	{
		$rest =~ s/^\$(\d+)\r\n// or return;
		return if length $rest < $1 + 2;
		push @words, substr($rest, 0, $1);
		substr($rest, 0, $1 + 2) = '';
	}
	$$input = $rest;
	return @words;
}

sub answer
{
	my ($mode, $store, @command) = @_;
	my $reply;

	return ('', 0) if $mode eq 'mute';
	return ("HTTP/1.1 400 Bad Request\r\nServer: nginx\r\n\r\n<html>\r\n", 0) if $mode eq 'garbage';
	return ("\$1000000\r\n\{\"id\": 1", 1) if $mode eq 'half';
	return ("\$1000000000000\r\n", 0) if $mode eq 'huge';
	return ("-$1\r\n", 0) if $mode =~ /^$command[0] (.*)/s;
	$reply = truth($store, $mode eq 'short', @command);
	return ($mode eq 'twice' ? "$reply$reply" : $reply, 0);
}

sub bulk
{
	my ($value) = @_;

	return defined $value ? '$' . length($value) . "\r\n$value\r\n" : "\$-1\r\n";
}

# As Redis would answer, more or less.
sub truth
{
	my ($store, $short, $command, @words) = @_;

	if ($command eq 'SET')
	{
		$store->{ $words[0] } = $words[1];
		return "+OK\r\n";
	}
	if ($command eq 'MGET')
	{
		shift @words if $short;
		return '*' . @words . "\r\n" . join('', map { bulk($store->{$_}) } @words);
	}
	if ($command eq 'DEL' || $command eq 'UNLINK')
	{
		return ':' . grep({ defined delete $store->{$_} } @words) . "\r\n";
	}
	if ($command eq 'EVAL')
	{
		my ($script, $n, $key, $owner_key) = @words;
		my ($owner, $value) = @words[ 2 + $n, 3 + $n ];

		return ":0\r\n" if ($store->{$owner_key} // '') ne $owner;
		$store->{$key} = $value;
		return ":1\r\n";
	}
	if ($command eq 'SCAN')
	{
		my $prefix = $words[2] =~ s/\*$//r;
		my @keys = grep { index($_, $prefix) == 0 } keys %$store;

		return "*2\r\n" . bulk('0') . '*' . @keys . "\r\n" . join('', map { bulk($_) } @keys);
	}
	return "+OK\r\n";
}

END
{
	local $?;

	$_->stop foreach @running;
}

1;
