/*-------------------------------------------------------------------------
 *
 * document.h
 *	  Documents as they stand on cache servers: JSON text in UTF-8.
 *
 * Neither way is a fault of the query's that asks, so neither raises errors.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_DOCUMENT_H
#define CACHEKIT_DOCUMENT_H

#include "utils/jsonb.h"

/* The text of a document; NULL if it has no form in UTF-8. */
extern char *document_to_text(Jsonb *document);

/*
 * The document of a text, which ends in a zero byte beside its length; NULL if
 * it is none.  Anybody may have written it.
 */
extern Jsonb *document_from_text(char *text, Size len);

#endif							/* CACHEKIT_DOCUMENT_H */
