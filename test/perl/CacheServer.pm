# CacheServer.pm - what the tests with cache servers share
#
# The state of a server as cachekit sees it, and the one comparison that matters: that every
# document in a cache, and every fetch, is what the table says.
package CacheServer;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use CacheKit;

our @EXPORT = qw(
  server_stat wait_for_server wait_until_ready delivered
  filled all_right marked copy_all
);

# A column of stat_servers.
sub server_stat
{
	my ($node, $server, $column, $db) = @_;

	return $node->safe_psql($db // 'postgres',
		qq{SELECT $column FROM cachekit.stat_servers WHERE name = '$server'});
}

# Wait until the condition holds for a server's row of stat_servers.
sub wait_for_server
{
	my ($node, $server, $condition, $db) = @_;

	return 1 if $node->poll_query_until($db // 'postgres', qq{
		SELECT EXISTS (SELECT FROM cachekit.stat_servers WHERE name = '$server' AND ($condition))});
	diag(output_of($node, "SELECT * FROM cachekit.stat_servers WHERE name = '$server'", $db));
	return 0;
}

sub wait_until_ready
{
	my ($node, $server, $db) = @_;

	return wait_for_server($node, $server, q{state = 'ready'}, $db);
}

# Ready, and all that was committed has arrived.
sub delivered
{
	my ($node, $server, $db) = @_;

	return wait_until_ready($node, $server, $db)
	  && $node->safe_psql($db // 'postgres', q{SELECT cachekit.wait_for_delivery('60s')}) eq 't';
}

# Fetch a key until the cache holds its document: a fill may be dropped, and then the next one
# counts. The cache is a RedisServer, a MemcachedServer or a MemcachedRing. What is empty there is
# no document, but the place for one.
sub filled
{
	my ($node, $cache, $entity, $key, $db) = @_;
	my $cache_key = $node->safe_psql($db // 'postgres', "SELECT cachekit.key('$entity', '$key'::text)");

	foreach my $attempt (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		$node->safe_psql($db // 'postgres', "SELECT cachekit.fetch('$entity', '$key'::text)");
		foreach my $look (1 .. 5)
		{
			return 1 if (($cache->values_of($cache_key))[0] // '') ne '';
			select(undef, undef, undef, 0.01);
		}
	}
	diag("\"$cache_key\" was never filled");
	return 0;
}

# Wait until the marker in the cache has come as far as all that is in the WAL now.
sub marked
{
	my ($node, $cache) = @_;
	my $end = $node->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()');
	my ($high, $low) = map { hex } split(m{/}, $end);

	foreach my $attempt (1 .. 50 * $PostgreSQL::Test::Utils::timeout_default)
	{
		my @marker = split(/ /, ($cache->values_of('postgres:cachekit'))[0] // '');

		return if @marker > 6 && hex($marker[6]) >= ($high << 32) + $low;
		select(undef, undef, undef, 0.02);
	}
	die 'the marker did not come as far';
}

# All that the one cache has now, the other has, too: marker, owner, traces, documents.
sub copy_all
{
	my ($from, $to) = @_;
	my @keys = $from->keys_like('postgres:*');
	my @values = $from->values_of(@keys);

	$to->flush_all;
	$to->set($keys[$_], $values[$_]) foreach 0 .. $#keys;
	return;
}

# Every document in the cache is the table's, and so is every fetch. The entity has the key "id"
# and the name of its table. Says how many keys there were; "" in place of it is a failure.
sub all_right
{
	my ($node, $cache, $entity, $what, $db) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $prefix = $node->safe_psql($db // 'postgres', "SELECT cachekit.key('$entity', '0'::text)") =~ s/0$//r;
	my @keys = $cache->keys_like("$prefix*");
	my @values = $cache->values_of(@keys);
	my %row = map { split(/\|/, $_, 2) }
	  split(/\n/, $node->safe_psql($db // 'postgres', "SELECT id, to_jsonb(t)::text FROM $entity AS t"));
	my $wrong = '';

	for my $i (0 .. $#keys)
	{
		my $id = substr($keys[$i], length $prefix);

		next if ($values[$i] // '') eq '';    # deleted, or expired, meanwhile
		$wrong .= "$keys[$i]: $values[$i]\n" if $values[$i] ne ($row{$id} // 'no such row');
	}
	is($wrong, '', "$what: every document in the cache is the table's");
	is(output_of($node, qq{
			SELECT count(*) FROM $entity AS t
			 WHERE cachekit.fetch('$entity', t.id) IS DISTINCT FROM to_jsonb(t)}, $db),
		0, "$what: every fetch is the table's");
	return $wrong eq '' ? scalar @keys : '';
}

1;
