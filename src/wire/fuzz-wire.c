/* SPDX-License-Identifier: MIT */
/*
 * Arbitrary bytes as a stream of frames, fed in pieces of varying size, each frame to every decoder. What is decoded is
 * written again and must decode to the same bytes: a second reading of the first writing.
 */
#include <string.h>

#include "fields.h"
#include "wire/tree.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(cond) \
	do { \
		if (!(cond)) \
			__builtin_trap(); \
	} while (0)

/* The frame in b, which holds exactly one. */
static struct wire_frame only_frame(const struct buf *b)
{
	struct wire_frame f;
	CHECK(wire_next(b, &f) == 1 && WIRE_HEADER_SIZE + f.len == b->len);
	return f;
}

static void check_same(const struct buf *a, const struct buf *b)
{
	CHECK(a->len == b->len && memcmp(buf_data(a), buf_data(b), a->len) == 0);
}

/* Unknown fields are dropped by the first reading, so the two writings are compared, not the input. */
#define ROUND_TRIP(type, get, put, done) \
	do { \
		struct type first, second; \
		struct buf a = {0}, b = {0}; \
		if (get(f, &first) == 0) { \
			if (put(&a, &first) == 0) { /* fails when defaults added make it too long */ \
				struct wire_frame again = only_frame(&a); \
				CHECK(get(&again, &second) == 0 && put(&b, &second) == 0); \
				check_same(&a, &b); \
				done(&second); \
			} \
			done(&first); \
		} \
		buf_done(&a); \
		buf_done(&b); \
	} while (0)

static int put_copy(struct buf *out, const struct wire_copy *c)
{
	return wire_put_copy(out, WIRE_COPY_IN, c);
}

static void content(const struct wire_frame *f)
{
	CLEANUP(buf_done) struct buf again = {0};
	const uint8_t *data;
	uint64_t offset;
	size_t len;

	if (wire_get_content(f, &offset, &data, &len) < 0)
		return;
	CHECK(data + len == f->payload + f->len && len > 0 && offset <= INT64_MAX - len);
	if (len <= WIRE_DATA_MAX) {
		CHECK(wire_put_content(&again, offset, data, len) == 0);
		struct wire_frame g = only_frame(&again);
		CHECK(g.len == f->len && memcmp(g.payload, f->payload, f->len) == 0);
	}
}

static void stats_done(struct wire_stats *s)
{
}

static void decode_all(const struct wire_frame *f)
{
	uint32_t v;
	uint16_t rows, cols;
	char *text = NULL;

	CHECK((wire_get_u32(f, &v) == 0) == (f->len == 4));
	CHECK((wire_get_resize(f, &rows, &cols) == 0) == (f->len == 4));
	if (wire_get_fail(f, &v, &text) == 0) {
		CHECK(text && v <= 255);
		free(text);
	} else {
		CHECK(!text);
	}
	ROUND_TRIP(wire_hello, wire_get_hello, wire_put_hello, wire_hello_done);
	ROUND_TRIP(wire_config, wire_get_config, wire_put_config, wire_config_done);
	ROUND_TRIP(wire_network, wire_get_network, wire_put_network, wire_network_done);
	ROUND_TRIP(wire_forward, wire_get_forward, wire_put_forward, wire_forward_done);
	ROUND_TRIP(wire_process, wire_get_process, wire_put_process, wire_process_done);
	ROUND_TRIP(wire_limits, wire_get_limits, wire_put_limits, wire_limits_done);
	ROUND_TRIP(wire_entry, wire_get_entry, wire_put_entry, wire_entry_done);
	ROUND_TRIP(wire_copy, wire_get_copy, put_copy, wire_copy_done);
	content(f);
	ROUND_TRIP(wire_stats, wire_get_stats, wire_put_stats, stats_done);
	ROUND_TRIP(wire_tasks, wire_get_tasks, wire_put_tasks, wire_tasks_done);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf in = {0};
	struct wire_frame f;
	int r = 0;

	/* As messages without a frame around them, so that fields are reached without guessing a header. */
	if (size <= WIRE_MESSAGE_MAX) {
		struct wire_frame whole = {.len = (uint32_t)size, .payload = data};
		decode_all(&whole);
	}
	for (size_t pos = 0, piece = 1; r >= 0 && pos < size; pos += piece, piece = piece % 7 * 3 + 1) {
		piece = MIN_OF(piece, size - pos);
		CHECK(buf_append(&in, data + pos, piece) == 0);
		while ((r = wire_next(&in, &f)) > 0) {
			CHECK(f.len <= wire_max_payload(f.type) &&
				f.payload + f.len <= buf_data(&in) + in.len);
			decode_all(&f);
			wire_consume(&in, &f);
		}
		CHECK(r == 0 || r == -EBADMSG);
	}
	buf_done(&in);
	return 0;
}
