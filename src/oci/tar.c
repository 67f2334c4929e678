/* SPDX-License-Identifier: MIT */
#include "tar.h"

#include <string.h>
#include <sys/stat.h>

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

/*
 * Text ACLs (SCHILY.acl.access) are not kept, as no container engine does; but libarchive lets them change
 * the mode: the owning group's bits become those of its own entry. A mode's group bits are those of the mask.
 */
static uint16_t undo_acl(const struct libarchive *lib, struct archive_entry *en, uint16_t mode)
{
	int type, permset, tag, id;
	const char *name;

	if (lib->archive_entry_acl_reset(en, ARCHIVE_ENTRY_ACL_TYPE_ACCESS) <= 3)
		return mode;
	while (lib->archive_entry_acl_next(
		       en, ARCHIVE_ENTRY_ACL_TYPE_ACCESS, &type, &permset, &tag, &id, &name) == ARCHIVE_OK)
		if (tag == ARCHIVE_ENTRY_ACL_MASK)
			return (uint16_t)((mode & ~070) | (permset & 7) << 3);
	return mode;
}

static void read_mtime(const struct libarchive *lib, struct archive_entry *en, struct oci_tar_attr *ret)
{
	int64_t s = lib->archive_entry_mtime(en), ns = lib->archive_entry_mtime_nsec(en);

	if (ns < 0 || ns >= 1000000000)
		ns = 0;
	/* libarchive reads "-1.25" as -1 and +0.25 seconds. */
	if (s < 0 && ns > 0 && s > INT64_MIN) {
		s--;
		ns = 1000000000 - ns;
	}
	ret->mtime_s = s;
	ret->mtime_ns = (uint32_t)ns;
}

static int read_type(
	const struct libarchive *lib, struct archive_entry *en, struct oci_tar_attr *ret, struct err *e)
{
	switch (lib->archive_entry_filetype(en)) {
	case AE_IFREG:
		ret->mode |= S_IFREG;
		return 0;
	case AE_IFDIR:
		ret->mode |= S_IFDIR;
		return 0;
	case AE_IFLNK:
		ret->mode = S_IFLNK | 0777; /* Linux knows no other, whatever archives say */
		ret->target = lib->archive_entry_symlink(en);
		return ret->target ? 0 : err_set(e, -EBADMSG, "a symbolic link has no target");
	case AE_IFCHR:
		ret->mode |= S_IFCHR;
		return 0;
	case AE_IFBLK:
		ret->mode |= S_IFBLK;
		return 0;
	case AE_IFIFO:
		ret->mode |= S_IFIFO;
		return 0;
	case AE_IFSOCK:
		ret->mode |= S_IFSOCK;
		return 0;
	default:
		return err_set(e, -EBADMSG, "unknown type of entry");
	}
}

int oci_tar_attr(const struct oci_tar *t, struct archive_entry *en, struct oci_tar_attr *ret, struct err *e)
{
	int64_t uid = t->lib->archive_entry_uid(en), gid = t->lib->archive_entry_gid(en);

	/* The highest ID means "no ID" to the kernel. */
	if (uid < 0 || gid < 0 || uid >= UINT32_MAX || gid >= UINT32_MAX)
		return err_set(e, -EINVAL, "owner %lld:%lld is out of range", (long long)uid, (long long)gid);
	*ret = (struct oci_tar_attr){.uid = (uint32_t)uid,
		.gid = (uint32_t)gid,
		.mode = undo_acl(t->lib, en, t->lib->archive_entry_mode(en) & 07777),
		.major = (uint64_t)t->lib->archive_entry_rdevmajor(en),
		.minor = (uint64_t)t->lib->archive_entry_rdevminor(en)};
	read_mtime(t->lib, en, ret);
	return read_type(t->lib, en, ret, e);
}
