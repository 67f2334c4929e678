/* SPDX-License-Identifier: MIT */
/* What is stored with a box, what is asked of its supervisor, and what it is called: there and back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "box/caps.h"
#include "config.h"
#include "ctl.h"
#include "names.h"

static void assert_strv(const struct strv *a, const struct strv *b)
{
	assert_int_equal(a->n, b->n);
	for (size_t i = 0; i < a->n; i++)
		assert_string_equal(a->v[i], b->v[i]);
}

static struct box_config back_and_forth(const struct box_config *c)
{
	struct box_config back = {0};
	char *json = box_config_to_json(c);

	assert_non_null(json);
	assert_int_equal(box_config_from_json(json, &back), 0);
	free(json);
	return back;
}

static const char *const awkward[] = {"plain", "", " ", "-", "\"quoted\\", "new\nline\ttab\x01\x7f",
	"gr\xc3\xbc\xc3\x9f", "\xf0\x9f\x98\x80", "not utf-8 \xff\xfe", "\x80", "cut \xc3",
	"surrogate \xed\xa0\x80", "overlong \xc0\xaf", "{\"b64\":\"YQ==\"}"};

static void every_string_survives_even_if_it_is_no_text(void **state)
{
	struct box_config c = {0};
	struct strv *lists[] = {
		&c.entrypoint, &c.cmd, &c.process.argv, &c.process.env, &c.process.groups, &c.labels};

	for (size_t l = 0; l < ARRAY_LEN(lists); l++) {
		for (size_t i = l; i < ARRAY_LEN(awkward); i++)
			assert_int_equal(strv_push(lists[l], awkward[i]), 0);
	}
	for (size_t i = 0; i < ARRAY_LEN(awkward); i++) {
		c.process.cwd = strdup(awkward[i]);
		c.process.user = strdup(awkward[i]);
		c.hostname = strdup(awkward[i]);
		struct box_config back = back_and_forth(&c);
		struct strv *got[] = {&back.entrypoint, &back.cmd, &back.process.argv, &back.process.env,
			&back.process.groups, &back.labels};
		for (size_t l = 0; l < ARRAY_LEN(lists); l++)
			assert_strv(got[l], lists[l]);
		assert_string_equal(back.process.cwd, awkward[i]);
		assert_string_equal(back.process.user, awkward[i]);
		assert_string_equal(back.hostname, awkward[i]);
		box_config_done(&back);
		free(TAKE_PTR(c.process.cwd));
		free(TAKE_PTR(c.process.user));
		free(TAKE_PTR(c.hostname));
	}
	struct box_config back = back_and_forth(&c);
	assert_null(back.process.cwd); /* absent stays absent */
	assert_null(back.process.user);
	assert_null(back.hostname);
	box_config_done(&back);
	box_config_done(&c);
}

static void every_number_and_flag_survives(void **state)
{
	for (unsigned bits = 0; bits < 16; bits++) {
		struct box_config c = {.vcpus = UINT32_MAX,
			.mem_bytes = (1ull << 40) + 1,
			.accel = (enum accel)(bits % 4),
			.auto_remove = bits & 1,
			.stdin_once = bits & 2,
			.stop_signal = 64,
			.stop_timeout_ns = UINT64_MAX - bits,
			.process = {.tty = bits & 4, .open_stdin = bits & 8}};
		struct box_config back = back_and_forth(&c);
		assert_int_equal(back.vcpus, c.vcpus);
		assert_int_equal(back.mem_bytes, c.mem_bytes);
		assert_int_equal(back.accel, c.accel);
		assert_int_equal(back.auto_remove, c.auto_remove);
		assert_int_equal(back.stdin_once, c.stdin_once);
		assert_int_equal(back.stop_signal, 64);
		assert_true(back.stop_timeout_ns == c.stop_timeout_ns);
		assert_int_equal(back.process.tty, c.process.tty);
		assert_int_equal(back.process.open_stdin, c.process.open_stdin);
		assert_false(back.process.main);
		box_config_done(&back);
	}
}

static void fill(struct strv *l, const char *what)
{
	assert_int_equal(strv_push(l, what), 0);
	assert_int_equal(strv_push(l, "\xff"), 0);
}

static void fill_lists(struct box_config *c)
{
	struct strv *lists[] = {&c->labels, &c->health.test, &c->log.opts, &c->tmpfs, &c->sysctls,
		&c->devices, &c->add_hosts, &c->dns, &c->dns_search, &c->dns_opts, &c->cap_add, &c->cap_drop,
		&c->security_opts, &c->annotations, &c->exposed_ports, &c->publish, &c->egress_allow,
		&c->network_opts};
	char name[8];

	for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
		snprintf(name, sizeof(name), "%zu", i);
		fill(lists[i], name);
	}
}

static void fill_mounts(struct box_config *c)
{
	struct box_mount mounts[] = {
		{.type = BOX_MOUNT_BIND,
			.source = strdup("/s\xff"),
			.target = strdup("/t\n"),
			.create = true},
		{.type = BOX_MOUNT_VOLUME, .target = strdup("/v"), .anonymous = true, .no_copy = true},
		{.type = BOX_MOUNT_VOLUME,
			.source = strdup("data"),
			.target = strdup("/d"),
			.subpath = strdup("a/b"),
			.read_only = true},
	};

	fill(&mounts[2].labels, "k=v");
	fill(&mounts[2].opts, "type=none");
	c->mounts = malloc(sizeof(mounts));
	assert_non_null(c->mounts);
	memcpy(c->mounts, mounts, sizeof(mounts));
	c->n_mounts = ARRAY_LEN(mounts);
}

/* All that there is, each with a value of its own. */
static void fill_all(struct box_config *ret)
{
	struct box_config c = {.vcpus = 3,
		.mem_bytes = 1,
		.stop_signal = 9,
		.stop_timeout_ns = 2,
		.run_limit_ns = 3,
		.limits = {4, 5, 6, strdup("0-1"), 7, 8, UINT64_MAX, 9},
		.nano_cpus = 10,
		.restart = {BOX_RESTART_ON_FAILURE, 11},
		.health = {.interval_ns = 12,
			.timeout_ns = 13,
			.start_period_ns = 14,
			.start_interval_ns = 15,
			.retries = 16},
		.log = {.driver = BOX_LOG_SYSLOG, .max_size = 17, .max_files = 18},
		.shm_bytes = 19,
		.privileged = true,
		.read_only = true,
		.unmasked = true,
		.user_namespace = true,
		.network = strdup("bridge"),
		.publish_all = true,
		.publish_address = strdup("127.0.0.1"),
		.seccomp = BOX_SECCOMP_OWN,
		.process = {.caps = 0x1ffffffffff,
			.no_new_privileges = true,
			.init = true,
			.oom_score_adj = -1000,
			.rlimits = {{7, 20, UINT64_MAX}, {15, 0, 21}},
			.n_rlimits = 2}};

	c.disk_bytes = 22;
	fill_lists(&c);
	fill_mounts(&c);
	*ret = c;
}

static void assert_mounts(const struct box_config *back, const struct box_config *c)
{
	assert_int_equal(back->n_mounts, 3);
	assert_string_equal(back->mounts[0].source, "/s\xff");
	assert_string_equal(back->mounts[0].target, "/t\n");
	assert_true(back->mounts[0].type == BOX_MOUNT_BIND && back->mounts[0].create &&
		    !back->mounts[0].read_only);
	assert_null(back->mounts[1].source);
	assert_true(back->mounts[1].anonymous && back->mounts[1].no_copy &&
		    back->mounts[1].type == BOX_MOUNT_VOLUME);
	assert_string_equal(back->mounts[2].subpath, "a/b");
	assert_true(back->mounts[2].read_only);
	assert_strv(&back->mounts[2].labels, &c->mounts[2].labels);
	assert_strv(&back->mounts[2].opts, &c->mounts[2].opts);
}

/* Through JSON and again: nothing is left out. */
static void nothing_of_it_is_forgotten(void **state)
{
	struct box_config c;

	fill_all(&c);
	struct box_config back = back_and_forth(&c);
	CLEANUP_FREE char *first = box_config_to_json(&c), *second = box_config_to_json(&back);
	assert_string_equal(first, second);
	assert_string_equal(back.exposed_ports.v[0], "14");
	assert_string_equal(back.publish.v[0], "15");
	assert_string_equal(back.egress_allow.v[0], "16");
	assert_string_equal(back.network_opts.v[0], "17");
	assert_string_equal(back.network, "bridge");
	assert_string_equal(back.publish_address, "127.0.0.1");
	assert_true(back.publish_all);
	assert_string_equal(back.limits.cpuset, "0-1");
	assert_true(back.limits.swap_max == UINT64_MAX && back.limits.pids_max == 9 &&
		    back.limits.cpu_shares == 4);
	assert_int_equal(back.restart.policy, BOX_RESTART_ON_FAILURE);
	assert_int_equal(back.log.driver, BOX_LOG_SYSLOG);
	assert_int_equal(back.seccomp, BOX_SECCOMP_OWN);
	assert_int_equal(back.process.oom_score_adj, -1000);
	assert_int_equal(back.process.n_rlimits, 2);
	assert_true(back.process.rlimits[0].hard == UINT64_MAX && back.process.rlimits[1].resource == 15);
	assert_true(
		back.process.init && back.process.no_new_privileges && back.user_namespace && back.unmasked);
	assert_true(back.process.caps == 0x1ffffffffff);
	assert_true(back.disk_bytes == 22);
	assert_mounts(&back, &c);
	box_config_done(&c);
	box_config_done(&back);
}

static void a_record_of_before_has_todays_defaults(void **state)
{
	struct box_config c = {0};

	assert_int_equal(box_config_from_json("{\"argv\":[\"sh\"],\"vcpus\":2}", &c), 0);
	assert_true(c.process.caps == BOX_CAPS_DEFAULT);
	assert_true(c.limits.swap_max == UINT64_MAX);
	assert_int_equal(c.seccomp, BOX_SECCOMP_DEFAULT);
	assert_int_equal(c.restart.policy, BOX_RESTART_NO);
	assert_null(c.network); /* it had none */
	box_config_done(&c);
}

static void malformed_json_is_refused_and_leaks_nothing(void **state)
{
	static const char *const bad[] = {"", "{", "[]", "null", "1", "\"x\"", "{} trailing",
		"{\"argv\":[1]}", "{\"argv\":[\"x\",{\"b64\":\"?\"}]}", "{\"argv\":[{}]}",
		"{\"argv\":[{\"b64\":1}]}", "{\"cwd\":7}", "{\"env\":[true]}",
		"{\"argv\":[\"a\"],\"argv\":[\"b\"]}", "{\"accel\":\"hvf\"}", "{\"cwd\":\"\xff\"}",
		"{\"rlimits\":[[1,2]]}", "{\"rlimits\":[[16,2,3]]}", "{\"rlimits\":[[1,2,\"3\"]]}",
		"{\"rlimits\":7}", "{\"seccomp\":\"off\"}", "{\"restart\":1}", "{\"log\":\"x\"}",
		"{\"oom_score_adj\":1001}", "{\"stop_signal\":65}", "{\"vcpus\":-1}", "{\"caps\":\"all\"}",
		"{\"mounts\":{}}", "{\"mounts\":[1]}", "{\"mounts\":[{}]}",
		"{\"mounts\":[{\"type\":\"volume\"}]}",
		"{\"mounts\":[{\"type\":\"bind\",\"target\":\"/a\"}]}",
		"{\"mounts\":[{\"type\":\"tape\",\"target\":\"/a\"}]}",
		"{\"mounts\":[{\"type\":\"volume\",\"target\":\"a\"}]}",
		"{\"mounts\":[{\"type\":\"volume\",\"target\":\"/a\",\"ro\":1}]}", "{\"disk_bytes\":\"1g\"}",
		"{\"privileged\":1}", "{\"memory\":1.5}", "{\"argv\":\"sh\"}", "{\"labels\":{\"a\":\"b\"}}"};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct box_config c = {.vcpus = 77};
		int r = box_config_from_json(bad[i], &c);
		if (r >= 0)
			fail_msg("accepted: %s", bad[i]);
		assert_int_equal(c.vcpus, 77); /* untouched */
	}
}

/* ---- requests and replies ---- */

static struct wire_frame only_frame(const struct buf *b, uint8_t type)
{
	struct wire_frame f;

	assert_int_equal(wire_next(b, &f), 1);
	assert_int_equal(f.type, type);
	assert_int_equal(b->len, WIRE_HEADER_SIZE + f.len);
	return f;
}

static void every_request_survives(void **state)
{
	for (int op = BOX_OP_ATTACH; op <= BOX_OP_STARTED; op++) {
		struct box_request q = {.op = (enum box_op)op,
					   .attach_stdin = op % 2,
					   .networks = op % 3 == 0,
					   .signal = op * 12,
					   .timeout_ns = UINT64_MAX - 1},
				   back;
		struct buf b = {0};
		assert_int_equal(box_put_request(&b, &q), 0);
		struct wire_frame f = only_frame(&b, WIRE_CTL_REQUEST);
		assert_int_equal(ctl_get_request(&f, &back), 0);
		assert_int_equal(back.op, q.op);
		assert_int_equal(back.attach_stdin, q.attach_stdin);
		assert_int_equal(back.networks, q.networks);
		assert_int_equal(back.signal, q.signal);
		assert_true(back.timeout_ns == q.timeout_ns);
		buf_done(&b);
	}
}

/* A request of raw fields. */
static int get_request(uint64_t op, uint64_t sig, size_t cut)
{
	struct box_request back;
	struct buf m = {0};

	assert_int_equal(wire_field_u64(&m, 1, op), 0);
	assert_int_equal(wire_field_u64(&m, 3, sig), 0);
	assert_int_equal(wire_field_bytes(&m, 99, "of the future", 13), 0);
	struct wire_frame f = {
		.type = WIRE_CTL_REQUEST, .len = (uint32_t)(m.len - cut), .payload = buf_data(&m)};
	int r = ctl_get_request(&f, &back);
	buf_done(&m);
	return r;
}

static void malformed_requests_are_refused(void **state)
{
	assert_int_equal(get_request(BOX_OP_STOP, 15, 0), 0);
	assert_int_equal(get_request(0, 15, 0), -EBADMSG);
	assert_int_equal(get_request(BOX_OP_EXEC + 1, 15, 0), -EBADMSG);
	assert_int_equal(get_request((1ull << 32) + BOX_OP_STOP, 15, 0), -EBADMSG);
	for (size_t cut = 1; cut < 18; cut++)
		assert_int_equal(get_request(BOX_OP_STOP, 15, cut), -EBADMSG);
	struct wire_frame empty = {.type = WIRE_CTL_REQUEST, .payload = (const uint8_t *)""};
	struct box_request back;
	assert_int_equal(ctl_get_request(&empty, &back), -EBADMSG);
}

/* The guest takes such a number for a broken protocol, and the box would die of it. */
static void a_signal_that_is_none_is_refused_where_one_is_needed(void **state)
{
	assert_int_equal(get_request(BOX_OP_SIGNAL, 65, 0), -EBADMSG);
	assert_int_equal(get_request(BOX_OP_SIGNAL, 0, 0), -EBADMSG);
	assert_int_equal(get_request(BOX_OP_STOP, 0, 0), -EBADMSG);
	assert_int_equal(get_request(BOX_OP_STOP, UINT64_MAX, 0), -EBADMSG);
	assert_int_equal(get_request(BOX_OP_SIGNAL, 64, 0), 0);
	assert_int_equal(get_request(BOX_OP_WAIT, 0, 0), 0);
}

static void replies_carry_success_or_the_reason(void **state)
{
	struct buf b = {0};
	struct err e = {0};

	assert_int_equal(ctl_put_reply(&b, 0, NULL), 0);
	struct wire_frame f = only_frame(&b, WIRE_CTL_REPLY);
	assert_int_equal(ctl_get_reply(&f, &e), 0);
	buf_consume(&b, b.len);
	assert_int_equal(ctl_put_reply(&b, -ESRCH, "it has ended"), 0);
	f = only_frame(&b, WIRE_CTL_REPLY);
	assert_int_equal(ctl_get_reply(&f, &e), -ESRCH);
	assert_int_equal(e.code, -ESRCH);
	assert_string_equal(e.msg, "it has ended");
	f.len--;
	assert_int_equal(ctl_get_reply(&f, &e), -EBADMSG);
	buf_consume(&b, b.len);
	assert_int_equal(wire_field_u64(&b, 1, 4096), 0); /* no errno */
	f = (struct wire_frame){.len = (uint32_t)b.len, .payload = buf_data(&b)};
	assert_int_equal(ctl_get_reply(&f, &e), -EBADMSG);
	buf_done(&b);
}

/* ---- names ---- */

static void names_follow_dockers_rules(void **state)
{
	static const char *const good[] = {"a", "0", "web", "Web-1.2_3", "9lives", "a.-_"};
	static const char *const bad[] = {"", ".", "-a", "_a", ".hidden", "a b", "a/b", "a:b", "a\n",
		"gr\xc3\xbc\xc3\x9f", "a@b", "../x"};
	char longest[BOX_NAME_MAX + 2];

	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		assert_true(box_name_valid(good[i]));
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		if (box_name_valid(bad[i]))
			fail_msg("accepted: %s", bad[i]);
	}
	memset(longest, 'x', sizeof(longest) - 1);
	longest[BOX_NAME_MAX + 1] = '\0';
	assert_false(box_name_valid(longest));
	longest[BOX_NAME_MAX] = '\0';
	assert_true(box_name_valid(longest));
}

static void made_up_names_are_valid_and_varied(void **state)
{
	char *first = box_make_name(0);
	int different = 0;

	assert_non_null(first);
	for (unsigned i = 0; i < 200; i++) {
		char *name = box_make_name(i % 6);
		assert_non_null(name);
		assert_true(box_name_valid(name));
		different += strcmp(name, first) != 0;
		free(name);
	}
	assert_true(different > 150);
	free(first);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_string_survives_even_if_it_is_no_text),
		cmocka_unit_test(every_number_and_flag_survives),
		cmocka_unit_test(nothing_of_it_is_forgotten),
		cmocka_unit_test(a_record_of_before_has_todays_defaults),
		cmocka_unit_test(malformed_json_is_refused_and_leaks_nothing),
		cmocka_unit_test(every_request_survives),
		cmocka_unit_test(malformed_requests_are_refused),
		cmocka_unit_test(a_signal_that_is_none_is_refused_where_one_is_needed),
		cmocka_unit_test(replies_carry_success_or_the_reason),
		cmocka_unit_test(names_follow_dockers_rules),
		cmocka_unit_test(made_up_names_are_valid_and_varied),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
