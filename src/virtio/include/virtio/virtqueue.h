/* SPDX-License-Identifier: MIT */
/*
 * The device's side of a split virtqueue (virtio 1.2 section 2.7), the same for every transport.
 *
 * The driver is hostile. Each descriptor is read once; whatever breaks a rule marks the queue broken, after
 * which its memory is never touched again and the device waits for the driver to reset it (2.1.1,
 * DEVICE_NEEDS_RESET). All functions belong to one thread at a time.
 */
#ifndef VIRTIO_VIRTQUEUE_H
#define VIRTIO_VIRTQUEUE_H

#include <stdbool.h>
#include <sys/uio.h>

#include "virtio/mem.h"

/* Largest queue that we serve: what one readv(2) takes (IOV_MAX). The specification allows 32768 (2.7). */
#define VQ_SIZE_MAX 1024

struct vq_config {
	uint16_t size;	    /* entries: a power of 2, at most VQ_SIZE_MAX */
	bool addr_is_uaddr; /* ring addresses are the transport's own (guest_mem_at_uaddr), not guest-physical
			     */
	bool event_idx;	    /* VIRTIO_F_EVENT_IDX was negotiated */
	bool indirect;	    /* VIRTIO_F_INDIRECT_DESC was negotiated */
	uint16_t next_avail;	    /* where to go on in the available ring; 0 for a fresh queue */
	uint64_t desc, avail, used; /* descriptor table, available ring, used ring */
};

struct vq {
	const struct guest_mem *mem;
	struct vq_config conf;
	bool ready;	 /* between vq_init and vq_stop */
	bool broken;	 /* the driver broke a rule */
	const char *why; /* which rule, static text; NULL if not broken */
	uint8_t *desc, *avail, *used;
	uint16_t next_avail;  /* next entry to take */
	uint16_t avail_seen;  /* driver's idx when last read */
	uint16_t next_used;   /* our idx in the used ring */
	uint16_t signalled;   /* next_used when the driver was last considered for a notification */
	bool signalled_valid; /* false until then */
	uint16_t in_flight;   /* chains taken and not yet returned */
};

/* One buffer of the driver: first the parts that the device reads, then those that it writes (2.7.4.2). */
struct vq_chain {
	uint16_t head; /* for vq_push */
	unsigned n_out,
		n_in; /* iov[0 .. n_out) readable, iov[n_out .. n_out + n_in) writable; none is empty */
	uint32_t out_len, in_len; /* bytes of each kind; their sum is below 2^32 */
	struct iovec iov[VQ_SIZE_MAX];
};

/*
 * Puts a queue into service. mem is borrowed until vq_stop. Returns 0; -EINVAL for a bad size or misaligned
 * ring (2.7); -EFAULT when a ring is not inside of guest memory.
 */
int vq_init(struct vq *q, const struct guest_mem *mem, const struct vq_config *conf);
/* Takes it out of service; NULL-safe in any state. Returns the next_avail that would resume it. */
uint16_t vq_stop(struct vq *q);
/* Finds the rings again after the regions of guest memory moved. 0, or -EFAULT and the queue is broken. */
int vq_relocate(struct vq *q);
/* The device above found a breach of its own rules. why is a static text. */
void vq_break(struct vq *q, const char *why);
/* True while chains may be taken and returned. */
static inline bool vq_usable(const struct vq *q)
{
	return q->ready && !q->broken;
}

/* Takes the next available chain: 1, 0 when there is none, -EPROTO when the queue is (or thereby became)
 * broken. */
int vq_pop(struct vq *q, struct vq_chain *chain);
/* Gives the chain taken last back, unused and unseen. Only directly after its vq_pop. */
void vq_unpop(struct vq *q);
/* Returns a chain with the number of bytes written to it from the start of its writable part (2.7.8). */
void vq_push(struct vq *q, uint16_t head, uint32_t written);
/* After a batch of vq_push: must the driver be notified (2.7.7)? Each push is considered once. */
bool vq_should_notify(struct vq *q);
/* Asks the driver not to notify us of new chains (2.7.10). A hint: notifications may still come. */
void vq_disable_notify(struct vq *q);
/*
 * Asks for a notification for the next chain. Returns true when one is there already and perhaps without
 * a notification, so that the caller must go on taking.
 */
bool vq_enable_notify(struct vq *q);

/* Copies between a buffer and an array of iovecs, from offset off. Return the bytes copied, less when it
 * ends. */
size_t iov_read(const struct iovec *iov, unsigned n, size_t off, void *dst, size_t len);
size_t iov_write(const struct iovec *iov, unsigned n, size_t off, const void *src, size_t len);
/* Describes bytes [off, off + len) of iov in dst, which has room for n entries. Returns the entries used. */
unsigned iov_slice(struct iovec *dst, const struct iovec *iov, unsigned n, size_t off, size_t len);

#endif
