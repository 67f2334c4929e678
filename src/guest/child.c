/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * Runs in the new process, alone. First the place: the workload finishes its namespaces and makes the box its
 * root (child_prepare); a later process joins them (child_run). From there every path is the box's own, and
 * whatever it holds (a FIFO for /etc/passwd, say) can only hold up this process. Then, the same for both, the
 * input and output, the identity, and execve.
 *
 * The report pipe carries our PID first, then, only on failure, a status and a text.
 */
#include "child.h"

#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/io.h"
#include "devices.h"
#include "process.h"
#include "rootfs.h"
#include "system.h"

#define FILES_MAX 4194304 /* bytes of /etc/passwd or /etc/group that are read */

static _Noreturn void fail(const struct child *c, uint32_t status, const char *fmt, ...) PRINTF(3, 4);

static _Noreturn void fail(const struct child *c, uint32_t status, const char *fmt, ...)
{
	char text[SPAWN_REPORT_MAX - 2 * sizeof(uint32_t)];
	char msg[sizeof(status) + sizeof(text)];
	va_list ap;
	size_t n;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	n = strlen(text);
	memcpy(msg, &status, sizeof(status));
	memcpy(msg + sizeof(status), text, n);
	io_write_full(c->report, msg, sizeof(status) + n);
	_exit((int)status);
}

static _Noreturn void fail_sys(const struct child *c, int err, const char *what)
{
	char text[128];

	fail(c, 125, "%s: %s", what, process_strerror(err < 0 ? -err : err, text, sizeof(text)));
}

/* The terminal is opened by its name in the box, so that ttyname(3) finds it. */
static void attach_terminal(struct child *c)
{
	char name[32];
	struct stat st;
	int fd;

	snprintf(name, sizeof(name), "/dev/pts/%d", c->pty);
	fd = open(name, O_RDWR | O_NOCTTY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		fail_sys(c, errno, name);
	/* UNIX98 PTY slaves: major 136 to 143. */
	if (fstat(fd, &st) < 0 || !S_ISCHR(st.st_mode) || major(st.st_rdev) < 136 || major(st.st_rdev) > 143)
		fail(c, 125, "%s: not a terminal", name);
	if (ioctl(fd, TIOCSCTTY, 0) < 0)
		fail_sys(c, errno, "controlling terminal");
	for (int i = 0; i < 3; i++)
		c->stdio[i] = fd;
}

static void attach_null(struct child *c)
{
	struct stat st;

	c->stdio[0] = open("/dev/null", O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (c->stdio[0] < 0 || fstat(c->stdio[0], &st) < 0)
		fail_sys(c, errno, "/dev/null");
	if (!S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, 3))
		fail(c, 125, "/dev/null: not the null device");
	io_set_nonblock(c->stdio[0], false);
}

static void set_stdio(struct child *c, uid_t uid)
{
	if (setsid() < 0)
		fail_sys(c, errno, "new session");
	if (c->process->tty)
		attach_terminal(c);
	else if (c->stdio[0] < 0)
		attach_null(c);
	for (int i = 0; i < 3; i++) {
		if (dup2(c->stdio[i], i) < 0)
			fail_sys(c, errno, "standard streams");
		/* So that the user can open /dev/stdout: a pipe belongs to its maker. */
		if (!c->box->bare && uid != 0 && (i > 0 || c->process->tty || c->process->open_stdin))
			(void)!fchown(i, uid, (gid_t)-1);
	}
}

static void read_files(const struct child *c, struct user_files *files)
{
	static const char *const names[] = {"/etc/passwd", "/etc/group"};
	char *text[2] = {NULL, NULL};
	size_t len[2] = {0, 0};

	for (int i = 0; i < 2; i++) {
		int r = io_read_file_at(AT_FDCWD, names[i], FILES_MAX, &text[i], &len[i]);

		if (r < 0 && r != -ENOENT && r != -ENOTDIR)
			fail_sys(c, r, names[i]);
	}
	/* The memory goes with execve. */
	*files = (struct user_files){text[0], text[1], len[0], len[1]};
}

static void set_cwd(const struct child *c)
{
	const char *cwd = c->process->cwd && c->process->cwd[0] ? c->process->cwd : "/";
	char text[128];
	int err;

	if (chdir(cwd) == 0)
		return;
	err = errno;
	if (c->process->main && err == ENOENT) {
		err = -io_mkdir_p(cwd, 0755);
		if (err == 0 && chdir(cwd) == 0)
			return;
		err = err ? err : errno;
	}
	fail(c, err == ENOENT ? 127 : 126, "chdir to cwd (\"%.512s\"): %s", cwd,
		process_strerror(err, text, sizeof(text)));
}

/* Docker's default set. Everything else leaves the bounding set, and with execve the permitted one. */
static void drop_capabilities(const struct child *c)
{
	static const uint8_t keep[] = {CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID, CAP_KILL,
		CAP_SETGID, CAP_SETUID, CAP_SETPCAP, CAP_NET_BIND_SERVICE, CAP_NET_RAW, CAP_SYS_CHROOT,
		CAP_MKNOD, CAP_AUDIT_WRITE, CAP_SETFCAP};
	uint64_t mask = 0;

	for (size_t i = 0; i < ARRAY_LEN(keep); i++)
		mask |= 1ull << keep[i];
	for (unsigned long cap = 0; cap < 64; cap++) {
		if (mask >> cap & 1)
			continue;
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0) {
			if (errno == EINVAL)
				return; /* beyond the last one that this kernel has */
			fail_sys(c, errno, "drop capabilities");
		}
	}
}

static void set_identity(const struct child *c, const struct user_ids *ids)
{
	if (c->box->bare)
		return;
	drop_capabilities(c);
	if (setgroups(ids->n_groups, ids->groups) < 0)
		fail_sys(c, errno, "set supplementary groups");
	if (setresgid(ids->gid, ids->gid, ids->gid) < 0)
		fail_sys(c, errno, "set group");
	if (setresuid(ids->uid, ids->uid, ids->uid) < 0)
		fail_sys(c, errno, "set user");
}

/* Of the dispositions only SIGPIPE's was changed by PID 1, and handlers do not survive execve anyway. */
static void reset_signals(void)
{
	sigset_t none;

	signal(SIGPIPE, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static void report_pid(const struct child *c)
{
	uint32_t pid = (uint32_t)getpid();

	io_write_full(c->report, &pid, sizeof(pid));
}

static _Noreturn void execute(struct child *c, const struct user_files *files)
{
	char hostname[HOST_NAME_MAX + 1] = "", why[512] = "";
	struct strv env = {0};
	struct user_ids ids = {0};
	uint32_t status;

	if (user_resolve(c->process->user, &c->process->groups, files, &ids, why, sizeof(why)) < 0)
		fail(c, 125, "%s", why);
	set_stdio(c, ids.uid);
	gethostname(hostname, sizeof(hostname) - 1);
	if (strv_copy(&env, &c->process->env) < 0 ||
		process_env(&env, c->process->tty, hostname, ids.home) < 0)
		fail_sys(c, ENOMEM, "environment");
	set_cwd(c);
	if (close_range(3, UINT_MAX, CLOSE_RANGE_CLOEXEC) < 0)
		fail_sys(c, errno, "close descriptors");
	set_identity(c, &ids);
	reset_signals();
	status = process_exec(&c->process->argv, &env, why, sizeof(why));
	fail(c, status, "%s", why);
}

_Noreturn void child_run(struct child *c)
{
	struct user_files files;

	report_pid(c);
	/* Joining the mount namespace makes its root ours. */
	if (!c->box->bare &&
		setns(c->box->main_pidfd, CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP) < 0)
		fail_sys(c, errno, "join the box");
	read_files(c, &files);
	execute(c, &files);
}

/* Beside PID 1, which mounts the disks meanwhile. */
static void build(const struct child *c, int sock, struct rootfs_parts *parts)
{
	char what[128] = "";
	int r = c->box->has_base ? 0 : rootfs_build_base(what, sizeof(what));

	if (r < 0)
		fail_sys(c, r, what);
	if (!c->box->has_base && send(sock, "D", 1, MSG_NOSIGNAL) != 1)
		fail_sys(c, errno, "PID 1");
	if (!c->box->has_base && system_is_emulated())
		rootfs_rehearse();
	/* Not before: mounting the image's disk means to open it. */
	r = devices_restrict(c->box->cgroup);
	if (r < 0)
		fail_sys(c, r, "restrict the box's devices");
	/* Only now: clone3 would have rooted the namespace in PID 1's cgroup. */
	if (unshare(CLONE_NEWCGROUP) < 0)
		fail_sys(c, errno, "new cgroup namespace");
	r = rootfs_build_parts(parts, what, sizeof(what));
	if (r < 0)
		fail_sys(c, r, what);
	system_loopback_up();
}

static void enter(const struct child *c, const struct rootfs_parts *parts)
{
	char what[128] = "";
	int r;

	if (unshare(CLONE_NEWNS | CLONE_NEWUTS) < 0)
		fail_sys(c, errno, "new mount namespace");
	r = rootfs_enter(parts, what, sizeof(what));
	if (r < 0)
		fail_sys(c, r, what);
}

/* Takes START off the socket; the process structure lives until execve. */
static void receive_start(struct child *c, int sock, struct wire_process *p)
{
	struct child_start start;
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(3 * sizeof(int))];
	} control = {0};
	struct iovec iov = {&start, sizeof(start)};
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
	struct buf frame = {0};
	struct wire_frame f;
	struct cmsghdr *cmsg;
	uint8_t *room;
	int fds[3] = {-1, -1, -1}, n = 0;

	/* The size is that of one send on a local socket: it comes whole. The end: PID 1 wants us no more. */
	if (recvmsg(sock, &msg, MSG_CMSG_CLOEXEC) != (ssize_t)sizeof(start))
		_exit(0);
	cmsg = CMSG_FIRSTHDR(&msg);
	if (cmsg)
		memcpy(fds, CMSG_DATA(cmsg), MIN_OF(cmsg->cmsg_len - CMSG_LEN(0), sizeof(fds)));
	for (int i = 0; i < 3; i++)
		c->stdio[i] = start.has[i] ? fds[n++] : -1;
	c->pty = start.pty;
	room = buf_reserve(&frame, start.frame_len);
	if (!room || io_read_full(sock, room, start.frame_len) != (ssize_t)start.frame_len)
		fail_sys(c, ENOMEM, "take the start message");
	buf_commit(&frame, start.frame_len);
	if (wire_next(&frame, &f) != 1 || wire_get_process(&f, p) < 0)
		fail_sys(c, EBADMSG, "take the start message");
}

_Noreturn void child_prepare(const struct spawn_box *box, int sock, int report)
{
	struct wire_process process = {0};
	struct child c = {.box = box, .process = &process, .stdio = {-1, -1, -1}, .report = report};
	struct rootfs_parts parts;
	struct user_files files;
	char go, what[128] = "";
	int r;

	report_pid(&c);
	umask(0022);
	if (!box->bare)
		build(&c, sock, &parts);
	if (io_read_full(sock, &go, 1) != 1)
		_exit(0);
	if (!box->bare)
		enter(&c, &parts);
	/* Nobody else is in the box yet, so this can be done before START. */
	read_files(&c, &files);
	receive_start(&c, sock, &process);
	if (!box->bare && process.tty) {
		r = rootfs_mount_console(c.pty, what, sizeof(what));
		if (r < 0)
			fail_sys(&c, r, what);
	}
	execute(&c, &files);
}
