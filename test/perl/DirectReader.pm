# DirectReader.pm - a program that reads one key of a cache server by itself, again and again
#
# In a process of its own, over a socket of its own. It counts what it sees: documents with a
# number "v", which must not be absent and must not go back.
#
#   my $reader = DirectReader->new($cache, $key)->start;
#   ...
#   my %seen = $reader->result;    # reads, absent, back, values (how many), last
package DirectReader;

use strict;
use warnings FATAL => 'all';

use IO::Socket::INET;
use PostgreSQL::Test::Utils;
use Socket qw(IPPROTO_TCP TCP_NODELAY);
use parent 'Forked';

# Not started. The cache is a RedisServer or a MemcachedServer.
sub new
{
	my ($class, $cache, $key) = @_;

	return bless { cache => $cache, key => $key, redis => $cache->isa('RedisServer') }, $class;
}

# Returns when the first read is done.
sub start
{
	my ($self) = @_;

	$self->run_apart(sub { $self->read_on(@_); });
	$self->take_line;
	return $self;
}

# End it, and what it has seen.
sub result
{
	my ($self) = @_;
	my $control = $self->{control};
	my %seen;

	print $control "end\n";
	%seen = split(/ /, $self->take_line);
	$self->stop;
	return %seen;
}

sub take_line
{
	my ($self) = @_;
	my $reading = '';
	my $line;

	vec($reading, fileno($self->{control}), 1) = 1;
	select($reading, undef, undef, $PostgreSQL::Test::Utils::timeout_default) > 0
	  or die 'the reader does not answer';
	$line = readline($self->{control}) // die 'the reader is gone';
	chomp $line;
	return $line;
}

sub read_on
{
	my ($self, $test) = @_;
	my $socket = IO::Socket::INET->new(PeerAddr => $self->{cache}{host}, PeerPort => $self->{cache}->port)
	  or die "could not connect: $!";
	my %seen = (reads => 0, absent => 0, back => 0, values => 0, last => -1);

	$socket->setsockopt(IPPROTO_TCP, TCP_NODELAY, 1);
	while (1)
	{
		my $v = $self->read_once($socket);
		my $reading = '';

		$seen{reads}++;
		$seen{absent}++ if !defined $v;
		$seen{back}++ if defined $v && $v < $seen{last};
		$seen{values}++ if defined $v && $v != $seen{last};
		$seen{last} = $v if defined $v;
		syswrite($test, "begun\n") if $seen{reads} == 1;
		vec($reading, fileno($test), 1) = 1;
		last if select($reading, undef, undef, 0) > 0;
	}
	syswrite($test, join(' ', %seen) . "\n");
	return;
}

# The number in the document; undef when there is none.
sub read_once
{
	my ($self, $socket) = @_;
	my $line;
	my $document;

	syswrite($socket, $self->{redis} ? "GET $self->{key}\r\n" : "get $self->{key}\r\n");
	$line = readline($socket) // die 'the cache is gone';
	return undef if $line eq "\$-1\r\n" || $line eq "END\r\n";
	$line =~ /^(?:\$|VALUE \S+ \d+ )(\d+)\r\n$/ or die "unexpected: $line";
	read($socket, $document, $1 + 2) == $1 + 2 or die 'the cache is gone';
	if (!$self->{redis})
	{
		$line = readline($socket);
	}
	return $document =~ /"v": "?(\d+)/ ? $1 : undef;
}

1;
