/* SPDX-License-Identifier: MIT */
/*
 * Whether a volume has one box only. A write lease (fcntl(2), F_SETLEASE) on the volume's file `use` is granted while nobody else
 * has it open; who opens it then waits in open(2) until the lease is given up, at most /proc/sys/fs/lease-break-time (45 s).
 *
 *     alone       lease taken; replies say how long the guest may believe them, in believed_until_ns
 *     breaking    alone is false: no more of that is said. Waits for the replies under way, and until all that was said is over
 *     shared      lease given up; tried again now and then, which succeeds when the others have closed the file
 */
#include "server.h"

#include <fcntl.h>
#include <signal.h>
#include <time.h>

#include "base/io.h"

/* A guest counts from when it has read the reply, which is later than when we counted from. */
#define LATE_NS 250000000ull

static void pause_ns(uint64_t ns)
{
	struct timespec t = {(time_t)(ns / 1000000000), (long)(ns % 1000000000)};

	while (clock_nanosleep(CLOCK_MONOTONIC, 0, &t, &t) == EINTR)
		;
}

void lease_take(struct export *x)
{
	if (x->e.cache != FS_CACHE_VOLUME || x->e.use_fd < 0)
		return;
	if (fcntl(x->e.use_fd, F_SETLEASE, F_WRLCK) < 0)
		return;
	atomic_fetch_add(&x->alone_since, 1);
	atomic_store(&x->alone, true);
}

static void lease_give_up(struct export *x)
{
	uint64_t now, until;

	atomic_store(&x->alone, false);
	/* Those who read `alone` before have their reply out soon: nothing that waits for others counts there. */
	while (atomic_load(&x->granting))
		pause_ns(1000000);
	until = atomic_load(&x->believed_until_ns) + LATE_NS;
	while ((now = time_mono_ns()) < until)
		pause_ns(until - now);
	fcntl(x->e.use_fd, F_SETLEASE, F_UNLCK);
}

void lease_look(struct export *x)
{
	if (x->e.cache != FS_CACHE_VOLUME || x->e.use_fd < 0)
		return;
	pthread_mutex_lock(&x->lease_lock);
	if (!atomic_load(&x->alone))
		lease_take(x);
	else if (fcntl(x->e.use_fd, F_GETLEASE) !=
		 F_WRLCK) /* what it is to become, or lost after the time is over */
		lease_give_up(x);
	pthread_mutex_unlock(&x->lease_lock);
}

void fs_leases_look(struct fs_server *s)
{
	for (size_t i = 0; i < s->n_exports; i++)
		lease_look(&s->exports[i]);
}
