/* SPDX-License-Identifier: MIT */
/*
 * What confines the process that reads a box's disk. If the disk takes it over, it has the disk, which is the box's own, and a
 * pipe into which it can write what it likes: whoever reads that checks it all. Layers, each standing alone:
 *
 *     descriptors   the disk and the pipe, and no way to open others
 *     memory        none that is shared with others: a fork has its parent's, such as the database's index
 *     seccomp       what the table below names: to read, write and seek what is open, memory that cannot be executed, the end
 *     Landlock      no file, no socket, no signal to others
 *     limits        of memory and processor time, no core
 *     privileges    no capability and no way to any; not dumpable
 *
 * The filter is written by hand, because commands, which fork this process, are not linked with libseccomp.
 */
#include <fcntl.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "base/landlock.h"
#include "base/proc.h"
#include "base/sanitized.h"
#include "reader.h"

#define MEMORY_MAX  (1ull << 30) /* bytes that can be written to */
#define ADDRESS_MAX (4ull << 30) /* bytes of address space, with all that the program is */

/* ---- system calls ---- */

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#else
#error "which system calls are there?"
#endif

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define LOAD_ARG(n) \
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[n])) /* its lower half */
#define RETURN(action)	 BPF_STMT(BPF_RET | BPF_K, action)
#define CALL(nr, action) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##nr, 0, 1), RETURN(action)
#define ALLOW(nr)	 CALL(nr, SECCOMP_RET_ALLOW)
/* Asked for by the C library, which goes on without. */
#define REFUSE(nr) CALL(nr, SECCOMP_RET_ERRNO | EPERM)

static int filter_enter(void)
{
	static struct sock_filter code[] = {
		LOAD(arch),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0),
		RETURN(SECCOMP_RET_KILL_PROCESS),
		LOAD(nr),
		/* the disk and the pipe */
		ALLOW(read),
		ALLOW(pread64),
		ALLOW(lseek),
		ALLOW(write),
		ALLOW(writev),
		/* tried on what may be a socket */
		CALL(sendmsg, SECCOMP_RET_ERRNO | ENOTSOCK),
		ALLOW(fstat),
#ifdef SYS_newfstatat
		REFUSE(newfstatat),
#endif
		/* memory */
		ALLOW(brk),
		ALLOW(munmap),
		ALLOW(mremap),
		ALLOW(madvise),
		ALLOW(futex),
		/* the end */
		ALLOW(exit),
		ALLOW(exit_group),
		/* qsort(3) asks how much memory there is; malloc(3) after its settings */
		REFUSE(sysinfo),
		REFUSE(openat),
		REFUSE(getrandom),
		/* memory that is nobody else's, and not executed */
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mprotect, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 1, 0),
		RETURN(SECCOMP_RET_KILL_PROCESS),
		LOAD_ARG(2),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 0, 1),
		RETURN(SECCOMP_RET_KILL_PROCESS),
		LOAD(nr),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mprotect, 2, 0),
		LOAD_ARG(3),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, MAP_ANONYMOUS, 0, 1),
		RETURN(SECCOMP_RET_ALLOW),
		RETURN(SECCOMP_RET_KILL_PROCESS),
	};
	struct sock_fprog filter = {.len = ARRAY_LEN(code), .filter = code};

	/* A sanitizer's runtime does more than the program. */
	if (SANITIZED)
		return 0;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) < 0 ? -errno : 0;
}

/* ---- the others ---- */

/* 2 is closed unless a sanitizer wants to report there. */
static int keep_descriptors(int disk_fd, int out_fd)
{
	/* Out of the way first: either may be 0 or 1. */
	int disk = fcntl(disk_fd, F_DUPFD, 3), out = fcntl(out_fd, F_DUPFD, 3);

	if (disk < 0 || out < 0 || dup2(disk, 0) < 0 || dup2(out, 1) < 0)
		return -errno;
	return close_range(SANITIZED ? 3 : 2, UINT_MAX, 0) < 0 ? -errno : 0;
}

/* /proc/PID/maps (proc_pid_maps(5)): those with an "s" in their permissions. A sanitizer's are its own. */
static int drop_shared_memory(void)
{
	CLEANUP_FCLOSE FILE *maps = fopen("/proc/self/maps", "re");
	struct {
		unsigned long from, to;
	} found[64];
	size_t n = 0;
	char line[PATH_MAX + 128];

	if (SANITIZED)
		return 0;
	if (!maps)
		return -errno;
	/* Not while the list is read: it would change. */
	while (fgets(line, sizeof(line), maps)) {
		/* "FROM-TO PERM …", PERM as in "rw-s" */
		char *at;
		unsigned long from = strtoul(line, &at, 16), to = *at == '-' ? strtoul(at + 1, &at, 16) : 0;
		if (to <= from || strnlen(at, 5) < 5 || at[4] != 's')
			continue;
		if (n == ARRAY_LEN(found))
			return -E2BIG;
		found[n].from = from;
		found[n++].to = to;
	}
	for (size_t i = 0; i < n; i++)
		if (munmap((void *)found[i].from, found[i].to - found[i].from) < 0)
			return -errno;
	return 0;
}

static int set_limits(unsigned int seconds)
{
	const struct rlimit none = {0, 0}, memory = {MEMORY_MAX, MEMORY_MAX},
			    address = {ADDRESS_MAX, ADDRESS_MAX};
	struct rusage used;

	/* A fork begins at nothing, but an exact zero is not promised. */
	if (getrusage(RUSAGE_SELF, &used) < 0)
		return -errno;
	const rlim_t end = (rlim_t)used.ru_utime.tv_sec + (rlim_t)used.ru_stime.tv_sec + seconds;
	const struct rlimit time = {end, end};
	if (setrlimit(RLIMIT_CPU, &time) < 0 || setrlimit(RLIMIT_CORE, &none) < 0 ||
		(!SANITIZED && (setrlimit(RLIMIT_DATA, &memory) < 0 || setrlimit(RLIMIT_AS, &address) < 0)) ||
		setrlimit(RLIMIT_NOFILE, &none) < 0)
		return -errno;
	return 0;
}

static int enter_landlock(void)
{
	CLEANUP_CLOSE int ruleset = landlock_new(true);
	int r = ruleset < 0 ? ruleset : landlock_enter(ruleset);

	/* Not every host has it. */
	return r == -ENOSYS || r == -EOPNOTSUPP ? 0 : r;
}

static void reset_signals(void)
{
	sigset_t none;

	for (int s = 1; s < NSIG; s++)
		signal(s, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

int reader_confine(int disk_fd, int out_fd, unsigned int seconds)
{
	const pid_t parent = getppid();
	int r;

	reset_signals();
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
		prctl(PR_SET_DUMPABLE, 0) < 0)
		return -errno;
	if (getppid() != parent)
		return -ESRCH;
	r = drop_shared_memory();
	if (r == 0)
		r = keep_descriptors(disk_fd, out_fd);
	if (r == 0)
		r = proc_drop_capabilities();
	if (r == 0)
		r = enter_landlock();
	if (r == 0)
		r = set_limits(seconds);
	return r == 0 ? filter_enter() : r;
}
