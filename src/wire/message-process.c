/* SPDX-License-Identifier: MIT */
/* START: a process to run. Tags are part of the protocol: append, never renumber. */
#include <string.h>

#include "fields.h"

enum {
	PROC_FLAGS = 1,
	PROC_ARG = 2, /* repeated */
	PROC_ENV = 3, /* repeated */
	PROC_CWD = 4,
	PROC_USER = 5,
	PROC_GROUP = 6, /* repeated */
	PROC_SIZE = 7,	/* rows << 16 | columns */
	PROC_CAPS = 8,
	PROC_OOM_SCORE_ADJ = 9, /* two's complement */
	PROC_RLIMIT = 10,	/* repeated: u64 resource, soft, hard */
	PROC_SECCOMP = 11,
};
enum {
	PROC_FLAG_MAIN = 1,
	PROC_FLAG_TTY = 2,
	PROC_FLAG_STDIN = 4,
	PROC_FLAG_NO_NEW_PRIVS = 8,
	PROC_FLAG_INIT = 16
};

static int put_confinement(struct buf *msg, const struct wire_process *p)
{
	int r = p->n_rlimits > WIRE_RLIMITS_MAX || p->seccomp_len > WIRE_SECCOMP_MAX ? -EMSGSIZE : 0;

	if (r == 0)
		r = wire_field_u64(msg, PROC_CAPS, p->caps);
	if (r == 0)
		r = wire_field_u64(msg, PROC_OOM_SCORE_ADJ, (uint64_t)(int64_t)p->oom_score_adj);
	for (size_t i = 0; r == 0 && i < p->n_rlimits; i++) {
		uint8_t be[24];
		put_be64(be, p->rlimits[i].resource);
		put_be64(be + 8, p->rlimits[i].soft);
		put_be64(be + 16, p->rlimits[i].hard);
		r = wire_field_bytes(msg, PROC_RLIMIT, be, sizeof(be));
	}
	if (r == 0 && p->seccomp)
		r = wire_field_bytes(msg, PROC_SECCOMP, p->seccomp, p->seccomp_len);
	return r;
}

static int get_rlimit(const struct wire_field *f, struct wire_process *p)
{
	if (f->len != 24 || p->n_rlimits >= WIRE_RLIMITS_MAX || get_be64(f->data) > UINT32_MAX)
		return -EBADMSG;
	p->rlimits[p->n_rlimits++] = (struct wire_rlimit){.resource = (uint32_t)get_be64(f->data),
		.soft = get_be64(f->data + 8),
		.hard = get_be64(f->data + 16)};
	return 0;
}

/* Instructions of 8 bytes; the kernel checks what they say. */
static int get_seccomp(const struct wire_field *f, struct wire_process *p)
{
	if (f->len == 0 || f->len % 8 || f->len > WIRE_SECCOMP_MAX || p->seccomp)
		return -EBADMSG;
	p->seccomp = malloc(f->len);
	if (!p->seccomp)
		return -ENOMEM;
	memcpy(p->seccomp, f->data, f->len);
	p->seccomp_len = f->len;
	return 0;
}

int wire_put_process(struct buf *out, const struct wire_process *p)
{
	struct buf msg = {0};
	uint64_t flags = (p->main ? PROC_FLAG_MAIN : 0) | (p->tty ? PROC_FLAG_TTY : 0) |
			 (p->open_stdin ? PROC_FLAG_STDIN : 0) |
			 (p->no_new_privileges ? PROC_FLAG_NO_NEW_PRIVS : 0) | (p->init ? PROC_FLAG_INIT : 0);
	int r = wire_field_u64(&msg, PROC_FLAGS, flags);
	if (r == 0)
		r = wire_field_list(&msg, PROC_ARG, &p->argv);
	if (r == 0)
		r = wire_field_list(&msg, PROC_ENV, &p->env);
	if (r == 0)
		r = wire_field_str(&msg, PROC_CWD, p->cwd);
	if (r == 0)
		r = wire_field_str(&msg, PROC_USER, p->user);
	if (r == 0)
		r = wire_field_list(&msg, PROC_GROUP, &p->groups);
	if (r == 0)
		r = wire_field_u64(&msg, PROC_SIZE, (uint64_t)p->rows << 16 | p->cols);
	if (r == 0)
		r = put_confinement(&msg, p);
	return wire_put_message(out, WIRE_START, &msg, r);
}

void wire_process_done(struct wire_process *p)
{
	strv_done(&p->argv);
	strv_done(&p->env);
	strv_done(&p->groups);
	free(p->cwd);
	free(p->user);
	free(p->seccomp);
	*p = (struct wire_process){0};
}

static int get_process_field(const struct wire_field *f, struct wire_process *p)
{
	uint64_t v;
	int r = 0;

	switch (f->tag) {
	case PROC_FLAGS:
		r = wire_field_get_u64(f, &v);
		if (r == 0) {
			p->main = v & PROC_FLAG_MAIN;
			p->tty = v & PROC_FLAG_TTY;
			p->open_stdin = v & PROC_FLAG_STDIN;
			p->no_new_privileges = v & PROC_FLAG_NO_NEW_PRIVS;
			p->init = v & PROC_FLAG_INIT;
		}
		return r;
	case PROC_ARG:
		return wire_field_push_str(f, &p->argv);
	case PROC_ENV:
		return wire_field_push_str(f, &p->env);
	case PROC_CWD:
		return wire_field_get_str(f, &p->cwd);
	case PROC_USER:
		return wire_field_get_str(f, &p->user);
	case PROC_GROUP:
		return wire_field_push_str(f, &p->groups);
	case PROC_SIZE:
		r = wire_field_get_u64(f, &v);
		if (r == 0) {
			p->rows = (uint16_t)(v >> 16);
			p->cols = (uint16_t)v;
		}
		return r;
	case PROC_CAPS:
		return wire_field_get_u64(f, &p->caps);
	case PROC_OOM_SCORE_ADJ:
		r = wire_field_get_u64(f, &v);
		if (r == 0 && ((int64_t)v < -1000 || (int64_t)v > 1000))
			r = -EBADMSG;
		if (r == 0)
			p->oom_score_adj = (int)(int64_t)v;
		return r;
	case PROC_RLIMIT:
		return get_rlimit(f, p);
	case PROC_SECCOMP:
		return get_seccomp(f, p);
	default:
		return 0;
	}
}

int wire_get_process(const struct wire_frame *f, struct wire_process *ret)
{
	const uint8_t *p = f->payload, *end = p + f->len;
	struct wire_process proc = {0};
	struct wire_field field;
	int r;

	while ((r = wire_field_next(&p, end, &field)) > 0) {
		r = get_process_field(&field, &proc);
		if (r < 0)
			break;
	}
	if (r == 0 && proc.argv.n == 0)
		r = -EBADMSG;
	if (r < 0) {
		wire_process_done(&proc);
		return r;
	}
	*ret = proc;
	return 0;
}
