/* SPDX-License-Identifier: MIT */
/*
 * One request (virtio 1.2 section 5.2.6): a header of 16 bytes that the device reads, data that it either
 * reads or writes, and a status byte that it writes. How the driver cut that into descriptors means nothing
 * (2.7.4.1), so the header is what comes first of the readable bytes, the status what comes last of the
 * writable ones.
 *
 * The header and the segments of discard and write zeroes are copied before they are judged; data goes
 * directly between the file and the guest's buffers. A chain without a whole header or a status byte cannot
 * be answered, and breaks the queue. Everything else is answered. Whatever the outcome, all of the writable
 * part is written, with zeros where there is no data, so that the length we return is true (2.7.8.2).
 */
#include <endian.h>
#include <fcntl.h>
#include <string.h>

#include "blk/internal.h"

/* What is left of a scattered buffer, edited in place. */
struct span {
	struct iovec *iov;
	unsigned n;
	uint64_t len;
};

static void span_skip(struct span *s, size_t len)
{
	s->len -= len;
	while (s->n && len >= s->iov->iov_len) {
		len -= s->iov->iov_len;
		s->iov++;
		s->n--;
	}
	if (len) {
		s->iov->iov_base = (uint8_t *)s->iov->iov_base + len;
		s->iov->iov_len -= len;
	}
}

/* Takes the last byte away. */
static uint8_t *span_cut_last(struct span *s)
{
	struct iovec *last = &s->iov[s->n - 1];

	last->iov_len--;
	s->len--;
	if (last->iov_len == 0)
		s->n--;
	return (uint8_t *)last->iov_base + last->iov_len;
}

static void span_zero(const struct span *s)
{
	for (unsigned i = 0; i < s->n; i++)
		memset(s->iov[i].iov_base, 0, s->iov[i].iov_len);
}

/*
 * True if the bytes from that sector on are on the disk. Nothing here can overflow, whatever the driver says.
 */
static bool on_disk(const struct blk_dev *b, uint64_t sector, uint64_t len)
{
	uint64_t end = b->capacity / BLK_SECTOR;

	return len % BLK_SECTOR == 0 && sector <= end && len / BLK_SECTOR <= end - sector;
}

static enum blk_status status_of(int r)
{
	if (r == 0)
		return BLK_S_OK;
	return r == -EOPNOTSUPP ? BLK_S_UNSUPP : BLK_S_IOERR;
}

static enum blk_status do_read(struct blk_dev *b, uint64_t sector, struct span *data)
{
	uint64_t total = data->len;

	if (total > BLK_DATA_MAX || !on_disk(b, sector, total))
		return BLK_S_IOERR;
	off_t at = (off_t)(sector * BLK_SECTOR);
	while (data->n) {
		ssize_t n = preadv(b->conf.fd, data->iov, (int)data->n, at);
		if (n < 0 && errno == EINTR)
			continue;
		/* The end of a file that became shorter is an error like any other. */
		if (n <= 0)
			return BLK_S_IOERR;
		at += n;
		span_skip(data, (size_t)n);
	}
	blk_count(&b->stats.read_bytes, total);
	return BLK_S_OK;
}

static enum blk_status do_write(struct blk_queue *bq, uint64_t sector, struct span *data)
{
	struct blk_dev *b = bq->b;
	/* 5.2.6.2: without FLUSH the driver believes in a write-through cache */
	int flags = bq->writethrough ? RWF_DSYNC : 0;
	uint64_t total = data->len;

	if (bq->writethrough)
		blk_tell(bq);
	if (b->conf.read_only || total > BLK_DATA_MAX || !on_disk(b, sector, total))
		return BLK_S_IOERR;
	off_t at = (off_t)(sector * BLK_SECTOR);
	while (data->n) {
		ssize_t n = pwritev2(b->conf.fd, data->iov, (int)data->n, at, flags);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EOPNOTSUPP && flags) {
			flags = 0; /* an emulated kernel does not know it */
			continue;
		}
		if (n <= 0)
			return BLK_S_IOERR;
		at += n;
		span_skip(data, (size_t)n);
	}
	if (bq->writethrough && !flags && fdatasync(b->conf.fd) < 0)
		return BLK_S_IOERR;
	blk_count(&b->stats.write_bytes, total);
	return BLK_S_OK;
}

static enum blk_status do_flush(struct blk_queue *bq)
{
	struct blk_dev *b = bq->b;

	if (!b->conf.read_only && fdatasync(b->conf.fd) < 0)
		return BLK_S_IOERR;
	blk_count(&b->stats.flushes, 1);
	return BLK_S_OK;
}

/* ---- ranges: discard and write zeroes ---- */

static int allocate(int fd, int mode, uint64_t at, uint64_t len)
{
	int r;

	do {
		r = fallocate(fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)at, (off_t)len);
	} while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

static int write_zeros(int fd, uint64_t at, uint64_t len)
{
	enum { CHUNK = 16384, PIECES = 16 };
	static const uint8_t zeros[CHUNK];
	struct iovec iov[PIECES];

	while (len) {
		uint64_t left = MIN_OF(len, (uint64_t)CHUNK * PIECES);
		int n_iov = 0;
		for (; left; n_iov++) {
			iov[n_iov] = (struct iovec){(void *)(uintptr_t)zeros, MIN_OF(left, CHUNK)};
			left -= iov[n_iov].iov_len;
		}
		ssize_t n = pwritev(fd, iov, n_iov, (off_t)at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		at += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

/* The file system cannot do that; or a block device, to a range that is not made of its blocks. */
static bool unsupported(int r)
{
	return r == -EOPNOTSUPP || r == -EINVAL;
}

/*
 * 5.2.6.2: reads zeros afterwards. With unmap it may cost the storage, which is what a sparse disk is for.
 * Without, the guest wants to find room there later; only a file system that cannot do that gets real zeros.
 */
static int zero_range(struct blk_dev *b, uint64_t at, uint64_t len, bool unmap)
{
	if (unmap) {
		int r = allocate(b->conf.fd, FALLOC_FL_PUNCH_HOLE, at, len);
		if (!unsupported(r))
			return r;
	}
	if (!__atomic_load_n(&b->no_zero_range, __ATOMIC_RELAXED)) {
		int r = allocate(b->conf.fd, FALLOC_FL_ZERO_RANGE, at, len);
		if (!unsupported(r))
			return r;
		if (r == -EOPNOTSUPP)
			__atomic_store_n(&b->no_zero_range, true, __ATOMIC_RELAXED);
	}
	return write_zeros(b->conf.fd, at, len);
}

static enum blk_status check_segment(
	const struct blk_dev *b, const struct blk_segment *s, uint32_t flags, uint32_t n_max)
{
	/* 5.2.6.2: UNSUPP for unknown flags, and for unmap with discard */
	if (s->flags & ~flags)
		return BLK_S_UNSUPP;
	if (s->n_sectors > n_max || !on_disk(b, s->sector, (uint64_t)s->n_sectors * BLK_SECTOR))
		return BLK_S_IOERR;
	return BLK_S_OK;
}

static int do_segment(struct blk_dev *b, const struct blk_segment *s, bool discard)
{
	uint64_t len = (uint64_t)s->n_sectors * BLK_SECTOR;

	if (len == 0)
		return 0;
	if (!discard)
		return zero_range(b, s->sector * BLK_SECTOR, len, s->flags & BLK_SEGMENT_UNMAP);
	int r = allocate(b->conf.fd, FALLOC_FL_PUNCH_HOLE, s->sector * BLK_SECTOR, len);
	if (r == 0)
		blk_count(&b->stats.discarded_bytes, len);
	return r;
}

/* All segments are copied and judged before the first is done. */
static enum blk_status do_ranges(struct blk_queue *bq, const struct span *data, bool discard)
{
	enum { SEGS_MAX = MAX_OF(BLK_DISCARD_SEGS_MAX, BLK_ZEROES_SEGS_MAX) };
	struct blk_dev *b = bq->b;
	struct blk_segment segs[SEGS_MAX];
	unsigned n_max = discard ? BLK_DISCARD_SEGS_MAX : BLK_ZEROES_SEGS_MAX;
	uint64_t n = data->len / sizeof(segs[0]);

	if (b->conf.read_only)
		return BLK_S_IOERR;
	if (!(discard ? bq->discard : bq->zeroes))
		return BLK_S_UNSUPP;
	if (n == 0 || n > n_max || data->len % sizeof(segs[0]))
		return BLK_S_IOERR;
	iov_read(data->iov, data->n, 0, segs, n * sizeof(segs[0]));
	for (unsigned i = 0; i < n; i++) {
		struct blk_segment *s = &segs[i];
		*s = (struct blk_segment){le64toh(s->sector), le32toh(s->n_sectors), le32toh(s->flags)};
		enum blk_status st = check_segment(b, s, discard ? 0 : BLK_SEGMENT_UNMAP,
			discard ? BLK_DISCARD_SECTORS_MAX : BLK_ZEROES_SECTORS_MAX);
		if (st != BLK_S_OK)
			return st;
	}
	for (unsigned i = 0; i < n; i++) {
		/* Not in the chain's length, and work all the same (see bytes). */
		bq->bytes += discard ? BLK_COST : (uint64_t)segs[i].n_sectors * BLK_SECTOR;
		int r = do_segment(b, &segs[i], discard);
		if (r < 0)
			return status_of(r);
	}
	/* 5.2.6.2: zeros are a write, and stable like one */
	if (bq->writethrough && !discard && fdatasync(b->conf.fd) < 0)
		return BLK_S_IOERR;
	return BLK_S_OK;
}

/* ---- requests ---- */

static enum blk_status execute(
	struct blk_queue *bq, const struct blk_req_hdr *h, struct span *out, struct span *in)
{
	uint32_t type = le32toh(h->type);

	/* Only reads and the ID have data for the driver, only the rest has data of the driver. */
	bool gives = type == BLK_T_IN || type == BLK_T_GET_ID;
	bool takes = type == BLK_T_OUT || type == BLK_T_DISCARD || type == BLK_T_WRITE_ZEROES;
	if ((gives || takes || type == BLK_T_FLUSH) && ((!gives && in->len) || (!takes && out->len)))
		return BLK_S_IOERR;
	switch (type) {
	case BLK_T_IN:
		return do_read(bq->b, le64toh(h->sector), in);
	case BLK_T_OUT:
		return do_write(bq, le64toh(h->sector), out);
	case BLK_T_FLUSH:
		blk_tell(bq);
		bq->bytes += BLK_COST;
		return do_flush(bq);
	case BLK_T_GET_ID:
		if (in->len != BLK_ID_LEN)
			return BLK_S_IOERR;
		iov_write(in->iov, in->n, 0, bq->b->id, BLK_ID_LEN);
		span_skip(in, BLK_ID_LEN);
		return BLK_S_OK;
	case BLK_T_DISCARD:
	case BLK_T_WRITE_ZEROES:
		blk_tell(bq);
		return do_ranges(bq, out, type == BLK_T_DISCARD);
	default:
		return BLK_S_UNSUPP;
	}
}

int64_t blk_request(struct blk_queue *bq, struct vq *q)
{
	struct vq_chain *c = &bq->chain;
	struct blk_req_hdr h;

	if (c->out_len < sizeof(h))
		vq_break(q, "5.2.6: request without a whole header");
	else if (c->in_len < 1)
		vq_break(q, "5.2.6: request without room for its status");
	if (!vq_usable(q))
		return -EPROTO;
	iov_read(c->iov, c->n_out, 0, &h, sizeof(h));
	struct span out = {c->iov, c->n_out, c->out_len};
	struct span in = {c->iov + c->n_out, c->n_in, c->in_len};
	span_skip(&out, sizeof(h));
	uint8_t *status = span_cut_last(&in);

	enum blk_status s = execute(bq, &h, &out, &in);
	span_zero(&in);
	*status = (uint8_t)s;
	blk_count(&bq->b->stats.requests, 1);
	if (s != BLK_S_OK)
		blk_count(&bq->b->stats.errors, 1);
	bq->bytes += c->out_len + (uint64_t)c->in_len;
	return c->in_len;
}
