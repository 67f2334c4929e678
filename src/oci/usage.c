/* SPDX-License-Identifier: MIT */
/* What images take on disk. The database says which files there are, and whose; the file system, how large they are. */
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "image.h"

static uint64_t file_bytes(int dirfd, const char *name)
{
	struct stat st;
	return fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

uint64_t oci_blob_bytes(struct oci_store *s, const char *digest)
{
	return digest && oci_digest_valid(digest)
		       ? file_bytes(oci_store_blob_dir(s, digest), oci_digest_hex(digest))
		       : 0;
}

uint64_t oci_disk_bytes(struct oci_store *s, const char *chain)
{
	char name[OCI_DIGEST_MAX + 8];

	if (!chain || !oci_digest_valid(chain))
		return 0;
	snprintf(name, sizeof(name), "%s.img", oci_digest_hex(chain));
	return file_bytes(s->disks_fd, name);
}

static int add_folder(int dirfd, uint64_t *sum, struct err *e)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (!d) {
		int r = err_sys(e, -errno, "image store: cannot read a folder");
		close_fd(&fd);
		return r;
	}
	for (struct dirent *de; (de = readdir(d));)
		if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0)
			*sum += file_bytes(dirfd, de->d_name);
	closedir(d);
	return 0;
}

/* Of what is kept: all but tmp/. */
static int kept_bytes(struct oci_store *s, uint64_t *ret, struct err *e)
{
	const int folders[] = {s->sha256_fd, s->sha512_fd, s->disks_fd, s->partial_fd};
	int r = 0;

	*ret = 0;
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(folders); i++)
		r = add_folder(folders[i], ret, e);
	return r;
}

int oci_store_bytes(struct oci_store *s, uint64_t *ret, struct err *e)
{
	uint64_t sum;
	int r = kept_bytes(s, &sum, e);

	if (r == 0)
		r = add_folder(s->tmp_fd, &sum, e);
	if (r == 0)
		*ret = sum;
	return r;
}

/* ---- whose files they are ---- */

struct owner {
	const char *id; /* of the caller's list */
	struct oci_usage u;
};

struct count {
	struct oci_store *s;
	struct owner *owners; /* by ID, each once */
	size_t n;
	uint64_t held_bytes; /* of files that a holder needs */
	/* the present file */
	char name[OCI_DIGEST_MAX];
	uint64_t bytes;
	size_t *users, n_users, cap;	/* owners of it */
	char last_user[OCI_DIGEST_MAX]; /* ID of the image that the last row was about */
	size_t n_images;		/* that need it, in the list or not */
	bool held;
};

static int by_id(const void *a, const void *b)
{
	return strcmp(((const struct owner *)a)->id, ((const struct owner *)b)->id);
}

static struct owner *find_owner(struct count *c, const char *id)
{
	struct owner key = {.id = id};

	return c->n ? bsearch(&key, c->owners, c->n, sizeof(*c->owners), by_id) : NULL;
}

static int count_init(struct count *c, struct oci_image *const *list, size_t n, struct err *e)
{
	c->owners = calloc(n + 1, sizeof(*c->owners));
	if (!c->owners)
		return err_oom(e);
	for (size_t i = 0; i < n; i++)
		c->owners[i].id = list[i]->id;
	qsort(c->owners, n, sizeof(*c->owners), by_id);
	for (size_t i = 0; i < n; i++)
		if (c->n == 0 || strcmp(c->owners[c->n - 1].id, c->owners[i].id) != 0)
			c->owners[c->n++] = c->owners[i];
	return 0;
}

static void count_done(struct count *c)
{
	free(c->owners);
	free(c->users);
}

/* The rows of one file are over. */
static void end_file(struct count *c)
{
	for (size_t i = 0; i < c->n_users; i++) {
		struct oci_usage *u = &c->owners[c->users[i]].u;
		u->bytes += c->bytes;
		u->shared_bytes += c->n_images > 1 ? c->bytes : 0;
	}
	c->held_bytes += c->held ? c->bytes : 0;
	c->n_users = c->n_images = 0;
	c->last_user[0] = '\0';
	c->held = false;
}

static int add_user(struct count *c, const char *id, struct err *e)
{
	struct owner *o = find_owner(c, id);

	if (strcmp(id, c->last_user) == 0)
		return 0;
	oci_digest_copy(c->last_user, id);
	c->n_images++;
	if (!o)
		return 0;
	if (c->n_users == c->cap) {
		size_t cap = c->cap ? c->cap * 2 : 16;
		size_t *v = realloc(c->users, cap * sizeof(*v));
		if (!v)
			return err_oom(e);
		c->users = v;
		c->cap = cap;
	}
	c->users[c->n_users++] = (size_t)(o - c->owners);
	return 0;
}

/* sql gives file, image, and whether a holder needs it, in this order. */
static int count_files(struct count *c, const char *sql,
	uint64_t (*bytes_of)(struct oci_store *s, const char *name), struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *st = NULL;
	int r = state_prepare(c->s->st, &st, e, sql, "");

	c->name[0] = '\0';
	while (r >= 0 && (r = state_step(c->s->st, st, e)) > 0) {
		const char *name = (const char *)sqlite3_column_text(st, 0);
		const char *id = (const char *)sqlite3_column_text(st, 1);
		if (!name || !id)
			return err_oom(e);
		if (strcmp(name, c->name) != 0) {
			end_file(c);
			oci_digest_copy(c->name, name);
			c->bytes = bytes_of(c->s, name);
		}
		c->held |= sqlite3_column_int(st, 2);
		r = add_user(c, id, e);
	}
	end_file(c);
	return r;
}

static int count_holders(struct count *c, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *st = NULL;
	int r = state_prepare(c->s->st, &st, e,
		"SELECT m.config, count(DISTINCT r.holder) FROM image_refs r JOIN image_manifests m"
		" ON m.digest = r.manifest GROUP BY m.config",
		"");

	while (r >= 0 && (r = state_step(c->s->st, st, e)) > 0) {
		const char *id = (const char *)sqlite3_column_text(st, 0);
		struct owner *o = id ? find_owner(c, id) : NULL;
		if (o)
			o->u.holders = (uint64_t)sqlite3_column_int64(st, 1);
	}
	return r;
}

static int count_all(struct count *c, struct err *e)
{
	/* What an index keeps belongs to the images that its names lead to. */
	static const char blobs[] =
		"SELECT b.digest, m.config, m.digest IN (SELECT manifest FROM image_refs)"
		" FROM image_blobs b JOIN image_manifests m ON m.digest = b.manifest"
		" UNION ALL SELECT x.digest, m.config, m.digest IN (SELECT manifest FROM image_refs)"
		" FROM image_index_blobs x JOIN image_names n ON n.digest = x.idx"
		" JOIN image_manifests m ON m.digest = n.manifest ORDER BY 1, 2";
	static const char disks[] = "SELECT chain, config, digest IN (SELECT manifest FROM image_refs)"
				    " FROM image_manifests ORDER BY 1, 2";
	int r = count_files(c, blobs, oci_blob_bytes, e);

	if (r == 0)
		r = count_files(c, disks, oci_disk_bytes, e);
	return r == 0 ? count_holders(c, e) : r;
}

int oci_image_usage(struct oci_store *s, struct oci_image *const *list, size_t n, struct oci_usage *ret,
	uint64_t *ret_free, struct err *e)
{
	CLEANUP(count_done) struct count c = {.s = s};
	uint64_t all = 0;
	int r = count_init(&c, list, n, e);

	if (r == 0)
		r = count_all(&c, e);
	if (r == 0)
		r = kept_bytes(s, &all, e);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++)
		ret[i] = find_owner(&c, list[i]->id)->u;
	*ret_free = all > c.held_bytes ? all - c.held_bytes : 0;
	return 0;
}
