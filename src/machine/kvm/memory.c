/* SPDX-License-Identifier: MIT */
/*
 * Fresh memory is anonymous, which nearly every host backs with huge pages when asked to: a boot of our kernel touches
 * 32 MiB, and takes one fault for 2 MiB instead of 512 (measured with instructions counted, spawn to first
 * output: 0.147 s before, 0.091 s now). The guest is larger by what it does not touch of 2 MiB, some 6 MiB after a boot,
 * wherefore very small guests do without.
 *
 * Shared, it is a memfd, for devices in other processes. It is sealed against resizing: a truncated file would
 * be SIGBUS, in a device or in the kernel's access for the guest. Huge pages there are the exception: most hosts say
 * `never` in transparent_hugepage/shmem_enabled.
 *
 * The guest's kernel is read, not mapped from its file: mapping saves the copy and shares half of the pages with other
 * boxes (a kernel patches the other half at boot), but each costs a fault, another when it is first written, and all
 * are small (spawn to first output 0.115 s instead of 0.091 s).
 */
#include "kvm/memory.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/io.h"
#include "kvm/arch.h"

enum { HUGE_PAGE = 2 << 20, WRITE_MAX = 1 << 20 };
#define HUGE_FROM (128ull << 20)

/*
 * Maps so that host and guest addresses agree modulo 2 MiB, without which no huge page of the host can be one of the
 * guest's. fd at offset 0, or the address -1.
 */
static uint8_t *map_aligned(uint64_t len, int fd, int flags)
{
	uint64_t room = len + HUGE_PAGE;
	uint8_t *p = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return p;
	uint8_t *at = p + (-(uintptr_t)p & (HUGE_PAGE - 1));
	if (mmap(at, len, PROT_READ | PROT_WRITE, flags | MAP_FIXED | MAP_NORESERVE, fd, 0) == MAP_FAILED) {
		int saved = errno;
		munmap(p, room);
		errno = saved;
		return MAP_FAILED;
	}
	if (at > p)
		munmap(p, at - p);
	munmap(at + len, p + room - (at + len));
	return at;
}

static int open_memfd(struct memory *m, uint64_t bytes)
{
	m->memfd = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (m->memfd < 0 || ftruncate(m->memfd, (off_t)bytes) < 0 ||
		fcntl(m->memfd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return -errno;
	return 0;
}

int memory_init(struct memory *m, uint64_t bytes, bool shared, int restore_fd, struct err *e)
{
	struct arch_range ranges[ARCH_RAM_RANGES_MAX];
	struct stat st;

	*m = (struct memory){.memfd = -1};
	if (restore_fd >= 0) {
		if (fstat(restore_fd, &st) < 0)
			return err_sys(e, -errno, "saved memory");
		/* Behind a file's end is SIGBUS. */
		if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != bytes)
			return err_set(e, -EINVAL, "saved memory: not of a machine with %llu MiB",
				(unsigned long long)(bytes >> 20));
	} else if (shared) {
		int r = open_memfd(m, bytes);
		if (r < 0)
			return err_sys(e, r, "guest memory");
	}
	const bool restored = restore_fd >= 0;
	uint8_t *host = map_aligned(bytes, restored ? restore_fd : m->memfd,
		restored ? MAP_PRIVATE
		: shared ? MAP_SHARED
			 : MAP_PRIVATE | MAP_ANONYMOUS);
	if (host == MAP_FAILED)
		return err_sys(e, -errno, "guest memory of %llu MiB", (unsigned long long)(bytes >> 20));
	m->host = host;
	m->len = bytes;
	/* Neither must fail: a core dump would only be larger, and small pages only slower. */
	madvise(host, bytes, MADV_DONTDUMP);
	if (restore_fd < 0 && bytes >= HUGE_FROM)
		madvise(host, bytes, MADV_HUGEPAGE);

	m->guest.n_regions = arch_ram(bytes, ranges);
	for (unsigned i = 0; i < m->guest.n_regions; i++) {
		m->guest.regions[i] = (struct guest_mem_region){
			.gpa = ranges[i].gpa, .len = ranges[i].len, .host = host, .uaddr = ranges[i].gpa};
		host += ranges[i].len;
	}
	return 0;
}

void memory_done(struct memory *m)
{
	if (m->host)
		munmap(m->host, m->len);
	close_fd(&m->memfd);
	*m = (struct memory){.memfd = -1};
}

void memory_discard(struct memory *m, uint64_t gpa, uint64_t len)
{
	uint8_t *host = guest_mem_at(&m->guest, gpa, len);

	if (!host)
		return;
	/* Regions begin on pages, so a page of the host is one of the guest. */
	uint64_t from = (uint64_t)(host - m->host), to = (from + len) & ~(uint64_t)(VM_PAGE - 1);
	from = (from + VM_PAGE - 1) & ~(uint64_t)(VM_PAGE - 1);
	if (from >= to)
		return;
	/*
	 * What is read there later is zeros, or in a restored machine what the file says: the guest has been told that
	 * the content is lost (virtio 1.2 section 5.5.6), and either was its own.
	 */
	if (m->memfd >= 0)
		fallocate(m->memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)from,
			(off_t)(to - from));
	else
		madvise(m->host + from, to - from, MADV_DONTNEED);
}

uint64_t memory_resident(const struct memory *m)
{
	enum { PAGES = 4096 };
	unsigned char in[PAGES];
	uint64_t n = 0;
	struct stat st;

	if (m->memfd >= 0)
		return fstat(m->memfd, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
	for (uint64_t off = 0; off < m->len; off += (uint64_t)PAGES * VM_PAGE) {
		uint64_t len = MIN_OF((uint64_t)PAGES * VM_PAGE, m->len - off);
		if (mincore(m->host + off, len, in) < 0)
			break;
		for (uint64_t i = 0; i < len / VM_PAGE; i++)
			n += in[i] & 1;
	}
	return n * VM_PAGE;
}

static bool page_is_zero(const uint8_t *p)
{
	/* Each byte equals its neighbour, and the first is zero: memcmp is the fastest loop there is. */
	return p[0] == 0 && memcmp(p, p + 1, VM_PAGE - 1) == 0;
}

/* Writes the pages of [from, to) that are not zero. */
static int write_pages(const struct memory *m, int fd, uint64_t from, uint64_t to)
{
	while (from < to) {
		if (page_is_zero(m->host + from)) {
			from += VM_PAGE;
			continue;
		}
		uint64_t end = from + VM_PAGE;
		while (end < to && end - from < WRITE_MAX && !page_is_zero(m->host + end))
			end += VM_PAGE;
		int r = io_pwrite_full(fd, m->host + from, end - from, (off_t)from);
		if (r < 0)
			return r;
		from = end;
	}
	return 0;
}

int memory_write(const struct memory *m, int fd)
{
	uint64_t at = 0;

	if (ftruncate(fd, (off_t)m->len) < 0)
		return -errno;
	if (m->memfd < 0)
		return write_pages(m, fd, 0, m->len);
	for (;;) {
		off_t from = lseek(m->memfd, (off_t)at, SEEK_DATA);
		if (from < 0)
			return errno == ENXIO ? 0 : -errno; /* nothing but a hole up to the end */
		off_t to = lseek(m->memfd, from, SEEK_HOLE);
		if (to < 0)
			return -errno;
		int r = write_pages(
			m, fd, (uint64_t)from & ~(uint64_t)(VM_PAGE - 1), MIN_OF((uint64_t)to, m->len));
		if (r < 0)
			return r;
		at = (uint64_t)to;
	}
}
