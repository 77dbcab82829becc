/*-------------------------------------------------------------------------
 *
 * shmem.h
 *	  Shared memory of all modules: requested and set up in one place.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CACHEKIT_SHMEM_H
#define CACHEKIT_SHMEM_H

/* Register the hooks; called while the library is being preloaded. */
extern void shmem_install_hooks(void);

/*
 * Is the library's shared memory there?  Not without shared_preload_libraries:
 * then there is no local tier and no fence, and every fetch reads its table.
 */
extern bool shmem_ready(void);

#endif							/* CACHEKIT_SHMEM_H */
