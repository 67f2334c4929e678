/* SPDX-License-Identifier: MIT */
/* The vsock device (virtio 1.2 section 5.10): connecting, stray packets, ends of connections. */
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "vsock/test-guest.h"

/* ---- 5.10.4, 5.10.3 ---- */

static void test_5_10_4_config(void **state)
{
	struct fixture *f = *state;
	struct vhost_user_config c = {.size = 8};
	drv_send(&f->d, VHOST_USER_GET_CONFIG, 0, &c, 12 + 8, NULL, 0);
	assert_int_equal(drv_recv(&f->d, VHOST_USER_GET_CONFIG, &c, sizeof(c)), 20);
	assert_memory_equal(c.data, "\3\0\0\0\0\0\0\0", 8);
	/* 2.2: what the device may rely on; the front end's own bits are not the device's */
	assert_int_equal(
		f->v->dev.negotiated, VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX);
}

/* ---- connecting, 5.10.6.5 ---- */

static void test_host_connects(void **state)
{
	struct fixture *f = *state;
	int s = host_client(f, "CONNECT 1234\n1\n2\n3"); /* what follows the line is data */
	UNTIL(f, f->n_gc == 1 && f->gc[0].n_in == 5);
	assert_int_equal(f->gc[0].port, 1234);
	assert_true(f->gc[0].peer_port >= 1U << 30);
	assert_memory_equal(f->gc[0].last, "1\n2\n3", 5);
	char want[32];
	snprintf(want, sizeof(want), "OK %u\n", f->gc[0].peer_port);
	assert_string_equal(read_text(s), want);
	g_send(f, &f->gc[0], VSOCK_OP_RW, "world", 5, 0);
	settle(f);
	assert_string_equal(read_text(s), "world");
	close(s);
}

static void test_host_refused(void **state)
{
	struct fixture *f = *state;
	f->listen = false;
	int s = host_client(f, "CONNECT 1234\n");
	UNTIL(f, at_eof(s));
	close(s);
	assert_int_equal(f->v->n_conns, 0);
}

static void test_bad_lines(void **state)
{
	static const char *const bad[] = {"\n", "CONNECT\n", "CONNECT \n", "CONNECT x\n", "CONNECT -1\n",
		"connect 1\n", "CONNECT 4294967295\n", "CONNECT 99999999999\n", "CONNECT 1 \n",
		"CONNECT 1\r\n", "GET / HTTP/1.1\r\n\r\n",
		"CONNECT 00000000000000000000000000000000000000001\n",
		"                                        "};
	struct fixture *f = *state;
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		int s = host_client(f, bad[i]);
		settle(f);
		assert_true(closed(s));
		close(s);
	}
	assert_int_equal(f->n_gc, 0);
	assert_int_equal(f->v->n_conns, 0);
}

static void test_line_in_pieces(void **state)
{
	struct fixture *f = *state;
	const char *line = "CONNECT 77\n";
	int s = host_client(f, NULL);
	for (const char *p = line; *p; p++) {
		settle(f);
		assert_int_equal(f->n_gc, 0);
		assert_int_equal(send(s, p, 1, 0), 1);
	}
	UNTIL(f, f->n_gc == 1);
	close(s);
	int t = host_client(f, "CONN"); /* leaves in the middle */
	settle(f);
	close(t);
	settle(f);
	assert_int_equal(f->v->n_waiting, 0);
}

static void test_silent_clients_time_out(void **state)
{
	struct fixture *f = *state;
	vsock_set_limits(f->v, 1000000, 1000000, 1000000);
	f->d.hold_rx = true; /* the guest does not answer either */
	int s = host_client(f, NULL), t = host_client(f, "CONNECT 5\n");
	settle(f);
	for (int i = 0; i < 1000 && f->v->n_waiting; i++)
		loop_turn(f->loop, 1); /* sleeps for the timer, which is what is tested */
	assert_int_equal(f->v->n_waiting, 0);
	assert_true(at_eof(s));
	assert_true(at_eof(t));
	close(s);
	close(t);
}

static void test_pending_clients_bounded(void **state)
{
	struct fixture *f = *state;
	enum { N = VSOCK_CONNECTING_MAX + 40 };
	int s[N];
	for (int i = 0; i < N; i++)
		s[i] = host_client(f, NULL);
	settle(f);
	assert_int_equal(f->v->n_waiting, VSOCK_CONNECTING_MAX);
	for (int i = 0; i < N; i++)
		assert_int_equal(send(s[i], "CONNECT 9\n", 10, 0), 10);
	UNTIL(f, f->n_gc == N);
	for (int i = 0; i < N; i++) {
		UNTIL(f, strncmp(read_text(s[i]), "OK ", 3) == 0);
		close(s[i]);
	}
}

static void test_host_leaves_while_asking(void **state)
{
	struct fixture *f = *state;
	f->d.hold_rx = true;
	int s = host_client(f, "CONNECT 9\n");
	settle(f);
	close(s);
	settle(f);
	f->d.hold_rx = false;
	uint64_t one = 1;
	assert_int_equal(write(f->d.q[0].call, &one, 8), 8);
	UNTIL(f, f->n_gc == 1 && f->gc[0].rst);
	settle(f);
	assert_int_equal(f->v->n_conns, 0);
}

static void test_guest_connects(void **state)
{
	struct fixture *f = *state;
	struct gconn *g;
	int s;
	pair(f, 555, &g, &s);
	g_send(f, g, VSOCK_OP_RW, "abc", 3, 0);
	settle(f);
	assert_string_equal(read_text(s), "abc");
	assert_int_equal(send(s, "de", 2, 0), 2);
	UNTIL(f, g->n_in == 2);
	close(s);
}

static void test_guest_refused(void **state)
{
	struct fixture *f = *state;
	struct gconn *g = g_connect(f, 555, 4001);
	UNTIL(f, g->rst);
	assert_int_equal(f->v->n_conns, 0);
}

static void test_long_folder_path(void **state)
{
	struct fixture *f = *state;
	char path[512];
	int len = snprintf(path, sizeof(path), "%s", f->dir);
	for (int i = 0; i < 3; i++) {
		len += snprintf(path + len, sizeof(path) - (size_t)len, "/%060d", 0);
		assert_int_equal(mkdir(path, 0700), 0);
	}
	int dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct vsock_dev *v, *w;
	struct stat st;
	assert_int_equal(vsock_new(f->loop, dirfd, &v), 0);
	assert_int_equal(fstatat(dirfd, "vsock.sock", &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	/* a stale socket is replaced, a file is not */
	assert_int_equal(vsock_new(f->loop, dirfd, &w), 0);
	vsock_free(w);
	vsock_free(v);
	assert_int_equal(fstatat(dirfd, "vsock.sock", &st, 0), -1);
	close(openat(dirfd, "vsock.sock", O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	assert_int_equal(vsock_new(f->loop, dirfd, &v), -EADDRINUSE);
	assert_int_equal(fstatat(dirfd, "vsock.sock", &st, 0), 0);
	close(dirfd);
}

/* ---- packets that belong nowhere, 5.10.6.2, 5.10.6.4 ---- */

static void test_5_10_6_4_unknown_type(void **state)
{
	struct fixture *f = *state;
	struct vsock_hdr h = {
		.src_cid = 3, .dst_cid = 2, .src_port = 1, .dst_port = 2, .type = 2, .op = VSOCK_OP_REQUEST};
	drv_tx(&f->d, &h, NULL, 0, false);
	UNTIL(f, f->n_stray_rst == 1);
	assert_int_equal(f->last_hdr.type, 2);
	assert_int_equal(f->last_hdr.src_port, 2);
	assert_int_equal(f->last_hdr.dst_port, 1);
}

static void test_5_10_6_4_wrong_cid(void **state)
{
	struct fixture *f = *state;
	struct vsock_hdr h = {
		.src_cid = 4, .dst_cid = 2, .src_port = 1, .dst_port = 2, .type = 1, .op = VSOCK_OP_REQUEST};
	drv_tx(&f->d, &h, NULL, 0, false);
	h.src_cid = 3;
	h.dst_cid = 1;
	drv_tx(&f->d, &h, NULL, 0, false);
	h.dst_cid = 2ULL | 1ULL << 32;
	drv_tx(&f->d, &h, NULL, 0, false);
	settle(f);
	assert_int_equal(f->n_stray_rst, 0);
}

static void test_5_10_6_5_no_connection(void **state)
{
	struct fixture *f = *state;
	struct vsock_hdr h = {.src_cid = 3, .dst_cid = 2, .src_port = 1, .dst_port = 2, .type = 1};
	for (uint16_t op = 0; op < 10; op++) {
		h.op = op;
		drv_tx(&f->d, &h, NULL, 0, op & 1);
	}
	settle(f);
	assert_int_equal(f->n_stray_rst, 9); /* not for RST */
}

static void test_5_10_6_len_longer_than_buffers(void **state)
{
	struct fixture *f = *state;
	struct gconn *g;
	int s;
	pair(f, 555, &g, &s);
	struct vsock_hdr h = {.src_cid = 3,
		.dst_cid = 2,
		.src_port = 555,
		.dst_port = 4000,
		.len = 100,
		.type = 1,
		.op = VSOCK_OP_RW};
	drv_tx(&f->d, &h, "short", 5, true);
	UNTIL(f, g->rst);
	h.src_port = 556;
	drv_tx(&f->d, &h, "short", 5, false);
	UNTIL(f, f->n_stray_rst == 1);
	settle(f);
	assert_true(at_eof(s));
	close(s);
}

static void test_5_10_6_len_shorter_than_buffers(void **state)
{
	struct fixture *f = *state;
	struct gconn *g;
	int s;
	pair(f, 555, &g, &s);
	struct vsock_hdr h = {.src_cid = 3,
		.dst_cid = 2,
		.src_port = 555,
		.dst_port = 4000,
		.len = 3,
		.type = 1,
		.op = VSOCK_OP_RW};
	drv_tx(&f->d, &h, "abcdef", 6, true);
	settle(f);
	assert_string_equal(read_text(s), "abc");
	close(s);
}

static void test_5_10_6_1_rx_stalled(void **state)
{
	struct fixture *f = *state;
	struct vsock_hdr h = {
		.src_cid = 3, .dst_cid = 2, .src_port = 1, .dst_port = 2, .type = 1, .op = VSOCK_OP_RW};
	unsigned sent = 0;
	f->d.hold_rx = true;
	for (int i = 0; i < 100; i++) {
		while (drv_tx(&f->d, &h, NULL, 0, false))
			sent++;
		drv_turn(&f->d);
	}
	/* receive buffers, waiting resets, then the tx queue fills up and stays */
	assert_int_equal(sent, DRV_QSIZE + VSOCK_STRAY_MAX + DRV_QSIZE / 2);
	assert_int_equal(f->v->n_stray, VSOCK_STRAY_MAX);
	f->d.hold_rx = false;
	UNTIL(f, f->n_stray_rst == sent);
	/* and goes on */
	assert_true(drv_tx(&f->d, &h, NULL, 0, false));
	UNTIL(f, f->n_stray_rst == sent + 1);
}

/* ---- ends of connections ---- */

static void test_half_close_by_guest(void **state)
{
	struct fixture *f = *state;
	struct gconn *g;
	int s;
	pair(f, 555, &g, &s);
	g_send(f, g, VSOCK_OP_RW, "last", 4, 0);
	g_send(f, g, VSOCK_OP_SHUTDOWN, NULL, 0, VSOCK_SHUT_SEND);
	settle(f);
	assert_string_equal(read_text(s), "last");
	assert_true(at_eof(s));
	/* the other direction lives */
	assert_int_equal(send(s, "answer", 6, MSG_NOSIGNAL), 6);
	UNTIL(f, g->n_in == 6);
	assert_int_equal(shutdown(s, SHUT_WR), 0);
	UNTIL(f, g->shut == VSOCK_SHUT_BOTH); /* both ended: asks for the last RST */
	assert_int_equal(g->state, G_OPEN);
	g_send(f, g, VSOCK_OP_RST, NULL, 0, 0);
	settle(f);
	assert_int_equal(f->v->n_conns, 0);
	assert_int_equal(f->n_stray_rst, 0);
	close(s);
}

static void test_half_close_by_host(void **state)
{
	struct fixture *f = *state;
	struct gconn *g;
	int s;
	pair(f, 555, &g, &s);
	assert_int_equal(send(s, "last", 4, 0), 4);
	assert_int_equal(shutdown(s, SHUT_WR), 0);
	UNTIL(f, g->shut);
	assert_int_equal(g->n_in, 4);
	assert_int_equal(g->shut, VSOCK_SHUT_SEND);
	g_send(f, g, VSOCK_OP_RW, "answer", 6, 0);
	settle(f);
	assert_string_equal(read_text(s), "answer");
	/* the guest closes: 5.10.6.5, both flags, answered by RST */
	g_send(f, g, VSOCK_OP_SHUTDOWN, NULL, 0, VSOCK_SHUT_BOTH);
	UNTIL(f, g->rst);
	assert_true(at_eof(s));
	assert_int_equal(f->v->n_conns, 0);
	close(s);
}

static void test_guest_stops_receiving(void **state)
{
	struct fixture *f = *state;
	struct gconn *g;
	int s;
	pair(f, 555, &g, &s);
	g_send(f, g, VSOCK_OP_SHUTDOWN, NULL, 0, VSOCK_SHUT_RCV);
	settle(f);
	assert_int_equal(send(s, "x", 1, MSG_NOSIGNAL), -1);
	assert_int_equal(errno, EPIPE);
	g_send(f, g, VSOCK_OP_RW, "still", 5, 0);
	settle(f);
	assert_string_equal(read_text(s), "still");
	/* hints are permanent and add up */
	g_send(f, g, VSOCK_OP_SHUTDOWN, NULL, 0, VSOCK_SHUT_SEND);
	UNTIL(f, g->rst);
	assert_true(at_eof(s));
	close(s);
}

static void test_host_closes(void **state)
{
	struct fixture *f = *state;
	struct gconn *g;
	int s;
	pair(f, 555, &g, &s);
	assert_int_equal(send(s, "bye", 3, 0), 3);
	close(s);
	UNTIL(f, g->shut == VSOCK_SHUT_BOTH);
	assert_int_equal(g->n_in, 3);
	/* what the guest sends meanwhile is consumed, not held */
	for (int i = 0; i < 100; i++) {
		g_send(f, g, VSOCK_OP_RW, "xxxxxxxxxx", 10, 0);
		settle(f);
	}
	assert_int_equal(g->state, G_OPEN);
	g_send(f, g, VSOCK_OP_RST, NULL, 0, 0);
	settle(f);
	assert_int_equal(f->v->n_conns, 0);
}

static void test_host_closes_with_data_under_way(void **state)
{
	struct fixture *f = *state;
	struct gconn *g;
	uint8_t buf[100000];
	int s;
	pair(f, 555, &g, &s);
	g->hold = true;
	g->buf_alloc = 4096;
	g_send(f, g, VSOCK_OP_CREDIT_UPDATE, NULL, 0, 0);
	settle(f);
	pattern(buf, sizeof(buf), 0);
	size_t n = (size_t)send(s, buf, sizeof(buf), MSG_DONTWAIT);
	close(s);
	settle(f);
	assert_int_equal(g->n_in, 4096);
	assert_int_equal(g->shut, 0); /* the end comes behind the last byte */
	while (g->n_in < n) {
		uint64_t before = g->n_in;
		g->fwd_cnt = g->rx_cnt;
		g_send(f, g, VSOCK_OP_CREDIT_UPDATE, NULL, 0, 0);
		UNTIL(f, g->n_in > before);
		settle(f);
	}
	UNTIL(f, g->shut == VSOCK_SHUT_BOTH);
	assert_int_equal(g->sum_in, mix(0, buf, n));
}

static void test_guest_closes_with_data_queued(void **state)
{
	struct fixture *f = *state;
	struct gconn *g;
	int s;
	pair(f, 555, &g, &s);
	/* as much as credit allows, to a host that does not read: stays queued in the device */
	for (int i = 0; i < 100; i++) {
		g_pump_out(f, g, 1 << 30);
		settle(f);
	}
	assert_int_equal(g_credit(g), 0);
	g_send(f, g, VSOCK_OP_SHUTDOWN, NULL, 0, VSOCK_SHUT_BOTH);
	settle(f);
	assert_int_equal(g->state, G_OPEN);	/* no RST before the last byte is delivered */
	g_send(f, g, VSOCK_OP_RST, NULL, 0, 0); /* the guest is tired of waiting */
	settle(f);
	g->state = G_CLOSED;
	static uint8_t buf[65536];
	uint64_t got = 0, sum = 0;
	for (int i = 0; i < 10000; i++) {
		ssize_t n = recv(s, buf, sizeof(buf), MSG_DONTWAIT);
		if (n == 0)
			break;
		if (n > 0) {
			sum = mix(sum, buf, (size_t)n);
			got += (uint64_t)n;
		}
		drv_turn(&f->d);
	}
	assert_int_equal(got, g->n_out);
	assert_int_equal(sum, g->sum_out);
	assert_true(at_eof(s));
	assert_int_equal(f->v->n_conns, 0);
	close(s);
}

static void test_clean_end_without_reset(void **state)
{
	struct fixture *f = *state;
	struct gconn *g;
	int s;
	pair(f, 555, &g, &s);
	g->hold = true;
	g->buf_alloc = 0;
	g_send(f, g, VSOCK_OP_CREDIT_UPDATE, NULL, 0, 0);
	settle(f);
	assert_int_equal(send(s, "unread", 6, 0), 6);
	g_send(f, g, VSOCK_OP_RW, "result", 6, 0);
	g_send(f, g, VSOCK_OP_SHUTDOWN, NULL, 0, VSOCK_SHUT_BOTH);
	UNTIL(f, g->rst);
	assert_string_equal(read_text(s), "result");
	assert_true(at_eof(s)); /* not ECONNRESET, although nobody read what we sent */
	close(s);
}

static void test_guest_resets(void **state)
{
	struct fixture *f = *state;
	struct gconn *g;
	int s;
	pair(f, 555, &g, &s);
	g_send(f, g, VSOCK_OP_RW, "x", 1, 0);
	g_send(f, g, VSOCK_OP_RST, NULL, 0, 0);
	g->state = G_CLOSED;
	settle(f);
	assert_string_equal(read_text(s), "x");
	assert_true(at_eof(s));
	assert_int_equal(f->v->n_conns, 0);
	assert_int_equal(f->n_stray_rst, 0); /* a reset is not answered */
	close(s);
}

static void test_port_reuse(void **state)
{
	struct fixture *f = *state;
	for (int i = 0; i < 50; i++) {
		struct gconn *g;
		int s;
		pair(f, 555, &g, &s);
		g_send(f, g, VSOCK_OP_SHUTDOWN, NULL, 0, VSOCK_SHUT_BOTH);
		UNTIL(f, g->rst);
		assert_true(at_eof(s));
		close(s);
		assert_int_equal(f->v->n_conns, 0);
	}
}

static void test_request_on_connected(void **state)
{
	struct fixture *f = *state;
	static const uint16_t bad[] = {VSOCK_OP_REQUEST, VSOCK_OP_RESPONSE, 0, 8, 999};
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		struct gconn *g;
		int s;
		pair(f, 555, &g, &s);
		g_send(f, g, bad[i], NULL, 0, 0);
		UNTIL(f, g->rst);
		assert_true(at_eof(s));
		close(s);
	}
}

static void test_data_after_fin(void **state)
{
	struct fixture *f = *state;
	struct gconn *g;
	int s;
	pair(f, 555, &g, &s);
	g_send(f, g, VSOCK_OP_SHUTDOWN, NULL, 0, VSOCK_SHUT_SEND);
	g_send(f, g, VSOCK_OP_RW, "x", 1, 0);
	UNTIL(f, g->rst);
	close(s);
}

#define T(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_5_10_4_config),
		T(test_host_connects),
		T(test_host_refused),
		T(test_bad_lines),
		T(test_line_in_pieces),
		T(test_silent_clients_time_out),
		T(test_pending_clients_bounded),
		T(test_host_leaves_while_asking),
		T(test_guest_connects),
		T(test_guest_refused),
		T(test_long_folder_path),
		T(test_5_10_6_4_unknown_type),
		T(test_5_10_6_4_wrong_cid),
		T(test_5_10_6_5_no_connection),
		T(test_5_10_6_len_longer_than_buffers),
		T(test_5_10_6_len_shorter_than_buffers),
		T(test_5_10_6_1_rx_stalled),
		T(test_half_close_by_guest),
		T(test_half_close_by_host),
		T(test_guest_stops_receiving),
		T(test_host_closes),
		T(test_host_closes_with_data_under_way),
		T(test_guest_closes_with_data_queued),
		T(test_clean_end_without_reset),
		T(test_guest_resets),
		T(test_port_reuse),
		T(test_request_on_connected),
		T(test_data_after_fin),
	};
	return cmocka_run_group_tests_name("vsock", tests, NULL, NULL);
}
