/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * One clone3 per process and no helper in between: under emulation each fork costs milliseconds. The child of
 * PID 1 is the process itself, and outside the box's PID namespace it is PID 1 that reaps it.
 *
 * The workload's process is made early in the boot and works beside PID 1 (rootfs.c says at what). They talk
 * over a socket pair:
 *
 *     child > 'D'      image mounted, /dev built
 *     PID 1 > size_t   the root file system is complete; the child enters it. Length of the wire CONFIG frame that follows
 *                      if the child is to do something about it (settings.h), else 0
 *     PID 1 > START    struct child_start with the standard streams' descriptors, then a wire START frame
 *
 * A later process comes from one clone3 for which PID 1 points its own pid_for_children at the workload's PID
 * namespace; the child joins the other namespaces itself (child.c).
 *
 * PID 1 never waits for a child that has seen the image's files, and never walks a path that the box can
 * change: all of that is the child's work, and it reports on a pipe that execve closes.
 */
#include "spawn.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "base/io.h"
#include "child.h"

static void spawn_close(struct spawn *s)
{
	close_fd(&s->pidfd);
	close_fd(&s->in);
	close_fd(&s->out);
	close_fd(&s->err);
	close_fd(&s->report);
}

/* A pipe whose end `ours` (0 reading, 1 writing) does not block. */
static int make_pipe(int *our_end, int *their_end, int ours, int size)
{
	int fds[2], r;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	*our_end = fds[ours];
	*their_end = fds[!ours];
	if (size)
		fcntl(fds[ours], F_SETPIPE_SZ, size); /* a smaller pipe works as well */
	r = io_set_nonblock(fds[ours], true);
	return r;
}

static int open_terminal(
	struct spawn_box *box, const struct wire_process *p, struct spawn *s, struct child *c)
{
	struct winsize ws = {.ws_row = p->rows, .ws_col = p->cols};
	int unlock = 0;

	s->out = openat(box->devpts, "ptmx", O_RDWR | O_NOCTTY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (s->out < 0)
		return -errno;
	s->in = fcntl(s->out, F_DUPFD_CLOEXEC, 3);
	if (s->in < 0 || ioctl(s->out, TIOCSPTLCK, &unlock) < 0 || ioctl(s->out, TIOCGPTN, &c->pty) < 0)
		return -errno;
	if ((p->rows || p->cols) && ioctl(s->out, TIOCSWINSZ, &ws) < 0)
		return -errno;
	return 0;
}

static int open_stdio(struct spawn_box *box, const struct wire_process *p, struct spawn *s, struct child *c)
{
	int r;

	if (p->tty)
		return open_terminal(box, p, s, c);
	r = p->open_stdin ? make_pipe(&s->in, &c->stdio[0], 1, 0) : 0;
	if (r == 0)
		r = make_pipe(&s->out, &c->stdio[1], 0, SPAWN_PIPE_SIZE);
	if (r == 0)
		r = make_pipe(&s->err, &c->stdio[2], 0, SPAWN_PIPE_SIZE);
	return r;
}

/* As fork: nothing shared. The C library has no threads to be told of. */
static pid_t clone_child(const struct spawn_box *box, uint64_t flags, int *ret_pidfd)
{
	struct clone_args args = {
		.flags = flags, .exit_signal = SIGCHLD, .pidfd = (uint64_t)(uintptr_t)ret_pidfd};
	pid_t pid;

	if (!box->bare && box->cgroup >= 0) {
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = (uint64_t)box->cgroup;
	}
	pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
	return pid < 0 ? -errno : pid;
}

pid_t spawn_joined(const struct spawn_box *box)
{
	pid_t pid;

	if (box->bare)
		return clone_child(box, 0, NULL);
	if (setns(box->main_pidfd, CLONE_NEWPID) < 0)
		return -errno;
	pid = clone_child(box, 0, NULL);
	if (pid != 0 && setns(box->self_pidfd, CLONE_NEWPID) < 0)
		abort(); /* our own namespace cannot refuse us; going on would start things in the wrong place
			  */
	return pid;
}

int spawn_prepare(struct spawn_box *box)
{
	struct spawn_prepared p = {.pidfd = -1, .sock = -1, .report = -1};
	CLEANUP_CLOSE int report = -1;
	int socks[2], r = make_pipe(&p.report, &report, 0, 0);

	if (r == 0 && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks) < 0)
		r = -errno;
	if (r == 0) {
		CLEANUP_CLOSE int theirs = socks[1];

		p.sock = socks[0];
		/* The namespaces that what it builds depends on. UTS comes later, with the host name. */
		p.pid = clone_child(
			box, CLONE_PIDFD | (box->bare ? 0 : CLONE_NEWPID | CLONE_NEWIPC), &p.pidfd);
		if (p.pid == 0) {
			close(p.sock); /* so that the end of PID 1 would end us */
			child_prepare(box, theirs, report);
		}
		r = p.pid < 0 ? p.pid : 0;
	}
	if (r < 0)
		p.pid = 0;
	box->prepared = p;
	if (r < 0)
		spawn_forget(box);
	return r;
}

void spawn_forget(struct spawn_box *box)
{
	struct spawn_prepared *p = &box->prepared;

	p->pid = 0;
	close_fd(&p->pidfd);
	close_fd(&p->sock);
	close_fd(&p->report);
}

int spawn_wait_base(struct spawn_box *box, char *report, const char **why)
{
	uint32_t pid;
	ssize_t n;
	char c;

	if (io_read_full(box->prepared.sock, &c, 1) == 1) {
		box->has_base = true;
		return 0;
	}
	*why = "the box's first process ended";
	n = io_read_full(box->prepared.report, report, SPAWN_REPORT_MAX);
	spawn_parse(report, (size_t)MAX_OF(n, 0), &pid, why);
	return -ECHILD;
}

static int send_all(int sock, const void *data, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = send(sock, (const char *)data + done, len - done, MSG_NOSIGNAL);

		if (n < 0 && errno != EINTR)
			return -errno;
		done += (size_t)MAX_OF(n, 0);
	}
	return 0;
}

int spawn_release(struct spawn_box *box)
{
	int r = send_all(box->prepared.sock, &box->config.len, sizeof(box->config.len));

	return r < 0 || !box->config.len
		       ? r
		       : send_all(box->prepared.sock, buf_data(&box->config), box->config.len);
}

int spawn_send_start(int sock, struct child_start *start, const int stdio[3], const struct buf *frame)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(3 * sizeof(int))];
	} control = {0};
	struct iovec iov = {start, sizeof(*start)};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	int fds[3], n = 0;

	for (int i = 0; i < 3; i++) {
		start->has[i] = stdio[i] >= 0;
		if (stdio[i] >= 0)
			fds[n++] = stdio[i];
	}
	start->frame_len = frame->len;
	if (n) {
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE((size_t)n * sizeof(int));
		*CMSG_FIRSTHDR(&msg) = (struct cmsghdr){.cmsg_len = CMSG_LEN((size_t)n * sizeof(int)),
			.cmsg_level = SOL_SOCKET,
			.cmsg_type = SCM_RIGHTS};
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&msg)), fds, (size_t)n * sizeof(int));
	}
	if (sendmsg(sock, &msg, MSG_NOSIGNAL) != (ssize_t)sizeof(*start))
		return -errno;
	return send_all(sock, buf_data(frame), frame->len);
}

/* Hands START to the prepared process. It reads at once, so that waiting for it is no matter. */
static int send_start(struct spawn_box *box, const struct wire_process *p, const struct child *c)
{
	struct child_start start = {.pty = c->pty};
	CLEANUP(buf_done) struct buf frame = {0};
	int r = wire_put_process(&frame, p);

	return r < 0 ? r : spawn_send_start(box->prepared.sock, &start, c->stdio, &frame);
}

/* For nsexec's subprocesses (isolate.c). Without memory for it there are none. */
static void keep_filter(struct spawn_box *box, const struct wire_process *p)
{
	free(box->filter);
	box->filter = p->seccomp ? malloc(p->seccomp_len) : NULL;
	box->filter_len = box->filter ? p->seccomp_len : 0;
	box->isolates = box->filter || !p->seccomp;
	if (box->filter)
		memcpy(box->filter, p->seccomp, p->seccomp_len);
}

static int start_main(
	struct spawn_box *box, const struct wire_process *p, struct spawn *s, const struct child *c)
{
	int r = 0;

	if (!box->prepared.pid) {
		/* The first one's program could not be executed. */
		r = spawn_prepare(box);
		if (r == 0)
			r = spawn_release(box);
	}
	if (r == 0)
		r = send_start(box, p, c);
	/* It has ended already: why is in its report. */
	if (r < 0 && r != -EPIPE && r != -ECONNRESET)
		return r;
	keep_filter(box, p);
	s->pid = box->prepared.pid;
	s->pidfd = TAKE_FD(box->prepared.pidfd);
	s->report = TAKE_FD(box->prepared.report);
	spawn_forget(box);
	return 0;
}

/* Like other runtimes: who asks from the host gets in although the box is at its limit of processes. */
static pid_t spawn_beyond_limit(const struct spawn_box *box)
{
	struct spawn_box outside = *box;
	CLEANUP_CLOSE int procs = openat(box->cgroup, "cgroup.procs", O_WRONLY | O_CLOEXEC);
	pid_t pid;

	if (procs < 0)
		return -errno;
	outside.cgroup = -1;
	pid = spawn_joined(&outside);
	/* "0": the writer. The limit counts what is made, not what is moved. */
	if (pid == 0 && write(procs, "0", 1) != 1)
		_exit(125);
	return pid;
}

static int start_joined(struct spawn_box *box, struct spawn *s, struct child *c)
{
	int r = make_pipe(&s->report, &c->report, 0, 0);

	if (r < 0)
		return r;
	s->pid = spawn_joined(box);
	if (s->pid == -EAGAIN && !box->bare)
		s->pid = spawn_beyond_limit(box);
	if (s->pid == 0)
		child_run(c);
	close_fd(&c->report);
	return s->pid < 0 ? s->pid : 0;
}

int spawn_start(struct spawn_box *box, const struct wire_process *p, struct spawn *ret)
{
	struct spawn s = {.pidfd = -1, .in = -1, .out = -1, .err = -1, .report = -1};
	struct child c = {.box = box, .process = p, .stdio = {-1, -1, -1}, .report = -1, .userns = -1};
	int r = open_stdio(box, p, &s, &c);

	if (r == 0)
		r = p->main ? start_main(box, p, &s, &c) : start_joined(box, &s, &c);
	for (int i = 0; i < 3; i++)
		close_fd(&c.stdio[i]);
	if (r < 0) {
		spawn_close(&s);
		return r;
	}
	*ret = s;
	return 0;
}

uint32_t spawn_parse(char *report, size_t len, uint32_t *ret_pid, const char **why)
{
	uint32_t pid = 0, status;

	report[len] = '\0';
	if (len >= sizeof(pid))
		memcpy(&pid, report, sizeof(pid));
	*ret_pid = pid;
	if (len < 2 * sizeof(pid))
		return 0;
	memcpy(&status, report + sizeof(pid), sizeof(status));
	*why = report + 2 * sizeof(pid);
	return status >= 125 && status <= 127 ? status : 125;
}
