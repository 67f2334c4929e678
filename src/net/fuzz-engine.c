/* SPDX-License-Identifier: MIT */
/*
 * A whole engine with two boxes that send what the input says, on a network without a way out.
 * Input: u8 policy (0 none, 1 rules, 2 strict), then steps: u8 how, u16 length (big endian), so many bytes. how: bit 0 the box;
 * bit 1: bytes of the stream as they are, else a frame; bit 2: its source addresses are made the box's, with the
 * right checksum; bit 3: its destination the other box's; bit 4: the gateway's; bit 5: the virtio header comes first; bit
 * 6: the policy changes before.
 * Checked: what a box is sent is well formed, and for it; queues and flows stay in their bounds.
 */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/io.h"
#include "engine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define RULES \
	"{\"egress\":[{\"box\":\"box:b0\",\"ports\":\"1-100\",\"action\":\"allow\"}," \
	"{\"protocol\":\"icmp\",\"action\":\"allow\"}],\"ingress\":[{\"action\":\"allow\"}]}"

enum { BOXES = 2, STEP = 3 };

struct world {
	struct loop *loop;
	struct engine *g;
	int fd[BOXES];
	struct port *p[BOXES];
};

static void check(bool good)
{
	if (!good)
		__builtin_trap();
}

static void on_gone(void *data)
{
}

static struct net_addr address(unsigned last, bool is4)
{
	static const uint8_t net4[4] = {10, 9, 0}, net6[16] = {0xfd, 9};
	struct net_addr a = is4 ? net_addr_from4(net4) : net_addr_from6(net6);

	a.b[15] = (uint8_t)last;
	return a;
}

static struct net_policy *policy_of(unsigned how)
{
	struct net_policy *p = NULL;

	check(net_policy_parse(how % 3 == 0   ? NET_ISOLATION_NONE
			       : how % 3 == 1 ? NET_ISOLATION_CUSTOM
					      : NET_ISOLATION_STRICT,
		      how % 3 == 1 ? RULES : NULL, &p, NULL) == 0);
	return p;
}

static void begin(struct world *w, unsigned how)
{
	struct netd_config c = {.id = strdup("1"),
		.name = strdup("n"),
		.gateway4 = address(1, true),
		.gateway6 = address(1, false),
		.internal = true};

	check(net_prefix_parse("10.9.0.0/24", &c.subnet4) == 0 &&
		net_prefix_parse("fd09::/64", &c.subnet6) == 0);
	check(loop_new(&w->loop) == 0 && engine_new(w->loop, &c, &w->g, NULL) == 0);
	for (unsigned i = 0; i < BOXES; i++) {
		int s[2];
		struct netd_attachment a = {.box = strdup(i ? "b1" : "b0"),
			.name = strdup(i ? "b1" : "b0"),
			.mac = {2, 0, 0, 0, 0, (uint8_t)i},
			.ip4 = address(10 + i, true),
			.ip6 = address(10 + i, false)};
		check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, s) == 0);
		w->fd[i] = s[0];
		check(port_new(w->g, &a, s[1], on_gone, NULL, &w->p[i]) == 0);
	}
	check(engine_set_policy(w->g, policy_of(how)) == 0);
}

/* What has come for a box, all of it. */
static void drain(struct world *w, unsigned box)
{
	static uint8_t buf[4 + VNET_HDR_LEN + PKT_FRAME_MAX];
	uint32_t n;

	while (recv(w->fd[box], buf, 4, 0) == 4) {
		memcpy(&n, buf, 4);
		n = ntohl(n);
		check(n >= VNET_HDR_LEN + ETH_HDR_LEN && n <= VNET_HDR_LEN + PKT_FRAME_MAX);
		for (uint32_t at = 0; at < n;) {
			ssize_t got = recv(w->fd[box], buf + 4 + at, n - at, 0);
			at += got > 0 ? (uint32_t)got : 0;
			check(loop_turn(w->loop, 0) == 0);
		}
		struct vnet_hdr h;
		struct pkt k;
		vnet_hdr_decode(&h, buf + 4);
		check(pkt_parse(&k, &h, buf + 4 + VNET_HDR_LEN, n - VNET_HDR_LEN) == 0);
		check(memcmp(k.eth_dst, w->p[box]->a.mac, 6) == 0);
		check(!k.is4 || net_addr_equal(&k.dst, &w->p[box]->a.ip4));
	}
}

static void turn(struct world *w)
{
	for (unsigned i = 0; i < 4; i++) {
		check(loop_turn(w->loop, 0) == 0);
		for (unsigned box = 0; box < BOXES; box++)
			drain(w, box);
	}
}

static void put_address(uint8_t *ip, bool is4, size_t at4, size_t at6, unsigned last)
{
	const struct net_addr a = address(last, is4);

	memcpy(ip + (is4 ? at4 : at6), a.b + (is4 ? 12 : 0), is4 ? 4 : 16);
}

/* Makes a frame of the input one that gets further. */
static void repair(uint8_t *frame, size_t len, unsigned how)
{
	const unsigned box = how & 1;
	const uint8_t mac[6] = {2, 0, 0, 0, 0, (uint8_t)box};

	if (len < ETH_HDR_LEN + 40)
		return;
	memcpy(frame + 6, mac, 6);
	uint8_t *ip = frame + ETH_HDR_LEN;
	const bool is4 = frame[12] == 8 && frame[13] == 0;
	if (!is4 && !(frame[12] == 0x86 && frame[13] == 0xdd))
		return;
	put_address(ip, is4, 12, 8, 10 + box);
	if (how & 0x18)
		put_address(ip, is4, 16, 24, how & 8 ? 11 - box : 1);
	const size_t ihl = is4 ? (size_t)(ip[0] & 15) * 4 : 0;
	if (!is4 || ihl < 20 || ETH_HDR_LEN + ihl > len)
		return;
	const uint16_t total = htons((uint16_t)(len - ETH_HDR_LEN));
	memcpy(ip + 2, &total, 2);
	memset(ip + 10, 0, 2);
	const uint16_t sum = inet_sum_finish(inet_sum(0, ip, ihl));
	memcpy(ip + 10, &sum, 2);
}

static void step(struct world *w, unsigned how, const uint8_t *data, size_t len)
{
	static uint8_t raw[4 + VNET_HDR_LEN + 65536];
	const size_t head = how & 32 ? MIN_OF(len, (size_t)VNET_HDR_LEN) : 0;
	const int fd = w->fd[how & 1];

	if (how & 64)
		check(engine_set_policy(w->g, policy_of(how >> 3)) == 0);
	if (how & 2) {
		(void)!send(fd, data, len, MSG_NOSIGNAL);
	} else {
		const uint32_t n = htonl((uint32_t)(VNET_HDR_LEN + len - head));
		memset(raw, 0, 4 + VNET_HDR_LEN);
		memcpy(raw, &n, 4);
		memcpy(raw + 4, data, head);
		memcpy(raw + 4 + VNET_HDR_LEN, data + head, len - head);
		if (how & 4)
			repair(raw + 4 + VNET_HDR_LEN, len - head, how);
		(void)!send(fd, raw, 4 + VNET_HDR_LEN + len - head, MSG_NOSIGNAL);
	}
	turn(w);
	check(w->p[0]->n_flows <= ENGINE_FLOWS_PER_PORT && w->p[0]->n_frags <= ENGINE_FRAGS_PER_PORT);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct world w = {0};
	size_t at = 1;

	if (size < 1)
		return 0;
	begin(&w, data[0]);
	while (size - at >= STEP) {
		const size_t len = MIN_OF((size_t)(data[at + 1] << 8 | data[at + 2]), size - at - STEP);
		step(&w, data[at], data + at + STEP, len);
		at += STEP + len;
	}
	engine_free(w.g);
	loop_free(w.loop);
	for (unsigned i = 0; i < BOXES; i++)
		close(w.fd[i]);
	return 0;
}
