/* SPDX-License-Identifier: MIT */
/* For tests: disks built of tars in memory, and known to the database. After cmocka.h. */
#ifndef OCI_TEST_BUILT_H
#define OCI_TEST_BUILT_H

#include "disk.h"
#include "test-home.h"
#include "test-tar.h"

#define LAYERS 4 /* at most */

struct memory {
	const uint8_t *p;
	size_t n;
};

/* An image of tars in memory, as the store would have it. */
struct made {
	struct buf tars[LAYERS];
	size_t n;
	struct memory at[LAYERS];
	char diff_ids[LAYERS][OCI_DIGEST_MAX], chain[OCI_DIGEST_MAX];
	struct oci_layer layers[LAYERS];
};

static inline ssize_t read_memory(void *data, void *buf, size_t n, struct err *e)
{
	struct memory *m = data;

	n = MIN_OF(n, m->n);
	if (n)
		memcpy(buf, m->p, n);
	m->p += n;
	m->n -= n;
	return (ssize_t)n;
}

static inline int open_memory(void *data, size_t index, struct oci_source *ret, struct err *e)
{
	struct made *m = data;

	m->at[index] = (struct memory){buf_data(&m->tars[index]), m->tars[index].len};
	*ret = (struct oci_source){.read = read_memory, .data = &m->at[index]};
	return 0;
}

static inline void made_end(struct made *m, size_t n)
{
	m->n = n;
	for (size_t i = 0; i < n; i++) {
		tar_end(&m->tars[i]);
		assert_int_equal(
			oci_digest_of(buf_data(&m->tars[i]), m->tars[i].len, m->diff_ids[i], NULL), 0);
		m->layers[i] = (struct oci_layer){.blob = m->diff_ids[i],
			.diff_id = m->diff_ids[i],
			.size = m->tars[i].len,
			.open = open_memory,
			.data = m};
	}
	assert_int_equal(oci_chain_id((const char(*)[OCI_DIGEST_MAX])m->diff_ids, n, m->chain, NULL), 0);
}

static inline void made_done(struct made *m)
{
	for (size_t i = 0; i < LAYERS; i++)
		buf_done(&m->tars[i]);
}

/* Builds it and, as an image does, says so in the database. */
static inline void build(struct home *h, struct made *m)
{
	struct err e = {0};
	uint64_t size = 0;
	int lock;

	assert_int_equal(oci_store_lock(h->s, OCI_LOCK_ADD, &lock, &e), 0);
	for (size_t i = 0; i < m->n; i++)
		m->layers[i].begun = false;
	int r = oci_disk_build(h->s, m->chain, m->layers, m->n, NULL, &size, &e);
	close(lock);
	if (r < 0)
		fail_msg("%s", e.msg);
	assert_int_equal(oci_disk_enter(h->s, m->chain, size, &e), 0);
	assert_int_equal(
		state_exec(h->s->st, &e,
			"INSERT OR REPLACE INTO image_manifests(digest, config, chain, size, created_ns,"
			" added_ns, exec) VALUES(?1, ?1, ?1, 0, 0, 0, '{}')",
			"s", m->chain),
		0);
	for (size_t i = 0; i < m->n; i++)
		assert_int_equal(state_exec(h->s->st, &e,
					 "INSERT OR REPLACE INTO image_blobs(manifest, pos, digest, diff) "
					 "VALUES(?, ?, ?, ?)",
					 "suss", m->chain, (uint64_t)i + 2, m->diff_ids[i], m->diff_ids[i]),
			0);
}

#endif
