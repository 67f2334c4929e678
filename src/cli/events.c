/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * Events are rows whose IDs grow in the order in which they became true, so whoever remembers the last ID it printed
 * neither misses one nor prints one twice. What is new is learned from inotify on the database's files; a commit becomes
 * visible a moment after it was written, so a change that shows nothing is looked at again, at growing intervals. Rows are
 * collected first and printed when the query is done: a slow reader of ours never holds the database's log.
 */
#include <poll.h>
#include <string.h>
#include <sys/inotify.h>

#include "app.h"
#include "base/io.h"
#include "base/units.h"
#include "event-filter.h"
#include "format.h"

enum { BATCH = 256, POLL_MS = 1000, FIRST_LOOK_MS = 2 };

struct watcher {
	struct state *st;
	struct event_filter *filter;
	struct template *template;
	bool text;		    /* neither JSON nor template */
	int64_t since_ns, until_ns; /* 0: not given */
	int64_t last_id;
	struct event batch[BATCH];
	size_t n;
};

/* ---- one event ---- */

static json_t *attributes_json(const struct event *ev)
{
	return json_from_pairs(&ev->attrs);
}

/* capitals: the names that templates know; else those of Docker's JSON. */
static json_t *event_json(const struct event *ev, bool capitals)
{
	bool has_from = strcmp(ev->type, "container") == 0 || strcmp(ev->type, "image") == 0;
	const char *image = strv_getenv(&ev->attrs, "image");
	json_t *j = json_object();

	if (has_from || capitals) {
		json_object_set_new(j, capitals ? "Status" : "status", json_from_text(ev->action));
		json_object_set_new(j, capitals ? "ID" : "id", json_from_text(ev->actor));
	}
	if ((has_from && image) || capitals)
		json_object_set_new(j, capitals ? "From" : "from", json_from_text(image ? image : ""));
	json_object_set_new(j, "Type", json_from_text(ev->type));
	json_object_set_new(j, "Action", json_from_text(ev->action));
	json_t *actor = json_object();
	json_object_set_new(actor, "ID", json_from_text(ev->actor));
	json_object_set_new(actor, "Attributes", attributes_json(ev));
	json_object_set_new(j, "Actor", actor);
	json_object_set_new(j, capitals ? "Scope" : "scope", json_string("local"));
	json_object_set_new(j, capitals ? "Time" : "time", json_integer(ev->time_ns / 1000000000));
	json_object_set_new(j, capitals ? "TimeNano" : "timeNano", json_integer(ev->time_ns));
	return j;
}

static void put_escaped(const char *s)
{
	CLEANUP_FREE char *safe = text_escape_dup(s);

	if (safe)
		fputs(safe, stdout);
}

static int compare_strings(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* "2024-05-01T12:30:00.123456789Z container start 0123… (image=box, name=web)" */
static void print_text(struct event *ev)
{
	char time[40];

	printf("%s ", format_time_rfc3339(time, sizeof(time), ev->time_ns));
	put_escaped(ev->type);
	putchar(' ');
	put_escaped(ev->action);
	putchar(' ');
	put_escaped(ev->actor);
	qsort(ev->attrs.v, ev->attrs.n, sizeof(*ev->attrs.v), compare_strings);
	for (size_t i = 0; i < ev->attrs.n; i++) {
		fputs(i ? ", " : " (", stdout);
		put_escaped(ev->attrs.v[i]);
	}
	puts(ev->attrs.n ? ")" : "");
}

static int print_event(struct watcher *w, struct event *ev, struct err *e)
{
	if (w->text) {
		print_text(ev);
		return 0;
	}
	json_t *j = event_json(ev, false);
	if (!w->template)
		return format_print_object(NULL, j, e);
	/* {{json .}} shows the one, and fields may be of either. */
	struct template_labels both = {.more = event_json(ev, true)};
	CLEANUP_FREE char *text = NULL;
	int r = template_text(w->template, j, &both, isatty(STDOUT_FILENO), &text, e);
	if (r == 0)
		puts(text);
	json_decref(both.more);
	json_decref(j);
	return r;
}

/* ---- reading ---- */

static int take_event(const struct event *ev, void *data)
{
	struct watcher *w = data;
	struct event *to = &w->batch[w->n];

	*to = (struct event){.id = ev->id,
		.time_ns = ev->time_ns,
		.type = strdup(ev->type),
		.action = strdup(ev->action),
		.actor = strdup(ev->actor)};
	w->n++;
	if (!to->type || !to->action || !to->actor || strv_copy(&to->attrs, &ev->attrs) < 0)
		return -ENOMEM;
	return w->n == BATCH;
}

/* Prints what is there by now. Returns how many events were read, or -errno. */
static int drain(struct watcher *w, bool following, struct err *e)
{
	int total = 0, r;

	do {
		int64_t before = w->last_id;
		r = event_read(w->st, w->last_id, following ? 0 : w->since_ns, take_event, w, &w->last_id, e);
		if (r == -ENOMEM)
			err_oom(e);
		if (r >= 0 && following && w->n && w->batch[0].id > before + 1)
			fprintf(stderr,
				"a3s-box: warning: events: %lld were dropped before they could be read\n",
				(long long)(w->batch[0].id - before - 1));
		total += (int)w->n;
		for (size_t i = 0; i < w->n; i++) {
			struct event *ev = &w->batch[i];
			int p = 0;
			if (r >= 0 && ev->time_ns >= w->since_ns &&
				!(w->until_ns && ev->time_ns > w->until_ns) &&
				event_filter_match(w->filter, ev))
				p = print_event(w, ev, e);
			r = p < 0 ? p : r;
			event_done(ev);
		}
		w->n = 0;
		if (fflush(stdout) != 0)
			return -EPIPE; /* main says why */
	} while (r > 0);
	return r < 0 ? r : total;
}

static int newest_id(struct state *st, int64_t *ret, struct err *e)
{
	CLEANUP(stmt_done) sqlite3_stmt *s = NULL;
	int r = state_prepare(st, &s, e, "SELECT coalesce(max(id), 0) FROM events", "");

	if (r == 0)
		r = state_step(st, s, e);
	if (r > 0)
		*ret = sqlite3_column_int64(s, 0);
	return r < 0 ? r : 0;
}

/* ---- waiting ---- */

static int watch_database(const struct state *st)
{
	int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);

	/* The folder, not the files: the log is made anew now and then. */
	if (fd >= 0 && inotify_add_watch(fd, st->home, IN_MODIFY | IN_CREATE) < 0)
		close_fd(&fd);
	return fd; /* -1: polling has to do */
}

static bool take_changes(int fd)
{
	char buf[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
	bool changed = false;
	ssize_t n;

	while ((n = read(fd, buf, sizeof(buf))) > 0) {
		for (char *p = buf; p < buf + n;) {
			const struct inotify_event *ev = (const void *)p;
			changed |= (ev->mask & IN_Q_OVERFLOW) ||
				   (ev->len && strncmp(ev->name, "state.db", 8) == 0);
			p += sizeof(*ev) + ev->len;
		}
	}
	return changed;
}

/* Until the end asked for, or until nobody takes the output. */
static int follow(struct watcher *w, int inotify, struct err *e)
{
	int look_ms = POLL_MS, r = 0;

	for (;;) {
		int64_t now = time_real_ns(), wait_ms = look_ms;
		bool last = w->until_ns && now >= w->until_ns;
		r = drain(w, true, e);
		if (r < 0 || last)
			return r < 0 ? r : 0;
		look_ms = r > 0 ? POLL_MS : MIN_OF(look_ms * 2, POLL_MS);
		wait_ms = look_ms;
		if (w->until_ns)
			wait_ms = MIN_OF(wait_ms, (w->until_ns - now) / 1000000 + 1);
		struct pollfd fds[] = {{inotify, POLLIN, 0}, {STDOUT_FILENO, 0, 0}};
		if (poll(fds, ARRAY_LEN(fds), (int)wait_ms) > 0 && fds[1].revents & (POLLERR | POLLHUP))
			return 0;
		if (inotify >= 0 && take_changes(inotify))
			look_ms = FIRST_LOOK_MS / 2; /* doubled before it is waited for */
	}
}

static int watch(struct watcher *w, struct err *e)
{
	CLEANUP(app_close) struct app a = {0};
	bool history = w->since_ns || w->until_ns;

	int r = app_open(&a, false, e);
	if (r < 0)
		return r;
	w->st = a.st;
	r = event_filter_resolve(w->filter, a.st, e);
	CLEANUP_CLOSE int inotify =
		watch_database(a.st); /* before the first look, so that nothing falls between */
	if (r == 0 && !history)
		r = newest_id(a.st, &w->last_id, e);
	if (r == 0 && history) {
		int64_t newest = 0;
		r = newest_id(a.st, &newest, e);
		if (r == 0)
			r = drain(w, false, e);
		w->last_id = MAX_OF(w->last_id, newest); /* those before since are not missing */
	}
	return r < 0 ? r : follow(w, inotify, e);
}

static int time_option(const char *name, const char *value, int64_t *ret, struct err *e)
{
	if (!value)
		return 0;
	if (parse_time_ns(value, time_real_ns(), ret) < 0 || *ret <= 0)
		return err_set(e, -EINVAL,
			"--%s %s: expected a time like 2024-05-01T12:30:00, seconds since 1970, or a "
			"duration like 10m",
			name, value);
	return 0;
}

/* A field that no event has is said before anything is waited for. */
static void check_field(void *data, const char *name, bool certain)
{
	static const char *const names[] = {
		"Action", "Actor", "From", "ID", "Scope", "Status", "Time", "TimeNano", "Type"};
	const char **unknown = data;
	bool known = !certain || name[0] < 'A' || name[0] > 'Z';

	for (size_t i = 0; !known && i < ARRAY_LEN(names); i++)
		known = strcmp(name, names[i]) == 0;
	if (!known)
		*unknown = name;
}

static int check_template(const struct template *t, struct err *e)
{
	const char *unknown = NULL;

	template_fields(t, check_field, &unknown);
	if (!unknown)
		return 0;
	err_set(e, -EINVAL, "--format: there is no field \"%s\"", unknown);
	return err_hint(e, "fields: Action Actor From ID Scope Status Time TimeNano Type");
}

int cmd_events(const struct cmd *c, int argc, char **argv)
{
	CLEANUP(strv_done) struct strv filters = {0};
	CLEANUP(event_filter_freep) struct event_filter *filter = NULL;
	CLEANUP(template_freep) struct template *template = NULL;
	CLEANUP_FREE struct watcher *w = calloc(1, sizeof(*w));
	const char *format = NULL, *since = NULL, *until = NULL;
	bool json = false;
	struct opt opts[] = {{'f', "filter", OPT_LIST, &filters, "KEY=VALUE",
				     "only these: type, event, box (or container), image, label"},
		{0, "format", OPT_STR, &format, "FORMAT",
			"json, or a template like '{{.Action}} {{.Actor.ID}}'"},
		{0, "json", OPT_FLAG, &json, NULL, "as --format json"},
		{0, "since", OPT_STR, &since, "TIME", "what happened since then, first"},
		{0, "until", OPT_STR, &until, "TIME", "end then"}, {0}};
	struct err e = {0};

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0 && argc > 1)
		return app_usage(c, "no arguments are taken");
	if (r == 0 && !w)
		r = err_oom(&e);
	if (r == 0)
		r = time_option("since", since, &w->since_ns, &e);
	if (r == 0)
		r = time_option("until", until, &w->until_ns, &e);
	if (r == 0)
		r = event_filter_parse(&filters, &filter, &e);
	if (r == 0 && (json || format))
		r = format_parse_object("--format", json ? "json" : format, &template, &e);
	if (r == 0 && template)
		r = check_template(template, &e);
	if (r == 0) {
		w->filter = filter;
		w->template = template;
		w->text = !json && !format;
		r = watch(w, &e);
	}
	return r < 0 && r != -EPIPE ? app_fail(c, &e, 1) : 0;
}
