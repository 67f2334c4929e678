/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/io.h"
#include "sign/policy.h"
#include "sign/test-sign-world.h"

#define ACCEPT "[{\"type\":\"insecureAcceptAnything\"}]"
#define REJECT "[{\"type\":\"reject\"}]"

static struct world w;
static char dir[] = "/tmp/a3s-policy-XXXXXX";
static char *key_file, *root_file, *ca_file, *log_file;

static char *write_file(const char *name, char *content)
{
	char *path = str_printf("%s/%s", dir, name);

	assert_int_equal(io_write_file_at(AT_FDCWD, path, content, strlen(content), 0600), 0);
	free(content);
	return path;
}

static int setup(void **state)
{
	world_init(&w);
	assert_non_null(mkdtemp(dir));
	key_file = write_file("key.pub", world_pem(w.leaf_key));
	ca_file = write_file("ca.pem", world_cert_pem(w.root));
	log_file = write_file("rekor.pub", world_pem(w.log_key));
	root_file = write_file("root.json", strdup(w.json));
	return 0;
}

static int teardown(void **state)
{
	free(key_file);
	free(ca_file);
	free(log_file);
	free(root_file);
	world_done(&w);
	return io_remove_tree_at(AT_FDCWD, dir);
}

static struct sign_policy *parse(const char *json)
{
	struct sign_policy *p = NULL;
	struct err e = {0};

	if (sign_policy_parse(json, strlen(json), &p, &e) < 0)
		fail_msg("%s: %s", e.msg, json);
	return p;
}

/* ---- form ---- */

static void test_refused(void **state)
{
	static const struct {
		const char *json, *why;
	} cases[] = {
		{"", "not valid JSON"},
		{"[]", "not a JSON object"},
		{"{}", "no list of 1 to"},
		{"{\"default\":[]}", "no list of 1 to"},
		{"{\"default\":{}}", "no list of 1 to"},
		{"{\"default\":[7]}", "no text \"type\""},
		{"{\"default\":" ACCEPT ",\"default\":" REJECT "}", "not valid JSON"},
		{"{\"default\":" ACCEPT ",\"more\":1}", "unknown member \"more\""},
		{"{\"default\":[{\"type\":\"insecureAcceptAnything\",\"x\":1}]}", "unknown member \"x\""},
		{"{\"default\":[{\"type\":\"signedBy\"}]}", "not supported"},
		{"{\"default\":[{\"type\":\"\"}]}", "not supported"},
		{"{\"default\":" REJECT ",\"transports\":[]}", "no object \"transports\""},
		{"{\"default\":" REJECT ",\"transports\":{\"dokcer\":{}}}", "unknown transport"},
		{"{\"default\":" REJECT ",\"transports\":{\"docker\":{\"\":[]}}}", "no list of 1 to"},
		{"{\"default\":" REJECT ",\"transports\":{\"docker\":{\"busybox\":" ACCEPT "}}}",
			"invalid scope"},
		{"{\"default\":" REJECT ",\"transports\":{\"docker\":{\"busybox:latest\":" ACCEPT "}}}",
			"invalid scope"},
		{"{\"default\":" REJECT ",\"transports\":{\"docker\":{\"docker.io/busybox:1\":" ACCEPT "}}}",
			"invalid scope"},
		{"{\"default\":" REJECT ",\"transports\":{\"docker\":{\"index.docker.io\":" ACCEPT "}}}",
			"invalid scope"},
		{"{\"default\":" REJECT ",\"transports\":{\"docker\":{\"ex*.com\":" ACCEPT "}}}",
			"invalid scope"},
		{"{\"default\":" REJECT ",\"transports\":{\"docker\":{\"*.com/x\":" ACCEPT "}}}",
			"invalid scope"},
		{"{\"default\":" REJECT ",\"transports\":{\"docker\":{\"*.*.com\":" ACCEPT "}}}",
			"invalid scope"},
		{"{\"default\":" REJECT ",\"transports\":{\"docker\":{\"*\":" ACCEPT "}}}", "invalid scope"},
		{"{\"default\":" REJECT ",\"transports\":{\"docker\":{\"a.com/X\":" ACCEPT "}}}",
			"invalid scope"},
		{"{\"default\":" REJECT ",\"transports\":{\"docker\":{\"a.com/x/\":" ACCEPT "}}}",
			"invalid scope"},
		{"{\"default\":" REJECT ",\"transports\":{\"docker\":{\"A.com\":" ACCEPT ",\"a.com\":" REJECT
		 "}}}",
			"scope \"a.com\" twice"},
		{"{\"default\":" REJECT ",\"transports\":{\"docker\":{\"*.a.com\":" ACCEPT
		 ",\"*.A.com\":" REJECT "}}}",
			"scope \"*.a.com\" twice"},
		{"{\"default\":" REJECT ",\"transports\":{\"docker-archive\":{\"\":" REJECT "}}}",
			"rules for \"docker-archive\""},
		{"{\"default\":" REJECT ",\"transports\":{\"oci-archive\":{\"/x\":[]}}}",
			"rules for \"oci-archive\""},
		{"{\"default\":" REJECT ",\"transports\":{\"oci-archive\":{\"\":7}}}",
			"rules for \"oci-archive\""},
		{"{\"default\":" REJECT ",\"transports\":{\"oci-archive\":{\"\":[{\"type\":"
		 "\"insecureAcceptAnything\",\"x\":1}]}}}",
			"rules for \"oci-archive\""},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct sign_policy *p = NULL;
		struct err e = {0};
		int r = sign_policy_parse(cases[i].json, strlen(cases[i].json), &p, &e);
		if (r != -EINVAL || e.code != r || !strstr(e.msg, cases[i].why))
			fail_msg("%d \"%s\" instead of \"%s\": %s", r, e.msg, cases[i].why, cases[i].json);
	}
}

/* A sigstoreSigned with these members. */
static char *signed_policy(const char *members)
{
	return str_printf("{\"default\":[{\"type\":\"sigstoreSigned\"%s}]}", members);
}

static void test_requirements(void **state)
{
	CLEANUP_FREE char *key64 = NULL, *pem = world_pem(w.leaf_key);
	key64 = world_b64(pem, strlen(pem));
#define FULCIO(more) "\"fulcio\":{\"caPath\":\"%s\",\"oidcIssuer\":\"i\",\"subjectEmail\":\"e\"" more "}"
	const struct {
		char *members;
		int r;
		const char *why;
	} cases[] = {
		{str_printf(",\"keyPath\":\"%s\"", key_file), 0, NULL},
		{str_printf(",\"keyData\":\"%s\"", key64), 0, NULL},
		{str_printf(",\"keyPath\":\"%s\",\"rekorPublicKeyPath\":\"%s\"", key_file, log_file), 0,
			NULL},
		{str_printf(",\"keyPath\":\"%s\",\"trustedRootPath\":\"%s\"", key_file, root_file), 0, NULL},
		{str_printf("," FULCIO("") ",\"rekorPublicKeyPath\":\"%s\"", ca_file, log_file), 0, NULL},
		{str_printf(",\"fulcio\":{\"oidcIssuer\":\"i\",\"subject\":\"e\"},\"trustedRootPath\":\"%s\"",
			 root_file),
			0, NULL},
		{strdup(""), -EINVAL, "must have one of \"keyPath\""},
		{str_printf(",\"keyPath\":\"%s\",\"keyData\":\"%s\"", key_file, key64), -EINVAL, "has both"},
		{str_printf(",\"keyPath\":\"%s\"," FULCIO(""), key_file, ca_file), -EINVAL,
			"must have one of"},
		{str_printf(",\"keyPath\":\"%s/none\"", dir), -ENOENT, "/none, which the policy names"},
		{str_printf(",\"keyPath\":\"key.pub\""), -EINVAL, "without an absolute path"},
		{str_printf(",\"keyPath\":\"%s\"", root_file), -EINVAL, "root.json is not a public key"},
		{str_printf(",\"keyData\":\"%s=\"", key64), -EINVAL, "not base64"},
		{str_printf(",\"keyData\":\"AAAA\""), -EINVAL, "not a public key"},
		{str_printf(",\"keyPaths\":[\"%s\"]", key_file), -EINVAL, "unknown member \"keyPaths\""},
		{str_printf("," FULCIO(""), ca_file), -EINVAL, "without \"rekorPublicKeyPath\""},
		{str_printf("," FULCIO("") ",\"trustedRootPath\":\"%s\"", ca_file, root_file), -EINVAL,
			"also parts of one"},
		{str_printf("," FULCIO(",\"subject\":\"x\"") ",\"rekorPublicKeyPath\":\"%s\"", ca_file,
			 log_file),
			-EINVAL, "must have one of \"subjectEmail\""},
		{str_printf("," FULCIO(",\"x\":1") ",\"rekorPublicKeyPath\":\"%s\"", ca_file, log_file),
			-EINVAL, "unknown member"},
		{str_printf(",\"fulcio\":{\"caPath\":\"%s\",\"oidcIssuer\":\"\",\"subjectEmail\":\"e\"},"
			    "\"rekorPublicKeyPath\":\"%s\"",
			 ca_file, log_file),
			-EINVAL, "empty \"oidcIssuer\""},
		{str_printf(",\"fulcio\":{\"oidcIssuer\":\"i\",\"subjectEmail\":\"e\"},"
			    "\"rekorPublicKeyPath\":\"%s\"",
			 log_file),
			-EINVAL, "without \"caPath\""},
		{str_printf(",\"keyPath\":\"%s\",\"signedIdentity\":{\"type\":\"remapIdentity\"}", key_file),
			-EINVAL, "unknown signedIdentity"},
		{str_printf(",\"keyPath\":\"%s\",\"signedIdentity\":{\"type\":\"matchExact\",\"x\":1}",
			 key_file),
			-EINVAL, "unknown member"},
		{str_printf(",\"keyPath\":\"%s\",\"signedIdentity\":{\"type\":\"exactReference\"}", key_file),
			-EINVAL, "no text \"dockerReference\""},
		{str_printf(",\"keyPath\":\"%s\",\"signedIdentity\":{\"type\":\"exactReference\","
			    "\"dockerReference\":\"A b\"}",
			 key_file),
			-EINVAL, "invalid image name"},
		{str_printf(",\"keyPath\":\"%s\",\"signedIdentity\":{\"type\":\"exactRepository\","
			    "\"dockerRepository\":\"a.io/x\"}",
			 key_file),
			0, NULL},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		CLEANUP_FREE char *json = signed_policy(cases[i].members);
		struct sign_policy *p = NULL;
		struct err e = {0};
		int r = sign_policy_parse(json, strlen(json), &p, &e);
		if (r != cases[i].r || (r < 0 && (!cases[i].why || !strstr(e.msg, cases[i].why))))
			fail_msg("%d \"%s\" instead of %d \"%s\": %s", r, e.msg, cases[i].r, cases[i].why,
				json);
		if (r == 0)
			sign_policy_free(p);
		free(cases[i].members);
	}
}

/* ---- scopes ---- */

/* Each scope has as many requirements as its rank. */
static size_t rank(const struct sign_policy *p, const char *name)
{
	CLEANUP(oci_reference_done) struct oci_reference ref = {0};
	const struct sign_rule *rules;
	size_t n = 0;

	if (name)
		assert_int_equal(oci_reference_parse(name, &ref, NULL), 0);
	assert_int_equal(sign_policy_find(p, name ? &ref : NULL, &rules, &n, NULL), 0);
	return n;
}

static void test_scopes(void **state)
{
	static const char *const scopes[] = {"", "docker.io", "docker.io/library",
		"docker.io/library/busybox", "docker.io/library/busybox:1.36", "*.example.com", "*.com",
		"reg.example.com:5000/team", ("reg.example.com:5000/team/app@" WORLD_DIGEST),
		"reg.example.com:5000/team/app:v1", "localhost:5000", "[::1]:5000/x",
		"Reg.Mixed.Example:5000/x", "*.Mixed.Example", "HOST/x"};
	static const struct {
		const char *name, *scope; /* NULL: the default */
	} cases[] = {
		{"busybox:1.36", "docker.io/library/busybox:1.36"}, {"busybox", "docker.io/library/busybox"},
		{"busybox:1.3", "docker.io/library/busybox"},
		{"busybox@" WORLD_DIGEST, "docker.io/library/busybox"}, {"busyboxes", "docker.io/library"},
		{"index.docker.io/library/busybox:1.36", "docker.io/library/busybox:1.36"},
		{"libraryx/y", "docker.io"}, {"x/y", "docker.io"}, {"a.example.com/x", "*.example.com"},
		{"a.b.example.com:123/x", "*.example.com"}, {"example.com/x", "*.com"},
		{"examplex.com/x", "*.com"}, {"reg.example.com:5000/team/app", "reg.example.com:5000/team"},
		{"reg.example.com:5000/team/app:v1", "reg.example.com:5000/team/app:v1"},
		{"reg.example.com:5000/team/app:v1@" WORLD_DIGEST,
			"reg.example.com:5000/team/app@" WORLD_DIGEST},
		{"reg.example.com:5000/teams/app", "*.example.com"},
		{"reg.example.com/team/app", "*.example.com"}, {"localhost:5000/x", "localhost:5000"},
		{"localhost:5001/x", ""}, {"[::1]:5000/x/y", "[::1]:5000/x"}, {"[::1]:5000/y", ""},
		{"quay.io/x", ""}, {"reg.mixed.example:5000/x", "Reg.Mixed.Example:5000/x"},
		{"REG.Mixed.example:5000/x/y", "Reg.Mixed.Example:5000/x"},
		{"REG.Mixed.example/x/y", "*.Mixed.Example"}, {"Host/x", "HOST/x"},
		{"Docker.io/library/busybox:1.36", "docker.io/library/busybox:1.36"},
		{"LOCALHOST:5000/x", "localhost:5000"}, {"[::1]:5000/x:1@" WORLD_DIGEST, "[::1]:5000/x"},
		{"busybox:1.36@" WORLD_DIGEST, "docker.io/library/busybox"}, /* not by its tag */
	};
	char json[8192];
	int len = snprintf(json, sizeof(json), "{\"default\":" REJECT ",\"transports\":{\"docker\":{");

	for (size_t i = 0; i < ARRAY_LEN(scopes); i++) {
		len += snprintf(
			json + len, sizeof(json) - (size_t)len, "%s\"%s\":[", i ? "," : "", scopes[i]);
		for (size_t k = 0; k < i + 2; k++)
			len += snprintf(json + len, sizeof(json) - (size_t)len, "%s{\"type\":\"reject\"}",
				k ? "," : "");
		len += snprintf(json + len, sizeof(json) - (size_t)len, "]");
	}
	snprintf(json + len, sizeof(json) - (size_t)len,
		"},\"docker-daemon\":{\"\":7},\"docker-archive\":{\"\":" ACCEPT "},\"oci-archive\":{}}}");
	struct sign_policy *p = parse(json);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		size_t want = 0;
		while (strcmp(scopes[want], cases[i].scope) != 0)
			want++;
		size_t have = rank(p, cases[i].name);
		if (have != want + 2)
			fail_msg("%s: scope %zu instead of \"%s\"", cases[i].name, have - 2, cases[i].scope);
	}
	assert_int_equal(rank(p, NULL), 1);
	sign_policy_free(p);
	p = parse("{\"default\":" REJECT "}");
	assert_int_equal(rank(p, "busybox"), 1);
	sign_policy_free(p);
}

/* ---- identities ---- */

static int judge(const char *identity, const char *signed_name, const char *asked)
{
	CLEANUP(oci_reference_done) struct oci_reference ref = {0};
	CLEANUP_FREE char *json =
		str_printf("{\"default\":[{\"type\":\"sigstoreSigned\",\"keyPath\":\"%s\"%s%s}]}", key_file,
			*identity ? ",\"signedIdentity\":" : "", identity);
	CLEANUP_FREE char *payload =
		str_printf("{\"critical\":{\"identity\":{\"docker-reference\":\"%s\"},\"image\":{\"docker-"
			   "manifest-digest\":\"%s\"},"
			   "\"type\":\"cosign container image signature\"},\"optional\":{}}",
			signed_name, WORLD_DIGEST);
	uint8_t sig[1024];
	CLEANUP_FREE char *text = world_b64(sig, world_sign(w.leaf_key, 0, payload, strlen(payload), sig));
	struct sign_candidate c = {.payload = payload, .payload_len = strlen(payload), .signature = text};
	struct sign_policy *p = parse(json);
	const struct sign_rule *rules;
	size_t n;

	if (asked)
		assert_int_equal(oci_reference_parse(asked, &ref, NULL), 0);
	assert_int_equal(sign_policy_find(p, asked ? &ref : NULL, &rules, &n, NULL), 0);
	assert_int_equal(n, 1);
	int r = sign_rule_verify(rules, asked ? &ref : NULL, WORLD_DIGEST, &c, NULL);
	sign_policy_free(p);
	return r;
}

static void test_identities(void **state)
{
#define EXACT	   "{\"type\":\"matchExact\"}"
#define REPOSITORY "{\"type\":\"matchRepository\"}"
#define REFERENCE  "{\"type\":\"exactReference\",\"dockerReference\":\"up.io/app:v1\"}"
#define EXACT_REPO "{\"type\":\"exactRepository\",\"dockerRepository\":\"up.io/app\"}"
#define DIGEST	   "{\"type\":\"matchDigest\"}"
	static const struct {
		const char *identity, *signed_name, *asked;
		bool good;
	} cases[] = {
		{"", "a.io/app:v1", "a.io/app:v1", true},
		{"", "a.io/app:v1", "a.io/app:v2", false},
		{"", "a.io/app", "a.io/app:v1", false},
		{"", "a.io/app", "a.io/app:latest", false}, /* no tag is not "latest" */
		{"", "a.io/app:latest", "a.io/app", true},
		{"", "a.io/app", "a.io/app@" WORLD_DIGEST, true},
		{"", "a.io/app:v1", "a.io/app@" WORLD_DIGEST, true},
		{"", "a.io/other", "a.io/app@" WORLD_DIGEST, false},
		{"", "b.io/app:v1", "a.io/app:v1", false},
		{"", "busybox:1", "docker.io/library/busybox:1", true},
		{"", "index.docker.io/library/busybox:1", "busybox:1", true},
		{"", "a.io/app:v1", NULL, false},
		{"", "not a name", "a.io/app:v1", false},
		{"", "", "a.io/app:v1", false},
		{EXACT, "a.io/app:v1", "a.io/app:v1", true},
		{EXACT, "a.io/app:v1", "a.io/app@" WORLD_DIGEST, false},
		{EXACT, "a.io/app@" WORLD_DIGEST, "a.io/app@" WORLD_DIGEST, true},
		{EXACT, "a.io/app:v1", "a.io/app:v1@" WORLD_DIGEST, false}, /* the tag says nothing there */
		{EXACT, "a.io/app:v1@" WORLD_DIGEST, "a.io/app:v2@" WORLD_DIGEST, true},
		{EXACT, "A.io/app:v1", "a.IO/app:v1", true},
		{"", "a.io/app:v2", "a.io/app:v1@" WORLD_DIGEST, true},
		{EXACT, "a.io/app", "a.io/app", false},
		{REPOSITORY, "a.io/app", "a.io/app:v1", true},
		{REPOSITORY, "a.io/app:v2", "a.io/app:v1", true},
		{REPOSITORY, "a.io/app/x", "a.io/app", false},
		{REPOSITORY, "localhost:5000/app", "localhost:5000/app:v7", true},
		{REPOSITORY, "localhost:5000/app", "localhost:5001/app:v7", false},
		{REPOSITORY, "a.io/app", NULL, false},
		{REFERENCE, "up.io/app:v1", "a.io/mirror:v9", true},
		{REFERENCE, "up.io/app:v2", "a.io/mirror:v1", false},
		{REFERENCE, "up.io/app", "a.io/mirror:v1", false},
		{REFERENCE, "up.io/app:v1", NULL, true},
		{EXACT_REPO, "up.io/app:v2", "a.io/mirror:v1", true},
		{EXACT_REPO, "up.io/app", "a.io/mirror:v1", true},
		{EXACT_REPO, "a.io/mirror", "a.io/mirror:v1", false},
		{DIGEST, "what ever", "a.io/app:v1", true},
		{DIGEST, "x", NULL, true},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		int r = judge(cases[i].identity, cases[i].signed_name, cases[i].asked);
		if (r != (cases[i].good ? 0 : -EKEYREJECTED))
			fail_msg("case %zu: %d for \"%s\" asked for as %s under %s", i, r,
				cases[i].signed_name, cases[i].asked ? cases[i].asked : "nothing",
				cases[i].identity);
	}
}

/* A policy's keyless rule, with a bundle, and with rules that need no signature. */
static void test_rules(void **state)
{
	CLEANUP_FREE char *json = str_printf(
		"{\"default\":[{\"type\":\"sigstoreSigned\",\"fulcio\":{\"caPath\":\"%s\",\"oidcIssuer\":\"%"
		"s\",\"subjectEmail\":"
		"\"%s\"},\"rekorPublicKeyPath\":\"%s\",\"signedIdentity\":{\"type\":\"matchRepository\"}},"
		"{\"type\":\"sigstoreSigned\",\"fulcio\":{\"oidcIssuer\":\"%s\",\"subject\":\"%s\"},"
		"\"trustedRootPath\":\"%s\","
		"\"signedIdentity\":{\"type\":\"matchDigest\"}},{\"type\":\"insecureAcceptAnything\"},{"
		"\"type\":\"reject\"}]}",
		ca_file, WORLD_ISSUER, WORLD_IDENTITY, log_file, WORLD_ISSUER, WORLD_IDENTITY, root_file);
	struct sign_policy *p = parse(json);
	struct oci_reference ref = {0};
	const struct sign_rule *rules;
	struct sign_candidate simple = world_simple(&w, NULL, 0), bundle = world_bundle(&w, NULL, 0);
	struct sign_candidate self_made = world_simple(&w, NULL, W_SELF_MADE);
	struct err e = {0};
	size_t n;

	assert_int_equal(oci_reference_parse(WORLD_REPOSITORY ":v3", &ref, NULL), 0);
	assert_int_equal(sign_policy_find(p, &ref, &rules, &n, NULL), 0);
	assert_int_equal(n, 4);
	assert_int_equal(sign_rule_verify(&rules[0], &ref, WORLD_DIGEST, &simple, &e), 0);
	assert_int_equal(sign_rule_verify(&rules[0], &ref, WORLD_DIGEST, &self_made, &e), -EKEYREJECTED);
	assert_int_equal(sign_rule_verify(&rules[1], &ref, WORLD_DIGEST, &simple, &e), 0);
	assert_int_equal(sign_rule_verify(&rules[1], &ref, WORLD_DIGEST, &bundle, &e), 0);
	assert_int_equal(sign_rule_verify(&rules[2], &ref, WORLD_DIGEST, NULL, &e), 0);
	assert_int_equal(sign_rule_verify(&rules[3], &ref, WORLD_DIGEST, &simple, &e), -EKEYREJECTED);
	assert_non_null(strstr(e.msg, "rejects"));
	/* A bundle names no image. */
	struct sign_rule named = rules[1];
	named.identity = SIGN_MATCH_REPOSITORY;
	assert_int_equal(sign_rule_verify(&named, &ref, WORLD_DIGEST, &bundle, &e), -EKEYREJECTED);
	assert_non_null(strstr(e.msg, "does not say for which name"));
	oci_reference_done(&ref);
	world_free(&simple);
	world_free(&bundle);
	world_free(&self_made);
	sign_policy_free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_requirements),
		cmocka_unit_test(test_scopes),
		cmocka_unit_test(test_identities),
		cmocka_unit_test(test_rules),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
