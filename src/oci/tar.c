/* SPDX-License-Identifier: MIT */
#include "tar.h"

#include <string.h>

static la_ssize_t read_block(struct archive *a, void *data, const void **ret)
{
	struct oci_tar *t = data;
	ssize_t n;

	if (t->in_header && t->header_len >= OCI_TAR_HEADER_MAX)
		n = err_set(&t->read_err, -E2BIG, "the description of an entry is longer than %u MiB",
			OCI_TAR_HEADER_MAX >> 20);
	else
		n = oci_stream_read(t->stream, ret, &t->read_err);
	if (n < 0) {
		t->lib->archive_set_error(a, EIO, "read error");
		return -1;
	}
	if (t->in_header)
		t->header_len += (size_t)n;
	return n;
}

int oci_tar_open(struct oci_tar *t, struct oci_stream *s, struct err *e)
{
	*t = (struct oci_tar){.stream = s, .lib = libarchive_get(e)};
	if (!t->lib)
		return -ENOENT;
	t->c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
	if (!t->c_locale)
		return err_oom(e);
	t->old_locale = uselocale(t->c_locale);
	t->a = t->lib->archive_read_new();
	if (!t->a) {
		oci_tar_close(t);
		return err_oom(e);
	}
	if (t->lib->archive_read_support_format_tar(t->a) != ARCHIVE_OK ||
		t->lib->archive_read_support_format_empty(t->a) != ARCHIVE_OK ||
		t->lib->archive_read_set_callback_data(t->a, t) != ARCHIVE_OK ||
		t->lib->archive_read_set_read_callback(t->a, read_block) != ARCHIVE_OK) {
		oci_tar_close(t);
		return err_set(e, -EIO, "cannot set up the archive reader");
	}
	if (t->lib->archive_read_open1(t->a) != ARCHIVE_OK) {
		int r = t->read_err.code ? t->read_err.code : -EBADMSG;
		if (t->read_err.code && e)
			*e = t->read_err;
		else
			err_set(e, r, "not a tar archive");
		oci_tar_close(t);
		return r;
	}
	return 0;
}

void oci_tar_close(struct oci_tar *t)
{
	if (t->a)
		t->lib->archive_read_free(t->a);
	t->a = NULL;
	if (t->c_locale) {
		uselocale(t->old_locale);
		freelocale(t->c_locale);
		t->c_locale = (locale_t)0;
	}
}

static int failed(struct oci_tar *t, struct err *e)
{
	if (t->read_err.code) {
		if (e)
			*e = t->read_err;
		return t->read_err.code;
	}
	const char *why = t->lib->archive_error_string(t->a);
	int code = t->lib->archive_errno(t->a);
	if (code == ENOMEM)
		return err_oom(e);
	if (why && strstr(why, "Unrecognized archive format"))
		return err_set(e, -EBADMSG, "not a tar archive");
	return err_set(e, -EBADMSG, "damaged tar archive: %s", why ? why : "unknown reason");
}

int oci_tar_next(struct oci_tar *t, struct archive_entry **ret, struct err *e)
{
	int r = ARCHIVE_OK;

	/* What is left of an entry's content would be read with the next header, and be taken for a part of it. */
	if (t->in_entry)
		r = t->lib->archive_read_data_skip(t->a);
	t->in_entry = false;
	if (r != ARCHIVE_OK && r != ARCHIVE_WARN)
		return failed(t, e);
	t->in_header = true;
	t->header_len = 0;
	errno = 0; /* libarchive takes what is left there for the reason that a name could not be converted */
	r = t->lib->archive_read_next_header(t->a, ret);
	t->in_header = false;
	t->in_entry = r == ARCHIVE_OK || r == ARCHIVE_WARN;
	/* A warning is about what could not be converted to the locale, and then the bytes stand. */
	if (t->in_entry)
		return 1;
	return r == ARCHIVE_EOF ? 0 : failed(t, e);
}

int oci_tar_data(struct oci_tar *t, const void **ret, size_t *ret_n, uint64_t *ret_off, struct err *e)
{
	la_int64_t off = 0;
	int r = t->lib->archive_read_data_block(t->a, ret, ret_n, &off);

	*ret_off = (uint64_t)off;
	if (r == ARCHIVE_OK || r == ARCHIVE_WARN)
		return 1;
	return r == ARCHIVE_EOF ? 0 : failed(t, e);
}
