/* SPDX-License-Identifier: MIT */
/* The file server as the supervisor sees it: its child, which it starts with all that it needs and knows by a few words. */
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/io.h"
#include "base/log.h"
#include "base/proc.h"
#include "fs/protocol.h"

enum { END_LIMIT_MS = 5000, OPTION_MAX = 40, FIXED_ARGS = 5 /* the program, a name, --root, --nodes */ };

#define NODE_GUEST_BYTES 1024u
#define NODES_MIN	 65536u

struct launch {
	struct proc_fd fds[FS_FD_EXPORTS + 2 * FS_EXPORTS_MAX];
	size_t n_fds;
	char options[FS_EXPORTS_MAX][OPTION_MAX], nodes[OPTION_MAX];
	const char *argv[FIXED_ARGS + FS_EXPORTS_MAX + 1];
};

static void give(struct launch *a, int from, int to)
{
	a->fds[a->n_fds++] = (struct proc_fd){from, to};
}

static void fill(struct launch *a, const struct fs_launch *l)
{
	int next = FS_FD_EXPORTS;
	size_t n = 0;

	a->argv[n++] = FS_PROGRAM;
	if (l->name) {
		a->argv[n++] = "--name";
		a->argv[n++] = l->name;
	}
	if (geteuid() == 0)
		a->argv[n++] = "--root";
	snprintf(a->nodes, OPTION_MAX, "--nodes=%zu", l->max_nodes);
	a->argv[n++] = a->nodes;
	for (size_t i = 0; i < l->n_exports; i++) {
		const struct fs_export *x = &l->exports[i];
		snprintf(a->options[i], OPTION_MAX, "--export=%s,%s,%s", x->read_only ? "ro" : "rw",
			x->file ? "file" : "dir", x->cache == FS_CACHE_VOLUME ? "volume" : "host");
		a->argv[n++] = a->options[i];
		give(a, x->fd, next++);
		if (x->cache == FS_CACHE_VOLUME)
			give(a, x->use_fd, next++);
	}
	a->argv[n] = NULL;
}

/* "a, b" */
static void list(char *dst, size_t size, const char *separator, const char *text)
{
	size_t n = strlen(dst);

	if (*text)
		snprintf(dst + n, size - n, "%s%s", n ? separator : "", text);
}

/*
 * A user namespace takes nothing away from an ordinary user, whose files stay his. Root's server could not read in it what
 * others own: there root's capabilities on files count for nothing.
 */
static unsigned namespaces(void)
{
	const unsigned all = CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP;

	return geteuid() == 0 ? all : all | CLONE_NEWUSER;
}

static void report(const struct proc_confine *c, struct fs_process *p)
{
	static const struct {
		unsigned flag;
		const char *name;
	} all[] = {{CLONE_NEWUSER, "user-namespace"}, {CLONE_NEWNET, "network-namespace"},
		{CLONE_NEWPID, "pid-namespace"}, {CLONE_NEWIPC, "ipc-namespace"}};
	char missing[sizeof(p->not_confined)] = "";

	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		if (c->got & all[i].flag)
			list(p->confined, sizeof(p->confined), ", ", all[i].name);
		else if (c->namespaces & all[i].flag)
			list(missing, sizeof(missing), ", ", all[i].name);
	}
	if (*missing) {
		char text[sizeof(missing) + 64];
		snprintf(text, sizeof(text), "%s: %s", missing, strerror(-c->namespaces_error));
		list(p->not_confined, sizeof(p->not_confined), "; ", text);
	}
	if (!(c->namespaces & CLONE_NEWUSER))
		list(p->not_confined, sizeof(p->not_confined), "; ",
			"user-namespace: files of other users, which root's box may use");
}

size_t fs_nodes_of(uint64_t guest_bytes)
{
	return (size_t)MAX_OF(guest_bytes / NODE_GUEST_BYTES, (uint64_t)NODES_MIN);
}

int fs_launch(const struct fs_launch *l, struct fs_process *ret, struct err *e)
{
	/* Nothing of the user's environment, which may hold secrets, is its business. */
	static const char *const env[] = {"LANG=C", NULL};
	int socks[2], pipes[2];

	*ret = (struct fs_process){.pid_fd = -1, .vhost_fd = -1, .status_fd = -1};
	if (l->n_exports < 1 || l->n_exports > FS_EXPORTS_MAX)
		return err_set(
			e, -EINVAL, "%zu folders to share: must be 1 to %d", l->n_exports, FS_EXPORTS_MAX);
	CLEANUP_FREE struct launch *a = calloc(1, sizeof(*a));
	if (!a)
		return err_oom(e);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks) < 0)
		return err_sys(e, -errno, "cannot start the file server");
	CLEANUP_CLOSE int ours = socks[0];
	CLEANUP_CLOSE int theirs = socks[1];
	if (pipe2(pipes, O_CLOEXEC) < 0)
		return err_sys(e, -errno, "cannot start the file server");
	CLEANUP_CLOSE int status = pipes[0];
	CLEANUP_CLOSE int says = pipes[1];
	int r = io_set_nonblock(status, true);
	if (r < 0)
		return err_sys(e, r, "cannot start the file server");

	give(a, l->log_fd, STDERR_FILENO);
	give(a, theirs, FS_FD_VHOST);
	give(a, says, FS_FD_STATUS);
	give(a, l->hold_fd, FS_FD_HOLD);
	fill(a, l);
	struct proc_confine confine = {.namespaces = namespaces(), .capabilities = true, .landlock_fd = -1};
	struct proc_opts o = {.path = l->program,
		.argv = a->argv,
		.envp = env,
		.cwd = "/",
		.fds = a->fds,
		.n_fds = a->n_fds,
		.die_with_parent = true,
		.new_session = true,
		.no_new_privs = true,
		.confine = &confine};
	ret->pid = proc_spawn(&o, &ret->pid_fd);
	if (ret->pid < 0) {
		r = ret->pid;
		*ret = (struct fs_process){.pid_fd = -1, .vhost_fd = -1, .status_fd = -1};
		err_sys(e, r, "cannot start the file server %s", l->program);
		return err_hint(e, "build or install a3s-box again");
	}
	report(&confine, ret);
	ret->vhost_fd = TAKE_FD(ours);
	ret->status_fd = TAKE_FD(status);
	return 0;
}

static void add_said(char *dst, size_t size, const char *separator, const char *said, size_t said_size)
{
	char text[256], safe[256];

	snprintf(text, sizeof(text), "%.*s", (int)(said_size - 1), said);
	text_escape(safe, sizeof(safe), text);
	list(dst, size, separator, safe);
}

int fs_status_read(struct fs_process *p)
{
	struct fs_status s;

	if (p->status_fd < 0)
		return -EPIPE;
	/* Written at once, and shorter than what a pipe writes at once (pipe(7), PIPE_BUF). */
	ssize_t n = read(p->status_fd, &s, sizeof(s));
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	close_fd(&p->status_fd);
	if (n != (ssize_t)sizeof(s))
		return -EPIPE;
	add_said(p->confined, sizeof(p->confined), ", ", s.confined, sizeof(s.confined));
	add_said(p->not_confined, sizeof(p->not_confined), "; ", s.not_confined, sizeof(s.not_confined));
	return 1;
}

void fs_process_done(struct fs_process *p)
{
	struct pollfd ended = {.fd = p->pid_fd, .events = POLLIN};
	int status;

	if (p->pid <= 0)
		return;
	(void)kill(p->pid, SIGKILL);
	/* One that waits for a file system of the host (a server of files that does not answer) does not even end at that. */
	if (poll(&ended, 1, END_LIMIT_MS) != 0)
		(void)proc_wait(p->pid, &status);
	else
		log_error("the file server cannot be ended: a file system of this host does not answer");
	close_fd(&p->pid_fd);
	close_fd(&p->vhost_fd);
	close_fd(&p->status_fd);
	p->pid = 0;
}
