/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * A monitor of ours is started as user 0 of a user namespace, that is with capabilities over namespaces that
 * nobody else is in, and nothing else. With them it makes its own root, and then drops them. The order in
 * jail_enter follows: what needs capabilities comes first, Landlock (under which nothing can be mounted)
 * last.
 *
 * The empty root alone would not do. A working folder keeps what it was: `..` leads from it to the host's
 * root, and connect(2) to any Unix socket there that the user may reach. So the working folder becomes the
 * root of a mount of its own that hangs nowhere: above it there is nothing, and it is read-only.
 *
 * No limit on processes: RLIMIT_NPROC counts all of a user's, KVM makes a thread of its own in the monitor
 * when a processor first runs, and no filter lets anybody else make one. No control group either: it takes
 * root, or a subtree that the host delegated, which a login session is not; and somebody would have to
 * remove it when all of its processes are gone. What it would bound, but for the disks' bandwidth, is bounded
 * without: processor time by the number of threads, memory by RLIMIT_AS.
 *
 * No RLIMIT_AS for QEMU: the C library reserves address space for each thread by tens of megabytes, and
 * translated code by the gigabyte, so that it would bound nothing.
 */
#include "jail.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/landlock.h"
#include "base/sanitized.h"

/* ---- reports ---- */

const char *machine_confinement_name(enum machine_confinement c)
{
	static const char *const names[CONFINED_N] = {
		[CONFINED_NO_NEW_PRIVS] = "no-new-privileges",
		[CONFINED_SECCOMP] = "seccomp",
		[CONFINED_LANDLOCK] = "landlock",
		[CONFINED_USER_NS] = "user-namespace",
		[CONFINED_MOUNT_NS] = "mount-namespace",
		[CONFINED_NET_NS] = "network-namespace",
		[CONFINED_PID_NS] = "pid-namespace",
		[CONFINED_IPC_NS] = "ipc-namespace",
		[CONFINED_RLIMITS] = "rlimits",
		[CONFINED_CGROUP] = "cgroup",
	};
	return (unsigned)c < CONFINED_N ? names[c] : "unknown";
}

void jail_applied(struct machine_status *s, enum machine_confinement c)
{
	s->confined |= 1u << c;
}

/* Appends to a text; what does not fit is left out. */
static void append(struct machine_status *s, const char *text)
{
	size_t len = strnlen(s->not_confined, sizeof(s->not_confined) - 1);
	snprintf(s->not_confined + len, sizeof(s->not_confined) - len, "%s", text);
}

/* One reason for all layers of a mask: "a, b: reason". */
static void missing(struct machine_status *s, uint32_t mask, const char *reason)
{
	const char *before = *s->not_confined ? "; " : "";

	if (!mask)
		return;
	for (unsigned c = 0; c < CONFINED_N; c++) {
		if (!(mask & 1u << c))
			continue;
		append(s, before);
		append(s, machine_confinement_name(c));
		before = ", ";
	}
	append(s, ": ");
	append(s, reason);
	s->confined &= ~mask;
}

void jail_missing(struct machine_status *s, enum machine_confinement c, const char *fmt, ...)
{
	char reason[sizeof(s->not_confined)];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(reason, sizeof(reason), fmt, ap);
	va_end(ap);
	missing(s, 1u << c, reason);
}

void jail_merge(struct machine_status *s, const struct machine_status *other)
{
	char text[sizeof(other->not_confined)], safe[sizeof(s->not_confined)];

	s->confined |= other->confined & ((1u << CONFINED_N) - 1);
	snprintf(text, sizeof(text), "%.*s", (int)sizeof(text) - 1, other->not_confined);
	text_escape(safe, sizeof(safe), text);
	if (*safe && *s->not_confined)
		append(s, "; ");
	append(s, safe);
}

/* Words for what a host answers to a layer that it does not give. */
static const char *why(int error)
{
	switch (-error) {
	case EPERM:
	case EACCES:
		return "not permitted here";
	case ENOSPC:
	case EUSERS:
		return "the host's limit is reached";
	case EINVAL:
	case ENOSYS:
		return "not in this kernel";
	case EOPNOTSUPP:
		return "off in this kernel";
	default:
		return strerror(-error);
	}
}

/* ---- in the supervisor ---- */

/*
 * The mount namespace of a monitor is not among them: jail_enter makes it itself, so that it cannot err about
 * whose it is.
 */
enum {
	NAMESPACES =
		CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP
};

struct proc_confine jail_namespaces(void)
{
	return (struct proc_confine){.namespaces = NAMESPACES, .capabilities = true, .landlock_fd = -1};
}

void jail_namespaces_report(const struct proc_confine *c, struct machine_status *s)
{
	static const struct {
		int flag;
		enum machine_confinement bit;
	} all[] = {{CLONE_NEWUSER, CONFINED_USER_NS}, {CLONE_NEWNET, CONFINED_NET_NS},
		{CLONE_NEWPID, CONFINED_PID_NS}, {CLONE_NEWIPC, CONFINED_IPC_NS}};
	uint32_t refused = 0;

	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		if (c->got & (unsigned)all[i].flag)
			jail_applied(s, all[i].bit);
		else if (c->namespaces & (unsigned)all[i].flag)
			refused |= 1u << all[i].bit;
	}
	missing(s, refused, why(c->namespaces_error));
}

/*
 * Whether this user could use the file if it were nobody special, as QEMU will be: root reads what others own
 * by a capability only. Ours are put aside for the question; they are the calling thread's own
 * (capabilities(7)).
 */
static bool usable_without_capabilities(const char *path, int mode)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct have[_LINUX_CAPABILITY_U32S_3], none[_LINUX_CAPABILITY_U32S_3];

	if (syscall(SYS_capget, &head, have) < 0)
		return true;
	memcpy(none, have, sizeof(none));
	for (size_t i = 0; i < ARRAY_LEN(none); i++)
		none[i].effective = 0;
	if (syscall(SYS_capset, &head, none) < 0)
		return true;
	bool usable = faccessat(AT_FDCWD, path, mode, AT_EACCESS) == 0 || errno != EACCES;
	if (syscall(SYS_capset, &head, have) < 0)
		abort(); /* what is permitted can always be made effective again */
	return usable;
}

/* Folders below which QEMU's program, libraries, firmware and modules are. */
static void allow_programs(int ruleset, const char *program)
{
	static const char *const system[] = {
		"/usr", "/bin", "/lib", "/lib32", "/lib64", "/nix/store", "/gnu/store"};
	/*
	 * Beside a program that lies elsewhere: where its own installation, or its build tree, keeps the
	 * rest.
	 */
	static const char *const beside[] = {"", "/../lib", "/../lib64", "/../libexec", "/../share"};
	CLEANUP_FREE char *real = realpath(program, NULL);
	bool elsewhere = real != NULL;

	for (size_t i = 0; i < ARRAY_LEN(system); i++) {
		size_t n = strlen(system[i]);
		(void)jail_landlock_allow(ruleset, system[i], JAIL_EXECUTE); /* not every host has all */
		if (real && strncmp(real, system[i], n) == 0 && real[n] == '/')
			elsewhere = false;
	}
	char *slash = real ? strrchr(real, '/') : NULL;
	if (!elsewhere || !slash || slash == real)
		return;
	*slash = '\0';
	for (size_t i = 0; i < ARRAY_LEN(beside); i++) {
		char path[PATH_MAX];
		if (snprintf(path, sizeof(path), "%s%s", real, beside[i]) < (int)sizeof(path))
			(void)jail_landlock_allow(ruleset, path, JAIL_EXECUTE);
	}
}

/* Of what strace(1) shows of QEMU 7.2, what it cannot do without. */
static int qemu_ruleset(const char *program, const struct machine_config *c)
{
	/* Where libraries are; the clock's zone, which may be no link to /usr. */
	static const char *const data[] = {"/etc/ld.so.cache", "/etc/localtime"};
	CLEANUP_CLOSE int ruleset = landlock_new(true);

	if (ruleset < 0)
		return ruleset;
	allow_programs(ruleset, program);
	for (size_t i = 0; i < ARRAY_LEN(data); i++)
		(void)jail_landlock_allow(ruleset, data[i], JAIL_READ);
	(void)jail_landlock_allow(ruleset, "/dev/urandom", JAIL_READ);
	(void)jail_landlock_allow(ruleset, "/dev/null", JAIL_WRITE);
	if (c->accel == ACCEL_QEMU_KVM)
		(void)jail_landlock_allow(ruleset, "/dev/kvm", JAIL_WRITE);
	/* What cannot be allowed here QEMU cannot open, and says so itself. */
	(void)jail_landlock_allow(ruleset, c->kernel, JAIL_READ);
	(void)jail_landlock_allow(ruleset, c->initrd, JAIL_READ);
	if (c->net.present)
		(void)jail_landlock_allow(ruleset, c->qemu_net, JAIL_EXECUTE);
	for (size_t i = 0; i < c->n_disks; i++)
		(void)jail_landlock_allow(
			ruleset, c->disks[i].path, c->disks[i].read_only ? JAIL_READ : JAIL_WRITE);
	return TAKE_FD(ruleset);
}

void jail_qemu_prepare(struct jail_qemu *j, const char *program, const struct machine_config *c)
{
	struct stat st;

	*j = (struct jail_qemu){.file_bytes = c->mem_bytes};
	j->foreign_files = !usable_without_capabilities(program, X_OK) ||
			   !usable_without_capabilities(c->kernel, R_OK) ||
			   !usable_without_capabilities(c->initrd, R_OK);
	for (size_t i = 0; i < c->n_disks; i++) {
		const struct machine_disk *d = &c->disks[i];
		j->foreign_files |= !usable_without_capabilities(d->path, d->read_only ? R_OK : R_OK | W_OK);
		if (!d->read_only && stat(d->path, &st) == 0 && (uint64_t)st.st_size > j->file_bytes)
			j->file_bytes = (uint64_t)st.st_size;
	}
	j->confine = (struct proc_confine){.namespaces = NAMESPACES, .landlock_fd = qemu_ruleset(program, c)};
	if (j->foreign_files) { /* in a user namespace root's capabilities count for nothing on the host's files */
		j->confine.namespaces &= ~(unsigned)CLONE_NEWUSER;
		j->confine.capabilities = true;
	}
	if (j->confine.landlock_fd < 0)
		j->landlock_error = j->confine.landlock_fd;
	if (jail_qemu_filter(&j->filter) == 0) /* QEMU's own remains; it fails for want of memory only */
		j->confine.filter = &j->filter;
}

/* Of another process, or ours (pid 0). Never above what holds already. */
static int limit(pid_t pid, enum __rlimit_resource what, uint64_t value)
{
	struct rlimit old, l = {value, value};

	if (prlimit(pid, what, NULL, &old) < 0)
		return -errno;
	if (old.rlim_max < l.rlim_max)
		l.rlim_max = l.rlim_cur = old.rlim_max;
	return prlimit(pid, what, &l, NULL) < 0 ? -errno : 0;
}

static void limit_all(pid_t pid, const struct jail_config *c, struct machine_status *s)
{
	const struct {
		enum __rlimit_resource what;
		uint64_t value;
	} all[] = {{RLIMIT_CORE, 0}, {RLIMIT_FSIZE, c->file_bytes_max}, {RLIMIT_NOFILE, c->descriptors_max},
		{RLIMIT_MEMLOCK, 0}, {RLIMIT_AS, SANITIZED ? RLIM_INFINITY : c->memory_max}};
	int r = 0;

	for (size_t i = 0; i < ARRAY_LEN(all) && r == 0; i++)
		r = limit(pid, all[i].what, all[i].value);
	if (r == 0)
		jail_applied(s, CONFINED_RLIMITS);
	else
		jail_missing(s, CONFINED_RLIMITS, "%s", why(r));
}

void jail_qemu_started(const struct jail_qemu *j, pid_t pid, struct machine_status *s)
{
	enum { DESCRIPTORS = 1024 }; /* it has some forty, and three for each queue */
	int error = j->landlock_error ? j->landlock_error : j->confine.landlock_error;

	jail_applied(s, CONFINED_NO_NEW_PRIVS);
	jail_applied(s, CONFINED_SECCOMP); /* its own, -sandbox, and ours */
	if (error)
		jail_missing(s, CONFINED_LANDLOCK, "%s", why(error));
	else
		jail_applied(s, CONFINED_LANDLOCK);
	jail_namespaces_report(&j->confine, s);
	if (j->foreign_files)
		jail_missing(s, CONFINED_USER_NS, "files of other users, which root reads");
	const struct jail_config c = {
		.file_bytes_max = j->file_bytes, .descriptors_max = DESCRIPTORS, .memory_max = RLIM_INFINITY};
	limit_all(pid, &c, s);
	jail_missing(s, CONFINED_MOUNT_NS, "QEMU opens its files by name");
	jail_missing(s, CONFINED_CGROUP, "none of its own");
}

void jail_qemu_done(struct jail_qemu *j)
{
	close_fd(&j->confine.landlock_fd);
	free(j->filter.filter);
}

/* ---- in our own monitor ---- */

/* A tmpfs with nothing in it, and no room for anything. */
static int new_empty_mount(void)
{
	CLEANUP_CLOSE int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);

	if (fs < 0 || fsconfig(fs, FSCONFIG_SET_STRING, "mode", "0555", 0) < 0 ||
		fsconfig(fs, FSCONFIG_SET_STRING, "nr_inodes", "1", 0) < 0 ||
		fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -1;
	return fsmount(fs, FSMOUNT_CLOEXEC,
		MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
}

/*
 * The working folder as the root of a mount that hangs nowhere, and is read-only; its sockets can be
 * connected to.
 */
static int new_folder_mount(void)
{
	struct mount_attr attr = {
		.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC};
	CLEANUP_CLOSE int fd = open_tree(AT_FDCWD, ".", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

	if (fd < 0 || mount_setattr(fd, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
		return -1;
	return TAKE_FD(fd);
}

/* 0, or -errno with the working folder and root as before. */
static int empty_root(void)
{
	/* Always a namespace of its own, so that this cannot be the host's, or the supervisor's. */
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return -errno;
	CLEANUP_CLOSE int before = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	CLEANUP_CLOSE int folder = new_folder_mount();
	if (before < 0 || folder < 0)
		return -errno;
	CLEANUP_CLOSE int root = new_empty_mount();
	if (root < 0 || move_mount(root, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0 || fchdir(root) < 0)
		return -errno;
	/*
	 * The old root comes to lie on the new one, and is taken off (pivot_root(2), "pivot_root(".", ".")").
	 */
	int r = syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 ? -errno : 0;
	if (fchdir(r == 0 ? folder : before) < 0)
		return -errno;
	return r;
}

static void enter_landlock(struct machine_status *s)
{
	CLEANUP_CLOSE int ruleset = landlock_new(true);
	int r = ruleset < 0 ? ruleset : landlock_enter(ruleset);

	if (r == 0)
		jail_applied(s, CONFINED_LANDLOCK);
	else
		jail_missing(s, CONFINED_LANDLOCK, "%s", why(r));
}

void jail_enter(const struct jail_config *c, struct machine_status *s)
{
	*s = (struct machine_status){0};
	/* A file's limit is to be an error of write(2), and not a signal that the machine dies of. */
	signal(SIGXFSZ, SIG_IGN);
	limit_all(0, c, s);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0)
		jail_applied(s, CONFINED_NO_NEW_PRIVS);
	else
		jail_missing(s, CONFINED_NO_NEW_PRIVS, "%s", why(-errno));
	int r = empty_root();
	if (r == 0)
		jail_applied(s, CONFINED_MOUNT_NS);
	else
		jail_missing(s, CONFINED_MOUNT_NS, "%s", why(r));
	(void)proc_drop_capabilities(); /* fewer are never refused */
	/*
	 * No debugger of the same user, another box's monitor for one, gets at the guest's memory
	 * (ptrace(2)).
	 */
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	enter_landlock(s);
	jail_missing(s, CONFINED_CGROUP, "none of its own");
}
