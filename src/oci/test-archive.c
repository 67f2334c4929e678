/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sys/mman.h>

#include "test-home.h"
#include "test-images.h"

#define HOST_NAME "\"io.containerd.image.name\":\"docker.io/library/x:1\""

struct told {
	char names[4][128];
	char id[OCI_DIGEST_MAX];
	size_t n;
};

static void on_image(void *data, const char *name, const char *id)
{
	struct told *t = data;

	assert_true(t->n < ARRAY_LEN(t->names));
	snprintf(t->names[t->n++], sizeof(t->names[0]), "%s", name ? name : "<none>");
	strcpy(t->id, id);
}

static const char *host_arch(void)
{
	static struct oci_platform p;

	oci_platform_done(&p);
	assert_int_equal(oci_platform_parse(NULL, &p, NULL), 0);
	return p.arch;
}

/* Loads the archive (consumed) through a pipe-like descriptor. */
static int load(struct home *h, struct buf *b, struct told *t, struct err *e)
{
	int fd = memfd_create("archive", MFD_CLOEXEC);

	*t = (struct told){0};
	assert_int_equal(io_write_full(fd, buf_data(b), b->len), 0);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	int r = oci_load(h->s, fd, NULL, on_image, t, e);
	close(fd);
	buf_done(b);
	*b = (struct buf){0};
	return r;
}

static void assert_loaded(struct home *h, struct buf *b, struct told *t)
{
	struct err e = {0};

	tar_end(b);
	if (load(h, b, t, &e) < 0)
		fail_msg("%s", e.msg);
}

/* Refused with these words, and nothing stays. */
static void assert_refused(struct home *h, struct buf *b, const char *why)
{
	struct err e = {0};
	struct told t;
	struct oci_image **list;
	size_t n;

	assert_true(load(h, b, &t, &e) < 0);
	if (!strstr(e.msg, why))
		fail_msg("\"%s\" does not say \"%s\"", e.msg, why);
	assert_int_equal(t.n, 0);
	assert_int_equal(oci_image_list(h->s, &list, &n, &e), 0);
	assert_int_equal(n, 0);
	oci_image_list_free(list, n);
	assert_int_equal(home_files(h), 0);
}

static void test_oci_layout(void **state)
{
	struct home *h = *state;
	struct made_image m;
	struct told t;

	made_init(&m, host_arch(), (const char *const[]){"one", "two"}, 2);
	for (int first = 0; first < 2; first++) {
		struct buf b = {0};
		put_oci(&b, &m, HOST_NAME, first, -1);
		assert_loaded(h, &b, &t);
		assert_int_equal(t.n, 1);
		assert_string_equal(t.names[0], "docker.io/library/x:1");
		assert_string_equal(t.id, m.config_digest);
	}
	struct oci_image *i;
	assert_int_equal(oci_image_find(h->s, "x:1", &i, NULL), 0);
	assert_string_equal(i->manifest, m.manifest_digest);
	assert_string_equal(i->cmd.v[0], "/f0");
	assert_int_equal(i->size, 6);
	char *path;
	assert_int_equal(oci_image_disk(h->s, i, NULL, &path, NULL), 0);
	assert_int_equal(access(path, R_OK), 0);
	/* a lost disk comes back */
	assert_int_equal(unlink(path), 0);
	free(path);
	assert_int_equal(oci_image_disk(h->s, i, NULL, &path, NULL), 0);
	assert_int_equal(access(path, R_OK), 0);
	free(path);
	oci_image_free(i);
	made_done(&m);
}

static void test_names(void **state)
{
	static const char *const cases[][2] = {
		{"", "<none>"},
		{"\"org.opencontainers.image.ref.name\":\"latest\"", "<none>"},
		{"\"org.opencontainers.image.ref.name\":\"y:2\"", "docker.io/library/y:2"},
		{"\"org.opencontainers.image.ref.name\":\"localhost/z\"", "localhost/z:latest"},
	};
	struct made_image m;
	struct told t;

	made_init(&m, host_arch(), (const char *const[]){"one"}, 1);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct buf b = {0};
		put_oci(&b, &m, cases[i][0], true, -1);
		assert_loaded(*state, &b, &t);
		assert_string_equal(t.names[0], cases[i][1]);
	}
	made_done(&m);
}

/* docker save before version 25: folders per layer, duplicates as links, the list last. */
static void test_docker_layout(void **state)
{
	struct home *h = *state;
	struct made_image m;
	struct told t;
	struct buf b = {0};
	char config_name[80];

	made_init(&m, host_arch(), (const char *const[]){"same", "other"}, 2);
	tar_file(&b, "aaa/VERSION", "1.0", 3);
	tar_file(&b, "aaa/layer.tar", buf_data(&m.layers[0]), m.layers[0].len);
	tar_put(&b, &(struct tar_entry){.name = "bbb/layer.tar", .type = '2', .link = "../ccc/layer.tar"});
	tar_file(&b, "ccc/layer.tar", buf_data(&m.layers[1]), m.layers[1].len);
	snprintf(config_name, sizeof(config_name), "%s.json", hex(m.config_digest));
	tar_file(&b, config_name, m.config, strlen(m.config));
	char *list = str_printf("[{\"Config\":\"%s\",\"RepoTags\":[\"x:1\",\"localhost:5000/y:2\",\"x:1\"],"
				"\"Layers\":[\"aaa/layer.tar\",\"bbb/layer.tar\"]}]",
		config_name);
	tar_text(&b, "manifest.json", list);
	assert_loaded(h, &b, &t);
	assert_int_equal(t.n, 2);
	assert_string_equal(t.names[0], "docker.io/library/x:1");
	assert_string_equal(t.names[1], "localhost:5000/y:2");
	assert_string_equal(t.id, m.config_digest);
	free(list);
	made_done(&m);
}

/* Docker 25 and later writes both; the names may stand only in its own list. */
static void test_both_layouts(void **state)
{
	struct home *h = *state;
	struct made_image m;
	struct told t;
	struct buf b = {0};

	made_init(&m, host_arch(), (const char *const[]){"one"}, 1);
	put_oci(&b, &m, "", true, -1);
	char *list = str_printf(
		"[{\"Config\":\"blobs/sha256/%s\",\"RepoTags\":[\"x:1\"],\"Layers\":[\"blobs/sha256/%s\"]}]",
		hex(m.config_digest), hex(m.diff_ids[0]));
	tar_text(&b, "manifest.json", list);
	assert_loaded(h, &b, &t);
	assert_int_equal(t.n, 1);
	assert_string_equal(t.names[0], "docker.io/library/x:1");
	struct oci_image *i;
	assert_int_equal(oci_image_find(h->s, "x:1", &i, NULL), 0);
	assert_string_equal(i->manifest, m.manifest_digest);
	oci_image_free(i);
	free(list);
	made_done(&m);
}

static void test_refusals(void **state)
{
	struct made_image m;
	struct buf b = {0};

	buf_append(&b, "hello", 5);
	assert_refused(*state, &b, "not a tar archive");
	tar_end(&b);
	assert_refused(*state, &b, "not an image archive");
	made_init(&m, host_arch(), (const char *const[]){"one", "two"}, 2);
	put_oci(&b, &m, HOST_NAME, true, 1);
	tar_end(&b);
	assert_refused(*state, &b, "layer 2 of 2");
	/* a blob that is not what its name says */
	put_blob(&b, m.diff_ids[0], "x", 1);
	tar_end(&b);
	assert_refused(*state, &b, "has digest");
	/* cut off within a layer */
	put_oci(&b, &m, HOST_NAME, true, -1);
	b.len = 2048 + 512 + 100;
	assert_refused(*state, &b, "Truncated");
	put_oci(&b, &m, "\"io.containerd.image.name\":\"NOT valid\"", true, -1);
	tar_end(&b);
	assert_refused(*state, &b, "invalid image name");
	made_done(&m);
	made_init(&m, "pdp11", (const char *const[]){"one"}, 1);
	put_oci(&b, &m, HOST_NAME, true, -1);
	tar_end(&b);
	assert_refused(*state, &b, "image is for linux/pdp11, but this host is linux/");
	made_done(&m);
	tar_text(&b, "manifest.json", "[{\"Config\":\"c\",\"Layers\":[\"l\"]}]");
	tar_end(&b);
	assert_refused(*state, &b, "missing");
	/* links that lead in circles */
	tar_put(&b, &(struct tar_entry){.name = "c", .type = '2', .link = "d"});
	tar_put(&b, &(struct tar_entry){.name = "d", .type = '2', .link = "c"});
	tar_text(&b, "manifest.json", "[{\"Config\":\"c\",\"Layers\":[\"../../../etc/passwd\"]}]");
	tar_end(&b);
	assert_refused(*state, &b, "missing");
}

/* The configuration is right about all but one layer's content. */
static void test_wrong_diff_id(void **state)
{
	struct made_image m, n;
	struct buf b = {0};

	made_init(&m, host_arch(), (const char *const[]){"one"}, 1);
	made_init(&n, host_arch(), (const char *const[]){"two"}, 1);
	char *list = str_printf("[{\"Config\":\"c\",\"Layers\":[\"l\"]}]");
	tar_file(&b, "c", m.config, strlen(m.config));
	tar_file(&b, "l", buf_data(&n.layers[0]), n.layers[0].len);
	tar_text(&b, "manifest.json", list);
	tar_end(&b);
	assert_refused(*state, &b, "does not match the diff ID");
	free(list);
	made_done(&m);
	made_done(&n);
}

#define STORE_TEST(f) cmocka_unit_test_setup_teardown(f, home_setup, home_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		STORE_TEST(test_oci_layout),
		STORE_TEST(test_names),
		STORE_TEST(test_docker_layout),
		STORE_TEST(test_both_layouts),
		STORE_TEST(test_refusals),
		STORE_TEST(test_wrong_diff_id),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
