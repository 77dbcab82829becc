# LifeFaults.pm - another cluster takes the place of the one that was, or stands beside it
#
# What the caches have then may be of a life that never was: commits that are lost, rows of a clone.
# Each fault gets the world and its chance, says what exactly it does, and returns when it is over.
package Torture::LifeFaults;

use strict;
use warnings FATAL => 'all';

use Time::HiRes qw(sleep);

our %faults = (
	'promote-complete' => sub {
		my ($world, $chance, $say) = @_;
		my $standby = $world->standby('promoted');

		$say->('a standby that lacks nothing');
		sleep($chance->between(0, 1));
		# a shutdown sends all that there is
		$world->node->stop('fast');
		$standby->promote;
		$world->bury($world->take_over($standby));
	},
	'promote-lacking' => sub {
		my ($world, $chance, $say) = @_;
		my $lack = $chance->between(0.2, 2);
		my $hold = $chance->percent(50);
		my $standby = $world->standby('lacking');

		$say->(sprintf('a standby that lacks the commits of %.1f s%s', $lack,
				$hold ? '; no cache is reached before it writes' : ''));
		$standby->stop;
		sleep($lack);
		begin_loss($world, 'immediate', $hold);
		$standby->append_conf('postgresql.conf', q{primary_conninfo = ''});
		$standby->start;
		$standby->promote;
		end_loss($world, $standby, $hold);
	},

	# The old primary goes on for a while, its senders too; only the checker has changed over.
	'split-brain' => sub {
		my ($world, $chance, $say) = @_;
		my $old = $world->node;
		my $standby = $world->standby('second');
		my $time = $chance->between(0.5, 2);

		$say->(sprintf('a standby is promoted, the old primary lives on for %.1f s', $time));
		$world->hold_direct;
		$world->checker->order('lossy');
		$standby->promote;
		$world->take_over($standby);
		$world->sql(q{
			SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
			 WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'}, 'postgres', $old);
		stranger_writes($world, $old, $time);
		$world->bury($old);
	},
	'restore-backup' => sub {
		my ($world, $chance, $say) = @_;
		my $age = $chance->between(0.2, 2);
		my $mode = $chance->one_of('fast', 'immediate');
		my $hold = $chance->percent(50);
		my $restored = $world->copy_of_node('restored');

		$say->(sprintf('a base backup %.1f s old, after %s%s', $age, $mode,
				$hold ? '; no cache is reached before it writes' : ''));
		sleep($age);
		begin_loss($world, $mode, $hold);
		$restored->start;
		end_loss($world, $restored, $hold);
	},
	'restore-pitr' => sub {
		my ($world, $chance, $say) = @_;
		my ($before, $after) = ($chance->between(0, 1), $chance->between(0.2, 1.5));
		my $hold = $chance->percent(50);
		my $restored = $world->copy_of_node('recovered');
		my $wal = $world->node->data_dir . '/pg_wal';

		$say->(sprintf('a base backup and %.1f s of WAL; %.1f s are lost%s', $before, $after,
				$hold ? '; no cache is reached before it writes' : ''));
		sleep($before);
		$world->sql(q{SELECT pg_create_restore_point('torture')}, 'postgres');
		sleep($after);
		begin_loss($world, 'fast', $hold);
		$restored->append_conf('postgresql.conf', qq{
restore_command = 'cp "$wal/%f" "%p"'
recovery_target_name = 'torture'
recovery_target_action = 'promote'
});
		$restored->set_recovery_mode;
		$restored->start;
		$world->poll('SELECT NOT pg_is_in_recovery()', 'postgres', $restored);
		# it is not for the copies of this one
		$restored->append_conf('postgresql.conf', q{
restore_command = ''
recovery_target_name = ''
});
		end_loss($world, $restored, $hold);
	},
	'clone' => sub {
		my ($world, $chance, $say) = @_;
		my $time = $chance->between(1, 2.5);
		my $clone = $world->copy_of_node('clone');

		$say->(sprintf('for %.1f s, with writes of its own', $time));
		$world->hold_direct;
		$clone->start;
		stranger_writes($world, $clone, $time);
		$world->bury($clone);
	},
);

# The primary goes. What its caches have is put out of reach before, if that is wished.
sub begin_loss
{
	my ($world, $mode, $hold) = @_;
	my %links = $world->links;

	$world->hold_direct;
	$world->checker->order('lossy');
	if ($hold) { $_->freeze foreach values %links; }
	$world->node->stop($mode);
	return;
}

# Another one has come. With $hold its WAL gets longer than the old one's was before it may look at
# what is in the caches, so no marker is ahead of it.
sub end_loss
{
	my ($world, $node, $hold) = @_;
	my %links = $world->links;

	$world->bury($world->take_over($node));
	return if !$hold;
	$world->sql(q{SELECT count(pg_logical_emit_message(false, 'torture', repeat('x', 500000)))
		FROM generate_series(1, 8)}, 'postgres');
	sleep(0.5);
	$_->thaw foreach values %links;
	return;
}

# Somebody else writes into a cluster that the checker does not know of, but whose senders believe
# in the same caches. It has to see its own rows, and the checker must never see them.
sub stranger_writes
{
	my ($world, $node, $seconds) = @_;
	my @tables = split(/\n/, $world->sql(q{
		SELECT relation FROM cachekit.entities WHERE name LIKE 'ck\_%' ORDER BY name}, 'checked', $node));
	my $end = Time::HiRes::time() + $seconds;
	my $n = 0;

	until (Time::HiRes::time() > $end)
	{
		foreach my $table (@tables)
		{
			# the checker never counts as far, in neither part of a version
			my $version = '999999' . (999_000_000 + ++$n);
			my $wrong;

			$world->sql("UPDATE $table SET version = $version, pad = $version", 'checked', $node);
			foreach (1, 2)
			{
				$wrong = $world->sql(qq{
					SELECT count(*) FROM $table AS t
					 WHERE cachekit.fetch('$table', t.id) IS DISTINCT FROM to_jsonb(t)}, 'checked', $node);
				$world->violation("clone: $wrong fetches of $table were wrong in the other cluster")
				  if $wrong ne '0';
			}
		}
	}
	return;
}

1;
