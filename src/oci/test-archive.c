/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/proc.h"
#include "image-archive.h"
#include "oci/transfer.h"
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
	int r = oci_load(h->s, fd, NULL, NULL, on_image, t, e);
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

/* Whether the disk of image x:1 has this text in it. */
static bool disk_has(struct home *h, const char *text)
{
	struct oci_image *i;
	char *path, *disk;
	size_t n;

	assert_int_equal(oci_image_find(h->s, "x:1", &i, NULL), 0);
	assert_int_equal(oci_image_disk(h->s, i, NULL, &path, NULL), 0);
	assert_int_equal(io_read_file_at(AT_FDCWD, path, 1 << 20, &disk, &n), 0);
	bool found = memmem(disk, n, text, strlen(text));
	free(disk);
	free(path);
	oci_image_free(i);
	return found;
}

/* A blob's name that is a link to another blob would put that under the first one's digest. */
static void test_blob_links(void **state)
{
	struct home *h = *state;
	struct made_image m, other;
	struct told t;
	char name[128], target[128], relative[128];

	made_init(&m, host_arch(), (const char *const[]){"honest content"}, 1);
	made_init(&other, host_arch(), (const char *const[]){"HOSTILE CONTENT"}, 1);
	assert_int_equal(m.layers[0].len, other.layers[0].len);
	const char *const links[][2] = {{m.diff_ids[0], other.diff_ids[0]},
		{m.config_digest, other.config_digest}, {m.manifest_digest, other.manifest_digest}};
	for (size_t i = 0; i < ARRAY_LEN(links); i++)
		for (int symbolic = 0; symbolic < 2; symbolic++) {
			struct buf b = {0};
			/* The link comes after the blob it hides, which leaves only the link. */
			put_oci(&b, &m, HOST_NAME, true, -1);
			put_blob(&b, other.diff_ids[0], buf_data(&other.layers[0]), other.layers[0].len);
			put_blob(&b, other.config_digest, other.config, strlen(other.config));
			put_blob(&b, other.manifest_digest, other.manifest, strlen(other.manifest));
			snprintf(name, sizeof(name), "blobs/sha256/%s", hex(links[i][0]));
			snprintf(target, sizeof(target), "blobs/sha256/%s", hex(links[i][1]));
			snprintf(relative, sizeof(relative), "./%s", hex(links[i][1]));
			tar_put(&b, &(struct tar_entry){.name = name,
					    .type = symbolic ? '2' : '1',
					    .link = symbolic ? relative : target});
			tar_end(&b);
			assert_refused(h, &b, "is a link in the archive");
		}
	/* to a document, which has no digest */
	struct buf b = {0};
	put_oci(&b, &m, HOST_NAME, true, -1);
	snprintf(name, sizeof(name), "blobs/sha256/%s", hex(m.config_digest));
	tar_put(&b, &(struct tar_entry){.name = name, .type = '2', .link = "../../index.json"});
	tar_end(&b);
	assert_refused(h, &b, "is a link in the archive");
	/* An honest image of the same layers is what it should be. */
	put_oci(&b, &m, HOST_NAME, true, -1);
	assert_loaded(h, &b, &t);
	assert_true(disk_has(h, "honest content"));
	assert_false(disk_has(h, "HOSTILE CONTENT"));
	made_done(&m);
	made_done(&other);
}

/* In docker save's layout names are no digests: what a link leads to still has to fit the diff ID. */
static void test_docker_links(void **state)
{
	struct home *h = *state;
	struct made_image m, other;
	struct told t;
	char name[128];

	made_init(&m, host_arch(), (const char *const[]){"honest content"}, 1);
	made_init(&other, host_arch(), (const char *const[]){"HOSTILE CONTENT"}, 1);
	char *list =
		str_printf("[{\"Config\":\"c\",\"RepoTags\":[\"x:1\"],\"Layers\":[\"blobs/sha256/%s\"]}]",
			hex(m.diff_ids[0]));
	for (int hostile = 1; hostile >= 0; hostile--) {
		const struct made_image *from = hostile ? &other : &m;
		struct buf b = {0};
		tar_file(&b, "c", m.config, strlen(m.config));
		tar_file(&b, "l", buf_data((struct buf *)&from->layers[0]), from->layers[0].len);
		snprintf(name, sizeof(name), "blobs/sha256/%s", hex(m.diff_ids[0]));
		tar_put(&b, &(struct tar_entry){.name = name, .type = '1', .link = "l"});
		tar_text(&b, "manifest.json", list);
		if (hostile) {
			tar_end(&b);
			assert_refused(h, &b, "does not match the diff ID");
		} else {
			assert_loaded(h, &b, &t);
		}
	}
	assert_true(disk_has(h, "honest content"));
	free(list);
	made_done(&m);
	made_done(&other);
}

/* GNU's sparse format 1.0: 512 bytes of content at an offset. */
static void put_sparse(struct buf *b, const char *name, uint64_t at, uint64_t size)
{
	static char body[1024];
	char text[32];

	memset(body, 0, 512);
	memset(body + 512, 's', 512);
	assert_true(snprintf(body, 512, "2\n%llu\n512\n%llu\n0\n", (unsigned long long)at,
			    (unsigned long long)size) < 512);
	tar_pax("GNU.sparse.major", "1", 1);
	tar_pax("GNU.sparse.minor", "0", 1);
	tar_pax("GNU.sparse.name", name, strlen(name));
	int n = snprintf(text, sizeof(text), "%llu", (unsigned long long)size);
	tar_pax("GNU.sparse.realsize", text, (size_t)n);
	tar_file(b, "GNUSparseFile.0/x", body, sizeof(body));
}

/* A few bytes of archive never become many on the disk. */
static void test_sparse_entries(void **state)
{
	static const uint64_t cases[][2] = {{4096, 1 << 20}, {0, 1 << 20}, {1 << 30, (1 << 30) + 512}};
	struct home *h = *state;
	struct made_image m;
	char name[128];

	made_init(&m, host_arch(), (const char *const[]){"one"}, 1);
	snprintf(name, sizeof(name), "blobs/sha256/%s", hex(m.diff_ids[0]));
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		for (int named = 0; named < 2; named++) {
			struct buf b = {0};
			put_sparse(&b, named ? name : "nobody/wants/this", cases[i][0], cases[i][1]);
			put_oci(&b, &m, HOST_NAME, true, -1);
			tar_end(&b);
			assert_refused(h, &b, cases[i][0] ? "it is a sparse file" : "it is shorter");
		}
	made_done(&m);
}

/* What all entries may take, needed or not. */
static void test_archive_limits(void **state)
{
	static char data[5000], path[3999];
	struct home *h = *state;
	struct made_image m;
	struct buf b = {0};
	struct told t;

	made_init(&m, host_arch(), (const char *const[]){"one"}, 1);
	/* one that says more than any may have is refused before its content comes */
	tar_pax("size", "99999999999999", 14);
	tar_file(&b, "huge", data, 0);
	assert_refused(h, &b,
		"archive entry \"huge\": with its 99999999999999 bytes the archive's content is "
		"larger than 65536 MiB");
	/* less than that, and still more than there is room for */
	h->s->unpacked_max = 1ull << 60;
	tar_pax("size", "999999999999999999", 18);
	tar_file(&b, "huge", data, 0);
	assert_refused(h, &b, "No space left on device");
	h->s->unpacked_max = 16 << 10;
	for (int n = 0; n < 2; n++) {
		for (int i = 0; i < 2 + n; i++)
			tar_file(&b, "unwanted", data, sizeof(data));
		put_oci(&b, &m, HOST_NAME, true, -1);
		tar_end(&b);
		if (n)
			assert_refused(h, &b, "the archive's content is larger than");
		else
			assert_int_equal(load(h, &b, &t, NULL), 0);
		if (!n)
			assert_int_equal(oci_image_remove(h->s, "x:1", true, NULL, NULL, NULL), 0);
	}
	for (size_t i = 0; i < sizeof(path); i++)
		path[i] = i % 100 == 99 ? '/' : 'n';
	for (int i = 0; i < 4300; i++) {
		tar_pax("path", path, sizeof(path));
		tar_put(&b, &(struct tar_entry){.name = "n", .type = i % 2 ? '2' : '0', .link = "x"});
	}
	tar_end(&b);
	h->s->unpacked_max = OCI_UNPACKED_MAX;
	assert_refused(h, &b, "the names in the archive are longer than 16 MiB");
	made_done(&m);
}

/* An archive of n images, which differ in their layer, or (config) have all but the manifest in common, this text included. */
static void put_many(struct buf *b, unsigned n, const char *config)
{
	CLEANUP(buf_done) struct buf index = {0};
	struct made_image m;
	char text[32];

	for (unsigned i = 0; i < n; i++) {
		snprintf(text, sizeof(text), "%u", config ? 0 : i);
		made_init(&m, host_arch(), (const char *const[]){text}, 1);
		char *labels = config ? str_printf(",\"container\":\"%s\"}", config) : str_printf("}");
		char *old = m.config;
		m.config = str_printf("%.*s%s", (int)strlen(old) - 1, old, labels);
		free(old);
		oci_digest_of(m.config, strlen(m.config), m.config_digest, NULL);
		free(m.manifest);
		m.manifest =
			str_printf("{\"x\":%u,\"config\":{\"digest\":\"%s\",\"size\":%zu},\"layers\":"
				   "[{\"mediaType\":\"" OCI_TYPE_LAYER "\",\"digest\":\"%s\",\"size\":%zu}]}",
				i, m.config_digest, strlen(m.config), m.diff_ids[0], m.layers[0].len);
		oci_digest_of(m.manifest, strlen(m.manifest), m.manifest_digest, NULL);
		char *entry = str_printf("%s{\"digest\":\"%s\",\"size\":%zu}", i ? "," : "{\"manifests\":[",
			m.manifest_digest, strlen(m.manifest));
		buf_append(&index, entry, strlen(entry));
		if (i == 0 || !config) {
			put_blob(b, m.diff_ids[0], buf_data(&m.layers[0]), m.layers[0].len);
			put_blob(b, m.config_digest, m.config, strlen(m.config));
		}
		put_blob(b, m.manifest_digest, m.manifest, strlen(m.manifest));
		free(entry);
		free(labels);
		made_done(&m);
	}
	buf_append(&index, "]}", 2);
	tar_file(b, "index.json", buf_data(&index), index.len);
	tar_end(b);
}

/* What many images share is counted for each, because each has it in memory. */
static void test_shared_config(void **state)
{
	size_t n = 4000000;
	struct buf b = {0};
	char *config = malloc(n + 1);

	memset(config, 'x', n);
	config[n] = '\0';
	put_many(&b, 20, config);
	assert_refused(*state, &b, "the configurations of the archive's images have more than 64 MiB");
	free(config);
}

/* There may be more entries than descriptors. */
static void test_many_entries(void **state)
{
	struct home *h = *state;
	struct oci_image **list;
	struct rlimit was, few;
	struct buf b = {0};
	struct err e = {0};
	int fd = memfd_create("archive", MFD_CLOEXEC);
	size_t n;

	put_many(&b, 40, NULL);
	assert_int_equal(io_write_full(fd, buf_data(&b), b.len), 0);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	buf_done(&b);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
	few = was;
	few.rlim_cur = 64;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	int r = oci_load(h->s, fd, NULL, NULL, NULL, NULL, &e);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
	close(fd);
	if (r < 0)
		fail_msg("%s", e.msg);
	assert_int_equal(oci_image_list(h->s, &list, &n, &e), 0);
	assert_int_equal(n, 40);
	oci_image_list_free(list, n);
}

/* Whether the store's blob is the layer that m has. */
static bool is_whole(struct home *h, const struct made_image *m, size_t layer)
{
	size_t n = m->layers[layer].len;
	CLEANUP_CLOSE int fd = oci_store_blob_open(h->s, m->diff_ids[layer], NULL);
	CLEANUP_FREE uint8_t *mem = malloc(n + 1);

	return fd >= 0 && io_pread_full(fd, mem, n + 1, 0) == (ssize_t)n &&
	       memcmp(mem, buf_data((struct buf *)&m->layers[layer]), n) == 0;
}

/* Loading an image again mends what was damaged of it; a copy that is bad itself changes nothing. */
static void test_load_mends(void **state)
{
	static const off_t at[] = {0, 700, 1535};
	struct home *h = *state;
	struct made_image m;
	struct buf b = {0};
	struct err e = {0};
	struct told t;

	made_init(&m, host_arch(), (const char *const[]){"one", "two"}, 2);
	for (size_t i = 0; i <= ARRAY_LEN(at); i++) {
		put_oci(&b, &m, HOST_NAME, i & 1, -1);
		assert_loaded(h, &b, &t);
		assert_true(is_whole(h, &m, 0) && is_whole(h, &m, 1));
		if (i == ARRAY_LEN(at))
			break;
		assert_int_equal(fchmodat(h->s->sha256_fd, hex(m.diff_ids[1]), 0600, 0), 0);
		CLEANUP_CLOSE int fd = openat(h->s->sha256_fd, hex(m.diff_ids[1]), O_RDWR | O_CLOEXEC);
		assert_int_equal(pwrite(fd, "X", 1, at[i]), 1);
		assert_false(is_whole(h, &m, 1));
	}
	buf_data(&m.layers[1])[600] ^= 1;
	put_oci(&b, &m, HOST_NAME, true, -1);
	tar_end(&b);
	assert_int_equal(load(h, &b, &t, &e), -EBADMSG);
	assert_non_null(strstr(e.msg, "its content has digest"));
	buf_data(&m.layers[1])[600] ^= 1;
	assert_true(is_whole(h, &m, 1));
	assert_int_equal(home_count(h->s->tmp_fd), 0);
	made_done(&m);
}

/* Only the last of several documents of one name is kept, and it counts. */
static void test_repeated_documents(void **state)
{
	struct home *h = *state;
	CLEANUP(oci_archive_done) struct oci_archive a = {0};
	struct buf b = {0};
	struct err e = {0};
	char text[32];
	int fd = memfd_create("archive", MFD_CLOEXEC);

	for (int i = 0; i < 50; i++) {
		snprintf(text, sizeof(text), "[%d]", i);
		tar_text(&b, i % 2 ? "./manifest.json" : "manifest.json", text);
		tar_text(&b, "index.json", text);
		tar_text(&b, "oci-layout", text);
	}
	tar_put(&b, &(struct tar_entry){.name = "index.json", .type = '2', .link = "oci-layout"});
	tar_put(&b, &(struct tar_entry){.name = "manifest.json", .type = '2', .link = "nowhere"});
	tar_text(&b, "manifest.json", "[\"last\"]");
	tar_end(&b);
	assert_int_equal(io_write_full(fd, buf_data(&b), b.len), 0);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	assert_int_equal(oci_archive_read(h->s, fd, NULL, &a, &e), 0);
	assert_int_equal(a.n, 5);
	assert_string_equal(oci_archive_get(&a, "index.json")->doc, "[49]");
	assert_string_equal(oci_archive_find(&a, "index.json")->alias, "oci-layout");
	assert_string_equal(oci_archive_get(&a, "manifest.json")->doc, "[\"last\"]");
	close(fd);
	buf_done(&b);
}

#define STORE_TEST(f) cmocka_unit_test_setup_teardown(f, home_setup, home_teardown)

int main(void)
{
	proc_raise_descriptor_limit(); /* as the command does: each entry takes one */
	const struct CMUnitTest tests[] = {
		STORE_TEST(test_oci_layout),
		STORE_TEST(test_names),
		STORE_TEST(test_docker_layout),
		STORE_TEST(test_both_layouts),
		STORE_TEST(test_refusals),
		STORE_TEST(test_wrong_diff_id),
		STORE_TEST(test_blob_links),
		STORE_TEST(test_docker_links),
		STORE_TEST(test_sparse_entries),
		STORE_TEST(test_archive_limits),
		STORE_TEST(test_shared_config),
		STORE_TEST(test_many_entries),
		STORE_TEST(test_load_mends),
		STORE_TEST(test_repeated_documents),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
