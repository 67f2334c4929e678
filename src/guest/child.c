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
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include "base/io.h"
#include "confine.h"
#include "devices.h"
#include "init.h"
#include "process.h"
#include "rootfs.h"
#include "settings.h"
#include "system.h"
#include "userns.h"

#define FILES_MAX 4194304 /* bytes of /etc/passwd or /etc/group that are read */

_Noreturn void child_fail(const struct child *c, uint32_t status, const char *fmt, ...)
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

_Noreturn void child_fail_sys(const struct child *c, int err, const char *what)
{
	char text[128];

	child_fail(c, 125, "%s: %s", what, process_strerror(err < 0 ? -err : err, text, sizeof(text)));
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
		child_fail_sys(c, errno, name);
	/* UNIX98 PTY slaves: major 136 to 143. */
	if (fstat(fd, &st) < 0 || !S_ISCHR(st.st_mode) || major(st.st_rdev) < 136 || major(st.st_rdev) > 143)
		child_fail(c, 125, "%s: not a terminal", name);
	if (ioctl(fd, TIOCSCTTY, 0) < 0)
		child_fail_sys(c, errno, "controlling terminal");
	for (int i = 0; i < 3; i++)
		c->stdio[i] = fd;
}

static void attach_null(struct child *c)
{
	struct stat st;

	c->stdio[0] = open("/dev/null", O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (c->stdio[0] < 0 || fstat(c->stdio[0], &st) < 0)
		child_fail_sys(c, errno, "/dev/null");
	if (!S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, 3))
		child_fail(c, 125, "/dev/null: not the null device");
	io_set_nonblock(c->stdio[0], false);
}

/* A number of the box as the guest has it. */
static uid_t outside_id(const struct child *c, uid_t id)
{
	return c->userns >= 0 ? id + ROOTFS_ID_BASE : id;
}

void child_set_streams(struct child *c)
{
	if (setsid() < 0)
		child_fail_sys(c, errno, "new session");
	if (c->process->tty)
		attach_terminal(c);
	else if (c->stdio[0] < 0)
		attach_null(c);
	for (int i = 0; i < 3; i++)
		if (dup2(c->stdio[i], i) < 0)
			child_fail_sys(c, errno, "standard streams");
}

/* So that the user can open /dev/stdout: a pipe belongs to its maker. */
static void give_streams(const struct child *c, uid_t user)
{
	uid_t uid = outside_id(c, user);

	for (int i = 0; i < 3 && !c->box->bare && uid != 0; i++)
		if (i > 0 || c->process->tty || c->process->open_stdin)
			(void)!fchown(i, uid, (gid_t)-1);
}

static void read_files(const struct child *c, struct user_files *files)
{
	static const char *const names[] = {"/etc/passwd", "/etc/group"};
	char *text[2] = {NULL, NULL};
	size_t len[2] = {0, 0};

	for (int i = 0; i < 2; i++) {
		int r = io_read_file_at(AT_FDCWD, names[i], FILES_MAX, &text[i], &len[i]);

		if (r < 0 && r != -ENOENT && r != -ENOTDIR)
			child_fail_sys(c, r, names[i]);
	}
	/* The memory goes with execve. */
	*files = (struct user_files){text[0], text[1], len[0], len[1]};
}

void child_set_cwd(const struct child *c)
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
	child_fail(c, err == ENOENT ? 127 : 126, "chdir to cwd (\"%.512s\"): %s", cwd,
		process_strerror(err, text, sizeof(text)));
}

/* From here on what is done with the box's files is done as its own root. */
static void enter_user_namespace(struct child *c)
{
	if (setns(c->userns, CLONE_NEWUSER) < 0 || setgroups(0, NULL) < 0 || setresgid(0, 0, 0) < 0 ||
		setresuid(0, 0, 0) < 0)
		child_fail_sys(c, errno, "join the user namespace");
	close_fd(&c->userns);
}

/* Made by a process that has joined: what we make ourselves would be nobody's there. It reports for us if it fails. */
static void set_cwd_in_user_namespace(struct child *c)
{
	int status = 0;
	pid_t pid = fork();

	if (pid < 0)
		child_fail_sys(c, errno, "working directory");
	if (pid == 0) {
		enter_user_namespace(c);
		child_set_cwd(c);
		_exit(0);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (status != 0)
		_exit(125);
}

/* While we are the guest's root: in a user namespace of the box's, no mount of ours could be changed any more. */
static void seal(struct child *c)
{
	int r;

	if (c->userns >= 0)
		set_cwd_in_user_namespace(c);
	else
		child_set_cwd(c);
	r = rootfs_seal();
	if (r < 0)
		child_fail_sys(c, r, "make the root file system read-only");
}

void child_close_others(const int *keep, size_t n)
{
	for (unsigned int from = 3;;) {
		unsigned int next = UINT_MAX;

		for (size_t i = 0; i < n; i++)
			if (keep[i] >= 0 && (unsigned int)keep[i] >= from)
				next = MIN_OF(next, (unsigned int)keep[i]);
		if (next > from)
			close_range(from, next - 1, 0);
		if (next == UINT_MAX)
			return;
		from = next + 1;
	}
}

void child_keep_report(const struct child *c)
{
	/* The copy has no close-on-exec flag; with the same number there is no copy. */
	int r = c->report == INIT_REPORT ? fcntl(INIT_REPORT, F_SETFD, 0) : dup2(c->report, INIT_REPORT);

	if (r < 0)
		child_fail_sys(c, errno, "report");
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

/* Our own program first (init.h), which reports in our place whether it could execute the box's. */
static uint32_t execute_init(struct child *c, struct strv *env, char *why, size_t size)
{
	struct strv argv = {0};
	int err;

	if (strv_push(&argv, INIT_NAME) < 0 || strv_push(&argv, "--") < 0)
		child_fail_sys(c, ENOMEM, "init");
	for (size_t i = 0; i < c->process->argv.n; i++)
		if (strv_push(&argv, c->process->argv.v[i]) < 0)
			child_fail_sys(c, ENOMEM, "init");
	execve(INIT_PATH, argv.v, env->v);
	err = errno;
	snprintf(why, size, "%s: %s", INIT_PATH, strerror(err));
	return 125;
}

static void confine(struct child *c, const struct user_ids *ids)
{
	char what[128];
	int r = c->box->bare ? 0 : confine_identity(c->process, ids, what, sizeof(what));

	if (r < 0)
		child_fail_sys(c, r, what);
	reset_signals();
	if (c->process->init && c->process->main)
		child_keep_report(c);
	r = c->box->bare ? 0 : confine_filter(c->process, what, sizeof(what));
	if (r < 0)
		child_fail_sys(c, r, what);
}

static _Noreturn void execute(struct child *c, const struct user_files *files)
{
	char hostname[HOST_NAME_MAX + 1] = "", why[512] = "";
	struct strv env = {0};
	struct user_ids ids = {0};
	uint32_t status;
	int r;

	if (user_resolve(c->process->user, &c->process->groups, files, &ids, why, sizeof(why)) < 0)
		child_fail(c, 125, "%s", why);
	child_set_streams(c);
	give_streams(c, ids.uid);
	child_close_others((int[]){c->report, c->userns}, 2);
	r = c->box->bare ? 0 : confine_limits(c->process, why, sizeof(why));
	if (r < 0)
		child_fail_sys(c, r, why);
	if (c->seal)
		seal(c);
	if (c->userns >= 0)
		enter_user_namespace(c);
	gethostname(hostname, sizeof(hostname) - 1);
	if (strv_copy(&env, &c->process->env) < 0 ||
		process_env(&env, c->process->tty, hostname, ids.home) < 0)
		child_fail_sys(c, ENOMEM, "environment");
	child_set_cwd(c);
	confine(c, &ids);
	if (c->process->init && c->process->main)
		status = execute_init(c, &env, why, sizeof(why));
	else
		status = process_exec(&c->process->argv, &env, why, sizeof(why));
	child_fail(c, status, "%s", why);
}

_Noreturn void child_run(struct child *c)
{
	struct user_files files;

	report_pid(c);
	/* Joining the mount namespace makes its root ours. */
	if (!c->box->bare &&
		setns(c->box->main_pidfd, CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP) < 0)
		child_fail_sys(c, errno, "join the box");
	c->userns = c->box->user_namespace ? c->box->main_pidfd : -1;
	child_close_others((int[]){c->stdio[0], c->stdio[1], c->stdio[2], c->report, c->userns}, 5);
	read_files(c, &files);
	execute(c, &files);
}

/* Beside PID 1, which mounts the disks meanwhile. */
static void build(const struct child *c, int sock, struct rootfs_parts *parts)
{
	char what[128] = "";
	int r = c->box->has_base ? 0 : rootfs_build_base(what, sizeof(what));

	if (r < 0)
		child_fail_sys(c, r, what);
	if (!c->box->has_base && send(sock, "D", 1, MSG_NOSIGNAL) != 1)
		child_fail_sys(c, errno, "PID 1");
	if (!c->box->has_base && system_is_emulated())
		rootfs_rehearse();
	/* Not before: mounting the image's disk means to open it. */
	r = devices_restrict(c->box->cgroup, NULL, 0, false);
	if (r < 0)
		child_fail_sys(c, r, "restrict the box's devices");
	/* Only now: clone3 would have rooted the namespace in PID 1's cgroup. */
	if (unshare(CLONE_NEWCGROUP) < 0)
		child_fail_sys(c, errno, "new cgroup namespace");
	r = rootfs_build_parts(parts, what, sizeof(what));
	if (r < 0)
		child_fail_sys(c, r, what);
	system_loopback_up();
}

/* One frame of PID 1. */
static void receive_frame(
	const struct child *c, int sock, size_t len, struct buf *frame, struct wire_frame *ret)
{
	uint8_t *room = len <= WIRE_HEADER_SIZE + WIRE_MESSAGE_MAX ? buf_reserve(frame, len) : NULL;

	if (!room || io_read_full(sock, room, len) != (ssize_t)len)
		child_fail_sys(c, ENOMEM, "take a message");
	buf_commit(frame, len);
	if (wire_next(frame, ret) != 1)
		child_fail_sys(c, EBADMSG, "take a message");
}

/* Waits until PID 1 is done with the root file system. The configuration comes only if there is something to do for us. */
static void receive_release(const struct child *c, int sock, struct wire_config *ret)
{
	CLEANUP(buf_done) struct buf frame = {0};
	struct wire_frame f;
	size_t len;

	if (io_read_full(sock, &len, sizeof(len)) != sizeof(len))
		_exit(0);
	if (!len)
		return;
	receive_frame(c, sock, len, &frame, &f);
	if (wire_get_config(&f, ret) < 0)
		child_fail_sys(c, EBADMSG, "take the configuration");
}

static void enter(struct child *c, const struct rootfs_parts *parts, const struct wire_config *config)
{
	char why[512] = "";
	bool unusual = settings_unusual(config);
	int guest_dev = unusual ? rootfs_open_guest_dev() : -1, r;

	if (unusual && guest_dev < 0)
		child_fail_sys(c, guest_dev, "/dev of the guest");
	if (unshare(CLONE_NEWNS | CLONE_NEWUTS) < 0)
		child_fail_sys(c, errno, "new mount namespace");
	r = rootfs_enter(parts, config, why, sizeof(why));
	if (r < 0)
		child_fail_sys(c, r, why);
	if (unusual && settings_apply(config, c->box->cgroup, guest_dev, why, sizeof(why)) < 0)
		child_fail(c, 125, "%s", why);
	if (config->user_namespace) {
		c->userns = userns_new(ROOTFS_ID_MAP);
		if (c->userns < 0)
			child_fail_sys(c, c->userns, "new user namespace");
	}
	c->seal = config->read_only;
}

void child_receive_start(struct child *c, int sock, struct wire_process *p)
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
	int fds[3] = {-1, -1, -1}, n = 0;

	/* The size is that of one send on a local socket: it comes whole. The end: PID 1 wants us no more. */
	if (recvmsg(sock, &msg, MSG_CMSG_CLOEXEC) != (ssize_t)sizeof(start))
		_exit(0);
	cmsg = CMSG_FIRSTHDR(&msg);
	if (cmsg && cmsg->cmsg_level == SOL_SOCKET && cmsg->cmsg_type == SCM_RIGHTS)
		memcpy(fds, CMSG_DATA(cmsg), MIN_OF(cmsg->cmsg_len - CMSG_LEN(0), sizeof(fds)));
	for (int i = 0; i < 3; i++)
		c->stdio[i] = start.has[i] ? fds[n++] : -1;
	c->pty = start.pty;
	c->seal |= start.read_only;
	receive_frame(c, sock, start.frame_len, &frame, &f);
	if (wire_get_process(&f, p) < 0)
		child_fail_sys(c, EBADMSG, "take the start message");
}

_Noreturn void child_prepare(const struct spawn_box *box, int sock, int report)
{
	struct wire_process process = {0};
	struct wire_config config = {0};
	struct child c = {
		.box = box, .process = &process, .stdio = {-1, -1, -1}, .report = report, .userns = -1};
	struct rootfs_parts parts;
	struct user_files files;
	char what[128] = "";
	int r;

	report_pid(&c);
	umask(0022);
	if (!box->bare)
		build(&c, sock, &parts);
	receive_release(&c, sock, &config);
	if (!box->bare)
		enter(&c, &parts, &config);
	child_close_others((int[]){sock, report, c.userns}, 3);
	/* Nobody else is in the box yet, so this can be done before START. */
	read_files(&c, &files);
	child_receive_start(&c, sock, &process);
	if (!box->bare && process.tty) {
		r = rootfs_mount_console(c.pty, what, sizeof(what));
		if (r < 0)
			child_fail_sys(&c, r, what);
	}
	execute(&c, &files);
}
