/* SPDX-License-Identifier: MIT */
/*
 * For tests of the vsock device: a guest's stream layer with credit, over the driver in test-driver.c, and
 * helpers for the host's side. All of it turns in one thread, so nothing depends on timing.
 */
#ifndef TEST_GUEST_H
#define TEST_GUEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test-driver.h"

enum { G_NONE, G_ASKED, G_OPEN, G_CLOSED };
enum { MAX_GC = 1100, MAX_TURNS = 2000000 };

/* The guest's end of a connection. */
struct gconn {
	int state;
	uint32_t port, peer_port;
	uint32_t tx_cnt, peer_alloc, peer_fwd;
	uint32_t rx_cnt, fwd_cnt, buf_alloc;
	unsigned shut;	/* SHUTDOWN flags received */
	bool rst, hold; /* hold: the guest's application does not read */
	unsigned n_credit;
	uint64_t sum_in, n_in, sum_out, n_out; /* order-dependent checksums */
	char last[64];			       /* start of the last payload */
	size_t last_len;
	bool echo;
};

struct fixture {
	char dir[64];
	int dirfd;
	struct loop *loop;
	struct vsock_dev *v;
	struct vhost_user *u;
	struct drv d;
	struct gconn gc[MAX_GC];
	unsigned n_gc;
	bool listen; /* the guest accepts REQUESTs */
	int n_gone;
	unsigned n_stray_rst;
	struct vsock_hdr last_hdr;
};

/* An order-dependent checksum, and bytes to sum up: those of a stream from position `at`. */
uint64_t mix(uint64_t sum, const uint8_t *p, size_t n);
void pattern(uint8_t *p, size_t n, uint64_t at);

/* ---- the guest ---- */

bool g_send(struct fixture *f, struct gconn *g, uint16_t op, const void *p, uint32_t len, uint32_t flags);
struct gconn *g_connect(struct fixture *f, uint32_t port, uint32_t peer_port);
uint32_t g_credit(const struct gconn *g);
void g_pump_out(struct fixture *f, struct gconn *g, uint64_t total);

/* ---- fixture ---- */

void attach(struct fixture *f);
int setup(void **state);
int setup_flags(void **state);
int teardown(void **state);

/* ---- the host's programs ---- */

int host_listen(struct fixture *f, int port);
int host_client(struct fixture *f, const char *line);
void settle(struct fixture *f);
char *read_text(int s);
bool at_eof(int s);
bool closed(int s);
void pair(struct fixture *f, uint32_t guest_port, struct gconn **g, int *s);

#define UNTIL(f, cond) \
	do { \
		int left_ = MAX_TURNS; \
		while (!(cond)) { \
			drv_turn(&(f)->d); \
			if (--left_ == 0) \
				fail_msg("stands still: %s", #cond); \
		} \
	} while (0)

#endif
