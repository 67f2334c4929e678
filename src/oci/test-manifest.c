/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

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
		parse_manifest("{\"config\":{\"digest\":\"" A "\",\"size\":1},\"layers\":[]}", &m, &e),
		-EBADMSG);
	assert_int_equal(oci_kind_of(v1, strlen(v1), NULL, &kind, &e), -EOPNOTSUPP);
	assert_non_null(strstr(e.msg, "schema 1"));
}

static void test_bounds(void **state)
{
	struct oci_manifest m;
	struct err e = {0};
	size_t max = OCI_JSON_MAX + 1;
	char *s = malloc(max + 1);

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
	assert_int_equal(oci_platform_parse("linux", &p, &e), -EINVAL);
	assert_int_equal(oci_platform_parse("linux/amd64/v1/x", &p, &e), -EINVAL);
	assert_int_equal(oci_platform_parse("linux//x", &p, &e), -EINVAL);
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
		"{\"rootfs\":{\"diff_ids\":[]}}",
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
		cmocka_unit_test(test_config),
		cmocka_unit_test(test_health),
		cmocka_unit_test(test_config_refused),
		cmocka_unit_test(test_time),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
