/*-------------------------------------------------------------------------
 *
 * options.c
 *	  Options of cache servers: CREATE SERVER … FOREIGN DATA WRAPPER cachekit.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <limits.h>

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/reloptions.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_foreign_data_wrapper.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_user_mapping.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "foreign/foreign.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "hosts.h"
#include "options.h"
#include "redis_tls.h"

PG_FUNCTION_INFO_V1(ck_validator);

typedef enum OptionType
{
	OPTION_CHOICE, OPTION_TEXT, OPTION_HOSTS, OPTION_NUMBER, OPTION_TIME, OPTION_TLS
} OptionType;

typedef struct OptionDefinition
{
	const char *name;
	Oid			catalog;		/* of the object that may have it */
	OptionType	type;
	size_t		offset;			/* in ServerConfig */
	size_t		size;			/* of a text, with its terminator */
	int			min;			/* of a number, or ms of a time */
	int			max;
	int			initial;
	int			kinds;			/* mask of the kinds that have it */
	const char *const *choices; /* NULL at the end; the value is the index */
} OptionDefinition;

#define REDIS		(1 << SERVER_REDIS)
#define MEMCACHED	(1 << SERVER_MEMCACHED)
#define BOTH		(REDIS | MEMCACHED)

static const char *const kind_names[] = {"redis", "memcached", NULL};
static const char *const flush_method_names[] = {"flush_all", "scan", NULL};
static const char *const distribution_names[] = {"ketama", "ketama_weighted", NULL};

#define TEXT_OPTION(name, catalog, field, kinds) \
	{name, catalog, OPTION_TEXT, offsetof(ServerConfig, field), \
	 sizeof(((ServerConfig *) 0)->field), 0, 0, 0, kinds, NULL}
#define NUMBER_OPTION(name, field, min, max, initial, kinds) \
	{name, ForeignServerRelationId, OPTION_NUMBER, offsetof(ServerConfig, field), 0, min, max, \
	 initial, kinds, NULL}
#define TIME_OPTION(name, field, min, max, initial) \
	{name, ForeignServerRelationId, OPTION_TIME, offsetof(ServerConfig, field), 0, min, max, \
	 initial, BOTH, NULL}
#define CHOICE_OPTION(name, field, choices, kinds) \
	{name, ForeignServerRelationId, OPTION_CHOICE, offsetof(ServerConfig, field), 0, 0, 0, 0, \
	 kinds, choices}

static const OptionDefinition definitions[] = {
	CHOICE_OPTION("kind", kind, kind_names, BOTH),
	TEXT_OPTION("host", ForeignServerRelationId, host, BOTH),
	NUMBER_OPTION("port", port, 1, 65535, 0, BOTH),
	{"hosts", ForeignServerRelationId, OPTION_HOSTS, offsetof(ServerConfig, hosts),
	SERVER_HOSTS_SIZE, 0, 0, 0, MEMCACHED, NULL},
	CHOICE_OPTION("distribution", distribution, distribution_names, MEMCACHED),
	NUMBER_OPTION("database", database, 0, 1000000, 0, REDIS),
	TEXT_OPTION("namespace", ForeignServerRelationId, namespace, BOTH),
	NUMBER_OPTION("connections", connections, 1, 16, 2, BOTH),
	TIME_OPTION("connect_timeout", connect_timeout, 1, 600000, 5000),
	TIME_OPTION("command_timeout", command_timeout, 1, 600000, 1000),
	TIME_OPTION("idle_timeout", idle_timeout, 0, 86400000, 600000),
	TIME_OPTION("max_lifetime", max_lifetime, 0, 86400000, 1800000),
	NUMBER_OPTION("max_inflight", max_inflight, 1, 640, 640, BOTH),
	NUMBER_OPTION("breaker_threshold", breaker_threshold, 1, 1000000, 5, BOTH),
	TIME_OPTION("breaker_reset", breaker_reset, 1, 600000, 1000),
	CHOICE_OPTION("flush_method", flush_method, flush_method_names, MEMCACHED),
	{"tls", ForeignServerRelationId, OPTION_TLS, offsetof(ServerConfig, tls), 0, 0, 0, 0, REDIS,
	NULL},
	TEXT_OPTION("tls_ca", ForeignServerRelationId, tls_ca, REDIS),
	TEXT_OPTION("user", UserMappingRelationId, user, REDIS),
	TEXT_OPTION("password", UserMappingRelationId, password, REDIS),
};

static const OptionDefinition *
find_definition(const char *name)
{
	for (int i = 0; i < (int) lengthof(definitions); i++)
	{
		if (strcmp(definitions[i].name, name) == 0)
			return &definitions[i];
	}
	return NULL;
}

static const char *
catalog_noun(Oid catalog)
{
	return catalog == ForeignServerRelationId ? "servers" : "user mappings";
}

/* The names of the options that objects of a catalog may have, for hints. */
static char *
option_names(Oid catalog)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < (int) lengthof(definitions); i++)
	{
		if (definitions[i].catalog == catalog)
			appendStringInfo(&buf, "%s\"%s\"", buf.len ? ", " : "", definitions[i].name);
	}
	return buf.data;
}

static void
read_tls(const char *value, int *field)
{
	bool		on;

	if (!parse_bool(value, &on))
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("invalid value \"%s\" for option \"tls\"", value),
				 errdetail("It takes a boolean: on or off.")));
	if (on && !redis_has_tls())
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("option \"tls\" is not supported by this build of cachekit"),
				 errdetail("It was built with %s.", redis_library()),
				 errhint("TLS needs hiredis 1.0 or later with hiredis_ssl. A TLS tunnel beside PostgreSQL works with any.")));
	*field = on;
}

/* "a", "b" */
static char *
choice_list(const char *const *choices)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; choices[i]; i++)
		appendStringInfo(&buf, "%s\"%s\"", i ? ", " : "", choices[i]);
	return buf.data;
}

static void
read_choice(const OptionDefinition *definition, const char *value, int *field)
{
	for (int i = 0; definition->choices[i]; i++)
	{
		if (strcmp(value, definition->choices[i]) == 0)
		{
			*field = i;
			return;
		}
	}
	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
			 errmsg("invalid value \"%s\" for option \"%s\"", value, definition->name),
			 errhint("It can be one of: %s.", choice_list(definition->choices))));
}

static void
read_hosts(const char *value, ServerConfig *config)
{
	if (strlen(value) < SERVER_HOSTS_SIZE)
	{
		strcpy(config->hosts, value);
		config->nhosts = hosts_count(value);
	}
	if (strlen(value) >= SERVER_HOSTS_SIZE || config->nhosts == 0)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("invalid value \"%s\" for option \"hosts\"", value),
				 errdetail("It is a list of 1 to %d different hosts, in less than %d bytes.",
						   MAX_HOSTS, SERVER_HOSTS_SIZE),
				 errhint("Write it as 'host:port,host:port'; a port that is left out is %d.",
						 MEMCACHED_PORT)));
}

/* Parse one value into the configuration; an error names option and range. */
static void
read_option(const OptionDefinition *definition, const char *value, ServerConfig *config)
{
	char	   *field = (char *) config + definition->offset;
	const char *hint = NULL;
	int			number;

	switch (definition->type)
	{
		case OPTION_CHOICE:
			read_choice(definition, value, (int *) field);
			break;
		case OPTION_HOSTS:
			read_hosts(value, config);
			break;
		case OPTION_TEXT:
			if (value[0] == '\0' || strlen(value) >= definition->size)
				ereport(ERROR,
						(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
						 errmsg("invalid value for option \"%s\"", definition->name),
						 errdetail("It must have 1 to %d bytes.", (int) definition->size - 1)));
			if (value[0] == '/' && definition->offset == offsetof(ServerConfig, host) &&
				strlen(value) > MAX_SOCKET_PATH)
				ereport(ERROR,
						(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
						 errmsg("invalid value for option \"%s\"", definition->name),
						 errdetail("The path of a socket has at most %d bytes.", MAX_SOCKET_PATH)));
			strcpy(field, value);
			break;
		case OPTION_NUMBER:
		case OPTION_TIME:
			if (!parse_int(value, &number,
						   definition->type == OPTION_TIME ? GUC_UNIT_MS : 0, &hint) ||
				number < definition->min || number > definition->max)
				ereport(ERROR,
						(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
						 errmsg("invalid value \"%s\" for option \"%s\"", value, definition->name),
						 definition->type == OPTION_TIME ?
						 errdetail("It takes a time from %d ms to %d s, such as '500ms' or '2s'; a plain number is in ms.",
								   definition->min, definition->max / 1000) :
						 errdetail("It takes a whole number from %d to %d.",
								   definition->min, definition->max)));
			*(int *) field = number;
			break;
		case OPTION_TLS:
			read_tls(value, (int *) field);
			break;
	}
}

static void
read_namespace(const char *value, ServerConfig *config)
{
	char	   *encoded = key_percent_encode(value, strlen(value));

	if (encoded[0] == '\0' || strlen(encoded) > KEY_MAX_NAMESPACE)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("invalid namespace \"%s\"", value),
				 errdetail("It takes %d bytes in a cache key; 1 to %d are allowed.",
						   (int) strlen(encoded), KEY_MAX_NAMESPACE),
				 errhint("Give the server a shorter one: OPTIONS (namespace '...').")));
	strcpy(config->namespace, encoded);
}

static void
read_list(List *options, ServerConfig *config)
{
	ListCell   *cell;

	foreach(cell, options)
	{
		DefElem    *option = lfirst(cell);
		const OptionDefinition *definition = find_definition(option->defname);

		if (definition == NULL)
			continue;
		if (strcmp(option->defname, "namespace") == 0)
			read_namespace(defGetString(option), config);
		else
			read_option(definition, defGetString(option), config);
	}
}

void
options_read(List *server_options, List *user_options, const char *default_namespace,
			 ServerConfig *config)
{
	memset(config, 0, sizeof(*config));
	strcpy(config->host, "127.0.0.1");
	config->nhosts = 1;
	for (int i = 0; i < (int) lengthof(definitions); i++)
	{
		if (definitions[i].type == OPTION_NUMBER || definitions[i].type == OPTION_TIME)
			*(int *) ((char *) config + definitions[i].offset) = definitions[i].initial;
	}
	read_list(server_options, config);
	read_list(user_options, config);
	if (config->namespace[0] == '\0')
		read_namespace(default_namespace, config);
	if (config->port == 0)
		config->port = config->kind == SERVER_REDIS ? REDIS_PORT : MEMCACHED_PORT;
	if (config->kind == SERVER_REDIS)
		config->flush_method = FLUSH_METHOD_SCAN;
	hosts_use(config, 0);
}

bool
options_are_rivals(const ServerConfig *a, const ServerConfig *b)
{
	bool		emptied = a->flush_method == FLUSH_METHOD_ALL ||
		b->flush_method == FLUSH_METHOD_ALL;

	return a->kind == b->kind && a->port == b->port && a->database == b->database &&
		strcmp(a->host, b->host) == 0 &&
		(emptied || strcmp(a->namespace, b->namespace) == 0);
}

static bool
is_cache_server(ForeignServer *server)
{
	return strcmp(GetForeignDataWrapper(server->fdwid)->fdwname, "cachekit") == 0;
}

ForeignServer *
options_server(const char *name)
{
	ForeignServer *server = GetForeignServerByName(name, false);

	if (!is_cache_server(server))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("server \"%s\" is not a cache server", server->servername),
				 errhint("Cache servers are made with CREATE SERVER ... FOREIGN DATA WRAPPER cachekit.")));
	return server;
}

/* ---------- checks ---------- */

static bool
has_mapping(Oid serverid)
{
	Relation	rel = table_open(UserMappingRelationId, AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	HeapTuple	tuple;
	bool		found = false;

	while (!found && HeapTupleIsValid(tuple = systable_getnext(scan)))
		found = ((Form_pg_user_mapping) GETSTRUCT(tuple))->umserver == serverid;
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

void
options_check_mappings(const char *name)
{
	ForeignServer *server = GetForeignServerByName(name, true);
	ServerConfig config;

	if (server == NULL || !is_cache_server(server))
		return;
	CommandCounterIncrement();
	server = GetForeignServerByName(name, false);
	options_read(server->options, NIL, "any", &config);
	if (config.kind == SERVER_MEMCACHED && has_mapping(server->serverid))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("server \"%s\" cannot have a user mapping", name),
				 errdetail("Memcached's text protocol has no authentication (SASL needs the binary protocol)."),
				 errhint("Protect the hosts by the network, and use a server without a user mapping.")));
}

/* An option that this kind of server does not have, or two that exclude each other. */
static void
check_combination(List *options, ServerConfig *config)
{
	ListCell   *cell;
	bool		has_host_option = false;

	foreach(cell, options)
	{
		const char *name = ((DefElem *) lfirst(cell))->defname;

		if ((find_definition(name)->kinds & (1 << config->kind)) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
					 errmsg("invalid option \"%s\"", name),
					 errdetail("Servers of kind \"%s\" do not have it.",
							   kind_names[config->kind])));
		has_host_option |= strcmp(name, "host") == 0 || strcmp(name, "port") == 0;
	}
	if (has_host_option && config->hosts[0])
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
				 errmsg("option \"hosts\" cannot be combined with \"host\" or \"port\""),
				 errhint("Give all hosts, with their ports, in \"hosts\".")));
}

/* The FDW's validator: options of a server, a user mapping, or the FDW itself. */
Datum
ck_validator(PG_FUNCTION_ARGS)
{
	List	   *options = untransformRelOptions(PG_GETARG_DATUM(0));
	Oid			catalog = PG_GETARG_OID(1);
	ServerConfig config = {0};
	bool		has_kind = false;
	bool		has_namespace = false;	/* else it is the database's name */
	ListCell   *cell;

	foreach(cell, options)
	{
		DefElem    *option = lfirst(cell);
		const OptionDefinition *definition = find_definition(option->defname);

		if (definition == NULL || definition->catalog != catalog)
			ereport(ERROR,
					(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
					 errmsg("invalid option \"%s\"", option->defname),
					 definition != NULL ?
					 errhint("It is an option of %s.", catalog_noun(definition->catalog)) :
					 catalog == ForeignServerRelationId || catalog == UserMappingRelationId ?
					 errhint("Options of %s are %s.", catalog_noun(catalog), option_names(catalog)) :
					 errhint("There are options of servers and of user mappings only.")));
		has_kind |= (strcmp(option->defname, "kind") == 0);
		if (strcmp(option->defname, "namespace") == 0)
		{
			read_namespace(defGetString(option), &config);
			has_namespace = true;
		}
		else
			read_option(definition, defGetString(option), &config);
	}
	if (catalog == ForeignServerRelationId && !has_namespace)
		read_namespace(get_database_name(MyDatabaseId), &config);
	if (catalog == ForeignServerRelationId && !has_kind)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND),
				 errmsg("option \"kind\" is missing"),
				 errhint("The kind of a cache server is \"redis\" or \"memcached\": OPTIONS (kind 'redis', host '127.0.0.1', port '6379').")));
	if (catalog == ForeignServerRelationId)
		check_combination(options, &config);
	PG_RETURN_VOID();
}
