/*
 * cards.c
 *		Puts pgbench's load on views that cachekit caches, and checks every read.
 *
 * Documents of many rows, whose changes come by way of other tables.  What is
 * checked, and how, is said in README.md.  The load runs in rounds: after each
 * all documents are compared, wherever they are, and the history is emptied.
 */
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#include "cards.h"
#include "control.h"
#include "memcached.h"
#include "redis.h"
#include "report.h"

Options		options = {
	.conninfo = "",
	.readers = 4,
	.seconds = 60,
	.show = 20,
};
CardOptions card_options = {
	.branches = 3,
	.accounts = 1000,
	.clients = 4,
	.round = 20,
	.on_change = "invalidate",
};
Table		tables[MAX_TABLES] = {{.name = SCHEMA}};
int			ntables = 1;

static CardReader *readers;
static atomic_bool round_over;

static void
usage(FILE *out)
{
	fprintf(out,
			"usage: cards [option...]\n"
			"  --conninfo STRING    libpq connection string (default: the environment)\n"
			"  --clients N          of pgbench (4)\n"
			"  --rate N             its transactions a second, 0: as many as it can (0)\n"
			"  --readers N          sessions that read (4)\n"
			"  --seconds N          how long (60)\n"
			"  --round SECONDS      after which all documents are compared (20)\n"
			"  --branches N         pgbench's scale (3)\n"
			"  --accounts N         in all branches (1000)\n"
			"  --seed N             of all random choices (default: the clock)\n"
			"  --redis              cached in a private Redis\n"
			"  --memcached[=HOSTS]  in a private Memcached of so many hosts (1); with both,\n"
			"                       each is the first to be asked in every other round\n"
			"  --no-local           with these: only there\n"
			"  --on-change WORD     of the entities (invalidate)\n"
			"  --whole              writers remember few keys: who changes a branch\n"
			"                       invalidates the cards of all accounts\n"
			"  --links              mostly changes of branches and tellers, slowly committed,\n"
			"                       and of what leads to them\n"
			"  --first              the first violation ends the run\n"
			"  --show N             violations that are printed in full (20)\n"
			"Drops and makes the schema " SCHEMA ", and the servers ck_redis and ck_memcached.\n"
			"Exit status: 0 all reads were right, 1 violations, 2 the run could not be\n"
			"finished.\n");
}

static void
parse_options(int argc, char **argv)
{
	static const struct option longs[] = {
		{"conninfo", required_argument, NULL, 'c'},
		{"clients", required_argument, NULL, 'C'},
		{"rate", required_argument, NULL, 'f'},
		{"readers", required_argument, NULL, 'r'},
		{"seconds", required_argument, NULL, 's'},
		{"round", required_argument, NULL, 'R'},
		{"branches", required_argument, NULL, 'b'},
		{"accounts", required_argument, NULL, 'a'},
		{"seed", required_argument, NULL, 'S'},
		{"redis", no_argument, NULL, 'd'},
		{"memcached", optional_argument, NULL, 'm'},
		{"no-local", no_argument, NULL, 'l'},
		{"on-change", required_argument, NULL, 'o'},
		{"whole", no_argument, NULL, 'w'},
		{"links", no_argument, NULL, 'L'},
		{"first", no_argument, NULL, 'F'},
		{"show", required_argument, NULL, 'v'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0}
	};
	int			c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1)
	{
		switch (c)
		{
			case 'c':
				options.conninfo = optarg;
				break;
			case 'C':
				card_options.clients = (int) option_number(optarg, 1, 500);
				break;
			case 'f':
				card_options.rate = (int) option_number(optarg, 0, 1000000);
				break;
			case 'r':
				options.readers = (int) option_number(optarg, 0, 500);
				break;
			case 's':
				options.seconds = (int) option_number(optarg, 1, 1000000);
				break;
			case 'R':
				card_options.round = (int) option_number(optarg, 1, 1000000);
				break;
			case 'b':
				card_options.branches = (int) option_number(optarg, 1, MAX_BRANCHES);
				break;
			case 'a':
				card_options.accounts = (int) option_number(optarg, 2, 1000000);
				break;
			case 'S':
				options.seed = (uint64_t) option_number(optarg, 0, INT64_MAX);
				break;
			case 'd':
				options.redis = true;
				break;
			case 'm':
				options.memcached = optarg == NULL ? 1 :
					(int) option_number(optarg, 1, MAX_MEMCACHED);
				break;
			case 'l':
				options.without_local = true;
				break;
			case 'o':
				card_options.on_change = optarg;
				break;
			case 'w':
				card_options.whole = true;
				break;
			case 'L':
				card_options.links = true;
				break;
			case 'F':
				card_options.first = true;
				break;
			case 'v':
				options.show = (int) option_number(optarg, 1, 1000000);
				break;
			case 'h':
				usage(stdout);
				exit(0);
			default:
				usage(stderr);
				exit(2);
		}
	}
	if (optind < argc || (options.without_local && !options.redis && options.memcached == 0))
	{
		usage(stderr);
		exit(2);
	}
}

static void
make_readers(void)
{
	readers = calloc((size_t) options.readers + 1, sizeof(CardReader));
	if (readers == NULL)
		report_fatal("out of memory");
	for (int i = 0; i < options.readers; i++)
	{
		CardReader *r = &readers[i];

		r->number = i + 1;
		r->session.role = "reader";
		/* never 0, and far apart */
		r->session.random = ((options.seed + 1) * UINT64_C(0x9E3779B97F4A7C15) +
							 (uint64_t) i * UINT64_C(0xD1B54A32D192ED03)) | 1;
		cards_reader_open(r);
	}
}

static void *
reader_main(void *arg)
{
	CardReader *r = arg;

	while (!atomic_load(&round_over))
		cards_read(r);
	return NULL;
}

/* The readers begin before pgbench does, and end after it. */
static uint64_t
run_round(int seconds, uint64_t seed)
{
	pthread_t  *threads = calloc((size_t) options.readers + 1, sizeof(pthread_t));
	uint64_t	transactions;

	if (threads == NULL)
		report_fatal("out of memory");
	atomic_store(&round_over, false);
	for (int i = 0; i < options.readers; i++)
		if (pthread_create(&threads[i], NULL, reader_main, &readers[i]) != 0)
			report_fatal("could not start a thread");
	cards_load_start(seconds, seed);
	transactions = cards_load_end();
	atomic_store(&round_over, true);
	for (int i = 0; i < options.readers; i++)
		pthread_join(threads[i], NULL);
	free(threads);
	return transactions;
}

static void
report(Session *control, const CardCounts *counts, uint64_t transactions, double seconds)
{
	uint64_t	reads = 0, exact = 0, misses = 0;
	Hits		hits;

	for (int i = 0; i < options.readers; i++)
	{
		reads += readers[i].reads;
		exact += readers[i].exact;
		misses += readers[i].misses;
	}
	printf("\n%-30s %12" PRIu64 "  (%.0f a second)\n", "reads checked", reads,
		   (double) reads / seconds);
	printf("%-30s %12" PRIu64 "\n", "against an unchanged view", exact);
	printf("%-30s %12" PRIu64 "\n", "not in the cache, \"fresh\"", misses);
	printf("%-30s %12" PRIu64 "  (%.0f a second)\n", "transactions of pgbench", transactions,
		   (double) transactions / seconds);
	cards_report_entities(control);
	if (!control_hits(control, &hits))
		report_fatal("lost the connection");
	for (Cache cache = 0; cache < CACHES; cache++)
		if (CACHE_USED(cache))
		{
			printf("answered by %-18s %12" PRId64 "\n", caches[cache].title, hits.answered[cache]);
			printf("documents in %-17s %12" PRIu64 "\n", caches[cache].title,
				   counts->documents[cache]);
		}
	printf("%-30s %12" PRIu64 "\n", "compared at rest", counts->at_rest);
	if (!control_print_senders(control))
		report_fatal("lost the connection");
	report_kinds();
	report_result(reads, 0, 0, counts->documents[CACHE_REDIS] + counts->documents[CACHE_MEMCACHED]);
}

int
main(int argc, char **argv)
{
	Session		control = {.role = "control"};
	CardCounts	counts = {0};
	uint64_t	transactions = 0;
	double		loaded = 0;
	bool		keep;

	(void) now_ns();
	options.seed = ((uint64_t) time(NULL) ^ ((uint64_t) getpid() << 32)) & INT64_MAX;
	parse_options(argc, argv);
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("seed %" PRIu64 ", %d clients of pgbench, %d readers, %d accounts of %d branches, "
		   "on_change %s%s%s%s%s%s\n", options.seed, card_options.clients, options.readers,
		   card_options.accounts, card_options.branches, card_options.on_change,
		   options.redis ? ", Redis" : "", options.memcached > 0 ? ", Memcached" : "",
		   options.without_local ? " only" : "", card_options.whole ? ", whole entities" : "",
		   card_options.links ? ", links" : "");

	if (options.redis)
		redis_open();
	if (options.memcached > 0)
		memcached_open();
	if (!session_open(&control))
		report_fatal("%s", control.message);
	cards_setup(&control);
	make_readers();

	for (int round = 0, left = options.seconds; left > 0; round++)
	{
		int			seconds = left < card_options.round ? left : card_options.round;
		int64_t		begin;

		cards_begin_round(&control, round);
		begin = now_ns();
		transactions += run_round(seconds, options.seed + (uint64_t) round);
		loaded += (double) (now_ns() - begin) / 1e9;
		if (card_options.first && report_violations() > 0)
			break;
		cards_compare(&control, &counts);
		left -= seconds;
		printf("round %d: %d s to go, %" PRIu64 " violations\n", round + 1, left,
			   report_violations());
	}

	report(&control, &counts, transactions, loaded);
	for (int i = 0; i < options.readers; i++)
		cards_reader_close(&readers[i]);
	session_close(&control);
	keep = report_violations() > 0;
	if (options.redis)
		redis_close(keep);
	if (options.memcached > 0)
		memcached_close(keep);
	cards_load_close(keep);
	return keep ? 1 : 0;
}
