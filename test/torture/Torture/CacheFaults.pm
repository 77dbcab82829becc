# CacheFaults.pm - what happens to Redis, to Memcached, and on the way to them
#
# Each fault gets the world and its chance, says what exactly it does, and returns when it is over.
package Torture::CacheFaults;

use strict;
use warnings FATAL => 'all';

use Time::HiRes qw(sleep);

our %faults = (

	# --- Redis ---

	'redis-kill' => sub {
		my ($world, $chance, $say) = @_;
		my $dead = $chance->between(0, 1.5);

		$say->(sprintf('dead for %.1f s, then empty', $dead));
		$world->redis->kill9;
		$world->meanwhile($dead);
		$world->redis->forget_dump;
		$world->redis->start;
	},
	'redis-freeze' => sub {
		my ($world, $chance, $say) = @_;

		freeze($world, $chance, $say, $world->redis);
	},
	'redis-old-rdb' => sub {
		my ($world, $chance, $say) = @_;
		my $redis = $world->redis;
		my ($age, $dead) = ($chance->between(0.3, 2), $chance->between(0, 0.8));

		$say->(sprintf('a dump %.1f s old', $age));
		$redis->keep_dump('old.rdb');
		sleep($age);
		$redis->kill9;
		$world->meanwhile($dead);
		$redis->restore_dump('old.rdb');
		$world->data_go_back;
		$redis->start;
		$world->data_go_back;
	},
	'redis-failover' => sub {
		my ($world, $chance, $say) = @_;
		my ($redis, $other) = $world->another_redis;
		my $lag = $chance->between(0.2, 1.5);
		my $way = $chance->one_of('killed', 'living connections', 'REPLICAOF');

		$say->(sprintf('to a replica %.1f s behind, %s', $lag, $way));
		follow($world, $other, $redis);
		$other->cli('REPLICAOF', 'NO', 'ONE');
		sleep($lag);
		if ($way eq 'REPLICAOF')
		{
			# the one that cachekit is connected to takes what the other has
			$world->data_go_back;
			follow($world, $redis, $other);
			$world->data_go_back;
			$world->meanwhile($chance->between(0, 0.5));
			$redis->cli('REPLICAOF', 'NO', 'ONE');
			$other->kill9;
			return;
		}
		$redis->kill9 if $way eq 'killed';
		$world->data_go_back;
		$world->use_redis($other);
		$world->data_go_back;
		$redis->kill9;
	},
	'redis-flushall' => sub {
		my ($world, $chance, $say) = @_;
		my @command = @{ $chance->one_of([ 'FLUSHALL', 'SYNC' ], [ 'FLUSHALL', 'ASYNC' ], ['FLUSHDB']) };

		$say->("@command");
		$world->redis->cli(@command);
	},
	'redis-swapdb' => sub {
		my ($world, $chance, $say) = @_;
		my $away = $chance->between(0, 1.5);

		$say->(sprintf('and back after %.1f s', $away));
		foreach my $pause ($away, 0)
		{
			$world->data_go_back;
			$world->redis->cli('SWAPDB', 0, 1);
			$world->data_go_back;
			$world->meanwhile($pause) if $pause;
		}
	},
	'redis-full' => sub {
		my ($world, $chance, $say) = @_;

		full($world, $chance, $say, 'noeviction');
	},
	'redis-evicts' => sub {
		my ($world, $chance, $say) = @_;

		full($world, $chance, $say, $chance->one_of('allkeys-lru', 'allkeys-random'));
	},

	# --- Memcached ---

	'memcached-kill' => sub {
		my ($world, $chance, $say) = @_;
		my ($host, $number) = some_host($world, $chance);
		my $dead = $chance->between(0, 1.5);

		$say->(sprintf('host %d, dead for %.1f s', $number, $dead));
		$host->kill9;
		$world->meanwhile($dead);
		$host->start;
	},
	'memcached-freeze' => sub {
		my ($world, $chance, $say) = @_;
		my ($host, $number) = some_host($world, $chance);

		freeze($world, $chance, $say, $host);
	},
	'memcached-flush' => sub {
		my ($world, $chance, $say) = @_;
		my ($host, $number) = some_host($world, $chance);

		$say->("host $number");
		$host->flush_all;
	},

	# Memcached evicts what is in the way of a stranger's items, or with -M refuses what is new.
	'memcached-full' => sub {
		my ($world, $chance, $say) = @_;
		my ($host, $number) = some_host($world, $chance);
		my @options = ('-m', '2', $chance->percent(50) ? '-M' : ());
		my $rounds = 2 + $chance->below(3);

		$say->("host $number, memcached @options, filled up $rounds times");
		$host->kill9;
		$host->use_options(@options);
		$host->start;
		foreach my $round (1 .. $rounds)
		{
			$host->ask(stranger_items($round) . "mn\r\n", sub { ${ $_[0] } =~ /MN\r\n\z/ });
			$world->meanwhile(0.3);
		}
		$host->kill9;
		$host->use_options('-m', '64');
		$host->start;
	},

	# --- the way there: that of one, or of all at once ---

	'link-reset' => sub {
		my ($world, $chance, $say) = @_;
		my @links = some_links($world, $chance, my $name);
		my @bytes = map { $chance->below(5000) } 0 .. $chance->below(4);

		$say->("$name, after @bytes bytes of replies");
		foreach my $bytes (@bytes)
		{
			$_->reset_after($bytes, 2) foreach @links;
			$world->meanwhile(0.2);
		}
		$_->reset_after foreach @links;
	},
	'link-cut' => sub {
		my ($world, $chance, $say) = @_;

		on_link($world, $chance, $say, [ 0.3, 2.5 ], sub { $_[0]->cut }, sub { $_[0]->heal });
	},
	'link-cut-requests' => sub {
		my ($world, $chance, $say) = @_;

		on_link($world, $chance, $say, [ 0.1, 2 ],
			sub { $_[0]->hold_requests(all => 1) }, sub { $_[0]->release_requests });
	},
	'link-cut-replies' => sub {
		my ($world, $chance, $say) = @_;

		on_link($world, $chance, $say, [ 0.1, 2 ],
			sub { $_[0]->hold_replies }, sub { $_[0]->release_replies });
	},
	'link-slow' => sub {
		my ($world, $chance, $say) = @_;
		my $rate = int($chance->between(2_000, 50_000));

		on_link($world, $chance, $say, [ 1, 2.5 ],
			sub { $_[0]->slow($rate) }, sub { $_[0]->slow(0) }, "$rate bytes a second");
	},
	'link-bytewise' => sub {
		my ($world, $chance, $say) = @_;
		my $piece = 1 + $chance->below(3);
		my $pause = $chance->one_of(0, 0.0005);

		on_link($world, $chance, $say, [ 1, 2 ],
			sub { $_[0]->pieces($piece, $pause) }, sub { $_[0]->pieces(0) },
			"$piece at a time, $pause s apart");
	},
);

sub freeze
{
	my ($world, $chance, $say, $server) = @_;
	my $time = $chance->between(0.2, 2.5);

	$say->(sprintf('%.1f s', $time));
	$server->signal('STOP');
	$world->meanwhile($time);
	$server->signal('CONT');
	return;
}

# The second Redis has the data of the first.
sub follow
{
	my ($world, $second, $first) = @_;

	$second->cli('REPLICAOF', '127.0.0.1', $first->port);
	$world->wait_for('a replica of Redis',
		sub { $second->cli('INFO', 'replication') =~ /master_link_status:up/ });
	return;
}

# No room for more than a part of what there is.
sub full
{
	my ($world, $chance, $say, $policy) = @_;
	my $redis = $world->redis;
	my $percent = int($chance->between(60, 100));
	my $time = $chance->between(0.5, 2.5);
	my ($used) = $redis->cli('INFO', 'memory') =~ /^used_memory:(\d+)/m;

	$say->(sprintf('%s, %d %% of what is used, %.1f s', $policy, $percent, $time));
	$redis->cli('CONFIG', 'SET', 'maxmemory-policy', $policy);
	$redis->cli('CONFIG', 'SET', 'maxmemory', int($used * $percent / 100));
	$world->meanwhile($time);
	$redis->cli('CONFIG', 'SET', 'maxmemory', 0);
	return;
}

# Commands that fill up more than 2 MB with items as large as our documents.
sub stranger_items
{
	my ($round) = @_;
	my $items = '';

	foreach my $n (1 .. 30_000)
	{
		my $size = 50 + ($n * 7) % 350;

		$items .= "set stranger:$round:$n 0 0 $size noreply\r\n" . 'x' x $size . "\r\n";
	}
	return $items;
}

sub some_host
{
	my ($world, $chance) = @_;
	my @hosts = $world->memcached;
	my $number = $chance->below(scalar @hosts);

	return ($hosts[$number], $number);
}

# Links; what they are called is put into the last argument.
sub some_links
{
	my ($world, $chance) = @_;
	my %links = $world->links;

	$_[2] = $chance->one_of(sort(keys %links), 'all');
	return $_[2] eq 'all' ? map { $links{$_} } sort keys %links : $links{ $_[2] };
}

sub on_link
{
	my ($world, $chance, $say, $seconds, $break, $heal, $what) = @_;
	my @links = some_links($world, $chance, my $name);
	my $time = $chance->between(@$seconds);

	$say->(sprintf('%s, %s%.1f s', $name, defined $what ? "$what, " : '', $time));
	$break->($_) foreach @links;
	$world->meanwhile($time);
	$heal->($_) foreach @links;
	return;
}

1;
