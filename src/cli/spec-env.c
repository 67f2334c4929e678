/* SPDX-License-Identifier: MIT */
/* Environment, labels and annotations, from options and from files. */
#include <fcntl.h>
#include <string.h>

#include "base/io.h"
#include "spec.h"

#define FILE_BYTES_MAX	 (1u << 20)
#define FILE_ENTRIES_MAX 16384

/* One entry of an environment. */
static int add_variable(struct strv *env, const char *kv, struct err *e)
{
	CLEANUP_FREE char *own = NULL;

	if (!strchr(kv, '=')) {
		const char *value = getenv(kv);
		if (!value)
			return 0;
		own = str_printf("%s=%s", kv, value);
		kv = own;
	}
	return !kv || strv_setenv(env, kv) < 0 ? err_oom(e) : 0;
}

int spec_add_env(struct strv *env, const struct strv *given, struct err *e)
{
	for (size_t i = 0; i < given->n; i++) {
		const char *kv = given->v[i];
		if (kv[0] == '\0' || kv[0] == '=')
			return err_set(e, -EINVAL, "--env \"%.*s\": expected NAME=value or NAME",
				(int)strcspn(kv, "="), kv); /* no value: it may be a secret */
		int r = add_variable(env, kv, e);
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- files ---- */

/* The whole of a file, which may be a pipe; with a NUL behind it. */
static int read_all(const char *path, char **ret, size_t *ret_len)
{
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	CLEANUP_FREE char *text = fd < 0 ? NULL : malloc(FILE_BYTES_MAX + 1);
	ssize_t n = fd < 0 ? -errno : text ? io_read_full(fd, text, FILE_BYTES_MAX + 1) : -ENOMEM;

	if (n > FILE_BYTES_MAX)
		n = -EFBIG;
	if (n < 0)
		return (int)n;
	text[n] = '\0';
	*ret = TAKE_PTR(text);
	*ret_len = (size_t)n;
	return 0;
}

static int check_text(const char *flag, const char *path, const char *text, size_t len, struct err *e)
{
	for (size_t i = 0, n; i < len; i += n) {
		n = text_utf8_len((const uint8_t *)text + i, len - i, NULL);
		if (n == 0 || text[i] == '\0')
			return err_set(e, -EINVAL, "%s %s: it is not UTF-8 text", flag, path);
	}
	return 0;
}

/*
 * Calls add for each line that says something: leading blanks cut off, no comment, and a name that is not empty and has no
 * blanks in it before the "=".
 */
static int read_file(const char *flag, const char *path,
	int (*add)(struct strv *, const char *, struct err *), struct strv *dst, struct err *e)
{
	static const char blanks[] = " \t\v\f\r";
	CLEANUP_FREE char *text = NULL;
	size_t len = 0, line_no = 0;

	int r = read_all(path, &text, &len);
	if (r < 0)
		return err_sys(e, r, "%s %s", flag, path);
	r = check_text(flag, path, text, len, e);
	if (r < 0)
		return r;
	char *line = text + (strncmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0); /* a byte order mark */
	for (char *next; line; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		size_t n = strlen(line);
		if (n && line[n - 1] == '\r')
			line[n - 1] = '\0';
		line_no++;
		line += strspn(line, blanks);
		if (*line == '\0' || *line == '#')
			continue;
		size_t name = strcspn(line, "=");
		if (name == 0 || strcspn(line, blanks) < name)
			return err_set(e, -EINVAL, "%s %s: line %zu: expected NAME=value, no blanks in NAME",
				flag, path, line_no);
		if (dst->n >= FILE_ENTRIES_MAX)
			return err_set(
				e, -E2BIG, "%s %s: more than %d entries", flag, path, FILE_ENTRIES_MAX);
		r = add(dst, line, e);
		if (r < 0)
			return r;
	}
	return 0;
}

int spec_add_env_files(struct strv *env, const struct strv *files, struct err *e)
{
	int r = 0;
	for (size_t i = 0; r == 0 && i < files->n; i++)
		r = read_file("--env-file", files->v[i], add_variable, env, e);
	return r;
}

/* ---- labels ---- */

/* "key" or "key=value"; a later one of the same key replaces it. */
static int add_label(struct strv *labels, const char *kv, struct err *e)
{
	CLEANUP_FREE char *own = strchr(kv, '=') ? NULL : str_printf("%s=", kv);
	const char *text = own ? own : kv;

	return !strchr(text, '=') || strv_setenv(labels, text) < 0 ? err_oom(e) : 0;
}

int spec_labels(const struct run_opts *o, struct box_config *c, struct err *e)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < o->label_files.n; i++)
		r = read_file("--label-file", o->label_files.v[i], add_label, &c->labels, e);
	for (size_t i = 0; r == 0 && i < o->labels.n; i++) {
		const char *s = o->labels.v[i];
		if (*s == '\0' || *s == '=')
			return err_set(e, -EINVAL, "--label \"%.*s\": expected KEY=VALUE or KEY",
				(int)strcspn(s, "="), s);
		r = add_label(&c->labels, s, e);
	}
	for (size_t i = 0; r == 0 && i < o->annotations.n; i++) {
		const char *s = o->annotations.v[i];
		if (*s == '=' || !strchr(s, '='))
			return err_set(e, -EINVAL, "--annotation \"%.*s\": expected KEY=VALUE",
				(int)strcspn(s, "="), s);
		r = strv_setenv(&c->annotations, s) < 0 ? err_oom(e) : 0;
	}
	return r;
}
