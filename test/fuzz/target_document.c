/*
 * target_document.c
 *		Documents as anybody may have written them to a cache server.
 */
#include "fuzz.h"

#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

#include "document.h"

/* A text that is a document stays the same one, there and back. */
static void
expect_returns(Jsonb *document)
{
	char	   *text = document_to_text(document);
	Jsonb	   *again;

	if (text == NULL)
	{
		expect(GetDatabaseEncoding() == PG_SQL_ASCII, "it has no text");
		return;
	}
	expect(pg_verify_mbstr(PG_UTF8, text, strlen(text), true), "it is not UTF-8: %s", text);
	again = document_from_text(pstrdup(text), strlen(text));
	expect(again != NULL, "it is none any more: %s", text);
	expect(VARSIZE(again) == VARSIZE(document) &&
		   memcmp(again, document, VARSIZE(document)) == 0, "it is another now: %s", text);
	expect(strcmp(document_to_text(again), text) == 0, "it reads otherwise now: %s", text);
}

void
fuzz_document(const uint8 *bytes, size_t len)
{
	Input		input = {bytes, len};
	int			encoding = input_byte(&input) % 4 == 1 ? PG_SQL_ASCII : PG_UTF8;
	size_t		size;
	char	   *text = input_rest(&input, &size);
	Jsonb	   *document;

	SetDatabaseEncoding(encoding);
	document = document_from_text(text, size);
	if (document)
	{
		expect(memchr(bytes, '\0', len) == NULL || bytes[0] == '\0', "it has a zero byte");
		expect_returns(document);
	}
	SetDatabaseEncoding(PG_UTF8);
}
