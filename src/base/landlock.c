/* SPDX-License-Identifier: MIT */
#include "base/landlock.h"

#include <errno.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Rights on files by the ABI that brought them: 1 is EXECUTE up to MAKE_SYM, bits 0 to 12. */
#define FS_ABI1	       ((1ull << 13) - 1)
#define FS_REFER       (1ull << 13) /* ABI 2, Linux 5.19 */
#define FS_TRUNCATE    (1ull << 14) /* ABI 3, Linux 6.2 */
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

/* What the kernel lets us handle. 0 or -errno: no Landlock. */
static int handled(struct ruleset_attr *ret)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

	if (abi < 0)
		return -errno;
	*ret = (struct ruleset_attr){.fs = FS_ABI1};
	if (abi >= 2)
		ret->fs |= FS_REFER;
	if (abi >= 3)
		ret->fs |= FS_TRUNCATE;
	if (abi >= 4)
		ret->net = NET_TCP;
	if (abi >= 5)
		ret->fs |= LANDLOCK_FS_IOCTL_DEV;
	if (abi >= 6)
		ret->scoped = SCOPE_ABSTRACT | SCOPE_SIGNAL;
	return 0;
}

int landlock_new(bool network)
{
	struct ruleset_attr a;
	int r = handled(&a);

	if (r < 0)
		return r;
	if (!network)
		a.net = 0;
	int fd = (int)syscall(SYS_landlock_create_ruleset, &a, sizeof(a), 0);
	return fd < 0 ? -errno : fd;
}

int landlock_allow(int ruleset, int fd, uint64_t rights)
{
	struct ruleset_attr a;
	struct stat st;
	int r = handled(&a);

	if (r < 0)
		return r;
	if (fstat(fd, &st) < 0)
		return -errno;
	rights &= a.fs;
	if (!S_ISDIR(st.st_mode)) /* a right that a file cannot have is refused */
		rights &= ~(uint64_t)LANDLOCK_ACCESS_FS_READ_DIR;
	if (!S_ISCHR(st.st_mode) && !S_ISBLK(st.st_mode))
		rights &= ~LANDLOCK_FS_IOCTL_DEV;
	struct landlock_path_beneath_attr beneath = {.allowed_access = rights, .parent_fd = fd};
	return syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0) < 0 ? -errno
												    : 0;
}

int landlock_enter(int ruleset)
{
	return syscall(SYS_landlock_restrict_self, ruleset, 0) < 0 ? -errno : 0;
}
