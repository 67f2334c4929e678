/* SPDX-License-Identifier: MIT */
/* Limits, statistics, processes, and what confines a process: written, read back, and refused when malformed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "fields.h"

/* The only frame in b. */
static struct wire_frame only_frame(const struct buf *b, uint8_t type)
{
	struct wire_frame f;

	assert_int_equal(wire_next(b, &f), 1);
	assert_int_equal(f.type, type);
	assert_int_equal(b->len, WIRE_HEADER_SIZE + f.len);
	return f;
}

static void assert_limits(const struct wire_limits *a, const struct wire_limits *b)
{
	assert_true(a->cpu_shares == b->cpu_shares && a->cpu_quota_us == b->cpu_quota_us &&
		    a->cpu_period_us == b->cpu_period_us && a->mem_max == b->mem_max &&
		    a->mem_reservation == b->mem_reservation && a->swap_max == b->swap_max &&
		    a->pids_max == b->pids_max);
	assert_int_equal(!a->cpuset, !b->cpuset);
	if (a->cpuset)
		assert_string_equal(a->cpuset, b->cpuset);
}

static struct wire_limits some_limits(void)
{
	/* Each another one, so that none can stand in for another. */
	return (struct wire_limits){.cpu_shares = 1,
		.cpu_quota_us = 2,
		.cpu_period_us = 3,
		.cpuset = strdup("0-2,4"),
		.mem_max = 4,
		.mem_reservation = 5,
		.swap_max = UINT64_MAX,
		.pids_max = 7};
}

static void limits_survive_the_wire_and_a_copy(void **state)
{
	struct wire_limits l = some_limits(), back, copy = some_limits(), none = {0};
	struct buf b = {0};

	assert_int_equal(wire_put_limits(&b, &l), 0);
	struct wire_frame f = only_frame(&b, WIRE_UPDATE);
	assert_int_equal(wire_get_limits(&f, &back), 0);
	assert_limits(&back, &l);
	assert_int_equal(wire_limits_copy(&copy, &back), 0);
	assert_limits(&copy, &l);
	assert_ptr_not_equal(copy.cpuset, back.cpuset);
	wire_limits_done(&copy);
	wire_limits_done(&back);
	wire_limits_done(&l);
	buf_consume(&b, b.len);
	assert_int_equal(wire_put_limits(&b, &none), 0);
	f = only_frame(&b, WIRE_UPDATE);
	assert_int_equal(wire_get_limits(&f, &back), 0);
	assert_limits(&back, &none);
	buf_done(&b);
}

static void limits_are_part_of_the_configuration(void **state)
{
	struct wire_config c = {.limits = some_limits(),
				   .shm_bytes = 99,
				   .privileged = true,
				   .user_namespace = true},
			   back;
	struct buf b = {0};

	assert_int_equal(strv_push(&c.tmpfs, "/a:size=1m"), 0);
	assert_int_equal(strv_push(&c.tmpfs, "/b"), 0);
	assert_int_equal(strv_push(&c.sysctls, "net.x=1"), 0);
	assert_int_equal(strv_push(&c.devices, "/dev/x:/dev/y:rwm"), 0);
	assert_int_equal(wire_put_config(&b, &c), 0);
	struct wire_frame f = only_frame(&b, WIRE_CONFIG);
	assert_int_equal(wire_get_config(&f, &back), 0);
	assert_limits(&back.limits, &c.limits);
	assert_true(back.shm_bytes == 99);
	assert_true(back.privileged && !back.unmasked && back.user_namespace && !back.read_only);
	assert_int_equal(back.tmpfs.n, 2);
	assert_string_equal(back.tmpfs.v[0], "/a:size=1m");
	assert_string_equal(back.tmpfs.v[1], "/b");
	assert_string_equal(back.sysctls.v[0], "net.x=1");
	assert_string_equal(back.devices.v[0], "/dev/x:/dev/y:rwm");
	wire_config_done(&back);
	wire_config_done(&c);
	buf_done(&b);
}

static void what_confines_a_process_survives_the_wire(void **state)
{
	static const int adjustments[] = {-1000, -1, 0, 1000};
	uint8_t filter[16];

	memset(filter, 0x5a, sizeof(filter));
	for (size_t i = 0; i < ARRAY_LEN(adjustments); i++) {
		struct wire_process p = {.caps = UINT64_MAX - i,
					    .no_new_privileges = i & 1,
					    .init = i & 2,
					    .oom_score_adj = adjustments[i],
					    .seccomp = filter,
					    .seccomp_len = sizeof(filter)},
				    back;
		struct buf b = {0};

		assert_int_equal(strv_push(&p.argv, "x"), 0);
		for (uint32_t k = 0; k < WIRE_RLIMITS_MAX; k++)
			p.rlimits[p.n_rlimits++] =
				(struct wire_rlimit){.resource = k, .soft = 10 + k, .hard = UINT64_MAX - k};
		assert_int_equal(wire_put_process(&b, &p), 0);
		struct wire_frame f = only_frame(&b, WIRE_START);
		assert_int_equal(wire_get_process(&f, &back), 0);
		assert_true(back.caps == p.caps);
		assert_int_equal(back.no_new_privileges, p.no_new_privileges);
		assert_int_equal(back.init, p.init);
		assert_int_equal(back.oom_score_adj, p.oom_score_adj);
		assert_int_equal(back.n_rlimits, WIRE_RLIMITS_MAX);
		assert_memory_equal(back.rlimits, p.rlimits, sizeof(p.rlimits));
		assert_int_equal(back.seccomp_len, sizeof(filter));
		assert_memory_equal(back.seccomp, filter, sizeof(filter));
		wire_process_done(&back);
		p.seccomp = NULL;
		wire_process_done(&p);
		buf_done(&b);
	}
}

static void too_much_confinement_is_not_sent(void **state)
{
	struct wire_process p = {.n_rlimits = WIRE_RLIMITS_MAX + 1};
	struct buf b = {0};
	uint8_t byte = 0;

	assert_int_equal(strv_push(&p.argv, "x"), 0);
	assert_int_equal(wire_put_process(&b, &p), -EMSGSIZE);
	p.n_rlimits = 0;
	p.seccomp = &byte;
	p.seccomp_len = WIRE_SECCOMP_MAX + 1;
	assert_int_equal(wire_put_process(&b, &p), -EMSGSIZE);
	assert_int_equal(b.len, 0);
	p.seccomp = NULL;
	wire_process_done(&p);
	buf_done(&b);
}

static void statistics_survive_the_wire(void **state)
{
	struct wire_stats s, back = {0};
	uint64_t numbers[sizeof(s) / sizeof(uint64_t)];
	struct buf b = {0};

	for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
		numbers[i] = UINT64_MAX - i; /* all of its members are numbers, each another one */
	memcpy(&s, numbers, sizeof(s));
	assert_int_equal(wire_put_stats(&b, &s), 0);
	struct wire_frame f = only_frame(&b, WIRE_STATS);
	assert_int_equal(wire_get_stats(&f, &back), 0);
	assert_memory_equal(&back, &s, sizeof(s));
	buf_done(&b);
}

static struct wire_task some_task(uint32_t pid)
{
	return (struct wire_task){.pid = pid,
		.ppid = 2,
		.uid = 3,
		.gid = 4,
		.threads = 5,
		.nice = -20,
		.state = 'Z',
		.start_ns = 6,
		.cpu_ns = 7,
		.vsz = 8,
		.rss = 9,
		.tty = pid % 2 ? strdup("pts/0") : NULL,
		.name = strdup("n\n\xff"),
		.args = strdup("a b\033[2J")};
}

static void processes_survive_the_wire(void **state)
{
	struct wire_tasks t = {.v = calloc(WIRE_TASKS_MAX, sizeof(*t.v)), .n = WIRE_TASKS_MAX}, back;
	struct buf b = {0};

	assert_non_null(t.v);
	for (uint32_t i = 0; i < WIRE_TASKS_MAX; i++)
		t.v[i] = some_task(UINT32_MAX - i);
	assert_int_equal(wire_put_tasks(&b, &t), 0);
	struct wire_frame f = only_frame(&b, WIRE_TASKS);
	assert_int_equal(wire_get_tasks(&f, &back), 0);
	assert_int_equal(back.n, t.n);
	for (size_t i = 0; i < t.n; i++) {
		const struct wire_task *x = &t.v[i], *y = &back.v[i];
		assert_true(x->pid == y->pid && x->ppid == y->ppid && x->uid == y->uid && x->gid == y->gid &&
			    x->threads == y->threads && x->nice == y->nice && x->state == y->state &&
			    x->start_ns == y->start_ns && x->cpu_ns == y->cpu_ns && x->vsz == y->vsz &&
			    x->rss == y->rss);
		assert_int_equal(!x->tty, !y->tty);
		assert_string_equal(x->name, y->name);
		assert_string_equal(x->args, y->args);
	}
	wire_tasks_done(&back);
	t.n++;
	assert_int_equal(wire_put_tasks(&b, &t), -EMSGSIZE);
	t.n--;
	wire_tasks_done(&t);
	buf_done(&b);
}

static void the_longest_list_of_processes_fits(void **state)
{
	struct wire_tasks t = {.v = calloc(WIRE_TASKS_MAX, sizeof(*t.v)), .n = WIRE_TASKS_MAX};
	char args[WIRE_TASK_ARGS_MAX + 1], name[65];
	struct buf b = {0};

	assert_non_null(t.v);
	memset(args, 'x', sizeof(args) - 1);
	args[sizeof(args) - 1] = '\0';
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	for (size_t i = 0; i < t.n; i++)
		t.v[i] = (struct wire_task){.state = 'R',
			.tty = strdup("pts/1048575"),
			.name = strdup(name),
			.args = strdup(args)};
	assert_int_equal(wire_put_tasks(&b, &t), 0);
	wire_tasks_done(&t);
	buf_done(&b);
}

/* ---- malformed ---- */

enum { GET_LIMITS, GET_STATS, GET_TASKS, GET_CONFIG, GET_PROCESS };

static int decode(int getter, const struct buf *msg)
{
	/* A copy of its exact length, so that a sanitizer sees a read behind its end. */
	uint8_t *copy = malloc(msg->len + !msg->len);
	struct wire_frame f = {.len = (uint32_t)msg->len, .payload = copy};
	struct wire_limits l;
	struct wire_stats s;
	struct wire_tasks t;
	struct wire_config c;
	struct wire_process p;
	int r;

	assert_non_null(copy);
	memcpy(copy, buf_data(msg), msg->len);
	switch (getter) {
	case GET_LIMITS:
		if ((r = wire_get_limits(&f, &l)) == 0)
			wire_limits_done(&l);
		break;
	case GET_STATS:
		r = wire_get_stats(&f, &s);
		break;
	case GET_TASKS:
		if ((r = wire_get_tasks(&f, &t)) == 0)
			wire_tasks_done(&t);
		break;
	case GET_CONFIG:
		if ((r = wire_get_config(&f, &c)) == 0)
			wire_config_done(&c);
		break;
	default:
		if ((r = wire_get_process(&f, &p)) == 0)
			wire_process_done(&p);
	}
	free(copy);
	return r;
}

static void a_field_of_the_wrong_shape_is_refused(void **state)
{
	static const struct {
		int getter;
		uint8_t tag;
		const char *data;
		size_t len;
	} bad[] = {
		{GET_LIMITS, 1, "1234567", 7},
		{GET_LIMITS, 4, "0\0", 2},
		{GET_LIMITS, 8, "", 0},
		{GET_STATS, 1, "1234567", 7},
		{GET_STATS, 16, "123456789", 9},
		{GET_TASKS, 1, "", 0},	    /* a process without a name */
		{GET_TASKS, 1, "\x0d", 1},  /* a field of it that is cut */
		{GET_CONFIG, 7, "\x01", 1}, /* limits that are cut */
		{GET_CONFIG, 8, "1234", 4},
		{GET_CONFIG, 9, "a\0", 2},
		{GET_CONFIG, 10, "a\0", 2},
		{GET_CONFIG, 11, "a\0", 2},
		{GET_CONFIG, 12, "1", 1},
		{GET_PROCESS, 8, "1234567", 7},
		{GET_PROCESS, 9, "\0\0\0\0\0\0\x03\xe9", 8},		 /* 1001 */
		{GET_PROCESS, 9, "\xff\xff\xff\xff\xff\xff\xfc\x17", 8}, /* -1001 */
		{GET_PROCESS, 10, "12345678901234567890123", 23},
		{GET_PROCESS, 10, "\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
			24}, /* resource 2^32 */
		{GET_PROCESS, 11, "", 0},
		{GET_PROCESS, 11, "1234567", 7},
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct buf msg = {0};
		int r;
		assert_int_equal(wire_field_str(&msg, 2, bad[i].getter == GET_PROCESS ? "x" : NULL), 0);
		if (bad[i].getter != GET_PROCESS)
			assert_int_equal(wire_field_u64(&msg, 200, 1), 0);
		assert_int_equal(wire_field_bytes(&msg, bad[i].tag, bad[i].data, bad[i].len), 0);
		r = decode(bad[i].getter, &msg);
		if (r != -EBADMSG)
			fail_msg("case %zu: %d", i, r);
		buf_done(&msg);
	}
}

/* A process of a list, with one field put in. */
static int decode_task(uint8_t tag, uint64_t value)
{
	struct buf one = {0}, msg = {0};
	int r;

	assert_int_equal(wire_field_u64(&one, 7, 'R'), 0);
	assert_int_equal(wire_field_str(&one, 13, "n"), 0);
	assert_int_equal(wire_field_str(&one, 14, ""), 0);
	if (tag)
		assert_int_equal(wire_field_u64(&one, tag, value), 0);
	assert_int_equal(wire_field_bytes(&msg, 1, buf_data(&one), one.len), 0);
	r = decode(GET_TASKS, &msg);
	buf_done(&one);
	buf_done(&msg);
	return r;
}

static void wild_numbers_of_a_process_are_refused(void **state)
{
	assert_int_equal(decode_task(0, 0), 0);
	for (uint8_t tag = 1; tag <= 5; tag++) {
		assert_int_equal(decode_task(tag, UINT32_MAX), 0);
		assert_int_equal(decode_task(tag, 1ull << 32), -EBADMSG);
	}
	assert_int_equal(decode_task(6, (uint64_t)-20), 0);
	assert_int_equal(decode_task(6, (uint64_t)-21), -EBADMSG);
	assert_int_equal(decode_task(6, 20), -EBADMSG);
	/* It is printed as it is. */
	assert_int_equal(decode_task(7, 033), -EBADMSG);
	assert_int_equal(decode_task(7, 0), -EBADMSG);
	assert_int_equal(decode_task(7, 0x152), -EBADMSG);
	for (uint8_t tag = 8; tag <= 11; tag++)
		assert_int_equal(decode_task(tag, UINT64_MAX), 0);
}

static void lists_are_bounded(void **state)
{
	struct buf one = {0}, msg = {0};
	uint8_t rlimit[24] = {0};

	assert_int_equal(wire_field_u64(&one, 7, 'R'), 0);
	assert_int_equal(wire_field_str(&one, 13, "n"), 0);
	assert_int_equal(wire_field_str(&one, 14, ""), 0);
	for (int i = 0; i < WIRE_TASKS_MAX; i++)
		assert_int_equal(wire_field_bytes(&msg, 1, buf_data(&one), one.len), 0);
	assert_int_equal(decode(GET_TASKS, &msg), 0);
	assert_int_equal(wire_field_bytes(&msg, 1, buf_data(&one), one.len), 0);
	assert_int_equal(decode(GET_TASKS, &msg), -EBADMSG);
	buf_consume(&msg, msg.len);
	assert_int_equal(wire_field_str(&msg, 2, "x"), 0);
	for (int i = 0; i < WIRE_RLIMITS_MAX; i++)
		assert_int_equal(wire_field_bytes(&msg, 10, rlimit, sizeof(rlimit)), 0);
	assert_int_equal(decode(GET_PROCESS, &msg), 0);
	assert_int_equal(wire_field_bytes(&msg, 10, rlimit, sizeof(rlimit)), 0);
	assert_int_equal(decode(GET_PROCESS, &msg), -EBADMSG);
	buf_consume(&msg, msg.len);
	/* One filter only. */
	assert_int_equal(wire_field_str(&msg, 2, "x"), 0);
	assert_int_equal(wire_field_bytes(&msg, 11, "12345678", 8), 0);
	assert_int_equal(decode(GET_PROCESS, &msg), 0);
	assert_int_equal(wire_field_bytes(&msg, 11, "12345678", 8), 0);
	assert_int_equal(decode(GET_PROCESS, &msg), -EBADMSG);
	buf_done(&one);
	buf_done(&msg);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(limits_survive_the_wire_and_a_copy),
		cmocka_unit_test(limits_are_part_of_the_configuration),
		cmocka_unit_test(what_confines_a_process_survives_the_wire),
		cmocka_unit_test(too_much_confinement_is_not_sent),
		cmocka_unit_test(statistics_survive_the_wire),
		cmocka_unit_test(processes_survive_the_wire),
		cmocka_unit_test(the_longest_list_of_processes_fits),
		cmocka_unit_test(a_field_of_the_wrong_shape_is_refused),
		cmocka_unit_test(wild_numbers_of_a_process_are_refused),
		cmocka_unit_test(lists_are_bounded),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
