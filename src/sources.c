/*-------------------------------------------------------------------------
 *
 * sources.c
 *	  What an entity is made of, and how rows of that lead to keys.
 *
 * A table is its own one source.  A view has those of its dependencies; what
 * it reads, in all the views below it, is looked for anew each time, and what
 * has no dependency is untracked: nobody would tell of its changes.
 *
 * Columns that neither the view nor a `via` query reads do not count when a
 * row changes.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "catalog/pg_attribute.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "debug.h"
#include "dependency.h"
#include "members.h"
#include "sources.h"
#include "via.h"
#include "view.h"

char *
sources_shape(const Entity *entity, Oid relid, List *names, KeyShape *shape)
{
	TupleDesc	row;
	ListCell   *cell;
	int			n = 0;

	shape->entity = entity->name;
	shape->encoded_len = strlen(entity->encoded_name);
	shape->n = list_length(names);
	shape->column = palloc0(sizeof(KeyColumn) * shape->n);
	row = CreateTemplateTupleDesc(shape->n);
	foreach(cell, names)
	{
		KeyColumn  *column = &shape->column[n++];
		HeapTuple	tuple = SearchSysCacheAttName(relid, lfirst(cell));
		Oid			type;
		Oid			collation;
		Oid			input;

		if (!HeapTupleIsValid(tuple))
			return psprintf("%s has no column \"%s\"",
							relid == entity->relid ? "it" : get_rel_name(relid),
							(char *) lfirst(cell));
		column->attnum = ((Form_pg_attribute) GETSTRUCT(tuple))->attnum;
		type = ((Form_pg_attribute) GETSTRUCT(tuple))->atttypid;
		collation = ((Form_pg_attribute) GETSTRUCT(tuple))->attcollation;
		ReleaseSysCache(tuple);
		namestrcpy(&column->name, lfirst(cell));
		column->type = getBaseType(type);
		column->kind = key_kind(column->type, collation);
		if (column->kind == KEY_UNSUPPORTED && CK_GUARD("key-types"))
			return psprintf("its key column \"%s\" is of type %s, which is no key type",
							(char *) lfirst(cell), format_type_be(type));
		if (column->kind == KEY_UNSUPPORTED)
			column->kind = KEY_TEXT;	/* only with the guard off */
		getTypeInputInfo(column->type, &input, &column->ioparam);
		fmgr_info_cxt(input, &column->input, entity->context);
		TupleDescInitEntry(row, (AttrNumber) n, lfirst(cell), column->type, -1, 0);
	}
	if (shape->n > 1)
		shape->row_typmod = BlessTupleDesc(row)->tdtypmod;
	return NULL;
}

/* Add columns of a relation, by name. */
static Bitmapset *
add_columns(Bitmapset *columns, Oid relid, List *names)
{
	ListCell   *cell;

	foreach(cell, names)
		columns = bms_add_member(columns, Max(0, get_attnum(relid, lfirst(cell))));
	return columns;
}

static void
build_table(Entity *entity, const EntityRow *row)
{
	EntitySource *source = entity->sources = palloc0(sizeof(EntitySource));

	entity->nsources = 1;
	source->base = entity->relid;
	source->members = members_of(entity->relid, NoLock);
	source->shape = entity->shape;
	if (row->columns != NIL)
		source->columns = add_columns(add_columns(NULL, entity->relid, row->columns),
									  entity->relid, row->key);
	entity->members = entity->reads = source->members;
}

/* ---------- views ---------- */

static ViewRead *
find_read(List *reads, Oid relid)
{
	ListCell   *cell;

	foreach(cell, reads)
	{
		if (((ViewRead *) lfirst(cell))->relid == relid)
			return lfirst(cell);
	}
	return NULL;
}

static bool
has_any(List *dependencies, Oid base)
{
	ListCell   *cell;

	foreach(cell, dependencies)
	{
		if (((DependencyRow *) lfirst(cell))->base == base)
			return true;
	}
	return false;
}

static bool
is_derived_key(const ViewRead *read, List *key)
{
	ListCell   *cell;

	foreach(cell, read->derived)
	{
		if (catalog_same_names(lfirst(cell), key))
			return true;
	}
	return false;
}

/*
 * Does somebody tell of every change of what the view reads there?  The user's
 * word goes; what attach() has derived must cover every occurrence in the view
 * as it is now.
 */
static bool
is_tracked(List *dependencies, const ViewRead *read)
{
	ListCell   *cell;

	foreach(cell, dependencies)
	{
		DependencyRow *dependency = lfirst(cell);

		/* a key that could have been derived says nothing about the other places */
		if (dependency->base == read->relid && !dependency->derived &&
			(dependency->via || !is_derived_key(read, dependency->key)))
			return true;
	}
	if (!read->complete)
		return false;
	foreach(cell, read->derived)
	{
		if (!dependencies_have(dependencies, read->relid, lfirst(cell)))
			return false;
	}
	return true;
}

static void
add_sentence(StringInfo to, const char *sentence)
{
	if (to->len > 0)
		appendStringInfoString(to, "; ");
	appendStringInfoString(to, sentence);
}

static void
find_untracked(List *dependencies, const ViewAnalysis *analysis, const char *by, StringInfo to)
{
	ListCell   *cell;

	foreach(cell, analysis->problems)
		add_sentence(to, lfirst(cell));
	foreach(cell, analysis->reads)
	{
		ViewRead   *read = lfirst(cell);
		bool		tracked = by ? has_any(dependencies, read->relid) : is_tracked(dependencies, read);

		if (!tracked && by == NULL && read->derived != NIL &&
			dependencies_have(dependencies, read->relid, linitial(read->derived)))
			add_sentence(to, psprintf("%s is read in several places, and has no dependency for some of them",
									  view_relation_name(read->relid)));
		else if (!tracked)
			add_sentence(to, psprintf("%s%s has no dependency", view_relation_name(read->relid),
									  by ? by : ""));
	}
}

/* Do values of the base's columns have the text that the key's have? */
static char *
compare_kinds(const Entity *entity, const EntitySource *source)
{
	for (int i = 0; i < source->shape.n; i++)
	{
		const KeyColumn *theirs = &source->shape.column[i];
		const KeyColumn *ours = &entity->shape.column[i];

		if (!key_kinds_match(ours->kind, ours->type, theirs->kind, theirs->type))
			return psprintf("column \"%s\" of %s is of type %s, and the key of type %s",
							NameStr(theirs->name), view_relation_name(source->base),
							format_type_be(theirs->type), format_type_be(ours->type));
	}
	return NULL;
}

/* A query runs as the owner of the entity: as nobody but the one who has given it. */
static bool
is_others(const Entity *entity, const DependencyRow *dependency)
{
	char	   *owner = GetUserNameFromId(entity->owner, true);

	return owner == NULL || dependency->owner == NULL || strcmp(owner, dependency->owner) != 0;
}

/* One dependency; NULL, or what is wrong with it. */
static char *
build_source(Entity *entity, EntitySource *source, const DependencyRow *dependency)
{
	char	   *problem;

	source->base = dependency->base;
	source->members = members_of(dependency->base, NoLock);
	if (dependency->via)
	{
		source->via = via_make(entity, dependency->base, dependency->query, false);
		entity->passing |= source->via->passing;
		if (source->via->problem == NULL && is_others(entity, dependency))
			source->via->problem = psprintf("its \"via\" query for %s was given when %s owned it",
											view_relation_name(source->base), dependency->owner);
		if (source->via->problem == NULL && source->via->analysis->refusal)
			source->via->problem = psprintf("its \"via\" query for %s: %s",
											view_relation_name(source->base),
											source->via->analysis->refusal);
		return source->via->problem;
	}
	if (list_length(dependency->key) != entity->shape.n)
		return psprintf("the dependency on %s has %d key columns, and the entity %d",
						view_relation_name(dependency->base), list_length(dependency->key),
						entity->shape.n);
	problem = sources_shape(entity, dependency->base, dependency->key, &source->shape);
	return problem ? problem : compare_kinds(entity, source);
}

/* Columns of a base that the view, a query, or a query's $1 goes by; NULL: all. */
static Bitmapset *
columns_that_count(const Entity *entity, const ViewAnalysis *analysis, Oid base)
{
	ViewRead   *read = find_read(analysis->reads, base);
	Bitmapset  *columns = read ? bms_copy(read->columns) : NULL;

	for (int i = 0; i < entity->nsources; i++)
	{
		EntitySource *source = &entity->sources[i];

		for (int k = 0; source->base == base && k < source->shape.n; k++)
			columns = bms_add_member(columns, source->shape.column[k].attnum);
		if (source->via == NULL)
			continue;
		if (source->via->problem)
			return NULL;
		if (source->base == base && source->via->whole_row)
			return NULL;
		if (source->base == base)
			columns = bms_add_members(columns, source->via->fields);
		read = find_read(source->via->analysis->reads, base);
		if (read)
			columns = bms_add_members(columns, read->columns);
	}
	return bms_is_member(0, columns) ? NULL : columns;
}

/* The view's own relations, for invalidation messages. */
static void
add_reads(Entity *entity, const ViewAnalysis *analysis)
{
	ListCell   *cell;

	foreach(cell, analysis->reads)
		entity->reads = list_append_unique_oid(entity->reads, ((ViewRead *) lfirst(cell))->relid);
	entity->reads = list_concat_unique_oid(entity->reads, analysis->views);
}

static char *
build_view(Entity *entity, const EntityRow *row)
{
	ViewAnalysis *analysis = view_analyse(entity->relid, row->key);
	List	   *dependencies = dependencies_of(entity->relid);
	StringInfoData untracked;
	char	   *problem = NULL;
	ListCell   *cell;

	initStringInfo(&untracked);
	entity->reads = list_make1_oid(entity->relid);
	add_reads(entity, analysis);
	entity->sources = palloc0(sizeof(EntitySource) * Max(1, list_length(dependencies)));
	find_untracked(dependencies, analysis, NULL, &untracked);
	foreach(cell, dependencies)
	{
		DependencyRow *dependency = lfirst(cell);
		EntitySource *source = &entity->sources[entity->nsources++];
		char	   *wrong = build_source(entity, source, dependency);

		entity->members = list_concat_unique_oid(entity->members, source->members);
		if (source->via && source->via->analysis)
		{
			add_reads(entity, source->via->analysis);
			find_untracked(dependencies, source->via->analysis,
						   psprintf(", which the \"via\" query for %s reads,",
									view_relation_name(source->base)), &untracked);
		}
		if (wrong)
		{
			/* its rows lead nobody knows where: any change is one of all */
			source->shape.n = 0;
			problem = problem ? problem : wrong;
		}
	}
	entity->reads = list_concat_unique_oid(entity->reads, entity->members);
	for (int i = 0; i < entity->nsources; i++)
	{
		EntitySource *source = &entity->sources[i];

		source->columns = columns_that_count(entity, analysis, source->base);
		entity->partitioned |= get_rel_relkind(source->base) == RELKIND_PARTITIONED_TABLE;
	}
	if (untracked.len > 0 && !row->allow_untracked)
		entity->untracked = untracked.data;
	if (row->redefined)
		problem = "its definition was changed by somebody who does not own it";
	if (analysis->forbidden && problem == NULL)
		problem = analysis->forbidden;
	if (analysis->refusal)
	{
		entity->row_security = true;
		problem = analysis->refusal;
	}
	return problem;
}

char *
sources_build(Entity *entity, const EntityRow *row)
{
	char	   *problem;
	bool		row_security = false;

	if (!entity->is_view)
		build_table(entity, row);
	problem = entity->is_view ? build_view(entity, row) : NULL;
	if (entity->shape.n == 0)
		return problem;			/* it cannot even be asked for */
	if (problem == NULL)
		problem = members_problem(entity->name, entity->members, &row_security);
	entity->row_security |= row_security;
	return problem;
}

List *
sources_bases(Oid relid)
{
	List	   *bases = NIL;
	ListCell   *cell;

	if (get_rel_relkind(relid) != RELKIND_VIEW)
		return list_make1_oid(relid);
	foreach(cell, dependencies_of(relid))
		bases = list_append_unique_oid(bases, ((DependencyRow *) lfirst(cell))->base);
	return bases;
}
