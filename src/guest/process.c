/* SPDX-License-Identifier: MIT */
#include "process.h"

#include <limits.h>
#include <string.h>

static int add_absent(struct strv *env, const char *name, const char *value)
{
	size_t size = strlen(name) + strlen(value) + 2;
	CLEANUP_FREE char *kv = NULL;

	if (strv_getenv(env, name))
		return 0;
	kv = malloc(size);
	if (!kv)
		return -ENOMEM;
	snprintf(kv, size, "%s=%s", name, value);
	return strv_setenv(env, kv);
}

int process_env(struct strv *env, bool tty, const char *hostname, const char *home)
{
	int r = add_absent(env, "PATH", PROCESS_PATH_DEFAULT);

	if (r == 0 && hostname[0])
		r = add_absent(env, "HOSTNAME", hostname);
	if (r == 0 && tty)
		r = add_absent(env, "TERM", "xterm");
	if (r == 0)
		r = add_absent(env, "HOME", home);
	return r;
}

int process_path_next(const char **path, const char *name, char *out, size_t size)
{
	const char *start = *path, *end;
	int n;

	if (!start)
		return 0;
	end = strchrnul(start, ':');
	*path = *end ? end + 1 : NULL;
	if (end == start)
		n = snprintf(out, size, "./%s", name);
	else
		n = snprintf(out, size, "%.*s/%s", (int)MIN_OF(end - start, INT_MAX), start, name);
	return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 1;
}

const char *process_strerror(int err, char *buf, size_t size)
{
	snprintf(buf, size, "%s", strerror(err));
	if (buf[0] >= 'A' && buf[0] <= 'Z' && !(buf[1] >= 'A' && buf[1] <= 'Z'))
		buf[0] = (char)(buf[0] - 'A' + 'a');
	return buf;
}

int process_exec(const struct strv *argv, const struct strv *env, char *why, size_t why_size)
{
	const char *name = argv->v[0], *path = strv_getenv(env, "PATH");
	char file[PATH_MAX], text[128];
	int err = ENOENT;

	if (strchr(name, '/')) {
		execve(name, argv->v, env->v);
		err = errno;
		snprintf(why, why_size, "exec: \"%.256s\": %s", name,
			process_strerror(err, text, sizeof(text)));
		return err == ENOENT || err == ENOTDIR ? 127 : 126;
	}
	/* One execve per candidate costs less than looking first. EACCES is remembered, as a shell does. */
	while (name[0] && path) {
		int r = process_path_next(&path, name, file, sizeof(file));

		if (r == 0)
			break;
		if (r < 0)
			continue;
		execve(file, argv->v, env->v);
		if (errno == EACCES)
			err = EACCES;
		else if (errno != ENOENT && errno != ENOTDIR && errno != ENAMETOOLONG && errno != ELOOP) {
			err = errno;
			break;
		}
	}
	if (err == ENOENT) {
		snprintf(why, why_size, "exec: \"%.256s\": executable file not found in $PATH", name);
		return 127;
	}
	snprintf(why, why_size, "exec: \"%.256s\": %s", name, process_strerror(err, text, sizeof(text)));
	return 126;
}
