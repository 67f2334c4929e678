/* SPDX-License-Identifier: MIT */
/* Frames over the socket: framing, bounds, fairness, rates, and who waits for room. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "base/io.h"
#include "test-world.h"

static struct frame_of udp(unsigned from, unsigned to, size_t payload)
{
	return (struct frame_of){.from = from,
		.dst = world_addr(10 + to, true),
		.proto = IPPROTO_UDP,
		.sport = 1,
		.dport = 2,
		.payload = payload};
}

/* Prefix, header and frame in a row. Returns the length. */
static size_t wire_of(uint8_t *buf, const struct frame_of *f)
{
	size_t len = frame_make(buf + 4 + VNET_HDR_LEN, f);
	const uint32_t n = htonl((uint32_t)(VNET_HDR_LEN + len));

	memset(buf, 0, 4 + VNET_HDR_LEN);
	memcpy(buf, &n, 4);
	return 4 + VNET_HDR_LEN + len;
}

/* As often as it takes to send all of it. */
static void write_out(struct world *w, unsigned box, const uint8_t *data, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = send(w->fd[box], data + done, len - done, MSG_DONTWAIT);
		if (n > 0)
			done += (size_t)n;
		assert_int_equal(loop_turn(w->loop, 0), 0);
	}
}

/* ---- framing ---- */

static void a_stream_may_be_cut_anywhere(void **state)
{
	static const size_t sizes[] = {1, 5, 18, 700, 1400, 9000, 40000, 65000};
	static uint8_t stream[2 << 20];
	struct world w;
	size_t len = 0;
	uint32_t seed = 7;
	unsigned sent = 0, got = 0;
	struct pkt k;

	world_init(&w, NET_ISOLATION_NONE, NULL, 2);
	for (unsigned i = 0; len < sizeof(stream) - 70000; i++, sent++) {
		struct frame_of f = udp(0, 1, sizes[i * 5 % ARRAY_LEN(sizes)]);
		f.sport = (uint16_t)(i + 1);
		len += wire_of(stream + len, &f);
	}
	for (size_t done = 0; done < len;) {
		seed = seed * 1664525 + 1013904223;
		size_t part = seed >> 28 == 0 ? 1 + (seed >> 8) % 150000 : 1 + (seed >> 8) % 7000;
		part = MIN_OF(part, len - done);
		write_out(&w, 0, stream + done, part);
		done += part;
		world_turn(&w);
		while (world_next(&w, 1, &k)) {
			assert_int_equal(k.sport, ++got);
			assert_int_equal(k.payload_len, sizes[(got - 1) * 5 % ARRAY_LEN(sizes)]);
			world_turn(&w);
		}
	}
	assert_int_equal(got, sent);
	assert_int_equal(w.p[0]->stats.tx_frames, sent);
	assert_int_equal(w.p[0]->stats.dropped + w.p[1]->stats.dropped, 0);
	world_done(&w);
}

static void a_length_that_no_frame_has_ends_it(void **state)
{
	static const uint32_t bad[] = {0, VNET_HDR_LEN - 1, VNET_HDR_LEN + PKT_FRAME_MAX + 1, 0xffffffff};
	struct world w;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		const uint32_t n = htonl(bad[i]);
		world_init(&w, NET_ISOLATION_NONE, NULL, 2);
		assert_int_equal(send(w.fd[0], &n, 2, 0), 2);
		world_turn(&w);
		assert_int_equal(w.gone, 0);
		assert_int_equal(send(w.fd[0], (const uint8_t *)&n + 2, 2, 0), 2);
		world_turn(&w);
		assert_int_equal(w.gone, 1);
		/* Whoever sends to it now loses a frame, and nothing else. */
		struct frame_of f = udp(1, 0, 10);
		world_send_of(&w, &f);
		assert_int_equal(w.p[0]->stats.dropped, 1);
		world_done(&w);
	}
	/* A frame too short for an Ethernet header is only dropped. */
	world_init(&w, NET_ISOLATION_NONE, NULL, 2);
	world_send(&w, 0, NULL, "x", 1);
	world_send(&w, 0, NULL, "", 0);
	assert_int_equal(w.p[0]->stats.dropped, 2);
	assert_int_equal(w.gone, 0);
	close_fd(&w.fd[0]);
	world_turn(&w);
	assert_int_equal(w.gone, 1);
	world_done(&w);
}

/* ---- a box that does not read ---- */

static void the_queue_is_bounded_and_shared(void **state)
{
	static uint8_t buf[PKT_FRAME_MAX];
	struct world w;
	struct pkt k;
	unsigned from[3] = {0};

	world_init(&w, NET_ISOLATION_NONE, NULL, 4);
	/* b1 floods b0, which does not read: it gets half of the queue, and the rest is dropped. */
	for (unsigned i = 0; i < 200; i++) {
		struct frame_of f = udp(1, 0, 30000);
		write_out(&w, 1, buf, wire_of(buf, &f));
	}
	world_turn(&w);
	assert_true(w.p[0]->stats.dropped > 100);
	const uint64_t dropped = w.p[0]->stats.dropped;
	/* So there is room for others: not one frame of theirs is lost. */
	for (unsigned i = 0; i < 10; i++) {
		struct frame_of f = udp(2, 0, 30000);
		write_out(&w, 2, buf, wire_of(buf, &f));
		world_turn(&w);
	}
	assert_int_equal(w.p[0]->stats.dropped, dropped);
	assert_true(port_room(w.p[0]));
	while (world_next(&w, 0, &k)) {
		from[k.src.b[15] - 10]++;
		world_turn(&w);
	}
	assert_int_equal(from[2], 10);
	assert_int_equal(from[1], 200 - dropped);
	/* Small frames are counted, not only weighed. */
	for (unsigned i = 0; i < 8000; i++) {
		struct frame_of f = udp(1, 0, 1);
		write_out(&w, 1, buf, wire_of(buf, &f));
	}
	world_turn(&w);
	assert_true(w.p[0]->stats.dropped > dropped + 1000);
	world_done(&w);
}

/* ---- frames that cost much ---- */

static unsigned n_costly;

static void costs_much(struct port *p, const struct netd_denial *d)
{
	const uint64_t until = time_mono_ns() + 200000;

	n_costly++;
	while (time_mono_ns() < until)
		;
}

/* Written as far as the socket takes it, which is more than a turn's. */
static void fill(struct world *w, unsigned box, const uint8_t *frame, size_t len)
{
	while (send(w->fd[box], frame, len, MSG_DONTWAIT) == (ssize_t)len)
		;
}

static void what_costs_much_is_shared_by_time(void **state)
{
	enum { WARM = 8, TURNS = 200 };
	static uint8_t costly[2000], cheap[2000];
	struct frame_of f = udp(0, 2, 0), g = udp(1, 2, 1000);
	size_t costly_len = wire_of(costly, &f), cheap_len = wire_of(cheap, &g);
	unsigned most = 0, turns = 0;
	struct world w;

	world_init(&w, NET_ISOLATION_CUSTOM,
		"{\"egress\":[{\"box\":\"box:b0\",\"action\":\"deny\"},{\"action\":\"allow\"}],"
		"\"ingress\":[{\"action\":\"allow\"}]}",
		3);
	policy_on_denial = costs_much;
	for (unsigned i = 0; i < TURNS; i++) {
		/* Whole frames that the socket takes at once: a part would be the end. */
		fill(&w, 0, costly, costly_len);
		uint64_t before = w.p[1]->stats.tx_frames;
		(void)send(w.fd[1], cheap, cheap_len, MSG_DONTWAIT);
		n_costly = 0;
		assert_int_equal(loop_turn(w.loop, 0), 0);
		assert_int_equal(w.p[1]->stats.tx_frames, before + 1);
		if (i >= WARM) {
			most = MAX_OF(most, n_costly);
			turns += n_costly > 0;
		}
	}
	assert_true(turns > 0 || w.p[0]->stats.tx_frames > 0);
	assert_true(most <= 64);
	assert_true(turns < TURNS / 2);
	/* Alone, it has all the time there is. */
	n_costly = 0;
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(loop_turn(w.loop, 0), 0);
	assert_true(n_costly >= 32);
	policy_on_denial = NULL;
	world_done(&w);
}

struct puller {
	struct port_waiter w;
	struct world *world;
	unsigned calls, sent;
};

static void pull(struct port_waiter *waiter)
{
	struct puller *p = (struct puller *)waiter;
	static uint8_t frame[PKT_FRAME_MAX];
	static const struct vnet_hdr plain;
	struct frame_of f = udp(1, 0, 30000);
	const struct iovec iov = {frame, frame_make(frame, &f)};

	p->calls++;
	while (port_room(p->world->p[0])) {
		assert_int_equal(port_send(p->world->p[0], NULL, &plain, &iov, 1), 0);
		p->sent++;
	}
	port_wait(p->world->p[0], waiter);
}

static void who_pulls_waits_and_loses_nothing(void **state)
{
	struct world w;
	struct puller p[3];
	struct pkt k;
	unsigned got = 0, calls;

	world_init(&w, NET_ISOLATION_NONE, NULL, 3);
	for (unsigned i = 0; i < 3; i++) {
		p[i] = (struct puller){.w.fn = pull, .world = &w};
		port_wait(w.p[0], &p[i].w);
		port_wait(w.p[0], &p[i].w); /* once is enough */
	}
	world_turn(&w);
	calls = p[0].calls + p[1].calls + p[2].calls;
	world_turn(&w); /* nobody reads: nobody is called */
	assert_int_equal(p[0].calls + p[1].calls + p[2].calls, calls);
	assert_in_range(p[0].sent + p[1].sent + p[2].sent, 10, 60);
	/* A flood of another box keeps none of them from going on. */
	for (unsigned i = 0; i < 300; i++) {
		struct frame_of f = udp(2, 0, 30000);
		world_send_of(&w, &f);
		if (world_next(&w, 0, &k))
			got += k.src.b[15] == 11;
		world_turn(&w);
	}
	assert_true(got > 60);
	assert_true(p[0].sent > 10 && p[1].sent > 10 && p[2].sent > 10);
	port_unwait(&p[1].w);
	port_unwait(&p[1].w);
	calls = p[1].calls;
	while (got < p[0].sent + p[1].sent + p[2].sent && got < 1000) {
		assert_true(world_next(&w, 0, &k));
		got += k.src.b[15] == 11;
		world_turn(&w);
	}
	assert_int_equal(p[1].calls, calls);
	for (unsigned i = 0; i < 3; i += 2) {
		assert_non_null(p[i].w.link);
		port_unwait(&p[i].w);
		assert_null(p[i].w.link);
	}
	world_done(&w);
}

/* ---- rates ---- */

static void rates_hold_in_both_directions(void **state)
{
	enum { RATE = 40 << 20 }; /* bits a second */
	static uint8_t stream[4 << 20];
	static uint8_t frame[PKT_FRAME_MAX];
	struct world w;
	size_t unit = 0, len = 0;

	for (unsigned limited = 0; limited < 2; limited++) { /* who sends, then who receives */
		world_init(&w, NET_ISOLATION_NONE, NULL, 0);
		world_add(&w, 0, limited == 0 ? RATE : 0);
		world_add(&w, 1, limited == 1 ? RATE : 0);
		struct frame_of f = udp(0, 1, 1400);
		for (len = 0; len + 2000 < sizeof(stream); len += unit)
			unit = wire_of(stream + len, &f);
		size_t sent = 0, got = 0;
		const uint64_t t0 = time_mono_ns();
		while (time_mono_ns() - t0 < 400000000) {
			struct vnet_hdr h;
			ssize_t n =
				send(w.fd[0], stream + sent % unit, unit * 20 - sent % unit, MSG_DONTWAIT);
			sent += n > 0 ? (size_t)n : 0;
			assert_int_equal(loop_turn(w.loop, 1), 0);
			for (size_t one; (one = world_receive(&w, 1, &h, frame));)
				got += one;
		}
		const double seconds = (double)(time_mono_ns() - t0) / 1e9;
		/* What may go at once comes on top. */
		const double most = RATE / 8.0 * (seconds + 0.1) + 300000;
		assert_true((double)got < most);
		assert_true(got > sizeof(stream) / 100); /* how much more depends on this host */
		if (limited == 0)			 /* nothing was dropped: the sender had to wait */
			assert_int_equal(w.p[0]->stats.dropped + w.p[1]->stats.dropped, 0);
		world_done(&w);
	}
}

/* However little may pass at a time: there is nobody any more who could send it again. */
static void what_was_sent_before_the_end_is_taken(void **state)
{
	enum { FRAMES = 100 };
	static uint8_t stream[FRAMES * 2000];
	struct world w;
	size_t len = 0;
	unsigned got = 0;
	struct pkt k;

	world_init(&w, NET_ISOLATION_NONE, NULL, 0);
	world_add(&w, 0, 1 << 20);
	world_add(&w, 1, 0);
	for (unsigned i = 0; i < FRAMES; i++) {
		struct frame_of f = udp(0, 1, 1400);
		len += wire_of(stream + len, &f);
	}
	for (unsigned pass = 0; pass < 2; pass++) { /* the first uses up what may go at once */
		assert_int_equal(send(w.fd[0], stream, len, MSG_DONTWAIT), len);
		if (pass)
			close_fd(&w.fd[0]);
		for (unsigned i = 0; i < 10; i++) {
			world_turn(&w);
			while (world_next(&w, 1, &k))
				got++;
		}
	}
	assert_int_equal(got, 2 * FRAMES);
	assert_int_equal(w.gone, 1);
	world_done(&w);
}

static void addresses_are_given_once(void **state)
{
	struct world w;
	struct port *p;
	int s[2];

	world_init(&w, NET_ISOLATION_NONE, NULL, 2);
	for (unsigned i = 0; i < 3; i++) {
		struct netd_attachment a = {0};
		a.box = strdup("x");
		a.name = strdup("x");
		a.mac[0] = 2;
		if (i < 2)
			a.ip4 = world_addr(i == 0 ? 10 : 1, true);
		else
			a.ip6 = world_addr(11, false);
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
		assert_int_equal(port_new(w.g, &a, s[1], NULL, NULL, &p), -EADDRINUSE);
		assert_int_equal(read(s[0], &(char){0}, 1), 0); /* it was closed */
		close(s[0]);
		netd_attachment_done(&a);
	}
	assert_int_equal(w.g->n_ports, 2);
	port_free(w.p[0]);
	close_fd(&w.fd[0]);
	const struct net_addr a = world_addr(10, true);
	assert_null(engine_port_of(w.g, &a));
	world_add(&w, 0, 0);
	assert_ptr_equal(engine_port_of(w.g, &a), w.p[0]);
	world_done(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_stream_may_be_cut_anywhere),
		cmocka_unit_test(a_length_that_no_frame_has_ends_it),
		cmocka_unit_test(the_queue_is_bounded_and_shared),
		cmocka_unit_test(what_costs_much_is_shared_by_time),
		cmocka_unit_test(who_pulls_waits_and_loses_nothing),
		cmocka_unit_test(rates_hold_in_both_directions),
		cmocka_unit_test(what_was_sent_before_the_end_is_taken),
		cmocka_unit_test(addresses_are_given_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
