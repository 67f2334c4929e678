/* SPDX-License-Identifier: MIT */
/*
 * THEORY OF OPERATION
 *
 * Both files are bind mounts in the box, so that a later state is written into the same file, whose name is PID 1's. The
 * box may have changed it meanwhile. What we wrote last is kept beside it, where the box does not see it, and the rules are:
 *
 * hosts: lines that are the box's own stay, and so does the order. A line of ours that is no longer wanted goes; one that
 * is new is added at the end. One that the box has taken away does not come back.
 * resolv.conf: its lines depend on each other. A file that the box has changed is the box's from then on, as in Docker.
 */
#include "names.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "rootfs.h"

#define NAMES_MAX \
	4194304 /* bytes of such a file; the box's own writing can make it larger: then it stays as it is */

int names_hosts(struct buf *out, const struct strv *lines)
{
	static const char fixed[] = "127.0.0.1\tlocalhost\n"
				    "::1\tlocalhost ip6-localhost ip6-loopback\n"
				    "fe00::\tip6-localnet\n"
				    "ff00::\tip6-mcastprefix\n"
				    "ff02::1\tip6-allnodes\n"
				    "ff02::2\tip6-allrouters\n";
	int r = buf_append(out, fixed, sizeof(fixed) - 1);

	for (size_t i = 0; r == 0 && i < lines->n; i++) {
		r = buf_append(out, lines->v[i], strlen(lines->v[i]));
		if (r == 0)
			r = buf_append(out, "\n", 1);
	}
	return r;
}

/* ---- lines ---- */

struct text {
	const char *p;
	size_t len;
};

/* Takes the next line off; with its end, but for a last one without. */
static bool next_line(struct text *t, struct text *ret)
{
	const char *end = t->len ? memchr(t->p, '\n', t->len) : NULL;

	*ret = (struct text){t->p, end ? (size_t)(end - t->p) + 1 : t->len};
	t->p += ret->len;
	t->len -= ret->len;
	return ret->len > 0;
}

static bool has_line(struct text t, struct text line)
{
	struct text l;

	while (next_line(&t, &l))
		if (l.len == line.len && memcmp(l.p, line.p, l.len) == 0)
			return true;
	return false;
}

static int merge(struct text now, struct text kept, struct text want, struct buf *out)
{
	struct text line;
	int r = 0;

	while (r == 0 && next_line(&now, &line)) {
		if (has_line(kept, line) && !has_line(want, line))
			continue;
		r = buf_append(out, line.p, line.len);
	}
	/* A last line of the box's own without an end would run into ours. */
	if (r == 0 && out->len && buf_data(out)[out->len - 1] != '\n')
		r = buf_append(out, "\n", 1);
	while (r == 0 && next_line(&want, &line))
		if (!has_line(kept, line))
			r = buf_append(out, line.p, line.len);
	return r;
}

/* ---- files ---- */

static bool same(struct text a, struct text b)
{
	return a.len == b.len && memcmp(a.p, b.p, a.len) == 0;
}

/* In one write, into the file that is there: it is the box's by a mount of it. */
static int write_in_place(const char *path, struct text t)
{
	CLEANUP_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644);
	int r = fd < 0 ? -errno : io_write_full(fd, t.p, t.len);

	if (r == 0 && ftruncate(fd, (off_t)t.len) < 0)
		r = -errno;
	return r;
}

int names_rewrite(const char *path, const char *kept, const char *text, size_t len, enum names_rule rule)
{
	CLEANUP_FREE char *now_text = NULL;
	CLEANUP_FREE char *kept_text = NULL;
	CLEANUP(buf_done) struct buf merged = {0};
	struct text now = {0}, before = {0}, want = {text, len};

	int r = io_read_file_at(AT_FDCWD, kept, NAMES_MAX, &kept_text, &before.len);
	/* Nothing is said of it since the start: the image's file is the box's. */
	if (r == -ENOENT)
		return 0;
	if (r == 0)
		r = io_read_file_at(AT_FDCWD, path, NAMES_MAX, &now_text, &now.len);
	if (r == -EFBIG)
		return 0;
	if (r < 0)
		return r;
	before.p = kept_text;
	now.p = now_text;
	if (same(before, want))
		return 0;
	if (rule == NAMES_UNLESS_CHANGED && !same(now, before))
		return 0;
	if (rule == NAMES_BY_LINE && !same(now, before)) {
		r = merge(now, before, want, &merged);
		if (r < 0)
			return r;
		r = write_in_place(path, (struct text){(const char *)buf_data(&merged), merged.len});
	} else {
		r = write_in_place(path, want);
	}
	return r < 0 ? r : write_in_place(kept, want);
}

int names_update(const struct wire_network *n, char *what, size_t size)
{
	CLEANUP(buf_done) struct buf hosts = {0};
	int r = names_hosts(&hosts, &n->hosts);

	snprintf(what, size, "/etc/hosts");
	if (r == 0)
		r = names_rewrite(ROOTFS_ETC "hosts", ROOTFS_ETC_KEPT "hosts", (const char *)buf_data(&hosts),
			hosts.len, NAMES_BY_LINE);
	if (r < 0 || !n->resolv_conf)
		return r;
	snprintf(what, size, "/etc/resolv.conf");
	return names_rewrite(ROOTFS_ETC "resolv.conf", ROOTFS_ETC_KEPT "resolv.conf", n->resolv_conf,
		strlen(n->resolv_conf), NAMES_UNLESS_CHANGED);
}
