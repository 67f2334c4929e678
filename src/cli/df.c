/* SPDX-License-Identifier: MIT */
/*
 * df: what images, boxes, volumes and snapshots take, in blocks that are allocated, so that the sums are those of du. A
 * file with several names counts once. Blocks that files share (reflinks) count in each of them, as in du: no file system
 * says cheaply which.
 */
#include <string.h>
#include <sys/resource.h>

#include "app.h"
#include "base/io.h"
#include "base/units.h"
#include "box/snapshot.h"
#include "box/volume.h"
#include "format.h"
#include "image-fields.h"
#include "usage.h"

enum { SUM_IMAGES, SUM_BOXES, SUM_VOLUMES, SUM_SNAPSHOTS, SUM_BUILD, SUMS };

struct usage {
	struct app a;
	struct oci_image **images;
	struct oci_usage *image_usage;
	struct box **boxes;
	uint64_t *box_bytes;
	struct box_volume **volumes;
	uint64_t *volume_bytes;
	struct box_snapshot **snapshots;
	uint64_t *snapshot_bytes;
	size_t n_images, n_boxes, n_volumes, n_snapshots;
	int64_t now;
	struct {
		const char *type;
		uint64_t total, active, bytes, reclaimable;
	} sums[SUMS];
};

static void usage_done(struct usage *u)
{
	oci_image_list_free(u->images, u->n_images);
	free(u->image_usage);
	box_list_free(u->boxes, u->n_boxes);
	free(u->box_bytes);
	box_volume_list_free(u->volumes, u->n_volumes);
	free(u->volume_bytes);
	box_snapshot_list_free(u->snapshots, u->n_snapshots);
	free(u->snapshot_bytes);
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
		u->sums[SUM_IMAGES].total += !seen;
		u->sums[SUM_IMAGES].active += !seen && u->image_usage[i].holders;
	}
	u->sums[SUM_IMAGES].bytes = usage_tree_bytes(u->a.st->home_fd, "images");
	u->sums[SUM_IMAGES].reclaimable = unused;
	return 0;
}

static int gather_boxes(struct usage *u, struct err *e)
{
	int r = box_list_brief(u->a.st, true, BOX_PART_MOUNTS, &u->boxes, &u->n_boxes, e);

	if (r < 0)
		return r;
	u->box_bytes = calloc(u->n_boxes + 1, sizeof(*u->box_bytes));
	if (!u->box_bytes)
		return err_oom(e);
	for (size_t i = 0; i < u->n_boxes; i++) {
		bool live = box_is_live(u->boxes[i]);
		u->box_bytes[i] = usage_box_bytes(&u->a, u->boxes[i]->id);
		u->sums[SUM_BOXES].active += live;
		u->sums[SUM_BOXES].bytes += u->box_bytes[i];
		u->sums[SUM_BOXES].reclaimable += live ? 0 : u->box_bytes[i];
	}
	u->sums[SUM_BOXES].total = u->n_boxes;
	return 0;
}

static int gather_volumes(struct usage *u, struct err *e)
{
	int r = box_volume_list(u->a.st, &u->volumes, &u->n_volumes, e);

	if (r < 0)
		return r;
	u->volume_bytes = calloc(u->n_volumes + 1, sizeof(*u->volume_bytes));
	if (!u->volume_bytes)
		return err_oom(e);
	for (size_t i = 0; i < u->n_volumes; i++) {
		bool used = u->volumes[i]->users;
		u->volume_bytes[i] = box_volume_bytes(u->a.st, u->volumes[i]);
		u->sums[SUM_VOLUMES].active += used;
		u->sums[SUM_VOLUMES].bytes += u->volume_bytes[i];
		u->sums[SUM_VOLUMES].reclaimable += used ? 0 : u->volume_bytes[i];
	}
	u->sums[SUM_VOLUMES].total = u->n_volumes;
	return 0;
}

static bool has_box(const struct usage *u, const char *id)
{
	for (size_t i = 0; i < u->n_boxes; i++) {
		if (strcmp(u->boxes[i]->id, id) == 0)
			return true;
	}
	return false;
}

/* Active are those of boxes that are there. */
static int gather_snapshots(struct usage *u, struct err *e)
{
	int r = box_snapshot_list(u->a.st, NULL, &u->snapshots, &u->n_snapshots, e);

	if (r < 0)
		return r;
	u->snapshot_bytes = calloc(u->n_snapshots + 1, sizeof(*u->snapshot_bytes));
	if (!u->snapshot_bytes)
		return err_oom(e);
	for (size_t i = 0; i < u->n_snapshots; i++) {
		CLEANUP_FREE char *path = str_printf("snapshots/%s", u->snapshots[i]->id);
		bool used = has_box(u, u->snapshots[i]->box_id);
		u->snapshot_bytes[i] = path ? usage_tree_bytes(u->a.st->home_fd, path) : 0;
		u->sums[SUM_SNAPSHOTS].active += used;
		u->sums[SUM_SNAPSHOTS].bytes += u->snapshot_bytes[i];
		u->sums[SUM_SNAPSHOTS].reclaimable += used ? 0 : u->snapshot_bytes[i];
	}
	u->sums[SUM_SNAPSHOTS].total = u->n_snapshots;
	return 0;
}

/* A box may make folders in a volume as deep as it likes, and each level takes a descriptor to look into. */
static void allow_descriptors(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) == 0) {
		l.rlim_cur = l.rlim_max;
		setrlimit(RLIMIT_NOFILE, &l);
	}
}

static int gather(struct usage *u, struct err *e)
{
	int r = app_open(&u->a, true, e);

	allow_descriptors();
	if (r == 0)
		r = gather_images(u, e);
	if (r == 0)
		r = gather_boxes(u, e);
	if (r == 0)
		r = gather_volumes(u, e);
	return r < 0 ? r : gather_snapshots(u, e);
}

/* ---- the sums ---- */

static const struct format_field sum_fields[] = {{"Type", "TYPE"}, {"TotalCount", "TOTAL"},
	{"Active", "ACTIVE"}, {"Size", "SIZE"}, {"Reclaimable", "RECLAIMABLE"},
	/* Ours. */
	{"SizeBytes", "BYTES"}, {"ReclaimableBytes", "RECLAIMABLE BYTES"}, {NULL, NULL}};

static json_t *exact(uint64_t bytes)
{
	char text[24];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)bytes);
	return json_string(text);
}

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
	case 5:
		return exact(bytes);
	case 6:
		return exact(reclaimable);
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
	{"Names", "NAMES"}, {"SizeBytes", "BYTES"}, {NULL, NULL}};

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
		return usage_volumes_json(b);
	case 3:
		return json_string(format_size(text, sizeof(text), u->box_bytes[row]));
	case 4:
		snprintf(text, sizeof(text), "%s ago",
			format_duration_human(age, sizeof(age), u->now - b->created_ns));
		return json_string(text);
	case 5:
		return json_string(box_state_name(b->state));
	case 6:
		return json_string(b->name);
	default:
		return exact(u->box_bytes[row]);
	}
}

static const struct format_field volume_fields[] = {
	{"Name", "VOLUME NAME"}, {"Links", "LINKS"}, {"Size", "SIZE"}, {"SizeBytes", "BYTES"}, {NULL, NULL}};

static json_t *get_volume(void *data, size_t row, size_t field)
{
	const struct usage *u = data;
	char text[24];

	switch (field) {
	case 0:
		return json_string(u->volumes[row]->name);
	case 1:
		snprintf(text, sizeof(text), "%zu", u->volumes[row]->users);
		return json_string(text);
	case 2:
		return json_string(format_size(text, sizeof(text), u->volume_bytes[row]));
	default:
		return exact(u->volume_bytes[row]);
	}
}

static const struct format_field snapshot_fields[] = {{"ID", "SNAPSHOT ID"}, {"Name", "NAME"}, {"Box", "BOX"},
	{"Size", "SIZE"}, {"CreatedSince", "CREATED"}, {"SizeBytes", "BYTES"}, {NULL, NULL}};

static json_t *get_snapshot(void *data, size_t row, size_t field)
{
	const struct usage *u = data;
	const struct box_snapshot *s = u->snapshots[row];
	char text[24];

	switch (field) {
	case 0:
		return json_stringn(s->id, BOX_ID_SHORT_LEN);
	case 1:
		return json_from_text(s->name);
	case 2:
		return json_from_text(s->box_name);
	case 3:
		return json_string(format_size(text, sizeof(text), u->snapshot_bytes[row]));
	case 4:
		return image_age_json(s->created_ns, u->now);
	default:
		return exact(u->snapshot_bytes[row]);
	}
}

enum { PARTS = 4 };

static const struct {
	const char *name, *heading; /* of templates, of the table */
	struct format_source source;
} parts[PARTS] = {
	{"Images", "Images space usage:\n\n",
		{.fields = image_fields,
			.table = "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t"
				 "{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}",
			.get = get_image}},
	{"Containers", "\nBoxes space usage:\n\n",
		{.fields = box_fields,
			.table = "{{.ID}}\t{{.Image}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t"
				 "{{.State}}\t{{.Names}}",
			.get = get_box}},
	{"Volumes", "\nLocal Volumes space usage:\n\n",
		{.fields = volume_fields, .table = "{{.Name}}\t{{.Links}}\t{{.Size}}", .get = get_volume}},
	{"Snapshots", "\nSnapshots space usage:\n\n",
		{.fields = snapshot_fields,
			.table = "{{.ID}}\t{{.Name}}\t{{.Box}}\t{{.Size}}\t{{.CreatedSince}}",
			.get = get_snapshot}},
};

static int print_verbose(struct usage *u, struct err *e)
{
	const size_t rows[PARTS] = {u->n_images, u->n_boxes, u->n_volumes, u->n_snapshots};
	int r = 0;

	for (size_t i = 0; r == 0 && i < PARTS; i++) {
		struct format_source source = parts[i].source;
		source.data = u;
		fputs(parts[i].heading, stdout);
		r = format_list(NULL, &source, rows[i], e);
	}
	if (r == 0)
		printf("\nBuild cache usage: 0B\n");
	return r;
}

static json_t *rows_json(struct usage *u, const struct format_source *source, size_t n)
{
	json_t *list = json_array();

	for (size_t row = 0; row < n; row++) {
		json_t *one = json_object();
		for (size_t f = 0; source->fields[f].name; f++)
			json_object_set_new(one, source->fields[f].name, source->get(u, row, f));
		json_array_append_new(list, one);
	}
	return list;
}

/* As in Docker, one object with a list of each. */
static int print_object(struct usage *u, const struct template *t, struct err *e)
{
	const size_t rows[PARTS] = {u->n_images, u->n_boxes, u->n_volumes, u->n_snapshots};
	json_t *all = json_object();

	for (size_t i = 0; i < PARTS; i++)
		json_object_set_new(all, parts[i].name, rows_json(u, &parts[i].source, rows[i]));
	json_object_set_new(all, "BuildCache", json_array());
	return format_print_object(t, all, e);
}

static int show_verbose(struct usage *u, const char *format, struct err *e)
{
	CLEANUP(template_freep) struct template *t = NULL;
	int r = format ? format_parse_object("--format", format, &t, e) : 0;

	if (r == 0)
		r = gather(u, e);
	if (r < 0)
		return r;
	return format ? print_object(u, t, e) : print_verbose(u, e);
}

static int show(struct usage *u, const char *format, struct err *e)
{
	CLEANUP(format_freep) struct format *f = NULL;
	const struct format_source src = {.fields = sum_fields,
		.table = "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
		.get = get_sum,
		.data = u};
	int r = format_parse(format, &src, &f, e);

	if (r == 0)
		r = gather(u, e);
	return r < 0 ? r : format_print(f, &src, SUMS, e);
}

int cmd_df(const struct cmd *c, int argc, char **argv)
{
	struct usage u = {.now = time_real_ns(),
		.sums = {[SUM_IMAGES] = {.type = "Images"},
			[SUM_BOXES] = {.type = "Boxes"},
			[SUM_VOLUMES] = {.type = "Local Volumes"},
			[SUM_SNAPSHOTS] = {.type = "Snapshots"},
			[SUM_BUILD] = {.type = "Build Cache"}}};
	bool verbose = false;
	const char *format = NULL;
	struct opt opts[] = {{0, "format", OPT_STR, &format, "FORMAT", FORMAT_HELP("Type")},
		{'v', "verbose", OPT_FLAG, &verbose, NULL,
			"each image, box, volume and snapshot; with --format one object, {{json .Volumes}}"},
		{0}};
	struct err e = {0};

	int r = opts_parse(c, opts, OPTS_MIXED, &argc, argv, &e);
	if (r > 0)
		return 0;
	if (r == 0 && argc > 1)
		return app_usage(c, "no arguments are taken");
	if (format && (!*format || (verbose && strcmp(format, "table") == 0)))
		format = NULL;
	if (r == 0)
		r = verbose ? show_verbose(&u, format, &e) : show(&u, format, &e);
	usage_done(&u);
	return r < 0 ? app_fail(c, &e, 1) : 0;
}
