/* SPDX-License-Identifier: MIT */
/*
 * A front end gone mad, and the guest behind it. Input: records of
 *   u8 action: below 0x80 a message with that request; 0x80.. see `act`
 *   for a message: u8 flags (low nibble: header flags; high nibble: descriptors, kind and number), u16
 * payload size, payload
 */
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "base/io.h"
#include "base/loop.h"
#include "vhost-user-proto.h"
#include "virtio/vhost-user.h"
#include "virtio/vsock.h"
#include "vsock/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MEM = 1 << 16, RINGS_AT = 0x1000 };
#define GPA   0x10000ULL
#define UADDR 0x7f0000000000ULL

static char dir[] = "/tmp/fuzz-vhost-user-XXXXXX";
static int dirfd_ = -1, kinds[4];

static void clean(void)
{
	io_remove_tree_at(AT_FDCWD, dir);
}

static void init_once(void)
{
	int p[2];

	if (dirfd_ >= 0)
		return;
	if (!mkdtemp(dir))
		abort();
	atexit(clean);
	dirfd_ = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	kinds[0] = memfd_create("m", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	kinds[1] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	kinds[2] = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (dirfd_ < 0 || kinds[0] < 0 || pipe2(p, O_CLOEXEC | O_NONBLOCK) < 0 ||
		ftruncate(kinds[0], MEM) < 0)
		abort();
	kinds[3] = p[0];
}

static void send_msg(
	int sock, const struct vhost_user_header *h, const void *payload, size_t len, int kind, unsigned n)
{
	union {
		char buf[CMSG_SPACE(16 * sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct iovec iov[2] = {{(void *)(uintptr_t)h, sizeof(*h)}, {(void *)(uintptr_t)payload, len}};
	struct msghdr mh = {.msg_iov = iov, .msg_iovlen = 2};

	if (n) {
		mh.msg_control = control.buf;
		mh.msg_controllen = CMSG_SPACE(n * sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&mh);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n * sizeof(int));
		for (unsigned i = 0; i < n; i++)
			memcpy(CMSG_DATA(c) + i * sizeof(int), &kinds[kind], sizeof(int));
	}
	ssize_t r = sendmsg(sock, &mh, MSG_DONTWAIT | MSG_NOSIGNAL);
	(void)r;
}

static void send_plain(int sock, uint32_t request, const void *payload, uint32_t size, int kind, unsigned n)
{
	const struct vhost_user_header h = {request, VHOST_USER_VERSION, size};
	send_msg(sock, &h, payload, size, kind, n);
}

/* What a sane front end does, so that the rest of the input meets a running device. */
static void start_rings(int sock, uint8_t features)
{
	uint64_t f = VIRTIO_F_VERSION_1 | VHOST_USER_F_PROTOCOL_FEATURES |
		     (features & 1 ? VIRTIO_F_EVENT_IDX : 0) | (features & 2 ? VIRTIO_F_INDIRECT_DESC : 0);
	struct vhost_user_memory m = {.n_regions = 1};

	m.regions[0] = (struct vhost_user_region){.gpa = GPA, .size = MEM, .uaddr = UADDR};
	send_plain(sock, VHOST_USER_SET_FEATURES, &f, 8, 0, 0);
	send_plain(sock, VHOST_USER_SET_MEM_TABLE, &m, 8 + 32, 0, 1);
	for (uint32_t i = 0; i < 2; i++) {
		const uint64_t at = UADDR + RINGS_AT + i * 0x400, v = i;
		const struct vhost_user_vring_addr a = {
			.index = i, .desc = at, .avail = at + 0x100, .used = at + 0x200};
		const struct vhost_user_vring_state num = {i, 8}, on = {i, 1};
		send_plain(sock, VHOST_USER_SET_VRING_NUM, &num, 8, 0, 0);
		send_plain(sock, VHOST_USER_SET_VRING_ADDR, &a, sizeof(a), 0, 0);
		send_plain(sock, VHOST_USER_SET_VRING_KICK, &v, 8, 1, 1);
		send_plain(sock, VHOST_USER_SET_VRING_CALL, &v, 8, 1, 1);
		send_plain(sock, VHOST_USER_SET_VRING_ENABLE, &on, 8, 0, 0);
	}
}

static void turns(struct loop *l, int n)
{
	while (n-- > 0)
		loop_turn(l, 0);
}

/* One record; returns the bytes used, 0 at the end. */
static size_t act(struct loop *loop, int sock, uint8_t *mem, const uint8_t *p, size_t left)
{
	const uint64_t one = 1;

	if (left < 4)
		return 0;
	size_t len = MIN_OF((size_t)(p[2] | p[3] << 8), left - 4);
	if (p[0] < 0x80) {
		uint32_t claim = (uint32_t)(p[2] | p[3] << 8);
		unsigned n = (p[1] >> 4) % 4 == 3 ? 9 : (p[1] >> 4) % 4;
		const struct vhost_user_header h = {p[0], (p[1] & 15) ^ VHOST_USER_VERSION, claim};
		send_msg(sock, &h, p + 4, len, p[1] >> 6, n);
		turns(loop, 1);
		return 4 + len;
	}
	switch (p[0] & 3) {
	case 0:
		start_rings(sock, p[1]);
		turns(loop, 3);
		return 4;
	case 1: { /* the guest writes into its memory */
		size_t at = RINGS_AT + (size_t)p[1] * 16;
		memcpy(mem + at, p + 4, MIN_OF(len, MEM - at));
		return 4 + len;
	}
	case 2:
		if (write(kinds[1], &one, sizeof(one)) < 0)
			abort();
		turns(loop, 2);
		return 4;
	default: {
		ssize_t r = send(sock, p + 4, len, MSG_DONTWAIT | MSG_NOSIGNAL); /* raw */
		(void)r;
		turns(loop, 1);
		return 4 + len;
	}
	}
}

static void on_gone(void *data, const char *reason)
{
	(*(int *)data)++;
	if (!reason)
		__builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct loop *loop = NULL;
	struct vsock_dev *v = NULL;
	struct vhost_user *u = NULL;
	int sv[2], gone = 0;
	char drop[4096];
	uint64_t count;

	init_once();
	if (loop_new(&loop) < 0 || vsock_new(loop, dirfd_, &v) < 0 ||
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0 ||
		vsock_serve_vhost_user(v, sv[0], on_gone, &gone, &u) < 0)
		abort();
	uint8_t *mem = mmap(NULL, MEM, PROT_READ | PROT_WRITE, MAP_SHARED, kinds[0], 0);
	if (mem == MAP_FAILED)
		abort();
	memset(mem, 0, MEM);
	if (read(kinds[1], &count, sizeof(count)) < 0 && errno != EAGAIN)
		abort();
	for (size_t at = 0, n; at < size && (n = act(loop, sv[1], mem, data + at, size - at)) > 0; at += n) {
		while (recv(sv[1], drop, sizeof(drop), MSG_DONTWAIT) > 0)
			;
	}
	close(sv[1]);
	turns(loop, 20);
	if (gone != 1)
		__builtin_trap(); /* exactly once, and always when the front end is gone */
	munmap(mem, MEM);
	vhost_user_free(u);
	vsock_free(v);
	loop_free(loop);
	return 0;
}
