/* SPDX-License-Identifier: MIT */
/* Linux, Documentation/filesystems/ext4/: inodes, extended attributes, and where content is. */
#include "walk-file.h"

#include <endian.h>
#include <linux/limits.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/io.h"

#define FILE_BYTES_MAX (1ull << 44) /* what 32 bits of blocks of 4 KiB can number */

/* ---- inodes ---- */

static void read_mtime(const struct walk *w, struct file *f)
{
	const struct ext2_inode_large *i = w->inode;
	size_t end = offsetof(struct ext2_inode_large, i_mtime_extra) + sizeof(i->i_mtime_extra);

	f->mtime_s = (int32_t)i->i_mtime;
	if (w->inode_size <= EXT2_GOOD_OLD_INODE_SIZE || EXT2_GOOD_OLD_INODE_SIZE + i->i_extra_isize < end ||
		i->i_mtime_extra >> 2 >= 1000000000)
		return;
	f->mtime_s += (int64_t)(i->i_mtime_extra & 3) << 32;
	f->mtime_ns = i->i_mtime_extra >> 2;
}

/* Of a device: 16 bits in the first word, or else 32 in the second, as Linux packs them. */
static void read_device(const struct walk *w, struct file *f)
{
	uint32_t old = w->inode->i_block[0], packed = w->inode->i_block[1];

	f->major = old ? old >> 8 & 0xff : packed >> 8 & 0xfff;
	f->minor = old ? old & 0xff : (packed & 0xff) | (packed >> 12 & 0xfff00);
}

int file_read(struct walk *w, uint32_t ino, struct file *ret, struct err *e)
{
	struct ext2_inode_large *i = w->inode;
	size_t n = MAX_OF(w->inode_size, sizeof(*i));

	*ret = (struct file){0};
	memset(i, 0, n);
	if (ino < EXT2_ROOT_INO || ino > w->fs->super->s_inodes_count)
		return walk_damaged(w, e, "its inode's number");
	errcode_t code = w->lib->ext2fs_read_inode_full(w->fs, ino, (struct ext2_inode *)i, (int)n);
	if (code)
		return walk_failed(w, e, code);
	ret->mode = i->i_mode;
	ret->links = i->i_links_count;
	ret->flags = i->i_flags;
	ret->uid = i->i_uid | (uint32_t)i->osd2.linux2.l_i_uid_high << 16;
	ret->gid = i->i_gid | (uint32_t)i->osd2.linux2.l_i_gid_high << 16;
	ret->size = i->i_size | (uint64_t)i->i_size_high << 32;
	memcpy(&ret->inode, i, sizeof(ret->inode));
	read_mtime(w, ret);
	switch (i->i_mode & S_IFMT) {
	case S_IFCHR:
	case S_IFBLK:
		read_device(w, ret);
		break;
	case S_IFREG:
		if (ret->size > FILE_BYTES_MAX)
			return walk_damaged(w, e, "its size");
		break;
	case S_IFDIR:
	case S_IFLNK:
	case S_IFIFO:
	case S_IFSOCK:
		break;
	default:
		return walk_damaged(w, e, "its type");
	}
	return 0;
}

/* ---- extended attributes ---- */

#define OVERLAY "trusted.overlay."

struct reading {
	struct walk *w;
	struct wire_entry *en;
	struct overlay_attr *overlay;
	size_t total;
	int result;
	struct err *e;
};

static void read_overlay(struct overlay_attr *a, const char *name, const char *value, size_t len)
{
	if (strcmp(name, "opaque") == 0) {
		a->opaque = len == 1 && *value == 'y';
		a->xwhiteouts = len == 1 && *value == 'x';
	} else if (strcmp(name, "whiteout") == 0) {
		a->whiteout = true;
	}
}

static bool is_acl(const char *name)
{
	return strcmp(name, "system.posix_acl_access") == 0 || strcmp(name, "system.posix_acl_default") == 0;
}

static bool is_kept(const char *name)
{
	static const char *const prefixes[] = {"user.", "trusted.", "security."};
	size_t n = strnlen(name, XATTR_NAME_MAX + 1);

	for (size_t i = 0; i < ARRAY_LEN(prefixes); i++)
		if (strncmp(name, prefixes[i], strlen(prefixes[i])) == 0)
			return n > strlen(prefixes[i]) && n <= XATTR_NAME_MAX;
	return is_acl(name);
}

static int add_xattr(struct reading *r, const char *name, const void *value, size_t len)
{
	struct wire_entry *en = r->en;

	r->total += strlen(name) + len;
	if (en->n_xattrs == WIRE_XATTR_MAX || len > WIRE_XATTRS_MAX || r->total > WIRE_XATTRS_MAX)
		return err_set(r->e, -E2BIG, "the extended attributes of \"/%s\" are too large", r->w->path);
	struct wire_xattr *v = realloc(en->xattrs, (en->n_xattrs + 1) * sizeof(*v));
	if (!v)
		return err_oom(r->e);
	en->xattrs = v;
	v += en->n_xattrs++;
	*v = (struct wire_xattr){.name = strdup(name), .value = malloc(len + 1), .len = len};
	if (!v->name || !v->value)
		return err_oom(r->e);
	if (len)
		memcpy(v->value, value, len);
	return 0;
}

/*
 * On the disk an ACL is: u32 version 1; entries of u16 tag, u16 permissions and, for a named user or group, u32 ID. Programs see:
 * u32 version 2; entries that all have an ID (Linux, fs/ext4/acl.h and linux/posix_acl_xattr.h). The library can do this, but
 * reads and writes behind the end of one that is cut off (1.47.0, ext2fs_xattr_get).
 */
static int add_acl(struct reading *r, const char *name, const char *value, size_t len)
{
	enum { USER = 0x02, GROUP = 0x08, ON_DISK = 1, SEEN = 2, NO_ID = -1, ENTRIES_MAX = 8192 };
	const uint32_t version = htole32(SEEN), no_id = (uint32_t)NO_ID;
	uint32_t disk_version;
	size_t at = sizeof(disk_version);

	if (len < at || len > ENTRIES_MAX * 8)
		return walk_damaged(r->w, r->e, "an access control list");
	memcpy(&disk_version, value, sizeof(disk_version));
	if (le32toh(disk_version) != ON_DISK)
		return walk_damaged(r->w, r->e, "an access control list");
	/* At most twice as long. */
	CLEANUP(buf_done) struct buf acl = {0};
	int rc = buf_append(&acl, &version, sizeof(version));
	while (rc == 0 && len - at >= 4) {
		uint16_t tag;
		memcpy(&tag, value + at, sizeof(tag));
		bool named = le16toh(tag) == USER || le16toh(tag) == GROUP;
		if (len - at < (named ? 8u : 4u))
			break;
		rc = buf_append(&acl, value + at, named ? 8 : 4);
		if (rc == 0 && !named)
			rc = buf_append(&acl, &no_id, sizeof(no_id));
		at += named ? 8 : 4;
	}
	if (rc < 0)
		return err_oom(r->e);
	if (at != len)
		return walk_damaged(r->w, r->e, "an access control list");
	return add_xattr(r, name, buf_data(&acl), acl.len);
}

static int on_xattr(char *name, char *value, size_t len, void *data)
{
	struct reading *r = data;

	if (strncmp(name, OVERLAY, strlen(OVERLAY)) == 0)
		read_overlay(r->overlay, name + strlen(OVERLAY), value, len);
	else if (is_acl(name))
		r->result = add_acl(r, name, value, len);
	else if (is_kept(name))
		r->result = add_xattr(r, name, value, len);
	return r->result < 0 ? XATTR_ABORT : 0;
}

int file_xattrs(struct walk *w, uint32_t ino, struct wire_entry *en, struct overlay_attr *ret, struct err *e)
{
	struct reading r = {.w = w, .en = en, .overlay = ret, .e = e};
	struct ext2_xattr_handle *h = NULL;
	errcode_t code = w->lib->ext2fs_xattrs_open(w->fs, ino, &h);

	if (!code)
		code = w->lib->ext2fs_xattrs_read(h);
	if (!code)
		code = w->lib->ext2fs_xattrs_iterate(h, on_xattr, &r);
	int rc = code ? walk_failed(w, e, code) : r.result;
	if (h)
		w->lib->ext2fs_xattrs_close(&h);
	return rc;
}

/* ---- content ---- */

struct sending {
	struct walk *w;
	uint64_t size, next;	  /* of the file; its first byte that nothing was sent of */
	uint64_t lblk, pblk, len; /* blocks that are still to be sent, in a row */
	int (*fn)(struct sending *s, uint64_t offset, const void *bytes, size_t n);
	void *data;
	int result;
	struct err *e;
};

/* Content from a byte of the disk on. */
static int send_bytes(struct sending *s, uint64_t offset, uint64_t at, uint64_t n)
{
	struct walk *w = s->w;

	while (n > 0) {
		size_t k = (size_t)MIN_OF(n, (uint64_t)WALK_COPY_SIZE);
		ssize_t got = io_pread_full(w->fd, w->mem, k, (off_t)at);
		if (got < 0)
			return err_sys(s->e, (int)got, "cannot be read");
		if ((size_t)got != k)
			return walk_damaged(w, s->e, "its content lies behind the end of the disk");
		int r = s->fn(s, offset, w->mem, k);
		if (r < 0)
			return r;
		offset += k;
		at += k;
		n -= k;
	}
	return 0;
}

/* len blocks from pblk of the disk are content from block lblk on. What lies behind the file's end is not content. */
static int send_blocks(struct sending *s, uint64_t lblk, uint64_t pblk, uint64_t len)
{
	struct walk *w = s->w;
	uint64_t bs = w->fs->blocksize, blocks = w->lib->ext2fs_blocks_count(w->fs->super);

	if (pblk >= blocks || len > blocks - pblk || lblk > FILE_BYTES_MAX / bs || lblk * bs < s->next)
		return walk_damaged(w, s->e, "where its content is");
	uint64_t offset = lblk * bs, n = len * bs;
	s->next = offset + n;
	if (offset >= s->size)
		return 0;
	n = MIN_OF(n, s->size - offset);
	if (n > w->bytes_left)
		return walk_damaged(w, s->e, "there is more content than room for it");
	w->bytes_left -= n;
	return send_bytes(s, offset, pblk * bs, n);
}

static int send_extents(struct sending *s, uint32_t ino, const struct file *f)
{
	const struct ext2 *lib = s->w->lib;
	struct ext2_inode inode = f->inode;
	struct ext2fs_extent x;
	ext2_extent_handle_t h = NULL;
	errcode_t code = lib->ext2fs_extent_open2(s->w->fs, ino, &inode, &h);
	int r = 0;

	if (!code)
		code = lib->ext2fs_extent_get(h, EXT2_EXTENT_ROOT, &x);
	while (!code && r == 0) {
		/* An unwritten extent is zeros, like a hole. */
		if ((x.e_flags & EXT2_EXTENT_FLAGS_LEAF) &&
			!(x.e_flags & (EXT2_EXTENT_FLAGS_UNINIT | EXT2_EXTENT_FLAGS_SECOND_VISIT)))
			r = send_blocks(s, x.e_lblk, x.e_pblk, x.e_len);
		code = lib->ext2fs_extent_get(h, EXT2_EXTENT_NEXT, &x);
	}
	lib->ext2fs_extent_free(h);
	if (r == 0 && code && code != EXT2_ET_EXTENT_NO_NEXT && code != EXT2_ET_NO_CURRENT_NODE)
		r = walk_failed(s->w, s->e, code);
	return r;
}

static int on_block(
	ext2_filsys fs, blk64_t *block, e2_blkcnt_t count, blk64_t ref, int ref_offset, void *data)
{
	struct sending *s = data;

	(void)fs, (void)ref, (void)ref_offset;
	if (count < 0 || *block == 0)
		return 0;
	if (s->len > 0 && (uint64_t)count == s->lblk + s->len && *block == s->pblk + s->len) {
		s->len++;
		return 0;
	}
	s->result = s->len > 0 ? send_blocks(s, s->lblk, s->pblk, s->len) : 0;
	s->lblk = (uint64_t)count;
	s->pblk = *block;
	s->len = 1;
	return s->result < 0 ? BLOCK_ABORT : 0;
}

/* A file whose blocks are in the older form: chattr(1) can ask for it. */
static int send_mapped(struct sending *s, uint32_t ino)
{
	struct walk *w = s->w;
	errcode_t code = w->lib->ext2fs_block_iterate3(
		w->fs, ino, BLOCK_FLAG_READ_ONLY | BLOCK_FLAG_DATA_ONLY, NULL, on_block, s);

	if (s->result < 0)
		return s->result;
	if (code)
		return walk_failed(w, s->e, code);
	return s->len > 0 ? send_blocks(s, s->lblk, s->pblk, s->len) : 0;
}

static int send_file(struct sending *s, uint32_t ino, const struct file *f)
{
	return f->flags & EXT4_EXTENTS_FL ? send_extents(s, ino, f) : send_mapped(s, ino);
}

static int to_sink(struct sending *s, uint64_t offset, const void *bytes, size_t n)
{
	return s->w->to->content(s->w->to->data, offset, bytes, n, s->e);
}

int file_content(struct walk *w, uint32_t ino, const struct file *f, struct err *e)
{
	struct sending s = {.w = w, .size = f->size, .fn = to_sink, .e = e};

	return f->size > 0 ? send_file(&s, ino, f) : 0;
}

/* ---- links ---- */

static int to_target(struct sending *s, uint64_t offset, const void *bytes, size_t n)
{
	memcpy((char *)s->data + offset, bytes, n); /* within s->size */
	return 0;
}

int file_target(struct walk *w, uint32_t ino, const struct file *f, char **ret, struct err *e)
{
	struct sending s = {.w = w, .size = f->size, .fn = to_target, .e = e};

	if (f->size == 0 || f->size > WIRE_PATH_MAX)
		return walk_damaged(w, e, "where the link leads");
	CLEANUP_FREE char *target = calloc(1, f->size + 1);
	if (!target)
		return err_oom(e);
	s.data = target;
	int r = 0;
	if (f->size < sizeof(f->inode.i_block))
		memcpy(target, f->inode.i_block, f->size);
	else
		r = send_file(&s, ino, f);
	if (r < 0)
		return r;
	if (strlen(target) != f->size)
		return walk_damaged(w, e, "where the link leads");
	*ret = TAKE_PTR(target);
	return 0;
}
