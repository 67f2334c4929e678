/* SPDX-License-Identifier: MIT */
#include "userns.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/io.h"
#include "rootfs.h"

int userns_write_map(int proc, pid_t pid, const char *name, const char *map)
{
	CLEANUP_CLOSE int fd = -1;
	char path[40];

	snprintf(path, sizeof(path), "%d/%s", (int)pid, name);
	fd = openat(proc, path, O_WRONLY | O_CLOEXEC);
	/* One write is the whole map. */
	return fd < 0 || write(fd, map, strlen(map)) < 0 ? -errno : 0;
}

static int open_namespace(int proc, pid_t pid, const char *map)
{
	char path[40];
	int fd, r = userns_write_map(proc, pid, "uid_map", map);

	if (r == 0)
		r = userns_write_map(proc, pid, "gid_map", map);
	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "%d/ns/user", (int)pid);
	fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int userns_new(const char *map)
{
	struct clone_args args = {.flags = CLONE_NEWUSER, .exit_signal = SIGCHLD};
	char what[64];
	CLEANUP_CLOSE int proc = rootfs_new("proc", "proc", 0, what, sizeof(what));
	pid_t pid;
	int r;

	if (proc < 0)
		return proc;
	/* A namespace needs a process until it is open. */
	pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
	if (pid < 0)
		return -errno;
	if (pid == 0)
		for (;;)
			pause();
	r = open_namespace(proc, pid, map);
	kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return r;
}
