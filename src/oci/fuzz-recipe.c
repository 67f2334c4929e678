/* SPDX-License-Identifier: MIT */
/*
 * Recipes of disks: whatever is in one, replaying it ends well or with an error, and a tree that it gives can be written.
 * Input: the records; one layer, whose diff ID is "x".
 */
#include <endian.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/io.h"
#include "erofs-format.h"
#include "recipe-format.h"
#include "recipe.h"
#include "test-erofs-reader.h"

#define DATA_BLOCKS 64 /* in front of the records */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void put_disk(int fd, const uint8_t *data, size_t size)
{
	uint8_t block[EROFS_BLOCK_SIZE] = {0};
	uint64_t at = DATA_BLOCKS * EROFS_BLOCK_SIZE;
	struct recipe_trailer t = {.offset = htole64(at), .len = htole64(size), .n_layers = htole32(1)};

	memcpy(t.magic, RECIPE_MAGIC, sizeof(t.magic));
	t.next_block[0] = htole32(DATA_BLOCKS);
	if (oci_digest_of(data, size, t.digest, NULL) < 0)
		abort();
	memcpy(block, &t, sizeof(t));
	uint64_t end = (at + size + EROFS_BLOCK_SIZE - 1) & ~(uint64_t)(EROFS_BLOCK_SIZE - 1);
	if (io_pwrite_full(fd, data, size, (off_t)at) < 0 ||
		io_pwrite_full(fd, block, sizeof(block), (off_t)end) < 0)
		abort();
}

static void replay(struct oci_base *b, struct oci_erofs *w, int fd)
{
	static const char *const diff_ids[] = {"x"};
	static const uint8_t uuid[16];
	struct oci_layer_end ends[1];
	struct er_image im;
	struct err e = {0};
	int r = oci_base_replay(b, w, diff_ids, 1, NULL, ends, &e);

	if (r < 0 && (!e.code || !e.msg[0]))
		abort();
	if (r != 1 || oci_erofs_finish(w, uuid, &e) < 0)
		return;
	er_open(&im, fd);
	er_check_all(&im);
	er_close(&im);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct oci_erofs w;
	struct oci_tree_ops ops = {oci_erofs_discard, &w};
	struct oci_tree *tree = NULL;
	struct oci_base *b = NULL;
	struct err e = {0};
	int disk = memfd_create("disk", MFD_CLOEXEC), fd = memfd_create("fuzz", MFD_CLOEXEC);

	if (disk < 0 || fd < 0 || size == 0)
		goto out;
	put_disk(disk, data, size);
	if (oci_erofs_init(&w, fd, &e) == 0 && oci_tree_new(&ops, &tree, &e) == 0 &&
		oci_base_open(disk, &b, &e) == 0) {
		w.tree = tree;
		replay(b, &w, fd);
	}
	oci_erofs_done(&w);
	oci_base_free(b);
	oci_tree_free(tree);
out:
	close_fd(&disk);
	close_fd(&fd);
	return 0;
}
