/*-------------------------------------------------------------------------
 *
 * options.c
 *	  Options of cache servers: CREATE SERVER … FOREIGN DATA WRAPPER cachekit.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <limits.h>

#include "access/reloptions.h"
#include "catalog/pg_foreign_data_wrapper.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_user_mapping.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "foreign/foreign.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "options.h"
#include "redis_tls.h"

PG_FUNCTION_INFO_V1(ck_validator);

typedef enum OptionType
{
	OPTION_KIND, OPTION_TEXT, OPTION_NUMBER, OPTION_TIME, OPTION_TLS
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
} OptionDefinition;

#define TEXT_OPTION(name, catalog, field) \
	{name, catalog, OPTION_TEXT, offsetof(ServerConfig, field), \
	 sizeof(((ServerConfig *) 0)->field), 0, 0, 0}
#define NUMBER_OPTION(name, field, min, max, initial) \
	{name, ForeignServerRelationId, OPTION_NUMBER, offsetof(ServerConfig, field), 0, min, max, initial}
#define TIME_OPTION(name, field, min, max, initial) \
	{name, ForeignServerRelationId, OPTION_TIME, offsetof(ServerConfig, field), 0, min, max, initial}

static const OptionDefinition definitions[] = {
	{"kind", ForeignServerRelationId, OPTION_KIND, offsetof(ServerConfig, kind), 0, 0, 0, 0},
	TEXT_OPTION("host", ForeignServerRelationId, host),
	NUMBER_OPTION("port", port, 1, 65535, 6379),
	NUMBER_OPTION("database", database, 0, 1000000, 0),
	TEXT_OPTION("namespace", ForeignServerRelationId, namespace),
	NUMBER_OPTION("connections", connections, 1, 16, 2),
	TIME_OPTION("connect_timeout", connect_timeout, 1, 600000, 5000),
	TIME_OPTION("command_timeout", command_timeout, 1, 600000, 1000),
	NUMBER_OPTION("breaker_threshold", breaker_threshold, 1, 1000000, 5),
	TIME_OPTION("breaker_reset", breaker_reset, 1, 600000, 1000),
	{"tls", ForeignServerRelationId, OPTION_TLS, offsetof(ServerConfig, tls), 0, 0, 0, 0},
	TEXT_OPTION("tls_ca", ForeignServerRelationId, tls_ca),
	TEXT_OPTION("user", UserMappingRelationId, user),
	TEXT_OPTION("password", UserMappingRelationId, password),
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

/* Parse one value into the configuration; an error names option and range. */
static void
read_option(const OptionDefinition *definition, const char *value, ServerConfig *config)
{
	char	   *field = (char *) config + definition->offset;
	const char *hint = NULL;
	int			number;

	switch (definition->type)
	{
		case OPTION_KIND:
			if (strcmp(value, "redis") != 0)
				ereport(ERROR,
						(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
						 errmsg("invalid value \"%s\" for option \"kind\"", value),
						 errhint("The kind of a cache server is \"redis\".")));
			config->kind = SERVER_REDIS;
			break;
		case OPTION_TEXT:
			if (value[0] == '\0' || strlen(value) >= definition->size)
				ereport(ERROR,
						(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
						 errmsg("invalid value for option \"%s\"", definition->name),
						 errdetail("It must have 1 to %d bytes.", (int) definition->size - 1)));
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
	for (int i = 0; i < (int) lengthof(definitions); i++)
	{
		if (definitions[i].type == OPTION_NUMBER || definitions[i].type == OPTION_TIME)
			*(int *) ((char *) config + definitions[i].offset) = definitions[i].initial;
	}
	read_list(server_options, config);
	read_list(user_options, config);
	if (config->namespace[0] == '\0')
		read_namespace(default_namespace, config);
}

bool
options_same_keys(const ServerConfig *a, const ServerConfig *b)
{
	return a->kind == b->kind && a->port == b->port && a->database == b->database &&
		strcmp(a->host, b->host) == 0 && strcmp(a->namespace, b->namespace) == 0;
}

ForeignServer *
options_server(const char *name)
{
	ForeignServer *server = GetForeignServerByName(name, false);

	if (strcmp(GetForeignDataWrapper(server->fdwid)->fdwname, "cachekit") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("server \"%s\" is not a cache server", server->servername),
				 errhint("Cache servers are made with CREATE SERVER ... FOREIGN DATA WRAPPER cachekit.")));
	return server;
}

/* The FDW's validator: options of a server, a user mapping, or the FDW itself. */
Datum
ck_validator(PG_FUNCTION_ARGS)
{
	List	   *options = untransformRelOptions(PG_GETARG_DATUM(0));
	Oid			catalog = PG_GETARG_OID(1);
	ServerConfig config;
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
		has_kind |= (definition->type == OPTION_KIND);
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
				 errhint("The kind of a cache server is \"redis\": OPTIONS (kind 'redis', host '127.0.0.1', port '6379').")));
	PG_RETURN_VOID();
}
