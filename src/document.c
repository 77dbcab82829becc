/*-------------------------------------------------------------------------
 *
 * document.c
 *	  Documents as they stand on cache servers: JSON text in UTF-8.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "catalog/namespace.h"
#include "mb/pg_wchar.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"

#include "document.h"

/* Convert between encodings; NULL if that cannot be done. */
static char *
convert(char *text, Size len, int from, int to)
{
	Oid			function = FindDefaultConversionProc(from, to);
	Size		room = len * MAX_CONVERSION_GROWTH + 1;
	char	   *converted;

	if (!OidIsValid(function) || room > MaxAllocSize)
		return NULL;
	converted = palloc(room);
	if (pg_do_encoding_conversion_buf(function, from, to, (unsigned char *) text, len,
									  (unsigned char *) converted, room, true) != (int) len)
		return NULL;
	return converted;
}

static bool
is_ascii(const char *text, Size len)
{
	for (Size i = 0; i < len; i++)
	{
		if (IS_HIGHBIT_SET(text[i]))
			return false;
	}
	return true;
}

char *
document_to_text(Jsonb *document)
{
	char	   *text = JsonbToCString(NULL, &document->root, VARSIZE(document));
	Size		len = strlen(text);
	int			encoding = GetDatabaseEncoding();

	if (encoding == PG_UTF8 || is_ascii(text, len))
		return text;
	if (encoding == PG_SQL_ASCII)	/* any bytes: only if they happen to be UTF-8 */
		return pg_verify_mbstr(PG_UTF8, text, len, true) ? text : NULL;
	return convert(text, len, encoding, PG_UTF8);
}

/*
 * jsonb_in() in a way that does not fail.  Before 16 it can only be caught:
 * it takes no locks and no other resource than memory, so nothing has to be
 * undone but that.  Whoever wants the query to end is obeyed.
 */
static Jsonb *
parse(char *text)
{
	MemoryContext context = CurrentMemoryContext;
	Jsonb	   *volatile document = NULL;

	PG_TRY();
	{
		document = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
	}
	PG_CATCH();
	{
		if (ERRCODE_TO_CATEGORY(geterrcode()) == ERRCODE_OPERATOR_INTERVENTION ||
			geterrcode() == ERRCODE_OUT_OF_MEMORY)
			PG_RE_THROW();
		MemoryContextSwitchTo(context);
		FlushErrorState();
		document = NULL;
	}
	PG_END_TRY();
	return document;
}

Jsonb *
document_from_text(char *text, Size len)
{
	int			encoding = GetDatabaseEncoding();

	if (len >= MaxAllocSize || strlen(text) != len || !pg_verify_mbstr(PG_UTF8, text, len, true))
		return NULL;
	if (encoding != PG_UTF8 && encoding != PG_SQL_ASCII && !is_ascii(text, len))
		text = convert(text, len, PG_UTF8, encoding);
	return text ? parse(text) : NULL;
}
