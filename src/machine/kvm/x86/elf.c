/* SPDX-License-Identifier: MIT */
#include "kvm/x86/elf.h"

#include <elf.h>
#include <stdbool.h>
#include <string.h>

#include "base/io.h"

enum { SEGMENTS_MAX = 32 };

static int refuse(struct err *e, const char *why)
{
	return err_set(e, -ENOEXEC, "guest kernel: %s", why);
}

static int read_header(int fd, Elf64_Ehdr *h, struct err *e)
{
	ssize_t n = io_pread_full(fd, h, sizeof(*h), 0);

	if (n < 0)
		return err_sys(e, (int)n, "guest kernel");
	if (n != sizeof(*h) || memcmp(h->e_ident, ELFMAG, SELFMAG) != 0)
		return refuse(e, "not an ELF file (vmlinux is wanted, not a bzImage)");
	if (h->e_ident[EI_CLASS] != ELFCLASS64 || h->e_ident[EI_DATA] != ELFDATA2LSB ||
		h->e_type != ET_EXEC || h->e_machine != EM_X86_64)
		return refuse(e, "not a statically linked program for x86_64");
	if (h->e_phentsize != sizeof(Elf64_Phdr) || h->e_phnum < 1 || h->e_phnum > SEGMENTS_MAX ||
		h->e_phoff > INT64_MAX - sizeof(Elf64_Phdr) * SEGMENTS_MAX)
		return refuse(e, "its program headers are not where they should be");
	return 0;
}

static int load_segment(int fd, const Elf64_Phdr *p, const struct guest_mem *mem, uint64_t from, uint64_t to,
	struct elf_image *ret, struct err *e)
{
	if (p->p_filesz > p->p_memsz || p->p_offset > INT64_MAX - p->p_filesz)
		return refuse(e, "a segment is larger than itself");
	if (p->p_memsz == 0)
		return 0;
	/* The subtraction cannot wrap where the addition could. */
	if (p->p_paddr < from || p->p_paddr > to || p->p_memsz > to - p->p_paddr)
		return refuse(e, "a segment is outside of the memory for it");
	void *dst = guest_mem_at(mem, p->p_paddr, p->p_memsz);
	if (!dst)
		return err_set(e, -ENOEXEC, "guest kernel: the machine has too little memory for it");
	ssize_t n = io_pread_full(fd, dst, p->p_filesz, (off_t)p->p_offset);
	if (n < 0)
		return err_sys(e, (int)n, "guest kernel");
	if ((uint64_t)n != p->p_filesz)
		return refuse(e, "the file has been cut short");
	ret->start = MIN_OF(ret->start, p->p_paddr);
	ret->end = MAX_OF(ret->end, p->p_paddr + p->p_memsz);
	return 0;
}

int elf_load(
	int fd, const struct guest_mem *mem, uint64_t from, uint64_t to, struct elf_image *ret, struct err *e)
{
	Elf64_Ehdr h;
	Elf64_Phdr p[SEGMENTS_MAX];
	bool entry_loaded = false;

	*ret = (struct elf_image){.start = UINT64_MAX};
	int r = read_header(fd, &h, e);
	if (r < 0)
		return r;
	size_t len = h.e_phnum * sizeof(p[0]);
	ssize_t n = io_pread_full(fd, p, len, (off_t)h.e_phoff);
	if (n < 0)
		return err_sys(e, (int)n, "guest kernel");
	if ((size_t)n != len)
		return refuse(e, "the file has been cut short");
	for (unsigned i = 0; i < h.e_phnum; i++) {
		if (p[i].p_type != PT_LOAD)
			continue;
		r = load_segment(fd, &p[i], mem, from, to, ret, e);
		if (r < 0)
			return r;
		entry_loaded |= h.e_entry >= p[i].p_paddr && h.e_entry - p[i].p_paddr < p[i].p_filesz;
	}
	if (!entry_loaded)
		return refuse(e, "its entry point is outside of its segments");
	ret->entry = h.e_entry;
	return 0;
}
