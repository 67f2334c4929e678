/* SPDX-License-Identifier: MIT */
/* The vhost-user front end: with our own back end in another thread, and with one that is wrong or malicious. */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "base/io.h"
#include "test-mmio-driver.h"
#include "test-mmio-echo.h"
#include "vhost-user-proto.h"
#include "virtio/vhost-user-front.h"
#include "virtio/vhost-user.h"

#define TAG "tag of the device"
enum { LIMIT_MS = 10000 };

/* The other process, as a thread with a loop of its own. */
struct back {
	struct loop *loop;
	struct echo e;
	struct vhost_user *u;
	pthread_t thread;
	int n_gone;
	bool runs;
};

struct fixture {
	struct loop *loop;
	struct vhost_front *front;
	struct tdrv d;
	int memfd, peer; /* peer: the back end's socket, while there is no thread that has it */
	int n_gone;
	const char *why;
	struct back back;
};

static void on_gone(void *data, const char *why)
{
	struct fixture *f = data;

	f->n_gone++;
	f->why = why;
}

/* The driver's memory becomes a file that can be shared. */
static void share_memory(struct fixture *f)
{
	f->memfd = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_true(f->memfd >= 0);
	assert_int_equal(ftruncate(f->memfd, TDRV_MEM_LEN), 0);
	assert_int_equal(fcntl(f->memfd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), 0);
	assert_ptr_equal(
		mmap(f->d.host, TDRV_MEM_LEN, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, f->memfd, 0),
		f->d.host);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	int sv[2];

	assert_int_equal(loop_new(&f->loop), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	f->peer = sv[1];
	/* The file is needed before the driver has memory: opened again by number. */
	const struct vhost_front_config c = {.id = VIRTIO_ID_FS,
		.features = OFFERED,
		.n_queues = QUEUES,
		.space = TAG,
		.space_len = sizeof(TAG),
		.mem = &f->d.mem,
		.mem_fd = -1,
		.on_gone = on_gone,
		.data = f};
	f->memfd = -1;
	struct vhost_front_config with = c;
	int probe = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	with.mem_fd = probe;
	assert_int_equal(vhost_front_new(f->loop, &with, sv[0], &f->front), 0);
	tdrv_init(&f->d, f->loop, vhost_front_device(f->front));
	close(probe);
	share_memory(f); /* the lowest free number is the one just closed */
	assert_int_equal(f->memfd, probe);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	vhost_front_free(f->front);
	close_fd(&f->peer);
	if (f->back.runs) {
		pthread_join(f->back.thread, NULL);
		assert_int_equal(f->back.n_gone, 1);
	}
	tdrv_done(&f->d);
	close_fd(&f->memfd);
	loop_free(f->loop);
	free(f);
	return 0;
}

static void on_front_gone(void *data, const char *reason)
{
	struct back *b = data;

	b->n_gone++;
	loop_quit(b->loop, 0);
}

static void *back_main(void *data)
{
	struct fixture *f = data;
	struct back *b = &f->back;

	if (loop_new(&b->loop) < 0 ||
		vhost_user_new(b->loop, &b->e.dev, QUEUES, TAKE_FD(f->peer), on_front_gone, b, &b->u) < 0)
		abort();
	loop_run(b->loop);
	vhost_user_free(b->u);
	loop_free(b->loop);
	return NULL;
}

static void start_back(struct fixture *f)
{
	echo_init(&f->back.e);
	f->back.runs = true;
	assert_int_equal(pthread_create(&f->back.thread, NULL, back_main, f), 0);
}

static void wait_interrupt(struct fixture *f)
{
	struct pollfd p = {.fd = virtio_mmio_irq_fd(f->d.m), .events = POLLIN};
	uint64_t n;

	assert_int_equal(poll(&p, 1, LIMIT_MS), 1);
	assert_int_equal(read(p.fd, &n, sizeof(n)), sizeof(n));
}

/* A chain there and back, by kick, used ring and interrupt, none of which the front end's thread sees. */
static void echo_works(struct fixture *f, unsigned q)
{
	uint16_t head;
	uint32_t len = 0;
	void *out, *in;
	uint64_t a = tdrv_alloc(&f->d, 64, &out), b = tdrv_alloc(&f->d, 64, &in);
	strcpy(out, "hello");
	const struct tdrv_buf bufs[] = {{a, 6, false}, {b, 64, true}};
	tdrv_add(&f->d, q, bufs, 2);
	tdrv_kick(&f->d, q);
	do
		wait_interrupt(f);
	while (!tdrv_used(&f->d, q, &head, &len));
	assert_int_equal(len, 6);
	assert_string_equal(in, "hello");
}

static void turns(struct fixture *f, int n)
{
	while (n-- > 0)
		loop_turn(f->loop, 0);
}

static void test_serves(void **state)
{
	struct fixture *f = *state;

	start_back(f);
	tdrv_start(&f->d, OFFERED);
	for (int i = 0; i < 200; i++)
		echo_works(f, (unsigned)i % QUEUES);
	assert_int_equal(f->back.e.negotiated, OFFERED);
	turns(f, 3);
	assert_int_equal(f->n_gone, 0);
}

static void test_configuration(void **state)
{
	struct fixture *f = *state;
	char tag[sizeof(TAG) + 4];

	tdrv_config(&f->d, 0, tag, sizeof(tag));
	assert_memory_equal(tag, TAG, sizeof(TAG));
	assert_memory_equal(tag + sizeof(TAG), "\0\0\0\0", 4);
	/* Nobody is asked for it, nor for anything before there is a driver. */
	char byte;
	assert_int_equal(recv(f->peer, &byte, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
}

/* A reset returns when the other side has stopped; the next driver's first queue tells it to forget. */
static void test_reset(void **state)
{
	struct fixture *f = *state;

	start_back(f);
	for (unsigned i = 0; i < 3; i++) {
		tdrv_start(&f->d, i == 1 ? 0 : OFFERED); /* other features, too */
		echo_works(f, 0);
		echo_works(f, 1);
		assert_int_equal(f->back.e.negotiated, i == 1 ? VIRTIO_F_VERSION_1 : OFFERED);
		assert_int_equal(f->back.e.resets, i);
		tdrv_write(&f->d, MMIO_STATUS, 0);
		assert_int_equal(f->back.e.stopping[0], i + 1);
		assert_int_equal(f->back.e.stopping[1], i + 1);
	}
	assert_int_equal(f->n_gone, 0);
}

/* What the driver has put into a queue is done before it stops. */
static void test_stop_drains(void **state)
{
	struct fixture *f = *state;
	const uint16_t n = TDRV_QSIZE / 4;
	uint16_t used;

	start_back(f);
	tdrv_start(&f->d, OFFERED);
	echo_works(f, 1);
	for (unsigned i = 0; i < n; i++) {
		void *out;
		uint64_t a = tdrv_alloc(&f->d, 64, &out), b = tdrv_alloc(&f->d, 64, NULL);
		const struct tdrv_buf bufs[] = {{a, 6, false}, {b, 64, true}};
		tdrv_add(&f->d, 1, bufs, 2);
	}
	tdrv_write(&f->d, MMIO_STATUS, 0);
	memcpy(&used, tdrv_at(&f->d, f->d.q[1].used + 2), sizeof(used));
	assert_int_equal(used, n + 1);
}

/* The other side finds a broken queue: the driver learns of it, and starts again. */
static void test_broken_queue(void **state)
{
	struct fixture *f = *state;

	start_back(f);
	for (int i = 0; i < 2; i++) {
		tdrv_start(&f->d, OFFERED);
		echo_works(f, 0);
		const struct tdrv_buf outside = {1, 64, true};
		tdrv_add(&f->d, 0, &outside, 1);
		tdrv_kick(&f->d, 0);
		for (int ms = 0; ms < LIMIT_MS && !(tdrv_read(&f->d, MMIO_STATUS) & STATUS_NEEDS_RESET); ms++)
			loop_turn(f->loop, 1);
		assert_true(tdrv_read(&f->d, MMIO_STATUS) & STATUS_NEEDS_RESET);
	}
	tdrv_start(&f->d, OFFERED);
	echo_works(f, 0);
	assert_int_equal(f->n_gone, 0);
}

static void expect_gone(struct fixture *f, const char *why)
{
	for (int ms = 0; ms < LIMIT_MS && f->n_gone == 0; ms++)
		loop_turn(f->loop, 1);
	turns(f, 5);
	assert_int_equal(f->n_gone, 1);
	assert_string_equal(f->why, why);
	/* The guest goes on with a dead device, and nobody waits for anything. */
	tdrv_start(&f->d, OFFERED);
	tdrv_write(&f->d, MMIO_STATUS, 0);
	turns(f, 5);
	assert_int_equal(f->n_gone, 1);
}

static void test_gone(void **state)
{
	struct fixture *f = *state;

	close_fd(&f->peer);
	expect_gone(f, "it is gone");
}

static void test_gone_in_the_middle(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(shutdown(f->peer, SHUT_WR), 0);
	tdrv_start(&f->d, OFFERED);
	expect_gone(f, "it is gone");
}

/* Answers that wait before the question is asked. */
static void prepare(struct fixture *f, uint32_t request, uint32_t flags, const void *payload, uint32_t size)
{
	const struct vhost_user_header h = {request, flags, size};

	assert_int_equal(send(f->peer, &h, sizeof(h), 0), sizeof(h));
	if (size)
		assert_int_equal(send(f->peer, payload, MIN_OF(size, 256), 0), MIN_OF(size, 256));
}

enum { REPLY = VHOST_USER_VERSION | VHOST_USER_REPLY };

static void test_unasked(void **state)
{
	struct fixture *f = *state;

	prepare(f, VHOST_USER_GET_FEATURES, REPLY, NULL, 0);
	expect_gone(f, "it says what it was not asked for");
}

static void test_lacks_features(void **state)
{
	struct fixture *f = *state;
	const uint64_t features = OFFERED & ~FEATURE_LOW;

	prepare(f, VHOST_USER_GET_FEATURES, REPLY, &features, sizeof(features));
	tdrv_start(&f->d, 0);
	expect_gone(f, "it lacks features of the device");
}

static void test_malformed(void **state)
{
	static const struct {
		uint32_t request, flags, size;
	} bad[] = {{VHOST_USER_GET_VRING_BASE, REPLY, 8}, {VHOST_USER_GET_FEATURES, REPLY, 4},
		{VHOST_USER_GET_FEATURES, REPLY, 16}, {VHOST_USER_GET_FEATURES, REPLY, 1 << 30},
		{VHOST_USER_GET_FEATURES, VHOST_USER_VERSION, 8},
		{VHOST_USER_GET_FEATURES, VHOST_USER_REPLY, 8}, {0, 0, 0}};
	const uint8_t ones[256] = {[0 ... 255] = 0xff};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		void *one = NULL;
		assert_int_equal(setup(&one), 0);
		struct fixture *f = one;
		prepare(f, bad[i].request, bad[i].flags, ones, bad[i].size);
		tdrv_start(&f->d, OFFERED);
		expect_gone(f, "its answer is malformed");
		teardown(&one);
	}
}

/* Descriptors that come with an answer are closed. */
static void test_superfluous_descriptors(void **state)
{
	struct fixture *f = *state;
	const uint64_t features = UINT64_MAX;
	int before = open("/dev/null", O_RDONLY | O_CLOEXEC), fds[3] = {before, before, before};
	union {
		char buf[CMSG_SPACE(sizeof(fds))];
		struct cmsghdr align;
	} control = {0};
	const struct vhost_user_header h = {VHOST_USER_GET_FEATURES, REPLY, sizeof(features)};
	struct iovec iov[2] = {
		{(void *)(uintptr_t)&h, sizeof(h)}, {(void *)(uintptr_t)&features, sizeof(features)}};
	struct msghdr mh = {.msg_iov = iov,
		.msg_iovlen = 2,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&mh);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(fds));
	memcpy(CMSG_DATA(c), fds, sizeof(fds));
	assert_int_equal(sendmsg(f->peer, &mh, 0), sizeof(h) + sizeof(features));
	tdrv_start(&f->d, OFFERED);
	expect_gone(f, "its answer is malformed");
	int after = open("/dev/null", O_RDONLY | O_CLOEXEC);
	/* The front end's socket is closed by now: its number, or the next. */
	assert_true(after >= 0 && after <= before + 1);
	close(after);
	close(before);
}

static void test_wrong_place_of_a_queue(void **state)
{
	static const struct vhost_user_vring_state bad[] = {{1, 0}, {0, 65536}, {UINT32_MAX, 0}};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		void *one = NULL;
		assert_int_equal(setup(&one), 0);
		struct fixture *f = one;
		const uint64_t features = UINT64_MAX;
		prepare(f, VHOST_USER_GET_FEATURES, REPLY, &features, sizeof(features));
		tdrv_start(&f->d, OFFERED);
		prepare(f, VHOST_USER_GET_VRING_BASE, REPLY, &bad[i], sizeof(bad[i]));
		tdrv_write(&f->d, MMIO_STATUS, 0);
		expect_gone(f, "its answer is malformed");
		teardown(&one);
	}
}

/* It never reads: what we say must not make us wait. */
static void test_does_not_read(void **state)
{
	struct fixture *f = *state;
	const struct vhost_user_vring_state places[QUEUES] = {{0, 0}, {1, 0}};
	const uint64_t features = UINT64_MAX;

	prepare(f, VHOST_USER_GET_FEATURES, REPLY, &features, sizeof(features));
	for (int i = 0; i < 20000 && f->n_gone == 0; i++) {
		tdrv_start(&f->d, OFFERED);
		if (f->n_gone == 0) {
			for (unsigned q = 0; q < QUEUES; q++)
				prepare(f, VHOST_USER_GET_VRING_BASE, REPLY, &places[q], sizeof(places[q]));
		}
		tdrv_write(&f->d, MMIO_STATUS, 0);
		turns(f, 1);
	}
	expect_gone(f, "it is gone, or does not read");
}

static void test_too_much(void **state)
{
	struct loop *loop;
	struct vhost_front *front;
	struct guest_mem mem = {.n_regions = 1};
	struct vhost_front_config c = {.n_queues = VIRTIO_QUEUES_MAX + 1, .mem = &mem};

	assert_int_equal(loop_new(&loop), 0);
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	assert_int_equal(vhost_front_new(loop, &c, fd, &front), -EINVAL);
	assert_int_equal(fcntl(fd, F_GETFD), -1); /* consumed */
	c = (struct vhost_front_config){.n_queues = 1, .space_len = VHOST_USER_CONFIG_MAX + 1, .mem = &mem};
	assert_int_equal(vhost_front_new(loop, &c, open("/dev/null", O_RDWR | O_CLOEXEC), &front), -EINVAL);
	loop_free(loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_serves, setup, teardown),
		cmocka_unit_test_setup_teardown(test_configuration, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reset, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stop_drains, setup, teardown),
		cmocka_unit_test_setup_teardown(test_broken_queue, setup, teardown),
		cmocka_unit_test_setup_teardown(test_gone, setup, teardown),
		cmocka_unit_test_setup_teardown(test_gone_in_the_middle, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unasked, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lacks_features, setup, teardown),
		cmocka_unit_test(test_malformed),
		cmocka_unit_test_setup_teardown(test_superfluous_descriptors, setup, teardown),
		cmocka_unit_test(test_wrong_place_of_a_queue),
		cmocka_unit_test_setup_teardown(test_does_not_read, setup, teardown),
		cmocka_unit_test(test_too_much),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
