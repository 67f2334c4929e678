/* SPDX-License-Identifier: MIT */
/*
 * What a process that holds a guest may reach by a name (base/landlock.h). A monitor of ours needs to connect to Unix sockets by
 * their path, and has no path but its folder's; QEMU may not make sockets (jail_qemu_filter).
 */
#include <fcntl.h>

#include "base/landlock.h"
#include "jail.h"

int jail_landlock_allow(int ruleset, const char *path, enum jail_access access)
{
	static const uint64_t rights[] = {
		[JAIL_READ] = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR,
		[JAIL_EXECUTE] = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR |
				 LANDLOCK_ACCESS_FS_EXECUTE,
		[JAIL_WRITE] =
			LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_FS_IOCTL_DEV,
	};
	CLEANUP_CLOSE int fd = open(path, O_PATH | O_CLOEXEC);

	return fd < 0 ? -errno : landlock_allow(ruleset, fd, rights[access]);
}
