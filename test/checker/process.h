/*
 * process.h
 *		The cache servers that a run starts: their folder, their processes.
 *
 * Only the main thread may call these functions; what does not work is fatal.
 * When the checker dies, they die with it.
 */
#ifndef PROCESS_H
#define PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define ANSWER_SECONDS	10		/* the longest wait for a start or a command */

/* makes a folder below $TMPDIR */
extern void process_folder(char *folder, size_t size);

/* a program of the search path, with the words of its command line */
extern pid_t process_start(const char *const *argv, const char *log);

/* has it ended by itself? */
extern bool process_ended(pid_t pid);

extern void process_signal(pid_t pid, int signal);
extern void process_kill(pid_t pid);

#endif							/* PROCESS_H */
