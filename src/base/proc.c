/* SPDX-License-Identifier: MIT */
#include "base/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"

enum { FDS_MAX = 16 };

/* In the child: moves the wanted descriptors to their numbers. All targets are below `high`. */
static int place_fds(const struct proc_opts *o, int err_fd)
{
	int tmp[FDS_MAX], high = 3;
	bool std[3] = {false};

	for (size_t i = 0; i < o->n_fds; i++) {
		if (o->fds[i].to >= high)
			high = o->fds[i].to + 1;
		if (o->fds[i].to <= 2)
			std[o->fds[i].to] = true;
	}
	/* First out of the way of all targets, then into place: the order of the list cannot matter. */
	int efd = fcntl(err_fd, F_DUPFD_CLOEXEC, high);
	if (efd < 0)
		return -1;
	for (size_t i = 0; i < o->n_fds; i++) {
		tmp[i] = fcntl(o->fds[i].from, F_DUPFD_CLOEXEC, high);
		if (tmp[i] < 0)
			return -1;
	}
	for (size_t i = 0; i < o->n_fds; i++) {
		if (dup2(tmp[i], o->fds[i].to) < 0)
			return -1;
	}
	for (int fd = 0; fd < 3; fd++) {
		if (std[fd])
			continue;
		int null = open("/dev/null", O_RDWR | O_CLOEXEC);
		if (null < 0 || (null != fd && dup2(null, fd) < 0))
			return -1;
		if (null == fd)
			fcntl(fd, F_SETFD, 0);
	}
	/* Everything but the targets goes at exec; descriptors 3..high-1 that are no target included. */
	for (int fd = 3; fd < high; fd++) {
		bool wanted = false;
		for (size_t i = 0; i < o->n_fds; i++)
			wanted |= o->fds[i].to == fd;
		if (!wanted)
			close(fd);
	}
	syscall(SYS_close_range, (unsigned)high, UINT_MAX, CLOSE_RANGE_CLOEXEC);
	return efd;
}

static void child_main(const struct proc_opts *o, pid_t parent, int err_fd)
{
	int efd = err_fd;

	for (int sig = 1; sig < NSIG; sig++)
		signal(sig, SIG_DFL);
	if (o->new_session)
		setsid();
	if (o->die_with_parent) {
		if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
			goto fail;
		if (getppid() != parent)
			_exit(127); /* it died before the request was in place */
	}
	if (o->no_new_privs && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		goto fail;
	int moved = place_fds(o, err_fd);
	if (moved < 0)
		goto fail;
	efd = moved;
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	/* exec does not change the strings; its prototype is older than const. */
	if (o->envp)
		execvpe(o->path, (char *const *)o->argv, (char *const *)o->envp);
	else
		execvp(o->path, (char *const *)o->argv);
fail:;
	int code = errno;
	if (write(efd, &code, sizeof(code)) < 0)
		_exit(126);
	_exit(127);
}

pid_t proc_spawn(const struct proc_opts *o, int *ret_pidfd)
{
	int pipe_fds[2];
	sigset_t all, old;

	if (o->n_fds > FDS_MAX)
		return -E2BIG;
	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return -errno;
	CLEANUP_CLOSE int rd = pipe_fds[0];
	CLEANUP_CLOSE int wr = pipe_fds[1];

	pid_t parent = getpid();
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &old);
	pid_t pid = fork();
	if (pid == 0)
		child_main(o, parent, wr);
	int saved = errno;
	sigprocmask(SIG_SETMASK, &old, NULL);
	if (pid < 0)
		return -saved;

	close_fd(&wr);
	int code;
	ssize_t n = io_read_full(rd, &code, sizeof(code));
	if (n == (ssize_t)sizeof(code)) {
		proc_wait(pid, &saved);
		return -code;
	}
	if (ret_pidfd) {
		*ret_pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
		if (*ret_pidfd < 0) {
			int r = -errno;
			kill(pid, SIGKILL);
			proc_wait(pid, &saved);
			return r;
		}
		io_set_cloexec(*ret_pidfd, true);
	}
	return pid;
}

int proc_wait(pid_t pid, int *status)
{
	while (waitpid(pid, status, 0) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	return 0;
}

int proc_status_code(int wait_status)
{
	return WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
}

void proc_raise_descriptor_limit(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) == 0) {
		l.rlim_cur = l.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &l);
	}
}

char *proc_self_dir(void)
{
	char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
	if (n <= 0)
		return NULL;
	path[n] = '\0';
	char *slash = strrchr(path, '/');
	if (!slash)
		return NULL;
	*(slash == path ? slash + 1 : slash) = '\0';
	return strdup(path);
}
