/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "fields.h"
#include "wire/tree.h"

int64_t wire_max_payload(uint8_t type)
{
	switch ((enum wire_type)type) {
	case WIRE_PING:
	case WIRE_PONG:
	case WIRE_READY:
	case WIRE_SHUTDOWN:
	case WIRE_BYE:
	case WIRE_STDIN_EOF:
	case WIRE_DETACH:
	case WIRE_DONE:
	case WIRE_GET_STATS:
	case WIRE_GET_TASKS:
	case WIRE_FREEZE:
	case WIRE_TREE_END:
		return 0;
	case WIRE_SIGNAL:
	case WIRE_STARTED:
	case WIRE_STDIN_CREDIT:
	case WIRE_RESIZE:
	case WIRE_EXIT:
		return 4;
	case WIRE_HELLO:
	case WIRE_FAIL:
	case WIRE_UPDATE:
	case WIRE_STATS:
	case WIRE_FORWARD:
		return 4096;
	case WIRE_COPY_OUT:
	case WIRE_COPY_IN:
		return 8192;
	case WIRE_CONTENT:
		return 8 + WIRE_DATA_MAX;
	case WIRE_ENTRY:
		return WIRE_ENTRY_MAX;
	case WIRE_STDIN:
	case WIRE_STDOUT:
	case WIRE_STDERR:
		return WIRE_DATA_MAX;
	case WIRE_CONFIG:
	case WIRE_START:
	case WIRE_TASKS:
	case WIRE_NETWORK:
		return WIRE_MESSAGE_MAX;
	case WIRE_CTL_REQUEST:
	case WIRE_CTL_REPLY:
		return 65536;
	}
	return -1;
}

void put_be32(uint8_t *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> (24 - 8 * i));
}

uint32_t get_be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

void put_be64(uint8_t *p, uint64_t v)
{
	put_be32(p, (uint32_t)(v >> 32));
	put_be32(p + 4, (uint32_t)v);
}

uint64_t get_be64(const uint8_t *p)
{
	return (uint64_t)get_be32(p) << 32 | get_be32(p + 4);
}

int wire_put(struct buf *out, enum wire_type type, const void *payload, size_t len)
{
	int64_t max = wire_max_payload((uint8_t)type);
	if (max < 0 || len > (uint64_t)max)
		return -EMSGSIZE;
	uint8_t *p = buf_reserve(out, WIRE_HEADER_SIZE + len);
	if (!p)
		return -ENOMEM;
	p[0] = (uint8_t)type;
	put_be32(p + 1, (uint32_t)len);
	if (len)
		memcpy(p + WIRE_HEADER_SIZE, payload, len);
	buf_commit(out, WIRE_HEADER_SIZE + len);
	return 0;
}

int wire_put_u32(struct buf *out, enum wire_type type, uint32_t value)
{
	uint8_t be[4];
	put_be32(be, value);
	return wire_put(out, type, be, sizeof(be));
}

int wire_put_resize(struct buf *out, uint16_t rows, uint16_t cols)
{
	return wire_put_u32(out, WIRE_RESIZE, (uint32_t)rows << 16 | cols);
}

int wire_next(const struct buf *in, struct wire_frame *ret)
{
	if (in->len < WIRE_HEADER_SIZE)
		return 0;
	const uint8_t *p = buf_data(in);
	uint32_t len = get_be32(p + 1);
	int64_t max = wire_max_payload(p[0]);
	if (max < 0 || len > (uint64_t)max)
		return -EBADMSG;
	if (in->len - WIRE_HEADER_SIZE < len)
		return 0;
	*ret = (struct wire_frame){.type = p[0], .len = len, .payload = p + WIRE_HEADER_SIZE};
	return 1;
}

void wire_consume(struct buf *in, const struct wire_frame *f)
{
	buf_consume(in, WIRE_HEADER_SIZE + f->len);
}

int wire_get_u32(const struct wire_frame *f, uint32_t *ret)
{
	if (f->len != 4)
		return -EBADMSG;
	*ret = get_be32(f->payload);
	return 0;
}

int wire_get_resize(const struct wire_frame *f, uint16_t *rows, uint16_t *cols)
{
	uint32_t v;
	int r = wire_get_u32(f, &v);
	if (r < 0)
		return r;
	*rows = (uint16_t)(v >> 16);
	*cols = (uint16_t)v;
	return 0;
}
