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

use parent 'FakeServer';

# Take one command off the input; () when it is not there in full.
sub take_command
{
	my ($class, $input) = @_;
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
	my ($class, $mode, $store, @command) = @_;
	my $reply;

	return '' if $mode eq 'mute';
	return "HTTP/1.1 400 Bad Request\r\nServer: nginx\r\n\r\n<html>\r\n" if $mode eq 'garbage';
	return ("\$1000000\r\n\{\"id\": 1", 'close') if $mode eq 'half';
	return "\$1000000000000\r\n" if $mode eq 'huge';
	return "-$1\r\n" if $mode =~ /^$command[0] (.*)/s;
	$reply = truth($store, $mode eq 'short', @command);
	return $mode eq 'twice' ? "$reply$reply" : $reply;
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

1;
