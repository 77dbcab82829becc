/*-------------------------------------------------------------------------
 *
 * options.h
 *	  Options of cache servers: CREATE SERVER … FOREIGN DATA WRAPPER cachekit.
 *
 * One table says of each option its name, what it accepts and its default;
 * the FDW's validator and whoever reads a server's options go by it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_OPTIONS_H
#define CACHEKIT_OPTIONS_H

#include "nodes/pg_list.h"

#include "key.h"

typedef enum ServerKind
{
	SERVER_REDIS
} ServerKind;

#define SERVER_HOST_SIZE	256
#define SERVER_SECRET_SIZE	512
#define SERVER_PATH_SIZE	256

/* A server's configuration, as it stands in shared memory. */
typedef struct ServerConfig
{
	ServerKind	kind;
	char		host[SERVER_HOST_SIZE];
	int			port;
	int			database;		/* index of the Redis database */
	char		namespace[KEY_MAX_NAMESPACE + 1];	/* encoded */
	int			connections;	/* sockets */
	int			connect_timeout;	/* ms, as all that follow */
	int			command_timeout;
	int			breaker_threshold;	/* consecutive failures */
	int			breaker_reset;
	int			tls;			/* boolean */
	char		tls_ca[SERVER_PATH_SIZE];	/* file of certificates; "": the system's */
	char		user[NAMEDATALEN];	/* "" : none */
	char		password[SERVER_SECRET_SIZE];
	Size		max_value;		/* bytes; a longer one is none of ours.  Set by the sender */
} ServerConfig;

/* Do both mean the same keys of the same cache, as far as their options tell? */
extern bool options_same_keys(const ServerConfig *a, const ServerConfig *b);

/* A cache server by name; an error when there is none, or it is another's. */
extern struct ForeignServer *options_server(const char *name);

/*
 * Fill in a configuration from the options of a server and of its user
 * mapping (NIL: none).  Options have been validated; the namespace defaults
 * to the one given.
 */
extern void options_read(List *server_options, List *user_options,
						 const char *default_namespace, ServerConfig *config);

#endif							/* CACHEKIT_OPTIONS_H */
