/* SPDX-License-Identifier: MIT */
/* The register window of virtio over MMIO in numbers: virtio 1.2 sections 4.2.2 and 2.1. */
#ifndef VIRTIO_MMIO_REGS_H
#define VIRTIO_MMIO_REGS_H

#include "virtio/mmio.h"

/* 4.2.2: the registers that virtio/mmio.h does not name */
enum {
	REG_MAGIC = 0x00,
	REG_VERSION = 0x04,
	REG_DEVICE_ID = 0x08,
	REG_VENDOR_ID = 0x0c,
	REG_DEVICE_FEATURES = 0x10,
	REG_DEVICE_FEATURES_SEL = 0x14,
	REG_DRIVER_FEATURES = 0x20,
	REG_DRIVER_FEATURES_SEL = 0x24,
	REG_QUEUE_SEL = 0x30,
	REG_QUEUE_NUM_MAX = 0x34,
	REG_QUEUE_NUM = 0x38,
	REG_QUEUE_READY = 0x44,
	REG_STATUS = 0x70,
	REG_QUEUE_DESC = 0x80, /* low half; the high one follows, here and in the next two */
	REG_QUEUE_DRIVER = 0x90,
	REG_QUEUE_DEVICE = 0xa0,
	REG_SHM_LEN_LOW = 0xb0,
	REG_SHM_BASE_HIGH = 0xbc,
	REG_CONFIG_GENERATION = 0xfc,
	REG_CONFIG = 0x100,
};
enum { MAGIC = 0x74726976, VERSION = 2, VENDOR = 0x42533341 /* "A3SB" */ };
enum { CONFIG_LEN = VIRTIO_MMIO_LEN - REG_CONFIG, CONFIG_WORDS = CONFIG_LEN / 4 };

/* Index of a register's word in the page. */
#define PAGE_INDEX(off) (((off)-VIRTIO_MMIO_PAGE_AT) / 4)

/* 2.1 */
enum {
	STATUS_ACKNOWLEDGE = 1,
	STATUS_DRIVER = 2,
	STATUS_DRIVER_OK = 4,
	STATUS_FEATURES_OK = 8,
	STATUS_NEEDS_RESET = 64, /* ours alone */
	STATUS_FAILED = 128,
	STATUS_OF_DRIVER =
		STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_DRIVER_OK | STATUS_FEATURES_OK | STATUS_FAILED,
};

/* The register's offset and width are allowed (4.2.2.2: 32 bits, aligned; in configuration what its fields are). */
static inline bool is_access(uint32_t off, uint32_t len)
{
	if (off < REG_CONFIG)
		return len == 4 && off % 4 == 0;
	return (len == 1 || len == 2 || len == 4 || len == 8) && off % len == 0 && off < VIRTIO_MMIO_LEN &&
	       len <= VIRTIO_MMIO_LEN - off;
}

/* Half of a register of 64 bits. */
static inline void put_half(uint64_t *reg, bool high, uint32_t v)
{
	*reg = high ? (*reg & UINT32_MAX) | (uint64_t)v << 32 : (*reg & ~(uint64_t)UINT32_MAX) | v;
}

#endif
