/* SPDX-License-Identifier: MIT */
/*
 * What confines a3s-box-netd, which reads what boxes write: a box that takes it over has the network of its own boxes, which
 * is what this process is for, and next to nothing else. Layers, each standing alone:
 *
 *     Landlock      it reads the resolver's files (and what they are links to), and can remove its socket. On a host without
 *                   it: a root that has nothing else, in a mount namespace of its own. Where that is not to be had either: no
 *                   file at all; the resolvers remain those of the start
 *     seccomp       what the table below names. No program, no process, no thread, no debugging of others, nothing that can be
 *                   executed, no file that can be written, no sockets but of the kinds and with the options that are in use
 *     limits        no file grows, no core, no locked memory
 *     privileges    no capability and no way to any; not dumpable
 *
 * Landlock's limits on TCP are not used: which addresses boxes may reach is policy, and not of this process.
 */
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/io.h"
#include "base/landlock.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/sanitized.h"
#include "engine.h"

/* Where resolv.conf is, or what it is a link to: what one of these programs writes. */
static const char *const resolvers[] = {"/etc", "/run/systemd/resolve", "/run/resolvconf",
	"/run/NetworkManager", "/run/connman", "/run/netconfig", "/var/run/netconfig", "/mnt/wsl"};

/* ---- Landlock (landlock(7)) ---- */

/* What is not there needs no permission. */
static int allow(int ruleset, const char *path, uint64_t rights)
{
	CLEANUP_CLOSE int fd = open(path, O_PATH | O_CLOEXEC);

	return fd < 0 ? 0 : landlock_allow(ruleset, fd, rights);
}

static int names_enter(bool owns_folder)
{
	CLEANUP_CLOSE int ruleset = landlock_new(false);
	int r = ruleset < 0 ? ruleset : 0;

	for (size_t i = 0; i < ARRAY_LEN(resolvers) && r == 0; i++)
		r = allow(ruleset, resolvers[i], LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR);
	if (r == 0 && owns_folder)
		r = allow(ruleset, ".", LANDLOCK_ACCESS_FS_REMOVE_FILE);
	return r == 0 ? landlock_enter(ruleset) : r;
}

/* ---- a root with nothing else in it (mount_namespaces(7)) ---- */

#define FOLDER "/folder" /* the working folder, in that root */

static int write_text(const char *path, const char *text)
{
	CLEANUP_CLOSE int fd = open(path, O_WRONLY | O_CLOEXEC);

	return fd < 0 ? -errno : io_write_full(fd, text, strlen(text));
}

/* Who we are does not change by it, and what belongs to the network's namespace is no more ours than before. */
static int new_namespaces(void)
{
	const uid_t uid = geteuid();
	const gid_t gid = getegid();
	char users[64], groups[64];

	snprintf(users, sizeof(users), "%u %u 1", uid, uid);
	snprintf(groups, sizeof(groups), "%u %u 1", gid, gid);
	if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
		return -errno;
	int r = write_text("/proc/self/uid_map", users);
	if (r == 0)
		r = write_text("/proc/self/setgroups", "deny");
	if (r == 0)
		r = write_text("/proc/self/gid_map", groups);
	return r == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ? -errno : r;
}

/* What is at path, with what is mounted below it, which the kernel lets nobody take away here. fd or -errno. */
static int copy_mount(const char *path, uint64_t attributes)
{
	struct mount_attr attr = {
		.attr_set = attributes | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC};
	CLEANUP_CLOSE int fd = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);

	if (fd < 0 || mount_setattr(fd, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof(attr)) < 0)
		return -errno;
	return TAKE_FD(fd);
}

/* Puts it at the same path below root, another mount's. Consumes tree. */
static int put_mount(int root, const char *path, int tree)
{
	CLEANUP_CLOSE int own = tree;
	char at[64];

	for (const char *slash = path; slash;) {
		slash = strchr(slash + 1, '/');
		snprintf(at, sizeof(at), "%.*s", (int)(slash ? slash - path : (ptrdiff_t)strlen(path)) - 1,
			path + 1);
		if (mkdirat(root, at, 0755) < 0 && errno != EEXIST)
			return -errno;
	}
	return move_mount(own, "", root, at, MOVE_MOUNT_F_EMPTY_PATH) < 0 ? -errno : 0;
}

/* A new root over the old one, of which the trees (-1: none) are a part. fd or -errno. */
static int new_root(int trees[static ARRAY_LEN(resolvers)], int folder)
{
	CLEANUP_CLOSE int own = folder;
	CLEANUP_CLOSE int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);

	if (fs < 0 || fsconfig(fs, FSCONFIG_SET_STRING, "mode", "0555", 0) < 0 ||
		fsconfig(fs, FSCONFIG_SET_STRING, "nr_inodes", "64", 0) < 0 ||
		fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -errno;
	CLEANUP_CLOSE int root =
		fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	if (root < 0 || move_mount(root, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return -errno;
	int r = own < 0 ? 0 : put_mount(root, FOLDER, TAKE_FD(own));
	for (size_t i = 0; i < ARRAY_LEN(resolvers) && r == 0; i++) {
		if (trees[i] >= 0)
			r = put_mount(root, resolvers[i], TAKE_FD(trees[i]));
	}
	struct mount_attr read_only = {.attr_set = MOUNT_ATTR_RDONLY};
	if (r == 0 && mount_setattr(root, "", AT_EMPTY_PATH, &read_only, sizeof(read_only)) < 0)
		r = -errno;
	return r < 0 ? r : TAKE_FD(root);
}

/* Needs what a user namespace gives, and its capabilities. */
static int root_enter(bool owns_folder)
{
	int trees[ARRAY_LEN(resolvers)], r = new_namespaces();
	CLEANUP_CLOSE int folder = r == 0 && owns_folder ? copy_mount(".", 0) : -1;

	if (r < 0 || (owns_folder && folder < 0))
		return r < 0 ? r : folder;
	for (size_t i = 0; i < ARRAY_LEN(resolvers); i++) /* not every host has all */
		trees[i] = copy_mount(resolvers[i], MOUNT_ATTR_RDONLY);
	CLEANUP_CLOSE int root = new_root(trees, TAKE_FD(folder));
	for (size_t i = 0; i < ARRAY_LEN(resolvers); i++) {
		if (trees[i] >= 0)
			close(trees[i]);
	}
	/* The old root comes to lie on the new one, and is taken off (pivot_root(2), "pivot_root(".", ".")"). */
	if (root < 0)
		return root;
	if (fchdir(root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 ||
		chdir(owns_folder ? FOLDER : "/") < 0)
		return -errno;
	return 0;
}

/* ---- seccomp (seccomp(2)) ---- */

/* An argument's condition: under mask it equals value. mask 0: none. Of 32 bits, as the kernel looks at no more of these. */
struct cond {
	unsigned arg;
	uint32_t mask, value;
};
struct rule {
	const char *why; /* a call without a reason has no place here */
	int call;
	struct cond a, b, c; /* all hold */
};

/* clang-format off */
#define IS(n, is)	 {.arg = (n), .mask = UINT32_MAX, .value = (uint32_t)(is)}
#define WITHOUT(n, bits) {.arg = (n), .mask = (bits)}
#define TYPE(is)	 {.arg = 1, .mask = ~(uint32_t)(SOCK_CLOEXEC | SOCK_NONBLOCK), .value = (is)}
#define CALL(reason, name)		{.why = reason, .call = SCMP_SYS(name)}
#define CALL_IF(reason, name, ...)	{.why = reason, .call = SCMP_SYS(name), .a = __VA_ARGS__}
#define CALL_SOCKET(reason, family, type, protocol) \
	CALL_IF(reason, socket, IS(0, family), .b = TYPE(type), .c = IS(2, protocol))
#define CALL_OPT(reason, name, level, option) CALL_IF(reason, name, IS(1, level), .b = IS(2, option))
/* clang-format on */

static const struct rule rules[] = {
	CALL("waits", epoll_wait),
	CALL("waits", epoll_pwait),
	CALL("watches descriptors", epoll_ctl),
	CALL("frames and connections", read),
	CALL("frames and connections", readv),
	CALL("frames and connections", recvfrom),
	CALL("frames, datagrams, requests with descriptors", recvmsg),
	CALL("datagrams", recvmmsg),
	CALL("connections, messages", write),
	CALL("connections, and the C library's last words", writev),
	CALL("connections, answers", sendto),
	CALL("frames, datagrams", sendmsg),
	CALL("datagrams", sendmmsg),
	CALL("clients and connections come", accept4),
	CALL("connections of boxes go on", connect),
	CALL("datagrams have a port", bind),
	CALL("half-closes", shutdown),
	CALL("connections end", close),
	CALL("our own address", getsockname),
	CALL("a client's address", getpeername),
	CALL_SOCKET("connections of boxes go on", AF_INET, SOCK_STREAM, 0),
	CALL_SOCKET("connections of boxes go on", AF_INET6, SOCK_STREAM, 0),
	CALL_SOCKET("datagrams of boxes go on", AF_INET, SOCK_DGRAM, 0),
	CALL_SOCKET("datagrams of boxes go on", AF_INET6, SOCK_DGRAM, 0),
	CALL_SOCKET("echoes of boxes go on", AF_INET, SOCK_DGRAM, IPPROTO_ICMP),
	CALL_SOCKET("echoes of boxes go on", AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6),
	CALL_OPT("what a socket is", getsockopt, SOL_SOCKET, SO_DOMAIN),
	CALL_OPT("what a socket is", getsockopt, SOL_SOCKET, SO_TYPE),
	CALL_OPT("what a socket is", getsockopt, SOL_SOCKET, SO_PROTOCOL),
	CALL_OPT("what a socket is", getsockopt, SOL_SOCKET, SO_ACCEPTCONN),
	CALL_OPT("whether it failed", getsockopt, SOL_SOCKET, SO_ERROR),
	CALL_OPT("who a client is", getsockopt, SOL_SOCKET, SO_PEERCRED),
	CALL_OPT("an interface's number", getsockopt, SOL_SOCKET, SO_BINDTOIFINDEX),
	CALL_OPT("an interface's number", setsockopt, SOL_SOCKET, SO_BINDTODEVICE),
	CALL_OPT("answers to a client", setsockopt, SOL_SOCKET, SO_SNDBUF),
	CALL_OPT("connections end with their peer", setsockopt, SOL_SOCKET, SO_KEEPALIVE),
	CALL_OPT("a box resets a connection", setsockopt, SOL_SOCKET, SO_LINGER),
	CALL_OPT("segments of boxes go on at once", setsockopt, IPPROTO_TCP, TCP_NODELAY),
	CALL_OPT("errors of datagrams", setsockopt, IPPROTO_IP, IP_RECVERR),
	CALL_OPT("errors of datagrams", setsockopt, IPPROTO_IPV6, IPV6_RECVERR),
	CALL_OPT("datagrams are cut", setsockopt, IPPROTO_IP, IP_MTU_DISCOVER),
	CALL_OPT("datagrams are cut", setsockopt, IPPROTO_IPV6, IPV6_MTU_DISCOVER),
	CALL_OPT("traceroute", setsockopt, IPPROTO_IP, IP_TTL),
	CALL_OPT("traceroute", setsockopt, IPPROTO_IPV6, IPV6_UNICAST_HOPS),
	CALL_OPT("a published port answers from where it was asked", setsockopt, IPPROTO_IP, IP_PKTINFO),
	CALL_OPT("a published port answers from where it was asked", setsockopt, IPPROTO_IPV6,
		IPV6_RECVPKTINFO),
	CALL_OPT("a socket is of one family", setsockopt, IPPROTO_IPV6, IPV6_V6ONLY),
	CALL_IF("a connection to ourselves", socketpair, IS(0, AF_UNIX), .b = TYPE(SOCK_STREAM)),
	CALL_IF("flags of a descriptor", fcntl, IS(1, F_GETFL)),
	CALL_IF("a stream becomes non-blocking", fcntl, IS(1, F_SETFL)),
	CALL_IF("close-on-exec", fcntl, IS(1, F_GETFD)),
	CALL_IF("close-on-exec", fcntl, IS(1, F_SETFD)),
	CALL_IF("what a socket holds", ioctl, IS(1, FIONREAD)),
	CALL_IF("what a socket still has to send", ioctl, IS(1, TIOCOUTQ)),
	CALL("whether they changed", fstat),
	CALL("whether they changed", newfstatat),
	CALL("whether they changed", statx),
	CALL("reads them", pread64),
	CALL("reads them", lseek),

	CALL("time, where the vDSO cannot tell it", clock_gettime),
	CALL("numbers that nobody guesses", getrandom),
	CALL_IF("memory; nothing that can be executed", mmap, WITHOUT(2, PROT_EXEC)),
	CALL_IF("memory; nothing becomes executable", mprotect, WITHOUT(2, PROT_EXEC)),
	CALL("memory", brk),
	CALL("memory", mremap),
	CALL("memory goes back", munmap),
	CALL("memory goes back", madvise),
	CALL("locks of the C library", futex),
	CALL("a signal's handler returns", rt_sigreturn),
	CALL("an interrupted wait goes on", restart_syscall),
	CALL("holds signals back", rt_sigprocmask),
	CALL_IF("abort restores the signal's default", rt_sigaction, IS(0, SIGABRT)),
	CALL("abort and messages name the thread", gettid),
	CALL("abort names the process", getpid),
	CALL("who a client may be", geteuid),
	CALL("the process ends", exit),
	CALL("the process ends", exit_group),
};

static int add_rule(scmp_filter_ctx ctx, const struct rule *r, uint32_t action)
{
	struct scmp_arg_cmp cmp[3];
	unsigned n = 0;
	const struct cond *const conds[] = {&r->a, &r->b, &r->c};

	for (size_t i = 0; i < ARRAY_LEN(conds); i++) {
		if (conds[i]->mask)
			cmp[n++] = (struct scmp_arg_cmp){.arg = conds[i]->arg,
				.op = SCMP_CMP_MASKED_EQ,
				.datum_a = conds[i]->mask,
				.datum_b = conds[i]->value};
	}
	return seccomp_rule_add_array(ctx, action, r->call, n, cmp);
}

static int add_rules(scmp_filter_ctx ctx, const struct rule *v, size_t n, uint32_t action)
{
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++) {
		r = add_rule(ctx, &v[i], action);
		/* Of another architecture's table only: not a call of ours. */
		if (r == -EDOM)
			r = 0;
	}
	return r;
}

/* files: something else bounds which ones it can name. */
static int filter_enter(bool files, bool owns_folder)
{
	static const struct rule opens[] = {CALL_IF(
		"the resolver's files", openat, WITHOUT(2, O_ACCMODE | O_CREAT | O_TRUNC | O_APPEND))};
	static const struct rule unlinks[] = {
		CALL("our socket's name goes", unlink), CALL("our socket's name goes", unlinkat)};
	const struct rule abort_ours = {
		.call = SCMP_SYS(tgkill), .a = IS(0, getpid())}; /* abort: a signal to ourselves */
	const uint32_t names = files ? SCMP_ACT_ALLOW : SCMP_ACT_ERRNO(EACCES);
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
	if (!ctx)
		return -ENOMEM;
	int r = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	if (r == 0)
		r = add_rules(ctx, rules, ARRAY_LEN(rules), SCMP_ACT_ALLOW);
	if (r == 0)
		r = add_rules(ctx, opens, ARRAY_LEN(opens), names);
	if (r == 0 && owns_folder)
		r = add_rules(ctx, unlinks, ARRAY_LEN(unlinks), names);
	if (r == 0)
		r = add_rule(ctx, &abort_ours, SCMP_ACT_ALLOW);
	/* Of a busy process every call is judged: most of all these. */
	if (r == 0)
		r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (r == 0)
		r = seccomp_load(ctx);
	seccomp_release(ctx);
	return r;
}

/* ---- limits, privileges ---- */

static int limit(enum __rlimit_resource what, uint64_t value)
{
	struct rlimit l;

	if (getrlimit(what, &l) < 0)
		return -errno;
	l.rlim_cur = l.rlim_max = MIN_OF(l.rlim_max, (rlim_t)value);
	return setrlimit(what, &l) < 0 ? -errno : 0;
}

/* A layer that this host does not give is no reason to leave boxes without a network. */
static void report(const char *layer, int r)
{
	if (r < 0)
		log_warn("not confined by %s: %s", layer, strerror(-r));
}

/*
 * Which files it can name, by Landlock or by its root. 0, or -errno: neither. Landlock is tried by a ruleset, as it itself
 * comes last: under it nothing can be mounted.
 */
static int confine_files(bool owns_folder, bool *ret_landlock)
{
	CLEANUP_CLOSE int ruleset = landlock_new(false);

	*ret_landlock = ruleset >= 0;
	if (ruleset >= 0)
		return 0;
	report("Landlock", ruleset);
	int r = root_enter(owns_folder);
	report("a root of its own either, so it reads no file", r);
	return r;
}

int jail_enter_netd(bool owns_folder, struct err *e)
{
	bool landlock = false;
	int files = SANITIZED ? 0 : confine_files(owns_folder, &landlock);

	/* A write beyond the limit is to be an error, and not a signal. */
	signal(SIGXFSZ, SIG_IGN);
	report("limits", limit(RLIMIT_CORE, 0));
	if (!SANITIZED) /* whose reports are files */
		report("limits", limit(RLIMIT_FSIZE, 0));
	report("limits", limit(RLIMIT_NPROC, 0));
	report("limits", limit(RLIMIT_MEMLOCK, 0));
	report("capabilities", proc_drop_capabilities());
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_sys(e, -errno, "no new privileges");
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		report("dumpable", -errno);
	if (SANITIZED) { /* the runtime opens files, asks for threads, and more */
		log_info("not confined by a filter of system calls, nor in files: built with a sanitizer");
		return 0;
	}
	if (landlock) {
		files = names_enter(owns_folder);
		report("Landlock, so it reads no file", files);
	}
	int r = filter_enter(files == 0, owns_folder);
	return r < 0 ? err_sys(e, r, "filter of system calls") : 0;
}
