/* SPDX-License-Identifier: MIT */
/* Capabilities: their names, Docker's default set, and what --cap-add and --cap-drop make of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <linux/capability.h>

#include "box/caps.h"

/* As Docker documents it ("Runtime privilege and Linux capabilities"). */
static const char *const docker_default[] = {"CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER",
	"CAP_FSETID", "CAP_KILL", "CAP_MKNOD", "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP",
	"CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT"};

static uint64_t bit(const char *name)
{
	int n = box_cap_number(name);
	if (n < 0)
		fail_msg("no such capability: %s", name);
	return UINT64_C(1) << n;
}

static void numbers_are_the_kernels(void **state)
{
	assert_int_equal(bit("CHOWN"), UINT64_C(1) << CAP_CHOWN);
	assert_int_equal(bit("SYS_ADMIN"), UINT64_C(1) << CAP_SYS_ADMIN);
	assert_int_equal(bit("setfcap"), UINT64_C(1) << CAP_SETFCAP);
	assert_int_equal(bit("cap_syslog"), UINT64_C(1) << CAP_SYSLOG);
	assert_int_equal(bit("CAP_CHECKPOINT_RESTORE"), UINT64_C(1) << CAP_CHECKPOINT_RESTORE);
	assert_int_equal(CAP_LAST_CAP, BOX_CAPS_N - 1);
	for (unsigned i = 0; i < BOX_CAPS_N; i++)
		assert_int_equal(box_cap_number(box_cap_name(i)), i);
	assert_null(box_cap_name(BOX_CAPS_N));
	assert_int_equal(box_cap_number(""), -1);
	assert_int_equal(box_cap_number("CAP_"), -1);
	assert_int_equal(box_cap_number("CAP_CAP_CHOWN"), -1);
}

static void the_default_is_dockers_name_by_name(void **state)
{
	struct strv names = {0};
	uint64_t caps = 0;

	for (size_t i = 0; i < ARRAY_LEN(docker_default); i++)
		caps |= bit(docker_default[i]);
	assert_int_equal(caps, BOX_CAPS_DEFAULT);
	assert_int_equal(box_caps_names(caps, &names), 0);
	assert_int_equal(names.n, ARRAY_LEN(docker_default));
	assert_string_equal(names.v[0], "CAP_CHOWN");
	assert_string_equal(names.v[13], "CAP_SETFCAP");
	strv_done(&names);
}

/* A list of up to three names. */
static struct strv list(const char *words)
{
	struct strv l = {0};
	char text[128], *save;

	snprintf(text, sizeof(text), "%s", words);
	for (char *w = strtok_r(text, " ", &save); w; w = strtok_r(NULL, " ", &save))
		assert_int_equal(strv_push(&l, w), 0);
	return l;
}

static int apply(const char *add, const char *drop, uint64_t *ret, struct err *e)
{
	struct strv a = list(add), d = list(drop);
	int r = box_caps_from_lists(&a, &d, ret, e);
	strv_done(&a);
	strv_done(&d);
	return r;
}

static uint64_t caps_of(const char *add, const char *drop)
{
	struct err e = {0};
	uint64_t caps = 0;
	if (apply(add, drop, &caps, &e) < 0)
		fail_msg("+%s -%s: %s", add, drop, e.msg);
	return caps;
}

static void adding_and_dropping_follow_docker(void **state)
{
	assert_int_equal(caps_of("", ""), BOX_CAPS_DEFAULT);
	assert_int_equal(caps_of("NET_ADMIN", ""), BOX_CAPS_DEFAULT | bit("NET_ADMIN"));
	assert_int_equal(
		caps_of("", "cap_net_raw mknod"), BOX_CAPS_DEFAULT & ~bit("NET_RAW") & ~bit("MKNOD"));
	assert_int_equal(caps_of("", "ALL"), 0);
	assert_int_equal(caps_of("all", ""), BOX_CAPS_ALL);
	assert_int_equal(caps_of("CHOWN", "ALL"), bit("CHOWN"));
	assert_int_equal(caps_of("ALL", "SYS_ADMIN"), BOX_CAPS_ALL & ~bit("SYS_ADMIN"));
	assert_int_equal(caps_of("ALL", "ALL"), BOX_CAPS_ALL);
	assert_int_equal(caps_of("CHOWN", "CHOWN"), BOX_CAPS_DEFAULT);
}

static void what_is_no_capability_is_refused(void **state)
{
	uint64_t caps;
	struct err e = {0};

	assert_int_equal(apply("NET_ADMN", "", &caps, &e), -EINVAL);
	assert_string_equal(e.msg, "--cap-add NET_ADMN: no such capability");
	assert_int_equal(apply("", "CAP_", &caps, &e), -EINVAL);
	assert_string_equal(e.msg, "--cap-drop CAP_: no such capability");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_are_the_kernels),
		cmocka_unit_test(the_default_is_dockers_name_by_name),
		cmocka_unit_test(adding_and_dropping_follow_docker),
		cmocka_unit_test(what_is_no_capability_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
