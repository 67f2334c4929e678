/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * A split virtqueue is three arrays in guest memory. The driver publishes heads of descriptor chains in the
 * available ring and we return them through the used ring; both indices run freely over 16 bits. What belongs
 * to the driver is read with acquire order after its index, what belongs to us is published with release
 * order before ours.
 *
 * Everything that the driver wrote may change under our hands. So a descriptor is copied to the stack
 * once, with a compiler barrier after the copy, and only the copy is judged and used. Ring addresses are
 * resolved to host pointers once, when the queue starts, for their whole length; buffers are resolved one
 * descriptor at a time. Work per chain is bounded by the queue size, whatever the chain does (2.7.5.2 forbids
 * loops, we count).
 *
 * State: stopped -> vq_init -> usable -> (rule broken) -> broken; vq_stop leads back to stopped from either.
 * While broken, every operation is a no-op or fails, so that devices need no checks of their own on each
 * line.
 */
#include "virtio/virtqueue.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

/* 2.7.5: struct virtq_desc and its flags */
struct vring_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
	uint16_t next;
};
_Static_assert(sizeof(struct vring_desc) == 16, "2.7.5");

enum { DESC_F_NEXT = 1, DESC_F_WRITE = 2, DESC_F_INDIRECT = 4 };
enum { AVAIL_F_NO_INTERRUPT = 1 }; /* 2.7.6 */
enum { USED_F_NO_NOTIFY = 1 };	   /* 2.7.8 */

/* 2.7.6 and 2.7.8: both rings start with le16 flags, le16 idx; used elements are 8 bytes, the others 2. */
enum { RING_FLAGS = 0, RING_IDX = 2, RING_ENTRIES = 4, AVAIL_ENTRY = 2, USED_ENTRY = 8 };

/* An indirect table longer than any queue may be holds descriptors that no chain can use (2.7.5.3.1). */
#define INDIRECT_ENTRIES_MAX 32768

static inline uint16_t *ring16(uint8_t *ring, size_t off)
{
	return (uint16_t *)(void *)(ring + off); /* alignment was checked by vq_init */
}

static inline uint16_t load_le16(uint8_t *ring, size_t off, int order)
{
	uint16_t v = order == __ATOMIC_ACQUIRE ? __atomic_load_n(ring16(ring, off), __ATOMIC_ACQUIRE)
					       : __atomic_load_n(ring16(ring, off), __ATOMIC_RELAXED);
	return le16toh(v);
}

static inline void store_le16(uint8_t *ring, size_t off, uint16_t v)
{
	__atomic_store_n(ring16(ring, off), htole16(v), __ATOMIC_RELEASE);
}

/* 2.7.6: used_event follows the available ring's entries. 2.7.8: avail_event follows the used ring's. */
static inline size_t used_event_off(const struct vq *q)
{
	return RING_ENTRIES + (size_t)AVAIL_ENTRY * q->conf.size;
}

static inline size_t avail_event_off(const struct vq *q)
{
	return RING_ENTRIES + (size_t)USED_ENTRY * q->conf.size;
}

void vq_break(struct vq *q, const char *why)
{
	if (q->broken)
		return;
	q->broken = true;
	q->why = why;
}

static int broken(struct vq *q, const char *why)
{
	vq_break(q, why);
	return -EPROTO;
}

static uint8_t *ring_at(const struct vq *q, uint64_t addr, uint64_t len)
{
	return q->conf.addr_is_uaddr ? guest_mem_at_uaddr(q->mem, addr, len)
				     : guest_mem_at(q->mem, addr, len);
}

/* Sizes are those of the table in 2.7, the two bytes for the event index included. */
static int resolve_rings(struct vq *q)
{
	uint64_t n = q->conf.size;

	q->desc = ring_at(q, q->conf.desc, 16 * n);
	q->avail = ring_at(q, q->conf.avail, 6 + AVAIL_ENTRY * n);
	q->used = ring_at(q, q->conf.used, 6 + USED_ENTRY * n);
	if (!q->desc || !q->avail || !q->used)
		return -EFAULT;
	/* The mapping's own alignment counts for atomic access, so the host's address is tested, not the
	 * guest's. */
	if ((uintptr_t)q->desc % 16 || (uintptr_t)q->avail % 2 || (uintptr_t)q->used % 4)
		return -EINVAL;
	return 0;
}

int vq_init(struct vq *q, const struct guest_mem *mem, const struct vq_config *conf)
{
	memset(q, 0, sizeof(*q));
	/* 2.7: the size is a power of 2; the alignment of each part is 16, 2 and 4 */
	if (conf->size == 0 || conf->size > VQ_SIZE_MAX || (conf->size & (conf->size - 1)))
		return -EINVAL;
	if (conf->desc % 16 || conf->avail % 2 || conf->used % 4)
		return -EINVAL;

	q->mem = mem;
	q->conf = *conf;
	int r = resolve_rings(q);
	if (r < 0) {
		memset(q, 0, sizeof(*q));
		return r;
	}
	q->next_avail = q->avail_seen = conf->next_avail;
	/* A resumed queue goes on where the used ring stands; a fresh one is zeroed by the driver (2.7.8). */
	q->next_used = load_le16(q->used, RING_IDX, __ATOMIC_RELAXED);
	q->ready = true;
	return 0;
}

uint16_t vq_stop(struct vq *q)
{
	uint16_t next = q->next_avail;

	memset(q, 0, sizeof(*q));
	return next;
}

int vq_relocate(struct vq *q)
{
	if (!vq_usable(q))
		return 0;
	int r = resolve_rings(q);
	if (r < 0)
		vq_break(q, "2.7: ring left guest memory");
	return r < 0 ? -EFAULT : 0;
}

/* Reads the driver's index when all that was seen is taken. Returns 1 if a chain is there, 0, or -EPROTO. */
static int refresh_avail(struct vq *q)
{
	if (q->next_avail != q->avail_seen)
		return 1;
	/* 2.7.13.3: the driver made entries visible before the index, hence acquire */
	uint16_t idx = load_le16(q->avail, RING_IDX, __ATOMIC_ACQUIRE);
	uint16_t pending = idx - q->next_avail;
	/*
	 * 2.7.6.1: idx never decreases, and 2.7: at most Queue Size buffers can be queued at any time, those
	 * that we have taken and not returned included.
	 */
	if (pending > q->conf.size - q->in_flight)
		return broken(q, "2.7.6: available index moved by more than the queue size");
	q->avail_seen = idx;
	return pending > 0;
}

/* Copies one descriptor exactly once: the barrier keeps the compiler from reading guest memory again later.
 */
static struct vring_desc read_desc(const uint8_t *table, unsigned i)
{
	struct vring_desc d;

	memcpy(&d, table + (size_t)i * sizeof(d), sizeof(d));
	__asm__ volatile("" ::: "memory");
	d.addr = le64toh(d.addr);
	d.len = le32toh(d.len);
	d.flags = le16toh(d.flags);
	d.next = le16toh(d.next);
	return d;
}

static int chain_add(struct vq *q, struct vq_chain *c, const struct vring_desc *d)
{
	bool write = d->flags & DESC_F_WRITE;
	uint32_t sum;

	if (d->len == 0)
		return 0; /* not forbidden, and nothing to address */
	/* 2.7.4.2: device-writable elements come after all device-readable ones */
	if (!write && c->n_in > 0)
		return broken(q, "2.7.4.2: readable descriptor after a writable one");
	/* 2.7.5.2: the whole chain is not longer than 2^32 bytes */
	if (__builtin_add_overflow(c->out_len + c->in_len, d->len, &sum))
		return broken(q, "2.7.5.2: chain longer than 2^32 bytes");
	void *p = guest_mem_at(q->mem, d->addr, d->len);
	if (!p)
		return broken(q, "2.7.5: buffer outside of guest memory");

	c->iov[c->n_out + c->n_in] = (struct iovec){.iov_base = p, .iov_len = d->len};
	if (write) {
		c->n_in++;
		c->in_len += d->len;
	} else {
		c->n_out++;
		c->out_len += d->len;
	}
	return 0;
}

/* Steps from a descriptor of the queue's own table into the indirect table that it names (2.7.5.3). */
static int enter_indirect(struct vq *q, const struct vring_desc *d, const uint8_t **table, unsigned *entries)
{
	if (!q->conf.indirect)
		return broken(q, "2.7.5.3.1: indirect descriptor without the feature");
	if (d->flags & DESC_F_NEXT)
		return broken(q, "2.7.5.3.1: both INDIRECT and NEXT");
	/* 2.7.5.3.2: WRITE is ignored here */
	if (d->len == 0 || d->len % sizeof(struct vring_desc))
		return broken(q, "2.7.5.3: indirect table of a broken length");
	if (d->len / sizeof(struct vring_desc) > INDIRECT_ENTRIES_MAX)
		return broken(q, "2.7.5.3.1: indirect table longer than any queue");
	*table = guest_mem_at(q->mem, d->addr, d->len);
	if (!*table)
		return broken(q, "2.7.5.3: indirect table outside of guest memory");
	*entries = d->len / sizeof(struct vring_desc);
	return 0;
}

static int walk_chain(struct vq *q, struct vq_chain *c)
{
	const uint8_t *table = q->desc;
	unsigned entries = q->conf.size, i = c->head;
	bool inside = false; /* not told from the address: an indirect table may lie on the queue's own */

	/* 2.7.5.3.1: no chain is longer than the queue. The count is what ends loops. */
	for (unsigned n = 0; n < q->conf.size;) {
		if (i >= entries)
			return broken(q, "2.7.5: descriptor index outside of its table");
		struct vring_desc d = read_desc(table, i);
		if (d.flags & DESC_F_INDIRECT) {
			if (inside)
				return broken(q, "2.7.5.3.1: indirect table within an indirect table");
			int r = enter_indirect(q, &d, &table, &entries);
			if (r < 0)
				return r;
			inside = true;
			i = 0; /* 2.7.5.3: the first one is at index 0. It does not count: it holds no buffer.
				*/
			continue;
		}
		int r = chain_add(q, c, &d);
		if (r < 0)
			return r;
		if (!(d.flags & DESC_F_NEXT))
			return 1;
		i = d.next;
		n++;
	}
	return broken(q, "2.7.5.3.1: chain longer than the queue");
}

int vq_pop(struct vq *q, struct vq_chain *c)
{
	if (q->broken)
		return -EPROTO;
	if (!q->ready)
		return 0;
	int r = refresh_avail(q);
	if (r <= 0)
		return r;

	size_t slot = q->next_avail & (q->conf.size - 1); /* 2.7.6: modulo the queue size */
	c->head = load_le16(q->avail, RING_ENTRIES + AVAIL_ENTRY * slot, __ATOMIC_RELAXED);
	c->n_out = c->n_in = 0;
	c->out_len = c->in_len = 0;
	r = walk_chain(q, c);
	if (r < 0)
		return r;
	q->next_avail++;
	q->in_flight++;
	return 1;
}

void vq_unpop(struct vq *q)
{
	if (!vq_usable(q))
		return;
	q->next_avail--;
	q->in_flight--;
}

void vq_push(struct vq *q, uint16_t head, uint32_t written)
{
	if (!vq_usable(q))
		return;
	size_t slot = q->next_used & (q->conf.size - 1);
	struct {
		uint32_t id, len;
	} elem = {htole32(head), htole32(written)}; /* 2.7.8: struct virtq_used_elem */

	memcpy(q->used + RING_ENTRIES + USED_ENTRY * slot, &elem, sizeof(elem));
	q->next_used++;
	q->in_flight--;
	/* 2.7.8.2, 2.7.14: the element is visible before the index */
	store_le16(q->used, RING_IDX, q->next_used);
}

bool vq_should_notify(struct vq *q)
{
	if (!vq_usable(q))
		return false;
	/* Our index must be visible before the driver's wish is read, or both sides could wait (2.7.7). */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!q->conf.event_idx)
		return !(load_le16(q->avail, RING_FLAGS, __ATOMIC_RELAXED) & AVAIL_F_NO_INTERRUPT);

	/* 2.7.7.2: notify when the index passed used_event since the driver was last considered */
	uint16_t event = load_le16(q->avail, used_event_off(q), __ATOMIC_RELAXED);
	uint16_t before = q->signalled;
	bool valid = q->signalled_valid;
	q->signalled = q->next_used;
	q->signalled_valid = true;
	return !valid || (uint16_t)(q->next_used - event - 1) < (uint16_t)(q->next_used - before);
}

void vq_disable_notify(struct vq *q)
{
	/* 2.7.10.2: with EVENT_IDX flags stay 0, and an avail_event that is not moved on does the same */
	if (vq_usable(q) && !q->conf.event_idx)
		store_le16(q->used, RING_FLAGS, USED_F_NO_NOTIFY);
}

bool vq_enable_notify(struct vq *q)
{
	if (!vq_usable(q))
		return false;
	if (q->conf.event_idx)
		store_le16(q->used, avail_event_off(q), q->next_avail);
	else
		store_le16(q->used, RING_FLAGS, 0);
	/* The wish must be visible before the index is read again, or a chain could be missed (2.7.10). */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return load_le16(q->avail, RING_IDX, __ATOMIC_RELAXED) != q->next_avail;
}
