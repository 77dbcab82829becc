# Entities that are detached, renamed or dropped while Redis is away: when it comes back with its old
# data, the catalog no longer knows the names that stand there. The change records do.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use CacheKit;
use CacheServer;
use RedisServer;

my $rows = 20;
my $redis = RedisServer->new('main')->start;
my $node = new_node('main', allows_streaming => 1);
$node->start;
$node->safe_psql('postgres', sprintf(q{
	CREATE EXTENSION cachekit;
	CREATE SERVER hot FOREIGN DATA WRAPPER cachekit OPTIONS (%s, breaker_reset '50ms')},
	$redis->server_options));

sub attach
{
	my ($relation, $name) = @_;

	return sprintf(q{SELECT cachekit.attach('%s', name => '%s', servers => '{hot}', local => false, ttl => 'infinity');},
		$relation, $name);
}

sub create
{
	my ($relation) = @_;

	return qq{CREATE TABLE $relation (id int PRIMARY KEY, v text);
		INSERT INTO $relation SELECT g, 'first $relation' FROM generate_series(1, $rows) AS g;};
}

# All documents of the entities of these names, which are those of their tables, are in Redis.
sub warm
{
	my ($what, @names) = @_;

	ok(delivered($node, 'hot'), "$what: the server is ready");
	foreach my $name (@names)
	{
		$node->poll_query_until('postgres', qq{
			SELECT bool_and(x.present) FROM $name AS t, LATERAL (SELECT cachekit.fetch('$name', t.id)) AS f,
				LATERAL (SELECT present FROM cachekit.inspect('$name', t.id)) AS x(present)})
		  or die "$what: the cache could not be filled";
	}
	return;
}

# How many documents Redis has under this name.
sub documents
{
	my ($name) = @_;

	return scalar(my @keys = $redis->keys_like("postgres:$name:*"));
}

# Whatever each document under the name says of the row, it is that of this table.
sub documents_are
{
	my ($what, $name, $relation) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my @keys = $redis->keys_like("postgres:$name:*");
	my @values = grep { $_ ne '' } $redis->values_of(@keys);
	my %row = map { $_ => 1 }
	  split(/\n/, $node->safe_psql('postgres', "SELECT to_jsonb(t)::text FROM $relation AS t"));

	is(join("\n", grep { !$row{$_} } @values), '', "$what: documents of $name are rows of $relation");
	is(output_of($node, qq{
			SELECT count(*) FROM $relation AS t
			 WHERE cachekit.fetch('$relation', t.id) IS DISTINCT FROM to_jsonb(t)}),
		0, "$what: every fetch of $relation is the table's");
	return;
}

# Each way begins with a and b, and keeps c, of which nothing happens. It says which names have gone,
# and which name belongs to which table then.
my @ways = (
	[ 'detached', q{SELECT cachekit.detach('a')}, ['a'], {} ],
	[ 'changed and detached', q{BEGIN; UPDATE a SET v = 'new'; SELECT cachekit.detach('a'); COMMIT}, ['a'], {} ],
	[ 'detached, changed without a cache, attached again',
		q{SELECT cachekit.detach('a'); UPDATE a SET v = 'new'; } . attach('a', 'a'), ['a'], { a => 'a' } ],
	[ 'attached with another name', attach('a', 'new'), ['a'], { new => 'a' } ],
	[ 'attached with another name, and changed', attach('a', 'new') . q{UPDATE a SET v = 'new'}, ['a'], { new => 'a' } ],
	[ 'attached with another name and back', attach('a', 'new') . q{UPDATE a SET v = 'new';} . attach('a', 'a'),
		[ 'a', 'new' ], { a => 'a' } ],
	[ 'two names exchanged', attach('a', 'new') . attach('b', 'a') . attach('a', 'b'),
		[ 'a', 'b', 'new' ], { a => 'b', b => 'a' } ],
	[ 'the table is renamed', q{ALTER TABLE a RENAME TO z}, [], { a => 'z' } ],
	[ 'the table is dropped', q{DROP TABLE a}, ['a'], {} ],
	[ 'the table is changed and dropped', q{BEGIN; UPDATE a SET v = 'new'; DROP TABLE a; COMMIT}, ['a'], {} ],
	[ 'the table is dropped with its schema', q{DROP SCHEMA s CASCADE}, ['s.d'], {} ],
	[ 'the table is dropped, and another is called so',
		q{DROP TABLE a;} . create('a') . q{UPDATE a SET v = 'another';} . attach('a', 'a'), ['a'], { a => 'a' } ],
	[ 'all tables are dropped', q{DROP TABLE a, b}, [ 'a', 'b' ], {} ]);

foreach my $way (@ways)
{
	my ($what, $sql, $gone, $belongs) = @$way;
	my ($resumes, $flushes);

	$redis->cli('FLUSHALL');
	$node->safe_psql('postgres', join("\n", q{
		SET client_min_messages = error;
		DROP TABLE IF EXISTS a, b, c, z; DROP SCHEMA IF EXISTS s CASCADE; CREATE SCHEMA s;},
		map { create($_) . attach($_, $_) } 'a', 'b', 'c', 's.d'));
	warm($what, 'a', 'b', 'c', 's.d');
	foreach my $name ('a', 'b', 'c', 's.d')
	{
		is(documents($name), $rows, "$what: there are documents of $name");
	}
	$redis->keep_dump('old.rdb');
	$resumes = server_stat($node, 'hot', 'resumes');
	$redis->kill9;
	$node->safe_psql('postgres', "SET client_min_messages = error; $sql");
	$redis->restore_dump('old.rdb');
	$redis->start;
	ok(delivered($node, 'hot'), "$what: delivered");
	cmp_ok(server_stat($node, 'hot', 'resumes'), '>', $resumes, "$what: the server was resumed, not flushed");
	is(documents($_), 0, "$what: the documents of $_ have gone") foreach @$gone;
	# what is not known to be harmless changes everything
	is(documents('c'), $rows, "$what: those of others have not") if $sql !~ /^ALTER/;
	documents_are($what, $_, $belongs->{$_}) foreach sort keys %$belongs;
	documents_are($what, 'c', 'c');
	# and what is stored then
	$node->safe_psql('postgres', "SELECT cachekit.fetch('$_', id) FROM $_") foreach values %$belongs;
	documents_are("$what, filled", $_, $belongs->{$_}) foreach sort keys %$belongs;
}

$node->stop;
is(log_lines($node, qr/PANIC:|TRAP:|terminated by signal/), '', 'nobody crashed');
done_testing();
