/* SPDX-License-Identifier: MIT */
#include "sup-fs.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/io.h"
#include "box/volume.h"

_Static_assert(BOX_MOUNTS_MAX <= FS_EXPORTS_MAX, "each mount is an export");

/* ---- sources ---- */

static const char *kind(mode_t mode)
{
	return S_ISSOCK(mode)	? "a socket"
	       : S_ISFIFO(mode) ? "a FIFO"
	       : S_ISCHR(mode)	? "a character device"
	       : S_ISBLK(mode)	? "a block device"
				: "no file";
}

static int missing(const struct box_mount *m, struct err *e)
{
	err_set(e, -ENOENT, "mount on %s: bind source path does not exist: %s", m->target, m->source);
	return err_hint(e, "make it first; -v makes a folder where nothing is");
}

static int cannot_open(const struct box_mount *m, int r, struct err *e)
{
	return err_sys(e, r, "mount on %s: cannot open %s", m->target, m->source);
}

/* The path as the user means it, links included: it is the user's own, and opened with the user's rights. O_PATH. */
static int open_bind(const struct box_mount *m, bool *ret_file, struct err *e)
{
	struct stat st;
	CLEANUP_CLOSE int fd = open(m->source, O_PATH | O_CLOEXEC);

	if (fd < 0 && errno == ENOENT && m->create) {
		int r = io_mkdir_p(m->source, 0755);
		if (r < 0)
			return err_sys(e, r, "mount on %s: cannot make %s", m->target, m->source);
		fd = open(m->source, O_PATH | O_CLOEXEC);
	}
	if (fd < 0)
		return errno == ENOENT ? missing(m, e) : cannot_open(m, -errno, e);
	if (fstat(fd, &st) < 0)
		return cannot_open(m, -errno, e);
	if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode)) {
		err_set(e, -ENOTSUP, "mount on %s: %s is %s of this host's kernel, which a box cannot reach",
			m->target, m->source, kind(st.st_mode));
		return err_hint(e, "folders and regular files can be mounted");
	}
	*ret_file = S_ISREG(st.st_mode);
	return TAKE_FD(fd);
}

static int open_source(
	struct state *st, const struct box *b, const struct box_mount *m, struct fs_export *x, struct err *e)
{
	*x = (struct fs_export){.fd = -1, .use_fd = -1, .read_only = m->read_only};
	if (m->type == BOX_MOUNT_BIND) {
		x->fd = open_bind(m, &x->file, e);
		return x->fd < 0 ? x->fd : 0;
	}
	struct box_volume_files files;
	int r = box_volume_open(st, b, m, &files, e);
	if (r < 0)
		return r;
	x->fd = files.data;
	x->use_fd = files.use;
	x->read_only |= files.read_only;
	x->cache = x->use_fd >= 0 ? FS_CACHE_VOLUME : FS_CACHE_HOST;
	return 0;
}

/* ---- start and end ---- */

static void close_exports(struct fs_export *x, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		close_fd(&x[i].fd);
		close_fd(&x[i].use_fd);
	}
}

int box_fs_start(
	struct state *st, const struct box *b, int lock_fd, int log_fd, struct box_fs *ret, struct err *e)
{
	const struct box_config *c = &b->config;
	struct fs_export exports[BOX_MOUNTS_MAX];
	size_t n = 0;
	int r = 0;

	*ret = (struct box_fs){0};
	if (!c->n_mounts)
		return 0;
	if (c->n_mounts > BOX_MOUNTS_MAX)
		return err_set(e, -E2BIG, "more than %d mounts", BOX_MOUNTS_MAX);
	CLEANUP_FREE char *program = box_find_asset(FS_PROGRAM, e);
	CLEANUP_FREE char *run_dir = str_printf("%s/run/%s", st->home, b->id);
	if (!program || !run_dir)
		return program ? err_oom(e) : e ? e->code : -ENOENT;
	while (r == 0 && n < c->n_mounts) {
		r = open_source(st, b, &c->mounts[n], &exports[n], e);
		ret->exports[n].file = exports[n].file;
		ret->exports[n].read_only = exports[n].read_only;
		n++;
	}
	if (r == 0) {
		struct fs_launch l = {.program = program,
			.name = run_dir, /* whose it is, as with the machine's */
			.exports = exports,
			.n_exports = n,
			.max_nodes = fs_nodes_of(b->config.mem_bytes),
			.hold_fd = lock_fd,
			.log_fd = log_fd};
		r = fs_launch(&l, &ret->process, e);
	}
	close_exports(exports, n);
	if (r < 0)
		*ret = (struct box_fs){0};
	return r;
}

int box_fs_socket(const struct box_fs *fs)
{
	return fs->process.pid > 0 ? fs->process.vhost_fd : -1;
}

void box_fs_connected(struct box_fs *fs)
{
	if (fs->process.pid > 0)
		close_fd(&fs->process.vhost_fd);
}

int box_fs_fill(const struct box_fs *fs, const struct box *b, struct wire_config *c)
{
	size_t n = b->config.n_mounts;

	if (!n)
		return 0;
	c->mounts = calloc(n, sizeof(*c->mounts));
	if (!c->mounts)
		return -ENOMEM;
	for (; c->n_mounts < n; c->n_mounts++) {
		const struct box_mount *from = &b->config.mounts[c->n_mounts];
		struct wire_mount *m = &c->mounts[c->n_mounts];
		*m = (struct wire_mount){.target = strdup(from->target),
			.subpath = str_dup(from->subpath),
			.read_only = fs->exports[c->n_mounts].read_only,
			.file = fs->exports[c->n_mounts].file};
		if (!m->target || (from->subpath && !m->subpath)) {
			wire_mount_done(m);
			return -ENOMEM;
		}
	}
	return 0;
}

bool box_fs_failed(const struct box_fs *fs)
{
	siginfo_t info = {0};

	return fs->process.pid > 0 &&
	       waitid(P_PID, (id_t)fs->process.pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
	       info.si_pid == fs->process.pid && (info.si_code != CLD_EXITED || info.si_status != 0);
}

void box_fs_end(struct box_fs *fs)
{
	if (fs->process.pid > 0)
		fs_process_done(&fs->process);
	*fs = (struct box_fs){0};
}
