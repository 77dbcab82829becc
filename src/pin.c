/*-------------------------------------------------------------------------
 *
 * pin.c
 *	  The pinned context: a document must not depend on who loads it.
 *
 * Setting a dozen variables costs more than reading a row, so only those
 * that differ are set; comparing the server's own variables costs next to
 * nothing.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/gin.h"
#include "catalog/namespace.h"
#include "parser/parse_expr.h"
#include "parser/parser.h"
#include "pgtime.h"
#include "tsearch/ts_cache.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/bytea.h"
#include "utils/float.h"
#include "utils/guc.h"
#include "utils/pg_locale.h"
#include "utils/xml.h"

#include "debug.h"
#include "pin.h"

static bool
text_differs(const char *current, const char *pinned)
{
	return current == NULL || strcmp(current, pinned) != 0;
}

void
pin_set(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

void
pin_begin(Pin *pin, Oid role)
{
	/* also when nothing differs: functions that are called may set things */
	pin->nest_level = NewGUCNestLevel();
	GetUserIdAndSecContext(&pin->userid, &pin->sec_context);
	SetUserIdAndSecContext(role, pin->sec_context |
						   SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	if (!CK_GUARD("pins"))
		return;

	if (text_differs(namespace_search_path, "pg_catalog, pg_temp"))
		pin_set("search_path", "pg_catalog, pg_temp");
	if (text_differs(pg_get_timezone_name(session_timezone), "UTC"))
		pin_set("timezone", "UTC");
	if (DateStyle != USE_ISO_DATES || DateOrder != DATEORDER_YMD)
		pin_set("datestyle", "ISO, YMD");
	if (IntervalStyle != INTSTYLE_POSTGRES)
		pin_set("intervalstyle", "postgres");
	if (extra_float_digits != 1)
		pin_set("extra_float_digits", "1");
	if (bytea_output != BYTEA_OUTPUT_HEX)
		pin_set("bytea_output", "hex");
	if (text_differs(locale_monetary, "C"))
		pin_set("lc_monetary", "C");
	if (text_differs(locale_numeric, "C"))
		pin_set("lc_numeric", "C");
	if (text_differs(locale_time, "C"))
		pin_set("lc_time", "C");
	if (xmlbinary != XMLBINARY_BASE64)
		pin_set("xmlbinary", "base64");
	if (text_differs(TSCurrentConfig, "pg_catalog.simple"))
		pin_set("default_text_search_config", "pg_catalog.simple");
	if (quote_all_identifiers)
		pin_set("quote_all_identifiers", "off");
	if (!Array_nulls)
		pin_set("array_nulls", "on");
	if (GinFuzzySearchLimit != 0)
		pin_set("gin_fuzzy_search_limit", "0");
	if (xmloption != XMLOPTION_CONTENT)
		pin_set("xmloption", "content");
	if (text_differs(GetConfigOption("timezone_abbreviations", false, false), "Default"))
		pin_set("timezone_abbreviations", "Default");
	if (Transform_null_equals)
		pin_set("transform_null_equals", "off");
	if (!standard_conforming_strings)
		pin_set("standard_conforming_strings", "on");
}

void
pin_end(Pin *pin)
{
	AtEOXact_GUC(false, pin->nest_level);
	SetUserIdAndSecContext(pin->userid, pin->sec_context);
}
