/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * A program of the box cannot make namespaces: Docker's seccomp profile does not allow it, and what is masked in /proc
 * forbids a new one in a user namespace. So nsexec asks here, over a socket in the box's /dev.
 *
 * PID 1 accepts the connection and makes a process in the box (spawn_joined), and reads nothing. That process, the helper,
 * is root with all capabilities, and looks only at what the kernel says of the caller: user, groups, limits. It starts
 * the subprocess's own in new namespaces, which still as root, and with no input either, makes /proc, /tmp and the like,
 * then takes the caller's user and groups in a user namespace of its own, where these are the only ones; the helper writes
 * that namespace's map and ends. Only then is the request read, by a process that has nothing outside of its namespaces but what the
 * caller had. It drops all capabilities, sets no_new_privs, comes under the box's own system call filter, and
 * executes init.c, which runs the program, and tells its status on the connection.
 *
 * The caller must not get more than it has. Its capabilities, namespaces and limits are no more; but a filter or a Landlock
 * domain that it has put upon itself could not be given to the subprocess. Both need no_new_privs, or CAP_SYS_ADMIN; so
 * whoever has no_new_privs set is refused.
 *
 * Bounds: all of it is in the box's cgroup, and the request has WAIT_S to come.
 */
#include "isolate.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include "base/io.h"
#include "child.h"
#include "confine.h"
#include "init.h"
#include "mask.h"
#include "rootfs.h"
#include "user.h"
#include "userns.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

enum { WAIT_S = 10, STATUS_MAX = 16384, BACKLOG = 16 };

struct caller {
	struct ucred cred; /* as the guest's first user namespace has them */
	gid_t groups[USER_GROUPS_MAX];
	size_t n_groups;
};

static void set_timeout(int conn, time_t seconds)
{
	struct timeval t = {.tv_sec = seconds};

	setsockopt(conn, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t));
	setsockopt(conn, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof(t));
}

/* The limits of the caller become ours, as if it had started us. */
static int copy_limits(pid_t pid)
{
	for (int i = 0; i < RLIM_NLIMITS; i++) {
		struct rlimit limit;

		if (prlimit(pid, (__rlimit_resource_t)i, NULL, &limit) < 0 ||
			setrlimit((__rlimit_resource_t)i, &limit) < 0)
			return -errno;
	}
	return 0;
}

/* 1: no_new_privs is set, 0: not, or -errno. */
static int is_confined(int proc, pid_t pid)
{
	CLEANUP_FREE char *status = NULL;
	char path[40];
	const char *at;
	int r;

	snprintf(path, sizeof(path), "%d/status", (int)pid);
	r = io_read_file_at(proc, path, STATUS_MAX, &status, NULL);
	if (r < 0)
		return r;
	at = strstr(status, "\nNoNewPrivs:\t");
	return at ? at[strlen("\nNoNewPrivs:\t")] != '0' : -EINVAL;
}

static void look_at_caller(const struct child *c, int proc, struct caller *ret)
{
	socklen_t len = sizeof(ret->cred), groups_len = sizeof(ret->groups), fd_len = sizeof(int);
	CLEANUP_CLOSE int pidfd = -1;
	int r;

	if (getsockopt(c->report, SOL_SOCKET, SO_PEERCRED, &ret->cred, &len) < 0 ||
		getsockopt(c->report, SOL_SOCKET, SO_PEERGROUPS, ret->groups, &groups_len) < 0 ||
		getsockopt(c->report, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &fd_len) < 0)
		child_fail_sys(c, errno, "caller");
	ret->n_groups = groups_len / sizeof(gid_t);
	r = ret->cred.pid > 0 ? is_confined(proc, ret->cred.pid) : -ESRCH;
	if (r > 0)
		child_fail(c, 125,
			"no_new_privs is set: a program that has confined itself, or runs in a box with "
			"no-new-privileges, cannot have others start");
	if (r == 0)
		r = copy_limits(ret->cred.pid);
	/* Still the same process: the number has not been another's meanwhile. */
	if (r == 0 && syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0) < 0)
		r = -errno;
	if (r < 0)
		child_fail_sys(c, r, "caller");
}

static int cover(const char *path, const char *type, const char *data_key, const char *data)
{
	CLEANUP_CLOSE int target = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	CLEANUP_CLOSE int fs = target < 0 ? -1 : fsopen(type, FSOPEN_CLOEXEC);
	CLEANUP_CLOSE int fd = -1;

	if (target < 0)
		return errno == ENOENT ? 0 : -errno;
	if (fs < 0 || (data_key && fsconfig(fs, FSCONFIG_SET_STRING, data_key, data, 0) < 0) ||
		fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -errno;
	fd = fsmount(fs, FSMOUNT_CLOEXEC,
		MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC * (data_key == NULL));
	if (fd < 0 || move_mount(fd, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
		return -errno;
	return 0;
}

/* What depends on the new namespaces, and what is not to be shared. Root's work, with nobody's input. */
static void build(const struct child *c)
{
	CLEANUP_CLOSE int null_device = open("/dev/null", O_PATH | O_NOFOLLOW | O_CLOEXEC);
	CLEANUP_CLOSE int proc = -1;
	char what[128] = "/dev/null";
	int r = null_device < 0 ? -errno : cover("/proc", "proc", NULL, NULL);

	if (r == 0) {
		proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
		r = proc < 0 ? -errno
			     : mask_apply(proc, mask_proc, mask_proc_len, null_device, what, sizeof(what));
	}
	if (r == 0)
		r = cover("/dev/mqueue", "mqueue", NULL, NULL);
	if (r == 0)
		r = cover("/dev/shm", "tmpfs", "mode", "1777");
	if (r == 0)
		r = cover("/tmp", "tmpfs", "mode", "1777");
	if (r < 0)
		child_fail_sys(c, r, "file systems");
}

/* From here on we are the caller, in a user namespace that knows nobody else. */
static void become_caller(const struct child *c, const struct caller *caller, int sync)
{
	uid_t base = c->userns >= 0 ? ROOTFS_ID_BASE : 0;
	char byte = 'u';

	if (setgroups(caller->n_groups, caller->groups) < 0)
		child_fail_sys(c, errno, "groups");
	/* Who makes a user namespace must exist in the one around it. */
	if (c->userns >= 0 &&
		(setns(c->userns, CLONE_NEWUSER) < 0 || setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0))
		child_fail_sys(c, errno, "join the user namespace");
	if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0 || write(sync, &byte, 1) != 1)
		child_fail_sys(c, errno, "new user namespace");
	if (io_read_full(sync, &byte, 1) != 1)
		child_fail(c, 125, "new user namespace: its IDs could not be mapped");
	if (setresgid(caller->cred.gid - base, caller->cred.gid - base, caller->cred.gid - base) < 0 ||
		setresuid(caller->cred.uid - base, caller->cred.uid - base, caller->cred.uid - base) < 0)
		child_fail_sys(c, errno, "set user");
}

/* Everything but what is the subprocess's own. */
static void make_read_only(const struct child *c)
{
	static const char *const own[] = {"/tmp", "/dev/shm"};
	struct mount_attr lock = {.attr_set = MOUNT_ATTR_RDONLY}, unlock = {.attr_clr = MOUNT_ATTR_RDONLY};

	if (mount_setattr(AT_FDCWD, "/", AT_RECURSIVE, &lock, sizeof(lock)) < 0)
		child_fail_sys(c, errno, "read-only");
	for (size_t i = 0; i < ARRAY_LEN(own); i++)
		if (mount_setattr(AT_FDCWD, own[i], AT_SYMLINK_NOFOLLOW, &unlock, sizeof(unlock)) < 0 &&
			errno != EINVAL && errno != ENOENT && errno != ENOTDIR)
			child_fail_sys(c, errno, own[i]);
}

static _Noreturn void execute(struct child *c, struct wire_process *p)
{
	struct strv argv = {0};
	char what[128];
	int r;

	p->no_new_privileges = true;
	p->seccomp = c->box->filter;
	p->seccomp_len = c->box->filter_len;
	p->oom_score_adj = 0;
	if (strv_push(&argv, INIT_NAME) < 0 || strv_push(&argv, "--watch") < 0)
		child_fail_sys(c, ENOMEM, "init");
	for (size_t i = 0; i < p->argv.n; i++)
		if (strv_push(&argv, p->argv.v[i]) < 0)
			child_fail_sys(c, ENOMEM, "init");
	r = confine_limits(p, what, sizeof(what));
	if (r == 0)
		r = confine_no_capabilities(what, sizeof(what));
	if (r < 0)
		child_fail_sys(c, r, what);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		child_fail_sys(c, errno, "no_new_privs");
	child_keep_report(c);
	r = confine_filter(p, what, sizeof(what));
	if (r < 0)
		child_fail_sys(c, r, what);
	execve(INIT_PATH, argv.v, p->env.v ? p->env.v : (char *[]){NULL});
	child_fail_sys(c, errno, INIT_PATH);
}

/* The first process of the new PID namespace. */
static _Noreturn void subprocess(struct child *c, const struct caller *caller, int sync)
{
	struct wire_process p = {0};

	build(c);
	become_caller(c, caller, sync);
	child_close_others((int[]){c->report}, 1);
	child_receive_start(c, c->report, &p);
	c->process = &p;
	/* For its streams and its working directory there is nothing special. */
	p.main = p.tty = p.init = false;
	if (!p.argv.n)
		child_fail(c, 125, "no program");
	child_set_streams(c);
	child_close_others((int[]){c->report}, 1);
	if (c->seal)
		make_read_only(c);
	child_set_cwd(c);
	set_timeout(c->report, 0);
	execute(c, &p);
}

static _Noreturn void help(struct child *c)
{
	struct clone_args args = {
		.flags = CLONE_PARENT | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS};
	struct caller caller = {0};
	char what[64], map[64];
	CLEANUP_CLOSE int proc = -1;
	int sync[2], r;
	uid_t base;
	pid_t pid;
	char byte;

	if (setns(c->box->main_pidfd, CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP) < 0)
		child_fail_sys(c, errno, "join the box");
	c->userns = c->box->user_namespace ? c->box->main_pidfd : -1;
	base = c->userns >= 0 ? ROOTFS_ID_BASE : 0;
	child_close_others((int[]){c->report, c->userns}, 2);
	set_timeout(c->report, WAIT_S);
	proc = rootfs_new("proc", "proc", 0, what, sizeof(what));
	if (proc < 0)
		child_fail_sys(c, proc, what);
	look_at_caller(c, proc, &caller);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sync) < 0)
		child_fail_sys(c, errno, "socket pair");
	/* PID 1 reaps it. */
	pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
	if (pid < 0)
		child_fail_sys(c, errno, "new namespaces");
	if (pid == 0) {
		close(sync[0]);
		subprocess(c, &caller, sync[1]);
	}
	close(sync[1]);
	if (io_read_full(sync[0], &byte, 1) != 1)
		_exit(0); /* it has said why */
	/* The kernel takes a map from within the namespace around the new one; the file is root's all the same. */
	if (c->userns >= 0 && setns(c->userns, CLONE_NEWUSER) < 0)
		_exit(0);
	snprintf(map, sizeof(map), "%u %u 1\n", caller.cred.uid - base, caller.cred.uid - base);
	r = userns_write_map(proc, pid, "uid_map", map);
	snprintf(map, sizeof(map), "%u %u 1\n", caller.cred.gid - base, caller.cred.gid - base);
	if (r == 0)
		r = userns_write_map(proc, pid, "gid_map", map);
	if (r == 0)
		(void)!write(sync[0], &byte, 1);
	_exit(0);
}

static void on_connection(void *data, int fd, uint32_t events)
{
	struct spawn_box *box = data;
	CLEANUP_CLOSE int conn = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
	struct child c = {.box = box, .stdio = {-1, -1, -1}, .report = conn, .userns = -1};

	/* A failure shows by the connection's end. */
	if (conn >= 0 && box->isolates && box->main_pidfd >= 0 && spawn_joined(box) == 0)
		help(&c);
}

int isolate_listen(struct loop *loop, struct spawn_box *box, const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	CLEANUP_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct loop_source *source;
	int r;

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || chmod(path, 0666) < 0 ||
		listen(fd, BACKLOG) < 0)
		return -errno;
	r = loop_add_io(loop, fd, EPOLLIN, on_connection, box, &source);
	if (r == 0)
		TAKE_FD(fd); /* both as long as the machine */
	return r;
}
