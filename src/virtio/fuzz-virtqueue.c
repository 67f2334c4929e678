/* SPDX-License-Identifier: MIT */
/*
 * A guest that writes what it likes into its memory, rings included, while the device works on a queue.
 * Input: u8 log2 of the size, u8 flags (1 EVENT_IDX, 2 INDIRECT_DESC, 4 two regions), u16 start index; u16
 * length of an image that is laid over the rings (laid out below) in that many bytes; the rest are steps of 5
 * bytes: u8 what, u16 offset, u16 value.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/cleanup.h"
#include "virtio/virtqueue.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MEM = 65536, GPA = 0x1000, SPLIT = 32768 };

/* Rings close together at the start, so that a short image reaches all of them. */
enum { AVAIL_AT = 0, USED_AT = 0x100, DESC_AT = 0x200, IMAGE_AT = 0 };

static uint8_t sink;

/* Touches each byte that the device would, so that the sanitizer sees an address that is not the guest's. */
static void use_chain(const struct vq_chain *c)
{
	uint64_t out = 0, in = 0;

	for (unsigned i = 0; i < c->n_out + c->n_in; i++) {
		uint8_t *p = c->iov[i].iov_base;
		size_t n = c->iov[i].iov_len;
		if (n == 0)
			__builtin_trap();
		if (i < c->n_out) {
			sink ^= p[0] ^ p[n - 1];
			out += n;
		} else {
			in += n;
		}
	}
	if (out != c->out_len || in != c->in_len)
		__builtin_trap();
}

static uint16_t u16_at(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static void step(
	struct vq *q, struct vq_chain *c, uint8_t *mem, uint16_t head[], unsigned *n_head, const uint8_t *s)
{
	uint16_t off = u16_at(s + 1), value = u16_at(s + 3);
	int r;

	switch (s[0] % 8) {
	case 0: /* the guest writes */
	case 1:
		memcpy(mem + MIN_OF(off, MEM - 2), &value, 2);
		break;
	case 2: /* the guest offers one more */
		memcpy(mem + AVAIL_AT + 4 + 2 * (u16_at(mem + AVAIL_AT + 2) % q->conf.size), &off, 2);
		value = u16_at(mem + AVAIL_AT + 2) + 1;
		memcpy(mem + AVAIL_AT + 2, &value, 2);
		break;
	case 3:
	case 4:
		r = vq_pop(q, c);
		if (r > 0) {
			use_chain(c);
			if (*n_head >= VQ_SIZE_MAX)
				__builtin_trap(); /* more under way than the queue holds */
			head[(*n_head)++] = c->head;
			if (value & 1) {
				vq_unpop(q);
				(*n_head)--;
			}
		} else if (r < 0 && !q->why) {
			__builtin_trap();
		}
		break;
	case 5:
		if (*n_head)
			vq_push(q, head[--*n_head], value);
		break;
	case 6:
		(void)vq_should_notify(q);
		break;
	default:
		vq_disable_notify(q);
		(void)vq_enable_notify(q);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint16_t head[VQ_SIZE_MAX];
	static struct vq_chain chain;
	unsigned n_head = 0;
	struct vq q;

	if (size < 6)
		return 0;
	/* Each half its own allocation: an overrun of a region is seen. */
	uint8_t *mem = aligned_alloc(4096, MEM);
	if (!mem)
		return 0;
	memset(mem, 0, MEM);
	struct guest_mem gm = {.n_regions = 1};
	gm.regions[0] = (struct guest_mem_region){.gpa = GPA, .len = MEM, .host = mem, .uaddr = GPA};
	if (data[1] & 4) {
		gm.n_regions = 2;
		gm.regions[0].len = SPLIT;
		gm.regions[1] = (struct guest_mem_region){
			.gpa = 1ULL << 33, .len = MEM - SPLIT, .host = mem + SPLIT, .uaddr = 1ULL << 33};
	}
	const struct vq_config conf = {
		.size = (uint16_t)(1U << (data[0] % 5)),
		.event_idx = data[1] & 1,
		.indirect = data[1] & 2,
		.next_avail = u16_at(data + 2),
		.desc = GPA + DESC_AT,
		.avail = GPA + AVAIL_AT,
		.used = GPA + USED_AT,
	};
	size_t image = MIN_OF(MIN_OF(u16_at(data + 4), size - 6), MEM);
	uint16_t idx = conf.next_avail;
	memcpy(mem + AVAIL_AT + 2, &idx, 2);
	memcpy(mem + IMAGE_AT, data + 6, image);
	if (vq_init(&q, &gm, &conf) < 0)
		__builtin_trap();
	for (size_t at = 6 + image; at + 5 <= size; at += 5)
		step(&q, &chain, mem, head, &n_head, data + at);
	for (int i = 0; i < 64 && vq_pop(&q, &chain) > 0; i++) {
		use_chain(&chain);
		vq_push(&q, chain.head, 0);
	}
	vq_stop(&q);
	free(mem);
	return 0;
}
