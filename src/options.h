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
	SERVER_REDIS,
	SERVER_MEMCACHED
} ServerKind;

/* How a Memcached server's keys are removed all at once. */
typedef enum FlushMethod
{
	FLUSH_METHOD_ALL,			/* the command flush_all: everything that the host has */
	FLUSH_METHOD_SCAN			/* our keys, which are looked for one by one */
} FlushMethod;

/* How keys are distributed to the hosts of a Memcached server: libmemcached's names. */
typedef enum Distribution
{
	DISTRIBUTION_KETAMA,
	DISTRIBUTION_KETAMA_WEIGHTED
} Distribution;

#define REDIS_PORT			6379
#define MEMCACHED_PORT		11211
#define SERVER_HOST_SIZE	256
#define MAX_SOCKET_PATH		107 /* bytes: what the kernel takes */
#define SERVER_HOSTS_SIZE	1024
#define SERVER_SECRET_SIZE	512
#define SERVER_PATH_SIZE	256

/* A server's configuration, as it stands in shared memory. */
typedef struct ServerConfig
{
	ServerKind	kind;
	char		host[SERVER_HOST_SIZE]; /* of this host of the server */
	int			port;
	char		hosts[SERVER_HOSTS_SIZE];	/* all of them, "host:port,..."; "": only that one */
	int			nhosts;
	int			host_index;		/* which of them this is */
	int			distribution;	/* Distribution */
	int			flush_method;	/* FlushMethod */
	int			database;		/* index of the Redis database */
	char		namespace[KEY_MAX_NAMESPACE + 1];	/* encoded */
	int			connections;	/* sockets */
	int			connect_timeout;	/* ms, as all that follow */
	int			command_timeout;
	int			idle_timeout;	/* 0: never */
	int			max_lifetime;	/* of a socket; 0: for ever */
	int			max_inflight;	/* commands without an answer */
	int			breaker_threshold;	/* consecutive failures */
	int			breaker_reset;
	int			tls;			/* boolean */
	char		tls_ca[SERVER_PATH_SIZE];	/* file of certificates; "": the system's */
	char		user[NAMEDATALEN];	/* "" : none */
	char		password[SERVER_SECRET_SIZE];
	Size		max_value;		/* bytes; a longer one is none of ours.  Set by the sender */
} ServerConfig;

/*
 * Would both delete each other's keys, as far as their options tell?  They do
 * in one namespace, and if one of them empties the whole host at times.
 */
extern bool options_are_rivals(const ServerConfig *a, const ServerConfig *b);

/* An error if the server is a cache server that takes no credentials, and has some. */
extern void options_check_mappings(const char *server);

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
