/* SPDX-License-Identifier: MIT */
#include "vsock/test-guest.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/io.h"

uint64_t mix(uint64_t sum, const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		sum = (sum ^ p[i]) * 0x100000001b3ULL;
	return sum;
}

void pattern(uint8_t *p, size_t n, uint64_t at)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)((at + i) * 2654435761U >> 13);
}

/* ---- the guest ---- */

bool g_send(struct fixture *f, struct gconn *g, uint16_t op, const void *p, uint32_t len, uint32_t flags)
{
	struct vsock_hdr h = {.src_cid = 3,
		.dst_cid = 2,
		.src_port = g->port,
		.dst_port = g->peer_port,
		.len = len,
		.type = 1,
		.op = op,
		.flags = flags,
		.buf_alloc = g->buf_alloc,
		.fwd_cnt = g->fwd_cnt};
	return drv_tx(&f->d, &h, p, len, len > 1000);
}

static struct gconn *g_new(struct fixture *f, uint32_t port, uint32_t peer_port)
{
	assert_true(f->n_gc < MAX_GC);
	struct gconn *g = &f->gc[f->n_gc++];
	memset(g, 0, sizeof(*g));
	g->port = port;
	g->peer_port = peer_port;
	g->buf_alloc = 256 * 1024;
	return g;
}

static struct gconn *g_find(struct fixture *f, uint32_t port, uint32_t peer_port)
{
	for (unsigned i = f->n_gc; i-- > 0;) {
		if (f->gc[i].port == port && f->gc[i].peer_port == peer_port && f->gc[i].state != G_CLOSED)
			return &f->gc[i];
	}
	return NULL;
}

static void g_forward(struct fixture *f, struct gconn *g, uint32_t n)
{
	uint32_t before = g->fwd_cnt;
	g->fwd_cnt += n;
	/* the guest's own updates; it never asks */
	if (before / 65536 != g->fwd_cnt / 65536)
		g_send(f, g, VSOCK_OP_CREDIT_UPDATE, NULL, 0, 0);
}

static void g_on_packet(void *data, const struct vsock_hdr *h, const uint8_t *payload)
{
	struct fixture *f = data;
	f->last_hdr = *h;
	struct gconn *g = g_find(f, h->dst_port, h->src_port);
	if (!g) {
		if (h->op == VSOCK_OP_REQUEST) {
			g = g_new(f, h->dst_port, h->src_port);
			g->state = f->listen ? G_OPEN : G_CLOSED;
			g_send(f, g, f->listen ? VSOCK_OP_RESPONSE : VSOCK_OP_RST, NULL, 0, 0);
			g->peer_alloc = h->buf_alloc;
		} else if (h->op == VSOCK_OP_RST) {
			f->n_stray_rst++;
		}
		return;
	}
	g->peer_alloc = h->buf_alloc;
	g->peer_fwd = h->fwd_cnt;
	switch (h->op) {
	case VSOCK_OP_RESPONSE:
		assert_int_equal(g->state, G_ASKED);
		g->state = G_OPEN;
		break;
	case VSOCK_OP_RST:
		g->state = G_CLOSED;
		g->rst = true;
		break;
	case VSOCK_OP_SHUTDOWN:
		g->shut |= h->flags;
		break;
	case VSOCK_OP_CREDIT_UPDATE:
		g->n_credit++;
		break;
	case VSOCK_OP_RW:
		g->rx_cnt += h->len;
		assert_true(g->rx_cnt - g->fwd_cnt <= g->buf_alloc); /* 5.10.6.3.2: never beyond our space */
		assert_int_equal(g->shut & VSOCK_SHUT_SEND, 0);	     /* nothing after the end */
		g->sum_in = mix(g->sum_in, payload, h->len);
		g->n_in += h->len;
		g->last_len = MIN_OF(h->len, sizeof(g->last));
		memcpy(g->last, payload, g->last_len);
		if (g->echo)
			assert_true(g_send(f, g, VSOCK_OP_RW, payload, h->len, 0));
		if (!g->hold)
			g_forward(f, g, h->len);
		break;
	default:
		fail_msg("unexpected op %u", h->op);
	}
}

struct gconn *g_connect(struct fixture *f, uint32_t port, uint32_t peer_port)
{
	struct gconn *g = g_new(f, port, peer_port);
	g->state = G_ASKED;
	assert_true(g_send(f, g, VSOCK_OP_REQUEST, NULL, 0, 0));
	return g;
}

uint32_t g_credit(const struct gconn *g)
{
	return g->peer_alloc - (g->tx_cnt - g->peer_fwd);
}

/* Sends what credit and queue allow of a stream of `total` patterned bytes. */
void g_pump_out(struct fixture *f, struct gconn *g, uint64_t total)
{
	uint8_t buf[65536];
	while (g->n_out < total && g->state == G_OPEN) {
		uint32_t n = (uint32_t)MIN_OF(MIN_OF(sizeof(buf), total - g->n_out), g_credit(g));
		if (n == 0 || drv_tx_full(&f->d))
			return;
		pattern(buf, n, g->n_out);
		assert_true(g_send(f, g, VSOCK_OP_RW, buf, n, 0));
		g->sum_out = mix(g->sum_out, buf, n);
		g->n_out += n;
		g->tx_cnt += n;
	}
}

/* ---- fixture ---- */

static void on_gone(void *data, const char *reason)
{
	((struct fixture *)data)->n_gone++;
}

void attach(struct fixture *f)
{
	int sv[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	assert_int_equal(vsock_serve_vhost_user(f->v, sv[0], on_gone, f, &f->u), 0);
	drv_init(&f->d, f->loop, sv[1]);
	f->d.on_packet = g_on_packet;
	f->d.data = f;
}

static int setup_with(void **state, bool event_idx)
{
	struct fixture *f = calloc(1, sizeof(*f));
	strcpy(f->dir, "/tmp/test-vsock-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	f->dirfd = open(f->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(loop_new(&f->loop), 0);
	assert_int_equal(vsock_new(f->loop, f->dirfd, &f->v), 0);
	attach(f);
	drv_boot(&f->d, event_idx);
	f->listen = true;
	*state = f;
	return 0;
}

int setup(void **state)
{
	return setup_with(state, true);
}

int setup_flags(void **state)
{
	return setup_with(state, false);
}

int teardown(void **state)
{
	struct fixture *f = *state;
	vhost_user_free(f->u);
	drv_done(&f->d);
	vsock_free(f->v);
	loop_free(f->loop);
	assert_int_equal(faccessat(f->dirfd, "vsock.sock", F_OK, 0), -1);
	close(f->dirfd);
	assert_int_equal(io_remove_tree_at(AT_FDCWD, f->dir), 0);
	free(f);
	return 0;
}

static void addr_of(struct fixture *f, struct sockaddr_un *a, int port)
{
	memset(a, 0, sizeof(*a));
	a->sun_family = AF_UNIX;
	if (port < 0)
		snprintf(a->sun_path, sizeof(a->sun_path), "%s/vsock.sock", f->dir);
	else
		snprintf(a->sun_path, sizeof(a->sun_path), "%s/vsock.sock_%d", f->dir, port);
}

int host_listen(struct fixture *f, int port)
{
	struct sockaddr_un a;
	int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	addr_of(f, &a, port);
	assert_int_equal(bind(s, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(s, 1000), 0);
	return s;
}

int host_client(struct fixture *f, const char *line)
{
	struct sockaddr_un a;
	int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	addr_of(f, &a, -1);
	assert_int_equal(connect(s, (struct sockaddr *)&a, sizeof(a)), 0);
	if (line)
		assert_int_equal(send(s, line, strlen(line), MSG_NOSIGNAL), strlen(line));
	return s;
}

/* Turns until all that can happen without us has happened. */
void settle(struct fixture *f)
{
	for (int i = 0; i < 20; i++)
		drv_turn(&f->d);
}

char *read_text(int s)
{
	static char buf[256];
	ssize_t n = recv(s, buf, sizeof(buf) - 1, MSG_DONTWAIT);
	buf[n > 0 ? n : 0] = 0;
	return buf;
}

bool at_eof(int s)
{
	char c;
	return recv(s, &c, 1, MSG_DONTWAIT) == 0;
}

/* Closed by the device, with or without something unread. */
bool closed(int s)
{
	char c;
	ssize_t n = recv(s, &c, 1, MSG_DONTWAIT);
	return n == 0 || (n < 0 && errno == ECONNRESET);
}

/* A connected pair, opened by the guest: *g and *s. */
void pair(struct fixture *f, uint32_t guest_port, struct gconn **g, int *s)
{
	int l = host_listen(f, 4000);
	*g = g_connect(f, guest_port, 4000);
	UNTIL(f, (*g)->state == G_OPEN);
	*s = accept4(l, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	assert_true(*s >= 0);
	close(l);
	unlinkat(f->dirfd, "vsock.sock_4000", 0);
}
