/*
 * target_options.c
 *		Options of servers and user mappings: what the validator accepts, the
 *		reader makes a configuration of that is in range and can be used.
 */
#include "fuzz.h"

#include "catalog/pg_foreign_server.h"
#include "catalog/pg_type.h"
#include "catalog/pg_user_mapping.h"
#include "nodes/makefuncs.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "hosts.h"
#include "marker.h"
#include "options.h"

#define MAX_OPTIONS	32

extern Datum ck_validator(PG_FUNCTION_ARGS);

/* Names that an input names by a number; others come in its own bytes. */
static const char *const names[] = {
	"kind", "host", "port", "hosts", "distribution", "database", "namespace", "connections",
	"connect_timeout", "command_timeout", "idle_timeout", "max_lifetime", "max_inflight",
	"breaker_threshold", "breaker_reset", "flush_method", "tls", "tls_ca", "user", "password"
};

typedef struct Options
{
	int			n;
	Datum		text[MAX_OPTIONS];	/* name=value */
	List	   *list;			/* DefElems */
	Oid			catalog;
} Options;

static void
validate(void *arg)
{
	Options    *options = arg;
	ArrayType  *array = construct_array(options->text, options->n, TEXTOID, -1, false,
										TYPALIGN_INT);

	(void) DirectFunctionCall2(ck_validator, PointerGetDatum(array),
							   ObjectIdGetDatum(options->catalog));
}

static void
expect_range(const char *what, int value, int min, int max)
{
	expect(value >= min && value <= max, "%s is %d", what, value);
}

static void
expect_text(const char *what, const char *text, Size size, bool may_be_empty)
{
	expect(memchr(text, '\0', size) != NULL, "%s does not end", what);
	expect(may_be_empty || text[0] != '\0', "%s is empty", what);
}

/* Everything that goes by a configuration takes these for granted. */
static void
expect_usable(const ServerConfig *config)
{
	static const char *const keys[] = {"a:b:1", "a:b:%20x", "a:b:#0123456789abcdef0123456789abcdef"};
	MarkerIdentity identity;

	expect_range("kind", config->kind, SERVER_REDIS, SERVER_MEMCACHED);
	expect_text("host", config->host, sizeof(config->host), false);
	expect_text("hosts", config->hosts, sizeof(config->hosts), true);
	expect_text("namespace", config->namespace, sizeof(config->namespace), false);
	expect_text("tls_ca", config->tls_ca, sizeof(config->tls_ca), true);
	expect_text("user", config->user, sizeof(config->user), true);
	expect_text("password", config->password, sizeof(config->password), true);
	expect(strspn(config->namespace,
				  "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-%") ==
		   strlen(config->namespace), "namespace is \"%s\"", config->namespace);
	expect_range("port", config->port, config->host[0] == '/' && config->hosts[0] ? 0 : 1, 65535);
	expect_range("database", config->database, 0, 1000000);
	expect_range("connections", config->connections, 1, 16);
	expect_range("connect_timeout", config->connect_timeout, 1, 600000);
	expect_range("command_timeout", config->command_timeout, 1, 600000);
	expect_range("idle_timeout", config->idle_timeout, 0, 86400000);
	expect_range("max_lifetime", config->max_lifetime, 0, 86400000);
	expect_range("max_inflight", config->max_inflight, 1, 640);
	expect_range("breaker_threshold", config->breaker_threshold, 1, 1000000);
	expect_range("breaker_reset", config->breaker_reset, 1, 600000);
	expect_range("flush_method", config->flush_method, FLUSH_METHOD_ALL, FLUSH_METHOD_SCAN);
	expect_range("distribution", config->distribution, DISTRIBUTION_KETAMA,
				 DISTRIBUTION_KETAMA_WEIGHTED);
	expect_range("tls", config->tls, 0, 1);
	expect_range("nhosts", config->nhosts, 1, MAX_HOSTS);

	for (int i = 0; i < config->nhosts && config->hosts[0]; i++)
	{
		ServerConfig host = *config;

		hosts_use(&host, i);
		expect_text("a host", host.host, sizeof(host.host), false);
		expect_range("its port", host.port, host.host[0] == '/' ? 0 : 1, 65535);
		expect(host.host_index == i, "host %d is number %d", i, host.host_index);
		expect(host.host[0] != '/' || strlen(host.host) <= MAX_SOCKET_PATH, "\"%s\"", host.host);
		for (int j = 0; j < i; j++)
		{
			ServerConfig other = *config;

			hosts_use(&other, j);
			expect(strcmp(host.host, other.host) != 0 || host.port != other.port,
				   "hosts %d and %d are one", i, j);
		}
	}
	for (int i = 0; i < (int) lengthof(keys); i++)
	{
		int			host = hosts_of_key(config, keys[i], strlen(keys[i]));

		expect(host >= 0 && host < config->nhosts, "\"%s\" is at host %d of \"%s\"", keys[i],
			   host, config->hosts);
		expect(host == hosts_of_key(config, keys[i], strlen(keys[i])), "it has moved");
	}
	expect(options_are_rivals(config, config), "it is its own rival");
	marker_identity(&identity, 5, 16400, config);
}

static void
take_options(Input *input, Options *options)
{
	options->catalog = input_byte(input) % 4 == 1 ? UserMappingRelationId : ForeignServerRelationId;
	while (input->left > 0 && options->n < MAX_OPTIONS)
	{
		uint8		number = input_byte(input);
		char	   *name = number < lengthof(names) ? pstrdup(names[number]) : input_text(input);
		char	   *value = input_text(input);
		bool		again = false;

		/* the server's own checks: no "=" in a name, and no name twice */
		for (int i = 0; i < options->n; i++)
			again |= strcmp(((DefElem *) list_nth(options->list, i))->defname, name) == 0;
		if (again || name[0] == '\0' || strchr(name, '=') != NULL)
			continue;
		options->text[options->n++] = CStringGetTextDatum(psprintf("%s=%s", name, value));
		options->list = lappend(options->list,
								makeDefElem(name, (Node *) makeString(value), -1));
	}
}

void
fuzz_options(const uint8 *bytes, size_t len)
{
	Input		input = {bytes, len};
	Options		options = {0};
	ServerConfig config;

	take_options(&input, &options);
	if (!fuzz_try(validate, &options))
		return;
	memset(&config, 0x55, sizeof(config));
	if (options.catalog == ForeignServerRelationId)
		options_read(options.list, NIL, "fuzz", &config);
	else
		options_read(NIL, options.list, "fuzz", &config);
	expect_usable(&config);
}
