/* SPDX-License-Identifier: MIT */
/* Messages as lists of tagged fields: greeting and configuration. Tags are protocol: append, never renumber. */
#include <string.h>

#include "fields.h"

enum { HELLO_VERSION = 1, HELLO_RELEASE = 2 };
enum { FAIL_STATUS = 1, FAIL_TEXT = 2 };
enum {
	CONFIG_HOSTNAME = 1,
	/* 2 and 3 are retired */
	CONFIG_REAL_NS = 4,
	CONFIG_ENTROPY = 5,
	CONFIG_READ_ONLY = 6,
	CONFIG_LIMITS = 7, /* fields of limits inside */
	CONFIG_SHM = 8,
	CONFIG_TMPFS = 9, /* repeated, as are the next two */
	CONFIG_SYSCTL = 10,
	CONFIG_DEVICE = 11,
	CONFIG_FLAGS = 12,
	CONFIG_NETWORK = 13, /* fields of a network inside */
	CONFIG_MOUNT = 14,   /* repeated, in the exports' order; fields of a mount inside */
};
enum { CONFIG_FLAG_PRIVILEGED = 1, CONFIG_FLAG_UNMASKED = 2, CONFIG_FLAG_USER_NS = 4 };

int wire_put_fail(struct buf *out, uint32_t status, const char *text)
{
	struct buf msg = {0};
	int r = wire_field_u64(&msg, FAIL_STATUS, status);
	if (r == 0)
		r = wire_field_bytes(&msg, FAIL_TEXT, text, strnlen(text, 4000));
	return wire_put_message(out, WIRE_FAIL, &msg, r);
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
	return wire_put_message(out, WIRE_HELLO, &msg, r);
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

static int put_config_settings(struct buf *msg, const struct wire_config *c)
{
	CLEANUP(buf_done) struct buf limits = {0}, network = {0};
	uint64_t flags = (c->privileged ? CONFIG_FLAG_PRIVILEGED : 0) |
			 (c->unmasked ? CONFIG_FLAG_UNMASKED : 0) |
			 (c->user_namespace ? CONFIG_FLAG_USER_NS : 0);
	int r = wire_limits_fields(&limits, &c->limits);

	if (r == 0 && limits.len)
		r = wire_field_bytes(msg, CONFIG_LIMITS, buf_data(&limits), limits.len);
	if (r == 0)
		r = wire_network_fields(&network, &c->network);
	if (r == 0 && network.len)
		r = wire_field_bytes(msg, CONFIG_NETWORK, buf_data(&network), network.len);
	if (r == 0)
		r = wire_field_u64(msg, CONFIG_SHM, c->shm_bytes);
	if (r == 0)
		r = wire_field_list(msg, CONFIG_TMPFS, &c->tmpfs);
	if (r == 0)
		r = wire_field_list(msg, CONFIG_SYSCTL, &c->sysctls);
	if (r == 0)
		r = wire_field_list(msg, CONFIG_DEVICE, &c->devices);
	if (r == 0)
		r = wire_mounts_fields(msg, CONFIG_MOUNT, c->mounts, c->n_mounts);
	return r < 0 ? r : wire_field_u64(msg, CONFIG_FLAGS, flags);
}

int wire_put_config(struct buf *out, const struct wire_config *c)
{
	struct buf msg = {0};
	int r = wire_field_str(&msg, CONFIG_HOSTNAME, c->hostname);
	if (r == 0)
		r = wire_field_u64(&msg, CONFIG_REAL_NS, (uint64_t)c->real_ns);
	if (r == 0)
		r = wire_field_bytes(&msg, CONFIG_ENTROPY, c->entropy, sizeof(c->entropy));
	if (r == 0)
		r = wire_field_u64(&msg, CONFIG_READ_ONLY, c->read_only);
	if (r == 0)
		r = put_config_settings(&msg, c);
	return wire_put_message(out, WIRE_CONFIG, &msg, r);
}

void wire_config_done(struct wire_config *c)
{
	free(c->hostname);
	wire_network_done(&c->network);
	wire_limits_done(&c->limits);
	strv_done(&c->tmpfs);
	strv_done(&c->sysctls);
	strv_done(&c->devices);
	for (size_t i = 0; i < c->n_mounts; i++)
		wire_mount_done(&c->mounts[i]);
	free(c->mounts);
	explicit_bzero(c, sizeof(*c));
}

static int get_config_field(const struct wire_field *f, struct wire_config *c)
{
	uint64_t v;
	int r = 0;

	switch (f->tag) {
	case CONFIG_HOSTNAME:
		return wire_field_get_str(f, &c->hostname);
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
	case CONFIG_LIMITS:
		return wire_limits_parse(f->data, f->len, &c->limits);
	case CONFIG_NETWORK:
		wire_network_done(&c->network);
		return wire_network_parse(f->data, f->len, &c->network);
	case CONFIG_SHM:
		return wire_field_get_u64(f, &c->shm_bytes);
	case CONFIG_TMPFS:
		return wire_field_push_str(f, &c->tmpfs);
	case CONFIG_SYSCTL:
		return wire_field_push_str(f, &c->sysctls);
	case CONFIG_DEVICE:
		return wire_field_push_str(f, &c->devices);
	case CONFIG_MOUNT:
		return wire_mounts_push(f, &c->mounts, &c->n_mounts);
	case CONFIG_FLAGS:
		r = wire_field_get_u64(f, &v);
		if (r == 0) {
			c->privileged = v & CONFIG_FLAG_PRIVILEGED;
			c->unmasked = v & CONFIG_FLAG_UNMASKED;
			c->user_namespace = v & CONFIG_FLAG_USER_NS;
		}
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
