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
#include "fetch.h"
#include "put.h"
#include "schema.sql.h"
#include "unsynced.h"

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
	if (r == 0)
		r = open_dir(s->images_fd, "partial", &s->partial_fd, e);
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
	s->stuck_ns = OCI_STUCK_NS;
	s->images_fd = s->tmp_fd = s->disks_fd = s->sha256_fd = s->sha512_fd = s->partial_fd = -1;
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
	close_fd(&s->partial_fd);
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

/* The descriptor, or -errno. */
static int open_lock(struct oci_store *s, struct err *e)
{
	int fd = openat(s->images_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	return fd < 0 ? err_sys(e, -errno, "image store: cannot open its lock") : fd;
}

static int share_lock(int fd, struct err *e)
{
	while (flock(fd, LOCK_SH) < 0)
		if (errno != EINTR)
			return err_sys(e, -errno, "image store: cannot lock it");
	return 0;
}

/* Once a day, which the lock's own time of change says, what died without a trace is looked for. */
static void clean_old(struct oci_store *s, int lock)
{
	struct stat st;

	if (fstat(lock, &st) < 0)
		return;
	int64_t age_ns = time_real_ns() - ((int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec);
	if (age_ns >= 0 && age_ns < OCI_LEFTOVER_NS)
		return;
	if (oci_store_sweep_old(s, NULL) == 0)
		(void)futimens(lock, NULL);
}

int oci_store_lock(struct oci_store *s, enum oci_lock kind, int *ret, struct err *e)
{
	CLEANUP_CLOSE int fd = open_lock(s, e);

	if (fd < 0)
		return fd;
	if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
		if (kind == OCI_LOCK_ADD) {
			oci_store_clean_tmp(s);
			oci_partial_clean(s, OCI_LEFTOVER_NS);
			if (oci_store_gc_due(s))
				(void)oci_store_collect(s, NULL);
			clean_old(s, fd);
		}
	} else if (errno != EWOULDBLOCK && errno != EINTR) {
		return err_sys(e, -errno, "image store: cannot lock it");
	} else if (kind == OCI_LOCK_DELETE) {
		return -EBUSY;
	}
	int r = kind == OCI_LOCK_ADD ? share_lock(fd, e) : 0;
	if (r < 0)
		return r;
	*ret = TAKE_FD(fd);
	return 0;
}

int oci_store_hold(struct oci_store *s, int *ret, struct err *e)
{
	CLEANUP_CLOSE int fd = open_lock(s, e);
	int r = fd < 0 ? fd : share_lock(fd, e);

	if (r < 0)
		return r;
	*ret = TAKE_FD(fd);
	return 0;
}

void oci_store_release(struct oci_store *s, int *fd)
{
	if (*fd < 0)
		return;
	close_fd(fd);
	if (s->grown)
		oci_put_trim(s);
	s->grown = false;
	(void)oci_store_gc_if_due(s, NULL);
	oci_unsynced_sync_all(s);
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

void oci_spool_close(struct oci_spool *sp)
{
	close_fd(&sp->fd);
	oci_hash_free(sp->hash);
	sp->hash = NULL;
}

static int open_tmp(const struct oci_spool *sp, int flags, struct err *e)
{
	int fd = sp->tmp[0] ? openat(sp->store->tmp_fd, sp->tmp, flags | O_CLOEXEC | O_NOFOLLOW) : -1;

	if (fd < 0 && !sp->tmp[0])
		return err_set(e, -ENOENT, "image store: a file in the making is one no more");
	return fd < 0 ? err_sys(e, -errno, "image store: cannot open a file in the making") : fd;
}

int oci_spool_open(const struct oci_spool *sp, struct err *e)
{
	return open_tmp(sp, O_RDONLY, e);
}

static int reopen(struct oci_spool *sp, struct err *e)
{
	if (sp->fd < 0)
		sp->fd = open_tmp(sp, O_RDWR, e);
	return MIN_OF(sp->fd, 0);
}

int oci_spool_commit(struct oci_spool *sp, int dirfd, const char *name, struct err *e)
{
	int r = reopen(sp, e);

	if (r < 0)
		return r;
	if (fsync(sp->fd) < 0)
		return oci_write_error(-errno, e);
	return oci_spool_place(sp, dirfd, name, e);
}

int oci_spool_place(struct oci_spool *sp, int dirfd, const char *name, struct err *e)
{
	int r = reopen(sp, e);

	if (r < 0)
		return r;
	if (fchmod(sp->fd, 0400) < 0)
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
	return r < 0 ? err_sys(e, r, "image store: cannot sync its folders") : 0;
}
