/*-------------------------------------------------------------------------
 *
 * keys_query.c
 *	  The keys of an entity, by SQL.
 *
 * Whoever walks through an entity, to warm its caches or to compare them, reads
 * its keys as the caller, who has SELECT.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"

#include "keys_query.h"
#include "via.h"

void
keys_append_columns(StringInfo sql, const Entity *entity, KeysForm form)
{
	for (int i = 0; i < entity->shape.n; i++)
		appendStringInfo(sql, "%s%s%d", i > 0 ? ", " : "",
						 form == KEYS_PARAMETERS ? "$" : "c", i + 1);
}

/* The columns of the relation, or of a query, as c1, c2, … of the key's types. */
static void
append_cast_columns(StringInfo sql, const Entity *entity, bool is_query)
{
	for (int i = 0; i < entity->shape.n; i++)
	{
		const KeyColumn *column = &entity->shape.column[i];

		if (i > 0)
			appendStringInfoString(sql, ", ");
		if (is_query)
			appendStringInfo(sql, "x.c%d", i + 1);
		else
			appendStringInfo(sql, "t.%s", quote_identifier(NameStr(column->name)));
		appendStringInfo(sql, "::%s AS c%d", via_qualified_type(column->type), i + 1);
	}
}

void
keys_append_query(StringInfo sql, const Entity *entity, const char *query)
{
	bool		distinct = query != NULL || entity->many;

	appendStringInfo(sql, "SELECT %s", distinct ? "DISTINCT " : "");
	keys_append_columns(sql, entity, KEYS_COLUMNS);
	appendStringInfoString(sql, " FROM (SELECT ");
	append_cast_columns(sql, entity, query != NULL);
	if (query)
	{
		/* on lines of its own: it may end in a comment */
		appendStringInfo(sql, " FROM (\n%s\n) AS x(", query);
		keys_append_columns(sql, entity, KEYS_COLUMNS);
		appendStringInfoChar(sql, ')');
	}
	else
		appendStringInfo(sql, " FROM %s AS t",
						 quote_qualified_identifier(get_namespace_name(get_rel_namespace(entity->relid)),
													get_rel_name(entity->relid)));
	appendStringInfoString(sql, ") AS q WHERE ");
	for (int i = 0; i < entity->shape.n; i++)
		appendStringInfo(sql, "%sc%d IS NOT NULL", i ? " AND " : "", i + 1);
}

void
keys_select(const Entity *entity, const char *sql, int nargs, Oid *types, Datum *values)
{
	int			result = SPI_execute_with_args(sql, nargs, types, values, NULL, true, 0);

	if (result != SPI_OK_SELECT)
		elog(ERROR, "could not read the keys of entity \"%s\": %s", entity->name,
			 SPI_result_code_string(result));
}

void
keys_copy(const KeyShape *shape, const Datum *values, LoadKey *to)
{
	for (int i = 0; i < shape->n; i++)
	{
		int16		len;
		bool		byval;

		get_typlenbyval(shape->column[i].type, &len, &byval);
		to->values[i] = len == -1 ? PointerGetDatum(PG_DETOAST_DATUM_COPY(values[i])) :
			datumCopy(values[i], byval, len);
	}
}

void
keys_row(const Entity *entity, uint64 row, LoadKey *to)
{
	Datum		values[KEY_MAX_COLUMNS];
	bool		isnull;

	for (int c = 0; c < entity->shape.n; c++)
		values[c] = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, c + 1, &isnull);
	keys_copy(&entity->shape, values, to);
}
