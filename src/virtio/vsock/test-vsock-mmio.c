/* SPDX-License-Identifier: MIT */
/* The vsock device over a transport in process: its event queue (5.10.6.7), and what a snapshot keeps of it. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cmocka.h>

#include "base/io.h"
#include "test-mmio-driver.h"
#include "vsock/internal.h"

struct fixture {
	char dir[64];
	int dirfd;
	struct loop *loop;
	struct vsock_dev *v;
	struct tdrv d;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	strcpy(f->dir, "/tmp/test-vsock-mmio-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	f->dirfd = open(f->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(loop_new(&f->loop), 0);
	assert_int_equal(vsock_new(f->loop, f->dirfd, &f->v), 0);
	tdrv_init(&f->d, f->loop, vsock_device(f->v));
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	tdrv_done(&f->d);
	vsock_free(f->v);
	loop_free(f->loop);
	close(f->dirfd);
	assert_int_equal(io_remove_tree_at(AT_FDCWD, f->dir), 0);
	free(f);
	return 0;
}

/* ---- helpers ---- */

static int unix_socket(struct fixture *f, const char *name, bool listener)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	snprintf(a.sun_path, sizeof(a.sun_path), "%s/%s", f->dir, name);
	if (listener) {
		assert_int_equal(bind(s, (struct sockaddr *)&a, sizeof(a)), 0);
		assert_int_equal(listen(s, 8), 0);
	} else {
		assert_int_equal(connect(s, (struct sockaddr *)&a, sizeof(a)), 0);
	}
	return s;
}

/* A buffer for the device to write to. */
static void *give(struct fixture *f, unsigned q, uint32_t len)
{
	void *host;
	const struct tdrv_buf b = {tdrv_alloc(&f->d, len, &host), len, true};
	tdrv_add(&f->d, q, &b, 1);
	return host;
}

static void send_packet(struct fixture *f, uint16_t op, uint32_t port, const char *text)
{
	struct vsock_hdr h = {.src_cid = VSOCK_GUEST_CID,
		.dst_cid = VSOCK_HOST_CID,
		.src_port = port,
		.dst_port = 4000,
		.len = (uint32_t)strlen(text),
		.type = VSOCK_TYPE_STREAM,
		.op = op,
		.buf_alloc = 65536};
	void *host;
	const struct tdrv_buf b = {
		tdrv_alloc(&f->d, sizeof(h) + h.len, &host), (uint32_t)sizeof(h) + h.len, false};
	memcpy(host, &h, sizeof(h));
	memcpy((uint8_t *)host + sizeof(h), text, h.len);
	tdrv_add(&f->d, VSOCK_TX, &b, 1);
	tdrv_kick(&f->d, VSOCK_TX);
}

static struct vsock_hdr receive(struct fixture *f, const void *buffer)
{
	struct vsock_hdr h;
	tdrv_kick(&f->d, VSOCK_RX);
	assert_int_equal(tdrv_wait(&f->d, VSOCK_RX, NULL), VSOCK_HDR_SIZE);
	memcpy(&h, buffer, sizeof(h));
	return h;
}

/* The same guest in front of a fresh device, as in another process. */
static void fresh_device(struct fixture *f)
{
	virtio_mmio_free(f->d.m);
	vsock_free(TAKE_PTR(f->v));
	assert_int_equal(vsock_new(f->loop, f->dirfd, &f->v), 0);
	f->d.dev = vsock_device(f->v);
	assert_int_equal(virtio_mmio_new(f->loop, f->d.dev, &f->d.mem, &f->d.m), 0);
}

static void suspend(struct fixture *f, struct virtio_mmio_state *s)
{
	assert_int_equal(virtio_mmio_suspend(f->d.m, s), 0);
}

/* ---- tests ---- */

static void s5_10_6_7_nothing_to_tell_in_ordinary_life(void **state)
{
	struct fixture *f = *state;
	struct virtio_mmio_state s;
	tdrv_start(&f->d, 0);
	give(f, VSOCK_EVENT, 8);
	tdrv_kick(&f->d, VSOCK_EVENT);
	tdrv_settle(&f->d);
	suspend(f, &s);
	assert_int_equal(virtio_mmio_resume(f->d.m), 0);
	tdrv_settle(&f->d);
	assert_false(tdrv_used(&f->d, VSOCK_EVENT, NULL, NULL));
}

static void s5_10_6_7_transport_reset_after_restore(void **state)
{
	for (int event_idx = 0; event_idx < 2; event_idx++) {
		struct fixture *f = *state;
		struct virtio_mmio_state s;
		tdrv_start(&f->d, event_idx ? VIRTIO_F_EVENT_IDX : 0);
		void *event = give(f, VSOCK_EVENT, 8);
		give(f, VSOCK_EVENT, 8);
		memset(event, 0xff, 8);
		suspend(f, &s);
		fresh_device(f);
		assert_int_equal(virtio_mmio_restore(f->d.m, &s), 0);
		assert_int_equal(tdrv_wait(&f->d, VSOCK_EVENT, NULL), 4);
		assert_memory_equal(event, "\0\0\0\0\xff\xff\xff\xff", 8);
		assert_true(tdrv_interrupted(&f->d));
		tdrv_settle(&f->d);
		assert_false(tdrv_used(&f->d, VSOCK_EVENT, NULL, NULL)); /* once */
	}
}

static void s5_10_6_7_the_event_waits_for_a_buffer(void **state)
{
	struct fixture *f = *state;
	struct virtio_mmio_state s;
	tdrv_start(&f->d, VIRTIO_F_EVENT_IDX);
	suspend(f, &s);
	fresh_device(f);
	assert_int_equal(virtio_mmio_restore(f->d.m, &s), 0);
	tdrv_settle(&f->d);
	/* also over another snapshot: it is told once more what was not told yet */
	suspend(f, &s);
	fresh_device(f);
	assert_int_equal(virtio_mmio_restore(f->d.m, &s), 0);
	tdrv_settle(&f->d);
	give(f, VSOCK_EVENT, 4);
	tdrv_kick(&f->d, VSOCK_EVENT);
	assert_int_equal(tdrv_wait(&f->d, VSOCK_EVENT, NULL), 4);
}

static void s5_10_6_7_a_driver_that_begins_anew_is_not_told(void **state)
{
	struct fixture *f = *state;
	struct virtio_mmio_state s;
	tdrv_start(&f->d, 0);
	suspend(f, &s);
	fresh_device(f);
	assert_int_equal(virtio_mmio_restore(f->d.m, &s), 0);
	tdrv_start(&f->d, 0);
	give(f, VSOCK_EVENT, 4);
	tdrv_kick(&f->d, VSOCK_EVENT);
	tdrv_settle(&f->d);
	assert_false(tdrv_used(&f->d, VSOCK_EVENT, NULL, NULL));
}

static void s5_10_6_7_an_event_buffer_too_small_breaks_the_device(void **state)
{
	struct fixture *f = *state;
	struct virtio_mmio_state s;
	tdrv_start(&f->d, 0);
	give(f, VSOCK_EVENT, 3);
	suspend(f, &s);
	fresh_device(f);
	assert_int_equal(virtio_mmio_restore(f->d.m, &s), 0);
	tdrv_expect_broken(&f->d);
	assert_true(f->v->dev.vqs[VSOCK_RX].broken);
}

/* What the guest wrote before the snapshot is delivered; then the connection ends with the process that held it. */
static void a_restore_drops_connections_and_delivers_first(void **state)
{
	struct fixture *f = *state;
	struct virtio_mmio_state s;
	char text[8] = "";
	int l = unix_socket(f, "vsock.sock_4000", true);
	tdrv_start(&f->d, 0);
	void *rx = give(f, VSOCK_RX, 4096);
	send_packet(f, VSOCK_OP_REQUEST, 77, "");
	assert_int_equal(receive(f, rx).op, VSOCK_OP_RESPONSE);
	int c = accept(l, NULL, NULL);
	send_packet(f, VSOCK_OP_RW, 77, "last");
	suspend(f, &s);
	assert_int_equal(recv(c, text, sizeof(text), MSG_DONTWAIT), 4);
	assert_string_equal(text, "last");
	fresh_device(f);
	assert_int_equal(recv(c, text, sizeof(text), MSG_DONTWAIT), 0);
	close(c);
	assert_int_equal(virtio_mmio_restore(f->d.m, &s), 0);
	assert_int_equal(f->v->n_conns, 0);
	/* 5.10.6.5: whoever still talks to it learns so */
	rx = give(f, VSOCK_RX, 4096);
	send_packet(f, VSOCK_OP_RW, 77, "what?");
	assert_int_equal(receive(f, rx).op, VSOCK_OP_RST);
	/* and a new one can be opened */
	rx = give(f, VSOCK_RX, 4096);
	send_packet(f, VSOCK_OP_REQUEST, 77, "");
	assert_int_equal(receive(f, rx).op, VSOCK_OP_RESPONSE);
	close(l);
}

static void resuming_keeps_connections(void **state)
{
	struct fixture *f = *state;
	struct virtio_mmio_state s;
	char text[8] = "";
	int l = unix_socket(f, "vsock.sock_4000", true);
	tdrv_start(&f->d, 0);
	void *rx = give(f, VSOCK_RX, 4096);
	send_packet(f, VSOCK_OP_REQUEST, 77, "");
	assert_int_equal(receive(f, rx).op, VSOCK_OP_RESPONSE);
	int c = accept(l, NULL, NULL);
	suspend(f, &s);
	assert_int_equal(send(c, "hello", 5, 0), 5);
	tdrv_settle(&f->d);
	rx = give(f, VSOCK_RX, 4096);
	assert_int_equal(virtio_mmio_resume(f->d.m), 0);
	assert_int_equal(tdrv_wait(&f->d, VSOCK_RX, NULL), VSOCK_HDR_SIZE + 5);
	assert_memory_equal((uint8_t *)rx + VSOCK_HDR_SIZE, "hello", 5);
	send_packet(f, VSOCK_OP_RW, 77, "world");
	tdrv_wait(&f->d, VSOCK_TX, NULL);
	tdrv_settle(&f->d);
	assert_int_equal(recv(c, text, sizeof(text), MSG_DONTWAIT), 5);
	close(c);
	close(l);
}

static void ports_of_the_host_go_on_where_they_stood(void **state)
{
	struct fixture *f = *state;
	struct virtio_mmio_state s;
	uint32_t port[2];
	for (int i = 0; i < 2; i++) {
		if (i == 0)
			tdrv_start(&f->d, 0);
		void *rx = give(f, VSOCK_RX, 4096);
		int c = unix_socket(f, "vsock.sock", false);
		assert_int_equal(send(c, "CONNECT 9\n", 10, 0), 10);
		struct vsock_hdr h = receive(f, rx);
		assert_int_equal(h.op, VSOCK_OP_REQUEST);
		port[i] = h.src_port;
		suspend(f, &s);
		close(c);
		fresh_device(f);
		assert_int_equal(virtio_mmio_restore(f->d.m, &s), 0);
	}
	assert_int_equal(port[1], port[0] + 1);
}

static void a_saved_state_is_not_trusted(void **state)
{
	struct fixture *f = *state;
	const struct virtio_device_ops *ops = f->d.dev->ops;
	struct vsock_saved s;
	assert_int_equal(ops->save(f->d.dev, &s), sizeof(s));
	assert_int_equal(ops->restore(f->d.dev, &s, sizeof(s)), 0);
	assert_int_equal(ops->restore(f->d.dev, &s, sizeof(s) - 1), -EINVAL);
	assert_int_equal(ops->restore(f->d.dev, &s, 0), -EINVAL);
	static const uint32_t ports[] = {0, 4000, VSOCK_FIRST_PORT - 1, UINT32_MAX};
	for (unsigned i = 0; i < ARRAY_LEN(ports); i++) {
		s.next_port = ports[i];
		assert_int_equal(ops->restore(f->d.dev, &s, sizeof(s)), -EINVAL);
	}
	assert_int_equal(f->v->next_port, VSOCK_FIRST_PORT);
	s = (struct vsock_saved){.version = VSOCK_SAVED_VERSION + 1, .next_port = VSOCK_FIRST_PORT};
	assert_int_equal(ops->restore(f->d.dev, &s, sizeof(s)), -EINVAL);
}

#define RULE(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		RULE(s5_10_6_7_nothing_to_tell_in_ordinary_life),
		RULE(s5_10_6_7_transport_reset_after_restore),
		RULE(s5_10_6_7_the_event_waits_for_a_buffer),
		RULE(s5_10_6_7_a_driver_that_begins_anew_is_not_told),
		RULE(s5_10_6_7_an_event_buffer_too_small_breaks_the_device),
		RULE(a_restore_drops_connections_and_delivers_first),
		RULE(resuming_keeps_connections),
		RULE(ports_of_the_host_go_on_where_they_stood),
		RULE(a_saved_state_is_not_trusted),
	};
	return cmocka_run_group_tests_name("vsock-mmio", tests, NULL, NULL);
}
