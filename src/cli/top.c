/* SPDX-License-Identifier: MIT */
/* The processes of a box in the columns of ps(1), whether the box has a ps or not: the guest's PID 1 lists them. */
#include <string.h>
#include <time.h>

#include "app.h"
#include "base/io.h"

enum { COLUMNS_MAX = 32, CELL_MAX = WIRE_TASK_ARGS_MAX + 64 };

struct host_time {
	int64_t now_ns;	    /* since the epoch */
	uint64_t uptime_ns; /* of the guest, at that moment */
	uint64_t mem_bytes;
};

typedef void (*cell_fn)(const struct wire_task *t, const struct host_time *h, char *dst, size_t size);

#define S_NS 1000000000ull

static uint64_t elapsed_ns(const struct wire_task *t, const struct host_time *h)
{
	return h->uptime_ns > t->start_ns ? h->uptime_ns - t->start_ns : 0;
}

static double cpu_percent(const struct wire_task *t, const struct host_time *h)
{
	uint64_t ns = elapsed_ns(t, h);

	return ns ? 100.0 * (double)t->cpu_ns / (double)ns : 0;
}

/* Only root's name is the same everywhere; the box's /etc/passwd is the box's to change. */
static void cell_user(const struct wire_task *t, const struct host_time *h, char *dst, size_t size)
{
	snprintf(dst, size, t->uid ? "%u" : "root", t->uid);
}

static void cell_uid(const struct wire_task *t, const struct host_time *h, char *dst, size_t size)
{
	snprintf(dst, size, "%u", t->uid);
}

static void cell_gid(const struct wire_task *t, const struct host_time *h, char *dst, size_t size)
{
	snprintf(dst, size, "%u", t->gid);
}

static void cell_group(const struct wire_task *t, const struct host_time *h, char *dst, size_t size)
{
	snprintf(dst, size, t->gid ? "%u" : "root", t->gid);
}

static void cell_pid(const struct wire_task *t, const struct host_time *h, char *dst, size_t size)
{
	snprintf(dst, size, "%u", t->pid);
}

static void cell_ppid(const struct wire_task *t, const struct host_time *h, char *dst, size_t size)
{
	snprintf(dst, size, "%u", t->ppid);
}

static void cell_c(const struct wire_task *t, const struct host_time *h, char *dst, size_t size)
{
	snprintf(dst, size, "%d", (int)MIN_OF(cpu_percent(t, h), 99.0));
}

static void cell_pcpu(const struct wire_task *t, const struct host_time *h, char *dst, size_t size)
{
	snprintf(dst, size, "%.1f", MIN_OF(cpu_percent(t, h), 9999.0));
}

static void cell_pmem(const struct wire_task *t, const struct host_time *h, char *dst, size_t size)
{
	double percent = h->mem_bytes ? 100.0 * (double)t->rss / (double)h->mem_bytes : 0;

	snprintf(dst, size, "%.1f", MIN_OF(percent, 999.0));
}

static void cell_stime(const struct wire_task *t, const struct host_time *h, char *dst, size_t size)
{
	time_t now = (time_t)(h->now_ns / (int64_t)S_NS), start = now - (time_t)(elapsed_ns(t, h) / S_NS);
	struct tm a, b;

	/* As ps: the time of today, else the day of this year, else the year. */
	if (!localtime_r(&now, &a) || !localtime_r(&start, &b))
		snprintf(dst, size, "?");
	else
		strftime(dst, size,
			a.tm_year != b.tm_year	 ? "%Y"
			: a.tm_yday != b.tm_yday ? "%b%d"
						 : "%H:%M",
			&b);
}

static void cell_tty(const struct wire_task *t, const struct host_time *h, char *dst, size_t size)
{
	snprintf(dst, size, "%s", t->tty ? t->tty : "?");
}

/* "[DD-]hh:mm:ss" */
static void cell_time(const struct wire_task *t, const struct host_time *h, char *dst, size_t size)
{
	unsigned long long s = t->cpu_ns / S_NS;

	if (s >= 86400)
		snprintf(dst, size, "%llu-%02llu:%02llu:%02llu", s / 86400, s / 3600 % 24, s / 60 % 60,
			s % 60);
	else
		snprintf(dst, size, "%02llu:%02llu:%02llu", s / 3600, s / 60 % 60, s % 60);
}

/* "m:ss" */
static void cell_bsdtime(const struct wire_task *t, const struct host_time *h, char *dst, size_t size)
{
	unsigned long long s = t->cpu_ns / S_NS;

	snprintf(dst, size, "%llu:%02llu", s / 60, s % 60);
}

/* "[[DD-]hh:]mm:ss" */
static void cell_etime(const struct wire_task *t, const struct host_time *h, char *dst, size_t size)
{
	unsigned long long s = elapsed_ns(t, h) / S_NS;

	if (s >= 86400)
		snprintf(dst, size, "%llu-%02llu:%02llu:%02llu", s / 86400, s / 3600 % 24, s / 60 % 60,
			s % 60);
	else if (s >= 3600)
		snprintf(dst, size, "%02llu:%02llu:%02llu", s / 3600, s / 60 % 60, s % 60);
	else
		snprintf(dst, size, "%02llu:%02llu", s / 60, s % 60);
}

static void cell_etimes(const struct wire_task *t, const struct host_time *h, char *dst, size_t size)
{
	snprintf(dst, size, "%llu", (unsigned long long)(elapsed_ns(t, h) / S_NS));
}

static void cell_state(const struct wire_task *t, const struct host_time *h, char *dst, size_t size)
{
	snprintf(dst, size, "%c", t->state);
}

static void cell_stat(const struct wire_task *t, const struct host_time *h, char *dst, size_t size)
{
	snprintf(dst, size, "%c%s%s", t->state,
		t->nice < 0   ? "<"
		: t->nice > 0 ? "N"
			      : "",
		t->threads > 1 ? "l" : "");
}

static void cell_nice(const struct wire_task *t, const struct host_time *h, char *dst, size_t size)
{
	snprintf(dst, size, "%d", t->nice);
}

static void cell_nlwp(const struct wire_task *t, const struct host_time *h, char *dst, size_t size)
{
	snprintf(dst, size, "%u", t->threads);
}

static void cell_vsz(const struct wire_task *t, const struct host_time *h, char *dst, size_t size)
{
	snprintf(dst, size, "%llu", (unsigned long long)t->vsz / 1024);
}

static void cell_rss(const struct wire_task *t, const struct host_time *h, char *dst, size_t size)
{
	snprintf(dst, size, "%llu", (unsigned long long)t->rss / 1024);
}

/* Names and arguments are the process's own choice: any bytes, which the table escapes. */
static void cell_comm(const struct wire_task *t, const struct host_time *h, char *dst, size_t size)
{
	snprintf(dst, size, "%s", t->name);
}

static void cell_args(const struct wire_task *t, const struct host_time *h, char *dst, size_t size)
{
	/* A process without a command line, a zombie for instance: its name, as ps shows it. */
	snprintf(dst, size, t->args[0] ? "%s" : "[%s]", t->args[0] ? t->args : t->name);
}

/* The first name of each is listed when an unknown one is refused. */
static const struct column {
	const char *name, *heading;
	cell_fn cell;
} known[] = {
	{"pid", "PID", cell_pid},
	{"tgid", "TGID", cell_pid},
	{"ppid", "PPID", cell_ppid},
	{"user", "USER", cell_user},
	{"euser", "EUSER", cell_user},
	{"uname", "USER", cell_user},
	{"uid", "UID", cell_uid},
	{"euid", "EUID", cell_uid},
	{"group", "GROUP", cell_group},
	{"gid", "GID", cell_gid},
	{"egid", "EGID", cell_gid},
	{"c", "C", cell_c},
	{"pcpu", "%CPU", cell_pcpu},
	{"%cpu", "%CPU", cell_pcpu},
	{"pmem", "%MEM", cell_pmem},
	{"%mem", "%MEM", cell_pmem},
	{"stime", "STIME", cell_stime},
	{"start", "START", cell_stime},
	{"start_time", "START", cell_stime},
	{"etime", "ELAPSED", cell_etime},
	{"etimes", "ELAPSED", cell_etimes},
	{"time", "TIME", cell_time},
	{"cputime", "TIME", cell_time},
	{"bsdtime", "TIME", cell_bsdtime},
	{"tty", "TT", cell_tty},
	{"tt", "TT", cell_tty},
	{"tname", "TTY", cell_tty},
	{"stat", "STAT", cell_stat},
	{"state", "S", cell_state},
	{"s", "S", cell_state},
	{"nice", "NI", cell_nice},
	{"ni", "NI", cell_nice},
	{"nlwp", "NLWP", cell_nlwp},
	{"thcount", "THCNT", cell_nlwp},
	{"vsz", "VSZ", cell_vsz},
	{"vsize", "VSZ", cell_vsz},
	{"rss", "RSS", cell_rss},
	{"rssize", "RSS", cell_rss},
	{"comm", "COMMAND", cell_comm},
	{"ucmd", "CMD", cell_comm},
	{"args", "COMMAND", cell_args},
	{"command", "COMMAND", cell_args},
	{"cmd", "CMD", cell_args},
};

/* ---- options of ps ---- */

struct layout {
	cell_fn cells[COLUMNS_MAX];
	char *headings[COLUMNS_MAX];
	size_t n;
};

static void layout_done(struct layout *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->headings[i]);
}

static int add_column(struct layout *l, const char *spec, size_t len, struct err *e)
{
	const char *equals = memchr(spec, '=', len);
	size_t name_len = equals ? (size_t)(equals - spec) : len;

	for (size_t i = 0; i < ARRAY_LEN(known); i++) {
		if (strlen(known[i].name) != name_len || strncasecmp(known[i].name, spec, name_len) != 0)
			continue;
		if (l->n == COLUMNS_MAX)
			return err_set(e, -E2BIG, "-o: at most %d columns", COLUMNS_MAX);
		l->headings[l->n] =
			equals ? strndup(equals + 1, len - name_len - 1) : strdup(known[i].heading);
		if (!l->headings[l->n])
			return err_oom(e);
		l->cells[l->n++] = known[i].cell;
		return 0;
	}
	err_set(e, -EINVAL, "-o: there is no column \"%.*s\"", (int)MIN_OF(name_len, (size_t)64), spec);
	return err_hint(e,
		"pid ppid user uid group gid c pcpu pmem stime etime etimes time tty stat s nice nlwp vsz "
		"rss comm args cmd");
}

/* "pid,comm=NAME": a heading of one's own goes to the end of the list, as in ps. */
static int add_columns(struct layout *l, const char *list, struct err *e)
{
	int r = 0;

	while (r == 0) {
		size_t len = strcspn(list, ", =");
		if (list[len] == '=')
			len = strlen(list);
		r = add_column(l, list, len, e);
		if (!list[len])
			return r;
		list += len + 1;
	}
	return r;
}

static int unknown_option(const char *arg, struct err *e)
{
	err_set(e, -EINVAL, "ps option \"%s\" is not known", arg);
	return err_hint(e, "known are -e -A -f -o COLUMNS, ax, aux, and their combinations");
}

enum { LAYOUT_NONE, LAYOUT_SHORT, LAYOUT_FULL, LAYOUT_BSD, LAYOUT_BSD_USER, LAYOUT_OWN };
static const char *const layouts[] = {
	[LAYOUT_SHORT] = "pid,tname,time,ucmd",
	[LAYOUT_FULL] = "user,pid,ppid,c,stime,tname,time,cmd",
	[LAYOUT_BSD] = "pid,tname,stat,bsdtime,args",
	[LAYOUT_BSD_USER] = "user,pid,pcpu,pmem,vsz,rss,tname,stat,start,bsdtime,args",
};

/* One argument of letters; *next is the one behind it, NULL when there is none or it was taken. */
static int parse_letters(const char *arg, const char **next, int *layout, struct layout *l, struct err *e)
{
	bool dash = arg[0] == '-';
	const char *s = arg + dash;

	if (!*s)
		return unknown_option(arg, e);
	for (; *s; s++) {
		if (*s == 'o') {
			const char *list = s[1] ? s + 1 : *next;
			if (!list)
				return err_set(e, -EINVAL, "-o: expected columns, as in -o pid,comm");
			if (!s[1])
				*next = NULL;
			*layout = LAYOUT_OWN;
			return add_columns(l, list, e);
		}
		if (dash ? !strchr("eAfw", *s) : !strchr("axufw", *s))
			return unknown_option(arg, e);
		if (dash && *s == 'f')
			*layout = MAX_OF(*layout, LAYOUT_FULL);
		else if (!dash && *s == 'u')
			*layout = MAX_OF(*layout, LAYOUT_BSD_USER);
		else
			*layout = MAX_OF(*layout, dash ? LAYOUT_SHORT : LAYOUT_BSD);
	}
	return 0;
}

static int parse_ps_options(int argc, char **argv, struct layout *l, struct err *e)
{
	int layout = LAYOUT_NONE, r = 0;

	for (int i = 0; r == 0 && i < argc; i++) {
		const char *next = i + 1 < argc ? argv[i + 1] : NULL;
		bool had_next = next;
		r = parse_letters(argv[i], &next, &layout, l, e);
		i += had_next && !next;
	}
	if (r < 0 || layout == LAYOUT_OWN)
		return r;
	r = add_columns(l, layouts[layout ? layout : LAYOUT_FULL], e);
	/* The user's column of -f has another heading than elsewhere. */
	if (r == 0 && (layout == LAYOUT_NONE || layout == LAYOUT_FULL))
		memcpy(l->headings[0], "UID", sizeof("UID"));
	return r;
}

/* ---- the command ---- */

static int by_pid(const void *a, const void *b)
{
	uint32_t x = ((const struct wire_task *)a)->pid, y = ((const struct wire_task *)b)->pid;

	return x < y ? -1 : x > y;
}

static int print_tasks(
	const struct layout *l, struct wire_tasks *tasks, const struct host_time *h, struct err *e)
{
	CLEANUP_FREE char *text = malloc((size_t)CELL_MAX * COLUMNS_MAX);
	struct table *t = table_new((const char *const *)l->headings, l->n);

	if (!text || !t) {
		table_free(t);
		return err_oom(e);
	}
	if (tasks->n)
		qsort(tasks->v, tasks->n, sizeof(*tasks->v), by_pid);
	for (size_t i = 0; i < tasks->n; i++) {
		const char *cells[COLUMNS_MAX];
		for (size_t k = 0; k < l->n; k++) {
			char *cell = text + k * CELL_MAX;
			l->cells[k](&tasks->v[i], h, cell, CELL_MAX);
			cells[k] = cell;
		}
		table_row(t, cells);
	}
	table_print(t);
	return 0;
}

int cmd_top(const struct cmd *c, int argc, char **argv)
{
	struct opt opts[] = {{0}};
	CLEANUP(layout_done) struct layout l = {0};
	CLEANUP(app_close) struct app a = {0};
	CLEANUP(box_freep) struct box *b = NULL;
	CLEANUP(wire_tasks_done) struct wire_tasks tasks = {0};
	struct wire_stats stats = {0};
	struct err e = {0};

	int r = opts_parse(c, opts, OPTS_FIRST, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0 && argc < 2)
		return app_usage(c, "a box is needed");
	if (r == 0)
		r = parse_ps_options(argc - 2, argv + 2, &l, &e);
	if (r == 0)
		r = app_open(&a, false, &e);
	if (r == 0)
		r = box_find(a.st, argv[1], &b, &e);
	if (r == 0 && !box_is_live(b)) {
		r = err_set(&e, -ENOENT, "box %s is not running", b->name);
		err_hint(&e, "start it with: a3s-box start %s", b->name);
	}
	if (r == 0)
		r = box_query_tasks(a.st, b, &tasks, &stats, &e);
	if (r == 0) {
		struct host_time h = {time_real_ns(), stats.uptime_ns, stats.mem_limit};
		r = print_tasks(&l, &tasks, &h, &e);
	}
	return r < 0 ? app_fail(c, &e, 1) : 0;
}
