/* SPDX-License-Identifier: MIT */
/*
 * A back end gone mad, in front of a driver that does as it should. Input:
 *   u8 how: bit 0: descriptors come with the first part; bit 1: an honest answer to the first question; bit 2: to the stops
 *   the rest is what it says, whenever it is asked
 */
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "base/io.h"
#include "vhost-user-proto.h"
#include "virtio/mmio.h"
#include "virtio/vhost-user-front.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MEM = 1 << 16, QUEUES = 2, QUEUE_LEN = 8, FDS = 3 };
#define GPA 0x10000ULL
/* Registers: virtio 1.2 section 4.2.2 */
enum {
	FEATURES_SEL = 0x24,
	FEATURES = 0x20,
	SEL = 0x30,
	NUM = 0x38,
	READY = 0x44,
	STATUS = 0x70,
	DESC = 0x80
};

static void put(struct virtio_mmio *m, uint32_t off, uint32_t v)
{
	virtio_mmio_write(m, off, &v, sizeof(v));
}

static void start(struct virtio_mmio *m)
{
	put(m, STATUS, 3);
	put(m, FEATURES_SEL, 1);
	put(m, FEATURES, 1);
	put(m, STATUS, 11);
	for (uint32_t q = 0; q < QUEUES; q++) {
		put(m, SEL, q);
		put(m, NUM, QUEUE_LEN);
		for (uint32_t part = 0; part < 3; part++)
			put(m, DESC + part * 0x10, (uint32_t)GPA + q * 0x1000 + part * 0x400);
		put(m, READY, 1);
	}
	put(m, STATUS, 15);
}

static void say(int sock, const void *p, size_t len, bool with_fds)
{
	union {
		char buf[CMSG_SPACE(FDS * sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct iovec iov = {(void *)(uintptr_t)p, len};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};
	const int fds[FDS] = {sock, sock, sock};

	if (len == 0)
		return;
	if (with_fds) {
		mh.msg_control = control.buf;
		mh.msg_controllen = sizeof(control.buf);
		struct cmsghdr *c = CMSG_FIRSTHDR(&mh);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(fds));
		memcpy(CMSG_DATA(c), fds, sizeof(fds));
	}
	ssize_t n = sendmsg(sock, &mh, MSG_DONTWAIT | MSG_NOSIGNAL);
	(void)n;
}

static void answer(int sock, uint32_t request, const void *payload, uint32_t size)
{
	const struct vhost_user_header h = {request, VHOST_USER_VERSION | VHOST_USER_REPLY, size};

	say(sock, &h, sizeof(h), false);
	say(sock, payload, size, false);
}

static void on_gone(void *data, const char *why)
{
	(*(int *)data)++;
	if (!why)
		__builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct loop *loop = NULL;
	struct vhost_front *f = NULL;
	struct virtio_mmio *m = NULL;
	struct guest_mem mem = {.n_regions = 1};
	const uint64_t features = UINT64_MAX;
	int sv[2], gone = 0, memfd = memfd_create("m", MFD_CLOEXEC);
	void *host = mmap(NULL, MEM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (size < 1 || memfd < 0 || host == MAP_FAILED) {
		close(memfd);
		return 0;
	}
	mem.regions[0] = (struct guest_mem_region){.gpa = GPA, .len = MEM, .host = host, .uaddr = GPA};
	const struct vhost_front_config c = {.id = VIRTIO_ID_FS,
		.features = VIRTIO_F_VERSION_1,
		.n_queues = QUEUES,
		.space = "tag",
		.space_len = 4,
		.mem = &mem,
		.mem_fd = memfd,
		.on_gone = on_gone,
		.data = &gone};
	if (loop_new(&loop) < 0 || loop_allow_calls(loop) < 0 ||
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0 ||
		vhost_front_new(loop, &c, sv[0], &f) < 0 ||
		virtio_mmio_new(loop, vhost_front_device(f), &mem, &m) < 0)
		abort();
	if (data[0] & 2)
		answer(sv[1], VHOST_USER_GET_FEATURES, &features, sizeof(features));
	if (data[0] & 4) {
		for (uint32_t q = 0; q < QUEUES; q++) {
			const struct vhost_user_vring_state s = {.index = q};
			answer(sv[1], VHOST_USER_GET_VRING_BASE, &s, sizeof(s));
		}
	}
	say(sv[1], data + 1, size - 1, data[0] & 1);
	shutdown(sv[1], SHUT_WR); /* what is not said by now never is */
	start(m);
	put(m, STATUS, 0);
	for (int i = 0; i < 4; i++)
		loop_turn(loop, 0);
	start(m);
	put(m, STATUS, 0);
	if (gone != 1)
		__builtin_trap(); /* exactly once, and always when the other side has ended */
	virtio_mmio_free(m);
	vhost_front_free(f);
	loop_free(loop);
	close(sv[1]);
	close(memfd);
	munmap(host, MEM);
	return 0;
}
