/* SPDX-License-Identifier: MIT */
/*
 * The supervisor and the box's log.
 *
 * Output is handed on in pieces of few lines, as one line feed can become an entry of kilobytes: what waits, waits as it
 * was read, and what one turn of the loop does not get through is the next one's.
 *
 * Output is never cut for want of room: while the disk takes nothing, what was read waits in memory, the workload's session
 * is not read on (sup_clients_update_throttle), and writing is tried again each second. Attached clients have seen what
 * waits, and see no more than that until it goes on. Only a box that is told to stop does not wait: what its log cannot
 * take then is dropped, and an entry says how much as soon as there is room. That it waits is an event, a line in
 * supervisor.log, and a file in run/ID, which takes no block, for `inspect`.
 */
#include <fcntl.h>
#include <signal.h>
#include <string.h>

#include "base/log.h"
#include "log-syslog.h"
#include "log.h"
#include "run.h"
#include "supervisor.h"

#define RETRY_NS 1000000000ull
enum {
	BATCH_MAX = 256 << 10, /* bytes of entries that are gathered before they are written */
	BATCHES_MAX = 16,      /* written in one turn of the loop */
	PIECE_MAX = 16 << 10,
	PIECE_LINES = 64,
	PIECES_MAX = 256, /* in one turn of the loop */
};

/* Output that waits to be made into entries stands behind one of these. */
struct waiting {
	uint32_t len;
	uint32_t stream;
};

/* What is left of a turn of the loop. */
struct budget {
	uint32_t pieces, batches;
};
static const struct budget no_limit = {UINT32_MAX, UINT32_MAX};

struct sup_log {
	struct supervisor *s;
	enum box_log_driver driver;
	struct log_writer file;
	struct log_syslog *syslog;
	struct buf
		waiting; /* output as it was read: only while more came than one turn takes, or nothing is taken */
	struct loop_source *write, *retry; /* at the end of the turn; when the disk took nothing */
	bool stalled, told;		   /* told: there is an event of it */
	bool ending;			   /* what waits still is written now, or dropped */
	char why[128];
};

/* The database may lie on the same full disk: it is tried until it works. */
static void tell_stalled(struct sup_log *l)
{
	struct err e = {0};

	if (!l->told)
		l->told = box_event(l->s->st, &e, l->s->box, "log_stalled", "error", l->why, NULL) == 0;
}

static void stall(struct sup_log *l, int error)
{
	struct supervisor *s = l->s;

	loop_set_timer(l->retry, RETRY_NS);
	if (s->run.stopping)
		log_writer_drop(&l->file);
	if (!l->stalled) {
		l->stalled = true;
		l->told = false;
		snprintf(l->why, sizeof(l->why), "%s", strerror(-error));
		log_error("log: %s: the box waits until its output can be written", l->why);
		int fd =
			openat(s->run_fd, RUN_LOG_STALLED, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
		close_fd(&fd);
		sup_clients_update_throttle(s);
	}
	tell_stalled(l);
}

static void resume(struct sup_log *l)
{
	struct err e = {0};

	l->stalled = false;
	loop_set_timer(l->retry, UINT64_MAX);
	log_error("log: output is written again");
	unlinkat(l->s->run_fd, RUN_LOG_STALLED, 0);
	tell_stalled(l);
	if (box_event(l->s->st, &e, l->s->box, "log_resumed", NULL) < 0)
		log_warn("%s", e.msg);
	sup_clients_update_throttle(l->s);
}

static void write_out(struct sup_log *l)
{
	int r = log_writer_flush(&l->file);

	if (r < 0 && l->ending)
		log_writer_drop(&l->file);
	else if (l->ending)
		return;
	else if (r < 0)
		stall(l, r);
	else if (l->stalled)
		resume(l);
}

/* How much of it is PIECE_LINES lines, or PIECE_MAX bytes. */
static size_t piece_len(const uint8_t *data, size_t len)
{
	size_t max = MIN_OF(len, (size_t)PIECE_MAX), n = 0;

	for (int lines = 0; n < max && lines < PIECE_LINES; lines++) {
		const uint8_t *nl = memchr(data + n, '\n', max - n);

		n = nl ? (size_t)(nl - data) + 1 : max;
	}
	return n;
}

/* Whether nothing more can be handed on now. A box that is to stop waits for nobody. */
static bool blocked(const struct sup_log *l)
{
	return !l->ending && !l->s->run.stopping && (l->stalled || (l->syslog && log_syslog_full(l->syslog)));
}

/* Hands on what may be handed on in this turn. Returns how much that was. */
static size_t hand_on(struct sup_log *l, int stream, const uint8_t *data, size_t len, struct budget *b)
{
	size_t done = 0;

	while (done < len && b->pieces && b->batches && !blocked(l)) {
		size_t n = piece_len(data + done, len - done);

		b->pieces--;
		if (l->syslog) {
			log_syslog_put(l->syslog, stream, data + done, n);
		} else {
			log_writer_put(&l->file, stream, data + done, n);
			if (log_writer_pending(&l->file) > BATCH_MAX) {
				b->batches--;
				write_out(l);
			}
		}
		done += n;
	}
	return done;
}

static void keep_waiting(struct sup_log *l, int stream, const uint8_t *data, size_t len)
{
	struct waiting head = {(uint32_t)len, (uint32_t)stream};
	uint8_t *room = buf_reserve(&l->waiting, sizeof(head) + len);

	if (!room)
		return; /* nothing will go on from here */
	memcpy(room, &head, sizeof(head));
	memcpy(room + sizeof(head), data, len);
	buf_commit(&l->waiting, sizeof(head) + len);
}

/* The oldest of what waits. */
static void hand_on_waiting(struct sup_log *l, struct budget *b)
{
	struct waiting head;

	while (l->waiting.len) {
		memcpy(&head, buf_data(&l->waiting), sizeof(head));
		size_t n = hand_on(l, (int)head.stream, buf_data(&l->waiting) + sizeof(head), head.len, b);
		if (n < head.len) {
			buf_consume(&l->waiting, n); /* its head moves up to the rest */
			head.len -= (uint32_t)n;
			memcpy(l->waiting.mem + l->waiting.start, &head, sizeof(head));
			return;
		}
		buf_consume(&l->waiting, sizeof(head) + n);
	}
	buf_done(&l->waiting);
}

/* At the end of a turn, and each second while the disk takes nothing. */
static void on_turn(void *data)
{
	struct sup_log *l = data;
	struct budget b = {PIECES_MAX, BATCHES_MAX};
	bool waited = l->waiting.len > 0;

	if (l->stalled)
		write_out(l);
	hand_on_waiting(l, &b);
	if (l->driver == BOX_LOG_JSON_FILE && !l->stalled)
		write_out(l);
	if (l->waiting.len && !blocked(l))
		loop_defer(l->write);
	else if (waited)
		sup_clients_update_throttle(l->s);
}

static void on_room(void *data)
{
	struct supervisor *s = data;

	if (s->log && s->log->waiting.len)
		loop_defer(s->log->write);
	sup_clients_update_throttle(s);
}

int sup_log_open(struct supervisor *s, struct err *e)
{
	struct sup_log *l = calloc(1, sizeof(*l));
	int r = 0;

	if (!l)
		return err_oom(e);
	signal(SIGXFSZ, SIG_IGN); /* a limit of the user's is a full disk like any other */
	l->s = s;
	l->driver = s->box->config.log.driver;
	l->file.fd = l->file.dirfd = -1;
	s->log = l;
	if (loop_add_deferred(s->loop, on_turn, l, &l->write) < 0 ||
		loop_add_timer(s->loop, UINT64_MAX, on_turn, l, &l->retry) < 0)
		r = err_oom(e);
	else if (l->driver == BOX_LOG_JSON_FILE)
		r = log_writer_open(&l->file, s->box_fd, s->box, e);
	else if (l->driver == BOX_LOG_SYSLOG)
		r = log_syslog_open(s->loop, s->box, on_room, s, &l->syslog, e);
	if (r < 0)
		sup_log_close(s);
	return r;
}

void sup_log_put(struct supervisor *s, int stream, const uint8_t *data, size_t len)
{
	struct sup_log *l = s->log;
	struct budget b = {PIECES_MAX, BATCHES_MAX};

	if (!l || (!l->syslog && l->driver != BOX_LOG_JSON_FILE))
		return;
	if (s->run.stopping) { /* nothing slows the workload any more, so that all of it must go now */
		b = no_limit;
		hand_on_waiting(l, &b);
	}
	size_t done = l->waiting.len ? 0 : hand_on(l, stream, data, len, &b);
	if (done < len) {
		keep_waiting(l, stream, data + done, len - done);
		sup_clients_update_throttle(s);
	}
	loop_defer(l->write);
}

bool sup_log_full(const struct supervisor *s)
{
	const struct sup_log *l = s->log;

	return l && (l->stalled || l->waiting.len || (l->syslog && log_syslog_full(l->syslog)));
}

/* Whatever waits still: nobody waits for it. */
static void end_waiting(struct sup_log *l)
{
	struct budget b = no_limit;

	l->ending = true;
	hand_on_waiting(l, &b);
}

void sup_log_close(struct supervisor *s)
{
	struct sup_log *l = TAKE_PTR(s->log);

	if (!l)
		return;
	end_waiting(l);
	log_syslog_close(l->syslog);
	log_writer_close(&l->file);
	if (l->stalled && s->run_fd >= 0)
		unlinkat(s->run_fd, RUN_LOG_STALLED, 0);
	loop_source_free(l->write);
	loop_source_free(l->retry);
	buf_done(&l->waiting);
	free(l);
}
