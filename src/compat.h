/*-------------------------------------------------------------------------
 *
 * compat.h
 *	  The one place that knows PostgreSQL's versions.
 *
 * Every source file includes this header first.  cachekit builds on
 * PostgreSQL 15 to 18; whatever differs between them is hidden here, so that
 * no other file tests PG_VERSION_NUM.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_COMPAT_H
#define CACHEKIT_COMPAT_H

#include "postgres.h"

#if PG_VERSION_NUM < 150000
#error "cachekit needs PostgreSQL 15 or later"
#endif

/*
 * The library is compiled with -fvisibility=hidden, so that its functions
 * can neither collide with the server's nor with another library's (the
 * server loads libraries with RTLD_GLOBAL).  Before 16 the server's headers
 * do not mark what must stay visible.
 */
#if PG_VERSION_NUM < 160000
#undef PGDLLEXPORT
#define PGDLLEXPORT __attribute__((visibility("default")))
#endif

#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/proc.h"
#include "utils/acl.h"
#if PG_VERSION_NUM >= 170000
#include "utils/wait_event.h"
#endif

#if PG_VERSION_NUM < 160000
#undef PG_FUNCTION_INFO_V1
#define PG_FUNCTION_INFO_V1(funcname) \
extern PGDLLEXPORT Datum funcname(PG_FUNCTION_ARGS); \
extern PGDLLEXPORT const Pg_finfo_record * CppConcat(pg_finfo_,funcname)(void); \
const Pg_finfo_record * \
CppConcat(pg_finfo_,funcname) (void) \
{ \
	static const Pg_finfo_record my_finfo = { 1 }; \
	return &my_finfo; \
} \
extern int no_such_variable
#endif

/* Ownership and privilege checks were unified in 16. */
#if PG_VERSION_NUM < 160000
#define compat_owns_relation(relid, roleid) \
	pg_class_ownercheck(relid, roleid)
#define compat_owns_type(type, roleid) \
	pg_type_ownercheck(type, roleid)
#define compat_owns_database(dboid, roleid) \
	pg_database_ownercheck(dboid, roleid)
#define compat_schema_usage(nspid, roleid) \
	(pg_namespace_aclcheck(nspid, roleid, ACL_USAGE) == ACLCHECK_OK)
#define compat_server_usage(serverid, roleid) \
	(pg_foreign_server_aclcheck(serverid, roleid, ACL_USAGE) == ACLCHECK_OK)
#else
#define compat_owns_relation(relid, roleid) \
	object_ownercheck(RelationRelationId, relid, roleid)
#define compat_owns_type(type, roleid) \
	object_ownercheck(TypeRelationId, type, roleid)
#define compat_owns_database(dboid, roleid) \
	object_ownercheck(DatabaseRelationId, dboid, roleid)
#define compat_schema_usage(nspid, roleid) \
	(object_aclcheck(NamespaceRelationId, nspid, roleid, ACL_USAGE) == ACLCHECK_OK)
#define compat_server_usage(serverid, roleid) \
	(object_aclcheck(ForeignServerRelationId, serverid, roleid, ACL_USAGE) == ACLCHECK_OK)
#endif

/* Deferrable primary keys were told apart in 18; needs utils/rel.h. */
#if PG_VERSION_NUM < 180000
#define compat_primary_key_index(rel)	RelationGetPrimaryKeyIndex(rel)
#else
#define compat_primary_key_index(rel)	RelationGetPrimaryKeyIndex(rel, false)
#endif

/* A small number that differs between the backends of a cluster. */
#if PG_VERSION_NUM < 170000
#define compat_proc_number()	((uint32) MyBackendId)
#else
#define compat_proc_number()	((uint32) MyProcNumber)
#endif

/* This backend's number among at most MaxBackends, from 0. */
#if PG_VERSION_NUM < 170000
#define compat_backend_index()	((int) MyBackendId - 1)
#else
#define compat_backend_index()	((int) MyProcNumber)
#endif

/* Logical messages can be flushed by the call since 17. */
#if PG_VERSION_NUM < 170000
#define compat_log_message(prefix, message, size, transactional) \
	LogLogicalMessage(prefix, message, size, transactional)
#else
#define compat_log_message(prefix, message, size, transactional) \
	LogLogicalMessage(prefix, message, size, transactional, false)
#endif

/* Creating a slot got more arguments in 17 (failover, synced); needs replication/slot.h. */
#if PG_VERSION_NUM < 170000
#define compat_create_physical_slot(name) \
	ReplicationSlotCreate(name, false, RS_PERSISTENT, false)
#else
#define compat_create_physical_slot(name) \
	ReplicationSlotCreate(name, false, RS_PERSISTENT, false, false, false)
#endif

/* A set of wait events belongs to a resource owner since 17; needs storage/latch.h. */
#if PG_VERSION_NUM < 170000
#define compat_create_wait_event_set(n)	CreateWaitEventSet(TopMemoryContext, n)
#else
#define compat_create_wait_event_set(n)	CreateWaitEventSet(NULL, n)
#endif

/* Extensions name their own wait events since 17. */
#if PG_VERSION_NUM < 170000
#define compat_wait_event(name)	PG_WAIT_EXTENSION
#else
#define compat_wait_event(name)	WaitEventExtensionNew(name)
#endif

/* Virtual generated columns came with 18. */
#if PG_VERSION_NUM >= 180000
#define compat_is_virtual(att)	((att)->attgenerated == ATTRIBUTE_GENERATED_VIRTUAL)
#else
#define compat_is_virtual(att)	false
#endif

/* Which columns a query reads of a relation moved in 16; needs parser/parse_relation.h. */
#if PG_VERSION_NUM < 160000
#define compat_selected_columns(query, rte)	((rte)->selectedCols)
#else
#define compat_selected_columns(query, rte) \
	((rte)->perminfoindex == 0 ? NULL : \
	 getRTEPermissionInfo((query)->rteperminfos, rte)->selectedCols)
#endif

/* Since 18, columns of GROUP BY are those of a range table entry of their own. */
#if PG_VERSION_NUM < 180000
#define compat_group_columns(rte)	NIL
#else
#define compat_group_columns(rte)	((rte)->rtekind == RTE_GROUP ? (rte)->groupexprs : NIL)
#endif

/* SQL/JSON: constructors came with 16, query functions with 17. */
#if PG_VERSION_NUM < 160000
#define compat_json_constructor_args(node)	NIL
#else
#define compat_json_constructor_args(node) \
	(IsA(node, JsonConstructorExpr) ? ((JsonConstructorExpr *) (node))->args : NIL)
#endif
#if PG_VERSION_NUM < 170000
#define compat_is_json_query(node)	false
#else
#define compat_is_json_query(node)	IsA(node, JsonExpr)
#endif

#endif							/* CACHEKIT_COMPAT_H */
