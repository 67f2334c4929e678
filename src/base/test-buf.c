/* SPDX-License-Identifier: MIT */
/* The byte queue, and base64 against the vectors of RFC 4648 section 10. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/b64.h"
#include "base/buf.h"

static void assert_content(const struct buf *b, const char *want)
{
	assert_int_equal(b->len, strlen(want));
	assert_memory_equal(buf_data(b), want, b->len);
}

static void an_empty_buffer_holds_nothing_and_may_be_released_twice(void **state)
{
	struct buf b = {0};

	assert_int_equal(b.len, 0);
	buf_done(&b);
	buf_done(&b);
	assert_null(b.mem);
}

static void appended_bytes_come_out_in_order(void **state)
{
	struct buf b = {0};

	assert_int_equal(buf_append(&b, "one", 3), 0);
	assert_int_equal(buf_append(&b, "two", 3), 0);
	assert_content(&b, "onetwo");
	buf_consume(&b, 2);
	assert_content(&b, "etwo");
	buf_consume(&b, 4);
	assert_int_equal(b.len, 0);
	assert_int_equal(b.start, 0);
	buf_done(&b);
}

static void appending_nothing_changes_nothing(void **state)
{
	struct buf b = {0};

	assert_int_equal(buf_append(&b, NULL, 0), 0);
	assert_null(b.mem);
	buf_done(&b);
}

static void reserving_no_room_succeeds_even_on_a_fresh_buffer(void **state)
{
	struct buf b = {0};

	assert_non_null(buf_reserve(&b, 0));
	assert_int_equal(b.len, 0);
	buf_done(&b);
}

static void reserved_room_is_not_content_until_committed(void **state)
{
	struct buf b = {0};
	uint8_t *p = buf_reserve(&b, 100);

	assert_non_null(p);
	memset(p, 'x', 100);
	assert_int_equal(b.len, 0);
	buf_commit(&b, 3);
	assert_content(&b, "xxx");
	buf_done(&b);
}

/* Against a model: any mix of appending and consuming keeps order and content. */
static void growth_and_compaction_keep_the_content(void **state)
{
	struct buf b = {0};
	uint32_t next_in = 0, next_out = 0, rnd = 12345;

	for (int round = 0; round < 20000; round++) {
		rnd = rnd * 1664525 + 1013904223;
		size_t n = (rnd >> 16) % 97;
		if (rnd & 0x8000) {
			for (size_t i = 0; i < n; i++) {
				uint8_t c = (uint8_t)(next_in++ * 7);
				assert_int_equal(buf_append(&b, &c, 1), 0);
			}
		} else {
			n = MIN_OF(n, b.len);
			for (size_t i = 0; i < n; i++)
				assert_int_equal(buf_data(&b)[i], (uint8_t)(next_out++ * 7));
			buf_consume(&b, n);
		}
		assert_true(b.start + b.len <= b.cap);
		assert_int_equal(b.len, next_in - next_out);
	}
	buf_done(&b);
}

static void a_queue_of_bounded_length_takes_bounded_memory(void **state)
{
	struct buf b = {0};
	char piece[1000] = {0};

	for (int i = 0; i < 10000; i++) {
		assert_int_equal(buf_append(&b, piece, sizeof(piece)), 0);
		if (b.len > 3000)
			buf_consume(&b, 1000);
	}
	assert_true(b.cap <= 16384);
	buf_done(&b);
}

static void an_impossible_size_fails_and_keeps_the_content(void **state)
{
	struct buf b = {0};

	assert_int_equal(buf_append(&b, "keep", 4), 0);
	assert_null(buf_reserve(&b, SIZE_MAX));
	assert_null(buf_reserve(&b, SIZE_MAX - 2));
	assert_null(buf_reserve(&b, SIZE_MAX / 2 + 2));
	assert_int_equal(buf_append(&b, "", SIZE_MAX - 3), -ENOMEM);
	assert_content(&b, "keep");
	buf_done(&b);
}

static const struct {
	const char *plain, *coded;
} rfc4648[] = {{"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"}, {"foob", "Zm9vYg=="},
	{"fooba", "Zm9vYmE="}, {"foobar", "Zm9vYmFy"}, {"\xfb\xff\xfe", "+//+"}};

static void base64_matches_the_vectors_of_rfc_4648(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(rfc4648); i++) {
		const char *plain = rfc4648[i].plain, *coded = rfc4648[i].coded;
		char out[32];
		assert_int_equal(b64_encode(out, plain, strlen(plain)), strlen(coded));
		assert_string_equal(out, coded);
		assert_int_equal(b64_decode(out, coded, strlen(coded)), strlen(plain));
		assert_memory_equal(out, plain, strlen(plain));
	}
}

static void base64_keeps_every_byte_value_at_every_alignment(void **state)
{
	uint8_t in[259], back[sizeof(in) + 2];
	char coded[B64_SIZE(sizeof(in))];

	for (size_t i = 0; i < sizeof(in); i++)
		in[i] = (uint8_t)(i * 37 + 11);
	for (size_t len = 0; len <= sizeof(in); len++) {
		size_t n = b64_encode(coded, in, len);
		assert_int_equal(n + 1, B64_SIZE(len));
		assert_int_equal(coded[n], '\0');
		assert_int_equal(b64_decode(back, coded, n), len);
		assert_memory_equal(back, in, len);
	}
}

static void base64_refuses_what_is_not_strict(void **state)
{
	static const char *const bad[] = {"Z", "Zg", "Zg=", "Zg==\n", "Zg==Zg==", "====", "A===", "=AAA",
		"A=AA", "AA=A", "AAA=A", "Zm 9", "Zm9v\r\n", "Zm-_", "Zm9\x80", "AAAA=", "AAAA===="};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		char out[16];
		if (b64_decode(out, bad[i], strlen(bad[i])) != -EINVAL)
			fail_msg("accepted: %s", bad[i]);
	}
	char out[4];
	assert_int_equal(b64_decode(out, "A\0AA", 4), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_empty_buffer_holds_nothing_and_may_be_released_twice),
		cmocka_unit_test(appended_bytes_come_out_in_order),
		cmocka_unit_test(appending_nothing_changes_nothing),
		cmocka_unit_test(reserving_no_room_succeeds_even_on_a_fresh_buffer),
		cmocka_unit_test(reserved_room_is_not_content_until_committed),
		cmocka_unit_test(growth_and_compaction_keep_the_content),
		cmocka_unit_test(a_queue_of_bounded_length_takes_bounded_memory),
		cmocka_unit_test(an_impossible_size_fails_and_keeps_the_content),
		cmocka_unit_test(base64_matches_the_vectors_of_rfc_4648),
		cmocka_unit_test(base64_keeps_every_byte_value_at_every_alignment),
		cmocka_unit_test(base64_refuses_what_is_not_strict),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
