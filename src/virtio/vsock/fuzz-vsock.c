/* SPDX-License-Identifier: MIT */
/*
 * The vsock device between a guest and host programs that do what the input says, in any order.
 * Input: steps of 4 bytes, see `step`. The transport is this file, so that a step is a few microseconds.
 * Checked after every turn: the bounds of what is held, and that the device's books agree with each other.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/io.h"
#include "vsock/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { QSIZE = 16, SLOT = 8192, MEM = 1 << 19, HOSTS = 8, PORTS = 4 };
enum {
	RX_AT = 0,
	TX_AT = 0x1000,
	AVAIL = 0x400,
	USED = 0x800,
	RX_DATA = 0x4000,
	TX_DATA = RX_DATA + QSIZE * SLOT
};

struct world {
	struct loop *loop;
	struct vsock_dev *v;
	uint8_t *mem;
	struct guest_mem gm;
	uint16_t avail[2], rx_seen;
	int listener[PORTS], host[HOSTS];
	uint32_t last_peer[PORTS]; /* host port of the last REQUEST from the host, per guest port */
};

static char dir[] = "/tmp/fuzz-vsock-XXXXXX";
static int dirfd_ = -1;

static void clean(void)
{
	io_remove_tree_at(AT_FDCWD, dir);
}

static int unix_socket(const char *name, bool listener)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s/%s", dir, name);
	if (listener)
		unlink(a.sun_path);
	if (s < 0 || (listener ? bind(s, (struct sockaddr *)&a, sizeof(a)) || listen(s, 16)
			       : connect(s, (struct sockaddr *)&a, sizeof(a)))) {
		if (listener)
			abort();
		if (s >= 0)
			close(s);
		return -1;
	}
	return s;
}

static void transport_notify(void *t, unsigned queue)
{
}

static void transport_needs_reset(void *t, unsigned queue, const char *why)
{
	if (!why)
		__builtin_trap();
}

static void transport_device_gone(void *t)
{
}

static const struct virtio_transport_ops transport = {
	.notify_driver = transport_notify,
	.needs_reset = transport_needs_reset,
	.device_gone = transport_device_gone,
};

static void put_desc(struct world *w, size_t ring, unsigned i, uint64_t addr, uint32_t len, uint16_t flags)
{
	struct {
		uint64_t addr;
		uint32_t len;
		uint16_t flags, next;
	} d = {addr, len, flags, (uint16_t)(i + 1)};
	memcpy(w->mem + ring + 16 * (size_t)i, &d, sizeof(d));
}

static void offer(struct world *w, unsigned q, uint16_t head)
{
	size_t ring = q ? TX_AT : RX_AT;
	memcpy(w->mem + ring + AVAIL + 4 + 2 * (w->avail[q] % QSIZE), &head, 2);
	w->avail[q]++;
	memcpy(w->mem + ring + AVAIL + 2, &w->avail[q], 2);
	w->v->dev.ops->queue_notify(&w->v->dev, q);
}

static void start(struct world *w, bool event_idx)
{
	memset(w->mem, 0, RX_DATA);
	memset(w->avail, 0, sizeof(w->avail));
	w->rx_seen = 0;
	for (unsigned q = 0; q < 2; q++) {
		size_t ring = q ? TX_AT : RX_AT;
		const struct vq_config conf = {.size = QSIZE,
			.event_idx = event_idx,
			.indirect = true,
			.desc = ring,
			.avail = ring + AVAIL,
			.used = ring + USED};
		if (vq_init(&w->v->dev.vqs[q], &w->gm, &conf) < 0)
			__builtin_trap();
		w->v->dev.ops->queue_started(&w->v->dev, q);
	}
	for (unsigned i = 0; i < QSIZE; i++)
		put_desc(w, RX_AT, i, RX_DATA + i * SLOT, i & 1 ? 100 : 4096, 2);
}

static void stop(struct world *w)
{
	for (unsigned q = 0; q < 2; q++) {
		w->v->dev.ops->queue_stopping(&w->v->dev, q);
		vq_stop(&w->v->dev.vqs[q]);
	}
}

/* The guest takes what arrived and gives the buffers back. */
static void take_rx(struct world *w, bool again)
{
	uint16_t used;

	memcpy(&used, w->mem + RX_AT + USED + 2, 2);
	for (int i = 0; i < QSIZE && w->rx_seen != used; i++, w->rx_seen++) {
		uint32_t elem[2];
		struct vsock_hdr h;
		memcpy(elem, w->mem + RX_AT + USED + 4 + 8 * (w->rx_seen % QSIZE), 8);
		memcpy(&h, w->mem + RX_DATA + (elem[0] % QSIZE) * SLOT, sizeof(h));
		if (h.op == VSOCK_OP_REQUEST)
			w->last_peer[h.dst_port % PORTS] = h.src_port;
		if (again)
			offer(w, 0, (uint16_t)(elem[0] % QSIZE));
	}
}

/* A packet: s[1] op and shape, s[2] ports and connection kind, s[3] length and credit. */
static void guest_packet(struct world *w, const uint8_t *s)
{
	static const uint32_t lens[] = {0, 1, 7, 100, 1000, 4000, 65535, 1U << 31};
	static const uint32_t allocs[] = {0, 1, 1000, 65536, 1U << 18, 1U << 31, UINT32_MAX, 262144};
	unsigned slot = w->avail[1] % QSIZE;
	uint32_t len = lens[s[3] & 7];
	struct vsock_hdr h = {
		.src_cid = s[1] & 0x80 ? 9 : 3,
		.dst_cid = 2,
		.src_port = s[2] % PORTS,
		.dst_port = s[2] & 0x10 ? w->last_peer[s[2] % PORTS] : (s[2] >> 2) % PORTS,
		.len = len,
		.type = s[1] & 0x40 ? 2 : 1,
		.op = s[1] & 15,
		.flags = (s[2] >> 5) & 3,
		.buf_alloc = allocs[(s[3] >> 3) & 7],
		.fwd_cnt = s[3] & 0x40 ? s[3] * 1000U : 0,
	};
	size_t data = TX_DATA + slot * SLOT;

	memcpy(w->mem + data, &h, sizeof(h));
	uint32_t have = (uint32_t)MIN_OF(len, SLOT - sizeof(h));
	if (s[1] & 0x20) /* the header in two pieces */
		put_desc(w, TX_AT, slot, data, 20, 1),
			put_desc(w, TX_AT, (slot + 1) % QSIZE, data + 20, 24 + have, 0);
	else
		put_desc(w, TX_AT, slot, data, VSOCK_HDR_SIZE + have, 0);
	offer(w, 1, (uint16_t)slot);
}

static void host_step(struct world *w, const uint8_t *s)
{
	static const char *const lines[] = {
		"CONNECT 0\n", "CONNECT 1\nab", "CONNECT 2", "x\n", "\n", "CONNECT 3\n", "C", ""};
	static uint8_t bulk[70000];
	int *h = &w->host[s[1] % HOSTS];
	ssize_t r = 0;

	switch (s[2] % 8) {
	case 0:
		close_fd(h);
		*h = unix_socket("vsock.sock", false);
		r = send(*h, lines[s[3] % 8], strlen(lines[s[3] % 8]), MSG_NOSIGNAL | MSG_DONTWAIT);
		break;
	case 1:
		close_fd(h);
		*h = accept4(w->listener[s[3] % PORTS], NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		break;
	case 2:
		r = send(*h, bulk, s[3] & 1 ? sizeof(bulk) : s[3], MSG_NOSIGNAL | MSG_DONTWAIT);
		break;
	case 3:
		r = recv(*h, bulk, s[3] & 1 ? sizeof(bulk) : s[3], MSG_DONTWAIT);
		memset(bulk, 0, 16);
		break;
	case 4:
		shutdown(*h, s[3] % 3);
		break;
	case 5:
		close_fd(h);
		break;
	case 6:
		r = send(*h, lines[s[3] % 8], strlen(lines[s[3] % 8]), MSG_NOSIGNAL | MSG_DONTWAIT);
		break;
	default: /* nobody listens there any more */
		unlinkat(dirfd_, s[3] & 1 ? "vsock.sock_0" : "vsock.sock_1", 0);
	}
	(void)r;
}

static void check(struct world *w)
{
	struct vsock_conn *c;
	unsigned n = 0, waiting = 0;

	TAILQ_FOREACH(c, &w->v->all, all)
	{
		n++;
		waiting += c->on_waiting;
		if (c->out.len > VSOCK_BUF_ALLOC || c->out.len != (uint32_t)(c->rx_cnt - c->fwd_cnt))
			if (c->state != VSOCK_DEAD)
				__builtin_trap();
		if (c->state == VSOCK_DEAD ? c->fd >= 0 : c->fd < 0)
			__builtin_trap();
		if (c->on_waiting != (c->state == VSOCK_LINE || c->state == VSOCK_ASKED))
			__builtin_trap();
		if (c->hashed && vsock_conn_find(w->v, c->guest_port, c->host_port) == NULL)
			__builtin_trap();
	}
	if (n != w->v->n_conns || waiting != w->v->n_waiting || n > VSOCK_CONNS_MAX ||
		w->v->n_stray > VSOCK_STRAY_MAX)
		__builtin_trap();
}

static void step(struct world *w, const uint8_t *s)
{
	uint16_t v16;

	switch (s[0] % 16) {
	case 0 ... 5:
		guest_packet(w, s);
		break;
	case 6 ... 10:
		host_step(w, s);
		break;
	case 11:
		for (int i = 0; i < (s[1] & 15); i++)
			offer(w, 0, (uint16_t)((s[2] + i) % QSIZE));
		break;
	case 12:
		take_rx(w, s[1] & 1);
		break;
	case 13:
		if (s[1] == 0) { /* reset by the driver */
			stop(w);
			w->v->dev.ops->reset(&w->v->dev);
			start(w, s[2] & 1);
		} else if (s[1] == 1) { /* the rings go wild */
			memcpy(&v16, s + 2, 2);
			memcpy(w->mem + (s[2] & 1 ? TX_AT : RX_AT) + AVAIL + 2, &v16, 2);
			w->v->dev.ops->queue_notify(&w->v->dev, 1);
		} else if (s[1] == 2) {
			put_desc(w, s[2] & 1 ? TX_AT : RX_AT, s[3] % QSIZE, (uint64_t)s[3] << 12, 60,
				s[2] >> 5);
		} else if (s[1] == 3) {
			vsock_set_limits(w->v, 1, 1, 1); /* whoever waits from now on is late */
		}
		break;
	default:
		break;
	}
	loop_turn(w->loop, 0);
	check(w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct world w = {0};

	if (dirfd_ < 0) {
		if (!mkdtemp(dir) || atexit(clean))
			abort();
		dirfd_ = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	if (dirfd_ < 0 || loop_new(&w.loop) < 0 || vsock_new(w.loop, dirfd_, &w.v) < 0)
		abort();
	w.mem = calloc(1, MEM);
	if (!w.mem)
		abort();
	w.gm.n_regions = 1;
	w.gm.regions[0] = (struct guest_mem_region){.len = MEM, .host = w.mem};
	w.v->dev.transport_ops = &transport;
	for (int i = 0; i < HOSTS; i++)
		w.host[i] = -1;
	for (int i = 0; i < PORTS; i++) {
		char name[32];
		snprintf(name, sizeof(name), "vsock.sock_%d", i);
		w.listener[i] = i == PORTS - 1 ? -1 : unix_socket(name, true);
	}
	start(&w, size & 1);
	for (size_t at = 0; at + 4 <= size; at += 4)
		step(&w, data + at);
	stop(&w);
	w.v->dev.ops->reset(&w.v->dev);
	for (int i = 0; i < 10; i++)
		loop_turn(w.loop, 0);
	check(&w);
	vsock_free(w.v);
	for (int i = 0; i < HOSTS; i++)
		close_fd(&w.host[i]);
	for (int i = 0; i < PORTS; i++)
		close_fd(&w.listener[i]);
	loop_free(w.loop);
	free(w.mem);
	return 0;
}
