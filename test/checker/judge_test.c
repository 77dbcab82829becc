/*
 * judge_test.c
 *		A test of the judge (history.c, judge.c) without any server.  Prints TAP.
 *
 * First, histories made by hand: for each kind of violation one that has it,
 * and beside it one that is right.  Then thousands of random ones: the judge
 * must say what an exhaustive search says (judge_random.c).
 *
 *		judge_test [HISTORIES [SEED]]
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "judge_test.h"
#include "report.h"

#define HISTORIES	20000		/* of each sort */
#define KEYS		1000

Options		options = {.keys = KEYS};
Table		tables[MAX_TABLES] = {{.name = "test"}};
int			ntables = 1;

static int	tests;
static int	failures;
static const char *kind;		/* of the first violation since the last look */
static int	next_key = 1;		/* each history has registers of its own */

/* ---------- what the judge takes from the checker ---------- */

/* A clock on which no two events are at the same time. */
int64_t
now_ns(void)
{
	static int64_t now;

	return now += 1000000;
}

void
report_violation(const char *which, const char *format,...)
{
	(void) format;
	if (kind == NULL)
		kind = which;
}

void
report_fatal(const char *format,...)
{
	va_list		args;

	va_start(args, format);
	printf("Bail out! ");
	vprintf(format, args);
	printf("\n");
	exit(1);
}

/* ---------- TAP ---------- */

void
ok(bool good, const char *name)
{
	printf("%sok %d - %s\n", good ? "" : "not ", ++tests, name);
	failures += !good;
}

bool
no_violation(void)
{
	bool		none = kind == NULL;

	kind = NULL;
	return none;
}

/* The violation since the last call must be of this kind; NULL: there must be none. */
static void
found(const char *expected, const char *name)
{
	bool		good = expected == NULL ? kind == NULL :
		kind != NULL && strcmp(kind, expected) == 0;

	ok(good, name);
	if (!good)
		printf("# found: %s\n", kind != NULL ? kind : "nothing");
	kind = NULL;
}

/* ---------- by hand: one register ---------- */

int
new_keys(int n)
{
	int			first;

	if (next_key + n > KEYS)
	{
		history_init();
		next_key = 1;
	}
	first = next_key;
	next_key += n;
	return first;
}

static int
new_key(void)
{
	return new_keys(1);
}

Seen
document(int key, Version version)
{
	return (Seen) {.absent = version == 0, .id = key, .version = version, .pad = version};
}

/* a write whose COMMIT has not been sent */
static Version
write_open(int key, Version base, bool absent)
{
	WriteId		id = history_write(key, 1);

	history_version(id, VERSION_NEXT(base, id), absent);
	return VERSION_NEXT(base, id);
}

static Version
write_sent(int key, Version base, bool absent)
{
	Version		version = write_open(key, base, absent);
	WriteId		id = VERSION_WRITE(version);

	history_sent(&id, 1);
	return version;
}

static void
answered(Version version)
{
	WriteId		id = VERSION_WRITE(version);

	history_done(&id, 1, false);
}

static Version
written(int key, Version base, bool absent)
{
	Version		version = write_sent(key, base, absent);

	answered(version);
	return version;
}

static Bound
asked(int key)
{
	Bound		bound;

	history_bound(key, &bound);
	return bound;
}

static Bound
asked_directly(int key)
{
	Bound		bound;

	history_bound_direct(key, CACHE_REDIS, &bound);
	return bound;
}

static void
returned(Bound bound, Version version)
{
	Seen		seen = document(bound.key, version);

	(void) history_judge(&bound, &seen, bound.direct ? READ_DIRECT : READ_STRICT, "test", 1);
}

static void
reads_and_commits(void)
{
	int			key = new_key();
	Version		v1 = written(key, 0, false);
	Bound		before = asked(key);
	Version		v2 = written(key, v1, false);
	Version		v3;
	Bound		b;
	WriteId		id;

	returned(before, v1);
	found(NULL, "a read may return what was replaced after it was sent");
	returned(asked(key), v2);
	found(NULL, "a read returns the newest version");
	returned(asked(key), v1);
	found("stale", "a version older than a COMMIT that was answered");

	v3 = write_open(key, v2, false);
	returned(asked(key), v3);
	found("uncommitted", "a version whose COMMIT was not sent");
	id = VERSION_WRITE(v3);
	history_sent(&id, 1);
	before = asked(key);
	returned(asked(key), v3);
	found(NULL, "a version whose COMMIT is on its way");
	returned(before, v2);
	found(NULL, "a read that overlaps with the one that saw it may be older");
	returned(asked(key), v2);
	found("backwards", "a version older than one that was returned before");
	answered(v3);
	found(NULL, "the answer to that COMMIT");

	b = asked(key);
	id = VERSION_WRITE(write_open(key, v3, false));
	history_dead(id);
	returned(b, VERSION_NEXT(v3, id));
	found("rolled back", "a version that was rolled back before");

	v3 = write_sent(key, v3, false);
	returned(asked(key), v3);
	history_dead(VERSION_WRITE(v3));
	found("rolled back", "a version that was seen, and then its COMMIT failed");

	key = new_key();
	v1 = written(key, 0, false);
	v2 = written(key, v1, false);
	(void) written(key, 0, false);
	found("order", "a commit with a version that is not the newest");

	id = history_write(key, 1);
	history_sent(&id, 1);
	returned(asked(key), VERSION_NEXT(v2, id));
	history_version(id, VERSION_NEXT(v2, id) + VERSION_UNIT, false);
	found("unknown value", "a version that is not what the server says in the end");

	key = new_key();
	v1 = write_sent(key, 0, false);
	v2 = written(key, v1, false);
	found(NULL, "two COMMITs on their way");
	returned(asked(key), v2);
	answered(v1);
	found(NULL, "their answers may come in any order");
}

static void
documents(void)
{
	int			key = new_key();
	int			other = new_key();
	Version		v = written(key, 0, false);
	Version		w = written(other, 0, false);
	Bound		b = asked(key);
	Seen		seen = document(key, v);

	seen.id = other;
	(void) history_judge(&b, &seen, READ_STRICT, "test", 1);
	found("wrong key", "the document of another key");
	seen = document(key, v);
	seen.pad = w;
	(void) history_judge(&b, &seen, READ_STRICT, "test", 1);
	found("torn", "a document of two versions");
	returned(b, w);
	found("unknown value", "a version of another key");
	returned(b, v + VERSION_UNIT);
	found("unknown value", "a version that nobody wrote");
	seen = document(key, v);
	seen.shape = history_shape_next(0);
	(void) history_judge(&b, &seen, READ_STRICT, "test", 1);
	found(NULL, "a column that is being added");
	history_shape_done(0, seen.shape);
	b = asked(key);
	seen.shape = 0;
	(void) history_judge(&b, &seen, READ_STRICT, "test", 1);
	found("shape", "a document without a column that was added before");
	seen.shape = history_shape_next(0);
	history_shape_done(0, seen.shape);
}

static void
absent_rows(void)
{
	int			key = new_key();
	Version		v1 = written(key, 0, false);
	Version		d2;
	Version		v3;
	Version		d4;
	Bound		b = asked(key);

	returned(b, 0);
	found("stale", "no row, where there always was one");
	d2 = written(key, v1, true);
	returned(b, 0);
	found(NULL, "no row, deleted meanwhile");
	returned(asked(key), v1);
	found("stale", "a row that was deleted");
	v3 = written(key, d2, false);
	returned(b, 0);
	found(NULL, "a read that began before may still see the deletion");
	returned(asked(key), 0);
	found("stale", "no row, where one was inserted again");

	d4 = write_sent(key, v3, true);
	returned(asked(key), 0);
	history_dead(VERSION_WRITE(d4));
	found("rolled back", "no row, and then the only deletion fails");

	/* two deletions may explain it; the first one fails; the row between them was seen later */
	key = new_key();
	v1 = written(key, 0, false);
	d2 = write_sent(key, v1, true);
	v3 = write_sent(key, d2, false);
	d4 = write_sent(key, v3, true);
	returned(asked(key), 0);
	returned(asked(key), v3);
	found(NULL, "no row, then a row that is newer than one deletion");
	history_dead(VERSION_WRITE(d2));
	found("backwards", "the same, when that deletion fails");

	key = new_key();
	v1 = written(key, 0, false);
	d2 = write_sent(key, v1, true);
	v3 = write_sent(key, d2, false);
	d4 = write_sent(key, v3, true);
	returned(asked(key), 0);
	b = asked(key);
	history_dead(VERSION_WRITE(d2));
	found(NULL, "the other deletion explains it");
	returned(b, v3);
	found("backwards", "a read that was under way then");

	key = new_key();
	v1 = written(key, 0, false);
	d2 = write_sent(key, v1, true);
	returned(asked(key), 0);
	d4 = write_sent(key, d2, true);
	history_dead(VERSION_WRITE(d2));
	found("rolled back", "a deletion that began after the answer explains nothing");

	key = new_key();
	v1 = written(key, 0, false);
	b = asked(key);
	v3 = written(key, v1 + VERSION_UNIT, false);
	(void) write_sent(key, v1, true);
	returned(b, 0);
	found("stale", "nor does one that is older than what was known when it began");
}

static void
outages(void)
{
	int			key = new_key();
	int			other = new_key();
	Version		v1 = written(key, 0, false);
	Version		v2 = written(key, v1, false);
	Version		w = write_sent(other, 0, false);

	history_timeline(1);
	history_timeline(1);
	history_truth(key, v1, false);
	found("lost", "a commit that an outage took back");
	history_truth(other, w, false);
	history_truth_end();
	found(NULL, "a commit without an answer that the table has");
	returned(asked(key), v2);
	found("rolled back", "a version that was lost is seen again");
	returned(asked(other), 0);
	found("stale", "after an outage reads are held to what the table had");

	v2 = write_sent(key, v1, false);
	returned(asked(key), v2);
	history_truth(key, v1, false);
	found("lost", "a version that was returned before its COMMIT was answered");
	history_truth_end();

	options.async = 100;
	v2 = written(key, v1, false);
	history_truth(key, v1, false);
	history_truth_end();
	found(NULL, "an asynchronous commit may be lost");
	v2 = written(key, v1, false);
	returned(asked_directly(key), v2);
	history_truth(key, v1, false);
	found("ghost", "but not when a cache server has shown it");
	history_truth_end();
	v2 = written(key, v1, false);
	returned(asked_directly(key), v2);
	history_timeline(2);
	history_truth(key, v1, false);
	history_truth_end();
	found(NULL, "unless the timeline is another one");
	options.async = 0;
}

static void
direct_reads(void)
{
	int			key = new_key();
	Version		v1 = written(key, 0, false);
	Version		v2 = written(key, v1, false);
	Version		v3 = written(key, v2, false);
	Delivery	delivery;
	Seen		seen = document(key, v1);
	Bound		b = asked_directly(key);
	int64_t		age = history_age(&b, &seen);
	WriteId		id;

	returned(b, v1);
	found(NULL, "a direct read may be old");
	seen = document(key, v2);
	ok(age > history_age(&b, &seen) && history_age(&b, &seen) > 0, "its age is known");
	seen = document(key, v3);
	ok(history_age(&b, &seen) == 0, "the newest version has none");
	returned(asked_directly(key), 0);
	found(NULL, "no document is always right");

	delivery = history_delivery_begins();
	id = VERSION_WRITE(write_sent(key, v3, false));
	history_done(&id, 1, false);
	history_delivered(delivery);
	returned(asked_directly(key), v3);
	found(NULL, "a direct read may miss what was committed after a delivery began");
	returned(asked_directly(key), v2);
	found("stale", "but not what was committed before");
	history_goes_back(CACHE_REDIS);
	returned(asked_directly(key), v1);
	found(NULL, "when the data go back, old documents are right");
	history_delivered(history_delivery_begins());
	returned(asked_directly(key), v1);
	found(NULL, "also after a delivery that began too soon");
	id = VERSION_WRITE(write_sent(key, VERSION_NEXT(v3, id), false));
	history_done(&id, 1, true);
	returned(asked_directly(key), v3);
	found("stale", "what a COMMIT has waited for is delivered");

	id = VERSION_WRITE(write_sent(key, VERSION_NEXT(v3, id) + VERSION_UNIT, false));
	returned(asked_directly(key), VERSION_NEXT(v3, id) + 2 * VERSION_UNIT);
	found(NULL, "a direct read of a COMMIT on its way");
	returned(asked(key), v3);
	found("stale", "what a direct read has seen is not missed in SQL");
}

static void
sets(void)
{
	int			a = new_key();
	int			b = new_key();
	WriteId		ids[2];
	Version		a1 = written(a, 0, false);
	Version		b1 = written(b, 0, false);
	Version		a2;
	Version		b2;
	Version		a3;
	Bound		bounds[2] = {asked(a), asked(b)};
	Seen		seen[2];

	a2 = write_open(a, a1, false);
	b2 = write_open(b, b1, false);
	ids[0] = VERSION_WRITE(a2);
	ids[1] = VERSION_WRITE(b2);
	history_sent(ids, 2);
	seen[0] = document(a, a2);
	seen[1] = document(b, b2);
	(void) history_judge_set(bounds, seen, 2, "test", 1);
	found(NULL, "a set shows a transaction");
	seen[1] = document(b, b1);
	(void) history_judge_set(bounds, seen, 2, "test", 1);
	found("torn set", "half of a transaction");
	history_done(ids, 2, false);
	a3 = written(a, a2, false);
	seen[0] = document(a, a3);
	(void) history_judge_set(bounds, seen, 2, "test", 1);
	found("torn set", "half of a transaction, and what came after it");

	seen[1] = document(b, 0);
	(void) history_judge_set(bounds, seen, 2, "test", 1);
	found("torn set", "a row that was written is not there");
	b2 = written(b, b2, true);
	(void) history_judge_set(bounds, seen, 2, "test", 1);
	found(NULL, "it may have been deleted since");
	b2 = written(b, b2, false);

	bounds[0] = asked(a);
	bounds[1] = asked(b);
	b1 = b2;
	b2 = written(b, b2, false);
	a2 = written(a, a3, false);
	seen[0] = document(a, a3);
	seen[1] = document(b, b2);
	(void) history_judge_set(bounds, seen, 2, "test", 1);
	found(NULL, "the first of two commits");
	seen[0] = document(a, a2);
	seen[1] = document(b, b1);
	(void) history_judge_set(bounds, seen, 2, "test", 1);
	found("two moments", "the second of two commits without the first");
}

int
main(int argc, char **argv)
{
	int			histories = argc > 1 ? atoi(argv[1]) : HISTORIES;
	uint64_t	seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;

	history_init();
	reads_and_commits();
	documents();
	absent_rows();
	outages();
	direct_reads();
	sets();
	random_histories(1, SPOIL_NOTHING, histories, seed, "one register");
	random_histories(1, SPOIL_READ, histories, seed, "one register, reads spoiled");
	random_histories(1, SPOIL_ORDER, histories, seed, "one register, order spoiled");
	random_histories(3, SPOIL_NOTHING, histories, seed, "three registers");
	random_histories(3, SPOIL_READ, histories, seed, "three registers, reads spoiled");
	printf("1..%d\n", tests);
	return failures > 0 ? 1 : 0;
}
