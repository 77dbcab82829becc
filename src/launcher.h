/*-------------------------------------------------------------------------
 *
 * launcher.h
 *	  The launcher: knows every database's servers, keeps their senders alive.
 *
 * Four kinds of background workers: one launcher, registered when the library
 * is preloaded; for each server a sender; for moments a scanner, which connects
 * to one database and publishes the servers that its catalog has; and for each
 * database whose changed documents are to be loaded again a refresher, while
 * that is so.  Launcher and senders are connected to no database.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_LAUNCHER_H
#define CACHEKIT_LAUNCHER_H

extern void launcher_register(void);

extern PGDLLEXPORT void ck_launcher_main(Datum arg);
extern PGDLLEXPORT void ck_scanner_main(Datum arg);

#endif							/* CACHEKIT_LAUNCHER_H */
