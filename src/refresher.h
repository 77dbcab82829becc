/*-------------------------------------------------------------------------
 *
 * refresher.h
 *	  The refresher: loads changed documents for the senders of one database.
 *
 * A background worker that is connected to the database, started by the
 * launcher when a sender asks for something, and ended when nobody has for a
 * while, or when a command needs the database for itself.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_REFRESHER_H
#define CACHEKIT_REFRESHER_H

extern PGDLLEXPORT void ck_refresher_main(Datum arg);

#endif							/* CACHEKIT_REFRESHER_H */
