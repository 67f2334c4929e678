/* SPDX-License-Identifier: MIT */
/* Volumes of a box that starts: opened, and filled from its image (box/volume.h). */
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#include "base/io.h"
#include "oci/content.h"
#include "volume.h"

#define USE_WAIT_NS  10000000000ull
#define USE_RETRY_NS 10000000

/* 1, 0 or -errno. */
static int is_empty(int dirfd, const char *name)
{
	int fd = io_open_dir_at(dirfd, name, false), found = 0;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (!d) {
		int r = fd < 0 ? fd : -errno;
		close_fd(&fd);
		return r;
	}
	errno = 0;
	for (struct dirent *de; !found && (de = readdir(d));)
		found = strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0;
	int r = found ? 0 : errno ? -errno : 1;
	closedir(d);
	return r;
}

/* Docker fills when it makes a box, we when it first starts: what it removed later stays removed. */
static int was_started(struct state *st, const char *id, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *s = NULL;
	int r = state_prepare(st, &s, e, "SELECT started<>0 FROM boxes WHERE id=?1", "s", id);

	if (r == 0)
		r = state_step(st, s, e);
	return r <= 0 ? r : sqlite3_column_int(s, 0);
}

/* The tree below the folder of the image that the volume is mounted on, as fill/ in the volume's folder. 1: it is there. */
static int write_fill(
	struct state *st, int dir, const struct box *b, const struct box_mount *m, struct err *e)
{
	CLEANUP(oci_root_freep) struct oci_root *root = NULL;
	CLEANUP(tree_writer_freep) struct tree_writer *w = NULL;
	const struct tree_write_opts o = {.owner = TREE_OWNER_STORED, .root_attr = true, .sync = true};
	struct wire_entry en = {0};
	uint64_t id;
	int r = oci_root_open(st, b->disk, &root, e);

	if (r < 0)
		return r;
	const struct oci_node *n = oci_root_find(root, m->target, true);
	if (!n)
		return 0;
	r = oci_node_entry(root, n, &en, &id, e);
	bool folder = S_ISDIR(en.mode);
	wire_entry_done(&en);
	if (r == 0 && !folder) {
		r = err_set(e, -ENOTDIR, "%s is a file in the image", m->target);
		err_hint(e, "a volume is a folder, and can only be mounted on one");
	}
	if (r == 0)
		r = tree_writer_new(dir, "fill", &o, &w, e);
	if (r == 0)
		r = oci_node_read(root, n, tree_writer_sink(w), e);
	return r < 0 ? r : 1;
}

/* Altogether or not at all. */
static int fill(struct state *st, int dir, const struct box *b, const struct box_mount *m, struct err *e)
{
	int r = write_fill(st, dir, b, m, e);

	if (r > 0) {
		r = renameat(dir, "fill", dir, "data") < 0 ? -errno : io_fsync_dir(dir);
		if (r < 0)
			err_sys(e, r, "cannot put it into its place");
	}
	if (r < 0) {
		io_remove_tree_at(dir, "fill"); /* what stays is removed with the next start, or the volume */
		return err_wrap(e, "cannot fill volume %s", m->source);
	}
	return 0;
}

/* Under the folder's lock. Whoever serves the volume has a shared lock of `use`, from here on this box too. */
static int fill_if_wanted(
	struct state *st, int dir, int use, const struct box *b, const struct box_mount *m, struct err *e)
{
	int r = io_remove_tree_at(dir, "fill"); /* of one that was killed */

	if (r == 0 && !m->no_copy && !m->subpath) {
		r = is_empty(dir, "data");
		if (r > 0 && flock(use, LOCK_EX | LOCK_NB) < 0)
			r = errno == EWOULDBLOCK ? 0 : -errno;
	}
	if (r < 0)
		return err_sys(e, r, "cannot open volume %s", m->source);
	if (r > 0) {
		r = was_started(st, b->id, e);
		r = r < 0 ? r : !r;
	}
	return r > 0 ? fill(st, dir, b, m, e) : r;
}

/*
 * The file `use`, which a lease of the box that serves the volume holds for a moment. Neither open(2) nor flock(2) may wait for
 * that box's file server, which can be any program by now: every later start would wait behind this one for the folder's lock.
 */
static int open_use(int dir, uint64_t end_ns)
{
	int fd;

	while ((fd = openat(dir, "use", O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)) < 0) {
		if ((errno != EWOULDBLOCK && errno != EINTR) || time_mono_ns() > end_ns)
			return -errno;
		nanosleep(&(struct timespec){.tv_nsec = USE_RETRY_NS}, NULL);
	}
	return fd;
}

static int share_use(int use, uint64_t end_ns)
{
	while (flock(use, LOCK_SH | LOCK_NB) < 0) {
		if ((errno != EWOULDBLOCK && errno != EINTR) || time_mono_ns() > end_ns)
			return -errno;
		nanosleep(&(struct timespec){.tv_nsec = USE_RETRY_NS}, NULL);
	}
	return 0;
}

static int use_failed(int r, const char *what, const char *volume, struct err *e)
{
	if (r != -EWOULDBLOCK)
		return err_sys(e, r, "cannot %s volume %s", what, volume);
	err_set(e, -EBUSY, "volume %s is held by the file server of another box", volume);
	err_hint(e, "find the box with: a3s-box ps --filter volume=%s, and stop it", volume);
	return -EBUSY;
}

static int open_own(struct state *st, const struct box *b, const struct box_mount *m,
	struct box_volume_files *ret, struct err *e)
{
	CLEANUP_CLOSE int dir = volume_open_folder(st, m->source, e);
	CLEANUP_CLOSE int use = -1;

	if (dir < 0)
		return dir;
	if (flock(dir, LOCK_EX) < 0)
		return err_sys(e, -errno, "cannot lock volume %s", m->source);
	use = open_use(dir, time_mono_ns() + USE_WAIT_NS);
	if (use < 0)
		return use_failed(use, "open", m->source, e);
	int r = fill_if_wanted(st, dir, use, b, m, e);
	if (r < 0)
		return r;
	r = share_use(use, time_mono_ns() + USE_WAIT_NS);
	if (r < 0)
		return use_failed(r, "lock", m->source, e);
	int data = openat(dir, "data", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (data < 0)
		return err_sys(e, -errno, "cannot open volume %s", m->source);
	*ret = (struct box_volume_files){.data = data, .use = TAKE_FD(use)};
	return 0;
}

static int open_bind(const struct box_volume *v, struct box_volume_files *ret, struct err *e)
{
	const char *device = volume_opt(v, "device"), *o = volume_opt(v, "o");
	int fd = open(device, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return err_sys(e, -errno, "volume %s: cannot open %s", v->name, device);
	*ret = (struct box_volume_files){.data = fd, .use = -1, .read_only = strcmp(o, "bind,ro") == 0};
	return 0;
}

int box_volume_open(struct state *st, const struct box *b, const struct box_mount *m,
	struct box_volume_files *ret, struct err *e)
{
	CLEANUP(box_volume_freep) struct box_volume *v = NULL;
	int r = volume_find_exact(st, m->source, &v, e);

	if (r < 0)
		return r;
	if (volume_is_tmpfs(v)) /* box_volumes_prepare found another one of this name */
		return err_set(e, -ESTALE, "volume %s was made anew, as a tmpfs", v->name);
	return volume_is_bind(v) ? open_bind(v, ret, e) : open_own(st, b, m, ret, e);
}
