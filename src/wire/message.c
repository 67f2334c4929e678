/* SPDX-License-Identifier: MIT */
/* Messages as lists of tagged fields. Tags are part of the protocol: append, never renumber. */
#include <string.h>

#include "fields.h"

enum { HELLO_VERSION = 1, HELLO_RELEASE = 2 };
enum { FAIL_STATUS = 1, FAIL_TEXT = 2 };
enum {
	CONFIG_HOSTNAME = 1,
	CONFIG_HOST = 2, /* repeated */
	CONFIG_RESOLV = 3,
	CONFIG_REAL_NS = 4,
	CONFIG_ENTROPY = 5,
	CONFIG_READ_ONLY = 6,
};
enum {
	PROC_FLAGS = 1,
	PROC_ARG = 2, /* repeated */
	PROC_ENV = 3, /* repeated */
	PROC_CWD = 4,
	PROC_USER = 5,
	PROC_GROUP = 6, /* repeated */
	PROC_SIZE = 7,	/* rows << 16 | columns */
};
enum { PROC_FLAG_MAIN = 1, PROC_FLAG_TTY = 2, PROC_FLAG_STDIN = 4 };

static int put_message(struct buf *out, enum wire_type type, struct buf *msg, int r)
{
	if (r == 0)
		r = wire_put(out, type, msg->mem ? buf_data(msg) : NULL, msg->len);
	buf_done(msg);
	return r;
}

static int put_list(struct buf *msg, uint8_t tag, const struct strv *list)
{
	int r = list->n > WIRE_LIST_MAX ? -EMSGSIZE : 0; /* the receiver would refuse it */
	for (size_t i = 0; r == 0 && i < list->n; i++)
		r = wire_field_str(msg, tag, list->v[i]);
	return r;
}

int wire_put_fail(struct buf *out, uint32_t status, const char *text)
{
	struct buf msg = {0};
	int r = wire_field_u64(&msg, FAIL_STATUS, status);
	if (r == 0)
		r = wire_field_bytes(&msg, FAIL_TEXT, text, strnlen(text, 4000));
	return put_message(out, WIRE_FAIL, &msg, r);
}

int wire_get_fail(const struct wire_frame *f, uint32_t *status, char **text)
{
	const uint8_t *p = f->payload, *end = p + f->len;
	struct wire_field field;
	CLEANUP_FREE char *s = NULL;
	uint64_t v = 125;
	int r;

	while ((r = wire_field_next(&p, end, &field)) > 0) {
		if (field.tag == FAIL_STATUS)
			r = wire_field_get_u64(&field, &v);
		else if (field.tag == FAIL_TEXT)
			r = wire_field_get_str(&field, &s);
		if (r < 0)
			return r;
	}
	if (r < 0)
		return r;
	if (v > 255)
		return -EBADMSG;
	if (!s && !(s = strdup("")))
		return -ENOMEM;
	*status = (uint32_t)v;
	*text = TAKE_PTR(s);
	return 0;
}

int wire_put_hello(struct buf *out, const struct wire_hello *h)
{
	struct buf msg = {0};
	int r = wire_field_u64(&msg, HELLO_VERSION, h->version);
	if (r == 0)
		r = wire_field_str(&msg, HELLO_RELEASE, h->release);
	return put_message(out, WIRE_HELLO, &msg, r);
}

void wire_hello_done(struct wire_hello *h)
{
	free(h->release);
	*h = (struct wire_hello){0};
}

int wire_get_hello(const struct wire_frame *f, struct wire_hello *ret)
{
	const uint8_t *p = f->payload, *end = p + f->len;
	struct wire_hello h = {0};
	struct wire_field field;
	uint64_t v;
	int r;

	while ((r = wire_field_next(&p, end, &field)) > 0) {
		if (field.tag == HELLO_VERSION) {
			r = wire_field_get_u64(&field, &v);
			if (r == 0 && v > UINT32_MAX)
				r = -EBADMSG;
			if (r == 0)
				h.version = (uint32_t)v;
		} else if (field.tag == HELLO_RELEASE) {
			r = wire_field_get_str(&field, &h.release);
		}
		if (r < 0)
			break;
	}
	if (r < 0) {
		wire_hello_done(&h);
		return r;
	}
	*ret = h;
	return 0;
}

int wire_put_config(struct buf *out, const struct wire_config *c)
{
	struct buf msg = {0};
	int r = wire_field_str(&msg, CONFIG_HOSTNAME, c->hostname);
	if (r == 0)
		r = put_list(&msg, CONFIG_HOST, &c->hosts);
	if (r == 0)
		r = wire_field_str(&msg, CONFIG_RESOLV, c->resolv_conf);
	if (r == 0)
		r = wire_field_u64(&msg, CONFIG_REAL_NS, (uint64_t)c->real_ns);
	if (r == 0)
		r = wire_field_bytes(&msg, CONFIG_ENTROPY, c->entropy, sizeof(c->entropy));
	if (r == 0)
		r = wire_field_u64(&msg, CONFIG_READ_ONLY, c->read_only);
	return put_message(out, WIRE_CONFIG, &msg, r);
}

void wire_config_done(struct wire_config *c)
{
	free(c->hostname);
	strv_done(&c->hosts);
	free(c->resolv_conf);
	explicit_bzero(c, sizeof(*c));
}

static int get_config_field(const struct wire_field *f, struct wire_config *c)
{
	uint64_t v;
	int r = 0;

	switch (f->tag) {
	case CONFIG_HOSTNAME:
		return wire_field_get_str(f, &c->hostname);
	case CONFIG_HOST:
		return wire_field_push_str(f, &c->hosts);
	case CONFIG_RESOLV:
		return wire_field_get_str(f, &c->resolv_conf);
	case CONFIG_REAL_NS:
		r = wire_field_get_u64(f, &v);
		if (r == 0)
			c->real_ns = (int64_t)v;
		return r;
	case CONFIG_ENTROPY:
		if (f->len != sizeof(c->entropy))
			return -EBADMSG;
		memcpy(c->entropy, f->data, sizeof(c->entropy));
		return 0;
	case CONFIG_READ_ONLY:
		r = wire_field_get_u64(f, &v);
		if (r == 0)
			c->read_only = v != 0;
		return r;
	default:
		return 0;
	}
}

int wire_get_config(const struct wire_frame *f, struct wire_config *ret)
{
	const uint8_t *p = f->payload, *end = p + f->len;
	struct wire_config c = {0};
	struct wire_field field;
	int r;

	while ((r = wire_field_next(&p, end, &field)) > 0) {
		r = get_config_field(&field, &c);
		if (r < 0)
			break;
	}
	if (r < 0) {
		wire_config_done(&c);
		return r;
	}
	*ret = c;
	return 0;
}

int wire_put_process(struct buf *out, const struct wire_process *p)
{
	struct buf msg = {0};
	uint64_t flags = (p->main ? PROC_FLAG_MAIN : 0) | (p->tty ? PROC_FLAG_TTY : 0) |
			 (p->open_stdin ? PROC_FLAG_STDIN : 0);
	int r = wire_field_u64(&msg, PROC_FLAGS, flags);
	if (r == 0)
		r = put_list(&msg, PROC_ARG, &p->argv);
	if (r == 0)
		r = put_list(&msg, PROC_ENV, &p->env);
	if (r == 0)
		r = wire_field_str(&msg, PROC_CWD, p->cwd);
	if (r == 0)
		r = wire_field_str(&msg, PROC_USER, p->user);
	if (r == 0)
		r = put_list(&msg, PROC_GROUP, &p->groups);
	if (r == 0)
		r = wire_field_u64(&msg, PROC_SIZE, (uint64_t)p->rows << 16 | p->cols);
	return put_message(out, WIRE_START, &msg, r);
}

void wire_process_done(struct wire_process *p)
{
	strv_done(&p->argv);
	strv_done(&p->env);
	strv_done(&p->groups);
	free(p->cwd);
	free(p->user);
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
