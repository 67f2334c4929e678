/* SPDX-License-Identifier: MIT */
/* The C library's functions are replaced by these: a program's own come first (ELF). */
#include "test-steps.h"

#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static void (*watch)(unsigned step);
static unsigned steps;
static struct stat synced[256];
static size_t n_synced;

void steps_watch(void (*hook)(unsigned step))
{
	watch = hook;
	steps = 0;
	n_synced = 0;
}

bool steps_synced(int dirfd, const char *path)
{
	struct stat s;

	if (fstatat(dirfd, path, &s, AT_SYMLINK_NOFOLLOW) < 0)
		return false;
	for (size_t i = 0; i < n_synced; i++)
		if (synced[i].st_dev == s.st_dev && synced[i].st_ino == s.st_ino)
			return true;
	return false;
}

static void step(void)
{
	void (*hook)(unsigned) = watch;

	if (!hook)
		return;
	watch = NULL;
	hook(steps++);
	watch = hook;
}

int mkdirat(int dirfd, const char *path, mode_t mode)
{
	step();
	return (int)syscall(SYS_mkdirat, dirfd, path, mode);
}

int fchmod(int fd, mode_t mode)
{
	step();
	return (int)syscall(SYS_fchmod, fd, mode);
}

int renameat(int from_fd, const char *from, int to_fd, const char *to)
{
	step();
	return (int)syscall(SYS_renameat2, from_fd, from, to_fd, to, 0);
}

int fsync(int fd)
{
	step();
	if (n_synced == sizeof(synced) / sizeof(*synced))
		n_synced = 0; /* of what is asked for, all is among the last */
	if (fstat(fd, &synced[n_synced]) == 0)
		n_synced++;
	return (int)syscall(SYS_fsync, fd);
}
