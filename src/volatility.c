/*-------------------------------------------------------------------------
 *
 * volatility.c
 *	  Expressions whose value depends on more than their arguments.
 *
 * A document may be cached only if nothing but its tables' rows can change it.
 * A function that is IMMUTABLE is believed.  One that is STABLE may read tables
 * or look at the session or the clock.  Many of the server's own are STABLE
 * only because they obey settings, and those are pinned whenever a document is
 * loaded (pin.c): they are listed here, by name, so that the list holds for
 * every version; a function that a later version adds is not on it.
 *
 * Functions that take or give values of any type call that type's input or
 * output functions, which may be anything, so the types are looked at as well.
 * Input of dates and times is the case that matters: 'now' is a date.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/transam.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/value.h"
#include "parser/parse_coerce.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "volatility.h"

typedef enum Verdict
{
	HARMLESS,
	PRINTS,						/* if the text forms of its arguments' types are */
	PARSES,						/* if the input of its result's type is */
	HARMFUL
} Verdict;

#define ANY_NUMBER	(-1)

typedef struct Listed
{
	const char *name;
	int			nargs;
	Verdict		verdict;
} Listed;

/*
 * Functions of pg_catalog that are not VOLATILE.  Not here, although it looks
 * harmless: age(timestamptz) and timezone(text, timetz), which know today;
 * xml_is_well_formed(text), which obeys xmloption, and that is not pinned;
 * whatever takes or gives names of objects; the binary forms of types, which
 * obey client_encoding.
 */
static const Listed listed[] =
{
	/* TimeZone */
	{"extract", ANY_NUMBER, HARMLESS}, {"date_part", ANY_NUMBER, HARMLESS},
	{"date_trunc", ANY_NUMBER, HARMLESS}, {"date_add", ANY_NUMBER, HARMLESS},
	{"date_subtract", ANY_NUMBER, HARMLESS}, {"timezone", 1, HARMLESS},
	{"overlaps", ANY_NUMBER, HARMLESS}, {"in_range", ANY_NUMBER, HARMLESS},
	{"generate_series", ANY_NUMBER, HARMLESS}, {"make_timestamptz", ANY_NUMBER, HARMLESS},
	{"date", 1, HARMLESS}, {"time", 1, HARMLESS}, {"timetz", 1, HARMLESS},
	{"timestamp", 1, HARMLESS}, {"timestamptz", ANY_NUMBER, HARMLESS},
	{"timestamptz_pl_interval", 2, HARMLESS}, {"timestamptz_mi_interval", 2, HARMLESS},
	{"interval_pl_timestamptz", 2, HARMLESS},
	{"date_eq_timestamptz", 2, HARMLESS}, {"date_ne_timestamptz", 2, HARMLESS},
	{"date_lt_timestamptz", 2, HARMLESS}, {"date_le_timestamptz", 2, HARMLESS},
	{"date_gt_timestamptz", 2, HARMLESS}, {"date_ge_timestamptz", 2, HARMLESS},
	{"date_cmp_timestamptz", 2, HARMLESS},
	{"timestamp_eq_timestamptz", 2, HARMLESS}, {"timestamp_ne_timestamptz", 2, HARMLESS},
	{"timestamp_lt_timestamptz", 2, HARMLESS}, {"timestamp_le_timestamptz", 2, HARMLESS},
	{"timestamp_gt_timestamptz", 2, HARMLESS}, {"timestamp_ge_timestamptz", 2, HARMLESS},
	{"timestamp_cmp_timestamptz", 2, HARMLESS},
	{"timestamptz_eq_date", 2, HARMLESS}, {"timestamptz_ne_date", 2, HARMLESS},
	{"timestamptz_lt_date", 2, HARMLESS}, {"timestamptz_le_date", 2, HARMLESS},
	{"timestamptz_gt_date", 2, HARMLESS}, {"timestamptz_ge_date", 2, HARMLESS},
	{"timestamptz_cmp_date", 2, HARMLESS},
	{"timestamptz_eq_timestamp", 2, HARMLESS}, {"timestamptz_ne_timestamp", 2, HARMLESS},
	{"timestamptz_lt_timestamp", 2, HARMLESS}, {"timestamptz_le_timestamp", 2, HARMLESS},
	{"timestamptz_gt_timestamp", 2, HARMLESS}, {"timestamptz_ge_timestamp", 2, HARMLESS},
	{"timestamptz_cmp_timestamp", 2, HARMLESS},
	{"jsonb_path_exists_tz", ANY_NUMBER, HARMLESS}, {"jsonb_path_match_tz", ANY_NUMBER, HARMLESS},
	{"jsonb_path_query_tz", ANY_NUMBER, HARMLESS},
	{"jsonb_path_query_array_tz", ANY_NUMBER, HARMLESS},
	{"jsonb_path_query_first_tz", ANY_NUMBER, HARMLESS},

	/* DateStyle, IntervalStyle, lc_* */
	{"to_char", 2, HARMLESS}, {"to_date", 2, HARMLESS}, {"to_timestamp", 2, HARMLESS},
	{"to_number", 2, HARMLESS}, {"money", 1, HARMLESS}, {"numeric", 1, HARMLESS},
	{"date_out", 1, HARMLESS}, {"timestamp_out", 1, HARMLESS}, {"timestamptz_out", 1, HARMLESS},
	{"interval_out", 1, HARMLESS}, {"interval_in", 3, HARMLESS},
	{"cash_out", 1, HARMLESS}, {"cash_in", 1, HARMLESS},

	/* default_text_search_config */
	{"to_tsvector", 1, HARMLESS}, {"json_to_tsvector", 2, HARMLESS},
	{"jsonb_to_tsvector", 2, HARMLESS}, {"to_tsquery", 1, HARMLESS},
	{"plainto_tsquery", 1, HARMLESS}, {"phraseto_tsquery", 1, HARMLESS},
	{"websearch_to_tsquery", 1, HARMLESS}, {"ts_headline", ANY_NUMBER, HARMLESS},
	{"ts_match_tq", 2, HARMLESS}, {"ts_match_tt", 2, HARMLESS},

	/* search_path, or definitions that only ALTER TYPE or CREATE CONVERSION changes */
	{"convert", 3, HARMLESS}, {"convert_from", 2, HARMLESS}, {"convert_to", 2, HARMLESS},
	{"length", 2, HARMLESS}, {"getdatabaseencoding", 0, HARMLESS},
	{"enum_in", 2, HARMLESS}, {"enum_out", 1, HARMLESS}, {"enum_first", 1, HARMLESS},
	{"enum_last", 1, HARMLESS}, {"enum_range", ANY_NUMBER, HARMLESS},

	/* xmlbinary; xmloption decides at most between a value and an error */
	{"xml", 1, HARMLESS}, {"xml_in", 1, HARMLESS},

	/* whatever the output of a type obeys */
	{"to_json", 1, PRINTS}, {"to_jsonb", 1, PRINTS}, {"row_to_json", ANY_NUMBER, PRINTS},
	{"array_to_json", ANY_NUMBER, PRINTS}, {"array_to_string", ANY_NUMBER, PRINTS},
	{"json_build_array", ANY_NUMBER, PRINTS}, {"json_build_object", ANY_NUMBER, PRINTS},
	{"jsonb_build_array", ANY_NUMBER, PRINTS}, {"jsonb_build_object", ANY_NUMBER, PRINTS},
	{"json_agg", 1, PRINTS}, {"json_agg_strict", 1, PRINTS},
	{"jsonb_agg", 1, PRINTS}, {"jsonb_agg_strict", 1, PRINTS},
	{"json_object_agg", 2, PRINTS}, {"json_object_agg_strict", 2, PRINTS},
	{"json_object_agg_unique", 2, PRINTS}, {"json_object_agg_unique_strict", 2, PRINTS},
	{"jsonb_object_agg", 2, PRINTS}, {"jsonb_object_agg_strict", 2, PRINTS},
	{"jsonb_object_agg_unique", 2, PRINTS}, {"jsonb_object_agg_unique_strict", 2, PRINTS},
	{"concat", ANY_NUMBER, PRINTS}, {"concat_ws", ANY_NUMBER, PRINTS},
	{"format", ANY_NUMBER, PRINTS}, {"quote_literal", 1, PRINTS}, {"quote_nullable", 1, PRINTS},
	{"textanycat", 2, PRINTS}, {"anytextcat", 2, PRINTS},
	{"array_out", 1, PRINTS}, {"record_out", 1, PRINTS}, {"range_out", 1, PRINTS},
	{"multirange_out", 1, PRINTS},

	/* input; where a list of columns gives their types, view.c looks at that */
	{"json_populate_record", ANY_NUMBER, PARSES}, {"json_populate_recordset", ANY_NUMBER, PARSES},
	{"jsonb_populate_record", ANY_NUMBER, PARSES}, {"jsonb_populate_recordset", ANY_NUMBER, PARSES},
	{"json_to_record", 1, HARMLESS}, {"json_to_recordset", 1, HARMLESS},
	{"jsonb_to_record", 1, HARMLESS}, {"jsonb_to_recordset", 1, HARMLESS},
};

void
problems_add(List **problems, char *problem)
{
	ListCell   *cell;

	foreach(cell, *problems)
	{
		if (strcmp(lfirst(cell), problem) == 0)
			return;
	}
	*problems = lappend(*problems, problem);
}

/* What is to be thought of a function; says so if it is harmful. */
static Verdict
judge(Oid function, List **problems)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc form;
	Verdict		verdict = HARMFUL;
	bool		catalog;
	char		volatility;

	if (!HeapTupleIsValid(tuple))
	{
		problems_add(problems, psprintf("function %u has been dropped", function));
		return HARMFUL;
	}
	form = (Form_pg_proc) GETSTRUCT(tuple);
	volatility = form->provolatile;
	catalog = form->pronamespace == PG_CATALOG_NAMESPACE && function < FirstNormalObjectId;
	if (volatility == PROVOLATILE_IMMUTABLE)
		verdict = HARMLESS;
	if (catalog && volatility != PROVOLATILE_VOLATILE)
	{
		for (int i = 0; i < lengthof(listed); i++)
		{
			if (strcmp(listed[i].name, NameStr(form->proname)) == 0 &&
				(listed[i].nargs == ANY_NUMBER || listed[i].nargs == form->pronargs))
				verdict = listed[i].verdict;
		}
	}
	ReleaseSysCache(tuple);

	if (verdict != HARMFUL)
		return verdict;
	if (catalog)
		problems_add(problems, psprintf("function %s is not immutable", format_procedure(function)));
	else if (volatility == PROVOLATILE_VOLATILE)
		problems_add(problems, psprintf("function %s is VOLATILE (declare it IMMUTABLE if it reads nothing but its arguments)",
										format_procedure(function)));
	else
		problems_add(problems, psprintf("function %s is STABLE and may read tables or the session (declare it IMMUTABLE if it does not)",
										format_procedure(function)));
	return HARMFUL;
}

/*
 * Is text made from values of a type, or such values from text, by these
 * alone?  `culprit` is the type that is to blame.
 */
static bool
text_is_harmless(Oid type, bool input, Oid *culprit)
{
	Oid			part;
	List	   *ignored = NIL;
	Oid			function;
	Oid			param;
	bool		varlena;

	check_stack_depth();
	type = getBaseType(type);
	*culprit = type;
	part = get_element_type(type);
	if (!OidIsValid(part) && get_typtype(type) == TYPTYPE_RANGE)
		part = get_range_subtype(type);
	if (!OidIsValid(part) && get_typtype(type) == TYPTYPE_MULTIRANGE)
		part = get_multirange_range(type);
	if (OidIsValid(part))
		return text_is_harmless(part, input, culprit);
	if (get_typtype(type) == TYPTYPE_COMPOSITE)
	{
		TupleDesc	desc = lookup_rowtype_tupdesc_noerror(type, -1, true);
		bool		harmless = desc != NULL;

		for (int i = 0; harmless && i < desc->natts; i++)
		{
			Form_pg_attribute att = TupleDescAttr(desc, i);

			harmless = att->attisdropped || text_is_harmless(att->atttypid, input, culprit);
		}
		if (desc)
			ReleaseTupleDesc(desc);
		return harmless;
	}
	if (type == RECORDOID)
		return !input;			/* view.c looks at what is in it */
	if (input)
		getTypeInputInfo(type, &function, &param);
	else
		getTypeOutputInfo(type, &function, &varlena);
	return judge(function, &ignored) == HARMLESS;
}

/* A type of which JSON is made by a cast that a user has defined, anywhere in it. */
static void
check_json_cast(Oid type, List **problems)
{
	Oid			cast;

	check_stack_depth();
	type = getBaseType(type);
	if (OidIsValid(get_element_type(type)))
		check_json_cast(get_element_type(type), problems);
	else if (type >= FirstNormalObjectId &&
			 find_coercion_pathway(JSONOID, type, COERCION_EXPLICIT, &cast) == COERCION_PATH_FUNC)
		(void) judge(cast, problems);
	else if (get_typtype(type) == TYPTYPE_COMPOSITE)
	{
		TupleDesc	desc = lookup_rowtype_tupdesc_copy(type, -1);

		for (int i = 0; i < desc->natts; i++)
		{
			if (!TupleDescAttr(desc, i)->attisdropped)
				check_json_cast(TupleDescAttr(desc, i)->atttypid, problems);
		}
	}
}

void
volatility_check_output(Oid type, List **problems)
{
	Oid			culprit;

	check_json_cast(type, problems);

	if (!text_is_harmless(type, false, &culprit))
		problems_add(problems, psprintf("the text of type %s depends on more than its value",
										format_type_be(culprit)));
}

void
volatility_check_input(Oid type, List **problems)
{
	Oid			culprit;

	if (!text_is_harmless(type, true, &culprit))
		problems_add(problems, psprintf("text is cast to type %s, which may depend on the time or the session",
										format_type_be(culprit)));
}

/* Arguments of which JSON or text is made.  Casts to JSON that users define are used, too. */
static void
check_printed(List *arguments, List **problems)
{
	ListCell   *cell;

	foreach(cell, arguments)
	{
		Node	   *node = lfirst(cell);

		if (node && IsA(node, TargetEntry))
			node = (Node *) ((TargetEntry *) node)->expr;
		if (node == NULL)
			continue;
		check_stack_depth();
		if (IsA(node, RowExpr) && ((RowExpr *) node)->row_typeid == RECORDOID)
			check_printed(((RowExpr *) node)->args, problems);
		volatility_check_output(exprType(node), problems);
	}
}

/* CREATE AGGREGATE calls every aggregate immutable; what counts is what it is made of. */
static void
check_aggregate(Oid function, List **problems)
{
	HeapTuple	tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(function));
	FormData_pg_aggregate form;

	if (!HeapTupleIsValid(tuple))
		return;
	form = *(Form_pg_aggregate) GETSTRUCT(tuple);
	ReleaseSysCache(tuple);
	(void) judge(form.aggtransfn, problems);
	if (OidIsValid(form.aggfinalfn))
		(void) judge(form.aggfinalfn, problems);
	if (OidIsValid(form.aggcombinefn))
		(void) judge(form.aggcombinefn, problems);
	if (OidIsValid(form.aggmtransfn))
		(void) judge(form.aggmtransfn, problems);
	if (OidIsValid(form.aggminvtransfn))
		(void) judge(form.aggminvtransfn, problems);
	if (OidIsValid(form.aggmfinalfn))
		(void) judge(form.aggmfinalfn, problems);
}

typedef struct CheckContext
{
	Node	   *node;
	List	  **problems;
} CheckContext;

static bool
check_function(Oid function, void *arg)
{
	CheckContext *context = arg;
	Node	   *node = context->node;
	List	   *arguments = NIL;

	switch (nodeTag(node))
	{
		case T_FuncExpr:
			arguments = ((FuncExpr *) node)->args;
			break;
		case T_OpExpr:
			arguments = ((OpExpr *) node)->args;
			break;
		case T_ScalarArrayOpExpr:
			arguments = ((ScalarArrayOpExpr *) node)->args;
			break;
		case T_Aggref:
			arguments = ((Aggref *) node)->args;
			if (function >= FirstNormalObjectId)
				check_aggregate(function, context->problems);
			break;
		case T_WindowFunc:
			arguments = ((WindowFunc *) node)->args;
			if (function >= FirstNormalObjectId && ((WindowFunc *) node)->winagg)
				check_aggregate(function, context->problems);
			break;
		default:
			break;
	}
	switch (judge(function, context->problems))
	{
		case PRINTS:
			check_printed(arguments, context->problems);
			break;
		case PARSES:
			volatility_check_input(exprType(node), context->problems);
			break;
		default:
			break;
	}
	return false;
}

/* What each form of SQLValueFunction is called. */
static const char *
value_function_name(SQLValueFunctionOp op, bool *clock)
{
	*clock = true;
	switch (op)
	{
		case SVFOP_CURRENT_DATE:
			return "current_date";
		case SVFOP_CURRENT_TIME:
		case SVFOP_CURRENT_TIME_N:
			return "current_time";
		case SVFOP_CURRENT_TIMESTAMP:
		case SVFOP_CURRENT_TIMESTAMP_N:
			return "current_timestamp";
		case SVFOP_LOCALTIME:
		case SVFOP_LOCALTIME_N:
			return "localtime";
		case SVFOP_LOCALTIMESTAMP:
		case SVFOP_LOCALTIMESTAMP_N:
			return "localtimestamp";
		default:
			break;
	}
	*clock = false;
	switch (op)
	{
		case SVFOP_CURRENT_ROLE:
			return "current_role";
		case SVFOP_USER:
			return "user";
		case SVFOP_SESSION_USER:
			return "session_user";
		case SVFOP_CURRENT_CATALOG:
			return "current_catalog";
		case SVFOP_CURRENT_SCHEMA:
			return "current_schema";
		default:
			return "current_user";
	}
}

void
volatility_check(Node *node, List **problems)
{
	CheckContext context = {node, problems};

	switch (nodeTag(node))
	{
		case T_SQLValueFunction:
			{
				bool		clock;
				const char *name = value_function_name(((SQLValueFunction *) node)->op, &clock);

				problems_add(problems, psprintf("%s depends on the %s", name,
												clock ? "clock" : "session"));
				break;
			}
		case T_NextValueExpr:
			problems_add(problems, pstrdup("a sequence is advanced"));
			break;
		case T_CoerceViaIO:
			volatility_check_output(exprType((Node *) ((CoerceViaIO *) node)->arg), problems);
			volatility_check_input(((CoerceViaIO *) node)->resulttype, problems);
			break;
		case T_XmlExpr:
			check_printed(((XmlExpr *) node)->named_args, problems);
			check_printed(((XmlExpr *) node)->args, problems);
			break;
		default:
			if (compat_is_json_query(node))
				problems_add(problems, pstrdup("SQL/JSON query functions may depend on the time or the session"));
			check_printed(compat_json_constructor_args(node), problems);
			(void) check_functions_in_node(node, check_function, &context);
			break;
	}
}
