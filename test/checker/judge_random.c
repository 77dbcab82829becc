/*
 * judge_random.c
 *		Random small histories, and by exhaustive search whether they are right.
 *
 * A history is made by letting operations on a few registers begin, take effect
 * and end in a random order; so it is right.  Then one may be spoiled: a read
 * returns something else, or versions are not in the order of the effects.
 *
 * The search is the definition of linearizability, word for word: is there an
 * order of all operations that are not known to have failed (those without an
 * answer may be left out) in which none comes before one that had ended when
 * it began, and in which each read returns what was written last?  It shares
 * nothing with the judge but the histories.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "judge_test.h"

#define MAX_OPS			10
#define MAX_REGISTERS	3

typedef enum Fate
{
	FATE_ENDS,
	FATE_FAILS,					/* its COMMIT is answered with an error */
	FATE_UNKNOWN				/* its COMMIT is never answered */
} Fate;

typedef struct Value
{
	Version		version;
	bool		absent;
} Value;

/* a transaction that writes, or a read of one moment */
typedef struct Op
{
	bool		write;
	bool		touches[MAX_REGISTERS];
	Value		values[MAX_REGISTERS];	/* written, or returned */
	WriteId		ids[MAX_REGISTERS];
	Fate		fate;
	bool		version_late;	/* a version that only the answer tells */
	int			begin;			/* each of these times is of one event only */
	int			effect;
	int			end;
	int			order;			/* of the effects; versions are in this order */
} Op;

typedef struct Past
{
	Op			ops[MAX_OPS];
	int			n;
	int			end;
} Past;

static uint64_t seed;

static uint32_t
random_below(uint32_t n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t) (seed >> 32) % n;
}

static void
random_seed(uint64_t n)
{
	seed = n * UINT64_C(0x9E3779B97F4A7C15) | 1;
}

/* ---------- the search ---------- */

typedef struct Search
{
	const Past *past;
	bool	   *tried;			/* (operations done, registers) that lead nowhere */
} Search;

/* The registers after these operations: for each, the newest version written. */
static void
registers_after(const Past *past, uint32_t done, Value *values)
{
	memset(values, 0, MAX_REGISTERS * sizeof(Value));
	for (int i = 0; i < past->n; i++)
		for (int k = 0; k < MAX_REGISTERS; k++)
			if ((done & 1u << i) && past->ops[i].write && past->ops[i].touches[k] &&
				past->ops[i].values[k].version > values[k].version)
				values[k] = past->ops[i].values[k];
}

static bool
fits(const Op *op, const Value *values)
{
	for (int k = 0; k < MAX_REGISTERS; k++)
	{
		if (!op->touches[k])
			continue;
		if (op->write ? op->values[k].version <= values[k].version :
			op->values[k].absent != values[k].absent ||
			(!values[k].absent && op->values[k].version != values[k].version))
			return false;
	}
	return true;
}

static bool
search(Search *s, uint32_t done)
{
	const Past *past = s->past;
	Value		values[MAX_REGISTERS];
	int			first_end = INT32_MAX;
	bool		all = true;

	for (int i = 0; i < past->n; i++)
	{
		if ((done & 1u << i) || past->ops[i].fate == FATE_FAILS)
			continue;
		if (past->ops[i].fate != FATE_UNKNOWN)
		{
			all = false;
			if (past->ops[i].end < first_end)
				first_end = past->ops[i].end;
		}
	}
	if (all)
		return true;
	/* writes are in the order of versions, so "done" tells the registers */
	if (s->tried[done])
		return false;
	s->tried[done] = true;
	registers_after(past, done, values);
	for (int i = 0; i < past->n; i++)
	{
		const Op   *op = &past->ops[i];

		if (!(done & 1u << i) && op->fate != FATE_FAILS && op->begin < first_end &&
			fits(op, values) && search(s, done | 1u << i))
			return true;
	}
	return false;
}

static bool
past_is_right(const Past *past)
{
	Search		s = {past, calloc(1u << past->n, sizeof(bool))};
	bool		right = search(&s, 0);

	free(s.tried);
	return right;
}

/* ---------- making histories ---------- */

static void
choose_ops(Past *past, int registers)
{
	/* the first one makes all registers, before anything else begins */
	past->n = 3 + (int) random_below(MAX_OPS - 2);
	for (int i = 0; i < past->n; i++)
	{
		Op		   *op = &past->ops[i];
		uint32_t	fate = random_below(10);

		*op = (Op) {.write = i == 0 || random_below(100) < 45};
		op->fate = i == 0 || !op->write || fate < 6 ? FATE_ENDS :
			fate < 8 ? FATE_FAILS : FATE_UNKNOWN;
		op->version_late = random_below(2) == 0;
		for (int k = 0; k < registers; k++)
		{
			op->touches[k] = i == 0 || random_below(3) > 0;
			op->values[k].absent = op->write && i > 0 && random_below(5) < 2;
		}
		if (registers == 1)
			op->touches[0] = true;
	}
}

/* Gives the writes their versions in the order of their effects, and the reads what they see. */
static void
let_them_happen(Past *past)
{
	enum {NOT_YET, BEGUN, EFFECTIVE, ENDED} at[MAX_OPS] = {NOT_YET};
	int			left = past->n;
	int			time = 0;
	int			order = 0;

	while (left > 0)
	{
		int			i = at[0] == ENDED ? (int) random_below((uint32_t) past->n) : 0;
		Op		   *op = &past->ops[i];

		if (at[i] == ENDED)
			continue;
		switch (at[i]++)
		{
			case NOT_YET:
				op->begin = ++time;
				break;
			case BEGUN:
				op->effect = ++time;
				op->order = ++order;
				break;
			default:
				op->end = op->fate == FATE_UNKNOWN ? INT32_MAX : ++time;
				left--;
				break;
		}
	}
	past->end = time;
}

static void
give_versions(Past *past)
{
	for (int i = 0; i < past->n; i++)
		for (int k = 0; k < MAX_REGISTERS; k++)
			if (past->ops[i].write && past->ops[i].touches[k])
				past->ops[i].values[k].version = past->ops[i].order * VERSION_UNIT +
					past->ops[i].ids[k];
}

static void
let_reads_see(Past *past)
{
	for (int i = 0; i < past->n; i++)
	{
		uint32_t	before = 0;
		Value		values[MAX_REGISTERS];

		if (past->ops[i].write)
			continue;
		for (int j = 0; j < past->n; j++)
			if (past->ops[j].write && past->ops[j].fate != FATE_FAILS &&
				past->ops[j].effect < past->ops[i].effect)
				before |= 1u << j;
		registers_after(past, before, values);
		for (int k = 0; k < MAX_REGISTERS; k++)
			if (past->ops[i].touches[k])
				past->ops[i].values[k] = values[k];
	}
}

static void
spoil_read(Past *past)
{
	for (int tries = 0; tries < 50; tries++)
	{
		Op		   *read = &past->ops[random_below((uint32_t) past->n)];
		Op		   *write = &past->ops[random_below((uint32_t) past->n)];
		uint32_t	k = random_below(MAX_REGISTERS);

		if (read->write || !write->write || !read->touches[k] || !write->touches[k])
			continue;
		read->values[k] = write->values[k];
		return;
	}
}

static void
spoil_order(Past *past)
{
	for (int tries = 0; tries < 50; tries++)
	{
		Op		   *one = &past->ops[1 + random_below((uint32_t) past->n - 1)];
		Op		   *other = &past->ops[1 + random_below((uint32_t) past->n - 1)];
		int			order = one->order;

		if (one == other || !one->write || !other->write)
			continue;
		one->order = other->order;
		other->order = order;
		return;
	}
}

static void
past_make(Past *past, int registers, int first_key, Spoil spoil)
{
	choose_ops(past, registers);
	let_them_happen(past);
	for (int i = 0; i < past->n; i++)
		for (int k = 0; k < registers; k++)
			if (past->ops[i].write && past->ops[i].touches[k])
				past->ops[i].ids[k] = history_write(first_key + k, i);
	if (spoil == SPOIL_ORDER)
		spoil_order(past);
	give_versions(past);
	let_reads_see(past);
	for (int times = spoil == SPOIL_READ ? 1 + (int) random_below(2) : 0; times > 0; times--)
		spoil_read(past);
}

/* ---------- the judge on a history ---------- */

static void
enter_write(const Op *op, int time)
{
	WriteId		ids[MAX_REGISTERS];
	int			n = 0;

	for (int k = 0; k < MAX_REGISTERS; k++)
	{
		bool		late = op->version_late && !op->values[k].absent;

		if (!op->touches[k])
			continue;
		ids[n++] = op->ids[k];
		if (time == (late ? op->end : op->begin) && !(late && op->fate == FATE_FAILS))
			history_version(op->ids[k], op->values[k].version, op->values[k].absent);
	}
	if (time == op->begin)
		history_sent(ids, n);
	else if (op->fate == FATE_ENDS)
		history_done(ids, n, false);
	else
		for (int i = 0; i < n; i++)
			history_dead(ids[i]);
}

/* Tells the judge what happened, in that order.  True if it finds no fault. */
static bool
judge_past(const Past *past, int first_key)
{
	Bound		bounds[MAX_OPS][MAX_REGISTERS];
	bool		right = true;

	for (int time = 1; time <= past->end; time++)
		for (int i = 0; i < past->n; i++)
		{
			const Op   *op = &past->ops[i];
			Seen		seen[MAX_REGISTERS];
			Bound		bound[MAX_REGISTERS];
			int			n = 0;

			if (time != op->begin && time != op->end)
				continue;
			if (op->write)
			{
				enter_write(op, time);
				continue;
			}
			for (int k = 0; k < MAX_REGISTERS; k++)
			{
				if (!op->touches[k])
					continue;
				if (time == op->begin)
					history_bound(first_key + k, &bounds[i][k]);
				else
				{
					bound[n] = bounds[i][k];
					seen[n] = document(first_key + k,
									   op->values[k].absent ? 0 : op->values[k].version);
					right &= history_judge(&bound[n], &seen[n], READ_STRICT, "test", i);
					n++;
				}
			}
			if (n > 1 && right)
				right = history_judge_set(bound, seen, n, "test", i);
		}
	return no_violation();
}

static void
print_past(const Past *past)
{
	for (int i = 0; i < past->n; i++)
	{
		const Op   *op = &past->ops[i];

		printf("# %s from %d to %d%s:", op->write ? "write" : "read", op->begin,
			   op->fate == FATE_UNKNOWN ? -1 : op->end, op->fate == FATE_FAILS ? ", fails" : "");
		for (int k = 0; k < MAX_REGISTERS; k++)
			if (op->touches[k])
				printf(" %d = %lld%s", k, (long long) VERSION_COUNT(op->values[k].version),
					   op->values[k].absent ? " (absent)" : "");
		printf("\n");
	}
}

void
random_histories(int registers, Spoil spoil, int histories, uint64_t seed, const char *name)
{
	int			right = 0;
	int			refused = 0;
	int			missed = 0;
	int			wronged = 0;
	char		line[200];

	for (int i = 0; i < histories; i++)
	{
		Past		past;
		int			first_key = new_keys(registers);
		bool		is_right;
		bool		judged;

		random_seed(seed * 1000000 + (uint64_t) i);
		past_make(&past, registers, first_key, spoil);
		is_right = past_is_right(&past);
		judged = judge_past(&past, first_key);
		right += is_right;
		refused += !is_right && !judged;
		missed += !is_right && judged;
		wronged += is_right && !judged;
		if ((is_right && !judged) || (registers == 1 && is_right != judged))
		{
			if (missed + wronged > 3)
				continue;
			printf("# history %d is %s, but the judge says %s\n", i, is_right ? "right" : "wrong",
				   judged ? "right" : "wrong");
			print_past(&past);
		}
	}
	snprintf(line, sizeof(line), "%s: of %d right ones none is refused, of %d wrong ones %d are",
			 name, right, refused + missed, refused);
	ok(wronged == 0 && (registers > 1 || missed == 0) &&
	   (spoil == SPOIL_NOTHING ? right == histories :
		right > histories / 20 && refused > histories / 20), line);
}
