# CacheKit.pm - what the TAP tests share
#
# Servers that preload cachekit, the counters of an entity, and sessions that wait: at a step of
# the extension (cachekit.debug_stop, which debug builds have), or for each other.
package CacheKit;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(
  new_node inspect counter
  session pid_of send_query result lost
  guards_to_try try_scenarios disable stop_at hold wait_at_step wait_for_pids wait_until_gone
  output_of error_of sqlstate_of
  triggers_not_always log_lines
);

# A cluster that preloads cachekit, not started; the arguments after its name are those of init.
# With locale C, whatever the environment says.
sub new_node
{
	my ($name, %params) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init(extra => [ '--no-locale', '--encoding=UTF8' ], %params);
	$node->append_conf('postgresql.conf', "shared_preload_libraries = 'cachekit'");
	return $node;
}

# What the local tier holds for a key, as "present|fenced".
sub inspect
{
	my ($node, $entity, $key, $db) = @_;

	return $node->safe_psql($db // 'postgres',
		"SELECT present, fenced FROM cachekit.inspect('$entity', '$key'::text)");
}

# A counter of an entity.
sub counter
{
	my ($node, $entity, $name, $db) = @_;

	return $node->safe_psql($db // 'postgres',
		"SELECT $name FROM cachekit.stat_entities WHERE name = '$entity'");
}

# --- statements in a session of their own ---

# The output of a statement that must succeed without a word on stderr.
sub output_of
{
	my ($node, $sql, $db) = @_;
	my ($status, $out, $err) = $node->psql($db // 'postgres', $sql, on_error_stop => 1);

	die "error running \"$sql\": $err" if $status != 0;
	diag("unexpected output on stderr: $err") if $err ne '';
	return $err eq '' ? $out : "$out\n$err";
}

# What a statement writes to stderr.
sub error_of
{
	my ($node, $sql, $db) = @_;
	my ($status, $out, $err) = $node->psql($db // 'postgres', $sql);

	return $err;
}

# The SQLSTATE of a statement that fails, or "" when it succeeds.
sub sqlstate_of
{
	my ($node, $sql, $db) = @_;
	my ($status, $out, $err) = $node->psql($db // 'postgres', $sql,
		extra_params => [ '-v', 'VERBOSITY=sqlstate' ]);

	return $err =~ /ERROR:\s+(\w{5})/ ? $1 : $err;
}

# --- sessions that stay ---

# A psql that goes on after an error.
sub session
{
	my ($node, $db, @settings) = @_;
	my $session = $node->background_psql($db // 'postgres', on_error_stop => 0);

	$session->set_query_timer_restart;
	$session->query_safe("SET $_") foreach @settings;
	return $session;
}

sub pid_of
{
	my ($session) = @_;

	return $session->query_safe('SELECT pg_backend_pid()');
}

# Send a statement and do not wait for its end.
sub send_query
{
	my ($session, $sql) = @_;

	$session->{stderr} = '';
	$session->query_until(qr/sent/, "\\echo sent\n$sql;\n");
	return;
}

# Wait for the end of what was sent; its output and its errors.
sub result
{
	my ($session, $sql) = @_;
	my ($out, $err);

	$session->{stderr} = '' if defined $sql;
	$out = $session->query($sql // '');
	$err = $session->{stderr};
	$session->{stderr} = '';
	$out =~ s/^\s+//;
	return wantarray ? ($out, $err) : $out;
}

# Put away a psql whose server process has gone.
sub lost
{
	my ($session) = @_;

	eval { $session->quit; };
	return;
}

# --- guards ---

# Of these guards, those that the run is for: all, or the one in the environment (test/mutation).
sub guards_to_try
{
	return grep { ($ENV{CACHEKIT_GUARD} // $_) eq $_ } sort @_;
}

# Each scenario with its guard on, when it must find nothing wrong, and off, when it must; "begin"
# comes before. Guards of "itself" are switched off by their scenarios, together with others.
sub try_scenarios
{
	my ($node, $begin, $scenario, @itself) = @_;
	my %itself = map { $_ => 1 } @itself;

	foreach my $guard (guards_to_try(keys %$scenario))
	{
		$begin->();
		ok($scenario->{$guard}->(''), "$guard on: all is right");
		$begin->();
		disable($node, $guard) if !$itself{$guard};
		ok(!$scenario->{$guard}->(", $guard"), "$guard off is caught");
	}
	disable($node, '');
	return;
}

# Switch these guards off in all processes, and all others on.
sub disable
{
	my ($node, $guards) = @_;

	$node->safe_psql('postgres', "ALTER SYSTEM SET cachekit.debug_disable = '$guards'");
	$node->reload;
	$node->poll_query_until('postgres',
		"SELECT current_setting('cachekit.debug_disable') = '$guards'")
	  or die 'the setting did not arrive';
	return;
}

# --- steps ---

# Workers stand at this step, too; "": at none.
sub stop_at
{
	my ($node, $step) = @_;

	$node->safe_psql('postgres', "ALTER SYSTEM SET cachekit.debug_stop = '$step'");
	$node->reload;
	$node->poll_query_until('postgres', "SELECT current_setting('cachekit.debug_stop') = '$step'")
	  or die 'the setting did not arrive';
	return;
}

# Hold every session that will reach a step, until the session that is returned quits.
sub hold
{
	my ($node, $step, $db) = @_;
	my $session = session($node, $db);

	$session->query_safe("SELECT pg_advisory_lock(hashtext('cachekit.$step'))");
	return $session;
}

# Wait until as many sessions stand at the step.
sub wait_at_step
{
	my ($node, $step, $sessions) = @_;

	$sessions //= 1;
	$node->poll_query_until(
		'postgres', qq{
		SELECT count(*) = $sessions FROM pg_locks
		 WHERE locktype = 'advisory' AND NOT granted
		   AND objid::bigint = hashtext('cachekit.$step') & 4294967295})
	  or die "nobody came to the step \"$step\"";
	return;
}

# Wait until the condition (on pg_stat_activity) holds for all of these processes.
sub wait_for_pids
{
	my ($node, $condition, @pids) = @_;
	my $n = @pids;

	$node->poll_query_until(
		'postgres', sprintf(
			'SELECT count(*) = %d FROM pg_stat_activity WHERE pid IN (%s) AND %s',
			$n, join(', ', @pids), $condition))
	  or die "timed out waiting for \"$condition\"";
	return;
}

sub wait_until_gone
{
	my ($node, $pid) = @_;

	$node->poll_query_until('postgres',
		"SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid")
	  or die "process $pid is still there";
	return;
}

# Triggers of cachekit's that are not ENABLE ALWAYS, one a line; "" is good.
sub triggers_not_always
{
	my ($node, $db) = @_;

	return $node->safe_psql($db // 'postgres', q{
		SELECT t.tgrelid::regclass, t.tgname, t.tgenabled
		  FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = t.tgfoid
		 WHERE p.pronamespace = 'cachekit'::regnamespace AND t.tgenabled <> 'A'
		 ORDER BY 1, 2});
}

# Lines of the server's log that match.
sub log_lines
{
	my ($node, $regexp, $offset) = @_;

	return join("\n", grep { /$regexp/ } split(/\n/, slurp_file($node->logfile, $offset)));
}

1;
