/* SPDX-License-Identifier: MIT */
/* Any bytes as an index, chosen from and walked; whatever it names leads to itself, or to an image. */
#include <stdint.h>
#include <string.h>

#include "manifest.h"

#define A "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	const uint8_t *data;
	size_t size;
};

static int get(void *data, const struct oci_desc *d, char **ret, size_t *ret_n, struct err *e)
{
	static const char image[] = "{\"config\":{\"digest\":\"" A "\",\"size\":1},\"layers\":[]}";
	const struct input *in = data;
	const void *from = d->role == OCI_ROLE_INDEX ? (const void *)in->data : image;

	*ret_n = d->role == OCI_ROLE_INDEX ? in->size : strlen(image);
	*ret = malloc(*ret_n + 1);
	if (!*ret)
		return err_oom(e);
	memcpy(*ret, from, *ret_n);
	(*ret)[*ret_n] = '\0';
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const platforms[] = {"linux/amd64", "linux/arm/v7", "linux/arm64"};
	struct input in = {data, size};
	struct oci_getter getter = {get, &in};
	CLEANUP(oci_contents_done) struct oci_contents c = {0};
	CLEANUP(oci_index_done) struct oci_index i = {0};
	struct err e = {0};

	for (size_t k = 0; k < ARRAY_LEN(platforms); k++) {
		CLEANUP(oci_platform_done) struct oci_platform p = {0};
		CLEANUP_FREE char *text = NULL;
		char digest[OCI_DIGEST_MAX];
		size_t n;
		if (oci_platform_parse(platforms[k], &p, &e) < 0)
			abort();
		if (oci_manifest_choose(data, size, NULL, &p, &getter, digest, &text, &n, &e) == 0 &&
			(!text || text[n]))
			abort();
	}
	(void)oci_index_parse(data, size, &i, &e);
	if (oci_contents_of(data, size, NULL, &getter, &c, &e) < 0)
		return 0;
	if (c.n > OCI_CONTENT_MAX)
		abort();
	return 0;
}
