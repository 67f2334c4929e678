/* SPDX-License-Identifier: MIT */
#include "ext2.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>

#include "base/io.h"

/* ---- the library ---- */

#define SONAME "libext2fs.so.2"

const struct ext2 *ext2_get(struct err *e)
{
#define NAME(f) #f,
	static const char *const names[] = {EXT2_FUNCTIONS(NAME)};
#undef NAME
	static union {
		struct ext2 t;
		void *p[ARRAY_LEN(names)];
	} table;
	static bool loaded;

	if (loaded)
		return &table.t;
	void *handle = dlopen(SONAME, RTLD_NOW | RTLD_LOCAL);
	if (!handle) {
		err_set(e, -ENOENT, "cannot load %s: %s", SONAME, dlerror());
		err_hint(e, "install the package libext2fs2");
		return NULL;
	}
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		table.p[i] = dlsym(handle, names[i]);
		if (!table.p[i]) {
			err_set(e, -ENOSYS, "%s has no function %s", SONAME, names[i]);
			return NULL;
		}
	}
	table.t.initialize_ext2_error_table();
	loaded = true;
	return &table.t;
}

/* ---- reading ---- */

static struct {
	int fd;
	uint64_t size;
} disk;

static errcode_t io_close(io_channel c)
{
	if (--c->refcount > 0)
		return 0;
	free(c->name);
	free(c);
	return 0;
}

static errcode_t io_set_blksize(io_channel c, int size)
{
	if (size < 1024 || size > 65536)
		return EXT2_ET_UNEXPECTED_BLOCK_SIZE;
	c->block_size = size;
	return 0;
}

/* count: blocks, or bytes if it is negative. */
static errcode_t io_read_blk64(io_channel c, unsigned long long block, int count, void *data)
{
	uint64_t size = (uint64_t)c->block_size;
	uint64_t n = count < 0 ? (uint64_t) - (int64_t)count : (uint64_t)count * size;

	if (block > disk.size / size || n > disk.size - block * size)
		return EXT2_ET_SHORT_READ;
	ssize_t got = io_pread_full(disk.fd, data, n, (off_t)(block * size));
	return got < 0 ? -got : (uint64_t)got == n ? 0 : EXT2_ET_SHORT_READ;
}

static errcode_t io_read_blk(io_channel c, unsigned long block, int count, void *data)
{
	return io_read_blk64(c, block, count, data);
}

static errcode_t io_write_blk64(io_channel c, unsigned long long block, int count, const void *data)
{
	(void)c, (void)block, (void)count, (void)data;
	return EXT2_ET_RO_FILSYS;
}

static errcode_t io_write_blk(io_channel c, unsigned long block, int count, const void *data)
{
	return io_write_blk64(c, block, count, data);
}

static errcode_t io_flush(io_channel c)
{
	(void)c;
	return 0;
}

static errcode_t io_open(const char *name, int flags, io_channel *ret);

static struct struct_io_manager manager = {
	.magic = EXT2_ET_MAGIC_IO_MANAGER,
	.name = "descriptor",
	.open = io_open,
	.close = io_close,
	.set_blksize = io_set_blksize,
	.read_blk = io_read_blk,
	.write_blk = io_write_blk,
	.flush = io_flush,
	.read_blk64 = io_read_blk64,
	.write_blk64 = io_write_blk64,
};

static errcode_t io_open(const char *name, int flags, io_channel *ret)
{
	io_channel c = calloc(1, sizeof(*c));

	(void)flags;
	if (c)
		c->name = strdup(name);
	if (!c || !c->name) {
		free(c);
		return EXT2_ET_NO_MEMORY;
	}
	c->magic = EXT2_ET_MAGIC_IO_CHANNEL;
	c->manager = &manager;
	c->block_size = 1024;
	c->refcount = 1;
	*ret = c;
	return 0;
}

io_manager ext2_reads(int fd, uint64_t size)
{
	disk.fd = fd;
	disk.size = MIN_OF(size, (uint64_t)INT64_MAX);
	return &manager;
}
