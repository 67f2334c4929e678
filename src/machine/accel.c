/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * The question is not whether /dev/kvm opens but whether a guest kernel runs on it at a useful speed. A child process
 * creates a VM with one vCPU in 64-bit mode, ring 0, paging on, and lets it count in memory, first to warm
 * up, then for a fixed number of steps. The same loop is timed natively beforehand. Hardware virtualization runs both
 * equally fast; a host that emulates or traps is slower by orders of magnitude. A child, because an ioctl of a broken
 * host may never return: the parent waits for a bounded time and kills it.
 *
 * The verdict holds for one boot of the host and one user (permissions differ), and is cached under both.
 */
#include "machine/accel.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "accel-kvm.h"
#include "base/io.h"
#include "base/proc.h"
#include "base/units.h"

enum { PROBE_LIMIT_MS = 3000, CACHE_MAX = 1024 };

int accel_parse(const char *s, enum accel *ret)
{
	for (enum accel a = ACCEL_AUTO; a <= ACCEL_TCG; a++) {
		if (strcmp(s, accel_name(a)) == 0) {
			*ret = a;
			return 0;
		}
	}
	return -EINVAL;
}

const char *accel_name(enum accel a)
{
	static const char *const names[] = {[ACCEL_AUTO] = "auto",
		[ACCEL_KVM] = "kvm",
		[ACCEL_QEMU_KVM] = "qemu-kvm",
		[ACCEL_TCG] = "tcg"};
	return names[a];
}

bool accel_isolates(enum accel a)
{
	return a == ACCEL_KVM || a == ACCEL_QEMU_KVM;
}

const char *accel_backend(enum accel a)
{
	return a == ACCEL_KVM ? "kvm" : "qemu";
}

static void probe_in_child(struct accel_info *ret)
{
	int fds[2], status;

	snprintf(ret->kvm_reason, sizeof(ret->kvm_reason), "the probe could not be started");
	if (pipe2(fds, O_CLOEXEC) < 0)
		return;
	pid_t parent = getpid(), pid = fork();
	if (pid == 0) {
		struct kvm_probe_result res = {0};
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		kvm_probe_run(&res);
		_exit(io_write_full(fds[1], &res, sizeof(res)) < 0);
	}
	close(fds[1]);
	CLEANUP_CLOSE int rd = fds[0];
	if (pid < 0)
		return;

	struct kvm_probe_result res;
	struct pollfd p = {.fd = rd, .events = POLLIN};
	if (poll(&p, 1, PROBE_LIMIT_MS) <= 0) {
		snprintf(ret->kvm_reason, sizeof(ret->kvm_reason),
			"/dev/kvm: the probe guest did not end within %d s", PROBE_LIMIT_MS / 1000);
	} else if (io_read_full(rd, &res, sizeof(res)) != (ssize_t)sizeof(res)) {
		snprintf(ret->kvm_reason, sizeof(ret->kvm_reason), "/dev/kvm: the probe guest failed");
	} else {
		ret->kvm_usable = res.usable;
		memcpy(ret->kvm_reason, res.reason, sizeof(ret->kvm_reason));
		ret->kvm_reason[sizeof(ret->kvm_reason) - 1] = '\0';
	}
	kill(pid, SIGKILL);
	proc_wait(pid, &status);
}

/* What the verdict depends on: this boot, this kernel's device node as this user may open it. */
static void cache_key(char *key, size_t size)
{
	CLEANUP_FREE char *boot = NULL;
	struct stat st = {0};

	if (io_read_file_at(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 64, &boot, NULL) < 0)
		boot = NULL;
	if (boot)
		boot[strcspn(boot, "\n")] = '\0';
	int has = stat("/dev/kvm", &st) == 0;
	int may = access("/dev/kvm", R_OK | W_OK) == 0;
	snprintf(key, size, "2 %s %u %d%d %llx", boot ? boot : "?", (unsigned)geteuid(), has, may,
		(unsigned long long)st.st_rdev);
}

/* The cache is one line: key TAB usable TAB tsc_khz TAB reason. Anything else is ignored and replaced. */
static bool cache_read(int dirfd, const char *key, struct accel_info *ret)
{
	CLEANUP_FREE char *text = NULL;
	char *save, *field[4];

	if (dirfd < 0 || io_read_file_at(dirfd, "accel", CACHE_MAX, &text, NULL) < 0)
		return false;
	text[strcspn(text, "\n")] = '\0';
	for (int i = 0; i < 4; i++) {
		field[i] = strtok_r(i ? NULL : text, "\t", &save);
		if (!field[i])
			return false;
	}
	if (strcmp(field[0], key) != 0 || parse_u64(field[2], UINT64_MAX, &ret->tsc_khz) < 0)
		return false;
	ret->kvm_usable = strcmp(field[1], "1") == 0;
	snprintf(ret->kvm_reason, sizeof(ret->kvm_reason), "%s", field[3]);
	return true;
}

/*
 * Only a cache: not durable, and failing costs milliseconds the next time. Of several writers one does it;
 * a line that a killed one left half-written is not believed.
 */
static void cache_write(int dirfd, const char *line, size_t len)
{
	CLEANUP_CLOSE int fd = openat(dirfd, "accel.tmp", O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0 && ftruncate(fd, 0) == 0 &&
		io_write_full(fd, line, len) == 0)
		(void)renameat(dirfd, "accel.tmp", dirfd, "accel");
}

void accel_probe(int cache_dirfd, struct accel_info *ret)
{
	char key[160], line[CACHE_MAX];

	*ret = (struct accel_info){0};
	cache_key(key, sizeof(key));
	if (cache_read(cache_dirfd, key, ret))
		return;
	*ret = (struct accel_info){0};
	ret->tsc_khz = tsc_measure_khz();
	probe_in_child(ret);
	int n = snprintf(line, sizeof(line), "%s\t%d\t%llu\t%s\n", key, ret->kvm_usable,
		(unsigned long long)ret->tsc_khz, ret->kvm_reason);
	if (cache_dirfd >= 0 && n > 0 && n < (int)sizeof(line))
		cache_write(cache_dirfd, line, (size_t)n);
}

int accel_choose(enum accel wanted, const struct accel_info *info, enum accel *ret, struct err *e)
{
	if (accel_isolates(wanted) && !info->kvm_usable) {
		err_set(e, -ENOTSUP, "--accel %s: not usable on this host: %s", accel_name(wanted),
			info->kvm_reason);
		return err_hint(e, "use --accel tcg to run emulated");
	}
	*ret = wanted == ACCEL_AUTO ? (info->kvm_usable ? ACCEL_KVM : ACCEL_TCG) : wanted;
	return 0;
}
