/* SPDX-License-Identifier: MIT */
/*
 * The page of memory in which the registers from VIRTIO_MMIO_PAGE_AT on stand as the guest reads them (virtio 1.2
 * section 4.2.2), perhaps without an exit, on any processor, and in the middle of a change.
 *
 * Words are stored atomically. A driver that reads several words of configuration compares ConfigGeneration before and
 * after (2.5.1), which cannot show a change that is half done during all of its reading; so a change of more than one
 * word is made in a copy, and mremap puts the copy in the page's place: whoever reads sees the old page or the new one.
 *
 * The page's address stays as long as it lives. There is one writer at a time: callers hold the transport's lock.
 */
#ifndef VIRTIO_MMIO_PAGE_H
#define VIRTIO_MMIO_PAGE_H

#include "mmio-regs.h"

struct mmio_page {
	uint32_t *words;     /* little endian, as the guest reads them; NULL: there is none */
	uint32_t generation; /* ConfigGeneration */
};

/* All registers 0, and the shared memory regions that a device may have (4.2.2) absent. 0 or -ENOMEM. */
int mmio_page_init(struct mmio_page *p);
/* The guest must not have it mapped any more. A page that is not there allowed. */
void mmio_page_done(struct mmio_page *p);

/* What a guest's read of an allowed access (is_access) at offset off of the device's window gives. */
void mmio_page_read(const struct mmio_page *p, uint32_t off, void *buf, uint32_t len);
/* Sets the register at off, on or behind VIRTIO_MMIO_PAGE_AT. */
void mmio_page_put(struct mmio_page *p, uint32_t off, uint32_t v);
void mmio_page_put_generation(struct mmio_page *p, uint32_t v);
/*
 * Shows another configuration, in the byte order of the device, and if it differs a new generation: 2.5.2 and 4.2.2.1 want
 * that with whatever a driver could see half of.
 */
void mmio_page_put_config(struct mmio_page *p, const uint32_t config[CONFIG_WORDS]);

#endif
