/* SPDX-License-Identifier: MIT */
/* From box to box, through a whole engine: addresses, policy, flows. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "test-world.h"

/* b0 may begin TCP and UDP to b1's port 80, ping b1, and speak protocol 47; nobody else anything. */
#define RULES \
	"{\"egress\":[{\"box\":\"box:b0\",\"peer\":\"box:b1\",\"ports\":\"80\",\"action\":\"allow\"}," \
	"{\"box\":\"box:b0\",\"peer\":\"box:b1\",\"protocol\":\"icmp\",\"action\":\"allow\"}]," \
	"\"ingress\":[{\"box\":\"box:b1\",\"action\":\"allow\"}]}"

static struct frame_of tcp(unsigned from, unsigned to, uint16_t sport, uint16_t dport, uint8_t flags)
{
	return (struct frame_of){.from = from,
		.dst = world_addr(10 + to, true),
		.proto = IPPROTO_TCP,
		.sport = sport,
		.dport = dport,
		.flags = flags,
		.seq = 1000u * (from + 1),
		.ack = flags & TCP_ACK ? 7000 + from : 0};
}

static struct frame_of udp(unsigned from, unsigned to, uint16_t sport, uint16_t dport, bool is4)
{
	return (struct frame_of){.from = from,
		.dst = world_addr(10 + to, is4),
		.proto = IPPROTO_UDP,
		.sport = sport,
		.dport = dport,
		.payload = 5};
}

static struct frame_of echo(unsigned from, unsigned to, bool reply, bool is4)
{
	return (struct frame_of){.from = from,
		.dst = world_addr(10 + to, is4),
		.proto = is4 ? IPPROTO_ICMP : IPPROTO_ICMPV6,
		.sport = 77,
		.icmp_type = is4 ? (reply ? 0 : 8) : (reply ? 129 : 128)};
}

static void send_of(struct world *w, struct frame_of f)
{
	world_send_of(w, &f);
}

static void nothing_for(struct world *w, unsigned box)
{
	struct pkt k;

	assert_false(world_next(w, box, &k));
}

/* b0 and b1 have a connection on ports 4000, 80. */
static void establish(struct world *w)
{
	struct pkt k;

	send_of(w, tcp(0, 1, 4000, 80, TCP_SYN));
	assert_true(world_next(w, 1, &k));
	assert_int_equal(k.tcp_flags, TCP_SYN);
	send_of(w, tcp(1, 0, 80, 4000, TCP_SYN | TCP_ACK));
	assert_true(world_next(w, 0, &k));
	assert_int_equal(k.tcp_flags, TCP_SYN | TCP_ACK);
	send_of(w, tcp(0, 1, 4000, 80, TCP_ACK));
	assert_true(world_next(w, 1, &k));
}

/* ---- without policy ---- */

static void everybody_may_talk_and_nothing_is_kept(void **state)
{
	static const uint8_t to[6] = {2, 0, 0, 0, 0, 0x11}, from[6] = {2, 0, 0, 0, 0, 0x10};
	struct world w;
	struct pkt k;

	world_init(&w, NET_ISOLATION_NONE, NULL, 3);
	for (unsigned is4 = 0; is4 < 2; is4++) {
		send_of(&w, udp(0, 1, 1, 2, is4));
		assert_true(world_next(&w, 1, &k));
		assert_memory_equal(k.eth_dst, to, 6);
		assert_memory_equal(k.eth_src, from, 6);
		assert_int_equal(k.dport, 2);
		assert_int_equal(k.payload_len, 5);
	}
	send_of(&w, tcp(1, 0, 5, 6, TCP_ACK));
	assert_true(world_next(&w, 0, &k));
	nothing_for(&w, 2);
	assert_int_equal(w.p[0]->n_flows + w.p[1]->n_flows, 0);
	world_done(&w);
}

static void large_frames_keep_their_header(void **state)
{
	struct world w;
	static uint8_t frame[PKT_FRAME_MAX], got[PKT_FRAME_MAX];
	struct frame_of f = tcp(0, 1, 5, 6, TCP_ACK);
	const struct vnet_hdr h = {.flags = VNET_NEEDS_CSUM,
		.gso_type = VNET_GSO_TCPV4,
		.hdr_len = 54,
		.gso_size = 1400,
		.csum_start = 34,
		.csum_offset = 16};
	struct vnet_hdr h2;

	world_init(&w, NET_ISOLATION_NONE, NULL, 2);
	f.payload = 60000;
	size_t len = frame_make(frame, &f);
	for (unsigned i = 0; i < 20; i++) {
		world_send(&w, 0, &h, frame, len);
		assert_int_equal(world_receive(&w, 1, &h2, got), len);
		assert_memory_equal(got + ETH_HDR_LEN, frame + ETH_HDR_LEN, len - ETH_HDR_LEN);
		assert_int_equal(h2.gso_type, VNET_GSO_TCPV4);
		assert_int_equal(h2.gso_size, 1400);
		assert_int_equal(h2.csum_start, 34);
	}
	world_done(&w);
}

/* ---- whose address is whose ---- */

static void foreign_sources_are_dropped(void **state)
{
	struct world w;
	uint8_t frame[2000];

	world_init(&w, NET_ISOLATION_NONE, NULL, 3);
	struct frame_of f = udp(0, 1, 1, 2, true);
	f.src = world_addr(12, true); /* another's */
	send_of(&w, f);
	f.src = world_addr(1, true); /* the gateway's */
	send_of(&w, f);
	assert_int_equal(net_addr_parse("192.0.2.7", &f.src), 0);
	send_of(&w, f);
	f = udp(0, 1, 1, 2, false);
	f.src = world_addr(12, false);
	send_of(&w, f);
	assert_int_equal(w.g->spoofed, 4);
	/* An Ethernet address that is not its own. */
	f = udp(0, 1, 1, 2, true);
	size_t len = frame_make(frame, &f);
	frame[11] = 0x12;
	world_send(&w, 0, NULL, frame, len);
	assert_int_equal(w.g->spoofed, 5);
	/* From no address, and from a link-local one: not to deceive, and for nobody. */
	f = udp(0, 1, 1, 2, true);
	assert_int_equal(net_addr_parse("0.0.0.0", &f.src), 0);
	send_of(&w, f);
	f = udp(0, 1, 1, 2, false);
	assert_int_equal(net_addr_parse("fe80::1", &f.src), 0);
	send_of(&w, f);
	assert_int_equal(w.g->spoofed, 5);
	assert_int_equal(w.p[0]->stats.dropped, 7);
	nothing_for(&w, 1);
	nothing_for(&w, 2);
	world_done(&w);
}

static void what_is_for_all_is_for_nobody(void **state)
{
	static const char *const to[] = {"224.0.0.251", "255.255.255.255", "ff02::fb"};
	struct world w;
	uint8_t frame[2000];

	world_init(&w, NET_ISOLATION_NONE, NULL, 2);
	for (size_t i = 0; i < ARRAY_LEN(to); i++) {
		struct frame_of f = udp(0, 1, 68, 67, i < 2);
		assert_int_equal(net_addr_parse(to[i], &f.dst), 0);
		send_of(&w, f);
	}
	struct frame_of f = udp(0, 1, 1, 2, true);
	size_t len = frame_make(frame, &f);
	memset(frame, 0xff, 6); /* a packet to one in a frame to all */
	world_send(&w, 0, NULL, frame, len);
	f = udp(0, 0, 1, 2, true); /* to itself */
	send_of(&w, f);
	assert_int_equal(w.p[0]->stats.dropped, 5);
	nothing_for(&w, 0);
	nothing_for(&w, 1);
	world_done(&w);
}

/* ---- policy ---- */

static void tcp_begins_by_policy_and_goes_on_both_ways(void **state)
{
	struct world w;
	struct pkt k;

	world_init(&w, NET_ISOLATION_CUSTOM, RULES, 3);
	establish(&w);
	assert_int_equal(w.p[0]->n_flows, 1);
	send_of(&w, tcp(1, 0, 80, 4000, TCP_ACK | TCP_FIN));
	assert_true(world_next(&w, 0, &k));
	send_of(&w, tcp(0, 1, 4000, 80, TCP_ACK | TCP_FIN));
	assert_true(world_next(&w, 1, &k));
	assert_int_equal(w.p[0]->stats.denied + w.p[1]->stats.denied, 0);
	/* What was the server does not become a client by that, not even on the same ports. */
	send_of(&w, tcp(1, 0, 80, 4000, TCP_SYN));
	nothing_for(&w, 0);
	assert_true(world_next(&w, 1, &k));
	assert_int_equal(k.tcp_flags, TCP_RST | TCP_ACK);
	assert_int_equal(w.p[1]->stats.denied, 1);
	/* The client may begin again. */
	send_of(&w, tcp(0, 1, 4000, 80, TCP_SYN));
	assert_true(world_next(&w, 1, &k));
	assert_int_equal(w.p[0]->n_flows, 1);
	world_done(&w);
}

static void denied_tcp_is_refused_at_once(void **state)
{
	struct world w;
	struct pkt k;

	world_init(&w, NET_ISOLATION_CUSTOM, RULES, 3);
	send_of(&w, tcp(0, 1, 4000, 81, TCP_SYN));
	nothing_for(&w, 1);
	assert_true(world_next(&w, 0, &k));
	assert_int_equal(k.tcp_flags, TCP_RST | TCP_ACK);
	assert_int_equal(k.ack, 1001);
	assert_int_equal(k.sport, 81);
	assert_int_equal(k.dport, 4000);
	send_of(&w, tcp(2, 1, 4000, 80, TCP_SYN));
	assert_true(world_next(&w, 2, &k));
	assert_int_equal(k.tcp_flags, TCP_RST | TCP_ACK);
	/* A stray segment of nothing that is known: its own number comes back. No answer to a reset. */
	send_of(&w, tcp(2, 1, 4000, 80, TCP_ACK));
	assert_true(world_next(&w, 2, &k));
	assert_int_equal(k.tcp_flags, TCP_RST);
	assert_int_equal(k.seq, 7002);
	send_of(&w, tcp(2, 1, 4000, 80, TCP_RST));
	nothing_for(&w, 2);
	nothing_for(&w, 1);
	assert_int_equal(w.p[0]->n_flows + w.p[1]->n_flows + w.p[2]->n_flows, 0);
	world_done(&w);
}

static void connections_survive_a_switch_that_forgot_them(void **state)
{
	struct world w;
	struct pkt k;

	world_init(&w, NET_ISOLATION_CUSTOM, RULES, 3);
	/* The server speaks first: allowed as an answer of port 80 to b0. */
	send_of(&w, tcp(1, 0, 80, 4000, TCP_ACK));
	assert_true(world_next(&w, 0, &k));
	assert_int_equal(w.p[1]->n_flows, 1); /* its word only */
	send_of(&w, tcp(0, 1, 4000, 80, TCP_ACK));
	assert_true(world_next(&w, 1, &k));
	assert_int_equal(w.p[0]->n_flows, 1);
	assert_int_equal(w.p[1]->n_flows, 0);
	/* Not from another port. */
	send_of(&w, tcp(1, 0, 81, 4000, TCP_ACK));
	nothing_for(&w, 0);
	assert_true(world_next(&w, 1, &k));
	assert_int_equal(k.tcp_flags, TCP_RST);
	assert_int_equal(w.p[0]->stats.denied + w.p[1]->stats.denied, 0);
	world_done(&w);
}

static void invented_answers_lead_nowhere(void **state)
{
	struct world w;
	struct pkt k;
	unsigned reached = 0;

	world_init(&w, NET_ISOLATION_CUSTOM, RULES, 3);
	for (uint16_t port = 1; port <= 1200; port++) {
		send_of(&w, tcp(1, 0, 80, port, TCP_ACK));
		reached += world_next(&w, 0, &k);
		while (world_next(&w, 1, &k))
			;
	}
	assert_int_equal(reached, 1024);
	assert_int_equal(w.p[0]->n_flows, 0);
	assert_int_equal(w.p[1]->n_flows, 1024);
	/* Who really has such a connection is not hindered. */
	send_of(&w, tcp(0, 1, 1200, 80, TCP_ACK));
	assert_true(world_next(&w, 1, &k));
	assert_int_equal(w.p[0]->n_flows, 1);
	send_of(&w, tcp(0, 1, 7, 80, TCP_ACK));
	assert_true(world_next(&w, 1, &k));
	assert_int_equal(w.p[0]->n_flows, 2);
	assert_int_equal(w.p[1]->n_flows, 1023);
	/* Whose word it was goes; then who it was about. */
	port_free(w.p[1]);
	assert_int_equal(w.p[0]->n_flows, 0);
	close(w.fd[1]);
	world_add(&w, 1, 0);
	send_of(&w, tcp(1, 0, 80, 9, TCP_ACK));
	assert_true(world_next(&w, 0, &k));
	port_free(w.p[0]);
	assert_int_equal(w.p[1]->n_flows, 0);
	close(w.fd[0]);
	world_add(&w, 0, 0);
	/* A while after both came, nothing is taken up by an answer. */
	w.p[0]->since_ns -= 61000000000ull;
	w.p[1]->since_ns -= 61000000000ull;
	send_of(&w, tcp(1, 0, 80, 4000, TCP_ACK));
	nothing_for(&w, 0);
	assert_true(world_next(&w, 1, &k));
	assert_int_equal(k.tcp_flags, TCP_RST);
	send_of(&w, tcp(0, 1, 4000, 80, TCP_ACK));
	assert_true(world_next(&w, 1, &k));
	world_done(&w);
}

static void udp_answers_come_back(void **state)
{
	struct world w;
	struct pkt k;

	world_init(&w, NET_ISOLATION_CUSTOM, RULES, 3);
	for (unsigned is4 = 0; is4 < 2; is4++) {
		send_of(&w, udp(1, 0, 80, 4000, is4)); /* before it was asked */
		nothing_for(&w, 0);
		assert_true(world_next(&w, 1, &k)); /* told why */
		assert_true(k.proto == IPPROTO_ICMP || k.proto == IPPROTO_ICMPV6);
		send_of(&w, udp(0, 1, 4000, 80, is4));
		assert_true(world_next(&w, 1, &k));
		send_of(&w, udp(1, 0, 80, 4000, is4));
		assert_true(world_next(&w, 0, &k));
		assert_int_equal(k.sport, 80);
	}
	assert_int_equal(w.p[1]->stats.denied, 2);
	world_done(&w);
}

static void echoes_and_errors_pass_where_they_belong(void **state)
{
	struct world w;
	struct pkt k;
	uint8_t cited[200];

	world_init(&w, NET_ISOLATION_CUSTOM, RULES, 3);
	for (unsigned is4 = 0; is4 < 2; is4++) {
		send_of(&w, echo(1, 0, true, is4)); /* a reply to nothing */
		nothing_for(&w, 0);
		send_of(&w, echo(0, 1, false, is4));
		assert_true(world_next(&w, 1, &k));
		send_of(&w, echo(1, 0, true, is4));
		assert_true(world_next(&w, 0, &k));
		send_of(&w, echo(1, 0, false, is4)); /* its own question is another matter */
		nothing_for(&w, 0);
		assert_true(world_next(&w, 1, &k));
		/* "Port unreachable" about a datagram that was never sent, then about one that was. */
		struct frame_of sent = udp(0, 1, 4000, 80, is4);
		size_t n = frame_make(cited, &sent) - ETH_HDR_LEN;
		struct frame_of error = {.from = 1,
			.dst = world_addr(10, is4),
			.proto = is4 ? IPPROTO_ICMP : IPPROTO_ICMPV6,
			.icmp_type = is4 ? 3 : 1,
			.payload = n,
			.data = cited + ETH_HDR_LEN};
		send_of(&w, error);
		nothing_for(&w, 0);
		send_of(&w, sent);
		assert_true(world_next(&w, 1, &k));
		send_of(&w, error);
		assert_true(world_next(&w, 0, &k));
		assert_int_equal(k.icmp_type, is4 ? 3 : 1);
		/* Cut off before the ports. */
		error.payload = is4 ? 24 : 44;
		send_of(&w, error);
		nothing_for(&w, 0);
	}
	world_done(&w);
}

static void strict_keeps_boxes_apart(void **state)
{
	struct world w;
	struct pkt k;

	world_init(&w, NET_ISOLATION_STRICT, NULL, 2);
	send_of(&w, udp(0, 1, 1, 2, true));
	send_of(&w, tcp(0, 1, 1, 2, TCP_SYN));
	send_of(&w, echo(0, 1, false, true));
	nothing_for(&w, 1);
	for (unsigned i = 0; i < 3; i++)
		assert_true(world_next(&w, 0, &k));
	assert_int_equal(w.p[0]->stats.denied, 3);
	world_done(&w);
}

static void a_new_policy_ends_what_it_denies(void **state)
{
	struct world w;
	struct pkt k;
	struct net_policy *p;

	world_init(&w, NET_ISOLATION_CUSTOM, RULES, 3);
	establish(&w);
	send_of(&w, udp(0, 1, 4000, 80, true));
	assert_true(world_next(&w, 1, &k));
	assert_int_equal(w.p[0]->n_flows, 2);
	assert_int_equal(net_policy_parse(NET_ISOLATION_STRICT, NULL, &p, NULL), 0);
	assert_int_equal(engine_set_policy(w.g, p), 0);
	world_turn(&w);
	assert_int_equal(w.p[0]->n_flows, 0);
	/* Both ends are told, with the number that each expects. */
	for (unsigned i = 0; i < 2; i++) {
		assert_true(world_next(&w, i, &k));
		assert_int_equal(k.tcp_flags, TCP_RST);
		assert_int_equal(k.seq, 7000 + i);
	}
	send_of(&w, udp(1, 0, 80, 4000, true));
	nothing_for(&w, 0);
	/* And the other way round: what is open now stays open when rules come that allow it. */
	assert_int_equal(net_policy_parse(NET_ISOLATION_NONE, NULL, &p, NULL), 0);
	assert_int_equal(engine_set_policy(w.g, p), 0);
	send_of(&w, tcp(0, 1, 4001, 80, TCP_ACK));
	assert_true(world_next(&w, 1, &k));
	assert_int_equal(net_policy_parse(NET_ISOLATION_CUSTOM, RULES, &p, NULL), 0);
	assert_int_equal(engine_set_policy(w.g, p), 0);
	send_of(&w, tcp(0, 1, 4001, 80, TCP_ACK));
	assert_true(world_next(&w, 1, &k));
	world_done(&w);
}

/* ---- bounds ---- */

static void half_open_connections_go_first(void **state)
{
	struct world w;
	struct pkt k;
	static uint8_t frame[2000];
	const struct vnet_hdr plain = {0};

	world_init(&w, NET_ISOLATION_CUSTOM, RULES, 3);
	establish(&w);
	for (unsigned i = 0; i < 2 * ENGINE_FLOWS_PER_PORT; i++) {
		struct frame_of f = tcp(0, 1, 0, 80, TCP_SYN);
		f.sport = (uint16_t)(i >= 4000 ? i + 1 : i); /* every port but the one above */
		engine_input(w.p[0], &plain, frame, frame_make(frame, &f));
		if (i % 64 == 0) {
			world_turn(&w);
			while (world_next(&w, 1, &k))
				;
		}
	}
	assert_int_equal(w.p[0]->n_flows, ENGINE_FLOWS_PER_PORT);
	while (world_next(&w, 1, &k))
		world_turn(&w);
	/* The one that is established is still known: its answers pass without a question. */
	send_of(&w, tcp(1, 0, 80, 4000, TCP_ACK));
	assert_true(world_next(&w, 0, &k));
	assert_int_equal(w.p[0]->n_flows, ENGINE_FLOWS_PER_PORT);
	assert_int_equal(w.p[1]->n_flows, 0);
	/* A box that goes takes its flows along, on either side. */
	port_free(w.p[1]);
	assert_int_equal(w.p[0]->n_flows, 0);
	world_done(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(everybody_may_talk_and_nothing_is_kept),
		cmocka_unit_test(large_frames_keep_their_header),
		cmocka_unit_test(foreign_sources_are_dropped),
		cmocka_unit_test(what_is_for_all_is_for_nobody),
		cmocka_unit_test(tcp_begins_by_policy_and_goes_on_both_ways),
		cmocka_unit_test(denied_tcp_is_refused_at_once),
		cmocka_unit_test(connections_survive_a_switch_that_forgot_them),
		cmocka_unit_test(invented_answers_lead_nowhere),
		cmocka_unit_test(udp_answers_come_back),
		cmocka_unit_test(echoes_and_errors_pass_where_they_belong),
		cmocka_unit_test(strict_keeps_boxes_apart),
		cmocka_unit_test(a_new_policy_ends_what_it_denies),
		cmocka_unit_test(half_open_connections_go_first),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
