/* SPDX-License-Identifier: MIT */
/*
 * The upper layer as an image's layer: as Docker makes it of the same folder (overlay2), everything that is in it, with the
 * folders on the way, whose attributes an image's layer has to state. What differs: the guest's own mount points are left out,
 * and folders that are as in the image and in which nothing is left.
 */
#include <string.h>
#include <sys/stat.h>

#include "inside.h"

/* A folder on the way to where we are. */
struct folder {
	struct wire_entry held; /* sent when something in it is; without a path: it was sent */
	bool made;		/* only to mount on */
	bool mounted_in;	/* something was made in it only to mount on: its time does not count */
	bool touched;		/* its time is not that of the image's */
};

/* A file that was left out; its further names are not. */
struct dropped {
	struct wire_entry entry;
	char *sent; /* the path at which it came after all; NULL: not yet */
};

struct layer {
	const struct oci_root *image;
	const struct tree_sink *to;
	struct strv mounted;
	struct folder *folders;
	size_t n, cap;
	struct dropped *dropped;
	size_t n_dropped;
};

static void layer_done(struct layer *l)
{
	for (size_t i = 0; i < l->n; i++)
		wire_entry_done(&l->folders[i].held);
	for (size_t i = 0; i < l->n_dropped; i++) {
		wire_entry_done(&l->dropped[i].entry);
		free(l->dropped[i].sent);
	}
	free(l->folders);
	free(l->dropped);
	strv_done(&l->mounted);
}

/* ---- sending ---- */

static int send_folders(struct layer *l, struct err *e)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < l->n; i++) {
		struct wire_entry *en = &l->folders[i].held;
		if (!en->path)
			continue;
		r = l->to->entry(l->to->data, en, e);
		wire_entry_done(en);
	}
	return r;
}

static int send(struct layer *l, const struct wire_entry *en, struct err *e)
{
	int r = send_folders(l, e);

	return r < 0 ? r : l->to->entry(l->to->data, en, e);
}

static int send_whiteout(struct layer *l, const char *path, struct err *e)
{
	struct wire_entry en = {.path = (char *)path, .whiteout = true};

	return send(l, &en, e);
}

/* ---- folders ---- */

static struct folder *push(struct layer *l, struct err *e)
{
	if (l->n == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 32;
		struct folder *v = realloc(l->folders, cap * sizeof(*v));
		if (!v) {
			err_oom(e);
			return NULL;
		}
		l->folders = v;
		l->cap = cap;
	}
	l->folders[l->n] = (struct folder){0};
	return &l->folders[l->n++];
}

/* Whether a folder can wait until it is known if something in it comes. */
static int judge(struct layer *l, const struct wire_entry *en, const struct oci_node *below, struct folder *f,
	bool *ret_hold, struct err *e)
{
	struct wire_entry before;

	*ret_hold = f->made = mounted_made(l->image, &l->mounted, en, below);
	if (f->made || en->opaque || !node_is(l->image, below, S_IFDIR))
		return 0;
	int r = oci_node_entry(l->image, below, &before, NULL, e);
	if (r < 0)
		return r;
	*ret_hold = same_folder(en, &before);
	f->touched = en->mtime_s != before.mtime_s || en->mtime_ns != before.mtime_ns;
	wire_entry_done(&before);
	return 0;
}

static int on_folder(struct layer *l, struct wire_entry *en, const struct oci_node *below, struct err *e)
{
	struct folder f = {0};
	bool hold = false;

	/* A new folder is opaque too, which says nothing. */
	en->opaque = en->opaque && node_is(l->image, below, S_IFDIR) && *en->path;
	int r = *en->path ? judge(l, en, below, &f, &hold, e) : 0;
	if (r == 0)
		r = hold ? entry_copy(&f.held, en, e) : send(l, en, e);
	struct folder *top = r == 0 ? push(l, e) : NULL;
	if (!top) {
		wire_entry_done(&f.held);
		return r < 0 ? r : -ENOMEM;
	}
	*top = f;
	return 0;
}

static int on_leave(void *data, const char *path, struct err *e)
{
	struct layer *l = data;
	struct folder *f = &l->folders[l->n - 1];
	int r = 0;

	(void)path;
	if (f->held.path && !f->made && f->touched && !f->mounted_in)
		r = send_folders(l, e);
	if (f->held.path && f->made)
		f[-1].mounted_in = true; /* it is not the root, which is never held */
	wire_entry_done(&f->held);
	l->n--;
	return r;
}

/* ---- files ---- */

static int drop(struct layer *l, const struct wire_entry *en, struct err *e)
{
	struct dropped *v = realloc(l->dropped, (l->n_dropped + 1) * sizeof(*v));

	if (!v)
		return err_oom(e);
	l->dropped = v;
	v += l->n_dropped;
	*v = (struct dropped){0};
	int r = entry_copy(&v->entry, en, e);
	if (r == 0) {
		l->n_dropped++;
		l->folders[l->n - 1].mounted_in = true;
	}
	return r;
}

/* A further name, perhaps of a file whose first one was left out: then that is where it is. Such a file is empty. */
static int on_link(struct layer *l, const struct wire_entry *en, struct err *e)
{
	struct dropped *d = NULL;

	for (size_t i = 0; i < l->n_dropped && !d; i++)
		if (strcmp(l->dropped[i].entry.path, en->link) == 0)
			d = &l->dropped[i];
	if (!d)
		return send(l, en, e);
	struct wire_entry now = *en;
	if (d->sent) {
		now.link = d->sent;
		return send(l, &now, e);
	}
	now = d->entry;
	now.path = en->path;
	int r = send(l, &now, e);
	d->sent = strdup(en->path);
	return r < 0 ? r : d->sent ? 0 : err_oom(e);
}

static int on_upper(
	void *data, const struct wire_entry *en, const struct oci_node *below, bool hidden, struct err *e)
{
	struct layer *l = data;
	struct wire_entry now = *en;

	/* What an opaque folder hides is gone already. */
	if (hidden)
		below = NULL;
	/* An archive has no sockets; what one lies over is not to be seen again. */
	if (en->whiteout || S_ISSOCK(en->mode))
		return below ? send_whiteout(l, en->path, e) : 0;
	if (en->link)
		return on_link(l, en, e);
	if (S_ISDIR(en->mode))
		return on_folder(l, &now, below, e);
	return mounted_made(l->image, &l->mounted, en, below) ? drop(l, en, e) : send(l, en, e);
}

static int on_content(void *data, uint64_t offset, const void *bytes, size_t len, struct err *e)
{
	struct layer *l = data;

	return l->to->content(l->to->data, offset, bytes, len, e);
}

static int on_image(void *data, const char *path, const struct oci_node *n, bool hidden, struct err *e)
{
	(void)data, (void)path, (void)n, (void)hidden, (void)e;
	return 0;
}

/* ---- the whole ---- */

static int send_root(struct layer *l, struct err *e)
{
	struct wire_entry en;
	int r = oci_node_entry(l->image, oci_root_node(l->image), &en, NULL, e);

	if (r < 0)
		return r;
	en.path = strdup("");
	r = en.path ? l->to->entry(l->to->data, &en, e) : err_oom(e);
	wire_entry_done(&en);
	return r;
}

int storage_read_layer(
	struct storage_root *r, const struct strv *mounts, const struct tree_sink *to, struct err *e)
{
	CLEANUP(layer_done) struct layer l = {.image = r->image, .to = to};
	struct merge_ops ops = {on_upper, on_content, on_image, on_leave, &l};
	bool any;
	int rc = mounted_paths(r->image, mounts, &l.mounted, e);

	if (rc == 0)
		rc = storage_merge(r, true, &ops, &any, e);
	if (rc == 0 && !any)
		rc = send_root(&l, e);
	return rc < 0 ? rc : to->end(to->data, e);
}
