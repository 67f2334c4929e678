/* SPDX-License-Identifier: MIT */
/* Changes of networks that the supervisors of live boxes are to act on (box/network.h). */
#include <string.h>
#include <sys/socket.h>

#include "base/io.h"
#include "base/log.h"
#include "box/network.h"
#include "run.h"
#include "schema.h"

int box_networks_note(struct state *st, const char *box, int64_t *ret, struct err *e)
{
	/* What is on no network has nobody who would act. */
	int r = state_exec(st, e,
		"INSERT OR REPLACE INTO network_changes(box) SELECT id FROM boxes WHERE id=?1 AND state "
		"IN " BOX_LIVE_SQL " AND EXISTS (SELECT 1 FROM endpoints WHERE box=?1)",
		"s", box);

	*ret = r == 0 && sqlite3_changes(st->db) ? sqlite3_last_insert_rowid(st->db) : 0;
	return r;
}

int box_networks_changed(struct state *st, const char *box, int64_t *ret, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *s = NULL;
	int r = state_prepare(st, &s, e, "SELECT change FROM network_changes WHERE box=?1", "s", box);

	if (r == 0)
		r = state_step(st, s, e);
	if (r < 0)
		return r;
	*ret = r ? sqlite3_column_int64(s, 0) : 0;
	return 0;
}

int box_networks_settled(struct state *st, const char *box, int64_t change, struct err *e)
{
	int64_t last = 0;
	int r = change ? box_networks_changed(st, box, &last, e) : 0;

	/* Whatever is leaving does so by a change that is there yet. */
	if (r < 0 || last == 0)
		return r;
	r = state_begin(st, e);
	if (r < 0)
		return r;
	r = state_exec(
		st, e, "DELETE FROM endpoints WHERE box=?1 AND leaving BETWEEN 1 AND ?2", "si", box, change);
	if (r == 0)
		r = state_exec(
			st, e, "DELETE FROM network_changes WHERE box=?1 AND change<=?2", "si", box, change);
	return state_end(st, r, e);
}

int box_networks_apply(struct state *st, const char *box, struct err *e)
{
	struct box_request reload = {.op = BOX_OP_RELOAD, .networks = true};
	CLEANUP(box_freep) struct box *b = NULL;
	struct err ignored;
	int64_t change = 0;

	int r = box_networks_changed(st, box, &change, e);
	if (r == 0)
		r = box_find_quiet(st, box, &b, e); /* as it is now: it may have been started meanwhile */
	if (r == -ENOENT)
		return 0; /* it went with its end */
	if (r == 0 && box_is_live(b))
		r = box_call_live(st, b, &reload, e);
	if (r < 0 && r != -ESRCH) {
		if (b && b->state == BOX_PAUSED)
			err_hint(e, "let it go on with: a3s-box unpause %s", b->name);
		return r;
	}
	(void)box_networks_settled(st, b->id, change, &ignored); /* else by the next command */
	return 0;
}

/* ---- what a command left behind ---- */

/* Nobody waits for what comes of it. */
static int remind(struct state *st, const struct box *b, struct err *e)
{
	struct box_request reload = {.op = BOX_OP_RELOAD, .networks = true};
	CLEANUP(buf_done) struct buf out = {0};
	CLEANUP_CLOSE int fd = box_connect(st, b, e);

	if (fd < 0)
		return fd;
	int r = box_put_request(&out, &reload);
	if (r == 0 && send(fd, buf_data(&out), out.len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		r = -errno;
	return r < 0 ? err_sys(e, r, "its supervisor cannot be told") : 0;
}

static int repair_one(struct state *st, const char *box, struct err *e)
{
	CLEANUP(box_freep) struct box *b = NULL;
	int64_t change = 0;
	/* Its number first: what it was when the box did not live has been acted on, whatever comes now. */
	int r = box_networks_changed(st, box, &change, e);

	if (r == 0 && change)
		r = box_find_quiet(st, box, &b, e);
	if (r < 0 || !b)
		return r;
	return box_is_live(b) ? remind(st, b, e) : box_networks_settled(st, b->id, change, e);
}

void box_network_changes_repair(struct state *st)
{
	CLEANUP(stmt_done) sqlite3_stmt *s = NULL;
	CLEANUP(strv_done) struct strv ids = {0};
	int r = state_prepare(st, &s, NULL, "SELECT box FROM network_changes", "");

	while (r >= 0 && (r = state_step(st, s, NULL)) > 0) {
		if (strv_push(&ids, (const char *)sqlite3_column_text(s, 0)) < 0)
			return;
	}
	for (size_t i = 0; i < ids.n; i++) {
		struct err e = {0};
		if (repair_one(st, ids.v[i], &e) < 0)
			log_debug("box %.*s does not know its networks yet: %s", BOX_ID_SHORT_LEN, ids.v[i],
				e.msg);
	}
}
