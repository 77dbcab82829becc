/*-------------------------------------------------------------------------
 *
 * fetch_sql.c
 *	  The SQL functions fetch, fetch_row and fetch_many.
 *
 * Each has two forms: one takes the key as "any", the other as text.  With
 * the first alone, an untyped parameter of a driver would be an error.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/typcache.h"

#include "fetch.h"
#include "pin.h"

#define FETCH_SLICE		1000	/* keys of fetch_many in one pass */

PG_FUNCTION_INFO_V1(ck_fetch);
PG_FUNCTION_INFO_V1(ck_fetch_text);
PG_FUNCTION_INFO_V1(ck_fetch_row);
PG_FUNCTION_INFO_V1(ck_fetch_row_text);
PG_FUNCTION_INFO_V1(ck_fetch_many);
PG_FUNCTION_INFO_V1(ck_fetch_many_text);

/* The strategy argument, or the default where it is NULL. */
static FetchStrategy
strategy_argument(FunctionCallInfo fcinfo, int arg)
{
	return PG_ARGISNULL(arg) ? FETCH_REFRESH :
		fetch_strategy(text_to_cstring(PG_GETARG_TEXT_PP(arg)));
}

/* The key argument of a "any" or a text form. */
static void
key_argument(FunctionCallInfo fcinfo, int arg, bool is_text, FetchKey *key)
{
	if (is_text)
	{
		key->type = InvalidOid;
		key->text = text_to_cstring(PG_GETARG_TEXT_PP(arg));
		return;
	}
	key->type = get_fn_expr_argtype(fcinfo->flinfo, arg);
	key->value = PG_GETARG_DATUM(arg);
	if (!OidIsValid(key->type))
		ereport(ERROR,
				(errcode(ERRCODE_INDETERMINATE_DATATYPE),
				 errmsg("could not determine the type of the key")));
}

/* fetch(entity, key, strategy) */
static Datum
fetch(FunctionCallInfo fcinfo, bool is_text)
{
	FetchStrategy strategy = strategy_argument(fcinfo, 2);
	FetchKey	key;
	Jsonb	   *document;
	instr_time	began;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	INSTR_TIME_SET_CURRENT(began);
	key_argument(fcinfo, 1, is_text, &key);
	document = fetch_document(PG_GETARG_OID(0), &key, strategy, began, NULL);
	if (document == NULL)
		PG_RETURN_NULL();
	PG_RETURN_JSONB_P(document);
}

Datum
ck_fetch(PG_FUNCTION_ARGS)
{
	return fetch(fcinfo, false);
}

Datum
ck_fetch_text(PG_FUNCTION_ARGS)
{
	return fetch(fcinfo, true);
}

/* The relation whose row type the first argument has. */
static Oid
relation_of_argument(FunctionCallInfo fcinfo)
{
	Oid			type = get_fn_expr_argtype(fcinfo->flinfo, 0);
	Oid			relid = OidIsValid(type) ? get_typ_typrelid(getBaseType(type)) : InvalidOid;

	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("first argument of fetch_row must be of the row type of an entity"),
				 errhint("For example: SELECT cachekit.fetch_row(NULL::users, 42).")));
	return relid;
}

/*
 * fetch_row(row type, key, strategy): the document, typed.  jsonb_populate_record()
 * finds the type of its first argument in the expression it was called by; ours
 * has the same type there.
 */
static Datum
fetch_row(FunctionCallInfo fcinfo, bool is_text)
{
	FetchStrategy strategy = strategy_argument(fcinfo, 2);
	Oid			relid = relation_of_argument(fcinfo);
	FmgrInfo   *populate = fcinfo->flinfo->fn_extra;
	FetchKey	key;
	Jsonb	   *document;
	instr_time	began;
	Pin			pin;
	Datum		row;

	LOCAL_FCINFO(call, 2);

	if (PG_ARGISNULL(1))
		PG_RETURN_NULL();
	key_argument(fcinfo, 1, is_text, &key);
	INSTR_TIME_SET_CURRENT(began);
	document = fetch_document(relid, &key, strategy, began, NULL);
	if (document == NULL)
		PG_RETURN_NULL();
	if (populate == NULL)
	{
		populate = MemoryContextAlloc(fcinfo->flinfo->fn_mcxt, sizeof(FmgrInfo));
		fmgr_info_cxt(F_JSONB_POPULATE_RECORD, populate, fcinfo->flinfo->fn_mcxt);
		populate->fn_expr = fcinfo->flinfo->fn_expr;
		fcinfo->flinfo->fn_extra = populate;
	}
	InitFunctionCallInfoData(*call, populate, 2, InvalidOid, NULL, NULL);
	call->args[0].value = (Datum) 0;
	call->args[0].isnull = true;
	call->args[1].value = JsonbPGetDatum(document);
	call->args[1].isnull = false;

	/* the text forms in the document are those of the pinned settings */
	pin_begin(&pin, GetUserId());
	row = FunctionCallInvoke(call);
	pin_end(&pin);
	if (call->isnull)
		PG_RETURN_NULL();
	return row;
}

Datum
ck_fetch_row(PG_FUNCTION_ARGS)
{
	return fetch_row(fcinfo, false);
}

Datum
ck_fetch_row_text(PG_FUNCTION_ARGS)
{
	return fetch_row(fcinfo, true);
}

/*
 * fetch_many(entity, keys, strategy, consistent): a row for each key, in their
 * order.  In slices, so that memory is bounded; a set of one moment is one.
 */
static void
fetch_array(FunctionCallInfo fcinfo, ArrayType *array, bool is_text)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	FetchStrategy strategy = strategy_argument(fcinfo, 2);
	bool		consistent = !PG_ARGISNULL(3) && PG_GETARG_BOOL(3);
	Oid			type = ARR_ELEMTYPE(array);
	int16		len;
	bool		byval;
	char		align;
	Datum	   *elems;
	bool	   *elem_nulls;
	int			n;
	int			slice;
	MemoryContext each = AllocSetContextCreate(CurrentMemoryContext, "cachekit fetch_many",
											   ALLOCSET_DEFAULT_SIZES);
	MemoryContext old;
	instr_time	began;

	INSTR_TIME_SET_CURRENT(began);
	get_typlenbyvalalign(type, &len, &byval, &align);
	deconstruct_array(array, type, len, byval, align, &elems, &elem_nulls, &n);
	slice = consistent ? n : FETCH_SLICE;
	for (int at = 0; at < n; at += slice)
	{
		int			count = Min(slice, n - at);
		FetchKey   *keys;
		FetchedRow *rows;

		CHECK_FOR_INTERRUPTS();
		MemoryContextReset(each);
		old = MemoryContextSwitchTo(each);
		keys = MemoryContextAllocHuge(each, sizeof(FetchKey) * count);
		rows = MemoryContextAllocHuge(each, sizeof(FetchedRow) * count);
		for (int i = 0; i < count; i++)
		{
			keys[i].type = is_text ? InvalidOid : type;
			keys[i].value = elems[at + i];
			keys[i].text = is_text && !elem_nulls[at + i] ?
				TextDatumGetCString(elems[at + i]) : NULL;
		}
		fetch_documents(PG_GETARG_OID(0), keys, elem_nulls + at, count, strategy, consistent,
						began, rows);
		for (int i = 0; i < count; i++)
		{
			Datum		values[2] = {0};
			bool		nulls[2] = {rows[i].canonical == NULL, rows[i].document == NULL};

			if (!nulls[0])
				values[0] = CStringGetTextDatum(rows[i].canonical);
			if (!nulls[1])
				values[1] = JsonbPGetDatum(rows[i].document);
			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
		}
		MemoryContextSwitchTo(old);
	}
	MemoryContextDelete(each);
}

Datum
ck_fetch_many(PG_FUNCTION_ARGS)
{
	InitMaterializedSRF(fcinfo, 0);
	if (!PG_ARGISNULL(0) && !PG_ARGISNULL(1))
		fetch_array(fcinfo, PG_GETARG_ARRAYTYPE_P(1), false);
	PG_RETURN_VOID();
}

/* The text form takes an array literal. */
Datum
ck_fetch_many_text(PG_FUNCTION_ARGS)
{
	InitMaterializedSRF(fcinfo, 0);
	if (!PG_ARGISNULL(0) && !PG_ARGISNULL(1))
	{
		FmgrInfo	array_input;
		Datum		keys;

		fmgr_info(F_ARRAY_IN, &array_input);
		keys = InputFunctionCall(&array_input, text_to_cstring(PG_GETARG_TEXT_PP(1)),
								 TEXTOID, -1);
		fetch_array(fcinfo, DatumGetArrayTypeP(keys), true);
	}
	PG_RETURN_VOID();
}
