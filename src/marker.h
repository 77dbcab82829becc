/*-------------------------------------------------------------------------
 *
 * marker.h
 *	  The marker: how far a cache has come, kept in the cache itself.
 *
 * A cache is a replica that carries its own position.  The marker says what
 * has been acknowledged to whom: if the cache comes back with old data, the
 * marker is as old as they are.
 *
 *	  "1 <system> <timeline> <database> <server> <endpoint> <position> <restart>
 *	   <record> <record's end> <crc> <incarnation>"
 *
 * in hexadecimal.  A cluster that was restored from a disk snapshot reaches the
 * same locations with other contents.  So the marker names a WAL record before
 * the position that cannot be the same in two lives: a commit, which contains
 * its time, or a message of ours, which is random.
 * Nothing that comes after that record is taken for granted: sending resumes
 * there at the latest.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_MARKER_H
#define CACHEKIT_MARKER_H

#include "access/xlogdefs.h"

#include "options.h"

#define MARKER_SIZE		256

typedef struct MarkerIdentity
{
	uint64		system;			/* system identifier */
	uint32		database;
	uint32		server;
	uint64		endpoint;		/* hash of host, port, index, namespace, and all hosts */
	uint64		incarnation;	/* of this run of PostgreSQL */
} MarkerIdentity;

typedef struct Marker
{
	MarkerIdentity identity;
	TimeLineID	timeline;
	XLogRecPtr	position;
	XLogRecPtr	restart;
	XLogRecPtr	record;			/* start, end and CRC of that record */
	XLogRecPtr	record_end;
	uint32		crc;
} Marker;

extern void marker_identity(MarkerIdentity *identity, Oid dboid, Oid serverid,
							const ServerConfig *config);
extern void marker_format(const Marker *marker, char *text);
extern bool marker_parse(const char *text, Size len, Marker *marker);

/* Same cluster, database, server and endpoint; `living`: of the same run, too. */
extern bool marker_is_ours(const Marker *marker, const MarkerIdentity *identity, bool living);

/*
 * May sending resume where the marker says?  NULL: yes, and the WAL from there
 * on is kept; else why not, and the namespace must be flushed.  `now` is the
 * start of a message of ours that is at the end of the WAL.
 */
extern const char *marker_verdict(const Marker *marker, const MarkerIdentity *identity,
								  XLogRecPtr now);

/* Where it resumes. */
extern XLogRecPtr marker_resume_at(const Marker *marker);

#endif							/* CACHEKIT_MARKER_H */
