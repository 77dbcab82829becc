/*
 * cards_load.c
 *		The writers: pgbench, with its own transaction and some more.
 *
 * Nothing of the load knows of a cache.  Rows are locked in one order
 * (accounts by number, teller, branch), so that no transaction is ended as a
 * deadlock.  Fillers count the changes that pgbench itself does not make.
 *
 * A change by way of another table is told from a change of what it leads to
 * by what they lock: "transfer" makes an account one that a teller has served
 * and "move" makes it one of another branch, and neither locks that teller or
 * branch.  So these run beside "teller" and "branch", which change it; their
commits are asynchronous, so that they can overtake.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cards.h"
#include "process.h"
#include "report.h"

#define CHOICES \
	"\\set aid random_zipfian(1, :accounts, 1.02)\n" \
	"\\set bid random(1, :branches)\n" \
	"\\set tid (:bid - 1) * 10 + random(1, 10)\n" \
	"\\set delta random(-5000, 5000)\n"

/* pgbench's own, with the teller one of that branch */
#define TPC_B \
	"UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;\n" \
	"SELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n" \
	"UPDATE pgbench_tellers SET tbalance = tbalance + :delta WHERE tid = :tid;\n" \
	"UPDATE pgbench_branches SET bbalance = bbalance + :delta WHERE bid = :bid;\n" \
	"INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) " \
	"VALUES (:tid, :bid, :aid, :delta, CURRENT_TIMESTAMP);\n"

/* a version that is never committed */
#define NEVER(table, key) \
	"UPDATE pgbench_" table " SET filler = '999999999' WHERE " key " = :" key ";\n"

/* visible while others still wait for the disk */
#define ASYNCHRONOUS	"SET LOCAL synchronous_commit = off;\n"

/* a commit that takes a while, where fsync is on */
#define SLOWLY \
	"SELECT set_config('commit_delay', :delay, true), set_config('commit_siblings', '0', true);\n"

#define NEXT_VERSION	"filler = (filler::text::int + 1)::text"

static const struct Script
{
	const char *name;
	int			weight;
	int			links_weight;	/* with --links */
	const char *text;
}			scripts[] =
{
	{"tpcb", 60, 5, CHOICES "BEGIN;\n" TPC_B "END;\n"},
	{"rollback", 4, 2, CHOICES "BEGIN;\n" TPC_B NEVER("accounts", "aid") NEVER("tellers", "tid")
		NEVER("branches", "bid") "ROLLBACK;\n"},
	{"savepoint", 4, 2, CHOICES "BEGIN;\n" TPC_B "SAVEPOINT s;\n" NEVER("accounts", "aid")
		NEVER("tellers", "tid") NEVER("branches", "bid") "ROLLBACK TO s;\nEND;\n"},
	{"transfer", 8, 20, CHOICES
		"\\set other 1 + (:aid + random(0, :accounts - 2)) % :accounts\n"
		"BEGIN;\n" ASYNCHRONOUS
		"SELECT FROM pgbench_accounts WHERE aid IN (:aid, :other) ORDER BY aid FOR UPDATE;\n"
		"UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;\n"
		"UPDATE pgbench_accounts SET abalance = abalance - :delta WHERE aid = :other;\n"
		"INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) "
		"VALUES (:tid, :bid, :aid, :delta, CURRENT_TIMESTAMP), "
		"(:tid, :bid, :other, 0 - :delta, CURRENT_TIMESTAMP);\n"
	"END;\n"},
	{"several", 3, 1, CHOICES
		"BEGIN;\n"
		"SELECT FROM pgbench_accounts WHERE aid BETWEEN :aid AND :aid + 9 ORDER BY aid FOR UPDATE;\n"
		"WITH changed AS (UPDATE pgbench_accounts SET abalance = abalance + :delta "
		"WHERE aid BETWEEN :aid AND :aid + 9 RETURNING aid) "
		"INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) "
		"SELECT :tid, :bid, aid, :delta, CURRENT_TIMESTAMP FROM changed;\n"
		"UPDATE pgbench_tellers SET tbalance = tbalance + :delta * "
		"(SELECT count(*) FROM pgbench_accounts WHERE aid BETWEEN :aid AND :aid + 9) WHERE tid = :tid;\n"
		"UPDATE pgbench_branches SET bbalance = bbalance + :delta * "
		"(SELECT count(*) FROM pgbench_accounts WHERE aid BETWEEN :aid AND :aid + 9) WHERE bid = :bid;\n"
	"END;\n"},
	{"move", 12, 40, CHOICES
		"BEGIN;\n" ASYNCHRONOUS
		"UPDATE pgbench_accounts SET bid = :bid, " NEXT_VERSION " WHERE aid = :aid;\n"
	"END;\n"},
	{"teller", 5, 15, CHOICES
		"BEGIN;\n" SLOWLY
		"UPDATE pgbench_tellers SET " NEXT_VERSION " WHERE tid = :tid;\n"
	"END;\n"},
	{"branch", 4, 15, CHOICES
		"BEGIN;\n" SLOWLY
		"UPDATE pgbench_branches SET " NEXT_VERSION " WHERE bid = :bid;\n"
	"END;\n"},
};

#define SCRIPTS	((int) (sizeof(scripts) / sizeof(scripts[0])))

static char folder[100];
static char log_file[120];
static pid_t pgbench_pid;

static void
path_of(const struct Script *script, char *path, size_t size)
{
	snprintf(path, size, "%s/%s", folder, script->name);
}

/* pgbench's sessions, not ours, which say all this themselves. */
static void
set_environment(void)
{
	char		settings[200];

	snprintf(settings, sizeof(settings), "-c search_path=" SCHEMA "%s",
			 card_options.whole ? " -c cachekit.max_changed_keys=20" : "");
	if (setenv("PGOPTIONS", settings, 1) != 0)
		report_fatal("could not set PGOPTIONS");
}

/* The status of pgbench when it has ended; what it said is in the log. */
static int
wait_for_pgbench(void)
{
	int			status;

	while (waitpid(pgbench_pid, &status, 0) < 0)
		if (errno != EINTR)
			report_fatal("could not wait for pgbench: %s", strerror(errno));
	return status;
}

/* Without a look at anything else: a violation that is there is there to stay. */
static bool
ended_by_violation(void)
{
	siginfo_t	info = {0};

	while (report_violations() == 0)
	{
		if (waitid(P_PID, (id_t) pgbench_pid, &info, WEXITED | WNOWAIT | WNOHANG) == 0 &&
			info.si_pid == pgbench_pid)
			return false;
		nanosleep(&(struct timespec) {.tv_nsec = 5000000}, NULL);
	}
	process_kill(pgbench_pid);
	return true;
}

void
cards_make_pgbench(void)
{
	char		scale[12];
	const char *const words[] = {"pgbench", "-i", "-I", "dtp", "-q", "-s", scale,
	options.conninfo, NULL};

	process_folder(folder, sizeof(folder));
	snprintf(log_file, sizeof(log_file), "%s/log", folder);
	snprintf(scale, sizeof(scale), "%d", card_options.branches);
	for (int i = 0; i < SCRIPTS; i++)
	{
		char		path[140];
		FILE	   *file;

		path_of(&scripts[i], path, sizeof(path));
		file = fopen(path, "w");
		if (file == NULL || fputs(scripts[i].text, file) < 0 || fclose(file) != 0)
			report_fatal("could not write %s: %s", path, strerror(errno));
	}
	set_environment();
	pgbench_pid = process_start(words, log_file);
	if (wait_for_pgbench() != 0)
		report_fatal("pgbench -i failed; see %s", log_file);
}

void
cards_load_start(int seconds, uint64_t seed)
{
	char		files[SCRIPTS][160];
	char		clients[12], time[12], branches[30], accounts[30], rate[30], random[50];
	const char *delay = card_options.links ? "delay=20000" : "delay=0";
	const char *words[2 * SCRIPTS + 24] = {"pgbench", "-n", "-M", "prepared", "-c", clients,
	"-T", time, "-D", branches, "-D", accounts, "-D", delay, random};
	int			n = 15;

	snprintf(clients, sizeof(clients), "%d", card_options.clients);
	snprintf(time, sizeof(time), "%d", seconds);
	snprintf(branches, sizeof(branches), "branches=%d", card_options.branches);
	snprintf(accounts, sizeof(accounts), "accounts=%d", card_options.accounts);
	snprintf(rate, sizeof(rate), "--rate=%d", card_options.rate);
	snprintf(random, sizeof(random), "--random-seed=%" PRIu64, seed);
	if (card_options.rate > 0)
		words[n++] = rate;
	for (int i = 0; i < SCRIPTS; i++)
	{
		path_of(&scripts[i], files[i], sizeof(files[i]));
		snprintf(files[i] + strlen(files[i]), sizeof(files[i]) - strlen(files[i]), "@%d",
				 card_options.links ? scripts[i].links_weight : scripts[i].weight);
		words[n++] = "-f";
		words[n++] = files[i];
	}
	words[n++] = options.conninfo;
	if (truncate(log_file, 0) != 0)
		report_fatal("could not empty %s: %s", log_file, strerror(errno));
	pgbench_pid = process_start(words, log_file);
}

uint64_t
cards_load_end(void)
{
	static const char wanted[] = "number of transactions actually processed: ";
	char		line[400];
	uint64_t	transactions = 0;
	FILE	   *file;
	int			status;

	if (card_options.first && ended_by_violation())
		return 0;
	status = wait_for_pgbench();
	file = fopen(log_file, "r");
	if (file == NULL)
		report_fatal("could not read %s: %s", log_file, strerror(errno));
	while (fgets(line, sizeof(line), file) != NULL)
		if (strncmp(line, wanted, strlen(wanted)) == 0 && transactions == 0)
			transactions = strtoull(line + strlen(wanted), NULL, 10);
	fclose(file);
	if (status != 0 || transactions == 0)
		report_fatal("pgbench failed; see %s", log_file);
	return transactions;
}

void
cards_load_close(bool keep)
{
	if (keep)
		return;
	for (int i = 0; i < SCRIPTS; i++)
	{
		char		path[140];

		path_of(&scripts[i], path, sizeof(path));
		(void) unlink(path);
	}
	(void) unlink(log_file);
	(void) rmdir(folder);
}
