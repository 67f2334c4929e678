/* SPDX-License-Identifier: MIT */
#include "base/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"

enum { FDS_MAX = 320, NOBODY = 65534 };

/* One attempt to start the child. Everything that needs memory is made before the child exists. */
struct attempt {
	const struct proc_opts *o;
	unsigned namespaces;
	int parent_fd; /* pidfd of this process */
	int report_fd;
	char uid_map[40], gid_map[40];
};

/* What the child says before it becomes the program: nothing, if all is well. */
struct report {
	bool landlock; /* only this failed, and the child goes on without */
	int error;     /* errno */
};

/*
 * In the child: moves the wanted descriptors to their numbers. All targets are below `high`; *keep goes
 * above.
 */
static int place_fds(const struct proc_opts *o, int *const keep[], size_t n_keep)
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
	for (size_t i = 0; i < n_keep; i++) {
		int fd = *keep[i] < 0 ? -1 : fcntl(*keep[i], F_DUPFD_CLOEXEC, high);
		if (fd < 0 && *keep[i] >= 0)
			return -1;
		*keep[i] = fd;
	}
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
	return 0;
}

static int write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	ssize_t n = write(fd, text, strlen(text));
	int saved = errno;
	close(fd);
	errno = saved;
	return n < 0 ? -1 : 0;
}

/*
 * In the child: who it is in its new user namespace (user_namespaces(7), "User and group ID mappings").
 * Without privileges over the old one, only its own IDs can be mapped, and setgroups must be given up first.
 */
static int map_ids(const struct attempt *a)
{
	if (write_text("/proc/self/setgroups", "deny") < 0 ||
		write_text("/proc/self/uid_map", a->uid_map) < 0 ||
		write_text("/proc/self/gid_map", a->gid_map) < 0)
		return -1;
	/*
	 * A namespace below this one would give it capabilities again, and with them more of the kernel to
	 * attack. A container's /proc/sys is often read-only: then it stays possible.
	 */
	(void)write_text("/proc/sys/user/max_user_namespaces", "0");
	return 0;
}

int proc_drop_capabilities(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};

	/*
	 * Who lacks CAP_SETPCAP may not shrink the bounding set, and has nothing to get out of it but by
	 * no_new_privs off.
	 */
	(void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	for (unsigned long cap = 0; prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) == 0; cap++)
		;
	return syscall(SYS_capset, &head, none) < 0 ? -errno : 0;
}

/* In the child: what it is as a process. */
static int become(const struct attempt *a)
{
	const struct proc_opts *o = a->o;

	for (int sig = 1; sig < NSIG; sig++)
		signal(sig, SIG_DFL);
	if (a->namespaces & CLONE_NEWUSER && map_ids(a) < 0)
		return -1;
	if (o->new_session)
		setsid();
	if (o->confine && !o->confine->capabilities && proc_drop_capabilities() < 0)
		return -1;
	if (o->die_with_parent) {
		if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
			return -1;
		/*
		 * It may have died before the request was in place. getppid is always 0 across PID
		 * namespaces.
		 */
		struct pollfd p = {.fd = a->parent_fd, .events = POLLIN};
		if (poll(&p, 1, 0) != 0)
			_exit(127);
	}
	return o->no_new_privs ? prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) : 0;
}

static void child_main(const struct attempt *a)
{
	const struct proc_opts *o = a->o;
	int report_fd = a->report_fd, landlock_fd = o->confine ? o->confine->landlock_fd : -1;
	int *const keep[] = {&report_fd, &landlock_fd};
	struct report rep = {0};
	sigset_t none;

	if (become(a) < 0 || (o->cwd && chdir(o->cwd) < 0) || place_fds(o, keep, ARRAY_LEN(keep)) < 0)
		goto fail;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	/* Last: what has been opened so far need not be in the ruleset. */
	if (landlock_fd >= 0 && syscall(SYS_landlock_restrict_self, landlock_fd, 0) < 0) {
		rep = (struct report){.landlock = true, .error = errno};
		if (write(report_fd, &rep, sizeof(rep)) < 0)
			_exit(126);
	}
	if (o->confine && o->confine->filter &&
		syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, o->confine->filter) < 0)
		goto fail;
	/* exec does not change the strings; its prototype is older than const. */
	if (o->envp)
		execvpe(o->path, (char *const *)o->argv, (char *const *)o->envp);
	else
		execvp(o->path, (char *const *)o->argv);
fail:
	rep = (struct report){.error = errno};
	if (write(report_fd, &rep, sizeof(rep)) < 0)
		_exit(126);
	_exit(127);
}

/*
 * A PID namespace holds only what is made in it, so it takes clone(2) itself. Without a stack that is fork,
 * but for the C library's part in it, which the child does not need: until exec it calls nothing that takes
 * one of the library's locks. All arguments after the flags are 0 because their order differs between
 * architectures.
 */
static pid_t fork_into(unsigned namespaces)
{
	return namespaces ? (pid_t)syscall(SYS_clone, (unsigned long)namespaces | SIGCHLD, 0, 0, 0, 0)
			  : fork();
}

/* Returns the PID, or -errno with no child left. */
static pid_t attempt_run(struct attempt *a)
{
	int pipe_fds[2], status;
	struct report rep;
	sigset_t all, old;

	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return -errno;
	CLEANUP_CLOSE int rd = pipe_fds[0];
	CLEANUP_CLOSE int wr = pipe_fds[1];

	a->report_fd = wr;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &old);
	pid_t pid = fork_into(a->namespaces);
	if (pid == 0)
		child_main(a);
	int saved = errno;
	sigprocmask(SIG_SETMASK, &old, NULL);
	if (pid < 0)
		return -saved;

	close_fd(&wr);
	while (io_read_full(rd, &rep, sizeof(rep)) == (ssize_t)sizeof(rep)) {
		if (!rep.landlock) {
			proc_wait(pid, &status);
			return -rep.error;
		}
		a->o->confine->landlock_error = -rep.error;
	}
	return pid;
}

/* As many of the namespaces as the host permits: whatever fails is tried again with fewer. */
static pid_t attempt_all(struct attempt *a)
{
	struct proc_confine *c = a->o->confine;
	const unsigned wanted = c ? c->namespaces : 0;
	const unsigned sets[] = {wanted, wanted & ~(unsigned)CLONE_NEWUSER, 0};
	pid_t pid = -EINVAL;

	if (c)
		c->namespaces_error = c->landlock_error = 0;
	for (size_t i = 0; i < ARRAY_LEN(sets); i++) {
		if (i && sets[i] == sets[i - 1])
			continue;
		a->namespaces = sets[i];
		pid = attempt_run(a);
		if (pid >= 0)
			break;
		if (c && c->namespaces_error == 0)
			c->namespaces_error = pid;
	}
	if (c)
		c->got = a->namespaces;
	return pid;
}

/* User 0 is who keeps all capabilities over exec (capabilities(7)); any other has none after it. */
static unsigned id_inside(const struct proc_confine *c, unsigned id)
{
	return c->capabilities ? 0 : id ? id : NOBODY;
}

pid_t proc_spawn(const struct proc_opts *o, int *ret_pidfd)
{
	CLEANUP_CLOSE int self = -1;
	int status;

	if (o->n_fds > FDS_MAX)
		return -E2BIG;
	if (o->die_with_parent) {
		self = (int)syscall(SYS_pidfd_open, getpid(), 0);
		if (self < 0)
			return -errno;
	}
	struct attempt a = {.o = o, .parent_fd = self};
	if (o->confine) {
		unsigned uid = geteuid(), gid = getegid();
		snprintf(a.uid_map, sizeof(a.uid_map), "%u %u 1", id_inside(o->confine, uid), uid);
		snprintf(a.gid_map, sizeof(a.gid_map), "%u %u 1", id_inside(o->confine, gid), gid);
	}
	pid_t pid = attempt_all(&a);
	if (pid < 0 || !ret_pidfd)
		return pid;
	*ret_pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (*ret_pidfd < 0) {
		int r = -errno;
		kill(pid, SIGKILL);
		proc_wait(pid, &status);
		return r;
	}
	io_set_cloexec(*ret_pidfd, true);
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
