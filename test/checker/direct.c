/*
 * direct.c
 *		What the sessions do that ask a cache server themselves, as a program would.
 *
 * Such a program may see what was before the last COMMIT: a deletion takes its
 * time.  So its reads are held to deliveries.  A session asks again and again,
 * by wait_for_delivery, until all that was committed has arrived; from then on
 * nothing older may ever be read, whatever arrives late.  And at no time may
 * there be what was never committed.  How old its documents are is measured.
 */
#include <stdio.h>
#include <string.h>

#include "ages.h"
#include "direct.h"
#include "document.h"
#include "report.h"

#define PAUSE_MS		1		/* between two questions, to leave something to others */
#define DELIVERY_MS		20		/* between two deliveries */

void
direct_answer(const Question *q, int place, const char *document, const char *how)
{
	const Bound *bound = &q->bounds[place];
	Session    *s = q->session;
	Seen		seen;

	if (!document_parse(document, &seen))
		report_violation("torn", "key %d, %s by session %d returned \"%s\"",
						 bound->key, how, s->number, document);
	else
	{
		(void) history_judge(bound, &seen, READ_DIRECT, how, s->number);
		ages_add(s->cache, history_age(bound, &seen));
	}
	count_up(s, s->cache == CACHE_REDIS ? COUNT_DIRECT_REDIS : COUNT_DIRECT_MEMCACHED, 1);
}

/* Half of the questions are for one key. */
void
direct_work(Session *s)
{
	Question	q = {.session = s, .n = session_chance(s, 50) ? 1 : DIRECT_KEYS};

	for (int i = 0; i < q.n; i++)
	{
		history_bound_direct(key_to_read(s), s->cache, &q.bounds[i]);
		snprintf(q.names[i], DIRECT_NAME, NAMESPACE ":%s:%d", tables[s->table].name,
				 q.bounds[i].key);
	}
	if (s->cache == CACHE_REDIS ? direct_redis(&q) : direct_memcached(&q))
		count_up(s, s->cache == CACHE_REDIS ? COUNT_ASKED_REDIS : COUNT_ASKED_MEMCACHED,
				 (uint64_t) q.n);
	pause_ms(PAUSE_MS);
}

/* The session to whose deliveries they are held. */
void
delivery_work(Session *s)
{
	Delivery	delivery = history_delivery_begins();
	PGresult   *res = session_query(s, "SELECT cachekit.wait_for_delivery('1 s')");

	if (res != NULL && strcmp(PQgetvalue(res, 0, 0), "t") == 0)
	{
		history_delivered(delivery);
		count_up(s, COUNT_DELIVERIES, 1);
	}
	else if (s->failure == FAILED_ERROR)
		report_violation("error", "wait_for_delivery() failed: %s", s->message);
	PQclear(res);
	if (!session_lost(s))
		pause_ms(DELIVERY_MS);
}
