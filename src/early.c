/*-------------------------------------------------------------------------
 *
 * early.c
 *	  Loading a document anew before it expires, so that nobody waits for it.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <math.h>

#include "common/pg_prng.h"
#include "utils/timestamp.h"

#include "debug.h"
#include "early.h"

bool
early_is_due(const Entity *entity, const LocalTimes *times)
{
	int64		load_us = times->load_us;
	double		random;

	if (entity->early_refresh <= 0 || times->expires_at == DT_NOEND)
		return false;
	if (load_us == 0)
		return false;
	/* with it off, every load is one that takes very long */
	if (!CK_GUARD("short-loads"))
		load_us = PG_UINT32_MAX;
	random = 1.0 - pg_prng_double(&pg_global_prng_state);	/* in (0, 1] */
	return (double) (times->expires_at - GetCurrentTimestamp()) <=
		-(double) load_us * entity->early_refresh * log(random);
}
