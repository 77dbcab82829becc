# Guards whose scenario stands between two steps of a sender, or where only one of them has happened.
#
# Every scenario runs twice: with its guard on, where fetch must return what the table has (or what
# else was promised must hold), and with it off, where that goes wrong.

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use CacheKit;
use CacheServer;
use RedisServer;

my $redis = RedisServer->new('guards')->start;
my $node = new_node('guards', allows_streaming => 1);
my $wal_end = 'SELECT pg_current_wal_insert_lsn()';
my $message_size = 80;    # in the WAL, of the message by which a sender takes "now"; corrected below

# What would write WAL by itself is off, and all keys share a stripe.
$node->append_conf('postgresql.conf', q{
autovacuum = off
bgwriter_lru_maxpages = 0
cachekit.fetch_timeout = '60s'
cachekit.fence_stripes = 1
cachekit.debug_stop = 'flush-sent@hot:exit'
});
$node->start;
$node->safe_psql('postgres', sprintf q{
	CREATE EXTENSION cachekit;
	CREATE TABLE item (id int PRIMARY KEY, v text);
	CREATE TABLE near (id int PRIMARY KEY, v text);
	CREATE TABLE part (id int PRIMARY KEY, v text);
	CREATE VIEW card AS SELECT i.id, p.v FROM near AS i JOIN part AS p ON p.id = i.id %% 10;
	INSERT INTO near SELECT i, 'old' FROM generate_series(1, 9) AS i;
	INSERT INTO part SELECT i, 'old' FROM generate_series(1, 99) AS i;
	CREATE SERVER hot FOREIGN DATA WRAPPER cachekit
		OPTIONS (%s, command_timeout '60 s', breaker_reset '50 ms', connections '1');
	SELECT cachekit.attach('item', servers => '{hot}', local => false, ttl => '1 h');
	CREATE TABLE lone AS SELECT 1 AS id, 'old' AS v;
	SELECT cachekit.attach('lone', key => '{id}');
	SELECT cachekit.attach('card', key => '{id}', servers => '{hot}', local => false);
	SELECT cachekit.add_dependency('card', 'part', via => 'SELECT id FROM near WHERE id %% 10 = ($1).id')},
	$redis->server_options);

sub sql { return $node->safe_psql('postgres', $_[0]); }
sub stat_of { return server_stat($node, 'hot', $_[0]); }
sub value_of { return sql("SELECT cachekit.fetch('item', $_[0])->>'v'"); }
sub fill { filled($node, $redis, 'item', $_[0]) or die "item $_[0] was not filled"; return; }

sub wait_stat
{
	my ($condition) = @_;

	wait_for_server($node, 'hot', $condition) or die "timed out waiting for $condition";
	return;
}

sub all_delivered
{
	delivered($node, 'hot') or die 'not everything was delivered';
	return;
}

# A new epoch begins.
sub reconnect
{
	my $reconnects = stat_of('reconnects');

	$redis->cli('CLIENT', 'KILL', 'TYPE', 'normal');
	wait_stat("reconnects > $reconnects");
	return;
}

# Begin anew: rows 1 to 9, a sender that has begun anew with all guards on.
sub begin
{
	disable($node, '');
	wait_until_ready($node, 'hot') or die 'not ready';
	reconnect();
	sql(q{TRUNCATE item; INSERT INTO item SELECT i, 'old' FROM generate_series(1, 9) AS i});
	all_delivered();
	fill(1);
	return;
}

# Its place is free for another one.
sub drop_server
{
	my ($name) = @_;

	sql("SET client_min_messages = error; DROP SERVER $name CASCADE");
	$node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM cachekit.server_states()')
	  or die 'the server is still there';
	return;
}

# --- the end of the WAL ---

sub in_page { return sql("SELECT (pg_current_wal_insert_lsn() - '0/0') % 8192"); }

# The insert pointer is so far from the end of its page.
sub pad_page
{
	my ($left) = @_;
	my $overhead = 64;

	foreach my $attempt (1 .. 30)
	{
		my $at = in_page();
		my $size = 8192 - $left - $at - $overhead;

		return if $at == 8192 - $left;
		# to the next one, when there is no room
		$size = 8192 - $at if $size < 8;
		sql("SELECT pg_logical_emit_message(false, 'padding', repeat('x', $size))");
		$at = in_page();
		$overhead += $at - (8192 - $left) if abs($at - (8192 - $left)) < 200;
	}
	die 'the page could not be padded';
}

# --- the scenarios; each returns true when the guard has done its work ---

my %scenario = (

	# row 12: a flush for a name that is another one when the record is read
	'old-name' => sub {
		my $gone;

		sql(q{SELECT cachekit.attach('item', name => 'thing')});
		all_delivered();
		$gone = $redis->cli('EXISTS', 'postgres:item:1') eq '0';
		sql(q{SELECT cachekit.attach('item', name => 'item')});
		all_delivered();
		return $gone;
	},

	# row 21: "now", when the record that it is the end of ends with its page
	'message-end' => sub {
		my ($also) = @_;
		my $writer = sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'background writer'});
		my $offset = -s $node->logfile;
		my $beyond = '';

		kill('STOP', $writer) == 1 or die 'could not stop the background writer';
		foreach my $attempt (1 .. 30)
		{
			my $at;

			pad_page($message_size);
			reconnect();
			wait_stat($also eq '' ? q{state = 'ready'} : 'true');
			$at = in_page();
			$beyond = log_lines($node, qr/past end of generated WAL|flush request .* is not satisfied/, $offset);
			last if $at == 24 || $beyond ne '';
			$message_size += $at > 4096 ? 8192 - $at : -($at - 24) if $also eq '' && ($at > 8000 || $at < 200);
			die 'the message could not be put at the end of its page' if $attempt == 30;
		}
		kill('CONT', $writer);
		disable($node, '');
		all_delivered();
		return $beyond eq '' && log_lines($node, qr/past end of generated WAL/, $offset) eq '';
	},

	# row 23: a commit that no sender is told of, in the same stripe
	'record-end' => sub {
		my ($also) = @_;
		my $hits;

		disable($node, "feed-read$also");
		$hits = stat_of('read_hits');
		sql(q{UPDATE lone SET v = v || '.'});
		value_of(1);
		return stat_of("read_hits > $hits") eq 't';
	},

	# a deletion that the cache refuses
	'acknowledgement' => sub {
		my ($also) = @_;
		my $reconnects = stat_of('reconnects');

		$redis->cli('ACL', 'SETUSER', 'default', '-del');
		sql(q{UPDATE item SET v = 'new' WHERE id = 1});
		wait_stat("reconnects > $reconnects") if $also eq '';
		all_delivered() if $also ne '';
		$redis->cli('ACL', 'SETUSER', 'default', '+del');
		all_delivered();
		return value_of(1) eq 'new';
	},

	# row 26: the sender ends when a flush has begun, and the marker has passed it
	'flush-hold' => sub {
		my $offset = -s $node->logfile;
		my $holder = hold($node, 'flush-sent');

		sql(q{BEGIN; TRUNCATE item; INSERT INTO item SELECT i, 'new' FROM generate_series(1, 9) AS i; COMMIT});
		$node->wait_for_log(qr/step "flush-sent" of cachekit.debug_stop/, $offset);
		$holder->quit;
		all_delivered();
		marked($node, $redis);
		return value_of(1) eq 'new';
	},

	# a session chose the server, and asks when another one has its place
	'for-us' => sub {
		my $holder = hold($node, 'asking');
		my $reader = session($node, 'postgres', q{cachekit.debug_stop = 'asking'});
		my $value;

		send_query($reader, q{SELECT cachekit.fetch('item', 1)->>'v'});
		wait_at_step($node, 'asking');
		drop_server('hot');
		sql(sprintf q{CREATE SERVER other FOREIGN DATA WRAPPER cachekit OPTIONS (%s, namespace 'other')},
			$redis->server_options);
		wait_until_ready($node, 'other') or die 'not ready';
		$redis->poll('1', 'EXISTS', 'other:cachekit') or die 'there is no marker';
		$redis->cli('SET', 'other:item:1', '{"id": 1, "v": "a stranger"}');
		$holder->quit;
		$value = result($reader);
		$reader->quit;
		drop_server('other');
		sql(sprintf q{
			CREATE SERVER hot FOREIGN DATA WRAPPER cachekit
				OPTIONS (%s, command_timeout '60 s', breaker_reset '50 ms', connections '1');
			SELECT cachekit.attach('item', servers => '{hot}');
			SELECT cachekit.attach('card', servers => '{hot}')}, $redis->server_options);
		all_delivered();
		return $value eq 'old';
	},

	# row 17: a commit whose query has found no keys, yet
	'links-record' => sub {
		my ($also) = @_;

		disable($node, "marker-write$also");
		sql(q{UPDATE part SET v = 'new' WHERE id = 99});
		sql(q{SELECT cachekit.fetch('card', 1)});
		# the sender has had its turn when what nobody has changed since is there
		fill(5) if $also eq '';
		$redis->poll('1', 'EXISTS', 'postgres:card:1') if $also ne '';
		return $redis->cli('EXISTS', 'postgres:card:1') eq '0';
	},

	# row 10: the traces have gone with all the rest, by our own flush
	'void-traces' => sub {
		my $reconnects;

		sql(q{UPDATE item SET v = 'new' WHERE id < 5});
		all_delivered();
		$reconnects = stat_of('reconnects');
		sql(q{SELECT pg_logical_emit_message(true, 'cachekit', 'what nobody understands')});
		all_delivered();
		marked($node, $redis);
		return stat_of("reconnects = $reconnects") eq 't';
	},
);

try_scenarios($node, \&begin, \%scenario,
	'links-record', 'record-end');
$node->stop;
done_testing();
