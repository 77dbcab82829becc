/*-------------------------------------------------------------------------
 *
 * key_input.c
 *	  Keys: from what a user gives to values of the key columns' types.
 *
 * A value of another type is cast as SQL would cast it explicitly, with two
 * exceptions: no type modifier is applied (a text that is too long for the
 * column is no key of it, and must not be cut to become one), and a number
 * with a fraction does not round to an integer.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <math.h>

#include "access/htup_details.h"
#include "catalog/pg_conversion.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_type.h"
#include "common/shortest_dec.h"
#include "mb/pg_wchar.h"
#include "parser/parse_coerce.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/typcache.h"

#include "key.h"

typedef struct CastContext
{
	const KeyShape *shape;
	const KeyColumn *column;	/* NULL: the key as a whole */
} CastContext;

static void
cast_error_context(void *arg)
{
	CastContext *context = arg;

	if (context->column)
		errcontext("key column \"%s\" (%s) of cachekit entity \"%s\"",
				   NameStr(context->column->name), format_type_be(context->column->type),
				   context->shape->entity);
	else
		errcontext("key of cachekit entity \"%s\"", context->shape->entity);
}

static bool
is_integer_kind(KeyKind kind)
{
	return kind == KEY_INT2 || kind == KEY_INT4 || kind == KEY_INT8 || kind == KEY_OID;
}

/* Find out how values of a type are cast to the column's, and remember it. */
static void
prepare_cast(KeyColumn *column, Oid from, MemoryContext long_lived)
{
	Oid			base = getBaseType(from);
	Oid			function = InvalidOid;
	Oid			output;
	bool		varlena;

	column->cast_from = InvalidOid;
	if (base == column->type)
		column->how = KEY_CAST_NONE;
	else if (is_integer_kind(column->kind) &&
			 (base == NUMERICOID || base == FLOAT4OID || base == FLOAT8OID))
		column->how = KEY_CAST_NUMBER;	/* the cast would round 1.4 to 1 */
	else
	{
		switch (find_coercion_pathway(column->type, base, COERCION_EXPLICIT, &function))
		{
			case COERCION_PATH_RELABELTYPE:
				column->how = KEY_CAST_NONE;
				break;
			case COERCION_PATH_FUNC:
				column->how = KEY_CAST_FUNCTION;
				break;
			case COERCION_PATH_COERCEVIAIO:
				column->how = KEY_CAST_TEXT;
				break;
			default:
				ereport(ERROR,
						(errcode(ERRCODE_CANNOT_COERCE),
						 errmsg("cannot cast a key of type %s to type %s",
								format_type_be(from), format_type_be(column->type)),
						 errhint("Give the key as %s or as text.", format_type_be(column->type))));
		}
	}
	if (column->how == KEY_CAST_FUNCTION)
		fmgr_info_cxt(function, &column->cast, long_lived);
	else if (column->how != KEY_CAST_NONE)
	{
		getTypeOutputInfo(base, &output, &varlena);
		fmgr_info_cxt(output, &column->cast, long_lived);
	}
	column->cast_from = from;
}

static Datum
input_value(KeyColumn *column, char *text)
{
	if (column->kind == KEY_TEXT)
		return PointerGetDatum(cstring_to_text(text));
	return InputFunctionCall(&column->input, text, column->ioparam, -1);
}

/* The text of a float, to the last digit, whatever extra_float_digits says. */
static char *
float_text(Oid type, Datum value)
{
	double		number = type == FLOAT4OID ? DatumGetFloat4(value) : DatumGetFloat8(value);
	char	   *text = palloc(DOUBLE_SHORTEST_DECIMAL_LEN + 1);

	if (rint(number) == number && fabs(number) < 1e20)
		snprintf(text, DOUBLE_SHORTEST_DECIMAL_LEN, "%.0f", number);
	else if (type == FLOAT4OID)
		float_to_shortest_decimal_buf(DatumGetFloat4(value), text);
	else
		double_to_shortest_decimal_buf(number, text);
	return text;
}

static Datum
cast_value(const KeyShape *shape, KeyColumn *column, Oid from, Datum value,
		   MemoryContext long_lived)
{
	ErrorContextCallback callback;
	CastContext context = {shape, column};
	Datum		result = value;

	if (from == column->type)
		return value;
	callback.callback = cast_error_context;
	callback.arg = &context;
	callback.previous = error_context_stack;
	error_context_stack = &callback;

	if (from == UNKNOWNOID)		/* a bare literal in a row */
	{
		result = input_value(column, DatumGetCString(value));
		error_context_stack = callback.previous;
		return result;
	}
	if (column->cast_from != from)
		prepare_cast(column, from, long_lived);
	switch (column->how)
	{
		case KEY_CAST_NONE:
			break;
		case KEY_CAST_FUNCTION:
			/* cast functions take the type modifier and "explicit", too */
			if (column->cast.fn_nargs == 1)
				result = FunctionCall1(&column->cast, value);
			else if (column->cast.fn_nargs == 2)
				result = FunctionCall2(&column->cast, value, Int32GetDatum(-1));
			else
				result = FunctionCall3(&column->cast, value, Int32GetDatum(-1),
									   BoolGetDatum(true));
			break;
		case KEY_CAST_TEXT:
			result = input_value(column, OutputFunctionCall(&column->cast, value));
			break;
		case KEY_CAST_NUMBER:
			if (getBaseType(from) == NUMERICOID)
				result = input_value(column, numeric_normalize(DatumGetNumeric(value)));
			else
				result = input_value(column, float_text(getBaseType(from), value));
			break;
	}
	error_context_stack = callback.previous;
	return result;
}

static void
wrong_arity(const KeyShape *shape, int given)
{
	StringInfoData names;

	initStringInfo(&names);
	for (int i = 0; i < shape->n; i++)
		appendStringInfo(&names, "%s%s", i ? ", " : "", NameStr(shape->column[i].name));
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("key of cachekit entity \"%s\" has %d column(s), but %d given",
					shape->entity, shape->n, given),
			 errdetail("The key columns are (%s).", names.data),
			 shape->n > 1 ?
			 errhint("Give the key as a row, for example (7, 2), or as text '(7,2)'.") : 0));
}

/* The fields of a row as key values; false when one of them is NULL. */
static bool
key_from_row(const KeyShape *shape, HeapTupleHeader row, MemoryContext long_lived,
			 Datum *values)
{
	TupleDesc	desc = lookup_rowtype_tupdesc(HeapTupleHeaderGetTypeId(row),
											  HeapTupleHeaderGetTypMod(row));
	HeapTupleData tuple;
	int			n = 0;
	bool		complete = true;

	tuple.t_len = HeapTupleHeaderGetDatumLength(row);
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_tableOid = InvalidOid;
	tuple.t_data = row;
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		bool		isnull;
		Datum		value;

		if (att->attisdropped)
			continue;
		if (++n > shape->n)
			continue;
		value = heap_getattr(&tuple, i + 1, desc, &isnull);
		if (isnull)
			complete = false;
		else
			values[n - 1] = cast_value(shape, &shape->column[n - 1], att->atttypid, value,
									   long_lived);
	}
	ReleaseTupleDesc(desc);
	if (n != shape->n)
		wrong_arity(shape, n);
	return complete;
}

/*
 * Key values from a value of any type: a row for a key of several columns, a
 * scalar for one.  False when the key, or a field of it, is NULL.  What is
 * remembered about casts is allocated in long_lived, the columns' context.
 */
bool
key_from_datum(const KeyShape *shape, Oid type, Datum value, MemoryContext long_lived,
			   Datum *values)
{
	if (type == UNKNOWNOID)
		return key_from_text(shape, DatumGetCString(value), values);
	if (type_is_rowtype(type))
		return key_from_row(shape, DatumGetHeapTupleHeader(value), long_lived, values);
	if (shape->n > 1)
	{
		if (type == TEXTOID || type == VARCHAROID || type == BPCHAROID)
			return key_from_text(shape, TextDatumGetCString(value), values);
		wrong_arity(shape, 1);
	}
	values[0] = cast_value(shape, &shape->column[0], type, value, long_lived);
	return true;
}

/* Key values from text: the value itself, or a row literal for several columns. */
bool
key_from_text(const KeyShape *shape, const char *text, Datum *values)
{
	ErrorContextCallback callback;
	CastContext context = {shape, shape->n == 1 ? &shape->column[0] : NULL};
	bool		complete = true;

	callback.callback = cast_error_context;
	callback.arg = &context;
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	if (shape->n == 1)
		values[0] = input_value(&shape->column[0], pstrdup(text));
	else
	{
		FmgrInfo	record_input;
		Datum		row;
		HeapTupleHeader header;

		fmgr_info(F_RECORD_IN, &record_input);
		row = InputFunctionCall(&record_input, pstrdup(text), RECORDOID, shape->row_typmod);
		header = DatumGetHeapTupleHeader(row);
		complete = key_from_row(shape, header, CurrentMemoryContext, values);
	}
	error_context_stack = callback.previous;
	return complete;
}

/* ---------- from key texts ---------- */

static int
hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Undo the percent-encoding; NULL if that cannot be. */
static char *
percent_decode(const char *text, int len)
{
	char	   *decoded = palloc(len + 1);
	int			n = 0;

	for (int i = 0; i < len; i++)
	{
		int			high;
		int			low;

		if (text[i] != '%')
		{
			decoded[n++] = text[i];
			continue;
		}
		if (i + 2 >= len || (high = hex_digit(text[i + 1])) < 0 ||
			(low = hex_digit(text[i + 2])) < 0 || high + low == 0)
			return NULL;
		decoded[n++] = (char) (high << 4 | low);
		i += 2;
	}
	decoded[n] = '\0';
	return decoded;
}

/* From UTF-8 to the database's encoding; NULL if that cannot be. */
static char *
from_utf8(char *text)
{
	int			encoding = GetDatabaseEncoding();
	int			len = strlen(text);
	Oid			proc;
	Size		room = (Size) len * MAX_CONVERSION_GROWTH + 1;
	char	   *converted;

	if (encoding == PG_SQL_ASCII)
		return text;
	if (!pg_verify_mbstr(PG_UTF8, text, len, true))
		return NULL;
	if (encoding == PG_UTF8)
		return text;
	proc = FindDefaultConversion(PG_CATALOG_NAMESPACE, PG_UTF8, encoding);
	if (!OidIsValid(proc))
		return NULL;
	converted = palloc(room);
	if (pg_do_encoding_conversion_buf(proc, PG_UTF8, encoding, (unsigned char *) text, len,
									  (unsigned char *) converted, (int) room, true) != len)
		return NULL;
	return converted;
}

bool
key_from_key_text(const KeyShape *shape, const char *text, int len, Datum *values)
{
	const char *end = text + len;
	const char *at = text;
	KeyText		again;

	if (len > 0 && text[0] == '#')
		return false;
	for (int i = 0; i < shape->n; i++)
	{
		const char *colon = memchr(at, ':', end - at);
		char	   *part;

		/* as many parts as columns, and no more */
		if ((colon == NULL) != (i == shape->n - 1))
			return false;
		part = percent_decode(at, (int) ((colon ? colon : end) - at));
		if (part == NULL || (part = from_utf8(part)) == NULL)
			return false;
		values[i] = input_value(&shape->column[i], part);
		at = colon ? colon + 1 : end;
	}
	/* one value has one text: else it would be another row's */
	key_text(shape, values, &again);
	return shape->n > 0 && again.len == len && memcmp(again.text, text, len) == 0;
}
