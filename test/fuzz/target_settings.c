/*
 * target_settings.c
 *		Times to live, and the lists by which guards are switched off.
 */
#include "fuzz.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "debug.h"
#include "entity.h"
#include "ttl.h"

extern Datum ck_ttl_in(PG_FUNCTION_ARGS);
extern Datum ck_ttl_out(PG_FUNCTION_ARGS);

typedef struct Ttl
{
	char	   *text;
	Interval   *interval;
} Ttl;

static void
read_ttl(void *arg)
{
	Ttl		   *ttl = arg;

	ttl->interval = DatumGetIntervalP(DirectFunctionCall1(ck_ttl_in, CStringGetDatum(ttl->text)));
}

static void
check_ttl(void *arg)
{
	ttl_check(((Ttl *) arg)->interval, "ttl");
}

static void
try_ttl(Input *input)
{
	static const int styles[] = {INTSTYLE_POSTGRES, INTSTYLE_POSTGRES_VERBOSE, INTSTYLE_SQL_STANDARD,
	INTSTYLE_ISO_8601};
	int			jitter = input_byte(input) % 101;
	TimestampTz now = (TimestampTz) input_number(input) * USECS_PER_SEC;
	int			style = styles[input_byte(input) % lengthof(styles)];
	Ttl			ttl = {.text = input_text(input)};
	Ttl			again;
	int64		us;
	TimestampTz expiry;

	if (!fuzz_try(read_ttl, &ttl))
		return;
	/* what it is printed as is the same time */
	IntervalStyle = style;
	again.text = DatumGetCString(DirectFunctionCall1(ck_ttl_out, IntervalPGetDatum(ttl.interval)));
	if (fuzz_try(read_ttl, &again) && style != INTSTYLE_SQL_STANDARD)
		expect(ttl_microseconds(again.interval, 0) == ttl_microseconds(ttl.interval, 0),
			   "\"%s\" and \"%s\"", ttl.text, again.text);
	IntervalStyle = INTSTYLE_POSTGRES;
	if (!fuzz_try(check_ttl, &ttl))
		return;
	us = ttl_microseconds(ttl.interval, 0);
	expect(us > 0 || us == TTL_INFINITE, "\"%s\" is " INT64_FORMAT " us", ttl.text, us);
	expiry = ttl_expiry(us, jitter, now);
	if (us == TTL_INFINITE)
		expect(expiry == DT_NOEND, "it expires");
	else
		expect(expiry >= now && expiry <= now + us, "it expires at " INT64_FORMAT, expiry);
}

/* One of the names, by a number, or the next bytes. */
static char *
some_name(Input *input)
{
	static const char *const names[] = {"own-xid", "marker-check", "load-done", "committed"};
	uint8		number = input_byte(input);

	return number < lengthof(names) ? pstrdup(names[number]) : input_text(input);
}

static void
set_list(void *arg)
{
	(void) set_config_option("cachekit.debug_disable", arg, PGC_SUSET, PGC_S_SESSION,
							 GUC_ACTION_SET, true, ERROR, false);
}

static bool
is_listed(const char *list, const char *name)
{
	char	   *copy = pstrdup(list);

	for (char *element = strtok(copy, ", "); element; element = strtok(NULL, ", "))
	{
		if (strcmp(element, name) == 0)
			return true;
	}
	return false;
}

/* An accepted list switches off what it names, and nothing else. */
static void
try_guards(Input *input)
{
	static const char *const guards[] = {"own-xid", "marker-check", "readable"};
	StringInfoData list;

	initStringInfo(&list);
	while (input->left > 0)
	{
		appendStringInfoString(&list, some_name(input));
		if (input_byte(input) % 4 != 3)
			appendStringInfoString(&list, ", ");
	}
	if (fuzz_try(set_list, list.data))
	{
		for (int i = 0; i < (int) lengthof(guards); i++)
			expect(CK_GUARD(guards[i]) == !is_listed(list.data, guards[i]), "\"%s\" in \"%s\"",
				   guards[i], list.data);
		expect(!is_listed(list.data, "committed"), "a step is no guard");
	}
	set_list("");
	for (int i = 0; i < (int) lengthof(guards); i++)
		expect(CK_GUARD(guards[i]), "\"%s\" stays off", guards[i]);
}

void
fuzz_settings(const uint8 *bytes, size_t len)
{
	Input		input = {bytes, len};

	if (input_byte(&input) % 4 == 1)
		try_guards(&input);
	else
		try_ttl(&input);
}
