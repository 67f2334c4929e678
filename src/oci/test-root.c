/* SPDX-License-Identifier: MIT */
/* The tree of an image, read from its disk: what its layers make, with all that a file has. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sys/stat.h>

#include "oci/content.h"
#include "test-built.h"

#define BIG (300u << 10) /* bytes: has blocks of its own */

static uint8_t big[BIG];

static void fill_big(void)
{
	for (size_t i = 0; i < BIG; i++)
		big[i] = (uint8_t)(i * 7 + (i >> 8));
}

/* Two layers: the second changes, hides and adds. */
static void put_layers(struct made *m)
{
	struct buf *b = &m->tars[0];

	tar_put(b, &(struct tar_entry){
			   .name = "a", .type = '5', .mode = 0750, .uid = 7, .gid = 8, .mtime = 100});
	tar_text(b, "a/small", "text");
	tar_file(b, "a/big", big, BIG);
	tar_put(b, &(struct tar_entry){.name = "a/twin", .type = '1', .link = "a/big"});
	tar_text(b, "gone", "x");
	tar_text(b, "hidden/old", "x");
	tar_put(b, &(struct tar_entry){.name = "lib", .type = '2', .link = "usr/lib"});
	tar_text(b, "usr/lib/so", "code");
	tar_put(b, &(struct tar_entry){.name = "loop", .type = '2', .link = "loop"});
	tar_put(b, &(struct tar_entry){.name = "up", .type = '2', .link = "/../../a/./small"});
	b = &m->tars[1];
	tar_pax("SCHILY.xattr.user.k", "v\0w", 3);
	tar_pax("SCHILY.xattr.security.capability", "cap", 3);
	tar_put(b, &(struct tar_entry){.name = "a/small",
			   .mode = 04711,
			   .uid = 1,
			   .gid = 70000,
			   .mtime = 5,
			   .data = "new text",
			   .size = 8});
	tar_text(b, ".wh.gone", "");
	tar_text(b, "hidden/.wh..wh..opq", "");
	tar_text(b, "hidden/new", "y");
	tar_put(b, &(struct tar_entry){.name = "tty", .type = '3', .mode = 0620, .major = 4, .minor = 300});
	tar_put(b, &(struct tar_entry){.name = "pipe", .type = '6', .mode = 0600});
	made_end(m, 2);
}

static struct oci_root *open_root(struct home *h, const struct made *m)
{
	struct oci_root *r = NULL;
	char path[OCI_DIGEST_MAX + 32];
	struct err e = {0};

	snprintf(path, sizeof(path), "images/disks/%s.img", oci_digest_hex(m->chain));
	if (oci_root_open(h->s->st, path, &r, &e) < 0)
		fail_msg("%s", e.msg);
	return r;
}

static const struct oci_node *must(const struct oci_root *r, const char *path)
{
	const struct oci_node *n = oci_root_find(r, path, true);

	if (!n)
		fail_msg("%s is missing", path);
	return n;
}

struct gathered {
	struct buf bytes, lines;
	bool ended;
};

static int on_entry(void *data, const struct wire_entry *en, struct err *e)
{
	struct gathered *g = data;
	char line[512];

	assert_true(wire_path_valid(en->path));
	int n = snprintf(line, sizeof(line), "%s %o%s%s;", en->path, en->mode, en->link ? " = " : "",
		en->link ? en->link : "");
	return buf_append(&g->lines, line, (size_t)n);
}

static int on_content(void *data, uint64_t offset, const void *bytes, size_t len, struct err *e)
{
	struct gathered *g = data;

	static const char zeros[4096];
	while (g->bytes.len < offset)
		assert_int_equal(
			buf_append(&g->bytes, zeros, MIN_OF(offset - g->bytes.len, sizeof(zeros))), 0);
	assert_int_equal(g->bytes.len, offset);
	return buf_append(&g->bytes, bytes, len);
}

static int on_any_content(void *data, uint64_t offset, const void *bytes, size_t len, struct err *e)
{
	return 0;
}

struct sparse_seen {
	uint64_t at, bytes;
	bool found;
};

static int on_sparse(void *data, uint64_t offset, const void *bytes, size_t len, struct err *e)
{
	struct sparse_seen *s = data;

	s->bytes += len;
	if (offset <= s->at && s->at + 512 <= offset + len) {
		assert_memory_equal((const uint8_t *)bytes + (s->at - offset), big, 512);
		s->found = true;
	}
	return 0;
}

static int on_end(void *data, struct err *e)
{
	((struct gathered *)data)->ended = true;
	return 0;
}

static void assert_content(const struct oci_root *r, const char *path, const void *want, size_t n)
{
	struct gathered g = {0};
	struct tree_sink to = {on_entry, on_content, on_end, &g};

	assert_int_equal(oci_node_content(r, must(r, path), &to, NULL), 0);
	assert_int_equal(g.bytes.len, n);
	if (n)
		assert_memory_equal(buf_data(&g.bytes), want, n);
	buf_done(&g.bytes);
}

static struct oci_root *open_layers(struct home *h, struct made *m)
{
	fill_big();
	put_layers(m);
	build(h, m);
	return open_root(h, m);
}

static void test_find(void **state)
{
	struct made m = {0};
	struct oci_root *r = open_layers(*state, &m);
	const struct oci_node *small = must(r, "a/small");

	static const char *const same[] = {"/a/small", "//a//./small", "a/../a/small", "../../a/small", "up"};
	for (size_t i = 0; i < ARRAY_LEN(same); i++)
		assert_ptr_equal(must(r, same[i]), small);
	static const char *const missing[] = {"gone", "hidden/old", "a/small/", "a/small/x", "loop", "loop/x",
		"a/smal", "a/smalll", "a/small/.."};
	for (size_t i = 0; i < ARRAY_LEN(missing); i++)
		if (oci_root_find(r, missing[i], true))
			fail_msg("%s is there", missing[i]);
	assert_ptr_equal(must(r, "lib/so"), must(r, "usr/lib/so"));
	/* The link itself, unless it is followed or a slash stands behind it. */
	assert_ptr_not_equal(oci_root_find(r, "lib", false), must(r, "usr/lib"));
	assert_ptr_equal(oci_root_find(r, "lib/", false), must(r, "usr/lib"));
	assert_ptr_equal(must(r, "lib"), must(r, "usr/lib"));
	assert_non_null(oci_root_find(r, "loop", false));
	assert_ptr_equal(must(r, ""), oci_root_node(r));
	assert_ptr_equal(must(r, ".."), oci_root_node(r));
	assert_ptr_equal(oci_node_child(r, must(r, "a"), "small"), small);
	assert_null(oci_node_child(r, must(r, "a"), ".."));
	assert_null(oci_node_child(r, small, "x"));
	oci_root_free(r);
	made_done(&m);
}

static void test_entries(void **state)
{
	struct made m = {0};
	struct oci_root *r = open_layers(*state, &m);
	struct wire_entry en;
	uint64_t id, twin;

	assert_int_equal(oci_node_entry(r, must(r, "a/small"), &en, &id, NULL), 0);
	assert_int_equal(en.mode, S_IFREG | 04711);
	assert_int_equal(en.uid, 1);
	assert_int_equal(en.gid, 70000);
	assert_int_equal(en.mtime_s, 5);
	assert_int_equal(en.size, 8);
	assert_int_equal(en.n_xattrs, 2);
	for (size_t i = 0; i < 2; i++) {
		bool user = strcmp(en.xattrs[i].name, "user.k") == 0;
		if (!user)
			assert_string_equal(en.xattrs[i].name, "security.capability");
		assert_int_equal(en.xattrs[i].len, 3);
		assert_memory_equal(en.xattrs[i].value, user ? "v\0w" : "cap", 3);
	}
	wire_entry_done(&en);
	assert_int_equal(oci_node_entry(r, must(r, "tty"), &en, NULL, NULL), 0);
	assert_int_equal(en.mode, S_IFCHR | 0620);
	assert_int_equal(en.major, 4);
	assert_int_equal(en.minor, 300);
	wire_entry_done(&en);
	assert_int_equal(oci_node_entry(r, oci_root_find(r, "lib", false), &en, NULL, NULL), 0);
	assert_string_equal(en.target, "usr/lib");
	assert_int_equal(en.size, 0);
	wire_entry_done(&en);
	assert_int_equal(oci_node_entry(r, must(r, "a/big"), &en, &id, NULL), 0);
	wire_entry_done(&en);
	assert_int_equal(oci_node_entry(r, must(r, "a/twin"), &en, &twin, NULL), 0);
	wire_entry_done(&en);
	assert_int_equal(id, twin);
	assert_content(r, "a/small", "new text", 8);
	assert_content(r, "a/twin", big, BIG);
	assert_content(r, "pipe", NULL, 0);
	oci_root_free(r);
	made_done(&m);
}

static int list_names(void *data, const char *name, const struct oci_node *n)
{
	assert_non_null(n);
	return buf_append(data, name, strlen(name)) < 0 || buf_append(data, " ", 1) < 0 ? -ENOMEM : 0;
}

static void test_trees(void **state)
{
	struct made m = {0};
	struct oci_root *r = open_layers(*state, &m);
	struct gathered g = {0};
	struct tree_sink to = {on_entry, on_content, on_end, &g};
	struct buf names = {0};

	assert_int_equal(oci_node_list(r, oci_root_node(r), list_names, &names, NULL), 0);
	assert_int_equal(buf_append(&names, "", 1), 0);
	assert_string_equal((char *)buf_data(&names), "a hidden lib loop pipe tty up usr ");
	buf_done(&names);
	const char *name;
	assert_ptr_equal(oci_node_at(r, oci_root_node(r), 1, &name), must(r, "hidden"));
	assert_string_equal(name, "hidden");
	assert_null(oci_node_at(r, oci_root_node(r), 8, &name));
	assert_null(oci_node_at(r, must(r, "a/big"), 0, &name));
	struct err e = {0};
	assert_int_equal(oci_node_list(r, must(r, "a/big"), list_names, NULL, &e), -ENOTDIR);

	assert_int_equal(oci_node_read(r, must(r, "hidden"), &to, NULL), 0);
	assert_int_equal(buf_append(&g.lines, "", 1), 0);
	assert_string_equal((char *)buf_data(&g.lines), " 40755;new 100644;");
	assert_true(g.ended);
	buf_consume(&g.lines, g.lines.len);
	buf_consume(&g.bytes, g.bytes.len);
	assert_int_equal(oci_node_read(r, must(r, "a/big"), &to, NULL), 0);
	assert_int_equal(g.bytes.len, BIG);
	buf_consume(&g.lines, g.lines.len);
	buf_done(&g.bytes);
	/* With more than one file there is no one content to gather. */
	to.content = on_any_content;
	assert_int_equal(oci_node_read(r, oci_root_node(r), &to, NULL), 0);
	assert_int_equal(buf_append(&g.lines, "", 1), 0);
	assert_string_equal((char *)buf_data(&g.lines),
		" 40755;a 40750;a/big 100644;a/small 104711;a/twin 0 = a/big;hidden 40755;hidden/new 100644;"
		"lib 120777;loop 120777;pipe 10600;tty 20620;up 120777;usr 40755;usr/lib 40755;usr/lib/so "
		"100644;");
	buf_done(&g.lines);
	oci_root_free(r);
	made_done(&m);
}

/* A file with holes, at a size that needs chunks of several blocks too. */
static void test_sparse(void **state)
{
	struct home *h = *state;
	struct made m = {0};
	char map[64], name[] = "holes";
	uint8_t record[512] = {0};
	uint64_t at = 40u << 20, size = 600u << 20;

	fill_big();
	int n = snprintf((char *)record, sizeof(record), "1\n%llu\n512\n", (unsigned long long)at);
	assert_true(n > 0);
	uint8_t body[1024];
	memcpy(body, record, 512);
	memcpy(body + 512, big, 512);
	tar_pax("GNU.sparse.major", "1", 1);
	tar_pax("GNU.sparse.minor", "0", 1);
	tar_pax("GNU.sparse.name", name, strlen(name));
	n = snprintf(map, sizeof(map), "%llu", (unsigned long long)size);
	tar_pax("GNU.sparse.realsize", map, (size_t)n);
	tar_file(&m.tars[0], "GNUSparseFile.0/holes", body, sizeof(body));
	made_end(&m, 1);
	build(h, &m);
	struct oci_root *r = open_root(h, &m);
	struct wire_entry en;
	assert_int_equal(oci_node_entry(r, must(r, "holes"), &en, NULL, NULL), 0);
	assert_int_equal(en.size, size);
	wire_entry_done(&en);
	struct sparse_seen seen = {.at = at};
	struct tree_sink to = {NULL, on_sparse, NULL, &seen};
	assert_int_equal(oci_node_content(r, must(r, "holes"), &to, NULL), 0);
	assert_true(seen.found);
	assert_true(seen.bytes >= 512 && seen.bytes <= 1u << 20);
	oci_root_free(r);
	made_done(&m);
}

/* What is no disk of ours is said so, and never believed. */
static void test_damaged(void **state)
{
	struct home *h = *state;
	struct made m = {0};
	struct oci_root *r = open_layers(h, &m);
	char name[OCI_DIGEST_MAX + 8], path[OCI_DIGEST_MAX + 32];
	struct err e = {0};

	oci_root_free(r);
	snprintf(name, sizeof(name), "%s.img", oci_digest_hex(m.chain));
	snprintf(path, sizeof(path), "images/disks/%s", name);
	assert_int_equal(oci_root_open(h->st, "images/disks/none.img", &r, &e), -ENOENT);
	assert_int_equal(oci_root_open(h->st, "images/disks", &r, &e), -EBADMSG);
	assert_int_equal(fchmodat(h->s->disks_fd, name, 0600, 0), 0);
	int fd = openat(h->s->disks_fd, name, O_RDWR | O_CLOEXEC);
	struct stat st;
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(ftruncate(fd, st.st_size - 4096), 0);
	close(fd);
	e = (struct err){0};
	assert_int_equal(oci_root_open(h->st, path, &r, &e), -ENOENT);
	assert_true(e.msg[0]);
	made_done(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_find, home_setup, home_teardown),
		cmocka_unit_test_setup_teardown(test_entries, home_setup, home_teardown),
		cmocka_unit_test_setup_teardown(test_trees, home_setup, home_teardown),
		cmocka_unit_test_setup_teardown(test_sparse, home_setup, home_teardown),
		cmocka_unit_test_setup_teardown(test_damaged, home_setup, home_teardown),
	};

	return cmocka_run_group_tests_name("oci-root", tests, NULL, NULL);
}
