/* SPDX-License-Identifier: MIT */
#include "walk.h"

#include <limits.h>
#include <search.h>
#include <string.h>
#include <sys/stat.h>

#include "walk-file.h"

/* What our disks are made with (box/run.c), and what they could be. */
#define INCOMPAT \
	(EXT2_FEATURE_INCOMPAT_FILETYPE | EXT3_FEATURE_INCOMPAT_EXTENTS | EXT4_FEATURE_INCOMPAT_64BIT | \
		EXT4_FEATURE_INCOMPAT_FLEX_BG | EXT4_FEATURE_INCOMPAT_CSUM_SEED | \
		EXT2_FEATURE_INCOMPAT_META_BG | EXT4_FEATURE_INCOMPAT_LARGEDIR)
/* Of inodes: what is stored otherwise than it is read here. */
#define FLAGS_REFUSED (EXT4_ENCRYPT_FL | EXT4_VERITY_FL | EXT4_INLINE_DATA_FL | EXT4_CASEFOLD_FL)

/* ---- errors ---- */

int walk_damaged(struct walk *w, struct err *e, const char *what)
{
	return err_set(e, -EUCLEAN, "its file system is damaged: \"/%s\": %s", w->path, what);
}

int walk_failed(struct walk *w, struct err *e, errcode_t code)
{
	if (code == EXT2_ET_NO_MEMORY)
		return err_oom(e);
	return walk_damaged(w, e, w->lib->error_message(code));
}

/* ---- folders ---- */

struct name {
	uint32_t ino;
	char text[];
};

struct listing {
	struct walk *w;
	struct name **v;
	size_t n, cap;
	int result;
	struct err *e;
};

static void listing_done(struct listing *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->v[i]);
	free(l->v);
}

static int listing_add(struct listing *l, uint32_t ino, const char *text, size_t len)
{
	if (len == 0 || len > NAME_MAX || memchr(text, '/', len) || memchr(text, '\0', len))
		return walk_damaged(l->w, l->e, "a name in it");
	if (++l->w->entries > WALK_ENTRIES_MAX)
		return err_set(l->e, -E2BIG, "it has more than %u files", WALK_ENTRIES_MAX);
	if (l->n == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 16;
		struct name **v = realloc(l->v, cap * sizeof(struct name *));
		if (!v)
			return err_oom(l->e);
		l->v = v;
		l->cap = cap;
	}
	struct name *name = malloc(sizeof(*name) + len + 1);
	if (!name)
		return err_oom(l->e);
	name->ino = ino;
	memcpy(name->text, text, len);
	name->text[len] = '\0';
	l->v[l->n++] = name;
	return 0;
}

static int on_dirent(
	ext2_ino_t dir, int kind, struct ext2_dir_entry *de, int offset, int size, char *block, void *data)
{
	struct listing *l = data;
	size_t len = de->name_len & 0xff; /* above it: the type */

	(void)dir, (void)offset, (void)size, (void)block;
	if (kind == DIRENT_DOT_FILE || kind == DIRENT_DOT_DOT_FILE || de->inode == 0)
		return 0;
	l->result = listing_add(l, de->inode, de->name, len);
	return l->result < 0 ? DIRENT_ABORT : 0;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp((*(struct name *const *)a)->text, (*(struct name *const *)b)->text);
}

static int list(struct listing *l, uint32_t ino)
{
	struct walk *w = l->w;
	errcode_t code = w->lib->ext2fs_dir_iterate2(w->fs, ino, 0, NULL, on_dirent, l);

	if (l->result < 0)
		return l->result;
	if (code)
		return walk_failed(w, l->e, code);
	if (l->n > 1)
		qsort(l->v, l->n, sizeof(*l->v), compare_names);
	for (size_t i = 0; i < l->n; i++)
		if (strcmp(l->v[i]->text, ".") == 0 || strcmp(l->v[i]->text, "..") == 0 ||
			(i > 0 && strcmp(l->v[i]->text, l->v[i - 1]->text) == 0))
			return walk_damaged(w, l->e, "a name in it");
	return 0;
}

/* ---- names of one file ---- */

struct first {
	uint32_t ino;
	char *path;
};

static int compare_firsts(const void *a, const void *b)
{
	uint32_t x = ((const struct first *)a)->ino, y = ((const struct first *)b)->ino;

	return x < y ? -1 : x > y;
}

static void first_free(void *p)
{
	free(((struct first *)p)->path);
	free(p);
}

/* The path at which it came before, or NULL. */
static const char *find_first(struct walk *w, uint32_t ino)
{
	struct first key = {.ino = ino};
	struct first **found = tfind(&key, &w->firsts, compare_firsts);

	return found ? (*found)->path : NULL;
}

static int note_first(struct walk *w, uint32_t ino, struct err *e)
{
	struct first *f = calloc(1, sizeof(*f));

	if (f) {
		f->ino = ino;
		f->path = strdup(w->path);
	}
	if (!f || !f->path || !tsearch(f, &w->firsts, compare_firsts)) {
		if (f)
			first_free(f);
		return err_oom(e);
	}
	return 0;
}

/* ---- entries ---- */

static int enter_once(struct walk *w, uint32_t ino, struct err *e)
{
	uint8_t *byte = &w->seen[ino / 8], bit = (uint8_t)(1 << ino % 8);

	if (*byte & bit)
		return walk_damaged(w, e, "a folder has several names");
	*byte |= bit;
	return 0;
}

static int walk_node(struct walk *w, uint32_t ino, bool in_xwhiteouts, struct err *e);

/* What is in a folder. Recursion is bounded by TREE_DEPTH_MAX. */
static int walk_below(struct walk *w, uint32_t ino, bool xwhiteouts, struct err *e)
{
	CLEANUP(listing_done) struct listing l = {.w = w, .e = e};
	int r = enter_once(w, ino, e);

	if (r == 0 && w->depth == TREE_DEPTH_MAX)
		r = err_set(e, -ENAMETOOLONG, "its folders are nested deeper than %d", TREE_DEPTH_MAX);
	if (r == 0)
		r = list(&l, ino);
	w->depth++;
	for (size_t i = 0; r == 0 && i < l.n; i++) {
		size_t len = w->len, slash = len > 0, n = strlen(l.v[i]->text);
		if (n + slash > WIRE_PATH_MAX - len) {
			r = err_set(e, -ENAMETOOLONG, "it has a path longer than %d bytes", WIRE_PATH_MAX);
			break;
		}
		if (slash)
			w->path[len] = '/';
		memcpy(w->path + len + slash, l.v[i]->text, n + 1);
		w->len = len + slash + n;
		r = walk_node(w, l.v[i]->ino, xwhiteouts, e);
		w->len = len;
		w->path[len] = '\0';
	}
	w->depth--;
	return r;
}

static int check_inode(struct walk *w, const struct file *f, struct err *e)
{
	if (!f->links)
		return walk_damaged(w, e, "it is deleted");
	if (f->flags & FLAGS_REFUSED)
		return walk_damaged(w, e, "a kind of storage that boxes' disks do not have");
	return 0;
}

/* An entry that is only a place: a whiteout, or a further name. */
static int send_place(struct walk *w, const char *link, struct err *e)
{
	struct wire_entry en = {.path = w->path, .link = (char *)link, .whiteout = !link};

	return w->to->entry(w->to->data, &en, e);
}

static int walk_node(struct walk *w, uint32_t ino, bool in_xwhiteouts, struct err *e)
{
	struct overlay_attr attr = {0};
	struct file f;
	int r = file_read(w, ino, &f, e);

	if (r == 0)
		r = check_inode(w, &f, e);
	if (r < 0)
		return r;
	if (S_ISCHR(f.mode) && f.major == 0 && f.minor == 0)
		return send_place(w, NULL, e);
	bool names = w->o->content && f.links > 1 && !S_ISDIR(f.mode) && !S_ISSOCK(f.mode);
	const char *first = names ? find_first(w, ino) : NULL;
	if (first)
		return send_place(w, first, e);
	struct wire_entry en = {
		.mode = f.mode,
		.uid = f.uid,
		.gid = f.gid,
		.mtime_s = f.mtime_s,
		.mtime_ns = f.mtime_ns,
		.major = f.major,
		.minor = f.minor,
		.size = S_ISREG(f.mode) ? f.size : 0,
	};
	r = file_xattrs(w, ino, &en, &attr, e);
	if (r == 0 && in_xwhiteouts && attr.whiteout && S_ISREG(f.mode) && f.size == 0) {
		wire_entry_done(&en);
		return send_place(w, NULL, e);
	}
	if (r == 0 && S_ISLNK(f.mode))
		r = file_target(w, ino, &f, &en.target, e);
	if (r == 0) {
		en.opaque = S_ISDIR(f.mode) && attr.opaque;
		en.path = strdup(w->path);
		r = en.path ? w->to->entry(w->to->data, &en, e) : err_oom(e);
	}
	wire_entry_done(&en);
	if (r == 0 && names)
		r = note_first(w, ino, e);
	if (r == 0 && S_ISREG(f.mode) && w->o->content)
		r = file_content(w, ino, &f, e);
	if (r == 0 && S_ISDIR(f.mode))
		r = walk_below(w, ino, attr.xwhiteouts, e);
	return r;
}

/* ---- the file system ---- */

static int check_super(struct walk *w, struct err *e)
{
	const struct ext2_super_block *sb = w->fs->super;
	uint64_t blocks = w->lib->ext2fs_blocks_count(w->fs->super), size = w->fs->blocksize;

	if (sb->s_feature_incompat & EXT3_FEATURE_INCOMPAT_RECOVER)
		return err_set(e, -EUCLEAN, "its journal was not replayed");
	if (sb->s_feature_incompat & ~(uint32_t)INCOMPAT)
		return err_set(e, -EUCLEAN, "it has features that boxes' disks do not have (0x%x)",
			sb->s_feature_incompat & ~(uint32_t)INCOMPAT);
	if (blocks > w->size / size || sb->s_inodes_count > w->size / EXT2_INODE_SIZE(sb))
		return err_set(e, -EUCLEAN, "its file system is larger than the disk");
	w->bytes_left = blocks * size;
	return 0;
}

static int walk_opened(struct walk *w, struct err *e)
{
	const struct ext2 *lib = w->lib;
	ext2_ino_t upper;
	int r = check_super(w, e);

	if (r < 0)
		return r;
	errcode_t code = lib->ext2fs_lookup(w->fs, EXT2_ROOT_INO, "upper", 5, NULL, &upper);
	if (code == EXT2_ET_FILE_NOT_FOUND)
		return -ENOENT;
	if (code)
		return walk_failed(w, e, code);
	w->inode_size = (size_t)EXT2_INODE_SIZE(w->fs->super);
	w->inode = calloc(1, MAX_OF(w->inode_size, sizeof(struct ext2_inode_large)));
	w->seen = calloc(1, (size_t)w->fs->super->s_inodes_count / 8 + 1);
	w->mem = malloc(WALK_COPY_SIZE);
	if (!w->inode || !w->seen || !w->mem)
		return err_oom(e);
	struct file f;
	r = file_read(w, upper, &f, e);
	if (r == 0 && !S_ISDIR(f.mode))
		r = walk_damaged(w, e, "the upper layer is no folder");
	if (r == 0)
		r = walk_node(w, upper, false, e);
	return r < 0 ? r : w->to->end(w->to->data, e);
}

int walk_upper(const struct ext2 *lib, int fd, uint64_t size, const struct walk_opts *o,
	const struct tree_sink *to, struct err *e)
{
	struct walk *w = calloc(1, sizeof(*w));

	if (!w)
		return err_oom(e);
	*w = (struct walk){.lib = lib, .o = o, .to = to, .fd = fd, .size = size};
	errcode_t code =
		lib->ext2fs_open2("disk", NULL, EXT2_FLAG_64BITS, 0, 0, ext2_reads(fd, size), &w->fs);
	int r = code ? err_set(e, code == EXT2_ET_NO_MEMORY ? -ENOMEM : -EUCLEAN,
			       "its file system is damaged: %s", lib->error_message(code))
		     : walk_opened(w, e);

	if (w->fs)
		lib->ext2fs_free(w->fs);
	tdestroy(w->firsts, first_free);
	free(w->inode);
	free(w->seen);
	free(w->mem);
	free(w);
	return r;
}
