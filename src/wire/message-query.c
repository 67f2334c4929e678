/* SPDX-License-Identifier: MIT */
/* Limits, statistics, processes. Tags are part of the protocol: append, never renumber. */
#include <string.h>

#include "fields.h"

/* A structure's numbers: tag and place. */
struct number {
	uint8_t tag;
	size_t offset;
};
#define LIMIT(tag, member) \
	{ \
		tag, offsetof(struct wire_limits, member) \
	}
#define STAT(tag, member) \
	{ \
		tag, offsetof(struct wire_stats, member) \
	}

enum { LIMITS_CPUSET = 4 };
static const struct number limits_numbers[] = {LIMIT(1, cpu_shares), LIMIT(2, cpu_quota_us),
	LIMIT(3, cpu_period_us), LIMIT(5, mem_max), LIMIT(6, mem_reservation), LIMIT(7, swap_max),
	LIMIT(8, pids_max)};
static const struct number stats_numbers[] = {STAT(1, uptime_ns), STAT(2, cpu_usage_ns), STAT(3, cpu_user_ns),
	STAT(4, cpu_system_ns), STAT(5, cpu_throttled_ns), STAT(6, cpus), STAT(7, mem_usage),
	STAT(8, mem_cache), STAT(9, mem_limit), STAT(10, blk_read), STAT(11, blk_written),
	STAT(12, net_received), STAT(13, net_sent), STAT(14, pids), STAT(15, pids_limit),
	STAT(16, oom_kills)};

/* TASKS: one field per process, of fields. */
enum { TASKS_TASK = 1 };
enum {
	TASK_PID = 1,
	TASK_PPID = 2,
	TASK_UID = 3,
	TASK_GID = 4,
	TASK_THREADS = 5,
	TASK_NICE = 6, /* two's complement */
	TASK_STATE = 7,
	TASK_START = 8,
	TASK_CPU = 9,
	TASK_VSZ = 10,
	TASK_RSS = 11,
	TASK_TTY = 12,
	TASK_NAME = 13,
	TASK_ARGS = 14,
};

static int put_numbers(struct buf *msg, const struct number *numbers, size_t n, const void *base)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++) {
		uint64_t v;
		memcpy(&v, (const char *)base + numbers[i].offset, sizeof(v));
		r = wire_field_u64(msg, numbers[i].tag, v);
	}
	return r;
}

static int get_number(const struct wire_field *f, const struct number *numbers, size_t n, void *base)
{
	for (size_t i = 0; i < n; i++) {
		uint64_t v;
		if (numbers[i].tag != f->tag)
			continue;
		int r = wire_field_get_u64(f, &v);
		if (r == 0)
			memcpy((char *)base + numbers[i].offset, &v, sizeof(v));
		return r;
	}
	return 0;
}

/* ---- limits ---- */

void wire_limits_done(struct wire_limits *l)
{
	free(l->cpuset);
	*l = (struct wire_limits){0};
}

int wire_limits_copy(struct wire_limits *dst, const struct wire_limits *src)
{
	struct wire_limits l = *src;

	if (src->cpuset && !(l.cpuset = strdup(src->cpuset)))
		return -ENOMEM;
	wire_limits_done(dst);
	*dst = l;
	return 0;
}

int wire_limits_fields(struct buf *msg, const struct wire_limits *l)
{
	int r = put_numbers(msg, limits_numbers, ARRAY_LEN(limits_numbers), l);
	return r < 0 ? r : wire_field_str(msg, LIMITS_CPUSET, l->cpuset);
}

int wire_limits_parse(const uint8_t *p, size_t len, struct wire_limits *ret)
{
	const uint8_t *end = p + len;
	struct wire_limits l = {0};
	struct wire_field f;
	int r;

	wire_limits_done(ret); /* a field that comes twice */
	while ((r = wire_field_next(&p, end, &f)) > 0) {
		r = f.tag == LIMITS_CPUSET ? wire_field_get_str(&f, &l.cpuset)
					   : get_number(&f, limits_numbers, ARRAY_LEN(limits_numbers), &l);
		if (r < 0)
			break;
	}
	if (r < 0) {
		wire_limits_done(&l);
		return r;
	}
	*ret = l;
	return 0;
}

int wire_put_limits(struct buf *out, const struct wire_limits *l)
{
	struct buf msg = {0};
	return wire_put_message(out, WIRE_UPDATE, &msg, wire_limits_fields(&msg, l));
}

int wire_get_limits(const struct wire_frame *f, struct wire_limits *ret)
{
	*ret = (struct wire_limits){0};
	return wire_limits_parse(f->payload, f->len, ret);
}

/* ---- statistics ---- */

int wire_put_stats(struct buf *out, const struct wire_stats *s)
{
	struct buf msg = {0};
	int r = put_numbers(&msg, stats_numbers, ARRAY_LEN(stats_numbers), s);
	return wire_put_message(out, WIRE_STATS, &msg, r);
}

int wire_get_stats(const struct wire_frame *f, struct wire_stats *ret)
{
	const uint8_t *p = f->payload, *end = p + f->len;
	struct wire_stats s = {0};
	struct wire_field field;
	int r;

	while ((r = wire_field_next(&p, end, &field)) > 0) {
		r = get_number(&field, stats_numbers, ARRAY_LEN(stats_numbers), &s);
		if (r < 0)
			return r;
	}
	if (r == 0)
		*ret = s;
	return r;
}

/* ---- processes ---- */

static void task_done(struct wire_task *t)
{
	free(t->tty);
	free(t->name);
	free(t->args);
}

void wire_tasks_done(struct wire_tasks *t)
{
	for (size_t i = 0; i < t->n; i++)
		task_done(&t->v[i]);
	free(t->v);
	*t = (struct wire_tasks){0};
}

static int task_fields(struct buf *msg, const struct wire_task *t)
{
	const struct {
		uint8_t tag;
		uint64_t value;
	} numbers[] = {{TASK_PID, t->pid}, {TASK_PPID, t->ppid}, {TASK_UID, t->uid}, {TASK_GID, t->gid},
		{TASK_THREADS, t->threads}, {TASK_NICE, (uint64_t)(int64_t)t->nice},
		{TASK_STATE, (uint8_t)t->state}, {TASK_START, t->start_ns}, {TASK_CPU, t->cpu_ns},
		{TASK_VSZ, t->vsz}, {TASK_RSS, t->rss}};
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_LEN(numbers); i++)
		r = wire_field_u64(msg, numbers[i].tag, numbers[i].value);
	if (r == 0)
		r = wire_field_str(msg, TASK_TTY, t->tty);
	if (r == 0)
		r = wire_field_str(msg, TASK_NAME, t->name);
	return r < 0 ? r : wire_field_str(msg, TASK_ARGS, t->args);
}

int wire_put_tasks(struct buf *out, const struct wire_tasks *t)
{
	struct buf msg = {0};
	int r = t->n > WIRE_TASKS_MAX ? -EMSGSIZE : 0;

	for (size_t i = 0; r == 0 && i < t->n; i++) {
		CLEANUP(buf_done) struct buf one = {0};
		r = task_fields(&one, &t->v[i]);
		if (r == 0)
			r = wire_field_bytes(&msg, TASKS_TASK, buf_data(&one), one.len);
	}
	return wire_put_message(out, WIRE_TASKS, &msg, r);
}

static int get_task_number(const struct wire_field *f, struct wire_task *t)
{
	uint64_t v;
	int r = wire_field_get_u64(f, &v);

	if (r < 0)
		return r;
	if (f->tag <= TASK_THREADS && v > UINT32_MAX)
		return -EBADMSG;
	switch (f->tag) {
	case TASK_PID:
		t->pid = (uint32_t)v;
		break;
	case TASK_PPID:
		t->ppid = (uint32_t)v;
		break;
	case TASK_UID:
		t->uid = (uint32_t)v;
		break;
	case TASK_GID:
		t->gid = (uint32_t)v;
		break;
	case TASK_THREADS:
		t->threads = (uint32_t)v;
		break;
	case TASK_NICE:
		if ((int64_t)v < -20 || (int64_t)v > 19)
			return -EBADMSG;
		t->nice = (int32_t)(int64_t)v;
		break;
	case TASK_STATE:
		if (v < 0x21 || v > 0x7e)
			return -EBADMSG;
		t->state = (char)v;
		break;
	case TASK_START:
		t->start_ns = v;
		break;
	case TASK_CPU:
		t->cpu_ns = v;
		break;
	case TASK_VSZ:
		t->vsz = v;
		break;
	default:
		t->rss = v;
	}
	return 0;
}

static int get_task(const uint8_t *p, size_t len, struct wire_task *t)
{
	const uint8_t *end = p + len;
	struct wire_field f;
	int r;

	while ((r = wire_field_next(&p, end, &f)) > 0) {
		if (f.tag >= TASK_PID && f.tag <= TASK_RSS)
			r = get_task_number(&f, t);
		else if (f.tag == TASK_TTY)
			r = wire_field_get_str(&f, &t->tty);
		else if (f.tag == TASK_NAME)
			r = wire_field_get_str(&f, &t->name);
		else if (f.tag == TASK_ARGS)
			r = wire_field_get_str(&f, &t->args);
		if (r < 0)
			return r;
	}
	if (r == 0 && (!t->name || !t->args || !t->state))
		r = -EBADMSG;
	return r;
}

int wire_get_tasks(const struct wire_frame *f, struct wire_tasks *ret)
{
	const uint8_t *p = f->payload, *end = p + f->len;
	struct wire_tasks t = {0};
	struct wire_field field;
	int r;

	while ((r = wire_field_next(&p, end, &field)) > 0) {
		if (field.tag != TASKS_TASK)
			continue;
		struct wire_task *v = t.n < WIRE_TASKS_MAX ? realloc(t.v, (t.n + 1) * sizeof(*v)) : NULL;
		if (!v) {
			r = t.n < WIRE_TASKS_MAX ? -ENOMEM : -EBADMSG;
			break;
		}
		t.v = v;
		t.v[t.n++] = (struct wire_task){0};
		r = get_task(field.data, field.len, &t.v[t.n - 1]);
		if (r < 0)
			break;
	}
	if (r < 0) {
		wire_tasks_done(&t);
		return r;
	}
	*ret = t;
	return 0;
}
