# MemcachedServer.pm - a private memcached for a TAP test
#
# Listens on a free port of the loopback interface and ends with the test. It can be killed,
# stopped for a while, and started again on the same port, empty or, with a memory file, with what
# it had; the test talks to it over a socket of its own for each command, so by nothing that
# cachekit uses.
#
#   my $memcached = MemcachedServer->new('main', '-m', '64', '-e', 'memory');
#   $memcached->start;
#   is($memcached->get($key), ...);
#
# The memory file may be on any file system, and takes -m of at least 39. stop() writes what one
# start with the same options needs to use it again, in a later second; after kill9() it is empty.
package MemcachedServer;

use strict;
use warnings FATAL => 'all';

use File::Copy qw(copy);
use IO::Socket::INET;
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use parent 'CacheProcess';
use Time::HiRes qw(time);

# Not started. The options are words of the command line; files without a path are in a folder of
# its own.
sub new
{
	my ($class, $name, @options) = @_;
	my $self = bless {
		name => $name,
		host => '127.0.0.1',
		port => PostgreSQL::Test::Cluster::get_free_port(),
		dir => PostgreSQL::Test::Utils::tempdir("memcached_$name"),
		options => [@options]
	}, $class;

	$self->{log} = "$PostgreSQL::Test::Utils::log_path/memcached_$name.log";
	if ($> == 0)
	{
		# it does not run as root
		push @{ $self->{options} }, '-u', 'nobody';
		chown((getpwnam('nobody'))[ 2, 3 ], $self->{dir}) == 1 or die "could not chown: $!";
	}
	$self->remember;
	return $self;
}

# Options of CREATE SERVER that lead here.
sub server_options
{
	my ($self) = @_;

	return "kind 'memcached', host '$self->{host}', port '$self->{port}'";
}

# Words of the command line in place of those that it had, for the next start.
sub use_options
{
	my ($self, @options) = @_;

	$self->{options} = [ @options, $> == 0 ? ('-u', 'nobody') : () ];
	return;
}

# Start and wait until it answers.
sub start
{
	my ($self) = @_;

	$self->wait_for_clock;
	defined(my $pid = fork()) or die "could not fork: $!";
	if ($pid == 0)
	{
		open(STDIN, '<', '/dev/null');
		open(STDOUT, '>>', $self->{log});
		open(STDERR, '>&', \*STDOUT);
		chdir($self->{dir});
		exec('memcached', '-v', '-l', $self->{host}, '-p', $self->{port}, '-U', '0',
			@{ $self->{options} })
		  or POSIX::_exit(127);
	}
	$self->{pid} = $pid;
	foreach my $attempt (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		if (waitpid($pid, POSIX::WNOHANG()) == $pid)
		{
			$self->{pid} = undef;
			die "memcached ended at once: see $self->{log}";
		}
		# it may want a password: any answer will do
		return $self if eval { $self->ask("version\r\n", sub { 1; }); 1; };
		select(undef, undef, undef, 0.02);
	}
	die "memcached did not start: see $self->{log}";
}

# memcached refuses the data of one that stopped within the same second.
sub wait_for_clock
{
	my ($self) = @_;
	my $meta = ($self->memory_file // return) . '.meta';

	return if !-e $meta || slurp_file($meta) !~ /^Kstop_time (\d+)$/m;
	select(undef, undef, undef, 0.02) while int(time()) <= $1;
	return;
}

# End it in its own way: with a memory file, the next start has the data again.
sub stop
{
	my ($self) = @_;

	return if !$self->{pid};
	kill('CONT', $self->{pid});
	kill('USR1', $self->{pid});
	foreach my $attempt (1 .. 50 * $PostgreSQL::Test::Utils::timeout_default)
	{
		if (waitpid($self->{pid}, POSIX::WNOHANG()) == $self->{pid})
		{
			$self->{pid} = undef;
			return;
		}
		select(undef, undef, undef, 0.02);
	}
	die "memcached did not stop: see $self->{log}";
}

# The memory file as stop() left it, put away, and put back for the next start.
sub keep_memory
{
	my ($self, $as) = @_;

	return $self->copy_memory($self->memory_file, "$self->{dir}/$as");
}

sub restore_memory
{
	my ($self, $from) = @_;

	return $self->copy_memory("$self->{dir}/$from", $self->memory_file);
}

sub copy_memory
{
	my ($self, $from, $to) = @_;

	die 'memcached is running' if $self->{pid};
	foreach my $suffix ('', '.meta')
	{
		copy("$from$suffix", "$to$suffix") or die "could not copy $from$suffix: $!";
		chmod(0666, "$to$suffix");
	}
	return;
}

# undef when there is none.
sub memory_file
{
	my ($self) = @_;
	my %option = map { $self->{options}[$_] => $self->{options}[ $_ + 1 ] }
	  0 .. $#{ $self->{options} } - 1;
	my $file = $option{'-e'} // return;

	return $file =~ m{^/} ? $file : "$self->{dir}/$file";
}

# --- the client ---

# Send bytes on a new connection, and return what comes until the code is content with it, or until
# the server closes.
sub ask
{
	my ($self, $bytes, $is_all) = @_;
	my $deadline = time() + $PostgreSQL::Test::Utils::timeout_default;
	my $socket = IO::Socket::INET->new(
		PeerAddr => $self->{host}, PeerPort => $self->{port}, Timeout => 10)
	  or die 'could not connect to memcached: ' . ($@ || $!);
	my $reply = '';

	local $SIG{PIPE} = 'IGNORE';
	$socket->blocking(0);
	while ($reply eq '' || !$is_all->(\$reply))
	{
		my $left = $deadline - time();
		my ($reading, $writing) = ('', '');
		my $n;

		die "memcached did not answer \"" . substr($bytes, 0, 100) . '"' if $left <= 0;
		vec($reading, fileno($socket), 1) = 1;
		$writing = $reading if $bytes ne '';
		select($reading, $writing, undef, $left);
		if ($bytes ne '' && defined($n = syswrite($socket, $bytes)))
		{
			substr($bytes, 0, $n, '');
		}
		$n = sysread($socket, $reply, 262144, length $reply);
		last if defined $n ? $n == 0 : !$!{EAGAIN};
	}
	return $reply;
}

# The lines that a command is answered with, each without its end; with data, it is a storage
# command. Not for commands whose answer goes on by itself.
sub command
{
	my ($self, $line, $data) = @_;
	my $reply;

	$line .= "\r\n$data" if defined $data;
	# the answer to "mn" comes when all of the other one has come
	$reply = $self->ask("$line\r\nmn\r\n", sub { ${ $_[0] } =~ /(?:^|\n)MN\r\n\z/; });
	$reply =~ s/MN\r\n\z//;
	return join("\n", split(/\r\n/, $reply));
}

# A command that answers in one way only.
sub must
{
	my ($self, $expected, @command) = @_;
	my $reply = $self->command(@command);

	$reply =~ $expected or die "memcached answered \"$reply\" to \"$command[0]\"";
	return $reply;
}

# The values of the keys that there are.
sub get_all
{
	my ($self, @keys) = @_;
	my $at = 0;     # what is before has been read
	my %value;

	$self->ask(
		"get @keys\r\n",
		sub {
			my ($reply) = @_;

			while (1)
			{
				pos($$reply) = $at;
				return 1 if $$reply =~ /\GEND\r\n/gc;
				return 0 if $$reply !~ /\G([^\r\n]*)\r\n/gc;
				my ($line, $data) = ($1, pos($$reply));
				my ($key, $length) = $line =~ /^VALUE (\S+) \d+ (\d+)$/
				  or die "memcached answered \"$line\" to \"get\"";

				return 0 if length $$reply < $data + $length + 2;
				$value{$key} = substr($$reply, $data, $length);
				$at = $data + $length + 2;
			}
		});
	return %value;
}

# undef when there is none; "" is the place for a value, taken by "add".
sub get
{
	my ($self, $key) = @_;
	my %value = $self->get_all($key);

	return $value{$key};
}

# The values of keys, "" for what there is not.
sub values_of
{
	my ($self, @keys) = @_;
	my @rest = @keys;
	my %value;

	while (my @some = splice(@rest, 0, 100))
	{
		%value = (%value, $self->get_all(@some));
	}
	return map { $value{$_} // '' } @keys;
}

# With a TTL in seconds, or without one.
sub set
{
	my ($self, $key, $value, $ttl) = @_;

	# more than 30 days would be taken for a time of day
	$ttl += int(time()) if ($ttl //= 0) > 30 * 86400;
	return $self->must(qr/^STORED$/, "set $key 0 $ttl " . length($value), $value);
}

# True when there was something to delete.
sub delete
{
	return $_[0]->must(qr/^(?:DELETED|NOT_FOUND)$/, "delete $_[1]") eq 'DELETED';
}

# Whatever its value is, the place for one included; counts as a get.
sub exists
{
	return $_[0]->must(qr/^(?:HD|EN)/, "mg $_[1]") =~ /^HD/ ? 1 : '';
}

# What is left of the TTL, in seconds; -1 without one, undef when there is no such key.
sub ttl_of
{
	return $_[0]->must(qr/^(?:HD t-?\d+|EN)$/, "mg $_[1] t") =~ /(-?\d+)/ ? $1 : undef;
}

# The same in milliseconds, of which it knows whole seconds only.
sub ttl_ms
{
	my ($self, $key) = @_;
	my $ttl = $self->ttl_of($key);

	return defined $ttl && $ttl > 0 ? 1000 * $ttl : $ttl;
}

# The keys, in order: one, or with "*" at the end, all that begin so.
sub keys_like
{
	my ($self, $pattern) = @_;
	my ($prefix, $star) = $pattern =~ /^([^*?\[\\]*)(\*?)$/ or die "no such pattern: $pattern";
	my $reply;
	my %found;

	foreach my $attempt (1 .. 50 * $PostgreSQL::Test::Utils::timeout_default)
	{
		$reply = $self->ask("lru_crawler metadump hash\r\n",
			sub { ${ $_[0] } =~ /^[^k][^\n]*\n\z/m; });
		last if $reply !~ /^BUSY/;
		select(undef, undef, undef, 0.02);
	}
	$reply =~ /^END\r\n\z/m
	  or die 'memcached answered "' . substr($reply, -200) . '" to "metadump"';
	foreach my $key ($reply =~ /^key=(\S+) /mg)
	{
		$key =~ s/%([0-9A-Fa-f]{2})/chr hex $1/eg;
		$found{$key} = 1 if $star ? index($key, $prefix) == 0 : $key eq $prefix;
	}
	return sort keys %found;
}

# Wait until the key has that value, or, with undef, is absent; true when it came to that.
sub poll_value
{
	my ($self, $key, $expected) = @_;

	foreach my $attempt (1 .. 50 * $PostgreSQL::Test::Utils::timeout_default)
	{
		my $value = $self->get($key);

		return 1 if defined $value ? defined $expected && $value eq $expected : !defined $expected;
		select(undef, undef, undef, 0.02);
	}
	diag("timed out waiting for \"$key\" to be " . ($expected // 'absent'));
	return 0;
}

sub flush_all { return $_[0]->must(qr/^OK$/, 'flush_all'); }

# What it says of itself, or of "settings", "items" and so on, by name.
sub stats
{
	my ($self, @about) = @_;

	return $self->must(qr/^END$/m, join(' ', 'stats', @about)) =~ /^STAT (\S+) (.*)$/mg;
}

1;
