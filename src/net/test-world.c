/* SPDX-License-Identifier: MIT */
#include "test-world.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

static void on_gone(void *data)
{
	((struct world *)data)->gone++;
}

struct net_addr world_addr(unsigned i, bool is4)
{
	char text[NET_ADDR_TEXT_MAX];
	struct net_addr a;

	snprintf(text, sizeof(text), is4 ? "10.9.0.%u" : "fd09::%u", i);
	assert_int_equal(net_addr_parse(text, &a), 0);
	return a;
}

void world_add(struct world *w, unsigned i, uint64_t rate_bps)
{
	char name[16];
	int s[2];

	snprintf(name, sizeof(name), "b%u", i);
	struct netd_attachment a = {.box = strdup(name),
		.name = strdup(name),
		.mac = {2, 0, 0, 0, 0, (uint8_t)(0x10 + i)},
		.ip4 = world_addr(10 + i, true),
		.ip6 = world_addr(10 + i, false),
		.rate_bps = rate_bps};
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, s), 0);
	w->fd[i] = s[0];
	assert_int_equal(port_new(w->g, &a, s[1], on_gone, w, &w->p[i]), 0);
}

void world_init(struct world *w, enum net_isolation isolation, const char *policy, unsigned boxes)
{
	struct err e = {0};
	struct netd_config c = {.id = strdup("0123456789abcdef"),
		.name = strdup("test"),
		.gateway4 = world_addr(1, true),
		.gateway6 = world_addr(1, false),
		.isolation = isolation,
		.policy = policy ? strdup(policy) : NULL,
		.internal = true};

	*w = (struct world){0};
	for (unsigned i = 0; i < WORLD_BOXES; i++)
		w->fd[i] = -1;
	assert_int_equal(net_prefix_parse("10.9.0.0/24", &c.subnet4), 0);
	assert_int_equal(net_prefix_parse("fd09::/64", &c.subnet6), 0);
	assert_int_equal(loop_new(&w->loop), 0);
	if (engine_new(w->loop, &c, &w->g, &e) < 0)
		fail_msg("%s", e.msg);
	for (unsigned i = 0; i < boxes; i++)
		world_add(w, i, 0);
}

void world_done(struct world *w)
{
	engine_free(w->g);
	loop_free(w->loop);
	for (unsigned i = 0; i < WORLD_BOXES; i++)
		close_fd(&w->fd[i]);
}

void world_turn(struct world *w)
{
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(loop_turn(w->loop, 0), 0);
}

void world_send(struct world *w, unsigned from, const struct vnet_hdr *h, const void *frame, size_t len)
{
	static const struct vnet_hdr plain;
	uint8_t raw[4 + VNET_HDR_LEN];
	const uint32_t n = htonl((uint32_t)(VNET_HDR_LEN + len));

	memcpy(raw, &n, sizeof(n));
	vnet_hdr_encode(raw + 4, h ? h : &plain);
	const struct iovec iov[2] = {{raw, sizeof(raw)}, {(void *)(uintptr_t)frame, len}};
	assert_int_equal(writev(w->fd[from], iov, 2), sizeof(raw) + len);
	world_turn(w);
}

static bool read_all(int fd, void *buf, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = recv(fd, (uint8_t *)buf + done, len - done, 0);
		if (n <= 0) {
			assert_int_equal(done, 0); /* frames are never cut off for good */
			return false;
		}
		done += (size_t)n;
	}
	return true;
}

size_t world_receive(struct world *w, unsigned box, struct vnet_hdr *h, uint8_t *buf)
{
	uint8_t raw[4 + VNET_HDR_LEN];
	uint32_t n;

	if (!read_all(w->fd[box], raw, sizeof(raw)))
		return 0;
	memcpy(&n, raw, 4);
	n = ntohl(n);
	assert_in_range(n, VNET_HDR_LEN + ETH_HDR_LEN, VNET_HDR_LEN + PKT_FRAME_MAX);
	vnet_hdr_decode(h, raw + 4);
	assert_true(read_all(w->fd[box], buf, n - VNET_HDR_LEN));
	return n - VNET_HDR_LEN;
}

bool world_next(struct world *w, unsigned box, struct pkt *ret)
{
	static uint8_t frame[PKT_FRAME_MAX];
	struct vnet_hdr h;
	size_t len = world_receive(w, box, &h, frame);

	if (!len)
		return false;
	assert_int_equal(pkt_parse(ret, &h, frame, len), 0);
	return true;
}

size_t frame_make(uint8_t *buf, const struct frame_of *f)
{
	static const uint8_t gateway[6] = {0x0a, 1, 1, 1, 1, 1}; /* nobody looks at it */
	const uint8_t mac[6] = {2, 0, 0, 0, 0, (uint8_t)(0x10 + f->from)};
	const bool is4 = net_addr_is4(&f->dst);
	const struct net_addr src = net_addr_is_zero(&f->src) ? world_addr(10 + f->from, is4) : f->src;
	const struct pkt_out o = {
		.eth_dst = gateway, .eth_src = mac, .src = &src, .dst = &f->dst, .proto = f->proto};
	const size_t head =
		f->proto == IPPROTO_TCP								    ? 20
		: f->proto == IPPROTO_UDP || f->proto == IPPROTO_ICMP || f->proto == IPPROTO_ICMPV6 ? 8
												    : 0;
	const size_t l4_len = head + f->payload;
	size_t at = pkt_put_headers(buf, &o, l4_len), sum_at = 0;
	uint8_t *l4 = buf + at;
	const uint16_t ports[2] = {htons(f->sport), htons(f->dport)};
	uint32_t sum = pkt_pseudo_sum(&src, &f->dst, f->proto, l4_len);

	memset(l4, 0, head);
	if (f->data)
		memcpy(l4 + head, f->data, f->payload);
	else
		memset(l4 + head, 0, f->payload);
	if (f->proto == IPPROTO_TCP) {
		const uint32_t numbers[2] = {htonl(f->seq), htonl(f->ack)};
		memcpy(l4, ports, 4);
		memcpy(l4 + 4, numbers, 8);
		l4[12] = 5 << 4;
		l4[13] = f->flags;
		sum_at = 16;
	} else if (f->proto == IPPROTO_UDP) {
		const uint16_t len = htons((uint16_t)l4_len);
		memcpy(l4, ports, 4);
		memcpy(l4 + 4, &len, 2);
		sum_at = 6;
	} else if (head) {
		l4[0] = f->icmp_type;
		memcpy(l4 + 4, ports, 2);
		sum_at = 2;
		if (is4)
			sum = 0;
	}
	if (sum_at) {
		const uint16_t s = inet_sum_finish(inet_sum(sum, l4, l4_len));
		memcpy(l4 + sum_at, &s, 2);
	}
	return at + l4_len;
}

void world_send_of(struct world *w, const struct frame_of *f)
{
	uint8_t frame[PKT_FRAME_MAX];

	world_send(w, f->from, NULL, frame, frame_make(frame, f));
}
