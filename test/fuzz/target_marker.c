/*
 * target_marker.c
 *		Markers: what a cache gives back in place of ours, and our own there and
 *		back.
 */
#include "fuzz.h"

#include "marker.h"

static bool
is_same(const Marker *a, const Marker *b)
{
	return a->identity.system == b->identity.system &&
		a->identity.database == b->identity.database &&
		a->identity.server == b->identity.server &&
		a->identity.endpoint == b->identity.endpoint &&
		a->identity.incarnation == b->identity.incarnation && a->timeline == b->timeline &&
		a->position == b->position && a->restart == b->restart && a->record == b->record &&
		a->record_end == b->record_end && a->crc == b->crc;
}

/* Each field as long as the input says. */
static uint64
some_number(Input *input)
{
	uint8		digits = input_byte(input) % 17;
	uint64		number = (uint64) input_number(input) << 32 | input_number(input);

	return digits == 0 ? 0 : number >> (64 - 4 * digits);
}

/* Only what marker_format() writes is a marker, byte for byte. */
static void
expect_exact(const char *text, size_t len)
{
	char	   *exact = palloc(len);
	char		again[MARKER_SIZE];
	Marker		marker;

	memcpy(exact, text, len);
	if (!marker_parse(exact, len, &marker))
		return;
	marker_format(&marker, again);
	expect(strlen(again) == len && memcmp(again, text, len) == 0, "\"%.*s\" was taken for \"%s\"",
		   (int) len, text, again);
}

static void
try_own(Input *input)
{
	Marker		marker;
	Marker		back;
	char		text[MARKER_SIZE];
	size_t		len;
	uint8		where = input_byte(input);
	uint8		what = input_byte(input);

	memset(&marker, 0, sizeof(marker));
	marker.identity.system = some_number(input);
	marker.identity.database = (uint32) some_number(input);
	marker.identity.server = (uint32) some_number(input);
	marker.identity.endpoint = some_number(input);
	marker.identity.incarnation = some_number(input);
	marker.timeline = (uint32) some_number(input);
	marker.position = some_number(input);
	marker.restart = some_number(input);
	marker.record = some_number(input);
	marker.record_end = some_number(input);
	marker.crc = (uint32) some_number(input);
	marker_format(&marker, text);
	len = strlen(text);
	expect(len < MARKER_SIZE - 1, "%zu bytes", len);
	expect(marker_parse(text, len, &back), "our own: \"%s\"", text);
	expect(is_same(&marker, &back), "\"%s\"", text);
	expect(marker_is_ours(&back, &marker.identity, true), "\"%s\"", text);
	back.identity.incarnation++;
	expect(marker_is_ours(&back, &marker.identity, false) &&
		   !marker_is_ours(&back, &marker.identity, true), "of another life");

	/* a part of one is no other cache's, nor does it say more */
	for (size_t cut = 0; cut < len; cut++)
	{
		if (marker_parse(text, cut, &back))
			expect(marker_is_ours(&back, &marker.identity, false) &&
				   back.position == marker.position && back.restart == marker.restart,
				   "the first %zu bytes of \"%s\"", cut, text);
	}
	text[where % len] = (char) what;
	expect_exact(text, len);
}

/* A configuration that differs in anything that moves keys has another endpoint. */
static void
try_endpoints(Input *input)
{
	ServerConfig one;
	ServerConfig two;
	MarkerIdentity a;
	MarkerIdentity b;
	uint8		what = input_byte(input);
	bool		same;

	memset(&one, 0, sizeof(one));
	strlcpy(one.host, input_text(input), sizeof(one.host));
	strlcpy(one.namespace, input_text(input), sizeof(one.namespace));
	strlcpy(one.hosts, input_text(input), sizeof(one.hosts));
	one.port = (int) (input_number(input) % 65536);
	one.database = input_byte(input);
	one.distribution = what & 1;
	one.nhosts = 1 + (what >> 1) % 3;
	two = one;
	switch (what >> 4)
	{
		case 0:
			strlcpy(two.host, input_text(input), sizeof(two.host));
			break;
		case 1:
			strlcpy(two.namespace, input_text(input), sizeof(two.namespace));
			break;
		case 2:
			two.port++;
			break;
		case 3:
			two.database++;
			break;
		case 4:
			two.distribution = !two.distribution;
			break;
		default:
			strlcpy(two.hosts, input_text(input), sizeof(two.hosts));
	}
	marker_identity(&a, 5, 16400, &one);
	marker_identity(&b, 5, 16400, &two);
	same = strcmp(one.host, two.host) == 0 && strcmp(one.namespace, two.namespace) == 0 &&
		one.port == two.port && one.database == two.database &&
		(one.nhosts == 1 ||
		 (one.distribution == two.distribution && strcmp(one.hosts, two.hosts) == 0));
	/* hosts and namespaces have no line breaks: options.c */
	if (!strchr(one.host, '\n') && !strchr(two.host, '\n') && !strchr(one.namespace, '\n') &&
		!strchr(two.namespace, '\n') && !strchr(one.hosts, '\n') && !strchr(two.hosts, '\n'))
		expect((a.endpoint == b.endpoint) == same, "%s:%d and %s:%d", one.host, one.port,
			   two.host, two.port);
}

void
fuzz_marker(const uint8 *bytes, size_t len)
{
	Input		input = {bytes, len};
	uint8		what = input_byte(&input) % 4;

	if (what == 3)
		try_own(&input);
	else if (what == 2)
		try_endpoints(&input);
	else
	{
		char	   *text = input_rest(&input, &len);

		expect_exact(text, len);
	}
}
