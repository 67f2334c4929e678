/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * Each connection is served by a process of its own, a fork of PID 1, because an answer may take long: memory is given
 * back page by page, and a process's command line is read from its memory, which it can arrange to be slow. PID 1 is not
 * held up by that, and SIGALRM ends what looks at processes. The process is outside of the box: in none of its
 * namespaces, and not in its cgroup, so that it works when the box is at its limits. It keeps the descriptors that it
 * needs and no other, so that what PID 1 closes is closed.
 *
 * The box's processes are those of a /proc that is mounted nowhere which are in a PID namespace below ours (NSpid in
 * proc(5)); it also says what number each has there. Nobody has to enter the box for it, and what the box mounts over its
 * own /proc does not matter.
 */
#include "query.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "base/io.h"
#include "cgroup.h"
#include "names.h"
#include "net.h"
#include "process.h"
#include "stats.h"
#include "tasks.h"

#define READ_CHUNK 4096

bool query_is_question(uint8_t type)
{
	return type == WIRE_UPDATE || type == WIRE_NETWORK || type == WIRE_GET_STATS ||
	       type == WIRE_GET_TASKS;
}

static int fail(struct buf *out, int r, const char *what)
{
	char text[256], reason[128];

	snprintf(text, sizeof(text), "%s: %s", what, process_strerror(-r, reason, sizeof(reason)));
	return wire_put_fail(out, 125, text);
}

/* Mounted nowhere. */
static int open_proc(void)
{
	CLEANUP_CLOSE int fs = fsopen("proc", FSOPEN_CLOEXEC);
	int fd;

	if (fs < 0 || fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -errno;
	fd = fsmount(fs, FSMOUNT_CLOEXEC, 0);
	return fd < 0 ? -errno : fd;
}

/* Changes are made one at a time, or two would be mixed. Held by the descriptor, or -errno. */
static int lock_changes(const struct spawn_box *box)
{
	/* O_PATH descriptors cannot be locked. */
	CLEANUP_CLOSE int lock = openat(box->cgroup, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return lock < 0 || flock(lock, LOCK_EX) < 0 ? -errno : TAKE_FD(lock);
}

static int answer_network(const struct spawn_box *box, const struct wire_frame *f, struct buf *out)
{
	CLEANUP_CLOSE int lock = lock_changes(box);
	CLEANUP_CLOSE int proc = open_proc();
	CLEANUP(wire_network_done) struct wire_network n;
	char what[160] = "";
	int r = wire_get_network(f, &n);

	if (r < 0)
		return r;
	if (lock < 0)
		return fail(out, lock, "network");
	r = net_apply(proc, &n, false, what, sizeof(what));
	if (r == 0)
		r = names_update(&n, what, sizeof(what));
	return r < 0 ? fail(out, r, what) : wire_put(out, WIRE_DONE, NULL, 0);
}

static int answer_update(const struct spawn_box *box, const struct wire_frame *f, struct buf *out)
{
	CLEANUP_CLOSE int lock = lock_changes(box);
	CLEANUP_CLOSE int proc = open_proc();
	struct wire_limits l;
	char why[256] = "";
	int r = wire_get_limits(f, &l);

	if (r < 0)
		return r;
	if (lock < 0)
		r = fail(out, lock, "limits");
	else if (cgroup_limit(box->cgroup, proc, &l, false, why, sizeof(why)) < 0)
		r = wire_put_fail(out, 125, why);
	else
		r = wire_put(out, WIRE_DONE, NULL, 0);
	wire_limits_done(&l);
	return r;
}

static int answer_stats(const struct spawn_box *box, struct buf *out)
{
	CLEANUP_CLOSE int proc = open_proc();
	struct wire_stats s;
	int r = stats_collect(box->cgroup, proc, &s);

	return r < 0 ? fail(out, r, "statistics") : wire_put_stats(out, &s);
}

static int answer_tasks(const struct spawn_box *box, struct buf *out)
{
	CLEANUP_CLOSE int proc = open_proc();
	struct wire_tasks t = {0};
	int r = proc < 0 ? proc : tasks_collect(proc, 1, &t);

	r = r < 0 ? fail(out, r, "processes") : wire_put_tasks(out, &t);
	wire_tasks_done(&t);
	return r;
}

static int answer(const struct spawn_box *box, const struct wire_frame *f, struct buf *out)
{
	switch (f->type) {
	case WIRE_UPDATE:
		return answer_update(box, f, out);
	case WIRE_NETWORK:
		return answer_network(box, f, out);
	case WIRE_GET_STATS:
		return answer_stats(box, out);
	case WIRE_GET_TASKS:
		return answer_tasks(box, out);
	default:
		return -EPROTO;
	}
}

static int receive(int fd, struct buf *in)
{
	uint8_t *room = buf_reserve(in, READ_CHUNK);
	ssize_t n = room ? recv(fd, room, READ_CHUNK, 0) : -1;

	if (n > 0)
		buf_commit(in, (size_t)n);
	return n > 0 ? 0 : -EPIPE;
}

static int serve(const struct spawn_box *box, int fd, struct buf *in)
{
	CLEANUP(buf_done) struct buf out = {0};
	struct wire_frame f;
	int r;

	for (;;) {
		while ((r = wire_next(in, &f)) == 0)
			if (receive(fd, in) < 0)
				return 0;
		if (r < 0)
			return r;
		/* A change is made in full, so that it is not cut short; it looks at no process's memory. */
		alarm(f.type == WIRE_UPDATE || f.type == WIRE_NETWORK ? 0 : QUERY_WORK_S);
		r = answer(box, &f, &out);
		alarm(0);
		wire_consume(in, &f);
		if (r == 0)
			r = io_write_full(fd, buf_data(&out), out.len); /* the socket has a time limit */
		buf_consume(&out, out.len);
		if (r < 0)
			return r;
	}
}

/* Everything else that PID 1 has open would stay open with us. */
static void keep_descriptors(int fd, int cgroup)
{
	int keep[] = {fd, cgroup}, from = 3;

	for (;;) {
		int next = -1;

		for (size_t i = 0; i < ARRAY_LEN(keep); i++)
			if (keep[i] >= from && (next < 0 || keep[i] < next))
				next = keep[i];
		if (next < 0)
			break;
		if (next > from)
			close_range((unsigned int)from, (unsigned int)next - 1, 0);
		from = next + 1;
	}
	close_range((unsigned int)from, ~0U, 0);
}

static _Noreturn void run(const struct spawn_box *box, int fd, struct buf *in)
{
	struct timeval idle = {.tv_sec = QUERY_IDLE_S};

	keep_descriptors(fd, box->cgroup);
	signal(SIGALRM, SIG_DFL);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &idle, sizeof(idle));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &idle, sizeof(idle));
	_exit(io_set_nonblock(fd, false) == 0 && serve(box, fd, in) == 0 ? 0 : 1);
}

pid_t query_start(const struct spawn_box *box, int fd, const struct buf *in)
{
	pid_t pid = fork();

	if (pid == 0) {
		struct buf own = *in; /* the copy that fork made */

		run(box, fd, &own);
	}
	return pid < 0 ? -errno : pid;
}
