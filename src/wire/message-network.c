/* SPDX-License-Identifier: MIT */
/* A box's interfaces and names, and connections into it. Tags are part of the protocol: append, never renumber. */
#include <string.h>

#include "fields.h"

enum { NETWORK_NIC = 1 /* repeated; fields inside */, NETWORK_HOST = 2 /* repeated */, NETWORK_RESOLV = 3 };
enum {
	NIC_LINK = 1,
	NIC_NAME = 2,
	NIC_IP4 = 3,
	NIC_PREFIX4 = 4,
	NIC_GATEWAY4 = 5,
	NIC_IP6 = 6,
	NIC_PREFIX6 = 7,
	NIC_GATEWAY6 = 8,
	NIC_MTU = 9,
};
enum { FORWARD_ADDRESS = 1, FORWARD_PORT = 2 };

static void nic_done(struct wire_nic *n)
{
	free(n->name);
	free(n->ip4);
	free(n->ip6);
	free(n->gateway4);
	free(n->gateway6);
	*n = (struct wire_nic){0};
}

void wire_network_done(struct wire_network *n)
{
	for (size_t i = 0; i < n->n_nics; i++)
		nic_done(&n->nics[i]);
	strv_done(&n->hosts);
	free(n->resolv_conf);
	*n = (struct wire_network){0};
}

static int put_nic(struct buf *msg, const struct wire_nic *n)
{
	CLEANUP(buf_done) struct buf nic = {0};
	const struct {
		uint8_t tag;
		uint32_t value;
	} numbers[] = {
		{NIC_LINK, n->link}, {NIC_PREFIX4, n->prefix4}, {NIC_PREFIX6, n->prefix6}, {NIC_MTU, n->mtu}};
	const struct {
		uint8_t tag;
		const char *text;
	} texts[] = {{NIC_NAME, n->name}, {NIC_IP4, n->ip4}, {NIC_GATEWAY4, n->gateway4}, {NIC_IP6, n->ip6},
		{NIC_GATEWAY6, n->gateway6}};
	int r = 0;

	for (size_t i = 0; r == 0 && i < sizeof(numbers) / sizeof(numbers[0]); i++)
		r = wire_field_u64(&nic, numbers[i].tag, numbers[i].value);
	for (size_t i = 0; r == 0 && i < sizeof(texts) / sizeof(texts[0]); i++)
		r = wire_field_str(&nic, texts[i].tag, texts[i].text);
	return r < 0 ? r : wire_field_bytes(msg, NETWORK_NIC, buf_data(&nic), nic.len);
}

int wire_network_fields(struct buf *msg, const struct wire_network *n)
{
	int r = n->n_nics > WIRE_NICS_MAX ? -EMSGSIZE : 0;

	for (size_t i = 0; r == 0 && i < n->n_nics; i++)
		r = put_nic(msg, &n->nics[i]);
	if (r == 0)
		r = wire_field_list(msg, NETWORK_HOST, &n->hosts);
	return r < 0 ? r : wire_field_str(msg, NETWORK_RESOLV, n->resolv_conf);
}

int wire_put_network(struct buf *out, const struct wire_network *n)
{
	struct buf msg = {0};
	int r = wire_network_fields(&msg, n);

	return wire_put_message(out, WIRE_NETWORK, &msg, r);
}

static int get_u32(const struct wire_field *f, uint32_t max, uint32_t *ret)
{
	uint64_t v;
	int r = wire_field_get_u64(f, &v);

	if (r < 0 || v > max)
		return -EBADMSG;
	*ret = (uint32_t)v;
	return 0;
}

static int get_nic_field(const struct wire_field *f, struct wire_nic *n)
{
	switch (f->tag) {
	case NIC_LINK:
		return get_u32(f, WIRE_NICS_MAX - 1, &n->link);
	case NIC_NAME:
		return wire_field_get_str(f, &n->name);
	case NIC_IP4:
		return wire_field_get_str(f, &n->ip4);
	case NIC_PREFIX4:
		return get_u32(f, 32, &n->prefix4);
	case NIC_GATEWAY4:
		return wire_field_get_str(f, &n->gateway4);
	case NIC_IP6:
		return wire_field_get_str(f, &n->ip6);
	case NIC_PREFIX6:
		return get_u32(f, 128, &n->prefix6);
	case NIC_GATEWAY6:
		return wire_field_get_str(f, &n->gateway6);
	case NIC_MTU:
		return get_u32(f, UINT16_MAX, &n->mtu);
	default:
		return 0;
	}
}

static int get_nic(const struct wire_field *nic, struct wire_network *n)
{
	const uint8_t *p = nic->data, *end = p + nic->len;
	struct wire_field field;
	int r;

	if (n->n_nics == WIRE_NICS_MAX)
		return -EBADMSG;
	struct wire_nic *to = &n->nics[n->n_nics++];
	while ((r = wire_field_next(&p, end, &field)) > 0) {
		r = get_nic_field(&field, to);
		if (r < 0)
			return r;
	}
	return r;
}

int wire_network_parse(const uint8_t *p, size_t len, struct wire_network *ret)
{
	const uint8_t *end = p + len;
	struct wire_field field;
	int r;

	while ((r = wire_field_next(&p, end, &field)) > 0) {
		if (field.tag == NETWORK_NIC)
			r = get_nic(&field, ret);
		else if (field.tag == NETWORK_HOST)
			r = wire_field_push_str(&field, &ret->hosts);
		else if (field.tag == NETWORK_RESOLV)
			r = wire_field_get_str(&field, &ret->resolv_conf);
		if (r < 0)
			break;
	}
	if (r < 0)
		wire_network_done(ret);
	return r;
}

int wire_get_network(const struct wire_frame *f, struct wire_network *ret)
{
	*ret = (struct wire_network){0};
	return wire_network_parse(f->payload, f->len, ret);
}

/* ---- forward ---- */

void wire_forward_done(struct wire_forward *f)
{
	free(f->address);
	*f = (struct wire_forward){0};
}

int wire_put_forward(struct buf *out, const struct wire_forward *f)
{
	struct buf msg = {0};
	int r = wire_field_str(&msg, FORWARD_ADDRESS, f->address);

	if (r == 0)
		r = wire_field_u64(&msg, FORWARD_PORT, f->port);
	return wire_put_message(out, WIRE_FORWARD, &msg, r);
}

int wire_get_forward(const struct wire_frame *f, struct wire_forward *ret)
{
	const uint8_t *p = f->payload, *end = p + f->len;
	struct wire_forward fwd = {0};
	struct wire_field field;
	uint32_t port = 0;
	int r;

	while ((r = wire_field_next(&p, end, &field)) > 0) {
		if (field.tag == FORWARD_ADDRESS)
			r = wire_field_get_str(&field, &fwd.address);
		else if (field.tag == FORWARD_PORT)
			r = get_u32(&field, UINT16_MAX, &port);
		if (r < 0)
			break;
	}
	if (r == 0 && port == 0)
		r = -EBADMSG;
	if (r < 0) {
		wire_forward_done(&fwd);
		return r;
	}
	fwd.port = (uint16_t)port;
	*ret = fwd;
	return 0;
}
