/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * Once a second the list of boxes is read again, every box that runs is asked on a connection of its own that stays open,
 * and what has answered by then is shown. A box that does not answer holds up no other; after ANSWER_LIMIT_NS its
 * connection is given up and made anew. CPU use is what was used between two answers, by the guest's clock.
 */
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#include "app.h"
#include "base/io.h"
#include "base/units.h"
#include "format.h"

#define PERIOD_NS	1000000000ull
#define ANSWER_LIMIT_NS 5000000000ull
#define ONCE_LIMIT_NS	20000000000ull /* --no-stream: for two answers of every box */

struct entry {
	struct box *box;
	struct box_query *q;
	bool listed; /* still there when the list was last read */
	bool waiting, has, has_cpu, failed;
	uint64_t asked_ns;
	struct wire_stats stats;
	double cpu; /* percent of one processor */
};

struct view {
	struct app app;
	struct entry *entries;
	size_t n;
	struct format *format;
	struct strv refs; /* IDs of the boxes that were named; empty: all */
	bool all, full, redraw;
};

static bool answers(const struct entry *en)
{
	return en->box->state == BOX_RUNNING || en->box->state == BOX_STOPPING;
}

static void drop_query(struct entry *en, bool failed)
{
	box_query_free(TAKE_PTR(en->q));
	en->waiting = false;
	en->failed = failed;
	en->has = en->has_cpu = false;
}

static void entry_done(struct entry *en)
{
	box_query_free(en->q);
	box_free(en->box);
}

/* ---- which boxes ---- */

/* Takes b. */
static int keep_box(struct view *v, struct box *b, struct err *e)
{
	for (size_t i = 0; i < v->n; i++) {
		struct entry *en = &v->entries[i];
		if (strcmp(en->box->id, b->id) != 0)
			continue;
		/* Another run of the box is another guest. */
		if (en->box->started_ns != b->started_ns || !box_is_live(b))
			drop_query(en, false);
		box_free(en->box);
		en->box = b;
		en->listed = true;
		return 0;
	}
	struct entry *grown = reallocarray(v->entries, v->n + 1, sizeof(*grown));
	if (!grown) {
		box_free(b);
		return err_oom(e);
	}
	v->entries = grown;
	v->entries[v->n++] = (struct entry){.box = b, .listed = true};
	return 0;
}

static int list_named(struct view *v, struct err *e)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < v->refs.n; i++) {
		struct box *b = NULL;
		r = box_find(v->app.st, v->refs.v[i], &b, e);
		if (r == 0)
			r = keep_box(v, b, e);
		else if (r == -ENOENT)
			r = 0; /* removed meanwhile */
	}
	return r;
}

static int list_all(struct view *v, struct err *e)
{
	struct box **list = NULL;
	size_t n = 0;
	int r = box_list_brief(v->app.st, v->all, 0, &list, &n, e);

	for (size_t i = 0; i < n; i++) {
		struct box *b = TAKE_PTR(list[i]);
		if (r == 0)
			r = keep_box(v, b, e);
		else
			box_free(b);
	}
	free(list);
	return r;
}

static int refresh(struct view *v, struct err *e)
{
	size_t kept = 0;
	int r = box_reconcile(v->app.st, e);

	for (size_t i = 0; i < v->n; i++)
		v->entries[i].listed = false;
	if (r == 0)
		r = v->refs.n ? list_named(v, e) : list_all(v, e);
	for (size_t i = 0; i < v->n; i++) {
		if (v->entries[i].listed)
			v->entries[kept++] = v->entries[i];
		else
			entry_done(&v->entries[i]);
	}
	v->n = kept;
	return r;
}

/* ---- asking ---- */

static void ask_all(struct view *v, uint64_t now)
{
	for (size_t i = 0; i < v->n; i++) {
		struct entry *en = &v->entries[i];
		if (en->waiting && now - en->asked_ns > ANSWER_LIMIT_NS)
			drop_query(en, true);
		if (!answers(en) || en->waiting)
			continue;
		if ((!en->q && box_query_new(v->app.st, en->box, &en->q, NULL) < 0) ||
			box_query_ask(en->q, WIRE_GET_STATS, NULL, NULL) < 0) {
			drop_query(en, true);
			continue;
		}
		en->waiting = true;
		en->asked_ns = now;
	}
}

static void take_stats(struct entry *en, const struct wire_stats *s)
{
	uint64_t used = s->cpu_usage_ns - en->stats.cpu_usage_ns, time = s->uptime_ns - en->stats.uptime_ns;

	en->has_cpu =
		en->has && s->cpu_usage_ns >= en->stats.cpu_usage_ns && s->uptime_ns > en->stats.uptime_ns;
	en->cpu = en->has_cpu ? 100.0 * (double)used / (double)time : 0;
	en->stats = *s;
	en->has = true;
	en->failed = false;
}

static void take_answer(struct entry *en)
{
	struct wire_frame f;
	struct wire_stats s;
	int r = box_query_read(en->q, &f, NULL);

	if (r == 0)
		return;
	if (r > 0)
		r = box_query_check(en->q, &f, WIRE_STATS, NULL);
	if (r == 0)
		r = wire_get_stats(&f, &s);
	if (r < 0) {
		drop_query(en, true);
		return;
	}
	en->waiting = false;
	take_stats(en, &s);
}

/* Until all have answered, or the deadline. */
static int collect(struct view *v, uint64_t deadline, struct err *e)
{
	CLEANUP_FREE struct pollfd *fds = calloc(v->n + 1, sizeof(*fds));

	if (!fds)
		return err_oom(e);
	for (;;) {
		uint64_t now = time_mono_ns();
		bool waiting = false;
		for (size_t i = 0; i < v->n; i++) {
			struct entry *en = &v->entries[i];
			fds[i] = (struct pollfd){
				.fd = en->waiting ? box_query_fd(en->q) : -1, .events = POLLIN};
			waiting |= en->waiting;
		}
		if (!waiting || now >= deadline)
			return 0;
		if (poll(fds, v->n, (int)((deadline - now) / 1000000 + 1)) < 0)
			continue;
		for (size_t i = 0; i < v->n; i++) {
			if (fds[i].revents)
				take_answer(&v->entries[i]);
		}
	}
}

/* ---- showing ---- */

enum { F_CONTAINER, F_ID, F_NAME, F_CPU, F_MEM, F_MEM_PERC, F_NET, F_BLOCK, F_PIDS };
static const struct format_field fields[] = {
	[F_CONTAINER] = {"Container", "BOX"},
	[F_ID] = {"ID", "BOX ID"},
	[F_NAME] = {"Name", "NAME"},
	[F_CPU] = {"CPUPerc", "CPU %"},
	[F_MEM] = {"MemUsage", "MEM USAGE / LIMIT"},
	[F_MEM_PERC] = {"MemPerc", "MEM %"},
	[F_NET] = {"NetIO", "NET I/O"},
	[F_BLOCK] = {"BlockIO", "BLOCK I/O"},
	[F_PIDS] = {"PIDs", "PIDS"},
	{NULL, NULL},
};

/* "1.5MiB": binary multiples, four digits, as Docker prints memory. */
static const char *binary_size(char *buf, size_t size, uint64_t bytes)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	double v = (double)bytes;
	size_t u = 0;

	for (; v >= 1024 && u + 1 < ARRAY_LEN(units); u++)
		v /= 1024;
	snprintf(buf, size, v >= 1000 ? "%.0f%s" : "%.4g%s", v, units[u]);
	return buf;
}

/* What the kernel would give back before anything else is no use of memory, as in Docker. */
static uint64_t mem_used(const struct wire_stats *s)
{
	return s->mem_usage > s->mem_cache ? s->mem_usage - s->mem_cache : 0;
}

static void pair_text(char *dst, size_t size, uint64_t in, uint64_t out)
{
	char a[16], b[16];

	snprintf(dst, size, "%s / %s", format_size(a, sizeof(a), in), format_size(b, sizeof(b), out));
}

static void number_text(const struct entry *en, size_t field, char *dst, size_t size)
{
	const struct wire_stats *s = &en->stats;
	char a[32], b[32];

	switch (field) {
	case F_CPU:
		snprintf(dst, size, en->has_cpu || !answers(en) ? "%.2f%%" : "--",
			answers(en) ? en->cpu : 0.0);
		break;
	case F_MEM:
		snprintf(dst, size, "%s / %s", binary_size(a, sizeof(a), mem_used(s)),
			binary_size(b, sizeof(b), s->mem_limit));
		break;
	case F_MEM_PERC:
		snprintf(dst, size, "%.2f%%",
			s->mem_limit ? 100.0 * (double)mem_used(s) / (double)s->mem_limit : 0.0);
		break;
	case F_NET:
		pair_text(dst, size, s->net_received, s->net_sent);
		break;
	case F_BLOCK:
		pair_text(dst, size, s->blk_read, s->blk_written);
		break;
	default:
		snprintf(dst, size, "%llu", (unsigned long long)s->pids);
	}
}

static json_t *get_cell(void *data, size_t row, size_t field)
{
	static const struct wire_stats none;
	struct view *v = data;
	struct entry *en = &v->entries[row];
	char text[96];

	if (field == F_NAME)
		return json_string(en->box->name);
	if (field == F_ID || field == F_CONTAINER)
		return json_stringn(en->box->id, v->full ? BOX_ID_LEN : BOX_ID_SHORT_LEN);
	if (!en->has && box_is_live(en->box)) /* asked, and not yet heard of */
		return json_string(field == F_MEM ? "-- / --" : "--");
	if (!en->has)
		en->stats = none; /* it does not run, and uses nothing */
	number_text(en, field, text, sizeof(text));
	return json_string(text);
}

/* Writes the text over what is on the screen, at most as many lines as it has: nothing is cleared first, nothing flickers. */
static void redraw(const char *text)
{
	struct winsize ws = {0};
	unsigned int rows = ioctl(STDOUT_FILENO, TIOCGWINSZ, &ws) == 0 && ws.ws_row > 1 ? ws.ws_row : 24;

	fputs("\033[H", stdout);
	for (const char *end; *text && rows > 1 && (end = strchr(text, '\n')); text = end + 1, rows--)
		printf("%.*s\033[K\n", (int)(end - text), text);
	fputs("\033[J", stdout);
}

static int show(struct view *v, const struct format_source *src, struct err *e)
{
	CLEANUP_FREE char *text = NULL;
	size_t len = 0;
	FILE *out = stdout;

	if (!v->redraw)
		return format_print(v->format, src, v->n, e);
	/* In the GNU C library standard output is a variable like another. */
	stdout = open_memstream(&text, &len);
	if (!stdout) {
		stdout = out;
		return err_oom(e);
	}
	int r = format_print(v->format, src, v->n, e);
	fclose(stdout);
	stdout = out;
	if (r == 0)
		redraw(text);
	return r;
}

/* ---- the command ---- */

/* Every box that can has said it twice, or cannot be asked. */
static bool complete(const struct view *v)
{
	for (size_t i = 0; i < v->n; i++) {
		const struct entry *en = &v->entries[i];
		if (answers(en) && !en->has_cpu && !en->failed)
			return false;
	}
	return true;
}

static void sleep_until(uint64_t ns)
{
	struct timespec at = {(time_t)(ns / 1000000000), (long)(ns % 1000000000)};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR)
		;
}

static int watch(struct view *v, const struct format_source *src, bool once, struct err *e)
{
	uint64_t start = time_mono_ns(), tick = start;

	if (v->redraw)
		fputs("\033[2J", stdout);
	for (;; sleep_until(tick)) {
		int r = refresh(v, e);
		if (r < 0)
			return r;
		if (v->refs.n && v->n == 0)
			return 0; /* none of those named is left */
		ask_all(v, time_mono_ns());
		tick = MAX_OF(tick + PERIOD_NS, time_mono_ns());
		r = collect(v, tick, e);
		bool done = once && (complete(v) || time_mono_ns() - start > ONCE_LIMIT_NS);
		if (r == 0 && (!once || done))
			r = show(v, src, e);
		if (r < 0)
			return r;
		/* Who read it has gone: main says so. */
		if (done || fflush(stdout) != 0 || ferror(stdout))
			return 0;
	}
}

static int find_named(struct view *v, int argc, char **argv, struct err *e)
{
	int r = 0;

	for (int i = 1; r == 0 && i < argc; i++) {
		CLEANUP(box_freep) struct box *b = NULL;
		r = box_find(v->app.st, argv[i], &b, e);
		if (r == 0 && strv_push(&v->refs, b->id) < 0)
			r = err_oom(e);
	}
	return r;
}

int cmd_stats(const struct cmd *c, int argc, char **argv)
{
	struct view v = {0};
	struct format_source src = {.fields = fields,
		.table = "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{."
			 "BlockIO}}\t{{.PIDs}}",
		.get = get_cell,
		.data = &v};
	const char *format = NULL;
	bool once = false;
	struct opt opts[] = {{'a', "all", OPT_FLAG, &v.all, NULL, "also those that do not run"},
		{0, "format", OPT_STR, &format, "FORMAT", FORMAT_HELP("Name")},
		{0, "no-stream", OPT_FLAG, &once, NULL, "show it once instead of every second"},
		{0, "no-trunc", OPT_FLAG, &v.full, NULL, "do not cut IDs"}, {0}};
	struct err e = {0};

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0)
		r = format_parse(format, &src, &v.format, &e);
	v.redraw = !once && isatty(STDOUT_FILENO) && (!format || strncmp(format, "table", 5) == 0);
	if (r == 0)
		r = app_open(&v.app, false, &e);
	if (r == 0)
		r = find_named(&v, argc, argv, &e);
	if (r == 0)
		r = watch(&v, &src, once, &e);
	for (size_t i = 0; i < v.n; i++)
		entry_done(&v.entries[i]);
	free(v.entries);
	strv_done(&v.refs);
	format_free(v.format);
	app_close(&v.app);
	return r < 0 ? app_fail(c, &e, 1) : 0;
}
