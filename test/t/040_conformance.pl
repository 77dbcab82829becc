# The same cases on each kind of cache: a Redis, a Memcached, and three Memcacheds that are one
# server. Each case tells in lines of text what another client has found in the cache, what
# fetches and counters said; the lines are what they should be, and, whatever that is, the same for
# every kind, byte for byte.

use strict;
use warnings FATAL => 'all';

use Digest::MD5 qw(md5_hex);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use CacheKit;
use CacheServer;
use MemcachedRing;
use MemcachedServer;
use RedisServer;

my $patient = q{command_timeout '10s'};    # other work on this machine is no fault
my $node = new_node('main', allows_streaming => 1);
$node->append_conf('postgresql.conf', q{
max_worker_processes = 20
max_replication_slots = 20
cachekit.fetch_timeout = '10s'
cachekit.max_value_size = '4MB'
cachekit.ttl_jitter = 0
});
$node->start;

my ($kind, $cache, $small, @seen);

sub sql { return output_of($node, $_[0]); }
sub see { push @seen, @_; return; }

sub stat_of { return server_stat($node, 'hot', join(q{ || ' ' || }, @_)); }

# A table, attached; its rows are numbered by "n".
sub entity
{
	my ($name, $columns, $rows, @settings) = @_;

	sql("CREATE TABLE $name (n int, $columns); INSERT INTO $name $rows; SELECT "
		  . join(', ', "cachekit.attach('$name', servers => '{hot}', local => false", @settings)
		  . ')');
	return;
}

# For each row its cache key and its document, as the table says.
sub rows_of
{
	my ($name, $key) = @_;

	return map { [ (split(/\|/, $_, 3))[ 1, 2 ] ] } split(/\n/, sql(qq{
		SELECT n, cachekit.key('$name', $key), to_jsonb(r)::text FROM $name AS r ORDER BY n}));
}

# What another client finds under the keys of all rows.
sub found
{
	my ($name, $key) = @_;

	return $cache->values_of(map { $_->[0] } rows_of($name, $key));
}

# Fetch all rows until the cache has each of them, and tell what it has.
sub fill_all
{
	my ($name, $key) = @_;
	my @rows = rows_of($name, $key);
	my %distinct = map { $_->[0] => 1 } @rows;
	my @values;

	foreach my $attempt (1 .. $PostgreSQL::Test::Utils::timeout_default)
	{
		sql("SELECT count(cachekit.fetch('$name', $key)) FROM $name");
		foreach my $look (1 .. 20)
		{
			@values = $cache->values_of(map { $_->[0] } @rows);
			last if !grep { $_ eq '' } @values;
			select(undef, undef, undef, 0.02);
		}
		last if !grep { $_ eq '' } @values;
	}
	see(sprintf('%d rows, %d keys, %d right',
			scalar @rows, scalar keys %distinct,
			scalar grep { $values[$_] eq $rows[$_][1] } 0 .. $#rows));
	see(md5_hex(join("\n", map { "$rows[$_][0] $values[$_]" } 0 .. $#rows)) . ' all');
	return @rows;
}

sub deliver
{
	delivered($node, 'hot') or die "$kind: not delivered";
	return;
}

# Fill it, change all, fill it, delete every other row: what is in the cache after each.
sub whole_life
{
	my ($name, $key) = @_;
	my @rows = fill_all($name, $key);
	my @left;

	sql("UPDATE $name SET v = v || ' changed'");
	deliver();
	see('changed: ' . grep { $_ ne '' } found($name, $key));
	see('fetched: ' . sql("SELECT count(*) FROM $name AS r
		WHERE cachekit.fetch('$name', $key) IS DISTINCT FROM to_jsonb(r)"));
	fill_all($name, $key);
	sql("DELETE FROM $name WHERE n % 2 = 0");
	deliver();
	@left = $cache->values_of(map { $_->[0] } @rows);
	see('deleted: ' . grep { $_ % 2 == 1 && $left[$_] ne '' } 0 .. $#rows);
	see('others: ' . grep { $_ eq '' } found($name, $key));
	return;
}

# --- the cases, and what each must tell; as text, the beginning of that ---

my @cases = (
	[ 'absent', sub {
		my @before = split(/ /, stat_of('sent', 'acknowledged', 'reconnects'));
		my @after;

		sql(q{UPDATE t SET v = 'x' WHERE id <= 10});
		deliver();
		@after = split(/ /, stat_of('sent', 'acknowledged', 'reconnects'));
		see(map { $after[$_] - $before[$_] } 0 .. 2);
		see(stat_of('state', 'breaker', 'lag_bytes', q{coalesce(last_error, 'no error')}));
		see(join(' ', $cache->keys_like('app:t:*')));
	}, "10\n10\n0\nready closed 0 no error\n" ],

	[ 'ttl', sub {
		my ($short, $long, $none) = ('app:short:1', 'app:long:1', 'app:none:1');
		my $month = 31 * 86_400_000;
		my $ttl;

		foreach ([ 'short', '500 ms' ], [ 'long', '31 days' ], [ 'none', 'infinity' ])
		{
			my ($name, $time) = @$_;

			entity($name, 'id int PRIMARY KEY, v text', q{SELECT 1, 1, 'x'}, "ttl => '$time'");
		}
		# an entity may be flushed with all others, so not before all are attached
		deliver();
		see("$_ " . filled($node, $cache, $_, 1)) foreach 'long', 'none', 'short';
		$ttl = $cache->ttl_ms($long);
		# the cache's clock may be a second behind
		see($ttl > 30.9 * 86_400_000 && $ttl <= $month + 2000 ? '31 days' : $ttl);
		see($cache->ttl_ms($none));
		see('gone ' . $cache->poll_value($short, undef));
		see(sql(q{SELECT cachekit.fetch('short', 1)}));
		see(map { defined $cache->get($_) ? 1 : 0 } $long, $none);
		see(sql(qq{SELECT tier, present, ttl > interval '30 days' AND ttl < interval '31 days 2 s'
			FROM cachekit.inspect('long', 1)}));
	}, qq{long 1\nnone 1\nshort 1\n31 days\n-1\ngone 1\n{"n": 1, "v": "x", "id": 1}\n1\n1\nhot|t|} ],

	[ 'empty value', sub {
		my $host = $cache->can('hosts_of')
		  ? $cache->host(do { filled($node, $cache, 't', 20); ($cache->hosts_of('app:t:20'))[0] }) : $cache;
		my @before;

		# it is a miss, and not a fault
		$host->set('app:t:20', '');
		@before = ((map { counter($node, 't', $_) } 'server_hits', 'errors'), stat_of('read_hits'));
		see(sql(q{SELECT cachekit.fetch('t', 20)}));
		see('hits ' . (counter($node, 't', 'server_hits') - $before[0]));
		see('errors ' . (counter($node, 't', 'errors') - $before[1]));
		see('read hits ' . (stat_of('read_hits') - $before[2]));
		see(filled($node, $cache, 't', 20));
		see($cache->get('app:t:20'));
	}, qq{{"n": 20, "v": "20", "id": 20}\nhits 0\nerrors 0\nread hits 0\n1\n{"n": 20, "v": "20", "id": 20}} ],

	[ 'large', sub {
		entity('big', 'id int PRIMARY KEY, v text', q{
			SELECT g, g, CASE g WHEN 1 THEN repeat('x', 1048576)
				WHEN 2 THEN repeat(U&'\00e4\20ac"\005c', 200000)
				WHEN 3 THEN repeat(md5('a'), 60000)
				WHEN 4 THEN repeat('z', 1048576 - 60) ELSE 'small' END
			  FROM generate_series(1, 5) AS g});
		see(map { length $_->[1] } fill_all('big', 'id'));
		see(md5_hex(join("\n", found('big', 'id'))) eq md5_hex(join("\n", map { $_->[1] } rows_of('big', 'id'))));
		see(sql(q{SELECT sum((cachekit.fetch('big', id) = to_jsonb(big))::int) FROM big}));
		# larger than max_value_size
		sql(q{UPDATE big SET v = repeat('y', 4194304) WHERE id = 1});
		deliver();
		see('refused ' . sql(q{
			SELECT fills_refused FROM cachekit.stat_entities WHERE name = 'big'}));
		see(sql(q{SELECT cachekit.fetch('big', 1) = to_jsonb(big) FROM big WHERE id = 1}));
		see('refused ' . sql(q{
			SELECT fills_refused FROM cachekit.stat_entities WHERE name = 'big'}));
		see(defined $cache->get('app:big:1') ? 'there' : 'absent');
		sql(q{DROP TABLE big});
	}, "5 rows, 5 keys, 5 right\n" ],

	[ 'text keys', sub {
		entity('k', 'k text PRIMARY KEY, v text', q{
			SELECT row_number() OVER (), k, 'v' FROM (
				SELECT 'a' || chr(g) || 'b' FROM generate_series(1, 127) AS g UNION ALL
				SELECT chr(g) FROM generate_series(1, 127) AS g UNION ALL
				SELECT string_agg(chr(g), '') FROM generate_series(1, 60) AS g UNION ALL
				SELECT chr(g) || 'x' FROM unnest(ARRAY[128, 228, 2047, 2048, 8364, 65533, 65536, 128512, 1114109]) AS g UNION ALL
				VALUES (''), ('#' || repeat('0', 32)), ('%61'), ('aa'), ('aA'), (e'a\r\nb'), ('cachekit'), ('**')) AS s(k)});
		whole_life('k', 'k');
	}, qr/^272 rows, 272 keys, 272 right\n\w{32} all\nchanged: 0\nfetched: 0\n272 rows, 272 keys, 272 right\n\w{32} all\ndeleted: 0\nothers: 0$/ ],

	[ 'bytea keys', sub {
		entity('b', 'k bytea PRIMARY KEY, v text', q{
			SELECT row_number() OVER (), k, 'v' FROM (
				SELECT set_byte('\x00'::bytea, 0, g) FROM generate_series(0, 255) AS g UNION ALL
				SELECT '\x61'::bytea || set_byte('\x00'::bytea, 0, g) || '\x62'::bytea FROM generate_series(0, 255) AS g UNION ALL
				SELECT string_agg(set_byte('\x00'::bytea, 0, g), ''::bytea ORDER BY g) FROM generate_series(0, 255) AS g UNION ALL
				SELECT ''::bytea) AS s(k)});
		whole_life('b', 'k');
	}, qr/^514 rows, 514 keys, 514 right\n\w{32} all\nchanged: 0\nfetched: 0\n514 rows, 514 keys, 514 right\n\w{32} all\ndeleted: 0\nothers: 0$/ ],

	[ 'composite keys', sub {
		entity('c', 'a text, i int, b text, v text, PRIMARY KEY (a, i, b)', q{
			SELECT row_number() OVER (), a, i, b, 'v'
			  FROM unnest(ARRAY['', ':', 'x', 'x:1', e'x\n', '(', ',', '"', '%3A', 'NULL', U&'\20ac']) AS a, unnest(ARRAY[-1, 1]) AS i,
			       unnest(ARRAY['', ':', '1:x', 'x', chr(92), '''']) AS b});
		whole_life('c', '(a, i, b)');
	}, qr/^132 rows, 132 keys, 132 right\n\w{32} all\nchanged: 0\nfetched: 0\n132 rows, 132 keys, 132 right\n\w{32} all\ndeleted: 0\nothers: 0$/ ],

	[ 'long keys', sub {
		# 60 bytes of namespace, 189 of what follows it, a colon
		sql(sprintf q{ALTER SERVER hot OPTIONS (SET namespace '%s')}, 'n' x 60);
		deliver();
		entity('l', 'k text PRIMARY KEY, v text', q{
			SELECT row_number() OVER (), k, 'v' FROM (
				SELECT repeat('a', g) FROM generate_series(185, 190) AS g UNION ALL
				SELECT repeat('%', g) FROM generate_series(61, 64) AS g UNION ALL
				SELECT repeat('b', g) || 'c' FROM unnest(ARRAY[250, 251, 1000, 2000, 2600]) AS g UNION ALL
				SELECT repeat('b', g) || 'd' FROM unnest(ARRAY[250, 251, 1000, 2000, 2600]) AS g) AS s(k)});
		see(join(' ', map { length } map { $_->[0] } rows_of('l', 'k')));
		see(join(' ', map { /:l:#[0-9a-f]{32}$/ ? 1 : 0 } map { $_->[0] } rows_of('l', 'k')));
		whole_life('l', 'k');
		sql(q{ALTER SERVER hot OPTIONS (SET namespace 'app')});
		deliver();
		see('stale ' . grep { $_ eq 'stale' } found('l', 'k'));
		sql('DROP TABLE l');
	}, qr/^248 249 250 96 96 96 246 249 96 96( 96){10}\n0 0 0 1 1 1 0 0 1 1( 1){10}\n20 rows, 20 keys, 20 right\n\w{32} all\nchanged: 0\nfetched: 0\n20 rows, 20 keys, 20 right\n\w{32} all\ndeleted: 0\nothers: 0\nstale 0$/ ],

	[ 'fetch_many', sub {
		my $shuffled = q{(SELECT array_agg(g ORDER BY md5(g::text)) FROM generate_series(1, 1000) AS g)};
		my @before;
		my @after;

		entity('m', 'id int PRIMARY KEY, v text', q{SELECT g, g, 'v' || g FROM generate_series(1, 1000) AS g},
			q{ttl => 'infinity'});
		fill_all('m', 'id');
		see('none ' . sql(q{SELECT count(*) FROM cachekit.fetch_many('m', '{}'::int[])}));
		see(sql(q{SELECT * FROM cachekit.fetch_many('m', ARRAY[7])}));
		see(sql(q{SELECT key, value FROM cachekit.fetch_many('m', ARRAY[5, 2000, 5, NULL, 3, 2000])}));
		@before = map { counter($node, 'm', $_) } 'server_hits', 'loads', 'misses', 'errors';
		push @before, split(/ /, stat_of('reads', 'read_hits'));
		see(sql(qq{
			SELECT count(*), bool_and(key = asked[f.n]::text AND value = to_jsonb(m))
			  FROM (SELECT $shuffled) AS a(asked), cachekit.fetch_many('m', asked) WITH ORDINALITY AS f(key, value, n)
			  JOIN m ON m.id = f.key::int}));
		@after = map { counter($node, 'm', $_) } 'server_hits', 'loads', 'misses', 'errors';
		push @after, split(/ /, stat_of('reads', 'read_hits'));
		see(join(' ', map { $after[$_] - $before[$_] } 0 .. $#after));
		sql(q{DELETE FROM m WHERE id % 3 = 0; UPDATE m SET v = 'new' WHERE id % 3 = 1});
		see(sql(qq{
			SELECT count(*), count(value), count(*) FILTER (WHERE value IS DISTINCT FROM to_jsonb(m))
			  FROM cachekit.fetch_many('m', $shuffled) AS f LEFT JOIN m ON m.id = f.key::int}));
	}, qr/^1000 rows, 1000 keys, 1000 right\n\w{32} all\nnone 0\n7\|\{"n": 7, "v": "v7", "id": 7\}
5\|\{"n": 5, "v": "v5", "id": 5\}\n2000\|\n5\|\{"n": 5, "v": "v5", "id": 5\}\n\|\n3\|\{"n": 3, "v": "v3", "id": 3\}\n2000\|
1000\|t\n1000 0 0 0 1000 1000\n1000\|667\|0$/ ],

	[ 'full', sub {
		my $right = q{SELECT count(*) FROM f WHERE cachekit.fetch('f', id) IS DISTINCT FROM to_jsonb(f)};
		my (@documents, @values);

		$small->start;
		sql(sprintf(q{
			CREATE TABLE f (n int, id int PRIMARY KEY, v text);
			INSERT INTO f SELECT g, g, repeat(chr(97 + g %% 26), 20000) FROM generate_series(1, 500) AS g;
			CREATE SERVER small FOREIGN DATA WRAPPER cachekit OPTIONS (%s, %s, namespace 'app');
			SELECT cachekit.attach('f', servers => '{small}', local => false, ttl => 'infinity')},
			$small->server_options, $patient));
		delivered($node, 'small') or die 'not ready';
		if ($kind eq 'Redis')
		{
			my ($used) = $small->cli('INFO', 'memory') =~ /used_memory:(\d+)/;

			$small->cli('CONFIG', 'SET', 'maxmemory-policy', 'noeviction');
			$small->cli('CONFIG', 'SET', 'maxmemory', $used + 3_000_000);
		}
		foreach my $round (1 .. $PostgreSQL::Test::Utils::timeout_default)
		{
			see(sql($right)) if sql($right) != 0;
			last if server_stat($node, 'small', 'fills_dropped') > 300;
		}
		see('refused ' . (server_stat($node, 'small', 'fills_dropped') > 300 ? 'many' : 'none'));
		see('wrong ' . sql($right));
		@documents = rows_of('f', 'id');
		@values = $small->values_of(map { $_->[0] } @documents);
		see('some ' . (grep({ $_ ne '' } @values) > 20 ? 1 : 0));
		see('not all ' . (grep({ $_ eq '' } @values) > 20 ? 1 : 0));
		see('not right ' . grep { $values[$_] ne '' && $values[$_] ne $documents[$_][1] } 0 .. $#values);
		# changes arrive nevertheless
		sql(q{UPDATE f SET v = 'short' WHERE id % 2 = 0});
		delivered($node, 'small') or die 'not delivered';
		see(server_stat($node, 'small', 'state') . ' ' . server_stat($node, 'small', 'sent - acknowledged'));
		@documents = rows_of('f', 'id');
		@values = $small->values_of(map { $_->[0] } @documents);
		see('old ' . grep { $values[$_] ne '' && $values[$_] ne $documents[$_][1] } 0 .. $#values);
		sql(q{UPDATE f SET v = repeat('Z', 20000)});
		delivered($node, 'small') or die 'not delivered';
		see('left ' . grep { $_ ne '' } $small->values_of(map { $_->[0] } @documents));
		see('room ' . filled($node, $small, 'f', 1) . filled($node, $small, 'f', 2));
		see('wrong ' . sql($right));
		sql(q{SET client_min_messages = warning; DROP TABLE f; DROP SERVER small CASCADE});
		$small->kill9;
	}, qq{refused many\nwrong 0\nsome 1\nnot all 1\nnot right 0\nready 0\nold 0\nleft 0\nroom 11\nwrong 0} ],

	[ 'killed', sub {
		my $flushes;

		deliver();
		fill_all('t', 'id');
		$flushes = stat_of('flushes');
		$cache->kill9;
		sql(q{UPDATE t SET v = 'without it' WHERE id <= 10});
		see(sql(q{SELECT count(*) FROM t WHERE cachekit.fetch('t', id) IS DISTINCT FROM to_jsonb(t)}));
		$cache->start;
		ok(wait_for_server($node, 'hot', "flushes > $flushes"), "$kind: started again: flushed");
		deliver();
		see('keys ' . grep { $_ ne '' } found('t', 'id'));
		all_right($node, $cache, 't', "$kind: started again");
		fill_all('t', 'id');
		sql(q{UPDATE t SET v = 'with it'});
		deliver();
		see('keys ' . grep { $_ ne '' } found('t', 'id'));
	}, qr/^20 rows, 20 keys, 20 right\n\w{32} all\n0\nkeys 0\n20 rows, 20 keys, 20 right\n\w{32} all\nkeys 0$/ ],

	[ 'namespace', sub {
		fill_all('t', 'id');
		sql(q{ALTER SERVER hot OPTIONS (SET namespace 'two words')});
		deliver();
		see(sql(q{SELECT cachekit.key('t', 1)}), sql(q{SELECT namespace, state, readable FROM cachekit.servers}));
		see('keys ' . grep { $_ ne '' } found('t', 'id'));
		fill_all('t', 'id');
		sql(q{UPDATE t SET v = 'elsewhere'});
		deliver();
		see('keys ' . grep { $_ ne '' } found('t', 'id'));
		sql(q{ALTER SERVER hot OPTIONS (SET namespace 'app')});
		deliver();
		see(sql(q{SELECT cachekit.key('t', 1)}));
		all_right($node, $cache, 't', "$kind: the namespace of before");
		fill_all('t', 'id');
	}, qr/^20 rows, 20 keys, 20 right\n\w{32} all\ntwo%20words:t:1\ntwo%20words\|ready\|t\nkeys 0\n20 rows, 20 keys, 20 right\n\w{32} all\nkeys 0\napp:t:1\n20 rows, 20 keys, 20 right\n\w{32} all$/ ],

	[ 'DROP SERVER', sub {
		sql(q{SET client_min_messages = warning; DROP SERVER hot CASCADE});
		foreach my $left (q{pg_replication_slots}, q{cachekit.server_states()},
			q{pg_stat_activity WHERE backend_type LIKE '%sender%'})
		{
			see($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM $left") ? 1 : "$left");
		}
		see(sql(q{SELECT DISTINCT servers FROM cachekit.entities}));
		see(sql(q{SELECT count(*) FROM t WHERE cachekit.fetch('t', id) IS DISTINCT FROM to_jsonb(t)}));
	}, "1\n1\n1\n{}\n0" ]);

# A document larger than an item may be, on Memcached only.
sub items
{
	my $plain = $kind =~ /three/ ? MemcachedRing->new('items', 3) : MemcachedServer->new('items');
	my ($last, $dropped);

	$plain->start;
	sql(sprintf(q{
		CREATE TABLE i (id int PRIMARY KEY, v text);
		INSERT INTO i SELECT g, 'short' FROM generate_series(1, 3) AS g;
		CREATE SERVER items FOREIGN DATA WRAPPER cachekit OPTIONS (%s, %s);
		SELECT cachekit.attach('i', servers => '{items}', local => false, ttl => 'infinity')},
		$plain->server_options, $patient));
	delivered($node, 'items') or die 'not ready';
	see(join(' ', map { filled($node, $plain, 'i', $_) } 1 .. 3));
	$dropped = server_stat($node, 'items', 'fills_dropped');
	sql(q{UPDATE i SET v = repeat('x', CASE id WHEN 1 THEN 1100000 WHEN 2 THEN 1048576 ELSE 1000000 END)});
	foreach my $round (1 .. 3)
	{
		see(sql(q{SELECT count(*) FROM i WHERE cachekit.fetch('i', id) = to_jsonb(i)}));
	}
	see(wait_for_server($node, 'items', "fills_dropped >= $dropped + 2"));
	see(join(' ', map { defined $plain->get("postgres:i:$_") ? 'there' : 'absent' } 1, 2));
	see(filled($node, $plain, 'i', 3));
	see(sql(q{SELECT state, breaker, coalesce(last_error, 'no error') FROM cachekit.stat_servers WHERE name = 'items'}));
	all_right($node, $plain, 'i', "$kind: items");
	sql(q{SET client_min_messages = warning; DROP TABLE i; DROP SERVER items CASCADE});
	$plain->kill9;
	return;
}

# --- the kinds ---

my @kinds = (
	[ 'Redis', RedisServer->new('main'), RedisServer->new('small') ],
	[ 'Memcached', MemcachedServer->new('main', '-I', '4m'), MemcachedServer->new('small', '-M', '-m', '2') ],
	[ 'three Memcacheds', MemcachedRing->new('ring', 3, '-I', '4m'), MemcachedRing->new('few', 3, '-M', '-m', '2') ]);
my %told;

foreach (@kinds)
{
	($kind, $cache, $small) = @$_;
	$cache->start;
	sql(sprintf(q{
		CREATE EXTENSION cachekit;
		CREATE SERVER hot FOREIGN DATA WRAPPER cachekit OPTIONS (%s, %s, namespace 'app')},
		$cache->server_options, $patient));
	entity('t', 'id int PRIMARY KEY, v text', q{SELECT g, g, g FROM generate_series(1, 20) AS g});
	deliver();
	foreach (@cases)
	{
		my ($name, $code, $expected) = @$_;

		@seen = ();
		eval { $code->(); };
		is($@, '', "$kind, $name: to its end") if $@;
		$told{$kind}{$name} = join("\n", @seen);
		$expected = qr/^\Q$expected\E/ if !ref $expected;
		like($told{$kind}{$name}, $expected, "$kind: $name");
		is($told{$kind}{$name}, $told{Redis}{$name}, "$kind: $name, as on Redis") if $kind ne 'Redis';
	}
	if ($kind ne 'Redis')
	{
		@seen = ();
		items();
		is(join("\n", @seen), "1 1 1\n3\n3\n3\n1\nabsent absent\n1\nready|closed|no error",
			"$kind: a document larger than an item");
	}
	sql(q{SET client_min_messages = warning; DROP TABLE IF EXISTS t, k, b, c, m, short, long, none, big, l, f;
		DROP EXTENSION cachekit CASCADE});
	$cache->kill9;
}
$node->stop;
is(log_lines($node, qr/PANIC:|TRAP:|terminated by signal/), '', 'nobody crashed');
done_testing();
