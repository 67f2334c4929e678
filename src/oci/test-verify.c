/* SPDX-License-Identifier: MIT */
/* Signing and judging against a registry in memory, which can fail and lie. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test-home.h"
#include "verify-fetch.h"

/* P-256, made for this test. */
static const char *const keys[] = {"-----BEGIN PRIVATE KEY-----\n"
				   "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgxaa1i0p9z2CoXmuV\n"
				   "NU77p4lih7o9HaCvLBIdIDfrvRuhRANCAARB1BBu6lpxQuppcIStyTUS10s1Pat8\n"
				   "07XIP9hoQRy/tOU0RvD1HJUFP1sCuVlJgpY3Vn4+iM2+aBnPP1p+SzU8\n"
				   "-----END PRIVATE KEY-----\n",
	"-----BEGIN PRIVATE KEY-----\n"
	"MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg+Yg4UhG/yGcLTZyQ\n"
	"isSEH67X0mkTRzCQtSV7tIv41pWhRANCAAQgc9rSm6UzOlQ8YQ6o4jxA8wmUiIpa\n"
	"6JDz4VTbK0Lir4bo9o2QahUz+WJUSgwlNcRXMyaBKxcIYRPVqGI7cmmL\n"
	"-----END PRIVATE KEY-----\n"};
static const char *const public_keys[] = {"-----BEGIN PUBLIC KEY-----\n"
					  "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEQdQQbupacULqaXCErck1EtdLNT2r\n"
					  "fNO1yD/YaEEcv7TlNEbw9RyVBT9bArlZSYKWN1Z+PojNvmgZzz9afks1PA==\n"
					  "-----END PUBLIC KEY-----\n",
	"-----BEGIN PUBLIC KEY-----\n"
	"MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEIHPa0pulMzpUPGEOqOI8QPMJlIiK\n"
	"WuiQ8+FU2ytC4q+G6PaNkGoVM/liVEoMJTXEVzMmgSsXCGET1ahiO3Jpiw==\n"
	"-----END PUBLIC KEY-----\n"};

#define INDEX	  "sha256:1111111111111111111111111111111111111111111111111111111111111111"
#define MANIFEST  "sha256:2222222222222222222222222222222222222222222222222222222222222222"
#define INDEX_SIG "sha256-1111111111111111111111111111111111111111111111111111111111111111.sig"

/* ---- the registry ---- */

struct thing {
	char *name; /* tag, digest, or "referrers DIGEST" */
	char *data;
	size_t n;
};
struct oci_conn {
	struct thing things[512];
	size_t n;
	const struct thing *reading;
	size_t at, requests, puts;
	const char *fails; /* what has this in its name cannot be got */
	char type[128];	   /* of what was put last */
	bool flips;	   /* a bit of each blob */
};

static void put(struct oci_conn *c, const char *name, const void *data, size_t n)
{
	struct thing *t = NULL;

	for (size_t i = 0; i < c->n; i++)
		if (strcmp(c->things[i].name, name) == 0)
			t = &c->things[i];
	if (!t) {
		assert_true(c->n < ARRAY_LEN(c->things));
		t = &c->things[c->n++];
		t->name = strdup(name);
	}
	free(t->data);
	t->data = malloc(n + 1);
	assert_true(t->name && t->data);
	memcpy(t->data, data, n);
	t->data[n] = '\0';
	t->n = n;
}

static int find(struct oci_conn *c, const char *name, const struct thing **ret, struct err *e)
{
	c->requests++;
	if (c->fails && strstr(name, c->fails))
		return err_set(e, -EIO, "the registry is on fire");
	for (size_t i = 0; i < c->n; i++) {
		if (strcmp(c->things[i].name, name) == 0) {
			*ret = &c->things[i];
			return 0;
		}
	}
	return err_set(e, -ENOENT, "%s is not there", name);
}

static int give(struct oci_conn *c, const char *name, char **ret, size_t *ret_n, struct err *e)
{
	const struct thing *t;
	int r = find(c, name, &t, e);

	if (r < 0)
		return r;
	*ret = strdup(t->data);
	*ret_n = t->n;
	return *ret ? 0 : -ENOMEM;
}

/* The linker puts these in the place of the registry's (meson.build: wrapped). */
__typeof__(oci_conn_manifest) __wrap_oci_conn_manifest;
__typeof__(oci_conn_referrers) __wrap_oci_conn_referrers;
__typeof__(oci_conn_blob) __wrap_oci_conn_blob;
__typeof__(oci_conn_read) __wrap_oci_conn_read;
__typeof__(oci_conn_has_blob) __wrap_oci_conn_has_blob;
__typeof__(oci_conn_upload) __wrap_oci_conn_upload;
__typeof__(oci_conn_put_manifest) __wrap_oci_conn_put_manifest;

int __wrap_oci_conn_manifest(struct oci_conn *c, const char *tag_or_digest, char **ret, size_t *ret_n,
	char ret_digest[OCI_DIGEST_MAX], char **ret_type, struct err *e)
{
	int r = give(c, tag_or_digest, ret, ret_n, e);

	assert_null(ret_type);
	return r < 0 ? r : oci_digest_of(*ret, *ret_n, ret_digest, e);
}

int __wrap_oci_conn_referrers(struct oci_conn *c, const char *digest, const char *artifact_type, char **ret,
	size_t *ret_n, struct err *e)
{
	char name[256];

	assert_null(artifact_type);
	snprintf(name, sizeof(name), "referrers %s", digest);
	return give(c, name, ret, ret_n, e);
}

int __wrap_oci_conn_blob(
	struct oci_conn *c, const char *digest, uint64_t from, uint64_t *ret_from, struct err *e)
{
	assert_int_equal(from, 0);
	*ret_from = 0;
	c->at = 0;
	return find(c, digest, &c->reading, e);
}

/* Seven bytes at a time. */
ssize_t __wrap_oci_conn_read(struct oci_conn *c, void *buf, size_t n, struct err *e)
{
	(void)e;
	n = MIN_OF(MIN_OF(n, (size_t)7), c->reading->n - c->at);
	memcpy(buf, c->reading->data + c->at, n);
	if (n && c->at == 0 && c->flips)
		*(char *)buf ^= 1;
	c->at += n;
	return (ssize_t)n;
}

int __wrap_oci_conn_has_blob(struct oci_conn *c, const char *digest, struct err *e)
{
	const struct thing *t;
	int r = find(c, digest, &t, e);

	return r == 0 ? 1 : r == -ENOENT ? 0 : r;
}

int __wrap_oci_conn_upload(struct oci_conn *c, const char *digest, int fd, uint64_t size,
	void (*on_bytes)(void *data, uint64_t bytes), void *data, struct err *e)
{
	char buf[8192], is[OCI_DIGEST_MAX];
	ssize_t n = io_pread_full(fd, buf, sizeof(buf), 0);

	(void)on_bytes, (void)data;
	assert_int_equal(n, size);
	assert_int_equal(oci_digest_of(buf, (size_t)n, is, e), 0);
	assert_string_equal(is, digest);
	put(c, digest, buf, (size_t)n);
	return 0;
}

int __wrap_oci_conn_put_manifest(struct oci_conn *c, const char *tag_or_digest, const char *type,
	const void *data, size_t n, struct err *e)
{
	(void)e;
	snprintf(c->type, sizeof(c->type), "%s", type);
	put(c, tag_or_digest, data, n);
	c->puts++;
	return 0;
}

/* ---- around it ---- */

struct world {
	struct home *h;
	struct oci_conn c;
	struct oci_reference ref;
	struct sign_private *keys[2];
	char key_files[2][128];
};

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	struct err e = {0};
	void *home;

	if (!w || home_setup(&home) < 0)
		return -1;
	w->h = home;
	for (size_t i = 0; i < 2; i++) {
		snprintf(w->key_files[i], sizeof(w->key_files[i]), "%s/key%zu", w->h->path, i);
		if (io_write_file_at(AT_FDCWD, w->key_files[i], keys[i], strlen(keys[i]), 0600) < 0 ||
			oci_sign_key(w->key_files[i], NULL, &w->keys[i], &e) < 0 ||
			io_write_file_at(
				AT_FDCWD, w->key_files[i], public_keys[i], strlen(public_keys[i]), 0600) < 0)
			return -1;
	}
	*state = w;
	return oci_reference_parse("localhost:5000/a/b:1", &w->ref, &e);
}

static int teardown(void **state)
{
	struct world *w = *state;
	void *home = w->h;

	for (size_t i = 0; i < w->c.n; i++) {
		free(w->c.things[i].name);
		free(w->c.things[i].data);
	}
	for (size_t i = 0; i < 2; i++)
		sign_private_free(w->keys[i]);
	oci_reference_done(&w->ref);
	free(w);
	return home_teardown(&home);
}

static void sign(struct world *w, const char *digest, size_t key)
{
	CLEANUP(oci_signatures_done) struct oci_signatures s = {0};
	struct err e = {0};

	if (oci_sign_check(&w->c, &w->ref, digest, w->keys[key], &e) < 0 ||
		oci_sign_pushed(&w->c, &w->ref, digest, w->keys[key], &s, &e) < 0)
		fail_msg("%s", e.msg);
	assert_int_equal(s.n, 1);
	assert_string_equal(s.digest[0], digest);
}

/* As one that cannot be signed says before and after a push. */
static void unsignable(struct world *w, int r)
{
	struct oci_signatures s = {0};

	assert_int_equal(oci_sign_check(&w->c, &w->ref, INDEX, w->keys[0], NULL), r);
	assert_int_equal(oci_sign_pushed(&w->c, &w->ref, INDEX, w->keys[0], &s, NULL), r);
	assert_null(s.v);
}

static int verify_as(
	struct world *w, size_t key, bool whole, struct oci_signatures *ret, bool *ret_served, struct err *e)
{
	struct oci_verify_opts o = {.key = w->key_files[key]};

	return oci_verify_pull(w->h->s, &w->c, &w->ref, &o, INDEX, MANIFEST, whole, ret, ret_served, e);
}

static int verify(struct world *w, size_t key, struct oci_signatures *ret, struct err *e)
{
	bool served;

	return verify_as(w, key, false, ret, &served, e);
}

static void accept(struct world *w, size_t key, const char *digest)
{
	CLEANUP(oci_signatures_done) struct oci_signatures s = {0};
	struct err e = {0};

	bool served;

	if (verify_as(w, key, false, &s, &served, &e) < 0)
		fail_msg("%s", e.msg);
	assert_int_equal(s.n, 1);
	assert_string_equal(s.digest[0], digest);
	assert_int_equal(served, strcmp(digest, INDEX) == 0);
	oci_signatures_done(&s);
	assert_int_equal(verify_as(w, key, true, &s, &served, &e), served ? 0 : -EKEYREJECTED);
}

static void refuse(struct world *w, size_t key, const char *why)
{
	struct oci_signatures s = {0};
	struct err e = {0};

	assert_int_equal(verify(w, key, &s, &e), -EKEYREJECTED);
	assert_int_equal(e.code, -EKEYREJECTED);
	if (!strstr(e.msg, why))
		fail_msg("\"%s\" does not say \"%s\"", e.msg, why);
	assert_int_equal(s.n, 0);
	assert_null(s.v);
}

static void policy(struct world *w, const char *text)
{
	assert_int_equal(io_write_file_at(w->h->st->home_fd, "policy.json", text, strlen(text), 0600), 0);
}

static void signed_policy(struct world *w, size_t key, const char *identity)
{
	char text[1024];

	snprintf(text, sizeof(text),
		"{\"default\":[{\"type\":\"reject\"}],\"transports\":{\"docker\":{\"localhost:5000\":[{"
		"\"type\":\"sigstoreSigned\",\"keyPath\":\"%s\",\"signedIdentity\":{\"type\":\"%s\"}}]}}}",
		w->key_files[key], identity);
	policy(w, text);
}

/* ---- pulls ---- */

static void test_nothing_is_asked_for(void **state)
{
	struct world *w = *state;
	struct oci_signatures s;
	struct oci_verify_opts o = {0};
	struct err e = {0};
	bool served = false;

	w->c.fails = ""; /* everything */
	assert_int_equal(
		oci_verify_pull(w->h->s, &w->c, &w->ref, &o, INDEX, MANIFEST, true, &s, &served, &e), 0);
	assert_int_equal(s.n, 0);
	assert_true(served);
	policy(w, "{\"default\":[{\"type\":\"insecureAcceptAnything\"}]}");
	assert_int_equal(
		oci_verify_pull(w->h->s, &w->c, &w->ref, &o, INDEX, MANIFEST, true, &s, &served, &e), 0);
	policy(w, "{\"default\":[{\"type\":\"reject\"}]}");
	assert_int_equal(oci_verify_pull(w->h->s, &w->c, &w->ref, &o, INDEX, MANIFEST, true, &s, &served, &e),
		-EKEYREJECTED);
	assert_int_equal(w->c.requests, 0);
}

static void test_either_digest(void **state)
{
	struct world *w = *state;

	refuse(w, 0, "it is not signed");
	sign(w, MANIFEST, 0);
	accept(w, 0, MANIFEST);
	refuse(w, 1, "its signature is not accepted");
	sign(w, INDEX, 1);
	accept(w, 0, MANIFEST);
	accept(w, 1, INDEX);
}

/* Some of what is demanded for the index, some for the manifest: neither is signed as it should be. */
static void test_in_parts(void **state)
{
	struct world *w = *state;
	struct oci_verify_opts o = {.key = w->key_files[1]};
	struct oci_signatures s;
	struct err e = {0};
	bool served;

	signed_policy(w, 0, "matchRepository");
	sign(w, INDEX, 0);
	sign(w, MANIFEST, 1);
	assert_int_equal(
		oci_verify_pull(w->h->s, &w->c, &w->ref, &o, INDEX, MANIFEST, false, &s, &served, &e),
		-EKEYREJECTED);
	assert_non_null(strstr(e.msg, "in part"));
	assert_int_equal(s.n, 0);
	sign(w, MANIFEST, 0);
	assert_int_equal(
		oci_verify_pull(w->h->s, &w->c, &w->ref, &o, INDEX, MANIFEST, false, &s, &served, &e), 0);
	assert_false(served);
	assert_int_equal(s.n, 2);
	for (size_t i = 0; i < s.n; i++)
		assert_string_equal(s.digest[i], MANIFEST);
	oci_signatures_done(&s);
}

static void test_once_by_each_key(void **state)
{
	struct world *w = *state;
	const struct thing *t;
	json_t *j = NULL;
	struct err e = {0};

	for (size_t i = 0; i < 3; i++) {
		sign(w, INDEX, 0);
		sign(w, INDEX, 1);
	}
	assert_int_equal(w->c.puts, 2);
	assert_int_equal(find(&w->c, INDEX_SIG, &t, &e), 0);
	assert_int_equal(oci_json_parse("manifest", t->data, t->n, &j, &e), 0);
	assert_int_equal(json_array_size(json_object_get(j, "layers")), 2);
	/* One that is there, but not good, is none. */
	json_t *annotations = json_object_get(json_array_get(json_object_get(j, "layers"), 0), "annotations");
	json_object_set_new(annotations, COSIGN_SIGNATURE, json_string("MEQ="));
	char *text = json_dumps(j, 0);
	put(&w->c, INDEX_SIG, text, strlen(text));
	sign(w, INDEX, 0);
	assert_int_equal(w->c.puts, 3);
	accept(w, 0, INDEX);
	free(text);
	json_decref(j);
}

/* Some clients have pushed theirs as Docker's. */
static void test_docker_manifest(void **state)
{
	struct world *w = *state;
	const struct thing *t;
	json_t *j = NULL;
	struct err e = {0};
	static const char none[] =
		"{\"schemaVersion\":2,\"mediaType\":\"" DOCKER_TYPE_MANIFEST "\",\"layers\":[]}";

	put(&w->c, INDEX_SIG, none, strlen(none));
	sign(w, INDEX, 0);
	assert_string_equal(w->c.type, DOCKER_TYPE_MANIFEST);
	accept(w, 0, INDEX);
	assert_int_equal(find(&w->c, INDEX_SIG, &t, &e), 0);
	assert_int_equal(oci_json_parse("manifest", t->data, t->n, &j, &e), 0);
	assert_string_equal(json_string_value(json_object_get(j, "mediaType")), DOCKER_TYPE_MANIFEST);
	assert_string_equal(json_string_value(json_object_get(json_object_get(j, "config"), "mediaType")),
		DOCKER_TYPE_CONFIG);
	json_decref(j);
	sign(w, MANIFEST, 0);
	assert_string_equal(w->c.type, OCI_TYPE_MANIFEST);
}

static void test_a_second_joins_the_first(void **state)
{
	struct world *w = *state;
	const struct thing *t;
	json_t *j = NULL, *config = NULL;
	struct err e = {0};

	sign(w, INDEX, 0);
	sign(w, INDEX, 1);
	accept(w, 0, INDEX);
	accept(w, 1, INDEX);
	assert_int_equal(find(&w->c, INDEX_SIG, &t, &e), 0);
	assert_int_equal(oci_json_parse("manifest", t->data, t->n, &j, &e), 0);
	json_t *layers = json_object_get(j, "layers");
	assert_int_equal(json_array_size(layers), 2);
	const char *digest = json_string_value(json_object_get(json_object_get(j, "config"), "digest"));
	assert_int_equal(find(&w->c, digest, &t, &e), 0);
	assert_int_equal(json_integer_value(json_object_get(json_object_get(j, "config"), "size")), t->n);
	assert_int_equal(oci_json_parse("configuration", t->data, t->n, &config, &e), 0);
	json_t *ids = json_object_get(json_object_get(config, "rootfs"), "diff_ids");
	assert_int_equal(json_array_size(ids), 2);
	for (size_t i = 0; i < 2; i++)
		assert_string_equal(json_string_value(json_array_get(ids, i)),
			json_string_value(json_object_get(json_array_get(layers, i), "digest")));
	json_decref(j);
	json_decref(config);
}

static void test_what_cannot_be_got(void **state)
{
	struct world *w = *state;

	w->c.fails = ".sig";
	refuse(w, 0, "its signatures cannot be fetched: the registry is on fire");
	w->c.fails = "referrers";
	refuse(w, 0, "cannot be fetched");
	sign(w, INDEX, 0);
	accept(w, 0, INDEX); /* what is there is enough */
	refuse(w, 1, "others cannot be fetched: the registry is on fire");
	w->c.fails = "sha256:";
	refuse(w, 0, "cannot be fetched");
}

static void test_damage(void **state)
{
	struct world *w = *state;

	sign(w, INDEX, 0);
	w->c.flips = true;
	refuse(w, 0, "arrived damaged");
	w->c.flips = false;
	accept(w, 0, INDEX);
	for (size_t i = 0; i < w->c.n; i++) /* each blob a byte longer, then two shorter */
		if (strncmp(w->c.things[i].name, "sha256:", 7) == 0)
			w->c.things[i].n++;
	refuse(w, 0, "arrived damaged");
	for (size_t i = 0; i < w->c.n; i++)
		if (strncmp(w->c.things[i].name, "sha256:", 7) == 0)
			w->c.things[i].n -= 2;
	refuse(w, 0, "arrived damaged");
}

/* A manifest of n layers that all are the same bad signature. */
static void put_many(struct world *w, const char *tag, size_t n)
{
	char digest[OCI_DIGEST_MAX];
	json_t *layers = json_array();

	assert_int_equal(oci_digest_of("{}", 2, digest, NULL), 0);
	put(&w->c, digest, "{}", 2);
	for (size_t i = 0; i < n; i++)
		json_array_append_new(
			layers, json_pack("{s:s,s:s,s:i,s:{s:s}}", "mediaType", SIGN_TYPE_SIMPLE, "digest",
					digest, "size", 2, "annotations", COSIGN_SIGNATURE, "MEQ="));
	json_t *j = json_pack("{s:i,s:o}", "schemaVersion", 2, "layers", layers);
	char *text = json_dumps(j, 0);
	put(&w->c, tag, text, strlen(text));
	free(text);
	json_decref(j);
}

static void test_bounds(void **state)
{
	struct world *w = *state;

	put_many(w, INDEX_SIG, SIGN_CANDIDATES_MAX + 200);
	refuse(w, 0, "none of its first 64 signatures");
	assert_true(w->c.requests <= SIGN_CANDIDATES_MAX + 4);
	unsignable(w, -E2BIG);
	put_many(w, INDEX_SIG, SIGN_CANDIDATES_MAX - 1);
	sign(w, INDEX, 0);
	accept(w, 0, INDEX);

	/* Referrers without end, each of which leads nowhere. */
	w->c.requests = 0;
	json_t *list = json_array();
	for (int i = 0; i < 4000; i++)
		json_array_append_new(list, json_pack("{s:s}", "digest", INDEX));
	json_t *j = json_pack("{s:o}", "manifests", list);
	char *text = json_dumps(j, 0);
	put(&w->c, "referrers " INDEX, text, strlen(text));
	put(&w->c, INDEX_SIG, "{}", 2);
	refuse(w, 0, "not signed");
	assert_true(w->c.requests <= 2 * SIGN_CANDIDATES_MAX + 4);
	free(text);
	json_decref(j);
}

static void test_not_ours_to_replace(void **state)
{
	static const char *const others[] = {"", "[]", "{}", "{\"layers\":{}}",
		"{\"mediaType\":\"" OCI_TYPE_INDEX "\",\"layers\":[]}", "{\"layers\":[{}]}",
		"{\"mediaType\":\"" DOCKER_TYPE_MANIFEST
		"\",\"layers\":[{\"mediaType\":\"" DOCKER_TYPE_LAYER_GZ "\"}]}"};
	struct world *w = *state;

	for (size_t i = 0; i < ARRAY_LEN(others); i++) {
		put(&w->c, INDEX_SIG, others[i], strlen(others[i]));
		unsignable(w, -EBADMSG);
	}
	w->c.fails = ".sig";
	unsignable(w, -EIO);
	assert_int_equal(w->c.puts, 0);
}

/* ---- runs ---- */

static void store_signature(struct world *w, const struct oci_signatures *s)
{
	CLEANUP(stmt_done) sqlite3_stmt *st = NULL;
	struct err e = {0};

	assert_int_equal(state_prepare(w->h->st, &st, &e,
				 "INSERT INTO image_signatures(digest, pos, kind, signature, payload)"
				 " VALUES(?, 0, 'simple', ?, ?)",
				 "ss", s->digest[0], s->v[0].signature),
		0);
	assert_int_equal(
		sqlite3_bind_blob64(st, 3, s->v[0].payload, s->v[0].payload_len, SQLITE_STATIC), SQLITE_OK);
	assert_int_equal(state_step(w->h->st, st, &e), 0);
}

static void allowed(struct world *w, const struct oci_image *i, const char *why)
{
	struct err e = {0};
	int r = oci_image_allowed(w->h->s, i, &e);

	if (!why && r < 0)
		fail_msg("%s", e.msg);
	if (!why)
		return;
	assert_int_equal(r, -EKEYREJECTED);
	assert_int_equal(e.code, -EKEYREJECTED);
	if (!strstr(e.msg, why))
		fail_msg("\"%s\" does not say \"%s\"", e.msg, why);
	assert_int_equal(*e.hint != 0, strstr(e.msg, "not signed") != NULL);
}

static void test_allowed(void **state)
{
	struct world *w = *state;
	char b1[] = "localhost:5000/a/b:1", c1[] = "localhost:5000/a/c:1", far[] = "elsewhere:1/a/b:1";
	char index[] = INDEX, manifest[] = MANIFEST;
	struct oci_image i = {.asked = b1, .name = far, .id = index, .manifest = manifest, .digest = index};
	CLEANUP(oci_signatures_done) struct oci_signatures s = {0};
	struct err e = {0};

	allowed(w, &i, NULL);
	signed_policy(w, 0, "matchRepository");
	allowed(w, &i, "policy.json: it is not signed");
	sign(w, MANIFEST, 0);
	assert_int_equal(verify(w, 0, &s, &e), 0);
	store_signature(w, &s);
	allowed(w, &i, NULL);
	i.asked = c1;
	allowed(w, &i, "image localhost:5000/a/c:1 is not allowed");
	i.asked = far;
	allowed(w, &i, "reject");
	i.asked = NULL;
	i.name = NULL;
	allowed(w, &i, "reject");
	i.asked = b1;
	signed_policy(w, 0, "matchExact");
	allowed(w, &i, "policy.json");
	signed_policy(w, 1, "matchRepository");
	allowed(w, &i, "its signature is not accepted");
	signed_policy(w, 0, "matchRepository");
	i.manifest = index; /* another image under the same name */
	allowed(w, &i, "it is not signed");
	policy(w, "{}");
	allowed(w, &i, "policy.json");
	assert_int_equal(unlinkat(w->h->st->home_fd, "policy.json", 0), 0);
	allowed(w, &i, NULL);
}

static void run_sql(struct world *w, const char *sql)
{
	struct err e = {0};

	if (state_exec(w->h->st, &e, sql, "") < 0)
		fail_msg("%s", e.msg);
}

/* By an ID: all names of the image count, then all that registries call it. */
static void test_allowed_by_id(void **state)
{
	struct world *w = *state;
	char id[] = INDEX, manifest[] = MANIFEST;
	struct oci_image i = {.id = id, .manifest = manifest};
	CLEANUP(oci_signatures_done) struct oci_signatures s = {0};
	struct err e = {0};

	signed_policy(w, 0, "matchRepository");
	sign(w, INDEX, 0);
	assert_int_equal(verify(w, 0, &s, &e), 0);
	store_signature(w, &s);
	allowed(w, &i, "policy.json: it rejects");
	/* The index's signature counts where that led here. */
	run_sql(w, "INSERT INTO image_remotes(manifest, name, repo, digest) VALUES('" MANIFEST
		   "', 'localhost:5000/a/b:1', 'localhost:5000/a/b', '" INDEX "')");
	allowed(w, &i, NULL);
	run_sql(w, "INSERT INTO image_remotes(manifest, name, repo, digest) VALUES('" MANIFEST
		   "', 'localhost:5000/a/c:1', 'localhost:5000/a/c', '" INDEX "')");
	allowed(w, &i, "as localhost:5000/a/c@" INDEX ": its signature is not accepted");
	run_sql(w, "INSERT INTO image_names(name, repo, digest, manifest) VALUES('localhost:5000/a/b:2',"
		   " 'localhost:5000/a/b', '" INDEX "', '" MANIFEST "')");
	allowed(w, &i, NULL);
	run_sql(w, "INSERT INTO image_names(name, repo, digest, manifest) VALUES('elsewhere:1/a/b:1',"
		   " 'elsewhere:1/a/b', '" INDEX "', '" MANIFEST "')");
	allowed(w, &i, "as elsewhere:1/a/b:1: it rejects");
	run_sql(w, "DELETE FROM image_names");
	run_sql(w, "DELETE FROM image_remotes");
	i.asked = strdup("localhost:5000/a/b:1"); /* what was found by it once, and has gone since */
	allowed(w, &i, "it is not signed");
	free(i.asked);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_nothing_is_asked_for),
		TEST(test_either_digest),
		TEST(test_in_parts),
		TEST(test_a_second_joins_the_first),
		TEST(test_once_by_each_key),
		TEST(test_docker_manifest),
		TEST(test_what_cannot_be_got),
		TEST(test_damage),
		TEST(test_bounds),
		TEST(test_not_ours_to_replace),
		TEST(test_allowed),
		TEST(test_allowed_by_id),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
