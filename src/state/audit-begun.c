/* SPDX-License-Identifier: MIT */
/*
 * Commands that are under way (state/audit.h).
 *
 * A file is made, and locked, while the audit log is, so that one that nobody has locked is a dead command's. Whoever takes its
 * lock then writes the entry and removes the file. Between the end of a command's own entry and the removal of its file it may
 * be killed too: an entry of the same moment in the log says that it got so far.
 */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "audit-files.h"
#include "base/io.h"
#include "base/strv.h"
#include "state/audit.h"

#define FOLDER "begun"

enum {
	TEXT_MAX = 1 << 20,  /* bytes of a file that are read */
	CLAIM_MAX = 64,	     /* dead commands whose entries are made at a time */
	TAIL_MAX = 256 << 10 /* bytes of the log that are searched for an entry of the same command */
};

struct claimed {
	int dir; /* audit/begun */
	size_t n;
	int fds[CLAIM_MAX];
	char names[CLAIM_MAX][NAME_MAX + 1];
};

static int add_line(int fd, const json_t *j)
{
	CLEANUP_FREE char *text = json_dumps(j, JSON_COMPACT | JSON_ENSURE_ASCII);
	CLEANUP_FREE char *line = text ? str_printf("%s\n", text) : NULL;

	return line ? io_write_full(fd, line, strlen(line)) : -ENOMEM;
}

/* ---- of this process ---- */

int audit_begun_new(int home_fd, const json_t *entry, struct audit_begun *ret)
{
	CLEANUP_CLOSE int lock = -1;
	CLEANUP_CLOSE int audit = audit_lock(home_fd, true, LOCK_EX, &lock);
	CLEANUP_CLOSE int dir = audit < 0 ? audit : io_open_dir_at(audit, FOLDER, true);

	*ret = (struct audit_begun){.dir = -1, .fd = -1};
	if (dir < 0)
		return dir;
	snprintf(ret->name, sizeof(ret->name), "%d-%llu", (int)getpid(), (unsigned long long)time_mono_ns());
	CLEANUP_CLOSE int fd =
		openat(dir, ret->name, O_WRONLY | O_APPEND | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
		return -errno;
	ret->dir = TAKE_FD(dir);
	ret->fd = TAKE_FD(fd);
	close_fd(&lock);
	int r = add_line(ret->fd, entry);
	if (r < 0)
		audit_begun_end(ret);
	return r;
}

void audit_begun_about(const struct audit_begun *b, const char *list, json_t *what)
{
	json_t *j = json_pack("{s:o}", list, what);

	if (j && b->fd >= 0)
		(void)!add_line(b->fd, j); /* no room: then its entry is the shorter */
	json_decref(j);
}

void audit_begun_end(struct audit_begun *b)
{
	if (b->fd >= 0)
		unlinkat(b->dir, b->name, 0);
	close_fd(&b->fd);
	close_fd(&b->dir);
}

/* ---- of dead ones ---- */

/* Adds what a further line says: {"boxes": one} or {"images": one}. */
static void add_object(json_t *entry, const json_t *line)
{
	static const char *const lists[] = {"boxes", "images"};

	for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
		json_t *list = json_object_get(entry, lists[i]), *one = json_object_get(line, lists[i]);
		if (list && one)
			json_array_append(list, one);
	}
}

/* Only lines that are whole: the last may be torn. NULL: not even the first is, and so nothing was done yet. */
static json_t *read_entry(int fd)
{
	CLEANUP_FREE char *text = malloc(TEXT_MAX + 1);
	ssize_t n = text ? io_pread_full(fd, text, TEXT_MAX, 0) : -1;
	json_t *entry = NULL;

	if (n < 0)
		return NULL;
	text[n] = '\0';
	for (char *p = text, *nl; (nl = strchr(p, '\n')); p = nl + 1) {
		json_t *j = json_loadb(p, (size_t)(nl - p), 0, NULL);
		if (!entry && json_is_object(j)) {
			entry = j;
			continue;
		}
		if (entry)
			add_object(entry, j);
		json_decref(j);
		if (!entry)
			return NULL;
	}
	return entry;
}

/* Whether the log has an entry of this moment: the newest file's end is looked at. */
static bool is_known(int home_fd, const char *time)
{
	CLEANUP_CLOSE int fd =
		openat(home_fd, "audit/audit.log", O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	CLEANUP_FREE char *want = str_printf("\"time\":\"%s\"", time);
	CLEANUP_FREE char *text = malloc(TAIL_MAX);
	struct stat st;

	if (fd < 0 || !want || !text || fstat(fd, &st) < 0)
		return false;
	ssize_t n = io_pread_full(fd, text, TAIL_MAX, MAX_OF(st.st_size - TAIL_MAX, (off_t)0));
	return n > 0 && memmem(text, (size_t)n, want, strlen(want));
}

/* Dead commands' files, which are ours from then on. */
static void claim(int dir, struct claimed *c)
{
	int copy = fcntl(dir, F_DUPFD_CLOEXEC, 0);
	DIR *d = copy < 0 ? NULL : fdopendir(copy);

	for (struct dirent *de; d && c->n < CLAIM_MAX && (de = readdir(d));) {
		if (de->d_name[0] == '.')
			continue;
		CLEANUP_CLOSE int fd =
			openat(dir, de->d_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
		if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
			continue;
		snprintf(c->names[c->n], sizeof(c->names[0]), "%s", de->d_name);
		c->fds[c->n++] = TAKE_FD(fd);
	}
	if (d)
		closedir(d);
	else
		close_fd(&copy);
}

static int claim_all(int home_fd, struct claimed *c)
{
	CLEANUP_CLOSE int lock = -1;
	CLEANUP_CLOSE int audit = audit_lock(home_fd, false, LOCK_EX, &lock);

	c->dir = audit < 0 ? audit : io_open_dir_at(audit, FOLDER, false);
	if (c->dir >= 0)
		claim(c->dir, c);
	return MIN_OF(c->dir, 0);
}

int audit_repair(int home_fd, struct err *e)
{
	CLEANUP_FREE struct claimed *c = calloc(1, sizeof(*c));
	int r = c ? claim_all(home_fd, c) : -ENOMEM;

	if (r < 0)
		return r == -ENOENT ? 0 : err_sys(e, r, "audit log: cannot look at what was begun");
	for (size_t i = 0; i < c->n; i++) {
		json_t *entry = r == 0 ? read_entry(c->fds[i]) : NULL;
		const char *time = json_string_value(json_object_get(entry, "time"));
		if (time && !is_known(home_fd, time))
			r = audit_entry_write(home_fd, json_incref(entry), "interrupted", NULL,
				"it was killed before its end, or its host went down", e);
		json_decref(entry);
		if (r == 0)
			unlinkat(c->dir, c->names[i], 0);
		close_fd(&c->fds[i]);
	}
	close_fd(&c->dir);
	return r;
}
