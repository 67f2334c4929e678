/* SPDX-License-Identifier: MIT */
/*
 * A tree as a tar: POSIX ustar with pax headers (IEEE 1003.1, pax) before what does not fit into it, extended attributes as
 * SCHILY.xattr.*, as all container engines write them. Names are written as the bytes they are; where a pax record has one
 * that is not UTF-8, hdrcharset=BINARY says so.
 *
 * A further name of a file carries the file's attributes: who unpacks an image's layer sets them again (moby, umoci).
 *
 * Holes: the format wants the map of a sparse file before its content, and a tree tells of it as it goes. So the beginning of
 * a file is kept in memory, and one that ends there with holes is written in GNU's format (GNU tar, "PAX Format, Version
 * 1.0"), which bsdtar, Go and Python read too. So a file of terabytes with nothing in it stays small. All others, and all in
 * layers, which more programs read, get zeros.
 */
#include "tar-sink.h"

#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "paths.h"

#define BLOCK	    512
#define NAME_SIZE   100
#define OUT_SIZE    (256u << 10)
#define OCTAL7_MAX  07777777ll /* what seven octal digits hold */
#define OCTAL11_MAX 077777777777ll
#define MAP_MAX	    1024	/* pieces of a sparse file */
#define KEEP_MAX    (4u << 20)	/* bytes of its content */
#define SPARSE_MIN  (64u << 10) /* bytes of holes that are worth it */
#define WHITEOUT    ".wh."
#define OPAQUE	    ".wh..wh..opq"

struct header {
	char name[NAME_SIZE], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type,
		link[NAME_SIZE], magic[6], version[2], user[32], group[32], major[8], minor[8], prefix[155],
		pad[12];
};
_Static_assert(sizeof(struct header) == BLOCK, "a header is a block");

struct piece {
	uint64_t offset, len;
};

struct oci_tar_sink {
	struct tree_sink sink;
	struct oci_sink to;
	int fd;
	bool layer, no_root;
	char *prefix;
	struct oci_paths paths; /* of files, for their further names */
	uint64_t entries, bytes;
	uint8_t *out;
	size_t out_len;
	struct buf records; /* pax records of the next header */
	/* the file being written */
	bool in_file, keeping;	/* keeping: its header is not written yet */
	struct wire_entry file; /* while keeping, a copy with texts of its own */
	uint64_t size, pos;
	struct buf kept;
	struct piece *map;
	size_t n_map;
	uint64_t data; /* bytes in the map */
};

/* ---- output ---- */

static int write_fd(void *data, const void *buf, size_t n, struct err *e)
{
	const struct oci_tar_sink *s = data;
	int r = io_write_full(s->fd, buf, n);

	return r < 0 ? err_sys(e, r, "cannot write the archive") : 0;
}

static int flush(struct oci_tar_sink *s, struct err *e)
{
	size_t n = s->out_len;

	s->out_len = 0;
	return n ? s->to.write(s->to.data, s->out, n, e) : 0;
}

static int put(struct oci_tar_sink *s, const void *data, size_t n, struct err *e)
{
	const uint8_t *p = data;

	s->bytes += n;
	while (n > 0) {
		size_t k = MIN_OF(n, OUT_SIZE - s->out_len);
		memcpy(s->out + s->out_len, p, k);
		s->out_len += k;
		p += k;
		n -= k;
		int r = s->out_len == OUT_SIZE ? flush(s, e) : 0;
		if (r < 0)
			return r;
	}
	return 0;
}

static int put_zeros(struct oci_tar_sink *s, uint64_t n, struct err *e)
{
	static const uint8_t zeros[64 << 10];
	int r = 0;

	while (r == 0 && n > 0) {
		size_t k = (size_t)MIN_OF(n, (uint64_t)sizeof(zeros));
		r = put(s, zeros, k, e);
		n -= k;
	}
	return r;
}

static int pad(struct oci_tar_sink *s, struct err *e)
{
	return put_zeros(s, (BLOCK - s->bytes % BLOCK) % BLOCK, e);
}

/* ---- headers ---- */

static bool is_utf8(const char *s)
{
	size_t left = strlen(s);

	while (left > 0) {
		size_t n = text_utf8_len((const uint8_t *)s, left, NULL);
		if (n == 0)
			return false;
		s += n;
		left -= n;
	}
	return true;
}

/* "LENGTH KEY=VALUE\n", of which LENGTH counts itself. */
static int record(struct oci_tar_sink *s, const char *key, const void *value, size_t n, struct err *e)
{
	size_t body = strlen(key) + n + 3, total = body, digits;
	char text[24];

	do {
		digits = (size_t)snprintf(text, sizeof(text), "%zu", total);
		total = body + digits;
	} while (digits != (size_t)snprintf(text, sizeof(text), "%zu", total));
	if (buf_append(&s->records, text, digits) < 0 || buf_append(&s->records, " ", 1) < 0 ||
		buf_append(&s->records, key, strlen(key)) < 0 || buf_append(&s->records, "=", 1) < 0 ||
		(n && buf_append(&s->records, value, n) < 0) || buf_append(&s->records, "\n", 1) < 0)
		return err_oom(e);
	return 0;
}

static int number_record(struct oci_tar_sink *s, const char *key, uint64_t v, struct err *e)
{
	char text[24];
	int n = snprintf(text, sizeof(text), "%" PRIu64, v);

	return record(s, key, text, (size_t)n, e);
}

/* Seconds with a fraction, without zeros at its end. -1.25 is kept as -2 s and 750000000 ns. */
static int time_record(struct oci_tar_sink *s, int64_t sec, uint32_t ns, struct err *e)
{
	bool negative = sec < 0;
	uint64_t whole = negative ? 0 - (uint64_t)sec : (uint64_t)sec;
	char text[40];

	if (negative && ns) {
		whole--;
		ns = 1000000000u - ns;
	}
	int n = snprintf(text, sizeof(text), "%s%" PRIu64, negative ? "-" : "", whole);
	if (ns) {
		n += snprintf(text + n, sizeof(text) - (size_t)n, ".%09u", ns);
		while (text[n - 1] == '0')
			n--;
	}
	return record(s, "mtime", text, (size_t)n, e);
}

static void octal(char *dst, int digits, uint64_t v)
{
	while (digits-- > 0) {
		dst[digits] = (char)('0' + (v & 7));
		v >>= 3;
	}
}

/* A name that does not fit into its field goes into a record, and its beginning into the field. */
static int put_name(
	struct oci_tar_sink *s, char field[NAME_SIZE], const char *key, const char *name, struct err *e)
{
	size_t n = strlen(name);

	memcpy(field, name, MIN_OF(n, (size_t)NAME_SIZE));
	return n > NAME_SIZE ? record(s, key, name, n, e) : 0;
}

static int put_block(struct oci_tar_sink *s, struct header *h, struct err *e)
{
	unsigned sum = 0;

	memcpy(h->magic, "ustar", 6);
	memcpy(h->version, "00", 2);
	memset(h->checksum, ' ', sizeof(h->checksum));
	for (size_t i = 0; i < sizeof(*h); i++)
		sum += ((const uint8_t *)h)[i];
	octal(h->checksum, 6, sum);
	h->checksum[6] = '\0';
	return put(s, h, sizeof(*h), e);
}

/* The records, if there are any, and then the header itself. */
static int put_headers(struct oci_tar_sink *s, struct header *h, struct err *e)
{
	struct header x = {.name = "PaxHeaders", .type = 'x'};
	int r = 0;

	if (s->records.len > 0) {
		octal(x.mode, 7, 0644);
		octal(x.uid, 7, 0);
		octal(x.gid, 7, 0);
		octal(x.mtime, 11, 0);
		octal(x.size, 11, s->records.len);
		r = put_block(s, &x, e);
		if (r == 0)
			r = put(s, buf_data(&s->records), s->records.len, e);
		if (r == 0)
			r = pad(s, e);
		buf_consume(&s->records, s->records.len);
	}
	return r < 0 ? r : put_block(s, h, e);
}

static int put_numbers(
	struct oci_tar_sink *s, struct header *h, const struct wire_entry *en, uint64_t size, struct err *e)
{
	int64_t sec = en->mtime_s;
	int r = 0;

	octal(h->mode, 7, en->mode & 07777);
	octal(h->uid, 7, MIN_OF((int64_t)en->uid, OCTAL7_MAX));
	octal(h->gid, 7, MIN_OF((int64_t)en->gid, OCTAL7_MAX));
	octal(h->size, 11, size > OCTAL11_MAX ? 0 : size);
	octal(h->mtime, 11, (uint64_t)(sec < 0 ? 0 : MIN_OF(sec, (int64_t)OCTAL11_MAX)));
	if (en->uid > OCTAL7_MAX)
		r = number_record(s, "uid", en->uid, e);
	if (r == 0 && en->gid > OCTAL7_MAX)
		r = number_record(s, "gid", en->gid, e);
	if (r == 0 && size > OCTAL11_MAX)
		r = number_record(s, "size", size, e);
	if (r == 0 && (en->mtime_ns || sec < 0 || sec > OCTAL11_MAX))
		r = time_record(s, sec, en->mtime_ns, e);
	return r;
}

static int put_xattrs(struct oci_tar_sink *s, const struct wire_entry *en, struct err *e)
{
	for (size_t i = 0; i < en->n_xattrs; i++) {
		const struct wire_xattr *x = &en->xattrs[i];
		char key[sizeof("SCHILY.xattr.") + 256];
		/* A record's name ends with its first "=". */
		if (strlen(x->name) > 255 || strchr(x->name, '='))
			return err_set(e, -EINVAL,
				"the name of its extended attribute \"%.255s\" does not go into an archive",
				x->name);
		snprintf(key, sizeof(key), "SCHILY.xattr.%s", x->name);
		int r = record(s, key, x->value, x->len, e);
		if (r < 0)
			return r;
	}
	return 0;
}

static char type_of(const struct wire_entry *en)
{
	switch (en->mode & S_IFMT) {
	case S_IFDIR:
		return '5';
	case S_IFLNK:
		return '2';
	case S_IFCHR:
		return '3';
	case S_IFBLK:
		return '4';
	case S_IFIFO:
		return '6';
	default:
		return '0';
	}
}

/* name: as written; link: what it leads to or is a further name of, "" for none; size: of what follows the header. */
static int put_entry(struct oci_tar_sink *s, const struct wire_entry *en, char type, const char *name,
	const char *link, uint64_t size, struct err *e)
{
	struct header h = {.type = type};
	int r = 0;

	if (!(is_utf8(name) && is_utf8(link)) && (strlen(name) > NAME_SIZE || strlen(link) > NAME_SIZE))
		r = record(s, "hdrcharset", "BINARY", strlen("BINARY"), e);
	if (r == 0)
		r = put_name(s, h.name, "path", name, e);
	if (r == 0)
		r = put_name(s, h.link, "linkpath", link, e);
	if (r == 0)
		r = put_numbers(s, &h, en, size, e);
	if (r == 0 && (type == '3' || type == '4')) {
		if (en->major > OCTAL7_MAX || en->minor > OCTAL7_MAX)
			return err_set(e, -EINVAL, "device number %u:%u does not go into an archive",
				en->major, en->minor);
		octal(h.major, 7, en->major);
		octal(h.minor, 7, en->minor);
	}
	if (r == 0 && type != '1')
		r = put_xattrs(s, en, e);
	return r < 0 ? r : put_headers(s, &h, e);
}

/* ---- files ---- */

static void file_done(struct oci_tar_sink *s)
{
	s->in_file = s->keeping = false;
	wire_entry_done(&s->file);
	s->n_map = 0;
	s->data = 0;
	s->pos = s->size = 0;
	buf_consume(&s->kept, s->kept.len);
}

/* What was kept, with zeros where nothing was. */
static int put_kept(struct oci_tar_sink *s, struct err *e)
{
	const uint8_t *p = buf_data(&s->kept);
	uint64_t at = 0;
	int r = put_entry(s, &s->file, '0', s->file.path, "", s->size, e);

	for (size_t i = 0; r == 0 && i < s->n_map; i++) {
		r = put_zeros(s, s->map[i].offset - at, e);
		if (r == 0)
			r = put(s, p, (size_t)s->map[i].len, e);
		p += s->map[i].len;
		at = s->map[i].offset + s->map[i].len;
	}
	s->keeping = false;
	s->pos = at;
	buf_consume(&s->kept, s->kept.len);
	return r;
}

/* The name beside the real one, which is in a record, as GNU tar makes it: DIR/GNUSparseFile.0/NAME. */
static char *sparse_name(const char *path)
{
	const char *base = strrchr(path, '/');
	size_t dir = base ? (size_t)(base - path) + 1 : 0;

	return str_printf("%.*sGNUSparseFile.0/%s", (int)dir, path, path + dir);
}

static int put_map(struct buf *b, const struct oci_tar_sink *s, struct err *e)
{
	static const uint8_t zeros[BLOCK];
	char text[64];
	const struct piece *last = s->n_map ? &s->map[s->n_map - 1] : NULL;
	bool hole_last = !last || last->offset + last->len < s->size;
	int n = snprintf(text, sizeof(text), "%zu\n", s->n_map + hole_last),
	    r = buf_append(b, text, (size_t)n);

	for (size_t i = 0; r == 0 && i < s->n_map; i++) {
		n = snprintf(
			text, sizeof(text), "%" PRIu64 "\n%" PRIu64 "\n", s->map[i].offset, s->map[i].len);
		r = buf_append(b, text, (size_t)n);
	}
	if (r == 0 && hole_last) {
		n = snprintf(text, sizeof(text), "%" PRIu64 "\n0\n", s->size);
		r = buf_append(b, text, (size_t)n);
	}
	if (r == 0 && b->len % BLOCK)
		r = buf_append(b, zeros, BLOCK - b->len % BLOCK);
	return r < 0 ? err_oom(e) : 0;
}

static int put_sparse(struct oci_tar_sink *s, struct err *e)
{
	CLEANUP(buf_done) struct buf map = {0};
	CLEANUP_FREE char *name = sparse_name(s->file.path);
	int r = name ? put_map(&map, s, e) : err_oom(e);

	if (r == 0 && !is_utf8(s->file.path))
		r = record(s, "hdrcharset", "BINARY", strlen("BINARY"), e);
	if (r == 0)
		r = record(s, "GNU.sparse.major", "1", 1, e);
	if (r == 0)
		r = record(s, "GNU.sparse.minor", "0", 1, e);
	if (r == 0)
		r = record(s, "GNU.sparse.name", s->file.path, strlen(s->file.path), e);
	if (r == 0)
		r = number_record(s, "GNU.sparse.realsize", s->size, e);
	if (r == 0)
		r = put_entry(s, &s->file, '0', name, "", map.len + s->data, e);
	if (r == 0)
		r = put(s, buf_data(&map), map.len, e);
	if (r == 0)
		r = put(s, buf_data(&s->kept), s->kept.len, e);
	return r < 0 ? r : pad(s, e);
}

/* Ends the last file, if one is being written. */
static int finish_file(struct oci_tar_sink *s, struct err *e)
{
	int r = 0;

	if (!s->in_file)
		return 0;
	if (s->keeping && s->size - s->data >= SPARSE_MIN) {
		r = put_sparse(s, e);
		file_done(s);
		return r;
	}
	if (s->keeping)
		r = put_kept(s, e);
	if (r == 0)
		r = put_zeros(s, s->size - s->pos, e);
	if (r == 0)
		r = pad(s, e);
	file_done(s);
	return r;
}

static int keep_copy(struct oci_tar_sink *s, const struct wire_entry *en, const char *name, struct err *e)
{
	struct wire_entry *f = &s->file;

	*f = *en;
	f->target = f->link = NULL;
	f->xattrs = NULL;
	f->n_xattrs = 0;
	f->path = strdup(name);
	if (en->n_xattrs)
		f->xattrs = calloc(en->n_xattrs, sizeof(*f->xattrs));
	if (!f->path || (en->n_xattrs && !f->xattrs))
		return err_oom(e);
	for (size_t i = 0; i < en->n_xattrs; i++) {
		const struct wire_xattr *from = &en->xattrs[i];
		struct wire_xattr *x = &f->xattrs[f->n_xattrs++];
		x->name = strdup(from->name);
		x->value = malloc(from->len + 1);
		x->len = from->len;
		if (!x->name || !x->value)
			return err_oom(e);
		if (from->len)
			memcpy(x->value, from->value, from->len);
	}
	return 0;
}

static int begin_file(struct oci_tar_sink *s, const struct wire_entry *en, const char *name, struct err *e)
{
	s->in_file = true;
	s->size = en->size;
	if (!s->layer && en->size >= SPARSE_MIN) {
		s->keeping = true;
		return keep_copy(s, en, name, e);
	}
	return put_entry(s, en, '0', name, "", en->size, e);
}

static int keep(struct oci_tar_sink *s, uint64_t offset, const void *bytes, size_t len, struct err *e)
{
	struct piece *last = s->n_map ? &s->map[s->n_map - 1] : NULL;

	if (last && last->offset + last->len == offset)
		last->len += len;
	else
		s->map[s->n_map++] = (struct piece){offset, len};
	s->data += len;
	s->pos = offset + len;
	return buf_append(&s->kept, bytes, len) < 0 ? err_oom(e) : 0;
}

static int content(void *data, uint64_t offset, const void *bytes, size_t len, struct err *e)
{
	struct oci_tar_sink *s = data;
	int r = 0;

	if (!s->in_file || offset < s->pos || offset > s->size || len > s->size - offset)
		return err_set(e, -EBADMSG, "cannot write the archive: content that belongs to no file");
	if (len == 0)
		return 0;
	if (s->keeping && len <= KEEP_MAX - s->kept.len && s->n_map < MAP_MAX)
		return keep(s, offset, bytes, len, e);
	if (s->keeping)
		r = put_kept(s, e);
	if (r == 0)
		r = put_zeros(s, offset - s->pos, e);
	if (r == 0)
		r = put(s, bytes, len, e);
	s->pos = offset + len;
	return r;
}

/* ---- entries ---- */

static const char *base_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* "PREFIX/PATH" with a slash behind a folder's; NULL when out of memory. */
static char *name_of(const struct oci_tar_sink *s, const char *path, bool folder)
{
	bool both = s->prefix && *path;

	return !s->prefix && !*path ? strdup("./")
				    : str_printf("%s%s%s%s", s->prefix ? s->prefix : "", both ? "/" : "",
					      path, folder ? "/" : "");
}

/* A regular file of nothing whose name says what it means (image-spec layer.md, "Whiteouts"). */
static int put_mark(struct oci_tar_sink *s, const char *dir, size_t dir_len, const char *prefix,
	const char *base, struct err *e)
{
	static const struct wire_entry none = {.mode = S_IFREG};
	CLEANUP_FREE char *path =
		str_printf("%.*s%s%s%s", (int)dir_len, dir, dir_len ? "/" : "", prefix, base);
	CLEANUP_FREE char *name = path ? name_of(s, path, false) : NULL;

	return name ? put_entry(s, &none, '0', name, "", 0, e) : err_oom(e);
}

static int put_whiteout(struct oci_tar_sink *s, const struct wire_entry *en, struct err *e)
{
	const char *base = base_of(en->path);

	if (!s->layer || !*base)
		return err_set(
			e, -EINVAL, "\"%.300s\" is deleted, which only an image's layer can say", en->path);
	s->entries++;
	return put_mark(s, en->path, (size_t)(base - en->path) - (base > en->path), WHITEOUT, base, e);
}

static int put_link(struct oci_tar_sink *s, const struct wire_entry *en, const char *name, struct err *e)
{
	const struct oci_path *f = oci_paths_find(&s->paths, en->link, strlen(en->link));
	struct wire_entry as;

	if (!f)
		return err_set(e, -EBADMSG, "\"%.300s\" is a further name of what did not come", en->path);
	if (S_ISSOCK(f->mode))
		return 0;
	as = (struct wire_entry){.mode = f->mode,
		.uid = f->uid,
		.gid = f->gid,
		.mtime_s = f->mtime_s,
		.mtime_ns = f->mtime_ns};
	CLEANUP_FREE char *target = name_of(s, en->link, false);
	return target ? put_entry(s, &as, '1', name, target, 0, e) : err_oom(e);
}

static int remember(struct oci_tar_sink *s, const struct wire_entry *en, struct err *e)
{
	struct oci_path *p;
	int r = oci_paths_add(&s->paths, en->path, strlen(en->path), &p, e);

	if (r < 0)
		return r;
	p->mode = en->mode;
	p->uid = en->uid;
	p->gid = en->gid;
	p->mtime_s = en->mtime_s;
	p->mtime_ns = en->mtime_ns;
	return 0;
}

/* In a layer such a name would delete something, or be lost. */
static int check_name(const struct oci_tar_sink *s, const char *path, struct err *e)
{
	if (!s->layer || strncmp(base_of(path), WHITEOUT, strlen(WHITEOUT)) != 0)
		return 0;
	err_set(e, -EINVAL,
		"\"%.300s\" cannot be kept in an image: there, names that begin with .wh. mark what is "
		"deleted",
		path);
	return err_hint(e, "rename or remove it first");
}

static int entry(void *data, const struct wire_entry *en, struct err *e)
{
	struct oci_tar_sink *s = data;
	bool folder = S_ISDIR(en->mode) && !en->link;
	int r = finish_file(s, e);

	if (r < 0)
		return r;
	if (en->whiteout)
		return put_whiteout(s, en, e);
	if (!en->path || (en->opaque && !s->layer))
		return err_set(e, -EINVAL,
			"\"%.300s\" hides what lies below it, which only an image's layer can say",
			en->path ? en->path : "");
	if (!*en->path && folder && s->no_root && !en->opaque)
		return 0;
	if (!*en->path && !folder && !s->prefix)
		return err_set(e, -EINVAL, "cannot write an archive of a file without a name");
	CLEANUP_FREE char *name = name_of(s, en->path, folder);
	if (!name)
		return err_oom(e);
	r = check_name(s, en->path, e);
	if (r == 0 && !en->link && !folder)
		r = remember(s, en, e);
	s->entries += *en->path || en->opaque;
	if (r < 0 ||
		(!en->link &&
			S_ISSOCK(en->mode))) /* an archive has no kind for sockets: left out, as by tar(1) */
		return r;
	if (en->link)
		r = put_link(s, en, name, e);
	else if (S_ISREG(en->mode))
		r = begin_file(s, en, name, e);
	else
		r = put_entry(
			s, en, type_of(en), name, S_ISLNK(en->mode) && en->target ? en->target : "", 0, e);
	if (r == 0 && en->opaque && folder)
		r = put_mark(s, en->path, strlen(en->path), OPAQUE, "", e);
	if (r < 0)
		err_wrap(e, "\"%.300s\"", en->path);
	return r;
}

static int end(void *data, struct err *e)
{
	struct oci_tar_sink *s = data;
	int r = finish_file(s, e);

	if (r == 0)
		r = put_zeros(s, 2ull * BLOCK, e);
	return r < 0 ? r : flush(s, e);
}

/* ---- the interface ---- */

int oci_tar_sink_to(
	const struct oci_sink *to, const struct oci_tar_opts *o, struct oci_tar_sink **ret, struct err *e)
{
	CLEANUP(oci_tar_sink_freep) struct oci_tar_sink *s = calloc(1, sizeof(*s));

	if (!s)
		return err_oom(e);
	s->to = *to;
	s->layer = o && o->layer;
	s->no_root = o && o->no_root;
	s->prefix = str_dup(o ? o->prefix : NULL);
	s->out = malloc(OUT_SIZE);
	s->map = calloc(MAP_MAX, sizeof(*s->map));
	if (!s->out || !s->map || (o && o->prefix && !s->prefix))
		return err_oom(e);
	s->sink = (struct tree_sink){.entry = entry, .content = content, .end = end, .data = s};
	*ret = TAKE_PTR(s);
	return 0;
}

int oci_tar_sink_new(int fd, const struct oci_tar_opts *o, struct oci_tar_sink **ret, struct err *e)
{
	struct oci_sink to = {.write = write_fd};
	int r = oci_tar_sink_to(&to, o, ret, e);

	if (r == 0) {
		(*ret)->fd = fd;
		(*ret)->to.data = *ret;
	}
	return r;
}

const struct tree_sink *oci_tar_sink(struct oci_tar_sink *s)
{
	return &s->sink;
}

uint64_t oci_tar_sink_entries(const struct oci_tar_sink *s)
{
	return s->entries;
}

uint64_t oci_tar_sink_bytes(const struct oci_tar_sink *s)
{
	return s->bytes;
}

void oci_tar_sink_free(struct oci_tar_sink *s)
{
	if (!s)
		return;
	file_done(s);
	oci_paths_done(&s->paths);
	buf_done(&s->records);
	buf_done(&s->kept);
	free(s->prefix);
	free(s->out);
	free(s->map);
	free(s);
}
