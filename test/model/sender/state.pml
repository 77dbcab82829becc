/*
 * state.pml - all that sender.pml's processes share: PostgreSQL, the cache, the sender, a session
 */

/* ---------- PostgreSQL: WAL, table, fence ---------- */

/* records: a message of the sender's own, the end of recovery, and those of transactions */
#define NOW			1
#define RECOVERED	2
#define RECORD(t)	(4 + (t))
#define COMMIT(t)	(8 + (t))
#define ABORT(t)	(12 + (t))

byte wal[WAL_MAX + 1];
byte life[WAL_MAX + 1];			/* in which a record was written: its time, its CRC */
byte wal_end = 0;
byte wal_flushed = 0;
byte this_life = 1;
byte timeline = 1;
byte branched[LIVES + 2];		/* where the timeline of this number was left */

/* a transaction's steps: changes.c */
#define IDLE		0
#define RAISED		1			/* fence raised */
#define RECORDED	2			/* change record written */
#define LOGGED		3			/* commit record written */
#define DURABLE		4			/* and flushed: from here on it becomes visible when it likes */
#define VISIBLE		5
#define RETURNED	6			/* lowered; COMMIT has returned */
#define ABORTED		7

byte tx[TXS];
byte recorded[TXS];				/* where its change record is; 0: nowhere */
byte committed[TXS];			/* where its commit record is */

byte table[KEYS];				/* what everybody sees */

/* a stripe for each key: fence.c. Sharing is the business of fence.pml */
byte in_flight[KEYS];
byte generation[KEYS];
byte last_change[KEYS];

/* ---------- the cache, and what it was at an earlier moment ---------- */

typedef Marker {
	byte position;				/* 0: there is no marker */
	byte restart;
	byte timeline;
	byte mark;					/* the record that no other life can have there */
	byte life;					/* its CRC */
	byte incarnation;			/* the run of PostgreSQL that has written the marker */
}

typedef Data {
	byte value[KEYS];
	byte owner;					/* a nonce; 0: none */
	byte tracked;
	Marker marker;
}

Data cache;
Data saved;
bool is_saved = false;

#define ASSIGN_MARKER(to, from) \
	to.position = from.position; to.restart = from.restart; to.timeline = from.timeline; \
	to.mark = from.mark; to.life = from.life; to.incarnation = from.incarnation
#define CLEAR_MARKER(m)	\
	m.position = 0; m.restart = 0; m.timeline = 0; m.mark = 0; m.life = 0; m.incarnation = 0
#define SAME_MARKER(a, b) \
	(a.position == b.position && a.restart == b.restart && a.timeline == b.timeline && \
	 a.mark == b.mark && a.life == b.life && a.incarnation == b.incarnation)

/* ---------- the sender ---------- */

#define DOWN		0			/* no connection */
#define GREETED		1			/* its nonce stands in the cache */
#define JUDGE		2			/* the marker has been read */
#define FLUSH		3			/* "now" has been taken, the namespace is to be emptied */
#define RUN			4

byte phase = DOWN;
byte nonce = 0;					/* of this epoch, or of the one before */
byte nonces = 0;
byte floor = 0;					/* its "now" */
byte read_to = 0;				/* feed.c */
byte position = 0;
byte mark = 0;					/* 0: nothing can be named yet */
byte ready_at = 0;
byte seen = 0;					/* the last commit that was read, of whatever it was */
Marker stands;					/* the marker that we believe is in the cache */
bool putting = false;			/* a marker is on its way: */
Marker coming;
byte marker_sent = 0;
byte marker_acked = 0;
byte traces = 0;				/* numbers that were used */
byte trace_acked = 0;
#ifdef NO_REWIND
byte believed = 0;				/* where the epoch before would have begun again */
#endif

/* a transaction in the feed */
#define UNREAD		0
#define OPEN		1			/* its change record has been read */
#define WAITING		2			/* its commit, too; it is not visible yet */
#define SENT		3			/* its deletion is on its way */
#define DONE		4			/* acknowledged */
byte feed[TXS];

/* in shared memory */
bool readable = false;
byte marked = 0;

/* commands on their way; those of keys keep their order. */
#define DEL			1			/* transaction, trace */
#define FILL		2			/* key, value, and the position that the marker must have */
chan wire = [2] of { byte, byte, byte, byte };
/* what an epoch that is over has left in the network: it may arrive at any time, or never */
chan zombie = [2] of { byte, byte, byte };
byte zombie_nonce = 0;
bool zombie_owner = false;		/* the command that writes its nonce */

/* ---------- a session that fetches ---------- */

#define TOKEN		1			/* fence read */
#define LOADED		2			/* snapshot taken, row read */
#define QUEUED		3			/* the sender is asked */
#define ASKED		4			/* and has asked the cache */
byte session = IDLE;
byte session_key = 0;
byte session_value = 0;			/* that it loaded; or the one that was visible when it began */
byte session_token = 0;			/* generation; or the location that it needs */
byte session_acked = 0;			/* marker_acked when the cache was asked */

bool filling = false;			/* a fill waits for the sender */
byte fill_key = 0;
byte fill_value = 0;
byte fill_token = 0;

/* ---------- faults ---------- */

byte aborts = ABORTS;
byte drops = DROPS;
byte owners = OWNERS;
byte losses = LOSSES;
byte backs = BACKS;
byte evictions = EVICTIONS;
byte crashes = CRASHES;
byte failovers = FAILOVERS;
byte disks = DISKS;
bool looked = true;				/* the idle check has passed since the last fault of the cache */

/* ---------- properties ---------- */

#define BORN(value)		(value == 0 -> 0 : committed[value - 1])
#define EXISTS(value)	(value == 0 || committed[value - 1] != 0)

bool stale_fetch = false;
bool ghost = false;
bool wrong_at_rest = false;
bool out_of_bounds = false;		/* the model's own arrays */
