/* SPDX-License-Identifier: MIT */
/* For tests of virtio over MMIO: the echo device behind a transport, and a driver in front of it. */
#ifndef TEST_MMIO_FIXTURE_H
#define TEST_MMIO_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "test-mmio-driver.h"
#include "test-mmio-echo.h"

struct fixture {
	struct loop *loop;
	struct echo e;
	struct tdrv d;
};

static inline int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	assert_int_equal(loop_new(&f->loop), 0);
	echo_init(&f->e);
	tdrv_init(&f->d, f->loop, &f->e.dev);
	*state = f;
	return 0;
}

static inline int setup_threads(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	assert_int_equal(loop_new(&f->loop), 0);
	echo_init(&f->e);
	f->e.dev.own_threads = true;
	tdrv_init(&f->d, f->loop, &f->e.dev);
	*state = f;
	return 0;
}

static inline int teardown(void **state)
{
	struct fixture *f = *state;
	tdrv_done(&f->d);
	assert_null(f->e.dev.transport_ops);
	loop_free(f->loop);
	free(f);
	return 0;
}

/* ---- helpers ---- */

static inline uint32_t status(struct fixture *f)
{
	return tdrv_read(&f->d, MMIO_STATUS);
}

/* Makes a chain available that carries `text` there and room for an echo. */
static inline void offer(struct fixture *f, unsigned q, const char *text, void **ret_in)
{
	void *out;
	uint64_t a = tdrv_alloc(&f->d, 64, &out), b = tdrv_alloc(&f->d, 64, ret_in);
	strcpy(out, text);
	const struct tdrv_buf bufs[] = {{a, (uint32_t)strlen(text) + 1, false}, {b, 64, true}};
	tdrv_add(&f->d, q, bufs, 2);
}

static inline void echo_works(struct fixture *f, unsigned q)
{
	void *in;
	offer(f, q, "hello", &in);
	tdrv_kick(&f->d, q);
	assert_int_equal(tdrv_wait(&f->d, q, NULL), 6);
	assert_string_equal(in, "hello");
}

static inline void config_matches_page(struct fixture *f)
{
	const uint8_t *page = virtio_mmio_page(f->d.m);
	for (uint32_t off = VIRTIO_MMIO_PAGE_AT; off < VIRTIO_MMIO_LEN; off += 4) {
		uint32_t v;
		memcpy(&v, page + off - VIRTIO_MMIO_PAGE_AT, 4);
		assert_int_equal(v, tdrv_read(&f->d, off));
	}
}

static inline uint16_t used_idx(struct fixture *f, unsigned q)
{
	uint16_t v;
	memcpy(&v, tdrv_at(&f->d, f->d.q[q].used + 2), 2);
	return v;
}

#endif
