/* SPDX-License-Identifier: MIT */
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "base/io.h"
#include "test-tcp-link.h"

/* ---- published ports ---- */

/* Publishes an address of the host's as port 80 of the box, and connects to it. */
static int visit(int family, int *ret_listener)
{
	struct sockaddr_storage ss;
	struct net_addr a;
	socklen_t len;

	assert_int_equal(net_addr_parse(family == AF_INET ? "127.0.0.1" : "::1", &a), 0);
	len = net_addr_sockaddr(&a, 0, &ss);
	if (*ret_listener < 0) {
		int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd < 0 || bind(fd, (struct sockaddr *)&ss, len) < 0)
			return -1; /* no IPv6 here */
		assert_return_code(listen(fd, 16), errno);
		*ret_listener = dup(fd);
		assert_int_equal(tcp_publish(&box.p, 80, fd), 0);
	}
	len = sizeof(ss);
	getsockname(*ret_listener, (struct sockaddr *)&ss, &len);
	int c = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_return_code(connect(c, (struct sockaddr *)&ss, len), errno);
	const struct timeval limit = {.tv_sec = 10};
	setsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	return c;
}

static struct seg answer_to(const struct seg *g, uint8_t flags)
{
	return (struct seg){.is6 = g->is6,
		.peer = g->peer,
		.sport = g->dport,
		.dport = g->sport,
		.flags = flags,
		.seq = flags & TCP_RST ? 0 : BOX_ISS,
		.ack = g->seq + 1,
		.window = BOX_WINDOW};
}

static void test_published(void **state)
{
	CLEANUP_CLOSE int l = -1;
	int c = visit(AF_INET, &l);
	uint8_t first_families[2] = {0};

	/* Refused by each family in turn while the box starts, and asked again. */
	for (int i = 0; i < 6; i++) {
		const struct seg *g = box_wait();
		assert_non_null(g);
		assert_int_equal(g->flags, TCP_SYN);
		assert_int_equal(g->dport, 80);
		first_families[g->is6]++;
		struct seg rst = answer_to(g, TCP_RST | TCP_ACK);
		box_sends(&rst);
		if (i % 2)
			box_sleep(100 * MS);
	}
	assert_int_equal(first_families[0], 3);
	assert_int_equal(first_families[1], 3);
	assert_int_equal(write(c, "ask", 3), 3);
	const struct seg *g = box_wait();
	struct seg s = answer_to(g, TCP_SYN | TCP_ACK);
	box_sends(&s);
	g = expect(TCP_ACK, s.ack, BOX_ISS + 1);
	if (g->len == 0)
		g = expect(TCP_ACK, s.ack, BOX_ISS + 1);
	assert_memory_equal(g->data, "ask", 3);
	/* From now on a refusal is one, after the other family was asked. */
	int d = visit(AF_INET, &l);
	for (int i = 0; i < 2; i++) {
		g = box_wait();
		assert_int_equal(g->flags, TCP_SYN);
		struct seg rst = answer_to(g, TCP_RST | TCP_ACK);
		box_sends(&rst);
	}
	expect_reset(&d);
	/* Denied */
	box.deny = true;
	d = visit(AF_INET, &l);
	box_settle();
	expect_reset(&d);
	expect_nothing();
	tcp_port_gone(&box.p);
	expect_reset(&c);
}

static void test_never_answered(void **state)
{
	CLEANUP_CLOSE int l = -1;
	int c = visit(AF_INET6, &l);

	if (c < 0)
		skip();
	const struct seg *g = box_wait();
	assert_true(g->is6);
	box.keep_none = true;
	box_sleep(TCP_HOLD_NS);
	expect_reset(&c);
	expect_gone();

	/* What has had so long to listen is not starting any more: a refusal is one, after the other family was asked. */
	box.keep_none = false;
	box_sleep(TCP_HOLD_BOX_NS);
	c = visit(AF_INET6, &l);
	for (int i = 0; i < 2; i++) {
		g = box_wait();
		assert_int_equal(g->flags, TCP_SYN);
		struct seg rst = answer_to(g, TCP_RST | TCP_ACK);
		box_sends(&rst);
	}
	expect_reset(&c);
}

/* Many wait for a box that starts: one asks for all of them, and only so many are taken from the kernel's queue. */
static void test_one_asks(void **state)
{
	enum { VISITORS = TCP_WAITING_MAX + 20 };
	CLEANUP_CLOSE int l = -1;
	int c[VISITORS];

	c[0] = visit(AF_INET, &l);
	assert_return_code(listen(l, VISITORS), errno);
	for (unsigned i = 1; i < VISITORS; i++)
		c[i] = visit(AF_INET, &l);
	box_settle();
	assert_int_equal(box.p.n_conns, TCP_WAITING_MAX);
	for (int i = 0; i < 6; i++) { /* by either family, each 100 ms */
		const struct seg *g = box_wait();
		struct seg rst = answer_to(g, TCP_RST | TCP_ACK);
		box_sends(&rst);
		if (i % 2) {
			assert_int_equal(box.n, box.read);
			box_sleep(100 * MS);
			box_settle();
		}
	}
	assert_int_equal(box.p.n_conns, TCP_WAITING_MAX);
	/* The first gives up: the next asks, and another is taken in its place. */
	const struct linger now = {.l_onoff = 1};
	setsockopt(c[0], SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(c[0]);
	box_settle();
	assert_int_equal(box.p.n_conns, TCP_WAITING_MAX);
	assert_non_null(box_next()); /* to the first: its SYN and the end of it */
	assert_int_equal(box_wait()->flags & TCP_RST, TCP_RST);
	box_sleep(100 * MS);
	const struct seg *g = box_wait();
	assert_int_equal(g->flags, TCP_SYN);
	/* It is answered: all the others ask at once, and the rest is taken in. */
	box.n = box.read; /* of those that come now, the test has no room for all */
	struct seg s = answer_to(g, TCP_SYN | TCP_ACK);
	box_sends(&s);
	unsigned syns = 0;
	while ((g = box_next()))
		syns += g->flags == TCP_SYN;
	assert_true(syns > SEGMENTS / 2);
	box_settle();
	assert_int_equal(box.p.n_conns, TCP_WAITING_MAX + 1);
	tcp_port_gone(&box.p);
	for (unsigned i = 1; i < VISITORS; i++)
		close(c[i]);
	expect_gone();
}

/* A box with its share of descriptors: clients wait in the kernel's queue. */
static void test_share(void **state)
{
	CLEANUP_CLOSE int l = -1;
	int c[8];

	box.g.n_ports = 1;
	box.g.socket_budget = 8;
	box.keep_none = true;
	c[0] = visit(AF_INET, &l);
	for (unsigned i = 1; i < ARRAY_LEN(c); i++)
		c[i] = visit(AF_INET, &l);
	box_settle();
	assert_int_equal(box.p.n_conns, 4);
	assert_int_equal(box.g.n_sockets, 4);
	struct seg syn = {.flags = TCP_SYN, .seq = 1, .dport = listener_port, .window = 1};
	box.keep_none = false;
	unsigned n = box.n;
	box_sends(&syn);
	assert_int_equal(box.n, n + 1);
	assert_int_equal(box.seg[n].flags, TCP_RST | TCP_ACK);
	box.keep_none = true;
	box.g.n_published = 2; /* which leaves half of 6 */
	box_sleep(TCP_HOLD_NS);
	box_settle();
	assert_int_equal(box.p.n_conns, 3);
	box.g.n_published = 0;
	box_sleep(TCP_ACCEPT_RETRY_NS);
	box_settle();
	assert_int_equal(box.p.n_conns, 4);
	tcp_port_gone(&box.p);
	for (unsigned i = 0; i < ARRAY_LEN(c); i++)
		close(c[i]);
	expect_gone();
	assert_int_equal(box.g.n_sockets, 0);
}

/* Memory is scarce, and this box has most of it: what it does not acknowledge is not kept for long. */
static void test_scarce(void **state)
{
	struct link l = open_one();
	struct tcp_state *t = box.g.tcp;

	assert_int_equal(write(l.host, "x", 1), 1);
	assert_non_null(box_wait());
	box.keep_none = true;
	box_sleep(2 * TCP_STUCK_SCARCE_NS);
	assert_int_equal(box.p.n_conns, 1);
	t->pool.used += ENGINE_TCP_MEMORY / 2;
	t->pool.n_users += 1; /* another box has less */
	t->ports[0]->rings.used += ENGINE_TCP_MEMORY / 2;
	box_sleep(2 * TCP_STUCK_SCARCE_NS);
	assert_int_equal(box.p.n_conns, 0);
	t->pool.used -= ENGINE_TCP_MEMORY / 2;
	t->pool.n_users -= 1;
	t->ports[0]->rings.used -= ENGINE_TCP_MEMORY / 2;
	expect_gone();
	expect_reset(&l.host);
}

/* Out of descriptors: nothing spins, and clients are served when there are some again. */
static void test_no_descriptors(void **state)
{
	CLEANUP_CLOSE int l = -1;
	struct rlimit old, none;
	int first = visit(AF_INET, &l);

	assert_non_null(box_wait());
	int second = visit(AF_INET, &l);
	getrlimit(RLIMIT_NOFILE, &old);
	none = old;
	none.rlim_cur = 3;
	setrlimit(RLIMIT_NOFILE, &none);
	box_turn(100);
	box_turn(0);
	setrlimit(RLIMIT_NOFILE, &old);
	assert_int_equal(box.p.n_conns, 1);
	box_settle();
	assert_int_equal(box.p.n_conns, 1); /* not even looked at */
	box_sleep(TCP_ACCEPT_RETRY_NS);
	box_settle();
	assert_int_equal(box.p.n_conns, 2);
	tcp_port_gone(&box.p);
	close(first);
	close(second);
}

/* ---- rings ---- */

static void test_ring(void **state)
{
	struct ring_pool pool = {0};
	struct ring_user u = {0};
	struct ring r = {0}, other = {0};
	struct iovec iov[2];

	assert_true(ring_reserve(&pool, &u, &r, TCP_RING_MIN));
	r.len = TCP_RING_MIN - 10;
	ring_consume(&r, TCP_RING_MIN - 100);
	assert_int_equal(ring_space(&r, 1000, iov), 2);
	assert_int_equal(iov[0].iov_len, 10);
	memset(iov[0].iov_base, 'a', 10);
	memset(iov[1].iov_base, 'b', 990);
	r.len += 1000;
	assert_true(ring_reserve(&pool, &u, &r, 4 * TCP_RING_MIN)); /* keeps it, in one piece */
	assert_int_equal(ring_content(&r, 90, 1000, iov), 1);
	assert_memory_equal(iov[0].iov_base, "aaaaaaaaaab", 11);
	assert_int_equal(pool.used, 4 * TCP_RING_MIN);
	pool.used += ENGINE_TCP_MEMORY - 8 * TCP_RING_MIN; /* scarce */
	assert_false(ring_reserve(&pool, &u, &other, 2 * TCP_RING_MIN));
	assert_true(ring_reserve(&pool, &u, &other, TCP_RING_MIN));
	pool.used -= ENGINE_TCP_MEMORY - 8 * TCP_RING_MIN;
	ring_release(&pool, &u, &r);
	ring_release(&pool, &u, &other);
	assert_int_equal(pool.used, 0);
	assert_true(pool.spare <= TCP_RING_SPARE);
	ring_pool_done(&pool);
}

/* One box cannot have all of the memory: those that come later get their part. */
static void test_ring_shares(void **state)
{
	enum { RINGS = ENGINE_TCP_MEMORY / TCP_RING_MIN };
	static struct ring r[RINGS], other[RINGS];
	struct ring_user greedy = {0}, late = {0};
	struct ring_pool pool = {0};
	unsigned n = 0, m = 0;

	while (n < RINGS && ring_reserve(&pool, &greedy, &r[n], TCP_RING_MIN))
		n++;
	assert_in_range(n, RINGS / 2, RINGS / 2 + 1);
	while (m < RINGS && ring_reserve(&pool, &late, &other[m], TCP_RING_MIN))
		m++;
	assert_int_equal(m, RINGS / 3);
	assert_int_equal(pool.n_users, 2);
	while (n)
		ring_release(&pool, &greedy, &r[--n]);
	assert_int_equal(pool.n_users, 1);
	while (m)
		ring_release(&pool, &late, &other[--m]);
	assert_int_equal(pool.used + pool.n_users + greedy.used + late.used, 0);
	ring_pool_done(&pool);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, link_start, link_finish)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_published),
		TEST(test_never_answered),
		TEST(test_no_descriptors),
		TEST(test_one_asks),
		TEST(test_share),
		TEST(test_scarce),
		cmocka_unit_test(test_ring),
		cmocka_unit_test(test_ring_shares),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
