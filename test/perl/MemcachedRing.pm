# MemcachedRing.pm - several private memcacheds that are one cache
#
# A key is on one of them, and which one is the business of who wrote it: a key is looked for on
# all that run. They are numbered from 0.
#
#   my $ring = MemcachedRing->new('ring', 3);
#   $ring->start;
#   is(join(' ', $ring->hosts_of($key)), ...);
#   $ring->kill9(1);
package MemcachedRing;

use strict;
use warnings FATAL => 'all';

use MemcachedServer;
use PostgreSQL::Test::Utils;
use Test::More;

# So many, not started, each with these options.
sub new
{
	my ($class, $name, $count, @options) = @_;

	return bless {
		host => [ map { MemcachedServer->new("${name}_$_", @options) } 0 .. $count - 1 ]
	}, $class;
}

sub host { return $_[0]{host}[ $_[1] ]; }
sub hosts { return @{ $_[0]{host} }; }
sub address { return join(',', map { $_->address } $_[0]->hosts); }
sub server_options { return "kind 'memcached', hosts '" . $_[0]->address . q{'}; }

# Those with these numbers, or all.
sub chosen
{
	my ($self, @numbers) = @_;

	return @numbers ? @{ $self->{host} }[@numbers] : $self->hosts;
}

# Start, kill, stop: these, or all.
sub start
{
	my ($self, @numbers) = @_;

	$_->start foreach grep { !$_->pid } $self->chosen(@numbers);
	return $self;
}

sub kill9 { my ($self, @numbers) = @_; $_->kill9 foreach $self->chosen(@numbers); return; }
sub stop { my ($self, @numbers) = @_; $_->stop foreach $self->chosen(@numbers); return; }

sub signal
{
	my ($self, $signal, @numbers) = @_;

	$_->signal($signal) foreach $self->chosen(@numbers);
	return;
}

sub running { return grep { $_->pid } $_[0]->hosts; }

# The numbers of the hosts that have the key, whatever its value is.
sub hosts_of
{
	my ($self, $key) = @_;

	return grep { $self->host($_)->pid && $self->host($_)->exists($key) } 0 .. $#{ $self->{host} };
}

# The values of keys, "" for what there is not. What several hosts have is wrong, and comes as all
# of their values, which is no document.
sub values_of
{
	my ($self, @keys) = @_;
	my @values = ('') x @keys;

	foreach my $host ($self->running)
	{
		my @here = $host->values_of(@keys);

		foreach my $i (grep { $here[$_] ne '' } 0 .. $#keys)
		{
			$values[$i] .= ($values[$i] eq '' ? '' : "\n") . $here[$i];
		}
	}
	return @values;
}

sub keys_like
{
	my ($self, $pattern) = @_;
	my %found = map { $_ => 1 } map { $_->keys_like($pattern) } $self->running;

	return sort keys %found;
}

# undef when no host has it.
sub get
{
	my ($self, $key) = @_;
	my @values = grep { defined } map { $_->get($key) } $self->running;

	return @values ? join("\n", grep { $_ ne '' } @values) : undef;
}

# True when there was something to delete.
sub delete { return 0 < grep { $_->delete($_[1]) } $_[0]->running; }

sub exists { return 0 < grep { $_->exists($_[1]) } $_[0]->running; }

# Of the first host that has it.
sub ttl_of { return (grep { defined } map { $_->ttl_of($_[1]) } $_[0]->running)[0]; }
sub ttl_ms { return (grep { defined } map { $_->ttl_ms($_[1]) } $_[0]->running)[0]; }

sub flush_all { $_->flush_all foreach $_[0]->running; return; }

# Wait until the key has that value, or, with undef, is absent; true when it came to that.
sub poll_value { return MemcachedServer::poll_value(@_); }

1;
