/* SPDX-License-Identifier: MIT */
#include "cp-paths.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/path.h"

int cp_split(const char *arg, char **ret_box, const char **ret_path, struct err *e)
{
	const char *colon = strchr(arg, ':');

	*ret_box = NULL;
	*ret_path = arg;
	if (arg[0] == '/' || arg[0] == '.' || !colon)
		return *arg ? 0 : err_set(e, -EINVAL, "a path is empty");
	if (colon == arg) {
		err_set(e, -EINVAL, "\"%s\": the box's name is missing", arg);
		return err_hint(e, "a file of this host with such a name is ./%s", arg);
	}
	*ret_box = strndup(arg, (size_t)(colon - arg));
	*ret_path = colon + 1;
	return *ret_box ? 0 : err_oom(e);
}

/* ---- by name ---- */

void cp_path_done(struct cp_path *p)
{
	free(TAKE_PTR(p->path));
}

int cp_path_set(struct cp_path *p, const char *base, const char *text)
{
	size_t n = strlen(text);
	char *path = malloc(strlen(base) + n + 3);

	if (!path)
		return -ENOMEM;
	size_t len = text[0] == '/' ? 0 : path_append(path, 0, base);
	len = path_append(path, len, text);
	if (!len)
		path[len++] = '/';
	path[len] = '\0';
	cp_path_done(p);
	p->path = path;
	p->folder = n && text[n - 1] == '/';
	while (n && text[n - 1] == '/')
		n--;
	p->content = (n && text[n - 1] == '.' && (n == 1 || text[n - 2] == '/')) || len == 1;
	p->folder |= p->content;
	return 0;
}

int cp_path_local(struct cp_path *p, const char *text, struct err *e)
{
	CLEANUP_FREE char *here = text[0] == '/' ? strdup("/") : getcwd(NULL, 0);

	if (!here)
		return err_sys(e, -errno, "cannot find out the working folder");
	return cp_path_set(p, here, text) < 0 ? err_oom(e) : 0;
}

const char *cp_path_name(const struct cp_path *p)
{
	return strrchr(p->path, '/') + 1;
}

char *cp_path_text(const struct cp_path *p)
{
	const char *end = p->path[1] == '\0' ? "" : p->content ? "/." : p->folder ? "/" : "";

	return str_printf("%s%s", p->path, end);
}

char *cp_path_join(const struct cp_path *p, const char *name)
{
	return str_printf("%s/%s", p->path[1] ? p->path : "", name);
}

/* ---- on the host ---- */

void cp_place_done(struct cp_place *p)
{
	close_fd(&p->dir);
	free(TAKE_PTR(p->name));
}

static int open_folder(int dirfd, const char *path)
{
	int fd = openat(dirfd, path, O_PATH | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* One look: 0, and the place is found; 1: a link, whose target *path becomes; -errno with e set. */
static int find_once(char **path, bool follow, struct cp_place *ret, struct err *e)
{
	char *slash = strrchr(*path, '/'), target[PATH_MAX];
	struct stat st;

	while (slash > *path && slash[1] == '\0') { /* of a link's target */
		*slash = '\0';
		slash = strrchr(*path, '/');
	}
	const char *name = slash + 1;
	CLEANUP_FREE char *parent = slash == *path ? strdup("/") : strndup(*path, (size_t)(slash - *path));
	if (!parent)
		return err_oom(e);
	CLEANUP_CLOSE int dir = open_folder(AT_FDCWD, parent);
	if (dir < 0)
		return err_sys(e, dir, "cannot open the folder %s", parent);
	bool is_name = *name && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
	if (fstatat(dir, *name ? name : ".", &st, AT_SYMLINK_NOFOLLOW) < 0) {
		if (errno != ENOENT || !is_name)
			return err_sys(e, -errno, "cannot open %s", *path);
		st.st_mode = 0;
	}
	if (S_ISLNK(st.st_mode) && follow) {
		ssize_t n = readlinkat(dir, name, target, sizeof(target) - 1);
		if (n < 0)
			return err_sys(e, -errno, "cannot follow the link %s", *path);
		target[n] = '\0';
		char *next = target[0] == '/' ? strdup(target) : str_printf("%s/%s", parent, target);
		free(*path);
		*path = next;
		return next ? 1 : err_oom(e);
	}
	if (S_ISDIR(st.st_mode)) {
		ret->dir = openat(dir, *name ? name : ".", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (ret->dir < 0)
			return err_sys(e, -errno, "cannot open %s", *path);
	}
	ret->name = strdup(S_ISDIR(st.st_mode) ? "" : name);
	if (!ret->name)
		return err_oom(e);
	if (ret->dir < 0)
		ret->dir = TAKE_FD(dir);
	ret->exists = st.st_mode != 0;
	ret->type = st.st_mode & S_IFMT;
	return 0;
}

int cp_place_find(const struct cp_path *p, bool follow, struct cp_place *ret, struct err *e)
{
	CLEANUP_FREE char *path = strdup(p->path);
	int r = path ? 1 : err_oom(e);

	*ret = (struct cp_place){.dir = -1};
	for (int i = 0; r > 0; i++)
		r = i <= CP_LINKS_MAX ? find_once(&path, follow || p->folder, ret, e)
				      : err_sys(e, -ELOOP, "cannot open %s", p->path);
	if (r == 0 && p->folder && ret->exists && !S_ISDIR(ret->type))
		r = err_sys(e, -ENOTDIR, "cannot open %s", p->path);
	if (r < 0)
		cp_place_done(ret);
	return r;
}

/* ---- the table ---- */

int cp_decide(const struct cp_case *c, const char *dst, enum cp_where *ret, struct err *e)
{
	if (c->dst_exists && c->dst_is_folder) {
		*ret = c->src_content ? CP_ONTO : CP_INTO;
		return 0;
	}
	if (c->dst_exists && c->src_folder)
		return err_set(e, -ENOTDIR, "cannot copy a folder to %s: it is there, and is none", dst);
	if (!c->dst_exists && !c->src_folder && c->dst_folder) {
		err_set(e, -ENOENT, "cannot copy a file to %s: there is no such folder", dst);
		return err_hint(e, "without \"/\" at its end it is the name of the new file");
	}
	*ret = CP_ONTO;
	return 0;
}
