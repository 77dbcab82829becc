/*-------------------------------------------------------------------------
 *
 * redis_tls.c
 *	  TLS for connections to Redis, where hiredis has it.
 *
 * The server's certificate is checked against tls_ca, or against the system's
 * authorities; hiredis checks no host name, so a CA of one's own is advised.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <hiredis/hiredis.h>
#ifdef HAVE_HIREDIS_SSL
#include <hiredis/hiredis_ssl.h>
#endif

#include "redis_tls.h"

const char *
redis_library(void)
{
	return "hiredis " CppAsString2(HIREDIS_MAJOR) "." CppAsString2(HIREDIS_MINOR);
}

#ifdef HAVE_HIREDIS_SSL

bool
redis_has_tls(void)
{
	return true;
}

const char *
redis_start_tls(redisContext *redis, const ServerConfig *config)
{
	static char message[200];
	redisSSLContextError error = REDIS_SSL_CTX_NONE;
	redisSSLContext *context;
	int			result;

	(void) redisInitOpenSSL();
	context = redisCreateSSLContext(config->tls_ca[0] ? config->tls_ca : NULL,
									config->tls_ca[0] ? NULL : "/etc/ssl/certs", NULL, NULL,
									config->host[0] == '/' ? NULL : config->host, &error);
	if (context == NULL)
		return redisSSLContextGetError(error);
	result = redisInitiateSSLWithContext(redis, context);
	/* the connection has taken what it needs of it */
	redisFreeSSLContext(context);
	if (result == REDIS_OK)
		return NULL;
	strlcpy(message, redis->errstr[0] ? redis->errstr : "TLS could not be started",
			sizeof(message));
	return message;
}

#else

bool
redis_has_tls(void)
{
	return false;
}

const char *
redis_start_tls(redisContext *redis, const ServerConfig *config)
{
	return "this build has no TLS";
}

#endif							/* HAVE_HIREDIS_SSL */
