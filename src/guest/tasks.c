/* SPDX-License-Identifier: MIT */
#include "tasks.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>

#include "base/io.h"

#define TEXT_MAX 16384	     /* bytes of one file */
#define TICK_NS	 10000000ull /* USER_HZ of Linux is 100 everywhere but on Alpha */

void tasks_tty_name(uint64_t tty_nr, char *dst, size_t size)
{
	/* new_encode_dev of Linux; numbers as in its Documentation/admin-guide/devices.txt */
	unsigned int major = tty_nr >> 8 & 0xfff, minor = (tty_nr & 0xff) | (tty_nr >> 12 & 0xfff00);

	dst[0] = '\0';
	if (!tty_nr)
		return;
	if (major >= 136 && major <= 143)
		snprintf(dst, size, "pts/%u", (major - 136) * 256 + minor);
	else if (major == 4 && minor < 64)
		snprintf(dst, size, "tty%u", minor);
	else if (major == 4)
		snprintf(dst, size, "ttyS%u", minor - 64);
	else if (major == 229)
		snprintf(dst, size, "hvc%u", minor);
	else
		snprintf(dst, size, "?");
}

enum {
	STAT_STATE,
	STAT_PPID,
	STAT_TTY = 4,
	STAT_UTIME = 11,
	STAT_STIME = 12,
	STAT_NICE = 16,
	STAT_THREADS = 17,
	STAT_START = 19,
	STAT_VSIZE = 20,
	STAT_RSS = 21,
	N_STAT = 22
};

int tasks_parse_stat(const char *text, struct wire_task *ret)
{
	const char *open = strchr(text, '('), *close = strrchr(text, ')');
	uint64_t v[N_STAT] = {0};
	struct wire_task t = {0};
	char tty[32];
	char *at;

	if (!open || !close || close < open || close[1] != ' ' || close[2] < 'A' || close[2] > 'z')
		return -EBADMSG;
	t.pid = (uint32_t)strtoul(text, NULL, 10);
	t.state = close[2];
	at = (char *)close + 3;
	for (size_t i = STAT_PPID; i < N_STAT; i++) {
		char *end;

		v[i] = strtoull(at, &end, 10); /* negative ones become their two's complement */
		if (end == at)
			return -EBADMSG;
		at = end;
	}
	t.ppid = (uint32_t)v[STAT_PPID];
	t.nice = (int32_t)v[STAT_NICE];
	t.threads = (uint32_t)v[STAT_THREADS];
	t.start_ns = v[STAT_START] * TICK_NS;
	t.cpu_ns = (v[STAT_UTIME] + v[STAT_STIME]) * TICK_NS;
	t.vsz = v[STAT_VSIZE];
	t.rss = v[STAT_RSS] * (uint64_t)sysconf(_SC_PAGESIZE);
	tasks_tty_name(v[STAT_TTY], tty, sizeof(tty));
	if (tty[0] && !(t.tty = strdup(tty)))
		return -ENOMEM;
	t.name = strndup(open + 1, (size_t)(close - open - 1));
	if (!t.name) {
		free(t.tty);
		return -ENOMEM;
	}
	*ret = t;
	return 0;
}

/* The number at this place in "Uid:\tREAL\tEFFECTIVE\t…" or "NSpid:\tOUTER\tINNER…". -ESRCH: it has fewer. */
static int number_at(const char *text, const char *line, unsigned int place, uint32_t *ret)
{
	const char *at = strstr(text, line);

	if (!at)
		return -EBADMSG;
	at += strlen(line);
	for (; *at == '\t' && place; place--)
		at = at + 1 + strcspn(at + 1, "\t\n");
	if (*at != '\t')
		return -ESRCH;
	*ret = (uint32_t)strtoul(at + 1, NULL, 10);
	return 0;
}

int tasks_parse_status(const char *text, unsigned int level, struct wire_task *t)
{
	/* The kernel escapes line feeds in the name, which is in the first line: these are its own. */
	int r = number_at(text, "\nNSpid:", level, &t->pid);

	if (r == 0)
		r = number_at(text, "\nUid:", 1, &t->uid);
	return r < 0 ? r : number_at(text, "\nGid:", 1, &t->gid);
}

void tasks_join_args(char *args, size_t len)
{
	while (len && args[len - 1] == '\0')
		len--;
	for (size_t i = 0; i < len; i++)
		if (args[i] == '\0')
			args[i] = ' ';
	args[len] = '\0';
}

static int read_args(int dir, char **ret)
{
	CLEANUP_CLOSE int fd = openat(dir, "cmdline", O_RDONLY | O_CLOEXEC);
	char args[WIRE_TASK_ARGS_MAX + 1];
	ssize_t n = fd < 0 ? -errno : io_read_full(fd, args, WIRE_TASK_ARGS_MAX);

	if (n < 0)
		return (int)n;
	tasks_join_args(args, (size_t)n);
	*ret = strdup(args);
	return *ret ? 0 : -ENOMEM;
}

static void task_clear(struct wire_task *t)
{
	free(t->tty);
	free(t->name);
	free(t->args);
	*t = (struct wire_task){0};
}

static int read_task(int proc, unsigned int level, const char *name, struct wire_task *ret)
{
	CLEANUP_CLOSE int dir = openat(proc, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
	CLEANUP_FREE char *stat = NULL;
	CLEANUP_FREE char *status = NULL;
	struct wire_task t = {0}, ids = {0};
	/* One process in all files, whoever may have the number by now: they fail once it has ended. */
	int r = dir < 0 ? -errno : io_read_file_at(dir, "status", TEXT_MAX, &status, NULL);

	if (r == 0)
		r = tasks_parse_status(status, level, &ids); /* most are the kernel's own: no further look */
	if (r == 0)
		r = io_read_file_at(dir, "stat", TEXT_MAX, &stat, NULL);
	if (r == 0)
		r = tasks_parse_stat(stat, &t);
	if (r == 0)
		r = read_args(dir, &t.args);
	if (r < 0) {
		task_clear(&t);
		return r;
	}
	t.pid = ids.pid;
	t.uid = ids.uid;
	t.gid = ids.gid;
	*ret = t;
	return 0;
}

static int by_number(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

/* Parents too are to have the box's numbers. outer: what the processes are called in /proc, in rising order, as it lists them. */
static void translate_parents(struct wire_tasks *t, const uint32_t *outer)
{
	for (size_t i = 0; i < t->n; i++) {
		const uint32_t *at = bsearch(&t->v[i].ppid, outer, t->n, sizeof(*outer), by_number);

		t->v[i].ppid = at ? t->v[at - outer].pid : 0;
	}
}

static int read_all(DIR *dir, unsigned int level, struct wire_tasks *t, uint32_t *outer)
{
	struct dirent *entry;

	while (t->n < WIRE_TASKS_MAX && (entry = readdir(dir))) {
		int r;

		if (entry->d_name[0] < '1' || entry->d_name[0] > '9')
			continue;
		outer[t->n] = (uint32_t)strtoul(entry->d_name, NULL, 10);
		r = read_task(dirfd(dir), level, entry->d_name, &t->v[t->n]);
		if (r == 0)
			t->n++;
		else if (r == -ENOMEM)
			return r;
	}
	return 0;
}

int tasks_collect(int proc, unsigned int level, struct wire_tasks *ret)
{
	CLEANUP_FREE uint32_t *outer = calloc(WIRE_TASKS_MAX, sizeof(*outer));
	struct wire_tasks t = {.v = calloc(WIRE_TASKS_MAX, sizeof(*t.v))};
	int fd = openat(proc, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r;
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	r = !dir ? -errno : !outer || !t.v ? -ENOMEM : read_all(dir, level, &t, outer);
	if (dir)
		closedir(dir);
	else
		close_fd(&fd);
	if (r < 0) {
		wire_tasks_done(&t);
		return r;
	}
	translate_parents(&t, outer);
	*ret = t;
	return 0;
}
