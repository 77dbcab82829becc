/*
 * checker.c
 *		Puts a load on registers that cachekit caches, and checks every read.
 *
 * One thread per session, and the main thread for what is done once: setup,
 * progress, outages, the end.
 */
#include <getopt.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#include "control.h"
#include "faults.h"
#include "history.h"
#include "memcached.h"
#include "orders.h"
#include "outage.h"
#include "redis.h"
#include "report.h"
#include "work.h"

Options		options = {
	.conninfo = "",
	.writers = 3,
	.readers = 5,
	.seconds = 60,
	.keys = 200,
	.pad = 200,
	.truncate_ms = 2000,
	.direct = 2,
	.progress = 10,
	.show = 20,
};
Table		tables[MAX_TABLES];
int			ntables;

/* No fault at the end, so that there is more to compare than an empty cache. */
#define QUIET_END	INT64_C(2000000000)

#define SECOND_NS	INT64_C(1000000000)
#define ORDERS_NS	INT64_C(10000000)	/* between two looks for orders */
#define HELD_MS		20			/* between two looks of a session that may not work */

static Session *sessions;		/* [0] is the control session */
static int	nsessions;			/* without the control session */
static Summary summary;
static Hits last_hits;			/* of its hits, since the server started */

static void
usage(FILE *out)
{
	fprintf(out,
			"usage: checker [option...]\n"
			"  --conninfo STRING    libpq connection string (default: the environment)\n"
			"  --writers N          sessions that write (3)\n"
			"  --readers N          sessions that read (5)\n"
			"  --seconds N          how long (60)\n"
			"  --keys N             registers of each table (200)\n"
			"  --pad BYTES          longest filler of a row (200)\n"
			"  --seed N             of all random choices (default: the clock)\n"
			"  --async[=PERCENT]    so many commits with synchronous_commit = off (all)\n"
			"  --truncate MS        one TRUNCATE per so many ms, 0: none (2000)\n"
			"  --ddl MS             one DDL step per so many ms, 0: none (0)\n"
			"  --survive            wait for a server that goes away, and go on\n"
			"  --redis              a second table, cached in a private Redis only; the\n"
			"                       first one there, too\n"
			"  --memcached[=HOSTS]  the same with a private Memcached of so many hosts (1);\n"
			"                       with --redis all tables are cached in both, and a third\n"
			"                       one asks Memcached first\n"
			"  --direct N           sessions that ask a cache server themselves, for each kind\n"
			"                       that there is (2)\n"
			"  --synchronous        COMMIT waits for the cache servers, and sessions that ask\n"
			"                       a server themselves must see what it has done; not with\n"
			"                       faults\n"
			"  --refresh[=absent]   changed documents are loaded again, if they are cached or\n"
			"                       whether they are or not\n"
			"  --no-local           with these: only the tables that are cached there only\n"
			"  --redis-faults N, --memcached-faults N\n"
			"                       one fault of it per so many seconds, 0: none (0)\n"
			"  --redis-at HOST:PORT, --memcached-at HOST:PORT,...\n"
			"                       use these, which run already, in place of private ones\n"
			"  --orders             obey orders by stdin until \"end\": see README.md\n"
			"  --progress SECONDS   between progress lines, 0: none (10)\n"
			"  --show N             violations that are printed in full (20)\n"
			"  --first              the first violation ends the load\n"
			"Drops and makes the schemas ck_local, ck_redis and ck_memcached, and the servers\n"
			"ck_redis and ck_memcached.\n"
			"Exit status: 0 all reads were right, 1 violations, 2 the run could not be\n"
			"finished.\n");
}

static void
parse_options(int argc, char **argv)
{
	static const struct option longs[] = {
		{"conninfo", required_argument, NULL, 'c'},
		{"writers", required_argument, NULL, 'w'},
		{"readers", required_argument, NULL, 'r'},
		{"seconds", required_argument, NULL, 's'},
		{"keys", required_argument, NULL, 'k'},
		{"pad", required_argument, NULL, 'p'},
		{"seed", required_argument, NULL, 'S'},
		{"async", optional_argument, NULL, 'a'},
		{"truncate", required_argument, NULL, 't'},
		{"ddl", required_argument, NULL, 'd'},
		{"survive", no_argument, NULL, 'v'},
		{"redis", no_argument, NULL, 'R'},
		{"memcached", optional_argument, NULL, 'M'},
		{"direct", required_argument, NULL, 'D'},
		{"synchronous", no_argument, NULL, 'y'},
		{"refresh", optional_argument, NULL, 'e'},
		{"no-local", no_argument, NULL, 'l'},
		{"redis-faults", required_argument, NULL, 'f'},
		{"memcached-faults", required_argument, NULL, 'F'},
		{"redis-at", required_argument, NULL, 'A'},
		{"memcached-at", required_argument, NULL, 'B'},
		{"orders", no_argument, NULL, 'O'},
		{"progress", required_argument, NULL, 'P'},
		{"show", required_argument, NULL, 'o'},
		{"first", no_argument, NULL, '1'},
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
			case 'w':
				options.writers = (int) option_number(optarg, 0, 500);
				break;
			case 'r':
				options.readers = (int) option_number(optarg, 0, 500);
				break;
			case 's':
				options.seconds = (int) option_number(optarg, 1, 1000000);
				break;
			case 'k':
				options.keys = (int) option_number(optarg, 1, 1000000);
				break;
			case 'p':
				options.pad = (int) option_number(optarg, 24, 1000000);
				break;
			case 'S':
				options.seed = (uint64_t) option_number(optarg, 0, INT64_MAX);
				break;
			case 'a':
				options.async = optarg != NULL ? (int) option_number(optarg, 0, 100) : 100;
				break;
			case 't':
				options.truncate_ms = (int) option_number(optarg, 0, 1000000);
				break;
			case 'd':
				options.ddl_ms = (int) option_number(optarg, 0, 1000000);
				break;
			case 'v':
				options.survive = true;
				break;
			case 'R':
				options.redis = true;
				break;
			case 'M':
				options.memcached = optarg != NULL ? (int) option_number(optarg, 1, MAX_MEMCACHED) : 1;
				break;
			case 'D':
				options.direct = (int) option_number(optarg, 0, 500);
				break;
			case 'F':
				options.memcached_faults = (int) option_number(optarg, 0, 1000000);
				break;
			case 'y':
				options.synchronous = true;
				break;
			case 'e':
				options.refresh = true;
				options.refresh_absent = optarg != NULL && strcmp(optarg, "absent") == 0;
				if (optarg != NULL && !options.refresh_absent)
					report_fatal("\"%s\" is not \"absent\"", optarg);
				break;
			case 'l':
				options.without_local = true;
				break;
			case 'f':
				options.redis_faults = (int) option_number(optarg, 0, 1000000);
				break;
			case 'A':
				options.redis = true;
				options.redis_at = optarg;
				break;
			case 'B':
				options.memcached = 1;
				options.memcached_at = optarg;
				for (const char *p = optarg; *p != '\0'; p++)
					options.memcached += *p == ',';
				break;
			case 'O':
				options.orders = true;
				break;
			case 'P':
				options.progress = (int) option_number(optarg, 0, 1000000);
				break;
			case 'o':
				options.show = (int) option_number(optarg, 1, 1000000);
				break;
			case '1':
				options.first = true;
				break;
			case 'h':
				usage(stdout);
				exit(0);
			default:
				usage(stderr);
				exit(2);
		}
	}
	if (optind < argc ||
		(options.without_local && !options.redis && options.memcached == 0) ||
		(options.synchronous &&
		 (options.redis_faults > 0 || options.memcached_faults > 0)) ||
		(options.redis_faults > 0 && !options.redis) ||
		(options.memcached_faults > 0 && options.memcached == 0) ||
		(options.redis_at != NULL && options.redis_faults > 0) ||
		(options.memcached_at != NULL &&
		 (options.memcached_faults > 0 || options.memcached > MAX_MEMCACHED)))
	{
		usage(stderr);
		exit(2);
	}
}

static void
make_tables(void)
{
	const char *redis_first = !options.redis ? "ck_memcached" :
		options.memcached > 0 ? "ck_redis,ck_memcached" : "ck_redis";
	const char *memcached_first = options.redis ? "ck_memcached,ck_redis" : "ck_memcached";
	bool		server = options.redis || options.memcached > 0;

	if (options.redis)
		tables[ntables++] = (Table) {.name = "ck_redis", .servers = redis_first};
	if (options.memcached > 0)
		tables[ntables++] = (Table) {.name = "ck_memcached", .servers = memcached_first};
	if (!options.without_local)
		tables[ntables++] = (Table) {
			.name = "ck_local", .local = true, .servers = server ? redis_first : ""
		};
}

static void *
session_main(void *arg)
{
	Session    *s = arg;

	while (!load_stopped())
	{
		if (outage_noticed())
			outage_wait(s);
		else if (!orders_begin_work(s))
			pause_ms(HELD_MS);
		else
		{
			s->work(s);
			orders_end_work(s);
			if (session_lost(s))
				outage_notice(s);
		}
	}
	session_close(s);
	outage_leave();
	return NULL;
}

static void
make_sessions(void)
{
	int			nddl = options.ddl_ms > 0 ? ntables : 0;
	int			first_direct = options.writers + options.readers + nddl + 1;
	int			ndirect = options.direct * (options.redis + (options.memcached > 0));

	nsessions = first_direct - 1 + ndirect + (ndirect > 0 ? 1 : 0);
	sessions = calloc((size_t) nsessions + 1, sizeof(Session));
	if (sessions == NULL)
		report_fatal("out of memory");
	for (int i = 0; i <= nsessions; i++)
	{
		Session    *s = &sessions[i];

		s->number = i;
		/* never 0, and far apart */
		s->random = (options.seed + 1) * UINT64_C(0x9E3779B97F4A7C15) +
			(uint64_t) i * UINT64_C(0xD1B54A32D192ED03);
		s->random |= 1;
		if (i == 0)
			s->role = "control";
		else if (i <= options.writers)
		{
			s->role = "writer";
			s->work = writer_work;
			s->table = (i - 1) % ntables;
		}
		else if (i <= options.writers + options.readers)
		{
			s->role = "reader";
			s->work = reader_work;
			s->table = (i - 1 - options.writers) % ntables;
		}
		else if (i <= options.writers + options.readers + nddl)
		{
			s->role = "ddl";
			s->work = ddl_work;
			s->table = i - 1 - options.writers - options.readers;
		}
		else if (i < first_direct + ndirect)
		{
			s->role = "direct";
			s->work = direct_work;
			s->cache = options.redis && i < first_direct + options.direct ?
				CACHE_REDIS : CACHE_MEMCACHED;
			s->table = (i - first_direct) % ntables;
		}
		else
		{
			s->role = "delivery";
			s->work = delivery_work;
		}
	}
}

static void
sum_counts(uint64_t *totals)
{
	memset(totals, 0, COUNTERS * sizeof(uint64_t));
	for (int i = 0; i <= nsessions; i++)
		for (int c = 0; c < COUNTERS; c++)
			totals[c] += atomic_load_explicit(&sessions[i].counts[c], memory_order_relaxed);
}

/* The server's counts start anew when the server does. */
static bool
take_hits(void)
{
	Hits	   *sum = &summary.hits;
	Hits		now;

	if (!control_hits(&sessions[0], &now))
		return false;
	sum->local += now.local >= last_hits.local ? now.local - last_hits.local : now.local;
	sum->server += now.server >= last_hits.server ? now.server - last_hits.server : now.server;
	for (Cache cache = 0; cache < CACHES; cache++)
	{
		int64_t		before = last_hits.answered[cache];

		sum->answered[cache] += now.answered[cache] - (now.answered[cache] >= before ? before : 0);
		summary.ready[cache] += now.ready[cache];
	}
	last_hits = now;
	summary.looks++;
	return true;
}

/*
 * After the load.  The first fetches make the sender notice a fault that
 * nobody has asked it about yet; the next ones fill what it had to empty.
 */
static bool
compare_at_rest(void)
{
	Session    *control = &sessions[0];

	if (!take_hits() || !control_at_rest(control))
		return false;
	if (!options.redis && options.memcached == 0)
		return true;
	if (!control_delivered(control) || !control_at_rest(control))
		return false;
	for (Cache cache = 0; cache < CACHES; cache++)
		if (CACHE_USED(cache) &&
			!control_documents(control, cache, &summary.documents[cache]))
			return false;
	return control_print_senders(control);
}

/* Executes an order, if there is one; false: it was the last. */
static bool
obey_orders(void)
{
	uint64_t	totals[COUNTERS];

	switch (orders_next())
	{
		case ORDER_STATUS:
			if (!take_hits())
				outage_notice(&sessions[0]);
			sum_counts(totals);
			orders_done("status reads=%llu commits=%llu violations=%llu outages=%d local=%lld "
						"servers=%lld", (unsigned long long) report_checked(totals),
						(unsigned long long) totals[COUNT_COMMITTED],
						(unsigned long long) report_violations(), outages(),
						(long long) summary.hits.local, (long long) summary.hits.server);
			break;
		case ORDER_REST:
			outage_rest();
			outage_recover(&sessions[0], nsessions, compare_at_rest);
			orders_done("rest violations=%llu", (unsigned long long) report_violations());
			break;
		case ORDER_END:
			return false;
		case ORDER_NONE:
			break;
	}
	return true;
}

static void
run_load(void)
{
	Session    *control = &sessions[0];
	int64_t		end = options.orders ? INT64_MAX : now_ns() + options.seconds * SECOND_NS;
	int64_t		begin = now_ns();
	int64_t		next_line = begin;
	int64_t		next_look = begin;

	for (;;)
	{
		int64_t		now = now_ns();
		int64_t		wake;

		if (!outage_noticed() && now >= next_look)
		{
			if (!take_hits())
				outage_notice(control);
			next_look = now + SECOND_NS;
		}
		if (outage_noticed())
		{
			outage_recover(control, nsessions, NULL);
			printf("outage %d is over\n", outages());
		}
		if (now >= end || (options.first && report_violations() > 0) ||
			(options.orders && !outage_noticed() && !obey_orders()))
			break;
		if (options.progress > 0 && now >= next_line)
		{
			uint64_t	totals[COUNTERS];

			sum_counts(totals);
			report_progress(totals, (double) (now - begin) / 1e9);
			next_line = now + options.progress * SECOND_NS;
		}
		if (!outage_noticed() && now >= faults_due() && now < end - QUIET_END)
		{
			faults_do(control);
			now = now_ns();
		}
		wake = now + (options.orders ? ORDERS_NS : SECOND_NS);
		if (wake > end)
			wake = end;
		if (wake > faults_due() && faults_due() < end - QUIET_END)
			wake = faults_due();
		load_wait(wake > now ? (wake - now) / 1000000 + 1 : 0);
	}
}

int
main(int argc, char **argv)
{
	pthread_t  *threads;
	int64_t		begin = now_ns();
	uint64_t	totals[COUNTERS];

	options.seed = (uint64_t) time(NULL) ^ ((uint64_t) getpid() << 32);
	options.seed &= INT64_MAX;
	parse_options(argc, argv);
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("seed %llu, %d writers, %d readers, %d keys, %d %% of commits asynchronous"
		   "%s%s%s%s%s%s%s%s%s\n",
		   (unsigned long long) options.seed, options.writers, options.readers,
		   options.keys, options.async, options.ddl_ms > 0 ? ", DDL" : "",
		   options.redis ? ", Redis" : "",
		   options.memcached > 1 ? ", a ring of Memcached" :
		   options.memcached > 0 ? ", Memcached" : "",
		   options.without_local ? " only" : "",
		   options.synchronous ? ", COMMIT waits for it" : "",
		   options.refresh_absent ? ", refresh of all" : options.refresh ? ", refresh" : "",
		   options.redis_faults > 0 ? ", faults of Redis" : "",
		   options.memcached_faults > 0 ? ", faults of Memcached" : "",
		   options.survive ? ", outages" : "");

	make_tables();
	history_init();
	make_sessions();
	if (options.redis)
		redis_open();
	if (options.memcached > 0)
		memcached_open();
	threads = calloc((size_t) nsessions, sizeof(pthread_t));
	if (threads == NULL)
		report_fatal("out of memory");
	if (!session_open(&sessions[0]))
		report_fatal("%s", sessions[0].message);
	if (!control_setup(&sessions[0]))
		report_fatal("lost the connection during setup");
	for (int i = 1; i <= nsessions; i++)
		if (!session_open(&sessions[i]))
			report_fatal("%s", sessions[i].message);

	begin = now_ns();
	for (int i = 1; i <= nsessions; i++)
		if (pthread_create(&threads[i - 1], NULL, session_main, &sessions[i]) != 0)
			report_fatal("could not start a thread");
	run_load();
	load_stop();
	for (int i = 0; i < nsessions; i++)
		pthread_join(threads[i], NULL);

	/* an outage may come at any time, also now */
	while (outage_noticed() || !compare_at_rest())
	{
		outage_notice(&sessions[0]);
		outage_recover(&sessions[0], nsessions, NULL);
	}
	sum_counts(totals);
	summary.seconds = (double) (now_ns() - begin) / 1e9;
	summary.outages = outages();
	summary.gone_back = history_gone_back();
	report_end(totals, &summary);
	free(threads);
	session_close(&sessions[0]);
	if (options.redis)
		redis_close(report_violations() > 0);
	if (options.memcached > 0)
		memcached_close(report_violations() > 0);
	return report_violations() > 0 ? 1 : 0;
}
