/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * Each connection is served by a process of its own, a fork of PID 1 that joins the mount namespace of the box, and its user
 * namespace where it has one: it sees the files, with all that is mounted, and their owners as the box's root does. It is in no
 * other namespace and not in the cgroup of the box, so that the box neither sees it nor can keep it from memory; what it can use
 * of that is limited. The descriptors of PID 1 are closed first: nothing of the box can lead to them.
 *
 * The box runs meanwhile and may be hostile to the copy: see tree/tree.h. What it serves itself (FUSE) can be silent for ever:
 * SIGALRM, which is fatal, ends a copy that makes no progress.
 */
#include "copy.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/openat2.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/time.h>

#include "base/io.h"
#include "child.h"
#include "tree/tree.h"

#define LINKS_MAX  40		/* in one path, as in Linux */
#define MEMORY_MAX (256u << 20) /* bytes of address space; of a small guest a quarter of what it has */
#define MEMORY_MIN (32u << 20)
#define DRAIN_MAX \
	(4u << 20) /* bytes that are still taken after a failure, so that the host comes to read of it */
#define DRAIN_S 5

/* ---- places ---- */

static int open_in(int root, const char *path)
{
	return io_openat2(
		root, *path ? path : ".", O_PATH | O_DIRECTORY, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
}

/* Takes "/" and "/." off the end. Returns whether there was any, or nothing is left: the path means a folder itself. */
static bool strip(char *path)
{
	size_t n = strlen(path);
	bool stripped = false;

	while (n && (path[n - 1] == '/' || (path[n - 1] == '.' && (n == 1 || path[n - 2] == '/')))) {
		path[--n] = '\0';
		stripped = true;
	}
	return stripped || !n ||
	       (n >= 2 && strcmp(path + n - 2, "..") == 0 && (n == 2 || path[n - 3] == '/'));
}

/* Puts a link's target in the place of the path's last component, which begins at base. */
static int put_target(char path[WIRE_PATH_MAX + 1], size_t base, const char *target)
{
	size_t at = *target == '/' ? 0 : base, len = strlen(target);

	if (at + len > WIRE_PATH_MAX)
		return -ENAMETOOLONG;
	memcpy(path + at, target, len + 1);
	return 0;
}

int copy_find(int root, const char *path, bool follow, struct copy_place *ret)
{
	char p[WIRE_PATH_MAX + 1], target[WIRE_PATH_MAX + 1];

	if (strlen(path) > WIRE_PATH_MAX)
		return -ENAMETOOLONG;
	memcpy(p, path, strlen(path) + 1);
	for (int i = 0; i < LINKS_MAX; i++) {
		bool whole = strip(p);
		char *slash = whole ? NULL : strrchr(p, '/'), *base = slash ? slash + 1 : p;
		size_t len = whole ? 0 : strlen(base);
		char first = *base;
		ssize_t n;

		if (len >= sizeof(ret->name))
			return -ENAMETOOLONG;
		memcpy(ret->name, base, len);
		ret->name[len] = '\0';
		if (!whole)
			*base = '\0';
		ret->dir = open_in(root, p);
		if (ret->dir < 0)
			return ret->dir;
		if (whole || !follow)
			return 0;
		n = readlinkat(ret->dir, ret->name, target, sizeof(target) - 1);
		if (n < 0)
			return 0; /* no link, or nothing at all */
		close_fd(&ret->dir);
		target[n] = '\0';
		*base = first;
		int r = put_target(p, (size_t)(base - p), target);
		if (r < 0)
			return r;
	}
	return -ELOOP;
}

/* ---- answers ---- */

static int answer(int fd, int r, const char *text)
{
	CLEANUP(buf_done) struct buf out = {0};
	int put = r < 0 ? wire_put_fail(&out, (uint32_t)MIN_OF(-r, 255), text)
			: wire_put(&out, WIRE_DONE, NULL, 0);

	return put < 0 ? put : io_write_full(fd, buf_data(&out), out.len);
}

/* "PATH: no such file or directory" */
static int answer_path(int fd, int r, const char *path)
{
	struct err e;

	err_sys(&e, r, "%s", path);
	return answer(fd, r, e.msg);
}

/* A connection that is closed with bytes unread could take the answer with it. */
static void drain(int fd)
{
	struct timeval limit = {.tv_sec = DRAIN_S};
	char bytes[4096];
	size_t total = 0;
	ssize_t n = 1;

	shutdown(fd, SHUT_WR);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	while (total < DRAIN_MAX && n > 0) {
		n = recv(fd, bytes, sizeof(bytes), 0);
		total += (size_t)MAX_OF(n, 0);
	}
}

static void on_progress(void *data, uint64_t entries, uint64_t bytes)
{
	uint64_t *last = data, now = time_mono_ns();

	if (now - *last < 1000000000)
		return;
	*last = now;
	alarm(COPY_IDLE_S);
}

/* ---- out and in ---- */

/* What is mounted at these is no part of a copy of all the box, as it is none of what Docker copies. */
static size_t find_kernels(int root, struct tree_file_id ret[3])
{
	static const char *const names[] = {"proc", "sys", "dev"};
	struct stat above, st;
	size_t n = 0;

	if (fstat(root, &above) < 0)
		return 0;
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (fstatat(root, names[i], &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode) &&
			st.st_dev != above.st_dev)
			ret[n++] = (struct tree_file_id){st.st_dev, st.st_ino};
	return n;
}

static int copy_out(int root, int fd, const struct wire_copy *c)
{
	CLEANUP(tree_stream_freep) struct tree_stream *s = NULL;
	struct copy_place at = {.dir = -1};
	uint64_t last = 0;
	struct tree_file_id kernels[3];
	struct tree_read_opts o = {.no_content = c->no_content,
		.pass_over = kernels,
		.n_pass_over = find_kernels(root, kernels),
		.progress = {on_progress, &last}};
	struct stat st;
	struct err e = {0};
	int r = copy_find(root, c->path, c->follow, &at);
	CLEANUP_CLOSE int dir = r < 0 ? -1 : at.dir;

	if (r == 0 && fstatat(dir, at.name, &st, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) < 0)
		r = -errno;
	if (r < 0)
		return answer_path(fd, r, c->path);
	r = tree_stream_new(fd, &s, &e);
	if (r == 0)
		r = answer(fd, 0, NULL);
	if (r == 0 && tree_read_folder(dir, at.name, &o, tree_stream_sink(s), &e) < 0)
		tree_stream_fail(s, e.msg);
	return r;
}

static int copy_in(int root, int fd, struct buf *in, const struct wire_copy *c)
{
	CLEANUP(tree_writer_freep) struct tree_writer *w = NULL;
	struct copy_place at = {.dir = -1};
	uint64_t last = 0;
	const struct tree_write_opts o = {.owner = c->keep_owner ? TREE_OWNER_KEEP : TREE_OWNER_SELF,
		.root_attr = c->root_attr,
		.durable = c->durable,
		.progress = {on_progress, &last}};
	struct err e = {0};
	int r = copy_find(root, c->path, c->follow, &at);
	CLEANUP_CLOSE int dir = r < 0 ? -1 : at.dir;

	if (r < 0)
		return answer_path(fd, r, c->path);
	r = tree_writer_new(dir, at.name, &o, &w, &e);
	if (r == 0)
		r = answer(fd, 0, NULL);
	if (r < 0)
		return r;
	r = tree_read_stream(fd, in, tree_writer_sink(w), &e);
	if (r < 0) {
		tree_writer_free(TAKE_PTR(w)); /* the temporary file is gone before the host goes on */
		r = answer(fd, r, e.msg);
		drain(fd);
		return r;
	}
	return answer(fd, 0, NULL);
}

/* ---- the process ---- */

/* As the box's root, and with its view of the files. */
static int join(const struct spawn_box *box)
{
	if (box->bare)
		return 0;
	if (setns(box->main_pidfd, CLONE_NEWNS | (box->user_namespace ? CLONE_NEWUSER : 0)) < 0)
		return -errno;
	if (box->user_namespace &&
		(setgroups(0, NULL) < 0 || setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0))
		return -errno;
	return 0;
}

static void limit_memory(void)
{
	struct sysinfo info;
	rlim_t max = MEMORY_MAX;

	if (sysinfo(&info) == 0)
		max = MIN_OF(max, (rlim_t)info.totalram * info.mem_unit / 4);
	max = MAX_OF(max, (rlim_t)MEMORY_MIN);
	setrlimit(RLIMIT_AS, &(struct rlimit){max, max});
}

static int serve(const struct spawn_box *box, int fd, struct buf *in)
{
	CLEANUP(wire_copy_done) struct wire_copy c = {0};
	struct wire_frame f;
	int r = wire_next(in, &f) == 1 ? wire_get_copy(&f, &c) : -EPROTO;

	if (r < 0)
		return r;
	bool out = f.type == WIRE_COPY_OUT;
	wire_consume(in, &f);
	r = join(box);
	if (r < 0)
		return answer_path(fd, r, "join the box");
	if (!box->bare)
		child_close_others(&fd, 1);
	/* Of a test's box it is the working folder. */
	CLEANUP_CLOSE int root = open(box->bare ? "." : "/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return answer_path(fd, -errno, "/");
	umask(0); /* modes are those of the tree */
	return out ? copy_out(root, fd, &c) : copy_in(root, fd, in, &c);
}

pid_t copy_start(const struct spawn_box *box, int fd, const struct buf *in)
{
	pid_t pid = fork();

	if (pid == 0) {
		struct buf own = *in; /* the copy that fork made */

		child_close_others((int[]){fd, box->main_pidfd}, 2);
		signal(SIGALRM, SIG_DFL);
		alarm(COPY_IDLE_S);
		if (!box->bare)
			limit_memory();
		_exit(io_set_nonblock(fd, false) == 0 && serve(box, fd, &own) == 0 ? 0 : 1);
	}
	return pid < 0 ? -errno : pid;
}
