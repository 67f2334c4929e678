/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * FIFREEZE of the scratch disk's file system: the kernel writes everything out, empties the journal and lets nobody write until
 * FITHAW. It outlives the process that asked for it, so PID 1 thaws when that has ended; a box that is stopped or
 * killed meanwhile has processes that wait in the kernel, and would never come to their end.
 *
 * Nothing of PID 1's writes to that disk: what runs in the box goes on, up to its next write.
 */
#include "freeze.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/fs.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/io.h"
#include "process.h"
#include "rootfs.h"
#include "system.h"

static int open_disk(void)
{
	int fd = open(ROOTFS_SCRATCH, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static int reply(int fd, int r)
{
	CLEANUP(buf_done) struct buf out = {0};
	char text[256], reason[128];
	int put;

	snprintf(text, sizeof(text), "freeze the disk: %s", process_strerror(-r, reason, sizeof(reason)));
	put = r < 0 ? wire_put_fail(&out, (uint32_t)MIN_OF(-r, 255), text)
		    : wire_put(&out, WIRE_DONE, NULL, 0);
	return put < 0 ? put : io_write_full(fd, buf_data(&out), out.len);
}

/* Whether the host says that it has its copy; else it closes, or has had enough time. */
static bool wait_for_end(int fd, struct buf *in)
{
	uint64_t deadline = time_mono_ns() + WIRE_FREEZE_MAX_S * 1000000000ull, now;
	struct pollfd p = {.fd = fd, .events = POLLIN};
	struct wire_frame f;
	int r;

	while ((r = wire_next(in, &f)) == 0 && (now = time_mono_ns()) < deadline) {
		if (poll(&p, 1, (int)((deadline - now) / 1000000) + 1) <= 0)
			continue;
		uint8_t *room = buf_reserve(in, WIRE_HEADER_SIZE);
		ssize_t got = room ? recv(fd, room, WIRE_HEADER_SIZE, 0) : 0;
		if (got <= 0)
			return false;
		buf_commit(in, (size_t)got);
	}
	return r > 0 && f.type == WIRE_FREEZE;
}

/* We have not thawed it, but root of a privileged box may have: then a second freeze succeeds, and is thawed as the first is. */
static bool is_frozen(int disk)
{
	return ioctl(disk, FIFREEZE, 0) < 0 && errno == EBUSY;
}

static _Noreturn void run(int fd, struct buf *in)
{
	struct wire_frame f;
	int disk, r;

	/* Everything else that PID 1 has open would stay open with us. */
	if (fd != 3 && dup3(fd, 3, O_CLOEXEC) < 0)
		_exit(1);
	fd = 3;
	close_range(4, ~0U, 0);
	signal(SIGPIPE, SIG_IGN);
	if (io_set_nonblock(fd, false) < 0 || wire_next(in, &f) != 1)
		_exit(1);
	disk = open_disk();
	/* What can be written before, while nobody has to wait. */
	r = disk < 0 ? disk : syncfs(disk) < 0 || ioctl(disk, FIFREEZE, 0) < 0 ? -errno : 0;
	wire_consume(in, &f);
	if (reply(fd, r) == 0 && r == 0 && wait_for_end(fd, in))
		reply(fd, is_frozen(disk)
				  ? 0
				  : -ECANCELED); /* before the thaw: so nothing was written up to now */
	if (r == 0)
		ioctl(disk, FITHAW, 0);
	_exit(r < 0);
}

pid_t freeze_start(int fd, const struct buf *in)
{
	pid_t pid = fork();

	if (pid == 0) {
		struct buf own = *in; /* the copy that fork made */

		run(fd, &own);
	}
	return pid < 0 ? -errno : pid;
}

void freeze_end(void)
{
	CLEANUP_CLOSE int disk = open_disk();

	/* EINVAL: it is not frozen, which is how it should be. */
	if (disk >= 0 && ioctl(disk, FITHAW, 0) < 0 && errno != EINVAL)
		system_complain("thaw the disk: %s", strerror(errno));
}
