/* SPDX-License-Identifier: MIT */
/* images. */
#include <string.h>

#include "app.h"
#include "base/io.h"
#include "base/units.h"
#include "format.h"
#include "image-fields.h"
#include "image-filter.h"

enum {
	FIELD_REPOSITORY,
	FIELD_TAG,
	FIELD_ID,
	FIELD_DIGEST,
	FIELD_CREATED_SINCE,
	FIELD_CREATED_AT,
	FIELD_SIZE,
	FIELD_VIRTUAL_SIZE,
	FIELD_SHARED_SIZE,
	FIELD_UNIQUE_SIZE,
	FIELD_CONTAINERS,
	FIELD_PLATFORM,
};

static const struct format_field fields[] = {
	[FIELD_REPOSITORY] = {"Repository", "REPOSITORY"},
	[FIELD_TAG] = {"Tag", "TAG"},
	[FIELD_ID] = {"ID", "IMAGE ID"},
	[FIELD_DIGEST] = {"Digest", "DIGEST"},
	[FIELD_CREATED_SINCE] = {"CreatedSince", "CREATED"},
	[FIELD_CREATED_AT] = {"CreatedAt", "CREATED AT"},
	[FIELD_SIZE] = {"Size", "SIZE"},
	[FIELD_VIRTUAL_SIZE] = {"VirtualSize", "SIZE"},
	[FIELD_SHARED_SIZE] = {"SharedSize", "SHARED SIZE"},
	[FIELD_UNIQUE_SIZE] = {"UniqueSize", "UNIQUE SIZE"},
	[FIELD_CONTAINERS] = {"Containers", "BOXES"},
	[FIELD_PLATFORM] = {"Platform", "PLATFORM"},
	{NULL, NULL},
};

/* What only a look at the files can tell. */
static const char *const costly[] = {"SharedSize", "UniqueSize", "Containers"};

struct listing {
	struct oci_image **list;
	struct oci_usage *usage; /* NULL unless a field needs it */
	size_t n;
	bool full, all;
	int64_t now;
};

static json_t *get_usage(const struct oci_usage *u, size_t field)
{
	switch (field) {
	case FIELD_SHARED_SIZE:
		return image_size_json(u->shared_bytes);
	case FIELD_UNIQUE_SIZE:
		return image_size_json(u->bytes - u->shared_bytes);
	default: /* a number in a text, as in Docker */
		return json_sprintf("%llu", (unsigned long long)u->holders);
	}
}

static json_t *get_field(void *data, size_t row, size_t field)
{
	const struct listing *l = data;
	const struct oci_image *i = l->list[row];
	char repo[300], tag[160], text[48];

	switch (field) {
	case FIELD_REPOSITORY:
	case FIELD_TAG:
		image_split_name(i->name, repo, sizeof(repo), tag, sizeof(tag));
		return json_from_text(field == FIELD_TAG ? tag : repo);
	case FIELD_ID:
		return image_id_json(i->id, l->full);
	case FIELD_DIGEST:
		return json_string(i->name && i->digest ? i->digest : "<none>");
	case FIELD_CREATED_SINCE:
		return image_age_json(i->created_ns, l->now);
	case FIELD_CREATED_AT:
		return json_string(
			i->created_ns ? format_time_rfc3339(text, sizeof(text), i->created_ns) : "N/A");
	case FIELD_SIZE:
	case FIELD_VIRTUAL_SIZE:
		return image_size_json(i->size);
	case FIELD_PLATFORM:
		snprintf(repo, sizeof(repo), "%s/%s%s%s", i->os ? i->os : "", i->arch ? i->arch : "",
			i->variant ? "/" : "", i->variant ? i->variant : "");
		return json_from_text(repo);
	default:
		return get_usage(&l->usage[row], field);
	}
}

/* Names of one image follow each other in the list. Calls fn for list[at]'s, until it returns true. */
static bool any_name(const struct listing *l, size_t at,
	bool (*fn)(const struct oci_image *i, const struct oci_image *other), const struct oci_image *i)
{
	size_t from = at;

	while (from && strcmp(l->list[from - 1]->id, i->id) == 0)
		from--;
	for (size_t k = from; k < l->n && strcmp(l->list[k]->id, i->id) == 0; k++) {
		if (fn(i, l->list[k]))
			return true;
	}
	return false;
}

static bool other_is_tagged(const struct oci_image *i, const struct oci_image *other)
{
	(void)i;
	return image_is_tagged(other->name);
}

/* Whether other names i's repository with a tag. i: by digest. */
static bool other_stands_for(const struct oci_image *i, const struct oci_image *other)
{
	size_t n = strcspn(i->name, "@");
	return image_is_tagged(other->name) && strncmp(i->name, other->name, n) == 0 && other->name[n] == ':';
}

/*
 * Leaves what the filters select. A name by digest is no row of its own where a tag of its repository leads to the same
 * image, as in Docker.
 */
static int select_rows(struct listing *l, const struct image_filter *f, struct err *e)
{
	CLEANUP_FREE bool *keep = calloc(l->n + 1, sizeof(*keep));
	size_t kept = 0;

	if (!keep)
		return err_oom(e);
	for (size_t i = 0; i < l->n; i++) {
		const struct oci_image *im = l->list[i];
		bool by_digest = im->name && !image_is_tagged(im->name);
		keep[i] = !(by_digest && any_name(l, i, other_stands_for, im)) &&
			  image_filter_match(f, &(struct image_filter_subject){im->created_ns, &im->labels,
							im->name, any_name(l, i, other_is_tagged, im)});
	}
	for (size_t i = 0; i < l->n; i++) {
		if (keep[i])
			l->list[kept++] = l->list[i];
		else
			oci_image_free(l->list[i]);
	}
	l->n = kept;
	return 0;
}

static int look_up_usage(struct listing *l, struct app *a, const struct format *f, struct err *e)
{
	uint64_t unused;
	bool wanted = false;

	for (size_t i = 0; i < ARRAY_LEN(costly); i++)
		wanted |= format_wants(f, costly[i]);
	if (!wanted)
		return 0;
	l->usage = calloc(l->n + 1, sizeof(*l->usage));
	return l->usage ? oci_image_usage(a->store, l->list, l->n, l->usage, &unused, e) : err_oom(e);
}

static int list_images(
	struct listing *l, struct image_filter *filter, const char *format, const char *table, struct err *e)
{
	CLEANUP(format_freep) struct format *f = NULL;
	CLEANUP(app_close) struct app a = {0};
	struct format_source src = {.fields = fields, .table = table, .get = get_field, .data = l};

	int r = format_parse(format, &src, &f, e);
	if (r == 0)
		r = app_open(&a, true, e);
	if (r == 0)
		r = image_filter_resolve(filter, &a, e);
	if (r == 0)
		r = (l->all ? oci_image_list_all : oci_image_list)(a.store, &l->list, &l->n, e);
	if (r == 0)
		r = select_rows(l, filter, e);
	if (r == 0)
		r = look_up_usage(l, &a, f, e);
	if (r == 0)
		r = format_print(f, &src, l->n, e);
	oci_image_list_free(l->list, l->n);
	free(l->usage);
	return r;
}

int cmd_images(const struct cmd *c, int argc, char **argv)
{
	CLEANUP(image_filter_freep) struct image_filter *filter = NULL;
	CLEANUP(strv_done) struct strv filters = {0};
	struct listing l = {.now = time_real_ns()};
	bool quiet = false, digests = false;
	const char *format = NULL;
	struct opt opts[] = {{'a', "all", OPT_FLAG, &l.all, NULL,
				     "also images that have lost their names while a box needs them"},
		{0, "digests", OPT_FLAG, &digests, NULL, "with the digests that registries know them by"},
		{'f', "filter", OPT_LIST, &filters, "FILTER",
			"dangling=, label=, label!=, before=, since=, until= or reference="},
		{0, "format", OPT_STR, &format, "FORMAT", FORMAT_HELP("Repository")},
		{0, "no-trunc", OPT_FLAG, &l.full, NULL, "do not cut IDs"},
		{'q', "quiet", OPT_FLAG, &quiet, NULL, "only IDs"}, {0}};
	struct err e = {0};

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0 && argc > 2)
		return app_usage(c, "one repository, with or without a tag, is taken at most");
	if (r == 0)
		r = image_filter_parse(&filters, argc > 1 ? argv[1] : NULL, IMAGE_FILTER_ALL, &filter, &e);
	if (r == 0 && quiet && format)
		fprintf(stderr, "a3s-box: warning: images: --format is ignored with --quiet\n");
	if (r == 0)
		r = list_images(&l, filter, quiet ? "{{.ID}}" : format,
			digests ? "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{."
				  "Size}}"
				: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
			&e);
	return r < 0 ? app_fail(c, &e, 1) : 0;
}
