/* SPDX-License-Identifier: MIT */
#include "store.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/io.h"
#include "base/log.h"
#include "erofs.h"
#include "reference.h"
#include "schema.sql.h"
#include "state/event.h"

/* ---- opening ---- */

static int open_dir(int at, const char *name, int *ret, struct err *e)
{
	*ret = io_open_dir_at(at, name, true);
	return *ret < 0 ? err_sys(e, *ret, "image store: cannot open %s", name) : 0;
}

static int open_dirs(struct oci_store *s, struct err *e)
{
	CLEANUP_CLOSE int blobs = -1;
	int r = open_dir(s->st->home_fd, "images", &s->images_fd, e);

	if (r == 0)
		r = open_dir(s->images_fd, "blobs", &blobs, e);
	if (r == 0)
		r = open_dir(blobs, "sha256", &s->sha256_fd, e);
	if (r == 0)
		r = open_dir(blobs, "sha512", &s->sha512_fd, e);
	if (r == 0)
		r = open_dir(s->images_fd, "disks", &s->disks_fd, e);
	if (r == 0)
		r = open_dir(s->images_fd, "tmp", &s->tmp_fd, e);
	return r;
}

/* Looking first keeps the write lock away from commands that only read. */
static int open_schema(struct oci_store *s, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *st = NULL;
	char *why = NULL;
	int r = state_prepare(s->st, &st, e, OCI_SCHEMA_PROBE, "");

	if (r == 0)
		r = state_step(s->st, st, e);
	if (r != 0)
		return r < 0 ? r : 0;
	stmt_done(&st);
	st = NULL;
	r = state_begin(s->st, e);
	if (r < 0)
		return r;
	if (sqlite3_exec(s->st->db, OCI_SCHEMA, NULL, NULL, &why) != SQLITE_OK) {
		bool full = (sqlite3_errcode(s->st->db) & 0xff) == SQLITE_FULL;
		r = err_set(e, full ? -ENOSPC : -EIO, "image store: cannot set up the database: %s",
			why ? why : "?");
	}
	sqlite3_free(why);
	return state_end(s->st, r, e);
}

int oci_store_open(struct state *st, struct oci_store **ret, struct err *e)
{
	CLEANUP(oci_store_closep) struct oci_store *s = calloc(1, sizeof(*s));

	if (!s)
		return err_oom(e);
	s->st = st;
	s->unpacked_max = OCI_UNPACKED_MAX;
	s->images_fd = s->tmp_fd = s->disks_fd = s->sha256_fd = s->sha512_fd = -1;
	int r = open_dirs(s, e);
	if (r == 0)
		r = open_schema(s, e);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(s);
	return 0;
}

void oci_store_close(struct oci_store *s)
{
	if (!s)
		return;
	close_fd(&s->images_fd);
	close_fd(&s->tmp_fd);
	close_fd(&s->disks_fd);
	close_fd(&s->sha256_fd);
	close_fd(&s->sha512_fd);
	free(s);
}

/* ---- locking ---- */

void oci_store_clean_tmp(struct oci_store *s)
{
	int fd = openat(s->tmp_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (!d) {
		close_fd(&fd);
		return;
	}
	for (struct dirent *de; (de = readdir(d));) {
		if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0)
			continue;
		log_debug("image store: deleting left-over %s", de->d_name);
		(void)io_remove_tree_at(s->tmp_fd, de->d_name);
	}
	closedir(d);
}

int oci_store_lock(struct oci_store *s, enum oci_lock kind, int *ret, struct err *e)
{
	CLEANUP_CLOSE int fd = openat(s->images_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return err_sys(e, -errno, "image store: cannot open its lock");
	if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
		if (kind == OCI_LOCK_ADD)
			oci_store_clean_tmp(s);
	} else if (errno != EWOULDBLOCK && errno != EINTR) {
		return err_sys(e, -errno, "image store: cannot lock it");
	} else if (kind == OCI_LOCK_DELETE) {
		return -EBUSY;
	}
	if (kind == OCI_LOCK_ADD)
		while (flock(fd, LOCK_SH) < 0)
			if (errno != EINTR)
				return err_sys(e, -errno, "image store: cannot lock it");
	*ret = TAKE_FD(fd);
	return 0;
}

/* ---- files in the making ---- */

int oci_store_room(struct oci_store *s, uint64_t bytes, struct err *e)
{
	struct statvfs v;

	/* What cannot be told now shows when writing. */
	if (fstatvfs(s->tmp_fd, &v) < 0 || !v.f_blocks || !v.f_frsize || bytes / v.f_frsize <= v.f_bavail)
		return 0;
	return oci_write_error(-ENOSPC, e);
}

int oci_spool_new(
	struct oci_store *s, bool hash, const char *hash_like, struct oci_spool **ret, struct err *e)
{
	CLEANUP(oci_spool_freep) struct oci_spool *sp = calloc(1, sizeof(*sp));
	uint64_t random;

	if (!sp)
		return err_oom(e);
	sp->store = s;
	sp->fd = -1;
	if (hash) {
		int r = oci_hash_new(hash_like, &sp->hash, e);
		if (r < 0)
			return r;
	}
	io_random(&random, sizeof(random));
	snprintf(sp->tmp, sizeof(sp->tmp), "%d-%016llx", (int)getpid(), (unsigned long long)random);
	sp->fd = openat(s->tmp_fd, sp->tmp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (sp->fd < 0) {
		sp->tmp[0] = '\0';
		return oci_write_error(-errno, e);
	}
	*ret = TAKE_PTR(sp);
	return 0;
}

int oci_spool_write(struct oci_spool *sp, const void *data, size_t n, struct err *e)
{
	int r = io_write_full(sp->fd, data, n);

	if (r < 0)
		return oci_write_error(r, e);
	sp->size += n;
	if (sp->hash)
		oci_hash_update(sp->hash, data, n);
	return 0;
}

int oci_spool_finish(struct oci_spool *sp, struct err *e)
{
	if (sp->hash) {
		oci_hash_final(sp->hash, sp->digest);
		if (!*sp->digest)
			return err_set(e, -EIO, "cannot compute a digest");
	}
	/* Writing back starts now, so that the sync before the rename finds little left to do. */
	(void)sync_file_range(sp->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
	if (lseek(sp->fd, 0, SEEK_SET) < 0)
		return oci_write_error(-errno, e);
	return 0;
}

int oci_spool_commit(struct oci_spool *sp, int dirfd, const char *name, struct err *e)
{
	if (fsync(sp->fd) < 0 || fchmod(sp->fd, 0400) < 0)
		return oci_write_error(-errno, e);
	if (renameat(sp->store->tmp_fd, sp->tmp, dirfd, name) < 0)
		return oci_write_error(-errno, e);
	sp->tmp[0] = '\0';
	return 0;
}

void oci_spool_free(struct oci_spool *sp)
{
	if (!sp)
		return;
	if (sp->tmp[0])
		(void)unlinkat(sp->store->tmp_fd, sp->tmp, 0);
	close_fd(&sp->fd);
	oci_hash_free(sp->hash);
	free(sp);
}

/* ---- blobs ---- */

int oci_store_blob_dir(struct oci_store *s, const char *digest)
{
	return strcmp(oci_digest_alg(digest), "sha512") == 0 ? s->sha512_fd : s->sha256_fd;
}

int oci_store_blob_open(struct oci_store *s, const char *digest, struct err *e)
{
	int fd = openat(oci_store_blob_dir(s, digest), oci_digest_hex(digest),
		O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

	if (fd >= 0 || errno == ENOENT)
		return fd >= 0 ? fd : -ENOENT;
	return err_sys(e, -errno, "image store: cannot open %s", digest);
}

int oci_store_sync(struct oci_store *s, struct err *e)
{
	int r = io_fsync_dir(s->sha256_fd);

	if (r == 0)
		r = io_fsync_dir(s->sha512_fd);
	if (r == 0)
		r = io_fsync_dir(s->disks_fd);
	return r < 0 ? err_sys(e, r, "image store: cannot sync its folders") : 0;
}

/* ---- entering an image ---- */

static int enter_blob(struct oci_store *s, const char *manifest, uint64_t pos, const char *digest,
	const char *diff, struct err *e)
{
	return state_exec(s->st, e,
		"INSERT OR REPLACE INTO image_blobs(manifest, pos, digest, diff) VALUES(?, ?, ?, ?)", "suss",
		manifest, pos, digest, diff);
}

static int enter_name(struct oci_store *s, const char *name, const struct oci_entry *en, struct err *e)
{
	CLEANUP(oci_reference_done) struct oci_reference ref = {0};
	int r = oci_reference_parse(name, &ref, e);

	if (r < 0)
		return r;
	CLEANUP_FREE char *repo = oci_reference_repo(&ref);
	if (!repo)
		return err_oom(e);
	return state_exec(s->st, e,
		"INSERT OR REPLACE INTO image_names(name, repo, digest, manifest) VALUES(?, ?, ?, ?)", "ssss",
		name, repo, en->served, en->manifest);
}

/* As Docker reports it: a pull by the reference that was asked for, all else by the image's ID. */
static int note_entered(struct oci_store *s, const struct oci_entry *en, const char *action, struct err *e)
{
	CLEANUP_FREE char *name = en->names.n ? oci_ref_familiar(en->names.v[0]) : NULL;

	if (en->names.n && !name)
		return err_oom(e);
	const char *actor = name && strcmp(action, "pull") == 0 ? name : en->config;
	return event_add(s->st, e, "image", action, actor, "name", name ? name : en->config, NULL);
}

int oci_store_enter(struct oci_store *s, const struct oci_entry *en, const char *action, struct err *e)
{
	const struct oci_platform *p = &en->c->platform;
	uint64_t pos = 0;

	int r = state_exec(s->st, e,
		"INSERT OR REPLACE INTO image_manifests(digest, config, chain, size, created_ns, added_ns, "
		"os, arch,"
		" variant, exec, doomed) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)",
		"sssuiissss", en->manifest, en->config, en->chain, en->disk_size, en->c->created_ns,
		time_real_ns(), p->os, p->arch, p->variant, en->c->exec_json);
	if (r == 0)
		r = enter_blob(s, en->manifest, pos++, en->manifest, NULL, e);
	if (r == 0)
		r = enter_blob(s, en->manifest, pos++, en->config, NULL, e);
	for (size_t i = 0; r == 0 && i < en->m->n_layers; i++)
		r = enter_blob(s, en->manifest, pos++, en->m->layers[i].digest, en->c->diff_ids[i], e);
	for (size_t i = 0; r == 0 && i < en->names.n; i++)
		r = enter_name(s, en->names.v[i], en, e);
	return r < 0 ? r : note_entered(s, en, action, e);
}
