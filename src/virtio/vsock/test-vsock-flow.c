/* SPDX-License-Identifier: MIT */
/* The vsock device: credit (virtio 1.2 section 5.10.6.3), volume, fairness, resets of the device. */
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "vsock/test-guest.h"

/* ---- credit, 5.10.6.3 ---- */

static void test_5_10_6_3_guest_overruns(void **state)
{
	struct fixture *f = *state;
	struct gconn *g;
	int s;
	static uint8_t buf[65536];
	pair(f, 555, &g, &s);
	for (int i = 0; i < 100 && !g->rst; i++) {
		g_send(f, g, VSOCK_OP_RW, buf, sizeof(buf), 0);
		settle(f);
	}
	assert_true(g->rst);
	assert_int_equal(f->v->n_conns, 0);
	close(s);
}

static void test_5_10_6_3_credit_request(void **state)
{
	struct fixture *f = *state;
	struct gconn *g;
	int s;
	pair(f, 555, &g, &s);
	g_send(f, g, VSOCK_OP_RW, "12345", 5, 0);
	g_send(f, g, VSOCK_OP_CREDIT_REQUEST, NULL, 0, 0);
	UNTIL(f, g->n_credit == 1);
	assert_int_equal(g->peer_fwd, 5);
	assert_int_equal(g->peer_alloc, 256 * 1024);
	close(s);
}

static void test_5_10_6_3_counters_wrap(void **state)
{
	struct fixture *f = *state;
	struct gconn *g;
	int s;
	static uint8_t buf[65536];
	pair(f, 555, &g, &s);
	/* as if 4 GiB less a little had passed */
	struct vsock_conn *c = vsock_conn_find(f->v, 555, 4000);
	c->rx_cnt = c->fwd_cnt = c->fwd_told = g->tx_cnt = g->peer_fwd = 0xffff0000;
	c->tx_cnt = c->peer_fwd = g->rx_cnt = g->fwd_cnt = 0xffff8000;
	const uint64_t total = 1 << 20;
	uint64_t sent = 0, got = 0;
	while (got < total || g->n_in < total) {
		g_pump_out(f, g, total);
		ssize_t n = recv(s, buf, sizeof(buf), MSG_DONTWAIT);
		got += n > 0 ? (uint64_t)n : 0;
		if (sent < total) {
			n = send(s, buf, MIN_OF(sizeof(buf), total - sent), MSG_DONTWAIT | MSG_NOSIGNAL);
			sent += n > 0 ? (uint64_t)n : 0;
		}
		drv_turn(&f->d);
		assert_int_equal(g->rst, 0);
	}
	close(s);
}

static void test_5_10_6_3_credit_across_the_wrap(void **state)
{
	struct fixture *f = *state;
	struct gconn *g;
	int s;
	static uint8_t buf[65536];
	pair(f, 555, &g, &s);
	struct vsock_conn *c = vsock_conn_find(f->v, 555, 4000);
	c->tx_cnt = c->peer_fwd = g->rx_cnt = g->fwd_cnt = 0xffff8000;
	g->hold = true;
	for (int i = 0; i < 1000; i++) {
		send(s, buf, sizeof(buf), MSG_DONTWAIT | MSG_NOSIGNAL);
		drv_turn(&f->d);
	}
	assert_int_equal(g->n_in, g->buf_alloc); /* all of it, and no more */
	close(s);
}

static void test_5_10_6_3_guest_lies(void **state)
{
	struct fixture *f = *state;
	struct gconn *g;
	int s;
	pair(f, 555, &g, &s);
	assert_int_equal(send(s, "abc", 3, 0), 3);
	UNTIL(f, g->n_in == 3);
	g->fwd_cnt = 77; /* more than it ever got: what would be "under way" is negative */
	g->buf_alloc = 0;
	g_send(f, g, VSOCK_OP_CREDIT_UPDATE, NULL, 0, 0);
	settle(f);
	assert_int_equal(send(s, "abc", 3, 0), 3);
	settle(f);
	assert_int_equal(g->n_in, 3);
	close(s);
}

static void test_slow_guest(void **state)
{
	struct fixture *f = *state;
	struct gconn *g;
	int s;
	static uint8_t buf[65536];
	pair(f, 555, &g, &s);
	g->hold = true;
	uint64_t sent = 0;
	for (int i = 0; i < 1000; i++) {
		ssize_t n = send(s, buf, sizeof(buf), MSG_DONTWAIT | MSG_NOSIGNAL);
		sent += n > 0 ? (uint64_t)n : 0;
		drv_turn(&f->d);
	}
	assert_int_equal(g->n_in, g->buf_alloc); /* exactly what it allowed, and no busy waiting after: */
	struct vsock_conn *c = vsock_conn_find(f->v, 555, 4000);
	assert_true(c->readable);
	assert_false(c->on_ready);
	while (g->n_in < sent) {
		g->fwd_cnt += 1000; /* sips */
		assert_true(g_send(f, g, VSOCK_OP_CREDIT_UPDATE, NULL, 0, 0));
		drv_turn(&f->d);
		drv_turn(&f->d);
	}
	assert_int_equal(g->n_in, sent);
	close(s);
}

static void test_slow_host(void **state)
{
	struct fixture *f = *state;
	struct gconn *g, *h;
	int s, t;
	pair(f, 555, &g, &s);
	pair(f, 556, &h, &t);
	for (int i = 0; i < 200; i++) {
		g_pump_out(f, g, 1 << 30);
		settle(f);
	}
	struct vsock_conn *c = vsock_conn_find(f->v, 555, 4000);
	assert_int_equal(c->out.len, VSOCK_BUF_ALLOC); /* the bound of what we hold */
	/* another connection is not held up by it */
	g_send(f, h, VSOCK_OP_RW, "free", 4, 0);
	settle(f);
	assert_string_equal(read_text(t), "free");
	static uint8_t buf[4000];
	uint64_t got = 0, sum = 0;
	while (got < g->n_out) {
		ssize_t n = recv(s, buf, sizeof(buf), MSG_DONTWAIT);
		if (n > 0) {
			sum = mix(sum, buf, (size_t)n);
			got += (uint64_t)n;
		}
		drv_turn(&f->d);
	}
	assert_int_equal(sum, g->sum_out);
	settle(f);
	assert_true(g_credit(g) >= 192 * 1024); /* told unasked */
	close(s);
	close(t);
}

/* ---- volume ---- */

static void volume(struct fixture *f, uint64_t total)
{
	struct gconn *g;
	static uint8_t buf[65536];
	uint64_t sent = 0, got = 0, sum_sent = 0, sum_got = 0;
	bool fin = false, end = false;
	int s, idle = 0;

	pair(f, 555, &g, &s);
	while (!end || g->n_in < total || !(g->shut & VSOCK_SHUT_SEND)) {
		uint64_t before = sent + got + g->n_in;
		g_pump_out(f, g, total);
		if (g->n_out == total && !fin)
			fin = g_send(f, g, VSOCK_OP_SHUTDOWN, NULL, 0, VSOCK_SHUT_SEND);
		ssize_t n = recv(s, buf, sizeof(buf), MSG_DONTWAIT);
		if (n > 0) {
			sum_got = mix(sum_got, buf, (size_t)n);
			got += (uint64_t)n;
		} else if (n == 0) {
			end = true;
		}
		if (sent < total) {
			size_t want = MIN_OF(sizeof(buf), total - sent);
			pattern(buf, want, sent + 12345);
			n = send(s, buf, want, MSG_DONTWAIT | MSG_NOSIGNAL);
			if (n > 0) {
				sum_sent = mix(sum_sent, buf, (size_t)n);
				sent += (uint64_t)n;
				if (sent == total)
					assert_int_equal(shutdown(s, SHUT_WR), 0);
			}
		}
		drv_turn(&f->d);
		idle = sent + got + g->n_in == before ? idle + 1 : 0;
		assert_true(idle < 10000);
	}
	assert_int_equal(got, total);
	assert_int_equal(g->n_in, total);
	assert_int_equal(sum_got, g->sum_out);
	assert_int_equal(sum_sent, g->sum_in);
	close(s);
}

static void test_64_mib_both_ways(void **state)
{
	volume(*state, 64 << 20);
}

static void test_8_mib_without_event_idx(void **state)
{
	volume(*state, 8 << 20);
}

static void test_200_connections(void **state)
{
	struct fixture *f = *state;
	enum { N = 200, EACH = 80000 };
	int s[N], l = host_listen(f, 4000);
	struct gconn *g[N];
	static uint8_t buf[EACH];
	pattern(buf, sizeof(buf), 0);
	for (int i = 0; i < N; i++) {
		UNTIL(f, !drv_tx_full(&f->d));
		g[i] = g_connect(f, (uint32_t)(1000 + i), 4000);
	}
	for (int i = 0; i < N; i++) {
		UNTIL(f, g[i]->state == G_OPEN);
		s[i] = accept4(l, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		assert_true(s[i] >= 0);
	}
	for (int i = 0; i < N; i++)
		assert_int_equal(send(s[i], buf, EACH, 0), EACH);
	/*
	 * Fairness: they are served in turn, so the slowest is never far behind. (The loop reports 64 sockets
	 * a turn, of which each gets two of the 128 buffers until all are in line: hence the head start.)
	 */
	for (;;) {
		uint64_t lo = EACH, hi = 0;
		for (int i = 0; i < N; i++) {
			lo = MIN_OF(lo, g[i]->n_in);
			hi = MAX_OF(hi, g[i]->n_in);
		}
		if (lo == EACH)
			break;
		assert_true(hi - lo <= 9 * DRV_RX_PAYLOAD);
		drv_turn(&f->d);
	}
	for (int i = 0; i < N; i++) {
		assert_int_equal(g[i]->sum_in, mix(0, buf, EACH));
		close(s[i]);
	}
	for (int i = 0; i < N; i++) {
		UNTIL(f, g[i]->shut == VSOCK_SHUT_BOTH && !drv_tx_full(&f->d));
		g_send(f, g[i], VSOCK_OP_RST, NULL, 0, 0);
	}
	settle(f);
	assert_int_equal(f->v->n_conns, 0);
	close(l);
}

static void test_connection_limit(void **state)
{
	struct fixture *f = *state;
	struct rlimit lim; /* both ends of each connection are ours */
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &lim), 0);
	lim.rlim_cur = lim.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &lim), 0);
	if (lim.rlim_cur < 2 * VSOCK_CONNS_MAX + 100)
		skip();
	int l = host_listen(f, 4000);
	int s[VSOCK_CONNS_MAX];
	struct gconn *g = NULL;
	for (int i = 0; i < VSOCK_CONNS_MAX; i++) {
		UNTIL(f, !drv_tx_full(&f->d));
		g = g_connect(f, (uint32_t)(1000 + i), 4000);
		UNTIL(f, g->state == G_OPEN);
		s[i] = accept4(l, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (s[i] < 0)
			fail_msg("descriptor limit");
	}
	g = g_connect(f, 9999, 4000);
	UNTIL(f, g->rst);
	int t = host_client(f, "CONNECT 3\n");
	settle(f);
	assert_true(closed(t));
	close(t);
	for (int i = 0; i < VSOCK_CONNS_MAX; i++)
		close(s[i]);
	close(l);
}

static void test_many_host_clients_echo(void **state)
{
	struct fixture *f = *state;
	enum { N = 100 };
	int s[N];
	for (int i = 0; i < N; i++)
		s[i] = host_client(f, "CONNECT 1234\n");
	for (int i = 0; i < N; i++)
		UNTIL(f, strncmp(read_text(s[i]), "OK ", 3) == 0);
	for (unsigned i = 0; i < f->n_gc; i++) {
		f->gc[i].echo = true;
		for (unsigned j = 0; j < i; j++)
			assert_int_not_equal(f->gc[i].peer_port, f->gc[j].peer_port);
	}
	for (int round = 0; round < 10; round++) {
		for (int i = 0; i < N; i++) {
			char msg[32];
			snprintf(msg, sizeof(msg), "%d-%d", round, i);
			assert_int_equal(send(s[i], msg, strlen(msg), 0), strlen(msg));
			UNTIL(f, strcmp(read_text(s[i]), msg) == 0);
		}
	}
	for (int i = 0; i < N; i++)
		close(s[i]);
}

/* ---- resets of the device ---- */

static void connects_again(struct fixture *f)
{
	struct gconn *g;
	int s;
	pair(f, 777, &g, &s);
	g_send(f, g, VSOCK_OP_RW, "abc", 3, 0);
	settle(f);
	assert_string_equal(read_text(s), "abc");
	close(s);
}

static void test_driver_reset(void **state)
{
	struct fixture *f = *state;
	const uint16_t zero[2] = {0, 0};
	uint16_t base[2];
	struct gconn *g;
	int s;
	pair(f, 555, &g, &s);
	/* the last words are in the queue when the guest goes down */
	settle(f);
	f->d.mute = true;
	g_send(f, g, VSOCK_OP_RW, "last words", 10, 0);
	drv_stop_rings(&f->d, base);
	f->d.mute = false;
	assert_string_equal(read_text(s), "last words");
	drv_start_rings(&f->d, zero, true);
	f->n_gc = 0;
	settle(f);
	assert_true(at_eof(s));
	close(s);
	assert_int_equal(f->v->n_conns, 0);
	connects_again(f);
}

static void test_pause_keeps_streams(void **state)
{
	struct fixture *f = *state;
	uint16_t base[2];
	struct gconn *g;
	int s;
	pair(f, 555, &g, &s);
	drv_stop_rings(&f->d, base);
	assert_int_equal(send(s, "while paused", 12, 0), 12);
	settle(f);
	assert_int_equal(g->n_in, 0);
	drv_start_rings(&f->d, base, false);
	UNTIL(f, g->n_in == 12);
	g_send(f, g, VSOCK_OP_RW, "back", 4, 0);
	settle(f);
	assert_string_equal(read_text(s), "back");
	close(s);
}

static void test_front_end_dies_and_returns(void **state)
{
	struct fixture *f = *state;
	struct gconn *g;
	int s;
	pair(f, 555, &g, &s);
	for (int i = 0; i < 50; i++) { /* more than the socket takes */
		g_pump_out(f, g, 1 << 30);
		settle(f);
	}
	close_fd(&f->d.sock);
	settle(f);
	assert_int_equal(f->n_gone, 1);
	static uint8_t buf[65536];
	uint64_t got = 0;
	for (int i = 0; i < 1000; i++) {
		ssize_t n = recv(s, buf, sizeof(buf), MSG_DONTWAIT);
		got += n > 0 ? (uint64_t)n : 0;
		loop_turn(f->loop, 0);
	}
	assert_int_equal(got, g->n_out); /* all that it had sent */
	assert_true(at_eof(s));
	close(s);
	vhost_user_free(TAKE_PTR(f->u));
	drv_done(&f->d);
	attach(f);
	f->n_gc = 0;
	drv_boot(&f->d, true);
	connects_again(f);
}

static void test_client_before_guest(void **state)
{
	struct fixture *f = *state;
	vhost_user_free(TAKE_PTR(f->u));
	drv_done(&f->d);
	int s = host_client(f, "CONNECT 5\n");
	for (int i = 0; i < 10; i++)
		loop_turn(f->loop, 0);
	attach(f);
	drv_boot(&f->d, true);
	UNTIL(f, strncmp(read_text(s), "OK ", 3) == 0);
	close(s);
}

static void test_broken_queue(void **state)
{
	struct fixture *f = *state;
	const uint16_t zero[2] = {0, 0};
	uint16_t base[2];
	struct gconn *g;
	int s;
	pair(f, 555, &g, &s);
	memset(f->d.mem + f->d.q[1].avail + 2, 0x77, 2);
	uint64_t one = 1;
	assert_int_equal(write(f->d.q[1].kick, &one, 8), 8);
	settle(f);
	assert_true(at_eof(s));
	close(s);
	assert_int_equal(f->n_gone, 0);
	s = host_client(f, "CONNECT 5\n"); /* nobody can be reached until the reset */
	settle(f);
	assert_true(closed(s));
	close(s);
	drv_stop_rings(&f->d, base);
	drv_start_rings(&f->d, zero, true);
	f->n_gc = 0;
	settle(f);
	connects_again(f);
}

static void test_tiny_receive_buffer(void **state)
{
	struct fixture *f = *state;
	const uint16_t zero[2] = {0, 0};
	uint16_t base[2];
	drv_stop_rings(&f->d, base);
	drv_start_rings(&f->d, zero, true);
	for (unsigned i = 0; i < DRV_QSIZE; i++) {
		uint32_t len = VSOCK_HDR_SIZE;
		memcpy(f->d.mem + f->d.q[0].desc + 16 * (size_t)i + 8, &len, 4);
	}
	settle(f);
	int s = host_client(f, "CONNECT 5\n");
	settle(f);
	assert_true(f->v->dev.vqs[0].broken);
	close(s);
}

static void test_device_freed_first(void **state)
{
	struct fixture *f = *state;
	struct gconn *g;
	int s;
	pair(f, 555, &g, &s);
	vsock_free(TAKE_PTR(f->v));
	assert_true(at_eof(s));
	close(s);
	drv_send(&f->d, VHOST_USER_GET_FEATURES, 0, NULL, 0, NULL, 0);
	for (int i = 0; i < 10; i++)
		loop_turn(f->loop, 0);
	assert_int_equal(f->n_gone, 1);
}

/* ---- few wake-ups ---- */

static void test_notifications_are_few(void **state)
{
	struct fixture *f = *state;
	uint64_t kicks = f->d.n_kicks, calls = f->d.n_calls;
	volume(f, 16 << 20);
	/* 256 packets of 64 KiB out, 4,400 in, and their credit */
	assert_true(f->d.n_kicks - kicks < 2000);
	assert_true(f->d.n_calls - calls < 2000);
	/* and when all is quiet, nothing turns */
	settle(f);
	kicks = f->d.n_kicks;
	calls = f->d.n_calls;
	settle(f);
	assert_int_equal(f->d.n_kicks, kicks);
	assert_int_equal(f->d.n_calls, calls);
}

#define T(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_5_10_6_3_guest_overruns),
		T(test_5_10_6_3_credit_request),
		T(test_5_10_6_3_counters_wrap),
		T(test_5_10_6_3_credit_across_the_wrap),
		T(test_5_10_6_3_guest_lies),
		T(test_slow_guest),
		T(test_slow_host),
		T(test_64_mib_both_ways),
		cmocka_unit_test_setup_teardown(test_8_mib_without_event_idx, setup_flags, teardown),
		T(test_200_connections),
		T(test_connection_limit),
		T(test_many_host_clients_echo),
		T(test_driver_reset),
		T(test_pause_keeps_streams),
		T(test_front_end_dies_and_returns),
		T(test_client_before_guest),
		T(test_broken_queue),
		T(test_tiny_receive_buffer),
		T(test_device_freed_first),
		T(test_notifications_are_few),
	};
	return cmocka_run_group_tests_name("vsock-flow", tests, NULL, NULL);
}
