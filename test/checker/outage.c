/*
 * outage.c
 *		What happens when the server goes away under the load.
 *
 * All state is under one mutex; `generation` counts the outages that are over,
 * which is what a waiting session waits for.
 */
#include <errno.h>
#include <pthread.h>
#include <time.h>

#include "control.h"
#include "outage.h"
#include "report.h"
#include "work.h"

/* A server that is not back after so long will not come back. */
#define GIVE_UP_SECONDS		120

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static atomic_bool noticed;		/* an outage, not over yet */
static atomic_bool stopped;		/* the load */
static int	away;				/* sessions without a connection, or ended */
static int	left;				/* of these, ended */
static int	generation;
static int	rests;				/* of these, those that were ordered */

static void
init_condition(void)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&changed, &attr);
	pthread_condattr_destroy(&attr);
}

static void
set_and_tell(atomic_bool *flag)
{
	pthread_once(&once, init_condition);
	pthread_mutex_lock(&mutex);
	atomic_store(flag, true);
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&mutex);
}

void
outage_notice(Session *s)
{
	if (!options.survive)
		report_fatal("session %d lost its connection: %s", s->number, s->message);
	set_and_tell(&noticed);
}

void
outage_rest(void)
{
	rests++;
	set_and_tell(&noticed);
}

bool
outage_noticed(void)
{
	return atomic_load(&noticed);
}

void
load_stop(void)
{
	set_and_tell(&stopped);
}

bool
load_stopped(void)
{
	return atomic_load(&stopped);
}

/* With neither of the flags given, waits for the whole time. */
static void
wait_for(int64_t ms, bool until_noticed, bool until_stopped)
{
	struct timespec until;

	pthread_once(&once, init_condition);
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += ms / 1000;
	until.tv_nsec += ms % 1000 * 1000000;
	if (until.tv_nsec >= 1000000000)
	{
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	pthread_mutex_lock(&mutex);
	while (!(until_noticed && noticed) && !(until_stopped && stopped))
		if (pthread_cond_timedwait(&changed, &mutex, &until) == ETIMEDOUT)
			break;
	pthread_mutex_unlock(&mutex);
}

void
load_wait(int64_t ms)
{
	wait_for(ms, true, true);
}

void
pause_ms(int ms)
{
	load_wait(ms);
}

void
outage_wait(Session *s)
{
	int			mine;

	session_close(s);
	pthread_mutex_lock(&mutex);
	mine = generation;
	away++;
	pthread_cond_broadcast(&changed);
	while (generation == mine)
		pthread_cond_wait(&changed, &mutex);
	pthread_mutex_unlock(&mutex);
	if (!session_open(s))
		outage_notice(s);		/* gone again: the next round comes back here */
}

void
outage_leave(void)
{
	pthread_once(&once, init_condition);
	pthread_mutex_lock(&mutex);
	away++;
	left++;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&mutex);
}

int
outages(void)
{
	return generation - rests;
}

/*
 * Called by the main thread.  "sessions" is the number of all threads that
 * call outage_wait or outage_leave.  What is to be done in the quiet before the
 * load goes on returns false if the connection was lost.
 */
void
outage_recover(Session *control, int sessions, bool (*in_quiet) (void))
{
	int64_t		give_up = now_ns() + GIVE_UP_SECONDS * INT64_C(1000000000);

	pthread_mutex_lock(&mutex);
	while (away < sessions)
		pthread_cond_wait(&changed, &mutex);
	pthread_mutex_unlock(&mutex);

	do
	{
		if (now_ns() > give_up)
			report_fatal("the server did not come back: %s", control->message);
		session_close(control);
		if (!session_open(control))
			wait_for(20, false, false);
	} while (control->conn == NULL ||
			 !control_wait_alone(control) ||
			 !control_truth(control) ||
			 !control_at_rest(control) ||
			 (in_quiet != NULL && !in_quiet()));

	pthread_mutex_lock(&mutex);
	away = left;
	generation++;
	atomic_store(&noticed, false);
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&mutex);
}
