/*
 * target_answer.c
 *		What a sender makes of the replies to reads: a document counts only
 *		beside our own marker and nonce, which must be as far as it takes.
 *
 * The driver is a stand-in that answers as the input says; the queue of reads
 * and what else surrounds answer.c are stand-ins, too (the linker's --wrap).
 */
#include "fuzz.h"

#include "requests.h"
#include "sender.h"

#define READS			3
#define NONCE			"0123456789abcdef0123456789abcdef"
#define POSITION		UINT64CONST(1000)	/* of the marker that has been acknowledged */
#define SENT			UINT64CONST(1200)	/* of the one that is under way */
#define TRACE			50

/* What stands in the place of our marker. */
typedef enum MarkerKind
{
	MARKER_OURS, MARKER_OTHER_SYSTEM, MARKER_OTHER_DATABASE, MARKER_OTHER_SERVER,
	MARKER_OTHER_ENDPOINT, MARKER_OTHER_LIFE, MARKER_ABSENT, MARKER_BYTES, MARKERS
} MarkerKind;

static Sender *sender = NULL;
static Input *source;
static int	reads;
static int	to_take;			/* those that wait */
static XLogRecPtr needed[READS];
static RequestAnswer answer[READS];
static int	answers[READS];
static const char *document[READS];
static bool is_good;			/* nothing speaks against the documents but their positions, */
static XLogRecPtr is_at;		/* which are these */
static int	changed;			/* faults because the cache has changed */

/* ---------- stand-ins ---------- */

bool		__wrap_request_take_read(int server, ReadTicket *ticket);
bool		__wrap_request_answer(const ReadTicket *ticket, RequestAnswer what, const char *bytes, Size len);
void		__wrap_sender_named(const Sender *s, const char *suffix, char *to, Size size);
void		__wrap_sender_fault(Sender *s, const char *format,...);
void		__wrap_sender_fault_changed(Sender *s);
XLogRecPtr	__wrap_feed_position(const Feed *feed);
bool		__wrap_flush_is_pending(const Sender *s, const char *named_key);
bool		__wrap_refresh_is_pending(const Sender *s, const char *named_key);
bool		__wrap_pool_has_room(const Sender *s);
bool		__wrap_server_is_readable(CacheServer *server);
void		__wrap_server_count(CacheServer *server, ServerCounter counter, uint64 n);
void		__wrap_stats_latency_bucket(pg_atomic_uint64 *buckets, instr_time start, uint64 n);

bool
__wrap_request_take_read(int server, ReadTicket *ticket)
{
	if (to_take == 0)
		return false;
	to_take--;
	memset(ticket, 0, sizeof(*ticket));
	ticket->place = to_take;
	ticket->dboid = 5;
	ticket->serverid = 16400;
	ticket->needed = needed[to_take];
	strcpy(ticket->named_key, "e:1");
	ticket->len = 3;
	return true;
}

bool
__wrap_request_answer(const ReadTicket *ticket, RequestAnswer what, const char *bytes, Size len)
{
	int			i = ticket->place;

	answers[i]++;
	answer[i] = what;
	if (what == REQUEST_FOUND)
		expect(document[i] != NULL && strlen(document[i]) == len &&
			   memcmp(document[i], bytes, len) == 0, "it is another document");
	return true;
}

void
__wrap_sender_named(const Sender *s, const char *suffix, char *to, Size size)
{
	snprintf(to, size, "ns:%s", suffix);
}

void
__wrap_sender_fault(Sender *s, const char *format,...)
{
	char		text[512];
	va_list		args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	s->faulted = true;
}

void
__wrap_sender_fault_changed(Sender *s)
{
	s->faulted = true;
	changed++;
}

XLogRecPtr
__wrap_feed_position(const Feed *feed)
{
	return SENT;
}

bool
__wrap_flush_is_pending(const Sender *s, const char *named_key)
{
	return false;
}

bool
__wrap_refresh_is_pending(const Sender *s, const char *named_key)
{
	return false;
}

bool
__wrap_pool_has_room(const Sender *s)
{
	return true;
}

bool
__wrap_server_is_readable(CacheServer *server)
{
	return true;
}

void
__wrap_server_count(CacheServer *server, ServerCounter counter, uint64 n)
{
}

void
__wrap_stats_latency_bucket(pg_atomic_uint64 *buckets, instr_time start, uint64 n)
{
}

/* ---------- the cache ---------- */

static LinkValue
value_of(const char *text, Size len)
{
	char	   *exact = palloc(len);

	memcpy(exact, text, len);
	return (LinkValue) {exact, len};
}

static LinkValue
some_value(const char **text)
{
	*text = input_byte(source) & 1 ? input_text(source) : NULL;
	return *text ? value_of(*text, strlen(*text)) : (LinkValue) {NULL, 0};
}

static LinkValue
some_marker(void)
{
	MarkerKind	kind = input_byte(source) % MARKERS;
	Marker		marker;
	char		text[MARKER_SIZE];

	memset(&marker, 0, sizeof(marker));
	marker.identity = sender->identity;
	marker.position = POSITION - 50 + input_byte(source) * 2;
	marker.restart = marker.record = 7;
	switch (kind)
	{
		case MARKER_OTHER_SYSTEM:
			marker.identity.system++;
			break;
		case MARKER_OTHER_DATABASE:
			marker.identity.database++;
			break;
		case MARKER_OTHER_SERVER:
			marker.identity.server++;
			break;
		case MARKER_OTHER_ENDPOINT:
			marker.identity.endpoint++;
			break;
		case MARKER_OTHER_LIFE:
			marker.identity.incarnation++;
			break;
		default:
			break;
	}
	marker_format(&marker, text);
	is_at = marker.position;
	is_good = kind == MARKER_OURS && is_at >= POSITION && is_at <= SENT;
	if (kind == MARKER_ABSENT)
		return (LinkValue) {NULL, 0};
	if (kind == MARKER_BYTES)
	{
		/* a piece of ours, and something else */
		size_t		at = input_byte(source) % strlen(text);

		strlcpy(text + at, input_text(source), sizeof(text) - at);
		is_good = marker_parse(text, strlen(text), &marker) &&
			marker_is_ours(&marker, &sender->identity, true) &&
			marker.position >= POSITION && marker.position <= SENT;
		is_at = marker.position;
	}
	return value_of(text, strlen(text));
}

static void
fake_get(Link *link, const char *const *keys, const Size *lens, int n, LinkCallback done, void *arg)
{
	LinkValue	values[READS + MAX_LINKS + 2];
	const char *documents[READS];
	const char *text;
	int			asked = n - 3;	/* documents; then a trace, the marker, and the owner */
	LinkStatus	status = input_byte(source) % 8 == 7 ? LINK_REFUSED : LINK_OK;
	int			at = 0;

	for (int i = 0; i < asked; i++)
		values[at++] = some_value(&documents[i]);
	/* they were taken from the last on; what is beyond the position is not asked for */
	for (int i = reads - 1, j = 0; i >= 0 && j < asked; i--)
	{
		if (needed[i] <= SENT)
			document[i] = documents[j++];
	}
	text = input_byte(source) & 1 ? psprintf("%d", TRACE - 4 + input_byte(source) % 16) :
		input_text(source);
	values[at++] = value_of(text, strlen(text));
	values[at++] = some_marker();
	is_good &= strlen(text) < 24 && strspn(text, "0123456789") == strlen(text) &&
		strtoull(text, NULL, 10) >= TRACE;
	text = input_byte(source) & 1 ? NONCE : input_text(source);
	values[at++] = value_of(text, strlen(text));
	is_good &= strcmp(text, NONCE) == 0 && status == LINK_OK;
	done(arg, status, status == LINK_OK ? values : NULL, status == LINK_OK ? at : 0, "refused");
}

static void
make_sender(void)
{
	static Driver driver;
	static CacheServer server;

	driver.get = fake_get;
	sender = palloc0(sizeof(Sender));
	sender->server = &server;
	server.dboid = 5;
	server.serverid = 16400;
	sender->driver = &driver;
	sender->config.nhosts = 1;
	sender->links = 1;
	sender->epoch_context = CurrentMemoryContext;
	strcpy(sender->nonce, NONCE);
	strcpy(sender->owner_key, "ns:cachekit:owner");
	strcpy(sender->marker_key, "ns:cachekit:marker");
	strcpy(sender->trace_key[0], "ns:cachekit:trace");
	sender->trace_acked[0] = TRACE;
	sender->traces_tell = true;
	sender->identity = (MarkerIdentity) {.system = 1, .database = 5, .server = 16400, .endpoint = 2,
	.incarnation = 3};
	sender->marker_acked = POSITION;
	sender->marker_sent = SENT;
}

void
fuzz_answer(const uint8 *bytes, size_t len)
{
	Input		input = {bytes, len};
	int			n = reads = 1 + input_byte(&input) % READS;

	source = &input;
	make_sender();
	to_take = n;
	changed = 0;
	for (int i = 0; i < n; i++)
	{
		needed[i] = POSITION - 20 + input_byte(&input);
		answers[i] = 0;
		document[i] = NULL;
	}
	answer_reads(sender);
	for (int i = 0; i < n; i++)
	{
		bool		counts = is_good && is_at >= needed[i];

		/* those that were beyond the position when they were taken are never asked for */
		expect(answers[i] == 1, "read %d was answered %d times", i, answers[i]);
		if (needed[i] > SENT)
			expect(answer[i] == REQUEST_FAILED, "read %d", i);
		else if (!counts)
			expect(answer[i] == REQUEST_FAILED, "read %d was answered out of what is not ours", i);
		else
			expect(answer[i] == (document[i] && document[i][0] ? REQUEST_FOUND : REQUEST_ABSENT),
				   "read %d ended with %d", i, answer[i]);
	}
	expect(sender->reads_in_flight == 0, "%d reads in flight", sender->reads_in_flight);
}
