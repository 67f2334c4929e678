/* SPDX-License-Identifier: MIT */
/*
 * What the server may ask of the kernel (seccomp(2)). Anything else, and any call of another architecture's table, ends the
 * process with SIGSYS, which the supervisor sees. Which files it reaches by a name is for its root and Landlock to judge
 * (jail.h): a filter sees no names. Arguments are compared in 32 bits, as the kernel looks at no more of these.
 */
#include "jail-filter.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "watch.h"

#ifndef __NR_clone3
#define __NR_clone3 435
#endif

/* An argument's condition: under mask it equals value. mask 0: none. */
struct cond {
	unsigned arg;
	uint32_t mask, value;
};
struct rule {
	const char *why; /* a call without a reason has no place here */
	int call;
	struct cond a, b; /* both hold */
};

/* clang-format off */
#define IS(n, is)	 {.arg = (n), .mask = UINT32_MAX, .value = (uint32_t)(is)}
#define WITHOUT(n, bits) {.arg = (n), .mask = (bits)}
#define WITH(n, bits)	 {.arg = (n), .mask = (uint32_t)(bits), .value = (uint32_t)(bits)}
#define NO_SET_ID(n)	 WITHOUT(n, S_ISUID | S_ISGID | S_ISVTX)
#define CALL(reason, name)		{.why = reason, .call = SCMP_SYS(name)}
#define CALL_IF(reason, name, ...)	{.why = reason, .call = SCMP_SYS(name), .a = __VA_ARGS__}
#define FCNTL(reason, command)		CALL_IF(reason, fcntl, IS(1, command))
/* clang-format on */

static const struct rule rules[] = {
	/* The guest's requests: names. */
	/* What runs with its owner's rights on the host is nothing to be made (tree/stored.h). openat2 has its mode in memory. */
	CALL_IF("looks a name up, opens, makes a file", openat, NO_SET_ID(3)),
	CALL_IF("makes a folder", mkdirat, NO_SET_ID(2)),
	CALL("makes a link", symlinkat),
	CALL("makes another name", linkat),
	CALL("removes a name", unlinkat),
	CALL("moves a name", renameat),
	CALL("moves a name, exchanges two, replaces none", renameat2),
	CALL("reads a link", readlinkat),
	CALL("reads a link, and which file a descriptor is", readlink),
	CALL("reads a folder", getdents64),
	CALL("what a name leads to", newfstatat),
	CALL("what a name leads to, with its birth and its mount", statx),
	CALL("whether something may be done with it", faccessat),
	CALL("whether something may be done with it", faccessat2),

	/* Files. */
	CALL("what a file is", fstat),
	CALL("reads", read),
	CALL("reads", pread64),
	CALL("reads into the guest's buffers", readv),
	CALL("reads into the guest's buffers", preadv),
	CALL("reads into the guest's buffers", preadv2),
	CALL("writes", write),
	CALL("writes", pwrite64),
	CALL("writes the guest's buffers", writev),
	CALL("writes the guest's buffers", pwritev),
	CALL("writes the guest's buffers", pwritev2),
	CALL("copies between files", copy_file_range),
	CALL("where data begins and ends; a folder's place", lseek),
	CALL("a file's length", ftruncate),
	CALL("room, and holes", fallocate),
	CALL("what is written is durable", fsync),
	CALL("what is written is durable", fdatasync),
	CALL("all that is written is durable", syncfs),
	CALL_IF("a file's mode", fchmod, NO_SET_ID(1)),
	CALL_IF("a file's mode", fchmodat, NO_SET_ID(2)),
	CALL_IF("a file's mode", chmod, NO_SET_ID(1)),
	CALL("a file's times", utimensat),
	CALL("owner, mode and attributes that the box sees", fgetxattr),
	CALL("owner, mode and attributes that the box sees", fsetxattr),
	CALL("owner, mode and attributes that the box sees", flistxattr),
	CALL("owner, mode and attributes that the box sees", fremovexattr),
	CALL("the same, of what cannot be opened: by its descriptor's name", getxattr),
	CALL("the same, of what cannot be opened: by its descriptor's name", setxattr),
	CALL("the same, of what cannot be opened: by its descriptor's name", listxattr),
	CALL("the same, of what cannot be opened: by its descriptor's name", removexattr),
	CALL("the room that is left", fstatfs),
	CALL("locks of whole files", flock),
	FCNTL("locks of ranges", F_OFD_GETLK),
	FCNTL("locks of ranges", F_OFD_SETLK),
	CALL_IF("changes that others make, for those in the box who wait for them", fanotify_init,
		IS(0, WATCH_GROUP_FLAGS)),
	CALL_IF("one file or folder of these; no mount, no file system", fanotify_mark,
		WITHOUT(1, FAN_MARK_MOUNT | FAN_MARK_FILESYSTEM)),
	CALL("how it is named in such events; opens nothing", name_to_handle_at),
	FCNTL("whether this is the only box of a volume", F_GETLEASE),
	FCNTL("another descriptor of an open file", F_DUPFD_CLOEXEC),
	FCNTL("flags of an open file", F_GETFL),
	FCNTL("flags of an open file; a descriptor of the front end's", F_SETFL),
	FCNTL("close-on-exec", F_GETFD),
	FCNTL("close-on-exec", F_SETFD),
	FCNTL("guest memory cannot shrink", F_GET_SEALS),
	FCNTL("guest memory cannot shrink", F_ADD_SEALS),
	CALL("done with a file", close),

	/* The front end, the loop. */
	CALL("messages of the front end", recvmsg),
	CALL("answers", sendmsg),
	CALL("waits", epoll_wait),
	CALL("waits", epoll_pwait),
	CALL("watches queues", epoll_ctl),
	CALL("a loop", epoll_create1),
	CALL("whether a notification can be written without waiting", poll),
	CALL("the same where there is no poll", ppoll),
	CALL("a lease is asked for", rt_sigtimedwait),

	/* What any program with threads needs. */
	CALL_IF("threads; nothing else", clone,
		WITH(0, CLONE_VM | CLONE_THREAD | CLONE_SIGHAND | CLONE_FS | CLONE_FILES)),
	CALL("a thread begins", set_robust_list),
	CALL("a thread begins", rseq),
	CALL("a thread's stack", sched_getaffinity),
	CALL_IF("memory; nothing that can be executed", mmap, WITHOUT(2, PROT_EXEC)),
	CALL_IF("memory; nothing becomes executable", mprotect, WITHOUT(2, PROT_EXEC)),
	CALL("memory", brk),
	CALL("memory", mremap),
	CALL("memory goes back", munmap),
	CALL("memory goes back; guest memory stays out of core dumps", madvise),
	CALL("locks and conditions", futex),
	CALL("a signal's handler returns", rt_sigreturn),
	CALL("an interrupted wait goes on", restart_syscall),
	CALL("signals of threads", rt_sigprocmask),
	CALL_IF("abort restores the signal's default", rt_sigaction, IS(0, SIGABRT)),
	CALL_IF("the first thread: the C library's own signal (nptl, SIGSETXID)", rt_sigaction, IS(0, 33)),
	CALL("abort and messages name the thread", gettid),
	CALL("abort names the process", getpid),
	CALL("whose files are the box's own", geteuid),
	CALL("time, where the vDSO cannot tell it", clock_gettime),
	CALL("waits a moment", clock_nanosleep),
	CALL("a moment for another thread", sched_yield),
	CALL("numbers that nobody guesses", getrandom),
	CALL("a thread ends", exit),
	CALL("the process ends", exit_group),
};

/*
 * Never of the box's lock, nor of a volume's file `use`: the supervisor has locked them by the same open file description, and to
 * unlock it, or a copy of it, here is to unlock it there (flock(2)).
 */
static const struct rule lock_rules[] = {
	CALL("unlocks", flock),
	FCNTL("unlocks", F_OFD_SETLK),
	FCNTL("a copy, which does the same", F_DUPFD_CLOEXEC),
};

static int add_rule(scmp_filter_ctx ctx, uint32_t action, const struct rule *r)
{
	struct scmp_arg_cmp cmp[2];
	unsigned n = 0;
	const struct cond *const conds[] = {&r->a, &r->b};

	for (size_t i = 0; i < ARRAY_LEN(conds); i++) {
		if (conds[i]->mask)
			cmp[n++] = (struct scmp_arg_cmp){.arg = conds[i]->arg,
				.op = SCMP_CMP_MASKED_EQ,
				.datum_a = conds[i]->mask,
				.datum_b = conds[i]->value};
	}
	int e = seccomp_rule_add_array(ctx, action, r->call, n, cmp);
	return e == -EDOM ? 0 : e; /* of another architecture's table only: not a call of ours */
}

static int add_lock_rules(scmp_filter_ctx ctx, int fd)
{
	int r = 0;

	for (size_t i = 0; i < ARRAY_LEN(lock_rules) && r == 0; i++) {
		struct rule of_fd = lock_rules[i];
		of_fd.b = (struct cond)IS(0, fd);
		r = add_rule(ctx, SCMP_ACT_KILL_PROCESS, &of_fd);
	}
	return r;
}

/* A filter of its own, since one list cannot both allow a call and except some of its arguments. The stricter one counts. */
static int enter_lock_filter(const struct fs_export *exports, size_t n)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);

	if (!ctx)
		return -ENOMEM;
	int r = add_lock_rules(ctx, FS_FD_HOLD);
	for (size_t i = 0; i < n && r == 0; i++) {
		if (exports[i].use_fd >= 0)
			r = add_lock_rules(ctx, exports[i].use_fd);
	}
	if (r == 0)
		r = seccomp_load(ctx);
	seccomp_release(ctx);
	return r;
}

/* Leases of volumes' files `use`; none of what is shared, for which the host would wait. */
static int add_lease_rules(scmp_filter_ctx ctx, const struct fs_export *exports, size_t n)
{
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++) {
		const struct rule lease = {
			.call = SCMP_SYS(fcntl), .a = IS(1, F_SETLEASE), .b = IS(0, exports[i].use_fd)};
		if (exports[i].use_fd >= 0)
			r = add_rule(ctx, SCMP_ACT_ALLOW, &lease);
	}
	return r;
}

int jail_filter_enter(const struct fs_export *exports, size_t n)
{
	/* A signal to ourselves: abort. */
	const struct rule kill_ours = {.call = SCMP_SYS(tgkill), .a = IS(0, getpid())};
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);

	if (!ctx)
		return -ENOMEM;
	int r = enter_lock_filter(exports, n); /* first: the other one forbids it */
	if (r == 0)
		r = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	for (size_t i = 0; i < ARRAY_LEN(rules) && r == 0; i++)
		r = add_rule(ctx, SCMP_ACT_ALLOW, &rules[i]);
	if (r == 0)
		r = add_lease_rules(ctx, exports, n);
	if (r == 0)
		r = add_rule(ctx, SCMP_ACT_ALLOW, &kill_ours);
	/* Its flags are in memory, where no filter sees them: the C library then takes clone. */
	if (r == 0)
		r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), __NR_clone3, 0);
	/* Most of what a busy process asks for is one of these. */
	if (r == 0)
		r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (r == 0)
		r = seccomp_load(ctx);
	seccomp_release(ctx);
	return r;
}
