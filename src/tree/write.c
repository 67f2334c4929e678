/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * A file is written under a temporary name in its own folder and gets its attributes there; when the next entry comes it is
 * complete, and is renamed to its name. Folders are made at once, open for us alone, and get their attributes when everything
 * is in them, those that came last first.
 *
 * Whoever else may write to the folders meanwhile can move them and put other things in their place. What is done to a folder
 * is done by a descriptor of it (chain.c), what is done to a file by a descriptor from when it was made; a name in between is
 * never more than one component, which is not followed.
 */
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/xattr.h>

#include "base/io.h"
#include "inside.h"
#include "tree/stored.h"

enum { TEMPORARY_MAX = 32, TRIES = 16 };

struct folder {
	char *path;
	struct wire_entry attributes;
};

struct tree_writer {
	struct tree_sink sink;
	struct tree_write_opts o;
	int dirfd;
	char *name;
	int root; /* the root folder, O_PATH; -1: none yet, or it is no folder */
	bool root_is_file;
	struct tree_chain chain;

	/* The file that is being written. fd -1: none. Its folder is the chain's last, or dirfd. */
	int fd, parent;
	char temporary[TEMPORARY_MAX], base[256];
	struct wire_entry file;
	uint64_t end; /* of its content so far */

	struct tree_made made;	/* what links may lead to */
	struct folder *folders; /* whose attributes are still to be set */
	size_t n_folders, cap_folders, memory;
	uint64_t entries, bytes, serial;
};

/* ---- names and errors ---- */

static const char *shown(const struct tree_writer *w, const char *path)
{
	return *path ? path : *w->name ? w->name : ".";
}

static int fail(const struct tree_writer *w, struct err *e, int r, const char *what, const char *path)
{
	if (r == -EISDIR)
		return err_set(e, r, "cannot put a file at \"%s\": there is a folder", shown(w, path));
	if (r == -ENOTDIR)
		return err_set(e, r, "cannot put a folder at \"%s\": there is something else, or above it",
			shown(w, path));
	return err_sys(e, r, "%s \"%s\"", what, shown(w, path));
}

static void next_temporary(struct tree_writer *w, char name[TEMPORARY_MAX])
{
	snprintf(name, TEMPORARY_MAX, ".a3s-%016llx", (unsigned long long)w->serial++);
}

/* ---- what lasts ---- */

/* What is made in this folder stays, or nobody wants to know. */
static int check_durable(const struct tree_writer *w, int parent, const struct wire_entry *en, struct err *e)
{
	struct statfs fs;

	if (!w->o.durable)
		return 0;
	if (fstatfs(parent, &fs) < 0)
		return fail(w, e, -errno, "look at the folder of", en->path);
	if (fs.f_type != TMPFS_MAGIC && fs.f_type != RAMFS_MAGIC)
		return 0;
	return err_set(e, -ENOMEDIUM, "\"%s\" would be in memory", shown(w, en->path));
}

/* ---- regular files, and what is kept as one ---- */

static void drop_file(struct tree_writer *w)
{
	if (w->fd < 0)
		return;
	unlinkat(w->parent, w->temporary, 0);
	close_fd(&w->fd);
	wire_entry_done(&w->file);
}

static int begin_file(
	struct tree_writer *w, int parent, const char *base, const struct wire_entry *en, struct err *e)
{
	int r;

	for (int i = 0; w->fd < 0 && i < TRIES; i++) {
		next_temporary(w, w->temporary);
		w->fd = openat(
			parent, w->temporary, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0600);
		if (w->fd < 0 && errno != EEXIST)
			break;
	}
	if (w->fd < 0)
		return fail(w, e, -errno, "create", en->path);
	w->parent = parent;
	snprintf(w->base, sizeof(w->base), "%s", base);
	w->end = 0;
	r = tree_copy_attributes(&w->file, en);
	if (r == 0) {
		w->file.path = strdup(en->path);
		r = w->file.path ? 0 : -ENOMEM;
	}
	if (r < 0) {
		drop_file(w);
		return err_oom(e);
	}
	return 0;
}

/* A link that is kept as a file (tree/stored.h). 1: it cannot be kept here. */
static int begin_link(
	struct tree_writer *w, int parent, const char *base, const struct wire_entry *en, struct err *e)
{
	int r = begin_file(w, parent, base, en, e);

	if (r < 0)
		return r;
	/* The owner first: a file system may have room for that and not for both. */
	r = tree_set_attributes(w->fd, w->o.owner, &w->file);
	if (r == 0 && fsetxattr(w->fd, STORED_LINK, en->target, strlen(en->target), 0) < 0)
		r = -errno;
	if (r == 0)
		return 0;
	drop_file(w);
	return stored_link_refused(r) ? 1 : fail(w, e, r, "create", en->path);
}

/* To its name. What is replaced must not be lost to a crash before its successor is on the disk. */
static int put_in_place(struct tree_writer *w)
{
	if (renameat2(w->parent, w->temporary, w->parent, w->base, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EEXIST && errno != EINVAL && errno != ENOSYS)
		return -errno;
	if (w->o.sync && fsync(w->fd) < 0)
		return -errno;
	return renameat(w->parent, w->temporary, w->parent, w->base) < 0 ? -errno : 0;
}

static int finish_file(struct tree_writer *w, struct err *e)
{
	struct stat st;
	int r = 0;

	if (w->fd < 0)
		return 0;
	if (w->end < w->file.size && ftruncate(w->fd, (off_t)w->file.size) < 0)
		r = -errno;
	if (r == 0)
		r = tree_set_attributes(w->fd, w->o.owner, &w->file);
	if (r == 0)
		r = put_in_place(w);
	if (r == 0 && fstat(w->fd, &st) < 0)
		r = -errno;
	if (r < 0) {
		r = fail(w, e, r, "write", w->file.path);
		drop_file(w);
		return r;
	}
	r = tree_made_add(&w->made, w->file.path, &st, e);
	close_fd(&w->fd);
	wire_entry_done(&w->file);
	return r;
}

static int writer_content(void *data, uint64_t offset, const void *bytes, size_t len, struct err *e)
{
	struct tree_writer *w = data;
	int r;

	if (w->fd < 0 || offset < w->end || offset > w->file.size || len > w->file.size - offset)
		return err_set(e, -EBADMSG, "misplaced content in a tree of files");
	if (w->o.max_bytes && len > w->o.max_bytes - w->bytes)
		return err_set(
			e, -EFBIG, "the files have more than %llu bytes", (unsigned long long)w->o.max_bytes);
	r = io_pwrite_full(w->fd, bytes, len, (off_t)offset);
	if (r < 0)
		return fail(w, e, r, "write", w->file.path);
	w->end = offset + len;
	w->bytes += len;
	if (w->o.progress.fn)
		w->o.progress.fn(w->o.progress.data, w->entries, w->bytes);
	return 0;
}

/* ---- what has no content ---- */

/* One name, which must be free. 0 or -errno. */
static int make_node(struct tree_writer *w, int parent, const char *name, const struct wire_entry *en)
{
	int r;

	if (S_ISLNK(en->mode))
		r = symlinkat(en->target, parent, name);
	else
		r = mknodat(parent, name, (en->mode & S_IFMT) | 0600, makedev(en->major, en->minor));
	if (r < 0)
		return -errno;
	r = tree_set_node_attributes(parent, name, w->o.owner, en);
	if (r < 0)
		unlinkat(parent, name, 0);
	return r;
}

/* One more name, which must be free, of the file st. 0 or -errno. */
static int make_link(int parent, const char *name, int from, const char *from_name, const struct stat *st)
{
	struct stat now;

	if (linkat(from, from_name, parent, name, 0) < 0)
		return -errno;
	if (fstatat(parent, name, &now, AT_SYMLINK_NOFOLLOW) == 0 && now.st_dev == st->st_dev &&
		now.st_ino == st->st_ino)
		return 0;
	unlinkat(parent, name, 0); /* from_name was something else by then */
	return -ESTALE;
}

/* Beside what has the name, then over it. Two names of one file are left alone by rename(2), so the temporary one goes anyway. */
static int replace(struct tree_writer *w, int parent, const char *base, const char *temporary)
{
	int r = renameat(parent, temporary, parent, base) < 0 ? -errno : 0;

	if (unlinkat(parent, temporary, 0) < 0 && errno != ENOENT && r == 0)
		r = -errno;
	return r;
}

static int put_node(
	struct tree_writer *w, int parent, const char *base, const struct wire_entry *en, struct err *e)
{
	char temporary[TEMPORARY_MAX];
	struct stat st;
	int r = make_node(w, parent, base, en);

	if (r == -EEXIST) {
		for (int i = 0; r == -EEXIST && i < TRIES; i++) {
			next_temporary(w, temporary);
			r = make_node(w, parent, temporary, en);
		}
		if (r == 0)
			r = replace(w, parent, base, temporary);
	}
	if (r == 0 && fstatat(parent, base, &st, AT_SYMLINK_NOFOLLOW) < 0)
		r = -errno;
	return r < 0 ? fail(w, e, r, "create", en->path) : tree_made_add(&w->made, en->path, &st, e);
}

static int put_link(
	struct tree_writer *w, int parent, const char *base, const struct wire_entry *en, struct err *e)
{
	const char *slash = strrchr(en->link, '/');
	const char *from_name = slash ? slash + 1 : en->link;
	char temporary[TEMPORARY_MAX];
	struct tree_chain from_chain;
	struct stat st;
	int from = parent, r;

	/* Mostly in the same folder. */
	size_t here = (size_t)(strrchr(en->path, '/') ? strrchr(en->path, '/') - en->path : 0);
	bool same = here == (slash ? (size_t)(slash - en->link) : 0) && memcmp(en->path, en->link, here) == 0;
	if (!same) {
		tree_chain_init(&from_chain, w->root);
		from = tree_chain_open(&from_chain, en->link, slash ? (size_t)(slash - en->link) : 0);
	}
	r = from < 0 ? from : fstatat(from, from_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
	bool made = r < 0 || tree_made_has(&w->made, en->link, &st);
	if (r == 0)
		r = made ? make_link(parent, base, from, from_name, &st) : -EBADMSG;
	if (r == -EEXIST) {
		for (int i = 0; r == -EEXIST && i < TRIES; i++) {
			next_temporary(w, temporary);
			r = make_link(parent, temporary, from, from_name, &st);
		}
		if (r == 0)
			r = replace(w, parent, base, temporary);
	}
	if (!same)
		tree_chain_done(&from_chain);
	if (!made)
		return err_set(e, r, "\"%s\" is a further name of \"%s\", which does not come from this copy",
			en->path, en->link);
	return r < 0 ? fail(w, e, r, "link", en->path) : tree_made_add(&w->made, en->path, &st, e);
}

/* ---- folders ---- */

static int remember_folder(struct tree_writer *w, const struct wire_entry *en, struct err *e)
{
	size_t size = sizeof(struct folder) + strlen(en->path) + 1;

	for (size_t i = 0; i < en->n_xattrs; i++)
		size += sizeof(*en->xattrs) + strlen(en->xattrs[i].name) + en->xattrs[i].len + 2;
	if (size > TREE_MEMORY_MAX - w->memory)
		return err_set(e, -E2BIG, "too many folders in one tree (over %u MiB of them)",
			TREE_MEMORY_MAX >> 20);
	if (w->n_folders == w->cap_folders) {
		size_t cap = w->cap_folders ? w->cap_folders * 2 : 64;
		void *more = realloc(w->folders, cap * sizeof(*w->folders));

		if (!more)
			return err_oom(e);
		w->folders = more;
		w->cap_folders = cap;
	}
	struct folder f = {.path = strdup(en->path)};
	if (!f.path || tree_copy_attributes(&f.attributes, en) < 0) {
		free(f.path);
		return err_oom(e);
	}
	w->folders[w->n_folders++] = f;
	w->memory += size;
	return 0;
}

/* 1: it was there. */
static int make_folder(int parent, const char *base)
{
	if (mkdirat(parent, base, 0700) == 0)
		return 0;
	if (errno != EEXIST)
		return -errno;
	CLEANUP_CLOSE int fd = tree_open(parent, base, O_PATH | O_DIRECTORY | O_NOFOLLOW, 0);
	if (fd < 0)
		return fd == -ELOOP ? -ENOTDIR : fd;
	return 1;
}

/*
 * With TREE_OWNER_SELF, folders that were there stay as they are: what comes from a box shall not open a user's own folders to
 * others.
 */
static int put_folder(
	struct tree_writer *w, int parent, const char *base, const struct wire_entry *en, struct err *e)
{
	int there = make_folder(parent, base);

	if (there < 0)
		return fail(w, e, there, "create", en->path);
	return there && w->o.owner == TREE_OWNER_SELF ? 0 : remember_folder(w, en, e);
}

static int set_folder(struct tree_writer *w, const struct folder *f, struct err *e)
{
	int at = tree_chain_open(&w->chain, f->path, strlen(f->path));
	CLEANUP_CLOSE int fd = at < 0 ? at : tree_open(at, ".", O_RDONLY | O_DIRECTORY, 0);
	int r = fd < 0 ? fd : tree_set_attributes(fd, w->o.owner, &f->attributes);

	return r < 0 ? fail(w, e, r, "set the attributes of", f->path) : 0;
}

/* ---- the root ---- */

static int open_root(struct tree_writer *w)
{
	int fd = tree_open(w->dirfd, *w->name ? w->name : ".", O_PATH | O_DIRECTORY | O_NOFOLLOW, 0);

	if (fd < 0)
		return fd == -ELOOP ? -ENOTDIR : fd;
	w->root = fd;
	tree_chain_init(&w->chain, fd);
	return 0;
}

static int put_root_folder(struct tree_writer *w, const struct wire_entry *en, struct err *e)
{
	int r = *w->name ? check_durable(w, w->dirfd, en, e) : 0;
	if (r < 0)
		return r;
	int there = *w->name ? make_folder(w->dirfd, w->name) : 1;
	r = there < 0 ? there : w->root < 0 ? open_root(w) : 0;

	if (r < 0)
		return fail(w, e, r, "create", "");
	return there && !w->o.root_attr ? 0 : remember_folder(w, en, e);
}

/* ---- the sink ---- */

static int check_entry(struct tree_writer *w, const struct wire_entry *en, struct err *e)
{
	if (!wire_entry_valid(en))
		return err_set(e, -EINVAL, "a tree of files has an entry that is no valid one");
	if (en->whiteout || en->opaque)
		return err_set(e, -EINVAL, "\"%s\" is about a lower layer, which there is none of", en->path);
	if (w->root_is_file)
		return err_set(e, -ENOTDIR, "\"%s\" lies below what is no folder", en->path);
	if (w->o.max_entries && w->entries >= w->o.max_entries)
		return err_set(
			e, -E2BIG, "there are more than %llu files", (unsigned long long)w->o.max_entries);
	return 0;
}

static int put_entry(
	struct tree_writer *w, int parent, const char *base, const struct wire_entry *en, struct err *e)
{
	int r = check_durable(w, parent, en, e);

	if (r < 0)
		return r;
	if (en->link)
		return put_link(w, parent, base, en, e);
	if (S_ISDIR(en->mode))
		return put_folder(w, parent, base, en, e);
	if (S_ISSOCK(en->mode))
		return 0; /* nothing without the process that listens */
	if (S_ISLNK(en->mode) && w->o.owner == TREE_OWNER_STORED) {
		r = begin_link(w, parent, base, en, e);
		return r > 0 ? put_node(w, parent, base, en, e) : r;
	}
	if (S_ISREG(en->mode) || w->o.owner == TREE_OWNER_STORED)
		return begin_file(w, parent, base, en, e);
	if ((S_ISCHR(en->mode) || S_ISBLK(en->mode)) && w->o.owner == TREE_OWNER_SELF) {
		err_set(e, -EPERM, "\"%s\" is a device, which only root can make", shown(w, en->path));
		return e ? err_hint(e, "leave it out, or keep the owners as root") : -EPERM;
	}
	return put_node(w, parent, base, en, e);
}

static int writer_entry(void *data, const struct wire_entry *en, struct err *e)
{
	struct tree_writer *w = data;
	const char *base = w->name;
	int r = finish_file(w, e), parent = w->dirfd;

	if (r == 0)
		r = check_entry(w, en, e);
	if (r < 0)
		return r;
	w->entries++;
	if (w->o.progress.fn)
		w->o.progress.fn(w->o.progress.data, w->entries, w->bytes);
	if (!*en->path && !en->link && S_ISDIR(en->mode))
		return put_root_folder(w, en, e);
	if (!*en->path) {
		if (!*w->name)
			return fail(w, e, -EISDIR, "", "");
		w->root_is_file = true;
		return put_entry(w, parent, base, en, e);
	}
	r = w->root < 0 ? open_root(w) : 0;
	if (r == 0)
		r = parent = tree_chain_parent(&w->chain, en->path, &base);
	return r < 0 ? fail(w, e, r, "open the folder of", en->path) : put_entry(w, parent, base, en, e);
}

static int sync_all(struct tree_writer *w, struct err *e)
{
	CLEANUP_CLOSE int fd = tree_open(w->root < 0 ? w->dirfd : w->root, ".", O_RDONLY | O_DIRECTORY, 0);

	/* All at once: a file system brings thousands of files to the disk sooner than each by itself. */
	if (fd < 0 || syncfs(fd) < 0)
		return fail(w, e, fd < 0 ? fd : -errno, "bring to the disk", "");
	return 0;
}

static int writer_end(void *data, struct err *e)
{
	struct tree_writer *w = data;
	int r = finish_file(w, e);

	for (size_t i = w->n_folders; r == 0 && i > 0; i--)
		r = set_folder(w, &w->folders[i - 1], e);
	return r == 0 && w->o.sync ? sync_all(w, e) : r;
}

int tree_writer_new(
	int dirfd, const char *name, const struct tree_write_opts *o, struct tree_writer **ret, struct err *e)
{
	struct tree_writer *w;

	if (*name && (!wire_path_valid(name) || strchr(name, '/')))
		return err_set(e, -EINVAL, "\"%s\" is no name of a file", name);
	w = calloc(1, sizeof(*w));
	if (!w)
		return err_oom(e);
	w->sink = (struct tree_sink){writer_entry, writer_content, writer_end, w};
	w->o = *o;
	w->dirfd = dirfd;
	w->root = w->fd = -1;
	io_random(&w->serial, sizeof(w->serial));
	w->name = strdup(name);
	if (!w->name) {
		free(w);
		return err_oom(e);
	}
	*ret = w;
	return 0;
}

const struct tree_sink *tree_writer_sink(struct tree_writer *w)
{
	return &w->sink;
}

void tree_writer_free(struct tree_writer *w)
{
	if (!w)
		return;
	drop_file(w);
	for (size_t i = 0; i < w->n_folders; i++) {
		free(w->folders[i].path);
		wire_entry_done(&w->folders[i].attributes);
	}
	free(w->folders);
	tree_made_done(&w->made);
	if (w->root >= 0) {
		tree_chain_done(&w->chain);
		close(w->root);
	}
	free(w->name);
	free(w);
}
