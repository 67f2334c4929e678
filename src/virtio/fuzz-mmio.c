/* SPDX-License-Identifier: MIT */
/*
 * A guest that does what it likes with a device over virtio-mmio: registers, configuration, rings and buffers, in any
 * order, and a monitor that suspends, resumes and restores the device in between, also from states that nobody saved.
 *
 * Input: a byte of MODE_ flags, then steps of 6 bytes: u8 what, u8 a, u32 v (little endian), see `step`. Each queue's
 * rings lie in RINGS_LEN bytes of their own from the memory's start; sane_queue sets them up as a driver would.
 * Checked after every step: that a queue is in service only when it may be, and that the page says what reads say.
 */
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/io.h"
#include "mmio-regs.h"
#include "test-mmio-echo.h"
#include "virtio/vsock.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MODE_VSOCK = 1, MODE_STARTED = 2, MODE_EVENT_IDX = 4, MODE_SPLIT = 8 };
enum {
	MEM = 65536,
	SPLIT = 32768,
	GPA = 0x10000,
	RINGS_LEN = 0x2000,
	AVAIL = 0x800,
	USED = 0x1000,
	DATA = 0x8000
};
#define HIGH_GPA (1ULL << 32) /* MODE_SPLIT: where the second half lies */

struct world {
	struct loop *loop;
	struct echo echo;
	struct vsock_dev *vsock;
	struct virtio_device *dev;
	struct virtio_mmio *m;
	uint8_t *low, *high; /* each an allocation of its own: an overrun of a region is seen */
	struct guest_mem gm;
	uint8_t mode;
	uint16_t size[VIRTIO_QUEUES_MAX];
	int listener, client;
};

static char dir[] = "/tmp/fuzz-mmio-XXXXXX";
static int dirfd_ = -1;

static void clean(void)
{
	io_remove_tree_at(AT_FDCWD, dir);
}

/* A Unix socket of the vsock device's folder; -1 when it cannot be connected. */
static int unix_socket(const char *name, bool listener)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s/%s", dir, name);
	if (listener)
		unlink(a.sun_path);
	if (s < 0 || (listener ? bind(s, (struct sockaddr *)&a, sizeof(a)) || listen(s, 16)
			       : connect(s, (struct sockaddr *)&a, sizeof(a))))
		close_fd(&s);
	return s;
}

/* ---- the guest ---- */

static uint8_t *mem_at(struct world *w, uint32_t off)
{
	off %= MEM - 16;
	if (!w->high || off < SPLIT - 16)
		return w->low + off;
	return off < SPLIT ? w->low + SPLIT - 16 : w->high + (off - SPLIT);
}

static uint32_t read32(struct world *w, uint32_t off)
{
	uint32_t v;

	virtio_mmio_read(w->m, off, &v, sizeof(v));
	return v;
}

static void write32(struct world *w, uint32_t off, uint32_t v)
{
	virtio_mmio_write(w->m, off, &v, sizeof(v));
}

static void sane_queue(struct world *w, unsigned q, uint16_t size)
{
	const uint32_t at = GPA + q * RINGS_LEN;

	w->size[q] = size;
	memset(w->low + q * RINGS_LEN, 0, RINGS_LEN);
	write32(w, REG_QUEUE_SEL, q);
	write32(w, REG_QUEUE_NUM, size);
	write32(w, REG_QUEUE_DESC, at);
	write32(w, REG_QUEUE_DESC + 4, 0);
	write32(w, REG_QUEUE_DRIVER, at + AVAIL);
	write32(w, REG_QUEUE_DRIVER + 4, 0);
	write32(w, REG_QUEUE_DEVICE, at + USED);
	write32(w, REG_QUEUE_DEVICE + 4, 0);
	write32(w, REG_QUEUE_READY, 1);
}

/* 3.1.1, as far as `upto` of its steps */
static void sane_start(struct world *w, unsigned upto)
{
	uint64_t features = w->dev->features;

	if (!(w->mode & MODE_EVENT_IDX))
		features &= ~VIRTIO_F_EVENT_IDX;
	write32(w, REG_STATUS, 0);
	write32(w, REG_STATUS, STATUS_ACKNOWLEDGE | STATUS_DRIVER);
	for (uint32_t i = 0; i < 2 && upto > 0; i++) {
		write32(w, REG_DRIVER_FEATURES_SEL, i);
		write32(w, REG_DRIVER_FEATURES, (uint32_t)(features >> (32 * i)));
	}
	if (upto > 1)
		write32(w, REG_STATUS, STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK);
	for (unsigned q = 0; q < w->dev->n_queues && upto > 2; q++)
		sane_queue(w, q, 16);
	if (upto > 3)
		write32(w, REG_STATUS, read32(w, REG_STATUS) | STATUS_DRIVER_OK);
}

/* A descriptor: where and how long from tables of what is interesting. */
static void put_desc(struct world *w, uint8_t a, uint32_t v)
{
	static const uint32_t lens[] = {
		0, 1, 4, 16, 44, 64, 100, 256, 4096, 32, 48, 0x8000, 0x10000, 1U << 31, UINT32_MAX, 15};
	const uint64_t addrs[] = {GPA + DATA, GPA + DATA + (v & 0xfff0), GPA + (v & 0xffff), GPA,
		GPA + SPLIT - 8, GPA + MEM - 4, HIGH_GPA + (v & 0xfff), 0, UINT64_MAX - 7, GPA - 1};
	struct {
		uint64_t addr;
		uint32_t len;
		uint16_t flags, next;
	} d = {
		.addr = addrs[(v >> 16) % ARRAY_LEN(addrs)],
		.len = lens[(v >> 24) % ARRAY_LEN(lens)],
		.flags = (v >> 28) & 7,
		.next = (uint16_t)((a + 1 + (v >> 31)) % 16),
	};
	memcpy(mem_at(w, (a >> 4) % 4 * RINGS_LEN + (a & 15) * 16U), &d, sizeof(d));
}

static void offer(struct world *w, unsigned q, uint16_t head)
{
	uint8_t *avail = w->low + q * RINGS_LEN + AVAIL;
	uint16_t idx, size = w->size[q] ? w->size[q] : 16;

	memcpy(&idx, avail + 2, 2);
	memcpy(avail + 4 + 2 * (size_t)(idx % size), &head, 2);
	idx++;
	memcpy(avail + 2, &idx, 2);
}

/* A vsock packet in the buffers' area, for a descriptor of 44 bytes or more at DATA. */
static void put_packet(struct world *w, uint8_t a, uint32_t v)
{
	uint8_t h[44] = {0};

	h[0] = 3;
	h[8] = 2;
	h[16] = a & 3;
	h[20] = (a >> 2) & 3;
	h[24] = v & 0xff;
	h[28] = 1;
	h[30] = (v >> 8) & 15;
	h[32] = (v >> 12) & 3;
	h[38] = 4; /* credit of 256 KiB */
	memcpy(mem_at(w, DATA), h, sizeof(h));
}

static void kick(struct world *w, unsigned q)
{
	const uint64_t one = 1;
	ssize_t n = write(virtio_mmio_kick_fd(w->m, q), &one, sizeof(one));

	(void)n;
}

/* ---- the monitor ---- */

static void new_device(struct world *w)
{
	if (w->mode & MODE_VSOCK) {
		if (vsock_new(w->loop, dirfd_, &w->vsock) < 0)
			abort();
		w->dev = vsock_device(w->vsock);
	} else {
		echo_init(&w->echo);
		w->dev = &w->echo.dev;
	}
	if (virtio_mmio_new(w->loop, w->dev, &w->gm, &w->m) < 0)
		abort();
}

static void free_device(struct world *w, bool device_first)
{
	if (device_first && w->vsock)
		vsock_free(TAKE_PTR(w->vsock));
	virtio_mmio_free(TAKE_PTR(w->m));
	vsock_free(TAKE_PTR(w->vsock));
}

/* Into another process, with v put over the state at a place of its choice. */
static void migrate(struct world *w, uint8_t a, uint32_t v)
{
	struct virtio_mmio_state *s = malloc(sizeof(*s));

	if (!s || virtio_mmio_suspend(w->m, s) < 0)
		abort();
	if (a) /* the registers are what is interesting, and the first bytes of the device's own */
		memcpy((uint8_t *)s + a * 4U % (offsetof(struct virtio_mmio_state, device) + 16), &v,
			sizeof(v));
	free_device(w, v & 1);
	new_device(w);
	int r = virtio_mmio_restore(w->m, s);
	if (r < 0 && (a == 0 || read32(w, REG_STATUS) != 0))
		__builtin_trap(); /* what was saved comes back; what does not leaves nothing behind */
	free(s);
}

static void suspend_resume(struct world *w)
{
	struct virtio_mmio_state *s = malloc(sizeof(*s));

	if (!s || virtio_mmio_suspend(w->m, s) < 0)
		abort();
	for (unsigned i = 0; i < w->dev->n_queues; i++) {
		if (w->dev->vqs[i].ready)
			__builtin_trap();
	}
	(void)virtio_mmio_resume(w->m);
	free(s);
}

static void device_tells(struct world *w, uint8_t a)
{
	if (a & 1)
		w->dev->transport_ops->needs_reset(w->dev->transport, 0, "because");
	if (a & 2 && !w->vsock)
		w->echo.config[a % CONFIG]++;
	if (a & 4)
		w->dev->transport_ops->config_changed(w->dev->transport);
}

static void host_client(struct world *w, uint8_t a)
{
	if (!w->vsock)
		return;
	close_fd(&w->client);
	w->client = unix_socket("vsock.sock", false);
	ssize_t n = send(w->client, a & 1 ? "CONNECT 1\n" : "CONNECT 2\nhello", a & 1 ? 10 : 15,
		MSG_NOSIGNAL | MSG_DONTWAIT);
	(void)n;
}

/* ---- steps ---- */

static void check(struct world *w)
{
	const uint8_t *page = virtio_mmio_page(w->m);
	uint32_t status = read32(w, REG_STATUS);
	const uint32_t running = STATUS_DRIVER | STATUS_FEATURES_OK | STATUS_DRIVER_OK;

	if (status & ~(uint32_t)(STATUS_OF_DRIVER | STATUS_NEEDS_RESET) ||
		!(read32(w, VIRTIO_MMIO_INT_STATUS) & 1))
		__builtin_trap();
	if (w->dev->negotiated & ~w->dev->features)
		__builtin_trap();
	for (unsigned i = 0; i < w->dev->n_queues; i++) {
		const struct vq *q = &w->dev->vqs[i];
		if (q->ready && ((status & running) != running || status & STATUS_FAILED))
			__builtin_trap();
		if (q->ready && !q->broken && q->in_flight)
			__builtin_trap(); /* neither device keeps a chain */
		if (q->ready && (q->conf.size == 0 || q->conf.size > VQ_SIZE_MAX))
			__builtin_trap();
	}
	for (uint32_t off = VIRTIO_MMIO_PAGE_AT; off < VIRTIO_MMIO_LEN; off += 4) {
		uint32_t v = read32(w, off);
		if (memcmp(&v, page + off - VIRTIO_MMIO_PAGE_AT, sizeof(v)) != 0)
			__builtin_trap();
	}
}

static void access_step(struct world *w, const uint8_t *s, uint32_t v)
{
	uint8_t buf[16] = {0};

	switch (s[0] % 16) {
	case 0:
	case 1:
		write32(w, s[1] * 4U, v);
		break;
	case 2:
		virtio_mmio_read(w->m, v % (VIRTIO_MMIO_LEN + 64), buf, s[1] % 17);
		break;
	default:
		memcpy(buf, s + 2, 4);
		virtio_mmio_write(w->m, REG_CONFIG + s[1], buf, 1U << (v >> 30));
	}
}

static void step(struct world *w, const uint8_t *s)
{
	uint8_t a = s[1];
	uint32_t v;

	memcpy(&v, s + 2, sizeof(v));
	v = le32toh(v);
	switch (s[0] % 16) {
	case 0 ... 3:
		access_step(w, s, v);
		break;
	case 4:
		memcpy(mem_at(w, v & 0xffff), s + 4, 2);
		break;
	case 5:
		put_desc(w, a, v);
		break;
	case 6:
	case 7:
		offer(w, a % 4, (uint16_t)(v & 0xff ? v & 15 : v >> 8));
		if (v >> 31)
			kick(w, a % w->dev->n_queues);
		break;
	case 8:
		kick(w, a % w->dev->n_queues);
		break;
	case 9:
		sane_start(w, a % 5);
		break;
	case 10:
		sane_queue(w, a % w->dev->n_queues, (uint16_t)(1U << (v % 6)));
		break;
	case 11:
		suspend_resume(w);
		break;
	case 12:
		migrate(w, a, v);
		break;
	case 13:
		device_tells(w, a);
		break;
	case 14:
		put_packet(w, a, v);
		break;
	default:
		host_client(w, a);
	}
	loop_turn(w->loop, 0);
	check(w);
}

static void init_memory(struct world *w)
{
	size_t low = w->mode & MODE_SPLIT ? SPLIT : MEM;

	w->low = aligned_alloc(4096, low);
	w->high = w->mode & MODE_SPLIT ? aligned_alloc(4096, MEM - SPLIT) : NULL;
	if (!w->low || (w->mode & MODE_SPLIT && !w->high))
		abort();
	memset(w->low, 0, low);
	w->gm.n_regions = 1;
	w->gm.regions[0] = (struct guest_mem_region){.gpa = GPA, .len = low, .host = w->low, .uaddr = GPA};
	if (!w->high)
		return;
	memset(w->high, 0, MEM - SPLIT);
	w->gm.n_regions = 2;
	w->gm.regions[1] = (struct guest_mem_region){
		.gpa = HIGH_GPA, .len = MEM - SPLIT, .host = w->high, .uaddr = HIGH_GPA};
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct world w;

	if (size < 1)
		return 0;
	memset(&w, 0, sizeof(w));
	w.listener = w.client = -1;
	w.mode = data[0];
	if (dirfd_ < 0) {
		if (!mkdtemp(dir) || atexit(clean))
			abort();
		dirfd_ = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	if (dirfd_ < 0 || loop_new(&w.loop) < 0 || loop_allow_calls(w.loop) < 0)
		abort();
	init_memory(&w);
	new_device(&w);
	if (w.mode & MODE_VSOCK)
		w.listener = unix_socket("vsock.sock_1", true);
	if (w.mode & MODE_STARTED)
		sane_start(&w, 4);
	for (size_t at = 1; at + 6 <= size; at += 6)
		step(&w, data + at);
	free_device(&w, size & 1);
	close_fd(&w.client);
	close_fd(&w.listener);
	loop_free(w.loop);
	free(w.low);
	free(w.high);
	return 0;
}
