/* SPDX-License-Identifier: MIT */
/* Names of images, and what is entered with them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sign/sign.h"
#include "test-store.h"
#include "verify.h"

/* ---- names ---- */

static void test_tag(void **state)
{
	struct home *h = *state;
	char a[OCI_DIGEST_MAX], b[OCI_DIGEST_MAX], text[512];
	struct err e = {0};

	put_image(h, "docker.io/library/x:1", "1", a);
	put_image(h, "docker.io/library/y:1", "2", b);
	assert_int_equal(oci_image_tag(h->s, "x:1", "z", &e), 0);
	assert_found(h, "z", a);
	assert_int_equal(oci_image_tag(h->s, hex(b), "localhost:5000/w:2", &e), 0);
	assert_found(h, "localhost:5000/w:2", b);
	/* a name that led elsewhere leads here, and the other one stays */
	assert_int_equal(oci_image_tag(h->s, "y:1", "x:1", &e), 0);
	assert_int_equal(oci_image_remove(h->s, "z", false, NULL, NULL, &e), 0);
	assert_int_equal(list_names(h, text, sizeof(text)), 3);
	assert_found(h, "x:1", b);
	assert_int_equal(find_error(h, a, &e), -ENOENT); /* z was its last name */
	assert_int_equal(oci_image_tag(h->s, "x:1", "x:1", &e), 0);
	assert_int_equal(oci_image_tag(h->s, "nothing", "q", &e), -ENOENT);
	assert_int_equal(oci_image_tag(h->s, "x:1", "Not Valid", &e), -EINVAL);
	snprintf(text, sizeof(text), "q@%s", b);
	assert_int_equal(oci_image_tag(h->s, "x:1", text, &e), -EINVAL);
	assert_int_equal(number(h, "SELECT count(*) FROM events WHERE action = 'tag'"), 4);
}

/* What is removed while a box holds it comes back by being named. */
static void test_tag_doomed(void **state)
{
	struct home *h = *state;
	char id[OCI_DIGEST_MAX], text[512];
	struct err e = {0};

	put_image(h, "docker.io/library/x:1", "1", id);
	struct oci_image *i = find(h, "x:1");
	assert_int_equal(oci_ref_add(h->st, "box1", i->manifest, &e), 0);
	assert_int_equal(oci_image_remove(h->s, "x:1", true, NULL, NULL, &e), 0);
	assert_int_equal(list_names(h, text, sizeof(text)), 0);
	assert_int_equal(oci_image_tag(h->s, id, "x:2", &e), 0);
	assert_int_equal(oci_ref_drop(h->st, "box1", &e), 0);
	assert_int_equal(oci_store_gc(h->s, &e), 0);
	assert_found(h, "x:2", id);
	oci_image_free(i);
}

static void assert_names(struct home *h, const char *ref, const char *tags, const char *digests)
{
	struct strv t = {0}, d = {0};
	struct oci_image *i = find(h, ref);
	char got[2][1024] = {"", ""};

	assert_int_equal(oci_image_names(h->s, i, &t, &d, NULL), 0);
	for (size_t k = 0; k < t.n; k++)
		snprintf(got[0] + strlen(got[0]), sizeof(got[0]) - strlen(got[0]), "%s;", t.v[k]);
	for (size_t k = 0; k < d.n; k++)
		snprintf(got[1] + strlen(got[1]), sizeof(got[1]) - strlen(got[1]), "%.40s;", d.v[k]);
	assert_string_equal(got[0], tags);
	assert_string_equal(got[1], digests);
	strv_done(&t);
	strv_done(&d);
	oci_image_free(i);
}

/* What registries call an image goes with the last tag of the repository, or by itself. */
static void test_remotes(void **state)
{
	struct home *h = *state;
	char id[OCI_DIGEST_MAX], ref[OCI_DIGEST_MAX + 16], expect[1024];
	struct removed r = {""};
	struct err e = {0};

	put_image(h, "docker.io/library/x:1", "1", id);
	assert_names(h, "x:1", "docker.io/library/x:1;", "");
	make_pulled(h, id);
	struct oci_image *i = find(h, "x:1");
	snprintf(expect, sizeof(expect), "docker.io/library/x@%.20s;", i->manifest);
	assert_int_equal(oci_image_tag(h->s, "x:1", "x:2", &e), 0);
	assert_int_equal(oci_image_tag(h->s, "x:1", "y:1", &e), 0);
	assert_names(h, "y:1", "docker.io/library/x:1;docker.io/library/x:2;docker.io/library/y:1;", expect);
	/* pushed as y */
	assert_int_equal(state_begin(h->st, &e), 0);
	assert_int_equal(
		state_end(h->st,
			oci_store_pushed(h->s, "docker.io/library/y:1", i->manifest, i->manifest, &e), &e),
		0);
	snprintf(expect, sizeof(expect), "docker.io/library/x@%.20s;docker.io/library/y@%.20s;", i->manifest,
		i->manifest);
	assert_names(h, "y:1", "docker.io/library/x:1;docker.io/library/x:2;docker.io/library/y:1;", expect);
	/* by digest: only that */
	snprintf(ref, sizeof(ref), "x@%s", i->manifest);
	assert_int_equal(oci_image_remove(h->s, ref, false, on_removed, &r, &e), 0);
	snprintf(expect, sizeof(expect), "Untagged %.19s;", ref);
	assert_string_equal(r.text, expect);
	assert_int_equal(oci_image_remove(h->s, "x:1", false, NULL, NULL, &e), 0);
	assert_int_equal(oci_image_remove(h->s, "x:2", false, NULL, NULL, &e), 0);
	r.text[0] = '\0';
	assert_int_equal(oci_image_remove(h->s, "y:1", false, on_removed, &r, &e), 0);
	snprintf(expect, sizeof(expect), "Untagged y:1;Untagged y@%.17s;Deleted %.19s;", i->manifest, id);
	assert_string_equal(r.text, expect);
	assert_int_equal(home_files(h), 0);
	assert_int_equal(number(h, "SELECT count(*) FROM image_remotes"), 0);
	oci_image_free(i);
}

/* An image without tags that a registry's digest still names. */
static void test_remove_by_digest(void **state)
{
	struct home *h = *state;
	char id[OCI_DIGEST_MAX], ref[OCI_DIGEST_MAX + 16];
	struct err e = {0};

	put_image(h, "docker.io/library/x:1", "1", id);
	make_pulled(h, id);
	put_image(h, "docker.io/library/x:1", "2", NULL);
	struct oci_image *i = find(h, id);
	assert_null(i->name);
	snprintf(ref, sizeof(ref), "x@%s", i->manifest);
	assert_found(h, ref, id);
	assert_int_equal(oci_ref_add(h->st, "box1", i->manifest, &e), 0);
	assert_int_equal(oci_image_remove(h->s, ref, false, NULL, NULL, &e), -EBUSY);
	assert_int_equal(oci_ref_drop(h->st, "box1", &e), 0);
	assert_int_equal(oci_image_remove(h->s, ref, false, NULL, NULL, &e), 0);
	assert_int_equal(find_error(h, id, &e), -ENOENT);
	/* of a loaded image the digest stands for its tag */
	oci_image_free(i);
	i = find(h, "x:1");
	snprintf(ref, sizeof(ref), "x@%s", i->manifest);
	assert_int_equal(oci_image_remove(h->s, ref, false, NULL, NULL, &e), 0);
	assert_int_equal(home_files(h), 0);
	oci_image_free(i);
}

/* ---- what is entered with an image ---- */

struct entering {
	struct oci_entry en;
	struct oci_manifest m;
	struct oci_config c;
};

static void entering_init(struct home *h, struct entering *x, const char *ref, const char *name)
{
	struct oci_image *i = find(h, ref);
	char *text;
	size_t n;

	*x = (struct entering){.en = {.m = &x->m, .c = &x->c}};
	assert_int_equal(oci_image_document(h->s, i, OCI_DOC_MANIFEST, &text, &n, NULL), 0);
	assert_int_equal(oci_manifest_parse(text, n, &x->m, NULL), 0);
	free(text);
	assert_int_equal(oci_image_document(h->s, i, OCI_DOC_CONFIG, &text, &n, NULL), 0);
	assert_int_equal(oci_config_parse(text, n, &x->c, NULL), 0);
	free(text);
	strcpy(x->en.manifest, i->manifest);
	strcpy(x->en.served, i->manifest);
	strcpy(x->en.config, i->id);
	strcpy(x->en.chain, i->chain_id);
	x->en.disk_size = i->size;
	x->en.pulled = true;
	assert_int_equal(strv_push(&x->en.names, name), 0);
	oci_image_free(i);
}

static void enter(struct home *h, struct entering *x)
{
	struct err e = {0};

	assert_int_equal(state_begin(h->st, &e), 0);
	if (state_end(h->st, oci_store_enter(h->s, &x->en, "pull", &e), &e) < 0)
		fail_msg("%s", e.msg);
}

static void entering_done(struct entering *x)
{
	oci_manifest_done(&x->m);
	oci_config_done(&x->c);
	strv_done(&x->en.names);
	strv_done(&x->en.index_blobs);
}

/* What an index keeps lives as long as a name leads to the index. */
static void test_index_life(void **state)
{
	struct home *h = *state;
	char id[OCI_DIGEST_MAX], index[OCI_DIGEST_MAX], other[OCI_DIGEST_MAX];
	struct entering x;
	struct err e = {0};

	put_image(h, "docker.io/library/x:1", "1", id);
	put_text_blob(h, "the index", index);
	put_text_blob(h, "of another platform", other);
	entering_init(h, &x, "x:1", "docker.io/library/x:1");
	strcpy(x.en.served, index);
	assert_int_equal(strv_push(&x.en.index_blobs, index), 0);
	assert_int_equal(strv_push(&x.en.index_blobs, other), 0);
	x.en.all_platforms = true;
	enter(h, &x);
	assert_int_equal(oci_store_gc(h->s, &e), 0);
	assert_true(has_blob(h, other) && has_blob(h, index));
	struct oci_image *i = find(h, "x:1");
	assert_string_equal(i->digest, index);
	oci_image_free(i);
	/* the same with less takes nothing away */
	free(x.en.index_blobs.v[1]);
	x.en.index_blobs.n = 1;
	x.en.all_platforms = false;
	enter(h, &x);
	assert_int_equal(number(h, "SELECT complete FROM image_indexes"), 1);
	/* a further name keeps it; the last one does not */
	assert_int_equal(oci_image_tag(h->s, "x:1", "y:1", &e), 0);
	assert_int_equal(oci_image_remove(h->s, "x:1", false, NULL, NULL, &e), 0);
	assert_true(has_blob(h, other) && has_blob(h, index));
	assert_int_equal(oci_image_tag(h->s, id, "z:1", &e), 0);
	assert_int_equal(
		state_exec(h->st, &e, "UPDATE image_names SET digest = manifest WHERE name LIKE '%z:1'", ""),
		0);
	assert_int_equal(oci_image_remove(h->s, "y:1", false, NULL, NULL, &e), 0);
	assert_false(has_blob(h, other) || has_blob(h, index));
	assert_int_equal(number(h, "SELECT count(*) FROM image_indexes"), 0);
	assert_int_equal(number(h, "SELECT count(*) FROM image_index_blobs"), 0);
	assert_found(h, "z:1", id);
	entering_done(&x);
}

/* Signatures are kept once each, with their bytes, and go with what they are for. */
static void test_signatures(void **state)
{
	struct home *h = *state;
	struct sign_candidate c[2] = {
		{.payload = "a\0b", .payload_len = 3, .signature = "c2ln", .log_entry = "{}"},
		{.is_bundle = true, .payload = "{}", .payload_len = 2},
	};
	char digests[2][OCI_DIGEST_MAX];
	struct oci_signatures sigs = {.v = c, .digest = digests, .n = 2};
	struct entering x;
	struct err e = {0};

	put_image(h, "docker.io/library/x:1", "1", NULL);
	entering_init(h, &x, "x:1", "docker.io/library/x:1");
	strcpy(digests[0], x.en.manifest);
	strcpy(digests[1], x.en.manifest);
	x.en.signatures = &sigs;
	enter(h, &x);
	enter(h, &x);
	assert_int_equal(number(h, "SELECT count(*) FROM image_signatures"), 2);
	assert_int_equal(number(h, "SELECT length(payload) FROM image_signatures WHERE kind = 'simple'"), 3);
	assert_int_equal(
		number(h, "SELECT signature IS NULL FROM image_signatures WHERE kind = 'bundle'"), 1);
	/* not more than may be looked at */
	for (int i = 0; i < SIGN_CANDIDATES_MAX; i++) {
		char payload[16];
		c[0].payload_len = (size_t)snprintf(payload, sizeof(payload), "%d", i);
		c[0].payload = payload;
		enter(h, &x);
	}
	assert_int_equal(number(h, "SELECT count(*) FROM image_signatures"), SIGN_CANDIDATES_MAX);
	assert_int_equal(oci_store_gc(h->s, &e), 0);
	assert_int_equal(number(h, "SELECT count(*) FROM image_signatures"), SIGN_CANDIDATES_MAX);
	assert_int_equal(oci_image_remove(h->s, "x:1", false, NULL, NULL, &e), 0);
	assert_int_equal(number(h, "SELECT count(*) FROM image_signatures"), 0);
	entering_done(&x);
}

static void test_documents(void **state)
{
	struct home *h = *state;
	char id[OCI_DIGEST_MAX], *text;
	struct err e = {0};
	size_t n;

	put_image(h, "docker.io/library/x:1", "1", id);
	struct oci_image *i = find(h, "x:1");
	assert_int_equal(oci_image_document(h->s, i, OCI_DOC_CONFIG, &text, &n, &e), 0);
	assert_int_equal(strlen(text), n);
	assert_non_null(strstr(text, "rootfs"));
	free(text);
	damage(h->s->sha256_fd, hex(id), 5);
	assert_int_equal(oci_image_document(h->s, i, OCI_DOC_CONFIG, &text, &n, &e), -EBADMSG);
	assert_non_null(strstr(e.msg, "is damaged"));
	assert_non_null(strstr(e.hint, "image-check --repair"));
	assert_int_equal(unlinkat(h->s->sha256_fd, hex(i->manifest), 0), 0);
	assert_int_equal(oci_image_document(h->s, i, OCI_DOC_MANIFEST, &text, &n, &e), -EBADMSG);
	assert_non_null(strstr(e.msg, "is missing"));
	oci_image_free(i);
}

/* Gives the image a history, and so another configuration and manifest. */
static void set_history(struct made_image *m, const char *history)
{
	char layers[1024] = "";
	const char *rest = strstr(m->config, "\"config\"");

	char *config = str_printf("%.*s\"history\":%s,%s", (int)(rest - m->config), m->config, history, rest);
	free(m->config);
	m->config = config;
	oci_digest_of(m->config, strlen(m->config), m->config_digest, NULL);
	for (size_t i = 0; i < m->n_layers; i++)
		snprintf(layers + strlen(layers), sizeof(layers) - strlen(layers),
			"%s{\"mediaType\":\"" OCI_TYPE_LAYER "\",\"digest\":\"%s\",\"size\":%zu}",
			i ? "," : "", m->diff_ids[i], m->layers[i].len);
	free(m->manifest);
	m->manifest = str_printf("{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE_MANIFEST "\",\"config\":"
				 "{\"mediaType\":\"" OCI_TYPE_CONFIG
				 "\",\"digest\":\"%s\",\"size\":%zu},\"layers\":[%s]}",
		m->config_digest, strlen(m->config), layers);
	oci_digest_of(m->manifest, strlen(m->manifest), m->manifest_digest, NULL);
}

/* "created_by/size" of each step, newest first. */
static void assert_history(struct home *h, const char *history, const char *expect)
{
	static const char *const texts[] = {"one", "three"};
	struct made_image m;
	struct oci_history *steps;
	struct err e = {0};
	char got[512] = "";
	size_t n;

	made_init(&m, host_arch(), texts, 2);
	if (history)
		set_history(&m, history);
	if (try_load(h, &m, "docker.io/library/h:1", &e) < 0)
		fail_msg("%s", e.msg);
	struct oci_image *i = find(h, "h:1");
	for (int known = 1; known >= 0; known--) { /* sizes that are remembered, and that are not */
		if (!known)
			assert_int_equal(state_exec(h->st, NULL, "DELETE FROM image_layers", ""), 0);
		if (oci_image_history(h->s, i, &steps, &n, &e) < 0)
			fail_msg("%s", e.msg);
		for (size_t k = 0; k < n; k++) {
			snprintf(got + strlen(got), sizeof(got) - strlen(got), "%s/%d;", steps[k].created_by,
				(int)steps[k].size);
			assert_int_equal(steps[k].empty, !steps[k].diff_id[0]);
		}
		oci_history_free(steps, n);
		assert_string_equal(got, expect);
		got[0] = '\0';
	}
	assert_int_equal(number(h, "SELECT count(*) FROM image_layers"), 2);
	oci_image_free(i);
	made_done(&m);
}

static void test_history(void **state)
{
	struct home *h = *state;

	assert_history(h, NULL, "/5;/3;");
	assert_history(h,
		"[{\"created_by\":\"A\",\"created\":\"2024-01-01T00:00:00Z\"},"
		"{\"created_by\":\"E\",\"empty_layer\":true},{\"created_by\":\"B\"}]",
		"B/5;E/0;A/3;");
	/* one that does not fit, and one that is none */
	assert_history(h, "[{\"created_by\":\"A\"}]", "/5;A/3;");
	assert_history(
		h, "[{\"created_by\":\"A\"},{\"created_by\":\"B\"},{\"created_by\":\"C\"}]", "C/0;B/5;A/3;");
	assert_history(h, "[1,null]", "/5;/3;");
	assert_history(h, "{}", "/5;/3;");
}

/* What was tagged, held or moved since it was listed stays. */
static void test_prune(void **state)
{
	struct home *h = *state;
	struct removed told = {0};
	char id[OCI_DIGEST_MAX];
	struct err e = {0};

	put_image(h, NULL, "untagged", id);
	struct oci_image *i = find(h, id);
	assert_int_equal(oci_ref_add(h->st, "box1", i->manifest, &e), 0);
	assert_int_equal(oci_image_prune(h->s, i, false, on_removed, &told, &e), -EBUSY);
	assert_int_equal(oci_ref_drop(h->st, "box1", &e), 0);
	assert_int_equal(oci_image_tag(h->s, id, "mine:1", &e), 0);
	assert_int_equal(oci_image_prune(h->s, i, false, on_removed, &told, &e), -EBUSY);
	assert_found(h, "mine:1", id);
	oci_image_free(i);
	/* the name leads elsewhere by now */
	i = find(h, "mine:1");
	put_image(h, "docker.io/library/mine:1", "other", NULL);
	assert_int_equal(oci_image_prune(h->s, i, true, on_removed, &told, &e), -ENOENT);
	oci_image_free(find(h, "mine:1"));
	oci_image_free(i);
	assert_string_equal(told.text, "");
	i = find(h, id);
	assert_int_equal(oci_image_prune(h->s, i, false, on_removed, &told, &e), 0);
	assert_non_null(strstr(told.text, "Deleted"));
	assert_int_equal(find_error(h, id, &e), -ENOENT);
	oci_image_free(i);
}

/* IDs of either algorithm. */
static void test_sha512(void **state)
{
	struct home *h = *state;
	char digest[OCI_DIGEST_MAX];
	struct err e;

	put_image(h, "docker.io/library/s:1", "x", NULL);
	snprintf(digest, sizeof(digest), "sha512:%0128d", 1);
	assert_int_equal(state_exec(h->st, NULL, "UPDATE image_manifests SET config = ?", "s", digest), 0);
	assert_found(h, digest, digest);
	assert_found(h, "sha512:0000", digest);
	assert_found(h, "000000", digest);
	assert_int_equal(find_error(h, "sha256:000000", &e), -ENOENT);
	digest[strlen(digest) - 1] = '2';
	assert_int_equal(find_error(h, digest, &e), -ENOENT);
}

/* A name that moves away from an index lets its content go. */
static void test_index_left(void **state)
{
	struct home *h = *state;
	char index[OCI_DIGEST_MAX];
	int lock;

	put_image(h, "docker.io/library/m:1", "x", NULL);
	struct oci_image *i = find(h, "m:1");
	put_text_blob(h, "an index", index);
	assert_int_equal(state_exec(h->st, NULL, "INSERT INTO image_indexes VALUES(?, 1)", "s", index), 0);
	assert_int_equal(
		state_exec(h->st, NULL, "INSERT INTO image_index_blobs VALUES(?1, ?1)", "s", index), 0);
	assert_int_equal(state_exec(h->st, NULL, "UPDATE image_names SET digest = ?", "s", index), 0);
	assert_false(oci_store_gc_due(h->s));
	assert_int_equal(oci_store_lock(h->s, OCI_LOCK_ADD, &lock, NULL), 0);
	assert_int_equal(
		oci_store_enter_name(h->s, "docker.io/library/m:1", i->manifest, i->manifest, true, NULL), 0);
	assert_true(oci_store_gc_due(h->s));
	oci_store_release(h->s, &lock);
	assert_false(has_blob(h, index));
	oci_image_free(i);
}

/* What was brought by hand once is not evicted, whoever brings it again. */
static void test_pulled(void **state)
{
	struct home *h = *state;
	char id[OCI_DIGEST_MAX];

	put_image(h, "docker.io/library/p:1", "x", id);
	make_pulled(h, id);
	assert_int_equal(number(h, "SELECT pulled FROM image_use"), 1);
	put_image(h, "docker.io/library/p:1", "x", id);
	assert_int_equal(number(h, "SELECT pulled FROM image_use"), 0);
	/* nothing is remembered of an image that is not here */
	assert_int_equal(oci_store_pushed(h->s, "docker.io/library/p:1", "sha256:0", "sha256:0", NULL), 0);
	assert_int_equal(number(h, "SELECT count(*) FROM image_remotes WHERE manifest = 'sha256:0'"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		STORE_TEST(test_tag),
		STORE_TEST(test_tag_doomed),
		STORE_TEST(test_remotes),
		STORE_TEST(test_remove_by_digest),
		STORE_TEST(test_index_life),
		STORE_TEST(test_signatures),
		STORE_TEST(test_documents),
		STORE_TEST(test_history),
		STORE_TEST(test_prune),
		STORE_TEST(test_sha512),
		STORE_TEST(test_index_left),
		STORE_TEST(test_pulled),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
