/* SPDX-License-Identifier: MIT */
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "base/io.h"
#include "test-tcp-link.h"

/* ---- beginnings and ends ---- */

static void test_life(void **state)
{
	struct link l = open_one();
	char c;

	assert_int_equal(write(l.host, "hello", 5), 5);
	const struct seg *g = expect(TCP_ACK, l.iss + 1, BOX_ISS + 1);
	assert_memory_equal(g->data, "hello", 5);
	l.s.ack += 5;
	send_text(&l, "world");
	expect_text(l.host, "world");
	expect_delayed(l.iss + 6, BOX_ISS + 6);
	assert_int_equal(box.g.tcp->pool.used, 0); /* nothing is under way */
	send_flags(&l, TCP_ACK | TCP_FIN);
	expect(TCP_ACK, l.iss + 6, BOX_ISS + 7);
	assert_int_equal(read(l.host, &c, 1), 0);
	assert_int_equal(write(l.host, "!", 1), 1);
	expect(TCP_ACK, l.iss + 6, BOX_ISS + 7);
	close_fd(&l.host);
	expect(TCP_ACK | TCP_FIN, l.iss + 7, BOX_ISS + 7);
	assert_int_equal(box.p.n_conns, 1);
	l.s.ack = l.iss + 8;
	send_flags(&l, TCP_ACK);
	expect_gone();
	expect_nothing();
}

/* We close first: our side remembers for a while. */
static void test_time_wait(void **state)
{
	struct link l = open_one();

	shutdown(l.host, SHUT_WR);
	expect(TCP_ACK | TCP_FIN, l.iss + 1, BOX_ISS + 1);
	l.s.ack++;
	send_flags(&l, TCP_ACK | TCP_FIN);
	expect(TCP_ACK, l.iss + 2, BOX_ISS + 2);
	assert_int_equal(box.p.n_conns, 0);
	l.s.seq--;
	send_flags(&l, TCP_ACK | TCP_FIN); /* again: the acknowledgement was lost */
	expect(TCP_ACK, l.iss + 2, BOX_ISS + 2);
	close_fd(&l.host);
	/* The same port once more, at once. */
	struct link m = {.s = {.dport = listener_port, .seq = BOX_ISS + 50000, .window = BOX_WINDOW}};
	send_flags(&m, TCP_SYN);
	const struct seg *g = box_wait();
	assert_non_null(g);
	assert_int_equal(g->flags, TCP_SYN | TCP_ACK);
	assert_true((int32_t)(g->seq - l.iss) >= 0); /* RFC 6528: not before what was */
	m.s.seq = BOX_ISS + 50001;
	m.s.ack = g->seq + 1;
	send_flags(&m, TCP_RST);
	expect_gone();
}

static void test_refused(void **state)
{
	struct seg syn = {.flags = TCP_SYN, .seq = BOX_ISS, .dport = listener_port, .window = 1};

	close_fd(&listener);
	box_sends(&syn);
	expect(TCP_RST | TCP_ACK, 0, BOX_ISS + 1);
	expect_gone();
	box.deny = true;
	box_sends(&syn);
	expect(TCP_RST | TCP_ACK, 0, BOX_ISS + 1);
	box.deny = false;
	box.outside = -EHOSTUNREACH;
	box_sends(&syn);
	expect_nothing();
	assert_int_equal(box.n_icmp, 1);
	expect_gone();
	/* What belongs to no connection */
	syn.flags = TCP_ACK;
	syn.ack = 77;
	box_sends(&syn);
	expect(TCP_RST, 77, 0);
	syn.flags = TCP_RST;
	box_sends(&syn);
	expect_nothing();
}

static void test_dns(void **state)
{
	struct seg s = {
		.flags = TCP_SYN, .seq = 9, .dport = 53, .window = 20000, .peer = box.g.config.gateway4};

	box.deny = true; /* what may be asked for is decided there */
	box_sends(&s);
	const struct seg *g = expect(TCP_SYN | TCP_ACK, box.seg[box.n - 1].seq, 10);
	s.seq = 10;
	s.ack = g->seq + 1;
	s.flags = TCP_ACK;
	s.data = (const uint8_t *)"ask";
	s.len = 3;
	box_sends(&s);
	assert_true(box.dns_fd >= 0);
	expect_text(box.dns_fd, "ask");
	assert_int_equal(write(box.dns_fd, "answer", 6), 6);
	close_fd(&box.dns_fd);
	g = expect(TCP_ACK, s.ack, 13);
	assert_int_equal(g->len, 6);
	expect(TCP_ACK | TCP_FIN, s.ack + 6, 13);
	s.seq = 13;
	s.ack += 7;
	s.len = 0;
	s.flags = TCP_ACK | TCP_FIN;
	box_sends(&s);
	expect(TCP_ACK, s.ack, 14);
	expect_gone();
}

static void test_resets(void **state)
{
	struct link l = open_one();

	l.s.seq += 10; /* in the window, but not the next: might be anybody's */
	send_flags(&l, TCP_RST);
	expect(TCP_ACK, l.iss + 1, BOX_ISS + 1);
	l.s.seq -= 11; /* outside of it */
	send_flags(&l, TCP_RST);
	expect_nothing();
	l.s.seq++;
	send_flags(&l, TCP_RST);
	expect_reset(&l.host);
	expect_gone();

	l = open_one();
	const struct linger now = {.l_onoff = 1};
	setsockopt(l.host, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close_fd(&l.host);
	expect(TCP_RST | TCP_ACK, l.iss + 1, BOX_ISS + 1);
	expect_gone();

	/* What the host sent before it reset still arrives. */
	l = open_one();
	send_text(&l, "never read");
	expect_delayed(l.iss + 1, BOX_ISS + 11);
	assert_int_equal(write(l.host, "last words", 10), 10);
	close_fd(&l.host);
	assert_int_equal(expect(TCP_ACK, l.iss + 1, BOX_ISS + 11)->len, 10);
	expect(TCP_RST | TCP_ACK, l.iss + 11, BOX_ISS + 11);
	expect_gone();
}

static void test_engine_ends(void **state)
{
	struct link l = open_one();

	box.deny = true;
	tcp_recheck(&box.g);
	expect(TCP_RST | TCP_ACK, l.iss + 1, BOX_ISS + 1);
	expect_reset(&l.host);
	expect_gone();
	box.deny = false;
	l = open_one();
	tcp_port_gone(&box.p);
	expect_reset(&l.host);
	expect_gone();
}

/* ---- delayed acknowledgements ---- */

static void test_delayed(void **state)
{
	struct link l = open_one();
	uint32_t ack = BOX_ISS + 1;

	/* The answer carries it. */
	send_text(&l, "a");
	expect_text(l.host, "a");
	expect_nothing();
	assert_int_equal(write(l.host, "A", 1), 1);
	assert_int_equal(expect(TCP_ACK, l.iss + 1, ++ack)->len, 1);
	l.s.ack++;
	send_flags(&l, TCP_ACK);
	box_sleep(TCP_ACK_DELAY_NS);
	expect_nothing();
	/* At least every second segment; what is large, and an end, at once. */
	send_text(&l, "b");
	expect_nothing();
	send_text(&l, "c");
	expect(TCP_ACK, l.iss + 2, ack += 2);
	static const uint8_t large[TCP_DELAYED_MAX + 1];
	l.s.data = large;
	l.s.len = sizeof(large);
	send_flags(&l, TCP_ACK);
	expect(TCP_ACK, l.iss + 2, ack += sizeof(large));
	/* After one that waited in vain the next do not. */
	send_text(&l, "d");
	expect_delayed(l.iss + 2, ++ack);
	for (unsigned i = 0; i < TCP_QUICK_ACKS; i++) {
		send_text(&l, "e");
		expect(TCP_ACK, l.iss + 2, ++ack);
	}
	send_text(&l, "f");
	expect_nothing();
	send_flags(&l, TCP_ACK | TCP_FIN);
	expect(TCP_ACK, l.iss + 2, ack += 2);
	close_fd(&l.host);
}

/* ---- sequence numbers ---- */

static void test_acceptable(void **state)
{
	struct link l = open_one();

	send_text(&l, "abc");
	expect_delayed(l.iss + 1, BOX_ISS + 4);
	l.s.seq -= 3; /* known and new in one */
	send_text(&l, "abcde");
	expect(TCP_ACK, l.iss + 1, BOX_ISS + 6);
	expect_text(l.host, "abcde");
	l.s.seq -= 5; /* known */
	send_text(&l, "abcde");
	expect(TCP_ACK, l.iss + 1, BOX_ISS + 6);
	l.s.seq += 1; /* a gap: told at once, each time */
	send_text(&l, "g");
	send_text(&l, "h");
	expect(TCP_ACK, l.iss + 1, BOX_ISS + 6);
	expect(TCP_ACK, l.iss + 1, BOX_ISS + 6);
	l.s.seq -= 3;
	l.s.ack = l.iss + 2; /* what was never sent */
	send_text(&l, "x");
	expect(TCP_ACK, l.iss + 1, BOX_ISS + 6);
	l.s.ack = l.iss + 1;
	l.s.seq = BOX_ISS + 6;
	send_flags(&l, TCP_SYN); /* RFC 5961 section 4 */
	expect(TCP_ACK, l.iss + 1, BOX_ISS + 6);
	/* Answers to what is not acceptable have a limit. */
	for (int i = 0; i < 50; i++) {
		l.s.seq = BOX_ISS;
		send_flags(&l, TCP_ACK);
		box_settle();
	}
	assert_in_range(box.n - box.read, 1, TCP_CHALLENGES_PER_S);
	tcp_port_gone(&box.p);
	expect_reset(&l.host);
}

static void test_checksum(void **state)
{
	struct seg syn = {.flags = TCP_SYN, .seq = 1, .dport = listener_port, .window = 1};

	box_sends_summed(&syn, false);
	expect_nothing();
	assert_int_equal(box.p.n_conns, 0);
	box_sends_summed(&syn, true);
	assert_int_equal(box.p.n_conns, 1);
}

/* ---- loss ---- */

static void test_retransmission(void **state)
{
	struct link l = open_one();

	assert_int_equal(write(l.host, "one", 3), 3);
	expect(TCP_ACK, l.iss + 1, BOX_ISS + 1);
	box_sleep(199 * MS);
	expect_nothing();
	box_sleep(1 * MS);
	assert_int_equal(expect(TCP_ACK, l.iss + 1, BOX_ISS + 1)->len, 3);
	box_sleep(399 * MS);
	expect_nothing();
	box_sleep(1 * MS);
	expect(TCP_ACK, l.iss + 1, BOX_ISS + 1);
	/* More, which the third duplicate acknowledgement sends again from the first byte. */
	assert_int_equal(write(l.host, "two", 3), 3);
	expect(TCP_ACK, l.iss + 4, BOX_ISS + 1);
	l.s.ack = l.iss + 4;
	send_flags(&l, TCP_ACK);
	assert_int_equal(write(l.host, "three", 5), 5);
	expect(TCP_ACK, l.iss + 7, BOX_ISS + 1);
	for (int i = 0; i < 3; i++) {
		expect_nothing();
		send_flags(&l, TCP_ACK);
	}
	const struct seg *g = expect(TCP_ACK, l.iss + 4, BOX_ISS + 1);
	assert_int_equal(g->len, 8);
	assert_memory_equal(g->data, "twothree", 8);
	/* Never acknowledged: both sides learn it. */
	box.keep_none = true;
	box_sleep(TCP_STUCK_NS + 200000 * MS);
	expect_reset(&l.host);
	expect_gone();
}

static void test_handshake_repeats(void **state)
{
	struct seg syn = {.flags = TCP_SYN, .seq = BOX_ISS, .dport = listener_port, .window = 1};

	box_sends(&syn);
	const struct seg *g = box_wait();
	assert_int_equal(g->flags, TCP_SYN | TCP_ACK);
	uint32_t iss = g->seq;
	box_sends(&syn);
	expect(TCP_SYN | TCP_ACK, iss, BOX_ISS + 1);
	box_sleep(200 * MS);
	expect(TCP_SYN | TCP_ACK, iss, BOX_ISS + 1);
	box.keep_none = true;
	box_sleep(TCP_SYN_NS);
	expect_gone();
}

/* ---- windows and memory ---- */

static void test_windows(void **state)
{
	struct link l = open_with((struct seg){.mss = 1460, .wscale = 2});
	static char data[100000];
	size_t got = 0;

	/* The SYN's window is unscaled, the next ones are not. */
	assert_int_equal(write(l.host, data, sizeof(data)), sizeof(data));
	for (const struct seg *g; (g = box_wait()) && got < 4 * BOX_WINDOW;) {
		got += g->len;
		assert_int_equal(g->gso, g->len > 1460 ? 1460 : 0);
		if (got == 4 * BOX_WINDOW)
			break;
	}
	assert_int_equal(got, 4 * BOX_WINDOW);
	expect_nothing();
	l.s.ack += (uint32_t)got;
	l.s.window = 0;
	send_flags(&l, TCP_ACK);
	expect_nothing();
	assert_int_equal(box.g.tcp->pool.used, 0);
	box_sleep(200 * MS); /* asks what the window is */
	const struct seg *g = expect(TCP_ACK, l.s.ack - 1, BOX_ISS + 1);
	assert_int_equal(g->len, 0);
	box_sleep(400 * MS);
	expect(TCP_ACK, l.s.ack - 1, BOX_ISS + 1);
	l.s.window = 100;
	send_flags(&l, TCP_ACK);
	assert_int_equal(expect(TCP_ACK, l.s.ack, BOX_ISS + 1)->len, 400);
	box.no_room = true; /* the queue is full: nothing is read */
	l.s.ack += 400;
	l.s.window = BOX_WINDOW;
	send_flags(&l, TCP_ACK);
	expect_nothing();
	box_gives_room();
	assert_true(expect(TCP_ACK, l.s.ack, BOX_ISS + 1)->len > 0);
	tcp_port_gone(&box.p);
	close_fd(&l.host);
}

/* A host that does not read: what the kernel does not take is kept, up to the window that was promised. */
/* The box is gone: what it has said to the end arrives, and what it has not is cut off. */
static void test_last_words(void **state)
{
	static uint8_t data[32000], buf[65536];

	for (int ended = 0; ended < 2; ended++) {
		struct link l = open_with((struct seg){.mss = 1460, .wscale = 2});
		const int small = 4 << 10;
		size_t got = 0;
		setsockopt(l.host, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
		for (int i = 0; i < 4; i++) {
			l.s.data = data;
			l.s.len = sizeof(data);
			send_flags(&l, i == 3 && ended ? TCP_ACK | TCP_FIN : TCP_ACK);
			assert_non_null(box_wait()); /* a larger window */
		}
		box_settle();
		while (box_next())
			;
		tcp_port_gone(&box.p);
		ssize_t n;
		while ((n = recv(l.host, buf, sizeof(buf), 0)) > 0)
			got += (size_t)n;
		assert_int_equal(n, ended ? 0 : -1);
		if (ended)
			assert_int_equal(got, 4 * sizeof(data));
		close_fd(&l.host);
	}
}

static void test_slow_host(void **state)
{
	struct link l = open_with((struct seg){.mss = 1460, .wscale = 2});
	static uint8_t data[32000], buf[65536];
	uint32_t edge = 0, acked = l.s.seq;
	size_t sent = 0, got = 0;

	const int small = 64 << 10;
	setsockopt(l.host, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	for (uint32_t left = 1;;) {
		memset(data, (int)(l.s.seq >> 10), sizeof(data));
		l.s.data = data;
		l.s.len = sizeof(data);
		send_flags(&l, TCP_ACK);
		sent += sizeof(data);
		const struct seg *g = box_wait();
		assert_non_null(g);
		acked = g->ack;
		uint32_t right = g->ack + ((uint32_t)g->window << 5);
		assert_true(edge == 0 ||
			    (int32_t)(right - edge) > -32); /* never back, but by a step of the scale */
		edge = right;
		left = edge - l.s.seq;
		assert_true(box.g.tcp->pool.used <= TCP_RING_MAX);
		if ((int32_t)left < (int32_t)sizeof(data))
			break;
		if (box.n == SEGMENTS) {
			while (box.n)
				free(box.frame[--box.n]);
			box.read = 0;
		}
	}
	assert_int_equal(acked, l.s.seq);
	assert_true(box.g.tcp->pool.used > 0);
	while (got < sent) {
		ssize_t n = recv(l.host, buf, sizeof(buf), MSG_DONTWAIT);
		got += n > 0 ? (size_t)n : 0;
		box_turn(n > 0 ? 0 : 1);
	}
	const struct seg *g = NULL;
	for (const struct seg *next; (next = box_next());)
		g = next;
	assert_non_null(g); /* told that there is room again */
	assert_true((int32_t)(g->ack + ((uint32_t)g->window << 5) - edge) > 0);
	tcp_port_gone(&box.p);
	close_fd(&l.host);
	expect_gone();
}

static void test_limits(void **state)
{
	struct seg syn = {.flags = TCP_SYN, .seq = 1, .dport = listener_port, .window = 1};

	box.keep_none = true;
	for (unsigned i = 0; i < 2 * TCP_HALF_OPEN_MAX; i++) {
		syn.sport = (uint16_t)(2000 + i);
		box_sends(&syn);
	}
	assert_true(box.p.n_conns <= TCP_HALF_OPEN_MAX);
	assert_true(box.p.stats.dropped > 0);
	box_settle();
	box_sleep(TCP_SYN_NS + 10000 * MS);
	box_settle();
	box_sleep(TCP_CONNECT_NS);
	expect_gone();
}

static void test_half_closed(void **state)
{
	struct link l = open_one();

	send_flags(&l, TCP_ACK | TCP_FIN);
	expect(TCP_ACK, l.iss + 1, BOX_ISS + 2);
	box_sleep(TCP_HALF_CLOSED_NS - MS);
	assert_int_equal(write(l.host, "x", 1), 1); /* not idle */
	expect(TCP_ACK, l.iss + 1, BOX_ISS + 2);
	l.s.ack++;
	send_flags(&l, TCP_ACK);
	box_sleep(TCP_HALF_CLOSED_NS - MS);
	assert_int_equal(box.p.n_conns, 1);
	box_sleep(MS);
	expect(TCP_RST | TCP_ACK, l.iss + 2, BOX_ISS + 2);
	expect_gone();
	close_fd(&l.host);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, link_start, link_finish)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_life),
		TEST(test_time_wait),
		TEST(test_refused),
		TEST(test_dns),
		TEST(test_resets),
		TEST(test_engine_ends),
		TEST(test_delayed),
		TEST(test_acceptable),
		TEST(test_checksum),
		TEST(test_retransmission),
		TEST(test_handshake_repeats),
		TEST(test_windows),
		TEST(test_last_words),
		TEST(test_slow_host),
		TEST(test_limits),
		TEST(test_half_closed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
