/* SPDX-License-Identifier: MIT */
#include "blk/test-disk.h"

#include <endian.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

void disk_init(struct disk *k, enum disk_kind kind, bool read_only, unsigned n_queues)
{
	char path[] = "/tmp/test-blk-XXXXXX";
	struct err e = {0};

	memset(k, 0, sizeof(*k));
	k->seed = 1;
	k->fd = kind == DISK_MEMFD ? memfd_create("disk", MFD_CLOEXEC | MFD_ALLOW_SEALING)
				   : mkostemp(path, O_CLOEXEC);
	assert_true(k->fd >= 0);
	if (kind == DISK_FILE)
		assert_int_equal(unlink(path), 0);
	assert_int_equal(ftruncate(k->fd, DISK_LEN), 0);
	assert_int_equal(loop_new(&k->loop), 0);
	k->conf = (struct blk_config){
		.fd = k->fd, .read_only = read_only, .n_queues = n_queues, .id = "a-disk"};
	if (blk_new(&k->conf, &k->b, &e) < 0)
		fail_msg("%s", e.msg);
	tdrv_init(&k->d, k->loop, blk_device(k->b));
}

void disk_start(struct disk *k, uint64_t features)
{
	tdrv_start(&k->d, features);
}

void disk_done(struct disk *k)
{
	tdrv_done(&k->d);
	blk_free(TAKE_PTR(k->b));
	loop_free(TAKE_PTR(k->loop));
	close_fd(&k->fd);
}

uint32_t disk_random(struct disk *k)
{
	/* The same on every run: a failure can be repeated. */
	k->seed = k->seed * 1664525 + 1013904223;
	return k->seed >> 8;
}

void disk_fill(struct disk *k, void *buf, size_t len)
{
	for (size_t i = 0; i < len; i++)
		((uint8_t *)buf)[i] = (uint8_t)disk_random(k);
}

/* Cuts len bytes into pieces of guest memory that do not lie side by side. */
static void cut(struct disk *k, struct disk_op *op, const uint8_t *src, size_t len, bool write, unsigned cuts)
{
	while (len) {
		size_t part = len;
		if (cuts && len > 1) {
			part = 1 + disk_random(k) % MIN_OF(len, 2 * len / cuts + 1);
			part = MIN_OF(part, len);
			cuts--;
		}
		void *host;
		uint64_t gpa = tdrv_alloc(&k->d, part + disk_random(k) % 32, &host);
		if (src) {
			memcpy(host, src, part);
			src += part;
		} else {
			memset(host, 0xee, part); /* what was there before */
		}
		assert_true(op->n < ARRAY_LEN(op->bufs));
		op->bufs[op->n++] = (struct tdrv_buf){gpa, (uint32_t)part, write};
		len -= part;
	}
}

void disk_submit(struct disk *k, struct disk_op *op, unsigned queue, const void *out, size_t out_len,
	size_t in_len, unsigned cuts, bool indirect)
{
	op->n = 0;
	op->queue = queue;
	op->in_len = (uint32_t)in_len;
	cut(k, op, out, out_len, false, cuts);
	op->n_out = op->n;
	cut(k, op, NULL, in_len, true, cuts);
	op->head = indirect ? tdrv_add_indirect(&k->d, queue, op->bufs, op->n)
			    : tdrv_add(&k->d, queue, op->bufs, op->n);
}

void disk_collect(struct disk *k, const struct disk_op *op, void *in)
{
	uint8_t *p = in;

	for (unsigned i = op->n_out; i < op->n; i++) {
		memcpy(p, tdrv_at(&k->d, op->bufs[i].gpa), op->bufs[i].len);
		p += op->bufs[i].len;
	}
}

int disk_do_cut(struct disk *k, uint32_t type, uint64_t sector, const void *out, void *in, size_t len,
	unsigned cuts, bool indirect)
{
	const struct blk_req_hdr h = {htole32(type), 0, htole64(sector)};
	size_t out_len = sizeof(h) + (out ? len : 0), in_len = (in ? len : 0) + 1;
	uint8_t *o = malloc(out_len), *i = malloc(in_len);
	struct disk_op op;
	uint16_t head;

	memcpy(o, &h, sizeof(h));
	if (out)
		memcpy(o + sizeof(h), out, len);
	disk_submit(k, &op, 0, o, out_len, in_len, cuts, indirect);
	tdrv_kick(&k->d, 0);
	assert_int_equal(tdrv_wait(&k->d, 0, &head), in_len);
	assert_int_equal(head, op.head);
	disk_collect(k, &op, i);
	if (in)
		memcpy(in, i, len);
	int status = i[in_len - 1];
	free(o);
	free(i);
	return status;
}

int disk_do(struct disk *k, uint32_t type, uint64_t sector, const void *out, void *in, size_t len)
{
	return disk_do_cut(k, type, sector, out, in, len, 0, false);
}

void disk_expect_broken(struct disk *k)
{
	tdrv_kick(&k->d, 0);
	tdrv_expect_broken(&k->d);
}
