/* SPDX-License-Identifier: MIT */
/* The rules of virtio 1.2 section 5.2, each under its number, against a driver that keeps or breaks them. */
#include <endian.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/io.h"
#include "blk/test-disk.h"

static int setup_kind(void **state, enum disk_kind kind, bool read_only)
{
	struct disk *k = malloc(sizeof(*k));

	disk_init(k, kind, read_only, 1);
	disk_start(k, DISK_FEATURES);
	*state = k;
	return 0;
}

static int setup(void **state)
{
	return setup_kind(state, DISK_FILE, false);
}

static int setup_memfd(void **state)
{
	return setup_kind(state, DISK_MEMFD, false);
}

static int setup_read_only(void **state)
{
	return setup_kind(state, DISK_FILE, true);
}

static int teardown(void **state)
{
	disk_done(*state);
	free(*state);
	return 0;
}

static struct blk_stats stats_of(struct disk *k)
{
	struct blk_stats s;

	blk_stats(k->b, &s);
	return s;
}

static bool all_are(const uint8_t *p, size_t len, uint8_t v)
{
	for (size_t i = 0; i < len; i++) {
		if (p[i] != v)
			return false;
	}
	return true;
}

/* ---- 5.2.3, 5.2.4 ---- */

static uint32_t config32(struct disk *k, uint32_t off)
{
	uint32_t v;

	tdrv_config(&k->d, off, &v, 4);
	return le32toh(v);
}

static void s5_2_4_configuration(void **state)
{
	struct disk *k = *state;
	uint8_t tail[4];

	assert_int_equal(config32(k, 0), DISK_SECTORS);
	assert_int_equal(config32(k, 4), 0);
	assert_int_equal(config32(k, 12), BLK_SEG_MAX);
	assert_int_equal(config32(k, 20), 512);
	assert_int_equal(config32(k, 24), 3 | 8 << 16); /* 4 KiB physical blocks, 4 KiB at least */
	assert_int_equal(config32(k, 32), 1U << 16);	/* padding is 0; one queue */
	assert_int_equal(config32(k, 36), BLK_DISCARD_SECTORS_MAX);
	assert_int_equal(config32(k, 40), BLK_DISCARD_SEGS_MAX);
	assert_int_equal(config32(k, 44), 8);
	assert_int_equal(config32(k, 48), BLK_ZEROES_SECTORS_MAX);
	assert_int_equal(config32(k, 52), BLK_ZEROES_SEGS_MAX);
	assert_int_equal(config32(k, 56), 1);
	tdrv_config(&k->d, 0xfc, tail, 4);
	assert_true(all_are(tail, 4, 0));
}

static void s5_2_3_read_only_offers_no_writes(void **state)
{
	struct disk *k = *state;

	assert_true(k->d.features & BLK_F_RO);
	assert_true(k->d.features & BLK_F_FLUSH);
	assert_false(k->d.features & (BLK_F_DISCARD | BLK_F_WRITE_ZEROES));
	assert_int_equal(config32(k, 36), 0);
	assert_int_equal(config32(k, 56), 0);
}

/* ---- data ---- */

static void data_survives_any_framing(void **state)
{
	enum { MAX = 64 << 10, ROUNDS = 400 };
	struct disk *k = *state;
	uint8_t *shadow = calloc(1, DISK_LEN), *buf = malloc(MAX);
	uint64_t read = 0, written = 0;

	for (int i = 0; i < ROUNDS; i++) {
		size_t len = (1 + disk_random(k) % (MAX / 512)) * 512;
		uint64_t sector = disk_random(k) % (DISK_SECTORS - len / 512 + 1);
		unsigned cuts = disk_random(k) % 24;
		bool indirect = disk_random(k) & 1;
		if (disk_random(k) & 1) {
			disk_fill(k, buf, len);
			memcpy(shadow + sector * 512, buf, len);
			assert_int_equal(
				disk_do_cut(k, BLK_T_OUT, sector, buf, NULL, len, cuts, indirect), BLK_S_OK);
			written += len;
		} else {
			assert_int_equal(
				disk_do_cut(k, BLK_T_IN, sector, NULL, buf, len, cuts, indirect), BLK_S_OK);
			assert_memory_equal(buf, shadow + sector * 512, len);
			read += len;
		}
	}
	uint8_t *file = malloc(DISK_LEN);
	assert_int_equal(io_pread_full(k->fd, file, DISK_LEN, 0), DISK_LEN);
	assert_memory_equal(file, shadow, DISK_LEN);
	struct blk_stats s = stats_of(k);
	assert_int_equal(s.requests, ROUNDS);
	assert_int_equal(s.read_bytes, read);
	assert_int_equal(s.write_bytes, written);
	assert_int_equal(s.errors, 0);
	free(file);
	free(shadow);
	free(buf);
}

static void without_any_feature(void **state)
{
	struct disk *k = *state;
	uint8_t a[512], b[512];

	disk_start(k, 0); /* starts with a reset */
	disk_fill(k, a, sizeof(a));
	assert_int_equal(disk_do(k, BLK_T_OUT, 3, a, NULL, 512), BLK_S_OK); /* write-through, 5.2.6.2 */
	assert_int_equal(disk_do(k, BLK_T_IN, 3, NULL, b, 512), BLK_S_OK);
	assert_memory_equal(a, b, 512);
	/* 5.2.6.2: what was not negotiated is not supported */
	assert_int_equal(disk_do(k, BLK_T_DISCARD, 0, a, NULL, 16), BLK_S_UNSUPP);
	assert_int_equal(disk_do(k, BLK_T_WRITE_ZEROES, 0, a, NULL, 16), BLK_S_UNSUPP);
}

static void nothing_is_read_or_written_by_empty_requests(void **state)
{
	struct disk *k = *state;

	assert_int_equal(disk_do(k, BLK_T_IN, 0, NULL, NULL, 0), BLK_S_OK);
	assert_int_equal(disk_do(k, BLK_T_OUT, DISK_SECTORS, NULL, NULL, 0), BLK_S_OK);
	assert_int_equal(disk_do(k, BLK_T_OUT, DISK_SECTORS + 1, NULL, NULL, 0), BLK_S_IOERR);
}

/* ---- 5.2.6: framing ---- */

/* A read of one sector whose writable part is cut before byte `at` (0: not at all). */
static void read_cut_at(struct disk *k, const uint8_t *want, uint32_t at)
{
	const struct blk_req_hdr h = {0, 0, htole64(7)};
	void *out, *in[2];
	struct tdrv_buf bufs[3] = {{tdrv_alloc(&k->d, 16, &out), 16, false}};
	uint8_t got[513];
	unsigned n = 1;

	memcpy(out, &h, 16);
	if (at)
		bufs[n++] = (struct tdrv_buf){tdrv_alloc(&k->d, at, &in[0]), at, true};
	bufs[n++] = (struct tdrv_buf){tdrv_alloc(&k->d, 513 - at, &in[1]), 513 - at, true};
	*((uint8_t *)in[1] + 512 - at) = 0xee;
	tdrv_add(&k->d, 0, bufs, n);
	tdrv_kick(&k->d, 0);
	assert_int_equal(tdrv_wait(&k->d, 0, NULL), 513);
	if (at)
		memcpy(got, in[0], at);
	memcpy(got + at, in[1], 513 - at);
	assert_memory_equal(got, want, 512);
	assert_int_equal(got[512], BLK_S_OK);
}

static void s5_2_6_status_byte_in_a_split_descriptor(void **state)
{
	struct disk *k = *state;
	uint8_t data[512];

	disk_fill(k, data, 512);
	assert_int_equal(io_pwrite_full(k->fd, data, 512, 7 * 512), 0);
	static const uint32_t at[] = {0, 1, 500, 511, 512};
	for (unsigned i = 0; i < ARRAY_LEN(at); i++)
		read_cut_at(k, data, at[i]);
}

static void s5_2_6_header_in_pieces_of_a_byte(void **state)
{
	struct disk *k = *state;
	const struct blk_req_hdr h = {htole32(BLK_T_OUT), 0, htole64(9)};
	struct tdrv_buf bufs[18];
	uint8_t got[512];
	void *p;

	for (unsigned i = 0; i < 16; i++) {
		bufs[i] = (struct tdrv_buf){tdrv_alloc(&k->d, 1, &p), 1, false};
		memcpy(p, (const uint8_t *)&h + i, 1);
	}
	bufs[16] = (struct tdrv_buf){tdrv_alloc(&k->d, 512, &p), 512, false};
	memset(p, 0x77, 512);
	bufs[17] = (struct tdrv_buf){tdrv_alloc(&k->d, 1, &p), 1, true};
	tdrv_add(&k->d, 0, bufs, 18);
	tdrv_kick(&k->d, 0);
	assert_int_equal(tdrv_wait(&k->d, 0, NULL), 1);
	assert_int_equal(io_pread_full(k->fd, got, 512, 9 * 512), 512);
	assert_true(all_are(got, 512, 0x77));
}

static void s5_2_6_short_header_breaks_the_queue(void **state)
{
	struct disk *k = *state;
	struct disk_op op;
	uint8_t h[15] = {0};

	disk_submit(k, &op, 0, h, sizeof(h), 1, 0, false);
	disk_expect_broken(k);
	assert_false(tdrv_used(&k->d, 0, NULL, NULL));
	/* 2.1.2: and a reset mends it */
	disk_start(k, DISK_FEATURES);
	assert_int_equal(disk_do(k, BLK_T_FLUSH, 0, NULL, NULL, 0), BLK_S_OK);
}

static void s5_2_6_missing_status_breaks_the_queue(void **state)
{
	struct disk *k = *state;
	const struct blk_req_hdr h = {htole32(BLK_T_OUT), 0, 0};
	uint8_t out[16 + 512], got[512];
	struct disk_op op;

	memset(out, 0x55, sizeof(out));
	memcpy(out, &h, 16);
	disk_submit(k, &op, 0, out, sizeof(out), 0, 0, false);
	disk_expect_broken(k);
	assert_int_equal(io_pread_full(k->fd, got, 512, 0), 512);
	assert_true(all_are(got, 512, 0)); /* nothing was done that could not be answered */
}

static void s5_2_6_data_in_the_wrong_direction(void **state)
{
	struct disk *k = *state;
	uint8_t b[512] = {1};

	assert_int_equal(disk_do(k, BLK_T_IN, 0, b, NULL, 512), BLK_S_IOERR);
	assert_int_equal(disk_do(k, BLK_T_OUT, 0, NULL, b, 512), BLK_S_IOERR);
	assert_true(all_are(b, 512, 0)); /* 2.7.8.2: what counts as written is */
	assert_int_equal(disk_do(k, BLK_T_FLUSH, 0, b, NULL, 512), BLK_S_IOERR);
	assert_int_equal(disk_do(k, BLK_T_FLUSH, 0, NULL, b, 512), BLK_S_IOERR);
}

static void s5_2_6_unknown_type(void **state)
{
	struct disk *k = *state;
	uint8_t b[64];
	static const uint32_t types[] = {2, 3, 5, 10, 14, 16, 0x80000000, UINT32_MAX};

	for (unsigned i = 0; i < ARRAY_LEN(types); i++) {
		assert_int_equal(disk_do(k, types[i], 0, NULL, b, sizeof(b)), BLK_S_UNSUPP);
		assert_int_equal(disk_do(k, types[i], 0, NULL, NULL, 0), BLK_S_UNSUPP);
	}
}

static void s5_2_6_get_id(void **state)
{
	struct disk *k = *state;
	uint8_t id[21];

	assert_int_equal(disk_do(k, BLK_T_GET_ID, 0, NULL, id, 20), BLK_S_OK);
	assert_memory_equal(id, "a-disk\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);
	assert_int_equal(disk_do_cut(k, BLK_T_GET_ID, 0, NULL, id, 20, 9, false), BLK_S_OK);
	assert_memory_equal(id, "a-disk\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);
	assert_int_equal(disk_do(k, BLK_T_GET_ID, 0, NULL, id, 19), BLK_S_IOERR);
	assert_int_equal(disk_do(k, BLK_T_GET_ID, 0, NULL, id, 21), BLK_S_IOERR);
	assert_true(all_are(id, 21, 0));
}

/* ---- 5.2.6: bounds ---- */

static void s5_2_6_beyond_the_end(void **state)
{
	struct disk *k = *state;
	uint8_t b[1024];
	static const uint64_t sectors[] = {DISK_SECTORS - 1, DISK_SECTORS, UINT64_MAX, UINT64_MAX / 512,
		UINT64_MAX / 512 + 1, 1ULL << 55, INT64_MAX / 512};

	memset(b, 0x66, sizeof(b));
	for (unsigned i = 0; i < ARRAY_LEN(sectors); i++) {
		assert_int_equal(disk_do(k, BLK_T_OUT, sectors[i], b, NULL, 1024), BLK_S_IOERR);
		uint8_t got[1024];
		assert_int_equal(disk_do(k, BLK_T_IN, sectors[i], NULL, got, 1024), BLK_S_IOERR);
		assert_true(all_are(got, 1024, 0));
	}
	struct stat st;
	assert_int_equal(fstat(k->fd, &st), 0);
	assert_int_equal(st.st_size, DISK_LEN);
	assert_int_equal(st.st_blocks, 0); /* not even the part that would have fitted */
	assert_int_equal(stats_of(k).errors, 2 * ARRAY_LEN(sectors));
	assert_int_equal(disk_do(k, BLK_T_OUT, DISK_SECTORS - 2, b, NULL, 1024), BLK_S_OK);
}

static void s5_2_6_length_is_a_multiple_of_512(void **state)
{
	struct disk *k = *state;
	uint8_t b[1025];

	static const size_t lens[] = {1, 511, 513, 1023, 1025};
	for (unsigned i = 0; i < ARRAY_LEN(lens); i++) {
		memset(b, 1, sizeof(b));
		assert_int_equal(disk_do(k, BLK_T_OUT, 0, b, NULL, lens[i]), BLK_S_IOERR);
		assert_int_equal(disk_do(k, BLK_T_IN, 0, NULL, b, lens[i]), BLK_S_IOERR);
		assert_true(all_are(b, lens[i], 0));
	}
}

static void file_that_became_shorter(void **state)
{
	struct disk *k = *state;
	uint8_t b[4096];

	memset(b, 0x42, sizeof(b));
	assert_int_equal(disk_do(k, BLK_T_OUT, 0, b, NULL, sizeof(b)), BLK_S_OK);
	assert_int_equal(ftruncate(k->fd, 1000), 0);
	assert_int_equal(disk_do(k, BLK_T_IN, 0, NULL, b, sizeof(b)), BLK_S_IOERR);
	assert_true(all_are(b + 1000, sizeof(b) - 1000, 0)); /* never what lay in our memory */
	assert_int_equal(disk_do(k, BLK_T_IN, 100, NULL, b, sizeof(b)), BLK_S_IOERR);
	assert_int_equal(disk_do(k, BLK_T_IN, 0, NULL, b, 512), BLK_S_OK);
}

static void disk_full(void **state)
{
	struct disk *k = *state;
	struct rlimit before, small = {DISK_LEN / 2, RLIM_INFINITY};
	uint8_t b[4096] = {1};

	/* As a full file system: writes fail from there on. The signal must not reach anybody. */
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	small.rlim_max = before.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	int at = disk_do(k, BLK_T_OUT, DISK_SECTORS / 2, b, NULL, sizeof(b));
	int across = disk_do(k, BLK_T_OUT, DISK_SECTORS / 2 - 4, b, NULL, sizeof(b));
	int below = disk_do(k, BLK_T_OUT, 0, b, NULL, sizeof(b));
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	assert_int_equal(at, BLK_S_IOERR);
	assert_int_equal(across, BLK_S_IOERR);
	assert_int_equal(below, BLK_S_OK);
	assert_int_equal(disk_do(k, BLK_T_OUT, DISK_SECTORS / 2, b, NULL, sizeof(b)), BLK_S_OK);
}

static int do_ranges(struct disk *k, uint32_t type, const struct blk_segment *s, unsigned n)
{
	return disk_do_cut(k, type, 0, s, NULL, n * sizeof(*s), disk_random(k) % 5, false);
}

static void file_that_refuses_writes(void **state)
{
	struct disk *k = *state;
	struct blk_segment s = {0, 8, 0};
	uint8_t b[512] = {1};

	assert_int_equal(fcntl(k->fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
	assert_int_equal(disk_do(k, BLK_T_OUT, 0, b, NULL, 512), BLK_S_IOERR);
	assert_int_equal(do_ranges(k, BLK_T_DISCARD, &s, 1), BLK_S_IOERR);
	assert_int_equal(do_ranges(k, BLK_T_WRITE_ZEROES, &s, 1), BLK_S_IOERR);
	s.flags = BLK_SEGMENT_UNMAP;
	assert_int_equal(do_ranges(k, BLK_T_WRITE_ZEROES, &s, 1), BLK_S_IOERR);
	assert_int_equal(disk_do(k, BLK_T_IN, 0, NULL, b, 512), BLK_S_OK);
}

/* ---- 5.2.6.2 ---- */

static void s5_2_6_2_flush(void **state)
{
	struct disk *k = *state;
	uint8_t b[512] = {1};

	assert_int_equal(disk_do(k, BLK_T_OUT, 0, b, NULL, 512), BLK_S_OK);
	assert_int_equal(disk_do(k, BLK_T_FLUSH, 0, NULL, NULL, 0), BLK_S_OK);
	assert_int_equal(stats_of(k).flushes, 1);
}

static void s5_2_6_2_read_only_refuses_writes(void **state)
{
	struct disk *k = *state;
	const struct blk_segment s = {0, 8, 0};
	uint8_t b[512] = {1};

	assert_int_equal(disk_do(k, BLK_T_OUT, 0, b, NULL, 512), BLK_S_IOERR);
	assert_int_equal(do_ranges(k, BLK_T_DISCARD, &s, 1), BLK_S_IOERR);
	assert_int_equal(do_ranges(k, BLK_T_WRITE_ZEROES, &s, 1), BLK_S_IOERR);
	assert_int_equal(disk_do(k, BLK_T_FLUSH, 0, NULL, NULL, 0), BLK_S_OK);
	assert_int_equal(disk_do(k, BLK_T_IN, 0, NULL, b, 512), BLK_S_OK);
	assert_true(all_are(b, 512, 0));
}

/* Holes cut a file into more extents, which the file system has to write down somewhere. */
enum { METADATA = 64 };

static blkcnt_t blocks_of(struct disk *k)
{
	struct stat st;

	fsync(k->fd); /* file systems allocate late */
	assert_int_equal(fstat(k->fd, &st), 0);
	return st.st_blocks;
}

static void fill_disk(struct disk *k)
{
	uint8_t *b = malloc(DISK_LEN);

	memset(b, 0x5a, DISK_LEN);
	assert_int_equal(io_pwrite_full(k->fd, b, DISK_LEN, 0), 0);
	free(b);
}

static void expect_bytes(struct disk *k, uint64_t sector, size_t len, uint8_t v)
{
	uint8_t *b = malloc(len);

	assert_int_equal(disk_do(k, BLK_T_IN, sector, NULL, b, len), BLK_S_OK);
	assert_true(all_are(b, len, v));
	free(b);
}

static void s5_2_6_2_discard_frees_blocks(void **state)
{
	struct disk *k = *state;
	const struct blk_segment s[] = {{0, 1024, 0}, {2048, 2048, 0}, {8, 0, 0}};

	fill_disk(k);
	blkcnt_t before = blocks_of(k);
	assert_int_equal(do_ranges(k, BLK_T_DISCARD, s, 3), BLK_S_OK);
	assert_true(blocks_of(k) <= before - 3072 + METADATA);
	assert_int_equal(stats_of(k).discarded_bytes, 3072 * 512);
	expect_bytes(k, 0, 1024 * 512, 0);
	expect_bytes(k, 1024, 1024 * 512, 0x5a);
	expect_bytes(k, 2048, 2048 * 512, 0);
	expect_bytes(k, 4096, 512, 0x5a);
}

static void s5_2_6_2_ranges_are_bounded(void **state)
{
	struct disk *k = *state;
	struct blk_segment s[BLK_DISCARD_SEGS_MAX + 1] = {{0, 8, 0}};
	static const struct blk_segment bad[] = {{DISK_SECTORS - 1, 2, 0}, {DISK_SECTORS + 1, 0, 0},
		{UINT64_MAX, 1, 0}, {1ULL << 55, 8, 0}, {0, UINT32_MAX, 0}};

	fill_disk(k);
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		s[1] = bad[i];
		assert_int_equal(do_ranges(k, BLK_T_DISCARD, s, 2), BLK_S_IOERR);
		assert_int_equal(do_ranges(k, BLK_T_WRITE_ZEROES, s, 2), BLK_S_IOERR);
	}
	s[1] = (struct blk_segment){0};
	assert_int_equal(do_ranges(k, BLK_T_DISCARD, s, BLK_DISCARD_SEGS_MAX + 1), BLK_S_IOERR);
	assert_int_equal(do_ranges(k, BLK_T_WRITE_ZEROES, s, BLK_ZEROES_SEGS_MAX + 1), BLK_S_IOERR);
	assert_int_equal(disk_do(k, BLK_T_DISCARD, 0, NULL, NULL, 0), BLK_S_IOERR);
	assert_int_equal(disk_do(k, BLK_T_DISCARD, 0, s, NULL, 15), BLK_S_IOERR);
	assert_int_equal(disk_do(k, BLK_T_DISCARD, 0, s, NULL, 17), BLK_S_IOERR);
	expect_bytes(k, 0, DISK_LEN / 4, 0x5a); /* one bad segment, and none is done */
	assert_int_equal(do_ranges(k, BLK_T_DISCARD, s, BLK_DISCARD_SEGS_MAX), BLK_S_OK);
	expect_bytes(k, 0, 8 * 512, 0);
}

static void s5_2_6_2_flags(void **state)
{
	struct disk *k = *state;
	struct blk_segment s = {0, 8, 1};

	fill_disk(k);
	assert_int_equal(do_ranges(k, BLK_T_DISCARD, &s, 1), BLK_S_UNSUPP);
	s.flags = 2;
	assert_int_equal(do_ranges(k, BLK_T_DISCARD, &s, 1), BLK_S_UNSUPP);
	assert_int_equal(do_ranges(k, BLK_T_WRITE_ZEROES, &s, 1), BLK_S_UNSUPP);
	s.flags = 0x80000001;
	assert_int_equal(do_ranges(k, BLK_T_WRITE_ZEROES, &s, 1), BLK_S_UNSUPP);
	expect_bytes(k, 0, 4096, 0x5a);
}

/* Run over a file system that knows FALLOC_FL_ZERO_RANGE, and over one that does not. */
static void s5_2_6_2_write_zeroes(void **state)
{
	struct disk *k = *state;
	const struct blk_segment keep[] = {{1, 1001, 0}, {4001, 3, 0}},
				 unmap = {2048, 1024, BLK_SEGMENT_UNMAP};

	fill_disk(k);
	blkcnt_t before = blocks_of(k);
	assert_int_equal(do_ranges(k, BLK_T_WRITE_ZEROES, keep, 2), BLK_S_OK);
	assert_true(blocks_of(k) >= before); /* the room is still the guest's */
	assert_int_equal(do_ranges(k, BLK_T_WRITE_ZEROES, &unmap, 1), BLK_S_OK);
	assert_true(blocks_of(k) <= before - 1024 + METADATA);
	expect_bytes(k, 0, 512, 0x5a);
	expect_bytes(k, 1, 1001 * 512, 0);
	expect_bytes(k, 1002, 1046 * 512, 0x5a);
	expect_bytes(k, 2048, 1024 * 512, 0);
	expect_bytes(k, 3072, 929 * 512, 0x5a);
	expect_bytes(k, 4001, 3 * 512, 0);
	expect_bytes(k, 4004, 512, 0x5a);
	struct stat st;
	assert_int_equal(fstat(k->fd, &st), 0);
	assert_int_equal(st.st_size, DISK_LEN);
}

#define ON(s, t) \
	{ \
#t "/" #s, t, setup_##s, teardown, NULL \
	}
#define RULE(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		RULE(s5_2_4_configuration),
		ON(read_only, s5_2_3_read_only_offers_no_writes),
		RULE(data_survives_any_framing),
		RULE(without_any_feature),
		RULE(nothing_is_read_or_written_by_empty_requests),
		RULE(s5_2_6_status_byte_in_a_split_descriptor),
		RULE(s5_2_6_header_in_pieces_of_a_byte),
		RULE(s5_2_6_short_header_breaks_the_queue),
		RULE(s5_2_6_missing_status_breaks_the_queue),
		RULE(s5_2_6_data_in_the_wrong_direction),
		RULE(s5_2_6_unknown_type),
		RULE(s5_2_6_get_id),
		RULE(s5_2_6_beyond_the_end),
		RULE(s5_2_6_length_is_a_multiple_of_512),
		RULE(file_that_became_shorter),
		RULE(disk_full),
		ON(memfd, file_that_refuses_writes),
		RULE(s5_2_6_2_flush),
		ON(read_only, s5_2_6_2_read_only_refuses_writes),
		RULE(s5_2_6_2_discard_frees_blocks),
		ON(memfd, s5_2_6_2_discard_frees_blocks),
		RULE(s5_2_6_2_ranges_are_bounded),
		RULE(s5_2_6_2_flags),
		RULE(s5_2_6_2_write_zeroes),
		ON(memfd, s5_2_6_2_write_zeroes),
	};
	return cmocka_run_group_tests_name("blk", tests, NULL, NULL);
}
