/*-------------------------------------------------------------------------
 *
 * debug.h
 *	  Switching guards off and standing between steps, in debug builds.
 *
 * A guard is a rule of the protocol that a test must be able to switch off,
 * to see that it fails then; a step is a point at which a test wants to hold
 * a process, or to end it.  Both have names:
 *
 *	  SET cachekit.debug_disable = 'own-xid, late-lower';
 *	  SET cachekit.debug_stop = 'load-done';
 *
 * A process that reaches a named step takes and releases, in share mode, the
 * advisory lock pg_advisory_lock(hashtext('cachekit.' || step)) of its database;
 * a test that holds this lock decides how long it waits, and isolationtester
 * sees that it does.  In place of that it can
 *
 *	  'recorded:error'		raise an error, where that is allowed
 *	  'recorded:exit'		end, as by FATAL
 *	  'recorded:crash'		end at once, as by kill -9
 *
 * while the lock is held: so what comes after a crash, with the same settings,
 * goes on.  Workers have the settings of the configuration, and the lock is
 * that of the database that they work for; 'sent@hot' is the step "sent" of the
 * sender of the server "hot" only.  SHOW cachekit.debug_in_use tells what must be
 * given back, for tests that look for leaks.  In release builds CK_GUARD is the
 * constant true and CK_STOP nothing.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_DEBUG_H
#define CACHEKIT_DEBUG_H

#ifdef CACHEKIT_DEBUG
extern bool debug_guard(const char *name);
extern void debug_stop(const char *step);
extern void debug_serve(Oid dboid, const char *name);
extern void debug_define_settings(void);

#define CK_GUARD(name)	debug_guard(name)
#define CK_STOP(step)	debug_stop(step)
/* Of a worker: from now on it works for this server. */
#define CK_SERVE(dboid, name)	debug_serve(dboid, name)
#else
#define CK_GUARD(name)	true
#define CK_STOP(step)	((void) 0)
#define CK_SERVE(dboid, name)	((void) 0)
#define debug_define_settings() ((void) 0)
#endif

#endif							/* CACHEKIT_DEBUG_H */
