/* SPDX-License-Identifier: MIT */
#include "net/test-link.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "base/io.h"

#define LIMIT_NS 10000000000ULL

static void on_gone(void *data, unsigned link)
{
	struct link *k = data;

	k->gone++;
	k->gone_link = link;
}

int link_pair(struct link *k, bool small)
{
	const int size = 4096;
	int s[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, s), 0);
	for (int i = 0; i < 2 && small; i++)
		assert_int_equal(setsockopt(s[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
	close_fd(&k->peer);
	k->peer = s[0];
	return s[1];
}

void link_init(struct link *k, bool vnet_hdr, uint16_t mtu)
{
	memset(k, 0, sizeof(*k));
	k->peer = -1;
	k->seed = 1;
	assert_int_equal(loop_new(&k->loop), 0);
	const struct net_config c = {.mac = {2, 0, 0, 1, 2, 3}, .mtu = mtu, .vnet_hdr = vnet_hdr};
	assert_int_equal(net_new(k->loop, &c, &k->n), 0);
	assert_int_equal(net_connect(k->n, 0, link_pair(k, false)), 0);
	net_on_disconnect(k->n, on_gone, k);
	tdrv_init(&k->d, k->loop, net_device(k->n));
}

void link_use(struct link *k, unsigned link)
{
	net_disconnect(k->n, k->at);
	k->at = link;
	assert_int_equal(net_connect(k->n, link, link_pair(k, false)), 0);
}

void link_start(struct link *k, uint64_t features)
{
	tdrv_start(&k->d, features);
}

void link_done(struct link *k)
{
	tdrv_done(&k->d);
	net_free(TAKE_PTR(k->n));
	loop_free(TAKE_PTR(k->loop));
	close_fd(&k->peer);
}

uint32_t link_random(struct link *k)
{
	k->seed = k->seed * 1664525 + 1013904223;
	return k->seed >> 8;
}

void link_fill(struct link *k, void *buf, size_t len)
{
	for (size_t i = 0; i < len; i++)
		((uint8_t *)buf)[i] = (uint8_t)link_random(k);
}

struct net_stats link_stats(struct link *k)
{
	struct net_stats s;

	net_stats(k->n, &s);
	return s;
}

/* ---- the guest ---- */

void link_send(struct link *k, const struct net_hdr *h, const void *frame, size_t len, unsigned cuts)
{
	const struct net_hdr none = {0};
	struct tdrv_buf bufs[64];
	unsigned n = 0;
	uint8_t *all = malloc(NET_HDR_LEN + len);
	size_t total = NET_HDR_LEN + len;

	net_hdr_encode(all, h ? h : &none);
	memcpy(all + NET_HDR_LEN, frame, len);
	for (size_t at = 0; at < total;) {
		size_t part = total - at;
		if (cuts && part > 1) {
			part = 1 + link_random(k) % MIN_OF(part, 2 * part / cuts + 1);
			part = MIN_OF(part, total - at);
			cuts--;
		}
		void *host;
		bufs[n] = (struct tdrv_buf){tdrv_alloc(&k->d, part, &host), (uint32_t)part, false};
		memcpy(host, all + at, part);
		n++;
		at += part;
	}
	free(all);
	if (n > 1 && k->d.q[NET_TX].outstanding > 1)
		tdrv_add_indirect(&k->d, NET_TX, bufs, n);
	else
		tdrv_add(&k->d, NET_TX, bufs, n);
	tdrv_kick(&k->d, NET_TX);
}

unsigned link_reap(struct link *k)
{
	unsigned n = 0;

	while (tdrv_used(&k->d, NET_TX, NULL, NULL))
		n++;
	return n;
}

void link_post(struct link *k, uint32_t len, uint32_t piece)
{
	struct tdrv_buf bufs[64];
	unsigned n = 0;
	uint64_t gpa = tdrv_alloc(&k->d, len, NULL);

	for (uint32_t at = 0; at < len; n++) {
		uint32_t part = piece ? MIN_OF(piece, len - at) : len;
		bufs[n] = (struct tdrv_buf){gpa + at, part, true};
		at += part;
	}
	uint16_t head = n > 1 && k->d.q[NET_RX].outstanding ? tdrv_add_indirect(&k->d, NET_RX, bufs, n)
							    : tdrv_add(&k->d, NET_RX, bufs, n);
	k->rx[head] = (struct link_buf){head, gpa, len};
}

void link_kick_rx(struct link *k)
{
	tdrv_kick(&k->d, NET_RX);
}

size_t link_receive(struct link *k, struct net_hdr *h, void *frame, size_t max)
{
	struct net_hdr hdr;
	uint16_t head;
	uint32_t len = tdrv_wait(&k->d, NET_RX, &head);
	const uint8_t *p = tdrv_at(&k->d, k->rx[head].gpa);
	size_t total = 0, skip = NET_HDR_LEN;

	assert_true(len >= NET_HDR_LEN);
	net_hdr_decode(&hdr, p);
	for (unsigned left = hdr.num_buffers;; skip = 0) {
		assert_true(len <= k->rx[head].len && total + len - skip <= max);
		memcpy((uint8_t *)frame + total, p + skip, len - skip);
		total += len - skip;
		if (--left == 0)
			break;
		/* 5.1.6.4.1: all at once, and all but the last to their ends */
		assert_int_equal(len, k->rx[head].len);
		assert_true(tdrv_used(&k->d, NET_RX, &head, &len));
		p = tdrv_at(&k->d, k->rx[head].gpa);
	}
	if (h)
		*h = hdr;
	return total;
}

/* ---- the peer ---- */

void peer_write(struct link *k, const void *buf, size_t len)
{
	uint64_t end = time_mono_ns() + LIMIT_NS;
	const uint8_t *p = buf;

	while (len) {
		ssize_t n = send(k->peer, p, len, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n > 0) {
			p += n;
			len -= (size_t)n;
			continue;
		}
		assert_true(errno == EAGAIN && time_mono_ns() < end);
		assert_int_equal(loop_turn(k->loop, 1), 0);
	}
}

void peer_send(struct link *k, const struct net_hdr *h, const void *frame, size_t len)
{
	uint32_t prefix = htonl((uint32_t)(len + (h ? NET_HDR_LEN : 0)));
	uint8_t raw[NET_HDR_LEN];

	peer_write(k, &prefix, 4);
	if (h) {
		net_hdr_encode(raw, h);
		peer_write(k, raw, sizeof(raw));
	}
	peer_write(k, frame, len);
}

void peer_read(struct link *k, void *buf, size_t len)
{
	uint64_t end = time_mono_ns() + LIMIT_NS;
	uint8_t *p = buf;

	while (len) {
		ssize_t n = recv(k->peer, p, len, MSG_DONTWAIT);
		if (n > 0) {
			p += n;
			len -= (size_t)n;
			continue;
		}
		if (n == 0 || errno != EAGAIN || time_mono_ns() > end)
			fail_msg("nothing came for the peer");
		assert_int_equal(loop_turn(k->loop, 1), 0);
	}
}

size_t peer_receive(struct link *k, void *frame, size_t max)
{
	uint32_t len;

	peer_read(k, &len, 4);
	len = ntohl(len);
	assert_true(len <= max);
	peer_read(k, frame, len);
	return len;
}

void peer_expect_nothing(struct link *k)
{
	uint8_t b;

	tdrv_settle(&k->d);
	assert_int_equal(recv(k->peer, &b, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
}
