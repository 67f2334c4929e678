/* SPDX-License-Identifier: MIT */
/*
 * What the monitor's threads may ask of the kernel once they run (seccomp(2)). Anything else, and any call of
 * another architecture's table (x32 and i386 included), ends the process with SIGSYS, which the supervisor
 * sees.
 *
 * THEORY OF OPERATION
 *
 * One table of calls says for each the roles that need it and why. Arguments are compared where the call is
 * more than its roles need. The kernel looks at the low half of an int or a command only, and the C library
 * need not clear the other, so comparisons are of 32 bits. A value that a rule does not name is refused.
 *
 * Descriptors are not compared: all that the process has it may use. What it can do with a descriptor that it
 * made is bounded by what it can make: memory, connections to Unix sockets.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/filter.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "base/io.h"
#include "base/sanitized.h"
#include "jail.h"

enum { L = 1 << JAIL_LOOP, V = 1 << JAIL_VCPU, D = 1 << JAIL_DISK, ALL = L | V | D };

/* An argument's condition: under mask it equals value. mask 0: none. */
struct cond {
	unsigned arg;
	uint32_t mask, value;
};
struct rule {
	const char *why; /* a call without a reason has no place here */
	int call;
	uint8_t roles;
	struct cond a, b; /* both hold */
};

/* clang-format off */
#define IS(n, is)	 {.arg = (n), .mask = UINT32_MAX, .value = (uint32_t)(is)}
#define WITHOUT(n, bits) {.arg = (n), .mask = (bits)}
#define CALL(reason, who, name)			{.why = reason, .call = SCMP_SYS(name), .roles = (who)}
#define CALL_IF(reason, who, name, ...)		{.why = reason, .call = SCMP_SYS(name), .roles = (who), .a = __VA_ARGS__}
#define KVM(reason, who, request)		CALL_IF(reason, who, ioctl, IS(1, request))
/* clang-format on */

static const struct rule rules[] = {
	/* Processors. */
	KVM("runs the guest", V, KVM_RUN),

	/* What any thread of the C library needs. */
	CALL("locks and conditions", ALL, futex),
	CALL("a signal's handler returns", ALL, rt_sigreturn),
	CALL("an interrupted wait goes on", ALL, restart_syscall),
	CALL("holds signals back around calls that must not see one", ALL, rt_sigprocmask),
	CALL("a thread ends", ALL, exit),
	CALL("the process ends", ALL, exit_group),
	CALL("time, where the vDSO cannot tell it", ALL, clock_gettime),
	CALL("locks that are contended for a moment", ALL, sched_yield),
	CALL_IF("memory for the heap; nothing that can be executed", ALL, mmap, WITHOUT(2, PROT_EXEC)),
	CALL_IF("memory for the heap; nothing becomes executable", ALL, mprotect, WITHOUT(2, PROT_EXEC)),
	CALL("memory for the heap", ALL, brk),
	CALL("memory for the heap", ALL, mremap),
	CALL("gives memory and stacks back", ALL, munmap),
	CALL_IF("gives memory back", ALL, madvise, IS(2, MADV_DONTNEED)),
	CALL_IF("gives memory back", ALL, madvise, IS(2, MADV_REMOVE)),
	CALL_IF("gives memory back", ALL, madvise, IS(2, MADV_FREE)),
	CALL("messages and stack traces name the thread; abort", ALL, gettid),
	CALL("abort and pthread_kill name the process", ALL, getpid),
	CALL_IF("abort restores the signal's default", ALL, rt_sigaction, IS(0, SIGABRT)),

	/* Descriptors that signal: kicks, interrupts, calls to the loop; and messages to the log. */
	CALL("kicks, timers and calls", ALL, read),
	CALL("interrupts, calls, the console, messages", ALL, write),
	CALL("the C library's last words", ALL, writev),
	CALL("waits for a kick, or for a reader of the console", ALL, poll),
	CALL("the same where there is no poll", ALL, ppoll),

	/* The loop. */
	CALL("statistics: how much of the guest's memory it has", L, mincore),
	CALL("waits", L, epoll_wait),
	CALL("waits", L, epoll_pwait),
	CALL("watches connections", L, epoll_ctl),
	CALL("a host program connects into the guest", L, accept4),
	CALL_IF("the guest connects out: Unix stream sockets only", L, socket, IS(0, AF_UNIX),
		.b = {1, ~(uint32_t)(SOCK_CLOEXEC | SOCK_NONBLOCK), SOCK_STREAM}),
	CALL("the guest connects out: there is nothing but the vsock folder to name", L, connect),
	CALL("whether a connection failed", L, getsockopt),
	CALL("streams and requests", L, recvfrom),
	CALL("requests with descriptors, streams", L, recvmsg),
	CALL("streams and replies", L, sendto),
	CALL("streams", L, sendmsg),
	CALL("streams", L, readv),
	CALL("half-closes a stream", L, shutdown),
	CALL("connections end", L, close),
	CALL_IF("flags of a descriptor", L | D, fcntl, IS(1, F_GETFL)),
	CALL_IF("a stream becomes non-blocking", L, fcntl, IS(1, F_SETFL)),
	CALL_IF("close-on-exec", L, fcntl, IS(1, F_SETFD)),
	CALL("the guest's entropy", L, getrandom),
	CALL("takes a SIGPIPE that it held back", L, rt_sigtimedwait),
	CALL("looks for a SIGPIPE that it holds back", L, rt_sigpending),
	CALL_IF("stops processors", L, tgkill, IS(0, 0)), /* this process: add_rule */
	CALL_IF("abort", V | D, tgkill, IS(0, 0)),
	CALL("processor time, for statistics", L, getrusage),
	CALL("length and kind of a file, memory in use", L | D, fstat),
	CALL_IF("the same, as newer C libraries ask", L | D, newfstatat, {3, AT_EMPTY_PATH, AT_EMPTY_PATH}),

	/* A paused machine is saved. */
	CALL("finds memory that holds something", L, lseek),
	CALL("reads saved state and memory", L, pread64),
	CALL("writes state and memory", L | D, pwrite64),
	CALL("writes state and memory", L, pwritev),
	CALL("a saved machine's length", L, ftruncate),
	CALL("a saved machine is durable", L, fsync),
	CALL("flushes", L | D, fdatasync),

	/* Disks. */
	CALL("reads", D, preadv),
	CALL("reads", D, preadv2),
	CALL("what another process shares is read without waiting", L, preadv2),
	CALL("reads", D, pread64),
	CALL("writes", D, pwritev),
	CALL("writes with RWF_DSYNC", D, pwritev2),
	CALL_IF("discards; memory that the balloon gives back", L | D, fallocate,
		IS(1, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)),
	CALL_IF("writes zeroes", D, fallocate, IS(1, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE)),

	/* KVM beyond running: reads and writes of a paused machine's state. */
	KVM("saves", L, KVM_GET_MP_STATE),
	KVM("saves", L, KVM_GET_REGS),
	KVM("saves", L, KVM_GET_SREGS),
#ifdef __x86_64__
	KVM("saves", L, KVM_GET_XSAVE),
	KVM("saves", L, KVM_GET_XSAVE2),
	KVM("saves", L, KVM_GET_XCRS),
	KVM("saves", L, KVM_GET_DEBUGREGS),
	KVM("saves", L, KVM_GET_LAPIC),
	KVM("saves", L, KVM_GET_MSRS),
	KVM("saves", L, KVM_GET_VCPU_EVENTS),
	KVM("saves", L, KVM_GET_IRQCHIP),
	KVM("time stands still in a pause", L, KVM_GET_CLOCK),
	KVM("time goes on after a pause", L, KVM_SET_CLOCK),
	KVM("the guest's watchdogs forgive a pause", L, KVM_KVMCLOCK_CTRL),
	KVM("the guest's TSC stands still in a pause", L, KVM_GET_DEVICE_ATTR),
	KVM("the guest's TSC goes on after a pause", L, KVM_SET_DEVICE_ATTR),
#endif
};

static struct sock_fprog filters[JAIL_ROLES];

static int add_rule(scmp_filter_ctx ctx, const struct rule *r)
{
	struct scmp_arg_cmp cmp[2];
	unsigned n = 0;
	const struct cond *const conds[] = {&r->a, &r->b};

	for (size_t i = 0; i < ARRAY_LEN(conds); i++) {
		if (!conds[i]->mask)
			continue;
		uint32_t value =
			r->call == SCMP_SYS(tgkill) ? (uint32_t)getpid() : conds[i]->value; /* to ourselves */
		cmp[n++] = (struct scmp_arg_cmp){.arg = conds[i]->arg,
			.op = SCMP_CMP_MASKED_EQ,
			.datum_a = conds[i]->mask,
			.datum_b = value};
	}
	return seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, r->call, n, cmp);
}

/* The library writes a program to a descriptor only (it has no other way before 2.6). */
static int export(scmp_filter_ctx ctx, struct sock_fprog *ret)
{
	CLEANUP_CLOSE int fd = memfd_create("filter", MFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	int r = seccomp_export_bpf(ctx, fd);
	off_t len = r == 0 ? lseek(fd, 0, SEEK_END) : r;
	if (len <= 0 || (size_t)len % sizeof(struct sock_filter) ||
		(size_t)len / sizeof(struct sock_filter) > BPF_MAXINSNS)
		return r < 0 ? r : -EINVAL;
	struct sock_filter *code = malloc((size_t)len);
	if (!code)
		return -ENOMEM;
	if (io_pread_full(fd, code, (size_t)len, 0) != len) {
		free(code);
		return -EIO;
	}
	free(ret->filter);
	*ret = (struct sock_fprog){.len = (unsigned short)((size_t)len / sizeof(*code)), .filter = code};
	return 0;
}

/*
 * What QEMU's own filter, a list of what is refused, lets through and our QEMU has no use for. Above all
 * sockets: their paths are nobody's but the file system's to refuse (jail-landlock.c), and all that it talks to
 * it inherits. A socket pair of streams it makes for vhost-user; one of datagrams could send to any name.
 */
int jail_qemu_filter(struct sock_fprog *ret)
{
	static const int refused[] = {SCMP_SYS(socket), SCMP_SYS(connect), SCMP_SYS(bind), SCMP_SYS(listen),
		SCMP_SYS(io_uring_setup), SCMP_SYS(ptrace), SCMP_SYS(process_vm_readv),
		SCMP_SYS(process_vm_writev), SCMP_SYS(pidfd_getfd), SCMP_SYS(bpf), SCMP_SYS(perf_event_open),
		SCMP_SYS(userfaultfd), SCMP_SYS(unshare), SCMP_SYS(setns), SCMP_SYS(keyctl),
		SCMP_SYS(add_key), SCMP_SYS(request_key)};
	const struct scmp_arg_cmp datagrams = {1, SCMP_CMP_MASKED_EQ, 0xf, SOCK_DGRAM};
	const struct scmp_arg_cmp packets = {1, SCMP_CMP_MASKED_EQ, 0xf, SOCK_SEQPACKET};
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
	if (!ctx)
		return -ENOMEM;
	/* An error, not the end: a library may try one as it starts. */
	const uint32_t refuse = SCMP_ACT_ERRNO(EPERM);
	int r = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	for (size_t i = 0; i < ARRAY_LEN(refused) && r == 0; i++)
		r = seccomp_rule_add(ctx, refuse, refused[i], 0);
	if (r == 0)
		r = seccomp_rule_add_array(ctx, refuse, SCMP_SYS(socketpair), 1, &datagrams);
	if (r == 0)
		r = seccomp_rule_add_array(ctx, refuse, SCMP_SYS(socketpair), 1, &packets);
	if (r == 0)
		r = export(ctx, ret);
	seccomp_release(ctx);
	return r;
}

static int prepare(enum jail_role role)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
	if (!ctx)
		return -ENOMEM;
	int r = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	for (size_t i = 0; i < ARRAY_LEN(rules) && r == 0; i++) {
		if (rules[i].roles & 1u << role)
			r = add_rule(ctx, &rules[i]);
	}
	/* What a processor asks for at every exit is judged first. */
	if (r == 0 && role == JAIL_VCPU)
		r = seccomp_syscall_priority(ctx, SCMP_SYS(ioctl), UINT8_MAX);
	if (r == 0)
		r = export(ctx, &filters[role]);
	seccomp_release(ctx);
	return r;
}

int jail_filters_prepare(struct machine_status *s)
{
	if (SANITIZED) {
		jail_missing(s, CONFINED_SECCOMP, "built with a sanitizer");
		return 0;
	}
	for (enum jail_role role = 0; role < JAIL_ROLES; role++) {
		int r = prepare(role);
		if (r < 0)
			return r;
	}
	jail_applied(s, CONFINED_SECCOMP);
	return 0;
}

int jail_filter(enum jail_role role)
{
	if (SANITIZED)
		return 0;
	if (!filters[role].filter)
		return -EINVAL;
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filters[role]) < 0 ? -errno : 0;
}
