/*-------------------------------------------------------------------------
 *
 * tiers.h
 *	  What all ways to fetch do with the tiers, key by key.
 *
 * May a cache be used for a key; its answer from the local tier; storing what
 * was loaded under a token.  Whoever calls these keeps the order: token,
 * invalidation messages, snapshot, load, invalidation messages, store.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_TIERS_H
#define CACHEKIT_TIERS_H

#include "utils/jsonb.h"

#include "entity.h"
#include "requests.h"

/*
 * May a cache be used for a key?  False, with the reason counted, if the table
 * must be read and nothing be stored.  `rows` is how often the caller asks for
 * the key.  The tier key is NULL when the entity has no slot.
 */
extern bool tiers_usable(Entity *entity, const TierKey *key, const KeyText *text, uint64 rows);

/*
 * For what makes no sense without caches: an error ("cannot warm ...") unless this
 * session can use those of the entity.
 */
extern void tiers_require(Entity *entity, const char *verb);

/*
 * Store what was loaded under the token in the local tier, if the entity uses
 * it and the document may be stored.  NULL: there is no such row.
 */
extern bool tiers_store(const Entity *entity, const TierKey *key, const FenceToken *token,
						const Jsonb *document, int64 load_us);

/* The same for a moment, in the tier of an entity that does not use it: for who waits. */
extern void tiers_store_moment(const Entity *entity, const TierKey *key,
							   const FenceToken *token, const Jsonb *document);

/*
 * Hand what was loaded under the token to the entity's servers, and tell how
 * many of them did not take it.  `offer` is request_fill(), or something that
 * is more patient.
 */
typedef bool (*TiersOffer) (int server, const FillHead *head, const char *json, Size len);
extern int	tiers_fill(const Entity *entity, const TierKey *key, const FenceToken *token,
					   Jsonb *document, TiersOffer offer);

/* <entity>:<key>, as servers have it; its length. */
extern int	tiers_named(const Entity *entity, const char *key, char named[NAMED_KEY_SIZE]);

/*
 * May a server be asked for a document now?  It must be readable, and the marker
 * that it has be as far as the last change of the key, `needed`.
 */
extern bool tiers_may_ask(int server, XLogRecPtr needed);

/* Is it larger than documents of the entity may be? */
extern bool tiers_too_large(const Entity *entity, const Jsonb *document);

#endif							/* CACHEKIT_TIERS_H */
