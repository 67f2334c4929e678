/* SPDX-License-Identifier: MIT */
/* What test-jail.c tries from inside of the jail, in a process that it starts there. */
#ifndef TEST_JAIL_TRIALS_H
#define TEST_JAIL_TRIALS_H

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/kvm.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>

#include "base/io.h"
#include "base/sanitized.h"
#include "jail.h"

enum { FD_LETTER = 3, FD_STATUS = 4, NOBODY = 65534, FAILED = 99, FILE_MAX = 1 << 20, MEMORY_MAX = 1 << 30 };
#define ABSTRACT "a3s-test-jail"

/* A trial says false, or is ended; in jail nothing but its own descriptors is left to talk to. */
#define CHECK(what) \
	do { \
		if (!(what)) { \
			dprintf(2, "# %s:%d: %s: %s\n", __func__, __LINE__, #what, strerror(errno)); \
			return false; \
		} \
	} while (0)

static int unix_connect(const char *path, size_t len, int type)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, type, 0);

	if (fd < 0)
		return -errno;
	memcpy(a.sun_path, path, len);
	if (connect(fd, (struct sockaddr *)&a, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) ==
		0)
		return fd;
	int r = -errno;
	close(fd);
	return r;
}

static bool what_it_has_goes_on_working(void)
{
	char c = 0;
	int fd = unix_connect(
		"vsock.sock_7", sizeof("vsock.sock_7"), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK);

	CHECK(pread(FD_LETTER, &c, 1, 0) == 1 && c == 'k');
	CHECK(pwrite(FD_LETTER, "w", 1, 1) == 1);
	CHECK(fd >= 0);
	CHECK(write(fd, "hello", 5) == 5);
	CHECK(close(fd) == 0);
	void *p = malloc(1 << 20);
	CHECK(p);
	memset(p, 1, 1 << 20);
	free(p);
	struct rusage u;
	CHECK(getrusage(RUSAGE_SELF, &u) == 0);
	return true;
}

static bool nothing_has_a_name(void)
{
	static const char *const paths[] = {"/", ".", "..", "/proc/self/status", "/etc/passwd", "/dev/null",
		"vsock.sock_7", "../../../../../../../../etc/passwd", "plain"};
	struct stat st;

	for (size_t i = 0; i < ARRAY_LEN(paths); i++)
		CHECK(open(paths[i], O_RDONLY | O_CLOEXEC) < 0);
	CHECK(open("new", O_RDWR | O_CREAT, 0600) < 0);
	CHECK(mkdir("new", 0700) < 0);
	CHECK(unlink("plain") < 0);
	CHECK(rename("plain", "other") < 0);
	CHECK(execl("/bin/true", "true", NULL) < 0);
	/*
	 * Landlock lets stat(2) through: it is the root that is empty, and the folder that has nothing above
	 * it.
	 */
	CHECK(stat("/etc", &st) < 0 && errno == ENOENT);
	CHECK(stat("../outer.sock", &st) < 0 && errno == ENOENT);
	CHECK(stat("../../../../../../../../etc", &st) < 0 && errno == ENOENT);
	CHECK(stat("plain", &st) == 0);
	return true;
}

static bool nobody_else_can_be_reached(void)
{
	struct sockaddr_in {
		uint16_t family, port;
		uint8_t addr[4], zero[8];
	} in = {.family = AF_INET, .port = 0x1600, .addr = {127, 0, 0, 1}};

	CHECK(unix_connect("../outer.sock", sizeof("../outer.sock"), SOCK_STREAM) == -ENOENT);
	CHECK(unix_connect("\0" ABSTRACT, sizeof(ABSTRACT), SOCK_STREAM) < 0);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(fd < 0 || connect(fd, (struct sockaddr *)&in, sizeof(in)) < 0);
	CHECK(getppid() == 0);
	CHECK(getpid() == 1);
	for (pid_t pid = 2; pid < 1000; pid++)
		CHECK(kill(pid, 0) < 0 && errno == ESRCH);
	CHECK(syscall(SYS_setns, FD_LETTER, 0) < 0);
	return true;
}

static bool it_has_and_gets_no_privileges(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct have[_LINUX_CAPABILITY_U32S_3];

	CHECK(syscall(SYS_capget, &head, have) == 0);
	for (size_t i = 0; i < ARRAY_LEN(have); i++)
		CHECK((have[i].effective | have[i].permitted | have[i].inheritable) == 0);
	for (unsigned long cap = 0; cap <= CAP_LAST_CAP; cap++)
		CHECK(prctl(PR_CAPBSET_READ, cap, 0, 0, 0) != 1 || geteuid() != 0);
	CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
	CHECK(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0);
	int sig = 0;
	CHECK(prctl(PR_GET_PDEATHSIG, &sig) == 0 &&
		sig == SIGKILL); /* dropping privileges has not undone it */
	return true;
}

static bool no_namespace_below_gives_privileges_back(void)
{
	CHECK(unshare(CLONE_NEWUSER) < 0);
	CHECK(unshare(CLONE_NEWNS) < 0);
	CHECK(unshare(CLONE_NEWNET) < 0);
	return true;
}

static bool map_some(size_t len)
{
	return mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) != MAP_FAILED;
}

static bool limits_hold(void)
{
	struct rlimit l;

	CHECK(getrlimit(RLIMIT_CORE, &l) == 0 && l.rlim_max == 0);
	CHECK(getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_max == 64);
	CHECK(getrlimit(RLIMIT_MEMLOCK, &l) == 0 && l.rlim_max == 0);
	/* Memory is bounded whether it is used or not. A sanitizer's shadow alone is more. */
	CHECK(map_some(MEMORY_MAX / 2));
	CHECK(SANITIZED || (!map_some(MEMORY_MAX) && errno == ENOMEM));
	/* Beyond the largest file there is an error, and no signal. */
	CHECK(pwrite(FD_LETTER, "x", 1, FILE_MAX - 1) == 1);
	CHECK(pwrite(FD_LETTER, "x", 1, FILE_MAX) < 0 && errno == EFBIG);
	l = (struct rlimit){1 << 20, 1 << 20};
	CHECK(setrlimit(RLIMIT_NOFILE, &l) < 0);
	return true;
}

/* What every role may do, with arguments as the C library gives them. */
static bool the_roles_common_calls_pass(void)
{
	struct timespec ts;
	sigset_t set;
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(p != MAP_FAILED);
	CHECK(mprotect(p, 4096, PROT_READ) == 0);
	CHECK(madvise(p, 4096, MADV_DONTNEED) == 0);
	CHECK(munmap(p, 4096) == 0);
	CHECK(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &ts) == 0);
	sigemptyset(&set);
	CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
	CHECK(syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), 0) == 0);
	return true;
}

static bool a_processor_may_run(void)
{
	CHECK(the_roles_common_calls_pass());
	CHECK(ioctl(FD_LETTER, KVM_RUN, 0) < 0 && errno == ENOTTY);
	return true;
}

static bool a_disk_may_work(void)
{
	char c;
	struct iovec iov = {&c, 1};

	CHECK(the_roles_common_calls_pass());
	CHECK(preadv(FD_LETTER, &iov, 1, 0) == 1 && c == 'k');
	CHECK(pwritev2(FD_LETTER, &iov, 1, 1, RWF_DSYNC) == 1);
	CHECK(pwritev(FD_LETTER, &iov, 1, 1) == 1);
	CHECK(fdatasync(FD_LETTER) == 0);
	CHECK(fallocate(FD_LETTER, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 4096) == 0);
	return true;
}

/* ---- inside, to die of ---- */

/* Whoever comes back from one has not been killed. */
#define DEADLY(name, call) \
	static bool name(void) \
	{ \
		(void)!(call); \
		return false; \
	}

DEADLY(try_open, open("plain", O_RDONLY))
DEADLY(try_unlink, unlink("plain"))
DEADLY(try_execve, execl("/bin/true", "true", NULL))
DEADLY(try_fork, fork())
DEADLY(try_inet, socket(AF_INET, SOCK_STREAM, 0))
DEADLY(try_datagrams, socket(AF_UNIX, SOCK_DGRAM, 0))
DEADLY(try_any_socket, socket(AF_UNIX, SOCK_STREAM, 0))
DEADLY(try_bind, bind(FD_LETTER, &(struct sockaddr){.sa_family = AF_UNIX}, sizeof(sa_family_t)))
DEADLY(try_kill, kill(0, 0))
DEADLY(try_tgkill, syscall(SYS_tgkill, getpid() + 1, getpid() + 1, 0))
DEADLY(try_ptrace, ptrace(PTRACE_TRACEME, 0, NULL, NULL))
DEADLY(try_tiocsti, ioctl(0, TIOCSTI, "x"))
DEADLY(try_kvm_run, ioctl(FD_LETTER, KVM_RUN, 0))
DEADLY(try_kvm_create, ioctl(FD_LETTER, KVM_CREATE_VM, 0))
DEADLY(try_mmap_exec,
	mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED)
DEADLY(try_memfd, memfd_create("x", 0))
DEADLY(try_prctl, prctl(PR_SET_DUMPABLE, 1, 0, 0, 0))
DEADLY(try_collapse, fallocate(FD_LETTER, FALLOC_FL_COLLAPSE_RANGE, 0, 4096))
DEADLY(try_io_uring, syscall(SYS_io_uring_setup, 1, NULL))

static bool try_mprotect_exec(void)
{
	static char page[8192] __attribute__((aligned(4096)));
	return mprotect(page, 4096, PROT_READ | PROT_EXEC) < -1;
}

#ifdef __x86_64__
DEADLY(try_x32, syscall(0x40000000 | SYS_getpid))

static bool try_i386(void)
{
	long r = 20; /* getpid of the i386 table; writev of ours */
	__asm__ volatile("int $0x80" : "+a"(r) : : "memory", "r8", "r9", "r10", "r11");
	return false;
}
#endif

struct trial {
	const char *name;
	bool (*fn)(void);
	int role; /* -1: no filter */
};
#define TRIAL(fn, role) \
	{ \
#fn, fn, role \
	}

static const struct trial peaceful[] = {
	TRIAL(what_it_has_goes_on_working, -1),
	TRIAL(nothing_has_a_name, -1),
	TRIAL(nobody_else_can_be_reached, -1),
	TRIAL(it_has_and_gets_no_privileges, -1),
	TRIAL(no_namespace_below_gives_privileges_back, -1),
	TRIAL(limits_hold, -1),
	TRIAL(what_it_has_goes_on_working, JAIL_LOOP),
	TRIAL(the_roles_common_calls_pass, JAIL_LOOP),
	TRIAL(a_processor_may_run, JAIL_VCPU),
	TRIAL(a_disk_may_work, JAIL_DISK),
};
static const struct trial deadly[] = {
	TRIAL(try_open, JAIL_LOOP),
	TRIAL(try_open, JAIL_VCPU),
	TRIAL(try_open, JAIL_DISK),
	TRIAL(try_unlink, JAIL_LOOP),
	TRIAL(try_execve, JAIL_LOOP),
	TRIAL(try_execve, JAIL_VCPU),
	TRIAL(try_execve, JAIL_DISK),
	TRIAL(try_fork, JAIL_LOOP),
	TRIAL(try_fork, JAIL_VCPU),
	TRIAL(try_inet, JAIL_LOOP),
	TRIAL(try_datagrams, JAIL_LOOP),
	TRIAL(try_any_socket, JAIL_VCPU),
	TRIAL(try_any_socket, JAIL_DISK),
	TRIAL(try_bind, JAIL_LOOP),
	TRIAL(try_kill, JAIL_LOOP),
	TRIAL(try_tgkill, JAIL_LOOP),
	TRIAL(try_tgkill, JAIL_VCPU),
	TRIAL(try_ptrace, JAIL_LOOP),
	TRIAL(try_tiocsti, JAIL_LOOP),
	TRIAL(try_tiocsti, JAIL_VCPU),
	TRIAL(try_tiocsti, JAIL_DISK),
	TRIAL(try_kvm_run, JAIL_LOOP),
	TRIAL(try_kvm_create, JAIL_VCPU),
	TRIAL(try_mmap_exec, JAIL_LOOP),
	TRIAL(try_mmap_exec, JAIL_VCPU),
	TRIAL(try_mprotect_exec, JAIL_DISK),
	TRIAL(try_memfd, JAIL_LOOP),
	TRIAL(try_prctl, JAIL_LOOP),
	TRIAL(try_collapse, JAIL_DISK),
	TRIAL(try_io_uring, JAIL_LOOP),
#ifdef __x86_64__
	TRIAL(try_x32, JAIL_VCPU),
	TRIAL(try_i386, JAIL_VCPU),
#endif
};

static const struct trial *find_trial(const char *name, int role)
{
	for (size_t i = 0; i < ARRAY_LEN(peaceful); i++) {
		if (strcmp(peaceful[i].name, name) == 0 && peaceful[i].role == role)
			return &peaceful[i];
	}
	for (size_t i = 0; i < ARRAY_LEN(deadly); i++) {
		if (strcmp(deadly[i].name, name) == 0 && deadly[i].role == role)
			return &deadly[i];
	}
	return NULL;
}

static int inside(const char *name, int role)
{
	const struct jail_config c = {
		.file_bytes_max = FILE_MAX, .descriptors_max = 64, .memory_max = MEMORY_MAX};
	const struct trial *t = find_trial(name, role);
	struct machine_status s;

	jail_enter(&c, &s);
	int r = jail_filters_prepare(&s);
	if (!t || r < 0 || write(FD_STATUS, &s, sizeof(s)) != (ssize_t)sizeof(s))
		return FAILED;
	if (role >= 0 && jail_filter((enum jail_role)role) < 0)
		return FAILED;
	return t->fn() ? 0 : FAILED;
}

/* Sockets have paths that no ruleset knows. The shell has none: this program is QEMU. */
static bool qemu_tries_sockets(void)
{
	int pair[2];

	CHECK(socket(AF_UNIX, SOCK_STREAM, 0) < 0 && errno == EPERM);
	CHECK(socket(AF_INET, SOCK_DGRAM, 0) < 0 && errno == EPERM);
	CHECK(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair) < 0 && errno == EPERM);
	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) < 0 && errno == EPERM);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
	CHECK(syscall(SYS_io_uring_setup, 1, NULL) < 0 && errno == EPERM);
	CHECK(ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0 && errno == EPERM);
	return true;
}

#endif
