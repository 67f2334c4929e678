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
 * Of the guest's kernel, pages of its file are mapped into either.
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
	m->restored = restore_fd >= 0;
	uint8_t *host = map_aligned(bytes, m->restored ? restore_fd : m->memfd,
		m->restored ? MAP_PRIVATE
		: shared    ? MAP_SHARED
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

static int read_part(uint8_t *dst, int fd, uint64_t offset, uint64_t len)
{
	ssize_t n = io_pread_full(fd, dst, len, (off_t)offset);
	return n < 0 ? (int)n : (uint64_t)n < len ? -ENODATA : 0;
}

int memory_put_file(struct memory *m, uint64_t gpa, int fd, uint64_t offset, uint64_t len)
{
	uint8_t *dst = guest_mem_at(&m->guest, gpa, len);
	struct stat st;

	if (!dst)
		return -EFAULT;
	uint64_t whole = len & ~(uint64_t)(VM_PAGE - 1);
	if (!whole || (uintptr_t)dst % VM_PAGE || offset % VM_PAGE || m->restored ||
		m->n_parts == MEMORY_PARTS_MAX)
		return read_part(dst, fd, offset, len);
	if (fstat(fd, &st) < 0)
		return -errno;
	/* Behind a file's end is SIGBUS. */
	if (offset > INT64_MAX - len || (uint64_t)st.st_size < offset + len)
		return -ENODATA;
	if (mmap(dst, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, fd,
		    (off_t)offset) == MAP_FAILED)
		return -errno;
	madvise(dst, whole, MADV_DONTDUMP);
	uint64_t from = (uint64_t)(dst - m->host);
	m->parts[m->n_parts++] = (struct memory_part){from, from + whole};
	return read_part(dst + whole, fd, offset + whole, len - whole);
}

static bool has_part_in(const struct memory *m, uint64_t from, uint64_t to)
{
	for (unsigned i = 0; i < m->n_parts; i++) {
		if (m->parts[i].from < to && from < m->parts[i].to)
			return true;
	}
	return false;
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
	 * What is read there later is zeros, or what a file says that is mapped there: the guest has been told that
	 * the content is lost (virtio 1.2 section 5.5.6), and either was its own.
	 */
	if (m->memfd >= 0)
		fallocate(m->memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)from,
			(off_t)(to - from));
	if (m->memfd < 0 || has_part_in(m, from, to))
		madvise(m->host + from, to - from, MADV_DONTNEED);
}

static uint64_t count_resident(const struct memory *m, uint64_t from, uint64_t to)
{
	enum { PAGES = 4096 };
	unsigned char in[PAGES];
	uint64_t n = 0;

	for (uint64_t off = from; off < to; off += (uint64_t)PAGES * VM_PAGE) {
		uint64_t len = MIN_OF((uint64_t)PAGES * VM_PAGE, to - off);
		if (mincore(m->host + off, len, in) < 0)
			break;
		for (uint64_t i = 0; i < len / VM_PAGE; i++)
			n += in[i] & 1;
	}
	return n * VM_PAGE;
}

uint64_t memory_resident(const struct memory *m)
{
	struct stat st;

	if (m->memfd >= 0)
		return fstat(m->memfd, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
	uint64_t n = count_resident(m, 0, m->len);
	for (unsigned i = 0; i < m->n_parts; i++)
		n -= count_resident(m, m->parts[i].from, m->parts[i].to);
	return n;
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
	for (unsigned i = 0; i < m->n_parts; i++) {
		int r = write_pages(m, fd, m->parts[i].from, m->parts[i].to);
		if (r < 0)
			return r;
	}
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
