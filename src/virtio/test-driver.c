/* SPDX-License-Identifier: MIT */
#include "test-driver.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <cmocka.h>

enum { NEXT = 1, WRITE = 2, INDIRECT = 4 };

void drv_init(struct drv *d, struct loop *loop, int sock)
{
	memset(d, 0, sizeof(*d));
	d->loop = loop;
	d->sock = sock;
	d->memfd = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_true(d->memfd >= 0);
	assert_int_equal(ftruncate(d->memfd, DRV_MEM_LEN), 0);
	d->mem = mmap(NULL, DRV_MEM_LEN, PROT_READ | PROT_WRITE, MAP_SHARED, d->memfd, 0);
	assert_ptr_not_equal(d->mem, MAP_FAILED);
	size_t at = 0;
	for (int i = 0; i < 2; i++) {
		struct drv_queue *q = &d->q[i];
		q->desc = at + 0x0;
		q->avail = at + 0x4000;
		q->used = at + 0x5000;
		q->tables = at + 0x8000;
		at += 0x10000;
		q->data = at;
		q->slot_len = i == 0 ? DRV_RX_PAYLOAD + VSOCK_HDR_SIZE + 4 : DRV_TX_PAYLOAD + 64;
		at += q->slot_len * DRV_QSIZE;
		q->kick = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		q->call = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	}
	assert_true(at <= DRV_MEM_LEN);
}

void drv_done(struct drv *d)
{
	for (int i = 0; i < 2; i++) {
		close(d->q[i].kick);
		close(d->q[i].call);
	}
	munmap(d->mem, DRV_MEM_LEN);
	close(d->memfd);
	close_fd(&d->sock);
}

/* ---- front end ---- */

void drv_send(struct drv *d, uint32_t request, uint32_t flags, const void *payload, uint32_t size,
	const int *fds, unsigned n_fds)
{
	struct vhost_user_header h = {.request = request, .flags = VHOST_USER_VERSION | flags, .size = size};
	struct iovec iov[2] = {{&h, sizeof(h)}, {(void *)(uintptr_t)payload, size}};
	union {
		char buf[CMSG_SPACE(32 * sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct msghdr mh = {.msg_iov = iov, .msg_iovlen = 2};

	if (n_fds) {
		mh.msg_control = control.buf;
		mh.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&mh);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
	}
	/* The other end may be gone on purpose, so the result is only that nothing was sent. */
	ssize_t n = sendmsg(d->sock, &mh, MSG_NOSIGNAL);
	(void)n;
}

int drv_recv(struct drv *d, uint32_t request, void *payload, uint32_t size)
{
	uint8_t buf[sizeof(struct vhost_user_header) + VHOST_USER_PAYLOAD_MAX];

	for (int turns = 0; turns < 100; turns++) {
		ssize_t n = recv(d->sock, buf, sizeof(buf), MSG_DONTWAIT);
		if (n == 0 || (n < 0 && errno != EAGAIN))
			return -1;
		if (n > 0) {
			struct vhost_user_header h;
			memcpy(&h, buf, sizeof(h));
			assert_int_equal(h.request, request);
			assert_int_equal(h.flags, VHOST_USER_VERSION | VHOST_USER_REPLY);
			assert_int_equal(n, sizeof(h) + h.size);
			memcpy(payload, buf + sizeof(h), MIN_OF(size, h.size));
			return (int)h.size;
		}
		loop_turn(d->loop, 0);
	}
	fail_msg("no reply to request %u", request);
	return -1;
}

void drv_set_u64(struct drv *d, uint32_t request, uint64_t v)
{
	drv_send(d, request, 0, &v, sizeof(v), NULL, 0);
}

uint64_t drv_get_u64(struct drv *d, uint32_t request)
{
	uint64_t v = 0;

	drv_send(d, request, 0, NULL, 0, NULL, 0);
	assert_int_equal(drv_recv(d, request, &v, sizeof(v)), sizeof(v));
	return v;
}

void drv_set_state(struct drv *d, uint32_t request, uint32_t index, uint32_t num)
{
	struct vhost_user_vring_state s = {.index = index, .num = num};
	drv_send(d, request, 0, &s, sizeof(s), NULL, 0);
}

void drv_set_ring_fd(struct drv *d, uint32_t request, uint32_t index, int fd)
{
	uint64_t v = index | (fd < 0 ? VHOST_USER_VRING_NOFD : 0);
	drv_send(d, request, 0, &v, sizeof(v), &fd, fd >= 0);
}

void drv_set_mem(struct drv *d)
{
	/* Two regions, as a machine with a hole has them; the second holds nothing of interest. */
	struct vhost_user_memory m = {.n_regions = 1};
	m.regions[0] = (struct vhost_user_region){.gpa = DRV_GPA, .size = DRV_MEM_LEN, .uaddr = DRV_UADDR};
	drv_send(d, VHOST_USER_SET_MEM_TABLE, 0, &m, 8 + 32, &d->memfd, 1);
}

void drv_negotiate(struct drv *d, bool event_idx)
{
	uint64_t want = VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VHOST_USER_F_PROTOCOL_FEATURES;
	uint64_t offered = drv_get_u64(d, VHOST_USER_GET_FEATURES);

	d->event_idx = event_idx;
	if (event_idx)
		want |= VIRTIO_F_EVENT_IDX;
	assert_int_equal(offered & want, want);
	uint64_t proto = drv_get_u64(d, VHOST_USER_GET_PROTOCOL_FEATURES);
	assert_true(proto & VHOST_USER_PROTOCOL_F_CONFIG);
	drv_set_u64(d, VHOST_USER_SET_PROTOCOL_FEATURES, proto);
	drv_send(d, VHOST_USER_SET_OWNER, 0, NULL, 0, NULL, 0);
	drv_set_u64(d, VHOST_USER_SET_FEATURES, want);
	drv_set_mem(d);
}

static void put16(struct drv *d, size_t at, uint16_t v)
{
	__atomic_store_n((uint16_t *)(void *)(d->mem + at), v, __ATOMIC_SEQ_CST);
}

static uint16_t get16(struct drv *d, size_t at)
{
	return __atomic_load_n((uint16_t *)(void *)(d->mem + at), __ATOMIC_SEQ_CST);
}

static void put_desc(
	struct drv *d, size_t table, unsigned i, size_t data, uint32_t len, uint16_t flags, uint16_t next)
{
	struct {
		uint64_t addr;
		uint32_t len;
		uint16_t flags, next;
	} desc = {DRV_GPA + data, len, flags, next};
	memcpy(d->mem + table + 16 * (size_t)i, &desc, sizeof(desc));
}

static void offer(struct drv *d, struct drv_queue *q, uint16_t head)
{
	put16(d, q->avail + 4 + 2 * (q->avail_idx % DRV_QSIZE), head);
	q->avail_idx++;
	put16(d, q->avail + 2, q->avail_idx);
}

/* 2.7.10.1 */
static void kick(struct drv *d, struct drv_queue *q)
{
	bool wanted;
	uint64_t one = 1;

	if (d->event_idx) {
		uint16_t event = get16(d, q->used + 4 + 8 * DRV_QSIZE);
		wanted = (uint16_t)(q->avail_idx - event - 1) < (uint16_t)(q->avail_idx - q->kicked);
	} else {
		wanted = !(get16(d, q->used) & 1);
	}
	q->kicked = q->avail_idx;
	if (wanted && !d->mute) {
		d->n_kicks++;
		assert_int_equal(write(q->kick, &one, sizeof(one)), sizeof(one));
	}
}

static void fill_rx(struct drv *d)
{
	struct drv_queue *q = &d->q[0];

	while (q->n_free) {
		uint16_t i = q->free[--q->n_free];
		put_desc(d, q->desc, i, q->data + i * q->slot_len, VSOCK_HDR_SIZE + DRV_RX_PAYLOAD, WRITE, 0);
		offer(d, q, i);
	}
}

void drv_start_rings(struct drv *d, const uint16_t base[2], bool fresh)
{
	for (uint32_t i = 0; i < 2; i++) {
		struct drv_queue *q = &d->q[i];
		if (fresh) {
			memset(d->mem + q->desc, 0, 0x8000);
			q->avail_idx = q->used_seen = q->kicked = 0;
			q->n_free = 0;
			/* tx slots own two descriptors each unless indirect: half of them */
			for (int s = (i == 0 ? DRV_QSIZE : DRV_QSIZE / 2) - 1; s >= 0; s--)
				q->free[q->n_free++] = (uint16_t)s;
			if (i == 0)
				fill_rx(d);
		}
		struct vhost_user_vring_addr a = {.index = i,
			.desc = DRV_UADDR + q->desc,
			.used = DRV_UADDR + q->used,
			.avail = DRV_UADDR + q->avail};
		drv_set_state(d, VHOST_USER_SET_VRING_NUM, i, DRV_QSIZE);
		drv_set_state(d, VHOST_USER_SET_VRING_BASE, i, base[i]);
		drv_send(d, VHOST_USER_SET_VRING_ADDR, 0, &a, sizeof(a), NULL, 0);
		drv_set_ring_fd(d, VHOST_USER_SET_VRING_KICK, i, q->kick);
		drv_set_ring_fd(d, VHOST_USER_SET_VRING_CALL, i, q->call);
		drv_set_state(d, VHOST_USER_SET_VRING_ENABLE, i, 1);
	}
}

void drv_stop_rings(struct drv *d, uint16_t ret_base[2])
{
	for (uint32_t i = 0; i < 2; i++) {
		struct vhost_user_vring_state s = {.index = i};
		drv_send(d, VHOST_USER_GET_VRING_BASE, 0, &s, sizeof(s), NULL, 0);
		assert_int_equal(drv_recv(d, VHOST_USER_GET_VRING_BASE, &s, sizeof(s)), sizeof(s));
		assert_int_equal(s.index, i);
		ret_base[i] = (uint16_t)s.num;
	}
}

void drv_boot(struct drv *d, bool event_idx)
{
	const uint16_t zero[2] = {0, 0};
	drv_negotiate(d, event_idx);
	drv_start_rings(d, zero, true);
	for (int i = 0; i < 10; i++)
		drv_turn(d);
}

/* ---- driver ---- */

static void reap_tx(struct drv *d)
{
	struct drv_queue *q = &d->q[1];

	while (q->used_seen != get16(d, q->used + 2)) {
		uint32_t id;
		memcpy(&id, d->mem + q->used + 4 + 8 * (q->used_seen % DRV_QSIZE), 4);
		q->free[q->n_free++] = (uint16_t)(id / 2);
		q->used_seen++;
	}
}

bool drv_tx_full(struct drv *d)
{
	if (d->q[1].n_free == 0)
		reap_tx(d); /* as Linux: completed packets are collected when room is needed */
	return d->q[1].n_free == 0;
}

bool drv_tx(struct drv *d, const struct vsock_hdr *h, const void *payload, uint32_t len, bool indirect)
{
	struct drv_queue *q = &d->q[1];

	if (drv_tx_full(d))
		return false;
	uint16_t slot = q->free[--q->n_free];
	size_t data = q->data + slot * q->slot_len;
	memcpy(d->mem + data, h, VSOCK_HDR_SIZE);
	if (len)
		memcpy(d->mem + data + 64, payload, len);
	size_t table = indirect ? q->tables + slot * 32 : q->desc;
	unsigned first = indirect ? 0 : slot * 2;
	put_desc(d, table, first, data, VSOCK_HDR_SIZE, len ? NEXT : 0, (uint16_t)(first + 1));
	put_desc(d, table, first + 1, data + 64, len, 0, 0);
	if (indirect)
		put_desc(d, q->desc, slot * 2, table, len ? 32 : 16, INDIRECT, 0);
	offer(d, q, slot * 2);
	kick(d, q);
	return true;
}

static bool reap_rx(struct drv *d)
{
	struct drv_queue *q = &d->q[0];
	bool any = false;

	for (;;) {
		while (q->used_seen != get16(d, q->used + 2)) {
			uint32_t elem[2];
			struct vsock_hdr h;
			memcpy(elem, d->mem + q->used + 4 + 8 * (q->used_seen % DRV_QSIZE), 8);
			q->used_seen++;
			size_t data = q->data + elem[0] * q->slot_len;
			memcpy(&h, d->mem + data, VSOCK_HDR_SIZE);
			assert_int_equal(elem[1], VSOCK_HDR_SIZE + h.len);
			assert_int_equal(h.src_cid, 2);
			assert_int_equal(h.dst_cid, 3);
			if (d->on_packet)
				d->on_packet(d->data, &h, d->mem + data + VSOCK_HDR_SIZE);
			q->free[q->n_free++] = (uint16_t)elem[0];
			any = true;
		}
		/* 2.7.7.1: ask for the next, then look again */
		put16(d, q->avail + 4 + 2 * DRV_QSIZE, q->used_seen);
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		if (q->used_seen == get16(d, q->used + 2))
			break;
	}
	if (q->n_free) {
		fill_rx(d);
		kick(d, q);
	}
	return any;
}

bool drv_turn(struct drv *d)
{
	uint64_t n;

	assert_int_equal(loop_turn(d->loop, 0), 0);
	if (d->hold_rx)
		return false;
	if (read(d->q[0].call, &n, sizeof(n)) == sizeof(n)) {
		d->n_calls++;
		return reap_rx(d);
	}
	return false;
}
