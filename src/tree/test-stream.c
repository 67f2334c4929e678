/* SPDX-License-Identifier: MIT */
/* Trees as streams: complete, in order, and nothing taken that does not belong to them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/io.h"
#include "inside.h"
#include "test-copy.h"

/* A sink that writes down what it gets. */
struct record {
	char text[4096];
	int fail_at; /* -EIO at this call; 0: never */
};

static int note(struct record *r, struct err *e, const char *fmt, ...) PRINTF(3, 4);
static int note(struct record *r, struct err *e, const char *fmt, ...)
{
	size_t n = strlen(r->text);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(r->text + n, sizeof(r->text) - n, fmt, ap);
	va_end(ap);
	return r->fail_at && --r->fail_at == 0 ? err_set(e, -EIO, "the sink is full") : 0;
}

static int on_entry(void *data, const struct wire_entry *en, struct err *e)
{
	return note(
		data, e, "%s%s%s:%o\n", en->path, en->link ? "=" : "", en->link ? en->link : "", en->mode);
}

static int on_content(void *data, uint64_t offset, const void *bytes, size_t len, struct err *e)
{
	return note(data, e, "%llu+%zu\n", (unsigned long long)offset, len);
}

static int on_end(void *data, struct err *e)
{
	return note(data, e, "end\n");
}

#define RECORD(r) \
	{ \
		on_entry, on_content, on_end, r \
	}

static void put_entry(struct buf *b, const char *path, uint32_t mode, uint64_t size)
{
	const struct wire_entry en = {.path = (char *)(uintptr_t)path, .mode = mode, .size = size};

	assert_int_equal(wire_put_entry(b, &en), 0);
}

static void put_link(struct buf *b, const char *path, const char *link)
{
	const struct wire_entry en = {.path = (char *)(uintptr_t)path, .link = (char *)(uintptr_t)link};

	assert_int_equal(wire_put_entry(b, &en), 0);
}

/* Reads what is in b, and nothing behind it. */
static int read_all(struct buf *b, struct record *rec, struct err *e)
{
	const struct tree_sink sink = RECORD(rec);
	CLEANUP_CLOSE int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	*e = (struct err){0};
	return tree_read_stream(null, b, &sink, e);
}

static void what_is_put_is_got(void **state)
{
	static uint8_t large[3 * WIRE_DATA_MAX * 8 + 5];
	struct record rec = {""};
	const struct tree_sink sink = RECORD(&rec);
	CLEANUP(tree_stream_freep) struct tree_stream *s = NULL;
	CLEANUP(buf_done) struct buf in = {0};
	const struct wire_entry root = {.path = (char *)"", .mode = S_IFDIR | 0755},
				file = {.path = (char *)"f",
					.mode = S_IFREG | 0600,
					.size = sizeof(large) + 10};
	struct err e = {0};
	int fds[2], status;
	pid_t pid;

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		assert_int_equal(tree_stream_new(fds[1], &s, &e), 0);
		const struct tree_sink *to = tree_stream_sink(s);
		int r = to->entry(to->data, &root, &e);
		r = r < 0 ? r : to->entry(to->data, &file, &e);
		r = r < 0 ? r : to->content(to->data, 0, "small", 5, &e);
		r = r < 0 ? r : to->content(to->data, 10, large, sizeof(large), &e);
		r = r < 0 ? r : to->end(to->data, &e);
		_exit(r < 0 || io_write_full(fds[1], "behind", 6) < 0);
	}
	close(fds[1]);
	assert_int_equal(tree_read_stream(fds[0], &in, &sink, &e), 0);
	/* What comes behind the tree is the caller's. */
	while (in.len < 6) {
		uint8_t *room = buf_reserve(&in, 6);
		ssize_t n = read(fds[0], room, 6);
		assert_true(n > 0);
		buf_commit(&in, (size_t)n);
	}
	assert_memory_equal(buf_data(&in), "behind", 6);
	close(fds[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_non_null(strstr(rec.text, ":40755\nf:100600\n0+5\n10+65536\n65546+65536\n"));
	assert_non_null(strstr(rec.text, "1572874+5\nend\n"));
}

static void the_order_is_checked(void **state)
{
	static const struct {
		const char *path, *link;
		uint32_t mode;
	} bad[][4] = {
		{{"a", NULL, S_IFREG}},
		{{"", NULL, S_IFREG}, {"a", NULL, S_IFREG}},
		{{"", NULL, S_IFDIR}, {"a/b", NULL, S_IFREG}},
		{{"", NULL, S_IFDIR}, {"a", NULL, S_IFREG}, {"a/b", NULL, S_IFREG}},
		{{"", NULL, S_IFDIR}, {"a", "b", 0}},
		{{"", NULL, S_IFDIR}, {"b", NULL, S_IFDIR}, {"a", "b", 0}},
		{{"", NULL, S_IFDIR}, {"b", NULL, S_IFREG}, {"a", "b", 0}, {"a/c", NULL, S_IFDIR}},
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		CLEANUP(buf_done) struct buf b = {0};
		struct record rec = {""};
		struct err e;

		for (size_t k = 0; k < ARRAY_LEN(bad[i]) && bad[i][k].path; k++) {
			if (bad[i][k].link)
				put_link(&b, bad[i][k].path, bad[i][k].link);
			else
				put_entry(&b, bad[i][k].path, bad[i][k].mode | 0700, 0);
		}
		assert_int_equal(wire_put(&b, WIRE_TREE_END, NULL, 0), 0);
		if (read_all(&b, &rec, &e) != -EBADMSG)
			fail_msg("case %zu: %s", i, e.msg);
		assert_null(strstr(rec.text, "end"));
	}
}

static void content_belongs_to_a_file(void **state)
{
	static const struct {
		uint32_t mode;
		uint64_t size, first, second;
	} bad[] = {
		{S_IFDIR, 0, 0, 0},
		{S_IFREG, 3, 0, 0},
		{S_IFREG, 100, 1, 2},
		{S_IFREG, 5, 0, 3},
		{S_IFREG, 100, INT64_MAX - 4, INT64_MAX - 4},
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		CLEANUP(buf_done) struct buf b = {0};
		struct record rec = {""};
		struct err e;

		put_entry(&b, "", bad[i].mode | 0700, bad[i].size);
		assert_int_equal(wire_put_content(&b, bad[i].first, "abc", 3), 0);
		assert_int_equal(wire_put_content(&b, bad[i].second, "abc", 3), 0);
		assert_int_equal(wire_put(&b, WIRE_TREE_END, NULL, 0), 0);
		assert_int_equal(read_all(&b, &rec, &e), -EBADMSG);
	}
}

static void an_end_too_early(void **state)
{
	CLEANUP(buf_done) struct buf b = {0};
	struct record rec = {""};
	struct err e;

	put_entry(&b, "", S_IFDIR | 0700, 0);
	assert_int_equal(read_all(&b, &rec, &e), -EPIPE);
	assert_int_equal(wire_put(&b, WIRE_TREE_END, NULL, 0), 0);
	assert_int_equal(read_all(&b, &rec, &e), -EBADMSG); /* a tree without a root */
	assert_int_equal(wire_put(&b, WIRE_DONE, NULL, 0), 0);
	assert_int_equal(read_all(&b, &rec, &e), -EBADMSG);
	buf_done(&b);
	assert_int_equal(buf_append(&b, "\xff\0\0\0\0", 5), 0);
	assert_int_equal(read_all(&b, &rec, &e), -EBADMSG);
}

static void the_senders_failure_comes_with_its_text(void **state)
{
	CLEANUP(buf_done) struct buf b = {0};
	struct record rec = {""};
	struct err e;

	put_entry(&b, "", S_IFDIR | 0700, 0);
	assert_int_equal(wire_put_fail(&b, 5, "read \"x\": Input/output error"), 0);
	assert_int_equal(read_all(&b, &rec, &e), -EREMOTEIO);
	assert_string_equal(e.msg, "read \"x\": Input/output error");
	assert_null(strstr(rec.text, "end"));
	/* As tree_stream_fail sends it, after what was buffered. */
	CLEANUP(tree_stream_freep) struct tree_stream *s = NULL;
	const struct wire_entry root = {.path = (char *)"", .mode = S_IFDIR | 0755};
	const struct tree_sink sink = RECORD(&rec);
	int fds[2];

	buf_done(&b);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_int_equal(tree_stream_new(fds[1], &s, &e), 0);
	assert_int_equal(tree_stream_sink(s)->entry(tree_stream_sink(s)->data, &root, &e), 0);
	tree_stream_fail(s, "no more");
	tree_stream_fail(s, "twice");
	close(fds[1]);
	assert_int_equal(tree_read_stream(fds[0], &b, &sink, &e), -EREMOTEIO);
	assert_string_equal(e.msg, "no more");
	assert_int_equal(b.len, 0);
	close(fds[0]);
}

/* A sender that neither sends nor ends. */
static void nothing_comes(void **state)
{
	CLEANUP(buf_done) struct buf b = {0};
	struct record rec = {""};
	const struct tree_sink sink = RECORD(&rec);
	unsigned int usual = tree_idle_ms;
	struct err e = {0};
	int fds[2];

	put_entry(&b, "", S_IFDIR | 0700, 0);
	assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
	tree_idle_ms = 20;
	assert_int_equal(tree_read_stream(fds[0], &b, &sink, &e), -ETIMEDOUT);
	tree_idle_ms = usual;
	close(fds[0]);
	close(fds[1]);
}

static void the_sinks_failure_ends_the_source(void **state)
{
	for (int at = 1; at <= 3; at++) {
		CLEANUP(buf_done) struct buf b = {0};
		struct record rec = {.fail_at = at};
		struct err e;

		put_entry(&b, "", S_IFREG | 0700, 3);
		assert_int_equal(wire_put_content(&b, 0, "abc", 3), 0);
		assert_int_equal(wire_put(&b, WIRE_TREE_END, NULL, 0), 0);
		assert_int_equal(read_all(&b, &rec, &e), -EIO);
		assert_string_equal(e.msg, "the sink is full");
	}
}

/* A reader that is gone is an error for whoever writes, not a signal. */
static void a_closed_connection(void **state)
{
	static uint8_t large[1 << 20];
	const struct wire_entry file = {.path = (char *)"", .mode = S_IFREG | 0600, .size = sizeof(large)};
	CLEANUP(tree_stream_freep) struct tree_stream *s = NULL;
	struct err e = {0};
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	close(fds[1]);
	assert_int_equal(tree_stream_new(fds[0], &s, &e), 0);
	const struct tree_sink *to = tree_stream_sink(s);
	assert_int_equal(to->entry(to->data, &file, &e), 0);
	assert_int_equal(to->content(to->data, 0, large, sizeof(large), &e), -EPIPE);
	assert_int_equal(to->content(to->data, 0, large, sizeof(large), &e), -EPIPE);
	assert_int_equal(to->end(to->data, &e), -EPIPE);
	tree_stream_fail(s, "x");
	close(fds[0]);
}

static void many_entries(void **state)
{
	struct tree_order o = {0};
	struct err e;
	char path[32];

	for (int i = -1; i < 100000; i++) {
		struct wire_entry en = {.path = path, .mode = i < 0 || i % 10 == 0 ? S_IFDIR : S_IFREG};

		if (i < 0)
			*path = '\0';
		else if (i % 10 == 0)
			snprintf(path, sizeof(path), "d%d", i);
		else
			snprintf(path, sizeof(path), "d%d/f%d", i / 10 * 10, i);
		assert_int_equal(tree_order_add(&o, &en, &e), 0);
	}
	struct wire_entry wrong = {.path = (char *)"d100000/f", .mode = S_IFREG};
	assert_int_equal(tree_order_add(&o, &wrong, &e), -EBADMSG);
	wrong.path = (char *)"d10/f11/x";
	assert_int_equal(tree_order_add(&o, &wrong, &e), -EBADMSG);
	tree_order_done(&o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_put_is_got),
		cmocka_unit_test(the_order_is_checked),
		cmocka_unit_test(content_belongs_to_a_file),
		cmocka_unit_test(an_end_too_early),
		cmocka_unit_test(the_senders_failure_comes_with_its_text),
		cmocka_unit_test(nothing_comes),
		cmocka_unit_test(the_sinks_failure_ends_the_source),
		cmocka_unit_test(a_closed_connection),
		cmocka_unit_test(many_entries),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
