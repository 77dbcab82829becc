/*-------------------------------------------------------------------------
 *
 * manual.c
 *	  Functions by hand: key, inspect, invalidate, flush, and what views ask.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "foreign/foreign.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "catalog.h"
#include "changes.h"
#include "fetch.h"
#include "guc.h"
#include "options.h"
#include "requests.h"
#include "servers.h"
#include "shmem.h"

PG_FUNCTION_INFO_V1(ck_key);
PG_FUNCTION_INFO_V1(ck_key_text);
PG_FUNCTION_INFO_V1(ck_inspect);
PG_FUNCTION_INFO_V1(ck_inspect_text);
PG_FUNCTION_INFO_V1(ck_invalidate);
PG_FUNCTION_INFO_V1(ck_invalidate_text);
PG_FUNCTION_INFO_V1(ck_flush);
PG_FUNCTION_INFO_V1(ck_flush_all);
PG_FUNCTION_INFO_V1(ck_entity_problem);
PG_FUNCTION_INFO_V1(ck_is_preloaded);
PG_FUNCTION_INFO_V1(ck_slots_in_use);

/* Entity and key text of the first two arguments; false for a NULL key. */
static bool
key_arguments(FunctionCallInfo fcinfo, bool is_text, bool check_select, Entity **entity,
			  KeyText *key_of)
{
	Datum		values[KEY_MAX_COLUMNS];
	FetchKey	key;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		return false;
	AcceptInvalidationMessages();
	*entity = entity_get(PG_GETARG_OID(0));
	if (check_select)
		entity_check_select(*entity);
	key.type = is_text ? InvalidOid : get_fn_expr_argtype(fcinfo->flinfo, 1);
	key.value = PG_GETARG_DATUM(1);
	key.text = is_text ? text_to_cstring(PG_GETARG_TEXT_PP(1)) : NULL;
	if (!fetch_key_values(*entity, &key, values))
		return false;
	key_text(&(*entity)->shape, values, key_of);
	return true;
}

/* The namespace of cache keys on a server, NULL: on none, so the database's name. */
static char *
namespace_on(ForeignServer *server)
{
	ServerConfig config;

	options_read(server ? server->options : NIL, NIL, get_database_name(MyDatabaseId), &config);
	return pstrdup(config.namespace);
}

/* key(entity, key, server): the string under which a document is stored. */
static Datum
cache_key(FunctionCallInfo fcinfo, bool is_text)
{
	Entity	   *entity;
	KeyText		text;
	ForeignServer *server = NULL;

	if (!PG_ARGISNULL(2))
		server = options_server(NameStr(*PG_GETARG_NAME(2)));
	if (!key_arguments(fcinfo, is_text, false, &entity, &text))
		PG_RETURN_NULL();
	if (server == NULL && entity->nservers > 0)
		server = GetForeignServer(entity->servers[0]);
	PG_RETURN_TEXT_P(cstring_to_text(psprintf("%s:%s:%s", namespace_on(server),
											  key_percent_encode(entity->name,
																 strlen(entity->name)),
											  text.text)));
}

Datum
ck_key(PG_FUNCTION_ARGS)
{
	return cache_key(fcinfo, false);
}

Datum
ck_key_text(PG_FUNCTION_ARGS)
{
	return cache_key(fcinfo, true);
}

static Interval *
interval_until(TimestampTz expires_at, TimestampTz now)
{
	Interval   *left = palloc0(sizeof(Interval));

	left->time = expires_at - now;
	return left;
}

static void
inspect_local(ReturnSetInfo *rsinfo, const TierKey *key)
{
	TimestampTz now = GetCurrentTimestamp();
	LocalInfo	info;
	Datum		values[5];
	bool		nulls[5] = {0};

	local_inspect(key, now, &info);
	values[0] = CStringGetTextDatum("local");
	values[1] = BoolGetDatum(info.present);
	values[2] = Int32GetDatum(info.bytes);
	nulls[2] = !info.present;
	nulls[3] = !info.present || info.expires_at == DT_NOEND;
	values[3] = nulls[3] ? (Datum) 0 : IntervalPGetDatum(interval_until(info.expires_at, now));
	values[4] = BoolGetDatum(fence_in_flight(&key->scope));
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/*
 * The rows of the entity's servers: asked as a fetch asks them.  A server that
 * may not be read now, or does not answer in time, has no say: present is NULL.
 */
static void
inspect_servers(ReturnSetInfo *rsinfo, const Entity *entity, const KeyText *key_of,
				const TierKey *key)
{
	for (int i = 0; i < entity->nservers; i++)
	{
		int			place = NO_SERVER;
		ReadResult	result = READ_FAILED;
		char		named[NAMED_KEY_SIZE];
		char	   *document;
		Size		bytes = 0;
		Datum		values[5] = {0};
		bool		nulls[5] = {0};

		snprintf(named, sizeof(named), "%s:%s", entity->encoded_name, key_of->text);
		place = server_find(entity->servers[i], named);
		if (place != NO_SERVER && server_is_readable(server_at(place)))
			result = request_read(place, entity->servers[i], named, strlen(named),
								  fence_last_change(&key->scope), ck_fetch_timeout, &document, &bytes);
		values[0] = CStringGetTextDatum(GetForeignServer(entity->servers[i])->servername);
		values[1] = BoolGetDatum(result == READ_HIT);
		nulls[1] = (result == READ_FAILED);
		values[2] = result == READ_HIT ? Int32GetDatum((int32) bytes) : (Datum) 0;
		nulls[2] = (result != READ_HIT);
		nulls[3] = true;		/* the server's own clock has it */
		values[4] = BoolGetDatum(fence_in_flight(&key->scope));
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
}

/* inspect(entity, key): one row (tier, present, bytes, ttl, fenced) per tier. */
static Datum
inspect(FunctionCallInfo fcinfo, bool is_text)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Entity	   *entity;
	KeyText		key_of;
	TierKey		key;

	InitMaterializedSRF(fcinfo, 0);
	if (!key_arguments(fcinfo, is_text, true, &entity, &key_of) ||
		!entity_tier_key(entity, &key_of, &key))
		PG_RETURN_VOID();
	if (entity->local)
		inspect_local(rsinfo, &key);
	inspect_servers(rsinfo, entity, &key_of, &key);
	PG_RETURN_VOID();
}

Datum
ck_inspect(PG_FUNCTION_ARGS)
{
	return inspect(fcinfo, false);
}

Datum
ck_inspect_text(PG_FUNCTION_ARGS)
{
	return inspect(fcinfo, true);
}

/* invalidate(entity, key): as if the row had changed. */
static Datum
invalidate(FunctionCallInfo fcinfo, bool is_text)
{
	Entity	   *entity;
	KeyText		text;

	PreventCommandDuringRecovery("cachekit.invalidate()");
	if (key_arguments(fcinfo, is_text, true, &entity, &text))
		changes_add_key(entity, &text);
	PG_RETURN_VOID();
}

Datum
ck_invalidate(PG_FUNCTION_ARGS)
{
	return invalidate(fcinfo, false);
}

Datum
ck_invalidate_text(PG_FUNCTION_ARGS)
{
	return invalidate(fcinfo, true);
}

/* flush(entity): as if all its rows had changed; for its owner. */
Datum
ck_flush(PG_FUNCTION_ARGS)
{
	Entity	   *entity = entity_get(PG_GETARG_OID(0));

	PreventCommandDuringRecovery("cachekit.flush()");
	if (!compat_owns_relation(entity->relid, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER,
					   get_relkind_objtype(get_rel_relkind(entity->relid)),
					   get_rel_name(entity->relid));
	changes_add_entity(entity->relid, false);
	PG_RETURN_VOID();
}

/* flush(): the entities that the caller owns. */
Datum
ck_flush_all(PG_FUNCTION_ARGS)
{
	ListCell   *cell;

	PreventCommandDuringRecovery("cachekit.flush()");
	foreach(cell, catalog_relations())
	{
		Oid			relid = lfirst_oid(cell);

		if (get_rel_name(relid) != NULL && compat_owns_relation(relid, GetUserId()))
			changes_add_entity(relid, false);
	}
	PG_RETURN_VOID();
}

/* entity_problem(relation): why an entity is not cached; NULL when it is. */
Datum
ck_entity_problem(PG_FUNCTION_ARGS)
{
	Entity	   *entity;

	AcceptInvalidationMessages();
	entity = entity_find(PG_GETARG_OID(0));
	if (entity == NULL)
		PG_RETURN_TEXT_P(cstring_to_text(get_rel_name(PG_GETARG_OID(0)) ? "it is not attached" :
										 "its relation does not exist"));
	if (entity->untracked)
		PG_RETURN_TEXT_P(cstring_to_text(entity->untracked));
	if (!entity->sound)
		PG_RETURN_TEXT_P(cstring_to_text(entity->problem));
	if (shmem_ready() && entity->slot == NO_SLOT)
		PG_RETURN_TEXT_P(cstring_to_text("all slots for entities are taken"));
	PG_RETURN_NULL();
}

Datum
ck_is_preloaded(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(shmem_ready());
}

Datum
ck_slots_in_use(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(shmem_ready() ? slots_in_use() : 0);
}
