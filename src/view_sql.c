/*-------------------------------------------------------------------------
 *
 * view_sql.c
 *	  The functions that show what is known of a view.
 *
 * They say what the view's text says anyway, and more than a user of the view
 * may need to know; so they are for its owner.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "funcapi.h"
#include "nodes/execnodes.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "catalog.h"
#include "view.h"

PG_FUNCTION_INFO_V1(ck_view_reads);
PG_FUNCTION_INFO_V1(ck_view_problems);

static void
check_view(Oid view)
{
	if (get_rel_relkind(view) != RELKIND_VIEW)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a view",
						get_rel_name(view) ? get_rel_name(view) : psprintf("%u", view))));
	if (!compat_owns_relation(view, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_VIEW, get_rel_name(view));
}

static void
append_columns(StringInfo buf, const ViewRead *read)
{
	int			attnum = -1;

	while ((attnum = bms_next_member(read->columns, attnum)) >= 0)
	{
		char	   *name = attnum == 0 ? NULL : get_attname(read->relid, (AttrNumber) attnum, true);

		if (buf->len > 0)
			appendStringInfoString(buf, ", ");
		appendStringInfoString(buf, name ? quote_identifier(name) : "*");
	}
}

/* (a, b), (c, d) */
static void
append_derived(StringInfo buf, const ViewRead *read)
{
	ListCell   *outer;
	ListCell   *cell;

	foreach(outer, read->derived)
	{
		List	   *names = lfirst(outer);

		appendStringInfoString(buf, buf->len > 0 ? ", (" : "(");
		foreach(cell, names)
			appendStringInfo(buf, "%s%s", cell == list_head(names) ? "" : ", ",
							 quote_identifier(lfirst(cell)));
		appendStringInfoChar(buf, ')');
	}
}

Datum
ck_view_reads(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Oid			view;
	List	   *key;
	ListCell   *cell;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0))
		return (Datum) 0;
	view = PG_GETARG_OID(0);
	check_view(view);
	key = PG_ARGISNULL(1) ? NIL : catalog_names_from_array(PG_GETARG_DATUM(1));
	foreach(cell, key)
	{
		if (get_attnum(view, lfirst(cell)) == InvalidAttrNumber)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("view \"%s\" has no column \"%s\"", get_rel_name(view),
							(char *) lfirst(cell))));
	}

	foreach(cell, view_analyse(view, key)->reads)
	{
		ViewRead   *read = lfirst(cell);
		StringInfoData columns;
		StringInfoData derived;
		Datum		values[4];
		bool		nulls[4] = {false};

		initStringInfo(&columns);
		initStringInfo(&derived);
		append_columns(&columns, read);
		append_derived(&derived, read);
		values[0] = CStringGetTextDatum(view_relation_name(read->relid));
		values[1] = CStringGetTextDatum(columns.data);
		values[2] = CStringGetTextDatum(derived.data);
		values[3] = BoolGetDatum(read->complete);
		nulls[2] = read->derived == NIL;
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

Datum
ck_view_problems(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Oid			view = PG_GETARG_OID(0);
	ViewAnalysis *analysis;
	List	   *problems;
	ListCell   *cell;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	check_view(view);
	analysis = view_analyse(view, NIL);
	problems = analysis->problems;
	if (analysis->refusal)
		problems = lcons(analysis->refusal, problems);
	foreach(cell, problems)
	{
		Datum		value = CStringGetTextDatum(lfirst(cell));
		bool		null = false;

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, &value, &null);
	}
	return (Datum) 0;
}
