/* SPDX-License-Identifier: MIT */
/*
 * The folders of volumes: made, and deleted.
 *
 * THEORY OF OPERATION
 *
 * Both happen in volumes/.gone, under a random name, and are one rename(2) away from volumes/NAME: so what is there is whole, and
 * what somebody who was killed had begun is deleted with the rest. Both renames are made in a transaction that has looked at the
 * row; so there is no folder without a row. Who makes or deletes one in .gone has locked it (flock).
 *
 * The last thing is `use`, without which nobody uses a volume: where it is, the way to the folder is on the disk for good.
 */
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/io.h"
#include "volume.h"

#define GONE ".gone"
enum { RANDOM_BYTES = 8, RANDOM_NAME = 2 * RANDOM_BYTES + 1, TRIES = 100 };

static void make_name(char ret[static RANDOM_NAME])
{
	uint8_t rnd[RANDOM_BYTES];

	io_random(rnd, sizeof(rnd));
	hex_encode(ret, rnd, sizeof(rnd));
}

/* ---- making ---- */

/* A new folder in .gone, locked. Between its making and the lock it may be deleted (delete_one). fd or -errno. */
static int make_locked(int gone, char ret_name[static RANDOM_NAME])
{
	for (int i = 0; i < TRIES; i++) {
		struct stat there;
		make_name(ret_name);
		CLEANUP_CLOSE int dir = io_open_dir_at(gone, ret_name, true);
		if (dir == -ENOENT)
			continue;
		if (dir < 0)
			return dir;
		if (flock(dir, LOCK_EX) < 0 || fstat(dir, &there) < 0)
			return -errno;
		if (there.st_nlink > 0)
			return TAKE_FD(dir);
	}
	return -EBUSY;
}

/* What is in an empty volume, on the disk. */
static int make_data(int dir)
{
	CLEANUP_CLOSE int data = io_open_dir_at(dir, "data", true);

	if (data < 0)
		return data;
	if (fchmod(data, 0755) < 0 || fsync(data) < 0) /* whatever the umask is */
		return -errno;
	return io_fsync_dir(dir);
}

/* In a transaction: nobody puts another one there, and nobody takes the volume away. */
static int put_in_place(
	struct state *st, int gone, const char *made, int top, const char *name, struct err *e)
{
	CLEANUP(box_volume_freep) struct box_volume *v = NULL;
	int r = volume_find_exact(st, name, &v, e);

	if (r == -ENOENT)
		return err_set(e, -ENOENT, "volume %s was removed meanwhile", name);
	/* Where one is already, it is not empty: that one it is. */
	if (r == 0 && renameat(gone, made, top, name) < 0 && errno != ENOTEMPTY && errno != EEXIST)
		r = err_sys(e, -errno, "cannot make %s/volumes/%s", st->home, name);
	return r;
}

static int make_folder(struct state *st, int gone, int top, const char *name, struct err *e)
{
	char made[RANDOM_NAME];
	CLEANUP_CLOSE int dir = make_locked(gone, made);
	int r = dir < 0 ? dir : make_data(dir);

	r = r < 0 ? err_sys(e, r, "cannot make %s/volumes/%s", st->home, name) : state_begin(st, e);
	if (r == 0)
		r = state_end(st, put_in_place(st, gone, made, top, name, e), e);
	if (dir >= 0)
		io_remove_tree_at(gone, made); /* if it is still there */
	return r;
}

/* What a box writes there is to be found again, so the way to it is. */
static int settle(struct state *st, int top, int dir)
{
	if (faccessat(dir, "use", F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return 0;
	int r = errno == ENOENT ? io_fsync_dir(top) : -errno;
	if (r == 0)
		r = io_fsync_dir(st->home_fd);
	if (r < 0)
		return r;
	CLEANUP_CLOSE int use = openat(dir, "use", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	return use < 0 ? -errno : 0;
}

int volume_open_folder(struct state *st, const char *name, struct err *e)
{
	CLEANUP_CLOSE int top = io_open_dir_at(st->home_fd, "volumes", true);
	/* The way out is there before anything that could need it: with a full disk it could not be made. */
	CLEANUP_CLOSE int gone = top < 0 ? top : io_open_dir_at(top, GONE, true);
	CLEANUP_CLOSE int dir = gone < 0 ? gone : io_open_dir_at(top, name, false);
	int r = dir;

	if (gone >= 0 && dir == -ENOENT) {
		r = make_folder(st, gone, top, name, e);
		if (r < 0)
			return r;
		r = dir = io_open_dir_at(top, name, false);
	}
	if (r >= 0)
		r = settle(st, top, dir);
	return r < 0 ? err_sys(e, r, "cannot open %s/volumes/%s", st->home, name) : TAKE_FD(dir);
}

/* ---- deleting ---- */

int volume_folder_retire(struct state *st, const char *name)
{
	CLEANUP_CLOSE int top = io_open_dir_at(st->home_fd, "volumes", false);
	char to[RANDOM_NAME];

	if (top < 0 || faccessat(top, name, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
		return top < 0 && top != -ENOENT ? top : 0;
	CLEANUP_CLOSE int gone = io_open_dir_at(top, GONE, true);
	if (gone < 0)
		return gone;
	make_name(to);
	int r = renameat(top, name, gone, to) < 0 ? -errno : 0;
	/* The row must not go before the folder is off its place for good: another one may come to be there. */
	if (r == 0)
		r = io_fsync_dir(gone);
	return r < 0 ? r : io_fsync_dir(top);
}

/* One that nobody else is at. */
static int delete_one(int gone, const char *name)
{
	CLEANUP_CLOSE int fd = openat(gone, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? 0 : -errno;
	return io_remove_tree_at(gone, name);
}

int volume_folders_delete(struct state *st)
{
	CLEANUP(strv_done) struct strv names = {0};
	int fd = openat(st->home_fd, "volumes/" GONE, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	int r = 0;

	if (!d) {
		close_fd(&fd);
		return 0;
	}
	for (struct dirent *de; (de = readdir(d));) {
		if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0 &&
			strv_push(&names, de->d_name) < 0)
			break;
	}
	for (size_t i = 0; i < names.n; i++) {
		int k = delete_one(fd, names.v[i]);
		r = r < 0 ? r : k;
	}
	closedir(d);
	return r;
}
