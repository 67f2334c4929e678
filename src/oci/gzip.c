/* SPDX-License-Identifier: MIT */
#include "gzip.h"

#include <stdlib.h>

#include "libs.h"

#define OUT_SIZE (256u << 10)
#define IN_MAX	 (1u << 30) /* the library counts in 32 bits */

struct oci_gzip {
	const struct libisal *lib;
	struct oci_sink to;
	struct isal_zstream z;
	uint8_t level[ISAL_DEF_LVL1_DEFAULT], out[OUT_SIZE];
};

int oci_gzip_new(const struct oci_sink *to, struct oci_gzip **ret, struct err *e)
{
	const struct libisal *lib = libisal_get(e);
	struct oci_gzip *g = lib ? calloc(1, sizeof(*g)) : NULL;

	if (!g)
		return lib ? err_oom(e) : -ENOENT;
	g->lib = lib;
	g->to = *to;
	lib->isal_deflate_init(&g->z);
	g->z.gzip_flag = IGZIP_GZIP;
	g->z.level = 1;
	g->z.level_buf = g->level;
	g->z.level_buf_size = sizeof(g->level);
	*ret = g;
	return 0;
}

void oci_gzip_free(struct oci_gzip *g)
{
	free(g);
}

static int deflate_some(struct oci_gzip *g, struct err *e)
{
	g->z.next_out = g->out;
	g->z.avail_out = OUT_SIZE;
	if (g->lib->isal_deflate(&g->z) != COMP_OK)
		return err_set(e, -EIO, "cannot compress the layer");
	return g->to.write(g->to.data, g->out, OUT_SIZE - g->z.avail_out, e);
}

int oci_gzip_write(struct oci_gzip *g, const void *data, size_t n, struct err *e)
{
	const uint8_t *p = data;

	while (n > 0) {
		uint32_t part = n < IN_MAX ? (uint32_t)n : IN_MAX;
		g->z.next_in = (uint8_t *)p;
		g->z.avail_in = part;
		while (g->z.avail_in > 0) {
			int r = deflate_some(g, e);
			if (r < 0)
				return r;
		}
		p += part;
		n -= part;
	}
	return 0;
}

int oci_gzip_finish(struct oci_gzip *g, struct err *e)
{
	int r = 0;

	g->z.end_of_stream = 1;
	g->z.avail_in = 0;
	do {
		r = deflate_some(g, e);
	} while (r == 0 && g->z.internal_state.state != ZSTATE_END);
	return r;
}
