/* SPDX-License-Identifier: MIT */
#include "unsynced.h"

#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/log.h"
#include "disk.h"
#include "image.h"

#define BOOT_ID_LEN 36
/* By then the kernel has written it (dirty_expire_centisecs is 30 s), and to wait for that takes no time. */
#define SETTLED_NS 60000000000ll

static char boot[BOOT_ID_LEN + 1];
static pthread_once_t boot_once = PTHREAD_ONCE_INIT;

static void read_boot(void)
{
	CLEANUP_FREE char *text = NULL;
	size_t n;

	if (io_read_file_at(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 64, &text, &n) == 0 &&
		strspn(text, "0123456789abcdef-") == BOOT_ID_LEN)
		memcpy(boot, text, BOOT_ID_LEN);
}

const char *oci_boot(void)
{
	pthread_once(&boot_once, read_boot);
	return boot;
}

/* ---- making ---- */

static int note(struct oci_store *s, const char *chain, struct err *e)
{
	return state_exec(s->st, e, "INSERT OR REPLACE INTO image_disks_unsynced(chain, boot) VALUES(?, ?)",
		"ss", chain, oci_boot());
}

/*
 * In place of a disk that counts as missing a new one is about to come. Its row must not be there when the note says this
 * boot, or when the new file is there and the note is not: the building may end on the way.
 */
int oci_unsynced_begin(struct oci_store *s, const char *chain, struct err *e)
{
	int64_t rows = 0;
	uint64_t size;
	int r = oci_query_number(
		s, &rows, e, "SELECT EXISTS(SELECT 1 FROM image_disks WHERE chain = ?1)", chain, NULL, NULL);

	/* The usual case: oci_unsynced_enter will note it. */
	if (r < 0 || !rows)
		return r;
	r = state_begin(s->st, e);
	if (r < 0)
		return r;
	r = oci_disk_find(s, chain, &size, e);
	if (r == -ENOENT)
		r = state_exec(s->st, e, "DELETE FROM image_disks WHERE chain = ?", "s", chain);
	else if (r == 0 &&
		 *oci_boot()) /* another was faster: what is there is good, what will be is not synced */
		r = note(s, chain, e);
	return state_end(s->st, r, e);
}

int oci_unsynced_enter(struct oci_store *s, const char *chain, struct err *e)
{
	int64_t rows = 0;
	int r = oci_query_number(
		s, &rows, e, "SELECT EXISTS(SELECT 1 FROM image_disks WHERE chain = ?1)", chain, NULL, NULL);

	/* With a row it is one that was there, or was noted when its building began. */
	if (r < 0 || rows)
		return r;
	if (*oci_boot())
		return note(s, chain, e);
	return state_exec(s->st, e, "DELETE FROM image_disks_unsynced WHERE chain = ?", "s", chain);
}

/* ---- syncing ---- */

static bool settled(const struct stat *st)
{
	return time_real_ns() - ((int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec) >=
	       SETTLED_NS;
}

/* Under OCI_LOCK_DELETE. 0 also when it is not the time; -EIO. */
static int sync_locked(struct oci_store *s, const char *chain)
{
	char name[OCI_DIGEST_MAX + 8];
	int64_t mine = 0;
	struct stat st;

	if (!*oci_boot() ||
		oci_query_number(s, &mine, NULL,
			"SELECT EXISTS(SELECT 1 FROM image_disks_unsynced WHERE chain = ?1 AND boot = ?2)",
			chain, oci_boot(), NULL) < 0 ||
		!mine)
		return 0;
	snprintf(name, sizeof(name), "%s.img", oci_digest_hex(chain));
	CLEANUP_CLOSE int fd = openat(s->disks_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || !settled(&st))
		return 0;
	if (fsync(fd) < 0) {
		log_debug("image store: the disk of %s could not be synced: %s", chain, strerror(errno));
		if (errno != EIO && errno != ENOSPC && errno != EDQUOT)
			return 0;
		(void)state_exec(
			s->st, NULL, "UPDATE image_disks_unsynced SET boot = '' WHERE chain = ?", "s", chain);
		return -EIO;
	}
	if (io_fsync_dir(s->disks_fd) == 0)
		(void)state_exec(s->st, NULL, "DELETE FROM image_disks_unsynced WHERE chain = ?", "s", chain);
	return 0;
}

int oci_unsynced_sync(struct oci_store *s, const char *chain)
{
	char name[OCI_DIGEST_MAX + 8];
	CLEANUP_CLOSE int lock = -1;
	struct stat st;

	/* The lock is not taken for nothing: whoever wants to delete gives up when it is held. */
	snprintf(name, sizeof(name), "%s.img", oci_digest_hex(chain));
	if (fstatat(s->disks_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !settled(&st) ||
		oci_store_lock(s, OCI_LOCK_DELETE, &lock, NULL) < 0)
		return 0;
	int r = sync_locked(s, chain);
	close_fd(&lock);
	(void)oci_store_gc_if_due(s, NULL);
	return r;
}

static void for_all(struct oci_store *s, int (*fn)(struct oci_store *s, const char *chain))
{
	CLEANUP(strv_done) struct strv chains = {0};

	if (oci_query_texts(s, &chains, NULL, "SELECT chain FROM image_disks_unsynced WHERE boot = ?1",
		    oci_boot(), NULL, NULL) < 0)
		return;
	for (size_t i = 0; i < chains.n; i++)
		if (oci_digest_valid(chains.v[i]))
			(void)fn(s, chains.v[i]);
}

void oci_unsynced_sync_all(struct oci_store *s)
{
	for_all(s, oci_unsynced_sync);
}

void oci_unsynced_sync_all_locked(struct oci_store *s)
{
	for_all(s, sync_locked);
}
