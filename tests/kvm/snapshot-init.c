/* SPDX-License-Identifier: MIT */
/*
 * PID 1 of the snapshot test's guest: counts aloud, reads the disk each time, and says what the clock shows.
 *
 *     tick NUMBER MILLISECONDS DISK        DISK: ok, or what went wrong
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { SECTOR = 512, SECTORS = 2048 };

static const char *check_disk(int fd, unsigned n)
{
	static _Alignas(4096) unsigned char buf[SECTOR];
	unsigned sector = n * 37 % SECTORS;

	if (pread(fd, buf, SECTOR, (off_t)sector * SECTOR) != SECTOR)
		return strerror(errno);
	for (unsigned i = 0; i < SECTOR; i++) {
		if (buf[i] != (unsigned char)(sector + i))
			return "wrong content";
	}
	return "ok";
}

int main(void)
{
	const struct timespec nap = {.tv_nsec = 20000000};

	mkdir("/dev", 0755);
	mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
	int out = open("/dev/console", O_WRONLY | O_CLOEXEC);
	int disk = open("/dev/vda", O_RDONLY | O_CLOEXEC | O_DIRECT);
	dprintf(out, "disk %s\n", disk < 0 ? strerror(errno) : "open");
	for (unsigned n = 0;; n++) {
		struct timespec t;
		clock_gettime(CLOCK_MONOTONIC, &t);
		dprintf(out, "tick %u %lld %s\n", n, (long long)t.tv_sec * 1000 + t.tv_nsec / 1000000,
			check_disk(disk, n));
		nanosleep(&nap, NULL);
	}
}
