/* SPDX-License-Identifier: MIT */
/*
 * Changes of boxes' records: the moves of the table in box/box.h, each one transaction with its event. All are guarded by
 * the states they may come from: a violation is our own bug and said.
 */
#include <stdarg.h>
#include <string.h>

#include "base/io.h"
#include "box/box.h"
#include "box/network.h"
#include "box/volume.h"
#include "config.h"
#include "names.h"
#include "run.h"
#include "schema.h"
#include "state/event.h"

enum { EXIT_MASK = 255 };

/* ---- events ---- */

static int push_pair(struct strv *attrs, const char *name, const char *value)
{
	char *kv = str_printf("%s=%s", name, value);
	return kv ? strv_take(attrs, kv) : -ENOMEM;
}

int box_event(struct state *st, struct err *e, const struct box *b, const char *action, ...)
{
	CLEANUP(strv_done) struct strv attrs = {0};
	const char *name;
	va_list ap;
	int r = strv_copy(&attrs, &b->config.labels);

	va_start(ap, action);
	while (r == 0 && (name = va_arg(ap, const char *)))
		r = push_pair(&attrs, name, va_arg(ap, const char *));
	va_end(ap);
	if (r == 0)
		r = push_pair(&attrs, "image", b->image);
	if (r == 0)
		r = push_pair(&attrs, "name", b->name);
	return r < 0 ? err_oom(e) : event_add_list(st, e, "container", action, b->id, &attrs);
}

int box_event_die(struct state *st, const struct box *b, int exit_code, struct err *e)
{
	char code[16], seconds[32];
	int64_t ran_ns = b->started_ns ? time_real_ns() - b->started_ns : 0;
	int r = 0;

	snprintf(code, sizeof(code), "%d", exit_code & EXIT_MASK);
	snprintf(seconds, sizeof(seconds), "%lld", (long long)(MAX_OF(ran_ns, 0) / 1000000000));
	if (exit_code & (int)WIRE_EXIT_OOM)
		r = box_event(st, e, b, "oom", NULL);
	if (r == 0)
		r = box_event(st, e, b, "die", "execDuration", seconds, "exitCode", code, NULL);
	return r < 0 ? r : box_volumes_event(st, b, "unmount", e);
}

static int event_kill(struct state *st, const struct box *b, int sig, struct err *e)
{
	char number[16];

	snprintf(number, sizeof(number), "%d", sig);
	return box_event(st, e, b, "kill", "signal", number, NULL);
}

/* ---- moves ---- */

/*
 * Begins a move: a transaction, with the record as it is before, for the event, and to be freed. An error ends the
 * transaction.
 */
static int begin(struct state *st, const char *id, struct box **ret, struct err *e)
{
	int r = state_begin(st, e);
	if (r < 0)
		return r;
	r = box_find_quiet(st, id, ret, e);
	return r < 0 ? state_end(st, r, e) : 0;
}

/* To follow the UPDATE at once. */
static int moved(struct state *st, int r, const char *id, const char *what, struct err *e)
{
	if (r < 0 || sqlite3_changes(st->db) == 1)
		return r;
	return err_set(
		e, -ENOENT, "record of box %.*s: not in a state that allows %s", BOX_ID_SHORT_LEN, id, what);
}

int box_event_signal(struct state *st, const char *id, int sig, struct err *e)
{
	CLEANUP(box_freep) struct box *b = NULL;
	int r = begin(st, id, &b, e);
	return r < 0 ? r : state_end(st, event_kill(st, b, sig, e), e);
}

int box_event_now(struct state *st, const char *id, const char *action, struct err *e)
{
	CLEANUP(box_freep) struct box *b = NULL;
	int r = begin(st, id, &b, e);
	return r < 0 ? r : state_end(st, box_event(st, e, b, action, NULL), e);
}

int box_set_starting(struct state *st, const char *id, struct err *e)
{
	int r = state_exec(st, e,
		"UPDATE boxes SET state='starting', error=NULL, stopped_by_user=0, restart_count=0, "
		"health=NULL"
		" WHERE id=?1 AND state IN ('created','exited')",
		"s", id);
	return moved(st, r, id, "starting", e);
}

int box_set_running(struct state *st, const char *id, const char *accel, const char *machine, struct err *e)
{
	CLEANUP(box_freep) struct box *b = NULL;
	int r = begin(st, id, &b, e);
	if (r < 0)
		return r;
	r = state_exec(st, e,
		"UPDATE boxes SET state='running', accel=?2, started=?3, finished=0, exit_code=0, machine=?4,"
		" error=NULL, oom_killed=0, lost=0, stopped_by_user=0"
		" WHERE id=?1 AND state IN ('starting','restarting')",
		"ssis", id, accel, time_real_ns(), machine);
	r = moved(st, r, id, "running", e);
	if (r == 0)
		r = box_volumes_event(st, b, "mount", e);
	if (r == 0)
		r = box_event(st, e, b, "start", NULL);
	return state_end(st, r, e);
}

int box_set_paused(struct state *st, const char *id, bool paused, struct err *e)
{
	CLEANUP(box_freep) struct box *b = NULL;
	int r = begin(st, id, &b, e);
	if (r < 0)
		return r;
	r = state_exec(st, e, "UPDATE boxes SET state=?2 WHERE id=?1 AND state=?3", "sss", id,
		paused ? "paused" : "running", paused ? "running" : "paused");
	r = moved(st, r, id, paused ? "pausing" : "resuming", e);
	if (r == 0)
		r = box_event(st, e, b, paused ? "pause" : "unpause", NULL);
	return state_end(st, r, e);
}

int box_set_stopping(struct state *st, const char *id, int sig, bool by_user, struct err *e)
{
	CLEANUP(box_freep) struct box *b = NULL;
	int r = begin(st, id, &b, e);
	if (r < 0)
		return r;
	/* What waits to be restarted has nothing that could be stopped: its next move is the last one. */
	r = state_exec(st, e,
		"UPDATE boxes SET state=CASE state WHEN 'restarting' THEN state ELSE 'stopping' END,"
		" stopped_by_user=stopped_by_user OR ?2"
		" WHERE id=?1 AND state IN ('running','paused','restarting','stopping')",
		"si", id, (int64_t)by_user);
	r = moved(st, r, id, "stopping", e);
	if (r == 0 && sig)
		r = event_kill(st, b, sig, e);
	return state_end(st, r, e);
}

/* Also the story of the run is over: what died is told only of what ran. */
static int set_ended(struct state *st, const char *id, enum box_state to, int exit_code, const char *error,
	int64_t restart_count, struct err *e)
{
	CLEANUP(box_freep) struct box *b = NULL;
	int r = begin(st, id, &b, e);
	if (r < 0)
		return r;
	r = state_exec(st, e,
		"UPDATE boxes SET state=?2, exit_code=?3, error=?4, finished=?5, oom_killed=?6, health=NULL,"
		" restart_count=CASE WHEN ?7<0 THEN restart_count ELSE ?7 END"
		" WHERE id=?1 AND state IN " BOX_LIVE_SQL,
		"ssisiii", id, box_state_name(to), (int64_t)(exit_code & EXIT_MASK), error, time_real_ns(),
		(int64_t)((exit_code & (int)WIRE_EXIT_OOM) != 0), restart_count);
	r = moved(st, r, id, box_state_name(to), e);
	if (r == 0 && to == BOX_EXITED) /* what waits to be restarted keeps its ports */
		r = box_ports_set(st, id, NULL, 0, e);
	if (r == 0 && b->state != BOX_RESTARTING)
		r = box_event_die(st, b, exit_code, e);
	return state_end(st, r, e);
}

int box_set_exited(struct state *st, const char *id, int exit_code, const char *error, struct err *e)
{
	return set_ended(st, id, BOX_EXITED, exit_code, error, -1, e);
}

int box_set_restarting(struct state *st, const char *id, int exit_code, const char *error,
	uint32_t restart_count, struct err *e)
{
	return set_ended(st, id, BOX_RESTARTING, exit_code, error, restart_count, e);
}

int box_set_start_failed(struct state *st, const char *id, int exit_code, const char *error, struct err *e)
{
	int r = state_exec(st, e,
		"UPDATE boxes SET state=CASE started WHEN 0 THEN 'created' ELSE 'exited' END, exit_code=?2, "
		"error=?3"
		" WHERE id=?1 AND state='starting'",
		"sis", id, (int64_t)exit_code, error);
	return moved(st, r, id, "a failed start", e);
}

int box_set_lost(struct state *st, const char *id, struct err *e)
{
	CLEANUP(box_freep) struct box *b = NULL;
	int r = begin(st, id, &b, e);
	if (r < 0)
		return r;
	/* A policy that it gets later does not change it. */
	if (box_loss_counts(b))
		r = state_exec(st, e, "UPDATE boxes SET lost=1 WHERE id=?1", "s", id);
	return state_end(st, r, e);
}

int box_set_stopped(struct state *st, const char *id, struct err *e)
{
	/* In other states its owner decides, and the last word is its. */
	return state_exec(st, e,
		"UPDATE boxes SET stopped_by_user=1, lost=0"
		" WHERE id=?1 AND lost AND state IN ('created','exited')",
		"s", id);
}

/* ---- changes in any state ---- */

int box_set_health(struct state *st, const char *id, const char *health, struct err *e)
{
	CLEANUP(box_freep) struct box *b = NULL;
	int r = begin(st, id, &b, e);
	if (r < 0)
		return r;
	r = state_exec(st, e, "UPDATE boxes SET health=?2 WHERE id=?1", "ss", id, health);
	/* Docker tells of what a probe found, not of the time before the first. */
	if (r == 0 && health && strcmp(health, "starting") != 0) {
		CLEANUP_FREE char *action = str_printf("health_status: %s", health);
		r = action ? box_event(st, e, b, action, NULL) : err_oom(e);
	}
	return state_end(st, r, e);
}

int box_rename(struct state *st, const struct box *b, const char *name, struct err *e)
{
	CLEANUP(box_freep) struct box *now = NULL;
	int64_t change;

	if (!box_name_valid(name)) {
		err_set(e, -EINVAL, "\"%s\" is no name for a box", name);
		return err_hint(e, "[a-zA-Z0-9][a-zA-Z0-9_.-]*, at most %d bytes", BOX_NAME_MAX);
	}
	int r = begin(st, b->id, &now, e);
	if (r < 0)
		return r;
	CLEANUP_FREE char *old = TAKE_PTR(now->name);
	now->name = strdup(name);
	if (!now->name)
		r = err_oom(e);
	else if (strcmp(old, name) == 0)
		r = err_set(e, -EEXIST, "box %s has this name already", old);
	else
		r = state_exec(st, e, "UPDATE boxes SET name=?2 WHERE id=?1", "ss", b->id, name);
	if (r == -EEXIST && strcmp(old, name) != 0)
		r = box_name_taken(name, e);
	if (r == 0)
		r = box_networks_note(st, b->id, &change, e);
	if (r == 0)
		r = box_event(st, e, now, "rename", "oldName", old, NULL);
	return state_end(st, r, e);
}

int box_set_config(struct state *st, const struct box *b, const struct box_config *c, struct err *e)
{
	CLEANUP_FREE char *config = box_config_to_json(c);
	if (!config)
		return err_oom(e);
	CLEANUP(box_freep) struct box *now = NULL;
	int r = state_begin(st, e);
	if (r < 0)
		return r;
	r = state_exec(st, e, "UPDATE boxes SET config=?2 WHERE id=?1", "ss", b->id, config);
	if (r == 0)
		r = box_find_quiet(st, b->id, &now, e);
	if (r == 0)
		r = box_event(st, e, now, "update", NULL);
	return state_end(st, r, e);
}
