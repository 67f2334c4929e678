/* SPDX-License-Identifier: MIT */
/* tag, rmi, image-prune: names of images, and what goes with the last one. */
#include <string.h>

#include "audit.h"
#include "image-fields.h"
#include "prune.h"

/* ---- tag ---- */

int cmd_tag(const struct cmd *c, int argc, char **argv)
{
	CLEANUP(oci_image_freep) struct oci_image *image = NULL;
	CLEANUP(app_close) struct app a = {0};
	struct opt opts[] = {{0}};
	struct err e = {0};

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0 && argc != 3)
		return app_usage(c, "an image and a further name are needed");
	if (r == 0)
		r = app_open(&a, true, &e);
	if (r == 0)
		r = oci_image_find(a.store, argv[1], &image, &e);
	if (r == 0) {
		audit_image(image->id);
		r = oci_image_tag(a.store, argv[1], argv[2], &e);
	}
	return r < 0 ? app_fail(c, &e, 1) : 0;
}

/* ---- rmi ---- */

/* A name as people write it, an ID as it is. malloc'd. */
static char *shown(const char *value)
{
	char *familiar = strncmp(value, "sha256:", 7) == 0 ? NULL : oci_ref_familiar(value);
	return familiar ? familiar : strdup(value);
}

static void print_removed(void *data, const char *key, const char *value)
{
	CLEANUP_FREE char *text = shown(value);

	(void)data;
	audit_image(text ? text : value);
	printf("%s: %s\n", key, text ? text : value);
}

int cmd_rmi(const struct cmd *c, int argc, char **argv)
{
	CLEANUP(app_close) struct app a = {0};
	bool force = false, no_prune = false;
	struct opt opts[] = {
		{'f', "force", OPT_FLAG, &force, NULL, "also when boxes use it, or it has several names"},
		{0, "no-prune", OPT_FLAG, &no_prune, NULL, "no effect: images have no parents here"}, {0}};
	struct err e = {0};
	int status = 0;

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0 && argc < 2)
		return app_usage(c, "an image is needed");
	if (r == 0)
		r = app_open(&a, true, &e);
	if (r < 0)
		return app_fail(c, &e, 1);
	for (int i = 1; i < argc; i++) {
		r = oci_image_remove(a.store, argv[i], force, print_removed, NULL, &e);
		fflush(stdout); /* before what is said on the other stream */
		if (r < 0 && !(r == -ENOENT && force))
			status = app_fail(c, &e, 1);
		else if (r < 0)
			app_fail(c, &e, 0);
	}
	return status;
}

/* ---- image-prune ---- */

struct pruning {
	const struct prune *p;
	struct oci_image **list;
	struct oci_usage *usage;
	size_t n, removed;
};

/* Docker's words. */
static void print_pruned(void *data, const char *key, const char *value)
{
	struct pruning *pr = data;
	CLEANUP_FREE char *text = shown(value);

	audit_image(text ? text : value);
	printf("%s%s: %s\n", pr->removed++ ? "" : "Deleted Images:\n",
		strcmp(key, "Deleted") == 0 ? "deleted" : "untagged", text ? text : value);
	fflush(stdout);
}

/* Whether any name of the image has a tag. Names of one image follow each other. */
static bool is_tagged(const struct pruning *pr, size_t at)
{
	const char *id = pr->list[at]->id;

	while (at && strcmp(pr->list[at - 1]->id, id) == 0)
		at--;
	for (; at < pr->n && strcmp(pr->list[at]->id, id) == 0; at++) {
		if (image_is_tagged(pr->list[at]->name))
			return true;
	}
	return false;
}

static int prune_selected(const struct cmd *c, struct pruning *pr, struct app *a)
{
	int status = 0;

	for (size_t i = 0; i < pr->n; i++) {
		const struct oci_image *im = pr->list[i];
		struct err one = {0};
		if (pr->usage[i].holders || (!pr->p->all && is_tagged(pr, i)) ||
			!prune_fits(pr->p, im->created_ns, &im->labels))
			continue;
		/* Name by name. What was taken up or tagged since the list was made stays. */
		int r = oci_image_prune(a->store, im, pr->p->all, print_pruned, pr, &one);
		if (r < 0 && r != -EBUSY && r != -ENOENT)
			status = app_fail(c, &one, 1);
	}
	return status;
}

int prune_images(const struct cmd *c, struct app *a, const struct prune *p, uint64_t *bytes, struct err *e)
{
	struct pruning pr = {.p = p};
	uint64_t before = 0, after = 0, unused;
	int status = 0;

	int r = oci_image_list(a->store, &pr.list, &pr.n, e);
	if (r == 0)
		r = oci_store_bytes(a->store, &before, e);
	if (r == 0) {
		pr.usage = calloc(pr.n + 1, sizeof(*pr.usage));
		r = pr.usage ? oci_image_usage(a->store, pr.list, pr.n, pr.usage, &unused, e) : err_oom(e);
	}
	if (r == 0) {
		status = prune_selected(c, &pr, a);
		r = oci_store_gc(a->store, e);
	}
	if (r == 0)
		r = oci_store_drop_partial(a->store, &unused, e); /* counted below */
	if (r == 0)
		r = oci_store_bytes(a->store, &after, e);
	oci_image_list_free(pr.list, pr.n);
	free(pr.usage);
	if (pr.removed)
		putchar('\n');
	if (r < 0)
		return r;
	*bytes += before > after ? before - after : 0; /* others may be pulling */
	return status;
}

static int prune_store(const struct cmd *c, const struct prune *p, struct err *e)
{
	CLEANUP(app_close) struct app a = {0};
	uint64_t bytes = 0;
	int r = app_open(&a, true, e);

	if (r == 0)
		r = prune_images(c, &a, p, &bytes, e);
	if (r >= 0)
		prune_print_reclaimed(bytes);
	return r;
}

int cmd_image_prune(const struct cmd *c, int argc, char **argv)
{
	CLEANUP(prune_done)
	struct prune p = {.all_help = "also images with a name that no box needs",
		.all_what = "all images that no box needs"};
	struct err e = {0};
	int status;

	enum prune_answer answer = prune_begin(c, &p, "all images without a name", argc, argv, &status);
	if (answer == PRUNE_NO)
		printf("Total reclaimed space: 0B\n");
	if (answer != PRUNE_YES)
		return status;
	int r = prune_store(c, &p, &e);
	return r < 0 ? app_fail(c, &e, 1) : r;
}
