/* SPDX-License-Identifier: MIT */
/* The vhost-user back end, against a front end that is right, wrong or malicious. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "test-driver.h"
#include "virtio/vhost-user.h"

/* A device that takes every chain of queue 1 and counts what happens to it. */
struct probe {
	struct virtio_device dev;
	int started[2], stopping[2], notified[2], resets;
	unsigned taken;
	bool keep; /* the first chain is kept until the queue stops, and written to then */
	struct vq_chain chain;
};

struct fixture {
	struct loop *loop;
	struct probe p;
	struct vhost_user *u;
	struct drv d;
	int n_gone;
	const char *why;
	bool free_in_gone;
	int n_fds; /* open before the test */
};

static int count_fds(void)
{
	int n = 0;
	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void take(struct probe *p)
{
	int r;
	if (p->keep) {
		p->taken += vq_pop(&p->dev.vqs[1], &p->chain) > 0;
		return;
	}
	while ((r = vq_pop(&p->dev.vqs[1], &p->chain)) > 0) {
		p->taken++;
		vq_push(&p->dev.vqs[1], p->chain.head, 0);
	}
	if (r < 0)
		p->dev.transport_ops->needs_reset(p->dev.transport, 1, p->dev.vqs[1].why);
	if (vq_should_notify(&p->dev.vqs[1]))
		p->dev.transport_ops->notify_driver(p->dev.transport, 1);
}

static void probe_config(struct virtio_device *d, uint32_t off, void *buf, uint32_t len)
{
	uint8_t *b = buf;
	for (uint32_t i = 0; i < len; i++)
		b[i] = off + i < 8 ? (uint8_t)(0xa0 + off + i) : 0;
}

static void probe_started(struct virtio_device *d, unsigned q)
{
	((struct probe *)d)->started[q]++;
}

static void probe_stopping(struct virtio_device *d, unsigned q)
{
	struct probe *p = (struct probe *)d;
	p->stopping[q]++;
	if (q == 1 && p->keep && p->taken) {
		/* Its memory is still there. */
		assert_int_equal(iov_write(p->chain.iov, p->chain.n_out, 0, "y", 1), 1);
		vq_push(&p->dev.vqs[1], p->chain.head, 0);
		p->keep = false;
	}
	if (q == 1)
		take(p);
}

static void probe_notify(struct virtio_device *d, unsigned q)
{
	((struct probe *)d)->notified[q]++;
	if (q == 1)
		take((struct probe *)d);
}

static void probe_reset(struct virtio_device *d)
{
	((struct probe *)d)->resets++;
}

static const struct virtio_device_ops probe_ops = {
	.read_config = probe_config,
	.queue_started = probe_started,
	.queue_stopping = probe_stopping,
	.queue_notify = probe_notify,
	.reset = probe_reset,
};

static void on_gone(void *data, const char *reason)
{
	struct fixture *f = data;
	f->n_gone++;
	f->why = reason;
	if (f->free_in_gone)
		vhost_user_free(TAKE_PTR(f->u));
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	int sv[2];

	f->n_fds = count_fds();
	assert_int_equal(loop_new(&f->loop), 0);
	f->p.dev = (struct virtio_device){.ops = &probe_ops,
		.id = VIRTIO_ID_VSOCK,
		.features = VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX,
		.n_queues = 3};
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	assert_int_equal(vhost_user_new(f->loop, &f->p.dev, 2, sv[0], on_gone, f, &f->u), 0);
	drv_init(&f->d, f->loop, sv[1]);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	vhost_user_free(f->u);
	assert_null(f->p.dev.transport_ops);
	drv_done(&f->d);
	loop_free(f->loop);
	assert_int_equal(count_fds(), f->n_fds); /* whatever was passed has been closed */
	free(f);
	return 0;
}

static void turns(struct fixture *f)
{
	for (int i = 0; i < 10; i++)
		loop_turn(f->loop, 0);
}

static void assert_gone(struct fixture *f)
{
	char c;
	turns(f);
	assert_int_equal(f->n_gone, 1);
	assert_non_null(f->why);
	assert_true(recv(f->d.sock, &c, 1, MSG_DONTWAIT) <= 0);
	assert_false(vq_usable(&f->p.dev.vqs[0]));
	assert_false(vq_usable(&f->p.dev.vqs[1]));
}

static void test_negotiation(void **state)
{
	struct fixture *f = *state;
	drv_negotiate(&f->d, true);
	assert_int_equal(drv_get_u64(&f->d, VHOST_USER_GET_QUEUE_NUM), 2);
	struct vhost_user_config c = {.offset = 4, .size = 8};
	drv_send(&f->d, VHOST_USER_GET_CONFIG, 0, &c, 12 + 8, NULL, 0);
	assert_int_equal(drv_recv(&f->d, VHOST_USER_GET_CONFIG, &c, sizeof(c)), 12 + 8);
	assert_memory_equal(c.data, "\xa4\xa5\xa6\xa7\0\0\0\0", 8);
	assert_int_equal(f->n_gone, 0);
}

/* QEMU keeps some devices' configuration to itself, and warns of a back end that offers it. */
static void test_some_devices_have_no_config(void **state)
{
	static const enum virtio_id devices[] = {VIRTIO_ID_NET, VIRTIO_ID_FS};
	struct fixture *f = *state;
	for (size_t i = 0; i < ARRAY_LEN(devices); i++) {
		f->p.dev.id = devices[i];
		assert_int_equal(drv_get_u64(&f->d, VHOST_USER_GET_PROTOCOL_FEATURES),
			VHOST_USER_PROTOCOL_F_REPLY_ACK);
	}
	drv_set_u64(&f->d, VHOST_USER_SET_PROTOCOL_FEATURES, VHOST_USER_PROTOCOL_F_CONFIG);
	assert_gone(f);
}

static void test_reply_ack(void **state)
{
	struct fixture *f = *state;
	uint64_t v = VHOST_USER_PROTOCOL_F_REPLY_ACK, ack = 99;
	drv_set_u64(&f->d, VHOST_USER_SET_PROTOCOL_FEATURES, v);
	v = VIRTIO_F_VERSION_1;
	drv_send(&f->d, VHOST_USER_SET_FEATURES, VHOST_USER_NEED_REPLY, &v, 8, NULL, 0);
	assert_int_equal(drv_recv(&f->d, VHOST_USER_SET_FEATURES, &ack, 8), 8);
	assert_int_equal(ack, 0);
	/* a message that is answered anyway is answered once */
	drv_send(&f->d, VHOST_USER_GET_QUEUE_NUM, VHOST_USER_NEED_REPLY, NULL, 0, NULL, 0);
	assert_int_equal(drv_recv(&f->d, VHOST_USER_GET_QUEUE_NUM, &ack, 8), 8);
	turns(f);
	assert_int_equal(recv(f->d.sock, &ack, 1, MSG_DONTWAIT), -1);
}

static void send_one(struct fixture *f)
{
	struct vsock_hdr h = {.src_cid = 3, .dst_cid = 2, .type = 1, .op = VSOCK_OP_RW};
	assert_true(drv_tx(&f->d, &h, "x", 1, true));
}

static void test_rings(void **state)
{
	struct fixture *f = *state;
	uint64_t n;
	drv_boot(&f->d, true);
	assert_int_equal(f->p.started[0], 1);
	assert_int_equal(f->p.started[1], 1);
	send_one(f);
	turns(f);
	assert_int_equal(f->p.notified[1], 1);
	assert_int_equal(f->p.taken, 1);
	assert_int_equal(read(f->d.q[1].call, &n, 8), 8);
}

static void test_disabled_ring(void **state)
{
	struct fixture *f = *state;
	drv_boot(&f->d, false);
	drv_set_state(&f->d, VHOST_USER_SET_VRING_ENABLE, 1, 0);
	turns(f);
	assert_int_equal(f->p.stopping[1], 1);
	send_one(f);
	turns(f);
	assert_int_equal(f->p.taken, 0);
	drv_set_state(&f->d, VHOST_USER_SET_VRING_ENABLE, 1, 1);
	turns(f);
	assert_int_equal(f->p.started[1], 2);
}

static void test_get_vring_base_drains(void **state)
{
	struct fixture *f = *state;
	uint16_t base[2];
	drv_boot(&f->d, true);
	for (int i = 0; i < 5; i++)
		send_one(f);
	/* the kick has not been looked at yet */
	drv_stop_rings(&f->d, base);
	assert_int_equal(base[1], 5);
	assert_int_equal(f->p.taken, 5);
	assert_false(vq_usable(&f->p.dev.vqs[1]));
}

static void test_disconnect_drains(void **state)
{
	struct fixture *f = *state;
	drv_boot(&f->d, true);
	send_one(f);
	close_fd(&f->d.sock);
	turns(f);
	assert_int_equal(f->n_gone, 1);
	assert_int_equal(f->p.taken, 1);
	assert_int_equal(f->p.resets, 1);
}

static void test_pause_is_no_reset(void **state)
{
	struct fixture *f = *state;
	uint16_t base[2];
	drv_boot(&f->d, true);
	send_one(f);
	turns(f);
	/* rx has to have moved as well: let the device take one buffer */
	assert_int_equal(vq_pop(&f->p.dev.vqs[0], &f->p.chain), 1);
	vq_push(&f->p.dev.vqs[0], f->p.chain.head, 0);
	drv_stop_rings(&f->d, base);
	drv_start_rings(&f->d, base, false);
	turns(f);
	assert_int_equal(f->p.started[1], 2);
	assert_int_equal(f->p.resets, 0);
}

static void test_driver_reset_is_one(void **state)
{
	struct fixture *f = *state;
	uint16_t base[2];
	const uint16_t zero[2] = {0, 0};
	drv_boot(&f->d, true);
	send_one(f);
	turns(f);
	drv_stop_rings(&f->d, base);
	assert_int_equal(f->p.resets, 0);
	drv_start_rings(&f->d, zero, true);
	turns(f);
	assert_int_equal(f->p.started[1], 2);
	assert_int_equal(f->p.resets, 1);
	send_one(f);
	turns(f);
	assert_int_equal(f->p.taken, 2);
}

static void test_mem_table_moves_while_running(void **state)
{
	struct fixture *f = *state;
	drv_boot(&f->d, true);
	drv_set_mem(&f->d);
	turns(f);
	send_one(f);
	turns(f);
	assert_int_equal(f->p.taken, 1);
	/* and without the rings */
	struct vhost_user_memory m = {.n_regions = 1};
	m.regions[0] = (struct vhost_user_region){.gpa = DRV_GPA, .size = 4096, .uaddr = DRV_UADDR};
	drv_send(&f->d, VHOST_USER_SET_MEM_TABLE, 0, &m, 8 + 32, &f->d.memfd, 1);
	assert_gone(f);
}

/* A device with threads has chains that lead into the old mappings: its rings stop meanwhile, and go on where they were. */
static void test_mem_table_moves_with_chains_held(void **state)
{
	struct fixture *f = *state;
	f->p.dev.holds_chains = f->p.keep = true;
	drv_boot(&f->d, false);
	int resets = f->p.resets;
	send_one(f);
	turns(f);
	assert_int_equal(f->p.taken, 1);
	assert_int_equal(f->p.stopping[1], 0);
	drv_set_mem(&f->d);
	turns(f);
	assert_int_equal(f->p.stopping[0], 1);
	assert_int_equal(f->p.stopping[1], 1);
	assert_int_equal(f->p.started[1], 2);
	assert_int_equal(f->p.resets, resets);
	send_one(f);
	turns(f);
	assert_int_equal(f->p.taken, 2);
	assert_int_equal(f->n_gone, 0);
}

static void test_mem_table_lies(void **state)
{
	struct fixture *f = *state;
	static const struct vhost_user_region bad[] = {
		{DRV_GPA, DRV_MEM_LEN + 4096, DRV_UADDR, 0},	      /* longer than the file */
		{DRV_GPA, DRV_MEM_LEN, DRV_UADDR, 4096},	      /* ends behind it */
		{DRV_GPA, DRV_MEM_LEN, DRV_UADDR, UINT64_MAX - 4096}, /* wraps around */
		{UINT64_MAX - 4096, DRV_MEM_LEN, DRV_UADDR, 0},
		{DRV_GPA, DRV_MEM_LEN, UINT64_MAX - 4096, 0},
		{DRV_GPA, 0, DRV_UADDR, 0},
		{DRV_GPA, UINT64_MAX, 0, 0},
	};
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		struct vhost_user_memory m = {.n_regions = 1, .regions = {bad[i]}};
		struct guest_mem gm = {0};
		drv_send(&f->d, VHOST_USER_SET_MEM_TABLE, 0, &m, 8 + 32, &f->d.memfd, 1);
		assert_gone(f);
		(void)gm;
		teardown(state);
		setup(state);
		f = *state;
	}
}

static void test_mem_table_unsealable(void **state)
{
	struct fixture *f = *state;
	FILE *t = tmpfile(); /* could be truncated under the mapping */
	assert_non_null(t);
	int fd = fileno(t);
	assert_int_equal(ftruncate(fd, DRV_MEM_LEN), 0);
	struct vhost_user_memory m = {.n_regions = 1};
	m.regions[0] = (struct vhost_user_region){.gpa = DRV_GPA, .size = DRV_MEM_LEN, .uaddr = DRV_UADDR};
	drv_send(&f->d, VHOST_USER_SET_MEM_TABLE, 0, &m, 8 + 32, &fd, 1);
	assert_gone(f);
	fclose(t);
}

static void test_mem_table_is_sealed(void **state)
{
	struct fixture *f = *state;
	drv_set_mem(&f->d);
	turns(f);
	assert_int_equal(f->n_gone, 0);
	assert_int_equal(ftruncate(f->d.memfd, 4096), -1);
}

static void test_fd_count(void **state)
{
	struct fixture *f = *state;
	struct vhost_user_memory m = {.n_regions = 2};
	drv_send(&f->d, VHOST_USER_SET_MEM_TABLE, 0, &m, 8 + 64, &f->d.memfd, 1);
	assert_gone(f);
}

/* What does not fit into our room is closed by Linux; QEMU's user-mode emulation keeps it. */
static bool emulator_keeps_fds(int fd)
{
	union {
		char buf[CMSG_SPACE(2 * sizeof(int))];
		struct cmsghdr align;
	} control;
	char data[64];
	struct iovec iov = {data, sizeof(data)};
	struct msghdr mh = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf)};
	int sv[2], got[2], fds[8] = {fd, fd, fd, fd, fd, fd, fd, fd}, before = count_fds();

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	struct drv d = {.sock = sv[1]};
	drv_send(&d, VHOST_USER_SET_OWNER, 0, NULL, 0, fds, ARRAY_LEN(fds));
	assert_true(recvmsg(sv[0], &mh, MSG_CMSG_CLOEXEC) > 0);
	memcpy(got, CMSG_DATA(&control.align), sizeof(got));
	for (int i = 0; i < 2; i++) {
		close(got[i]);
		close(sv[i]);
	}
	return count_fds() > before;
}

static void test_too_many_fds(void **state)
{
	struct fixture *f = *state;
	int fds[30];
	for (int i = 0; i < 30; i++)
		fds[i] = f->d.memfd;
	int before = count_fds();
	if (emulator_keeps_fds(f->d.memfd)) {
		print_message("an emulator keeps descriptors that recvmsg has no room for\n");
		f->n_fds += count_fds() - before;
		skip();
	}
	drv_send(&f->d, VHOST_USER_SET_OWNER, 0, NULL, 0, fds, 9);
	assert_gone(f);
	teardown(state);
	setup(state);
	f = *state;
	drv_send(&f->d, VHOST_USER_SET_OWNER, 0, NULL, 0, fds, 30);
	assert_gone(f);
	teardown(state);
	setup(state);
	f = *state;
	drv_send(&f->d, VHOST_USER_GET_FEATURES, 0, NULL, 0, fds, 1); /* takes none */
	assert_gone(f);
}

static void test_unknown_messages(void **state)
{
	static const uint32_t requests[] = {0, 6, 7, 19, 21, 25, 31, 39, 40, 41, 1000, UINT32_MAX};
	for (unsigned i = 0; i < ARRAY_LEN(requests); i++) {
		struct fixture *f = *state;
		drv_send(&f->d, requests[i], 0, NULL, 0, NULL, 0);
		assert_gone(f);
		teardown(state);
		setup(state);
	}
}

static void test_wrong_sizes(void **state)
{
	static const uint8_t zero[600];
	for (uint32_t request = 1; request <= 24; request++) {
		static const uint32_t sizes[] = {1, 7, 9, 39, 41, 512, 513, 600};
		for (unsigned i = 0; i < ARRAY_LEN(sizes); i++) {
			struct fixture *f = *state;
			drv_send(&f->d, request, 0, zero, sizes[i], NULL, 0);
			assert_gone(f);
			teardown(state);
			setup(state);
		}
	}
}

static void test_bad_header_flags(void **state)
{
	struct fixture *f = *state;
	drv_send(&f->d, VHOST_USER_SET_OWNER, 2, NULL, 0, NULL, 0); /* version 3 */
	assert_gone(f);
	teardown(state);
	setup(state);
	f = *state;
	drv_send(&f->d, VHOST_USER_SET_OWNER, VHOST_USER_REPLY, NULL, 0, NULL, 0);
	assert_gone(f);
}

static void test_ring_index_bounds(void **state)
{
	static const uint32_t requests[] = {VHOST_USER_SET_VRING_NUM, VHOST_USER_SET_VRING_BASE,
		VHOST_USER_GET_VRING_BASE, VHOST_USER_SET_VRING_ENABLE};
	for (unsigned i = 0; i < ARRAY_LEN(requests); i++) {
		struct fixture *f = *state;
		drv_set_state(&f->d, requests[i], 2, 1); /* the event queue is not ours */
		assert_gone(f);
		teardown(state);
		setup(state);
	}
	struct fixture *f = *state;
	drv_set_ring_fd(&f->d, VHOST_USER_SET_VRING_CALL, 2, f->d.q[0].call);
	assert_gone(f);
}

static void test_feature_not_offered(void **state)
{
	struct fixture *f = *state;
	drv_set_u64(&f->d, VHOST_USER_SET_FEATURES, VIRTIO_F_VERSION_1 | 1ULL << 34);
	assert_gone(f);
}

static void test_bad_ring_address(void **state)
{
	struct fixture *f = *state;
	const uint16_t zero[2] = {0, 0};
	drv_negotiate(&f->d, true);
	f->d.q[0].used += DRV_MEM_LEN;
	f->d.q[0].desc = 0;
	struct vhost_user_vring_addr a = {.index = 0, .desc = DRV_GPA, .used = DRV_GPA, .avail = DRV_GPA};
	drv_set_state(&f->d, VHOST_USER_SET_VRING_NUM, 0, DRV_QSIZE);
	drv_send(&f->d, VHOST_USER_SET_VRING_ADDR, 0, &a, sizeof(a), NULL, 0);
	drv_set_state(&f->d, VHOST_USER_SET_VRING_ENABLE, 0, 1);
	turns(f);
	assert_int_equal(f->n_gone, 0);
	drv_set_ring_fd(&f->d, VHOST_USER_SET_VRING_KICK, 0, f->d.q[0].kick);
	assert_gone(f);
	(void)zero;
}

static void test_config_bounds(void **state)
{
	static const uint32_t bad[][3] = {/* offset, size, payload */
		{0, 8, 12 + 9}, {0, 257, 12 + 257}, {250, 8, 12 + 8}, {UINT32_MAX, 8, 12 + 8},
		{0, UINT32_MAX, 12}};
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		struct fixture *f = *state;
		uint8_t buf[600] = {0};
		memcpy(buf, bad[i], 8);
		drv_send(&f->d, VHOST_USER_GET_CONFIG, 0, buf, bad[i][2], NULL, 0);
		assert_gone(f);
		teardown(state);
		setup(state);
	}
}

static void test_ring_fd_must_be_eventfd(void **state)
{
	static const uint32_t requests[] = {
		VHOST_USER_SET_VRING_KICK, VHOST_USER_SET_VRING_CALL, VHOST_USER_SET_VRING_ERR};
	for (unsigned i = 0; i < ARRAY_LEN(requests); i++) {
		for (int kind = 0; kind < 3; kind++) {
			struct fixture *f = *state;
			int p[2], null = open("/dev/null", O_RDWR | O_CLOEXEC);
			assert_int_equal(pipe2(p, O_CLOEXEC), 0);
			drv_set_ring_fd(&f->d, requests[i], 0,
				kind == 0   ? null
				: kind == 1 ? p[1]
					    : f->d.memfd);
			close(null);
			close(p[0]);
			close(p[1]);
			assert_gone(f);
			teardown(state);
			setup(state);
		}
	}
}

static void test_message_in_pieces(void **state)
{
	struct fixture *f = *state;
	struct {
		struct vhost_user_header h;
		uint64_t v;
	} __attribute__((packed)) m = {{VHOST_USER_SET_FEATURES, VHOST_USER_VERSION, 8}, VIRTIO_F_VERSION_1};
	for (size_t i = 0; i < sizeof(m); i++) {
		assert_int_equal(send(f->d.sock, (char *)&m + i, 1, 0), 1);
		loop_turn(f->loop, 0);
	}
	turns(f);
	assert_int_equal(f->n_gone, 0);
	drv_get_u64(&f->d, VHOST_USER_GET_FEATURES);
}

static void test_broken_queue_tells_err(void **state)
{
	struct fixture *f = *state;
	uint64_t n;
	int err = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	drv_boot(&f->d, false);
	drv_set_ring_fd(&f->d, VHOST_USER_SET_VRING_ERR, 1, err);
	memset(f->d.mem + f->d.q[1].avail + 2, 0x77, 2);
	n = 1;
	assert_int_equal(write(f->d.q[1].kick, &n, 8), 8);
	turns(f);
	assert_int_equal(read(err, &n, 8), 8);
	close(err);
	assert_int_equal(f->n_gone, 0); /* the guest's fault, not the front end's */
}

static void test_free_in_gone(void **state)
{
	struct fixture *f = *state;
	f->free_in_gone = true;
	drv_boot(&f->d, true);
	drv_send(&f->d, 77, 0, NULL, 0, NULL, 0);
	turns(f);
	assert_int_equal(f->n_gone, 1);
	assert_null(f->u);
}

static void test_second_transport(void **state)
{
	struct fixture *f = *state;
	struct vhost_user *u;
	int sv[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	assert_int_equal(vhost_user_new(f->loop, &f->p.dev, 2, sv[0], on_gone, f, &u), -EBUSY);
	close(sv[1]);
}

#define T(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_negotiation),
		T(test_some_devices_have_no_config),
		T(test_reply_ack),
		T(test_rings),
		T(test_disabled_ring),
		T(test_get_vring_base_drains),
		T(test_disconnect_drains),
		T(test_pause_is_no_reset),
		T(test_driver_reset_is_one),
		T(test_mem_table_moves_while_running),
		T(test_mem_table_moves_with_chains_held),
		T(test_mem_table_lies),
		T(test_mem_table_unsealable),
		T(test_mem_table_is_sealed),
		T(test_fd_count),
		T(test_too_many_fds),
		T(test_unknown_messages),
		T(test_wrong_sizes),
		T(test_bad_header_flags),
		T(test_ring_index_bounds),
		T(test_feature_not_offered),
		T(test_bad_ring_address),
		T(test_config_bounds),
		T(test_ring_fd_must_be_eventfd),
		T(test_message_in_pieces),
		T(test_broken_queue_tells_err),
		T(test_free_in_gone),
		T(test_second_transport),
	};
	return cmocka_run_group_tests_name("vhost-user", tests, NULL, NULL);
}
