/* SPDX-License-Identifier: MIT */
/* For tests: makes image archives of either layout in memory. */
#ifndef OCI_TEST_IMAGES_H
#define OCI_TEST_IMAGES_H

#include "digest.h"
#include "manifest.h"
#include "test-tar.h"

struct made_image {
	struct buf layers[4]; /* tars */
	size_t n_layers;
	char diff_ids[4][OCI_DIGEST_MAX];
	char *config;
	char config_digest[OCI_DIGEST_MAX];
	char *manifest;
	char manifest_digest[OCI_DIGEST_MAX];
};

static inline const char *hex(const char *digest)
{
	return oci_digest_hex(digest);
}

/* One layer per text: a file "fN" with it. */
static inline void made_init(struct made_image *m, const char *arch, const char *const *texts, size_t n)
{
	char diff_ids[1024] = "", layers[2048] = "";

	*m = (struct made_image){.n_layers = n};
	for (size_t i = 0; i < n; i++) {
		char name[24];
		snprintf(name, sizeof(name), "f%zu", i);
		tar_file(&m->layers[i], name, texts[i], strlen(texts[i]));
		tar_end(&m->layers[i]);
		oci_digest_of(buf_data(&m->layers[i]), m->layers[i].len, m->diff_ids[i], NULL);
		const char *comma = i ? "," : "";
		snprintf(diff_ids + strlen(diff_ids), sizeof(diff_ids) - strlen(diff_ids), "%s\"%s\"", comma,
			m->diff_ids[i]);
		snprintf(layers + strlen(layers), sizeof(layers) - strlen(layers),
			"%s{\"mediaType\":\"application/"
			"vnd.oci.image.layer.v1.tar\",\"digest\":\"%s\",\"size\":%zu}",
			comma, m->diff_ids[i], m->layers[i].len);
	}
	m->config = str_printf(
		"{\"os\":\"linux\",\"architecture\":\"%s\",\"created\":\"2024-01-01T00:00:00Z\","
		"\"config\":{\"Cmd\":[\"/f0\"]},\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[%s]}}",
		arch, diff_ids);
	oci_digest_of(m->config, strlen(m->config), m->config_digest, NULL);
	m->manifest = str_printf("{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE_MANIFEST "\",\"config\":"
				 "{\"mediaType\":\"" OCI_TYPE_CONFIG
				 "\",\"digest\":\"%s\",\"size\":%zu},\"layers\":[%s]}",
		m->config_digest, strlen(m->config), layers);
	oci_digest_of(m->manifest, strlen(m->manifest), m->manifest_digest, NULL);
}

static inline void made_done(struct made_image *m)
{
	for (size_t i = 0; i < m->n_layers; i++)
		buf_done(&m->layers[i]);
	free(m->config);
	free(m->manifest);
}

static inline void put_blob(struct buf *b, const char *digest, const void *data, size_t n)
{
	char name[128];

	snprintf(name, sizeof(name), "blobs/sha256/%s", hex(digest));
	tar_file(b, name, data, n);
}

/* An OCI layout; index first, or last as a stream may have it. skip: number of a layer left out, or -1. */
static inline void put_oci(
	struct buf *b, const struct made_image *m, const char *annotations, bool index_first, int skip)
{
	char *index =
		str_printf("{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"" OCI_TYPE_MANIFEST "\","
			   "\"digest\":\"%s\",\"size\":%zu,\"annotations\":{%s}}]}",
			m->manifest_digest, strlen(m->manifest), annotations);

	if (index_first)
		tar_file(b, "./index.json", index, strlen(index));
	for (size_t i = 0; i < m->n_layers; i++)
		if ((int)i != skip)
			put_blob(b, m->diff_ids[i], buf_data((struct buf *)&m->layers[i]), m->layers[i].len);
	put_blob(b, m->config_digest, m->config, strlen(m->config));
	put_blob(b, m->manifest_digest, m->manifest, strlen(m->manifest));
	if (!index_first)
		tar_file(b, "index.json", index, strlen(index));
	free(index);
}

#endif
