# Chance.pm - random choices that a seed repeats
#
# Each generator has a name, and its choices depend on nothing but that: not on how many others there
# are, nor on what they were asked. So each fault of a run has one of its own, and the same seed gives
# the same faults in the same order, with the same parameters, whatever happens meanwhile.
package Torture::Chance;

use strict;
use warnings FATAL => 'all';

use Digest::SHA qw(sha1);

sub new
{
	my ($class, @name) = @_;

	return bless { name => join('/', @name), n => 0 }, $class;
}

# At least 0, below 1.
sub fraction
{
	my ($self) = @_;

	return unpack('N', sha1("$self->{name}/" . $self->{n}++)) / 2**32;
}

# A number of seconds, or a size.
sub between { my ($self, $from, $to) = @_; return $from + $self->fraction * ($to - $from); }

sub below { my ($self, $n) = @_; return int($self->fraction * $n); }
sub one_of { my ($self, @list) = @_; return $list[ $self->below(scalar @list) ]; }
sub percent { my ($self, $percent) = @_; return $self->fraction * 100 < $percent; }

sub shuffled
{
	my ($self, @list) = @_;

	foreach my $i (reverse 1 .. $#list)
	{
		my $j = $self->below($i + 1);

		@list[ $i, $j ] = @list[ $j, $i ];
	}
	return @list;
}

1;
