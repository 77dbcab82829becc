# Every step of a change on its way, from the commit to the marker in the cache, and back: a process
# stands there, and goes on; or it dies there, and the cluster starts again.
#
# While it stands, and right after a crash, every fetch must be the table's; and when all is
# delivered, every document in the cache must be, too: nothing lost, nothing old. Sessions set
# cachekit.debug_stop for themselves; senders, launcher and refresher have all of their steps in the
# configuration, which is nothing to them as long as nobody holds a step's lock. The last part sees
# the same with guards switched off, and must find something wrong.

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use CacheKit;
use CacheServer;
use MemcachedServer;
use RedisServer;

my %cache = (
	redis => RedisServer->new('main')->start,
	memcached => MemcachedServer->new('main')->start);
my $node = new_node('main', allows_streaming => 1);
my ($kind, $cache);
my $options = 0;

# What makes a process come to a step. Each row of "item" that it changes has a document in the cache
# before, and so has that of "near" in the local tier.
my %action = (
	update => 'BEGIN; UPDATE item SET v = v + 1 WHERE id = 1; UPDATE near SET v = v + 1 WHERE id = 1; COMMIT',
	link => 'UPDATE part SET v = v + 1 WHERE id = 1',
	setting => q{SELECT cachekit.attach('item', ttl => '2 h')},
	fetch => q{SELECT cachekit.fetch('item', 2)},
	# until it is there: a fill may be dropped
	fill => q{DO $$ BEGIN
		UPDATE item SET v = v + 1 WHERE id = 2; COMMIT;
		FOR i IN 1 .. 1000 LOOP
			PERFORM cachekit.fetch('item', 2);
			EXIT WHEN (SELECT present FROM cachekit.inspect('item', 2) WHERE tier = 'hot');
			COMMIT;
		END LOOP; END $$},
	read => q{SET cachekit.fetch_timeout = '60s'; SELECT cachekit.fetch('item', 1)},
	audit => q{SELECT * FROM cachekit.audit('item')},
	flush => q{BEGIN; TRUNCATE item;
		INSERT INTO item SELECT i, random() * 1000000 FROM generate_series(1, 5) AS i; COMMIT},
	refresh => 'UPDATE live SET v = v + 1 WHERE id = 1',
	reconnect => q{ALTER SERVER hot OPTIONS (SET connect_timeout '%d ms')},
	replace => q{ALTER SERVER hot OPTIONS (SET max_lifetime '200 ms')},
	terminate => q{SELECT pg_terminate_backend(pid) FROM cachekit.server_states()});

# Steps of sessions, in their order, and what brings them there.
my @session_steps = (
	[ 'load-token', 'fetch' ], [ 'load-snapshot', 'fetch' ], [ 'load-done', 'fetch' ],
	[ 'flight-wait', 'fetch' ], [ 'asking', 'read' ], [ 'audit-looked', 'audit' ],
	[ 'pre-commit', 'update' ], [ 'links-raised', 'link' ], [ 'links-resolved', 'link' ],
	[ 'raised', 'update' ], [ 'recorded', 'update' ], [ 'committed', 'update' ],
	[ 'lowered', 'update' ], [ 'unlocked', 'setting' ]);

# Steps of workers.
my @worker_steps = (
	[ 'collected', 'update' ], [ 'sent', 'update' ], [ 'acknowledged', 'update' ],
	[ 'marker-due', 'update' ], [ 'marker-sent', 'update' ], [ 'marker-acknowledged', 'update' ],
	[ 'flush-sent', 'flush' ], [ 'flushed', 'flush' ], [ 'flush-ended', 'flush' ],
	[ 'fill-sent', 'fill' ], [ 'filled', 'fill' ], [ 'read-sent', 'read' ],
	[ 'read-answered', 'read' ],
	[ 'refresh-asked', 'refresh' ], [ 'refresh-loaded', 'refresh' ], [ 'refresh-stored', 'refresh' ],
	[ 'scanned', 'reconnect' ], [ 'owner-written', 'reconnect' ], [ 'marker-read', 'reconnect' ],
	[ 'resuming', 'reconnect' ], [ 'caught-up', 'reconnect' ],
	[ 'emptying', 'reconnect' ], [ 'emptied', 'reconnect' ],
	[ 'starting', 'terminate' ], [ 'replacing', 'replace' ]);

# Of these, those at which what there is to be repeated depends on the kind of server.
my %of_driver = map { $_ => 1 } qw(sent acknowledged marker-sent marker-acknowledged flush-sent flushed
  fill-sent filled read-sent refresh-stored owner-written emptied);

# --- the cluster ---

$node->append_conf('postgresql.conf', q{
max_worker_processes = 20
restart_after_crash = on
autovacuum = off
cachekit.fetch_timeout = '20ms'
cachekit.refresh_timeout = '60s'
});
$node->start;

sub sql { return $node->safe_psql('postgres', $_[0]); }

# What workers do at their steps when somebody holds the lock.
sub configure
{
	my ($action) = @_;

	sql(sprintf q{ALTER SYSTEM SET cachekit.debug_stop = '%s'},
		join(', ', map { "$_->[0]\@hot$action" } grep { $_->[0] !~ /^(scanned|refresh-loaded)$/ } @worker_steps)
		  . join('', map { ", $_$action" } 'scanned', 'refresh-loaded'));
	$node->restart;
	return;
}

sub new_server
{
	($kind) = @_;
	$cache = $cache{$kind};
	sql(sprintf q{
		CREATE EXTENSION cachekit;
		CREATE TABLE item (id int PRIMARY KEY, v int);
		CREATE TABLE live (id int PRIMARY KEY, v int);
		CREATE TABLE near (id int PRIMARY KEY, v int);
		CREATE TABLE part (id int PRIMARY KEY, v int);
		CREATE VIEW card AS SELECT i.id, i.v, p.v AS p FROM near AS i JOIN part AS p ON p.id = i.id %% 2;
		INSERT INTO item SELECT i, 0 FROM generate_series(1, 5) AS i;
		INSERT INTO live SELECT * FROM item;
		INSERT INTO near SELECT * FROM item;
		INSERT INTO part VALUES (0, 0), (1, 0);
		CREATE SERVER hot FOREIGN DATA WRAPPER cachekit
			OPTIONS (%s, connect_timeout '5 s', command_timeout '60 s', breaker_reset '50 ms',
				max_lifetime '0', connections '2'%s);
		SELECT cachekit.attach('item', servers => '{hot}', local => false, ttl => '1 h');
		SELECT cachekit.attach('live', servers => '{hot}', local => false, on_change => 'refresh');
		SELECT cachekit.attach('near');
		SELECT cachekit.attach('card', key => '{id}', servers => '{hot}', local => false);
		SELECT cachekit.add_dependency('card', 'part', via => 'SELECT id FROM near WHERE id %% 2 = ($1).id');
		}, $cache->server_options, $kind eq 'redis' ? '' : q{, flush_method 'scan'});
	return;
}

sub drop_server
{
	sql('DROP EXTENSION cachekit CASCADE; DROP TABLE item, live, near, part CASCADE');
	return;
}

# How many fetches are not the table's.
my $wrong_fetches = join(' + ', map {
		"(SELECT count(*) FROM $_ AS t WHERE cachekit.fetch('$_', t.id) IS DISTINCT FROM to_jsonb(t))"
	} qw(item live near card));

sub wrong_fetches { return sql("SELECT $wrong_fetches"); }

# What is wrong when all is delivered; "" is good.
sub wrong_at_rest
{
	my %document;
	my ($wrong, $fetches) = ('', '');
	my (@keys, @values);

	delivered($node, 'hot') or return 'not everything was delivered';
	$fetches = wrong_fetches();
	@keys = grep { !/cachekit/ } $cache->keys_like('postgres:*');
	@values = $cache->values_of(@keys);
	%document = map { split(/\|/, $_, 2) } split(/\n/, sql(join(' UNION ALL ', map {
		"SELECT cachekit.key('$_', id), to_jsonb(t)::text FROM $_ AS t" } qw(item live card))));
	for my $i (0 .. $#keys)
	{
		next if ($values[$i] // '') eq '';    # deleted meanwhile, or the place for a document
		$wrong .= "$keys[$i]: $values[$i]; " if $values[$i] ne ($document{ $keys[$i] } // '');
	}
	return $wrong . ($fetches eq '0' ? '' : "$fetches fetches");
}

# Documents are where they would be old after the action.
sub warm
{
	my ($what) = @_;
	my @keys = ([ 'item', 1 ]);

	push @keys, [ 'live', 1 ] if $what eq 'refresh';
	push @keys, [ 'card', 1 ] if $what eq 'link';
	delivered($node, 'hot') or die 'not everything was delivered';
	filled($node, $cache, @$_) or die "@$_ was not filled" foreach @keys;
	sql(q{SELECT cachekit.fetch('near', 1)});
	# a fetch that loads
	sql(q{UPDATE item SET v = v + 1 WHERE id = 2}) if $what eq 'fetch';
	delivered($node, 'hot') or die 'not everything was delivered';
	return;
}

sub statement
{
	my ($step, $what) = @_;

	# then the marker does not fit
	$cache->delete('postgres:cachekit') if $step =~ /^empt/;
	return $what eq 'reconnect' ? sprintf($action{$what}, 5000 + ++$options) : $action{$what};
}

# The server is back after the crash that has been seen in the log from this offset on.
sub wait_for_crash
{
	my ($offset) = @_;

	$offset = $node->wait_for_log(qr/terminated by signal 9/, $offset);
	$node->wait_for_log(qr/ready to accept connections/, $offset);
	$node->poll_query_until('postgres', 'SELECT true') or die 'the server is not back';
	return;
}

# Who comes to the step, and what must be there already.
sub actor_at
{
	my ($step, $stop, $is_session) = @_;
	my @others;

	if ($step eq 'flight-wait')
	{
		@others = (hold($node, 'load-done'), session($node, 'postgres', q{cachekit.debug_stop = 'load-done'}));
		send_query($others[1], $action{fetch});
		wait_at_step($node, 'load-done');
	}
	return (session($node, 'postgres', $is_session ? "cachekit.debug_stop = '$stop'" : ()), @others);
}

# A process stands at the step, others go on, then it does. What is wrong meanwhile, and in the end;
# "" is good.
sub pause_at
{
	my ($step, $what, $is_session) = @_;
	my ($holder, $actor, @others, $between);

	warm($what);
	$holder = hold($node, $step);
	($actor, @others) = actor_at($step, $step, $is_session);
	send_query($actor, statement($step, $what));
	wait_at_step($node, $step);
	$between = wrong_fetches();
	sql('UPDATE item SET v = v + 1 WHERE id = 3; UPDATE live SET v = v + 1 WHERE id = 3');
	$between += wrong_fetches();
	$holder->quit;
	shift(@others)->quit if @others;
	result($actor);
	$_->quit foreach $actor, @others;
	return ($between == 0 ? '' : "$between fetches", wrong_at_rest());
}

# A process ends there by SIGKILL, and the cluster starts again. The same of right after that.
sub crash_at
{
	my ($step, $what, $is_session) = @_;
	my $offset = -s $node->logfile;
	my ($holder, $actor, @others, $after);

	warm($what);
	($actor, @others) = actor_at($step, "$step:crash", $is_session);
	# these may be gone before they have said so: an idle sender reads, and writes its marker, too
	eval { $holder = hold($node, $step); send_query($actor, statement($step, $what)) };
	wait_for_crash($offset);
	lost($_) foreach $actor, $holder, @others;
	$after = wrong_fetches();
	return ($after == 0 ? '' : "$after fetches", wrong_at_rest());
}

# --- none is forgotten ---

my ($list) = slurp_file('src/debug.c') =~ /^static const Step steps\[\] = \{(.*?)^\};/ms;
is( join(' ', sort map { $_->[0] } @session_steps, @worker_steps),
	join(' ', sort $list =~ /^\t\{"([a-z-]+)"/mg), 'every step is here');

# --- what may be said of a step ---

foreach my $bad (
	[ 'nowhere', 'There is no step "nowhere".' ],
	[ 'raised:fall', 'At the step "raised" it can be "pause", "error", "exit" or "crash".' ],
	[ 'committed:error', 'At the step "committed" it can be "pause" or "crash".' ],
	[ 'lowered:exit', 'At the step "lowered" it can be "pause" or "crash".' ],
	[ 'sent@hot:error', 'At the step "sent" it can be "pause", "exit" or "crash".' ])
{
	my ($stop, $detail) = @$bad;

	like(error_of($node, "SET cachekit.debug_stop = 'raised, $stop'"), qr/\Q$detail\E/, "$stop is refused");
}

# --- every step ---

foreach my $this ('redis', 'memcached')
{
	my @steps = (
		(map { [ @$_, 1 ] } $this eq 'redis' ? @session_steps : ()),
		map { [ @$_, 0 ] } @worker_steps);

	new_server($this);
	configure('');
	foreach my $step (@steps)
	{
		my ($between, $rest) = pause_at(@$step);

		is($between, '', "$kind: who stands at $step->[0]: nothing is old");
		is($rest, '', "$kind: who stood at $step->[0]: nothing is lost");
	}
	sql(q{ALTER SERVER hot OPTIONS (SET max_lifetime '0')});
	configure(':crash');
	foreach my $step ($this eq 'redis' ? @steps : grep { $of_driver{ $_->[0] } } @steps)
	{
		my ($after, $rest) = crash_at(@$step);

		is($after, '', "$kind: crash at $step->[0]: nothing is old");
		is($rest, '', "$kind: crash at $step->[0]: nothing is lost");
	}
	drop_server();
}

# --- what would be found ---

new_server('redis');
configure('');
foreach my $try (
	[ 'change-raise', 'committed', 'update', 1 ],
	[ 'visible-removal', 'committed', 'update', 1 ],
	[ 'flush-hold', 'flush-sent', 'flush', 0 ])
{
	my ($guard, $step, $what, $is_session) = @$try;
	my @wrong;

	configure($is_session ? '' : ':crash');
	disable($node, $guard);
	@wrong = $is_session ? pause_at($step, $what, 1) : crash_at($step, $what, 0);
	isnt(join('', @wrong), '', "$guard off, at $step: caught");
	disable($node, '');
	sql(q{SELECT cachekit.flush('item'), cachekit.flush('near')});
}

$node->stop;
unlike(slurp_file($node->logfile), qr/PANIC:|TRAP:|terminated by signal (?!9:)/, 'nobody crashed otherwise');
done_testing();
