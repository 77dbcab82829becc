/*-------------------------------------------------------------------------
 *
 * ttl.c
 *	  Times to live: the SQL type cachekit.ttl, and what it means.
 *
 * cachekit.ttl is an interval that can be infinite.  PostgreSQL's interval
 * cannot before version 17, so the type has input and output functions of its
 * own; its representation is interval's, and infinity is represented as 17
 * does, so both types cast into each other without a function.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <limits.h>

#include "common/pg_prng.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "entity.h"
#include "guc.h"
#include "ttl.h"

PG_FUNCTION_INFO_V1(ck_ttl_in);
PG_FUNCTION_INFO_V1(ck_ttl_out);

static bool
is_infinite(const Interval *ttl)
{
	return ttl->time == PG_INT64_MAX && ttl->day == INT_MAX && ttl->month == INT_MAX;
}

Datum
ck_ttl_in(PG_FUNCTION_ARGS)
{
	char	   *text = PG_GETARG_CSTRING(0);
	Interval   *ttl;

	if (pg_strcasecmp(text, "infinity") != 0 && pg_strcasecmp(text, "infinite") != 0)
		return DirectFunctionCall3(interval_in, CStringGetDatum(text),
								   ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
	ttl = palloc(sizeof(Interval));
	ttl->time = PG_INT64_MAX;
	ttl->day = INT_MAX;
	ttl->month = INT_MAX;
	PG_RETURN_INTERVAL_P(ttl);
}

Datum
ck_ttl_out(PG_FUNCTION_ARGS)
{
	Interval   *ttl = PG_GETARG_INTERVAL_P(0);

	if (is_infinite(ttl))
		PG_RETURN_CSTRING(pstrdup("infinity"));
	return DirectFunctionCall1(interval_out, IntervalPGetDatum(ttl));
}

static double
interval_us(const Interval *ttl)
{
	return (double) ttl->time +
		((double) ttl->day + (double) ttl->month * DAYS_PER_MONTH) * (double) USECS_PER_DAY;
}

int64
ttl_microseconds(const Interval *ttl, int64 if_null)
{
	double		us;

	if (ttl == NULL)
		return if_null;
	us = interval_us(ttl);
	/* centuries from now is never */
	if (is_infinite(ttl) || us > (double) PG_INT64_MAX / 4)
		return TTL_INFINITE;
	return us == TTL_INFINITE ? 0 : (int64) us;
}

void
ttl_check(const Interval *ttl, const char *argument)
{
	/* -1 us is no infinity, although it is represented like one */
	if (ttl == NULL || is_infinite(ttl) || interval_us(ttl) > 0)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("\"%s\" must be greater than zero", argument),
			 errhint("Give an interval such as '10 minutes', or 'infinity' for documents that do not expire.")));
}

TimestampTz
ttl_expiry(int64 ttl, int jitter, TimestampTz now)
{
	double		shorter;

	if (ttl == TTL_DEFAULT)
		ttl = ck_default_ttl < 0 ? TTL_INFINITE : (int64) ck_default_ttl * USECS_PER_SEC;
	if (ttl == TTL_INFINITE)
		return DT_NOEND;
	if (jitter < 0)
		jitter = ck_ttl_jitter;
	shorter = pg_prng_double(&pg_global_prng_state) * jitter / 100.0;
	return now + (int64) (ttl * (1.0 - shorter));
}
