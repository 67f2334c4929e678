/* SPDX-License-Identifier: MIT */
/*
 * virtio over MMIO, register layout version 2 (virtio 1.2 section 4.2), for a monitor that runs the guest's
 * processors in threads.
 *
 * Notifications do not pass through here while the guest runs: the monitor binds each queue's kick descriptor to
 * writes of QueueNotify (KVM_IOEVENTFD) and the interrupt descriptor to an interrupt line (KVM_IRQFD).
 *
 * The registers from VIRTIO_MMIO_PAGE_AT on stand in one page of memory that always holds what the guest would read
 * there. A monitor that places the device so that this part begins on a page of the guest may map the page
 * read-only: then reads of InterruptStatus, Status and configuration cost no exit. Bit 0 of InterruptStatus is
 * always set (a used buffer notification may be spurious, 2.3), so that acknowledging it changes nothing, and
 * such writes may be swallowed before they reach virtio_mmio_write. The page's address stays, but its memory is
 * replaced when configuration changes (mremap): map it for the guest by its address.
 */
#ifndef VIRTIO_MMIO_H
#define VIRTIO_MMIO_H

#include "base/loop.h"
#include "virtio/device.h"

#define VIRTIO_MMIO_LEN		 0x200 /* bytes of the register window: 0x100 of registers, 0x100 of configuration */
#define VIRTIO_MMIO_QUEUE_NOTIFY 0x50
#define VIRTIO_MMIO_PAGE_AT	 0x60
#define VIRTIO_MMIO_PAGE_LEN	 4096
#define VIRTIO_MMIO_INT_STATUS	 0x60
#define VIRTIO_MMIO_INT_ACK	 0x64
#define VIRTIO_MMIO_INT_USED	 1 /* bits of both */
#define VIRTIO_MMIO_INT_CONFIG	 2

struct virtio_mmio;

/*
 * Attaches to the device. mem is borrowed for life. On the loop's thread; the loop must allow loop_call. 0, -EBUSY when
 * the device is attached already, -EINVAL when it has too many or too large queues, or -errno.
 */
int virtio_mmio_new(
	struct loop *loop, struct virtio_device *dev, const struct guest_mem *mem, struct virtio_mmio **ret);
/* Stops the queues, resets the device and detaches. No processor may run any more. NULL allowed. */
void virtio_mmio_free(struct virtio_mmio *m);
DEFINE_CLEANUP(struct virtio_mmio *, virtio_mmio_free)

/*
 * A guest's access at offset off of the window, from a processor's thread (not the loop's: what starts or resets the
 * device waits for the loop). Anything that 4.2.2 does not allow reads as zero, or is ignored.
 */
void virtio_mmio_read(struct virtio_mmio *m, uint32_t off, void *buf, uint32_t len);
void virtio_mmio_write(struct virtio_mmio *m, uint32_t off, const void *buf, uint32_t len);

unsigned virtio_mmio_n_queues(const struct virtio_mmio *m);
/*
 * eventfd on which the guest's notifications of that queue are expected; blocking if the device has own_threads. Owned by
 * m. -1: no such queue.
 */
int virtio_mmio_kick_fd(const struct virtio_mmio *m, unsigned queue);
/* eventfd (non-blocking) that is signalled to interrupt the guest. Owned by m. */
int virtio_mmio_irq_fd(const struct virtio_mmio *m);
/* The page described above; byte 0 is the register at VIRTIO_MMIO_PAGE_AT. Page-aligned, owned by m. */
const void *virtio_mmio_page(const struct virtio_mmio *m);

/* Live figures, readable from any thread. */
struct virtio_mmio_stats {
	uint64_t
		kicks; /* notifications handled on the loop (those of own_threads are the device's to count) */
	uint64_t interrupts; /* sent */
	uint64_t accesses;   /* reads and writes that came through virtio_mmio_read and _write */
};
void virtio_mmio_stats(const struct virtio_mmio *m, struct virtio_mmio_stats *ret);

/* ---- memory snapshots; on the loop's thread, while no processor runs ---- */

/* Saved form of a transport with its device: plain, host order, of this version only. */
#define VIRTIO_MMIO_STATE_VERSION 1
struct virtio_mmio_queue {
	uint64_t desc, avail, used;
	uint16_t size; /* 0: not set, or larger than is offered */
	uint16_t ready, next_avail, pad;
};
struct virtio_mmio_state {
	uint32_t version; /* VIRTIO_MMIO_STATE_VERSION */
	uint32_t device_id;
	uint64_t driver_features;
	uint32_t status, queue_sel, device_features_sel, driver_features_sel;
	uint32_t config_generation, interrupt_status;
	uint32_t n_queues;
	struct virtio_mmio_queue queues[VIRTIO_QUEUES_MAX];
	uint32_t device_len; /* bytes of device that count */
	uint8_t device[VIRTIO_STATE_MAX];
};
/*
 * Stops every queue, so that all that the device took is returned, and describes it. 0, -EBUSY when the device kept a
 * chain beyond queue_stopping (by then the queues are stopped all the same), or -ENODEV when it is gone.
 */
int virtio_mmio_suspend(struct virtio_mmio *m, struct virtio_mmio_state *ret);
/*
 * Starts the queues again after virtio_mmio_suspend, in the same process; each is looked at, and the guest gets one
 * interrupt. 0, or -EFAULT when a queue's memory is gone (the device then needs a reset).
 */
int virtio_mmio_resume(struct virtio_mmio *m);
/*
 * Puts a fresh transport (and its device) into a saved state, and starts its queues as virtio_mmio_resume does. The state
 * is not trusted. 0, -EINVAL when it does not fit the device, -EFAULT when a queue is outside of guest memory, -ENODEV;
 * then both are as after a reset.
 */
int virtio_mmio_restore(struct virtio_mmio *m, const struct virtio_mmio_state *s);

#endif
