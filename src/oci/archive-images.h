/* SPDX-License-Identifier: MIT */
/* The images of an archive, put together from its entries (theory: image-archive.h). */
#ifndef OCI_ARCHIVE_IMAGES_H
#define OCI_ARCHIVE_IMAGES_H

#include "image-archive.h"

#define OCI_ARCHIVE_IMAGES_MAX 1024

struct oci_archive_image {
	char *made; /* a manifest of ours, where the archive has none; else NULL */
	size_t made_len;
	struct oci_item *manifest, *config; /* manifest: NULL if it is ours */
	struct oci_item *layers[OCI_LAYERS_MAX];
	struct oci_item **index; /* what the entry's index_blobs name */
	size_t n_index;
	struct oci_manifest m;
	struct oci_config c;
	uint64_t sizes[OCI_LAYERS_MAX]; /* for entry.layer_sizes */
	struct oci_entry entry;		/* complete but for what building the disk tells */
};

struct oci_archive_images {
	struct oci_archive_image **v;
	size_t n;
};

/*
 * All of them, for one platform; host: it is this host's, which errors then say. An index is kept with its image, and
 * where the archive has everything that it names, all of that too. The archive must outlive them.
 */
int oci_archive_images(struct oci_archive *a, const struct oci_platform *want, bool host,
	struct oci_archive_images *ret, struct err *e);
void oci_archive_images_done(struct oci_archive_images *l);

#endif
