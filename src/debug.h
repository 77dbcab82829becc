/*-------------------------------------------------------------------------
 *
 * debug.h
 *	  Switching guards off and standing between steps, in debug builds.
 *
 * A guard is a rule of the protocol that a test must be able to switch off,
 * to see that it fails then; a step is a point at which a test wants to hold
 * a session.  Both have names:
 *
 *	  SET cachekit.debug_disable = 'own-xid, late-lower';
 *	  SET cachekit.debug_stop = 'load-done';
 *
 * A session that reaches a named step takes and releases, in share mode, the
 * advisory lock pg_advisory_lock(hashtext('cachekit.' || step)); a test that
 * holds this lock decides how long it waits, and isolationtester sees that it
 * does.  In release builds CK_GUARD is the constant true and CK_STOP nothing.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_DEBUG_H
#define CACHEKIT_DEBUG_H

#ifdef CACHEKIT_DEBUG
extern bool debug_guard(const char *name);
extern void debug_stop(const char *step);
extern void debug_define_settings(void);

#define CK_GUARD(name)	debug_guard(name)
#define CK_STOP(step)	debug_stop(step)
#else
#define CK_GUARD(name)	true
#define CK_STOP(step)	((void) 0)
#define debug_define_settings() ((void) 0)
#endif

#endif							/* CACHEKIT_DEBUG_H */
