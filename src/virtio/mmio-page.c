/* SPDX-License-Identifier: MIT */
#include "mmio-page.h"

#include <endian.h>
#include <string.h>
#include <sys/mman.h>

static uint32_t *new_page(void)
{
	void *p =
		mmap(NULL, VIRTIO_MMIO_PAGE_LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return p == MAP_FAILED ? NULL : p;
}

int mmio_page_init(struct mmio_page *p)
{
	*p = (struct mmio_page){.words = new_page()};
	if (!p->words)
		return -ENOMEM;
	/* 4.2.2: length and base are all ones when there is no such region */
	for (uint32_t off = REG_SHM_LEN_LOW; off <= REG_SHM_BASE_HIGH; off += 4)
		mmio_page_put(p, off, UINT32_MAX);
	return 0;
}

void mmio_page_done(struct mmio_page *p)
{
	if (p->words)
		munmap(p->words, VIRTIO_MMIO_PAGE_LEN);
	p->words = NULL;
}

void mmio_page_read(const struct mmio_page *p, uint32_t off, void *buf, uint32_t len)
{
	memcpy(buf, (const uint8_t *)p->words + (off - VIRTIO_MMIO_PAGE_AT), len);
}

void mmio_page_put(struct mmio_page *p, uint32_t off, uint32_t v)
{
	__atomic_store_n(&p->words[PAGE_INDEX(off)], htole32(v), __ATOMIC_SEQ_CST);
}

void mmio_page_put_generation(struct mmio_page *p, uint32_t v)
{
	p->generation = v;
	mmio_page_put(p, REG_CONFIG_GENERATION, v);
}

/* Makes a changed copy of the page and puts it in the page's place. False: it cannot, and nothing has changed. */
static bool replace(struct mmio_page *p, const uint32_t config[CONFIG_WORDS])
{
	uint32_t *copy = new_page();

	if (!copy)
		return false;
	memcpy(copy, p->words, VIRTIO_MMIO_PAGE_LEN);
	memcpy(copy + PAGE_INDEX(REG_CONFIG), config, CONFIG_LEN);
	copy[PAGE_INDEX(REG_CONFIG_GENERATION)] = htole32(p->generation + 1);
	if (mremap(copy, VIRTIO_MMIO_PAGE_LEN, VIRTIO_MMIO_PAGE_LEN, MREMAP_MAYMOVE | MREMAP_FIXED,
		    p->words) == MAP_FAILED) {
		munmap(copy, VIRTIO_MMIO_PAGE_LEN);
		return false;
	}
	p->generation++;
	return true;
}

void mmio_page_put_config(struct mmio_page *p, const uint32_t config[CONFIG_WORDS])
{
	uint32_t *now = p->words + PAGE_INDEX(REG_CONFIG);
	unsigned changed = 0;

	for (unsigned i = 0; i < CONFIG_WORDS; i++)
		changed += now[i] != config[i];
	if (changed == 0 || (changed > 1 && replace(p, config)))
		return;
	/* One word is old or new whatever else is read; with more (no memory for a copy) this is the best there is. */
	mmio_page_put_generation(p, p->generation + 1);
	for (unsigned i = 0; i < CONFIG_WORDS; i++)
		__atomic_store_n(&now[i], config[i], __ATOMIC_SEQ_CST);
	mmio_page_put_generation(p, p->generation + 1);
}
