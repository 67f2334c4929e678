/* SPDX-License-Identifier: MIT */
/*
 * The console between a hostile guest and a host that reads and writes as it likes. Input: u8 kinds of descriptors (2
 * bits each for input and output: none, pipe, socket, file), then steps as in fuzz-guest.h, and 10: host writes a bytes;
 * 11: host reads a bytes; 12: host closes an end; 13: the size changes. Checked: a step ends (nothing blocks), and no
 * buffer of the guest is kept between turns.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "base/io.h"
#include "fuzz-guest.h"
#include "virtio/console.h"

enum { NONE, PIPE, SOCKET, FILE_KIND };

struct world {
	struct fuzz_guest g;
	struct console_dev *c;
	int end[2]; /* the host's: of input, of output */
};

/* Makes both ends; *ret_host is non-blocking. */
static int make(unsigned kind, bool out, int *ret_host)
{
	int fd[2] = {-1, -1};

	*ret_host = -1;
	if (kind == FILE_KIND)
		return memfd_create("console", MFD_CLOEXEC);
	if (kind == PIPE) {
		if (pipe2(fd, O_CLOEXEC) < 0)
			abort();
		fcntl(fd[0], F_SETPIPE_SZ, 4096);
	} else if (kind == SOCKET) {
		int small = 1;
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) < 0)
			abort();
		setsockopt(fd[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
		setsockopt(fd[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	} else {
		return -1;
	}
	*ret_host = fd[out ? 0 : 1];
	io_set_nonblock(*ret_host, true);
	return fd[out ? 1 : 0];
}

static void step(struct world *w, const uint8_t *s)
{
	static uint8_t bulk[65536];
	ssize_t n = 0;

	switch (s[0] % (FUZZ_STEPS + 4)) {
	case FUZZ_STEPS:
		n = write(w->end[0], bulk, fuzz_u16(s + 4));
		break;
	case FUZZ_STEPS + 1:
		n = read(w->end[1], bulk, fuzz_u16(s + 4));
		break;
	case FUZZ_STEPS + 2:
		close_fd(&w->end[s[1] & 1]);
		break;
	case FUZZ_STEPS + 3:
		console_resize(w->c, fuzz_u16(s + 4), fuzz_u16(s + 6));
		break;
	default:
		fuzz_guest_step(&w->g, s);
	}
	(void)n;
	loop_turn(w->g.loop, 0);
	for (unsigned q = 0; q < w->g.dev->n_queues; q++) {
		if (w->g.dev->vqs[q].in_flight && !w->g.dev->vqs[q].broken)
			__builtin_trap();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct world w = {0};
	struct console_config conf = {.cols = 80, .rows = 25};
	struct loop *loop;

	if (size == 0)
		return 0;
	conf.in_fd = make(data[0] & 3, false, &w.end[0]);
	conf.out_fd = make(data[0] >> 2 & 3, true, &w.end[1]);
	if (loop_new(&loop) < 0 || console_new(loop, &conf, &w.c) < 0)
		abort();
	close_fd(&conf.in_fd);
	close_fd(&conf.out_fd);
	fuzz_guest_init(&w.g, loop, console_device(w.c));
	for (size_t at = 1; at + FUZZ_STEP <= size; at += FUZZ_STEP)
		step(&w, data + at);
	console_free(w.c);
	fuzz_guest_done(&w.g);
	close_fd(&w.end[0]);
	close_fd(&w.end[1]);
	loop_free(loop);
	return 0;
}
