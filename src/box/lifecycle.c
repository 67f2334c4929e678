/* SPDX-License-Identifier: MIT */
/* Creating, starting, removing and repairing boxes. The rules are in box/box.h. */
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "base/io.h"
#include "base/log.h"
#include "base/proc.h"
#include "box/box.h"
#include "box/network.h"
#include "box/seccomp.h"
#include "box/snapshot.h"
#include "box/volume.h"
#include "config.h"
#include "names.h"
#include "run.h"
#include "schema.h"
#include "storage/storage.h"

enum { NAME_ATTEMPTS = 20 };

/* For all boxes together that box_reconcile finds dying. */
#define RECONCILE_PATIENCE_NS 3000000000ull

static int insert_endpoint(struct state *st, const struct box *b, struct box_endpoint *ep, struct err *e)
{
	char *box = ep->box;

	ep->box = b->id;
	int r = box_endpoint_insert(st, ep, e);
	ep->box = box;
	return r == -EEXIST ? -EINVAL : r; /* it is not the box's name that is taken */
}

static int insert(
	struct state *st, const struct box *b, const char *config, const struct strv *held, struct err *e)
{
	int r = state_begin(st, e);
	if (r < 0)
		return r;
	r = state_exec(st, e,
		"INSERT INTO boxes(id,name,image,image_id,manifest,disk,state,created,auto_remove,config)"
		" VALUES(?,?,?,?,?,?,?,?,?,?)",
		"sssssssiis", b->id, b->name, b->image, b->image_id, b->manifest, b->disk,
		box_state_name(b->state), b->created_ns, (int64_t)b->config.auto_remove, config);
	if (r == 0)
		r = oci_ref_add(st, b->id, b->manifest, e);
	if (r == 0)
		r = box_event(st, e, b, "create", NULL);
	for (size_t i = 0; r == 0 && i < b->config.n_endpoints; i++)
		r = insert_endpoint(st, b, &b->config.endpoints[i], e);
	if (r == 0) {
		r = box_volumes_hold(st, b->id, &b->config, held, e);
		r = r == -EEXIST ? -EINVAL : r; /* nor is it here */
	}
	return state_end(st, r, e);
}

int box_check_name_free(struct state *st, const char *name, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *s = NULL;
	int r = state_prepare(st, &s, e, "SELECT 1 FROM boxes WHERE name=?1", "s", name);
	if (r == 0)
		r = state_step(st, s, e);
	return r > 0 ? box_name_taken(name, e) : r;
}

static int insert_with_name(
	struct state *st, struct box *b, const char *name, const struct strv *held, struct err *e)
{
	CLEANUP_FREE char *config = box_config_to_json(&b->config);
	if (!config)
		return err_oom(e);
	if (name) {
		b->name = strdup(name);
		int r = b->name ? insert(st, b, config, held, e) : err_oom(e);
		return r == -EEXIST ? box_name_taken(name, e) : r;
	}
	for (unsigned attempt = 0;; attempt++) {
		free(b->name);
		b->name = box_make_name(attempt);
		int r = b->name ? insert(st, b, config, held, e) : err_oom(e);
		if (r != -EEXIST || attempt == NAME_ATTEMPTS)
			return r;
	}
}

/* The seccomp filter goes from memory to the box's folder, before the record that says it is there. */
static int keep_filter(int box_dirfd, struct box_config *c, struct err *e)
{
	struct wire_process *p = &c->process;

	if (c->seccomp != BOX_SECCOMP_OWN)
		return 0;
	int r = io_write_file_at(box_dirfd, BOX_SECCOMP_FILE, p->seccomp, p->seccomp_len, 0600);
	return r < 0 ? err_sys(e, r, "cannot write the seccomp filter") : 0;
}

/* The disk that it begins with, which must be there before the record is, or a start after a crash would make an empty one. */
static int copy_scratch(struct state *st, int box_dirfd, const struct box_config *c, struct err *e)
{
	if (!c->scratch)
		return 0;
	CLEANUP_CLOSE int src = openat(st->home_fd, c->scratch, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	CLEANUP_CLOSE int dst = src < 0 ? -1
					: openat(box_dirfd, "scratch.img",
						  O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	int r = dst < 0 ? -errno : io_copy_sparse(src, dst, true);
	if (r == 0)
		r = io_fsync_dir(box_dirfd);
	return r < 0 ? err_sys(e, r, "cannot copy %s/%s", st->home, c->scratch) : 0;
}

int box_create(struct state *st, const struct oci_image *image, const char *image_ref, const char *disk,
	const char *name, struct box_config *config, enum box_state state, struct box **ret, int *ret_lock_fd,
	struct err *e)
{
	CLEANUP(box_freep) struct box *b = calloc(1, sizeof(*b));
	CLEANUP(strv_done) struct strv held = {0};
	uint8_t rnd[BOX_ID_LEN / 2];

	if (!b || !(b->id = malloc(BOX_ID_LEN + 1)))
		return err_oom(e);
	do { /* a short ID that is all digits would be taken for a number by shells and tools */
		io_random(rnd, sizeof(rnd));
		hex_encode(b->id, rnd, sizeof(rnd));
	} while (strspn(b->id, "0123456789") >= BOX_ID_SHORT_LEN);
	b->image = strdup(image_ref);
	b->image_id = strdup(image->id);
	b->manifest = strdup(image->manifest);
	b->disk = strdup(disk);
	b->state = state;
	b->created_ns = time_real_ns();
	if (!config->hostname)
		config->hostname = strndup(b->id, BOX_ID_SHORT_LEN);
	if (!b->image || !b->image_id || !b->manifest || !b->disk || !config->hostname)
		return err_oom(e);

	CLEANUP_CLOSE int lock = -1;
	int r = box_lock(st, b->id, &lock, e);
	if (r < 0)
		return r;
	CLEANUP_CLOSE int dir = box_open_box_dir(st, b->id, true, e);
	if (dir < 0) {
		box_unlock(st, b->id, &lock);
		return dir;
	}
	r = keep_filter(dir, config, e);
	if (r == 0)
		r = copy_scratch(st, dir, config, e);
	if (r == 0)
		r = box_volumes_prepare(st, config, &held, e);
	b->config = *config;
	if (r == 0)
		r = insert_with_name(st, b, name, &held, e);
	if (r < 0) {
		b->config = (struct box_config){0}; /* still the caller's */
		CLEANUP_FREE char *path = str_printf("boxes/%s", b->id);
		if (path)
			io_remove_tree_at(st->home_fd, path);
		box_unlock(st, b->id, &lock);
		return r;
	}
	*config = (struct box_config){0};
	*ret = TAKE_PTR(b);
	*ret_lock_fd = TAKE_FD(lock);
	if (box_seen)
		box_seen(*ret);
	return 0;
}

char *box_find_asset(const char *name, struct err *e)
{
	CLEANUP_FREE char *self = proc_self_dir();
	if (!self) {
		err_oom(e);
		return NULL;
	}
	/* Beside the program in a build tree; else PREFIX/lib/a3s-box or PREFIX/libexec/a3s-box, from bin or libexec/…. */
	static const char *const places[] = {"%s/%s", "%s/../lib/a3s-box/%s", "%s/../libexec/a3s-box/%s",
		"%s/../../lib/a3s-box/%s", "%s/../../libexec/a3s-box/%s"};
	for (size_t i = 0; i < ARRAY_LEN(places); i++) {
		CLEANUP_FREE char *path = NULL;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		if (asprintf(&path, places[i], self, name) < 0)
			path = NULL;
#pragma GCC diagnostic pop
		if (path && access(path, R_OK) == 0)
			return TAKE_PTR(path);
	}
	err_set(e, -ENOENT, "%s not found beside or below %s", name, self);
	err_hint(e, "run \"make build\", or install a3s-box again");
	return NULL;
}

int box_undo_start(
	struct state *st, const struct box *b, int *lock_fd, int status, const char *reason, struct err *e)
{
	if (b->config.auto_remove)
		return box_remove_locked(st, b->id, lock_fd, e);
	int r = box_set_start_failed(st, b->id, status, reason, e);
	box_unlock(st, b->id, lock_fd);
	return r;
}

static int spawn_supervisor(struct state *st, const struct box *b, int lock_fd, int *ret_conn, struct err *e)
{
	int pair[2];
	CLEANUP_FREE char *shim = box_find_asset("a3s-box-shim", e);
	if (!shim)
		return e->code;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_sys(e, -errno, "cannot start the supervisor");
	CLEANUP_CLOSE int ours = pair[0];
	CLEANUP_CLOSE int theirs = pair[1];
	CLEANUP_CLOSE int dir = box_open_box_dir(st, b->id, true, e);
	if (dir < 0)
		return dir;
	CLEANUP_CLOSE int log =
		openat(dir, "supervisor.log", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (log < 0)
		return err_sys(e, -errno, "cannot start the supervisor");

	const char *argv[] = {"a3s-box-shim", b->id, NULL};
	struct proc_fd fds[] = {
		{log, STDERR_FILENO}, {lock_fd, SUPERVISOR_LOCK_FD}, {theirs, SUPERVISOR_CLIENT_FD}};
	struct proc_opts o = {
		.path = shim, .argv = argv, .fds = fds, .n_fds = ARRAY_LEN(fds), .new_session = true};
	pid_t pid = proc_spawn(&o, NULL);
	if (pid < 0)
		return err_sys(e, pid, "cannot start the supervisor %s", shim);
	*ret_conn = TAKE_FD(ours);
	return 0;
}

int box_start(struct state *st, struct box *b, int *lock_fd, int *ret_conn, struct err *e)
{
	int r = spawn_supervisor(st, b, *lock_fd, ret_conn, e);
	if (r < 0) {
		struct err undo;
		box_undo_start(
			st, b, lock_fd, 125, e->msg, &undo); /* what fails here is repaired by reconcile */
		close_fd(lock_fd);
		return r;
	}
	close_fd(lock_fd); /* its copy in the supervisor keeps the lock */
	return 0;
}

int box_revive(struct state *st, const char *id, int *ret_conn, struct err *e)
{
	CLEANUP(box_freep) struct box *b = NULL;
	CLEANUP_CLOSE int lock = -1;

	int r = box_lock(st, id, &lock, e);
	if (r < 0)
		return r == -EBUSY ? err_set(e, -EALREADY, "somebody else is at it") : r;
	r = box_find_quiet(st, id, &b, e);
	if (r == 0 && !box_wants_revival(b))
		r = err_set(e, -EALREADY, "box %s does not want it any more", b->name);
	if (r == 0)
		r = box_set_starting(st, id, e);
	if (r < 0) {
		box_unlock(st, id, &lock);
		return r;
	}
	return box_start(st, b, &lock, ret_conn, e);
}

/* The last transaction: what is told, and the record and its hold on the image go. */
static int drop_record(struct state *st, const char *id, const struct box_run_end *how, struct err *e)
{
	CLEANUP(box_freep) struct box *b = NULL;
	int r = state_begin(st, e);
	if (r < 0)
		return r;
	r = box_find_quiet(st, id, &b, e);
	if (r == 0 && how && how->signal)
		r = box_event_signal(st, id, how->signal, e);
	if (r == 0 && how)
		r = box_event_die(st, b, how->exit_code, e);
	if (r == 0)
		r = box_endpoints_drop(st, b, e);
	if (r == 0)
		r = box_event(st, e, b, "destroy", NULL);
	if (r == 0)
		r = box_volumes_release(st, b, e);
	if (r == 0)
		r = state_exec(st, e, "DELETE FROM boxes WHERE id=?1", "s", b->id);
	if (r == 0)
		r = oci_ref_drop(st, b->id, e);
	return state_end(st, r, e);
}

/* Its files cannot be removed: `rm` will try again. */
static void set_dead(struct state *st, const struct box *b, const struct box_run_end *how, const char *why)
{
	int r = state_begin(st, NULL);
	if (r < 0)
		return; /* it stays in removing: reconcile tries again */
	r = state_exec(st, NULL, "UPDATE boxes SET state='dead', error=?2 WHERE id=?1", "ss", b->id, why);
	if (r == 0)
		r = box_ports_set(st, b->id, NULL, 0, NULL);
	if (r == 0 && how)
		r = box_event_die(st, b, how->exit_code, NULL);
	state_end(st, r, NULL);
}

/* For the tests: what failed is often a box that is gone at once, and its logs with it. */
static void keep_logs(struct state *st, const char *id)
{
	static const char *const names[] = {"console.log", "machine.log", "supervisor.log"};
	const char *folder = getenv("A3S_DEBUG_KEEP_LOGS"); /* on the file system of the home folder */

	for (size_t i = 0; folder && i < ARRAY_LEN(names); i++) {
		CLEANUP_FREE char *from = str_printf("boxes/%s/%s", id, names[i]);
		CLEANUP_FREE char *to = str_printf("%s/%.12s-%s", folder, id, names[i]);
		if (from && to)
			renameat(st->home_fd, from, AT_FDCWD, to);
	}
}

int box_remove_run(
	struct state *st, const char *id, int *lock_fd, const struct box_run_end *how, struct err *e)
{
	CLEANUP(box_freep) struct box *b = NULL;
	CLEANUP_FREE char *path = str_printf("boxes/%s", id);
	if (!path)
		return err_oom(e);
	int r = box_find_quiet(st, id, &b, e);
	/*
	 * Said first: a crash from here on leaves a record that reconcile finishes to remove, as it does anyway with a live
	 * one that goes with its end.
	 */
	if (r == 0)
		r = state_exec(st, e,
			"UPDATE boxes SET state='removing' WHERE id=?1 AND"
			" NOT (auto_remove AND state IN " BOX_LIVE_SQL ")",
			"s", id);
	if (r < 0)
		return r;
	keep_logs(st, id);
	r = io_remove_tree_at(st->home_fd, path);
	if (r < 0) {
		err_sys(e, r, "cannot remove %s/%s", st->home, path);
		set_dead(st, b, how, e ? e->msg : NULL);
		return r;
	}
	r = drop_record(st, id, how, e);
	if (r == 0) {
		box_unlock(st, id, lock_fd);
		box_volumes_repair(st); /* those that went with it */
	}
	return r;
}

int box_remove_locked(struct state *st, const char *id, int *lock_fd, struct err *e)
{
	return box_remove_run(st, id, lock_fd, NULL, e);
}

static int record_lost(struct state *st, const char *id, bool starting, struct err *e)
{
	int r = state_begin(st, e);
	if (r < 0)
		return r;
	r = starting ? box_set_start_failed(st, id, 125, "its start was interrupted", e)
		     : box_set_exited(st, id, 137, "the supervisor died, and the machine with it", e);
	if (r == 0)
		r = box_set_lost(st, id, e);
	return state_end(st, r, e);
}

/* The lock is held and its former owner is gone. */
static int repair_locked(struct state *st, const char *id, int *lock, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *s = NULL;
	int r = state_prepare(st, &s, e, "SELECT state, auto_remove FROM boxes WHERE id=?1", "s", id);
	if (r == 0)
		r = state_step(st, s, e);
	if (r < 0)
		return r;
	if (r == 0) { /* creation did not get to its record, or removal not to its end */
		CLEANUP_FREE char *path = str_printf("boxes/%s", id);
		if (!path)
			return err_oom(e);
		r = io_remove_tree_at(st->home_fd, path);
		if (r < 0)
			return err_sys(e, r, "cannot remove %s/%s", st->home, path);
		box_unlock(st, id, lock);
		return 0;
	}
	const char *state = (const char *)sqlite3_column_text(s, 0);
	bool auto_remove = sqlite3_column_int(s, 1), live = false, removing = strcmp(state, "removing") == 0;
	bool starting = strcmp(state, box_state_name(BOX_STARTING)) == 0;
	for (enum box_state i = BOX_STARTING; i <= BOX_STOPPING; i++)
		live |= strcmp(state, box_state_name(i)) == 0;
	sqlite3_reset(s);
	log_debug("box %s: its owner is gone, was %s", id, state ? state : "?");
	if (live && !auto_remove) {
		r = record_lost(st, id, starting, e);
		if (r < 0)
			return r;
	}
	if (removing || (live && auto_remove)) {
		static const struct box_run_end died = {.exit_code = 137};
		return box_remove_run(st, id, lock, live && !starting ? &died : NULL, e);
	}
	box_unlock(st, id, lock);
	return 0;
}

/*
 * A live box has a supervisor that answers, but for the first moments of its start; if not, it is gone or going, and its
 * machine with it.
 */
static bool supervisor_gone(struct state *st, const char *id)
{
	CLEANUP(stmt_done) sqlite3_stmt *s = NULL;

	if (state_prepare(st, &s, NULL, "SELECT 1 FROM boxes WHERE id=?1 AND state IN " BOX_LIVE_SQL, "s",
		    id) < 0 ||
		state_step(st, s, NULL) <= 0)
		return false;
	CLEANUP_CLOSE int dir = box_open_run_dir(st, id, false, NULL);
	CLEANUP_CLOSE int fd = dir < 0 ? dir : unix_connect_at(dir, RUN_CTL_SOCKET);
	return fd == -ENOENT || fd == -ECONNREFUSED;
}

int box_repair(struct state *st, const char *id, uint64_t deadline_ns, struct err *e)
{
	CLEANUP_CLOSE int lock = -1;
	int r;

	/* The machine of a dead supervisor holds the lock for the moment that its end takes. */
	while ((r = box_try_lock(st, id, &lock, e)) == -EBUSY) {
		if (!supervisor_gone(st, id) || time_mono_ns() >= deadline_ns)
			return 1;
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
	return r < 0 ? r : repair_locked(st, id, &lock, e);
}

static bool is_box_id(const char *s)
{
	return strlen(s) == BOX_ID_LEN && strspn(s, "0123456789abcdef") == BOX_ID_LEN;
}

/* Collects IDs first: repairing changes the folder that is being read. */
static int list_run_dir(struct state *st, struct strv *ids, struct err *e)
{
	int fd = io_open_dir_at(st->home_fd, "run", false);
	if (fd == -ENOENT)
		return 0;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	if (!d) {
		int r = fd < 0 ? fd : -errno;
		if (fd >= 0)
			close(fd);
		return err_sys(e, r, "cannot read %s/run", st->home);
	}
	int r = 0;
	for (struct dirent *de; r == 0 && (de = readdir(d));) {
		if (is_box_id(de->d_name))
			r = strv_push(ids, de->d_name);
	}
	closedir(d);
	return r < 0 ? err_oom(e) : 0;
}

static int list_live_records(struct state *st, struct strv *ids, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *s = NULL;
	int r = state_prepare(
		st, &s, e, "SELECT id FROM boxes WHERE state='removing' OR state IN " BOX_LIVE_SQL, "");
	while (r >= 0 && (r = state_step(st, s, e)) > 0) {
		if (strv_push(ids, (const char *)sqlite3_column_text(s, 0)) < 0)
			return err_oom(e);
	}
	return r;
}

int box_reconcile(struct state *st, struct err *e)
{
	CLEANUP(strv_done) struct strv ids = {0};
	int r = list_run_dir(st, &ids, e);
	if (r == 0)
		r = list_live_records(st, &ids, e); /* IDs may come twice: the second finds nothing to do */
	/* One box that cannot be repaired (a full disk, say) must not keep the user from the others. */
	uint64_t deadline = time_mono_ns() + RECONCILE_PATIENCE_NS;
	for (size_t i = 0; r == 0 && i < ids.n; i++) {
		struct err one = {0};
		if (box_repair(st, ids.v[i], deadline, &one) < 0)
			log_warn("box %.*s cannot be repaired now: %s", BOX_ID_SHORT_LEN, ids.v[i], one.msg);
	}
	if (r == 0) {
		box_networks_repair(st);
		box_volumes_repair(st);
		box_snapshots_repair(st);
	}
	return r;
}
