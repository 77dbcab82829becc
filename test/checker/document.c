/*
 * document.c
 *		Takes a register's document apart.
 *
 * The checker reads a million documents a minute, so that this is no JSON
 * parser: no value of a register contains a quotation mark or a colon, hence
 * `"name": ` followed by digits can only be the field of that name.  A reader
 * of another tier gets the same text from there and uses the same function.
 */
#include <stdlib.h>
#include <string.h>

#include "document.h"

/* The digits after a field's name; false if there is no such field. */
static bool
field(const char *text, const char *name, int64_t *value)
{
	const char *at = strstr(text, name);
	char	   *end;

	if (at == NULL)
		return false;
	at += strlen(name);
	*value = strtoll(at, &end, 10);
	return end != at;
}

bool
document_parse(const char *text, Seen *seen)
{
	int64_t		id;
	int64_t		shape;

	memset(seen, 0, sizeof(*seen));
	if (text == NULL)
	{
		seen->absent = true;
		return true;
	}
	if (text[0] != '{' ||
		!field(text, "\"id\": ", &id) ||
		!field(text, "\"version\": ", &seen->version) ||
		!field(text, "\"pad\": \"", &seen->pad))
		return false;
	seen->id = (int) id;
	if (field(text, "\"shape\": ", &shape))
		seen->shape = (int) shape;
	return true;
}
