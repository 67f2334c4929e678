/* SPDX-License-Identifier: MIT */
/* Framed connections over a socket pair: order, back-pressure, and every way in which one may end. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "base/io.h"
#include "wire/conn.h"

enum { TURNS_MAX = 100000, NOT_ENDED = 1 };

struct fixture {
	struct loop *l;
	struct wire_conn *c;
	int peer;
	/* what the callbacks saw */
	unsigned frames, ends, written;
	uint64_t bytes;
	uint32_t last;
	int error;
	/* what they do */
	unsigned free_at, pause_at, fail_at; /* frame number, 0: never */
	bool pause_each, free_in_end, free_in_written, toggle;
};

static struct fixture f;

static int on_frame(void *data, struct wire_conn *c, const struct wire_frame *fr)
{
	assert_ptr_equal(data, &f);
	assert_int_equal(f.ends, 0);
	f.frames++;
	f.bytes += fr->len;
	if (fr->type == WIRE_EXIT)
		assert_int_equal(wire_get_u32(fr, &f.last), 0);
	if (f.frames == f.fail_at)
		return -EPROTO;
	if (f.frames == f.pause_at || f.pause_each)
		wire_conn_pause(c, true);
	if (f.toggle)
		wire_conn_pause(c, false);
	if (f.frames == f.free_at) {
		wire_conn_free(TAKE_PTR(f.c));
		/* The payload stays valid to the end of the call. */
		for (uint32_t i = 0; i < fr->len; i++)
			f.bytes += fr->payload[i];
	}
	return 0;
}

static void on_end(void *data, struct wire_conn *c, int error)
{
	f.ends++;
	f.error = error;
	assert_int_equal(wire_conn_pending(c), 0);
	if (f.free_in_end)
		wire_conn_free(TAKE_PTR(f.c));
}

static void on_written(void *data, struct wire_conn *c)
{
	f.written++;
	if (f.free_in_written)
		wire_conn_free(TAKE_PTR(f.c));
}

static const struct wire_conn_ops ops = {.on_frame = on_frame, .on_end = on_end, .on_written = on_written};

static int set_up(void **state)
{
	int pair[2];

	f = (struct fixture){.error = NOT_ENDED};
	if (loop_new(&f.l) < 0 ||
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return -1;
	f.peer = pair[1];
	return wire_conn_new(f.l, pair[0], &ops, &f, &f.c);
}

static int tear_down(void **state)
{
	wire_conn_free(f.c);
	close_fd(&f.peer);
	loop_free(f.l);
	return 0;
}

static void turns(int n)
{
	for (int i = 0; i < n; i++)
		assert_int_equal(loop_turn(f.l, 0), 0);
}

static void until_end(void)
{
	for (int i = 0; i < TURNS_MAX && !f.ends; i++)
		assert_int_equal(loop_turn(f.l, 1000), 0);
	assert_int_equal(f.ends, 1);
}

/* Without a signal, so that a SIGPIPE in these tests could only come from the connection. */
static ssize_t peer_write(const void *data, size_t len)
{
	return send(f.peer, data, len, MSG_NOSIGNAL);
}

/* Sends EXIT frames numbered from `from` to `to`. */
static void send_numbers(uint32_t from, uint32_t to)
{
	struct buf b = {0};

	for (uint32_t i = from; i <= to; i++)
		assert_int_equal(wire_put_u32(&b, WIRE_EXIT, i), 0);
	assert_int_equal(peer_write(buf_data(&b), b.len), b.len);
	buf_done(&b);
}

/* ---- reading ---- */

static void frames_are_handed_out_in_order(void **state)
{
	send_numbers(1, 100);
	assert_int_equal(f.frames, 0); /* nothing before the loop turns */
	turns(2);
	assert_int_equal(f.frames, 100);
	assert_int_equal(f.last, 100);
	assert_int_equal(f.ends, 0);
}

static void a_frame_may_arrive_byte_by_byte(void **state)
{
	struct buf b = {0};

	assert_int_equal(wire_put_u32(&b, WIRE_EXIT, 42), 0);
	for (size_t i = 0; i < b.len; i++) {
		turns(1);
		assert_int_equal(f.frames, 0);
		assert_int_equal(peer_write(buf_data(&b) + i, 1), 1);
	}
	turns(1);
	assert_int_equal(f.last, 42);
	buf_done(&b);
}

static void the_end_comes_after_the_last_frame(void **state)
{
	send_numbers(1, 3000);
	close_fd(&f.peer);
	until_end();
	assert_int_equal(f.frames, 3000);
	assert_int_equal(f.error, 0);
	turns(5);
	assert_int_equal(f.ends, 1);
}

static void a_frame_cut_by_the_end_is_a_protocol_error(void **state)
{
	assert_int_equal(peer_write("\x28\0\0\0\4\0", 6), 6);
	close_fd(&f.peer);
	until_end();
	assert_int_equal(f.frames, 0);
	assert_int_equal(f.error, -EBADMSG);
}

static void a_malformed_frame_ends_the_connection_at_once(void **state)
{
	send_numbers(1, 2);
	assert_int_equal(peer_write("\xee\0\0\0\0", 5), 5);
	send_numbers(3, 4);
	until_end();
	assert_int_equal(f.frames, 2);
	assert_int_equal(f.error, -EBADMSG);
	assert_int_equal(peer_write("x", 1), -1); /* it is closed, not only silent */
}

static void an_error_of_the_callback_ends_the_connection_with_it(void **state)
{
	f.fail_at = 2;
	send_numbers(1, 5);
	until_end();
	assert_int_equal(f.frames, 2);
	assert_int_equal(f.error, -EPROTO);
}

static void the_largest_message_comes_through_whole(void **state)
{
	struct buf b = {0};
	uint8_t *p = buf_reserve(&b, WIRE_HEADER_SIZE + WIRE_MESSAGE_MAX);

	assert_non_null(p);
	memset(p, 0, WIRE_HEADER_SIZE + WIRE_MESSAGE_MAX);
	memcpy(p, "\x20\0\x40\0\0", 5);
	buf_commit(&b, WIRE_HEADER_SIZE + WIRE_MESSAGE_MAX);
	for (int i = 0; i < TURNS_MAX && b.len; i++) {
		ssize_t n = peer_write(buf_data(&b), b.len);
		if (n > 0)
			buf_consume(&b, (size_t)n);
		turns(1);
	}
	turns(2);
	assert_int_equal(f.frames, 1);
	assert_int_equal(f.bytes, WIRE_MESSAGE_MAX);
	buf_done(&b);
}

/* ---- pausing ---- */

static void a_pause_holds_back_frames_that_were_already_read(void **state)
{
	f.pause_at = 3;
	send_numbers(1, 10);
	turns(5);
	assert_int_equal(f.frames, 3);
	wire_conn_pause(f.c, false);
	assert_int_equal(f.frames, 3); /* not from within the call */
	turns(1);
	assert_int_equal(f.frames, 10); /* though no new byte arrives */
}

static void the_end_waits_for_the_pause_to_be_over(void **state)
{
	f.pause_at = 3;
	send_numbers(1, 10);
	close_fd(&f.peer);
	turns(20);
	assert_int_equal(f.frames, 3);
	assert_int_equal(f.ends, 0);
	wire_conn_pause(f.c, false);
	until_end();
	assert_int_equal(f.frames, 10);
	assert_int_equal(f.error, 0);
}

static void a_peer_that_left_does_not_keep_a_paused_loop_busy(void **state)
{
	wire_conn_pause(f.c, true);
	close_fd(&f.peer);
	turns(3);
	uint64_t start = time_mono_ns();
	assert_int_equal(loop_turn(f.l, 30), 0);
	assert_true(time_mono_ns() - start >= 29000000); /* it waited: nothing is ready */
	wire_conn_pause(f.c, false);
	until_end();
	assert_int_equal(f.error, 0);
}

static void output_still_flows_while_paused(void **state)
{
	char got[16];

	wire_conn_pause(f.c, true);
	assert_int_equal(wire_put_u32(wire_conn_out(f.c), WIRE_EXIT, 1), 0);
	wire_conn_flush(f.c);
	assert_int_equal(read(f.peer, got, sizeof(got)), 9);
	assert_int_equal(wire_conn_pending(f.c), 0);
}

/* Sends as many small frames as the socket takes. Returns their number. */
static unsigned flood(void)
{
	static const uint8_t ping[WIRE_HEADER_SIZE] = {WIRE_PING};
	uint8_t many[1000 * sizeof(ping)];
	static size_t offset;
	size_t sent = 0;

	for (size_t i = 0; i < sizeof(many); i += sizeof(ping))
		memcpy(many + i, ping, sizeof(ping));
	if (f.frames == 0)
		offset = 0;
	for (;;) {
		ssize_t n = peer_write(many + offset, sizeof(many) - offset);
		if (n <= 0)
			break;
		sent += (size_t)n;
		offset = (offset + (size_t)n) % sizeof(many);
	}
	return (unsigned)(sent / sizeof(ping));
}

static void a_consumer_of_one_frame_at_a_time_is_not_read_ahead_of(void **state)
{
	unsigned sent = 0;

	f.pause_each = true;
	for (int i = 0; i < 500; i++) {
		sent += flood();
		wire_conn_pause(f.c, false);
		turns(1);
	}
	assert_true(f.frames >= 500);
	/* Buffered: what the socket holds, and a few reads. */
	assert_true((uint64_t)(sent - f.frames) * WIRE_HEADER_SIZE < 2 << 20);
}

static void pausing_and_resuming_inside_the_callback_keeps_the_order(void **state)
{
	f.toggle = f.pause_each = true;
	send_numbers(1, 500);
	turns(3);
	assert_int_equal(f.frames, 500);
	assert_int_equal(f.last, 500);
}

/* ---- freeing ---- */

static void a_connection_may_be_freed_inside_a_frame(void **state)
{
	f.free_at = 2;
	send_numbers(1, 5);
	turns(3);
	assert_int_equal(f.frames, 2);
	assert_int_equal(f.ends, 0);
	assert_int_equal(peer_write("x", 1), -1);
}

static void a_connection_may_be_freed_inside_its_end(void **state)
{
	f.free_in_end = true;
	send_numbers(1, 2);
	close_fd(&f.peer);
	until_end();
	assert_null(f.c);
	turns(3);
}

static void a_connection_may_be_freed_inside_written(void **state)
{
	static uint8_t data[WIRE_DATA_MAX];

	f.free_in_written = true;
	for (int i = 0; i < 32; i++)
		assert_int_equal(wire_put(wire_conn_out(f.c), WIRE_STDOUT, data, sizeof(data)), 0);
	wire_conn_flush(f.c);
	for (int i = 0; i < 100 && f.c; i++) {
		while (read(f.peer, data, sizeof(data)) > 0)
			;
		turns(1);
	}
	assert_null(f.c);
	assert_int_equal(f.written, 1);
}

static void a_freed_connection_closes_and_calls_nothing_more(void **state)
{
	char c;

	send_numbers(1, 3);
	wire_conn_free(TAKE_PTR(f.c));
	turns(3);
	assert_int_equal(f.frames + f.ends, 0);
	ssize_t n = read(f.peer, &c, 1);
	assert_true(n == 0 || (n < 0 && errno == ECONNRESET));
	wire_conn_free(NULL);
}

static void an_ended_connection_ignores_output_and_pauses(void **state)
{
	close_fd(&f.peer);
	until_end();
	assert_int_equal(wire_put_u32(wire_conn_out(f.c), WIRE_EXIT, 1), 0);
	assert_int_equal(wire_conn_pending(f.c), 0);
	wire_conn_flush(f.c);
	wire_conn_pause(f.c, true);
	wire_conn_pause(f.c, false);
	turns(2);
	assert_int_equal(f.ends, 1);
}

static void a_descriptor_that_is_no_socket_is_refused_and_closed(void **state)
{
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	struct wire_conn *c = NULL;

	assert_int_equal(wire_conn_new(f.l, fd, &ops, &f, &c), -EPERM);
	assert_null(c);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
}

/* ---- writing ---- */

static void a_large_backlog_is_written_as_the_peer_reads(void **state)
{
	enum { FRAMES = 128 };
	static uint8_t data[WIRE_DATA_MAX];
	struct buf got = {0};
	struct wire_frame fr;
	unsigned n = 0;

	for (unsigned i = 0; i < FRAMES; i++) {
		memset(data, (int)i, sizeof(data));
		assert_int_equal(wire_put(wire_conn_out(f.c), WIRE_STDOUT, data, sizeof(data)), 0);
		wire_conn_flush(f.c);
	}
	assert_true(wire_conn_pending(f.c) > FRAMES / 2 * sizeof(data));
	for (int i = 0; i < TURNS_MAX && n < FRAMES; i++) {
		uint8_t *p = buf_reserve(&got, 100000);
		ssize_t r = read(f.peer, p, 100000);
		if (r > 0)
			buf_commit(&got, (size_t)r);
		while (wire_next(&got, &fr) == 1) {
			assert_int_equal(fr.len, sizeof(data));
			assert_int_equal(fr.payload[0], n);
			assert_int_equal(fr.payload[fr.len - 1], n);
			wire_consume(&got, &fr);
			n++;
		}
		turns(1);
	}
	assert_int_equal(n, FRAMES);
	assert_int_equal(wire_conn_pending(f.c), 0);
	assert_true(f.written > 0);
	buf_done(&got);
}

/* The peer's last frames are read though writing to it already fails; no SIGPIPE. */
static void a_peer_that_closes_with_data_pending_loses_none_of_what_it_sent(void **state)
{
	send_numbers(1, 50);
	close_fd(&f.peer);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(wire_put_u32(wire_conn_out(f.c), WIRE_EXIT, 1), 0);
		wire_conn_flush(f.c);
	}
	assert_int_equal(wire_conn_pending(f.c), 0);
	assert_int_equal(f.frames, 0); /* told later, not from within flush */
	assert_int_equal(f.ends, 0);
	until_end();
	assert_int_equal(f.frames, 50);
	assert_int_equal(f.error, 0);
}

static void a_peer_that_closes_without_reading_is_an_ordinary_end(void **state)
{
	send_numbers(1, 5);
	assert_int_equal(wire_put_u32(wire_conn_out(f.c), WIRE_EXIT, 1), 0);
	wire_conn_flush(f.c);
	close_fd(&f.peer); /* with our frame unread: the kernel reports a reset */
	until_end();
	assert_int_equal(f.frames, 5);
	assert_int_equal(f.error, 0);
}

static void a_peer_that_only_stops_sending_still_ends_the_connection(void **state)
{
	send_numbers(1, 5);
	assert_int_equal(shutdown(f.peer, SHUT_WR), 0);
	until_end();
	assert_int_equal(f.frames, 5);
	assert_int_equal(f.error, 0);
}

static void a_peer_that_leaves_while_output_waits_ends_the_connection(void **state)
{
	static uint8_t data[WIRE_DATA_MAX];

	for (int i = 0; i < 32; i++)
		assert_int_equal(wire_put(wire_conn_out(f.c), WIRE_STDOUT, data, sizeof(data)), 0);
	wire_conn_flush(f.c);
	assert_true(wire_conn_pending(f.c) > 0);
	turns(2);
	close_fd(&f.peer);
	until_end();
	assert_int_equal(wire_conn_pending(f.c), 0);
	assert_int_equal(f.error, 0);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(frames_are_handed_out_in_order),
		TEST(a_frame_may_arrive_byte_by_byte),
		TEST(the_end_comes_after_the_last_frame),
		TEST(a_frame_cut_by_the_end_is_a_protocol_error),
		TEST(a_malformed_frame_ends_the_connection_at_once),
		TEST(an_error_of_the_callback_ends_the_connection_with_it),
		TEST(the_largest_message_comes_through_whole),
		TEST(a_pause_holds_back_frames_that_were_already_read),
		TEST(the_end_waits_for_the_pause_to_be_over),
		TEST(a_peer_that_left_does_not_keep_a_paused_loop_busy),
		TEST(output_still_flows_while_paused),
		TEST(a_consumer_of_one_frame_at_a_time_is_not_read_ahead_of),
		TEST(pausing_and_resuming_inside_the_callback_keeps_the_order),
		TEST(a_connection_may_be_freed_inside_a_frame),
		TEST(a_connection_may_be_freed_inside_its_end),
		TEST(a_connection_may_be_freed_inside_written),
		TEST(a_freed_connection_closes_and_calls_nothing_more),
		TEST(an_ended_connection_ignores_output_and_pauses),
		TEST(a_descriptor_that_is_no_socket_is_refused_and_closed),
		TEST(a_large_backlog_is_written_as_the_peer_reads),
		TEST(a_peer_that_closes_with_data_pending_loses_none_of_what_it_sent),
		TEST(a_peer_that_closes_without_reading_is_an_ordinary_end),
		TEST(a_peer_that_only_stops_sending_still_ends_the_connection),
		TEST(a_peer_that_leaves_while_output_waits_ends_the_connection),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
