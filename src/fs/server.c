/* SPDX-License-Identifier: MIT */
#include "server.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <time.h>

static void init_locks(struct fs_server *s)
{
	pthread_mutex_init(&s->lock, NULL);
	pthread_mutex_init(&s->run_lock, NULL);
	pthread_mutex_init(&s->sync_lock, NULL);
	pthread_mutex_init(&s->posix_lock, NULL);
	for (size_t i = 0; i < NODE_STRIPES; i++)
		pthread_mutex_init(&s->stripes[i], NULL);
	for (size_t i = 0; i < s->n_exports; i++)
		pthread_mutex_init(&s->exports[i].lease_lock, NULL);
	pthread_cond_init(&s->idle_cond, NULL);
}

int fs_server_new(const struct fs_export *exports, size_t n, int proc_fd, unsigned max_fds,
	struct fs_server **ret, struct err *e)
{
	struct fs_server *s;
	sigset_t io;
	int r;

	if (n > FS_EXPORTS_MAX)
		return err_set(e, -E2BIG, "cannot serve %zu folders: at most %d", n, FS_EXPORTS_MAX);
	if (!(s = calloc(1, sizeof(*s))) || !(s->exports = calloc(n ? n : 1, sizeof(*s->exports)))) {
		free(s);
		return err_oom(e);
	}
	s->proc_fd = proc_fd;
	s->user = geteuid();
	s->max_fds = max_fds ? max_fds : 1;
	s->n_exports = n;
	for (size_t i = 0; i < n; i++)
		s->exports[i].e = exports[i];
	init_locks(s);
	r = watches_init(s);
	if (r == 0)
		r = nodes_init(s);
	if (r < 0) {
		err_sys(e, r, "cannot serve the folders of the box");
		goto fail;
	}
	if (fchdir(proc_fd) < 0) {
		r = err_sys(e, -errno, "cannot enter /proc/self/fd");
		goto fail;
	}
	/* Modes are as they are asked for. */
	umask(0);
	/* A lease's signal has no handler: unblocked it would end the process. */
	sigemptyset(&io);
	sigaddset(&io, SIGIO);
	pthread_sigmask(SIG_BLOCK, &io, NULL);
	for (size_t i = 0; i < n; i++) {
		/* With a signal of its own choice the kernel queues it, and says which descriptor it is about. */
		if (exports[i].use_fd >= 0)
			(void)fcntl(exports[i].use_fd, F_SETSIG, SIGIO);
		lease_take(&s->exports[i]);
	}
	*ret = s;
	return 0;
fail:
	for (size_t i = 0; i < n; i++) /* the caller keeps what it gave */
		s->exports[i].e.fd = s->exports[i].e.use_fd = -1;
	fs_server_free(s);
	return r;
}

void forget_all(struct fs_server *s)
{
	handles_reset(s);
	watches_reset(s);
	if (s->by_id && s->by_key)
		nodes_reset(s);
	for (size_t i = 0; i < s->n_exports; i++)
		if (s->exports[i].node)
			locks_drop_all(s, s->exports[i].node);
}

void fs_reset(struct fs_server *s)
{
	pthread_mutex_lock(&s->run_lock);
	atomic_store(&s->ending, true);
	locks_wake(s);
	watches_wake(s);
	while (s->active)
		pthread_cond_wait(&s->idle_cond, &s->run_lock);
	pthread_mutex_unlock(&s->run_lock);

	atomic_store(&s->ready, false);
	forget_all(s);

	pthread_mutex_lock(&s->run_lock);
	atomic_store(&s->ending, false);
	pthread_mutex_unlock(&s->run_lock);
}

void fs_server_limit(struct fs_server *s, size_t nodes)
{
	s->max_nodes = MIN_OF(nodes, (size_t)NODES_MAX);
}

void fs_server_free(struct fs_server *s)
{
	if (!s)
		return;
	fs_reset(s);
	nodes_done(s);
	watches_done(s);
	for (size_t i = 0; i < s->n_exports; i++) {
		close_fd(&s->exports[i].e.fd);
		close_fd(&s->exports[i].e.use_fd);
		pthread_mutex_destroy(&s->exports[i].lease_lock);
	}
	pthread_mutex_destroy(&s->lock);
	pthread_mutex_destroy(&s->run_lock);
	pthread_mutex_destroy(&s->sync_lock);
	pthread_mutex_destroy(&s->posix_lock);
	for (size_t i = 0; i < NODE_STRIPES; i++)
		pthread_mutex_destroy(&s->stripes[i]);
	pthread_cond_destroy(&s->idle_cond);
	free(s->exports);
	free(s);
}
