/*-------------------------------------------------------------------------
 *
 * tiers.c
 *	  What all ways to fetch do with the tiers, key by key.
 *
 * A transaction that has a transaction ID may have written something that is
 * not in its change set yet (its triggers have not fired), so it reads its
 * table and stores nothing; that is asked before the load and again after it,
 * because a function in the load may have written.  REPEATABLE READ and
 * SERIALIZABLE transactions read in their own snapshot, and standbys and
 * parallel workers have no fence to go by.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "utils/timestamp.h"

#include "changes.h"
#include "debug.h"
#include "document.h"
#include "guc.h"
#include "servers.h"
#include "shmem.h"
#include "tiers.h"
#include "ttl.h"

#define MOMENT_US	USECS_PER_SEC

/* Say once per session why nothing is cached. */
static void
warn_not_preloaded(void)
{
	static bool warned = false;

	if (warned || shmem_ready())
		return;
	warned = true;
	ereport(WARNING,
			(errmsg("cachekit was not preloaded, so every fetch reads its table"),
			 errhint("Add cachekit to shared_preload_libraries and restart the server.")));
}

static void
warn_unsound(Entity *entity)
{
	if (entity->warned)
		return;
	entity->warned = true;
	ereport(WARNING,
			(errmsg("entity \"%s\" is not cached: %s", entity->name, entity->problem),
			 errhint("SELECT * FROM cachekit.health() tells what to do.")));
}

static bool
has_written(void)
{
	return TransactionIdIsValid(GetTopTransactionIdIfAny()) && CK_GUARD("own-xid");
}

bool
tiers_usable(Entity *entity, const TierKey *key, const KeyText *text, uint64 rows)
{
	StatCounter reason;

	if (!ck_enabled || key == NULL)
	{
		warn_not_preloaded();
		reason = STAT_BYPASS_DISABLED;
	}
	else if (RecoveryInProgress() || IsParallelWorker())
		reason = STAT_BYPASS_RECOVERY;
	else if (!entity->sound)
	{
		warn_unsound(entity);
		reason = STAT_BYPASS_UNSOUND;
	}
	else if (changes_include(entity->relid, key->hash, text) && CK_GUARD("own-change"))
		reason = STAT_BYPASS_OWN_CHANGE;
	else if (has_written())
		reason = STAT_BYPASS_TRANSACTION;
	else if (IsolationUsesXactSnapshot() && CK_GUARD("isolation"))
		reason = STAT_BYPASS_ISOLATION;
	else
		return true;
	entity_count(entity, reason, rows);
	return false;
}

void
tiers_require(Entity *entity, const char *verb)
{
	const char *why = NULL;
	const char *hint = NULL;

	if (!shmem_ready())
	{
		why = "cachekit was not preloaded";
		hint = "Add cachekit to shared_preload_libraries and restart the server.";
	}
	else if (RecoveryInProgress())
	{
		why = "a standby uses no caches";
		hint = "Ask the primary server.";
	}
	else if (!entity->sound)
	{
		why = psprintf("it is not cached, because %s", entity->problem);
		hint = "SELECT * FROM cachekit.health() tells what to do.";
	}
	else if (entity->slot == NO_SLOT)
	{
		why = "all slots for entities are taken";
		hint = "Raise cachekit.max_entities and restart the server.";
	}
	else if (!ck_enabled)
	{
		why = "cachekit.enabled is off";
		hint = "SET cachekit.enabled = on.";
	}
	else if (IsolationUsesXactSnapshot())
	{
		why = "REPEATABLE READ and SERIALIZABLE transactions do not use caches";
		hint = "SET default_transaction_isolation = 'read committed'.";
	}
	else if (!entity->local && entity->nservers == 0)
	{
		why = "it uses no cache";
		hint = "Attach it with a cache server or with local => true.";
	}
	if (why)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot %s \"%s\": %s", verb, entity->name, why),
				 errhint("%s", hint)));
}

bool
tiers_too_large(const Entity *entity, const Jsonb *document)
{
	int			limit = entity->max_value_size >= 0 ? entity->max_value_size : ck_max_value_size;

	return document != NULL && VARSIZE(document) > limit;
}

bool
tiers_store(const Entity *entity, const TierKey *key, const FenceToken *token,
			const Jsonb *document, int64 load_us)
{
	int64		ttl = document ? entity->ttl : entity->negative_ttl;
	bool		stored;

	if (!entity->local || ttl == 0)
		return false;
	stored = !tiers_too_large(entity, document) && !has_written() &&
		local_store(key, token, document,
					ttl_expiry(ttl, entity->ttl_jitter, GetCurrentTimestamp()),
					document ? load_us : 0);
	entity_count(entity, stored ? STAT_FILLS : STAT_FILLS_REFUSED, 1);
	return stored;
}

void
tiers_store_moment(const Entity *entity, const TierKey *key, const FenceToken *token,
				   const Jsonb *document)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz expiry = now + MOMENT_US;

	if (document)
		expiry = Min(expiry, ttl_expiry(entity->ttl, entity->ttl_jitter, now));
	if (!tiers_too_large(entity, document) && !has_written())
		(void) local_store(key, token, document, expiry, 0);
}

int
tiers_named(const Entity *entity, const char *key, char named[NAMED_KEY_SIZE])
{
	return snprintf(named, NAMED_KEY_SIZE, "%s:%s", entity->encoded_name, key);
}

int
tiers_fill(const Entity *entity, const TierKey *key, const FenceToken *token, Jsonb *document,
		   TiersOffer offer)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz expiry = ttl_expiry(entity->ttl, entity->ttl_jitter, now);
	FillHead	head;
	char	   *json;
	int			missed = 0;

	if (entity->nservers == 0 || document == NULL || has_written())
		return 0;
	if (tiers_too_large(entity, document))
	{
		if (!entity->local)		/* else it is counted already */
			entity_count(entity, STAT_FILLS_REFUSED, 1);
		return 0;
	}
	memset(&head, 0, sizeof(head));
	head.kind = FILL_SESSION;
	head.hash = key->hash;
	head.slot = key->slot;
	head.relid = entity->relid;
	head.token = *token;
	head.ttl_ms = expiry == DT_NOEND ? 0 : Max(1, (expiry - now) / 1000);
	head.len = tiers_named(entity, key->text, head.named_key);
	json = document_to_text(document);
	if (json == NULL)
		entity_count(entity, STAT_FILLS_REFUSED, 1);
	for (int i = 0; json && i < entity->nservers; i++)
	{
		int			place = server_find(entity->servers[i], head.named_key);

		head.serverid = entity->servers[i];
		if (place == NO_SERVER || !server_is_readable(server_at(place)))
			missed++;
		else if (!offer(place, &head, json, strlen(json)))
		{
			server_count(server_at(place), SERVER_FILLS_DROPPED, 1);
			missed++;
		}
	}
	if (json)
		pfree(json);
	return missed;
}

bool
tiers_may_ask(int server, XLogRecPtr needed)
{
	if (server == NO_SERVER || !server_is_readable(server_at(server)))
		return false;
	if (pg_atomic_read_u64(&server_at(server)->marked) < needed && CK_GUARD("read-position"))
	{
		pg_atomic_write_u32(&server_at(server)->marker_wanted, 1);
		return false;
	}
	return true;
}
