/* SPDX-License-Identifier: MIT */
#include "reader.h"

#include <endian.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/io.h"
#include "base/log.h"
#include "base/proc.h"

/* How the process ends when it has not said why. */
enum { STATUS_DONE = 0, STATUS_NO_UPPER = 3, STATUS_NOT_CONFINED = 4 };

/*
 * Processor time: an ordinary disk's metadata takes a second, and its content as long as copying it. Whatever goes round in
 * circles in it ends here. What stands still in it is ended by tree_read_stream, which waits a minute for the next bytes.
 */
#define SECONDS_BASE	 60u
#define BYTES_PER_SECOND (64u << 20) /* of the disk, allocated */
#define SECONDS_MAX	 3600u
#define PIPE_SIZE	 (1 << 20)

/* ---- the superblock ---- */

/* Linux, Documentation/filesystems/ext4/super.rst */
#define SUPER_OFFSET   1024
#define SUPER_MAGIC    0x38 /* u16 */
#define SUPER_INCOMPAT 0x60 /* u32 */
#define MAGIC	       0xEF53
#define NEEDS_RECOVERY 0x4

static int check_super(int fd, struct err *e)
{
	uint8_t sb[SUPER_INCOMPAT + 4];
	uint16_t magic;
	uint32_t incompat;
	ssize_t n = io_pread_full(fd, sb, sizeof(sb), SUPER_OFFSET);

	if (n < 0)
		return err_sys(e, (int)n, "cannot read the box's disk");
	if ((size_t)n < sizeof(sb))
		return err_set(e, -EUCLEAN, "the box's disk is too small for a file system");
	memcpy(&magic, sb + SUPER_MAGIC, sizeof(magic));
	memcpy(&incompat, sb + SUPER_INCOMPAT, sizeof(incompat));
	if (le16toh(magic) != MAGIC)
		return err_set(e, -EUCLEAN, "the box's disk has no file system");
	if (le32toh(incompat) & NEEDS_RECOVERY)
		return err_set(e, -EUCLEAN, "the box's disk was not left clean");
	return 0;
}

/* ---- the process ---- */

static _Noreturn void read_disk(int disk_fd, int out_fd, const struct ext2 *lib, uint64_t size,
	unsigned int seconds, const struct walk_opts *o)
{
	struct tree_stream *s = NULL;
	struct err e = {0};

	if (reader_confine(disk_fd, out_fd, seconds) < 0)
		_exit(STATUS_NOT_CONFINED);
	int r = tree_stream_new(1, &s, &e);
	if (r == 0)
		r = walk_upper(lib, 0, size, o, tree_stream_sink(s), &e);
	if (r == -ENOENT && !e.code)
		_exit(STATUS_NO_UPPER);
	if (r < 0 && s)
		tree_stream_fail(s, e.msg);
	_exit(STATUS_DONE);
}

/* What became of it, when it did not say so itself. */
static int explain(int status, struct err *e)
{
	int signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;

	if (WIFEXITED(status) && WEXITSTATUS(status) == STATUS_NOT_CONFINED)
		return err_set(e, -EPERM, "cannot confine the process that would read the box's disk");
	if (signal == SIGXCPU || signal == SIGKILL)
		return err_set(e, -EUCLEAN,
			"cannot read the box's disk: it takes too long; its file system is damaged");
	log_debug("storage: the process that read a disk ended with wait status 0x%x", (unsigned int)status);
	return err_set(e, -EUCLEAN, "cannot read the box's disk: its file system is damaged");
}

static unsigned int seconds_for(const struct stat *st)
{
	uint64_t n = SECONDS_BASE + (uint64_t)st->st_blocks * 512 / BYTES_PER_SECOND;

	return (unsigned int)MIN_OF(n, (uint64_t)SECONDS_MAX);
}

/* Reads to the end, and lets the process end. r: how reading ended. */
static int finish(pid_t pid, int r, bool *ret_any, struct err *e)
{
	int status = 0;

	/* It may still want to write, to nobody, or never end. One that is ending keeps its status. */
	kill(pid, SIGKILL);
	int waited = proc_wait(pid, &status);
	if (waited < 0)
		return err_sys(e, waited, "cannot wait for a process");
	if (r == -EPIPE && WIFEXITED(status) && WEXITSTATUS(status) == STATUS_NO_UPPER) {
		*ret_any = false;
		if (e)
			*e = (struct err){0};
		return 0;
	}
	if (r == -EPIPE)
		return explain(status, e);
	if (r == -ETIMEDOUT)
		return explain(SIGKILL, e);
	if (r == -EREMOTEIO) {
		err_wrap(e, "cannot read the box's disk");
		if (e)
			e->code = -EUCLEAN;
		return -EUCLEAN;
	}
	return r;
}

/* So that what the sink itself says is not taken for the process's end; and nothing comes twice from one place of the disk. */
struct guard {
	const struct tree_sink *to;
	uint64_t room; /* bytes of content that the disk can still have */
	int failed;
};

static int on_entry(void *data, const struct wire_entry *en, struct err *e)
{
	struct guard *g = data;

	return g->failed = g->to->entry(g->to->data, en, e);
}

static int on_content(void *data, uint64_t offset, const void *bytes, size_t len, struct err *e)
{
	struct guard *g = data;

	if (len > g->room)
		return g->failed = err_set(e, -EUCLEAN,
			       "cannot read the box's disk: its files have more content than fits; it is "
			       "damaged");
	g->room -= len;
	return g->failed = g->to->content(g->to->data, offset, bytes, len, e);
}

static int on_end(void *data, struct err *e)
{
	struct guard *g = data;

	return g->failed = g->to->end(g->to->data, e);
}

int reader_run(
	int disk_fd, const struct walk_opts *o, const struct tree_sink *to, bool *ret_any, struct err *e)
{
	const struct ext2 *lib = ext2_get(e);
	struct guard g = {.to = to};
	struct tree_sink guarded = {on_entry, on_content, on_end, &g};
	CLEANUP(buf_done) struct buf in = {0};
	struct stat st;
	int pipes[2];

	if (!lib)
		return -ENOENT;
	if (fstat(disk_fd, &st) < 0)
		return err_sys(e, -errno, "cannot look at the box's disk");
	/* Allocated bytes would be too few where the host drops zeros or compresses. */
	g.room = (uint64_t)st.st_size;
	int r = check_super(disk_fd, e);
	if (r < 0)
		return r;
	if (pipe2(pipes, O_CLOEXEC) < 0)
		return err_sys(e, -errno, "cannot make a pipe");
	CLEANUP_CLOSE int in_fd = pipes[0];
	CLEANUP_CLOSE int out_fd = pipes[1];
	(void)fcntl(in_fd, F_SETPIPE_SZ, PIPE_SIZE);
	r = io_set_nonblock(in_fd, true);
	if (r < 0)
		return err_sys(e, r, "cannot prepare a pipe");
	pid_t pid = fork();
	if (pid < 0)
		return err_sys(e, -errno, "cannot start a process");
	if (pid == 0)
		read_disk(disk_fd, out_fd, lib, (uint64_t)st.st_size, seconds_for(&st), o);
	close_fd(&out_fd);
	*ret_any = true;
	r = tree_read_stream(in_fd, &in, &guarded, e);
	close_fd(&in_fd);
	if (g.failed < 0) {
		kill(pid, SIGKILL);
		(void)proc_wait(pid, &(int){0});
		return r;
	}
	return finish(pid, r, ret_any, e);
}
