/* SPDX-License-Identifier: MIT */
/* Making snapshots of boxes, and boxes of snapshots (box/snapshot.h). */
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#include "base/io.h"
#include "base/log.h"
#include "box/files.h"
#include "box/seccomp.h"
#include "config.h"
#include "run.h"
#include "snapshot.h"

#define DESCRIPTION_MAX 4096
#define NAME_TRIES	100

/* ---- left-overs ---- */

static bool is_snapshot_id(const char *s)
{
	return strlen(s) == BOX_ID_LEN && strspn(s, "0123456789abcdef") == BOX_ID_LEN;
}

/* 1, 0 or -errno. */
static int has_row(struct state *st, const char *id)
{
	CLEANUP(stmt_done) sqlite3_stmt *q = NULL;
	int r = state_prepare(st, &q, NULL, "SELECT 1 FROM snapshots WHERE id=?1", "s", id);

	return r < 0 ? r : state_step(st, q, NULL);
}

/*
 * Of a folder without a row either its maker is dead, or he is at work and has locked it. Between the look for the row and the
 * lock he may have made the row: so it is looked for again.
 */
static void repair_one(struct state *st, int dirfd, const char *id)
{
	if (has_row(st, id) != 0)
		return;
	CLEANUP_CLOSE int fd = openat(dirfd, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0 || has_row(st, id) != 0)
		return;
	int r = io_remove_tree_at(dirfd, id);
	if (r < 0)
		log_warn("cannot remove %s/" SNAPSHOTS_DIR "/%s: %s", st->home, id, strerror(-r));
}

void box_snapshots_repair(struct state *st)
{
	CLEANUP(strv_done) struct strv ids = {0};
	int fd = io_open_dir_at(st->home_fd, SNAPSHOTS_DIR, false);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (!d) {
		close_fd(&fd);
		return;
	}
	/* Names first: removing changes the folder that is being read. */
	for (struct dirent *de; (de = readdir(d));)
		if (is_snapshot_id(de->d_name) && strv_push(&ids, de->d_name) < 0)
			break;
	for (size_t i = 0; i < ids.n; i++)
		repair_one(st, dirfd(d), ids.v[i]);
	closedir(d);
}

/* ---- making one ---- */

struct making {
	struct state *st;
	int parent, dir; /* dir is locked, see repair_one */
	struct box_snapshot *s;
};

/* Makes its folder under a new ID. The lock may be taken by repair_one between its making and ours, and the folder removed. */
static int make_dir(struct making *m, struct err *e)
{
	uint8_t random[SNAPSHOT_ID_BYTES];
	struct stat there;

	m->s->id = malloc(BOX_ID_LEN + 1);
	if (!m->s->id)
		return err_oom(e);
	m->parent = io_open_dir_at(m->st->home_fd, SNAPSHOTS_DIR, true);
	for (;;) {
		if (m->parent < 0)
			return err_sys(e, m->parent, "cannot open %s/" SNAPSHOTS_DIR, m->st->home);
		do { /* a short ID that is all digits would be taken for a number by shells and tools */
			io_random(random, sizeof(random));
			hex_encode(m->s->id, random, sizeof(random));
		} while (strspn(m->s->id, "0123456789") >= BOX_ID_SHORT_LEN);
		m->dir = io_open_dir_at(m->parent, m->s->id, true);
		if (m->dir < 0)
			return err_sys(e, m->dir, "cannot make a folder for the snapshot");
		if (flock(m->dir, LOCK_EX) < 0)
			return err_sys(e, -errno, "cannot make a folder for the snapshot");
		if (fstat(m->dir, &there) == 0 && there.st_nlink > 0)
			return 0;
		close_fd(&m->dir);
	}
}

static int copy_fd(int src, int dirfd, const char *name, struct err *e)
{
	CLEANUP_CLOSE int dst = openat(dirfd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	int r = dst < 0 ? -errno : io_copy_sparse(src, dst, true);

	return r < 0 ? err_sys(e, r, "cannot copy %s", name) : 0;
}

/* A filter that is not the built-in one is a file of the box's. */
static int copy_filter(struct making *m, const struct box *b, struct err *e)
{
	CLEANUP_CLOSE int src = -1;
	CLEANUP_CLOSE int dir = -1;

	if (b->config.seccomp != BOX_SECCOMP_OWN)
		return 0;
	dir = box_open_box_dir(m->st, b->id, false, e);
	src = dir < 0 ? -1 : openat(dir, BOX_SECCOMP_FILE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (src < 0)
		return err_sys(
			e, dir < 0 ? dir : -errno, "cannot copy the seccomp filter of box %s", b->name);
	return copy_fd(src, m->dir, BOX_SECCOMP_FILE, e);
}

static int make_files(struct making *m, const struct box *b, struct err *e)
{
	CLEANUP_CLOSE int disk =
		openat(m->dir, SNAPSHOT_DISK, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	bool any = false;
	int r = disk < 0 ? err_sys(e, -errno, "cannot write the snapshot")
			 : box_disk_copy(m->st, b, disk, &any, e);

	if (r < 0)
		return r;
	if (!any && unlinkat(m->dir, SNAPSHOT_DISK, 0) < 0)
		return err_sys(e, -errno, "cannot write the snapshot");
	r = copy_filter(m, b, e);
	if (r < 0)
		return r;
	/* The home's, too: whoever made the folder of all snapshots may have been killed before he came to it. */
	if ((any && fsync(disk) < 0) || fsync(m->dir) < 0 || fsync(m->parent) < 0 ||
		fsync(m->st->home_fd) < 0)
		return err_sys(e, -errno, "cannot write the snapshot");
	return 0;
}

static bool name_free(struct state *st, const char *name)
{
	CLEANUP(stmt_done) sqlite3_stmt *q = NULL;

	return state_prepare(st, &q, NULL, "SELECT 1 FROM snapshots WHERE name=?1", "s", name) == 0 &&
	       state_step(st, q, NULL) == 0;
}

/* "web-20260131-142300", with a number behind it where there is one already; the insert has the last word. */
static char *make_name(struct state *st, const struct box *b, int64_t now_ns)
{
	time_t now = (time_t)(now_ns / 1000000000);
	char stamp[32];
	struct tm tm;

	gmtime_r(&now, &tm);
	strftime(stamp, sizeof(stamp), "%Y%m%d-%H%M%S", &tm);
	for (int i = 1; i < NAME_TRIES; i++) {
		/* Of a long name only the beginning: what is made is a valid name again. */
		CLEANUP_FREE char *name = i == 1 ? str_printf("%.40s-%s", b->name, stamp)
						 : str_printf("%.40s-%s-%d", b->name, stamp, i);
		if (!name || name_free(st, name))
			return TAKE_PTR(name);
	}
	return str_printf("%.12s-%s", b->id, stamp);
}

static int check_texts(struct state *st, const char *name, const char *description, struct err *e)
{
	if (name && !box_name_valid(name)) {
		err_set(e, -EINVAL, "\"%.100s\" is no name for a snapshot", name);
		return err_hint(e, "[a-zA-Z0-9][a-zA-Z0-9_.-]*, at most %d bytes", BOX_NAME_MAX);
	}
	if (description && strlen(description) > DESCRIPTION_MAX)
		return err_set(e, -E2BIG, "the description is longer than %d bytes", DESCRIPTION_MAX);
	if (name && !name_free(st, name)) {
		err_set(e, -EEXIST, "the name \"%s\" is taken by another snapshot", name);
		return err_hint(e, "remove it with: a3s-box snapshot rm %s", name);
	}
	return 0;
}

static int fill(
	struct making *m, const struct box *b, const char *name, const char *description, struct err *e)
{
	struct box_snapshot *s = m->s;

	s->created_ns = time_real_ns();
	s->name = name ? strdup(name) : make_name(m->st, b, s->created_ns);
	s->box_id = strdup(b->id);
	s->box_name = strdup(b->name);
	s->image = strdup(b->image);
	s->image_id = strdup(b->image_id);
	s->manifest = strdup(b->manifest);
	s->disk = strdup(b->disk);
	s->description = str_dup(description);
	s->running = b->state == BOX_RUNNING;
	if (!s->name || !s->box_id || !s->box_name || !s->image || !s->image_id || !s->manifest || !s->disk ||
		(description && !s->description))
		return err_oom(e);
	return 0;
}

int box_snapshot_create(struct state *st, const struct box *b, const char *name, const char *description,
	struct box_snapshot **ret, struct err *e)
{
	CLEANUP(box_snapshot_freep) struct box_snapshot *s = calloc(1, sizeof(*s));
	struct making m = {.st = st, .parent = -1, .dir = -1, .s = s};
	int r = s ? check_texts(st, name, description, e) : err_oom(e);

	if (r == 0)
		r = fill(&m, b, name, description, e);
	if (r == 0)
		r = make_dir(&m, e);
	if (r == 0)
		r = make_files(&m, b, e);
	if (r == 0)
		r = snapshot_insert(st, s, b, e);
	if (r < 0 && m.dir >= 0)
		io_remove_tree_at(m.parent, s->id);
	close_fd(&m.dir);
	close_fd(&m.parent);
	return r < 0 ? r : box_snapshot_find(st, s->id, ret, e);
}

/* ---- putting one back ---- */

/* Replaces the box's disk. What a killed one left is scratch.tmp, which the next start or restore overwrites. */
static int replace_disk(struct state *st, const struct box_snapshot *s, const struct box *b, struct err *e)
{
	CLEANUP_CLOSE int from = snapshot_open_dir(st, s->id, e);
	CLEANUP_CLOSE int to = from < 0 ? -1 : box_open_box_dir(st, b->id, true, e);

	if (to < 0)
		return from < 0 ? from : to;
	CLEANUP_CLOSE int src = openat(from, SNAPSHOT_DISK, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (src < 0 && errno != ENOENT)
		return err_sys(e, -errno, "cannot open the snapshot");
	int r = 0;
	if (src < 0) { /* it had not written anything */
		r = unlinkat(to, SNAPSHOT_DISK, 0) < 0 && errno != ENOENT ? -errno : 0;
	} else {
		unlinkat(to, "scratch.tmp", 0);
		CLEANUP_CLOSE int dst =
			openat(to, "scratch.tmp", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
		r = dst < 0 ? -errno : io_copy_sparse(src, dst, true);
		if (r == 0 && renameat(to, "scratch.tmp", to, SNAPSHOT_DISK) < 0)
			r = -errno;
		if (r < 0)
			unlinkat(to, "scratch.tmp", 0);
	}
	if (r == 0)
		r = io_fsync_dir(to);
	return r < 0 ? err_sys(e, r, "cannot restore box %s", b->name) : 0;
}

static int is_live(const struct box *b, struct err *e)
{
	err_set(e, -EBUSY, "box %s is %s", b->name, box_state_name(b->state));
	return box_is_live(b) ? err_hint(e, "stop it first: a3s-box stop %s", b->name) : -EBUSY;
}

int box_snapshot_restore(struct state *st, const struct box_snapshot *s, const struct box *b, struct err *e)
{
	CLEANUP(box_freep) struct box *now = NULL;
	CLEANUP_CLOSE int lock = -1;

	/* Also of the same image: nobody means to lose a box's files for those of another one. */
	if (strcmp(s->box_id, b->id) != 0) {
		err_set(e, -EINVAL, "snapshot %s is of box %s (%.12s)", s->name, s->box_name, s->box_id);
		return err_hint(e, "make a new box of it: a3s-box snapshot restore %s --name NAME", s->name);
	}
	int r = box_is_live(b) ? is_live(b, e) : box_lock(st, b->id, &lock, e);
	if (r == 0)
		r = box_find_quiet(st, b->id, &now, e);
	if (r == 0 && now->state != BOX_CREATED && now->state != BOX_EXITED)
		r = is_live(now, e);
	if (r == 0)
		r = replace_disk(st, s, b, e);
	if (lock >= 0)
		box_unlock(st, b->id, &lock);
	return r < 0 ? r : snapshot_event(st, s, "restore", e);
}

/* ---- a new box of it ---- */

/* The filter as box_create takes it. */
static int load_filter(struct state *st, const struct box_snapshot *s, struct box_config *c, struct err *e)
{
	CLEANUP_CLOSE int dir = -1;
	char *text = NULL;
	size_t n = 0;

	if (c->seccomp != BOX_SECCOMP_OWN)
		return 0;
	dir = snapshot_open_dir(st, s->id, e);
	if (dir < 0)
		return dir;
	int r = io_read_file_at(dir, BOX_SECCOMP_FILE, WIRE_SECCOMP_MAX, &text, &n);
	if (r < 0)
		return err_sys(e, r, "cannot read the seccomp filter of snapshot %s", s->name);
	c->process.seccomp = (uint8_t *)text;
	c->process.seccomp_len = n;
	return 0;
}

static int load_endpoints(struct state *st, const struct box_snapshot *s, struct box_config *c, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *q = NULL;
	int r = state_prepare(st, &q, e, "SELECT endpoints FROM snapshots WHERE id=?1", "s", s->id);

	if (r == 0)
		r = state_step(st, q, e);
	if (r <= 0)
		return r < 0 ? r : err_set(e, -ENOENT, "no such snapshot: %s", s->name);
	r = snapshot_endpoints_parse((const char *)sqlite3_column_text(q, 0), &c->endpoints, &c->n_endpoints);
	return r < 0 ? err_sys(e, r, "record of snapshot %s", s->name) : 0;
}

/* What was the old box's alone: the name that it gave itself, and volumes that were made for it. */
static void forget_own(const struct box_snapshot *s, struct box_config *c)
{
	if (c->hostname && strlen(c->hostname) == BOX_ID_SHORT_LEN &&
		strncmp(c->hostname, s->box_id, BOX_ID_SHORT_LEN) == 0) {
		free(c->hostname);
		c->hostname = NULL;
	}
	for (size_t i = 0; i < c->n_mounts; i++) {
		if (!c->mounts[i].anonymous)
			continue;
		free(c->mounts[i].source);
		c->mounts[i].source = NULL;
	}
}

static int make_config(struct state *st, const struct box_snapshot *s, struct box_config *c, struct err *e)
{
	CLEANUP_FREE char *text = box_config_to_json(&s->config);
	int r = text ? box_config_from_json(text, c) : -ENOMEM;

	if (r < 0)
		return err_sys(e, r, "record of snapshot %s", s->name);
	forget_own(s, c);
	c->scratch = str_printf(SNAPSHOTS_DIR "/%s/" SNAPSHOT_DISK, s->id);
	if (!c->scratch)
		return err_oom(e);
	if (faccessat(st->home_fd, c->scratch, F_OK, 0) < 0 && errno == ENOENT) {
		free(c->scratch); /* it had not written anything */
		c->scratch = NULL;
	}
	r = load_filter(st, s, c, e);
	return r < 0 ? r : load_endpoints(st, s, c, e);
}

int box_snapshot_fork(
	struct state *st, const struct box_snapshot *s, const char *name, struct box **ret, struct err *e)
{
	CLEANUP(box_config_done) struct box_config c = {0};
	CLEANUP_CLOSE int lock = -1;
	const struct oci_image image = {.id = s->image_id, .manifest = s->manifest};
	int r = make_config(st, s, &c, e);

	if (r == 0)
		r = box_create(st, &image, s->image, s->disk, name, &c, BOX_CREATED, ret, &lock, e);
	if (r == 0)
		box_unlock(st, (*ret)->id, &lock);
	return r;
}
