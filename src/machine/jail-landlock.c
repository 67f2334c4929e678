/* SPDX-License-Identifier: MIT */
/*
 * Landlock (landlock(7); Documentation/userspace-api/landlock.rst of Linux): what a process can reach by a
 * name, whatever its user may. The older <linux/landlock.h> know less than the kernels we run on: what came
 * later is defined here.
 *
 * Connecting to a Unix socket by its path is not among the rights handled here (kernels that know it as one
 * leave it free unless asked): a monitor of ours needs it, and has no path but its folder's; QEMU may not make
 * sockets (jail_qemu_filter).
 */
#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "jail.h"

/* Rights on files by the ABI that brought them: 1 is EXECUTE up to MAKE_SYM, bits 0 to 12. */
#define FS_ABI1	       ((1ull << 13) - 1)
#define FS_REFER       (1ull << 13) /* ABI 2, Linux 5.19 */
#define FS_TRUNCATE    (1ull << 14) /* ABI 3, Linux 6.2 */
#define FS_IOCTL_DEV   (1ull << 15) /* ABI 5, Linux 6.10 */
#define NET_TCP	       3ull	    /* ABI 4, Linux 6.7: BIND_TCP, CONNECT_TCP */
#define SCOPE_ABSTRACT 1ull	    /* ABI 6, Linux 6.12: abstract Unix sockets of others */
#define SCOPE_SIGNAL   2ull	    /* ABI 6: signals to others */

/*
 * struct landlock_ruleset_attr of ABI 6. A kernel takes a longer one than its own if what it does not know is
 * zero.
 */
struct ruleset_attr {
	uint64_t fs, net, scoped;
};

/* What the kernel lets us handle. 0: no Landlock. -errno from the kernel in *error. */
static struct ruleset_attr handled(int *error)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	struct ruleset_attr a = {0};

	*error = abi < 0 ? -errno : 0;
	if (abi >= 1)
		a.fs = FS_ABI1;
	if (abi >= 2)
		a.fs |= FS_REFER;
	if (abi >= 3)
		a.fs |= FS_TRUNCATE;
	if (abi >= 4)
		a.net = NET_TCP;
	if (abi >= 5)
		a.fs |= FS_IOCTL_DEV;
	if (abi >= 6)
		a.scoped = SCOPE_ABSTRACT | SCOPE_SIGNAL;
	return a;
}

int jail_landlock_new(void)
{
	int error;
	const struct ruleset_attr a = handled(&error);

	if (error)
		return error;
	/* ABI 1 to 3 know the first field only, and refuse nothing about zeroes behind it. */
	int fd = (int)syscall(SYS_landlock_create_ruleset, &a, sizeof(a), 0);
	return fd < 0 ? -errno : fd;
}

int jail_landlock_allow(int ruleset, const char *path, enum jail_access access)
{
	static const uint64_t rights[] = {
		[JAIL_READ] = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR,
		[JAIL_EXECUTE] = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR |
				 LANDLOCK_ACCESS_FS_EXECUTE,
		[JAIL_WRITE] = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE,
	};
	CLEANUP_CLOSE int fd = open(path, O_PATH | O_CLOEXEC);
	struct stat st;
	int error;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	struct landlock_path_beneath_attr beneath = {.allowed_access = rights[access], .parent_fd = fd};
	if (!S_ISDIR(st.st_mode)) /* a right that a file cannot have is refused */
		beneath.allowed_access &= ~(uint64_t)LANDLOCK_ACCESS_FS_READ_DIR;
	if (access == JAIL_WRITE && (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)))
		beneath.allowed_access |= FS_IOCTL_DEV & handled(&error).fs;
	return syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0) < 0 ? -errno
												    : 0;
}
