/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * A stack of folders, each with the names that are in it. A folder further up than TREE_OPEN_MAX levels is closed; when
 * the way comes back to it, it is opened as ".." of the one below, and must be the same one.
 *
 * What a file is, is known from its descriptor, not from its name: a regular file is opened, and without waiting for anybody,
 * since it could meanwhile be a FIFO; everything else but folders is only pointed at (O_PATH).
 *
 * An entry says the length of its content before that comes. Of files that the kernel makes up while they are read (/proc, /sys)
 * nobody knows it before: they are read to their end first.
 */
#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/xattr.h>

#include "base/io.h"
#include "inside.h"

enum { TRIES = 4, NAMES_AT_ONCE = 32768 /* bytes */ };
#define WHOLE_MAX ((size_t)4 << 20) /* bytes of a file that the kernel makes up */

/* struct linux_dirent64 of getdents64(2). */
struct entry_record {
	uint64_t ino;
	int64_t off;
	uint16_t len;
	uint8_t type;
	char name[];
};

struct level {
	int fd; /* -1: closed for the time being; levels[0] has the root folder all the time */
	dev_t dev;
	ino_t ino;
	char *text;	 /* names, each with a type before it and a NUL behind it */
	uint32_t *order; /* where they begin */
	size_t n, next, text_size, path_len;
};

struct reader {
	const struct tree_read_opts *o;
	const struct tree_sink *to;
	struct err *e;
	const char *root_name;
	struct level *levels;
	size_t depth, cap, n_open;
	char path[WIRE_PATH_MAX + 1];
	size_t path_len;
	uint8_t *buffer; /* TREE_BUFFER bytes: content, or a list of attributes' names */
	struct tree_links links;
	size_t memory;
	uint64_t entries, bytes;
	dev_t asked; /* the file system that was last asked whether it is the kernel's own */
	bool asked_any, is_kernels;
};

static int fail(const struct reader *r, int code, const char *what)
{
	return err_sys(r->e, code, "%s \"%s\"", what,
		r->path_len	? r->path
		: *r->root_name ? r->root_name
				: ".");
}

static void progress(const struct reader *r)
{
	if (r->o->progress.fn)
		r->o->progress.fn(r->o->progress.data, r->entries, r->bytes);
}

/* ---- opening ---- */

/* One file that is open: what it is, and whether something else is mounted there. */
struct found {
	int fd;
	struct stat st;
	bool mounted;	/* with one_fs */
	uint8_t *whole; /* content of a file that the kernel makes up, st.st_size bytes; else NULL */
};

static void found_done(struct found *f)
{
	close_fd(&f->fd);
	free(TAKE_PTR(f->whole));
}

static uint8_t type_of(mode_t mode)
{
	return (uint8_t)((mode & S_IFMT) >> 12); /* IFTODT */
}

static int open_once(const struct reader *r, int dirfd, const char *name, uint8_t type, uint64_t resolve)
{
	uint64_t flags = O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_NOATIME;
	int fd;

	if (type != DT_REG && type != DT_DIR)
		return tree_open(dirfd, name, O_PATH | O_NOFOLLOW, resolve);
	flags |= type == DT_DIR ? O_DIRECTORY : 0;
	fd = tree_open(dirfd, name, flags, resolve);
	/* Somebody else's file: the time of its reading is theirs to be told. */
	return fd == -EPERM ? tree_open(dirfd, name, flags & ~(uint64_t)O_NOATIME, resolve) : fd;
}

/* type is what the folder says, which may be out of date. */
static int open_found(const struct reader *r, int dirfd, const char *name, uint8_t type, struct found *ret)
{
	uint64_t resolve = r->o->one_fs && r->depth ? RESOLVE_NO_XDEV : 0;

	ret->mounted = false;
	for (int i = 0; i < TRIES; i++) {
		CLEANUP_CLOSE int fd = open_once(r, dirfd, name, type, resolve);

		if (fd == -EXDEV && resolve) {
			resolve = 0;
			ret->mounted = true;
			continue;
		}
		if (fd < 0 && type != DT_UNKNOWN && (fd == -ELOOP || fd == -ENOTDIR || fd == -ENXIO)) {
			type = DT_UNKNOWN;
			continue;
		}
		if (fd < 0)
			return fd;
		if (fstat(fd, &ret->st) < 0)
			return -errno;
		if (type_of(ret->st.st_mode) == type ||
			(type != DT_REG && type != DT_DIR && !S_ISREG(ret->st.st_mode) &&
				!S_ISDIR(ret->st.st_mode))) {
			ret->fd = TAKE_FD(fd);
			return 0;
		}
		type = type_of(ret->st.st_mode);
	}
	return -ESTALE;
}

/* ---- an entry ---- */

static int add_xattr(struct wire_entry *en, int fd, const char *name, size_t *left)
{
	struct wire_xattr *x = &en->xattrs[en->n_xattrs];
	ssize_t n = fgetxattr(fd, name, NULL, 0);

	if (n < 0)
		return 0; /* gone, or not for us */
	if (en->n_xattrs == WIRE_XATTR_MAX || (size_t)n + strlen(name) > *left)
		return -E2BIG;
	x->name = strdup(name);
	x->value = malloc((size_t)n + 1);
	x->len = 0;
	if (!x->name || !x->value) {
		en->n_xattrs++;
		return -ENOMEM;
	}
	n = n ? fgetxattr(fd, name, x->value, (size_t)n) : 0;
	if (n < 0) {
		free(TAKE_PTR(x->name));
		free(TAKE_PTR(x->value));
		return 0;
	}
	x->len = (size_t)n;
	*left -= (size_t)n + strlen(name);
	en->n_xattrs++;
	return 0;
}

static int read_xattrs(const struct reader *r, int fd, struct wire_entry *en)
{
	char *list = (char *)r->buffer;
	ssize_t n = flistxattr(fd, list, TREE_BUFFER);
	size_t left = WIRE_XATTRS_MAX;
	int result = 0;

	if (n <= 0)
		return 0;
	en->xattrs = calloc(WIRE_XATTR_MAX, sizeof(*en->xattrs));
	if (!en->xattrs)
		return -ENOMEM;
	for (const char *p = list; result == 0 && p < list + n; p += strlen(p) + 1)
		if (tree_xattr_travels(p))
			result = add_xattr(en, fd, p, &left);
	return result;
}

static int read_target(int fd, struct wire_entry *en)
{
	char target[WIRE_PATH_MAX + 1];
	ssize_t n = readlinkat(fd, "", target, sizeof(target));

	if (n < 0)
		return -errno;
	if ((size_t)n == sizeof(target))
		return -ENAMETOOLONG;
	en->target = strndup(target, (size_t)n);
	return en->target ? 0 : -ENOMEM;
}

/* Processes, and the files about them, end at any time: what is below the root is passed over then. */
static bool vanished(const struct reader *r, int result)
{
	return r->depth && (result == -ENOENT || result == -ESRCH);
}

/* All of an entry but its path. 0, or -errno with nothing in it. */
static int read_entry(const struct reader *r, const struct found *f, struct wire_entry *ret)
{
	const struct stat *st = &f->st;
	int result = 0;

	*ret = (struct wire_entry){.mode = st->st_mode,
		.uid = st->st_uid,
		.gid = st->st_gid,
		.mtime_s = st->st_mtim.tv_sec,
		.mtime_ns = (uint32_t)st->st_mtim.tv_nsec,
		.size = S_ISREG(st->st_mode) ? (uint64_t)st->st_size : 0};
	if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode)) {
		ret->major = major(st->st_rdev);
		ret->minor = minor(st->st_rdev);
	}
	if (S_ISLNK(st->st_mode))
		result = read_target(f->fd, ret);
	else if (S_ISREG(st->st_mode) || S_ISDIR(st->st_mode))
		result = read_xattrs(r, f->fd, ret);
	if (result < 0)
		wire_entry_done(ret);
	return result;
}

/* Only lends it the path. */
static int send_entry(struct reader *r, struct wire_entry *en)
{
	en->path = r->path;
	int result = r->to->entry(r->to->data, en, r->e);
	en->path = NULL;
	r->entries++;
	progress(r);
	return result;
}

static int send_link(struct reader *r, const char *first)
{
	const struct wire_entry en = {.path = r->path, .link = (char *)(uintptr_t)first};

	r->entries++;
	progress(r);
	return r->to->entry(r->to->data, &en, r->e);
}

/* ---- content ---- */

/* File systems whose files are made up when they are read, so that st_size says nothing. */
static bool is_kernels(uint64_t type)
{
	static const uint32_t types[] = {PROC_SUPER_MAGIC, SYSFS_MAGIC, CGROUP_SUPER_MAGIC,
		CGROUP2_SUPER_MAGIC, DEBUGFS_MAGIC, TRACEFS_MAGIC, SECURITYFS_MAGIC, SELINUX_MAGIC,
		SMACK_MAGIC, BINFMTFS_MAGIC, BPF_FS_MAGIC, NSFS_MAGIC, RDTGROUP_SUPER_MAGIC};

	for (size_t i = 0; i < ARRAY_LEN(types); i++)
		if ((uint32_t)type == types[i])
			return true;
	return false;
}

/* Asks only once on the way through a file system: one that is far away takes its time to answer. */
static bool is_made_up(struct reader *r, const struct found *f)
{
	struct statfs fs;

	if (!r->asked_any || r->asked != f->st.st_dev) {
		r->is_kernels = fstatfs(f->fd, &fs) == 0 && is_kernels((uint64_t)fs.f_type);
		r->asked = f->st.st_dev;
		r->asked_any = true;
	}
	return r->is_kernels;
}

static int read_whole(struct found *f)
{
	size_t cap = 4096, len = 0;

	for (;;) {
		uint8_t *more = realloc(f->whole, cap);
		if (!more)
			return -ENOMEM;
		f->whole = more;
		ssize_t n = io_read_full(f->fd, more + len, cap - len);
		if (n < 0)
			return (int)n;
		len += (size_t)n;
		if (len < cap)
			break;
		if (len > WHOLE_MAX)
			return -EFBIG;
		cap = MIN_OF(cap * 2, WHOLE_MAX + 1);
	}
	f->st.st_size = (off_t)len;
	return 0;
}

static int send_whole(struct reader *r, const struct found *f)
{
	size_t size = (size_t)f->st.st_size;
	int result = 0;

	for (size_t at = 0, n; result == 0 && at < size; at += n) {
		n = MIN_OF(size - at, (size_t)TREE_BUFFER);
		result = r->to->content(r->to->data, at, f->whole + at, n, r->e);
		r->bytes += n;
		progress(r);
	}
	return result;
}

static int send_range(struct reader *r, int fd, off_t pos, off_t end)
{
	while (pos < end) {
		ssize_t n = pread(fd, r->buffer, (size_t)MIN_OF(end - pos, (off_t)TREE_BUFFER), pos);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fail(r, -errno, "read");
		if (n == 0)
			return 0; /* it shrank: what is missing is a hole */
		int result = r->to->content(r->to->data, (uint64_t)pos, r->buffer, (size_t)n, r->e);
		if (result < 0)
			return result;
		pos += n;
		r->bytes += (uint64_t)n;
		progress(r);
	}
	return 0;
}

static int send_content(struct reader *r, const struct found *f)
{
	off_t size = f->st.st_size, pos = 0;
	bool holes = f->st.st_blocks < size / 512;
	int result = 0;

	while (result == 0 && pos < size) {
		off_t data = pos, end = size;

		if (holes) {
			data = lseek(f->fd, pos, SEEK_DATA);
			if (data < 0 && errno == ENXIO)
				break;
			end = data < 0 ? -1 : lseek(f->fd, data, SEEK_HOLE);
			if (data < 0 || end < 0) { /* a file system that does not know */
				data = pos;
				end = size;
			}
		}
		result = send_range(r, f->fd, data, MIN_OF(end, size));
		pos = end;
	}
	return result;
}

/* ---- folders ---- */

static void level_done(struct reader *r, struct level *l)
{
	r->n_open -= l->fd >= 0;
	r->memory -= l->text_size + l->n * sizeof(*l->order);
	close_fd(&l->fd);
	free(l->text);
	free(l->order);
}

static int compare_names(const void *a, const void *b, void *text)
{
	return strcmp(
		(const char *)text + *(const uint32_t *)a + 1, (const char *)text + *(const uint32_t *)b + 1);
}

/* All names of the folder into one text; counts them. */
static int gather(struct reader *r, int fd, struct buf *text, size_t *n)
{
	union {
		struct entry_record first;
		char bytes[NAMES_AT_ONCE];
	} records;
	ssize_t len;

	while ((len = syscall(SYS_getdents64, fd, &records, sizeof(records))) > 0) {
		for (ssize_t at = 0; at < len;) {
			const struct entry_record *d =
				(const struct entry_record *)(const void *)(records.bytes + at);
			const char *name = d->name;

			at += d->len;
			if (d->type == DT_SOCK || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
				continue;
			if (buf_append(text, &d->type, 1) < 0 || buf_append(text, name, strlen(name) + 1) < 0)
				return -ENOMEM;
			++*n;
			if (text->len + *n * sizeof(uint32_t) > TREE_MEMORY_MAX - r->memory)
				return -E2BIG;
		}
	}
	return len < 0 ? -errno : 0;
}

static int read_names(struct reader *r, struct level *l)
{
	CLEANUP(buf_done) struct buf text = {0};
	size_t n = 0, at = 0;
	int result = gather(r, l->fd, &text, &n);

	if (result < 0)
		return vanished(r, result) ? 0 : result; /* it is empty */
	l->order = malloc(n * sizeof(*l->order) + 1);
	if (!l->order)
		return -ENOMEM;
	l->text = (char *)TAKE_PTR(text.mem); /* nothing was consumed: it begins there */
	l->text_size = text.len;
	l->n = n;
	r->memory += l->text_size + n * sizeof(*l->order);
	for (size_t i = 0; i < n; i++) {
		l->order[i] = (uint32_t)at;
		at += 1 + strlen(l->text + at + 1) + 1;
	}
	if (n)
		qsort_r(l->order, n, sizeof(*l->order), compare_names, l->text);
	return 0;
}

static void close_uppermost(struct reader *r)
{
	size_t i = 1;

	while (r->levels[i].fd < 0)
		i++;
	close_fd(&r->levels[i].fd);
	r->n_open--;
}

/* f's descriptor becomes the level's. */
static int push(struct reader *r, struct found *f)
{
	if (r->depth > TREE_DEPTH_MAX)
		return fail(r, -ENAMETOOLONG, "read");
	if (r->depth == r->cap) {
		size_t cap = r->cap ? r->cap * 2 : 16;
		void *more = realloc(r->levels, cap * sizeof(*r->levels));

		if (!more)
			return err_oom(r->e);
		r->levels = more;
		r->cap = cap;
	}
	struct level *l = &r->levels[r->depth++];
	*l = (struct level){
		.fd = TAKE_FD(f->fd), .dev = f->st.st_dev, .ino = f->st.st_ino, .path_len = r->path_len};
	if (++r->n_open > TREE_OPEN_MAX)
		close_uppermost(r);
	int result = read_names(r, l);
	return result < 0 ? fail(r, result, "read") : 0;
}

/* The folder above, if it is closed, by way of the one that is left. */
static int reopen_above(struct reader *r)
{
	struct level *l = &r->levels[r->depth - 1], *above = l - 1;
	struct stat st;

	if (above->fd >= 0)
		return 0;
	CLEANUP_CLOSE int fd = tree_open(l->fd, "..", O_PATH | O_DIRECTORY, 0);
	if (fd < 0 || fstat(fd, &st) < 0)
		return fd < 0 ? fd : -errno;
	if (st.st_dev != above->dev || st.st_ino != above->ino)
		return -ESTALE;
	above->fd = TAKE_FD(fd);
	r->n_open++;
	return 0;
}

static int pop(struct reader *r)
{
	int result = r->depth > 1 ? reopen_above(r) : 0;

	if (result < 0)
		return fail(r, result, "come back from");
	level_done(r, &r->levels[--r->depth]);
	return 0;
}

/* ---- the walk ---- */

static bool is_passed_over(const struct reader *r, const struct stat *st)
{
	for (size_t i = 0; r->depth && i < r->o->n_pass_over; i++)
		if (st->st_dev == r->o->pass_over[i].dev && st->st_ino == r->o->pass_over[i].ino)
			return true;
	return false;
}

static int send_all(struct reader *r, struct found *f, struct wire_entry *en)
{
	const char *first = NULL;
	bool folder = S_ISDIR(f->st.st_mode);
	int result;

	if (!folder && f->st.st_nlink > 1 && r->depth)
		first = tree_links_seen(&r->links, f->st.st_dev, f->st.st_ino, r->path);
	if (first)
		return send_link(r, first);
	result = send_entry(r, en);
	if (result < 0 || r->o->no_content)
		return result;
	if (S_ISREG(f->st.st_mode))
		return f->whole ? send_whole(r, f) : send_content(r, f);
	return folder && !f->mounted && !is_passed_over(r, &f->st) ? push(r, f) : 0;
}

static int send_found(struct reader *r, struct found *f)
{
	struct wire_entry en = {0};
	int result = 0;

	if (f->mounted && !S_ISDIR(f->st.st_mode))
		return 0; /* what is below it cannot be seen */
	/* All that can fail because it is gone, before anything of it is told. */
	if (S_ISREG(f->st.st_mode) && !r->o->no_content && is_made_up(r, f))
		result = read_whole(f);
	if (result < 0)
		return vanished(r, result) ? 0 : fail(r, result, "read");
	result = read_entry(r, f, &en);
	if (result < 0)
		return vanished(r, result) ? 0 : fail(r, result, "read the attributes of");
	result = send_all(r, f, &en);
	wire_entry_done(&en);
	return result;
}

static int visit(struct reader *r, const struct level *l, const char *record)
{
	const char *name = record + 1;
	size_t n = strlen(name), at = l->path_len;
	struct found f = {.fd = -1};
	int result;

	if (at + (at > 0) + n > WIRE_PATH_MAX)
		return fail(r, -ENAMETOOLONG, "read what is in");
	if (at)
		r->path[at++] = '/';
	memcpy(r->path + at, name, n + 1);
	r->path_len = at + n;
	result = open_found(r, l->fd, name, (uint8_t)*record, &f);
	if (result < 0)
		return vanished(r, result) ? 0 : fail(r, result, "open");
	result = S_ISSOCK(f.st.st_mode) ? 0 : send_found(r, &f);
	found_done(&f);
	return result;
}

static int walk(struct reader *r)
{
	int result = 0;

	while (result == 0 && r->depth) {
		struct level *l = &r->levels[r->depth - 1];

		if (l->next < l->n) {
			result = visit(r, l, l->text + l->order[l->next++]);
			continue;
		}
		r->path_len = l->path_len;
		r->path[r->path_len] = '\0';
		result = pop(r);
	}
	return result;
}

/* With follow: as the kernel resolves it. */
static int open_linked(int dirfd, const char *name, struct found *ret)
{
	CLEANUP_CLOSE int fd = openat(dirfd, name, O_PATH | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &ret->st) < 0)
		return -errno;
	if (S_ISREG(ret->st.st_mode) || S_ISDIR(ret->st.st_mode)) {
		dev_t dev = ret->st.st_dev;
		ino_t ino = ret->st.st_ino;
		int again = openat(dirfd, name, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

		if (again < 0)
			return -errno;
		close_fd(&fd);
		fd = again;
		if (fstat(fd, &ret->st) < 0)
			return -errno;
		if (ret->st.st_dev != dev || ret->st.st_ino != ino)
			return -ESTALE;
	}
	ret->fd = TAKE_FD(fd);
	return 0;
}

static int read_root(struct reader *r, int dirfd)
{
	const char *name = *r->root_name ? r->root_name : ".";
	struct found f = {.fd = -1};
	int result = r->o->follow ? open_linked(dirfd, name, &f) : open_found(r, dirfd, name, DT_UNKNOWN, &f);

	if (result < 0)
		return fail(r, result, "open");
	if (S_ISSOCK(f.st.st_mode))
		result = err_set(r->e, -EINVAL, "\"%s\" is a socket, which cannot be copied", name);
	else
		result = send_found(r, &f);
	found_done(&f);
	if (result == 0)
		result = walk(r);
	return result < 0 ? result : r->to->end(r->to->data, r->e);
}

int tree_read_folder(int dirfd, const char *name, const struct tree_read_opts *o, const struct tree_sink *to,
	struct err *e)
{
	struct reader r = {.o = o, .to = to, .e = e, .root_name = name};
	int result;

	if (*name && (!wire_path_valid(name) || strchr(name, '/')))
		return err_set(e, -EINVAL, "\"%s\" is no name of a file", name);
	r.buffer = malloc(TREE_BUFFER);
	result = r.buffer ? read_root(&r, dirfd) : err_oom(e);
	while (r.depth)
		level_done(&r, &r.levels[--r.depth]);
	free(r.levels);
	free(r.buffer);
	tree_links_done(&r.links);
	return result;
}
