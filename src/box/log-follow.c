/* SPDX-License-Identifier: MIT */
/* The logs command's work: entries to standard output and standard error, as long as it is wanted. */
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/inotify.h>

#include "base/io.h"
#include "base/log.h"
#include "log-read.h"
#include "run.h"

/* Whether the box still lives is asked when its folder in run/ changes, and now and then. */
enum { PRINT_BATCH = 65536, POLL_MS = 1000 };

struct printer {
	const struct box_log_opts *opts;
	struct buf out; /* for one of the two streams */
	int stream;
	bool inside[LOG_STREAMS]; /* a line that goes on: no prefix before its next piece */
};

static int flush(struct printer *p)
{
	int r = p->out.len ? io_write_full(STDOUT_FILENO + p->stream, buf_data(&p->out), p->out.len) : 0;
	p->out.len = p->out.start = 0;
	return r;
}

static int put(struct printer *p, const char *s, size_t len)
{
	return buf_append(&p->out, s, len);
}

static int print(struct printer *p, const struct log_entry *en)
{
	const struct box_log_opts *o = p->opts;
	int r = 0;

	if ((o->since_ns && en->time_ns < o->since_ns) || (o->until_ns && en->time_ns > o->until_ns))
		return 0;
	if (en->stream != p->stream || p->out.len > PRINT_BATCH)
		r = flush(p);
	p->stream = en->stream;
	if (r == 0 && o->timestamps && !p->inside[en->stream]) {
		r = put(p, en->time, strlen(en->time));
		if (r == 0)
			r = put(p, " ", 1);
	}
	if (r == 0 && o->details && !p->inside[en->stream]) {
		r = put(p, en->details, strlen(en->details));
		if (r == 0)
			r = put(p, " ", 1);
	}
	if (r == 0)
		r = put(p, en->data, en->len);
	p->inside[en->stream] = !en->whole;
	return r;
}

static int on_line(void *data, const char *line, size_t len)
{
	struct printer *p = data;
	struct log_entry en;

	if (!log_entry_parse(line, len, p->opts->details, &en))
		return 0;
	int r = print(p, &en);
	log_entry_done(&en);
	return r;
}

/* Prints all there is now. 0 or -errno. */
static int print_available(struct log_reader *rd, struct printer *p)
{
	int r = log_reader_run(rd, on_line, p);

	if (r == 0)
		r = flush(p);
	if (rd->gap)
		log_warn("logs: some output was rotated away before it could be shown");
	rd->gap = false;
	return r;
}

/* ---- following ---- */

static bool still_live(struct state *st, const struct box *b)
{
	CLEANUP(box_freep) struct box *now = NULL;
	struct err e;

	return box_reconcile(st, &e) == 0 && box_find_quiet(st, b->id, &now, &e) == 0 && box_is_live(now);
}

/* Milliseconds to wait at most; 0 when the end that was asked for is reached. */
static int wait_ms(const struct box_log_opts *o)
{
	if (!o->until_ns)
		return POLL_MS;
	int64_t left_ns = o->until_ns - time_real_ns();
	return left_ns <= 0 ? 0 : (int)MIN_OF(left_ns / 1000000 + 1, (int64_t)POLL_MS);
}

static int watch(int in, int dirfd, uint32_t mask)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", dirfd);
	return inotify_add_watch(in, path, mask) < 0 ? -errno : 0;
}

static int follow(struct state *st, const struct box *b, struct log_reader *rd, struct printer *p)
{
	CLEANUP_CLOSE int in = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	CLEANUP_CLOSE int run = box_open_run_dir(st, b->id, false, NULL);
	int r = in < 0 ? -errno : watch(in, rd->dirfd, IN_MODIFY | IN_CREATE | IN_MOVED_TO);

	if (r == 0 && run >= 0)
		watch(in, run,
			IN_DELETE | IN_DELETE_SELF | IN_ONLYDIR); /* without it the wait is the longer */
	for (bool quiet = true; r == 0;) {
		/* Asked only in a quiet moment, and before the last read, so that nothing is missed. */
		bool over = wait_ms(p->opts) == 0 || (quiet && !still_live(st, b));
		r = print_available(rd, p);
		if (r < 0 || over)
			break;
		struct pollfd fds[] = {{.fd = in, .events = POLLIN}, {.fd = STDOUT_FILENO}};
		quiet = poll(fds, ARRAY_LEN(fds), wait_ms(p->opts)) <= 0;
		if (fds[1].revents & (POLLERR | POLLHUP))
			return -EPIPE; /* a silent box would else keep us for ever, for nobody */
		char events[4096];
		ssize_t n = quiet ? 0 : read(in, events, sizeof(events));
		if (n < 0 && errno != EAGAIN)
			return -errno;
		for (ssize_t at = 0; at < n;) {
			const struct inotify_event *ev = (const void *)(events + at);
			quiet |= (ev->mask & (IN_DELETE | IN_DELETE_SELF | IN_IGNORED)) != 0;
			at += (ssize_t)(sizeof(*ev) + ev->len);
		}
	}
	return r;
}

/* ---- the command ---- */

static int check_driver(const struct box *b, struct err *e)
{
	enum box_log_driver d = b->config.log.driver;

	if (d == BOX_LOG_JSON_FILE)
		return 0;
	err_set(e, -ENOTSUP, "box %s keeps no log here: its log driver is %s", b->name,
		box_log_driver_name(d));
	return d == BOX_LOG_SYSLOG ? err_hint(e, "its output goes to the syslog server")
				   : err_hint(e, "its output is only seen by those who are attached");
}

int box_logs(struct state *st, const struct box *b, const struct box_log_opts *o, struct err *e)
{
	int r = check_driver(b, e);
	if (r < 0)
		return r;
	CLEANUP_CLOSE int dir = box_open_box_dir(st, b->id, false, e);
	/* A live box may only be on its way to its first output. */
	CLEANUP_CLOSE int logs = dir < 0 ? dir : io_open_dir_at(dir, "logs", o->follow && box_is_live(b));
	if (logs == -ENOENT)
		return 0; /* never started */
	if (logs < 0)
		return err_sys(e, logs, "cannot open the log of box %s", b->name);
	CLEANUP(log_reader_done)
	struct log_reader rd = {.dirfd = logs, .fd = -1, .files = log_files(&b->config.log)};
	struct printer p = {.opts = o};

	if (o->tail >= 0)
		r = log_reader_seek_tail(&rd, o->tail, o->since_ns, o->until_ns);
	if (r == 0)
		r = print_available(&rd, &p);
	if (r == 0 && o->follow)
		r = follow(st, b, &rd, &p);
	buf_done(&p.out);
	if (r == -EPIPE)
		return 0; /* the reader of our output has seen enough */
	return r < 0 ? err_sys(e, r, "cannot read the log of box %s", b->name) : 0;
}

bool box_log_stalled(struct state *st, const struct box *b)
{
	CLEANUP_CLOSE int run = box_open_run_dir(st, b->id, false, NULL);

	return run >= 0 && faccessat(run, RUN_LOG_STALLED, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}
