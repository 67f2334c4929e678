/* SPDX-License-Identifier: MIT */
#include "tar-write.h"

#include <string.h>

#include "base/io.h"

#define BLOCK	  512
#define NAME_SIZE 100
#define OCTAL_MAX (1ull << 33) /* eleven octal digits */

struct header {
	char name[NAME_SIZE], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100],
		magic[6], version[2], user[32], group[32], device[16], prefix[155], pad[12];
};
_Static_assert(sizeof(struct header) == BLOCK, "a header is a block");

static int put(struct oci_tar_writer *w, const void *data, size_t n, struct err *e)
{
	int r = io_write_full(w->fd, data, n);

	if (r < 0)
		return err_sys(e, r, "cannot write the archive");
	w->total += n;
	return 0;
}

static int put_header(struct oci_tar_writer *w, const char *name, char type, uint64_t size, struct err *e)
{
	struct header h = {.type = type, .magic = "ustar", .version = {'0', '0'}};
	unsigned sum = 0;

	memcpy(h.name, name, strnlen(name, sizeof(h.name)));
	snprintf(h.mode, sizeof(h.mode), "%07o", type == '5' ? 0755 : 0644);
	snprintf(h.uid, sizeof(h.uid), "%07o", 0);
	snprintf(h.gid, sizeof(h.gid), "%07o", 0);
	snprintf(h.size, sizeof(h.size), "%011llo", (unsigned long long)(size < OCTAL_MAX ? size : 0));
	snprintf(h.mtime, sizeof(h.mtime), "%011o", 0);
	memset(h.checksum, ' ', sizeof(h.checksum));
	for (size_t i = 0; i < sizeof(h); i++)
		sum += ((const unsigned char *)&h)[i];
	snprintf(h.checksum, sizeof(h.checksum), "%06o", sum);
	return put(w, &h, sizeof(h), e);
}

/* "LENGTH KEY=VALUE\n", of which LENGTH counts itself. Returns its length. */
static size_t pax_record(char *dst, size_t max, const char *key, const char *value)
{
	size_t body = strlen(key) + strlen(value) + 3, n = body + 1;

	for (size_t digits = 1; digits < 6; digits++) {
		size_t limit = 1;
		for (size_t i = 0; i < digits; i++)
			limit *= 10;
		n = body + digits;
		if (n < limit)
			break;
	}
	snprintf(dst, max, "%zu %s=%s\n", n, key, value);
	return n;
}

static int pad(struct oci_tar_writer *w, uint64_t size, struct err *e)
{
	static const char zeros[BLOCK];
	size_t rest = size % BLOCK;

	return rest ? put(w, zeros, BLOCK - rest, e) : 0;
}

static int entry(struct oci_tar_writer *w, const char *name, char type, uint64_t size, struct err *e)
{
	char records[1024], number[24];
	size_t n = 0;

	if (strlen(name) > 512)
		return err_set(e, -ENAMETOOLONG, "cannot write the archive: a name is too long");
	if (strlen(name) > NAME_SIZE)
		n += pax_record(records, sizeof(records), "path", name);
	if (size >= OCTAL_MAX) {
		snprintf(number, sizeof(number), "%llu", (unsigned long long)size);
		n += pax_record(records + n, sizeof(records) - n, "size", number);
	}
	if (n > 0) {
		int r = put_header(w, "pax", 'x', n, e);
		if (r == 0)
			r = put(w, records, n, e);
		if (r == 0)
			r = pad(w, n, e);
		if (r < 0)
			return r;
	}
	return put_header(w, name, type, size, e);
}

int oci_tar_folder(struct oci_tar_writer *w, const char *name, struct err *e)
{
	return entry(w, name, '5', 0, e);
}

int oci_tar_begin(struct oci_tar_writer *w, const char *name, uint64_t size, struct err *e)
{
	w->left = size;
	return entry(w, name, '0', size, e);
}

int oci_tar_write(struct oci_tar_writer *w, const void *data, size_t n, struct err *e)
{
	if (n > w->left)
		return err_set(e, -EIO, "cannot write the archive: a file is longer than it was");
	w->left -= n;
	return put(w, data, n, e);
}

int oci_tar_end(struct oci_tar_writer *w, struct err *e)
{
	if (w->left)
		return err_set(e, -EIO, "cannot write the archive: a file is shorter than it was");
	return pad(w, w->total, e); /* all else is whole blocks */
}

int oci_tar_file(struct oci_tar_writer *w, const char *name, const void *data, size_t n, struct err *e)
{
	int r = oci_tar_begin(w, name, n, e);

	if (r == 0)
		r = oci_tar_write(w, data, n, e);
	return r < 0 ? r : oci_tar_end(w, e);
}

int oci_tar_finish(struct oci_tar_writer *w, struct err *e)
{
	static const char zeros[2 * BLOCK];

	return put(w, zeros, sizeof(zeros), e);
}
