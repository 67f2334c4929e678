/* SPDX-License-Identifier: MIT */
/*
 * --filter of images and of whatever is pruned, as in Docker: values of one key are alternatives, but for labels and until,
 * which must all fit; and so must the keys.
 */
#ifndef CLI_IMAGE_FILTER_H
#define CLI_IMAGE_FILTER_H

#include "app.h"

struct image_filter;

/* What a command takes: "dangling=", "label=", "label!=", and so on. */
enum image_filter_key {
	IMAGE_FILTER_DANGLING = 1 << 0,
	IMAGE_FILTER_LABEL = 1 << 1,
	IMAGE_FILTER_NO_LABEL = 1 << 2,
	IMAGE_FILTER_BEFORE = 1 << 3,
	IMAGE_FILTER_SINCE = 1 << 4,
	IMAGE_FILTER_REFERENCE = 1 << 5,
	IMAGE_FILTER_UNTIL = 1 << 6,
	IMAGE_FILTER_ALL = (1 << 7) - 1,
};

/* What is looked at: an image, or a box or network, which have neither of the last two. */
struct image_filter_subject {
	int64_t created_ns;
	const struct strv *labels; /* "k=v" */
	const char *name;	   /* normalised, or NULL */
	bool tagged;		   /* the image has a name with a tag, this one or another */
};

/*
 * given: "key=value", borrowed. reference: the same as reference=, or NULL. allowed: of enum image_filter_key. 0, or
 * -EINVAL with e naming what is allowed.
 */
int image_filter_parse(const struct strv *given, const char *reference, unsigned allowed,
	struct image_filter **ret, struct err *e);
void image_filter_free(struct image_filter *f);
DEFINE_CLEANUP(struct image_filter *, image_filter_free)

/*
 * Takes dangling= out, for a command to which it says more than what fits. 1: images without a tag alone (of several
 * that differ, too); 0: others as well; -1: it was not given.
 */
int image_filter_take_dangling(struct image_filter *f);
/* Looks up what before and since name. 0 or -errno: no such image. */
int image_filter_resolve(struct image_filter *f, struct app *a, struct err *e);
bool image_filter_match(const struct image_filter *f, const struct image_filter_subject *s);

#endif
