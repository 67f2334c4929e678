/* SPDX-License-Identifier: MIT */
#include "balloon/test-machine.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

void on_discard(void *data, uint64_t gpa, uint64_t len)
{
	struct machine *m = data;
	void *p = guest_mem_at(&m->d.mem, gpa, len);

	assert_non_null(p);
	assert_true(len > 0 && len % PAGE == 0 && gpa % PAGE == 0);
	assert_true(m->n_given < GIVEN_MAX);
	memset(p, 0, len);
	m->given[m->n_given].gpa = gpa;
	m->given[m->n_given++].len = len;
}

struct machine *machine_new(void)
{
	struct machine *m = calloc(1, sizeof(*m));
	const struct balloon_config conf = {.mem_bytes = TDRV_MEM_LEN, .discard = on_discard, .data = m};

	assert_int_equal(loop_new(&m->loop), 0);
	assert_int_equal(balloon_new(m->loop, &conf, &m->b), 0);
	tdrv_init(&m->d, m->loop, balloon_device(m->b));
	return m;
}

int setup(void **state)
{
	struct machine *m = machine_new();

	tdrv_start(&m->d, ALL);
	*state = m;
	return 0;
}

void machine_free(struct machine *m)
{
	tdrv_done(&m->d);
	balloon_free(m->b);
	loop_free(m->loop);
	free(m->extra);
	free(m);
}

int teardown(void **state)
{
	machine_free(*state);
	return 0;
}

void add_region(struct machine *m)
{
	m->extra = aligned_alloc(PAGE, 16 * PAGE);
	m->d.mem.regions[m->d.mem.n_regions++] =
		(struct guest_mem_region){.gpa = TDRV_GPA + TDRV_MEM_LEN, .len = 16 * PAGE, .host = m->extra};
}

/* ---- the guest ---- */

uint16_t name_pages(struct machine *m, unsigned q, const uint32_t *pfns, unsigned n)
{
	void *p;
	struct tdrv_buf b = {.len = (uint32_t)sizeof(*pfns) * n};

	b.gpa = tdrv_alloc(&m->d, b.len, &p);
	memcpy(p, pfns, b.len);
	return tdrv_add(&m->d, q, &b, 1);
}

void inflate(struct machine *m, const uint32_t *pfns, unsigned n)
{
	name_pages(m, INFLATE, pfns, n);
	tdrv_kick(&m->d, INFLATE);
	assert_int_equal(tdrv_wait(&m->d, INFLATE, NULL), 0);
}

struct tdrv_buf range(uint64_t off, uint32_t len)
{
	return (struct tdrv_buf){.gpa = TDRV_GPA + (uint64_t)FREE_AT * PAGE + off, .len = len, .write = true};
}

void report(struct machine *m, unsigned q, const struct tdrv_buf *bufs, unsigned n)
{
	tdrv_add(&m->d, q, bufs, n);
	tdrv_kick(&m->d, q);
	assert_int_equal(tdrv_wait(&m->d, q, NULL), 0);
}

void tell_stats(struct machine *m, const struct stat_entry *e, size_t len)
{
	void *p;
	struct tdrv_buf b = {.len = (uint32_t)len};

	b.gpa = tdrv_alloc(&m->d, len, &p);
	memcpy(p, e, len);
	tdrv_add(&m->d, STATS, &b, 1);
	tdrv_kick(&m->d, STATS);
	tdrv_settle(&m->d);
}

/* ---- what came of it ---- */

void expect_given(struct machine *m, unsigned i, uint32_t pfn, unsigned pages)
{
	assert_true(i < m->n_given);
	assert_int_equal(m->given[i].gpa, (uint64_t)pfn * PAGE);
	assert_int_equal(m->given[i].len, (uint64_t)pages * PAGE);
}

void expect_no_more(struct machine *m, unsigned n)
{
	tdrv_settle(&m->d);
	assert_int_equal(m->n_given, n);
	m->n_given = 0;
}

uint64_t refused(struct machine *m)
{
	struct balloon_stats s;

	balloon_stats(m->b, &s);
	return s.refused;
}
