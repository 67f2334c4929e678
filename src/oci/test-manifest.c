/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/io.h"
#include "manifest.h"

#define A "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define C "sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"

#define MANIFEST(config_type, layer_type) \
	"{\"schemaVersion\":2,\"config\":{\"mediaType\":\"" config_type "\",\"digest\":\"" A \
	"\",\"size\":9}," \
	"\"layers\":[{\"mediaType\":\"" layer_type "\",\"digest\":\"" B "\",\"size\":5}]}"

static int parse_manifest(const char *s, struct oci_manifest *m, struct err *e)
{
	*m = (struct oci_manifest){0};
	return oci_manifest_parse(s, strlen(s), m, e);
}

static void test_manifest(void **state)
{
	struct oci_manifest m;
	struct err e = {0};
	enum oci_kind kind;
	const char *s = MANIFEST(OCI_TYPE_CONFIG, "application/vnd.oci.image.layer.v1.tar+zstd");

	assert_int_equal(parse_manifest(s, &m, &e), 0);
	assert_string_equal(m.config.digest, A);
	assert_int_equal(m.n_layers, 1);
	assert_int_equal(m.layers[0].size, 5);
	oci_manifest_done(&m);
	assert_int_equal(oci_kind_of(s, strlen(s), NULL, &kind, &e), 0);
	assert_int_equal(kind, OCI_KIND_MANIFEST);
	assert_int_equal(oci_kind_of(s, strlen(s), OCI_TYPE_INDEX, &kind, &e), -EBADMSG);
	assert_int_equal(parse_manifest(MANIFEST(DOCKER_TYPE_CONFIG, DOCKER_TYPE_LAYER_GZ), &m, &e), 0);
	oci_manifest_done(&m);
}

static void test_manifest_refused(void **state)
{
	struct oci_manifest m;
	struct err e = {0};
	enum oci_kind kind;
	static const char v1[] = "{\"schemaVersion\":1,\"fsLayers\":[]}";

	assert_int_equal(
		parse_manifest(
			MANIFEST("application/vnd.cncf.helm.config.v1+json", DOCKER_TYPE_LAYER), &m, &e),
		-EOPNOTSUPP);
	assert_non_null(strstr(e.msg, "not a container image"));
	assert_int_equal(
		parse_manifest(MANIFEST("", "application/vnd.oci.image.layer.v1.tar+gzip+encrypted"), &m, &e),
		-EOPNOTSUPP);
	assert_int_equal(parse_manifest("{\"a\":1,\"a\":2}", &m, &e), -EBADMSG);
	assert_int_equal(parse_manifest("[]", &m, &e), -EBADMSG);
	assert_int_equal(
		parse_manifest("{\"config\":{\"digest\":\"sha256:../x\",\"size\":1},\"layers\":[]}", &m, &e),
		-EBADMSG);
	assert_int_equal(
		parse_manifest("{\"config\":{\"digest\":\"" A "\",\"size\":-1},\"layers\":[]}", &m, &e),
		-EBADMSG);
	assert_int_equal(
		parse_manifest("{\"config\":{\"digest\":\"" A "\",\"size\":1},\"layers\":{}}", &m, &e),
		-EBADMSG);
	assert_int_equal(parse_manifest("{\"config\":{\"digest\":\"" A "\",\"size\":1}}", &m, &e), -EBADMSG);
	assert_int_equal(oci_kind_of(v1, strlen(v1), NULL, &kind, &e), -EOPNOTSUPP);
	assert_non_null(strstr(e.msg, "schema 1"));
	assert_int_equal(
		oci_kind_of("{}", 2, "application/vnd.docker.distribution.manifest.v1+prettyjws", &kind, &e),
		-EOPNOTSUPP);
	assert_non_null(strstr(e.msg, "schema 1"));
	/* artifacts, in the form of OCI 1.1 and in the one before */
	static const char artifact[] =
		"{\"artifactType\":\"application/x\",\"config\":{\"mediaType\":\"" OCI_TYPE_EMPTY
		"\",\"digest\":\"" A "\",\"size\":2},\"layers\":[{\"mediaType\":\"text/plain\","
		"\"digest\":\"" B "\",\"size\":5}]}";
	assert_int_equal(parse_manifest(artifact, &m, &e), -EOPNOTSUPP);
	assert_string_equal(e.msg, "not a container image but an artifact of type \"application/x\"");
	static const char old[] =
		"{\"mediaType\":\"" OCI_TYPE_ARTIFACT "\",\"artifactType\":\"application/x\",\"blobs\":[]}";
	assert_int_equal(oci_kind_of(old, strlen(old), NULL, &kind, &e), -EOPNOTSUPP);
	assert_non_null(strstr(e.msg, "an artifact of type \"application/x\""));
}

/* An image may be its settings and nothing else. */
static void test_no_layers(void **state)
{
	static const char *const manifests[] = {
		"{\"config\":{\"mediaType\":\"" OCI_TYPE_CONFIG "\",\"digest\":\"" A
		"\",\"size\":1},\"layers\":[]}",
		"{\"config\":{\"mediaType\":\"" OCI_TYPE_CONFIG "\",\"digest\":\"" A
		"\",\"size\":1},\"layers\":null}",
	};
	static const char *const configs[] = {"{\"rootfs\":{\"type\":\"layers\"}}",
		"{\"rootfs\":{\"diff_ids\":[]}}", "{\"rootfs\":{\"diff_ids\":null}}"};
	char none[OCI_DIGEST_MAX], empty[OCI_DIGEST_MAX];
	struct err e = {0};

	for (size_t i = 0; i < ARRAY_LEN(manifests); i++) {
		struct oci_manifest m;
		if (parse_manifest(manifests[i], &m, &e) < 0)
			fail_msg("%s: %s", manifests[i], e.msg);
		assert_int_equal(m.n_layers, 0);
		oci_manifest_done(&m);
	}
	for (size_t i = 0; i < ARRAY_LEN(configs); i++) {
		struct oci_config c;
		if (oci_config_parse(configs[i], strlen(configs[i]), &c, &e) < 0)
			fail_msg("%s: %s", configs[i], e.msg);
		assert_int_equal(c.n_diff_ids, 0);
		oci_config_done(&c);
	}
	/* Not what a layer of no bytes has. */
	assert_int_equal(oci_chain_id(NULL, 0, none, &e), 0);
	assert_true(oci_digest_valid(none));
	assert_int_equal(oci_digest_of("", 0, empty, &e), 0);
	assert_string_not_equal(none, empty);
}

static void test_bounds(void **state)
{
	struct oci_manifest m;
	struct err e = {0};
	size_t max = OCI_JSON_MAX + 1;
	char *s = malloc(max + 1);

	if (!s)
		abort();
	memset(s, ' ', max);
	s[max] = '\0';
	assert_int_equal(parse_manifest(s, &m, &e), -EFBIG);
	/* deep nesting is an error, not a crash */
	memset(s, '[', 1000000);
	s[1000000] = '\0';
	assert_int_equal(parse_manifest(s, &m, &e), -EBADMSG);
	int n = sprintf(s, "{\"config\":{\"digest\":\"" A "\",\"size\":1},\"layers\":[");
	for (int i = 0; i <= OCI_LAYERS_MAX; i++)
		n += sprintf(s + n, "%s{\"digest\":\"" B "\",\"size\":1}", i ? "," : "");
	strcpy(s + n, "]}");
	assert_int_equal(parse_manifest(s, &m, &e), -E2BIG);
	/* what takes fifty times its size in memory */
	n = sprintf(s, "{\"x\":[");
	while (n < (4 << 20) - 8)
		n += sprintf(s + n, "{},");
	assert_int_equal(oci_manifest_parse(s, (size_t)n, &m, &e), -E2BIG);
	assert_non_null(strstr(e.msg, "more values than are supported"));
	n = sprintf(s, "{\"x\":[");
	while (n < (4 << 20) - 8)
		n += sprintf(s + n, "1,");
	assert_int_equal(oci_manifest_parse(s, (size_t)n, &m, &e), -E2BIG);
	/* but text may have anything in it */
	n = sprintf(s, "{\"x\":\"");
	memset(s + n, '[', 300000);
	n += 300000;
	n += sprintf(s + n, "\\\",\",%s", strchr(MANIFEST(OCI_TYPE_CONFIG, DOCKER_TYPE_LAYER), '{') + 1);
	assert_int_equal(parse_manifest(s, &m, &e), 0);
	oci_manifest_done(&m);
	free(s);
}

static void test_index(void **state)
{
	static const char s[] =
		"{\"schemaVersion\":2,\"manifests\":["
		"{\"digest\":\"" A
		"\",\"size\":1,\"platform\":{\"os\":\"unknown\",\"architecture\":\"unknown\"}},"
		"{\"digest\":\"" B
		"\",\"size\":1,\"platform\":{\"os\":\"linux\",\"architecture\":\"arm64\"}},"
		"{\"digest\":\"" C
		"\",\"size\":1,\"platform\":{\"os\":\"linux\",\"architecture\":\"amd64\"}}]}";
	struct oci_index i = {0};
	struct err e = {0};
	struct oci_platform p = {0};

	assert_int_equal(oci_index_parse(s, strlen(s), &i, &e), 0);
	assert_int_equal(oci_platform_parse("linux/amd64", &p, &e), 0);
	assert_string_equal(oci_index_select(&i, &p, &e)->digest, C);
	oci_platform_done(&p);
	assert_int_equal(oci_platform_parse("linux/aarch64/v8", &p, &e), 0);
	assert_string_equal(oci_index_select(&i, &p, &e)->digest, B);
	oci_platform_done(&p);
	assert_int_equal(oci_platform_parse("linux/riscv64", &p, &e), 0);
	assert_null(oci_index_select(&i, &p, &e));
	assert_string_equal(
		e.msg, "image has no variant for linux/riscv64, only for linux/arm64, linux/amd64");
	oci_platform_done(&p);
	oci_index_done(&i);
	assert_int_equal(oci_platform_parse("pdp11", &p, &e), -EINVAL);
	assert_int_equal(oci_platform_parse("linux/amd64/v1/x", &p, &e), -EINVAL);
	assert_int_equal(oci_platform_parse("linux//x", &p, &e), -EINVAL);
}

static void parse_platform(const char *s, struct oci_platform *ret)
{
	struct err e = {0};

	if (oci_platform_parse(s, ret, &e) < 0)
		fail_msg("%s", e.msg);
}

static void test_platforms(void **state)
{
	/* what is wanted, and what there is: from what serves best to what does not at all, which "" stands before */
	static const char *const cases[][8] = {
		{"linux/amd64", "linux/amd64/v1", "", "linux/amd64/v2", "linux/386", "windows/amd64",
			"linux/arm64"},
		{"linux/amd64/v3", "linux/amd64/v3", "linux/amd64/v2", "linux/amd64", "", "linux/amd64/v4"},
		{"linux/arm/v7", "linux/arm/v7", "linux/arm/v6", "linux/arm/v5", "", "linux/arm/v8",
			"linux/arm64"},
		{"linux/arm/v6", "linux/armel", "linux/arm/v5", "", "linux/arm", "linux/arm/v7"},
		{"arm", "linux/armhf", "linux/arm/v6", "", "linux/arm/v8"},
		{"aarch64", "linux/arm64/v8", "", "linux/arm64/v9", "linux/arm/v8"},
		{"linux/arm64/v8.2", "linux/arm64/v8.1", "linux/arm64", "", "linux/arm64/v8.3"},
		{"Linux/386", "linux/i386", "", "linux/amd64"},
		{"riscv64", "linux/riscv64", "linux/riscv64/rva20u64", ""},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct oci_platform want = {0}, have = {0};
		unsigned last = 2000;
		bool serves = true;
		parse_platform(cases[i][0], &want);
		for (size_t k = 1; k < 8 && cases[i][k]; k++) {
			if (!*cases[i][k]) {
				serves = false;
				continue;
			}
			parse_platform(cases[i][k], &have);
			unsigned rank = oci_platform_rank(&have, &want);
			if (serves ? rank == 0 || rank >= last : rank != 0)
				fail_msg("%s for %s: %u", cases[i][k], cases[i][0], rank);
			last = rank;
			assert_int_equal(oci_platform_matches(&have, &want),
				rank > 0 || (!have.variant && strcmp(have.arch, want.arch) == 0 &&
						    strcmp(have.os, want.os) == 0));
			oci_platform_done(&have);
		}
		oci_platform_done(&want);
	}
}

#define ENTRY(digest, type, platform) \
	"{\"mediaType\":\"" type "\",\"digest\":\"" digest "\",\"size\":%zu" platform "}"
#define FOR(os, arch) ",\"platform\":{\"os\":\"" os "\",\"architecture\":\"" arch "\"}"

/* Documents by their digests, which are made up. */
struct documents {
	const char *digest[8];
	char *text[8];
	size_t n, asked;
};

static int get_made_up(void *data, const struct oci_desc *d, char **ret, size_t *ret_n, struct err *e)
{
	struct documents *docs = data;

	docs->asked++;
	for (size_t i = 0; i < docs->n; i++)
		if (strcmp(docs->digest[i], d->digest) == 0) {
			*ret = strdup(docs->text[i]);
			*ret_n = strlen(*ret);
			return 0;
		}
	return err_set(e, -ENOENT, "%.10s is not here", d->digest);
}

#define D "sha256:dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"
#define E "sha256:eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"
#define F "sha256:ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"

/* An index with an image, its attestation, and an index in it with two more. */
static void make_documents(struct documents *docs, char **top)
{
	static const char attestation[] =
		"{\"mediaType\":\"" OCI_TYPE_MANIFEST "\",\"config\":{\"mediaType\":\"" OCI_TYPE_EMPTY
		"\",\"digest\":\"" A
		"\",\"size\":9},\"layers\":[{\"mediaType\":\"application/vnd.in-toto+json\","
		"\"digest\":\"" C "\",\"size\":3}],\"subject\":{\"digest\":\"" F "\",\"size\":1}}";
	const char *image = MANIFEST(OCI_TYPE_CONFIG, DOCKER_TYPE_LAYER_GZ);

	*docs = (struct documents){.digest = {D, E, F}, .n = 3};
	docs->text[0] = strdup(image);
	docs->text[1] = strdup(attestation);
	docs->text[2] = str_printf("{\"schemaVersion\":2,\"manifests\":[" ENTRY(
					   D, DOCKER_TYPE_MANIFEST, FOR("linux", "arm64")) "]}",
		strlen(image));
	*top = str_printf("{\"schemaVersion\":2,\"manifests\":[" ENTRY(
				  D, OCI_TYPE_MANIFEST, FOR("linux", "amd64")) "," ENTRY(E, OCI_TYPE_MANIFEST,
				  FOR("unknown", "unknown")) "," ENTRY(F, OCI_TYPE_INDEX, "") "]}",
		strlen(image), strlen(attestation), strlen(docs->text[2]));
}

static void documents_done(struct documents *docs, char *top)
{
	for (size_t i = 0; i < docs->n; i++)
		free(docs->text[i]);
	free(top);
}

static void test_contents(void **state)
{
	static const char *const expected[] = {B, A, D, C, E, F};
	struct oci_contents c = {0};
	struct documents docs;
	struct err e = {0};
	char *top;

	make_documents(&docs, &top);
	struct oci_getter get = {get_made_up, &docs};
	assert_int_equal(oci_contents_of(top, strlen(top), NULL, &get, &c, &e), 0);
	assert_int_equal(c.n, ARRAY_LEN(expected));
	for (size_t i = 0; i < c.n; i++)
		assert_string_equal(c.v[i].digest, expected[i]);
	assert_int_equal(c.v[0].role, OCI_ROLE_BLOB);
	assert_int_equal(c.v[2].role, OCI_ROLE_MANIFEST);
	assert_int_equal(c.v[5].role, OCI_ROLE_INDEX);
	assert_int_equal(docs.asked, 3);
	oci_contents_done(&c);
	/* What is missing ends it. */
	docs.n = 1;
	assert_int_equal(oci_contents_of(top, strlen(top), NULL, &get, &c, &e), -ENOENT);
	assert_non_null(strstr(e.msg, "sha256:eee"));
	docs.n = 3;
	documents_done(&docs, top);
}

static void test_contents_refused(void **state)
{
	struct oci_contents c = {0};
	struct documents docs = {.digest = {F}, .n = 1};
	struct oci_getter get = {get_made_up, &docs};
	struct err e = {0};

	/* One that contains itself, as no honest one can. */
	char *top = str_printf("{\"manifests\":[" ENTRY(F, OCI_TYPE_INDEX, "") "]}", (size_t)9);
	docs.text[0] = top;
	assert_int_equal(oci_contents_of(top, strlen(top), NULL, &get, &c, &e), -EBADMSG);
	assert_non_null(strstr(e.msg, "nested more than 4 levels"));
	free(top);
	/* Two that disagree. */
	top = str_printf("{\"config\":{\"digest\":\"" A "\",\"size\":1},\"layers\":[{\"digest\":\"" A
			 "\",\"size\":2}]}");
	assert_int_equal(oci_contents_of(top, strlen(top), NULL, &get, &c, &e), -EBADMSG);
	assert_non_null(strstr(e.msg, "disagree about the size"));
	free(top);
	/* More than there is patience for, unread. */
	top = str_printf("{\"manifests\":[" ENTRY(E, OCI_TYPE_MANIFEST, "") "]}", (size_t)OCI_JSON_MAX + 1);
	assert_int_equal(oci_contents_of(top, strlen(top), NULL, &get, &c, &e), -EFBIG);
	free(top);
	/* A type that nobody knows names nothing. */
	assert_int_equal(oci_document_names("!", 1, "text/plain", &c, &e), 0);
	assert_int_equal(c.n, 0);
	oci_contents_done(&c);
}

/* Whoever chooses a platform and whoever copies everything take a document for the same thing. */
static void test_one_kind(void **state)
{
	static const struct {
		const char *text, *type;
		int index; /* -1: neither */
	} cases[] = {
		{"{\"manifests\":[]}", NULL, 1},
		{"{\"manifests\":[]}", "text/plain", 1},
		{"{\"manifests\":[]}", DOCKER_TYPE_LIST, 1},
		{"{\"manifests\":[]}", OCI_TYPE_MANIFEST, -1},
		{"{\"mediaType\":\"" OCI_TYPE_INDEX "\",\"manifests\":[]}", OCI_TYPE_MANIFEST, 1},
		{"{\"mediaType\":\"text/plain\",\"manifests\":[]}", NULL, -1},
		{"{\"mediaType\":\"text/plain\",\"manifests\":[]}", OCI_TYPE_INDEX, -1},
		{"{\"mediaType\":\"" OCI_TYPE_ARTIFACT "x\",\"manifests\":[]}", NULL, -1},
		{"{\"mediaType\":\"" OCI_TYPE_MANIFEST "\",\"manifests\":[]}", NULL, -1},
		{"{\"mediaType\":\"" OCI_TYPE_INDEX "\",\"layers\":[],\"config\":{}}", NULL, -1},
		{"{\"mediaType\":\"" OCI_TYPE_INDEX "\",\"layers\":[],\"manifests\":[]}", NULL, -1},
		{"{\"config\":{},\"manifests\":[]}", NULL, -1},
		{"{\"manifests\":{}}", NULL, -1},
		{MANIFEST(OCI_TYPE_CONFIG, OCI_TYPE_LAYER), "application/json", 0},
		{MANIFEST(OCI_TYPE_CONFIG, OCI_TYPE_LAYER), OCI_TYPE_INDEX, -1},
	};
	struct oci_getter get = {NULL, NULL};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const char *s = cases[i].text;
		struct oci_contents c = {0};
		enum oci_kind kind;
		struct err e = {0};
		int r = oci_kind_of(s, strlen(s), cases[i].type, &kind, &e);
		int all = oci_contents_of(s, strlen(s), cases[i].type, &get, &c, &e);
		if ((r < 0) != (cases[i].index < 0) || (all < 0) != (cases[i].index < 0))
			fail_msg("%s, %s", s, cases[i].type ? cases[i].type : "no type");
		if (r == 0) {
			assert_int_equal(kind, cases[i].index ? OCI_KIND_INDEX : OCI_KIND_MANIFEST);
			assert_int_equal(c.n, cases[i].index ? 0 : 2);
		}
		oci_contents_done(&c);
	}
}

#define CROWD	       24000
#define CROWD_PER_TEXT 500

static void crowd_digest(char blocks[][6], size_t n, size_t i, char ret[OCI_DIGEST_MAX])
{
	memset(ret, '0', OCI_DIGEST_MAX);
	memcpy(ret, "sha256:", 7);
	for (int k = 0; k < 4; k++, i /= n)
		memcpy(ret + 7 + 44 + 5 * k, blocks[i % n], 5);
	ret[71] = '\0';
}

/* A manifest of blobs that nobody ever hashed; the descriptor's size says which. */
static int get_crowd(void *data, const struct oci_desc *d, char **ret, size_t *ret_n, struct err *e)
{
	size_t first = (size_t)(d->size - 1) * CROWD_PER_TEXT;
	char(*blocks)[6] = data, digest[OCI_DIGEST_MAX];
	CLEANUP(buf_done) struct buf b = {0};
	char line[256];

	strcpy(line, "{\"config\":{\"digest\":\"" A "\",\"size\":1},\"layers\":[");
	for (size_t i = 0; i < CROWD_PER_TEXT; i++) {
		buf_append(&b, line, strlen(line));
		crowd_digest(blocks + 1, (size_t)blocks[0][0], first + i, digest);
		snprintf(line, sizeof(line), "%s{\"digest\":\"%s\",\"size\":1}", i ? "," : "", digest);
	}
	buf_append(&b, line, strlen(line));
	buf_append(&b, "]}", 3);
	*ret_n = b.len - 1;
	*ret = (char *)TAKE_PTR(b.mem);
	return 0;
}

/* Digests in a document are anything: here such that many a plain hash puts them all into one place. */
static void test_contents_crowd(void **state)
{
	enum { SLOTS = 1 << 17 };
	uint8_t *counts = calloc(1, SLOTS);
	char blocks[32][6] = {{0}}, text[6];
	CLEANUP(buf_done) struct buf top = {0};
	struct oci_contents c = {0};
	struct err e = {0};
	uint32_t best = 0;

	for (int pass = 0; pass < 2; pass++)
		for (unsigned v = 0; v < 1 << 20; v++) {
			uint32_t h = 0;
			snprintf(text, sizeof(text), "%05x", v);
			for (int k = 0; k < 5; k++)
				h = (h * 31 + (unsigned char)text[k]) % SLOTS;
			if (pass == 0 && ++counts[h] > counts[best])
				best = h;
			else if (pass == 1 && h == best && blocks[0][0] < 31)
				memcpy(blocks[(int)++blocks[0][0]], text, 6);
		}
	free(counts);
	assert_true(blocks[0][0] >= 13); /* enough for all in four blocks */
	for (int i = 0; i < CROWD / CROWD_PER_TEXT; i++) {
		char entry[256];
		snprintf(entry, sizeof(entry), "%s{\"digest\":\"sha256:%064x\",\"size\":%d}",
			i ? "," : "{\"manifests\":[", i, i + 1);
		buf_append(&top, entry, strlen(entry));
	}
	buf_append(&top, "]}", 2);
	struct oci_getter get = {get_crowd, blocks};
	clock_t begun = clock();
	if (oci_contents_of(buf_data(&top), top.len, NULL, &get, &c, &e) < 0)
		fail_msg("%s", e.msg);
	assert_int_equal(c.n, CROWD + CROWD / CROWD_PER_TEXT + 1);
	assert_true((clock() - begun) / CLOCKS_PER_SEC < 3);
	oci_contents_done(&c);
}

/* Many things, each once. */
static void test_contents_many(void **state)
{
	CLEANUP(json_done) json_t *list = json_array();
	struct oci_getter get = {NULL, NULL};
	struct oci_contents c = {0};
	struct err e = {0};
	char digest[OCI_DIGEST_MAX];

	for (unsigned i = 0; i < OCI_LAYERS_MAX; i++) {
		snprintf(digest, sizeof(digest), "sha256:%064x", i % 300);
		json_array_append_new(list, json_pack("{s:s, s:s, s:i}", "mediaType", DOCKER_TYPE_LAYER,
						    "digest", digest, "size", 1));
	}
	CLEANUP(json_done)
	json_t *m = json_pack("{s:{s:s, s:s, s:i}, s:O}", "config", "mediaType", OCI_TYPE_CONFIG, "digest", F,
		"size", 1, "layers", list);
	char *text = json_dumps(m, 0);
	assert_int_equal(oci_contents_of(text, strlen(text), NULL, &get, &c, &e), 0);
	assert_int_equal(c.n, 301);
	oci_contents_done(&c);
	free(text);
}

static void test_choose(void **state)
{
	struct oci_platform p = {0};
	struct documents docs;
	char digest[OCI_DIGEST_MAX], *top, *text;
	struct err e = {0};
	size_t n;

	make_documents(&docs, &top);
	struct oci_getter get = {get_made_up, &docs};
	for (int i = 0; i < 2; i++) { /* the second only in the index within */
		parse_platform(i ? "linux/arm64" : "linux/amd64", &p);
		docs.asked = 0;
		assert_int_equal(
			oci_manifest_choose(top, strlen(top), NULL, &p, &get, digest, &text, &n, &e), 0);
		assert_string_equal(digest, D);
		assert_string_equal(text, docs.text[0]);
		assert_int_equal(docs.asked, i + 1);
		free(text);
		oci_platform_done(&p);
	}
	parse_platform("linux/s390x", &p);
	assert_int_equal(
		oci_manifest_choose(top, strlen(top), NULL, &p, &get, digest, &text, &n, &e), -ENOENT);
	assert_string_equal(e.msg, "image has no variant for linux/s390x, only for linux/amd64");
	const char *image = docs.text[0];
	assert_int_equal(oci_manifest_choose(image, strlen(image), NULL, &p, &get, digest, &text, &n, &e), 0);
	assert_string_equal(digest, "");
	free(text);
	oci_platform_done(&p);
	documents_done(&docs, top);
}

/* What says that it needs more is taken when there is nothing else; what is no image never. */
static void test_index_preferences(void **state)
{
	static const char s[] =
		"{\"manifests\":["
		"{\"digest\":\"" A "\",\"size\":1,\"platform\":{\"os\":\"linux\",\"architecture\":\"amd64\","
		"\"os.features\":[\"x\"]}},"
		"{\"digest\":\"" B "\",\"size\":1,\"artifactType\":\"application/sbom\""
		",\"platform\":{\"os\":\"linux\",\"architecture\":\"arm64\"}},"
		"{\"digest\":\"" C
		"\",\"size\":1,\"platform\":{\"os\":\"linux\",\"architecture\":\"amd64\"}},"
		"{\"digest\":\"" D "\",\"size\":1,\"platform\":{\"os\":\"linux\",\"architecture\":\"s390x\","
		"\"os.features\":[\"x\"]}}]}";
	static const char *const expected[][2] = {{"amd64", C}, {"s390x", D}, {"arm64", NULL}};
	struct oci_index i = {0};
	struct oci_platform p = {0};
	struct err e = {0};

	assert_int_equal(oci_index_parse(s, strlen(s), &i, &e), 0);
	for (size_t k = 0; k < ARRAY_LEN(expected); k++) {
		parse_platform(expected[k][0], &p);
		const struct oci_desc *d = oci_index_select(&i, &p, &e);
		assert_true(expected[k][1] ? d && strcmp(d->digest, expected[k][1]) == 0 : !d);
		oci_platform_done(&p);
	}
	oci_index_done(&i);
}

/* What is stored of a configuration with this Healthcheck, and read again. */
static struct oci_image *image_with_health(const char *health)
{
	CLEANUP(oci_config_done) struct oci_config c = {0};
	struct oci_image *i = calloc(1, sizeof(*i));
	struct err e = {0};
	char text[1024];

	snprintf(text, sizeof(text),
		"{\"config\":{\"Healthcheck\":%s},\"rootfs\":{\"diff_ids\":[\"" A "\"]}}", health);
	assert_int_equal(oci_config_parse(text, strlen(text), &c, &e), 0);
	assert_int_equal(oci_config_exec(c.exec_json, i, &e), 0);
	return i;
}

static void test_health(void **state)
{
	static const char *const none[] = {"null", "7", "{}", "{\"Test\":[]}", "{\"Test\":\"true\"}",
		"{\"Test\":[\"CMD\"]}", "{\"Test\":[\"CMD-SHELL\",\"a\",\"b\"]}", "{\"Test\":[\"CMD\",1]}",
		"{\"Test\":[\"RUN\",\"x\"]}", "{\"Test\":[\"CMD\",\"x\"],\"Interval\":-1}",
		"{\"Test\":[\"CMD\",\"x\"],\"Retries\":\"3\"}"};
	struct oci_image *i =
		image_with_health("{\"Test\":[\"CMD\",\"/x\",\"y\"],\"Interval\":5000000000,\"Timeout\":1,"
				  "\"StartPeriod\":9223372036854775807,\"Retries\":4}");

	assert_int_equal(i->health.test.n, 3);
	assert_string_equal(i->health.test.v[2], "y");
	assert_int_equal(i->health.interval_ns, 5000000000);
	assert_int_equal(i->health.timeout_ns, 1);
	assert_int_equal(i->health.start_period_ns, 3153600000000000000); /* a century at most */
	assert_int_equal(i->health.start_interval_ns, 0);
	assert_int_equal(i->health.retries, 4);
	oci_image_free(i);
	i = image_with_health("{\"Test\":[\"NONE\"]}");
	assert_string_equal(i->health.test.v[0], "NONE");
	oci_image_free(i);
	for (size_t k = 0; k < ARRAY_LEN(none); k++) { /* no reason not to run the image */
		i = image_with_health(none[k]);
		if (i->health.test.n)
			fail_msg("%s", none[k]);
		oci_image_free(i);
	}
}

static void test_config(void **state)
{
	static const char s[] =
		"{\"created\":\"1970-01-01T01:00:01.5+01:00\",\"os\":\"linux\",\"architecture\":\"amd64\","
		"\"config\":{\"Env\":[\"A=b\"],\"Cmd\":null,\"Entrypoint\":[\"/"
		"x\",\"y\"],\"Labels\":{\"k\":\"v\"},"
		"\"Volumes\":{\"/d\":{}},\"ExposedPorts\":{\"80/"
		"tcp\":{}},\"User\":\"u\",\"WorkingDir\":\"\"},"
		"\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"" A "\",\"" B "\"]}}";
	struct oci_config c = {0};
	struct oci_image *i = calloc(1, sizeof(*i));
	struct err e = {0};
	char chain[OCI_DIGEST_MAX];

	assert_int_equal(oci_config_parse(s, strlen(s), &c, &e), 0);
	assert_int_equal(c.created_ns, 1500000000);
	assert_int_equal(c.n_diff_ids, 2);
	assert_int_equal(oci_config_exec(c.exec_json, i, &e), 0);
	assert_string_equal(i->env.v[0], "A=b");
	assert_int_equal(i->cmd.n, 0);
	assert_int_equal(i->entrypoint.n, 2);
	assert_string_equal(i->labels.v[0], "k=v");
	assert_string_equal(i->volumes.v[0], "/d");
	assert_string_equal(i->exposed_ports.v[0], "80/tcp");
	assert_string_equal(i->user, "u");
	assert_null(i->workdir);
	assert_int_equal(oci_chain_id(c.diff_ids, 1, chain, &e), 0);
	assert_string_equal(chain, A);
	assert_int_equal(oci_chain_id(c.diff_ids, 2, chain, &e), 0);
	/* sha256("sha256:aa… sha256:bb…") */
	char two[OCI_DIGEST_MAX];
	assert_int_equal(oci_digest_of(A " " B, strlen(A " " B), two, &e), 0);
	assert_string_equal(chain, two);
	oci_config_done(&c);
	oci_image_free(i);
}

static void test_config_refused(void **state)
{
	static const char *const cases[] = {
		"{}",
		"{\"rootfs\":[]}",
		"{\"rootfs\":{\"diff_ids\":\"" A "\"}}",
		"{\"rootfs\":{\"diff_ids\":[\"x\"]}}",
		"{\"rootfs\":{\"diff_ids\":[\"" A "\"]},\"config\":{\"Env\":{}}}",
		"{\"rootfs\":{\"diff_ids\":[\"" A "\"]},\"config\":{\"Cmd\":[1]}}",
		"{\"rootfs\":{\"diff_ids\":[\"" A "\"]},\"config\":{\"Env\":[\"a\\u0000b\"]}}",
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct oci_config c = {0};
		struct err e = {0};
		assert_int_equal(oci_config_parse(cases[i], strlen(cases[i]), &c, &e), -EBADMSG);
	}
}

static void test_time(void **state)
{
	assert_int_equal(oci_time_parse("2024-02-29T12:00:00Z"), 1709208000000000000);
	assert_int_equal(oci_time_parse("1969-12-31T23:59:59.25Z"), -750000000);
	assert_int_equal(oci_time_parse("2024-01-01"), 0);
	assert_int_equal(oci_time_parse("9999-01-01T00:00:00Z"), 0);
	assert_int_equal(oci_time_parse("2024-13-01T00:00:00Z"), 0);
	assert_int_equal(oci_time_parse(""), 0);
	assert_int_equal(oci_time_parse(NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_manifest),
		cmocka_unit_test(test_manifest_refused),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_index),
		cmocka_unit_test(test_index_preferences),
		cmocka_unit_test(test_platforms),
		cmocka_unit_test(test_contents),
		cmocka_unit_test(test_contents_refused),
		cmocka_unit_test(test_one_kind),
		cmocka_unit_test(test_contents_many),
		cmocka_unit_test(test_contents_crowd),
		cmocka_unit_test(test_choose),
		cmocka_unit_test(test_config),
		cmocka_unit_test(test_health),
		cmocka_unit_test(test_config_refused),
		cmocka_unit_test(test_no_layers),
		cmocka_unit_test(test_time),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
