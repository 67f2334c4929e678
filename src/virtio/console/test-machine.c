/* SPDX-License-Identifier: MIT */
#include "console/test-machine.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>

#include <cmocka.h>

#include "base/io.h"

void set_up(struct machine *m, int in_fd, int out_fd)
{
	const struct console_config conf = {.in_fd = in_fd, .out_fd = out_fd, .cols = 80, .rows = 25};

	assert_int_equal(loop_new(&m->loop), 0);
	assert_int_equal(console_new(m->loop, &conf, &m->c), 0);
	tdrv_init(&m->d, m->loop, console_device(m->c));
}

void boot(struct machine *m, int in_fd, int out_fd)
{
	set_up(m, in_fd, out_fd);
	close_fd(&in_fd);
	if (out_fd != in_fd)
		close_fd(&out_fd);
	tdrv_start(&m->d, ALL);
}

void boot_pipes(struct machine *m)
{
	int in[2], out[2];

	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	m->in = in[1];
	m->out = out[0];
	boot(m, in[0], out[1]);
	io_set_nonblock(m->out, true);
}

int setup(void **state)
{
	struct machine *m = calloc(1, sizeof(*m));

	m->in = m->out = -1;
	*state = m;
	signal(SIGPIPE, SIG_DFL);
	alarm(60);
	return 0;
}

int teardown(void **state)
{
	struct machine *m = *state;

	tdrv_done(&m->d);
	console_free(m->c);
	loop_free(m->loop);
	close_fd(&m->in);
	if (m->out >= 0)
		close_fd(&m->out);
	free(m);
	alarm(0);
	return 0;
}

/* ---- the guest ---- */

uint8_t pattern(unsigned n, size_t i)
{
	return (uint8_t)(i * 7 + i / 251 + n * 13 + 1);
}

uint16_t say(struct machine *m, unsigned n, uint32_t len)
{
	uint8_t *p;
	struct tdrv_buf b = {.len = len};

	b.gpa = tdrv_alloc(&m->d, len, (void **)&p);
	for (uint32_t i = 0; i < len; i++)
		p[i] = pattern(n, i);
	return tdrv_add(&m->d, TX, &b, 1);
}

uint16_t say_text(struct machine *m, const char *text)
{
	void *p;
	struct tdrv_buf b = {.len = (uint32_t)strlen(text)};

	b.gpa = tdrv_alloc(&m->d, b.len, &p);
	memcpy(p, text, b.len);
	return tdrv_add(&m->d, TX, &b, 1);
}

void *listen_for(struct machine *m, uint32_t len)
{
	void *p;
	struct tdrv_buf b = {.len = len, .write = true};

	b.gpa = tdrv_alloc(&m->d, len, &p);
	tdrv_add(&m->d, RX, &b, 1);
	return p;
}

void kick_and_settle(struct machine *m, unsigned q)
{
	tdrv_kick(&m->d, q);
	tdrv_settle(&m->d);
}

/* ---- the host ---- */

void expect_text(struct machine *m, const char *text)
{
	char buf[256] = "";

	assert_int_equal(read(m->out, buf, sizeof(buf)), (ssize_t)strlen(text));
	assert_memory_equal(buf, text, strlen(text));
}

void expect_pattern(struct machine *m, unsigned n, size_t len)
{
	uint8_t buf[1000];

	for (size_t at = 0; at < len;) {
		ssize_t r = read(m->out, buf, MIN_OF(sizeof(buf), len - at));
		if (r < 0) {
			assert_int_equal(errno, EAGAIN);
			assert_int_equal(loop_turn(m->loop, 1000), 0);
			continue;
		}
		assert_true(r > 0);
		for (ssize_t i = 0; i < r; i++)
			assert_int_equal(buf[i], pattern(n, at + (size_t)i));
		at += (size_t)r;
	}
}

void expect_silence(struct machine *m)
{
	char c;

	tdrv_settle(&m->d);
	assert_int_equal(read(m->out, &c, 1), -1);
	assert_int_equal(errno, EAGAIN);
}

void expect_used(struct machine *m, unsigned q, uint16_t head, uint32_t len)
{
	uint16_t h;

	assert_int_equal(tdrv_wait(&m->d, q, &h), len);
	assert_int_equal(h, head);
}

void expect_none_used(struct machine *m, unsigned q)
{
	assert_false(tdrv_used(&m->d, q, NULL, NULL));
}

int waiting_bytes(int fd)
{
	int n = -1;

	ioctl(fd, FIONREAD, &n);
	return n;
}
