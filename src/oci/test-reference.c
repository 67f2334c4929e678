/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "digest.h"
#include "oci/oci.h"
#include "reference.h"

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void test_normalise(void **state)
{
	static const struct {
		const char *in, *name, *familiar;
	} cases[] = {
		{"alpine", "docker.io/library/alpine:latest", "alpine:latest"},
		{"alpine:3.20", "docker.io/library/alpine:3.20", "alpine:3.20"},
		{"foo/bar", "docker.io/foo/bar:latest", "foo/bar:latest"},
		{"docker.io/alpine", "docker.io/library/alpine:latest", "alpine:latest"},
		{"index.docker.io/foo/bar:x", "docker.io/foo/bar:x", "foo/bar:x"},
		{"localhost/x", "localhost/x:latest", "localhost/x:latest"},
		{"localhost:5000/x/y", "localhost:5000/x/y:latest", "localhost:5000/x/y:latest"},
		{"ghcr.io/a/b_c/d--e:V1", "ghcr.io/a/b_c/d--e:V1", "ghcr.io/a/b_c/d--e:V1"},
		{"[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"},
		{"Host/x", "HOST/x:latest", "HOST/x:latest"},
		{"HOST/x", "HOST/x:latest", "HOST/x:latest"},
		{"LocalHost/x", "localhost/x:latest", "localhost/x:latest"},
		{"Registry.Example:5000/x", "registry.example:5000/x:latest",
			"registry.example:5000/x:latest"},
		{"[FE80::A]:5000/x", "[fe80::a]:5000/x:latest", "[fe80::a]:5000/x:latest"},
		{"Docker.IO/alpine", "docker.io/library/alpine:latest", "alpine:latest"},
		{"INDEX.docker.io/foo/bar:x", "docker.io/foo/bar:x", "foo/bar:x"},
		{"h.io:443/x", "h.io:443/x:latest", "h.io:443/x:latest"},
		{"alpine@sha256:" HEX64, "docker.io/library/alpine@sha256:" HEX64, "alpine@sha256:" HEX64},
		{"alpine:3@sha256:" HEX64, "docker.io/library/alpine@sha256:" HEX64, "alpine@sha256:" HEX64},
		{"docker.io/foo.bar/baz", "docker.io/foo.bar/baz:latest", "docker.io/foo.bar/baz:latest"},
		{"docker.io/library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct err e = {0};
		char *name = oci_ref_normalise(cases[i].in, &e);
		if (!name)
			fail_msg("%s: %s", cases[i].in, e.msg);
		assert_string_equal(name, cases[i].name);
		char *familiar = oci_ref_familiar(name);
		assert_string_equal(familiar, cases[i].familiar);
		free(familiar);
		char *again = oci_ref_normalise(name, &e);
		assert_string_equal(again, name);
		free(again);
		free(name);
	}
}

static void test_refused(void **state)
{
	static const char *const cases[] = {"", ":", "@", "/", "a//b", "a/", "/a", "UPPER", "a/B", "-a", "a-",
		"a..b", "a___b", "a:", "a:-x", "a:.x", "a b", "a\nb", "host:port/x", "host:999999/x",
		"a@sha256:short", "a@md5:" HEX64, "a@sha256:" HEX64 "0", HEX64, "http://x/y", "x:y:z",
		"[::1/x", "-host.io/x", "ho_st.io/x", "a\x80", "../x"};
	char tag[200], name[400];

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct err e = {0};
		char *s = oci_ref_normalise(cases[i], &e);
		if (s)
			fail_msg("accepted \"%s\" as %s", cases[i], s);
		assert_int_equal(e.code, -EINVAL);
	}
	/* the limits themselves */
	snprintf(tag, sizeof(tag), "a:%0128d", 0);
	char *s = oci_ref_normalise(tag, NULL);
	assert_non_null(s);
	free(s);
	snprintf(tag, sizeof(tag), "a:%0129d", 0);
	assert_null(oci_ref_normalise(tag, NULL));
	snprintf(name, sizeof(name), "h.io/%0250d", 0);
	s = oci_ref_normalise(name, NULL);
	assert_non_null(s);
	free(s);
	snprintf(name, sizeof(name), "h.io/%0251d", 0);
	assert_null(oci_ref_normalise(name, NULL));
}

static void test_digest(void **state)
{
	char d[OCI_DIGEST_MAX];

	assert_true(oci_digest_valid("sha256:" HEX64));
	assert_true(oci_digest_valid("sha512:" HEX64 HEX64));
	assert_false(oci_digest_valid("sha512:" HEX64));
	assert_false(oci_digest_valid("sha256:" HEX64 "a"));
	assert_false(oci_digest_valid(
		"sha256:../../../../../../../../../../../../../../../../../../../../../../"));
	assert_false(oci_digest_valid("SHA256:" HEX64));
	assert_false(oci_digest_valid(NULL));
	assert_int_equal(oci_digest_of("abc", 3, d, NULL), 0);
	assert_string_equal(d, "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_normalise),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_digest),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
