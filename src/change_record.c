/*-------------------------------------------------------------------------
 *
 * change_record.c
 *	  From the change set to the change record.
 *
 * One record for all that a transaction has changed, written at PRE_COMMIT when
 * the fences are raised; what comes later has a record of its own.  Each entity
 * stands in it under every name, and for every set of servers, that it has had
 * in this transaction.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "catalog.h"
#include "change_set.h"
#include "debug.h"
#include "record.h"
#include "sync_wait.h"

/* Sections for the keys of an entity, under each of its names. */
static void
record_keys_of(RecordWriter *writer, ChangedEntity *entity)
{
	for (ChangedTarget *target = entity->targets; target; target = target->next)
	{
		record_section(writer, target->kind, target->servers, target->nservers, entity->relid,
					   target->name);
		sync_wait_note(target->servers, target->nservers);
		for (int i = 0; i < change_set.nkeys; i++)
		{
			if (change_set.key[i]->entity == entity)
				record_key(writer, change_set.key[i]->text, change_set.key[i]->len);
		}
	}
}

static void
record_whole(RecordWriter *writer, ChangedEntity *entity)
{
	for (ChangedTarget *target = entity->targets; target; target = target->next)
	{
		record_section(writer, RECORD_ENTITY, target->servers, target->nservers, InvalidOid,
					   target->name);
		sync_wait_note(target->servers, target->nservers);
	}
}

/* Write what senders have to know; nothing if no server is concerned. */
void
change_record_write(void)
{
	RecordWriter writer;
	MemoryContext old = MemoryContextSwitchTo(change_set.context ? change_set.context : CurrentMemoryContext);

	record_begin(&writer);
	if (change_set.database && catalog_has_servers())
	{
		record_section(&writer, RECORD_DATABASE, NULL, 0, InvalidOid, "");
		sync_wait_note_all();
	}
	for (ChangedEntity *entity = change_set.entities; entity; entity = entity->next)
	{
		if (entity->targets == NULL)
			continue;
		if (entity->whole)
			record_whole(&writer, entity);
		/* also without keys: fills have to wait for a commit whose links were raised */
		else if (entity->keys > 0 || (entity->rows > 0 && CK_GUARD("links-record")))
			record_keys_of(&writer, entity);
	}
	if (record_end(&writer) != InvalidXLogRecPtr)
		change_set.recorded = true;
	MemoryContextSwitchTo(old);
}

void
change_record_late(ChangedEntity *entity, ChangedKey *key)
{
	RecordWriter writer;

	if (entity->targets == NULL)
		return;
	record_begin(&writer);
	for (ChangedTarget *target = entity->targets; target; target = target->next)
	{
		record_section(&writer, key ? target->kind : RECORD_ENTITY, target->servers,
					   target->nservers, entity->relid, target->name);
		sync_wait_note(target->servers, target->nservers);
		if (key)
			record_key(&writer, key->text, key->len);
	}
	record_end(&writer);
	change_set.recorded = true;
}

void
change_record_late_database(void)
{
	RecordWriter writer;

	if (!catalog_has_servers())
		return;
	record_begin(&writer);
	record_section(&writer, RECORD_DATABASE, NULL, 0, InvalidOid, "");
	sync_wait_note_all();
	record_end(&writer);
	change_set.recorded = true;
}
