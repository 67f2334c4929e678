/* SPDX-License-Identifier: MIT */
#include "test-fake.h"

#include <string.h>

#include "base/io.h"

struct fake fake;

/* ---- time ---- */

uint64_t time_mono_ns(void)
{
	return fake.now_ns;
}

int loop_add_timer(struct loop *l, uint64_t delay_ns, loop_fn fn, void *data, struct loop_source **ret)
{
	fake.timer_fn = fn;
	fake.timer_data = data;
	*ret = NULL;
	loop_set_timer(NULL, delay_ns);
	return 0;
}

void loop_set_timer(struct loop_source *s, uint64_t delay_ns)
{
	fake.timer_ns = delay_ns == UINT64_MAX ? delay_ns : fake.now_ns + delay_ns;
}

void fake_sleep(uint64_t ns)
{
	uint64_t until = fake.now_ns + ns;

	while (fake.timer_ns <= until) {
		fake.now_ns = fake.timer_ns;
		fake.timer_ns = UINT64_MAX;
		fake.timer_fn(fake.timer_data);
	}
	fake.now_ns = until;
}

/* ---- frames ---- */

struct net_addr fake_addr(const char *s)
{
	struct net_addr a;

	if (net_addr_parse(s, &a) < 0)
		abort();
	return a;
}

void fake_clear(void)
{
	fake.n_frames = 0;
}

void fake_init(struct loop *loop)
{
	const uint8_t mac[6] = {2, 0, 0, 0, 0, 1};

	memset(&fake.g, 0, sizeof(fake.g));
	fake.g.loop = loop;
	memcpy(fake.g.mac, mac, sizeof(mac));
	fake.g.config.gateway4 = fake_addr("10.0.0.1");
	fake.g.config.gateway6 = fake_addr("fd00::1");
	for (unsigned i = 0; i < FAKE_PORTS; i++) {
		struct port *p = &fake.ports[i];
		*p = (struct port){.g = &fake.g, .slot = i};
		memcpy(p->a.mac, mac, sizeof(mac));
		p->a.mac[5] = (uint8_t)(i + 2);
		p->a.ip4 = fake.g.config.gateway4;
		p->a.ip6 = fake.g.config.gateway6;
		p->a.ip4.b[15] = p->a.ip6.b[15] = (uint8_t)(i + 2);
		fake.g.ports[i] = p;
	}
	fake.g.n_ports = FAKE_PORTS;
	fake.deny = fake.seen_as_gateway = false;
	fake.asked = 0;
	fake.outside = 0;
	fake.host4 = fake_addr("127.0.0.1");
	fake.host6 = fake_addr("::1");
	fake.now_ns = 1000000000000;
	fake_clear();
}

size_t fake_ip(uint8_t *frame, unsigned port, const char *dst, uint8_t proto, const void *l4, size_t len)
{
	const struct port *p = &fake.ports[port];
	struct net_addr to = fake_addr(dst);
	const struct pkt_out o = {.eth_dst = fake.g.mac,
		.eth_src = p->a.mac,
		.src = net_addr_is4(&to) ? &p->a.ip4 : &p->a.ip6,
		.dst = &to,
		.proto = proto};
	size_t head = pkt_put_headers(frame, &o, len);

	memcpy(frame + head, l4, len);
	return head + len;
}

bool fake_parse(struct pkt *k, const uint8_t *frame, size_t len)
{
	return pkt_parse(k, &(struct vnet_hdr){0}, frame, len) == 0;
}

uint16_t fake_icmp_sum(const struct net_addr *src, const struct net_addr *dst, const void *icmp, size_t len)
{
	uint32_t sum = net_addr_is4(src) ? 0 : pkt_pseudo_sum(src, dst, IPPROTO_ICMPV6, len);

	return inet_sum_finish(inet_sum(sum, icmp, len));
}

/* ---- what the engine and its other parts are to those under test ---- */

int port_send(
	struct port *to, struct port *from, const struct vnet_hdr *h, const struct iovec *iov, unsigned n_iov)
{
	if (fake.n_frames++ >= FAKE_FRAMES)
		return 0;
	struct fake_frame *f = &fake.frames[fake.n_frames - 1];
	f->to = to;
	f->from = from;
	f->vnet = *h;
	f->len = 0;
	for (unsigned i = 0; i < n_iov; i++) {
		if (iov[i].iov_len > sizeof(f->b) - f->len)
			abort();
		memcpy(f->b + f->len, iov[i].iov_base, iov[i].iov_len);
		f->len += iov[i].iov_len;
	}
	return 0;
}

struct port *engine_port_of(const struct engine *g, const struct net_addr *a)
{
	for (unsigned i = 0; i < FAKE_PORTS; i++)
		if (net_addr_equal(a, &fake.ports[i].a.ip4) || net_addr_equal(a, &fake.ports[i].a.ip6))
			return &fake.ports[i];
	return NULL;
}

const struct net_addr *engine_gateway(const struct engine *g, bool is4)
{
	return is4 ? &g->config.gateway4 : &g->config.gateway6;
}

bool engine_is_gateway(const struct engine *g, const struct net_addr *a)
{
	return net_addr_equal(a, engine_gateway(g, net_addr_is4(a)));
}

int engine_outside(const struct engine *g, const struct net_addr *dst, struct net_addr *ret)
{
	*ret = net_addr_is4(dst) ? fake.host4 : fake.host6;
	return fake.outside;
}

struct net_addr engine_seen_as(const struct engine *g, const struct net_addr *client, bool is4)
{
	return fake.seen_as_gateway ? *engine_gateway(g, is4) : *client;
}

bool policy_allows(struct engine *g, struct port *from, struct port *to, const struct flow_key *k, bool quiet)
{
	fake.asked++;
	return !fake.deny;
}
