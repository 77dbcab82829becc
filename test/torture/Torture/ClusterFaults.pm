# ClusterFaults.pm - what happens to PostgreSQL and to cachekit's own processes, in one life
#
# Each fault gets the world and its chance, says what exactly it does, and returns when it is over.
package Torture::ClusterFaults;

use strict;
use warnings FATAL => 'all';

use Time::HiRes qw(sleep);

our %faults = (

	# --- processes ---

	'postmaster-kill' => sub {
		my ($world, $chance, $say) = @_;

		$say->('signal 9, and a start');
		$world->kill_postmaster;
	},
	'backend-kill' => sub { kill_one(@_, 'client backend'); },
	'sender-kill' => sub { kill_one(@_, 'cachekit sender'); },
	'launcher-kill' => sub { kill_one(@_, 'cachekit launcher'); },
	'sender-freeze' => sub {
		my ($world, $chance, $say) = @_;
		my $time = $chance->between(0.2, 2);
		my $pid = $world->pid_of('cachekit sender', $chance);

		$say->(sprintf('%.1f s', $time));
		kill('STOP', $pid);
		$world->meanwhile($time);
		kill('CONT', $pid);
	},
	'terminate-all' => sub {
		my ($world, $chance, $say) = @_;

		$say->('sessions, launcher, senders, refreshers');
		$world->sql(q{
			SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
			 WHERE pid <> pg_backend_pid() AND backend_type ~ '^(client backend|cachekit )'}, 'postgres');
	},
	'restart' => sub {
		my ($world, $chance, $say) = @_;
		my $mode = $chance->one_of('fast', 'fast', 'immediate');

		$say->($mode);
		$world->node->stop($mode);
		$world->node->start;
	},

	# --- WAL ---

	'checkpoint' => sub {
		my ($world, $chance, $say) = @_;
		my $times = 1 + $chance->below(5);

		$say->("$times times, each with a new segment");
		foreach (1 .. $times)
		{
			$world->sql('SELECT pg_switch_wal()', 'postgres');
			$world->sql('CHECKPOINT', 'postgres');
			$world->meanwhile(0.1);
		}
	},
	'slot-drop' => sub {
		my ($world, $chance, $say) = @_;
		my $without_wal = $chance->percent(50);

		$say->('every slot' . ($without_wal ? ', and the WAL goes' : ''));
		$world->set(wal_keep_size => 0) if $without_wal;
		# a slot is in use while its sender lives, and the launcher is quick to start another one
		$world->sql(q{
			DO $$
			DECLARE
				slots name[] := ARRAY(SELECT slot_name FROM pg_replication_slots
									  WHERE slot_name LIKE 'cachekit%');
				slot name;
			BEGIN
				FOREACH slot IN ARRAY slots LOOP
					LOOP
						BEGIN
							PERFORM pg_terminate_backend(active_pid) FROM pg_replication_slots
							 WHERE slot_name = slot AND active_pid IS NOT NULL;
							PERFORM pg_drop_replication_slot(slot);
							EXIT;
						EXCEPTION WHEN object_in_use THEN NULL;
								  WHEN undefined_object THEN EXIT;
						END;
					END LOOP;
				END LOOP;
			END $$}, 'postgres');
		write_wal($world, 3);
		$world->sql('CHECKPOINT', 'postgres');
		$world->set(wal_keep_size => undef) if $without_wal;
	},

	# The caches do not answer, the WAL grows beyond what may be kept for them: cachekit lets it go,
	# or PostgreSQL takes it away by its own limit.
	'wal-cap' => sub {
		my ($world, $chance, $say) = @_;
		my $postgres = $chance->percent(40);

		$say->($postgres ? 'max_slot_wal_keep_size: the slots are invalidated' :
			'cachekit.max_wal_retention: the slots move on');
		$world->set(
			'cachekit.wal_keep' => 0, wal_keep_size => 0,
			$postgres ? (max_slot_wal_keep_size => '1MB') : ('cachekit.max_wal_retention' => '1MB'));
		my $lsn = $world->sql('SELECT pg_current_wal_insert_lsn()', 'postgres');

		$_->signal('STOP') foreach $world->caches;
		sleep(0.4);
		# slots move to what was the end then, and no further
		$world->wait_for(
			'the slots to let go',
			sub {
				write_wal($world, 2);
				$world->sql('CHECKPOINT', 'postgres');
				return $world->sql(qq{
					SELECT count(*) = 0 FROM pg_replication_slots WHERE slot_name LIKE 'cachekit%'
					   AND restart_lsn <= '$lsn' AND wal_status <> 'lost'}, 'postgres') eq 't';
			});
		$_->signal('CONT') foreach $world->caches;
		$world->set('cachekit.wal_keep' => undef, wal_keep_size => undef,
			max_slot_wal_keep_size => undef, 'cachekit.max_wal_retention' => undef);
	},

	# Commits are in the WAL, and not visible, until the standby has them, or somebody does not want
	# to wait any longer.
	'sync-stall' => sub {
		my ($world, $chance, $say) = @_;
		my $time = $chance->between(0.5, 2.5);
		my $cancel = $chance->percent(40);
		my $standby = $world->standby('sync');

		$say->(sprintf('%.1f s%s', $time, $cancel ? ', then who waits is cancelled' : ''));
		$world->set(synchronous_standby_names => '*');
		$world->poll(q{SELECT count(*) > 0 FROM pg_stat_replication WHERE sync_state = 'sync'},
			'postgres');
		my ($receiver) = $world->pids(q{backend_type = 'walreceiver'}, $standby);

		kill('STOP', $receiver);
		$world->meanwhile($time);
		$world->sql(q{SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity
			WHERE wait_event = 'SyncRep'}, 'postgres') if $cancel;
		kill('CONT', $receiver);
		sleep(0.3);
		$world->set(synchronous_standby_names => undef);
		$world->bury($standby);
	},

	# --- servers and entities ---

	'alter-server' => sub {
		my ($world, $chance, $say) = @_;
		my %usual = (
			connections => 2, max_inflight => 640, max_lifetime => '30min', idle_timeout => '10min',
			command_timeout => '300ms', breaker_threshold => 5, breaker_reset => '200ms',
			connect_timeout => '1s');
		my %values = (
			connections => [ 1, 3, 8 ],
			max_inflight => [ 1, 10, 100 ],
			max_lifetime => [ '30ms', '200ms', '1s' ],
			idle_timeout => [ '20ms', '1s' ],
			command_timeout => [ '20ms', '100ms', '2s' ],
			breaker_threshold => [ 1, 100 ],
			breaker_reset => [ '20ms', '1s' ],
			connect_timeout => [ '50ms', '3s' ]);
		my $server = $chance->one_of('ck_redis', 'ck_memcached');
		my @changes = map { [ $_, $chance->one_of(@{ $values{$_} }) ] }
		  ($chance->shuffled(sort keys %values))[ 0 .. 2 ];

		$say->("$server: " . join(', ', map { "@$_" } @changes));
		foreach my $change (@changes)
		{
			alter_server($world, $server, @$change);
			$world->meanwhile(0.3);
		}
		alter_server($world, $server, $_->[0], $usual{ $_->[0] }) foreach @changes;
	},
	'ddl' => sub {
		my ($world, $chance, $say) = @_;
		my $time = $chance->between(2, 4);

		$say->(sprintf('the checker\'s own for %.1f s: detach, attach, ALTER TABLE, triggers', $time));
		$world->checker->order('release ddl');
		sleep($time);
		$world->checker->order('hold ddl');
	},

	# What is there stays, and nobody deletes it any more; the server that is made then must not
	# believe it.
	'drop-server' => sub {
		my ($world, $chance, $say) = @_;
		my $server = $chance->one_of('ck_redis', 'ck_memcached');
		my $time = $chance->between(0, 1);

		$say->(sprintf('%s, %.1f s without it', $server, $time));
		$world->hold_direct;
		my $create = $world->sql(qq{
			SELECT format('CREATE SERVER %I FOREIGN DATA WRAPPER cachekit OPTIONS (%s)', srvname,
				(SELECT string_agg(format('%I %L', option_name, option_value), ', ')
				   FROM pg_options_to_table(srvoptions)))
			  FROM pg_foreign_server WHERE srvname = '$server'});
		my $attach = $world->sql(qq{
			SELECT string_agg(format('SELECT cachekit.attach(%L, servers => %L)', relation, servers), ';')
			  FROM cachekit.entities WHERE '$server' = ANY (servers)});

		$world->sql("DROP SERVER $server CASCADE");
		$world->meanwhile($time);
		$world->sql($create);
		$world->sql($attach);
	},
);

sub kill_one
{
	my ($world, $chance, $say, $type) = @_;
	my $pid = $world->pid_of($type, $chance);

	$say->('signal 9: all restart');
	kill('KILL', $pid);
	# the postmaster may not have noticed yet; then it has
	$world->wait_for("the end of process $pid", sub { !kill(0, $pid) });
	$world->sql('SELECT 1', 'postgres');
	return;
}

sub write_wal
{
	my ($world, $megabytes) = @_;

	$world->sql("SELECT count(pg_logical_emit_message(false, 'torture', repeat('x', 500000)))
		FROM generate_series(1, 2 * $megabytes)", 'postgres');
	return;
}

sub alter_server
{
	my ($world, $server, $option, $value) = @_;

	$world->sql("ALTER SERVER $server OPTIONS (SET $option '$value')");
	return;
}

1;
