/*
 * process.c
 *		The cache servers that a run starts: their folder, their processes.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "process.h"
#include "report.h"

#define PATIENCE	100			/* looks at a process that was killed, 10 ms apart */

void
process_folder(char *folder, size_t size)
{
	const char *parent = getenv("TMPDIR");

	snprintf(folder, size, "%s/checker.XXXXXX", parent != NULL ? parent : "/tmp");
	if (mkdtemp(folder) == NULL)
		report_fatal("could not make the folder %s: %s", folder, strerror(errno));
}

pid_t
process_start(const char *const *argv, const char *log)
{
	pid_t		pid = fork();

	if (pid < 0)
		report_fatal("could not fork: %s", strerror(errno));
	if (pid == 0)
	{
		int			null = open("/dev/null", O_RDONLY);
		int			out = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(null, STDIN_FILENO);
		dup2(out, STDOUT_FILENO);
		dup2(out, STDERR_FILENO);
		execvp(argv[0], (char *const *) argv);
		_exit(127);
	}
	return pid;
}

bool
process_ended(pid_t pid)
{
	return waitpid(pid, NULL, WNOHANG) == pid;
}

void
process_signal(pid_t pid, int signal)
{
	if (kill(pid, signal) != 0)
		report_fatal("could not send signal %d to a cache server: %s", signal, strerror(errno));
}

/*
 * On a busy machine the end of a process can take many seconds, in which it
 * does nothing any more; so that is not waited for.
 */
void
process_kill(pid_t pid)
{
	process_signal(pid, SIGKILL);
	for (int i = 0; i < PATIENCE && !process_ended(pid); i++)
		nanosleep(&(struct timespec) {.tv_nsec = 10000000}, NULL);
}
