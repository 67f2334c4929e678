/* SPDX-License-Identifier: MIT */
#include "vhost-user-mem.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "base/cleanup.h"

/*
 * A file that is shorter than its mapping, or becomes so, turns an access into SIGBUS: the guest's monitor
 * could stop this process at will. So the size is checked and the file must be sealed against shrinking.
 * QEMU's memory-backend-memfd seals by itself; a memfd that still may be sealed is sealed here.
 */
static int check_file(int fd, uint64_t end)
{
	struct stat st;
	struct statfs fs;

	if (fstat(fd, &st) < 0 || fstatfs(fd, &fs) < 0)
		return -errno;
	/* Huge pages can run out at the first access, which is SIGBUS too. */
	if (!S_ISREG(st.st_mode) || fs.f_type == HUGETLBFS_MAGIC)
		return -EINVAL;
	int seals = fcntl(fd, F_GET_SEALS);
	if (seals < 0)
		return -EPERM;
	if (!(seals & F_SEAL_SHRINK) && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) < 0)
		return -EPERM;
	/* The size counts after the seal only. */
	if (fstat(fd, &st) < 0)
		return -errno;
	return st.st_size < 0 || (uint64_t)st.st_size < end ? -EINVAL : 0;
}

static int map_region(
	const struct vhost_user_region *r, int fd, struct guest_mem *mem, struct vhost_user_mappings *maps)
{
	uint64_t end, sum;

	if (r->size == 0 || __builtin_add_overflow(r->gpa, r->size, &sum) ||
		__builtin_add_overflow(r->uaddr, r->size, &sum) ||
		__builtin_add_overflow(r->mmap_offset, r->size, &end) || end > SIZE_MAX / 2)
		return -EINVAL;
	int ret = check_file(fd, end);
	if (ret < 0)
		return ret;
	/* From the file's start: an offset need not be a multiple of the (possibly huge) page size. */
	void *p = mmap(NULL, end, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	madvise(p, end, MADV_DONTDUMP); /* the guest's secrets stay out of our core dumps */

	maps->map[maps->n].addr = p;
	maps->map[maps->n++].len = end;
	mem->regions[mem->n_regions++] = (struct guest_mem_region){
		.gpa = r->gpa, .len = r->size, .host = (uint8_t *)p + r->mmap_offset, .uaddr = r->uaddr};
	return 0;
}

int vhost_user_map(const struct vhost_user_memory *table, const int *fds, struct guest_mem *mem,
	struct vhost_user_mappings *maps)
{
	struct guest_mem new_mem = {0};
	struct vhost_user_mappings new_maps = {0};

	if (table->n_regions == 0 || table->n_regions > GUEST_MEM_REGIONS_MAX)
		return -EINVAL;
	for (unsigned i = 0; i < table->n_regions; i++) {
		int r = map_region(&table->regions[i], fds[i], &new_mem, &new_maps);
		if (r < 0) {
			vhost_user_unmap(&new_maps);
			return r;
		}
	}
	*mem = new_mem;
	*maps = new_maps;
	return 0;
}

void vhost_user_unmap(struct vhost_user_mappings *maps)
{
	for (unsigned i = 0; i < maps->n; i++)
		munmap(maps->map[i].addr, maps->map[i].len);
	maps->n = 0;
}
