/* SPDX-License-Identifier: MIT */
/* The JSON documents in the store, which are believed in no more than a registry's. */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "store.h"

int oci_store_damaged(const char *digest, const char *fault, struct err *e)
{
	err_set(e, -EBADMSG, "image store: %.19s %s", digest, fault);
	return err_hint(
		e, "repair the store with: a3s-box image-check --repair; then pull or load the image again");
}

int oci_store_document(struct oci_store *s, const char *digest, char **ret, size_t *ret_n, struct err *e)
{
	char got[OCI_DIGEST_MAX];
	struct stat st;

	if (!oci_digest_valid(digest))
		return err_set(e, -EBADMSG, "the database names an invalid digest");
	CLEANUP_CLOSE int fd = oci_store_blob_open(s, digest, e);
	if (fd < 0)
		return fd == -ENOENT ? oci_store_damaged(digest, "is missing", e) : fd;
	if (fstat(fd, &st) < 0)
		return err_sys(e, -errno, "image store: cannot read %.19s", digest);
	if (!S_ISREG(st.st_mode) || st.st_size < 0 || st.st_size > (off_t)OCI_JSON_MAX)
		return oci_store_damaged(digest, "is damaged", e);
	size_t size = (size_t)st.st_size;
	CLEANUP_FREE char *text = malloc(size + 1);
	if (!text)
		return err_oom(e);
	ssize_t n = io_pread_full(fd, text, size, 0);
	if (n < 0)
		return err_sys(e, (int)n, "image store: cannot read %.19s", digest);
	int r = oci_digest_like(digest, text, (size_t)n, got, e);
	if (r < 0)
		return r;
	if (strcmp(got, digest) != 0)
		return oci_store_damaged(digest, "is damaged", e);
	text[n] = '\0';
	*ret_n = (size_t)n;
	*ret = TAKE_PTR(text);
	return 0;
}

int oci_image_document(struct oci_store *s, const struct oci_image *i, enum oci_document which, char **ret,
	size_t *ret_n, struct err *e)
{
	int r = oci_store_document(s, which == OCI_DOC_CONFIG ? i->id : i->manifest, ret, ret_n, e);

	if (r < 0)
		err_wrap(e, "cannot read the %s of image %.19s",
			which == OCI_DOC_CONFIG ? "configuration" : "manifest", i->id);
	return r;
}
