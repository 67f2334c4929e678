/* SPDX-License-Identifier: MIT */
/*
 * Layers, compressed or not, laid over each other into a disk image. An image that is made must keep every
 * rule of the format, which an independent reader checks. Input: layers, each behind its length as u32 LE.
 */
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "layer.h"
#include "test-erofs-reader.h"

#define LAYERS_MAX   8
#define UNPACKED_MAX (4u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct memory {
	const uint8_t *p;
	size_t n;
};

static ssize_t read_memory(void *data, void *buf, size_t n, struct err *e)
{
	struct memory *m = data;

	n = MIN_OF(n, m->n);
	if (n)
		memcpy(buf, m->p, n);
	m->p += n;
	m->n -= n;
	return (ssize_t)n;
}

static int apply_all(struct oci_erofs *w, const uint8_t *data, size_t size, struct err *e)
{
	int r = 0;

	for (int i = 0; r == 0 && i < LAYERS_MAX && size >= 4; i++) {
		struct oci_stream *s = NULL;
		uint32_t n = (uint32_t)data[0] | (uint32_t)data[1] << 8 | (uint32_t)data[2] << 16 |
			     (uint32_t)data[3] << 24;
		n = (uint32_t)MIN_OF((size_t)n, size - 4);
		struct memory m = {data + 4, n};
		struct oci_source src = {.read = read_memory, .data = &m};
		r = oci_stream_new("layer", &src, NULL, UNPACKED_MAX, &s, e);
		if (r == 0)
			r = oci_layer_apply(w, s, NULL, NULL, e);
		oci_stream_free(s);
		data += 4 + n;
		size -= 4 + n;
	}
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t uuid[16];
	struct oci_erofs w;
	struct oci_tree *tree = NULL;
	struct oci_tree_ops ops = {oci_erofs_discard, &w};
	struct err e = {0};
	struct er_image im;
	int fd = memfd_create("fuzz", MFD_CLOEXEC);

	if (fd < 0)
		return 0;
	if (oci_erofs_init(&w, fd, &e) == 0 && oci_tree_new(&ops, &tree, &e) == 0) {
		w.tree = tree;
		int r = apply_all(&w, data, size, &e);
		if (r < 0 && (!e.code || !e.msg[0]))
			abort();
		if (r == 0 && oci_erofs_finish(&w, uuid, &e) == 0) {
			er_open(&im, fd);
			er_check_all(&im);
			er_close(&im);
		}
	}
	oci_erofs_done(&w);
	oci_tree_free(tree);
	close(fd);
	return 0;
}
