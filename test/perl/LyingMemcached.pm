# LyingMemcached.pm - a server that speaks Memcached's text protocol, and lies
#
# It answers the commands that cachekit sends as memcached 1.6 would, except for what its mode
# says. These lie about every command:
#
#   honest              no lie
#   mute                accepts and reads, and never answers
#   garbage             answers what is no reply at all
#   twice               answers each command twice
#   endless             never stops sending, and never ends the line
#
# these about "get" and "gets", as if the server had whatever it is asked for:
#
#   half                the beginning of a long value, and closes
#   huge                announces a value of a size that nobody has
#   negative            announces a value of less than no bytes
#   not_a_number        announces a value of "many" bytes
#   long_key            a value under a key of 100,000 bytes
#   other_key           a value under a key that nobody asked for
#
# and these in other ways:
#
#   no_cas              the values of "gets" have no unique
#   short               leaves out the END of lists
#   wrong               answers changes with what is the answer to another one
#   COMMAND TEXT        answers that command with that line: "set SERVER_ERROR out of memory"
#
# Names of commands after one of the modes with a name limit it to them: "mute delete". As with
# memcached, what has "noreply" gets no error either.
package LyingMemcached;

use strict;
use warnings FATAL => 'all';

use parent 'FakeServer';

my $version = '1.6.18';
my $max_key = 250;
my $max_item = 1024 * 1024;
my $has_data = qr/^(?:set|add|cas)$/;

# What each mode is about by itself; [] is every command.
my @values = ('get', 'gets');
my @lists = (@values, 'stats', 'lru_crawler');
my @changes = ('set', 'add', 'cas', 'delete', 'flush_all');
my %about = (
	honest => [], mute => [], garbage => [], twice => [], endless => [],
	half => \@values, huge => \@values, negative => \@values, not_a_number => \@values,
	long_key => \@values, other_key => \@values,
	no_cas => ['gets'], short => \@lists, wrong => \@changes);

# A change's reply, and what "wrong" makes of it.
my %wrong = (
	STORED => 'DELETED', NOT_STORED => 'TOUCHED', EXISTS => 'NOT_STORED', DELETED => 'STORED',
	NOT_FOUND => 'STORED', OK => 'STORED');

# Take one command off the input, as its words and its data; () when it is not there in full.
sub take_command
{
	my ($class, $input) = @_;
	my ($line) = $$input =~ /^([^\n]*)\n/ or return;
	my $taken = 1 + length $line;
	my @words = split(/ +/, $line =~ s/\r$//r);
	my $data;

	@words = ('') if @words == 0;
	if ($words[0] =~ $has_data && ($words[4] // '') =~ /^\d+$/)
	{
		return if length $$input < $taken + $words[4] + 2;
		$data = substr($$input, $taken, $words[4]);
		$taken += $words[4];
		# what does not end where it should is no data
		substr($$input, $taken, 2) eq "\r\n" ? $taken += 2 : undef $data;
	}
	substr($$input, 0, $taken, '');
	return (\@words, $data);
}

sub answer
{
	my ($class, $mode, $store, $words, $data) = @_;
	my ($lie, @about) = split(/ /, $mode);
	my $command = $words->[0];
	my $noreply = $words->[-1] eq 'noreply';
	my $key = $words->[1] // 'k';
	my $reply;

	if (!$about{$lie})
	{
		return $noreply ? '' : substr($mode, length "$lie ") . "\r\n" if $command eq $lie;
		$lie = 'honest';
	}
	@about = @{ $about{$lie} } if @about == 0;
	$lie = 'honest' if @about > 0 && !grep { $_ eq $command } @about;

	return '' if $lie eq 'mute';
	return "HTTP/1.1 400 Bad Request\r\nServer: nginx\r\n\r\n<html>\r\n" if $lie eq 'garbage';
	return ('x' x 10_000, 'endless') if $lie eq 'endless';
	return ("VALUE $key 0 1000000" . unique($command) . "\r\n{\"id\": 1", 'close')
	  if $lie eq 'half';
	return "VALUE $key 0 1000000000000" . unique($command) . "\r\n" if $lie eq 'huge';
	return value($command, $key, -1, '') if $lie eq 'negative';
	return value($command, $key, 'many', '{"id": 1}') if $lie eq 'not_a_number';
	return value($command, 'k' x 100_000, 9, '{"id": 1}') if $lie eq 'long_key';
	return value($command, "other_$key", 9, '{"id": 1}') if $lie eq 'other_key';

	$reply = truth($store, $words, $data);
	$reply = '' if $noreply;
	return "$reply$reply" if $lie eq 'twice';
	return $reply =~ s/^(VALUE \S+ \d+ \d+) \d+/$1/gmr if $lie eq 'no_cas';
	return $reply =~ s/END\r\n$//r if $lie eq 'short';
	return $reply =~ s/^(\w+)/$wrong{$1} \/\/ $1/er if $lie eq 'wrong';
	return $command eq 'quit' ? ('', 'close') : $reply;
}

# The unique that only "gets" tells.
sub unique { return $_[0] eq 'gets' ? ' 1' : ''; }

# The reply with one value.
sub value
{
	my ($command, $key, $length, $data) = @_;

	return "VALUE $key 0 $length" . unique($command) . "\r\n$data\r\nEND\r\n";
}

# As memcached would answer, more or less.
sub truth
{
	my ($store, $words, $data) = @_;
	my ($command, @words) = @$words;
	my $items = $store->{items} //= {};

	foreach my $key (keys %$items)
	{
		my $until = $items->{$key}{until};

		delete $items->{$key} if $until && $until <= time();
	}

	return "VERSION $version\r\n" if $command eq 'version';
	return "MN\r\n" if $command eq 'mn';
	return stats($items, @words) if $command eq 'stats';
	return get($items, $command, @words) if $command =~ /^gets?$/ && @words > 0;
	return "CLIENT_ERROR bad command line format\r\n" if length($words[0] // '') > $max_key;
	return store($store, $command, $data, @words) if $command =~ $has_data && @words >= 4;
	return delete $items->{ $words[0] } ? "DELETED\r\n" : "NOT_FOUND\r\n"
	  if $command eq 'delete' && @words > 0;
	return metadump($items) if "$command @words" =~ /^lru_crawler metadump (?:all|hash)$/;
	if ($command eq 'flush_all')
	{
		%$items = ();
		return "OK\r\n";
	}
	return "ERROR\r\n";
}

sub get
{
	my ($items, $command, @keys) = @_;
	my $reply = '';

	foreach my $key (@keys)
	{
		my $item = $items->{$key};

		return "CLIENT_ERROR bad command line format\r\n" if length $key > $max_key;
		next if !$item;
		$reply .= "VALUE $key $item->{flags} " . length $item->{data};
		$reply .= " $item->{unique}" if $command eq 'gets';
		$reply .= "\r\n$item->{data}\r\n";
	}
	return "${reply}END\r\n";
}

sub store
{
	my ($store, $command, $data, $key, $flags, $ttl, $bytes, $unique) = @_;
	my $items = $store->{items};

	return "CLIENT_ERROR bad data chunk\r\n" if !defined $data;
	return "SERVER_ERROR object too large for cache\r\n" if $bytes > $max_item - 100;
	return "NOT_STORED\r\n" if $command eq 'add' && $items->{$key};
	if ($command eq 'cas')
	{
		return "NOT_FOUND\r\n" if !$items->{$key};
		return "EXISTS\r\n" if $items->{$key}{unique} ne $unique;
	}
	$items->{$key} = {
		data => $data,
		flags => $flags,
		unique => ++$store->{unique},
		# more than 30 days are a time of day; less than none is over at once
		until => $ttl < 0 ? 1 : $ttl == 0 || $ttl > 30 * 86400 ? $ttl : time() + $ttl
	};
	return "STORED\r\n";
}

sub stats
{
	my ($items, $about) = @_;
	my %stat = ($about // '') eq 'settings'
	  ? (maxbytes => 67108864, item_size_max => $max_item, evictions => 'on', cas_enabled => 'yes',
		flush_enabled => 'yes', dump_enabled => 'yes', binding_protocol => 'auto-negotiate',
		auth_enabled_sasl => 'no', auth_enabled_ascii => 'no')
	  : (pid => $$, uptime => time() - $^T, time => time(), version => $version,
		curr_items => scalar keys %$items);

	return join('', map { "STAT $_ $stat{$_}\r\n" } sort keys %stat) . "END\r\n";
}

sub metadump
{
	my ($items) = @_;
	my $reply = '';

	foreach my $key (sort keys %$items)
	{
		my $item = $items->{$key};

		$reply .= sprintf "key=%s exp=%d la=%d cas=%d fetch=no cls=1 size=%d\n",
		  $key =~ s/([^A-Za-z0-9._~-])/sprintf('%%%02X', ord $1)/ger, $item->{until} || -1, time(),
		  $item->{unique}, 63 + length $item->{data};
	}
	return "${reply}END\r\n";
}

1;
