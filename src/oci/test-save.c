/* SPDX-License-Identifier: MIT */
/* Images out of the store and in again; images of several platforms; images made of a root file system. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "image-archive.h"
#include "oci/transfer.h"
#include "tar-write.h"
#include "test-home.h"
#include "test-images.h"

#define OTHER_ARCH "pdp11"

static const char *host_arch(void)
{
	static struct oci_platform p;

	oci_platform_done(&p);
	assert_int_equal(oci_platform_parse(NULL, &p, NULL), 0);
	return p.arch;
}

static void on_image(void *data, const char *name, const char *id)
{
	char *told = data;

	snprintf(told + strlen(told), 512 - strlen(told), "%s ", name ? name : "<none>");
}

/* Loads what fd has. told: 512 bytes for the names, or NULL. */
static int load_fd(struct home *h, int fd, const char *platform, char *told, struct err *e)
{
	struct oci_load_opts o = {.platform = platform};
	char names[512] = "";

	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	int r = oci_load(h->s, fd, &o, NULL, on_image, names, e);
	if (told)
		strcpy(told, names);
	return r;
}

/* Loads the archive, which is consumed. */
static int load(struct home *h, struct buf *b, const char *platform, char *told, struct err *e)
{
	CLEANUP_CLOSE int fd = memfd_create("archive", MFD_CLOEXEC);

	tar_end(b);
	assert_int_equal(io_write_full(fd, buf_data(b), b->len), 0);
	buf_done(b);
	*b = (struct buf){0};
	return load_fd(h, fd, platform, told, e);
}

static void assert_loaded(struct home *h, struct buf *b, const char *platform, const char *names)
{
	struct err e = {0};
	char told[512];

	if (load(h, b, platform, told, &e) < 0)
		fail_msg("%s", e.msg);
	assert_string_equal(told, names);
}

/* Saves to a descriptor of a file in memory. */
static int save(
	struct home *h, const char *const *refs, size_t n, const struct oci_save_opts *o, struct err *e)
{
	int fd = memfd_create("saved", MFD_CLOEXEC);
	int r = oci_save(h->s, fd, refs, n, o, NULL, e);

	if (r == 0)
		return fd;
	close(fd);
	return r;
}

static int save_one(struct home *h, const char *ref, const struct oci_save_opts *o)
{
	struct err e = {0};
	int fd = save(h, &ref, 1, o, &e);

	if (fd < 0)
		fail_msg("%s", e.msg);
	return fd;
}

static char *content(int fd, size_t *n)
{
	off_t size = lseek(fd, 0, SEEK_END);
	char *p = malloc((size_t)size + 1);

	assert_int_equal(io_pread_full(fd, p, (size_t)size, 0), size);
	p[size] = '\0';
	*n = (size_t)size;
	return p;
}

static void assert_same(int a, int b)
{
	size_t na, nb;
	char *pa = content(a, &na), *pb = content(b, &nb);

	assert_int_equal(na, nb);
	assert_memory_equal(pa, pb, na);
	free(pa);
	free(pb);
}

/* Whether the archive has this text in it anywhere. */
static bool has(int fd, const char *text)
{
	size_t n;
	char *p = content(fd, &n);
	bool found = memmem(p, n, text, strlen(text));

	free(p);
	return found;
}

static void remove_all(struct home *h)
{
	struct oci_image **list;
	size_t n;

	assert_int_equal(oci_image_list(h->s, &list, &n, NULL), 0);
	for (size_t i = 0; i < n; i++)
		(void)oci_image_remove(
			h->s, list[i]->name ? list[i]->name : list[i]->id, true, NULL, NULL, NULL);
	oci_image_list_free(list, n);
	assert_int_equal(home_files(h), 0);
}

static void put_image(struct buf *b, const struct made_image *m)
{
	for (size_t i = 0; i < m->n_layers; i++)
		put_blob(b, m->diff_ids[i], buf_data((struct buf *)&m->layers[i]), m->layers[i].len);
	put_blob(b, m->config_digest, m->config, strlen(m->config));
	put_blob(b, m->manifest_digest, m->manifest, strlen(m->manifest));
}

static void put_index_json(struct buf *b, const char *entries)
{
	char *index = str_printf("{\"schemaVersion\":2,\"manifests\":[%s]}", entries);

	tar_text(b, "index.json", index);
	free(index);
}

static char *entry_of(const char *type, const char *digest, size_t size, const char *more)
{
	return str_printf(
		"{\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":%zu%s}", type, digest, size, more);
}

static void test_round_trip(void **state)
{
	static const char *const both[] = {"x:1", "other.example/y:2"};
	const char *const reversed[] = {both[1], both[0], both[0]};
	struct home *h = *state;
	struct made_image m, n;
	struct buf b = {0};

	made_init(&m, host_arch(), (const char *const[]){"one", "two"}, 2);
	made_init(&n, host_arch(), (const char *const[]){"one", "three"}, 2);
	put_image(&b, &m);
	put_image(&b, &n);
	char *em = entry_of(OCI_TYPE_MANIFEST, m.manifest_digest, strlen(m.manifest),
		",\"annotations\":{\"io.containerd.image.name\":\"docker.io/library/x:1\"}");
	char *en = entry_of(OCI_TYPE_MANIFEST, n.manifest_digest, strlen(n.manifest),
		",\"annotations\":{\"io.containerd.image.name\":\"other.example/y:2\"}");
	char *entries = str_printf("%s,%s", em, en);
	put_index_json(&b, entries);
	assert_loaded(h, &b, NULL, "docker.io/library/x:1 other.example/y:2 ");
	int first = save(h, both, 2, NULL, NULL), second = save(h, reversed, 3, NULL, NULL);
	assert_same(first, second);
	assert_true(
		has(first, m.manifest) && has(first, n.config) && has(first, "\"docker.io/library/x:1\""));
	/* A disk is built for each, and nothing else is in the way of the same archive again. */
	remove_all(h);
	char told[512];
	assert_int_equal(load_fd(h, first, NULL, told, NULL), 0);
	assert_string_equal(told, "docker.io/library/x:1 other.example/y:2 ");
	int third = save(h, both, 2, NULL, NULL);
	assert_same(first, third);
	struct oci_image *i;
	assert_int_equal(oci_image_find(h->s, "x:1", &i, NULL), 0);
	assert_string_equal(i->manifest, m.manifest_digest);
	/* by ID: no name; an OCI layout alone: no manifest.json */
	int plain = save_one(h, i->id, &(struct oci_save_opts){.oci_only = true});
	assert_true(has(plain, m.config) && !has(plain, "library/x") && !has(plain, "manifest.json"));
	oci_image_free(i);
	close(first);
	close(second);
	close(third);
	close(plain);
	free(em);
	free(en);
	free(entries);
	made_done(&m);
	made_done(&n);
}

/* manifest.json alone says everything that docker and podman need. */
static void test_docker_part(void **state)
{
	struct home *h = *state;
	CLEANUP(oci_archive_done) struct oci_archive a = {0};
	struct made_image m;
	struct buf b = {0};

	made_init(&m, host_arch(), (const char *const[]){"one", "two"}, 2);
	put_oci(&b, &m, "\"io.containerd.image.name\":\"docker.io/library/x:1\"", true, -1);
	assert_loaded(h, &b, NULL, "docker.io/library/x:1 ");
	int fd = save_one(h, "x:1", NULL);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	assert_int_equal(oci_archive_read(h->s, fd, NULL, &a, NULL), 0);
	tar_text(&b, "manifest.json", oci_archive_get(&a, "manifest.json")->doc);
	put_image(&b, &m);
	remove_all(h);
	assert_loaded(h, &b, NULL, "docker.io/library/x:1 ");
	struct oci_image *i;
	assert_int_equal(oci_image_find(h->s, "x:1", &i, NULL), 0);
	assert_string_equal(i->id, m.config_digest);
	oci_image_free(i);
	close(fd);
	made_done(&m);
}

static int save_named(struct home *h, const char *ref)
{
	CLEANUP(strv_done) struct strv names = {0};
	struct err e = {0};

	assert_int_equal(oci_save_names(h->s, &ref, 1, &names, &e), 0);
	int fd = save(h, (const char *const *)names.v, names.n, NULL, &e);
	if (fd < 0)
		fail_msg("%s", e.msg);
	return fd;
}

/* A repository stands for all its tags, and for nothing that begins like it. */
static void test_repository(void **state)
{
	static const char *const more[] = {"x:2", "x:latest", "xx:1", "x/y:1", "localhost:5000/x:1"};
	struct home *h = *state;
	struct made_image m;
	struct buf b = {0};

	made_init(&m, host_arch(), (const char *const[]){"one"}, 1);
	put_oci(&b, &m, "\"io.containerd.image.name\":\"docker.io/library/x:1\"", true, -1);
	assert_loaded(h, &b, NULL, "docker.io/library/x:1 ");
	for (size_t i = 0; i < ARRAY_LEN(more); i++)
		assert_int_equal(oci_image_tag(h->s, "x:1", more[i], NULL), 0);
	int all = save_named(h, "x"), one = save_named(h, "x:latest"),
	    other = save_named(h, "localhost:5000/x");
	assert_true(has(one, "library/x:latest") && !has(one, "library/x:1") && !has(one, "library/x:2"));
	assert_true(has(other, "localhost:5000/x:1") && !has(other, "library/x"));
	remove_all(h);
	char told[512];
	assert_int_equal(load_fd(h, all, NULL, told, NULL), 0);
	assert_string_equal(told, "docker.io/library/x:1 docker.io/library/x:2 docker.io/library/x:latest ");
	struct err e = {0};
	const char *const none = "y";
	CLEANUP(strv_done) struct strv names = {0};
	assert_int_equal(oci_save_names(h->s, &none, 1, &names, &e), 0);
	assert_int_equal(names.n, 1);
	assert_string_equal(names.v[0], "y");
	close(all);
	close(one);
	close(other);
	made_done(&m);
}

/* FROM scratch, and nothing but settings. */
static void test_no_layers(void **state)
{
	struct home *h = *state;
	struct made_image m;
	struct buf b = {0};
	struct oci_image *i;
	struct oci_history *steps;
	size_t n;
	char *disk;

	made_init(&m, host_arch(), NULL, 0);
	put_oci(&b, &m, "\"io.containerd.image.name\":\"docker.io/library/x:1\"", true, -1);
	assert_loaded(h, &b, NULL, "docker.io/library/x:1 ");
	assert_int_equal(oci_image_find(h->s, "x:1", &i, NULL), 0);
	assert_string_equal(i->id, m.config_digest);
	assert_int_equal(oci_image_history(h->s, i, &steps, &n, NULL), 0);
	assert_int_equal(n, 0);
	oci_history_free(steps, n);
	/* A disk that is missing is built again, of nothing. */
	assert_int_equal(oci_image_disk(h->s, i, NULL, &disk, NULL), 0);
	assert_int_equal(unlink(disk), 0);
	free(disk);
	assert_int_equal(oci_image_disk(h->s, i, NULL, &disk, NULL), 0);
	assert_int_equal(access(disk, R_OK), 0);
	free(disk);
	oci_image_free(i);
	int first = save_one(h, "x:1", NULL);
	assert_true(has(first, "\"Layers\":[]"));
	remove_all(h);
	assert_int_equal(load_fd(h, first, NULL, NULL, NULL), 0);
	int second = save_one(h, "x:1", NULL);
	assert_same(first, second);
	close(first);
	close(second);
	made_done(&m);
}

/* ---- several platforms ---- */

struct multi {
	struct made_image host, other;
	char *index, *attestation, *layer; /* of the attestation */
	char index_digest[OCI_DIGEST_MAX], attestation_digest[OCI_DIGEST_MAX], layer_digest[OCI_DIGEST_MAX];
};

static void multi_init(struct multi *m)
{
	char platform[128];

	made_init(&m->host, host_arch(), (const char *const[]){"one", "two"}, 2);
	made_init(&m->other, OTHER_ARCH, (const char *const[]){"one", "three"}, 2);
	m->layer = strdup("{\"predicate\":{}}");
	oci_digest_of(m->layer, strlen(m->layer), m->layer_digest, NULL);
	m->attestation = str_printf("{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE_MANIFEST
				    "\",\"config\":{\"mediaType\":\"" OCI_TYPE_CONFIG
				    "\",\"digest\":\"%s\",\"size\":%zu},\"layers\":[{\"mediaType\":"
				    "\"application/vnd.in-toto+json\",\"digest\":\"%s\",\"size\":%zu}]}",
		m->host.config_digest, strlen(m->host.config), m->layer_digest, strlen(m->layer));
	oci_digest_of(m->attestation, strlen(m->attestation), m->attestation_digest, NULL);
	snprintf(platform, sizeof(platform), ",\"platform\":{\"os\":\"linux\",\"architecture\":\"%s\"}",
		host_arch());
	char *a = entry_of(OCI_TYPE_MANIFEST, m->host.manifest_digest, strlen(m->host.manifest), platform);
	char *b = entry_of(OCI_TYPE_MANIFEST, m->other.manifest_digest, strlen(m->other.manifest),
		",\"platform\":{\"os\":\"linux\",\"architecture\":\"" OTHER_ARCH "\"}");
	char *c = entry_of(OCI_TYPE_MANIFEST, m->attestation_digest, strlen(m->attestation),
		",\"platform\":{\"os\":\"unknown\",\"architecture\":\"unknown\"}");
	m->index = str_printf("{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE_INDEX
			      "\",\"manifests\":[%s,%s,%s]}",
		a, b, c);
	oci_digest_of(m->index, strlen(m->index), m->index_digest, NULL);
	free(a);
	free(b);
	free(c);
}

static void multi_done(struct multi *m)
{
	made_done(&m->host);
	made_done(&m->other);
	free(m->index);
	free(m->attestation);
	free(m->layer);
}

/* The archive; all: with what belongs to the other platform. */
static void put_multi(struct buf *b, const struct multi *m, bool all)
{
	char *entry = entry_of(OCI_TYPE_INDEX, m->index_digest, strlen(m->index),
		",\"annotations\":{\"org.opencontainers.image.ref.name\":\"x:1\"}");

	put_index_json(b, entry);
	free(entry);
	put_blob(b, m->index_digest, m->index, strlen(m->index));
	put_blob(b, m->attestation_digest, m->attestation, strlen(m->attestation));
	put_blob(b, m->layer_digest, m->layer, strlen(m->layer));
	put_image(b, &m->host);
	put_blob(b, m->other.manifest_digest, m->other.manifest, strlen(m->other.manifest));
	if (all)
		put_image(b, &m->other);
}

static void test_several_platforms(void **state)
{
	struct home *h = *state;
	struct multi m;
	struct buf b = {0};
	struct err e = {0};
	struct oci_image *i;

	multi_init(&m);
	put_multi(&b, &m, true);
	assert_loaded(h, &b, NULL, "docker.io/library/x:1 ");
	assert_int_equal(oci_image_find(h->s, "x:1", &i, NULL), 0);
	assert_string_equal(i->manifest, m.host.manifest_digest);
	assert_string_equal(i->digest, m.index_digest);
	int whole = save_one(h, "x:1", NULL);
	assert_true(has(whole, m.index) && has(whole, m.other.config) && has(whole, m.attestation) &&
		    has(whole, m.layer));
	/* Nothing is lost on a second trip. */
	remove_all(h);
	assert_int_equal(load_fd(h, whole, NULL, NULL, NULL), 0);
	int again = save_one(h, "x:1", NULL);
	assert_same(whole, again);
	/* one of them: by its platform, or what the ID is of */
	int other = save_one(h, "x:1", &(struct oci_save_opts){.platform = "linux/" OTHER_ARCH});
	assert_true(has(other, m.other.manifest) && !has(other, m.index) && !has(other, m.host.manifest));
	int host = save_one(h, i->id, NULL);
	assert_true(has(host, m.host.manifest) && !has(host, m.index) && !has(host, m.other.manifest));
	const char *const refs[] = {"x:1"};
	assert_int_equal(save(h, refs, 1, &(struct oci_save_opts){.platform = "linux/vax"}, &e), -ENOENT);
	assert_non_null(strstr(e.msg, "image x:1: image has no variant for linux/vax, only for linux/"));
	oci_image_free(i);
	/* another platform is loaded when it is asked for */
	remove_all(h);
	assert_int_equal(load_fd(h, whole, "linux/" OTHER_ARCH, NULL, NULL), 0);
	assert_int_equal(oci_image_find(h->s, "x:1", &i, NULL), 0);
	assert_string_equal(i->arch, OTHER_ARCH);
	oci_image_free(i);
	close(whole);
	close(again);
	close(other);
	close(host);
	multi_done(&m);
}

/* Where something is missing, the index leads to the image and no further. */
static void test_incomplete_index(void **state)
{
	struct home *h = *state;
	struct multi m;
	struct buf b = {0};
	struct err e = {0};
	struct oci_image *i;

	multi_init(&m);
	put_multi(&b, &m, false);
	assert_loaded(h, &b, NULL, "docker.io/library/x:1 ");
	assert_int_equal(oci_image_find(h->s, "x:1", &i, NULL), 0);
	assert_string_equal(i->digest, m.index_digest);
	oci_image_free(i);
	int fd = save_one(h, "x:1", NULL);
	assert_true(has(fd, m.host.manifest) && !has(fd, m.index));
	close(fd);
	const char *const refs[] = {"x:1"};
	assert_int_equal(
		save(h, refs, 1, &(struct oci_save_opts){.platform = "linux/" OTHER_ARCH}, &e), -ENOENT);
	assert_non_null(strstr(e.msg, "it is here for linux/"));
	remove_all(h);
	put_multi(&b, &m, false);
	assert_int_equal(load(h, &b, "linux/" OTHER_ARCH, NULL, &e), -ENOENT);
	assert_non_null(strstr(e.msg, "is missing from the archive"));
	assert_int_equal(home_files(h), 0);
	multi_done(&m);
}

/* An index.json that is itself what an image index would be: one name, several platforms. */
static void test_flat_platforms(void **state)
{
	static const char annotations[] =
		",\"annotations\":{\"io.containerd.image.name\":\"docker.io/library/x:1\"}";
	struct home *h = *state;
	struct multi m;
	struct oci_image *i;

	multi_init(&m);
	for (int with_platform = 0; with_platform < 2; with_platform++) {
		struct buf b = {0};
		char *first = str_printf("%s%s%s%s",
			with_platform ? ",\"platform\":{\"os\":\"linux\",\"architecture\":\"" : "",
			with_platform ? OTHER_ARCH : "", with_platform ? "\"}" : "", annotations);
		char *other =
			entry_of(OCI_TYPE_MANIFEST, m.other.manifest_digest, strlen(m.other.manifest), first);
		char *host = entry_of(
			OCI_TYPE_MANIFEST, m.host.manifest_digest, strlen(m.host.manifest), annotations);
		char *entries = str_printf("%s,%s", other, host);
		put_index_json(&b, entries);
		put_image(&b, &m.host);
		put_image(&b, &m.other);
		assert_loaded(h, &b, NULL, "docker.io/library/x:1 ");
		assert_int_equal(oci_image_find(h->s, "x:1", &i, NULL), 0);
		assert_string_equal(i->manifest, m.host.manifest_digest);
		oci_image_free(i);
		remove_all(h);
		free(first);
		free(other);
		free(host);
		free(entries);
	}
	multi_done(&m);
}

/* What an archive says of an image must not contradict what it is. */
static void test_names_with_digests(void **state)
{
	struct home *h = *state;
	struct made_image m, n;
	struct err e = {0};
	char text[512];

	made_init(&m, host_arch(), (const char *const[]){"one"}, 1);
	made_init(&n, host_arch(), (const char *const[]){"two"}, 1);
	for (int honest = 0; honest < 2; honest++) {
		struct buf b = {0};
		snprintf(text, sizeof(text), "\"io.containerd.image.name\":\"docker.io/library/x@%s\"",
			honest ? m.manifest_digest : n.manifest_digest);
		put_oci(&b, &m, text, true, -1);
		int r = load(h, &b, NULL, NULL, &e);
		assert_int_equal(r, honest ? 0 : -EBADMSG);
		if (!honest)
			assert_non_null(strstr(e.msg, "the archive calls sha256:"));
	}
	snprintf(text, sizeof(text), "x@%s", m.manifest_digest);
	struct oci_image *i;
	assert_int_equal(oci_image_find(h->s, text, &i, NULL), 0);
	oci_image_free(i);
	made_done(&m);
	made_done(&n);
}

/* ---- when it goes wrong ---- */

static void test_damaged_store(void **state)
{
	struct home *h = *state;
	struct made_image m;
	struct err e = {0};
	struct buf b = {0};
	const char *const refs[] = {"x:1"}, *const nobody[] = {"nobody:1"};

	made_init(&m, host_arch(), (const char *const[]){"one", "two"}, 2);
	put_oci(&b, &m, "\"io.containerd.image.name\":\"docker.io/library/x:1\"", true, -1);
	assert_loaded(h, &b, NULL, "docker.io/library/x:1 ");
	assert_int_equal(save(h, nobody, 1, NULL, &e), -ENOENT);
	/* one bit */
	CLEANUP_CLOSE int fd = openat(h->s->sha256_fd, hex(m.diff_ids[1]), O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		assert_int_equal(fchmodat(h->s->sha256_fd, hex(m.diff_ids[1]), 0600, 0), 0);
		fd = openat(h->s->sha256_fd, hex(m.diff_ids[1]), O_RDWR | O_CLOEXEC);
	}
	assert_int_equal(pwrite(fd, "X", 1, 700), 1);
	assert_int_equal(save(h, refs, 1, NULL, &e), -EBADMSG);
	assert_non_null(strstr(e.msg, "is damaged"));
	assert_non_null(strstr(e.hint, "image-check"));
	/* cut off; gone */
	assert_int_equal(ftruncate(fd, 700), 0);
	assert_int_equal(save(h, refs, 1, NULL, &e), -EBADMSG);
	assert_int_equal(unlinkat(h->s->sha256_fd, hex(m.diff_ids[1]), 0), 0);
	assert_int_equal(save(h, refs, 1, NULL, &e), -EBADMSG);
	assert_non_null(strstr(e.msg, "is missing"));
	made_done(&m);
}

static void test_closed_pipe(void **state)
{
	struct home *h = *state;
	struct made_image m;
	struct err e = {0};
	struct buf b = {0};
	const char *ref = "x:1";
	int pipe_fds[2];

	signal(SIGPIPE, SIG_IGN);
	made_init(&m, host_arch(), (const char *const[]){"one"}, 1);
	put_oci(&b, &m, "\"io.containerd.image.name\":\"docker.io/library/x:1\"", true, -1);
	assert_loaded(h, &b, NULL, "docker.io/library/x:1 ");
	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
	close(pipe_fds[0]);
	assert_int_equal(oci_save(h->s, pipe_fds[1], &ref, 1, NULL, NULL, &e), -EPIPE);
	assert_string_equal(e.msg, "cannot write the archive: Broken pipe");
	close(pipe_fds[1]);
	made_done(&m);
}

/* What does not fit into a header: a name of 141 bytes; sizes from 8 GiB. */
static void test_pax_headers(void **state)
{
	static const char like[] = "sha512:"
				   "0000000000000000000000000000000000000000000000000000000000000000000000000"
				   "0000000000000000000000000"
				   "00000000000000000000000000";
	struct home *h = *state;
	CLEANUP(oci_archive_done) struct oci_archive a = {0};
	CLEANUP_CLOSE int fd = memfd_create("tar", MFD_CLOEXEC);
	struct oci_tar_writer w = {.fd = fd};
	struct oci_hash *hash;
	struct err e = {0};
	char digest[OCI_DIGEST_MAX], name[OCI_DIGEST_MAX + 8];

	assert_int_equal(oci_hash_new(like, &hash, NULL), 0);
	oci_hash_update(hash, "content", 7);
	oci_hash_final(hash, digest);
	oci_hash_free(hash);
	snprintf(name, sizeof(name), "blobs/sha512/%s", hex(digest));
	assert_int_equal(oci_tar_file(&w, name, "content", 7, NULL), 0);
	assert_int_equal(oci_tar_finish(&w, NULL), 0);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	assert_int_equal(oci_archive_read(h->s, fd, NULL, &a, &e), 0);
	assert_string_equal(oci_archive_find(&a, name)->digest, digest);
	/* Its content does not come; what it says of its size does. */
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	assert_int_equal(oci_tar_begin(&w, "huge", 99999999999999, NULL), 0);
	assert_int_equal(oci_tar_end(&w, &e), -EIO);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	oci_archive_done(&a);
	assert_int_equal(oci_archive_read(h->s, fd, NULL, &a, &e), -EFBIG);
	assert_non_null(strstr(e.msg, "with its 99999999999999 bytes"));
}

/* ---- importing ---- */

/* Imports what is in b; *id malloc'd. */
static int import(
	struct home *h, const void *data, size_t n, const struct oci_import_opts *o, char **id, struct err *e)
{
	CLEANUP_CLOSE int fd = memfd_create("root", MFD_CLOEXEC);

	assert_int_equal(io_write_full(fd, data, n), 0);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	return oci_import(h->s, fd, o, NULL, id, e);
}

static void assert_imported(
	struct home *h, const struct oci_image *i, const struct buf *tar, struct oci_manifest *ret)
{
	char diff_id[OCI_DIGEST_MAX];
	struct err e = {0};
	char *text;
	size_t n;

	assert_string_equal(i->arch, "arm");
	assert_string_equal(i->variant, "v6");
	assert_string_equal(i->cmd.v[0], "/bin/x");
	assert_string_equal(i->env.v[0], "A=b");
	assert_true(i->created_ns > 0);
	/* kept compressed, and what it is made of is what came */
	assert_int_equal(oci_image_document(h->s, i, OCI_DOC_CONFIG, &text, &n, &e), 0);
	oci_digest_of(buf_data(tar), tar->len, diff_id, NULL);
	assert_non_null(strstr(text, diff_id));
	assert_non_null(strstr(text, "\"comment\":\"by hand\""));
	free(text);
	assert_int_equal(oci_image_document(h->s, i, OCI_DOC_MANIFEST, &text, &n, &e), 0);
	assert_non_null(strstr(text, OCI_TYPE_LAYER_GZ));
	assert_int_equal(oci_manifest_parse(text, n, ret, &e), 0);
	assert_true(ret->layers[0].size < 100000);
	free(text);
}

/* The disk comes back from what is kept. */
static void assert_rebuilt(struct home *h, const struct oci_image *i)
{
	struct err e = {0};
	char *path;

	assert_int_equal(oci_image_disk(h->s, i, NULL, &path, NULL), 0);
	assert_int_equal(unlink(path), 0);
	free(path);
	assert_int_equal(oci_image_disk(h->s, i, NULL, &path, &e), 0);
	free(path);
}

/* What is compressed already stays what it is. */
static void assert_imported_as_it_is(struct home *h, const char *layer)
{
	int fd = oci_store_blob_open(h->s, layer, NULL);
	struct err e = {0};
	struct oci_image *i;
	char *id, *text;
	size_t n;
	CLEANUP_FREE char *packed = content(fd, &n);

	close(fd);
	remove_all(h);
	assert_int_equal(import(h, packed, n, NULL, &id, &e), 0);
	assert_int_equal(oci_image_find(h->s, id, &i, NULL), 0);
	assert_null(i->name);
	assert_int_equal(oci_image_document(h->s, i, OCI_DOC_MANIFEST, &text, &n, &e), 0);
	assert_non_null(strstr(text, layer));
	free(text);
	oci_image_free(i);
	free(id);
}

static void test_import(void **state)
{
	struct home *h = *state;
	CLEANUP(oci_manifest_done) struct oci_manifest m = {0};
	CLEANUP(strv_done) struct strv changes = {0};
	CLEANUP_FREE char *big = calloc(1, 3 << 20);
	struct buf b = {0};
	struct err e = {0};
	struct oci_image *i;
	char *id;

	tar_text(&b, "etc/hello", "hello");
	tar_file(&b, "zeros", big, 3 << 20);
	tar_end(&b);
	strv_push(&changes, "CMD [\"/bin/x\"]");
	strv_push(&changes, "ENV A=b");
	struct oci_import_opts o = {
		.ref = "made:1", .changes = &changes, .message = "by hand", .platform = "linux/arm/v6"};
	if (import(h, buf_data(&b), b.len, &o, &id, &e) < 0)
		fail_msg("%s", e.msg);
	assert_int_equal(oci_image_find(h->s, "made:1", &i, NULL), 0);
	assert_string_equal(i->id, id);
	assert_imported(h, i, &b, &m);
	assert_rebuilt(h, i);
	oci_image_free(i);
	free(id);
	assert_imported_as_it_is(h, m.layers[0].digest);
	buf_done(&b);
}

static void test_import_refused(void **state)
{
	static const struct {
		struct oci_import_opts o;
		const char *change, *data, *why;
	} cases[] = {
		{{.ref = NULL}, NULL, "", "the archive is empty"},
		{{.ref = NULL}, NULL, "no tar at all, this", "tar"},
		{{.ref = NULL}, NULL, "BZh91AY&SY", "compressed with bzip2"},
		{{.ref = NULL}, NULL, "\x1f\x8b\x08\x00garbage garbage", "archive"},
		{{.ref = "UPPER"}, NULL, "x", "name"},
		{{.ref = "x@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}, NULL,
			"x", "has a digest"},
		{{.platform = "nonsense"}, NULL, "x", "invalid platform"},
		{{.message = "\xff"}, NULL, NULL, "not in UTF-8"},
		{{.ref = NULL}, "RUN x", "x", "is no instruction"},
	};
	struct home *h = *state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		CLEANUP(strv_done) struct strv changes = {0};
		struct oci_import_opts o = cases[i].o;
		struct buf b = {0};
		struct err e = {0};
		char *id;
		if (cases[i].change)
			strv_push(&changes, cases[i].change);
		o.changes = &changes;
		if (cases[i].data) {
			buf_append(&b, cases[i].data, strlen(cases[i].data));
		} else {
			tar_text(&b, "f", "x");
			tar_end(&b);
		}
		if (import(h, buf_data(&b), b.len, &o, &id, &e) == 0)
			fail_msg("case %zu: imported", i);
		if (!strstr(e.msg, cases[i].why))
			fail_msg("case %zu: \"%s\" does not say \"%s\"", i, e.msg, cases[i].why);
		assert_int_equal(home_files(h), 0);
		buf_done(&b);
	}
}

#define STORE_TEST(f) cmocka_unit_test_setup_teardown(f, home_setup, home_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		STORE_TEST(test_round_trip),
		STORE_TEST(test_docker_part),
		STORE_TEST(test_repository),
		STORE_TEST(test_no_layers),
		STORE_TEST(test_several_platforms),
		STORE_TEST(test_incomplete_index),
		STORE_TEST(test_flat_platforms),
		STORE_TEST(test_names_with_digests),
		STORE_TEST(test_damaged_store),
		STORE_TEST(test_closed_pipe),
		STORE_TEST(test_pax_headers),
		STORE_TEST(test_import),
		STORE_TEST(test_import_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
