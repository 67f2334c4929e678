/* SPDX-License-Identifier: MIT */
/* df: what images and boxes take, in blocks that are allocated, so that the sums are those of du. */
#include <string.h>

#include "app.h"
#include "base/io.h"
#include "base/units.h"
#include "format.h"
#include "image-fields.h"
#include "usage.h"

struct usage {
	struct app a;
	struct oci_image **images;
	struct oci_usage *image_usage;
	struct box **boxes;
	uint64_t *box_bytes;
	size_t n_images, n_boxes;
	int64_t now;
	struct {
		const char *type;
		uint64_t total, active, bytes, reclaimable;
	} sums[4];
};

static void usage_done(struct usage *u)
{
	oci_image_list_free(u->images, u->n_images);
	free(u->image_usage);
	box_list_free(u->boxes, u->n_boxes);
	free(u->box_bytes);
	app_close(&u->a);
}

static int gather_images(struct usage *u, struct err *e)
{
	uint64_t unused = 0;

	int r = oci_image_list_all(u->a.store, &u->images, &u->n_images, e);
	if (r < 0)
		return r;
	u->image_usage = calloc(u->n_images + 1, sizeof(*u->image_usage));
	r = u->image_usage ? oci_image_usage(u->a.store, u->images, u->n_images, u->image_usage, &unused, e)
			   : err_oom(e);
	if (r < 0)
		return r;
	for (size_t i = 0; i < u->n_images; i++) {
		/* Names of one image follow each other in the list. */
		bool seen = i && strcmp(u->images[i - 1]->id, u->images[i]->id) == 0;
		u->sums[0].total += !seen;
		u->sums[0].active += !seen && u->image_usage[i].holders;
	}
	u->sums[0].bytes = usage_tree_bytes(u->a.st->home_fd, "images");
	u->sums[0].reclaimable = unused;
	return 0;
}

static int gather_boxes(struct usage *u, struct err *e)
{
	int r = box_list_brief(u->a.st, true, BOX_PART_ARGV, &u->boxes, &u->n_boxes, e);

	if (r < 0)
		return r;
	u->box_bytes = calloc(u->n_boxes + 1, sizeof(*u->box_bytes));
	if (!u->box_bytes)
		return err_oom(e);
	for (size_t i = 0; i < u->n_boxes; i++) {
		bool live = box_is_live(u->boxes[i]);
		u->box_bytes[i] = usage_box_bytes(&u->a, u->boxes[i]->id);
		u->sums[1].active += live;
		u->sums[1].bytes += u->box_bytes[i];
		u->sums[1].reclaimable += live ? 0 : u->box_bytes[i];
	}
	u->sums[1].total = u->n_boxes;
	return 0;
}

/* ---- the sums ---- */

static const struct format_field sum_fields[] = {{"Type", "TYPE"}, {"TotalCount", "TOTAL"},
	{"Active", "ACTIVE"}, {"Size", "SIZE"}, {"Reclaimable", "RECLAIMABLE"}, {NULL, NULL}};

static json_t *get_sum(void *data, size_t row, size_t field)
{
	const struct usage *u = data;
	uint64_t bytes = u->sums[row].bytes, reclaimable = u->sums[row].reclaimable;
	char text[64], size[16];

	switch (field) {
	case 1:
	case 2:
		snprintf(text, sizeof(text), "%llu",
			(unsigned long long)(field == 1 ? u->sums[row].total : u->sums[row].active));
		return json_string(text);
	case 3:
		return json_string(format_size(text, sizeof(text), bytes));
	case 4:
		format_size(size, sizeof(size), reclaimable);
		if (bytes == 0)
			return json_string(size);
		snprintf(text, sizeof(text), "%s (%d%%)", size,
			(int)((double)reclaimable * 100 / (double)bytes));
		return json_string(text);
	default:
		return json_string(u->sums[row].type);
	}
}

/* ---- -v ---- */

static const struct format_field image_fields[] = {{"Repository", "REPOSITORY"}, {"Tag", "TAG"},
	{"ID", "IMAGE ID"}, {"CreatedSince", "CREATED"}, {"Size", "SIZE"}, {"SharedSize", "SHARED SIZE"},
	{"UniqueSize", "UNIQUE SIZE"}, {"Containers", "BOXES"}, {NULL, NULL}};

static json_t *get_image(void *data, size_t row, size_t field)
{
	const struct usage *u = data;
	const struct oci_image *i = u->images[row];
	const struct oci_usage *o = &u->image_usage[row];
	char repo[300], tag[160], text[24];

	switch (field) {
	case 0:
	case 1:
		image_split_name(i->name, repo, sizeof(repo), tag, sizeof(tag));
		return json_from_text(field ? tag : repo);
	case 2:
		return image_id_json(i->id, false);
	case 3:
		return image_age_json(i->created_ns, u->now);
	case 4:
		return json_string(format_size(text, sizeof(text), o->bytes));
	case 5:
		return json_string(format_size(text, sizeof(text), o->shared_bytes));
	case 6:
		return json_string(format_size(text, sizeof(text), o->bytes - o->shared_bytes));
	default:
		snprintf(text, sizeof(text), "%llu", (unsigned long long)o->holders);
		return json_string(text);
	}
}

static const struct format_field box_fields[] = {{"ID", "BOX ID"}, {"Image", "IMAGE"},
	{"LocalVolumes", "LOCAL VOLUMES"}, {"Size", "SIZE"}, {"RunningFor", "CREATED"}, {"State", "STATE"},
	{"Names", "NAMES"}, {NULL, NULL}};

static json_t *get_box(void *data, size_t row, size_t field)
{
	const struct usage *u = data;
	const struct box *b = u->boxes[row];
	char text[64], age[48];

	switch (field) {
	case 0:
		return json_stringn(b->id, BOX_ID_SHORT_LEN);
	case 1:
		return json_from_text(b->image);
	case 2:
		return json_string("0");
	case 3:
		return json_string(format_size(text, sizeof(text), u->box_bytes[row]));
	case 4:
		snprintf(text, sizeof(text), "%s ago",
			format_duration_human(age, sizeof(age), u->now - b->created_ns));
		return json_string(text);
	case 5:
		return json_string(box_state_name(b->state));
	default:
		return json_string(b->name);
	}
}

static int print_verbose(struct usage *u, struct err *e)
{
	const struct format_source images = {.fields = image_fields,
		.table = "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}"
			 "\t{{.UniqueSize}}\t"
			 "{{.Containers}}",
		.get = get_image,
		.data = u};
	const struct format_source boxes = {.fields = box_fields,
		.table = "{{.ID}}\t{{.Image}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.State}}\t{{."
			 "Names}}",
		.get = get_box,
		.data = u};

	printf("Images space usage:\n\n");
	int r = format_list(NULL, &images, u->n_images, e);
	printf("\nBoxes space usage:\n\n");
	if (r == 0)
		r = format_list(NULL, &boxes, u->n_boxes, e);
	printf("\nLocal Volumes space usage: 0B\n\nBuild cache usage: 0B\n");
	return r;
}

int cmd_df(const struct cmd *c, int argc, char **argv)
{
	CLEANUP(format_freep) struct format *f = NULL;
	struct usage u = {.now = time_real_ns(),
		.sums = {{.type = "Images"}, {.type = "Boxes"}, {.type = "Local Volumes"},
			{.type = "Build Cache"}}};
	const struct format_source src = {.fields = sum_fields,
		.table = "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
		.get = get_sum,
		.data = &u};
	bool verbose = false;
	const char *format = NULL;
	struct opt opts[] = {{0, "format", OPT_STR, &format, "FORMAT", FORMAT_HELP("Type")},
		{'v', "verbose", OPT_FLAG, &verbose, NULL, "each image and box"}, {0}};
	struct err e = {0};

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0 && argc > 1)
		return app_usage(c, "no arguments are taken");
	if (r == 0 && verbose && format)
		r = err_set(&e, -EINVAL, "--format and --verbose exclude each other");
	if (r == 0)
		r = format_parse(format, &src, &f, &e);
	if (r == 0)
		r = app_open(&u.a, true, &e);
	if (r == 0)
		r = gather_images(&u, &e);
	if (r == 0)
		r = gather_boxes(&u, &e);
	if (r == 0)
		r = verbose ? print_verbose(&u, &e) : format_print(f, &src, ARRAY_LEN(u.sums), &e);
	usage_done(&u);
	return r < 0 ? app_fail(c, &e, 1) : 0;
}
