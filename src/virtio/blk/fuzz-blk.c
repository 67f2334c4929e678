/* SPDX-License-Identifier: MIT */
/*
 * The block device against a guest that asks for what the input says, and writes what it likes into its
 * rings. The device has no threads here: a step calls what a thread would.
 * Input: u8 flags (see `start`; 16: the disk is read-only), then steps of 8 bytes, see `step`.
 * Checked: nothing but the guest's memory is touched (the sanitizer), the disk keeps its size and, when it is
 * read-only, its content; everything that is taken is returned.
 */
#include <endian.h>
#include <string.h>
#include <sys/mman.h>

#include "base/io.h"
#include "blk/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { QSIZE = 16, MEM = 1 << 17, DISK = 64 << 10, GPA = 0x10000 };
enum {
	DESC_AT = 0,
	AVAIL_AT = 0x400,
	USED_AT = 0x800,
	TABLES_AT = 0x1000,
	HEADERS_AT = 0x3000,
	DATA_AT = 0x4000
};
enum { NEXT = 1, WRITE = 2, INDIRECT = 4 };

struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

struct world {
	struct blk_dev *b;
	int disk;
	uint8_t *mem;
	struct guest_mem gm;
	uint16_t avail;
	bool broken;
};

static void transport_notify(void *t, unsigned queue)
{
}

static void transport_needs_reset(void *t, unsigned queue, const char *why)
{
	if (!why)
		__builtin_trap();
	((struct world *)t)->broken = true;
}

static void transport_device_gone(void *t)
{
}

static const struct virtio_transport_ops transport = {
	.notify_driver = transport_notify,
	.needs_reset = transport_needs_reset,
	.device_gone = transport_device_gone,
};

static struct vq *vq_of(struct world *w)
{
	return &w->b->dev.vqs[0];
}

/* Flags: 1 EVENT_IDX, 2 INDIRECT_DESC, 4 FLUSH, 8 DISCARD and WRITE_ZEROES */
static void start(struct world *w, uint8_t flags)
{
	const struct vq_config conf = {.size = QSIZE,
		.event_idx = flags & 1,
		.indirect = flags & 2,
		.desc = GPA + DESC_AT,
		.avail = GPA + AVAIL_AT,
		.used = GPA + USED_AT};

	memset(w->mem, 0, TABLES_AT);
	w->avail = 0;
	w->broken = false;
	w->b->dev.negotiated = VIRTIO_F_VERSION_1 | (flags & 4 ? BLK_F_FLUSH : 0);
	if (flags & 8)
		w->b->dev.negotiated |= w->b->dev.features & (BLK_F_DISCARD | BLK_F_WRITE_ZEROES);
	if (vq_init(vq_of(w), &w->gm, &conf) < 0)
		__builtin_trap();
	blk_begin(&w->b->queues[0]);
}

static void offer(struct world *w, uint16_t head)
{
	memcpy(w->mem + AVAIL_AT + 4 + 2 * (w->avail % QSIZE), &head, 2);
	w->avail++;
	memcpy(w->mem + AVAIL_AT + 2, &w->avail, 2);
}

/* Writes descriptors for [addr, addr + len) cut into pieces. Returns how many. */
static unsigned lay(struct desc *d, uint64_t addr, uint32_t len, unsigned pieces, uint16_t flags)
{
	unsigned n = 0;

	for (uint32_t at = 0; at < len || n == 0; n++) {
		uint32_t part = n + 1 >= pieces ? len - at : MIN_OF(len - at, len / pieces + n);
		d[n] = (struct desc){addr + at, part, flags | NEXT, (uint16_t)(n + 1)};
		at += part;
		if (part == 0)
			return n + 1;
	}
	return n;
}

static const uint32_t lens[] = {
	0, 1, 511, 512, 513, 1024, 4096, 16, 32, 48, 20, 21, 17, 64 << 10, 70000, 1U << 31};
static const uint64_t sectors[] = {
	0, 1, DISK / 512 - 1, DISK / 512, 1ULL << 55, UINT64_MAX, INT64_MAX / 512, 8};
static const uint32_t types[] = {0, 1, 4, 8, 11, 13, 2, 0x80000001};

/* A request: s[1] type and sector, s[2] and s[3] lengths, s[4] pieces, s[5] shape, s[6] and s[7] segments. */
static void request(struct world *w, const uint8_t *s)
{
	struct blk_req_hdr h = {htole32(types[s[1] % 8]), 0, htole64(sectors[(s[1] >> 3) % 8])};
	struct desc d[40];
	unsigned slot = w->avail % QSIZE, n = 0;
	uint8_t *header = w->mem + HEADERS_AT + slot * 64;
	uint32_t out = lens[s[2] % 16], in = lens[s[3] % 16];
	uint64_t data = GPA + DATA_AT + (s[5] & 0xf0) * 64U;

	memcpy(header, &h, sizeof(h));
	struct blk_segment *seg = (struct blk_segment *)(void *)(w->mem + DATA_AT + (s[5] & 0xf0) * 64U);
	for (unsigned i = 0; i < 3 && s[5] & 8; i++) {
		seg[i] = (struct blk_segment){
			sectors[(s[6] >> i) % 8], s[7] % 64U * (i + 1), s[7] & 0x80 ? s[6] >> 6 : 0};
	}
	/* The header is cut, too, or part of it is missing. */
	n += lay(d + n, GPA + HEADERS_AT + slot * 64, s[5] & 1 ? 15 : 16, s[4] & 3, 0);
	if (out)
		n += lay(d + n, data, out, (s[4] >> 2) & 7, 0);
	if (in)
		n += lay(d + n, data, in, (s[4] >> 5) & 7, WRITE);
	if (!(s[5] & 4))
		n += lay(d + n, GPA + HEADERS_AT + slot * 64 + 32, 1, 1, WRITE);
	d[n - 1].flags &= (uint16_t)~NEXT;
	if (s[5] & 2) { /* in the queue's own table, over whatever lies there */
		for (unsigned i = 0; i < n; i++) {
			d[i].next = (uint16_t)((slot + i + 1) % QSIZE);
			memcpy(w->mem + DESC_AT + 16 * ((slot + i) % QSIZE), &d[i], 16);
		}
	} else {
		const struct desc table = {GPA + TABLES_AT + slot * 512, 16 * n, INDIRECT, 0};
		memcpy(w->mem + TABLES_AT + slot * 512, d, MIN_OF(16 * n, 512));
		memcpy(w->mem + DESC_AT + (size_t)16 * slot, &table, 16);
	}
	offer(w, (uint16_t)slot);
}

static void serve(struct world *w)
{
	struct vq *q = vq_of(w);

	(void)blk_serve(&w->b->queues[0], 64);
	if (w->broken != q->broken || q->in_flight > 1 || (q->in_flight && !q->broken))
		__builtin_trap();
}

static void step(struct world *w, const uint8_t *s)
{
	uint16_t off, value;

	memcpy(&off, s + 2, 2);
	memcpy(&value, s + 4, 2);
	switch (s[0] % 16) {
	case 0 ... 8:
		request(w, s);
		if (s[0] & 0x80)
			return; /* together with the next one */
		break;
	case 9: /* rings and tables go wild */
		memcpy(w->mem + MIN_OF(off, DATA_AT), s + 4, 4);
		break;
	case 10:
		offer(w, value);
		break;
	case 11:
		w->avail = value;
		offer(w, off);
		break;
	case 12: /* somebody else works on the file */
		if (ftruncate(w->disk, s[1] & 1 ? value : DISK) < 0)
			abort();
		break;
	case 13:
		vq_stop(vq_of(w));
		start(w, s[1]);
		break;
	default:
		break;
	}
	serve(w);
}

static void check_disk(const struct world *w, bool read_only)
{
	uint8_t b[4096];

	for (off_t at = 0; read_only && at < DISK; at += (off_t)sizeof(b)) {
		ssize_t n = io_pread_full(w->disk, b, sizeof(b), at);
		for (ssize_t i = 0; i < n; i++) {
			if (b[i] != 0)
				__builtin_trap();
		}
	}
	if (lseek(w->disk, 0, SEEK_END) > DISK)
		__builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct world w = {.gm.n_regions = 1};
	struct err e;

	if (size < 1)
		return 0;
	bool read_only = data[0] & 16;
	w.disk = memfd_create("disk", MFD_CLOEXEC);
	const struct blk_config conf = {.fd = w.disk, .read_only = read_only, .n_queues = 1, .id = "fuzz"};
	w.mem = malloc(MEM);
	if (w.disk < 0 || !w.mem || ftruncate(w.disk, DISK) < 0 || blk_alloc(&conf, &w.b, &e) < 0)
		abort();
	memset(w.mem, 0xa5, MEM);
	w.gm.regions[0] = (struct guest_mem_region){.gpa = GPA, .len = MEM, .host = w.mem};
	w.b->dev.transport_ops = &transport;
	w.b->dev.transport = &w;
	start(&w, data[0]);
	for (size_t at = 1; at + 8 <= size; at += 8)
		step(&w, data + at);
	serve(&w);
	check_disk(&w, read_only);
	blk_free(w.b);
	free(w.mem);
	close_fd(&w.disk);
	return 0;
}
