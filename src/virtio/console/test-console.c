/* SPDX-License-Identifier: MIT */
/*
 * The console device (virtio 1.2 section 5.3) between a driver and descriptors of every kind. SIGPIPE keeps its
 * default here: one that gets out ends the test. So does a write that blocks, by the alarm in setup.
 */
#include <fcntl.h>
#include <pty.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <termios.h>

#include <cmocka.h>

#include "base/io.h"
#include "console/test-machine.h"

/* ---- configuration ---- */

static void test_5_3_2_identity(void **state)
{
	struct machine *m = *state;

	boot_pipes(m);
	assert_int_equal(tdrv_read(&m->d, MMIO_DEVICE_ID), 3);
	assert_int_equal(m->d.features & (ALL | 2), ALL); /* 5.3.3: no multiport */
	tdrv_write(&m->d, MMIO_QUEUE_SEL, 2);
	assert_int_equal(tdrv_read(&m->d, MMIO_QUEUE_NUM_MAX), 0);
	tdrv_write(&m->d, MMIO_QUEUE_SEL, TX);
	assert_int_equal(tdrv_read(&m->d, MMIO_QUEUE_NUM_MAX), 16);
}

static void test_5_3_4_size(void **state)
{
	struct machine *m = *state;
	uint16_t size[2];

	boot_pipes(m);
	tdrv_config(&m->d, 0, size, sizeof(size));
	assert_int_equal(size[0], 80);
	assert_int_equal(size[1], 25);
	tdrv_settle(&m->d);
	while (tdrv_interrupted(&m->d))
		;
	uint32_t generation = tdrv_read(&m->d, MMIO_CONFIG_GENERATION);

	console_resize(m->c, 132, 50);
	assert_true(tdrv_read(&m->d, MMIO_INT_STATUS) & VIRTIO_MMIO_INT_CONFIG);
	assert_true(tdrv_interrupted(&m->d));
	assert_int_not_equal(tdrv_read(&m->d, MMIO_CONFIG_GENERATION), generation);
	tdrv_config(&m->d, 0, size, sizeof(size));
	assert_int_equal(size[0], 132);
	assert_int_equal(size[1], 50);

	tdrv_write(&m->d, MMIO_INT_ACK, VIRTIO_MMIO_INT_CONFIG);
	console_resize(m->c, 132, 50); /* no news */
	assert_false(tdrv_interrupted(&m->d));
	/* The driver cannot change it. */
	tdrv_write(&m->d, MMIO_CONFIG, 0);
	tdrv_config(&m->d, 0, size, sizeof(size));
	assert_int_equal(size[0], 132);
}

static void test_resize_unattached(void **state)
{
	struct machine *m = *state;
	const struct console_config conf = {.in_fd = -1, .out_fd = -1};

	assert_int_equal(loop_new(&m->loop), 0);
	assert_int_equal(console_new(m->loop, &conf, &m->c), 0);
	console_resize(m->c, 1, 1);
}

static void test_5_3_5_1_emergency_write(void **state)
{
	struct machine *m = *state;
	struct virtio_device *dev;
	const uint32_t v = 0x12345600 | 'x';
	char full[4096];

	boot_pipes(m);
	dev = console_device(m->c);
	tdrv_write(&m->d, MMIO_CONFIG + EMERG_WR, v);
	expect_text(m, "x");
	assert_int_equal(tdrv_read(&m->d, MMIO_CONFIG + EMERG_WR), 0);

	tdrv_write(&m->d, MMIO_STATUS, 0); /* "even on an unconfigured device" */
	tdrv_write(&m->d, MMIO_CONFIG + EMERG_WR, v);
	expect_text(m, "x");
	dev->ops->write_config(dev, EMERG_WR, &v, 0); /* and what it is not */
	dev->ops->write_config(dev, EMERG_WR + 1, &v, 1);
	dev->ops->write_config(dev, 4, &v, 4);
	dev->ops->write_config(dev, UINT32_MAX, &v, 4);
	expect_silence(m);

	/* A guest that writes faster than it is read loses characters, and nobody waits. */
	for (int i = 0; i < 70000; i++)
		dev->ops->write_config(dev, EMERG_WR, &v, 4);
	assert_true(read(m->out, full, sizeof(full)) == sizeof(full));
	close_fd(&m->out);
	dev->ops->write_config(dev, EMERG_WR, &v, 4);
	tdrv_settle(&m->d);
	dev->ops->write_config(dev, EMERG_WR, &v, 4);
}

/* ---- output ---- */

static void test_5_3_6_output(void **state)
{
	struct machine *m = *state;
	struct tdrv_buf bufs[3];
	void *p;

	boot_pipes(m);
	uint16_t head = say_text(m, "hello\n");
	tdrv_kick(&m->d, TX);
	expect_used(m, TX, head, 0);
	expect_text(m, "hello\n");
	assert_true(tdrv_interrupted(&m->d));

	/* Framing is the driver's choice (2.7.4.1); a writable part does not belong here (5.3.6.1) and is left alone. */
	bufs[0] = (struct tdrv_buf){.gpa = tdrv_alloc(&m->d, 1, &p), .len = 1};
	memcpy(p, "a", 1);
	bufs[1] = (struct tdrv_buf){.gpa = tdrv_alloc(&m->d, 3, &p), .len = 3};
	memcpy(p, "bcd", 3);
	bufs[2] = (struct tdrv_buf){.gpa = tdrv_alloc(&m->d, 3, &p), .len = 3, .write = true};
	head = tdrv_add(&m->d, TX, bufs, 3);
	uint16_t second = tdrv_add_indirect(&m->d, TX, bufs, 2), third = tdrv_add(&m->d, TX, bufs + 2, 1);
	tdrv_kick(&m->d, TX);
	expect_used(m, TX, head, 0);
	expect_used(m, TX, second, 0);
	expect_used(m, TX, third, 0);
	assert_memory_equal(p, "\0\0\0", 3);
	expect_text(m, "abcdabcd");
}

static void test_output_event_idx(void **state)
{
	struct machine *m = *state;
	int out[2];

	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	m->out = out[0];
	set_up(m, -1, out[1]);
	close(out[1]);
	tdrv_start(&m->d, ALL | VIRTIO_F_EVENT_IDX);
	for (int i = 0; i < 40; i++) {
		uint16_t head = say_text(m, "tick ");
		tdrv_kick(&m->d, TX);
		expect_used(m, TX, head, 0);
		expect_text(m, "tick ");
	}
}

static void test_output_nowhere(void **state)
{
	struct machine *m = *state;

	boot(m, -1, -1);
	uint16_t head = say(m, 0, 1 << 20);
	tdrv_kick(&m->d, TX);
	expect_used(m, TX, head, 0);
}

/* Back-pressure: what the pipe does not take stays with the guest, whole buffers and parts; and nobody spins. */
static void test_output_slow_reader(void **state)
{
	struct machine *m = *state;
	enum { LEN = 100000 };

	boot_pipes(m);
	assert_true(fcntl(m->out, F_SETPIPE_SZ, 4096) == 4096);
	uint16_t heads[3] = {say(m, 0, 3000), say(m, 1, LEN), say(m, 2, 10)};
	kick_and_settle(m, TX);
	expect_used(m, TX, heads[0], 0);
	expect_none_used(m, TX);
	kick_and_settle(m, TX); /* an impatient driver */
	expect_none_used(m, TX);

	expect_pattern(m, 0, 3000);
	expect_pattern(m, 1, LEN);
	expect_used(m, TX, heads[1], 0);
	expect_used(m, TX, heads[2], 0);
	expect_pattern(m, 2, 10);
	expect_silence(m);
}

static void test_output_dead_reader(void **state)
{
	struct machine *m = *state;

	boot_pipes(m);
	close_fd(&m->out);
	uint16_t first = say(m, 0, 10000), second = say(m, 1, 10);
	tdrv_kick(&m->d, TX);
	expect_used(m, TX, first, 0);
	expect_used(m, TX, second, 0);
	assert_false(tdrv_read(&m->d, MMIO_STATUS) & STATUS_NEEDS_RESET);
	/* Input goes on. */
	char *p = listen_for(m, 10);
	tdrv_kick(&m->d, RX);
	assert_int_equal(write(m->in, "in", 2), 2);
	assert_int_equal(tdrv_wait(&m->d, RX, NULL), 2);
	assert_memory_equal(p, "in", 2);
}

static void test_output_reader_dies_while_full(void **state)
{
	struct machine *m = *state;

	boot_pipes(m);
	uint16_t first = say(m, 0, 300000), second = say(m, 1, 10);
	kick_and_settle(m, TX);
	expect_none_used(m, TX);
	close_fd(&m->out);
	expect_used(m, TX, first, 0);
	expect_used(m, TX, second, 0);
	kick_and_settle(m, TX);
}

/* A process that holds SIGPIPE back itself still has the one that it had. */
static void test_output_pending_sigpipe(void **state)
{
	struct machine *m = *state;
	sigset_t set, before, pending;

	sigemptyset(&set);
	sigaddset(&set, SIGPIPE);
	sigprocmask(SIG_BLOCK, &set, &before);
	boot_pipes(m);
	raise(SIGPIPE);
	close_fd(&m->out);
	uint16_t head = say(m, 0, 10);
	tdrv_kick(&m->d, TX);
	expect_used(m, TX, head, 0);
	sigpending(&pending);
	assert_true(sigismember(&pending, SIGPIPE));
	sigwaitinfo(&set, NULL);
	sigprocmask(SIG_SETMASK, &before, NULL);
}

/* epoll does not take a regular file, which never makes anybody wait. */
static void test_output_file(void **state)
{
	struct machine *m = *state;
	int fd = memfd_create("out", MFD_CLOEXEC);

	m->out = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	assert_int_equal(write(fd, "before", 6), 6); /* the file's position is shared and respected */
	boot(m, -1, fd);
	uint16_t head = say(m, 0, 300000);
	tdrv_kick(&m->d, TX);
	/* A turn's work is bounded: the loop has other guests of its own. */
	assert_int_equal(loop_turn(m->loop, 1000), 0);
	assert_int_equal(lseek(m->out, 0, SEEK_END), 6 + 65536);
	expect_used(m, TX, head, 0);
	assert_int_equal(lseek(m->out, 6, SEEK_SET), 6);
	expect_pattern(m, 0, 300000);
}

static void test_output_error(void **state)
{
	struct machine *m = *state;

	boot(m, -1, open("/dev/full", O_WRONLY | O_CLOEXEC));
	uint16_t heads[2] = {say(m, 0, 10), say(m, 0, 10)};
	tdrv_kick(&m->d, TX);
	expect_used(m, TX, heads[0], 0);
	expect_used(m, TX, heads[1], 0);
}

static void test_output_null(void **state)
{
	struct machine *m = *state;

	boot(m, open("/dev/null", O_RDONLY | O_CLOEXEC), open("/dev/null", O_WRONLY | O_CLOEXEC));
	uint16_t head = say(m, 0, 100000);
	listen_for(m, 10);
	tdrv_kick(&m->d, RX);
	tdrv_kick(&m->d, TX);
	expect_used(m, TX, head, 0);
	expect_none_used(m, RX);
}

/* One socket for both directions. */
static void test_socket(void **state)
{
	struct machine *m = *state;
	int s[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
	m->out = s[0];
	set_up(m, s[1], s[1]);
	close(s[1]);
	tdrv_start(&m->d, ALL);
	io_set_nonblock(m->out, true);
	char *p = listen_for(m, 10);
	tdrv_kick(&m->d, RX);
	tdrv_settle(&m->d);
	uint16_t head = say(m, 0, 600000);
	kick_and_settle(m, TX);
	expect_none_used(m, TX);
	assert_int_equal(send(m->out, "in", 2, 0), 2); /* while output waits */
	assert_int_equal(tdrv_wait(&m->d, RX, NULL), 2);
	assert_memory_equal(p, "in", 2);
	expect_pattern(m, 0, 600000);
	expect_used(m, TX, head, 0);
	close_fd(&m->out);
	head = say(m, 0, 10);
	tdrv_kick(&m->d, TX);
	expect_used(m, TX, head, 0);
	tdrv_settle(&m->d);
}

/* Flags are the open file description's, which others share. */
static void test_flags_unchanged(void **state)
{
	struct machine *m = *state;
	int p[2];

	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	set_up(m, p[0], p[1]);
	assert_false(fcntl(p[0], F_GETFL) & O_NONBLOCK);
	assert_false(fcntl(p[1], F_GETFL) & O_NONBLOCK);
	close(p[0]);
	close(p[1]);
}

/*
 * A terminal, both sides of which can be the machine's, whose reader has stopped. One shares its description with
 * others, the other is its user's alone.
 */
static void run_terminal(struct machine *m, bool slave)
{
	struct termios raw;
	int master, side;

	assert_int_equal(openpty(&master, &side, NULL, NULL, NULL), 0);
	assert_int_equal(tcgetattr(side, &raw), 0);
	cfmakeraw(&raw);
	assert_int_equal(tcsetattr(side, TCSANOW, &raw), 0);
	int given = slave ? side : master;
	m->out = slave ? master : side;
	set_up(m, given, given);
	assert_int_equal(fcntl(given, F_GETFL) & O_NONBLOCK, slave ? 0 : O_NONBLOCK);
	tdrv_start(&m->d, ALL);
	io_set_nonblock(m->out, true);

	char *p = listen_for(m, 10);
	kick_and_settle(m, RX);
	assert_int_equal(write(m->out, "in", 2), 2);
	assert_int_equal(tdrv_wait(&m->d, RX, NULL), 2);
	assert_memory_equal(p, "in", 2);

	uint16_t head = say(m, 0, 200000);
	kick_and_settle(m, TX);
	expect_none_used(m, TX);
	expect_pattern(m, 0, 200000);
	expect_used(m, TX, head, 0);
	close(given);
	/* The other side hangs up. */
	close_fd(&m->out);
	listen_for(m, 10);
	tdrv_kick(&m->d, RX);
	head = say(m, 0, 10);
	tdrv_kick(&m->d, TX);
	expect_used(m, TX, head, 0);
	tdrv_settle(&m->d);
}

static void test_terminal(void **state)
{
	run_terminal(*state, true);
}

static void test_terminal_master(void **state)
{
	run_terminal(*state, false);
}

/* An eventfd stands for what can neither be opened anew nor told per call not to block. It moves 8 bytes at a time. */
static void test_asked_by_poll(void **state)
{
	struct machine *m = *state;
	int in = eventfd(0, EFD_CLOEXEC), out = eventfd(0, EFD_CLOEXEC);
	const uint64_t one = 1, most = UINT64_MAX - 1;
	uint64_t v;
	void *p;

	set_up(m, in, out);
	tdrv_start(&m->d, ALL);
	uint64_t *got = listen_for(m, sizeof(*got));
	kick_and_settle(m, RX);
	expect_none_used(m, RX);
	assert_int_equal(write(in, &one, sizeof(one)), sizeof(one));
	assert_int_equal(tdrv_wait(&m->d, RX, NULL), sizeof(one));
	assert_int_equal(*got, 1);

	struct tdrv_buf b = {.len = sizeof(one)};
	b.gpa = tdrv_alloc(&m->d, sizeof(one), &p);
	memcpy(p, &one, sizeof(one));
	assert_int_equal(write(out, &most, sizeof(most)), sizeof(most)); /* full */
	uint16_t head = tdrv_add(&m->d, TX, &b, 1);
	kick_and_settle(m, TX);
	expect_none_used(m, TX);
	assert_int_equal(read(out, &v, sizeof(v)), sizeof(v));
	expect_used(m, TX, head, 0);
	assert_int_equal(read(out, &v, sizeof(v)), sizeof(v));
	assert_int_equal(v, 1);
	close(in);
	close(out);
}

/* ---- input ---- */

static void test_5_3_6_input(void **state)
{
	struct machine *m = *state;

	boot_pipes(m);
	char *a = listen_for(m, 4), *b = listen_for(m, 100);
	kick_and_settle(m, RX);
	expect_none_used(m, RX);
	assert_int_equal(write(m->in, "abcdefg", 7), 7);
	assert_int_equal(tdrv_wait(&m->d, RX, NULL), 4);
	assert_int_equal(tdrv_wait(&m->d, RX, NULL), 3);
	assert_memory_equal(a, "abcd", 4);
	assert_memory_equal(b, "efg", 4);
	assert_true(tdrv_interrupted(&m->d));
}

/* Scattered buffers; the readable part does not belong there (5.3.6.1) and is not written. */
static void test_input_scattered(void **state)
{
	struct machine *m = *state;
	struct tdrv_buf bufs[3] = {{.len = 3}, {.len = 2, .write = true}, {.len = 6000, .write = true}};
	char *p[3];
	uint8_t data[8000];

	boot_pipes(m);
	for (unsigned i = 0; i < sizeof(data); i++)
		data[i] = pattern(0, i);
	for (unsigned i = 0; i < 3; i++)
		bufs[i].gpa = tdrv_alloc(&m->d, bufs[i].len, (void **)&p[i]);
	tdrv_add(&m->d, RX, bufs, 3);
	tdrv_kick(&m->d, RX);
	assert_int_equal(write(m->in, data, sizeof(data)), sizeof(data));
	uint32_t n = tdrv_wait(&m->d, RX, NULL);
	assert_true(n > 2 && n <= 6002);
	assert_memory_equal(p[0], "\0\0\0", 3);
	assert_memory_equal(p[1], data, 2);
	assert_memory_equal(p[2], data + 2, n - 2);
	assert_int_equal(p[2][n - 2], 0);
}

/* A chain that can hold nothing comes back, and the input waits for one that can. */
static void test_5_3_6_1_input_readable_only(void **state)
{
	struct machine *m = *state;
	struct tdrv_buf bad = {.len = 10};

	boot_pipes(m);
	bad.gpa = tdrv_alloc(&m->d, bad.len, NULL);
	uint16_t head = tdrv_add(&m->d, RX, &bad, 1);
	char *p = listen_for(m, 10);
	assert_int_equal(write(m->in, "abc", 3), 3);
	tdrv_kick(&m->d, RX);
	expect_used(m, RX, head, 0);
	assert_int_equal(tdrv_wait(&m->d, RX, NULL), 3);
	assert_memory_equal(p, "abc", 3);
}

/* Without a buffer of the guest nothing is read, and whoever writes waits. */
static void test_input_no_buffers(void **state)
{
	struct machine *m = *state;
	char out[100];

	boot_pipes(m);
	assert_int_equal(write(m->in, "0123456789", 10), 10);
	kick_and_settle(m, RX);
	assert_int_equal(waiting_bytes(m->in), 10);
	for (int i = 0; i < 5; i++) {
		char *p = listen_for(m, 2);
		tdrv_kick(&m->d, RX);
		assert_int_equal(tdrv_wait(&m->d, RX, NULL), 2);
		out[2 * i] = p[0];
		out[2 * i + 1] = p[1];
		tdrv_settle(&m->d);
		assert_int_equal(waiting_bytes(m->in), 8 - 2 * i);
	}
	assert_memory_equal(out, "0123456789", 10);
	/* The writer goes: no busy loop, neither without buffers nor with. */
	close_fd(&m->in);
	tdrv_settle(&m->d);
	listen_for(m, 10);
	kick_and_settle(m, RX);
	expect_none_used(m, RX);
}

static void test_input_eof(void **state)
{
	struct machine *m = *state;

	boot_pipes(m);
	char *p = listen_for(m, 10);
	listen_for(m, 10);
	kick_and_settle(m, RX);
	assert_int_equal(write(m->in, "end", 3), 3);
	close_fd(&m->in);
	assert_int_equal(tdrv_wait(&m->d, RX, NULL), 3);
	assert_memory_equal(p, "end", 3);
	tdrv_settle(&m->d);
	expect_none_used(m, RX);
	uint16_t head = say_text(m, "still here");
	tdrv_kick(&m->d, TX);
	expect_used(m, TX, head, 0);
	expect_text(m, "still here");
}

static void test_input_file(void **state)
{
	struct machine *m = *state;
	int fd = memfd_create("in", MFD_CLOEXEC);

	assert_int_equal(write(fd, "0123456789", 10), 10);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	boot(m, fd, -1);
	char *p = listen_for(m, 100);
	listen_for(m, 100);
	tdrv_kick(&m->d, RX);
	assert_int_equal(tdrv_wait(&m->d, RX, NULL), 10);
	assert_memory_equal(p, "0123456789", 10);
	tdrv_settle(&m->d);
	expect_none_used(m, RX);
}

/* ---- hostile drivers, resets, snapshots ---- */

static void break_tx(struct machine *m)
{
	struct tdrv_buf bad = {.gpa = TDRV_GPA + TDRV_MEM_LEN - 5, .len = 10};

	tdrv_add(&m->d, TX, &bad, 1);
	tdrv_kick(&m->d, TX);
	tdrv_expect_broken(&m->d);
}

/* 2.1.2: both queues rest until a reset, which brings all of it back. */
static void test_2_7_5_outside(void **state)
{
	struct machine *m = *state;

	boot_pipes(m);
	listen_for(m, 10);
	kick_and_settle(m, RX);
	break_tx(m);
	assert_int_equal(write(m->in, "abc", 3), 3);
	say_text(m, "not heard");
	tdrv_kick(&m->d, TX);
	kick_and_settle(m, RX);
	expect_none_used(m, RX);
	expect_none_used(m, TX);
	expect_silence(m);
	assert_int_equal(waiting_bytes(m->in), 3);

	tdrv_start(&m->d, ALL);
	char *p = listen_for(m, 10);
	tdrv_kick(&m->d, RX);
	assert_int_equal(tdrv_wait(&m->d, RX, NULL), 3);
	assert_memory_equal(p, "abc", 3);
	uint16_t head = say_text(m, "heard");
	tdrv_kick(&m->d, TX);
	expect_used(m, TX, head, 0);
	expect_text(m, "heard");
}

/* What was written last, without even a notification, is still output when the guest goes down. */
static void test_last_words(void **state)
{
	struct machine *m = *state;

	boot_pipes(m);
	say_text(m, "reboot: ");
	say_text(m, "Power down\n");
	tdrv_write(&m->d, MMIO_STATUS, 0);
	expect_text(m, "reboot: Power down\n");
}

/* More than a turn's work of it. */
static void test_long_last_words(void **state)
{
	struct machine *m = *state;
	int fd = memfd_create("out", MFD_CLOEXEC);

	m->out = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	boot(m, -1, fd);
	say(m, 0, 300000);
	tdrv_write(&m->d, MMIO_STATUS, 0);
	assert_int_equal(lseek(m->out, 0, SEEK_SET), 0);
	expect_pattern(m, 0, 300000);
}

/* A new driver's output is not mistaken for the rest of the old one's. */
static void test_reset_amid_output(void **state)
{
	struct machine *m = *state;
	char buf[4096];

	boot_pipes(m);
	assert_true(fcntl(m->out, F_SETPIPE_SZ, 4096) == 4096);
	say(m, 0, 20000);
	listen_for(m, 10);
	tdrv_kick(&m->d, RX);
	kick_and_settle(m, TX);
	tdrv_start(&m->d, ALL);
	uint16_t head = say_text(m, "fresh");
	kick_and_settle(m, TX);
	expect_none_used(m, TX);
	assert_int_equal(read(m->out, buf, sizeof(buf)), sizeof(buf));
	expect_used(m, TX, head, 0);
	expect_text(m, "fresh");
}

/* The chain's length changes while the rest of it waits. */
static void test_output_shrinks(void **state)
{
	struct machine *m = *state;
	const uint32_t len = 5;

	boot_pipes(m);
	assert_true(fcntl(m->out, F_SETPIPE_SZ, 4096) == 4096);
	uint16_t head = say(m, 0, 20000);
	kick_and_settle(m, TX);
	memcpy(tdrv_at(&m->d, m->d.q[TX].desc + 16 * (uint64_t)head + 8), &len, sizeof(len));
	expect_pattern(m, 0, 4096);
	expect_used(m, TX, head, 0);
	expect_silence(m);
}

/* Half of a buffer is out when the machine is saved; the other half comes from where it is restored, once. */
static void test_snapshot(void **state)
{
	struct machine *m = *state;
	struct machine other = {.in = -1, .out = -1};
	struct virtio_mmio_state *s = calloc(1, sizeof(*s));
	enum { LEN = 20000 };
	int out[2];
	uint16_t size[2];

	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	m->out = out[0];
	set_up(m, -1, out[1]);
	set_up(&other, -1, out[1]);
	close(out[1]);
	io_set_nonblock(m->out, true);
	assert_true(fcntl(m->out, F_SETPIPE_SZ, 4096) == 4096);
	tdrv_start(&m->d, ALL);
	console_resize(m->c, 100, 40);
	say(m, 0, LEN);
	kick_and_settle(m, TX);
	assert_int_equal(virtio_mmio_suspend(m->d.m, s), 0);
	tdrv_settle(&m->d);

	memcpy(other.d.host, m->d.host, TDRV_MEM_LEN);
	assert_int_equal(virtio_mmio_restore(other.d.m, s), 0);
	memcpy(other.d.q, m->d.q, sizeof(other.d.q));
	other.out = m->out;
	expect_pattern(&other, 0, LEN);
	assert_int_equal(tdrv_wait(&other.d, TX, NULL), 0);
	expect_silence(&other);
	tdrv_config(&other.d, 0, size, sizeof(size));
	assert_int_equal(size[0], 100);
	assert_int_equal(size[1], 40);

	tdrv_done(&other.d);
	console_free(other.c);
	loop_free(other.loop);
	free(s);
}

static void test_resume(void **state)
{
	struct machine *m = *state;
	struct virtio_mmio_state *s = calloc(1, sizeof(*s));

	boot_pipes(m);
	assert_true(fcntl(m->out, F_SETPIPE_SZ, 4096) == 4096);
	say(m, 0, 20000);
	kick_and_settle(m, TX);
	assert_int_equal(virtio_mmio_suspend(m->d.m, s), 0);
	assert_int_equal(virtio_mmio_resume(m->d.m), 0);
	expect_pattern(m, 0, 20000);
	expect_silence(m);
	free(s);
}

static void test_restore_hostile(void **state)
{
	struct machine *m = *state;
	uint8_t buf[VIRTIO_STATE_MAX] = {0}, bad[VIRTIO_STATE_MAX];

	boot_pipes(m);
	struct virtio_device *dev = console_device(m->c);
	size_t len = dev->ops->save(dev, buf);
	assert_true(len > 0 && len <= sizeof(buf));
	assert_int_equal(dev->ops->restore(dev, buf, len), 0);
	for (size_t i = 0; i < sizeof(buf); i++) {
		if (i != len)
			assert_int_equal(dev->ops->restore(dev, buf, i), -EINVAL);
	}
	for (unsigned i = 0; i < 32; i++) { /* another version */
		memcpy(bad, buf, len);
		bad[i / 8] ^= (uint8_t)(1 << i % 8);
		assert_int_equal(dev->ops->restore(dev, bad, len), -EINVAL);
	}
	/* Anything else is possible, and harmless. */
	memset(bad + 4, 0xff, len - 4);
	memcpy(bad, buf, 4);
	assert_int_equal(dev->ops->restore(dev, bad, len), 0);
	uint16_t head = say_text(m, "lost");
	tdrv_kick(&m->d, TX);
	expect_used(m, TX, head, 0);
	head = say_text(m, "heard");
	tdrv_kick(&m->d, TX);
	expect_used(m, TX, head, 0);
	expect_text(m, "heard");
}

static void test_bad_descriptor(void **state)
{
	struct machine *m = *state;
	const struct console_config conf = {.in_fd = -1, .out_fd = 9999};

	assert_int_equal(loop_new(&m->loop), 0);
	assert_int_equal(console_new(m->loop, &conf, &m->c), -EBADF);
	assert_null(m->c);
}

#define T(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_5_3_2_identity),
		T(test_5_3_4_size),
		T(test_resize_unattached),
		T(test_5_3_5_1_emergency_write),
		T(test_5_3_6_output),
		T(test_output_event_idx),
		T(test_output_nowhere),
		T(test_output_slow_reader),
		T(test_output_dead_reader),
		T(test_output_reader_dies_while_full),
		T(test_output_pending_sigpipe),
		T(test_output_file),
		T(test_output_error),
		T(test_output_null),
		T(test_socket),
		T(test_flags_unchanged),
		T(test_terminal),
		T(test_terminal_master),
		T(test_asked_by_poll),
		T(test_5_3_6_input),
		T(test_input_scattered),
		T(test_5_3_6_1_input_readable_only),
		T(test_input_no_buffers),
		T(test_input_eof),
		T(test_input_file),
		T(test_2_7_5_outside),
		T(test_last_words),
		T(test_long_last_words),
		T(test_reset_amid_output),
		T(test_output_shrinks),
		T(test_snapshot),
		T(test_resume),
		T(test_restore_hostile),
		T(test_bad_descriptor),
	};
	return cmocka_run_group_tests_name("console", tests, NULL, NULL);
}
