/* SPDX-License-Identifier: MIT */
/*
 * Build-time tool: writes the guest's initramfs, an uncompressed cpio archive in the kernel's "newc" format
 * (Documentation/driver-api/early-userspace/buffer-format.rst). Needs no privileges for the device node, and
 * the result depends on nothing but the program: owners, times and inode numbers are fixed.
 *
 *     mkinitramfs INIT OUTPUT
 */
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/cleanup.h"

static unsigned int next_inode = 1;

static void pad(FILE *out, size_t align)
{
	while ((size_t)ftell(out) % align)
		fputc(0, out);
}

static void put_entry(
	FILE *out, const char *name, unsigned int mode, dev_t dev, const void *data, size_t size)
{
	unsigned int nlink = S_ISDIR(mode) ? 2 : 1;

	/* magic, ino, mode, uid, gid, nlink, mtime, filesize, dev 2x, rdev 2x, namesize with NUL, check */
	fprintf(out, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X", next_inode++, mode, 0u, 0u,
		nlink, 0u, (unsigned int)size, 0u, 0u, (unsigned int)major(dev), (unsigned int)minor(dev),
		(unsigned int)strlen(name) + 1, 0u);
	fwrite(name, 1, strlen(name) + 1, out);
	pad(out, 4);
	if (size)
		fwrite(data, 1, size, out);
	pad(out, 4);
}

static int read_all(const char *path, char **ret, size_t *ret_size)
{
	CLEANUP_FCLOSE FILE *in = fopen(path, "rbe");
	CLEANUP_FREE char *data = NULL;
	struct stat st;

	if (!in || fstat(fileno(in), &st) < 0)
		return -errno;
	data = malloc((size_t)st.st_size + 1);
	if (!data)
		return -ENOMEM;
	if (fread(data, 1, (size_t)st.st_size, in) != (size_t)st.st_size)
		return -EIO;
	*ret = TAKE_PTR(data);
	*ret_size = (size_t)st.st_size;
	return 0;
}

int main(int argc, char **argv)
{
	static const char *const dirs[] = {"dev", "rootfs", "run"};
	CLEANUP_FREE char *init = NULL;
	CLEANUP_FCLOSE FILE *out = NULL;
	size_t size = 0;

	if (argc != 3) {
		fprintf(stderr, "usage: mkinitramfs INIT OUTPUT\n");
		return 2;
	}
	if (read_all(argv[1], &init, &size) < 0) {
		perror(argv[1]);
		return 1;
	}
	out = fopen(argv[2], "wbe");
	if (!out) {
		perror(argv[2]);
		return 1;
	}
	for (size_t i = 0; i < ARRAY_LEN(dirs); i++)
		put_entry(out, dirs[i], S_IFDIR | 0755, 0, NULL, 0);
	/* The kernel opens it as PID 1's standard streams. */
	put_entry(out, "dev/console", S_IFCHR | 0600, makedev(5, 1), NULL, 0);
	put_entry(out, "init", S_IFREG | 0755, 0, init, size);
	put_entry(out, "TRAILER!!!", 0, 0, NULL, 0);
	pad(out, 512);
	if (fflush(out) != 0 || ferror(out)) {
		perror(argv[2]);
		return 1;
	}
	return 0;
}
