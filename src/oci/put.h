/* SPDX-License-Identifier: MIT */
/* Small steps of putting content into the store that loading, importing and the like share. Under OCI_LOCK_ADD. */
#ifndef OCI_PUT_H
#define OCI_PUT_H

#include <jansson.h>

#include "store.h"

/* Makes a finished spool the blob of its digest. NULL, or one that was committed before: nothing to do. */
int oci_put_spool(struct oci_spool *sp, struct err *e);
/* A document of our own as a blob. ret_digest may be NULL. */
int oci_put(struct oci_store *s, const void *data, size_t n, char ret_digest[OCI_DIGEST_MAX], struct err *e);
/* A descriptor of a manifest. NULL: out of memory. */
json_t *oci_descriptor_json(const char *type, const char *digest, uint64_t size);
/*
 * The two documents of an image made here: puts the configuration, and a manifest with these layers (consumed; NULL: out of memory), in their
 * places, takes the manifest in as if it had come from elsewhere, and fills en in. c and m are borrowed by en.
 */
int oci_put_documents(struct oci_store *s, const char *config, json_t *layers, const struct oci_config *c,
	struct oci_manifest *m, struct oci_entry *en, struct err *e);
/*
 * After the lock is gone: keeps the store below its limit. Whoever sits there is told by the log which images went. That
 * this fails is no failure of what was done: it is logged, too.
 */
void oci_put_trim(struct oci_store *s);

#endif
