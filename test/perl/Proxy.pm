# Proxy.pm - what lies between cachekit and a cache server, and can go wrong
#
# Forwards TCP connections to a port of the loopback interface, whatever they carry, in a process of
# its own. The test commands it while it runs; when a method returns, what it asks for is in force.
# A client's end of a connection and the server's are two connections with buffers of their own, so
# a request that the client believes to be sent may be here, for any time.
#
# Who connects is accepted before the server is asked: when it does not accept him, he is reset.
#
#   my $proxy = Proxy->new($redis->port)->start;
#   ... CREATE SERVER ... OPTIONS (host '127.0.0.1', port '$proxy->port') ...
#   $proxy->hold_requests;
package Proxy;

use strict;
use warnings FATAL => 'all';

use IO::Handle;
use IO::Socket::INET;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Socket qw(:DEFAULT IPPROTO_TCP TCP_NODELAY);
use Time::HiRes qw(time);
use parent 'Forked';

my $max_buffer = 1024 * 1024;    # of one way, unless it is held
my $siocoutq = 0x5411;           # Linux: bytes that the other side has not acknowledged
my $siocoutqnsd = 0x894B;        # Linux: bytes that are not on their way

# Not started.
sub new
{
	my ($class, $target) = @_;

	return bless { target => $target, port => PostgreSQL::Test::Cluster::get_free_port() }, $class;
}

sub port { return $_[0]{port}; }
sub address { return "127.0.0.1:$_[0]{port}"; }

# As new: whatever was commanded before a stop() is forgotten.
sub start
{
	my ($self) = @_;
	my $listener = IO::Socket::INET->new(
		LocalAddr => '127.0.0.1', LocalPort => $self->{port}, Listen => SOMAXCONN, ReuseAddr => 1)
	  or die "could not listen on port $self->{port}: $!";

	$self->run_apart(sub { forward($listener, $self->{port}, $self->{target}, @_); }, $listener);
	close($listener);
	return $self;
}

# --- what the test commands ---

# Nothing goes either way; connections stay, new ones are accepted and get nothing.
sub freeze { return $_[0]->command('freeze'); }
sub thaw { return $_[0]->command('thaw'); }

# Requests of the connections that there are, or with "all" of later ones as well, stay here; the
# server's replies go on. They stay when the client goes away.
sub hold_requests { my ($self, %how) = @_; return $self->command('hold', $how{all} ? 1 : 0); }

# What was held goes to the server, even for a client that has gone. Says how many bytes it is.
sub release_requests { return $_[0]->command('release'); }

# Replies stay here, those to later connections as well; requests go on, so the server does what its
# client does not hear of. Release sends what is held.
sub hold_replies { return $_[0]->command('mute', 1); }
sub release_replies { return $_[0]->command('mute', 0); }

# Bytes that are held, or could not be delivered since then.
sub kept { return $_[0]->command('kept'); }

# The network is cut: connections go silent, nobody is told of their end, attempts to connect get no
# answer. When it heals, the connections that there were are reset, on both sides, and what they
# carried is lost; an attempt that goes on succeeds when the client's kernel repeats it.
sub cut { return $_[0]->command('cut'); }
sub heal { return $_[0]->command('heal'); }

# Who connects is reset at once; the connections that there are live on.
sub refuse { return $_[0]->command('refuse', 1); }
sub accept { return $_[0]->command('refuse', 0); }

# Reset a connection after so many bytes of replies from now on: the first one that gets there, or
# the first so many. Without a number of bytes: not any more.
sub reset_after
{
	my ($self, $bytes, $times) = @_;

	return $self->command('reset', defined $bytes ? ($bytes, $times // 1) : (0, 0));
}

# How many were reset by reset_after.
sub resets { return $_[0]->command('resets'); }

# Forward in pieces of so many bytes, each in a segment of its own, with a delay of seconds between
# them; 0 is an end of it.
sub pieces { my ($self, $n, $delay) = @_; return $self->command('pieces', $n, $delay // 0); }

# Forward so many bytes a second, each way of each connection; 0 is an end of it.
sub slow { return $_[0]->command('slow', $_[1]); }

# Connections lead to another port from now on. One that there is changes when it is quiet: all
# requests are delivered, the last bytes were a reply, and nothing came for so many seconds (or
# for one second, when there was no reply). Returns when all have changed.
sub switch_to
{
	my ($self, $port, $quiet) = @_;

	return $self->command('switch', $port, $quiet // 0.02);
}

# How many there are, and how many there were in all.
sub connections { return $_[0]->command('connections'); }
sub accepted { return $_[0]->command('accepted'); }

# Send a command, and wait until it is in force.
sub command
{
	my ($self, @words) = @_;
	my $control = $self->{control};
	my $deadline = time() + $PostgreSQL::Test::Utils::timeout_default;
	my $reply = '';

	local $SIG{PIPE} = 'IGNORE';
	syswrite($control, "@words\n") or die "the proxy is gone: $!";
	while ($reply !~ /\n/)
	{
		my $reading = '';

		vec($reading, fileno($control), 1) = 1;
		select($reading, undef, undef, $deadline - time()) > 0 or die "proxy: no end of \"@words\"";
		sysread($control, $reply, 1000, length $reply) or die 'the proxy is gone';
	}
	chomp $reply;
	return $reply;
}

# --- the process ---

my ($listener, $port, $test, $now);
my (%connection, $last_number);

# what is in force
my ($target, $quiet);              # the time is set as long as a switch is under way
my ($frozen, $hold_new, $muted, $refusing);
my ($cut, @plugs);                 # our own connections to ourselves
my ($reset_bytes, $resets_left);
my ($piece, $delay, $rate);
my ($accepted, $resets) = (0, 0);

sub forward
{
	($listener, $port, $target, $test) = @_;
	my $input = '';

	$listener->blocking(0);
	($piece, $delay, $rate, $resets_left) = (0, 0, 0, 0);
	$now = time();
	while (1)
	{
		my ($reading, $writing, $timeout) = ('', '', 600);

		vec($reading, fileno($test), 1) = 1;
		vec($reading, fileno($listener), 1) = 1 if !$cut;
		foreach my $c (values %connection)
		{
			my $t = $frozen || $cut ? 600 : wishes($c, \$reading, \$writing);

			$timeout = $t if $t < $timeout;
		}
		select($reading, $writing, undef, $timeout) >= 0 or next;
		$now = time();
		if (!$frozen && !$cut)
		{
			work($_, $reading, $writing) foreach values %connection;
		}
		greet() if vec($reading, fileno($listener), 1);
		if (vec($reading, fileno($test), 1))
		{
			sysread($test, $input, 1000, length $input) or return;
			while ($input =~ s/^(.*)\n//)
			{
				my $reply = obey(split(/ /, $1));

				syswrite($test, "$reply\n") if defined $reply;
			}
		}
		if (defined $quiet && !grep { $_->{moves} } values %connection)
		{
			undef $quiet;
			syswrite($test, "ok\n");
		}
	}
}

# Execute a command; the reply, or undef for one that comes later.
sub obey
{
	my ($command, @words) = @_;

	if ($command eq 'freeze' || $command eq 'thaw') { $frozen = $command eq 'freeze'; }
	elsif ($command eq 'hold')
	{
		$hold_new = $words[0];
		$_->{held} = 1 foreach values %connection;
	}
	elsif ($command eq 'release')
	{
		my $kept = obey('kept');

		$hold_new = 0;
		$_->{held} = 0 foreach values %connection;
		return $kept;
	}
	elsif ($command eq 'mute') { $muted = $words[0]; }
	elsif ($command eq 'kept')
	{
		my $kept = 0;

		$kept += length $_->{up}{buffer} foreach values %connection;
		return $kept;
	}
	elsif ($command eq 'cut') { unplug() if !$cut; }
	elsif ($command eq 'heal') { plug_in() if $cut; }
	elsif ($command eq 'refuse') { $refusing = $words[0]; }
	elsif ($command eq 'reset')
	{
		($reset_bytes, $resets_left) = @words;
		$_->{passed} = 0 foreach values %connection;
	}
	elsif ($command eq 'resets') { return $resets; }
	elsif ($command eq 'pieces') { ($piece, $delay) = @words; }
	elsif ($command eq 'slow')
	{
		$rate = $words[0];
		foreach my $way (map { @$_{ 'up', 'down' } } values %connection)
		{
			@$way{ 'allowance', 'since' } = (0, $now);
		}
	}
	elsif ($command eq 'switch')
	{
		($target, $quiet) = @words;
		$_->{moves} = 1 foreach values %connection;
		return;
	}
	elsif ($command eq 'connections') { return scalar keys %connection; }
	elsif ($command eq 'accepted') { return $accepted; }
	else { return "unknown command $command"; }
	return 'ok';
}

# Accept who waits.
sub greet
{
	while (my $client = $listener->accept)
	{
		my %way = (buffer => '', ended => 0, closed => 0, next => 0, allowance => 0, since => $now);
		my $c = {
			number => ++$last_number, client => $client, up => {%way}, down => {%way}, passed => 0,
			held => $hold_new, moved => $now, last => 'down'
		};

		if ($refusing)
		{
			reset_socket($client);
			next;
		}
		$accepted++;
		prepare($client);
		$connection{ $c->{number} } = $c;
		connect_to_target($c);
	}
	return;
}

sub prepare
{
	my ($socket) = @_;

	$socket->blocking(0);
	setsockopt($socket, IPPROTO_TCP, TCP_NODELAY, 1);
	return;
}

sub connect_to_target
{
	my ($c) = @_;

	socket($c->{server}, PF_INET, SOCK_STREAM, 0) or die "could not make a socket: $!";
	prepare($c->{server});
	$c->{connecting} = 1;
	connect($c->{server}, sockaddr_in($target, INADDR_LOOPBACK));    # says later how it went
	return;
}

# What a connection waits for, and after how many seconds it is to be looked at in any case.
sub wishes
{
	my ($c, $reading, $writing) = @_;
	my ($up, $down) = @$c{ 'up', 'down' };
	my ($client, $server) = (fileno($c->{client}), fileno($c->{server}));
	my $timeout = 600;

	return 0.002 if $c->{doomed};
	vec($$reading, $client, 1) = 1
	  if !$up->{ended} && ($c->{held} || length $up->{buffer} < $max_buffer);
	vec($$reading, $server, 1) = 1
	  if !$down->{ended} && !$c->{connecting} && length $down->{buffer} < $max_buffer;
	if ($c->{connecting})
	{
		vec($$writing, $server, 1) = 1;
	}
	elsif ($up->{buffer} ne '' && !$c->{held})
	{
		my $t = time_to_wait($up, $c->{server});

		vec($$writing, $server, 1) = 1 if $t <= 0;
		$timeout = $t if $t > 0;
	}
	if ($down->{buffer} ne '' && !$muted)
	{
		my $t = time_to_wait($down, $c->{client});

		vec($$writing, $client, 1) = 1 if $t <= 0;
		$timeout = $t if $t > 0 && $t < $timeout;
	}
	$timeout = 0.005 if $c->{moves} && $timeout > 0.005;
	return $timeout;
}

# Until the next bytes may be sent to the socket; 0 is now.
sub time_to_wait
{
	my ($way, $to) = @_;

	if ($piece)
	{
		return $way->{next} - $now if $way->{next} > $now;
		# what is not on its way would get company in its segment
		return 0.0005 if queued($to, $siocoutqnsd) > 0;
	}
	if ($rate)
	{
		my $most = $rate / 20;

		$way->{allowance} += ($now - $way->{since}) * $rate;
		$most = 1 if $most < 1;
		$way->{allowance} = $most if $way->{allowance} > $most;
		$way->{since} = $now;
		return (1 - $way->{allowance}) / $rate if $way->{allowance} < 1;
	}
	return 0;
}

sub queued
{
	my ($socket, $what) = @_;
	my $n = pack('i', 0);

	ioctl($socket, $what, $n) or return 0;
	return unpack('i', $n);
}

# Read and write what can be read and written.
sub work
{
	my ($c, $reading, $writing) = @_;
	my ($up, $down) = @$c{ 'up', 'down' };
	my ($client, $server) = (fileno($c->{client}), fileno($c->{server}));

	if ($c->{doomed})
	{
		# the bytes before the reset are to arrive
		return if $now < $c->{doomed} && queued($c->{client}, $siocoutq) > 0;
		$resets++;
		reset_socket($c->{client});
		close($c->{server});
		delete $connection{ $c->{number} };
		return;
	}
	if ($c->{connecting} && vec($writing, $server, 1))
	{
		return drop($c) if unpack('i', getsockopt($c->{server}, SOL_SOCKET, SO_ERROR));
		$c->{connecting} = 0;
		vec($writing, $server, 1) = 0;
	}
	take($c, $up, $c->{client}, 'up') if vec($reading, $client, 1);
	take($c, $down, $c->{server}, 'down') if vec($reading, $server, 1);
	pass($c, $up, $c->{server}) if vec($writing, $server, 1);
	pass($c, $down, $c->{client}) if vec($writing, $client, 1);
	finish($c, $up, $c->{server}) if !$c->{connecting} && !$c->{held};
	finish($c, $down, $c->{client});
	# a server whose replies nobody takes must get to the end of its requests nevertheless
	return drop($c) if $up->{closed} && $down->{closed} && ($down->{ended} || $up->{failed});
	move($c) if $c->{moves};
	return;
}

sub take
{
	my ($c, $way, $from, $name) = @_;
	my $n = sysread($from, $way->{buffer}, 262144, length $way->{buffer});

	return if !defined $n && $!{EAGAIN};
	if (!$n)
	{
		$way->{ended} = 1;
		return;
	}
	@$c{ 'moved', 'last' } = ($now, $name);
	# replies for a client that has gone
	$way->{buffer} = '' if $way->{closed};
	return;
}

sub pass
{
	my ($c, $way, $to) = @_;
	my $is_reply = $way == $c->{down};
	my $length = length $way->{buffer};
	my $n;

	return if $length == 0;
	$length = $piece if $piece && $length > $piece;
	$length = int($way->{allowance}) if $rate && $length > $way->{allowance};
	if ($is_reply && $resets_left && $c->{passed} + $length >= $reset_bytes)
	{
		$length = $reset_bytes - $c->{passed};
		$length = 0 if $length < 0;
		if ($length == 0)
		{
			$resets_left--;
			$c->{doomed} = $now + 1;
			return;
		}
	}
	$n = syswrite($to, $way->{buffer}, $length);
	if (!defined $n)
	{
		return if $!{EAGAIN};
		# nobody is there any more
		$way->{buffer} = '';
		$way->{closed} = 1;
		$c->{up}{ended} = 1;
		$c->{up}{failed} = 1 if !$is_reply;
		return;
	}
	substr($way->{buffer}, 0, $n, '');
	$way->{next} = $now + $delay if $piece;
	$way->{allowance} -= $n if $rate;
	$c->{moved} = $now;
	return if !$is_reply;
	$c->{passed} += $n;
	if ($resets_left && $c->{passed} == $reset_bytes)
	{
		$resets_left--;
		$c->{doomed} = $now + 1;
	}
	return;
}

# The end of what one side sends is told to the other side, when it has all.
sub finish
{
	my ($c, $way, $to) = @_;

	return if !$way->{ended} || $way->{closed} || $way->{buffer} ne '';
	shutdown($to, 1);
	$way->{closed} = 1;
	return;
}

# Exchange the server under a quiet connection.
sub move
{
	my ($c) = @_;
	my ($up, $down) = @$c{ 'up', 'down' };

	if (!$up->{ended} && !$down->{ended} && !$c->{doomed})
	{
		return if $c->{connecting} || $up->{buffer} ne '' || $down->{buffer} ne '';
		return if $now - $c->{moved} < ($c->{last} eq 'down' ? $quiet : 1);
		close($c->{server});
		connect_to_target($c);
	}
	$c->{moves} = 0;
	return;
}

sub reset_socket
{
	my ($socket) = @_;

	setsockopt($socket, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0));
	close($socket);
	return;
}

# Both sides see the end; it is a reset when something has not been said.
sub drop
{
	my ($c) = @_;

	foreach my $socket (@$c{ 'client', 'server' })
	{
		$c->{up}{closed} && $c->{down}{closed} ? close($socket) : reset_socket($socket);
	}
	delete $connection{ $c->{number} };
	return;
}

# No answer to an attempt to connect: the queue of those who wait to be accepted is as short as can
# be, and filled up by ourselves; then the kernel drops what asks for a connection.
sub unplug
{
	greet();
	$cut = 1;
	listen($listener, 0);
	foreach (1 .. 4)
	{
		socket(my $plug, PF_INET, SOCK_STREAM, 0) or die "could not make a socket: $!";
		$plug->blocking(0);
		connect($plug, sockaddr_in($port, INADDR_LOOPBACK));
		push @plugs, $plug;
	}
	return;
}

sub plug_in
{
	drop($_) foreach values %connection;
	reset_socket($_) foreach splice(@plugs);
	# ours, and who came between us
	while (my $client = $listener->accept) { reset_socket($client); }
	listen($listener, SOMAXCONN);
	$cut = 0;
	return;
}

1;
