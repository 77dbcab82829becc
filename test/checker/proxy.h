/*
 * proxy.h
 *		A proxy between cachekit and the hosts of Memcached, which can cut
 *		connections.
 *
 * One thread serves all hosts.
 */
#ifndef PROXY_H
#define PROXY_H

/* listens on a Unix socket, and leads whoever connects to the other one */
extern void proxy_open(const char *front, const char *back);

/*
 * Closes every connection of cachekit's.  With "late_ms", what was on its way
 * to a host arrives there so much later: what a zombie sends.  Returns at once.
 */
extern void proxy_cut(int late_ms);

#endif							/* PROXY_H */
