/* SPDX-License-Identifier: MIT */
/* Of this file, the real ones are meant. */
#undef loop_add_timer
#undef loop_set_timer
#undef time_mono_ns

#include "test-tcp-box.h"

#include <string.h>

#include "base/io.h"

struct tcp_box box;

/* ---- time ---- */

static struct {
	struct loop_source *s;
	loop_fn fn;
	void *data;
	uint64_t due_ns;
} timers[2];

uint64_t test_clock(void);
int test_add_timer(struct loop *l, uint64_t delay_ns, loop_fn fn, void *data, struct loop_source **ret);
void test_set_timer(struct loop_source *s, uint64_t delay_ns);

uint64_t test_clock(void)
{
	return box.now_ns;
}

int test_add_timer(struct loop *l, uint64_t delay_ns, loop_fn fn, void *data, struct loop_source **ret)
{
	unsigned i = timers[0].s != NULL;

	int r = loop_add_timer(l, UINT64_MAX, fn, data, ret); /* never goes off */
	if (r < 0)
		return r;
	timers[i].s = *ret;
	timers[i].fn = fn;
	timers[i].data = data;
	test_set_timer(*ret, delay_ns);
	return 0;
}

void test_set_timer(struct loop_source *s, uint64_t delay_ns)
{
	unsigned i = timers[1].s == s;

	timers[i].due_ns = delay_ns == UINT64_MAX ? delay_ns : box.now_ns + delay_ns;
}

void box_sleep(uint64_t ns)
{
	uint64_t until = box.now_ns + ns;

	for (;;) {
		unsigned i = timers[1].due_ns < timers[0].due_ns;
		if (timers[i].due_ns > until)
			break;
		box.now_ns = MAX_OF(box.now_ns, timers[i].due_ns);
		timers[i].due_ns = UINT64_MAX;
		timers[i].fn(timers[i].data);
	}
	box.now_ns = until;
}

/* ---- the engine's other parts ---- */

static struct net_addr addr(const char *s)
{
	struct net_addr a;

	if (net_addr_parse(s, &a) < 0)
		abort();
	return a;
}

int port_send(
	struct port *to, struct port *from, const struct vnet_hdr *h, const struct iovec *iov, unsigned n_iov)
{
	static const struct vnet_hdr plain;
	uint8_t buf[PKT_FRAME_MAX];
	size_t len = 0;
	struct pkt k;

	if (from || n_iov > 3 || h->flags != VNET_NEEDS_CSUM || h->csum_offset != 16 ||
		(h->gso_type && !h->gso_size))
		abort();
	if (box.drop)
		return -ENOBUFS;
	for (unsigned i = 0; i < n_iov; i++) {
		if (iov[i].iov_len > sizeof(buf) - len)
			abort();
		memcpy(buf + len, iov[i].iov_base, iov[i].iov_len);
		len += iov[i].iov_len;
	}
	if (len > NETD_MTU + ETH_HDR_LEN || pkt_parse(&k, &plain, buf, len) < 0 || k.proto != IPPROTO_TCP)
		abort();
	if (box.n == SEGMENTS || box.keep_none)
		return 0;
	struct seg *s = &box.seg[box.n];
	uint8_t *kept = malloc(len);
	memcpy(kept, buf, len);
	box.frame[box.n++] = kept;
	*s = (struct seg){.is6 = k.is6,
		.sport = k.sport,
		.dport = k.dport,
		.seq = k.seq,
		.ack = k.ack,
		.flags = k.tcp_flags,
		.window = k.window,
		.gso = h->gso_size,
		.data = kept + k.payload,
		.len = k.payload_len,
		.peer = k.src};
	pkt_tcp_options(&k, &s->mss, &s->wscale);
	return 0;
}

bool port_room(const struct port *to)
{
	return !box.no_room;
}

void port_wait(struct port *to, struct port_waiter *w)
{
	box.waiter = w;
	w->link = &w->next;
}

void port_unwait(struct port_waiter *w)
{
	if (w->link)
		box.waiter = NULL;
	w->link = NULL;
}

void box_gives_room(void)
{
	struct port_waiter *w = box.waiter;

	box.no_room = false;
	if (!w)
		return;
	port_unwait(w);
	w->fn(w);
}

bool policy_allows(struct engine *g, struct port *from, struct port *to, const struct flow_key *k, bool quiet)
{
	box.n_asked++;
	return !box.deny;
}

int engine_outside(const struct engine *g, const struct net_addr *dst, struct net_addr *ret)
{
	*ret = box.host;
	return box.outside;
}

const struct net_addr *engine_gateway(const struct engine *g, bool is4)
{
	return is4 ? &g->config.gateway4 : &g->config.gateway6;
}

bool engine_is_gateway(const struct engine *g, const struct net_addr *a)
{
	return net_addr_equal(a, engine_gateway(g, net_addr_is4(a)));
}

struct net_addr engine_seen_as(const struct engine *g, const struct net_addr *client, bool is4)
{
	return *engine_gateway(g, is4);
}

void icmp_unreachable(struct port *p, const struct pkt *k, enum icmp_why why)
{
	box.n_icmp++;
}

int dns_serve_stream(struct port *p, int fd)
{
	close_fd(&box.dns_fd);
	box.dns_fd = fd;
	return 0;
}

/* ---- the box ---- */

static size_t put(uint8_t *frame, const struct seg *s, struct vnet_hdr *h)
{
	struct net_addr peer = net_addr_is_zero(&s->peer) ? addr(s->is6 ? "fd99::9" : "10.9.9.9") : s->peer;
	size_t n_opts = 4 * (size_t)(s->mss != 0) + 4 * (size_t)(s->wscale > 0);
	const struct pkt_out o = {.eth_dst = box.g.mac,
		.eth_src = box.p.a.mac,
		.src = s->is6 ? &box.p.a.ip6 : &box.p.a.ip4,
		.dst = &peer,
		.proto = IPPROTO_TCP};
	size_t l4 = pkt_put_headers(frame, &o, 20 + n_opts + s->len);
	uint16_t sport = s->sport ? s->sport : BOX_PORT;
	uint8_t *t = frame + l4;
	const uint8_t head[20] = {(uint8_t)(sport >> 8), (uint8_t)sport, (uint8_t)(s->dport >> 8),
		(uint8_t)s->dport, (uint8_t)(s->seq >> 24), (uint8_t)(s->seq >> 16), (uint8_t)(s->seq >> 8),
		(uint8_t)s->seq, (uint8_t)(s->ack >> 24), (uint8_t)(s->ack >> 16), (uint8_t)(s->ack >> 8),
		(uint8_t)s->ack, (uint8_t)((20 + n_opts) / 4 << 4), s->flags, (uint8_t)(s->window >> 8),
		(uint8_t)s->window};

	memcpy(t, head, sizeof(head));
	t += sizeof(head);
	if (s->mss) {
		memcpy(t, (uint8_t[]){2, 4, (uint8_t)(s->mss >> 8), (uint8_t)s->mss}, 4);
		t += 4;
	}
	if (s->wscale > 0) {
		memcpy(t, (uint8_t[]){1, 3, 3, (uint8_t)s->wscale}, 4);
		t += 4;
	}
	if (s->len)
		memcpy(t, s->data, s->len);
	*h = (struct vnet_hdr){.flags = VNET_NEEDS_CSUM, .csum_start = (uint16_t)l4, .csum_offset = 16};
	return l4 + 20 + n_opts + s->len;
}

static void input(const struct vnet_hdr *h, const uint8_t *frame, size_t len)
{
	struct pkt k;

	if (pkt_parse(&k, h, frame, len) == 0)
		tcp_input(&box.p, &k);
}

void box_sends(const struct seg *s)
{
	static uint8_t frame[PKT_FRAME_MAX];
	struct vnet_hdr h;
	size_t len = put(frame, s, &h);

	input(&h, frame, len);
}

void box_sends_summed(const struct seg *s, bool good)
{
	static uint8_t frame[PKT_FRAME_MAX];
	struct vnet_hdr h;
	struct net_addr peer = s->is6 ? addr("fd99::9") : addr("10.9.9.9");
	size_t len = put(frame, s, &h);
	size_t l4 = h.csum_start;
	uint32_t sum = pkt_pseudo_sum(s->is6 ? &box.p.a.ip6 : &box.p.a.ip4, &peer, IPPROTO_TCP, len - l4);
	uint16_t v = inet_sum_finish(inet_sum(sum, frame + l4, len - l4));

	v ^= good ? 0 : 0x0101;
	memcpy(frame + l4 + 16, &v, 2);
	h = (struct vnet_hdr){0};
	input(&h, frame, len);
}

void box_turn(int wait_ms)
{
	loop_turn(box.g.loop, wait_ms);
}

void box_settle(void)
{
	for (int i = 0; i < 8; i++)
		box_turn(0);
}

const struct seg *box_next(void)
{
	return box.read < box.n ? &box.seg[box.read++] : NULL;
}

const struct seg *box_wait(void)
{
	for (int i = 0; i < 500 && box.read == box.n; i++)
		box_turn(10);
	return box_next();
}

void box_init(void)
{
	const uint8_t mac[6] = {2, 0, 0, 0, 0, 2};

	memset(&box, 0, sizeof(box));
	memset(timers, 0, sizeof(timers));
	box.now_ns = 1000000000;
	box.dns_fd = -1;
	box.g.config.gateway4 = addr("10.0.0.1");
	box.g.config.gateway6 = addr("fd00::1");
	box.p.g = &box.g;
	box.p.a.ip4 = addr("10.0.0.2");
	box.p.a.ip6 = addr("fd00::2");
	memcpy(box.p.a.mac, mac, sizeof(mac));
	box.host = addr("127.0.0.1");
	if (loop_new(&box.g.loop) < 0 || tcp_new(&box.g) < 0)
		abort();
}

void box_done(void)
{
	tcp_free(&box.g);
	loop_free(box.g.loop);
	close_fd(&box.dns_fd);
	while (box.n)
		free(box.frame[--box.n]);
	if (box.p.n_conns)
		abort();
}
