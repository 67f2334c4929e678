/* SPDX-License-Identifier: MIT */
#include "state/event.h"

#include <stdarg.h>
#include <string.h>

#include "base/buf.h"
#include "base/io.h"

enum { TRIM_EVERY = 64 };

/* attrs: one "key=value" per entry, each ended by a NUL: values may hold any other byte. */
#define SCHEMA \
	"CREATE TABLE IF NOT EXISTS events (" \
	" id INTEGER PRIMARY KEY AUTOINCREMENT, time INTEGER NOT NULL," \
	" type TEXT NOT NULL, action TEXT NOT NULL, actor TEXT NOT NULL, attrs BLOB NOT NULL);"

void event_done(struct event *ev)
{
	free(ev->type);
	free(ev->action);
	free(ev->actor);
	strv_done(&ev->attrs);
	*ev = (struct event){0};
}

int event_init(struct state *st, struct err *e)
{
	return state_exec(st, e, SCHEMA, "");
}

static int insert(struct state *st, struct err *e, const char *type, const char *action, const char *actor,
	const struct buf *attrs)
{
	CLEANUP(stmt_done) sqlite3_stmt *s = NULL;
	int r = state_prepare(st, &s, e,
		"INSERT INTO events(time,type,action,actor,attrs) VALUES(?1,?2,?3,?4,?5)", "isss",
		time_real_ns(), type, action, actor);
	if (r == 0 && sqlite3_bind_blob(s, 5, attrs->len ? buf_data(attrs) : (const void *)"",
			      (int)attrs->len, SQLITE_STATIC) != SQLITE_OK)
		r = err_oom(e);
	if (r == 0)
		r = state_step(st, s, e);
	if (r < 0)
		return r;
	int64_t id = sqlite3_last_insert_rowid(st->db);
	if (id % TRIM_EVERY == 0)
		return state_exec(st, e, "DELETE FROM events WHERE id<=?1", "i", id - EVENTS_KEEP);
	return 0;
}

static int add(struct state *st, struct err *e, const char *type, const char *action, const char *actor,
	const struct buf *attrs)
{
	int r = state_begin(st, e);
	if (r < 0)
		return r;
	return state_end(st, insert(st, e, type, action, actor, attrs), e);
}

int event_add(struct state *st, struct err *e, const char *type, const char *action, const char *actor, ...)
{
	CLEANUP(buf_done) struct buf attrs = {0};
	const char *name, *value;
	va_list ap;
	int r = 0;

	va_start(ap, actor);
	while (r == 0 && (name = va_arg(ap, const char *))) {
		value = va_arg(ap, const char *);
		if (!value)
			continue;
		r = buf_append(&attrs, name, strlen(name));
		if (r == 0)
			r = buf_append(&attrs, "=", 1);
		if (r == 0)
			r = buf_append(&attrs, value, strlen(value) + 1);
	}
	va_end(ap);
	return r < 0 ? err_oom(e) : add(st, e, type, action, actor, &attrs);
}

int event_add_list(struct state *st, struct err *e, const char *type, const char *action, const char *actor,
	const struct strv *attrs)
{
	CLEANUP(buf_done) struct buf out = {0};

	for (size_t i = 0; i < attrs->n; i++) {
		if (buf_append(&out, attrs->v[i], strlen(attrs->v[i]) + 1) < 0)
			return err_oom(e);
	}
	return add(st, e, type, action, actor, &out);
}

static int from_row(sqlite3_stmt *s, struct event *ev, struct err *e)
{
	const char *attrs = sqlite3_column_blob(s, 5);
	size_t len = (size_t)sqlite3_column_bytes(s, 5);

	ev->id = sqlite3_column_int64(s, 0);
	ev->time_ns = sqlite3_column_int64(s, 1);
	ev->type = state_column_dup(s, 2);
	ev->action = state_column_dup(s, 3);
	ev->actor = state_column_dup(s, 4);
	if (!ev->type || !ev->action || !ev->actor)
		return err_oom(e);
	while (len) {
		size_t n = strnlen(attrs, len);
		if (n == len)
			return err_set(
				e, -EBADMSG, "event %lld in the database is damaged", (long long)ev->id);
		if (strv_push(&ev->attrs, attrs) < 0)
			return err_oom(e);
		attrs += n + 1;
		len -= n + 1;
	}
	return 0;
}

int event_read(struct state *st, int64_t after_id, int64_t since_ns,
	int (*fn)(const struct event *ev, void *data), void *data, int64_t *last_id, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *s = NULL;
	int r = state_prepare(st, &s, e,
		"SELECT id,time,type,action,actor,attrs FROM events WHERE id>?1 AND time>=?2 ORDER BY id",
		"ii", after_id, since_ns);

	while (r == 0 && (r = state_step(st, s, e)) > 0) {
		CLEANUP(event_done) struct event ev = {0};
		r = from_row(s, &ev, e);
		if (r == 0 && last_id)
			*last_id = ev.id;
		if (r == 0)
			r = fn(&ev, data);
	}
	return r;
}
