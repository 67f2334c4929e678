/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/io.h"
#include "test-tcp-link.h"

int listener = -1;
uint16_t listener_port;

int link_start(void **state)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);

	box_init();
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_return_code(bind(listener, (struct sockaddr *)&a, len), errno);
	assert_return_code(listen(listener, 2048), errno);
	getsockname(listener, (struct sockaddr *)&a, &len);
	listener_port = ntohs(a.sin_port);
	return 0;
}

int link_finish(void **state)
{
	box_done();
	close_fd(&listener);
	return 0;
}

/* ---- one connection ---- */

const struct seg *expect_at(uint8_t flags, uint32_t seq, uint32_t ack, int line)
{
	const struct seg *g = box_wait();

	if (!g)
		fail_msg("line %d: no segment", line);
	if ((g->flags & ~TCP_PSH) != flags || g->seq != seq || (flags & TCP_ACK && g->ack != ack))
		fail_msg("line %d: flags %#x seq %u ack %u, %zu bytes instead of %#x %u %u", line, g->flags,
			g->seq, g->ack, g->len, flags, seq, ack);
	return g;
}

void expect_nothing(void)
{
	box_settle();
	const struct seg *g = box_next();
	if (g)
		fail_msg("flags %#x seq %u ack %u, %zu bytes", g->flags, g->seq, g->ack, g->len);
}

/* An acknowledgement that waited in vain for an answer to carry it. */
void expect_delayed(uint32_t seq, uint32_t ack)
{
	expect_nothing();
	box_sleep(TCP_ACK_DELAY_NS - 1);
	expect_nothing();
	box_sleep(1);
	expect(TCP_ACK, seq, ack);
}

void send_flags(struct link *l, uint8_t flags)
{
	l->s.flags = flags;
	box_sends(&l->s);
	l->s.seq += (uint32_t)l->s.len + !!(flags & (TCP_SYN | TCP_FIN));
	l->s.len = 0;
}

void send_text(struct link *l, const char *text)
{
	l->s.data = (const uint8_t *)text;
	l->s.len = strlen(text);
	send_flags(l, TCP_ACK | TCP_PSH);
}

struct link open_with(struct seg first)
{
	struct link l = {.s = first};

	l.s.seq = BOX_ISS;
	l.s.dport = listener_port;
	l.s.window = BOX_WINDOW;
	send_flags(&l, TCP_SYN);
	const struct seg *g = box_wait();
	assert_non_null(g);
	assert_int_equal(g->flags, TCP_SYN | TCP_ACK);
	assert_int_equal(g->ack, BOX_ISS + 1);
	assert_int_equal(g->mss, NETD_MTU - 40);
	assert_int_equal(g->wscale, first.wscale ? 5 : -1);
	l.iss = g->seq;
	l.s.ack = g->seq + 1;
	send_flags(&l, TCP_ACK);
	l.host = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	assert_return_code(l.host, errno);
	const struct timeval limit = {.tv_sec = 10};
	setsockopt(l.host, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	expect_nothing();
	return l;
}

struct link open_one(void)
{
	return open_with((struct seg){.mss = 1460});
}

void expect_text(int fd, const char *text)
{
	char buf[64] = "";

	assert_int_equal(recv(fd, buf, strlen(text), MSG_WAITALL), (ssize_t)strlen(text));
	assert_string_equal(buf, text);
}

void expect_reset(int *fd)
{
	char c;

	assert_int_equal(read(*fd, &c, 1), -1);
	assert_int_equal(errno, ECONNRESET);
	close_fd(fd);
}

void expect_gone(void)
{
	box_settle();
	assert_int_equal(box.p.n_conns, 0);
	assert_int_equal(box.g.tcp->pool.used, 0);
}
