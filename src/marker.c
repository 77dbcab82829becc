/*-------------------------------------------------------------------------
 *
 * marker.c
 *	  The marker: how far a cache has come, kept in the cache itself.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <inttypes.h>

#include "access/timeline.h"
#include "access/xlog.h"
#include "access/xlogreader.h"
#include "access/xlogutils.h"
#include "common/hashfn.h"
#include "postmaster/postmaster.h"
#include "utils/timestamp.h"

#include "feed.h"
#include "guc.h"
#include "marker.h"
#include "retention.h"

void
marker_identity(MarkerIdentity *identity, Oid dboid, Oid serverid, const ServerConfig *config)
{
	char		endpoint[SERVER_HOST_SIZE + SERVER_HOSTS_SIZE + 128];
	int			len = snprintf(endpoint, sizeof(endpoint), "%s\n%d\n%d\n%s", config->host,
							   config->port, config->database, config->namespace);

	/* with other hosts beside it, a host has other keys */
	if (config->nhosts > 1)
		len += snprintf(endpoint + len, sizeof(endpoint) - len, "\n%d\n%s",
						config->distribution, config->hosts);

	identity->system = GetSystemIdentifier();
	identity->database = dboid;
	identity->server = serverid;
	identity->endpoint = hash_bytes_extended((unsigned char *) endpoint, len, 0);
	identity->incarnation = (uint64) PgStartTime;
}

void
marker_format(const Marker *m, char *text)
{
	snprintf(text, MARKER_SIZE,
			 "1 %" PRIx64 " %x %x %x %" PRIx64 " %" PRIx64 " %" PRIx64 " %" PRIx64 " %" PRIx64
			 " %x %" PRIx64,
			 m->identity.system, m->timeline, m->identity.database, m->identity.server,
			 m->identity.endpoint, m->position, m->restart, m->record, m->record_end, m->crc,
			 m->identity.incarnation);
}

/* Only what marker_format() writes is a marker: sscanf() alone would take more for one. */
bool
marker_parse(const char *text, Size len, Marker *m)
{
	char		copy[MARKER_SIZE];
	char		again[MARKER_SIZE];

	if (len >= MARKER_SIZE)
		return false;
	memcpy(copy, text, len);
	copy[len] = '\0';
	if (sscanf(copy, "1 %" SCNx64 " %x %x %x %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64
			   " %" SCNx64 " %x %" SCNx64,
			   &m->identity.system, &m->timeline, &m->identity.database, &m->identity.server,
			   &m->identity.endpoint, &m->position, &m->restart, &m->record, &m->record_end,
			   &m->crc, &m->identity.incarnation) != 11)
		return false;
	marker_format(m, again);
	return strlen(again) == len && memcmp(again, text, len) == 0;
}

bool
marker_is_ours(const Marker *m, const MarkerIdentity *identity, bool living)
{
	return m->identity.system == identity->system &&
		m->identity.database == identity->database &&
		m->identity.server == identity->server &&
		m->identity.endpoint == identity->endpoint &&
		(!living || m->identity.incarnation == identity->incarnation);
}

typedef enum RecordFound
{
	RECORD_FOUND,
	RECORD_NONE,				/* no record begins there */
	RECORD_GONE					/* its segment is no longer there */
} RecordFound;

/* Read the WAL record at a location: its end and CRC. */
static RecordFound
read_record_at(XLogRecPtr at, XLogRecPtr *end, uint32 *crc)
{
	MemoryContext context = CurrentMemoryContext;
	ReadLocalXLogPageNoWaitPrivate private = {0};
	XLogReaderState *reader = XLogReaderAllocate(wal_segment_size, NULL,
												 XL_ROUTINE(.page_read = &read_local_xlog_page_no_wait,
															.segment_open = &wal_segment_open,
															.segment_close = &wal_segment_close),
												 &private);
	char	   *error = NULL;
	volatile RecordFound found = RECORD_NONE;

	if (reader == NULL)
		return RECORD_NONE;
	/* a segment that is gone is an ERROR */
	PG_TRY();
	{
		XLogRecord *record;

		feed_begin_at(reader, at);
		record = XLogReadRecord(reader, &error);
		if (record != NULL)
		{
			*end = reader->EndRecPtr;
			*crc = record->xl_crc;
			found = RECORD_FOUND;
		}
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		FlushErrorState();
		found = RECORD_GONE;
	}
	PG_END_TRY();
	XLogReaderFree(reader);
	return found;
}

XLogRecPtr
marker_resume_at(const Marker *m)
{
	return Min(m->restart, m->record_end);
}

const char *
marker_verdict(const Marker *m, const MarkerIdentity *identity, XLogRecPtr now)
{
	TimeLineID	timeline;
	XLogRecPtr	resume_at = marker_resume_at(m);
	XLogRecPtr	end;
	uint32		crc;
	RecordFound found;

	(void) GetFlushRecPtr(&timeline);
	if (!marker_is_ours(m, identity, false))
		return "it was written by another cluster, database or server";
	if (m->position > now)
		return "it is ahead of this cluster";
	if (m->restart > m->position || m->record_end > m->position || m->record >= m->record_end ||
		XLogRecPtrIsInvalid(m->record) || XLogRecPtrIsInvalid(m->restart))
		return "the marker cannot be right";
	if (m->timeline != timeline)
	{
		List	   *history = readTimeLineHistory(timeline);

		if (!tliInHistory(m->timeline, history))
			return "it belongs to a timeline that is not this cluster's";
		if (m->position > tliSwitchPoint(m->timeline, history, NULL))
			return "it is beyond the point at which this timeline began";
	}
	if (now - resume_at > (XLogRecPtr) ck_max_wal_retention * 1024 * 1024)
		return "it is further behind than max_wal_retention";
	/* first keep it, then see whether it is there */
	retention_hold(Min(resume_at, m->record));
	found = read_record_at(m->record, &end, &crc);
	if (found == RECORD_FOUND && (end != m->record_end || crc != m->crc))
		found = RECORD_NONE;
	if (found == RECORD_FOUND)
		found = read_record_at(resume_at, &end, &crc);
	if (found == RECORD_GONE)
		return "the WAL since then is no longer there";
	return found == RECORD_NONE ? "the WAL there is another" : NULL;
}
