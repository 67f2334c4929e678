/* SPDX-License-Identifier: MIT */
/*
 * What a box's guest makes in the upper layer before the box does anything, to mount on it (guest/rootfs.c): folders that the
 * image lacks, with those on the way to them, and empty files. Nothing says of such an entry who made it. One that is empty,
 * where something is mounted, is taken for the guest's: the box itself could never see into it.
 */
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "inside.h"

#define LINKS_MAX 40 /* as in Linux */

static const char *const always[] = {
	"/dev", "/proc", "/sys", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"};

/* Where we are: a clean path without a slash in front, and what the image has there. */
struct place {
	const struct oci_root *image;
	const struct oci_node *at; /* NULL: nothing */
	char path[WIRE_PATH_MAX + 1];
	size_t len;
};

static void go_up(struct place *p)
{
	char *slash = strrchr(p->path, '/');

	p->len = slash ? (size_t)(slash - p->path) : 0;
	p->path[p->len] = '\0';
	p->at = oci_root_find(p->image, p->path, false);
}

static bool go_down(struct place *p, const char *name, size_t n, const struct oci_node *to)
{
	size_t slash = p->len > 0;

	if (n + slash > WIRE_PATH_MAX - p->len)
		return false;
	if (slash)
		p->path[p->len++] = '/';
	memcpy(p->path + p->len, name, n);
	p->len += n;
	p->path[p->len] = '\0';
	p->at = to;
	return true;
}

/* Puts where a link leads in front of *rest, which is malloc'd. */
static int follow(struct place *p, const struct oci_node *link, char **rest, size_t *at, struct err *e)
{
	struct wire_entry en;
	int r = oci_node_entry(p->image, link, &en, NULL, e);

	if (r < 0)
		return r;
	if (*en.target == '/') {
		p->len = 0;
		p->path[0] = '\0';
		p->at = oci_root_node(p->image);
	}
	char *joined = str_printf("%s/%s", en.target, *rest + *at);
	wire_entry_done(&en);
	if (!joined)
		return err_oom(e);
	free(*rest);
	*rest = joined;
	*at = 0;
	return 0;
}

/*
 * Goes where the path leads, as the guest does that mounts there. links: those of the image are followed. 1; 0: nowhere; or
 * -errno.
 */
static int go(struct place *p, const char *path, bool links, struct err *e)
{
	CLEANUP_FREE char *rest = strdup(path);
	size_t at = 0;
	int n_links = 0;

	if (!rest)
		return err_oom(e);
	while (at += strspn(rest + at, "/"), rest[at]) {
		const char *name = rest + at;
		size_t n = strcspn(name, "/");
		char text[NAME_MAX + 1];
		at += n;
		if (n > NAME_MAX)
			return 0;
		if (n == 1 && *name == '.')
			continue;
		if (n == 2 && name[0] == '.' && name[1] == '.') {
			go_up(p);
			continue;
		}
		memcpy(text, name, n);
		text[n] = '\0';
		const struct oci_node *next = p->at ? oci_node_child(p->image, p->at, text) : NULL;
		if (!links || !node_is(p->image, next, S_IFLNK)) {
			if (!go_down(p, text, n, next))
				return 0;
			continue;
		}
		if (++n_links > LINKS_MAX)
			return 0;
		int r = follow(p, next, &rest, &at, e);
		if (r < 0)
			return r;
	}
	return p->len > 0;
}

static int add(const struct oci_root *image, const char *path, struct strv *ret, struct err *e)
{
	for (int links = 0; links < 2; links++) {
		struct place p = {.image = image, .at = oci_root_node(image)};
		int r = go(&p, path, links, e);

		if (r < 0)
			return r;
		if (r > 0 && (!links || strcmp(ret->v[ret->n - 1], p.path) != 0) &&
			strv_push(ret, p.path) < 0)
			return err_oom(e);
		if (r == 0)
			break;
	}
	return 0;
}

int mounted_paths(const struct oci_root *image, const struct strv *mounts, struct strv *ret, struct err *e)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_LEN(always); i++)
		r = add(image, always[i], ret, e);
	for (size_t i = 0; r == 0 && mounts && i < mounts->n; i++)
		r = add(image, mounts->v[i], ret, e);
	return r;
}

bool mounted_made(const struct oci_root *image, const struct strv *paths, const struct wire_entry *en,
	const struct oci_node *below)
{
	bool folder = S_ISDIR(en->mode);
	size_t n = strlen(en->path);

	if ((!folder && (!S_ISREG(en->mode) || en->size > 0)) || node_is(image, below, S_IFDIR) ||
		(!folder && node_is(image, below, S_IFREG)))
		return false;
	for (size_t i = 0; i < paths->n; i++)
		if (strncmp(paths->v[i], en->path, n) == 0 &&
			(paths->v[i][n] == '\0' || (folder && paths->v[i][n] == '/')))
			return true;
	return false;
}
